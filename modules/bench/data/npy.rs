//! NumPy's .npy files, versions 1 to 3, C order, two-dimensional.
//!
//! ```text
//! "\x93NUMPY" | major u8 | minor u8 | header length u16 (version 1) or u32 | header | elements
//! header: {'descr': '<f4', 'fortran_order': False, 'shape': (10000, 384), }  padded with spaces, ends in \n
//! ```
//! Source of the format: numpy.lib.format. Big-endian and Fortran order are refused with an error that names
//! them.

use std::path::Path;

use half::f16;

use super::{DataError, Matrix, size};

const FORMAT: &str = ".npy";
const MAGIC: &[u8] = b"\x93NUMPY";

/// Element types of data sets, with numpy's name for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    F16,
    F32,
    F64,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
}

const ELEMENTS: [(&str, Element, usize); 11] = [
    ("<f2", Element::F16, 2),
    ("<f4", Element::F32, 4),
    ("<f8", Element::F64, 8),
    ("|i1", Element::I8, 1),
    ("|u1", Element::U8, 1),
    ("<i2", Element::I16, 2),
    ("<u2", Element::U16, 2),
    ("<i4", Element::I32, 4),
    ("<u4", Element::U32, 4),
    ("<i8", Element::I64, 8),
    ("<u8", Element::U64, 8),
];

/// Reads rows of any element type as float32.
pub fn read_vectors(path: &Path) -> Result<Matrix<f32>, DataError> {
    // The file, and at least the same amount again for its elements as float32.
    size::check_file(path, 2)?;
    let bytes = std::fs::read(path).map_err(DataError::read(path))?;
    parse_vectors(&bytes).map_err(|what| DataError::format(path, FORMAT, what))
}

/// Reads rows of integers, such as neighbours, as row numbers.
pub fn read_rows(path: &Path) -> Result<Matrix<u32>, DataError> {
    let bytes = std::fs::read(path).map_err(DataError::read(path))?;
    parse_rows(&bytes).map_err(|what| DataError::format(path, FORMAT, what))
}

/// The bytes of a version 1 file of float32 rows.
pub fn write_vectors(matrix: &Matrix<f32>) -> Vec<u8> {
    let mut bytes = header("<f4", matrix.rows(), matrix.columns());
    bytes.extend(matrix.values().iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The bytes of a version 1 file of int32 rows.
pub fn write_rows(matrix: &Matrix<u32>) -> Vec<u8> {
    let mut bytes = header("<i4", matrix.rows(), matrix.columns());
    bytes.extend(matrix.values().iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

fn parse_vectors(bytes: &[u8]) -> Result<Matrix<f32>, String> {
    let file = parse(bytes)?;
    let values: Vec<f32> = match file.element {
        Element::F16 => convert(file.data, |b: [u8; 2]| f16::from_le_bytes(b).to_f32()),
        Element::F32 => convert(file.data, f32::from_le_bytes),
        Element::F64 => convert(file.data, |b| f64::from_le_bytes(b) as f32),
        Element::I8 => convert(file.data, |b| i8::from_le_bytes(b).into()),
        Element::U8 => convert(file.data, |b| u8::from_le_bytes(b).into()),
        Element::I16 => convert(file.data, |b| i16::from_le_bytes(b).into()),
        Element::U16 => convert(file.data, |b| u16::from_le_bytes(b).into()),
        Element::I32 => convert(file.data, |b| i32::from_le_bytes(b) as f32),
        Element::U32 => convert(file.data, |b| u32::from_le_bytes(b) as f32),
        Element::I64 => convert(file.data, |b| i64::from_le_bytes(b) as f32),
        Element::U64 => convert(file.data, |b| u64::from_le_bytes(b) as f32),
    };
    Ok(Matrix::new(values, file.columns))
}

fn parse_rows(bytes: &[u8]) -> Result<Matrix<u32>, String> {
    let file = parse(bytes)?;
    let values: Vec<i64> = match file.element {
        Element::I32 => convert(file.data, |b| i32::from_le_bytes(b).into()),
        Element::U32 => convert(file.data, |b| u32::from_le_bytes(b).into()),
        Element::I64 => convert(file.data, i64::from_le_bytes),
        Element::U64 => convert(file.data, |b| u64::from_le_bytes(b) as i64),
        other => return Err(format!("row numbers must be 32- or 64-bit integers, found {other:?}")),
    };
    let rows =
        values.iter().map(|&value| u32::try_from(value).map_err(|_| format!("{value} is not a row number")));
    Ok(Matrix::new(rows.collect::<Result<_, _>>()?, file.columns))
}

fn convert<const N: usize, T>(data: &[u8], from_bytes: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, rest) = data.as_chunks::<N>();
    debug_assert!(rest.is_empty(), "parse() checked the length");
    elements.iter().map(|&element| from_bytes(element)).collect()
}

struct File<'a> {
    element: Element,
    columns: usize,
    data: &'a [u8],
}

fn parse(bytes: &[u8]) -> Result<File<'_>, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin with the magic of .npy")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (u16::from_le_bytes([*a, *b]) as usize, rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err("its version is not 1, 2 or 3".into()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or("it ends within its header")?;
    let header = str::from_utf8(header).map_err(|_| "its header is not text")?;
    if value_of(header, "fortran_order")?.starts_with("True") {
        return Err("it is in Fortran order: save it with numpy.ascontiguousarray first".into());
    }
    let descr = value_of(header, "descr")?.trim_start_matches('\'');
    let (_, element, size) =
        ELEMENTS.into_iter().find(|(name, _, _)| descr.starts_with(&format!("{name}'"))).ok_or_else(
            || format!("element type {} is not supported", descr.split('\'').next().unwrap_or_default()),
        )?;
    let (rows, columns) = shape_of(header)?;
    let expected =
        rows.checked_mul(columns).and_then(|count| count.checked_mul(size)).ok_or("its shape is absurd")?;
    if columns == 0 || data.len() != expected {
        return Err(format!(
            "shape ({rows}, {columns}) needs {expected} bytes of data, found {}",
            data.len()
        ));
    }
    Ok(File { element, columns, data })
}

/// The text after `'key':`, to the end of the header.
fn value_of<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let quoted = format!("'{key}':");
    let at = header.find(&quoted).ok_or_else(|| format!("its header has no {key}"))?;
    Ok(header[at + quoted.len()..].trim_start())
}

fn shape_of(header: &str) -> Result<(usize, usize), String> {
    let shape = value_of(header, "shape")?;
    let inner =
        shape.strip_prefix('(').and_then(|rest| rest.split(')').next()).ok_or("its shape is not a tuple")?;
    let lengths: Result<Vec<usize>, _> =
        inner.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse).collect();
    match lengths.map_err(|_| format!("its shape is ({inner})"))?.as_slice() {
        &[rows, columns] => Ok((rows, columns)),
        other => Err(format!("it has {} dimensions, rows of vectors have 2", other.len())),
    }
}

fn header(descr: &str, rows: usize, columns: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Magic, version, length and header together are a multiple of 64, so that the elements can be mapped
    // aligned.
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend(u16::try_from(text.len()).expect("the header is some hundred bytes long").to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_rows_come_back_as_written() {
        let vectors = Matrix::new(vec![1.0, -2.5, 0.0, f32::MIN_POSITIVE, 3.0, 1e30], 3);
        let bytes = write_vectors(&vectors);
        assert_eq!(parse_vectors(&bytes).unwrap(), vectors);
        assert_eq!((bytes.len() - 6 * 4) % 64, 0, "elements are aligned");
        let rows = Matrix::new(vec![7, 0, 4_000_000, 1], 2);
        assert_eq!(parse_rows(&write_rows(&rows)).unwrap(), rows);
    }

    #[test]
    fn every_element_type_is_read() {
        let cases: [(&str, Vec<u8>); 11] = [
            ("<f2", [f16::from_f32(1.0), f16::from_f32(2.0)].iter().flat_map(|v| v.to_le_bytes()).collect()),
            ("<f4", [1f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
            ("<f8", [1f64, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
            ("|i1", vec![1, 2]),
            ("|u1", vec![1, 2]),
            ("<i2", vec![1, 0, 2, 0]),
            ("<u2", vec![1, 0, 2, 0]),
            ("<i4", [1i32, 2].iter().flat_map(|v| v.to_le_bytes()).collect()),
            ("<u4", [1u32, 2].iter().flat_map(|v| v.to_le_bytes()).collect()),
            ("<i8", [1i64, 2].iter().flat_map(|v| v.to_le_bytes()).collect()),
            ("<u8", [1u64, 2].iter().flat_map(|v| v.to_le_bytes()).collect()),
        ];
        for (descr, data) in cases {
            let bytes = [header(descr, 1, 2), data].concat();
            assert_eq!(parse_vectors(&bytes).unwrap().values(), [1.0, 2.0], "{descr}");
        }
    }

    #[test]
    fn unreadable_files_are_refused_with_a_reason() {
        let good = write_vectors(&Matrix::new(vec![1.0, 2.0], 2));
        let with = |from: &str, to: &str| {
            let at = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
        };
        let refusal = |bytes: &[u8]| parse_vectors(bytes).unwrap_err();
        assert!(refusal(&with("<f4", ">f4")).contains(">f4"));
        assert!(refusal(&with("False", "True ")).contains("Fortran"));
        assert!(refusal(&with("(1, 2)", "(2,)  ")).contains("1 dimensions"));
        assert!(refusal(&with("(1, 2)", "(9, 2)")).contains("72 bytes"));
        assert!(refusal(&good[..good.len() - 1]).contains("found 7"));
        for length in 0..64 {
            assert!(parse_vectors(&good[..length]).is_err(), "cut at {length}");
        }
        let negative = [header("<i4", 1, 1), (-1i32).to_le_bytes().to_vec()].concat();
        assert!(parse_rows(&negative).unwrap_err().contains("-1"));
    }
}
