//! `bench queries`: searches and aggregations over short documents, beside other servers.
//!
//! The run's own server and each peer get the same documents, and then the same requests, in turn: one server
//! works at a time. Each connection is a closed loop. Before a kind is measured, some of its requests are
//! sent to all servers, and the replies are compared, so that no server is faster by wrong replies.

mod documents;
mod kinds;
mod report;

use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use engramdb_datasets::SplitMix64;
use engramdb_resp::{Value, encode_command_into};

use self::documents::{INDEX, Item, ItemForm};
use self::kinds::{Items, RequestKind};
use self::report::{LoadCost, Measurement, Report};
use crate::client::{Accepted, Connection, ServerTarget};
use crate::data::size;
use crate::error::BenchError;
use crate::interrupt;
use crate::latency::Latencies;
use crate::machine::Process;
use crate::output::{Origin, ReportFiles};
use crate::peer::{Peer, settled};
use crate::progress;
use crate::server_process::ServerProcess;

/// Streams of random numbers.
const REQUESTS: u64 = 31;
const COMPARED: u64 = 32;
/// Requests of each kind whose replies are compared.
const COMPARED_REQUESTS: u64 = 20;
const READY_TIMEOUT: Duration = Duration::from_secs(3600);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// An upper bound of the bytes that a document takes in this process and a server, without its vector.
const DOCUMENT_BYTES_MAX: u128 = 2_000;

const EXAMPLES: &str = "\
Examples:
  A million documents, all kinds of requests, 8 connections:
    engramdb bench queries
  The same beside a Redis with RediSearch that is empty:
    engramdb bench queries --peer 127.0.0.1:6399
  Some kinds, over JSON documents:
    engramdb bench queries --form json --kinds tag,group,json-get,json-path
  The work of the servers, without most of the system calls:
    engramdb bench queries --form json --kinds json-set,json-get --pipeline 16

It starts a server of its own (this program, an empty directory under TMPDIR, a free port).

Columns:
  1/s, p50, p99 us   requests per second of all connections together, and their latency: of a request that was
                     sent in a pipeline, until the last reply of the pipeline
  EngramDB over it   EngramDB's requests per second in this run over those of the server
  agrees             of the compared requests, how many have EngramDB's number of results; - where results may differ";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct QueriesArgs {
    /// Documents to store
    #[arg(long, default_value_t = 1_000_000)]
    pub documents: u64,
    /// The form of the documents
    #[arg(long, value_enum, default_value = "hash")]
    pub form: ItemForm,
    /// Dimensions of their vectors; 0 for none, and no requests that need them
    #[arg(long, default_value_t = 0)]
    pub dimension: usize,
    /// Kinds of requests, in this order [default: all that the documents allow]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub kinds: Vec<RequestKind>,
    /// Connections that send requests
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Requests that a connection sends before it waits for their replies
    #[arg(long, default_value_t = 1)]
    pub pipeline: u32,
    /// Seconds for each kind of requests, server and round
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Rounds over all servers, one after the other; the fastest counts
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Connections that store documents
    #[arg(long, default_value_t = 8)]
    pub load_connections: u64,
    /// Documents in each pipeline while they are stored
    #[arg(long, default_value_t = 64)]
    pub load_pipeline: u64,
    /// Seed of documents and requests
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// HOST:PORT of a running Redis-compatible server on this machine that is measured as well, empty and
    /// freshly started; may be given several times
    #[arg(long = "peer", value_name = "HOST:PORT")]
    pub peers: Vec<String>,
    #[command(flatten)]
    pub files: ReportFiles,
}

/// A server under test, and a connection to it for everything but requests.
struct MeasuredServer {
    name: String,
    target: ServerTarget,
    process: Process,
    connection: Connection,
    /// The index is this run's.
    has_index: bool,
}

/// Stores the documents in each server, sends each kind of requests, and prints the tables.
pub fn run(arguments: QueriesArgs) -> Result<(), BenchError> {
    let kinds = arguments.check()?;
    let mut report = Report::new(Origin::of("bench queries"), &arguments);
    let peers: Vec<Peer> =
        arguments.peers.iter().map(|address| Peer::find(address)).collect::<Result<_, _>>()?;
    outln!("{report}");
    let mut own = ServerProcess::start("bench-queries", None, None)?;
    let mut connection = own.wait_ready(READY_TIMEOUT)?;
    let name = connection.server_version().unwrap_or_else(|| "engramdb".to_owned());
    let mut servers = vec![MeasuredServer {
        name,
        target: own.target(),
        process: own.process()?,
        connection,
        has_index: false,
    }];
    servers.extend(peers.into_iter().map(|peer| {
        let Peer { name, target, process, connection } = peer;
        MeasuredServer { name, target, process, connection, has_index: false }
    }));
    let measured = arguments.measure(&kinds, &mut servers, &mut report);
    // Peers were empty before, and are so afterwards, however the run ends.
    let of_this_run = servers[1..].iter_mut().filter(|server| server.has_index);
    let emptied: Result<Vec<Value>, BenchError> =
        of_this_run.map(|server| server.connection.command(&["FT.DROPINDEX", INDEX, "DD"])).collect();
    own.stop(servers.swap_remove(0).connection)?;
    measured?;
    emptied?;
    out!("\n{}\n{}", report.loads().render(), report.table().render());
    arguments.files.write(&report)
}

impl QueriesArgs {
    /// Refuses what cannot work, before anything starts. Returns the kinds of requests.
    fn check(&self) -> Result<Vec<RequestKind>, BenchError> {
        let at_least_one = [
            ("--documents", self.documents == 0),
            ("--connections", self.connections == 0),
            ("--pipeline", self.pipeline == 0),
            ("--rounds", self.rounds == 0),
            ("--load-connections", self.load_connections == 0),
            ("--load-pipeline", self.load_pipeline == 0),
        ];
        if let Some((flag, _)) = at_least_one.iter().find(|(_, is_zero)| *is_zero) {
            return Err(BenchError::Usage(format!("{flag} must be at least 1")));
        }
        if !(self.seconds > 0.0 && self.seconds < 1e6) {
            return Err(BenchError::Usage("--seconds must be above 0 and below 1000000".to_owned()));
        }
        let vectors = 10 * self.dimension as u128 * size_of::<f32>() as u128;
        let what = format!("--documents {} --dimension {}", self.documents, self.dimension);
        size::check(&what, u128::from(self.documents) * (DOCUMENT_BYTES_MAX + vectors))?;
        self.files.check()?;
        Process::own().resident()?;
        if self.kinds.is_empty() {
            let all = RequestKind::value_variants().iter().copied();
            return Ok(all.filter(|kind| kind.refusal(self.items()).is_none()).collect());
        }
        for kind in &self.kinds {
            if let Some(cause) = kind.refusal(self.items()) {
                return Err(BenchError::Usage(format!("--kinds {} does not go with {cause}", kind.name())));
            }
        }
        Ok(self.kinds.clone())
    }

    fn items(&self) -> Items {
        Items { seed: self.seed, documents: self.documents, form: self.form, dimension: self.dimension }
    }

    fn measure(
        &self,
        kinds: &[RequestKind],
        servers: &mut [MeasuredServer],
        report: &mut Report,
    ) -> Result<(), BenchError> {
        for server in &mut *servers {
            report.loadings.push(self.load(server)?);
        }
        for &kind in kinds {
            let mut measured = self.compare(kind, servers)?;
            for round in 0..self.rounds {
                for (server, measured) in servers.iter().zip(&mut measured) {
                    if measured.refused.is_none() {
                        self.send(kind, round as u64, server, measured)?;
                    }
                }
            }
            report.add(measured);
        }
        Ok(())
    }

    /// Creates the index and stores the documents, until all are indexed.
    fn load(&self, server: &mut MeasuredServer) -> Result<LoadCost, BenchError> {
        let empty = settled(server.process)?;
        let cpu = server.process.cpu_seconds();
        let began = Instant::now();
        server.connection.command(&documents::create(self.form, self.dimension))?;
        server.has_index = true;
        let bar = progress::bar(self.documents, "storing documents");
        let part = |number: u64| self.store_part(number, &server.target, &|count| bar.inc(count));
        let stored = thread::scope(|scope| {
            let parts: Vec<_> =
                (0..self.load_connections).map(|number| scope.spawn(move || part(number))).collect();
            parts.into_iter().try_for_each(|part| part.join().expect("a part of the load does not panic"))
        });
        bar.finish_and_clear();
        stored?;
        self.wait_indexed(&mut server.connection, began)?;
        let seconds = began.elapsed().as_secs_f64();
        let cpu_after = server.process.cpu_seconds();
        let resident = settled(server.process)?;
        Ok(LoadCost {
            server: server.name.clone(),
            seconds,
            documents_per_second: self.documents as f64 / seconds,
            cpu_us_per_document: cpu
                .zip(cpu_after)
                .map(|(before, after)| (after - before) * 1e6 / self.documents as f64),
            bytes_per_document: (resident as f64 - empty as f64) / self.documents as f64,
        })
    }

    /// Stores the pipelines of one of the connections, which take turns.
    fn store_part(
        &self,
        number: u64,
        target: &ServerTarget,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), BenchError> {
        let mut connection = Connection::open(target)?;
        let mut begin = number * self.load_pipeline;
        let mut bytes = Vec::new();
        while begin < self.documents {
            if interrupt::is_interrupted() {
                return Err(BenchError::Interrupted);
            }
            let end = self.documents.min(begin + self.load_pipeline);
            bytes.clear();
            for document in begin..end {
                Item::new(self.seed, document, self.dimension).encode(self.form, document, &mut bytes);
            }
            connection.send(&bytes)?;
            for _ in begin..end {
                connection.receive()?.accepted(|| "the write of a document".to_owned())?;
            }
            progress(end - begin);
            begin += self.load_connections * self.load_pipeline;
        }
        Ok(())
    }

    fn wait_indexed(&self, connection: &mut Connection, began: Instant) -> Result<(), BenchError> {
        loop {
            let info = connection.command(&["FT.INFO", INDEX])?;
            let number = |name: &str| info.get(name).and_then(Value::as_double).unwrap_or_default();
            let indexed = number("num_docs") as u64;
            if indexed == self.documents && number("indexing") == 0.0 {
                return Ok(());
            }
            if began.elapsed() > READY_TIMEOUT {
                return Err(BenchError::NotReady {
                    index: INDEX.to_owned(),
                    seconds: READY_TIMEOUT.as_secs(),
                    indexed,
                    expected: self.documents,
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sends some requests of a kind to all servers, and compares the replies with those of the first.
    fn compare(
        &self,
        kind: RequestKind,
        servers: &mut [MeasuredServer],
    ) -> Result<Vec<Measurement>, BenchError> {
        let mut results = Vec::new();
        for server in &mut *servers {
            let mut measured = Measurement::new(kind, &server.name);
            let mut counts = Vec::new();
            for number in 0..COMPARED_REQUESTS {
                let words = kind.draw(&mut SplitMix64::new(self.seed, COMPARED, number), self.items());
                match server.connection.command(&words) {
                    Ok(reply) => counts.push(count_of(&reply)),
                    Err(BenchError::Refused { text, .. }) => {
                        note!("{}: {}: {text}", server.name, kind.name());
                        measured.refused = Some(text);
                        break;
                    }
                    Err(other) => return Err(other),
                }
            }
            results.push((measured, counts));
        }
        let own = results[0].1.clone();
        let compared = |(mut measured, counts): (Measurement, Vec<Option<u64>>)| {
            let is_compared = kind.is_comparable() && own.len() == counts.len() && !own.is_empty();
            measured.agreeing = is_compared
                .then(|| own.iter().zip(&counts).filter(|(own, count)| own == count).count() as u64);
            measured
        };
        Ok(results.into_iter().map(compared).collect())
    }

    /// Sends requests of a kind to one server for as long as asked for.
    fn send(
        &self,
        kind: RequestKind,
        round: u64,
        server: &MeasuredServer,
        measured: &mut Measurement,
    ) -> Result<(), BenchError> {
        let length = Duration::from_secs_f64(self.seconds);
        let cpu = server.process.cpu_seconds();
        let began = Instant::now();
        let part = |connection: u64| -> Result<Latencies, BenchError> {
            let mut random = SplitMix64::new(self.seed, REQUESTS, round << 32 | connection);
            let mut latencies = Latencies::new();
            let mut open = Connection::open(&server.target)?;
            let mut requests = Vec::new();
            while began.elapsed() < length {
                if interrupt::is_interrupted() {
                    return Err(BenchError::Interrupted);
                }
                requests.clear();
                for _ in 0..self.pipeline {
                    encode_command_into(&mut requests, &kind.draw(&mut random, self.items()));
                }
                let sent = Instant::now();
                open.send(&requests)?;
                for _ in 0..self.pipeline {
                    open.receive()?.accepted(|| kind.name())?;
                }
                let latency = sent.elapsed();
                (0..self.pipeline).for_each(|_| latencies.record(latency));
            }
            Ok(latencies)
        };
        let mut latencies = Latencies::new();
        let outcome: Result<(), BenchError> = thread::scope(|scope| {
            let parts: Vec<_> =
                (0..self.connections as u64).map(|number| scope.spawn(move || part(number))).collect();
            parts.into_iter().try_for_each(|part| {
                latencies.add(&part.join().expect("a connection does not panic")?);
                Ok(())
            })
        });
        outcome?;
        let cpu = cpu.zip(server.process.cpu_seconds()).map(|(before, after)| after - before);
        measured.take(&latencies, began.elapsed().as_secs_f64(), cpu);
        Ok(())
    }
}

/// What a reply says about the number of results: its first number, or its number of rows, or a digest of its
/// text. The first number of an aggregation's reply is no such number.
fn count_of(reply: &Value) -> Option<u64> {
    let Some(parts) = reply.as_array() else {
        return reply.as_str().map(|text| {
            text.bytes().fold(0, |digest: u64, byte| digest.wrapping_mul(31).wrapping_add(byte.into()))
        });
    };
    match parts {
        [_, row, ..] if row.as_array().is_some() => Some(parts.len() as u64 - 1),
        [count, ..] => count.as_int().map(|count| count as u64),
        [] => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(flags: &[&str]) -> String {
        crate::parse_arguments::<QueriesArgs>(flags).check().expect_err("refused").to_string()
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_starts() {
        assert_eq!(refusal(&["--documents", "0"]), "--documents must be at least 1");
        assert_eq!(refusal(&["--pipeline", "0"]), "--pipeline must be at least 1");
        assert_eq!(refusal(&["--seconds", "0"]), "--seconds must be above 0 and below 1000000");
        assert_eq!(refusal(&["--kinds", "nearest"]), "--kinds nearest does not go with --dimension 0");
        assert_eq!(refusal(&["--kinds", "tag,json-get"]), "--kinds json-get does not go with --form hash");
        assert!(refusal(&["--documents", "1000000000000"]).contains("GB of memory"));
    }

    #[test]
    fn without_kinds_it_is_all_that_the_documents_allow() {
        let kinds =
            |flags: &[&str]| crate::parse_arguments::<QueriesArgs>(flags).check().expect("fine").len();
        let [plain, json, vectors] = [kinds(&[]), kinds(&["--form", "json"]), kinds(&["--dimension", "4"])];
        assert_eq!((json - plain, vectors - plain), (4, 2));
    }

    #[test]
    fn the_number_of_results_is_found_in_each_kind_of_reply() {
        let int = Value::Integer;
        let text = || Value::Bulk(b"[1]".to_vec());
        assert_eq!(count_of(&Value::Array(vec![int(3), text(), Value::Array(vec![])])), Some(3));
        let row = || Value::Array(vec![text()]);
        assert_eq!(count_of(&Value::Array(vec![int(1), row(), row()])), Some(2));
        assert_eq!(count_of(&text()), count_of(&text()));
        assert_ne!(count_of(&text()), count_of(&Value::Bulk(b"[2]".to_vec())));
    }
}
