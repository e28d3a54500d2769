//! `bench ingest`: the effect of full-speed ingestion on the latency of searches.
//!
//! Quiet and busy phases alternate on one server, so that disturbances of the machine and the growth of the
//! index affect both; the order is reversed in every other round. Between phases the graph catches up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::client::Connection;
use crate::data::Matrix;
use crate::data::synthetic::Generator;
use crate::error::BenchError;
use crate::latency::{self, Figure, Percentiles};
use crate::output::{Exported, ReportFiles, TextTable};
use crate::own_load::{Heading, LoadArgs, median};
use crate::plot::{Chart, ChartContent};
use crate::progress;
use crate::vectors::closed_loop::{self, LoopPlan};
use crate::vectors::engine::{SearchEffort, SearchParameters, VectorEngine};
use crate::vectors::server::ServerEngine;

/// The time from the first write to the first search that is measured: the queue of the graph is full by
/// then.
const RAMP: Duration = Duration::from_millis(500);
const WARM_UP_SEARCHES: usize = 100;
/// Vectors per second generated for a writer before its first phase; later phases use the rate of the
/// previous one.
const DRAWN_PER_SECOND: f64 = 10_000.0;
/// The number of vectors that a writer generates if it runs out of them within a phase, which takes it a
/// little time.
const DRAWN_AT_LEAST: usize = 1_000;

const EXAMPLES: &str = "\
Examples:
  100,000 documents, then four rounds of five seconds each way:
    engramdb bench ingest
  Eight connections that search, and as a control the writers on another server, so that they only take the processor away:
    engramdb bench ingest --connections 8 --control

It starts a server of its own (this program, an empty directory under TMPDIR, a free port), stores the documents and searches
them in closed loops. While it is busy, another connection stores new documents with HSET, in pipelines, as fast as the server
takes them. A phase begins with nothing pending.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct IngestArgs {
    /// Documents stored before the first phase
    #[arg(long, default_value_t = 100_000)]
    pub documents: usize,
    /// Dimensions of the vectors
    #[arg(long, default_value_t = 384)]
    pub dimensions: usize,
    /// Quiet and busy phases, alternating
    #[arg(long, default_value_t = 4)]
    pub rounds: usize,
    /// Seconds of each phase; every query is sent at least once in any case
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// HNSW: candidates while searching
    #[arg(long, default_value_t = 100)]
    pub ef: usize,
    /// Neighbours to return
    #[arg(short, long, default_value_t = 10)]
    pub k: usize,
    /// Connections that search at the same time, each in a closed loop
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Also measure while another server ingests on this machine: shows which part of the ratio is due to the
    /// processor
    #[arg(long)]
    pub control: bool,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub files: ReportFiles,
}

/// All results of a run, in the form of its JSON.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    heading: Heading,
    ef: usize,
    k: usize,
    connections: usize,
    phases: Vec<Phase>,
    ratios: Vec<Ratio>,
}

/// The load while searches are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Load {
    Quiet,
    /// The searched server ingests.
    Ingest,
    /// Another server ingests.
    Elsewhere,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Load::Quiet => "quiet",
            Load::Ingest => "ingest",
            Load::Elsewhere => "elsewhere",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Phase {
    round: usize,
    load: Load,
    queries_per_second: f64,
    #[serde(flatten)]
    latency: Percentiles,
    searches: u64,
    /// New documents stored per second meanwhile.
    documents_per_second: f64,
}

/// A percentile of busy phases divided by that of the quiet phase of the same round.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Ratio {
    load: Load,
    percentile: &'static str,
    quiet_us: f64,
    busy_us: f64,
    median: f64,
    min: f64,
    max: f64,
}

/// Searches through all phases, prints the tables and writes the requested files.
pub fn run(arguments: IngestArgs) -> Result<(), BenchError> {
    arguments.load.check(&[
        ("--documents", arguments.documents),
        ("--dimensions", arguments.dimensions),
        ("--rounds", arguments.rounds),
        ("--ef", arguments.ef),
        ("--k", arguments.k),
        ("--connections", arguments.connections),
    ])?;
    if !(arguments.seconds >= 0.0 && arguments.seconds.is_finite()) {
        return Err(BenchError::Usage("--seconds must be a number from 0".into()));
    }
    arguments.load.check_memory(arguments.documents, arguments.dimensions, 2.5)?;
    arguments.files.check()?;
    let IngestArgs { documents, dimensions, ef, k, connections, .. } = arguments;
    let heading = arguments.load.heading("bench ingest", documents, Some(dimensions));
    outln!("{heading}; ef {ef}, k {k}, {connections} searching");
    let phases = arguments.measure()?;
    let mut ratios = ratios(&phases, Load::Ingest);
    ratios.extend(self::ratios(&phases, Load::Elsewhere));
    let report = Report { heading, ef, k, connections, phases, ratios };
    report.print();
    arguments.files.write(&report)
}

impl IngestArgs {
    fn measure(&self) -> Result<Vec<Phase>, BenchError> {
        let task = self.load.task(self.load.generate(self.documents, self.dimensions), self.k);
        let (server, connection) = self.load.start("bench-ingest")?;
        let mut engine = ServerEngine::connect(&task, self.load.server_options(&server, false))?;
        engine.load()?;
        let mut writer = Writer::new(self, Connection::open(&server.target())?);
        // The other server is empty at first: with a smaller graph it stores more documents, but uses no less
        // processor time.
        let mut other = None;
        if self.control {
            let (server, connection) = self.load.start("bench-ingest-control")?;
            let mut engine = ServerEngine::connect(&task, self.load.server_options(&server, false))?;
            engine.create()?;
            let writer = Writer::new(self, Connection::open(&server.target())?);
            other = Some((server, connection, engine, writer));
        }
        let mut phases = Vec::new();
        let loads = [Load::Quiet, Load::Ingest, Load::Elsewhere];
        let loads = &loads[..if self.control { 3 } else { 2 }];
        let progress = progress::bar((self.rounds * loads.len()) as u64, "phases");
        for round in 1..=self.rounds {
            for place in 0..loads.len() {
                let load = loads[if round % 2 == 1 { place } else { loads.len() - 1 - place }];
                let phase = match (load, &mut other) {
                    (Load::Elsewhere, Some((_, _, other, writer))) => {
                        self.phase(&engine, Some((&*other, &mut *writer)), (round, load)).and_then(|phase| {
                            other.wait_until_ready(writer.stored as u64)?;
                            Ok(phase)
                        })
                    }
                    (Load::Ingest, _) => self.phase(&engine, Some((&engine, &mut writer)), (round, load)),
                    _ => self.phase(&engine, None, (round, load)),
                };
                phases.push(phase?);
                engine.wait_until_ready((self.documents + writer.stored) as u64)?;
                progress.inc(1);
            }
        }
        progress.finish_and_clear();
        drop(engine);
        server.stop(connection)?;
        if let Some((server, connection, engine, _)) = other {
            drop(engine);
            server.stop(connection)?;
        }
        Ok(phases)
    }

    /// Searches `searched`, while the writer, if there is one, stores into its own server.
    fn phase(
        &self,
        searched: &ServerEngine<'_>,
        ingestion: Option<(&ServerEngine<'_>, &mut Writer)>,
        (round, load): (usize, Load),
    ) -> Result<Phase, BenchError> {
        let plan = LoopPlan {
            connections: self.connections,
            queries: searched.queries(),
            at_least: Duration::from_secs_f64(self.seconds),
            warm_up: WARM_UP_SEARCHES,
        };
        let parameters = SearchParameters { effort: SearchEffort::Beam(self.ef), filter: None };
        let stop = AtomicBool::new(false);
        let stored = AtomicUsize::new(0);
        let (outcome, documents_per_second) = std::thread::scope(|scope| {
            let writing = ingestion.map(|(engine, writer)| {
                writer.prepare(self.seconds);
                let (stop, stored) = (&stop, &stored);
                let thread = scope.spawn(move || writer.run(engine, stop, stored));
                std::thread::sleep(RAMP);
                thread
            });
            let (before, began) = (stored.load(Ordering::Relaxed), Instant::now());
            let outcome = closed_loop::run(searched, parameters, plan);
            // Every phase stores at least one document, however short the phase is.
            while writing.as_ref().is_some_and(|thread| !thread.is_finished())
                && stored.load(Ordering::Relaxed) == before
            {
                std::thread::yield_now();
            }
            let documents = (stored.load(Ordering::Relaxed) - before) as f64;
            let rate = documents / began.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            if let Some(thread) = writing {
                thread.join().expect("a writer ends in a result")?;
            }
            Ok::<_, BenchError>((outcome?, rate))
        })?;
        Ok(Phase {
            round,
            load,
            queries_per_second: outcome.searches as f64 / outcome.seconds,
            latency: outcome.latencies.percentiles(),
            searches: outcome.searches,
            documents_per_second,
        })
    }
}

/// Stores new documents through its own connection.
struct Writer {
    connection: Connection,
    generator: Generator,
    pipeline: usize,
    /// The first row number that is new.
    first: usize,
    /// New documents so far.
    stored: usize,
    /// Documents stored per second in the last phase.
    rate: f64,
    /// Vectors of the next documents, generated in advance.
    drawn: Matrix<f32>,
    used: usize,
}

impl Writer {
    fn new(arguments: &IngestArgs, connection: Connection) -> Self {
        let generator = Generator::new(arguments.documents, arguments.dimensions, arguments.load.seed);
        Self {
            connection,
            drawn: generator.rows(&[]),
            generator,
            pipeline: arguments.load.load_pipeline,
            first: arguments.documents,
            stored: 0,
            rate: DRAWN_PER_SECOND,
            used: 0,
        }
    }

    /// Generates as many vectors as the next phase is expected to need, so that the phase need not.
    fn prepare(&mut self, seconds: f64) {
        let busy = seconds + RAMP.as_secs_f64();
        self.draw((self.rate * busy * 1.2) as usize);
    }

    fn draw(&mut self, count: usize) {
        let from = self.first + self.stored;
        let numbers: Vec<usize> = (from..from + count.max(DRAWN_AT_LEAST)).collect();
        self.drawn = self.generator.rows(&numbers);
        self.used = 0;
    }

    /// Stores one pipeline after another until `stop` is set.
    fn run(
        &mut self,
        engine: &ServerEngine<'_>,
        stop: &AtomicBool,
        stored: &AtomicUsize,
    ) -> Result<(), BenchError> {
        let (began, before) = (Instant::now(), self.stored);
        while !stop.load(Ordering::Relaxed) {
            if self.used == self.drawn.rows() {
                self.draw(DRAWN_AT_LEAST);
            }
            let count = self.pipeline.min(self.drawn.rows() - self.used);
            let row = |place: usize| (self.first + self.stored + place, self.drawn.row(self.used + place));
            let rows: Vec<(usize, &[f32])> = (0..count).map(row).collect();
            engine.store(&mut self.connection, &rows)?;
            self.used += count;
            self.stored += count;
            stored.fetch_add(count, Ordering::Relaxed);
        }
        self.rate = (self.stored - before) as f64 / began.elapsed().as_secs_f64();
        Ok(())
    }
}

/// The percentiles that are compared and drawn.
const FIGURES: [Figure; 3] = [latency::P50, latency::P99, latency::P999];

/// Each percentile of the phases under a load, divided by that of the quiet phase of the same round. Empty if
/// no phase had this load.
fn ratios(phases: &[Phase], load: Load) -> Vec<Ratio> {
    let of = |load: Load, figure: fn(&Percentiles) -> f64| -> Vec<(usize, f64)> {
        let phases = phases.iter().filter(|phase| phase.load == load);
        phases.map(|phase| (phase.round, figure(&phase.latency))).collect()
    };
    let ratio = |(percentile, figure): Figure| {
        let (quiet, busy) = (of(Load::Quiet, figure), of(load, figure));
        let each: Vec<f64> = busy
            .iter()
            .filter_map(|(round, busy)| Some(busy / quiet.iter().find(|(other, _)| other == round)?.1))
            .collect();
        (!each.is_empty()).then(|| Ratio {
            load,
            percentile,
            quiet_us: median(quiet.iter().map(|&(_, figure)| figure)),
            busy_us: median(busy.iter().map(|&(_, figure)| figure)),
            median: median(each.iter().copied()),
            min: each.iter().copied().fold(f64::INFINITY, f64::min),
            max: each.iter().copied().fold(0.0, f64::max),
        })
    };
    FIGURES.into_iter().filter_map(ratio).collect()
}

impl Report {
    fn print(&self) {
        out!("\n{}\n{}", self.phase_table().render(), self.ratio_table().render());
        outln!("ratio: median over the rounds");
    }

    fn phase_table(&self) -> TextTable {
        let mut table = TextTable::of_groups(&[
            &["round", "load", "queries/s"],
            &Percentiles::HEADINGS,
            &["new documents/s"],
        ]);
        for phase in &self.phases {
            let load = phase.load.name().to_owned();
            let first = [phase.round.to_string(), load, format!("{:.0}", phase.queries_per_second)];
            let last = [format!("{:.0}", phase.documents_per_second)];
            table.row_of_groups(&[&first, &phase.latency.cells(), &last]);
        }
        table
    }

    fn ratio_table(&self) -> TextTable {
        let mut table = TextTable::new(&["load", "", "quiet us", "busy us", "ratio", "min", "max"]);
        for ratio in &self.ratios {
            table.row([
                ratio.load.name().to_owned(),
                ratio.percentile.to_owned(),
                format!("{:.0}", ratio.quiet_us),
                format!("{:.0}", ratio.busy_us),
                format!("{:.2}", ratio.median),
                format!("{:.2}", ratio.min),
                format!("{:.2}", ratio.max),
            ]);
        }
        table
    }
}

impl Exported for Report {
    fn csv(&self) -> TextTable {
        let mut table = TextTable::of_groups(&[
            &["round", "load", "queries_per_second"],
            &Percentiles::CSV_HEADINGS,
            &["searches", "documents_per_second"],
        ]);
        for phase in &self.phases {
            let load = phase.load.name().to_owned();
            let first = [phase.round.to_string(), load, format!("{:.1}", phase.queries_per_second)];
            let last = [phase.searches.to_string(), format!("{:.1}", phase.documents_per_second)];
            table.row_of_groups(&[&first, &phase.latency.csv_cells(), &last]);
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let name = |phase: &Phase| format!("{} {}", phase.round, phase.load.name());
        let series = latency::series(&FIGURES, self.phases.iter().map(|phase| &phase.latency));
        vec![Chart {
            title: "latency of searches, by round and load".into(),
            y_label: "microseconds".into(),
            y_log: true,
            content: ChartContent::Bars { categories: self.phases.iter().map(name).collect(), series },
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_phase_is_compared_with_the_quiet_one_of_the_same_round() {
        let phase = |round, load, p99_us| Phase {
            round,
            load,
            queries_per_second: 1.0,
            latency: Percentiles { p50_us: 10.0, p99_us, p999_us: 100.0, ..Percentiles::default() },
            searches: 1,
            documents_per_second: 0.0,
        };
        let phases = [
            phase(1, Load::Quiet, 10.0),
            phase(1, Load::Ingest, 40.0),
            phase(2, Load::Ingest, 60.0),
            phase(2, Load::Quiet, 20.0),
        ];
        let found = ratios(&phases, Load::Ingest);
        let p99 = Ratio {
            load: Load::Ingest,
            percentile: "p99",
            quiet_us: 15.0,
            busy_us: 50.0,
            median: 3.5,
            min: 3.0,
            max: 4.0,
        };
        assert_eq!(found[1], p99);
        assert_eq!((found[0].median, found[2].median, found.len()), (1.0, 1.0, 3));
        assert_eq!(ratios(&phases, Load::Elsewhere), []);
    }
}
