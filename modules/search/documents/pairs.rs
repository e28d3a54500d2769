//! A sorted set of pairs of a number and a document, in leaves of up to 128 pairs.
//!
//! Beside a `BTreeSet`, whose nodes have up to 11 pairs of 16 bytes, an insert reads less memory that is not
//! in the cache, a range is read from memory in its order, and a pair takes 12 bytes and a share of what is
//! free in its leaf.

use super::pair_leaves::{LeafPlace, PairKey, PairLeaves};
use std::ops::Bound;

/// A number, and a document that has it.
pub type NumberPair = (u64, u32);

/// The most pairs of a leaf.
const LEAF_MAX: usize = 128;
/// A leaf with fewer is merged with one of its neighbours, if both together have at most `MERGED_MAX`.
const LEAF_MIN: usize = 32;
const MERGED_MAX: usize = 96;

/// A pair without the padding: the halves of the number, the upper one first, and the document.
pub type PackedPair = [u32; 3];

fn packed((number, document): NumberPair) -> PackedPair {
    [(number >> 32) as u32, number as u32, document]
}

pub fn unpacked([upper, lower, document]: PackedPair) -> NumberPair {
    (u64::from(upper) << 32 | u64::from(lower), document)
}

/// The pair as one number, which is compared without branches.
#[inline]
fn key_of(&[upper, lower, document]: &PackedPair) -> PairKey {
    PairKey::from(upper) << 64 | PairKey::from(lower) << 32 | PairKey::from(document)
}

/// A sorted set of pairs.
#[derive(Default)]
pub struct PairSet {
    /// By a pair that is not after any of the leaf, and after all of the leaves before. The first one has
    /// `FIRST`. A leaf may be empty if it is the only one, or the first.
    leaves: PairLeaves,
    length: usize,
    /// The pairs for which the leaves have memory.
    capacity: usize,
}

const FIRST: PairKey = 0;

impl PairSet {
    /// Adds a pair, unless it is there already.
    pub fn insert(&mut self, pair: NumberPair) {
        let new = packed(pair);
        let key = key_of(&new);
        let Some(place) = self.leaves.place(key) else {
            self.length = 1;
            self.add_leaf(FIRST, vec![new]);
            return;
        };
        let leaf = self.leaves.leaf_mut(place);
        let Err(at) = leaf.binary_search_by_key(&key, key_of) else { return };
        self.length += 1;
        let before = leaf.capacity();
        if leaf.len() < LEAF_MAX {
            leaf.insert(at, new);
            self.capacity = self.capacity + leaf.capacity() - before;
            return;
        }
        // Pairs often come in order: numbers that grow, or documents with the same number. Then the leaf that
        // they leave behind stays full, and the next ones come at the end of a leaf.
        let rest = match at {
            LEAF_MAX => vec![new],
            LEAF_MIN.. => {
                let rest = leaf.split_off(at);
                leaf.push(new);
                rest
            }
            _ => {
                let rest = leaf.split_off(LEAF_MAX / 2);
                leaf.insert(at, new);
                rest
            }
        };
        self.add_leaf(key_of(&rest[0]), rest);
    }

    fn add_leaf(&mut self, key: PairKey, leaf: Vec<PackedPair>) {
        self.capacity += leaf.capacity();
        self.leaves.insert(key, leaf);
    }

    /// Removes a pair, if it is there.
    pub fn remove(&mut self, pair: NumberPair) {
        let key = key_of(&packed(pair));
        let Some(place) = self.leaves.place(key) else { return };
        let leaf = self.leaves.leaf_mut(place);
        let Ok(at) = leaf.binary_search_by_key(&key, key_of) else { return };
        leaf.remove(at);
        self.length -= 1;
        let (length, leaf_capacity) = (leaf.len(), leaf.capacity());
        if length >= LEAF_MIN {
            return;
        }
        let fits = |other: &LeafPlace| length + self.leaves.leaf(*other).len() <= MERGED_MAX;
        let (next, before) = (self.leaves.after(place), self.leaves.before(place));
        match (before, next) {
            (_, Some(next)) if fits(&next) => self.merge(place, next),
            (Some(before), _) if fits(&before) => self.merge(before, place),
            (None, Some(_)) => {}
            _ if length == 0 => {
                self.capacity -= leaf_capacity;
                self.leaves.remove(place);
            }
            _ => {}
        }
    }

    /// Moves the pairs of a leaf to the one before.
    fn merge(&mut self, before: LeafPlace, place: LeafPlace) {
        // The leaf before keeps its place.
        let taken = self.leaves.remove(place);
        let leaf = self.leaves.leaf_mut(before);
        let capacity = leaf.capacity();
        leaf.extend_from_slice(&taken);
        self.capacity = self.capacity + leaf.capacity() - capacity - taken.capacity();
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// The pairs between the bounds, in order.
    pub fn range(&self, from: Bound<NumberPair>, to: Bound<NumberPair>) -> impl Iterator<Item = NumberPair> {
        self.parts(from, to).flatten().map(|&pair| unpacked(pair))
    }

    /// The same in parts, one of each leaf, for loops that read many.
    pub fn parts(
        &self,
        from: Bound<NumberPair>,
        to: Bound<NumberPair>,
    ) -> impl Iterator<Item = &[PackedPair]> {
        let first = match from {
            Bound::Included(pair) | Bound::Excluded(pair) => key_of(&packed(pair)),
            Bound::Unbounded => FIRST,
        };
        let start = self.leaves.place(first);
        let from_here = move |leaf: &'_ Vec<PackedPair>| match from {
            Bound::Included(_) => leaf.partition_point(|other| key_of(other) < first),
            Bound::Excluded(_) => leaf.partition_point(|other| key_of(other) <= first),
            Bound::Unbounded => 0,
        };
        let (last, is_last_in) = match to {
            Bound::Included(pair) => (key_of(&packed(pair)), true),
            Bound::Excluded(pair) => (key_of(&packed(pair)), false),
            Bound::Unbounded => (PairKey::MAX, true),
        };
        let is_beyond = move |pair: &PackedPair| {
            let key = key_of(pair);
            key > last || key == last && !is_last_in
        };
        let (mut is_first, mut has_ended) = (true, false);
        // Whole leaves lie between the bounds, apart from the first and the last.
        self.leaves.from(start).map_while(move |leaf| {
            if has_ended {
                return None;
            }
            let begin = if std::mem::take(&mut is_first) { from_here(leaf) } else { 0 };
            let part = &leaf[begin..];
            has_ended = part.last().is_some_and(is_beyond);
            let end = if has_ended { part.partition_point(|pair| !is_beyond(pair)) } else { part.len() };
            Some(&part[..end])
        })
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.capacity * size_of::<PackedPair>() + self.leaves.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check(set: &PairSet, model: &BTreeSet<NumberPair>) {
        assert!(set.range(Bound::Unbounded, Bound::Unbounded).eq(model.iter().copied()));
        assert_eq!(set.len(), model.len());
        assert_eq!(set.capacity, set.leaves.from(None).map(Vec::capacity).sum::<usize>());
        assert!(set.leaves.keys().next().is_none_or(|key| key == FIRST));
        assert!(set.leaves.from(None).skip(1).all(|leaf| !leaf.is_empty() && leaf.len() <= LEAF_MAX));
    }

    #[test]
    fn it_has_the_pairs_of_a_plain_set_in_any_order_of_changes() {
        let mut state = 3u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for numbers in [3, 50, u64::MAX] {
            let (mut set, mut model) = (PairSet::default(), BTreeSet::new());
            for phase in 0..6 {
                for step in 0..4_000u32 {
                    let pair = (random(numbers) << random(33), random(3_000) as u32);
                    let pair = if phase == 1 { (pair.0, 3_000 + step) } else { pair };
                    if random(8) < [2, 1, 7, 3, 8, 4][phase] {
                        let near = model.range(pair..).next().copied().unwrap_or(pair);
                        set.remove(near);
                        model.remove(&near);
                    } else {
                        set.insert(pair);
                        model.insert(pair);
                    }
                }
                check(&set, &model);
                for _ in 0..50 {
                    let [a, b] = [0; 2].map(|_| (random(numbers) << random(33), random(3_000) as u32));
                    let (a, b) = (a.min(b), a.max(b).max((a.min(b).0, a.min(b).1 + 1)));
                    let bounds =
                        [(Bound::Included(a), Bound::Excluded(b)), (Bound::Excluded(a), Bound::Included(b))];
                    for (from, to) in bounds {
                        assert!(set.range(from, to).eq(model.range((from, to)).copied()));
                    }
                }
            }
            model.iter().for_each(|&pair| set.remove(pair));
            assert_eq!((set.heap_bytes(), set.leaves.len()), (0, 0));
        }
    }

    #[test]
    fn leaves_are_full_where_pairs_come_in_order_and_merged_where_they_go() {
        let of = |pairs: &mut dyn Iterator<Item = NumberPair>| {
            let mut set = PairSet::default();
            let count = pairs.map(|pair| set.insert(pair)).count();
            (count, set)
        };
        let (count, growing) = of(&mut (0..50_000).map(|at| (u64::from(at), at)));
        assert!(growing.capacity < count + count / 50, "{} for {count}", growing.capacity);
        let (count, runs) = of(&mut (0..50_000).map(|at| (u64::from(at % 100), at)));
        assert!(runs.capacity < count + count / 5, "{} for {count}", runs.capacity);
        let (count, mut mixed) =
            of(&mut (0..50_000).map(|at: u32| (u64::from(at.wrapping_mul(0x9e37_79b1)), at)));
        assert!(mixed.capacity < 2 * count, "{} for {count}", mixed.capacity);
        let kept: Vec<NumberPair> = mixed.range(Bound::Unbounded, Bound::Unbounded).collect();
        kept.iter().enumerate().filter(|(at, _)| at % 50 != 0).for_each(|(_, &pair)| mixed.remove(pair));
        assert!(mixed.leaves.len() < 50, "a thousand pairs are left in {} leaves", mixed.leaves.len());
    }
}
