//! Keys live for their time to live, after any steps of the wall clock, live and over restarts.

use engramdb_engine::env::engine_clock::{LOGGED_EVERY_MS, SLEW_INVERSE};
use engramdb_resp::{Protocol, Value};
use engramdb_testkit::instance::{BARE, Instance};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;

/// The sums of what happened so far, in milliseconds.
#[derive(Clone, Copy, Default)]
struct Told {
    /// Time that has passed, including while the machine was off.
    passed: u64,
    /// The sum of all steps forward.
    forward: u64,
    /// By how much starts may have made keys expire early, and late.
    early: u64,
    late: u64,
}

struct Key {
    name: String,
    ttl: u64,
    set: Told,
    gone: bool,
}

struct World {
    instance: Instance,
    told: Told,
    unlogged: u64,
    keys: Vec<Key>,
}

impl World {
    fn new(seed: u64) -> World {
        let instance = Instance::with_modules(seed, Protocol::Resp3, BARE);
        World { instance, told: Told::default(), unlogged: 0, keys: Vec::new() }
    }

    fn pass(&mut self, ms: u64) {
        self.instance.move_clock(ms as i64);
        self.told.passed += ms;
        self.unlogged += ms;
        if self.unlogged >= LOGGED_EVERY_MS {
            self.log_time();
        }
    }

    /// Does what the server does every second.
    fn log_time(&mut self) {
        self.unlogged = 0;
        let engine = self.instance.engine();
        engine.pipeline().submit_time(engine.now_ms());
        engine.pipeline().pump();
    }

    fn step(&mut self, ms: i64) {
        self.instance.step_clock(ms);
        self.told.forward += ms.max(0).unsigned_abs();
        self.log_time();
    }

    fn restart(&mut self) {
        self.instance.restart();
        self.unlogged = 0;
    }

    fn crash(&mut self, down: u64) {
        self.instance.crash(down);
        self.told.passed += down;
        self.told.early += 2 * LOGGED_EVERY_MS;
        self.told.late += down + self.unlogged;
        self.unlogged = 0;
    }

    fn set(&mut self, ttl: u64) {
        let name = format!("key:{}", self.keys.len());
        self.instance.run(&["SET", &name, "v", "PX", &ttl.to_string()]);
        self.keys.push(Key { name, ttl, set: self.told, gone: false });
    }

    fn check(&mut self) {
        for key in &mut self.keys {
            let is_there = self.instance.run(&["EXISTS", &key.name]).reply == Value::Integer(1);
            let since = |of: fn(&Told) -> u64| of(&self.told) - of(&key.set);
            let age = since(|told| told.passed);
            if is_there {
                assert!(!key.gone, "{} came back", key.name);
                let lived = age.saturating_sub(since(|told| told.late));
                let slowest = lived - lived / u64::from(SLEW_INVERSE);
                assert!(slowest <= key.ttl + 1, "{} of {} ms lives after {age} ms", key.name, key.ttl);
            } else if !key.gone {
                let most = age + since(|told| told.forward) + since(|told| told.early);
                assert!(most >= key.ttl, "{} of {} ms is gone after {age} ms", key.name, key.ttl);
                key.gone = true;
            }
        }
    }
}

#[test]
fn keys_live_their_time_over_any_steps_and_restarts() {
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new(seed);
        for _ in 0..150 {
            match random.random_range(0..10) {
                0..2 => {
                    let most = [100, 10_000, 10_000_000][random.random_range(0..3)];
                    world.set(random.random_range(1..most));
                }
                2..6 => {
                    let most = [50, 900, 900, 100_000][random.random_range(0..4)];
                    world.pass(random.random_range(0..most));
                }
                6 => {
                    let unit = [SECOND, HOUR, YEAR][random.random_range(0..3)];
                    let by = random.random_range(3..20) * unit;
                    world.step(if random.random_bool(0.5) { by } else { -by });
                }
                7 => world.restart(),
                8 => world.crash(random.random_range(0..2000)),
                _ => world.check(),
            }
        }
        world.check();
    }
}

/// A real bug: after an hour ahead for 0.3 s, keys of three seconds lived for an hour, over restarts too.
#[test]
fn a_clock_that_was_ahead_for_a_moment_does_not_stop_expiry() {
    for step in [5 * SECOND, HOUR, YEAR] {
        for restart in [false, true] {
            let mut world = World::new(1);
            world.step(step);
            world.set(10);
            world.pass(300);
            world.step(-step);
            world.set(3000);
            world.pass(2000);
            world.check();
            assert!(!world.keys[1].gone, "{step} {restart}");
            if restart {
                world.restart();
            }
            world.pass(1300);
            world.check();
            assert!(world.keys[1].gone, "{step} {restart}");
        }
    }
}
