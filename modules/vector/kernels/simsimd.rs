//! The portable kernels of the simsimd crate (C, dispatched at run time): NEON, SVE and every other
//! instruction set for which this crate has no kernel.

#![allow(unsafe_code, reason = "distance kernels: vector instructions")]

use ::simsimd::SpatialSimilarity;

use super::{Kernels, scalar};

pub(crate) const KERNELS: Kernels = Kernels { name: "simsimd", dot, l2_squared };

fn dot(a: &[u8], b: &[u8]) -> f32 {
    floats(a, b).and_then(|(a, b)| f32::dot(a, b)).map_or_else(|| scalar::dot(a, b), |dot| dot as f32)
}

fn l2_squared(a: &[u8], b: &[u8]) -> f32 {
    floats(a, b).and_then(|(a, b)| f32::l2sq(a, b)).map_or_else(|| scalar::l2_squared(a, b), |sum| sum as f32)
}

/// The common part as floats, if both vectors are aligned like floats.
fn floats<'a>(a: &'a [u8], b: &'a [u8]) -> Option<(&'a [f32], &'a [f32])> {
    let length = a.len().min(b.len());
    // SAFETY: every bit pattern of four bytes is a float.
    let ((before_a, a, _), (before_b, b, _)) =
        unsafe { (a[..length].align_to::<f32>(), b[..length].align_to::<f32>()) };
    (before_a.is_empty() && before_b.is_empty()).then_some((a, b))
}
