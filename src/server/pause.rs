//! CLIENT PAUSE: commands that wait until the pause is over.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseKind {
    None = 0,
    /// Those that change keys, or publish.
    Writes = 1,
    All = 2,
}

struct State {
    kind: PauseKind,
    /// On the monotonic clock.
    until: Duration,
}

pub struct Pause {
    /// The kind, for a look without the lock. It may be over.
    kind: AtomicU8,
    state: Mutex<State>,
    ended: Arc<Notify>,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause {
            kind: AtomicU8::new(PauseKind::None as u8),
            state: Mutex::new(State { kind: PauseKind::None, until: Duration::ZERO }),
            ended: Arc::default(),
        }
    }
}

impl Pause {
    /// Pauses until then. As in Redis, an earlier pause that is longer or wider goes on.
    pub fn begin(&self, kind: PauseKind, now: Duration, until: Duration) {
        let mut state = self.state.lock();
        let is_over = state.until <= now;
        state.kind = if is_over { kind } else { kind.max(state.kind) };
        state.until = if is_over { until } else { until.max(state.until) };
        self.kind.store(state.kind as u8, Ordering::SeqCst);
    }

    pub fn end(&self) {
        let mut state = self.state.lock();
        *state = State { kind: PauseKind::None, until: Duration::ZERO };
        self.kind.store(PauseKind::None as u8, Ordering::SeqCst);
        self.ended.notify_waiters();
    }

    /// Whether there may be a pause. Costs one load.
    #[inline]
    pub fn may_hold(&self) -> bool {
        self.kind.load(Ordering::Relaxed) != PauseKind::None as u8
    }

    /// What is paused now.
    pub fn kind(&self, now: Duration) -> PauseKind {
        if !self.may_hold() {
            return PauseKind::None;
        }
        let mut state = self.state.lock();
        if state.until <= now {
            state.kind = PauseKind::None;
            self.kind.store(PauseKind::None as u8, Ordering::SeqCst);
        }
        state.kind
    }

    /// Ends when the pause is over: by its time, or by CLIENT UNPAUSE.
    pub fn over(&self, now: Duration) -> impl Future<Output = ()> + Send + use<> {
        let left = self.state.lock().until.saturating_sub(now);
        let ended = self.ended.clone().notified_owned();
        async move {
            _ = tokio::time::timeout(left, ended).await;
        }
    }
}
