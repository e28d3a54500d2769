//! Sorted sets as values of the keyspace.

use super::digest;
use super::encoding::EncodingLimits;
use super::typed::{DataType, EachEffect, EffectOrigin, SAVED_BYTES_MAX, SAVED_PARTS_MAX, TypedValue};
use crate::effect::{Effect, ScoredList};
use crate::types::{ScoreChange, ScoredMember, SortedSet};
use std::io;

pub(super) struct SortedSets;

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
}

impl TypedValue for SortedSet {
    fn data_type(&self) -> &'static dyn DataType {
        &SortedSets
    }

    fn encoding(&self, limits: &EncodingLimits) -> &'static str {
        let is_short = |entry: ScoredMember<'_>| entry.member.len() as u64 <= limits.sorted_set_value;
        let is_compact = self.len() as u64 <= limits.sorted_set_entries && self.iter().all(is_short);
        if is_compact { "listpack" } else { "skiplist" }
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
                let end = first.checked_add(count).filter(|end| *end <= self.len() as u64)?;
                self.remove_range(first as usize..end as usize);
                Some(count as usize)
            }
            _ => None,
        }
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        let start = cursor as usize;
        let (mut members, mut bytes) = (Vec::new(), 0);
        for entry in self.range(start..start.saturating_add(SAVED_PARTS_MAX)) {
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
        self.iter().fold(seed, |sum, entry| digest::mix(sum ^ (entry.score + 0.0).to_bits(), entry.member))
    }
}
