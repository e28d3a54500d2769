//! A data type for tests whose values are documents and no hashes: a record has values at paths, several at
//! one. All of it is here; an index is over records with `ON RECORD`.
//!
//! A value is a word: `null`, `true`, `false`, `{}` (an object, which no index takes), a number, an array of
//! such words (`[1,2.5]`), or else a text. A path begins with `$`; `$..` leads to all values.

use engramdb_engine::command::{Args, Command, Outcome, Reply, flag, read, write};
use engramdb_engine::effect::Effect;
use engramdb_engine::keyspace::{
    DataType, DocumentSource, EachEffect, EffectOrigin, EncodingLimits, FieldValue, PathCost, Several,
    ShownValue, TypedValue,
};
use engramdb_engine::module::Module;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

const NUMBER: u8 = 201;
const VERSION: u8 = 1;
/// Sets the values at a path: path and words, each behind its length (u32, little-endian).
const KIND_SET: u8 = 1;
/// Removes the values at a path, which is the payload.
const KIND_REMOVE: u8 = 2;

pub const COMMANDS: &[Command] = &[
    write("RECORD.SET", "key path value+", set).flags(flag::DENY_OOM).docs(
        "1.0.0",
        "O(N) for N values",
        "Sets the values at a path of a record.",
    ),
    write("RECORD.REMOVE", "key path", remove).flags(flag::FREES).docs(
        "1.0.0",
        "O(N) for N values",
        "Removes the values at a path, and the record with its last ones.",
    ),
    read("RECORD.GET", "key path", get).docs("1.0.0", "O(N)", "Replies the values at a path."),
];

/// The path that leads to all values, by a walk over the whole record.
const ALL: &[u8] = b"$..";

thread_local! {
    static WALKED: Cell<usize> = const { Cell::new(0) };
}

/// The bytes of values that this thread has read so far, for tests of what is read under a lock.
#[must_use]
pub fn walked() -> usize {
    WALKED.get()
}

/// The module and its data type.
pub struct Records;

impl DataType for Records {
    fn name(&self) -> &'static str {
        "record"
    }
    fn module(&self) -> u8 {
        NUMBER
    }
    fn blank(&self) -> Box<dyn TypedValue> {
        Box::<Record>::default()
    }
    fn documents(&self) -> Option<&'static str> {
        Some("RECORD")
    }
    fn path_cost(&self, path: &[u8]) -> PathCost {
        if path == ALL { PathCost::Walks(1) } else { PathCost::Lookup }
    }
    fn is_document_path(&self, path: &[u8]) -> bool {
        path.starts_with(b"$")
    }
}

impl Module for Records {
    fn name(&self) -> &'static str {
        "records"
    }
    fn number(&self) -> u8 {
        NUMBER
    }
    fn list_version(&self) -> u32 {
        1
    }
    fn data_type(&self) -> Option<&'static dyn DataType> {
        Some(&Records)
    }
}

/// A value of the keyspace.
#[derive(Debug, Default)]
struct Record {
    values: BTreeMap<Vec<u8>, Vec<String>>,
}

impl TypedValue for Record {
    fn data_type(&self) -> &'static dyn DataType {
        &Records
    }
    fn encoding(&self, _: &EncodingLimits) -> &'static str {
        "btree"
    }
    fn len(&self) -> usize {
        self.values.len()
    }
    fn heap_bytes(&self) -> usize {
        self.values.len() * 64
    }

    fn apply(&mut self, effect: &Effect<'_>, _: EffectOrigin) -> Option<usize> {
        match *effect {
            Effect::Module { version: VERSION, kind: KIND_SET, payload, .. } => {
                let mut words = decode(payload)?.into_iter();
                let path = words.next()?.to_vec();
                let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
                Some(usize::from(self.values.insert(path, words.map(text).collect()).is_none()))
            }
            Effect::Module { version: VERSION, kind: KIND_REMOVE, payload, .. } => {
                Some(usize::from(self.values.remove(payload).is_some()))
            }
            _ => None,
        }
    }

    fn document(&self) -> Option<&dyn DocumentSource> {
        Some(self)
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        let Some((path, values)) = self.values.iter().nth(cursor as usize) else { return Ok(0) };
        let words: Vec<&[u8]> =
            [&path[..]].into_iter().chain(values.iter().map(|word| word.as_bytes())).collect();
        each(&effect(key, KIND_SET, &encode(&words)))?;
        let next = cursor + 1;
        Ok(if next < self.values.len() as u64 { next } else { 0 })
    }
}

impl Record {
    /// The words at a path.
    fn words(&self, path: &[u8]) -> impl Iterator<Item = &String> {
        let is_all = path == ALL;
        let here = self.values.get(path).filter(|_| !is_all).into_iter().flatten();
        let all = self.values.values().filter(move |_| is_all).flatten();
        here.chain(all).inspect(|word| WALKED.set(WALKED.get() + word.len()))
    }
}

impl DocumentSource for Record {
    fn values(&self, path: &[u8], each: &mut dyn FnMut(FieldValue<'_>)) {
        for word in self.words(path) {
            let numbers = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let Some(list) = numbers else {
                each(field_value(word));
                continue;
            };
            let list = list.split(',').filter(|part| !part.is_empty());
            let numbers: Option<Vec<f64>> = list.clone().map(|part| part.parse().ok()).collect();
            match numbers {
                Some(numbers) => each(FieldValue::Numbers(&numbers)),
                None => each(FieldValue::Array(&list.map(field_value).collect::<Vec<_>>())),
            }
        }
    }

    fn shown(&self, path: &[u8], several: Several) -> Option<ShownValue<'_>> {
        let mut words = self.words(path);
        let first = words.next()?;
        Some(match several {
            Several::First if first == "null" => ShownValue::Null,
            Several::First => ShownValue::Text(Cow::Borrowed(first.as_bytes())),
            Several::All => {
                let all: Vec<&str> = [first].into_iter().chain(words).map(String::as_str).collect();
                ShownValue::List(Cow::Owned(format!("[{}]", all.join(",")).into_bytes()))
            }
        })
    }

    fn each_shown<'s>(&'s self, _: Several, each: &mut dyn FnMut(&'s [u8], ShownValue<'s>)) {
        let part = |(path, values): (&Vec<u8>, &Vec<String>)| {
            format!("{}={}", String::from_utf8_lossy(path), values.join(","))
        };
        let parts: Vec<String> = self.values.iter().map(part).collect();
        each(b"$", ShownValue::Text(Cow::Owned(parts.join(" ").into_bytes())));
    }

    fn walked_bytes(&self) -> usize {
        let bytes = |(path, values): (&Vec<u8>, &Vec<String>)| {
            path.len() + values.iter().map(String::len).sum::<usize>()
        };
        self.values.iter().map(bytes).sum()
    }

    fn bytes_at(&self, path: &[u8]) -> usize {
        self.values.get(path).map_or(0, |values| values.iter().map(String::len).sum())
    }

    fn held(&self) -> Option<Arc<dyn DocumentSource>> {
        Some(Arc::new(Record { values: self.values.clone() }))
    }
}

/// A value that is no array.
fn field_value(word: &str) -> FieldValue<'_> {
    match word {
        "null" => FieldValue::Null,
        "true" | "false" => FieldValue::Boolean(word == "true"),
        "{}" => FieldValue::Other,
        word => word.parse().map_or(FieldValue::Text(word), FieldValue::Number),
    }
}

fn encode(words: &[&[u8]]) -> Vec<u8> {
    let word = |word: &&[u8]| [&(word.len() as u32).to_le_bytes()[..], word].concat();
    words.iter().flat_map(word).collect()
}

fn decode(mut payload: &[u8]) -> Option<Vec<&[u8]>> {
    let mut words = Vec::new();
    while !payload.is_empty() {
        let (length, rest) = payload.split_first_chunk()?;
        let (word, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        words.push(word);
        payload = rest;
    }
    Some(words)
}

fn effect<'a>(key: &'a [u8], kind: u8, payload: &'a [u8]) -> Effect<'a> {
    Effect::Module { module: NUMBER, version: VERSION, kind, key: Some(key), payload }
}

fn set(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    tx.read(|view| view.object::<Record>(args[1]).map(|_| ()))?;
    let words: Vec<&[u8]> = args.iter().skip(2).copied().collect();
    reply.integer(tx.apply(effect(args[1], KIND_SET, &encode(&words))) as i64);
    Ok(())
}

fn remove(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let is_there = tx.read(|view| Ok(view.object::<Record>(args[1])?.is_some()))?;
    let removed = if is_there { tx.apply(effect(args[1], KIND_REMOVE, args[2])) } else { 0 };
    reply.integer(removed as i64);
    Ok(())
}

fn get(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let record = view.object::<Record>(args[1])?;
    let values = record.and_then(|record| record.values.get(args[2]));
    reply.array(values.map_or(0, Vec::len));
    values.into_iter().flatten().for_each(|word| reply.bulk(word.as_bytes()));
    Ok(())
}
