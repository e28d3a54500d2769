//! The HNSW graph in flat arrays.
//!
//! Why our own: the walk is bound by memory, so the layout decides. Vectors, layer-0 links (2 M to a node, in one
//! block) and upper links lie in slabs that never move; visited marks are one byte a slot; the beam is a sorted array;
//! a search allocates its result and nothing else. graph.rs has the links, search.rs answers, walk.rs walks, filtered.rs walks
//! under a filter, insert.rs the linking, places.rs documents with equal vectors, tree.rs what keeps every node within reach,
//! repair.rs deletes, check.rs the checker, file.rs the saved form.
//!
//! Walks and links go by compact codes of the vectors (codes.rs), where the dimension makes that pay; what they found
//! is ranked again by the vectors, so that replied distances are exact (ranking.rs). Ranges are scanned, or walked where that
//! can be trusted (search.rs).

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
use self::places::KnownPlaces;
pub use self::recode::Recoding;
use self::repair::Repair;
use crate::store::{Kind, Store};
use crate::vectors::{Placed, Vectors};
use crate::{
    Element, Metric, Neighbor, Quantization, RangeRequest, SearchOutcome, SearchRequest, Statistics,
    VectorError, VectorIndex,
};

/// How a graph is built. Fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HnswParameters {
    pub element: Element,
    /// Components of each vector, at least one.
    pub dimension: usize,
    pub metric: Metric,
    /// M: links of a node in each layer above 0, half of those in layer 0. From 4 to 2,048 (`Hnsw::new` clamps).
    pub m: usize,
    /// Width of the beam that looks for a new node's neighbours; at least M is used.
    pub ef_construction: usize,
    /// Decides, with the id, how many layers a node has.
    pub seed: u64,
    /// What walks go by instead of the vectors.
    pub quantization: Quantization,
}

/// Dimensions with which codes are used unless one asks otherwise: below, a vector is a few cache lines, and its code
/// says little about it; above, products of codes would not fit their sums.
const QUANTIZED_DIMENSIONS: RangeInclusive<usize> = 64..=65_536;

impl HnswParameters {
    /// Floats, M 16, ef_construction 200: RediSearch's defaults.
    pub fn new(dimension: usize, metric: Metric) -> Self {
        Self::of(Element::F32, dimension, metric)
    }

    /// The same for other elements. Vectors of bytes are compact already, and have no codes.
    pub fn of(element: Element, dimension: usize, metric: Metric) -> Self {
        let has_codes = QUANTIZED_DIMENSIONS.contains(&dimension) && element.bytes() > 1;
        let quantization = if has_codes { Quantization::Bits4 } else { Quantization::None };
        HnswParameters { element, dimension, metric, m: 16, ef_construction: 200, seed: 0, quantization }
    }

    /// The same within the bounds of what a graph can be.
    pub fn clamped(self) -> Self {
        let m = self.m.clamp(M_MIN, M_MAX);
        let ef_construction = self.ef_construction.clamp(m, 1 << 20);
        HnswParameters { dimension: self.dimension.max(1), m, ef_construction, ..self }
    }
}

/// With fewer, a block has no room for the links that keep other nodes within reach (tree.rs).
const M_MIN: usize = 4;
const M_MAX: usize = 2_048;

/// An approximate index: see the module's and the crate's documentation.
pub struct Hnsw {
    parameters: HnswParameters,
    store: Store,
    graph: Graph,
    repair: Repair,
    /// Links that a node has at least, if there are candidates for them.
    degree_min: usize,
    /// Places that a walk cannot find by their own vectors.
    known_places: KnownPlaces,
    /// Slots that are deleted and not free. While there are any, walks ask for each candidate.
    deleted: AtomicUsize,
    /// For vectors, and for what walks read.
    prefetch: Prefetch,
    near_prefetch: Prefetch,
    /// Read by mutations, written by `save` for as long as it copies the links, and while the first codes are made. Whoever
    /// wants the sweep's lock too, and waits for it, takes that first.
    gate: RwLock<()>,
    effort: Effort,
}

/// How much is fetched ahead of the distance computations.
#[derive(Clone, Copy)]
struct Prefetch {
    /// Vectors.
    ahead: usize,
    /// Cache lines of each.
    lines: usize,
}

/// Cache lines on their way at a time, or four vectors if that is more.
const LINES_IN_FLIGHT: usize = 64;

impl Prefetch {
    fn of_lines(lines: usize) -> Self {
        Prefetch { ahead: (LINES_IN_FLIGHT / lines).clamp(4, 16), lines }
    }

    /// Called for each place in `slots`, in order: fetches what is evaluated a few places later.
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

/// To how many links blocks are filled up where the heuristic chooses fewer. Under the inner product, which is no metric, it leaves
/// one or two to a node: the nodes with the longest vectors shadow all others.
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
            deleted: AtomicUsize::new(0),
            gate: RwLock::new(()),
            effort: Effort::default(),
        }
    }

    pub fn parameters(&self) -> HnswParameters {
        self.parameters
    }

    /// Is a search with this recall for `k` rows a walk of a length that is known? Otherwise it may take samples of the index
    /// first, or scan.
    pub fn is_quick(&self, recall: f32, k: usize) -> bool {
        self.effort.is_quick(self, recall, k)
    }

    fn has_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire) > 0
    }

    /// Deletes a slot that is no longer its id's, for the sweep to free.
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
        if self.store.is_to_make_codes() {
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
        Statistics {
            live: self.store.len(),
            deleted: self.deleted.load(Ordering::Relaxed),
            slots,
            top_layer: self.graph.entry().map_or(0, |entry| entry.level),
            vector_bytes: self.store.vector_bytes(),
            link_bytes: self.graph.bytes(slots),
            other_bytes: self.store.other_bytes() + self.known_places.bytes(),
        }
    }
}
