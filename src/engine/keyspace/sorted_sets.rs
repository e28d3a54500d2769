//! Sorted sets: small ones lie with their keys (`types/sorted_set/packed.rs` draws their bytes), the others
//! are a [`SortedSet`].

use super::digest;
use super::encoding::EncodingLimits;
use super::typed::{
    DataType, EachEffect, EffectOrigin, PackedValues, SAVED_BYTES_MAX, SAVED_PARTS_MAX, SmallChange,
    TypedValue,
};
use super::value::ValueRef;
use crate::effect::{Effect, ScoredList};
use crate::types::sorted_set::{remove_packed, remove_packed_range, set_packed};
use crate::types::{ScoreChange, ScoredMember, SortedSet, SortedSetRef};
use std::io;
use std::ops::Range;

/// The number of small sorted sets among the types that pack theirs.
const NUMBER: u8 = 2;

/// The data type of sorted sets.
pub(super) struct SortedSets;

/// How small sorted sets lie with their keys.
pub(super) struct SmallSortedSets;

/// The sorted set, if the value is one.
#[inline]
pub fn sorted_set_of(value: ValueRef<'_>) -> Option<SortedSetRef<'_>> {
    match value {
        ValueRef::Small(small) => small.of_type(NUMBER).map(SortedSetRef::packed),
        ValueRef::Object(object) => object.downcast_ref().map(SortedSet::read),
        ValueRef::String(_) | ValueRef::Hash(_) => None,
    }
}

impl DataType for SortedSets {
    fn name(&self) -> &'static str {
        "zset"
    }

    fn module(&self) -> u8 {
        0
    }

    fn takes(&self, effect: &Effect<'_>) -> bool {
        matches!(
            effect,
            Effect::SortedSetAdd { .. }
                | Effect::SortedSetRemove { .. }
                | Effect::SortedSetRemoveRange { .. }
        )
    }

    fn blank(&self) -> Box<dyn TypedValue> {
        Box::new(SortedSet::new())
    }

    fn small(&self) -> Option<&'static dyn PackedValues> {
        Some(&SmallSortedSets)
    }
}

impl PackedValues for SmallSortedSets {
    fn data_type(&self) -> &'static dyn DataType {
        &SortedSets
    }

    fn number(&self) -> u8 {
        NUMBER
    }

    fn len(&self, bytes: &[u8]) -> usize {
        SortedSetRef::packed(bytes).len()
    }

    fn encoding(&self, bytes: &[u8], limits: &EncodingLimits) -> &'static str {
        encoding(SortedSetRef::packed(bytes), limits)
    }

    /// Where the set outgrows its form, some members have been added to these bytes, which are then dropped.
    fn apply(&self, bytes: &mut Vec<u8>, effect: &Effect<'_>) -> SmallChange {
        match *effect {
            Effect::SortedSetAdd { members, .. } => {
                let mut added = 0;
                for ScoredMember { score, member } in members.iter() {
                    match set_packed(bytes, member, score) {
                        Some(change) => added += usize::from(change == ScoreChange::Added),
                        None => return SmallChange::Outgrown,
                    }
                }
                SmallChange::Done(added)
            }
            Effect::SortedSetRemove { members, .. } => {
                SmallChange::Done(members.iter().filter(|member| remove_packed(bytes, member)).count())
            }
            Effect::SortedSetRemoveRange { first, count, .. } => {
                let Some(ranks) = ranks(first, count, SortedSetRef::packed(bytes)) else {
                    return SmallChange::Misfit;
                };
                remove_packed_range(bytes, ranks);
                SmallChange::Done(count as usize)
            }
            _ => SmallChange::Misfit,
        }
    }

    fn unpack(&self, bytes: &[u8]) -> Box<dyn TypedValue> {
        Box::new(SortedSet::of_packed(bytes))
    }
}

/// By `zset-max-listpack-entries` and `-value`.
fn encoding(set: SortedSetRef<'_>, limits: &EncodingLimits) -> &'static str {
    let is_compact = set.is_within(limits.sorted_set_entries, limits.sorted_set_value);
    if is_compact { "listpack" } else { "skiplist" }
}

/// The ranks of an effect; `None` if the set does not have all of them.
fn ranks(first: u64, count: u64, set: SortedSetRef<'_>) -> Option<Range<usize>> {
    let end = first.checked_add(count).filter(|end| *end <= set.len() as u64)?;
    Some(first as usize..end as usize)
}

impl TypedValue for SortedSet {
    fn data_type(&self) -> &'static dyn DataType {
        &SortedSets
    }

    fn encoding(&self, limits: &EncodingLimits) -> &'static str {
        encoding(self.read(), limits)
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes()
    }

    fn apply(&mut self, effect: &Effect<'_>, _: EffectOrigin) -> Option<usize> {
        match *effect {
            Effect::SortedSetAdd { members, .. } => {
                let added =
                    |entry: &ScoredMember<'_>| self.set(entry.member, entry.score) == ScoreChange::Added;
                Some(members.iter().filter(added).count())
            }
            Effect::SortedSetRemove { members, .. } => {
                Some(members.iter().filter(|member| self.remove(member)).count())
            }
            Effect::SortedSetRemoveRange { first, count, .. } => {
                self.remove_range(ranks(first, count, self.read())?);
                Some(count as usize)
            }
            _ => None,
        }
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        let start = cursor as usize;
        let (mut members, mut bytes) = (Vec::new(), 0);
        for entry in self.read().range(start..start.saturating_add(SAVED_PARTS_MAX)) {
            bytes += entry.member.len();
            members.push(entry);
            if bytes >= SAVED_BYTES_MAX {
                break;
            }
        }
        if members.is_empty() {
            return Ok(0);
        }
        each(&Effect::SortedSetAdd { key, members: ScoredList::Pairs(&members) })?;
        let next = start + members.len();
        Ok(if next < self.len() { next as u64 } else { 0 })
    }

    fn digest(&self) -> u64 {
        let seed = digest::mix(3, b"zset");
        // Which zero a score is does not count, as it does not in comparisons.
        self.read()
            .iter()
            .fold(seed, |sum, entry| digest::mix(sum ^ (entry.score + 0.0).to_bits(), entry.member))
    }
}
