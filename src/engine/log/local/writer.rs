//! Appends entries: positions and bytes are settled in order by the appender, the writing is done by whoever calls
//! [`Commits::advance`], several at a time, and reported in order.
//!
//! The start of a segment stands in the same queue as the entries, as a barrier: it is written when all before it
//! is durable, and nothing behind it is written before it is.

use super::reader::{Frontier, LocalIter, Tail, Unproven, Until};
use super::reserve::Kind as Held;
use super::segment::{SegmentHeader, SegmentInfo, segment_path};
use super::spare::{self, Sealed, Spare};
use super::{BLOCK_BYTES, STARTED, STARTED_TEXT, Shared, padded};
use crate::env::Access;
use crate::env::DiskFile;
use crate::log::entry::{self, EntryHeader, HEADER_BYTES, Kind};
use crate::log::{
    AppendError, Appender, Claim, Commits, Entry, EntryIter, Epoch, Idx, Lsn, Mark, Pos, ReadError, Resync,
    RunningChecksum, Step, Wait, Writing,
};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seals what the last writer left and claims in a new segment.
pub fn claim(shared: &Arc<Shared>, after: Pos, claim: &Claim) -> Result<Writing, AppendError> {
    let log_end = find_tail(shared)?;
    if log_end.mark.pos != after {
        return Err(AppendError::Conflict { last: log_end.mark.pos });
    }
    secure(shared, &log_end)?;
    let last = {
        let state = shared.state.lock();
        assert!(state.frontier.is_none(), "a process claims its local log once");
        state.last.clone()
    };
    let previous = last.map(|file| Sealed { file, end_offset: log_end.end_offset });
    let spare = match first_spare(shared) {
        Ok(spare) => spare,
        Err(error) => {
            // For the next attempt, which is made each second while the disk is full.
            *shared.tail.lock() = Some(log_end);
            return Err(error);
        }
    };
    let queue = Arc::new(Queue::new());
    let mut appender = LocalAppender {
        shared: shared.clone(),
        queue: queue.clone(),
        mark: log_end.mark,
        lsn: claim.lsn,
        checksum: claim.checksum,
        segment_number: 0,
        segment_bytes: 0,
        file: spare.file.clone(),
        offset: 0,
        previous,
    };
    appender.start_segment(spare);
    appender.append_claim(claim);
    let (smoothed_ns, looked_ns) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    let commits = LocalCommits { shared: shared.clone(), queue, smoothed_ns, looked_ns };
    commits.advance()?;
    shared.state.lock().last = None;
    note_started(shared).map_err(fatal)?;
    cut_again(shared, &log_end.uncut);
    shared.want_room(0);
    Ok((Box::new(appender), Box::new(commits)))
}

/// Makes durable what the last process has left, once for each process: what was read as the log's end is written once
/// more and synced, and so are the names in the directory. A sync alone would not do, for after a write-back that failed the
/// kernel takes the page for clean. Nothing is built on the log, shown of it or removed from it before.
pub fn secure(shared: &Shared, end: &Tail) -> Result<(), AppendError> {
    if shared.state.lock().is_secured {
        return Ok(());
    }
    let secured =
        rewrite(shared, &end.unproven).and_then(|()| shared.env.disk.sync_directory(&shared.directory));
    secured.map_err(|error| {
        let directory = shared.directory.display();
        let cause = format!("cannot make durable what the last process left in {directory}: {error}");
        AppendError::Fatal { cause }
    })?;
    shared.state.lock().is_secured = true;
    Ok(())
}

/// Says that there were segments. It comes after the claim, so that no start that was interrupted before that leaves it behind;
/// and nothing is acknowledged before it. It need not be durable: a power cut that takes it away takes no segment.
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

/// Gives space back that was not given back when these segments were sealed: the process ended before, or the power went.
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
pub fn find_tail(shared: &Shared) -> Result<Tail, AppendError> {
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
    let failed = |error: ReadError| AppendError::Fatal { cause: error.to_string() };
    while let Step::Entry(_) = iter.next(Wait::No).map_err(failed)? {}
    let found = shared.tail.lock().take();
    Ok(found.expect("the reader has reached the end"))
}

/// Waits for a spare: the one place that does.
fn first_spare(shared: &Arc<Shared>) -> Result<Spare, AppendError> {
    shared.want_room(0);
    if shared.options.background {
        shared.spares.wait_ready();
    }
    if let Some(cause) = shared.spares.failed() {
        return Err(AppendError::Fatal { cause });
    }
    take_spare(shared, &FOR_CLAIMS)?.ok_or_else(|| no_room(shared))
}

/// What a claim or a seal may use of the reserve where no spare is ready, and what entries may.
const FOR_CLAIMS: [Held; 2] = [Held::Claim, Held::Deletes];
const FOR_ENTRIES: [Held; 1] = [Held::Deletes];

fn take_spare(shared: &Shared, held: &[Held]) -> Result<Option<Spare>, AppendError> {
    spare::take(shared, held).map_err(|error| match spare::is_full(&error) {
        true => AppendError::Full { cause: error.to_string() },
        false => fatal(error),
    })
}

fn no_room(shared: &Shared) -> AppendError {
    let full = shared.spares.prepared().full;
    AppendError::Full { cause: full.unwrap_or_else(|| "no segment is prepared".to_owned()) }
}

fn fatal(error: io::Error) -> AppendError {
    AppendError::Fatal { cause: error.to_string() }
}

/// Files come before what they belong to: the directory is unlocked last.
struct LocalAppender {
    file: Arc<dyn DiskFile>,
    /// The segment before, to be cut once the new one is started.
    previous: Option<Sealed>,
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

impl LocalAppender {
    /// Makes the spare the current segment. Its header goes into the queue, as a barrier.
    fn start_segment(&mut self, spare: Spare) {
        let header = SegmentHeader {
            log_id: self.shared.id,
            number: spare.number,
            size_bytes: spare.size_bytes,
            before: self.mark,
            lsn: self.lsn,
            checksum: self.checksum,
            parent: self.shared.parent.0,
            parent_pos: self.shared.parent.1,
        };
        let info = SegmentInfo { path: segment_path(&self.shared.directory, spare.number), header };
        let file = spare.file.clone();
        let previous = self.previous.take();
        self.queue.push(Job::Start { info, file, previous }, None);
        self.segment_number = spare.number;
        self.file = spare.file;
        self.segment_bytes = spare.size_bytes;
        self.offset = BLOCK_BYTES as u64;
        self.shared.state.lock().current_free_bytes = spare.size_bytes - BLOCK_BYTES as u64;
    }

    fn roll(&mut self, held: &[Held]) -> Result<(), AppendError> {
        let Some(spare) = take_spare(&self.shared, held)? else { return Err(no_room(&self.shared)) };
        self.previous = Some(Sealed { file: self.file.clone(), end_offset: self.offset });
        self.start_segment(spare);
        if !self.shared.options.background {
            spare::prepare_wanted(&self.shared);
        }
        Ok(())
    }

    fn append_claim(&mut self, claim: &Claim) {
        let pos = self.mark.pos.next();
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(claim.node.as_bytes());
        let mark = Mark { pos, epoch: Epoch(pos.0), index: Idx(0) };
        let entry = Entry {
            kind: Kind::Claim,
            needs: 1,
            engine_time_ms: claim.engine_time_ms,
            first_lsn: claim.lsn,
            last_lsn: claim.lsn,
            complete_lsn: claim.lsn,
            checksum: claim.checksum,
            bytes,
        };
        self.push(entry, mark);
    }

    /// Seals the entry's bytes and puts it into the queue, at the current offset.
    fn push(&mut self, mut entry: Entry, mark: Mark) {
        let header = EntryHeader {
            needs: entry.needs,
            kind: entry.kind,
            log_id: self.shared.id,
            segment: self.segment_number,
            epoch: mark.epoch,
            index: mark.index,
            durable: self.queue.durable(),
            engine_time_ms: entry.engine_time_ms,
            first_lsn: entry.first_lsn,
            last_lsn: entry.last_lsn,
            checksum: entry.checksum,
        };
        entry::seal_entry(&header, &mut entry.bytes);
        entry.bytes.resize(padded(entry.bytes.len()) as usize, 0);
        let length = entry.bytes.len() as u64;
        let job = Job::Write { file: self.file.clone(), offset: self.offset, bytes: entry.bytes };
        self.offset += length;
        let frontier = Frontier { mark, segment: self.segment_number, end_offset: self.offset };
        self.queue.push(job, Some(frontier));
        self.mark = mark;
        self.lsn = entry.complete_lsn;
        self.checksum = entry.checksum;
        self.shared.state.lock().current_free_bytes -= length;
    }
}

impl Appender for LocalAppender {
    fn append(&mut self, entry: Entry) -> Result<Idx, AppendError> {
        if entry.bytes.len() > self.shared.options.entry_bytes_max {
            return Err(AppendError::TooLarge { bytes: entry.bytes.len() });
        }
        if let Some(cause) = self.shared.spares.failed() {
            self.queue.fail(&cause);
            return Err(AppendError::Fatal { cause });
        }
        if self.offset + padded(entry.bytes.len()) > self.segment_bytes {
            self.roll(&FOR_ENTRIES)?;
        }
        let index = Idx(self.mark.index.0 + 1);
        self.push(entry, Mark { pos: self.mark.pos.next(), epoch: self.mark.epoch, index });
        Ok(index)
    }

    fn seal(&mut self) -> Result<Pos, AppendError> {
        if self.offset > BLOCK_BYTES as u64 {
            self.roll(&FOR_CLAIMS)?;
            // Nothing else is in flight, so this starts the segment and nothing more.
            self.queue.advance(&self.shared)?;
        }
        Ok(self.mark.pos)
    }

    fn mark(&self) -> Mark {
        self.mark
    }
}

/// A write counts for one part of so many in the smoothed time.
const SMOOTHING: u64 = 8;
/// So long, and the time of one write, after the data directory was removed nothing is acknowledged any more.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

struct LocalCommits {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    /// How long a write takes, smoothed over the last ones; the first one is taken as it is.
    smoothed_ns: AtomicU64,
    /// When the files' places were looked at last.
    looked_ns: AtomicU64,
}

impl LocalCommits {
    fn note(&self, took_ns: u64) {
        let smoothed_ns = match self.smoothed_ns.load(Ordering::Relaxed) {
            u64::MAX => took_ns,
            before => before - before / SMOOTHING + took_ns / SMOOTHING,
        };
        self.smoothed_ns.store(smoothed_ns, Ordering::Relaxed);
    }

    /// Looks now and then whether the log is still where it was.
    fn look(&self, now: Duration) -> Result<(), AppendError> {
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

impl Commits for LocalCommits {
    fn advance(&self) -> Result<Option<(Idx, Pos)>, AppendError> {
        let clock = &self.shared.env.clock;
        let began = clock.monotonic();
        let frontier = self.queue.advance(&self.shared)?;
        let ended = clock.monotonic();
        self.note((ended - began).as_nanos() as u64);
        self.look(ended)?;
        let Some(frontier) = frontier else { return Ok(None) };
        self.shared.publish(frontier);
        Ok(Some((frontier.mark.index, frontier.mark.pos)))
    }

    fn usual_time(&self) -> Option<Duration> {
        match self.smoothed_ns.load(Ordering::Relaxed) {
            u64::MAX => None,
            smoothed_ns => Some(Duration::from_nanos(smoothed_ns)),
        }
    }

    /// There is no unknown fate here: every error is fatal.
    fn resync(&self) -> Result<Resync, AppendError> {
        self.queue.check_failed()?;
        let state = self.queue.state.lock();
        let mark = state.frontier.map_or(Mark::default(), |frontier| frontier.mark);
        Ok(Resync { last: mark.pos, committed: mark.index })
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
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    slots: VecDeque<Slot>,
    /// How many slots were taken off the front: names a slot while others move.
    retired: usize,
    frontier: Option<Frontier>,
    failed: Option<String>,
    buffers: Vec<Vec<u8>>,
}

impl Queue {
    fn new() -> Queue {
        let state = QueueState {
            slots: VecDeque::new(),
            retired: 0,
            frontier: None,
            failed: None,
            buffers: Vec::new(),
        };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The last index that is durable; 0 before the Claim is.
    fn durable(&self) -> Idx {
        self.state.lock().frontier.map_or(Idx(0), |frontier| frontier.mark.index)
    }

    fn push(&self, job: Job, frontier: Option<Frontier>) {
        let barrier = matches!(job, Job::Start { .. });
        self.state.lock().slots.push_back(Slot { job: Some(job), barrier, done: false, frontier });
    }

    fn fail(&self, cause: &str) {
        self.state.lock().failed.get_or_insert_with(|| cause.to_owned());
        self.changed.notify_all();
    }

    fn check_failed(&self) -> Result<(), AppendError> {
        let failed = self.state.lock().failed.clone();
        failed.map_or(Ok(()), |cause| Err(AppendError::Fatal { cause }))
    }

    /// Does the next job, and the segment's start before it if there is one.
    fn advance(&self, shared: &Shared) -> Result<Option<Frontier>, AppendError> {
        let mut advanced = None;
        loop {
            let Some((number, job)) = self.next_job()? else { return Ok(advanced) };
            let starts_segment = matches!(job, Job::Start { .. });
            let buffer = job.run(shared).map_err(|error| {
                self.fail(&error.to_string());
                fatal(error)
            })?;
            let mut state = self.state.lock();
            state.buffers.extend(buffer);
            let slot = number - state.retired;
            state.slots[slot].done = true;
            advanced = state.retire().or(advanced);
            self.changed.notify_all();
            if !starts_segment {
                return Ok(advanced);
            }
        }
    }

    /// Takes the first job that nobody does, once it may be done; `None` if there is none.
    fn next_job(&self) -> Result<Option<(usize, Job)>, AppendError> {
        let mut state = self.state.lock();
        loop {
            if let Some(cause) = &state.failed {
                return Err(AppendError::Fatal { cause: cause.clone() });
            }
            let Some(place) = state.slots.iter().position(|slot| slot.job.is_some()) else { return Ok(None) };
            let behind_barrier = state.slots.iter().take(place).any(|slot| slot.barrier);
            let at_barrier = state.slots[place].barrier && place > 0;
            if !behind_barrier && !at_barrier {
                let job = state.slots[place].job.take().expect("found above");
                return Ok(Some((state.retired + place, job)));
            }
            self.changed.wait(&mut state);
        }
    }
}

impl QueueState {
    /// Takes what is done off the front, and returns how far that is if it is news.
    fn retire(&mut self) -> Option<Frontier> {
        let mut advanced = None;
        while self.slots.front().is_some_and(|slot| slot.done) {
            let slot = self.slots.pop_front().expect("there is a front");
            self.retired += 1;
            advanced = slot.frontier.or(advanced);
        }
        self.frontier = advanced.or(self.frontier);
        advanced
    }
}
