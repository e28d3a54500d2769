//! Random documents, paths and commands, by seed. What is known to differ is not generated: names with
//! escapes, filters, `..` and repeated indexes in paths of commands that change something, names of which one
//! begins as another, and floats with more digits than they need.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

/// The number of seeds in a run.
pub const SEEDS: u64 = 20;
const COMMANDS: usize = 250;
pub const KEYS: [&str; 3] = ["d", "e", "f"];
const NAMES: &[&str] = &["a", "b", "c", "n", "list", "é", "w x", "it's", "x\"y", "0", "1"];

fn pick<T: Copy>(rng: &mut SmallRng, among: &[T]) -> T {
    *among.choose(rng).expect("there are some")
}

fn value(rng: &mut SmallRng, depth: usize) -> Value {
    match rng.random_range(0..if depth < 3 { 12 } else { 7 }) {
        0 => Value::Null,
        1 => json!(rng.random_bool(0.5)),
        2 => json!(pick(rng, &[0_i64, 1, 2, 3, -1, 127, 128, -129, 70_000, 1 << 31, (1 << 53) + 1])),
        3 => json!(rng.random_range(-1000..1000)),
        4 => json!(pick(rng, &[0.5, 1.0, -0.0, 0.1, 1e16, 1e-7, 3.25, 1e30, 2.5])),
        5 | 6 => {
            json!(pick(rng, &["", "a", "abc", "é\n\"\\", "1", "true", "b\u{1}", "long, long, long text"]))
        }
        7..=9 => Value::Array((0..rng.random_range(0..5)).map(|_| value(rng, depth + 1)).collect()),
        _ => {
            let member = |rng: &mut SmallRng| (pick(rng, NAMES).to_owned(), value(rng, depth + 1));
            Value::Object((0..rng.random_range(0..5)).map(|_| member(rng)).collect::<Map<_, _>>())
        }
    }
}

fn text(rng: &mut SmallRng) -> String {
    value(rng, 0).to_string()
}

fn quoted(name: &str) -> String {
    if name.contains('\'') { format!("\"{name}\"") } else { format!("'{name}'") }
}

fn name(rng: &mut SmallRng) -> String {
    let name = pick(rng, NAMES);
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_plain && rng.random_bool(0.7) { format!(".{name}") } else { format!("[{}]", quoted(name)) }
}

/// A step of any path.
fn plain_step(rng: &mut SmallRng) -> String {
    match rng.random_range(0..8) {
        0..=3 => name(rng),
        4 => format!("[{}]", pick(rng, &[0, 1, 2, -1, -2, 5, -9])),
        5 => "[*]".to_owned(),
        6 => ".*".to_owned(),
        _ => {
            let (start, stop) = (pick(rng, &["", "0", "1", "-2"]), pick(rng, &["", "2", "-1", "9"]));
            format!("[{start}:{stop}{}]", pick(rng, &["", ":", ":2"]))
        }
    }
}

fn step(rng: &mut SmallRng, depth: usize) -> String {
    match rng.random_range(0..7) {
        0 => format!("..{}", pick(rng, &["a", "b", "*", "n", "[0]", "[*]"])),
        1 => format!("[{},{}]", pick(rng, &[0, 1, -1]), pick(rng, &[0, 2, -1])),
        2 => format!("[{},{}]", quoted(pick(rng, NAMES)), quoted(pick(rng, NAMES))),
        3 if depth < 2 => format!("[?({})]", filter(rng, depth)),
        _ => plain_step(rng),
    }
}

fn term(rng: &mut SmallRng) -> String {
    match rng.random_range(0..8) {
        0..=3 => format!("@{}", if rng.random_bool(0.5) { name(rng) } else { String::new() }),
        4 => format!("${}", step(rng, 2)),
        _ => {
            pick(rng, &["1", "0", "2.5", "-1", "\"a\"", "'abc'", "true", "false", "null", "70000"]).to_owned()
        }
    }
}

fn filter(rng: &mut SmallRng, depth: usize) -> String {
    match rng.random_range(0..6) {
        0 => term(rng),
        1 if depth < 2 => {
            let [left, right] = [0; 2].map(|_| filter(rng, depth + 1));
            format!("{left} {} {right}", pick(rng, &["&&", "||"]))
        }
        2 if depth < 2 => format!("({})", filter(rng, depth + 1)),
        _ => {
            let [left, right] = [0; 2].map(|_| term(rng));
            format!("{left}{}{right}", pick(rng, &["==", "!=", "<", "<=", ">", ">=", "=~"]))
        }
    }
}

/// A path for a command that reads.
fn path(rng: &mut SmallRng) -> String {
    match rng.random_range(0..10) {
        0 => "$".to_owned(),
        1 => pick(rng, &[".", "a", ".a", "a.b", "list[0]", "..a", "a[1]"]).to_owned(),
        2 => {
            let letters: Vec<char> = "$.[]a*?()'@=1,: \"b&|<>".chars().collect();
            (0..rng.random_range(1..9)).map(|_| pick(rng, &letters)).collect()
        }
        _ => {
            let steps: String = (0..rng.random_range(1..4)).map(|_| step(rng, 0)).collect();
            if rng.random_bool(0.15) { steps } else { format!("${steps}") }
        }
    }
}

/// A path for a command that changes what is there.
fn place(rng: &mut SmallRng) -> String {
    let steps: String = (0..rng.random_range(0..4)).map(|_| plain_step(rng)).collect();
    if rng.random_bool(0.2) && !steps.is_empty() { steps } else { format!("${steps}") }
}

pub fn commands(seed: u64) -> Vec<Vec<String>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..COMMANDS).map(|_| command(&mut rng)).collect()
}

fn command(rng: &mut SmallRng) -> Vec<String> {
    let key = pick(rng, &KEYS).to_owned();
    let words = |name: &str, rest: &[String]| [&[format!("JSON.{name}"), key.clone()], rest].concat();
    match rng.random_range(0..26) {
        0..=3 => words("SET", &["$".to_owned(), text(rng)]),
        4..=6 => {
            let mut words = words("SET", &[place(rng), text(rng)]);
            words.extend(pick(rng, &[None, None, Some("NX"), Some("XX")]).map(str::to_owned));
            words
        }
        7 | 8 => words("GET", &[path(rng)]),
        9 => words("GET", &[place(rng), place(rng)]),
        10 => [words("MGET", &[]), KEYS.map(str::to_owned).into(), vec![place(rng)]].concat(),
        11 => words("DEL", &[place(rng)]),
        12 => words("TYPE", &[path(rng)]),
        13 => words("NUMINCRBY", &[place(rng), pick(rng, &["1", "2.5", "-3", "x", "\"1\""]).to_owned()]),
        14 => words("NUMMULTBY", &[place(rng), pick(rng, &["2", "0.5", "-1"]).to_owned()]),
        15 => words("STRAPPEND", &[place(rng), pick(rng, &["\"x\"", "\"é\"", "1"]).to_owned()]),
        16 => words(pick(rng, &["STRLEN", "ARRLEN", "OBJLEN", "OBJKEYS", "RESP"]), &[path(rng)]),
        17 => words("ARRAPPEND", &[place(rng), text(rng), text(rng)]),
        18 => {
            // An index that is out of bounds in one array of several leaves the others changed in RedisJSON.
            let place = place(rng);
            let is_one = !place.contains(['*', ':']);
            let index = if is_one { pick(rng, &["0", "1", "-1", "2"]) } else { "0" };
            words("ARRINSERT", &[place, index.to_owned(), text(rng)])
        }
        19 => words("ARRPOP", &[place(rng), pick(rng, &["0", "-1", "1", "9", "-9"]).to_owned()]),
        20 => {
            let (start, stop) = (pick(rng, &["0", "1", "-2", "5"]), pick(rng, &["-1", "1", "3", "0"]));
            words("ARRTRIM", &[place(rng), start.to_owned(), stop.to_owned()])
        }
        21 => {
            let (start, stop) = (pick(rng, &["0", "1", "-2"]), pick(rng, &["0", "-1", "9"]));
            words("ARRINDEX", &[path(rng), text(rng), start.to_owned(), stop.to_owned()])
        }
        22 => words("CLEAR", &[place(rng)]),
        23 => words("TOGGLE", &[place(rng)]),
        24 => words("MERGE", &[place(rng), text(rng)]),
        _ => words(pick(rng, &["STRLEN", "ARRLEN", "OBJLEN", "OBJKEYS", "RESP", "GET"]), &[place(rng)]),
    }
}
