//! Reads segments in order, and decides at the end between a torn tail and damage (rule 4).

use super::Shared;
use super::segment::{BLOCK_BYTES, BlockReader, SegmentHeader, SegmentInfo, unavailable};
use crate::env::{Access, DiskFile, Env};
use crate::log::entry::{DecodeError, EntryHeader, EntryKind, HEADER_BYTES};
use crate::log::{
    EntryIter, Idx, LogEnd, LogId, Mark, Place, Pos, ReadEntry, ReadError, Sequence, Step, Stopper, Voided,
    Wait,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The end of the log, as a writer needs it to seal the last segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    pub mark: Mark,
    /// The offset after the last entry, in the last started segment.
    pub end_offset: u64,
    /// The bytes of that segment that were read and may not be on the disk.
    pub unproven: Unproven,
    /// Sealed segments that are longer than their used part, and the length of that part in bytes.
    pub uncut: Vec<(PathBuf, u64)>,
}

/// Bytes that were read and that nothing proves to be durable: the last writer may have ended before its sync
/// returned, or because it failed. They are kept in memory, because the kernel may drop a page whose
/// write-back failed, and read the old bytes from the disk.
///
/// Proofs: an entry proves that its segment's header is durable, and the entries of its epoch through its
/// field `durable`. A header proves that all earlier segments are durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unproven {
    /// The segment's header, if no entry follows it.
    pub header: Option<SegmentHeader>,
    /// In order.
    pub entries: VecDeque<UnprovenEntry>,
}

impl Unproven {
    pub fn is_empty(&self) -> bool {
        self.header.is_none() && self.entries.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnprovenEntry {
    index: Idx,
    pub offset: u64,
    /// Without padding.
    pub bytes: Vec<u8>,
}

/// The end of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The end by rule 4: for recovery, while no process writes.
    End,
    /// This position, which the caller knows to be durable.
    Pos(Pos),
}

/// The last entry that the writer of this process knows to be durable, as all entries before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontier {
    pub mark: Mark,
    /// The number of the entry's segment.
    pub segment: u64,
    /// The offset after the entry in the segment.
    pub end_offset: u64,
}

impl Frontier {
    /// Whether `later` comes after this frontier, by its position and by its place.
    pub fn is_before(&self, later: &Frontier) -> bool {
        let place = |frontier: &Frontier| (frontier.segment, frontier.end_offset);
        self.mark.pos < later.mark.pos && place(self) < place(later)
    }
}

pub struct LocalIter {
    env: Env,
    segments: Vec<SegmentInfo>,
    /// Index into `segments` of the one being read.
    current: usize,
    open: Option<BlockReader<Arc<dyn DiskFile>>>,
    offset: u64,
    entry_offset: u64,
    mark: Mark,
    after: Pos,
    until: Until,
    last_kind: Option<EntryKind>,
    voided: Voided,
    /// Unproven entries of the last segment.
    unproven: VecDeque<UnprovenEntry>,
    uncut: Vec<(PathBuf, u64)>,
    /// Receives the tail once it is found.
    tail: Arc<Mutex<Option<Tail>>>,
    ended: bool,
    /// The log's first position, if the entries after `after` begin before it.
    trimmed: Option<Pos>,
    /// The log of this process, whose writer this reader follows. `None` if it only reads `segments`.
    live: Option<Arc<Shared>>,
    /// The log's frontier when `refresh` last read it.
    frontier: Option<Frontier>,
    is_stopped: Arc<AtomicBool>,
}

impl LocalIter {
    pub fn new(
        env: Env,
        segments: Vec<SegmentInfo>,
        after: Pos,
        until: Until,
        tail: Arc<Mutex<Option<Tail>>>,
    ) -> LocalIter {
        // The last segment that begins at or before `after`. If that is trimmed, the first one; `next` then
        // returns an error.
        let starts_before = |segment: &SegmentInfo| segment.header.before.pos <= after;
        let current = segments.partition_point(starts_before).saturating_sub(1);
        let mark = segments.get(current).map_or(Mark::default(), |segment| segment.header.before);
        let first = segments.first().map(|segment| segment.header.before.pos);
        let trimmed = first.filter(|first| after < *first).map(Pos::next);
        LocalIter {
            env,
            segments,
            current,
            open: None,
            offset: BLOCK_BYTES as u64,
            entry_offset: 0,
            mark,
            after,
            until,
            last_kind: None,
            voided: Voided::default(),
            unproven: VecDeque::new(),
            uncut: Vec::new(),
            tail,
            ended: false,
            trimmed,
            live: None,
            frontier: None,
            is_stopped: Arc::default(),
        }
    }

    /// Reads the log of this process: to its end by rule 4 while it has no writer, then the entries that its
    /// writer has made durable.
    pub(super) fn live(shared: Arc<Shared>, after: Pos) -> LocalIter {
        let (segments, frontier) = {
            let state = shared.state.lock();
            (state.segments.clone(), state.frontier)
        };
        let until = frontier.map_or(Until::End, |frontier| Until::Pos(frontier.mark.pos));
        let mut iter = LocalIter::new(shared.env.clone(), segments, after, until, shared.tail.clone());
        iter.frontier = frontier;
        iter.live = Some(shared);
        iter
    }

    /// Reads the writer's frontier and new segments. False if there is nothing new for this reader.
    fn refresh(&mut self) -> Result<bool, ReadError> {
        let Some(live) = &self.live else { return Ok(false) };
        let state = live.state.lock();
        let Some(frontier) = state.frontier.filter(|found| Some(*found) != self.frontier) else {
            return Ok(false);
        };
        assert!(self.frontier.is_none_or(|before| before.is_before(&frontier)), "what is durable stays so");
        assert!(self.mark.pos <= frontier.mark.pos, "no more was read than is durable");
        let last = self.segments.last().map_or(0, |segment| segment.header.number);
        let begin = state.segments.partition_point(|segment| segment.header.number <= last);
        let started = &state.segments[begin..];
        if let Some(next) = started.first().filter(|next| last > 0 && next.header.number != last + 1) {
            return Err(ReadError::Trimmed { first: next.header.before.pos.next() });
        }
        self.segments.extend_from_slice(started);
        drop(state);
        self.segments.drain(..self.current);
        self.current = 0;
        self.until = Until::Pos(frontier.mark.pos);
        self.frontier = Some(frontier);
        self.ended = false;
        self.bound_open()?;
        Ok(true)
    }

    /// Limits the reader of the current segment to its durable part, because the writer is writing after it.
    fn bound_open(&mut self) -> Result<(), ReadError> {
        let Some(reader) = &mut self.open else { return Ok(()) };
        let segment = &self.segments[self.current];
        let size_bytes = match self.frontier.filter(|frontier| frontier.segment == segment.header.number) {
            Some(frontier) => {
                assert!(self.offset <= frontier.end_offset, "no more was read than is durable");
                frontier.end_offset
            }
            None => reader.file_bytes().map_err(|error| unavailable(&segment.path, &error))?,
        };
        reader.set_size_bytes(size_bytes);
        Ok(())
    }

    /// Waits until more is durable than was read, the reader is stopped, or the time is over. False if there
    /// will be no more entries.
    fn wait(&self, at_most: Duration) -> bool {
        let Some(live) = &self.live else { return false };
        let mut state = live.state.lock();
        if state.is_closed {
            return false;
        }
        if state.frontier == self.frontier && !self.is_stopped.load(Ordering::Acquire) {
            live.more.wait_for(&mut state, at_most);
        }
        true
    }

    fn step(&mut self) -> Result<Option<ReadEntry>, ReadError> {
        loop {
            if self.ended || self.until == Until::Pos(self.mark.pos) || self.segments.is_empty() {
                if self.refresh()? {
                    continue;
                }
                return Ok(None);
            }
            if let Some(next) = self.segments.get(self.current + 1).map(|segment| segment.header.before)
                && next.pos == self.mark.pos
            {
                self.enter_next(next)?;
                continue;
            }
            self.open_current()?;
            let reader = self.open.as_mut().expect("just opened");
            let path = &self.segments[self.current].path;
            let found = reader.entry(self.offset).map_err(|error| unavailable(path, &error))?;
            let found = found.map(|(header, payload)| (header, payload.to_vec()));
            match found {
                Ok((header, payload)) if self.counts(&header) => {
                    self.note_unproven(&header, payload.len())?;
                    return Ok(Some(self.take(header, payload)));
                }
                Err(DecodeError::UnknownLevel(level)) => {
                    return Err(ReadError::UnknownLevel { at: self.at(self.offset), level });
                }
                Ok(_) => self.end_at_bad_entry("an entry is out of sequence")?,
                Err(error) => self.end_at_bad_entry(&error.to_string())?,
            }
        }
    }

    /// Goes on to the next segment, after the current one was read to its end.
    fn enter_next(&mut self, before: Mark) -> Result<(), ReadError> {
        if before != self.mark {
            let at = Place::in_file(&self.segments[self.current + 1].path, 0);
            let detail = format!("the segment continues {before:?}, the one before ends at {:?}", self.mark);
            return Err(ReadError::Corrupt { at, detail });
        }
        let is_longer = |reader: &BlockReader<_>| reader.size_bytes() > self.offset;
        if self.until == Until::End && self.open.as_ref().is_some_and(is_longer) {
            self.uncut.push((self.segments[self.current].path.clone(), self.offset));
        }
        self.current += 1;
        self.open = None;
        self.offset = BLOCK_BYTES as u64;
        Ok(())
    }

    fn open_current(&mut self) -> Result<(), ReadError> {
        if self.open.is_some() {
            return Ok(());
        }
        let segment = &self.segments[self.current];
        let file = self.env.disk.open(&segment.path, Access::Read);
        let file = file.map_err(|error| self.trimmed_meanwhile(&segment.path, &error))?;
        let size_bytes = file.size().map_err(|error| unavailable(&segment.path, &error))?;
        let is_cut = size_bytes < segment.header.size_bytes;
        let unsealed = self.current + 1 == self.segments.len() && self.until == Until::End;
        // A claim of this process may have sealed and cut the segment since the last refresh.
        if unsealed && is_cut && !self.refresh()? {
            // Preallocation is durable before the header, so a power cut cannot cause this. Only sealed
            // segments are shorter, because their unused end is cut off.
            let had_bytes = self.segments[self.current].header.size_bytes;
            let detail = format!("the file was cut off; it had {had_bytes} bytes");
            return Err(ReadError::Corrupt { at: self.at(size_bytes), detail });
        }
        self.open = Some(BlockReader::new(file, size_bytes));
        self.bound_open()
    }

    /// The error for a segment whose file cannot be opened: perhaps it was trimmed.
    fn trimmed_meanwhile(&self, path: &Path, error: &io::Error) -> ReadError {
        let state = self.live.as_ref().map(|live| live.state.lock());
        let first = state.and_then(|state| Some(state.segments.first()?.header.before.pos));
        match first.filter(|first| *first > self.mark.pos) {
            Some(first) => ReadError::Trimmed { first: first.next() },
            None => unavailable(path, error),
        }
    }

    /// True if the entry is of this segment and the next one in sequence.
    fn counts(&self, header: &EntryHeader) -> bool {
        let segment = &self.segments[self.current].header;
        let mut sequence = Sequence { epoch: self.mark.epoch, index: self.mark.index };
        belongs(header, segment.log_id, segment.number) && sequence.admit(self.mark.pos.next(), header)
    }

    /// Keeps the entry at `self.offset` until a later one proves it. Only the last segment can have unproven
    /// entries.
    fn note_unproven(&mut self, header: &EntryHeader, payload_bytes: usize) -> Result<(), ReadError> {
        if self.until != Until::End || self.current + 1 < self.segments.len() {
            return Ok(());
        }
        // (The writer sends its first entry after its Claim is durable, so `durable` covers the Claim.)
        while self.unproven.front().is_some_and(|entry| entry.index <= header.durable) {
            self.unproven.pop_front();
        }
        let reader = self.open.as_mut().expect("the entry was read from it");
        // They are still in the reader's buffer, so these are the decoded bytes.
        let bytes = reader.bytes(self.offset, HEADER_BYTES + payload_bytes);
        let bytes = bytes.map_err(|error| unavailable(&self.segments[self.current].path, &error))?.to_vec();
        self.unproven.push_back(UnprovenEntry { index: header.index, offset: self.offset, bytes });
        Ok(())
    }

    fn take(&mut self, header: EntryHeader, payload: Vec<u8>) -> ReadEntry {
        let pos = self.mark.pos.next();
        assert!(
            self.frontier.is_none_or(|frontier| pos <= frontier.mark.pos),
            "only what is durable is read"
        );
        self.mark = Mark { pos, epoch: header.epoch, index: header.index };
        self.entry_offset = self.offset;
        self.offset += super::padded_entry_bytes(payload.len());
        self.last_kind = Some(header.kind);
        ReadEntry { pos, header, payload }
    }

    /// Rule 4: the entry at `self.offset` is bad. An error if it was acknowledged, otherwise the log ends
    /// here.
    fn end_at_bad_entry(&mut self, reason: &str) -> Result<(), ReadError> {
        let corrupt = |at, proof: &str| {
            let detail = format!("{reason}, but {proof}");
            ReadError::Corrupt { at, detail }
        };
        if let Some(next) = self.segments.get(self.current + 1) {
            let proof = format!("{} begins after {}", next.path.display(), next.header.before.pos);
            return Err(corrupt(self.at(self.offset), &proof));
        }
        if let Until::Pos(pos) = self.until {
            return Err(corrupt(self.at(self.offset), &format!("everything through {pos} is durable")));
        }
        // Nothing is written after a Release.
        if self.last_kind != Some(EntryKind::Release) {
            let later = self.scan_later_entries()?;
            if let Some(offset) = later.proof_offset {
                return Err(corrupt(self.at(self.offset), &format!("the entry at {offset} follows it")));
            }
            self.voided.entries += later.entries;
            if later.entries > 0 || !self.is_blank(self.offset)? {
                self.voided.torn_tail = Some(self.at(self.offset));
            }
        }
        let last = &self.segments[self.current].header;
        let header = (self.mark == last.before).then_some(*last);
        let unproven = Unproven { header, entries: std::mem::take(&mut self.unproven) };
        let (mark, end_offset, uncut) = (self.mark, self.offset, std::mem::take(&mut self.uncut));
        let tail = Tail { mark, end_offset, unproven, uncut };
        // Once the log has a writer, its claim has sealed this tail, which is then outdated.
        let state = self.live.as_ref().map(|live| live.state.lock());
        if state.as_ref().is_none_or(|state| state.frontier.is_none()) {
            *self.tail.lock() = Some(tail);
        }
        drop(state);
        self.ended = true;
        Ok(())
    }

    /// Searches the rest of the segment for valid entries after a bad one. In-flight entries end earlier, but
    /// an entry that proves damage may be anywhere.
    fn scan_later_entries(&mut self) -> Result<LaterEntries, ReadError> {
        let segment = &self.segments[self.current];
        let (log_id, number) = (segment.header.log_id, segment.header.number);
        let reader = self.open.as_mut().expect("the bad entry was read from it");
        let mut later = LaterEntries::default();
        let bad_index = Idx(self.mark.index.0.saturating_add(1));
        let mut offset = self.offset + BLOCK_BYTES as u64;
        while offset < reader.size_bytes() {
            let at = offset;
            offset += BLOCK_BYTES as u64;
            let found = reader.entry(at).map_err(|error| unavailable(&segment.path, &error))?;
            let header = match found {
                Ok((header, _)) if belongs(&header, log_id, number) => header,
                Ok(_) => continue,
                Err(DecodeError::UnknownLevel(level)) => {
                    let at = Place::in_file(&segment.path, at);
                    return Err(ReadError::UnknownLevel { at, level });
                }
                Err(_) => continue,
            };
            let same_epoch = header.epoch == self.mark.epoch;
            if header.epoch > self.mark.epoch || same_epoch && header.durable >= bad_index {
                later.proof_offset = Some(at);
                return Ok(later);
            }
            later.entries += 1;
        }
        Ok(later)
    }

    fn is_blank(&mut self, offset: u64) -> Result<bool, ReadError> {
        let path = &self.segments[self.current].path;
        let reader = self.open.as_mut().expect("the bad entry was read from it");
        let block = reader.bytes(offset, BLOCK_BYTES).map_err(|error| unavailable(path, &error))?;
        Ok(block.iter().all(|byte| *byte == 0))
    }

    fn at(&self, offset_bytes: u64) -> Place {
        let file = self.segments.get(self.current).map_or(PathBuf::new(), |segment| segment.path.clone());
        Place::File { file, offset_bytes }
    }
}

#[derive(Default)]
struct LaterEntries {
    entries: u64,
    /// An entry that proves that the bad one had been acknowledged.
    proof_offset: Option<u64>,
}

fn belongs(header: &EntryHeader, log_id: LogId, segment: u64) -> bool {
    header.log_id == log_id && header.segment == segment
}

impl EntryIter for LocalIter {
    fn next(&mut self, wait: Wait) -> Result<Step, ReadError> {
        if let Some(first) = self.trimmed {
            return Err(ReadError::Trimmed { first });
        }
        let mut has_waited = false;
        loop {
            if self.is_stopped.load(Ordering::Acquire) {
                return Ok(Step::Stopped);
            }
            match self.step()? {
                Some(entry) if entry.pos <= self.after => continue,
                Some(entry) => return Ok(Step::Entry(entry)),
                None => {}
            }
            match wait {
                Wait::AtMost(_) if has_waited => return Ok(Step::TimedOut),
                Wait::AtMost(time) if self.wait(time) => has_waited = true,
                _ => return Ok(Step::End(LogEnd { mark: self.mark })),
            }
        }
    }

    fn mark(&self) -> Mark {
        self.mark
    }

    fn place(&self) -> Place {
        self.at(self.entry_offset)
    }

    fn voided(&self) -> Voided {
        self.voided.clone()
    }

    fn stopper(&self) -> Stopper {
        let (is_stopped, live) = (self.is_stopped.clone(), self.live.clone());
        Stopper::new(move || {
            is_stopped.store(true, Ordering::Release);
            if let Some(live) = &live {
                // After the lock was taken once, a reader either has not read the flag yet, or is waiting and
                // is woken.
                drop(live.state.lock());
                live.more.notify_all();
            }
        })
    }
}
