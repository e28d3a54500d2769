//! Linearizability: concurrent clients use one engine whose log is on a simulated disk, which loses
//! everything that a disk may lose. The replies that they saw over many power cuts must be explained by one
//! sequential history of each key (`engramdb_sim::linearizability`).
//!
//! A client accepts a reply when the reply's gate is durable, as the server does. In the last tests clients
//! accept replies too early, and the check must find violations: this shows that the histories are dense
//! enough for the other tests.
//!
//! The machine schedules the threads, so a seed determines the commands and the power cuts, but not the whole
//! history. A violation therefore prints the key's history.

use engramdb_engine::command::{
    Args, Awaited, BlockingStage, Command, CommandError, CommandTable, Handler, Park, Reply, Stage, blocking,
};
use engramdb_engine::effect::{Cause, Effect};
use engramdb_engine::log::local::{LocalLog, LocalOptions};
use engramdb_engine::log::pipeline::{Credit, Options, Refusal};
use engramdb_engine::log::replay::Checkpoint;
use engramdb_engine::log::{Lsn, ShardLog};
use engramdb_engine::recovery::Recovering;
use engramdb_engine::shard::parked::Waiter;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::{Engine, Watch, commands};
use engramdb_sim::env::SimEnv;
use engramdb_sim::fuzz::is_long_mode;
use engramdb_sim::linearizability::{Action, History, Observed, Operation, Stamp, Violation};
use parking_lot::{Condvar, Mutex};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

const CLIENTS: usize = 6;
const KEYS: usize = 5;
const CRASHES: usize = 6;
/// Disks on which clients accept replies too early.
const MISBEHAVING: u64 = 20;

/// Which clients wait for the reply's gate before they accept a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// All clients, as in the server.
    All,
    /// Writers only, as if there were no hazards for readers.
    Writers,
    /// None.
    None,
}

/// The end of the power in one run of the engine.
#[derive(Clone, Copy)]
enum End {
    /// During this changing operation of the disk, counted from the start of the engine.
    AfterOperations(u64),
    /// While syncs hang, after this many more commands.
    Stalled(u64),
}

/// One disk, the engines that run on it one after the other, and the recorded history.
struct World {
    sim: SimEnv,
    table: CommandTable,
    waiting: Waiting,
    stamps: AtomicU64,
    history: Mutex<History>,
    pulse: Pulse,
    /// Number of TAKE commands that waited and were served.
    served: AtomicU64,
}

/// A command of these tests: removes and returns a string, and waits for one as BLPOP does for a list.
static TAKE: &[Command] = &[blocking("TAKE", "key", take)];

static IS_STRING: Awaited = Awaited {
    name: "string",
    holds: |view, key| matches!(view.string(key), Ok(Some(_))),
    ends_without_key: false,
};

fn take(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let key = args.word(1);
    let value = tx
        .read(|view| Ok::<_, CommandError>(view.string(key)?.map(|string| string.to_bytes().into_owned())))?;
    let Some(value) = value else {
        let park = Park::new(vec![key.to_vec()], &IS_STRING, None, |reply| reply.null());
        return Ok(BlockingStage::Park(Box::new(park)));
    };
    tx.apply(Effect::Delete { key, cause: Cause::Command });
    reply.bulk(&value);
    Ok(BlockingStage::Done)
}

/// A parked client, which gets its reply over a channel.
struct Parked {
    reply: OneReply,
    answered: Sender<(Observed, Lsn)>,
}

impl Waiter for Parked {
    fn write(&mut self, write: &mut dyn FnMut(&mut dyn Reply)) {
        write(&mut self.reply);
    }

    fn answered(self: Box<Self>, gate: Lsn) {
        let reply = self.reply.0.expect("a waiter is answered with its reply");
        self.answered.send((reply, gate)).expect("the client waits for it");
    }
}

/// The activity of the clients, for the thread that cuts the power.
#[derive(Default)]
struct Pulse {
    state: Mutex<PulseState>,
    changed: Condvar,
}

#[derive(Default)]
struct PulseState {
    commands: u64,
    waiting: usize,
    stopping: bool,
    stopped: usize,
}

impl Pulse {
    fn change(&self, change: impl FnOnce(&mut PulseState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// Waits until `commands` more commands have begun, or all clients wait or have stopped.
    fn until(&self, commands: u64) {
        let mut state = self.state.lock();
        let goal = state.commands + commands;
        while state.commands < goal && state.waiting + state.stopped < CLIENTS {
            self.changed.wait(&mut state);
        }
    }

    fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }
}

impl World {
    fn new(seed: u64, waiting: Waiting) -> World {
        World {
            sim: SimEnv::new(seed),
            table: CommandTable::new(commands::FAMILIES.iter().copied().chain([TAKE])),
            waiting,
            stamps: AtomicU64::new(0),
            history: Mutex::default(),
            pulse: Pulse::default(),
            served: AtomicU64::new(0),
        }
    }

    fn stamp(&self) -> Stamp {
        self.stamps.fetch_add(1, Ordering::SeqCst)
    }

    fn open(&self) -> Engine {
        let options = LocalOptions {
            segment_bytes: 64 << 10,
            entry_bytes_max: 4 << 10,
            entries_in_flight_max: 4,
            background: true,
        };
        let log =
            LocalLog::open(self.sim.env.clone(), Path::new("/data/log"), options).expect("the power is on");
        let log: Arc<dyn ShardLog> = Arc::new(log);
        let mut recovering = Recovering::new(self.sim.env.clone(), 1, Vec::new());
        let recovered =
            recovering.replay(&*log, Checkpoint::default(), |_| ()).expect("nothing durable is damaged");
        recovering.start(log, &recovered, Options::default()).expect("there is no other writer").0
    }

    /// Runs clients on one engine until the power is cut, and drops the engine.
    fn live(&self, random: &mut SmallRng, end: End) {
        let engine = self.open();
        self.read_all(&engine);
        if let End::AfterOperations(operations) = end {
            self.sim.disk.cut_after(operations);
        }
        self.pulse.change(|state| *state = PulseState::default());
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let seed = random.random();
                let engine = &engine;
                scope.spawn(move || self.client(engine, client, SmallRng::seed_from_u64(seed)));
            }
            self.disturb(random, end);
            self.pulse.change(|state| state.stopping = true);
            self.sim.disk.power_cut();
        });
        drop(engine);
        let crash = self.stamp();
        self.history.lock().crashes.push(crash);
    }

    /// Stalls the disk at random, and returns when the power must be cut.
    fn disturb(&self, random: &mut SmallRng, end: End) {
        for _ in 0..random.random_range(1..4) {
            self.pulse.until(random.random_range(20..80));
            self.sim.disk.close_gate();
            self.pulse.until(random.random_range(1..40));
            self.sim.disk.open_gate();
        }
        match end {
            End::Stalled(commands) => {
                self.sim.disk.close_gate();
                self.pulse.until(commands);
            }
            End::AfterOperations(_) => self.pulse.until(u64::from(random.random::<u8>())),
        }
    }

    fn client(&self, engine: &Engine, client: usize, mut random: SmallRng) {
        let mut written = 0;
        while !self.pulse.is_stopping() {
            self.pulse.change(|state| state.commands += 1);
            written += 1;
            let value = format!("{}", (client + 1) * 1_000_000 + written);
            let key = format!("key{}", random.random_range(0..KEYS));
            let action = some_action(value, &mut random);
            if !self.ask(engine, client, &key, action, &mut random) {
                break;
            }
        }
        self.pulse.change(|state| state.stopped += 1);
    }

    /// Reads every key right after a recovery, when lost writes are most visible.
    fn read_all(&self, engine: &Engine) {
        for key in 0..KEYS {
            let (key, random) = (format!("key{key}"), &mut SmallRng::seed_from_u64(0));
            assert!(self.ask(engine, CLIENTS, &key, Action::Get, random), "nothing is in flight");
        }
    }

    /// Runs a command, waits for its gate, and records it. False if the log has failed.
    fn ask(&self, engine: &Engine, client: usize, key: &str, action: Action, random: &mut SmallRng) -> bool {
        let invoked = self.stamp();
        let words = words(&action, key);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let ran = match &action {
            Action::GetSet(value) if random.random_bool(0.5) => self.exchange(engine, key.as_bytes(), value),
            Action::Take => self.take(engine, &words, random.random_range(0..300)),
            _ => self.run(engine, &words),
        };
        let (observed, gate) = match ran {
            Ok(ran) => ran,
            Err(Nothing::Aborted) => return true,
            Err(Nothing::Refused) => return false,
        };
        let waits = match self.waiting {
            Waiting::All => true,
            Waiting::Writers => self.command(words[0]).is_write(),
            Waiting::None => false,
        };
        let durable = !waits || self.wait(engine, gate);
        let reply = durable.then(|| (self.stamp(), observed));
        let operation = Operation { client, key: key.as_bytes().to_vec(), action, invoked, reply };
        self.history.lock().operations.push(operation);
        durable
    }

    fn command(&self, name: &[u8]) -> &'static engramdb_engine::command::Command {
        self.table.get(name).expect("the command is known").command
    }

    fn run(&self, engine: &Engine, words: &[&[u8]]) -> Result<(Observed, Lsn), Nothing> {
        let command = self.command(words[0]);
        let mut reply = OneReply(None);
        let ran = if let Handler::Read(_) = command.handler {
            engine.reads().expect("it serves").run(0, command, Args::new(words), &mut reply)
        } else {
            let credit = self.admit(engine, command.batch_bytes_max(words))?;
            engine.writes(credit).run(0, command, Args::new(words), &mut reply)
        };
        Ok((reply.0.expect("a command replies"), ran.gate))
    }

    /// Takes the key's value. Waits for one while it yields to other threads at most `patience` times.
    fn take(&self, engine: &Engine, words: &[&[u8]], patience: usize) -> Result<(Observed, Lsn), Nothing> {
        let (sender, answered): (_, Receiver<(Observed, Lsn)>) = channel();
        let mut waiter = Box::new(Parked { reply: OneReply(None), answered: sender });
        let command = self.command(words[0]);
        let mut run = engine.writes(self.admit(engine, command.batch_bytes_max(words))?);
        let ran = run.run(0, command, Args::new(words), &mut waiter.reply);
        let Stage::Park(park) = ran.stage else {
            return Ok((waiter.reply.0.expect("a command replies"), ran.gate));
        };
        let ticket = run.park((0, command), Args::new(words), *park, waiter);
        drop(run);
        self.pulse.change(|state| state.waiting += 1);
        let mut answer = answered.try_recv();
        for _ in 0..patience {
            if answer.is_ok() || self.pulse.is_stopping() {
                break;
            }
            std::thread::yield_now();
            answer = answered.try_recv();
        }
        // It may be served just now; then the time-out fails, and the reply comes.
        let is_served = answer.is_ok() || !ticket.time_out();
        self.served.fetch_add(u64::from(is_served), Ordering::Relaxed);
        let answer = answer.or_else(|_| answered.recv()).expect("it is served or its time is over");
        self.pulse.change(|state| state.waiting -= 1);
        Ok(answer)
    }

    /// GETSET by other commands: WATCH, GET, and SET in MULTI and EXEC.
    fn exchange(&self, engine: &Engine, key: &[u8], value: &[u8]) -> Result<(Observed, Lsn), Nothing> {
        let watch = Watch::new();
        engine.watch(&watch, 0, &[key]);
        let (before, _) = self.run(engine, &[b"GET", key])?;
        let words: [&[u8]; 3] = [b"SET", key, value];
        let mut run = engine.writes(self.admit(engine, self.command(words[0]).batch_bytes_max(&words))?);
        let mut transaction = run.transaction();
        if transaction.is_dirty(&watch) {
            transaction.finish();
            return Err(Nothing::Aborted);
        }
        transaction.run(0, self.command(b"SET"), Args::new(&words), &mut OneReply(None));
        Ok((before, transaction.finish()))
    }

    /// Reserves room in the log, for which it may have to wait while the disk is stalled.
    fn admit(&self, engine: &Engine, bytes: usize) -> Result<Credit, Nothing> {
        self.pulse.change(|state| state.waiting += 1);
        let credit = loop {
            match engine.admit(1, bytes) {
                Err(Refusal::Busy) if !self.pulse.is_stopping() => std::thread::yield_now(),
                credit => break credit.map_err(|_| Nothing::Refused),
            }
        };
        self.pulse.change(|state| state.waiting -= 1);
        credit
    }

    fn wait(&self, engine: &Engine, gate: Lsn) -> bool {
        if engine.durable() >= gate {
            return true;
        }
        self.pulse.change(|state| state.waiting += 1);
        let durable = engine.pipeline().wait(gate).is_ok();
        self.pulse.change(|state| state.waiting -= 1);
        durable
    }
}

/// The reason why a command certainly changed nothing.
enum Nothing {
    /// The log has failed or is closed.
    Refused,
    /// Another client changed a watched key.
    Aborted,
}

/// A reply of a single value.
struct OneReply(Option<Observed>);

impl Reply for OneReply {
    fn is_resp3(&self) -> bool {
        false
    }
    fn simple(&mut self, _text: &str) {
        self.0 = Some(Observed::Done);
    }
    fn error(&mut self, _error: &CommandError) {
        self.0 = Some(Observed::Error);
    }
    fn integer(&mut self, value: i64) {
        self.0 = Some(Observed::Integer(value));
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.0 = Some(Observed::Value(Some(bytes.to_vec())));
    }
    fn null(&mut self) {
        self.0 = Some(Observed::Value(None));
    }
    fn null_array(&mut self) {
        panic!("no array is expected");
    }
    fn array(&mut self, _elements: usize) {
        panic!("no array is expected");
    }
    fn map(&mut self, _pairs: usize) {
        panic!("no map is expected");
    }
    fn set(&mut self, _elements: usize) {
        panic!("no set is expected");
    }
    fn push(&mut self, _elements: usize) {
        panic!("no push is expected");
    }
    fn double(&mut self, _value: f64) {
        panic!("no double is expected");
    }
    fn boolean(&mut self, _value: bool) {
        panic!("no boolean is expected");
    }
    fn verbatim(&mut self, _format: &str, _text: &[u8]) {
        panic!("no text is expected");
    }
    fn mark(&self) -> usize {
        0
    }
    fn rewind(&mut self, _mark: usize) {
        self.0 = None;
    }
}

fn some_action(value: String, random: &mut SmallRng) -> Action {
    let value = if random.random_ratio(1, 12) { b"words".to_vec() } else { value.into_bytes() };
    match random.random_range(0..12) {
        0..4 => Action::Get,
        4 => Action::Exists,
        5 => Action::Set(value),
        6 => Action::SetIfAbsent(value),
        7 => Action::GetSet(value),
        8 => Action::Increment(random.random_range(1..4)),
        9 | 10 => Action::Take,
        _ => Action::Delete,
    }
}

fn words(action: &Action, key: &str) -> Vec<Vec<u8>> {
    let (name, value) = match action {
        Action::Get => ("GET", None),
        Action::Set(value) => ("SET", Some(value.clone())),
        Action::SetIfAbsent(value) => ("SETNX", Some(value.clone())),
        Action::GetSet(value) => ("GETSET", Some(value.clone())),
        Action::Increment(by) => ("INCRBY", Some(by.to_string().into_bytes())),
        Action::Delete => ("DEL", None),
        Action::Exists => ("EXISTS", None),
        Action::Take => ("TAKE", None),
    };
    [name.into(), key.into()].into_iter().chain(value).collect()
}

/// Runs one disk through several crashes. Returns the history, its check, and the number of served TAKEs.
fn run_world(seed: u64, waiting: Waiting) -> (History, Result<(), Box<Violation>>, u64) {
    let world = World::new(seed, waiting);
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..CRASHES {
        let end = match random.random_bool(0.5) {
            true => End::AfterOperations(random.random_range(1..150)),
            false => End::Stalled(random.random_range(1..60)),
        };
        world.live(&mut random, end);
    }
    let engine = world.open();
    world.read_all(&engine);
    let served = world.served.into_inner();
    let history = world.history.into_inner();
    let verdict = history.check();
    (history, verdict, served)
}

#[test]
fn replies_of_concurrent_clients_over_power_cuts_are_linearizable() {
    let seeds = if is_long_mode() { 10_000 } else { 300 };
    let (mut answered, mut unanswered, mut lost, mut served) = (0, 0, 0, 0);
    for seed in 0..seeds {
        let (history, verdict, served_here) = run_world(seed, Waiting::All);
        served += served_here;
        if let Err(violation) = verdict {
            panic!("seed {seed}: {violation}");
        }
        let seen: BTreeSet<_> =
            history.operations.iter().filter_map(|it| it.reply.as_ref()).map(value_of).collect();
        for operation in &history.operations {
            answered += usize::from(operation.reply.is_some());
            unanswered += usize::from(operation.reply.is_none());
            lost += usize::from(operation.reply.is_none() && is_unseen(&operation.action, &seen));
        }
    }
    println!(
        "{seeds} disks, {CRASHES} power cuts each: {answered} replies, {unanswered} commands in flight, of which {lost} SETs were never \
         seen; {served} takes waited and were served"
    );
    assert!(unanswered > seeds as usize, "hardly anything was in flight: the test is too easy");
    assert!(lost > 0, "power cuts lost nothing: the test is too easy");
    assert!(served > seeds, "hardly any client was served while it waited: the test is too easy");
}

/// Cuts the power during each operation of the disk between a write and its acknowledgement. The write and
/// the TAKE that it serves must both survive, or neither.
#[test]
fn a_feed_and_the_take_that_it_serves_survive_together() {
    for operations in 1.. {
        let world = World::new(operations, Waiting::All);
        let engine = world.open();
        let (sender, answered) = channel();
        let mut waiter = Box::new(Parked { reply: OneReply(None), answered: sender });
        let words: [&[u8]; 2] = [b"TAKE", b"key"];
        let command = world.command(b"TAKE");
        let mut run = engine.writes(engine.admit(1, command.batch_bytes_max(&words)).expect("there is room"));
        let ran = run.run(0, command, Args::new(&words), &mut waiter.reply);
        let Stage::Park(park) = ran.stage else { panic!("there is nothing to take") };
        let ticket = run.park((0, command), Args::new(&words), *park, waiter);
        drop(run);
        world.sim.disk.cut_after(operations);
        let fed = world.run(&engine, &[b"SET", b"key", b"value"]);
        let acknowledged = fed.is_ok_and(|(_, gate)| {
            let (value, own_gate) = answered.try_recv().expect("it was served by the batch that fed it");
            assert_eq!((value, own_gate), (Observed::Value(Some(b"value".to_vec())), gate));
            world.wait(&engine, gate)
        });
        world.sim.disk.power_cut();
        drop((ticket, engine));
        let engine = world.open();
        let (value, _) =
            world.run(&engine, &[b"GET", b"key"]).unwrap_or_else(|_| panic!("a read needs no room"));
        assert_eq!(value, Observed::Value(None), "fed and not taken, after {operations} operations");
        if acknowledged {
            println!("{operations} operations");
            return;
        }
    }
}

/// The value in a reply; empty for other replies.
fn value_of(reply: &(Stamp, Observed)) -> Vec<u8> {
    match &reply.1 {
        Observed::Value(Some(value)) => value.clone(),
        _ => Vec::new(),
    }
}

fn is_unseen(action: &Action, seen: &BTreeSet<Vec<u8>>) -> bool {
    matches!(action, Action::Set(value) if !seen.contains(value))
}

/// The number of disks with a violation.
fn violations(waiting: Waiting) -> u64 {
    (0..MISBEHAVING).map(|seed| u64::from(run_world(seed, waiting).1.is_err())).sum()
}

#[test]
fn replies_that_do_not_wait_for_their_gates_are_detected() {
    let found = violations(Waiting::None);
    println!("{found} of {MISBEHAVING} disks");
    assert!(found > MISBEHAVING / 2);
}

#[test]
fn reads_without_hazards_are_detected() {
    let found = violations(Waiting::Writers);
    println!("{found} of {MISBEHAVING} disks");
    assert!(found > MISBEHAVING / 2);
}
