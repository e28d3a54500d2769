//! An engine with the search module, in this process over a log in memory; replies as text.

#![allow(dead_code, reason = "each test file uses its part")]

use engramdb_engine::Engine;
use engramdb_engine::command::{
    Args, Command, CommandError, CommandTable, Finish, Handler, Looks, Outcome, Reply, Stage, read, write,
};
use engramdb_engine::commands;
use engramdb_engine::effect::Effect;
use engramdb_engine::env::{Clock, Env};
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::replay::Checkpoint;
use engramdb_engine::log::{LogId, Lsn, ShardLog};
use engramdb_engine::recovery::Recovering;
use engramdb_engine::shard::engine::batch_bytes_max;
use engramdb_engine::shard::run::Holds;
use engramdb_engine::shard::tx::Tx;
use engramdb_engine::shard::view::View;
use engramdb_search::{SearchModule, SearchOptions};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A reply as one line: `[1, "a"]`, `{"k": 1}`, `ERR …`.
#[derive(Default)]
pub struct Text {
    resp3: bool,
    text: String,
    /// Open aggregates: elements left, the separator's kind, whether it is a map.
    open: Vec<(usize, bool, usize)>,
    /// Bytes of text that are kept.
    room: Option<usize>,
    is_given_up: bool,
}

/// What is read of a reply that was given up.
pub const GIVEN_UP: &str = "given up";

impl Text {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.close();
    }

    fn close(&mut self) {
        while let Some((left, is_map, total)) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                let is_key = *is_map && (*total - *left) % 2 == 1;
                self.text.push_str(if is_key { ": " } else { ", " });
                return;
            }
            self.text.push(if *is_map { '}' } else { ']' });
            self.open.pop();
        }
    }

    fn begin(&mut self, elements: usize, is_map: bool) {
        self.text.push(if is_map { '{' } else { '[' });
        if elements == 0 {
            return self.put(if is_map { "}" } else { "]" });
        }
        self.open.push((elements, is_map, elements));
    }
}

impl Reply for Text {
    fn is_resp3(&self) -> bool {
        self.resp3
    }
    fn simple(&mut self, text: &str) {
        self.put(text);
    }
    fn error(&mut self, error: &CommandError) {
        self.put(error.text());
    }
    fn integer(&mut self, value: i64) {
        self.put(&value.to_string());
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.put(&format!("\"{}\"", bytes.escape_ascii()));
    }
    fn null(&mut self) {
        self.put("nil");
    }
    fn null_array(&mut self) {
        self.put("nil");
    }
    fn array(&mut self, elements: usize) {
        self.begin(elements, false);
    }
    fn map(&mut self, pairs: usize) {
        self.begin(pairs * 2, self.resp3);
    }
    fn set(&mut self, elements: usize) {
        self.begin(elements, false);
    }
    fn push(&mut self, elements: usize) {
        self.begin(elements, false);
    }
    fn double(&mut self, value: f64) {
        if self.resp3 { self.put(&value.to_string()) } else { self.bulk(value.to_string().as_bytes()) }
    }
    fn boolean(&mut self, value: bool) {
        self.put(&value.to_string());
    }
    fn verbatim(&mut self, _format: &str, text: &[u8]) {
        self.bulk(text);
    }
    fn mark(&self) -> usize {
        self.text.len()
    }
    fn rewind(&mut self, mark: usize) {
        self.text.truncate(mark);
        self.open.clear();
    }
    fn room(&self) -> usize {
        self.room.map_or(usize::MAX, |room| room.saturating_sub(self.text.len()))
    }
    fn give_up(&mut self) {
        self.is_given_up = true;
    }
}

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
            with(view);
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
    tx.apply(Effect::Module { module: 1, version: 2, kind: 1, payload: args[1] });
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
        let mut recovering = Recovering::new(Env::system(), 16, vec![Box::new(SearchModule::new(options))]);
        let recovered = recovering.replay(&*log, Checkpoint::default(), |_| ()).expect("the log is whole");
        let started = recovering.start(log.clone(), &recovered, Options::default());
        let (engine, report) = started.expect("nobody else claims it");
        let families = commands::FAMILIES.iter().copied();
        let table = CommandTable::new(families.chain([engramdb_search::COMMANDS, TEST_COMMANDS]));
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

    /// The same, where something happens after a search has found its rows, and before it looks whether they are true.
    pub fn run_interrupted(&self, words: &[&[u8]], meanwhile: impl FnOnce()) -> (String, Lsn) {
        let args = Args::new(words);
        let mut reply = Text { resp3: self.resp3, ..Text::default() };
        let command = match self.table.resolve(args) {
            Ok(known) => known.command,
            Err(error) => return (error.text().to_owned(), Lsn(0)),
        };
        let ran = match command.handler {
            Handler::Write(_) => {
                let mut prepared = None;
                loop {
                    let credit = self.engine.admit(1, batch_bytes_max(words)).expect("there is room");
                    let mut run = self.engine.writes(credit).preparing(prepared.take());
                    let ran = run.run(0, command, args, &mut reply);
                    drop(run);
                    let Stage::Prepare(preparation) = ran.stage else { break ran };
                    prepared = Some(self.engine.prepare(0, *preparation));
                }
            }
            _ => self.engine.reads().run(0, command, args, &mut reply),
        };
        let gate = match ran.stage {
            Stage::Done => ran.gate,
            Stage::Prepare(_) => unreachable!("done above"),
            Stage::Run(job) | Stage::Offload(job) | Stage::Copy(job) | Stage::Wait(job) => {
                let looks = self.engine.looks(0);
                let finish = job(&looks);
                meanwhile();
                ran.gate.max(looks.gate()).max(self.engine.finish(0, finish, &mut reply))
            }
        };
        assert!(reply.open.is_empty(), "an aggregate is short of elements: {}", reply.text);
        (reply.text, gate)
    }

    /// The same, where something happens before each look at the keyspace, the last one included. Returns how many keys each
    /// look has looked up as well.
    pub fn run_between_looks(&self, words: &[&[u8]], between: &dyn Fn()) -> (String, Vec<usize>) {
        self.run_with_room(words, usize::MAX, between)
    }

    /// The same for a client whose output limit is this many bytes.
    pub fn run_with_room(&self, words: &[&[u8]], room: usize, between: &dyn Fn()) -> (String, Vec<usize>) {
        let args = Args::new(words);
        let mut reply = Text { resp3: self.resp3, room: Some(room), ..Text::default() };
        let command = self.table.resolve(args).expect("a known command").command;
        let ran = self.engine.reads().run(0, command, args, &mut reply);
        let (Stage::Run(job) | Stage::Offload(job) | Stage::Copy(job) | Stage::Wait(job)) = ran.stage else {
            panic!("{:?} comes back with no job", words[0].escape_ascii());
        };
        let looks = Between { looks: self.engine.looks(0), room, between, looked_up: RefCell::default() };
        let finish = job(&looks);
        let finish: Finish = Box::new(move |view, reply| {
            let before = reply.mark();
            let rest = finish(view, reply);
            LAST_LOOK.set(view.looked_up());
            WRITTEN.set(reply.mark() - before);
            rest
        });
        between();
        self.engine.finish(0, finish, &mut reply);
        let mut looked_up = looks.looked_up.into_inner();
        looked_up.push(LAST_LOOK.get());
        let text = if reply.is_given_up { GIVEN_UP.to_owned() } else { reply.text };
        (text, looked_up)
    }

    /// Bytes of the last reply that were written in the last look.
    pub fn written_in_last_look(&self) -> usize {
        WRITTEN.get()
    }

    /// Whether a search goes to the pool for long work.
    pub fn is_offloaded(&self, line: &str) -> bool {
        let words = split(line);
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let args = Args::new(&words);
        let command = self.table.resolve(args).expect("a known command").command;
        let ran = self.engine.reads().run(0, command, args, &mut Text::default());
        matches!(ran.stage, Stage::Offload(_) | Stage::Wait(_))
    }

    /// The reply as EXEC would give it.
    pub fn run_in_transaction(&self, words: &[&[u8]]) -> String {
        self.run_transaction(&[words.to_vec()]).pop().expect("a reply to the command")
    }

    /// The replies that EXEC would give to these commands.
    pub fn run_transaction(&self, commands: &[Vec<&[u8]>]) -> Vec<String> {
        let bytes = commands.iter().map(|words| batch_bytes_max(words)).sum();
        let credit = self.engine.admit(1, bytes).expect("there is room");
        let mut run = self.engine.writes(credit);
        let mut transaction = run.transaction();
        let run = |words: &Vec<&[u8]>| {
            let args = Args::new(words);
            let mut reply = Text { resp3: self.resp3, ..Text::default() };
            let command = self.table.resolve(args).expect("a known command").command;
            transaction.run(0, command, args, &mut reply);
            reply.text
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
