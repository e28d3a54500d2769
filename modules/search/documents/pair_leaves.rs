//! The leaves of a sorted set of pairs, in order, in groups of up to 128.
//!
//! Finding a leaf reads the first keys of all groups, which stay in the cache, and a group's keys, which are
//! next to each other. A tree with small nodes has several levels instead, each of which is a cache miss in
//! a large set.

use super::pairs::PackedPair;

/// A pair as one number, in the same order.
pub type PairKey = u128;

/// The most leaves of a group.
const GROUP_MAX: usize = 128;

/// PairLeaves by key, each with a key of its own.
#[derive(Default)]
pub struct PairLeaves {
    /// The first key of each group.
    firsts: Vec<PairKey>,
    groups: Vec<Group>,
    length: usize,
}

/// At least one leaf, with its key.
struct Group {
    keys: Vec<PairKey>,
    leaves: Vec<Vec<PackedPair>>,
}

/// The place of a leaf, valid until leaves come or go. Places are in the order of their leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeafPlace {
    group: usize,
    at: usize,
}

impl PairLeaves {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.length
    }

    /// The last leaf whose key is not larger.
    #[inline]
    pub fn place(&self, key: PairKey) -> Option<LeafPlace> {
        let group = self.firsts.partition_point(|&first| first <= key).checked_sub(1)?;
        let at = self.groups[group].keys.partition_point(|&other| other <= key) - 1;
        Some(LeafPlace { group, at })
    }

    #[inline]
    pub fn leaf(&self, place: LeafPlace) -> &Vec<PackedPair> {
        &self.groups[place.group].leaves[place.at]
    }

    #[inline]
    pub fn leaf_mut(&mut self, place: LeafPlace) -> &mut Vec<PackedPair> {
        &mut self.groups[place.group].leaves[place.at]
    }

    pub fn after(&self, LeafPlace { group, at }: LeafPlace) -> Option<LeafPlace> {
        if at + 1 < self.groups[group].keys.len() {
            return Some(LeafPlace { group, at: at + 1 });
        }
        (group + 1 < self.groups.len()).then_some(LeafPlace { group: group + 1, at: 0 })
    }

    pub fn before(&self, LeafPlace { group, at }: LeafPlace) -> Option<LeafPlace> {
        if at > 0 {
            return Some(LeafPlace { group, at: at - 1 });
        }
        let group = group.checked_sub(1)?;
        Some(LeafPlace { group, at: self.groups[group].keys.len() - 1 })
    }

    /// The leaves from a place on.
    pub fn from(&self, place: Option<LeafPlace>) -> impl Iterator<Item = &Vec<PackedPair>> {
        let LeafPlace { group, at } = place.unwrap_or(LeafPlace { group: 0, at: 0 });
        let groups = self.groups.iter().skip(group).enumerate();
        groups.flat_map(move |(nth, group)| &group.leaves[if nth == 0 { at } else { 0 }..])
    }

    /// Adds a leaf, with a key that no other has.
    pub fn insert(&mut self, key: PairKey, leaf: Vec<PackedPair>) {
        self.length += 1;
        let Some(LeafPlace { mut group, mut at }) = self.place(key) else {
            // Its key is the first.
            self.firsts.insert(0, key);
            self.groups.insert(0, Group { keys: vec![key], leaves: vec![leaf] });
            return;
        };
        at += 1;
        let length = self.groups[group].keys.len();
        if length == GROUP_MAX {
            // Where leaves come in order, those that are left behind stay full.
            let half = if at == length { length } else { length / 2 };
            let rest = self.groups[group].split_off(half);
            if at >= half {
                (group, at) = (group + 1, at - half);
                self.groups.insert(group, rest);
                self.groups[group].insert(at, key, leaf);
                self.firsts.insert(group, self.groups[group].keys[0]);
                return;
            }
            self.firsts.insert(group + 1, rest.keys[0]);
            self.groups.insert(group + 1, rest);
        }
        self.groups[group].insert(at, key, leaf);
    }

    pub fn remove(&mut self, LeafPlace { group, at }: LeafPlace) -> Vec<PackedPair> {
        self.length -= 1;
        let from = &mut self.groups[group];
        from.keys.remove(at);
        let leaf = from.leaves.remove(at);
        match from.keys.first() {
            Some(&first) => self.firsts[group] = first,
            None => {
                self.firsts.remove(group);
                self.groups.remove(group);
            }
        }
        if self.groups.is_empty() {
            *self = PairLeaves::default();
        }
        leaf
    }

    /// Bytes on the heap without the leaves' own, estimated.
    pub fn heap_bytes(&self) -> usize {
        // Groups are two thirds full.
        let of_leaf = (size_of::<PairKey>() + size_of::<Vec<PackedPair>>()) * 3 / 2;
        self.length * of_leaf
            + self.groups.capacity() * size_of::<Group>()
            + self.firsts.capacity() * size_of::<PairKey>()
    }

    /// The keys, in order.
    #[cfg(test)]
    pub fn keys(&self) -> impl Iterator<Item = PairKey> {
        assert!(self.groups.iter().map(|group| group.keys[0]).eq(self.firsts.iter().copied()));
        assert!(self.groups.iter().all(|group| group.keys.len() == group.leaves.len()));
        assert_eq!(self.groups.iter().map(|group| group.keys.len()).sum::<usize>(), self.length);
        self.groups.iter().flat_map(|group| group.keys.iter().copied())
    }
}

impl Group {
    fn insert(&mut self, at: usize, key: PairKey, leaf: Vec<PackedPair>) {
        self.keys.insert(at, key);
        self.leaves.insert(at, leaf);
    }

    fn split_off(&mut self, at: usize) -> Group {
        Group { keys: self.keys.split_off(at), leaves: self.leaves.split_off(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn leaves_are_found_by_the_last_key_that_is_not_larger() {
        let mut state = 11u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut leaves, mut model) = (PairLeaves::default(), BTreeMap::new());
        for step in 0..20_000u32 {
            let key = PairKey::from(random(3_000));
            let grows = step < 12_000;
            let found = leaves.place(key).map(|place| leaves.leaf(place).clone());
            let wanted = model.range(..=key).next_back().map(|(_, leaf): (&PairKey, &Vec<PackedPair>)| leaf);
            assert_eq!(found.as_ref(), wanted);
            if let Some(place) = leaves.place(key) {
                let next = leaves.after(place).map(|next| leaves.leaf(next));
                assert_eq!(next, model.range(key + 1..).next().map(|(_, leaf)| leaf));
                let exact = model.range(..=key).next_back().expect("found").0;
                let before = leaves.before(place).map(|before| leaves.leaf(before));
                assert_eq!(before, model.range(..exact).next_back().map(|(_, leaf)| leaf));
                assert!(leaves.from(Some(place)).eq(model.range(exact..).map(|(_, leaf)| leaf)));
                if !grows || random(4) == 0 {
                    let exact = *exact;
                    assert_eq!(Some(leaves.remove(place)), model.remove(&exact));
                    continue;
                }
            }
            model.entry(key).or_insert_with(|| {
                let leaf = vec![[step, 0, 0]];
                leaves.insert(key, leaf.clone());
                leaf
            });
            assert_eq!(leaves.len(), model.len());
        }
        assert!(leaves.keys().eq(model.keys().copied()));
        while let Some(place) = leaves.place(PairKey::MAX) {
            leaves.remove(place);
        }
        assert_eq!((leaves.len(), leaves.heap_bytes()), (0, 0));
    }
}
