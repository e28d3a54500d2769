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

use large::LargeSortedSet;
use packed::PackedSortedSet;

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

#[derive(Clone, Debug)]
pub struct SortedSet(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Packed(PackedSortedSet),
    Large(Box<LargeSortedSet>),
}

/// A large set with at most this many members becomes a packed one, if all members fit.
const SHRUNK_MEMBERS_MAX: usize = 32;

impl SortedSet {
    pub fn new() -> SortedSet {
        SortedSet(Repr::Packed(PackedSortedSet::new()))
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Packed(set) => set.len(),
            Repr::Large(set) => set.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Repr::Packed(set) => set.score(member),
            Repr::Large(set) => set.score(member),
        }
    }

    /// The number of members before this one, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.0 {
            Repr::Packed(set) => set.rank(member),
            Repr::Large(set) => set.rank(member),
        }
    }

    /// Sets a member's score, which must not be NaN.
    pub fn set(&mut self, member: &[u8], score: f64) -> ScoreChange {
        debug_assert!(!score.is_nan(), "no score is NaN");
        match &mut self.0 {
            Repr::Packed(set) if set.can_set(member) => set.set(member, score),
            Repr::Packed(_) => self.grown().set(member, score),
            Repr::Large(set) => set.set(member, score),
        }
    }

    /// The large form, which it becomes if it is packed.
    fn grown(&mut self) -> &mut LargeSortedSet {
        if let Repr::Packed(set) = &self.0 {
            let mut large = Box::new(LargeSortedSet::new());
            for entry in set.iter() {
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
        let mut packed = PackedSortedSet::new();
        for entry in set.range(0..set.len()) {
            if !packed.can_set(entry.member) {
                return;
            }
            packed.set(entry.member, entry.score);
        }
        self.0 = Repr::Packed(packed);
    }

    /// Removes a member; true if it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let removed = match &mut self.0 {
            Repr::Packed(set) => return set.remove(member),
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
    pub fn remove_range(&mut self, ranks: std::ops::Range<usize>) {
        assert!(ranks.start <= ranks.end && ranks.end <= self.len(), "the ranks exist");
        match &mut self.0 {
            Repr::Packed(set) => set.remove_range(ranks),
            Repr::Large(set) => {
                set.remove_range(ranks);
                self.shrink();
            }
        }
    }

    /// The number of members at the beginning whose scores `is_before` says yes to; it must say no to all
    /// later ones.
    pub fn count_scores(&self, is_before: impl Fn(f64) -> bool) -> usize {
        match &self.0 {
            Repr::Packed(set) => set.iter().take_while(|entry| is_before(entry.score)).count(),
            Repr::Large(set) => set.count_scores(is_before),
        }
    }

    /// The same for members, for sets whose scores are all equal.
    pub fn count_members(&self, is_before: impl Fn(&[u8]) -> bool) -> usize {
        match &self.0 {
            Repr::Packed(set) => set.iter().take_while(|entry| is_before(entry.member)).count(),
            Repr::Large(set) => set.count_members(is_before),
        }
    }

    /// The members of these ranks, in order. Ranks beyond the last one are left out.
    pub fn range(&self, ranks: std::ops::Range<usize>) -> impl DoubleEndedIterator<Item = ScoredMember<'_>> {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        let (packed, large) = match &self.0 {
            Repr::Packed(set) => (Some(set.range(ranks).into_iter()), None),
            Repr::Large(set) => (None, Some(set.range(ranks))),
        };
        packed.into_iter().flatten().chain(large.into_iter().flatten())
    }

    /// All members in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = ScoredMember<'_>> {
        self.range(0..self.len())
    }

    /// One step of ZSCAN: calls `each` for about `count` members from `cursor` on; returns the next cursor, 0
    /// at the end.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, each: &mut dyn FnMut(ScoredMember<'a>)) -> u64 {
        match &self.0 {
            Repr::Packed(set) => {
                set.iter().for_each(each);
                0
            }
            Repr::Large(set) => set.scan(cursor, count, each),
        }
    }

    /// At least as many bytes as all members have together. Costs no walk.
    pub fn member_bytes_max(&self) -> usize {
        match &self.0 {
            Repr::Packed(set) => set.heap_bytes(),
            Repr::Large(set) => set.member_bytes_max(),
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Packed(set) => set.heap_bytes(),
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
