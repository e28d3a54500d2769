//! Answers that a RediSearch gave to 15,479 queries, compared with ours. Where it refused, the server must
//! refuse. `disagreements.txt` lists the kinds of disagreement with their counts and causes, and only gets
//! shorter. tests/README.md tells how to replay a part, and how to see the queries.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

mod answers;
mod compare;
mod kinds;

use answers::{DataSet, Query};
use compare::{Shape, difference};
use engramdb_resp::Value;
use engramdb_testkit::process::{Client, Server, TempDir, until};
use kinds::Listed;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const SETS_AT_ONCE: usize = 4;

/// Queries that are sent in one write.
const BATCH: usize = 64;

/// Queries of a kind that are shown.
const SHOWN_MAX: usize = 20;

/// The agreement of one test on one data set.
#[derive(Default)]
struct Count {
    queries: usize,
    agree: usize,
}

#[derive(Default)]
struct Report {
    /// By test, type of the keys, and schema.
    tests: BTreeMap<String, Count>,
    kinds: BTreeMap<String, usize>,
    /// Queries that disagree, by kind.
    shown: BTreeMap<String, Vec<String>>,
}

impl Report {
    fn add(&mut self, set: &DataSet, query: &Query, kind: Option<String>, ours: &Value) {
        let variant = variant(set);
        let count = self.tests.entry(format!("{} {variant}", query.test)).or_default();
        count.queries += 1;
        let Some(kind) = kind else {
            count.agree += 1;
            return;
        };
        *self.kinds.entry(kind.clone()).or_default() += 1;
        let shown = self.shown.entry(kind).or_default();
        if shown.len() < SHOWN_MAX {
            let words = query.words.iter().map(|word| format!("{:?}", Value::Bulk(word.clone())));
            let words: Vec<String> = words.collect();
            let theirs = query.answer.as_ref().map_or("an error".to_owned(), |answer| format!("{answer:?}"));
            shown.push(format!(
                "{}: {}\n    theirs  {theirs}\n    ours    {ours:?}",
                set.name,
                words.join(" ")
            ));
        }
    }

    fn merge(&mut self, other: Report) {
        for (test, count) in other.tests {
            let sum = self.tests.entry(test).or_default();
            sum.queries += count.queries;
            sum.agree += count.agree;
        }
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (kind, queries) in other.shown {
            let shown = self.shown.entry(kind).or_default();
            shown.extend(queries);
            shown.truncate(SHOWN_MAX);
        }
    }

    fn table(&self) -> String {
        let mut table = String::from("agree   of     test, type of the keys, schema\n");
        let (mut agree, mut queries) = (0, 0);
        for (test, count) in &self.tests {
            _ = writeln!(table, "{:6} {:6}  {test}", count.agree, count.queries);
            agree += count.agree;
            queries += count.queries;
        }
        _ = writeln!(table, "{agree:6} {queries:6}  all\n\ndisagree, by kind");
        for (kind, count) in &self.kinds {
            _ = writeln!(table, "{count:6}  {kind}");
        }
        table
    }
}

/// The type of a data set's keys, and its schema if that is not the usual one.
fn variant(set: &DataSet) -> String {
    let parts: Vec<&str> = set.name.split('/').collect();
    parts[1..].join(" ").replace(" default", "")
}

/// Builds a data set and asks its queries.
fn replay(client: &mut Client, set: &DataSet) -> Report {
    let mut report = Report::default();
    let built = set.commands.iter().find_map(|command| {
        let reply = client.call(command).expect("the server answers");
        reply.is_error().then_some(reply)
    });
    if let Some(error) = built {
        let kind = format!("not built, {}: {}", variant(set), kinds::of_error(&error));
        for query in &set.queries {
            report.add(set, query, Some(kind.clone()), &error);
        }
        return report;
    }
    wait_until_built(client, &set.commands[0][1]);
    for batch in set.queries.chunks(BATCH) {
        let commands: Vec<&[Vec<u8>]> = batch.iter().map(|query| query.words.as_slice()).collect();
        client.send(&commands).expect("the server reads");
        let replies: Vec<Value> =
            batch.iter().map(|_| client.receive().expect("the server answers")).collect();
        for (query, ours) in batch.iter().zip(&replies) {
            let kind = disagreement(client, set, query, ours);
            report.add(set, query, kind, ours);
        }
    }
    report
}

/// Keys that existed before the index are indexed in the background.
fn wait_until_built(client: &mut Client, index: &[u8]) {
    until("the index is not built", || {
        let info = client.call(&[b"FT.INFO", index]).expect("the server answers");
        info.get("indexing").and_then(Value::as_double) == Some(0.0)
    });
}

fn disagreement(client: &mut Client, set: &DataSet, query: &Query, ours: &Value) -> Option<String> {
    let whole = || client.call(&unlimited(&query.words)).expect("the server answers");
    match &query.answer {
        // It must refuse for the query's fault.
        _ if kinds::is_missing(ours) => Some(format!("refused, {}", kinds::of_error(ours))),
        None if ours.is_error() => None,
        None => Some(format!("accepted, {} {}", query.test, variant(set))),
        Some(_) if ours.is_error() => Some(format!("refused, {}", kinds::of_error(ours))),
        Some(theirs) => difference(&Shape::of(&query.words), theirs, ours, whole)
            .map(|difference| format!("{difference:?}, {} {}", query.test, variant(set))),
    }
}

/// A query without its limits.
fn unlimited(words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let limit: [Vec<u8>; 3] = ["LIMIT", "0", "10000"].map(|word| word.as_bytes().to_vec());
    let mut query: Vec<Vec<u8>> = words.to_vec();
    let places: Vec<usize> = (3..words.len().saturating_sub(2))
        .filter(|place| words[*place].eq_ignore_ascii_case(b"LIMIT"))
        .collect();
    for place in &places {
        query.splice(*place..place + 3, limit.clone());
    }
    if places.is_empty() {
        query.extend(limit);
    }
    query
}

/// Each data set on a server of its own.
fn replay_on_ours(sets: &[DataSet]) -> Report {
    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..SETS_AT_ONCE {
            scope.spawn(|| {
                while let Some(set) = sets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let directory = TempDir::new("recorded");
                    let server = Server::start(directory.path(), &[]);
                    let replayed = replay(&mut server.client(), set);
                    report.lock().expect("no thread panics").merge(replayed);
                }
            });
        }
    });
    report.into_inner().expect("no thread panics")
}

/// All data sets on one server, which they empty before and after.
fn replay_on(port: u16, sets: &[DataSet]) -> Report {
    let mut client = Client::connect(port).expect("a server listens");
    let mut report = Report::default();
    for set in sets {
        empty(&mut client);
        report.merge(replay(&mut client, set));
    }
    empty(&mut client);
    report
}

fn empty(client: &mut Client) {
    let names = client.call(&["FT._LIST"]).expect("the server answers");
    for name in names.as_array().expect("a list") {
        client.call(&[b"FT.DROPINDEX", name.as_bytes().expect("a name")]).expect("the server answers");
    }
    client.call(&["FLUSHALL"]).expect("the server answers");
}

#[test]
fn recorded_answers() {
    let variable = |name: &str| std::env::var(name).ok();
    let part = variable("ENGRAMDB_RECORDED_SET");
    let mut sets = answers::data_sets();
    assert_eq!(sets.iter().map(|set| set.queries.len()).sum::<usize>(), 15_479);
    sets.retain(|set| part.as_ref().is_none_or(|part| set.name.contains(part)));
    assert!(!sets.is_empty(), "no data set has {part:?} in its name");
    sets.sort_by_key(|set| std::cmp::Reverse(set.queries.len()));
    let other = variable("ENGRAMDB_RECORDED_PORT").map(|port| port.parse().expect("a port"));
    let report = match other {
        Some(port) => replay_on(port, &sets),
        None => replay_on_ours(&sets),
    };
    println!("{}", report.table());
    if let Some(wanted) = variable("ENGRAMDB_RECORDED_SHOW") {
        for (kind, queries) in report.shown.iter().filter(|(kind, _)| kind.contains(&wanted)) {
            println!("== {kind}\n{}\n", queries.join("\n"));
        }
    }
    if other.is_some() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/recorded/disagreements.txt");
    let listed = Listed::parse(&std::fs::read_to_string(&path).unwrap_or_default());
    if part.is_none() && variable("ENGRAMDB_BLESS").as_deref() == Some("1") {
        let (before, now) = (listed.sum(), report.kinds.values().sum::<usize>());
        assert!(now <= before, "{now} queries disagree, {before} before: the list gets only shorter");
        std::fs::write(&path, listed.with(&report.kinds)).expect("the list is writable");
        return;
    }
    let complaints = listed.complaints(&report.kinds, part.is_some());
    assert!(complaints.is_empty(), "tests/it/recorded/disagreements.txt:\n{complaints}");
}
