//! Requests that RediSearch refuses, with its texts, and odd queries that it accepts.

use crate::harness::{Server, blob};

fn index() -> Server {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT e TEXT INDEXEMPTY c TAG k TAG INDEXEMPTY n NUMERIC \
         v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 f VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    server
}

fn search(server: &Server, query: &str) -> String {
    let parameters: [&[u8]; 7] = [b"PARAMS", b"8", b"v", &blob(&[0.0, 0.0]), b"empty", b"", b"half"];
    let words: [&[u8]; 4] = [b"FT.SEARCH", b"idx", query.as_bytes(), b"NOCONTENT"];
    server.run(&[&words[..], &parameters, &[b"0.5", b"exact", b"ADHOC_BF"]].concat())
}

#[test]
fn attributes_of_neighbours_are_checked_though_nothing_depends_on_them() {
    let server = index();
    let of_vectors = |text: &str| format!("Error parsing vector similarity parameters: {text}");
    let twice = of_vectors("Parameter was specified twice");
    let invalid = of_vectors("Invalid option");
    let bad_value = of_vectors("Invalid value was given");
    let no_batches = of_vectors("'batch size' is irrelevant for 'ADHOC_BF' policy");
    let no_ef = of_vectors("'EF_RUNTIME' is irrelevant for 'ADHOC_BF' policy");
    let bad_policy = of_vectors("invalid hybrid policy was given");
    let two_names = "Distance field was specified twice for vector query: a and b";
    for (query, error) in [
        ("hi=>[KNN 2 @v $v HYBRID_POLICY NONE]", &*bad_policy),
        ("hi=>[KNN 2 @v $v]=>{$HYBRID_POLICY: NONE}", &bad_policy),
        ("hi=>[KNN 2 @v $v HYBRID_POLICY ADHOC_BF BATCH_SIZE 5]", &no_batches),
        ("hi=>[KNN 2 @v $v BATCH_SIZE 5 HYBRID_POLICY $exact]", &no_batches),
        ("hi=>[KNN 2 @v $v HYBRID_POLICY ADHOC_BF EF_RUNTIME 5]", &no_ef),
        ("hi=>[KNN 2 @v $v BATCH_SIZE 0]", &bad_value),
        ("*=>[KNN 2 @v $v EF_RUNTIME 5]=>{$EF_RUNTIME: 6}", &twice),
        ("*=>[KNN 2 @v $v RECALL 0.9 RECALL 0.9]", &twice),
        ("@v:[VECTOR_RANGE 1 $v]=>{$RECALL: 0.9}", &invalid),
        ("*=>[KNN 2 @v $v RERANK TRUE]", &invalid),
        ("*=>[KNN 2 @v $v]=>{$RERANK: TRUE}", &invalid),
        ("*=>[KNN 2 @f $v EF_RUNTIME 5]", &invalid),
        ("*=>[KNN 2 @v $v]=>{$bogus: 1}", "Invalid attribute bogus"),
        ("*=>[KNN 2 @v $v]=>{$SHARD_K_RATIO: 2}", "Invalid shard k ratio value '2'"),
        ("*=>[KNN 2 @v $v AS a]=>{$YIELD_DISTANCE_AS: b}", two_names),
        ("@v:[VECTOR_RANGE 1 $v]=>{$EPSILON: 0}", &bad_value),
        ("@v:[VECTOR_RANGE 1 $v]=>{$EPSILON: 1; $EPSILON: 1}", &twice),
        ("@f:[VECTOR_RANGE 1 $v]=>{$EPSILON: 1}", &invalid),
        (
            "@v:[VECTOR_RANGE 1 $v]=>{$YIELD_DISTANCE_AS: a} @f:[VECTOR_RANGE 1 $v]=>{$YIELD_DISTANCE_AS: a}",
            "Property `a` specified more than once",
        ),
        (
            "*=>[KNN 1000001 @v $v]",
            "Error parsing vector similarity query: query KNN K parameter is too large, must not exceed 1000000",
        ),
        ("ismissing(@c)", "'ismissing' requires field 'c' to be defined with 'INDEXMISSING'"),
    ] {
        assert_eq!(search(&server, query), error, "{query}");
    }
    let exclude = of_vectors("RECALL and EF_RUNTIME exclude each other");
    for query in [
        "*=>[KNN 2 @v $v RECALL 0.9 EF_RUNTIME 5]",
        "*=>[KNN 2 @v $v EF_RUNTIME 5]=>{$RECALL: 0.9}",
        "*=>[KNN 2 @v $v]=>{$recall: 0.9; $ef_runtime: 5}",
    ] {
        assert_eq!(search(&server, query), exclude, "{query}");
    }
    for bad in ["0", "-0.5", "1.01", "x", "nan", "$exact"] {
        let value = if bad == "$exact" { "ADHOC_BF" } else { bad };
        let text = of_vectors(&format!("RECALL is a number above 0, and at most 1, not `{value}`"));
        assert_eq!(search(&server, &format!("*=>[KNN 2 @v $v]=>{{$RECALL: {bad}}}")), text, "{bad}");
    }
    for query in [
        "*=>[KNN 2 @v $v RECALL 0.9]",
        "*=>[KNN 2 @f $v RECALL 0.9 AS d]",
        "hi=>[KNN 2 @v $v]=>{$recall: 1; $yield_distance_as: d}",
        "hi=>[KNN 2 @v $v HYBRID_POLICY BATCHES BATCH_SIZE 5 RECALL $half]",
        "hi=>[KNN 2 @v $v HYBRID_POLICY BATCHES BATCH_SIZE 5 EF_RUNTIME 5]",
        "hi=>[KNN 2 @v $v]=>{$HYBRID_POLICY: $exact; $weight: 2; $yield_distance_as: d}",
        "*=>[KNN 2 @v $v]=>{$shard_k_ratio: 0.5}",
        "@v:[VECTOR_RANGE 1 $v]=>{$EPSILON: 0.5; $YIELD_DISTANCE_AS: d}",
    ] {
        assert_eq!(search(&server, query), "[0]", "{query}");
    }
}

#[test]
fn what_is_wrong_with_a_schema_is_said_in_the_words_of_the_field_or_algorithm() {
    let server = Server::new();
    let missing = "Expected an argument, but none provided";
    let odd = "Bad number of arguments for vector similarity index: got 1 but expected even number (as algorithm parameters should be submitted as named arguments)";
    assert_eq!(server.line("FT.CREATE i SCHEMA f AS '' TAG"), "Field name cannot be empty");
    for (field, error) in [
        ("VECTOR", format!("Bad arguments for vector similarity algorithm: {missing}")),
        ("VECTOR FLAT", format!("Bad arguments for vector similarity number of parameters: {missing}")),
        ("VECTOR HNSW 6 TYPE FLOAT32 DIM 2", "Expected 6 parameters but got 4".to_owned()),
        ("VECTOR HNSW 1", odd.to_owned()),
        ("VECTOR HNSW 1 DIM", odd.to_owned()),
        ("VECTOR FLAT 6 TYPE FLOAT32 DIM 2", "Expected 6 parameters but got 4".to_owned()),
        ("VECTOR FLAT 6", "Expected 6 parameters but got 0".to_owned()),
        ("VECTOR FLAT 4 TYPE FLOAT32 DIM", format!("Bad arguments for vector similarity FLAT index dim: {missing}")),
        ("VECTOR SVS-VAMANA 2 SIZE", "Bad arguments for algorithm SVS-VAMANA: SIZE".to_owned()),
        (
            "VECTOR FLAT 3 TYPE FLOAT32 DIM",
            "Bad number of arguments for vector similarity index: got 3 but expected even number as algorithm \
             parameters (should be submitted as named arguments)"
                .to_owned(),
        ),
        ("TAG NOINDEX INDEXMISSING", "'Field cannot be defined with both `NOINDEX` and `INDEXMISSING` `f` '".to_owned()),
        ("", "Field `f` does not have a type".to_owned()),
        ("PLACE", "Invalid field type for field `f`".to_owned()),
    ] {
        assert_eq!(server.line(&format!("FT.CREATE i SCHEMA g TAG f {field}")), error, "{field}");
    }
}

#[test]
fn limits_and_counts_are_checked_and_asked_for() {
    let server = index();
    for (options, reply) in [
        ("LIMIT 0 1000001", "LIMIT exceeds maximum of 1000000"),
        ("LIMIT 1000001 1", "OFFSET exceeds maximum of 1000000"),
        ("LIMIT 0 x", "LIMIT needs two numeric arguments"),
        ("WITHCOUNT", "[0]"),
        ("WITHOUTCOUNT", "[0]"),
    ] {
        assert_eq!(server.line(&format!("FT.SEARCH idx * {options}")), reply, "{options}");
    }
}

#[test]
fn failures_are_told_of_the_index_and_of_the_field() {
    let server = index();
    server.hset("d:1", &[("v", b"1234")]);
    server.hset("d:2", &[("n", b"many")]);
    server.hset("d:4", &[("f", &blob(&[f32::NAN, 0.0]))]);
    server.hset("d:3", &[("v", b"123")]);
    let info = server.line("FT.INFO idx");
    let errors = |count: u64, error: &str, key: &str| {
        format!(
            r#""Index Errors", ["indexing failures", {count}, "last indexing error", "{error}", "last indexing error key", "{key}"#
        )
    };
    let of_field = |field: &str, errors: String| {
        format!(
            r#"["identifier", "{field}", "attribute", "{field}", {errors}", "background indexing status", "OK"]]"#
        )
    };
    let vector = "Could not add vector with blob size 3 (expected size 8)";
    let infinite = "Could not add vector with a component that is not a finite number";
    let number = "Invalid numeric value: \\'many\\'";
    for part in [
        errors(4, vector, "d:3"),
        of_field("v", errors(2, vector, "d:3")),
        of_field("n", errors(1, number, "d:2")),
        of_field("f", errors(1, infinite, "d:4")),
        of_field("t", errors(0, "N/A", "N/A")),
    ] {
        assert!(info.contains(&part), "{part} is not in {info}");
    }
}

#[test]
fn the_empty_string_is_found_where_it_is_kept_and_refused_elsewhere() {
    let server = index();
    for (key, field, value) in
        [("d:1", "e", ""), ("d:2", "e", "word"), ("d:3", "k", ""), ("d:4", "k", "a,,b")]
    {
        server.hset(key, &[(field, value.as_bytes())]);
    }
    for (query, reply) in [
        (r#"@e:"""#, r#"[1, "d:1"]"#),
        ("@e:('')", r#"[1, "d:1"]"#),
        (r#"-@e:"""#, r#"[3, "d:2", "d:3", "d:4"]"#),
        (r#"@t|e:"""#, r#"[1, "d:1"]"#),
        (r#""""#, r#"[1, "d:1"]"#),
        (r#"@k:{""}"#, r#"[2, "d:3", "d:4"]"#),
        ("@k:{'' | c}", r#"[2, "d:3", "d:4"]"#),
        ("@k:{$empty}", r#"[2, "d:3", "d:4"]"#),
    ] {
        assert_eq!(search(&server, query), reply, "{query}");
    }
    let refused = "Use `INDEXEMPTY` in field creation in order to index and query for empty strings";
    for query in ["@t:''", r#"@c:{""}"#, "@c:{$empty}"] {
        assert_eq!(search(&server, query), refused, "{query}");
    }
}

#[test]
fn quotation_marks_of_both_kinds_make_phrases_and_plain_tags() {
    let server = index();
    for (key, text, tag) in [
        ("d:1", "the lazy dog", "a-b:c"),
        ("d:2", "a dog lazy", "A-B*"),
        ("d:3", "it is", "x|y"),
        ("d:4", "it was", r"1\2"),
    ] {
        server.hset(key, &[("t", text.as_bytes()), ("c", tag.as_bytes())]);
    }
    for (query, reply) in [
        ("@t:'lazy dog'", r#"[1, "d:1"]"#),
        ("'lazy dog' | cat", r#"[1, "d:1"]"#),
        ("@c:{'a-b:c'}", r#"[1, "d:1"]"#),
        (r#"@c:{"a-b"*}"#, r#"[2, "d:1", "d:2"]"#),
        ("@c:{*'b:c'}", r#"[1, "d:1"]"#),
        (r#"@c:{*"-b"*}"#, r#"[2, "d:1", "d:2"]"#),
        ("@c:{'a-b*'}", r#"[1, "d:2"]"#),
        (r#"@c:{w"?-b*"}"#, r#"[2, "d:1", "d:2"]"#),
        ("@c:{'x|y' | 'a-b:c'}", r#"[2, "d:1", "d:3"]"#),
        (r#"@c:{"1\2"}"#, r#"[1, "d:4"]"#),
    ] {
        assert_eq!(search(&server, query), reply, "{query}");
    }
}

#[test]
fn parameters_stand_wherever_a_value_does_and_are_told_by_name_if_they_are_none() {
    let server = index();
    for (key, text, tag) in
        [("d:1", "hello world", "red wine"), ("d:2", "help", "reed"), ("d:3", "whelp", "infrared")]
    {
        server.hset(key, &[("t", text.as_bytes()), ("c", tag.as_bytes()), ("v", &blob(&[0.0, 0.0]))]);
    }
    let vector = blob(&[0.0, 0.0]);
    let ask = |query: &str, name: &str, value: &str| {
        let parameters = [&b"PARAMS"[..], b"4", name.as_bytes(), value.as_bytes(), b"v", &vector];
        let search = [&b"FT.SEARCH"[..], b"idx", query.as_bytes(), b"NOCONTENT", b"SCORER", b"DOCSCORE"];
        server.run(&[&search, &parameters[..]].concat())
    };
    for (query, value, reply) in [
        ("@t:$p", "help", r#"[1, "d:2"]"#),
        ("$p*", "hel", r#"[2, "d:1", "d:2"]"#),
        ("@t:(*$p)", "elp", r#"[2, "d:2", "d:3"]"#),
        ("*$p*", "el", r#"[3, "d:1", "d:2", "d:3"]"#),
        ("$p=>[KNN 1 @v $v]", "whelp", r#"[1, "d:3"]"#),
        ("@c:{$p}", "Red Wine", r#"[1, "d:1"]"#),
        ("@c:{ $p* }", "re", r#"[2, "d:1", "d:2"]"#),
        ("@c:{*$p}", "red", r#"[1, "d:3"]"#),
        ("@c:{*$p*}", "red", r#"[2, "d:1", "d:3"]"#),
    ] {
        assert_eq!(ask(query, "p", value), reply, "{query} with {value}");
    }
    for (query, value) in
        [("@n>=$p", "many"), ("*=>[KNN $p @v $v]", "2.5"), ("@v:[VECTOR_RANGE $p $v]", "far")]
    {
        let error = format!("Invalid numeric value ({value}) for parameter `p`");
        assert_eq!(ask(query, "p", value), error, "{query}");
    }
    assert_eq!(ask("@n:[0 $p]", "p", "many"), "Bad upper range: many");
    assert_eq!(ask("@n:[($p 9]", "p", "few"), "Bad lower range: few");
    assert_eq!(ask("@t:$q*", "p", "x"), "No such parameter `q`");
    assert_eq!(
        ask("*=>[NEAREST 2 @v $v]", "p", "x"),
        "Syntax error: Expecting Vector Similarity command at offset 4 near NEAREST"
    );
    for (options, error) in [
        ("PARAMS 2 a", "Bad arguments for PARAMS: Expected an argument, but none provided"),
        ("PARAMS 1 a", "Parameters must be specified in PARAM VALUE pairs"),
        ("PARAMS 0", "Parameters must be specified in PARAM VALUE pairs"),
        ("PARAMS 2 a b PARAMS 2 c d", "Multiple PARAMS are not allowed. Parameters can be defined only once"),
        ("FILTER n 1", "FILTER requires 3 arguments"),
        ("FILTER n '' 1", "Numeric/Geo filter value/s cannot be empty"),
        ("FILTER n 1 x", "Bad upper range: x"),
    ] {
        assert_eq!(server.line(&format!("FT.SEARCH idx * {options}")), error, "{options}");
    }
}

#[test]
fn a_quoted_wildcard_may_have_an_escaped_mark() {
    let server = index();
    server.hset("d:1", &[("t", br"it\'s"), ("c", b"it's")]);
    for query in [r"w'i*\'s'", r#"w"i?'s""#, r"@c:{w'i*\'?'}"] {
        assert_eq!(search(&server, query), r#"[1, "d:1"]"#, "{query}");
    }
}

#[test]
fn tag_values_are_those_that_some_document_has() {
    let server = index();
    server.hset("d:1", &[("c", b"Red, green"), ("k", b"")]);
    server.hset("d:2", &[("c", b"red,blue")]);
    assert_eq!(server.line("FT.TAGVALS idx c"), r#"["blue", "green", "red"]"#);
    assert_eq!(server.line("FT.TAGVALS idx k"), r#"[""]"#);
    server.line("DEL d:2");
    assert_eq!(server.line("FT.TAGVALS idx c"), r#"["green", "red"]"#);
    for (line, error) in [
        ("FT.TAGVALS idx none", "No such field"),
        ("FT.TAGVALS idx t", "Not a tag field"),
        ("FT.TAGVALS none c", "Unknown Index name"),
    ] {
        assert_eq!(server.line(line), error, "{line}");
    }
}

#[test]
fn punctuation_that_means_nothing_separates_words() {
    let server = index();
    server.hset("d:1", &[("t", b"two words"), ("v", &blob(&[0.0, 0.0]))]);
    for mark in ["'", "<", ">", "=", "==", "!", "?", "&", "^", "#", "+", "`", ",", ".", "/"] {
        for query in
            [format!("two{mark}words"), format!("@t:(two {mark} words)"), format!("@t:(two{mark})words")]
        {
            assert_eq!(search(&server, &query), r#"[1, "d:1"]"#, "{query}");
        }
    }
    assert_eq!(search(&server, "(two='words')=>[KNN 1 @v $v]"), r#"[1, "d:1"]"#);
}

#[test]
fn words_are_looked_for_in_the_fields_that_are_named() {
    let server = index();
    server.hset("d:1", &[("t", b"word"), ("e", b"other")]);
    server.hset("d:2", &[("t", b"other"), ("e", b"word"), ("c", b"x")]);
    for (query, fields, reply) in [
        ("word", "1 t", r#"[1, "d:1"]"#),
        ("word", "2 t e", r#"[2, "d:1", "d:2"]"#),
        ("word @c:{x}", "1 e", r#"[1, "d:2"]"#),
        ("@t:word", "1 e", "[0]"),
        ("word", "1 none", "[0]"),
    ] {
        let line = format!("FT.SEARCH idx '{query}' INFIELDS {fields} NOCONTENT");
        assert_eq!(server.line(&line), reply, "{line}");
    }
}

/// Each command as it is, and a word more than it has.
#[test]
fn no_command_ignores_a_further_word() {
    let server = Server::new();
    for line in [
        "FT.CREATE idx SCHEMA t TEXT v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2",
        "FT._CREATEIFNX other SCHEMA t TEXT",
        "FT.ALTER idx SCHEMA ADD n NUMERIC",
        "FT._ALTERIFNX idx SCHEMA ADD m NUMERIC",
        "FT.ALIASADD a idx",
        "FT._ALIASADDIFNX a idx",
        "FT.ALIASUPDATE a idx",
        "FT.ALIASLIST idx",
        "FT.ALIASDEL a",
        "FT._ALIASDELIFX a",
        "FT.ADD idx d:1 1 FIELDS t x",
        "FT.SAFEADD idx d:2 1 FIELDS t x",
        "FT.GET idx d:1",
        "FT.DEL idx d:1",
        "FT.DEL idx d:2 DD",
        "FT.SEARCH idx x",
        "FT.AGGREGATE idx x",
        "FT.PROFILE idx SEARCH QUERY x",
        "FT.EXPLAIN idx x",
        "FT.EXPLAINCLI idx x",
        "FT.SPELLCHECK idx x",
        "FT.INFO idx",
        "FT._LIST",
        "FT.SYNUPDATE idx g one",
        "FT.SYNDUMP idx",
        "FT.SUGADD k one 1",
        "FT.SUGGET k o",
        "FT.SUGLEN k",
        "FT.SUGDEL k one",
        "FT.DICTADD d one",
        "FT.DICTDUMP d",
        "FT.CONFIG SET TIMEOUT 500",
        "FT.CURSOR GC idx 0",
        "FT.DEBUG VECSIM_INFO idx v",
        "FT.DEBUG GC_FORCEINVOKE idx",
        "FT.DEBUG WORKERS DRAIN",
        "FT.DEBUG CHECK_GRAPH idx v",
        "FT.DROPINDEX other",
        "FT._DROPINDEXIFX idx",
        "FT.DROPINDEX idx DD",
        "FT.DROP idx KEEPDOCS",
    ] {
        // These take any number of words.
        if !["FT.SYNUPDATE", "FT.DICTADD"].iter().any(|command| line.starts_with(command)) {
            let refused = server.line(&format!("{line} zzz"));
            assert!(is_refusal(&refused), "{line} zzz: {refused}");
        }
        server.line(line);
    }
}

#[test]
fn a_cursor_is_read_with_a_count_and_no_other_word() {
    let server = Server::new();
    server.line("FT.CREATE idx SCHEMA t TEXT");
    for number in 0..9 {
        server.hset(&format!("d:{number}"), &[("t", b"x")]);
    }
    let opened = server.line("FT.AGGREGATE idx * LOAD 1 @t WITHCURSOR COUNT 1");
    let cursor = opened.rsplit(", ").next().expect("a cursor").trim_end_matches(']');
    for (words, error) in [
        ("zzz", "Unknown argument `zzz`"),
        ("COUNT", "Bad value for COUNT"),
        ("COUNT 0", "Bad value for COUNT"),
        ("COUNT 1 zzz", "Unknown argument `zzz`"),
        ("MAXIDLE 5", "Unknown argument `MAXIDLE`"),
    ] {
        assert_eq!(server.line(&format!("FT.CURSOR READ idx {cursor} {words}")), error, "{words}");
    }
    let read = server.line(&format!("FT.CURSOR READ idx {cursor} COUNT 2"));
    assert!(read.starts_with(r#"[[1, ["t", "x"], ["t", "x"]]"#), "{read}");
    assert_eq!(server.line(&format!("FT.CURSOR DEL idx {cursor} zzz")), "Unknown argument `zzz`");
    assert_eq!(server.line(&format!("FT.CURSOR DEL idx {cursor}")), "OK");
}

/// Whether a reply is one of the errors about a word that is too much.
fn is_refusal(reply: &str) -> bool {
    [
        "wrong number of arguments",
        "nknown argument",
        "nrecognized argument",
        "EXCESSARGS",
        "does not have a type",
    ]
    .iter()
    .chain(&["yntax", "must be specified in FIELD VALUE pairs"])
    .any(|text| reply.contains(text))
}
