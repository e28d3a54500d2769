//! `apply`: what each effect does, for execution and replay alike.
//!
//! An effect that does not fit the keyspace (a field of a string, say) can only come from a corrupt log or a
//! bug; it changes nothing and says so in its outcome, and the store stops on it.

mod databases;
mod hashes;
mod keys;
mod objects;
mod strings;

pub(super) use hashes::load as hash_load;

use super::garbage::Garbage;
use super::value::OwnedValue;
use super::{Given, Keyspace};
use crate::effect::{Effect, Record};

/// What an effect did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many keys, fields or expiries were added, removed or set, by the effect's meaning: fields created
    /// by HashSet, fields removed by HashDelete, fields touched by HashExpire, 1 where a key was there
    /// otherwise.
    pub count: usize,
    /// Values to be dropped after the lock is released.
    pub garbage: Garbage,
    /// The effect did not fit the keyspace.
    pub mismatch: bool,
}

impl Outcome {
    /// Nothing but a value to be dropped.
    pub(crate) fn discarded(value: OwnedValue) -> Outcome {
        Outcome { garbage: Garbage::of(value), ..Outcome::default() }
    }

    fn count(count: usize) -> Outcome {
        Outcome { count, ..Outcome::default() }
    }

    /// One key that was there, and what is left of what it was.
    fn replaced(garbage: Garbage) -> Outcome {
        Outcome { count: 1, garbage, mismatch: false }
    }

    /// What a change of a value's parts counted; `None` where it does not fit the value.
    fn of_parts(count: Option<usize>) -> Outcome {
        count.map_or_else(Outcome::mismatch, Outcome::count)
    }

    fn mismatch() -> Outcome {
        Outcome { mismatch: true, ..Outcome::default() }
    }
}

pub(super) fn apply(keyspace: &mut Keyspace, record: &Record<'_>, given: Given<'_>) -> Outcome {
    let number = record.database;
    let Given { copy: given, contents } = given;
    match record.effect {
        Effect::Delete { key, .. } => keys::delete(keyspace, number, key),
        Effect::Expire { key, expires_at_ms } => keys::expire(keyspace, number, key, expires_at_ms),
        Effect::Rename { key, to } => keys::rename(keyspace, (number, key), (number, to)),
        Effect::Move { key, to_database } => keys::rename(keyspace, (number, key), (to_database, key)),
        Effect::Copy { key, to, to_database } => {
            keys::copy(keyspace, (number, key), (to_database, to), given)
        }
        Effect::StringSet { key, value, expires_at_ms } => {
            strings::set(keyspace, (number, key), value, expires_at_ms, contents)
        }
        Effect::StringAppend { key, suffix } => {
            strings::change(keyspace, number, key, given, |string| string.append(suffix))
        }
        Effect::StringWrite { key, offset, content } => {
            strings::change(keyspace, number, key, given, |string| string.write(offset as usize, content))
        }
        Effect::HashSet { key, fields, keep_expiry } => {
            hashes::set(keyspace, (number, key), fields, keep_expiry, contents)
        }
        Effect::HashDelete { key, fields, .. } => hashes::delete(keyspace, number, key, fields),
        Effect::HashExpire { key, fields, expires_at_ms } => {
            hashes::expire(keyspace, (number, key), fields, expires_at_ms)
        }
        Effect::Flush => databases::flush(keyspace, number),
        Effect::FlushAll => databases::flush_all(keyspace),
        Effect::SwapDatabases { first, second } => databases::swap(keyspace, first, second),
        // What modules keep for themselves is not of the keyspace; see `module.rs`.
        Effect::Module { key: None, .. } => Outcome::default(),
        // All others are about values of the registered types.
        effect => match effect.key() {
            Some(key) => objects::change(keyspace, (number, key), &effect, contents),
            None => Outcome::mismatch(),
        },
    }
}
