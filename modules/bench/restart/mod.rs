//! `bench restart`: the time of a start with a saved graph, compared with two other times.
//!
//! Both are measured with the same data in the same run: building the index through the protocol, which a
//! restart must avoid, and reading and checksumming the files that a start needs, which is the lower bound of
//! a start.

mod reading;

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use self::reading::SavedFiles;
use crate::client::Connection;
use crate::error::BenchError;
use crate::machine::{Process, Resident};
use crate::output::{self, Exported, ReportFiles, TextTable};
use crate::own_load::{Heading, LoadArgs, MEGABYTE, SETTLE, median};
use crate::plot::{Chart, ChartContent};
use crate::progress;
use crate::server_process::ServerProcess;
use crate::vectors::engine::{Task, VectorEngine};
use crate::vectors::server::ServerEngine;

const EXAMPLES: &str = "\
Examples:
  100,000 documents of 384 dimensions, five starts:
    engramdb bench restart
  Fewer and wider ones, and the report as JSON:
    engramdb bench restart --documents 20000 --dimensions 1536 --out-json restart.json

It starts a server of its own (this program, an empty directory under TMPDIR, a free port), stores the documents, waits until
the graph has all of them, stops it with SHUTDOWN SAVE, and starts it again, several times. Between the starts this process
reads what a start reads (the newest snapshot and the saved indexes) from the page cache and computes its CRC-32C, with one
thread and with two. Figures are medians.

Resident memory is what the system says of the process (/proc/PID/status: VmRSS a second after it was complete, and VmHWM).

Rows:
  build                  from the first HSET until no mutation waits for the graph
  start, answers         from the start of the process until it answers PING
  start, complete        until FT.INFO says that all documents are indexed and nothing is pending
  read, N threads        the files of a start, read and checksummed";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RestartArgs {
    /// Documents to store
    #[arg(long, default_value_t = 100_000)]
    pub documents: usize,
    /// Dimensions of the vectors
    #[arg(long, default_value_t = 384)]
    pub dimensions: usize,
    /// How many starts, and how many readings, to measure
    #[arg(long, default_value_t = 5)]
    pub starts: usize,
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
    build_seconds: f64,
    build_cpu_seconds: Option<f64>,
    snapshot_bytes: u64,
    index_bytes: u64,
    rounds: Vec<Round>,
    ratios: Ratios,
}

/// One start, and the files read twice; times are in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Round {
    answers: f64,
    complete: f64,
    /// CPU time of the server's process when the index was complete.
    cpu: Option<f64>,
    read_by_one: f64,
    read_by_two: f64,
    /// CPU time of reading with one thread. The clock has a resolution of 10 ms: only a sum over rounds is
    /// meaningful.
    read_cpu: Option<f64>,
    /// Memory of the server's process shortly after the index was complete, and its peak.
    #[serde(flatten)]
    resident: Option<Resident>,
}

/// The ratios of starts to the other times: by medians of wall time, and by sums of CPU time, which are more
/// reliable if the machine is busy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Ratios {
    build_over_start: f64,
    start_over_read_by_one: f64,
    start_over_read_by_two: f64,
    cpu_build_over_start: Option<f64>,
    cpu_start_over_read: Option<f64>,
}

impl Ratios {
    fn of(build_seconds: f64, build_cpu_seconds: Option<f64>, rounds: &[Round]) -> Self {
        let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
        let start = middle(|round| round.complete);
        let start_cpu = total(rounds, |round| round.cpu);
        Self {
            build_over_start: build_seconds / start,
            start_over_read_by_one: start / middle(|round| round.read_by_one),
            start_over_read_by_two: start / middle(|round| round.read_by_two),
            cpu_build_over_start: build_cpu_seconds
                .zip(start_cpu)
                .map(|(build, start)| build * rounds.len() as f64 / start),
            cpu_start_over_read: start_cpu
                .zip(total(rounds, |round| round.read_cpu))
                .filter(|&(_, read)| read > 0.0)
                .map(|(start, read)| start / read),
        }
    }
}

/// The sum over all rounds; `None` if the figure of one of them is not known.
fn total(rounds: &[Round], figure: fn(&Round) -> Option<f64>) -> Option<f64> {
    rounds.iter().map(figure).sum()
}

/// Builds, starts and reads, prints the table and writes the requested files.
pub fn run(arguments: RestartArgs) -> Result<(), BenchError> {
    let own = [
        ("--documents", arguments.documents),
        ("--dimensions", arguments.dimensions),
        ("--starts", arguments.starts),
    ];
    arguments.load.check(&own)?;
    arguments.load.check_memory(arguments.documents, arguments.dimensions, 2.5)?;
    arguments.files.check()?;
    let RestartArgs { documents, dimensions, .. } = arguments;
    let heading = arguments.load.heading("bench restart", documents, Some(dimensions));
    outln!("{heading}");
    let task = arguments.load.task(arguments.load.generate(documents, dimensions), 1);
    let (mut server, mut connection) = arguments.load.start("bench-restart")?;
    let mut engine = ServerEngine::connect(&task, arguments.load.server_options(&server, false))?;
    let built = engine.load()?.expect("a server that is loaded reports it");
    drop(engine);
    server.shut_down(&mut connection, &["SAVE"])?;

    let files = SavedFiles::find(server.directory())?;
    // The first reading fills the page cache.
    files.checksum(1)?;
    let mut rounds = Vec::new();
    let progress = progress::bar(arguments.starts as u64, "starts");
    for number in 1..=arguments.starts {
        let (round, connection) = arguments.round(&mut server, &task, &files)?;
        rounds.push(round);
        progress.inc(1);
        if number == arguments.starts {
            progress.finish_and_clear();
            outln!("\nThe server said at its last start:");
            server.show_last_start()?;
            server.stop(connection)?;
            break;
        }
        let mut connection = connection;
        server.shut_down(&mut connection, &[])?;
    }
    let report = Report {
        heading,
        build_seconds: built.ready_seconds,
        build_cpu_seconds: built.cpu_seconds,
        snapshot_bytes: files.snapshot_bytes,
        index_bytes: files.index_bytes,
        ratios: Ratios::of(built.ready_seconds, built.cpu_seconds, &rounds),
        rounds,
    };
    report.print();
    arguments.files.write(&report)
}

impl RestartArgs {
    /// Reads the files, and starts the server, which is running afterwards.
    fn round(
        &self,
        server: &mut ServerProcess,
        task: &Task,
        files: &SavedFiles,
    ) -> Result<(Round, Connection), BenchError> {
        let read = |threads| -> Result<f64, BenchError> {
            let began = Instant::now();
            files.checksum(threads)?;
            Ok(began.elapsed().as_secs_f64())
        };
        let cpu_before = Process::own().cpu_seconds();
        let read_by_one = read(1)?;
        let read_cpu = Process::own().cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
        let read_by_two = read(2)?;
        let began = Instant::now();
        server.restart()?;
        let connection = server.wait_ready(self.load.ready_timeout())?;
        let answers = began.elapsed();
        let mut engine = ServerEngine::connect(task, self.load.server_options(server, true))?;
        engine.load()?;
        let complete = began.elapsed();
        let cpu = server.process().ok().and_then(Process::cpu_seconds);
        std::thread::sleep(SETTLE);
        // Without /proc it is not known.
        let resident = server.process().and_then(Process::resident).ok();
        let [answers, complete] = [answers, complete].map(|time: Duration| time.as_secs_f64());
        Ok((Round { answers, complete, cpu, read_by_one, read_by_two, read_cpu, resident }, connection))
    }
}

impl Report {
    fn print(&self) {
        out!("\n{}", self.table().render());
        let megabytes = |bytes: u64| bytes as f64 / MEGABYTE;
        outln!(
            "read: {:.1} MB of snapshot, {:.1} MB of saved indexes",
            megabytes(self.snapshot_bytes),
            megabytes(self.index_bytes)
        );
        if let Some((resident, peak)) = self.resident_megabytes() {
            outln!("a start holds {resident:.1} MB of memory afterwards, and {peak:.1} MB at its peak");
        }
        let Ratios { build_over_start, start_over_read_by_one, start_over_read_by_two, .. } = self.ratios;
        let cpu = |ratio: Option<f64>| output::optional(ratio, 1);
        outln!(
            "a start is {build_over_start:.1} times quicker than building, by CPU time {} times",
            cpu(self.ratios.cpu_build_over_start)
        );
        outln!(
            "a start takes {start_over_read_by_one:.1} times as long as reading with one thread, \
             {start_over_read_by_two:.1} times as long as with two, by CPU time {} times",
            cpu(self.ratios.cpu_start_over_read)
        );
    }

    /// Medians over the starts: memory after the start, and at the peak.
    fn resident_megabytes(&self) -> Option<(f64, f64)> {
        let seen: Option<Vec<Resident>> = self.rounds.iter().map(|round| round.resident).collect();
        let seen = seen?;
        let middle =
            |bytes: fn(&Resident) -> u64| median(seen.iter().map(|each| bytes(each) as f64)) / MEGABYTE;
        Some((middle(|each| each.bytes), middle(|each| each.peak_bytes)))
    }

    fn table(&self) -> TextTable {
        let mut table = TextTable::new(&["", "median ms", "min ms", "max ms", "CPU ms"]);
        let milliseconds = |seconds: f64| format!("{:.1}", seconds * 1e3);
        let mut row = |what: &str, figures: &[f64], cpu: Option<f64>| {
            table.row([
                what.to_owned(),
                milliseconds(median(figures.iter().copied())),
                milliseconds(figures.iter().copied().fold(f64::INFINITY, f64::min)),
                milliseconds(figures.iter().copied().fold(0.0, f64::max)),
                output::optional(cpu.map(|seconds| seconds * 1e3), 0),
            ]);
        };
        let figures = |figure: fn(&Round) -> f64| -> Vec<f64> { self.rounds.iter().map(figure).collect() };
        let cpu: Option<Vec<f64>> = self.rounds.iter().map(|round| round.cpu).collect();
        row("build", &[self.build_seconds], self.build_cpu_seconds);
        row("start, answers", &figures(|round| round.answers), None);
        row("start, complete", &figures(|round| round.complete), cpu.map(median));
        let read_cpu = total(&self.rounds, |round| round.read_cpu);
        let read_cpu = read_cpu.map(|seconds| seconds / self.rounds.len() as f64);
        row("read, 1 thread", &figures(|round| round.read_by_one), read_cpu);
        row("read, 2 threads", &figures(|round| round.read_by_two), None);
        table
    }
}

impl Exported for Report {
    /// Each time that was measured; a start and a reading have one for each round.
    fn csv(&self) -> TextTable {
        let mut table =
            TextTable::new(&["what", "round", "seconds", "cpu_seconds", "resident_bytes", "peak_bytes"]);
        let mut row =
            |what: &str, round: usize, seconds: f64, cpu: Option<f64>, resident: Option<Resident>| {
                table.row([
                    what.to_owned(),
                    round.to_string(),
                    format!("{seconds:.6}"),
                    output::cell(cpu, 2),
                    resident.map(|resident| resident.bytes.to_string()).unwrap_or_default(),
                    resident.map(|resident| resident.peak_bytes.to_string()).unwrap_or_default(),
                ]);
            };
        row("build", 0, self.build_seconds, self.build_cpu_seconds, None);
        for (number, round) in (1..).zip(&self.rounds) {
            row("answers", number, round.answers, None, None);
            row("complete", number, round.complete, round.cpu, round.resident);
            row("read_by_one", number, round.read_by_one, round.read_cpu, None);
            row("read_by_two", number, round.read_by_two, None, None);
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let middle = |figure: fn(&Round) -> f64| Some(median(self.rounds.iter().map(figure)) * 1e3);
        let bars = [
            ("build", Some(self.build_seconds * 1e3)),
            ("start, answers", middle(|round| round.answers)),
            ("start, complete", middle(|round| round.complete)),
            ("read, 1 thread", middle(|round| round.read_by_one)),
            ("read, 2 threads", middle(|round| round.read_by_two)),
        ];
        let (categories, heights): (Vec<&str>, Vec<Option<f64>>) = bars.into_iter().unzip();
        vec![Chart {
            title: "a start beside building the index and reading its files".into(),
            y_label: "milliseconds".into(),
            y_log: true,
            content: ChartContent::Bars {
                categories: categories.into_iter().map(str::to_owned).collect(),
                series: vec![("median".to_owned(), heights)],
            },
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_median_wall_times_and_of_all_cpu_time() {
        let round = |complete, cpu, read_by_one, read_cpu| Round {
            answers: 0.0,
            complete,
            cpu: Some(cpu),
            read_by_one,
            read_by_two: read_by_one / 2.0,
            read_cpu,
            resident: None,
        };
        let rounds = [
            round(0.5, 0.4, 0.2, Some(0.1)),
            round(0.4, 0.4, 0.2, Some(0.2)),
            round(9.0, 0.7, 0.9, Some(0.3)),
        ];
        let ratios = Ratios::of(20.0, Some(15.0), &rounds);
        assert_eq!((ratios.build_over_start, ratios.start_over_read_by_one), (40.0, 2.5));
        assert_eq!(ratios.start_over_read_by_two, 5.0);
        let near = |actual: Option<f64>, expected: f64| (actual.unwrap() - expected).abs() < 1e-9;
        assert!(
            near(ratios.cpu_build_over_start, 30.0) && near(ratios.cpu_start_over_read, 2.5),
            "{ratios:?}"
        );
        let unknown = Ratios::of(20.0, None, &[rounds[0], round(0.5, 0.4, 0.2, None)]);
        assert_eq!((unknown.cpu_build_over_start, unknown.cpu_start_over_read), (None, None));
        let too_short = Ratios::of(20.0, Some(15.0), &[round(0.5, 0.4, 0.2, Some(0.0))]);
        assert_eq!(too_short.cpu_start_over_read, None, "the clock did not advance");
    }
}
