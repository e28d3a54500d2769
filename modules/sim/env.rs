//! A seeded environment: the faulty disk, a clock that only tests advance, a seeded generator.

use crate::disk::FaultyDisk;
use engramdb_engine::env::{Clock, Env, Random};
use engramdb_engine::hashing;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An environment and the handles that control it.
#[derive(Clone)]
pub struct SimEnv {
    pub env: Env,
    pub disk: FaultyDisk,
    pub clock: Arc<SimClock>,
}

impl SimEnv {
    pub fn new(seed: u64) -> SimEnv {
        // One for the process: its tests run at once, and a table's order must not depend on which came
        // first.
        hashing::fix(0x5EED);
        let disk = FaultyDisk::new(seed);
        let clock = Arc::new(SimClock::new());
        let random = Arc::new(SimRandom(Mutex::new(SmallRng::seed_from_u64(seed ^ 0x5EED))));
        let env = Env { clock: clock.clone(), random, disk: Arc::new(disk.clone()) };
        SimEnv { env, disk, clock }
    }
}

/// A clock that moves only by the calls below. The wall clock may step in both directions.
pub struct SimClock {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl SimClock {
    fn new() -> SimClock {
        SimClock { wall_ms: AtomicU64::new(1_700_000_000_000), monotonic_ms: AtomicU64::new(0) }
    }

    /// Advances both clocks.
    pub fn advance_ms(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
        self.monotonic_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Steps the wall clock, as an operator or NTP would; no time passes.
    pub fn step_ms(&self, ms: i64) {
        self.set_wall_ms(self.wall_ms().saturating_add_signed(ms));
    }

    /// Restarts the monotonic clock, as another process or a rebooted machine sees it.
    pub fn restart_monotonic(&self) {
        self.monotonic_ms.store(0, Ordering::Relaxed);
    }

    /// Sets the wall clock.
    pub fn set_wall_ms(&self, ms: u64) {
        self.wall_ms.store(ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
    }
}

struct SimRandom(Mutex<SmallRng>);

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}
