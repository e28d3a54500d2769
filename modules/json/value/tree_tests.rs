//! Random changes of small and large documents, beside the same changes of serde_json's values.

use super::*;
use crate::document::JsonDocument;
use crate::effect;
use crate::location::{self, Steps};
use crate::packed::DEPTH_MAX;
use crate::text::{self, Layout};
use engramdb_engine::keyspace::{EffectOrigin, TypedValue};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

fn packed(value: &Value) -> Vec<u8> {
    let mut packed = Vec::new();
    text::parse(&value.to_string(), &mut packed).expect("JSON");
    packed
}

fn text_of(node: JsonNode<'_>) -> String {
    let mut out = Vec::new();
    text::write(node, Layout::default(), 0, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

/// A value; a large one now and then.
fn some_value(rng: &mut StdRng, depth: usize) -> Value {
    match rng.random_range(0..if depth < 4 { 12 } else { 8 }) {
        0 => Value::Null,
        1 => json!(rng.random_bool(0.5)),
        2 => json!(rng.random_range(-200..200)),
        3 => json!(rng.random::<i64>()),
        4 => json!(f64::from(rng.random_range(0..1000)) / 8.0 + 0.1),
        5 => json!("é".repeat(rng.random_range(0..80))),
        6 if depth < 2 && rng.random_bool(0.2) => json!("x".repeat(rng.random_range(0..40_000))),
        8 | 9 => {
            let length =
                if rng.random_bool(0.1) { rng.random_range(0..3000) } else { rng.random_range(0..5) };
            Value::Array((0..length).map(|_| some_value(rng, depth + 1 + length / 50)).collect())
        }
        10 | 11 => {
            let length =
                if rng.random_bool(0.1) { rng.random_range(0..2000) } else { rng.random_range(0..5) };
            let member =
                |rng: &mut StdRng| (some_name(rng, length), some_value(rng, depth + 1 + length / 50));
            Value::Object((0..length).map(|_| member(rng)).collect::<Map<_, _>>())
        }
        _ => json!("text"),
    }
}

fn some_name(rng: &mut StdRng, many: usize) -> String {
    format!("name{}", rng.random_range(0..many + 6))
}

/// A way to some value below this one, as owned steps.
fn some_location(rng: &mut StdRng, value: &Value, steps: &mut Vec<Result<String, usize>>) {
    if rng.random_bool(0.2) {
        return;
    }
    match value {
        Value::Array(items) if !items.is_empty() => {
            let index = rng.random_range(0..items.len());
            steps.push(Err(index));
            some_location(rng, &items[index], steps);
        }
        Value::Object(members) if !members.is_empty() => {
            let (name, value) =
                members.iter().nth(rng.random_range(0..members.len())).expect("it has so many");
            steps.push(Ok(name.clone()));
            some_location(rng, value, steps);
        }
        _ => {}
    }
}

fn at<'v>(value: &'v mut Value, steps: &[Result<String, usize>]) -> &'v mut Value {
    steps.iter().fold(value, |value, step| match step {
        Ok(name) => &mut value[name],
        Err(index) => &mut value[index],
    })
}

fn borrowed(steps: &[Result<String, usize>]) -> Steps<'_> {
    let step = |step: &'_ Result<String, usize>| match step {
        Ok(name) => LocationStep::Name(name.as_str().to_owned().leak().as_bytes()),
        Err(index) => LocationStep::Index(*index),
    };
    steps.iter().map(step).collect()
}

/// Makes a change of both. Returns the effect's kind and payload.
fn change(rng: &mut StdRng, value: &mut Value) -> Option<(u8, Vec<u8>)> {
    let mut steps = Vec::new();
    some_location(rng, value, &mut steps);
    let mut place = Vec::new();
    location::put(&mut place, &borrowed(&steps));
    let target = at(value, &steps);
    let new = some_value(rng, 1);
    match (rng.random_range(0..8), &mut *target) {
        (0, _) if rng.random_bool(0.3) => {
            let payload = [packed(&new), place].concat();
            *target = new;
            Some((effect::SET, payload))
        }
        (0 | 1, Value::Object(members)) => {
            let name = some_name(rng, members.len());
            steps.push(Ok(name.clone()));
            let mut place = packed(&new);
            location::put(&mut place, &borrowed(&steps));
            members.insert(name, new);
            Some((effect::SET, place))
        }
        (2 | 3, Value::Array(items)) => {
            let index = rng.random_range(0..=items.len());
            let values: Vec<Value> = (0..rng.random_range(0..4)).map(|_| some_value(rng, 2)).collect();
            let mut payload = Vec::new();
            location::put_number(&mut payload, values.len() as u64);
            values.iter().for_each(|value| payload.extend(packed(value)));
            payload.extend(&place);
            location::put_number(&mut payload, index as u64);
            items.splice(index..index, values);
            Some((effect::INSERT, payload))
        }
        (4, Value::Array(items)) => {
            let start = rng.random_range(0..=items.len() / 2);
            let stop = rng.random_range(start..=items.len());
            location::put_number(&mut place, start as u64);
            location::put_number(&mut place, stop as u64);
            *items = items[start..stop].to_vec();
            Some((effect::TRIM, place))
        }
        (5, Value::String(text)) => {
            let suffix = "s".repeat(rng.random_range(0..300));
            text.push_str(&suffix);
            Some((effect::APPEND, [packed(&json!(suffix)), place].concat()))
        }
        (6, Value::Object(_)) => {
            merge(target, &new);
            Some((effect::MERGE, [packed(&new), place].concat()))
        }
        (7, _) if !steps.is_empty() => {
            let last = steps.pop().expect("it has steps");
            match (at(value, &steps), last) {
                (Value::Object(members), Ok(name)) => _ = members.remove(&name),
                (Value::Array(items), Err(index)) => _ = items.remove(index),
                _ => unreachable!("it was there"),
            }
            Some((effect::REMOVE, place))
        }
        _ => None,
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    let members = target.as_object_mut().expect("it is one");
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Items, heap bytes and blocks counted anew.
fn counted(container: &Container) -> (usize, usize, usize) {
    container.blocks.iter().fold((0, 0, 0), |(count, heap, below), block| {
        if let ItemBlock::Large { container, .. } = block {
            assert_eq!((container.count, container.heap, container.below), counted(container));
        }
        (count + block.count(), heap + block.heap_bytes(), below + block.blocks())
    })
}

fn check(document: &JsonDocument, root: &Root, value: &Value) {
    let written = text_of(root.value());
    let read: Value = serde_json::from_str(&written).expect("JSON");
    assert!(read == *value, "{written}\nis not\n{value}");
    if let Root::Large(container) = root {
        assert_eq!((container.count, container.heap, container.below), counted(container));
    }
    let mut whole = Vec::new();
    root.value().pack(&mut whole);
    assert_eq!(packed::check(&whole, DEPTH_MAX), Some(whole.len()));
    assert_eq!(root.packed_bytes(), whole.len(), "a budget of walks depends on the content alone");
    let mut saved = JsonDocument::default();
    let mut cursor = 0;
    loop {
        let mut apply = |effect: &engramdb_engine::effect::Effect<'_>| {
            saved.apply(effect, EffectOrigin::Stored).expect("it fits");
            Ok(())
        };
        cursor = document.save(b"key", cursor, &mut apply).expect("no disk");
        if cursor == 0 {
            break;
        }
    }
    assert!(text_of(saved.value()) == written, "{written}\nis saved as\n{}", text_of(saved.value()));
    assert_eq!(document.digest(), saved.digest());
}

#[test]
fn random_changes_have_the_results_that_serde_json_has() {
    for seed in 0..200 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut value = json!({"list": [], "object": {}, "text": ""});
        let mut root = Some(Root::of(&packed(&value)));
        let mut document = JsonDocument::default();
        let first = [packed(&value), vec![0]].concat();
        document.apply(&effect::of(b"key", effect::SET, &first), EffectOrigin::Stored).expect("it fits");
        for step in 0..80 {
            let kept = root.clone();
            let before = kept.as_ref().map(|root| text_of(root.value()));
            let Some((kind, payload)) = change(rng, &mut value) else { continue };
            assert!(
                effect::apply(&mut root, kind, &payload, EffectOrigin::Stored).is_some(),
                "{seed} {step} {kind}"
            );
            document.apply(&effect::of(b"key", kind, &payload), EffectOrigin::Stored).expect("it fits");
            if step % 10 == 0 {
                let root = root.as_ref().expect("it is there");
                check(&document, root, &value);
                // A reader that keeps the document sees nothing of the change.
                assert!(kept.map(|root| text_of(root.value())) == before);
            }
        }
        check(&document, root.as_ref().expect("it is there"), &value);
    }
}

#[test]
fn the_order_of_members_does_not_depend_on_blocks() {
    let rng = &mut StdRng::seed_from_u64(7);
    let members: Map<String, Value> = (0..300)
        .map(|n| (format!("n{n}"), json!("v".repeat(if n % 40 == 0 { 20_000 } else { 90 }))))
        .collect();
    let nested = |n: usize| (format!("c{n}"), json!(vec![n; 9000]));
    let value = Value::Object(members.into_iter().chain((0..4).map(nested)).collect());
    let mut large = Root::of(&packed(&value));
    let mut order: Vec<String> = match large.value().items() {
        Some(items) => items.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect(),
        None => unreachable!("an object"),
    };
    while !order.is_empty() {
        let at = rng.random_range(0..order.len());
        let name = order.swap_remove(at);
        large.change(&[LocationStep::Name(name.as_bytes())], ValueChange::Remove).expect("it is there");
        let names = large.value().items().expect("an object");
        let names: Vec<String> = names.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, order);
    }
    assert_eq!(text_of(large.value()), "{}");
}
