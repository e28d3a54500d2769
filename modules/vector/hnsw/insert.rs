//! Inserts a node into the graph.
//!
//! The forward links of a new node, in all its layers, are written before any link points to it: a search
//! that reaches it can continue from there. Layer 0 keeps up to 2 M forward links chosen by the heuristic,
//! and back-links are pruned with the same heuristic: dropping the farthest instead leaves nodes without
//! incoming links.

use super::Hnsw;
use super::graph::{Appended, Entry, is_kept, slot_of};
use super::walk::Walker;
use crate::candidates::Candidate;
use crate::limits::Limits;
use crate::scratch::Scratch;
use crate::store::{Query, Resolution, State};
use crate::vectors::Placed;

/// Above this level, a layer would have less than one node of any set that fits in memory.
pub(super) const LEVEL_MAX: usize = 15;

/// Why a node is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The node is new: it may turn out to be a copy of another, and gets a parent (tree.rs).
    Insert,
    /// The node has lost too many of its links.
    Repair,
}

/// The result of an attempt to link a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    Done,
    /// The node has become a member of another's place, and needs no links.
    AsMember,
    /// No neighbour was found.
    Alone,
}

impl Hnsw {
    /// Inserts a placed vector; returns the slot that it replaces.
    pub(super) fn insert_pinned(&self, id: u32, vector: &Placed, scratch: &mut Scratch) -> Option<u32> {
        let slot = self.store.admit(id, vector, &mut scratch.codes);
        let level = self.level_of(id);
        self.graph.place(slot, level);
        if self.join_known_place(slot) || self.link(slot, level, Occasion::Insert, scratch) {
            self.graph.displace(slot);
        } else {
            self.make_place_known(slot, || self.fingerprint_of(slot));
        }
        self.store.commit(slot)
    }

    /// The level of a node depends only on the seed and the id, not on the order in which threads insert.
    pub(super) fn level_of(&self, id: u32) -> usize {
        let mut bits = self.parameters.seed ^ (u64::from(id) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        // Uniform in (0, 1], so that its logarithm is finite.
        let uniform = ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        ((-uniform.ln() / (self.parameters.m as f64).ln()) as usize).min(LEVEL_MAX)
    }

    /// Finds neighbours for a node in the layers up to `level` and links both ways. Also used for a node that
    /// is already part of the graph but has lost its links. True if the node has become a member of another's
    /// place instead.
    pub(super) fn link(&self, slot: u32, level: usize, occasion: Occasion, scratch: &mut Scratch) -> bool {
        // Once other threads know the slot as a node, it stays one.
        let mut may_join = occasion == Occasion::Insert;
        while let Some(entry) = self.graph.entry().or_else(|| self.become_first(slot, level)) {
            match self.link_from(entry, slot, level, occasion, may_join, scratch) {
                Linked::AsMember => return true,
                Linked::Alone if !self.is_left_alone(entry, slot, level) => may_join = false,
                Linked::Done | Linked::Alone => return false,
            }
        }
        false
    }

    /// `link`, starting at this entry.
    pub(super) fn link_from(
        &self,
        entry: Entry,
        slot: u32,
        level: usize,
        occasion: Occasion,
        may_join: bool,
        scratch: &mut Scratch,
    ) -> Linked {
        let query = self.store.query_of(slot);
        let mark = self.newcomers.mark();
        scratch.nearest.clear();
        if !self.find_links(query, entry, slot, level, scratch) {
            if may_join && self.join_nearest_place(slot, scratch) {
                return Linked::AsMember;
            }
            self.find_links(query.uncoded(), entry, slot, level, scratch);
        }
        if may_join && self.join_nearest_place(slot, scratch) {
            return Linked::AsMember;
        }
        #[cfg(test)]
        super::newcomers::tests::after_search();
        let links = std::mem::take(&mut scratch.forward);
        for &(layer, neighbor) in &links {
            self.add_link(slot, layer, neighbor, false, scratch);
        }
        for &(layer, neighbor) in &links {
            let back = Candidate::new(neighbor.distance, slot);
            self.add_link(neighbor.slot(), layer, back, false, scratch);
        }
        if occasion == Occasion::Insert {
            scratch.nearest.clear();
            let neighbors = links.iter().filter(|(layer, _)| *layer == 0).map(|&(_, neighbor)| neighbor);
            scratch.nearest.extend(neighbors);
            let neighbors = std::mem::take(&mut scratch.nearest);
            self.find_parent(slot, &neighbors, scratch);
            scratch.nearest = neighbors;
        }
        let found = !links.is_empty();
        scratch.forward = links;
        if occasion == Occasion::Insert {
            self.meet_newcomers(slot, level, mark, scratch);
        }
        if level > entry.level {
            // Nodes that are reachable from the old entry stay reachable from the new one.
            self.keep_link(slot, entry.slot, scratch);
            let raised = Entry { slot, level };
            self.graph.change_entry(|entry| entry.filter(|entry| entry.level >= level).or(Some(raised)));
        }
        if found { Linked::Done } else { Linked::Alone }
    }

    /// Leaves the forward links of a node in `scratch.forward`. False if the walk used codes, and these are
    /// too imprecise here.
    fn find_links(
        &self,
        query: Query<'_>,
        entry: Entry,
        slot: u32,
        level: usize,
        scratch: &mut Scratch,
    ) -> bool {
        let top = level.min(entry.level);
        scratch.forward.clear();
        let mut walker = Walker::new(self, query, Limits::default(), scratch);
        let mut start = walker.descend(entry, top);
        if query.is_coded() && self.store.resolution_at(start.slot()) != Resolution::Links {
            return false;
        }
        for layer in (0..=top).rev() {
            walker.nearest_linkable(start, layer, self.parameters.ef_construction);
            let scratch = &mut *walker.scratch;
            scratch.candidates.retain(|candidate| candidate.slot() != slot);
            if let Some(&nearest) = scratch.candidates.first() {
                start = nearest;
            }
            if layer == 0 {
                let Scratch { pool, candidates, nearest, .. } = &mut *scratch;
                let resolution = self.store.resolution(&query, candidates, self.parameters.m, nearest);
                // A pool that is not full has too few candidates for this judgement.
                if pool.is_full() {
                    self.store.set_resolution(slot, resolution);
                    if query.is_coded() && resolution != Resolution::Links {
                        return false;
                    }
                }
            }
            self.choose(self.graph.capacity(layer), query.is_coded(), scratch);
            let Scratch { chosen, forward, .. } = scratch;
            forward.extend(chosen.iter().map(|&candidate| (layer, candidate)));
        }
        true
    }

    /// A node without links is unreachable, unless it is the entry: it becomes the entry if the current entry
    /// is deleted (and with it every node that is reachable from there). False if another thread has set an
    /// entry meanwhile; the caller then links to that one.
    fn is_left_alone(&self, tried: Entry, slot: u32, level: usize) -> bool {
        let mut alone = true;
        self.graph.change_entry(|entry| {
            let living = entry.filter(|entry| self.store.state(entry.slot) != State::Deleted);
            alone = living.is_none_or(|living| living == tried || living.slot == slot);
            living.or(Some(Entry { slot, level }))
        });
        alone
    }

    /// Makes the node the entry of an empty graph. Returns the entry of another thread if that was faster.
    fn become_first(&self, slot: u32, level: usize) -> Option<Entry> {
        let mut other = None;
        self.graph.change_entry(|entry| {
            other = entry;
            entry.or(Some(Entry { slot, level }))
        });
        other
    }

    /// Adds one link to a node, pruning with the heuristic if there is no room. A kept link is not removed
    /// later.
    pub(super) fn add_link(
        &self,
        node: u32,
        layer: usize,
        link: Candidate,
        keep: bool,
        scratch: &mut Scratch,
    ) {
        let _guard = self.graph.lock(node);
        if self.graph.append(node, layer, link.slot(), keep) == Appended::Done {
            return;
        }
        // Distances are compared with each other, so all of them are computed from codes, or all from
        // vectors.
        let by_codes = self.store.links_by_codes(node, link.slot());
        let query = self.linking_query(node, by_codes);
        scratch.candidates.clear();
        let held = |held| scratch.candidates.push(self.near_candidate(&query, held));
        self.graph.for_each_link(node, layer, held);
        scratch.candidates.push(match by_codes {
            true => link,
            false => self.near_candidate(&query, link.slot()),
        });
        scratch.candidates.sort_unstable();
        let capacity = self.graph.capacity(layer);
        self.choose(capacity, by_codes, scratch);
        scratch.kept.clear();
        if layer == 0 {
            self.graph.for_each_kept(node, |kept| scratch.kept.push(kept));
            if keep {
                scratch.kept.push(link.slot());
            }
            keep_chosen(capacity, scratch);
        }
        self.write_chosen(node, layer, scratch);
    }

    /// Writes the chosen links of a node. The caller holds the node's lock.
    ///
    /// Links that stay kept keep their cells. A writer can be interrupted in the middle: a kept link that
    /// moved to a later cell would be in none, and what only it leads to could not be found meanwhile.
    pub(super) fn write_chosen(&self, node: u32, layer: usize, scratch: &mut Scratch) {
        let Scratch { chosen, kept, .. } = scratch;
        if layer == 0 {
            let mut cell = 0;
            self.graph.for_each_word(node, 0, |word| {
                let stays = |candidate: &Candidate| candidate.slot() == slot_of(word);
                if is_kept(word)
                    && cell < chosen.len()
                    && let Some(at) = chosen.iter().position(stays)
                {
                    chosen.swap(cell, at);
                }
                cell += 1;
            });
        }
        self.graph.write(node, layer, chosen.iter().map(|candidate| candidate.slot()), kept);
    }

    /// The neighbour selection heuristic (algorithm 4 of the HNSW paper, without extension and without
    /// refilling). It goes through `candidates`, nearest first, and adds to `chosen` those that are nearer to
    /// the node than to any candidate chosen before. So links point in all directions, and a candidate that
    /// can be reached over a nearer neighbour gets no link.
    pub(super) fn choose(&self, capacity: usize, by_codes: bool, scratch: &mut Scratch) {
        scratch.chosen.clear();
        self.choose_more(capacity, by_codes, scratch);
        fill_up(capacity.min(self.degree_min), scratch);
    }

    /// As `choose`, taking into account the candidates that are already chosen.
    pub(super) fn choose_more(&self, capacity: usize, by_codes: bool, scratch: &mut Scratch) {
        let Scratch { candidates, chosen, .. } = scratch;
        for &candidate in candidates.iter() {
            if chosen.len() == capacity {
                break;
            }
            let query = self.linking_query(candidate.slot(), by_codes);
            let shadowed =
                |held: &Candidate| self.near_candidate(&query, held.slot()).distance < candidate.distance;
            if !chosen.iter().any(shadowed) {
                chosen.push(candidate);
            }
        }
    }

    /// A stored vector as a query: by codes if there are any and `by_codes` is set. The vector of a deleted
    /// node may be missing (`Hnsw::near_candidate`), its codes are not.
    #[inline(always)]
    pub(super) fn linking_query(&self, slot: u32, by_codes: bool) -> Query<'_> {
        let query = self.store.query_of(slot);
        match by_codes || (self.has_deleted() && self.store.state(slot) == State::Deleted) {
            true => query,
            false => query.uncoded(),
        }
    }
}

/// Adds kept links that the heuristic did not choose; without room, they replace the farthest links that are
/// not kept.
fn keep_chosen(capacity: usize, scratch: &mut Scratch) {
    let Scratch { kept, chosen, .. } = scratch;
    for &kept_slot in kept.iter() {
        if chosen.iter().any(|candidate| candidate.slot() == kept_slot) {
            continue;
        }
        if chosen.len() >= capacity {
            match chosen.iter().rposition(|candidate| !kept.contains(&candidate.slot())) {
                Some(farthest) => _ = chosen.remove(farthest),
                // All links are kept. This cannot happen, because with M >= 4 the number of children is
                // limited to fewer.
                None => return,
            }
        }
        chosen.push(Candidate::new(f32::INFINITY, kept_slot));
    }
}

/// Adds the nearest candidates that the heuristic left out, if it has chosen fewer than `count`.
fn fill_up(count: usize, scratch: &mut Scratch) {
    let Scratch { candidates, chosen, .. } = scratch;
    let by_heuristic = chosen.len();
    let mut taken = 0;
    for &candidate in candidates.iter() {
        if chosen.len() >= count {
            break;
        }
        if taken < by_heuristic && chosen[taken] == candidate {
            taken += 1;
        } else {
            chosen.push(candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HnswParameters, Metric, VectorIndex, bytes_of};
    use std::collections::HashMap;

    /// By node and child: the cell of each kept link.
    fn kept_cells(index: &Hnsw) -> HashMap<(u32, u32), usize> {
        let mut cells = HashMap::new();
        for slot in 0..index.store.slot_count() {
            let mut cell = 0;
            index.graph.for_each_word(slot, 0, |word| {
                if is_kept(word) {
                    cells.insert((slot, slot_of(word)), cell);
                }
                cell += 1;
            });
        }
        cells
    }

    /// A pseudo-random order with far outliers in it: they are found over kept links.
    #[test]
    fn a_kept_link_moves_to_no_later_cell() {
        let index = Hnsw::new(HnswParameters { m: 4, ..HnswParameters::new(2, Metric::L2) });
        let (mut before, mut moved) = (HashMap::new(), 0);
        for id in 0..600_u32 {
            let at = (id * 229 % 600) as f32;
            let vector = if id % 10 == 9 { [5_000.0 + 10.0 * at, 9.0] } else { [at, 0.0] };
            index.insert(id, bytes_of(&vector)).expect("finite");
            if id % 7 == 3 {
                index.remove(id / 2);
            }
            let after = kept_cells(&index);
            for (link, cell) in &after {
                let cell_before = before.get(link).copied().unwrap_or(usize::MAX);
                assert!(*cell <= cell_before, "{link:?} moved from cell {cell_before} to {cell}");
                moved += u32::from(cell_before != usize::MAX);
            }
            before = after;
        }
        assert!(moved > 10_000, "{moved} kept links stayed");
    }
}
