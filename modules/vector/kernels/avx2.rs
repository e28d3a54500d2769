//! AVX2 with FMA: 32 components a round in four accumulators, the tail one by one.

use std::arch::x86_64::*;

use super::Kernels;

pub(crate) fn detect() -> Option<Kernels> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Kernels {
        name: "avx2",
        dot,
        l2_squared,
    })
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
