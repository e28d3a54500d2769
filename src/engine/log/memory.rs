//! A log in memory: for tests, and for running without durability.
//!
//! Clones share the entries, so a test can "restart" on the same log. It keeps all rules of the contract
//! except durability: entries are encoded and decoded, an appended entry is in the log once it is
//! acknowledged, and a new claim fences the previous writer, whose entries in flight are lost.

use super::entry::{self, EntryHeader};
use super::{
    Acks, Claim, ClaimError, EntryIter, Epoch, Idx, LogEnd, LogEntry, LogId, LogLimits, LogWriter, Mark,
    Place, Pos, ReadEntry, ReadError, Sequence, ShardLog, Step, Stopper, TrimError, Voided, Wait, WriteError,
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ENTRY_BYTES_MAX: usize = 1 << 20;
const ENTRIES_IN_FLIGHT_MAX: usize = 16;

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
    /// The mark before `first`.
    before_first: Mark,
    entries: VecDeque<Arc<Vec<u8>>>,
    /// The state after the last entry.
    sequence: Sequence,
    /// Entries that the current writer has appended and that are not acknowledged.
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

    fn limits(&self) -> LogLimits {
        LogLimits {
            entry_bytes_max: ENTRY_BYTES_MAX,
            entries_in_flight_max: ENTRIES_IN_FLIGHT_MAX,
            block_bytes: 1,
            durable: false,
        }
    }

    fn claim(&self, at: LogEnd, claim: Claim) -> Result<Box<dyn LogWriter>, ClaimError> {
        let mut state = self.shared.state.lock();
        if state.end() != at {
            return Err(ClaimError::Behind(state.end()));
        }
        state.in_flight.clear();
        let epoch = Epoch(at.mark.pos.next().0);
        assert!(epoch > state.sequence.epoch, "epochs grow");
        // The log exists in one process only, so the epoch identifies a claim.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&epoch.0.to_le_bytes());
        let entry = LogEntry::of_claim(&claim, id, at.mark);
        let header = entry.header(self.id, 0, epoch, Idx(0), Idx(0));
        state.push(&header, entry.bytes);
        self.shared.more.notify_all();
        Ok(Box::new(MemoryWriter { log: self.clone(), epoch }))
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
            assert!(pos > state.before_first.pos, "what is trimmed goes forward");
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
    fn state(&self) -> Result<MutexGuard<'_, State>, WriteError> {
        let state = self.log.shared.state.lock();
        if state.sequence.epoch == self.epoch {
            return Ok(state);
        }
        Err(WriteError::Fenced { by: state.sequence.epoch })
    }
}

impl LogWriter for MemoryWriter {
    fn append(&mut self, entry: LogEntry) -> Result<Idx, WriteError> {
        assert!(entry.bytes.len() <= ENTRY_BYTES_MAX, "an entry keeps within the limits");
        let mut state = self.state()?;
        assert!(state.in_flight.len() < ENTRIES_IN_FLIGHT_MAX, "the caller keeps within the limits");
        let durable = state.sequence.index;
        let index = Idx(durable.0 + state.in_flight.len() as u64 + 1);
        let header = entry.header(self.log.id, 0, self.epoch, index, durable);
        state.in_flight.push_back((header, entry.bytes));
        Ok(index)
    }

    fn seal(&mut self) -> Result<Pos, WriteError> {
        Ok(self.state()?.last())
    }

    fn acks(&self) -> Arc<dyn Acks> {
        Arc::new(self.clone())
    }
}

impl Acks for MemoryWriter {
    /// Stores and acknowledges all entries in flight.
    fn wait(&self, _beyond: Idx, _at_most: Duration) -> Result<Mark, WriteError> {
        let mut state = self.state()?;
        if !state.in_flight.is_empty() {
            self.log.shared.more.notify_all();
        }
        while let Some((header, bytes)) = state.in_flight.pop_front() {
            state.push(&header, bytes);
        }
        Ok(state.end().mark)
    }
}

/// The content of the next position.
enum Stored {
    Entry(Pos, Arc<Vec<u8>>),
    /// There is no entry; the reader returns this step.
    None(Step),
}

struct MemoryIter {
    log: MemoryLog,
    after: Pos,
    /// `None` until the first call has compared `after` with the log's begin.
    mark: Option<Mark>,
    voided: Voided,
    is_stopped: Arc<AtomicBool>,
}

impl MemoryIter {
    /// The next stored entry that counts, even if it is before `after`.
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

    /// The bytes of the next position, or the step to return instead.
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
            // After the lock was taken once, a reader either has not read the flag yet, or is waiting and is
            // woken.
            drop(shared.state.lock());
            shared.more.notify_all();
        })
    }
}
