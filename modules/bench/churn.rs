//! `bench churn`: what an index is worth after its documents were replaced again and again.
//!
//! Two states of the same final documents are compared: *fresh*, built from them alone, and *churned*, which has seen every
//! earlier version of each. They should find as much, as quickly, in as little memory. Round by round each document gets a
//! new vector of the same distribution, in an order of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::Serialize;

use crate::data::synthetic::Generator;
use crate::data::truth::Answers;
use crate::data::{Dataset, Matrix, Metric};
use crate::error::BenchError;
use crate::latency::Percentiles;
use crate::machine::{Machine, Process};
use crate::output::{self, Table};
use crate::own_load::{LoadArgs, MEGABYTE, SETTLE, index_bytes, median};
use crate::progress;
use crate::random::SplitMix64;
use crate::vectors::closed_loop::{self, Plan};
use crate::vectors::engine::{Engine, SearchParameters, Task};
use crate::vectors::recall;
use crate::vectors::reference::LibraryEngine;
use crate::vectors::server::ServerEngine;

/// What the project wants: the recall of a fresh build less so much, ...
const RECALL_LOSS_WANTED: f64 = 0.01;
/// ... in its memory and so much of it.
const MEMORY_GROWTH_WANTED: f64 = 0.10;
/// Vectors are drawn so many at a time, which weighs little beside the index: resident memory is compared.
const DRAWN_AT_A_TIME: usize = 1_000;
const WARM_UP_SEARCHES: usize = 100;

const EXAMPLES: &str = "\
Examples:
  The index as a library, in this process:
    engramdb bench churn
  Through a server of its own as well, at the size that counts (several minutes):
    engramdb bench churn --engines library,server --documents 100000
  A quick look:
    engramdb bench churn --documents 5000 --rounds 3 --ef 20

Each engine is filled twice: with the final documents at once, and with every version of them, one after the other. The server
is this program, on an empty directory under TMPDIR and a free port, twice.

Columns:
  index MB      what the index says that it occupies (FT.INFO's total_index_memory_sz_mb; the library's statistics)
  resident MB   what the process grew by since it was empty; of the library, since before the fresh index, of which the allocator
                keeps the memory: the churned index shows only what it needs beyond that
  replaced      vectors that were replaced and whose memory is not free yet; only the library tells
  CPU us        CPU time a query, of the process that searches";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ChurnArgs {
    /// What is churned
    #[arg(long, value_enum, value_delimiter = ',', default_value = "library")]
    pub engines: Vec<ChurnEngine>,
    /// Documents in the index
    #[arg(long, default_value_t = 40_000)]
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
    /// Neighbours to ask for
    #[arg(short, long, default_value_t = 10)]
    pub k: usize,
    /// Ask for at least this many seconds at each point; every query is asked at least once anyway
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub out_json: Option<PathBuf>,
}

/// An engine that can be churned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ChurnEngine {
    /// EngramDB's index in this process, inserted into by all cores
    Library,
    /// A server of its own, through the protocol
    Server,
}

/// Everything that a run found, as it is written to JSON.
#[derive(Serialize)]
struct Report {
    tool: &'static str,
    version: &'static str,
    machine: Machine,
    documents: usize,
    dimensions: usize,
    rounds: usize,
    m: usize,
    ef_construction: usize,
    k: usize,
    engines: Vec<EngineReport>,
}

#[derive(Serialize)]
struct EngineReport {
    engine: ChurnEngine,
    fresh: State,
    churned: State,
}

/// An index with the final documents.
#[derive(Clone, Debug, Default, Serialize)]
struct State {
    /// From the first document stored until the index was complete, and CPU time of the process that has it.
    seconds: f64,
    cpu_seconds: Option<f64>,
    index_bytes: f64,
    resident_bytes: f64,
    /// Replaced vectors whose memory is not free yet; only the library tells.
    replaced: Option<usize>,
    points: Vec<Point>,
}

#[derive(Clone, Debug, Serialize)]
struct Point {
    ef: usize,
    recall: f64,
    #[serde(flatten)]
    latency: Percentiles,
    cpu_us_per_query: Option<f64>,
}

/// What churn did, beside a fresh build.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Verdict {
    /// The largest over all ef; negative where the churned index finds more everywhere.
    recall_loss: f64,
    index_growth: f64,
    resident_growth: f64,
    /// The median over all ef of CPU time a query; none where it is not known.
    cpu_growth: Option<f64>,
}

impl Verdict {
    fn of(fresh: &State, churned: &State) -> Self {
        let pairs = || fresh.points.iter().zip(&churned.points);
        let losses = pairs().map(|(fresh, churned)| fresh.recall - churned.recall);
        let cpu: Option<Vec<f64>> = pairs()
            .map(|(fresh, churned)| Some(churned.cpu_us_per_query? / fresh.cpu_us_per_query?))
            .collect();
        Self {
            recall_loss: losses.fold(f64::NEG_INFINITY, f64::max),
            index_growth: churned.index_bytes / fresh.index_bytes - 1.0,
            resident_growth: churned.resident_bytes / fresh.resident_bytes - 1.0,
            cpu_growth: cpu.map(|ratios| median(ratios) - 1.0),
        }
    }
}

/// Churns each engine, prints the table and writes the JSON that was asked for.
pub fn run(arguments: ChurnArgs) -> Result<(), BenchError> {
    let least_ef = arguments.ef.iter().copied().min().unwrap_or(0);
    arguments.load.check(&[
        ("--documents", arguments.documents),
        ("--dimensions", arguments.dimensions),
        ("--rounds", arguments.rounds),
        ("--ef", least_ef),
        ("--k", arguments.k),
    ])?;
    if !(arguments.seconds >= 0.0 && arguments.seconds.is_finite()) {
        return Err(BenchError::Usage("--seconds must be a number from 0".into()));
    }
    Process::own().resident()?;
    let mut report = Report {
        tool: "engramdb bench churn",
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::describe(),
        documents: arguments.documents,
        dimensions: arguments.dimensions,
        rounds: arguments.rounds,
        m: arguments.load.m,
        ef_construction: arguments.load.ef_construction,
        k: arguments.k,
        engines: Vec::new(),
    };
    println!("{}", report.machine);
    println!(
        "{} documents x {}, each replaced {} times, HNSW M {}",
        report.documents, report.dimensions, report.rounds, report.m
    );
    let churn = Churn::new(&arguments);
    for &engine in &arguments.engines {
        let (fresh, churned) = match engine {
            ChurnEngine::Library => churn.library()?,
            ChurnEngine::Server => (churn.server(false)?, churn.server(true)?),
        };
        report.engines.push(EngineReport { engine, fresh, churned });
    }
    report.print();
    arguments.out_json.as_deref().map_or(Ok(()), |path| output::write_json(path, &report))
}

/// The documents through all rounds, and what is right at the end.
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
            metric: Metric::Cosine,
            base: generator.rows(&last),
            queries: generator.queries(),
            neighbors: None,
        };
        let truth = dataset.exact_neighbors(k);
        drawing.finish_and_clear();
        Self { arguments, generator, task: arguments.load.task(dataset, k), truth }
    }

    /// Fresh and churned, in this process.
    fn library(&self) -> Result<(State, State), BenchError> {
        let empty = Process::own().resident()?.bytes;
        let measure = |engine: LibraryEngine<'_>, began: Instant, cpu_before: Option<f64>| {
            let (seconds, cpu_seconds) =
                (began.elapsed().as_secs_f64(), used_since(Process::own(), cpu_before));
            std::thread::sleep(SETTLE);
            let resident_bytes = Process::own().resident()?.bytes as f64 - empty as f64;
            let index_bytes = engine.memory_bytes() as f64;
            Ok::<_, BenchError>(State {
                seconds,
                cpu_seconds,
                index_bytes,
                resident_bytes,
                replaced: Some(engine.statistics().deleted),
                points: self.sweep(&engine)?,
            })
        };
        let (began, cpu_before) = (Instant::now(), Process::own().cpu_seconds());
        let mut engine = LibraryEngine::new(&self.task);
        engine.load()?;
        let fresh = measure(engine, began, cpu_before)?;
        std::thread::sleep(SETTLE);
        let (began, cpu_before) = (Instant::now(), Process::own().cpu_seconds());
        let engine = LibraryEngine::new(&self.task);
        self.all_versions(|documents, vectors, progress| {
            documents.par_iter().enumerate().try_for_each(|(place, &document)| {
                progress.inc(1);
                engine.insert(document, vectors.row(place))
            })
        })?;
        Ok((fresh, measure(engine, began, cpu_before)?))
    }

    /// A server of its own, with the final documents at once or with all that was before them.
    fn server(&self, churned: bool) -> Result<State, BenchError> {
        let load = &self.arguments.load;
        let (server, mut connection) = load.start("bench-churn")?;
        std::thread::sleep(SETTLE);
        let empty = server.process()?.resident()?.bytes;
        let cpu_before = server.process()?.cpu_seconds();
        let began = Instant::now();
        let mut engine = ServerEngine::connect(&self.task, load.server_options(&server, false))?;
        if churned {
            engine.create()?;
            self.all_versions(|documents, vectors, progress| {
                engine.store_all(documents.len(), |place| (documents[place], vectors.row(place)), progress)
            })?;
            engine.wait_until_ready(self.arguments.documents as u64)?;
        } else {
            engine.load()?;
        }
        let (seconds, cpu_seconds) =
            (began.elapsed().as_secs_f64(), used_since(server.process()?, cpu_before));
        std::thread::sleep(SETTLE);
        let resident_bytes = server.process()?.resident()?.bytes as f64 - empty as f64;
        let index_bytes = index_bytes(&mut connection)?;
        let points = self.sweep(&engine)?;
        drop(engine);
        server.stop(connection)?;
        Ok(State { seconds, cpu_seconds, index_bytes, resident_bytes, replaced: None, points })
    }

    /// Hands out the documents of each round with their vectors, some at a time.
    fn all_versions(
        &self,
        mut store: impl FnMut(&[usize], &Matrix<f32>, &ProgressBar) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let ChurnArgs { documents, rounds, load, .. } = self.arguments;
        let progress = progress::bar(((rounds + 1) * documents) as u64, "documents, replaced");
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

    fn sweep(&self, engine: &dyn Engine) -> Result<Vec<Point>, BenchError> {
        let plan = Plan {
            connections: 1,
            queries: self.task.dataset.queries.rows(),
            at_least: Duration::from_secs_f64(self.arguments.seconds),
            warm_up: WARM_UP_SEARCHES,
        };
        let point = |&ef: &usize| {
            let outcome = closed_loop::run(engine, SearchParameters { ef, filter: None }, plan)?;
            Ok(Point {
                ef,
                recall: recall::at_k(&self.task.dataset, &self.truth, &outcome.answers, self.task.k),
                latency: outcome.latencies.percentiles(),
                cpu_us_per_query: outcome.cpu_seconds.map(|cpu| cpu * 1e6 / outcome.searches as f64),
            })
        };
        self.arguments.ef.iter().map(point).collect()
    }
}

fn used_since(process: Process, before: Option<f64>) -> Option<f64> {
    process.cpu_seconds().zip(before).map(|(after, before)| after - before)
}

/// The generator's row that a document has in a round: never the same one twice.
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

impl Report {
    fn print(&self) {
        print!("\n{}", self.table().render());
        for engine in &self.engines {
            let verdict = Verdict::of(&engine.fresh, &engine.churned);
            let percent = |growth: f64| format!("{:+.1} %", growth * 100.0);
            println!(
                "{}: recall at most {:.4} lower (wanted: {RECALL_LOSS_WANTED}); index {}, resident {} (wanted: at most {}); \
                 CPU a query {}",
                name(engine.engine),
                verdict.recall_loss,
                percent(verdict.index_growth),
                percent(verdict.resident_growth),
                percent(MEMORY_GROWTH_WANTED),
                verdict.cpu_growth.map_or_else(|| "-".to_owned(), percent)
            );
        }
    }

    fn table(&self) -> Table {
        let recall = format!("recall@{}", self.k);
        let mut table = Table::new(&[
            "engine",
            "state",
            "stored in s",
            "CPU s",
            "index MB",
            "resident MB",
            "replaced",
            "ef",
            &recall,
            "p50 us",
            "p99 us",
            "CPU us",
        ]);
        for engine in &self.engines {
            for (name_of_state, state) in [("fresh", &engine.fresh), ("churned", &engine.churned)] {
                for point in &state.points {
                    table.row([
                        name(engine.engine).to_owned(),
                        name_of_state.to_owned(),
                        format!("{:.1}", state.seconds),
                        output::optional(state.cpu_seconds, 1),
                        format!("{:.1}", state.index_bytes / MEGABYTE),
                        format!("{:.1}", state.resident_bytes / MEGABYTE),
                        state.replaced.map_or_else(|| "-".to_owned(), |count| count.to_string()),
                        point.ef.to_string(),
                        format!("{:.4}", point.recall),
                        format!("{:.0}", point.latency.p50_us),
                        format!("{:.0}", point.latency.p99_us),
                        output::optional(point.cpu_us_per_query, 0),
                    ]);
                }
            }
        }
        table
    }
}

fn name(engine: ChurnEngine) -> &'static str {
    match engine {
        ChurnEngine::Library => "library",
        ChurnEngine::Server => "server",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_stores_each_document_once_in_an_order_of_its_own() {
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
    fn the_verdict_is_the_worst_loss_and_the_growth() {
        let state = |recalls: &[f64], index_bytes, resident_bytes| {
            let point = |&recall: &f64| Point {
                ef: 10,
                recall,
                latency: Percentiles::default(),
                cpu_us_per_query: Some(recall * 100.0),
            };
            State {
                index_bytes,
                resident_bytes,
                points: recalls.iter().map(point).collect(),
                ..State::default()
            }
        };
        let verdict = Verdict::of(&state(&[0.5, 0.5], 100.0, 200.0), &state(&[1.0, 0.25], 125.0, 150.0));
        assert_eq!((verdict.recall_loss, verdict.index_growth, verdict.resident_growth), (0.25, 0.25, -0.25));
        assert_eq!(verdict.cpu_growth, Some(1.25 - 1.0), "between 2 and 0.5 times");
    }

    #[test]
    fn a_churned_library_holds_the_final_documents() {
        let arguments = ChurnArgs {
            engines: vec![ChurnEngine::Library],
            documents: 300,
            dimensions: 16,
            rounds: 2,
            ef: vec![300],
            k: 10,
            seconds: 0.0,
            load: LoadArgs {
                seed: 1,
                m: 16,
                ef_construction: 100,
                load_connections: 1,
                load_pipeline: 1,
                ready_timeout: 1,
            },
            out_json: None,
        };
        let (fresh, churned) = Churn::new(&arguments).library().unwrap();
        assert!(fresh.points[0].recall > 0.99 && churned.points[0].recall > 0.99, "{fresh:?} {churned:?}");
        assert!(churned.index_bytes >= fresh.index_bytes / 2.0 && fresh.index_bytes > 300.0 * 16.0 * 4.0);
    }
}
