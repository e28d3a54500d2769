//! `manifest.toml`: the contents of a data set directory (datasets/README.md describes each entry).

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{DataError, Dataset, DatasetMetric, file, npy};

const FILE: &str = "manifest.toml";

pub(super) fn is_layout(directory: &Path) -> bool {
    directory.join(FILE).is_file()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    metric: DatasetMetric,
    base: Entry,
    queries: Entry,
    neighbors: Option<Entry>,
    base_text: Option<Entry>,
    query_text: Option<Entry>,
    #[serde(rename = "licence")]
    _licence: Option<String>,
    #[serde(rename = "made")]
    _made: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    file: String,
    shape: Option<[usize; 2]>,
    sha256: Option<String>,
    #[serde(rename = "dtype")]
    _dtype: Option<String>,
}

/// Reads `directory` after checking every file against its manifest.
pub(super) fn read(directory: &Path) -> Result<Dataset, DataError> {
    let path = directory.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(DataError::read(&path))?;
    let manifest: Manifest =
        toml::from_str(&text).map_err(|error| DataError::format(&path, "manifest", error.message()))?;
    for text in [&manifest.base_text, &manifest.query_text].into_iter().flatten() {
        check_sum(directory, text)?;
    }
    let vectors = |entry: &Entry| {
        check_sum(directory, entry)?;
        let matrix = file::read_vectors(&directory.join(&entry.file))?;
        check_shape(&path, entry, matrix.shape())?;
        Ok(matrix)
    };
    let neighbors = |entry: &Entry| {
        check_sum(directory, entry)?;
        let matrix = file::read_rows(&directory.join(&entry.file))?;
        check_shape(&path, entry, matrix.shape())?;
        Ok(matrix)
    };
    Ok(Dataset {
        base: vectors(&manifest.base)?,
        queries: vectors(&manifest.queries)?,
        neighbors: manifest.neighbors.as_ref().map(neighbors).transpose()?,
        name: manifest.name,
        metric: manifest.metric,
        filtered: None,
    })
}

/// The files of a data set with their names, the manifest last.
///
/// # Panics
/// Panics if the data set has no neighbours.
pub fn files_of(dataset: &Dataset) -> Vec<(&'static str, Vec<u8>)> {
    let neighbors = dataset.neighbors.as_ref().expect("neighbours are computed before they are written");
    let entries = [
        ("base", "base.npy", "float32", npy::write_vectors(&dataset.base), dataset.base.shape()),
        ("queries", "queries.npy", "float32", npy::write_vectors(&dataset.queries), dataset.queries.shape()),
        ("neighbors", "neighbors.npy", "int32", npy::write_rows(neighbors), neighbors.shape()),
    ];
    let metric = dataset.metric.redis_name().to_ascii_lowercase();
    let mut text = format!("name = {:?}\nmetric = \"{metric}\"\n", dataset.name);
    for (role, file, dtype, bytes, shape) in &entries {
        let sum = sha256_hex(bytes);
        write!(
            text,
            "\n[{role}]\nfile = \"{file}\"\nshape = {shape:?}\ndtype = \"{dtype}\"\nsha256 = \"{sum}\"\n"
        )
        .expect("writing to a string succeeds");
    }
    let files = entries.into_iter().map(|(_, file, _, bytes, _)| (file, bytes));
    files.chain([("manifest.toml", text.into_bytes())]).collect()
}

fn check_sum(directory: &Path, entry: &Entry) -> Result<(), DataError> {
    let Some(expected) = &entry.sha256 else { return Ok(()) };
    let path = directory.join(&entry.file);
    let actual = sha256_hex(&std::fs::read(&path).map_err(DataError::read(&path))?);
    if !expected.eq_ignore_ascii_case(&actual) {
        return Err(DataError::Checksum { path, expected: expected.clone(), actual });
    }
    Ok(())
}

fn check_shape(manifest: &Path, entry: &Entry, actual: [usize; 2]) -> Result<(), DataError> {
    match entry.shape {
        Some(expected) if expected != actual => {
            let what = format!("it says that {} has shape {expected:?}, the file has {actual:?}", entry.file);
            Err(DataError::format(manifest, "manifest", what))
        }
        _ => Ok(()),
    }
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    })
}
