//! HDF5 files in the layout of ann-benchmarks: datasets `train`, `test` and `neighbors`, attribute `distance`.

use std::path::Path;

use hdf5_metno::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5_metno::{Attribute, File, H5Type};

use super::{DataError, Dataset, Matrix, Metric};

/// Reads `train` as base, `test` as queries and `neighbors`.
pub(super) fn read(path: &Path) -> Result<Dataset, DataError> {
    parse(path).map_err(|what| DataError::format(path, "HDF5 (ann-benchmarks layout)", what))
}

fn parse(path: &Path) -> Result<Dataset, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let distance = file
        .attr("distance")
        .and_then(|attribute| text(&attribute))
        .map_err(|error| format!("attribute 'distance': {error}"))?;
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

/// A string of any of HDF5's kinds: h5py writes str as one and bytes as another, and the library converts none into another.
fn text(attribute: &Attribute) -> Result<String, hdf5_metno::Error> {
    const BYTES_MAX: usize = 64;
    let kind = attribute.dtype()?.to_descriptor()?;
    Ok(match kind {
        TypeDescriptor::FixedAscii(_) => {
            attribute.read_scalar::<FixedAscii<BYTES_MAX>>()?.as_str().to_owned()
        }
        TypeDescriptor::FixedUnicode(_) => {
            attribute.read_scalar::<FixedUnicode<BYTES_MAX>>()?.as_str().to_owned()
        }
        TypeDescriptor::VarLenAscii => attribute.read_scalar::<VarLenAscii>()?.as_str().to_owned(),
        _ => attribute.read_scalar::<VarLenUnicode>()?.as_str().to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A new file below the temporary directory, in ann-benchmarks' layout but for the attribute.
    fn file(name: &str, with_neighbors: bool) -> (std::path::PathBuf, File) {
        let path = std::env::temp_dir().join(format!("engramdb-bench-{}-{name}.hdf5", std::process::id()));
        let file = File::create(&path).unwrap();
        let write = |name: &str, values: &[f32]| {
            let dataset = file.new_dataset::<f32>().shape([values.len() / 2, 2]).create(name).unwrap();
            dataset.write_raw(values).unwrap();
        };
        write("train", &[0.0, 1.0, 1.0, 0.0, 0.5, 0.5]);
        write("test", &[0.0, 0.9]);
        if with_neighbors {
            let dataset = file.new_dataset::<i32>().shape([1, 3]).create("neighbors").unwrap();
            dataset.write_raw(&[0i32, 2, 1]).unwrap();
        }
        (path, file)
    }

    fn set_distance<T: H5Type>(file: &File, distance: T) {
        file.new_attr::<T>().create("distance").unwrap().write_scalar(&distance).unwrap();
    }

    #[test]
    fn the_layout_of_ann_benchmarks_is_read() {
        let (path, file) = file("whole", true);
        set_distance::<VarLenUnicode>(&file, "angular".parse().unwrap());
        drop(file);
        let dataset = read(&path).unwrap();
        assert_eq!(
            (dataset.metric, dataset.base.shape(), dataset.queries.shape()),
            (Metric::Cosine, [3, 2], [1, 2])
        );
        assert_eq!((dataset.base.row(2), dataset.queries.row(0)), (&[0.5, 0.5][..], &[0.0, 0.9][..]));
        assert_eq!(dataset.exact_neighbors(3), [[0, 2, 1]]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn any_kind_of_string_names_the_distance_and_neighbors_may_be_missing() {
        let kinds: [fn(&File); 3] = [
            |file| set_distance(file, FixedAscii::<9>::from_ascii("euclidean").unwrap()),
            |file| set_distance::<FixedUnicode<20>>(file, "euclidean".parse().unwrap()),
            |file| set_distance(file, VarLenAscii::from_ascii("euclidean").unwrap()),
        ];
        for set in kinds {
            let (path, file) = file("kinds", false);
            set(&file);
            drop(file);
            let dataset = read(&path).unwrap();
            assert_eq!((dataset.metric, dataset.neighbors), (Metric::L2, None));
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused_by_name() {
        let (path, file) = file("hamming", false);
        set_distance::<VarLenUnicode>(&file, "hamming".parse().unwrap());
        drop(file);
        let refusal = read(&path).unwrap_err().to_string();
        assert!(refusal.contains("hamming.hdf5") && refusal.contains("'hamming' is not one of"), "{refusal}");
        std::fs::write(&path, b"no HDF5").unwrap();
        assert!(matches!(read(&path), Err(DataError::Format { .. })));
        std::fs::remove_file(path).unwrap();
    }
}
