//! Data sets of vectors: base rows, queries, and the exact neighbours of each query.
//!
//! Rows of every element type are read as float32, because that is what the measured servers receive. Files
//! are checked against their manifest if there is one; missing neighbours are computed exactly (`truth`).
//! Nothing is downloaded: a data set is files on disk, or is generated from a seed (`synthetic`).

mod compound;
mod error;
mod file;
pub mod filtered;
mod hdf5;
pub mod intrinsic;
mod judge;
mod locate;
pub mod manifest;
pub mod npy;
mod parquet;
pub mod size;
mod source;
pub mod synthetic;
pub mod truth;
pub mod vecs;

pub use error::DataError;
pub use filtered::FilteredQueries;
pub use locate::locate;
pub use source::{DatasetArgs, DatasetSource};

use clap::ValueEnum;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The distance between two vectors, in the terms of FT.CREATE's attribute DISTANCE_METRIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DatasetMetric {
    /// Squared Euclidean distance.
    #[serde(alias = "euclidean")]
    L2,
    /// One minus the inner product.
    #[serde(alias = "dot")]
    Ip,
    /// One minus the cosine of the angle.
    #[serde(alias = "angular")]
    Cosine,
}

impl DatasetMetric {
    /// The word in FT.CREATE.
    pub fn redis_name(self) -> &'static str {
        match self {
            DatasetMetric::L2 => "L2",
            DatasetMetric::Ip => "IP",
            DatasetMetric::Cosine => "COSINE",
        }
    }

    /// The same metric in the crate of the generators.
    pub fn generated(self) -> engramdb_datasets::DataMetric {
        match self {
            DatasetMetric::L2 => engramdb_datasets::DataMetric::L2,
            DatasetMetric::Ip => engramdb_datasets::DataMetric::Ip,
            DatasetMetric::Cosine => engramdb_datasets::DataMetric::Cosine,
        }
    }

    /// The same metric in the vector crate.
    pub fn kernel(self) -> engramdb_vector::Metric {
        match self {
            DatasetMetric::L2 => engramdb_vector::Metric::L2,
            DatasetMetric::Ip => engramdb_vector::Metric::InnerProduct,
            DatasetMetric::Cosine => engramdb_vector::Metric::Cosine,
        }
    }
}

impl From<engramdb_datasets::DataMetric> for DatasetMetric {
    fn from(metric: engramdb_datasets::DataMetric) -> Self {
        match metric {
            engramdb_datasets::DataMetric::L2 => DatasetMetric::L2,
            engramdb_datasets::DataMetric::Ip => DatasetMetric::Ip,
            engramdb_datasets::DataMetric::Cosine => DatasetMetric::Cosine,
        }
    }
}

/// Rows of equal length, one after another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix<T> {
    values: Vec<T>,
    columns: usize,
}

impl<T: Copy + Send + Sync> Matrix<T> {
    /// Takes `values` as rows of `columns` elements each.
    ///
    /// # Panics
    /// Panics if `values` is not a whole number of rows.
    pub fn new(values: Vec<T>, columns: usize) -> Self {
        assert!(columns > 0, "a matrix has at least one column");
        assert_eq!(values.len() % columns, 0, "a matrix is a whole number of rows");
        Self { values, columns }
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The numbers of rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows(), self.columns()]
    }

    pub fn row(&self, row: usize) -> &[T] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    pub fn iter(&self) -> std::slice::ChunksExact<'_, T> {
        self.values.chunks_exact(self.columns)
    }

    /// Every element, row after row.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// Keeps the first `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows.saturating_mul(self.columns));
    }
}

/// The input of a recall and latency run: rows to index, queries, and the right answers.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub name: String,
    pub metric: DatasetMetric,
    pub base: Matrix<f32>,
    pub queries: Matrix<f32>,
    /// Row numbers of `base` for each query, nearest first. `None` if they were not computed yet.
    pub neighbors: Option<Matrix<u32>>,
    /// Conditions of the queries. `None` if every query searches all rows.
    pub filtered: Option<FilteredQueries>,
}

impl Dataset {
    /// Elements of each vector.
    pub fn dimensions(&self) -> usize {
        self.base.columns()
    }

    /// Keeps the first `rows` base rows and `queries` queries. Fewer base rows have different neighbours, so
    /// the given ones are dropped.
    pub fn truncate(&mut self, rows: Option<usize>, queries: Option<usize>) {
        if let Some(rows) = rows.filter(|&rows| rows < self.base.rows()) {
            self.base.truncate(rows);
            self.neighbors = None;
            if let Some(filtered) = &mut self.filtered {
                filtered.truncate_rows(rows);
            }
            self.name = format!("{} (first {rows})", self.name);
        }
        if let Some(queries) = queries.filter(|&queries| queries < self.queries.rows()) {
            self.queries.truncate(queries);
            if let Some(neighbors) = &mut self.neighbors {
                neighbors.truncate(queries);
            }
            if let Some(filtered) = &mut self.filtered {
                filtered.truncate_queries(queries);
            }
        }
    }

    /// The nearest rows of a query in the data set, of any number.
    fn given(&self, query: usize) -> &[u32] {
        match (&self.neighbors, &self.filtered) {
            (Some(neighbors), _) => neighbors.row(query),
            (None, Some(filtered)) => filtered.given.get(query).map_or(&[], Vec::as_slice),
            (None, None) => &[],
        }
    }

    /// Drops the given neighbours: they are those of another metric.
    fn forget_neighbors(&mut self) {
        self.neighbors = None;
        if let Some(filtered) = &mut self.filtered {
            filtered.given.clear();
        }
    }

    /// The `k` nearest rows of each query, under its own condition if it has one: the given ones if there are
    /// enough, otherwise exact ones that are computed now.
    pub fn exact_neighbors(&self, k: usize) -> truth::Answers {
        if let Some(filtered) = &self.filtered {
            let distances = truth::Distances::new(&self.base, self.metric);
            let of = |query: usize| match self.given(query).get(..k) {
                Some(given) => given.to_vec(),
                None => distances.nearest(self.queries.row(query), k, filtered.allowed(query).as_deref()),
            };
            return (0..self.queries.rows()).into_par_iter().map(of).collect();
        }
        match &self.neighbors {
            Some(given) if given.columns() >= k => given.iter().map(|row| row[..k].to_vec()).collect(),
            _ => truth::exact(&self.base, &self.queries, self.metric, k, None),
        }
    }

    /// Refuses data that would make all results meaningless: mismatched dimensions, NaN, neighbours out of
    /// range.
    fn check(self) -> Result<Self, DataError> {
        let wrong = |what: String| Err(DataError::Inconsistent { name: self.name.clone(), what });
        if self.base.rows() == 0 || self.queries.rows() == 0 {
            return wrong("it has no rows or no queries".into());
        }
        if self.base.columns() != self.queries.columns() {
            let (base, queries) = (self.base.columns(), self.queries.columns());
            return wrong(format!("base has {base} dimensions and queries have {queries}"));
        }
        if !self.base.values().iter().chain(self.queries.values()).all(|value| value.is_finite()) {
            return wrong("it holds a NaN or an infinite value".into());
        }
        if let Some(neighbors) = &self.neighbors {
            if neighbors.rows() != self.queries.rows() {
                return wrong(format!(
                    "{} queries but {} rows of neighbours",
                    self.queries.rows(),
                    neighbors.rows()
                ));
            }
            if let Some(&row) = neighbors.values().iter().find(|&&row| row as usize >= self.base.rows()) {
                return wrong(format!("a neighbour is row {row}, but base has {} rows", self.base.rows()));
            }
        }
        if let Some(filtered) = &self.filtered {
            if filtered.payloads.len() != self.base.rows() {
                let (rows, payloads) = (self.base.rows(), filtered.payloads.len());
                return wrong(format!("base has {rows} rows, but there are {payloads} payloads"));
            }
            if let Some(row) = filtered.given.iter().flatten().find(|&&row| row as usize >= self.base.rows())
            {
                return wrong(format!("a neighbour is row {row}, but base has {} rows", self.base.rows()));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
