//! The engine clock: follows the wall clock while that advances, and the monotonic clock while the wall clock
//! was set back.
//!
//! Expiry times refer to this clock. It is never behind the wall clock, and it never steps back. While the
//! wall clock is behind, because it was ahead before or is wrong now, engine time advances with the monotonic
//! clock, a little slower than real time ([`SLEW_INVERSE`]), until the wall clock has caught up. So a key
//! with a time to live of three seconds lives at most a fifteenth longer, however large the difference of the
//! clocks is, and expired keys do not reappear. A step forward is followed at once, because it cannot be
//! distinguished from the correction of a clock that was behind, or from a machine that was suspended.
//!
//! The monotonic clock does not continue over a restart. The log contains the last engine time; if the wall
//! clock is behind it, engine time continues from there ([`EngineClock::after_restart_ms`]). The time during
//! which the machine was off is then unknown: keys live longer by it, until the wall clock has caught up.

use super::Clock;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// While it is ahead of the wall clock, the engine clock is slower than real time by this fraction: one part
/// in `SLEW_INVERSE`.
pub const SLEW_INVERSE: u32 = 16;
/// How often, in milliseconds, a server logs the time while there are no batches that record it.
pub const LOGGED_EVERY_MS: u64 = 1000;

pub struct EngineClock {
    /// The last engine time, and the wall clock's time when it was computed: while the latter is unchanged,
    /// so is engine time.
    now_ms: AtomicU64,
    wall_ms: AtomicU64,
    last: Mutex<Moment>,
}

/// Engine time, and the monotonic clock's time at the same moment. Finer than the published milliseconds,
/// which are too coarse to accumulate.
struct Moment {
    engine: Duration,
    monotonic: Duration,
}

impl EngineClock {
    /// A clock that starts at the wall clock's time, but not before `at_least_ms`.
    pub fn new(clock: &dyn Clock, at_least_ms: u64) -> EngineClock {
        let wall_ms = clock.wall_ms();
        let now_ms = wall_ms.max(at_least_ms);
        let last = Moment { engine: Duration::from_millis(now_ms), monotonic: clock.monotonic() };
        EngineClock {
            now_ms: AtomicU64::new(now_ms),
            wall_ms: AtomicU64::new(wall_ms),
            last: Mutex::new(last),
        }
    }

    /// The earliest engine time of a store whose log ends with `logged_ms`. After an unclean stop, clients
    /// may have seen an engine time that is not in the log: if the wall clock is behind the log, this time
    /// counts as passed, so that expired keys stay expired.
    pub fn after_restart_ms(clock: &dyn Clock, logged_ms: u64, was_clean: bool) -> u64 {
        let is_behind = clock.wall_ms() < logged_ms;
        let unlogged_ms = if is_behind && !was_clean { 2 * LOGGED_EVERY_MS } else { 0 };
        logged_ms.saturating_add(unlogged_ms)
    }

    /// Engine time in milliseconds since the Unix epoch. Costs one load more than reading the wall clock,
    /// except once per millisecond.
    #[inline]
    pub fn now_ms(&self, clock: &dyn Clock) -> u64 {
        if clock.wall_ms() == self.wall_ms.load(Ordering::Acquire) {
            return self.now_ms.load(Ordering::Acquire);
        }
        self.tick(clock)
    }

    /// Lets engine time go on from `at_least_ms`, if it is behind: the time of another node's log.
    pub fn advance_to(&self, clock: &dyn Clock, at_least_ms: u64) {
        if self.now_ms.load(Ordering::Acquire) >= at_least_ms {
            return;
        }
        let mut last = self.last.lock();
        let engine = Duration::from_millis(at_least_ms);
        if last.engine < engine {
            *last = Moment { engine, monotonic: clock.monotonic() };
            self.now_ms.store(at_least_ms, Ordering::Release);
        }
    }

    #[cold]
    fn tick(&self, clock: &dyn Clock) -> u64 {
        let mut last = self.last.lock();
        // Under the lock, so that both are read at the same moment.
        let (wall_ms, monotonic) = (clock.wall_ms(), clock.monotonic());
        let elapsed = monotonic.saturating_sub(last.monotonic);
        let by_itself = last.engine.saturating_add(elapsed - elapsed / SLEW_INVERSE);
        let engine = by_itself.max(Duration::from_millis(wall_ms));
        *last = Moment { engine, monotonic };
        let now_ms = u64::try_from(engine.as_millis()).unwrap_or(u64::MAX);
        // In this order, so that a reader that sees the new wall time also sees the new engine time.
        self.now_ms.store(now_ms, Ordering::Release);
        self.wall_ms.store(wall_ms, Ordering::Release);
        now_ms
    }
}

#[cfg(test)]
#[path = "engine_clock_tests.rs"]
mod tests;
