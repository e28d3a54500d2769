//! Random sequences of commands over few keys.

use super::questions::{ask_all, assert_same, assert_true, blob};
use engramdb_testkit::instance::{Instance, Kept};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;

/// In a normal run; PROPTEST_CASES sets another number.
const CASES: u32 = 120;
const DATABASES: [u32; 2] = [0, 1];
/// The number of hashes that `!fill` writes: more than one slice of a backfill processes.
const FILLED: usize = 150;

/// Commands and steps with placeholders, and their frequency: K a key, C tags, N a number, X a vector, T
/// milliseconds, D a database, I an index, L an alias, P a prefix, A an algorithm, M a metric, R what a
/// restart may use.
const TEMPLATES: &[(usize, &str)] = &[
    (24, "HSET K c C n N v X"),
    (6, "HSET K v X"),
    (2, "HSET K c C"),
    (1, "HSET K n N"),
    (1, "HSET K other C"),
    (1, "SET K C"),
    (2, "XADD K * c C"),
    (1, "XGROUP CREATE K g 0 MKSTREAM"),
    (1, "XREADGROUP GROUP g c STREAMS K >"),
    (1, "XTRIM K MAXLEN 1"),
    (1, "HDEL K c"),
    (1, "HDEL K v other"),
    (1, "HDEL K c n v other"),
    (2, "DEL K"),
    (2, "PEXPIRE K T"),
    (1, "EXPIRE K 10"),
    (3, "HPEXPIRE K T FIELDS 1 v"),
    (3, "HPEXPIRE K T FIELDS 2 c n"),
    (1, "HPEXPIRE K T FIELDS 4 c n v other"),
    (1, "HPERSIST K FIELDS 2 c v"),
    (1, "PERSIST K"),
    (2, "RENAME K K"),
    (1, "COPY K K REPLACE"),
    (1, "COPY K K DB D REPLACE"),
    (1, "MOVE K D"),
    (1, "SWAPDB 0 1"),
    (1, "FLUSHDB"),
    (5, "FT.CREATE I PREFIX 1 P SCHEMA c TAG n NUMERIC v VECTOR A 6 TYPE FLOAT32 DIM 4 DISTANCE_METRIC M"),
    (
        2,
        "FT.CREATE I PREFIX 1 P FILTER @n>1||@other=='red' SCHEMA c TAG n NUMERIC v VECTOR A 6 TYPE FLOAT32 DIM 4 \
         DISTANCE_METRIC M",
    ),
    (2, "FT.ALTER I SCHEMA ADD other TAG"),
    (1, "FT.SYNUPDATE I g C"),
    (1, "FT.DICTADD d C"),
    (1, "FT.DICTDEL d C"),
    (2, "FT.SUGADD s C N"),
    (1, "FT.SUGADD s C N INCR PAYLOAD C"),
    (1, "FT.SUGDEL s C"),
    (1, "FT.ALTER I SCHEMA ADD v AS w VECTOR A 6 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2"),
    (2, "FT.ALIASUPDATE L I"),
    (1, "FT.ALIASADD L I"),
    (1, "FT.ALIASDEL L"),
    (1, "FT.DROPINDEX L"),
    (1, "FT.DROPINDEX I"),
    (1, "FT.DROPINDEX I DD"),
    (4, "!clock T"),
    (2, "!back T"),
    (1, "!expire"),
    (3, "!snapshot"),
    (2, "!export"),
    (2, "!restart R"),
    (1, "!database D"),
    (1, "!fill"),
];

/// Ensures that most sequences have something to find.
const PRELUDE: &[&str] = &[
    "FT.CREATE i SCHEMA c TAG n NUMERIC v VECTOR FLAT 6 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2",
    "FT.CREATE j PREFIX 1 a: SCHEMA c TAG n NUMERIC v VECTOR HNSW 6 TYPE FLOAT32 DIM 4 DISTANCE_METRIC COSINE",
];

type Words = Vec<Vec<u8>>;

fn fill(template: &str, choices: [u8; 8]) -> Words {
    let mut choices = choices.into_iter().map(usize::from).cycle();
    let mut word = |word: &str| {
        let list: &[&str] = match word {
            "X" => return vector(choices.next().expect("endless")),
            "K" => &["a:1", "a:2", "a:3", "b:1", "b:2", "c"],
            "C" => &["red", "red,blue", "Blue , green", "", "black", "white"],
            // Most are well-formed: a hash with one that is not is not indexed.
            "N" => &["1", "2", "-3", "2.5", "3", "1e1", "0", "3.5", "no number"],
            "T" => &["1", "999", "1500", "60000"],
            "D" => &["0", "1"],
            "I" => &["i", "j", "k"],
            "L" => &["l", "m"],
            "P" => &["a:", "b:", ""],
            "A" => &["FLAT", "HNSW"],
            "M" => &["L2", "IP", "COSINE"],
            "R" => &["0", "1", "2", "3"],
            other => return other.as_bytes().to_vec(),
        };
        list[choices.next().expect("endless") % list.len()].as_bytes().to_vec()
    };
    template.split(' ').map(&mut word).collect()
}

/// One of few vectors; the first ones are invalid.
fn vector(choice: usize) -> Vec<u8> {
    match choice % 24 {
        0 => blob(&[1.0, 2.0, 3.0]),
        1 => blob(&[1.0, f32::NAN, 0.0, 0.0]),
        2 => Vec::new(),
        3 => blob(&[0.0; 4]),
        number => {
            let component =
                |place: usize| ((number * 7 + place * 5 + number * place) % 11) as f32 / 2.0 - 2.0;
            blob(&[component(0), component(1), component(2), component(3)])
        }
    }
}

/// What occurred in the sequences, so that a test that compares nothing does not pass.
#[derive(Debug, Default)]
struct Seen {
    graphs: usize,
    flat: usize,
    documents_max: usize,
    /// Starts from a snapshot, with a later part of the log.
    tails: usize,
    graphs_loaded: usize,
    altered: usize,
    aliases: usize,
}

fn step(instance: &mut Instance, words: &[Vec<u8>], seen: &mut Seen) {
    let number = |place: usize| -> i64 {
        std::str::from_utf8(&words[place]).expect("digits").parse().expect("a number")
    };
    match words[0].as_slice() {
        b"!clock" => instance.move_clock(number(1)),
        b"!back" => instance.move_clock(-number(1)),
        b"!expire" => _ = instance.expire_due(),
        b"!snapshot" => _ = instance.snapshot(),
        b"!export" => instance.export(),
        b"!restart" => check_restarts(instance, &[Kept::ALL[number(1) as usize]], seen),
        b"!database" => instance.select(number(1) as u32),
        b"!fill" => {
            for number in 0..FILLED {
                let (key, n) = (format!("b:{number}"), (number % 7).to_string());
                let (c, v) = (["red", "green,red", "blue"][number % 3], vector(number % 14));
                instance.run(&[b"HSET", key.as_bytes(), b"c", c.as_bytes(), b"n", n.as_bytes(), b"v", &v]);
            }
        }
        _ => _ = instance.run(words),
    }
}

/// Searches, restarts and searches again; the answers must be the same, and right.
fn check_restarts(instance: &mut Instance, restarts: &[Kept], seen: &mut Seen) {
    // Engine time is restored from the last batch: later reads are not in the log.
    instance.select(0);
    instance.run(&["SET", "moment", ""]);
    let live = ask_all(instance, &DATABASES);
    assert_true(instance, &live, "live");
    for answers in live.values() {
        *(if answers.is_graph() { &mut seen.graphs } else { &mut seen.flat }) +=
            usize::from(answers.found() > 1);
        seen.altered += usize::from(answers.altered_found() > 1);
        seen.aliases += answers.aliases();
        seen.documents_max = seen.documents_max.max(answers.found());
    }
    for &kept in restarts {
        let report = instance.restart_with(kept);
        seen.tails += usize::from(report.snapshot.is_some() && report.batches > 1);
        let loaded = |line: &&String| line.contains("nodes loaded") && !line.contains(": 0 graph");
        seen.graphs_loaded += report.modules.iter().filter(loaded).count();
        let now = ask_all(instance, &DATABASES);
        assert_same(&live, &now, &format!("{kept:?}"));
        // For graphs, equality of the answers is not sufficient: only the documents are compared, not their
        // distances.
        assert_true(instance, &now, &format!("{kept:?}"));
    }
    instance.select(0);
}

fn run(steps: &[(usize, [u8; 8])], seen: &mut Seen) {
    let mut instance = instance_with_indexes();
    for &(number, choices) in steps {
        let template = TEMPLATES.iter().flat_map(|&(times, template)| std::iter::repeat_n(template, times));
        let template = template.clone().nth(number % template.count()).expect("in range");
        step(&mut instance, &fill(template, choices), seen);
    }
    instance.check_follower();
    check_restarts(&mut instance, &Kept::ALL, seen);
    instance.move_clock(1000);
    instance.expire_due();
    let answers = ask_all(&mut instance, &DATABASES);
    assert_true(&instance, &answers, "after the expiry");
}

fn instance_with_indexes() -> Instance {
    let mut instance = super::instance(1);
    for line in PRELUDE {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(!instance.run(&words).reply.is_error(), "{line}");
    }
    instance
}

#[test]
fn any_sequence_gives_the_same_live_replayed_and_from_a_snapshot() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let steps = prop::collection::vec((0..1000usize, any::<[u8; 8]>()), 20..60);
    let seen = RefCell::new(Seen::default());
    let result = TestRunner::new(config).run(&steps, |steps| {
        run(&steps, &mut seen.borrow_mut());
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let seen = seen.into_inner();
    // Fewer cases may reach less; these numbers are a small part of the usual ones.
    if cases >= CASES {
        let usual =
            [seen.graphs, seen.flat, seen.tails, 2 * seen.graphs_loaded, 4 * seen.altered, seen.aliases];
        assert!(usual.iter().all(|&count| count >= cases as usize / 4), "too little was compared: {seen:?}");
        assert!(seen.documents_max > 20, "no filled index was compared: {seen:?}");
    }
    eprintln!("{seen:?}");
}

#[test]
fn documents_at_the_same_distance_are_chosen_by_key_in_any_insertion_order() {
    let mut instance = instance_with_indexes();
    let vector = vector(5);
    // Written in descending order: ids ascend as keys descend, until a start assigns them in the order of the
    // keys.
    for key in ["c", "b:2", "b:1", "a:2", "a:1"] {
        instance.run(&[b"HSET", key.as_bytes(), b"v", &vector]);
    }
    check_restarts(&mut instance, &Kept::ALL, &mut Seen::default());
}
