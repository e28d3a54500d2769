//! The exact index: vectors in slots, nothing else. A search looks at all of them.
//!
//! Removed slots are reused once every search that could hold them has ended; there is nothing to repair.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::codes::CodeBuffer;
use crate::exact::{self, Limits};
use crate::store::Store;
use crate::{
    Metric, Quantization, RangeRequest, SearchOutcome, SearchRequest, Statistics, VectorError, VectorIndex,
};

pub struct Flat {
    store: Store,
    /// Deleted slots, oldest first, each with the stamp that must pass before it is reused.
    deleted: Mutex<VecDeque<(u32, u64)>>,
}

impl Flat {
    /// An empty index for vectors of `dimension` (at least one) components.
    pub fn new(dimension: usize, metric: Metric) -> Self {
        Flat { store: Store::new(dimension, metric, Quantization::None), deleted: Mutex::default() }
    }

    fn bury(&self, slot: u32) {
        let mut deleted = self.deleted.lock();
        deleted.push_back((slot, self.store.scratches().advance()));
    }

    /// Frees what no search can hold any more.
    fn reclaim(&self) {
        let Some(mut deleted) = self.deleted.try_lock() else { return };
        while let Some(&(slot, stamp)) = deleted.front() {
            if !self.store.scratches().all_after(stamp) {
                return;
            }
            deleted.pop_front();
            self.store.release([slot]);
        }
    }
}

impl VectorIndex for Flat {
    fn dimension(&self) -> usize {
        self.store.dimension
    }

    fn metric(&self) -> Metric {
        self.store.metric
    }

    fn insert(&self, id: u32, vector: &[f32]) -> Result<(), VectorError> {
        self.store.check(vector)?;
        self.reclaim();
        let slot = self.store.allocate(id, vector, &mut CodeBuffer::default())?;
        if let Some(old) = self.store.commit(slot) {
            self.bury(old);
        }
        Ok(())
    }

    fn remove(&self, id: u32) -> bool {
        let old = self.store.take(id);
        if let Some(slot) = old {
            self.bury(slot);
        }
        old.is_some()
    }

    fn contains(&self, id: u32) -> bool {
        self.store.contains(id)
    }

    fn vector(&self, id: u32, out: &mut Vec<f32>) -> bool {
        self.store.copy_vector(id, out)
    }

    fn distance(&self, id: u32, query: &[f32]) -> Option<f32> {
        self.store.distance_of(id, query)
    }

    fn search(&self, request: &SearchRequest<'_>) -> Result<SearchOutcome, VectorError> {
        self.store.check(request.query)?;
        if request.k == 0 {
            return Ok(SearchOutcome::default());
        }
        let limits = Limits { filter: request.filter, deadline: request.deadline };
        let mut scratch = self.store.pin();
        let mut aligned = std::mem::take(&mut scratch.query);
        let query = self.store.query(aligned.copy(request.query));
        let outcome = exact::nearest(&self.store, &query, request.k, limits, &mut scratch);
        scratch.query = aligned;
        Ok(outcome)
    }

    fn search_range(&self, request: &RangeRequest<'_>) -> Result<SearchOutcome, VectorError> {
        self.store.check(request.query)?;
        let limits = Limits { filter: request.filter, deadline: request.deadline };
        let mut scratch = self.store.pin();
        let mut aligned = std::mem::take(&mut scratch.query);
        let query = self.store.query(aligned.copy(request.query));
        let outcome = exact::within(&self.store, &query, request.radius, limits, &mut scratch);
        scratch.query = aligned;
        Ok(outcome)
    }

    fn len(&self) -> usize {
        self.store.len()
    }

    fn statistics(&self) -> Statistics {
        Statistics {
            live: self.store.len(),
            deleted: self.deleted.lock().len(),
            slots: self.store.slot_count() as usize,
            top_layer: 0,
            vector_bytes: self.store.vector_bytes(),
            link_bytes: 0,
            other_bytes: self.store.other_bytes(),
        }
    }
}
