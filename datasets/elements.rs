//! The six element types of an index: conversion of rows of floats to bytes, and to the floats that those
//! bytes represent.

use half::{bf16, f16};

/// The type of the components of stored vectors; little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataElement {
    F32,
    F64,
    F16,
    Bf16,
    I8,
    U8,
}

impl DataElement {
    pub const ALL: [DataElement; 6] = [
        DataElement::F32,
        DataElement::F64,
        DataElement::F16,
        DataElement::Bf16,
        DataElement::I8,
        DataElement::U8,
    ];

    /// The name in FT.CREATE.
    pub fn name(self) -> &'static str {
        match self {
            DataElement::F32 => "FLOAT32",
            DataElement::F64 => "FLOAT64",
            DataElement::F16 => "FLOAT16",
            DataElement::Bf16 => "BFLOAT16",
            DataElement::I8 => "INT8",
            DataElement::U8 => "UINT8",
        }
    }

    /// Rounds values to the nearest ones that this element type has.
    ///
    /// Integers cannot represent most data directly: all values are scaled by one factor such that the 99.9th
    /// percentile of their magnitudes becomes the largest integer (larger values are clamped to it), and for
    /// `U8` shifted so that the smallest becomes zero. Integers that are in range already stay unchanged.
    /// Float16 is clamped to 65,504.
    pub fn round(self, values: &mut [&mut [f32]]) {
        let range = match self {
            DataElement::F32 | DataElement::F64 => return,
            DataElement::F16 => -65_504.0..=65_504.0,
            DataElement::Bf16 => f32::MIN / 2.0..=f32::MAX / 2.0,
            DataElement::I8 => -128.0..=127.0,
            DataElement::U8 => 0.0..=255.0_f32,
        };
        let (offset, scale) = match self {
            DataElement::I8 | DataElement::U8 => self.fit(values),
            _ => (0.0, 1.0),
        };
        for value in values.iter_mut().flat_map(|part| part.iter_mut()) {
            let scaled = ((*value - offset) * scale).clamp(*range.start(), *range.end());
            *value = match self {
                DataElement::F16 => f16::from_f32(scaled).to_f32(),
                DataElement::Bf16 => bf16::from_f32(scaled).to_f32(),
                _ => scaled.round(),
            };
        }
    }

    /// The number to subtract from the values, and the factor to multiply them by, so that they fit an
    /// integer.
    fn fit(self, values: &[&mut [f32]]) -> (f32, f32) {
        let all = || values.iter().flat_map(|part| part.iter().copied());
        let (least, most) =
            all().fold((f32::MAX, f32::MIN), |(least, most), value| (least.min(value), most.max(value)));
        let bounds = if self == DataElement::U8 { (0.0, 255.0) } else { (-127.0, 127.0) };
        if least >= bounds.0 && most <= bounds.1 && all().all(|value| value.fract() == 0.0) {
            return (0.0, 1.0);
        }
        let offset = if self == DataElement::U8 { least } else { 0.0 };
        let mut magnitudes: Vec<f32> = all().map(|value| (value - offset).abs()).collect();
        let place = (magnitudes.len() * 999 / 1000).min(magnitudes.len().saturating_sub(1));
        let (_, &mut top, _) = magnitudes.select_nth_unstable_by(place, f32::total_cmp);
        (offset, if top > 0.0 { bounds.1 / top } else { 1.0 })
    }

    /// A vector of rounded values as bytes.
    pub fn bytes(self, vector: &[f32]) -> Vec<u8> {
        let each = vector.iter().copied();
        match self {
            DataElement::F32 => each.flat_map(f32::to_le_bytes).collect(),
            DataElement::F64 => each.flat_map(|value| f64::from(value).to_le_bytes()).collect(),
            DataElement::F16 => each.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
            DataElement::Bf16 => each.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
            DataElement::I8 => each.map(|value| (value as i8) as u8).collect(),
            DataElement::U8 => each.map(|value| value as u8).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_values_are_what_the_bytes_mean() {
        for element in DataElement::ALL {
            let mut values = [-3.25, 0.1, 0.0, 1e-3, 7.9];
            element.round(&mut [&mut values]);
            let bytes = element.bytes(&values);
            let read: Vec<f32> = match element {
                DataElement::F32 => {
                    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("4"))).collect()
                }
                DataElement::F64 => {
                    bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().expect("8")) as f32).collect()
                }
                DataElement::F16 => {
                    bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
                }
                DataElement::Bf16 => {
                    bytes.chunks(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
                }
                DataElement::I8 => bytes.iter().map(|&b| f32::from(b as i8)).collect(),
                DataElement::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
            };
            assert_eq!(read, values, "{element:?}");
        }
    }

    #[test]
    fn integers_that_fit_are_kept_and_others_are_scaled() {
        let mut kept = [0.0, 17.0, 255.0];
        DataElement::U8.round(&mut [&mut kept]);
        assert_eq!(kept, [0.0, 17.0, 255.0]);
        let mut scaled = [-0.5, 0.25, 0.5];
        DataElement::I8.round(&mut [&mut scaled]);
        assert_eq!(scaled, [-127.0, 64.0, 127.0]);
        let mut moved = [-0.5, 0.5];
        DataElement::U8.round(&mut [&mut moved]);
        assert_eq!(moved, [0.0, 255.0]);
    }
}
