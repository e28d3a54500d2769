//! The answer of a search is that of one moment, at which the reply leaves the keyspace: whatever is written,
//! deleted and expires while it runs, it is what a look at every hash finds then.

use crate::harness::{Server, blob};
use std::cell::Cell;
use std::collections::BTreeMap;

const DOCUMENTS: u64 = 900;
/// Writes between two looks in the larger turns: more than a last look takes.
const MANY: u64 = 300;

/// A hash as it reads: tag, number and place.
#[derive(Clone, Debug, PartialEq)]
struct Document {
    tag: Option<String>,
    number: Option<f64>,
    at: Option<f64>,
}

fn random(state: &Cell<u64>) -> u64 {
    let next = state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    state.set(next);
    next >> 33
}

fn key(number: u64) -> String {
    format!("d:{number:03}")
}

/// A write, a deletion, or something that expires.
fn change(server: &Server, state: &Cell<u64>) {
    let key = key(random(state) % DOCUMENTS);
    let fields = ["c", "n", "v", "tmp"];
    let field = fields[random(state) as usize % fields.len()];
    match random(state) % 10 {
        0 => _ = server.line(&format!("DEL {key}")),
        1 => _ = server.line(&format!("HDEL {key} {field}")),
        2 => _ = server.line(&format!("PEXPIRE {key} 1")),
        3 | 4 => _ = server.line(&format!("HPEXPIRE {key} 1 FIELDS 1 {field}")),
        5 => _ = server.line(&format!("HSET {key} tmp 2")),
        _ => write(server, &key, state),
    }
}

fn write(server: &Server, key: &str, state: &Cell<u64>) {
    let number = random(state).to_string();
    // Places come twice, so that keys decide.
    let vector = blob(&[(random(state) % 400) as f32, 0.0]);
    let tag: &[u8] = if random(state).is_multiple_of(3) { b"y" } else { b"x" };
    server.hset(key, &[("c", tag), ("n", number.as_bytes()), ("v", &vector), ("tmp", b"1")]);
}

/// Waits until all has expired that was to.
fn let_expire(server: &Server) {
    server.line("SET last 1 PX 1");
    while server.line("EXISTS last") == "1" {}
}

/// The places on the line, by how a vector is shown in a reply.
fn places(server: &Server) -> BTreeMap<String, f64> {
    let shown = |at: f64| {
        server.run(&[b"SET", b"place", &blob(&[at as f32, 0.0])]);
        server.line("GET place")
    };
    (0..400).map(f64::from).map(|at| (shown(at), at)).collect()
}

/// All documents, by their hashes alone.
fn all(server: &Server, places: &BTreeMap<String, f64>) -> BTreeMap<String, Document> {
    let document = |key: &String| {
        let field = |name: &str| {
            let reply = server.line(&format!("HGET {key} {name}"));
            (reply != "nil").then_some(reply)
        };
        let number = field("n").map(|number| number.trim_matches('"').parse().expect("a number was written"));
        Document { tag: field("c"), number, at: field("v").map(|vector| places[&vector]) }
    };
    let keys = (0..DOCUMENTS).map(key).filter(|key| server.line(&format!("EXISTS {key}")) == "1");
    keys.map(|key| (key.clone(), document(&key))).collect()
}

/// A search, and what it means.
struct Case {
    filter: &'static str,
    is_meant: fn(&Document) -> bool,
    k: Option<usize>,
    sorted: bool,
    page: (usize, usize),
}

impl Case {
    fn words(&self) -> Vec<String> {
        let query = match self.k {
            Some(k) => format!("({})=>[KNN {k} @v $q]", self.filter),
            None => self.filter.to_owned(),
        };
        let query = query.replace("(*)", "*");
        let (offset, limit) = self.page;
        let mut words = vec!["FT.SEARCH".to_owned(), "idx".to_owned(), query];
        if self.sorted {
            words.extend(["SORTBY", "n", "DESC"].map(str::to_owned));
        }
        words.extend(["NOCONTENT", "LIMIT"].map(str::to_owned));
        words.extend([offset.to_string(), limit.to_string()]);
        words.extend(["TIMEOUT", "0", "PARAMS", "2", "q"].map(str::to_owned));
        words
    }

    /// What a look at each document finds: how many rows, and those of the page.
    fn expected(&self, all: &BTreeMap<String, Document>) -> (usize, Vec<String>) {
        let mut rows: Vec<(&String, &Document)> =
            all.iter().filter(|(_, one)| (self.is_meant)(one)).collect();
        if let Some(k) = self.k {
            rows.retain(|(_, document)| document.at.is_some());
            // Equally near ones by key, as they come.
            rows.sort_by(|(_, a), (_, b)| a.at.partial_cmp(&b.at).expect("a number"));
            rows.truncate(k);
        }
        if self.sorted {
            rows.sort_by(|(_, a), (_, b)| match (a.number, b.number) {
                (Some(a), Some(b)) => b.total_cmp(&a),
                (a, b) => b.is_some().cmp(&a.is_some()),
            });
        }
        let page = rows.iter().skip(self.page.0).take(self.page.1);
        (rows.len(), page.map(|(key, _)| (*key).clone()).collect())
    }

    /// Whether the order is known: without SORTBY and KNN, and among equals, it is that in which documents
    /// were indexed.
    fn comparable(&self, mut page: Vec<String>, all: &BTreeMap<String, Document>) -> Vec<String> {
        if self.k.is_none() {
            if self.sorted {
                page.retain(|key| all.get(key).is_none_or(|document| document.number.is_some()));
            } else {
                page.sort();
            }
        }
        page
    }
}

const CASES: &[Case] = &[
    Case { filter: "*", is_meant: |_| true, k: Some(7), sorted: false, page: (0, 10) },
    Case { filter: "*", is_meant: |_| true, k: Some(400), sorted: false, page: (350, 60) },
    Case { filter: "*", is_meant: |_| true, k: Some(500), sorted: true, page: (100, 300) },
    Case { filter: "@c:{x}", is_meant: |one| is_tag(one, "x"), k: Some(6), sorted: false, page: (0, 10) },
    Case {
        filter: "-@c:{x}",
        is_meant: |one| !is_tag(one, "x"),
        k: Some(300),
        sorted: true,
        page: (280, 30),
    },
    Case { filter: "@c:{x}", is_meant: |one| is_tag(one, "x"), k: Some(350), sorted: false, page: (0, 350) },
    Case {
        filter: "-@n:[0 +inf]",
        is_meant: |one| one.number.is_none(),
        k: Some(20),
        sorted: true,
        page: (0, 20),
    },
    Case { filter: "*", is_meant: |_| true, k: None, sorted: false, page: (0, 900) },
    Case { filter: "-@c:{x}", is_meant: |one| !is_tag(one, "x"), k: None, sorted: false, page: (0, 900) },
    Case { filter: "*", is_meant: |_| true, k: None, sorted: true, page: (20, 400) },
    Case { filter: "@c:{y}", is_meant: |one| is_tag(one, "y"), k: None, sorted: true, page: (0, 10) },
];

fn is_tag(document: &Document, tag: &str) -> bool {
    document.tag.as_deref().is_some_and(|has| has.trim_matches('"') == tag)
}

/// Whatever happens between the looks of a search, its answer is that of the last moment.
fn check_all(turns: u64, changes: &dyn Fn(u64) -> u64) {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC \
                  v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    let state = Cell::new(7);
    (0..DOCUMENTS).for_each(|number| write(&server, &key(number), &state));
    let places = places(&server);
    let origin = blob(&[0.0, 0.0]);
    for turn in 0..turns {
        for case in CASES {
            // From time to time all is written anew: otherwise little would be left.
            (0..DOCUMENTS / 2).for_each(|_| write(&server, &key(random(&state) % DOCUMENTS), &state));
            let looks = Cell::new(0);
            let between = || {
                looks.set(looks.get() + 1);
                (0..changes(looks.get())).for_each(|_| change(&server, &state));
                let_expire(&server);
            };
            let words = case.words();
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).chain([&origin[..]]).collect();
            let (reply, _) = server.run_between_looks(&words, &between);
            let all = all(&server, &places);
            let (total, page) = case.expected(&all);
            let mut found =
                reply.trim_matches(['[', ']']).split(", ").map(|word| word.trim_matches('"').to_owned());
            let counted = found.next().expect("a reply begins with a number");
            let query = format!("turn {turn}: {}", case.words().join(" "));
            assert_eq!(counted, total.to_string(), "{query}");
            assert_eq!(case.comparable(found.collect(), &all), case.comparable(page, &all), "{query}");
        }
    }
}

#[test]
fn the_answer_is_that_of_the_last_moment_where_little_happens_between_the_looks() {
    check_all(8, &|_| 5);
}

#[test]
fn the_answer_is_that_of_the_last_moment_where_much_happens_between_the_looks() {
    // Less each time, as where a search comes back for less each time.
    check_all(3, &|look| MANY / look);
}

#[test]
fn the_answer_is_that_of_the_last_moment_where_much_happens_each_time() {
    check_all(1, &|_| 20);
}
