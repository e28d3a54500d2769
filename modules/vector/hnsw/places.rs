//! How an insert finds the place of documents with an equal vector (copies.rs).
//!
//! The copy of a new vector is the nearest node, so the walk that looks for the new node's neighbours meets
//! it. There are two exceptions: under the inner product longer vectors are nearer, and an all-zero vector is
//! at cosine distance 1 from every vector. Their places are found in a table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parking_lot::Mutex;

use super::Hnsw;
use super::file::fingerprint;
use crate::Metric;
use crate::copies::squares_of_copies;
use crate::scratch::Scratch;
use crate::store::State;

/// The number of nearest candidates that are compared with a new vector.
const COMPARED: usize = 4;

/// A cosine distance that copies can have because of rounding. Candidates up to this distance are compared
/// component by component.
const COSINE_OF_COPIES: f32 = 2e-6;

/// Slots by half of the fingerprint of their vectors. Of two slots with the same half, the second is not in
/// the table.
#[derive(Default)]
pub(super) struct KnownPlaces(Mutex<HashMap<u32, u32>>);

impl KnownPlaces {
    pub fn bytes(&self) -> usize {
        self.0.lock().capacity() * size_of::<(u32, u32)>()
    }
}

impl Hnsw {
    /// Whether the slot's vector is one that a walk for it does not find.
    fn is_looked_up(&self, slot: u32) -> bool {
        match self.parameters.metric {
            Metric::InnerProduct => true,
            Metric::Cosine => self.store.inverse_norm_of(slot) == 0.0,
            Metric::L2 => false,
        }
    }

    pub(super) fn fingerprint_of(&self, slot: u32) -> u64 {
        fingerprint(self.store.vector_in(slot))
    }

    /// Makes a slot that is not linked yet a member of the place that already has its vector, if the vector
    /// is one that needs the table.
    pub(super) fn join_known_place(&self, slot: u32) -> bool {
        if !self.is_looked_up(slot) {
            return false;
        }
        let known = self.known_places.0.lock().get(&(self.fingerprint_of(slot) as u32)).copied();
        let place = known.and_then(|other| self.store.as_place(slot, other));
        place.is_some_and(|place| self.store.join(slot, place))
    }

    /// From now on, inserts of copies of this slot's vector find the slot in the table.
    pub(super) fn make_place_known(&self, slot: u32, fingerprint: impl FnOnce() -> u64) {
        if self.is_looked_up(slot) {
            let fingerprint = fingerprint() as u32;
            let mut known = self.known_places.0.lock();
            let place = known.entry(fingerprint).or_insert(slot);
            if matches!(self.store.state(*place), State::Free | State::Deleted) {
                *place = slot;
            }
        }
    }

    pub(super) fn forget_copies_of(&self, slot: u32) {
        if !self.is_looked_up(slot) {
            return;
        }
        let fingerprint = self.fingerprint_of(slot) as u32;
        if let Entry::Occupied(place) = self.known_places.0.lock().entry(fingerprint)
            && *place.get() == slot
        {
            place.remove();
        }
    }

    /// Makes a slot that is not linked yet a member of a place among its nearest neighbours, which are in
    /// `scratch.nearest`.
    pub(super) fn join_nearest_place(&self, slot: u32, scratch: &Scratch) -> bool {
        let nearest = scratch.nearest.iter().take(COMPARED).filter(|candidate| candidate.slot() != slot);
        if nearest.clone().next().is_none() {
            return false;
        }
        let farthest = self.distance_of_copies(slot);
        let mut alike = nearest.filter(|candidate| candidate.distance <= farthest);
        alike.any(|candidate| {
            let place = self.store.as_place(slot, candidate.slot());
            place.is_some_and(|place| self.store.join(slot, place))
        })
    }

    /// The largest distance that a copy of the slot's vector can have.
    fn distance_of_copies(&self, slot: u32) -> f32 {
        match self.parameters.metric {
            Metric::Cosine => COSINE_OF_COPIES,
            Metric::L2 => {
                let inverse_length = self.parameters.element.inverse_norm(self.store.vector_in(slot));
                let length = if inverse_length > 0.0 { 1.0 / inverse_length } else { 0.0 };
                squares_of_copies(self.parameters.dimension) * length * length
            }
            Metric::InnerProduct => f32::NEG_INFINITY,
        }
    }
}
