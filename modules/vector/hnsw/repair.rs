//! Deletion: immediate for searches, in small steps for the graph.
//!
//! A deleted node first stays in the graph as a way through: searches walk over it and never return it. When
//! enough deleted nodes have gathered, they become a *batch*, and a sweep goes over all nodes, one slice with
//! each mutation. A node with links to deleted nodes gets the best links of those nodes instead. So each node
//! is repaired once for many deletes, no delete pays for a whole sweep, and all incoming links are found,
//! although no node has a list of them. The steps, and why no link ever points to a free slot:
//!
//! 1. *Gather.* Nodes are marked as deleted. Inserts do not link to a node that they see marked.
//! 2. *Wait* until every insert has ended that was pinned before the batch was closed: it may not have seen a
//!    mark.
//! 3. *Sweep* over the existing slots. Slots handed out later cannot link to the batch, because of 1 and 2,
//!    with one exception: a slot that becomes the entry keeps a link to the previous entry. The cut examines
//!    those too, after the inserts that may add such a link. The entry is replaced if it is in the batch.
//! 4. *Join the tree* of kept links again: a node that loses its parent gets another one, or no walk would
//!    find it (tree.rs). Until then, kept links to the batch remain. Then they are *cut*, and links to
//!    children that have got another parent are no longer kept.
//! 5. *Wait* until every search has ended that was pinned before the sweep ended: it may be at a node of the
//!    batch.
//! 6. *Free* the batch's slots.

use std::ops::Range;

use parking_lot::Mutex;

use super::Hnsw;
use super::graph::{Entry, is_kept, slot_of, unkept};
use super::insert::Occasion;
use super::tree::Tree;
use crate::candidates::Candidate;
use crate::scratch::Scratch;
use crate::store::State;

/// A batch is closed when this fraction of the live nodes is deleted (and at least `BATCH_MIN`). It bounds
/// the memory of deleted nodes.
const BATCH_FRACTION: usize = 32;
const BATCH_MIN: usize = 32;

/// Slots that one mutation examines. A sweep ends after `slots / SLICE` mutations, before half of the next
/// batch has gathered.
const SLICE: u32 = 2 * 2 * BATCH_FRACTION as u32;

/// As `SLICE`, for the tree: one bit decides for nearly all slots.
const TREE_SLICE: u32 = 8 * SLICE;

/// A node with fewer links in layer 0 than M divided by this, after its repair, is linked again.
const STARVED_FRACTION: usize = 4;

#[derive(Default)]
pub(super) struct Repair {
    gathering: Mutex<Vec<u32>>,
    /// Held by the thread that sweeps.
    sweep: Mutex<Sweep>,
}

#[derive(Default)]
struct Sweep {
    batch: Vec<u32>,
    phase: Phase,
    /// The slots of the batch.
    is_leaving: Bits,
    tree: Tree,
}

/// A bit for each slot.
#[derive(Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// For slots below `end`, none of them set.
    pub fn begin(&mut self, end: u32) {
        self.0.clear();
        self.0.resize(end.div_ceil(u64::BITS) as usize, 0);
    }

    /// For slots from `end` on, this returns false.
    pub fn has(&self, slot: u32) -> bool {
        self.0.get((slot / u64::BITS) as usize).is_some_and(|word| word >> (slot % u64::BITS) & 1 == 1)
    }

    pub fn set(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut((slot / u64::BITS) as usize) {
            *word |= 1 << (slot % u64::BITS);
        }
    }

    pub fn clear(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut((slot / u64::BITS) as usize) {
            *word &= !(1 << (slot % u64::BITS));
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Gather,
    /// Waits for inserts of this stamp or before.
    AwaitInserts(u64),
    Sweep {
        next: u32,
        end: u32,
    },
    Tree {
        next: u32,
        end: u32,
    },
    /// Waits for inserts of this stamp or before: they may have met the entry that is leaving, and keep a
    /// link to it.
    AwaitRaised(u64),
    Cut {
        next: u32,
        end: u32,
    },
    /// Waits for searches of this stamp or before.
    AwaitSearches(u64),
}

/// The result of one step of maintenance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Progress,
    /// There is nothing to do, or a thread to wait for.
    Idle,
}

impl Repair {
    pub fn gather(&self, slot: u32) {
        self.gathering.lock().push(slot);
    }

    /// Prevents every slot from being freed while the guard lives. Must be taken before the gate.
    pub fn hold(&self) -> impl Drop + '_ {
        self.sweep.lock()
    }
}

impl Hnsw {
    /// A mutation's share of the repair. The caller holds no pin.
    pub(super) fn maintain(&self) {
        if self.has_deleted() {
            let Some(mut sweep) = self.repair.sweep.try_lock() else { return };
            let enough = (self.store.len() / BATCH_FRACTION).max(BATCH_MIN);
            self.step(&mut sweep, enough);
        }
    }

    /// Repairs the graph around all nodes that are deleted now, and frees the slots that no running search
    /// holds: for idle times, and before a measurement. Waits for no thread; false if slots remain because of
    /// that.
    pub fn compact(&self) -> bool {
        let mut sweep = self.repair.sweep.lock();
        let _gate = self.gate.read();
        while self.has_deleted() {
            if self.step(&mut sweep, 1) == Step::Idle {
                return false;
            }
        }
        true
    }

    fn step(&self, sweep: &mut Sweep, enough: usize) -> Step {
        match sweep.phase {
            Phase::Gather => {
                let mut gathering = self.repair.gathering.lock();
                if gathering.len() < enough {
                    return Step::Idle;
                }
                sweep.batch.append(&mut gathering);
                sweep.phase = Phase::AwaitInserts(self.store.scratches().advance());
            }
            Phase::AwaitInserts(stamp) => {
                if !self.store.scratches().all_after(stamp) {
                    return Step::Idle;
                }
                let end = self.store.slot_count();
                sweep.is_leaving.begin(end);
                sweep.batch.iter().for_each(|&slot| sweep.is_leaving.set(slot));
                sweep.tree.begin(end);
                sweep.phase = Phase::Sweep { next: 0, end };
            }
            Phase::Sweep { next, end } => {
                let slice_end = end.min(next + SLICE);
                self.sweep_nodes(next..slice_end, sweep);
                sweep.phase = Phase::Sweep { next: slice_end, end };
                if slice_end == end {
                    sweep.tree.set_root(self.root_without(&sweep.is_leaving, end));
                    sweep.phase = Phase::Tree { next: 0, end };
                }
            }
            Phase::Tree { next, end } => {
                let slice_end = end.min(next + TREE_SLICE);
                self.join_nodes(next..slice_end, sweep);
                sweep.phase = Phase::Tree { next: slice_end, end };
                if slice_end == end {
                    self.leave_dead_entry(&sweep.tree, &sweep.is_leaving);
                    sweep.phase = Phase::AwaitRaised(self.store.scratches().advance());
                }
            }
            Phase::AwaitRaised(stamp) => {
                if !self.store.scratches().all_after(stamp) {
                    return Step::Idle;
                }
                sweep.phase = Phase::Cut { next: 0, end: self.store.slot_count() };
            }
            Phase::Cut { next, end } => {
                let slice_end = end.min(next + TREE_SLICE);
                self.cut_nodes(next..slice_end, sweep);
                sweep.phase = Phase::Cut { next: slice_end, end };
                if slice_end == end {
                    sweep.tree.end();
                    sweep.phase = Phase::AwaitSearches(self.store.scratches().advance());
                }
            }
            Phase::AwaitSearches(stamp) => {
                if !self.store.scratches().all_after(stamp) {
                    return Step::Idle;
                }
                let count = sweep.batch.len();
                sweep.batch.iter().for_each(|&slot| self.graph.displace(slot));
                self.store.release(sweep.batch.drain(..));
                self.deleted.fetch_sub(count, std::sync::atomic::Ordering::AcqRel);
                sweep.phase = Phase::Gather;
            }
        }
        Step::Progress
    }

    /// Repairs these nodes and records their children.
    fn sweep_nodes(&self, slots: Range<u32>, sweep: &mut Sweep) {
        let Sweep { tree, is_leaving, .. } = sweep;
        let mut scratch = self.store.pin();
        for slot in slots.filter(|&slot| self.is_node(slot, is_leaving)) {
            self.repair_node(slot, &mut scratch);
            self.graph.for_each_kept(slot, |child| tree.note_parent(child, slot));
        }
    }

    /// Ensures that these nodes descend from the root of the tree, if there is a root.
    fn join_nodes(&self, slots: Range<u32>, sweep: &mut Sweep) {
        let Sweep { tree, is_leaving, .. } = sweep;
        if tree.root().is_some() {
            let mut scratch = self.store.pin();
            for slot in slots.filter(|&slot| self.is_node(slot, is_leaving)) {
                self.join_tree(slot, tree, is_leaving, &mut scratch);
            }
        }
    }

    /// Removes the links of these nodes to nodes that are leaving, and no longer keeps links to children that
    /// have another parent.
    fn cut_nodes(&self, slots: Range<u32>, sweep: &Sweep) {
        let Sweep { tree, is_leaving, .. } = sweep;
        let mut words = Vec::with_capacity(self.graph.capacity(0));
        for slot in slots.filter(|&slot| self.is_node(slot, is_leaving)) {
            let _guard = self.graph.lock(slot);
            words.clear();
            let mut has_changed = false;
            self.graph.for_each_word(slot, 0, |word| {
                let link = slot_of(word);
                // A node that has become the entry after the root leads to the root over the entries between,
                // whose levels are no lower.
                let was_entry = tree.root().is_some_and(|root| self.graph.level(link) >= root.level);
                let is_kept = is_kept(word) && (was_entry || tree.may_be_parent(slot, link));
                let cut = if is_kept { word } else { unkept(word) };
                has_changed |= cut != word || is_leaving.has(link);
                words.extend(Some(cut).filter(|_| !is_leaving.has(link)));
            });
            if has_changed {
                self.graph.write_words(slot, 0, words.iter().copied());
            }
        }
    }

    /// Whether the slot has a node that stays. Pending slots belong to inserts that began after the batch was
    /// closed: they do not link to the batch, have parents, and may not have their blocks yet.
    pub(super) fn is_node(&self, slot: u32, is_leaving: &Bits) -> bool {
        !matches!(self.store.state(slot), State::Free | State::Pending)
            && !is_leaving.has(slot)
            && !self.store.is_member(slot)
    }

    /// Replaces a node's links to nodes that are leaving.
    fn repair_node(&self, slot: u32, scratch: &mut Scratch) {
        let level = self.graph.level(slot);
        let mut starved = false;
        for layer in 0..=level {
            let left = self.repair_block(slot, layer, scratch);
            starved |= layer == 0 && left.is_some_and(|left| left < self.parameters.m / STARVED_FRACTION);
        }
        if starved && self.store.state(slot) == State::Live && self.store.len() > 1 {
            self.link(slot, level, Occasion::Repair, scratch);
        }
    }

    /// Repairs the links of one layer, if one leads to a deleted node; returns the number of links then.
    fn repair_block(&self, slot: u32, layer: usize, scratch: &mut Scratch) -> Option<usize> {
        let _guard = self.graph.lock(slot);
        let is_deleted = |slot| self.store.state(slot) == State::Deleted;
        let mut broken = false;
        self.graph.for_each_link(slot, layer, |link| broken |= is_deleted(link));
        if !broken {
            return None;
        }
        let Scratch { visited, candidates, fresh, chosen, kept, .. } = scratch;
        visited.begin(self.store.slot_count());
        visited.insert(slot);
        chosen.clear();
        fresh.clear();
        kept.clear();
        if layer == 0 {
            // Children may as yet be reachable only over deleted nodes.
            self.graph.for_each_kept(slot, |link| kept.push(link));
        }
        self.graph.for_each_link(slot, layer, |link| {
            if is_deleted(link) && !kept.contains(&link) {
                fresh.push(link);
            } else if visited.insert(link) {
                // Links that stay were chosen against each other before; their distances are not needed
                // again.
                chosen.push(Candidate::new(0.0, link));
            }
        });
        let by_codes = self.store.links_by_codes(slot, slot);
        let query = self.linking_query(slot, by_codes);
        candidates.clear();
        for &gone in fresh.iter() {
            self.graph.for_each_link(gone, layer, |other| {
                if !is_deleted(other) && visited.insert(other) {
                    candidates.push(self.near_candidate(&query, other));
                }
            });
        }
        candidates.sort_unstable();
        // Considering all of them (M from each of a few deleted nodes) makes a replacement a tenth slower and
        // finds no more.
        candidates.truncate(self.parameters.m + fresh.len());
        // No more links than before: a denser graph would make every later walk and repair more expensive.
        let (kept, count) = (chosen.len(), chosen.len() + fresh.len());
        self.choose_more(count, by_codes, scratch);
        refill(kept, count, scratch);
        self.write_chosen(slot, layer, scratch);
        Some(scratch.chosen.len())
    }

    /// The root of the new tree of kept links: the entry, or the highest of the nodes that stay.
    pub(super) fn root_without(&self, is_leaving: &Bits, end: u32) -> Option<Entry> {
        let stays = |slot: u32| self.store.state(slot) == State::Live && self.is_node(slot, is_leaving);
        let entry = self.graph.entry().filter(|entry| entry.slot < end && stays(entry.slot));
        // Rare (the entry is one node of all), so examining every slot is affordable.
        entry.or_else(|| self.highest((0..end).filter(|&slot| stays(slot))))
    }

    fn highest(&self, slots: impl Iterator<Item = u32>) -> Option<Entry> {
        slots.map(|slot| Entry { slot, level: self.graph.level(slot) }).max_by_key(|entry| entry.level)
    }

    /// Moves the entry to the root of the tree, if the entry itself is leaving. A node that has become the
    /// entry since then leads to the root.
    fn leave_dead_entry(&self, tree: &Tree, is_leaving: &Bits) {
        let is_dead = |entry: &Entry| is_leaving.has(entry.slot);
        if self.graph.entry().is_some_and(|entry| is_dead(&entry)) {
            // A pending slot may become the entry because no other node was left.
            let is_there = |&slot: &u32| {
                matches!(self.store.state(slot), State::Live | State::Pending) && !self.store.is_member(slot)
            };
            let next = tree.root().or_else(|| self.highest((0..self.store.slot_count()).filter(is_there)));
            self.graph.change_entry(|entry| if entry.as_ref().is_some_and(is_dead) { next } else { entry });
        }
        if let (Some(entry), Some(root)) = (self.graph.entry(), tree.root())
            && entry.slot != root.slot
        {
            self.keep_link(entry.slot, root.slot, &mut self.store.pin());
        }
    }
}

/// Adds the nearest of the candidates that the heuristic left out, up to `count` links in total;
/// `chosen[kept..]` are those that it chose. The links that stay are in all directions and exclude most
/// candidates, so the heuristic finds too few: without this, degrees fall by a seventh with each sweep, and
/// recall falls with them.
fn refill(kept: usize, count: usize, scratch: &mut Scratch) {
    let Scratch { candidates, chosen, .. } = scratch;
    let mut taken = kept;
    let end = chosen.len();
    for &candidate in candidates.iter() {
        if chosen.len() == count {
            break;
        }
        if taken < end && chosen[taken] == candidate {
            taken += 1;
        } else {
            chosen.push(candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HnswParameters, Metric, SearchRequest, VectorIndex, bytes_of};

    #[test]
    fn a_sweep_links_nodes_without_incoming_links() {
        let index = Hnsw::new(HnswParameters { m: 4, ..HnswParameters::new(2, Metric::L2) });
        let vector = |id: u32| [(id % 23) as f32, (id / 23) as f32];
        for id in 0..500 {
            index.insert(id, bytes_of(&vector(id))).expect("finite");
        }
        let id = 77;
        let orphan = index.store.slot_of(id).expect("inserted");
        assert_ne!(index.graph.entry().map(|entry| entry.slot), Some(orphan), "found by being the entry");
        for slot in 0..index.store.slot_count() {
            for layer in 0..=index.graph.level(slot) {
                let mut links = Vec::new();
                index.graph.for_each_link(slot, layer, |link| links.push(link));
                links.retain(|&link| link != orphan);
                index.graph.write(slot, layer, links, &[]);
            }
        }
        let finds = || {
            let vector = vector(id);
            let found = index.search(&SearchRequest::new(bytes_of(&vector), 1, 20)).expect("fits");
            found.neighbors[0].id == id
        };
        assert!(!finds(), "no link leads there");
        assert!(index.remove(400));
        assert!(index.compact() && finds());
    }
}
