//! Appends entries: positions and bytes are settled in order by the writer; the writing is done by the
//! threads that call [`Acks::wait`], several at a time, and reported in order.
//!
//! The start of a segment is in the same queue as the entries, as a barrier: it is written when all before it
//! is durable, and nothing after it is written before it is.
//!
//! A second claim in one process ends the writer before it: what that writer has not begun to write is
//! dropped, and its segment is sealed behind its last durable entry, as a start does with the segment of a
//! process that was killed.

use super::reader::{Frontier, LocalIter, Tail, Unproven, Until};
use super::reserve::Kind as Held;
use super::segment::{SegmentHeader, SegmentInfo, segment_path};
use super::spare::{self, Sealed, Spare};
use super::{BLOCK_BYTES, STARTED, STARTED_TEXT, Shared, padded};
use crate::env::Access;
use crate::env::DiskFile;
use crate::log::entry;
use crate::log::{
    Acks, Claim, ClaimError, Entry, EntryIter, Epoch, Idx, LogEnd, LogWriter, Lsn, Mark, Pos,
    RunningChecksum, Step, Wait, WriteError,
};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seals what the last writer left and claims in a new segment.
pub fn claim(shared: &Arc<Shared>, at: LogEnd, claim: &Claim) -> Result<Box<dyn LogWriter>, ClaimError> {
    let mut claimed = shared.claimed.lock();
    let epoch = Epoch(at.mark.pos.next().0);
    let (spare, log_end) = match &*claimed {
        Some(before) => succeed(shared, before, at, epoch)?,
        None => take_over(shared, at)?,
    };
    let last = {
        let mut state = shared.state.lock();
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

/// The first claim of this process: makes durable what the last one left. Returns the segment to claim in.
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
            // For the next attempt, which is made each second while the disk is full.
            *shared.tail.lock() = Some(log_end);
            Err(error)
        }
    }
}

/// A claim after one of this process, whose writer it ends.
fn succeed(
    shared: &Arc<Shared>,
    before: &Queue,
    at: LogEnd,
    epoch: Epoch,
) -> Result<(Spare, Tail), ClaimError> {
    let (frontier, has_unstarted) = before.pause(at.mark).inspect_err(|error| {
        // The caller reads up to there, and the writer may not have shown it yet.
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

/// Makes durable what the last process has left, once for each process: what was read as the log's end is
/// written once more and synced, and so are the names in the directory. A sync alone would not do, for after
/// a write-back that failed the kernel takes the page for clean. Nothing is built on the log, shown of it or
/// removed from it before.
///
/// The error says why that did not succeed; the process must not go on with this log.
pub fn secure(shared: &Shared, end: &Tail) -> Result<(), String> {
    if shared.state.lock().is_secured {
        return Ok(());
    }
    let secured =
        rewrite(shared, &end.unproven).and_then(|()| shared.env.disk.sync_directory(&shared.directory));
    secured.map_err(|error| {
        let directory = shared.directory.display();
        format!("cannot make durable what the last process left in {directory}: {error}")
    })?;
    shared.state.lock().is_secured = true;
    Ok(())
}

/// Says that there were segments. It comes after the claim, so that no start that was interrupted before that
/// leaves it behind; and nothing is acknowledged before it. It need not be durable: a power cut that takes it
/// away takes no segment.
fn note_started(shared: &Shared) -> io::Result<()> {
    let (disk, path) = (&shared.env.disk, shared.directory.join(STARTED));
    if disk.exists(&path)? {
        return Ok(());
    }
    // That the file is there is what counts. On a full disk the next start tries again.
    match disk.create(&path).and_then(|file| file.write_at(STARTED_TEXT.as_bytes(), 0)) {
        Err(error) if !spare::is_full(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Writes the same bytes to the same places: a power cut meanwhile does no harm.
fn rewrite(shared: &Shared, unproven: &Unproven) -> io::Result<()> {
    let last = shared.state.lock().segments.last().map(|segment| segment.path.clone());
    let Some(path) = last.filter(|_| !unproven.is_empty()) else { return Ok(()) };
    let file = shared.env.disk.open(&path, Access::ReadWrite)?;
    if let Some(header) = &unproven.header {
        file.write_at(&header.encode(), 0)?;
    }
    for entry in &unproven.entries {
        let mut block = entry.bytes.clone();
        block.resize(padded(block.len()) as usize, 0);
        file.write_at(&block, entry.offset)?;
    }
    file.sync()
}

/// Gives space back that was not given back when these segments were sealed: the process ended before, or the
/// power went.
fn cut_again(shared: &Shared, uncut: &[(PathBuf, u64)]) {
    for (path, end_offset) in uncut {
        // Nothing depends on it, and the next start tries again.
        if let Ok(file) = shared.env.disk.open(path, Access::ReadWrite) {
            cut(shared, Sealed { file, end_offset: *end_offset });
        }
    }
}

fn cut(shared: &Shared, sealed: Sealed) {
    if sealed.is_shared() {
        // It is unlocked now, and not when the preparer comes to it.
        return;
    }
    if shared.options.background { shared.spares.cut(sealed) } else { sealed.cut() }
}

/// The end that recovery found, or finds it now.
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

/// Waits for a spare: the one place that does.
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

/// What a claim or a seal may use of the reserve where no spare is ready, and what entries may.
const FOR_CLAIMS: [Held; 2] = [Held::Claim, Held::Deletes];
const FOR_ENTRIES: [Held; 1] = [Held::Deletes];

fn take_spare(shared: &Shared, held: &[Held]) -> Result<Spare, WriteError> {
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

/// Files come before what they belong to: the directory is unlocked last.
struct LocalWriter {
    file: Arc<dyn DiskFile>,
    /// The segment before, to be cut once the new one is started.
    previous: Option<Sealed>,
    acks: Arc<LocalAcks>,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    /// Behind the last entry appended, and the batches complete with it.
    mark: Mark,
    lsn: Lsn,
    checksum: RunningChecksum,
    segment_number: u64,
    segment_bytes: u64,
    /// Where the next entry goes.
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

    fn roll(&mut self, held: &[Held]) -> Result<(), WriteError> {
        let shared = self.shared.clone();
        {
            // No claim comes in between, which would number a segment meanwhile.
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
        self.push(Entry::of_claim(claim, id, behind), mark)?;
        let durable = self.acks.wait(Idx(0), Duration::ZERO)?;
        assert_eq!(durable, mark, "the Claim is durable, and it is where its epoch says");
        Ok(())
    }

    /// Seals the entry's bytes and puts it into the queue, at the current offset.
    fn push(&mut self, mut entry: Entry, mark: Mark) -> Result<(), WriteError> {
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
            state.current_free_bytes -= length;
        }
        Ok(())
    }
}

impl LogWriter for LocalWriter {
    fn append(&mut self, entry: Entry) -> Result<Idx, WriteError> {
        let bytes = entry.bytes.len();
        assert!(bytes <= self.shared.options.entry_bytes_max, "an entry of {bytes} bytes is too large");
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
        if self.offset > BLOCK_BYTES as u64 {
            self.roll(&FOR_CLAIMS)?;
            // Nothing else is in flight, so this starts the segment and nothing more.
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
/// How often the files' places are looked at. After the data directory was removed, nothing is acknowledged
/// later than this and the time of one write.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

struct LocalAcks {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    /// How long a write takes, smoothed over the last ones; the first one is taken as it is.
    smoothed_ns: AtomicU64,
    /// When the files' places were looked at last.
    looked_ns: AtomicU64,
}

impl LocalAcks {
    fn new(shared: Arc<Shared>, queue: Arc<Queue>) -> LocalAcks {
        LocalAcks { queue, shared, smoothed_ns: AtomicU64::new(u64::MAX), looked_ns: AtomicU64::new(0) }
    }

    fn note(&self, took_ns: u64) {
        let smoothed_ns = match self.smoothed_ns.load(Ordering::Relaxed) {
            u64::MAX => took_ns,
            before => before - before / SMOOTHING + took_ns / SMOOTHING,
        };
        self.smoothed_ns.store(smoothed_ns, Ordering::Relaxed);
    }

    /// Looks now and then whether the log is still where it was.
    fn look(&self, now: Duration) -> Result<(), WriteError> {
        let now_ns = now.as_nanos() as u64;
        if now_ns.saturating_sub(self.looked_ns.load(Ordering::Relaxed)) < LOOK_EVERY.as_nanos() as u64 {
            return Ok(());
        }
        self.looked_ns.store(now_ns, Ordering::Relaxed);
        let current = self.shared.state.lock().current.clone();
        let Some((path, file)) = current else { return Ok(()) };
        self.shared.check_in_place(&path, &*file).map_err(|error| {
            self.queue.fail(&error.to_string());
            fatal(error)
        })
    }
}

impl Acks for LocalAcks {
    /// Writes the next entry in the caller's thread. Waits for others only where they are writing all that
    /// there is.
    fn wait(&self, _beyond: Idx, at_most: Duration) -> Result<Mark, WriteError> {
        let clock = &self.shared.env.clock;
        let began = clock.monotonic();
        let (has_written, frontier) = self.queue.advance(&self.shared, at_most)?;
        let ended = clock.monotonic();
        if has_written {
            self.note((ended - began).as_nanos() as u64);
        }
        self.look(ended)?;
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
    /// Writes a header, which seals the segment before.
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
    /// Returns a buffer to be used again.
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
    /// Taken by the thread that does it.
    job: Option<Job>,
    barrier: bool,
    done: bool,
    /// What is durable once this and all before are done; `None` for a segment's start.
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
    /// How many slots were taken off the front: names a slot while others move.
    retired: usize,
    /// How far everything is durable; `None` before the Claim is.
    frontier: Option<Frontier>,
    /// No job is begun, for a claim may end this writer.
    is_paused: bool,
    /// What every caller gets from now on.
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

    /// Keeps jobs from being begun, once none is being done, if the log ends at `at` then. Returns the end,
    /// and whether a segment is taken and not started.
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
                state.is_paused = true;
                return Ok((frontier, state.slots.iter().any(|slot| slot.barrier)));
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends a pause.
    fn resume(&self) {
        self.state.lock().is_paused = false;
        self.changed.notify_all();
    }

    /// Ends a pause, and this writer: another has the epoch `by`. What it has not begun to write is never
    /// written; a segment that it has not started is returned.
    fn fence(&self, by: Epoch) -> Option<Spare> {
        let mut state = self.state.lock();
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

    /// Does the next job, and the segment's start before it if there is one. Where others do all that there
    /// is, waits at most this long for one of them. Returns whether this thread has written something, and
    /// how far everything is durable.
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
            let slot = number - state.retired;
            state.slots[slot].done = true;
            state.retire();
            self.changed.notify_all();
            has_written = true;
            if !starts_segment {
                return Ok((has_written, state.frontier));
            }
        }
    }

    /// Takes the first job that no thread does, once it may be done; if there is none, returns how far
    /// everything is durable.
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
                if let (Job::Start { info, .. }, Some(frontier)) = (&job, state.frontier) {
                    assert_eq!(info.header.before, frontier.mark, "a header states what is durable");
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

    /// Takes what is done off the front.
    fn retire(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.done) {
            let slot = self.slots.pop_front().expect("there is a front");
            self.retired += 1;
            let Some(frontier) = slot.frontier else { continue };
            let is_next = self.frontier.is_none_or(|before| frontier.mark.pos == before.mark.pos.next());
            assert!(is_next, "entries become durable in order");
            self.frontier = Some(frontier);
        }
    }
}
