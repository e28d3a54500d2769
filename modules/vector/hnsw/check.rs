//! A consistency checker: walks over the whole graph, and reports what searches cannot reach.

use super::Hnsw;
use super::repair::Bits;
use crate::VectorIndex;
use crate::store::State;

/// The result of a check of a whole graph. Lists contain the first `EXAMPLES` ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphCheck {
    /// Ids that a search should find.
    pub live: usize,
    /// Nodes of these ids: ids with equal vectors share one.
    pub places: usize,
    /// Ids that share the place of another.
    pub members: usize,
    /// Places that cannot be reached over links from the entry.
    pub unreachable: usize,
    pub unreachable_ids: Vec<u32>,
    /// Places that cannot be reached over *kept* links, which pruning does not remove.
    pub unkept: usize,
    /// Places that are linked only by nodes with an equal vector, which in turn are linked only by such
    /// nodes; the entry is not counted. (Two places can have equal vectors if an insertion did not find the
    /// first of them.)
    pub linked_by_copies_only: usize,
    /// Links to slots without a node.
    pub dangling: usize,
    /// Members whose place is not in the graph.
    pub lost_members: usize,
}

/// The number of ids to list.
const EXAMPLES: usize = 10;

impl GraphCheck {
    /// Whether every node can be reached.
    pub fn is_sound(&self) -> bool {
        self.unreachable == 0
            && self.unkept == 0
            && self.linked_by_copies_only == 0
            && self.dangling == 0
            && self.lost_members == 0
    }
}

impl Hnsw {
    /// Walks over the whole graph from the entry. Takes time in proportion to its size, and blocks mutations
    /// meanwhile; searches go on.
    pub fn check(&self) -> GraphCheck {
        let _sweep = self.repair.hold();
        let _gate = self.gate.write();
        let _pinned = self.store.pin();
        let mut check = GraphCheck { live: self.len(), ..GraphCheck::default() };
        let reached = self.reach(false);
        let kept = self.reach(true);
        let mut has_other_link = Bits::default();
        has_other_link.begin(self.store.slot_count());
        let entry = self.graph.entry();
        entry.iter().for_each(|entry| has_other_link.set(entry.slot));
        let mut is_found = true;
        while std::mem::take(&mut is_found) {
            check.dangling = 0;
            for slot in (0..self.store.slot_count()).filter(|&slot| self.is_in_graph(slot)) {
                self.graph.for_each_link(slot, 0, |link| {
                    check.dangling += usize::from(!self.is_in_graph(link));
                    if !has_other_link.has(link) && (has_other_link.has(slot) || !self.are_copies(slot, link))
                    {
                        has_other_link.set(link);
                        is_found = true;
                    }
                });
            }
        }
        for slot in (0..self.store.slot_count()).filter(|&slot| self.store.state(slot) == State::Live) {
            if self.store.is_member(slot) {
                let place = self.store.copies().read(|groups| groups.place_of(slot));
                let is_lost = place.is_none_or(|place| self.store.state(place) != State::Live);
                check.members += 1;
                check.lost_members += usize::from(is_lost);
                continue;
            }
            check.places += 1;
            check.unkept += usize::from(!kept.has(slot));
            check.linked_by_copies_only += usize::from(!has_other_link.has(slot));
            if !reached.has(slot) {
                check.unreachable += 1;
                if check.unreachable_ids.len() < EXAMPLES {
                    check.unreachable_ids.push(self.store.id_of(slot));
                }
            }
        }
        // A single place has no other place that could link to it.
        if check.places <= 1 {
            check.linked_by_copies_only = 0;
        }
        check
    }

    fn are_copies(&self, a: u32, b: u32) -> bool {
        self.store.as_place(a, b).is_some_and(|place| place.is_equal)
    }

    fn is_in_graph(&self, slot: u32) -> bool {
        matches!(self.store.state(slot), State::Live | State::Deleted) && !self.store.is_member(slot)
    }

    /// The nodes that can be reached from the entry: over all links, or over kept ones only.
    fn reach(&self, kept_only: bool) -> Bits {
        let mut reached = Bits::default();
        reached.begin(self.store.slot_count());
        let mut left: Vec<u32> = self.graph.entry().iter().map(|entry| entry.slot).collect();
        left.iter().for_each(|&slot| reached.set(slot));
        while let Some(slot) = left.pop() {
            let mut meet = |link| {
                if !reached.has(link) {
                    reached.set(link);
                    left.push(link);
                }
            };
            if kept_only {
                self.graph.for_each_kept(slot, &mut meet);
            } else {
                (0..=self.graph.level(slot))
                    .for_each(|layer| self.graph.for_each_link(slot, layer, &mut meet));
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hnsw::graph;
    use crate::{HnswParameters, Metric, bytes_of};

    fn vector(id: u32) -> Vec<f32> {
        (0..16).map(|at| ((id * 16 + at).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6).collect()
    }

    fn graph(ids: u32) -> Hnsw {
        let index = Hnsw::new(HnswParameters { m: 4, ..HnswParameters::new(16, Metric::L2) });
        (0..ids).for_each(|id| index.insert(id, bytes_of(&vector(id))).expect("finite"));
        index
    }

    /// Removes the links of all nodes to this one.
    fn cut_off(index: &Hnsw, slot: u32, kept_only: bool) {
        for from in 0..index.store.slot_count() {
            for layer in 0..=index.graph.level(from) {
                let mut words = Vec::new();
                index.graph.for_each_word(from, layer, |word| words.push(word));
                words.retain(|&word| graph::slot_of(word) != slot || (kept_only && !graph::is_kept(word)));
                index.graph.write_words(from, layer, words);
            }
        }
    }

    #[test]
    fn every_node_stays_reachable_while_nearly_all_are_deleted() {
        let index = graph(1_200);
        for id in (0..1_140).map(|id| id * 7 % 1_200) {
            index.remove(id);
            let check = index.check();
            assert!(check.is_sound(), "without {id}: {check:?}");
        }
        (0..1_200).for_each(|id| index.insert(id, bytes_of(&vector(id % 50))).expect("finite"));
        let check = index.check();
        assert!(check.is_sound() && check.places == 50 && check.members == 1_150, "{check:?}");
    }

    #[test]
    fn planted_faults_are_found() {
        let index = graph(500);
        assert!(index.check().is_sound());
        let entry = index.graph.entry().expect("it has nodes").slot;
        let slots = (0..500).filter_map(|id| index.store.slot_of(id)).filter(|&slot| slot != entry);
        let [unkept, cut] = slots.take(2).collect::<Vec<_>>()[..] else { panic!("two nodes") };
        cut_off(&index, unkept, true);
        let check = index.check();
        assert!(check.unkept > 0 && check.unreachable == 0, "{check:?}");
        cut_off(&index, cut, false);
        let check = index.check();
        let id = index.store.id_of(cut);
        assert!(check.unreachable_ids.contains(&id) && check.linked_by_copies_only > 0, "{check:?}");
        assert!(!check.is_sound());
        // A link to a slot without a node.
        let placed = index.place(bytes_of(&vector(0))).expect("finite");
        let free = placed.slot_in(index.store.vectors());
        index.graph.write_words(entry, 0, [free + 1]);
        assert!(index.check().dangling > 0);
    }
}
