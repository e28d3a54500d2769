//! The program as its user meets it: the offline tools over a directory that `serve` left, refusals at the start, and
//! what a restart brings back, search included.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::{Client, Server, TempDir, until};

fn engramdb(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_engramdb")).args(arguments).output().expect("the binary was built")
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
