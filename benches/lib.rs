//! The common part of the benches: engines over logs in memory and on disk, and a `Reply` that discards
//! replies.

#![forbid(unsafe_code)]

use engramdb_engine::Engine;
use engramdb_engine::command::{Args, Command, CommandError, CommandTable, Reply};
use engramdb_engine::commands;
use engramdb_engine::env::Env;
use engramdb_engine::log::local::{LocalLog, LocalOptions};
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::{Credit, Options, Refusal};
use engramdb_engine::log::replay::Checkpoint;
use engramdb_engine::log::{LogId, ShardLog};
use engramdb_engine::module::Module;
use engramdb_engine::recovery::Recovering;
use engramdb_engine::shard::engine::Ran;
use engramdb_search::{SearchModule, SearchOptions};
use std::path::Path;
use std::sync::Arc;

/// An empty engine whose log is in memory.
pub fn engine() -> Engine {
    start(Arc::new(MemoryLog::new(LogId([1; 16]))), Vec::new())
}

/// An empty engine over a log in this directory, with FT.*, as in a server.
pub fn engine_in(directory: &Path) -> Engine {
    let log = LocalLog::open(Env::system(), directory, LocalOptions::default());
    let options = SearchOptions { directory: None, env: Env::system(), offline: false, threads: 1 };
    start(Arc::new(log.expect("the directory is writable")), vec![Box::new(SearchModule::new(options))])
}

fn start(log: Arc<dyn ShardLog>, modules: Vec<Box<dyn Module>>) -> Engine {
    let mut recovering = Recovering::new(Env::system(), 16, modules);
    let recovered = recovering.replay(&*log, Checkpoint::default(), |_| ()).expect("the log is empty");
    let (engine, _) =
        recovering.start(log, &recovered, Options::default()).expect("no other writer claims it");
    engine
}

pub fn table() -> CommandTable {
    CommandTable::new(commands::FAMILIES.iter().copied().chain([engramdb_search::COMMANDS]))
}

/// Reserves room for one command; waits while the log has none, or an index is behind.
pub fn admit(engine: &Engine, command: &Command, words: &[&[u8]]) -> Credit {
    loop {
        if engine.is_overloaded() {
            std::thread::yield_now();
            continue;
        }
        match engine.admit(1, command.batch_bytes_max(words)) {
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
    let credit = admit(engine, command, words);
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
