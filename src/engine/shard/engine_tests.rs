use super::*;
use crate::command::{Args, Command, CommandError, CommandTable, Looks, Stage};
use crate::commands;
use crate::log::LogId;
use crate::log::memory::MemoryLog;
use crate::log::pipeline::Options;
use crate::log::replay::{Checkpoint, Replay};
use crate::recovery::Recovering;
use crate::shard::run::Transaction;
use crate::store::view::View;
use crate::table::tests::hashed_keys;
use std::collections::BTreeSet;

/// Replies as text, one a line.
#[derive(Default)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }
}

impl Reply for Text {
    fn is_resp3(&self) -> bool {
        true
    }
    fn simple(&mut self, text: &str) {
        self.line(text);
    }
    fn error(&mut self, error: &CommandError) {
        self.line(&format!("-{error}"));
    }
    fn integer(&mut self, value: i64) {
        self.line(&format!("(integer) {value}"));
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.line(&format!("{:?}", String::from_utf8_lossy(bytes)));
    }
    fn null(&mut self) {
        self.line("(nil)");
    }
    fn null_array(&mut self) {
        self.line("(nil)");
    }
    fn array(&mut self, elements: usize) {
        self.line(&format!("array {elements}"));
    }
    fn map(&mut self, pairs: usize) {
        self.line(&format!("map {pairs}"));
    }
    fn set(&mut self, elements: usize) {
        self.line(&format!("set {elements}"));
    }
    fn push(&mut self, elements: usize) {
        self.line(&format!("push {elements}"));
    }
    fn double(&mut self, value: f64) {
        self.line(&format!("(double) {value}"));
    }
    fn boolean(&mut self, value: bool) {
        self.line(&format!("({value})"));
    }
    fn verbatim(&mut self, _format: &str, text: &[u8]) {
        self.bulk(text);
    }
    fn mark(&self) -> usize {
        self.0.len()
    }
    fn rewind(&mut self, mark: usize) {
        self.0.truncate(mark);
    }
}

pub(crate) fn open(log: &Arc<dyn ShardLog>) -> Engine {
    open_in(Env::system(), log)
}

pub(crate) fn open_in(env: Env, log: &Arc<dyn ShardLog>) -> Engine {
    let mut recovering = Recovering::new(env, 16, Vec::new());
    let recovered = recovering.replay(&**log, Checkpoint::default(), |_| ()).expect("the log is whole");
    let (engine, _) =
        recovering.start(log.clone(), &recovered, Options::default()).expect("nobody else claims it");
    engine
}

pub(crate) fn run(engine: &Engine, line: &str) -> (String, Lsn) {
    let table = CommandTable::new(commands::FAMILIES.iter().copied());
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let args = Args::new(&words);
    let mut reply = Text::default();
    let known = match table.resolve(args) {
        Ok(known) => known,
        Err(error) => return (format!("-{error}\n"), Lsn(0)),
    };
    // More than any of these lines needs beyond its words.
    let room_bytes = if known.command.room.is_some() { 1 << 20 } else { 0 };
    let bytes = known.command.batch_bytes_max(&words) + room_bytes;
    let credit = engine.admit(1, bytes).expect("there is room");
    let ran = engine.writes(credit).with_room(room_bytes).run(0, known.command, args, &mut reply);
    (reply.0, ran.gate)
}

#[test]
fn what_was_written_comes_back_from_the_log() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let engine = open(&log);
    assert_eq!(run(&engine, "SET a 1"), ("OK\n".into(), Lsn(1)));
    assert_eq!(run(&engine, "get a"), ("\"1\"\n".into(), Lsn(1)), "a read waits for the write that it shows");
    assert_eq!(run(&engine, "GET b").0, "(nil)\n");
    assert_eq!(run(&engine, "GET").0, "-ERR wrong number of arguments for 'get' command\n");
    assert_eq!(run(&engine, "NOPE x").0, "-ERR unknown command 'NOPE', with args beginning with: 'x' \n");
    engine.pipeline().wait(Lsn(1)).expect("memory does not fail");
    engine.close().expect("memory does not fail");
    let engine = open(&log);
    assert_eq!(run(&engine, "GET a").0, "\"1\"\n");
    assert_eq!(run(&engine, "SET a 2").1, Lsn(2));
}

#[test]
fn a_transaction_is_one_batch_and_a_dirty_watch_names_the_change() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let engine = open(&log);
    let watch = Watch::new();
    engine.watch(&watch, 0, &[b"a"]);
    assert_eq!(run(&engine, "SET b 1").1, Lsn(1));
    let set = |transaction: &mut Transaction<'_>, words: &[&[u8]]| {
        let table = CommandTable::new(commands::FAMILIES.iter().copied());
        let command = table.get(words[0]).expect("SET is known").command;
        transaction.run(0, command, Args::new(words), &mut Text::default());
    };
    {
        let mut run = engine.writes(engine.admit(1, 1000).expect("there is room"));
        let mut transaction = run.transaction();
        assert!(!transaction.is_dirty(&watch), "another key");
        set(&mut transaction, &[b"SET", b"a", b"1"]);
        set(&mut transaction, &[b"SET", b"c", b"1"]);
        assert_eq!(transaction.finish(), Lsn(2));
    }
    let mut run = engine.writes(engine.admit(1, 1000).expect("there is room"));
    let mut transaction = run.transaction();
    assert!(transaction.is_dirty(&watch));
    assert_eq!(transaction.finish(), Lsn(2), "the nil waits for the batch that dirtied the watch");
}

#[test]
fn a_flush_dirties_the_watches_of_what_was_there() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let engine = open(&log);
    run(&engine, "SET there 1");
    for flush in ["FLUSHDB", "FLUSHALL"] {
        run(&engine, "SET there 1");
        let watches = [Watch::new(), Watch::new()];
        engine.watch(&watches[0], 0, &[b"there"]);
        engine.watch(&watches[1], 0, &[b"absent"]);
        run(&engine, flush);
        let is_dirty = |watch: &Arc<Watch>| {
            let mut run = engine.writes(engine.admit(1, 1000).expect("there is room"));
            let mut transaction = run.transaction();
            let dirty = transaction.is_dirty(watch);
            transaction.finish();
            dirty
        };
        assert_eq!(watches.each_ref().map(is_dirty), [true, false], "{flush}");
        run(&engine, "SET absent 1");
        assert!(is_dirty(&watches[1]), "still registered");
        run(&engine, "DEL absent");
    }
}

/// Looks that something happens before, and that are counted.
pub(crate) struct Between<'e> {
    pub(crate) holds: Holds<'e>,
    pub(crate) count: Cell<usize>,
    pub(crate) between: &'e dyn Fn(usize),
}

impl Looks for Between<'_> {
    fn look(&self, with: &mut dyn FnMut(&View<'_>)) {
        (self.between)(self.count.get());
        self.count.set(self.count.get() + 1);
        self.holds.look(with);
    }

    fn room(&self) -> usize {
        usize::MAX
    }
}

/// Runs a command that comes back with a job. Something happens before each look, the last one included.
/// Returns the lines of the reply and the number of looks.
fn run_between(engine: &Engine, words: &[&[u8]], between: &dyn Fn(usize)) -> (Vec<String>, usize) {
    let table = CommandTable::new(commands::FAMILIES.iter().copied());
    let args = Args::new(words);
    let known = table.resolve(args).expect("a known command");
    let mut reply = Text::default();
    let ran = engine.reads().expect("it serves").run(0, known.command, args, &mut reply);
    let Stage::Copy(job) = ran.stage else { panic!("{} is done at once: {}", known.full_name, reply.0) };
    let looks = Between { holds: engine.looks(0), count: Cell::new(0), between };
    let finish = job(&looks);
    (looks.between)(looks.count.get());
    engine.finish(0, finish, &mut reply);
    (reply.0.lines().map(str::to_owned).collect(), looks.count.get() + 1)
}

const FIELDS: usize = 20_000;

/// A hash `h` of many fields, and as many keys.
fn with_much() -> Engine {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let engine = open(&log);
    for start in (0..FIELDS).step_by(1000) {
        let numbers = start..start + 1000;
        let pairs: Vec<String> = numbers.clone().map(|number| format!("f{number} v{number}")).collect();
        run(&engine, &format!("HSET h {}", pairs.join(" ")));
        let pairs: Vec<String> = numbers.map(|number| format!("k{number} {number}")).collect();
        run(&engine, &format!("MSET {}", pairs.join(" ")));
    }
    engine
}

fn words(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

#[test]
fn much_is_read_a_slice_at_a_time() {
    let engine = with_much();
    run(&engine, "HPEXPIRE h 100000000 FIELDS 1 f7");
    run(&engine, "SETRANGE long 5000 x");
    for (line, items, lines) in [
        ("HGETALL h", FIELDS, 2 * FIELDS + 1),
        ("HKEYS h", FIELDS, FIELDS + 1),
        ("HVALS h", FIELDS, FIELDS + 1),
        ("HLEN h", FIELDS, 1),
        ("HRANDFIELD h -50000", FIELDS, 50_001),
        ("HRANDFIELD h -5000 WITHVALUES", FIELDS, 15_001),
        ("HRANDFIELD h 15000", FIELDS, 15_001),
        ("HRANDFIELD h 10", FIELDS, 11),
        ("HSCAN h 0 COUNT 1000000", FIELDS, 2 * FIELDS + 3),
        ("HSCAN h 0 COUNT 10000 NOVALUES", 10_000, 10_003),
        ("MEMORY USAGE h", FIELDS, 1),
        ("KEYS *", FIELDS, FIELDS + 3),
        ("KEYS k1*", FIELDS, 11_112),
        ("SCAN 0 COUNT 1000000", FIELDS, FIELDS + 5),
        ("SCAN 0 MATCH k7 COUNT 1000000", FIELDS, 4),
        ("LCS long long LEN", 0, 1),
    ] {
        let words = words(line);
        let (reply, looks) = run_between(&engine, &words, &|_| ());
        assert!(looks > items / 256, "{line}: {looks} looks");
        assert_eq!(reply.len(), lines, "{line}");
        if !line.starts_with("HRANDFIELD") {
            let at_once: Vec<String> = run_in_batch(&engine, &words);
            assert!(reply == at_once, "{line} is the same in a transaction");
        }
    }
    let (reply, _) = run_between(&engine, &words("HRANDFIELD h 15000"), &|_| ());
    let distinct: std::collections::HashSet<&String> = reply.iter().collect();
    assert_eq!(distinct.len(), 15_001, "no field comes twice");
}

/// The reply as EXEC gives it.
pub(crate) fn run_in_batch(engine: &Engine, words: &[&[u8]]) -> Vec<String> {
    let table = CommandTable::new(commands::FAMILIES.iter().copied());
    let args = Args::new(words);
    let mut reply = Text::default();
    let mut batch = engine.writes(engine.admit(1, 100).expect("there is room"));
    let mut transaction = batch.transaction();
    transaction.run(0, table.resolve(args).expect("known").command, args, &mut reply);
    transaction.finish();
    reply.0.lines().map(str::to_owned).collect()
}

#[test]
fn a_hash_that_changes_between_two_looks_is_read_as_it_is_in_the_end() {
    let engine = with_much();
    for line in ["HGETALL h", "HKEYS h", "HVALS h"] {
        // Once, now and then, and each time.
        for every in [1000, 30, 1] {
            let change = |look: usize| {
                if look % every == every.min(5) % every {
                    run(&engine, &format!("HSET h f{look} new{look} more{look} {look}"));
                    run(&engine, &format!("HDEL h f{}", 2 * look + 1));
                }
            };
            let words = words(line);
            let (reply, _) = run_between(&engine, &words, &change);
            // The last change came before the last look, at which nothing is read any more where the walk was
            // over.
            let known = |look: usize| format!("new{look}");
            assert!(line == "HKEYS h" || every > 1 || reply.iter().any(|line| line.contains(&known(0))));
            let count = reply.len() - 1;
            let header = reply[0].split(' ').next_back().and_then(|count| count.parse::<usize>().ok());
            assert_eq!(count, header.expect("a number") * if line == "HGETALL h" { 2 } else { 1 });
            let quiet = run_between(&engine, &words, &|_| ()).0;
            if every > 1 {
                assert!(sorted(reply) == sorted(quiet), "{line} {every}");
            }
        }
    }
    let removed = |look: usize| {
        if look == 20 {
            run(&engine, "RENAME h other");
        }
    };
    assert_eq!(run_between(&engine, &words("HGETALL h"), &removed).0, ["map 0"]);
    let replaced = |look: usize| {
        if look == 20 {
            run(&engine, "SET other string");
        }
    };
    let (reply, _) = run_between(&engine, &words("HGETALL other"), &replaced);
    assert_eq!(reply, ["-WRONGTYPE Operation against a key holding the wrong kind of value"]);
}

#[test]
fn keys_that_change_between_two_looks_are_shown_as_they_are_in_the_end() {
    let engine = with_much();
    for (changes, line) in [(1, "KEYS *"), (50, "KEYS *"), (10, "KEYS k*7")] {
        let change = |look: usize| {
            for number in 0..changes {
                let number = (look * 7919 + number * 13) % FIELDS;
                run(&engine, &format!("DEL k{number}"));
                run(&engine, &format!("RENAME k{} k{number}a7", (number + 1) % FIELDS));
                run(&engine, &format!("SET new{number} 1"));
                run(&engine, &format!("PEXPIREAT k{} 1", (number + 2) % FIELDS));
            }
        };
        let (reply, _) = run_between(&engine, &words(line), &change);
        assert!(sorted(reply) == sorted(run_between(&engine, &words(line), &|_| ()).0), "{changes} {line}");
    }
    let flush = |look: usize| {
        if look == 3 {
            run(&engine, "FLUSHALL");
            run(&engine, "SET alone 1");
        }
    };
    assert_eq!(run_between(&engine, &words("KEYS *"), &flush).0, ["array 1", "\"alone\""]);
}

#[test]
fn expired_fields_are_deleted_a_part_at_a_time() {
    let engine = with_much();
    run(&engine, "HSET h stays 1");
    for start in (0..FIELDS).step_by(1000) {
        let names: Vec<String> = (start..start + 1000).map(|number| format!("f{number}")).collect();
        run(&engine, &format!("HPEXPIRE h 1 FIELDS 1000 {}", names.join(" ")));
    }
    let stored = || {
        let run = engine.inspect();
        let view = run.view(0);
        view.hash(b"h").expect("a hash").expect("one field stays").stored()
    };
    while run_in_batch(&engine, &[b"HLEN", b"h"]) != ["(integer) 1"] {}
    let (mut before, mut steps) = (stored(), 0);
    while before > 1 {
        // What is due is looked at when its second is over.
        if engine.expire_due(7).expect("there is room") > 0 {
            let now = stored();
            assert!(before - now <= 1000, "{} fields in one hold", before - now);
            steps += usize::from(now < before);
            before = now;
        }
    }
    assert!(steps <= FIELDS / 1000 + 1, "{steps} steps");
    assert_eq!(engine.expired().fields.load(Ordering::Relaxed), FIELDS as u64);
    assert_eq!(engine.expired().keys.load(Ordering::Relaxed), 0);
}

#[test]
fn each_field_is_looked_at_once_while_expired_ones_are_deleted() {
    let engine = with_much();
    let names = |start: usize| {
        let names: Vec<String> = (start..start + 1000).map(|number| format!("f{number}")).collect();
        names.join(" ")
    };
    for start in (0..FIELDS).step_by(2000) {
        run(&engine, &format!("HPEXPIRE h 1 FIELDS 1000 {}", names(start)));
        run(&engine, &format!("HPEXPIRE h 1000000 FIELDS 1000 {}", names(start + 1000)));
    }
    let left = || run_in_batch(&engine, &[b"HLEN", b"h"]);
    let half = [format!("(integer) {}", FIELDS / 2)];
    while left() != half {}
    let is_over = || engine.expired().fields.load(Ordering::Relaxed) == FIELDS as u64 / 2;
    while !is_over() {
        engine.expire_due(7).expect("there is room");
    }
    while engine.expire_due(7).expect("there is room") > 0 {}
    let looked_at = engine.expired().looked_at.load(Ordering::Relaxed);
    assert!(looked_at <= 2 * FIELDS as u64, "{looked_at} of {FIELDS}");
    assert_eq!(left(), half);
}

/// A look reads the hazard and the entry of its key, a change writes both.
#[test]
fn a_key_is_hashed_once_for_a_look_and_once_for_a_change() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let engine = open(&log);
    let hashed = |line: &str| {
        let before = hashed_keys();
        run(&engine, line);
        hashed_keys() - before
    };
    assert_eq!(["SET a 1", "SET a 2", "GET a", "APPEND a 3"].map(hashed), [1, 1, 1, 2]);
    assert_eq!(["INCR a", "HSET h f 1", "HSET h f 2", "DEL a"].map(hashed), [2; 4]);
}

/// A line with words of 5000 bytes for these letters, which stand for keys (K, L), fields (F, G) and values
/// (V, W).
fn with_large_words(line: &str, letters: &str) -> String {
    let large = |word: &str| match word {
        "K" | "L" | "F" | "G" | "V" | "W" if letters.contains(word) => word.to_lowercase().repeat(5000),
        word => word.to_owned(),
    };
    line.split(' ').map(large).collect::<Vec<_>>().join(" ")
}

/// What the keys are before a command; after a millisecond.
const BEFORE: [&[&str]; 19] = [
    &[],
    &["SET K 1 PX 100000000", "SET L 1"],
    &["SET K 1 PX 1", "SET L 1 PX 1"],
    &["HSET K F 1 G 1 stays 1", "HPEXPIRE K 100000000 FIELDS 2 F G"],
    &["HSET K F 1 G 1 stays 1", "HPEXPIRE K 1 FIELDS 2 F G", "SET L 1 PX 1"],
    &["HSET K F 1 G 1", "HPEXPIRE K 1 FIELDS 2 F G"],
    &["HSET K F 1 G 1", "PEXPIRE K 1", "SET L 1 PX 1"],
    &["RPUSH K F G 1 2", "RPUSH L 1"],
    &["RPUSH K F G 1 2", "SET L 1 PX 1"],
    &["RPUSH K F G 1 2", "PEXPIRE K 1"],
    &["SET K 1", "SET L 1 PX 1"],
    &["SADD K F"],
    &["SADD K F", "SET L 1 PX 1"],
    &["SADD K F G 1 2", "SADD L 1 F"],
    &["SADD K F G 1 2", "SET L 1 PX 1"],
    &["ZADD K 1 F 2 G 3 1", "ZADD L 1 F"],
    &["GEOADD K 1 1 F 2 2 G", "SET L 1 PX 1"],
    &["PFADD K 1 2", "PFADD L 3"],
    &[
        "XADD K 1-1 F 1",
        "XADD K 2-1 F 1",
        "XGROUP CREATE K F 0",
        "XREADGROUP GROUP F G STREAMS K >",
        "XADD K 3-1 F 1",
        "XDEL K 1-1",
    ],
];

const WRITES: &[&str] = &[
    "APPEND K V",
    "DECR K",
    "DECRBY K 2",
    "GETDEL K",
    "GETEX K PX 100000",
    "GETEX K PERSIST",
    "GETEX K PXAT 1",
    "GETSET K V",
    "INCR K",
    "INCRBY K 5",
    "INCRBYFLOAT K 1.5",
    "MSET K V L W",
    "MSET K V K W",
    "MSETNX K V L W",
    "PSETEX K 100000 V",
    "SET K V",
    "SET K V KEEPTTL",
    "SET K V PX 100000 GET",
    "SET K V PXAT 1",
    "SET K V XX GET",
    "SETEX K 100 V",
    "SETNX K V",
    "SETRANGE K 3 V",
    "COPY K L REPLACE",
    "COPY K L DB 1 REPLACE",
    "DEL K L",
    "DEL K K",
    "UNLINK K L",
    "FLUSHALL",
    "FLUSHDB",
    "MOVE K 1",
    "RENAME K L",
    "RENAMENX K L",
    "SWAPDB 0 1",
    "EXPIRE K 100",
    "EXPIREAT K 33333333333",
    "PEXPIRE K 100000",
    "PEXPIREAT K 33333333333333",
    "PEXPIREAT K 1",
    "PERSIST K",
    "HDEL K F G",
    "HDEL K F F",
    "HINCRBY K F 1",
    "HINCRBYFLOAT K F 1.5",
    "HMSET K F V G W",
    "HSET K F V G W",
    "HSET K F V F W",
    "HSETNX K F V",
    "HEXPIRE K 100 FIELDS 2 F G",
    "HEXPIREAT K 33333333333 FIELDS 2 F G",
    "HGETDEL K FIELDS 2 F G",
    "HGETEX K PX 100000 FIELDS 2 F G",
    "HGETEX K PXAT 1 FIELDS 2 F G",
    "HPERSIST K FIELDS 2 F G",
    "HPEXPIRE K 100000 FIELDS 2 F G",
    "HPEXPIREAT K 33333333333333 FIELDS 2 F G",
    "HPEXPIREAT K 1 FIELDS 2 F G",
    "HSETEX K PX 100000 FIELDS 2 F V G W",
    "HSETEX K PXAT 1 FIELDS 2 F V G W",
    "HSETEX K KEEPTTL FIELDS 2 F V F W",
    "DELEX K",
    "DELEX K IFEQ 1",
    "DELIFEQ K 1",
    "INCREX K BYINT 5 EX 100",
    "MSETEX 2 K V L W",
    "MSETEX 2 K V L W PX 100000",
    "SET K V IFEQ 1",
    "SET K V IFNE W GET",
    "BLMOVE K L LEFT RIGHT 1",
    "BLMPOP 1 2 L K LEFT COUNT 3",
    "BLPOP L K 1",
    "BRPOP K L 1",
    "BRPOPLPUSH K L 1",
    "LINSERT K BEFORE 1 V",
    "LMOVE K L LEFT LEFT",
    "LMOVE K K LEFT RIGHT",
    "LMPOP 2 L K RIGHT COUNT 3",
    "LPOP K 2",
    "LPUSH K V W",
    "LPUSHX K V W",
    "LREM K 0 F",
    "LSET K 0 V",
    "LTRIM K 1 2",
    "RPOP K",
    "RPOPLPUSH K L",
    "RPUSH K V W",
    "RPUSHX K V W",
    "SADD K V W",
    "SDIFFSTORE L K",
    "SINTERSTORE L K K",
    "SMOVE K L F",
    "SPOP K",
    "SPOP K 2",
    "SPOP K 10",
    "SREM K F G",
    "SUNIONSTORE L K L",
    "SORT K ALPHA STORE L",
    "BITFIELD K SET u8 0 1",
    "BITOP NOT L K",
    "SETBIT K 7 1",
    "PFADD K V W",
    "PFDEBUG TODENSE K",
    "PFMERGE L K",
    "BZMPOP 1 1 K MIN",
    "BZPOPMAX K 1",
    "BZPOPMIN K 1",
    "ZADD K 1 F 2 V",
    "ZDIFFSTORE L 1 K",
    "ZINCRBY K 1 F",
    "ZINTERSTORE L 1 K",
    "ZMPOP 1 K MIN",
    "ZPOPMAX K",
    "ZPOPMIN K 2",
    "ZRANGESTORE L K 0 -1",
    "ZREM K F G",
    "ZREMRANGEBYLEX K - +",
    "ZREMRANGEBYRANK K 0 1",
    "ZREMRANGEBYSCORE K 0 5",
    "XACK K F 1-1 2-1",
    "XACKDEL K F IDS 1 1-1",
    "XDEL K 2-1",
    "XDELEX K IDS 1 2-1",
    "XSETID K 9-9",
    "XADD K 9-9 F V",
    "XADD K MAXLEN 1 9-9 F V G W",
    "XADD K ACKED MINID 9 9-9 F V",
    "XTRIM K MAXLEN 1",
    "XTRIM K MINID 9 ACKED",
    "XTRIM K MAXLEN 0 DELREF",
    "XAUTOCLAIM K F V 0 0",
    "XCLAIM K F V 0 1-1 2-1 3-1 LASTID 7-7",
    "XCLAIM K F V 0 1-1 2-1 3-1 FORCE LASTID 7-7",
    "XREADGROUP GROUP F V STREAMS K >",
    "XREADGROUP GROUP F G STREAMS K 0",
    "XREADGROUP GROUP F V STREAMS K K > >",
    "XGROUP CREATE K V 0 MKSTREAM",
    "XGROUP CREATECONSUMER K F V",
    "XGROUP DELCONSUMER K F G",
    "XGROUP DESTROY K F",
    "XGROUP SETID K F 0",
    "ZUNIONSTORE L 1 K",
    "GEOADD K 1 1 F 2 2 V",
    "GEORADIUS K 0 0 10000 km STORE L",
    "GEORADIUSBYMEMBER K F 10000 km STORE L",
    "GEOSEARCHSTORE L K FROMLONLAT 0 0 BYRADIUS 20000 km",
];

fn row_of(line: &str) -> Command {
    let table = CommandTable::new(commands::FAMILIES.iter().copied());
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    *table.resolve(Args::new(&words)).unwrap_or_else(|error| panic!("{line}: {error}")).command
}

fn bytes_max(row: &Command, line: &str) -> usize {
    row.batch_bytes_max(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// Runs a write with the room that it asks for, and returns that: the bytes beyond what its words show.
fn run_with_its_room(engine: &Engine, line: &str) -> usize {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let (row, mut room_bytes) = (row_of(line), 0);
    loop {
        let credit = engine.admit(1, row.batch_bytes_max(&words) + room_bytes).expect("there is room");
        let mut run = engine.writes(credit).with_room(room_bytes);
        match run.run(0, &row, Args::new(&words), &mut Text::default()).stage {
            Stage::NeedsRoom(bytes) if bytes > room_bytes => room_bytes = bytes,
            _ => return room_bytes,
        }
    }
}

/// A write that logged something: its batch, the text for a failure, its line, and the room it asked for.
type Written = (Lsn, String, &'static str, usize);

/// Runs each write in each state. Returns those that logged something.
fn run_all_writes(engine: &Engine, letters: &str) -> Vec<Written> {
    let mut written = Vec::new();
    for (before, line) in BEFORE.iter().flat_map(|before| WRITES.iter().map(move |line| (before, line))) {
        run(engine, "FLUSHALL");
        before.iter().for_each(|line| _ = run(engine, &with_large_words(line, letters)));
        let now_ms = engine.now_ms();
        while engine.now_ms() <= now_ms + 1 {}
        let last = engine.pipeline().last_lsn();
        let room_bytes = run_with_its_room(engine, &with_large_words(line, letters));
        if engine.pipeline().last_lsn() > last {
            let text = format!("{line} after {before:?}, {letters} large");
            written.push((last.next(), text, *line, room_bytes));
        }
    }
    written
}

#[test]
fn no_command_logs_more_than_its_row_says() {
    let mut names = BTreeSet::new();
    let mut full = BTreeSet::new();
    for letters in ["KLFGVW", "LFG", "VW"] {
        let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
        let engine = open(&log);
        let written = run_all_writes(&engine, letters);
        engine.close().expect("memory does not fail");
        let mut replay = Replay::new(&*log, Checkpoint::default());
        let mut rest = written.iter().peekable();
        while let Some(batch) = replay.next().expect("the log is whole") {
            let Some((_, text, line, room_bytes)) = rest.next_if(|(lsn, ..)| *lsn == batch.lsn) else {
                continue;
            };
            let (bytes, large, row) = (batch.bytes.len(), with_large_words(line, letters), row_of(line));
            names.insert(row.name);
            let most = bytes_max(&row, &large) + room_bytes;
            assert!(bytes <= most, "{text}: {bytes} of {most} bytes");
            if row.room.is_none()
                && bytes > bytes_max(&Command { word_times: row.word_times - 1, ..row }, &large)
            {
                full.insert(row.name);
            }
        }
        assert!(rest.next().is_none(), "all batches were seen");
    }
    let writes = commands::FAMILIES.iter().copied().flatten();
    // The payload of RESTORE is not in these lines.
    for row in writes.filter(|row| row.is_write() && row.name != "RESTORE") {
        assert!(names.contains(row.name), "{} has written nothing", row.name);
    }
    // With a lower number in these rows, the test fails.
    for name in ["SET", "APPEND", "MSET", "HSET", "HSETEX"] {
        assert!(full.contains(name), "{name} logs as much as its row says: {full:?}");
    }
}

#[test]
fn a_large_value_asks_for_room_once() {
    let bytes = |line| bytes_max(&row_of(line), &with_large_words(line, "V"));
    for line in ["SET key V", "SETEX key 100 V", "APPEND key V", "GETSET key V"] {
        assert!((5000..6000).contains(&bytes(line)), "{line}: {}", bytes(line));
    }
    assert!((10_000..11_000).contains(&bytes("HSET key field V")));
}

#[test]
fn changes_of_lists_are_their_elements() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let engine = open(&log);
    for (line, changes) in
        [("RPUSH l a b c", 3), ("LPUSH l d", 4), ("LPOP l 2", 6), ("LSET l 0 e", 7), ("LREM l 0 e", 8)]
    {
        run(&engine, line);
        assert_eq!(engine.inspect().view(0).changes(), changes, "{line}");
    }
}
