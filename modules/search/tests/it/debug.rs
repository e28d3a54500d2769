//! FT.DEBUG: the checker of graphs, and RediSearch's texts for wrong requests.

use crate::harness::{Server, blob};

#[test]
fn a_graph_is_checked() {
    let mut server = Server::new();
    server.resp3 = true;
    server.line("FT.CREATE idx SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2");
    let empty = server.line("FT.DEBUG CHECK_GRAPH idx v");
    assert!(empty.starts_with(r#"{"sound": 1, "live": 0, "#), "{empty}");
    for number in 0..300 {
        // Every third is a copy of the first.
        let place = if number % 3 == 0 { 0 } else { number };
        server.hset(&format!("d:{number}"), &[("v", &blob(&[place as f32, 1.0]))]);
    }
    while !server.line("FT.INFO idx").contains(r#""pending_mutations": 0"#) {}
    let checked = concat!(
        r#"{"sound": 1, "live": 300, "pending_mutations": 0, "places": 201, "members": 99, "unreachable": 0, "unkept": 0, "#,
        r#""linked_by_copies_only": 0, "dangling": 0, "lost_members": 0, "unreachable_keys": []}"#
    );
    assert_eq!(server.line("FT.DEBUG check_graph idx v"), checked);
    server.resp3 = false;
    assert!(server.line("ft.debug CHECK_GRAPH idx v").starts_with(r#"["sound", 1, "live", 300, "#));
    assert_eq!(server.line("FT.DEBUG HELP"), "[CHECK_GRAPH, GC_FORCEINVOKE, VECSIM_INFO, WORKERS]");
}

#[test]
fn requests_that_make_no_sense_get_an_error() {
    let server = Server::new();
    server.line(
        "FT.CREATE idx SCHEMA t TEXT v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 w VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2",
    );
    for (line, error) in [
        ("FT.DEBUG", "ERR wrong number of arguments for 'FT.DEBUG' command"),
        ("FT.DEBUG nosuch", "ERR unknown subcommand 'nosuch'. Try FT.DEBUG HELP."),
        ("FT.DEBUG CHECK_GRAPH idx", "ERR wrong number of arguments for 'FT.DEBUG|CHECK_GRAPH' command"),
        ("FT.DEBUG CHECK_GRAPH idx v w", "ERR wrong number of arguments for 'FT.DEBUG|CHECK_GRAPH' command"),
        ("FT.DEBUG CHECK_GRAPH nosuch v", "Can not create a search ctx"),
        ("FT.DEBUG CHECK_GRAPH idx nosuch", "Vector index not found"),
        ("FT.DEBUG CHECK_GRAPH idx t", "Vector index not found"),
        ("FT.DEBUG CHECK_GRAPH idx w", "Vector index not found"),
        ("FT.DEBUG VECSIM_INFO idx", "ERR wrong number of arguments for 'FT.DEBUG|VECSIM_INFO' command"),
        ("FT.DEBUG VECSIM_INFO nosuch v", "Can not create a search ctx"),
        ("FT.DEBUG VECSIM_INFO idx t", "Vector index not found"),
        ("FT.DEBUG GC_FORCEINVOKE nosuch", "Can not create a search ctx"),
        ("FT.DEBUG WORKERS PAUSE", "ERR WORKERS has no action but DRAIN in this server"),
    ] {
        assert_eq!(server.line(line), error, "{line}");
    }
}

/// The value after a name, in the first part of a reply that has it.
fn told(info: &str, name: &str) -> String {
    let (_, after) = info.split_once(&format!("\"{name}\", ")).unwrap_or_else(|| panic!("{name}: {info}"));
    after.split([',', ']']).next().expect("a value").to_owned()
}

#[test]
fn a_vector_field_tells_its_numbers_and_how_it_was_searched() {
    let server = Server::new();
    server.line(
        "FT.CREATE idx SCHEMA c TAG v VECTOR HNSW 8 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 M 8 f VECTOR FLAT 6 TYPE FLOAT64 DIM 2 DISTANCE_METRIC COSINE",
    );
    let info = |field: &str| server.line(&format!("_FT.DEBUG VECSIM_INFO idx {field}"));
    let empty = info("v");
    let backend = empty.split_once("BACKEND_INDEX").expect("a part").1;
    for (name, value) in [("M", "8"), ("MAX_LEVEL", "-1"), ("ENTRYPOINT", "-1"), ("EPSILON", "\"0.01\"")] {
        assert_eq!(told(backend, name), value, "{name}");
    }
    for (name, value) in [
        ("ALGORITHM", "\"TIERED\""),
        ("TYPE", "\"FLOAT32\""),
        ("METRIC", "\"L2\""),
        ("IS_MULTI_VALUE", "0"),
        ("INDEX_SIZE", "0"),
        ("LAST_SEARCH_MODE", "\"EMPTY_MODE\""),
        ("TIERED_BUFFER_LIMIT", "512"),
    ] {
        assert_eq!(told(&empty, name), value, "{name}");
    }
    for number in 0..2_000 {
        let colour = if number % 100 == 0 { "rare" } else { "common" };
        server.hset(&format!("d:{number}"), &[("c", colour.as_bytes()), ("v", &blob(&[number as f32, 1.0]))]);
    }
    assert_eq!(told(&info("v"), "INDEX_SIZE"), "2000", "whether the graph has them or not");
    assert_eq!(server.line("FT.DEBUG WORKERS DRAIN"), "OK");
    assert!(info("v").contains(r#""BACKGROUND_INDEXING", 0"#));
    assert_eq!(told(&info("f"), "INDEX_SIZE"), "0");
    let search = |query: &str| {
        let blob = blob(&[5.0, 1.0]);
        let words: [&[u8]; 6] = [b"FT.SEARCH", b"idx", query.as_bytes(), b"PARAMS", b"2", b"q"];
        server.run(&[&words[..], &[&blob[..]]].concat());
        told(&info("v"), "LAST_SEARCH_MODE")
    };
    assert_eq!(search("*=>[KNN 3 @v $q]"), "\"STANDARD_KNN\"");
    assert_eq!(search("@c:{rare}=>[KNN 3 @v $q]"), "\"HYBRID_ADHOC_BF\"");
    assert_eq!(search("@c:{none}=>[KNN 3 @v $q]"), "\"HYBRID_ADHOC_BF\"", "no vector was compared");
    assert_eq!(search("@c:{common}=>[KNN 3 @v $q]"), "\"HYBRID_BATCHES\"");
    assert_eq!(search("@c:{common}=>[KNN 3 @v $q HYBRID_POLICY ADHOC_BF]"), "\"HYBRID_ADHOC_BF\"");
    assert_eq!(search("@v:[VECTOR_RANGE 2 $q]"), "\"RANGE_QUERY\"");
    assert_eq!(told(&info("f"), "LAST_SEARCH_MODE"), "\"EMPTY_MODE\"");
    // Too few for a repair that begins by itself.
    (0..10).for_each(|number| _ = server.line(&format!("DEL d:{number}")));
    assert_eq!(told(&info("v"), "NUMBER_OF_MARKED_DELETED"), "10");
    assert_eq!(told(&info("v"), "INDEX_SIZE"), "1990");
    assert_eq!(server.line("FT.DEBUG GC_FORCEINVOKE idx"), "DONE");
    assert_eq!(told(&info("v"), "NUMBER_OF_MARKED_DELETED"), "0");
    assert_eq!(told(&info("v"), "INDEX_SIZE"), "1990");
}

#[test]
fn the_mode_of_a_scan_is_named_by_what_the_filter_was_expected_to_leave() {
    let server = Server::new();
    server.line("FT.CREATE idx SCHEMA c TAG d TAG v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2");
    // Half are of one kind, a tenth of another, and no `b` is a `y`.
    for number in 0..6_000 {
        let (kind, other) = if number % 2 == 0 { ("a", "x,y") } else { ("b", "x") };
        let kind = if number % 10 == 0 { "few" } else { kind };
        let fields: [(&str, &[u8]); 3] =
            [("c", kind.as_bytes()), ("d", other.as_bytes()), ("v", &blob(&[number as f32]))];
        server.hset(&format!("d:{number}"), &fields);
    }
    let search = |query: &str| {
        let blob = blob(&[5.0]);
        let words: [&[u8]; 6] = [b"FT.SEARCH", b"idx", query.as_bytes(), b"PARAMS", b"2", b"q"];
        server.run(&[&words[..], &[&blob[..]]].concat());
        told(&server.line("FT.DEBUG VECSIM_INFO idx v"), "LAST_SEARCH_MODE").replace('"', "")
    };
    assert_eq!(search("@c:{b}=>[KNN 3 @v $q]"), "HYBRID_BATCHES");
    assert_eq!(search("@c:{few}=>[KNN 3 @v $q]"), "HYBRID_ADHOC_BF");
    assert_eq!(search("(@c:{b} @d:{y})=>[KNN 3 @v $q]"), "HYBRID_BATCHES_TO_ADHOC_BF", "nothing was left");
    assert_eq!(search("@c:{none}=>[KNN 3 @v $q]"), "HYBRID_BATCHES_TO_ADHOC_BF", "nothing was compared");
    assert_eq!(search("@c:{b}=>[KNN 3 @v $q]=>{$HYBRID_POLICY: ADHOC_BF}"), "HYBRID_ADHOC_BF");
    assert_eq!(search("@c:{b}=>[KNN 3 @v $q HYBRID_POLICY BATCHES]"), "HYBRID_BATCHES");
}
