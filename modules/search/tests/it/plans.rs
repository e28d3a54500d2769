//! FT.EXPLAIN's trees and FT.PROFILE's costs, in the shape that clients read.

use crate::harness::{Server, blob};

/// Documents 0 to 999 on a line; `half` is every second one, `rare` every hundredth.
fn loaded() -> Server {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT u TEXT c TAG n NUMERIC m TAG INDEXMISSING \
                  v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    for number in 0..1000 {
        let tags = match number {
            _ if number % 100 == 0 => "half,rare",
            _ if number % 2 == 0 => "half",
            _ => "odd",
        };
        let vector = blob(&[number as f32, 0.0]);
        server.hset(&format!("d:{number}"), &[("c", tags.as_bytes()), ("v", &vector)]);
    }
    while !server.line("FT.INFO idx").contains(r#""pending_mutations", 0"#) {}
    server
}

fn explain(server: &Server, query: &str) -> String {
    let blob = blob(&[0.0, 0.0]);
    server.run(&[
        b"FT.EXPLAIN",
        b"idx",
        query.as_bytes(),
        b"VERBATIM",
        b"PARAMS",
        b"6",
        b"B",
        &blob,
        b"k",
        b"10",
        b"n",
        b"20",
    ])
}

#[test]
fn queries_are_explained_as_trees() {
    let server = loaded();
    for (query, tree) in [
        ("*", "<WILDCARD>\\n"),
        ("", "<empty>\\n"),
        ("hello", "hello\\n"),
        ("@t:hello", "@t:hello\\n"),
        ("@t:(hello world)", "@t:INTERSECT {\\n  @t:hello\\n  @t:world\\n}\\n"),
        ("@t:hello @t:world", "INTERSECT {\\n  @t:hello\\n  @t:world\\n}\\n"),
        ("@t:-hello", "@t:NOT{\\n  @t:hello\\n}\\n"),
        ("%hel%=>{$weight:2.5}", "FUZZY{hel} => { $weight: 2.5; }\\n"),
        ("hello=>{$weight:2; $slop:1}", "hello => {$weight: 2;}\\n"),
        (
            "(a1 b1)=>{$weight:3;$slop:2;$inorder:true}",
            "INTERSECT {\\n  a1\\n  b1\\n} => { $weight: 3; $slop: 2; $inorder: true; }\\n",
        ),
        ("(a1 b1)=>{$inorder:true}", "INTERSECT {\\n  a1\\n  b1\\n} => { $inorder: true; }\\n"),
        ("\\\"a1 b1\\\"=>{$slop:2}", "EXACT {\\n  a1\\n  b1\\n} => { $slop: 2; $inorder: false; }\\n"),
        ("@t|u:hello", "hello\\n"),
        ("hello world", "INTERSECT {\\n  hello\\n  world\\n}\\n"),
        (
            "hello|@t:\\\"big world\\\"",
            "UNION {\\n  hello\\n  @t:EXACT {\\n    @t:big\\n    @t:world\\n  }\\n}\\n",
        ),
        (
            "-hel* ~*lo",
            "INTERSECT {\\n  NOT{\\n    PREFIX{hel*}\\n  }\\n  OPTIONAL{\\n    SUFFIX{*lo}\\n  }\\n}\\n",
        ),
        ("@c:{bye|w'b?e'|*y*}", "TAG:@c {\\n  bye\\n  WILDCARD{b?e}\\n  INFIX{*y*}\\n}\\n"),
        ("@n:[10 100]", "NUMERIC {10.000000 <= @n <= 100.000000}\\n"),
        ("@n:[-inf (inf]", "NUMERIC {-inf <= @n < inf}\\n"),
        ("@n:[(-$n $n]", "NUMERIC {-20.000000 < @n <= 20.000000}\\n"),
        ("ismissing(@m)", "ISMISSING{m}\\n"),
        (
            "* => [KNN $k @v $B EF_RUNTIME 100]",
            "VECTOR {K=10 nearest vectors to `$B` in vector index associated with field @v, EF_RUNTIME = 100, \
             yields distance as `__v_score`}\\n",
        ),
        (
            "* => [KNN $k @v $B RECALL 0.95]",
            "VECTOR {K=10 nearest vectors to `$B` in vector index associated with field @v, RECALL = 0.95, \
             yields distance as `__v_score`}\\n",
        ),
        (
            "@v:[VECTOR_RANGE 0.1 $B]=>{$epsilon: 1.2; $yield_distance_as:dist}",
            "VECTOR {Vectors that are within 0.1 distance radius from `$B` in vector index associated with field @v, \
             epsilon = 1.2, yields distance as `dist`}\\n",
        ),
        (
            "(@t:hello world) => [KNN 3 @v $B AS d]",
            "VECTOR {\\n  INTERSECT {\\n    @t:hello\\n    world\\n  }\\n} => {K=3 nearest vectors to `$B` in vector index \
             associated with field @v, yields distance as `d`}\\n",
        ),
    ] {
        let query = query.replace("\\\"", "\"");
        assert_eq!(explain(&server, &query), format!("\"{tree}\""), "{query}");
    }
    let expanded = server.line("FT.EXPLAIN idx '@t:running=>{$weight:2}|x'");
    let tree = "UNION {\\n  @t:UNION {\\n    @t:running => {$weight: 2;}\\n    @t:+run(expanded)\\n    @t:run(expanded)\\n  }\\n  \
                UNION {\\n    x\\n    +x(expanded)\\n  }\\n}\\n";
    assert_eq!(expanded, format!("\"{tree}\""));
    assert_eq!(server.line("FT.EXPLAINCLI idx 'x y' VERBATIM"), r#"[INTERSECT {,   x,   y, }, ]"#);
    assert_eq!(server.line("FT.EXPLAIN none *"), "none: no such index");
    assert_eq!(explain(&server, "@c:{"), "Syntax error at offset 3 near c");
}

fn profile(server: &Server, query: &str) -> String {
    let blob = blob(&[3.0, 0.0]);
    server.run(&[
        b"FT.PROFILE",
        b"idx",
        b"SEARCH",
        b"QUERY",
        query.as_bytes(),
        b"NOCONTENT",
        b"PARAMS",
        b"2",
        b"B",
        &blob,
    ])
}

/// The value after a name in the profile.
fn after<'p>(profile: &'p str, name: &str) -> &'p str {
    let name = format!("\"{name}\", ");
    let start = profile.find(&name).unwrap_or_else(|| panic!("{name} in {profile}")) + name.len();
    let end = profile[start..].find([',', ']', '}']).expect("something follows");
    &profile[start..start + end]
}

#[test]
fn a_profile_says_what_was_chosen_and_what_it_cost() {
    let server = loaded();
    for (query, modes) in [
        ("*=>[KNN 2 @v $B EF_RUNTIME 10]", &[("STANDARD_KNN", "walk of the graph")][..]),
        ("*=>[KNN 2 @v $B EF_RUNTIME 2000]", &[("STANDARD_KNN", "exact scan")]),
        ("@c:{rare}=>[KNN 2 @v $B EF_RUNTIME 10]", &[("HYBRID_ADHOC_BF", "exact scan of the matches")]),
        (
            "@c:{half}=>[KNN 2 @v $B HYBRID_POLICY ADHOC_BF]",
            &[("HYBRID_ADHOC_BF", "exact scan of the matches")],
        ),
        (
            "@c:{half}=>[KNN 2 @v $B EF_RUNTIME 10]",
            // The planner may choose either.
            &[
                ("HYBRID_FILTERED_WALK", "filtered walk of the graph"),
                ("HYBRID_ADHOC_BF", "exact scan of the matches"),
            ],
        ),
    ] {
        let profile = profile(&server, query);
        let word = |name: &str| after(&profile, name).trim_matches('"');
        let (mode, plan) = (word("Vector search mode"), word("Plan"));
        assert!(modes.contains(&(mode, plan)), "{query}: {profile}");
        let number = |name: &str| after(&profile, name).parse::<usize>().expect("a number");
        assert_eq!(number("Number of reading operations"), 2);
        assert!(number("Distances evaluated") >= 2, "{profile}");
        assert_eq!(number("Nodes visited") > 0, plan.contains("walk"), "{profile}");
        assert_eq!(number("Pending mutations scanned"), 0);
    }
    let walked = "Walked beyond the k-th distance by";
    for query in ["*=>[KNN 2 @v $B RECALL 0.9]", "*=>[KNN 2 @v $B]=>{$RECALL: 0.9}"] {
        let asked = profile(&server, query);
        assert_eq!(after(&asked, "Plan"), "\"walk of the graph\"", "{asked}");
        assert!(after(&asked, walked).trim_matches('"').parse::<f64>().is_ok(), "{asked}");
    }
    let all = profile(&server, "*=>[KNN 2 @v $B RECALL 1]");
    assert_eq!(after(&all, "Plan"), "\"exact scan\"", "{all}");
    assert!(!all.contains(walked) && after(&all, "Distances evaluated") == "1000", "{all}");
    let rare = profile(&server, "@c:{rare}=>[KNN 2 @v $B EF_RUNTIME 10]");
    assert_eq!(after(&rare, "Distances evaluated"), "10", "no more than there are");
    assert!(rare.contains(r#""Child iterator", ["Type", "TAG", "Term", "rare", "Time", "#), "{rare}");
    let range = profile(&server, "@v:[VECTOR_RANGE 4 $B]");
    assert!(range.starts_with(r#"[[5, "d:1", "d:2", "d:3", "d:4", "d:5"], ["Shards", "#), "{range}");
    assert!(range.contains(
        r#"["Type", "METRIC SORTED BY ID - VECTOR DISTANCE", "Vector search mode", "RANGE_QUERY""#
    ));
}

/// Removes times, the only part that differs between runs.
fn without_times(profile: &str) -> String {
    let mut shape = String::new();
    let mut rest = profile;
    while let Some(at) = rest.to_ascii_lowercase().find("time\"") {
        let (head, tail) = rest.split_at(at + "time\"".len());
        shape.push_str(head);
        let separator = if tail.starts_with(':') { ": " } else { ", " };
        let end = tail[2..].find([',', '}', ']']).expect("something follows") + 2;
        shape.push_str(separator);
        shape.push('~');
        rest = &tail[end..];
    }
    shape + rest
}

#[test]
fn profiles_have_the_shape_of_redisearch() {
    let mut server = loaded();
    let line = "FT.PROFILE idx SEARCH LIMITED QUERY '@n:[1 2] | -@c:{half}' LIMIT 0 0";
    assert_eq!(
        without_times(&server.line(line)),
        r#"[[500], ["Shards", [["Total profile time", ~, "Parsing time", ~, "Workers queue time", ~, "Pipeline creation time", ~, "Warning", ["None"], "Iterators profile", ["Type", "UNION", "Query type", "UNION", "Time", ~, "Number of reading operations", 500, "Child iterators", [["Type", "NUMERIC", "Term", "1.000000 - 2.000000", "Time", ~, "Number of reading operations", 0], ["Type", "NOT", "Time", ~, "Number of reading operations", 500, "Child iterator", ["Type", "TAG", "Term", "half", "Time", ~, "Number of reading operations", 500]]]], "Result processors profile", [["Type", "Index", "Time", ~, "Results processed", 500], ["Type", "Loader", "Time", ~, "Results processed", 500]]]], "Coordinator", []]]"#
    );
    server.resp3 = true;
    assert_eq!(
        without_times(&server.line("FT.PROFILE idx search query '*' NOCONTENT LIMIT 0 1 SORTBY n")),
        r#"{"Results": {"attributes": [], "format": "STRING", "total_results": 1000, "warning": [], "results": [{"id": "d:0", "values": []}]}, "Profile": {"Shards": [{"Total profile time": ~, "Parsing time": ~, "Workers queue time": ~, "Pipeline creation time": ~, "Warning": ["None"], "Iterators profile": {"Type": "WILDCARD", "Time": ~, "Number of reading operations": 1000}, "Result processors profile": [{"Type": "Index", "Time": ~, "Results processed": 1000}, {"Type": "Sorter", "Time": ~, "Results processed": 1000}]}], "Coordinator": {}}}"#
    );
    for (line, error) in [
        ("FT.PROFILE none SEARCH QUERY *", "none: no such index"),
        ("FT.PROFILE idx Puffin QUERY *", "No `SEARCH` or `AGGREGATE` provided"),
        ("FT.PROFILE idx SEARCH LIMITED *", "The QUERY keyword is expected"),
        ("FT.PROFILE idx SEARCH LIMITED QUERY", "No query string provided"),
        ("FT.PROFILE idx SEARCH QUERY @c", "Syntax error at offset 0 near c"),
    ] {
        assert_eq!(server.line(line), error, "{line}");
    }
}
