//! The errors of reading a data set. Each text names the file and says what to do.

use std::path::{Path, PathBuf};

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error(
        "cannot read {}: {source}; name another file (data sets were looked for in the current directory and those above \
         it, above the program, and in the repository that it was built from)",
        path.display()
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not a valid {format} file: {what}", path.display())]
    Format { path: PathBuf, format: &'static str, what: String },
    #[error(
        "{} ends in none of .npy, .fvecs, .ivecs, .bvecs, .fbin, .ibin, .u8bin, .i8bin, .parquet: convert it to one of \
         these (numpy.save writes .npy)",
        path.display()
    )]
    UnknownFormat { path: PathBuf },
    #[error(
        "{}: sha256 is {actual}, but the manifest says {expected}: the file is damaged or not the one that was \
         described; fetch it again, or correct the manifest if you changed the file on purpose",
        path.display()
    )]
    Checksum { path: PathBuf, expected: String, actual: String },
    #[error("data set {name} contradicts itself: {what}")]
    Inconsistent { name: String, what: String },
    #[error(
        "'{given}' is not a data set: give a directory with a manifest.toml (or test.parquet, or tests.jsonl), an .hdf5 file, or \
         synthetic:ROWS:DIMENSIONS:SEED"
    )]
    UnknownSource { given: String },
    #[error(
        "{} holds no data set: none of manifest.toml, train.parquet and test.parquet (VectorDBBench), vectors.npy and tests.jsonl \
         (vector-db-benchmark) is in it",
        path.display()
    )]
    UnknownLayout { path: PathBuf },
    #[error("{what} needs {needed} of memory, and {available} are available: use fewer rows or dimensions")]
    TooLarge { what: String, needed: String, available: String },
    #[error("{what}: row numbers are 32-bit, so that there are at most 4294967295 rows")]
    TooManyRows { what: String },
    #[error(
        "the neighbours that come with {name} are the nearest by {other}, not by {metric}: recall against them would mean \
         nothing. Give --metric {other}, or leave the neighbours out to have them computed"
    )]
    WrongMetric { name: String, metric: String, other: String },
    #[error(
        "of the neighbours that come with {name}, {percent} percent are among the nearest by {metric}, and they are the nearest \
         by none of l2, ip and cosine: they belong to other rows, or to other queries. Leave them out to have them computed"
    )]
    WrongNeighbors { name: String, metric: String, percent: u32 },
}

impl DataError {
    pub(super) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| DataError::Read { path, source }
    }

    pub(super) fn format(path: &Path, format: &'static str, what: impl Into<String>) -> Self {
        DataError::Format { path: path.to_owned(), format, what: what.into() }
    }
}
