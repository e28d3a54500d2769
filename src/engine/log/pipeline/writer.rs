//! The writer's side of the pipeline.

use super::{Forming, KICK_BYTES, QUICK, Shared};
use crate::log::entry::{HEADER_BYTES, Kind};
use crate::log::pipeline::Refusal;
use crate::log::{AppendError, Appender, Commits, Entry, Idx, Lsn, Pos};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Takes entries from the pipeline to the log. Behind a lock: whoever has it runs it.
pub struct Writer {
    shared: Arc<Shared>,
    appender: Box<dyn Appender>,
    commits: Box<dyn Commits>,
    /// The entries appended and not yet acknowledged, each with the last batch that it completes.
    in_flight: VecDeque<(Idx, Lsn)>,
    engine_time_ms: u64,
    /// How many batches the last entry had, how many waited already when it became durable, and whether anybody was woken
    /// by it.
    released: usize,
    waiting: usize,
    has_woken: bool,
    /// How often in a row those who were released did not come back in time, and how many entries go without waiting
    /// for them because of that.
    disappointments: u32,
    skip: u32,
    /// Closed or failed.
    has_ended: bool,
}

/// The part of a write's time that is waited at most for those whom the last one released.
const COLLECT_PART: u32 = 4;
const DISAPPOINTMENTS_MAX: u32 = 6;

/// What the writer is asked to do once all batches are durable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Seal,
    Time { engine_time_ms: u64 },
    Close { engine_time_ms: u64 },
}

enum Step {
    Append(Forming),
    Commit,
    Handle(Request),
}

/// The log thread's life: runs the writer when it is called, until the end.
pub fn run(shared: &Shared, writer: &Mutex<Option<Writer>>) {
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

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        appender: Box<dyn Appender>,
        commits: Box<dyn Commits>,
        engine_time_ms: u64,
    ) -> Writer {
        Writer {
            shared,
            appender,
            commits,
            in_flight: VecDeque::new(),
            engine_time_ms,
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
        while let Some(step) = self.next_step() {
            let is_commit = matches!(step, Step::Commit);
            self.take(step);
            if is_commit && !self.collect() {
                return;
            }
        }
    }

    /// On a slow disk, lets those whom the last entry released bring their next batches into the next one. Otherwise the
    /// clients fall into two halves, each of which waits for the other's entry as well as for its own. As many are
    /// expected as were released; a quarter of a write's time is the bound. Clients that do not come back at once (they
    /// send at a rate of their own) are soon not waited for any more.
    ///
    /// False if somebody else runs the writer now.
    fn collect(&mut self) -> bool {
        let shared = self.shared.clone();
        let usual = self.commits.usual_time().unwrap_or_default();
        let may_wait = shared.wake_on_kick && usual > QUICK && self.has_woken && self.in_flight.is_empty();
        let mut state = shared.state.lock();
        let is_urgent =
            state.request.is_some() || !state.ready.is_empty() || state.reserved_bytes >= KICK_BYTES;
        if !may_wait || is_urgent || state.forming_batches() == 0 {
            return true;
        }
        let expected = self.waiting + self.released;
        if state.forming_batches() >= expected {
            // They were back before we came here.
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

    /// Makes one entry durable, and leaves what has come meanwhile to the log thread.
    pub fn write_one(&mut self) {
        loop {
            let Some(step) = self.next_step() else { return };
            match step {
                Step::Append(_) => self.take(step),
                Step::Commit => break self.take(step),
                Step::Handle(_) => break,
            }
        }
        let mut state = self.shared.state.lock();
        state.idle = true;
        if state.has_work() || !self.in_flight.is_empty() {
            self.shared.call(state);
        }
    }

    /// The next thing to do. When there is none, nobody runs the writer any more.
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

    fn take(&mut self, step: Step) {
        self.has_ended = matches!(step, Step::Handle(Request::Close { .. }));
        let done = match step {
            Step::Append(forming) => self.append(forming),
            Step::Commit => self.commit(),
            Step::Handle(request) => self.handle(request),
        };
        if let Err(error) = done {
            self.has_ended = true;
            self.shared.fail(&error);
        }
    }

    fn append(&mut self, mut forming: Forming) -> Result<(), AppendError> {
        if forming.late.is_some() {
            let buffer = self.shared.state.lock().buffers.pop();
            forming.complete(buffer);
        }
        self.engine_time_ms = self.engine_time_ms.max(forming.entry.engine_time_ms);
        let complete_lsn = forming.entry.complete_lsn;
        self.released = forming.batches;
        let index = self.appender.append(forming.entry)?;
        self.in_flight.push_back((index, complete_lsn));
        self.shared.state.lock().reserved_bytes -= forming.reserved_bytes;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), AppendError> {
        let Some((durable, _)) = self.commits.advance()? else { return Ok(()) };
        let mut lsn = None;
        while let Some((_, complete_lsn)) = self.in_flight.front().filter(|(index, _)| *index <= durable) {
            lsn = Some(*complete_lsn);
            self.in_flight.pop_front();
        }
        self.publish(lsn.expect("only what is in flight becomes durable"));
        Ok(())
    }

    fn publish(&mut self, lsn: Lsn) {
        let shared = &self.shared;
        self.waiting = shared.state.lock().forming_batches();
        shared.durable.store(lsn.0, Ordering::Release);
        shared.quick.store(self.commits.usual_time().is_some_and(|usual| usual <= QUICK), Ordering::Relaxed);
        {
            let mut state = shared.state.lock();
            state.mark = self.appender.mark();
            state.buffers.extend(self.commits.recycle());
            shared.progress.notify_all();
        }
        self.has_woken = false;
        for watcher in shared.watchers.read().iter() {
            self.has_woken |= watcher.durable(lsn);
        }
    }

    /// Called with nothing in flight.
    fn handle(&mut self, request: Request) -> Result<(), AppendError> {
        let sealed = match request {
            Request::Seal => Some(self.seal()?),
            Request::Time { engine_time_ms } => {
                self.engine_time_ms = self.engine_time_ms.max(engine_time_ms);
                self.append_empty(Kind::Time)?;
                None
            }
            Request::Close { engine_time_ms } => {
                self.engine_time_ms = self.engine_time_ms.max(engine_time_ms);
                match self.append_empty(Kind::Release) {
                    // The next start then finds a stop that was not in order, and no harm.
                    Err(AppendError::Full { .. }) => {}
                    done => done?,
                }
                None
            }
        };
        let mut state = self.shared.state.lock();
        if matches!(request, Request::Time { .. }) {
            state.reserved_bytes -= self.shared.limits.padded(HEADER_BYTES);
        }
        state.request = None;
        state.mark = self.appender.mark();
        state.sealed = sealed;
        self.shared.progress.notify_all();
        Ok(())
    }

    /// The room is checked again: what was in flight may have used it since the request.
    fn seal(&mut self) -> Result<Result<Pos, Refusal>, AppendError> {
        let room = self.shared.log.room();
        let refusal = || {
            self.shared.log.want_room(room.bytes.saturating_add(1));
            room.full.clone().map_or(Refusal::Busy, |cause| Refusal::Full { cause })
        };
        if self.shared.state.lock().reserved_bytes > room.bytes_after_seal {
            return Ok(Err(refusal()));
        }
        match self.appender.seal() {
            Err(AppendError::Full { .. }) => Ok(Err(refusal())),
            sealed => sealed.map(Ok),
        }
    }

    fn append_empty(&mut self, kind: Kind) -> Result<(), AppendError> {
        let (lsn, checksum) = {
            let state = self.shared.state.lock();
            let durable = Lsn(self.shared.durable.load(Ordering::Acquire));
            // A batch may have been submitted since; it comes after this entry, and the checksum must not have it.
            if state.forming.is_some() || !state.ready.is_empty() {
                return Ok(());
            }
            // Nothing is in flight, so this is the last batch; those that came after a close were dropped.
            (durable, state.checksum)
        };
        let entry = Entry {
            kind,
            needs: 1,
            engine_time_ms: self.engine_time_ms,
            first_lsn: lsn,
            last_lsn: lsn,
            complete_lsn: lsn,
            checksum,
            bytes: vec![0; HEADER_BYTES],
        };
        self.appender.append(entry)?;
        self.commits.advance()?;
        Ok(())
    }
}
