//! The recordings of `tests/data/recorded-answers`.

use engramdb_resp::Value;
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The commands that build a data set on an empty server, and the queries on it.
pub struct DataSet {
    pub name: String,
    pub commands: Vec<Vec<Vec<u8>>>,
    pub queries: Vec<Query>,
}

pub struct Query {
    /// The test that made the query, without its parameters.
    pub test: String,
    pub words: Vec<Vec<u8>>,
    /// The reply over RESP2; `None` if the server refused.
    pub answer: Option<Value>,
}

/// All data sets that have queries.
pub fn data_sets() -> Vec<DataSet> {
    let mut queries: BTreeMap<String, Vec<Query>> = BTreeMap::new();
    for file in ["aggregate", "text", "expr"] {
        for line in lines(file) {
            let query = Query {
                test: text(&line["test"]).split('[').next().expect("a first part").to_owned(),
                words: words(&line["cmd"]),
                answer: line.get("answer").map(reply),
            };
            assert!(query.answer.is_some() != (line["error"] == true), "{line}");
            queries.entry(text(&line["set"]).to_owned()).or_default().push(query);
        }
    }
    let sets = lines("data-sets").map(|line| {
        let name = text(&line["set"]).to_owned();
        let commands = line["commands"].as_array().expect("a list").iter().map(words).collect();
        DataSet { queries: queries.remove(&name).unwrap_or_default(), name, commands }
    });
    let sets: Vec<DataSet> = sets.filter(|set| !set.queries.is_empty()).collect();
    assert!(queries.is_empty(), "queries on sets that are not described: {:?}", queries.keys());
    sets
}

fn lines(name: &str) -> impl Iterator<Item = serde_json::Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recorded-answers");
    let file = File::open(folder.join(format!("{name}.jsonl.gz"))).expect("the recordings are there");
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    lines.map(|line| serde_json::from_str(&line.expect("a compressed text")).expect("a line of JSON"))
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}"))
}

/// A command: one word is a line of words.
fn words(list: &serde_json::Value) -> Vec<Vec<u8>> {
    let list = list.as_array().unwrap_or_else(|| panic!("a list, not {list}"));
    match list.as_slice() {
        [line] => text(line).split(' ').map(|word| word.as_bytes().to_vec()).collect(),
        words => words.iter().map(bytes).collect(),
    }
}

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    let Some(digits) = value.get("b") else { return text(value).as_bytes().to_vec() };
    let digits = text(digits).as_bytes();
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hexadecimal digits")
    };
    digits.chunks(2).map(byte).collect()
}

fn reply(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Number(number) => Value::Integer(number.as_i64().expect("an integer")),
        serde_json::Value::Array(values) => Value::Array(values.iter().map(reply).collect()),
        other => Value::Bulk(bytes(other)),
    }
}
