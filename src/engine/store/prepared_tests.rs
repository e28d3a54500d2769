use super::*;
use crate::command::{Args, CommandTable, Stage};
use crate::commands;
use crate::env::{Clock, Env};
use crate::keyspace::ValueRef;
use crate::log::memory::MemoryLog;
use crate::log::{LogId, ShardLog};
use crate::shard::engine::Engine;
use crate::shard::engine::tests::{Between, Text, open, open_in, run, run_in_batch};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FIELDS: usize = 5000;
/// Looks that a walk over them takes.
const LOOKS: usize = FIELDS / 256;

fn memory_log() -> Arc<dyn ShardLog> {
    Arc::new(MemoryLog::new(LogId([7; 16])))
}

fn with_hash(log: &Arc<dyn ShardLog>) -> Engine {
    let engine = open(log);
    for start in (0..FIELDS).step_by(1000) {
        let pairs: Vec<String> = (start..start + 1000).map(|number| format!("f{number} v{number}")).collect();
        run(&engine, &format!("HSET h {}", pairs.join(" ")));
    }
    run(&engine, "HPEXPIREAT h 33333333333333 FIELDS 2 f3 f4");
    run(&engine, "HPEXPIRE h 1 FIELDS 1 f5");
    run(&engine, "PEXPIREAT h 33333333333333");
    engine
}

/// In the place of a look's number: a run comes.
const RUN: usize = usize::MAX;

/// Runs a write as the server does. Something happens before each look, with its number, and before each run.
/// Returns the reply, and the numbers of looks and of runs.
fn run_between(engine: &Engine, line: &str, between: &dyn Fn(usize)) -> (String, usize, usize) {
    let table = CommandTable::new(commands::FAMILIES.iter().copied());
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let command = table.resolve(Args::new(&words)).expect("a known command").command;
    let looks = Between { holds: engine.looks(0), count: Cell::new(0), between };
    let (mut prepared, mut runs) = (None, 0);
    loop {
        between(RUN);
        runs += 1;
        let mut reply = Text::default();
        let credit = engine.admit(1, command.batch_bytes_max(&words)).expect("there is room");
        let mut writes =
            engine.writes(credit).retaining(Retained { prepared: prepared.take(), room_bytes: 0 });
        let ran = writes.run(0, command, Args::new(&words), &mut reply);
        drop(writes);
        let Stage::Prepare(preparation) = ran.stage else { return (reply.0, looks.count.get(), runs) };
        assert_eq!(reply.0, "", "a command that runs again has not replied");
        prepared = Some(preparation.run(&looks, &|| true));
    }
}

/// All databases, fields that have expired included, and their expiries.
fn dump(engine: &Engine) -> Vec<String> {
    let reads = engine.inspect();
    let view = reads.view(0);
    let databases = view.whole_keyspace().databases().iter().enumerate();
    let lines = databases.flat_map(|(number, database)| {
        database.iter().map(move |entry| {
            let value = match entry.value() {
                ValueRef::Hash(hash) => {
                    let mut fields: Vec<String> = hash.iter().map(|field| format!("{field:?}")).collect();
                    fields.sort_unstable();
                    fields.concat()
                }
                ValueRef::String(string) => String::from_utf8_lossy(&string.to_bytes()).into_owned(),
                ValueRef::Object(object) => format!("{object:?}"),
                ValueRef::Small(small) => format!("{small:?}"),
            };
            format!("{number} {:?} {} {value}", entry.key().escape_ascii().to_string(), entry.expires_at_ms())
        })
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    lines
}

/// What the log gives is what is there.
fn assert_replays(log: &Arc<dyn ShardLog>, engine: Engine) {
    let before = dump(&engine);
    engine.close().expect("memory does not fail");
    assert!(dump(&open(log)) == before, "replay gives what was there");
}

#[test]
fn a_large_hash_is_copied_in_slices_and_a_small_one_at_once() {
    let log = memory_log();
    let engine = with_hash(&log);
    let before = engine.pipeline().last_lsn().0;
    let (reply, looks, runs) = run_between(&engine, "COPY h c", &|_| ());
    assert_eq!((reply.as_str(), runs), ("(integer) 1\n", 2));
    assert!(looks > LOOKS, "{looks} looks");
    assert_eq!(engine.pipeline().last_lsn().0, before + 1, "one batch");
    let all = dump(&engine);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].replacen("\"c\"", "\"h\"", 1), all[1]);
    run(&engine, "HSET small f v");
    for (line, reply, runs) in [
        ("COPY h c", "(integer) 0\n", 1),
        ("COPY absent c", "(integer) 0\n", 1),
        ("COPY small c REPLACE", "(integer) 1\n", 1),
        ("COPY h c DB 3", "(integer) 1\n", 2),
        ("COPY h c REPLACE", "(integer) 1\n", 2),
    ] {
        let (found, _, found_runs) = run_between(&engine, line, &|_| ());
        assert_eq!((found.as_str(), found_runs), (reply, runs), "{line}");
    }
    assert_eq!(run_in_batch(&engine, &[b"COPY", b"h", b"d"]), ["(integer) 1"], "EXEC makes it in place");
    for key in ["c", "d", "h"] {
        assert_eq!(run(&engine, &format!("DEL {key}")).0, "(integer) 1\n");
    }
    assert_replays(&log, engine);
}

#[test]
fn a_hash_that_is_written_to_without_a_pause_is_copied_under_the_lock_in_the_end() {
    let log = memory_log();
    let engine = with_hash(&log);
    let change = |look: usize| _ = run(&engine, &format!("HSET h f{} new{look} more{look} 1", look % 7));
    let (reply, looks, runs) = run_between(&engine, "COPY h c", &change);
    assert_eq!((reply.as_str(), runs), ("(integer) 1\n", 2));
    assert!(looks < 20, "{looks} looks");
    // Only between a walk's end and the next run.
    let count = Cell::new(0);
    let late = |look: usize| {
        if look == RUN {
            count.set(count.get() + 1);
            run(&engine, &format!("HSET h f{0} late{0}", count.get()));
        }
    };
    let (reply, _, runs) = run_between(&engine, "COPY h late", &late);
    assert_eq!((reply.as_str(), runs), ("(integer) 1\n", 4));
    let all = dump(&engine);
    assert_eq!(all[2].replacen("\"late\"", "\"h\"", 1), all[1]);
    assert_replays(&log, engine);
}

#[test]
fn writes_to_other_keys_do_not_disturb_a_copy() {
    let log = memory_log();
    let engine = with_hash(&log);
    let others = |look: usize| {
        // Enough keys to hit each place of the hazards.
        let pairs: Vec<String> = (0..10_000).map(|number| format!("k{look}:{number} 1")).collect();
        run(&engine, &format!("MSET {}", pairs.join(" ")));
    };
    let (reply, looks, runs) = run_between(&engine, "COPY h c", &others);
    assert_eq!((reply.as_str(), runs), ("(integer) 1\n", 2));
    assert!(looks < 2 * LOOKS, "{looks} looks");
}

/// Something that others do while a hash is copied.
fn disturbance(random: &mut SmallRng) -> String {
    let field = random.random_range(0..FIELDS);
    match random.random_range(0..22) {
        0..6 => format!("HSET h f{field} {}", random.random_range(0..9)),
        6..9 => format!("HDEL h f{field}"),
        9 => format!("HPEXPIREAT h 33333333333333 FIELDS 1 f{field}"),
        10 => format!("HPEXPIREAT h 1 FIELDS 1 f{field}"),
        11 => "HPEXPIRE h 1 FIELDS 2 f7 f8".to_owned(),
        12 => "RENAME h other".to_owned(),
        13 => "RENAME other h".to_owned(),
        14 => "DEL h".to_owned(),
        15 => "HSET c f v".to_owned(),
        16 => "PEXPIREAT h 1".to_owned(),
        17 => "PERSIST h".to_owned(),
        18 => "SWAPDB 0 1".to_owned(),
        19 => "FLUSHDB".to_owned(),
        20 => "SET h string".to_owned(),
        _ => "COPY other h REPLACE".to_owned(),
    }
}

/// After the copy the two are equal, whatever happened meanwhile, and the log gives the same: as if it had
/// been made at once at its end.
#[test]
fn a_copy_in_slices_is_the_copy_of_one_moment() {
    let mut outcomes = [0; 2];
    for seed in 0..100 {
        let mut random = SmallRng::seed_from_u64(seed);
        let count = random.random_range(0..8);
        let changes: Vec<(usize, String)> =
            (0..count).map(|_| (random.random_range(0..LOOKS + 5), disturbance(&mut random))).collect();
        let replace = random.random_bool(0.5);
        let log = memory_log();
        let engine = with_hash(&log);
        let has = |key: &str| run(&engine, &format!("EXISTS {key}")).0 == "(integer) 1\n";
        let had = Cell::new((false, false));
        let line = if replace { "COPY h c REPLACE" } else { "COPY h c" };
        let (reply, ..) = run_between(&engine, line, &|look| {
            let is_now = |at: usize| at == look || (look == RUN && at > LOOKS);
            changes.iter().filter(|(at, _)| is_now(*at)).for_each(|(_, line)| _ = run(&engine, line));
            had.set((has("h"), has("c")));
        });
        let (had_source, had_target) = had.get();
        let copies = had_source && (replace || !had_target);
        outcomes[usize::from(copies)] += 1;
        assert_eq!(reply, format!("(integer) {}\n", i32::from(copies)), "seed {seed}: {changes:?}");
        if copies {
            let shown = |key: &str| -> Vec<String> {
                let of_key = format!("0 {key:?} ");
                let lines = dump(&engine).into_iter();
                lines.filter_map(|line| line.strip_prefix(&of_key).map(str::to_owned)).collect()
            };
            assert!(shown("h") == shown("c"), "seed {seed}: {changes:?}");
        }
        assert_replays(&log, engine);
    }
    assert!(outcomes.iter().all(|&count| count > 5), "{outcomes:?}");
}

const LARGE: usize = 3 << 20;

fn shared(engine: &Engine, key: &[u8]) -> Arc<Vec<u8>> {
    let reads = engine.inspect();
    let string = reads.view(0).string(key).expect("a string").expect("it is there").shared().cloned();
    string.expect("it is large")
}

#[test]
fn a_large_string_is_copied_outside_the_lock_before_it_is_written_to() {
    let log = memory_log();
    let engine = open(&log);
    let mut content = "a".repeat(LARGE);
    run(&engine, &format!("SET s {content}"));
    let write = |line: &str, content: &mut String, runs: usize, change: &dyn Fn(&mut String)| {
        let referred = shared(&engine, b"s");
        let was = referred.to_vec();
        change(content);
        let (reply, _, found_runs) = run_between(&engine, line, &|_| ());
        assert_eq!((reply, found_runs), (format!("(integer) {}\n", content.len()), runs), "{line}");
        assert!(**shared(&engine, b"s") == *content.as_bytes(), "{line}");
        assert!(*referred == was, "what a reply refers to has not changed");
    };
    write("APPEND s end", &mut content, 2, &|content| content.push_str("end"));
    write("SETRANGE s 1 b", &mut content, 2, &|content| content.replace_range(1..2, "b"));
    write("SETRANGE s 4000000 z", &mut content, 2, &|content| {
        content.push_str(&"\0".repeat(4_000_000 - content.len()));
        content.push('z');
    });
    let append = |reply: usize, runs: usize| {
        let (found, _, found_runs) = run_between(&engine, "APPEND s +", &|_| ());
        assert_eq!((found, found_runs), (format!("(integer) {reply}\n"), runs));
    };
    append(4_000_002, 2);
    append(4_000_003, 1);
    // Changed between the copy and the run.
    let is_second = Cell::new(false);
    let late = |look: usize| {
        if look == RUN && is_second.replace(true) {
            run_in_batch(&engine, &[b"SET", b"s", b"short"]);
        }
    };
    let _referred = shared(&engine, b"s");
    assert_eq!(run_between(&engine, "APPEND s !", &late).0, "(integer) 6\n");
    assert_eq!(run(&engine, "GET s").0, "\"short!\"\n");
    run(&engine, "SETRANGE grown 5000000 x");
    assert_eq!(
        run_between(&engine, "SETRANGE zeros 5000000 x", &|_| ()),
        ("(integer) 5000001\n".into(), 1, 2)
    );
    assert!(shared(&engine, b"zeros") == shared(&engine, b"grown"));
    run(&engine, "SET few abc");
    assert_eq!(run_between(&engine, "SETRANGE few 5000000 x", &|_| ()).2, 2);
    assert_eq!(shared(&engine, b"few")[..4], *b"abc\0");
    assert_eq!(shared(&engine, b"grown").len(), 5_000_001);
    assert_eq!(shared(&engine, b"grown").iter().filter(|byte| **byte != 0).count(), 1);
    assert_replays(&log, engine);
}

/// A clock that goes on when the test has it do so.
struct Still(AtomicU64);

impl Clock for Still {
    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.wall_ms())
    }
}

/// The copy has what a string was. Where that expires before the command runs again, no effect tells its
/// watch, until the command itself logs the delete.
#[test]
fn a_write_does_not_bring_back_what_expired_after_it_was_copied() {
    let suffix = "x".repeat(LARGE);
    for (line, length) in [("SETRANGE s 4000000 x", 4_000_001), (&format!("APPEND s {suffix}"), LARGE)] {
        let clock = Arc::new(Still(AtomicU64::new(1_000_000)));
        let log = memory_log();
        let engine = open_in(Env { clock: clock.clone(), ..Env::system() }, &log);
        run(&engine, &format!("SET s {} PX 1000", "a".repeat(LARGE)));
        let _referred = shared(&engine, b"s");
        let is_second = Cell::new(false);
        let expire = |look: usize| {
            if look == RUN && is_second.replace(true) {
                clock.0.fetch_add(1000, Ordering::Relaxed);
            }
        };
        let (reply, looks, runs) = run_between(&engine, line, &expire);
        assert_eq!((reply, looks, runs), (format!("(integer) {length}\n"), 1, 2));
        let content = shared(&engine, b"s");
        assert_eq!((content.len(), content.contains(&b'a')), (length, false), "{:.20}", line);
        assert_replays(&log, engine);
    }
}

#[test]
fn an_append_of_nothing_copies_nothing() {
    let engine = open(&memory_log());
    run(&engine, &format!("SET s {}", "a".repeat(LARGE)));
    let _referred = shared(&engine, b"s");
    assert_eq!(run_between(&engine, "APPEND s ", &|_| ()), (format!("(integer) {LARGE}\n"), 0, 1));
}

/// Where a watch stays registered, each write looks whether it is of its key.
#[test]
fn a_copy_leaves_no_watch_behind() {
    let engine = with_hash(&memory_log());
    assert_eq!(run_between(&engine, "COPY h c", &|_| ()).2, 2);
    run(&engine, "SET other 1");
    assert_eq!(engine.inspect().view(0).hook.watched.keys(), 0);
}
