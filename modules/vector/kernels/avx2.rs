//! AVX2 with FMA: 32 components a round in four accumulators, the tail one by one. Codes are widened to 16 bits, because the
//! instruction that multiplies bytes saturates.

use std::arch::x86_64::*;

use super::{CodeKernel, Kernels, scalar};

pub(crate) fn detect() -> Option<Kernels> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Kernels {
        name: "avx2",
        dot,
        l2_squared,
    })
}

pub(crate) fn detect_for_codes() -> Option<(&'static str, CodeKernel)> {
    is_x86_feature_detected!("avx2").then_some(("avx2", code_dot))
}

fn code_dot(a: &[u8], b: &[u8]) -> i32 {
    let whole = a.len().min(b.len()) / 16 * 16;
    // SAFETY: `detect_for_codes` hands this function out only on processors with AVX2; both pointers are good for `whole`
    // codes.
    let sum = unsafe { code_dot_unchecked(a.as_ptr(), b.as_ptr(), whole) };
    sum + scalar::code_dot(&a[whole..], &b[whole..])
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: `detect` hands this function out only on processors with AVX2 and FMA; both pointers are good for
    // `length` components.
    unsafe { dot_unchecked(a.as_ptr(), b.as_ptr(), a.len().min(b.len())) }
}

fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: as for `dot`.
    unsafe { l2_squared_unchecked(a.as_ptr(), b.as_ptr(), a.len().min(b.len())) }
}

/// The loop that both share: `$step` folds two registers into an accumulator, `$term` two components into a number.
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
            let (x, y) = unsafe { (*$a.add(at), *$b.add(at)) };
            total += $term(x, y);
            at += 1;
        }
        total
    }};
}

/// # Safety
/// Both pointers are good for `length` components.
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_unchecked(a: *const f32, b: *const f32, length: usize) -> f32 {
    fold!(a, b, length, |x, y, sum| _mm256_fmadd_ps(x, y, sum), |x: f32, y: f32| x * y)
}

/// # Safety
/// Both pointers are good for `length` components.
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

/// # Safety
/// Both pointers are good for `length` codes, a multiple of 16.
#[target_feature(enable = "avx2")]
unsafe fn code_dot_unchecked(a: *const u8, b: *const u8, length: usize) -> i32 {
    let offset = _mm256_set1_epi16(128);
    let mut sum = _mm256_setzero_si256();
    for at in (0..length).step_by(16) {
        // SAFETY: 16 codes from `at` are within both rows.
        let (x, y) = unsafe { (_mm_loadu_si128(a.add(at).cast()), _mm_loadu_si128(b.add(at).cast())) };
        let x = _mm256_sub_epi16(_mm256_cvtepu8_epi16(x), offset);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, _mm256_cvtepu8_epi16(y)));
    }
    let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
    _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter)))
}
