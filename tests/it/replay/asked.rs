//! Random questions about texts, positions, shapes, several vectors of a document and aggregations.

use super::questions::blob;
use engramdb_resp::Value;
use engramdb_testkit::instance::Instance;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

type Words = Vec<Vec<u8>>;

/// Above the number of documents.
const ALL: &str = "1000";

/// What texts are made of: words with the same stem or sound, words that differ in a character, words in
/// other scripts, and what separates words.
pub const VOCABULARY: &[&str] = &[
    "run", "running", "runs", "hello", "helo", "world", "the", "a", "über", "Straße", "smith", "smyth",
    "foo-bar", "cat's", "日本", "1999", "laufen", "läuft", "Run,", "b",
];

const SCORERS: &[&str] = &[
    "BM25STD",
    "BM25STD.NORM",
    "BM25STD.TANH",
    "BM25",
    "TFIDF",
    "TFIDF.DOCNORM",
    "DISMAX",
    "DOCSCORE",
    "HAMMING",
];

const SHAPES: &[&str] = &[
    "POLYGON((0 0, 0 5, 5 5, 5 0, 0 0))",
    "POLYGON((-3 -3, -3 9, 9 9, 9 -3, -3 -3), (1 1, 1 4, 4 4, 4 1, 1 1))",
    "POINT(2 2)",
    "POLYGON((4 4, 4 12, 12 12, 12 4, 4 4))",
];

pub fn pick<'l>(random: &mut SmallRng, list: &[&'l str]) -> &'l str {
    list[random.random_range(0..list.len())]
}

/// A vector of two components out of few, so that distances tie.
pub fn point(random: &mut SmallRng) -> [f32; 2] {
    [random.random_range(0..6) as f32, random.random_range(0..6) as f32]
}

/// A part of a filter. `is_json` says whether the index is the one of JSON documents.
fn part(random: &mut SmallRng, is_json: bool, depth: usize) -> String {
    let word =
        pick(random, &["run", "running", "hello", "helo", "world", "über", "smith", "foo", "日本", "laufen"]);
    let field = pick(random, if is_json { &["t", "ts"] } else { &["t", "u", "w"] });
    if depth > 0 && random.random_bool(0.6) {
        let (one, other) = (part(random, is_json, depth - 1), part(random, is_json, depth - 1));
        return match random.random_range(0..6) {
            0 => format!("({one} {other})"),
            1 => format!("({one} | {other})"),
            2 => format!("({one}) -({other})"),
            3 => format!("({one}) ~({other})"),
            4 => format!("({one} {other})=>{{$weight: 2.5}}"),
            _ => format!("(({one}) ({other}))=>{{$slop: 2; $inorder: true}}"),
        };
    }
    match random.random_range(0..16) {
        0..4 => word.to_owned(),
        4 => format!("@{field}:{word}"),
        5 => format!("\"{word} {}\"", pick(random, &["world", "run", "hello", "the"])),
        6 => format!("{}*", word.chars().take(2).collect::<String>()),
        7 => format!("*{}", word.chars().skip(1).collect::<String>()),
        8 => format!("%{word}%"),
        9 => format!("%%{word}%%"),
        10 => format!("w'{}?*'", word.chars().next().unwrap_or('r')),
        11 => format!("@n:[{} 3]", random.random_range(-2..4)),
        12 => format!("@c:{{{}}}", pick(random, &["red", "bl*", "red|green", "*"])),
        13 => {
            let (far, unit) = [(30, "m"), (5, "km"), (400, "km"), (2000, "mi")][random.random_range(0..4)];
            format!("@g:[{} {} {far} {unit}]", random.random_range(0..3), random.random_range(0..3))
        }
        14 => format!("@s:[{} $shape]", pick(random, &["WITHIN", "CONTAINS", "INTERSECTS", "DISJOINT"])),
        _ => format!("@{field}:({word} | {})", pick(random, VOCABULARY).replace(['\'', '-', ','], "")),
    }
}

/// A question that an index answers, by its seed.
pub fn question(seed: u64, index: &[u8], is_json: bool) -> Words {
    let mut random = SmallRng::seed_from_u64(seed);
    let random = &mut random;
    let mut filter = if random.random_bool(0.1) { "*".to_owned() } else { part(random, is_json, 2) };
    if is_json && random.random_bool(0.35) {
        let field = pick(random, &["v", "x"]);
        let few = pick(random, &["1", "3", ALL]);
        filter = match random.random_range(0..3) {
            // A graph may miss something among few.
            0 if field == "x" => format!("({filter})=>[KNN {few} @x $q AS d]").replace("(*)", "*"),
            0 => format!("({filter})=>[KNN {ALL} @v $q AS d]").replace("(*)", "*"),
            // Between the distances of the points.
            1 => format!("@{field}:[VECTOR_RANGE {} $q]", pick(random, &["0.5", "2.5", "9.5", "100"])),
            _ => format!("@{field}:[VECTOR_RANGE 4.5 $q]=>{{$yield_distance_as: d}}"),
        };
    }
    let text = |word: &str| word.as_bytes().to_vec();
    let is_aggregation = random.random_bool(0.2);
    let mut words =
        vec![text(if is_aggregation { "FT.AGGREGATE" } else { "FT.SEARCH" }), index.to_vec(), text(&filter)];
    let more = match is_aggregation {
        true => pick(
            random,
            &[
                "LOAD 2 @__key @n SORTBY 4 @n ASC @__key ASC MAX 1000",
                "ADDSCORES LOAD 1 @__key APPLY @__score*2 AS double SORTBY 2 @__key ASC MAX 1000",
                "GROUPBY 1 @c REDUCE COUNT 0 AS k REDUCE SUM 1 @n REDUCE COUNT_DISTINCT 1 @t REDUCE TOLIST 1 @n",
                "LOAD * FILTER exists(@n) SORTBY 2 @n ASC MAX 1000",
                "LOAD 2 @__key @t FILTER exists(@n) SORTBY 4 @n ASC @__key DESC LIMIT 1 5",
            ],
        )
        .to_owned(),
        false => options(random, is_json),
    };
    words.extend(more.split(' ').filter(|word| !word.is_empty()).map(text));
    let shape = pick(random, SHAPES);
    words.extend(["PARAMS", "4", "shape", shape, "q"].map(text));
    words.push(blob(&point(random)));
    words.extend(["DIALECT", "2"].map(text));
    words
}

/// Options of FT.SEARCH.
fn options(random: &mut SmallRng, is_json: bool) -> String {
    let mut words = format!("LIMIT 0 {ALL} NOCONTENT ");
    let mut add = |share: f64, option: &str| {
        if random.random_bool(share) {
            words.push_str(option);
            words.push(' ');
        }
    };
    add(0.1, "VERBATIM");
    add(0.1, "SLOP 1");
    add(0.1, "INORDER");
    add(0.1, "LANGUAGE german");
    add(0.1, if is_json { "INFIELDS 1 t" } else { "INFIELDS 2 t u" });
    add(0.1, "SORTBY n DESC");
    add(0.8, "WITHSCORES");
    let scorer = pick(random, SCORERS);
    if random.random_bool(0.7) {
        words.push_str(&format!("SCORER {scorer}"));
    }
    words
}

/// A reply without what may differ between equal indexes: the order of rows with equal ranks, and of the
/// values of a list.
pub fn answer(instance: &mut Instance, words: &Words) -> Value {
    let mut reply = instance.run(words).reply;
    sort(&mut reply);
    reply
}

fn sort(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(sort);
            items.sort_by_key(|item| format!("{item:?}"));
        }
        Value::Map(pairs) => pairs.iter_mut().for_each(|(_, value)| sort(value)),
        _ => {}
    }
}

/// How many rows a reply has.
pub fn rows(reply: &Value) -> usize {
    reply.get("results").and_then(Value::as_array).map_or(0, <[_]>::len)
}
