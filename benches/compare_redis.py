#!/usr/bin/env python3
"""EngramDB and redis-server side by side, in one interleaved run.

    cargo build --release
    python3 benches/compare_redis.py                    # everything, about ten minutes
    python3 benches/compare_redis.py --only set --rounds 3 --seconds 1

Both servers run on this machine on loopback ports with new directories under a temporary one. Each case is measured in
rounds, A B then B A, so that disturbances of the machine affect both. The report has the median over the rounds of the
throughput ratio (EngramDB over Redis, of the same round), and the median CPU seconds of each server's process per million
operations: on few cores the load generator uses one of them, so that throughput alone is not conclusive.

The options of Redis:
  durable   --appendonly yes --appendfsync always, no RDB snapshots, no rewriting of the log meanwhile
  volatile  no persistence at all
EngramDB is always durable. In the slow cases each sync of either server takes 3 ms longer (slow_disk.c, preloaded).

Only Python's standard library, cc, redis-server and redis-benchmark (Debian: redis-server, redis-tools) are needed.
"""

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SLOW_DISK_US = 3000
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30
CALIBRATION_REQUESTS = 2000
MIX_KEYS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the result."""

    name: str
    setup: str  # durable, volatile or slow: how both servers are started
    command: str  # get or set, by redis-benchmark; mix, by `engramdb bench keys`
    connections: int
    pipeline: int = 1
    distribution: str = "uniform"
    ratio_wanted: float = 1.0


CASES = [
    Case("SET, durable, 50 connections", "durable", "set", 50),
    Case("SET, durable, 200 connections", "durable", "set", 200),
    Case("SET, durable, 50 connections, -P 16", "durable", "set", 50, pipeline=16, ratio_wanted=1.5),
    Case("GET:SET 80:20, durable, 1M keys uniform", "durable", "mix", 50),
    Case("GET:SET 80:20, durable, 1M keys zipf", "durable", "mix", 50, distribution="zipf"),
    Case("GET, 50 connections", "volatile", "get", 50),
    Case("GET, 50 connections, -P 16", "volatile", "get", 50, pipeline=16, ratio_wanted=1.3),
    Case("SET, slow disk, 50 connections", "slow", "set", 50),
    Case("SET, slow disk, 200 connections", "slow", "set", 200),
]
QUIET_CASE = "p99 of GET beside writes, slow disk"


class Failure(Exception):
    """What went wrong and what to do next."""


class Server:
    """A server process with its own port and directory."""

    def __init__(self, name, command, directory, environment):
        self.name = name
        self.port = free_port()
        self.directory = directory
        directory.mkdir(parents=True)
        self.log = directory / "output.log"
        command = [part.format(port=self.port, directory=directory) for part in command]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=directory, env={**os.environ, **environment}
            )

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"*1\r\n$4\r\nPING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
            time.sleep(0.05)
        output = self.log.read_text(errors="replace")[-2000:]
        raise Failure(f"{self.name} did not start within {START_SECONDS_MAX} s. It said:\n{output}")

    def cpu_seconds(self):
        """User and system time so far, with that of ended children (a snapshotter is part of the cost)."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not stop within {STOP_SECONDS_MAX} s; killing it", file=sys.stderr)
                self.process.kill()
                self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server_pair(arguments, setup, directory):
    """EngramDB and Redis, started for one setup and stopped in the end."""
    environment = {}
    if setup == "slow":
        environment = {"LD_PRELOAD": str(slow_disk(directory)), "SLOW_DISK_US": str(SLOW_DISK_US)}
    persistence = ["--appendonly", "no"]
    if setup != "volatile":
        persistence = ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
    engramdb = [arguments.engramdb, "serve", "--bind", "127.0.0.1", "--port", "{port}", "--dir", "{directory}/data"]
    redis = [arguments.redis_server, "--bind", "127.0.0.1", "--port", "{port}", "--dir", "{directory}", "--save", ""]
    with contextlib.ExitStack() as stack:
        servers = []
        for name, command in [("engramdb", engramdb), ("redis", redis + persistence)]:
            server = Server(name, command, directory / setup / name, environment)
            stack.callback(server.stop)
            servers.append(server)
        for server in servers:
            server.wait_until_ready()
        if setup == "slow":
            for server in servers:
                check_delay(arguments, server)
        yield servers


def slow_disk(directory):
    library = directory / "slow_disk.so"
    if not library.exists():
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(HERE / "slow_disk.c"), "-ldl"]
        if subprocess.run(command).returncode != 0:
            raise Failure("slow_disk.c does not compile: install a C compiler (Debian: gcc), or leave the slow cases out")
    return library


def check_delay(arguments, server):
    """A single durable SET must take at least the delay; otherwise the shim does not intercept this server's syncs."""
    rate = redis_benchmark(arguments, server, Case("", "", "set", 1), 50)["rate"]
    if rate > 1e6 / SLOW_DISK_US:
        raise Failure(
            f"{server.name} answers {rate:.0f} durable SETs a second on one connection, but with each sync delayed by "
            f"{SLOW_DISK_US} us it cannot: either it does not sync, or not through the C library (see slow_disk.c)"
        )


def redis_benchmark(arguments, server, case, requests):
    command = [arguments.redis_benchmark, "-p", str(server.port), "-t", case.command, "-c", str(case.connections)]
    command += ["-P", str(case.pipeline), "-n", str(requests), "-d", "64", "-r", "100000", "--csv"]
    cpu_before = server.cpu_seconds()
    result = subprocess.run(command, capture_output=True, text=True)
    cpu = server.cpu_seconds() - cpu_before
    rows = [row for row in csv.reader(result.stdout.splitlines()) if row and row[0].upper() == case.command.upper()]
    if result.returncode != 0 or not rows:
        raise Failure(f"redis-benchmark failed against {server.name}:\n{result.stdout}\n{result.stderr}")
    return {"rate": float(rows[-1][1]), "p99_ms": float(rows[-1][6]), "cpu_per_million": cpu * 1e6 / requests}


def bench_keys(arguments, server, *flags):
    """One run of `engramdb bench keys`; its only measurement."""
    report = Path(server.directory) / "report.json"
    command = [arguments.bench, "bench", "keys", "--port", str(server.port), "--server-pid", str(server.process.pid)]
    command += ["--keep", "--out-json", str(report), *flags]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise Failure(f"engramdb bench keys failed against {server.name}:\n{result.stdout}\n{result.stderr}")
    run = json.loads(report.read_text())["runs"][0]
    return {
        "rate": run["commands_per_second"],
        "p99_ms": max(latency["p99_us"] for latency in run["latencies"]) / 1000,
        "cpu_per_million": run["server_cpu_seconds_per_million"],
    }


def mix_flags(case, seconds):
    flags = ["--ops", "mix:80:20", "--keys", str(MIX_KEYS), "--distribution", case.distribution]
    return flags + ["--connections", str(case.connections), "--seconds", str(seconds)]


def measure_case(arguments, servers, case):
    """Rounds of A B, B A, ...; a list of {server name: figures}."""
    if case.command == "mix":
        for server in servers:
            bench_keys(arguments, server, *mix_flags(case, 0.1))  # loads the keys

        def measure(server):
            return bench_keys(arguments, server, *mix_flags(case, arguments.seconds), "--skip-load")
    else:
        fill = Case("", "", "set", 50, pipeline=16)
        slowest = float("inf")
        for server in servers:
            if case.command == "get":
                redis_benchmark(arguments, server, fill, 200_000)
            slowest = min(slowest, redis_benchmark(arguments, server, case, CALIBRATION_REQUESTS * case.pipeline)["rate"])
        requests = max(CALIBRATION_REQUESTS, int(slowest * arguments.seconds))

        def measure(server):
            return redis_benchmark(arguments, server, case, requests)

    rounds = []
    for number in range(arguments.rounds):
        order = servers if number % 2 == 0 else servers[::-1]
        rounds.append({server.name: measure(server) for server in order})
    return rounds


def summarize(case, rounds):
    def median(name, figure):
        return statistics.median(each[name][figure] for each in rounds)

    ratios = [each["engramdb"]["rate"] / each["redis"]["rate"] for each in rounds]
    return {
        "case": case.name,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "ratio_wanted": case.ratio_wanted,
        "engramdb_rate": median("engramdb", "rate"),
        "redis_rate": median("redis", "rate"),
        "engramdb_cpu": median("engramdb", "cpu_per_million"),
        "redis_cpu": median("redis", "cpu_per_million"),
        "engramdb_p99_ms": median("engramdb", "p99_ms"),
        "redis_p99_ms": median("redis", "p99_ms"),
        "rounds": rounds,
    }


def measure_quiet(arguments, servers):
    """p99 of GETs of keys that no client writes: alone, and while another client writes other keys to the slow disk."""
    get = ["--ops", "get", "--keys", "10000", "--prefix", "quiet:", "--connections", "8", "--seconds", str(arguments.seconds)]
    write = ["--ops", "set", "--keys", "10000", "--prefix", "loud:", "--connections", "50"]
    result = {}
    for server in servers:
        bench_keys(arguments, server, *get[:-1], "0.1")
        alone, beside = [], []
        for _ in range(arguments.rounds):
            alone.append(bench_keys(arguments, server, *get, "--skip-load")["p99_ms"])
            command = [arguments.bench, "bench", "keys", "--port", str(server.port), "--keep", *write]
            writer = subprocess.Popen(
                command + ["--seconds", str(arguments.seconds + 2)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(0.5)
            beside.append(bench_keys(arguments, server, *get, "--skip-load")["p99_ms"])
            if writer.wait() != 0:
                raise Failure(f"the writer beside the GETs failed against {server.name}")
        result[server.name] = {"alone_ms": statistics.median(alone), "beside_ms": statistics.median(beside)}
    return result


def print_table(rows):
    headings = ["case", "ratio", "wanted", "min..max", "engramdb/s", "redis/s", "CPU s/M", "redis CPU", "p99 ms", "redis p99"]
    cells = [
        [
            row["case"],
            f"{row['ratio']:.2f}",
            f"{row['ratio_wanted']:.1f}",
            f"{row['ratio_min']:.2f}..{row['ratio_max']:.2f}",
            f"{row['engramdb_rate']:.0f}",
            f"{row['redis_rate']:.0f}",
            f"{row['engramdb_cpu']:.2f}",
            f"{row['redis_cpu']:.2f}",
            f"{row['engramdb_p99_ms']:.2f}",
            f"{row['redis_p99_ms']:.2f}",
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [headings, *cells]) for column in range(len(headings))]
    for line in [headings, ["-" * width for width in widths], *cells]:
        first, *rest = (cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(line, widths)))
        print("  ".join([first, *rest]).rstrip())


def describe_machine(arguments):
    with open("/proc/cpuinfo") as cpuinfo:
        models = [line.split(": ")[1].strip() for line in cpuinfo if line.startswith("model name")]
    redis = subprocess.run([arguments.redis_server, "--version"], capture_output=True, text=True).stdout.strip()
    date = time.strftime("%Y-%m-%d")
    return f"{models[0] if models else 'unknown processor'}, {os.cpu_count()} cores, {os.uname().release}, {date}\n{redis}"


def parse_arguments():
    built = HERE.parent / "target" / "release" / "engramdb"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engramdb", default=str(built), help="the program under test (default: %(default)s)")
    parser.add_argument("--bench", help="the program whose `bench keys` makes the load (default: the one under test)")
    parser.add_argument("--redis-server", default="redis-server")
    parser.add_argument("--redis-benchmark", default="redis-benchmark")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement (default: %(default)s)")
    parser.add_argument("--only", action="append", help="only cases whose name contains this; may be repeated")
    parser.add_argument("--directory", help="where the servers keep their data (default: a temporary directory)")
    parser.add_argument("--out-json", help="write all figures of all rounds here")
    arguments = parser.parse_args()
    arguments.bench = arguments.bench or arguments.engramdb
    for program, advice in [
        (arguments.engramdb, "build it with `cargo build --release`, or name it with --engramdb"),
        (arguments.redis_server, "install it (Debian: apt-get install redis-server), or name it with --redis-server"),
        (arguments.redis_benchmark, "install it (Debian: apt-get install redis-tools), or name it with --redis-benchmark"),
    ]:
        if shutil.which(program) is None:
            parser.error(f"there is no program {program}: {advice}")
    return arguments


def run(arguments, directory):
    def chosen(name):
        return not arguments.only or any(part.lower() in name.lower() for part in arguments.only)

    rows, quiet = [], None
    for setup in ["durable", "volatile", "slow"]:
        cases = [case for case in CASES if case.setup == setup and chosen(case.name)]
        wants_quiet = setup == "slow" and chosen(QUIET_CASE)
        if not cases and not wants_quiet:
            continue
        with server_pair(arguments, setup, directory) as servers:
            for case in cases:
                print(f"measuring: {case.name}", file=sys.stderr)
                rows.append(summarize(case, measure_case(arguments, servers, case)))
            if wants_quiet:
                print(f"measuring: {QUIET_CASE}", file=sys.stderr)
                quiet = measure_quiet(arguments, servers)
    return rows, quiet


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="compare-redis-", dir=arguments.directory) as directory:
        rows, quiet = run(arguments, Path(directory))
    print(describe_machine(arguments))
    print(f"{arguments.rounds} interleaved rounds of {arguments.seconds:g} s; medians; ratio = EngramDB / Redis\n")
    if rows:
        print_table(rows)
    if quiet:
        print(f"\n{QUIET_CASE} (wanted: at most 2 times as long as alone)")
        for name, figures in quiet.items():
            factor = figures["beside_ms"] / figures["alone_ms"]
            print(f"  {name:9} alone {figures['alone_ms']:.2f} ms, beside {figures['beside_ms']:.2f} ms: {factor:.1f} times")
    if arguments.out_json:
        report = {"machine": describe_machine(arguments), "cases": rows, "quiet": quiet}
        Path(arguments.out_json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
