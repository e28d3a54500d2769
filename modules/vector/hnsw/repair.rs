//! Deleting: at once for searches, in small steps for the graph.
//!
//! A deleted node first stays as a way through: searches walk over it and never return it. When enough have
//! gathered, they are taken as a *batch*, and a sweep goes over all nodes, a slice with each mutation; a node that
//! has links to deleted ones gets the best of the deleted nodes' links in their place. So each
//! node is repaired once for many deletes, no delete pays for a whole sweep, and in-links, of which no node has a
//! list, are all found. The steps, and why no link ever points to a free slot:
//!
//! 1. *Gather.* Nodes are marked as deleted. Inserts do not link to a node that they see marked.
//! 2. *Wait* until every insert has ended that was pinned before the batch was closed: it may not have seen a mark.
//! 3. *Sweep* over the slots there are. Slots given out later cannot link to the batch, because of 1 and 2.
//!    The entry is replaced if it is in the batch.
//! 4. *Adopt* orphans: what no node points to any more, by deletes or by pruning, is linked anew, or no walk would find it.
//! 5. *Wait* until every search has ended that was pinned before the sweep ended: it may stand on the batch.
//! 6. *Free* the batch's slots.

use parking_lot::Mutex;

use super::Hnsw;
use super::graph::Entry;
use crate::pool::Candidate;
use crate::scratch::Scratch;
use crate::store::State;

/// A batch is closed when this fraction of the live nodes is deleted (and at least `BATCH_MIN`): about what memory the
/// deleted ones may hold.
const BATCH_FRACTION: usize = 32;
const BATCH_MIN: usize = 32;

/// Slots that one mutation looks at. A sweep ends after `slots / SLICE` mutations: before half of the next batch has
/// gathered.
const SLICE: u32 = 2 * 2 * BATCH_FRACTION as u32;

/// As `SLICE`, for adoption: a look at a bit is enough for nearly all.
const ADOPT_SLICE: u32 = 8 * SLICE;

/// A node with fewer links in layer 0 after its repair, relative to M, is linked anew.
const STARVED_FRACTION: usize = 4;

#[derive(Default)]
pub(super) struct Repair {
    gathering: Mutex<Vec<u32>>,
    /// Held by the one thread that sweeps.
    sweep: Mutex<Sweep>,
}

struct Sweep {
    batch: Vec<u32>,
    phase: Phase,
    /// A bit for each slot that a node pointed to in layer 0 when the sweep came to it.
    pointed_to: Vec<u64>,
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep { batch: Vec::new(), phase: Phase::Gather, pointed_to: Vec::new() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Gather,
    /// For inserts of this stamp or before.
    AwaitInserts(u64),
    Sweep {
        next: u32,
        end: u32,
    },
    Adopt {
        next: u32,
        end: u32,
    },
    /// For searches of this stamp or before.
    AwaitSearches(u64),
}

/// What a step of maintenance came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Progress,
    /// Nothing to do, or somebody to wait for.
    Idle,
}

impl Repair {
    pub fn gather(&self, slot: u32) {
        self.gathering.lock().push(slot);
    }

    /// Keeps every slot from being freed for as long as the guard lives. Taken before the gate.
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

    /// Repairs the graph around everything that is deleted now and frees what no running search holds: for idle
    /// times, and before a measurement. Waits for nobody; false when something is left because of that.
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
                sweep.pointed_to.clear();
                sweep.pointed_to.resize(end.div_ceil(u64::BITS) as usize, 0);
                sweep.phase = Phase::Sweep { next: 0, end };
            }
            Phase::Sweep { next, end } if next < end => {
                let slice_end = end.min(next + SLICE);
                let mut scratch = self.store.pin();
                for slot in next..slice_end {
                    self.repair_node(slot, &mut sweep.pointed_to, &mut scratch);
                }
                sweep.phase = Phase::Sweep { next: slice_end, end };
            }
            Phase::Sweep { end, .. } => {
                self.leave_dead_entry();
                sweep.phase = Phase::Adopt { next: 0, end };
            }
            Phase::Adopt { next, end } if next < end => {
                let slice_end = end.min(next + ADOPT_SLICE);
                let mut scratch = self.store.pin();
                for slot in (next..slice_end).filter(|&slot| !has_bit(&sweep.pointed_to, slot)) {
                    self.adopt(slot, &mut scratch);
                }
                sweep.phase = Phase::Adopt { next: slice_end, end };
            }
            Phase::Adopt { .. } => {
                sweep.phase = Phase::AwaitSearches(self.store.scratches().advance());
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

    /// Replaces a node's links to deleted nodes, and marks to whom it points then.
    fn repair_node(&self, slot: u32, pointed_to: &mut [u64], scratch: &mut Scratch) {
        // Pending ones belong to inserts that began after the batch was closed, and may not have their blocks yet.
        if matches!(self.store.state(slot), State::Free | State::Pending) {
            return;
        }
        let level = self.graph.level(slot);
        let mut starved = false;
        for layer in 0..=level {
            let left = self.repair_block(slot, layer, scratch);
            starved |= layer == 0 && left.is_some_and(|left| left < self.parameters.m / STARVED_FRACTION);
        }
        if starved && self.store.state(slot) == State::Live && self.store.len() > 1 {
            self.link(slot, level, scratch);
        }
        if self.store.state(slot) == State::Live {
            self.graph.for_each_link(slot, 0, |link| set_bit(pointed_to, link));
        }
    }

    /// Links a node anew to which the sweep saw nobody point, and nobody that it points to does.
    fn adopt(&self, slot: u32, scratch: &mut Scratch) {
        if self.store.state(slot) != State::Live || self.store.len() == 1 {
            return;
        }
        // Those that came in during the sweep have links from nodes that it had looked at before.
        let mut is_linked = false;
        self.graph.for_each_link(slot, 0, |neighbor| {
            if self.store.state(neighbor) == State::Live {
                self.graph.for_each_link(neighbor, 0, |back| is_linked |= back == slot);
            }
        });
        if !is_linked {
            self.link(slot, self.graph.level(slot), scratch);
        }
    }

    /// Repairs the links of one layer, if any is to a deleted node; how many there are then.
    fn repair_block(&self, slot: u32, layer: usize, scratch: &mut Scratch) -> Option<usize> {
        let _guard = self.graph.lock(slot);
        let is_deleted = |slot| self.store.state(slot) == State::Deleted;
        let mut broken = false;
        self.graph.for_each_link(slot, layer, |link| broken |= is_deleted(link));
        if !broken {
            return None;
        }
        let Scratch { visited, candidates, fresh, chosen, .. } = scratch;
        visited.begin(self.store.slot_count());
        visited.insert(slot);
        chosen.clear();
        fresh.clear();
        self.graph.for_each_link(slot, layer, |link| {
            if is_deleted(link) {
                fresh.push(link);
            } else if visited.insert(link) {
                // Links that stay were chosen against each other before; their distances are not needed again.
                chosen.push(Candidate::new(0.0, link));
            }
        });
        let query = self.store.query_of(slot);
        candidates.clear();
        for &gone in fresh.iter() {
            self.graph.for_each_link(gone, layer, |other| {
                if !is_deleted(other) && visited.insert(other) {
                    candidates.push(self.store.near_candidate(&query, other));
                }
            });
        }
        candidates.sort_unstable();
        // All of them (M each from a few deleted nodes) cost a tenth of a replacement more and find no more.
        candidates.truncate(self.parameters.m + fresh.len());
        // No more than there were: a denser graph would make every later walk and repair dearer.
        let (kept, count) = (chosen.len(), chosen.len() + fresh.len());
        self.choose_more(count, scratch);
        refill(kept, count, scratch);
        self.graph.write(slot, layer, scratch.chosen.iter().map(|candidate| candidate.slot()));
        Some(scratch.chosen.len())
    }

    /// Moves the entry to the highest node that is not deleted, if it is itself.
    fn leave_dead_entry(&self) {
        // A pending one may have become the entry because nothing else was left.
        let is_there = |slot| matches!(self.store.state(slot), State::Live | State::Pending);
        let Some(entry) = self.graph.entry().filter(|entry| !is_there(entry.slot)) else { return };
        // Rare (the entry is one node of all), so a look at every slot is affordable.
        let highest = (0..self.store.slot_count())
            .filter(|&slot| is_there(slot))
            .map(|slot| Entry { slot, level: self.graph.level(slot) })
            .max_by_key(|entry| entry.level);
        self.graph.change_entry(|current| if current == Some(entry) { highest } else { current });
    }
}

/// Adds the nearest of the candidates that the heuristic left out, up to `count` links; those from `kept` on are what it chose. The
/// links that stay come from all sides and shadow most candidates, so that it finds too few: without this degrees fall by a seventh,
/// round by round, and recall falls with them.
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

fn has_bit(bits: &[u64], slot: u32) -> bool {
    bits[(slot / u64::BITS) as usize] >> (slot % u64::BITS) & 1 == 1
}

/// Slots beyond the end are newer than the sweep, which does not ask about them.
fn set_bit(bits: &mut [u64], slot: u32) {
    if let Some(word) = bits.get_mut((slot / u64::BITS) as usize) {
        *word |= 1 << (slot % u64::BITS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HnswParameters, Metric, SearchRequest, VectorIndex, bytes_of};

    #[test]
    fn a_sweep_links_what_nobody_points_to() {
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
                index.graph.write(slot, layer, links);
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
