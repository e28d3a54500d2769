//! Options of FT.*: each works, or is refused with the text of RediSearch 2.10.5.

use crate::harness::{Server, Ticking, blob};
use std::sync::Arc;

fn index() -> Server {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT n NUMERIC s NUMERIC SORTABLE n AS nn NUMERIC c AS cc TAG SORTABLE \
         tag TAG cs TAG CASESENSITIVE SORTABLE tu AS tuu TEXT SORTABLE UNF v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    server.line("HSET d:1 t 'hello world' n 5 s 7 c Red,blue tag 'X Y' cs Aa tu 'Foo Bar'");
    server.line("HSET d:2 t Two n 007.50 s 1e1");
    server
}

#[test]
fn what_is_no_option_or_no_value_of_one_is_refused() {
    let server = index();
    for (options, error) in [
        ("LANGUAGE klingon", "No such language"),
        ("LANGUAGE ''", "No such language"),
        ("SCORER BOGUS", "No such scorer BOGUS"),
        ("SCORER tfidf", "No such scorer tfidf"),
        ("SCORER", "Bad arguments for SCORER: Expected an argument, but none provided"),
        ("FORMAT EXPAND", "EXPAND format is only supported with RESP3"),
        ("FORMAT EXPAND DIALECT 2", "EXPAND format requires dialect 3 or greater"),
        ("FORMAT BOGUS", "FORMAT BOGUS is not supported"),
        ("FORMAT", "Need an argument for FORMAT"),
        ("SORTBY n SORTBY s", "Multiple SORTBY steps are not allowed"),
        ("SORTBY n ASC DESC", "Unknown argument `DESC` at position 4 for <main>"),
        ("SORTBY n ASC MAX 5", "SORTBY MAX is not supported by FT.SEARCH"),
        ("SORTBY", "Bad SORTBY arguments"),
        ("SORTBY bogus", "Property `bogus` not loaded nor in schema"),
        ("LIMIT 0", "LIMIT requires two arguments"),
        ("LIMIT 0 1.5", "LIMIT needs two numeric arguments"),
        ("DIALECT", "Need an argument for DIALECT"),
        ("TIMEOUT", "Need argument for TIMEOUT"),
        ("TIMEOUT -1", "TIMEOUT requires a non negative integer"),
        ("RETURN -1", "Bad arguments for RETURN: Value is outside acceptable bounds"),
        ("RETURN x", "Bad arguments for RETURN: Could not convert argument to expected type"),
        ("RETURN 2 n AS", "RETURN path AS name - must be accompanied with NAME"),
        ("NOCONTENT BOGUS", "Unknown argument `BOGUS` at position 2 for <main>"),
        ("''", "Unknown argument `` at position 1 for <main>"),
    ] {
        assert_eq!(server.line(&format!("FT.SEARCH idx * {options}")), error, "{options}");
    }
    for options in [
        "LANGUAGE French",
        "SCORER TFIDF",
        "SCORER BM25STD",
        "EXPANDER x",
        "PAYLOAD x",
        "FORMAT string",
        "TIMEOUT 0",
    ] {
        assert_eq!(
            server.line(&format!("FT.SEARCH idx hello NOCONTENT {options}")),
            r#"[1, "d:1"]"#,
            "{options}"
        );
    }
}

#[test]
fn the_expanded_format_is_of_other_documents() {
    let mut server = index();
    server.resp3 = true;
    for (options, error) in [
        ("", "EXPAND format is only supported with JSON"),
        ("DIALECT 2", "EXPAND format requires dialect 3 or greater"),
        ("DIALECT 3", "EXPAND format is only supported with JSON"),
    ] {
        assert_eq!(server.line(&format!("FT.SEARCH idx * FORMAT EXPAND {options}")), error, "{options}");
    }
}

#[test]
fn schemas_have_no_options_without_effect() {
    let server = Server::new();
    for (options, error) in [
        ("LANGUAGE klingon SCHEMA t TEXT", "Invalid language"),
        (
            "TEMPORARY x SCHEMA t TEXT",
            "Bad arguments for TEMPORARY: Could not convert argument to expected type",
        ),
        ("PREFIX -1 a SCHEMA t TEXT", "Bad arguments for PREFIX: Value is outside acceptable bounds"),
        ("SCHEMA t TEXT PHONETIC", "PHONETIC requires an argument"),
        ("SCHEMA t TAG SEPARATOR", "SEPARATOR requires an argument"),
        ("SCHEMA t TAG SEPARATOR xx", "Tag separator must be a single character. Got `xx`"),
        ("SCHEMA t AS", "AS requires an argument"),
        ("SCHEMA t AS a", "Field `a` does not have a type"),
        ("SCHEMA t TEXT UNF", "Field `UNF` does not have a type"),
        ("SCHEMA n NUMERIC INDEXEMPTY", "Field `INDEXEMPTY` does not have a type"),
        (
            "SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 SORTABLE",
            "Field `SORTABLE` does not have a type",
        ),
        (
            "SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM -1 DISTANCE_METRIC L2",
            "Bad arguments for vector similarity FLAT index dim: Value is outside acceptable bounds",
        ),
        (
            "SCHEMA v VECTOR HNSW 8 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 EPSILON -1",
            "Bad arguments for vector similarity HNSW index epsilon: Value is outside acceptable bounds",
        ),
        (
            "SCHEMA v VECTOR FLAT 6 TYPE BOGUS DIM 2 DISTANCE_METRIC L2",
            "Bad arguments for vector similarity FLAT index type: Unknown argument",
        ),
    ] {
        assert_eq!(server.line(&format!("FT.CREATE i {options}")), error, "{options}");
    }
    assert_eq!(server.line("FT._LIST"), "[]");
}

#[test]
fn payloads_are_shown_beside_the_row_and_not_in_it() {
    let server = Server::new();
    let options = "LANGUAGE_FIELD l SCORE_FIELD sc PAYLOAD_FIELD p";
    assert_eq!(server.line(&format!("FT.CREATE idx PREFIX 1 d: {options} SCHEMA t TEXT")), "OK");
    server.line("HSET d:1 t x l french sc 0.5 p pay");
    server.line("HSET d:2 t x");
    assert_eq!(
        server.line("FT.SEARCH idx x WITHPAYLOADS"),
        // The score of d:1 is halved.
        r#"[2, "d:2", nil, ["t", "x"], "d:1", "pay", ["t", "x"]]"#
    );
    assert_eq!(server.line("FT.SEARCH idx x WITHPAYLOADS NOCONTENT LIMIT 1 1"), r#"[2, "d:1", "pay"]"#);
    let rule = r#""language_field", "l", "default_score", "1", "score_field", "sc", "payload_field", "p""#;
    let server = server.restart();
    assert!(server.line("FT.INFO idx").contains(rule), "{}", server.line("FT.INFO idx"));
}

#[test]
fn positions_are_checked() {
    let server = Server::new();
    server.line("FT.CREATE idx PREFIX 1 d: SCHEMA g GEO t TEXT");
    for good in ["1,2", "1 2", "1, 2", "1,85.05", "-180,-85", "1e1,2"] {
        server.run(&[b"HSET", b"d:1", b"g", good.as_bytes()]);
        assert_eq!(server.line("FT.SEARCH idx * NOCONTENT"), r#"[1, "d:1"]"#, "{good}");
    }
    for (bad, error) in [
        ("bad", "Invalid geo string"),
        ("1,2,3", "Invalid geo string"),
        ("", "Invalid geo string"),
        ("1,2 ", "Invalid geo string"),
        ("200,95", "Invalid geo coordinates: 200.000000, 95.000000"),
        ("1,85.06", "Invalid geo coordinates: 1.000000, 85.060000"),
    ] {
        server.run(&[b"HSET", b"d:1", b"g", bad.as_bytes()]);
        assert_eq!(server.line("FT.SEARCH idx * NOCONTENT"), "[0]", "{bad}");
        assert!(
            server.line("FT.INFO idx").contains(&format!("\"last indexing error\", \"{error}\"")),
            "{bad}"
        );
    }
}

#[test]
fn a_row_has_each_name_once_and_the_field_that_it_is_sorted_by() {
    let server = index();
    for (options, row) in [
        ("RETURN 2 n n", r#"["n", "5"]"#),
        ("RETURN 2 c cc", r#"["c", "Red,blue", "cc", "Red,blue"]"#),
        ("RETURN 6 n AS m s AS m", r#"["m", "5"]"#),
        ("RETURN 4 s AS n n", r#"["n", "7"]"#),
        ("RETURN 1 t RETURN 1 n", r#"["n", "5"]"#),
        ("RETURN 0 RETURN 1 n", r#"["n", "5"]"#),
        ("SORTBY nn RETURN 1 t", r#"["t", "hello world"]"#),
        (
            "SORTBY cc",
            r#"["cc", "red,blue", "t", "hello world", "n", "5", "s", "7", "c", "Red,blue", "tag", "X Y", "cs", "Aa", "tu", "Foo Bar"]"#,
        ),
        (
            "SORTBY tag",
            r#"["tag", "X Y", "t", "hello world", "n", "5", "s", "7", "c", "Red,blue", "cs", "Aa", "tu", "Foo Bar"]"#,
        ),
        (
            "SORTBY nn",
            r#"["nn", "5", "t", "hello world", "n", "5", "s", "7", "c", "Red,blue", "tag", "X Y", "cs", "Aa", "tu", "Foo Bar"]"#,
        ),
    ] {
        let reply = server.line(&format!("FT.SEARCH idx * INKEYS 1 d:1 {options}"));
        assert_eq!(reply, format!(r#"[1, "d:1", {row}]"#), "{options}");
    }
}

#[test]
fn sort_keys_are_what_rows_are_compared_by() {
    let server = index();
    for (options, key) in [
        ("SORTBY n NOCONTENT", "#5"),
        ("SORTBY s NOCONTENT", "#7"),
        ("SORTBY cc NOCONTENT", "$red,blue"),
        ("SORTBY tag NOCONTENT", "$X Y"),
        ("SORTBY cs NOCONTENT", "$Aa"),
        ("SORTBY tuu NOCONTENT", "$Foo Bar"),
        ("SORTBY t NOCONTENT", "$hello world"),
    ] {
        let reply = server.line(&format!("FT.SEARCH idx * INKEYS 1 d:1 WITHSORTKEYS {options}"));
        assert_eq!(reply, format!(r#"[1, "d:1", "{key}"]"#), "{options}");
    }
    // A number that is not sortable is returned as it is written in the hash.
    for (field, keys) in [("n", ["$5", "$007.50"]), ("nn", ["#5", "#7.5"]), ("s", ["#7", "#10"])] {
        let reply = server.line(&format!("FT.SEARCH idx * WITHSORTKEYS SORTBY {field}"));
        for key in keys {
            assert!(reply.contains(&format!("\"{key}\", [")), "{field}: {reply}");
        }
    }
    assert!(server.line("FT.INFO idx").contains(r#""CASESENSITIVE", "SORTABLE", "UNF""#));
}

#[test]
fn stop_words_are_looked_for_when_asked_for() {
    let server = index();
    assert_eq!(server.line("FT.SEARCH idx 'the hello' NOCONTENT"), r#"[1, "d:1"]"#);
    assert_eq!(server.line("FT.SEARCH idx 'the hello' NOCONTENT NOSTOPWORDS"), "[0]");
    assert_eq!(server.line("FT.SEARCH idx 'the|hello' NOCONTENT NOSTOPWORDS"), r#"[1, "d:1"]"#);
}

#[test]
fn an_index_is_dropped_by_words_that_mean_it() {
    let server = index();
    let wrong_arity = "ERR wrong number of arguments for 'FT.DROPINDEX' command";
    assert_eq!(server.line("FT.DROPINDEX idx DD DD"), wrong_arity);
    assert_eq!(server.line("FT.DROPINDEX idx KEEPDOCS x"), wrong_arity);
    assert_eq!(server.line("FT.DROPINDEX idx KEEP"), "Unknown argument `KEEP`");
    assert_eq!(server.line("FT.DROPINDEX none KEEP"), "Unknown Index name");
    assert_eq!(server.line("FT.DROPINDEX idx ''"), "OK");
    for (word, left) in [("keepdocs", "2"), ("", "2"), ("dd", "0")] {
        assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT"), "OK");
        assert_eq!(server.line(&format!("FT.DROPINDEX idx {word}")), "OK");
        assert_eq!(server.line("EXISTS d:1 d:2"), left, "{word}");
    }
}

#[test]
fn indexing_takes_time_which_is_told() {
    // Each reading of the clock advances it by a millisecond.
    let server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    server.line("FT.CREATE idx PREFIX 1 d: SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2");
    let time = |server: &Server| -> f64 {
        let info = server.line("FT.INFO idx");
        let (_, after) = info.split_once(r#""total_indexing_time", ""#).expect("a pair of it");
        after.split('"').next().expect("a value").parse().expect("a number")
    };
    assert_eq!(time(&server), 0.0);
    server.hset("d:1", &[("v", &blob(&[1.0, 2.0]))]);
    let first = time(&server);
    assert!(first > 0.0);
    (0..100)
        .for_each(|number| _ = server.hset(&format!("d:{number}"), &[("v", &blob(&[number as f32, 2.0]))]));
    assert!(time(&server) > first);
}

#[test]
fn settings_are_told_with_what_they_are_for() {
    let mut server = index();
    let help = r#"[[TIMEOUT, Description, Query (search) timeout, Value, "500"]]"#;
    assert_eq!(server.line("FT.CONFIG HELP TIMEOUT"), help);
    assert_eq!(server.line("FT.CONFIG HELP timeout x"), help);
    assert_eq!(server.line("FT.CONFIG HELP bogus"), "[]");
    for (line, reply) in [
        ("SET TIMEOUT 100", "OK"),
        ("GET search-timeout", r#"[[TIMEOUT, "100"]]"#),
        ("SET TIMEOUT x", "Could not convert argument to expected type"),
        ("SET TIMEOUT -1", "Value is outside acceptable bounds"),
        ("SET TIMEOUT", "Expected an argument, but none provided"),
        ("SET TIMEOUT 1 2", "EXCESSARGS"),
        ("SET BOGUS 1", "Invalid option"),
        ("SET ON_TIMEOUT bogus", "Invalid ON_TIMEOUT value"),
        ("BOGUS x", "No such configuration action"),
    ] {
        assert_eq!(server.line(&format!("FT.CONFIG {line}")), reply, "{line}");
    }
    server.resp3 = true;
    let map = r#"{TIMEOUT: {Description: Query (search) timeout, Value: "100"}}"#;
    assert_eq!(server.line("FT.CONFIG HELP TIMEOUT"), map);
}

#[test]
fn errors_have_code_words_when_asked_for() {
    let server = index();
    let lines = [
        ("FT.INFO none", "Unknown index name", "SEARCH_INDEX_NOT_FOUND Index not found: none"),
        ("FT.DROPINDEX none", "Unknown Index name", "SEARCH_INDEX_NOT_FOUND Index not found: none"),
        ("FT.TAGVALS none c", "Unknown Index name", "SEARCH_INDEX_NOT_FOUND Index not found: none"),
        ("FT.SEARCH none *", "none: no such index", "SEARCH_INDEX_NOT_FOUND Index not found: none"),
        ("FT.EXPLAIN none *", "none: no such index", "SEARCH_INDEX_NOT_FOUND Index not found: none"),
        (
            "FT.PROFILE none SEARCH QUERY *",
            "none: no such index",
            "SEARCH_INDEX_NOT_FOUND Index not found: none",
        ),
        ("FT.CREATE idx SCHEMA t TEXT", "Index already exists", "SEARCH_INDEX_EXISTS Index already exists"),
        (
            "FT.CREATE i BOGUS SCHEMA t TEXT",
            "Unknown argument `BOGUS`",
            "SEARCH_ARG_UNRECOGNIZED Unknown argument `BOGUS`",
        ),
        ("FT.SEARCH idx (", "Syntax error at offset 0 near ", "SEARCH_SYNTAX Syntax error at offset 0 near "),
        ("FT.SEARCH idx $p", "No such parameter `p`", "SEARCH_PARAM_NOT_FOUND Parameter not found `p`"),
        ("FT.CONFIG SET BOGUS 1", "Invalid option", "SEARCH_OPTION_INVALID No such option"),
    ];
    lines.iter().for_each(|(line, plain, _)| assert_eq!(server.line(line), *plain));
    assert_eq!(server.line("FT.CONFIG SET search-error-style codes"), "OK");
    lines.iter().for_each(|(line, _, coded)| assert_eq!(server.line(line), *coded));
    server.line("HSET d:3 n many");
    let told = r#""SEARCH_NUMERIC_VALUE_INVALID Invalid numeric value: \'many\'""#;
    assert!(server.line("FT.INFO idx").contains(told), "{}", server.line("FT.INFO idx"));
    assert_eq!(server.line("FT.CONFIG SET ERROR_STYLE plain"), "OK");
    assert!(!server.line("FT.INFO idx").contains("SEARCH_"));
}
