//! The target of fuzzing for searches: their words, and what is found, scored and shown of a few documents.

use super::filter::{Evaluation, Ranges, means};
use super::highlight::Highlighter;
use super::score::ScoreTree;
use crate::documents::Documents;
use crate::documents::reading::read;
use crate::query::QueryDefaults;
use crate::query::explain::explain;
use crate::query::prepared::PreparedSearch;
use crate::schema::Definition;
use crate::schema::create::definition_of;
use engramdb_engine::command::Args;
use engramdb_engine::effect::List;
use engramdb_engine::module::ReadHash;
use parking_lot::RwLock;

const DEFINITION: &str = "FT.CREATE i LANGUAGE_FIELD l SCHEMA t TEXT u TEXT WEIGHT 2.5 PHONETIC dm:en c TAG n NUMERIC INDEXMISSING g GEO \
     s GEOSHAPE FLAT v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2";

/// Pairs of field and content.
const DOCUMENTS: &[&[&[u8]]] = &[
    &[b"t", b"hello world", b"c", b"red,blue", b"n", b"1"],
    &[b"t", b"running to the world", b"u", b"hello smith", b"n", b"-2.5", b"g", b"1,1"],
    &[b"t", b"foo\\-bar foo bar", b"c", b"b\xff", b"s", b"POLYGON((0 0, 0 5, 5 5, 5 0, 0 0))"],
    &[b"u", b"a b c a b c a b c", b"n", b"inf", b"g", b"-179.9,-10", b"s", b"POINT(2 2)"],
    &[b"t", b"", b"u", "läuft über Straßen 日本".as_bytes(), b"c", b""],
];

/// Languages of the text, by its length.
const LANGUAGES: &[&str] = &[
    "english",
    "arabic",
    "armenian",
    "basque",
    "catalan",
    "danish",
    "dutch",
    "finnish",
    "french",
    "german",
    "greek",
    "hindi",
    "hungarian",
    "indonesian",
    "irish",
    "italian",
    "lithuanian",
    "nepali",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "serbian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
    "yiddish",
];

/// Reads bytes as the words of FT.SEARCH, which tabs divide, from the query on. What follows the first line
/// break is the text of a document beside a few others. Panics if a document is found that does not match, or
/// is not found although it does, or if a score is no number.
pub fn fuzz_search(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == b'\n');
    let words = parts.next().unwrap_or_default().split(|&byte| byte == b'\t');
    let words: Vec<&[u8]> = [&b"FT.SEARCH"[..], b"i"].into_iter().chain(words).collect();
    let text = parts.next().unwrap_or_default();
    let definition = definition_of(DEFINITION);
    let Ok(prepared) = PreparedSearch::new(&definition, Args::new(&words), QueryDefaults::default()) else {
        return;
    };
    let Ok(query) = prepared.bind(&definition, Args::new(&words)) else { return };
    _ = explain(&definition, &query, &words);
    let documents = RwLock::new(Documents::new(&definition));
    for (number, pairs) in DOCUMENTS.iter().enumerate() {
        add(&definition, &mut documents.write(), number, pairs);
    }
    let language = LANGUAGES[text.len() % LANGUAGES.len()].as_bytes();
    let pairs = [&b"t"[..], text, b"c", b"green", b"l", language];
    add(&definition, &mut documents.write(), DOCUMENTS.len(), &pairs);
    let ranges = Ranges::unmatched(&query.filter);
    let evaluation = Evaluation::new(&documents, &ranges, &|| false);
    let Ok(found) = evaluation.matches(&query.filter) else { unreachable!("nothing is late") };
    {
        let documents = documents.read();
        for id in documents.live() {
            assert_eq!(found.contains(id), means(&documents, &ranges, &query.filter, id), "document {id}");
        }
    }
    let Ok(tree) = ScoreTree::find(&evaluation, &query.filter, &prepared.request, true) else {
        unreachable!("nothing is late")
    };
    let ids: Vec<u32> = found.iter().collect();
    let scores = tree.scores(&documents.read(), &ranges, &ids);
    assert!(scores.iter().all(|score| !score.is_nan()), "{scores:?}");
    let excerpts = &prepared.request.excerpts;
    if !excerpts.are_none() {
        let highlighter = Highlighter::new(&documents, &definition, &query);
        for name in [&b"t"[..], b"u", b"c", b"n", b"other"] {
            _ = highlighter.excerpt(&definition, name, &excerpts.mode(name, false), text);
        }
    }
}

fn add(definition: &Definition, documents: &mut Documents, number: usize, pairs: &[&[u8]]) {
    let key = format!("document {number}");
    let hash = ReadHash { key: key.as_bytes(), fields: List::Arguments(pairs) };
    if let Ok(content) = read(definition, &hash) {
        documents.upsert(hash.key, &content);
    }
}
