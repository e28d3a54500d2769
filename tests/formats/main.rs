//! Files of released formats stay readable.
//!
//! `tests/formats/v1` has a data directory written by the first version, and its content as text. The files
//! are never changed. A new format level gets a new directory, which `cargo test --test formats` with
//! ENGRAMDB_BLESS=1 writes if it does not exist. Definitions of indexes, in `tests/formats/definitions`, are
//! tested by the search module.

#![allow(clippy::disallowed_methods, reason = "reads and writes the repository's own files")]

use engramdb_engine::data_dir;
use engramdb_engine::effect::{Cause, Effect, List};
use engramdb_engine::env::Disk;
use engramdb_engine::keyspace::{Entry, Keyspace, ValueRef};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::store::{self, Store, directory};
use std::fmt::Write;
use std::path::{Path, PathBuf};

mod types;

/// The format level that this version writes.
const CURRENT: &str = "v1";

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(version)
}

/// A disk with the frozen files on it, but for those whose path `left_out` picks.
fn disk_with(version: &str, left_out: impl Fn(&Path) -> bool) -> SimEnv {
    let sim = SimEnv::new(1);
    for part in [data_dir::LOG_DIRECTORY, data_dir::SNAPSHOT_DIRECTORY] {
        sim.env.disk.create_dir_all(&directory().join(part)).expect("an empty disk");
        for file in std::fs::read_dir(folder(version).join(part)).expect("a folder of the repository") {
            let path = file.expect("a readable folder").path();
            let target = directory().join(part).join(path.file_name().expect("a file has a name"));
            if !left_out(&target) {
                let bytes = std::fs::read(&path).expect("a readable file");
                sim.disk.create(&target).and_then(|file| file.write_at(&bytes, 0)).expect("an empty disk");
            }
        }
    }
    sim
}

/// All keys with values and expiries, sorted.
fn show(keyspace: &Keyspace) -> String {
    let mut lines = Vec::new();
    for (number, database) in keyspace.databases().iter().enumerate() {
        for entry in database.iter() {
            lines.push(format!("{number} {}", show_entry(entry)));
        }
    }
    lines.sort();
    lines.join("\n") + "\n"
}

fn show_entry(entry: &Entry) -> String {
    let mut text = format!("{} until {}:", entry.key().escape_ascii(), entry.expires_at_ms());
    match entry.value() {
        ValueRef::String(string) => _ = write!(text, " {}", string.to_bytes().escape_ascii()),
        ValueRef::Object(object) => _ = write!(text, " {object:?}"),
        ValueRef::Small(small) => _ = write!(text, " {small:?}"),
        ValueRef::Hash(hash) => {
            let show = |field: engramdb_engine::types::Field<'_>| {
                let value = field.value.to_bytes();
                format!(
                    "{}={} until {}",
                    field.name.escape_ascii(),
                    value.escape_ascii(),
                    field.expires_at_ms
                )
            };
            let mut fields: Vec<String> = hash.iter().map(show).collect();
            fields.sort();
            _ = write!(text, " {}", fields.join(", "));
        }
    }
    text
}

fn expected(version: &str) -> String {
    std::fs::read_to_string(folder(version).join("expected.txt")).expect("it was written with the others")
}

#[test]
fn a_directory_of_version_1_comes_back_from_snapshot_and_log() {
    let store = Store::open(disk_with("v1", |_| false)).expect("version 1 stays readable");
    assert_eq!(show(store.live.keyspace()), expected("v1"));
    assert!(store.report.snapshot.is_some() && store.report.batches > 0, "both were read: {}", store.report);
    assert!(store.report.clean);
}

#[test]
fn a_log_of_version_1_comes_back_alone() {
    let store = Store::open(disk_with("v1", |path| path.starts_with(store::snapshots())));
    let store = store.expect("version 1 stays readable");
    assert_eq!(show(store.live.keyspace()), expected("v1"));
    assert!(store.report.snapshot.is_none());
}

#[test]
fn what_is_written_today_is_the_current_format() {
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") && !folder(CURRENT).exists() {
        bless();
    }
    assert_eq!(show(written().live.keyspace()), expected(CURRENT));
}

/// A store with every effect in its log, some of them in a snapshot too.
fn written() -> Store {
    let mut store = Store::open(SimEnv::new(1)).expect("an empty disk");
    let key = &b"{a}key"[..];
    let fields = List::Arguments(&[b"name", b"value", b"\0\xff", b"", b"number", b"-17"]);
    let names = List::Arguments(&[b"name"]);
    store.write(0, Effect::StringSet { key: b"flushed", value: b"1", expires_at_ms: 0 });
    store.write(0, Effect::FlushAll);
    store.write(0, Effect::StringSet { key, value: b"first", expires_at_ms: 4_000_000_000_000 });
    store.write(0, Effect::StringAppend { key, suffix: b" and more" });
    store.write(0, Effect::StringWrite { key, offset: 20, content: b"far" });
    store.write(1, Effect::HashSet { key: b"hash", fields, keep_expiry: false });
    store.write(1, Effect::HashExpire { key: b"hash", fields: names, expires_at_ms: 4_000_000_000_001 });
    store.write(1, Effect::Expire { key: b"hash", expires_at_ms: 4_000_000_000_002 });
    store.write(2, Effect::StringSet { key: b"gone", value: b"2", expires_at_ms: 0 });
    store.write_some(10);
    store.snapshot(2).expect("nothing fails");
    store.write(0, Effect::Rename { key, to: b"{a}renamed" });
    store.write(0, Effect::Copy { key: b"{a}renamed", to: b"{a}copied", to_database: 3 });
    store.write(3, Effect::Move { key: b"{a}copied", to_database: 4 });
    store.write(2, Effect::Flush);
    store.write(0, Effect::SwapDatabases { first: 4, second: 5 });
    store.write(1, Effect::HashSet { key: b"hash", fields, keep_expiry: true });
    store.write(
        1,
        Effect::HashDelete { key: b"hash", fields: List::Arguments(&[b"number"]), cause: Cause::Expired },
    );
    store.write(0, Effect::StringSet { key: b"deleted", value: b"3", expires_at_ms: 0 });
    store.write(0, Effect::Delete { key: b"deleted", cause: Cause::Evicted });
    // Larger than an entry: it is logged in pieces.
    store.write(0, Effect::StringSet { key: b"large", value: &[b'x'; 10_000], expires_at_ms: 0 });
    store
}

/// Writes the files of a new format level.
fn bless() {
    freeze(CURRENT, written(), |store| show(store.live.keyspace()));
}

/// Writes a store's files into a folder of the repository.
fn freeze(name: &str, store: Store, show: impl Fn(&Store) -> String) {
    let (sim, text) = (store.sim.clone(), show(&store));
    store.pipeline.close().expect("nothing fails");
    for path in sim.disk.paths() {
        let inside = path.strip_prefix(directory()).expect("all files are in the data directory");
        // What a process keeps while it runs is no part of a format.
        if path.extension().is_none_or(|extension| extension == "reserve") && !path.ends_with("MANIFEST") {
            continue;
        }
        let target = folder(name).join(inside);
        std::fs::create_dir_all(target.parent().expect("it is in a folder")).expect("a writable repository");
        std::fs::write(target, sim.disk.bytes(&path).expect("it was listed")).expect("a writable repository");
    }
    std::fs::write(folder(name).join("expected.txt"), text).expect("a writable repository");
}
