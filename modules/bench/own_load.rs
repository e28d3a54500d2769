//! What the runs on a server of their own share: the documents that they load, and how.
//!
//! A document has a key of 16 bytes and one FLOAT32 field, drawn from the generator `synthetic`, so that figures of
//! different runs are about the same thing.

use std::time::Duration;

use clap::Args;
use engramdb_resp::Value;

use crate::client::Connection;
use crate::data::{Dataset, synthetic};
use crate::error::BenchError;
use crate::progress;
use crate::server_process::ServerProcess;
use crate::vectors::engine::{IndexKind, Task};
use crate::vectors::server::{CreateIndex, ServerOptions};

/// The server gives memory back to the system with some delay after load.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);
pub(crate) const MEGABYTE: f64 = (1 << 20) as f64;
const INDEX_NAME: &str = "engramdb-bench";
/// With the digits of the row, 16 bytes.
const PREFIX: &str = "doc:";
const KEY_DIGITS: usize = 12;

/// How documents are made, sent and indexed; as `bench vectors` names it.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Seed of the generated vectors, as in synthetic:DOCUMENTS:DIMENSIONS:SEED
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// HNSW: links of a node (twice as many in the lowest layer)
    #[arg(long, default_value_t = 16)]
    pub m: usize,
    /// HNSW: candidates while the graph is built
    #[arg(long, default_value_t = 200)]
    pub ef_construction: usize,
    /// Connections that load documents
    #[arg(long, default_value_t = 4)]
    pub load_connections: usize,
    /// Documents in each pipeline while loading
    #[arg(long, alias = "pipeline", default_value_t = 64)]
    pub load_pipeline: usize,
    /// Seconds to wait until the server is up, and until the index is complete
    #[arg(long, default_value_t = 3600)]
    pub ready_timeout: u64,
}

impl LoadArgs {
    /// Refuses flags of which one is zero: these, and the run's own.
    pub(crate) fn check(&self, own: &[(&str, usize)]) -> Result<(), BenchError> {
        let shared = [
            ("--m", self.m),
            ("--ef-construction", self.ef_construction),
            ("--load-connections", self.load_connections),
            ("--load-pipeline", self.load_pipeline),
        ];
        match own.iter().chain(&shared).find(|&&(_, value)| value == 0) {
            Some((flag, _)) => Err(BenchError::Usage(format!("{flag} must be at least 1"))),
            None => Ok(()),
        }
    }

    pub(crate) fn generate(&self, documents: usize, dimensions: usize) -> Dataset {
        let generating = progress::spinner("generating vectors");
        let dataset = synthetic::generate(documents, dimensions, self.seed);
        generating.finish_and_clear();
        dataset
    }

    pub(crate) fn task(&self, dataset: Dataset, k: usize) -> Task {
        Task {
            dataset,
            index: IndexKind::Hnsw,
            m: self.m,
            ef_construction: self.ef_construction,
            quantization: None,
            k,
            filters: Vec::new(),
            attributes: Default::default(),
        }
    }

    pub(crate) fn ready_timeout(&self) -> Duration {
        Duration::from_secs(self.ready_timeout)
    }

    /// A new server in a directory of its own, once it answers.
    pub(crate) fn start(&self, run: &str) -> Result<(ServerProcess, Connection), BenchError> {
        let mut server = ServerProcess::start(run, None, None)?;
        let connection = server.wait_ready(self.ready_timeout())?;
        Ok((server, connection))
    }

    /// How to load this server, or how to wait for what it has already.
    pub(crate) fn server_options(&self, server: &ServerProcess, skip_load: bool) -> ServerOptions {
        ServerOptions {
            target: server.target(),
            index_name: INDEX_NAME.into(),
            prefix: PREFIX.into(),
            key_digits: KEY_DIGITS,
            create_index: CreateIndex::Before,
            load_connections: self.load_connections,
            load_pipeline: self.load_pipeline,
            ready_timeout: self.ready_timeout(),
            skip_load,
            keep: true,
            // Without /proc there are no CPU times.
            process: server.process().ok(),
        }
    }
}

/// What FT.INFO says that the index occupies, in bytes.
pub(crate) fn index_bytes(connection: &mut Connection) -> Result<f64, BenchError> {
    let info = connection.command(&["FT.INFO", INDEX_NAME])?;
    let megabytes = info.get("total_index_memory_sz_mb").and_then(Value::as_double);
    Ok(megabytes.unwrap_or_default() * MEGABYTE)
}

/// The middle of some figures; of an even number, the mean of the two in the middle. Zero of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count => (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_mind_order_and_outliers() {
        assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([100.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(median([]), 0.0);
    }
}
