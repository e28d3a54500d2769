//! The engine: one keyspace behind one read-write lock, in front of one log.
//!
//! The shell takes the lock for a *run* of commands ([`Engine::reads`], [`Engine::writes`]); each command of a run is a
//! batch of its own, and a [`Transaction`] makes one batch of several (EXEC). What a reply must wait for comes back
//! with each command; the shell holds the reply until [`Engine::durable`] has passed it.
//!
//! Invariants:
//! - log order is apply order: batches are submitted under the write lock;
//! - the engine clock never steps back, across restarts too ([`crate::env::engine_clock`]), and one value, read after the
//!   lock was taken, stands for a whole run (they are short);
//! - room in the log is reserved before anything is applied, so an applied batch is never refused.
//!
//! Lock order: keyspace, then the log's state. Nothing takes the keyspace lock while it holds another lock of ours.

use crate::command::{Args, Command, CommandError, Finish, Handler, Job, Looks, Reply, Rest, Stage};
use crate::env::Env;
use crate::env::engine_clock::EngineClock;
use crate::hazard::Hazards;
use crate::keyspace::Housing;
use crate::log::pipeline::{Credit, Fatal, Pipeline, Refusal};
use crate::log::{Lsn, Purpose, ShardLog};
use crate::module::{Exporter, Module};
use crate::prepared::{Preparation, Prepared, Preparing};
use crate::store::Store;
use crate::tx::{ExpiryStep, Tx};
use crate::types::Contents;
use crate::view::{Expired, Shared, View};
use crate::watch::Watch;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Fields of hashes that active expiry looks at in one hold of the lock, about.
const EXPIRY_LOOKED_AT_MAX: usize = 10_000;

/// Redis's default of `proto-max-bulk-len`, in bytes.
const STRING_BYTES_MAX_DEFAULT: usize = 512 << 20;

pub struct Engine {
    store: RwLock<Store>,
    shared: Shared,
    clock: EngineClock,
    /// Whether a module was overloaded when it was last asked.
    overloaded: AtomicBool,
    pipeline: Pipeline,
}

/// What a command came to.
pub struct Ran {
    /// The reply may leave when this batch is durable.
    pub gate: Lsn,
    /// A staged command's work that is still to be done, before the reply exists. [`Engine::finish`] ends it.
    pub stage: Stage,
}

impl Engine {
    /// Made by [`crate::recovering::Recovering::start`].
    pub(crate) fn new(store: Store, env: Env, clock: EngineClock, pipeline: Pipeline) -> Engine {
        let started_ms = clock.now_ms(&*env.clock);
        Engine {
            store: RwLock::new(store),
            shared: Shared {
                hazards: Hazards::new(),
                env,
                started_ms,
                expired: Expired::default(),
                string_bytes_max: AtomicUsize::new(STRING_BYTES_MAX_DEFAULT),
            },
            clock,
            overloaded: AtomicBool::new(false),
            pipeline,
        }
    }

    pub fn env(&self) -> &Env {
        &self.shared.env
    }

    /// Engine time, in milliseconds since the Unix epoch.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms(&*self.shared.env.clock)
    }

    /// The last batch that is durable: replies gated at it or below may leave.
    #[inline]
    pub fn durable(&self) -> Lsn {
        self.pipeline.durable()
    }

    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    pub fn log(&self) -> &Arc<dyn ShardLog> {
        self.pipeline.log()
    }

    /// Takes the read lock for a run of reads.
    pub fn reads(&self) -> ReadRun<'_> {
        let store = self.store.read();
        ReadRun { engine: self, store, now_ms: self.now_ms() }
    }

    /// Reserves room in the log for `batches` batches of `bytes` in all (see [`batch_bytes_max`]); before any lock.
    pub fn admit(&self, batches: usize, bytes: usize) -> Result<Credit, Refusal> {
        self.pipeline.admit_run(batches, bytes, Purpose::Any)
    }

    /// The same for batches of commands that free memory ([`Command::frees_memory`]): they may use the room that is held
    /// back for them.
    pub fn admit_freeing(&self, batches: usize, bytes: usize) -> Result<Credit, Refusal> {
        self.pipeline.admit_run(batches, bytes, Purpose::Freeing)
    }

    /// Takes the write lock for a run of commands that the credit covers.
    pub fn writes(&self, credit: Credit) -> WriteRun<'_> {
        let store = self.store.write();
        let (preparing, contents) = (None, None);
        WriteRun { engine: self, store: Some(store), credit, now_ms: self.now_ms(), preparing, contents }
    }

    /// Runs the job of a staged command to its end, which writes the reply. Returns what that has to wait for.
    pub fn complete(&self, database: u32, job: Job, reply: &mut dyn Reply) -> Lsn {
        let looks = Holds { room: reply.room(), ..self.looks(database) };
        let finish = job(&looks);
        looks.gate().max(self.finish(database, finish, reply))
    }

    /// Makes what a write wants before it is run again.
    pub fn prepare(&self, database: u32, preparation: Preparation) -> Box<Prepared> {
        preparation.run(&self.looks(database))
    }

    /// A job's way to the database: each look takes the read lock.
    pub fn looks(&self, database: u32) -> Holds<'_> {
        Holds { engine: self, database, gate: Cell::new(Lsn(0)), room: usize::MAX }
    }

    /// Ends a staged command after its job: reads the keyspace again and writes the reply.
    pub fn finish(&self, database: u32, finish: Finish, reply: &mut dyn Reply) -> Lsn {
        let run = self.reads();
        let view = run.view(database);
        let mark = reply.mark();
        let rest = finish(&view, reply);
        let gate = view.gate();
        drop(run);
        end(rest, mark, reply);
        gate
    }

    /// Watches keys for a connection. Returns what EXEC's reply would have to wait for.
    pub fn watch(&self, watch: &Arc<Watch>, database: u32, keys: &[&[u8]]) -> Lsn {
        let run = self.reads();
        let view = run.view(database);
        for key in keys {
            if view.peek(database, key).is_some() {
                watch.present.lock().push((database, key.to_vec()));
            }
            run.store.watchers.add(watch, database, key);
        }
        view.gate()
    }

    /// Deletes what has expired, at most `limit` keys; returns how many keys it looked at, or `limit` if there is more to do.
    /// Run it regularly: reads do not need it, memory does.
    pub fn expire_due(&self, limit: usize) -> Result<usize, Refusal> {
        let mut store = self.store.write();
        let now_ms = self.now_ms();
        let due = store.keyspace.take_due(now_ms, limit);
        let (mut is_more_left, mut looked_at) = (false, 0);
        for (index, (database, key)) in due.iter().enumerate() {
            let put_back = |store: &mut Store| {
                due[index..].iter().for_each(|(database, key)| store.keyspace.requeue(*database, key));
            };
            if looked_at >= EXPIRY_LOOKED_AT_MAX {
                put_back(&mut store);
                is_more_left = true;
                break;
            }
            let step = ExpiryStep::find(&store.keyspace, *database, key, now_ms);
            let mut credit = match self.pipeline.admit_run(1, step.bytes(key), Purpose::Expiry) {
                Ok(credit) => credit,
                Err(refusal) => {
                    put_back(&mut store);
                    return Err(refusal);
                }
            };
            let mut tx = Tx::new(&mut store, &self.shared, &self.pipeline, *database, now_ms);
            tx.expire(key, &step);
            self.submit(&mut store, &mut credit, now_ms);
            if !step.is_whole {
                store.keyspace.set_expiry_cursor(*database, key, step.next);
            }
            is_more_left |= step.next != 0;
            looked_at += step.looked_at;
        }
        self.shared.expired.looked_at.fetch_add(looked_at as u64, Ordering::Relaxed);
        release(store);
        Ok(if is_more_left { limit } else { due.len() })
    }

    /// Sets how many bytes a string may have that a command makes longer, and the table of LCS: `proto-max-bulk-len`.
    pub fn bound_strings(&self, bytes_max: usize) {
        self.shared.string_bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Counts of what has expired.
    pub fn expired(&self) -> &Expired {
        &self.shared.expired
    }

    /// True while some module has more pending work than it wants: writers wait before they take the lock. Costs one
    /// load unless the last run of writes left one so.
    pub fn is_overloaded(&self) -> bool {
        if !self.overloaded.load(Ordering::Relaxed) {
            return false;
        }
        self.note_load(&self.store.read());
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Asks the modules. Under the keyspace's lock, so that a run that makes one overloaded is not overlooked.
    fn note_load(&self, store: &Store) {
        let overloaded = store.modules.iter().any(|module| module.is_overloaded());
        if overloaded != self.overloaded.load(Ordering::Relaxed) {
            self.overloaded.store(overloaded, Ordering::Relaxed);
        }
    }

    /// Memory that keys and values take, in bytes.
    pub fn data_bytes(&self) -> usize {
        self.store.read().keyspace.heap_bytes()
    }

    /// Does one slice of the modules' background work (index backfills); false when nothing is left. Call it in a loop,
    /// from a thread that may block, whenever a command may have left such work.
    pub fn run_background(&self) -> bool {
        if !self.store.read().modules.iter().any(|module| module.has_background()) {
            return false;
        }
        let jobs: Vec<_> = {
            let Store { keyspace, modules, .. } = &mut *self.store.write();
            let slice = |module: &mut Box<dyn Module>| module.background(&mut Housing::of(keyspace));
            modules.iter_mut().filter_map(slice).collect()
        };
        let more = !jobs.is_empty();
        jobs.into_iter().for_each(|job| job());
        more
    }

    /// Lets go of commands that wait for the modules' background work, which is not done any more.
    pub fn stop_background(&self) {
        self.store.read().modules.iter().for_each(Module::stopping);
    }

    /// The modules' derived state, to be written without any lock.
    pub fn exporters(&self) -> Vec<(&'static str, Exporter)> {
        let store = self.store.read();
        let exporters = store.modules.iter().filter_map(|module| Some((module.name(), module.exporter()?)));
        exporters.collect()
    }

    /// Makes everything durable and stops the log in order. No command may follow.
    pub fn close(&self) -> Result<(), Fatal> {
        // With the time, so that no start goes back behind what was shown to have expired.
        self.pipeline.close_at(self.now_ms())
    }

    fn submit(&self, store: &mut Store, credit: &mut Credit, now_ms: u64) -> Lsn {
        let Some((lsn, batch)) = store.close_batch() else { return Lsn(0) };
        self.pipeline.submit_batch(credit, lsn, now_ms, batch);
        store.begin_batch();
        lsn
    }
}

/// How large the batch of a command with these words can get. Its effects hold each word at most three times (HSETEX: the
/// delete of an expired field, its new value, its new expiry), the key four times, with a fixed part each, and at most
/// one computed number.
pub fn batch_bytes_max(words: &[&[u8]]) -> usize {
    const NUMBER_BYTES_MAX: usize = 400;
    const WORD_OVERHEAD_BYTES: usize = 96;
    let key_bytes = words.get(1).map_or(0, |key| key.len());
    NUMBER_BYTES_MAX
        + key_bytes
        + words.iter().map(|word| 3 * word.len() + WORD_OVERHEAD_BYTES).sum::<usize>()
}

/// The read lock, for commands that change nothing.
pub struct ReadRun<'e> {
    engine: &'e Engine,
    store: RwLockReadGuard<'e, Store>,
    now_ms: u64,
}

impl ReadRun<'_> {
    /// The database at the moment of the engine clock at which the run began.
    pub fn view(&self, database: u32) -> View<'_> {
        View {
            keyspace: &self.store.keyspace,
            modules: &self.store.modules,
            watchers: &self.store.watchers,
            shared: &self.engine.shared,
            database,
            now_ms: self.now_ms,
            last_lsn: self.store.last_lsn,
            gate: Cell::new(Lsn(0)),
            is_exclusive: false,
            #[cfg(debug_assertions)]
            looked_up: Cell::default(),
        }
    }

    /// See [`crate::table::Table::prefetch`].
    pub fn prefetch(&self, database: u32, key: &[u8]) {
        prefetch(&self.store, database, key);
    }

    /// Runs a command that reads or is staged.
    ///
    /// # Panics
    /// If it is another kind: the shell picks the run by the handler.
    #[inline]
    pub fn run(&self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Ran {
        let view = self.view(database);
        let stage = read(&view, command, args, reply);
        Ran { gate: view.gate(), stage }
    }
}

/// See [`Engine::looks`].
pub struct Holds<'e> {
    engine: &'e Engine,
    database: u32,
    gate: Cell<Lsn>,
    room: usize,
}

impl Holds<'_> {
    /// What a reply has to wait for that is made of what the looks so far have shown.
    pub fn gate(&self) -> Lsn {
        self.gate.get()
    }
}

impl Looks for Holds<'_> {
    fn look(&self, with: &mut dyn FnMut(&View<'_>)) {
        let run = self.engine.reads();
        let view = run.view(self.database);
        with(&view);
        self.gate.set(self.gate.get().max(view.gate()));
    }

    fn room(&self) -> usize {
        self.room
    }
}

/// The looks of a job that runs inside EXEC, which holds the lock all the while.
struct InBatch<'t, 'a> {
    tx: RefCell<&'t mut Tx<'a>>,
    room: usize,
}

impl Looks for InBatch<'_, '_> {
    fn look(&self, with: &mut dyn FnMut(&View<'_>)) {
        self.tx.borrow_mut().read(|view| with(view));
    }

    fn room(&self) -> usize {
        self.room
    }
}

#[inline]
fn prefetch(store: &Store, database: u32, key: &[u8]) {
    if let Some(database) = store.keyspace.database(database) {
        database.prefetch(key);
    }
}

/// Runs a reading handler; an error replaces whatever it wrote.
#[inline]
fn read(view: &View<'_>, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Stage {
    let mark = reply.mark();
    let result = match command.handler {
        Handler::Read(handler) => handler(view, args, reply).map(|()| Stage::Done),
        Handler::Staged(handler) | Handler::Sliced(handler) => handler(view, args, reply),
        _ => unreachable!("{} does not read", command.name),
    };
    result.unwrap_or_else(|error| fail(reply, mark, &error))
}

/// Writes what a job's last step left to be written.
fn end(rest: Result<Rest, CommandError>, mark: usize, reply: &mut dyn Reply) {
    match rest {
        Ok(Rest::Nothing) => {}
        Ok(Rest::Write(write)) => write(reply),
        Err(error) => _ = fail(reply, mark, &error),
    }
}

fn fail(reply: &mut dyn Reply, mark: usize, error: &CommandError) -> Stage {
    reply.rewind(mark);
    reply.error(error);
    Stage::Done
}

/// The write lock, for a run of commands.
pub struct WriteRun<'e> {
    engine: &'e Engine,
    /// Taken only by drop.
    store: Option<RwLockWriteGuard<'e, Store>>,
    credit: Credit,
    now_ms: u64,
    /// Where commands may come back with a [`Preparation`].
    preparing: Option<Preparing>,
    contents: Option<Arc<Contents>>,
}

impl WriteRun<'_> {
    /// Lets commands come back with work that is to be done before they are run again. `prepared` is what came of it for
    /// the first of them. Without this, each does all of its work under the lock.
    pub fn preparing(mut self, prepared: Option<Box<Prepared>>) -> Self {
        self.preparing = Some(Preparing::of(prepared));
        self
    }

    /// Says which words of the commands have allocations of their own, to be referred to instead of copied.
    pub fn referring(mut self, contents: Option<Arc<Contents>>) -> Self {
        self.contents = contents;
        self
    }

    /// Runs one engine command of any kind as a batch of its own. A staged one comes back with its job to do.
    pub fn run(&mut self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Ran {
        let (mut preparing, contents) = (self.preparing.take(), self.contents.clone());
        let mut transaction = self.transaction();
        transaction.tx.preparing = preparing.take();
        transaction.tx.contents = contents;
        let mut stage = transaction.step(database, command, args, reply);
        preparing = transaction.tx.preparing.take();
        if let Some(wanted) = preparing.as_mut().and_then(|preparing| preparing.wanted.take()) {
            stage = Stage::Prepare(wanted);
        }
        let gate = transaction.finish();
        if let Some(outdated) = preparing.as_mut().and_then(|preparing| preparing.outdated()) {
            self.store.as_mut().expect("held until drop").discard(*outdated);
        }
        self.preparing = preparing;
        Ran { gate, stage }
    }

    /// See [`crate::table::Table::prefetch`].
    pub fn prefetch(&self, database: u32, key: &[u8]) {
        prefetch(self.store.as_ref().expect("held until drop"), database, key);
    }

    /// Begins a batch of several commands. It must be finished.
    pub fn transaction(&mut self) -> Transaction<'_> {
        let store = self.store.as_mut().expect("held until drop");
        let tx = Tx::new(store, &self.engine.shared, &self.engine.pipeline, 0, self.now_ms);
        Transaction { tx, engine: self.engine, credit: &mut self.credit }
    }
}

impl Drop for WriteRun<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            self.engine.note_load(&store);
            release(store);
        }
    }
}

/// Gives the lock back, and then drops what the run removed.
fn release(mut store: RwLockWriteGuard<'_, Store>) {
    let garbage = store.take_garbage();
    drop(store);
    if garbage.iter().any(|outcome| outcome.garbage.is_large()) {
        // Dropping millions of keys or fields takes seconds: nobody waits for it, unless the system has no thread for it.
        let name = "drop".to_owned();
        _ = std::thread::Builder::new().name(name).spawn(move || drop(garbage));
    }
}

/// Several commands as one batch: EXEC.
pub struct Transaction<'t> {
    tx: Tx<'t>,
    engine: &'t Engine,
    credit: &'t mut Credit,
}

impl Transaction<'_> {
    /// Runs a command inline: a staged one to its end.
    pub fn run(&mut self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) {
        match self.step(database, command, args, reply) {
            Stage::Done => {}
            Stage::Prepare(_) => unreachable!("a transaction prepares nothing"),
            Stage::Run(job) | Stage::Offload(job) | Stage::Copy(job) | Stage::Wait(job) => {
                let finish = job(&InBatch { tx: RefCell::new(&mut self.tx), room: reply.room() });
                let mark = reply.mark();
                let rest = self.tx.read(|view| finish(view, reply));
                end(rest, mark, reply);
            }
        }
    }

    /// Says which words of the next commands have allocations of their own; see [`WriteRun::referring`].
    pub fn refer(&mut self, contents: Option<Arc<Contents>>) {
        self.tx.contents = contents;
    }

    /// Looks at the present state, for what is not gated (INFO).
    pub fn look<R>(&mut self, look: impl FnOnce(&View<'_>) -> R) -> R {
        self.tx.look(look)
    }

    /// True if a watched key changed or expired since it was watched; the reply then waits for that change.
    pub fn is_dirty(&mut self, watch: &Watch) -> bool {
        self.tx.read(|view| {
            if let Some(lsn) = watch.dirtied_by() {
                view.wait_for(lsn);
                return true;
            }
            let present = watch.present.lock();
            present.iter().any(|(database, key)| view.peek(*database, key).is_none())
        })
    }

    /// Logs the batch; returns what its reply has to wait for.
    pub fn finish(self) -> Lsn {
        let (gate, now_ms, store, reserved) = self.tx.into_parts();
        reserved.into_iter().for_each(|credit| self.credit.absorb(credit));
        let lsn = self.engine.submit(store, self.credit, now_ms);
        gate.max(lsn)
    }

    fn step(&mut self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Stage {
        self.tx.select(database);
        match command.handler {
            Handler::Write(handler) => {
                let mark = reply.mark();
                match handler(&mut self.tx, args, reply) {
                    Ok(()) => Stage::Done,
                    Err(error) => fail(reply, mark, &error),
                }
            }
            _ => self.tx.read(|view| read(view, command, args, reply)),
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
pub(crate) mod tests;
