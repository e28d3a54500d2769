//! `engramdb demo`: the main job from beginning to end on real data, for a new user.
//!
//! It starts a server, stores the sentences of the Rust documentation with their embeddings, searches, takes
//! a snapshot, adds some documents, kills the server with SIGKILL, starts it again and repeats the searches.
//! Everything goes through the protocol.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use engramdb_resp::{Value, encode_command, encode_command_into};

use crate::client::{Accepted, Connection};
use crate::data::truth::Answers;
use crate::data::{Dataset, DatasetArgs};
use crate::error::BenchError;
use crate::interrupt;
use crate::latency::Latencies;
use crate::output::{self, TextTable};
use crate::progress;
use crate::server_process::ServerProcess;
use crate::vectors::recall;

const INDEX: &str = "docs";
const NEIGHBORS: usize = 10;
/// Documents that are stored only after the snapshot: the second start has to read them from the log.
const TAIL_DOCUMENTS: usize = 200;
const PIPELINE: usize = 100;
const QUESTIONS_SHOWN: usize = 3;
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// The arguments of `engramdb demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// EF_RUNTIME of the searches: a higher value finds more and takes longer
    #[arg(long, default_value_t = 100)]
    ef: usize,
    /// The server's data directory; by default a new one that is removed at the end
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Port of the server; by default a free one
    #[arg(long, short)]
    port: Option<u16>,
}

/// Runs the demo. An answer that differs after the crash, or a recall below 0.98, is an error.
pub fn run(arguments: DemoArgs) -> Result<(), BenchError> {
    interrupt::listen()?;
    interrupt::unless_interrupted(demonstrate(arguments))
}

fn demonstrate(arguments: DemoArgs) -> Result<(), BenchError> {
    let dataset = arguments.dataset.load()?;
    let sentences = Sentences::load(&arguments.dataset)?;
    let demo = Demo { dataset, sentences, ef: arguments.ef };
    let kept = arguments.dir.clone();
    let mut server = ServerProcess::start("demo", arguments.dir, arguments.port)?;

    heading("1. A server on an empty directory");
    outln!("{}", server.command_line());
    let mut connection = server.wait_ready(READY_TIMEOUT)?;
    outln!("ready; its log is {}", server.log_path().display());

    heading("2. Store sentences with their embeddings, and ask");
    demo.load(&mut connection)?;
    demo.show_questions(&mut connection)?;
    let before = demo.ask_all(&mut connection)?;
    demo.show_quality(&before);

    heading("3. Kill it with SIGKILL, start it again, and ask the same");
    server.kill()?;
    let started = Instant::now();
    server.restart()?;
    let mut connection = server.wait_ready(READY_TIMEOUT)?;
    outln!("killed; ready again after {:.0} ms. The server says:", started.elapsed().as_secs_f64() * 1e3);
    server.show_last_start()?;
    demo.show_questions(&mut connection)?;
    wait_indexed(&mut connection)?;
    outln!("Everything is in the graph {:.0} ms after the kill.\n", started.elapsed().as_secs_f64() * 1e3);
    let after = demo.ask_all(&mut connection)?;
    demo.show_quality(&after);
    let same = before.answers.iter().zip(&after.answers).filter(|(before, after)| before == after).count();
    outln!("{same} of {} queries are answered exactly as before the crash.", before.answers.len());
    server.stop(connection)?;
    demo.judge(&before, &after)?;
    heading("What next");
    out!("{}", next_steps(kept.as_deref()));
    Ok(())
}

fn heading(text: &str) {
    outln!("\n{}", output::bold(text));
}

/// What a new user may want to do next, as commands to copy.
fn next_steps(kept: Option<&Path>) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "engramdb".into());
    let directory = kept.map_or_else(|| "./engramdb-data".into(), |path| path.display().to_string());
    let keeps = match kept {
        Some(_) => "Serve the data of this demo again:",
        None => "Start a server that keeps its data:",
    };
    format!(
        "{keeps}\n    {program} serve --dir {directory}\n\
         Connect with redis-cli, redis-py or any other client of Redis, such as\n    \
         redis-cli HSET doc:1 sentence \"a red bicycle\" colour red\n\
         Measure recall and latency on vectors of your own:\n    \
         {program} bench vectors --base rows.npy --queries queries.npy --metric cosine\n\
         See what else there is:\n    {program} --help\n\
         README.md has an example in Python, docs/compatibility.md lists the differences from Redis.\n"
    )
}

/// The sentences of base rows and queries, if the data set has them.
struct Sentences {
    base: Vec<String>,
    queries: Vec<String>,
}

impl Sentences {
    fn load(arguments: &DatasetArgs) -> Result<Sentences, BenchError> {
        let Some(directory) = arguments.dataset.directory() else {
            return Err(BenchError::Usage(
                "the demo shows sentences: give --dataset a directory that has base.txt".into(),
            ));
        };
        let read = |name: &str| {
            let path = directory.join(name);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| BenchError::Usage(format!("cannot read {}: {error}", path.display())))?;
            Ok::<_, BenchError>(text.lines().map(str::to_owned).collect())
        };
        Ok(Sentences { base: read("base.txt")?, queries: read("queries.txt")? })
    }
}

struct Demo {
    dataset: Dataset,
    sentences: Sentences,
    ef: usize,
}

/// The answers to all queries: base rows, nearest first, with the time of each query.
struct Asked {
    answers: Vec<Option<Vec<u32>>>,
    latencies: Latencies,
    recall: f64,
}

impl Demo {
    /// Creates the index and stores all documents; the last ones after a snapshot was taken.
    fn load(&self, connection: &mut Connection) -> Result<(), BenchError> {
        let dimensions = self.dataset.dimensions().to_string();
        let metric = self.dataset.metric.redis_name();
        let create = format!(
            "FT.CREATE {INDEX} ON HASH PREFIX 1 doc: SCHEMA embedding VECTOR HNSW 10 TYPE FLOAT32 DIM {dimensions} \
             DISTANCE_METRIC {metric} M 16 EF_CONSTRUCTION 200"
        );
        outln!("{create}");
        connection.command(&create.split(' ').collect::<Vec<_>>())?;
        let rows = self.dataset.base.rows();
        let early = rows.saturating_sub(TAIL_DOCUMENTS);
        let started = Instant::now();
        self.store(connection, 0..early)?;
        let stored = started.elapsed();
        wait_indexed(connection)?;
        outln!(
            "{early} documents stored durably in {:.1} s, indexed after {:.1} s",
            stored.as_secs_f64(),
            started.elapsed().as_secs_f64()
        );
        take_snapshot(connection)?;
        self.store(connection, early..rows)?;
        wait_indexed(connection)?;
        outln!("snapshot taken; {} more documents, which are only in the log", rows - early);
        Ok(())
    }

    fn store(&self, connection: &mut Connection, rows: std::ops::Range<usize>) -> Result<(), BenchError> {
        let bar = progress::bar(rows.len() as u64, "storing");
        for start in rows.clone().step_by(PIPELINE) {
            let chunk = start..(start + PIPELINE).min(rows.end);
            let mut request = Vec::new();
            for row in chunk.clone() {
                let key = format!("doc:{row}");
                let vector = bytes_of(self.dataset.base.row(row));
                let sentence = self.sentences.base[row].as_bytes();
                let words: [&[u8]; 6] =
                    [b"HSET", key.as_bytes(), b"sentence", sentence, b"embedding", &vector];
                encode_command_into(&mut request, &words);
            }
            connection.send(&request)?;
            for _ in chunk.clone() {
                connection.receive()?.accepted(|| "HSET".into())?;
            }
            bar.inc(chunk.len() as u64);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn show_questions(&self, connection: &mut Connection) -> Result<(), BenchError> {
        let step = self.dataset.queries.rows() / QUESTIONS_SHOWN;
        for query in (0..QUESTIONS_SHOWN).map(|number| number * step) {
            outln!("\n  “{}”", self.sentences.queries[query]);
            let reply = self.search(connection, query, 3, &["RETURN", "2", "sentence", "distance"])?;
            for (_, fields) in rows_of(&reply)? {
                let field =
                    |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                outln!(
                    "    {:.3}  {}",
                    field("distance").parse::<f64>().unwrap_or(f64::NAN),
                    field("sentence")
                );
            }
        }
        outln!();
        Ok(())
    }

    fn ask_all(&self, connection: &mut Connection) -> Result<Asked, BenchError> {
        let mut latencies = Latencies::new();
        let mut answers = Vec::new();
        for query in 0..self.dataset.queries.rows() {
            let started = Instant::now();
            let reply = self.search(connection, query, NEIGHBORS, &["NOCONTENT"])?;
            latencies.record(started.elapsed());
            answers.push(Some(ids_of(&reply)?));
        }
        let truth: Answers = self.dataset.exact_neighbors(NEIGHBORS);
        let recall = recall::at_k(&self.dataset, &truth, &answers, NEIGHBORS);
        Ok(Asked { answers, latencies, recall })
    }

    fn search(
        &self,
        connection: &mut Connection,
        query: usize,
        k: usize,
        returned: &[&str],
    ) -> Result<Value, BenchError> {
        let expression = format!("*=>[KNN {k} @embedding $query EF_RUNTIME {} AS distance]", self.ef);
        let vector = bytes_of(self.dataset.queries.row(query));
        let mut words: Vec<&[u8]> = vec![b"FT.SEARCH", INDEX.as_bytes(), expression.as_bytes()];
        words.extend([&b"PARAMS"[..], b"2", b"query", &vector, b"SORTBY", b"distance", b"DIALECT", b"2"]);
        words.extend(returned.iter().map(|word| word.as_bytes()));
        connection.send(&encode_command(&words))?;
        connection.receive()?.accepted(|| "FT.SEARCH".into())
    }

    fn show_quality(&self, asked: &Asked) {
        let latency = asked.latencies.percentiles();
        let mut table = TextTable::new(&["queries", "ef", "recall@10", "p50 ms", "p95 ms", "p99 ms"]);
        let milliseconds = |microseconds: f64| format!("{:.2}", microseconds / 1e3);
        table.row([
            asked.answers.len().to_string(),
            self.ef.to_string(),
            format!("{:.4}", asked.recall),
            milliseconds(latency.p50_us),
            milliseconds(latency.p95_us),
            milliseconds(latency.p99_us),
        ]);
        out!("{}", table.render());
    }

    fn judge(&self, before: &Asked, after: &Asked) -> Result<(), BenchError> {
        const RECALL_MIN: f64 = 0.98;
        if before.recall < RECALL_MIN || after.recall < RECALL_MIN {
            return Err(BenchError::Usage(format!("recall@10 is below {RECALL_MIN}: raise --ef")));
        }
        let lost = after.answers.iter().flatten().filter(|answer| answer.len() < NEIGHBORS).count();
        if lost > 0 {
            return Err(BenchError::Usage(format!(
                "{lost} queries found fewer than {NEIGHBORS} documents after the crash"
            )));
        }
        Ok(())
    }
}

fn bytes_of(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|element| element.to_le_bytes()).collect()
}

/// Waits until all documents are indexed.
fn wait_indexed(connection: &mut Connection) -> Result<(), BenchError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let spinner = progress::spinner("indexing");
    loop {
        let info = connection.command(&["FT.INFO", INDEX])?;
        let text = |name: &str| info.get(name).map(as_number).unwrap_or_default();
        let activity = connection.command(&["INFO", "search"])?;
        let is_quiet = activity.as_str().is_some_and(|text| text.contains("indexing_status:NO_ACTIVITY"));
        if is_quiet && text("indexing") == 0.0 && text("percent_indexed") >= 1.0 {
            spinner.finish_and_clear();
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(BenchError::NotReady {
                index: INDEX.into(),
                seconds: READY_TIMEOUT.as_secs(),
                indexed: text("num_docs") as u64,
                expected: 0,
            });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes a snapshot and waits until it is complete.
fn take_snapshot(connection: &mut Connection) -> Result<(), BenchError> {
    connection.command(&["BGSAVE"])?;
    let spinner = progress::spinner("taking a snapshot");
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let info = connection.command(&["INFO", "persistence"])?;
        let info = info.as_str().unwrap_or_default().to_owned();
        if info.contains("rdb_bgsave_in_progress:0") {
            spinner.finish_and_clear();
            return match info.contains("rdb_last_bgsave_status:ok") {
                true => Ok(()),
                false => Err(BenchError::Usage("the snapshot failed; the server's log says why".into())),
            };
        }
    }
}

fn as_number(value: &Value) -> f64 {
    value.as_double().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

fn shape(reply: &Value) -> BenchError {
    BenchError::Shape { command: "FT.SEARCH".into(), reply: format!("{reply:?}").chars().take(200).collect() }
}

/// The rows of a RESP2 reply with fields: ids, and fields as a flat array.
fn rows_of(reply: &Value) -> Result<Vec<(&Value, &Value)>, BenchError> {
    let items = reply.as_array().filter(|items| !items.is_empty()).ok_or_else(|| shape(reply))?;
    Ok(items[1..].chunks_exact(2).map(|row| (&row[0], &row[1])).collect())
}

/// The rows of a RESP2 reply without fields, as numbers of base rows.
fn ids_of(reply: &Value) -> Result<Vec<u32>, BenchError> {
    let items = reply.as_array().filter(|items| !items.is_empty()).ok_or_else(|| shape(reply))?;
    let id = |item: &Value| item.as_str()?.strip_prefix("doc:")?.parse().ok();
    items[1..].iter().map(|item| id(item).ok_or_else(|| shape(reply))).collect()
}
