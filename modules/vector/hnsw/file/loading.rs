//! A graph that was read from a file, while it gets its vectors back.

#![allow(unsafe_code, reason = "the graph's storage, shared between threads without locks")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::read::{Input, Nodes, load};
use super::{LoadError, fingerprint};
use crate::hnsw::{Hnsw, HnswParameters};
use crate::store::State;
use crate::vectors::{Placed, Vectors};
use crate::{SearchRequest, VectorIndex};

impl Hnsw {
    /// Reads the output of `save`, with two threads. Once it has its vectors, the graph answers exactly as
    /// the saved one did.
    pub fn load(input: &dyn Input) -> Result<Loading, LoadError> {
        load(input, true)
    }
}

impl Hnsw {
    /// Assigns ids to the restored slots. Called after all checksums were verified.
    pub(super) fn restore_nodes(&mut self, nodes: &Nodes) -> Result<(), LoadError> {
        for (slot, &state) in (0..).zip(&nodes.states) {
            match state {
                State::Live if nodes.is_headless(slot) => self.store.lose_head(slot),
                State::Live if !self.store.restore_id(slot) => {
                    return Err(LoadError::Damaged("two vectors with one id"));
                }
                State::Deleted => self.bury(slot),
                _ => {}
            }
        }
        nodes.members.iter().for_each(|&(member, place)| self.store.restore_member(member, place));
        Ok(())
    }
}

/// A loaded graph that gets its vectors back.
pub struct Loading {
    index: Hnsw,
    /// The fingerprint of each slot's vector.
    fingerprints: Vec<u64>,
    /// The state of each slot's vector: one of the constants below.
    progress: Vec<AtomicU8>,
}

/// The vector was not restored yet.
const EMPTY: u8 = 0;
/// A thread writes the vector.
const BEING_WRITTEN: u8 = 1;
/// The vector is restored, but its id does not have it any more.
const WRITTEN: u8 = 2;
/// The vector is restored, and its id has it.
const WANTED: u8 = 3;

impl Loading {
    pub(super) fn new(index: Hnsw, fingerprints: Vec<u64>) -> Loading {
        let progress = fingerprints.iter().map(|_| AtomicU8::new(EMPTY)).collect();
        Loading { index, fingerprints, progress }
    }

    pub fn parameters(&self) -> HnswParameters {
        self.index.parameters
    }

    /// The number of ids in the saved graph.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, id: u32) -> bool {
        self.index.contains(id)
    }

    /// The memory that vectors are restored to.
    pub fn vectors(&self) -> &Arc<Vectors> {
        self.index.vectors()
    }

    /// Restores the vector of an id; may be repeated. `None` if the saved graph does not have the id, or had
    /// another vector for it. Any number of threads may call this at once.
    pub fn restore(&self, id: u32, vector: &[u8]) -> Option<Placed> {
        let store = &self.index.store;
        let slot = store.slot_of(id)?;
        // A vector with a fingerprint that was checked needs no further check.
        if vector.len() != store.vector_bytes_each()
            || self.fingerprints[slot as usize] != fingerprint(vector)
        {
            return None;
        }
        let progress = &self.progress[slot as usize];
        match progress.compare_exchange(EMPTY, BEING_WRITTEN, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => {
                // SAFETY: only the thread that has set the mark writes the slot, and no thread reads it
                // before the next mark.
                unsafe { store.restore_vector(slot, vector) };
            }
            Err(BEING_WRITTEN) => return None,
            Err(_) => {}
        }
        progress.store(WANTED, Ordering::Release);
        Some(store.vector_at(slot))
    }

    /// Reads the memory that restoring these ids will read, so that the cache misses of many ids overlap. Has
    /// no other effect.
    pub fn prefetch(&self, ids: impl Iterator<Item = u32>) {
        let slots: Vec<u32> = ids.filter_map(|id| self.index.store.slot_of(id)).collect();
        let read = |&slot: &u32| {
            let (progress, fingerprint) = (&self.progress[slot as usize], self.fingerprints[slot as usize]);
            self.index.store.vectors().prefetch_holders(slot);
            fingerprint ^ u64::from(progress.load(Ordering::Relaxed))
        };
        std::hint::black_box(slots.iter().map(read).fold(0, |all, one| all ^ one));
    }

    /// The id will have no vector, unless it is restored again.
    pub fn forget(&self, id: u32) {
        let Some(slot) = self.index.store.slot_of(id) else { return };
        // The caller orders calls for the same id.
        _ = self.progress[slot as usize].compare_exchange(
            WANTED,
            WRITTEN,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Restores the vectors of places whose own ids have none: they get those of a member, which may differ
    /// within the tolerance. Returns these places.
    fn fill_places(&self) -> HashSet<u32> {
        let store = &self.index.store;
        let mut filled = HashSet::new();
        let is_written = |slot: u32| self.progress[slot as usize].load(Ordering::Acquire) >= WRITTEN;
        for (member, place) in store.copies().pairs() {
            if is_written(member) && !is_written(place.slot) {
                // SAFETY: `finish` owns the graph, and the place has no vector yet.
                unsafe { store.restore_vector(place.slot, store.vector_in(member)) };
                self.progress[place.slot as usize].store(WRITTEN, Ordering::Release);
                filled.insert(place.slot);
            }
        }
        filled
    }

    /// The graph, without the ids whose vectors were not restored.
    pub fn finish(self) -> Hnsw {
        let filled = self.fill_places();
        let Loading { index, progress, fingerprints } = self;
        for (slot, progress) in (0..).zip(progress) {
            let id = index.store.id_of(slot);
            if progress.into_inner() != WANTED && index.store.slot_of(id) == Some(slot) {
                index.remove(id);
            }
        }
        for (slot, fingerprint) in (0..).zip(fingerprints) {
            if index.store.state(slot) == State::Live && !index.store.is_member(slot) {
                let is_filled = filled.contains(&slot);
                index.make_place_known(slot, || {
                    if is_filled { index.fingerprint_of(slot) } else { fingerprint }
                });
            }
        }
        if index.store.centre().is_none() {
            // Walks would read vectors that were not restored.
            index.compact();
        }
        index
    }
}

/// Entry point for fuzzing: for any bytes, nothing panics, and memory stays within a constant times their
/// number. Loads them with checksums verified, and once more without, to reach the checks after those; uses
/// the graph if loading succeeds.
pub fn fuzz_load(bytes: &[u8]) {
    let _refused = load(&bytes, true).map(drop);
    let Ok(loading) = load(&bytes, false) else { return };
    let vector = vec![0; loading.index.store.vector_bytes_each()];
    (0..3).for_each(|id| _ = loading.restore(id, &vector));
    let index = loading.finish();
    for id in 0..3 {
        let _refused = index.insert(id, &vector);
        let _rows = index.search(&SearchRequest::new(&vector, 5, 10));
        index.remove(id);
    }
    index.compact();
}
