//! Reassembles batches from entries, for recovery, followers, the offline snapshotter and tools.
//!
//! Invariants, each checked on every entry:
//!
//! - LSNs are dense: an entry begins with the LSN after the last one, or with the batch that the entry before
//!   left unfinished.
//! - First and Middle pieces are followed, in the next Data entry of the same epoch, by Middle or Last ones.
//!   A batch that a Claim or the log's end interrupts is void, and its LSN is assigned again.
//! - Positions grow, and indexes are dense within an epoch; a Claim names the entry that it follows.
//! - Engine time never steps back, from entry to entry and from batch to batch.
//! - After each entry the running checksum over all complete batches equals the one in its header. The
//!   entries' own CRCs guard against damage; this one guards against a log that lost or repeated something.

use super::claim::ClaimRecord;
use super::entry::{self, EntryKind, PieceKind};
use super::{
    EntryIter, Epoch, LogEnd, Lsn, Mark, ReadEntry, ReadError, RunningChecksum, ShardLog, Step, Stopper,
    Voided, Wait,
};
use std::ops::Range;

/// A state of a history that includes everything through `lsn`. A snapshot stores the one that it shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The mark after which to continue reading: before the entry with the batch after `lsn`, and never
    /// between the pieces of a batch.
    pub mark: Mark,
    pub lsn: Lsn,
    pub checksum: RunningChecksum,
    /// The engine time of the last batch or Time entry.
    pub engine_time_ms: u64,
}

/// The result of a replay, for the next writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The state after the last complete batch.
    pub checkpoint: Checkpoint,
    /// The end at which the next writer claims; after the checkpoint if the tail has an unfinished batch.
    pub end: LogEnd,
    pub voided: Voided,
    /// True if the last entry is a Release: the last writer stopped cleanly.
    pub clean: bool,
}

/// One batch of effects, as read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBatch<'a> {
    pub lsn: Lsn,
    pub epoch: Epoch,
    pub engine_time_ms: u64,
    pub bytes: &'a [u8],
}

/// The result of [`Replay::follow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed<'a> {
    Batch(LogBatch<'a>),
    /// Everything that is durable was returned; [`Replay::recovered`] has the end to claim at.
    End,
    /// Nothing became durable in the given time.
    TimedOut,
    /// [`Replay::stopper`] was used. Every later call returns this too.
    Stopped,
}

/// The result of [`Replay::follow_entry`].
pub enum FollowedEntry {
    Batches(EntryBatches),
    /// As in [`Followed`].
    End,
    TimedOut,
    Stopped,
}

/// The batches that an entry completes; none for most kinds of entries.
pub struct EntryBatches {
    epoch: Epoch,
    engine_time_ms: u64,
    payload: Vec<u8>,
    /// The bytes of the batch that came in pieces, if there is one.
    assembled: Vec<u8>,
    found: Vec<Found>,
}

impl EntryBatches {
    /// The time of the entry and of its last batch.
    pub fn engine_time_ms(&self) -> u64 {
        self.engine_time_ms
    }

    pub fn iter(&self) -> impl Iterator<Item = LogBatch<'_>> {
        self.found.iter().map(|found| LogBatch {
            lsn: found.lsn,
            epoch: self.epoch,
            engine_time_ms: found.engine_time_ms,
            bytes: found.in_entry.clone().map_or(&self.assembled[..], |range| &self.payload[range]),
        })
    }
}

/// Reads the batches after a checkpoint. [`Replay::finish`] returns what the next writer needs.
pub struct Replay {
    iter: Box<dyn EntryIter>,
    /// Batches through this LSN are skipped, because the checkpoint includes them.
    skip_through: Lsn,
    state: Checkpoint,
    entry: Option<Cursor>,
    unfinished: Option<Unfinished>,
    /// The last complete LSN that was read; `None` before the first entry.
    last_lsn: Option<Lsn>,
    /// The mark of the last entry that was read.
    met: Mark,
    /// The engine time of the last entry or batch that was read.
    met_time_ms: u64,
    /// The bytes of the last returned batch, if it came in pieces.
    assembled: Vec<u8>,
    voided_batches: u64,
    clean: bool,
}

/// Progress within an entry.
struct Cursor {
    entry: ReadEntry,
    offset: usize,
    lsn: Lsn,
}

struct Unfinished {
    lsn: Lsn,
    bytes: Vec<u8>,
}

/// A complete batch without its bytes, which are in the entry (`in_entry`), or in `assembled`.
struct Found {
    lsn: Lsn,
    engine_time_ms: u64,
    in_entry: Option<Range<usize>>,
}

impl Replay {
    /// Reads the batches after `from` in the log.
    pub fn new(log: &dyn ShardLog, from: Checkpoint) -> Replay {
        Replay::over(log.read(from.mark), from)
    }

    /// The same over any entries that begin right after `from.mark`.
    pub fn over(iter: Box<dyn EntryIter>, from: Checkpoint) -> Replay {
        Replay {
            iter,
            skip_through: from.lsn,
            state: from,
            entry: None,
            unfinished: None,
            last_lsn: None,
            met: from.mark,
            met_time_ms: 0,
            assembled: Vec::new(),
            voided_batches: 0,
            clean: false,
        }
    }

    /// The next batch, valid until the next call; `None` at the log's end.
    #[expect(clippy::should_implement_trait, reason = "the batch borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<LogBatch<'_>>, ReadError> {
        match self.follow(Wait::No)? {
            Followed::Batch(batch) => Ok(Some(batch)),
            Followed::End | Followed::TimedOut | Followed::Stopped => Ok(None),
        }
    }

    /// The same for a follower, which may wait for more batches at the log's end. It can be called again,
    /// unless it returned an error.
    pub fn follow(&mut self, wait: Wait) -> Result<Followed<'_>, ReadError> {
        let found = match self.find_batch(wait)? {
            Ok(found) => found,
            Err(Step::End(_)) => return Ok(Followed::End),
            Err(Step::TimedOut) => return Ok(Followed::TimedOut),
            Err(Step::Stopped) => return Ok(Followed::Stopped),
            Err(Step::Entry(_)) => unreachable!("`find_batch` processes entries"),
        };
        let cursor = self.entry.as_ref().expect("a batch ends inside an entry");
        let bytes = match found.in_entry {
            Some(range) => &cursor.entry.payload[range],
            None => &self.assembled[..],
        };
        Ok(Followed::Batch(LogBatch {
            lsn: found.lsn,
            epoch: cursor.entry.header.epoch,
            engine_time_ms: found.engine_time_ms,
            bytes,
        }))
    }

    /// Reads a whole entry and checks it before it returns the batches, because a follower makes visible what
    /// it applies. `next` and `follow` may have been called before only if they reached the log's end.
    pub fn follow_entry(&mut self, wait: Wait) -> Result<FollowedEntry, ReadError> {
        assert!(self.entry.is_none(), "the entry before is read through");
        assert!(self.assembled.is_empty(), "its batches were handed over");
        match self.iter.next(wait)? {
            Step::Entry(entry) => self.begin_entry(entry)?,
            Step::End(_) => return self.check_end().map(|()| FollowedEntry::End),
            Step::TimedOut => return Ok(FollowedEntry::TimedOut),
            Step::Stopped => return Ok(FollowedEntry::Stopped),
        }
        let mut found = Vec::new();
        while let Some(batch) = self.take_piece()? {
            found.extend(Some(batch).filter(|batch| batch.lsn > self.skip_through));
        }
        let entry = &mut self.entry.as_mut().expect("begun above").entry;
        let (epoch, payload) = (entry.header.epoch, std::mem::take(&mut entry.payload));
        self.end_entry()?;
        let assembled = std::mem::take(&mut self.assembled);
        let engine_time_ms = self.state.engine_time_ms;
        Ok(FollowedEntry::Batches(EntryBatches { epoch, engine_time_ms, payload, assembled, found }))
    }

    /// Ends the waits of [`Replay::follow`] from another thread.
    pub fn stopper(&self) -> Stopper {
        self.iter.stopper()
    }

    /// The state after the last batch returned.
    pub fn checkpoint(&self) -> Checkpoint {
        self.state
    }

    /// What the next writer needs. May be called only at the log's end: after `next` returned `None`, or
    /// `follow` returned [`Followed::End`]. Reading can continue afterwards, in case the claim comes too
    /// late.
    pub fn recovered(&self) -> Recovered {
        assert!(self.entry.is_none(), "the last batch and its entry are read through");
        let mut voided = self.iter.voided();
        voided.batches += self.voided_batches + u64::from(self.unfinished.is_some());
        let end = LogEnd { mark: self.iter.mark() };
        Recovered { checkpoint: self.state, end, voided, clean: self.clean }
    }

    /// The same, and the end of reading.
    pub fn finish(self) -> Recovered {
        self.recovered()
    }

    fn find_batch(&mut self, wait: Wait) -> Result<Result<Found, Step>, ReadError> {
        // The batch before has been taken: a large one must not be held while the next is read.
        self.assembled = Vec::new();
        loop {
            match self.take_piece()? {
                Some(found) if found.lsn > self.skip_through => return Ok(Ok(found)),
                Some(_) => {}
                None => {
                    self.end_entry()?;
                    match self.iter.next(wait)? {
                        Step::Entry(entry) => self.begin_entry(entry)?,
                        end @ Step::End(_) => return self.check_end().map(|()| Err(end)),
                        other => return Ok(Err(other)),
                    }
                }
            }
        }
    }

    fn begin_entry(&mut self, entry: ReadEntry) -> Result<(), ReadError> {
        if let Some(detail) = self.contradiction(&entry) {
            return Err(self.corrupt(&detail));
        }
        let header = &entry.header;
        self.met = Mark { pos: entry.pos, epoch: header.epoch, index: header.index };
        self.met_time_ms = header.engine_time_ms;
        if header.kind == EntryKind::Claim {
            self.void_unfinished();
        }
        let expected = match (&self.unfinished, self.last_lsn) {
            (Some(unfinished), _) => unfinished.lsn,
            (None, Some(last)) => last.next(),
            // The first entry may begin with batches that the checkpoint includes already.
            (None, None) => header.first_lsn.min(self.skip_through.next()),
        };
        // What is not Data names the batch before it. Before the first entry is the mark, and the checkpoint
        // covers what is before that.
        let is_first = self.last_lsn.is_none() && self.unfinished.is_none();
        let is_beyond = is_first && header.last_lsn > self.skip_through;
        let is_hole = if header.kind == EntryKind::Data { header.first_lsn != expected } else { is_beyond };
        if is_hole {
            let detail = format!("batch {expected} is missing, batch {} follows", header.first_lsn);
            return Err(ReadError::Hole { want: entry.pos, detail });
        }
        self.clean = header.kind == EntryKind::Release;
        let lsn = header.first_lsn;
        let offset = if header.kind == EntryKind::Data { 0 } else { entry.payload.len() };
        self.entry = Some(Cursor { entry, offset, lsn });
        Ok(())
    }

    /// A contradiction within an entry, or between it and the entry before, if there is one. Checks what the
    /// writer asserts.
    fn contradiction(&self, entry: &ReadEntry) -> Option<String> {
        let (header, met) = (&entry.header, self.met);
        if let Some(detail) = header.contradiction(entry.payload.len()) {
            return Some(detail.to_owned());
        }
        if entry.pos <= met.pos {
            return Some(format!("position {} follows {}", entry.pos, met.pos));
        }
        if header.engine_time_ms < self.met_time_ms {
            return Some(format!(
                "engine time steps back to {} from {}",
                header.engine_time_ms, self.met_time_ms
            ));
        }
        let follows = match header.kind {
            EntryKind::Claim => match ClaimRecord::decode(&entry.payload) {
                Some(claim) => claim.previous.is_none_or(|previous| previous == (met.epoch, met.index)),
                None => return Some("the fields of a Claim are malformed".to_owned()),
            },
            _ => header.epoch == met.epoch && Some(header.index.0) == met.index.0.checked_add(1),
        };
        let (epoch, index) = (header.epoch.0, header.index.0);
        let detail = || format!("entry {index} of epoch {epoch} follows {} of {}", met.index.0, met.epoch.0);
        (!follows).then(detail)
    }

    /// Takes the next piece of the current entry; returns the batch if it completes one.
    fn take_piece(&mut self) -> Result<Option<Found>, ReadError> {
        while let Some(cursor) = &mut self.entry {
            if cursor.offset == cursor.entry.payload.len() {
                return Ok(None);
            }
            let Some((piece, rest)) = entry::split_piece(&cursor.entry.payload[cursor.offset..]) else {
                return Err(self.corrupt("a piece of a batch is malformed"));
            };
            let end = cursor.entry.payload.len() - rest.len();
            let range = end - piece.bytes.len()..end;
            let lsn = cursor.lsn;
            let engine_time_ms =
                cursor.entry.header.engine_time_ms.saturating_add(u64::from(piece.time_offset_ms));
            if engine_time_ms < self.met_time_ms {
                return Err(self.corrupt("engine time steps back from one batch to the next"));
            }
            self.met_time_ms = engine_time_ms;
            let starts = matches!(piece.kind, PieceKind::Whole | PieceKind::First);
            if starts != self.unfinished.is_none() {
                return Err(self.corrupt("the pieces of a batch do not fit together"));
            }
            let in_entry = match piece.kind {
                PieceKind::Whole => Some(range),
                PieceKind::First => {
                    self.unfinished = Some(Unfinished { lsn, bytes: piece.bytes.to_vec() });
                    None
                }
                PieceKind::Middle | PieceKind::Last => {
                    let unfinished = self.unfinished.as_mut().expect("checked above");
                    unfinished.bytes.extend_from_slice(piece.bytes);
                    None
                }
            };
            let complete = matches!(piece.kind, PieceKind::Whole | PieceKind::Last);
            assert!(cursor.offset < end, "each piece is read once");
            cursor.offset = end;
            cursor.lsn = if complete { lsn.next() } else { lsn };
            if complete {
                self.last_lsn = Some(lsn);
                return Ok(Some(self.complete_batch(lsn, engine_time_ms, in_entry)));
            }
            if !rest_is_empty(cursor) {
                return Err(self.corrupt("a piece follows an unfinished batch in its entry"));
            }
        }
        Ok(None)
    }

    fn complete_batch(&mut self, lsn: Lsn, engine_time_ms: u64, in_entry: Option<Range<usize>>) -> Found {
        if let Some(unfinished) = self.unfinished.take() {
            self.assembled = unfinished.bytes;
        }
        if lsn > self.skip_through {
            assert_eq!(lsn, self.state.lsn.next(), "batches are returned densely");
            let cursor = self.entry.as_ref().expect("a batch ends inside an entry");
            let bytes = in_entry.clone().map_or(&self.assembled[..], |range| &cursor.entry.payload[range]);
            self.state.checksum.add(bytes);
            self.state.lsn = lsn;
            self.state.engine_time_ms = self.state.engine_time_ms.max(engine_time_ms);
        }
        Found { lsn, engine_time_ms, in_entry }
    }

    /// Checks the current entry after its last piece, and advances the checkpoint's mark.
    fn end_entry(&mut self) -> Result<(), ReadError> {
        let Some(cursor) = self.entry.take() else { return Ok(()) };
        let header = &cursor.entry.header;
        // If no batch is complete so far, an unfinished one must be the first batch of the entry.
        let complete_lsn = match (self.last_lsn, &self.unfinished) {
            (Some(lsn), _) => lsn,
            (None, Some(unfinished)) => Lsn(unfinished.lsn.0.saturating_sub(1)),
            (None, None) => header.last_lsn,
        };
        if header.kind == EntryKind::Data && self.unfinished.is_none() && header.last_lsn != complete_lsn {
            return Err(self.corrupt("the entry holds other batches than its header says"));
        }
        if header.kind != EntryKind::Data && self.unfinished.is_none() {
            if header.last_lsn != complete_lsn {
                let detail =
                    format!("batch {complete_lsn} precedes an entry that follows {}", header.last_lsn);
                return Err(ReadError::Hole { want: cursor.entry.pos, detail });
            }
            self.last_lsn = Some(complete_lsn);
        }
        if complete_lsn == self.state.lsn && header.checksum != self.state.checksum {
            return Err(self.corrupt("the running checksum does not match: batches were lost or changed"));
        }
        if complete_lsn >= self.skip_through {
            self.state.engine_time_ms = self.state.engine_time_ms.max(header.engine_time_ms);
        }
        if self.unfinished.is_none() {
            let mark = Mark { pos: cursor.entry.pos, epoch: header.epoch, index: header.index };
            assert!(mark.pos > self.state.mark.pos, "a checkpoint goes forward");
            self.state.mark = mark;
        }
        Ok(())
    }

    /// Fails if the log ends before the checkpoint: it has lost its newest part.
    fn check_end(&self) -> Result<(), ReadError> {
        let (end, want) = (self.iter.mark().pos, self.state.mark.pos);
        if end >= want && self.state.lsn >= self.skip_through {
            return Ok(());
        }
        let detail = format!("the log ends at {end}, the snapshot goes on to batch {}", self.skip_through);
        Err(ReadError::Hole { want, detail })
    }

    fn void_unfinished(&mut self) {
        if self.unfinished.take().is_some() {
            self.voided_batches += 1;
        }
    }

    fn corrupt(&self, detail: &str) -> ReadError {
        ReadError::Corrupt { at: self.iter.place(), detail: detail.to_owned() }
    }
}

fn rest_is_empty(cursor: &Cursor) -> bool {
    cursor.offset == cursor.entry.payload.len()
}
