//! Engines in this process, on the same data: an exact scan, EngramDB's index as a library, and a well-known
//! library.
//!
//! They have no protocol and no socket, so they are an upper bound of what a server can reach. Their CPU time
//! is that of this whole process, including the measurement.

use std::ops::RangeInclusive;
use std::time::Instant;

use engramdb_vector::{
    Element, Flat, Hnsw, HnswParameters, SearchRequest, Statistics, VectorError, VectorIndex, bytes_of,
};
use rayon::prelude::*;

use super::engine::{
    IndexKind, LoadReport, QuantizationKind, SearchEffort, SearchParameters, Searcher, Task, VectorEngine,
};
use crate::data::truth::Distances;
use crate::error::BenchError;
use crate::machine::Process;

/// A scan of all rows that the filter allows.
pub struct ExactEngine<'t> {
    task: &'t Task,
    distances: Distances<'t>,
    own: OwnRows,
}

impl<'t> ExactEngine<'t> {
    pub fn new(task: &'t Task) -> Self {
        let distances = Distances::new(&task.dataset.base, task.dataset.metric);
        Self { task, distances, own: OwnRows::of(task) }
    }
}

/// The rows that each query's own condition allows, if the data set has conditions; computed before anything
/// is timed.
struct OwnRows(Vec<Option<Vec<u32>>>);

impl OwnRows {
    fn of(task: &Task) -> Self {
        let filtered = task.dataset.filtered.as_ref();
        let queries = (0..task.dataset.queries.rows()).into_par_iter();
        Self(
            filtered
                .map(|filtered| queries.map(|query| filtered.allowed(query)).collect())
                .unwrap_or_default(),
        )
    }

    fn allowed(&self, query: usize) -> Option<&[u32]> {
        self.0.get(query)?.as_deref()
    }
}

impl VectorEngine for ExactEngine<'_> {
    fn name(&self) -> &str {
        "exact"
    }

    fn load(&mut self) -> Result<Option<LoadReport>, BenchError> {
        Ok(None)
    }

    fn searcher<'s>(
        &'s self,
        parameters: SearchParameters<'s>,
    ) -> Result<Box<dyn Searcher + Send + 's>, BenchError> {
        let allowed = parameters.filter.map(|filter| self.task.attributes.allowed(filter));
        Ok(Box::new(ExactSearcher { engine: self, allowed }))
    }

    fn cpu_seconds(&self) -> Option<f64> {
        Process::own().cpu_seconds()
    }
}

struct ExactSearcher<'s> {
    engine: &'s ExactEngine<'s>,
    allowed: Option<Vec<u32>>,
}

impl Searcher for ExactSearcher<'_> {
    fn search(&mut self, query: usize) -> Result<Vec<u32>, BenchError> {
        let task = self.engine.task;
        let allowed = self.allowed.as_deref().or(self.engine.own.allowed(query));
        Ok(self.engine.distances.nearest(task.dataset.queries.row(query), task.k, allowed))
    }
}

/// EngramDB's index as a library: the cost of the server's search without the server.
pub struct LibraryEngine<'t> {
    task: &'t Task,
    index: Box<dyn VectorIndex>,
    own: OwnRows,
}

impl<'t> LibraryEngine<'t> {
    pub fn new(task: &'t Task) -> Self {
        let metric = task.dataset.metric.kernel();
        let index: Box<dyn VectorIndex> = match task.index {
            IndexKind::Flat => Box::new(Flat::new(Element::F32, task.dataset.dimensions(), metric)),
            IndexKind::Hnsw => {
                let default = HnswParameters::new(task.dataset.dimensions(), metric);
                let quantization = task.quantization.map(QuantizationKind::library);
                Box::new(Hnsw::new(HnswParameters {
                    m: task.m,
                    ef_construction: task.ef_construction,
                    quantization: quantization.unwrap_or(default.quantization),
                    ..default
                }))
            }
        };
        Self { task, index, own: OwnRows::of(task) }
    }

    /// Adds a vector, or replaces that of the row.
    pub fn insert(&self, row: usize, vector: &[f32]) -> Result<(), BenchError> {
        self.index.insert(row as u32, bytes_of(vector)).map_err(refused)
    }

    /// The statistics of the index.
    pub fn statistics(&self) -> Statistics {
        self.index.statistics()
    }

    /// The memory of the index in bytes, as the index reports it.
    pub fn memory_bytes(&self) -> usize {
        self.index.memory_bytes()
    }
}

impl VectorEngine for LibraryEngine<'_> {
    fn name(&self) -> &str {
        "library"
    }

    fn load(&mut self) -> Result<Option<LoadReport>, BenchError> {
        let base = &self.task.dataset.base;
        let cpu_before = self.cpu_seconds();
        let started = Instant::now();
        let progress = crate::progress::bar(base.rows() as u64, "library builds");
        (0..base.rows()).into_par_iter().try_for_each(|row| {
            progress.inc(1);
            self.insert(row, base.row(row))
        })?;
        progress.finish_and_clear();
        Ok(Some(LoadReport::in_process(self.name(), base.rows(), started, cpu_before)))
    }

    fn searcher<'s>(
        &'s self,
        parameters: SearchParameters<'s>,
    ) -> Result<Box<dyn Searcher + Send + 's>, BenchError> {
        let allowed = parameters.filter.map(|filter| {
            AllowedRows::new(self.task.attributes.allowed(filter), self.task.dataset.base.rows())
        });
        Ok(Box::new(LibrarySearcher { engine: self, effort: parameters.effort, evaluated: None, allowed }))
    }

    fn cpu_seconds(&self) -> Option<f64> {
        Process::own().cpu_seconds()
    }
}

/// The server's default of EF_RUNTIME: steers the choice between walk and scan.
const EF_BESIDE_RECALL: usize = 100;

struct LibrarySearcher<'s> {
    engine: &'s LibraryEngine<'s>,
    effort: SearchEffort,
    /// Distances computed by the last search.
    evaluated: Option<usize>,
    allowed: Option<AllowedRows>,
}

impl Searcher for LibrarySearcher<'_> {
    fn search(&mut self, query: usize) -> Result<Vec<u32>, BenchError> {
        let task = self.engine.task;
        let own = self.engine.own.allowed(query).map(Ascending);
        let swept = self.allowed.as_ref().map(|allowed| allowed as &dyn engramdb_vector::Filter);
        let filter = swept.or(own.as_ref().map(|own| own as &dyn engramdb_vector::Filter));
        let (ef, recall) = match self.effort {
            SearchEffort::Beam(ef) => (ef, None),
            SearchEffort::Recall(recall) => (EF_BESIDE_RECALL, Some(recall)),
        };
        let query = bytes_of(task.dataset.queries.row(query));
        let request = SearchRequest { filter, recall, ..SearchRequest::new(query, task.k, ef) };
        let outcome = self.engine.index.search(&request).map_err(refused)?;
        self.evaluated = Some(outcome.evaluated);
        Ok(outcome.neighbors.iter().map(|neighbor| neighbor.id).collect())
    }

    fn evaluated(&self) -> Option<usize> {
        self.evaluated
    }
}

fn refused(error: VectorError) -> BenchError {
    BenchError::Usage(format!("the index refused a vector: {error}"))
}

/// The rows that a filter allows, as a list and as bits.
pub(crate) struct AllowedRows {
    rows: Vec<u32>,
    bits: Vec<bool>,
}

impl AllowedRows {
    /// These rows, ascending, of `of` rows in total.
    pub fn new(rows: Vec<u32>, of: usize) -> Self {
        let mut bits = vec![false; of];
        rows.iter().for_each(|&row| bits[row as usize] = true);
        Self { rows, bits }
    }
}

impl engramdb_vector::Filter for AllowedRows {
    fn allows(&self, id: u32) -> bool {
        self.bits[id as usize]
    }

    fn cardinality(&self) -> Option<usize> {
        Some(self.rows.len())
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        let first = self.rows.partition_point(|row| row < ids.start());
        self.rows[first..].iter().copied().take_while(|row| row <= ids.end()).for_each(visit);
    }
}

/// Rows in ascending order with binary search: for lists that are used once.
struct Ascending<'a>(&'a [u32]);

impl engramdb_vector::Filter for Ascending<'_> {
    fn allows(&self, id: u32) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    fn cardinality(&self) -> Option<usize> {
        Some(self.0.len())
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        let first = self.0.partition_point(|row| row < ids.start());
        self.0[first..].iter().copied().take_while(|row| row <= ids.end()).for_each(visit);
    }
}

#[cfg(feature = "reference")]
pub use library::HnswRsEngine;

#[cfg(feature = "reference")]
mod library {
    use std::time::Instant;

    use hnsw_rs::prelude::{DistL2, Hnsw};

    use super::super::engine::{LoadReport, SearchEffort, SearchParameters, Searcher, Task, VectorEngine};
    use crate::data::{DatasetMetric, Matrix};
    use crate::error::BenchError;
    use crate::machine::Process;

    /// The maximum number of layers; the library's own examples use this.
    const LAYERS_MAX: usize = 16;

    /// The crate hnsw_rs.
    pub struct HnswRsEngine<'t> {
        task: &'t Task,
        graph: Hnsw<'static, f32, DistL2>,
    }

    impl<'t> HnswRsEngine<'t> {
        /// Refuses the inner product: the library panics on its negative distances.
        pub fn new(task: &'t Task) -> Result<Self, BenchError> {
            if task.dataset.metric == DatasetMetric::Ip {
                let text = "hnsw_rs panics on negative distances, which the inner product gives: leave hnsw_rs out of \
                            --engines, or use --metric cosine where the vectors are of unit length";
                return Err(BenchError::Usage(text.into()));
            }
            if task.dataset.filtered.is_some() {
                let text = "hnsw_rs takes no conditions of single queries: leave it out of --engines";
                return Err(BenchError::Usage(text.into()));
            }
            let rows = task.dataset.base.rows();
            Ok(Self { task, graph: Hnsw::new(task.m, rows, LAYERS_MAX, task.ef_construction, DistL2 {}) })
        }

        /// Cosine order is L2 order on the unit sphere, and L2 is the library's fastest distance.
        fn prepared(&self, vectors: &Matrix<f32>, row: usize) -> Vec<f32> {
            let vector = vectors.row(row);
            let length = match self.task.dataset.metric {
                DatasetMetric::Cosine => vector.iter().map(|value| value * value).sum::<f32>().sqrt(),
                DatasetMetric::L2 | DatasetMetric::Ip => 1.0,
            };
            vector.iter().map(|value| value / length.max(f32::MIN_POSITIVE)).collect()
        }
    }

    impl VectorEngine for HnswRsEngine<'_> {
        fn name(&self) -> &str {
            "hnsw_rs"
        }

        fn load(&mut self) -> Result<Option<LoadReport>, BenchError> {
            let base = &self.task.dataset.base;
            let cpu_before = self.cpu_seconds();
            let started = Instant::now();
            let progress = crate::progress::bar(base.rows() as u64, "hnsw_rs builds");
            let rows: Vec<usize> = (0..base.rows()).collect();
            for chunk in rows.chunks(1000) {
                let vectors: Vec<Vec<f32>> = chunk.iter().map(|&row| self.prepared(base, row)).collect();
                let points: Vec<(&[f32], usize)> =
                    vectors.iter().map(Vec::as_slice).zip(chunk.iter().copied()).collect();
                self.graph.parallel_insert_slice(&points);
                progress.inc(chunk.len() as u64);
            }
            progress.finish_and_clear();
            self.graph.set_searching_mode(true);
            Ok(Some(LoadReport::in_process(self.name(), base.rows(), started, cpu_before)))
        }

        fn searcher<'s>(
            &'s self,
            parameters: SearchParameters<'s>,
        ) -> Result<Box<dyn Searcher + Send + 's>, BenchError> {
            let allowed = parameters.filter.map(|filter| {
                self.task
                    .attributes
                    .allowed(filter)
                    .into_iter()
                    .map(|row| row as usize)
                    .collect::<Vec<usize>>()
            });
            let SearchEffort::Beam(ef) = parameters.effort else {
                return Err(BenchError::Usage("hnsw_rs takes no --recall".into()));
            };
            Ok(Box::new(HnswRsSearcher { engine: self, ef: ef.max(self.task.k), allowed }))
        }

        fn cpu_seconds(&self) -> Option<f64> {
            Process::own().cpu_seconds()
        }
    }

    struct HnswRsSearcher<'s> {
        engine: &'s HnswRsEngine<'s>,
        ef: usize,
        /// Ascending, as the library's filter requires.
        allowed: Option<Vec<usize>>,
    }

    impl Searcher for HnswRsSearcher<'_> {
        fn search(&mut self, query: usize) -> Result<Vec<u32>, BenchError> {
            let vector = self.engine.prepared(&self.engine.task.dataset.queries, query);
            let k = self.engine.task.k;
            let found = match &self.allowed {
                Some(allowed) => self.engine.graph.search_filter(&vector, k, self.ef, Some(allowed)),
                None => self.engine.graph.search(&vector, k, self.ef),
            };
            Ok(found.into_iter().map(|neighbour| neighbour.d_id as u32).collect())
        }
    }
}
