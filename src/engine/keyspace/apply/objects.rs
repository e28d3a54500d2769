//! Effects on values of other types than strings and hashes.

use super::{EffectOutcome, Keyspace};
use crate::effect::Effect;
use crate::keyspace::entry::Entry;
use crate::keyspace::value::OwnedValue;
use crate::table::HashedKey;
use crate::types::Contents;

pub(super) fn change(
    keyspace: &mut Keyspace,
    (number, key): (u32, HashedKey<'_>),
    effect: &Effect<'_>,
    contents: Option<&Contents>,
) -> EffectOutcome {
    let Some(data_type) = keyspace.types.of_effect(effect) else { return EffectOutcome::mismatch() };
    let database = keyspace.database_mut(number);
    let change = |entry: &mut Entry| entry.change_object(data_type, |object| object.apply(effect, contents));
    if let Some(changed) = database.update(key, change) {
        return EffectOutcome::of_parts(changed.flatten());
    }
    let mut object = data_type.blank();
    debug_assert_eq!(object.data_type().name(), data_type.name(), "a type makes its own values");
    let count = object.apply(effect, contents);
    if !object.is_empty() {
        database.insert_new(key, Entry::of(key.bytes(), OwnedValue::Object(object), 0));
    }
    EffectOutcome::of_parts(count)
}
