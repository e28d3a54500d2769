//! Effects on strings.

use super::{EffectOutcome, Keyspace};
use crate::keyspace::entry::Entry;
use crate::keyspace::value::OwnedValue;
use crate::table::HashedKey;
use crate::types::hyperloglog::{self, RegisterValue};
use crate::types::{Contents, StringValue};

pub(super) fn set(
    keyspace: &mut Keyspace,
    (number, key): (u32, HashedKey<'_>),
    word: &[u8],
    expires_at_ms: u64,
    contents: Option<&Contents>,
) -> EffectOutcome {
    let database = keyspace.database_mut(number);
    let referred = contents.and_then(|contents| contents.of(word));
    match database.update(key, |entry| entry.set_string(word, referred, expires_at_ms)) {
        Some(garbage) => EffectOutcome::replaced(garbage),
        None => {
            database.insert_new(key, Entry::string(key.bytes(), word, referred, expires_at_ms));
            EffectOutcome::count(0)
        }
    }
}

/// Changes the string in place, or uses the prepared copy that was given.
pub(super) fn change(
    keyspace: &mut Keyspace,
    number: u32,
    key: HashedKey<'_>,
    given: Option<Box<OwnedValue>>,
    change: impl FnOnce(&mut StringValue),
) -> EffectOutcome {
    let database = keyspace.database_mut(number);
    if database.get_hashed(key).is_none() {
        database.insert_new(key, Entry::string(key.bytes(), b"", None, 0));
    }
    let changed = database.update(key, |entry| entry.change_string(given, change));
    changed.flatten().map_or_else(EffectOutcome::mismatch, EffectOutcome::replaced)
}

/// Raises registers of a HyperLogLog, given as an index of two bytes and a value each.
pub(super) fn raise_registers(
    keyspace: &mut Keyspace,
    (number, key): (u32, HashedKey<'_>),
    sparse_bytes_max: u64,
    registers: &[u8],
) -> EffectOutcome {
    let (triples, rest) = registers.as_chunks::<3>();
    let value = |[low, high, value]: &[u8; 3]| RegisterValue {
        index: u16::from_le_bytes([*low, *high]),
        value: *value,
    };
    let values = triples.iter().map(value);
    let is_sound = |value: RegisterValue| {
        usize::from(value.index) < hyperloglog::REGISTERS && value.value <= hyperloglog::VALUE_MAX
    };
    if !rest.is_empty() || !values.clone().all(is_sound) {
        return EffectOutcome::mismatch();
    }
    let sparse_bytes_max = usize::try_from(sparse_bytes_max).unwrap_or(usize::MAX);
    let raise = |bytes: &mut Vec<u8>| {
        let is_one = hyperloglog::is_hyperloglog(bytes);
        if is_one { hyperloglog::raise(bytes, values, sparse_bytes_max).ok() } else { None }
    };
    let database = keyspace.database_mut(number);
    if database.get_hashed(key).is_none() {
        let mut bytes = hyperloglog::empty();
        hyperloglog::note_changed(&mut bytes);
        let raised = raise(&mut bytes);
        database.insert_new(key, Entry::string(key.bytes(), &bytes, None, 0));
        return EffectOutcome::of_parts(raised);
    }
    let mut raised = None;
    let changed =
        database.update(key, |entry| entry.change_string(None, |string| raised = string.edit(raise)));
    match changed.flatten().zip(raised) {
        Some((garbage, _)) => EffectOutcome::replaced(garbage),
        None => EffectOutcome::mismatch(),
    }
}
