use super::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;
const START_MS: u64 = 2_000_000_000_000;

/// A wall clock that can be set, and a monotonic clock.
struct Clocks {
    passed_us: AtomicU64,
    wall_ms: AtomicU64,
}

impl Clocks {
    fn new() -> Clocks {
        Clocks { passed_us: AtomicU64::new(0), wall_ms: AtomicU64::new(START_MS) }
    }

    fn pass_ms(&self, ms: u64) {
        self.passed_us.fetch_add(ms * 1000, Ordering::Relaxed);
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn step(&self, ms: i64) {
        let stepped = self.wall_ms.load(Ordering::Relaxed).saturating_add_signed(ms);
        self.wall_ms.store(stepped, Ordering::Relaxed);
    }
}

impl Clock for Clocks {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.passed_us.load(Ordering::Relaxed))
    }
}

#[test]
fn three_seconds_last_three_seconds_whatever_the_clock_does_before() {
    for step in [SECOND, 10 * SECOND, HOUR, YEAR, 50 * YEAR] {
        let clocks = Clocks::new();
        let engine = EngineClock::new(&clocks, 0);
        clocks.step(step);
        engine.now_ms(&clocks);
        clocks.pass_ms(300);
        engine.now_ms(&clocks);
        clocks.step(-step);
        let began = engine.now_ms(&clocks);
        assert!(began >= START_MS + 300 + step.unsigned_abs(), "a step forward is followed at once");
        for _ in 0..3000 {
            clocks.pass_ms(1);
            engine.now_ms(&clocks);
        }
        let took = engine.now_ms(&clocks) - began;
        assert!((2700..=3000).contains(&took), "3 s took {took} ms after a step of {step} ms");
    }
}

#[test]
fn a_clock_that_was_set_back_is_caught_up_with_and_then_followed() {
    let clocks = Clocks::new();
    let engine = EngineClock::new(&clocks, 0);
    clocks.step(-10 * SECOND);
    let mut last = engine.now_ms(&clocks);
    assert_eq!(last, START_MS);
    // Ten seconds in sixteenths.
    for tenths in 0..1610 {
        clocks.pass_ms(100);
        let now = engine.now_ms(&clocks);
        assert!((93..=100).contains(&(now - last)) || now == clocks.wall_ms(), "{tenths}");
        last = now;
    }
    assert_eq!(last, clocks.wall_ms());
    clocks.pass_ms(77);
    assert_eq!(engine.now_ms(&clocks), clocks.wall_ms());
}

#[test]
fn a_clock_that_is_not_read_for_long_does_not_stop() {
    let clocks = Clocks::new();
    let engine = EngineClock::new(&clocks, 0);
    clocks.pass_ms(60_000);
    clocks.step(-HOUR);
    let passed = engine.now_ms(&clocks) - START_MS;
    assert_eq!(passed, 60_000 - 60_000 / u64::from(SLEW_INVERSE));
}

#[test]
fn a_restart_continues_where_the_log_ends() {
    let clocks = Clocks::new();
    let ahead_ms = START_MS + HOUR as u64;
    for (was_clean, wanted_ms) in [(true, ahead_ms), (false, ahead_ms + 2 * LOGGED_EVERY_MS)] {
        let at_least_ms = EngineClock::after_restart_ms(&clocks, ahead_ms, was_clean);
        assert_eq!(EngineClock::new(&clocks, at_least_ms).now_ms(&clocks), wanted_ms);
        let at_least_ms = EngineClock::after_restart_ms(&clocks, START_MS - 500, was_clean);
        assert_eq!(EngineClock::new(&clocks, at_least_ms).now_ms(&clocks), START_MS, "the wall clock knows");
    }
}

/// Any steps in any order: engine time is never set back, never behind the wall clock, never faster than real
/// time except for the steps forward, and never slower than fifteen sixteenths.
#[test]
fn time_passes_at_its_pace_after_any_steps() {
    for seed in 0..500 {
        let mut random = SmallRng::seed_from_u64(seed);
        let clocks = Clocks::new();
        let engine = EngineClock::new(&clocks, 0);
        let (mut last, mut passed, mut forward) = (START_MS, 0, 0);
        let mut last_wall_ms = START_MS;
        for _ in 0..300 {
            if random.random_bool(0.2) {
                let unit = [1, SECOND, HOUR, YEAR][random.random_range(0..4)];
                let step = random.random_range(-20..=20) * unit;
                clocks.step(step);
                forward += step.max(0).unsigned_abs();
            } else {
                let most = [2, 100, 100_000][random.random_range(0..3)];
                let ms = random.random_range(0..most);
                clocks.pass_ms(ms);
                passed += ms;
            }
            if random.random_bool(0.7) {
                let now = engine.now_ms(&clocks);
                assert!(now >= last && now >= clocks.wall_ms(), "seed {seed}");
                let took = now - START_MS;
                assert!(took <= passed + forward, "seed {seed}: {took} of {passed} and {forward}");
                let slowest = passed - passed / u64::from(SLEW_INVERSE);
                // A step back to the exact millisecond of the last read is noticed a millisecond later.
                let is_seen = clocks.wall_ms() != last_wall_ms;
                assert!(took + 1 >= slowest || !is_seen, "seed {seed}: {took} of {passed}");
                (last, last_wall_ms) = (now, clocks.wall_ms());
            }
        }
    }
}
