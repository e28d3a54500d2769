//! `bench zoo`: what the index finds on many kinds of data, compared with the same graph without codes and
//! with hnswlib.
//!
//! For each kind of data and metric an index in this process is filled by a workload, and then searched: for
//! the nearest at several ef, for all within radii, under filters, and for documents by their own vectors.
//! Answers are compared with an exact scan.

mod hnswlib;
mod measure;
mod options;
mod report;
mod subject;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use engramdb_datasets::{DataKind, KINDS, Set};
use engramdb_vector::Quantization;

use self::measure::{Figures, Measured};
use self::options::{Asked, ZooElement, ZooQuantization, ZooWorkload};
use self::report::{ZooReport, ZooRow};
use self::subject::Subject;
use crate::data::{DatasetArgs, DatasetMetric, DatasetSource, locate, size, synthetic};
use crate::error::BenchError;
use crate::output::{ReportFiles, TextTable};
use crate::progress;

/// Kinds that are not generators of the zoo: the generator of the other benchmarks, and data sets in
/// `--datasets`.
const EMBEDDINGS: (&str, &str) = (
    "embeddings",
    "384 dimensions, as synthetic:ROWS:384:SEED of the other benchmarks: as hard as real ones",
);
const DIRECTORIES: &[(&str, &str, &str)] = &[
    ("minilm", "rustdoc-minilm-10k", "real sentences without repetitions"),
    ("sentences", "rustdoc-repeats-minilm", "real sentences with their repetitions; rows are queries"),
];

const EXAMPLES: &str = "\
Examples:
  All kinds, as the index has it and without codes (some minutes; one thread):
    engramdb bench zoo
  One kind, quickly, with a wider beam; only plain recall:
    engramdb bench zoo --kinds drift,clusters --rows 2000 --ef 10,100,400,1000 --recall-only
  Beside hnswlib, which a Python of yours has (pip install hnswlib numpy):
    engramdb bench zoo --python python3
  Every quantization after ten replacements of everything, bytes instead of floats:
    engramdb bench zoo --quantization default,none,sq8,binary --workload replace --element int8

Each kind is made from --seed, with --rows rows and --queries queries (`--list` says what each is); the sets in --datasets
are taken whole. The index is filled by one thread, in the order of the workload; whatever the workload, the live ids have
the same rows at its end. hnswlib is given those at once.

What counts:
  recall       share of the k nearest that was found; a row that is as near as the k-th true one counts, so that copies are as
               good as each other
  distances    computed by a search of the first engine, at each ef
  itself       share of the documents (--documents of them, evenly spread) that a search with their own vector at ef 200 finds: k
               is the number of rows that are as near as the document itself (its copies), plus 10. Under IP only documents that
               are nearest to their own vector are asked for
  range        share of the rows within a radius that VECTOR_RANGE finds at EPSILON 0.01; radii hold about 10, 100 and 10 percent of
               the rows. What a negated range shows falsely is what is missing here. Rows beyond it: returned, and outside of
               the radius
  random, corr. recall under filters that allow so many percent: spread at random, and those around one row
  short        searches that gave fewer than k rows, though as many were there and allowed

Below the tables it lists where an index finds less: with codes a recall that is more than 0.01 below that of NONE from ef 100
on, a recall below hnswlib's, ranges that lack more than a row in a thousand or hold rows beyond, documents that do not find
themselves, and searches that are short.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ZooArgs {
    /// List the kinds, and exit
    #[arg(long)]
    pub list: bool,
    /// Kinds of data; by default all
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub kinds: Vec<String>,
    /// Rows of each generated kind
    #[arg(long, default_value_t = 8_000)]
    pub rows: usize,
    /// Queries of each kind
    #[arg(long, default_value_t = 200)]
    pub queries: usize,
    /// The source of the queries
    #[arg(long, value_enum, default_value_t = Asked::HeldOut)]
    pub asked: Asked,
    /// Seed of the generators
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Metrics to use instead of those that each kind is meant for
    #[arg(long, value_enum, value_delimiter = ',')]
    pub metric: Vec<DatasetMetric>,
    /// Element type of the vectors
    #[arg(long, value_enum, default_value_t = ZooElement::Float32)]
    pub element: ZooElement,
    /// The changes to the rows before the index is searched
    #[arg(long, value_enum, default_value_t = ZooWorkload::Insert)]
    pub workload: ZooWorkload,
    /// The codes that guide walks; each value is an index of its own
    #[arg(long, value_enum, value_delimiter = ',', default_value = "default,none")]
    pub quantization: Vec<ZooQuantization>,
    /// Candidates while searching; each value is a column
    #[arg(long, value_delimiter = ',', default_value = "10,100,400")]
    pub ef: Vec<usize>,
    /// Neighbours to return
    #[arg(short, long, default_value_t = 10)]
    pub k: usize,
    /// Links of a node (twice as many in the lowest layer)
    #[arg(long, default_value_t = 16)]
    pub m: usize,
    /// Candidates while the graph is built
    #[arg(long, default_value_t = 200)]
    pub ef_construction: usize,
    /// Documents to search for by their own vectors
    #[arg(long, default_value_t = 300)]
    pub documents: usize,
    /// Only plain recall: no ranges, no filters, no searches for documents
    #[arg(long)]
    pub recall_only: bool,
    /// A Python with hnswlib and numpy, to run hnswlib on the same rows
    #[arg(long, value_name = "PYTHON")]
    pub python: Option<PathBuf>,
    /// The directory of the data sets
    #[arg(long, value_name = "DIRECTORY", default_value = "datasets")]
    pub datasets: PathBuf,
    #[command(flatten)]
    pub files: ReportFiles,
}

/// Measures each kind, prints the tables and writes the requested files.
pub fn run(arguments: ZooArgs) -> Result<(), BenchError> {
    if arguments.list {
        out!("{}", list().render());
        return Ok(());
    }
    arguments.check()?;
    arguments.files.check()?;
    let mut report = ZooReport::new(&arguments);
    for kind in arguments.chosen() {
        let (set, metrics) = arguments.set(kind)?;
        for metric in metrics {
            let subject = Subject::new(kind, metric, set.clone(), &arguments);
            report.add(arguments.judge(&subject)?);
        }
    }
    out!("{}", report.render());
    arguments.files.write(&report)
}

fn list() -> TextTable {
    let mut table = TextTable::new(&["kind", "metrics", "what it is"]);
    for kind in KINDS {
        let metrics: Vec<&str> = kind.metrics.iter().map(|metric| metric.name()).collect();
        table.row([kind.name.to_owned(), metrics.join(", "), kind.about.to_owned()]);
    }
    table.row([EMBEDDINGS.0, "COSINE", EMBEDDINGS.1].map(str::to_owned));
    for &(kind, directory, about) in DIRECTORIES {
        table.row([kind.to_owned(), "COSINE".to_owned(), format!("{directory}: {about}")]);
    }
    table
}

fn all_kinds() -> Vec<&'static str> {
    let generated = KINDS.iter().map(|kind| kind.name).chain([EMBEDDINGS.0]);
    generated.chain(DIRECTORIES.iter().map(|&(kind, ..)| kind)).collect()
}

impl ZooArgs {
    fn check(&self) -> Result<(), BenchError> {
        let least_ef = self.ef.iter().copied().min().unwrap_or(0);
        for (name, value, least) in [
            ("--rows", self.rows, 20),
            ("--queries", self.queries, 1),
            ("--k", self.k, 1),
            ("--documents", self.documents, 1),
            ("--ef", least_ef, 1),
        ] {
            if value < least {
                return Err(BenchError::Usage(format!("{name} must be at least {least}")));
            }
        }
        // Kinds have up to 384 dimensions; the set, the index and the input of both exist at the same time.
        size::check_rows("--rows", self.rows as u64, 384, 4.0)?;
        size::check_rows("--rows x --queries", self.rows as u64, self.queries as u64, 1.0)?;
        match self.kinds.iter().find(|kind| !all_kinds().contains(&kind.as_str())) {
            Some(kind) => Err(BenchError::Usage(format!(
                "unknown kind '{kind}': `engramdb bench zoo --list` lists all"
            ))),
            None => Ok(()),
        }
    }

    fn chosen(&self) -> Vec<&str> {
        match self.kinds.is_empty() {
            true => all_kinds(),
            false => self.kinds.iter().map(String::as_str).collect(),
        }
    }

    /// The rows and queries of a kind, and the metrics to measure it by.
    fn set(&self, name: &str) -> Result<(Set, Vec<DatasetMetric>), BenchError> {
        let (set, metrics) = match DataKind::named(name) {
            Some(kind) => {
                let metrics = kind.metrics.iter().copied().map(DatasetMetric::from).collect();
                (kind.generate(self.rows, self.queries, self.seed), metrics)
            }
            None => self.other_set(name)?,
        };
        let set = if self.asked == Asked::Rows { set.asked_with_rows(self.queries) } else { set };
        Ok((set, if self.metric.is_empty() { metrics } else { self.metric.clone() }))
    }

    /// The set of a kind that is not a generator of the zoo.
    fn other_set(&self, name: &str) -> Result<(Set, Vec<DatasetMetric>), BenchError> {
        let directory =
            DIRECTORIES.iter().find(|&&(kind, ..)| kind == name).map(|&(_, directory, _)| directory);
        let dataset = match directory {
            Some(directory) => {
                DatasetArgs::of(DatasetSource::Directory(locate(&self.datasets).join(directory))).load()?
            }
            None => {
                let mut dataset = synthetic::generate(self.rows, 384, self.seed);
                dataset.truncate(None, Some(self.queries));
                dataset
            }
        };
        let whole = Set {
            dimension: dataset.dimensions(),
            rows: dataset.base.values().to_vec(),
            queries: dataset.queries.values().to_vec(),
        };
        // If the queries of a set are its rows, rows from all over the set are used as queries.
        let set = if dataset.queries.rows() == dataset.base.rows() {
            whole.asked_with_rows(self.queries)
        } else {
            let queries = self.queries.min(dataset.queries.rows()) * whole.dimension;
            Set { queries: whole.queries[..queries].to_vec(), ..whole }
        };
        Ok((set, vec![dataset.metric]))
    }

    fn judge(&self, subject: &Subject) -> Result<ZooRow, BenchError> {
        let mut engines: Vec<Figures> = Vec::new();
        let mut measured: Vec<(Quantization, usize)> = Vec::new();
        let default = subject.parameters(self);
        for &asked in &self.quantization {
            let quantization = asked.library(default.quantization);
            let known = measured.iter().find(|(other, _)| *other == quantization);
            // An index with the same parameters under another name is not built again.
            let figures = match known {
                Some(&(_, place)) => Figures { engine: asked.word().to_owned(), ..engines[place].clone() },
                None => {
                    measured.push((quantization, engines.len()));
                    self.ours(subject, asked, quantization)?
                }
            };
            engines.push(figures);
        }
        if let Some(python) = &self.python {
            engines.push(hnswlib::figures(python, subject, self)?);
        }
        for figures in &engines {
            say(subject, figures);
        }
        Ok(ZooRow {
            kind: subject.kind.clone(),
            metric: subject.metric,
            rows: subject.set.len(),
            live: subject.exact.live().len(),
            dimension: subject.set.dimension,
            queries: subject.exact.len(),
            engines,
        })
    }

    fn ours(
        &self,
        subject: &Subject,
        asked: ZooQuantization,
        quantization: Quantization,
    ) -> Result<Figures, BenchError> {
        let parameters = engramdb_vector::HnswParameters { quantization, ..subject.parameters(self) };
        let bar = progress::bar(subject.steps.len() as u64, "steps of the workload");
        let started = Instant::now();
        let index = subject.index(parameters, || bar.inc(1))?;
        let build_seconds = started.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let asking = progress::spinner("searches");
        let figures =
            Measured { subject, index: &index, arguments: self }.figures(asked.word(), build_seconds);
        asking.finish_and_clear();
        figures
    }
}

/// Prints the figures of a kind as soon as they are known: the whole run takes minutes.
fn say(subject: &Subject, figures: &Figures) {
    let recalls: Vec<String> =
        figures.recall.iter().map(|point| format!("{:.3} at ef {}", point.recall, point.ef)).collect();
    let (kind, metric) = (&subject.kind, subject.metric.redis_name());
    note!("{kind} {metric} {}: recall {}", figures.engine, recalls.join(", "));
}
