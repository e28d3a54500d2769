//! Runs: commands under one hold of the engine's lock. Reads, writes, transactions, and the looks of jobs.

use crate::command::{
    Args, BlockingStage, Command, CommandError, Handler, Job, Looks, Park, Reply, Rest, RoomFinder, Stage,
    WaitingJob,
};
use crate::gate::ReplyGate;
use crate::log::Lsn;
use crate::log::pipeline::{Credit, Refusal};
use crate::shard::engine::{Engine, Ran};
use crate::shard::parked::{Answer, Ticket, Waiter};
use crate::shard::role::RoleRefusal;
use crate::store::Store;
use crate::store::lookups::{LookupCounts, Lookups};
use crate::store::memory::BeingFreed;
use crate::store::prepared::{Preparing, Retained};
use crate::store::tx::{Lent, Tx};
use crate::store::view::View;
use crate::store::watch::Watch;
use crate::types::Contents;
use parking_lot::{RwLockReadGuard, RwLockWriteGuard};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// The read lock, for commands that change nothing.
pub struct ReadRun<'e> {
    pub(super) engine: &'e Engine,
    pub(super) store: RwLockReadGuard<'e, Store>,
    pub(super) now_ms: u64,
    pub(super) lookups: Cell<LookupCounts>,
}

impl Drop for ReadRun<'_> {
    fn drop(&mut self) {
        self.engine.context.lookups.add(self.lookups.get());
    }
}

impl ReadRun<'_> {
    /// The database at the moment of the engine clock at which the run began.
    pub fn view(&self, database: u32) -> View<'_> {
        View {
            keyspace: &self.store.keyspace,
            modules: &self.store.modules,
            users: &self.store.users,
            hook: &self.store.hook,
            context: &self.engine.context,
            database,
            now_ms: self.now_ms,
            last_lsn: self.store.last_lsn,
            gate: Cell::new(ReplyGate::NONE),
            is_exclusive: false,
            is_in_script: false,
            lookups: Lookups::default(),
            #[cfg(debug_assertions)]
            looked_up: Cell::default(),
        }
    }

    /// Reads the database. Returns what a reply with it has to wait for.
    pub fn read<R>(&self, database: u32, read: impl FnOnce(&View<'_>) -> R) -> (R, Lsn) {
        let view = self.view(database);
        let result = read(&view);
        (result, submitted(&self.store, view.gate()))
    }

    /// See [`crate::table::Table::prefetch`].
    pub fn prefetch<'k>(&self, database: u32, keys: impl Iterator<Item = &'k [u8]>) {
        prefetch(&self.store, database, keys);
    }

    /// Runs a command that reads or is staged.
    ///
    /// # Panics
    /// If it is of another kind: the shell must choose the run by the handler.
    #[inline]
    pub fn run(&self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Ran {
        let view = self.view(database);
        let mut stage = read(&view, command, args, reply);
        let gate = submitted(&self.store, view.gate());
        let mut counts = self.lookups.get();
        counts.add(view.lookups.counted());
        self.lookups.set(counts);
        let missed = view.lookups.take_missed();
        if !missed.is_empty() {
            self.engine.notices.push_missed(missed, gate);
        }
        if let Stage::Park(park) = stage {
            stage = Stage::Park(park.gated(gate));
        }
        Ran { gate, stage }
    }

    /// Parks the client of a command that returned [`Stage::Park`]; see [`WriteRun::park`]. No writer can
    /// change its keys before the read lock is given back.
    pub fn park(
        &self,
        command: (u32, &'static Command),
        args: Args<'_>,
        park: Park,
        waiter: Box<dyn Waiter>,
    ) -> Ticket {
        self.engine.parked.park(command, args, park, waiter)
    }
}

/// The gate of a reply after the lock is released.
///
/// # Panics
/// If it is a batch that was not submitted: the reply would wait forever, or for another batch.
#[inline]
pub(super) fn submitted(store: &Store, gate: ReplyGate) -> Lsn {
    assert!(gate <= store.last_lsn, "a reply waits for a batch that was submitted");
    gate.lsn()
}

/// See [`Engine::looks`].
pub struct Holds<'e> {
    pub(super) engine: &'e Engine,
    pub(super) database: u32,
    pub(super) gate: Cell<Lsn>,
    pub(super) room: usize,
}

impl Holds<'_> {
    /// The gate of a reply that shows the results of the looks so far.
    pub fn gate(&self) -> Lsn {
        self.gate.get()
    }
}

impl Looks for Holds<'_> {
    fn look(&self, with: &mut dyn FnMut(&View<'_>)) {
        let run = self.engine.inspect();
        let view = run.view(self.database);
        with(&view);
        self.gate.set(self.gate.get().max(submitted(&run.store, view.gate())));
    }

    fn room(&self) -> usize {
        self.room
    }
}

/// The looks of a job inside EXEC, which holds the lock throughout.
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
fn prefetch<'k>(store: &Store, database: u32, keys: impl Iterator<Item = &'k [u8]>) {
    if let Some(database) = store.keyspace.database(database) {
        database.prefetch(keys);
    }
}

/// Commands whose misses are no events: OBJECT's, and MEMORY USAGE.
const LOOKS_ASIDE: &[&str] = &["ENCODING", "FREQ", "IDLETIME", "REFCOUNT", "USAGE"];

/// Runs a reading handler; an error replaces everything that it wrote.
#[inline]
pub(super) fn read(view: &View<'_>, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Stage {
    let notes_misses = view.hook.notices.notes_misses() && !LOOKS_ASIDE.contains(&command.name);
    view.lookups.begin(notes_misses);
    let mark = reply.mark();
    let result = match command.handler {
        Handler::Read(handler) => handler(view, args, reply).map(|()| Stage::Done),
        Handler::Staged(handler) | Handler::Sliced(handler) => handler(view, args, reply),
        Handler::BlockingRead(handler) => handler(view, args, reply).map(Stage::from),
        _ => unreachable!("{} does not read", command.name),
    };
    result.unwrap_or_else(|error| {
        fail(reply, mark, &error);
        Stage::Done
    })
}

/// Writes the rest of a job's reply; returns the next job, if there is one.
pub(super) fn end(rest: Result<Rest, CommandError>, mark: usize, reply: &mut dyn Reply) -> Option<Job> {
    match rest {
        Ok(Rest::Nothing) => {}
        Ok(Rest::Write(write)) => write(reply),
        Ok(Rest::Again(job)) => {
            assert_eq!(reply.mark(), mark, "a step that is taken again has written nothing");
            return Some(job);
        }
        Err(error) => fail(reply, mark, &error),
    }
    None
}

/// Replaces what a command has written by its error.
pub(super) fn fail(reply: &mut dyn Reply, mark: usize, error: &CommandError) {
    reply.rewind(mark);
    reply.error(error);
}

/// Runs a blocking command's handler; an error replaces everything that it wrote.
pub(super) fn run_blocking(
    reply: &mut dyn Reply,
    run: impl FnOnce(&mut dyn Reply) -> Result<BlockingStage, CommandError>,
) -> BlockingStage {
    let mark = reply.mark();
    run(reply).unwrap_or_else(|error| {
        fail(reply, mark, &error);
        BlockingStage::Done
    })
}

/// The write lock, for a run of commands.
///
/// The run keeps the gates of its replies. Its batches get their LSNs together: when it is finished, or
/// earlier if a command parks or requests its own gate. So an open gate never outlives its run.
pub struct WriteRun<'e> {
    pub(super) engine: &'e Engine,
    /// Taken only by drop.
    pub(super) store: Option<RwLockWriteGuard<'e, Store>>,
    pub(super) lent: Lent,
    pub(super) replies: RunReplies,
    /// The room that the first command had at the beginning.
    pub(super) retained_room_bytes: usize,
}

/// The gates of a run's replies, and the room of its batches.
pub(super) struct RunReplies {
    pub(super) now_ms: u64,
    pub(super) credit: Credit,
    /// The largest gate of the commands so far.
    gate: ReplyGate,
    /// Replies of served clients, to be delivered after the lock is released.
    pub(super) answers: Vec<Answer>,
}

impl RunReplies {
    pub(super) fn new(now_ms: u64, credit: Credit) -> RunReplies {
        RunReplies { now_ms, credit, gate: ReplyGate::NONE, answers: Vec::new() }
    }

    #[inline]
    fn wait_for(&mut self, gate: ReplyGate) {
        self.gate = self.gate.max(gate);
    }

    /// Submits the ended batches to the log, and resolves all gates of the run. Returns the LSN of `own`, a
    /// gate of the run.
    fn submit(&mut self, engine: &Engine, store: &mut Store, own: ReplyGate) -> Lsn {
        let Some(batches) = engine.submit(store, &mut self.credit, self.now_ms) else {
            return submitted(store, own);
        };
        self.answers.iter_mut().for_each(|answer| answer.resolve(batches));
        self.gate = batches.resolve(self.gate).into();
        batches.resolve(own)
    }
}

impl WriteRun<'_> {
    /// Lets commands return with work to do before they run again. `retained` is what the first command
    /// retains from its last run; the credit covers its room. Without this call, each command does all of
    /// its work under the lock.
    pub fn retaining(mut self, retained: Retained) -> Self {
        self.lent.preparing = Some(Preparing::of(retained.prepared));
        self.retained_room_bytes = retained.room_bytes;
        self.with_room(retained.room_bytes)
    }

    /// What a command that came back with [`Stage::Prepare`] or [`Stage::NeedsRoom`] retains for its next
    /// run, beside what it asks for now.
    pub fn retained(&mut self) -> Retained {
        let prepared = self.lent.preparing.as_mut().and_then(Preparing::take_prepared);
        Retained { prepared, room_bytes: self.retained_room_bytes }
    }

    /// Sets the words of the commands that have their own allocations, to be referred to instead of copied.
    pub fn referring(mut self, contents: Option<Arc<Contents>>) -> Self {
        self.lent.contents = contents;
        self
    }

    /// Sets the client whose commands run, by its id.
    pub fn by(mut self, client: u64) -> Self {
        self.store.as_mut().expect("held until drop").hook.notices.set_client(client);
        self
    }

    /// Sets the bytes that the credit covers beyond the bound from the commands' words; see
    /// [`Stage::NeedsRoom`].
    pub fn with_room(mut self, bytes: usize) -> Self {
        self.lent.room_bytes = bytes;
        self
    }

    /// Serves clients whose keys were fed while the log had no room for their commands. This happens before
    /// the commands of this run, in a separate batch.
    #[cold]
    pub(super) fn serve_unserved(&mut self) {
        self.begin().end();
    }

    /// Runs one engine command of any kind, and submits its batch to the log. Returns its own gate.
    pub fn run(&mut self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Ran {
        let (gate, stage) = self.execute(database, command, args, reply);
        Ran { gate: self.submit(gate), stage }
    }

    /// Runs one engine command of any kind as a separate batch; [`WriteRun::finish`] submits the batches
    /// together. A staged command returns its job, and a write without an effect returns what it needs before
    /// it can run again. If a command waits for keys, the batches before it are submitted now.
    #[inline]
    pub fn step(&mut self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Stage {
        self.execute(database, command, args, reply).1
    }

    #[inline]
    fn execute(
        &mut self,
        database: u32,
        command: &Command,
        args: Args<'_>,
        reply: &mut dyn Reply,
    ) -> (ReplyGate, Stage) {
        let mut transaction = self.begin();
        let mut stage = transaction.step(database, command, args, reply);
        let (gate, ..) = transaction.end();
        if let Some(preparing) = self.lent.preparing.as_mut().filter(|preparing| preparing.is_in_use()) {
            if let Some(wanted) = preparing.wanted.take() {
                stage = Stage::Prepare(wanted);
            }
            // A command that needs more room runs again, with what was prepared.
            if !matches!(stage, Stage::NeedsRoom(_)) {
                let outdated = preparing.outdated();
                self.store.as_mut().expect("held until drop").discard_all(outdated);
            }
        }
        if let Stage::Park(park) = stage {
            let gate = self.submit(gate);
            return (gate.into(), Stage::Park(park.gated(gate)));
        }
        (gate, stage)
    }

    /// Submits the run's batches to the log, and releases the lock. Returns the gate of the replies to its
    /// commands.
    pub fn finish(mut self) -> Lsn {
        self.submit(ReplyGate::NONE);
        submitted(self.store.as_ref().expect("held until drop"), self.replies.gate)
    }

    /// Parks the client of a command that returned [`Stage::Park`], before another command runs. Its reply
    /// goes to `waiter`.
    pub fn park(
        &mut self,
        (database, command): (u32, &'static Command),
        args: Args<'_>,
        park: Park,
        waiter: Box<dyn Waiter>,
    ) -> Ticket {
        self.engine.parked.park((database, command), args, park, waiter)
    }

    /// See [`crate::table::Table::prefetch`].
    pub fn prefetch<'k>(&self, database: u32, keys: impl Iterator<Item = &'k [u8]>) {
        prefetch(self.store.as_ref().expect("held until drop"), database, keys);
    }

    /// Begins a batch of several commands, which is submitted separately. It must be finished.
    ///
    /// # Panics
    /// In a run whose commands may return and run again: those of a transaction may not.
    pub fn transaction(&mut self) -> Transaction<'_> {
        assert!(self.lent.preparing.is_none(), "a transaction prepares nothing");
        self.begin()
    }

    #[inline]
    fn begin(&mut self) -> Transaction<'_> {
        let store = self.store.as_mut().expect("held until drop");
        let tx = Tx::new(store, &self.engine.context, &mut self.lent, 0, self.replies.now_ms);
        Transaction { tx, engine: self.engine, replies: &mut self.replies, spare_bytes: 0 }
    }

    fn submit(&mut self, own: ReplyGate) -> Lsn {
        self.replies.submit(self.engine, self.store.as_mut().expect("held until drop"), own)
    }
}

impl Drop for WriteRun<'_> {
    fn drop(&mut self) {
        if let Some(mut store) = self.store.take() {
            self.replies.submit(self.engine, &mut store, ReplyGate::NONE);
            self.engine.note_load(&store);
            self.engine.note_memory(&store);
            release(store);
            self.replies.answers.drain(..).for_each(Answer::deliver);
            self.engine.context.lookups.add(self.lent.lookups);
            self.engine.notices.deliver();
        }
    }
}

/// Releases the lock, and then drops the values that the run removed.
pub(super) fn release(mut store: RwLockWriteGuard<'_, Store>) {
    let is_submitted = store.hook.is_submitted() || std::thread::panicking();
    assert!(is_submitted, "no gate is open outside of a hold of the write lock");
    let garbage = store.take_garbage();
    drop(store);
    if let Some(garbage) = garbage.filter(BeingFreed::is_large) {
        // Dropping millions of keys or fields takes seconds, so a thread does it, unless the system has none.
        let name = "drop".to_owned();
        _ = std::thread::Builder::new().name(name).spawn(move || drop(garbage));
    }
}

/// Several commands as one batch: EXEC.
pub struct Transaction<'t> {
    pub(super) tx: Tx<'t>,
    pub(super) engine: &'t Engine,
    pub(super) replies: &'t mut RunReplies,
    /// Room that the credit has for commands that no words of the batch bound, in bytes: those of a script,
    /// and of parked clients.
    pub(super) spare_bytes: usize,
}

/// What a script reserves in the log at a time, in bytes: at the beginning, and for a command that what is
/// left does not cover.
pub const SCRIPT_ROOM_BYTES: usize = 16 << 10;

/// More than what a batch takes in the log beside its effects, in bytes.
const FRAME_BYTES_MAX: usize = 256;

impl<'t> Transaction<'t> {
    /// Sets the room that the credit has for commands of a script, beyond what others of the batch need.
    pub fn with_spare(mut self, bytes: usize) -> Self {
        self.spare_bytes = bytes;
        self
    }

    /// Runs a command of a script. No words of the script bound what its commands log, so that each command
    /// that writes takes its own bound from the room that the script has left. Where there is less, more is
    /// reserved without waiting, because this holds the keyspace's lock; an error says that there is none,
    /// and then nothing was run. So the batch never exceeds what was reserved.
    pub fn run_in_script(
        &mut self,
        database: u32,
        command: &Command,
        args: Args<'_>,
        reply: &mut dyn Reply,
    ) -> Result<(), CommandError> {
        self.refer(None);
        self.tx.lent.is_in_script = true;
        let ran = self.run_bounded(database, command, args, reply);
        self.tx.lent.is_in_script = false;
        ran
    }

    fn run_bounded(
        &mut self,
        database: u32,
        command: &Command,
        args: Args<'_>,
        reply: &mut dyn Reply,
    ) -> Result<(), CommandError> {
        if !command.is_write() {
            self.run(database, command, args, reply);
            return Ok(());
        }
        let taken = self.take_spare(command, args)?;
        let before = self.tx.logged_bytes();
        self.run(database, command, args, reply);
        // A bound is many times what a small command logs. The batch's own frame comes with its first bytes.
        let frame = if before == 0 { FRAME_BYTES_MAX } else { 0 };
        let used = self.tx.logged_bytes() - before + frame;
        self.spare_bytes += taken.saturating_sub(used);
        Ok(())
    }

    /// Returns how much was taken, in bytes.
    fn take_spare(&mut self, command: &Command, args: Args<'_>) -> Result<usize, CommandError> {
        let bytes = command.batch_bytes_max(&args);
        if self.spare_bytes < bytes {
            self.reserve_spare(command, args, bytes)?;
        }
        self.spare_bytes -= bytes;
        Ok(bytes)
    }

    /// Reserves twice what was reserved before if there is room for so much, so that a script with many
    /// writes reserves rarely.
    #[cold]
    fn reserve_spare(&mut self, command: &Command, args: Args<'_>, bytes: usize) -> Result<(), CommandError> {
        let Some(pipeline) = self.engine.writer() else { return Err(RoleRefusal::ReadOnly.error()) };
        let purpose = command.purpose(args, self.tx.now_ms());
        let ample = bytes + SCRIPT_ROOM_BYTES.max(self.tx.effects().saturating_mul(64));
        let reserved = match pipeline.admit_run(1, ample, purpose) {
            Ok(credit) => Ok((credit, ample)),
            Err(_) => pipeline.admit_run(1, bytes, purpose).map(|credit| (credit, bytes)),
        };
        let (credit, bytes) = reserved.map_err(|refusal| match refusal {
            Refusal::Full { cause } => CommandError::no_room(&cause),
            Refusal::ReadOnly { cause } => CommandError::read_only(&cause),
            refusal => CommandError::no_room_in_script(command.name, bytes, &refusal),
        })?;
        self.replies.credit.absorb(credit);
        self.spare_bytes += bytes;
        Ok(())
    }

    /// How many effects the batch has.
    pub fn effects(&self) -> usize {
        self.tx.effects()
    }

    /// Runs a command inline: a staged one to its end.
    pub fn run(&mut self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) {
        match self.step(database, command, args, reply) {
            Stage::Done => {}
            Stage::Prepare(_) => unreachable!("a transaction prepares nothing"),
            // A transaction does not wait: commands that could feed the keys come after it.
            Stage::Park(park) => (park.in_exec)(reply),
            Stage::NeedsRoom(bytes) => match self.make_room(command, args, bytes) {
                Ok(()) => self.run(database, command, args, reply),
                Err(error) => reply.error(&error),
            },
            // A job's wait would never end while this holds the lock.
            Stage::Run(job)
            | Stage::Offload(job)
            | Stage::Copy(job)
            | Stage::Wait(WaitingJob { job, .. }) => {
                let mut next = Some(job);
                while let Some(job) = next {
                    let finish = job(&InBatch { tx: RefCell::new(&mut self.tx), room: reply.room() });
                    let mark = reply.mark();
                    let rest = self.tx.read(|view| finish(view, reply));
                    next = end(rest, mark, reply);
                }
            }
        }
    }

    /// Sets the words of the next commands that have their own allocations; see [`WriteRun::referring`].
    pub fn refer(&mut self, contents: Option<Arc<Contents>>) {
        self.tx.lent.contents = contents;
    }

    /// Adds a message for the audience of notices, in the order of the batch's other notices. It waits for
    /// the batch and for `floor`.
    pub fn announce(&mut self, message: Box<dyn Any + Send + Sync>, floor: Lsn) {
        self.tx.store().hook.notices.add_message(message, floor);
    }

    /// Reads the current state of a database, for replies that are not gated.
    pub fn look_at<R>(&mut self, database: u32, look: impl FnOnce(&View<'_>) -> R) -> R {
        self.tx.select(database);
        self.tx.look(look)
    }

    /// Reads the current state; the reply waits for what was read.
    pub fn read<R>(&mut self, read: impl FnOnce(&View<'_>) -> R) -> R {
        self.tx.read(read)
    }

    /// Reads the current state, for replies that are not gated (INFO).
    pub fn look<R>(&mut self, look: impl FnOnce(&View<'_>) -> R) -> R {
        self.tx.look(look)
    }

    /// True if a watched key changed or expired since it was watched; the reply then waits for that change.
    pub fn is_dirty(&mut self, watch: &Watch) -> bool {
        self.tx.read(|view| {
            if let Some(batch) = watch.dirtied_by() {
                view.wait_for(batch);
                return true;
            }
            let present = watch.present.lock();
            present.iter().any(|(database, key)| view.peek(*database, key).is_none())
        })
    }

    /// The bytes that effects of the command may take in the log beyond the bound from its words, with the
    /// current keyspace.
    pub fn room_of(&mut self, database: u32, command: &Command, args: Args<'_>) -> usize {
        self.tx.select(database);
        command.room.map_or(0, |room| self.tx.look(|view| room(view, args)))
    }

    /// Ends the batch without submitting it. Returns the gate of its reply, which the run keeps too.
    #[inline]
    fn end(mut self) -> (ReplyGate, &'t mut Store, &'t mut RunReplies) {
        if !self.tx.store().hook.fed.is_empty() {
            self.serve_parked();
        }
        let Transaction { tx, replies, .. } = self;
        let (gate, store) = tx.finish();
        replies.wait_for(gate);
        (gate, store, replies)
    }

    /// Submits the batch; returns the gate of its reply.
    pub fn finish(self) -> Lsn {
        let engine = self.engine;
        let (gate, store, replies) = self.end();
        replies.submit(engine, store, gate)
    }

    /// Reserves more room in the log within a transaction, without waiting for it. The shell's reservation
    /// before the transaction covers what its commands add to each other's needs by their words; SWAPDB can
    /// need more.
    #[cold]
    fn make_room(&mut self, command: &Command, args: Args<'_>, bytes: usize) -> Result<(), CommandError> {
        let purpose = command.purpose(args, self.tx.now_ms());
        let Some(pipeline) = self.engine.writer() else { return Err(RoleRefusal::ReadOnly.error()) };
        let admitted = pipeline.admit_run(1, bytes, purpose);
        let admitted =
            admitted.map_err(|refusal| CommandError::no_room_reserved(command.name, bytes, &refusal))?;
        self.replies.credit.absorb(admitted);
        self.tx.lent.room_bytes += bytes;
        Ok(())
    }

    /// Takes the room that the command needs. `Err` with its whole need if there is less room.
    #[cold]
    fn take_room(&mut self, room: RoomFinder, args: Args<'_>) -> Result<(), usize> {
        let bytes = self.tx.look(|view| room(view, args));
        self.tx.lent.room_bytes = self.tx.lent.room_bytes.checked_sub(bytes).ok_or(bytes)?;
        Ok(())
    }

    fn step(&mut self, database: u32, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> Stage {
        self.tx.select(database);
        self.tx.event(command.event);
        self.tx.store().hook.notices.begin_command();
        if let Some(room) = command.room
            && let Err(bytes) = self.take_room(room, args)
        {
            return Stage::NeedsRoom(bytes);
        }
        match command.handler {
            Handler::Write(handler) => {
                let mark = reply.mark();
                if let Err(error) = handler(&mut self.tx, args, reply) {
                    fail(reply, mark, &error);
                }
                Stage::Done
            }
            Handler::Blocking(handler) => {
                run_blocking(reply, |reply| handler(&mut self.tx, args, reply)).into()
            }
            _ => self.tx.read(|view| read(view, command, args, reply)),
        }
    }
}
