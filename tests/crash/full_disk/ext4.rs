//! The real binary on an ext4 file system of 330 MB, filled to its last byte. Needs root and loop devices.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

use engramdb_resp::Value;
use engramdb_testkit::loop_disk::LoopDisk;
use engramdb_testkit::machine::Need;
use engramdb_testkit::process::{Client, Server, until};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const DISK_BYTES: u64 = 330_000_000;
const VALUE_BYTES: usize = 200_000;
/// Documents with a vector, so that there is a graph to save.
const DOCUMENTS: usize = 300;

/// A file system for the test, on which other programs store files too.
struct Ext4(LoopDisk);

impl Ext4 {
    fn new() -> Ext4 {
        Ext4(LoopDisk::new(DISK_BYTES))
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn output(&self) -> PathBuf {
        self.0.beside().join("server.log")
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Acts as another program that takes all free space, to the last byte.
    fn fill_up(&self) {
        let file = OpenOptions::new().create(true).append(true).open(self.filler());
        let mut file = file.expect("an entry of a directory needs no space");
        for size in [1 << 20, 4096, 1] {
            let bytes = vec![7u8; size];
            while file.write_all(&bytes).is_ok() {}
        }
        // With delayed allocation, only the sync may find that there is no room.
        _ = file.sync_all();
    }

    /// Acts as another program that takes this much space.
    fn take(&self, bytes: usize) {
        fs::write(self.filler(), vec![7u8; bytes]).expect("there is room");
    }

    fn remove_filler(&self) {
        fs::remove_file(self.filler()).expect("the filler is there");
    }
}

fn ask(client: &mut Client, line: &str) -> Value {
    client.call(&line.split(' ').collect::<Vec<_>>()).expect("the server answers")
}

fn info(client: &mut Client) -> String {
    ask(client, "INFO persistence").as_str().expect("INFO is text").to_owned()
}

fn integer(client: &mut Client, line: &str) -> i64 {
    match ask(client, line) {
        Value::Integer(number) => number,
        other => panic!("{line}: {other:?}"),
    }
}

fn error_of(reply: Value) -> String {
    match reply {
        Value::Error(text) => String::from_utf8_lossy(&text).into_owned(),
        other => panic!("an error was expected: {other:?}"),
    }
}

fn is_refused(client: &mut Client) -> bool {
    ask(client, "SET probe x").is_error()
}

/// Fills the log, and then the disk. Returns the number of keys.
fn fill(disk: &Ext4, client: &mut Client) -> i64 {
    let value = vec![b'x'; VALUE_BYTES];
    for number in 0.. {
        let key = format!("key:{number}");
        let words: [&[u8]; 3] = [b"SET", key.as_bytes(), &value];
        let reply = client.call(&words).expect("the server answers");
        if reply.is_error() {
            let text = error_of(reply);
            assert!(text.starts_with("MISCONF No room in the transaction log"), "{text}");
            break;
        }
    }
    // There may be room for smaller values than the refused one.
    while !is_refused(client) {}
    // The server makes a snapshot by itself, perhaps now.
    until("the snapshot does not end", || info(client).contains("rdb_bgsave_in_progress:0"));
    disk.fill_up();
    integer(client, "DBSIZE")
}

/// Runs BGSAVE and waits for its end. True if a snapshot was made.
fn snapshot(client: &mut Client) -> bool {
    until("no snapshot can begin", || !ask(client, "BGSAVE").is_error());
    let mut told = String::new();
    until("the snapshot does not end", || {
        told = info(client);
        told.contains("rdb_bgsave_in_progress:0")
    });
    told.contains("rdb_last_bgsave_status:ok")
}

fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("the directory is there").flatten();
    entries.map(|entry| entry.metadata().map_or(0, |metadata| metadata.len())).sum()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn start(disk: &Ext4) -> (Server, Client) {
    // A server that cannot write its last lines ends with status 1, so they do not go to the full disk.
    let server = Server::start_writing(&disk.data(), &disk.output());
    let client = server.client();
    (server, client)
}

fn store_documents(client: &mut Client) {
    let create =
        "FT.CREATE docs ON HASH PREFIX 1 doc: SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 32 DISTANCE_METRIC L2";
    assert!(!ask(client, create).is_error());
    for number in 0..DOCUMENTS {
        let vector: Vec<u8> = (0..32).flat_map(|part| ((number * part) as f32).to_le_bytes()).collect();
        let key = format!("doc:{number}");
        let words: [&[u8]; 4] = [b"HSET", key.as_bytes(), b"v", &vector];
        assert!(!client.call(&words).expect("the server answers").is_error());
    }
}

#[test]
fn a_store_on_a_full_disk_can_be_read_emptied_and_started() {
    if Need::Root.is_missing() {
        return;
    }
    let disk = Ext4::new();
    fs::create_dir(disk.data()).expect("there is room");
    let (server, mut client) = start(&disk);
    store_documents(&mut client);
    let keys = fill(&disk, &mut client);

    // Writes are refused with the cause, reads work.
    let text = error_of(ask(&mut client, "SET probe x"));
    assert!(
        text.contains("cannot prepare a log segment of 64 MiB in") && text.contains("No space left"),
        "{text}"
    );
    assert_eq!(integer(&mut client, "STRLEN key:1"), VALUE_BYTES as i64);
    assert!(info(&mut client).contains("log_writes:refused"));

    // There is no room for all values: the snapshot fails with an error, and leaves no file.
    assert!(!snapshot(&mut client), "nothing that large fits");
    let log = fs::read_to_string(disk.output()).expect("it is on another disk");
    println!("{log}");
    assert!(!names_in(&disk.data().join("shards/0/snapshots")).iter().any(|name| name.ends_with(".tmp")));

    // Deletes still work, and survive a kill.
    assert_eq!(integer(&mut client, "DEL key:0 key:1"), 2);
    assert_eq!(integer(&mut client, "EXPIRE key:2 0"), 1);
    disk.fill_up();
    server.kill();
    let (server, mut client) = start(&disk);
    assert_eq!(integer(&mut client, "DBSIZE"), keys - 3);
    assert!(is_refused(&mut client));

    // After a FLUSHALL a snapshot is small; it frees the log, and writes go on by themselves.
    assert!(!ask(&mut client, "FLUSHALL").is_error());
    let before = bytes_in(&disk.data().join("shards/0/log"));
    assert!(snapshot(&mut client), "{}", info(&mut client));
    until("writes do not go on", || !is_refused(&mut client));
    let after = bytes_in(&disk.data().join("shards/0/log"));
    println!("log: {before} bytes before the snapshot, {after} after it");
    assert!(info(&mut client).contains("aof_last_write_status:ok"));
    disk.remove_filler();

    stops_and_starts(&disk, server, client);
}

/// Restarts on a full disk until there is no room even for a claim; then frees space.
fn stops_and_starts(disk: &Ext4, server: Server, mut client: Client) {
    disk.take(100 << 20);
    store_documents(&mut client);
    let keys = fill(disk, &mut client);
    assert!(server.shut_down());
    let mut starts = 0;
    let (server, mut client) = loop {
        disk.fill_up();
        let (server, mut client) = start(disk);
        assert_eq!(integer(&mut client, "DBSIZE"), keys);
        starts += 1;
        if info(&mut client).contains("log_writes:read-only") {
            break (server, client);
        }
        assert!(starts < 100, "each start takes room");
        assert!(server.shut_down());
    };
    println!("start {starts} is read-only");
    let text = error_of(ask(&mut client, "DEL key:5"));
    assert!(text.starts_with("MISCONF The server started read-only"), "{text}");
    assert_eq!(integer(&mut client, "STRLEN key:5"), VALUE_BYTES as i64);

    // Room comes back: so do writes, without a restart.
    disk.remove_filler();
    until("writes do not go on", || !is_refused(&mut client));
    assert_eq!(integer(&mut client, "DEL key:5 probe"), 2);
    assert!(server.shut_down());
    let (_server, mut client) = start(disk);
    assert_eq!(integer(&mut client, "DBSIZE"), keys - 2);
}
