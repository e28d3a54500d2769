//! A fixed orthogonal map that spreads every vector evenly over its components, so that a few bits per
//! component are about as precise for one vector as for another. Without it, an embedding with a few huge
//! components would lose the others.
//!
//! Three rounds of: random signs, butterflies (the steps of a Walsh-Hadamard transform) over blocks, and a
//! transposition that brings distant components together. Rotating before quantizing with few bits is
//! RaBitQ's idea (arXiv 2405.12497); random signs and Hadamard steps instead of a full matrix are Ailon and
//! Chazelle's fast Johnson-Lindenstrauss transform.
//!
//! The map is a function of the dimension alone, and must never change: saved codes depend on it.

/// Components come in blocks of this many; vectors are padded with zeros.
pub(crate) const BLOCK: usize = 128;
const ROUNDS: usize = 3;
/// Butterflies join components at least this far apart: the width of a vector register.
const LANES: usize = 16;

pub(crate) struct Rotation {
    padded: usize,
    /// Butterflies reach as far as this power of two, which divides `padded`.
    reach: usize,
    /// For each round and component: the sign bit to flip, or 0.
    signs: [Vec<u32>; ROUNDS],
    /// The factor that makes the map preserve lengths.
    scale: f32,
}

/// Memory that a rotation uses. `rotated` receives the result.
#[derive(Default)]
pub(crate) struct Rotated {
    pub rotated: Vec<f32>,
    spare: Vec<f32>,
}

impl Rotated {
    pub fn bytes(&self) -> usize {
        (self.rotated.capacity() + self.spare.capacity()) * size_of::<f32>()
    }
}

impl Rotation {
    pub fn new(dimension: usize) -> Rotation {
        let padded = dimension.next_multiple_of(BLOCK);
        let reach = 1 << padded.trailing_zeros();
        let sign = |round: usize, at: usize| ((mixed((round * padded + at) as u64) >> 63) as u32) << 31;
        let levels = ROUNDS as u32 * (reach / LANES).ilog2();
        Rotation {
            padded,
            reach,
            signs: std::array::from_fn(|round| (0..padded).map(|at| sign(round, at)).collect()),
            scale: (0.5_f32).powi(levels as i32 / 2) * if levels % 2 == 1 { 0.5_f32.sqrt() } else { 1.0 },
        }
    }

    /// The number of components after the rotation: a multiple of `BLOCK`.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates `factor` times the vector. The products must be finite.
    pub fn rotate(&self, vector: &[f32], factor: f32, memory: &mut Rotated) {
        let Rotated { rotated, spare } = memory;
        let factor = factor * self.scale;
        rotated.clear();
        rotated.extend(vector.iter().map(|x| x * factor));
        rotated.resize(self.padded, 0.0);
        spare.resize(self.padded, 0.0);
        for (round, signs) in self.signs.iter().enumerate() {
            if round > 0 {
                transpose(rotated, spare);
                std::mem::swap(rotated, spare);
            }
            for (x, sign) in rotated.iter_mut().zip(signs) {
                *x = f32::from_bits(x.to_bits() ^ sign);
            }
            rotated.chunks_exact_mut(self.reach).for_each(butterflies);
        }
    }
}

fn butterflies(block: &mut [f32]) {
    let mut stride = LANES;
    while stride < block.len() {
        for pair in block.chunks_exact_mut(2 * stride) {
            let (low, high) = pair.split_at_mut(stride);
            for (low, high) in low.as_chunks_mut::<LANES>().0.iter_mut().zip(high.as_chunks_mut::<LANES>().0)
            {
                for (x, y) in low.iter_mut().zip(high) {
                    (*x, *y) = (*x + *y, *x - *y);
                }
            }
        }
        stride *= 2;
    }
}

/// Reads rows of `LANES` components, and writes them as columns.
fn transpose(from: &[f32], to: &mut [f32]) {
    let rows = from.len() / LANES;
    for (row, lanes) in from.as_chunks::<LANES>().0.iter().enumerate() {
        for (lane, x) in lanes.iter().enumerate() {
            to[lane * rows + row] = *x;
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
fn mixed(number: u64) -> u64 {
    let mut bits = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(rotation: &Rotation, vector: &[f32], factor: f32) -> Vec<f32> {
        let mut memory = Rotated::default();
        rotation.rotate(vector, factor, &mut memory);
        memory.rotated
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    }

    #[test]
    fn lengths_and_angles_stay() {
        for dimension in [1, 64, 100, 128, 200, 384, 768, 1000, 1536, 4096] {
            let rotation = Rotation::new(dimension);
            let numbers = |salt: u64| -> Vec<f32> {
                (0..dimension as u64).map(|i| (mixed(i ^ salt) >> 40) as f32 / 8_388_608.0 - 1.0).collect()
            };
            let (a, b) = (numbers(1 << 40), numbers(1 << 41));
            let (x, y) = (rotated(&rotation, &a, 1.0), rotated(&rotation, &b, 0.5));
            let tolerance = 1e-5 * dimension as f64;
            assert!((dot(&x, &x) - dot(&a, &a)).abs() < tolerance, "{dimension}");
            assert!((dot(&x, &y) - 0.5 * dot(&a, &b)).abs() < tolerance, "{dimension}");
        }
    }

    #[test]
    fn one_large_component_is_spread_over_all() {
        for dimension in [64, 384, 768, 1536] {
            let rotation = Rotation::new(dimension);
            for at in [0, 1, dimension / 2, dimension - 1] {
                let mut vector = vec![0.0; dimension];
                vector[at] = 1.0;
                let largest = rotated(&rotation, &vector, 1.0).iter().fold(0.0_f32, |l, x| l.max(x.abs()));
                // Spread evenly, it would be 1 / sqrt(padded).
                let even = 1.0 / (rotation.padded() as f32).sqrt();
                assert!(largest <= 6.0 * even, "{dimension}, component {at}: {largest}, evenly {even}");
            }
        }
    }
}
