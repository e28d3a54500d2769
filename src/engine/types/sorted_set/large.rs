//! A large sorted set: slots, a hash table of their numbers, and a tree of the numbers in order.

use super::order::{Order, OrderKey};
use super::slots::Slots;
use super::{ScoreChange, ScoredMember};
use crate::table::{Table, hash_bytes};
use std::ops::Range;

#[derive(Clone, Debug)]
pub struct LargeSortedSet {
    slots: Slots,
    index: Table<u32>,
    order: Order,
}

impl LargeSortedSet {
    pub(super) fn new() -> LargeSortedSet {
        LargeSortedSet { slots: Slots::default(), index: Table::new(), order: Order::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    fn find(&self, hash: u64, member: &[u8]) -> Option<u32> {
        self.index.with_hash(hash).copied().find(|&id| self.slots.member(id) == member)
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        Some(self.slots.score(self.find(hash_bytes(member), member)?))
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.order.rank(OrderKey { score, member }, &self.slots), score))
    }

    pub(super) fn set(&mut self, member: &[u8], score: f64) -> ScoreChange {
        let hash = hash_bytes(member);
        if let Some(id) = self.find(hash, member) {
            let old = self.slots.score(id);
            if old == score {
                return ScoreChange::None;
            }
            self.order.remove(OrderKey { score: old, member }, &self.slots);
            self.slots.set_score(id, score);
            self.order.insert(score, id, &self.slots);
            return ScoreChange::Updated;
        }
        let id = self.slots.add(member, score);
        self.index.insert_new(hash, id);
        self.order.insert(score, id, &self.slots);
        ScoreChange::Added
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let slots = &self.slots;
        let removed = self.index.remove_where(hash_bytes(member), |&id| slots.member(id) == member);
        let Some(id) = removed else { return false };
        self.order.remove(OrderKey { score: slots.score(id), member }, slots);
        self.slots.remove(id);
        self.compact();
        true
    }

    pub(super) fn remove_range(&mut self, ranks: Range<usize>) {
        let removed = self.order.remove_range(ranks);
        for &id in &removed {
            self.index.remove_where(hash_bytes(self.slots.member(id)), |&other| other == id);
            self.slots.remove(id);
        }
        // Only now, because a move changes the number of a member.
        removed.iter().for_each(|_| self.compact());
    }

    /// Moves a member if too many slots are vacant.
    fn compact(&mut self) {
        let Some((from, to)) = self.slots.next_move() else { return };
        let member = self.slots.member(from);
        let hash = hash_bytes(member);
        let key = OrderKey { score: self.slots.score(from), member };
        self.order.renumber(key, (from, to), &self.slots);
        self.index.remove_where(hash, |&id| id == from);
        self.index.insert_new(hash, to);
        self.slots.make_move((from, to));
    }

    pub(super) fn count_scores(&self, is_before: impl Fn(f64) -> bool) -> usize {
        self.order.count(|score, _| is_before(score))
    }

    pub(super) fn count_members(&self, is_before: impl Fn(&[u8]) -> bool) -> usize {
        self.order.count(|_, id| is_before(self.slots.member(id)))
    }

    pub(super) fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = ScoredMember<'_>> {
        let entry = |(score, id)| ScoredMember { score, member: self.slots.member(id) };
        self.order.range(ranks).map(entry)
    }

    pub(super) fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        each: &mut dyn FnMut(ScoredMember<'a>),
    ) -> u64 {
        self.index.scan(cursor, count, &mut |&id| {
            each(ScoredMember { score: self.slots.score(id), member: self.slots.member(id) });
        })
    }

    pub(super) fn member_bytes_max(&self) -> usize {
        self.slots.member_bytes_max()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.heap_bytes() + self.index.heap_bytes() + self.order.heap_bytes()
    }
}
