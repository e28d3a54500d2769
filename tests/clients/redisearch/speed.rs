//! The cost of a search compared with RediSearch: CPU time of each server at the same recall.
//!
//! CPU time of the server's process is measured instead of wall time, because it is the same on a busy
//! machine. The program under test is the one that the tests build, with few optimisations, so the bound is
//! far below the ratio of a release build (docs/performance.md).

use engramdb_bench::data::{Matrix, npy};
use engramdb_resp::Value;
use engramdb_testkit::oracle::Oracle;
use engramdb_testkit::process::{Client, Server};
use std::path::Path;

const K: usize = 10;
const CONNECTIONS: usize = 8;
/// Each round sends all queries, one server after the other.
const ROUNDS: usize = 20;
const RECALL: f64 = 0.99;
const EF_RUNTIMES: [usize; 6] = [10, 20, 40, 80, 160, 320];

/// CPU time of RediSearch's searches divided by that of EngramDB's.
///
/// # Panics
/// If a server does not find `RECALL` of the true neighbours with any `EF_RUNTIMES`.
pub fn ratio(ours: &Server, theirs: &Oracle) -> f64 {
    let data = Data::read();
    let sides = [(ours.port, ours.pid()), (theirs.port, theirs.pid())].map(|(port, process)| {
        data.load(port);
        let found = EF_RUNTIMES.map(|ef| (ef, data.recall(&data.ask(port, ef))));
        let enough = found.iter().find(|(_, recall)| *recall >= RECALL);
        let (ef, recall) = *enough.unwrap_or_else(|| panic!("{found:?} on port {port}"));
        println!("port {port}: recall {recall:.4} at EF_RUNTIME {ef}");
        Side { port, process, ef, ticks: 0 }
    });
    let [mut ours, mut theirs] = sides;
    for round in 0..ROUNDS {
        // Alternating, and each is first in every other round.
        let mut turns = [&mut ours, &mut theirs];
        turns.rotate_left(round % 2);
        turns.into_iter().for_each(|side| side.search(&data));
    }
    println!("ticks of CPU for the same searches: {} ours, {} RediSearch's", ours.ticks, theirs.ticks);
    theirs.ticks as f64 / ours.ticks as f64
}

/// One of the servers.
struct Side {
    port: u16,
    process: u32,
    ef: usize,
    /// CPU time of searches; the kernel counts in hundredths of a second.
    ticks: u64,
}

impl Side {
    fn search(&mut self, data: &Data) {
        let before = cpu_ticks(self.process);
        data.ask(self.port, self.ef);
        self.ticks += cpu_ticks(self.process) - before;
    }
}

/// User and system time of all threads of a process: fields 14 and 15 of its `stat`, after the name in
/// parentheses.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs, on Linux");
    let (_, behind_name) = stat.rsplit_once(')').expect("the name is in parentheses");
    behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a count")).sum()
}

struct Data {
    base: Matrix<f32>,
    queries: Matrix<f32>,
    /// The keys of the true neighbours of each query.
    nearest: Vec<Vec<String>>,
}

fn blob(row: &[f32]) -> Vec<u8> {
    row.iter().flat_map(|component| component.to_le_bytes()).collect()
}

impl Data {
    fn read() -> Data {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/rustdoc-minilm-10k");
        let vectors = |name: &str| npy::read_vectors(&directory.join(name)).expect("part of the repository");
        let neighbors = npy::read_rows(&directory.join("neighbors.npy")).expect("part of the repository");
        let keys = |row: usize| neighbors.row(row)[..K].iter().map(|id| format!("d:{id}")).collect();
        let nearest = (0..neighbors.rows()).map(keys).collect();
        Data { base: vectors("base.npy"), queries: vectors("queries.npy"), nearest }
    }

    /// Creates the index and waits until it is complete.
    fn load(&self, port: u16) {
        let mut client = Client::connect(port).expect("the server listens");
        let create =
            "FT.CREATE speed PREFIX 1 d: SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 384 DISTANCE_METRIC COSINE";
        let created = client.call(&create.split(' ').collect::<Vec<_>>()).expect("an answer");
        assert!(!created.is_error(), "{created:?}");
        for row in 0..self.base.rows() {
            let (key, vector) = (format!("d:{row}"), blob(self.base.row(row)));
            client.call(&[b"HSET", key.as_bytes(), b"v", &vector]).expect("an answer");
        }
        engramdb_testkit::process::until("the graph is not built", || {
            let info = client.call(&["FT.INFO", "speed"]).expect("an answer");
            let is_zero = |name: &str| info.get(name).and_then(Value::as_double).unwrap_or(0.0) == 0.0;
            is_zero("indexing") && is_zero("pending_mutations")
        });
    }

    /// Sends all queries, over several connections at once; returns the keys that each found.
    fn ask(&self, port: u16, ef: usize) -> Vec<Vec<String>> {
        let query = format!("*=>[KNN {K} @v $q EF_RUNTIME {ef}]");
        let queries = self.queries.rows();
        let part = |connection: usize| {
            let mut client = Client::connect(port).expect("the server listens");
            let numbers = (connection..queries).step_by(CONNECTIONS);
            let found = numbers.map(|number| (number, self.search(&mut client, &query, number)));
            found.collect::<Vec<_>>()
        };
        let mut found = vec![Vec::new(); queries];
        std::thread::scope(|scope| {
            let part = &part;
            let threads: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || part(number))).collect();
            for (number, keys) in
                threads.into_iter().flat_map(|thread| thread.join().expect("an answer to each"))
            {
                found[number] = keys;
            }
        });
        found
    }

    fn search(&self, client: &mut Client, query: &str, number: usize) -> Vec<String> {
        let vector = blob(self.queries.row(number));
        let mut words: Vec<&[u8]> =
            ["FT.SEARCH", "speed", query, "NOCONTENT", "DIALECT", "2", "PARAMS", "2", "q"]
                .map(str::as_bytes)
                .to_vec();
        words.push(&vector);
        let reply = client.call(&words).expect("an answer");
        let rows = reply.as_array().unwrap_or_else(|| panic!("{reply:?}"));
        rows[1..].iter().map(|key| key.as_str().expect("a key").to_owned()).collect()
    }

    fn recall(&self, found: &[Vec<String>]) -> f64 {
        let hits = |(found, nearest): (&Vec<String>, &Vec<String>)| {
            nearest.iter().filter(|key| found.contains(key)).count()
        };
        let hits: usize = found.iter().zip(&self.nearest).map(hits).sum();
        hits as f64 / (self.nearest.len() * K) as f64
    }
}
