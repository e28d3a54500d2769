//! Sorted sets: members with scores, in the order of (score, member).
//!
//! A small one is one run of bytes ([`packed`]). A large one ([`large`]) has three structures that refer to
//! members by the number of a slot: the slots themselves (member and score), a hash table of the numbers, and
//! a tree of the numbers in order, which counts the entries below each node. So a score is found in constant
//! time, and a rank, an insert or a range in O(log n).
//!
//! Invariants:
//! - no score is NaN;
//! - members of equal score are in the order of their bytes.

mod large;
mod order;
mod packed;
mod slots;

pub use large::LargeSortedSet;
pub use packed::{PackedSortedSet, remove_packed, remove_packed_range, set_packed};

use std::ops::Range;

/// A member with its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredMember<'a> {
    pub score: f64,
    pub member: &'a [u8],
}

/// What setting a score has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreChange {
    Added,
    Updated,
    /// The member had this score.
    None,
}

/// A sorted set in memory of its own.
#[derive(Clone, Debug)]
pub struct SortedSet(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Packed(Vec<u8>),
    Large(Box<LargeSortedSet>),
}

/// Reads a sorted set of either form.
#[derive(Clone, Copy, Debug)]
pub enum SortedSetRef<'a> {
    Packed(PackedSortedSet<'a>),
    Large(&'a LargeSortedSet),
}

/// A large set with at most this many members becomes a packed one, if all members fit.
const SHRUNK_MEMBERS_MAX: usize = 32;

impl<'a> SortedSetRef<'a> {
    /// A set that is packed in these bytes.
    #[inline]
    pub fn packed(bytes: &'a [u8]) -> SortedSetRef<'a> {
        SortedSetRef::Packed(PackedSortedSet::new(bytes))
    }

    pub fn len(self) -> usize {
        match self {
            SortedSetRef::Packed(set) => set.len(),
            SortedSetRef::Large(set) => set.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            SortedSetRef::Packed(set) => set.score(member),
            SortedSetRef::Large(set) => set.score(member),
        }
    }

    /// The number of members before this one, and its score.
    pub fn rank(self, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            SortedSetRef::Packed(set) => set.rank(member),
            SortedSetRef::Large(set) => set.rank(member),
        }
    }

    /// The number of members at the beginning whose scores `is_before` says yes to; it must say no to all
    /// later ones.
    pub fn count_scores(self, is_before: impl Fn(f64) -> bool) -> usize {
        match self {
            SortedSetRef::Packed(set) => set.iter().take_while(|entry| is_before(entry.score)).count(),
            SortedSetRef::Large(set) => set.count_scores(is_before),
        }
    }

    /// The same for members, for sets whose scores are all equal.
    pub fn count_members(self, is_before: impl Fn(&[u8]) -> bool) -> usize {
        match self {
            SortedSetRef::Packed(set) => set.iter().take_while(|entry| is_before(entry.member)).count(),
            SortedSetRef::Large(set) => set.count_members(is_before),
        }
    }

    /// The members of these ranks, in order. Ranks beyond the last one are left out.
    pub fn range(self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = ScoredMember<'a>> + use<'a> {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        let (packed, large) = match self {
            SortedSetRef::Packed(set) => (Some(set.range(ranks).into_iter()), None),
            SortedSetRef::Large(set) => (None, Some(set.range(ranks))),
        };
        packed.into_iter().flatten().chain(large.into_iter().flatten())
    }

    /// All members in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = ScoredMember<'a>> + use<'a> {
        self.range(0..self.len())
    }

    /// One step of ZSCAN: calls `each` for about `count` members from `cursor` on; returns the next cursor, 0
    /// at the end.
    pub fn scan(self, cursor: u64, count: usize, each: &mut dyn FnMut(ScoredMember<'a>)) -> u64 {
        match self {
            SortedSetRef::Packed(set) => {
                set.iter().for_each(each);
                0
            }
            SortedSetRef::Large(set) => set.scan(cursor, count, each),
        }
    }

    /// At least as many bytes as all members have together. Costs no walk.
    pub fn member_bytes_max(self) -> usize {
        match self {
            SortedSetRef::Packed(set) => set.member_bytes_max(),
            SortedSetRef::Large(set) => set.member_bytes_max(),
        }
    }

    /// True if there are at most `members_max` members, and none has more than `bytes_max` bytes.
    pub fn is_within(self, members_max: u64, bytes_max: u64) -> bool {
        self.len() as u64 <= members_max && self.iter().all(|entry| entry.member.len() as u64 <= bytes_max)
    }
}

impl SortedSet {
    pub fn new() -> SortedSet {
        SortedSet(Repr::Packed(Vec::new()))
    }

    /// A set that is packed in these bytes.
    pub fn of_packed(bytes: &[u8]) -> SortedSet {
        SortedSet(Repr::Packed(bytes.to_vec()))
    }

    pub fn read(&self) -> SortedSetRef<'_> {
        match &self.0 {
            Repr::Packed(bytes) => SortedSetRef::packed(bytes),
            Repr::Large(set) => SortedSetRef::Large(set),
        }
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets a member's score, which must not be NaN.
    pub fn set(&mut self, member: &[u8], score: f64) -> ScoreChange {
        debug_assert!(!score.is_nan(), "no score is NaN");
        match &mut self.0 {
            Repr::Packed(bytes) => {
                let packed = set_packed(bytes, member, score);
                packed.unwrap_or_else(|| self.grown().set(member, score))
            }
            Repr::Large(set) => set.set(member, score),
        }
    }

    /// The large form, which it becomes if it is packed.
    fn grown(&mut self) -> &mut LargeSortedSet {
        if let Repr::Packed(bytes) = &self.0 {
            let mut large = Box::new(LargeSortedSet::new());
            for entry in SortedSetRef::packed(bytes).iter() {
                large.set(entry.member, entry.score);
            }
            self.0 = Repr::Large(large);
        }
        let Repr::Large(set) = &mut self.0 else { unreachable!("grown above") };
        set
    }

    fn shrink(&mut self) {
        let Repr::Large(set) = &self.0 else { return };
        if set.len() > SHRUNK_MEMBERS_MAX {
            return;
        }
        let mut packed = Vec::new();
        for entry in set.range(0..set.len()) {
            if set_packed(&mut packed, entry.member, entry.score).is_none() {
                return;
            }
        }
        self.0 = Repr::Packed(packed);
    }

    /// Removes a member; true if it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let removed = match &mut self.0 {
            Repr::Packed(bytes) => return remove_packed(bytes, member),
            Repr::Large(set) => set.remove(member),
        };
        if removed {
            self.shrink();
        }
        removed
    }

    /// Removes the members of these ranks.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn remove_range(&mut self, ranks: Range<usize>) {
        assert!(ranks.start <= ranks.end && ranks.end <= self.len(), "the ranks exist");
        match &mut self.0 {
            Repr::Packed(bytes) => remove_packed_range(bytes, ranks),
            Repr::Large(set) => {
                set.remove_range(ranks);
                self.shrink();
            }
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Packed(bytes) => bytes.capacity(),
            Repr::Large(set) => size_of::<LargeSortedSet>() + set.heap_bytes(),
        }
    }
}

impl Default for SortedSet {
    fn default() -> SortedSet {
        SortedSet::new()
    }
}

#[cfg(test)]
mod tests;
