//! A log that says how quick it is, which decides who writes it, and that can be made to stall.

use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::{
    AppendError, Claim, Commits, EntryIter, Idx, Limits, LogId, Mark, Pos, ReadError, Resync, ShardLog,
    TrimError, Writing,
};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
pub struct StallingLog {
    inner: MemoryLog,
    usual_time: Duration,
    stall: Arc<Stall>,
}

#[derive(Default)]
struct Stall {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stalled: bool,
    /// The name of the thread that hangs.
    hanging: Option<String>,
}

impl StallingLog {
    /// A log that says of itself that a write usually takes so long.
    pub fn new(usual_time: Duration) -> StallingLog {
        StallingLog { inner: MemoryLog::new(LogId([9; 16])), usual_time, stall: Arc::default() }
    }

    pub fn stall(&self) {
        self.stall.state.lock().is_stalled = true;
    }

    pub fn go_on(&self) {
        *self.stall.state.lock() = State::default();
        self.stall.changed.notify_all();
    }

    /// Waits until a thread hangs, and tells its name.
    pub fn hanging_thread(&self) -> String {
        let mut state = self.stall.state.lock();
        loop {
            match &state.hanging {
                Some(thread) => return thread.clone(),
                None => self.stall.changed.wait(&mut state),
            }
        }
    }
}

struct StallingCommits {
    inner: Box<dyn Commits>,
    usual_time: Duration,
    stall: Arc<Stall>,
}

impl Commits for StallingCommits {
    fn advance(&self) -> Result<Option<(Idx, Pos)>, AppendError> {
        let mut state = self.stall.state.lock();
        while state.is_stalled {
            state.hanging = std::thread::current().name().map(str::to_owned);
            self.stall.changed.notify_all();
            self.stall.changed.wait(&mut state);
        }
        drop(state);
        self.inner.advance()
    }

    fn usual_time(&self) -> Option<Duration> {
        Some(self.usual_time)
    }

    fn resync(&self) -> Result<Resync, AppendError> {
        self.inner.resync()
    }
}

impl ShardLog for StallingLog {
    fn id(&self) -> LogId {
        self.inner.id()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn claim(&self, after: Pos, claim: Claim) -> Result<Writing, AppendError> {
        let (appender, commits) = self.inner.claim(after, claim)?;
        Ok((
            appender,
            Box::new(StallingCommits {
                inner: commits,
                usual_time: self.usual_time,
                stall: self.stall.clone(),
            }),
        ))
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
