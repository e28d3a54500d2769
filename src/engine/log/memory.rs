//! A log in memory: for tests, and for running without durability.
//!
//! Clones share the entries, so a test can "restart" on the same log. It keeps every rule of the contract but
//! durability: entries are encoded and decoded, a new claim fences the writers before it.

use super::entry::{self, EntryHeader, HEADER_BYTES, Kind};
use super::{
    AppendError, Appender, Claim, Commits, Entry, EntryIter, Epoch, Idx, Limits, Location, LogId, Mark, Pos,
    ReadEntry, ReadError, Resync, Sequence, ShardLog, TrimError, Voided, Writing,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone)]
pub struct MemoryLog {
    id: LogId,
    shared: Arc<Mutex<Shared>>,
}

/// The entries at positions `first`, `first + 1`, ...
struct Shared {
    first: Pos,
    /// Epoch and index before `first`.
    before_first: Mark,
    entries: VecDeque<Arc<Vec<u8>>>,
    writer: Sequence,
}

impl Shared {
    fn last(&self) -> Pos {
        Pos(self.first.0 + self.entries.len() as u64 - 1)
    }

    fn push(&mut self, header: &EntryHeader, mut bytes: Vec<u8>) -> Pos {
        entry::seal_entry(header, &mut bytes);
        self.entries.push_back(Arc::new(bytes));
        let counts = self.writer.admit(self.last(), header);
        assert!(counts, "an appended entry continues the sequence");
        self.last()
    }
}

impl MemoryLog {
    pub fn new(id: LogId) -> MemoryLog {
        let shared = Shared {
            first: Pos(1),
            before_first: Mark::default(),
            entries: VecDeque::new(),
            writer: Sequence::default(),
        };
        MemoryLog { id, shared: Arc::new(Mutex::new(shared)) }
    }
}

impl ShardLog for MemoryLog {
    fn id(&self) -> LogId {
        self.id
    }

    fn limits(&self) -> Limits {
        Limits { entry_bytes_max: 1 << 20, entries_in_flight_max: 16, block_bytes: 1, durable: false }
    }

    fn claim(&self, after: Pos, claim: Claim) -> Result<Writing, AppendError> {
        let mut shared = self.shared.lock();
        if shared.last() != after {
            return Err(AppendError::Conflict { last: shared.last() });
        }
        let epoch = Epoch(after.0 + 1);
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(claim.node.as_bytes());
        let header = EntryHeader {
            needs: 1,
            kind: Kind::Claim,
            log_id: self.id,
            segment: 0,
            epoch,
            index: Idx(0),
            durable: Idx(0),
            engine_time_ms: claim.engine_time_ms,
            first_lsn: claim.lsn,
            last_lsn: claim.lsn,
            checksum: claim.checksum,
        };
        shared.push(&header, bytes);
        let appended = Arc::new(Mutex::new(None));
        let appender = MemoryAppender { log: self.clone(), epoch, appended: appended.clone() };
        Ok((Box::new(appender), Box::new(MemoryCommits { log: self.clone(), epoch, appended })))
    }

    fn read(&self, after: Mark) -> Box<dyn EntryIter> {
        Box::new(MemoryIter { log: self.clone(), after: after.pos, mark: None, voided: Voided::default() })
    }

    fn bounds(&self) -> Result<(Pos, Pos), ReadError> {
        let shared = self.shared.lock();
        Ok((shared.first, shared.last()))
    }

    fn trim(&self, upto: Pos) -> Result<(), TrimError> {
        let mut shared = self.shared.lock();
        while shared.first <= upto && !shared.entries.is_empty() {
            let bytes = shared.entries.pop_front().expect("not empty");
            let (header, _) = entry::decode_entry(&bytes).expect("encoded by push");
            let pos = shared.first;
            shared.before_first = Mark { pos, epoch: header.epoch, index: header.index };
            shared.first = pos.next();
        }
        Ok(())
    }
}

struct MemoryAppender {
    log: MemoryLog,
    epoch: Epoch,
    appended: Arc<Mutex<Option<(Idx, Pos)>>>,
}

impl MemoryAppender {
    fn check_fenced(&self, shared: &Shared) -> Result<(), AppendError> {
        if shared.writer.epoch == self.epoch {
            return Ok(());
        }
        Err(AppendError::Fenced { by: shared.writer.epoch })
    }
}

impl Appender for MemoryAppender {
    fn append(&mut self, entry: Entry) -> Result<Idx, AppendError> {
        if entry.bytes.len() > self.log.limits().entry_bytes_max {
            return Err(AppendError::TooLarge { bytes: entry.bytes.len() });
        }
        let mut shared = self.log.shared.lock();
        self.check_fenced(&shared)?;
        let index = Idx(shared.writer.index.0 + 1);
        let header = EntryHeader {
            needs: entry.needs,
            kind: entry.kind,
            log_id: self.log.id,
            segment: 0,
            epoch: self.epoch,
            index,
            durable: shared.writer.index,
            engine_time_ms: entry.engine_time_ms,
            first_lsn: entry.first_lsn,
            last_lsn: entry.last_lsn,
            checksum: entry.checksum,
        };
        let pos = shared.push(&header, entry.bytes);
        *self.appended.lock() = Some((index, pos));
        Ok(index)
    }

    fn seal(&mut self) -> Result<Pos, AppendError> {
        let shared = self.log.shared.lock();
        self.check_fenced(&shared)?;
        Ok(shared.last())
    }

    fn mark(&self) -> Mark {
        let shared = self.log.shared.lock();
        Mark { pos: shared.last(), epoch: shared.writer.epoch, index: shared.writer.index }
    }
}

struct MemoryCommits {
    log: MemoryLog,
    epoch: Epoch,
    appended: Arc<Mutex<Option<(Idx, Pos)>>>,
}

impl Commits for MemoryCommits {
    fn advance(&self) -> Result<Option<(Idx, Pos)>, AppendError> {
        Ok(self.appended.lock().take())
    }

    fn resync(&self) -> Result<Resync, AppendError> {
        let shared = self.log.shared.lock();
        if shared.writer.epoch != self.epoch {
            return Err(AppendError::Fenced { by: shared.writer.epoch });
        }
        Ok(Resync { last: shared.last(), committed: shared.writer.index })
    }
}

struct MemoryIter {
    log: MemoryLog,
    after: Pos,
    /// `None` until the first call has found where the log begins.
    mark: Option<Mark>,
    voided: Voided,
}

impl MemoryIter {
    /// The next stored entry that counts, without regard to `after`.
    fn step(&mut self) -> Result<Option<ReadEntry>, ReadError> {
        loop {
            let (pos, bytes) = {
                let shared = self.log.shared.lock();
                let mark = *self.mark.get_or_insert(shared.before_first);
                if mark.pos.next() < shared.first || self.after.next() < shared.first {
                    return Err(ReadError::Trimmed { first: shared.first });
                }
                match shared.entries.get((mark.pos.0 + 1 - shared.first.0) as usize) {
                    Some(bytes) => (mark.pos.next(), bytes.clone()),
                    None => return Ok(None),
                }
            };
            let (header, payload) = entry::decode_entry(&bytes).expect("encoded by push");
            let mark = self.mark.as_mut().expect("set above");
            let mut sequence = Sequence { epoch: mark.epoch, index: mark.index };
            let counts = sequence.admit(pos, &header);
            *mark = Mark { pos, epoch: sequence.epoch, index: sequence.index };
            if counts {
                return Ok(Some(ReadEntry { pos, header, payload: payload.to_vec() }));
            }
            self.voided.entries += 1;
        }
    }
}

impl EntryIter for MemoryIter {
    fn next(&mut self) -> Result<Option<ReadEntry>, ReadError> {
        loop {
            match self.step()? {
                Some(entry) if entry.pos <= self.after => {}
                other => return Ok(other),
            }
        }
    }

    fn mark(&self) -> Mark {
        self.mark.unwrap_or_default()
    }

    fn location(&self) -> Location {
        Location { file: PathBuf::from("memory"), offset_bytes: self.mark().pos.0 }
    }

    fn voided(&self) -> Voided {
        self.voided.clone()
    }
}
