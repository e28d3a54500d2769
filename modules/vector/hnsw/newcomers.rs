//! Links nodes that are inserted at the same time to each other.
//!
//! An insert searches for neighbours, and links the node afterwards. A node that another thread links in
//! between is not among the neighbours found. Where there are other nodes nearby, that costs nothing. The
//! first nodes of a new region have no others: a thread that loses the processor between its search and its
//! links would leave a node that only distant nodes link to, and walks of the usual width that come to the
//! region, whose other nodes were linked meanwhile, would never find that node.
//!
//! So each insert notes its node when it has linked it, and then looks at the nodes noted since its search
//! began. Of two inserts at the same time, the one that notes its node later sees the other's.

use parking_lot::Mutex;

use super::Hnsw;
use super::insert::Occasion;
use crate::candidates::Candidate;
use crate::scratch::Scratch;
use crate::store::State;

/// Nodes that are remembered. If more were linked during an insert, it searches again.
const REMEMBERED: usize = 512;
/// Searches of one insert, at most.
const SEARCHES_MAX: usize = 3;

/// The nodes that were linked last.
#[derive(Default)]
pub(super) struct Newcomers(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    /// Node number `n` is at `n % REMEMBERED`.
    slots: Vec<u32>,
    count: usize,
}

impl Newcomers {
    /// The number of nodes noted so far.
    pub fn mark(&self) -> usize {
        self.0.lock().count
    }

    /// Notes a node. Leaves the nodes that were noted since the mark in `others`; false if some of them are
    /// forgotten.
    fn note(&self, slot: u32, mark: usize, others: &mut Vec<u32>) -> bool {
        let noted = &mut *self.0.lock();
        let first = mark.max(noted.count.saturating_sub(REMEMBERED));
        others.clear();
        others.extend((first..noted.count).map(|number| noted.slots[number % REMEMBERED]));
        match noted.slots.get_mut(noted.count % REMEMBERED) {
            Some(oldest) => *oldest = slot,
            None => noted.slots.push(slot),
        }
        noted.count += 1;
        first == mark
    }
}

impl Hnsw {
    /// Links a new node to those that were linked since `mark`, which was taken before the search for its
    /// neighbours. These are in `scratch.forward`. The caller has been pinned since before that.
    pub(super) fn meet_newcomers(&self, slot: u32, level: usize, mut mark: usize, scratch: &mut Scratch) {
        for _ in 1..SEARCHES_MAX {
            if self.link_newcomers(slot, level, mark, scratch) {
                return;
            }
            mark = self.newcomers.mark();
            let Some(entry) = self.graph.entry() else { return };
            self.link_from(entry, slot, level, Occasion::Repair, false, scratch);
        }
        self.link_newcomers(slot, level, mark, scratch);
    }

    /// False if some of the nodes linked since `mark` are forgotten.
    fn link_newcomers(&self, slot: u32, level: usize, mark: usize, scratch: &mut Scratch) -> bool {
        let mut newcomers = std::mem::take(&mut scratch.fresh);
        let is_whole = self.newcomers.note(slot, mark, &mut newcomers);
        newcomers.retain(|&other| other != slot && self.store.state(other) != State::Deleted);
        if !newcomers.is_empty() {
            (0..=level).for_each(|layer| self.link_newcomers_in(layer, slot, &newcomers, scratch));
        }
        scratch.fresh = newcomers;
        is_whole
    }

    fn link_newcomers_in(&self, layer: usize, slot: u32, newcomers: &[u32], scratch: &mut Scratch) {
        let by_codes = self.store.links_by_codes(slot, slot);
        let query = self.linking_query(slot, by_codes);
        let capacity = self.graph.capacity(layer);
        let Scratch { forward, candidates, .. } = &mut *scratch;
        let linked = forward.iter().filter(|(at, _)| *at == layer).map(|&(_, neighbor)| neighbor);
        // Nodes farther than all neighbours would gain little: walks come over the neighbours.
        let has_few = linked.clone().count() < capacity.min(self.degree_min);
        let farthest = linked.clone().max().map_or(f32::INFINITY, |farthest| farthest.distance);
        let reach = if has_few { f32::INFINITY } else { farthest };
        let of_layer = newcomers.iter().filter(|&&other| self.graph.level(other) >= layer);
        candidates.clear();
        candidates.extend(of_layer.map(|&other| self.near_candidate(&query, other)));
        candidates.retain(|candidate| candidate.distance < reach);
        if candidates.is_empty() {
            return;
        }
        candidates.extend(linked);
        candidates.sort_unstable();
        candidates.dedup_by_key(|candidate| candidate.slot());
        self.choose(capacity, by_codes, scratch);
        let Scratch { chosen, nearest, .. } = &mut *scratch;
        nearest.clear();
        nearest.extend(chosen.iter().filter(|candidate| newcomers.contains(&candidate.slot())));
        let met = std::mem::take(nearest);
        for &other in &met {
            self.add_link(slot, layer, other, false, scratch);
            self.add_link(other.slot(), layer, Candidate::new(other.distance, slot), false, scratch);
        }
        scratch.nearest = met;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::{HnswParameters, Metric, SearchRequest, VectorIndex, bytes_of};

    thread_local! {
        /// Runs in the next insert of this thread, between its search and its links.
        static AFTER_SEARCH: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    }

    pub(in crate::hnsw) fn after_search() {
        let then = AFTER_SEARCH.take();
        then.into_iter().for_each(|then| then());
    }

    /// A thousand nodes, and then one insert of a node far from them, during which others are inserted there.
    fn check(others: u32) {
        let index = std::rc::Rc::new(Hnsw::new(HnswParameters::new(2, Metric::L2)));
        (0..1_000_u32).for_each(|id| index.insert(id, bytes_of(&[id as f32, 0.0])).expect("finite"));
        let vector = |number: u32| [-5_000.0 - 10.0 * number as f32, 9.0];
        let middle = others / 2;
        AFTER_SEARCH.set(Some(Box::new({
            let index = index.clone();
            move || {
                for number in (0..others).filter(|&number| number != middle) {
                    index.insert(2_000 + number, bytes_of(&vector(number))).expect("finite");
                }
            }
        })));
        index.insert(2_000 + middle, bytes_of(&vector(middle))).expect("finite");
        for number in 0..others {
            let vector = vector(number);
            let found = index.search(&SearchRequest::new(bytes_of(&vector), 1, 10)).expect("fits");
            assert_eq!(found.neighbors[0].id, 2_000 + number, "of {others}");
        }
        assert!(index.check().is_sound());
    }

    #[test]
    fn nodes_that_are_inserted_during_an_insert_find_each_other() {
        [2, 3, 20, 50, REMEMBERED as u32, 2 * REMEMBERED as u32].into_iter().for_each(check);
    }
}
