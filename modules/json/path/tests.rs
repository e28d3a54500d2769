//! Random paths over random documents, beside a plain evaluator over serde_json's values; and the bounds.

use super::*;
use crate::location::LocationStep;
use crate::packed;
use crate::text::{self, Layout};
use crate::value::JsonNode;
use crate::value::flat::ValueChange;
use crate::value::tree::Root;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

/// The parts of a path, and what they are in the text.
#[derive(Clone, Debug)]
enum Part {
    Descend,
    All,
    Name(&'static str),
    Names(Vec<&'static str>),
    Indexes(Vec<i64>),
    Range(Option<i64>, Option<i64>, usize),
    /// `[?(@.name < number)]`
    Below(&'static str, i64),
    /// `[?(@.name)]`
    Has(&'static str),
}

const NAMES: &[&str] = &["a", "b", "list", "é", "with space"];

fn some_name(rng: &mut StdRng) -> &'static str {
    NAMES[rng.random_range(0..NAMES.len())]
}

fn some_value(rng: &mut StdRng, depth: usize) -> Value {
    match rng.random_range(0..if depth < 4 { 9 } else { 4 }) {
        0 => Value::Null,
        1 => json!(rng.random_range(-3..4)),
        2 => json!("text"),
        3 => json!(2.5),
        4..=6 => Value::Object(
            (0..rng.random_range(0..4))
                .map(|_| (some_name(rng).to_owned(), some_value(rng, depth + 1)))
                .collect::<Map<_, _>>(),
        ),
        _ => Value::Array((0..rng.random_range(0..5)).map(|_| some_value(rng, depth + 1)).collect()),
    }
}

fn some_part(rng: &mut StdRng) -> Part {
    let optional = |rng: &mut StdRng| rng.random_bool(0.7).then(|| rng.random_range(-6..6));
    match rng.random_range(0..10) {
        0 | 1 => Part::Name(some_name(rng)),
        2 => Part::All,
        3 => Part::Descend,
        4 => Part::Names(vec![some_name(rng), some_name(rng)]),
        5 => Part::Indexes((0..rng.random_range(1..3)).map(|_| rng.random_range(-6..6)).collect()),
        6 => Part::Range(optional(rng), optional(rng), rng.random_range(1..4)),
        7 => Part::Below(some_name(rng), rng.random_range(-2..3)),
        8 => Part::Has(some_name(rng)),
        _ => Part::Name("a"),
    }
}

/// Two dots are in front of a part of their own.
fn some_path(rng: &mut StdRng) -> Vec<Part> {
    let mut parts: Vec<Part> = (0..rng.random_range(0..5)).map(|_| some_part(rng)).collect();
    let is_descend = |part: &Part| matches!(part, Part::Descend);
    parts.dedup_by(|one, other| is_descend(one) && is_descend(other));
    if parts.last().is_some_and(is_descend) {
        parts.push(Part::All);
    }
    parts
}

fn text_of(parts: &[Part]) -> String {
    let mut text = "$".to_owned();
    let number = |number: &Option<i64>| number.map_or_else(String::new, |number| number.to_string());
    let quoted = |names: &[&str]| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",");
    for part in parts {
        text += &match part {
            Part::Descend => "..".to_owned(),
            Part::All => "[*]".to_owned(),
            Part::Name(name) => format!("[\"{name}\"]"),
            Part::Names(names) => format!("[{}]", quoted(names)),
            Part::Indexes(indexes) => {
                format!("[{}]", indexes.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
            }
            Part::Range(start, stop, step) => format!("[{}:{}:{step}]", number(start), number(stop)),
            Part::Below(name, number) => format!("[?(@['{name}'] < {number})]"),
            Part::Has(name) => format!("[?(@['{name}'])]"),
        };
    }
    text
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    }
}

fn descend<'v>(parts: &[Part], value: &'v Value, found: &mut Vec<&'v Value>) {
    for child in children(value) {
        evaluate(parts, child, found);
        descend(parts, child, found);
    }
}

fn evaluate<'v>(parts: &[Part], value: &'v Value, found: &mut Vec<&'v Value>) {
    let Some((part, rest)) = parts.split_first() else { return found.push(value) };
    let length = value.as_array().map_or(0, Vec::len) as i64;
    let absolute = |index: i64| if index < 0 { (index + length).max(0) } else { index };
    let holds = |part: &Part, value: &Value| match part {
        Part::Below(name, number) => {
            value.get(name).and_then(Value::as_f64).is_some_and(|n| n < *number as f64)
        }
        Part::Has(name) => value.as_object().is_some_and(|members| members.contains_key(*name)),
        _ => false,
    };
    let chosen: Vec<&Value> = match part {
        Part::Descend => {
            evaluate(rest, value, found);
            return descend(rest, value, found);
        }
        Part::All => children(value),
        Part::Name(name) => value.get(name).filter(|_| value.is_object()).into_iter().collect(),
        Part::Names(names) => names.iter().filter_map(|name| value.as_object()?.get(*name)).collect(),
        Part::Indexes(indexes) => {
            indexes.iter().filter_map(|index| value.as_array()?.get(absolute(*index) as usize)).collect()
        }
        Part::Range(start, stop, step) => {
            let stop = stop.map_or(length, absolute).min(length);
            let range = (start.map_or(0, absolute)..stop).step_by(*step);
            range.filter_map(|index| value.as_array()?.get(index as usize)).collect()
        }
        Part::Below(..) | Part::Has(_) if children(value).is_empty() && !is_container(value) => {
            if holds(part, value) { vec![value] } else { Vec::new() }
        }
        Part::Below(..) | Part::Has(_) => {
            children(value).into_iter().filter(|child| holds(part, child)).collect()
        }
    };
    chosen.into_iter().for_each(|value| evaluate(rest, value, found));
}

fn is_container(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

fn written(node: JsonNode<'_>) -> String {
    let mut out = Vec::new();
    text::write(node, Layout::default(), 0, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn random_paths_lead_where_a_plain_evaluator_goes() {
    let mut total = 0;
    for seed in 0..10_000 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let value = some_value(rng, 0);
        let parts = some_path(rng);
        let mut wanted = Vec::new();
        evaluate(&parts, &value, &mut wanted);
        let wanted: Vec<String> = wanted.into_iter().map(Value::to_string).collect();
        let mut packed = Vec::new();
        text::parse(&value.to_string(), &mut packed).expect("JSON");
        let root = JsonNode::Packed(&packed);
        let path = text_of(&parts);
        let query = JsonPath::parse(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut found = Vec::new();
        select(&query, root, &mut WalkBudget::new(100_000), &mut |node| found.push(written(node)))
            .expect("small");
        assert_eq!(found, wanted, "{seed}: {path} in {value}");
        let first = select_first(&query, root, &mut WalkBudget::new(100_000)).expect("small");
        assert_eq!(first.map(written).as_ref(), wanted.first(), "{seed}: the first of {path} in {value}");
        let (mut reached, mut places) = (Vec::new(), std::collections::HashSet::new());
        locate(&query, root, &mut WalkBudget::new(100_000), &mut |steps, _| {
            let is_new = places.insert(format!("{steps:?}"));
            assert!(is_new || query.may_repeat(), "{path} leads twice to {steps:?} in {value}");
            let node = steps.iter().try_fold(root, |node, step| match step {
                LocationStep::Name(name) => node.member(name),
                LocationStep::Index(index) => node.element(*index),
            });
            reached.push(written(node.expect("it is there")));
        })
        .expect("small");
        assert_eq!(reached, wanted, "{seed}: the locations of {path} in {value}");
        total += wanted.len();
    }
    assert!(total > 3000, "paths lead to something: {total}");
}

#[test]
fn a_walk_is_bounded() {
    let list = format!("[{}]", vec!["[[1,2],[3,4]]"; 200].join(","));
    let mut packed = Vec::new();
    text::parse(&list, &mut packed).expect("JSON");
    let count = |path: &str, visits: usize| {
        let query = JsonPath::parse(path).expect("a path");
        let mut count = 0;
        let budget = &mut WalkBudget::new(visits);
        select(&query, JsonNode::Packed(&packed), budget, &mut |_| count += 1).map(|()| count)
    };
    assert_eq!(count("$..*", 10_000), Ok(1400));
    assert_eq!(count("$..*..*..*..*..*", 10_000), Err(TooMuch));
    assert_eq!(count("$[?(@[?(@[0]==1)])]", 1000), Err(TooMuch));
    let deep = format!("$[?({}1{})]", "(".repeat(10_000), ")".repeat(10_000));
    assert!(JsonPath::parse(&deep).is_err(), "parentheses are counted");
    let nested = "[?(@".repeat(10_000);
    assert!(JsonPath::parse(&format!("$.a{nested}")).is_err());
    let patterns = ["@=~'a'"; 9].join("||");
    assert!(JsonPath::parse(&format!("$[?({patterns})]")).is_err());
    let large = format!("$[?(@=~'{}')]", "(a{100}){100}".repeat(10));
    let mut text = Vec::new();
    text::parse("\"aaaa\"", &mut text).expect("JSON");
    let query = JsonPath::parse(&large).expect("a pattern that is too large matches nothing");
    let matches = |visits| {
        let mut budget = WalkBudget::new(visits);
        select(&query, JsonNode::Packed(&text), &mut budget, &mut |_| panic!("it matches"))
    };
    assert_eq!(matches(10_000), Err(TooMuch), "to find that out is paid for");
    matches(30_000).expect("enough");
    assert_eq!(JsonPath::parse(&large).map(|_| ()), Ok(()), "patterns are not compiled here");
}

/// The visits that a path costs: the least budget that suffices.
fn visits(path: &str, node: JsonNode<'_>) -> usize {
    let query = JsonPath::parse(path).expect("a path");
    let suffices = |visits| select(&query, node, &mut WalkBudget::new(visits), &mut |_| {}).is_ok();
    let (mut low, mut high) = (0, 1 << 30);
    while low < high {
        let middle = (low + high) / 2;
        (low, high) = if suffices(middle) { (low, middle) } else { (middle + 1, high) };
    }
    low
}

#[test]
fn each_step_of_a_walk_is_charged() {
    let array = |count: usize| {
        let mut packed = Vec::new();
        text::parse(&format!("[{}]", vec!["1"; count].join(",")), &mut packed).expect("JSON");
        Root::of(&packed)
    };
    let (small, large) = (array(2), array(100_000));
    let again = |part: &str| format!("$[{}]", vec![part; 1000].join(","));
    // What is not there is looked for all the same.
    assert!(visits(&again("7"), small.value()) > 1000);
    assert!(visits("$[90000:]", large.value()) > 10_000);
    assert!(visits("$[99999:]", large.value()) > 1000, "the way to the first one");
    assert!(visits("$[99999:]", large.value()) < 10_000, "it leads past blocks");
    assert!(visits("$[0:99000:10000]", large.value()) > 20_000, "what is passed over");
    assert!(visits(&again("8000"), large.value()) > 1_000_000);
    let mut packed = Vec::new();
    let long = "x".repeat(1 << 20);
    text::parse(&format!("{{\"a\":\"{long}\",\"b\":\"{long}\"}}"), &mut packed).expect("JSON");
    let object = Root::of(&packed);
    assert!(visits("$[?(@==$.b)]", object.value()) > 4000, "long texts take time to compare");
    assert!(visits(&again("'z'"), object.value()) > 1000);
    // A location of many steps takes time to copy.
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let mut packed = Vec::new();
    text::parse(&format!("[{}]", vec![&deep[..]; 20].join(",")), &mut packed).expect("JSON");
    let located = |budget: usize| {
        let query = JsonPath::parse("$..*").expect("a path");
        locate(&query, JsonNode::Packed(&packed), &mut WalkBudget::new(budget), &mut |_, _| {})
    };
    assert_eq!(located(visits("$..*", JsonNode::Packed(&packed))), Err(TooMuch));
}

#[test]
fn what_a_lookup_costs_does_not_depend_on_history() {
    let name = |at: usize| format!("name{at}");
    let mut grown = Root::of(packed::EMPTY_OBJECT);
    for at in 0..3000 {
        let value = if at % 500 == 3 { [&[0x80 | 60][..], &[b'x'; 60]].concat() } else { vec![7] };
        let change = ValueChange::Set(&value);
        grown.change(&[LocationStep::Name(name(at).as_bytes())], change).expect("a member");
    }
    for at in (0..3000).filter(|at| at % 7 != 0) {
        grown.change(&[LocationStep::Name(name(at).as_bytes())], ValueChange::Remove).expect("it is there");
    }
    let mut packed = Vec::new();
    grown.value().pack(&mut packed);
    let built = Root::of(&packed);
    assert!(matches!((&grown, &built), (Root::Large(_), Root::Flat(_))), "they are stored differently");
    for path in ["$.name700", "$..*", "$['name7','name0','none']", "$.none"] {
        assert_eq!(visits(path, grown.value()), visits(path, built.value()), "{path}");
    }
}

#[test]
fn ranges_of_large_arrays_lead_where_those_of_small_ones_do() {
    let inner = format!("[{}]", vec!["\"text\""; 3000].join(","));
    let items: Vec<String> =
        (0..5000).map(|at| if at % 1000 == 400 { inner.clone() } else { at.to_string() }).collect();
    let mut packed = Vec::new();
    text::parse(&format!("[{}]", items.join(",")), &mut packed).expect("JSON");
    let root = Root::of(&packed);
    for path in [
        "$[0:5000]",
        "$[399:402]",
        "$[400:1401:7]",
        "$[-3:]",
        "$[4999:]",
        "$[5000:]",
        "$[400:400]",
        "$[1399:1:1]",
    ] {
        let query = JsonPath::parse(path).expect("a path");
        let places = |node: JsonNode<'_>| {
            let mut places = Vec::new();
            locate(&query, node, &mut WalkBudget::new(1 << 20), &mut |steps, node| {
                places.push(format!("{steps:?} {}", written(node)));
            })
            .expect("small");
            places
        };
        assert!(places(root.value()) == places(JsonNode::Packed(&packed)), "{path}");
    }
}

#[test]
fn the_first_value_ends_a_walk() {
    let mut packed = Vec::new();
    text::parse(&format!("[{}]", vec!["[1,2]"; 10_000].join(",")), &mut packed).expect("JSON");
    let query = JsonPath::parse("$..[1]").expect("a path");
    let root = JsonNode::Packed(&packed);
    let first = select_first(&query, root, &mut WalkBudget::new(3000)).expect("a few visits");
    assert_eq!(first.map(written), Some("[1,2]".to_owned()));
    assert_eq!(select(&query, root, &mut WalkBudget::new(3000), &mut |_| ()), Err(TooMuch));
    let none = JsonPath::parse("$..q").expect("a path");
    assert!(select_first(&none, root, &mut WalkBudget::new(3000)).is_err(), "the walk did not end");
}

#[test]
fn the_cost_of_a_path_is_known_where_it_leads_to_no_value_twice() {
    let cost = |path: &str| JsonPath::parse(path).expect("a path").cost();
    for path in ["$", "$.a.b[3]", "$['a'][-1]"] {
        assert_eq!(cost(path), PathCost::Lookup, "{path}");
    }
    for (path, walks) in [("$.a[*]", 1), ("$[1:5].b", 1), ("$['a','b']", 1), ("$..a", 4), ("$..*", 4)] {
        assert_eq!(cost(path), PathCost::Walks(walks), "{path}");
    }
    for path in ["$..*..*", "$['a','a']", "$[1,1]", "$[?(@.a>1)]", "$.a[?(@..b>1)]"] {
        assert_eq!(cost(path), PathCost::Unknown, "{path}");
    }
}

#[test]
fn malformed_paths_have_redisjsons_texts() {
    const BRACKET: &str = "'<string>[,<string>,...]', '<number>', ['start:end:steps'], '*'";
    for (path, at, shown, expected) in [
        ("$.", 2, "$. <<<<----", "<string>, '*'"),
        ("$...a", 3, "$.. ---->>>> .a", "<string>, '*'"),
        ("$.a b", 4, "$.a  ---->>>> b", "EOI, '..'"),
        ("$[", 2, "$[ <<<<----", BRACKET),
        ("$[0", 2, "$[ ---->>>> 0", "['start:end:steps']"),
        ("$[0,]", 4, "$[0, ---->>>> ]", "'<number>'"),
        ("$[1:2:0]", 6, "$[1:2: ---->>>> 0]", "pos_number"),
        ("$['a'", 2, "$[ ---->>>> 'a'", "'<number>', ['start:end:steps']"),
        ("$['a", 2, "$[ ---->>>> 'a", BRACKET),
        ("$[?", 3, "$[? <<<<----", "single_filter"),
        ("$[?(@.a=1)]", 7, "$[?(@.a ---->>>> =1)]", "ge, gt, le, lt, eq, ne, re, and, or, '..'"),
        ("$[?(@.a>1", 9, "$[?(@.a>1 <<<<----", "and, or"),
    ] {
        let wanted = format!(
            "Error occurred on position {at}, \"{shown}\", expected one of the following: {expected}."
        );
        assert_eq!(JsonPath::parse(path).expect_err("malformed").to_string(), wanted);
    }
}
