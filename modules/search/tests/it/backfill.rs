//! Commands while an index is being backfilled. The clock ends a slice of the backfill; in these tests, after
//! one document or never.

use crate::harness::{Server, Ticking, blob};
use engramdb_testkit::text::Text;
use std::sync::Arc;

const BEFORE: usize = 1_000;
const STILL_BUILT: &str = "The index is still being built: results may be missing";

fn filled_with(documents: usize, clock: Ticking) -> Server {
    let mut server = Server::with_clock(Arc::new(clock));
    server.resp3 = true;
    for number in 0..documents {
        server.hset(&format!("d:{number}"), &[("c", b"old"), ("v", &blob(&[number as f32, 0.0]))]);
    }
    server
}

fn create(server: &Server, algorithm: &str) {
    let words = "TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    // A beam of this width finds every document that the graph or its tail has. What a narrow beam misses is
    // the business of the graph's own tests.
    let words = if algorithm == "HNSW" { format!("8 {words} EF_RUNTIME 2000") } else { format!("6 {words}") };
    let line = format!("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG v VECTOR {algorithm} {words}");
    assert_eq!(server.line(&line), "OK");
}

fn nearest(server: &Server, query: &str, x: f32) -> String {
    let query = format!("{query}=>[KNN 1 @v $q]");
    let words: [&[u8]; 9] =
        [b"FT.SEARCH", b"idx", query.as_bytes(), b"NOCONTENT", b"TIMEOUT", b"0", b"PARAMS", b"2", b"q"];
    let vector = blob(&[x, 9.0]);
    server.run(&words.into_iter().chain([vector.as_slice()]).collect::<Vec<_>>())
}

fn assert_finds(server: &Server, query: &str, x: f32, key: &str) {
    let found = nearest(server, query, x);
    assert!(found.contains(&format!(r#"{{"id": "{key}""#)), "{query}: {key} in {found}");
}

/// The number after a name in FT.INFO.
fn told(server: &Server, name: &str) -> usize {
    let info = server.line("FT.INFO idx");
    let (_, rest) = info.split_once(&format!(r#""{name}": "#)).expect("FT.INFO tells it");
    let end = rest.find([',', '}']).expect("more follows");
    rest[..end].parse().expect("a number")
}

#[test]
fn what_is_written_during_a_backfill_is_found_at_once() {
    for algorithm in ["HNSW", "FLAT"] {
        let server = filled_with(BEFORE, Ticking::by_millisecond());
        create(&server, algorithm);
        assert!(server.line("FT.SEARCH idx @c:{old} TIMEOUT 1").starts_with(""));
        assert_eq!(server.line("FT.CONFIG SET PARTIAL_RESULTS yes"), "OK");
        let mut slices = 0;
        while server.engine.run_background() {
            slices += 1;
            // While the backfill is certainly not at its end: added and removed keys change its length.
            if slices % 10 != 0 || slices >= BEFORE / 2 {
                continue;
            }
            let (new, far) = (format!("d:new{slices}"), 5_000.0 + slices as f32);
            server.hset(&new, &[("c", b"new"), ("v", &blob(&[far, 9.0]))]);
            assert!(nearest(&server, "*", far).contains(STILL_BUILT));
            assert_finds(&server, "*", far, &new);
            assert_finds(&server, "@c:{new}", far, &new);
            // Changes a document from before, which the walk may have visited or not, and removes another.
            let (old, gone) = (format!("d:{slices}"), format!("d:{}", slices + 1));
            server.hset(&old, &[("v", &blob(&[-far, 9.0]))]);
            assert_finds(&server, "@c:{old}", -far, &old);
            server.line(&format!("DEL {gone}"));
            let found = nearest(&server, "*", slices as f32 + 1.0);
            assert!(!found.contains(&format!(r#""{gone}""#)), "{found}");
        }
        assert_eq!(told(&server, "num_docs"), BEFORE, "as many were deleted as came");
        assert!(slices >= BEFORE / 2, "{slices}");
        for slice in (10..BEFORE / 2).step_by(10) {
            let far = 5_000.0 + slice as f32;
            assert!(!nearest(&server, "*", far).contains(STILL_BUILT));
            assert_finds(&server, "*", far, &format!("d:new{slice}"));
            assert_finds(&server, "*", -far, &format!("d:{slice}"));
        }
    }
}

#[test]
fn no_writer_waits_for_what_a_backfill_has_told() {
    let server = filled_with(3_000, Ticking::never());
    // One slice covers all documents, far more than workers insert meanwhile.
    create(&server, "HNSW");
    for number in 0..10 {
        server.hset(&format!("d:new{number}"), &[("v", &blob(&[number as f32, 5.0]))]);
        assert!(!server.engine.is_overloaded());
    }
}

#[test]
fn a_slice_looks_at_the_clock_after_every_document() {
    let server = filled_with(100, Ticking::by_millisecond());
    create(&server, "FLAT");
    for documents in 1..100 {
        assert_eq!(told(&server, "num_docs"), documents);
        assert!(server.engine.run_background());
    }
    assert_eq!((told(&server, "num_docs"), server.engine.run_background()), (100, false));
}

/// Waking the tasks that wait takes locks of theirs, and time.
#[test]
fn searches_that_wait_for_a_dropped_index_go_on_when_the_lock_is_released() {
    for drop in ["FT.DROPINDEX idx", "FLUSHALL"] {
        let server = filled_with(BEFORE, Ticking::by_millisecond());
        create(&server, "FLAT");
        let waiting = server.waiting("FT.SEARCH idx * TIMEOUT 0");
        let signal = waiting.signal.clone();
        server.run_holding(drop, &|| assert!(!signal.is_given(), "{drop}: given under the write lock"));
        assert!(server.engine.run_background());
        assert!(signal.is_given(), "{drop}");
        let mut reply = Text::new(false);
        server.engine.complete(0, waiting.block(), &mut reply);
        let reply = reply.finish();
        assert!(reply.to_lowercase().contains("no such index"), "{drop}: {reply}");
    }
}

fn words(first: usize) -> String {
    (first..first + 5_000).map(|number| format!("w{number} ")).collect::<String>().repeat(4)
}

#[test]
fn a_large_document_is_read_between_two_slices_of_a_backfill() {
    let server = filled_with(0, Ticking::never());
    for number in 0..3 {
        server.hset(&format!("d:{number}"), &[("t", words(0).as_bytes()), ("c", b"red")]);
        server.hset(&format!("d:small{number}"), &[("t", b"w7")]);
    }
    server.line("FT.CREATE idx PREFIX 1 d: FILTER '@c!=\"no\"' SCHEMA t TEXT c TAG");
    let total = |query: &str| {
        let found = server.line(&format!("FT.SEARCH idx {query} LIMIT 0 0"));
        let (_, rest) = found.split_once("\"total_results\": ").expect("a reply has it");
        rest.split([',', '}']).next().expect("a number").parse::<usize>().expect("a number")
    };
    // A slice ends at a large document, which is read before the next slice indexes it.
    let mut counts = vec![told(&server, "num_docs")];
    while server.engine.run_background() {
        counts.push(told(&server, "num_docs"));
    }
    assert!(counts.windows(2).all(|pair| pair[1] <= pair[0] + 4) && counts.len() > 4, "{counts:?}");
    assert_eq!((counts.last(), total("w4999"), total("w7")), (Some(&6), 3, 6));
    // What changes while it is read is indexed as it is then.
    server.line("FT.ALTER idx SCHEMA ADD t AS again TEXT");
    server.engine.run_background();
    server.hset("d:0", &[("t", b"changed"), ("c", b"no")]);
    server.hset("d:1", &[("t", words(1).as_bytes())]);
    server.line("DEL d:2");
    server.backfill();
    assert_eq!([total("w4999"), total("w5000"), total("changed"), total("w7")], [1, 1, 0, 4]);
    assert_eq!([total("@again:w5000"), total("@again:w0")], [1, 0]);
    let scores = || server.line("FT.SEARCH idx w5000|w7 WITHSCORES NOCONTENT");
    let before = scores();
    server.engine.rebuild();
    server.backfill();
    assert_eq!(scores(), before);
}
