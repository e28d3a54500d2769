//! A client finds what it wrote, on any connection, as soon as the write is acknowledged: searches by tag,
//! number, word and vector, and aggregations, while sixteen clients write, others load documents, and
//! snapshots are made. A document that was replaced or deleted is found no more.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

use engramdb_resp::Value;
use engramdb_testkit::process::{Client, Server, TempDir};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const WORKERS: usize = 16;
const ROUNDS: usize = 24;
/// A document is deleted once in this number of rounds.
const DELETE_EVERY: usize = 4;
const LOADERS: usize = 2;
const LOADED_AT_ONCE: usize = 32;
const DIMENSIONS: usize = 8;
const CHECKS_MIN: u64 = 10_000;

/// How a document is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Type {
    Hash,
    Json,
}

/// How it is looked for. Each finds one document at most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    Tag,
    Number,
    Word,
    Vector,
    /// An aggregation that counts the documents with a tag.
    Count,
}

const TYPES: [Type; 2] = [Type::Hash, Type::Json];
const WAYS: [Way; 5] = [Way::Tag, Way::Number, Way::Word, Way::Vector, Way::Count];

/// Checks and failures by type, way, and whether the connection is the writer's own.
type Table = BTreeMap<(Type, Way, bool), (u64, u64)>;

/// A version of a document: no other has its words, its number or its vector.
#[derive(Clone, Copy)]
struct Version {
    worker: usize,
    round: usize,
}

impl Version {
    fn name(self) -> String {
        format!("w{}r{}", self.worker, self.round)
    }

    fn number(self) -> usize {
        self.worker * 1_000 + self.round
    }

    /// Version by version one step further in one component, and worker by worker in the others.
    fn vector(self) -> Vec<f32> {
        let component = |place: usize| match place {
            0 => self.round as f32,
            1 => self.worker as f32,
            _ => 1.0,
        };
        (0..DIMENSIONS).map(component).collect()
    }

    fn blob(self) -> Vec<u8> {
        self.vector().into_iter().flat_map(f32::to_le_bytes).collect()
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn key(of: Type, worker: usize) -> String {
    match of {
        Type::Hash => format!("h:{worker}"),
        Type::Json => format!("j:{worker}"),
    }
}

fn write(of: Type, version: Version) -> Vec<Vec<u8>> {
    let (key, name, number) = (key(of, version.worker), version.name(), version.number());
    match of {
        Type::Hash => {
            let mut command = words(&format!("HSET {key} owner {name} n {number} t"));
            command.push(format!("the {name} text").into_bytes());
            command.extend([b"v".to_vec(), version.blob()]);
            command
        }
        Type::Json => {
            let vector = version.vector();
            let value = format!(r#"{{"owner":"{name}","n":{number},"t":"the {name} text","v":{vector:?}}}"#);
            vec![b"JSON.SET".to_vec(), key.into_bytes(), b"$".to_vec(), value.into_bytes()]
        }
    }
}

fn search(of: Type, way: Way, version: Version) -> Vec<Vec<u8>> {
    let (name, number) = (version.name(), version.number());
    let query = match way {
        Way::Tag | Way::Count => format!("@owner:{{{name}}}"),
        Way::Number => format!("@n:[{number} {number}]"),
        Way::Word => format!("@t:{name}"),
        Way::Vector => "@v:[VECTOR_RANGE 0.01 $v]".to_owned(),
    };
    let index = match of {
        Type::Hash => "hashes",
        Type::Json => "documents",
    };
    let mut command = words(&match way {
        Way::Count => format!("FT.AGGREGATE {index} query GROUPBY 0 REDUCE COUNT 0 AS count DIALECT 2"),
        _ => format!("FT.SEARCH {index} query NOCONTENT DIALECT 2"),
    });
    command[2] = query.into_bytes();
    if way == Way::Vector {
        command.extend([b"PARAMS".to_vec(), b"2".to_vec(), b"v".to_vec(), version.blob()]);
    }
    command
}

/// One client with a second connection, which writes versions of one document and looks for each.
struct Worker {
    number: usize,
    own: Client,
    other: Client,
    table: Table,
}

impl Worker {
    fn run(mut self) -> Table {
        for round in 0..ROUNDS {
            for of in TYPES {
                let version = Version { worker: self.number, round };
                let reply = self.own.call(&write(of, version)).expect("the server answers");
                assert!(!reply.is_error(), "{reply:?}");
                self.look(of, version, true);
                if round > 0 {
                    self.look(of, Version { round: round - 1, ..version }, false);
                }
                if round % DELETE_EVERY == DELETE_EVERY - 1 {
                    let reply = self.own.call(&["DEL", &key(of, self.number)]).expect("the server answers");
                    assert_eq!(reply, Value::Integer(1));
                    self.look(of, version, false);
                }
            }
        }
        self.table
    }

    /// Looks for a version in each way, on both connections.
    fn look(&mut self, of: Type, version: Version, is_there: bool) {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let row = |way| match way {
            Way::Count => Value::Array(["count", "1"].map(bulk).to_vec()),
            _ => bulk(&key(of, version.worker)),
        };
        for way in WAYS {
            let command = search(of, way, version);
            let wanted: &[Value] = &if is_there { vec![row(way)] } else { Vec::new() };
            for is_own in [true, false] {
                let client = if is_own { &mut self.own } else { &mut self.other };
                let found = client.call(&command).expect("the server answers");
                let (checks, failures) = self.table.entry((of, way, is_own)).or_default();
                *checks += 1;
                let rows = found.as_array().and_then(|elements| elements.get(1..));
                if rows != Some(wanted) {
                    *failures += 1;
                    eprintln!("{way:?} {}: {found:?} instead of {wanted:?}", version.name());
                }
            }
        }
    }
}

/// Writes other documents until the end.
fn load(client: &mut Client, loader: usize, is_over: &AtomicBool) {
    let mut round = 0;
    while !is_over.load(Ordering::Relaxed) {
        let commands: Vec<Vec<Vec<u8>>> = (0..LOADED_AT_ONCE)
            .map(|number| {
                let version = Version { worker: 100 + loader, round: round * LOADED_AT_ONCE + number };
                let mut command = write(Type::Hash, version);
                command[1] = format!("h:load:{loader}:{}", version.round % 2_000).into_bytes();
                command
            })
            .collect();
        let commands: Vec<&[Vec<u8>]> = commands.iter().map(Vec::as_slice).collect();
        client.send(&commands).expect("the server reads");
        for _ in &commands {
            client.receive().expect("the server answers");
        }
        round += 1;
    }
}

/// Makes snapshots until the end; returns the number of those that were begun.
fn snapshots(client: &mut Client, is_over: &AtomicBool) -> u64 {
    let mut begun = 0;
    while !is_over.load(Ordering::Relaxed) {
        begun += u64::from(!client.call(&["BGSAVE"]).expect("the server answers").is_error());
        std::thread::yield_now();
    }
    begun
}

#[test]
fn a_client_finds_its_own_writes_at_once() {
    let directory = TempDir::new("own-writes");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    let vector = "VECTOR FLAT 6 TYPE FLOAT32 DIM 8 DISTANCE_METRIC L2";
    for line in [
        format!("FT.CREATE hashes PREFIX 1 h: SCHEMA owner TAG n NUMERIC t TEXT v {vector}"),
        format!(
            "FT.CREATE documents ON JSON PREFIX 1 j: SCHEMA $.owner AS owner TAG $.n AS n NUMERIC \
             $.t AS t TEXT $.v AS v {vector}"
        ),
    ] {
        let created = client.call(&words(&line)).expect("the server answers");
        assert!(!created.is_error(), "{line}: {created:?}");
    }
    let (is_over, begun, table) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Table::new()));
    std::thread::scope(|scope| {
        for loader in 0..LOADERS {
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || load(&mut server.client(), loader, is_over));
        }
        scope.spawn(|| begun.store(snapshots(&mut server.client(), &is_over), Ordering::Relaxed));
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let table = Table::new();
                let worker = Worker { number, own: server.client(), other: server.client(), table };
                scope.spawn(move || worker.run())
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        for end in ended {
            let of_worker = end.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            let mut table = table.lock().expect("no thread panics");
            for (place, (checks, failures)) in of_worker {
                let sum = table.entry(place).or_default();
                *sum = (sum.0 + checks, sum.1 + failures);
            }
        }
    });
    let table = table.into_inner().expect("no thread panics");
    println!("checks  short or stale  documents, search, connection");
    for ((of, way, is_own), (checks, failures)) in &table {
        let connection = if *is_own { "own" } else { "other" };
        println!("{checks:6} {failures:15}  {of:?} {way:?} {connection}");
    }
    let sum = |column: fn(&(u64, u64)) -> u64| table.values().map(column).sum::<u64>();
    let (checks, failures, begun) = (sum(|cell| cell.0), sum(|cell| cell.1), begun.into_inner());
    println!("{checks:6} {failures:15}  all, during {begun} snapshots");
    assert_eq!(failures, 0);
    assert!(checks >= CHECKS_MIN && begun > 0, "{checks} checks during {begun} snapshots");
}
