//! The effects of lists, sets, sorted sets, HyperLogLogs, streams and users, and values of these types in a
//! snapshot: `effects/v1.txt` has an effect in each line, encoded and as text; `types` is a data directory
//! whose log has all of them, a snapshot made before the last ones, and its content as text.

use super::{disk_with, expected, folder};
use engramdb_engine::effect::{Effect, List, Record, ScoredList};
use engramdb_engine::keyspace::{TypedValue, ValueRef};
use engramdb_engine::snapshot::digest::keyspace_digests;
use engramdb_engine::types::{ListEnd, ScoredMember, StreamId};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::store::{self, Store};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

const EFFECTS: &str = include_str!("effects/v1.txt");
const FOLDER: &str = "types";
/// How many of the effects are in the snapshot.
const BEFORE_SNAPSHOT: usize = 31;

const fn id(ms: u64, seq: u64) -> StreamId {
    StreamId { ms, seq }
}

/// An entry's first word: the ID, the larger parts first, and the number of pairs.
const ENTRY_HEAD: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0];
/// What is pending: the ID 2-1, delivered at 258 ms, three times.
const PENDING: &[u8] =
    &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
const ID_1_1: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
const ID_2_1: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];
const ID_3_1: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1];

/// All of them, in an order in which each fits.
fn effects() -> Vec<(u32, Effect<'static>)> {
    let mut effects = collections();
    effects.extend(streams());
    effects.extend(users());
    effects.extend(last_ones());
    effects
}

fn collections() -> Vec<(u32, Effect<'static>)> {
    const SCORES: &[ScoredMember<'static>] = &[
        ScoredMember { score: -0.5, member: b"" },
        ScoredMember { score: f64::INFINITY, member: b"\0\xff" },
        ScoredMember { score: 3_479_099_956_230_698.0, member: b"Palermo" },
        ScoredMember { score: 2.0, member: b"gone" },
        ScoredMember { score: 0.1, member: b"17" },
    ];
    let (list, set, zset) = (&b"{a}list"[..], &b"set"[..], &b"sorted set"[..]);
    let words = List::Arguments(&[b"one", b"", b"\0\xff", b"-17", b"one"]);
    let numbers = List::Arguments(&[b"1", b"-2", b"70000", b"9223372036854775807"]);
    vec![
        (0, Effect::ListPush { key: list, end: ListEnd::Back, elements: words }),
        (0, Effect::ListPush { key: list, end: ListEnd::Front, elements: numbers }),
        (0, Effect::ListPop { key: list, end: ListEnd::Back, count: 1 }),
        (0, Effect::ListSet { key: list, index: 1, element: b"set" }),
        (0, Effect::ListInsert { key: list, index: 0, element: b"inserted" }),
        (0, Effect::ListRemove { key: list, end: ListEnd::Back, count: 1, element: b"one" }),
        (0, Effect::ListTrim { key: list, start: 0, end: 5 }),
        (1, Effect::SetAdd { key: set, members: words }),
        (1, Effect::SetRemove { key: set, members: List::Arguments(&[b"one"]) }),
        (2, Effect::SetAdd { key: b"numbers", members: numbers }),
        (1, Effect::SortedSetAdd { key: zset, members: ScoredList::Pairs(SCORES) }),
        (1, Effect::SortedSetRemove { key: zset, members: List::Arguments(&[b"gone"]) }),
        (1, Effect::SortedSetRemoveRange { key: zset, first: 0, count: 1 }),
        (
            0,
            Effect::HyperLogLogRaise {
                key: b"hll",
                sparse_bytes_max: 3000,
                registers: b"\x01\0\x05\xff\x3f\x02",
            },
        ),
        (0, Effect::HyperLogLogRaise { key: b"dense", sparse_bytes_max: 0, registers: b"\x01\0\x05" }),
    ]
}

fn streams() -> Vec<(u32, Effect<'static>)> {
    let (key, group, consumer) = (&b"stream"[..], &b"group"[..], &b"alice"[..]);
    let pairs = List::Arguments(&[b"name", b"value", b"", b"\0\xff"]);
    let add = |ms, is_first| (0, Effect::StreamAdd { key, id: id(ms, 1), is_first, pairs });
    let entries = List::Arguments(&[ENTRY_HEAD, b"name", b""]);
    vec![
        add(1, true),
        add(2, false),
        add(3, false),
        add(4, true),
        (0, Effect::StreamEntries { key, is_first: true, entries }),
        (0, Effect::StreamHead { key, last_id: id(10, 0), max_deleted_id: id(0, 5), entries_added: 7 }),
        (0, Effect::StreamGroup { key, last_id: StreamId::ZERO, entries_read: -1, group }),
        (0, Effect::StreamGroup { key, last_id: id(1, 1), entries_read: 1, group: b"other" }),
        (
            0,
            Effect::StreamConsumer { key, group, seen_ms: 1_700_000_000_000, active_ms: 0, consumer: b"bob" },
        ),
        (
            0,
            Effect::StreamDeliver {
                key,
                group,
                consumer,
                last_id: id(2, 1),
                entries_read: 2,
                at_ms: 1_700_000_000_017,
                ids: &[
                    0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,
                    0, 1,
                ],
            },
        ),
        (0, Effect::StreamPending { key, group, pending: List::Arguments(&[b"bob", PENDING]) }),
        (0, Effect::StreamAcknowledge { key, group, ids: ID_1_1 }),
        (0, Effect::StreamDelete { key, references: true, is_trim: false, ids: ID_3_1 }),
    ]
}

fn users() -> Vec<(u32, Effect<'static>)> {
    vec![
        (0, Effect::UsersOwned),
        (0, Effect::UserSet { name: b"alice", rules: b"on nopass ~* &* +@all" }),
        (0, Effect::UserSet { name: b"\xc3\xbcser", rules: b"off resetchannels -@all" }),
    ]
}

/// After the snapshot.
fn last_ones() -> Vec<(u32, Effect<'static>)> {
    let (key, group) = (&b"stream"[..], &b"group"[..]);
    vec![
        (0, Effect::UserDelete { name: b"\xc3\xbcser" }),
        (0, Effect::StreamTrim { key, references: false, last: id(1, 1) }),
        (0, Effect::StreamDelete { key, references: false, is_trim: true, ids: ID_2_1 }),
        (0, Effect::StreamConsumerDelete { key, group, consumer: b"alice" }),
        (0, Effect::StreamGroupDelete { key, group: b"other" }),
        (0, Effect::ListPush { key: b"{a}list", end: ListEnd::Front, elements: List::Arguments(&[b"last"]) }),
        (2, Effect::Rename { key: b"numbers", to: b"renamed" }),
        (0, Effect::Copy { key, to: b"copy", to_database: 3 }),
        (0, Effect::Expire { key: b"hll", expires_at_ms: 4_000_000_000_000 }),
    ]
}

fn written() -> Store {
    let mut store = Store::open(SimEnv::new(1)).expect("an empty disk");
    for (number, (database, effect)) in effects().into_iter().enumerate() {
        if number == BEFORE_SNAPSHOT {
            store.snapshot(2).expect("nothing fails");
        }
        store.write(database, effect);
    }
    store
}

/// Keys with what builds them, their digests, and users. How values lie in memory is no part of it.
fn show_all(store: &Store) -> String {
    let keyspace = store.live.keyspace();
    let mut lines = Vec::new();
    for (number, database) in keyspace.databases().iter().enumerate() {
        for entry in database.iter() {
            let start = format!("{number} {} until {}", entry.key().escape_ascii(), entry.expires_at_ms());
            match entry.value() {
                ValueRef::Object(object) => show_object(&start, object, &mut lines),
                ValueRef::Small(small) => show_object(&start, &*small.unpack(), &mut lines),
                ValueRef::String(string) => lines.push(format!("{start} string of {} bytes", string.len())),
                ValueRef::Hash(hash) => lines.push(format!("{start} hash of {}", hash.len())),
            }
        }
    }
    // Effects of one value stay in their order.
    lines.sort_by_key(|line| line.split(" until ").next().map(str::to_owned));
    let mut text = lines.join("\n");
    _ = write!(text, "\ndigests {:?}\n", keyspace_digests(keyspace));
    let users = store.live.users();
    _ = writeln!(text, "owned {}", users.is_owned());
    for (name, rules) in users.iter() {
        _ = writeln!(text, "user {} {}", name.escape_ascii(), rules.escape_ascii());
    }
    text
}

fn show_object(start: &str, object: &dyn TypedValue, lines: &mut Vec<String>) {
    let mut cursor = 0;
    loop {
        let next = object.save(b"", cursor, &mut |effect| {
            lines.push(format!("{start} {effect}"));
            Ok(())
        });
        cursor = next.expect("memory does not fail");
        if cursor == 0 {
            return;
        }
    }
}

fn line(database: u32, effect: Effect<'_>) -> String {
    let mut bytes = Vec::new();
    effect.encode(database, &mut bytes);
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits} {}\n", Record { database, effect })
}

fn bytes_of(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits");
    (0..digits.len()).step_by(2).map(digit).collect()
}

#[test]
fn effects_of_version_1_stay_readable() {
    let mut kinds = BTreeSet::new();
    for line in EFFECTS.lines() {
        let (digits, text) = line.split_once(' ').expect("an effect and its text");
        let bytes = bytes_of(digits);
        let (record, rest) = Record::decode(&bytes).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(rest.is_empty());
        assert_eq!(record.to_string(), text);
        let mut again = Vec::new();
        record.effect.encode(record.database, &mut again);
        assert_eq!(again, bytes, "{line}");
        kinds.insert(bytes[4]);
    }
    let wanted = (15..=38).chain(46..=48);
    assert!(wanted.into_iter().all(|kind| kinds.contains(&kind)), "each kind has an example: {kinds:?}");
}

#[test]
fn effects_are_written_so_today() {
    let lines: String = effects().into_iter().map(|(database, effect)| line(database, effect)).collect();
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") && EFFECTS.is_empty() {
        std::fs::write(folder("effects").join("v1.txt"), &lines).expect("a writable repository");
        return;
    }
    assert_eq!(lines, EFFECTS);
}

#[test]
fn a_directory_with_every_type_comes_back_from_snapshot_and_log() {
    let store = Store::open(disk_with(FOLDER, |_| false)).expect("it stays readable");
    assert_eq!(show_all(&store), expected(FOLDER));
    assert!(store.report.snapshot.is_some() && store.report.batches > 0, "both were read: {}", store.report);
}

#[test]
fn a_log_with_every_type_comes_back_alone() {
    let store = Store::open(disk_with(FOLDER, |path: &Path| path.starts_with(store::snapshots())));
    let store = store.expect("it stays readable");
    assert_eq!(show_all(&store), expected(FOLDER));
    assert!(store.report.snapshot.is_none());
}

#[test]
fn values_and_users_are_these_today() {
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") && !folder(FOLDER).exists() {
        super::freeze(FOLDER, written(), show_all);
    }
    assert_eq!(show_all(&written()), expected(FOLDER));
}
