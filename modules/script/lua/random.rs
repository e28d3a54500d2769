//! The pseudo-random numbers of `math.random`: Redis's, which are those of lrand48.

use parking_lot::Mutex;

/// 48 bits of state.
pub struct LuaRandom(Mutex<u64>);

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;

impl Default for LuaRandom {
    fn default() -> LuaRandom {
        LuaRandom(Mutex::new(0x1234_ABCD_330E))
    }
}

impl LuaRandom {
    pub fn seed(&self, seed: i32) {
        *self.0.lock() = (u64::from(seed as u32) << 16) | 0x330E;
    }

    /// At least 0, and less than 1.
    pub fn next(&self) -> f64 {
        const MAX: u64 = i32::MAX as u64;
        let mut state = self.0.lock();
        *state = (state.wrapping_mul(MULTIPLIER) + INCREMENT) & MASK;
        ((*state >> 17) % MAX) as f64 / MAX as f64
    }
}

#[cfg(test)]
mod tests {
    use super::LuaRandom;

    #[test]
    fn a_seed_gives_the_same_numbers() {
        let random = LuaRandom::default();
        random.seed(1);
        let first = [random.next(), random.next()];
        random.seed(1);
        assert_eq!([random.next(), random.next()], first);
        assert_ne!(random.next(), first[1]);
    }
}
