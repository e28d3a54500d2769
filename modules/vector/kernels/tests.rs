//! Every kernel against `f64` arithmetic, for every relevant length and alignment.

use super::*;

/// Numbers without a pattern that would hide an error of a kernel.
fn numbers(count: usize, salt: u32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| {
            let mixed = (i.wrapping_mul(2_654_435_761) ^ salt).wrapping_mul(2_246_822_519);
            (mixed >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

#[test]
fn every_kernel_agrees_with_f64_for_every_length_and_alignment() {
    let (left, right) = (numbers(600, 1), numbers(600, 99));
    for kernels in available() {
        for length in (0..=300).chain([384, 511, 512, 513]) {
            for (i, j) in [(0, 0), (1, 0), (0, 3), (5, 7), (16, 1)] {
                let (a, b) = (&left[i..i + length], &right[j..j + length]);
                let pairs = || a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y)));
                let dot: f64 = pairs().map(|(x, y)| x * y).sum();
                let l2: f64 = pairs().map(|(x, y)| (x - y) * (x - y)).sum();
                let tolerance = 1e-6 * (length as f64 + 1.0);
                let place = format!("{} length {length} offsets {i},{j}", kernels.name);
                assert!(
                    (f64::from((kernels.dot)(bytes_of(a), bytes_of(b))) - dot).abs() < tolerance,
                    "dot, {place}"
                );
                assert!(
                    (f64::from((kernels.l2_squared)(bytes_of(a), bytes_of(b))) - l2).abs() < tolerance,
                    "l2, {place}"
                );
            }
        }
    }
}

#[test]
fn floats_need_no_alignment() {
    let (left, right) = (numbers(100, 1), numbers(100, 2));
    let mut shifted = vec![0; 401];
    shifted[1..].copy_from_slice(bytes_of(&left));
    for kernels in available() {
        for (kernel, name) in [(kernels.dot, "dot"), (kernels.l2_squared, "l2")] {
            let (a, b) = (kernel(bytes_of(&left), bytes_of(&right)), kernel(&shifted[1..], bytes_of(&right)));
            // For vectors that are not aligned, another kernel may be used.
            let tolerance = 1e-5 + 1e-6 * b.abs();
            assert!((a - b).abs() < tolerance, "{name}, {}: {a}, {b}", kernels.name);
        }
    }
}

#[test]
fn every_kernel_for_codes_is_exact_for_every_number_of_blocks() {
    let bytes = |salt| -> Vec<u8> { numbers(1030, salt).iter().map(|x| (x * 127.0) as i32 as u8).collect() };
    let (left, right) = (bytes(7), bytes(8));
    for width in [Width::Eight, Width::Four, Width::One] {
        let levels = |row: &[u8]| -> Vec<i64> {
            let level = |at: usize| match width {
                Width::Eight => row[at],
                Width::Four => row[at / 128 * 64 + at % 64] >> (at % 128 / 64 * 4) & 15,
                Width::One => row[at / 8] >> (at % 8) & 1,
            };
            (0..row.len() * 8 / width.bits()).map(|at| i64::from(level(at))).collect()
        };
        for kernels in available_for_codes(width) {
            for (blocks, offset) in (0..=8).flat_map(|blocks| [0, 1, 5].map(|offset| (blocks, offset))) {
                let bytes = blocks * 128 * width.bits() / 8;
                let (a, b) = (&left[offset..][..bytes], &right[..bytes]);
                let query = &left[offset..][..blocks * 128];
                let of_query = query.iter().zip(levels(b)).map(|(&q, u)| i64::from(q as i8) * u).sum::<i64>();
                let of_row =
                    levels(a).iter().zip(levels(b)).map(|(a, b)| (a - width.row_offset()) * b).sum::<i64>();
                let place = format!("{} {width:?}, {blocks} blocks, offset {offset}", kernels.name);
                assert_eq!(i64::from((kernels.query)(query, b)), of_query, "query, {place}");
                assert_eq!(i64::from((kernels.row)(a, b)), of_row, "row, {place}");
            }
            // The largest and the smallest possible products.
            let full = vec![255; 65_536 * width.bits() / 8];
            let top = (1 << width.bits()) - 1;
            for q in [127_i8, -127] {
                let query = vec![q as u8; 65_536];
                let expected = i64::from(q) * top * 65_536;
                assert_eq!(i64::from((kernels.query)(&query, &full)), expected, "{} {width:?}", kernels.name);
            }
            let expected = (top - width.row_offset()) * top * 65_536;
            assert_eq!(i64::from((kernels.row)(&full, &full)), expected, "{} {width:?}", kernels.name);
        }
    }
}

#[test]
fn the_common_part_is_used_when_lengths_differ() {
    for kernels in available() {
        assert_eq!(
            (kernels.dot)(bytes_of(&[2.0, 3.0, 4.0]), bytes_of(&[5.0, 6.0])),
            28.0,
            "{}",
            kernels.name
        );
        assert_eq!((kernels.l2_squared)(bytes_of(&[2.0]), bytes_of(&[5.0, 6.0])), 9.0, "{}", kernels.name);
    }
}

#[test]
fn distances_are_equal_to_those_of_redisearch() {
    let (a, b) = ([1.0, 2.0, 2.0], [2.0, 0.0, 0.0]);
    assert_eq!(distance(Metric::L2, &a, &b), 9.0);
    assert_eq!(distance(Metric::InnerProduct, &a, &b), -1.0);
    assert!((distance(Metric::Cosine, &a, &b) - 2.0 / 3.0).abs() < 1e-6);
}

#[test]
fn zero_tiny_and_huge_vectors_have_distances_with_an_order() {
    let zero = [0.0; 4];
    assert_eq!(distance(Metric::Cosine, &zero, &[1.0, 2.0, 3.0, 4.0]), 1.0);
    assert_eq!(distance(Metric::Cosine, &zero, &zero), 1.0);
    let extremes = [[f32::MAX; 4], [f32::MIN; 4], [f32::MIN_POSITIVE; 4], [f32::MAX, f32::MIN, 0.0, 1.0]];
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        for a in &extremes {
            for b in &extremes {
                assert!(!distance(metric, a, b).is_nan(), "{metric:?} {a:?} {b:?}");
            }
        }
    }
}

#[test]
fn the_cosine_distance_does_not_depend_on_lengths() {
    let (a, b) = ([0.5, -0.25, 0.75, 0.0], [0.125, 1.0, -0.5, 0.25]);
    let expected = f64::from(distance(Metric::Cosine, &a.map(|x| x as f32), &b.map(|x| x as f32)));
    let bytes = |element: Element, vector: [f64; 4], scale: f64| -> Vec<u8> {
        let scaled = vector.into_iter().map(|x| x * scale);
        match element {
            Element::F32 => scaled.flat_map(|x| (x as f32).to_le_bytes()).collect(),
            Element::F64 => scaled.flat_map(f64::to_le_bytes).collect(),
            _ => scaled.flat_map(|x| half::bf16::from_f64(x).to_le_bytes()).collect(),
        }
    };
    let floats = [1e-37, 1e-23, 1e-10, 1.0, 3e19, 3e38];
    let doubles = [1e-305, 1e-200, 1e-160, 1e-30, 1.0, 1e100, 1e160, 1e200, 1.7e308];
    for (element, scales) in
        [(Element::F32, &floats[..]), (Element::Bf16, &floats[..]), (Element::F64, &doubles[..])]
    {
        for &one in scales {
            for &other in scales {
                let found =
                    distance_of(element, Metric::Cosine, &bytes(element, a, one), &bytes(element, b, other));
                assert!(
                    (found - expected).abs() < 1e-2,
                    "{element:?} {one:e} {other:e}: {found}, {expected}"
                );
            }
        }
    }
}
