//! What the dialect of a request changes, and scores that follow from the tree of a query.

use crate::harness::{Server, blob};

fn people() -> Server {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA name TEXT NOSTEM last TEXT NOSTEM c TAG n NUMERIC";
    assert_eq!(server.line(create), "OK");
    for (key, name, last, tag, number) in [
        ("d:1", "james", "brown", "x", "1"),
        ("d:2", "james brown", "smith", "y", "2"),
        ("d:3", "mary", "james", "x", "3"),
    ] {
        let pairs = [("name", name), ("last", last), ("c", tag), ("n", number)];
        server.hset(key, &pairs.map(|(name, value)| (name, value.as_bytes())));
    }
    server
}

fn found(server: &Server, query: &str, dialect: &str) -> String {
    let words = [&b"FT.SEARCH"[..], b"idx", query.as_bytes(), b"NOCONTENT", b"SORTBY", b"n", b"DIALECT"];
    server.run(&[&words[..], &[dialect.as_bytes()]].concat())
}

#[test]
fn in_dialect_1_fields_and_signs_reach_further() {
    let server = people();
    for (query, first, second) in [
        ("@name: James Brown", r#"[1, "d:2"]"#, r#"[2, "d:1", "d:2"]"#),
        ("@name:mary|james @c:{x}", r#"[2, "d:1", "d:3"]"#, r#"[2, "d:1", "d:3"]"#),
        ("@name:mary | james", r#"[3, "d:1", "d:2", "d:3"]"#, r#"[3, "d:1", "d:2", "d:3"]"#),
        ("james brown|mary", r#"[3, "d:1", "d:2", "d:3"]"#, r#"[3, "d:1", "d:2", "d:3"]"#),
        ("-smith @c:{x}", r#"[3, "d:1", "d:2", "d:3"]"#, r#"[2, "d:1", "d:3"]"#),
        ("@c:{x} -mary james", r#"[1, "d:1"]"#, r#"[1, "d:1"]"#),
        ("@name:james @last:brown", r#"[1, "d:1"]"#, r#"[1, "d:1"]"#),
        ("@n:[2 3] @name:(mary|james)", r#"[2, "d:2", "d:3"]"#, r#"[2, "d:2", "d:3"]"#),
        ("@name|last:james brown", r#"[2, "d:1", "d:2"]"#, r#"[2, "d:1", "d:2"]"#),
        ("the", "[0]", "[0]"),
        ("*", r#"[3, "d:1", "d:2", "d:3"]"#, r#"[3, "d:1", "d:2", "d:3"]"#),
    ] {
        assert_eq!(found(&server, query, "1"), first, "{query}");
        assert_eq!(found(&server, query, "2"), second, "{query}");
    }
    for (query, error) in [
        ("(*)", "Syntax error at offset 1 near "),
        ("* a", "Syntax error at offset 2 near a"),
        ("$p", "Syntax error at offset 0 near p"),
        ("@c:{$p}", "Syntax error at offset 4 near p"),
        ("@n:[$p 1]", "Syntax error at offset 4 near p"),
        ("*=>[KNN 2 @v $q]", "Syntax error at offset 1 near >["),
        ("@name:", "Syntax error at offset 5 near name"),
        ("@c:red", "Expected a TEXT field at offset 0 near c"),
    ] {
        assert_eq!(found(&server, query, "1"), error, "{query}");
    }
    let explained = server.line("FT.EXPLAIN idx '@c:(@n:[0 10])' DIALECT 1");
    assert!(explained.contains("NUMERIC {0.000000 <= @n <= 10.000000}"), "{explained}");
    // A sign or a phrase ends what a minus covers.
    for (one, other) in [
        ("-mary -smith", "(-mary) (-smith)"),
        ("-mary \"james brown\"", "(-mary) (\"james brown\")"),
        ("-mary james -@n:[3 8]", "(-(mary james)) (-@n:[3 8])"),
        ("@c:{x} -mary ~james -smith", "@c:{x} (-mary) (~(james -smith))"),
        ("-mary (james -smith)", "-(mary (james (-smith)))"),
    ] {
        let explain = |query: &str| {
            let words = [&b"FT.EXPLAIN"[..], b"idx", query.as_bytes(), b"DIALECT", b"1"];
            server.run(&words)
        };
        assert_eq!(explain(one), explain(other), "{one}");
    }
    let deep = "-~".repeat(200) + "a";
    assert_eq!(found(&server, &deep, "1"), found(&server, &deep, "2"));
    assert_eq!(server.line("FT.CONFIG SET DEFAULT_DIALECT 1"), "OK");
    assert_eq!(server.line("FT.SEARCH idx '@name: James Brown' NOCONTENT"), r#"[1, "d:2"]"#);
}

#[test]
fn expanders_are_named() {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT PHONETIC dm:en"), "OK");
    for (key, text) in [("d:1", "running"), ("d:2", "run"), ("d:3", "dash"), ("d:4", "roning")] {
        server.hset(key, &[("t", text.as_bytes())]);
    }
    assert_eq!(server.line("FT.SYNUPDATE idx g dash running"), "OK");
    for (expander, want) in [
        ("SYNONYM", &["d:1", "d:3"][..]),
        ("SBSTEM", &["d:1", "d:2"]),
        ("PHONETIC", &["d:1", "d:4"]),
        ("DEFAULT", &["d:1", "d:2", "d:3", "d:4"]),
        ("synonym", &["d:1"]),
    ] {
        let mut keys = server.keys("running", &[b"EXPANDER", expander.as_bytes()]);
        keys.sort();
        assert_eq!(keys, want, "{expander}");
        let verbatim = server.keys("running", &[b"EXPANDER", expander.as_bytes(), b"VERBATIM"]);
        assert_eq!(verbatim, ["d:1"], "{expander}");
    }
    assert_eq!(
        server.line("FT.EXPLAIN idx dash EXPANDER SYNONYM"),
        "\"UNION {\\n  dash\\n  ~g(expanded)\\n}\\n\""
    );
}

#[test]
fn texts_without_places_are_not_marked() {
    let server = Server::new();
    for (index, option) in [("a", "NOOFFSETS"), ("b", "NOHL")] {
        assert_eq!(server.line(&format!("FT.CREATE {index} {option} SCHEMA t TEXT")), "OK");
        for mark in ["HIGHLIGHT", "SUMMARIZE FIELDS 1 t"] {
            let refused = "Cannot use highlight/summarize because NOOFSETS was specified at index level";
            assert_eq!(server.line(&format!("FT.SEARCH {index} ( {mark}")), refused);
        }
    }
}

/// The scores that a search shows, by key.
fn scores(server: &Server, words: &[&[u8]]) -> Vec<(String, f64)> {
    let reply = server.run(&[&[&b"FT.SEARCH"[..], b"idx"], words, &[b"WITHSCORES", b"NOCONTENT"]].concat());
    let list: Vec<&str> = reply.trim_matches(['[', ']']).split(", ").skip(1).collect();
    let pair = |pair: &[&str]| {
        let score = pair[1].trim_matches('"').parse().unwrap_or_else(|_| panic!("{reply}"));
        (pair[0].trim_matches('"').to_owned(), score)
    };
    let mut pairs: Vec<(String, f64)> = list.chunks(2).map(pair).collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

/// The numbers are those of RediSearch 2.10.5.
#[test]
fn distances_divide_scores_as_in_redisearch() {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT NOSTEM b TEXT NOSTEM n NUMERIC";
    assert_eq!(server.line(create), "OK");
    for (key, t, b) in [("d:1", "foo bar", ""), ("d:2", "foo x bar", ""), ("d:3", "bar x y foo", "bar")] {
        server.hset(key, &[("t", t.as_bytes()), ("b", b.as_bytes()), ("n", b"1")]);
    }
    for (query, options, want) in [
        ("foo bar", &[][..], [2.0, 1.0, 1.5]),
        // A range of FILTER is one more part.
        ("foo bar", &["FILTER", "n", "0", "5"], [3.0, 1.5, 2.0]),
        ("foo bar", &["FILTER", "n", "0", "5", "FILTER", "n", "0", "4"], [4.0, 2.0, 2.5]),
        // A first part that is an intersection goes on.
        ("(foo bar) @n:[0 5]", &[], [3.0, 1.5, 2.0]),
        ("@n:[0 5] (foo bar)", &[], [3.0, 3.0, 2.0]),
        ("foo ~bar", &[], [2.0, 1.0, 1.5]),
        // The places of a part are those of its word in all fields.
        ("@t:bar foo", &[], [2.0, 1.0, 1.5]),
    ] {
        let options: Vec<&[u8]> = options.iter().map(|option| option.as_bytes()).collect();
        let words = [&[query.as_bytes()][..], &options, &[b"SCORER", b"TFIDF"]].concat();
        let found: Vec<f64> = scores(&server, &words).into_iter().map(|(_, score)| score).collect();
        assert_eq!(found, want, "{query} {options:?}");
    }
}

#[test]
fn a_knn_has_the_scores_of_its_filter() {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT NOSTEM c TAG v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    for (key, text, at) in [("d:1", "foo bar", 3.0), ("d:2", "foo foo", 2.0), ("d:3", "zed", 1.0)] {
        server.hset(key, &[("t", text.as_bytes()), ("c", b"x"), ("v", &blob(&[at]))]);
    }
    let origin = blob(&[0.0]);
    let knn = |filter: &str, scorer: &str| {
        let query = format!("{filter}=>[KNN 3 @v $q AS d]");
        let words: [&[u8]; 6] = [query.as_bytes(), b"SCORER", scorer.as_bytes(), b"PARAMS", b"2", b"q"];
        scores(&server, &[&words[..], &[&origin]].concat())
    };
    let plain =
        |filter: &str, scorer: &str| scores(&server, &[filter.as_bytes(), b"SCORER", scorer.as_bytes()]);
    let pairs = |scores: [f64; 3]| {
        ["d:1", "d:2", "d:3"].into_iter().map(str::to_owned).zip(scores).collect::<Vec<_>>()
    };
    assert_eq!(knn("(~foo)", "TFIDF"), pairs([1.0, 1.0, 0.0]));
    assert_eq!(knn("(@c:{x} ~foo)", "DISMAX"), pairs([2.0, 3.0, 1.0]));
    assert_eq!(knn("*", "BM25STD"), pairs([0.0; 3]));
    assert_eq!(knn("*", "DOCSCORE"), pairs([1.0; 3]));
    for scorer in ["BM25STD", "BM25", "TFIDF.DOCNORM"] {
        let query = "(~(foo=>{$weight:3} | bar))";
        assert_eq!(knn(query, scorer), plain(query, scorer), "{scorer}");
    }
    let best = knn("(~foo)", "BM25STD.NORM");
    assert!(
        best.iter().any(|(_, score)| *score == 1.0) && best.iter().all(|(_, score)| *score <= 1.0),
        "{best:?}"
    );
    // What ADDSCORES shows is used by hybrid queries of clients that do without FT.HYBRID.
    let line = "FT.AGGREGATE idx '(~@t:(foo))=>[KNN 2 @v $q AS d]' ADDSCORES SCORER TFIDF LOAD 1 @__key APPLY \
                '0.5 * @__score + (1 - @d)' AS h SORTBY 2 @h DESC PARAMS 2 q";
    assert_eq!(
        server.line_with(line, &[&origin]),
        r#"[2, ["__score", "0", "d", "1", "__key", "d:3", "h", "0"], ["__score", "1", "d", "4", "__key", "d:2", "h", "-2.5"]]"#
    );
    // A document that changes after the candidates were scored has its new score.
    server.hset("d:3", &[("t", b"foo foo")]);
    assert_eq!(knn("(~foo)", "TFIDF"), pairs([1.0; 3]));
    let query = "(~foo)=>[KNN 1 @v $q]";
    let words: [&[u8]; 9] = [
        b"FT.SEARCH",
        b"idx",
        query.as_bytes(),
        b"NOCONTENT",
        b"WITHSCORES",
        b"EXPLAINSCORE",
        b"PARAMS",
        b"2",
        b"q",
    ];
    let explained = server.run(&[&words[..], &[&origin]].concat());
    let tree = "[[(Weight 1.00 * children BM25 ";
    assert!(explained.contains(tree) && explained.contains("Irrelevant token -> score is 0"), "{explained}");
}

#[test]
fn in_dialect_1_any_number_of_signs_takes_one_place() {
    let server = people();
    for count in [1, 2, 3, 300, 333, 100_000] {
        let negated = format!("{}mary", "-".repeat(count));
        let expected = if count % 2 == 1 { r#"[2, "d:1", "d:2"]"# } else { r#"[1, "d:3"]"# };
        assert_eq!(found(&server, &negated, "1"), expected, "{count}");
        let optional = format!("{}mary", "~".repeat(count));
        assert_eq!(found(&server, &optional, "1"), r#"[3, "d:1", "d:2", "d:3"]"#, "{count}");
    }
    let too_deep = "Parser stack overflow. Try moving nested parentheses more to the left";
    assert_eq!(found(&server, &format!("{}mary", "-~".repeat(300)), "1"), too_deep);
    assert_eq!(found(&server, &"-".repeat(300), "1"), "Syntax error at offset 299 near ");
    let too_many = found(&server, &format!("{}mary", "-".repeat(200_000)), "1");
    assert_eq!(
        too_many,
        "The query is too large: it may have 131072 terms, each counted for every field that it is looked for in"
    );
}

#[test]
fn a_field_inside_of_another_is_a_syntax_error_whatever_both_are() {
    let server = people();
    for (query, error) in [
        ("@name:(@n:[0 1])", "Syntax error at offset 7 near n"),
        ("@c:(@n:[0 1])", "Syntax error at offset 4 near n"),
        ("@n:(mary @c:{x})", "Syntax error at offset 9 near c"),
        ("@nosuch:(@n:[0 1])", "Syntax error at offset 9 near n"),
        ("@c:(mary)", "Expected a TEXT field at offset 0 near c"),
        ("@nosuch:(mary)", "Unknown field at offset 0 near nosuch"),
        ("@nosuch:(mary", "Syntax error at offset 9 near mary"),
        ("@n:mary", "Expected a TEXT field at offset 0 near n"),
    ] {
        assert_eq!(found(&server, query, "2"), error, "{query}");
    }
}
