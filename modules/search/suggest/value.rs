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
use engramdb_engine::keyspace::{
    DataType, EachEffect, EffectOrigin, EncodingLimits, SAVED_BYTES_MAX, SAVED_PARTS_MAX, TypedValue,
};
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

    fn encoding(&self, _: &EncodingLimits) -> &'static str {
        "raw"
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    fn apply(&mut self, effect: &Effect<'_>, _: EffectOrigin) -> Option<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use engramdb_engine::keyspace::TypedValue;

    /// A line has an effect's kind, the payload in hexadecimal, and the value after it. Never changed.
    const VERSION_1: &str = include_str!("../../../tests/formats/suggestions/v1.txt");

    #[test]
    fn effects_of_version_1_stay_readable() {
        let mut value = Suggestions::default();
        let mut kinds = 0u32;
        for line in VERSION_1.lines() {
            let mut parts = line.splitn(3, ' ');
            let [kind, payload, shown] = [(); 3].map(|()| parts.next().expect("three parts"));
            let kind: u8 = kind.parse().expect("a number");
            let byte = |at: usize| u8::from_str_radix(&payload[at..at + 2], 16).expect("hexadecimal");
            let payload: Vec<u8> = (0..payload.len()).step_by(2).map(byte).collect();
            let effect = Effect::Module { module: 1, version: 1, kind, key: Some(b"key"), payload: &payload };
            value.apply(&effect, EffectOrigin::Stored).unwrap_or_else(|| panic!("it is refused: {line}"));
            let mut all = Vec::new();
            value.0.each_from(0, &mut |suggestion| {
                let payload = suggestion.payload.as_deref().map(|payload| payload.escape_ascii().to_string());
                all.push(format!("{}={} {payload:?}", suggestion.text.escape_ascii(), suggestion.score));
                true
            });
            assert_eq!(all.join(", "), shown, "{line}");
            kinds |= 1 << (kind - KIND_SUGGEST);
        }
        assert_eq!(kinds, 0b11, "each kind has an example");
        // The last line is what a snapshot has of the value.
        let mut saved = String::new();
        let next = value.save(b"key", 0, &mut |effect| {
            let Effect::Module { version: 1, kind: KIND_SUGGEST, payload, .. } = effect else {
                panic!("{effect:?}")
            };
            saved = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(())
        });
        assert!(next.is_ok_and(|next| next == 0));
        let last = VERSION_1.lines().last().and_then(|line| line.split(' ').nth(1));
        assert_eq!(Some(&*saved), last);
    }
}
