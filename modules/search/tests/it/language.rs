//! The query language, compared with answers of RediSearch 2.10.5.

use crate::harness::{Server, blob};

fn index() -> Server {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT e TEXT INDEXEMPTY c TAG k TAG INDEXEMPTY n NUMERIC \
         v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    server
}

/// The reply to a query, with `p` for a parameter.
fn ask(server: &Server, query: &[u8], parameter: &[u8]) -> String {
    server.run(&[
        b"FT.SEARCH",
        b"idx",
        query,
        b"NOCONTENT",
        // All scores are equal, so that the rows are in the order of the documents.
        b"SCORER",
        b"DOCSCORE",
        b"PARAMS",
        b"4",
        b"v",
        &blob(&[0.0, 0.0]),
        b"p",
        parameter,
    ])
}

fn search(server: &Server, query: &str) -> String {
    ask(server, query.as_bytes(), b"x")
}

fn found(numbers: &[u32]) -> String {
    let mut reply = format!("[{}", numbers.len());
    numbers.iter().for_each(|number| reply.push_str(&format!(", \"d:{number}\"")));
    reply + "]"
}

#[test]
fn escapes_and_control_characters_end_words_where_redisearch_ends_them() {
    let server = index();
    let documents: [&[u8]; 8] = [
        b"hello world",
        b"a\x01b x\x7fy",
        br"John\ Doe",
        b"ab xy",
        b"b",
        br"hel\lo \-x",
        br"a\\b",
        "ΟΔΥΣΣΕΑΣ".as_bytes(),
    ];
    for (number, text) in documents.iter().enumerate() {
        server.hset(&format!("d:{number}"), &[("t", text)]);
    }
    for (query, numbers) in [
        (&br"\hello"[..], &[0, 5][..]),
        (br"\hello*", &[0, 5]),
        (br"hel\lo", &[]),
        (br"@t:\hello", &[0, 5]),
        (br"w'\hel?o'", &[0, 5]),
        (br"\-x", &[5]),
        (br"a\\b", &[6]),
        (b"ab", &[1, 3]),
        // One of these is a stop word.
        (b"a\x01b", &[4]),
        (b"x\x01b", &[]),
        (b"a\x0bb|xy", &[1, 3, 4]),
        (b"hello\x00world", &[0]),
        (b"hello _ world", &[0]),
        (b"\"hello\x01world\"", &[0]),
        ("ΟΔΥΣ*".as_bytes(), &[7]),
        ("*ΣΕΑΣ".as_bytes(), &[7]),
    ] {
        assert_eq!(ask(&server, query, b""), found(numbers), "{}", String::from_utf8_lossy(query));
    }
    for (query, parameter, numbers) in [
        ("$p", r"John\ Doe", &[2][..]),
        ("@t:$p", "john doe", &[2]),
        ("$p", r"\-X", &[5]),
        ("$p*", r"John\ ", &[2]),
        ("*$p*", r"n\ D", &[2]),
        ("w'$p'", r"John\ D*", &[2]),
        ("w'$p'", r"\hel*", &[0, 5]),
        ("$p", "hello world", &[]),
        ("$p", "hel*", &[]),
    ] {
        assert_eq!(
            ask(&server, query.as_bytes(), parameter.as_bytes()),
            found(numbers),
            "{query} with {parameter}"
        );
    }
    assert_eq!(search(&server, "w'$q'"), "No such parameter `q`");
}

#[test]
fn the_empty_pattern_is_the_empty_string() {
    let server = index();
    server.hset("d:1", &[("k", b"")]);
    server.hset("d:2", &[("e", b"")]);
    server.hset("d:3", &[("k", b"x"), ("e", b"x")]);
    for (query, number) in [("@k:{w'$p'}", 1), ("@k:{$p}", 1), ("@e:(w'$p')", 2), ("@e:$p", 2)] {
        assert_eq!(ask(&server, query.as_bytes(), b""), found(&[number]), "{query}");
    }
    let refused = "Use `INDEXEMPTY` in field creation in order to index and query for empty strings";
    for query in ["@t:$p", "@c:{$p}"] {
        assert_eq!(ask(&server, query.as_bytes(), b""), refused, "{query}");
    }
}

#[test]
fn numbers_are_words_with_their_sign() {
    let server = index();
    server.hset("d:1", &[("t", b"hello")]);
    server.hset("d:2", &[("t", br"hello \-3 3\.5 inf")]);
    server.hset("d:3", &[("t", b"hello -3")]);
    for (query, numbers) in [
        ("hello -3", &[2][..]),
        ("hello - 3", &[1, 2]),
        ("hello 3", &[3]),
        ("hello -(3)", &[1, 2]),
        ("hello -x", &[1, 2, 3]),
        ("hello|-3", &[1, 2, 3]),
        ("(-3)", &[2]),
        ("3.5", &[2]),
        ("inf", &[2]),
        ("-information", &[1, 2, 3]),
        // A minus sign and a number.
        ("hello --3", &[1, 3]),
        ("\"hello -3\"", &[3]),
        ("-3*", &[2]),
    ] {
        assert_eq!(search(&server, query), found(numbers), "{query}");
    }
}

#[test]
fn ranges_are_read_as_tokens() {
    let server = index();
    server.hset("d:1", &[("n", b"5")]);
    server.hset("d:2", &[("n", b"0")]);
    for (query, numbers) in [
        ("@n:[0, 10]", &[1, 2][..]),
        ("@n:[0,10]", &[1, 2]),
        ("@n:[(0, +inf]", &[1]),
        ("@n:[(0,+inf]", &[1]),
        ("@n:[,0 10,]", &[1, 2]),
        ("@n:[5]", &[1]),
        ("@n:[ 5, ]", &[1]),
        ("@n:[- 5 6]", &[1, 2]),
        ("@n:[--5 6]", &[1]),
        ("@n:[.5 9.]", &[1]),
        ("@n : [5 5]", &[1]),
        ("@n == 5", &[1]),
        ("@n>= -5", &[1, 2]),
        ("@n!=5", &[2]),
    ] {
        assert_eq!(search(&server, query), found(numbers), "{query}");
    }
    assert_eq!(ask(&server, b"@n:[$p 10]", b"(0"), found(&[1]));
    assert_eq!(ask(&server, b"@n:[$p 10]", b"0"), found(&[1, 2]));
    for (query, error) in [
        ("@n:[(5]", "Syntax error at offset 6 near 5"),
        ("@n:[1 2 3]", "Syntax error at offset 9 near 3"),
        ("@n:[]", "Syntax error at offset 4 near n"),
        ("@n:[0 10", "Syntax error at offset 6 near 10"),
        ("@n:[1;2]", "Syntax error at offset 5 near 1"),
        ("hello @n:[1 y]", "Syntax error at offset 12 near y"),
        ("@n==x", "Syntax error at offset 4 near x"),
        ("@n=>5", "Syntax error at offset 2 near >5"),
        ("@n==(5", "Syntax error at offset 4 near n"),
        ("@n", "Syntax error at offset 0 near n"),
        ("@n:", "Syntax error at offset 2 near n"),
        ("@v:[KNN 1 $v]", "Syntax error: expecting vector similarity range command at offset 4 near KNN"),
        ("@v:[VECTOR_RANGE (1 $v]", "Syntax error at offset 17 near VECTOR_RANGE"),
    ] {
        assert_eq!(search(&server, query), error, "{query}");
    }
}

#[test]
fn a_tag_is_words_or_a_pattern_and_not_both() {
    let server = index();
    server.hset("d:1", &[("c", b"red wine, a b, a-b, 5 a")]);
    server.hset("d:2", &[("c", b"abc, b*c")]);
    for (query, numbers) in [
        ("@c:{red  wine}", &[1][..]),
        ("@c:{a.b}", &[1]),
        (r"@c:{a\-b}", &[1]),
        (r#"@c:{"a-b" | abc}"#, &[1, 2]),
        ("@c:{5 a}", &[1]),
        (r#"@c:{red "wine"}"#, &[1]),
        (r"@c:{\red wine}", &[1]),
        ("@c:{a*|*c}", &[1, 2]),
        ("@c:{w'a*'|b*}", &[1, 2]),
    ] {
        assert_eq!(search(&server, query), found(numbers), "{query}");
    }
    for (query, offset, near) in [
        ("@c:{a*b}", 6, "b"),
        ("@c:{*a*b}", 7, "b"),
        ("@c:{a* b}", 7, "b"),
        ("@c:{w'a*'*}", 9, "a*"),
        ("@c:{w'a*' b}", 10, "b"),
        ("@c:{a b*}", 6, "b"),
        ("@c:{a**}", 6, "a"),
        ("@c:{*}", 4, "c"),
        ("@c:{}", 4, "c"),
        ("@c:{a||b}", 6, "a"),
        ("@c:{a|}", 6, "a"),
        ("@c:{a-b}", 5, "a"),
        ("@c:{a:b}", 5, "a"),
        ("@c:{a@b}", 5, "b"),
        ("@c:{a}}", 6, "a"),
        (r"@c:{a\", 4, "a"),
    ] {
        let error = format!("Syntax error at offset {offset} near {near}");
        assert_eq!(search(&server, query), error, "{query}");
    }
}

#[test]
fn neighbours_are_of_one_part_of_a_query() {
    let server = index();
    for query in [
        "hello=>[KNN 2 @v $v]",
        "(hello world)=>[KNN 2 @v $v]",
        "@c:{red}=>[KNN 2 @v $v]",
        "@t:(hello world)=>[KNN 2 @v $v]",
        "@n==5=>[KNN 2 @v $v]",
        "hello=>{$weight: 2}=>[KNN 2 @v $v]",
        "((*))=>[KNN,2,@v,$v]",
        "hello , =>[KNN 2 @v $v EF_RUNTIME 5 AS a]",
        "the=>[KNN 2 @v $v]",
    ] {
        assert_eq!(search(&server, query), "[0]", "{query}");
    }
    for (query, offset, near) in [
        ("hello world=>[KNN 2 @v $v]", 13, ">["),
        ("\"hello", 1, "hello"),
        ("two\"words", 4, "words"),
        ("%hello", 1, "hello"),
        ("hello%", 5, "hello"),
        ("%%%%hello%%%%", 3, ""),
        ("@n==", 0, "n"),
        ("hello|world=>[KNN 2 @v $v]", 13, ">["),
        ("-@c:{red}=>[KNN 2 @v $v]", 11, ">["),
        ("@t:hello world=>[KNN 2 @v $v]", 16, ">["),
        ("(hello=>[KNN 2 @v $v])", 8, ">["),
        ("=>[KNN 2 @v $v]", 0, ">["),
        ("*=>[KNN 2 @v $v] hello", 17, "hello"),
        ("*=>[KNN 2 @v $v]=>[KNN 2 @v $v]", 18, ">["),
        ("*=>{$weight: 1}", 3, ">{"),
        ("*=>[KNN 2 @v $v", 13, "v"),
        ("*=>[", 3, ">["),
        ("*=>[KNN -2 @v $v]", 8, "-2"),
        ("*=>[KNN 2.5 @v $v]", 8, "2.5"),
        ("*=>[KNN 2 @v $v AS]", 18, "AS"),
        ("*=>[KNN 2 @v $v AS a EF_RUNTIME 5]", 21, "EF_RUNTIME"),
        ("*=>[KNN 2 @v v]", 13, "v"),
        ("* hello", 2, "hello"),
        ("hello *", 6, "hello"),
        ("-*", 1, ""),
        ("hello)", 5, "hello"),
        ("(hello", 1, "hello"),
        ("hello|", 5, "hello"),
        ("hello:world", 5, "hello"),
        ("hello;world", 5, "hello"),
        ("@t:(hello @n:[1 2])", 10, "n"),
        ("hello=>{$weight: 2 $weight: 1}", 19, "weight"),
        ("hello=>{weight: 1}", 8, "weight"),
    ] {
        let error = format!("Syntax error at offset {offset} near {near}");
        assert_eq!(search(&server, query), error, "{query}");
    }
}

#[test]
fn fields_are_told_by_where_they_stand() {
    let server = index();
    for (query, error) in [
        ("*=>[KNN 2 @bad $v]", "Unknown field at offset 10 near bad"),
        ("  *=>[KNN 2 @bad $v]", "Unknown field at offset 12 near bad"),
        ("@bad:x", "Unknown field at offset 0 near bad"),
        ("hello @bad:{x}", "Unknown field at offset 6 near bad"),
        ("hello @bad:[1 2]", "Unknown field at offset 6 near bad"),
        ("hello @bad==1", "Unknown field at offset 6 near bad"),
        ("hello @t|bad:x", "Unknown field at offset 9 near bad"),
        ("hello ismissing(@bad)", "Unknown field at offset 16 near bad"),
        ("hello @t==1", "Expected a NUMERIC field at offset 6 near t"),
        ("hello @t:[1 2]", "Expected a NUMERIC field at offset 6 near t"),
        ("hello @n:{x}", "Expected a TAG field at offset 6 near n"),
        ("hello @n:x", "Expected a TEXT field at offset 6 near n"),
        ("hello @c|k:x", "Expected a TEXT field at offset 6 near c"),
        ("hello @n:[VECTOR_RANGE 1 $v]", "Expected a VECTOR field at offset 6 near n"),
    ] {
        assert_eq!(search(&server, query), error, "{query}");
    }
    server.hset("d:1", &[("t", b"hello"), ("c", b"hello")]);
    for query in ["@t|c:hello", "@c|t:hello", "@t | n:hello", "@c|e|t:(hello)"] {
        assert_eq!(search(&server, query), found(&[1]), "{query}");
    }
}

#[test]
fn queries_are_as_deep_as_redisearch_reads_them() {
    let server = index();
    server.hset("d:1", &[("t", b"hello")]);
    let nested =
        |open: &str, close: &str, depth: usize| format!("{}hello{}", open.repeat(depth), close.repeat(depth));
    let too_deep = "Parser stack overflow. Try moving nested parentheses more to the left";
    for (open, close, most) in
        [("(", ")", 253), ("(", "|x)", 252), ("-", "", 254), ("-(", ")", 126), ("(x|", ")", 83)]
    {
        assert_eq!(search(&server, &nested(open, close, most)), found(&[1]), "{open}{close}");
        assert_eq!(search(&server, &nested(open, close, most + 10)), too_deep, "{open}{close}");
    }
}

#[test]
fn ranges_have_the_attributes_of_ranges() {
    let server = index();
    let of_vectors = |text: &str| format!("Error parsing vector similarity parameters: {text}");
    let invalid = of_vectors("Invalid option");
    let not_hybrid = of_vectors("hybrid query attributes were sent for a non-hybrid query");
    for (attributes, error) in [
        ("$EF_RUNTIME: 10", &*invalid),
        ("$ef_runtime: $p", &invalid),
        ("$HYBRID_POLICY: BATCHES", &not_hybrid),
        ("$BATCH_SIZE: 10", &not_hybrid),
        ("$RERANK: true", "Invalid attribute RERANK"),
        ("$SHARD_K_RATIO: 0.5", "Invalid attribute SHARD_K_RATIO"),
        ("$weight: x", "Invalid value (x) for `weight`"),
        ("$weight: -1", "Invalid value (-1) for `weight`"),
        ("$weight: $p", "Invalid value (x) for `weight`"),
        ("$weight: 2;; $epsilon: 0.5;", "[0]"),
    ] {
        let query = format!("@v:[VECTOR_RANGE 1 $v]=>{{{attributes}}}");
        assert_eq!(search(&server, &query), error, "{query}");
    }
}

#[test]
fn a_distance_is_that_of_a_part_that_matches() {
    let server = index();
    server.hset("d:1", &[("c", b"red"), ("n", b"1"), ("v", &blob(&[0.0, 0.0]))]);
    server.hset("d:2", &[("c", b"green"), ("n", b"2"), ("v", &blob(&[3.0, 0.0]))]);
    let range =
        |radius: u32, name: &str| format!("@v:[VECTOR_RANGE {radius} $v]=>{{$yield_distance_as: {name}}}");
    let (all, all_too, near) = (range(100, "d"), range(100, "f"), range(1, "d"));
    for (query, rows) in [
        (format!("(@c:{{none}} {all}) | (@c:{{green}} {all_too})"), r#"[1, "d:2", ["f", "9"]]"#),
        (format!("(@c:{{none}} {all}) | @c:{{green}}"), r#"[1, "d:2", []]"#),
        (format!("(@c:{{green}} {all}) | @n:[0 9]"), r#"[2, "d:1", [], "d:2", ["d", "9"]]"#),
        (format!("@n:[0 9] | (@c:{{green}} {all})"), r#"[2, "d:1", [], "d:2", ["d", "9"]]"#),
        (format!("@n:[0 9] ~{near}"), r#"[2, "d:1", ["d", "0"], "d:2", []]"#),
        (format!("@n:[0 9] ~(@c:{{green}} {all})"), r#"[2, "d:1", [], "d:2", ["d", "9"]]"#),
        (format!("@n:[0 9] -(@c:{{none}} {all})"), r#"[2, "d:1", [], "d:2", []]"#),
        (format!("@n:[0 9] -(-({all}))"), r#"[2, "d:1", [], "d:2", []]"#),
        (format!("@n:[0 9] {all}"), r#"[2, "d:1", ["d", "0"], "d:2", ["d", "9"]]"#),
    ] {
        let blob = blob(&[0.0, 0.0]);
        let words: [&[u8]; 10] =
            [b"FT.SEARCH", b"idx", query.as_bytes(), b"RETURN", b"2", b"d", b"f", b"PARAMS", b"2", b"v"];
        assert_eq!(server.run(&[&words[..], &[&blob]].concat()), rows, "{query}");
    }
}
