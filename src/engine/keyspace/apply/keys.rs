//! Effects on keys of any type.

use super::{EffectOutcome, Keyspace};
use crate::keyspace::entry::Entry;
use crate::keyspace::value::OwnedValue;
use crate::table::HashedKey;

pub(super) fn delete(keyspace: &mut Keyspace, number: u32, key: HashedKey<'_>) -> EffectOutcome {
    let removed = keyspace.database_mut(number).remove(key);
    let count = usize::from(removed.is_some());
    EffectOutcome { count, garbage: removed.map(Entry::into_garbage).unwrap_or_default(), mismatch: false }
}

pub(super) fn expire(
    keyspace: &mut Keyspace,
    number: u32,
    key: HashedKey<'_>,
    expires_at_ms: u64,
) -> EffectOutcome {
    let database = keyspace.database_mut(number);
    let found = database.update(key, |entry| entry.set_expires_at_ms(expires_at_ms));
    EffectOutcome::count(usize::from(found.is_some()))
}

/// Rename and Move: moves the value from one key to the other.
pub(super) fn rename(
    keyspace: &mut Keyspace,
    from: (u32, HashedKey<'_>),
    to: (u32, HashedKey<'_>),
) -> EffectOutcome {
    let Some(entry) = keyspace.database_mut(from.0).remove(from.1) else { return EffectOutcome::mismatch() };
    EffectOutcome::replaced(keyspace.database_mut(to.0).put(to.1, entry.renamed(to.1.bytes())))
}

pub(super) fn copy(
    keyspace: &mut Keyspace,
    from: (u32, HashedKey<'_>),
    to: (u32, HashedKey<'_>),
    given: Option<Box<OwnedValue>>,
) -> EffectOutcome {
    let Some(entry) = keyspace.entry_hashed(from.0, from.1) else { return EffectOutcome::mismatch() };
    let copy = match given {
        Some(value) => {
            debug_assert!(value.read() == entry.value(), "the copy is of the present value");
            Entry::of(to.1.bytes(), *value, entry.expires_at_ms())
        }
        None => entry.copy(to.1.bytes()),
    };
    EffectOutcome::replaced(keyspace.database_mut(to.0).put(to.1, copy))
}
