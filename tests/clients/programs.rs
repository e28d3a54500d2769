//! Clients that people use, against the real binary: redis-py, redis-cli, redis-benchmark.
//!
//! They are not part of the plain test run, for they need what a Rust toolchain does not bring: Debian's packages
//! `python3-venv` and `redis-tools`, and PyPI for redis-py. With these,
//!
//! ```sh
//! cargo test --test clients -- --ignored programs
//! ```
//!
//! fails, instead of passing over in silence, when something is missing.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

use engramdb_testkit::process::{Server, TempDir};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// The versions that the tests were written for.
const REDIS_PY: &str = "redis==8.1.0";

/// Runs a command and returns what it printed.
///
/// # Panics
/// If it cannot be started, with the hint; if it fails, with what it printed.
fn run(command: &mut Command, hint: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}. {hint}"));
    let text = |output: &Output| {
        let printed = [&output.stdout[..], &output.stderr[..]].concat();
        String::from_utf8_lossy(&printed).into_owned()
    };
    assert!(output.status.success(), "{command:?} failed. {hint}\n{}", text(&output));
    text(&output)
}

/// A Python with redis-py, made once in the build directory.
fn python() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients-python");
    let python = directory.join("bin/python");
    let ready = directory.join(format!("has-{REDIS_PY}"));
    if !ready.exists() {
        let hint = "Install Python with venv: apt-get install python3-venv";
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory), hint);
        let hint = "PyPI must be reachable, or PIP_INDEX_URL point to a mirror";
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", REDIS_PY]), hint);
        std::fs::write(&ready, "").expect("the build directory is writable");
    }
    python
}

fn redis_py(protocol: &str) {
    let directory = TempDir::new("redis-py");
    let server = Server::start(directory.path(), &[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/basic_use.py");
    let mut command = Command::new(python());
    command.arg(script).args([&server.port.to_string(), protocol]);
    let printed = run(&mut command, "");
    assert_eq!(printed.matches(": as expected").count(), 7, "{printed}");
}

#[test]
#[ignore = "needs python3-venv and PyPI"]
fn redis_py_over_resp2() {
    redis_py("2");
}

#[test]
#[ignore = "needs python3-venv and PyPI"]
fn redis_py_over_resp3() {
    redis_py("3");
}

const REDIS_TOOLS: &str = "Install Debian's redis-tools: apt-get install redis-tools";

#[test]
#[ignore = "needs redis-tools"]
fn redis_cli() {
    let directory = TempDir::new("redis-cli");
    let server = Server::start(directory.path(), &[]);
    let port = server.port.to_string();
    let cli =
        |arguments: &[&str]| run(Command::new("redis-cli").args(["-p", &port]).args(arguments), REDIS_TOOLS);
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
    assert!(run(&mut pipe, REDIS_TOOLS).contains("errors: 0, replies: 1000"));
}

#[test]
#[ignore = "needs redis-tools"]
fn redis_benchmark() {
    let directory = TempDir::new("redis-benchmark");
    let server = Server::start(directory.path(), &[]);
    for pipeline in ["1", "16"] {
        let mut command = Command::new("redis-benchmark");
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
        let printed = run(&mut command, REDIS_TOOLS);
        assert!(!printed.contains("rror") && !printed.contains("WARN"), "{printed}");
        for name in ["SET", "GET", "HSET"] {
            let line = printed.split(['\r', '\n']).rfind(|line| line.starts_with(&format!("{name}: ")));
            let line = line.unwrap_or_else(|| panic!("no line for {name} in {printed}"));
            assert!(line.contains("requests per second"), "{line}");
            println!("-P {pipeline}, {line}");
        }
    }
}
