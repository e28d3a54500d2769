//! What commands count and bound, which replies do not show.

use crate::document::{JsonDocument, JsonType};
use crate::effect;
use crate::limits::{DOCUMENT_BYTES_MAX, POPPED_BYTES_MAX};
use crate::module::JsonModule;
use crate::path::{COMPILED, PARSED};
use crate::text;
use crate::value::tree::Root;
use engramdb_engine::keyspace::{DataType, DocumentPath, DocumentSource, FieldValue};
use engramdb_testkit::instance::{Instance, Parts, Protocol, Value};

const PARTS: Parts = Parts {
    commands: &[super::COMMANDS],
    serving: |_, _| vec![Box::new(JsonModule)],
    offline: |_| vec![Box::new(JsonModule)],
};

fn instance() -> Instance {
    Instance::with_modules(1, Protocol::Resp3, PARTS)
}

/// The path of a field is parsed once, however many documents are read or changed.
#[test]
fn the_path_of_a_field_is_parsed_once() {
    let path = DocumentPath::from(b"$[?(@.t=~'^a{3}.$')].n".to_vec());
    let names = DocumentPath::from(b"$.a.b".to_vec());
    let malformed = DocumentPath::from(b"$[".to_vec());
    let before = (PARSED.get(), COMPILED.get());
    for number in 0..100 {
        let text = format!("[{{\"t\":\"aaa{}\",\"n\":{number}}}]", number % 10);
        let mut packed = Vec::new();
        text::parse(&text, &mut packed).expect("JSON");
        let document = JsonDocument::of(Root::of(&packed));
        let mut found = Vec::new();
        document.values_at(&path, &mut |value| match value {
            FieldValue::Number(value) => found.push(value),
            value => panic!("{value:?}"),
        });
        assert_eq!(found, [f64::from(number)]);
        document.values_at(&malformed, &mut |value| panic!("{value:?}"));
        let payload = [&[7, 1, 2][..], b"x"].concat();
        let set = effect::of(b"key", effect::SET, &payload);
        assert!(JsonType.concerns_at(&set, None, &path), "a filter can read anything");
        assert!(JsonType.concerns_at(&set, None, &malformed));
        assert!(!JsonType.concerns_at(&set, None, &names));
        assert_eq!(JsonType.concerns(&set, None, &names), JsonType.concerns_at(&set, None, &names));
    }
    assert_eq!(JsonType.patterns_in(b"$[?(@[?(@.a=~'x')] && (@.b=~'y' || @.c=~@.d))].e[?(@=~'z')]"), 3);
    let of_concerns = 101;
    assert_eq!((PARSED.get() - before.0 - of_concerns, COMPILED.get() - before.1), (3, 1));
}

#[test]
fn all_paths_of_a_command_look_something_up_in_a_wide_document() {
    let mut instance = instance();
    let members: Vec<String> = (0..10_000).map(|number| format!("\"k{number:05}\":1")).collect();
    instance.run(&["JSON.SET", "d", "$", &format!("{{{}}}", members.join(","))]);
    let paths: Vec<String> = (0..1024).map(|number| format!("$.k{:05}", number * 9)).collect();
    let words: Vec<&str> = ["JSON.GET", "d"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    assert!(!instance.run(&words).reply.is_error());
    let names: Vec<String> = (0..200).map(|number| format!("'k{:05}'", number * 9)).collect();
    let union = format!("$[{}]", names.join(","));
    assert!(!instance.run(&["JSON.GET", "d", &union]).reply.is_error());
    assert!(!instance.run(&["JSON.SET", "d", &union, "2"]).reply.is_error());
    let triples = paths.iter().flat_map(|path| ["d", path, "3"]);
    let words: Vec<&str> = ["JSON.MSET"].into_iter().chain(triples).collect();
    assert!(!instance.run(&words).reply.is_error());
    let all = instance.run(&["JSON.GET", "d", &paths[7], &paths[1023]]).reply;
    assert_eq!(all, Value::Bulk(b"{\"$.k00063\":[3],\"$.k09207\":[3]}".to_vec()));
}

#[test]
fn what_is_popped_at_once_is_bounded() {
    let mut instance = instance();
    let element = format!("\"{}\"", "x".repeat(POPPED_BYTES_MAX / 3));
    let array = format!("[{}]", [&element[..]; 4].join(","));
    instance.run(&["JSON.SET", "d", "$", &format!("{{\"a\":[{array}],\"b\":{array}}}")]);
    for path in ["$.a", "$..*"] {
        match instance.run(&["JSON.ARRPOP", "d", path]).reply {
            Value::Error(text) => assert!(text.ends_with(b"remove them with JSON.DEL"), "{text:?}"),
            reply => panic!("{path}: {reply:?}"),
        }
    }
    assert!(!instance.run(&["JSON.ARRPOP", "d", "$.b"]).reply.is_error());
    assert_eq!(instance.run(&["JSON.ARRLEN", "d", "$.b"]).reply, Value::Array(vec![Value::Integer(3)]));
    instance.check_replay();
}

/// How many patterns a command that reads compiles.
fn compiled(instance: &mut Instance, words: &[&str]) -> usize {
    let before = COMPILED.get();
    let reply = instance.run(words).reply;
    assert!(!reply.is_error(), "{}: {reply:?}", words[0]);
    let both = COMPILED.get() - before;
    assert_eq!(both % 2, 0, "the instance runs what reads twice, to compare");
    both / 2
}

#[test]
fn a_pattern_is_compiled_once_and_only_where_it_is_needed() {
    let mut instance = instance();
    let patterns = (0..8).map(|number| format!("@.t=~'^a{{3}}{number}$'")).collect::<Vec<_>>().join("||");
    let path = format!("$[?({patterns})]");
    instance.run(&["JSON.SET", "d", "$", "[{\"t\":\"aaa7\"},{\"t\":\"aaa7\"}]"]);
    instance.run(&["JSON.SET", "numbers", "$", "[{\"t\":1}]"]);
    let one = compiled(&mut instance, &["JSON.GET", "d", "$[?(@.t=~'^a{3}0$')]"]);
    assert_eq!(one, 1);
    assert_eq!(compiled(&mut instance, &["JSON.GET", "d", &path]), 8);
    assert_eq!(compiled(&mut instance, &["JSON.GET", "numbers", &path]), 0, "there is no text");
    assert_eq!(compiled(&mut instance, &["JSON.GET", "none", &path]), 0);
    let many: Vec<&str> =
        ["JSON.MGET"].into_iter().chain(std::iter::repeat_n("d", 1000)).chain([&path[..]]).collect();
    assert_eq!(compiled(&mut instance, &many), 8, "of all keys together");
    // Each path of a JSON.GET has its own, within one budget.
    let paths: Vec<String> = (0..500)
        .map(|number| path.replace("aaa7", &format!("{number}")).replace("{3}", &format!("{{{number}}}")))
        .collect();
    let words: Vec<&str> = ["JSON.GET", "d"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let before = COMPILED.get();
    instance.run(&words);
    let count = (COMPILED.get() - before) / 2;
    assert!((50..300).contains(&count), "the budget pays for each: {count}");
}

#[test]
fn no_command_makes_a_document_too_large() {
    let mut instance = instance();
    let quarter = format!("\"{}\"", "x".repeat(DOCUMENT_BYTES_MAX / 4));
    let whole = format!("[{}]", [&quarter[..]; 5].join(","));
    let most = format!(
        "{{\"a\":[{}],\"t\":\"\",\"n\":[{}]}}",
        [&quarter[..]; 3].join(","),
        vec!["1"; 60_000].join(",")
    );
    instance.run(&["JSON.SET", "d", "$", &most]);
    let patch = format!("{{\"b\":{quarter}}}");
    for words in [
        &["JSON.SET", "new", "$", &whole][..],
        &["JSON.SET", "d", "$", &whole],
        &["JSON.SET", "d", "$.b", &quarter],
        &["JSON.SET", "d", "$.t", &quarter],
        &["JSON.MSET", "new", "$", &whole],
        &["JSON.MSET", "d", "$.b", &quarter],
        &["JSON.MSET", "e", "$", "{}", "d", "$.t", "1", "d", "$.b", &quarter],
        &["JSON.MERGE", "new", "$", &whole],
        &["JSON.MERGE", "d", "$", &patch],
        &["JSON.MERGE", "d", "$.b", &quarter],
        &["JSON.MERGE", "d", "$.a", &patch],
        &["JSON.ARRAPPEND", "d", "$.a", &quarter],
        &["JSON.ARRINSERT", "d", "$.a", "0", &quarter],
        &["JSON.STRAPPEND", "d", "$.t", &quarter],
        &["JSON.NUMINCRBY", "d", "$.n[*]", "0.1"],
    ] {
        match instance.run(words).reply {
            Value::Error(text) => {
                assert!(text.ends_with(b"larger than 2147483648 bytes"), "{}: {text:?}", words[0])
            }
            reply => panic!("{} {}: {reply:?}", words[0], words[2]),
        }
    }
    assert_eq!(instance.run(&["EXISTS", "new", "e"]).reply, Value::Integer(0));
    assert!(!instance.run(&["JSON.SET", "d", "$.b", "1"]).reply.is_error());
    instance.check_replay();
}
