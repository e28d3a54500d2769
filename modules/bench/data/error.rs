//! Why a data set cannot be used, and what to do about it.

use std::path::{Path, PathBuf};

/// Each text names the file and ends with the way out.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error(
        "cannot read {}: {source}; name another file, or run this where the path leads to it (the default data set lies in \
         the repository)",
        path.display()
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not a valid {format} file: {what}", path.display())]
    Format { path: PathBuf, format: &'static str, what: String },
    #[error(
        "{} ends in none of .npy, .fvecs, .ivecs, .bvecs, .fbin, .ibin, .u8bin, .hdf5: convert it to one of these \
         (numpy.save writes .npy)",
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
        "'{given}' is no data set: give a directory with a manifest.toml, an .hdf5 file, or synthetic:ROWS:DIMENSIONS:SEED"
    )]
    UnknownSource { given: String },
    #[cfg(not(feature = "hdf5"))]
    #[error(
        "{} needs the HDF5 library: build with `cargo build --release --features hdf5` (and libhdf5-dev, as Debian calls it), \
         or convert the file to .npy",
        path.display()
    )]
    Hdf5NotBuilt { path: PathBuf },
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
