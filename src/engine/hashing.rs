//! Hash tables whose seed comes from `env`: random in each process, fixed where a test must replay.
//!
//! The iteration order of a table depends on its seed, and an attacker who knows the seed can choose
//! colliding keys. A process has one seed, drawn from the system's randomness when the first table is made. A
//! simulated environment sets it before that ([`fix`]).

use crate::env::Random;
use crate::env::system::SystemRandom;
use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};
use std::cell::Cell;
use std::hash::BuildHasher;
use std::sync::OnceLock;

/// A table of the standard library with the process's seed.
pub type HashMap<K, V> = std::collections::HashMap<K, V, HashState>;
/// A set of the standard library with the process's seed.
pub type HashSet<T> = std::collections::HashSet<T, HashState>;

struct Seed {
    number: u64,
    shared: SharedSeed,
}

static SEED: OnceLock<Seed> = OnceLock::new();

thread_local! {
    /// Tables made by this thread. Tables of different seeds: filling one in the order of another would take
    /// quadratic time if both had the same.
    static MADE: Cell<u64> = const { Cell::new(0) };
}

impl Seed {
    fn of(number: u64) -> Seed {
        Seed { number, shared: SharedSeed::from_u64(number) }
    }

    fn get() -> &'static Seed {
        SEED.get_or_init(|| Seed::of(SystemRandom::new().next_u64()))
    }
}

/// Fixes the process's seed, for tests. Without effect once a table was made.
pub fn fix(number: u64) {
    _ = SEED.set(Seed::of(number));
}

/// What a table hashes with.
#[derive(Clone, Debug)]
pub struct HashState(SeedableRandomState);

impl HashState {
    /// The same for every caller in a process.
    pub fn of_process() -> HashState {
        let seed = Seed::get();
        HashState(SeedableRandomState::with_seed(seed.number, &seed.shared))
    }
}

impl Default for HashState {
    fn default() -> HashState {
        let made = MADE.get();
        MADE.set(made.wrapping_add(1));
        let seed = Seed::get();
        HashState(SeedableRandomState::with_seed(seed.number.wrapping_add(made), &seed.shared))
    }
}

impl BuildHasher for HashState {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> FoldHasher<'static> {
        self.0.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_walked_in_the_same_order_where_the_seed_is_fixed() {
        fix(1);
        let walk = || {
            MADE.set(0);
            let table: HashMap<u32, ()> = (0..100).map(|number| (number, ())).collect();
            table.into_keys().collect::<Vec<u32>>()
        };
        assert_eq!(walk(), walk());
        let other: HashMap<u32, ()> = (0..100).map(|number| (number, ())).collect();
        assert_ne!(walk(), other.into_keys().collect::<Vec<u32>>(), "another table, another seed");
        assert_eq!(HashState::of_process().hash_one(7), HashState::of_process().hash_one(7));
    }
}
