//! An engine without sockets: opened on a log, and driven by one command at a time.

use engramdb_engine::command::{Args, Command, Reply, Stage};
use engramdb_engine::env::Env;
use engramdb_engine::log::ShardLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::replay::Checkpoint;
use engramdb_engine::module::Module;
use engramdb_engine::recovery::Recovering;
use engramdb_engine::shard::engine::Ran;
use engramdb_engine::{Engine, Retained};
use std::sync::Arc;

/// Replays the whole log and becomes its writer. Returns the engine, and the modules' reports about the
/// start.
pub fn open_engine(
    env: &Env,
    log: Arc<dyn ShardLog>,
    databases: usize,
    modules: Vec<Box<dyn Module>>,
    options: Options,
) -> (Engine, Vec<String>) {
    let mut recovering = Recovering::new(env.clone(), databases, modules);
    let recovered = recovering.replay(&*log, Checkpoint::default(), |_| ()).expect("the log is whole");
    recovering.start(log, &recovered, options).expect("no other writer claims the log")
}

/// Runs a command as its own batch, including its preparation. The returned stage may be a job.
pub fn begin(
    engine: &Engine,
    database: u32,
    command: &Command,
    args: Args<'_>,
    reply: &mut dyn Reply,
) -> Ran {
    if !command.is_write() {
        return engine.reads().expect("it serves").run(database, command, args, reply);
    }
    let mut retained = Retained::default();
    loop {
        let ran = write_once(engine, database, (command, args), reply, &mut retained);
        match ran.stage {
            Stage::Prepare(preparation) => retained.prepared = Some(engine.prepare(database, *preparation)),
            Stage::NeedsRoom(bytes) => retained.room_bytes = bytes,
            _ => return ran,
        }
    }
}

/// Runs a write once as its own batch, with what it retained when it was run before. The returned stage may
/// ask for a preparation or for room.
pub fn write_once(
    engine: &Engine,
    database: u32,
    (command, args): (&Command, Args<'_>),
    reply: &mut dyn Reply,
    retained: &mut Retained,
) -> Ran {
    let words: Vec<&[u8]> = args.iter().copied().collect();
    let bytes = command.batch_bytes_max(&words) + retained.room_bytes;
    let credit = engine.admit(1, bytes).expect("a log in memory has room");
    let mut run = engine.writes(credit).retaining(std::mem::take(retained));
    let ran = run.run(database, command, args, reply);
    *retained = run.retained();
    ran
}
