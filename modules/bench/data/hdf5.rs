//! HDF5 files in the layout of ann-benchmarks: datasets `train`, `test` and `neighbors`, attribute `distance`.

use std::path::Path;

use hdf5_metno::types::VarLenUnicode;
use hdf5_metno::{File, H5Type};

use super::{DataError, Dataset, Matrix, Metric};

/// Reads `train` as base, `test` as queries and `neighbors`.
pub(super) fn read(path: &Path) -> Result<Dataset, DataError> {
    parse(path).map_err(|what| DataError::format(path, "HDF5 (ann-benchmarks layout)", what))
}

fn parse(path: &Path) -> Result<Dataset, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let distance: VarLenUnicode = file
        .attr("distance")
        .and_then(|attribute| attribute.read_scalar())
        .map_err(|error| error.to_string())?;
    let metric = match distance.as_str() {
        "euclidean" => Metric::L2,
        "angular" => Metric::Cosine,
        "dot" | "ip" => Metric::Ip,
        other => return Err(format!("distance '{other}' is not one of euclidean, angular, dot")),
    };
    let has_neighbors =
        file.member_names().map_err(|error| error.to_string())?.iter().any(|name| name == "neighbors");
    let neighbors =
        if has_neighbors { Some(matrix::<i32>(&file, "neighbors")?.map(|row| row as u32)) } else { None };
    Ok(Dataset {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        metric,
        base: matrix::<f32>(&file, "train")?,
        queries: matrix::<f32>(&file, "test")?,
        neighbors,
    })
}

fn matrix<T: H5Type + Copy + Send + Sync>(file: &File, name: &str) -> Result<Matrix<T>, String> {
    let dataset = file.dataset(name).map_err(|error| error.to_string())?;
    match dataset.shape().as_slice() {
        &[_, columns] if columns > 0 => {
            Ok(Matrix::new(dataset.read_raw().map_err(|error| error.to_string())?, columns))
        }
        shape => Err(format!("'{name}' has shape {shape:?}, rows of vectors have two dimensions")),
    }
}
