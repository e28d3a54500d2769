//! `bench memory`: the resident memory of a document, hash and index together.
//!
//! The measure is the resident memory of the server's process, as the system reports it, minus that of the
//! empty server. The server's own figures (INFO, FT.INFO, MEMORY USAGE) are reported beside it, to verify its
//! accounting.

mod small;

use clap::Args;
use serde::Serialize;

use crate::client::Connection;
use crate::error::BenchError;
use crate::machine::Process;
use crate::output::{Exported, ReportFiles, TextTable};
use crate::own_load::{Heading, LoadArgs, MEGABYTE, SETTLE, index_bytes, used_memory};
use crate::plot::{Chart, ChartContent};
use crate::vectors::engine::{Task, VectorEngine};
use crate::vectors::server::ServerEngine;
use small::SmallValues;

/// The number of keys whose MEMORY USAGE is averaged.
const KEYS_ASKED: usize = 100;

const EXAMPLES: &str = "\
Examples:
  100,000 documents of 384 dimensions:
    engramdb bench memory
  Three widths, and the report as JSON:
    engramdb bench memory --dimensions 384,768,1536 --out-json memory.json

For each width it starts a server of its own (this program, an empty directory under TMPDIR, a free port), reads its
resident memory, stores documents with a key of 16 bytes and one FLOAT32 field, waits until the graph has all of them, and
reads again; then it stops the server in order, starts it on the same directory, and reads once more.

Columns:
  resident MB, peak MB   what the system says of the process (/proc/PID/status: VmRSS, VmHWM); the peak of the restarted one is that
                         of its start
  B/document             resident bytes, less those of the empty server, for each document
  x raw                  the same over the bytes of the vector alone
  INFO B, index B, MEMORY USAGE B
                         what the server says that a document costs: by used_memory of INFO (less that of the empty server),
                         by total_index_memory_sz_mb of FT.INFO (the index alone), by MEMORY USAGE (the key alone)
  claimed                INFO B over B/document: 1 where the accounting is complete

With --data it measures small values instead, and beside its own server others that run on this machine:
    redis-server --port 7001 --save \"\" --appendonly no &
    valkey-server --port 7002 --save \"\" --appendonly no &
    engramdb bench memory --data strings --peer 127.0.0.1:7001 --peer 127.0.0.1:7002
    engramdb bench memory --data hashes --peer 127.0.0.1:7001
Each server gets the same keys in the same pipelines. Resident memory is read before the load and after it, once it no
longer changes. A peer must be empty, freshly started (memory that it used before would not be counted again) and without
a password; its keys are removed afterwards.

Columns with --data:
  B/value                resident bytes, less those of the empty server, for each key with its value
  INFO B                 the same by used_memory of INFO
  EngramDB over it       EngramDB's B/value in this run over that of the server: below 1, EngramDB takes less";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct MemoryArgs {
    /// Documents to store
    #[arg(long, default_value_t = 100_000)]
    pub documents: usize,
    /// Dimensions of the vectors; each value is a separate server and load
    #[arg(long, value_delimiter = ',', default_value = "384")]
    pub dimensions: Vec<usize>,
    /// Small values instead of documents: the memory of a key with its value
    #[arg(long, value_enum, conflicts_with_all = ["documents", "dimensions", "seed", "m", "ef_construction"])]
    pub data: Option<SmallValues>,
    /// Small values to store [default: 1000000 strings, 500000 hashes]
    #[arg(long, requires = "data")]
    pub values: Option<usize>,
    /// HOST:PORT of a running Redis-compatible server on this machine that is measured as well, empty and
    /// freshly started; may be given several times
    #[arg(long = "peer", requires = "data", value_name = "HOST:PORT")]
    pub peers: Vec<String>,
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
    footprints: Vec<Footprint>,
}

/// The memory of a server with the documents, measured and as reported by itself.
#[derive(Clone, Debug, Serialize)]
struct Footprint {
    dimensions: usize,
    state: &'static str,
    empty_bytes: u64,
    resident_bytes: u64,
    peak_bytes: u64,
    bytes_per_document: f64,
    /// Resident bytes per document divided by those of its vector.
    ratio: f64,
    info_bytes_per_document: f64,
    index_bytes_per_document: f64,
    memory_usage_bytes: f64,
    /// The share of the resident bytes that INFO reports.
    claimed: f64,
}

/// The server's own figures, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Claims {
    used_memory: f64,
    index: f64,
    memory_usage: f64,
}

/// Measures each number of dimensions, prints the table and writes the requested files.
pub fn run(arguments: MemoryArgs) -> Result<(), BenchError> {
    if let Some(data) = arguments.data {
        return small::run(&arguments, data);
    }
    let least = arguments.dimensions.iter().copied().min().unwrap_or(0);
    arguments.load.check(&[("--documents", arguments.documents), ("--dimensions", least)])?;
    let most = arguments.dimensions.iter().copied().max().unwrap_or(0);
    arguments.load.check_memory(arguments.documents, most, 2.5)?;
    arguments.files.check()?;
    // If there is no /proc, fail before the load.
    Process::own().resident()?;
    let mut report = Report {
        heading: arguments.load.heading("bench memory", arguments.documents, None),
        footprints: Vec::new(),
    };
    outln!("{}; a key of 16 bytes, one FLOAT32 field", report.heading);
    for &dimensions in &arguments.dimensions {
        report.footprints.extend(arguments.measure(dimensions)?);
    }
    out!("\n{}", report.table().render());
    arguments.files.write(&report)
}

impl MemoryArgs {
    /// One server: empty, loaded, restarted.
    fn measure(&self, dimensions: usize) -> Result<[Footprint; 2], BenchError> {
        let task = self.load.task(self.load.generate(self.documents, dimensions), 1);
        let (mut server, mut connection) = self.load.start("bench-memory")?;
        std::thread::sleep(SETTLE);
        let empty = server.process()?.resident()?.bytes;
        let empty_claims = Claims { used_memory: used_memory(&mut connection)?, ..Claims::default() };
        let footprint = |state, process: Process, engine: &ServerEngine<'_>, connection: &mut Connection| {
            std::thread::sleep(SETTLE);
            let resident = process.resident()?;
            let claims = Claims::read(connection, engine, &task)?;
            let (documents, raw) = (self.documents, dimensions * size_of::<f32>());
            let mut footprint = Footprint::new(documents, raw, empty, resident.bytes, claims, empty_claims);
            (footprint.dimensions, footprint.state, footprint.peak_bytes) =
                (dimensions, state, resident.peak_bytes);
            Ok::<_, BenchError>(footprint)
        };
        let mut engine = ServerEngine::connect(&task, self.load.server_options(&server, false))?;
        engine.load()?;
        let loaded = footprint("loaded", server.process()?, &engine, &mut connection)?;
        drop(engine);

        server.shut_down(&mut connection, &["SAVE"])?;
        server.restart()?;
        let mut connection = server.wait_ready(self.load.ready_timeout())?;
        let mut engine = ServerEngine::connect(&task, self.load.server_options(&server, true))?;
        engine.load()?;
        let restarted = footprint("restarted", server.process()?, &engine, &mut connection)?;
        drop(engine);
        server.stop(connection)?;
        Ok([loaded, restarted])
    }
}

impl Claims {
    fn read(connection: &mut Connection, engine: &ServerEngine<'_>, task: &Task) -> Result<Self, BenchError> {
        let rows = task.dataset.base.rows();
        let asked = KEYS_ASKED.min(rows);
        let mut usage = 0.0;
        for place in 0..asked {
            let key = engine.key(place * rows / asked);
            usage += connection.command(&["MEMORY", "USAGE", &key])?.as_double().unwrap_or_default();
        }
        Ok(Self {
            used_memory: used_memory(connection)?,
            index: index_bytes(connection)?,
            memory_usage: usage / asked as f64,
        })
    }
}

impl Footprint {
    /// Computes the figures per document; the vector alone has `raw` bytes.
    fn new(
        documents: usize,
        raw: usize,
        empty_bytes: u64,
        resident_bytes: u64,
        claims: Claims,
        empty_claims: Claims,
    ) -> Self {
        let each = |bytes: f64| bytes / documents as f64;
        let bytes_per_document = each(resident_bytes as f64 - empty_bytes as f64);
        let info_bytes_per_document = each(claims.used_memory - empty_claims.used_memory);
        Self {
            dimensions: 0,
            state: "",
            empty_bytes,
            resident_bytes,
            peak_bytes: resident_bytes,
            bytes_per_document,
            ratio: bytes_per_document / raw as f64,
            info_bytes_per_document,
            index_bytes_per_document: each(claims.index),
            memory_usage_bytes: claims.memory_usage,
            claimed: info_bytes_per_document / bytes_per_document,
        }
    }
}

impl Report {
    fn table(&self) -> TextTable {
        let mut table = TextTable::new(&[
            "dimensions",
            "state",
            "empty MB",
            "resident MB",
            "peak MB",
            "B/document",
            "x raw",
            "INFO B",
            "index B",
            "MEMORY USAGE B",
            "claimed",
        ]);
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / MEGABYTE);
        for footprint in &self.footprints {
            table.row([
                footprint.dimensions.to_string(),
                footprint.state.to_owned(),
                megabytes(footprint.empty_bytes),
                megabytes(footprint.resident_bytes),
                megabytes(footprint.peak_bytes),
                format!("{:.0}", footprint.bytes_per_document),
                format!("{:.2}", footprint.ratio),
                format!("{:.0}", footprint.info_bytes_per_document),
                format!("{:.0}", footprint.index_bytes_per_document),
                format!("{:.0}", footprint.memory_usage_bytes),
                format!("{:.2}", footprint.claimed),
            ]);
        }
        table
    }
}

impl Exported for Report {
    fn csv(&self) -> TextTable {
        let mut table = TextTable::new(&[
            "dimensions",
            "state",
            "empty_bytes",
            "resident_bytes",
            "peak_bytes",
            "bytes_per_document",
            "ratio",
            "info_bytes_per_document",
            "index_bytes_per_document",
            "memory_usage_bytes",
            "claimed",
        ]);
        for footprint in &self.footprints {
            table.row([
                footprint.dimensions.to_string(),
                footprint.state.to_owned(),
                footprint.empty_bytes.to_string(),
                footprint.resident_bytes.to_string(),
                footprint.peak_bytes.to_string(),
                format!("{:.1}", footprint.bytes_per_document),
                format!("{:.4}", footprint.ratio),
                format!("{:.1}", footprint.info_bytes_per_document),
                format!("{:.1}", footprint.index_bytes_per_document),
                format!("{:.1}", footprint.memory_usage_bytes),
                format!("{:.4}", footprint.claimed),
            ]);
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let of = |figure: &dyn Fn(&Footprint) -> f64| -> Vec<Option<f64>> {
            self.footprints.iter().map(|footprint| Some(figure(footprint))).collect()
        };
        let raw = |footprint: &Footprint| (footprint.dimensions * size_of::<f32>()) as f64;
        let name = |footprint: &Footprint| format!("{}, {}", footprint.dimensions, footprint.state);
        let series = vec![
            ("the vector alone".to_owned(), of(&raw)),
            ("resident".to_owned(), of(&|footprint| footprint.bytes_per_document)),
            ("by INFO".to_owned(), of(&|footprint| footprint.info_bytes_per_document)),
            ("index, by FT.INFO".to_owned(), of(&|footprint| footprint.index_bytes_per_document)),
        ];
        vec![Chart {
            title: "memory of a document, by dimensions and state".into(),
            y_label: "bytes for each document".into(),
            y_log: false,
            content: ChartContent::Bars { categories: self.footprints.iter().map(name).collect(), series },
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_costs_what_the_process_grew_by() {
        let claims = Claims { used_memory: 10_000.0, index: 4_000.0, memory_usage: 30.0 };
        let empty = Claims { used_memory: 2_000.0, ..Claims::default() };
        let footprint = Footprint::new(100, 80, 5_000, 17_000, claims, empty);
        assert_eq!((footprint.bytes_per_document, footprint.ratio), (120.0, 1.5));
        assert_eq!((footprint.info_bytes_per_document, footprint.index_bytes_per_document), (80.0, 40.0));
        assert!((footprint.claimed - 2.0 / 3.0).abs() < 1e-9);
    }
}
