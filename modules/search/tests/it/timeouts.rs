//! Searches that run out of time, and searches in an index that is being built. Each reading of the clock
//! advances it by a millisecond, so that a TIMEOUT is a number of readings.

use crate::harness::{Server, Ticking, blob};
use engramdb_engine::env::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DOCUMENTS: usize = 3000;

fn loaded(algorithm: &str) -> Server {
    let mut server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    server.resp3 = true;
    let create = format!(
        "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG v VECTOR {algorithm} 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2"
    );
    assert_eq!(server.line(&create), "OK");
    for number in 0..DOCUMENTS {
        server.hset(&format!("d:{number}"), &[("c", b"x"), ("v", &blob(&[number as f32, 0.0]))]);
    }
    while !server.line("FT.INFO idx").contains(r#""pending_mutations": 0"#) {}
    server
}

fn search(server: &Server, query: &str, timeout: &str) -> String {
    let far = blob(&[DOCUMENTS as f32, 0.0]);
    server.run(&[
        b"FT.SEARCH",
        b"idx",
        query.as_bytes(),
        b"NOCONTENT",
        b"TIMEOUT",
        timeout.as_bytes(),
        b"PARAMS",
        b"2",
        b"q",
        &far,
    ])
}

const WARNING: &str = r#""warning": ["Timeout limit was reached"]"#;
const QUERIES: [&str; 4] =
    ["*=>[KNN 3 @v $q]", "@c:{x}=>[KNN 3 @v $q]", "@v:[VECTOR_RANGE 10 $q]", "-@v:[VECTOR_RANGE 10 $q]"];

#[test]
fn what_was_found_in_time_is_the_answer_with_a_warning() {
    let server = loaded("FLAT");
    for query in QUERIES {
        let whole = search(&server, query, "0");
        assert!(whole.contains(r#""warning": []"#), "{query}: {whole}");
        let cut = search(&server, query, "1");
        assert!(cut.contains(WARNING), "{query}: {cut}");
        assert_ne!(whole, cut, "{query}");
    }
    let cut = search(&server, QUERIES[0], "1");
    assert!(cut.contains(r#""total_results": 3"#), "some were seen: {cut}");
    let negated = search(&server, QUERIES[3], "1");
    assert!(
        negated.contains(r#""total_results": 0"#),
        "what is not known to be true is not shown: {negated}"
    );
}

#[test]
fn a_walk_of_the_graph_ends_in_time_too() {
    let server = loaded("HNSW");
    let query = "*=>[KNN 3 @v $q EF_RUNTIME 1000]";
    assert!(search(&server, query, "0").contains(r#""warning": []"#));
    let cut = search(&server, query, "1");
    assert!(cut.contains(WARNING) && cut.contains(r#""total_results": 3"#), "{cut}");
    let profile = server.run(&[
        b"FT.PROFILE",
        b"idx",
        b"SEARCH",
        b"QUERY",
        query.as_bytes(),
        b"TIMEOUT",
        b"1",
        b"PARAMS",
        b"2",
        b"q",
        &blob(&[0.0, 0.0]),
    ]);
    assert!(profile.contains(r#""Warning": ["Timeout limit was reached"]"#), "{profile}");
}

#[test]
fn on_timeout_fail_makes_it_an_error() {
    let server = loaded("FLAT");
    assert_eq!(server.line("FT.CONFIG GET ON_TIMEOUT"), r#"{ON_TIMEOUT: "return"}"#);
    assert_eq!(server.line("FT.CONFIG SET ON_TIMEOUT fail"), "OK");
    assert_eq!(server.line("FT.CONFIG GET search-on-timeout"), r#"{ON_TIMEOUT: "fail"}"#);
    for query in QUERIES {
        assert_eq!(search(&server, query, "1"), "Timeout limit was reached", "{query}");
    }
    assert_eq!(server.line("FT.CONFIG SET ON_TIMEOUT later"), "Invalid ON_TIMEOUT value");
    assert_eq!(server.line("FT.CONFIG SET ON_TIMEOUT RETURN"), "OK");
    assert!(search(&server, QUERIES[0], "1").contains(WARNING));
}

#[test]
fn an_index_that_is_being_built_answers_where_partial_results_are_wanted() {
    // A slice of the backfill ends after one document.
    let mut server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    server.resp3 = true;
    for number in 0..100 {
        server.hset(&format!("d:{number}"), &[("c", b"x"), ("v", &blob(&[number as f32, 0.0]))]);
    }
    let create =
        "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    assert!(search(&server, "@c:{x}", "1").starts_with(""));
    assert_eq!(server.line("FT.CONFIG SET PARTIAL_RESULTS yes"), "OK");
    for query in ["@c:{x}", "*=>[KNN 3 @v $q]"] {
        let partial = search(&server, query, "0");
        assert!(partial.contains(r#""warning": ["The index is still being built: results may be missing"]"#));
        assert!(partial.contains(r#""total_results": 1,"#), "{partial}");
    }
    server.backfill();
    let whole = search(&server, "@c:{x}", "0");
    assert!(whole.contains(r#""total_results": 100, "warning": []"#), "{whole}");
}

/// Continues when the test says so.
#[derive(Default)]
struct Told(AtomicU64);

impl Clock for Told {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// No part of it is done under the keyspace's lock instead.
#[test]
fn what_changes_in_a_search_that_is_late_is_left_out() {
    let clock = Arc::<Told>::default();
    let mut server = Server::with_clock(clock.clone());
    server.resp3 = true;
    let create =
        "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    let write = |number: usize| {
        server.hset(&format!("d:{number}"), &[("c", b"x"), ("v", &blob(&[number as f32, 0.0]))]);
    };
    (0..700).for_each(write);
    // For this many neighbours, the search looks for a few more than requested.
    for (query, total) in [("*=>[KNN 301 @v $q]", 5), ("@c:{x}=>[KNN 301 @v $q]", 5), ("@c:{x}", 400)] {
        let search = || {
            let origin = blob(&[0.0, 0.0]);
            let words: [&[u8]; 9] = [
                b"FT.SEARCH",
                b"idx",
                query.as_bytes(),
                b"NOCONTENT",
                b"TIMEOUT",
                b"1000",
                b"PARAMS",
                b"2",
                b"q",
            ];
            let words: Vec<&[u8]> = words.into_iter().chain([&origin[..]]).collect();
            // All nearest documents change each time, until the time runs out.
            server.run_between_looks(&words, &|| {
                (0..300).for_each(write);
                clock.0.fetch_add(2, Ordering::Relaxed);
            })
        };
        let (reply, looks) = search();
        assert!(reply.contains(WARNING), "{query}: {reply}");
        assert!(reply.contains(&format!(r#""total_results": {total},"#)), "{query}: {reply}");
        assert!(looks.len() < 4, "{query}: {looks:?}");
        assert_eq!(server.line("FT.CONFIG SET ON_TIMEOUT fail"), "OK");
        assert_eq!(search().0, "Timeout limit was reached", "{query}");
        assert_eq!(server.line("FT.CONFIG SET ON_TIMEOUT return"), "OK");
    }
}

#[test]
fn scores_that_were_not_known_in_time_are_not_computed_in_the_last_look() {
    let mut server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    server.resp3 = true;
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC t TEXT v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 \
                  DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    for number in 0..DOCUMENTS {
        let text = format!("alpha beta{}", number % 50);
        let fields = [("n", b"1" as &[u8]), ("t", text.as_bytes()), ("v", &blob(&[number as f32, 0.0]))];
        server.hset(&format!("d:{number}"), &fields);
    }
    while !server.line("FT.INFO idx").contains(r#""pending_mutations": 0"#) {}
    let all = DOCUMENTS.to_string();
    let near = format!("(a*|b*)=>[KNN {DOCUMENTS} @v $q]");
    for (query, order) in [("a*|b*", ["SORTBY", "n"]), (&near, ["DIALECT", "2"])] {
        let mut cut = 0;
        let touched: Vec<usize> = [0, 1]
            .map(|with_scores| {
                let most = (1..80).map(|timeout: usize| {
                    let timeout = timeout.to_string();
                    let mut words = vec!["FT.SEARCH", "idx", query, "NOCONTENT", "LIMIT", "0", &all];
                    words.extend(order.iter().chain(["WITHSCORES"][..with_scores].iter()));
                    words.extend(["TIMEOUT", &timeout, "PARAMS", "2", "q"]);
                    let mut words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                    let origin = blob(&[0.0, 0.0]);
                    words.push(&origin);
                    let (reply, _) = server.run_between_looks(&words, &|| ());
                    let shown = reply.matches(r#""id""#).count();
                    cut += usize::from(with_scores > 0 && shown > 0 && shown < DOCUMENTS);
                    server.touched_in_one_hold()
                });
                most.max().expect("some timeouts")
            })
            .to_vec();
        assert!(cut > 0, "{query}: the time limit never passed while scores were computed");
        assert!(touched[1] < touched[0] + 300, "{query}: {touched:?}");
    }
}
