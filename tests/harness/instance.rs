//! An engine on a log in memory, driven one command at a time by one client.

use super::dump::{Dump, dump};
use super::effects::show_batch;
use super::wire::Wire;
use engramdb_engine::Engine;
use engramdb_engine::command::{Args, CommandTable, Stage};
use engramdb_engine::commands::FAMILIES;
use engramdb_engine::engine::batch_bytes_max;
use engramdb_engine::env::Clock;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::replay::{Checkpoint, Replay};
use engramdb_engine::log::{LogId, Lsn, ShardLog};
use engramdb_engine::recovery::Recovering;
use engramdb_resp::{Protocol, Value};
use engramdb_sim::env::SimEnv;
use std::sync::Arc;

/// Where the clock starts: a round number in the future of any reference server.
pub const START_MS: u64 = 2_000_000_000_000;
const DATABASES: usize = 16;

pub struct Instance {
    sim: SimEnv,
    log: Arc<MemoryLog>,
    table: CommandTable,
    /// Gone only during a restart.
    engine: Option<Engine>,
    /// A second store that applies each batch from the log as it comes.
    follower: Recovering,
    followed: Checkpoint,
    database: u32,
    protocol: Protocol,
}

/// A reply and the effects that the log holds for it.
#[derive(Debug)]
pub struct Answer {
    pub reply: Value,
    pub effects: Vec<String>,
}

impl Instance {
    pub fn new(seed: u64, protocol: Protocol) -> Instance {
        let sim = SimEnv::new(seed);
        sim.clock.set_wall_ms(START_MS);
        let log = Arc::new(MemoryLog::new(LogId([7; 16])));
        let (engine, _) = open(&sim, &log);
        Instance {
            follower: Recovering::new(sim.env.clone(), DATABASES, Vec::new()),
            followed: Checkpoint::default(),
            table: CommandTable::new(FAMILIES.iter().copied()),
            engine: Some(engine),
            database: 0,
            sim,
            log,
            protocol,
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

    /// Moves the clock; back as well: only the wall clock steps then.
    pub fn move_clock(&self, ms: i64) {
        match u64::try_from(ms) {
            Ok(ms) => self.sim.clock.advance_ms(ms),
            Err(_) => {
                let wall_ms = self.sim.clock.wall_ms();
                self.sim.clock.set_wall_ms(wall_ms.saturating_add_signed(ms));
            }
        }
    }

    /// Runs a command as its own batch. Checks on the way that an error changes nothing and a read logs nothing.
    pub fn run(&mut self, words: &[impl AsRef<[u8]>]) -> Answer {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        let mut wire = Wire::new(self.protocol);
        let gate = self.execute(Args::new(&words), &mut wire);
        let answer = Answer { reply: wire.value(), effects: self.follow() };
        assert!(gate <= self.followed.lsn, "a reply waits for a batch that exists");
        assert!(
            !answer.reply.is_error() || answer.effects.is_empty(),
            "{answer:?} failed and changed something"
        );
        answer
    }

    fn execute(&mut self, args: Args<'_>, wire: &mut Wire) -> Lsn {
        let engine = self.engine.as_ref().expect("open between restarts");
        let known = match self.table.resolve(args) {
            Ok(known) => known,
            Err(error) => {
                engramdb_engine::command::Reply::error(wire, &error);
                return Lsn(0);
            }
        };
        let ran = if known.command.is_write() {
            let words: Vec<&[u8]> = args.iter().copied().collect();
            let credit = engine.admit(1, batch_bytes_max(&words)).expect("a log in memory has room");
            engine.writes(credit).run(self.database, known.command, args, wire)
        } else {
            engine.reads().run(self.database, known.command, args, wire)
        };
        match ran.stage {
            Stage::Done => ran.gate,
            Stage::Run(job) | Stage::Offload(job) => engine.finish(self.database, job(), wire),
        }
    }

    /// Deletes what has expired, as the server does in the background.
    pub fn expire_due(&mut self) -> Vec<String> {
        while self.engine().expire_due(100).expect("a log in memory has room") > 0 {}
        self.follow()
    }

    /// Stops and comes back from the log.
    pub fn restart(&mut self) {
        let before = self.dump();
        let engine = self.engine.take().expect("open between restarts");
        engine.close().expect("memory does not fail");
        let (engine, replayed) = open(&self.sim, &self.log);
        assert_eq!(replayed, before, "replay gives what was there");
        self.engine = Some(engine);
    }

    pub fn dump(&self) -> Dump {
        dump(self.engine().reads().view(0).whole_keyspace())
    }

    /// Compares the live keyspace with the follower's, and with one replayed from the log's start.
    pub fn check_replay(&mut self) {
        let live = self.dump();
        assert_eq!(dump(self.follower.keyspace()), live, "the follower has what is live");
        self.restart();
    }

    /// Applies what the log got to the follower; returns it as text.
    fn follow(&mut self) -> Vec<String> {
        self.engine().pipeline().pump();
        let mut replay = Replay::new(&*self.log, self.followed);
        let mut effects = Vec::new();
        while let Some(batch) = replay.next().expect("memory does not fail") {
            effects.extend(show_batch(batch.bytes));
            self.follower.apply(batch.lsn, batch.bytes).expect("the engine applied it as well");
        }
        self.followed = replay.finish().checkpoint;
        effects
    }
}

/// Opens the engine on the log, with what replay made of it.
fn open(sim: &SimEnv, log: &Arc<MemoryLog>) -> (Engine, Dump) {
    let mut recovering = Recovering::new(sim.env.clone(), DATABASES, Vec::new());
    let recovered = recovering.replay(&**log, Checkpoint::default(), |_| ()).expect("the log is whole");
    let replayed = dump(recovering.keyspace());
    let options = Options { log_thread: false, ..Options::default() };
    let log: Arc<dyn ShardLog> = log.clone();
    let (engine, _) = recovering.start(log, &recovered, options).expect("nobody else claims it");
    (engine, replayed)
}
