//! The module's own effects: their numbers, which are part of the format. What their payloads are is said
//! where they are made: `schema`, `schema/change.rs`, `suggest/value.rs`.

use crate::schema;
use engramdb_engine::effect::Effect;

/// The module's number in effects.
pub const NUMBER: u8 = 1;

// Kinds of effects without a key.

pub const KIND_CREATE: u8 = 1;
pub const KIND_DROP: u8 = 2;
/// Gives an alias to an index, whatever had it before; without an index, removes the alias.
pub const KIND_ALIAS: u8 = 3;
/// Adds fields to an index.
pub const KIND_ALTER: u8 = 4;
/// Adds terms to a group of synonyms of an index.
pub const KIND_SYNONYMS: u8 = 5;
/// Adds terms to a dictionary, or removes them.
pub const KIND_DICTIONARY: u8 = 6;

// Kinds of effects on the suggestions of a key.

pub const KIND_SUGGEST: u8 = 16;
pub const KIND_UNSUGGEST: u8 = 17;
/// The version of these.
pub const SUGGESTIONS_VERSION: u8 = 1;

/// An effect on the module's own state.
pub fn effect_of(kind: u8, payload: &[u8]) -> Effect<'_> {
    Effect::Module { module: NUMBER, version: schema::VERSION, kind, key: None, payload }
}
