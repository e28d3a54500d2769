//! An engine with the search module, in this process over a log in memory; replies as text.

#![allow(dead_code, reason = "each test file uses its part")]

use engramdb_engine::Engine;
use engramdb_engine::command::{
    Args, Command, CommandTable, Finish, Job, Looks, Outcome, Reply, Stage, WaitingJob, read, write,
};
use engramdb_engine::commands;
use engramdb_engine::effect::Effect;
use engramdb_engine::env::{Clock, Env};
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, Lsn, ShardLog};
use engramdb_engine::module::Module;
use engramdb_engine::shard::run::Holds;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use engramdb_search::{SearchModule, SearchOptions, touched};
use engramdb_testkit::records::{self, Records};
use engramdb_testkit::run::{begin, open_engine};
use engramdb_testkit::text::Text;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that goes on each time that it is asked, and at no other time.
pub struct Ticking {
    asked: AtomicU64,
    step: Duration,
}

impl Ticking {
    pub fn by_millisecond() -> Ticking {
        Ticking { asked: AtomicU64::new(0), step: Duration::from_millis(1) }
    }

    pub fn never() -> Ticking {
        Ticking { step: Duration::ZERO, ..Ticking::by_millisecond() }
    }

    /// How often it was asked so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Clock for Ticking {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        self.step * self.asked.fetch_add(1, Ordering::Relaxed) as u32
    }
}

thread_local! {
    static LAST_LOOK: Cell<usize> = const { Cell::new(0) };
    static WRITTEN: Cell<usize> = const { Cell::new(0) };
    static IS_LAST_LOOK: Cell<bool> = const { Cell::new(false) };
    static TOUCHED_MOST: Cell<usize> = const { Cell::new(0) };
    static WALKED_MOST: Cell<usize> = const { Cell::new(0) };
}

/// Runs something under a hold of the lock, and notes how much the module does in it.
fn counting<T>(hold: impl FnOnce() -> T) -> T {
    let before = (touched(), records::walked());
    let done = hold();
    TOUCHED_MOST.set(TOUCHED_MOST.get().max(touched() - before.0));
    WALKED_MOST.set(WALKED_MOST.get().max(records::walked() - before.1));
    done
}

/// Whether this thread is in the last look of a job, which holds the keyspace.
pub fn is_last_look() -> bool {
    IS_LAST_LOOK.get()
}

/// Looks that something happens between, and that are counted.
struct Between<'s> {
    looks: Holds<'s>,
    room: usize,
    between: &'s dyn Fn(),
    looked_up: RefCell<Vec<usize>>,
}

impl Looks for Between<'_> {
    fn look(&self, with: &mut dyn FnMut(&View<'_>)) {
        (self.between)();
        self.looks.look(&mut |view| {
            counting(|| with(view));
            self.looked_up.borrow_mut().push(view.looked_up());
        });
    }

    fn room(&self) -> usize {
        self.room
    }
}

/// What logs can have that no command writes any more, and the module's lines of INFO.
const TEST_COMMANDS: &[Command] = &[
    write("TEST.CREATE", "payload", create),
    read("TEST.INFO", "", section),
    read("TEST.AUDITED", "", audited),
];

/// An index by its definition as it stands in a log.
fn create(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    tx.apply(Effect::Module { module: 1, version: 2, kind: 1, key: None, payload: args[1] });
    reply.ok();
    Ok(())
}

fn audited(view: &View<'_>, _args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    view.module::<SearchModule>().wait_for_audits();
    reply.ok();
    Ok(())
}

fn section(view: &View<'_>, _args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let sections = view.modules().iter().flat_map(|module| module.info());
    let lines = sections.flat_map(|(_, lines)| lines);
    let lines: Vec<String> = lines.map(|(name, value)| format!("{name}:{value}")).collect();
    reply.bulk(lines.join(" ").as_bytes());
    Ok(())
}

pub struct Server {
    pub engine: Engine,
    pub report: Vec<String>,
    log: Arc<dyn ShardLog>,
    directory: Option<PathBuf>,
    table: CommandTable,
    pub resp3: bool,
}

impl Server {
    pub fn new() -> Server {
        Server::open(Arc::new(MemoryLog::new(LogId([7; 16]))), None)
    }

    pub fn keeping_graphs_in(directory: PathBuf) -> Server {
        Server::open(Arc::new(MemoryLog::new(LogId([7; 16]))), Some(directory))
    }

    /// Searches under a clock of their own.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Server {
        let env = Env { clock, ..Env::system() };
        Server::open_with(Arc::new(MemoryLog::new(LogId([7; 16]))), None, env)
    }

    fn open(log: Arc<dyn ShardLog>, directory: Option<PathBuf>) -> Server {
        Server::open_with(log, directory, Env::system())
    }

    fn open_with(log: Arc<dyn ShardLog>, directory: Option<PathBuf>, env: Env) -> Server {
        let options = SearchOptions { directory: directory.clone(), env, offline: false, threads: 2 };
        let modules: Vec<Box<dyn Module>> = vec![Box::new(Records), Box::new(SearchModule::new(options))];
        let (engine, report) = open_engine(&Env::system(), log.clone(), 16, modules, Options::default());
        let families = commands::FAMILIES.iter().copied();
        let table =
            CommandTable::new(families.chain([engramdb_search::COMMANDS, records::COMMANDS, TEST_COMMANDS]));
        Server { engine, report, log, directory, table, resp3: false }
    }

    /// Stops in order and starts again from the log.
    pub fn restart(self) -> Server {
        let (log, directory) = (self.log.clone(), self.directory.clone());
        self.engine.close().expect("memory does not fail");
        Server::open(log, directory)
    }

    pub fn run(&self, words: &[&[u8]]) -> String {
        self.run_gated(words).0
    }

    /// The reply, and what it waits for.
    pub fn run_gated(&self, words: &[&[u8]]) -> (String, Lsn) {
        self.run_interrupted(words, || ())
    }

    /// The same, where something happens after a search has found its rows, and before it looks whether they
    /// are true.
    pub fn run_interrupted(&self, words: &[&[u8]], meanwhile: impl FnOnce()) -> (String, Lsn) {
        let args = Args::new(words);
        let mut reply = Text::new(self.resp3);
        let command = match self.table.resolve(args) {
            Ok(known) => known.command,
            Err(error) => return (error.to_string(), Lsn(0)),
        };
        let ran = begin(&self.engine, 0, command, args, &mut reply);
        let gate = match ran.stage {
            Stage::Done => ran.gate,
            stage => {
                let looks = self.engine.looks(0);
                let finish = job_of(stage).expect("it is to be done")(&looks);
                meanwhile();
                let attempt = self.engine.finish(0, finish, &mut reply);
                let more = attempt.again.map(|job| self.engine.complete(0, job, &mut reply));
                ran.gate.max(looks.gate()).max(attempt.gate).max(more.unwrap_or(Lsn(0)))
            }
        };
        (reply.finish(), gate)
    }

    /// The same, where something happens before each look at the keyspace, the last one included. Returns how
    /// many keys each look has looked up as well.
    pub fn run_between_looks(&self, words: &[&[u8]], between: &dyn Fn()) -> (String, Vec<usize>) {
        self.run_with_room(words, usize::MAX, between)
    }

    /// The same for a client whose output limit is this many bytes.
    pub fn run_with_room(&self, words: &[&[u8]], room: usize, between: &dyn Fn()) -> (String, Vec<usize>) {
        let args = Args::new(words);
        let mut reply = Text::new(self.resp3).with_room(room);
        let command = self.table.resolve(args).expect("a known command").command;
        let ran = self.engine.reads().expect("it serves").run(0, command, args, &mut reply);
        let mut next = job_of(ran.stage);
        assert!(next.is_some(), "{:?} comes back with no job", words[0].escape_ascii());
        let looks = Between { looks: self.engine.looks(0), room, between, looked_up: RefCell::default() };
        TOUCHED_MOST.set(0);
        WALKED_MOST.set(0);
        while let Some(job) = next {
            let finish = job(&looks);
            let finish: Finish = Box::new(move |view, reply| {
                let before = reply.mark();
                IS_LAST_LOOK.set(true);
                let rest = counting(|| finish(view, reply));
                IS_LAST_LOOK.set(false);
                LAST_LOOK.set(view.looked_up());
                WRITTEN.set(reply.mark() - before);
                rest
            });
            between();
            next = self.engine.finish(0, finish, &mut reply).again;
            looks.looked_up.borrow_mut().push(LAST_LOOK.get());
        }
        let looked_up = looks.looked_up.into_inner();
        (reply.finish(), looked_up)
    }

    /// Bytes of the last reply that were written in the last look.
    pub fn written_in_last_look(&self) -> usize {
        WRITTEN.get()
    }

    /// Rows, documents, places and comparisons that one hold of the lock had to do with in the last run, at
    /// most.
    pub fn touched_in_one_hold(&self) -> usize {
        TOUCHED_MOST.get()
    }

    /// Bytes of records that one hold of the lock has read in the last run, at most.
    pub fn walked_in_one_hold(&self) -> usize {
        WALKED_MOST.get()
    }

    /// Whether a search goes to the pool for long work.
    pub fn is_offloaded(&self, line: &str) -> bool {
        let words = split(line);
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let args = Args::new(&words);
        let command = self.table.resolve(args).expect("a known command").command;
        let ran = self.engine.reads().expect("it serves").run(0, command, args, &mut Text::default());
        matches!(ran.stage, Stage::Offload(_) | Stage::Wait(_))
    }

    /// A search that waits for a backfill.
    pub fn waiting(&self, line: &str) -> WaitingJob {
        let words = split(line);
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let args = Args::new(&words);
        let command = self.table.resolve(args).expect("a known command").command;
        let ran = self.engine.reads().expect("it serves").run(0, command, args, &mut Text::default());
        let Stage::Wait(waiting) = ran.stage else { unreachable!("the index is complete") };
        waiting
    }

    /// Runs a write with something happening after it, while the write lock is held.
    pub fn run_holding(&self, line: &str, held: &dyn Fn()) {
        let words = split(line);
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let args = Args::new(&words);
        let command = self.table.resolve(args).expect("a known command").command;
        let credit = self.engine.admit(1, command.batch_bytes_max(&words)).expect("there is room");
        let mut run = self.engine.writes(credit);
        let mut transaction = run.transaction();
        transaction.run(0, command, args, &mut Text::default());
        transaction.finish();
        held();
    }

    /// The reply as EXEC would give it.
    pub fn run_in_transaction(&self, words: &[&[u8]]) -> String {
        self.run_transaction(&[words.to_vec()]).pop().expect("a reply to the command")
    }

    /// The replies that EXEC would give to these commands.
    pub fn run_transaction(&self, commands: &[Vec<&[u8]>]) -> Vec<String> {
        let bytes_max = |words: &Vec<&[u8]>| {
            let known = self.table.resolve(Args::new(words)).expect("a known command");
            known.command.batch_bytes_max(words)
        };
        let bytes = commands.iter().map(bytes_max).sum();
        let credit = self.engine.admit(1, bytes).expect("there is room");
        let mut run = self.engine.writes(credit);
        let mut transaction = run.transaction();
        let run = |words: &Vec<&[u8]>| {
            let args = Args::new(words);
            let mut reply = Text::new(self.resp3);
            let command = self.table.resolve(args).expect("a known command").command;
            transaction.run(0, command, args, &mut reply);
            reply.finish()
        };
        let replies = commands.iter().map(run).collect();
        transaction.finish();
        replies
    }

    /// A line split at spaces; `'…'` quotes a word.
    pub fn line(&self, line: &str) -> String {
        self.line_with(line, &[])
    }

    /// The same with more words behind it.
    pub fn line_with(&self, line: &str, more: &[&[u8]]) -> String {
        let words = split(line);
        let mut words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        words.extend_from_slice(more);
        self.run(&words)
    }

    pub fn hset(&self, key: &str, fields: &[(&str, &[u8])]) -> Lsn {
        let mut words: Vec<&[u8]> = vec![b"HSET", key.as_bytes()];
        words.extend(fields.iter().flat_map(|(name, value)| [name.as_bytes(), value]));
        let (reply, gate) = self.run_gated(&words);
        assert!(reply.parse::<usize>().is_ok(), "{reply}");
        gate
    }

    pub fn backfill(&self) {
        while self.engine.run_background() {}
    }

    /// The keys of a reply, in order, as RESP2 gives them with NOCONTENT.
    pub fn keys(&self, query: &str, more: &[&[u8]]) -> Vec<String> {
        let mut words: Vec<&[u8]> =
            vec![b"FT.SEARCH", b"idx", query.as_bytes(), b"NOCONTENT", b"LIMIT", b"0", b"1000"];
        words.extend_from_slice(more);
        let reply = self.run(&words);
        assert!(reply.starts_with('['), "{query}: {reply}");
        let keys = reply.trim_matches(['[', ']']).split(", ").skip(1);
        keys.map(|key| key.trim_matches('"').to_owned()).collect()
    }
}

/// What is left of a staged command; a wait has come to its end.
fn job_of(stage: Stage) -> Option<Job> {
    match stage {
        Stage::Done => None,
        Stage::Prepare(_) | Stage::Park(_) | Stage::NeedsRoom(_) => {
            unreachable!("only writes prepare, park and need room")
        }
        Stage::Run(job) | Stage::Offload(job) | Stage::Copy(job) => Some(job),
        Stage::Wait(wait) => Some(wait.block()),
    }
}

fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

pub fn blob(components: &[f32]) -> Vec<u8> {
    components.iter().flat_map(|component| component.to_le_bytes()).collect()
}
