//! An engine with a log in memory, which one client drives one command at a time.
//!
//! Its disk is simulated too: it contains snapshots and what modules save between runs.

use super::dump::{Dump, definitions, dump};
use super::effects::show_batch;
use super::run::{begin, write_once};
use super::seats::{Seat, begin_parking};
use super::wire::Wire;
use engramdb_engine::command::{Args, Command, CommandTable, Handler, Stage};
use engramdb_engine::commands::FAMILIES;
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::EvictionPolicy;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::replay::{Checkpoint, Recovered, Replay};
use engramdb_engine::log::{LogId, Lsn, Mark, Pos, ShardLog, Wait};
use engramdb_engine::module::Module;
use engramdb_engine::recovery::{Recovering, StartOptions, StartReport, recover};
use engramdb_engine::shard::follow::FollowerStep;
use engramdb_engine::snapshot::create::{CreateOptions, CreateReport, LogSource};
use engramdb_engine::snapshot::{SnapshotError, SnapshotFile, create};
use engramdb_engine::{Engine, Retained};
pub use engramdb_resp::{Protocol, Value};
use engramdb_sim::disk::FaultyDisk;
use engramdb_sim::env::SimEnv;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The initial time of the clock: a round number that is in the future for every reference server.
pub const START_MS: u64 = 2_000_000_000_000;
const DATABASES: usize = 16;
/// The room in the log for commands that run as one batch, in bytes.
const TOGETHER_BYTES: usize = 4 << 20;

/// The modules of an instance.
#[derive(Clone, Copy)]
pub struct Parts {
    pub commands: &'static [&'static [Command]],
    /// Modules with derived state, some of which they save in the directory.
    pub serving: fn(&Env, &Path) -> Vec<Box<dyn Module>>,
    /// Modules with definitions only: for the follower, and for making snapshots.
    pub offline: fn(&Env) -> Vec<Box<dyn Module>>,
}

/// No modules.
pub const BARE: Parts = Parts { commands: &[], serving: |_, _| Vec::new(), offline: |_| Vec::new() };

/// What a start may use in addition to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub snapshots: bool,
    /// What modules kept ([`Instance::export`]); otherwise it is lost.
    pub derived: bool,
}

impl Kept {
    /// Starts that lose something come after starts that use it.
    pub const ALL: [Kept; 4] = [
        Kept { snapshots: true, derived: true },
        Kept { snapshots: false, derived: true },
        Kept { snapshots: true, derived: false },
        Kept { snapshots: false, derived: false },
    ];
}

const DATA: &str = "/data";
const SNAPSHOTS: &str = "/data/snapshots";
/// A path that does not exist.
const NOWHERE: &str = "/nowhere";

pub struct Instance {
    parts: Parts,
    sim: SimEnv,
    log: Arc<MemoryLog>,
    table: CommandTable,
    /// Absent only during a restart.
    engine: Option<Engine>,
    /// A second engine, which follows the log.
    follower: Engine,
    followed: Checkpoint,
    database: u32,
    protocol: Protocol,
    /// The clients that wait for keys, by number, in the order in which they came.
    seats: BTreeMap<u64, Seat>,
    last_seat: u64,
    served: Vec<(u64, Value)>,
}

/// A reply, and its effects in the log.
#[derive(Debug)]
pub struct Answer {
    pub reply: Value,
    pub effects: Vec<String>,
}

impl Instance {
    pub fn new(seed: u64, protocol: Protocol) -> Instance {
        Instance::with_modules(seed, protocol, BARE)
    }

    pub fn with_modules(seed: u64, protocol: Protocol, parts: Parts) -> Instance {
        let sim = SimEnv::new(seed);
        sim.clock.set_wall_ms(START_MS);
        let log = Arc::new(MemoryLog::new(LogId([7; 16])));
        let opened = open(&sim, &log, parts, Kept::default());
        Instance {
            follower: follower(&sim, &log, (parts.offline)(&sim.env)),
            followed: Checkpoint::default(),
            table: CommandTable::new(FAMILIES.iter().chain(parts.commands).copied()),
            engine: Some(opened.engine),
            parts,
            database: 0,
            sim,
            log,
            protocol,
            seats: BTreeMap::new(),
            last_seat: 0,
            served: Vec::new(),
        }
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open between restarts")
    }

    pub fn table(&self) -> &CommandTable {
        &self.table
    }

    pub fn select(&mut self, database: u32) {
        self.database = database;
    }

    /// Advances the clock. If negative, steps only the wall clock back.
    pub fn move_clock(&self, ms: i64) {
        match u64::try_from(ms) {
            Ok(ms) => self.sim.clock.advance_ms(ms),
            Err(_) => self.sim.clock.step_ms(ms),
        }
    }

    /// Steps the wall clock in either direction, while no time passes.
    pub fn step_clock(&self, ms: i64) {
        self.sim.clock.step_ms(ms);
    }

    /// Runs a command as its own batch. Also checks that an error changes nothing and that a read logs
    /// nothing. A command that waits for keys has no place here: see [`Instance::run_or_park`].
    pub fn run(&mut self, words: &[impl AsRef<[u8]>]) -> Answer {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        let mut wire = Wire::new(self.protocol);
        let gate = self.execute(Args::new(&words), &mut wire);
        let answer = Answer { reply: wire.value(), effects: self.follow() };
        self.check_read(Args::new(&words), &answer.reply);
        assert!(gate <= self.followed.lsn, "a reply waits for a batch that exists");
        assert!(
            !answer.reply.is_error() || answer.effects.is_empty(),
            "{answer:?} failed and changed something"
        );
        answer
    }

    /// Runs a command as its own batch; one that finds nothing at its keys waits there, as a client would.
    /// `None` if it does.
    pub fn run_or_park(&mut self, words: &[impl AsRef<[u8]>]) -> Option<Answer> {
        let list: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        let args = Args::new(&list);
        let blocking = |known: &engramdb_engine::command::Known| {
            matches!(known.command.handler, Handler::Blocking(_) | Handler::BlockingRead(_))
        };
        let known = self.table.resolve(args).ok().filter(|known| blocking(known)).map(|known| known.command);
        let answer = match known {
            Some(command) => {
                let begun = begin_parking(self.engine(), self.database, (command, args), self.protocol);
                let effects = self.follow();
                match begun {
                    Ok(reply) => Some(Answer { reply, effects }),
                    Err(seat) => {
                        self.last_seat += 1;
                        self.seats.insert(self.last_seat, seat);
                        None
                    }
                }
            }
            None => Some(self.run(words)),
        };
        self.leave_seats();
        answer
    }

    /// Runs commands as one batch, as EXEC and scripts do, with a reply each.
    pub fn run_together(&mut self, commands: &[Vec<Vec<u8>>]) -> Vec<Value> {
        let engine = self.engine();
        let credit = engine.admit(1, TOGETHER_BYTES).expect("a log in memory has room");
        let mut run = engine.writes(credit);
        let mut transaction = run.transaction().with_spare(TOGETHER_BYTES);
        let mut replies = Vec::new();
        for words in commands {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let args = Args::new(&words);
            let mut wire = Wire::new(self.protocol);
            match self.table.resolve(args) {
                Ok(known) => {
                    let done = transaction.run_in_script(self.database, known.command, args, &mut wire);
                    done.expect("a log in memory has room");
                }
                Err(error) => engramdb_engine::command::Reply::error(&mut wire, &error),
            }
            replies.push(wire.value());
        }
        let gate = transaction.finish();
        drop(run);
        self.follow();
        assert!(gate <= self.followed.lsn, "a reply waits for a batch that exists");
        self.leave_seats();
        replies
    }

    /// The number of the client that was the last to wait. They are counted from 1 on.
    pub fn last_seat(&self) -> u64 {
        self.last_seat
    }

    /// The number of clients that wait for keys.
    pub fn waiting(&self) -> usize {
        self.seats.len()
    }

    /// The client that has waited longest.
    pub fn first_seat(&self) -> Option<u64> {
        self.seats.keys().next().copied()
    }

    /// Ends a client's wait as the end of its connection does. False if it does not wait.
    pub fn kill(&mut self, seat: u64) -> bool {
        self.seats.remove(&seat).is_some()
    }

    /// Ends a client's wait as its timeout does, and returns the reply. `None` if it does not wait.
    pub fn time_out(&mut self, seat: u64) -> Option<Value> {
        let seat = self.seats.remove(&seat)?;
        seat.time_out();
        Some(seat.answer().expect("no other client serves it at this moment").0)
    }

    /// The clients that were served since this was called last, and their replies.
    pub fn take_served(&mut self) -> Vec<(u64, Value)> {
        std::mem::take(&mut self.served)
    }

    /// Removes clients that have their reply.
    fn leave_seats(&mut self) {
        let (lsn, served) = (self.followed.lsn, &mut self.served);
        self.seats.retain(|number, seat| match seat.answer() {
            Some((reply, gate)) => {
                assert!(gate <= lsn, "a served client waits for a batch that exists");
                served.push((*number, reply));
                false
            }
            None => true,
        });
        assert_eq!(self.seats.len(), self.engine().parked(), "whoever has no reply waits");
    }

    /// Deletes up to `limit` keys, as the server does where memory is over its limit.
    pub fn evict(&mut self, policy: EvictionPolicy, limit: usize) -> Vec<String> {
        let engine = self.engine();
        engine.limit_memory(1);
        engine.evict(policy, 5, limit).expect("a log in memory has room");
        engine.limit_memory(0);
        self.follow()
    }

    /// Runs a write in database 0 once, with what it retained when it was run before. Returns the reply if it
    /// is done, and its stage. The follower does not follow.
    pub fn write_once(&self, words: &[impl AsRef<[u8]>], retained: &mut Retained) -> (Option<Value>, Stage) {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        let args = Args::new(&words);
        let command = self.table.resolve(args).expect("a known command").command;
        let mut wire = Wire::new(Protocol::Resp3);
        let ran = write_once(self.engine(), 0, (command, args), &mut wire, retained);
        (matches!(ran.stage, Stage::Done).then(|| wire.value()), ran.stage)
    }

    fn execute(&mut self, args: Args<'_>, wire: &mut Wire) -> Lsn {
        match self.table.resolve(args) {
            Ok(known) => self.execute_on(self.engine(), known.command, args, wire),
            Err(error) => {
                engramdb_engine::command::Reply::error(wire, &error);
                Lsn(0)
            }
        }
    }

    fn execute_on(&self, engine: &Engine, command: &Command, args: Args<'_>, wire: &mut Wire) -> Lsn {
        let ran = begin(engine, self.database, command, args, wire);
        match ran.stage {
            Stage::Done => ran.gate,
            Stage::Prepare(_) | Stage::NeedsRoom(_) => unreachable!("`begin` has prepared it"),
            Stage::Park(_) => unreachable!("a command that waits for keys goes to `run_or_park`"),
            Stage::Wait(wait) => ran.gate.max(engine.complete(self.database, wait.block(), wire)),
            Stage::Run(job) | Stage::Offload(job) | Stage::Copy(job) => {
                ran.gate.max(engine.complete(self.database, job, wire))
            }
        }
    }

    /// Checks that the follower gives the same reply to a read at the same time.
    fn check_read(&self, args: Args<'_>, reply: &Value) {
        let Ok(known) = self.table.resolve(args) else { return };
        let is_apart = APART.iter().any(|name| args.is(0, name)) || args[0].starts_with(b"FT.");
        if known.command.is_write() || is_apart || self.follower.now_ms() != self.engine().now_ms() {
            return;
        }
        let mut wire = Wire::new(self.protocol);
        let gate = self.execute_on(&self.follower, known.command, args, &mut wire);
        assert!(gate <= self.follower.durable(), "nothing waits on a follower");
        assert_eq!(sorted(wire.value()), sorted(reply.clone()), "the follower answers the same");
    }

    /// Deletes expired keys, as the server does in the background.
    pub fn expire_due(&mut self) -> Vec<String> {
        while self.engine().expire_due(100).expect("a log in memory has room") > 0 {}
        self.follow()
    }

    /// Stops, and starts again from the log alone.
    pub fn restart(&mut self) {
        self.restart_with(Kept::default());
    }

    /// Ends as a kill would, and starts again from the log alone after `down_ms`.
    pub fn crash(&mut self, down_ms: u64) {
        let before = (self.dump(), self.definitions());
        self.seats.clear();
        drop(self.engine.take().expect("open between restarts"));
        self.sim.clock.advance_ms(down_ms);
        self.sim.clock.restart_monotonic();
        let opened = open(&self.sim, &self.log, self.parts, Kept::default());
        assert_eq!(opened.replayed, before, "replay gives what was there: {:?}", opened.report);
        self.engine = Some(opened.engine);
    }

    /// Stops, and starts again from the log and from the saved state that `kept` allows.
    pub fn restart_with(&mut self, kept: Kept) -> StartReport {
        let before = (self.dump(), self.definitions());
        self.seats.clear();
        let engine = self.engine.take().expect("open between restarts");
        engine.close().expect("memory does not fail");
        drop(engine);
        let opened = open(&self.sim, &self.log, self.parts, kept);
        assert_eq!(opened.replayed, before, "replay gives what was there: {kept:?}, {:?}", opened.report);
        self.engine = Some(opened.engine);
        opened.report
    }

    /// Makes a snapshot of the log's content, as a server's snapshotter does.
    pub fn snapshot(&self) -> CreateReport {
        let env = &self.sim.env;
        let read = |after: Mark| self.log.read(after);
        let (parent, parent_pos) = (LogId([0; 16]), Pos(0));
        let source = LogSource { log_id: self.log.id(), parent, parent_pos, read: &read };
        let modules = || (self.parts.offline)(env);
        let report = create(env, Path::new(SNAPSHOTS), &source, &modules, &CreateOptions::default());
        report.expect("the disk does not fail")
    }

    /// Opens a snapshot that was made.
    pub fn snapshot_file(&self, name: &str) -> Result<SnapshotFile, SnapshotError> {
        SnapshotFile::open(&*self.sim.env.disk, &Path::new(SNAPSHOTS).join(name))
    }

    /// Lets the modules save their derived state for later starts.
    pub fn export(&self) {
        for (_, export) in self.engine().exporters() {
            export().expect("the disk does not fail");
        }
    }

    pub fn dump(&self) -> Dump {
        dump(self.engine().inspect().view(0).whole_keyspace())
    }

    /// The users, and the ground state of the modules.
    pub fn definitions(&self) -> Vec<Vec<u8>> {
        let run = self.engine().inspect();
        let view = run.view(0);
        definitions(view.users(), view.modules())
    }

    /// The disk with snapshots and what modules saved.
    pub fn disk(&self) -> &FaultyDisk {
        &self.sim.disk
    }

    /// Compares the live keyspace with the follower's, and with one replayed from the log's start.
    pub fn check_replay(&mut self) {
        self.check_follower();
        self.restart();
    }

    /// Checks that the follower has the live content.
    pub fn check_follower(&self) {
        let run = self.follower.inspect();
        let view = run.view(0);
        let follower = (dump(view.whole_keyspace()), definitions(view.users(), view.modules()));
        assert_eq!(follower, (self.dump(), self.definitions()), "the follower has what is live");
    }

    /// Applies new batches of the log to the follower; returns their effects as text.
    fn follow(&mut self) -> Vec<String> {
        self.engine().pipeline().pump();
        let mut replay = Replay::new(&*self.log, self.followed);
        let mut effects = Vec::new();
        while let Some(batch) = replay.next().expect("memory does not fail") {
            effects.extend(show_batch(batch.bytes));
        }
        self.followed = replay.finish().checkpoint;
        while self.follower.follow(Wait::No).expect("the engine applied it as well") == FollowerStep::Applied
        {
        }
        assert_eq!(self.follower.last_lsn(), self.followed.lsn);
        effects
    }
}

/// Commands that two stores answer differently: at random, by their own accesses, or by their table's layout.
const APART: &[&str] =
    &["RANDOMKEY", "HRANDFIELD", "OBJECT", "MEMORY", "SCAN", "HSCAN", "ZRANDMEMBER", "ZSCAN"];

/// Without the order of elements, which is the table's.
fn sorted(reply: Value) -> Value {
    match reply {
        Value::Array(mut elements) => {
            elements.sort_by_key(|element| format!("{element:?}"));
            Value::Array(elements)
        }
        Value::Map(mut pairs) => {
            pairs.sort_by_key(|pair| format!("{pair:?}"));
            Value::Map(pairs)
        }
        other => other,
    }
}

fn follower(sim: &SimEnv, log: &Arc<MemoryLog>, modules: Vec<Box<dyn Module>>) -> Engine {
    let recovering = Recovering::new(sim.env.clone(), DATABASES, modules);
    let (follower, _) = recovering.follow(log.clone(), &Recovered::default());
    while follower.follow(Wait::No).expect("the log is whole") == FollowerStep::Applied {}
    follower
}

struct Opened {
    engine: Engine,
    /// Keyspace and definitions, before the first command.
    replayed: (Dump, Vec<Vec<u8>>),
    report: StartReport,
}

/// Opens the engine on the log.
fn open(sim: &SimEnv, log: &Arc<MemoryLog>, parts: Parts, kept: Kept) -> Opened {
    if !kept.derived {
        let paths = sim.disk.paths();
        let derived = paths.iter().filter(|path| !path.starts_with(SNAPSHOTS));
        derived.for_each(|path| sim.env.disk.remove(path).expect("the disk does not fail"));
    }
    let modules = || (parts.serving)(&sim.env, Path::new(DATA));
    let snapshots = Path::new(if kept.snapshots { SNAPSHOTS } else { NOWHERE });
    let options = StartOptions { databases: DATABASES, threads: 2, ..StartOptions::default() };
    let recovered = recover(&sim.env, snapshots, &**log, &modules, &options);
    let (recovering, recovered, mut report) = recovered.expect("snapshots and log are whole");
    let replayed = (dump(recovering.keyspace()), definitions(recovering.users(), recovering.modules()));
    let options = Options { log_thread: false, ..Options::default() };
    let log: Arc<dyn ShardLog> = log.clone();
    let (engine, modules) = recovering.start(log, &recovered, options).expect("nobody else claims it");
    report.modules = modules;
    Opened { engine, replayed, report }
}
