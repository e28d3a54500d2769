//! Appends entries. The writer determines positions and bytes in order. The threads that call [`Acks::wait`]
//! write them, several at a time, and report them in order.
//!
//! The start of a segment is in the same queue as the entries, as a barrier: it is written when everything
//! before it is durable, and nothing after it is written before it is durable itself.
//!
//! A second claim in one process ends the previous writer: entries that this writer has not begun to write
//! are dropped, and its segment is sealed after its last durable entry, as a start does with the segment of a
//! killed process.

use super::reader::{Frontier, LocalIter, Tail, Unproven, Until};
use super::reserve::ReserveKind;
use super::segment::{SegmentHeader, SegmentInfo, segment_path};
use super::spare::{self, Sealed, Spare};
use super::{BLOCK_BYTES, STARTED, STARTED_TEXT, Shared, padded};
use crate::env::Access;
use crate::env::DiskFile;
use crate::log::entry::{self, EntryKind};
use crate::log::{
    Acks, Claim, ClaimError, EntryIter, Epoch, Idx, LogEnd, LogEntry, LogWriter, Lsn, Mark, Pos,
    RunningChecksum, Step, Wait, WriteError,
};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seals the last writer's segment and claims in a new one.
pub fn claim(shared: &Arc<Shared>, at: LogEnd, claim: &Claim) -> Result<Box<dyn LogWriter>, ClaimError> {
    let mut claimed = shared.claimed.lock();
    let epoch = Epoch(at.mark.pos.next().0);
    let (spare, log_end) = match &*claimed {
        Some(before) => succeed(shared, before, at, epoch)?,
        None => take_over(shared, at)?,
    };
    assert_eq!(log_end.mark, at.mark, "a claim is where its writer has read to");
    let last = {
        let mut state = shared.state.lock();
        assert!(state.epoch < epoch, "epochs grow");
        state.epoch = epoch;
        let last = state.last.take();
        state.current.as_ref().map(|(_, file)| file.clone()).or(last)
    };
    let queue = Arc::new(Queue::default());
    let mut writer = LocalWriter {
        acks: Arc::new(LocalAcks::new(shared.clone(), queue.clone())),
        queue: queue.clone(),
        shared: shared.clone(),
        mark: Mark { epoch, ..log_end.mark },
        lsn: claim.lsn,
        checksum: claim.checksum,
        segment_number: 0,
        segment_bytes: 0,
        file: spare.file.clone(),
        offset: 0,
        previous: last.map(|file| Sealed { file, end_offset: log_end.end_offset }),
    };
    *claimed = Some(queue);
    let failed = |error: WriteError| ClaimError::Fatal { cause: error.to_string() };
    writer.append_claim(spare, claim, at.mark).map_err(failed)?;
    note_started(shared).map_err(|error| failed(fatal(error)))?;
    cut_again(shared, &log_end.uncut);
    shared.want_room(0);
    Ok(Box::new(writer))
}

/// The first claim of this process: makes durable what the last process left. Returns the segment to claim
/// in, and the end of the log.
fn take_over(shared: &Arc<Shared>, at: LogEnd) -> Result<(Spare, Tail), ClaimError> {
    let fatal = |cause| ClaimError::Fatal { cause };
    let log_end = find_tail(shared).map_err(fatal)?;
    let spare = if log_end.mark != at.mark {
        Err(ClaimError::Behind(LogEnd { mark: log_end.mark }))
    } else {
        secure(shared, &log_end).map_err(fatal)?;
        first_spare(shared)
    };
    match spare {
        Ok(spare) => Ok((spare, log_end)),
        Err(error) => {
            // Kept for the next attempt, which is made each second while the disk is full.
            *shared.tail.lock() = Some(log_end);
            Err(error)
        }
    }
}

/// A later claim of this process: ends the previous writer. Returns the segment to claim in, and the end of
/// the log.
fn succeed(
    shared: &Arc<Shared>,
    before: &Queue,
    at: LogEnd,
    epoch: Epoch,
) -> Result<(Spare, Tail), ClaimError> {
    let (frontier, has_unstarted) = before.pause(at.mark).inspect_err(|error| {
        // The caller must read up to the frontier, which the writer may not have published yet.
        if let (ClaimError::Behind(_), Some(frontier)) = (error, before.frontier()) {
            shared.publish(frontier);
        }
    })?;
    // A spare that the writer has taken and not started has the next number.
    let spare = match has_unstarted {
        true => None,
        false => Some(first_spare(shared).inspect_err(|_| before.resume())?),
    };
    let unstarted = before.fence(epoch);
    let spare = spare.or(unstarted).expect("a segment is unstarted, or there is a spare");
    let (mark, mut end_offset) = (frontier.mark, frontier.end_offset);
    let last = shared.state.lock().segments.last().map(|segment| segment.header.number);
    if last != Some(frontier.segment) {
        assert_eq!(last, Some(frontier.segment + 1), "only the last segment can be without an entry");
        end_offset = BLOCK_BYTES as u64;
    }
    Ok((spare, Tail { mark, end_offset, unproven: Unproven::default(), uncut: Vec::new() }))
}

/// Makes durable what the last process has left, once for each process: the log's end is written again as it
/// was read, and synced, as are the names in the directory. A sync alone is not enough, because after a
/// failed write-back the kernel marks the page as clean. Before this, nothing of the log may be shown,
/// removed or appended to.
///
/// The error is a text for operators; the process must not go on with this log.
pub fn secure(shared: &Shared, end: &Tail) -> Result<(), String> {
    if shared.state.lock().is_secured {
        return Ok(());
    }
    let secured = rewrite(shared, &end.unproven).and_then(|()| shared.lock.sync());
    secured.map_err(|error| {
        let directory = shared.directory.display();
        format!("cannot make durable what the last process left in {directory}: {error}")
    })?;
    shared.state.lock().is_secured = true;
    Ok(())
}

/// Creates the file that shows that there were segments. It is created after the claim, so that a start that
/// is interrupted before has not created it, and before anything is acknowledged. It need not be durable,
/// because the loss of the file in a power cut loses no segment.
fn note_started(shared: &Shared) -> io::Result<()> {
    let (disk, path) = (&shared.env.disk, shared.directory.join(STARTED));
    if disk.exists(&path)? {
        return Ok(());
    }
    // Only the existence of the file counts. On a full disk the next start tries again.
    match disk.create(&path).and_then(|file| file.write_at(STARTED_TEXT.as_bytes(), 0)) {
        Err(error) if !spare::is_full(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Writes the unproven bytes again to the same places, so that a power cut meanwhile is harmless.
fn rewrite(shared: &Shared, unproven: &Unproven) -> io::Result<()> {
    let last = shared.state.lock().segments.last().map(|segment| segment.path.clone());
    let Some(path) = last.filter(|_| !unproven.is_empty()) else { return Ok(()) };
    let file = shared.env.disk.open(&path, Access::ReadWrite)?;
    if let Some(header) = &unproven.header {
        file.write_at(&header.encode(), 0)?;
    }
    for entry in &unproven.entries {
        assert!(entry.offset.is_multiple_of(BLOCK_BYTES as u64), "an entry begins with a block");
        let mut block = entry.bytes.clone();
        block.resize(padded(block.len()) as usize, 0);
        file.write_at(&block, entry.offset)?;
    }
    file.sync()
}

/// Frees the unused end of sealed segments whose writer ended before it did so.
fn cut_again(shared: &Shared, uncut: &[(PathBuf, u64)]) {
    for (path, end_offset) in uncut {
        // An error is ignored: nothing depends on the cut, and the next start tries again.
        if let Ok(file) = shared.env.disk.open(path, Access::ReadWrite) {
            cut(shared, Sealed { file, end_offset: *end_offset });
        }
    }
}

fn cut(shared: &Shared, sealed: Sealed) {
    if sealed.is_shared() {
        // Dropping it here unlocks the file now; the preparer would do so later.
        return;
    }
    if shared.options.background { shared.spares.cut(sealed) } else { sealed.cut() }
}

/// The end of the log, found by recovery or now.
pub fn find_tail(shared: &Shared) -> Result<Tail, String> {
    if let Some(tail) = shared.tail.lock().take() {
        return Ok(tail);
    }
    let segments = shared.state.lock().segments.clone();
    let Some(last) = segments.last() else {
        let end_offset = BLOCK_BYTES as u64;
        let (unproven, uncut) = (Unproven::default(), Vec::new());
        return Ok(Tail { mark: Mark::default(), end_offset, unproven, uncut });
    };
    let after = last.header.before.pos;
    let until = Until::End;
    let mut iter = LocalIter::new(shared.env.clone(), segments, after, until, shared.tail.clone());
    while let Step::Entry(_) = iter.next(Wait::No).map_err(|error| error.to_string())? {}
    let found = shared.tail.lock().take();
    Ok(found.expect("the reader has reached the end"))
}

/// Waits for a spare. No other function does.
fn first_spare(shared: &Arc<Shared>) -> Result<Spare, ClaimError> {
    shared.want_room(0);
    if shared.options.background {
        shared.spares.wait_ready();
    }
    if let Some(cause) = shared.spares.failed() {
        return Err(ClaimError::Fatal { cause });
    }
    take_spare(shared, &FOR_CLAIMS).map_err(|error| match error {
        WriteError::Full { cause } => ClaimError::Unavailable { cause },
        other => ClaimError::Fatal { cause: other.to_string() },
    })
}

/// The parts of the reserve that claims and seals may use if no spare is ready, and those that entries may
/// use.
const FOR_CLAIMS: [ReserveKind; 2] = [ReserveKind::Claim, ReserveKind::Deletes];
const FOR_ENTRIES: [ReserveKind; 1] = [ReserveKind::Deletes];

fn take_spare(shared: &Shared, held: &[ReserveKind]) -> Result<Spare, WriteError> {
    match spare::take(shared, held) {
        Ok(Some(spare)) => Ok(spare),
        Ok(None) => {
            let full = shared.spares.prepared().full;
            Err(WriteError::Full { cause: full.unwrap_or_else(|| "no segment is prepared".to_owned()) })
        }
        Err(error) if spare::is_full(&error) => Err(WriteError::Full { cause: error.to_string() }),
        Err(error) => Err(fatal(error)),
    }
}

fn fatal(error: io::Error) -> WriteError {
    WriteError::Fatal { cause: error.to_string() }
}

/// The files are the first fields, because fields are dropped in order: the directory must be unlocked last.
struct LocalWriter {
    file: Arc<dyn DiskFile>,
    /// The previous segment, to be cut once the new one is started.
    previous: Option<Sealed>,
    acks: Arc<LocalAcks>,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    /// The mark of the last appended entry.
    mark: Mark,
    /// The last batch that is complete with it, and the running checksum through that batch.
    lsn: Lsn,
    checksum: RunningChecksum,
    segment_number: u64,
    segment_bytes: u64,
    /// The offset of the next entry.
    offset: u64,
}

impl LocalWriter {
    /// Makes the spare the current segment. Its header goes into the queue, as a barrier.
    fn start_segment(&mut self, spare: Spare, before: Mark) -> Result<(), WriteError> {
        let header = SegmentHeader {
            log_id: self.shared.id,
            number: spare.number,
            size_bytes: spare.size_bytes,
            before,
            lsn: self.lsn,
            checksum: self.checksum,
            parent: self.shared.parent.0,
            parent_pos: self.shared.parent.1,
        };
        let block = BLOCK_BYTES as u64;
        assert!(spare.size_bytes.is_multiple_of(block), "segments are whole blocks");
        assert!(spare.size_bytes > block, "a segment holds an entry");
        assert!([0, spare.number - 1].contains(&self.segment_number), "segments are numbered densely");
        let info = SegmentInfo { path: segment_path(&self.shared.directory, spare.number), header };
        let Spare { number, file, size_bytes } = spare;
        let previous = self.previous.take();
        self.queue.push(Job::Start { info, file: file.clone(), previous }, None)?;
        self.segment_number = number;
        self.file = file;
        self.segment_bytes = size_bytes;
        self.offset = BLOCK_BYTES as u64;
        let mut state = self.shared.state.lock();
        if state.epoch == self.mark.epoch {
            state.current_free_bytes = size_bytes - BLOCK_BYTES as u64;
        }
        Ok(())
    }

    fn roll(&mut self, held: &[ReserveKind]) -> Result<(), WriteError> {
        let shared = self.shared.clone();
        {
            // The lock excludes a claim, which would number a segment meanwhile.
            let _claimed = shared.claimed.lock();
            self.queue.check()?;
            let spare = take_spare(&shared, held)?;
            self.previous = Some(Sealed { file: self.file.clone(), end_offset: self.offset });
            self.start_segment(spare, self.mark)?;
        }
        if !shared.options.background {
            spare::prepare_wanted(&shared);
        }
        Ok(())
    }

    /// Starts a segment with the Claim, and makes both durable.
    fn append_claim(&mut self, spare: Spare, claim: &Claim, behind: Mark) -> Result<(), WriteError> {
        let mut id = [0; 16];
        self.shared.env.random.fill(&mut id);
        let pos = behind.pos.next();
        let mark = Mark { pos, epoch: Epoch(pos.0), index: Idx(0) };
        self.start_segment(spare, behind)?;
        self.push(LogEntry::of_claim(claim, id, behind), mark)?;
        let durable = self.acks.wait(Idx(0), Duration::ZERO)?;
        assert_eq!(durable, mark, "the Claim is durable, and it is where its epoch says");
        Ok(())
    }

    /// Seals the entry's bytes and puts it into the queue, at the current offset.
    fn push(&mut self, mut entry: LogEntry, mark: Mark) -> Result<(), WriteError> {
        assert_eq!(mark.pos, self.mark.pos.next(), "positions are dense");
        assert!(self.offset.is_multiple_of(BLOCK_BYTES as u64), "an entry begins with a block");
        let durable = self.queue.durable();
        let header = entry.header(self.shared.id, self.segment_number, mark.epoch, mark.index, durable);
        entry::seal_entry(&header, &mut entry.bytes);
        entry.bytes.resize(padded(entry.bytes.len()) as usize, 0);
        let length = entry.bytes.len() as u64;
        let end_offset = self.offset + length;
        assert!(end_offset <= self.segment_bytes, "an entry ends within its segment");
        let job = Job::Write { file: self.file.clone(), offset: self.offset, bytes: entry.bytes };
        let frontier = Frontier { mark, segment: self.segment_number, end_offset };
        self.queue.push(job, Some(frontier))?;
        self.offset = end_offset;
        self.mark = mark;
        self.lsn = entry.complete_lsn;
        self.checksum = entry.checksum;
        let mut state = self.shared.state.lock();
        if state.epoch == mark.epoch {
            assert!(state.current_free_bytes >= length, "room is used once");
            state.current_free_bytes -= length;
            assert_eq!(state.current_free_bytes, self.segment_bytes - end_offset, "what is left is free");
        }
        Ok(())
    }
}

impl LogWriter for LocalWriter {
    fn append(&mut self, entry: LogEntry) -> Result<Idx, WriteError> {
        let bytes = entry.bytes.len();
        assert!(bytes <= self.shared.options.entry_bytes_max, "an entry of {bytes} bytes is too large");
        assert!(entry.kind != EntryKind::Data || entry.first_lsn == self.lsn.next(), "no batch is left out");
        assert!(entry.complete_lsn >= self.lsn, "LSNs do not go back");
        if let Some(cause) = self.shared.spares.failed() {
            self.queue.fail(&cause);
            return Err(WriteError::Fatal { cause });
        }
        if self.offset + padded(bytes) > self.segment_bytes {
            self.roll(&FOR_ENTRIES)?;
        }
        let index = Idx(self.mark.index.0 + 1);
        self.push(entry, Mark { pos: self.mark.pos.next(), epoch: self.mark.epoch, index })?;
        Ok(index)
    }

    fn seal(&mut self) -> Result<Pos, WriteError> {
        self.queue.check()?;
        assert_eq!(self.queue.durable(), self.mark.index, "nothing is in flight");
        if self.offset > BLOCK_BYTES as u64 {
            self.roll(&FOR_CLAIMS)?;
            // Nothing else is in flight, so this only starts the segment.
            self.queue.advance(&self.shared, Duration::ZERO)?;
        }
        Ok(self.mark.pos)
    }

    fn acks(&self) -> Arc<dyn Acks> {
        self.acks.clone()
    }
}

/// Weight of the newest write in the smoothed time, as a divisor.
const SMOOTHING: u64 = 8;
/// The time between two checks that directory and segment are still at their paths. After the data directory
/// was removed, acknowledgements end within this time plus that of one write.
pub const CHECK_EVERY: Duration = Duration::from_millis(100);

struct LocalAcks {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    /// The time of a write, smoothed over the last ones; `u64::MAX` before the first one.
    smoothed_ns: AtomicU64,
    /// The monotonic time of the last check of the files' paths.
    checked_ns: AtomicU64,
}

impl LocalAcks {
    fn new(shared: Arc<Shared>, queue: Arc<Queue>) -> LocalAcks {
        LocalAcks { queue, shared, smoothed_ns: AtomicU64::new(u64::MAX), checked_ns: AtomicU64::new(0) }
    }

    fn note(&self, took_ns: u64) {
        let smoothed_ns = match self.smoothed_ns.load(Ordering::Relaxed) {
            u64::MAX => took_ns,
            before => before - before / SMOOTHING + took_ns / SMOOTHING,
        };
        self.smoothed_ns.store(smoothed_ns, Ordering::Relaxed);
    }

    /// Checks that directory and segment are still at their paths, once in `CHECK_EVERY`.
    fn check_in_place(&self, now: Duration) -> Result<(), WriteError> {
        let now_ns = now.as_nanos() as u64;
        if now_ns.saturating_sub(self.checked_ns.load(Ordering::Relaxed)) < CHECK_EVERY.as_nanos() as u64 {
            return Ok(());
        }
        self.checked_ns.store(now_ns, Ordering::Relaxed);
        let current = self.shared.state.lock().current.clone();
        let Some((path, file)) = current else { return Ok(()) };
        self.shared.check_in_place(&path, &*file).map_err(|error| {
            self.queue.fail(&error.to_string());
            fatal(error)
        })
    }
}

impl Acks for LocalAcks {
    /// Writes the next entry in the caller's thread. Waits for other threads only if they are writing all
    /// entries.
    fn wait(&self, _beyond: Idx, at_most: Duration) -> Result<Mark, WriteError> {
        let clock = &self.shared.env.clock;
        let began = clock.monotonic();
        let (has_written, frontier) = self.queue.advance(&self.shared, at_most)?;
        let ended = clock.monotonic();
        if has_written {
            self.note((ended - began).as_nanos() as u64);
        }
        self.check_in_place(ended)?;
        let frontier = frontier.expect("the Claim is durable");
        self.shared.publish(frontier);
        Ok(frontier.mark)
    }

    fn usual_time(&self) -> Option<Duration> {
        match self.smoothed_ns.load(Ordering::Relaxed) {
            u64::MAX => None,
            smoothed_ns => Some(Duration::from_nanos(smoothed_ns)),
        }
    }

    fn recycle(&self) -> Option<Vec<u8>> {
        self.queue.state.lock().buffers.pop()
    }
}

enum Job {
    /// Writes a header, which seals the previous segment.
    Start {
        info: SegmentInfo,
        file: Arc<dyn DiskFile>,
        previous: Option<Sealed>,
    },
    Write {
        file: Arc<dyn DiskFile>,
        offset: u64,
        bytes: Vec<u8>,
    },
}

impl Job {
    /// Does the job. Returns a buffer for reuse.
    fn run(self, shared: &Shared) -> io::Result<Option<Vec<u8>>> {
        match self {
            Job::Write { file, offset, bytes } => {
                file.write_durable(&[IoSlice::new(&bytes)], offset)?;
                Ok(Some(bytes))
            }
            Job::Start { info, file, previous } => {
                shared.check_in_place(&info.path, &*file)?;
                file.write_durable(&[IoSlice::new(&info.header.encode())], 0)?;
                if let Some(previous) = previous {
                    cut(shared, previous);
                }
                let mut state = shared.state.lock();
                if let Some(last) = state.segments.last() {
                    assert_eq!(info.header.number, last.header.number + 1, "segments are numbered densely");
                }
                state.current = Some((info.path.clone(), file));
                state.segments.push(info);
                Ok(None)
            }
        }
    }
}

struct Slot {
    /// `None` once a thread does the job.
    job: Option<Job>,
    barrier: bool,
    done: bool,
    /// The frontier once this job and all before it are done; `None` for a segment's start.
    frontier: Option<Frontier>,
}

/// Jobs in order, done by several threads.
#[derive(Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    slots: VecDeque<Slot>,
    /// How many slots were removed at the front; a slot's number is this plus its index.
    retired: usize,
    /// The end of what is durable; `None` before the Claim is durable.
    frontier: Option<Frontier>,
    /// No job may begin, because a claim may end this writer.
    is_paused: bool,
    /// The error of every further call.
    failed: Option<WriteError>,
    buffers: Vec<Vec<u8>>,
}

impl Queue {
    fn frontier(&self) -> Option<Frontier> {
        self.state.lock().frontier
    }

    /// The last index that is durable; 0 before the Claim is.
    fn durable(&self) -> Idx {
        self.frontier().map_or(Idx(0), |frontier| frontier.mark.index)
    }

    fn push(&self, job: Job, frontier: Option<Frontier>) -> Result<(), WriteError> {
        let barrier = matches!(job, Job::Start { .. });
        let mut state = self.state.lock();
        state.check()?;
        state.slots.push_back(Slot { job: Some(job), barrier, done: false, frontier });
        Ok(())
    }

    fn fail(&self, cause: &str) {
        self.state.lock().failed.get_or_insert_with(|| WriteError::Fatal { cause: cause.to_owned() });
        self.changed.notify_all();
    }

    fn check(&self) -> Result<(), WriteError> {
        self.state.lock().check()
    }

    /// Waits until no job is being done, and keeps further jobs from beginning. Fails if the log does not end
    /// at `at` then. Returns the end, and whether the queue has a segment that is not started.
    fn pause(&self, at: Mark) -> Result<(Frontier, bool), ClaimError> {
        let mut state = self.state.lock();
        loop {
            if let Some(WriteError::Fatal { cause }) = &state.failed {
                return Err(ClaimError::Fatal { cause: cause.clone() });
            }
            let frontier = state.frontier.expect("a log that was claimed has a Claim");
            if frontier.mark != at {
                return Err(ClaimError::Behind(LogEnd { mark: frontier.mark }));
            }
            if !state.is_being_written() {
                assert!(!state.is_paused, "one claim at a time");
                state.is_paused = true;
                return Ok((frontier, state.slots.iter().any(|slot| slot.barrier)));
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends a pause.
    fn resume(&self) {
        let was_paused = std::mem::take(&mut self.state.lock().is_paused);
        assert!(was_paused, "a pause is ended once");
        self.changed.notify_all();
    }

    /// Ends a pause, and this writer, because another one has the epoch `by`. Jobs that have not begun are
    /// dropped; a segment that was not started is returned.
    fn fence(&self, by: Epoch) -> Option<Spare> {
        let mut state = self.state.lock();
        assert!(state.is_paused && !state.is_being_written(), "a claim has paused the writer before it");
        state.is_paused = false;
        state.failed.get_or_insert(WriteError::Fenced { by });
        self.changed.notify_all();
        let unstarted = std::mem::take(&mut state.slots).into_iter().filter_map(|slot| match slot.job {
            Some(Job::Start { info, file, .. }) => {
                Some(Spare { number: info.header.number, file, size_bytes: info.header.size_bytes })
            }
            _ => None,
        });
        let mut unstarted: Vec<_> = unstarted.collect();
        assert!(unstarted.len() <= 1, "a segment is started before the next one is full");
        unstarted.pop()
    }

    /// Does the next job, and a segment's start before it. If other threads are doing all jobs, waits at most
    /// `at_most` for one of them. Returns whether this thread has written something, and the frontier.
    pub(super) fn advance(
        &self,
        shared: &Shared,
        at_most: Duration,
    ) -> Result<(bool, Option<Frontier>), WriteError> {
        let mut has_written = false;
        loop {
            let (number, job) = match self.next_job(at_most)? {
                Ok(found) => found,
                Err(frontier) => return Ok((has_written, frontier)),
            };
            let starts_segment = matches!(job, Job::Start { .. });
            let buffer = job.run(shared).map_err(|error| {
                self.fail(&error.to_string());
                fatal(error)
            })?;
            let mut state = self.state.lock();
            if let Some(buffer) =
                buffer.filter(|_| state.buffers.len() <= shared.options.entries_in_flight_max)
            {
                state.buffers.push(buffer);
            }
            assert!(number >= state.retired, "a job is done before it is retired");
            let place = number - state.retired;
            let slot = &mut state.slots[place];
            assert!(slot.job.is_none() && !slot.done, "a job is done once");
            slot.done = true;
            state.retire();
            self.changed.notify_all();
            has_written = true;
            if !starts_segment {
                return Ok((has_written, state.frontier));
            }
        }
    }

    /// Takes the first job that no thread is doing, once it may begin. If there is none, returns the
    /// frontier.
    fn next_job(&self, at_most: Duration) -> Result<Result<(usize, Job), Option<Frontier>>, WriteError> {
        let mut state = self.state.lock();
        let mut has_waited = false;
        loop {
            state.check()?;
            let Some(place) = state.slots.iter().position(|slot| slot.job.is_some()) else {
                if has_waited || state.slots.is_empty() || at_most.is_zero() {
                    return Ok(Err(state.frontier));
                }
                self.changed.wait_for(&mut state, at_most);
                has_waited = true;
                continue;
            };
            let behind_barrier = state.slots.iter().take(place).any(|slot| slot.barrier);
            let at_barrier = state.slots[place].barrier && place > 0;
            if !behind_barrier && !at_barrier && !state.is_paused {
                let job = state.slots[place].job.take().expect("found above");
                if let (Job::Start { info, previous, .. }, Some(frontier)) = (&job, state.frontier) {
                    assert_eq!(info.header.before, frontier.mark, "a header states what is durable");
                    let is_next = info.header.number == frontier.segment + 1;
                    let cut = previous.as_ref().filter(|_| is_next).map(|sealed| sealed.end_offset);
                    assert!(
                        cut.is_none_or(|cut| cut == frontier.end_offset),
                        "a cut is behind what is durable"
                    );
                }
                return Ok(Ok((state.retired + place, job)));
            }
            self.changed.wait(&mut state);
        }
    }
}

impl QueueState {
    fn check(&self) -> Result<(), WriteError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn is_being_written(&self) -> bool {
        self.slots.iter().any(|slot| slot.job.is_none() && !slot.done)
    }

    /// Removes finished jobs at the front, and advances the frontier.
    fn retire(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.done) {
            let slot = self.slots.pop_front().expect("there is a front");
            self.retired += 1;
            let Some(frontier) = slot.frontier else { continue };
            let is_next = self.frontier.is_none_or(|before| frontier.mark.pos == before.mark.pos.next());
            assert!(is_next, "entries become durable in order");
            let is_behind = self.frontier.is_none_or(|before| before.is_before(&frontier));
            assert!(is_behind, "entries follow each other in their segment");
            self.frontier = Some(frontier);
        }
    }
}
