//! Suggestions as a data type of the keyspace, and its effects:
//!
//! ```text
//! kind 16, set:    u32 count, then each:
//!   text: bytes | score u32 (bits of a float) | has a payload u8 | payload: bytes
//! kind 17, remove: the text
//! ```

use super::trie::{Suggestion, Trie};
use crate::effects::{KIND_SUGGEST, KIND_UNSUGGEST, NUMBER, SUGGESTIONS_VERSION};
use crate::schema::bytes::{Reader, Writer};
use engramdb_engine::effect::Effect;
use engramdb_engine::keyspace::{DataType, EachEffect, SAVED_BYTES_MAX, SAVED_PARTS_MAX, TypedValue};
use engramdb_engine::types::Contents;
use std::fmt;
use std::io;

/// The data type, which TYPE calls as RediSearch's.
pub struct SuggestionType;

impl DataType for SuggestionType {
    fn name(&self) -> &'static str {
        "trietype0"
    }

    fn module(&self) -> u8 {
        NUMBER
    }

    fn blank(&self) -> Box<dyn TypedValue> {
        Box::<Suggestions>::default()
    }
}

/// A value: suggestions with scores.
#[derive(Default)]
pub struct Suggestions(pub Trie);

impl fmt::Debug for Suggestions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        self.0.each_from(0, &mut |suggestion| {
            list.entry(suggestion);
            true
        });
        list.finish()
    }
}

impl TypedValue for Suggestions {
    fn data_type(&self) -> &'static dyn DataType {
        &SuggestionType
    }

    fn encoding(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    fn apply(&mut self, effect: &Effect<'_>, _: Option<&Contents>) -> Option<usize> {
        match *effect {
            Effect::Module { version: SUGGESTIONS_VERSION, kind: KIND_SUGGEST, payload, .. } => {
                let suggestions = decode(payload)?;
                Some(suggestions.into_iter().filter(|suggestion| self.0.set(suggestion.clone())).count())
            }
            Effect::Module { version: SUGGESTIONS_VERSION, kind: KIND_UNSUGGEST, payload, .. } => {
                Some(usize::from(self.0.remove(payload)))
            }
            _ => None,
        }
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        let (mut count, mut out) = (0, Writer(vec![0; 4]));
        self.0.each_from(cursor as usize, &mut |suggestion| {
            put(&mut out, suggestion);
            count += 1;
            count < SAVED_PARTS_MAX && out.0.len() < SAVED_BYTES_MAX
        });
        if count > 0 {
            out.0[..4].copy_from_slice(&(count as u32).to_le_bytes());
            each(&effect_on(key, KIND_SUGGEST, &out.0))?;
        }
        let next = cursor as usize + count;
        Ok(if next < self.len() { next as u64 } else { 0 })
    }
}

/// An effect on the suggestions of a key.
pub fn effect_on<'a>(key: &'a [u8], kind: u8, payload: &'a [u8]) -> Effect<'a> {
    Effect::Module { module: NUMBER, version: SUGGESTIONS_VERSION, kind, key: Some(key), payload }
}

/// The payload that sets one suggestion.
pub fn encode(suggestion: &Suggestion) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.u32(1);
    put(&mut out, suggestion);
    out.0
}

fn put(out: &mut Writer, suggestion: &Suggestion) {
    out.bytes(&suggestion.text);
    out.u32(suggestion.score.to_bits());
    out.flags(&[suggestion.payload.is_some()]);
    out.bytes(suggestion.payload.as_deref().unwrap_or_default());
}

fn decode(payload: &[u8]) -> Option<Vec<Suggestion>> {
    let mut reader = Reader(payload);
    let count = reader.u32()?;
    let mut read = |_| {
        // There is one zero.
        let (text, score) = (reader.bytes()?.into(), f32::from_bits(reader.u32()?) + 0.0);
        let has_payload = reader.flags()?[0];
        let payload = Some(reader.bytes()?.into()).filter(|_| has_payload);
        (!score.is_nan()).then_some(Suggestion { text, score, payload })
    };
    let suggestions = (0..count).map(&mut read).collect::<Option<Vec<_>>>()?;
    reader.0.is_empty().then_some(suggestions)
}
