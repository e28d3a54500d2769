//! AVX-512F: 64 components per iteration in four accumulators, and a masked load for the tail. Codes use
//! VNNI, 64 components per instruction.

#![allow(unsafe_code, reason = "distance kernels: vector instructions")]

use std::arch::x86_64::*;

use super::Width;
use super::{CodeKernel, CodeKernels, Kernels, scalar};

pub(crate) fn detect() -> Option<Kernels> {
    is_x86_feature_detected!("avx512f").then_some(Kernels { name: "avx512", dot, l2_squared })
}

pub(crate) fn detect_for_codes(width: Width) -> Option<CodeKernels> {
    let has_all = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni");
    let (query, row): (CodeKernel, CodeKernel) = match width {
        Width::Eight => (query_dot_8, row_dot_8),
        Width::Four => (query_dot_4, row_dot_4),
        Width::One => (query_dot_1, row_dot_1),
    };
    has_all.then_some(CodeKernels { name: "avx512vnni", query, row })
}

/// A kernel for codes: the checked function, and the loop over blocks of 128 components, which are `$a_bytes`
/// of the first operand and `$b_bytes` of the second. `$step` adds one block to two registers of sums.
macro_rules! code_kernel {
    ($name:ident, $a_bytes:literal, $b_bytes:literal, $step:expr) => {
        fn $name(a: &[u8], b: &[u8]) -> i32 {
            #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
            fn run(a: &[u8], b: &[u8]) -> i32 {
                let mut sums = [_mm512_setzero_si512(); 2];
                for (a, b) in a.as_chunks::<$a_bytes>().0.iter().zip(b.as_chunks::<$b_bytes>().0) {
                    sums = $step(a, b, sums);
                }
                _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
            }
            // SAFETY: `detect_for_codes` returns this function only on processors with these instructions.
            unsafe { run(a, b) }
        }
    };
}

type Sums = [__m512i; 2];

code_kernel!(query_dot_8, 128, 128, |q: &[u8; 128], u: &[u8; 128], [low, high]: Sums| {
    let ([q0, q1], [u0, u1]) = (load_128(q), load_128(u));
    [_mm512_dpbusd_epi32(low, u0, q0), _mm512_dpbusd_epi32(high, u1, q1)]
});
code_kernel!(row_dot_8, 128, 128, |a: &[u8; 128], b: &[u8; 128], [low, high]: Sums| {
    // A level with its top bit flipped is a signed number that is 128 less than the level.
    let flip = _mm512_set1_epi8(i8::MIN);
    let ([a0, a1], [b0, b1]) = (load_128(a), load_128(b));
    let low = _mm512_dpbusd_epi32(low, b0, _mm512_xor_si512(a0, flip));
    [low, _mm512_dpbusd_epi32(high, b1, _mm512_xor_si512(a1, flip))]
});
code_kernel!(query_dot_4, 128, 64, |q: &[u8; 128], u: &[u8; 64], [low, high]: Sums| {
    let ([q0, q1], [u0, u1]) = (load_128(q), halves(load_64(u)));
    [_mm512_dpbusd_epi32(low, u0, q0), _mm512_dpbusd_epi32(high, u1, q1)]
});
code_kernel!(row_dot_4, 64, 64, |a: &[u8; 64], b: &[u8; 64], [low, high]: Sums| {
    let ([a0, a1], [b0, b1]) = (halves(load_64(a)), halves(load_64(b)));
    [_mm512_dpbusd_epi32(low, a0, b0), _mm512_dpbusd_epi32(high, a1, b1)]
});
code_kernel!(query_dot_1, 128, 16, |q: &[u8; 128], u: &[u8; 16], [low, high]: Sums| {
    let [q0, q1] = load_128(q);
    let bits = u128::from_le_bytes(*u);
    let (ones, u0, u1) = (_mm512_set1_epi8(1), bits as u64, (bits >> 64) as u64);
    let low = _mm512_dpbusd_epi32(low, ones, _mm512_maskz_mov_epi8(u0, q0));
    [low, _mm512_dpbusd_epi32(high, ones, _mm512_maskz_mov_epi8(u1, q1))]
});

fn row_dot_1(a: &[u8], b: &[u8]) -> i32 {
    #[target_feature(enable = "popcnt")]
    fn run(a: &[u8], b: &[u8]) -> i32 {
        scalar::row_dot_1(a, b)
    }
    // SAFETY: processors with AVX-512 have POPCNT.
    unsafe { run(a, b) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: sixty-four bytes, of any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_128(bytes: &[u8; 128]) -> [__m512i; 2] {
    let (low, high) = bytes.as_chunks::<64>().0.split_at(1);
    [load_64(&low[0]), load_64(&high[0])]
}

/// The low and the high half of each byte.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn halves(bytes: __m512i) -> [__m512i; 2] {
    let low = _mm512_set1_epi8(15);
    [_mm512_and_si512(bytes, low), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low)]
}

fn dot(a: &[u8], b: &[u8]) -> f32 {
    // SAFETY: `detect` returns this function only on processors with AVX-512F; both pointers are valid for
    // this many floats.
    unsafe { dot_unchecked(a.as_ptr().cast(), b.as_ptr().cast(), a.len().min(b.len()) / 4) }
}

fn l2_squared(a: &[u8], b: &[u8]) -> f32 {
    // SAFETY: as for `dot`.
    unsafe { l2_squared_unchecked(a.as_ptr().cast(), b.as_ptr().cast(), a.len().min(b.len()) / 4) }
}

/// The loop of both kernels: `$step` folds two registers into an accumulator.
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
            // SAFETY: the mask selects the remaining components; the load does not read the others.
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
/// Both pointers are valid for `length` components, of any alignment.
#[target_feature(enable = "avx512f")]
unsafe fn dot_unchecked(a: *const f32, b: *const f32, length: usize) -> f32 {
    fold!(a, b, length, |x, y, sum| _mm512_fmadd_ps(x, y, sum))
}

/// # Safety
/// Both pointers are valid for `length` components, of any alignment.
#[target_feature(enable = "avx512f")]
unsafe fn l2_squared_unchecked(a: *const f32, b: *const f32, length: usize) -> f32 {
    fold!(a, b, length, |x, y, sum| {
        let difference = _mm512_sub_ps(x, y);
        _mm512_fmadd_ps(difference, difference, sum)
    })
}
