//! Definitions of every version so far are read as what they were made of.
//!
//! `tests/formats/definitions/vN.txt` has a definition in each line, as version N wrote it: the index's id,
//! the payload in hexadecimal, and the command that it was made of. The files are never changed; a new
//! version gets one of its own, which these tests with ENGRAMDB_BLESS=1 fill where it is empty.

use super::*;
use engramdb_engine::command::Args;
use std::fmt::Write;

/// By version, from 1 on.
const FROZEN: &[&str] = &[
    include_str!("../../../tests/formats/definitions/v1.txt"),
    include_str!("../../../tests/formats/definitions/v2.txt"),
    include_str!("../../../tests/formats/definitions/v3.txt"),
    include_str!("../../../tests/formats/definitions/v4.txt"),
    include_str!("../../../tests/formats/definitions/v5.txt"),
    include_str!("../../../tests/formats/definitions/v6.txt"),
];

/// Every option for itself, so that none can be taken for another; numbers differ for the same reason.
/// Nothing is left to a default that may be another one some day.
pub(super) const COMMANDS: &[&str] = &[
    "FT.CREATE plain SCHEMA n NUMERIC",
    "FT.CREATE head ON HASH PREFIX 2 d: {e}: LANGUAGE german LANGUAGE_FIELD lang SCORE 0.5 SCORE_FIELD sc PAYLOAD_FIELD pl \
     STOPWORDS 2 der die SCHEMA n NUMERIC",
    "FT.CREATE no-stop-words STOPWORDS 0 SCHEMA t TEXT",
    "FT.CREATE no-scan SKIPINITIALSCAN SCHEMA n NUMERIC",
    "FT.CREATE no-offsets NOOFFSETS SCHEMA n NUMERIC",
    "FT.CREATE no-highlight NOHL SCHEMA n NUMERIC",
    "FT.CREATE no-fields NOFIELDS SCHEMA n NUMERIC",
    "FT.CREATE no-frequencies NOFREQS SCHEMA n NUMERIC",
    "FT.CREATE many-texts MAXTEXTFIELDS SCHEMA n NUMERIC",
    "FT.CREATE all-keys INDEXALL ENABLE SCHEMA n NUMERIC",
    "FT.CREATE filter PREFIX 1 f: FILTER @n>1&&startswith(@__key,'f:1') SCHEMA n NUMERIC",
    "FT.CREATE fields SCHEMA hash-field AS name NUMERIC SORTABLE ni NUMERIC NOINDEX nm NUMERIC INDEXMISSING g GEO \
     gs GEOSHAPE FLAT t TEXT ts TEXT SORTABLE tu TEXT SORTABLE UNF tw TEXT WEIGHT 2.5 tn TEXT NOSTEM tt TEXT WITHSUFFIXTRIE \
     te TEXT INDEXEMPTY c TAG cs TAG SEPARATOR ; cc TAG CASESENSITIVE ct TAG WITHSUFFIXTRIE ce TAG INDEXEMPTY",
    "FT.CREATE flat SCHEMA v VECTOR FLAT 10 TYPE FLOAT32 DIM 3 DISTANCE_METRIC L2 INITIAL_CAP 1000 BLOCK_SIZE 77 \
     w VECTOR FLAT 6 TYPE FLOAT32 DIM 65536 DISTANCE_METRIC IP x VECTOR FLAT 6 TYPE FLOAT32 DIM 5 DISTANCE_METRIC COSINE",
    "FT.CREATE graphs SCHEMA d VECTOR HNSW 8 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2 QUANTIZATION NONE \
     a VECTOR HNSW 18 TYPE FLOAT32 DIM 384 DISTANCE_METRIC COSINE M 24 EF_CONSTRUCTION 150 EF_RUNTIME 60 EPSILON 0.25 \
     INITIAL_CAP 9 QUANTIZATION SQ4",
    "FT.CREATE elements SCHEMA a VECTOR FLAT 6 TYPE FLOAT64 DIM 3 DISTANCE_METRIC L2 \
     b VECTOR FLAT 6 TYPE FLOAT16 DIM 3 DISTANCE_METRIC L2 c VECTOR FLAT 6 TYPE BFLOAT16 DIM 3 DISTANCE_METRIC L2 \
     d VECTOR FLAT 6 TYPE INT8 DIM 3 DISTANCE_METRIC L2 e VECTOR HNSW 8 TYPE UINT8 DIM 300 DISTANCE_METRIC IP QUANTIZATION SQ8",
    "FT.CREATE codes SCHEMA a VECTOR HNSW 8 TYPE FLOAT32 DIM 64 DISTANCE_METRIC L2 QUANTIZATION NONE \
     b VECTOR HNSW 8 TYPE FLOAT32 DIM 64 DISTANCE_METRIC L2 QUANTIZATION SQ8 \
     c VECTOR HNSW 8 TYPE FLOAT32 DIM 64 DISTANCE_METRIC L2 QUANTIZATION SQ4 \
     d VECTOR HNSW 8 TYPE FLOAT32 DIM 64 DISTANCE_METRIC L2 QUANTIZATION BINARY",
    "FT.CREATE svs SCHEMA v VECTOR SVS-VAMANA 14 TYPE FLOAT16 DIM 96 DISTANCE_METRIC IP COMPRESSION LVQ8 \
     GRAPH_MAX_DEGREE 40 CONSTRUCTION_WINDOW_SIZE 120 SEARCH_WINDOW_SIZE 30",
    "FT.CREATE sounds SCHEMA t TEXT WEIGHT 1.0 PHONETIC dm:en",
    "FT.CREATE temporary TEMPORARY 90 SCHEMA n NUMERIC",
];

fn parsed(command: &str, id: u64) -> Definition {
    // Versions before 3 kept this, which had no effect; it is refused since.
    let command = command.replace("TEMPORARY 60 ", "");
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let definition = crate::schema::create::parse(Args::new(&words), &DataTypes::default(), u64::MAX);
    Definition { id, ..definition.unwrap_or_else(|error| panic!("{command}: {error:?}")) }
}

fn written() -> String {
    let mut text = String::new();
    for (command, number) in COMMANDS.iter().zip(0u64..) {
        // As in the log, where it has none yet, and as in a snapshot.
        let id = (number % 2) * (number << 40 | 0x0807_0605);
        let payload = parsed(command, id).encode();
        let hexadecimal: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        _ = writeln!(text, "{id} {hexadecimal} {command}");
    }
    text
}

#[test]
fn definitions_of_all_versions_are_read_as_what_they_were_made_of() {
    assert_eq!(FROZEN.len(), VERSION as usize, "a new version has a file of its own");
    for (frozen, version) in FROZEN.iter().zip(1..) {
        for line in frozen.lines() {
            let mut words = line.splitn(3, ' ');
            let [id, payload, command] = [(); 3].map(|()| words.next().expect("three parts"));
            let byte = |digits: &[u8]| {
                let digits = std::str::from_utf8(digits).expect("hexadecimal");
                u8::from_str_radix(digits, 16).expect("hexadecimal")
            };
            let payload: Vec<u8> = payload.as_bytes().chunks(2).map(byte).collect();
            let expected = parsed(command, id.parse().expect("a number"));
            let decode = |bytes: &[u8]| Definition::decode(version, bytes, &DataTypes::default());
            assert_eq!(decode(&payload), Ok(expected), "version {version}");
            for cut in 0..payload.len() {
                assert!(decode(&payload[..cut]).is_err(), "{cut} bytes of {command}");
            }
        }
    }
}

#[test]
fn what_is_written_today_is_the_current_version() {
    let frozen = FROZEN[VERSION as usize - 1];
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") && frozen.is_empty() {
        bless();
        panic!("The new version's definitions are written: run the tests again.");
    }
    assert_eq!(written(), frozen);
}

#[allow(clippy::disallowed_methods, reason = "writes the repository's own file")]
fn bless() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/definitions");
    std::fs::write(folder.join(format!("v{VERSION}.txt")), written()).expect("a writable repository");
}
