//! Saved graphs of every format so far are loaded as they are.
//!
//! `tests/formats/graphs/vN.index` is a file that a program of format N wrote, over the documents that this
//! test writes. The files are never changed. This test with ENGRAMDB_BLESS=1 writes one that does not exist.

#![allow(clippy::disallowed_methods, reason = "reads and writes the repository's own files")]

use crate::records::{PARTS, run};
use engramdb_testkit::instance::{Instance, Kept, Protocol, Value};
use engramdb_testkit::words::split_words;
use std::path::{Path, PathBuf};

const DOCUMENTS: usize = 60;
const FIELDS: [(&str, &str); 7] = [
    ("plain", "6 TYPE FLOAT32 DIM 8 DISTANCE_METRIC L2"),
    ("bytes", "8 TYPE FLOAT32 DIM 8 DISTANCE_METRIC L2 QUANTIZATION SQ8"),
    ("halves", "8 TYPE FLOAT32 DIM 8 DISTANCE_METRIC IP QUANTIZATION SQ4"),
    ("bits", "8 TYPE FLOAT32 DIM 8 DISTANCE_METRIC COSINE QUANTIZATION BINARY"),
    ("doubles", "6 TYPE FLOAT64 DIM 8 DISTANCE_METRIC L2"),
    ("small", "6 TYPE FLOAT16 DIM 8 DISTANCE_METRIC COSINE"),
    ("integers", "6 TYPE INT8 DIM 8 DISTANCE_METRIC L2"),
];

/// An index with a graph in each field. Document `n` has `1 + n % several` vectors in each.
fn filled(several: usize) -> Instance {
    let mut instance = Instance::with_modules(1, Protocol::Resp3, PARTS);
    let field = |(name, options): &(&str, &str)| format!(" $.{name} AS {name} VECTOR HNSW {options}");
    let fields: String = FIELDS.iter().map(field).collect();
    let created = run(&mut instance, &format!("FT.CREATE i ON RECORD PREFIX 1 r: SCHEMA{fields}"));
    assert_eq!(created, "+\"OK\"");
    for document in 0..DOCUMENTS {
        let vector = |number: usize| {
            let component = |place: usize| (document * 7 + place * (3 + document % 5) + number * 11) % 23;
            let components: Vec<String> = (0..8).map(|place| component(place).to_string()).collect();
            format!("[{}]", components.join(","))
        };
        let vectors: Vec<String> = (0..=document % several).map(vector).collect();
        for (name, _) in FIELDS {
            let line = format!("RECORD.SET r:{document:02} $.{name} {}", vectors.join(" "));
            assert!(!instance.run(&split_words(&line)).reply.is_error(), "{line}");
        }
    }
    while instance.run(&["FT.INFO", "i"]).reply.get("pending_mutations").and_then(Value::as_int) != Some(0) {
        std::thread::yield_now();
    }
    instance
}

/// For each field, all documents by distance.
fn answers(instance: &mut Instance) -> Vec<Vec<String>> {
    let mut question = |name: &str| -> Vec<String> {
        let blob: Vec<u8> = match name {
            "doubles" => (0..8).flat_map(|place| f64::from(place).to_le_bytes()).collect(),
            // Small whole numbers as 16-bit floats.
            "small" => [0u16, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700]
                .iter()
                .flat_map(|half| half.to_le_bytes())
                .collect(),
            "integers" => (0..8).collect(),
            _ => (0..8u8).flat_map(|place| f32::from(place).to_le_bytes()).collect(),
        };
        let query = format!("*=>[KNN 100 @{name} $q AS d]");
        let words: [&[u8]; 10] =
            [b"FT.SEARCH", b"i", query.as_bytes(), b"PARAMS", b"2", b"q", &blob, b"LIMIT", b"0", b"100"];
        let words: Vec<&[u8]> = words.into_iter().chain([&b"RETURN"[..], b"1", b"d"]).collect();
        let reply = instance.run(&words).reply;
        let rows = reply.get("results").and_then(Value::as_array);
        let rows = rows.unwrap_or_else(|| panic!("{name}: {reply:?}"));
        rows.iter().map(|row| format!("{:?}", row.get("id").expect("a key"))).collect()
    };
    FIELDS.iter().map(|(name, _)| question(name)).collect()
}

fn saved_file(instance: &Instance) -> PathBuf {
    instance.export();
    let is_saved = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "index");
    instance.disk().paths().into_iter().find(is_saved).expect("it was saved")
}

fn check(version: u32, several: usize) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/formats/graphs/v{version}.index"));
    let mut instance = filled(several);
    let place = saved_file(&instance);
    let today = instance.disk().bytes(&place).expect("it was listed");
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") && !path.exists() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a writable repository");
        std::fs::write(&path, &today).expect("a writable repository");
    }
    let mut frozen = std::fs::read(&path).expect("a file of the repository");
    assert_eq!(
        [&frozen[8..12], &today[8..12]],
        [version.to_le_bytes(); 2].each_ref().map(|bytes| &bytes[..])
    );
    // The id is drawn when the index is created.
    frozen[16..24].copy_from_slice(&today[16..24]);
    instance.disk().set_bytes(&place, frozen);
    let live = answers(&mut instance);
    assert!(live.iter().all(|rows| rows.len() == DOCUMENTS));
    let vectors: usize = (0..DOCUMENTS).map(|document| 1 + document % several).sum();
    let report = instance.restart_with(Kept { snapshots: false, derived: true }).modules.concat();
    let loaded = format!("{} graph nodes loaded, 0 inserted again, 0 removed", vectors * FIELDS.len());
    assert!(report.contains(&loaded), "{report}");
    assert_eq!(answers(&mut instance), live);
}

#[test]
fn saved_graphs_of_format_1_are_loaded() {
    check(1, 1);
}

#[test]
fn saved_graphs_of_format_2_with_rows_are_loaded() {
    check(2, 3);
}
