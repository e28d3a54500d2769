//! `apply`: changes the keyspace by an effect, in execution and replay.
//!
//! An effect that does not fit the keyspace (a field of a string, for example) can only come from a corrupt
//! log or a bug. It changes nothing, its outcome reports a mismatch, and the store stops.

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
use crate::table::HashedKey;

/// The result of an effect.
#[derive(Debug, Default)]
pub struct EffectOutcome {
    /// The number of changed keys, fields or expiries. It depends on the effect: fields created by HashSet,
    /// fields removed by HashDelete, fields changed by HashExpire, otherwise 1 if the key existed.
    pub count: usize,
    /// Values to be dropped after the lock is released.
    pub garbage: Garbage,
    /// The effect did not fit the keyspace.
    pub mismatch: bool,
}

impl EffectOutcome {
    /// An outcome that only has a value to drop.
    pub(crate) fn discarded(value: OwnedValue) -> EffectOutcome {
        EffectOutcome { garbage: Garbage::of(value), ..EffectOutcome::default() }
    }

    fn count(count: usize) -> EffectOutcome {
        EffectOutcome { count, ..EffectOutcome::default() }
    }

    /// The outcome for one existing key, with the rest of its old value.
    fn replaced(garbage: Garbage) -> EffectOutcome {
        EffectOutcome { count: 1, garbage, mismatch: false }
    }

    /// The outcome of a change of a value's parts, with its count; `None` is a mismatch.
    fn of_parts(count: Option<usize>) -> EffectOutcome {
        count.map_or_else(EffectOutcome::mismatch, EffectOutcome::count)
    }

    fn mismatch() -> EffectOutcome {
        EffectOutcome { mismatch: true, ..EffectOutcome::default() }
    }
}

/// `key` is that of the effect.
pub(super) fn apply(
    keyspace: &mut Keyspace,
    record: &Record<'_>,
    key: Option<HashedKey<'_>>,
    given: Given<'_>,
) -> EffectOutcome {
    let number = record.database;
    let Some(key) = key else { return apply_to_databases(keyspace, record) };
    let Given { copy: given, contents, object, origin } = given;
    match record.effect {
        Effect::Delete { .. } => keys::delete(keyspace, number, key),
        Effect::Expire { expires_at_ms, .. } => keys::expire(keyspace, number, key, expires_at_ms),
        Effect::Rename { to, .. } => keys::rename(keyspace, (number, key), (number, HashedKey::new(to))),
        Effect::Move { to_database, .. } => keys::rename(keyspace, (number, key), (to_database, key)),
        Effect::Copy { to, to_database, .. } => {
            keys::copy(keyspace, (number, key), (to_database, HashedKey::new(to)), given)
        }
        Effect::StringSet { value, expires_at_ms, .. } => {
            strings::set(keyspace, (number, key), value, expires_at_ms, contents)
        }
        Effect::StringAppend { suffix, .. } => {
            strings::change(keyspace, number, key, given, |string| string.append(suffix))
        }
        Effect::StringWrite { offset, content, .. } => {
            strings::change(keyspace, number, key, given, |string| string.write(offset as usize, content))
        }
        Effect::HyperLogLogRaise { sparse_bytes_max, registers, .. } => {
            strings::raise_registers(keyspace, (number, key), sparse_bytes_max, registers)
        }
        Effect::HashSet { fields, keep_expiry, .. } => {
            hashes::set(keyspace, (number, key), fields, keep_expiry, contents)
        }
        Effect::HashDelete { fields, .. } => hashes::delete(keyspace, number, key, fields),
        Effect::HashExpire { fields, expires_at_ms, .. } => {
            hashes::expire(keyspace, (number, key), fields, expires_at_ms)
        }
        // All other effects with a key change values of registered types.
        effect => match object {
            Some(object) => objects::put(keyspace, (number, key), &effect, object),
            None => objects::change(keyspace, (number, key), &effect, origin),
        },
    }
}

fn apply_to_databases(keyspace: &mut Keyspace, record: &Record<'_>) -> EffectOutcome {
    match record.effect {
        Effect::Flush => databases::flush(keyspace, record.database),
        Effect::FlushAll => databases::flush_all(keyspace),
        Effect::SwapDatabases { first, second } => databases::swap(keyspace, first, second),
        // The modules' own state is not in the keyspace; see `module.rs`.
        Effect::Module { key: None, .. } => EffectOutcome::default(),
        _ => EffectOutcome::mismatch(),
    }
}
