//! The distribution of the keys in a workload.

use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;

use engramdb_datasets::SplitMix64;

/// Exponent of the zipf distribution, as in YCSB.
const ZIPF_EXPONENT: f64 = 0.99;

/// Draws that are made in advance and used as a ring. A draw computes a power; a million draws hide the
/// repetition, and reading them costs the load generator almost nothing.
const ZIPF_RING_DRAWS: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Every key equally often
    Uniform,
    /// The n-th key with a frequency of 1 / n^0.99
    Zipf,
}

/// Draws numbers below a number of keys. Clones draw independently.
#[derive(Clone)]
pub struct KeyNumbers {
    keys: u32,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Uniform,
    Ring { draws: Arc<[u32]>, at: usize },
}

impl KeyNumbers {
    pub fn new(distribution: Distribution, keys: u32, seed: u64) -> Self {
        let source = match distribution {
            Distribution::Uniform => Source::Uniform,
            Distribution::Zipf => Source::Ring { draws: zipf(keys, seed), at: 0 },
        };
        Self { keys, source }
    }

    /// Starts at another position, so that several users of one ring do not draw the same keys.
    pub fn restart(&mut self, random: &mut SplitMix64) {
        if let Source::Ring { draws, at } = &mut self.source {
            *at = random.below(draws.len() as u64) as usize;
        }
    }

    pub fn next(&mut self, random: &mut SplitMix64) -> u32 {
        match &mut self.source {
            Source::Uniform => random.below(u64::from(self.keys)) as u32,
            Source::Ring { draws, at } => {
                *at = if *at + 1 == draws.len() { 0 } else { *at + 1 };
                draws[*at]
            }
        }
    }
}

/// Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994), as YCSB uses it. The
/// most frequent number is 0.
fn zipf(keys: u32, seed: u64) -> Arc<[u32]> {
    let keys = f64::from(keys);
    let zeta: f64 = (1..=keys as u32).map(|n| f64::from(n).powf(-ZIPF_EXPONENT)).sum();
    let zeta_two = 1.0 + 0.5f64.powf(ZIPF_EXPONENT);
    let alpha = 1.0 / (1.0 - ZIPF_EXPONENT);
    let eta = (1.0 - (2.0 / keys).powf(1.0 - ZIPF_EXPONENT)) / (1.0 - zeta_two / zeta);
    let mut random = SplitMix64::new(seed, 20, 0);
    let draw = |_| {
        let uniform = random.next_u64() as f64 / 2f64.powi(64);
        if uniform * zeta < 1.0 {
            0
        } else if uniform * zeta < zeta_two {
            1.min(keys as u32 - 1)
        } else {
            ((keys * (eta * uniform - eta + 1.0).powf(alpha)) as u32).min(keys as u32 - 1)
        }
    };
    (0..ZIPF_RING_DRAWS).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(distribution: Distribution, keys: u32) -> Vec<u32> {
        let mut random = SplitMix64::new(5, 0, 0);
        let mut numbers = KeyNumbers::new(distribution, keys, 1);
        numbers.restart(&mut random);
        let mut counts = vec![0; keys as usize];
        (0..ZIPF_RING_DRAWS).for_each(|_| counts[numbers.next(&mut random) as usize] += 1);
        counts
    }

    #[test]
    fn uniform_keys_are_equally_frequent() {
        let expected = ZIPF_RING_DRAWS as f64 / 100.0;
        let counts = counts(Distribution::Uniform, 100);
        assert!(counts.iter().all(|&count| (f64::from(count) / expected - 1.0).abs() < 0.1), "{counts:?}");
    }

    #[test]
    fn zipf_keys_have_the_frequency_of_their_rank() {
        let counts = counts(Distribution::Zipf, 1000);
        let zeta: f64 = (1..=1000).map(|n| f64::from(n).powf(-ZIPF_EXPONENT)).sum();
        for rank in [1, 2] {
            let expected = ZIPF_RING_DRAWS as f64 / zeta / f64::from(rank).powf(ZIPF_EXPONENT);
            let actual = f64::from(counts[rank as usize - 1]);
            assert!((actual / expected - 1.0).abs() < 0.02, "rank {rank}: {actual} for {expected}");
        }
        let tail: u32 = counts[500..].iter().sum();
        assert!((0.05..0.15).contains(&(f64::from(tail) / ZIPF_RING_DRAWS as f64)), "{tail}");
    }

    #[test]
    fn one_key_is_always_the_same_one() {
        assert_eq!(counts(Distribution::Zipf, 1), [ZIPF_RING_DRAWS as u32]);
        assert_eq!(counts(Distribution::Uniform, 1), [ZIPF_RING_DRAWS as u32]);
    }
}
