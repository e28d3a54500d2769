//! FT.AGGREGATE and FT.CURSOR: pipelines beside a plain evaluation, changes meanwhile, bounds, cursors.

use crate::harness::{Server, Ticking, blob};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A document of the model.
#[derive(Clone)]
struct Model {
    key: String,
    /// NUMERIC, in halves.
    n: i32,
    /// TAG; empty where the document lacks it.
    c: &'static str,
    /// Not in the schema.
    u: i32,
}

fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn loaded(documents: usize, seed: u64) -> (Server, Vec<Model>) {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC c TAG s TAG SORTABLE t TEXT";
    assert_eq!(server.line(create), "OK");
    let mut state = seed;
    let model = (0..documents).map(|number| Model {
        key: format!("d:{number:05}"),
        n: random(&mut state, 40) as i32 - 10,
        c: ["red", "Green", "blue, red", "", "x y"][random(&mut state, 5) as usize],
        u: random(&mut state, 7) as i32,
    });
    let model: Vec<Model> = model.collect();
    model.iter().for_each(|document| write(&server, document));
    (server, model)
}

fn write(server: &Server, document: &Model) {
    let (n, u) = (half(document.n), document.u.to_string());
    let mut fields: Vec<(&str, &[u8])> = vec![("n", n.as_bytes()), ("u", u.as_bytes()), ("t", b"some words")];
    if !document.c.is_empty() {
        fields.extend([("c", document.c.as_bytes()), ("s", document.c.as_bytes())]);
    }
    server.hset(&document.key, &fields);
}

/// A number of halves as replies show it.
fn half(halves: i32) -> String {
    f64::from(halves).mul_add(0.5, 0.0).to_string()
}

fn rows(total: usize, rows: impl Iterator<Item = String>) -> String {
    [total.to_string()].into_iter().chain(rows).collect::<Vec<_>>().join(", ")
}

#[test]
fn groups_are_those_of_a_plain_evaluation() {
    for (documents, seed) in [(3, 1), (200, 2), (3_000, 3)] {
        let (server, model) = loaded(documents, seed);
        // The missing tag is null, which is the least value.
        let mut groups: BTreeMap<&str, Vec<&Model>> = BTreeMap::new();
        for document in model.iter().filter(|document| document.n > 0) {
            groups.entry(document.c).or_default().push(document);
        }
        let row = |(c, members): (&&str, &Vec<&Model>)| {
            let sum: i32 = members.iter().map(|document| document.n).sum();
            let least = members.iter().map(|document| document.n).min().expect("no group is empty");
            let most = members.iter().map(|document| document.n).max().expect("no group is empty");
            let distinct: BTreeSet<i32> = members.iter().map(|document| document.u).collect();
            let c = if c.is_empty() { "nil".to_owned() } else { format!("{c:?}") };
            format!(
                r#"["c", {c}, "count", "{}", "sum", "{}", "least", "{}", "most", "{}", "distinct", "{}"]"#,
                members.len(),
                half(sum),
                half(least),
                half(most),
                distinct.len()
            )
        };
        let expected = format!("[{}]", rows(groups.len(), groups.iter().map(row)));
        let found = server.line(
            "FT.AGGREGATE idx '@n:[(0 +inf]' LOAD 1 u GROUPBY 1 @c REDUCE COUNT 0 AS count REDUCE SUM 1 @n AS sum \
             REDUCE MIN 1 @n AS least REDUCE MAX 1 @n AS most REDUCE COUNT_DISTINCT 1 @u AS distinct SORTBY 1 @c",
        );
        assert_eq!(found, expected, "{documents} documents");
    }
}

#[test]
fn rows_are_computed_filtered_sorted_and_cut() {
    for (documents, seed) in [(5, 7), (150, 8), (2_000, 9)] {
        let (server, model) = loaded(documents, seed);
        let mut kept: Vec<&Model> = model.iter().filter(|document| document.n + document.u > 12).collect();
        // Equal rows are in the reverse order of documents, as the first key is descending.
        kept.sort_by_key(|document| (-document.n, std::cmp::Reverse(document.key.clone())));
        let row = |document: &&Model| {
            let sum = half(document.n + document.u);
            format!(
                r#"["__key", "{}", "n", "{}", "u", "{}", "sum", "{sum}"]"#,
                document.key,
                half(document.n),
                document.u
            )
        };
        let expected = format!("[{}]", rows(documents, kept.iter().skip(3).take(20).map(row)));
        let found = server.line(
            "FT.AGGREGATE idx * LOAD 3 @__key @n @u APPLY '@n + @u / 2' AS sum FILTER '@sum > 6' \
             SORTBY 2 @n DESC LIMIT 3 20",
        );
        assert_eq!(found, expected, "{documents} documents");
    }
}

#[test]
fn sortable_values_are_those_of_the_index_and_loaded_ones_those_of_the_document() {
    let (server, _) = loaded(0, 1);
    server.line("HSET d:1 s ' Red, Blue' c ' Red, Blue' n 1.50");
    assert_eq!(server.line("FT.AGGREGATE idx * GROUPBY 1 @s"), r#"[1, ["s", " red, blue"]]"#);
    assert_eq!(server.line("FT.AGGREGATE idx * LOAD 1 @s GROUPBY 1 @s"), r#"[1, ["s", " Red, Blue"]]"#);
    assert_eq!(server.line("FT.AGGREGATE idx * GROUPBY 1 @c"), r#"[1, ["c", " Red, Blue"]]"#);
    assert_eq!(server.line("FT.AGGREGATE idx * LOAD 1 @n"), r#"[1, ["n", "1.5"]]"#);
    let whole = r#"[1, ["s", " Red, Blue", "c", " Red, Blue", "n", "1.50"]]"#;
    assert_eq!(server.line("FT.AGGREGATE idx * LOAD *"), whole);
    assert_eq!(server.line("FT.AGGREGATE idx * APPLY @n AS x"), "Property `n` not loaded nor in pipeline");
}

#[test]
fn the_nearest_come_in_the_order_of_their_distances() {
    let server = Server::new();
    let create =
        "FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    for number in 0..1_000u32 {
        let at = number.wrapping_mul(617) % 1_000;
        server.hset(&format!("d:{number}"), &[("n", at.to_string().as_bytes()), ("v", &blob(&[at as f32]))]);
    }
    let origin = blob(&[0.0]);
    for k in [3, 700] {
        let line = format!("FT.AGGREGATE idx '*=>[KNN {k} @v $q AS d]' LOAD 1 @n PARAMS 2 q");
        let row = |at: usize| format!(r#"["d", "{}", "n", "{at}"]"#, at * at);
        let expected = format!("[{}]", rows(1, (0..k).map(row)));
        assert_eq!(server.line_with(&line, &[&origin]), expected);
    }
    let line =
        "FT.AGGREGATE idx '@v:[VECTOR_RANGE 4 $q]=>{$YIELD_DISTANCE_AS: d}' SORTBY 2 @d DESC PARAMS 2 q";
    let expected = r#"[3, ["d", "4"], ["d", "1"], ["d", "0"]]"#;
    assert_eq!(server.line_with(line, &[&origin]), expected);
}

/// Documents that are not written meanwhile are in the answer once, and the others as they were at some
/// moment, however the slices fall.
#[test]
fn rows_are_right_while_documents_come_and_go() {
    let (server, model) = loaded(3_000, 11);
    let turn = Cell::new(0usize);
    let between = || {
        let number = turn.get();
        turn.set(number + 1);
        let place = 1_500 + number * 37 % 1_500;
        server.line(&format!("DEL d:{place:05}"));
        // Its id goes to another document.
        server.hset(&format!("d:new{number}"), &[("n", b"-1000"), ("c", b"red"), ("u", b"0")]);
        server.hset(&format!("d:{:05}", 1_500 + number * 53 % 1_500), &[("n", b"1000")]);
    };
    let line = "FT.AGGREGATE idx @n:[-100\t+inf] LOAD 3 @__key @n @u SORTBY 1 @__key MAX 100000";
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let (reply, looks) = server.run_between_looks(&words, &between);
    assert!(looks.len() > 20, "{looks:?}");
    assert!(!reply.contains("d:new"), "documents that never matched are not shown");
    for document in &model[..1_500] {
        let row = format!(r#"["__key", "{}", "n", "{}""#, document.key, half(document.n));
        assert_eq!(reply.matches(&row).count(), 1, "{row}");
    }
    for document in &model[1_500..] {
        let rows = [half(document.n), "1000".into()];
        let rows = rows.map(|n| format!(r#"["__key", "{}", "n", "{n}""#, document.key));
        let count = reply.matches(&format!(r#""{}""#, document.key)).count();
        assert!(
            count <= 1
                && count == rows.iter().map(|row| reply.matches(row.as_str()).count()).max().unwrap_or(0)
        );
    }
}

#[test]
fn a_step_looks_at_few_keys_under_one_lock() {
    let (server, _) = loaded(2_000, 12);
    for line in [
        "FT.AGGREGATE idx * GROUPBY 1 @c REDUCE COUNT 0",
        "FT.AGGREGATE idx * LOAD * SORTBY 1 @n MAX 5000",
        "FT.AGGREGATE idx * GROUPBY 1 @n REDUCE COUNT 0",
    ] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (_, looked_up) = server.run_between_looks(&words, &|| ());
        assert!(looked_up.iter().all(|&keys| keys <= 256), "{line}: {looked_up:?}");
    }
    // The index alone has these numbers.
    let words: Vec<&[u8]> = "FT.AGGREGATE idx * GROUPBY 1 @n".split(' ').map(str::as_bytes).collect();
    let (_, looked_up) = server.run_between_looks(&words, &|| ());
    assert_eq!(looked_up.iter().sum::<usize>(), 0, "{looked_up:?}");
}

#[test]
fn memory_is_bounded_and_the_refusal_says_so() {
    let (server, _) = loaded(3_000, 13);
    assert_eq!(server.line("FT.CONFIG SET AGGREGATE_MEMORY 100000"), "OK");
    let refusal = "The aggregation needs more memory than search-aggregate-memory allows (100000 bytes): narrow the query, \
                   or group, sort or return less";
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    let many = format!("split(\"{}\")", letters.join(","));
    for steps in [
        "LOAD 1 @__key GROUPBY 1 @__key REDUCE COUNT 0",
        "LOAD 1 @__key GROUPBY 0 REDUCE TOLIST 1 @__key",
        "LOAD 1 @__key GROUPBY 0 REDUCE COUNT_DISTINCT 1 @__key REDUCE TOLIST 1 @__key",
        "LOAD * SORTBY 1 @n MAX 3000",
        "LOAD *",
        &format!("APPLY '{many}' AS x APPLY '{many}' AS y GROUPBY 2 @x @y REDUCE HLL 1 @x"),
    ] {
        assert_eq!(server.line(&format!("FT.AGGREGATE idx * {steps}")), refusal, "{steps}");
    }
    assert!(server.line("FT.AGGREGATE idx * LOAD * SORTBY 1 @n MAX 10").starts_with("[3000, "));
    let names = (0..4).map(|number| format!("APPLY @x AS x{number}")).collect::<Vec<_>>().join(" ");
    let line = format!("FT.AGGREGATE idx * APPLY '{many}' AS x {names} GROUPBY 4 @x0 @x1 @x2 @x3");
    assert_eq!(server.line(&line), "A row belongs to more than 65536 groups, because it is grouped by lists");
}

/// The rows and the cursor of a reply of FT.AGGREGATE with a cursor.
fn cursor_of(reply: &str) -> (Vec<String>, u64) {
    let (rows, cursor) = reply.rsplit_once("], ").expect("rows and a cursor");
    let rows = rows.trim_start_matches('[').split("], [");
    let cursor = cursor.trim_end_matches(']').parse().expect("a number");
    let n = |row: &str| row.rsplit_once("\"n\", \"").map(|(_, n)| n.trim_end_matches([']', '"']).to_owned());
    (rows.filter_map(n).collect(), cursor)
}

#[test]
fn a_cursor_gives_all_rows_in_pieces() {
    let (server, model) = loaded(1_000, 14);
    for steps in
        ["LOAD 1 @n", "LOAD 2 @u @n SORTBY 1 @n MAX 5000", "GROUPBY 1 @n", "LOAD 1 @n FILTER '@n > 3'"]
    {
        let line = format!("FT.AGGREGATE idx * {steps} WITHCURSOR COUNT 7");
        let (mut all, mut cursor) = cursor_of(&server.line(&line));
        while cursor != 0 {
            let (rows, next) = cursor_of(&server.line(&format!("FT.CURSOR READ idx {cursor} COUNT 130")));
            assert!(next == 0 || next == cursor);
            all.extend(rows);
            cursor = next;
        }
        let mut expected: Vec<String> = model.iter().map(|document| half(document.n)).collect();
        if steps.starts_with("GROUPBY") {
            expected = expected.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        }
        if steps.contains("FILTER") {
            expected.retain(|n| n.parse::<f64>().is_ok_and(|n| n > 3.0));
        }
        expected.sort();
        all.sort();
        assert_eq!(all, expected, "{steps}");
    }
}

#[test]
fn cursors_end_with_their_index_their_time_and_by_request() {
    let server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    (0..50).for_each(|number| _ = server.hset(&format!("d:{number}"), &[("n", b"1")]));
    let begin = |more: &str| {
        let line = format!("FT.AGGREGATE idx * LOAD 1 @n WITHCURSOR COUNT 5 {more}");
        cursor_of(&server.line(&line)).1
    };
    let cursor = begin("");
    assert_ne!(cursor, 0);
    assert_eq!(server.line(&format!("FT.CURSOR DEL idx {cursor}")), "OK");
    assert_eq!(server.line(&format!("FT.CURSOR DEL idx {cursor}")), "Cursor does not exist");
    assert_eq!(server.line(&format!("FT.CURSOR READ idx {cursor}")), "Cursor not found");
    assert_eq!(server.line("FT.CURSOR READ idx word"), "Bad cursor ID");
    assert_eq!(server.line("FT.CURSOR READ idx 5 COUNT 0"), "Bad value for COUNT");
    assert_eq!(server.line("FT.CURSOR LOOK idx 5"), "Unknown subcommand");
    // Each reading of the clock takes a millisecond.
    let (short, long) = (begin("MAXIDLE 20"), begin("MAXIDLE 100000"));
    (0..30).for_each(|_| _ = server.line("FT.CURSOR GC idx 0"));
    assert_eq!(server.line(&format!("FT.CURSOR READ idx {short}")), "Cursor not found");
    assert_ne!(cursor_of(&server.line(&format!("FT.CURSOR READ idx {long}"))).1, 0);
    assert_eq!(server.line(&format!("FT.CURSOR READ other {long}")), "Cursor not found");
    server.line("FT.DROPINDEX idx");
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    assert_eq!(server.line(&format!("FT.CURSOR READ idx {long}")), "Cursor not found");
}

#[test]
fn cursors_are_bounded_by_number_and_by_memory() {
    let (server, _) = loaded(300, 15);
    let line = "FT.AGGREGATE idx * LOAD 1 @n WITHCURSOR COUNT 1";
    let cursors: Vec<u64> = (0..128).map(|_| cursor_of(&server.line(line)).1).collect();
    assert_eq!(server.line(line), "INDEX_CURSOR_LIMIT of 128 has been reached for an index");
    server.line(&format!("FT.CURSOR DEL idx {}", cursors[0]));
    assert_ne!(cursor_of(&server.line(line)).1, 0);
    cursors[1..].iter().for_each(|cursor| _ = server.line(&format!("FT.CURSOR DEL idx {cursor}")));
    assert_eq!(server.line("FT.CONFIG SET CURSOR_MEMORY 20000"), "OK");
    let refusal =
        "Idle cursors need more memory than search-cursor-memory allows (20000 bytes): read or delete some";
    let kept = server.line("FT.AGGREGATE idx * LOAD * SORTBY 1 @n MAX 300 WITHCURSOR COUNT 1");
    assert_eq!(kept, refusal);
}

#[test]
fn an_aggregation_that_runs_out_of_time_says_so() {
    let mut server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    server.resp3 = true;
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC t TEXT"), "OK");
    (0..3_000).for_each(|number| _ = server.hset(&format!("d:{number}"), &[("n", b"1"), ("t", b"x")]));
    let line = "FT.AGGREGATE idx * GROUPBY 1 @t REDUCE COUNT 0 AS c TIMEOUT";
    let whole = server.line(&format!("{line} 0"));
    assert!(whole.contains(r#""c": "3000""#) && whole.contains(r#""warning": []"#), "{whole}");
    let cut = server.line(&format!("{line} 20"));
    assert!(cut.contains(r#""warning": ["Timeout limit was reached"]"#), "{cut}");
    server.line("FT.CONFIG SET ON_TIMEOUT fail");
    assert_eq!(server.line(&format!("{line} 20")), "Timeout limit was reached");
}

#[test]
fn a_value_that_is_missing_is_an_error_of_the_whole_command() {
    let (server, _) = loaded(0, 1);
    server.line("HSET d:1 n 1 u 5");
    server.line("HSET d:2 n 2");
    let line = "FT.AGGREGATE idx * LOAD 2 @n @u APPLY '@u + 1' AS x";
    assert_eq!(server.line(line), "u: has no value, consider using EXISTS if applicable");
    let line = "FT.AGGREGATE idx * LOAD 2 @n @u APPLY 'case(exists(@u), @n, 0)' AS x";
    assert_eq!(server.line(line), r#"[1, ["n", "1", "u", "5", "x", "1"], ["n", "2", "x", "0"]]"#);
}

#[test]
fn an_altered_index_is_the_same_index() {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG"), "OK");
    for number in 0..1_000 {
        let n = number.to_string();
        server.hset(&format!("d:{number}"), &[("c", b"x"), ("n", n.as_bytes()), ("m", b"2")]);
    }
    let (_, cursor) = cursor_of(&server.line("FT.AGGREGATE idx * LOAD 1 @n WITHCURSOR COUNT 5"));
    // What the index does not have yet is read in the keyspace.
    assert_eq!(server.line("FT.ALTER idx SKIPINITIALSCAN SCHEMA ADD n NUMERIC"), "OK");
    let sum = "FT.AGGREGATE idx * GROUPBY 0 REDUCE SUM 1 @n AS sum";
    assert_eq!(server.line(sum), r#"[1, ["sum", "499500"]]"#);
    assert_eq!(server.line("FT.ALTER idx SCHEMA ADD m NUMERIC"), "OK");
    let sum = "FT.AGGREGATE idx * GROUPBY 1 @m REDUCE SUM 1 @n AS sum";
    assert_eq!(server.line(sum), r#"[1, ["m", "2", "sum", "499500"]]"#);
    let (rows, next) = cursor_of(&server.line(&format!("FT.CURSOR READ idx {cursor}")));
    assert_eq!((rows.len(), next), (5, cursor));
    server.line("FT.DROPINDEX idx");
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG"), "OK");
    assert_eq!(server.line(&format!("FT.CURSOR READ idx {cursor}")), "Cursor not found");
}

#[test]
fn texts_that_steps_make_are_bounded() {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG"), "OK");
    server.hset("d:1", &[("t", "x".repeat(200_000).as_bytes())]);
    let ten = ["@t"; 10].join(",");
    let step = format!("APPLY 'format(\"{}\",{ten})' AS t", "%s".repeat(10));
    let refusal = "format makes a text that is more than 1048576 bytes longer than its arguments";
    assert_eq!(server.line(&format!("FT.AGGREGATE idx * LOAD 1 @t {step}")), refusal);
    let many: Vec<String> = (0..400).map(|number| format!("APPLY 'upper(@t)' AS t{number}")).collect();
    let line = format!("FT.AGGREGATE idx * LOAD 1 @t {} GROUPBY 0 REDUCE COUNT 0", many.join(" "));
    assert_eq!(server.line("FT.CONFIG SET AGGREGATE_MEMORY 50000000"), "OK");
    assert!(server.line(&line).starts_with("The aggregation needs more memory"));
    let columns = (0..1_100).map(|number| format!("@t AS a{number}")).collect::<Vec<_>>().join(" ");
    let line = format!("FT.AGGREGATE idx * LOAD 3300 {columns}");
    assert_eq!(server.line(&line), "An aggregation is limited to 1024 properties");
    let steps = |count: usize| format!("FT.AGGREGATE idx * {}", "GROUPBY 0 ".repeat(count));
    assert_eq!(server.line(steps(1_025).trim()), "An aggregation is limited to 1024 steps");
    assert_eq!(server.line(steps(1_024).trim()), "[1, []]");
    // Overlapping occurrences, in linear time.
    server.hset("d:1", &[("t", "a".repeat(400_000).as_bytes()), ("p", "a".repeat(200_000).as_bytes())]);
    let line = "FT.AGGREGATE idx * LOAD 2 @t @p APPLY 'contains(@t, @p)' AS n GROUPBY 1 @n";
    assert_eq!(server.line(line), r#"[1, ["n", "200001"]]"#);
    let line = "FT.AGGREGATE idx * LOAD 2 @t @p APPLY 'strlen(format(\"%s\", @t))' AS n APPLY 'split(@p, @t, @p)' AS s GROUPBY 2 @n @s";
    assert_eq!(server.line(line), r#"[1, ["n", "400000", "s", nil]]"#);
}

#[test]
fn sorting_by_quotients_is_an_order() {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG"), "OK");
    for number in 0..1_000u32 {
        let (a, b) = (number.wrapping_mul(617) % 1_000, number % 3);
        let [a, b] = [a, b].map(|number| number.to_string());
        server.hset(&format!("d:{number}"), &[("a", a.as_bytes()), ("b", b.as_bytes())]);
    }
    let line = "FT.AGGREGATE idx * LOAD 2 @a @b APPLY '@a / @b' AS q SORTBY 1 @q MAX 2000";
    let reply = server.line(line);
    let quotients: Vec<f64> =
        reply.split(r#""q", ""#).skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect();
    assert_eq!(quotients.len(), 1_000);
    let first_nan = quotients.iter().position(|quotient| quotient.is_nan()).expect("some divide by 0");
    assert!(
        quotients[..first_nan].is_sorted() && quotients[first_nan..].iter().all(|quotient| quotient.is_nan())
    );
}
