//! Sets: small ones lie with their keys (`types/set_value.rs` draws their bytes), the others are a
//! [`SetValue`].

use super::digest;
use super::encoding::EncodingLimits;
use super::typed::{
    DataType, EachEffect, EffectOrigin, PackedValues, SAVED_BYTES_MAX, SAVED_PARTS_MAX, SmallChange,
    TypedValue,
};
use super::value::ValueRef;
use crate::effect::{Effect, List};
use crate::types::set_value::{add_small, remove_small};
use crate::types::{RowElement, SetRef, SetValue, SmallSet};
use std::fmt;
use std::io;

/// The number of small sets among the types that pack theirs.
const NUMBER: u8 = 1;

/// The data type of sets.
pub(super) struct SetType;

/// How small sets lie with their keys.
pub(super) struct SmallSets;

impl DataType for SetType {
    fn name(&self) -> &'static str {
        "set"
    }

    fn module(&self) -> u8 {
        0
    }

    fn takes(&self, effect: &Effect<'_>) -> bool {
        matches!(effect, Effect::SetAdd { .. } | Effect::SetRemove { .. })
    }

    fn blank(&self) -> Box<dyn TypedValue> {
        Box::<SetValue>::default()
    }

    fn small(&self) -> Option<&'static dyn PackedValues> {
        Some(&SmallSets)
    }
}

/// The set, if the value is one.
#[inline]
pub fn set_of(value: ValueRef<'_>) -> Option<SetRef<'_>> {
    match value {
        ValueRef::Small(small) => small.of_type(NUMBER).map(|bytes| SetRef::Small(SmallSet::new(bytes))),
        ValueRef::Object(object) => object.downcast_ref().map(SetRef::Full),
        ValueRef::String(_) | ValueRef::Hash(_) => None,
    }
}

impl PackedValues for SmallSets {
    fn data_type(&self) -> &'static dyn DataType {
        &SetType
    }

    fn number(&self) -> u8 {
        NUMBER
    }

    fn len(&self, bytes: &[u8]) -> usize {
        SmallSet::new(bytes).len()
    }

    fn encoding(&self, bytes: &[u8], limits: &EncodingLimits) -> &'static str {
        encoding(SetRef::Small(SmallSet::new(bytes)), limits)
    }

    /// Where the set outgrows its form, some members have been added to these bytes, which are then dropped.
    fn apply(&self, bytes: &mut Vec<u8>, effect: &Effect<'_>) -> SmallChange {
        match *effect {
            Effect::SetAdd { members, .. } if !members.is_empty() => {
                let mut count = 0;
                for member in members.iter() {
                    match add_small(bytes, member) {
                        Some(is_new) => count += usize::from(is_new),
                        None => return SmallChange::Outgrown,
                    }
                }
                SmallChange::Done(count)
            }
            Effect::SetRemove { members, .. } => {
                SmallChange::Done(members.iter().filter(|member| remove_small(bytes, member)).count())
            }
            _ => SmallChange::Misfit,
        }
    }

    fn unpack(&self, bytes: &[u8]) -> Box<dyn TypedValue> {
        let members = SetRef::Small(SmallSet::new(bytes)).iter();
        Box::new(SetValue::of(members.map(RowElement::to_vec)))
    }
}

/// By `set-max-intset-entries`, `set-max-listpack-entries` and `-value`.
fn encoding(set: SetRef<'_>, limits: &EncodingLimits) -> &'static str {
    let length = set.len() as u64;
    let is_short = |element: RowElement<'_>| element.text_bytes() as u64 <= limits.set_value;
    if length <= limits.set_intset_entries && set.is_integers() {
        "intset"
    } else if length <= limits.set_entries && set.iter().all(is_short) {
        "listpack"
    } else {
        "hashtable"
    }
}

impl TypedValue for SetValue {
    fn data_type(&self) -> &'static dyn DataType {
        &SetType
    }

    fn encoding(&self, limits: &EncodingLimits) -> &'static str {
        encoding(SetRef::Full(self), limits)
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes()
    }

    fn apply(&mut self, effect: &Effect<'_>, _: EffectOrigin) -> Option<usize> {
        match *effect {
            Effect::SetAdd { members, .. } if !members.is_empty() => {
                Some(members.iter().filter(|member| self.add(member)).count())
            }
            Effect::SetRemove { members, .. } => {
                Some(members.iter().filter(|member| self.remove(member)).count())
            }
            _ => None,
        }
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        let mut saved = Ok(());
        let next = self.scan(cursor, SAVED_PARTS_MAX, &mut |member| {
            bytes += member.len();
            chunk.push(member);
            if saved.is_ok() && (chunk.len() == SAVED_PARTS_MAX || bytes >= SAVED_BYTES_MAX) {
                saved = each(&Effect::SetAdd { key, members: List::Arguments(&chunk) });
                chunk.clear();
                bytes = 0;
            }
        });
        saved?;
        if !chunk.is_empty() {
            each(&Effect::SetAdd { key, members: List::Arguments(&chunk) })?;
        }
        Ok(next)
    }

    /// Part of the format of snapshots: a sum over the members, because their order depends on the process.
    fn digest(&self) -> u64 {
        let start = digest::mix(4, SetType.name().as_bytes());
        self.iter().fold(start, |sum, member| sum.wrapping_add(digest::mix(start, member)))
    }

    fn copy(&self) -> Box<dyn TypedValue> {
        Box::new(self.clone())
    }
}

impl fmt::Debug for SetValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members: Vec<String> = self.iter().map(|member| member.escape_ascii().to_string()).collect();
        members.sort_unstable();
        f.debug_set().entries(members).finish()
    }
}
