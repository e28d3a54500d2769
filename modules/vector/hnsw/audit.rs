//! Reference answers for comparison with a search: the exact answer from the vectors of all nodes, and a walk
//! that does not use codes.
//!
//! The exact answer is computed in slices, so that its caller can pause, stop, or yield the processor between
//! two of them: a slice pins the graph's memory, a pause does not. The answer is correct for ids that keep
//! their vectors from the first slice to the last; the caller knows which do.

use std::collections::BinaryHeap;

use super::Hnsw;
use crate::scan::for_each_allowed;
use crate::{Filter, Neighbor, SearchOutcome, SearchRequest, VectorError};

/// Bytes of vectors that a slice reads: about 0.1 ms.
const SLICE_BYTES: usize = 1 << 20;

/// The `k` nearest of the ids that were examined so far.
#[derive(Debug)]
pub struct ExactSearch {
    k: usize,
    /// A heap with the farthest row on top.
    nearest: BinaryHeap<Neighbor>,
    /// Ids below this were examined.
    next: u64,
}

impl ExactSearch {
    pub fn new(k: usize) -> ExactSearch {
        ExactSearch { k, nearest: BinaryHeap::with_capacity(k.min(1 << 10) + 1), next: 0 }
    }

    fn push(&mut self, row: Neighbor) {
        if self.nearest.len() < self.k {
            self.nearest.push(row);
        } else if let Some(mut farthest) = self.nearest.peek_mut()
            && row < *farthest
        {
            *farthest = row;
        }
    }

    /// The rows, nearest first.
    pub fn into_rows(self) -> Vec<Neighbor> {
        self.nearest.into_sorted_vec()
    }
}

impl Hnsw {
    /// Examines the next ids that the filter allows, in the calling thread. False when none are left.
    pub fn exact_slice(
        &self,
        search: &mut ExactSearch,
        query: &[u8],
        filter: Option<&dyn Filter>,
    ) -> Result<bool, VectorError> {
        let store = &self.store;
        store.check(query)?;
        let (first, bound) = (search.next, store.id_bound());
        if first >= bound {
            return Ok(false);
        }
        let ids = (SLICE_BYTES / store.vector_bytes_each()).max(1) as u64;
        let end = bound.min(first + ids);
        let _pinned = store.pin();
        let query = store.query(query);
        for_each_allowed(store, filter, first as u32..=(end - 1) as u32, &mut |id, slot| {
            let distance = store.replied(&query, slot, store.distance(&query, slot));
            search.push(Neighbor { id, distance });
        });
        search.next = end;
        Ok(end < bound)
    }

    /// As `search`, but the walk reads vectors even if there are codes.
    pub fn search_by_vectors(&self, request: &SearchRequest<'_>) -> Result<SearchOutcome, VectorError> {
        self.store.answer(request.query, |query, scratch| self.search_for(&query.uncoded(), request, scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Element, HnswParameters, Metric, VectorIndex, bytes_of};

    fn spread(id: u32, dimension: usize) -> Vec<f32> {
        (0..dimension as u32).map(|at| ((id * 31 + at * 17) % 101) as f32 - 50.0).collect()
    }

    #[test]
    fn slices_together_find_what_a_scan_finds() {
        let dimension = 70;
        for metric in Metric::ALL {
            let graph = Hnsw::new(HnswParameters::new(dimension, metric));
            // Ids are not consecutive: some have no vector.
            (0..6_000).for_each(|id| graph.insert(id * 3, bytes_of(&spread(id, dimension))).expect("fits"));
            let query = spread(7_777, dimension);
            let query = bytes_of(&query);
            let mut search = ExactSearch::new(25);
            let mut slices = 1;
            while graph.exact_slice(&mut search, query, None).expect("fits") {
                slices += 1;
            }
            assert!(slices > 3, "{slices}");
            let mut all: Vec<_> = (0..18_000).filter_map(|id| Some((id, graph.vector(id)?))).collect();
            all.truncate(6_000);
            let mut expected = graph.distances(query, &all).expect("fits");
            expected.sort_unstable();
            expected.truncate(25);
            assert_eq!(search.into_rows(), expected, "{metric:?}");
        }
    }

    #[test]
    fn doubles_are_compared_as_doubles() {
        let parameters = HnswParameters::of(Element::F64, 1, Metric::L2);
        let graph = Hnsw::new(parameters);
        let near = [1.0, 1.0 + 1e-12, 1.0 + 2e-12];
        for (id, value) in near.iter().rev().enumerate() {
            graph.insert(id as u32, &f64::to_le_bytes(*value)).expect("fits");
        }
        let mut search = ExactSearch::new(2);
        while graph.exact_slice(&mut search, &0.0_f64.to_le_bytes(), None).expect("fits") {}
        let ids: Vec<u32> = search.into_rows().iter().map(|row| row.id).collect();
        assert_eq!(ids, [2, 1]);
    }
}
