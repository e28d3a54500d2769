//! The HNSW graph in flat arrays.
//!
//! Why not an existing crate: a walk is bound by memory, so the memory layout determines its speed. Vectors,
//! layer-0 links (2 M per node, in one block) and upper links are in slabs that never move; visited marks are
//! one byte per slot; the beam is a sorted array; a search allocates only its result.
//!
//! graph.rs has the links, search.rs answers requests, walk.rs walks, filtered.rs walks under a filter,
//! insert.rs links nodes, newcomers.rs links those that are inserted at the same time, places.rs handles
//! documents with equal vectors, tree.rs keeps every node reachable, repair.rs deletes, check.rs verifies,
//! file/ has the saved form. effort.rs and calibration.rs serve searches with a requested recall, recode.rs
//! recomputes codes, rejoin.rs restores reachability, audit.rs gives reference answers.
//!
//! Walks and linking use compact codes of the vectors (codes.rs) for dimensions where that pays. The
//! candidates found are ranked again by the vectors, so that returned distances are exact (ranking.rs). Range
//! requests are answered by a scan, or by a walk where its answer is reliable (search.rs).

mod audit;
mod calibration;
mod check;
#[cfg(test)]
mod copies_tests;
mod effort;
mod file;
mod filtered;
mod graph;
mod insert;
mod newcomers;
mod places;
mod recode;
mod rejoin;
mod repair;
mod search;
mod tree;
mod walk;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

pub use self::audit::ExactSearch;
pub use self::check::GraphCheck;
use self::effort::Effort;
pub use self::file::{Input, LoadError, Loading, fuzz_load};
use self::graph::Graph;
use self::newcomers::Newcomers;
use self::places::KnownPlaces;
pub use self::recode::Recoding;
use self::repair::Repair;
use crate::store::{Kind, Store};
use crate::vectors::{Placed, Vectors};
use crate::{
    Element, Metric, Neighbor, Quantization, RangeRequest, SearchOutcome, SearchRequest, Statistics,
    VectorError, VectorIndex,
};

/// The parameters of a graph. They are fixed when the graph is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HnswParameters {
    pub element: Element,
    /// Components of each vector, at least one.
    pub dimension: usize,
    pub metric: Metric,
    /// M: links of a node in each layer above 0, half of those in layer 0. From 4 to 2,048 (`Hnsw::new`
    /// clamps).
    pub m: usize,
    /// The width of the beam that finds the neighbours of a new node; at least M is used.
    pub ef_construction: usize,
    /// Determines, together with the id, the number of layers of a node.
    pub seed: u64,
    /// The codes that walks read instead of the vectors.
    pub quantization: Quantization,
}

/// Dimensions for which codes are used by default. Below, a vector is a few cache lines, and its code is
/// imprecise; above, products of codes would overflow their sums.
const QUANTIZED_DIMENSIONS: RangeInclusive<usize> = 64..=65_536;

impl HnswParameters {
    /// Elements are floats, M is 16 and ef_construction 200: RediSearch's defaults.
    pub fn new(dimension: usize, metric: Metric) -> Self {
        Self::of(Element::F32, dimension, metric)
    }

    /// The same for another element type. Vectors of bytes are compact already, and get no codes.
    pub fn of(element: Element, dimension: usize, metric: Metric) -> Self {
        let has_codes = QUANTIZED_DIMENSIONS.contains(&dimension) && element.bytes() > 1;
        let quantization = if has_codes { Quantization::Bits4 } else { Quantization::None };
        HnswParameters { element, dimension, metric, m: 16, ef_construction: 200, seed: 0, quantization }
    }

    /// The same, limited to the supported ranges.
    pub fn clamped(self) -> Self {
        let m = self.m.clamp(M_MIN, M_MAX);
        let ef_construction = self.ef_construction.clamp(m, 1 << 20);
        HnswParameters { dimension: self.dimension.max(1), m, ef_construction, ..self }
    }
}

/// With fewer links, a block has no room for those that keep other nodes reachable (tree.rs).
const M_MIN: usize = 4;
const M_MAX: usize = 2_048;

/// An approximate index: see the documentation of the module and the crate.
pub struct Hnsw {
    parameters: HnswParameters,
    store: Store,
    graph: Graph,
    repair: Repair,
    /// The minimum number of links of a node, if there are candidates for them.
    degree_min: usize,
    /// Places that a walk cannot find by their own vectors.
    known_places: KnownPlaces,
    newcomers: Newcomers,
    /// Slots that are deleted and not free. If there are any, walks check each candidate's state.
    deleted: AtomicUsize,
    /// For vectors, and for the codes or vectors that walks read.
    prefetch: Prefetch,
    near_prefetch: Prefetch,
    /// Locked for reading by mutations; for writing by `save` while it copies the links, and while the first
    /// codes are computed. A thread that waits for the sweep's lock as well must take that one first.
    gate: RwLock<()>,
    effort: Effort,
}

/// How much memory is prefetched ahead of the distance computations.
#[derive(Clone, Copy)]
struct Prefetch {
    /// The number of vectors ahead.
    ahead: usize,
    /// The number of cache lines of each vector.
    lines: usize,
}

/// Cache lines that are prefetched at a time; four vectors if that is more.
const LINES_IN_FLIGHT: usize = 64;

impl Prefetch {
    fn of_lines(lines: usize) -> Self {
        Prefetch { ahead: (LINES_IN_FLIGHT / lines).clamp(4, 16), lines }
    }

    /// Called for each position in `slots`, in order: prefetches the slot that is evaluated a few positions
    /// later.
    #[inline(always)]
    fn ahead_of(self, slots: &[u32], at: usize, fetch: impl Fn(u32, usize)) {
        if at == 0 {
            for &slot in slots.iter().take(self.ahead) {
                fetch(slot, self.lines);
            }
        }
        if let Some(&slot) = slots.get(at + self.ahead) {
            fetch(slot, self.lines);
        }
    }
}

/// The number of links to which blocks are filled up if the heuristic chooses fewer. Under the inner product,
/// which is not a metric, the heuristic leaves one or two links to a node: the nodes with the longest vectors
/// exclude all others.
fn degree_min(metric: Metric, m: usize) -> usize {
    match metric {
        Metric::InnerProduct => 2 * m,
        Metric::L2 | Metric::Cosine => m / 2,
    }
}

impl Hnsw {
    /// An empty graph.
    pub fn new(parameters: HnswParameters) -> Self {
        let parameters = parameters.clamped();
        let HnswParameters { element, dimension, metric, quantization, .. } = parameters;
        let store = Store::new(Kind { element, dimension, metric }, quantization, true);
        Hnsw {
            parameters,
            prefetch: Prefetch::of_lines(store.prefetch_lines()),
            near_prefetch: Prefetch::of_lines(store.near_prefetch_lines()),
            store,
            graph: Graph::new(parameters.m),
            repair: Repair::default(),
            degree_min: degree_min(parameters.metric, parameters.m),
            known_places: KnownPlaces::default(),
            newcomers: Newcomers::default(),
            deleted: AtomicUsize::new(0),
            gate: RwLock::new(()),
            effort: Effort::default(),
        }
    }

    pub fn parameters(&self) -> HnswParameters {
        self.parameters
    }

    /// Whether a search for `k` rows with this recall is a walk of known length. Otherwise it may take
    /// samples of the index first, or scan it.
    pub fn is_quick(&self, recall: f32, k: usize) -> bool {
        self.effort.is_quick(self, recall, k)
    }

    fn has_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire) > 0
    }

    /// Deletes a slot that is no longer current; the sweep will free it.
    fn leave(&self, slot: u32) {
        let left = self.store.leave(slot);
        if left.slot {
            self.bury(slot);
        }
        if let Some(place) = left.place {
            self.bury(place);
        }
    }

    fn bury(&self, slot: u32) {
        self.forget_copies_of(slot);
        self.deleted.fetch_add(1, Ordering::AcqRel);
        self.repair.gather(slot);
    }
}

impl VectorIndex for Hnsw {
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
        self.store.place(vector)
    }

    fn insert_placed(&self, id: u32, vector: &Placed) {
        self.store.prepare();
        self.effort.note_change();
        {
            let _gate = self.gate.read();
            let replaced = self.insert_pinned(id, vector, &mut self.store.pin());
            if let Some(slot) = replaced {
                self.leave(slot);
            }
            self.maintain();
        }
        if self.store.needs_first_codes() {
            let _gate = self.gate.write();
            self.store.make_codes(&mut self.store.pin().codes);
        }
    }

    fn remove(&self, id: u32) -> bool {
        let _gate = self.gate.read();
        let Some(slot) = self.store.take(id) else { return false };
        self.effort.note_change();
        self.leave(slot);
        self.maintain();
        true
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
        self.store.answer(request.query, |query, scratch| self.search_for(query, request, scratch))
    }

    fn search_range(&self, request: &RangeRequest<'_>) -> Result<SearchOutcome, VectorError> {
        self.store.answer(request.query, |query, scratch| self.search_range_for(query, request, scratch))
    }

    fn len(&self) -> usize {
        self.store.len()
    }

    fn statistics(&self) -> Statistics {
        let slots = self.store.slot_count() as usize;
        let entry = self.graph.entry();
        Statistics {
            live: self.store.len(),
            deleted: self.deleted.load(Ordering::Relaxed),
            slots,
            top_layer: entry.map_or(0, |entry| entry.level),
            entry: entry.map(|entry| self.store.id_of(entry.slot)),
            vector_bytes: self.store.vector_bytes(),
            link_bytes: self.graph.bytes(slots),
            other_bytes: self.store.other_bytes() + self.known_places.bytes(),
        }
    }
}
