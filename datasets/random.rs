//! Random numbers that are the same on every machine and in every version.
//!
//! SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), implemented here because the numbers that a crate draws
//! may change with its version, and with them the data set of a given name. It is also cheap enough for a
//! load generator.

/// A stream of random numbers.
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The stream for a seed, a purpose (`stream`, below 256) and a number within that purpose.
    pub fn new(seed: u64, stream: u64, number: u64) -> Self {
        let mut outer = Self { state: seed ^ (stream << 56) };
        Self { state: outer.next_u64() ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93) }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform below `bound`. The bias of a multiplication instead of a division is below bound / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Nearly normal, mean 0 and deviation 1: the sum of four uniform 16-bit numbers, centred and scaled.
    pub fn normal(&mut self) -> f32 {
        const MEAN: i32 = 2 * 65_535;
        const INVERSE_DEVIATION: f32 = 1.732_050_8 / 65_536.0;
        let bits = self.next_u64();
        let sum: i32 = (0..4).map(|part| i32::from((bits >> (16 * part)) as u16)).sum();
        (sum - MEAN) as f32 * INVERSE_DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_draws_have_mean_zero_and_deviation_one() {
        let mut random = SplitMix64::new(1, 2, 3);
        let draws: Vec<f64> = (0..100_000).map(|_| random.normal().into()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn draws_below_a_bound_cover_it_evenly() {
        let mut random = SplitMix64::new(1, 2, 3);
        let mut counts = [0; 10];
        (0..100_000).for_each(|_| counts[random.below(10) as usize] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
