//! The two families of plain vector files in which public data sets are published.
//!
//! TEXMEX (.fvecs, .ivecs, .bvecs; http://corpus-texmex.irisa.fr): each row begins with its own length.
//! ```text
//! ( dimensions i32 | dimensions elements: f32, i32 or u8 )*
//! ```
//! Big-ANN (.fbin, .ibin, .u8bin, .i8bin; big-ann-benchmarks.com): one header for all rows.
//! ```text
//! rows u32 | dimensions u32 | rows x dimensions elements: f32, i32, u8 or i8
//! ```
//! Big-ANN's ground truth may have the distances after the row numbers; they are recognised by the length and
//! ignored.
//! All numbers are little-endian.

use std::path::Path;

use super::{DataError, Matrix, size};

/// Reads .fvecs, .bvecs, .fbin, .u8bin or .i8bin, chosen by the ending.
pub fn read_vectors(path: &Path, ending: &str) -> Result<Matrix<f32>, DataError> {
    // The file, and its elements as float32.
    let bytes_each = if matches!(ending, "fvecs" | "fbin") { 2 } else { 5 };
    let parse: Parser<f32> = match ending {
        "fvecs" => |bytes| parse_vecs(bytes, f32::from_le_bytes),
        "bvecs" => |bytes| parse_vecs(bytes, |[byte]: [u8; 1]| f32::from(byte)),
        "fbin" => |bytes| parse_bin(bytes, f32::from_le_bytes),
        "u8bin" => |bytes| parse_bin(bytes, |[byte]: [u8; 1]| f32::from(byte)),
        "i8bin" => |bytes| parse_bin(bytes, |[byte]: [u8; 1]| f32::from(byte as i8)),
        _ => return Err(DataError::UnknownFormat { path: path.to_owned() }),
    };
    size::check_file(path, bytes_each)?;
    read(path, parse)
}

/// Reads .ivecs or .ibin as row numbers, chosen by the ending.
pub fn read_rows(path: &Path, ending: &str) -> Result<Matrix<u32>, DataError> {
    let parse: Parser<u32> = match ending {
        "ivecs" => |bytes| parse_vecs(bytes, u32::from_le_bytes),
        "ibin" => |bytes| parse_bin(bytes, u32::from_le_bytes),
        _ => return Err(DataError::UnknownFormat { path: path.to_owned() }),
    };
    read(path, parse)
}

type Parser<T> = fn(&[u8]) -> Result<Matrix<T>, String>;

fn read<T>(path: &Path, parse: Parser<T>) -> Result<Matrix<T>, DataError> {
    let bytes = std::fs::read(path).map_err(DataError::read(path))?;
    parse(&bytes).map_err(|what| DataError::format(path, "vector", what))
}

fn parse_vecs<const N: usize, T: Copy + Send + Sync>(
    bytes: &[u8],
    from_bytes: impl Fn([u8; N]) -> T,
) -> Result<Matrix<T>, String> {
    let dimensions = read_u32(bytes, 0)? as usize;
    let stride =
        dimensions.checked_mul(N).and_then(|size| size.checked_add(4)).ok_or("its first row is too long")?;
    if dimensions == 0 || !bytes.len().is_multiple_of(stride) {
        return Err(format!("{} bytes are not a whole number of rows of {dimensions} elements", bytes.len()));
    }
    let mut values = Vec::with_capacity(bytes.len() / stride * dimensions);
    for (row, row_bytes) in bytes.chunks_exact(stride).enumerate() {
        let length = read_u32(row_bytes, 0)?;
        if length as usize != dimensions {
            return Err(format!("row {row} has {length} elements, row 0 has {dimensions}"));
        }
        values.extend(row_bytes[4..].as_chunks::<N>().0.iter().map(|&element| from_bytes(element)));
    }
    Ok(Matrix::new(values, dimensions))
}

fn parse_bin<const N: usize, T: Copy + Send + Sync>(
    bytes: &[u8],
    from_bytes: impl Fn([u8; N]) -> T,
) -> Result<Matrix<T>, String> {
    let (rows, dimensions) = (read_u32(bytes, 0)? as usize, read_u32(bytes, 4)? as usize);
    let expected =
        rows.checked_mul(dimensions).and_then(|count| count.checked_mul(N)).ok_or("its shape is absurd")?;
    let data = &bytes[8..];
    let has_distances = data.len() / 2 == expected && data.len().is_multiple_of(2);
    if dimensions == 0 || (data.len() != expected && !has_distances) {
        return Err(format!(
            "{rows} rows of {dimensions} need {expected} bytes of data, found {}",
            data.len()
        ));
    }
    let values = data[..expected].as_chunks::<N>().0.iter().map(|&element| from_bytes(element)).collect();
    Ok(Matrix::new(values, dimensions))
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, String> {
    let field = bytes.get(at..at + 4).ok_or("it ends within its header")?;
    Ok(u32::from_le_bytes(field.try_into().expect("the range has four bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vecs<const N: usize>(rows: &[&[[u8; N]]]) -> Vec<u8> {
        let row_bytes = |row: &&[[u8; N]]| [&(row.len() as u32).to_le_bytes(), row.as_flattened()].concat();
        rows.iter().flat_map(row_bytes).collect()
    }

    fn bin(rows: u32, dimensions: u32, data: &[u8]) -> Vec<u8> {
        [&rows.to_le_bytes(), &dimensions.to_le_bytes(), data].concat()
    }

    #[test]
    fn rows_with_their_own_length_are_read() {
        let floats =
            vecs(&[&[1f32.to_le_bytes(), 2f32.to_le_bytes()], &[3f32.to_le_bytes(), (-4f32).to_le_bytes()]]);
        assert_eq!(
            parse_vecs(&floats, f32::from_le_bytes).unwrap(),
            Matrix::new(vec![1.0, 2.0, 3.0, -4.0], 2)
        );
        let bytes = vecs(&[&[[1], [255], [0]]]);
        assert_eq!(
            parse_vecs(&bytes, |[b]: [u8; 1]| f32::from(b)).unwrap(),
            Matrix::new(vec![1.0, 255.0, 0.0], 3)
        );
    }

    #[test]
    fn rows_under_one_header_are_read_with_and_without_distances() {
        let rows: Vec<u8> = [5u32, 6, 7, 8].iter().flat_map(|row| row.to_le_bytes()).collect();
        let expected = Matrix::new(vec![5, 6, 7, 8], 2);
        assert_eq!(parse_bin(&bin(2, 2, &rows), u32::from_le_bytes).unwrap(), expected);
        let distances: Vec<u8> = [0.5f32; 4].iter().flat_map(|distance| distance.to_le_bytes()).collect();
        assert_eq!(parse_bin(&bin(2, 2, &[rows, distances].concat()), u32::from_le_bytes).unwrap(), expected);
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = vecs(&[&[[1], [2]], &[[3], [4]]]);
        let element = |[byte]: [u8; 1]| f32::from(byte);
        for length in [0, 3, 5, 7, 11] {
            assert!(parse_vecs(&good[..length], element).is_err(), "cut at {length}");
        }
        let uneven = vecs(&[&[[1], [2]], &[[3], [4]]]).into_iter().enumerate();
        let uneven: Vec<u8> = uneven.map(|(at, byte)| if at == 6 { 9 } else { byte }).collect();
        assert!(parse_vecs(&uneven, element).unwrap_err().contains("row 1 has 9"));
        for length in [0, 7, 9, 11] {
            assert!(parse_bin(&bin(2, 2, &[1, 2, 3, 4])[..length], element).is_err(), "cut at {length}");
        }
        assert!(parse_bin(&bin(u32::MAX, u32::MAX, &[1]), f32::from_le_bytes).is_err());
    }
}
