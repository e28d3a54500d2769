//! One file of vectors, or of row numbers, in the format of its file name extension.

use std::path::Path;

use super::{DataError, Matrix, npy, parquet, vecs};

pub(super) fn read_vectors(path: &Path) -> Result<Matrix<f32>, DataError> {
    match ending(path).as_str() {
        "npy" => npy::read_vectors(path),
        "parquet" => parquet::read_vectors(path),
        other => vecs::read_vectors(path, other),
    }
}

pub(super) fn read_rows(path: &Path) -> Result<Matrix<u32>, DataError> {
    match ending(path).as_str() {
        "npy" => npy::read_rows(path),
        "parquet" => parquet::read_rows(path),
        other => vecs::read_rows(path, other),
    }
}

pub(super) fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}
