//! Random sequences of commands over documents with texts, positions, shapes and several vectors, in hashes
//! and in JSON: the same questions have the same answers, scores included, live, after a replay, and after a
//! snapshot and the log's tail.

use super::asked::{VOCABULARY, answer, pick, point, question, rows};
use engramdb_resp::Value;
use engramdb_testkit::instance::{Instance, Kept};
use engramdb_testkit::words::split_words;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// In a normal run; PROPTEST_CASES sets another number.
const CASES: u32 = 60;
/// Questions to each index in a comparison.
const QUESTIONS: u64 = 30;
/// Documents of each type that `!fill` writes: more than one slice of a backfill processes.
const FILLED: usize = 150;

/// Commands and steps with placeholders, and their frequency: K a hash, J a JSON document, T a text, W a
/// word, L a language, S a score, N a number, C a tag, G a position, P a shape, D a JSON text of a document,
/// A a JSON array of vectors, V a vector in it, I an index, O options of an index, M milliseconds, R what a
/// restart may use.
const TEMPLATES: &[(usize, &str)] = &[
    (14, "HSET K t T u T n N c C"),
    (4, "HSET K t T"),
    (4, "HSET K w T l L sc S"),
    (4, "HSET K g G"),
    (4, "HSET K s P p P"),
    (2, "HSET K l L"),
    (1, "HSET K sc S"),
    (2, "HDEL K t"),
    (1, "HDEL K g s u"),
    (2, "DEL K"),
    (1, "DEL J"),
    (1, "PEXPIRE K M"),
    (1, "HPEXPIRE K M FIELDS 2 t g"),
    (1, "HPERSIST K FIELDS 2 t g"),
    (1, "PEXPIRE J M"),
    (2, "RENAME K K"),
    (2, "RENAME J J"),
    (1, "COPY K K REPLACE"),
    (2, "COPY J J REPLACE"),
    (1, "FLUSHDB"),
    (14, "JSON.SET J $ D"),
    (3, "JSON.SET J $.t T"),
    (3, "JSON.SET J $.v A"),
    (2, "JSON.SET J $.x A"),
    (3, "JSON.ARRAPPEND J $.v V"),
    (2, "JSON.ARRPOP J $.v 0"),
    (1, "JSON.ARRTRIM J $.x 0 1"),
    (1, "JSON.CLEAR J $.v"),
    (2, "JSON.ARRAPPEND J $.ts T"),
    (1, "JSON.STRAPPEND J $.t T"),
    (1, "JSON.NUMINCRBY J $.n 1"),
    (1, "JSON.DEL J $.s"),
    (1, "JSON.MERGE J $ D"),
    (2, "FT.CREATE k PREFIX 1 a: O SCHEMA t TEXT u TEXT w TEXT g GEO s GEOSHAPE FLAT n NUMERIC c TAG"),
    (2, "FT.ALTER I SCHEMA ADD u AS more TEXT WEIGHT 3"),
    (1, "FT.ALTER I SCHEMA ADD p AS q GEOSHAPE SPHERICAL"),
    (1, "FT.SYNUPDATE I group W W"),
    (1, "FT.DROPINDEX k"),
    (3, "!clock M"),
    (1, "!back M"),
    (1, "!expire"),
    (3, "!snapshot"),
    (2, "!export"),
    (2, "!restart R"),
    (1, "!fill"),
];

const PRELUDE: &[&str] = &[
    "FT.CREATE h PREFIX 1 a: LANGUAGE_FIELD l SCORE_FIELD sc SCHEMA t TEXT SORTABLE u TEXT WEIGHT 2.5 NOSTEM \
     w TEXT PHONETIC dm:en g GEO s GEOSHAPE FLAT p GEOSHAPE SPHERICAL n NUMERIC SORTABLE c TAG",
    "FT.CREATE j ON JSON PREFIX 1 j: SCHEMA $.t AS t TEXT $.ts[*] AS ts TEXT WEIGHT 2 $.c[*] AS c TAG $.n AS n NUMERIC \
     SORTABLE $.g AS g GEO $.s AS s GEOSHAPE FLAT $.v[*] AS v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 \
     $.x[*] AS x VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2",
];

const POSITIONS: &[&str] = &["0,0", "1,1", "0.0001,0.0001", "2,2.5", "-179.9,10", "1.0005,1", "no position"];
const POLYGONS: &[&str] = &[
    "POLYGON((1 1, 1 4, 4 4, 4 1, 1 1))",
    "POLYGON((2 2, 2 8, 8 8, 8 2, 2 2))",
    "POINT(2 2)",
    "POLYGON((-9 -9, -9 -8, -8 -8, -8 -9, -9 -9))",
    "POLYGON((0 0, 1 1))",
];

fn text(random: &mut SmallRng) -> String {
    let length = if random.random_bool(0.05) { 300 } else { random.random_range(0..8) };
    (0..length).map(|_| pick(random, VOCABULARY)).collect::<Vec<_>>().join(" ")
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn vector(random: &mut SmallRng) -> String {
    match random.random_range(0..20) {
        // Documents with these are not indexed, or have one vector less.
        0 => "[1]".to_owned(),
        1 => "null".to_owned(),
        _ => format!("{:?}", point(random)),
    }
}

fn vectors(random: &mut SmallRng) -> String {
    let count = random.random_range(0..5);
    format!("[{}]", (0..count).map(|_| vector(random)).collect::<Vec<_>>().join(","))
}

fn document(random: &mut SmallRng) -> String {
    let mut members = Vec::new();
    let mut add = |random: &mut SmallRng, share: f64, name: &str, value: &dyn Fn(&mut SmallRng) -> String| {
        if random.random_bool(share) {
            members.push(format!("\"{name}\":{}", value(random)));
        }
    };
    add(random, 0.8, "t", &|random| quoted(&text(random)));
    add(random, 0.4, "ts", &|random| {
        format!(
            "[{}]",
            (0..random.random_range(0..4)).map(|_| quoted(&text(random))).collect::<Vec<_>>().join(",")
        )
    });
    add(random, 0.5, "c", &|random| {
        format!("[{}]", pick(random, &["\"red\"", "\"red\",\"blue\"", "\"green\",null", ""]))
    });
    add(random, 0.5, "n", &|random| random.random_range(-3..5).to_string());
    add(random, 0.4, "g", &|random| quoted(pick(random, POSITIONS)));
    add(random, 0.4, "s", &|random| quoted(pick(random, POLYGONS)));
    add(random, 0.7, "v", &vectors);
    add(random, 0.7, "x", &vectors);
    format!("{{{}}}", members.join(","))
}

fn fill(template: &str, seed: u64) -> Vec<Vec<u8>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let random = &mut random;
    let is_json = template.starts_with("JSON");
    let word = |word: &str| {
        let list: &[&str] = match word {
            "D" => return document(random),
            "A" => return vectors(random),
            "V" => return vector(random),
            "T" if is_json => return quoted(&text(random)),
            "T" => return text(random),
            "K" => &["a:1", "a:2", "a:3", "a:4", "a:5", "b:1"],
            "J" => &["j:1", "j:2", "j:3", "j:4", "j:5", "b:2"],
            "W" => VOCABULARY,
            "L" => &["english", "german", "french", "klingon", ""],
            "S" => &["0.5", "0", "1", "no score"],
            "N" => &["1", "2", "-1", "0.5", "no number"],
            "C" => &["red", "red,blue", "green", ""],
            "G" => POSITIONS,
            "P" => POLYGONS,
            "I" => &["h", "j", "k"],
            "M" => &["1", "999", "1500", "60000"],
            "R" => &["0", "1", "2", "3"],
            other => return other.to_owned(),
        };
        pick(random, list).to_owned()
    };
    let mut words: Vec<Vec<u8>> = template.split(' ').map(word).map(String::into_bytes).collect();
    if let Some(place) = words.iter().position(|word| word == b"O") {
        let options =
            pick(random, &["", "NOOFFSETS", "NOFREQS", "STOPWORDS 0", "LANGUAGE german", "NOFIELDS"]);
        words.splice(
            place..=place,
            options.split(' ').filter(|word| !word.is_empty()).map(|word| word.into()),
        );
    }
    words
}

/// What occurred in the sequences, so that a test that compares nothing does not pass.
#[derive(Debug, Default)]
struct Seen {
    questions: usize,
    errors: usize,
    with_rows: usize,
    with_many_rows: usize,
    tails: usize,
}

/// The answers by index and seed.
type Answers = BTreeMap<(Vec<u8>, u64), Value>;

fn ask_all(instance: &mut Instance, first: u64) -> Answers {
    while instance.engine().run_background() {}
    let Value::Set(names) = instance.run(&["FT._LIST"]).reply else { panic!("FT._LIST returns a set") };
    let mut answers = Answers::new();
    for name in names {
        let name = name.as_bytes().expect("a name").to_vec();
        for seed in first..first + QUESTIONS {
            let reply = answer(instance, &question(seed, &name, name == b"j"));
            answers.insert((name.clone(), seed), reply);
        }
    }
    answers
}

/// Asks, restarts and asks again.
fn check_restarts(instance: &mut Instance, restarts: &[Kept], (first, seen): (u64, &mut Seen)) {
    // Engine time is restored from the last batch: later reads are not in the log.
    instance.run(&["SET", "moment", ""]);
    let live = ask_all(instance, first);
    for reply in live.values() {
        seen.questions += 1;
        seen.errors += usize::from(reply.is_error());
        seen.with_rows += usize::from(rows(reply) > 0);
        seen.with_many_rows += usize::from(rows(reply) > 3);
    }
    for &kept in restarts {
        let report = instance.restart_with(kept);
        seen.tails += usize::from(report.snapshot.is_some() && report.batches > 1);
        let now = ask_all(instance, first);
        assert!(live.keys().eq(now.keys()), "{kept:?}: {:?} became {:?}", live.keys(), now.keys());
        for (((name, seed), live), now) in live.iter().zip(now.values()) {
            let words = question(*seed, name, name == b"j");
            let words: Vec<String> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
            assert_eq!(live, now, "{kept:?}: {}", words.join(" "));
        }
    }
}

fn step(instance: &mut Instance, words: &[Vec<u8>], asked: (u64, &mut Seen)) {
    let number = |place: usize| -> i64 {
        std::str::from_utf8(&words[place]).expect("digits").parse().expect("a number")
    };
    match words[0].as_slice() {
        b"!clock" => instance.move_clock(number(1)),
        b"!back" => instance.move_clock(-number(1)),
        b"!expire" => _ = instance.expire_due(),
        b"!snapshot" => _ = instance.snapshot(),
        b"!export" => instance.export(),
        b"!restart" => check_restarts(instance, &[Kept::ALL[number(1) as usize]], asked),
        b"!fill" => {
            for seed in 0..FILLED as u64 {
                let hash = fill("HSET a: t T u T n N c C g G s P", seed);
                let json = fill("JSON.SET j: $ D", seed);
                for mut words in [hash, json] {
                    words[1].extend(seed.to_string().bytes());
                    instance.run(&words);
                }
            }
        }
        _ => _ = instance.run(words),
    }
}

fn run(steps: &[(usize, u64)], seen: &mut Seen) {
    let mut instance = super::instance(1);
    for line in PRELUDE {
        assert!(!instance.run(&split_words(line)).reply.is_error(), "{line}");
    }
    let first = steps.first().map_or(0, |(_, seed)| *seed % 1_000_000);
    for &(number, seed) in steps {
        let template = TEMPLATES.iter().flat_map(|&(times, template)| std::iter::repeat_n(template, times));
        let template = template.clone().nth(number % template.count()).expect("in range");
        step(&mut instance, &fill(template, seed), (first, seen));
    }
    instance.check_follower();
    check_restarts(&mut instance, &Kept::ALL, (first, seen));
}

#[test]
fn texts_positions_shapes_and_several_vectors_are_the_same_live_replayed_and_from_a_snapshot() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let steps = prop::collection::vec((0..1000usize, any::<u64>()), 20..60);
    let seen = RefCell::new(Seen::default());
    // The same sequences in each run, unless their number is asked for: then new ones.
    let mut runner = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let result = runner.run(&steps, |steps| {
        run(&steps, &mut seen.borrow_mut());
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let seen = seen.into_inner();
    // Fewer cases may reach less; these numbers are a part of the usual ones.
    if cases >= CASES {
        let shares = [(4 * seen.with_rows, seen.questions), (10 * seen.with_many_rows, seen.questions)];
        assert!(shares.iter().all(|(some, all)| some >= all), "too little was found: {seen:?}");
        assert!(seen.errors * 20 < seen.questions, "too much was refused: {seen:?}");
        assert!(seen.tails > 4, "{seen:?}");
    }
    eprintln!("{seen:?}");
}
