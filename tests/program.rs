//! The program as its user meets it: the offline tools over a directory that `serve` left, refusals at the start, and
//! what a restart brings back, search included.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

mod support;

use std::path::Path;
use std::process::Output;
use support::{Client, Server, TempDir, until};

fn engramdb(arguments: &[&str]) -> Output {
    support::program().args(arguments).output().expect("the binary was built")
}

fn tool(arguments: &[&str], directory: &Path) -> String {
    let directory = directory.to_str().expect("a path of ours is text");
    let output = engramdb(&[arguments, &["--dir", directory]].concat());
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

fn text(client: &mut Client, command: &[&str]) -> String {
    let reply = client.call(command).expect("the server answers");
    assert!(!reply.is_error(), "{command:?}: {reply:?}");
    reply.as_str().map(str::to_owned).unwrap_or_else(|| format!("{reply:?}"))
}

/// BGSAVE, and its end.
fn snapshot(client: &mut Client) {
    text(client, &["BGSAVE"]);
    let mut info = String::new();
    until("the snapshot does not end", || {
        info = text(client, &["INFO", "persistence"]);
        info.contains("rdb_bgsave_in_progress:0")
    });
    assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
}

fn vector(number: u32) -> Vec<u8> {
    [number as f32, 1.0, -(number as f32)].iter().flat_map(|component| component.to_le_bytes()).collect()
}

fn store(client: &mut Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let (key, vector) = (format!("doc:{number}"), vector(number));
        let words: [&[u8]; 6] = [b"HSET", key.as_bytes(), b"tag", b"x", b"embedding", &vector];
        assert!(!client.call(&words).expect("the server answers").is_error());
    }
}

fn nearest(client: &mut Client, number: u32) -> String {
    let vector = vector(number);
    let words: [&[u8]; 10] = [
        b"FT.SEARCH",
        b"docs",
        b"@tag:{x}=>[KNN 3 @embedding $q]",
        b"NOCONTENT",
        b"PARAMS",
        b"2",
        b"q",
        &vector,
        b"DIALECT",
        b"2",
    ];
    format!("{:?}", client.call(&words).expect("the server answers"))
}

#[test]
fn a_directory_outlives_a_kill_and_the_tools_read_it() {
    let directory = TempDir::new("program");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    let create = "FT.CREATE docs ON HASH PREFIX 1 doc: SCHEMA tag TAG embedding VECTOR HNSW 6 TYPE FLOAT32 DIM 3 \
                  DISTANCE_METRIC L2";
    text(&mut client, &create.split_whitespace().collect::<Vec<_>>());
    store(&mut client, 0..300);
    snapshot(&mut client);
    store(&mut client, 300..320);
    text(&mut client, &["DEL", "doc:7"]);
    text(&mut client, &["SET", "counter", "41"]);
    text(&mut client, &["INCR", "counter"]);
    let before = nearest(&mut client, 310);
    server.kill();

    let listed = tool(&["snapshot", "list"], directory.path());
    assert!(listed.contains(".snapshot"), "{listed}");
    let verified = tool(&["snapshot", "verify"], directory.path());
    assert!(verified.contains("300") && verified.contains("good"), "{verified}");
    let verified = tool(&["log", "verify"], directory.path());
    assert!(verified.contains("the log is good"), "{verified}");
    let dumped = tool(&["log", "dump", "--limit", "1000"], directory.path());
    assert!(dumped.contains("StringSet \"counter\" = \"42\""), "{dumped}");
    assert!(dumped.contains("Delete \"doc:7\""), "{dumped}");

    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    assert_eq!(text(&mut client, &["GET", "counter"]), "42");
    assert_eq!(nearest(&mut client, 310), before);
    assert!(!nearest(&mut client, 7).contains("doc:7\""), "deleted before the kill");
    let started =
        std::fs::read_to_string(directory.path().join("server.log")).expect("the log file is there");
    assert!(started.contains("300 graph nodes loaded, 20 being inserted again, 1 removed"), "{started}");
    assert!(server.shut_down(), "SHUTDOWN ends in order");
    let created = tool(&["snapshot", "create"], directory.path());
    assert!(created.contains("320 keys"), "{created}");
    let verified = tool(&["log", "verify"], directory.path());
    assert!(verified.contains(", stopped in order"), "{verified}");
    let server = Server::start(directory.path(), &[]);
    assert_eq!(text(&mut server.client(), &["DBSIZE"]), "320");
}

#[test]
fn shutdown_save_leaves_a_snapshot_of_everything() {
    let directory = TempDir::new("save");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    (0..20).for_each(|number| drop(text(&mut client, &["SET", &format!("key:{number}"), "value"])));
    client.send(&[&["SHUTDOWN", "SAVE"]]).expect("the server listens");
    assert_eq!(server.wait(), Some(0));
    let verified = tool(&["snapshot", "verify"], directory.path());
    assert!(verified.contains("20") && verified.contains("good"), "{verified}");
    let server = Server::start(directory.path(), &[]);
    assert_eq!(text(&mut server.client(), &["DBSIZE"]), "20");
    let started =
        std::fs::read_to_string(directory.path().join("server.log")).expect("the log file is there");
    assert!(started.contains("(20 keys) and 0 batches"), "{started}");
}

#[test]
fn a_second_server_on_the_directory_is_refused() {
    let directory = TempDir::new("second");
    let _server = Server::start(directory.path(), &[]);
    let port = support::free_port().to_string();
    let output = engramdb(&[
        "serve",
        "--port",
        &port,
        "--dir",
        directory.path().to_str().expect("a path of ours is text"),
    ]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("another process has the log"), "{text}");
}

#[test]
fn another_address_needs_a_password() {
    let directory = TempDir::new("open");
    let port = support::free_port().to_string();
    let place = directory.path().to_str().expect("a path of ours is text");
    let output = engramdb(&["serve", "--bind", "0.0.0.0", "--port", &port, "--dir", place]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("requirepass"), "{text}");
}

/// Refused before anything is created: each way in, and all errors at once.
#[test]
fn a_wrong_configuration_is_refused_as_a_whole() {
    let directory = TempDir::new("configuration");
    let file = directory.path().join("wrong.conf");
    std::fs::write(&file, "port 0\n# fine\nhz 10\nnope 1\n").expect("the directory is writable");
    let data = directory.path().join("data");
    let mut command = support::program();
    command.args(["serve", "--databases", "0", "--io-threads=100000", "--dir"]).arg(&data);
    let output = command.arg("--config").arg(&file).env("ENGRAMDB_TIMEOUTS", "3").output();
    let output = output.expect("the binary was built");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "engramdb: the configuration has 5 errors",
        "wrong.conf:1: port 0: argument must be between 1 and 65535 inclusive",
        "wrong.conf:4: there is no parameter 'nope'",
        "ENGRAMDB_TIMEOUTS: there is no parameter 'timeouts'; did you mean 'timeout'?",
        "--databases: databases 0: argument must be between 1 and 65536 inclusive",
        "--io-threads: io-threads 100000: argument must be between 0 and 128 inclusive",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!data.exists(), "nothing was created");
    let output = engramdb(&["serve", "--dir", ""]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--dir: dir : a directory is needed"), "{text}");
}

/// Flags win over variables, and variables over the file; settings of search are parameters like others.
#[test]
fn every_parameter_is_a_flag_a_variable_and_a_line() {
    let directory = TempDir::new("layers");
    let file = directory.path().join("redis.conf");
    let lines = "maxclients 100\nhz 20\ntimeout 30\nsearch-timeout 700\nappendonly no\nrdbchecksum yes\n\
                 rename-command FLUSHALL \"\"\nrename-command DBSIZE b840fc02d524045429941cc15f59e41cb7be6c52\n";
    std::fs::write(&file, lines).expect("the directory is writable");
    let file = file.to_str().expect("a path of ours is text");
    let flags = ["--config", file, "--timeout", "32", "--search-live-recall-every", "5", "--save", ""];
    let server = Server::start(directory.path(), &flags);
    let mut client = server.client();
    for (name, value) in [
        ("maxclients", "100"),
        ("hz", "20"),
        ("timeout", "32"),
        ("search-timeout", "700"),
        ("search-live-recall-every", "5"),
    ] {
        let reply = client.call(&["CONFIG", "GET", name]).expect("the server answers");
        assert_eq!(reply.as_array().map(|pair| pair[1].as_str()), Some(Some(value)), "{name}: {reply:?}");
    }
    assert!(client.call(&["FLUSHALL"]).expect("the server answers").is_error());
    assert!(client.call(&["DBSIZE"]).expect("the server answers").is_error());
    assert_eq!(text(&mut client, &["b840fc02d524045429941cc15f59e41cb7be6c52"]), "0");
    let log = std::fs::read_to_string(directory.path().join("server.log")).expect("the log file is there");
    assert!(log.contains("redis.conf:5: 'appendonly no' does not hold"), "{log}");
    assert_eq!(log.matches("ignored parameters").count(), 1, "{log}");
    assert!(log.contains("RDB and AOF files: rdbchecksum save"), "{log}");
}
