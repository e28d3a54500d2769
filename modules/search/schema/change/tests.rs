//! Changes of released versions stay readable.
//!
//! `tests/formats/changes/vN.txt` has a change in each line, as version N of definitions wrote it: the
//! effect's kind, the payload in hexadecimal, and the words that it was made of. The files are never changed.
//! Where a payload becomes another one, the new version gets a file of its own, which these tests with
//! ENGRAMDB_BLESS=1 fill where it is empty.

use super::*;
use crate::effects::{KIND_ALIAS, KIND_ALTER, KIND_DICTIONARY, KIND_SYNONYMS};
use crate::schema::VERSION;
use crate::schema::create::definition_of;
use std::fmt::Write;

/// With their versions.
const FROZEN: &[(u8, &str)] = &[(6, include_str!("../../../../tests/formats/changes/v6.txt"))];

/// Kinds, and words: alias and index; index and fields; index, group and terms; dictionary, sign and terms.
const CHANGES: &[(u8, &str)] = &[
    (KIND_ALIAS, "alias idx"),
    (KIND_ALIAS, "überall"),
    (
        KIND_ALTER,
        "idx SCHEMA hash-field AS name TEXT WEIGHT 2.5 NOSTEM PHONETIC dm:en SORTABLE UNF c TAG SEPARATOR ; CASESENSITIVE \
         n NUMERIC NOINDEX SORTABLE g GEO INDEXMISSING s GEOSHAPE FLAT v VECTOR HNSW 12 TYPE FLOAT16 DIM 3 DISTANCE_METRIC IP \
         M 24 EF_CONSTRUCTION 150 EF_RUNTIME 60",
    ),
    (KIND_ALTER, "idx SKIPINITIALSCAN SCHEMA n NUMERIC"),
    (KIND_SYNONYMS, "idx group one zwei über"),
    (KIND_SYNONYMS, "idx group"),
    (KIND_DICTIONARY, "dict + Word other"),
    (KIND_DICTIONARY, "dict - Word"),
];

/// The payload that is written for these words today.
fn encoded(kind: u8, text: &str) -> Vec<u8> {
    let mut words = text.split_ascii_whitespace().map(|word| word.as_bytes().to_vec());
    let first = words.next().expect("a name");
    match kind {
        KIND_ALIAS => AliasChange::encode(&first, words.next().as_deref()),
        KIND_ALTER => {
            let schema = &text[text.find("SCHEMA").expect("fields")..];
            let fields = definition_of(&format!("FT.CREATE i {schema}")).fields;
            Alteration { name: first, fields, skips_scan: text.contains("SKIPINITIALSCAN") }.encode()
        }
        KIND_SYNONYMS => {
            let group = words.next().expect("a group");
            SynonymChange { index: first, group, terms: words.collect() }.encode()
        }
        KIND_DICTIONARY => {
            let adds = words.next().expect("a sign") == b"+";
            DictionaryChange::encode(&first, adds, &words.collect::<Vec<_>>())
        }
        _ => panic!("kind {kind}"),
    }
}

/// Reads a payload and writes it as it is written today; `None` if it is malformed.
fn again(kind: u8, version: u8, payload: &[u8]) -> Option<Vec<u8>> {
    Some(match kind {
        KIND_ALIAS => {
            let change = AliasChange::decode(payload).ok()?;
            AliasChange::encode(&change.alias, change.index.as_deref())
        }
        KIND_ALTER => Alteration::decode(version, payload).ok()?.encode(),
        KIND_SYNONYMS => SynonymChange::decode(payload).ok()?.encode(),
        KIND_DICTIONARY => {
            let change = DictionaryChange::decode(payload).ok()?;
            DictionaryChange::encode(&change.name, change.adds, &change.terms)
        }
        _ => panic!("kind {kind}"),
    })
}

fn written() -> String {
    let mut text = String::new();
    for &(kind, words) in CHANGES {
        let payload = encoded(kind, words);
        let hexadecimal: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        _ = writeln!(text, "{kind} {hexadecimal} {words}");
    }
    text
}

#[test]
fn changes_of_all_versions_are_read_as_what_they_were_made_of() {
    for (version, frozen) in FROZEN {
        assert!(frozen.lines().count() >= CHANGES.len(), "version {version}");
        for line in frozen.lines() {
            let mut words = line.splitn(3, ' ');
            let [kind, payload, words] = [(); 3].map(|()| words.next().expect("three parts"));
            let kind = kind.parse().expect("a number");
            let byte = |at: usize| u8::from_str_radix(&payload[at..at + 2], 16).expect("hexadecimal");
            let payload: Vec<u8> = (0..payload.len()).step_by(2).map(byte).collect();
            assert_eq!(again(kind, *version, &payload), Some(encoded(kind, words)), "{line}");
            for cut in 0..payload.len() {
                assert_eq!(again(kind, *version, &payload[..cut]), None, "{cut} bytes of {line}");
            }
        }
    }
}

#[test]
fn changes_that_are_written_today_are_those_of_the_newest_file() {
    let (version, frozen) = FROZEN.last().expect("the list is not empty");
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") && frozen.is_empty() {
        bless(*version);
        panic!("The new version's changes are written: run the tests again.");
    }
    assert_eq!(written(), *frozen);
    assert!(*version <= VERSION);
}

#[allow(clippy::disallowed_methods, reason = "writes the repository's own file")]
fn bless(version: u8) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/changes");
    std::fs::write(folder.join(format!("v{version}.txt")), written()).expect("a writable repository");
}
