//! Random documents and random queries over them, by seed: tags, numbers, text and vectors, with Unicode and
//! escapes.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// The number of seeds in a run; each has its own documents.
pub const SEEDS: u64 = 12;
const DOCUMENTS: usize = 60;
const QUERIES: usize = 150;
const DEPTH_MAX: usize = 3;
const DIMENSION: usize = 3;

/// The parts of tags: letters of several scripts, spaces, punctuation that a query must escape.
const TAGS: &[&str] = &[
    "red",
    "Green",
    "dark blue",
    "a-b",
    "x.y@z",
    "naïve",
    "ÄPFEL",
    "日本語",
    "Ωmega",
    "50%",
    "tag:1",
    "reddish",
    "c++",
    "it's",
    "(round)",
];
/// Words of texts; none is a stop word.
const WORDS: &[&str] = &[
    "hello",
    "world",
    "Hello",
    "wörld",
    "foo",
    "food",
    "bar",
    "barista",
    "привет",
    "мир",
    "x1",
    "42",
    "über",
    "日本",
    "foo_bar",
];

/// All commands of a seed: an index, its documents, queries.
pub fn commands(seed: u64) -> Vec<Vec<Vec<u8>>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let metric = ["L2", "COSINE", "IP"][seed as usize % 3];
    let schema = format!(
        "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC u NUMERIC SORTABLE t TEXT NOSTEM s TAG SEPARATOR ; CASESENSITIVE \
         v VECTOR FLAT 6 TYPE FLOAT32 DIM {DIMENSION} DISTANCE_METRIC {metric}"
    );
    let mut commands = vec![schema.split(' ').map(|word| word.as_bytes().to_vec()).collect()];
    commands.extend((0..DOCUMENTS).map(|number| document(&mut random, number)));
    // Some are changed and some are deleted.
    for _ in 0..DOCUMENTS / 5 {
        let number = random.random_range(0..DOCUMENTS);
        commands.push(document(&mut random, number));
        let key = format!("d:{}", random.random_range(0..DOCUMENTS));
        commands.push(vec![b"DEL".to_vec(), key.into_bytes()]);
    }
    commands.extend((0..QUERIES).map(|_| search(&mut random)));
    commands
}

fn pick<'a>(random: &mut SmallRng, among: &[&'a str]) -> &'a str {
    among.choose(random).expect("there are some")
}

fn joined(random: &mut SmallRng, among: &[&str], between: &str, most: usize) -> String {
    let count = random.random_range(1..=most);
    (0..count).map(|_| pick(random, among)).collect::<Vec<_>>().join(between)
}

fn vector(random: &mut SmallRng) -> Vec<u8> {
    (0..DIMENSION).flat_map(|_| random.random_range(-4.0..4.0f32).to_le_bytes()).collect()
}

fn document(random: &mut SmallRng, number: usize) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = vec![b"HSET".to_vec(), format!("d:{number}").into_bytes()];
    let mut put = |name: &str, value: Vec<u8>| words.extend([name.as_bytes().to_vec(), value]);
    put("u", number.to_string().into_bytes());
    if random.random_bool(0.9) {
        put("c", joined(random, TAGS, [",", ", ", " , "][number % 3], 3).into_bytes());
    }
    if random.random_bool(0.9) {
        let value: f64 = random.random_range(-40..40) as f64 / 4.0;
        put("n", value.to_string().into_bytes());
    }
    if random.random_bool(0.9) {
        put("t", joined(random, WORDS, [" ", ", ", "-", "  "][number % 4], 6).into_bytes());
    }
    if random.random_bool(0.5) {
        put("s", joined(random, TAGS, ";", 2).into_bytes());
    }
    if random.random_bool(0.9) {
        let vector = vector(random);
        put("v", vector);
    }
    words
}

/// A tag or a part of one as it appears in a query: all characters except letters, digits and underscores are
/// escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if letter.is_ascii() && !letter.is_ascii_alphanumeric() && letter != '_' {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

fn tag(random: &mut SmallRng) -> String {
    let tag = pick(random, TAGS);
    let letters: Vec<char> = tag.chars().collect();
    // At least two letters of a pattern: with fewer, EngramDB finds more, as documented.
    let part: String = match letters.len() {
        0..=2 => return escaped(tag),
        count => letters[..random.random_range(2..count)].iter().collect(),
    };
    let rest: String = letters[1..].iter().collect();
    match random.random_range(0..8) {
        0 => format!("{}*", escaped(&part)),
        1 => format!("*{}", escaped(&rest)),
        2 => format!("*{}*", escaped(&rest)),
        _ => escaped(tag),
    }
}

fn number(random: &mut SmallRng) -> String {
    match random.random_range(0..6) {
        0 => ["-inf", "inf", "+inf"][random.random_range(0..3)].to_owned(),
        _ => (f64::from(random.random_range(-44..44)) / 4.0).to_string(),
    }
}

fn bound(random: &mut SmallRng) -> String {
    let open = if random.random_bool(0.3) { "(" } else { "" };
    format!("{open}{}", number(random))
}

fn text(random: &mut SmallRng) -> String {
    let word = pick(random, WORDS);
    match random.random_range(0..6) {
        0 => format!("@t:({} {})", word, pick(random, WORDS)),
        1 => format!("@t:({}|{})", word, pick(random, WORDS)),
        2 => {
            // For a phrase that repeats a word, RediSearch finds documents that contain the word once.
            let others: Vec<&str> =
                WORDS.iter().copied().filter(|other| !other.eq_ignore_ascii_case(word)).collect();
            format!("@t:(\"{word} {}\")", pick(random, &others))
        }
        3 => format!("@t:{}*", word.chars().take(2).collect::<String>()),
        4 => word.to_owned(),
        _ => format!("@t:{word}"),
    }
}

/// A filter. Without `ranges` it has no vector ranges: RediSearch returns some documents both for a range and
/// for its negation (after documents without a vector), so ranges are not negated.
fn expression(random: &mut SmallRng, depth: usize, ranges: bool) -> String {
    if depth == 0 || random.random_bool(0.4) {
        return leaf(random, ranges);
    }
    let kind = random.random_range(0..5);
    let mut inner = || expression(random, depth - 1, ranges && kind != 0);
    let (left, right) = (inner(), inner());
    match kind {
        0 => format!("-({left})"),
        1 | 2 => format!("({left} {right})"),
        3 => format!("({left} | {right})"),
        _ => format!("({left}) ~({right})"),
    }
}

fn leaf(random: &mut SmallRng, ranges: bool) -> String {
    match random.random_range(0..8) {
        0..=2 => {
            let field = if random.random_bool(0.7) { "c" } else { "s" };
            let count = random.random_range(1..=3);
            let tags: Vec<String> = (0..count).map(|_| tag(random)).collect();
            format!("@{field}:{{{}}}", tags.join("|"))
        }
        3 | 4 => format!("@n:[{} {}]", bound(random), bound(random)),
        5 if ranges => format!("@v:[VECTOR_RANGE {} $q]", random.random_range(1..40)),
        _ => text(random),
    }
}

fn search(random: &mut SmallRng) -> Vec<Vec<u8>> {
    let filter = if random.random_bool(0.1) { "*".to_owned() } else { expression(random, DEPTH_MAX, true) };
    let k = random.random_range(1..30);
    let query = match random.random_range(0..3) {
        0 => format!("({filter})=>[KNN {k} @v $q AS d]").replace("(*)", "*"),
        _ => filter,
    };
    let mut words = vec!["FT.SEARCH".to_owned(), "idx".to_owned(), query];
    let mut put = |option: &str| words.extend(option.split(' ').map(str::to_owned));
    match random.random_range(0..4) {
        0 => put("NOCONTENT"),
        1 => put("RETURN 2 u n"),
        2 => put("RETURN 3 c AS colour"),
        _ => {}
    }
    if random.random_bool(0.4) {
        put(["SORTBY u", "SORTBY u DESC", "SORTBY u ASC WITHSORTKEYS"][random.random_range(0..3)]);
        put(["LIMIT 0 1000", "LIMIT 2 7", "LIMIT 0 0"][random.random_range(0..3)]);
    } else {
        put("LIMIT 0 1000");
    }
    put("DIALECT 2 PARAMS 2 q");
    let mut words: Vec<Vec<u8>> = words.into_iter().map(String::into_bytes).collect();
    words.push(vector(random));
    words
}
