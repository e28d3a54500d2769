//! A log in memory: for tests, and for running without durability.
//!
//! Clones share the entries, so a test can "restart" on the same log. It keeps every rule of the contract but
//! durability: entries are encoded and decoded, an appended entry is in the log once it is acknowledged, and a new claim
//! fences the writers before it, whose entries in flight are lost.

use super::entry::{self, EntryHeader, FORMAT_LEVEL, HEADER_BYTES, Kind};
use super::{
    AppendError, Appender, Claim, Commits, Entry, EntryIter, Epoch, Idx, Limits, LogEnd, LogId, Mark, Place,
    Pos, ReadEntry, ReadError, Resync, Sequence, ShardLog, Step, Stopper, TrimError, Voided, Wait, Writing,
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone)]
pub struct MemoryLog {
    id: LogId,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Readers wait here for entries.
    more: Condvar,
}

/// The entries at positions `first`, `first + 1`, ...
struct State {
    first: Pos,
    /// Epoch and index before `first`.
    before_first: Mark,
    entries: VecDeque<Arc<Vec<u8>>>,
    /// After the last entry.
    sequence: Sequence,
    /// Appended by the current writer and not acknowledged.
    in_flight: VecDeque<(EntryHeader, Vec<u8>)>,
}

impl State {
    fn last(&self) -> Pos {
        Pos(self.first.0 + self.entries.len() as u64 - 1)
    }

    fn end(&self) -> LogEnd {
        let Sequence { epoch, index } = self.sequence;
        LogEnd { mark: Mark { pos: self.last(), epoch, index } }
    }

    fn push(&mut self, header: &EntryHeader, mut bytes: Vec<u8>) {
        entry::seal_entry(header, &mut bytes);
        self.entries.push_back(Arc::new(bytes));
        let counts = self.sequence.admit(self.last(), header);
        assert!(counts, "an appended entry continues the sequence");
    }
}

impl MemoryLog {
    pub fn new(id: LogId) -> MemoryLog {
        let state = State {
            first: Pos(1),
            before_first: Mark::default(),
            entries: VecDeque::new(),
            sequence: Sequence::default(),
            in_flight: VecDeque::new(),
        };
        MemoryLog { id, shared: Arc::new(Shared { state: Mutex::new(state), more: Condvar::new() }) }
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
        let mut state = self.shared.state.lock();
        if state.last() != after {
            return Err(AppendError::Conflict { last: state.last() });
        }
        state.in_flight.clear();
        let epoch = Epoch(after.0 + 1);
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(claim.node.as_bytes());
        let header = EntryHeader {
            needs: FORMAT_LEVEL,
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
        state.push(&header, bytes);
        self.shared.more.notify_all();
        let writer = MemoryWriter { log: self.clone(), epoch };
        Ok((Box::new(writer.clone()), Box::new(writer)))
    }

    fn read(&self, after: Mark) -> Box<dyn EntryIter> {
        Box::new(MemoryIter {
            log: self.clone(),
            after: after.pos,
            mark: None,
            voided: Voided::default(),
            is_stopped: Arc::default(),
        })
    }

    fn bounds(&self) -> Result<(Pos, Pos), ReadError> {
        let state = self.shared.state.lock();
        Ok((state.first, state.last()))
    }

    fn trim(&self, upto: Pos) -> Result<(), TrimError> {
        let mut state = self.shared.state.lock();
        while state.first <= upto && !state.entries.is_empty() {
            let bytes = state.entries.pop_front().expect("not empty");
            let (header, _) = entry::decode_entry(&bytes).expect("encoded by push");
            let pos = state.first;
            state.before_first = Mark { pos, epoch: header.epoch, index: header.index };
            state.first = pos.next();
        }
        Ok(())
    }
}

#[derive(Clone)]
struct MemoryWriter {
    log: MemoryLog,
    epoch: Epoch,
}

impl MemoryWriter {
    /// The state, unless another writer has claimed the log.
    fn state(&self) -> Result<MutexGuard<'_, State>, AppendError> {
        let state = self.log.shared.state.lock();
        if state.sequence.epoch == self.epoch {
            return Ok(state);
        }
        Err(AppendError::Fenced { by: state.sequence.epoch })
    }
}

impl Appender for MemoryWriter {
    fn append(&mut self, entry: Entry) -> Result<Idx, AppendError> {
        if entry.bytes.len() > self.log.limits().entry_bytes_max {
            return Err(AppendError::TooLarge { bytes: entry.bytes.len() });
        }
        let mut state = self.state()?;
        let index = Idx(state.sequence.index.0 + state.in_flight.len() as u64 + 1);
        let header = EntryHeader {
            needs: entry.needs,
            kind: entry.kind,
            log_id: self.log.id,
            segment: 0,
            epoch: self.epoch,
            index,
            durable: state.sequence.index,
            engine_time_ms: entry.engine_time_ms,
            first_lsn: entry.first_lsn,
            last_lsn: entry.last_lsn,
            checksum: entry.checksum,
        };
        state.in_flight.push_back((header, entry.bytes));
        Ok(index)
    }

    fn seal(&mut self) -> Result<Pos, AppendError> {
        Ok(self.state()?.last())
    }

    fn mark(&self) -> Mark {
        let state = self.log.shared.state.lock();
        let mark = state.end().mark;
        let in_flight = state.in_flight.len() as u64;
        Mark { pos: Pos(mark.pos.0 + in_flight), epoch: mark.epoch, index: Idx(mark.index.0 + in_flight) }
    }
}

impl Commits for MemoryWriter {
    fn advance(&self) -> Result<Option<(Idx, Pos)>, AppendError> {
        let mut state = self.state()?;
        let mut durable = None;
        while let Some((header, bytes)) = state.in_flight.pop_front() {
            state.push(&header, bytes);
            durable = Some((header.index, state.last()));
        }
        self.log.shared.more.notify_all();
        Ok(durable)
    }

    fn resync(&self) -> Result<Resync, AppendError> {
        let state = self.state()?;
        Ok(Resync { last: state.last(), committed: state.sequence.index })
    }
}

/// What is at the next position.
enum Stored {
    Entry(Pos, Arc<Vec<u8>>),
    /// Nothing: what to return.
    None(Step),
}

struct MemoryIter {
    log: MemoryLog,
    after: Pos,
    /// `None` until the first call has found where the log begins.
    mark: Option<Mark>,
    voided: Voided,
    is_stopped: Arc<AtomicBool>,
}

impl MemoryIter {
    /// The next stored entry that counts, without regard to `after`.
    fn step(&mut self, wait: Wait) -> Result<Step, ReadError> {
        loop {
            let (pos, bytes) = match self.stored(wait)? {
                Stored::Entry(pos, bytes) => (pos, bytes),
                Stored::None(step) => return Ok(step),
            };
            let (header, payload) = entry::decode_entry(&bytes).expect("encoded by push");
            let mark = self.mark.as_mut().expect("set by `stored`");
            let mut sequence = Sequence { epoch: mark.epoch, index: mark.index };
            let counts = sequence.admit(pos, &header);
            *mark = Mark { pos, epoch: sequence.epoch, index: sequence.index };
            if counts {
                return Ok(Step::Entry(ReadEntry { pos, header, payload: payload.to_vec() }));
            }
            self.voided.entries += 1;
        }
    }

    /// The bytes of the next position, or what to return instead.
    fn stored(&mut self, wait: Wait) -> Result<Stored, ReadError> {
        let mut state = self.log.shared.state.lock();
        let mut has_waited = false;
        loop {
            if self.is_stopped.load(Ordering::Acquire) {
                return Ok(Stored::None(Step::Stopped));
            }
            if self.mark.is_none() && self.after.next() >= state.first {
                self.mark = Some(state.before_first);
            }
            let Some(mark) = self.mark.filter(|mark| mark.pos.next() >= state.first) else {
                return Err(ReadError::Trimmed { first: state.first });
            };
            if let Some(bytes) = state.entries.get((mark.pos.0 + 1 - state.first.0) as usize) {
                return Ok(Stored::Entry(mark.pos.next(), bytes.clone()));
            }
            match wait {
                Wait::No => return Ok(Stored::None(Step::End(LogEnd { mark }))),
                Wait::AtMost(_) if has_waited => return Ok(Stored::None(Step::TimedOut)),
                Wait::AtMost(time) => _ = self.log.shared.more.wait_for(&mut state, time),
            }
            has_waited = true;
        }
    }
}

impl EntryIter for MemoryIter {
    fn next(&mut self, wait: Wait) -> Result<Step, ReadError> {
        loop {
            match self.step(wait)? {
                Step::Entry(entry) if entry.pos <= self.after => {}
                other => return Ok(other),
            }
        }
    }

    fn mark(&self) -> Mark {
        self.mark.unwrap_or_default()
    }

    fn place(&self) -> Place {
        Place::Stream { name: "memory".to_owned(), sequence: self.mark().pos.0 }
    }

    fn voided(&self) -> Voided {
        self.voided.clone()
    }

    fn stopper(&self) -> Stopper {
        let (is_stopped, shared) = (self.is_stopped.clone(), self.log.shared.clone());
        Stopper::new(move || {
            is_stopped.store(true, Ordering::Release);
            // Taken and released: a reader is either before its look at the flag, or waits and is woken.
            drop(shared.state.lock());
            shared.more.notify_all();
        })
    }
}
