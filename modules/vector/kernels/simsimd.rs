//! The portable kernels of the simsimd crate (C, dispatched at run time): NEON, SVE and whatever else we have
//! no kernel of our own for.

use ::simsimd::SpatialSimilarity;

use super::{Kernels, scalar};

pub(crate) const KERNELS: Kernels = Kernels { name: "simsimd", dot, l2_squared };

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    // simsimd answers none only for unequal lengths.
    f32::dot(&a[..length], &b[..length]).map_or_else(|| scalar::dot(a, b), |dot| dot as f32)
}

fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    f32::l2sq(&a[..length], &b[..length]).map_or_else(|| scalar::l2_squared(a, b), |sum| sum as f32)
}
