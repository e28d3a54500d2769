//! The writer of the pipeline: appends entries to the log, and publishes what is durable.

use super::{Forming, KICK_BYTES, QUICK, Shared};
use crate::log::entry::EntryKind;
use crate::log::pipeline::Refusal;
use crate::log::{Acks, Idx, LogEntry, LogWriter, Lsn, Mark, Pos, WriteError};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Takes entries from the pipeline to the log. It is behind a lock: the thread that holds the lock runs it.
pub struct PipelineWriter {
    shared: Arc<Shared>,
    log: Box<dyn LogWriter>,
    acks: Arc<dyn Acks>,
    /// Entries that are appended and not yet acknowledged.
    in_flight: VecDeque<InFlight>,
    /// The mark of the last durable entry.
    acknowledged: Mark,
    /// Of the last entry sent: the last batch that is complete with it, and its engine time.
    sent_lsn: Lsn,
    sent_time_ms: u64,
    /// Number of batches of the last entry.
    released: usize,
    /// Number of batches that were waiting when the last entry became durable.
    waiting: usize,
    /// The last durable entry woke a thread.
    has_woken: bool,
    /// How often in a row the released clients did not send their next batches in time.
    disappointments: u32,
    /// How many of the next entries do not wait for released clients, because of that.
    skip: u32,
    /// Closed or failed.
    has_ended: bool,
}

struct InFlight {
    index: Idx,
    /// The last batch that is complete with this entry.
    complete_lsn: Lsn,
    /// The request that is done when this entry is durable.
    request: Option<WriterRequest>,
}

/// How long the log thread waits for an acknowledgement before it checks for other work.
const LOG_THREAD_WAITS: Duration = Duration::from_secs(1);
/// How long a leading thread waits for the acknowledgement of an entry that another thread writes, before it
/// leaves the waiting to the log thread.
const LEADER_WAITS: Duration = Duration::from_millis(1);

/// The longest wait for clients that the last entry released, as a part of the usual time of a write.
const COLLECT_PART: u32 = 4;
const DISAPPOINTMENTS_MAX: u32 = 6;

/// A request to the writer, handled once all batches are durable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WriterRequest {
    Seal,
    Time { engine_time_ms: u64 },
    Close { engine_time_ms: u64 },
}

enum Step {
    Append(Forming),
    Commit,
    Handle(WriterRequest),
}

/// The log thread: runs the writer when it is called, until the pipeline ends.
pub fn run(shared: &Shared, writer: &Mutex<Option<PipelineWriter>>) {
    loop {
        {
            let mut state = shared.state.lock();
            while !state.called {
                shared.work.wait(&mut state);
            }
            state.called = false;
        }
        let mut writer = writer.lock();
        let writer = writer.as_mut().expect("claimed before");
        writer.write_all();
        if writer.has_ended {
            return;
        }
    }
}

impl PipelineWriter {
    pub fn new(
        shared: Arc<Shared>,
        log: Box<dyn LogWriter>,
        acks: Arc<dyn Acks>,
        claimed: Mark,
    ) -> PipelineWriter {
        assert_eq!(claimed.index, Idx(0), "a writer begins with its Claim");
        let sent_lsn = Lsn(shared.durable.load(Ordering::Acquire));
        PipelineWriter {
            sent_lsn,
            sent_time_ms: 0,
            shared,
            log,
            acks,
            in_flight: VecDeque::new(),
            acknowledged: claimed,
            released: 0,
            waiting: 0,
            has_woken: false,
            disappointments: 0,
            skip: 0,
            has_ended: false,
        }
    }

    /// Works until there is nothing to do.
    pub fn write_all(&mut self) {
        self.write(LOG_THREAD_WAITS);
    }

    /// Works until there is nothing to do or nothing more is acknowledged for now.
    pub fn write_what_is_acknowledged(&mut self) {
        self.write(Duration::ZERO);
    }

    fn write(&mut self, at_most: Duration) {
        while let Some(step) = self.next_step() {
            let is_commit = matches!(step, Step::Commit);
            let has_moved = self.take(step, at_most);
            if is_commit && !has_moved && at_most.is_zero() {
                // Entries stay in flight: the next call looks at them again.
                self.shared.state.lock().idle = true;
                return;
            }
            if is_commit && !self.collect() {
                return;
            }
        }
    }

    /// On a slow disk, waits until the clients that the last entry released have submitted their next
    /// batches, so that one entry takes them all. Without this wait the clients split into two halves, and
    /// each half waits for the other's entry besides its own. The wait ends when as many batches came as were
    /// released, or after a quarter of a write's time. After clients did not come back in time (they send at
    /// their own rate), the next entries do not wait.
    ///
    /// False if another thread runs the writer now.
    fn collect(&mut self) -> bool {
        let shared = self.shared.clone();
        let usual = self.acks.usual_time().unwrap_or_default();
        let may_wait = shared.wake_on_kick && usual > QUICK && self.has_woken && self.in_flight.is_empty();
        let mut state = shared.state.lock();
        let is_urgent =
            state.request.is_some() || !state.ready.is_empty() || state.reserved_bytes >= KICK_BYTES;
        if !may_wait || is_urgent || state.forming_batches() == 0 {
            return true;
        }
        let expected = self.waiting + self.released;
        if state.forming_batches() >= expected {
            // They came back before this point.
            self.disappointments = 0;
            return true;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return true;
        }
        state.expected_batches = expected;
        state.idle = true;
        _ = shared.work.wait_for(&mut state, usual / COLLECT_PART);
        state.expected_batches = 0;
        shared.unkicked.store(false, Ordering::Release);
        if state.called {
            state.called = false;
            self.disappointments = 0;
            return true;
        }
        self.disappointments = (self.disappointments + 1).min(DISAPPOINTMENTS_MAX);
        self.skip = (1 << self.disappointments) - 1;
        std::mem::take(&mut state.idle)
    }

    /// Makes one entry durable, and leaves later work to the log thread.
    pub fn write_one(&mut self) {
        while let Some(step) = self.next_step() {
            match step {
                Step::Append(_) => _ = self.take(step, LEADER_WAITS),
                Step::Commit => {
                    self.take(step, LEADER_WAITS);
                    break;
                }
                Step::Handle(_) => break,
            }
        }
        let mut state = self.shared.state.lock();
        state.idle = true;
        // The log thread is also called at the end, because it only stops when it sees `has_ended`.
        if state.has_work() || !self.in_flight.is_empty() || self.has_ended {
            self.shared.call(state);
        }
    }

    /// The next step. If there is none, the state says that no thread runs the writer.
    fn next_step(&mut self) -> Option<Step> {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        if self.has_ended {
            return None;
        }
        if self.in_flight.len() < shared.limits.entries_in_flight_max
            && let Some(forming) = state.take_entry()
        {
            return Some(Step::Append(forming));
        }
        if !self.in_flight.is_empty() {
            return Some(Step::Commit);
        }
        let step = state.request.map(Step::Handle);
        state.idle = step.is_none();
        step
    }

    /// Takes a step; true if more is durable than before. An error ends the writer and fails the pipeline.
    fn take(&mut self, step: Step, at_most: Duration) -> bool {
        let done = match step {
            Step::Append(forming) => self.append(forming).map(|()| false),
            Step::Commit => self.commit(at_most),
            Step::Handle(request) => self.handle(request).map(|()| false),
        };
        done.unwrap_or_else(|error| {
            self.has_ended = true;
            let fenced_by = if let WriteError::Fenced { by } = error { Some(by) } else { None };
            self.shared.fail(error.to_string(), fenced_by);
            false
        })
    }

    fn append(&mut self, mut forming: Forming) -> Result<(), WriteError> {
        if forming.late.is_some() {
            let buffer = self.shared.state.lock().buffers.pop();
            forming.complete(buffer);
        }
        self.released = forming.batches;
        self.send(forming.entry, None)?;
        let mut state = self.shared.state.lock();
        assert!(state.reserved_bytes >= forming.reserved_bytes, "room is used once");
        state.reserved_bytes -= forming.reserved_bytes;
        Ok(())
    }

    /// Appends an entry to the log.
    fn send(&mut self, entry: LogEntry, request: Option<WriterRequest>) -> Result<(), WriteError> {
        let (complete_lsn, engine_time_ms) = (entry.complete_lsn, entry.engine_time_ms);
        assert!(self.in_flight.len() < self.shared.limits.entries_in_flight_max, "no more are in flight");
        assert!(complete_lsn >= self.sent_lsn, "entries are sent in LSN order");
        let is_data = entry.kind == EntryKind::Data;
        assert!(!is_data || entry.first_lsn == self.sent_lsn.next(), "no batch is left out");
        assert!(is_data || complete_lsn == self.sent_lsn, "an entry without batches follows the last one");
        assert!(engine_time_ms >= self.sent_time_ms, "engine time does not step back");
        (self.sent_lsn, self.sent_time_ms) = (complete_lsn, engine_time_ms);
        let before = self.in_flight.back().map_or(self.acknowledged.index, |last| last.index);
        let index = self.log.append(entry)?;
        assert_eq!(index.0, before.0 + 1, "the log gives indexes densely");
        self.in_flight.push_back(InFlight { index, complete_lsn, request });
        Ok(())
    }

    /// Processes acknowledgements. True if more is durable than before.
    fn commit(&mut self, at_most: Duration) -> Result<bool, WriteError> {
        let before = self.acknowledged;
        let mark = self.acks.wait(before.index, at_most)?;
        assert!(mark.index >= before.index && mark.pos >= before.pos, "what is durable stays so");
        assert_eq!(mark.epoch, before.epoch, "the acknowledgements are those of this writer");
        self.acknowledged = mark;
        let mut last = None;
        let mut request = None;
        while self.in_flight.front().is_some_and(|entry| entry.index <= mark.index) {
            last = self.in_flight.pop_front();
            request = last.as_ref().and_then(|entry| entry.request).or(request);
        }
        let Some(last) = last else { return Ok(false) };
        assert_eq!(last.index, mark.index, "only what was sent becomes durable");
        self.publish(last.complete_lsn);
        if let Some(request) = request {
            self.end_request(request, None);
        }
        Ok(true)
    }

    fn publish(&mut self, lsn: Lsn) {
        let shared = &self.shared;
        let usual_ns = self.acks.usual_time().map_or(0, |usual| usual.as_nanos().max(1) as u64);
        shared.usual_ns.store(usual_ns, Ordering::Relaxed);
        let before = {
            let mut state = shared.state.lock();
            assert!(lsn <= state.last_lsn, "nothing is durable that was not submitted");
            assert!(lsn <= self.sent_lsn, "nothing is durable that was not sent");
            assert!(self.acknowledged.pos > state.mark.pos, "the mark goes forward");
            self.waiting = state.forming_batches();
            state.mark = self.acknowledged;
            let kept_max = shared.limits.buffers_kept_max();
            if let Some(buffer) = self.acks.recycle().filter(|_| state.buffers.len() < kept_max) {
                state.buffers.push(buffer);
            }
            shared.progress.notify_all();
            Lsn(shared.durable.swap(lsn.0, Ordering::AcqRel))
        };
        assert!(before <= lsn, "what is durable stays so");
        self.has_woken = false;
        if before == lsn {
            // No batch ends in the acknowledged entries.
            return;
        }
        for watcher in shared.watchers.read().iter() {
            self.has_woken |= watcher.durable(lsn);
        }
    }

    /// Handles a request; called with nothing in flight. A request that appends an entry is done when the
    /// entry is acknowledged.
    fn handle(&mut self, request: WriterRequest) -> Result<(), WriteError> {
        let is_sent = match request {
            WriterRequest::Seal => {
                let sealed = self.seal()?;
                self.end_request(request, Some(sealed));
                return Ok(());
            }
            WriterRequest::Time { engine_time_ms } => {
                self.send_empty(EntryKind::Time, engine_time_ms, request)?
            }
            WriterRequest::Close { engine_time_ms } => {
                match self.send_empty(EntryKind::Release, engine_time_ms, request) {
                    // The next start then reports an unclean stop; nothing is lost.
                    Err(WriteError::Full { .. }) => false,
                    sent => sent?,
                }
            }
        };
        if !is_sent {
            self.end_request(request, None);
        }
        Ok(())
    }

    fn end_request(&mut self, request: WriterRequest, sealed: Option<Result<Pos, Refusal>>) {
        self.has_ended |= matches!(request, WriterRequest::Close { .. });
        let mut state = self.shared.state.lock();
        // Without a log thread, a close replaces a request that is still in flight.
        if state.request == Some(request) {
            state.set_request(&self.shared.limits, None);
        }
        state.sealed = sealed.or(state.sealed.take());
        self.shared.progress.notify_all();
    }

    /// Seals the segment. Checks the room again, because entries in flight may have used it since the
    /// request.
    fn seal(&mut self) -> Result<Result<Pos, Refusal>, WriteError> {
        let room = self.shared.log.room();
        let refusal = || {
            self.shared.log.want_room(room.bytes.saturating_add(1));
            room.full.clone().map_or(Refusal::Busy, |cause| Refusal::Full { cause })
        };
        if self.shared.state.lock().reserved_bytes > room.bytes_after_seal {
            return Ok(Err(refusal()));
        }
        match self.log.seal() {
            Err(WriteError::Full { .. }) => Ok(Err(refusal())),
            sealed => {
                let sealed = sealed?;
                assert!(sealed <= self.acknowledged.pos, "what is sealed is durable");
                Ok(Ok(sealed))
            }
        }
    }

    /// Sends an entry without batches. Returns false if a batch was submitted meanwhile: the state's checksum
    /// then includes the batch, which would follow the entry.
    fn send_empty(
        &mut self,
        kind: EntryKind,
        engine_time_ms: u64,
        request: WriterRequest,
    ) -> Result<bool, WriteError> {
        assert!(self.in_flight.is_empty(), "everything before is durable");
        let (engine_time_ms, lsn, checksum, buffer) = {
            let mut state = self.shared.state.lock();
            if state.forming.is_some() || !state.ready.is_empty() {
                return Ok(false);
            }
            // A batch that is submitted from now on gets at least this time.
            state.engine_time_ms = state.engine_time_ms.max(engine_time_ms);
            // Nothing is in flight, so this is the last batch; batches after a close are dropped.
            let lsn = Lsn(self.shared.durable.load(Ordering::Acquire));
            (state.engine_time_ms, lsn, state.checksum, state.buffers.pop().unwrap_or_default())
        };
        self.send(LogEntry::in_buffer(buffer, kind, engine_time_ms, lsn, checksum), Some(request))?;
        Ok(true)
    }
}
