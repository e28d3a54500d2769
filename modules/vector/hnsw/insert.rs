//! Putting a node into the graph.
//!
//! The forward links of a new node, in all its layers, are written before anything points to it: who reaches it can
//! go on from there. Layer 0 keeps up to 2 M forward links that the heuristic chose, and back-links are pruned with the
//! same heuristic: popping the farthest instead leaves nodes that nothing points to.

use super::Hnsw;
use super::graph::{Appended, Entry};
use super::walk::Walker;
use crate::limits::Limits;
use crate::pool::Candidate;
use crate::scratch::Scratch;
use crate::store::State;
use crate::vectors::Placed;

/// Above this, a layer would hold less than one node of any set that fits in memory.
pub(super) const LEVEL_MAX: usize = 15;

impl Hnsw {
    /// Inserts a placed vector; returns the slot that it replaces.
    pub(super) fn insert_pinned(&self, id: u32, vector: &Placed, scratch: &mut Scratch) -> Option<u32> {
        let slot = self.store.admit(id, vector, &mut scratch.codes);
        let level = self.level_of(id);
        self.graph.place(slot, level);
        self.link(slot, level, scratch);
        self.store.commit(slot)
    }

    /// The level of a node depends on the seed and its id alone, not on the order in which threads insert.
    fn level_of(&self, id: u32) -> usize {
        let mut bits = self.parameters.seed ^ (u64::from(id) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        // Uniform in (0, 1], so that its logarithm is finite.
        let uniform = ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        ((-uniform.ln() / (self.parameters.m as f64).ln()) as usize).min(LEVEL_MAX)
    }

    /// Finds neighbours for a node in the layers up to `level` and links both ways. Also for a node that is already
    /// part of the graph but has lost its links.
    pub(super) fn link(&self, slot: u32, level: usize, scratch: &mut Scratch) {
        while let Some(entry) = self.graph.entry().or_else(|| self.become_first(slot, level)) {
            if self.link_from(entry, slot, level, scratch) || self.is_left_alone(entry, slot, level) {
                return;
            }
        }
    }

    /// `link`, starting at this entry. False when nobody was found.
    fn link_from(&self, entry: Entry, slot: u32, level: usize, scratch: &mut Scratch) -> bool {
        let query = self.store.query_of(slot);
        let top = level.min(entry.level);
        scratch.forward.clear();
        let mut walker = Walker::new(self, &query, Limits::default(), scratch);
        let mut start = walker.descend(entry, top);
        for layer in (0..=top).rev() {
            walker.nearest_linkable(start, layer, self.parameters.ef_construction);
            let scratch = &mut *walker.scratch;
            scratch.candidates.retain(|candidate| candidate.slot() != slot);
            if let Some(&nearest) = scratch.candidates.first() {
                start = nearest;
            }
            self.choose(self.graph.capacity(layer), scratch);
            let Scratch { chosen, forward, .. } = scratch;
            forward.extend(chosen.iter().map(|&candidate| (layer, candidate)));
        }
        let links = std::mem::take(&mut scratch.forward);
        for &(layer, neighbor) in &links {
            self.add_link(slot, layer, neighbor, scratch);
        }
        for &(layer, neighbor) in &links {
            self.add_link(neighbor.slot(), layer, Candidate::new(neighbor.distance, slot), scratch);
        }
        let found = !links.is_empty();
        scratch.forward = links;
        if level > entry.level {
            let raised = Entry { slot, level };
            self.graph.change_entry(|entry| entry.filter(|entry| entry.level >= level).or(Some(raised)));
        }
        found
    }

    /// A node without links is reached by nobody, unless it is the entry: it becomes that when the entry is deleted (and
    /// so was everything that can be reached from there). False when somebody else was faster: link to him.
    fn is_left_alone(&self, tried: Entry, slot: u32, level: usize) -> bool {
        let mut alone = true;
        self.graph.change_entry(|entry| {
            let living = entry.filter(|entry| self.store.state(entry.slot) != State::Deleted);
            alone = living.is_none_or(|living| living == tried || living.slot == slot);
            living.or(Some(Entry { slot, level }))
        });
        alone
    }

    /// Makes the node the entry of an empty graph. If another was faster, that one is returned.
    fn become_first(&self, slot: u32, level: usize) -> Option<Entry> {
        let mut other = None;
        self.graph.change_entry(|entry| {
            other = entry;
            entry.or(Some(Entry { slot, level }))
        });
        other
    }

    /// Adds one link to a node, pruning with the heuristic when there is no room.
    fn add_link(&self, node: u32, layer: usize, link: Candidate, scratch: &mut Scratch) {
        let _guard = self.graph.lock(node);
        if self.graph.append(node, layer, link.slot()) == Appended::Done {
            return;
        }
        let query = self.store.query_of(node);
        scratch.candidates.clear();
        scratch.candidates.push(link);
        self.graph.for_each_link(node, layer, |held| {
            scratch.candidates.push(self.store.near_candidate(&query, held));
        });
        scratch.candidates.sort_unstable();
        self.choose(self.graph.capacity(layer), scratch);
        self.graph.write(node, layer, scratch.chosen.iter().map(|candidate| candidate.slot()));
    }

    /// The neighbour selection heuristic (algorithm 4 of the paper, without extension and without refilling): from
    /// `candidates`, nearest first, `chosen` gets those that are nearer to the node than to any chosen before.
    /// So links go out in all directions, and what is nearer through a neighbour needs no link.
    pub(super) fn choose(&self, capacity: usize, scratch: &mut Scratch) {
        scratch.chosen.clear();
        self.choose_more(capacity, scratch);
    }

    /// As `choose`, beside what is chosen already.
    pub(super) fn choose_more(&self, capacity: usize, scratch: &mut Scratch) {
        let Scratch { candidates, chosen, .. } = scratch;
        for &candidate in candidates.iter() {
            if chosen.len() == capacity {
                break;
            }
            let query = self.store.query_of(candidate.slot());
            let shadowed =
                |held: &Candidate| self.store.near_distance(&query, held.slot()) < candidate.distance;
            if !chosen.iter().any(shadowed) {
                chosen.push(candidate);
            }
        }
    }
}
