use super::*;
use crate::value::JsonNode;

fn packed(text: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    parse(text, &mut packed).unwrap_or_else(|error| panic!("{text}: {error}"));
    packed
}

fn again(text: &str) -> String {
    let mut out = Vec::new();
    write(JsonNode::Packed(&packed(text)), Layout::default(), 0, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[test]
fn texts_are_written_as_redisjson_writes_them() {
    for (text, written) in [
        (
            "[1.0,1e5,-0,-0.0,0.1,1e16,100.0,1E2,5e-324]",
            "[1.0,100000.0,-0.0,-0.0,0.1,1e16,100.0,100.0,5e-324]",
        ),
        ("[123456789012345678,18446744073709551615]", "[123456789012345678,18446744073709551615]"),
        ("[18446744073709551616,-9223372036854775809]", "[1.8446744073709552e19,-9.223372036854776e18]"),
        ("[12345678901234567890.5,1e-7]", "[1.2345678901234567e19,1e-7]"),
        (" { \"a\" : 1 ,\n\"b\":[ ] , \"a\": 3 } ", "{\"a\":3,\"b\":[]}"),
        (r#""\u00e9\ud83d\ude00\u0001\/\t\u007f""#, "\"é😀\\u0001/\\t\u{7f}\""),
        ("{\"\":{\"\":null}}", "{\"\":{\"\":null}}"),
    ] {
        assert_eq!(again(text), written);
    }
}

#[test]
fn errors_have_serde_jsons_texts_and_places() {
    let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
    parse(&deep(127), &mut Vec::new()).expect("not too deep");
    for text in [
        "",
        "nul",
        "nulx",
        "-",
        "1.",
        "1.x",
        "1e",
        "1e+",
        "1ex",
        "01",
        "+1",
        "1e400",
        "[1,]",
        "[1 2]",
        "[",
        "[1",
        "[1,",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,2}",
        "{1:2}",
        "{,}",
        "[,]",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12",
        "\"\\u12G4\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\"",
        "\"\\ud83d\\n\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ude00\"",
        "\"a\nb\"",
        "\"\u{1}\"",
        "1 2",
        "{}x",
        "@",
        "tru",
        "\n\n [1,\n2 3]",
        "-x",
    ] {
        let theirs = serde_json::from_str::<serde_json::Value>(text).expect_err("malformed");
        let ours = parse(text, &mut Vec::new()).expect_err("malformed");
        assert_eq!(ours.to_string(), theirs.to_string(), "{text:?}");
    }
    for depth in [128, 129, 10_000] {
        let error = parse(&deep(depth), &mut Vec::new()).expect_err("too deep");
        assert_eq!(error.to_string(), "recursion limit exceeded at line 1 column 128");
    }
}

#[test]
fn of_names_that_come_twice_the_last_value_counts() {
    let many =
        |count: usize| (0..count).map(|n| format!("\"n{}\":{n}", n % 50)).collect::<Vec<_>>().join(",");
    assert_eq!(again(&format!("{{{}}}", many(60))), {
        let first = (0..10).map(|n| format!("\"n{n}\":{}", n + 50));
        let rest = (10..50).map(|n| format!("\"n{n}\":{n}"));
        format!("{{{}}}", first.chain(rest).collect::<Vec<_>>().join(","))
    });
}

#[test]
fn layouts_break_lines_and_indent() {
    let layout = Layout { indent: b"  ", newline: b"\n", space: b" ", ..Layout::default() };
    let mut out = Vec::new();
    write(JsonNode::Packed(&packed("{\"a\":1,\"b\":[1,{}],\"c\":[]}")), layout, 0, &mut out);
    let wanted = "{\n  \"a\": 1,\n  \"b\": [\n    1,\n    {}\n  ],\n  \"c\": []\n}";
    assert_eq!(String::from_utf8(out).expect("UTF-8"), wanted);
}
