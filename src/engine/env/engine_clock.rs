//! The engine clock: the wall clock where that goes on, and time that passes by itself where it was set back.
//!
//! Expiry times are moments of this clock. It is never behind the wall clock, and it never steps back. While the wall
//! clock is behind, because it was ahead for a moment or is wrong now, engine time passes as the monotonic clock says, a
//! little slower than real time ([`SLEW_INVERSE`]), until the wall clock has caught up. So what is to live three seconds lives
//! three seconds, and a fifteenth longer at most, however far the clocks are apart; nothing that expired comes back.
//! A step forward is followed at once: a clock that was behind, or a machine that slept, cannot be told from it.
//!
//! Over a restart there is no monotonic clock. The log knows the last engine time; where the wall clock is behind it,
//! engine time goes on from there ([`EngineClock::after_restart_ms`]). How long the machine was off is unknown then: keys live longer by that, until
//! the wall clock has caught up.

use super::Clock;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// While it is ahead of the wall clock, the engine clock runs slower than real time by one part in so many.
pub const SLEW_INVERSE: u32 = 16;
/// How often, in milliseconds, a server lets the log know what time it is while no batch tells.
pub const LOGGED_EVERY_MS: u64 = 1000;

pub struct EngineClock {
    /// The last engine time, and the wall clock's when it was computed: while that stands still, so does engine time.
    now_ms: AtomicU64,
    wall_ms: AtomicU64,
    last: Mutex<Moment>,
}

/// Engine time, and the monotonic clock's then. Finer than the milliseconds that are given out: they are too coarse to add up.
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

    /// The earliest engine time of a store whose log ends with `logged_ms`. After a stop that was not in order, engine time may have been
    /// shown that the log does not have: where the wall clock cannot tell, it counts as passed, so that what had expired
    /// stays so.
    pub fn after_restart_ms(clock: &dyn Clock, logged_ms: u64, was_clean: bool) -> u64 {
        let is_behind = clock.wall_ms() < logged_ms;
        let unlogged_ms = if is_behind && !was_clean { 2 * LOGGED_EVERY_MS } else { 0 };
        logged_ms.saturating_add(unlogged_ms)
    }

    /// Engine time in milliseconds since the Unix epoch. One load more than reading the wall clock, except once in a millisecond.
    #[inline]
    pub fn now_ms(&self, clock: &dyn Clock) -> u64 {
        if clock.wall_ms() == self.wall_ms.load(Ordering::Acquire) {
            return self.now_ms.load(Ordering::Acquire);
        }
        self.tick(clock)
    }

    #[cold]
    fn tick(&self, clock: &dyn Clock) -> u64 {
        let mut last = self.last.lock();
        // Under the lock, so that both are of one moment.
        let (wall_ms, monotonic) = (clock.wall_ms(), clock.monotonic());
        let elapsed = monotonic.saturating_sub(last.monotonic);
        let by_itself = last.engine.saturating_add(elapsed - elapsed / SLEW_INVERSE);
        let engine = by_itself.max(Duration::from_millis(wall_ms));
        *last = Moment { engine, monotonic };
        let now_ms = u64::try_from(engine.as_millis()).unwrap_or(u64::MAX);
        // In this order: a reader that finds the new wall time finds the new engine time too.
        self.now_ms.store(now_ms, Ordering::Release);
        self.wall_ms.store(wall_ms, Ordering::Release);
        now_ms
    }
}

#[cfg(test)]
#[path = "engine_clock_tests.rs"]
mod tests;
