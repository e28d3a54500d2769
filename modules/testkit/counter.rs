//! A data type for tests: a counter in parts, each with a number and a sum. All of it is here; an instance
//! gets it with [`PARTS`].

use super::instance::Parts;
use engramdb_engine::command::{Args, Command, CommandError, Outcome, Reply, flag, read, write};
use engramdb_engine::effect::Effect;
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::{
    DataType, EachEffect, EffectOrigin, EncodingLimits, SAVED_PARTS_MAX, TypedValue,
};
use engramdb_engine::module::Module;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use std::collections::BTreeMap;
use std::io;

/// Instances that have counters beside what every instance has.
pub const PARTS: Parts =
    Parts { commands: &[COMMANDS], serving: |_, _| vec![Box::new(Counters)], offline: modules };

/// The modules of an instance with counters.
pub fn modules(_: &Env) -> Vec<Box<dyn Module>> {
    vec![Box::new(Counters)]
}

const NUMBER: u8 = 200;
const VERSION: u8 = 1;
/// Sets parts: each a number (u32) and a sum (i64), little-endian.
const KIND_SET: u8 = 1;
/// Removes parts: their numbers (u32).
const KIND_REMOVE: u8 = 2;

const OVERFLOW: CommandError = CommandError::of("ERR increment or decrement would overflow");

pub const COMMANDS: &[Command] = &[
    write("COUNT.ADD", "key (part amount)+", add).flags(flag::DENY_OOM).docs(
        "1.0.0",
        "O(N) for N parts",
        "Adds to parts of a counter and replies its last part's sum.",
    ),
    read("COUNT.GET", "key part", get).docs("1.0.0", "O(log N)", "Replies the sum of a part."),
    write("COUNT.REMOVE", "key part+", remove).flags(flag::FREES).docs(
        "1.0.0",
        "O(N) for N parts",
        "Removes parts, and the counter with its last one.",
    ),
    read("COUNT.TOTAL", "key", total).docs("1.0.0", "O(N)", "Replies the sum of all parts."),
];

/// The module and its data type.
pub struct Counters;

impl DataType for Counters {
    fn name(&self) -> &'static str {
        "counter"
    }
    fn module(&self) -> u8 {
        NUMBER
    }
    fn blank(&self) -> Box<dyn TypedValue> {
        Box::<Counter>::default()
    }
}

impl Module for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }
    fn number(&self) -> u8 {
        NUMBER
    }
    fn list_version(&self) -> u32 {
        1
    }
    fn data_type(&self) -> Option<&'static dyn DataType> {
        Some(&Counters)
    }
}

/// A value.
#[derive(Debug, Default)]
struct Counter {
    sums: BTreeMap<u32, i64>,
}

impl TypedValue for Counter {
    fn data_type(&self) -> &'static dyn DataType {
        &Counters
    }
    fn encoding(&self, _: &EncodingLimits) -> &'static str {
        "btree"
    }
    fn len(&self) -> usize {
        self.sums.len()
    }
    fn heap_bytes(&self) -> usize {
        self.sums.len() * 16
    }

    fn apply(&mut self, effect: &Effect<'_>, _: EffectOrigin) -> Option<usize> {
        let before = self.sums.len();
        match *effect {
            Effect::Module { version: VERSION, kind: KIND_SET, payload, .. } => {
                let (parts, rest) = payload.as_chunks::<12>();
                for [a, b, c, d, sum @ ..] in parts {
                    self.sums.insert(u32::from_le_bytes([*a, *b, *c, *d]), i64::from_le_bytes(*sum));
                }
                rest.is_empty().then(|| self.sums.len() - before)
            }
            Effect::Module { version: VERSION, kind: KIND_REMOVE, payload, .. } => {
                let (parts, rest) = payload.as_chunks::<4>();
                parts.iter().for_each(|part| _ = self.sums.remove(&u32::from_le_bytes(*part)));
                rest.is_empty().then(|| before - self.sums.len())
            }
            _ => None,
        }
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        let from = u32::try_from(cursor).expect("a cursor is the number of a part");
        let mut left = self.sums.range(from..);
        let parts: Vec<(u32, i64)> =
            left.by_ref().take(SAVED_PARTS_MAX).map(|(&part, &sum)| (part, sum)).collect();
        if !parts.is_empty() {
            each(&set(key, &encode(&parts)))?;
        }
        Ok(left.next().map_or(0, |(&next, _)| next.into()))
    }
}

fn encode(parts: &[(u32, i64)]) -> Vec<u8> {
    parts.iter().flat_map(|(part, sum)| part.to_le_bytes().into_iter().chain(sum.to_le_bytes())).collect()
}

fn set<'a>(key: &'a [u8], payload: &'a [u8]) -> Effect<'a> {
    Effect::Module { module: NUMBER, version: VERSION, kind: KIND_SET, key: Some(key), payload }
}

/// An effect on a counter.
pub fn an_effect(key: &[u8]) -> Effect<'_> {
    set(key, &[1; 12])
}

fn part(args: Args<'_>, index: usize) -> Result<u32, CommandError> {
    u32::try_from(args.integer(index)?).map_err(|_| CommandError::NOT_INTEGER)
}

fn add(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let parts = tx.read(|view| {
        let counter = view.object::<Counter>(key)?;
        let mut sums = BTreeMap::new();
        for index in (2..args.len()).step_by(2) {
            let part = part(args, index)?;
            let before = || counter.and_then(|counter| counter.sums.get(&part)).copied().unwrap_or(0);
            let sum = sums.get(&part).copied().unwrap_or_else(before).checked_add(args.integer(index + 1)?);
            sums.insert(part, sum.ok_or(OVERFLOW)?);
        }
        Ok(sums)
    })?;
    let last = parts[&part(args, args.len() - 2)?];
    tx.apply(set(key, &encode(&parts.into_iter().collect::<Vec<_>>())));
    reply.integer(last);
    Ok(())
}

fn get(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let part = part(args, 2)?;
    match view.object::<Counter>(args.word(1))?.and_then(|counter| counter.sums.get(&part)) {
        Some(sum) => reply.integer(*sum),
        None => reply.null(),
    }
    Ok(())
}

fn remove(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let parts: Vec<u32> = (2..args.len()).map(|index| part(args, index)).collect::<Result<_, _>>()?;
    let is_there = tx.read(|view| Ok(view.object::<Counter>(key)?.is_some()))?;
    let payload: Vec<u8> = parts.into_iter().flat_map(u32::to_le_bytes).collect();
    let effect = Effect::Module {
        module: NUMBER,
        version: VERSION,
        kind: KIND_REMOVE,
        key: Some(key),
        payload: &payload,
    };
    let removed = if is_there { tx.apply(effect) } else { 0 };
    reply.integer(removed as i64);
    Ok(())
}

fn total(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let counter = view.object::<Counter>(args.word(1))?;
    let total = counter
        .map_or(Some(0), |counter| counter.sums.values().try_fold(0i64, |sum, part| sum.checked_add(*part)));
    reply.integer(total.ok_or(OVERFLOW)?);
    Ok(())
}
