//! Portable Rust: the reference that tests compare the other kernels with, and the last fallback. Eight sums,
//! so that the compiler can keep them in one register.

use super::Width;
use super::{CodeKernel, CodeKernels, Kernels};

pub(crate) const KERNELS: Kernels = Kernels { name: "scalar", dot, l2_squared };

pub(crate) fn dot(a: &[u8], b: &[u8]) -> f32 {
    sum(a, b, |x, y| x * y)
}

pub(crate) fn l2_squared(a: &[u8], b: &[u8]) -> f32 {
    sum(a, b, |x, y| (x - y) * (x - y))
}

pub(crate) fn for_codes(width: Width) -> CodeKernels {
    let (query, row): (CodeKernel, CodeKernel) = match width {
        Width::Eight => (query_dot_8, row_dot_8),
        Width::Four => (query_dot_4, row_dot_4),
        Width::One => (query_dot_1, row_dot_1),
    };
    CodeKernels { name: "scalar", query, row }
}

fn query_dot_8(query: &[u8], row: &[u8]) -> i32 {
    query.iter().zip(row).map(|(&q, &u)| i32::from(q as i8) * i32::from(u)).sum()
}

fn row_dot_8(a: &[u8], b: &[u8]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| (i32::from(x) - 128) * i32::from(y)).sum()
}

fn query_dot_4(query: &[u8], row: &[u8]) -> i32 {
    let mut sum = 0;
    for (query, bytes) in query.as_chunks::<128>().0.iter().zip(row.as_chunks::<64>().0) {
        let (low, high) = query.split_at(64);
        for (byte, (&low, &high)) in bytes.iter().zip(low.iter().zip(high)) {
            sum += i32::from(low as i8) * i32::from(byte & 15) + i32::from(high as i8) * i32::from(byte >> 4);
        }
    }
    sum
}

fn row_dot_4(a: &[u8], b: &[u8]) -> i32 {
    let product =
        |x: u8, y: u8| i32::from(x & 15) * i32::from(y & 15) + i32::from(x >> 4) * i32::from(y >> 4);
    a.iter().zip(b).map(|(&x, &y)| product(x, y)).sum()
}

fn query_dot_1(query: &[u8], row: &[u8]) -> i32 {
    let mut sum = 0;
    for (query, &bits) in query.as_chunks::<8>().0.iter().zip(row) {
        sum += (0..8).map(|i| i32::from(query[i] as i8) * i32::from(bits >> i & 1)).sum::<i32>();
    }
    sum
}

pub(crate) fn row_dot_1(a: &[u8], b: &[u8]) -> i32 {
    let words = a.as_chunks().0.iter().zip(b.as_chunks().0);
    words.map(|(&x, &y)| (u64::from_le_bytes(x) & u64::from_le_bytes(y)).count_ones() as i32).sum()
}

#[inline(always)]
fn sum(a: &[u8], b: &[u8], term: impl Fn(f32, f32) -> f32) -> f32 {
    let term = |x: &[u8; 4], y: &[u8; 4]| term(f32::from_le_bytes(*x), f32::from_le_bytes(*y));
    let floats = a.len().min(b.len()) / 4;
    let (a, b) = (&a.as_chunks::<4>().0[..floats], &b.as_chunks::<4>().0[..floats]);
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += term(&a[lane], &b[lane]);
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| term(x, y)).sum::<f32>()
}
