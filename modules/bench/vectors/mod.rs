//! `bench vectors`: recall, throughput and latency of vector search.
//!
//! A run reads the data set, computes the true neighbours for each filter, and for each engine loads the rows
//! and sweeps over filter x ef x connections in closed loops. Each point sends every query at least once, so
//! that its recall is over all of them.

pub(crate) mod closed_loop;
pub(crate) mod engine;
pub(crate) mod filter;
pub(crate) mod recall;
pub(crate) mod reference;
mod report;
pub(crate) mod server;

use std::time::Duration;

use clap::{Args, ValueEnum};

use self::closed_loop::LoopPlan;
use self::engine::{IndexKind, QuantizationKind, SearchEffort, SearchParameters, Task, VectorEngine};
use self::filter::{Attributes, RowFilter};
use self::report::{SearchReport, VectorsReport};
use self::server::{CreateIndex, RowReply, ServerEngine, ServerOptions};
use crate::client::ServerTarget;
use crate::data::truth::{self, Answers};
use crate::data::{Dataset, DatasetArgs};
use crate::error::BenchError;
use crate::machine::Process;
use crate::output::ReportFiles;
use crate::progress;

/// Searches before the measurement of each point starts.
const WARM_UP_SEARCHES: usize = 100;
/// The name of the filter if each query has its own condition.
const OWN_CONDITIONS: &str = "own";

const EXAMPLES: &str = "\
Examples:
  The committed data set against a server on this machine:
    engramdb bench vectors
  Another server, 100,000 generated vectors, two filters, everything written down:
    engramdb bench vectors --port 6380 --dataset synthetic:100000:384:1 --connections 1,8 \\
      --filter tag:random:1,numeric:correlated:1 --out-json r.json --out-csv r.csv --plot r.svg
  Files of your own; rows with their fields in the reply instead of keys alone:
    engramdb bench vectors --base base.npy --queries queries.npy --metric cosine --reply fields --payload-size 500
  Downloaded sets of other benchmarks: ann-benchmarks, VectorDBBench, vector-db-benchmark with a condition for each query:
    engramdb bench vectors --dataset glove-100-angular.hdf5
    engramdb bench vectors --dataset cohere_small_100k
    engramdb bench vectors --dataset arxiv
  What the index and an exact scan reach in this process, without a server:
    engramdb bench vectors --engines library,exact
  What asking for a recall gives, and what it evaluates, beside beams:
    engramdb bench vectors --engines library --connections 1 --ef 20,40,80 --recall 0.9,0.95,0.99

CPU us is that of the server for each query, where the server is on this machine; tool CPU us is that of this program, and busy the
share of all processors that both took together. Where busy comes near 100 %, queries/s says as much about this program as about
the server: compare servers by CPU us.

The server is asked FT.CREATE, HSET, FT.INFO, FT.SEARCH, FT.DROPINDEX and UNLINK on keys that begin with --prefix; anything
that speaks these will do. Index and rows are removed afterwards, unless --keep is given.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct VectorsArgs {
    #[command(flatten)]
    pub target: ServerTarget,
    #[command(flatten)]
    pub data: DatasetArgs,
    /// The engines: the server, or references in this process
    #[arg(long, value_enum, value_delimiter = ',', default_value = "server")]
    pub engines: Vec<EngineName>,
    /// Algorithm of the index
    #[arg(long, value_enum, default_value_t = IndexKind::Hnsw)]
    pub index: IndexKind,
    /// HNSW: links of a node (twice as many in the lowest layer)
    #[arg(long, default_value_t = 16)]
    pub m: usize,
    /// HNSW: candidates while the graph is built
    #[arg(long, default_value_t = 200)]
    pub ef_construction: usize,
    /// HNSW of EngramDB: the codes that guide walks
    #[arg(long, value_enum)]
    pub quantization: Option<QuantizationKind>,
    /// HNSW: candidates while searching; each value is one point of the sweep
    #[arg(long, value_delimiter = ',', default_value = "10,20,50,100,200")]
    pub ef: Vec<usize>,
    /// HNSW of EngramDB: requested recalls (RECALL); each value is one more point of the sweep
    #[arg(long, value_delimiter = ',', value_name = "SHARE")]
    pub recall: Vec<f32>,
    /// Connections that search at the same time, each in a closed loop; each value is one point of the sweep
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub connections: Vec<usize>,
    /// Neighbours to return
    #[arg(short, long, default_value_t = 10)]
    pub k: usize,
    /// Also search under these filters: tag|numeric:random|correlated:PERCENT, such as tag:random:10
    #[arg(long, value_delimiter = ',', value_name = "FILTER")]
    pub filter: Vec<RowFilter>,
    /// What each search returns: keys alone (NOCONTENT), or rows with fields (SORTBY distance RETURN
    /// distance, and the payload)
    #[arg(long, value_enum, default_value_t = RowReply::Keys)]
    pub reply: RowReply,
    /// Store a field of this many bytes with each row, which `--reply fields` returns
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub payload_size: usize,
    /// Search for at least this many seconds at each point; every query is sent at least once in any case
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Create the index before the rows are loaded, or after
    #[arg(long, value_enum, default_value_t = CreateIndex::Before)]
    pub create_index: CreateIndex,
    /// Connections that load rows
    #[arg(long, default_value_t = 4)]
    pub load_connections: usize,
    /// Rows in each pipeline while loading
    #[arg(long, alias = "pipeline", default_value_t = 64)]
    pub load_pipeline: usize,
    /// Seconds to wait until the index is complete
    #[arg(long, default_value_t = 3600)]
    pub ready_timeout: u64,
    /// Name of the index in the server
    #[arg(long, default_value = "engramdb-bench")]
    pub index_name: String,
    /// Prefix of the keys; the row number follows
    #[arg(long, default_value = "engramdb-bench:")]
    pub prefix: String,
    /// Leave index and rows in the server
    #[arg(long)]
    pub keep: bool,
    /// Search the index that an earlier run with --keep left, for instance after a restart of the server
    #[arg(long)]
    pub skip_load: bool,
    /// Process id of the server on this machine, if INFO does not report it: its CPU time is reported too
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    #[command(flatten)]
    pub files: ReportFiles,
}

/// An engine that can be selected by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// The server at --host and --port
    Server,
    /// A scan of all rows in this process
    Exact,
    /// EngramDB's index in this process, without a server
    Library,
    /// The crate hnsw_rs in this process (needs a build with the feature reference)
    #[value(name = "hnsw_rs")]
    HnswRs,
}

/// Runs the sweep, prints the tables and writes the requested files.
pub fn run(arguments: VectorsArgs) -> Result<(), BenchError> {
    arguments.check()?;
    arguments.files.check()?;
    let reading = progress::spinner("reading the data set");
    let dataset = arguments.data.load()?;
    reading.finish_and_clear();
    if dataset.filtered.is_some() && !arguments.filter.is_empty() {
        return Err(BenchError::Usage(
            "the queries of this data set have conditions of their own: leave out --filter".into(),
        ));
    }
    let task = arguments.task(dataset);
    let cases = Case::all(&task);

    let mut report = VectorsReport::new(&task, arguments.reply, arguments.payload_size);
    report.print_heading();
    for &name in &arguments.engines {
        let mut engine: Box<dyn VectorEngine + '_> = match name {
            EngineName::Server => {
                let mut server = ServerEngine::connect(&task, arguments.server_options()?)?;
                report.server = server.describe();
                Box::new(server)
            }
            EngineName::Exact => Box::new(reference::ExactEngine::new(&task)),
            EngineName::Library => Box::new(reference::LibraryEngine::new(&task)),
            EngineName::HnswRs => hnsw_rs(&task)?,
        };
        let swept = engine.load().and_then(|load| {
            report.loads.extend(load);
            arguments.sweep(&*engine, &task, &cases, &mut report)
        });
        // Clean up after a failed load or sweep too; its own error is the one to report.
        let closed = engine.close();
        swept.and(closed)?;
    }
    report.print_tables();
    arguments.files.write(&report)
}

#[cfg(feature = "reference")]
fn hnsw_rs(task: &Task) -> Result<Box<dyn VectorEngine + '_>, BenchError> {
    Ok(Box::new(reference::HnswRsEngine::new(task)?))
}

#[cfg(not(feature = "reference"))]
fn hnsw_rs(_: &Task) -> Result<Box<dyn VectorEngine + '_>, BenchError> {
    Err(BenchError::Usage(
        "this build has no hnsw_rs: build with `cargo build --release --features reference`, or leave it out of \
         --engines"
            .into(),
    ))
}

impl VectorsArgs {
    /// Refuses arguments that cannot give a result, before the run starts.
    fn check(&self) -> Result<(), BenchError> {
        let positive = [
            ("--k", self.k),
            ("--m", self.m),
            ("--ef", self.ef.iter().copied().min().unwrap_or(0)),
            ("--connections", self.connections.iter().copied().min().unwrap_or(0)),
            ("--load-connections", self.load_connections),
            ("--load-pipeline", self.load_pipeline),
        ];
        match positive.into_iter().find(|&(_, value)| value == 0) {
            Some((flag, _)) => Err(BenchError::Usage(format!("{flag} must be at least 1"))),
            None if !self.recall.iter().all(|recall| *recall > 0.0 && *recall <= 1.0) => {
                Err(BenchError::Usage("--recall takes numbers above 0, and at most 1".into()))
            }
            None if !(self.seconds >= 0.0 && self.seconds.is_finite()) => {
                Err(BenchError::Usage("--seconds must be a number from 0".into()))
            }
            None => Ok(()),
        }
    }

    fn task(&self, dataset: Dataset) -> Task {
        Task {
            index: self.index,
            m: self.m,
            ef_construction: self.ef_construction,
            quantization: self.quantization,
            k: self.k,
            attributes: Attributes::for_filters(&dataset, &self.filter),
            filters: self.filter.clone(),
            dataset,
        }
    }

    fn server_options(&self) -> Result<ServerOptions, BenchError> {
        Ok(ServerOptions {
            target: self.target.clone(),
            index_name: self.index_name.clone(),
            prefix: self.prefix.clone(),
            key_digits: 0,
            create_index: self.create_index,
            load_connections: self.load_connections,
            load_pipeline: self.load_pipeline,
            ready_timeout: Duration::from_secs(self.ready_timeout),
            skip_load: self.skip_load,
            keep: self.keep,
            process: self.server_pid.map(Process::with_pid).transpose()?,
            reply: self.reply,
            payload_size: self.payload_size,
        })
    }

    /// Measures all points of one engine.
    fn sweep(
        &self,
        engine: &dyn VectorEngine,
        task: &Task,
        cases: &[Case<'_>],
        report: &mut VectorsReport,
    ) -> Result<(), BenchError> {
        // A scan has no ef.
        let is_exact =
            engine.name() == "exact" || (engine.name() != "hnsw_rs" && task.index == IndexKind::Flat);
        let mut efforts: Vec<SearchEffort> = self.ef.iter().map(|&ef| SearchEffort::Beam(ef)).collect();
        match is_exact {
            true => efforts.truncate(1),
            false => efforts.extend(self.recall.iter().map(|&recall| SearchEffort::Recall(recall))),
        }
        let points = cases.len() * efforts.len() * self.connections.len();
        let progress = progress::bar(points as u64, "points of the sweep");
        for case in cases {
            for &effort in &efforts {
                for &connections in &self.connections {
                    let plan = LoopPlan {
                        connections,
                        queries: task.dataset.queries.rows(),
                        at_least: Duration::from_secs_f64(self.seconds),
                        warm_up: WARM_UP_SEARCHES,
                    };
                    let parameters = SearchParameters { effort, filter: case.filter };
                    let outcome = closed_loop::run(engine, parameters, plan)?;
                    let recalls = recall::of_each(&task.dataset, &case.truth, &outcome.answers, task.k);
                    let (ef, recall_asked) = match effort {
                        SearchEffort::Beam(ef) => (Some(ef).filter(|_| !is_exact), None),
                        SearchEffort::Recall(recall) => (None, Some(recall)),
                    };
                    report.searches.push(SearchReport {
                        engine: engine.name().to_owned(),
                        filter: case.name(task),
                        ef,
                        recall_asked,
                        connections,
                        k: task.k,
                        recall: recall::mean(&recalls),
                        recall_p5: recall::fifth_percentile(recalls),
                        evaluated: outcome.evaluated,
                        queries_per_second: outcome.searches as f64 / outcome.seconds,
                        latency: outcome.latencies.percentiles(),
                        searches: outcome.searches,
                        cpu_us_per_query: outcome.cpu_us_per_query(),
                        tool_cpu_us_per_query: outcome.own_cpu_us_per_query(),
                        busy: outcome.busy(),
                        others: outcome.others(),
                    });
                    progress.inc(1);
                }
            }
        }
        progress.finish_and_clear();
        Ok(())
    }
}

/// A filter (or none) and the right answers under it.
struct Case<'t> {
    filter: Option<&'t RowFilter>,
    truth: Answers,
}

impl<'t> Case<'t> {
    fn name(&self, task: &Task) -> Option<String> {
        let own = task.dataset.filtered.as_ref().map(|_| OWN_CONDITIONS.to_owned());
        self.filter.map(RowFilter::to_string).or(own)
    }

    fn all(task: &'t Task) -> Vec<Self> {
        let computing = progress::spinner("exact neighbours");
        let unfiltered = Case { filter: None, truth: task.dataset.exact_neighbors(task.k) };
        let filtered = task.filters.iter().map(|filter| {
            let Dataset { base, queries, metric, .. } = &task.dataset;
            let allowed = task.attributes.allowed(filter);
            Case { filter: Some(filter), truth: truth::exact(base, queries, *metric, task.k, Some(&allowed)) }
        });
        let cases = std::iter::once(unfiltered).chain(filtered).collect();
        computing.finish_and_clear();
        cases
    }
}

#[cfg(test)]
mod tests;
