//! Graphs restored from files: answers are the same, changed documents are inserted again, damaged files are
//! discarded.

#![allow(clippy::disallowed_methods, reason = "looks at the files that the module wrote, in real time")]

use crate::harness::Server;
use engramdb_testkit::TempDir;

const DIMENSION: usize = 8;
const DOCUMENTS: u64 = 600;

/// A vector from a seed.
fn vector(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1u64 << 24) as f32) - 0.5
    };
    (0..DIMENSION).flat_map(|_| next().to_le_bytes()).collect()
}

fn filled(directory: &TempDir) -> Server {
    let server = Server::keeping_graphs_in(directory.path().to_owned());
    let created = server.line(
        "FT.CREATE idx ON HASH PREFIX 1 d: SCHEMA c TAG v VECTOR HNSW 6 TYPE FLOAT32 DIM 8 DISTANCE_METRIC L2",
    );
    assert_eq!(created, "OK");
    for number in 0..DOCUMENTS {
        server.hset(&format!("d:{number}"), &[("v", &vector(number)), ("c", b"x")]);
    }
    server
}

/// The answers to many searches.
fn answers(server: &Server) -> Vec<Vec<String>> {
    let question = |seed: u64| {
        server
            .keys("*=>[KNN 10 @v $q]", &[b"PARAMS", b"2", b"q", &vector(1_000_000 + seed), b"DIALECT", b"2"])
    };
    (0..50).map(question).collect()
}

/// Saves the graph once it is complete.
fn export(server: &Server) {
    // A document that a worker is inserting counts as pending until it is in the graph.
    while !server.line("FT.INFO idx").contains(r#""pending_mutations", 0"#) {
        std::thread::yield_now();
    }
    for (_, export) in server.engine.exporters() {
        export().expect("the directory is writable");
    }
}

#[test]
fn a_graph_that_was_loaded_answers_as_before() {
    let directory = TempDir::new("saved-same");
    let server = filled(&directory);
    export(&server);
    let before = answers(&server);
    let server = server.restart();
    let report = server.report.join("\n");
    assert!(report.contains("600 graph nodes loaded, 0 inserted again, 0 removed"), "{report}");
    assert_eq!(answers(&server), before);
}

#[test]
fn what_changed_since_is_inserted_again_and_what_is_gone_is_removed() {
    let directory = TempDir::new("saved-tail");
    let server = filled(&directory);
    export(&server);
    for number in 0..20 {
        server.hset(&format!("d:{number}"), &[("v", &vector(5_000 + number))]);
    }
    for number in 20..50 {
        assert_eq!(server.line(&format!("DEL d:{number}")), "1");
    }
    for number in 0..10 {
        server.hset(&format!("d:new{number}"), &[("v", &vector(7_000 + number))]);
    }
    let server = server.restart();
    let report = server.report.join("\n");
    assert!(report.contains("600 graph nodes loaded, 30 being inserted again"), "{report}");
    let nearest = |seed: u64| {
        server.keys("*=>[KNN 1 @v $q]", &[b"PARAMS", b"2", b"q", &vector(seed), b"DIALECT", b"2"])
    };
    assert_eq!(nearest(5_003), ["d:3"]);
    assert_eq!(nearest(7_004), ["d:new4"]);
    assert_eq!(nearest(300), ["d:300"]);
    for number in 20..50 {
        assert_ne!(nearest(number), [format!("d:{number}")], "deleted");
    }
    let all = server.keys("@c:{x}", &[]);
    assert_eq!(all.len(), 570);
}

#[test]
fn a_damaged_file_is_thrown_away_and_said_so() {
    let directory = TempDir::new("saved-damaged");
    let server = filled(&directory);
    export(&server);
    let name =
        std::fs::read_dir(&directory).expect("it was made").next().expect("one index").expect("readable");
    let whole = std::fs::read(name.path()).expect("readable");
    let before = answers(&server);
    let mut server = server;
    for place in [0, 9, 13, 20, 30, 60, whole.len() / 2, whole.len() - 3] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        std::fs::write(name.path(), &bytes).expect("writable");
        server = server.restart();
        let report = server.report.join("\n");
        assert!(report.contains("built from 600 documents"), "byte {place}: {report}");
        assert!(report.contains("thrown away"), "byte {place}: {report}");
        let same = answers(&server).iter().zip(&before).filter(|(now, before)| now == before).count();
        assert!(same >= 45, "byte {place}: a graph built anew finds nearly the same: {same} of 50");
    }
}

#[test]
fn an_index_that_is_dropped_while_it_comes_back_leaves_nothing_behind() {
    let directory = TempDir::new("saved-dropped");
    let server = filled(&directory);
    export(&server);
    assert_eq!(server.line("RENAME d:7 elsewhere"), "OK");
    assert_eq!(server.line("FT.DROPINDEX idx"), "OK");
    let server = server.restart();
    let used = || {
        let run = server.engine.inspect();
        let view = run.view(0);
        view.modules().iter().map(|module| module.memory_bytes()).sum::<usize>()
    };
    assert!(used() >= 600 * 4 * DIMENSION, "hashes stand in it");
    server.backfill();
    assert_eq!(used(), 0);
    for (key, seed) in [("d:3", 3), ("elsewhere", 7)] {
        let plain = Server::new();
        plain.hset("k", &[("v", &vector(seed))]);
        assert_eq!(server.line(&format!("HGET {key} v")), plain.line("HGET k v"));
    }
}
