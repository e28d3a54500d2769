//! A server as an engine: FT.CREATE, HSET in pipelines, FT.INFO until ready, FT.SEARCH.
//!
//! Only features that every FT.* implementation has are used, so that RediSearch, valkey-search, Dragonfly
//! and EngramDB receive the same commands. They differ in FT.INFO (see `Readiness`), and in whether a RESP3
//! answer is a map.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use engramdb_resp::{Value, encode_command, encode_command_into};
use indicatif::ProgressBar;
use serde::Serialize;

use super::engine::{
    IndexKind, LoadReport, QuantizationKind, SearchEffort, SearchParameters, Searcher, Task, VectorEngine,
};
use super::filter::FilterField;
use crate::client::{Accepted, Connection, ServerTarget};
use crate::data::filtered::{PayloadKind, TAG_SEPARATOR};
use crate::error::BenchError;
use crate::interrupt::{self, Undo};
use crate::machine::Process;

const VECTOR_FIELD: &str = "vector";
const PAYLOAD_FIELD: &str = "payload";
const DISTANCE: &str = "distance";
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// When the index is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CreateIndex {
    /// Before the rows are loaded: each write is indexed as it arrives.
    Before,
    /// After the rows are loaded: the server indexes existing rows in the background.
    After,
}

/// What a search returns for each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RowReply {
    /// Its key alone: NOCONTENT
    Keys,
    /// Its distance and its payload, in the order of the distance: SORTBY and RETURN
    Fields,
}

/// How to load and reach the server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub target: ServerTarget,
    pub index_name: String,
    pub prefix: String,
    /// Row numbers in keys are padded with zeros to this many digits.
    pub key_digits: usize,
    pub create_index: CreateIndex,
    pub load_connections: usize,
    pub load_pipeline: usize,
    pub ready_timeout: Duration,
    /// Search what an earlier run with `keep` left.
    pub skip_load: bool,
    /// Leave index and rows in the server.
    pub keep: bool,
    pub process: Option<Process>,
    pub reply: RowReply,
    /// Bytes of a second field of each row. Zero: no such field.
    pub payload_size: usize,
}

pub struct ServerEngine<'t> {
    task: &'t Task,
    options: ServerOptions,
    control: Connection,
    /// Removes index and rows if the run is interrupted. Set once they belong to the run: because it creates
    /// them, or has verified that those of an earlier run are the requested ones.
    undo: Option<Undo>,
}

impl<'t> ServerEngine<'t> {
    pub fn connect(task: &'t Task, mut options: ServerOptions) -> Result<Self, BenchError> {
        let mut control = Connection::open(&options.target)?;
        options.process = options.process.or_else(|| control.local_process());
        Ok(Self { task, options, control, undo: None })
    }

    /// Name and version, as reported by INFO.
    pub fn describe(&mut self) -> Option<String> {
        self.control.server_version()
    }

    /// Queries of the data set.
    pub fn queries(&self) -> usize {
        self.task.dataset.queries.rows()
    }

    /// Creates the index, and stores nothing.
    pub fn create(&mut self) -> Result<(), BenchError> {
        let task = self.task;
        let mut command: Vec<String> = [
            "FT.CREATE",
            &self.options.index_name,
            "ON",
            "HASH",
            "PREFIX",
            "1",
            &self.options.prefix,
            "SCHEMA",
        ]
        .map(String::from)
        .into();
        let mut add = |words: &[&str]| command.extend(words.iter().map(|&word| word.to_owned()));
        let mut seen = Vec::new();
        for filter in &task.filters {
            let name = filter.field_name();
            if !seen.contains(&name) {
                match filter.field {
                    FilterField::Tag => add(&[&name, "TAG", "SEPARATOR", ","]),
                    FilterField::Numeric => add(&[&name, "NUMERIC"]),
                }
                seen.push(name);
            }
        }
        for (name, kind) in task.dataset.filtered.iter().flat_map(|filtered| &filtered.fields) {
            match kind {
                PayloadKind::Tag => {
                    let separator = TAG_SEPARATOR.to_string();
                    add(&[name, "TAG", "SEPARATOR", &separator, "CASESENSITIVE"]);
                }
                PayloadKind::Numeric => add(&[name, "NUMERIC"]),
                PayloadKind::Geo => add(&[name, "GEO"]),
            }
        }
        let dimensions = task.dataset.dimensions().to_string();
        let (m, ef_construction) = (task.m.to_string(), task.ef_construction.to_string());
        let common =
            ["TYPE", "FLOAT32", "DIM", &dimensions, "DISTANCE_METRIC", task.dataset.metric.redis_name()];
        match task.index {
            IndexKind::Flat => {
                add(&[VECTOR_FIELD, "VECTOR", "FLAT", "6"]);
                add(&common);
            }
            IndexKind::Hnsw => {
                let quantization = task.quantization.map(QuantizationKind::word);
                add(&[VECTOR_FIELD, "VECTOR", "HNSW", if quantization.is_some() { "12" } else { "10" }]);
                add(&common);
                add(&["M", &m, "EF_CONSTRUCTION", &ef_construction]);
                quantization.into_iter().for_each(|word| add(&["QUANTIZATION", word]));
            }
        }
        self.control.command(&command).map(drop)
    }

    fn send_rows(&self) -> Result<(), BenchError> {
        let base = &self.task.dataset.base;
        let progress = crate::progress::bar(base.rows() as u64, "load rows");
        let outcome = self.store_all(base.rows(), |row| (row, base.row(row)), &progress);
        progress.finish_and_clear();
        outcome
    }

    /// Stores `count` documents over all loading connections. `row` returns the row's number and vector for
    /// each index below `count`.
    pub fn store_all<'r>(
        &self,
        count: usize,
        row: impl Fn(usize) -> (usize, &'r [f32]) + Sync,
        progress: &ProgressBar,
    ) -> Result<(), BenchError> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let loader = || -> Result<(), BenchError> {
                let mut connection = Connection::open(&self.options.target)?;
                loop {
                    let from = next.fetch_add(self.options.load_pipeline, Ordering::Relaxed);
                    if from >= count {
                        return Ok(());
                    }
                    let rows: Vec<_> =
                        (from..count.min(from + self.options.load_pipeline)).map(&row).collect();
                    self.store(&mut connection, &rows)?;
                    progress.inc(rows.len() as u64);
                }
            };
            let threads: Vec<_> = (0..self.options.load_connections).map(|_| scope.spawn(loader)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a loader does not panic"))
        })
    }

    /// Stores rows, by number and vector, in one pipeline.
    pub fn store(&self, connection: &mut Connection, rows: &[(usize, &[f32])]) -> Result<(), BenchError> {
        let mut pipeline = Vec::new();
        let payload = vec![b'x'; self.options.payload_size];
        let filtered = self.task.dataset.filtered.as_ref();
        for &(row, vector) in rows {
            let key = self.key(row);
            let vector = little_endian(vector);
            let fields = self.task.attributes.fields(row, &self.task.filters);
            let mut command: Vec<&[u8]> = vec![b"HSET", key.as_bytes(), VECTOR_FIELD.as_bytes(), &vector];
            command.extend(fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
            let own = filtered.map(|filtered| filtered.hash_fields(row)).unwrap_or_default();
            command.extend(own.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
            if !payload.is_empty() {
                command.extend([PAYLOAD_FIELD.as_bytes(), &payload]);
            }
            encode_command_into(&mut pipeline, &command);
        }
        let _writing = interrupt::writing()?;
        connection.send(&pipeline)?;
        rows.iter().try_for_each(|_| connection.receive()?.accepted(|| "HSET".into()).map(drop))
    }

    pub fn key(&self, row: usize) -> String {
        self.options.key(row)
    }

    /// Calls FT.INFO until the index has `expected` documents and nothing is pending.
    pub fn wait_until_ready(&mut self, expected: u64) -> Result<(), BenchError> {
        let started = Instant::now();
        let progress = crate::progress::bar(expected, "index rows");
        loop {
            let info = self.control.command(&["FT.INFO", &self.options.index_name])?;
            let readiness = Readiness::of(&info);
            progress.set_position(readiness.documents.min(expected));
            if readiness.complete && readiness.documents >= expected {
                progress.finish_and_clear();
                return self.check_count(&readiness, expected);
            }
            if started.elapsed() > self.options.ready_timeout {
                progress.finish_and_clear();
                return Err(BenchError::NotReady {
                    index: self.options.index_name.clone(),
                    seconds: self.options.ready_timeout.as_secs(),
                    indexed: readiness.documents,
                    expected,
                });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Refuses the index of an earlier run with vectors of another length, or under another metric: its
    /// recall would be meaningless. If a server's FT.INFO does not report these, the index is accepted.
    fn check_index(&mut self) -> Result<(), BenchError> {
        let info = self.control.command(&["FT.INFO", &self.options.index_name])?;
        let attributes = info.get("attributes").and_then(Value::as_array).unwrap_or_default();
        let vector = attributes.iter().find(|attribute| attribute.get("dim").is_some());
        let Some(vector) = vector else { return Ok(()) };
        let dataset = &self.task.dataset;
        let has_metric = vector.get("distance_metric").and_then(Value::as_str).map(str::to_uppercase);
        let has_dimensions =
            vector.get("dim").and_then(|value| value.as_double().or_else(|| value.as_str()?.parse().ok()));
        let is_same = has_metric.as_deref().is_none_or(|metric| metric == dataset.metric.redis_name())
            && has_dimensions.is_none_or(|dimensions| dimensions == dataset.dimensions() as f64);
        if is_same {
            return Ok(());
        }
        Err(BenchError::Usage(format!(
            "index {} holds {} dimensions under {}, the data set has {} under {}: load it again (without --skip-load), or give the \
             data set and the --metric that it was loaded with",
            self.options.index_name,
            has_dimensions.unwrap_or_default(),
            has_metric.unwrap_or_default(),
            dataset.dimensions(),
            dataset.metric.redis_name(),
        )))
    }

    fn check_count(&self, readiness: &Readiness, expected: u64) -> Result<(), BenchError> {
        if readiness.documents == expected {
            return Ok(());
        }
        Err(BenchError::DocumentCount {
            index: self.options.index_name.clone(),
            prefix: self.options.prefix.clone(),
            actual: readiness.documents,
            expected,
        })
    }

    /// From now on an interrupted run removes the index and rows.
    fn undo_when_interrupted(&mut self) -> Result<(), BenchError> {
        let (options, rows) = (self.options.clone(), self.task.dataset.base.rows());
        let undo = move || {
            interrupt::wait_for_writers();
            let removed = Connection::open(&options.target)
                .and_then(|mut connection| options.remove(&mut connection, rows));
            let (index, address) = (&options.index_name, options.target.address());
            match removed {
                Ok(()) => format!("removed the index {index} and its rows from {address}"),
                Err(error) => format!("the index {index} and its rows are left in {address}: {error}"),
            }
        };
        let ((), undo) = Undo::make(|| Ok(((), Box::new(undo))))?;
        self.undo = Some(undo);
        Ok(())
    }
}

impl ServerOptions {
    fn key(&self, row: usize) -> String {
        let digits = self.key_digits;
        format!("{}{row:0digits$}", self.prefix)
    }

    /// Removes the index, and `rows` rows.
    fn remove(&self, connection: &mut Connection, rows: usize) -> Result<(), BenchError> {
        self.drop_index(connection)?;
        let rows: Vec<usize> = (0..rows).collect();
        for chunk in rows.chunks(1000) {
            let keys = chunk.iter().map(|&row| self.key(row));
            let command: Vec<String> = ["UNLINK".to_owned()].into_iter().chain(keys).collect();
            connection.command(&command)?;
        }
        Ok(())
    }

    /// Drops the index of this name, if there is one. Servers use different error texts for its absence, so
    /// the text is not checked.
    fn drop_index(&self, connection: &mut Connection) -> Result<(), BenchError> {
        match connection.command(&["FT.DROPINDEX", &self.index_name]) {
            Err(BenchError::Refused { text, .. }) if !text.contains("unknown command") => Ok(()),
            other => other.map(drop),
        }
    }
}

impl VectorEngine for ServerEngine<'_> {
    fn name(&self) -> &str {
        "server"
    }

    fn load(&mut self) -> Result<Option<LoadReport>, BenchError> {
        let cpu_before = self.cpu_seconds();
        let started = Instant::now();
        let mut load_seconds = 0.0;
        if self.options.skip_load {
            self.check_index()?;
        }
        if !self.options.keep {
            self.undo_when_interrupted()?;
        }
        if !self.options.skip_load {
            self.options.drop_index(&mut self.control)?;
            if self.options.create_index == CreateIndex::Before {
                self.create()?;
            }
            self.send_rows()?;
            load_seconds = started.elapsed().as_secs_f64();
            if self.options.create_index == CreateIndex::After {
                self.create()?;
            }
        }
        let rows = self.task.dataset.base.rows();
        self.wait_until_ready(rows as u64)?;
        Ok(Some(LoadReport {
            engine: self.name().to_owned(),
            rows,
            load_seconds,
            rows_per_second: if load_seconds > 0.0 { rows as f64 / load_seconds } else { 0.0 },
            ready_seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_before.zip(self.cpu_seconds()).map(|(before, after)| after - before),
        }))
    }

    fn searcher<'s>(
        &'s self,
        parameters: SearchParameters<'s>,
    ) -> Result<Box<dyn Searcher + Send + 's>, BenchError> {
        let connection = Connection::open(&self.options.target)?;
        let k = self.task.k.to_string();
        let common = match self.task.dataset.filtered {
            Some(_) => None,
            None => Some(query_text(self.task, parameters, 0, self.options.reply)),
        };
        Ok(Box::new(ServerSearcher { engine: self, connection, parameters, common, k }))
    }

    fn cpu_seconds(&self) -> Option<f64> {
        self.options.process?.cpu_seconds()
    }

    fn is_in_process(&self) -> bool {
        false
    }

    fn close(&mut self) -> Result<(), BenchError> {
        if self.undo.is_none() {
            return Ok(());
        }
        self.options.remove(&mut self.control, self.task.dataset.base.rows())?;
        self.undo = None;
        Ok(())
    }
}

/// The query, with the vector as a parameter. K and EF_RUNTIME are literals, because Dragonfly accepts no
/// parameters for them.
fn query_text(task: &Task, parameters: SearchParameters<'_>, query: usize, reply: RowReply) -> String {
    let own = task.dataset.filtered.as_ref().and_then(|filtered| filtered.expression(query));
    let filter = match parameters.filter {
        Some(filter) => format!("({})", filter.expression(task.dataset.base.rows())),
        None => own.unwrap_or_else(|| "*".to_owned()),
    };
    let ef = match task.index {
        IndexKind::Hnsw => match parameters.effort {
            SearchEffort::Beam(ef) => format!(" EF_RUNTIME {ef}"),
            SearchEffort::Recall(recall) => format!(" RECALL {recall}"),
        },
        IndexKind::Flat => String::new(),
    };
    let alias = if reply == RowReply::Fields { format!(" AS {DISTANCE}") } else { String::new() };
    format!("{filter}=>[KNN {} @{VECTOR_FIELD} $query{ef}{alias}]", task.k)
}

struct ServerSearcher<'s> {
    engine: &'s ServerEngine<'s>,
    connection: Connection,
    parameters: SearchParameters<'s>,
    /// The text of all queries, if they do not have their own conditions.
    common: Option<String>,
    k: String,
}

impl Searcher for ServerSearcher<'_> {
    fn search(&mut self, query: usize) -> Result<Vec<u32>, BenchError> {
        let ServerOptions { index_name, prefix, reply, payload_size, .. } = &self.engine.options;
        let vector = little_endian(self.engine.task.dataset.queries.row(query));
        let own;
        let text = match &self.common {
            Some(text) => text,
            None => {
                own = query_text(self.engine.task, self.parameters, query, *reply);
                &own
            }
        };
        let mut command: Vec<&[u8]> = vec![b"FT.SEARCH", index_name.as_bytes(), text.as_bytes()];
        match reply {
            RowReply::Keys => command.push(b"NOCONTENT"),
            RowReply::Fields => {
                command.extend(["SORTBY", DISTANCE, "RETURN"].map(str::as_bytes));
                let fields: &[&str] =
                    if *payload_size > 0 { &["2", DISTANCE, PAYLOAD_FIELD] } else { &["1", DISTANCE] };
                command.extend(fields.iter().map(|word| word.as_bytes()));
            }
        }
        command.extend([
            &b"LIMIT"[..],
            b"0",
            self.k.as_bytes(),
            b"PARAMS",
            b"2",
            b"query",
            &vector,
            b"DIALECT",
            b"2",
        ]);
        self.connection.send(&encode_command(&command))?;
        let answer = self.connection.receive()?.accepted(|| format!("FT.SEARCH \"{text}\""))?;
        rows_of(&answer, prefix.as_bytes(), *reply).ok_or_else(|| BenchError::Shape {
            command: "FT.SEARCH".into(),
            reply: format!("{answer:?}").chars().take(200).collect(),
        })
    }
}

/// Row numbers from the keys of an FT.SEARCH reply: a flat array, in which fields follow each key if they
/// were requested, or RESP3's map with `results`.
fn rows_of(answer: &Value, prefix: &[u8], reply: RowReply) -> Option<Vec<u32>> {
    let row = |key: &Value| str::from_utf8(key.as_bytes()?.strip_prefix(prefix)?).ok()?.parse().ok();
    let step = if reply == RowReply::Fields { 2 } else { 1 };
    match answer {
        Value::Map(_) => {
            answer.get("results")?.as_array()?.iter().map(|result| row(result.get("id")?)).collect()
        }
        _ => answer.as_array()?.get(1..)?.iter().step_by(step).map(row).collect(),
    }
}

/// The state of an index from FT.INFO of any server.
#[derive(Debug, PartialEq)]
struct Readiness {
    documents: u64,
    complete: bool,
}

impl Readiness {
    /// RediSearch: `indexing` 0 and `percent_indexed` 1. valkey-search: `backfill_in_progress` 0,
    /// `mutation_queue_size` 0. EngramDB: as RediSearch, and `pending_mutations` 0, because searches do more
    /// work until then. A server that reports none of these (Dragonfly) indexes while it writes, so that the
    /// count alone decides.
    fn of(info: &Value) -> Self {
        let number = |field: &str| info.get(field).and_then(Value::as_double);
        let is_busy = |field: &str| number(field).is_some_and(|value| value != 0.0);
        let busy = ["indexing", "backfill_in_progress", "mutation_queue_size", "pending_mutations"]
            .into_iter()
            .any(is_busy);
        let partial = number("percent_indexed").is_some_and(|share| share < 1.0);
        Self { documents: number("num_docs").unwrap_or(0.0) as u64, complete: !busy && !partial }
    }
}

fn little_endian(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.into())
    }

    #[test]
    fn rows_are_read_from_both_shapes_of_a_reply() {
        let flat = Value::Array(vec![Value::Integer(2), bulk("v:7"), bulk("v:12")]);
        assert_eq!(rows_of(&flat, b"v:", RowReply::Keys), Some(vec![7, 12]));
        let fields = || Value::Array(vec![bulk("distance"), bulk("0.5")]);
        let with_fields =
            Value::Array(vec![Value::Integer(2), bulk("v:7"), fields(), bulk("v:12"), fields()]);
        assert_eq!(rows_of(&with_fields, b"v:", RowReply::Fields), Some(vec![7, 12]));
        let result = |id| Value::Map(vec![(bulk("id"), bulk(id)), (bulk("values"), Value::Array(vec![]))]);
        let map = Value::Map(vec![
            (bulk("total_results"), Value::Integer(2)),
            (bulk("results"), Value::Array(vec![result("v:7"), result("v:12")])),
        ]);
        assert_eq!(rows_of(&map, b"v:", RowReply::Keys), Some(vec![7, 12]));
        assert_eq!(rows_of(&Value::Array(vec![Value::Integer(0)]), b"v:", RowReply::Keys), Some(vec![]));
        assert_eq!(rows_of(&flat, b"other:", RowReply::Keys), None);
        assert_eq!(rows_of(&Value::Integer(1), b"v:", RowReply::Keys), None);
    }

    #[test]
    fn readiness_is_understood_in_each_dialect() {
        let info = |pairs: &[(&str, &str)]| {
            Value::Array(pairs.iter().flat_map(|(name, value)| [bulk(name), bulk(value)]).collect())
        };
        let ready = Readiness { documents: 10, complete: true };
        let busy = Readiness { documents: 10, complete: false };
        let cases: [(&[(&str, &str)], &Readiness); 7] = [
            (&[("num_docs", "10"), ("indexing", "0"), ("percent_indexed", "1")], &ready),
            (&[("num_docs", "10"), ("indexing", "1"), ("percent_indexed", "0.5")], &busy),
            (&[("num_docs", "10"), ("indexing", "0"), ("percent_indexed", "0.99")], &busy),
            (&[("num_docs", "10"), ("percent_indexed", "1"), ("pending_mutations", "2")], &busy),
            (&[("num_docs", "10"), ("backfill_in_progress", "0"), ("mutation_queue_size", "0")], &ready),
            (&[("num_docs", "10"), ("backfill_in_progress", "0"), ("mutation_queue_size", "3")], &busy),
            (&[("num_docs", "10")], &ready),
        ];
        for (pairs, expected) in cases {
            assert_eq!(&Readiness::of(&info(pairs)), expected, "{pairs:?}");
        }
        let map =
            Value::Map(vec![(bulk("num_docs"), Value::Integer(10)), (bulk("indexing"), Value::Integer(1))]);
        assert_eq!(Readiness::of(&map), busy);
    }
}
