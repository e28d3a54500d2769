//! Vectors as one byte a component: what walks through a graph read instead of the vectors. A walk is bound by memory, and a
//! code is a quarter of a vector.
//!
//! A component x becomes the integer nearest to `x / scale`, from -127 to 127, where the scale makes the largest component of
//! the vector 127 (or -127). Nothing is trained, so that the first vector is coded like the last. It is stored with an offset
//! of 128, because the processor's instruction multiplies signed with unsigned bytes.
//!
//! Distances between codes are good to about three digits: good to find the way by, not to be replied.

use crate::Metric;
use crate::kernels::{self, CodeKernel};
use crate::slab::Slab;

const CODE_MAX: f32 = 127.0;
const OFFSET: i32 = 128;

pub(crate) struct Codes {
    dimension: usize,
    metric: Metric,
    kernel: CodeKernel,
    /// By slot: the codes, and in the last bytes of the row its `Terms`, so that they come with the same page. Rows are whole
    /// cache lines.
    rows: Slab<u8>,
}

/// What a distance needs of a vector besides its codes. With D the dot product of the integers, the distance is
/// `base + base' + factor * factor' * D`.
#[derive(Clone, Copy)]
struct Terms {
    /// Scale; for cosine over the vector's length.
    factor: f32,
    /// L2: the squared length of what the codes stand for. Otherwise 0.
    base: f32,
    /// Of the integers. Below 2^24, so that an `f32` is exact.
    sum: f32,
}

const TERMS_BYTES: usize = 12;
const CACHE_LINE_BYTES: usize = 64;

/// A vector to which distances are computed.
#[derive(Clone, Copy)]
pub(crate) struct CodedQuery<'a> {
    codes: &'a [u8],
    factor: f32,
    base: f32,
    /// What the offset of the other codes adds to the kernel's result.
    surplus: i32,
}

impl Codes {
    pub fn new(dimension: usize, metric: Metric) -> Codes {
        let row_bytes = (dimension + TERMS_BYTES).next_multiple_of(CACHE_LINE_BYTES);
        Codes { dimension, metric, kernel: kernels::best_for_codes(), rows: Slab::new(row_bytes) }
    }

    pub fn ensure(&self, slot: u32) {
        self.rows.ensure(slot);
    }

    /// Writes a vector's codes.
    ///
    /// # Safety
    /// Nobody reads or writes this slot's codes at the same time.
    pub unsafe fn fill(&self, slot: u32, vector: &[f32], inverse_norm: f32, buffer: &mut Vec<u8>) {
        let Terms { factor, base, sum } = encode(self.metric, vector, inverse_norm, buffer);
        buffer.resize(self.rows.row_bytes() - TERMS_BYTES, 0);
        [factor, base, sum].iter().for_each(|term| buffer.extend(term.to_le_bytes()));
        // SAFETY: as the caller promises.
        unsafe { self.rows.fill(slot, buffer) };
    }

    /// A vector as a query; its codes go into the buffer.
    pub fn query<'a>(&self, vector: &[f32], inverse_norm: f32, buffer: &'a mut Vec<u8>) -> CodedQuery<'a> {
        let terms = encode(self.metric, vector, inverse_norm, buffer);
        self.coded(buffer, terms)
    }

    /// A stored vector as a query.
    #[inline(always)]
    pub fn query_of(&self, slot: u32) -> CodedQuery<'_> {
        let (codes, terms) = self.parts(slot);
        self.coded(codes, terms)
    }

    #[inline(always)]
    fn coded<'a>(&self, codes: &'a [u8], terms: Terms) -> CodedQuery<'a> {
        let (base, factor) = match self.metric {
            Metric::L2 => (terms.base, -2.0 * terms.factor),
            Metric::InnerProduct | Metric::Cosine => (1.0, -terms.factor),
        };
        CodedQuery { codes, factor, base, surplus: OFFSET * terms.sum as i32 }
    }

    #[inline(always)]
    fn parts(&self, slot: u32) -> (&[u8], Terms) {
        let row = self.rows.row(slot);
        let (row, sum) = row.split_last_chunk().expect("a row has its terms");
        let (row, base) = row.split_last_chunk().expect("a row has its terms");
        let (row, factor) = row.split_last_chunk().expect("a row has its terms");
        let [factor, base, sum] = [factor, base, sum].map(|term| f32::from_le_bytes(*term));
        (&row[..self.dimension], Terms { factor, base, sum })
    }

    #[inline(always)]
    pub fn distance(&self, query: &CodedQuery<'_>, slot: u32) -> f32 {
        let (codes, terms) = self.parts(slot);
        let product = (self.kernel)(query.codes, codes) - query.surplus;
        kernels::ordered(query.base + terms.base + query.factor * terms.factor * product as f32)
    }

    pub fn row_bytes(&self) -> usize {
        self.rows.row_bytes()
    }

    /// Cache lines of a row that are worth a prefetch.
    pub fn prefetch_lines(&self) -> usize {
        (self.rows.row_bytes() / CACHE_LINE_BYTES).min(8)
    }

    #[inline(always)]
    pub fn prefetch(&self, slot: u32, lines: usize) {
        self.rows.prefetch(slot, lines);
    }
}

fn encode(metric: Metric, vector: &[f32], inverse_norm: f32, codes: &mut Vec<u8>) -> Terms {
    let largest = vector.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    // A vector of zeros, or of numbers so small that nothing is left of them.
    let steps = if largest >= f32::MIN_POSITIVE { CODE_MAX / largest } else { 0.0 };
    let scale = largest / CODE_MAX;
    codes.clear();
    // Rounding by the addition that leaves no bits for a fraction: half the cost of `round`, and vectorized.
    const ROUNDER: f32 = 12_582_912.0;
    codes.extend(vector.iter().map(|x| {
        let rounded = (x * steps).clamp(-CODE_MAX, CODE_MAX) + (ROUNDER + OFFSET as f32);
        rounded.to_bits() as u8
    }));
    let integers = || codes.iter().map(|&code| i32::from(code) - OFFSET);
    let sum: i32 = integers().sum();
    let (factor, base) = match metric {
        Metric::L2 => {
            let squares: i64 = integers().map(|x| i64::from(x * x)).sum();
            (scale, scale * scale * squares as f32)
        }
        Metric::InnerProduct => (scale, 0.0),
        Metric::Cosine => (scale * inverse_norm, 0.0),
    };
    Terms { factor, base, sum: sum as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        let mixed = |i: u32| (i.wrapping_mul(2_654_435_761) ^ salt).wrapping_mul(2_246_822_519);
        (0..count as u32).map(|i| (mixed(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
    }

    fn coded_distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
        let codes = Codes::new(a.len(), metric);
        codes.ensure(0);
        let mut buffer = Vec::new();
        // SAFETY: one thread.
        unsafe { codes.fill(0, b, kernels::inverse_norm(b), &mut buffer) };
        let distance = codes.distance(&codes.query(a, kernels::inverse_norm(a), &mut buffer), 0);
        codes.ensure(1);
        // SAFETY: as above.
        unsafe { codes.fill(1, a, kernels::inverse_norm(a), &mut Vec::new()) };
        assert_eq!(codes.distance(&codes.query_of(1), 0), distance, "stored or not, a query is the same");
        distance
    }

    #[test]
    fn distances_between_codes_are_near_the_true_ones() {
        for length in [1, 3, 64, 100, 384, 1536] {
            let (a, b) = (numbers(length, 3), numbers(length, 4));
            for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
                for scale in [1.0, 1e-15, 1e15] {
                    let (a, b): (Vec<f32>, Vec<f32>) =
                        (a.iter().map(|x| x * scale).collect(), b.iter().map(|x| x * scale).collect());
                    let (near, exact) = (coded_distance(metric, &a, &b), kernels::distance(metric, &a, &b));
                    let size = match metric {
                        Metric::Cosine => 1.0,
                        _ => 1.0 + length as f32 * scale * scale,
                    };
                    assert!(
                        (near - exact).abs() <= 0.01 * size,
                        "{metric:?} {length} {scale}: {near}, {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn zero_tiny_and_huge_vectors_have_distances_with_an_order() {
        let zero = [0.0; 70];
        assert_eq!(coded_distance(Metric::Cosine, &zero, &numbers(70, 1)), 1.0);
        assert_eq!(coded_distance(Metric::L2, &zero, &zero), 0.0);
        for x in [f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45] {
            for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
                let distance = coded_distance(metric, &[x; 70], &[-x; 70]);
                assert!(!distance.is_nan(), "{metric:?} {x}");
            }
        }
    }
}
