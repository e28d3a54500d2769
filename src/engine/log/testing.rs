//! A log in memory whose acknowledgements, failures and rival writers are controlled by a test.
//!
//! It keeps the contract: an entry is in the log, and visible to readers, once it and all entries before it
//! have arrived; acknowledgements come in order. A [`Schedule`] determines when entries arrive, or the test,
//! which can hold all entries back and let them arrive in any order, or never. So it shows a writer the
//! behaviour of a remote log: late acknowledgements, several at once, an unknown outcome that the backend
//! resolves by resending, a claim that comes too late, a rival writer.

use super::memory::MemoryLog;
use super::{
    Acks, Claim, ClaimError, EntryIter, Epoch, Idx, LogEnd, LogEntry, LogId, LogLimits, LogWriter, Mark, Pos,
    ReadError, Room, ShardLog, Step, TrimError, Wait, WriteError,
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// When entries arrive by themselves. A poll is a call of [`Acks::wait`], or a turn of its loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// All entries in flight arrive at the next poll.
    AtOnce,
    /// The oldest entry arrives at every n-th poll.
    Late { polls: u32 },
    /// All entries in flight arrive at every n-th poll.
    Together { polls: u32 },
    /// One entry arrives at each poll, in an order drawn from the seed.
    OutOfStep { seed: u64 },
}

#[derive(Clone)]
pub struct TestLog {
    inner: MemoryLog,
    schedule: Schedule,
    usual_time: Option<Duration>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Entries that the current writer has appended and that are not acknowledged.
    in_flight: VecDeque<InFlight>,
    /// Nothing arrives by itself.
    is_held: bool,
    /// A thread that asks for acknowledgements hangs.
    is_stalled: bool,
    polls: u32,
    random: u64,
    /// The error of all further calls of the writer.
    failure: Option<WriteError>,
    /// The errors of the next claims.
    refusals: VecDeque<ClaimError>,
    /// A rival claims the log right before the next claim.
    is_outrun: bool,
    /// What cannot be made durable for readers, and why.
    unsecured: Option<String>,
    /// The room that the log says it has; unbounded if `None`.
    room: Option<Room>,
    /// The most room that was asked for.
    wanted_bytes: u64,
    /// The thread that waits in [`Acks::wait`].
    waiting: Option<String>,
}

struct InFlight {
    entry: LogEntry,
    has_arrived: bool,
}

impl TestLog {
    pub fn new(schedule: Schedule) -> TestLog {
        let inner = MemoryLog::new(LogId([9; 16]));
        let log = TestLog { inner, schedule, usual_time: None, shared: Arc::default() };
        if let Schedule::OutOfStep { seed } = schedule {
            log.shared.state.lock().random = seed | 1;
        }
        log
    }

    /// Sets the time that the log reports for an entry, which decides which thread writes.
    pub fn with_usual_time(mut self, time: Duration) -> TestLog {
        self.usual_time = Some(time);
        self
    }

    /// From now on, entries only arrive by `arrive` and `go_on`.
    pub fn hold(&self) {
        self.shared.state.lock().is_held = true;
    }

    /// From now on, a thread that asks for acknowledgements hangs until `go_on`, like a thread whose write
    /// waits for a stalled disk.
    pub fn stall(&self) {
        self.shared.state.lock().is_stalled = true;
    }

    /// Ends a hold or a stall; all entries in flight have arrived then.
    pub fn go_on(&self) {
        let mut state = self.shared.state.lock();
        (state.is_held, state.is_stalled, state.waiting) = (false, false, None);
        state.in_flight.iter_mut().for_each(|entry| entry.has_arrived = true);
        self.shared.changed.notify_all();
    }

    /// Lets one of the entries in flight arrive. The oldest one has number 0.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn arrive(&self, place: usize) {
        self.shared.state.lock().in_flight[place].has_arrived = true;
        self.shared.changed.notify_all();
    }

    /// The number of entries in flight.
    pub fn in_flight(&self) -> usize {
        self.shared.state.lock().in_flight.len()
    }

    /// Waits until a thread waits for an entry that is held, or hangs; returns its name.
    pub fn waiting_thread(&self) -> String {
        let mut state = self.shared.state.lock();
        loop {
            match &state.waiting {
                Some(thread) => return thread.clone(),
                None => self.shared.changed.wait(&mut state),
            }
        }
    }

    /// All further calls of the writer return this error. Entries in flight are lost.
    pub fn fail(&self, failure: WriteError) {
        let mut state = self.shared.state.lock();
        state.failure = Some(failure);
        self.shared.changed.notify_all();
    }

    /// The next claim fails with this error.
    pub fn refuse_claim(&self, refusal: ClaimError) {
        self.shared.state.lock().refusals.push_back(refusal);
    }

    /// The next claim comes too late: a rival has claimed the log at the same place.
    pub fn outrun_claim(&self) {
        self.shared.state.lock().is_outrun = true;
    }

    /// From now on, what was read of the log cannot be made durable.
    pub fn refuse_to_secure(&self, cause: &str) {
        self.shared.state.lock().unsecured = Some(cause.to_owned());
    }

    /// From now on the log has this much room for entries, for good if `full` says why; unbounded at first.
    pub fn bound_room(&self, bytes: u64, full: Option<&str>) {
        let full = full.map(str::to_owned);
        let room = Room { bytes, bytes_after_seal: bytes, held_bytes: 0, full };
        self.shared.state.lock().room = Some(room);
    }

    /// The storage is full. Of the room that is left, `held_bytes` are held back.
    pub fn hold_back_room(&self, bytes: u64, held_bytes: u64, full: &str) {
        let room = Room { bytes, bytes_after_seal: bytes, held_bytes, full: Some(full.to_owned()) };
        self.shared.state.lock().room = Some(room);
    }

    pub fn unbound_room(&self) {
        self.shared.state.lock().room = None;
    }

    /// Waits until a caller has asked for this much room. Returns the most that was asked for.
    pub fn wait_until_room_is_wanted(&self, bytes: u64) -> u64 {
        let mut state = self.shared.state.lock();
        while state.wanted_bytes < bytes {
            self.shared.changed.wait(&mut state);
        }
        state.wanted_bytes
    }

    /// Acts as another node that reads the log to its end and claims it: the previous writer is fenced, and
    /// its entries in flight are lost.
    pub fn claim_by_rival(&self, node: &str) -> Box<dyn LogWriter> {
        let mut reader = self.inner.read(Mark::default());
        let mut claim = Claim { node: node.to_owned(), ..Claim::default() };
        let end = loop {
            match reader.next(Wait::No).expect("memory does not fail") {
                Step::Entry(entry) => {
                    (claim.lsn, claim.checksum) = (entry.header.last_lsn, entry.header.checksum);
                    claim.engine_time_ms = entry.header.engine_time_ms;
                }
                Step::End(end) => break end,
                Step::TimedOut | Step::Stopped => unreachable!("it neither waits nor is stopped"),
            }
        };
        self.claim(end, claim).expect("the end of the log is known")
    }
}

impl ShardLog for TestLog {
    fn id(&self) -> LogId {
        self.inner.id()
    }

    fn limits(&self) -> LogLimits {
        self.inner.limits()
    }

    fn room(&self) -> Room {
        self.shared.state.lock().room.clone().unwrap_or(Room::UNBOUNDED)
    }

    fn want_room(&self, bytes: u64) {
        let mut state = self.shared.state.lock();
        state.wanted_bytes = state.wanted_bytes.max(bytes);
        self.shared.changed.notify_all();
    }

    fn secure(&self) -> Result<(), String> {
        self.shared.state.lock().unsecured.clone().map_or(Ok(()), Err)
    }

    fn claim(&self, at: LogEnd, claim: Claim) -> Result<Box<dyn LogWriter>, ClaimError> {
        let mut state = self.shared.state.lock();
        if let Some(refusal) = state.refusals.pop_front() {
            return Err(refusal);
        }
        if std::mem::take(&mut state.is_outrun) {
            drop(self.inner.claim(at, claim.clone())?);
        }
        let inner = self.inner.claim(at, claim)?;
        state.in_flight.clear();
        let epoch = Epoch(at.mark.pos.next().0);
        let mark = Mark { pos: at.mark.pos.next(), epoch, index: Idx(0) };
        let acknowledged = Mutex::new(Acknowledged { mark, inner });
        self.shared.changed.notify_all();
        let acks = Arc::new(TestAcks { log: self.clone(), epoch, acknowledged });
        Ok(Box::new(TestWriter { acks, last: Idx(0) }))
    }

    fn read(&self, after: Mark) -> Box<dyn EntryIter> {
        self.inner.read(after)
    }

    fn bounds(&self) -> Result<(Pos, Pos), ReadError> {
        self.inner.bounds()
    }

    fn trim(&self, upto: Pos) -> Result<(), TrimError> {
        self.inner.trim(upto)
    }
}

struct TestWriter {
    acks: Arc<TestAcks>,
    last: Idx,
}

struct TestAcks {
    log: TestLog,
    epoch: Epoch,
    acknowledged: Mutex<Acknowledged>,
}

/// The acknowledged part of the log. Its lock is taken before that of the log's state.
struct Acknowledged {
    mark: Mark,
    inner: Box<dyn LogWriter>,
}

impl LogWriter for TestWriter {
    fn append(&mut self, entry: LogEntry) -> Result<Idx, WriteError> {
        let mut acknowledged = self.acks.acknowledged.lock();
        acknowledged.check(&self.acks)?;
        let mut state = self.acks.state()?;
        assert!(
            state.in_flight.len() < self.acks.log.limits().entries_in_flight_max,
            "the caller counts them"
        );
        self.last = Idx(self.last.0 + 1);
        state.in_flight.push_back(InFlight { entry, has_arrived: false });
        Ok(self.last)
    }

    fn seal(&mut self) -> Result<Pos, WriteError> {
        let mut acknowledged = self.acks.acknowledged.lock();
        acknowledged.check(&self.acks)?;
        assert!(self.acks.state()?.in_flight.is_empty(), "a seal comes with nothing in flight");
        acknowledged.inner.seal()
    }

    fn acks(&self) -> Arc<dyn Acks> {
        self.acks.clone()
    }
}

impl Acknowledged {
    /// Fails if another writer has claimed the log.
    fn check(&mut self, acks: &TestAcks) -> Result<(), WriteError> {
        let mark = self.inner.acks().wait(Idx(0), Duration::ZERO)?;
        assert_eq!((mark, mark.epoch), (self.mark, acks.epoch), "entries come to the log by this writer");
        Ok(())
    }
}

impl TestAcks {
    /// The state, unless the log has failed.
    fn state(&self) -> Result<MutexGuard<'_, State>, WriteError> {
        let state = self.log.shared.state.lock();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(state),
        }
    }
}

impl TestAcks {
    fn hang_while_stalled(&self) {
        let mut state = self.log.shared.state.lock();
        while state.is_stalled {
            state.waiting = Some(thread_name());
            self.log.shared.changed.notify_all();
            self.log.shared.changed.wait(&mut state);
        }
    }
}

fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

impl Acks for TestAcks {
    fn wait(&self, beyond: Idx, at_most: Duration) -> Result<Mark, WriteError> {
        let mut has_waited = false;
        loop {
            self.hang_while_stalled();
            let mut acknowledged = self.acknowledged.lock();
            acknowledged.check(self)?;
            let mut state = self.state()?;
            state.poll(self.log.schedule);
            while state.in_flight.front().is_some_and(|entry| entry.has_arrived) {
                let InFlight { entry, .. } = state.in_flight.pop_front().expect("there is a front");
                let index = acknowledged.inner.append(entry)?;
                acknowledged.mark = acknowledged.inner.acks().wait(Idx(0), Duration::ZERO)?;
                assert_eq!(acknowledged.mark.index, index, "the index that was given out");
            }
            let mark = acknowledged.mark;
            if mark.index > beyond || state.in_flight.is_empty() || has_waited || at_most.is_zero() {
                return Ok(mark);
            }
            if !state.is_held {
                // Entries arrive after some polls, not after some time.
                continue;
            }
            drop(acknowledged);
            state.waiting = Some(thread_name());
            self.log.shared.changed.notify_all();
            self.log.shared.changed.wait_for(&mut state, at_most);
            has_waited = true;
            state.waiting = None;
        }
    }

    fn usual_time(&self) -> Option<Duration> {
        self.log.usual_time
    }
}

impl State {
    /// Lets entries arrive according to the schedule.
    fn poll(&mut self, schedule: Schedule) {
        if self.is_held || self.in_flight.is_empty() {
            return;
        }
        self.polls += 1;
        match schedule {
            Schedule::AtOnce => self.in_flight.iter_mut().for_each(|entry| entry.has_arrived = true),
            Schedule::Late { polls } if self.polls.is_multiple_of(polls) => {
                self.in_flight[0].has_arrived = true
            }
            Schedule::Together { polls } if self.polls.is_multiple_of(polls) => {
                self.in_flight.iter_mut().for_each(|entry| entry.has_arrived = true);
            }
            Schedule::Late { .. } | Schedule::Together { .. } => {}
            Schedule::OutOfStep { .. } => {
                // xorshift: Marsaglia 2003.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                let missing = self.in_flight.iter_mut().filter(|entry| !entry.has_arrived);
                let mut missing: Vec<_> = missing.collect();
                let place = self.random as usize % missing.len().max(1);
                if let Some(entry) = missing.get_mut(place) {
                    entry.has_arrived = true;
                }
            }
        }
    }
}
