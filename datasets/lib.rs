//! Data to test and measure a vector index: seeded generators of many kinds of data, workloads over the data,
//! and the exact answers.
//!
//! - `zoo` has one generator for each kind of data that is known to mislead an index;
//! - `Workload` is an order in which rows are inserted, replaced and removed;
//! - `DataElement` writes rows in each of the six element types, and gives the values after rounding;
//! - `Exact` has all distances of some queries, and computes the true neighbours, ranges and recalls from
//!   them.
//!
//! The crate depends on neither an index nor the engine, so that both the tests of the index and the
//! benchmark tool can use it. The benchmark tool reads the data sets in the folders beside this file
//! (`modules/bench/data`).

#![forbid(unsafe_code)]

mod elements;
mod exact;
mod random;
mod workload;
pub mod zoo;

pub use elements::DataElement;
pub use exact::Exact;
pub use random::SplitMix64;
pub use workload::{Workload, WorkloadStep};
pub use zoo::{DataKind, KINDS};

/// The distance of two vectors; smaller is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataMetric {
    /// The squared Euclidean distance.
    L2,
    /// One minus the inner product.
    Ip,
    /// One minus the cosine of the angle; one where either vector is all zeros.
    Cosine,
}

impl DataMetric {
    pub const ALL: [DataMetric; 3] = [DataMetric::L2, DataMetric::Ip, DataMetric::Cosine];

    /// The name in FT.CREATE.
    pub fn name(self) -> &'static str {
        match self {
            DataMetric::L2 => "L2",
            DataMetric::Ip => "IP",
            DataMetric::Cosine => "COSINE",
        }
    }
}

/// Vectors to index and query vectors, concatenated.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// Components of each vector.
    pub dimension: usize,
    pub rows: Vec<f32>,
    pub queries: Vec<f32>,
}

impl Set {
    pub fn row(&self, row: u32) -> &[f32] {
        &self.rows[row as usize * self.dimension..][..self.dimension]
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.dimension
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The same rows, with `count` of them, evenly spread, as queries.
    pub fn asked_with_rows(&self, count: usize) -> Set {
        let count = count.min(self.len());
        let places = (0..count).map(|at| (at * self.len() / count) as u32);
        let queries = places.flat_map(|row| self.row(row)).copied().collect();
        Set { queries, ..self.clone() }
    }
}
