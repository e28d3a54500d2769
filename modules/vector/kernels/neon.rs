//! NEON for codes; vectors themselves use simsimd on aarch64. The code is written once over two ways to
//! multiply signed bytes: the one instruction of processors with `dotprod` (since 2018), and the four
//! instructions that every processor has.
//!
//! The tests of all kernels pass in an emulator. Nothing was measured: the project had no such processor. The
//! first thing to measure is whether four chains of sums are faster than these two.

#![allow(unsafe_code, reason = "distance kernels: vector instructions")]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::Width;
use super::{CodeKernel, CodeKernels};

/// The sets for this width, the best first.
pub(crate) fn detect_for_codes(width: Width) -> impl Iterator<Item = CodeKernels> {
    let has_dotprod = is_aarch64_feature_detected!("dotprod");
    has_dotprod.then(|| with_dotprod::for_codes(width)).into_iter().chain([plain::for_codes(width)])
}

/// Two chains of sums of products, and a sum that is multiplied by 128.
type Sums = [int32x4_t; 3];

/// The kernels of one set. `$dot` adds the products of four pairs of signed bytes to each of four sums,
/// `$add` adds the bytes themselves.
macro_rules! code_kernels {
    ($set:ident, $name:literal, $features:literal, $dot:ident, $add:ident) => {
        mod $set {
            use super::*;

            pub fn for_codes(width: Width) -> CodeKernels {
                let (query, row): (CodeKernel, CodeKernel) = match width {
                    Width::Eight => (query_dot_8, row_dot_8),
                    Width::Four => (query_dot_4, row_dot_4),
                    Width::One => (query_dot_1, row_dot_1),
                };
                CodeKernels { name: $name, query, row }
            }

            code_kernel!(query_dot_8, $features, 32, 32, |q: &[u8; 32], u: &[u8; 32], sums: Sums| {
                // A level is 128 plus a signed number.
                let ([q0, q1], [u0, u1]) = (signed_32(q), flipped_32(u));
                [$dot(sums[0], q0, u0), $dot(sums[1], q1, u1), $add($add(sums[2], q0), q1)]
            });
            code_kernel!(row_dot_8, $features, 32, 32, |a: &[u8; 32], b: &[u8; 32], sums: Sums| {
                let ([a0, a1], [b0, b1]) = (flipped_32(a), flipped_32(b));
                [$dot(sums[0], a0, b0), $dot(sums[1], a1, b1), $add($add(sums[2], a0), a1)]
            });
            code_kernel!(query_dot_4, $features, 128, 64, |q: &[u8; 128], u: &[u8; 64], sums: Sums| {
                let (low, high) = q.split_at(64);
                let queries = low.as_chunks::<16>().0.iter().zip(high.as_chunks::<16>().0);
                let mut sums = sums;
                for ((low, high), levels) in queries.zip(u.as_chunks::<16>().0) {
                    let [u0, u1] = halves(load(levels));
                    sums = [$dot(sums[0], signed(low), u0), $dot(sums[1], signed(high), u1), sums[2]];
                }
                sums
            });
            code_kernel!(row_dot_4, $features, 16, 16, |a: &[u8; 16], b: &[u8; 16], sums: Sums| {
                let ([a0, a1], [b0, b1]) = (halves(load(a)), halves(load(b)));
                [$dot(sums[0], a0, b0), $dot(sums[1], a1, b1), sums[2]]
            });
            code_kernel!(query_dot_1, $features, 32, 4, |q: &[u8; 32], u: &[u8; 4], sums: Sums| {
                let ([q0, q1], [mask_0, mask_1]) = (signed_32(q), masks_32(*u));
                [$add(sums[0], vandq_s8(q0, mask_0)), $add(sums[1], vandq_s8(q1, mask_1)), sums[2]]
            });
            code_kernel!(row_dot_1, $features, 16, 16, |a: &[u8; 16], b: &[u8; 16], sums: Sums| {
                let counts = vcntq_u8(vandq_u8(load(a), load(b)));
                [$add(sums[0], vreinterpretq_s8_u8(counts)), sums[1], sums[2]]
            });
        }
    };
}

/// A kernel: the checked function, and the loop over pieces of `$a_bytes` of the first operand and `$b_bytes`
/// of the second. `$step` adds one piece to the sums.
macro_rules! code_kernel {
    ($name:ident, $features:literal, $a_bytes:literal, $b_bytes:literal, $step:expr) => {
        fn $name(a: &[u8], b: &[u8]) -> i32 {
            #[target_feature(enable = $features)]
            fn run(a: &[u8], b: &[u8]) -> i32 {
                let mut sums = [vdupq_n_s32(0); 3];
                for (a, b) in a.as_chunks::<$a_bytes>().0.iter().zip(b.as_chunks::<$b_bytes>().0) {
                    sums = $step(a, b, sums);
                }
                vaddvq_s32(vaddq_s32(sums[0], sums[1])) + 128 * vaddvq_s32(sums[2])
            }
            // SAFETY: `detect_for_codes` returns this function only on processors with these instructions.
            unsafe { run(a, b) }
        }
    };
}

code_kernels!(with_dotprod, "neon dotprod", "neon,dotprod", dot_at_once, add_at_once);
code_kernels!(plain, "neon", "neon", dot_by_halves, add_by_pairs);

/// The intrinsic for this (`vdotq_s32`) is not stable.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot_at_once(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction between registers; the function enables its feature.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

#[target_feature(enable = "neon,dotprod")]
#[inline]
fn add_at_once(sum: int32x4_t, a: int8x16_t) -> int32x4_t {
    dot_at_once(sum, a, vdupq_n_s8(1))
}

#[target_feature(enable = "neon")]
#[inline]
fn dot_by_halves(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    vpadalq_s16(vpadalq_s16(sum, low), vmull_high_s8(a, b))
}

#[target_feature(enable = "neon")]
#[inline]
fn add_by_pairs(sum: int32x4_t, a: int8x16_t) -> int32x4_t {
    vpadalq_s16(sum, vpaddlq_s8(a))
}

#[target_feature(enable = "neon")]
#[inline]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: sixteen bytes, of any alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn signed(bytes: &[u8; 16]) -> int8x16_t {
    vreinterpretq_s8_u8(load(bytes))
}

#[target_feature(enable = "neon")]
#[inline]
fn signed_32(bytes: &[u8; 32]) -> [int8x16_t; 2] {
    let (low, high) = bytes.as_chunks::<16>().0.split_at(1);
    [signed(&low[0]), signed(&high[0])]
}

/// Levels with their top bits flipped: signed numbers that are 128 less.
#[target_feature(enable = "neon")]
#[inline]
fn flipped_32(levels: &[u8; 32]) -> [int8x16_t; 2] {
    let ([low, high], flip) = (signed_32(levels), vdupq_n_s8(i8::MIN));
    [veorq_s8(low, flip), veorq_s8(high, flip)]
}

/// The low and the high half of each byte.
#[target_feature(enable = "neon")]
#[inline]
fn halves(bytes: uint8x16_t) -> [int8x16_t; 2] {
    let (low, high) = (vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes));
    [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high)]
}

/// By lane of a register: the bit of the lane, and the one of four bytes that contains it.
static OWN_BIT: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
static LOW_BYTES: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
static HIGH_BYTES: [u8; 16] = [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3];

/// A byte for each bit: 0xFF if it is set, else 0.
#[target_feature(enable = "neon")]
#[inline]
fn masks_32(bits: [u8; 4]) -> [int8x16_t; 2] {
    let bits = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(bits)));
    let low = vtstq_u8(vqtbl1q_u8(bits, load(&LOW_BYTES)), load(&OWN_BIT));
    let high = vtstq_u8(vqtbl1q_u8(bits, load(&HIGH_BYTES)), load(&OWN_BIT));
    [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high)]
}
