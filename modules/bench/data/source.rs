//! The source of a data set: the flags that select it, and the choice of reader by file name extension.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::file::{ending, read_rows, read_vectors};
use super::{
    DataError, Dataset, DatasetMetric, compound, hdf5, judge, locate, manifest, parquet, size, synthetic,
};

/// The flags with which every command selects its data.
#[derive(Args, Clone, Debug)]
pub struct DatasetArgs {
    /// A directory with a manifest.toml, one in the layout of VectorDBBench (train.parquet, test.parquet,
    /// neighbors.parquet) or of vector-db-benchmark (vectors.npy, payloads.jsonl, tests.jsonl), an .hdf5 file
    /// in ann-benchmarks' layout, or synthetic:ROWS:DIMENSIONS:SEED. The data sets of the repository are
    /// found from any working directory
    #[arg(long, value_name = "SOURCE", default_value = "datasets/rustdoc-minilm-10k")]
    pub dataset: DatasetSource,
    /// Rows to index, from a file (.npy .fvecs .bvecs .fbin .u8bin .i8bin .parquet); with --queries, instead
    /// of --dataset
    #[arg(long, value_name = "FILE", requires = "queries", conflicts_with = "dataset")]
    pub base: Option<PathBuf>,
    /// Query vectors, from a file
    #[arg(long, value_name = "FILE", requires = "base")]
    pub queries: Option<PathBuf>,
    /// Exact neighbours of each query, from a file (.npy .ivecs .ibin .parquet); computed when absent
    #[arg(long, value_name = "FILE", requires = "base")]
    pub neighbors: Option<PathBuf>,
    /// Overrides the metric of the data set. If the data set names none, it is that of the given neighbours;
    /// without neighbours it is l2 for files, and cosine for directories
    #[arg(long, value_enum)]
    pub metric: Option<DatasetMetric>,
    /// Index only the first ROWS rows (exact neighbours are then computed)
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<usize>,
    /// Use only the first COUNT queries
    #[arg(long, value_name = "COUNT")]
    pub limit_queries: Option<usize>,
}

impl DatasetArgs {
    /// The flags that select `dataset` without changing it.
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
                filtered: None,
                name: base.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                metric: DatasetMetric::L2,
                base: read_vectors(base)?,
                queries: read_vectors(queries)?,
                neighbors: self.neighbors.as_deref().map(read_rows).transpose()?,
            },
            _ => self.dataset.load()?,
        };
        let names_metric = self.base.is_none() && self.dataset.names_metric();
        if let Some(metric) = self.metric.filter(|&metric| metric != dataset.metric) {
            // Neighbours by another metric differ, unless the files name no metric.
            if names_metric {
                dataset.forget_neighbors();
            }
            dataset.metric = metric;
        }
        let mut dataset = dataset.check()?;
        if self.metric.is_none() && !names_metric {
            dataset.metric = judge::fitting(&dataset).unwrap_or(dataset.metric);
        }
        judge::check(&dataset)?;
        dataset.truncate(self.limit, self.limit_queries);
        dataset.check()
    }
}

/// The value of `--dataset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatasetSource {
    /// A directory with a manifest.
    Directory(PathBuf),
    /// One file in ann-benchmarks' layout.
    Hdf5(PathBuf),
    /// Vectors generated from a seed.
    Synthetic { rows: u64, dimensions: u64, seed: u64 },
}

impl DatasetSource {
    /// The data set's directory, if it has one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            DatasetSource::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn load(&self) -> Result<Dataset, DataError> {
        match self {
            DatasetSource::Directory(directory) if compound::is_layout(directory) => {
                compound::read(directory)
            }
            DatasetSource::Directory(directory) if parquet::is_layout(directory) => parquet::read(directory),
            DatasetSource::Directory(directory) if !directory.is_dir() || manifest::is_layout(directory) => {
                manifest::read(directory)
            }
            DatasetSource::Directory(path) => Err(DataError::UnknownLayout { path: path.clone() }),
            DatasetSource::Hdf5(path) => hdf5::read(path),
            &DatasetSource::Synthetic { rows, dimensions, seed } => {
                let name = format!("synthetic:{rows}:{dimensions}:{seed}");
                size::check_rows(&name, rows, dimensions, 1.0)?;
                // The generator needs the centres and the basis of its clusters besides the rows.
                size::check_rows(&name, rows.isqrt() + dimensions, synthetic::LATENT as u64, 1.0)?;
                let [rows, dimensions] = match [u32::try_from(rows), u32::try_from(dimensions)] {
                    [Ok(rows), Ok(dimensions)] => [rows as usize, dimensions as usize],
                    _ => return Err(DataError::TooManyRows { what: name }),
                };
                Ok(synthetic::generate(rows, dimensions, seed))
            }
        }
    }

    /// Whether the files name the metric.
    fn names_metric(&self) -> bool {
        match self {
            DatasetSource::Directory(directory) => {
                !compound::is_layout(directory) && !parquet::is_layout(directory)
            }
            DatasetSource::Hdf5(path) => hdf5::names_metric(path),
            DatasetSource::Synthetic { .. } => true,
        }
    }
}

impl FromStr for DatasetSource {
    type Err = DataError;

    fn from_str(given: &str) -> Result<Self, DataError> {
        if let Some(parameters) = given.strip_prefix("synthetic:") {
            let numbers: Result<Vec<u64>, _> = parameters.split(':').map(str::parse).collect();
            return match numbers.as_deref() {
                Ok(&[rows, dimensions, seed]) if rows > 0 && dimensions > 0 => {
                    Ok(DatasetSource::Synthetic { rows, dimensions, seed })
                }
                _ => Err(DataError::UnknownSource { given: given.to_owned() }),
            };
        }
        match ending(Path::new(given)).as_str() {
            "hdf5" | "h5" => Ok(DatasetSource::Hdf5(locate(Path::new(given)))),
            "toml" => {
                Ok(DatasetSource::Directory(Path::new(given).parent().unwrap_or(Path::new(".")).to_owned()))
            }
            "npy" | "fvecs" | "bvecs" | "fbin" | "u8bin" | "i8bin" | "parquet" => {
                Err(DataError::UnknownSource {
                    given: format!("{given} (one file; use --base and --queries)"),
                })
            }
            _ => Ok(DatasetSource::Directory(locate(Path::new(given)))),
        }
    }
}
