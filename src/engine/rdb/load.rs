//! From the parts of a value to the effects that build it.

use super::streams::StreamLoader;
use crate::effect::{Effect, List, ScoredList};
use crate::keyspace::{DataType, DataTypes, EachEffect, SAVED_BYTES_MAX, SAVED_PARTS_MAX};
use crate::types::{ListEnd, ScoredMember};
use engramdb_rdb::payload::Payload;
use engramdb_rdb::{ModuleItem, RdbError, ValuePart, module_name};
use std::collections::BTreeMap;
use std::io;

/// What was read of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedParts {
    /// How many parts it has; 0 for a value without any, whose key does not exist.
    pub parts: u64,
}

/// Takes the parts of one value, and makes effects that build it where its key is absent. Effects are as
/// large as those of a snapshot, but that a string, or a field, is in one.
pub struct PartLoader<'k> {
    key: &'k [u8],
    types: &'k DataTypes,
    parts: u64,
    chunk: Chunk,
    stream: StreamLoader,
    module: Option<StoredModule>,
}

/// Parts that wait to become an effect.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where each word ends.
    ends: Vec<usize>,
    /// The expiry of each field.
    times: Vec<u64>,
    is_timed: bool,
    /// The score of each member.
    scores: Vec<f64>,
    /// Elements of a list, not of a set.
    is_list: bool,
}

impl Chunk {
    fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
    }

    fn words(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[*start..*end]).collect()
    }

    fn is_full(&self, words_of_part: usize) -> bool {
        self.ends.len() >= SAVED_PARTS_MAX * words_of_part || self.bytes.len() >= SAVED_BYTES_MAX
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.times.clear();
        self.scores.clear();
        self.is_timed = false;
    }
}

/// A value of a module: its type, the version of its encoding, and its first text.
struct StoredModule {
    data_type: &'static dyn DataType,
    version: u16,
    text: Option<Vec<u8>>,
}

impl<'k> PartLoader<'k> {
    pub fn new(key: &'k [u8], types: &'k DataTypes) -> PartLoader<'k> {
        PartLoader {
            key,
            types,
            parts: 0,
            chunk: Chunk::default(),
            stream: StreamLoader::default(),
            module: None,
        }
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// Values of modules that are not here, and errors of `each`.
    pub fn take(&mut self, part: ValuePart<'_>, each: &mut EachEffect<'_>) -> Result<(), RdbError> {
        self.parts += 1;
        match part {
            ValuePart::String(value) => each(&Effect::StringSet { key: self.key, expires_at_ms: 0, value })?,
            ValuePart::Field { name, value, expires_at_ms } => {
                self.chunk.push(name);
                self.chunk.push(value);
                self.chunk.times.push(expires_at_ms);
                self.chunk.is_timed |= expires_at_ms != 0;
                if self.chunk.is_full(2) {
                    self.put_fields(each)?;
                }
            }
            ValuePart::Module { id } => self.module = Some(self.stored_module(id)?),
            ValuePart::ModuleItem(item) => {
                if let (ModuleItem::String(text), Some(module)) = (item, &mut self.module) {
                    module.text.get_or_insert_with(|| text.to_vec());
                }
            }
            ValuePart::Scored { member, score } => {
                self.chunk.push(member);
                self.chunk.scores.push(score);
                if self.chunk.is_full(1) {
                    self.put_scored(each)?;
                }
            }
            ValuePart::Item(word) | ValuePart::Member(word) => {
                self.chunk.push(word);
                self.chunk.is_list = matches!(part, ValuePart::Item(_));
                if self.chunk.is_full(1) {
                    self.put_words(each)?;
                }
            }
            ValuePart::Entry { .. }
            | ValuePart::Stream(_)
            | ValuePart::Group(_)
            | ValuePart::Consumer(_)
            | ValuePart::Pending(_) => {
                self.stream.take(self.key, part, each)?;
            }
        }
        Ok(())
    }

    /// Ends the value.
    ///
    /// # Errors
    /// A module's value that cannot be read, and errors of `each`.
    pub fn finish(mut self, each: &mut EachEffect<'_>) -> Result<LoadedParts, RdbError> {
        match &self.chunk {
            chunk if chunk.ends.is_empty() => {}
            chunk if !chunk.scores.is_empty() => self.put_scored(each)?,
            chunk if !chunk.times.is_empty() => self.put_fields(each)?,
            _ => self.put_words(each)?,
        }
        self.stream.finish(self.key, each)?;
        if let Some(StoredModule { data_type, version, text }) = &self.module {
            let text = text.as_deref().unwrap_or_default();
            let Some(built) = data_type.build_of_rdb(*version, text, self.key, each) else {
                return Err(RdbError::Damaged("a module's value cannot be read"));
            };
            built?;
        }
        Ok(LoadedParts { parts: self.parts })
    }

    /// One HashSet, and a HashExpire per distinct expiry.
    fn put_fields(&mut self, each: &mut EachEffect<'_>) -> io::Result<()> {
        let (key, words) = (self.key, self.chunk.words());
        each(&Effect::HashSet { key, keep_expiry: false, fields: List::Arguments(&words) })?;
        if self.chunk.is_timed {
            let mut expiries = BTreeMap::<u64, Vec<&[u8]>>::new();
            for (name, expires_at_ms) in words.iter().step_by(2).zip(&self.chunk.times) {
                expiries.entry(*expires_at_ms).or_default().push(name);
            }
            for (expires_at_ms, names) in expiries.into_iter().filter(|(at, _)| *at != 0) {
                each(&Effect::HashExpire { key, expires_at_ms, fields: List::Arguments(&names) })?;
            }
        }
        self.chunk.clear();
        Ok(())
    }

    fn put_words(&mut self, each: &mut EachEffect<'_>) -> io::Result<()> {
        let (key, words) = (self.key, self.chunk.words());
        let words = List::Arguments(&words);
        match self.chunk.is_list {
            true => each(&Effect::ListPush { key, end: ListEnd::Back, elements: words })?,
            false => each(&Effect::SetAdd { key, members: words })?,
        }
        self.chunk.clear();
        Ok(())
    }

    fn put_scored(&mut self, each: &mut EachEffect<'_>) -> io::Result<()> {
        let words = self.chunk.words();
        let members = words.iter().zip(&self.chunk.scores);
        let members: Vec<_> = members.map(|(member, score)| ScoredMember { member, score: *score }).collect();
        each(&Effect::SortedSetAdd { key: self.key, members: ScoredList::Pairs(&members) })?;
        self.chunk.clear();
        Ok(())
    }

    fn stored_module(&self, id: u64) -> Result<StoredModule, RdbError> {
        let (name, version) = module_name(id);
        match self.types.of_module(&name) {
            Some(data_type) => Ok(StoredModule { data_type, version, text: None }),
            None => Err(io::Error::other(format!("values of the module type {name} cannot be read")).into()),
        }
    }
}

/// Appends the effects that build a payload's value, and its key's expiry, to `effects`, encoded for this
/// database; they fit a database where the key is absent.
pub fn load_payload(
    payload: &Payload<'_>,
    (database, key, expires_at_ms): (u32, &[u8], u64),
    types: &DataTypes,
    effects: &mut Vec<u8>,
) -> Result<LoadedParts, RdbError> {
    let mut loader = PartLoader::new(key, types);
    let mut each = |effect: &Effect<'_>| {
        match *effect {
            Effect::StringSet { key, value, .. } => Effect::StringSet { key, value, expires_at_ms },
            other => other,
        }
        .encode(database, effects);
        Ok(())
    };
    payload.read(&mut |part| loader.take(part, &mut each))?;
    let loaded = loader.finish(&mut each)?;
    // A string has its expiry in its effect.
    if expires_at_ms != 0
        && engramdb_rdb::ValueKind::of(payload.value_type) != Some(engramdb_rdb::ValueKind::String)
    {
        each(&Effect::Expire { key, expires_at_ms })?;
    }
    Ok(loaded)
}
