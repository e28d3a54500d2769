//! Plain Rust: what the others are tested against, and the last resort. Eight sums, so that the compiler may
//! keep them in one register.

use super::Kernels;

pub(crate) const KERNELS: Kernels = Kernels { name: "scalar", dot, l2_squared };

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |x, y| x * y)
}

pub(crate) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |x, y| (x - y) * (x - y))
}

pub(crate) fn code_dot(a: &[u8], b: &[u8]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| (i32::from(x) - 128) * i32::from(y)).sum()
}

#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let length = a.len().min(b.len());
    let (a, b) = (a[..length].chunks_exact(8), b[..length].chunks_exact(8));
    let mut tail = 0.0;
    for (&x, &y) in a.remainder().iter().zip(b.remainder()) {
        tail += term(x, y);
    }
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f32>() + tail
}
