//! Effects on strings.

use super::{EffectOutcome, Keyspace};
use crate::keyspace::entry::Entry;
use crate::keyspace::value::OwnedValue;
use crate::table::HashedKey;
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
