//! Effects on values of other types than strings and hashes.

use super::{EffectOutcome, Keyspace};
use crate::effect::Effect;
use crate::keyspace::entry::Entry;
use crate::keyspace::typed::{EffectOrigin, TypedValue};
use crate::keyspace::value::OwnedValue;
use crate::table::HashedKey;

pub(super) fn change(
    keyspace: &mut Keyspace,
    (number, key): (u32, HashedKey<'_>),
    effect: &Effect<'_>,
    origin: EffectOrigin,
) -> EffectOutcome {
    let Some(data_type) = keyspace.types.of_effect(effect) else { return EffectOutcome::mismatch() };
    let database = keyspace.database_mut(number);
    if let Some(changed) = database.update(key, |entry| entry.change_object(data_type, effect, origin)) {
        return EffectOutcome::of_parts(changed);
    }
    let Some((entry, count)) = Entry::made_by(key.bytes(), data_type, effect, origin) else {
        return EffectOutcome::mismatch();
    };
    if !entry.value().is_empty() {
        database.insert_new(key, entry);
    }
    EffectOutcome::of_parts(Some(count))
}

/// Puts an object, which is what an effect makes of the value at the key, in its place.
pub(super) fn put(
    keyspace: &mut Keyspace,
    (number, key): (u32, HashedKey<'_>),
    effect: &Effect<'_>,
    object: Box<dyn TypedValue>,
) -> EffectOutcome {
    let Some(data_type) = keyspace.types.of_effect(effect) else { return EffectOutcome::mismatch() };
    debug_assert_eq!(object.data_type().name(), data_type.name(), "it is what the effect makes");
    let database = keyspace.database_mut(number);
    let mut object = Some(object);
    let replaced = database.update(key, |entry| entry.replace_object(data_type, &mut object));
    if let Some(replaced) = replaced {
        return replaced.map_or_else(EffectOutcome::mismatch, EffectOutcome::replaced);
    }
    let object = object.expect("there was no key to put it at");
    database.insert_new(key, Entry::of(key.bytes(), OwnedValue::Object(object), 0));
    EffectOutcome::count(0)
}
