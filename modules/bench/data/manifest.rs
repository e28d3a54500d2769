//! `manifest.toml`: what a data set directory holds (datasets/README.md describes each entry).

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{DataError, Dataset, Metric, source};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    metric: Metric,
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

/// Reads `directory` after checking every file against the manifest in it.
pub(super) fn read(directory: &Path) -> Result<Dataset, DataError> {
    let path = directory.join("manifest.toml");
    let text = std::fs::read_to_string(&path).map_err(DataError::read(&path))?;
    let manifest: Manifest =
        toml::from_str(&text).map_err(|error| DataError::format(&path, "manifest", error.message()))?;
    for text in [&manifest.base_text, &manifest.query_text].into_iter().flatten() {
        check_sum(directory, text)?;
    }
    let vectors = |entry: &Entry| {
        check_sum(directory, entry)?;
        let matrix = source::read_vectors(&directory.join(&entry.file))?;
        check_shape(&path, entry, [matrix.rows(), matrix.columns()])?;
        Ok(matrix)
    };
    let neighbors = |entry: &Entry| {
        check_sum(directory, entry)?;
        let matrix = source::read_rows(&directory.join(&entry.file))?;
        check_shape(&path, entry, [matrix.rows(), matrix.columns()])?;
        Ok(matrix)
    };
    Ok(Dataset {
        base: vectors(&manifest.base)?,
        queries: vectors(&manifest.queries)?,
        neighbors: manifest.neighbors.as_ref().map(neighbors).transpose()?,
        name: manifest.name,
        metric: manifest.metric,
    })
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
