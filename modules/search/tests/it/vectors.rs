//! Vector fields: their elements and attributes, and hashes whose fields are stored in an index.

use crate::harness::{Server, Ticking, blob};
use std::sync::Arc;

fn knn(server: &Server, index: &str, query: &[u8]) -> String {
    let ask = "*=>[KNN 2 @v $v AS d]".as_bytes();
    server.run(&[b"FT.SEARCH", index.as_bytes(), ask, b"RETURN", b"1", b"d", b"PARAMS", b"2", b"v", query])
}

fn hget(server: &Server, key: &str) -> String {
    server.run(&[b"HGET", key.as_bytes(), b"v"])
}

/// `[1, 2]` and `[4, -2]` (`[4, 2]` for unsigned bytes).
fn of_type(name: &str) -> [Vec<u8>; 2] {
    let of = |bytes: &dyn Fn(f64) -> Vec<u8>| {
        [[1.0, 2.0], [4.0, -2.0]].map(|vector| vector.iter().flat_map(|&x| bytes(x)).collect())
    };
    match name {
        "FLOAT32" => of(&|x| (x as f32).to_le_bytes().to_vec()),
        "FLOAT64" => of(&|x| x.to_le_bytes().to_vec()),
        // The upper half of a float32; the lower half of these numbers is zero.
        "BFLOAT16" => of(&|x| (x as f32).to_le_bytes()[2..].to_vec()),
        // A float16: a sign, five bits of exponent (plus 15) and ten bits of mantissa.
        "FLOAT16" => {
            let half = |x: f64| -> u16 {
                let exponent = x.abs().log2() as u16 + 15;
                (if x < 0.0 { 1 << 15 } else { 0 }) | exponent << 10
            };
            of(&|x| half(x).to_le_bytes().to_vec())
        }
        "INT8" => of(&|x| vec![x as i8 as u8]),
        _ => of(&|x| vec![x.abs() as u8]),
    }
}

#[test]
fn every_type_is_indexed_by_every_algorithm_and_reads_as_it_was_written() {
    for kind in ["FLOAT32", "FLOAT64", "FLOAT16", "BFLOAT16", "INT8", "UINT8"] {
        for algorithm in ["FLAT", "HNSW", "SVS-VAMANA"] {
            let server = Server::new();
            let create = format!(
                "FT.CREATE idx PREFIX 1 d: SCHEMA v VECTOR {algorithm} 6 TYPE {kind} DIM 2 DISTANCE_METRIC L2"
            );
            assert_eq!(server.line(&create), "OK");
            assert!(server.line("FT.INFO idx").contains(&format!(r#""data_type", "{kind}""#)), "{kind}");
            let [near, far] = of_type(kind);
            server.hset("d:1", &[("v", &near)]);
            server.hset("d:2", &[("v", &far)]);
            server.hset("d:3", &[("v", &far[1..])]);
            let distance = if kind == "UINT8" { "9" } else { "25" };
            let expected = format!(r#"[2, "d:1", ["d", "0"], "d:2", ["d", "{distance}"]]"#);
            assert_eq!(knn(&server, "idx", &near), expected, "{kind} {algorithm}");
            let plain = Server::new();
            plain.hset("d:2", &[("v", &far)]);
            assert_eq!(hget(&server, "d:2"), hget(&plain, "d:2"), "{kind} {algorithm}");
        }
    }
}

#[test]
fn doubles_have_distances_of_doubles() {
    for algorithm in ["FLAT", "HNSW"] {
        let server = Server::new();
        server.line(&format!(
            "FT.CREATE idx SCHEMA v VECTOR {algorithm} 6 TYPE FLOAT64 DIM 1 DISTANCE_METRIC L2"
        ));
        server.hset("d:1", &[("v", &0.1_f64.to_le_bytes())]);
        server.hset("d:2", &[("v", &(0.1_f64 + 1e-9).to_le_bytes())]);
        let expected = r#"[2, "d:1", ["d", "0.01"], "d:2", ["d", "0.0100000002"]]"#;
        assert_eq!(knn(&server, "idx", &0.0_f64.to_le_bytes()), expected);
    }
}

#[test]
fn what_walks_go_by_can_be_chosen() {
    let create = |server: &Server, name: &str, words: &str| {
        let count = words.split(' ').count();
        server.line(&format!(
            "FT.CREATE {name} SCHEMA v VECTOR {} {} {words}",
            &name[..name.len() - 1],
            count
        ))
    };
    let base = "TYPE FLOAT32 DIM 70 DISTANCE_METRIC COSINE";
    let server = Server::new();
    for (name, words, told) in [
        ("HNSW1", String::new(), r#""quantization", "SQ4""#),
        ("HNSW2", " QUANTIZATION NONE".into(), r#""quantization", "NONE""#),
        ("HNSW3", " QUANTIZATION sq8".into(), r#""quantization", "SQ8""#),
        ("HNSW4", " QUANTIZATION BINARY M 8".into(), r#""quantization", "BINARY""#),
        ("SVS-VAMANA1", " COMPRESSION LVQ8 GRAPH_MAX_DEGREE 64".into(), r#""compression", "SQ8""#),
        (
            "SVS-VAMANA2",
            " COMPRESSION LeanVec4x8 REDUCE 32 TRAINING_THRESHOLD 2048".into(),
            r#""compression", "SQ4""#,
        ),
        (
            "SVS-VAMANA3",
            " SEARCH_WINDOW_SIZE 20 CONSTRUCTION_WINDOW_SIZE 50".into(),
            r#""search_window_size", 20"#,
        ),
    ] {
        assert_eq!(create(&server, name, &format!("{base}{words}")), "OK", "{name}");
        assert!(
            server.line(&format!("FT.INFO {name}")).contains(told),
            "{name}: {}",
            server.line(&format!("FT.INFO {name}"))
        );
    }
    for number in 0..100 {
        let vector: Vec<f32> = (0..70).map(|at| ((number * 37 + at * at * 11) % 101) as f32 - 50.0).collect();
        server.hset(&format!("d:{number}"), &[("v", &blob(&vector))]);
    }
    let query: Vec<f32> = (0..70).map(|at| ((7 * 37 + at * at * 11) % 101) as f32 - 50.0).collect();
    let answers: Vec<String> = ["HNSW1", "HNSW2", "HNSW3", "HNSW4", "SVS-VAMANA1"]
        .map(|name| knn(&server, name, &blob(&query)))
        .into();
    assert!(answers[0].starts_with(r#"[2, "d:7", ["d", "#), "{}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    for (name, words) in [
        ("HNSW5", "QUANTIZATION PQ"),
        ("FLAT5", "QUANTIZATION SQ8"),
        ("HNSW5", "COMPRESSION LVQ8"),
        ("SVS-VAMANA5", "COMPRESSION LVQ9"),
        ("SVS-VAMANA5", "M 16"),
    ] {
        assert!(
            create(&server, name, &format!("{base} {words}")).starts_with("Bad arguments for "),
            "{name} {words}"
        );
    }
    assert!(create(&server, "HNSW5", "TYPE FLOAT8 DIM 2 DISTANCE_METRIC L2").contains("type"));
    assert!(create(&server, "HNSW5", "TYPE INT8 DIM 65537 DISTANCE_METRIC L2").contains("dim"));
}

#[test]
fn a_hash_reads_the_same_wherever_its_vector_stands() {
    let server = Server::new();
    for index in ["one", "two"] {
        let words = "SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
        assert_eq!(server.line(&format!("FT.CREATE {index} PREFIX 1 d: {words}")), "OK");
    }
    let plain = Server::new();
    let vector = |x: f32| blob(&[x, 64.5]);
    let same = |key: &str, x: f32| {
        plain.hset("k", &[("v", &vector(x))]);
        assert_eq!(hget(&server, key), hget(&plain, "k"), "{key}");
    };
    for number in 0..50 {
        server.hset(&format!("d:{number}"), &[("v", &vector(number as f32)), ("other", b"x")]);
    }
    server.line("RENAME d:1 d:51");
    server.line("RENAME d:2 elsewhere");
    server.line("COPY d:3 d:52");
    server.line("COPY d:4 away");
    server.line("HSET d:5 other y");
    server.hset("d:6", &[("v", &vector(60.0))]);
    server.line("DEL d:3");
    let check = || {
        for (key, x) in [("d:51", 1.0), ("elsewhere", 2.0), ("d:52", 3.0), ("d:4", 4.0), ("away", 4.0)] {
            same(key, x);
        }
        [("d:5", 5.0), ("d:6", 60.0), ("d:7", 7.0)].into_iter().for_each(|(key, x)| same(key, x));
    };
    check();
    let found = knn(&server, "two", &vector(60.0));
    assert!(found.starts_with(r#"[2, "d:6", ["d", "0"], "d:49""#), "{found}");
    assert_eq!(server.line("FT.DROPINDEX one"), "OK");
    check();
    // Freed places are reused, and places that hashes still refer to are not changed.
    for number in 100..200 {
        server.hset(&format!("d:{number}"), &[("v", &vector(number as f32))]);
    }
    assert_eq!(server.line("FT.DROPINDEX two"), "OK");
    check();
    // Background work moves the contents from the index back to the hashes.
    server.backfill();
    check();
    server.line("FT.CREATE three SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2");
    server.backfill();
    check();
    let found = knn(&server, "three", &vector(2.0));
    assert!(found.starts_with(r#"[2, "elsewhere", ["d", "0"]"#), "{found}");
    assert_eq!(server.line("FLUSHALL"), "OK");
    assert_eq!(server.line("DBSIZE"), "0");
}

#[test]
fn keys_that_are_renamed_while_a_dropped_index_is_cleared_get_their_vectors_back() {
    const KEYS: usize = 2_000;
    const DIMENSION: usize = 64;
    // A slice ends after some keys.
    let server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    let create =
        format!("FT.CREATE idx SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM {DIMENSION} DISTANCE_METRIC L2");
    assert_eq!(server.line(&create), "OK");
    let vector = |number: usize| blob(&[number as f32; DIMENSION]);
    (0..KEYS).for_each(|number| _ = server.hset(&format!("d:{number}"), &[("v", &vector(number))]));
    let stored = || server.engine.inspect().view(0).whole_keyspace().heap_bytes();
    let housed = stored();
    assert_eq!(server.line("FT.DROPINDEX idx"), "OK");
    for _ in 0..KEYS / 2 / 64 {
        assert!(server.engine.run_background());
    }
    // About half of them are moved to places that the walk has passed.
    (0..KEYS).for_each(|number| assert_eq!(server.line(&format!("RENAME d:{number} e:{number}")), "OK"));
    server.backfill();
    assert!(stored() >= housed + KEYS * 4 * DIMENSION, "{} of {housed}", stored());
    let plain = Server::new();
    plain.hset("e:7", &[("v", &vector(7))]);
    assert_eq!(hget(&server, "e:7"), hget(&plain, "e:7"));
}
