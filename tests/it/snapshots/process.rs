//! BGSAVE on the real binary, with the server killed at some moment of it.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

use engramdb_resp::Value;
use engramdb_testkit::process::{Server, TempDir, program, until};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

const ROUNDS: u64 = 8;
const KEYS_PER_ROUND: u64 = 3000;

#[test]
fn a_server_killed_while_it_saves_comes_back_whole_and_its_process_is_gone() {
    let directory = TempDir::new("snapshot-kill");
    for round in 0..ROUNDS {
        let server = Server::start(directory.path(), &[]);
        let mut client = server.client();
        let size = client.call(&["DBSIZE"]).expect("the server answers");
        assert_eq!(size, Value::Integer((round * KEYS_PER_ROUND) as i64), "round {round}");
        for number in 0..KEYS_PER_ROUND {
            let key = format!("key:{round}:{number}");
            client
                .call(&["SET", &key, "a value that takes some room in the snapshot"])
                .expect("the server answers");
        }
        client.call(&["BGSAVE"]).expect("the server answers");
        std::thread::sleep(Duration::from_millis(round * 15));
        let parent = server.pid().to_string();
        server.kill();
        wait_until_gone(directory.path(), &parent);
        let verified = tool(directory.path(), "verify");
        assert!(verified.status.success(), "round {round}: {}", String::from_utf8_lossy(&verified.stderr));
    }
}

/// The process that makes the snapshot ends with its parent: the kernel kills it, at once but not in no time.
fn wait_until_gone(directory: &Path, parent: &str) {
    let lives = || {
        std::fs::read_dir("/proc").expect("Linux").flatten().any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            words.iter().any(|word| word == parent)
                && words.iter().any(|word| Path::new(&**word) == directory)
        })
    };
    until("the snapshot process outlives its server", || !lives());
}

#[test]
fn a_saved_store_is_listed_verified_and_trims_its_log() {
    let directory = TempDir::new("snapshot-save");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    for round in 0..3 {
        client.call(&["SET", "round", &round.to_string()]).expect("the server answers");
        assert_eq!(client.call(&["SAVE"]).expect("the server answers"), Value::SimpleString(b"OK".to_vec()));
    }
    let listed = tool(directory.path(), "list");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        text.contains("0000000000000003.snapshot") && text.contains("0000000000000002.snapshot"),
        "{text}"
    );
    assert!(!text.contains("0000000000000001.snapshot"), "two are kept: {text}");
    assert!(tool(directory.path(), "verify").status.success());
    let segments = std::fs::read_dir(directory.path().join("shards/0/log")).expect("the log is there");
    let names: Vec<_> = segments.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert!(!names.contains(&"0000000000000001.log".to_owned()), "{names:?}");
    server.kill();
    let server = Server::start(directory.path(), &[]);
    let round = server.client().call(&["GET", "round"]).expect("the server answers");
    assert_eq!(round, Value::Bulk(b"2".to_vec()));
}

fn tool(directory: &Path, command: &str) -> Output {
    let output = program().args(["snapshot", command, "--dir"]).arg(directory).output();
    output.expect("the binary was built with the tests")
}
