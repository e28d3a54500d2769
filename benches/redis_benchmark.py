#!/usr/bin/env python3
"""Every test of redis-benchmark, and the memory of each type, beside redis-server in one run.

    cargo build --release
    python3 benches/redis_benchmark.py                         # both tables, about 25 minutes
    python3 benches/redis_benchmark.py speed --only lrange     # rows whose name contains this
    python3 benches/redis_benchmark.py memory --entries 10000

Speed: 50 connections, plain and with -P 16. Reads are beside a redis-server without persistence, writes beside one with
`appendfsync always`; EngramDB is always durable. Rounds go A B, B A; the table has medians over them, the ratio of
throughput (EngramDB over Redis), and the CPU seconds of each server's process per million commands.

Memory: growth of the resident set from the start of a fresh server until the values are loaded and it no longer changes.

What is needed is as for compare_redis.py, whose servers and options these are.
"""

import argparse
import csv
import dataclasses
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare_redis import HERE, Failure, describe_machine, server_pair

CONNECTIONS = 50
KEYS = 100_000
CALIBRATION_REQUESTS = 2000
SETTLED_SECONDS_MAX = 60
BATCH = 1000


@dataclasses.dataclass(frozen=True)
class Test:
    """A test of redis-benchmark: by its name, or by a command that it sends as it is."""

    name: str
    is_write: bool
    command: tuple = ()
    fill: tuple = ()  # the command that fills what the test takes away, as often as the test runs

    def arguments(self):
        return self.command or ("-t", self.name)


LIST = ("rpush", "mylist", "xxx")
SCRIPT = "return redis.call('GET', KEYS[1])"
TESTS = [
    Test("ping_inline", False),
    Test("ping_mbulk", False),
    Test("set", True),
    Test("get", False),
    Test("incr", True),
    Test("lpush", True),
    Test("rpush", True),
    Test("lpop", True, fill=LIST),
    Test("rpop", True, fill=LIST),
    Test("sadd", True),
    Test("hset", True),
    Test("spop", True, fill=("sadd", "myset", "element:__rand_int__")),
    Test("zadd", True),
    Test("zpopmin", True, fill=("zadd", "myzset", "0", "element:__rand_int__")),
    *(Test(f"lrange_{count}", False, ("lrange", "lrange", "0", str(count - 1))) for count in (100, 300, 500, 600)),
    Test("mset", True),
    Test("xadd", True, ("xadd", "mystream", "*", "myfield", "xxx")),
    Test("eval", False, ("eval", SCRIPT, "1", "key:__rand_int__")),
]


def call(port, *words):
    """One command by redis-cli's protocol; its first line."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(encoded(*words))
        return connection.makefile("rb").readline()


def encoded(*words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def benchmark(arguments, server, words, pipeline, requests):
    """One run of redis-benchmark: commands a second, and CPU seconds of the server per million."""
    options = ["-p", str(server.port), "-c", str(CONNECTIONS), "-P", str(pipeline), "-n", str(requests), "-r", str(KEYS)]
    before = server.cpu_seconds()
    result = subprocess.run([arguments.redis_benchmark, *options, "--csv", *words], capture_output=True, text=True)
    cpu = server.cpu_seconds() - before
    rows = [row for row in csv.reader(result.stdout.splitlines()) if len(row) > 6 and row[0] != "test"]
    if result.returncode != 0 or not rows or "error" in (result.stdout + result.stderr).lower():
        raise Failure(f"redis-benchmark {' '.join(words)} failed against {server.name}:\n{result.stdout}\n{result.stderr}")
    return {"rate": float(rows[-1][1]), "cpu": cpu * 1e6 / requests}


def measure(arguments, servers, test, pipeline):
    """Rounds of A B, B A; figures by server."""
    requests = arguments.requests
    for server in servers:
        if not call(server.port, "FLUSHALL").startswith(b"+OK"):
            raise Failure(f"{server.name} does not flush")
        if test.name.startswith("lrange"):
            call(server.port, "RPUSH", "lrange", *["xxx"] * 1000)
        if test.name in ("get", "eval"):
            benchmark(arguments, server, ("-t", "set"), 16, 2 * KEYS)
        speed = benchmark(arguments, server, test.arguments(), pipeline, CALIBRATION_REQUESTS * pipeline)["rate"]
        requests = min(requests, max(CALIBRATION_REQUESTS * pipeline, int(speed * arguments.seconds)))
    rounds = []
    for number in range(arguments.rounds):
        figures = {}
        for server in servers if number % 2 == 0 else servers[::-1]:
            if test.fill:
                benchmark(arguments, server, test.fill, 16, requests)
            figures[server.name] = benchmark(arguments, server, test.arguments(), pipeline, requests)
        rounds.append(figures)
    return rounds


def wanted(test, pipeline):
    return 1.5 if test.is_write and pipeline > 1 else 1.0


def speed_row(test, pipeline, rounds):
    def median(name, figure):
        return statistics.median(each[name][figure] for each in rounds)

    ratio = statistics.median(each["engramdb"]["rate"] / each["redis"]["rate"] for each in rounds)
    name = test.name.upper() + (f", -P {pipeline}" if pipeline > 1 else "")
    rates = [f"{median(server, 'rate'):.0f}" for server in ("engramdb", "redis")]
    cpus = [f"{median(server, 'cpu'):.2f}" for server in ("engramdb", "redis")]
    verdict = "" if ratio >= wanted(test, pipeline) else "below"
    return [name, "always" if test.is_write else "none", f"{ratio:.2f}", f"{wanted(test, pipeline):.1f}", *rates, *cpus, verdict]


def speed_table(arguments, directory):
    rows = {}
    for setup in ("volatile", "durable"):
        tests = [test for test in TESTS if test.is_write == (setup == "durable") and chosen(arguments, test.name)]
        if not tests:
            continue
        with server_pair(arguments, setup, directory) as servers:
            for test in tests:
                for pipeline in (1, 16):
                    print(f"measuring: {test.name} -P {pipeline}", file=sys.stderr)
                    try:
                        rounds = measure(arguments, servers, test, pipeline)
                    except Failure as failure:
                        print(failure, file=sys.stderr)
                        rows[test, pipeline] = [test.name.upper(), *[""] * 7, "failed"]
                        continue
                    rows[test, pipeline] = speed_row(test, pipeline, rounds)
    headings = ["test", "Redis's fsync", "ratio", "wanted", "engramdb/s", "redis/s", "CPU s/M", "redis CPU", ""]
    return [headings, *(rows[test, pipeline] for test in TESTS for pipeline in (1, 16) if (test, pipeline) in rows)]


def loads(count):
    """For each type its name, and a function that makes a command of a number below `count`."""
    items = [b"item:%02d" % item for item in range(10)]
    pairs = [part for item in items for part in (item, b"value-of-" + item)]
    return [
        ("strings", lambda number: encoded("SET", b"string:%09d" % number, b"value:%09d" % number)),
        ("hashes of 10 fields", lambda number: encoded("HSET", b"hash:%09d" % number, *pairs)),
        ("lists of 10", lambda number: encoded("RPUSH", b"list:%09d" % number, *items)),
        ("sets of 10", lambda number: encoded("SADD", b"set:%09d" % number, *items)),
        ("sorted set", lambda number: encoded("ZADD", "board", number * 7919 % count, b"member:%09d" % number)),
        ("stream", lambda number: encoded("XADD", "stream", "*", "field", b"value:%09d" % number)),
    ]


def load(port, make, count):
    with socket.create_connection(("127.0.0.1", port), 600) as connection:
        replies = connection.makefile("rb")
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            connection.sendall(b"".join(make(number) for number in numbers))
            for _ in numbers:
                first = replies.readline()
                if first.startswith(b"-") or not first:
                    raise Failure(f"loading failed: {first}")
                if first.startswith(b"$"):
                    replies.readline()


def resident_bytes(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def settled_bytes(server):
    """The resident set when it has not changed by more than a hundredth for two seconds."""
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
    seen = [resident_bytes(server)]
    while time.monotonic() < deadline:
        time.sleep(0.5)
        seen.append(resident_bytes(server))
        if len(seen) > 4 and max(seen[-5:]) <= 1.01 * min(seen[-5:]):
            break
    return seen[-1]


def memory_table(arguments, directory):
    count = arguments.entries
    rows = []
    for number, (name, make) in enumerate(loads(count)):
        if not chosen(arguments, name):
            continue
        print(f"loading: {name}", file=sys.stderr)
        growth = {}
        with server_pair(arguments, "volatile", directory / f"memory-{number}") as servers:
            for server in servers:
                before = settled_bytes(server)
                load(server.port, make, count)
                growth[server.name] = settled_bytes(server) - before
        ratio = growth["engramdb"] / max(1, growth["redis"])
        megabytes = [f"{growth[server] / 1e6:.1f}" for server in ("engramdb", "redis")]
        per_entry = [f"{growth[server] / count:.0f}" for server in ("engramdb", "redis")]
        rows.append([f"{count} {name}" if "of" in name or name == "strings" else f"{name} of {count}", f"{ratio:.2f}", *megabytes, *per_entry, "" if ratio <= 1.0 else "above"])
    return [["what", "ratio", "engramdb MB", "redis MB", "bytes each", "redis", ""], *rows]


def chosen(arguments, name):
    return not arguments.only or any(part.lower() in name.lower() for part in arguments.only)


def print_table(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in [lines[0], ["-" * width for width in widths], *lines[1:]]:
        first, *rest = (cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(line, widths)))
        print("  ".join([first, *rest]).rstrip())
    print()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", choices=["speed", "memory"], help="only this one (default: both)")
    parser.add_argument("--engramdb", default=str(HERE.parent / "target" / "release" / "engramdb"))
    parser.add_argument("--redis-server", default="redis-server")
    parser.add_argument("--redis-benchmark", default="redis-benchmark")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each test (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement at most (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=2_000_000, help="requests of each at most (default: %(default)s)")
    parser.add_argument("--entries", type=int, default=1_000_000, help="values of each type (default: %(default)s)")
    parser.add_argument("--only", action="append", help="only rows whose name contains this; may be repeated")
    parser.add_argument("--directory", help="where the servers keep their data (default: a temporary directory)")
    arguments = parser.parse_args()
    for program in (arguments.engramdb, arguments.redis_server, arguments.redis_benchmark):
        if shutil.which(program) is None:
            parser.error(f"there is no program {program}: build it, install it (Debian: redis-server, redis-tools), or name it")
    return arguments


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="redis-benchmark-", dir=arguments.directory) as directory:
        print(describe_machine(arguments))
        if arguments.table != "memory":
            print(f"\nspeed: {CONNECTIONS} connections, {arguments.rounds} interleaved rounds, medians; ratio = EngramDB / Redis\n")
            print_table(speed_table(arguments, Path(directory)))
        if arguments.table != "speed":
            print("\nmemory: growth of the resident set; ratio = EngramDB / Redis\n")
            print_table(memory_table(arguments, Path(directory)))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
