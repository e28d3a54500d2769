use super::*;
use engramdb_testkit::instance::Protocol;
use engramdb_testkit::wire::Wire;

fn written(text: &[u8]) -> String {
    let mut wire = Wire::new(Protocol::Resp3);
    write_values(&mut wire, text);
    format!("{:?}", wire.value())
}

#[test]
fn values_are_written_with_their_types() {
    for (text, wanted) in [
        ("[1,2.5,-3,1e20,3.0]", "[1, 2.5, -3, 1e20, 3]"),
        (
            r#"[true,false,null,"a\n\"\u00e9\ud83d\ude00\/"]"#,
            "[1, 0, null, \"a\\n\\\"\\xc3\\xa9\\xf0\\x9f\\x98\\x80/\"]",
        ),
        (r#"[{"a":[],"b":{},"c":[[1],"]"]}]"#, r#"[{"a": [], "b": {}, "c": [[1], "]"]}]"#),
        ("[]", "[]"),
    ] {
        assert_eq!(written(text.as_bytes()), wanted, "{text}");
    }
    // Nothing here needs a stack.
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let mut counted = Counting::default();
    assert!(scan(&deep, &mut |part| counted.add(&part)).is_some() && counted.open.is_empty());
}

#[test]
fn a_text_that_is_no_json_is_written_as_it_is() {
    for text in ["[1", "1]", "[1}", "{1:2}", "{\"a\"}", "[red,blue]", "[1][2]", "", "\"a", "[\"\\"] {
        assert_eq!(written(text.as_bytes()), format!("{text:?}"), "{text}");
    }
}
