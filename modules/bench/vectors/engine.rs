//! The interface of engines: a server, or a library in this process.

use std::time::Instant;

use clap::ValueEnum;
use engramdb_vector::Quantization;
use serde::Serialize;

use super::filter::{Attributes, RowFilter};
use crate::data::Dataset;
use crate::error::BenchError;
use crate::machine::Process;

/// Algorithm of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// The graph: approximate, tuned by M, ef_construction and ef.
    Hnsw,
    /// The scan of all rows: exact.
    Flat,
}

/// Codes that guide the walks of an EngramDB graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum QuantizationKind {
    /// The vectors themselves
    None,
    /// A byte per component
    Sq8,
    /// Four bits per component: the default from 64 dimensions on
    Sq4,
    /// A bit per component
    Binary,
}

impl QuantizationKind {
    pub fn library(self) -> Quantization {
        match self {
            QuantizationKind::None => Quantization::None,
            QuantizationKind::Sq8 => Quantization::Bits8,
            QuantizationKind::Sq4 => Quantization::Bits4,
            QuantizationKind::Binary => Quantization::Bits1,
        }
    }

    /// The word in FT.CREATE.
    pub fn word(self) -> &'static str {
        match self {
            QuantizationKind::None => "NONE",
            QuantizationKind::Sq8 => "SQ8",
            QuantizationKind::Sq4 => "SQ4",
            QuantizationKind::Binary => "BINARY",
        }
    }
}

/// What is indexed and how; the same for each engine.
pub struct Task {
    pub dataset: Dataset,
    pub index: IndexKind,
    /// Links of a node in the upper layers; layer 0 has twice as many.
    pub m: usize,
    pub ef_construction: usize,
    /// `None` for the default; only EngramDB supports others.
    pub quantization: Option<QuantizationKind>,
    /// Neighbours to return.
    pub k: usize,
    /// The filters of the searches, and the attributes of rows that they refer to.
    pub filters: Vec<RowFilter>,
    pub attributes: Attributes,
}

/// How thoroughly to search. Ignored by a flat index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SearchEffort {
    /// The number of candidates that the graph search keeps.
    Beam(usize),
    /// The share of the true nearest to find.
    Recall(f32),
}

/// One point of a sweep.
#[derive(Clone, Copy, Debug)]
pub struct SearchParameters<'a> {
    pub effort: SearchEffort,
    pub filter: Option<&'a RowFilter>,
}

/// The time until the engine could be searched.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    pub engine: String,
    pub rows: usize,
    /// The time from the first row sent to the last one acknowledged.
    pub load_seconds: f64,
    pub rows_per_second: f64,
    /// The time from the first row sent until the index was complete.
    pub ready_seconds: f64,
    /// CPU time of the server's process over the load, if known.
    pub cpu_seconds: Option<f64>,
}

impl LoadReport {
    /// The report of an engine in this process, which is ready as soon as it has loaded.
    pub fn in_process(engine: &str, rows: usize, started: Instant, cpu_before: Option<f64>) -> Self {
        let seconds = started.elapsed().as_secs_f64();
        Self {
            engine: engine.to_owned(),
            rows,
            load_seconds: seconds,
            rows_per_second: rows as f64 / seconds,
            ready_seconds: seconds,
            cpu_seconds: Process::own().cpu_seconds().zip(cpu_before).map(|(after, before)| after - before),
        }
    }
}

/// An index of the task's rows.
pub trait VectorEngine: Sync {
    fn name(&self) -> &str;

    /// Creates the index and loads all rows. Returns when it is complete; `None` if there was nothing to do.
    fn load(&mut self) -> Result<Option<LoadReport>, BenchError>;

    /// A searcher for one closed loop; each connection has its own.
    fn searcher<'s>(
        &'s self,
        parameters: SearchParameters<'s>,
    ) -> Result<Box<dyn Searcher + Send + 's>, BenchError>;

    /// CPU time used so far by the process that searches, if known.
    fn cpu_seconds(&self) -> Option<f64>;

    /// Whether that process is this tool.
    fn is_in_process(&self) -> bool {
        true
    }

    /// Removes what `load` created.
    fn close(&mut self) -> Result<(), BenchError> {
        Ok(())
    }
}

/// Sends one query after another.
pub trait Searcher {
    /// Row numbers of the answer to a query of the data set, in the engine's order.
    fn search(&mut self, query: usize) -> Result<Vec<u32>, BenchError>;

    /// Distances computed for the last answer, if the engine reports it.
    fn evaluated(&self) -> Option<usize> {
        None
    }
}
