//! Takes over the connections of a worker whose thread hangs in the disk.
//!
//! A worker may lead the log (see `engramdb_engine::log::pipeline`): it leaves its runtime and writes an entry itself,
//! which usually takes as long as waking another thread for it. Should the disk stall just then, its connections must not
//! stall with it: reads come from memory. So one thread of the server, the standby, looks in every few milliseconds; a
//! worker that has not come back since its last look has its runtime driven by the standby until it does. The runtime of
//! a worker is driven by one thread at a time, whoever has its core, so nothing else changes for its tasks.
//!
//! While nobody leads the standby sleeps. Deliberately not here: when to lead, which the log decides, and which it stops
//! deciding after the first slow write.

use parking_lot::{Condvar, Mutex};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Between two looks: the connections of a worker in a stalled disk wait for twice as long at most.
const LOOK: Duration = Duration::from_millis(5);
/// Looks without a change before the standby sleeps.
const LOOKS_MAX: usize = 20;

/// When a worker is away from its runtime.
#[derive(Default)]
pub struct Absence {
    /// Odd while it is away.
    turns: AtomicU64,
    /// The standby, while it drives the runtime.
    substitute: Mutex<Option<Waker>>,
}

impl Absence {
    async fn is_over(&self, turn: u64) {
        poll_fn(|context| {
            *self.substitute.lock() = Some(context.waker().clone());
            if self.turns.load(Ordering::SeqCst) == turn { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

#[derive(Default)]
pub struct Standby {
    is_asleep: AtomicBool,
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Standby {
    /// Starts the thread that looks after these workers.
    pub fn start(
        self: &Arc<Self>,
        workers: Vec<(Arc<Runtime>, Arc<Absence>)>,
    ) -> std::io::Result<JoinHandle<()>> {
        let standby = self.clone();
        std::thread::Builder::new().name("standby".to_owned()).spawn(move || standby.run(&workers))
    }

    /// Runs `work` in a worker's thread that is outside its runtime.
    pub fn watch(&self, absence: &Absence, work: impl FnOnce()) {
        absence.turns.fetch_add(1, Ordering::SeqCst);
        if self.is_asleep.load(Ordering::SeqCst) {
            let _closed = self.is_closed.lock();
            self.is_asleep.store(false, Ordering::SeqCst);
            self.changed.notify_one();
        }
        work();
        absence.turns.fetch_add(1, Ordering::SeqCst);
        let substitute = absence.substitute.lock().take();
        if let Some(substitute) = substitute {
            substitute.wake();
        }
    }

    /// Ends the thread.
    pub fn close(&self) {
        *self.is_closed.lock() = true;
        self.changed.notify_one();
    }

    fn run(&self, workers: &[(Arc<Runtime>, Arc<Absence>)]) {
        let mut seen = vec![0; workers.len()];
        let mut looks_without_change = 0;
        while self.pause(looks_without_change < LOOKS_MAX) {
            looks_without_change += 1;
            for ((runtime, absence), seen) in workers.iter().zip(&mut seen) {
                let turn = absence.turns.load(Ordering::SeqCst);
                if turn != *seen {
                    *seen = turn;
                    looks_without_change = 0;
                } else if turn % 2 == 1 {
                    tracing::warn!(
                        "the disk stalls: a standby thread serves a worker's connections meanwhile"
                    );
                    runtime.block_on(absence.is_over(turn));
                }
            }
            if looks_without_change >= LOOKS_MAX {
                self.is_asleep.store(true, Ordering::SeqCst);
                // Who left before this store did not see it, so it is seen here.
                let has_changed = |((_, absence), seen): (&(_, Arc<Absence>), &u64)| {
                    absence.turns.load(Ordering::SeqCst) != *seen
                };
                if workers.iter().zip(&seen).any(has_changed) {
                    self.is_asleep.store(false, Ordering::SeqCst);
                }
            }
        }
    }

    /// Waits for the next look, or until there is anything to look at. False when closed.
    fn pause(&self, timed: bool) -> bool {
        let mut closed = self.is_closed.lock();
        if !*closed && timed {
            self.changed.wait_for(&mut closed, LOOK);
        }
        while !*closed && !timed && self.is_asleep.load(Ordering::SeqCst) {
            self.changed.wait(&mut closed);
        }
        !*closed
    }
}
