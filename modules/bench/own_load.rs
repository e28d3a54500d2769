//! What the runs on a server of their own share: the documents that they load, and how, and the head of their reports.
//!
//! A document has a key of 16 bytes and one FLOAT32 field, drawn from the generator `synthetic`, so that figures of
//! different runs are about the same thing.

use std::fmt;
use std::time::{Duration, Instant};

use clap::Args;
use engramdb_resp::Value;
use serde::Serialize;

use crate::client::{Connection, info_field};
use crate::data::{Dataset, size, synthetic};
use crate::error::BenchError;
use crate::output::Origin;
use crate::progress;
use crate::server_process::ServerProcess;
use crate::vectors::engine::{IndexKind, Task};
use crate::vectors::server::{CreateIndex, Reply, ServerOptions};

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

    /// Refuses more documents than fit into memory, which holds the vectors of this process, and of each server the index and
    /// what belongs to it.
    pub(crate) fn check_memory(
        &self,
        documents: usize,
        dimensions: usize,
        copies: f64,
    ) -> Result<(), BenchError> {
        let what = format!("--documents {documents} --dimensions {dimensions}");
        Ok(size::check_rows(&what, documents as u64, dimensions as u64, copies)?)
    }

    /// The head of the report of a command. `dimensions` is none where each of its figures has its own.
    pub(crate) fn heading(&self, command: &str, documents: usize, dimensions: Option<usize>) -> Heading {
        Heading {
            origin: Origin::of(command),
            documents,
            dimensions,
            seed: self.seed,
            m: self.m,
            ef_construction: self.ef_construction,
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
            reply: Reply::Keys,
            payload_size: 0,
        }
    }
}

/// What the reports of these runs begin with: where they were made, and of which documents. As text it is two lines, to the
/// second of which a run may add what it alone has.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Heading {
    #[serde(flatten)]
    origin: Origin,
    documents: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    seed: u64,
    m: usize,
    ef_construction: usize,
}

impl fmt::Display for Heading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, documents, dimensions, seed, m, ef_construction } = self;
        let dimensions = dimensions.map(|dimensions| format!(" x {dimensions}")).unwrap_or_default();
        let machine = &origin.machine;
        write!(formatter, "{machine}\n{documents} documents{dimensions} of seed {seed}, ")?;
        write!(formatter, "HNSW M {m}, ef_construction {ef_construction}")
    }
}

/// What FT.INFO says that the index occupies, in bytes.
pub(crate) fn index_bytes(connection: &mut Connection) -> Result<f64, BenchError> {
    let info = connection.command(&["FT.INFO", INDEX_NAME])?;
    let megabytes = info.get("total_index_memory_sz_mb").and_then(Value::as_double);
    Ok(megabytes.unwrap_or_default() * MEGABYTE)
}

/// What INFO calls used_memory, in bytes.
pub(crate) fn used_memory(connection: &mut Connection) -> Result<f64, BenchError> {
    let info = connection.command(&["INFO", "memory"])?;
    let bytes = info.as_str().and_then(|text| info_field(text, "used_memory")?.parse().ok());
    bytes.ok_or_else(|| BenchError::Shape { command: "INFO memory".into(), reply: format!("{info:?}") })
}

/// Waits until the server has had nothing to do of its own for so long: no mutation on its way to a graph, no snapshot under
/// way. What memory it gives back to the system by itself it has given back then.
pub(crate) fn wait_quiet(
    connection: &mut Connection,
    quiet: Duration,
    timeout: Duration,
) -> Result<(), BenchError> {
    const POLL_INTERVAL: Duration = Duration::from_millis(100);
    let began = Instant::now();
    let mut quiet_since = began;
    loop {
        if !is_idle(connection)? {
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() >= quiet {
            return Ok(());
        }
        if began.elapsed() > timeout + quiet {
            return Err(BenchError::Usage(format!(
                "the server was not quiet for {} s within {} s: allow more with --ready-timeout, or look at INFO search and \
                 INFO persistence",
                quiet.as_secs(),
                timeout.as_secs()
            )));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// What INFO says of indexes and snapshots.
fn is_idle(connection: &mut Connection) -> Result<bool, BenchError> {
    let mut says = |section, field: &str, idle: &str| {
        let info = connection.command(&["INFO", section])?;
        let value = info.as_str().and_then(|text| info_field(text, field));
        let shape = || BenchError::Shape { command: format!("INFO {section}"), reply: format!("{info:?}") };
        value.map(|value| value == idle).ok_or_else(shape)
    };
    Ok(says("search", "search_background_indexing_status", "NO_ACTIVITY")?
        && says("persistence", "rdb_bgsave_in_progress", "0")?)
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

    fn load_args(flags: &[&str]) -> LoadArgs {
        crate::parse_arguments(flags)
    }

    #[test]
    fn a_heading_says_the_same_in_both_forms() {
        let load = load_args(&["--seed", "7", "--m", "8"]);
        let heading = load.heading("bench this", 100, Some(32));
        let text = heading.to_string();
        let second = text.lines().nth(1);
        assert_eq!(second, Some("100 documents x 32 of seed 7, HNSW M 8, ef_construction 200"), "{text}");
        let json = serde_json::to_value(&heading).unwrap();
        assert_eq!(json["tool"], "engramdb bench this");
        assert_eq!(
            (&json["documents"], &json["dimensions"], &json["seed"]),
            (&100.into(), &32.into(), &7.into())
        );
        assert!(text.starts_with(json["machine"]["processor"].as_str().unwrap()), "{text}");
        let several = load.heading("bench this", 100, None);
        assert!(several.to_string().contains("100 documents of seed"));
        assert_eq!(serde_json::to_value(&several).unwrap().get("dimensions"), None);
    }

    #[test]
    fn a_flag_of_zero_is_refused_by_name() {
        let load = load_args(&["--load-connections", "0"]);
        let refusal = |own: &[(&str, usize)]| load.check(own).unwrap_err().to_string();
        assert_eq!(refusal(&[("--documents", 1)]), "--load-connections must be at least 1");
        assert_eq!(refusal(&[("--documents", 0)]), "--documents must be at least 1");
    }

    #[test]
    fn the_median_does_not_mind_order_and_outliers() {
        assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([100.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(median([]), 0.0);
    }
}
