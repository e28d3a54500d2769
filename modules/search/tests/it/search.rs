//! FT.* in this process: replies, errors, and the effects of mutations on them.

use crate::harness::{Server, Ticking, blob};
use std::sync::Arc;

fn vectors_index(algorithm: &str) -> Server {
    let server = Server::new();
    let create = format!(
        "FT.CREATE idx ON HASH PREFIX 1 d: SCORE 1.0 SCHEMA t TEXT WEIGHT 1 c TAG SEPARATOR , n NUMERIC \
         v VECTOR {algorithm} 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2"
    );
    assert_eq!(server.line(&create), "OK");
    server
}

fn knn(server: &Server, query: &str, vector: &[f32]) -> String {
    let vector = blob(vector);
    server.run(&[
        b"FT.SEARCH",
        b"idx",
        query.as_bytes(),
        b"RETURN",
        b"1",
        b"d",
        b"PARAMS",
        b"2",
        b"v",
        &vector,
    ])
}

#[test]
fn nearest_neighbours_are_replied_in_distance_order_as_soon_as_they_are_written() {
    for algorithm in ["FLAT", "HNSW"] {
        let server = vectors_index(algorithm);
        for (key, x) in [("d:1", 1.0), ("d:2", 2.0), ("d:3", 3.0), ("other", 0.0)] {
            server.hset(key, &[("v", &blob(&[x, 0.0]))]);
        }
        let query = "*=>[KNN 2 @v $v AS d]";
        assert_eq!(
            knn(&server, query, &[2.75, 0.0]),
            r#"[2, "d:3", ["d", "0.0625"], "d:2", ["d", "0.5625"]]"#
        );
        server.hset("d:2", &[("v", &blob(&[2.75, 0.0]))]);
        assert_eq!(knn(&server, query, &[2.75, 0.0]), r#"[2, "d:2", ["d", "0"], "d:3", ["d", "0.0625"]]"#);
        server.line("DEL d:2");
        assert_eq!(
            knn(&server, query, &[2.75, 0.0]),
            r#"[2, "d:3", ["d", "0.0625"], "d:1", ["d", "3.0625"]]"#
        );
        server.line("HDEL d:3 v");
        assert_eq!(knn(&server, query, &[2.75, 0.0]), r#"[1, "d:1", ["d", "3.0625"]]"#);
    }
}

#[test]
fn what_moves_away_after_it_was_found_hides_nobody_nearer() {
    for algorithm in ["FLAT", "HNSW"] {
        let server = vectors_index(algorithm);
        for number in 0..6 {
            server.hset(&format!("d:{number}"), &[("c", b"red"), ("v", &blob(&[number as f32, 0.0]))]);
        }
        for (turn, filter) in ["*", "@c:{red}"].into_iter().enumerate() {
            let query = format!("{filter}=>[KNN 2 @v $v]");
            let origin = blob(&[0.0, 0.0]);
            let words: [&[u8]; 7] =
                [b"FT.SEARCH", b"idx", query.as_bytes(), b"NOCONTENT", b"PARAMS", b"2", b"v"];
            let words = [&words[..], &[&origin]].concat();
            let moved = format!("d:{turn}");
            let (reply, _) = server
                .run_interrupted(&words, || _ = server.hset(&moved, &[("v", &blob(&[100.0, turn as f32]))]));
            let wanted = format!("[2, \"d:{}\", \"d:{}\"]", turn + 1, turn + 2);
            assert_eq!(reply, wanted, "{algorithm} {filter}");
        }
    }
}

#[test]
fn errors_are_those_that_clients_match_on() {
    let server = vectors_index("HNSW");
    let vector = blob(&[0.0, 0.0]);
    let search = |query: &str| {
        server.run(&[
            b"FT.SEARCH",
            b"idx",
            query.as_bytes(),
            b"PARAMS",
            b"4",
            b"v",
            &vector,
            b"short",
            b"1234567",
        ])
    };
    for (query, error) in [
        ("*=>[KNN 2 @bad $v]", "Unknown field at offset 10 near bad"),
        ("*=>[KNN 2 @t $v]", "Expected a VECTOR field at offset 10 near t"),
        ("*=>[KNN 2 @v $b]", "No such parameter `b`"),
        (
            "*=>[KNN 2 @v $short]",
            "Error parsing vector similarity query: query vector blob size (7) does not match index's expected size (8).",
        ),
        (
            "*=>[KNN 2 @v $v EF_RUNTIME 0]",
            "Error parsing vector similarity parameters: Invalid value was given",
        ),
        (
            "*=>[KNN 2 @v $v EF_RUNTIME 5 EF_RUNTIME 5]",
            "Error parsing vector similarity parameters: Parameter was specified twice",
        ),
        (
            "*=>[KNN 2 @v $v BATCH_SIZE 5]",
            "Error parsing vector similarity parameters: hybrid query attributes were sent for a non-hybrid query",
        ),
        (
            "*=>[KNN 2 @v $v EPSILON 1]",
            "Error parsing vector similarity parameters: range query attributes were sent for a non-range query",
        ),
        ("*=>[KNN 2 @v $v AS t]", "Property `t` already exists in schema"),
        (
            "@v:[VECTOR_RANGE -1 $v]",
            "Error parsing vector similarity query: negative radius (-1) given in a range query",
        ),
        ("@c:{", "Syntax error at offset 3 near c"),
        ("*)", "Syntax error at offset 1 near "),
    ] {
        assert_eq!(search(query), error, "{query}");
    }
    assert_eq!(server.line("FT.INFO nope"), "Unknown index name");
    assert_eq!(server.line("FT.SEARCH nope *"), "nope: no such index");
    assert_eq!(server.line("FT.CREATE idx SCHEMA t TEXT"), "Index already exists");
    assert_eq!(server.line("FT.CREATE i SCHEMA f TAG f TAG"), "Duplicate field in schema - f");
    assert_eq!(
        server.line("FT.SEARCH idx * DIALECT 5"),
        "DIALECT requires a non negative integer >=1 and <= 4"
    );
    assert_eq!(server.line("FT.SEARCH idx * LIMIT 1 0"), "[0]");
}

#[test]
fn filters_narrow_documents_and_neighbours() {
    for algorithm in ["FLAT", "HNSW"] {
        let server = vectors_index(algorithm);
        for (key, tag, number, text) in [
            ("d:1", "red,blue", "1", "the lazy dog"),
            ("d:2", "Red", "2", "a dog lazy"),
            ("d:3", "green", "3", "cat"),
        ] {
            let vector = blob(&[number.parse().expect("a number"), 0.0]);
            let fields =
                [("c", tag), ("n", number), ("t", text)].map(|(name, value)| (name, value.as_bytes()));
            server.hset(key, &[fields[0], fields[1], fields[2], ("v", &vector)]);
        }
        for (query, keys) in [
            ("*", &["d:1", "d:2", "d:3"][..]),
            ("@c:{red}", &["d:1", "d:2"]),
            ("@c:{gre*|blue}", &["d:1", "d:3"]),
            ("-@c:{red}", &["d:3"]),
            ("@n:[(1 +inf]", &["d:2", "d:3"]),
            ("@n:[2 3] @c:{red}", &["d:2"]),
            ("@n == 3", &["d:3"]),
            ("@t:(\"lazy dog\")", &["d:1"]),
            ("@t:(dog) | @n:[3 3]", &["d:1", "d:2", "d:3"]),
            ("cat", &["d:3"]),
        ] {
            assert_eq!(server.keys(query, &[]), keys, "{query}");
        }
        let zero = blob(&[0.0, 0.0]);
        let parameters: [&[u8]; 4] = [b"PARAMS", b"2", b"v", &zero];
        assert_eq!(server.keys("(@n:[2 +inf])=>[KNN 1 @v $v]", &parameters), ["d:2"]);
        assert_eq!(server.keys("@v:[VECTOR_RANGE 4 $v]", &parameters), ["d:1", "d:2"]);
        let server = server.restart();
        assert_eq!(server.keys("(@n:[2 +inf])=>[KNN 2 @v $v]", &parameters), ["d:2", "d:3"]);
    }
}

#[test]
fn keys_of_before_are_indexed_and_dropping_with_documents_deletes_them() {
    let server = Server::new();
    for number in 0..500 {
        server.hset(&format!("d:{number}"), &[("n", number.to_string().as_bytes())]);
    }
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    server.backfill();
    assert_eq!(server.line("FT.SEARCH idx * LIMIT 0 0"), "[500]");
    assert_eq!(server.line("FT.DROPINDEX idx DD"), "OK");
    assert_eq!(server.line("EXISTS d:7"), "0");
    assert_eq!(server.line("FT._LIST"), "[]");
}

#[test]
fn no_bytes_make_the_parser_panic() {
    let pieces =
        ["@", "c", ":", "{", "}", "[", "]", "(", ")", "|", "-", "\"", "\\", "*", "$v", "=>", "KNN 1", " "];
    let mut state = 7u64;
    for _ in 0..20_000 {
        let mut query = Vec::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            query.extend_from_slice(pieces[(state >> 33) as usize % pieces.len()].as_bytes());
        }
        engramdb_search::fuzz_query(&query);
    }
    engramdb_search::fuzz_query(&vec![b'('; 100_000]);
}

#[test]
fn memory_of_indexes_is_counted_and_given_back() {
    let server = vectors_index("FLAT");
    let bytes = || {
        let run = server.engine.inspect();
        let view = run.view(0);
        view.modules().iter().map(|module| module.memory_bytes()).sum::<usize>()
    };
    let empty = bytes();
    for number in 0..100 {
        server.hset(&format!("d:{number}"), &[("c", b"red"), ("v", &blob(&[1.0, number as f32]))]);
    }
    let full = bytes();
    assert!(full >= empty + 100 * (16 + 8), "keys and vectors at least: {empty} and {full}");
    // The index owns the texts of new terms, and stores numbers in a tree.
    for number in 0..100 {
        server.hset(&format!("d:{number}"), &[("c", format!("{number:0500}").as_bytes()), ("n", b"7")]);
    }
    let with_terms = bytes();
    assert!(with_terms >= full + 100 * (500 + 12), "{full} and {with_terms}");
    for number in 0..100 {
        server.hset(&format!("d:{number}"), &[("c", b"red")]);
    }
    assert!(bytes() < with_terms - 100 * 500, "{with_terms} and {}", bytes());
    assert_eq!(server.line("FT.DROPINDEX idx"), "OK");
    assert_eq!(bytes(), 100 * 8, "the hashes still stand in the vectors of the index");
    server.backfill();
    assert_eq!(bytes(), 0);
}

#[test]
fn a_search_waits_for_the_last_change_of_its_index_and_for_nothing_else() {
    let server = Server::new();
    let created =
        server.line("FT.CREATE idx PREFIX 1 d: SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2");
    assert_eq!(created, "OK");
    let query = blob(&[1.0, 1.0]);
    let search = || {
        let words: [&[u8]; 8] =
            [b"FT.SEARCH", b"idx", b"*=>[KNN 1 @v $q]", b"PARAMS", b"2", b"q", &query, b"NOCONTENT"];
        server.run_gated(&words).1
    };
    let shown = server.hset("d:1", &[("v", &blob(&[1.0, 1.0]))]);
    assert!(search() >= shown, "it shows the document");
    let far = server.hset("d:2", &[("v", &blob(&[9.0, 9.0]))]);
    assert!(search() >= far, "the document could have been nearer");
    server.hset("other", &[("v", b"not indexed")]);
    assert_eq!(search(), far, "a key outside the index is no affair of its searches");
    let (_, deleted) = server.run_gated(&[b"DEL", b"d:1"]);
    assert!(search() >= deleted, "the absence of a document could still be lost");
}

#[test]
fn inside_exec_a_search_does_not_wait_for_a_backfill_that_needs_its_lock() {
    // With this clock a slice of a backfill ends after one document. The others are left to the background
    // work, which only this test runs.
    let server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    for number in 0..500 {
        server.hset(&format!("d:{number}"), &[("c", b"x")]);
    }
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG"), "OK");
    // TIMEOUT 0 waits forever: without the rule this test would never end.
    let words: [&[u8]; 5] = [b"FT.SEARCH", b"idx", b"@c:{x}", b"TIMEOUT", b"0"];
    let reply = server.run_in_transaction(&words);
    assert!(!reply.starts_with('['), "an index that is being filled does not answer: {reply}");
    server.backfill();
    assert!(server.run_in_transaction(&words).starts_with("[500"), "and answers once it is full");
}

#[test]
fn rows_are_put_in_order_by_what_has_not_expired() {
    let server = vectors_index("FLAT");
    for (number, n) in ["5", "4", "9"].into_iter().enumerate() {
        let fields = [("n", n.as_bytes()), ("v", &blob(&[number as f32, 0.0]))];
        server.hset(&format!("d:{number}"), &fields);
    }
    let zero = blob(&[0.0, 0.0]);
    let search = |query: &str, order: &str| {
        let words: [&[u8]; 11] = [
            b"FT.SEARCH",
            b"idx",
            query.as_bytes(),
            b"WITHSORTKEYS",
            b"NOCONTENT",
            b"PARAMS",
            b"2",
            b"q",
            &zero,
            b"SORTBY",
            b"n",
        ];
        server.run(&words.into_iter().chain([order.as_bytes()]).collect::<Vec<_>>())
    };
    let queries = ["*", "*=>[KNN 3 @v $q]", "(@n:[0 10])=>[KNN 3 @v $q]"];
    for query in queries {
        assert_eq!(search(query, "ASC"), r##"[3, "d:1", "#4", "d:0", "#5", "d:2", "#9"]"##, "{query}");
    }
    // Background work does not run here: the field stays stored, and the index has its number.
    assert_eq!(server.line("HPEXPIRE d:1 1 FIELDS 1 n"), "[1]");
    while server.line("HEXISTS d:1 n") != "0" {}
    for query in &queries[..2] {
        assert_eq!(search(query, "ASC"), r##"[3, "d:0", "#5", "d:2", "#9", "d:1", nil]"##, "{query}");
        assert_eq!(search(query, "DESC"), r##"[3, "d:2", "#9", "d:0", "#5", "d:1", nil]"##, "{query}");
    }
    assert_eq!(search(queries[2], "ASC"), r##"[2, "d:0", "#5", "d:2", "#9"]"##);
}

#[test]
fn what_has_expired_counts_in_no_total_before_it_is_deleted() {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG"), "OK");
    for number in 0..5 {
        server.hset(&format!("d:{number}"), &[("c", b"x")]);
    }
    assert_eq!(server.line("PEXPIRE d:3 1"), "1");
    assert_eq!(server.line("HPEXPIRE d:4 1 FIELDS 1 c"), "[1]");
    assert_eq!(server.line("EXPIRE d:0 1000"), "1");
    // Background work does not run here: both stay stored.
    while server.line("EXISTS d:3 d:4") != "0" {}
    for limit in ["0 0", "0 1", "1 1", "0 10"] {
        let reply = server.line(&format!("FT.SEARCH idx @c:{{x}} NOCONTENT LIMIT {limit}"));
        assert!(reply.starts_with("[3"), "LIMIT {limit}: {reply}");
    }
}

/// The number of ids that one batch had when ids were made from its LSN.
const CREATES_MAX: usize = 1024;

#[test]
fn a_transaction_creates_many_indexes() {
    let server = Server::new();
    let names: Vec<String> = (0..CREATES_MAX + 2).map(|number| format!("i{number}")).collect();
    let create = |name: &String| -> Vec<Vec<u8>> {
        let line = format!("FT.CREATE {name} SCHEMA n NUMERIC");
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    };
    let commands: Vec<Vec<Vec<u8>>> = names.iter().map(create).collect();
    let commands: Vec<Vec<&[u8]>> =
        commands.iter().map(|words| words.iter().map(Vec::as_slice).collect()).collect();
    let replies = server.run_transaction(&commands);
    assert!(replies.iter().all(|reply| reply == "OK"));
    assert_eq!(server.line("FT.CREATE another SCHEMA n NUMERIC"), "OK");
    let server = server.restart();
    assert_eq!(server.report.len(), CREATES_MAX + 3);
}

/// The definition of an index of one NUMERIC field, as encoded in logs.
fn definition(id: u64, name: &str) -> Vec<u8> {
    let bytes = |text: &str| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let numbers = [&id.to_le_bytes()[..], &[0], &1.0_f64.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    let no_words = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let texts = [bytes(name), bytes(""), bytes(""), bytes("")].concat();
    let field = [bytes("n"), bytes("n"), vec![0, 2]].concat();
    // One empty prefix, and one field.
    [numbers, texts, no_words.to_vec(), 1_u32.to_le_bytes().to_vec(), field].concat()
}

#[test]
fn indexes_that_have_one_id_in_the_log_come_back() {
    let server = Server::new();
    let made = |names: std::ops::Range<usize>, id: u64| -> Vec<Vec<u8>> {
        names.map(|number| definition(id, &format!("i{number}"))).collect()
    };
    // Definitions of older logs: without an id, and two with the same id.
    for payloads in [made(0..CREATES_MAX + 5, 0), made(2_000..2_003, 0), made(3_000..3_002, 7)] {
        let commands: Vec<Vec<&[u8]>> =
            payloads.iter().map(|payload| vec![&b"TEST.CREATE"[..], payload]).collect();
        assert!(server.run_transaction(&commands).iter().all(|reply| reply == "OK"));
    }
    server.hset("d:1", &[("n", b"5")]);
    let server = server.restart();
    assert_eq!(server.report.len(), CREATES_MAX + 5 + 3 + 2);
    for index in ["i0", "i1024", "i1028", "i2000", "i2002", "i3000", "i3001"] {
        assert_eq!(server.line(&format!("FT.SEARCH {index} @n:[5] NOCONTENT")), r#"[1, "d:1"]"#, "{index}");
    }
    assert_eq!(server.line("FT.DROPINDEX i2000"), "OK");
    assert_eq!(server.restart().report.len(), CREATES_MAX + 5 + 3 + 2 - 1);
}

#[test]
fn many_parameters_are_read_once_each() {
    let server = vectors_index("FLAT");
    // If each name were compared with all names before it, this would take too long.
    let names: Vec<String> = (0..300_000).map(|number| format!("p{number}")).collect();
    let count = (2 * names.len()).to_string();
    let mut words: Vec<&[u8]> =
        vec![b"FT.SEARCH", b"idx", b"@n:[$p7 $p7]", b"NOCONTENT", b"PARAMS", count.as_bytes()];
    words.extend(names.iter().flat_map(|name| [name.as_bytes(), b"5"]));
    assert_eq!(server.run(&words), "[0]");
    let last = words.len() - 2;
    words[last] = b"p7";
    assert_eq!(server.run(&words), "Duplicate parameter `p7`");
}

#[test]
fn many_filters_are_one_condition() {
    let server = vectors_index("FLAT");
    server.hset("d:1", &[("n", b"1")]);
    server.hset("d:2", &[("n", b"2")]);
    // As nested nodes they would overflow the stack.
    let filters = ["FILTER", "n", "2", "9"].repeat(100_000);
    let mut words: Vec<&[u8]> = vec![b"FT.SEARCH", b"idx", b"*", b"NOCONTENT"];
    words.extend(filters.iter().map(|word| word.as_bytes()));
    assert_eq!(server.run(&words), r#"[1, "d:2"]"#);
}

#[test]
fn a_query_of_too_many_terms_is_refused() {
    let server = Server::new();
    let fields: Vec<String> = (0..1_000).map(|number| format!("t{number} TEXT")).collect();
    assert_eq!(server.line(&format!("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG {}", fields.join(" "))), "OK");
    server.hset("d:1", &[("t999", b"word"), ("c", b"x")]);
    let search = |query: &str| server.run(&[b"FT.SEARCH", b"idx", query.as_bytes(), b"NOCONTENT"]);
    let found = r#"[1, "d:1"]"#;
    let refused = "The query is too large: it may have 131072 terms, each counted for every field that it is looked for in";
    assert_eq!(search(&"word ".repeat(100)), found);
    assert_eq!(search(&"word ".repeat(200)), refused);
    assert_eq!(search(&format!("@t999:({})", "word ".repeat(60_000))), found);
    assert_eq!(search(&format!("@t999:({})", "word ".repeat(70_000))), refused);
    assert_eq!(search(&format!("@c:{{{}x}}", "y|".repeat(100_000))), found);
    assert_eq!(search(&format!("@c:{{{}x}}", "y|".repeat(140_000))), refused);
    assert_eq!(search(&format!("({}word)", "@c:{x} ".repeat(140_000))), refused);
    assert_eq!(server.line("FT.CREATE v SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2"), "OK");
    let within = |ranges: usize| {
        let query = "@v:[VECTOR_RANGE 1 $q] ".repeat(ranges);
        server.run(&[b"FT.SEARCH", b"v", query.as_bytes(), b"PARAMS", b"2", b"q", &blob(&[1.0, 2.0])])
    };
    assert_eq!(within(1_000), "[0]");
    assert_eq!(within(1_100), refused, "each of them would have the vector");
}

#[test]
fn a_schema_of_too_many_fields_is_refused_before_it_is_read() {
    let server = Server::new();
    // If all were compared with each other, this would take too long.
    let fields: Vec<String> = (0..500_000).map(|number| format!("n{number}")).collect();
    let mut words: Vec<&[u8]> = vec![b"FT.CREATE", b"idx", b"SCHEMA"];
    words.extend(fields.iter().flat_map(|name| [name.as_bytes(), b"NUMERIC"]));
    assert_eq!(server.run(&words), "Schema is limited to 1024 fields");
    assert_eq!(server.run(&words[..3 + 2 * 1024]), "OK");
}

#[test]
fn a_document_that_cannot_be_indexed_is_counted_once() {
    let server = Server::new();
    let failures = || {
        let info = server.line("FT.INFO idx");
        let (_, rest) = info.split_once(r#""hash_indexing_failures", "#).expect("FT.INFO tells it");
        rest.split(',').next().and_then(|count| count.parse::<u32>().ok()).expect("a number")
    };
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    server.hset("d:1", &[("n", b"no number"), ("other", b"1")]);
    assert_eq!(failures(), 1);
    for line in [
        "EXPIRE d:1 1000",
        "PERSIST d:1",
        "HEXPIRE d:1 1000 FIELDS 1 other",
        "HSET d:1 other 2",
        "HDEL d:1 other",
    ] {
        server.line(line);
        assert_eq!(failures(), 1, "{line}");
    }
    server.hset("d:1", &[("n", b"still none")]);
    assert_eq!(failures(), 2, "another try");
    server.hset("d:1", &[("n", b"1")]);
    assert_eq!(server.keys("@n:[1]", &[]), ["d:1"]);
}

#[test]
fn a_key_that_the_initial_scan_left_out_is_a_document_once_it_is_touched() {
    let server = Server::new();
    (0..3).for_each(|number| _ = server.hset(&format!("d:{number}"), &[("n", b"1"), ("other", b"1")]));
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SKIPINITIALSCAN SCHEMA n NUMERIC"), "OK");
    assert_eq!(server.keys("@n:[1]", &[]), [""; 0]);
    server.line("HSET d:0 other 2");
    assert_eq!(server.keys("@n:[1]", &[]), ["d:0"]);
    server.line("EXPIRE d:2 1000");
    assert_eq!(server.keys("@n:[1]", &[]), ["d:0", "d:2"]);
}

#[test]
fn a_hash_of_other_fields_is_a_document_for_as_long_as_it_is_there() {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    server.line("HSET d:1 other 1 other 2");
    assert_eq!(server.line("FT.SEARCH idx * LIMIT 0 0"), "[1]");
    assert_eq!(server.line("HDEL d:1 other"), "1");
    assert_eq!(server.line("FT.SEARCH idx * LIMIT 0 0"), "[0]");
    assert_eq!(server.line("FT.SEARCH idx * NOCONTENT"), "[0]");
}
