//! AVX2 with FMA: 32 components per iteration in four accumulators, and the tail one by one. Codes are
//! widened to 16 bits, because the instruction that multiplies bytes saturates.

#![allow(unsafe_code, reason = "distance kernels: vector instructions")]

use std::arch::x86_64::*;

use super::Width;
use super::{CodeKernel, CodeKernels, Kernels, scalar};

pub(crate) fn detect() -> Option<Kernels> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Kernels {
        name: "avx2",
        dot,
        l2_squared,
    })
}

pub(crate) fn detect_for_codes(width: Width) -> Option<CodeKernels> {
    let has_all = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
    let (query, row): (CodeKernel, CodeKernel) = match width {
        Width::Eight => (query_dot_8, row_dot_8),
        Width::Four => (query_dot_4, row_dot_4),
        Width::One => (query_dot_1, row_dot_1),
    };
    has_all.then_some(CodeKernels { name: "avx2", query, row })
}

/// A kernel for codes: the checked function, and the loop over pieces of `$a_bytes` of the first operand and
/// `$b_bytes` of the second. `$term` computes eight sums from two pieces.
macro_rules! code_kernel {
    ($name:ident, $a_bytes:literal, $b_bytes:literal, $term:expr) => {
        fn $name(a: &[u8], b: &[u8]) -> i32 {
            #[target_feature(enable = "avx2,popcnt")]
            fn run(a: &[u8], b: &[u8]) -> i32 {
                let mut sum = _mm256_setzero_si256();
                for (a, b) in a.as_chunks::<$a_bytes>().0.iter().zip(b.as_chunks::<$b_bytes>().0) {
                    sum = _mm256_add_epi32(sum, $term(a, b));
                }
                let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
                let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
                _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter)))
            }
            // SAFETY: `detect_for_codes` returns this function only on processors with AVX2 and POPCNT.
            unsafe { run(a, b) }
        }
    };
}

code_kernel!(query_dot_8, 16, 16, |q: &[u8; 16], u: &[u8; 16]| {
    _mm256_madd_epi16(_mm256_cvtepi8_epi16(load_16(q)), _mm256_cvtepu8_epi16(load_16(u)))
});
code_kernel!(row_dot_8, 16, 16, |a: &[u8; 16], b: &[u8; 16]| {
    let a = _mm256_sub_epi16(_mm256_cvtepu8_epi16(load_16(a)), _mm256_set1_epi16(128));
    _mm256_madd_epi16(a, _mm256_cvtepu8_epi16(load_16(b)))
});
code_kernel!(query_dot_4, 128, 64, |q: &[u8; 128], u: &[u8; 64]| {
    let [q0, q1, q2, q3] = *q.as_chunks::<32>().0 else { unreachable!("128 bytes are four times 32") };
    let [u0, u1] = *u.as_chunks::<32>().0 else { unreachable!("64 bytes are twice 32") };
    let ((low_0, high_0), (low_1, high_1)) = (halves(load_32(&u0)), halves(load_32(&u1)));
    // Four products of at most 15 and 127, added in pairs, stay within 16 bits.
    let first = _mm256_add_epi16(
        _mm256_maddubs_epi16(low_0, load_32(&q0)),
        _mm256_maddubs_epi16(low_1, load_32(&q1)),
    );
    let second = _mm256_add_epi16(
        _mm256_maddubs_epi16(high_0, load_32(&q2)),
        _mm256_maddubs_epi16(high_1, load_32(&q3)),
    );
    _mm256_madd_epi16(_mm256_add_epi16(first, second), _mm256_set1_epi16(1))
});
code_kernel!(row_dot_4, 32, 32, |a: &[u8; 32], b: &[u8; 32]| {
    let ((a_low, a_high), (b_low, b_high)) = (halves(load_32(a)), halves(load_32(b)));
    let sums = _mm256_add_epi16(_mm256_maddubs_epi16(a_low, b_low), _mm256_maddubs_epi16(a_high, b_high));
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
});
code_kernel!(query_dot_1, 32, 4, |q: &[u8; 32], u: &[u8; 4]| {
    // Each byte of the register gets the byte of `bits` that contains its bit.
    let bits = _mm256_set1_epi32(i32::from_le_bytes(*u));
    let spread = _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
    let own = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let mask = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, spread), own), own);
    let sums = _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_and_si256(load_32(q), mask));
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
});

fn row_dot_1(a: &[u8], b: &[u8]) -> i32 {
    #[target_feature(enable = "avx2,popcnt")]
    fn run(a: &[u8], b: &[u8]) -> i32 {
        scalar::row_dot_1(a, b)
    }
    // SAFETY: as above.
    unsafe { run(a, b) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: sixteen bytes, of any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: thirty-two bytes, of any alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The low and the high half of each byte.
#[target_feature(enable = "avx2")]
#[inline]
fn halves(bytes: __m256i) -> (__m256i, __m256i) {
    let low = _mm256_set1_epi8(15);
    (_mm256_and_si256(bytes, low), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low))
}

fn dot(a: &[u8], b: &[u8]) -> f32 {
    // SAFETY: `detect` returns this function only on processors with AVX2 and FMA; both pointers are valid
    // for this many floats.
    unsafe { dot_unchecked(a.as_ptr().cast(), b.as_ptr().cast(), a.len().min(b.len()) / 4) }
}

fn l2_squared(a: &[u8], b: &[u8]) -> f32 {
    // SAFETY: as for `dot`.
    unsafe { l2_squared_unchecked(a.as_ptr().cast(), b.as_ptr().cast(), a.len().min(b.len()) / 4) }
}

/// The loop of both kernels: `$step` folds two registers into an accumulator, `$term` two components into a
/// number.
macro_rules! fold {
    ($a:ident, $b:ident, $length:ident, $step:expr, $term:expr) => {{
        let mut sums = [_mm256_setzero_ps(); 4];
        let mut at = 0;
        while at + 32 <= $length {
            for (lane, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 32 components from `at` are within both vectors.
                let (x, y) = unsafe {
                    (_mm256_loadu_ps($a.add(at + 8 * lane)), _mm256_loadu_ps($b.add(at + 8 * lane)))
                };
                *sum = $step(x, y, *sum);
            }
            at += 32;
        }
        while at + 8 <= $length {
            // SAFETY: 8 components from `at` are within both vectors.
            let (x, y) = unsafe { (_mm256_loadu_ps($a.add(at)), _mm256_loadu_ps($b.add(at))) };
            sums[0] = $step(x, y, sums[0]);
            at += 8;
        }
        let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        let half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
        let mut total = _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
        while at < $length {
            // SAFETY: `at` is within both vectors.
            let (x, y) = unsafe { ($a.add(at).read_unaligned(), $b.add(at).read_unaligned()) };
            total += $term(x, y);
            at += 1;
        }
        total
    }};
}

/// # Safety
/// Both pointers are valid for `length` components, of any alignment.
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_unchecked(a: *const f32, b: *const f32, length: usize) -> f32 {
    fold!(a, b, length, |x, y, sum| _mm256_fmadd_ps(x, y, sum), |x: f32, y: f32| x * y)
}

/// # Safety
/// Both pointers are valid for `length` components, of any alignment.
#[target_feature(enable = "avx2,fma")]
unsafe fn l2_squared_unchecked(a: *const f32, b: *const f32, length: usize) -> f32 {
    fold!(
        a,
        b,
        length,
        |x, y, sum| {
            let difference = _mm256_sub_ps(x, y);
            _mm256_fmadd_ps(difference, difference, sum)
        },
        |x: f32, y: f32| (x - y) * (x - y)
    )
}
