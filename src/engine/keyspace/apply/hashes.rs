//! Effects on hashes.

use super::{EffectOutcome, Keyspace};
use crate::effect::List;
use crate::keyspace::entry::Entry;
use crate::keyspace::value::OwnedValue;
use crate::table::HashedKey;
use crate::types::{Contents, Hash, Housed};

pub(super) fn set(
    keyspace: &mut Keyspace,
    (number, key): (u32, HashedKey<'_>),
    fields: List<'_>,
    keep_expiry: bool,
    contents: Option<&Contents>,
) -> EffectOutcome {
    let database = keyspace.database_mut(number);
    let set = |entry: &mut Entry| entry.set_fields(fields, keep_expiry, contents);
    if let Some(count) = database.update(key, set) {
        return EffectOutcome::of_parts(count);
    }
    let mut entry = Entry::empty_hash(key.bytes());
    let count = set(&mut entry);
    database.insert_new(key, entry);
    EffectOutcome::of_parts(count)
}

pub(super) fn delete(
    keyspace: &mut Keyspace,
    number: u32,
    key: HashedKey<'_>,
    names: List<'_>,
) -> EffectOutcome {
    let removed = keyspace.database_mut(number).update(key, |entry| entry.remove_fields(names));
    EffectOutcome::of_parts(removed.unwrap_or(Some(0)))
}

pub(super) fn expire(
    keyspace: &mut Keyspace,
    (number, key): (u32, HashedKey<'_>),
    names: List<'_>,
    expires_at_ms: u64,
) -> EffectOutcome {
    let database = keyspace.database_mut(number);
    let set = database.update(key, |entry| entry.expire_fields(names, expires_at_ms));
    EffectOutcome::of_parts(set.unwrap_or(Some(0)))
}

/// A HashSet of a snapshot with housed contents: each with the number of its pair, in order.
pub(in crate::keyspace) fn load(
    keyspace: &mut Keyspace,
    (number, key): (u32, HashedKey<'_>),
    fields: List<'_>,
    housed: &mut dyn Iterator<Item = (usize, Housed)>,
) -> EffectOutcome {
    let mut housed = housed.peekable();
    let database = keyspace.database_mut(number);
    if housed.peek().is_none() || database.get_hashed(key).is_some() {
        return set(keyspace, (number, key), fields, false, None);
    }
    let mut hash = Hash::new();
    for (at, (name, value)) in fields.pairs().enumerate() {
        match housed.next_if(|(pair, _)| *pair == at) {
            Some((_, content)) if hash.get(name).is_none() => hash.set_housed(name, content),
            _ => _ = hash.set(name, value, false),
        }
    }
    let count = hash.len();
    database.insert_new(key, Entry::of(key.bytes(), OwnedValue::Hash(Box::new(hash)), 0));
    EffectOutcome::count(count)
}
