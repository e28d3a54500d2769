//! The reply gate: wakes connections when the batches that their replies wait for are durable.
//!
//! The log thread must not pay a system call for each of hundreds of connections. So connections wait with
//! the gate of their own worker; when a batch becomes durable the log thread wakes at most one task of each
//! worker that has a connection waiting for it, the *releaser*, and that one wakes its neighbours on its own
//! thread, which costs a push to a queue.
//!
//! No wake-up is lost: a waiter first publishes what it waits for and then looks at `durable`; the log thread
//! publishes `durable` first and then looks for waiters. Both are sequentially consistent, so one of the two
//! sees the other.

use engramdb_engine::log::Lsn;
use engramdb_engine::log::pipeline::{DurableWatcher, Fatal};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Context, Poll, Waker};

/// Connections woken at a time by a slow log: between two groups the worker looks at its sockets, so that a
/// request that has no gate does not wait for a hundred replies to be sent. On a fast log these looks cost as
/// much as they save: all are woken at once.
const GROUP: usize = 4;

/// The waiters of one worker.
pub struct Gate {
    /// The lowest LSN that a connection waits for; `u64::MAX` when none does.
    lowest: AtomicU64,
    /// The disk stalls: replies that may leave do not wait for others of their round.
    is_stalled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiters: Vec<(Lsn, Waker)>,
    releaser: Option<Waker>,
}

impl Gate {
    pub fn new() -> Gate {
        Gate { lowest: AtomicU64::new(u64::MAX), is_stalled: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Wakes the task once `lsn` is durable. The caller looks at `durable` afterwards, once more.
    pub fn wait(&self, lsn: Lsn, waker: &Waker) {
        self.state.lock().waiters.push((lsn, waker.clone()));
        self.lowest.fetch_min(lsn.0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Whether the disk stalls. A connection that has just begun to wait asks again.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::SeqCst)
    }

    /// Notes that the disk stalls, or goes on. When it begins to stall, all connections that wait are woken
    /// once and go on waiting, so that they send what need not wait.
    pub fn set_stalled(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::SeqCst);
        if is_stalled {
            self.state.lock().waiters.iter().for_each(|(_, waker)| waker.wake_by_ref());
        }
    }

    /// Drops the wakers when the worker has ended: a waker holds its runtime, which holds the engine.
    pub fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// The releaser's life, one for each worker.
    pub async fn release(&self, durable: impl Fn() -> Lsn, is_quick: impl Fn() -> bool) {
        let mut due = Vec::new();
        loop {
            poll_fn(|context| self.poll_due(context, &durable, &mut due)).await;
            while due.len() > GROUP && !is_quick() {
                due.drain(..GROUP).for_each(Waker::wake);
                tokio::task::yield_now().await;
            }
            due.drain(..).for_each(Waker::wake);
        }
    }

    fn poll_due(
        &self,
        context: &mut Context<'_>,
        durable: &impl Fn() -> Lsn,
        due: &mut Vec<Waker>,
    ) -> Poll<()> {
        let mut state = self.state.lock();
        state.releaser = Some(context.waker().clone());
        loop {
            let reached = durable();
            due.extend(state.waiters.extract_if(.., |(lsn, _)| *lsn <= reached).map(|(_, waker)| waker));
            let lowest = state.waiters.iter().map(|(lsn, _)| lsn.0).min().unwrap_or(u64::MAX);
            self.lowest.store(lowest, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if !due.is_empty() {
                return Poll::Ready(());
            }
            if durable().0 < lowest {
                return Poll::Pending;
            }
        }
    }

    /// Wakes the releaser if it has something to do.
    fn durable(&self, lsn: Lsn) -> bool {
        if self.lowest.load(Ordering::SeqCst) > lsn.0 {
            return false;
        }
        let releaser = self.state.lock().releaser.take();
        let is_woken = releaser.is_some();
        if let Some(releaser) = releaser {
            releaser.wake();
        }
        is_woken
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

/// All workers' gates, as the log sees them.
pub struct Gates {
    pub workers: Vec<Arc<Gate>>,
    /// What to do when the log has failed. Held replies are never released.
    pub failed: Box<dyn Fn(&Fatal) + Send + Sync>,
}

impl DurableWatcher for Gates {
    fn durable(&self, lsn: Lsn) -> bool {
        fence(Ordering::SeqCst);
        self.workers.iter().fold(false, |is_any_woken, worker| worker.durable(lsn) | is_any_woken)
    }

    fn failed(&self, fatal: &Fatal) {
        (self.failed)(fatal);
    }
}
