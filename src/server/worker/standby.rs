//! Serves the connections of a worker while its thread waits for a stalled disk, or runs a long script.
//!
//! A worker may lead the log (see `engramdb_engine::log::pipeline`): it leaves its runtime and writes an
//! entry itself, which usually takes as long as waking another thread for it. If the disk stalls during the
//! write, the worker's connections must not stall too, because reads need only memory. So one thread of the
//! server, the standby, checks all workers every few milliseconds, and drives the runtime of a worker that
//! was away at two checks in a row, until that worker is back. Tokio lets only one thread drive a runtime at
//! a time, so nothing changes for the worker's tasks.
//!
//! A worker leaves its runtime for scripts too (see [`crate::outside`]), and is away as long as they run.
//!
//! While no worker leads or runs scripts, the standby sleeps. Deliberately not here: the decision to lead.
//! The log makes it, and ends leading after the first slow write.

use crate::output::gate::Gate;
use engramdb_engine::env::Clock;
use parking_lot::{Condvar, Mutex};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The time between two checks. Connections of a worker in a stalled disk wait for at most twice as long.
const CHECK_EVERY: Duration = Duration::from_millis(5);
/// Checks without a change before the standby sleeps.
const CHECKS_MAX: usize = 20;

/// Why a worker is away from its runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbsenceCause {
    /// It leads the log.
    Disk,
    Script,
}

/// Whether a worker is away from its runtime.
#[derive(Default)]
pub struct Absence {
    /// Incremented when the worker leaves and when it comes back: odd while it is away.
    turns: AtomicU64,
    /// It is away because of a script, which says nothing of the disk.
    is_for_script: AtomicBool,
    /// Wakes the standby while it drives the runtime.
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

pub struct Standby {
    clock: Arc<dyn Clock>,
    gates: Vec<Arc<Gate>>,
    is_asleep: AtomicBool,
    is_closed: Mutex<bool>,
    changed: Condvar,
}

/// Reports stalls of the disk and their lengths, in at most one log line in ten seconds. A line includes all
/// stalls since the last one.
#[derive(Default)]
struct Stalls {
    logged_at: Option<Duration>,
    count: u64,
    longest: Duration,
    total: Duration,
}

/// The time between two log lines about stalls.
const LOG_EVERY: Duration = Duration::from_secs(10);

impl Stalls {
    /// Counts a stall that ended at `now`. Returns a log line if it is time for one.
    fn ended(&mut self, took: Duration, now: Duration) -> Option<String> {
        self.count += 1;
        self.longest = self.longest.max(took);
        self.total += took;
        if !self.is_time(now) {
            return None;
        }
        let Stalls { count, longest, total, .. } = std::mem::take(self);
        self.logged_at = Some(now);
        let (longest, total) = (longest.as_millis(), total.as_millis());
        Some(match count {
            1 => format!("the disk stalled for {longest} ms"),
            _ => format!("the disk stalled {count} times, for {total} ms in all and {longest} ms at most"),
        })
    }

    /// Returns a log line about a stall that goes on, if it is time for one.
    fn goes_on(&mut self, since: Duration, now: Duration) -> Option<String> {
        if !self.is_time(now) {
            return None;
        }
        self.logged_at = Some(now);
        Some(format!("the disk stalls, for {} ms so far", (now - since).as_millis()))
    }

    fn is_time(&self, now: Duration) -> bool {
        self.logged_at.is_none_or(|at| now >= at + LOG_EVERY)
    }
}

fn warn(line: Option<String>) {
    if let Some(line) = line {
        tracing::warn!("{line}; a standby thread served the worker's connections meanwhile");
    }
}

impl Standby {
    /// `gates` get `set_stalled` when a stall begins and ends.
    pub fn new(clock: Arc<dyn Clock>, gates: Vec<Arc<Gate>>) -> Standby {
        Standby {
            clock,
            gates,
            is_asleep: AtomicBool::new(false),
            is_closed: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    /// Starts the thread that looks after these workers.
    pub fn start(
        self: &Arc<Self>,
        workers: Vec<(Arc<Runtime>, Arc<Absence>)>,
    ) -> std::io::Result<JoinHandle<()>> {
        let standby = self.clone();
        std::thread::Builder::new().name("standby".to_owned()).spawn(move || standby.run(&workers))
    }

    /// Runs `work`, which may block, in the thread of a worker outside its runtime.
    pub fn watch(&self, absence: &Absence, cause: AbsenceCause, work: impl FnOnce()) {
        absence.is_for_script.store(cause == AbsenceCause::Script, Ordering::SeqCst);
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
        let mut checks_without_change = 0;
        let mut stalls = Stalls::default();
        while self.pause(checks_without_change < CHECKS_MAX) {
            checks_without_change += 1;
            for ((runtime, absence), seen) in workers.iter().zip(&mut seen) {
                let turn = absence.turns.load(Ordering::SeqCst);
                if turn != *seen {
                    *seen = turn;
                    checks_without_change = 0;
                } else if turn % 2 == 1 {
                    self.stand_in(runtime, absence, turn, &mut stalls);
                }
            }
            if checks_without_change >= CHECKS_MAX {
                self.is_asleep.store(true, Ordering::SeqCst);
                // A worker that left its runtime before this store did not see it, so it is checked here.
                let has_changed = |((_, absence), seen): (&(_, Arc<Absence>), &u64)| {
                    absence.turns.load(Ordering::SeqCst) != *seen
                };
                if workers.iter().zip(&seen).any(has_changed) {
                    self.is_asleep.store(false, Ordering::SeqCst);
                }
            }
        }
    }

    /// Drives the worker's runtime until the worker is back.
    fn stand_in(&self, runtime: &Runtime, absence: &Absence, turn: u64, stalls: &mut Stalls) {
        if absence.is_for_script.load(Ordering::SeqCst) {
            return runtime.block_on(absence.is_over(turn));
        }
        let since = self.clock.monotonic();
        self.gates.iter().for_each(|gate| gate.set_stalled(true));
        let is_over =
            || runtime.block_on(async { tokio::time::timeout(LOG_EVERY, absence.is_over(turn)).await });
        while is_over().is_err() {
            warn(stalls.goes_on(since, self.clock.monotonic()));
        }
        self.gates.iter().for_each(|gate| gate.set_stalled(false));
        let now = self.clock.monotonic();
        warn(stalls.ended(now - since, now));
    }

    /// Waits for the next check (`timed`), or sleeps until a worker leads. False if the standby was closed.
    fn pause(&self, timed: bool) -> bool {
        let mut closed = self.is_closed.lock();
        if !*closed && timed {
            self.changed.wait_for(&mut closed, CHECK_EVERY);
        }
        while !*closed && !timed && self.is_asleep.load(Ordering::SeqCst) {
            self.changed.wait(&mut closed);
        }
        !*closed
    }
}

#[cfg(test)]
mod tests {
    use super::Stalls;
    use std::time::Duration;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn stalls_are_logged_every_ten_seconds_with_their_lengths() {
        let mut stalls = Stalls::default();
        assert_eq!(stalls.ended(MS(40), MS(1000)).as_deref(), Some("the disk stalled for 40 ms"));
        assert_eq!(stalls.ended(MS(30), MS(2000)), None);
        assert_eq!(stalls.ended(MS(50), MS(10_999)), None);
        let line = stalls.ended(MS(10), MS(11_000));
        let expected = "the disk stalled 3 times, for 90 ms in all and 50 ms at most";
        assert_eq!(line.as_deref(), Some(expected), "the line includes stalls without a line");
        assert_eq!(stalls.ended(MS(7), MS(21_000)).as_deref(), Some("the disk stalled for 7 ms"));
    }

    #[test]
    fn a_stall_without_end_is_logged_while_it_lasts() {
        let mut stalls = Stalls::default();
        let line = stalls.goes_on(MS(0), MS(10_000));
        assert_eq!(line.as_deref(), Some("the disk stalls, for 10000 ms so far"));
        assert_eq!(stalls.goes_on(MS(0), MS(15_000)), None);
        assert!(stalls.goes_on(MS(0), MS(20_000)).is_some());
        assert_eq!(stalls.ended(MS(25_000), MS(25_000)), None);
        let line = stalls.ended(MS(5), MS(31_000));
        let expected = "the disk stalled 2 times, for 25005 ms in all and 25000 ms at most";
        assert_eq!(line.as_deref(), Some(expected));
    }
}
