"""The graph of modules/vector and hnswlib side by side: queries per CPU second at equal recall, and the CPU of building.

    cargo build --release
    pip install hnswlib numpy
    python3 benches/compare_hnswlib.py                                   # 100,000 x 384, about five minutes
    python3 benches/compare_hnswlib.py --dataset datasets/rustdoc-minilm-10k

Both get the same vectors, M and ef_construction, and search with one thread. hnswlib is compiled by pip for this machine's
processor, which is its best case. Each sweeps ef in rounds, A B then B A, so that disturbances of the machine affect both.
CPU time per query is interpolated from each sweep at the wanted recall, linearly between two neighbouring points.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
K = 10
RECALLS = [0.95, 0.99]


def engramdb(arguments, *words):
    result = subprocess.run([arguments.engramdb, "bench", *map(str, words)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"engramdb bench {words[0]} failed:\n{result.stderr}")


class Ours:
    """Builds the index again in each round, because `bench vectors` does not keep it."""

    name = "engramdb"

    def __init__(self, arguments, directory):
        self.arguments, self.report = arguments, directory / "report.json"
        self.dataset = directory

    def sweep(self):
        a = self.arguments
        engramdb(
            a, "vectors", "--engines", "library", "--dataset", self.dataset, "--connections", 1, "--m", a.m,
            "--ef-construction", a.ef_construction, *(["--quantization", a.quantization] if a.quantization else []), "--ef", ",".join(map(str, a.ef)), "--out-json", self.report,
        )  # fmt: skip
        report = json.loads(self.report.read_text())
        self.build_seconds = report["loads"][0]["cpu_seconds"]
        return [(point["recall"], point["cpu_us_per_query"]) for point in report["searches"]]


class Hnswlib:
    name = "hnswlib"

    def __init__(self, arguments, directory):
        import hnswlib
        import numpy

        self.numpy, self.arguments = numpy, arguments
        base = numpy.load(directory / "base.npy").astype(numpy.float32)
        self.queries = numpy.load(directory / "queries.npy").astype(numpy.float32)
        self.truth = numpy.load(directory / "neighbors.npy")[:, :K]
        metric = tomllib.loads((directory / "manifest.toml").read_text()).get("metric", "cosine")
        self.index = hnswlib.Index(space=metric, dim=base.shape[1])
        self.index.init_index(len(base), ef_construction=arguments.ef_construction, M=arguments.m, random_seed=1)
        self.index.set_num_threads(1)
        began = time.process_time()
        self.index.add_items(base, num_threads=1)
        self.build_seconds = time.process_time() - began

    def sweep(self):
        points = []
        for ef in self.arguments.ef:
            self.index.set_ef(max(ef, K))
            self.index.knn_query(self.queries[:50], K, num_threads=1)
            began, count = time.process_time(), 0
            while time.process_time() - began < self.arguments.seconds:
                labels, _ = self.index.knn_query(self.queries, K, num_threads=1)
                count += len(self.queries)
            micros = (time.process_time() - began) / count * 1e6
            found = sum(len(set(row) & set(truth)) for row, truth in zip(labels, self.truth))
            points.append((found / self.truth.size, micros))
        return points


def at_recall(points, recall):
    """CPU microseconds a query, between the last point below the recall and the first one not below it."""
    points = sorted(points)
    for (low, cheap), (high, dear) in zip(points, points[1:]):
        if low < recall <= high:
            return cheap + (dear - cheap) * (recall - low) / (high - low)
    return points[0][1] if points[0][0] >= recall else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engramdb", default=str(HERE.parent / "target/release/engramdb"), help="(default: %(default)s)")
    parser.add_argument("--dataset", default="synthetic:100000:384:1", help="as `bench vectors` takes it (default: %(default)s)")
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construction", type=int, default=200)
    parser.add_argument("--quantization", help="none, to compare floats with floats; sq8, sq4, binary (default: as the index has it)")
    parser.add_argument("--ef", type=lambda text: [int(ef) for ef in text.split(",")], default=[10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time of hnswlib at each ef (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        engramdb(arguments, "dataset", "--dataset", arguments.dataset, "--write", directory)
        try:
            engines = [Ours(arguments, directory), Hnswlib(arguments, directory)]
        except ImportError as error:
            sys.exit(f"{error}: pip install hnswlib numpy")
        sweeps = {engine.name: [] for engine in engines}
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
            for engine in engines if number % 2 == 0 else engines[::-1]:
                sweeps[engine.name].append(engine.sweep())
    print(f"{arguments.dataset}, M {arguments.m}, ef_construction {arguments.ef_construction}, one thread, k {K}")
    print(f"\n{'ef':>4}  {'recall':>7}  {'CPU us':>7}    {'hnswlib':>7}  {'CPU us':>7}")
    for place, ef in enumerate(arguments.ef):
        row = []
        for engine in engines:
            points = [sweep[place] for sweep in sweeps[engine.name]]
            row += [statistics.median(point[0] for point in points), statistics.median(point[1] for point in points)]
        print(f"{ef:>4}  {row[0]:>7.4f}  {row[1]:>7.1f}    {row[2]:>7.4f}  {row[3]:>7.1f}")
    print()
    for recall in RECALLS:
        pairs = [[at_recall(sweep, recall) for sweep in pair] for pair in zip(*(sweeps[engine.name] for engine in engines))]
        if any(micros is None for pair in pairs for micros in pair):
            print(f"recall {recall}: not reached by both; widen --ef")
            continue
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        print(f"recall {recall}: {ratio:.2f} times the queries per CPU second ({ours:.1f} us against {theirs:.1f} us)")
    ours, theirs = (engine.build_seconds for engine in engines)
    print(f"build: {ours / theirs:.2f} of the CPU ({ours:.1f} s against {theirs:.1f} s)")


if __name__ == "__main__":
    main()
