//! HDF5 files in the layout of ann-benchmarks: datasets `train`, `test` and `neighbors`, attribute
//! `distance`.
//!
//! Other publishers omit the attribute (OpenSearch's k-NN plugin, for its benchmarks). Their metric is then
//! the one by which the given neighbours are the nearest, or `--metric`.
//!
//! Source of the layout: the README of ann-benchmarks.

use std::path::Path;

use half::f16;
use hdf5_reader::error::Error;
use hdf5_reader::{Dataset as Stored, Datatype, FilterRegistry, Hdf5File, OpenOptions};

use super::{DataError, Dataset, DatasetMetric, Matrix, size};

/// The LZF filter, which comes with h5py.
const FILTER_LZF: u16 = 32_000;

fn open(path: &Path) -> Result<Hdf5File, Error> {
    let mut filters = FilterRegistry::new();
    filters.register(
        FILTER_LZF,
        Box::new(|_, packed, _| {
            lzf(packed).ok_or_else(|| Error::InvalidData("a chunk is not LZF data".to_owned()))
        }),
    );
    Hdf5File::open_with_options(path, OpenOptions::default().with_filter_registry(filters))
}

/// Whether the file names its metric.
pub(super) fn names_metric(path: &Path) -> bool {
    open(path).and_then(|file| distance(&file)).is_ok_and(|distance| distance.is_some())
}

/// Reads `train` as base, `test` as queries and `neighbors`. Without the attribute, the metric is a guess, to
/// be verified with the neighbours.
pub(super) fn read(path: &Path) -> Result<Dataset, DataError> {
    let wrong = |what: String| DataError::format(path, "HDF5 (ann-benchmarks layout)", what);
    let file = open(path).map_err(|error| wrong(error.to_string()))?;
    let metric = metric(&file).map_err(wrong)?;
    let stored = |name: &str| match file.dataset(name) {
        Ok(stored) => Ok(Some((name.to_owned(), stored))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    };
    let required = |name: &str| stored(name)?.ok_or_else(|| wrong(format!("it has no dataset '{name}'")));
    let (base, queries, neighbors) = (required("train")?, required("test")?, stored("neighbors")?);
    let elements: u64 = [&base, &queries].iter().flat_map(|(_, stored)| stored.num_elements()).sum();
    size::check(&path.display().to_string(), u128::from(elements) * size_of::<f32>() as u128)?;
    Ok(Dataset {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        metric,
        base: vectors(&base.0, &base.1).map_err(wrong)?,
        queries: vectors(&queries.0, &queries.1).map_err(wrong)?,
        neighbors: neighbors.map(|(name, stored)| rows(&name, &stored)).transpose().map_err(wrong)?,
        filtered: None,
    })
}

fn distance(file: &Hdf5File) -> Result<Option<String>, Error> {
    match file.root_group()?.attribute("distance").and_then(|attribute| attribute.read_string()) {
        Err(error) if is_absent(&error) => Ok(None),
        distance => distance.map(Some),
    }
}

fn metric(file: &Hdf5File) -> Result<DatasetMetric, String> {
    let distance = distance(file).map_err(|error| format!("attribute 'distance': {error}"))?;
    let Some(distance) = distance else { return Ok(DatasetMetric::L2) };
    match distance.as_str() {
        "euclidean" => Ok(DatasetMetric::L2),
        "angular" => Ok(DatasetMetric::Cosine),
        "dot" | "ip" => Ok(DatasetMetric::Ip),
        other => Err(format!("distance '{other}' is not one of euclidean, angular, dot")),
    }
}

fn is_absent(error: &Error) -> bool {
    match error {
        Error::DatasetNotFound(_) | Error::AttributeNotFound(_) => true,
        Error::Context { source, .. } => is_absent(source),
        _ => false,
    }
}

/// Rows of any numeric type, converted to float32.
fn vectors(name: &str, stored: &Stored) -> Result<Matrix<f32>, String> {
    let columns = columns(name, stored)?;
    let values = match stored.dtype() {
        Datatype::FloatingPoint { size: 2, .. } => {
            numbers(stored, |bytes| f16::from_ne_bytes(bytes).to_f32())
        }
        Datatype::FloatingPoint { size: 4, .. } => numbers(stored, f32::from_ne_bytes),
        Datatype::FloatingPoint { size: 8, .. } => numbers(stored, |bytes| f64::from_ne_bytes(bytes) as f32),
        Datatype::FixedPoint { .. } => {
            integers(stored).map(|values| values.into_iter().map(|value| value as f32).collect())
        }
        other => return Err(format!("'{name}' holds {other:?}, rows of vectors are numbers")),
    };
    Ok(Matrix::new(values.map_err(|error| error.to_string())?, columns))
}

/// Row numbers.
fn rows(name: &str, stored: &Stored) -> Result<Matrix<u32>, String> {
    let columns = columns(name, stored)?;
    let values = integers(stored).map_err(|error| error.to_string())?;
    let rows = values
        .into_iter()
        .map(|value| u32::try_from(value).map_err(|_| format!("{value} is not a row number")));
    Ok(Matrix::new(rows.collect::<Result<_, _>>()?, columns))
}

fn columns(name: &str, stored: &Stored) -> Result<usize, String> {
    match stored.shape() {
        &[_, columns] if columns > 0 => {
            usize::try_from(columns).map_err(|_| format!("'{name}' has {columns} columns"))
        }
        shape => Err(format!("'{name}' has shape {shape:?}, rows of vectors have two dimensions")),
    }
}

fn integers(stored: &Stored) -> Result<Vec<i64>, Error> {
    match *stored.dtype() {
        Datatype::FixedPoint { size: 1, signed: true, .. } => {
            numbers(stored, |[byte]: [u8; 1]| (byte as i8).into())
        }
        Datatype::FixedPoint { size: 1, .. } => numbers(stored, |[byte]: [u8; 1]| byte.into()),
        Datatype::FixedPoint { size: 2, signed: true, .. } => {
            numbers(stored, |bytes| i16::from_ne_bytes(bytes).into())
        }
        Datatype::FixedPoint { size: 2, .. } => numbers(stored, |bytes| u16::from_ne_bytes(bytes).into()),
        Datatype::FixedPoint { size: 4, signed: true, .. } => {
            numbers(stored, |bytes| i32::from_ne_bytes(bytes).into())
        }
        Datatype::FixedPoint { size: 4, .. } => numbers(stored, |bytes| u32::from_ne_bytes(bytes).into()),
        Datatype::FixedPoint { size: 8, .. } => numbers(stored, i64::from_ne_bytes),
        ref other => Err(Error::InvalidData(format!("it holds {other:?}, not integers"))),
    }
}

fn numbers<const N: usize, T>(stored: &Stored, from_bytes: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Error> {
    let bytes = stored.read_native_bytes()?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|&element| from_bytes(element)).collect())
}

/// Decompresses LZF data (Marc Lehmann's LibLZF). A byte below 32 is followed by that many bytes plus one,
/// which are copied. Any other byte has a length minus 2 in its upper three bits (7 means 7 plus the next
/// byte), and in the lower five bits and the byte after a distance minus 1: the bytes at that distance back
/// are repeated. `None` for other input.
fn lzf(mut packed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(packed.len() * 2);
    while let Some((&control, rest)) = packed.split_first() {
        packed = rest;
        if control < 32 {
            let (literal, rest) = packed.split_at_checked(usize::from(control) + 1)?;
            bytes.extend_from_slice(literal);
            packed = rest;
            continue;
        }
        let mut next = || {
            let (&byte, rest) = packed.split_first()?;
            packed = rest;
            Some(usize::from(byte))
        };
        let length = match usize::from(control >> 5) {
            7 => 7 + next()?,
            length => length,
        };
        let distance = (usize::from(control & 31) << 8) + next()? + 1;
        let start = bytes.len().checked_sub(distance)?;
        // The source may overlap the bytes that are appended.
        (start..start + length + 2).for_each(|place| bytes.push(bytes[place]));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by h5py; see `fixtures/README.md`.
    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fixtures").join(name)
    }

    #[test]
    fn the_layout_of_ann_benchmarks_is_read() {
        let dataset = read(&fixture("ann-benchmarks.hdf5")).unwrap();
        assert_eq!(
            (dataset.metric, dataset.base.shape(), dataset.queries.shape()),
            (DatasetMetric::Cosine, [3, 2], [1, 2])
        );
        assert_eq!((dataset.base.row(2), dataset.queries.row(0)), (&[0.5, 0.5][..], &[0.0, 0.9][..]));
        assert_eq!(dataset.neighbors.unwrap().values(), [0, 2, 1]);
    }

    #[test]
    fn other_types_chunks_and_compression_are_read_and_neighbors_may_be_missing() {
        let dataset = read(&fixture("other-types.hdf5")).unwrap();
        assert_eq!((dataset.metric, dataset.neighbors), (DatasetMetric::L2, None));
        assert_eq!(dataset.base.row(2), [0.5, 0.5], "float64, in compressed chunks, with a checksum");
        assert_eq!(dataset.queries.row(0), [0.0, 2.0], "big-endian integers of two bytes");
    }

    /// The layout without the attribute, in chunks that h5py compressed with LZF: the first ones are zeros.
    #[test]
    fn lzf_is_read_and_the_metric_may_be_missing() {
        let dataset = read(&fixture("lzf.hdf5")).unwrap();
        assert_eq!((dataset.base.shape(), dataset.queries.shape()), ([40, 32], [1, 32]));
        assert!(dataset.base.row(0).iter().all(|value| *value == 0.0));
        let last: Vec<f32> = (0..32).map(|column| (39 * column % 7) as f32).collect();
        assert_eq!(dataset.base.row(39), last);
        assert!(!names_metric(&fixture("lzf.hdf5")) && names_metric(&fixture("hamming.hdf5")));
        for damaged in [&[0][..], &[32, 0], &[224], &[31, 1]] {
            assert_eq!(lzf(damaged), None, "{damaged:?}");
        }
        assert_eq!(lzf(&[0, 7, 0x20, 0]).unwrap(), [7, 7, 7, 7], "it repeats what it makes");
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let refusal = read(&fixture("hamming.hdf5")).unwrap_err().to_string();
        assert!(refusal.contains("hamming.hdf5") && refusal.contains("'hamming' is not one of"), "{refusal}");
        assert!(matches!(read(&fixture("README.md")), Err(DataError::Format { .. })));
        let whole = std::fs::read(fixture("ann-benchmarks.hdf5")).unwrap();
        let directory = engramdb_testkit::TempDir::new("bench-cut");
        let path = directory.join("cut.hdf5");
        // The rest of the file has the distances, which are not read.
        for length in (0..8_000).step_by(97) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err(), "cut at {length}");
        }
    }
}
