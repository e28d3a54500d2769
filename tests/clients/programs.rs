//! Widely used clients with the real binary: redis-py, redis-cli, redis-benchmark.
//!
//! Missing ones are installed first: redis-py from PyPI into the build directory, the others with Debian's
//! package `redis-tools`, which needs root.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

use engramdb_testkit::machine::{self, Need};
use engramdb_testkit::packages;
use engramdb_testkit::process::{Server, TempDir};
use std::path::Path;
use std::process::Command;

/// Runs a command and returns what it printed.
///
/// # Panics
/// If it cannot be started or fails, with what it printed.
fn run(command: &mut Command) -> String {
    machine::run(command).unwrap_or_else(|failure| panic!("{failure}"))
}

fn redis_py(protocol: &str) {
    let directory = TempDir::new("redis-py");
    let server = Server::start(directory.path(), &[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/basic_use.py");
    let mut command = Command::new(machine::program("python3", "python3"));
    command.env("PYTHONPATH", packages::redis_py()).arg(script).args([&server.port.to_string(), protocol]);
    let printed = run(&mut command);
    assert_eq!(printed.matches(": as expected").count(), 7, "{printed}");
}

#[test]
fn redis_py_over_resp2() {
    if Need::Packages.is_missing() {
        return;
    }
    redis_py("2");
}

#[test]
fn redis_py_over_resp3() {
    if Need::Packages.is_missing() {
        return;
    }
    redis_py("3");
}

const REDIS_TOOLS: &str = "redis-tools";

#[test]
fn redis_cli() {
    if Need::Packages.is_missing() {
        return;
    }
    let directory = TempDir::new("redis-cli");
    let server = Server::start(directory.path(), &[]);
    let port = server.port.to_string();
    let program = machine::program("redis-cli", REDIS_TOOLS);
    let cli = |arguments: &[&str]| run(Command::new(&program).args(["-p", &port]).args(arguments));
    assert_eq!(cli(&["SET", "greeting", "hello world"]), "OK\n");
    assert_eq!(cli(&["--no-raw", "GET", "greeting"]), "\"hello world\"\n");
    assert_eq!(cli(&["-3", "--no-raw", "HSET", "h", "f", "v"]), "(integer) 1\n");
    assert_eq!(cli(&["-3", "--no-raw", "HGETALL", "h"]), "1# \"f\" => \"v\"\n");
    assert_eq!(
        cli(&["--no-raw", "INCR", "greeting"]),
        "(error) ERR value is not an integer or out of range\n"
    );
    let mut names: Vec<String> = cli(&["--scan"]).lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["greeting", "h"]);
    assert!(cli(&["--bigkeys"]).contains("Biggest string found"));
    assert!(cli(&["INFO", "server"]).contains("redis_version:"));
    let mut pipe = Command::new("sh");
    pipe.args(["-c", &format!("yes 'SET piped x' | head -1000 | redis-cli -p {port} --pipe")]);
    assert!(run(&mut pipe).contains("errors: 0, replies: 1000"));
}

#[test]
fn redis_benchmark() {
    if Need::Packages.is_missing() {
        return;
    }
    let directory = TempDir::new("redis-benchmark");
    let server = Server::start(directory.path(), &[]);
    for pipeline in ["1", "16"] {
        let mut command = Command::new(machine::program("redis-benchmark", REDIS_TOOLS));
        command.args([
            "-p",
            &server.port.to_string(),
            "-t",
            "set,get,hset",
            "-n",
            "20000",
            "-q",
            "-P",
            pipeline,
        ]);
        let printed = run(&mut command);
        assert!(!printed.contains("rror") && !printed.contains("WARN"), "{printed}");
        for name in ["SET", "GET", "HSET"] {
            let line = printed.split(['\r', '\n']).rfind(|line| line.starts_with(&format!("{name}: ")));
            let line = line.unwrap_or_else(|| panic!("no line for {name} in {printed}"));
            assert!(line.contains("requests per second"), "{line}");
            println!("-P {pipeline}, {line}");
        }
    }
}
