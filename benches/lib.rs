//! The common part of the benches: an engine over a log in memory, and a `Reply` that discards replies.

#![forbid(unsafe_code)]

use engramdb_engine::Engine;
use engramdb_engine::command::{Args, CommandError, CommandTable, Reply};
use engramdb_engine::commands;
use engramdb_engine::env::Env;
use engramdb_engine::log::local::{LocalLog, LocalOptions};
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::{Credit, Options, Refusal};
use engramdb_engine::log::replay::Checkpoint;
use engramdb_engine::log::{LogId, ShardLog};
use engramdb_engine::recovery::Recovering;
use engramdb_engine::shard::engine::{Ran, batch_bytes_max};
use std::path::Path;
use std::sync::Arc;

/// An empty engine whose log is in memory.
pub fn engine() -> Engine {
    start(Arc::new(MemoryLog::new(LogId([1; 16]))))
}

/// An empty engine over a log in this directory, as in a server.
pub fn engine_in(directory: &Path) -> Engine {
    let log = LocalLog::open(Env::system(), directory, LocalOptions::default());
    start(Arc::new(log.expect("the directory is writable")))
}

fn start(log: Arc<dyn ShardLog>) -> Engine {
    let mut recovering = Recovering::new(Env::system(), 16, Vec::new());
    let recovered = recovering.replay(&*log, Checkpoint::default(), |_| ()).expect("the log is empty");
    let (engine, _) =
        recovering.start(log, &recovered, Options::default()).expect("no other writer claims it");
    engine
}

pub fn table() -> CommandTable {
    CommandTable::new(commands::FAMILIES.iter().copied())
}

/// Reserves room for one command; waits while the log has none.
pub fn admit(engine: &Engine, words: &[&[u8]]) -> Credit {
    loop {
        match engine.admit(1, batch_bytes_max(words)) {
            Ok(credit) => return credit,
            Err(Refusal::Busy) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs one command under the write lock, as a server does without pipelining.
pub fn write(engine: &Engine, table: &CommandTable, words: &[&[u8]]) -> Ran {
    let args = Args::new(words);
    let command = table.resolve(args).expect("the bench writes a valid command").command;
    let credit = admit(engine, words);
    engine.writes(credit).run(0, command, args, &mut Void)
}

/// Discards every reply.
pub struct Void;

impl Reply for Void {
    fn is_resp3(&self) -> bool {
        false
    }
    fn simple(&mut self, _: &str) {}
    fn error(&mut self, error: &CommandError) {
        panic!("{error}");
    }
    fn integer(&mut self, _: i64) {}
    fn bulk(&mut self, _: &[u8]) {}
    fn null(&mut self) {}
    fn null_array(&mut self) {}
    fn array(&mut self, _: usize) {}
    fn map(&mut self, _: usize) {}
    fn set(&mut self, _: usize) {}
    fn push(&mut self, _: usize) {}
    fn double(&mut self, _: f64) {}
    fn boolean(&mut self, _: bool) {}
    fn verbatim(&mut self, _: &str, _: &[u8]) {}
    fn mark(&self) -> usize {
        0
    }
    fn rewind(&mut self, _: usize) {}
}
