//! The way of batches into the log: forms entries, has them written, and publishes what is durable.
//!
//! A batch passes three points. [`Pipeline::admit`] reserves room before the keyspace lock is taken, so that
//! an applied batch can always be logged. [`Pipeline::submit`], called under the keyspace's write lock,
//! copies the batch into the entry being formed: call order is LSN order. The writer appends whole entries
//! and publishes [`Pipeline::durable`] in order. Group commit needs no timer: all batches submitted while an
//! entry is being written go into the next one.
//!
//! One thread at a time runs the writer: the log thread, after it was *called*, or a *leading* thread, whose
//! clients all wait for the entry to be written. Leading saves two wake-ups for each entry, which on a fast
//! disk cost as much as the write itself (decision 0003). On a slow disk no thread leads.
//!
//! Invariants:
//!
//! - LSNs are submitted densely, in ascending order. Engine time never decreases from one batch to the next,
//!   nor from one entry to the next: a batch that was overtaken by a Time entry gets that entry's time.
//! - `durable` only grows, and when it reads L, every batch through L is durable.
//! - Reserved room (of credits and of submitted batches) never exceeds the room that the log has prepared, so
//!   an append never meets a full disk. A part of the prepared room is for batches that free memory
//!   ([`Purpose`]).
//! - While there is no room for a claim, nothing is admitted ([`opening`]).
//! - Batches of one run are submitted together, under one hold of the pipeline's state.
//! - A thread that stops running the writer while work is left calls the log thread.
//! - After a failure nothing more is published, `submit` drops its batches, and every waiter gets the
//!   failure. The pipeline cannot resume: the process must recover from the log.
//!
//! Deliberately not here: holding back replies (the server's gate), and the decision to stop the process.

mod admission;
mod batches;
mod forming;
mod opening;
mod writer;

pub use admission::{AdmissionTurn, Credit};
pub use batches::Batches;

use super::entry::{HEADER_BYTES, PIECE_HEADER_BYTES, PieceKind, begin_piece};
use super::refusal::RoleRefusal;
use super::replay::Recovered;
use super::{ClaimError, Epoch, LogLimits, Lsn, Mark, Pos, Purpose, Room, RunningChecksum, ShardLog};
use admission::Turns;
use forming::{BatchBytes, Forming, LatePiece};
use opening::Opening;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use writer::{PipelineWriter, WriterRequest};

/// The largest usual time of a write on a quick disk: a few times the cost of waking a thread and being woken
/// by it. A single write that stalls keeps the usual time above this for a while.
const QUICK: Duration = Duration::from_micros(500);
/// With this much reserved room, the log thread is called without a kick.
const KICK_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug)]
pub struct Options {
    /// The writer's name in the Claim, for people who read the log.
    pub node: String,
    /// The largest room of batches that are admitted and not yet appended; bounds memory. One batch larger
    /// than that is admitted alone.
    pub buffer_bytes_max: u64,
    /// Starts a log thread. Without one, [`Pipeline::pump`] does its work: for tests that must replay from a
    /// seed.
    pub log_thread: bool,
    /// An idle log thread sleeps until [`Pipeline::kick`], or until `KICK_BYTES` are reserved. A thread that
    /// submits must kick before it waits for anything. The batches of a whole round of connections then
    /// become one entry and cost one wake-up.
    pub wake_on_kick: bool,
    /// Starts without a claim if the disk has no room for one. Nothing is admitted until a claim succeeds,
    /// which is tried each second. If false, the start fails instead.
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

/// The state in which ordinary writes are refused because the log has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogShortage {
    /// An error text for operators.
    pub cause: String,
    /// There is no room even for a claim: commands that free memory are refused too.
    pub read_only: bool,
}

/// Called by the thread that runs the writer; must return quickly.
pub trait DurableWatcher: Send + Sync {
    /// Every batch through `lsn` is durable. Returns true if this woke a thread that waited for it.
    fn durable(&self, lsn: Lsn) -> bool;
    /// Nothing more will become durable. The process must stop, or drop its state if it was fenced.
    fn failed(&self, fatal: &Fatal);
}

/// The log has failed for good; replies that are held back must never be released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction log failed: {cause}")]
pub struct Fatal {
    pub cause: String,
    /// Set if another writer has claimed the log: the process must drop its state and recover it. Otherwise
    /// it must stop.
    pub fenced_by: Option<Epoch>,
}

impl Fatal {
    fn closed() -> Fatal {
        Fatal { cause: "it is closed".to_owned(), fenced_by: None }
    }
}

/// The reason why a batch is not admitted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no room until an operator frees space. Reads go on; writes resume by themselves then.
    #[error("no room in the transaction log: {cause}")]
    Full { cause: String },
    /// There is no room even for a claim: nothing is admitted until there is.
    #[error("read-only, because there is no room to claim the transaction log: {cause}")]
    ReadOnly { cause: String },
    /// The log is behind: the caller must try again after the next durable batch, or in a millisecond.
    #[error("the transaction log is behind")]
    Busy,
    /// The engine does not write the log.
    #[error(transparent)]
    Role(#[from] RoleRefusal),
    #[error(transparent)]
    Failed(#[from] Fatal),
}

/// The way of batches into a log, for one writer; see the module's doc.
pub struct Pipeline {
    shared: Arc<Shared>,
    /// `None` until the log is claimed.
    writer: Arc<Mutex<Option<PipelineWriter>>>,
    /// The claim, for `pump` if there is no log thread.
    opening: Opening,
    /// `None` without a log thread, and after its end.
    thread: Mutex<Option<JoinHandle<()>>>,
    has_thread: bool,
}

struct Shared {
    log: Arc<dyn ShardLog>,
    limits: LogLimits,
    buffer_bytes_max: u64,
    state: Mutex<State>,
    /// The log thread waits here for work.
    work: Condvar,
    /// Blocking callers (tests, tools, rotate, close) wait here.
    progress: Condvar,
    /// The last durable LSN.
    durable: AtomicU64,
    wake_on_kick: bool,
    /// Batches wait for which the log thread was not called.
    unkicked: AtomicBool,
    /// The smoothed time of a write, in nanoseconds; 0 if it is not known.
    usual_ns: AtomicU64,
    watchers: RwLock<Vec<Arc<dyn DurableWatcher>>>,
}

struct State {
    /// Full entries, in order.
    ready: VecDeque<Forming>,
    forming: Option<Forming>,
    /// The last submitted LSN.
    last_lsn: Lsn,
    /// The highest engine time of all batches and entries so far.
    engine_time_ms: u64,
    checksum: RunningChecksum,
    /// Room held by credits and by batches that are not appended yet.
    reserved_bytes: u64,
    turns: Turns,
    /// No thread runs the writer.
    idle: bool,
    /// The log thread must run the writer.
    called: bool,
    /// The least number of waiting batches for which a kick is due; see [`writer`].
    expected_batches: usize,
    request: Option<WriterRequest>,
    /// The result of the last seal, until its caller takes it.
    sealed: Option<Result<Pos, Refusal>>,
    closed: bool,
    failed: Option<Fatal>,
    /// The reason why there is no claim yet.
    unclaimed: Option<String>,
    /// The cause of refused ordinary writes, and the least room that one of them needed. Cleared when there
    /// is that much room.
    refused: Option<(String, u64)>,
    buffers: Vec<Vec<u8>>,
    mark: Mark,
}

impl Pipeline {
    /// Claims the log right after the recovered end, and starts the log thread.
    pub fn start(
        log: Arc<dyn ShardLog>,
        recovered: &Recovered,
        options: Options,
    ) -> Result<Pipeline, ClaimError> {
        let checkpoint = recovered.checkpoint;
        assert!(checkpoint.mark.pos <= recovered.end.mark.pos, "a log ends behind what was read of it");
        log.limits().assert_usable();
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
                turns: Turns::default(),
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

    /// Submits a batch. Called under the keyspace's write lock, so that call order is LSN order. Copies the
    /// batch; never blocks on the disk.
    ///
    /// # Panics
    /// If `lsn` is not the next one, or the credit is too small. Both are bugs, which would break the log's
    /// order or its accounting of room.
    pub fn submit(&self, credit: &mut Credit, lsn: Lsn, engine_time_ms: u64, batch: &[u8]) {
        let crc = crc32c::crc32c(batch);
        let mut state = self.shared.state.lock();
        let got = state.submit(&self.shared.limits, credit, engine_time_ms, &BatchBytes::Here(batch), crc);
        assert_eq!(lsn, got, "batches are submitted in LSN order");
        self.wake(state);
    }

    /// Submits the batches of a run, of which there must be at least one. Returns the LSN of the first one;
    /// the others follow densely. Of a batch that is larger than an entry, only the last piece is copied
    /// here: the writer copies the others, one per entry.
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
        assert!(state.last_lsn >= first, "a run has a batch");
        batches.clear();
        self.wake(state);
        first
    }

    /// After a submit: calls the log thread, or leaves that to the next kick.
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

    /// Calls the log thread if batches wait for which it was not called. Otherwise costs one load.
    pub fn kick(&self) {
        let shared = &self.shared;
        if shared.unkicked.load(Ordering::Acquire) && shared.unkicked.swap(false, Ordering::AcqRel) {
            shared.call(shared.state.lock());
        }
    }

    /// True if batches wait for which no thread was called. Costs one load.
    pub fn is_kick_due(&self) -> bool {
        self.shared.unkicked.load(Ordering::Acquire)
    }

    /// True if writing an entry takes about as long as waking a thread for it, so that [`Pipeline::lead`] is
    /// better than a kick.
    pub fn is_quick(&self) -> bool {
        let usual = self.usual_time();
        !usual.is_zero() && usual <= QUICK
    }

    /// The smoothed time of writing an entry; 0 if it is not known.
    pub fn usual_time(&self) -> Duration {
        Duration::from_nanos(self.shared.usual_ns.load(Ordering::Relaxed))
    }

    /// Writes one entry of waiting batches in the caller's thread, unless another thread runs the writer;
    /// replaces a kick. Blocks on the disk, usually for a few hundred microseconds, and without bound if the
    /// disk stalls.
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

    /// The last durable LSN: every batch through it is durable.
    pub fn durable(&self) -> Lsn {
        Lsn(self.shared.durable.load(Ordering::Acquire))
    }

    /// The LSN of the last submitted batch.
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

    /// Calls the watcher for everything that becomes durable from now on, and for a failure; at once if the
    /// log has failed already.
    pub fn subscribe(&self, watcher: Arc<dyn DurableWatcher>) {
        let mut watchers = self.shared.watchers.write();
        // `fail` sets the failure first and reads the list then: a failure after this check reaches the new
        // watcher through the list.
        let Some(fatal) = self.failure() else { return watchers.push(watcher) };
        drop(watchers);
        watcher.failed(&fatal);
    }

    /// The failure, if the log has failed.
    pub fn failure(&self) -> Option<Fatal> {
        self.shared.state.lock().failed.clone()
    }

    /// Memory of batches on their way to the log, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.shared.state.lock().buffer_bytes()
    }

    /// The shortage of room, if ordinary writes are refused. It lasts until there is room for the smallest of
    /// the refused writes.
    pub fn shortage(&self) -> Option<LogShortage> {
        let mut state = self.shared.state.lock();
        if let Some(cause) = state.unclaimed.clone() {
            return Some(LogShortage { cause, read_only: true });
        }
        let (cause, least) = state.refused.clone()?;
        let room = self.shared.log.room();
        if room.full.is_none() || state.reserved_bytes + least <= room.for_purpose(Purpose::Any, false) {
            state.refused = None;
            return None;
        }
        Some(LogShortage { cause, read_only: false })
    }

    /// While the log cannot grow: the cause, and how many bytes of ordinary writes it still accepts.
    pub fn last_room(&self) -> Option<(String, u64)> {
        let state = self.shared.state.lock();
        let room = self.shared.log.room();
        let bytes = room.for_purpose(Purpose::Any, false).saturating_sub(state.reserved_bytes);
        room.full.map(|cause| (cause, bytes))
    }

    /// The mark of the last durable entry.
    pub fn mark(&self) -> Mark {
        self.shared.state.lock().mark
    }

    /// The underlying log, for reading and trimming.
    pub fn log(&self) -> &Arc<dyn ShardLog> {
        &self.shared.log
    }

    /// Seals the current segment once everything submitted so far is durable, and returns the last position
    /// in sealed segments: an offline snapshot can then cover all of it. Blocks. Returns `Busy` if the next
    /// segment is not prepared yet: the caller must try again.
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
        state.request = Some(WriterRequest::Seal);
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

    /// Writes a Time entry, which records that engine time has passed without batches. Does nothing while
    /// there is work or no room.
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
        state.request = Some(WriterRequest::Time { engine_time_ms });
        self.shared.call(state);
    }

    /// Makes everything submitted durable, writes a Release, and stops.
    pub fn close(&self) -> Result<(), Fatal> {
        self.close_at(0)
    }

    /// The same with this engine time in the Release.
    pub fn close_at(&self, engine_time_ms: u64) -> Result<(), Fatal> {
        self.stop(WriterRequest::Close { engine_time_ms });
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

    /// Does the log thread's work if there is none, until nothing is left to do or the log acknowledges
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

    fn stop(&self, request: WriterRequest) {
        {
            let mut state = self.shared.state.lock();
            while state.request.is_some() && state.failed.is_none() && self.has_thread {
                self.shared.progress.wait(&mut state);
            }
            if state.closed {
                return;
            }
            state.closed = true;
            state.set_request(&self.shared.limits, Some(request));
            self.shared.call(state);
        }
        self.pump();
        if let Some(thread) = self.thread.lock().take() {
            // The panic hook has reported a panic of the log thread.
            let _ = thread.join();
        }
    }
}

impl Drop for Pipeline {
    /// Closes the pipeline and ignores errors, so prefer [`Pipeline::close`].
    fn drop(&mut self) {
        if self.thread.lock().is_some() {
            self.stop(WriterRequest::Close { engine_time_ms: 0 });
        }
    }
}

impl Shared {
    /// Ends the pipeline: drops waiting batches, and reports the failure to waiters and watchers.
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

    /// Makes the log thread run the writer. Does nothing while a thread runs it, because that thread checks
    /// for work before it stops.
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
    /// Adds a batch to the log, using room of the credit. Returns its LSN.
    fn submit(
        &mut self,
        limits: &LogLimits,
        credit: &mut Credit,
        time_ms: u64,
        batch: &BatchBytes<'_>,
        crc: u32,
    ) -> Lsn {
        let room = limits.room_for_batch(batch.len());
        let lsn = self.last_lsn.next();
        assert!(lsn > self.last_lsn, "LSNs do not run out");
        assert!(room <= credit.room, "a batch of {} bytes exceeds its credit", batch.len());
        self.last_lsn = lsn;
        if self.failed.is_some() || self.closed {
            return lsn;
        }
        assert!(self.unclaimed.is_none(), "nothing is admitted before the claim");
        assert!(self.reserved_bytes >= room, "a credit is reserved until its batch is written");
        credit.room -= room;
        // The batch's time was sampled earlier, and a Time entry may have overtaken it.
        let time_ms = time_ms.max(self.engine_time_ms);
        self.engine_time_ms = time_ms;
        self.add(limits, (lsn, time_ms), batch, crc, room);
        lsn
    }

    /// Adds a batch to the forming entry, in pieces if it is larger than an entry.
    fn add(
        &mut self,
        limits: &LogLimits,
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
        assert_eq!(forming.entry.last_lsn, lsn, "the batch ends in this entry");
        assert!(forming.late.is_none(), "the end of a batch is copied at once");
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
        // First and middle pieces are alone in their entry, so that the writer can copy them later.
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
        let time_offset_ms = u32::try_from(time_offset_ms).expect("`fits` checked the time");
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

    /// Bytes of entries that are not appended yet, and of buffers for others.
    fn buffer_bytes(&self) -> usize {
        let entries = self.ready.iter().chain(&self.forming);
        entries.map(|forming| forming.entry.bytes.capacity()).sum::<usize>()
            + self.buffers.iter().map(Vec::capacity).sum::<usize>()
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
        assert_eq!(forming.batches == 0, forming.reserved_bytes == 0, "room is used with the end of a batch");
        assert!(forming.entry.last_lsn <= self.last_lsn, "batches are submitted before they are written");
        Some(forming)
    }
}

#[cfg(test)]
mod tests;
