//! AVX-512F: 64 components a round in four accumulators, a masked load for the tail. Codes with VNNI, 64 an instruction.

use std::arch::x86_64::*;

use super::{CodeKernel, Kernels};

pub(crate) fn detect() -> Option<Kernels> {
    is_x86_feature_detected!("avx512f").then_some(Kernels { name: "avx512", dot, l2_squared })
}

pub(crate) fn detect_for_codes() -> Option<(&'static str, CodeKernel)> {
    let has_all = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni");
    has_all.then_some(("avx512vnni", code_dot))
}

fn code_dot(a: &[u8], b: &[u8]) -> i32 {
    // SAFETY: `detect_for_codes` hands this function out only where these instructions are; both pointers are good for
    // `length` codes.
    unsafe { code_dot_unchecked(a.as_ptr(), b.as_ptr(), a.len().min(b.len())) }
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

/// # Safety
/// Both pointers are good for `length` codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn code_dot_unchecked(a: *const u8, b: *const u8, length: usize) -> i32 {
    // With its top bit flipped, a code is the signed number that it stands for.
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_si512(); 2];
    let mut at = 0;
    while at + 128 <= length {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: 128 codes from `at` are within both rows.
            let (x, y) = unsafe {
                (
                    _mm512_loadu_si512(a.add(at + 64 * lane).cast()),
                    _mm512_loadu_si512(b.add(at + 64 * lane).cast()),
                )
            };
            *sum = _mm512_dpbusd_epi32(*sum, y, _mm512_xor_si512(x, flip));
        }
        at += 128;
    }
    while at < length {
        let left = length - at;
        let mask = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        // SAFETY: the mask keeps to the codes that are left; masked-out ones are not read.
        let x = unsafe { _mm512_maskz_loadu_epi8(mask, a.add(at).cast()) };
        // SAFETY: as above. Masked-out codes are 0, and so are their products.
        let y = unsafe { _mm512_maskz_loadu_epi8(mask, b.add(at).cast()) };
        sums[0] = _mm512_dpbusd_epi32(sums[0], y, _mm512_xor_si512(x, flip));
        at += 64;
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}
