//! The exact index: vectors in slots, without a graph. A search scans all of them.
//!
//! A removed slot is reused when every search that could hold it has ended. There is nothing to repair.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::codes::CodeBuffer;
use crate::exact;
use crate::limits::Limits;
use crate::store::{Kind, Store};
use crate::vectors::{Placed, Vectors};
use crate::{
    Element, Metric, Neighbor, Quantization, RangeRequest, SearchOutcome, SearchRequest, Statistics,
    VectorError, VectorIndex,
};

pub struct Flat {
    store: Store,
    /// Deleted slots, oldest first, each with the epoch stamp that must pass before the slot is reused.
    deleted: Mutex<VecDeque<(u32, u64)>>,
}

impl Flat {
    /// An empty index for vectors of `dimension` (at least one) components.
    pub fn new(element: Element, dimension: usize, metric: Metric) -> Self {
        let store = Store::new(Kind { element, dimension, metric }, Quantization::None, false);
        Flat { store, deleted: Mutex::default() }
    }

    fn bury(&self, slot: u32) {
        let mut deleted = self.deleted.lock();
        deleted.push_back((slot, self.store.scratches().advance()));
    }

    /// Frees the slots that no search can hold.
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
    fn element(&self) -> Element {
        self.store.kind.element
    }

    fn dimension(&self) -> usize {
        self.store.kind.dimension
    }

    fn metric(&self) -> Metric {
        self.store.kind.metric
    }

    fn place(&self, vector: &[u8]) -> Result<Placed, VectorError> {
        self.reclaim();
        self.store.place(vector)
    }

    fn insert_placed(&self, id: u32, vector: &Placed) {
        let slot = self.store.admit(id, vector, &mut CodeBuffer::default());
        if let Some(old) = self.store.commit(slot) {
            self.store.leave(old);
            self.bury(old);
        }
    }

    fn remove(&self, id: u32) -> bool {
        let old = self.store.take(id);
        if let Some(slot) = old {
            self.store.leave(slot);
            self.bury(slot);
        }
        old.is_some()
    }

    fn contains(&self, id: u32) -> bool {
        self.store.contains(id)
    }

    fn vectors(&self) -> &Arc<Vectors> {
        self.store.vectors()
    }

    fn vector(&self, id: u32) -> Option<Placed> {
        self.store.vector_of(id)
    }

    fn distances(&self, query: &[u8], vectors: &[(u32, Placed)]) -> Result<Vec<Neighbor>, VectorError> {
        self.store.distances(query, vectors)
    }

    fn search(&self, request: &SearchRequest<'_>) -> Result<SearchOutcome, VectorError> {
        let limits = Limits { filter: request.filter, deadline: request.deadline };
        self.store.answer(request.query, |query, scratch| match request.k {
            0 => SearchOutcome::default(),
            k => exact::nearest(&self.store, query, k, limits, scratch),
        })
    }

    fn search_range(&self, request: &RangeRequest<'_>) -> Result<SearchOutcome, VectorError> {
        let limits = Limits { filter: request.filter, deadline: request.deadline };
        self.store.answer(request.query, |query, scratch| {
            exact::within(&self.store, query, request, limits, scratch)
        })
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
            entry: None,
            vector_bytes: self.store.vector_bytes(),
            link_bytes: 0,
            other_bytes: self.store.other_bytes(),
        }
    }
}
