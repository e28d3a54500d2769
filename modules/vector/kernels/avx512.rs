//! AVX-512F: 64 components a round in four accumulators, a masked load for the tail.

use std::arch::x86_64::*;

use super::Kernels;

pub(crate) fn detect() -> Option<Kernels> {
    is_x86_feature_detected!("avx512f").then_some(Kernels { name: "avx512", dot, l2_squared })
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: `detect` hands this function out only on processors with AVX-512F; both pointers are good for `length`.
    unsafe { dot_unchecked(a.as_ptr(), b.as_ptr(), a.len().min(b.len())) }
}

fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: as for `dot`.
    unsafe { l2_squared_unchecked(a.as_ptr(), b.as_ptr(), a.len().min(b.len())) }
}

/// The loop that both share: `$step` folds two registers into an accumulator.
macro_rules! fold {
    ($a:ident, $b:ident, $length:ident, $step:expr) => {{
        let mut sums = [_mm512_setzero_ps(); 4];
        let mut at = 0;
        while at + 64 <= $length {
            for (lane, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 64 components from `at` are within both vectors.
                let (x, y) = unsafe {
                    (_mm512_loadu_ps($a.add(at + 16 * lane)), _mm512_loadu_ps($b.add(at + 16 * lane)))
                };
                *sum = $step(x, y, *sum);
            }
            at += 64;
        }
        let mut lane = 0;
        while at < $length {
            let left = $length - at;
            let mask = if left >= 16 { u16::MAX } else { (1 << left) - 1 };
            // SAFETY: the mask keeps to the components that are left; masked-out ones are not read.
            let x = unsafe { _mm512_maskz_loadu_ps(mask, $a.add(at)) };
            // SAFETY: as above.
            let y = unsafe { _mm512_maskz_loadu_ps(mask, $b.add(at)) };
            sums[lane & 3] = $step(x, y, sums[lane & 3]);
            lane += 1;
            at += 16;
        }
        let low = _mm512_add_ps(sums[0], sums[1]);
        let high = _mm512_add_ps(sums[2], sums[3]);
        _mm512_reduce_add_ps(_mm512_add_ps(low, high))
    }};
}

/// # Safety
/// Both pointers are good for `length` components.
#[target_feature(enable = "avx512f")]
unsafe fn dot_unchecked(a: *const f32, b: *const f32, length: usize) -> f32 {
    fold!(a, b, length, |x, y, sum| _mm512_fmadd_ps(x, y, sum))
}

/// # Safety
/// Both pointers are good for `length` components.
#[target_feature(enable = "avx512f")]
unsafe fn l2_squared_unchecked(a: *const f32, b: *const f32, length: usize) -> f32 {
    fold!(a, b, length, |x, y, sum| {
        let difference = _mm512_sub_ps(x, y);
        _mm512_fmadd_ps(difference, difference, sum)
    })
}
