//! Aliases, and fields that FT.ALTER adds, live and after a restart.

use crate::harness::{Server, Ticking, blob};
use engramdb_testkit::TempDir;
use std::sync::Arc;

const DOCUMENTS: usize = 500;

fn vector(number: usize) -> Vec<u8> {
    blob(&[number as f32, (number % 7) as f32])
}

/// Documents with more fields than the index has.
fn fill(server: &Server) {
    let created =
        "FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(created), "OK");
    for number in 0..DOCUMENTS {
        let (n, c) = (number.to_string(), if number % 2 == 0 { "even" } else { "odd" });
        let vector = vector(number);
        server.hset(
            &format!("d:{number}"),
            &[("n", n.as_bytes()), ("c", c.as_bytes()), ("v", &vector), ("w", &vector)],
        );
    }
}

const ALTER: &str =
    "FT.ALTER idx SCHEMA ADD c TAG SORTABLE w VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";

/// The number of documents that a query finds.
fn count(server: &Server, name: &str, query: &str) -> String {
    let reply = server.line(&format!("FT.SEARCH {name} {query} LIMIT 0 0"));
    reply.trim_matches(['[', ']']).to_owned()
}

fn assert_altered(server: &Server) {
    assert_eq!(count(server, "idx", "@c:{odd}"), "250");
    assert_eq!(count(server, "idx", "'@n:[0 9] @c:{even}'"), "5");
    assert_eq!(count(server, "idx", "ismissing(@c)"), "0");
    for field in ["v", "w"] {
        let query = format!("@c:{{odd}}=>[KNN 1 @{field} $q]");
        assert_eq!(server.keys(&query, &[b"PARAMS", b"2", b"q", &vector(301)]), ["d:301"], "{field}");
    }
    let sorted = server.line("FT.SEARCH idx '@n:[7 8]' SORTBY c DESC NOCONTENT");
    assert_eq!(sorted, r#"[2, "d:7", "d:8"]"#);
}

#[test]
fn a_field_that_is_added_has_the_documents_that_exist() {
    let server = Server::new();
    fill(&server);
    let line = ALTER.replace("c TAG SORTABLE", "c TAG SORTABLE INDEXMISSING");
    assert_eq!(server.line(&line), "OK");
    server.backfill();
    assert_altered(&server);
    server.hset("d:1", &[("c", b"even")]);
    assert_eq!(count(&server, "idx", "@c:{odd}"), "249");
    server.line("HDEL d:1 c");
    assert_eq!(count(&server, "idx", "ismissing(@c)"), "1");
    let server = server.restart();
    assert_eq!(count(&server, "idx", "@c:{odd}"), "249");
    assert_eq!(count(&server, "idx", "ismissing(@c)"), "1");
}

#[test]
fn saved_graphs_of_old_fields_and_of_new_ones_come_back() {
    for saves_before in [true, false] {
        let directory = TempDir::new("altering-saved");
        let server = Server::keeping_graphs_in(directory.path().to_owned());
        fill(&server);
        let save = |server: &Server| {
            while !server.line("FT.INFO idx").contains(r#""pending_mutations", 0"#) {
                std::thread::yield_now();
            }
            server.engine.exporters().into_iter().for_each(|(_, export)| _ = export().expect("writable"));
        };
        if saves_before {
            save(&server);
        }
        assert_eq!(server.line(&ALTER.replace("c TAG", "c TAG INDEXMISSING")), "OK");
        server.backfill();
        if !saves_before {
            save(&server);
        }
        let server = server.restart();
        let report = server.report.join("\n");
        let loaded = if saves_before { DOCUMENTS } else { 2 * DOCUMENTS };
        assert!(report.contains(&format!("{loaded} graph nodes loaded")), "{saves_before}: {report}");
        server.backfill();
        assert_altered(&server);
    }
}

#[test]
fn what_is_deleted_after_the_fields_were_added_does_not_come_back() {
    let directory = TempDir::new("altering-deleted");
    let server = Server::keeping_graphs_in(directory.path().to_owned());
    fill(&server);
    server.engine.exporters().into_iter().for_each(|(_, export)| _ = export().expect("writable"));
    assert_eq!(server.line(ALTER), "OK");
    server.backfill();
    assert_eq!(server.line("DEL d:301"), "1");
    server.hset("d:303", &[("c", b"other"), ("v", &vector(1_000))]);
    let server = server.restart();
    server.backfill();
    assert_eq!(count(&server, "idx", "*"), "499");
    assert_eq!(count(&server, "idx", "@c:{odd}"), "248");
    let nearest = |x: usize| server.keys("*=>[KNN 1 @v $q]", &[b"PARAMS", b"2", b"q", &vector(x)]);
    assert_eq!(nearest(1_000), ["d:303"]);
    assert_ne!(nearest(301), ["d:301"]);
}

#[test]
fn while_fields_are_filled_only_searches_of_these_fields_wait() {
    let mut server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    server.resp3 = true;
    fill(&server);
    assert_eq!(server.line(ALTER), "OK");
    for query in ["@n:[0 100]", "*", "-@n:[1 2]"] {
        assert!(!server.is_offloaded(&format!("FT.SEARCH idx '{query}'")), "{query}");
    }
    for query in ["@c:{odd}", "-@c:{odd}", "'(@n:[1 2])|(@c:{even})'", "* SORTBY c"] {
        let waiting = server.waiting(&format!("FT.SEARCH idx {query} TIMEOUT 0"));
        assert!(!waiting.signal.is_given(), "{query}");
    }
    let waiting = server.waiting("FT.SEARCH idx @c:{odd} LIMIT 0 0 TIMEOUT 0");
    server.backfill();
    assert!(waiting.signal.is_given());
    let mut reply = engramdb_testkit::text::Text::new(false);
    server.engine.complete(0, waiting.block(), &mut reply);
    assert_eq!(reply.finish(), "[250]");
}

#[test]
fn a_search_that_is_under_way_goes_on_with_the_fields_that_it_knew() {
    let server = Server::new();
    fill(&server);
    let words: [&[u8]; 5] = [b"FT.SEARCH", b"idx", b"@n:[3 4]", b"NOCONTENT", b"VERBATIM"];
    let (reply, _) = server.run_interrupted(&words, || {
        assert_eq!(server.line(ALTER), "OK");
        server.backfill();
        server.line("DEL d:4");
    });
    assert_eq!(reply, r#"[1, "d:3"]"#);
}

#[test]
fn an_index_that_is_altered_while_it_is_filled_is_filled_once_more() {
    let server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    fill(&server);
    assert_eq!(server.line("FT.DROPINDEX idx"), "OK");
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    let waiting = server.waiting("FT.SEARCH idx '@n:[0 +inf]' LIMIT 0 0 TIMEOUT 0");
    (0..20).for_each(|_| assert!(server.engine.run_background()));
    assert_eq!(server.line("FT.ALTER idx SCHEMA ADD c TAG"), "OK");
    assert!(!waiting.signal.is_given(), "the index is not complete");
    server.backfill();
    let mut reply = engramdb_testkit::text::Text::new(false);
    server.engine.complete(0, waiting.block(), &mut reply);
    assert_eq!(reply.finish(), "[500]");
    assert_eq!(count(&server, "idx", "@c:{odd}"), "250");
}

#[test]
fn without_a_scan_documents_lack_the_field_until_they_change() {
    let server = Server::new();
    fill(&server);
    assert_eq!(server.line("FT.ALTER idx SKIPINITIALSCAN SCHEMA ADD c TAG INDEXMISSING"), "OK");
    assert_eq!(count(&server, "idx", "@c:{odd}"), "0");
    assert_eq!(count(&server, "idx", "ismissing(@c)"), "500");
    server.hset("d:1", &[("n", b"1")]);
    assert_eq!(count(&server, "idx", "@c:{odd}"), "1");
    assert_eq!(count(&server, "idx", "ismissing(@c)"), "499");
}

#[test]
fn an_index_has_as_many_fields_as_it_may_and_no_more() {
    let server = Server::new();
    let fields: String = (0..1_023).map(|field| format!(" f{field} NUMERIC")).collect();
    assert_eq!(server.line(&format!("FT.CREATE idx SCHEMA{fields}")), "OK");
    assert_eq!(
        server.line("FT.ALTER idx SCHEMA ADD x NUMERIC y NUMERIC"),
        "Schema is limited to 1024 fields"
    );
    assert_eq!(server.line("FT.ALTER idx SCHEMA ADD x NUMERIC"), "OK");
    server.hset("k", &[("x", b"1"), ("f1022", b"2")]);
    assert_eq!(count(&server, "idx", "'@x:[1 1] @f1022:[2 2]'"), "1");
}

#[test]
fn a_short_alias_of_a_long_name_has_room_in_the_log() {
    let server = Server::new();
    let name = "n".repeat(100_000);
    assert_eq!(server.line(&format!("FT.CREATE {name} SCHEMA n NUMERIC")), "OK");
    assert_eq!(server.line(&format!("FT.ALIASADD a {name}")), "OK");
    assert_eq!(server.line("FT.ALTER a SCHEMA ADD m NUMERIC"), "OK");
    assert_eq!(server.line("FT.DROPINDEX a"), "OK");
    assert_eq!(server.restart().line("FT._LIST"), "[]");
}

#[test]
fn an_alias_is_a_name_wherever_one_is_taken_and_comes_back() {
    let server = Server::new();
    fill(&server);
    assert_eq!(server.line("FT.ALIASADD a idx"), "OK");
    assert_eq!(server.line("FT.ALIASADD b idx"), "OK");
    assert_eq!(server.line("FT.ALIASLIST a"), r#"["a", "b"]"#);
    assert!(server.line("FT.INFO b").starts_with(r#"["index_name", "idx""#));
    assert_eq!(server.line("FT.ALTER b SCHEMA ADD c TAG"), "OK");
    server.backfill();
    assert_eq!(server.line("FT.CREATE other PREFIX 1 x: SCHEMA n NUMERIC"), "OK");
    assert_eq!(server.line("FT.ALIASUPDATE b other"), "OK");
    let server = server.restart();
    assert_eq!(count(&server, "a", "@c:{odd}"), "250");
    assert_eq!(count(&server, "b", "*"), "0");
    assert_eq!(server.line("SWAPDB 0 1"), "OK");
    assert_eq!(count(&server, "a", "*"), "a: no such index");
    assert_eq!(server.line("SWAPDB 0 1"), "OK");
    assert_eq!(server.line("FT.DROPINDEX a"), "OK");
    assert_eq!(server.line("FT._LIST"), r#"["other"]"#);
    assert_eq!(server.line("FT.ALIASDEL a"), "Alias does not exist");
    let server = server.restart();
    assert_eq!(server.line("FT.ALIASLIST other"), r#"["b"]"#);
    assert_eq!(server.line("FLUSHALL"), "OK");
    assert_eq!(server.line("FT.ALIASDEL b"), "Alias does not exist");
}

#[test]
fn a_filter_says_which_keys_are_documents_at_each_change() {
    let server = Server::new();
    server.hset("d:before", &[("n", b"5"), ("kind", b"x")]);
    let created = "FT.CREATE idx PREFIX 1 d: FILTER '@n > 1 && @kind == \"x\"' SCHEMA n NUMERIC c TAG";
    assert_eq!(server.line(created), "OK");
    server.backfill();
    let keys = |server: &Server| {
        let mut keys = server.keys("*", &[]);
        keys.sort();
        keys
    };
    assert_eq!(keys(&server), ["d:before"]);
    server.hset("d:1", &[("n", b"1"), ("kind", b"x")]);
    server.hset("d:2", &[("n", b"2"), ("kind", b"x")]);
    server.hset("d:3", &[("n", b"3"), ("kind", b"y"), ("c", b"red")]);
    server.hset("d:4", &[("n", b"text"), ("kind", b"x")]);
    // A missing property is no reason to leave a document out, as in RediSearch.
    server.hset("d:5", &[("kind", b"x")]);
    assert_eq!(keys(&server), ["d:2", "d:5", "d:before"]);
    // `kind` is no field of the schema.
    server.hset("d:3", &[("kind", b"x")]);
    server.hset("d:2", &[("kind", b"y")]);
    assert_eq!(keys(&server), ["d:3", "d:5", "d:before"]);
    server.line("HDEL d:2 kind");
    assert_eq!(keys(&server), ["d:2", "d:3", "d:5", "d:before"]);
    server.line("RENAME d:3 e:3");
    let info = server.line("FT.INFO idx");
    assert!(info.contains(r#""filter", "@n > 1 && @kind"#), "{info}");
    let server = server.restart();
    assert_eq!(keys(&server), ["d:2", "d:5", "d:before"]);
    for (filter, error) in [
        ("'@n >'", "Syntax error at offset"),
        ("nosuch(@n)", "Unknown function name 'nosuch'"),
        ("''", "Syntax error at offset"),
    ] {
        let reply = server.line(&format!("FT.CREATE other FILTER {filter} SCHEMA n NUMERIC"));
        assert!(reply.starts_with(error), "{filter}: {reply}");
    }
}

#[test]
fn a_saved_graph_of_a_filtered_index_comes_back_as_it_is_now() {
    let directory = TempDir::new("altering-filter");
    let server = Server::keeping_graphs_in(directory.path().to_owned());
    let created =
        "FT.CREATE idx FILTER '@n < 300' SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(created), "OK");
    for number in 0..DOCUMENTS {
        server.hset(&format!("d:{number}"), &[("n", number.to_string().as_bytes()), ("v", &vector(number))]);
    }
    server.engine.exporters().into_iter().for_each(|(_, export)| _ = export().expect("writable"));
    server.hset("d:7", &[("n", b"1000")]);
    server.hset("d:400", &[("n", b"0")]);
    let server = server.restart();
    assert_eq!(count(&server, "idx", "*"), "300");
    let nearest = |x: usize| server.keys("*=>[KNN 1 @v $q]", &[b"PARAMS", b"2", b"q", &vector(x)]);
    assert_eq!(nearest(400), ["d:400"]);
    assert_ne!(nearest(7), ["d:7"]);
}

#[test]
fn an_aggregation_reads_numbers_of_a_field_that_is_being_filled_from_the_keys() {
    let server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    for number in 0..DOCUMENTS {
        server.hset(&format!("d:{number}"), &[("n", b"1"), ("m", b"2")]);
    }
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    server.backfill();
    let sum = |server: &Server| {
        server.line("FT.AGGREGATE idx * TIMEOUT 0 LOAD 1 @m GROUPBY 0 REDUCE SUM 1 @m AS sum")
    };
    assert_eq!(server.line("FT.ALTER idx SKIPINITIALSCAN SCHEMA ADD m NUMERIC"), "OK");
    assert_eq!(sum(&server), r#"[1, ["sum", "1000"]]"#);
    assert_eq!(server.line("FT.DROPINDEX idx"), "OK");
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    server.backfill();
    assert_eq!(server.line("FT.ALTER idx SCHEMA ADD m NUMERIC"), "OK");
    assert_eq!(sum(&server), r#"[1, ["sum", "1000"]]"#);
    server.backfill();
    assert_eq!(sum(&server), r#"[1, ["sum", "1000"]]"#);
}
