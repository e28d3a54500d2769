//! Distance kernels: dot product and squared Euclidean distance of two vectors of `f32` (other element types
//! are in elements.rs), and products of codes (codes.rs).
//!
//! There is one file per instruction set; the best that this processor has is selected once, at first use.
//! Every kernel sums in its own order, so results differ in the last bits between kernels (and between
//! machines), but never between two calls on one machine. simsimd is the portable fallback for processors
//! without a kernel of ours. Its `f32` kernels use one accumulator and so wait for each addition; ours use
//! four.

#![allow(unsafe_code, reason = "distance kernels: vector instructions")]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod elements;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;
pub(crate) mod simsimd;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use crate::{Element, Metric, bytes_of};
use elements::is_plain;

/// Computes one number from two vectors of elements of the kernel's type, in little-endian order and of any
/// alignment. If the lengths differ, only the common part is used.
pub(crate) type Kernel = fn(&[u8], &[u8]) -> f32;

/// The product of two rows of levels (codes.rs): exact, for at most 65,536 components. Both consist of whole
/// blocks.
pub(crate) type CodeKernel = fn(&[u8], &[u8]) -> i32;

/// The number of bits per level, that is, per component of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Eight,
    Four,
    One,
}

impl Width {
    pub fn bits(self) -> usize {
        match self {
            Width::Eight => 8,
            Width::Four => 4,
            Width::One => 1,
        }
    }

    /// The number that the kernel for two rows subtracts from the levels of the first, to make them signed.
    pub fn row_offset(self) -> i64 {
        if self == Width::Eight { 128 } else { 0 }
    }
}

/// The kernels for levels of one width.
#[derive(Clone, Copy)]
pub(crate) struct CodeKernels {
    #[cfg_attr(not(test), expect(dead_code, reason = "tells failures of tests apart"))]
    pub name: &'static str,
    /// The sum of `q * u` over a query's signed bytes and a row's levels.
    pub query: CodeKernel,
    /// The sum of `(a - o) * b` over the levels of two rows; o is `Width::row_offset`.
    pub row: CodeKernel,
}

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    pub name: &'static str,
    pub dot: Kernel,
    pub l2_squared: Kernel,
}

/// Every set of kernels that this processor can run, the best first.
pub(crate) fn available() -> Vec<Kernels> {
    let mut sets = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        sets.extend(avx512::detect());
        sets.extend(avx2::detect());
    }
    sets.extend([simsimd::KERNELS, scalar::KERNELS]);
    sets
}

/// Every set of kernels for levels of this width that this processor can run, the best first.
pub(crate) fn available_for_codes(width: Width) -> Vec<CodeKernels> {
    let mut sets = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        sets.extend(avx512::detect_for_codes(width));
        sets.extend(avx2::detect_for_codes(width));
    }
    #[cfg(target_arch = "aarch64")]
    sets.extend(neon::detect_for_codes(width));
    sets.push(scalar::for_codes(width));
    sets
}

/// The best set for levels of this width.
pub(crate) fn best_for_codes(width: Width) -> CodeKernels {
    available_for_codes(width)[0]
}

/// The best set, detected once.
pub(crate) fn best() -> Kernels {
    static BEST: OnceLock<Kernels> = OnceLock::new();
    *BEST.get_or_init(|| available()[0])
}

/// The name of the instruction set in use, for INFO and benchmark reports.
pub fn kernel_name() -> &'static str {
    best().name
}

/// The distance of two vectors of equal length, with the best kernel of this processor.
///
/// The result is never NaN: where the arithmetic overflows to NaN, the distance is infinite.
pub fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    distance_of(Element::F32, metric, bytes_of(a), bytes_of(b)) as f32
}

/// The distance of two vectors of this element type, as replies report it: computed in `f64` for
/// `Element::F64`, else in `f32`.
pub fn distance_of(element: Element, metric: Metric, a: &[u8], b: &[u8]) -> f64 {
    debug_assert_eq!(a.len(), b.len(), "distances are between vectors of one dimension");
    if element == Element::F64 {
        return elements::distance_f64(metric, a, b);
    }
    let kernel = element.kernel(metric);
    let norm = |vector| if metric == Metric::Cosine { element.inverse_norm(vector) } else { 1.0 };
    let (norm_a, norm_b) = (norm(a), norm(b));
    if !(is_plain(norm_a) && is_plain(norm_b)) {
        return element.cosine_distance(a, b);
    }
    f64::from(finish(metric, kernel(a, b), norm_a, norm_b))
}

/// Converts a kernel's result to a distance. The inverse norms must be plain (`is_plain`).
#[inline(always)]
pub(crate) fn finish(metric: Metric, raw: f32, inverse_norm_a: f32, inverse_norm_b: f32) -> f32 {
    ordered(match metric {
        Metric::L2 => raw,
        Metric::InnerProduct => 1.0 - raw,
        Metric::Cosine => 1.0 - raw * inverse_norm_a * inverse_norm_b,
    })
}

/// Replaces NaN (an overflow of both signs) by infinity, so that distances are ordered.
#[inline(always)]
pub(crate) fn ordered(distance: f32) -> f32 {
    if distance.is_nan() { f32::INFINITY } else { distance }
}

/// Prefetches a cache line into the second-level cache. Any address is allowed: a prefetch never faults.
///
/// The first level would be slower, because it allows few misses at a time: rows of 1.5 KB arrive in half the
/// time this way (decision 0013).
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing and faults on no address. SSE is part of x86_64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint as well, and part of every aarch64 processor. (The intrinsic is not stable.)
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Copies bytes with non-temporal stores, for memory that is not read soon: the old content is not fetched
/// into the cache.
///
/// # Safety
/// As for `copy_nonoverlapping`. A thread that learns of the bytes through an atomic stored afterwards sees
/// them.
pub(crate) unsafe fn copy_past_caches(from: &[u8], to: *mut u8) {
    let mut copied = 0;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: each line of the source is read whole, and written inside the target that the caller provides;
    // the target is aligned. SSE2 is part of x86_64. The fence orders these stores.
    unsafe {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        if to.cast::<__m128i>().is_aligned() {
            for piece in from.as_chunks::<{ size_of::<__m128i>() }>().0 {
                _mm_stream_si128(to.add(copied).cast(), _mm_loadu_si128(piece.as_ptr().cast()));
                copied += piece.len();
            }
            _mm_sfence();
        }
    }
    let rest = &from[copied..];
    // SAFETY: guaranteed by the caller.
    unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), to.add(copied), rest.len()) };
}
