//! The right answers of an index, computed from a dump of the keyspace without an index.
//!
//! Expired keys and fields are in no answer, whether they are still stored or not: a hash that is not indexed
//! because of a malformed field becomes a document when that field expires, although no index contains it
//! before the field is deleted.

use engramdb_testkit::dump::{Content, Dump, Dumped};
use std::collections::{BTreeMap, BTreeSet};

type Bytes = Vec<u8>;

/// Components of a vector.
pub const DIMENSION: usize = 4;

/// The definition of an index, as in FT.INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub prefixes: Vec<Bytes>,
    pub algorithm: String,
    pub metric: String,
    /// It has the filter `@n>1||@other=='red'`.
    pub is_filtered: bool,
}

/// A hash that belongs to the index.
#[derive(Debug)]
struct Document {
    tags: BTreeSet<String>,
    number: Option<f64>,
    vector: Option<Vec<f32>>,
}

/// The documents of an index as of one moment.
#[derive(Debug, Default)]
pub struct Reference {
    live: BTreeMap<Bytes, Document>,
    /// The number of stored documents, including expired ones.
    pub stored: usize,
}

/// A filter, in the query language and as a function.
#[derive(Clone, Copy)]
pub struct Filter {
    pub query: &'static str,
    matches: fn(&Document) -> bool,
}

pub const FILTERS: &[Filter] = &[
    Filter { query: "*", matches: |_| true },
    Filter { query: "@c:{red}", matches: |document| document.tags.contains("red") },
    Filter {
        query: "@c:{bl*|green}",
        matches: |document| document.tags.iter().any(|tag| tag.starts_with("bl") || tag == "green"),
    },
    Filter { query: "-@c:{red}", matches: |document| !document.tags.contains("red") },
    Filter { query: "@n:[(1 3]", matches: |document| document.number.is_some_and(|n| n > 1.0 && n <= 3.0) },
    Filter {
        query: "@n:[-inf 2] @c:{blue}",
        matches: |document| document.number.is_some_and(|n| n <= 2.0) && document.tags.contains("blue"),
    },
];

impl Reference {
    pub fn new(dump: &Dump, database: usize, definition: &Definition, now_ms: u64) -> Reference {
        let mut reference = Reference::default();
        for ((of, key), dumped) in dump {
            let covered = definition.prefixes.iter().any(|prefix| key.starts_with(prefix));
            if *of == database && covered {
                reference.add(key, dumped, now_ms, definition.is_filtered);
            }
        }
        reference
    }

    fn add(&mut self, key: &[u8], dumped: &Dumped, now_ms: u64, is_filtered: bool) {
        let Content::Hash(fields) = &dumped.content else { return };
        self.stored += usize::from(Document::read(fields, is_filtered).is_some());
        let alive = |expires_at_ms: u64| expires_at_ms == 0 || expires_at_ms > now_ms;
        let mut fields = fields.clone();
        fields.retain(|_, (_, expires_at_ms)| alive(*expires_at_ms));
        if alive(dumped.expires_at_ms)
            && !fields.is_empty()
            && let Some(document) = Document::read(&fields, is_filtered)
        {
            self.live.insert(key.to_vec(), document);
        }
    }

    /// The keys that the filter matches.
    pub fn matches(&self, filter: &Filter) -> BTreeSet<Bytes> {
        let matching = self.live.iter().filter(|(_, document)| (filter.matches)(document));
        matching.map(|(key, _)| key.clone()).collect()
    }

    /// The distances of all documents that the filter matches and that have a vector.
    pub fn distances(&self, filter: &Filter, metric: &str, query: &[f32]) -> BTreeMap<Bytes, f64> {
        let matching = self.live.iter().filter(|(_, document)| (filter.matches)(document));
        let distance = |document: &Document| Some(distance(metric, document.vector.as_deref()?, query));
        matching.filter_map(|(key, document)| Some((key.clone(), distance(document)?))).collect()
    }
}

impl Document {
    /// `None` if a field is malformed or the filter does not take it: then the hash is not indexed. The
    /// filter takes what lacks a field that it has to know.
    fn read(fields: &BTreeMap<Bytes, (Bytes, u64)>, is_filtered: bool) -> Option<Document> {
        let field = |name: &str| fields.get(name.as_bytes()).map(|(value, _)| value.as_slice());
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let tags = field("c").map(text).unwrap_or_default();
        let tags = tags.split(',').map(|tag| tag.trim().to_lowercase()).filter(|tag| !tag.is_empty());
        let number = match field("n") {
            Some(value) => Some(text(value).parse::<f64>().ok()?),
            None => None,
        };
        let is_small = number.is_some_and(|number| number <= 1.0);
        if is_filtered && is_small && field("other").is_some_and(|other| other != b"red") {
            return None;
        }
        let vector = match field("v") {
            Some(blob) => Some(vector(blob)?),
            None => None,
        };
        Some(Document { tags: tags.collect(), number, vector })
    }
}

fn vector(blob: &[u8]) -> Option<Vec<f32>> {
    let (components, rest) = blob.as_chunks::<4>();
    let vector: Vec<f32> = components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let is_whole = rest.is_empty() && vector.len() == DIMENSION;
    (is_whole && vector.iter().all(|component| component.is_finite())).then_some(vector)
}

fn distance(metric: &str, left: &[f32], right: &[f32]) -> f64 {
    let pairs = || left.iter().zip(right).map(|(&left, &right)| (f64::from(left), f64::from(right)));
    let product: f64 = pairs().map(|(left, right)| left * right).sum();
    let norm = |vector: &[f32]| vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    match metric {
        "L2" => pairs().map(|(left, right)| (left - right).powi(2)).sum(),
        "IP" => 1.0 - product,
        "COSINE" if product == 0.0 => 1.0,
        "COSINE" => 1.0 - product / (norm(left) * norm(right)),
        other => panic!("unknown metric {other}"),
    }
}
