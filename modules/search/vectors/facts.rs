//! What a vector field says of itself, for operators: its numbers, and how it was searched last.

use super::workers::WorkerCaller;
use super::{Cost, TAIL_ENTRY_BYTES, VectorField};
use engramdb_vector::Statistics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How a vector field is searched, in RediSearch's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchMode {
    /// It was not searched yet.
    None,
    /// Nearest neighbours without a filter.
    Standard,
    /// The documents that a filter left were compared one by one.
    Scan,
    /// The graph was walked under the filter, or a filter that leaves many documents did not prevent a scan.
    Wide,
    /// The same, but too few documents were found, and those that the filter left were compared one by one.
    WideThenScan,
    /// All within a radius.
    Range,
}

impl SearchMode {
    const ALL: [SearchMode; 6] = [
        SearchMode::None,
        SearchMode::Standard,
        SearchMode::Scan,
        SearchMode::Wide,
        SearchMode::WideThenScan,
        SearchMode::Range,
    ];

    /// The mode of a search for `k` neighbours under a filter that had this cost. A scan has the name that
    /// RediSearch's choice would have by how many documents the filter was expected to leave: it compares one
    /// by one what a narrow filter leaves, or the policy says so. Of a wide filter it takes batches of near
    /// documents, until these turn out to contain too few matches.
    pub fn of_filter(filter: FilterWidth, k: usize, cost: &Cost, is_exact: bool) -> SearchMode {
        let FilterWidth { all, expected, left } = filter;
        let is_narrow = all <= NARROW_INDEX || expected <= all / NARROW_SHARE;
        match cost.visited > 0 {
            true if cost.exact => SearchMode::WideThenScan,
            true => SearchMode::Wide,
            false if is_narrow || is_exact => SearchMode::Scan,
            false if left < k => SearchMode::WideThenScan,
            false => SearchMode::Wide,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            SearchMode::None => "EMPTY_MODE",
            SearchMode::Standard => "STANDARD_KNN",
            SearchMode::Scan => "HYBRID_ADHOC_BF",
            SearchMode::Wide => "HYBRID_BATCHES",
            SearchMode::WideThenScan => "HYBRID_BATCHES_TO_ADHOC_BF",
            SearchMode::Range => "RANGE_QUERY",
        }
    }
}

/// The documents of an index, those that its filter was expected to leave at most, and those that it left.
#[derive(Clone, Copy, Debug)]
pub struct FilterWidth {
    pub all: usize,
    pub expected: usize,
    pub left: usize,
}

/// RediSearch compares the matches of a filter one by one in indexes of at most this many documents, and
/// where the filter leaves at most this part of them.
const NARROW_INDEX: usize = 5500;
const NARROW_SHARE: usize = 6;

/// The mode of the last search.
#[derive(Debug, Default)]
pub struct LastMode(AtomicU8);

impl LastMode {
    pub fn get(&self) -> SearchMode {
        SearchMode::ALL[self.0.load(Ordering::Relaxed) as usize]
    }

    /// Writes only what differs, so that searches on several threads do not exchange the cache line.
    pub fn note(&self, mode: SearchMode) {
        if self.get() != mode {
            self.0.store(mode as u8, Ordering::Relaxed);
        }
    }
}

/// The numbers of a field.
pub struct VectorFacts {
    /// Of the graph or flat index, without the tail.
    pub index: Statistics,
    pub index_bytes: usize,
    /// Vectors in the tail, which the graph does not have yet.
    pub buffered: usize,
    pub buffered_bytes: usize,
    /// Vectors that searches find: those of the index as the tail changes them.
    pub live: usize,
    /// Vectors of the index that were deleted or replaced and whose memory is not free yet, with those that
    /// the tail says are to be.
    pub deleted: usize,
    pub tail_max: usize,
    pub mode: SearchMode,
}

impl VectorField {
    pub fn facts(&self) -> VectorFacts {
        let structure = self.structure();
        let index = structure.index();
        let (mut added, mut removed, mut replaced, mut buffered) = (0, 0, 0, 0);
        for (&id, pending) in self.tail.read().iter() {
            buffered += usize::from(pending.vector.is_some());
            match (&pending.vector, index.contains(id)) {
                (Some(_), false) => added += 1,
                (Some(_), true) => replaced += 1,
                (None, true) => removed += 1,
                (None, false) => {}
            }
        }
        let statistics = index.statistics();
        VectorFacts {
            index: statistics,
            index_bytes: index.memory_bytes(),
            buffered,
            buffered_bytes: self.pending() * TAIL_ENTRY_BYTES,
            live: (statistics.live + added).saturating_sub(removed),
            deleted: statistics.deleted + removed + replaced,
            tail_max: self.load.tail_max(),
            mode: self.last_mode.get(),
        }
    }

    /// Applies what is pending. False if something is left, because other threads are busy with it, or came
    /// meanwhile.
    pub fn drain_all(self: &Arc<Self>, workers: &WorkerCaller) -> bool {
        if self.settle() {
            workers.call(self);
        }
        self.pending() == 0
    }

    /// Applies what is pending, repairs the graph around deleted nodes, and frees their memory. False if
    /// something is left, because other threads are busy with it.
    pub fn collect(self: &Arc<Self>, workers: &WorkerCaller) -> bool {
        self.drain_all(workers) && self.structure().graph().is_none_or(|graph| graph.compact())
    }
}
