//! From batches to durable entries: what the engine calls.
//!
//! A batch passes three points. [`Pipeline::admit`] reserves room before the keyspace lock is taken, so that
//! an applied batch can always be logged. [`Pipeline::submit`], under the keyspace's write lock, copies it
//! into the entry being formed and gives it its place: call order is LSN order. The writer appends whole
//! entries and publishes [`Pipeline::durable`] in order. Group commit needs no timer: whatever was submitted
//! while an entry was being written goes into the next.
//!
//! The writer is run by one thread at a time: by the log thread, which is *called*, or by a thread that
//! *leads*: one whose clients all wait for the entry that is to be written. Leading saves two wake-ups for
//! each entry, which on a quick disk cost as much as the disk does (decision 0003). On a slow disk no thread
//! leads.
//!
//! Invariants:
//!
//! - LSNs are submitted densely, each one above the last. Engine time never steps back from one to the next,
//!   nor from entry to entry: a batch that a Time entry has overtaken gets that one's time.
//! - `durable` only grows, and when it reads L, every batch through L is durable.
//! - Reserved room (held by credits or by submitted batches) never exceeds what the log has prepared, so an
//!   append never meets a full disk. A part of what is prepared is for batches that free memory
//!   ([`Purpose`]).
//! - Where there is no room for a claim, nothing is admitted until there is ([`opening`]).
//! - Batches of one run are submitted together, under one hold of the pipeline's state.
//! - A thread that stops running the writer while there is work left calls the log thread.
//! - After a failure nothing is published any more, `submit` drops what it gets, and every waiter gets the
//!   failure. There is no way back: the process recovers from the log.
//!
//! Deliberately not here: what to do with replies (the server's gate), and when to stop the process.

mod batches;
mod forming;
mod opening;
mod writer;

pub use batches::Batches;

use super::entry::{HEADER_BYTES, PIECE_HEADER_BYTES, PieceKind, begin_piece};
use super::refusal::RoleRefusal;
use super::replay::Recovered;
use super::{ClaimError, Epoch, Limits, Lsn, Mark, Pos, Purpose, Room, RunningChecksum, ShardLog};
use forming::{BatchBytes, Forming, LatePiece};
use opening::Opening;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use writer::{Request, Writer};

/// Up to here writing an entry counts as quick: a few times what calling a thread and being woken by it
/// costs. One write that stalls is enough to be above for a while.
const QUICK: Duration = Duration::from_micros(500);
/// So much reserved room wakes the log thread without a kick.
const KICK_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug)]
pub struct Options {
    /// Who writes: goes into the Claim, for people who read the log.
    pub node: String,
    /// Bound of memory for batches that are admitted and not yet appended, counted in room. One batch larger
    /// than that is admitted alone.
    pub buffer_bytes_max: u64,
    /// Without a log thread, [`Pipeline::pump`] does its work: for tests that must replay from a seed.
    pub log_thread: bool,
    /// Whether an idle log thread sleeps on until [`Pipeline::kick`], or until an entry's worth of batches
    /// waits. A thread that submits then has to kick before it waits for anything: what a whole round of
    /// connections submitted becomes one entry and one wake-up.
    pub wake_on_kick: bool,
    /// Starts without a claim where the disk has no room for one: nothing is admitted until there is, which
    /// is tried each second. Otherwise that is an error of the start.
    pub read_only_when_full: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            node: "engramdb".to_owned(),
            buffer_bytes_max: 64 << 20,
            log_thread: true,
            wake_on_kick: false,
            read_only_when_full: false,
        }
    }
}

/// Why ordinary writes are refused for want of room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub cause: String,
    /// Not even a claim has room: what frees memory is refused as well.
    pub read_only: bool,
}

/// Called by the thread that runs the writer; must return quickly.
pub trait DurableWatcher: Send + Sync {
    /// Every batch through `lsn` is durable. True if that woke a thread that waited for it.
    fn durable(&self, lsn: Lsn) -> bool;
    /// Nothing more will become durable; the process has to stop.
    fn failed(&self, fatal: &Fatal);
}

/// The log is gone; held replies must never be released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction log failed: {cause}")]
pub struct Fatal {
    pub cause: String,
    /// Another writer has claimed the log: the state is to be dropped and recovered. Otherwise the process
    /// has to stop.
    pub fenced_by: Option<Epoch>,
}

impl Fatal {
    fn closed() -> Fatal {
        Fatal { cause: "it is closed".to_owned(), fenced_by: None }
    }
}

/// Why a batch is not admitted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No more room until an operator acts; reads go on, and so do writes once there is room again.
    #[error("no room in the transaction log: {cause}")]
    Full { cause: String },
    /// There is no room even for a claim: nothing is admitted until there is.
    #[error("read-only, for there is no room to claim the transaction log: {cause}")]
    ReadOnly { cause: String },
    /// The log is behind: try again after the next durable batch, or in a millisecond.
    #[error("the transaction log is behind")]
    Busy,
    /// The engine does not write the log.
    #[error(transparent)]
    Role(#[from] RoleRefusal),
    #[error(transparent)]
    Failed(#[from] Fatal),
}

/// Reserved room in the log. What is not submitted returns on drop.
pub struct Credit {
    /// `None` where there is no room to return.
    shared: Option<Arc<Shared>>,
    room: u64,
}

impl Credit {
    /// No room, for a run that only reads.
    pub fn none() -> Credit {
        Credit { shared: None, room: 0 }
    }

    /// Takes over what another reserved.
    pub fn absorb(&mut self, mut other: Credit) {
        self.room += std::mem::take(&mut other.room);
        if self.shared.is_none() {
            self.shared = other.shared.take();
        }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.as_ref().filter(|_| self.room > 0) {
            let mut state = shared.state.lock();
            assert!(state.reserved_bytes >= self.room, "room is given back once");
            state.reserved_bytes -= self.room;
        }
    }
}

/// The way into a log, for one writer. Shared by reference; see the module's doc.
pub struct Pipeline {
    shared: Arc<Shared>,
    /// `None` until the log is claimed.
    writer: Arc<Mutex<Option<Writer>>>,
    /// What is to be claimed where there is no log thread.
    opening: Opening,
    /// `None` when [`Pipeline::pump`] does its work, and after the end.
    thread: Mutex<Option<JoinHandle<()>>>,
    has_thread: bool,
}

struct Shared {
    log: Arc<dyn ShardLog>,
    limits: Limits,
    buffer_bytes_max: u64,
    state: Mutex<State>,
    /// The log thread waits here for work.
    work: Condvar,
    /// Blocking waiters (tests, tools, rotate, close) wait here.
    progress: Condvar,
    durable: AtomicU64,
    wake_on_kick: bool,
    /// Batches wait and the log thread was not called for them.
    unkicked: AtomicBool,
    /// How long writing an entry usually takes, in nanoseconds; 0 where that is not known.
    usual_ns: AtomicU64,
    watchers: RwLock<Vec<Arc<dyn DurableWatcher>>>,
}

struct State {
    /// Entries that are full, in order.
    ready: VecDeque<Forming>,
    forming: Option<Forming>,
    last_lsn: Lsn,
    /// The highest engine time that an entry states, or will.
    engine_time_ms: u64,
    checksum: RunningChecksum,
    /// Room held by credits and by batches that are not appended yet.
    reserved_bytes: u64,
    /// No thread runs the writer.
    idle: bool,
    /// The log thread is to run it.
    called: bool,
    /// The number of waiting batches from which on a kick is due; see [`writer`].
    expected_batches: usize,
    request: Option<Request>,
    /// The answer to the last seal.
    sealed: Option<Result<Pos, Refusal>>,
    closed: bool,
    failed: Option<Fatal>,
    /// Why there is no claim yet.
    unclaimed: Option<String>,
    /// Why ordinary writes were refused, and the least room that one of them wanted; until there is so much.
    refused: Option<(String, u64)>,
    buffers: Vec<Vec<u8>>,
    mark: Mark,
}

impl Pipeline {
    /// Claims the log right after what was recovered, and starts the log thread.
    pub fn start(
        log: Arc<dyn ShardLog>,
        recovered: &Recovered,
        options: Options,
    ) -> Result<Pipeline, ClaimError> {
        let checkpoint = recovered.checkpoint;
        let shared = Arc::new(Shared {
            limits: log.limits(),
            log,
            buffer_bytes_max: options.buffer_bytes_max,
            state: Mutex::new(State {
                ready: VecDeque::new(),
                forming: None,
                last_lsn: checkpoint.lsn,
                engine_time_ms: checkpoint.engine_time_ms,
                checksum: checkpoint.checksum,
                reserved_bytes: 0,
                idle: true,
                called: false,
                expected_batches: 0,
                request: None,
                sealed: None,
                closed: false,
                failed: None,
                unclaimed: None,
                refused: None,
                buffers: Vec::new(),
                mark: checkpoint.mark,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            durable: AtomicU64::new(checkpoint.lsn.0),
            wake_on_kick: options.wake_on_kick && options.log_thread,
            unkicked: AtomicBool::new(false),
            usual_ns: AtomicU64::new(0),
            watchers: RwLock::new(Vec::new()),
        });
        let opening = Opening::new(options.node, recovered);
        let mut writer = None;
        opening.claim(&shared, &mut writer)?;
        let unclaimed = shared.state.lock().unclaimed.clone();
        if let Some(cause) = unclaimed.filter(|_| !options.read_only_when_full) {
            return Err(ClaimError::Unavailable { cause });
        }
        let writer = Arc::new(Mutex::new(writer));
        let thread = options.log_thread.then(|| {
            let (shared, writer, opening) = (shared.clone(), writer.clone(), opening.clone());
            let run = move || {
                if opening.wait(&shared, &writer) {
                    writer::run(&shared, &writer);
                }
            };
            std::thread::Builder::new().name("log".to_owned()).spawn(run)
        });
        let thread = thread
            .transpose()
            .map_err(|error| ClaimError::Fatal { cause: format!("cannot start the log thread: {error}") })?;
        let has_thread = options.log_thread;
        Ok(Pipeline { shared, writer, opening, thread: Mutex::new(thread), has_thread })
    }

    /// Reserves room for one batch of at most `bytes`. Called before the keyspace lock is taken; never blocks
    /// on the disk.
    pub fn admit(&self, bytes: usize) -> Result<Credit, Refusal> {
        self.admit_run(1, bytes, Purpose::Any)
    }

    /// Reserves room for at most `batches` batches of at most `bytes` together.
    pub fn admit_run(&self, batches: usize, bytes: usize, purpose: Purpose) -> Result<Credit, Refusal> {
        let shared = &self.shared;
        if batches == 0 {
            // A transaction that only reads.
            return Ok(Credit::none());
        }
        let mut wanted = shared.limits.room_for_batch(bytes);
        if batches > 1 {
            // However the bytes are shared out, padding costs each batch less than two blocks.
            wanted += shared.limits.room_for_batch(0) * 2 * batches as u64;
        }
        let mut state = shared.state.lock();
        if let Some(fatal) = &state.failed {
            return Err(Refusal::Failed(fatal.clone()));
        }
        if state.closed {
            return Err(Refusal::Failed(Fatal::closed()));
        }
        if let Some(cause) = state.unclaimed.clone() {
            return Err(Refusal::ReadOnly { cause });
        }
        let reserved = state.reserved_bytes + wanted;
        if reserved > shared.buffer_bytes_max && state.reserved_bytes > 0 {
            return Err(Refusal::Busy);
        }
        let sealing = state.request == Some(Request::Seal);
        let fits = |room: &Room| reserved <= room.for_purpose(purpose, sealing);
        let mut room = shared.log.room();
        if !fits(&room) {
            shared.log.want_room(reserved);
            room = shared.log.room();
        }
        if !fits(&room) {
            let Some(cause) = room.full else { return Err(Refusal::Busy) };
            if purpose == Purpose::Any {
                let least = state.refused.as_ref().map_or(wanted, |(_, least)| wanted.min(*least));
                state.refused = Some((cause.clone(), least));
            }
            return Err(Refusal::Full { cause });
        }
        state.reserved_bytes = reserved;
        Ok(Credit { shared: Some(self.shared.clone()), room: wanted })
    }

    /// Hands over a batch. Called under the keyspace's write lock, so that call order is LSN order. Only
    /// copies; never blocks on the disk.
    ///
    /// # Panics
    /// If `lsn` is not the next one, or the credit is too small: bugs that would break the log's order or its
    /// room.
    pub fn submit(&self, credit: &mut Credit, lsn: Lsn, engine_time_ms: u64, batch: &[u8]) {
        let crc = crc32c::crc32c(batch);
        let mut state = self.shared.state.lock();
        let got = state.submit(&self.shared.limits, credit, engine_time_ms, &BatchBytes::Here(batch), crc);
        assert_eq!(lsn, got, "batches are submitted in LSN order");
        self.wake(state);
    }

    /// Hands over the batches of a run, of which there is at least one. Returns the LSN of the first; the
    /// others follow it. Of a batch that is larger than an entry only the end is copied here: the writer
    /// copies the rest, an entry at a time.
    ///
    /// # Panics
    /// As [`Pipeline::submit`].
    pub fn submit_run(&self, credit: &mut Credit, engine_time_ms: u64, batches: &mut Batches) -> Lsn {
        let shared = &self.shared;
        let referred = batches.refer(shared.limits.entry_bytes_max - HEADER_BYTES - PIECE_HEADER_BYTES);
        let mut state = shared.state.lock();
        let first = state.last_lsn.next();
        for (range, crc) in batches.iter() {
            let bytes = match &referred {
                None => BatchBytes::Here(batches.bytes(range)),
                Some(batch) => BatchBytes::Referred(batch.clone(), range),
            };
            state.submit(&shared.limits, credit, engine_time_ms, &bytes, crc);
        }
        batches.clear();
        self.wake(state);
        first
    }

    /// After a submit: has the log thread write what waits, or leaves that to the next kick.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let shared = &self.shared;
        if state.failed.is_some() || state.closed {
            return;
        }
        if shared.wake_on_kick && state.reserved_bytes < KICK_BYTES {
            if state.idle && state.forming_batches() >= state.expected_batches {
                shared.unkicked.store(true, Ordering::Release);
            }
            return;
        }
        shared.call(state);
    }

    /// Calls the log thread if batches wait for it and it was not called for them. Costs one load otherwise.
    pub fn kick(&self) {
        let shared = &self.shared;
        if shared.unkicked.load(Ordering::Acquire) && shared.unkicked.swap(false, Ordering::AcqRel) {
            shared.call(shared.state.lock());
        }
    }

    /// Whether batches wait for which no thread was called. Costs one load.
    pub fn is_kick_due(&self) -> bool {
        self.shared.unkicked.load(Ordering::Acquire)
    }

    /// Whether writing an entry takes about as long as calling a thread for it, so that [`Pipeline::lead`] is
    /// better than a kick.
    pub fn is_quick(&self) -> bool {
        let usual = self.usual_time();
        !usual.is_zero() && usual <= QUICK
    }

    /// How long writing an entry usually takes; 0 where that is not known.
    pub fn usual_time(&self) -> Duration {
        Duration::from_nanos(self.shared.usual_ns.load(Ordering::Relaxed))
    }

    /// A kick that does the work: writes one entry of what waits, in this thread, unless a thread runs the
    /// writer. Blocks on the disk, usually for a few hundred microseconds, and without bound when the disk
    /// stalls.
    pub fn lead(&self) {
        let shared = &self.shared;
        if !shared.unkicked.swap(false, Ordering::AcqRel) {
            return;
        }
        {
            let mut state = shared.state.lock();
            if !state.idle {
                return;
            }
            state.idle = false;
        }
        if let Some(writer) = &mut *self.writer.lock() {
            writer.write_one();
        }
    }

    /// Every batch through this one is durable.
    pub fn durable(&self) -> Lsn {
        Lsn(self.shared.durable.load(Ordering::Acquire))
    }

    /// The last batch submitted.
    pub fn last_lsn(&self) -> Lsn {
        self.shared.state.lock().last_lsn
    }

    /// Blocks until the batch is durable: for tests and tools.
    pub fn wait(&self, lsn: Lsn) -> Result<(), Fatal> {
        let mut state = self.shared.state.lock();
        while self.durable() < lsn {
            if let Some(fatal) = &state.failed {
                return Err(fatal.clone());
            }
            self.shared.progress.wait(&mut state);
        }
        Ok(())
    }

    /// Tells the watcher of everything that becomes durable from now on, and of a failure: at once if the log
    /// has failed.
    pub fn subscribe(&self, watcher: Arc<dyn DurableWatcher>) {
        let mut watchers = self.shared.watchers.write();
        // A failure that is noted after this look is told to those in the list.
        let Some(fatal) = self.failure() else { return watchers.push(watcher) };
        drop(watchers);
        watcher.failed(&fatal);
    }

    /// The failure, if the log has failed.
    pub fn failure(&self) -> Option<Fatal> {
        self.shared.state.lock().failed.clone()
    }

    /// Whether ordinary writes are refused for want of room, and why. Once they were, they count as refused
    /// until there is room for the smallest of those.
    pub fn shortage(&self) -> Option<Shortage> {
        let mut state = self.shared.state.lock();
        if let Some(cause) = state.unclaimed.clone() {
            return Some(Shortage { cause, read_only: true });
        }
        let (cause, least) = state.refused.clone()?;
        let room = self.shared.log.room();
        if room.full.is_none() || state.reserved_bytes + least <= room.for_purpose(Purpose::Any, false) {
            state.refused = None;
            return None;
        }
        Some(Shortage { cause, read_only: false })
    }

    /// While the log cannot grow: why, and how many bytes of writes it still takes before it refuses them.
    pub fn last_room(&self) -> Option<(String, u64)> {
        let state = self.shared.state.lock();
        let room = self.shared.log.room();
        let bytes = room.for_purpose(Purpose::Any, false).saturating_sub(state.reserved_bytes);
        room.full.map(|cause| (cause, bytes))
    }

    /// The mark behind the last entry that is durable.
    pub fn mark(&self) -> Mark {
        self.shared.state.lock().mark
    }

    /// The log below, for reading and trimming.
    pub fn log(&self) -> &Arc<dyn ShardLog> {
        &self.shared.log
    }

    /// Closes the current segment once everything submitted so far is durable, and returns the last position
    /// in sealed segments: an offline snapshot can then cover all of it. Blocks. `Busy` when the next segment
    /// is not prepared yet: try again.
    pub fn rotate(&self) -> Result<Pos, Refusal> {
        let shared = &self.shared;
        self.pump();
        let mut state = shared.state.lock();
        loop {
            if let Some(fatal) = &state.failed {
                return Err(fatal.clone().into());
            }
            if state.closed {
                return Err(Fatal::closed().into());
            }
            if let Some(cause) = state.unclaimed.clone() {
                return Err(Refusal::ReadOnly { cause });
            }
            if state.request.is_none() && state.sealed.is_none() {
                break;
            }
            shared.progress.wait(&mut state);
        }
        let room = shared.log.room();
        if state.reserved_bytes > room.bytes_after_seal {
            shared.log.want_room(room.bytes.saturating_add(1));
            return Err(room.full.map_or(Refusal::Busy, |cause| Refusal::Full { cause }));
        }
        state.request = Some(Request::Seal);
        shared.call(state);
        self.pump();
        let mut state = shared.state.lock();
        loop {
            if let Some(sealed) = state.sealed.take() {
                shared.progress.notify_all();
                return sealed;
            }
            if let Some(fatal) = &state.failed {
                return Err(fatal.clone().into());
            }
            shared.progress.wait(&mut state);
        }
    }

    /// Records that engine time has passed without batches. Skipped while there is work or no room.
    pub fn submit_time(&self, engine_time_ms: u64) {
        let mut state = self.shared.state.lock();
        let room = self.shared.log.room().for_purpose(Purpose::Any, false);
        let block = self.shared.limits.padded(HEADER_BYTES);
        if !state.idle
            || state.unclaimed.is_some()
            || state.request.is_some()
            || state.closed
            || state.failed.is_some()
            || state.reserved_bytes + block > room
        {
            return;
        }
        state.reserved_bytes += block;
        state.request = Some(Request::Time { engine_time_ms });
        self.shared.call(state);
    }

    /// Makes everything submitted durable, writes a Release, and stops.
    pub fn close(&self) -> Result<(), Fatal> {
        self.close_at(0)
    }

    /// The same; the Release notes that engine time has come so far.
    pub fn close_at(&self, engine_time_ms: u64) -> Result<(), Fatal> {
        self.stop(Request::Close { engine_time_ms });
        let state = self.shared.state.lock();
        match (&state.failed, state.request) {
            (Some(fatal), _) => Err(fatal.clone()),
            (None, None) => Ok(()),
            // Without a log thread, a close does not wait for acknowledgements.
            (None, Some(_)) if state.unclaimed.is_some() => Ok(()),
            (None, Some(_)) => {
                let cause = "it was closed before everything was acknowledged".to_owned();
                Err(Fatal { cause, fenced_by: None })
            }
        }
    }

    /// Does the log thread's work when there is none: until nothing is left to do, or the log acknowledges
    /// nothing more for now.
    pub fn pump(&self) {
        if self.has_thread {
            return;
        }
        let mut writer = self.writer.lock();
        if writer.is_none()
            && !self.shared.state.lock().closed
            && let Err(error) = self.opening.claim(&self.shared, &mut writer)
        {
            self.shared.fail(error.to_string(), None);
        }
        if let Some(writer) = &mut *writer {
            writer.write_what_is_acknowledged();
        }
    }

    fn stop(&self, request: Request) {
        {
            let mut state = self.shared.state.lock();
            while state.request.is_some() && state.failed.is_none() && self.has_thread {
                self.shared.progress.wait(&mut state);
            }
            if state.closed {
                return;
            }
            state.closed = true;
            state.request = Some(request);
            self.shared.call(state);
        }
        self.pump();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the log thread has been reported by the panic hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Pipeline {
    /// Like a close; errors are lost, so prefer [`Pipeline::close`].
    fn drop(&mut self) {
        if self.thread.lock().is_some() {
            self.stop(Request::Close { engine_time_ms: 0 });
        }
    }
}

impl Shared {
    /// Nothing more becomes durable.
    fn fail(&self, cause: String, fenced_by: Option<Epoch>) {
        let fatal = Fatal { cause, fenced_by };
        {
            let mut state = self.state.lock();
            state.failed = Some(fatal.clone());
            state.ready.clear();
            state.forming = None;
            self.progress.notify_all();
        }
        for watcher in self.watchers.read().iter() {
            watcher.failed(&fatal);
        }
    }

    /// Has the log thread run the writer. Does nothing while a thread runs it: that one looks for work before
    /// it stops.
    fn call(&self, mut state: MutexGuard<'_, State>) {
        if !state.idle {
            return;
        }
        state.idle = false;
        state.called = true;
        drop(state);
        self.work.notify_one();
    }
}

impl State {
    /// Takes a batch, whose room is the credit's. Returns its LSN.
    fn submit(
        &mut self,
        limits: &Limits,
        credit: &mut Credit,
        time_ms: u64,
        batch: &BatchBytes<'_>,
        crc: u32,
    ) -> Lsn {
        let room = limits.room_for_batch(batch.len());
        let lsn = self.last_lsn.next();
        assert!(room <= credit.room, "a batch of {} bytes exceeds its credit", batch.len());
        self.last_lsn = lsn;
        if self.failed.is_some() || self.closed {
            return lsn;
        }
        credit.room -= room;
        // A Time entry may have overtaken the batch, whose time was sampled before.
        let time_ms = time_ms.max(self.engine_time_ms);
        self.engine_time_ms = time_ms;
        self.add(limits, (lsn, time_ms), batch, crc, room);
        lsn
    }

    /// Appends a batch to the forming entry, splitting it if it is larger than an entry.
    fn add(
        &mut self,
        limits: &Limits,
        (lsn, time_ms): (Lsn, u64),
        batch: &BatchBytes<'_>,
        crc: u32,
        room: u64,
    ) {
        let checksum_before = self.checksum;
        self.checksum.add_crc(crc, batch.len());
        let whole_bytes = PIECE_HEADER_BYTES + batch.len();
        if !self.forming.as_ref().is_some_and(|forming| forming.fits(limits, whole_bytes, time_ms)) {
            self.finish_forming();
        }
        if whole_bytes + HEADER_BYTES <= limits.entry_bytes_max {
            self.piece(PieceKind::Whole, lsn, time_ms, batch, 0..batch.len());
        } else {
            let mut kind = PieceKind::First;
            for start in (0..batch.len()).step_by(limits.piece_bytes_max()) {
                let end = batch.len().min(start + limits.piece_bytes_max());
                let last = end == batch.len();
                self.piece(if last { PieceKind::Last } else { kind }, lsn, time_ms, batch, start..end);
                if !last {
                    let forming = self.forming.as_mut().expect("just added to");
                    forming.entry.checksum = checksum_before;
                    forming.entry.complete_lsn = Lsn(lsn.0 - 1);
                    self.finish_forming();
                }
                kind = PieceKind::Middle;
            }
        }
        let forming = self.forming.as_mut().expect("just added to");
        forming.entry.checksum = self.checksum;
        forming.entry.complete_lsn = lsn;
        forming.reserved_bytes += room;
        forming.batches += 1;
        assert!(forming.entry.bytes.len() <= limits.entry_bytes_max, "an entry keeps within its limit");
    }

    fn piece(
        &mut self,
        kind: PieceKind,
        lsn: Lsn,
        engine_time_ms: u64,
        batch: &BatchBytes<'_>,
        range: Range<usize>,
    ) {
        // First and middle pieces are alone in their entry.
        if let (BatchBytes::Referred(batch, whole), PieceKind::First | PieceKind::Middle) = (batch, kind) {
            let mut forming = Forming::new(Some(Vec::new()), lsn, engine_time_ms);
            let range = whole.start + range.start..whole.start + range.end;
            forming.late = Some(LatePiece { kind, batch: batch.clone(), range });
            self.forming = Some(forming);
            return;
        }
        let buffers = &mut self.buffers;
        let forming = self.forming.get_or_insert_with(|| Forming::new(buffers.pop(), lsn, engine_time_ms));
        forming.entry.last_lsn = lsn;
        let time_offset_ms = engine_time_ms - forming.entry.engine_time_ms;
        let time_offset_ms = u32::try_from(time_offset_ms).expect("it was asked whether the time fits");
        begin_piece(kind, range.len(), time_offset_ms, &mut forming.entry.bytes);
        match batch {
            BatchBytes::Here(bytes) => forming.entry.bytes.extend_from_slice(&bytes[range]),
            BatchBytes::Referred(batch, whole) => {
                let range = whole.start + range.start..whole.start + range.end;
                batch.copy(range, &mut forming.entry.bytes);
            }
        }
    }

    fn finish_forming(&mut self) {
        self.ready.extend(self.forming.take());
    }

    fn forming_batches(&self) -> usize {
        self.forming.as_ref().map_or(0, |forming| forming.batches)
    }

    fn has_work(&self) -> bool {
        self.forming.is_some() || !self.ready.is_empty() || self.request.is_some()
    }

    fn take_entry(&mut self) -> Option<Forming> {
        let forming = self.ready.pop_front().or_else(|| self.forming.take())?;
        assert!(forming.entry.first_lsn <= forming.entry.last_lsn, "an entry has a batch or a piece of one");
        assert!(forming.entry.last_lsn <= self.last_lsn, "batches are submitted before they are written");
        Some(forming)
    }
}

#[cfg(test)]
mod tests;
