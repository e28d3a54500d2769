//! The answers of all indexes of an instance, and their comparison.

use super::reference::{DIMENSION, Definition, FILTERS, Reference};
use engramdb_resp::Value;
use engramdb_testkit::instance::Instance;
use std::collections::{BTreeMap, BTreeSet};

type Bytes = Vec<u8>;

/// Above the number of documents.
const ALL: &str = "1000";
const FEW: usize = 3;
const QUERIES: [[f32; DIMENSION]; 2] = [[1.0, 2.0, 0.5, -1.0], [-2.0, 0.25, 3.0, 0.0]];
/// Tolerance for sums in another order, in float32.
const TOLERANCE: f64 = 1e-5;

/// By database and name.
pub type Indexes = BTreeMap<(u32, Bytes), Answers>;

#[derive(Debug)]
pub struct Answers {
    definition: Definition,
    documents: i64,
    /// For each filter, the keys that match.
    matches: Vec<BTreeSet<Bytes>>,
    /// For each query and each filter, all documents by distance.
    nearest: Vec<Vec<(Bytes, f64)>>,
    /// For each query, the first few.
    few: Vec<Vec<(Bytes, f64)>>,
    /// The keys that queries of fields find that FT.ALTER adds, as far as the index has them.
    altered: Vec<BTreeSet<Bytes>>,
    aliases: Vec<Bytes>,
    /// The replies about synonyms, a dictionary and suggestions.
    others: Vec<Value>,
}

/// Queries of fields that FT.ALTER adds, with the fields' names.
const ALTERED: [(&str, &str); 3] =
    [("other", "@other:{red|blue}"), ("other", "-@other:{red}"), ("w", "*=>[KNN 1000 @w $q AS d]")];

impl Answers {
    /// Documents that a query found.
    pub fn found(&self) -> usize {
        self.nearest.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Documents that were found by fields that were added.
    pub fn altered_found(&self) -> usize {
        self.altered.iter().map(BTreeSet::len).max().unwrap_or(0)
    }

    pub fn aliases(&self) -> usize {
        self.aliases.len()
    }

    pub fn is_graph(&self) -> bool {
        self.definition.algorithm == "HNSW"
    }
}

pub fn blob(vector: &[f32]) -> Bytes {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// Runs all searches on every index. Their backfills have ended by then.
pub fn ask_all(instance: &mut Instance, databases: &[u32]) -> Indexes {
    while instance.engine().run_background() {}
    let mut indexes = Indexes::new();
    for &database in databases {
        instance.select(database);
        let names = match instance.run(&["FT._LIST"]).reply {
            Value::Set(names) => names,
            other => panic!("FT._LIST: {other:?}"),
        };
        for name in names {
            let name = name.as_bytes().expect("a name").to_vec();
            let answers = ask(instance, &name);
            indexes.insert((database, name), answers);
        }
    }
    indexes
}

fn ask(instance: &mut Instance, name: &[u8]) -> Answers {
    let info = instance.run(&[b"FT.INFO".as_slice(), name]).reply;
    assert_eq!(info.get("indexing").and_then(Value::as_int), Some(0), "the backfill has ended");
    let mut answers = Answers {
        definition: definition(&info),
        documents: info.get("num_docs").and_then(Value::as_int).expect("a count"),
        matches: Vec::new(),
        nearest: Vec::new(),
        few: Vec::new(),
        altered: Vec::new(),
        aliases: aliases(instance, name),
        others: Vec::new(),
    };
    for command in [
        &[b"FT.SYNDUMP", name][..],
        &[b"FT.DICTDUMP", b"d"],
        &[b"FT.SUGGET", b"s", b"", b"MAX", b"20", b"WITHSCORES"],
        &[b"FT.SUGGET", b"s", b"rd", b"FUZZY", b"WITHSCORES"],
    ] {
        answers.others.push(instance.run(command).reply);
    }
    for (field, query) in ALTERED {
        if field_of(&info, field).is_some() {
            let keys = nearest(instance, name, query, &QUERIES[0]);
            answers.altered.push(keys.into_iter().map(|(key, _)| key).collect());
        }
    }
    for filter in FILTERS {
        let keys = nearest(instance, name, filter.query, &QUERIES[0]);
        answers.matches.push(keys.into_iter().map(|(key, _)| key).collect());
    }
    for query in &QUERIES {
        for filter in FILTERS {
            let asked = format!("({})=>[KNN {ALL} @v $q AS d]", filter.query);
            let asked = asked.replace("(*)", "*");
            answers.nearest.push(nearest(instance, name, &asked, query));
        }
        answers.few.push(nearest(instance, name, &format!("*=>[KNN {FEW} @v $q AS d]"), query));
    }
    answers
}

/// A field in FT.INFO.
fn field_of<'v>(info: &'v Value, name: &str) -> Option<&'v Value> {
    let attributes = info.get("attributes").and_then(Value::as_array).expect("a list");
    attributes.iter().find(|field| field.get("attribute").and_then(Value::as_str) == Some(name))
}

fn aliases(instance: &mut Instance, name: &[u8]) -> Vec<Bytes> {
    let Value::Set(aliases) = instance.run(&[b"FT.ALIASLIST".as_slice(), name]).reply else {
        panic!("FT.ALIASLIST returns a set")
    };
    aliases.iter().map(|alias| alias.as_bytes().expect("a name").to_vec()).collect()
}

fn definition(info: &Value) -> Definition {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let prefixes = info.get("index_definition").and_then(|rule| rule.get("prefixes"));
    let prefixes = prefixes.and_then(Value::as_array).expect("a list");
    let vector = field_of(info, "v").expect("each index has it");
    let filter = info.get("index_definition").and_then(|rule| rule.get("filter"));
    Definition {
        is_filtered: filter.is_some(),
        prefixes: prefixes.iter().map(|prefix| prefix.as_bytes().expect("text").to_vec()).collect(),
        algorithm: text(vector.get("algorithm").expect("a vector")),
        metric: text(vector.get("distance_metric").expect("a vector")),
    }
}

/// Keys and distances (0 if the query has none) of an FT.SEARCH, in the order of the reply.
pub fn nearest(instance: &mut Instance, name: &[u8], query: &str, vector: &[f32]) -> Vec<(Bytes, f64)> {
    let blob = blob(vector);
    let words: [&[u8]; 13] = [
        b"FT.SEARCH",
        name,
        query.as_bytes(),
        b"RETURN",
        b"1",
        b"d",
        b"LIMIT",
        b"0",
        ALL.as_bytes(),
        b"PARAMS",
        b"2",
        b"q",
        &blob,
    ];
    let reply = instance.run(&words).reply;
    let rows = reply.get("results").and_then(Value::as_array);
    let rows = rows.unwrap_or_else(|| panic!("{query}: {reply:?}"));
    let total = reply.get("total_results").and_then(Value::as_int);
    assert_eq!(total, Some(rows.len() as i64), "{query}: all rows are in the reply");
    let row = |row: &Value| {
        let key = row.get("id").and_then(Value::as_bytes).expect("a key").to_vec();
        let distance = row.get("extra_attributes").and_then(|fields| fields.get("d"));
        let distance = distance.and_then(Value::as_str).map_or(0.0, |text| text.parse().expect("a number"));
        (key, distance)
    };
    rows.iter().map(row).collect()
}

/// Panics if the answers differ.
pub fn assert_same(live: &Indexes, now: &Indexes, what: &str) {
    assert!(live.keys().eq(now.keys()), "{what}: {:?} became {:?}", live.keys(), now.keys());
    for ((place, live), now) in live.iter().zip(now.values()) {
        let what = format!("{what}, index {place:?}: {live:?} became {now:?}");
        assert_eq!(live.definition, now.definition, "{what}");
        assert_eq!(live.documents, now.documents, "{what}");
        assert_eq!(live.matches, now.matches, "{what}");
        assert_eq!(live.altered, now.altered, "{what}");
        assert_eq!(live.aliases, now.aliases, "{what}");
        assert_eq!(live.others, now.others, "{what}");
        if live.is_graph() {
            // A graph gives the same documents; their distances may come from the graph's kernel or from the
            // tail's.
            let keys = |answers: &Answers| -> Vec<BTreeSet<Bytes>> {
                answers.nearest.iter().map(|rows| rows.iter().map(|(key, _)| key.clone()).collect()).collect()
            };
            assert_eq!(keys(live), keys(now), "{what}");
        } else {
            assert_eq!(live.nearest, now.nearest, "{what}");
            assert_eq!(live.few, now.few, "{what}");
        }
    }
}

/// Panics if the answers do not match the keyspace.
pub fn assert_true(instance: &Instance, indexes: &Indexes, what: &str) {
    let (dump, now_ms) = (instance.dump(), instance.engine().now_ms());
    for ((database, name), answers) in indexes {
        let reference = Reference::new(&dump, *database as usize, &answers.definition, now_ms);
        let what = format!("{what}, index {database} {name:?}: {answers:?}, {reference:?}");
        assert_eq!(answers.documents, reference.stored as i64, "{what}");
        for (filter, matches) in FILTERS.iter().zip(&answers.matches) {
            assert_eq!(*matches, reference.matches(filter), "{}: {what}", filter.query);
        }
        let asked = QUERIES.iter().flat_map(|query| FILTERS.iter().map(move |filter| (query, filter)));
        for ((query, filter), rows) in asked.zip(&answers.nearest) {
            let exact = reference.distances(filter, &answers.definition.metric, query);
            let keys: BTreeSet<&Bytes> = rows.iter().map(|(key, _)| key).collect();
            assert!(keys.iter().copied().eq(exact.keys()), "{}: {what}", filter.query);
            assert_eq!(keys.len(), rows.len(), "a document comes once: {what}");
            let close = |(key, distance): &(Bytes, f64)| (exact[key] - distance).abs() < TOLERANCE;
            assert!(rows.iter().all(close), "{}: {what}", filter.query);
            assert!(rows.is_sorted_by(|a, b| (a.1, &a.0) <= (b.1, &b.0)), "{}: {what}", filter.query);
        }
        if !answers.is_graph() {
            let whole = answers.nearest.iter().step_by(FILTERS.len());
            for (few, whole) in answers.few.iter().zip(whole) {
                assert_eq!(few, &whole[..whole.len().min(FEW)], "{what}");
            }
        }
    }
}
