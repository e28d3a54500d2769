//! `bench churn`: the quality and size of an index after its documents were replaced many times.
//!
//! Two states of the same final documents are compared: *fresh*, built from them alone, and *churned*, which
//! has received every earlier version of each. Both should find as much, as fast, in as little memory. In
//! each round every document gets a new vector of the same distribution, in a different order.
//!
//! Each state has its own server, because memory is measured per process: two states in one process would
//! share an allocator with each other and with the vectors of this tool. Both servers run at the end, so that
//! their searches can alternate.

mod report;

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::Serialize;

use self::report::{Point, Report, State};
use crate::client::Connection;
use crate::data::synthetic::Generator;
use crate::data::truth::Answers;
use crate::data::{Dataset, DatasetMetric, Matrix};
use crate::error::BenchError;
use crate::machine::Process;
use crate::output::ReportFiles;
use crate::own_load::{LoadArgs, index_bytes, used_memory, wait_quiet};
use crate::progress;
use crate::server_process::ServerProcess;
use crate::vectors::closed_loop::{self, LoopOutcome, LoopPlan};
use crate::vectors::engine::{SearchEffort, SearchParameters, Task, VectorEngine};
use crate::vectors::recall;
use crate::vectors::reference::LibraryEngine;
use crate::vectors::server::ServerEngine;
use engramdb_datasets::SplitMix64;

/// Vectors are generated this many at a time, because all versions at once would need too much memory.
const DRAWN_AT_A_TIME: usize = 10_000;
const WARM_UP_SEARCHES: usize = 100;
/// How often each state is searched at each point, alternating: disturbances of the machine affect both.
const TURNS: usize = 4;

const EXAMPLES: &str = "\
Examples:
  100,000 documents, each replaced ten times (several minutes, 2 GB of disk under TMPDIR):
    engramdb bench churn
  A quick look:
    engramdb bench churn --documents 5000 --rounds 3
  The index alone, in this process: CPU time without the protocol's, and what waits to be freed:
    engramdb bench churn --engine library --documents 40000

It starts two servers (this program, an empty directory under TMPDIR, a free port). The churned one is sent every version of
each document, the fresh one the last versions only, in pipelines. When a graph is complete, its server is left alone for
--quiet-seconds before its memory is read. Then both are searched by turns, over one connection; what they find is compared
with an exact scan.

Rows:
  recall@K               on the right the mean difference, and its standard error over the queries
  index MB               what FT.INFO says that the index occupies (total_index_memory_sz_mb); the library's own count
  INFO MB                used_memory of INFO, less that of the server while it was empty
  resident MB, peak MB   what the system says of the process (/proc/PID/status: VmRSS, VmHWM), less what it held while empty
  replaced               vectors that were replaced and whose memory is not free yet; only the library tells
  CPU us a document      CPU time of the process for each document stored and indexed, earlier versions among them
  CPU us a query         CPU time of the process for each search";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ChurnArgs {
    /// The engine that is churned
    #[arg(long, value_enum, default_value_t = ChurnEngine::Server)]
    pub engine: ChurnEngine,
    /// Documents in the index
    #[arg(long, default_value_t = 100_000)]
    pub documents: usize,
    /// Dimensions of the vectors
    #[arg(long, default_value_t = 384)]
    pub dimensions: usize,
    /// How often every document is replaced
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// HNSW: candidates while searching; each value is one point of the sweep
    #[arg(long, value_delimiter = ',', default_value = "20,50,100")]
    pub ef: Vec<usize>,
    /// Neighbours to return
    #[arg(short, long, default_value_t = 10)]
    pub k: usize,
    /// Different queries to send; more of them reduce the effect of chance on the difference of recalls
    #[arg(long, default_value_t = 5_000)]
    pub queries: usize,
    /// Search for at least this many seconds at each point; every query is sent several times in any case
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Seconds without load before the memory of a server is read
    #[arg(long, default_value_t = 5)]
    pub quiet_seconds: u64,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub files: ReportFiles,
}

/// An engine that can be churned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ChurnEngine {
    /// Servers of its own, through the protocol
    Server,
    /// EngramDB's index in this process, inserted into by all cores; resident memory is not measured
    Library,
}

/// Churns, searches, prints the table and writes the requested files.
pub fn run(arguments: ChurnArgs) -> Result<(), BenchError> {
    arguments.check()?;
    arguments.files.check()?;
    let ChurnArgs { documents, dimensions, rounds, k, engine, .. } = arguments;
    let heading = arguments.load.heading("bench churn", documents, Some(dimensions));
    outln!("{heading}; each replaced {rounds} times; k {k}");
    let churn = Churn::new(&arguments);
    let [fresh, churned] = match engine {
        ChurnEngine::Server => churn.servers()?,
        ChurnEngine::Library => churn.library()?,
    };
    let report = Report::new(heading, &arguments, fresh, churned);
    report.print();
    arguments.files.write(&report)
}

impl ChurnArgs {
    fn check(&self) -> Result<(), BenchError> {
        self.load.check(&[
            ("--documents", self.documents),
            ("--dimensions", self.dimensions),
            ("--rounds", self.rounds),
            ("--ef", self.ef.iter().copied().min().unwrap_or(0)),
            ("--k", self.k),
            ("--queries", self.queries),
        ])?;
        if !(self.seconds >= 0.0 && self.seconds.is_finite()) {
            return Err(BenchError::Usage("--seconds must be a number from 0".into()));
        }
        if self.engine == ChurnEngine::Server {
            self.load.check_memory(self.documents, self.dimensions, 4.0)?;
            // If there is no /proc, fail before the load.
            Process::own().resident()?;
        }
        Ok(())
    }
}

/// The documents of all rounds, and the right answers at the end.
struct Churn<'a> {
    arguments: &'a ChurnArgs,
    generator: Generator,
    /// The data set of the last round.
    task: Task,
    truth: Answers,
}

impl<'a> Churn<'a> {
    fn new(arguments: &'a ChurnArgs) -> Self {
        let drawing = progress::spinner("final documents");
        let ChurnArgs { documents, dimensions, rounds, k, .. } = *arguments;
        let generator = Generator::new(documents, dimensions, arguments.load.seed);
        let last: Vec<usize> = (0..documents).map(|document| number(documents, rounds, document)).collect();
        let dataset = Dataset {
            name: format!("round {rounds} of synthetic:{documents}:{dimensions}:{}", arguments.load.seed),
            metric: DatasetMetric::Cosine,
            base: generator.rows(&last),
            queries: generator.queries(arguments.queries),
            neighbors: None,
            filtered: None,
        };
        let truth = dataset.exact_neighbors(k);
        drawing.finish_and_clear();
        Self { arguments, generator, task: arguments.load.task(dataset, k), truth }
    }

    /// The fresh and the churned state, each in its own server.
    fn servers(&self) -> Result<[State; 2], BenchError> {
        let mut churned = Server::start(self)?;
        churned.fill(self, self.all_documents(), |engine| {
            engine.create()?;
            self.all_versions(|documents, vectors, progress| {
                engine.store_all(documents.len(), |place| (documents[place], vectors.row(place)), progress)
            })?;
            engine.wait_until_ready(self.arguments.documents as u64)
        })?;
        let mut fresh = Server::start(self)?;
        fresh.fill(self, self.arguments.documents, |engine| engine.load().map(drop))?;
        let points = self.sweep([&fresh.engine, &churned.engine])?;
        let servers = [fresh, churned].into_iter().zip(points);
        let states: Result<Vec<State>, BenchError> =
            servers.map(|(server, points)| Ok(State { points, ..server.stop()? })).collect();
        Ok(states?.try_into().expect("two servers have two states"))
    }

    /// The fresh and the churned state, in this process.
    fn library(&self) -> Result<[State; 2], BenchError> {
        let clock = Clock::start(Process::own());
        let mut fresh = LibraryEngine::new(&self.task);
        fresh.load()?;
        let fresh_state = clock.stop(self.arguments.documents);
        let clock = Clock::start(Process::own());
        let churned = LibraryEngine::new(&self.task);
        self.all_versions(|documents, vectors, progress| {
            documents.par_iter().enumerate().try_for_each(|(place, &document)| {
                progress.inc(1);
                churned.insert(document, vectors.row(place))
            })
        })?;
        let churned_state = clock.stop(self.all_documents());
        let [fresh_points, churned_points] = self.sweep([&fresh, &churned])?;
        let state = |engine: &LibraryEngine<'_>, state: State, points| State {
            index_bytes: engine.memory_bytes() as f64,
            replaced: Some(engine.statistics().deleted),
            points,
            ..state
        };
        Ok([state(&fresh, fresh_state, fresh_points), state(&churned, churned_state, churned_points)])
    }

    /// The number of documents that a churned index receives, all versions counted.
    fn all_documents(&self) -> usize {
        (self.arguments.rounds + 1) * self.arguments.documents
    }

    /// Passes the documents of each round with their vectors to `store`, some at a time.
    fn all_versions(
        &self,
        mut store: impl FnMut(&[usize], &Matrix<f32>, &ProgressBar) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let ChurnArgs { documents, rounds, load, .. } = self.arguments;
        let progress = progress::bar(self.all_documents() as u64, "documents, replaced");
        for round in 0..=*rounds {
            for some in shuffled(*documents, load.seed, round).chunks(DRAWN_AT_A_TIME) {
                let numbers: Vec<usize> =
                    some.iter().map(|&document| number(*documents, round, document)).collect();
                store(some, &self.generator.rows(&numbers), &progress)?;
            }
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// Searches both states alternately, at each ef.
    fn sweep(&self, engines: [&dyn VectorEngine; 2]) -> Result<[Vec<Point>; 2], BenchError> {
        let plan = LoopPlan {
            connections: 1,
            queries: self.task.dataset.queries.rows(),
            at_least: Duration::from_secs_f64(self.arguments.seconds / TURNS as f64),
            warm_up: WARM_UP_SEARCHES,
        };
        let progress = progress::bar((self.arguments.ef.len() * TURNS * engines.len()) as u64, "searches");
        let mut points = [const { Vec::new() }; 2];
        for &ef in &self.arguments.ef {
            let mut outcomes: [Option<LoopOutcome>; 2] = [None, None];
            for turn in 0..TURNS {
                // The order is reversed in every other turn.
                for place in [turn % 2, 1 - turn % 2] {
                    let outcome = closed_loop::run(
                        engines[place],
                        SearchParameters { effort: SearchEffort::Beam(ef), filter: None },
                        plan,
                    )?;
                    match &mut outcomes[place] {
                        Some(pooled) => pooled.add(&outcome),
                        first => *first = Some(outcome),
                    }
                    progress.inc(1);
                }
            }
            for (points, outcome) in points.iter_mut().zip(outcomes.into_iter().flatten()) {
                let recalls = recall::of_each(&self.task.dataset, &self.truth, &outcome.answers, self.task.k);
                points.push(Point {
                    ef,
                    recall: recall::mean(&recalls),
                    recalls,
                    latency: outcome.latencies.percentiles(),
                    cpu_us_per_query: outcome.cpu_us_per_query(),
                });
            }
        }
        progress.finish_and_clear();
        Ok(points)
    }
}

/// A server with one of the two states.
struct Server<'c> {
    process: ServerProcess,
    connection: Connection,
    engine: ServerEngine<'c>,
    /// Resident memory, and INFO's used_memory, while the server was empty.
    empty_resident: u64,
    empty_used: f64,
    state: State,
}

impl<'c> Server<'c> {
    /// An empty server, measured when it is idle.
    fn start(churn: &'c Churn<'_>) -> Result<Self, BenchError> {
        let load = &churn.arguments.load;
        let (process, mut connection) = load.start("bench-churn")?;
        churn.arguments.wait_quiet(&mut connection)?;
        Ok(Self {
            empty_resident: process.process()?.resident()?.bytes,
            empty_used: used_memory(&mut connection)?,
            engine: ServerEngine::connect(&churn.task, load.server_options(&process, false))?,
            state: State::default(),
            process,
            connection,
        })
    }

    /// Stores `stored` documents by calling `store`, and measures the server when it is idle again.
    fn fill(
        &mut self,
        churn: &Churn<'_>,
        stored: usize,
        store: impl FnOnce(&mut ServerEngine<'c>) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let process = self.process.process()?;
        let clock = Clock::start(process);
        store(&mut self.engine)?;
        self.state = clock.stop(stored);
        churn.arguments.wait_quiet(&mut self.connection)?;
        let resident = process.resident()?;
        let grown = |bytes: u64| Some(bytes as f64 - self.empty_resident as f64);
        self.state.index_bytes = index_bytes(&mut self.connection)?;
        self.state.info_bytes = Some(used_memory(&mut self.connection)? - self.empty_used);
        (self.state.resident_bytes, self.state.peak_bytes) =
            (grown(resident.bytes), grown(resident.peak_bytes));
        Ok(())
    }

    fn stop(self) -> Result<State, BenchError> {
        drop(self.engine);
        self.process.stop(self.connection)?;
        Ok(self.state)
    }
}

impl ChurnArgs {
    fn wait_quiet(&self, connection: &mut Connection) -> Result<(), BenchError> {
        let waiting = progress::spinner("waiting until the server is idle");
        let outcome =
            wait_quiet(connection, Duration::from_secs(self.quiet_seconds), self.load.ready_timeout());
        waiting.finish_and_clear();
        outcome
    }
}

/// Measures the time of storing documents.
struct Clock {
    process: Process,
    began: Instant,
    cpu_before: Option<f64>,
}

impl Clock {
    fn start(process: Process) -> Self {
        Self { process, began: Instant::now(), cpu_before: process.cpu_seconds() }
    }

    fn stop(self, stored: usize) -> State {
        let cpu = self.process.cpu_seconds().zip(self.cpu_before);
        State {
            stored,
            seconds: self.began.elapsed().as_secs_f64(),
            cpu_seconds: cpu.map(|(after, before)| after - before),
            ..State::default()
        }
    }
}

/// The generator's row for a document in a round: each is used once.
fn number(documents: usize, round: usize, document: usize) -> usize {
    round * documents + document
}

/// All documents in the order in which a round stores them.
fn shuffled(documents: usize, seed: u64, round: usize) -> Vec<usize> {
    const STREAM: u64 = 20;
    let mut random = SplitMix64::new(seed, STREAM, round as u64);
    let mut order: Vec<usize> = (0..documents).collect();
    for place in (1..documents).rev() {
        order.swap(place, random.below(place as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> ChurnArgs {
        crate::parse_arguments(arguments)
    }

    #[test]
    fn a_server_is_churned_by_default() {
        let default = parse(&[]);
        assert_eq!((default.engine, default.documents, default.rounds), (ChurnEngine::Server, 100_000, 10));
        assert_eq!(default.ef, [20, 50, 100]);
        let other = parse(&["--engine", "library", "--ef", "10,30", "--quiet-seconds", "0", "--seed", "3"]);
        assert_eq!((other.engine, other.ef.as_slice()), (ChurnEngine::Library, &[10, 30][..]));
        assert_eq!((other.quiet_seconds, other.load.seed), (0, 3));
    }

    #[test]
    fn arguments_without_a_result_are_refused_by_name() {
        for (wrong, flag) in [
            (&["--ef", "20,0"][..], "--ef"),
            (&["--rounds", "0"], "--rounds"),
            (&["--seconds=-1"], "--seconds"),
            (&["--m", "0"], "--m"),
        ] {
            let refusal = parse(wrong).check().unwrap_err().to_string();
            assert!(refusal.starts_with(flag), "{wrong:?}: {refusal}");
        }
    }

    #[test]
    fn every_round_stores_each_document_once_in_its_own_order() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| shuffled(100, 1, round)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        }
        assert_ne!(orders[0], orders[1]);
        assert_eq!(orders[2], shuffled(100, 1, 2));
        let numbers: std::collections::HashSet<usize> =
            (0..3).flat_map(|round| (0..100).map(move |document| number(100, round, document))).collect();
        assert_eq!(numbers.len(), 300, "no vector twice");
    }

    #[test]
    fn a_churned_library_holds_the_final_documents() {
        let small =
            ["--documents", "300", "--dimensions", "16", "--rounds", "2", "--ef", "300", "--seconds", "0"];
        let arguments = parse(&[&small[..], &["--engine", "library"]].concat());
        let [fresh, churned] = Churn::new(&arguments).library().unwrap();
        assert!(fresh.points[0].recall > 0.99 && churned.points[0].recall > 0.99, "{fresh:?} {churned:?}");
        assert!(churned.index_bytes >= fresh.index_bytes / 2.0 && fresh.index_bytes > 300.0 * 16.0 * 4.0);
        assert_eq!((fresh.stored, churned.stored), (300, 900));
    }
}
