//! Reference engines in this process: what an exact scan and a well-known library reach on the same data.
//!
//! They pay for no protocol and no socket, so that they bound what a server can do rather than compete with it. Their CPU
//! time is that of this whole process, the measuring included.

use std::time::Instant;

use super::engine::{Engine, LoadReport, SearchParameters, Searcher, Task};
use crate::data::truth::Distances;
use crate::error::BenchError;
use crate::machine::Process;

/// A scan of all rows that the filter allows.
pub struct ExactEngine<'t> {
    task: &'t Task,
    distances: Distances<'t>,
}

impl<'t> ExactEngine<'t> {
    pub fn new(task: &'t Task) -> Self {
        Self { task, distances: Distances::new(&task.dataset.base, task.dataset.metric) }
    }
}

impl Engine for ExactEngine<'_> {
    fn name(&self) -> &str {
        "exact"
    }

    fn load(&mut self) -> Result<LoadReport, BenchError> {
        Ok(load_report(self.name(), self.task, Instant::now(), 0.0))
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
        Ok(self.engine.distances.nearest(task.dataset.queries.row(query), task.k, self.allowed.as_deref()))
    }
}

fn load_report(engine: &str, task: &Task, started: Instant, cpu_before: f64) -> LoadReport {
    let rows = task.dataset.base.rows();
    let seconds = started.elapsed().as_secs_f64().max(1e-9);
    LoadReport {
        engine: engine.to_owned(),
        rows,
        load_seconds: seconds,
        rows_per_second: rows as f64 / seconds,
        ready_seconds: seconds,
        cpu_seconds: Process::own()
            .cpu_seconds()
            .map(|after| after - cpu_before)
            .filter(|_| cpu_before > 0.0),
    }
}

#[cfg(feature = "reference")]
pub use library::HnswRsEngine;

#[cfg(feature = "reference")]
mod library {
    use hnsw_rs::prelude::{DistL2, Hnsw};

    use super::*;
    use crate::data::{Matrix, Metric};

    /// Layers that the library is told to allow; its own examples use this.
    const LAYERS_MAX: usize = 16;

    /// The crate hnsw_rs.
    pub struct HnswRsEngine<'t> {
        task: &'t Task,
        graph: Hnsw<'static, f32, DistL2>,
    }

    impl<'t> HnswRsEngine<'t> {
        /// Refuses the inner product: the library panics on its negative distances.
        pub fn new(task: &'t Task) -> Result<Self, BenchError> {
            if task.dataset.metric == Metric::Ip {
                let text = "hnsw_rs panics on negative distances, which the inner product gives: leave hnsw_rs out of \
                            --engines, or use --metric cosine where the vectors are of unit length";
                return Err(BenchError::Usage(text.into()));
            }
            let rows = task.dataset.base.rows();
            Ok(Self { task, graph: Hnsw::new(task.m, rows, LAYERS_MAX, task.ef_construction, DistL2 {}) })
        }

        /// Cosine order is L2 order on the unit sphere, and the library's L2 is its quickest distance.
        fn prepared(&self, vectors: &Matrix<f32>, row: usize) -> Vec<f32> {
            let vector = vectors.row(row);
            let length = match self.task.dataset.metric {
                Metric::Cosine => vector.iter().map(|value| value * value).sum::<f32>().sqrt(),
                Metric::L2 | Metric::Ip => 1.0,
            };
            vector.iter().map(|value| value / length.max(f32::MIN_POSITIVE)).collect()
        }
    }

    impl Engine for HnswRsEngine<'_> {
        fn name(&self) -> &str {
            "hnsw_rs"
        }

        fn load(&mut self) -> Result<LoadReport, BenchError> {
            let base = &self.task.dataset.base;
            let cpu_before = self.cpu_seconds().unwrap_or(0.0);
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
            Ok(load_report(self.name(), self.task, started, cpu_before))
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
            Ok(Box::new(HnswRsSearcher { engine: self, ef: parameters.ef.max(self.task.k), allowed }))
        }

        fn cpu_seconds(&self) -> Option<f64> {
            Process::own().cpu_seconds()
        }
    }

    struct HnswRsSearcher<'s> {
        engine: &'s HnswRsEngine<'s>,
        ef: usize,
        /// Ascending, as the library's filter wants it.
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
