use super::*;
use crate::command::CommandTable;
use crate::commands;
use crate::log::LogId;
use crate::log::memory::MemoryLog;
use crate::log::pipeline::Options;
use crate::log::replay::Checkpoint;
use crate::recovery::Recovering;

/// Replies as text, one a line.
#[derive(Default)]
struct Text(String);

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

fn open(log: &Arc<dyn ShardLog>) -> Engine {
    let mut recovering = Recovering::new(Env::system(), 16, Vec::new());
    let recovered = recovering.replay(&**log, Checkpoint::default(), |_| ()).expect("the log is whole");
    let (engine, _) =
        recovering.start(log.clone(), &recovered, Options::default()).expect("nobody else claims it");
    engine
}

fn run(engine: &Engine, line: &str) -> (String, Lsn) {
    let table = CommandTable::new(commands::FAMILIES.iter().copied());
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let args = Args::new(&words);
    let mut reply = Text::default();
    let known = match table.resolve(args) {
        Ok(known) => known,
        Err(error) => return (format!("-{error}\n"), Lsn(0)),
    };
    let credit = engine.admit(1, batch_bytes_max(&words)).expect("there is room");
    let ran = engine.writes(credit).run(0, known.command, args, &mut reply);
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
