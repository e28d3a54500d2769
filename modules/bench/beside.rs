//! `bench beside`: the latency of GET while other connections send heavy commands.
//!
//! One connection reads a small key in a closed loop; four others send one kind of heavy command, each in a
//! closed loop of its own. Their replies are skipped and not parsed, so that the client uses little processor
//! time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use engramdb_resp::encode_command;
use serde::Serialize;

use crate::client::Connection;
use crate::data::synthetic::Generator;
use crate::error::BenchError;
use crate::latency::{self, Latencies, Percentiles};
use crate::output::{Exported, Origin, ReportFiles, TextTable};
use crate::plot::{Chart, ChartContent};
use crate::progress;
use crate::server_process::ServerProcess;

/// The time from the first heavy command to the first GET that is measured.
const RAMP: Duration = Duration::from_millis(300);
const READY_TIMEOUT: Duration = Duration::from_secs(600);
const SEED: u64 = 1;
const PIPELINE: usize = 100;
/// Bytes of the largest string.
const HUGE_BYTES: usize = 64 << 20;
/// Keys or fields named by the commands with many arguments.
const MANY: usize = 100_000;
const MANY_DATABASE: usize = 2;
/// This text is echoed after each heavy command: it marks the end of the heavy reply.
const MARK: &str = "the-end-of-a-heavy-reply";

const EXAMPLES: &str = "\
Examples:
  60,000 documents, three seconds beside each kind of command:
    engramdb bench beside
  Some kinds only:
    engramdb bench beside --kinds quiet,sort-text,hgetall --seconds 10

It starts a server of its own (this program, an empty directory under TMPDIR, a free port) and stores what the commands work on.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BesideArgs {
    /// Documents in the index
    #[arg(long, default_value_t = 60_000)]
    pub documents: usize,
    /// Dimensions of their vectors
    #[arg(long, default_value_t = 64)]
    pub dimensions: usize,
    /// Fields of the large hash
    #[arg(long, default_value_t = 300_000)]
    pub fields: usize,
    /// Bytes of each of eight large strings
    #[arg(long, default_value_t = 4 << 20)]
    pub value_bytes: usize,
    /// Connections that send heavy commands
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Seconds to measure beside each kind
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Kinds to run, separated by commas; all by default
    #[arg(long, value_delimiter = ',')]
    pub kinds: Vec<String>,
    #[command(flatten)]
    pub files: ReportFiles,
}

/// All results of a run, in the form of its JSON.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    origin: Origin,
    documents: usize,
    fields: usize,
    value_bytes: usize,
    connections: usize,
    kinds: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    kind: &'static str,
    heavy_per_second: f64,
    gets: u64,
    #[serde(flatten)]
    latency: Percentiles,
}

/// A kind of heavy command: its name, and the commands of one step.
struct Kind {
    name: &'static str,
    commands: Vec<Vec<Vec<u8>>>,
}

/// Measures GET beside all kinds, prints the table and writes the requested files.
pub fn run(arguments: BesideArgs) -> Result<(), BenchError> {
    arguments.check()?;
    arguments.files.check()?;
    let kinds = arguments.chosen_kinds()?;
    let origin = Origin::of("bench beside");
    let mut server = ServerProcess::start("bench-beside", None, None)?;
    let mut connection = server.wait_ready(READY_TIMEOUT)?;
    arguments.load(&mut connection)?;
    let progress = progress::bar(kinds.len() as u64, "kinds");
    let mut measured = Vec::new();
    for kind in &kinds {
        measured.push(arguments.measure(&server, kind)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    server.stop(connection)?;
    let BesideArgs { documents, fields, value_bytes, connections, .. } = arguments;
    let report = Report { origin, documents, fields, value_bytes, connections, kinds: measured };
    report.print();
    arguments.files.write(&report)
}

/// The words of a command; the text is split at blanks.
fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Commands that name many keys or fields, in a database of their own.
fn many_words() -> [Kind; 5] {
    let select = || words(&format!("SELECT {MANY_DATABASE}"));
    let all = |head: &str, each: fn(usize) -> String| {
        let line = (0..MANY).fold(String::from(head), |line, number| line + " " + &each(number));
        words(&line)
    };
    let own_pairs = |number| format!("key:{number}:@ value");
    let own_keys = |number| format!("key:{number}:@");
    let own_fields = |number| format!("field:{number} value");
    let kind =
        |name, commands: Vec<Vec<Vec<u8>>>| Kind { name, commands: [vec![select()], commands].concat() };
    [
        kind("mset-100000", vec![all("MSET", own_pairs)]),
        kind("mget-100000", vec![all("MGET", |number| format!("many:{number}"))]),
        kind("mset-and-del-100000", vec![all("MSET", own_pairs), all("DEL", own_keys)]),
        kind("hset-and-del-100000", vec![all("HSET fields:@", own_fields), words("DEL fields:@")]),
        kind(
            "hset-and-hdel-100000",
            vec![all("HSET fields:@", own_fields), all("HDEL fields:@", |number| format!("field:{number}"))],
        ),
    ]
}

impl BesideArgs {
    fn check(&self) -> Result<(), BenchError> {
        let counts = [
            ("--documents", self.documents),
            ("--dimensions", self.dimensions),
            ("--fields", self.fields),
            ("--value-bytes", self.value_bytes),
            ("--connections", self.connections),
        ];
        if let Some((flag, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(BenchError::Usage(format!("{flag} must be at least 1")));
        }
        if !(self.seconds > 0.0 && self.seconds.is_finite()) {
            return Err(BenchError::Usage("--seconds must be a number above 0".into()));
        }
        Ok(())
    }

    fn chosen_kinds(&self) -> Result<Vec<Kind>, BenchError> {
        let mut kinds = self.all_kinds();
        let unknown = self.kinds.iter().find(|name| kinds.iter().all(|kind| kind.name != **name));
        if let Some(name) = unknown {
            let known: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
            return Err(BenchError::Usage(format!("no kind {name:?}; kinds are {}", known.join(", "))));
        }
        kinds.retain(|kind| self.kinds.is_empty() || self.kinds.iter().any(|name| name == kind.name));
        Ok(kinds)
    }

    /// The baseline without heavy commands is the first.
    fn all_kinds(&self) -> Vec<Kind> {
        let one = |name, line: &str| Kind { name, commands: vec![words(line)] };
        let mut kinds = vec![Kind { name: "quiet", commands: Vec::new() }];
        let query = vector_bytes(Generator::new(self.documents, self.dimensions, SEED).queries(1).row(0));
        let many = self.documents.min(10_000);
        let searches = [
            ("filter", "@c:{*7*} NOCONTENT".to_owned()),
            ("rows-5000", "* LIMIT 0 5000".to_owned()),
            ("sort-number", "* SORTBY n LIMIT 0 10".to_owned()),
            ("sort-text", "* SORTBY t LIMIT 0 10".to_owned()),
            ("sort-text-5000", "* SORTBY t DESC LIMIT 0 5000 RETURN 1 t".to_owned()),
            ("knn-10", "*=>[KNN_10_@v_$q]".to_owned()),
            ("knn-10000", format!("*=>[KNN_{many}_@v_$q_AS_d] LIMIT 0 {many} RETURN 2 d t")),
            ("knn-filtered", format!("@c:{{*7*}}=>[KNN_{many}_@v_$q_AS_d] SORTBY t LIMIT 0 10")),
            ("range", "@v:[VECTOR_RANGE_1e30_$q] LIMIT 0 1000 RETURN 1 n".to_owned()),
        ];
        for (name, line) in searches {
            let mut command = words(&format!("FT.SEARCH idx {line} DIALECT 2 TIMEOUT 0 PARAMS 2 q"));
            // An underscore in a query is replaced by a blank.
            command[2] = String::from_utf8_lossy(&command[2])
                .replace('_', " ")
                .replace("VECTOR RANGE", "VECTOR_RANGE")
                .into();
            command.push(query.clone());
            kinds.push(Kind { name, commands: vec![command] });
        }
        kinds.extend([
            one("scan", "SCAN 0 COUNT 1000000"),
            one("hscan", "HSCAN large 0 COUNT 1000000"),
            one("keys", "KEYS *"),
            one("hgetall", "HGETALL large"),
            one("hvals", "HVALS large"),
            one("hrandfield", "HRANDFIELD large -5000000"),
            one("lcs", "LCS text:1 text:2 LEN"),
        ]);
        let large = || (0..8).map(|number| format!("value:{number}"));
        let gets = (0..12).flat_map(|_| large()).map(|key| words(&format!("GET {key}")));
        let exec = [words("MULTI")].into_iter().chain(gets).chain([words("EXEC")]).collect();
        kinds.push(one("mget", &format!("MGET {}", large().collect::<Vec<_>>().join(" "))));
        kinds.push(Kind { name: "exec", commands: exec });
        let several =
            |name, lines: &[&str]| Kind { name, commands: lines.iter().copied().map(words).collect() };
        kinds.push(one("copy", "COPY large copy:@ REPLACE"));
        kinds.push(several("copy-and-del", &["COPY large copy:@ REPLACE", "DEL copy:@"]));
        // COPY shares a large string; the first write to it makes the actual copy.
        kinds.push(several("append", &["COPY huge grown:@ REPLACE", "APPEND grown:@ y"]));
        kinds.push(several("setrange", &["COPY huge grown:@ REPLACE", "SETRANGE grown:@ 7 y"]));
        let set = [words("SET huge:@"), vec![vec![b'x'; HUGE_BYTES]]].concat();
        kinds.push(Kind { name: "set-64mib", commands: vec![set] });
        let fill: Vec<String> = (0..200).map(|number| format!("key:{number} value")).collect();
        let flush = ["SELECT 1".to_owned(), format!("MSET {}", fill.join(" ")), "FLUSHDB".to_owned()];
        kinds.push(Kind { name: "flush", commands: flush.iter().map(|line| words(line)).collect() });
        let fields: Vec<String> = (0..20_000).map(|number| format!("f{number} v")).collect();
        kinds.push(one("hset-20000", &format!("HSET fields:@ {}", fields.join(" "))));
        kinds.extend(many_words());
        kinds
    }

    fn load(&self, connection: &mut Connection) -> Result<(), BenchError> {
        let create = "FT.CREATE idx PREFIX 1 doc: SCHEMA c TAG n NUMERIC t TEXT s TEXT SORTABLE v VECTOR HNSW 6 TYPE \
                      FLOAT32 DIM @ DISTANCE_METRIC L2";
        connection.command(&words(&create.replace('@', &self.dimensions.to_string())))?;
        let generator = Generator::new(self.documents, self.dimensions, SEED);
        let progress = progress::bar(self.documents as u64, "documents");
        for first in (0..self.documents).step_by(PIPELINE) {
            let numbers: Vec<usize> = (first..self.documents.min(first + PIPELINE)).collect();
            let rows = generator.rows(&numbers);
            let documents = numbers.iter().enumerate().map(|(place, &number)| {
                let spread = number.wrapping_mul(2_654_435_761) % 1_000_003;
                let line = format!(
                    "HSET doc:{number} c tag{number} n {spread} t text-{spread:07} s text-{spread:07} v"
                );
                let mut command = words(&line);
                command.push(vector_bytes(rows.row(place)));
                command
            });
            pipeline(connection, &documents.collect::<Vec<_>>())?;
            progress.inc(numbers.len() as u64);
        }
        progress.finish_and_clear();
        for first in (0..self.fields).step_by(1000) {
            let numbers = first..self.fields.min(first + 1000);
            let pairs: Vec<String> = numbers.map(|number| format!("field:{number} value:{number}")).collect();
            connection.command(&words(&format!("HSET large {}", pairs.join(" "))))?;
        }
        for number in 0..8u8 {
            let value = vec![b'a' + number; self.value_bytes];
            connection.command(&[&b"SET"[..], format!("value:{number}").as_bytes(), &value])?;
        }
        let text = |factor: usize| -> String {
            (0..8000).map(|place| char::from(b'a' + (place * factor % 23) as u8)).collect()
        };
        connection.command(&["MSET", "small", "value", "text:1", &text(7), "text:2", &text(11)])?;
        connection.command(&words(&format!("SETRANGE huge {} x", HUGE_BYTES - 1)))?;
        connection.command(&words(&format!("SELECT {MANY_DATABASE}")))?;
        for first in (0..MANY).step_by(1000) {
            let pairs: Vec<String> =
                (first..first + 1000).map(|number| format!("many:{number} value:{number}")).collect();
            connection.command(&words(&format!("MSET {}", pairs.join(" "))))?;
        }
        connection.command(&words("SELECT 0"))?;
        self.wait_for_index(connection)
    }

    fn wait_for_index(&self, connection: &mut Connection) -> Result<(), BenchError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let info = format!("{:?}", connection.command(&["INFO", "search"])?);
            if info.contains("search_pending_mutations:0") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(BenchError::Usage("the index is not complete in time".into()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn measure(&self, server: &ServerProcess, kind: &Kind) -> Result<Measured, BenchError> {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut reader = Connection::open(&server.target())?;
        let mut latencies = Latencies::new();
        let seconds = std::thread::scope(|scope| {
            let count = if kind.commands.is_empty() { 0 } else { self.connections };
            let mut threads = Vec::new();
            for number in 0..count {
                let heavy = Heavy::open(server, kind, number)?;
                let (stop, done) = (&stop, &done);
                threads.push(scope.spawn(move || heavy.run(stop, done)));
            }
            std::thread::sleep(RAMP);
            let before = done.load(Ordering::Relaxed);
            let began = Instant::now();
            let result = read(&mut reader, &mut latencies, Duration::from_secs_f64(self.seconds));
            let (took, heavy) = (began.elapsed().as_secs_f64(), done.load(Ordering::Relaxed) - before);
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().expect("a connection ends in a result")?;
            }
            result.map(|()| heavy as f64 / took)
        })?;
        let (gets, latency) = (latencies.count(), latencies.percentiles());
        Ok(Measured { kind: kind.name, heavy_per_second: seconds, gets, latency })
    }
}

/// Reads the small key in a loop for the given time.
fn read(connection: &mut Connection, latencies: &mut Latencies, time: Duration) -> Result<(), BenchError> {
    let began = Instant::now();
    while began.elapsed() < time {
        let sent = Instant::now();
        connection.command(&["GET", "small"])?;
        latencies.record(sent.elapsed());
    }
    Ok(())
}

fn pipeline(connection: &mut Connection, commands: &[Vec<Vec<u8>>]) -> Result<(), BenchError> {
    let encoded: Vec<u8> = commands.iter().flat_map(|command| encode_command(command)).collect();
    connection.send(&encoded)?;
    commands.iter().try_for_each(|_| match connection.receive()? {
        engramdb_resp::Value::Error(text) => {
            let (command, text) = ("HSET".to_owned(), String::from_utf8_lossy(&text).into_owned());
            Err(BenchError::Refused { command, text })
        }
        _ => Ok(()),
    })
}

fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// A connection that sends heavy commands one after another.
struct Heavy {
    stream: TcpStream,
    step: Vec<u8>,
    mark: Vec<u8>,
}

impl Heavy {
    fn open(server: &ServerProcess, kind: &Kind, number: usize) -> Result<Heavy, BenchError> {
        let own = |word: &Vec<u8>| match word.ends_with(b":@") {
            true => [&word[..word.len() - 1], number.to_string().as_bytes()].concat(),
            false => word.clone(),
        };
        let mut step = Vec::new();
        let mut connection = Connection::open(&server.target())?;
        for command in &kind.commands {
            let command: Vec<Vec<u8>> = command.iter().map(own).collect();
            // The first reply is parsed, so that no error is measured.
            connection.command(&command)?;
            step.extend_from_slice(&encode_command(&command));
        }
        step.extend_from_slice(&encode_command(&["ECHO", MARK]));
        let mark = format!("${}\r\n{MARK}\r\n", MARK.len()).into_bytes();
        Ok(Heavy { stream: connection.into_stream(), step, mark })
    }

    fn run(mut self, stop: &AtomicBool, done: &AtomicU64) -> Result<(), BenchError> {
        let mut chunk = vec![0; 1 << 20];
        while !stop.load(Ordering::Relaxed) {
            self.stream.write_all(&self.step)?;
            // The last bytes received, in which the mark is looked for.
            let mut tail: Vec<u8> = Vec::new();
            while !tail.ends_with(&self.mark) {
                let count = self.stream.read(&mut chunk)?;
                if count == 0 {
                    return Err(BenchError::Closed);
                }
                tail.extend_from_slice(&chunk[count.saturating_sub(self.mark.len())..count]);
                tail.drain(..tail.len().saturating_sub(self.mark.len()));
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Report {
    fn print(&self) {
        let mut table = TextTable::of_groups(&[&["beside", "heavy/s", "GETs"], &Percentiles::HEADINGS]);
        for Measured { kind, heavy_per_second, gets, latency } in &self.kinds {
            let first = [(*kind).to_owned(), format!("{heavy_per_second:.1}"), gets.to_string()];
            table.row_of_groups(&[&first, &latency.cells()]);
        }
        out!("{}\n{}", self.origin.machine, table.render());
    }
}

impl Exported for Report {
    fn csv(&self) -> TextTable {
        let mut table =
            TextTable::of_groups(&[&["kind", "heavy_per_second", "gets"], &Percentiles::CSV_HEADINGS]);
        for Measured { kind, heavy_per_second, gets, latency } in &self.kinds {
            let first = [(*kind).to_owned(), format!("{heavy_per_second:.1}"), gets.to_string()];
            table.row_of_groups(&[&first, &latency.csv_cells()]);
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let measured = self.kinds.iter().map(|measured| &measured.latency);
        let series = latency::series(&[latency::P50, latency::P99, latency::MAX], measured);
        vec![Chart {
            title: "latency of GET, by concurrent load".into(),
            y_label: "microseconds".into(),
            y_log: true,
            content: ChartContent::Bars {
                categories: self.kinds.iter().map(|measured| measured.kind.to_owned()).collect(),
                series,
            },
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_refused_with_the_list_of_kinds() {
        let arguments: BesideArgs = crate::parse_arguments(&["--kinds", "quiet,keys"]);
        let names: Vec<&str> =
            arguments.chosen_kinds().expect("both are kinds").iter().map(|kind| kind.name).collect();
        assert_eq!(names, ["quiet", "keys"]);
        let unknown = BesideArgs { kinds: vec!["loud".into()], ..arguments };
        let error = unknown.chosen_kinds().err().expect("the kind is unknown").to_string();
        assert!(error.contains("loud") && error.contains("sort-text"), "{error}");
    }
}
