//! Random commands with random paths on JSON documents, beside the same changes of serde_json's values.
//!
//! Paths lead to several places, some within others: a command changes the innermost first, so that what is
//! outside wins.

use engramdb_json::JsonModule;
use engramdb_resp::{Protocol, Value as Reply};
use engramdb_testkit::instance::{Instance, Parts};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const PARTS: Parts = Parts {
    commands: &[engramdb_json::COMMANDS],
    serving: |_, _| vec![Box::new(JsonModule)],
    offline: |_| vec![Box::new(JsonModule)],
};

const SEEDS: u64 = 150;
const COMMANDS: usize = 60;
const NAMES: &[&str] = &["a", "b", "n", "é", "w x"];

/// A part of a path.
#[derive(Clone, Debug)]
enum Part {
    Descend,
    All,
    Names(Vec<&'static str>),
    Indexes(Vec<i64>),
    /// `[start:stop:step]`
    Range(i64, i64, usize),
    /// `[?(@.n > number)]`
    Above(i64),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Name(String),
    Index(usize),
}

fn some_value(rng: &mut StdRng, depth: usize) -> Value {
    match rng.random_range(0..if depth < 4 { 11 } else { 6 }) {
        0 => Value::Null,
        1 => json!(rng.random_bool(0.5)),
        2 | 3 => json!(rng.random_range(-3..300)),
        4 => json!(f64::from(rng.random_range(-9..9)) + 0.5),
        5 => json!("x".repeat(if rng.random_bool(0.02) { 20_000 } else { rng.random_range(0..9) })),
        6 | 7 => Value::Array((0..rng.random_range(0..5)).map(|_| some_value(rng, depth + 1)).collect()),
        _ => {
            let count = if rng.random_bool(0.03) { 400 } else { rng.random_range(0..4) };
            let member = |number: usize, rng: &mut StdRng| {
                let name = NAMES.get(number).map_or_else(|| format!("m{number}"), |name| (*name).to_owned());
                (name, some_value(rng, depth + 1 + count / 50))
            };
            Value::Object((0..count).map(|number| member(number, rng)).collect::<Map<_, _>>())
        }
    }
}

fn some_path(rng: &mut StdRng) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        let name = |rng: &mut StdRng| *NAMES.choose(rng).expect("there are some");
        parts.push(match rng.random_range(0..10) {
            0..=3 => Part::Names(vec![name(rng)]),
            4 => Part::Names(vec![name(rng), name(rng)]),
            5 => Part::Indexes((0..rng.random_range(1..3)).map(|_| rng.random_range(-3..4)).collect()),
            6 => Part::Range(rng.random_range(-3..3), rng.random_range(-2..6), rng.random_range(1..3)),
            7 => Part::Above(rng.random_range(-2..60)),
            8 => Part::All,
            _ if matches!(parts.last(), Some(Part::Descend)) => Part::All,
            _ => Part::Descend,
        });
    }
    if matches!(parts.last(), Some(Part::Descend)) {
        parts.push(Part::All);
    }
    parts
}

fn text_of(parts: &[Part]) -> String {
    let list = |words: Vec<String>| format!("[{}]", words.join(","));
    let part = |part: &Part| match part {
        Part::Descend => "..".to_owned(),
        Part::All => "[*]".to_owned(),
        Part::Names(names) => list(names.iter().map(|name| format!("'{name}'")).collect()),
        Part::Indexes(indexes) => list(indexes.iter().map(i64::to_string).collect()),
        Part::Range(start, stop, step) => format!("[{start}:{stop}:{step}]"),
        Part::Above(number) => format!("[?(@.n > {number})]"),
    };
    ["$".to_owned()].into_iter().chain(parts.iter().map(part)).collect()
}

fn children(value: &Value) -> Vec<(Step, &Value)> {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (Step::Index(index), item)).collect()
        }
        Value::Object(members) => {
            members.iter().map(|(name, member)| (Step::Name(name.clone()), member)).collect()
        }
        _ => Vec::new(),
    }
}

/// Adds the locations that a path leads to.
fn locate(parts: &[Part], value: &Value, steps: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    let Some((part, rest)) = parts.split_first() else { return found.push(steps.clone()) };
    let is_above = |value: &Value, number: i64| {
        value.get("n").and_then(Value::as_f64).is_some_and(|own| own > number as f64)
    };
    if let Part::Descend = part {
        locate(rest, value, steps, found);
        for (step, child) in children(value) {
            steps.push(step);
            locate(parts, child, steps, found);
            steps.pop();
        }
        return;
    }
    // A filter of what is no container looks at the value itself.
    if let Part::Above(_) = part
        && !value.is_array()
        && !value.is_object()
    {
        return;
    }
    let length = value.as_array().map_or(0, Vec::len) as i64;
    let absolute = |index: i64| if index < 0 { (index + length).max(0) } else { index };
    let takes = |step: &Step, child: &Value| match (part, step) {
        (Part::All, _) => true,
        (Part::Names(names), Step::Name(name)) => names.contains(&name.as_str()),
        (Part::Indexes(indexes), Step::Index(own)) => {
            indexes.iter().any(|&index| absolute(index) == *own as i64)
        }
        (Part::Range(start, stop, step), Step::Index(own)) => {
            let (start, stop, own) = (absolute(*start), absolute(*stop), *own as i64);
            (start..stop).contains(&own) && (own - start) % *step as i64 == 0
        }
        (Part::Above(number), _) => is_above(child, *number),
        _ => false,
    };
    for (step, child) in children(value).into_iter().filter(|(step, child)| takes(step, child)) {
        steps.push(step);
        locate(rest, child, steps, found);
        steps.pop();
    }
}

fn at<'v>(value: &'v mut Value, steps: &[Step]) -> &'v mut Value {
    steps.iter().fold(value, |value, step| match step {
        Step::Name(name) => &mut value[name],
        Step::Index(index) => &mut value[index],
    })
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    let members = target.as_object_mut().expect("it is one");
    for (name, value) in patch {
        match value {
            Value::Null => _ = members.remove(name),
            value => merge(members.entry(name).or_insert(Value::Null), value),
        }
    }
}

/// A command's words behind the path, and what it does to a value at the path.
type Change = (Vec<String>, Box<dyn Fn(&mut Value)>);

fn of_array(change: impl Fn(&mut Vec<Value>) + 'static) -> Box<dyn Fn(&mut Value)> {
    Box::new(move |value| {
        if let Value::Array(items) = value {
            change(items);
        }
    })
}

fn some_change(rng: &mut StdRng) -> (&'static str, Change) {
    let one = some_value(rng, 2);
    let text = one.to_string();
    match rng.random_range(0..10) {
        0..4 => change_of_arrays(rng),
        4 => ("MERGE", ([text].into(), Box::new(move |value| merge(value, &one)))),
        5 => {
            let add = rng.random_range(-2..3_i64);
            let change = move |value: &mut Value| match value.as_i64() {
                Some(number) => *value = json!(number + add),
                None if value.is_number() => *value = json!(value.as_f64().expect("a float") + add as f64),
                None => {}
            };
            ("NUMINCRBY", ([add.to_string()].into(), Box::new(change)))
        }
        6 => {
            let change = |value: &mut Value| {
                if let Value::String(text) = value {
                    text.push_str("é+");
                }
            };
            ("STRAPPEND", (["\"é+\"".to_owned()].into(), Box::new(change)))
        }
        7 => {
            let change = |value: &mut Value| {
                if let Value::Bool(boolean) = value {
                    *boolean = !*boolean;
                }
            };
            ("TOGGLE", (Vec::new(), Box::new(change)))
        }
        8 => {
            let change = |value: &mut Value| match value {
                Value::Array(items) => items.clear(),
                Value::Object(members) => members.clear(),
                Value::Number(_) => *value = json!(0),
                _ => {}
            };
            ("CLEAR", (Vec::new(), Box::new(change)))
        }
        _ => ("SET", ([text, "XX".to_owned()].into(), Box::new(move |value| *value = one.clone()))),
    }
}

fn change_of_arrays(rng: &mut StdRng) -> (&'static str, Change) {
    let (one, two) = (some_value(rng, 2), some_value(rng, 2));
    let texts = [one.to_string(), two.to_string()];
    match rng.random_range(0..4) {
        0 => {
            let values = [one, two];
            ("ARRAPPEND", (texts.into(), of_array(move |items| items.extend(values.clone()))))
        }
        1 => {
            let words = ["0".to_owned(), texts[0].clone()].into();
            ("ARRINSERT", (words, of_array(move |items| items.insert(0, one.clone()))))
        }
        2 => {
            let index = rng.random_range(-3..3_i64);
            let pop = move |items: &mut Vec<Value>| {
                let length = items.len() as i64;
                let place = if index < 0 { (index + length).max(0) } else { index.min(length - 1) };
                if length > 0 {
                    items.remove(place as usize);
                }
            };
            ("ARRPOP", ([index.to_string()].into(), of_array(pop)))
        }
        _ => {
            let (start, stop) = (rng.random_range(0..3), rng.random_range(0..4));
            let trim = move |items: &mut Vec<Value>| {
                let end = (stop + 1).min(items.len());
                *items = items.get(start..end).unwrap_or_default().to_vec();
            };
            ("ARRTRIM", ([start.to_string(), stop.to_string()].into(), of_array(trim)))
        }
    }
}

fn remove(document: &mut Value, places: &[Vec<Step>]) {
    for place in places {
        let Some((last, outside)) = place.split_last() else { continue };
        match (at(document, outside), last) {
            (Value::Array(items), Step::Index(index)) => _ = items.remove(*index),
            (Value::Object(members), Step::Name(name)) => _ = members.remove(name),
            _ => unreachable!("it was found"),
        }
    }
}

/// Runs a command on both. Returns its words.
fn change(
    rng: &mut StdRng,
    instance: &mut Instance,
    model: &mut Option<Value>,
    counts: &mut Counts,
) -> String {
    let Some(document) = model else {
        let value = some_value(rng, 0);
        let reply = instance.run(&["JSON.SET", "d", "$", &value.to_string()]).reply;
        assert!(!reply.is_error(), "{reply:?}");
        *model = Some(value);
        return String::new();
    };
    let parts = some_path(rng);
    let path = text_of(&parts);
    let mut places = Vec::new();
    locate(&parts, document, &mut Vec::new(), &mut places);
    // The last elements first, and what is within another one before it.
    places.sort_unstable();
    places.dedup();
    places.reverse();
    if rng.random_bool(0.15) {
        instance.run(&["JSON.DEL", "d", &path]);
        remove(document, &places);
        if places.iter().any(Vec::is_empty) {
            *model = None;
        }
        return format!("JSON.DEL d {path}");
    }
    let (name, (words, change)) = some_change(rng);
    let command = format!("JSON.{name}");
    let words: Vec<&str> =
        [command.as_str(), "d", &path].into_iter().chain(words.iter().map(String::as_str)).collect();
    let reply = instance.run(&words).reply;
    // MERGE at several places, and of what is not there, is not asked here.
    let is_asked = name != "MERGE" || !places.is_empty();
    if is_asked && !reply.is_error() {
        places.iter().for_each(|place| change(at(document, place)));
        *counts.entry(name).or_default() += places.len();
    } else if name == "MERGE" {
        *model = instance_value(instance);
    }
    words.join(" ")
}

/// JSON.MSET of several values, some of one document, and JSON.SET of each in turn, of copies.
#[test]
fn json_mset_is_a_sequence_of_json_set() {
    let (mut set, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut instance = Instance::with_modules(seed, Protocol::Resp3, PARTS);
        for number in 0..20 {
            let documents: Vec<String> = (0..2).map(|_| some_value(rng, 0).to_string()).collect();
            for (key, document) in ["a", "b"].iter().zip(&documents) {
                instance.run(&["JSON.SET", key, "$", document]);
            }
            let triples: Vec<(&str, String, String)> = (0..rng.random_range(1..6))
                .map(|_| {
                    let parts: Vec<Part> = (0..rng.random_range(0..3))
                        .map(|_| match rng.random_range(0..4) {
                            0 => Part::Indexes(vec![rng.random_range(0..3)]),
                            _ => Part::Names(vec![*NAMES.choose(rng).expect("there are some")]),
                        })
                        .collect();
                    let key = if rng.random_bool(0.7) { "a" } else { "b" };
                    (key, text_of(&parts), some_value(rng, 2).to_string())
                })
                .collect();
            let words = triples.iter().flat_map(|(key, path, value)| [*key, &path[..], &value[..]]);
            let words: Vec<&str> = ["JSON.MSET"].into_iter().chain(words).collect();
            let is_refused = instance.run(&words).reply.is_error();
            let found = ["a", "b"].map(|key| instance.run(&["JSON.GET", key]).reply);
            for (key, document) in ["a", "b"].iter().zip(&documents) {
                instance.run(&["JSON.SET", key, "$", document]);
            }
            if !is_refused {
                for (key, path, value) in &triples {
                    let reply = instance.run(&["JSON.SET", key, path, value]).reply;
                    assert!(!reply.is_error(), "seed {seed}, {number}: {words:?} was accepted: {reply:?}");
                }
            }
            let wanted = ["a", "b"].map(|key| instance.run(&["JSON.GET", key]).reply);
            assert!(found == wanted, "seed {seed}, {number}: {words:?} of {documents:?}");
            *(if is_refused { &mut refused } else { &mut set }) += 1;
        }
    }
    assert!(set > 100 && refused > 100, "{set} and {refused}");
}

type Counts = BTreeMap<&'static str, usize>;

fn instance_value(instance: &mut Instance) -> Option<Value> {
    match instance.run(&["JSON.GET", "d"]).reply {
        Reply::Null => None,
        reply => Some(serde_json::from_str(reply.as_str().expect("a text")).expect("JSON")),
    }
}

#[test]
fn random_commands_change_documents_as_serde_json_does() {
    let mut counts = Counts::new();
    for seed in 0..SEEDS {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut instance = Instance::with_modules(seed, Protocol::Resp3, PARTS);
        let mut model = None;
        for number in 0..COMMANDS {
            let before = model.clone();
            let words = change(rng, &mut instance, &mut model, &mut counts);
            let found = instance_value(&mut instance);
            let shown = |value: &Option<Value>| value.as_ref().map(Value::to_string).unwrap_or_default();
            assert!(
                found == model,
                "seed {seed}, {number}: {words:.500}\nof {:.3000}\ngave {:.3000}\ninstead of {:.3000}",
                shown(&before),
                shown(&found),
                shown(&model)
            );
        }
        instance.check_replay();
        assert!(instance_value(&mut instance) == model, "seed {seed}");
    }
    let names = [
        "MERGE",
        "ARRAPPEND",
        "ARRINSERT",
        "ARRPOP",
        "ARRTRIM",
        "NUMINCRBY",
        "STRAPPEND",
        "TOGGLE",
        "CLEAR",
        "SET",
    ];
    let least = SEEDS as usize / 2;
    assert!(names.iter().all(|name| counts.get(name).is_some_and(|&count| count > least)), "{counts:?}");
}
