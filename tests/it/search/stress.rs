//! Documents are updated, expired, renamed and deleted while filtered searches run: each row matches the
//! fields that it returns, and k rows are returned whenever k exist.
//!
//! At least k documents match every filter and are never changed, so that k always exist. They are farther
//! from every query than the others: a search prefers the changing documents, and needs the unchanged ones
//! when those vanish. Times are not asserted. The requests of each thread follow from the seed; the
//! interleaving of threads does not.

use super::{Served, show};
use engramdb_resp::{Protocol, Value};
use engramdb_testkit::tcp::Client;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

const K: usize = 10;
const UNTOUCHED: usize = K + 2;
const TOUCHED: usize = 60;
const WRITERS: u64 = 3;
const SEARCHERS: u64 = 3;
/// The number of searches per searcher; ENGRAMDB_STRESS_SEARCHES sets another one.
const SEARCHES: usize = 1_500;

const FIELDS: &[&str] = &["c", "n", "flat", "hnsw"];
/// Components of changing documents, and of queries.
const NEAR: Range<f32> = 0.0..2.0;

type Judge = fn(&Row<'_>) -> bool;

/// The filters of searches, all of which the unchanged documents match, and how a row shows that it does.
const FILTERS: &[(&str, Judge)] = &[
    ("@c:{red}", |row| row.has("red")),
    ("@c:{red|blue}", |row| row.has("red") || row.has("blue")),
    ("-@c:{blue}", |row| !row.has("blue")),
    ("@n:[40 60]", |row| row.is_between(40.0, 60.0)),
    ("@c:{red} @n:[40 (61]", |row| row.has("red") && row.is_between(40.0, 60.0)),
    ("@c:{blue} | @n:[50 50]", |row| row.has("blue") || row.is_between(50.0, 50.0)),
    ("*", |_| true),
];

#[test]
fn rows_are_true_and_complete_while_documents_change() {
    stress(4, 0, 1);
}

/// Enough documents for the graph to be walked, with enough dimensions for codes.
#[test]
fn rows_are_true_and_complete_while_documents_of_a_large_index_change() {
    stress(96, 1_500, 2);
}

/// With `middling` further documents, which are never changed either and match an arbitrary part of the
/// filters.
fn stress(dimension: usize, middling: usize, seed: u64) {
    let searches = std::env::var("ENGRAMDB_STRESS_SEARCHES").ok().and_then(|count| count.parse().ok());
    let searches = searches.unwrap_or(SEARCHES);
    let served = Served::start();
    let mut client = served.client(Protocol::Resp2);
    let of_type = |name: &str, algorithm: &str| {
        format!("{name} VECTOR {algorithm} 6 TYPE FLOAT32 DIM {dimension} DISTANCE_METRIC L2")
    };
    let (flat, hnsw) = (of_type("flat", "FLAT"), of_type("hnsw", "HNSW"));
    let create = format!("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC {flat} {hnsw}");
    assert_eq!(show(&client.run(&create.split(' ').collect::<Vec<_>>())), "+\"OK\"");
    for number in 0..UNTOUCHED {
        let far = blob((0..dimension).map(|place| 100.0 + (number * place) as f32));
        let key = format!("d:untouched:{number}");
        let words: [&[u8]; 10] =
            [b"HSET", key.as_bytes(), b"c", b"red", b"n", b"50", b"flat", &far, b"hnsw", &far];
        assert_eq!(show(&client.run(&words)), "4");
    }
    let mut filler = Writer::new(&served, dimension, seed);
    for number in 0..middling {
        let words = filler.store(&format!("d:middling:{number}"), FIELDS, 4.0..6.0);
        assert_eq!(show(&filler.client.run(&words)), "4");
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let mut writer = Writer::new(&served, dimension, seed * 100 + number);
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    writer.step();
                }
            });
        }
        let searchers: Vec<_> = (0..SEARCHERS)
            .map(|number| {
                let mut searcher = Searcher::new(&served, dimension, seed * 100 + 50 + number);
                scope.spawn(move || (0..searches).for_each(|_| searcher.step()))
            })
            .collect();
        let ended: Vec<_> = searchers.into_iter().map(|searcher| searcher.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        for end in ended {
            end.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        }
    });
}

fn blob(components: impl Iterator<Item = f32>) -> Vec<u8> {
    components.flat_map(f32::to_le_bytes).collect()
}

fn vector(random: &mut SmallRng, dimension: usize, components: Range<f32>) -> Vec<u8> {
    blob((0..dimension).map(|_| random.random_range(components.clone())))
}

/// Changes documents, one command after another, and lets time pass from time to time.
struct Writer<'s> {
    served: &'s Served,
    client: Client,
    random: SmallRng,
    dimension: usize,
}

impl<'s> Writer<'s> {
    fn new(served: &'s Served, dimension: usize, seed: u64) -> Self {
        let client = served.client(Protocol::Resp2);
        Self { served, client, random: SmallRng::seed_from_u64(seed), dimension }
    }

    fn step(&mut self) {
        let words = self.command();
        let reply = self.client.run(&words);
        // RENAME and COPY of a deleted document.
        let is_missing = show(&reply).contains("no such key");
        assert!(!reply.is_error() || is_missing, "{:?}: {reply:?}", show_words(&words));
        if self.random.random_bool(0.2) {
            self.served.advance_ms(1);
        }
        if self.random.random_bool(0.05) {
            self.served.expire_due();
        }
    }

    fn command(&mut self) -> Vec<Vec<u8>> {
        let (key, other) = (self.key(), self.key());
        let field = FIELDS[self.random.random_range(0..FIELDS.len())];
        let milliseconds = self.random.random_range(1..20).to_string();
        let text = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
        match self.random.random_range(0..24) {
            0..9 => self.store(&key, FIELDS, NEAR),
            9..13 => self.store(&key, &[field], NEAR),
            13 => text(&["HDEL", &key, field]),
            14 => text(&["DEL", &key]),
            15 => text(&["UNLINK", &key, &other]),
            16 | 17 => text(&["PEXPIRE", &key, &milliseconds]),
            18 | 19 => text(&["HPEXPIRE", &key, &milliseconds, "FIELDS", "1", field]),
            20 => text(&["PERSIST", &key]),
            21 => text(&["HPERSIST", &key, "FIELDS", "1", field]),
            22 => text(&["RENAME", &key, &other]),
            _ if key == other => text(&["DEL", &key]),
            _ => text(&["COPY", &key, &other, "REPLACE"]),
        }
    }

    fn key(&mut self) -> String {
        format!("d:touched:{}", self.random.random_range(0..TOUCHED))
    }

    fn store(&mut self, key: &str, fields: &[&str], components: Range<f32>) -> Vec<Vec<u8>> {
        let mut words = vec![b"HSET".to_vec(), key.into()];
        for &field in fields {
            words.push(field.into());
            words.push(match field {
                "c" => ["red", "blue", "green", "red,blue"][self.random.random_range(0..4)].into(),
                "n" => self.random.random_range(30..70).to_string().into(),
                _ => vector(&mut self.random, self.dimension, components.clone()),
            });
        }
        words
    }
}

fn show_words(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// Sends one filtered query after another, and checks each answer.
struct Searcher {
    client: Client,
    random: SmallRng,
    seed: u64,
    dimension: usize,
}

impl Searcher {
    fn new(served: &Served, dimension: usize, seed: u64) -> Self {
        let client = served.client(Protocol::Resp2);
        Self { client, random: SmallRng::seed_from_u64(seed), seed, dimension }
    }

    fn step(&mut self) {
        let (filter, is_true) = FILTERS[self.random.random_range(0..FILTERS.len())];
        let field = if self.random.random_bool(0.5) { "flat" } else { "hnsw" };
        let question = vector(&mut self.random, self.dimension, NEAR);
        let query = format!("({filter})=>[KNN {K} @{field} $q AS d]");
        let query = if filter == "*" { query.replace("(*)", "*") } else { query };
        let limit = K.to_string();
        let words: [&[u8]; 18] = [
            b"FT.SEARCH",
            b"idx",
            query.as_bytes(),
            b"PARAMS",
            b"2",
            b"q",
            &question,
            b"RETURN",
            b"4",
            b"c",
            b"n",
            field.as_bytes(),
            b"d",
            b"LIMIT",
            b"0",
            limit.as_bytes(),
            b"TIMEOUT",
            b"0",
        ];
        let reply = self.client.run(&words);
        let seen = || format!("seed {}, {query}: {}", self.seed, show(&reply));
        let rows = Row::all(&reply).unwrap_or_else(|| panic!("not rows: {}", seen()));
        assert_eq!(rows.len(), K, "{}", seen());
        for row in &rows {
            assert!(is_true(row), "{} is not of this filter: {}", row.key, seen());
            let vector = row.field(field).unwrap_or_else(|| panic!("{} has no vector: {}", row.key, seen()));
            let (told, true_distance) = (row.distance(), squared_distance(vector, &question));
            let is_near = (told - true_distance).abs() <= 1e-4 * true_distance.max(1.0);
            assert!(is_near, "{}: {told} instead of {true_distance}: {}", row.key, seen());
        }
        assert!(rows.is_sorted_by(|a, b| a.distance() <= b.distance()), "{}", seen());
        let mut keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), K, "a key twice: {}", seen());
    }
}

fn squared_distance(a: &[u8], b: &[u8]) -> f32 {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    floats(a).iter().zip(floats(b)).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// A row of an answer in RESP2.
struct Row<'r> {
    key: String,
    /// Alternating names and values.
    fields: &'r [Value],
}

impl<'r> Row<'r> {
    fn all(reply: &'r Value) -> Option<Vec<Row<'r>>> {
        let rows = reply.as_array()?.get(1..)?.chunks(2);
        rows.map(|row| Some(Row { key: row[0].as_str()?.to_owned(), fields: row.get(1)?.as_array()? }))
            .collect()
    }

    fn field(&self, name: &str) -> Option<&'r [u8]> {
        let pair = self.fields.chunks(2).find(|pair| pair[0].as_str() == Some(name))?;
        pair.get(1)?.as_bytes()
    }

    fn text(&self, name: &str) -> Option<&'r str> {
        str::from_utf8(self.field(name)?).ok()
    }

    fn has(&self, tag: &str) -> bool {
        self.text("c").is_some_and(|tags| tags.split(',').any(|each| each == tag))
    }

    fn is_between(&self, least: f64, most: f64) -> bool {
        let number = self.text("n").and_then(|text| text.parse().ok());
        number.is_some_and(|number: f64| (least..=most).contains(&number))
    }

    fn distance(&self) -> f32 {
        self.text("d").and_then(|text| text.parse().ok()).expect("every row has its distance")
    }
}
