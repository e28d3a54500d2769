//! Vectors with elements other than `f32`: conversion to numbers, and distance kernels.
//!
//! Half floats are widened to `f32` and summed in `f32`. Bytes are summed as integers, which is exact. `f64`
//! is summed in `f64` and rounded at the end, because walks need no more precision. Each kernel is one loop,
//! compiled twice: for AVX2 with FMA and F16C, and for the baseline.

#![allow(unsafe_code, reason = "distance kernels: vector instructions")]

use super::{Kernel, best};
use crate::{Element, Metric};
use half::{bf16, f16};
use std::ops::RangeInclusive;

impl Element {
    /// The kernel that computes this metric.
    pub(crate) fn kernel(self, metric: Metric) -> Kernel {
        if self == Element::F32 {
            return if metric == Metric::L2 { best().l2_squared } else { best().dot };
        }
        let sets = if has_avx2() { &FAST } else { &PLAIN };
        let [dot, l2_squared] = sets[self as usize];
        if metric == Metric::L2 { l2_squared } else { dot }
    }

    /// Appends the components as floats; a component too large for a float becomes the largest float.
    pub(crate) fn widen(self, vector: &[u8], out: &mut Vec<f32>) {
        match self {
            Element::F32 => out.extend(each(vector, f32::from_le_bytes)),
            Element::F64 => {
                out.extend(each(vector, |b| {
                    f64::from_le_bytes(b).clamp(f32::MIN.into(), f32::MAX.into()) as f32
                }));
            }
            Element::F16 => out.extend(each(vector, |b| f16::from_le_bytes(b).to_f32())),
            Element::Bf16 => out.extend(each(vector, |b| bf16::from_le_bytes(b).to_f32())),
            Element::I8 => out.extend(vector.iter().map(|&b| f32::from(b as i8))),
            Element::U8 => out.extend(vector.iter().map(|&b| f32::from(b))),
        }
    }

    /// The vector with these components; `None` if one of them is out of the element's range, or no whole
    /// number where the element is an integer.
    pub fn encode(self, components: &[f64]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(components.len() * self.bytes());
        match self {
            Element::F32 => components.iter().for_each(|&x| bytes.extend((x as f32).to_le_bytes())),
            Element::F64 => components.iter().for_each(|&x| bytes.extend(x.to_le_bytes())),
            Element::F16 => components.iter().for_each(|&x| bytes.extend(f16::from_f64(x).to_le_bytes())),
            Element::Bf16 => components.iter().for_each(|&x| bytes.extend(bf16::from_f64(x).to_le_bytes())),
            Element::I8 => bytes.extend(components.iter().map(|&x| x as i8 as u8)),
            Element::U8 => bytes.extend(components.iter().map(|&x| x as u8)),
        }
        let is_exact = match self {
            Element::I8 => components.iter().all(|&x| f64::from(x as i8) == x),
            Element::U8 => components.iter().all(|&x| f64::from(x as u8) == x),
            _ => self.is_finite(&bytes),
        };
        is_exact.then_some(bytes)
    }

    /// Whether all components are finite numbers.
    pub fn is_finite(self, vector: &[u8]) -> bool {
        // No early return, because that would prevent vectorization.
        match self {
            Element::F32 => each(vector, f32::from_le_bytes).fold(true, |all, x| all & x.is_finite()),
            Element::F64 => each(vector, f64::from_le_bytes).fold(true, |all, x| all & x.is_finite()),
            Element::F16 => each(vector, f16::from_le_bytes).fold(true, |all, x| all & x.is_finite()),
            Element::Bf16 => each(vector, bf16::from_le_bytes).fold(true, |all, x| all & x.is_finite()),
            Element::I8 | Element::U8 => true,
        }
    }

    /// One over the Euclidean length; 0 for a zero vector, which puts it at cosine distance 1 from every
    /// vector. A length outside the range of `f32` is replaced by the nearest one within; `is_plain` is false
    /// for those, and products must not be multiplied by them. The sum is computed in `f64`, where squares of
    /// finite `f32`s neither overflow nor vanish.
    pub(crate) fn inverse_norm(self, vector: &[u8]) -> f32 {
        let squared = match self {
            Element::F32 => squares(vector, |b| f32::from_le_bytes(b).into()),
            Element::F64 => squares(vector, f64::from_le_bytes),
            Element::F16 => squares(vector, |b| f16::from_le_bytes(b).to_f64()),
            Element::Bf16 => squares(vector, |b| bf16::from_le_bytes(b).to_f64()),
            Element::I8 => squares(vector, |[b]| f64::from(b as i8)),
            Element::U8 => squares(vector, |[b]| f64::from(b)),
        };
        let inverse = match SQUARES_OF_DOUBLES.contains(&squared) {
            true => 1.0 / squared.sqrt(),
            false if self == Element::F64 => {
                let peak = peak(vector, f64::from_le_bytes);
                let in_peaks = each(vector, f64::from_le_bytes).map(|x| (x / peak) * (x / peak)).sum::<f64>();
                if peak > 0.0 { 1.0 / peak / in_peaks.sqrt() } else { return 0.0 }
            }
            false => return 0.0,
        };
        inverse.clamp(f32::MIN_POSITIVE.into(), f32::MAX.into()) as f32
    }

    /// As `widen`, for the vector divided by its length.
    pub(crate) fn widen_direction(self, vector: &[u8], out: &mut Vec<f32>) {
        match self {
            Element::F32 => direction(vector, |b| f32::from_le_bytes(b).into(), out),
            Element::F64 => direction(vector, f64::from_le_bytes, out),
            Element::F16 => direction(vector, |b| f16::from_le_bytes(b).to_f64(), out),
            Element::Bf16 => direction(vector, |b| bf16::from_le_bytes(b).to_f64(), out),
            Element::I8 => direction(vector, |[b]| f64::from(b as i8), out),
            Element::U8 => direction(vector, |[b]| f64::from(b), out),
        }
    }

    /// The cosine distance of any two finite vectors, in `f64`. Each vector is divided by its largest
    /// component, since the angle does not depend on lengths.
    #[cold]
    pub(crate) fn cosine_distance(self, a: &[u8], b: &[u8]) -> f64 {
        match self {
            Element::F32 => cosine(a, b, |b| f32::from_le_bytes(b).into()),
            Element::F64 => cosine(a, b, f64::from_le_bytes),
            Element::F16 => cosine(a, b, |b| f16::from_le_bytes(b).to_f64()),
            Element::Bf16 => cosine(a, b, |b| bf16::from_le_bytes(b).to_f64()),
            Element::I8 => cosine(a, b, |[b]| f64::from(b as i8)),
            Element::U8 => cosine(a, b, |[b]| f64::from(b)),
        }
    }
}

/// Sums of squares of doubles in which no significant square has overflowed or vanished.
const SQUARES_OF_DOUBLES: RangeInclusive<f64> = 1e-250..=1e250;

/// The same for two sums that are multiplied.
const SQUARES_OF_DOUBLES_MULTIPLIED: RangeInclusive<f64> = 1e-200..=1e200;

/// Whether products of vectors may be divided by this length (given as its inverse) in `f32`. Products of
/// longer vectors overflow, those of shorter ones vanish.
#[inline(always)]
pub(crate) fn is_plain(inverse_norm: f32) -> bool {
    (1e-15..=1e15).contains(&inverse_norm)
}

/// The largest absolute component.
fn peak<const N: usize>(vector: &[u8], element: impl Fn([u8; N]) -> f64) -> f64 {
    each(vector, element).fold(0.0, |peak, x| peak.max(x.abs()))
}

fn direction<const N: usize>(vector: &[u8], element: impl Fn([u8; N]) -> f64 + Copy, out: &mut Vec<f32>) {
    let peak = peak(vector, element);
    let unit = if peak > 0.0 { peak } else { 1.0 };
    let squares: f64 = each(vector, element).map(|x| (x / unit) * (x / unit)).sum();
    let length = if squares > 0.0 { squares.sqrt() } else { 1.0 };
    out.extend(each(vector, element).map(|x| (x / unit / length) as f32));
}

fn cosine<const N: usize>(a: &[u8], b: &[u8], element: impl Fn([u8; N]) -> f64 + Copy) -> f64 {
    let peaks = [peak(a, element), peak(b, element)];
    if peaks.contains(&0.0) {
        return 1.0;
    }
    let (mut dot, mut squares) = (0.0, [0.0; 2]);
    for (x, y) in each(a, element).zip(each(b, element)) {
        let (x, y) = (x / peaks[0], y / peaks[1]);
        dot += x * y;
        squares[0] += x * x;
        squares[1] += y * y;
    }
    1.0 - dot / squares[0].sqrt() / squares[1].sqrt()
}

/// As `distance_of`, for `f64` elements.
pub(crate) fn distance_f64(metric: Metric, a: &[u8], b: &[u8]) -> f64 {
    let pairs = || each(a, f64::from_le_bytes).zip(each(b, f64::from_le_bytes));
    let dot = || pairs().map(|(x, y)| x * y).sum::<f64>();
    let distance = match metric {
        Metric::L2 => pairs().map(|(x, y)| (x - y) * (x - y)).sum(),
        Metric::InnerProduct => 1.0 - dot(),
        Metric::Cosine => {
            let squares = [a, b].map(|vector| squares(vector, f64::from_le_bytes));
            match squares.iter().all(|squares| SQUARES_OF_DOUBLES_MULTIPLIED.contains(squares)) {
                true => 1.0 - dot() / squares[0].sqrt() / squares[1].sqrt(),
                false => Element::F64.cosine_distance(a, b),
            }
        }
    };
    if distance.is_nan() { f64::INFINITY } else { distance }
}

fn each<const N: usize, T>(vector: &[u8], element: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    vector.as_chunks().0.iter().map(move |&bytes| element(bytes))
}

fn squares<const N: usize>(vector: &[u8], element: impl Fn([u8; N]) -> f64) -> f64 {
    let (chunks, rest) = vector.as_chunks::<N>().0.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for chunk in chunks {
        for (sum, &bytes) in sums.iter_mut().zip(chunk) {
            let x = element(bytes);
            *sum += x * x;
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&bytes| element(bytes) * element(bytes)).sum::<f64>()
}

/// The loop of all kernels: sixteen independent sums, so that no addition waits for another.
macro_rules! fold {
    ($name:ident, $bytes:literal, $sum:ty, $element:expr, $term:expr) => {
        #[inline(always)]
        fn $name(a: &[u8], b: &[u8]) -> f32 {
            let ((a, a_rest), (b, b_rest)) =
                (a.as_chunks::<$bytes>().0.as_chunks::<16>(), b.as_chunks::<$bytes>().0.as_chunks::<16>());
            let term = |x: &[u8; $bytes], y: &[u8; $bytes]| -> $sum { $term($element(*x), $element(*y)) };
            let mut sums = [<$sum>::default(); 16];
            for (a, b) in a.iter().zip(b) {
                for lane in 0..16 {
                    sums[lane] += term(&a[lane], &b[lane]);
                }
            }
            (sums.iter().sum::<$sum>() + a_rest.iter().zip(b_rest).map(|(x, y)| term(x, y)).sum::<$sum>())
                as f32
        }
    };
}

macro_rules! folds {
    ($dot:ident, $l2:ident, $bytes:literal, $sum:ty, $element:expr) => {
        fold!($dot, $bytes, $sum, $element, |x: $sum, y: $sum| x * y);
        fold!($l2, $bytes, $sum, $element, |x: $sum, y: $sum| (x - y) * (x - y));
    };
}

folds!(dot_f64, l2_f64, 8, f64, f64::from_le_bytes);
folds!(dot_bf16, l2_bf16, 2, f32, |b| bf16::from_le_bytes(b).to_f32());
// The largest sum, of 65,536 squares of 255, is below 2^32.
fold!(dot_i8, 1, i32, |[b]: [u8; 1]| i32::from(b as i8), |x: i32, y: i32| x * y);
fold!(l2_i8, 1, u32, |[b]: [u8; 1]| i32::from(b as i8), |x: i32, y: i32| x.abs_diff(y) * x.abs_diff(y));
fold!(dot_u8, 1, u32, |[b]: [u8; 1]| u32::from(b), |x: u32, y: u32| x * y);
fold!(l2_u8, 1, u32, |[b]: [u8; 1]| u32::from(b), |x: u32, y: u32| x.abs_diff(y) * x.abs_diff(y));

/// Halves are widened sixteen at a time, with an instruction that compilers do not generate from a loop.
#[inline(always)]
fn fold_f16(
    a: &[u8],
    b: &[u8],
    widen: impl Fn(&[u8; 32]) -> [f32; 16],
    term: impl Fn(f32, f32) -> f32,
) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    let mut sums = [0.0; 16];
    for (a, b) in a.iter().zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(widen(a)).zip(widen(b)) {
            *sum += term(x, y);
        }
    }
    let half = |bytes| f16::from_le_bytes(bytes).to_f32();
    sums.iter().sum::<f32>()
        + each(a_rest, half).zip(each(b_rest, half)).map(|(x, y)| term(x, y)).sum::<f32>()
}

fn widen_plain(halves: &[u8; 32]) -> [f32; 16] {
    std::array::from_fn(|lane| f16::from_le_bytes([halves[2 * lane], halves[2 * lane + 1]]).to_f32())
}

fn dot_f16(a: &[u8], b: &[u8]) -> f32 {
    fold_f16(a, b, widen_plain, |x, y| x * y)
}

fn l2_f16(a: &[u8], b: &[u8]) -> f32 {
    fold_f16(a, b, widen_plain, |x, y| (x - y) * (x - y))
}

/// Dot product and squared Euclidean distance, in the order of `Element` (its first variant, `F32`, is served
/// elsewhere).
type Sets = [[Kernel; 2]; 6];

static PLAIN: Sets = [
    [dot_f64, l2_f64],
    [dot_f64, l2_f64],
    [dot_f16, l2_f16],
    [dot_bf16, l2_bf16],
    [dot_i8, l2_i8],
    [dot_u8, l2_u8],
];

#[cfg(target_arch = "x86_64")]
use avx2::{FAST, has_avx2};

#[cfg(not(target_arch = "x86_64"))]
use PLAIN as FAST;

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Sets, fold_f16};
    use std::arch::x86_64::{__m128i, _mm256_cvtph_ps};

    pub fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }

    macro_rules! compiled_for_avx2 {
        ($($name:ident: $body:expr;)*) => {$(
            fn $name(a: &[u8], b: &[u8]) -> f32 {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn run(a: &[u8], b: &[u8]) -> f32 {
                    $body(a, b)
                }
                // SAFETY: `has_avx2` is checked before `FAST` is used.
                unsafe { run(a, b) }
            }
        )*};
    }

    #[target_feature(enable = "f16c")]
    #[inline]
    fn widen(halves: &[u8; 32]) -> [f32; 16] {
        // SAFETY: sixteen halves are two registers of eight halves, and sixteen floats are two registers of
        // eight floats; both are plain bits.
        unsafe {
            let [low, high] = std::mem::transmute::<[u8; 32], [__m128i; 2]>(*halves);
            std::mem::transmute([_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)])
        }
    }

    compiled_for_avx2! {
        dot_f64: super::dot_f64;
        l2_f64: super::l2_f64;
        dot_f16: |a, b| fold_f16(a, b, |halves| widen(halves), |x, y| x * y);
        l2_f16: |a, b| fold_f16(a, b, |halves| widen(halves), |x, y| (x - y) * (x - y));
        dot_bf16: super::dot_bf16;
        l2_bf16: super::l2_bf16;
        dot_i8: super::dot_i8;
        l2_i8: super::l2_i8;
        dot_u8: super::dot_u8;
        l2_u8: super::l2_u8;
    }

    pub static FAST: Sets = [
        [dot_f64, l2_f64],
        [dot_f64, l2_f64],
        [dot_f16, l2_f16],
        [dot_bf16, l2_bf16],
        [dot_i8, l2_i8],
        [dot_u8, l2_u8],
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance_of;

    const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

    /// A vector of this element type, and the values of its components.
    fn vector(element: Element, length: usize, salt: u32) -> (Vec<u8>, Vec<f64>) {
        let mut bytes = Vec::new();
        let mut numbers = Vec::new();
        for i in 0..length as u32 {
            let mixed = (i.wrapping_mul(2_654_435_761) ^ salt).wrapping_mul(2_246_822_519);
            let x = f64::from(mixed >> 8) / 8_388_608.0 - 1.0;
            numbers.push(match element {
                Element::F32 => (bytes.extend((x as f32).to_le_bytes()), f64::from(x as f32)).1,
                Element::F64 => (bytes.extend(x.to_le_bytes()), x).1,
                Element::F16 => (bytes.extend(f16::from_f64(x).to_le_bytes()), f16::from_f64(x).to_f64()).1,
                Element::Bf16 => {
                    (bytes.extend(bf16::from_f64(x).to_le_bytes()), bf16::from_f64(x).to_f64()).1
                }
                Element::I8 => (bytes.push((mixed >> 24) as u8), f64::from((mixed >> 24) as u8 as i8)).1,
                Element::U8 => (bytes.push((mixed >> 24) as u8), f64::from((mixed >> 24) as u8)).1,
            });
        }
        (bytes, numbers)
    }

    #[test]
    fn every_element_has_the_distances_that_f64_arithmetic_gives() {
        for element in Element::ALL {
            for length in (1..=70).chain([384, 511, 1536]) {
                let ((a, x), (b, y)) = (vector(element, length, 1), vector(element, length, 77));
                let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
                for metric in METRICS {
                    let expected = match metric {
                        Metric::L2 => x.iter().zip(&y).map(|(x, y)| (x - y) * (x - y)).sum(),
                        Metric::InnerProduct => 1.0 - dot(&x, &y),
                        Metric::Cosine => 1.0 - dot(&x, &y) / dot(&x, &x).sqrt() / dot(&y, &y).sqrt(),
                    };
                    let got = distance_of(element, metric, &a, &b);
                    let size = if metric == Metric::Cosine { 1.0 } else { dot(&x, &x) + dot(&y, &y) };
                    let tolerance = if element == Element::F64 { 1e-12 } else { 1e-6 };
                    assert!(
                        (got - expected).abs() <= tolerance * size,
                        "{element:?} {metric:?} {length}: {got}, {expected}"
                    );
                    for set in [&PLAIN, &FAST].into_iter().filter(|_| element != Element::F32 && has_avx2()) {
                        let raw = set[element as usize][usize::from(metric == Metric::L2)](&a, &b);
                        let raw_expected = if metric == Metric::L2 { expected } else { dot(&x, &y) };
                        let off = (f64::from(raw) - raw_expected).abs();
                        assert!(off <= 1e-6 * (dot(&x, &x) + dot(&y, &y)), "{element:?} {metric:?} {length}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_longest_vectors_of_bytes_do_not_overflow() {
        let (low, high) = (vec![0; 65_536], vec![255; 65_536]);
        assert_eq!(distance_of(Element::U8, Metric::L2, &low, &high), 4_261_478_400.0);
        assert_eq!(distance_of(Element::U8, Metric::InnerProduct, &high, &high), -4_261_478_400.0);
        let lowest = vec![128; 65_536];
        assert_eq!(distance_of(Element::I8, Metric::InnerProduct, &lowest, &lowest), -1_073_741_824.0);
        let highest = vec![127; 65_536];
        assert_eq!(distance_of(Element::I8, Metric::L2, &lowest, &highest), 4_261_478_400.0);
    }

    #[test]
    fn components_that_are_not_finite_are_detected() {
        for (element, bytes) in [
            (Element::F32, f32::NAN.to_le_bytes().to_vec()),
            (Element::F64, f64::INFINITY.to_le_bytes().to_vec()),
            (Element::F16, f16::NEG_INFINITY.to_le_bytes().to_vec()),
            (Element::Bf16, bf16::NAN.to_le_bytes().to_vec()),
        ] {
            assert!(!element.is_finite(&bytes), "{element:?}");
            assert!(element.is_finite(&vec![0; bytes.len() * 20]), "{element:?}");
        }
    }
}
