//! Settings that change answers, limits of declared memory, indexes that are built anew, and the older
//! commands about documents.

use crate::harness::{Server, blob};

fn texts() -> Server {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT n NUMERIC"), "OK");
    for (key, text, number) in [("d:1", "hello", "1"), ("d:2", "help", "2"), ("d:3", "held", "3")] {
        server.hset(key, &[("t", text.as_bytes()), ("n", number.as_bytes())]);
    }
    server
}

/// Each line with its reply.
fn check(server: &Server, lines: &[(&str, &str)]) {
    for (line, reply) in lines {
        assert_eq!(server.line(line), *reply, "{line}");
    }
}

#[test]
fn short_patterns_match_nothing_where_a_setting_says_so() {
    let server = texts();
    let found = |query: &str| server.line(&format!("FT.SEARCH idx {query} NOCONTENT LIMIT 0 0"));
    assert_eq!(found("h*"), "[3]");
    assert_eq!(server.line("FT.CONFIG SET MINPREFIX 4"), "OK");
    for (query, count) in
        [("hel*", 0), ("hell*", 1), ("*el*", 0), ("*ld", 0), ("-hel*", 3), ("hello|hel*", 1), ("hello", 1)]
    {
        assert_eq!(found(query), format!("[{count}]"), "{query}");
    }
    assert_eq!(server.line("FT.CONFIG SET search-min-prefix 1"), "OK");
    assert_eq!(found("hel*"), "[3]", "the searches that are kept were parsed anew");
    assert_eq!(server.line("FT.CONFIG SET MINPREFIX 0"), "Value is outside acceptable bounds");
}

#[test]
fn patterns_expand_to_as_many_terms_as_a_setting_says() {
    let server = texts();
    let found = |query: &str| server.line(&format!("FT.SEARCH idx {query} NOCONTENT"));
    assert_eq!(server.line("FT.CONFIG GET MAXEXPANSIONS"), r#"[[MAXPREFIXEXPANSIONS, "unlimited"]]"#);
    assert_eq!(server.line("FT.CONFIG SET MAXEXPANSIONS 1"), "OK");
    for query in ["hel*", "*el*"] {
        assert_eq!(found(query), r#"[1, "d:3"]"#, "{query}: the first term by its bytes");
    }
    assert_eq!(server.line("FT.SEARCH idx %hell% LIMIT 0 0"), "[1]");
    assert_eq!(server.line("FT.CONFIG SET MAXPREFIXEXPANSIONS -1"), "OK");
    assert_eq!(server.line("FT.SEARCH idx hel* LIMIT 0 0"), "[3]");
    assert_eq!(server.line("FT.CONFIG SET MAXEXPANSIONS 0"), "Value is outside acceptable bounds");
}

#[test]
fn the_number_of_rows_is_limited() {
    let server = texts();
    check(
        &server,
        &[
            ("FT.CONFIG SET MAXSEARCHRESULTS 1", "OK"),
            ("FT.SEARCH idx * NOCONTENT", r#"[3, "d:1"]"#),
            ("FT.SEARCH idx * NOCONTENT LIMIT 0 2", "LIMIT exceeds maximum of 1"),
            ("FT.SEARCH idx * NOCONTENT LIMIT 2 1", "OFFSET exceeds maximum of 1"),
            ("FT.SEARCH idx * NOCONTENT LIMIT 1 1", "[3]"),
            ("FT.CONFIG SET MAXSEARCHRESULTS 2", "OK"),
            ("FT.SEARCH idx * NOCONTENT LIMIT 1 2", r#"[3, "d:2"]"#),
            ("FT.SEARCH idx hel* NOCONTENT SORTBY n LIMIT 1 2", r#"[3, "d:2"]"#),
            ("FT.SEARCH idx * NOCONTENT LIMIT 2 2", "[3]"),
            ("FT.SEARCH idx * NOCONTENT LIMIT 3 0", "OFFSET exceeds maximum of 2"),
            ("FT.AGGREGATE idx * LOAD 1 @n LIMIT 0 2", r#"[1, ["n", "1"], ["n", "2"]]"#),
            ("FT.CONFIG SET MAXSEARCHRESULTS -1", "OK"),
            ("FT.CONFIG GET MAXSEARCHRESULTS", r#"[[MAXSEARCHRESULTS, "unlimited"]]"#),
            ("FT.SEARCH idx * NOCONTENT LIMIT 0 2000000", r#"[3, "d:1", "d:2", "d:3"]"#),
            ("FT.CONFIG SET MAXAGGREGATERESULTS 1", "OK"),
            ("FT.AGGREGATE idx * LIMIT 0 2", "LIMIT exceeds maximum of 1"),
            ("FT.AGGREGATE idx * SORTBY 1 @n", r#"[3, ["n", "1"]]"#),
            ("FT.CONFIG SET MAXAGGREGATERESULTS -1", "OK"),
            ("FT.CONFIG SET INDEX_CURSOR_LIMIT 1025", "Value is outside acceptable bounds"),
            ("FT.CONFIG SET INDEX_CURSOR_LIMIT 0", "OK"),
            ("FT.AGGREGATE idx * WITHCURSOR", "INDEX_CURSOR_LIMIT of 0 has been reached for an index"),
        ],
    );
}

#[test]
fn a_setting_names_the_scorer_of_searches_that_name_none() {
    let server = texts();
    let score = |words: &str| server.line(&format!("FT.SEARCH idx hello NOCONTENT WITHSCORES {words}"));
    let (standard, older) = (score("SCORER BM25STD"), score("SCORER TFIDF"));
    assert_ne!(standard, older);
    assert_eq!(score(""), standard);
    assert_eq!(server.line("FT.CONFIG SET DEFAULT_SCORER TFIDF"), "OK");
    assert_eq!(score(""), older);
    assert_eq!(score("SCORER BM25STD"), standard);
    assert_eq!(server.line("FT.CONFIG SET DEFAULT_SCORER bogus"), "Invalid DEFAULT_SCORER value");
    let (four, nine) = (score("SCORER BM25STD.TANH"), score("SCORER BM25STD.TANH BM25STD_TANH_FACTOR 9"));
    assert_ne!(four, nine);
    assert_eq!(server.line("FT.CONFIG SET BM25STD_TANH_FACTOR 9"), "OK");
    assert_eq!(score("SCORER BM25STD.TANH"), nine);
    assert_eq!(score("SCORER BM25STD.TANH BM25STD_TANH_FACTOR 4"), four);
}

#[test]
fn constants_are_told_and_other_values_refused() {
    let mut server = texts();
    check(
        &server,
        &[
            ("FT.CONFIG GET UNION_ITERATOR_HEAP", r#"[[UNION_ITERATOR_HEAP, "20"]]"#),
            ("FT.CONFIG SET UNION_ITERATOR_HEAP 20", "OK"),
            ("FT.CONFIG SET UNION_ITERATOR_HEAP 1", "UNION_ITERATOR_HEAP is always 20 in this server"),
            ("FT.CONFIG SET MAXDOCTABLESIZE 7", "Not modifiable at runtime"),
            ("FT.CONFIG SET UNION_ITERATOR_HEAP", "Expected an argument, but none provided"),
            ("FT.CONFIG GET EXTLOAD", "[[EXTLOAD, nil]]"),
            ("FT.CONFIG SET DEFAULT_DIALECT 9", "Default dialect version cannot be higher than 4"),
            ("FT.CONFIG SET DEFAULT_DIALECT 0", "Value is outside acceptable bounds"),
            ("FT.CONFIG SET TIMEOUT 99999999999999999999", "Could not convert argument to expected type"),
        ],
    );
    let all = server.line("FT.CONFIG GET *");
    for name in ["TIMEOUT", "VSS_MAX_RESIZE", "GC_POLICY", "_NUMERIC_RANGES_PARENTS", "WORKERS", "ON_OOM"] {
        assert!(all.contains(&format!("[{name}, ")), "{name}: {all}");
    }
    server.resp3 = true;
    assert_eq!(server.line("FT.CONFIG GET union-iterator-heap"), r#"{UNION_ITERATOR_HEAP: "20"}"#);
}

#[test]
fn vectors_may_not_be_declared_to_take_more_than_a_tenth_of_the_memory() {
    let server = Server::new();
    let create = |name: &str, words: &str| {
        server
            .line(&format!("FT.CREATE {name} SCHEMA v VECTOR {words} TYPE FLOAT32 DIM 16 DISTANCE_METRIC L2"))
    };
    assert_eq!(create("any", "FLAT 8 INITIAL_CAP 99999999999"), "OK", "the memory is not known");
    server.engine.tell_memory(10_000_000);
    for (words, error) in [
        ("FLAT 8 INITIAL_CAP 12501", "initial capacity 12501 exceeded server limit (12500 "),
        ("FLAT 8 BLOCK_SIZE 12501", "initial capacity 12501 exceeded server limit (12500 "),
        ("FLAT 10 INITIAL_CAP 1 BLOCK_SIZE 12501", "block size 12501 exceeded server limit (12500 "),
        ("HNSW 8 INITIAL_CAP 3534", "initial capacity 3534 exceeded server limit (3533 "),
        ("HNSW 10 INITIAL_CAP 9999 M 32", "initial capacity 9999 exceeded server limit (2433 "),
    ] {
        assert_eq!(create("idx", words), format!("Vector index {error}with the given parameters)"));
    }
    assert_eq!(create("idx", "FLAT 10 INITIAL_CAP 12500 BLOCK_SIZE 12500"), "OK");
    server.engine.tell_memory(100_000);
    assert_eq!(create("small", "FLAT 6"), "OK", "a default is no declaration");
    assert!(server.line("FT.DEBUG VECSIM_INFO small v").contains(r#""BLOCK_SIZE", 125]"#));
    let alter =
        "FT.ALTER idx SCHEMA ADD w VECTOR FLAT 8 TYPE FLOAT32 DIM 16 DISTANCE_METRIC L2 INITIAL_CAP 200";
    assert!(server.line(alter).starts_with("Vector index initial capacity 200 exceeded server limit (125 "));
    assert_eq!(server.line("FT.CONFIG SET VSS_MAX_RESIZE 640"), "OK");
    assert!(create("no", "FLAT 8 INITIAL_CAP 9").contains("(8 with the given parameters)"));
}

#[test]
fn indexes_are_built_anew_with_their_aliases_and_synonyms() {
    let server = Server::new();
    server.line(
        "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2",
    );
    server.line("FT.ALIASADD other idx");
    server.line("FT.SYNUPDATE idx g hello hi");
    for number in 0..300 {
        server.hset(&format!("d:{number}"), &[("t", b"hello"), ("v", &blob(&[number as f32, 1.0]))]);
    }
    let nearest = || {
        let words: [&[u8]; 10] = [
            b"FT.SEARCH",
            b"other",
            b"*=>[KNN 3 @v $q]",
            b"NOCONTENT",
            b"PARAMS",
            b"2",
            b"q",
            &blob(&[7.0, 1.0]),
            b"SORTBY",
            b"__v_score",
        ];
        server.run(&words)
    };
    let before = nearest();
    server.engine.rebuild();
    server.hset("d:1000", &[("t", b"hello")]);
    assert_eq!(server.line("HGET d:7 t"), r#""hello""#);
    server.backfill();
    assert_eq!(nearest(), before);
    assert_eq!(server.line("FT.SEARCH idx hi LIMIT 0 0"), "[301]");
    server.engine.rebuild();
    server.engine.rebuild();
    server.backfill();
    assert_eq!(nearest(), before);
    server.line("FT.DROPINDEX idx DD");
    server.backfill();
    assert_eq!(server.line("DBSIZE"), "0");
}

#[test]
fn older_commands_read_and_write_hashes() {
    let server = Server::new();
    server.line("FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT n NUMERIC");
    server.line("SET d:string x");
    check(
        &server,
        &[
            ("FT.ADD idx d:1 0.5 LANGUAGE french PAYLOAD pp FIELDS t hello n 3 x y", "OK"),
            (
                "HGETALL d:1",
                r#"["t", "hello", "n", "3", "x", "y", "__score", "0.5", "__language", "french", "__payload", "pp"]"#,
            ),
            ("FT.GET idx d:1", r#"["t", "hello", "n", "3", "x", "y"]"#),
            ("FT.ADD idx d:1 1 FIELDS t bye", "Document already exists"),
            ("FT.ADD idx d:1 1 REPLACE FIELDS t bye", "OK"),
            ("HGETALL d:1", r#"["t", "bye"]"#),
            ("FT.ADD idx d:1 0.25 REPLACE PARTIAL FIELDS n 5", "OK"),
            ("HGETALL d:1", r#"["t", "bye", "n", "5", "__score", "0.25"]"#),
            ("FT.SAFEADD idx d:1 1 REPLACE IF @n>9 FIELDS n 1", "NOADD"),
            ("FT.ADD idx d:1 1 REPLACE PARTIAL IF @n>4 FIELDS n 6", "OK"),
            ("FT.ADD idx d:9 1 REPLACE NOCREATE FIELDS t x", "Document does not exist"),
            ("FT.ADD idx d:9 1 FIELDS t", "Fields must be specified in FIELD VALUE pairs"),
            ("FT.ADD idx d:9 1 t x", "Unknown keyword `t` provided"),
            ("FT.ADD idx d:9 1", "No field list found"),
            ("FT.ADD idx d:9 -1 FIELDS t x", "Score must be between 0 and 1"),
            ("FT.ADD idx d:9 nan FIELDS t x", "Could not parse document score"),
            ("FT.ADD idx d:9 1 LANGUAGE nope FIELDS t x", "Unsupported language"),
            ("FT.ADD idx d:9 1 PAYLOAD", "PAYLOAD: Expected an argument, but none provided"),
            ("FT.ADD idx d:string 1 REPLACE FIELDS t x", "Invalid Redis key"),
            ("FT.ADD none d:9 1 FIELDS t x", "Unknown index name"),
            ("FT.GET idx d:string", "nil"),
            ("FT.GET none d:1", "Unknown Index name"),
            ("FT.GET idx d:1 d:2", "ERR wrong number of arguments for 'FT.GET' command"),
            ("FT.MGET idx d:1 d:2", r#"[["t", "bye", "n", "6"], nil]"#),
            ("FT.SEARCH idx bye NOCONTENT", r#"[1, "d:1"]"#),
            ("FT.DEL idx d:1", "1"),
            ("FT.DEL idx d:1 DD", "0"),
            ("FT.SEARCH idx bye NOCONTENT", "[0]"),
            ("FT.DEL none d:1", "Unknown Index name"),
            ("HSET d:2 t x", "1"),
            ("FT.DROP idx KEEPDOCS", "OK"),
            ("EXISTS d:2", "1"),
            ("FT._DROPIFX idx", "OK"),
            ("FT.DROP idx", "Unknown Index name"),
            ("FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT", "OK"),
            ("FT.DROP idx BOGUS", "Unknown argument `BOGUS`"),
            ("FT.DROP idx", "OK"),
            ("EXISTS d:2", "0"),
        ],
    );
}

#[test]
fn an_index_tells_its_records_its_dialects_and_its_cursors() {
    let server = Server::new();
    server.line("FT.CREATE idx SCHEMA t TEXT NOSTEM g TAG n NUMERIC");
    server.hset("d:1", &[("t", b"hello world hello"), ("g", b"a,b"), ("n", b"1")]);
    server.hset("d:2", &[("t", b"hello"), ("g", b"b"), ("n", b"2")]);
    let info = || server.line("FT.INFO idx");
    assert!(info().contains(r#""num_records", 7"#), "{}", info());
    assert!(
        info()
            .contains(r#""dialect_stats", ["dialect_1", 0, "dialect_2", 0, "dialect_3", 0, "dialect_4", 0]"#)
    );
    server.line("FT.SEARCH idx * DIALECT 3");
    server.line("FT.AGGREGATE idx * WITHCURSOR COUNT 1");
    assert!(
        info()
            .contains(r#""dialect_stats", ["dialect_1", 0, "dialect_2", 1, "dialect_3", 1, "dialect_4", 0]"#)
    );
    assert!(info().contains(
        r#""cursor_stats", ["global_idle", 1, "global_total", 1, "index_capacity", 128, "index_total", 1]"#
    ));
    server.line("DEL d:1");
    assert!(info().contains(r#""num_records", 3"#), "{}", info());
    server.line("DEL d:2");
    assert!(info().contains(r#""num_records", 0"#), "{}", info());
}

#[test]
fn patterns_find_the_same_with_and_without_a_structure_for_what_terms_contain() {
    let server = Server::new();
    server.line("FT.CREATE plain SCHEMA t TEXT g TAG CASESENSITIVE u TEXT");
    server.line("FT.CREATE fast SCHEMA t TEXT WITHSUFFIXTRIE g TAG CASESENSITIVE WITHSUFFIXTRIE u TEXT");
    // Words of few letters, so that many contain the same; each key is written again and some are deleted.
    let mut state = 7u64;
    let mut next = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let mut word = |letters: &[u8]| -> String {
        (0..1 + next(8)).map(|_| char::from(letters[next(letters.len() as u64) as usize])).collect()
    };
    for number in 0..3_000 {
        let key = format!("d:{}", number % 1_500);
        let (text, tag) = (word(b"abcde"), word(b"abAB"));
        server.hset(&key, &[("t", text.as_bytes()), ("g", tag.as_bytes()), ("u", b"other")]);
        if number % 7 == 0 {
            server.line(&format!("DEL {key}"));
        }
    }
    for number in 0..200 {
        let part = word(b"abcdeAB");
        let (end, start) = (word(b"ab"), word(b"abc"));
        for query in [
            format!("*{part}*"),
            format!("*{part}"),
            format!("@t:(*{part}*)"),
            format!("w'{start}*{end}'"),
            format!("w'*{start}?{end}*'"),
            format!("@g:{{*{part}*}}"),
            format!("@g:{{*{part}}}"),
            format!("@g:{{w'{start}*{end}'}}"),
        ] {
            let found = |index: &str| {
                let words: [&[u8]; 8] = [
                    b"FT.SEARCH",
                    index.as_bytes(),
                    query.as_bytes(),
                    b"NOCONTENT",
                    b"WITHSCORES",
                    b"LIMIT",
                    b"0",
                    b"2000",
                ];
                server.run(&words)
            };
            let (plain, fast) = (found("plain"), found("fast"));
            let count = |reply: &str| reply.split(',').next().map(str::to_owned);
            assert_eq!(count(&plain), count(&fast), "{query}");
            if number % 10 == 0 && query.starts_with('@') {
                assert_eq!(plain, fast, "{query}");
            }
        }
    }
    assert_eq!(server.line("FT.CONFIG SET MAXEXPANSIONS 1"), "OK");
    for query in ["@g:{*ab*}", "@g:{*aB}"] {
        let found = |index: &str| server.line(&format!("FT.SEARCH {index} {query} NOCONTENT LIMIT 0 2000"));
        assert_eq!(found("plain"), found("fast"), "{query}: the same first term");
    }
}

#[test]
fn a_command_reads_a_bounded_number_of_fields() {
    let server = Server::new();
    server.line("FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT");
    let names: Vec<String> = (0..4000).map(|number| format!("f{number}")).collect();
    let fields: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    server.hset("d:1", &fields);
    server.hset("d:2", &[("t", b"hello")]);
    assert_eq!(server.line("FT.MGET idx d:2 d:2"), r#"[["t", "hello"], ["t", "hello"]]"#);
    let many =
        |key: &str, times: usize| server.line(&format!("FT.MGET idx{}", format!(" {key}").repeat(times)));
    assert!(many("d:1", 16).starts_with("[[\"f"));
    assert_eq!(many("d:1", 17), "ERR the documents have more than 65536 fields: ask for fewer");
    assert_eq!(many("d:2", 4097), "ERR FT.MGET reads at most 4096 documents");
}

#[test]
fn the_window_of_a_hybrid_search_is_bounded() {
    let server = Server::new();
    server.line("FT.CREATE idx SCHEMA t TEXT v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2");
    let search = |window: &str| {
        let blob = blob(&[1.0, 2.0]);
        let words: Vec<&[u8]> = vec![
            b"FT.HYBRID",
            b"idx",
            b"SEARCH",
            b"x",
            b"VSIM",
            b"@v",
            b"$q",
            b"COMBINE",
            b"RRF",
            b"2",
            b"WINDOW",
            window.as_bytes(),
            b"PARAMS",
            b"2",
            b"q",
            &blob,
        ];
        server.run(&words)
    };
    for window in ["1000001", "1000000000", "99999999999"] {
        assert_eq!(search(window), "LIMIT exceeds maximum of 1000000", "{window}");
    }
    assert_eq!(server.line("FT.CONFIG SET MAXSEARCHRESULTS -1"), "OK");
    assert_eq!(search("1000001"), "LIMIT exceeds maximum of 1000000");
    assert_eq!(server.line("FT.CONFIG SET MAXSEARCHRESULTS 10"), "OK");
    assert_eq!(search("11"), "LIMIT exceeds maximum of 10");
    assert!(!search("10").contains("exceeds"), "{}", search("10"));
}
