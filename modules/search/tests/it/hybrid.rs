//! FT.HYBRID: fused lists, their explanations, cursors over both searches, profiles, and wrong requests.

use crate::harness::{Server, blob};
use std::collections::BTreeMap;

fn for_hybrid() -> Server {
    let mut server = Server::new();
    server.resp3 = true;
    let create =
        "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT c TAG v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    for (key, text, tag, at) in [
        ("d:1", "red shoes", "shoes", [0.0, 0.0]),
        ("d:2", "red running shoes", "shoes", [1.0, 0.0]),
        ("d:3", "running gear", "gear", [0.0, 1.0]),
        ("d:4", "blue shoes", "shoes", [1.0, 1.0]),
    ] {
        server.hset(key, &[("t", text.as_bytes()), ("c", tag.as_bytes()), ("v", &blob(&at))]);
    }
    server
}

fn hybrid(server: &Server, rest: &str) -> String {
    let near = blob(&[0.9, 0.1]);
    let reply = server.line_with(&format!("FT.HYBRID idx {rest} PARAMS 2 q"), &[&near]);
    reply.split(r#", "execution_time""#).next().expect("a reply").to_owned()
}

#[test]
fn words_and_vectors_are_fused() {
    let server = for_hybrid();
    // By words: 2, then the rest by length. By vector: 2, 1 or 4, 3.
    let both = hybrid(&server, "SEARCH running VSIM @v $q KNN 2 K 2");
    let first = 1.0 / 61.0 + 1.0 / 62.0;
    assert!(
        both.starts_with(r#"{"total_results": 3, "results": [{"__key": "d:2", "__score": "0.0325"#),
        "{both} {first}"
    );
    let filtered = hybrid(&server, "SEARCH running VSIM @v $q FILTER @c:{gear} LOAD 1 @__key");
    assert_eq!(
        filtered,
        r#"{"total_results": 2, "results": [{"__key": "d:3"}, {"__key": "d:2"}], "warnings": []"#
    );
    let named = hybrid(
        &server,
        "SEARCH nothing YIELD_SCORE_AS s VSIM @v $q RANGE 2 RADIUS 0.1 YIELD_SCORE_AS d COMBINE LINEAR 4 ALPHA 1 BETA 2 \
         YIELD_SCORE_AS f LOAD 1 @t",
    );
    assert!(named.starts_with(r#"{"total_results": 1, "results": [{"f": "1.96"#), "{named}");
    assert!(named.contains(r#""d": "0.98"#) && named.contains(r#""t": "red running shoes""#), "{named}");
    let steps = hybrid(
        &server,
        "SEARCH shoes VSIM @v $q LOAD 1 @c GROUPBY 1 @c REDUCE COUNT 0 AS n SORTBY 2 @n DESC APPLY '@n * 2' AS m",
    );
    assert_eq!(
        steps,
        r#"{"total_results": 2, "results": [{"c": "shoes", "n": "3", "m": "6"}, {"c": "gear", "n": "1", "m": "2"}], "warnings": []"#
    );
    // The total is that of the rows that pass a FILTER, also beyond the page.
    let passed = hybrid(&server, "SEARCH shoes VSIM @v $q LOAD 1 @c FILTER '@c == \"shoes\"' LIMIT 0 1");
    assert_eq!(passed, r#"{"total_results": 3, "results": [{"c": "shoes"}], "warnings": []"#);
    let late = hybrid(&server, "SEARCH nothing VSIM @v $q KNN 2 K 1 LIMIT 0 1 COMBINE RRF 2 CONSTANT 1");
    assert!(late.contains(r#""__score": "0.5""#), "{late}");
    let page = hybrid(&server, "SEARCH shoes VSIM @v $q COMBINE RRF 4 CONSTANT 1 WINDOW 3 LIMIT 1 1");
    assert!(page.contains(r#""results": [{"__key": "d:"#) && page.matches("__key").count() == 1, "{page}");
}

#[test]
fn wrong_hybrid_requests_get_the_texts_of_redisearch() {
    let server = for_hybrid();
    for (rest, error) in [
        ("hello", "Invalid subqueries count: expected an unsigned integer"),
        ("3 SEARCH x VSIM @v $q", "FT.HYBRID currently supports only two subqueries"),
        ("SEARCH x BOGUS 1", "Unknown argument `BOGUS` in SEARCH"),
        ("SEARCH x VSIM v $q", "Missing @ prefix for vector field name"),
        ("SEARCH x VSIM @v q", "Invalid vector argument, expected a parameter name starting with $"),
        (
            "SEARCH x VSIM @v $q KNN 1 K",
            "Invalid argument count: 1 (must be a positive even number for key/value pairs)",
        ),
        ("SEARCH x VSIM @v $q KNN 2 K 0", "Invalid K value"),
        ("SEARCH x VSIM @v $q KNN 2 EF_RUNTIME 5", "Missing required argument K"),
        ("SEARCH x VSIM @v $q KNN 4 K 1 K 2", "Duplicate K argument"),
        ("SEARCH x VSIM @v $q RANGE 2 RADIUS -1", "Invalid RADIUS value"),
        ("SEARCH x VSIM @v $q RANGE 2 EPSILON 1", "Missing required argument RADIUS"),
        ("SEARCH x VSIM @v $q COMBINE LINEAR 2 ALPHA 1", "Missing value for BETA"),
        (
            "SEARCH x VSIM @v $q COMBINE RRF 3 WINDOW 1 x",
            "RRF expects pairs of key value arguments, argument count must be an even number",
        ),
        ("SEARCH x VSIM @v $q SORTBY 1 @c NOSORT LOAD 1 @c", "NOSORT is not allowed with SORTBY"),
        ("SEARCH x VSIM @v $q EXPLAINSCORE GROUPBY 1 @c", "EXPLAINSCORE is not supported with GROUPBY"),
        (
            "SEARCH x VSIM @v $q WITHCURSOR APPLY 1 AS one",
            "WITHCURSOR with steps other than LOAD is not supported by this server yet",
        ),
        (
            "SEARCH x VSIM @v $q WITHCURSOR EXPLAINSCORE",
            "WITHCURSOR with EXPLAINSCORE is not supported by this server yet",
        ),
        (
            "SEARCH x VSIM @v $q WITHCURSOR COUNT 0",
            "Bad arguments for COUNT: Value is outside acceptable bounds",
        ),
    ] {
        assert_eq!(hybrid(&server, rest), error, "{rest}");
    }
    assert_eq!(server.line("FT.HYBRID nosuch SEARCH x"), "nosuch: no such index");
    assert_eq!(server.line("FT.HYBRID idx SEARCH x"), "VSIM argument is required");
    assert_eq!(server.line("FT.HYBRID idx"), "Missing subqueries count for FT.HYBRID");
}

fn no_prefix(name: &str, of: &str) -> String {
    format!("Missing prefix: name requires '@' prefix, JSON path require '$' prefix, got: {name} in {of}")
}

#[test]
fn what_an_aggregation_may_and_a_hybrid_search_may_not_is_refused() {
    let server = for_hybrid();
    let errors: &[(&str, &str)] = &[
        ("SEARCH x VSIM @v $q BOGUS", "BOGUS: Unknown argument"),
        ("SEARCH x VSIM @v $q COMBINE LINEAR 4 ALPHA nan BETA 1", "LINEAR: Invalid value for ALPHA"),
        ("SEARCH x VSIM @v $q COMBINE LINEAR 4 ALPHA 1 BETA inf", "LINEAR: Invalid value for BETA"),
        ("SEARCH x VSIM @v $q COMBINE RRF 2 CONSTANT -inf", "RRF: Invalid value for CONSTANT"),
        ("SEARCH x VSIM @v $q COMBINE RRF 4 CONSTANT 1 CONSTANT 2", "Duplicate CONSTANT argument"),
        (
            "SEARCH x VSIM @v '$q)|(x' FILTER x",
            "Invalid vector argument, expected a parameter name starting with $",
        ),
        ("SEARCH x VSIM @v $q FILTER 'a) | (b'", "Syntax error at offset 1 near a"),
        ("SEARCH x VSIM @v $q FILTER 'a)=>[KNN 1 @v $q] (b'", "Syntax error at offset 1 near a"),
        (
            "SEARCH x VSIM @v $q FILTER 3 x BATCH_SIZE '5 EF_RUNTIME 9'",
            "Error parsing vector similarity parameters: Invalid value was given",
        ),
        (
            "SEARCH x VSIM @v $q COMBINE RRF 2 CONSTANT 1 YIELD_SCORE_AS a YIELD_SCORE_AS b",
            "YIELD_SCORE_AS: Unknown argument",
        ),
        ("SEARCH x VSIM @v $q KNN 4 K 1 SHARD_K_RATIO LIMIT", "Invalid shard k ratio value 'LIMIT'"),
        ("SEARCH x VSIM @v $q KNN 4 K 1 SHARD_K_RATIO 0", "Invalid shard k ratio value '0'"),
        (
            "SEARCH '@v:[VECTOR_RANGE 1 $q]' VSIM @v $q",
            "Vector expressions are not allowed in FT.HYBRID SEARCH",
        ),
        ("SEARCH '*=>[KNN 1 @v $q]' VSIM @v $q", "Vector expressions are not allowed in FT.HYBRID SEARCH"),
        (
            "SEARCH x VSIM @v $q FILTER '@v:[VECTOR_RANGE 1 $q]'",
            "Vector expressions are not allowed in FT.HYBRID VSIM FILTER",
        ),
        (
            "SEARCH x VSIM @v $q RANGE 2 RADIUS 1 FILTER '-@v:[VECTOR_RANGE 1 $q]'",
            "Vector expressions are not allowed in FT.HYBRID VSIM FILTER",
        ),
        (
            "SEARCH x VSIM @v $q FILTER '(@c:{shoes})=>{$weight: 2}'",
            "Weight attributes are not allowed in FT.HYBRID VSIM FILTER",
        ),
        (
            "SEARCH x VSIM @v $q FILTER '-((@c:{shoes})=>{$weight: 1})'",
            "Weight attributes are not allowed in FT.HYBRID VSIM FILTER",
        ),
        (
            "SEARCH x VSIM @v $q RANGE 2 RADIUS 1 FILTER 3 @c:{gear} POLICY ADHOC",
            "Error parsing vector similarity parameters: hybrid query attributes were sent for a non-hybrid query",
        ),
        ("SEARCH x VSIM @v $q LOAD 2 @c t", &no_prefix("t", "LOAD")),
        ("SEARCH x VSIM @v $q LOAD 1 __key", &no_prefix("__key", "LOAD")),
        ("SEARCH x VSIM @v $q LOAD 1 @c SORTBY 2 c DESC", &no_prefix("c", "SORTBY")),
        ("SEARCH x VSIM @v $q GROUPBY 1 @c REDUCE sum 1 c AS n", &no_prefix("c", "sum")),
        ("SEARCH x VSIM @v $q LOAD 1 @c SORTBY 2 @c c", &no_prefix("c", "SORTBY")),
    ];
    for (rest, error) in errors {
        assert_eq!(hybrid(&server, rest), *error, "{rest}");
    }
}

#[test]
fn columns_are_in_the_order_of_load_and_the_score_has_no_other_name() {
    let server = for_hybrid();
    let first = |load: &str| {
        let reply = hybrid(&server, &format!("SEARCH running VSIM @v $q KNN 2 K 2 {load} LIMIT 0 1"));
        between(&reply, "[", "]").to_owned()
    };
    let score = r#""__score": "0.032522474881""#;
    assert_eq!(first("LOAD 2 @__key @__score"), format!(r#"{{"__key": "d:2", {score}}}"#));
    assert_eq!(first("LOAD 2 @__score @__key"), format!(r#"{{{score}, "__key": "d:2"}}"#));
    assert_eq!(
        first("LOAD 1 @c LOAD 3 @t @__score @__key APPLY 1 AS one"),
        format!(r#"{{"c": "shoes", "t": "red running shoes", {score}, "__key": "d:2", "one": "1"}}"#)
    );
    assert_eq!(first("LOAD 3 @__score AS x"), "{}");
    assert_eq!(
        first("LOAD 1 @c GROUPBY 1 @c REDUCE COUNT 0 AS n SORTBY 2 @n ASC"),
        r#"{"c": "gear", "n": "1"}"#
    );
}

/// The text after `from` up to `to`.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let rest = text.split(from).nth(1).unwrap_or_else(|| panic!("{from} in {text}"));
    rest.split(to).next().unwrap_or_default()
}

#[test]
fn fused_scores_are_explained() {
    let server = for_hybrid();
    let rrf = hybrid(&server, "SEARCH running VSIM @v $q KNN 2 K 2 EXPLAINSCORE");
    let tree = "[[Hybrid score (RRF: window=20, constant=60.00), [[text rank = 2, [[Text scorer: BM25STD, [[Final BM25 : words \
                BM25 1.22 * document score 1.00, ";
    assert!(rrf.contains(tree), "{rrf}");
    let sum = "final score: 1 / (constant 60.00 + rank 2) + 1 / (constant 60.00 + rank 1) = 0.03252247";
    assert!(rrf.contains(sum), "{rrf}");
    assert!(rrf.contains("[vector branch (KNN), [vector rank = 1]]"), "{rrf}");
    assert!(rrf.contains("0 [text: no match] + 1 / (constant 60.00 + rank 2)"), "{rrf}");
    assert!(rrf.contains("[text rank = <no match>, [vector branch (KNN), "), "{rrf}");
    let linear = hybrid(
        &server,
        "SEARCH shoes SCORER TFIDF VSIM @v $q RANGE 2 RADIUS 0.1 COMBINE LINEAR 4 ALPHA 0.25 BETA 2 EXPLAINSCORE",
    );
    for part in [
        "Hybrid score (LINEAR: alpha=0.2500, beta=2.0000, window=20)",
        "text contribution = 0.2500 * 2.0000 = 0.5000",
        "Text scorer: TFIDF, [normalized text score = 2.0000, [Final TFIDF",
        "vector branch (RANGE: radius=0.1000), [matched within radius = true, vector contribution = 2.0000 * 0.98",
        "[matched within radius = false, vector contribution = <no match>]",
    ] {
        assert!(linear.contains(part), "{part} in {linear}");
    }
}

#[test]
fn tags_add_nothing_to_a_hybrid_score() {
    let server = for_hybrid();
    let by_tag = hybrid(&server, "SEARCH @c:{gear} YIELD_SCORE_AS s VSIM @v $q KNN 2 K 1 LOAD 1 @__key");
    assert!(by_tag.contains(r#"{"s": "0", "__key": "d:3"}"#), "{by_tag}");
    let by_both = hybrid(&server, "SEARCH '@c:{gear} running' YIELD_SCORE_AS s VSIM @v $q KNN 2 K 1");
    let by_word = hybrid(&server, "SEARCH running YIELD_SCORE_AS s VSIM @v $q KNN 2 K 1");
    let score = |reply: &str| between(between(reply, r#""d:3""#, "}"), r#""s": ""#, "\"").to_owned();
    assert_eq!(score(&by_both), score(&by_word));
}

#[test]
fn cursors_read_both_searches() {
    let server = for_hybrid();
    let read = |rest: &str, name: &str| -> Vec<String> {
        let reply = hybrid(&server, rest);
        assert!(reply.ends_with(r#""warnings": []}"#), "{reply}");
        let mut cursor = between(&reply, &format!("\"{name}\": "), ",").to_owned();
        let mut rows = Vec::new();
        while cursor != "0" {
            let page = server.line(&format!("FT.CURSOR READ idx {cursor}"));
            let results = between(&page, "\"results\": [", ", \"warning\"").to_owned();
            rows.extend(
                results
                    .split("extra_attributes\": ")
                    .skip(1)
                    .map(|row| row[..row.find('}').expect("a map") + 1].into()),
            );
            cursor = page.rsplit(", ").next().expect("a cursor").trim_end_matches(']').to_owned();
        }
        rows
    };
    let rest = "SEARCH shoes VSIM @v $q YIELD_SCORE_AS d WITHCURSOR COUNT 2 MAXIDLE 60000";
    assert_eq!(read(rest, "SEARCH"), [r#"{"__key": "d:1"}"#, r#"{"__key": "d:4"}"#, r#"{"__key": "d:2"}"#]);
    let near = read(rest, "VSIM");
    assert_eq!(near.len(), 4, "{near:?}");
    assert!(near[0].starts_with(r#"{"__key": "d:2", "d": "0.98"#), "{near:?}");
    let rest = "SEARCH running VSIM @v $q KNN 2 K 1 COMBINE RRF 2 WINDOW 1 WITHCURSOR LOAD 1 @t";
    assert_eq!(read(rest, "SEARCH"), [r#"{"t": "running gear"}"#]);
    assert_eq!(read(rest, "VSIM"), [r#"{"t": "red running shoes"}"#]);
    // What has changed is shown as it is, what is gone is left out.
    let reply = hybrid(&server, "SEARCH shoes VSIM @v $q WITHCURSOR LOAD 2 @__key @t");
    let cursor = between(&reply, "\"SEARCH\": ", ",");
    server.line("DEL d:1");
    server.hset("d:4", &[("t", b"green shoes")]);
    let page = server.line(&format!("FT.CURSOR READ idx {cursor}"));
    assert!(!page.contains("d:1") && page.contains(r#""t": "green shoes""#), "{page}");
    // Cursors end with their index.
    let reply = hybrid(&server, "SEARCH shoes VSIM @v $q WITHCURSOR");
    let cursor = between(&reply, "\"VSIM\": ", ",").to_owned();
    server.line("FT.DROPINDEX idx");
    assert_eq!(server.line(&format!("FT.CURSOR READ idx {cursor}")), "Cursor not found");
}

#[test]
fn a_hybrid_search_is_profiled() {
    let server = for_hybrid();
    let near = blob(&[0.9, 0.1]);
    let profiled =
        |rest: &str| server.line_with(&format!("FT.PROFILE idx HYBRID {rest} PARAMS 2 q"), &[&near]);
    let reply = profiled("QUERY SEARCH running VSIM @v $q LOAD 1 @c GROUPBY 1 @c");
    let steps = |part: &str| -> Vec<String> {
        let list = between(part, "\"Result processors profile\": [", "]");
        list.split("\"Type\": \"")
            .skip(1)
            .map(|step| step[..step.find('"').expect("quoted")].into())
            .collect()
    };
    let text = between(&reply, "\"SEARCH\": ", "\"VSIM\": ");
    let vector = between(&reply, "\"VSIM\": ", "\"Coordinator\": ");
    let fused = between(&reply, "\"Coordinator\": ", "no such text");
    assert_eq!(steps(text), ["Index", "Scorer", "Sorter", "Loader", "Depleter"]);
    assert_eq!(steps(vector), ["Index", "Metrics Applier", "Vector Normalizer", "Loader", "Depleter"]);
    assert_eq!(steps(fused), ["Hybrid Merger", "Grouper"]);
    assert!(vector.contains("\"Vector search mode\": \"STANDARD_KNN\""), "{vector}");
    assert!(reply.starts_with("{\"total_results\": 2, "), "{reply}");
    assert_eq!(
        steps(between(&profiled("LIMITED QUERY SEARCH x VSIM @v $q"), "\"Coordinator\": ", "no such")),
        ["Hybrid Merger", "Sorter"]
    );
    assert_eq!(profiled("SEARCH x VSIM @v $q"), "The QUERY keyword is expected");
    assert_eq!(profiled("QUERY VSIM @v $q"), "Invalid subqueries count: expected an unsigned integer");
    assert_eq!(
        profiled("QUERY SEARCH x VSIM @v $q WITHCURSOR"),
        "Profiles of WITHCURSOR are not supported by this server yet"
    );
}

/// The keys and the numbers of a search's rows, in order.
fn ranked(server: &Server, words: &[&[u8]], name: &str) -> Vec<(String, f64)> {
    let reply = server.run(words);
    let rows = reply.split("{\"id\": \"").skip(1);
    let row = |row: &str| {
        let number = between(row, &format!("\"{name}\": "), if name == "score" { "," } else { "}" });
        (
            row[..row.find('"').expect("quoted")].to_owned(),
            number.trim_matches('"').parse().expect("a number"),
        )
    };
    rows.map(row).collect()
}

/// The sum for each key, by the place of its list, its rank and its score there. The second list has
/// distances.
fn fused_plainly(
    lists: [&[(String, f64)]; 2],
    score: impl Fn(usize, u64, f64) -> f64,
) -> BTreeMap<String, f64> {
    let mut fused = BTreeMap::new();
    for (place, list) in lists.into_iter().enumerate() {
        for ((key, number), rank) in list.iter().zip(1..) {
            let own = if place == 1 { 1.0 / (1.0 + number) } else { *number };
            *fused.entry(key.clone()).or_default() += score(place, rank, own);
        }
    }
    fused
}

fn of_random_texts(random: &mut dyn FnMut(u64) -> u64) -> Server {
    let mut server = Server::new();
    server.resp3 = true;
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT NOSTEM v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    let words = ["red", "green", "blue", "dark", "light"];
    for number in 0..80 {
        let text: Vec<&str> = (0..1 + random(6)).map(|_| words[random(5) as usize]).collect();
        let at = [random(1 << 20) as f32 / 1e5, random(1 << 20) as f32 / 1e5];
        server.hset(&format!("d:{number}"), &[("t", text.join(" ").as_bytes()), ("v", &blob(&at))]);
    }
    server
}

#[test]
fn fusions_are_those_of_the_two_searches() {
    let mut state = 17u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let server = of_random_texts(&mut random);
    for _ in 0..60 {
        let query = ["red", "red|blue", "dark ~light", "green -red", "absent"][random(5) as usize];
        let origin = blob(&[random(1 << 20) as f32 / 1e5, random(1 << 20) as f32 / 1e5]);
        let (window, k) = (1 + random(30), 1 + random(30));
        let (is_linear, constant) = (random(2) == 0, 1 + random(60));
        let (alpha, beta) = (random(8) as f64 / 4.0, random(8) as f64 / 4.0);
        let [all, k_text] = [window.to_string(), k.to_string()];
        let search: [&[u8]; 8] = [
            b"FT.SEARCH",
            b"idx",
            query.as_bytes(),
            b"WITHSCORES",
            b"NOCONTENT",
            b"LIMIT",
            b"0",
            all.as_bytes(),
        ];
        let by_text = ranked(&server, &search, "score");
        let knn = format!("*=>[KNN {k} @v $q AS d]");
        let near: [&[u8]; 14] = [
            b"FT.SEARCH",
            b"idx",
            knn.as_bytes(),
            b"RETURN",
            b"1",
            b"d",
            b"SORTBY",
            b"d",
            b"LIMIT",
            b"0",
            all.as_bytes(),
            b"PARAMS",
            b"2",
            b"q",
        ];
        let by_vector = ranked(&server, &[&near[..], &[&origin]].concat(), "d");
        let fused = fused_plainly([&by_text, &by_vector], |place, rank, score| match is_linear {
            true => [alpha, beta][place] * score,
            false => 1.0 / (constant + rank) as f64,
        });
        let combine = match is_linear {
            true => format!("LINEAR 6 ALPHA {alpha} BETA {beta} WINDOW {window}"),
            false => format!("RRF 4 CONSTANT {constant} WINDOW {window}"),
        };
        let rest =
            format!("SEARCH '{query}' VSIM @v $q KNN 2 K {k_text} COMBINE {combine} LIMIT 0 100 PARAMS 2 q");
        let reply = server.line_with(&format!("FT.HYBRID idx {rest}"), &[&origin]);
        let rows = reply.split("{\"__key\": \"").skip(1).map(|row| {
            let (key, row) = row.split_once('"').expect("quoted");
            (key.to_owned(), between(row, "\"__score\": \"", "\"").parse().expect("a number"))
        });
        let rows: Vec<(String, f64)> = rows.collect();
        assert_eq!(rows.len(), fused.len(), "{rest}: {reply}");
        assert!(rows.is_sorted_by(|a, b| a.1 >= b.1), "{rest}: {reply}");
        for (key, score) in &rows {
            let want = fused.get(key).unwrap_or_else(|| panic!("{key} in {rest}"));
            assert!((score - want).abs() < 1e-9 * want.abs().max(1.0), "{rest} {key}: {score}, not {want}");
        }
    }
}

#[test]
fn cursors_of_both_searches_count_the_scores_and_keys_of_their_rows() {
    let server = for_hybrid();
    let long = "k".repeat(10_000);
    for number in 0..50 {
        let key = format!("d:{number}{long}");
        server.hset(&key, &[("t", b"long shoes"), ("v", &blob(&[1.0, 1.0]))]);
    }
    let request = "SEARCH long VSIM @v $q KNN 2 K 4 COMBINE RRF 2 WINDOW 50 WITHCURSOR";
    assert_eq!(server.line("FT.CONFIG SET CURSOR_MEMORY 400000"), "OK");
    let refused = hybrid(&server, request);
    assert!(refused.starts_with("Idle cursors need more memory"), "{refused}");
    assert_eq!(server.line("FT.CONFIG SET CURSOR_MEMORY 800000"), "OK");
    assert!(hybrid(&server, request).contains("VSIM"));
}

#[test]
fn a_property_with_the_name_of_the_explanation_is_a_property() {
    let server = for_hybrid();
    let name = "\0explanation";
    let words = ["FT.AGGREGATE", "idx", "running", "LOAD", "1", "@t", "APPLY", "split(@t,' ')", "AS", name];
    let reply = server.run(&words.map(str::as_bytes));
    assert!(reply.contains("explanation\": [\"red\", \"running\", \"shoes\"]"), "{reply}");
}

#[test]
fn a_cursor_whose_pair_is_refused_does_not_stay() {
    let server = for_hybrid();
    assert_eq!(server.line("FT.CONFIG SET INDEX_CURSOR_LIMIT 3"), "OK");
    let request = "SEARCH shoes VSIM @v $q WITHCURSOR";
    assert!(hybrid(&server, request).contains("VSIM"));
    for _ in 0..2 {
        let refused = hybrid(&server, request);
        assert_eq!(refused, "INDEX_CURSOR_LIMIT of 3 has been reached for an index");
        assert!(server.line("FT.INFO idx").contains(r#""index_total": 2"#));
    }
}
