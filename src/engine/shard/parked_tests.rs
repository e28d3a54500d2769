//! Parked clients against an engine without sockets: who is served, in which order, by which batch, and what
//! is left.
//!
//! TAKE key+ waits for a hash and takes its first field, as BLPOP does with a list. PEEK key+ only shows the
//! field, as XREAD does. SHIFT from to moves a field, as BLMOVE does; DRAIN from to moves all of them. They
//! are commands of these tests only.

use super::*;
use crate::command::{BlockingStage, CommandTable, Stage, blocking, blocking_read};
use crate::commands;
use crate::effect::{Cause, Effect, List};
use crate::env::Env;
use crate::keyspace::{EvictionPolicy, EvictionRank};
use crate::log::memory::MemoryLog;
use crate::log::pipeline::Options;
use crate::log::replay::Checkpoint;
use crate::log::{LogId, ShardLog};
use crate::recovery::Recovering;
use crate::shard::engine::Engine;
use crate::shard::engine::tests::Text;
use crate::shard::run::{Transaction, WriteRun};
use crate::store::notices::{Audience, Notice, Noticed, class};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{Content, Contents, Field};
use std::sync::atomic::AtomicU64;

static HAS_FIELDS: Awaited =
    Awaited { name: "hash", holds: |view, key| matches!(view.hash(key), Ok(Some(_))) };

type NameAndValue = (Vec<u8>, Vec<u8>);

fn first_field(tx: &mut Tx<'_>, key: &[u8]) -> Result<Option<NameAndValue>, CommandError> {
    tx.read(|view| {
        let Some(hash) = view.hash(key)? else { return Ok(None) };
        let first = hash.iter().min_by_key(|field| field.name.to_vec()).expect("a hash has a field");
        Ok(Some((first.name.to_vec(), first.value.with_bytes(<[u8]>::to_vec))))
    })
}

fn park(keys: &[&[u8]]) -> BlockingStage {
    let keys = keys.iter().map(|key| key.to_vec()).collect();
    BlockingStage::Park(Box::new(Park::new(keys, &HAS_FIELDS, None, |reply| reply.null())))
}

fn take(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    for key in args.from(1) {
        if let Some((name, _)) = first_field(tx, key)? {
            let (fields, cause) = (List::Arguments(&[&name]), Cause::Command);
            tx.apply(Effect::HashDelete { key, fields, cause });
            reply.bulk(&name);
            return Ok(BlockingStage::Done);
        }
    }
    Ok(park(args.from(1)))
}

fn peek(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    for key in args.from(1) {
        if let Some(hash) = view.hash(key)? {
            let name = hash.iter().map(|field| field.name.to_vec()).min();
            reply.bulk(&name.expect("a hash has a field"));
            return Ok(BlockingStage::Done);
        }
    }
    Ok(park(args.from(1)))
}

fn shift(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let (from, to) = (args.word(1), args.word(2));
    let Some((name, value)) = first_field(tx, from)? else { return Ok(park(&[from])) };
    tx.read(|view| view.hash(to).map(|_| ()))?;
    tx.apply(Effect::HashDelete { key: from, fields: List::Arguments(&[&name]), cause: Cause::Command });
    tx.apply(Effect::HashSet { key: to, fields: List::Arguments(&[&name, &value]), keep_expiry: false });
    reply.bulk(&name);
    Ok(BlockingStage::Done)
}

fn drain(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let (from, to) = (args.word(1), args.word(2));
    let words: Option<Vec<Vec<u8>>> = tx.read(|view| {
        let words = |field: Field<'_>| [field.name.to_vec(), field.value.with_bytes(<[u8]>::to_vec)];
        Ok::<_, CommandError>(view.hash(from)?.map(|hash| hash.iter().flat_map(words).collect()))
    })?;
    let Some(words) = words else { return Ok(park(&[from])) };
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let names: Vec<&[u8]> = words.iter().step_by(2).copied().collect();
    tx.apply(Effect::HashDelete { key: from, fields: List::Arguments(&names), cause: Cause::Command });
    tx.apply(Effect::HashSet { key: to, fields: List::Arguments(&words), keep_expiry: false });
    reply.integer(names.len() as i64);
    Ok(BlockingStage::Done)
}

fn room_to_drain(view: &View<'_>, args: Args<'_>) -> usize {
    let bytes = |field: Field<'_>| 2 * field.name.len() + field.value.len() + 16;
    view.hash(args.word(1)).ok().flatten().map_or(0, |hash| hash.iter().map(bytes).sum())
}

static COMMANDS: &[Command] = &[
    blocking("TAKE", "key+", take),
    blocking_read("PEEK", "key+", peek),
    blocking("SHIFT", "from to", shift),
    blocking("DRAIN", "from to", drain).room(room_to_drain),
];

type Answered = Arc<Mutex<Vec<(String, Lsn)>>>;

/// Keeps its reply where the test finds it.
struct Paper {
    text: Text,
    answered: Answered,
}

impl Waiter for Paper {
    fn write(&mut self, write: &mut dyn FnMut(&mut dyn Reply)) {
        write(&mut self.text);
    }

    fn answered(self: Box<Self>, gate: Lsn) {
        self.answered.lock().push((self.text.0.trim().to_owned(), gate));
    }
}

/// One client's view: its replies, and its ticket while it waits.
#[derive(Default)]
struct Seat {
    answered: Answered,
    ticket: Option<Ticket>,
}

impl Seat {
    fn reply(&self) -> Option<String> {
        let answered = self.answered.lock();
        assert!(answered.len() <= 1, "answered twice: {answered:?}");
        answered.first().map(|(text, _)| text.clone())
    }

    fn gate(&self) -> Lsn {
        self.answered.lock()[0].1
    }
}

struct World {
    engine: Engine,
    table: CommandTable,
}

impl World {
    fn new() -> World {
        World::over(&(Arc::new(MemoryLog::new(LogId([7; 16]))) as Arc<dyn ShardLog>))
    }

    fn over(log: &Arc<dyn ShardLog>) -> World {
        World::with(log, Options::default())
    }

    fn with(log: &Arc<dyn ShardLog>, options: Options) -> World {
        let table = CommandTable::new(commands::FAMILIES.iter().chain([&COMMANDS]).copied());
        let mut recovering = Recovering::new(Env::system(), 16, Vec::new());
        let recovered = recovering.replay(&**log, Checkpoint::default(), |_| ()).expect("the log is whole");
        let (engine, _) = recovering.start(log.clone(), &recovered, options).expect("the only writer");
        World { engine, table }
    }

    /// Runs a line as a batch of its own; a blocking one may park.
    fn run(&self, line: &str) -> Seat {
        self.run_with_room(line, 0)
    }

    /// The same with `room_bytes` beyond what the words show; a command that needs more comes back for it.
    fn run_with_room(&self, line: &str, room_bytes: usize) -> Seat {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let command = self.table.resolve(Args::new(&words)).unwrap_or_else(|error| panic!("{error}")).command;
        let credit =
            self.engine.admit(1, command.batch_bytes_max(&words) + room_bytes).expect("there is room");
        let mut seat = Seat::default();
        let mut paper = Box::new(Paper { text: Text::default(), answered: seat.answered.clone() });
        let mut run = self.engine.writes(credit).with_room(room_bytes);
        let ran = run.run(0, command, Args::new(&words), &mut paper.text);
        match ran.stage {
            Stage::Park(park) => {
                seat.ticket = Some(run.park((0, command), Args::new(&words), *park, paper));
            }
            Stage::NeedsRoom(bytes) => {
                assert!(room_bytes == 0 && paper.text.0.is_empty(), "it comes back once, without a reply");
                drop(run);
                return self.run_with_room(line, bytes);
            }
            _ => paper.answered(ran.gate),
        }
        seat
    }

    /// Runs a line as one of several batches of a run; a blocking one may park.
    fn step(&self, run: &mut WriteRun<'_>, line: &str) -> Seat {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let command = self.table.get(words[0]).expect("a command").command;
        let mut seat = Seat::default();
        let mut paper = Box::new(Paper { text: Text::default(), answered: seat.answered.clone() });
        if let Stage::Park(park) = run.step(0, command, Args::new(&words), &mut paper.text) {
            seat.ticket = Some(run.park((0, command), Args::new(&words), *park, paper));
        }
        seat
    }

    fn exec(&self, lines: &[&str]) -> (String, Lsn) {
        let mut run = self.engine.writes(self.engine.admit(1, 10_000).expect("there is room"));
        let mut text = Text::default();
        let mut transaction: Transaction<'_> = run.transaction();
        for line in lines {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let command = self.table.get(words[0]).expect("a command").command;
            transaction.run(0, command, Args::new(&words), &mut text);
        }
        let gate = transaction.finish();
        (text.0, gate)
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!((self.engine.parked(), self.engine.parked.queued()), (0, (0, 0)));
    }
}

fn replies(seats: &[Seat]) -> Vec<Option<String>> {
    seats.iter().map(Seat::reply).collect()
}

fn some(text: &str) -> Option<String> {
    Some(format!("{text:?}"))
}

#[test]
fn clients_are_served_in_the_order_in_which_they_came() {
    let world = World::new();
    let seats: Vec<Seat> = (0..5).map(|_| world.run("TAKE h")).collect();
    assert_eq!(replies(&seats), vec![None; 5]);
    assert_eq!(world.run("HSET h a 1").reply().as_deref(), Some("(integer) 1"));
    assert_eq!(replies(&seats), [some("a"), None, None, None, None], "one feed serves one");
    world.run("HSET h d 1 c 1 b 1");
    assert_eq!(replies(&seats), [some("a"), some("b"), some("c"), some("d"), None]);
    assert_eq!(world.run("EXISTS h").reply().as_deref(), Some("(integer) 0"));
    world.run("HSET h e 1 f 1");
    assert_eq!(seats[4].reply(), some("e"));
    assert_eq!(world.run("HLEN h").reply().as_deref(), Some("(integer) 1"), "what nobody wants stays");
    world.nothing_is_left();
}

#[test]
fn the_feeding_batch_holds_the_pops_and_all_replies_wait_for_it() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let world = World::over(&log);
    world.run("SET other 1");
    let seats = [world.run("TAKE h"), world.run("TAKE h")];
    let feeder = world.run("HSET h a 1 b 2 c 3");
    assert_eq!([feeder.gate(), seats[0].gate(), seats[1].gate()], [Lsn(2); 3]);
    assert_eq!(world.engine.pipeline().last_lsn(), Lsn(2), "one batch");
    world.engine.close().expect("memory does not fail");
    drop(world);
    let world = World::over(&log);
    assert_eq!(world.run("HGETALL h").reply().as_deref(), Some("map 1\n\"c\"\n\"3\""));
}

#[test]
fn a_client_with_many_keys_is_served_once_by_the_first_that_is_fed() {
    let world = World::new();
    let both = world.run("TAKE g h g");
    let second = world.run("TAKE h");
    world.run("HSET h x 1");
    assert_eq!((both.reply(), second.reply()), (some("x"), None));
    world.run("HSET g y 1");
    assert_eq!(world.run("HLEN g").reply().as_deref(), Some("(integer) 1"), "it waits for g no longer");
    world.run("HSET h z 1");
    assert_eq!(second.reply(), some("z"));
    world.nothing_is_left();
}

#[test]
fn exec_feeds_several_keys_after_its_last_command_and_parks_nothing() {
    let world = World::new();
    let seats = [world.run("TAKE g"), world.run("TAKE h"), world.run("TAKE g h")];
    let (text, gate) =
        world.exec(&["TAKE nothing", "HSET h a 1", "HSET g b 1", "HLEN h", "HSET h c 1", "TAKE h"]);
    let own = "(nil)\n(integer) 1\n(integer) 1\n(integer) 1\n(integer) 1\n\"a\"\n";
    assert_eq!(text, own, "a transaction sees its own writes, and takes before those who wait");
    assert_eq!(replies(&seats), [some("b"), some("c"), None]);
    assert_eq!([seats[0].gate(), seats[1].gate(), gate], [Lsn(1); 3]);
    assert_eq!(world.engine.parked(), 1);
}

#[test]
fn a_key_that_is_fed_and_emptied_in_one_batch_serves_nobody() {
    let world = World::new();
    let seat = world.run("TAKE h");
    world.exec(&["HSET h a 1", "DEL h"]);
    assert_eq!(seat.reply(), None);
    world.run("SET h string");
    assert_eq!(seat.reply(), None, "another type is not waited for");
    world.run("DEL h");
    world.run("HSET g a 1");
    world.run("RENAME g h");
    assert_eq!(seat.reply(), some("a"));
    let seat = world.run("TAKE h");
    world.run("HSET g b 1");
    world.run("COPY g h");
    assert_eq!(seat.reply(), some("b"));
}

#[test]
fn what_a_served_client_feeds_is_served_in_the_same_batch() {
    let world = World::new();
    let seats = [world.run("SHIFT a b"), world.run("SHIFT b c"), world.run("TAKE c"), world.run("SHIFT b a")];
    let feeder = world.run("HSET a f 1");
    assert_eq!(replies(&seats), [some("f"), some("f"), some("f"), None]);
    assert!(seats[..3].iter().all(|seat| seat.gate() == feeder.gate()));
    assert_eq!(world.run("DBSIZE").reply().as_deref(), Some("(integer) 0"));
}

#[test]
fn a_served_clients_error_is_its_own() {
    let world = World::new();
    world.run("SET to string");
    let seats = [world.run("SHIFT h to"), world.run("SHIFT h to"), world.run("TAKE h")];
    let first = seats[0].ticket.as_ref().expect("it waits");
    assert!(first.fail(CommandError::of("UNBLOCKED by the test")));
    assert!(!first.time_out(), "a wait ends once");
    let feeder = world.run("HSET h a 1");
    assert_eq!(feeder.reply().as_deref(), Some("(integer) 1"));
    assert_eq!(seats[0].reply().as_deref(), Some("-UNBLOCKED by the test"));
    assert_eq!(seats[1].reply(), Some(format!("-{}", CommandError::WRONG_TYPE)));
    assert_eq!(seats[2].reply(), some("a"), "the field that could not be moved is there for the next");
    assert_eq!(seats[1].gate(), feeder.gate(), "the error shows that the key was fed");
}

/// While one batch waits to be written there is no room for another: the feed itself has its room, the take
/// has none.
#[test]
fn a_client_that_the_log_has_no_room_for_is_served_when_there_is() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let options = Options { buffer_bytes_max: 1, log_thread: false, ..Options::default() };
    let world = World::with(&log, options);
    world.engine.pipeline().pump();
    let seats = [world.run("TAKE h"), world.run("TAKE h")];
    world.run("HSET h a 1 b 1");
    assert_eq!(replies(&seats), [None, None]);
    world.engine.serve_parked();
    assert_eq!(replies(&seats), [None, None], "there is still no room");
    world.engine.pipeline().pump();
    world.engine.serve_parked();
    assert_eq!(replies(&seats), [some("a"), None], "one batch has room for one");
    assert!(seats[0].gate() > world.engine.durable());
    world.engine.pipeline().pump();
    world.engine.serve_parked();
    assert_eq!(replies(&seats), [some("a"), some("b")]);
    world.nothing_is_left();
}

/// Its key was fed before the command came that finds it fed.
#[test]
fn a_client_that_was_not_served_comes_before_later_commands() {
    const BYTES_MAX: u64 = 64 << 10;
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let options = Options { buffer_bytes_max: BYTES_MAX, log_thread: false, ..Options::default() };
    let world = World::with(&log, options);
    let seat = world.run("TAKE h");
    // What is left is enough for the feed, and not for the take beside it.
    let held = world.engine.admit(1, BYTES_MAX as usize - 1550).expect("nothing else is reserved");
    world.run("HSET h a 1");
    assert_eq!(seat.reply(), None, "there is no room for the take");
    drop(held);
    let late = world.run("TAKE h");
    assert_eq!(replies(&[seat, late]), [some("a"), None]);
}

/// Clients that only read do not wait for the room of others; clients that write keep their order.
#[test]
fn a_client_that_only_reads_is_served_beside_one_that_the_log_has_no_room_for() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let options = Options { buffer_bytes_max: 1, log_thread: false, ..Options::default() };
    let world = World::with(&log, options);
    world.engine.pipeline().pump();
    let writers = [world.run("TAKE h"), world.run("TAKE h"), world.run("TAKE g")];
    let readers = [world.run("PEEK h"), world.run("PEEK g")];
    assert_eq!(world.exec(&["HSET h a 1 b 1", "HSET g c 1"]).0, "(integer) 2\n(integer) 1\n");
    assert_eq!(replies(&writers), [None, None, None], "there is no room for a take");
    assert_eq!(replies(&readers), [some("a"), some("c")], "of each of the fed keys");
    let mut served = vec![None; 3];
    for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
        world.engine.serve_parked();
        assert_eq!(replies(&writers), served, "there is still no room");
        world.engine.pipeline().pump();
        world.engine.serve_parked();
        served[place] = some(name);
        assert_eq!(replies(&writers), served, "one batch has room for one, in the order of the feeds");
    }
    world.nothing_is_left();
}

/// The batch that serves the client comes before the command of the run, in the same buffer.
#[test]
fn a_command_with_large_words_follows_a_client_that_was_not_served() {
    const BYTES_MAX: u64 = 512 << 10;
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let options = Options { buffer_bytes_max: BYTES_MAX, log_thread: false, ..Options::default() };
    let world = World::with(&log, options);
    let seat = world.run("TAKE h");
    let held = world.engine.admit(1, BYTES_MAX as usize - 1550).expect("nothing else is reserved");
    world.run("HSET h a 1");
    assert_eq!(seat.reply(), None, "there is no room for the take");
    drop(held);
    let content = Content::new(vec![b'x'; Contents::BYTES_MIN]);
    let bytes = content.bytes().clone();
    let words: [&[u8]; 3] = [b"SET", b"k", &bytes];
    let command = world.table.get(words[0]).expect("a command").command;
    let credit = world.engine.admit(2, command.batch_bytes_max(&words) + 1000).expect("there is room");
    let contents = Arc::new(Contents::new(vec![content]));
    let mut run = world.engine.writes(credit).referring(Some(contents));
    let mut text = Text::default();
    run.step(0, command, Args::new(&words), &mut text);
    world.step(&mut run, "SET after 1");
    assert_eq!((run.finish(), text.0.as_str()), (Lsn(4), "OK\n"));
    assert_eq!((seat.reply(), seat.gate()), (some("a"), Lsn(2)));
    world.engine.close().expect("memory does not fail");
    drop(world);
    let world = World::over(&log);
    assert_eq!(world.run("STRLEN k").reply(), Some(format!("(integer) {}", Contents::BYTES_MIN)));
    assert_eq!(world.run("DBSIZE").reply().as_deref(), Some("(integer) 2"), "and the hash was taken");
}

/// A gate is a number within the batches that are submitted together: parking submits those before it.
#[test]
fn a_run_is_finished_after_a_command_that_parks() {
    let world = World::new();
    let run = || world.engine.writes(world.engine.admit(3, 10_000).expect("there is room"));
    let mut first = run();
    world.step(&mut first, "SET a 1");
    let waiting = world.step(&mut first, "TAKE h");
    assert_eq!(first.finish(), Lsn(1), "the reply to SET waits for its batch");
    assert_eq!(waiting.reply(), None);

    let mut second = run();
    world.step(&mut second, "SET a 2");
    let late = world.step(&mut second, "TAKE h");
    world.step(&mut second, "HSET h f 1 g 1");
    world.step(&mut second, "GET a");
    assert_eq!(second.finish(), Lsn(3));
    assert_eq!((replies(&[waiting, late])), [some("f"), some("g")]);

    let mut third = run();
    world.step(&mut third, "SET a 3");
    assert_eq!(third.transaction().finish(), Lsn(0), "a transaction without a command shows nothing");
    world.step(&mut third, "GET nothing");
    assert_eq!(third.finish(), Lsn(4), "the run knows what it submitted with the transaction");
}

/// What DRAIN logs is as large as the hash, and RENAME, which feeds it, logs two names.
#[test]
fn a_parked_client_is_served_with_the_room_that_its_words_do_not_tell() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let world = World::over(&log);
    let fields: Vec<String> = (0..200).map(|number| format!("f{number} {}", "x".repeat(500))).collect();
    let fill = format!("HSET g {}", fields.join(" "));
    world.run(&fill);
    let at_once = world.run("DRAIN g there");
    assert_eq!(
        at_once.reply().as_deref(),
        Some("(integer) 200"),
        "a call that does not wait comes back for it"
    );
    let waiting = world.run("DRAIN h there");
    world.run(&fill);
    assert_eq!(waiting.reply(), None);
    let feeder = world.run("RENAME g h");
    assert_eq!(waiting.reply().as_deref(), Some("(integer) 200"));
    assert_eq!(waiting.gate(), feeder.gate());
    world.run(&fill);
    assert_eq!(world.exec(&["DRAIN g there"]).0, "(integer) 200\n");
    world.nothing_is_left();
    world.engine.close().expect("memory does not fail");
    drop(world);
    let world = World::over(&log);
    assert_eq!(world.run("HLEN there").reply().as_deref(), Some("(integer) 200"));
}

#[test]
fn a_parked_client_whose_room_is_not_there_is_served_when_it_is() {
    const BYTES_MAX: u64 = 256 << 10;
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
    let options = Options { buffer_bytes_max: BYTES_MAX, log_thread: false, ..Options::default() };
    let world = World::with(&log, options);
    let fields: Vec<String> = (0..200).map(|number| format!("f{number} {}", "x".repeat(500))).collect();
    let waiting = world.run("DRAIN h there");
    world.run(&format!("HSET g {}", fields.join(" ")));
    world.engine.pipeline().pump();
    let held = world.engine.admit(1, BYTES_MAX as usize - (64 << 10)).expect("nothing else is reserved");
    world.run("RENAME g h");
    assert_eq!(waiting.reply(), None, "there is room for RENAME only");
    drop(held);
    world.engine.pipeline().pump();
    world.engine.serve_parked();
    assert_eq!(waiting.reply().as_deref(), Some("(integer) 200"));
    world.nothing_is_left();
}

#[test]
fn all_waits_can_be_ended_with_an_error() {
    let world = World::new();
    let seats = [world.run("TAKE h"), world.run("TAKE g")];
    world.engine.fail_parked(&CommandError::of("UNBLOCKED instance state changed"));
    assert_eq!(replies(&seats), vec![Some("-UNBLOCKED instance state changed".to_owned()); 2]);
    world.nothing_is_left();
}

#[test]
fn a_dropped_ticket_leaves_nothing_behind() {
    let world = World::new();
    let seats: Vec<Seat> = (0..100).map(|number| world.run(&format!("TAKE h g{}", number % 7))).collect();
    let answered: Vec<Answered> = seats.iter().map(|seat| seat.answered.clone()).collect();
    let mut seats = seats;
    let kept = seats.split_off(98);
    drop(seats);
    assert_eq!(world.engine.parked(), 2);
    world.run("HSET h a 1");
    assert_eq!(replies(&kept), [some("a"), None]);
    assert!(answered[..98].iter().all(|answered| answered.lock().is_empty()));
    drop(kept);
    world.nothing_is_left();
}

#[test]
fn a_swap_of_databases_feeds() {
    let world = World::new();
    let seat = world.run("TAKE h");
    world.run("HSET g a 1");
    world.run("MOVE g 1");
    world.exec(&["SET x 1"]);
    {
        let mut run = world.engine.writes(world.engine.admit(1, 1000).expect("there is room"));
        let words: [&[u8]; 4] = [b"HSET", b"h", b"b", b"1"];
        let command = world.table.get(b"HSET").expect("a command").command;
        run.run(1, command, Args::new(&words), &mut Text::default());
    }
    assert_eq!(seat.reply(), None);
    world.run("SWAPDB 0 1");
    assert_eq!(seat.reply(), some("b"));
}

#[test]
fn ten_thousand_clients_wait_and_are_served_by_one_batch() {
    let world = World::new();
    let seats: Vec<Seat> = (0..10_000).map(|_| world.run("TAKE h g")).collect();
    assert_eq!(world.engine.parked(), 10_000);
    for start in (0..10_000).step_by(2_500) {
        let fields: Vec<String> = (start..start + 2_500).map(|number| format!("f{number:05} 1")).collect();
        world.run(&format!("HSET h {}", fields.join(" ")));
    }
    for (number, seat) in seats.iter().enumerate() {
        assert_eq!(seat.reply(), some(&format!("f{number:05}")));
    }
    world.nothing_is_left();
}

/// A client's wait ends when its deadline is reached on the simulated clock. All orders of deadline and feed,
/// at the same moment too, leave each client with one reply: a field, or nil.
#[test]
fn served_once_or_nil_never_both_however_feeds_and_deadlines_interleave() {
    for seed in 1..400u64 {
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let world = World::new();
        let (mut now, mut fed, mut seats) = (0, 0, Vec::<(u64, Seat)>::new());
        for _ in 0..60 {
            match random(4) {
                0 => seats
                    .push((now + random(4), world.run(["TAKE h", "TAKE g h", "TAKE g"][random(3) as usize]))),
                1 => {
                    let lines = (0..1 + random(3)).map(|number| {
                        let key = ["g", "h"][random(2) as usize];
                        format!("HSET {key} {fed:05}-{number} 1")
                    });
                    let lines: Vec<String> = lines.collect();
                    fed += lines.len() as u64;
                    world.exec(&lines.iter().map(String::as_str).collect::<Vec<_>>());
                }
                2 => now += random(2),
                _ => {
                    // Those whose time is over learn it late, and in any order.
                    let due = seats.iter().filter(|(deadline, _)| *deadline <= now);
                    for (_, seat) in due.skip(random(3) as usize) {
                        let had_reply = seat.reply().is_some();
                        let ended = seat.ticket.as_ref().is_some_and(Ticket::time_out);
                        assert_eq!(ended, !had_reply && seat.ticket.is_some());
                    }
                }
            }
        }
        seats.iter().for_each(|(_, seat)| _ = seat.ticket.as_ref().map(Ticket::time_out));
        let all: Vec<String> =
            seats.iter().map(|(_, seat)| seat.reply().expect("each has a reply")).collect();
        let mut taken: Vec<&String> = all.iter().filter(|reply| *reply != "(nil)").collect();
        let count = taken.len() as u64;
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len() as u64, count, "a field was taken twice");
        let left = |key: &str| world.run(&format!("HLEN {key}")).reply().expect("a reply");
        let number = |text: String| text.trim_start_matches("(integer) ").parse::<u64>().expect("a number");
        assert_eq!(count + number(left("g")) + number(left("h")), fed, "a field was lost, seed {seed}");
        world.nothing_is_left();
    }
}

/// The same with threads: one feeds, one times out, one drops, at the same time.
#[test]
fn feeds_race_with_timeouts_and_disconnects() {
    let world = World::new();
    let nils = AtomicU64::new(0);
    for round in 0..300 {
        let mut seats: Vec<Seat> = (0..12).map(|_| world.run("TAKE h")).collect();
        let mut leaving = seats.split_off(8);
        let left_answered: Vec<Answered> = leaving.iter().map(|seat| seat.answered.clone()).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..12 {
                    world.run(&format!("HSET h {round}-{number:02} 1"));
                }
            });
            scope.spawn(|| {
                let ended =
                    seats.iter().rev().filter(|seat| seat.ticket.as_ref().expect("it was parked").time_out());
                nils.fetch_add(ended.count() as u64, Ordering::Relaxed);
            });
            scope.spawn(|| leaving.drain(..).for_each(drop));
        });
        let taken = seats.iter().filter(|seat| seat.reply().expect("each has a reply") != "(nil)").count();
        let with_the_dead = left_answered.iter().filter(|answered| !answered.lock().is_empty()).count();
        let left = world.run("HLEN h").reply().expect("a reply");
        assert_eq!(left, format!("(integer) {}", 12 - taken - with_the_dead));
        world.run("DEL h");
        world.nothing_is_left();
    }
    println!("{} of 2400 timed out", nils.into_inner());
}

/// A deadline that falls into the attempt to serve its client holds if the attempt fails, and is void if it
/// succeeds.
#[test]
fn a_deadline_during_an_attempt_holds_only_if_that_fails() {
    let world = World::new();
    let seats = [world.run("TAKE h"), world.run("TAKE h")];
    let parked = &world.engine.parked;
    for (seat, is_served) in seats.iter().zip([false, true]) {
        let mut attempt = parked.next((0, b"h"), &HAS_FIELDS, 0, false).expect("it waits");
        assert!(!seat.ticket.as_ref().expect("it waits").time_out());
        assert_eq!(seat.reply(), None);
        if is_served {
            attempt.write(&mut |reply| reply.ok());
            parked.served(attempt, ReplyGate::NONE).deliver();
        } else {
            let answer = parked.still_waits(attempt).expect("its wait was ended");
            assert_eq!(seat.reply(), None, "no client is told under the keyspace's lock");
            answer.deliver();
        }
    }
    assert_eq!(replies(&seats), [Some("(nil)".to_owned()), Some("OK".to_owned())]);
    world.nothing_is_left();
}

/// Keeps what is announced.
#[derive(Default)]
struct Ears {
    heard: Mutex<Vec<String>>,
}

impl Audience for Ears {
    fn announce(&self, notices: Vec<Noticed>) {
        self.heard.lock().extend(notices.into_iter().map(|noticed| match noticed.notice {
            Notice::Event { name, key, .. } => format!("{name} {}", key.escape_ascii()),
            Notice::Changed { by, key } => format!("{} by {by}", key.escape_ascii()),
            _ => unreachable!("no such notice is expected"),
        }));
    }
}

#[test]
fn what_served_commands_change_is_noted_as_of_commands_of_their_own() {
    let (world, ears) = (World::new(), Arc::new(Ears::default()));
    let notices = world.engine.notices();
    notices.attach(ears.clone());
    notices.set_events(class::KEYEVENT | class::ALL);
    let seats = [world.run("BLPOP l 0"), world.run("BLPOP l 0")];
    world.run("RPUSH l a b c");
    assert!(seats.iter().all(|seat| seat.reply().is_some()));
    assert_eq!(std::mem::take(&mut *ears.heard.lock()), ["rpush l", "lpop l", "lpop l"]);
    notices.set_events(0);
    notices.set_tracking(true);
    let seat = world.run("BLMOVE source target LEFT LEFT 0");
    let credit = world.engine.admit(2, 10_000).expect("there is room");
    let mut run = world.engine.writes(credit).by(7);
    world.step(&mut run, "RPUSH source a");
    world.step(&mut run, "SET other 1");
    run.finish();
    assert!(seat.reply().is_some());
    // The client that pushes may not want to learn of its own changes: the others are not its own.
    assert_eq!(*ears.heard.lock(), ["source by 7", "target by 0", "source by 0", "other by 7"]);
}

#[test]
fn an_eviction_ends_the_waits_for_a_group() {
    let world = World::new();
    world.run("XADD s 1-1 f v");
    world.run("XGROUP CREATE s g $");
    let seat = world.run("XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
    assert_eq!(seat.reply(), None);
    world.engine.limit_memory(1);
    let random = EvictionPolicy::AllKeys(EvictionRank::Random);
    world.engine.evict(random, 5, 10).expect("there is room");
    world.engine.serve_parked();
    assert!(seat.reply().is_some_and(|reply| reply.starts_with("-NOGROUP")), "{:?}", seat.reply());
    world.nothing_is_left();
}
