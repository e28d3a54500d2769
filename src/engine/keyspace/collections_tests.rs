//! Lists and sets beside simple models, in both of their forms.

use super::lists::list_of;
use super::sets::set_of;
use super::typed::save_whole;
use super::{Keyspace, ValueRef};
use crate::effect::{Effect, List, Record};
use crate::types::{ListEnd, RowElement};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;

const KEY: &[u8] = b"key";
const SEEDS: u64 = 16;
const STEPS: usize = 400;

fn apply(keyspace: &mut Keyspace, effect: Effect<'_>) -> (usize, bool) {
    let outcome = keyspace.apply(&Record { database: 0, effect });
    (outcome.count, outcome.mismatch)
}

fn word(random: &mut SmallRng) -> Vec<u8> {
    match random.random_range(0..20) {
        0 => vec![b'x'; random.random_range(0..600)],
        1 => vec![b'y'; random.random_range(0..12_000)],
        2..=8 => random.random_range(-200..70_000i64).to_string().into_bytes(),
        9 => random.random::<i64>().to_string().into_bytes(),
        _ => format!("word-{}", random.random_range(0..40)).into_bytes(),
    }
}

fn end(random: &mut SmallRng) -> ListEnd {
    if random.random_bool(0.5) { ListEnd::Front } else { ListEnd::Back }
}

/// Applies one random effect to both; what it counts must be the length of the list.
fn step(keyspace: &mut Keyspace, model: &mut Vec<Vec<u8>>, random: &mut SmallRng, grows: bool) {
    let length = model.len();
    let choice = random.random_range(if grows || length == 0 { 0 } else { 2 }..12);
    let end = end(random);
    let outcome = match choice {
        0..4 => {
            let words: Vec<Vec<u8>> = (0..random.random_range(1..12)).map(|_| word(random)).collect();
            for word in &words {
                match end {
                    ListEnd::Front => model.insert(0, word.clone()),
                    ListEnd::Back => model.push(word.clone()),
                }
            }
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            apply(keyspace, Effect::ListPush { key: KEY, end, elements: List::Arguments(&words) })
        }
        _ if length == 0 => return,
        4..6 => {
            let count = random.random_range(1..=length.min(5));
            match end {
                ListEnd::Front => _ = model.drain(..count),
                ListEnd::Back => model.truncate(length - count),
            }
            apply(keyspace, Effect::ListPop { key: KEY, end, count: count as u64 })
        }
        6..8 => {
            let (index, element) = (random.random_range(0..length), word(random));
            model[index].clone_from(&element);
            apply(keyspace, Effect::ListSet { key: KEY, index: index as u64, element: &element })
        }
        8..10 => {
            let (index, element) = (random.random_range(0..=length), word(random));
            model.insert(index, element.clone());
            apply(keyspace, Effect::ListInsert { key: KEY, index: index as u64, element: &element })
        }
        10 => {
            let element = model[random.random_range(0..length)].clone();
            let equal: Vec<usize> = (0..length).filter(|&at| model[at] == element).collect();
            let count = random.random_range(1..=equal.len());
            let removed = match end {
                ListEnd::Front => &equal[..count],
                ListEnd::Back => &equal[equal.len() - count..],
            };
            removed.iter().rev().for_each(|&at| _ = model.remove(at));
            apply(keyspace, Effect::ListRemove { key: KEY, end, count: count as u64, element: &element })
        }
        _ => {
            let start = random.random_range(0..=length.min(20));
            let last = random.random_range(start.max(length.saturating_sub(20))..=length);
            model.truncate(last);
            model.drain(..start);
            apply(keyspace, Effect::ListTrim { key: KEY, start: start as u64, end: last as u64 })
        }
    };
    assert_eq!(outcome, (model.len(), false));
}

/// Compares the whole list, from both ends and by index, and what it is saved as.
fn check_list(keyspace: &Keyspace, model: &[Vec<u8>]) {
    let Some(entry) = keyspace.entry(0, KEY) else { return assert!(model.is_empty()) };
    let list = list_of(entry.value()).expect("it is a list");
    assert!(list.iter().map(RowElement::to_vec).eq(model.iter().cloned()));
    assert!(list.iter_back_from(list.len()).map(RowElement::to_vec).eq(model.iter().rev().cloned()));
    for index in (0..model.len()).step_by(7) {
        assert_eq!(list.get(index).map(RowElement::to_vec).as_ref(), model.get(index));
    }
    assert_eq!((list.len(), list.get(model.len())), (model.len(), None));
    check_saved(keyspace);
}

/// What the value is saved as, and a copy of it, are equal to it.
fn check_saved(keyspace: &Keyspace) {
    let entry = keyspace.entry(0, KEY).expect("a value");
    let mut other = Keyspace::new(1);
    let value = match entry.value() {
        ValueRef::Small(small) => small.unpack(),
        ValueRef::Object(object) => object.copy(),
        _ => unreachable!("a list or a set"),
    };
    let saved = save_whole(&*value, KEY, &mut |effect| {
        assert!(!other.apply(&Record { database: 0, effect: *effect }).mismatch);
        Ok(())
    });
    saved.expect("applying needs no disk");
    assert!(other.entry(0, KEY).is_some_and(|other| other.value() == entry.value()));
}

#[test]
fn lists_are_those_of_a_model() {
    for seed in 0..SEEDS {
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut keyspace, mut model) = (Keyspace::new(1), Vec::new());
        for number in 0..STEPS {
            step(&mut keyspace, &mut model, &mut random, number < STEPS / 2 || seed % 2 == 0);
            if number % 10 == 0 {
                check_list(&keyspace, &model);
            }
        }
        check_list(&keyspace, &model);
        let held = keyspace.heap_bytes();
        apply(&mut keyspace, Effect::Delete { key: KEY, cause: crate::effect::Cause::Command });
        assert!(keyspace.heap_bytes() <= held, "what is freed was counted");
    }
}

#[test]
fn sets_are_those_of_a_model() {
    for seed in 0..SEEDS {
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut keyspace, mut model) = (Keyspace::new(1), BTreeSet::new());
        let only_integers = seed % 4 == 0;
        for number in 0..STEPS {
            let member = |random: &mut SmallRng| match only_integers {
                true => random.random_range(-300..300i64 << (seed % 40)).to_string().into_bytes(),
                false => word(random),
            };
            let grows = number < STEPS / 2;
            let words: Vec<Vec<u8>> = (0..random.random_range(1..6)).map(|_| member(&mut random)).collect();
            let members: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let members = List::Arguments(&members);
            if grows || random.random_bool(0.2) {
                let new = words.iter().filter(|word| model.insert((*word).clone())).count();
                assert_eq!(apply(&mut keyspace, Effect::SetAdd { key: KEY, members }), (new, false));
            } else {
                let some: Vec<Vec<u8>> =
                    model.iter().step_by(9).take(6).cloned().chain(words.clone()).collect();
                let members: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
                let gone = some.iter().filter(|word| model.remove(*word)).count();
                let members = List::Arguments(&members);
                assert_eq!(apply(&mut keyspace, Effect::SetRemove { key: KEY, members }), (gone, false));
            }
            check_set(&keyspace, &model, number % 20 == 0);
        }
    }
}

fn check_set(keyspace: &Keyspace, model: &BTreeSet<Vec<u8>>, is_whole: bool) {
    let Some(entry) = keyspace.entry(0, KEY) else { return assert!(model.is_empty()) };
    let set = set_of(entry.value()).expect("it is a set");
    assert_eq!(set.len(), model.len());
    assert!(!set.contains(b"never added"));
    if is_whole {
        let members: BTreeSet<Vec<u8>> = set.iter().map(RowElement::to_vec).collect();
        assert_eq!(members, *model);
        assert!(model.iter().all(|member| set.contains(member)));
        assert!(set.sample(7, 9).is_some_and(|member| model.contains(&member.to_vec())));
        check_saved(keyspace);
    }
}

#[test]
fn effects_that_do_not_fit_are_mismatches() {
    let mut keyspace = Keyspace::new(1);
    let elements = List::Arguments(&[b"a", b"b"]);
    let pop = |count| Effect::ListPop { key: KEY, end: ListEnd::Back, count };
    assert!(apply(&mut keyspace, pop(1)).1, "there is no list");
    assert!(!apply(&mut keyspace, Effect::ListPush { key: KEY, end: ListEnd::Back, elements }).1);
    for effect in [
        pop(0),
        pop(3),
        pop(u64::MAX),
        Effect::ListPush { key: KEY, end: ListEnd::Back, elements: List::Arguments(&[]) },
        Effect::ListSet { key: KEY, index: 2, element: b"x" },
        Effect::ListInsert { key: KEY, index: 3, element: b"x" },
        Effect::ListRemove { key: KEY, end: ListEnd::Front, count: 2, element: b"a" },
        Effect::ListTrim { key: KEY, start: 2, end: 1 },
        Effect::ListTrim { key: KEY, start: 0, end: 3 },
        Effect::SetAdd { key: KEY, members: elements },
        Effect::SetRemove { key: KEY, members: elements },
        Effect::HashDelete { key: KEY, fields: elements, cause: crate::effect::Cause::Command },
    ] {
        assert!(apply(&mut keyspace, effect).1, "{effect}");
    }
    check_list(&keyspace, &[b"a".to_vec(), b"b".to_vec()]);
}
