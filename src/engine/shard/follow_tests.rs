use super::*;
use crate::command::{Args, CommandTable};
use crate::commands;
use crate::effect::Record;
use crate::env::Env;
use crate::gate::OpenBatch;
use crate::keyspace::Housing;
use crate::log::entry::{EntryKind, PieceKind, begin_piece};
use crate::log::local::{LocalLog, LocalOptions};
use crate::log::memory::MemoryLog;
use crate::log::pipeline::Refusal;
use crate::log::testing::{Schedule, TestLog};
use crate::log::{Claim, Idx, LogEnd, LogEntry, LogId, Lsn, RunningChecksum, ShardLog};
use crate::module::{Applied, Module, ModuleEffect};
use crate::recovery::Recovering;
use crate::shard::engine::tests::{Text, open, run};
use crate::shard::role::RoleRefusal;
use crate::store::watch::Watch;
use std::sync::atomic::AtomicUsize;

/// Counts what a module observes.
#[derive(Default)]
struct Counts {
    recovered: AtomicUsize,
    observed: AtomicUsize,
}

struct Counting(Arc<Counts>);

impl Module for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
    fn number(&self) -> u8 {
        9
    }
    fn list_version(&self) -> u32 {
        1
    }
    fn apply(
        &mut self,
        _: &mut Housing<'_>,
        _: &ModuleEffect<'_>,
        _: &mut OpenBatch<'_>,
    ) -> Result<(), String> {
        Err("it has no effects".to_owned())
    }
    fn observe(&mut self, _: &mut Housing<'_>, _: &Applied<'_>, _: &mut OpenBatch<'_>) {
        self.0.observed.fetch_add(1, Ordering::Relaxed);
    }
    fn save(&self, _: &mut dyn FnMut(&Record<'_>)) {}
    fn recovered(&mut self, _: &mut Housing<'_>) -> Vec<String> {
        self.0.recovered.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    }
}

fn memory() -> Arc<dyn ShardLog> {
    Arc::new(MemoryLog::new(LogId([7; 16])))
}

/// A follower that has read nothing yet.
fn follower(log: &Arc<dyn ShardLog>, modules: Vec<Box<dyn Module>>) -> Engine {
    Recovering::new(Env::system(), 16, modules).follow(log.clone(), &Recovered::default()).0
}

fn catch_up(engine: &Engine) {
    while engine.follow(Wait::No).expect("the log is whole") == FollowerStep::Applied {}
}

fn read(engine: &Engine, line: &str) -> String {
    let table = CommandTable::new(commands::FAMILIES.iter().copied());
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let args = Args::new(&words);
    let known = table.resolve(args).expect("a known command");
    let mut reply = Text::default();
    let ran = engine.reads().expect("it has caught up").run(0, known.command, args, &mut reply);
    assert!(ran.gate <= engine.durable(), "nothing waits on a follower");
    reply.0
}

fn write(leader: &Engine, line: &str) {
    let (_, gate) = run(leader, line);
    leader.pipeline().wait(gate).expect("the log does not fail");
}

/// A leader, and a follower that has followed it live, with what its module observed.
fn follows(log: &Arc<dyn ShardLog>) -> (Engine, Engine, Arc<Counts>) {
    let leader = open(log);
    write(&leader, "SET before 1");
    let counts = Arc::<Counts>::default();
    let engine = follower(log, vec![Box::new(Counting(counts.clone()))]);
    assert_eq!(engine.reads().err(), Some(RoleRefusal::Loading));
    assert!(matches!(engine.admit(0, 0).err(), Some(Refusal::Role(RoleRefusal::Loading))));
    catch_up(&engine);
    assert_eq!(read(&engine, "GET before"), "\"1\"\n");
    for line in ["HSET h a 1 b 2", "COPY h copy", "RENAME copy moved", "SET gone 1", "DEL gone", "SET n 5"] {
        write(&leader, line);
        catch_up(&engine);
        assert_eq!(engine.last_lsn(), leader.last_lsn());
    }
    for line in ["HGETALL h", "HGETALL moved", "EXISTS gone copy", "GET n"] {
        assert_eq!(read(&engine, line), read(&leader, line), "{line}");
    }
    assert!(matches!(engine.admit(1, 100).err(), Some(Refusal::Role(RoleRefusal::ReadOnly))));
    assert_eq!(engine.expire_due(10).expect("nothing to do"), 0);
    (leader, engine, counts)
}

fn follows_and_takes_over(log: &Arc<dyn ShardLog>) {
    let (leader, engine, counts) = follows(log);
    write(&leader, "SET unread 1");
    engine.lead(Options::default()).expect("nothing else is written");
    assert_eq!(engine.follow(Wait::No).expect("it has not failed"), FollowerStep::Over);
    assert_eq!(read(&engine, "GET unread"), "\"1\"\n", "the claim proves that all was read");
    write(&engine, "SET after 1");
    let observed = counts.observed.load(Ordering::Relaxed);
    assert_eq!(observed, engine.last_lsn().0 as usize, "each change once, before and after");
    assert_eq!(counts.recovered.load(Ordering::Relaxed), 1, "made ready once");
    let (_, lost) = run(&leader, "SET lost 1");
    leader.pipeline().wait(lost).expect_err("the old leader is fenced");
    engine.close().expect("the log does not fail");
    drop((engine, leader));
    let again = open(log);
    assert_eq!(read(&again, "GET after"), "\"1\"\n");
    assert_eq!(read(&again, "GET lost"), "(nil)\n");
}

#[test]
fn a_follower_of_a_log_in_memory_takes_over() {
    follows_and_takes_over(&memory());
}

#[test]
fn a_follower_of_a_local_log_takes_over() {
    let directory = tempfile::tempdir().expect("a writable temporary directory");
    let log = LocalLog::open(Env::system(), directory.path(), LocalOptions::default()).expect("a new log");
    follows_and_takes_over(&(Arc::new(log) as Arc<dyn ShardLog>));
}

#[test]
fn a_thread_follows_live_and_ends_with_the_lead() {
    let log = memory();
    let leader = open(&log);
    let engine = Arc::new(follower(&log, Vec::new()));
    engine.start_following().expect("threads can be started");
    for number in 0..2000 {
        run(&leader, &format!("HSET h{} f{number} value", number % 7));
    }
    leader.pipeline().wait(Lsn(2000)).expect("memory does not fail");
    engine.lead(Options::default()).expect("nothing else is written");
    assert_eq!(engine.last_lsn(), Lsn(2000));
    let Role::Leading(_) = engine.role() else { panic!("it leads") };
    let thread = engine.following_thread().expect("it was started");
    thread.join().expect("it ends by itself");
    assert_eq!(read(&engine, "HLEN h3"), read(&leader, "HLEN h3"));
}

#[test]
fn a_follower_that_is_closed_stops() {
    let log = memory();
    let engine = Arc::new(follower(&log, Vec::new()));
    engine.start_following().expect("threads can be started");
    engine.close().expect("nothing has failed");
    assert!(matches!(engine.lead(Options::default()), Err(LeadError::NotFollowing)));
    assert!(open(&log).reads().is_ok(), "the log was not claimed");
}

#[test]
fn a_batch_over_several_entries_shows_as_a_whole() {
    let log = memory();
    let leader = open(&log);
    let engine = follower(&log, Vec::new());
    let value = "x".repeat(3 << 20);
    write(&leader, &format!("MSET large {value} small 1"));
    let mut entries = 0;
    while engine.last_lsn() == Lsn(0) {
        assert_eq!(engine.follow(Wait::No).expect("the log is whole"), FollowerStep::Applied);
        entries += 1;
        assert_eq!(engine.inspect().view(0).whole_database().map_or(0, |keys| keys.len()), {
            if engine.last_lsn() == Lsn(0) { 0 } else { 2 }
        });
    }
    assert!(entries > 3, "a Claim, and an entry for each piece");
}

#[test]
fn a_follower_skips_what_a_claim_voids() {
    let log = memory();
    let engine = follower(&log, Vec::new());
    let mut writer = log.claim(LogEnd::default(), Claim::default()).expect("the only writer");
    // The first piece of a batch that never ends.
    let mut entry = LogEntry::new(EntryKind::Data, 1, Lsn(1), RunningChecksum::default());
    entry.complete_lsn = Lsn(0);
    begin_piece(PieceKind::First, 3, 0, &mut entry.bytes);
    entry.bytes.extend_from_slice(b"abc");
    let index = writer.append(entry).expect("there is room");
    writer.acks().wait(Idx(index.0 - 1), Duration::ZERO).expect("memory does not fail");
    catch_up(&engine);
    let leader = open(&log);
    write(&leader, "SET a 1");
    catch_up(&engine);
    assert_eq!((engine.last_lsn(), read(&engine, "GET a")), (Lsn(1), "\"1\"\n".to_owned()));
}

#[test]
fn a_watch_on_a_follower_sees_what_the_leader_changes() {
    let log = memory();
    let leader = open(&log);
    let engine = follower(&log, Vec::new());
    catch_up(&engine);
    let (touched, other) = (Watch::new(), Watch::new());
    engine.watch(&touched, 0, &[b"a"]);
    engine.watch(&other, 0, &[b"b"]);
    write(&leader, "SET a 1");
    catch_up(&engine);
    let mut exec = engine.writes(engine.admit(0, 0).expect("reads are served"));
    let mut transaction = exec.transaction();
    assert!(transaction.is_dirty(&touched) && !transaction.is_dirty(&other));
    assert_eq!(transaction.finish(), Lsn(1), "the nil shows that batch, which is durable");
}

#[test]
fn a_claim_that_fails_leaves_a_follower() {
    let test_log = TestLog::new(Schedule::AtOnce);
    let log: Arc<dyn ShardLog> = Arc::new(test_log.clone());
    let leader = open(&log);
    test_log.refuse_claim(ClaimError::Unavailable { cause: "no quorum".to_owned() });
    let engine = follower(&log, Vec::new());
    write(&leader, "SET a 1");
    let refused = engine.lead(Options::default());
    assert!(matches!(refused, Err(LeadError::Claim(ClaimError::Unavailable { .. }))));
    write(&leader, "SET b 2");
    catch_up(&engine);
    assert_eq!(read(&engine, "GET b"), "\"2\"\n", "it follows on");
    test_log.outrun_claim();
    engine.lead(Options::default()).expect("after the rival's claim was read");
    write(&engine, "SET c 3");
    assert_eq!(read(&engine, "GET c"), "\"3\"\n");
}

#[test]
fn a_log_that_cannot_be_applied_is_a_failure() {
    use crate::effect::Effect;
    let log = memory();
    let mut batch = Vec::new();
    Effect::Rename { key: b"absent", to: b"to" }.encode(0, &mut batch);
    let pipeline = Pipeline::start(log.clone(), &Recovered::default(), Options::default());
    let pipeline = pipeline.expect("the only writer");
    let mut credit = pipeline.admit(batch.len()).expect("there is room");
    pipeline.submit(&mut credit, Lsn(1), 1, &batch);
    pipeline.wait(Lsn(1)).expect("memory does not fail");
    let engine = Arc::new(follower(&log, Vec::new()));
    engine.start_following().expect("threads can be started");
    let thread = engine.following_thread().expect("it was started");
    thread.join().expect("errors are no panics");
    let Role::Following(following) = engine.role() else { panic!("it follows") };
    let cause = &following.failure().expect("it has failed").cause;
    assert!(cause.starts_with("batch 1 of the log cannot be applied"), "{cause}");
    assert_eq!(engine.reads().err(), Some(RoleRefusal::Loading));
    assert!(matches!(engine.lead(Options::default()), Err(LeadError::Failed(_))));
    assert!(engine.close().is_err());
}

#[test]
fn a_reader_that_has_begun_is_not_answered_after_half_a_batch() {
    use crate::effect::Effect;
    let log = memory();
    let mut batch = Vec::new();
    Effect::StringSet { key: b"half", value: b"1", expires_at_ms: 0 }.encode(0, &mut batch);
    Effect::Rename { key: b"absent", to: b"to" }.encode(0, &mut batch);
    let pipeline = Pipeline::start(log.clone(), &Recovered::default(), Options::default());
    let pipeline = pipeline.expect("the only writer");
    let mut credit = pipeline.admit(batch.len()).expect("there is room");
    pipeline.submit(&mut credit, Lsn(1), 1, &batch);
    pipeline.wait(Lsn(1)).expect("memory does not fail");
    let engine = follower(&log, Vec::new());
    while engine.follow(Wait::No).is_ok() {}
    assert_eq!(engine.reads().err(), Some(RoleRefusal::Loading));
    let gate = engine.watch(&Watch::new(), 0, &[b"half"]);
    assert!(gate > engine.durable(), "a command that had begun waits for the whole batch");
}

/// A power cut could take what was read.
#[test]
fn a_follower_shows_nothing_that_cannot_be_made_durable() {
    let test_log = TestLog::new(Schedule::AtOnce);
    test_log.refuse_to_secure("cannot sync");
    let log: Arc<dyn ShardLog> = Arc::new(test_log);
    let engine = follower(&log, Vec::new());
    let failed = engine.follow(Wait::No).expect_err("the end cannot be secured");
    assert_eq!(failed.cause, "cannot sync");
    assert_eq!(engine.reads().err(), Some(RoleRefusal::Loading));
}
