//! Where a data set comes from: the flags that name it, and the choice of reader by file ending.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::file::{ending, read_rows, read_vectors};
use super::{DataError, Dataset, Metric, manifest, synthetic};

/// The flags with which every command names its data.
#[derive(Args, Clone, Debug)]
pub struct DatasetArgs {
    /// A directory with a manifest.toml, an .hdf5 file in ann-benchmarks' layout, or synthetic:ROWS:DIMENSIONS:SEED
    #[arg(long, value_name = "SOURCE", default_value = "datasets/rustdoc-minilm-10k")]
    pub dataset: DatasetSource,
    /// Rows to index, from a file (.npy .fvecs .bvecs .fbin .u8bin); with --queries, instead of --dataset
    #[arg(long, value_name = "FILE", requires = "queries", conflicts_with = "dataset")]
    pub base: Option<PathBuf>,
    /// Rows to ask with, from a file
    #[arg(long, value_name = "FILE", requires = "base")]
    pub queries: Option<PathBuf>,
    /// Exact neighbours of each query, from a file (.npy .ivecs .ibin); computed when absent
    #[arg(long, value_name = "FILE", requires = "base")]
    pub neighbors: Option<PathBuf>,
    /// Overrides the metric of the data set; files without a manifest are l2 otherwise
    #[arg(long, value_enum)]
    pub metric: Option<Metric>,
    /// Index only the first ROWS rows (exact neighbours are computed anew)
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<usize>,
    /// Ask only the first COUNT queries
    #[arg(long, value_name = "COUNT")]
    pub limit_queries: Option<usize>,
}

impl DatasetArgs {
    /// The flags that name `dataset` and change nothing about it.
    pub fn of(dataset: DatasetSource) -> Self {
        Self {
            dataset,
            base: None,
            queries: None,
            neighbors: None,
            metric: None,
            limit: None,
            limit_queries: None,
        }
    }

    /// Reads or generates the data set, and checks that it is consistent.
    pub fn load(&self) -> Result<Dataset, DataError> {
        let mut dataset = match (&self.base, &self.queries) {
            (Some(base), Some(queries)) => Dataset {
                name: base.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                metric: Metric::L2,
                base: read_vectors(base)?,
                queries: read_vectors(queries)?,
                neighbors: self.neighbors.as_deref().map(read_rows).transpose()?,
            },
            _ => self.dataset.load()?,
        };
        if let Some(metric) = self.metric.filter(|&metric| metric != dataset.metric) {
            // Neighbours by another metric are other neighbours, unless the files came without one.
            if self.base.is_none() {
                dataset.neighbors = None;
            }
            dataset.metric = metric;
        }
        let mut dataset = dataset.check()?;
        dataset.truncate(self.limit, self.limit_queries);
        dataset.check()
    }
}

/// What `--dataset` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatasetSource {
    /// A directory with a manifest.
    Directory(PathBuf),
    /// One file in ann-benchmarks' layout.
    Hdf5(PathBuf),
    /// Vectors made from a seed.
    Synthetic { rows: usize, dimensions: usize, seed: u64 },
}

impl DatasetSource {
    /// The data set's directory, where it has one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            DatasetSource::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn load(&self) -> Result<Dataset, DataError> {
        match self {
            DatasetSource::Directory(directory) => manifest::read(directory),
            DatasetSource::Hdf5(path) => read_hdf5(path),
            &DatasetSource::Synthetic { rows, dimensions, seed } => {
                Ok(synthetic::generate(rows, dimensions, seed))
            }
        }
    }
}

impl FromStr for DatasetSource {
    type Err = DataError;

    fn from_str(given: &str) -> Result<Self, DataError> {
        if let Some(parameters) = given.strip_prefix("synthetic:") {
            let numbers: Result<Vec<u64>, _> = parameters.split(':').map(str::parse).collect();
            return match numbers.as_deref() {
                Ok(&[rows, dimensions, seed])
                    if rows > 0 && rows <= u64::from(u32::MAX) && dimensions > 0 =>
                {
                    Ok(DatasetSource::Synthetic {
                        rows: rows as usize,
                        dimensions: dimensions as usize,
                        seed,
                    })
                }
                _ => Err(DataError::UnknownSource { given: given.to_owned() }),
            };
        }
        match ending(Path::new(given)).as_str() {
            "hdf5" | "h5" => Ok(DatasetSource::Hdf5(given.into())),
            "toml" => {
                Ok(DatasetSource::Directory(Path::new(given).parent().unwrap_or(Path::new(".")).to_owned()))
            }
            "npy" | "fvecs" | "bvecs" | "fbin" | "u8bin" | "i8bin" => Err(DataError::UnknownSource {
                given: format!("{given} (one file; use --base and --queries)"),
            }),
            _ => Ok(DatasetSource::Directory(given.into())),
        }
    }
}

#[cfg(feature = "hdf5")]
fn read_hdf5(path: &Path) -> Result<Dataset, DataError> {
    super::hdf5::read(path)
}

#[cfg(not(feature = "hdf5"))]
fn read_hdf5(path: &Path) -> Result<Dataset, DataError> {
    Err(DataError::Hdf5NotBuilt { path: path.to_owned() })
}
