//! Random texts and random queries whose scores are compared, by seed.
//!
//! Left out is what docs/compatibility.md lists: unions inside intersections and parts without words of
//! several terms there, of which RediSearch 2.10.5 has other scores; numbers as words; removed documents,
//! which count there until they are collected; BM25STD, which has other constants since Redis 8; and TFIDF,
//! because 2.10.5 counts one occurrence too many beside a vector.

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

pub const SEEDS: u64 = 8;
const DOCUMENTS: usize = 60;
const QUERIES: usize = 150;

const SCHEMA: &str = "FT.CREATE idx PREFIX 1 d: STOPWORDS 0 SCHEMA c TAG t TEXT NOSTEM b TEXT NOSTEM WEIGHT 2 n NUMERIC \
                      v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2";
const WORDS: &[&str] = &["hello", "world", "foo", "food", "bar", "barista", "baz", "wörld", "qux"];
const TAGS: &[&str] = &["red", "green", "blue"];
const SCORERS: &[&str] = &["TFIDF.DOCNORM", "BM25", "DISMAX", "DOCSCORE"];

/// All commands of a seed: an index, its documents, queries.
pub fn commands(seed: u64) -> Vec<Vec<Vec<u8>>> {
    let random = &mut SmallRng::seed_from_u64(seed);
    let mut commands: Vec<Vec<Vec<u8>>> =
        vec![SCHEMA.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()];
    commands.extend((0..DOCUMENTS).map(|number| document(random, number)));
    commands.extend((0..QUERIES).map(|_| search(random)));
    commands
}

fn pick<'a>(random: &mut SmallRng, among: &[&'a str]) -> &'a str {
    among.choose(random).expect("there are some")
}

fn text(random: &mut SmallRng, most: usize) -> String {
    let count = random.random_range(1..=most);
    (0..count).map(|_| pick(random, WORDS)).collect::<Vec<_>>().join(" ")
}

fn document(random: &mut SmallRng, number: usize) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = vec![b"HSET".to_vec(), format!("d:{number}").into_bytes()];
    let mut put = |name: &str, value: Vec<u8>| words.extend([name.as_bytes().to_vec(), value]);
    put("t", text(random, 7).into_bytes());
    if random.random_bool(0.5) {
        put("b", text(random, 3).into_bytes());
    }
    put("c", pick(random, TAGS).as_bytes().to_vec());
    // Of several numbers, 2.10.5 makes several tree nodes.
    put("n", b"1".to_vec());
    put("v", (number as f32).to_le_bytes().to_vec());
    words
}

fn part(random: &mut SmallRng) -> String {
    let word = pick(random, WORDS);
    match random.random_range(0..8) {
        0 => format!("@t:{word}"),
        1 => format!("@b:{word}"),
        2 => {
            let others: Vec<&str> = WORDS.iter().copied().filter(|other| *other != word).collect();
            format!("\"{word} {}\"", pick(random, &others))
        }
        3 => format!("@c:{{{}}}", pick(random, TAGS)),
        4 => format!("({word} {})", pick(random, WORDS)),
        _ => word.to_owned(),
    }
}

fn intersection(random: &mut SmallRng) -> String {
    let mut parts = vec![pick(random, WORDS).to_owned()];
    (0..random.random_range(0..3)).for_each(|_| parts.push(part(random)));
    parts.shuffle(random);
    if random.random_bool(0.25) {
        parts.push(format!("~{}", pick(random, WORDS)));
    }
    if random.random_bool(0.2) {
        parts.push(format!("-{}", pick(random, WORDS)));
    }
    parts.join(" ")
}

fn query(random: &mut SmallRng) -> String {
    match random.random_range(0..10) {
        0..3 => format!("({}) | ({})", intersection(random), intersection(random)),
        3 => format!("{}|{}", pick(random, WORDS), pick(random, WORDS)),
        4 => format!("{}*", pick(random, WORDS).chars().take(2).collect::<String>()),
        5 => format!("(~({}))=>[KNN 9 @v $q AS d]", intersection(random)),
        _ => intersection(random),
    }
}

fn search(random: &mut SmallRng) -> Vec<Vec<u8>> {
    let query = query(random);
    let mut words: Vec<Vec<u8>> = ["FT.SEARCH", "idx", &query, "WITHSCORES", "NOCONTENT", "SCORER"]
        .iter()
        .chain([&pick(random, SCORERS)])
        .chain(&["LIMIT", "0", "1000", "DIALECT", "2", "PARAMS", "2", "q"])
        .map(|word| word.as_bytes().to_vec())
        .collect();
    words.push(random.random_range(0.0..60.0f32).to_le_bytes().to_vec());
    let has_union = query.contains(['|', '*']);
    if random.random_bool(0.2) && !has_union {
        words.extend([&b"FILTER"[..], b"n", b"0", b"9"].map(<[u8]>::to_vec));
    }
    words
}
