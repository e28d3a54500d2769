//! Random JSON documents with several values at a path, and random queries over them, by seed.
//!
//! Left out is what RediSearch 2.10.5 does otherwise: a SORTABLE field with an empty array makes a document
//! unreadable there, and circles around a pole miss positions.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// The number of seeds in a run; each has its own documents.
pub const SEEDS: u64 = 8;
const DOCUMENTS: usize = 60;
const QUERIES: usize = 150;

const SCHEMA: &str = "FT.CREATE idx ON JSON PREFIX 1 j: SCHEMA $.u AS u NUMERIC SORTABLE $.t AS t TAG SORTABLE $.tt[*] AS tt TAG \
     $.n AS n NUMERIC SORTABLE $.m AS m NUMERIC $..k AS k NUMERIC $.x AS x TEXT NOSTEM SORTABLE $.xs AS xs TEXT NOSTEM \
     $.g AS g GEO $.b AS b TAG INDEXMISSING $.t AS same TAG CASESENSITIVE $.e AS e TAG INDEXEMPTY \
     $.v[*] AS v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 \
     $.w AS w VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC COSINE";

const WORDS: &[&str] = &["red", "Blue", "dark green", "a,b", "x-y", "ünï"];

/// All commands of a seed: an index, its documents, queries.
pub fn commands(seed: u64) -> Vec<Vec<Vec<u8>>> {
    let random = &mut SmallRng::seed_from_u64(seed);
    let mut commands = vec![split(SCHEMA)];
    for number in 0..2 * DOCUMENTS {
        // The second half replaces some, changes parts of them, or deletes them.
        let key =
            format!("j:{}", if number < DOCUMENTS { number } else { random.random_range(0..DOCUMENTS) });
        let changes = if number < DOCUMENTS { 0 } else { random.random_range(0..6) };
        commands.push(match changes {
            1 => words(&["DEL", &key]),
            2 | 3 => {
                words(&["JSON.DEL", &key, pick(random, &["$.t", "$.v[0]", "$.n", "$.o", "$.w", "$.tt[0]"])])
            }
            4 => words(&["JSON.ARRAPPEND", &key, "$.v", &vector(random)]),
            5 => words(&["JSON.SET", &key, "$.n", &number_or_list(random)]),
            _ => words(&["JSON.SET", &key, "$", &document(random, &key)]),
        });
    }
    commands.extend((0..QUERIES).map(|_| search(random)));
    commands
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn split(line: &str) -> Vec<Vec<u8>> {
    line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

fn pick<'a>(random: &mut SmallRng, among: &[&'a str]) -> &'a str {
    among.choose(random).expect("there are some")
}

fn word(random: &mut SmallRng) -> String {
    format!("{:?}", pick(random, WORDS))
}

fn list(random: &mut SmallRng, least: usize, each: fn(&mut SmallRng) -> String) -> String {
    let count = random.random_range(least..4);
    let items: Vec<String> = (0..count).map(|_| each(random)).collect();
    format!("[{}]", items.join(","))
}

fn number(random: &mut SmallRng) -> String {
    (f64::from(random.random_range(-40..40)) / 4.0).to_string()
}

fn number_or_list(random: &mut SmallRng) -> String {
    if random.random_bool(0.6) { number(random) } else { list(random, 1, number) }
}

fn vector(random: &mut SmallRng) -> String {
    let [x, y]: [f32; 2] = std::array::from_fn(|_| random.random_range(-4.0..4.0f32));
    format!("[{x},{y}]")
}

fn position(random: &mut SmallRng) -> String {
    let [x, y] = [1800, 600].map(|most| f64::from(random.random_range(-most..most)) / 10.0);
    format!("\"{x},{y}\"")
}

/// What no field but one takes.
fn odd(random: &mut SmallRng) -> String {
    pick(random, &["{\"a\":1}", "[1,\"a\"]", "true", "[[1],[2]]", "[true]", "5", "\"text\"", "[[\"a\"]]"])
        .to_owned()
}

fn document(random: &mut SmallRng, key: &str) -> String {
    let is_odd = random.random_bool(0.15);
    let mut members = vec![format!("\"u\":{}", &key[2..])];
    let mut put = |random: &mut SmallRng, name: &str, kinds: &[fn(&mut SmallRng) -> String]| {
        if random.random_bool(0.8) {
            let kind =
                if is_odd && random.random_bool(0.2) { odd } else { *kinds.choose(random).expect("one") };
            members.push(format!("{name:?}:{}", kind(random)));
        }
    };
    let null: fn(&mut SmallRng) -> String = |_| "null".to_owned();
    let boolean: fn(&mut SmallRng) -> String = |random| random.random_bool(0.5).to_string();
    put(random, "t", &[word, |random| list(random, 1, word), null, boolean]);
    put(random, "tt", &[|random| list(random, 0, word), |random| format!("[null,{}]", word(random))]);
    put(random, "n", &[number_or_list, number, null]);
    put(random, "m", &[number, |random| format!("[{},null]", number(random))]);
    put(random, "x", &[word, |random| format!("[{},{}]", word(random), word(random)), null]);
    put(random, "xs", &[word, |random| list(random, 1, word)]);
    put(random, "g", &[position, |random| list(random, 1, position)]);
    put(random, "b", &[boolean, word]);
    put(random, "e", &[|_| "\"\"".to_owned(), |_| "[\"\"]".to_owned(), word, |_| "[]".to_owned()]);
    put(random, "v", &[|random| list(random, 0, vector), |random| format!("[{},null]", vector(random))]);
    put(random, "w", &[vector, null]);
    let k = |random: &mut SmallRng| format!("{{\"k\":{}}}", number(random));
    put(random, "o", &[k, |random| list(random, 1, |random| format!("{{\"k\":{}}}", number(random)))]);
    format!("{{{}}}", members.join(","))
}

fn escaped(text: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || !letter.is_ascii();
    text.chars()
        .flat_map(|letter| [if plain(letter) { None } else { Some('\\') }, Some(letter)])
        .flatten()
        .collect()
}

fn leaf(random: &mut SmallRng) -> String {
    let tag = escaped(pick(random, WORDS));
    let (least, most) = (number(random), number(random));
    match random.random_range(0..13) {
        0 => format!("@t:{{{tag}}}"),
        1 => format!("@tt:{{{tag}}}"),
        2 => format!("@same:{{{tag}}}"),
        3 => format!("@n:[{least} {most}]"),
        4 => format!("@m:[{least} {most}]"),
        5 => format!("@k:[{least} {most}]"),
        6 => format!("@x:({})", pick(random, &["red", "blue", "dark", "green"])),
        7 => format!("@xs:\"{}\"", pick(random, &["dark green", "red", "blue"])),
        8 => {
            let [x, y] = [170, 40].map(|most| random.random_range(-most..most));
            format!("@g:[{x} {y} {} km]", random.random_range(100..2000))
        }
        9 => "ismissing(@b)".to_owned(),
        10 => "@b:{true}".to_owned(),
        11 => "@e:{\"\"}".to_owned(),
        _ => format!("@v:[VECTOR_RANGE {} $q]", random.random_range(1..20)),
    }
}

fn filter(random: &mut SmallRng) -> String {
    match random.random_range(0..6) {
        0 => "*".to_owned(),
        1 => format!("({} {})", leaf(random), leaf(random)),
        2 => format!("({} | {})", leaf(random), leaf(random)),
        _ => leaf(random),
    }
}

fn search(random: &mut SmallRng) -> Vec<Vec<u8>> {
    let filter = filter(random);
    let query = match random.random_range(0..3) {
        0 => {
            format!("({filter})=>[KNN {} @{} $q AS d]", random.random_range(1..20), pick(random, &["v", "w"]))
                .replace("(*)", "*")
        }
        _ => filter,
    };
    let mut words: Vec<Vec<u8>> = words(&["FT.SEARCH", "idx", &query]);
    let mut put = |option: &str| words.extend(split(option));
    put(pick(
        random,
        &["NOCONTENT", "", "RETURN 4 t n k m", "RETURN 5 $.o AS o $.xs x", "RETURN 2 u $.v", "RETURN 2 $ d"],
    ));
    match random.random_range(0..3) {
        0 => {
            put(pick(random, &["SORTBY u", "SORTBY u DESC WITHSORTKEYS LIMIT 2 7", "SORTBY u LIMIT 0 1000"]))
        }
        _ => put("LIMIT 0 1000"),
    }
    put(pick(random, &["DIALECT 2", "DIALECT 2", "DIALECT 3", "DIALECT 3 FORMAT EXPAND"]));
    put("PARAMS 2 q");
    let vector: [f32; 2] = std::array::from_fn(|_| random.random_range(-4.0..4.0f32));
    words.push(vector.iter().flat_map(|component| component.to_le_bytes()).collect());
    words
}
