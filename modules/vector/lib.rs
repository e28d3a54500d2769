//! Vector indexes: an HNSW graph, an exact (flat) index, and the distance kernels under both.
//!
//! A library without engine types: it knows neither keys nor documents nor the log. Its caller numbers
//! documents with dense `u32` ids and keeps everything else; an index keeps, per id, one copy of the vector
//! and what is needed to find it. The caller can share that copy (`Placed`) instead of keeping one of its own.
//!
//! Everything takes `&self`. Any number of threads may insert, remove and search at once:
//!
//! - A search takes no lock that an insert holds for long (it takes two short ones, for its scratch memory).
//! - A vector never changes and never moves while a search could hold it, or a `Placed` is there. Replacing an id writes the
//!   new vector to a fresh slot and swaps the id over to it, so that a search sees the old or the new one, never a mixture.
//! - A result row is an id that was present when the search ended, with the exact distance of its vector then.
//! - Calls for the *same* id are applied in the order in which they end; who needs an order keeps it himself.
//!
//! What this crate does not do: deciding what is durable, knowing the time (a deadline is a closure), spawning threads (except
//! where a caller names their number, and those that help with long scans: helpers.rs).
//!
//! Sources: HNSW is Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
//! Hierarchical Navigable Small World graphs" (arXiv 1603.09320); repair after deletes follows the idea of
//! FreshDiskANN (arXiv 2105.09613).

mod codes;
mod copies;
mod exact;
mod flat;
mod helpers;
mod hnsw;
mod kernels;
mod limits;
mod pool;
mod ranking;
mod region;
mod rotation;
mod scan;
mod scratch;
mod settle;
mod slab;
mod store;
mod vectors;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub use flat::Flat;
pub use hnsw::{
    ExactSearch, GraphCheck, Hnsw, HnswParameters, Input, LoadError, Loading, Recoding, fuzz_load,
};
pub use kernels::{distance, distance_of, kernel_name};
pub use vectors::{Placed, Vectors};

/// How the distance of two vectors is computed. Smaller is nearer, for each of them, as RediSearch replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The *squared* Euclidean distance.
    L2,
    /// `1 - a·b`; negative when the product is over one.
    InnerProduct,
    /// `1 - cos(a, b)`, from 0 to 2; 1 when either vector is all zeros.
    Cosine,
}

impl Metric {
    /// Places in it are numbers in saved graphs and definitions of indexes.
    pub const ALL: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
}

/// Codes that a graph keeps beside its vectors to walk by. What it finds is ranked again by the vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// No codes: walks go by the vectors.
    None,
    /// A byte a component.
    Bits8,
    /// Half a byte. As good a guide as a byte (docs/decisions/0009), and half the memory traffic.
    Bits4,
    /// A bit: the least memory; it wants a wider beam for the same recall.
    Bits1,
}

impl Quantization {
    /// As `Metric::ALL`.
    pub const ALL: [Quantization; 4] =
        [Quantization::None, Quantization::Bits8, Quantization::Bits4, Quantization::Bits1];
}

/// What the components of an index's vectors are. Vectors are given and kept as bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    F64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an `F32`.
    Bf16,
    I8,
    U8,
}

impl Element {
    /// As `Metric::ALL`.
    pub const ALL: [Element; 6] =
        [Element::F32, Element::F64, Element::F16, Element::Bf16, Element::I8, Element::U8];

    /// Of one component.
    pub fn bytes(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
            Element::I8 | Element::U8 => 1,
        }
    }
}

/// A vector of floats as the bytes that an index of `Element::F32` takes.
pub fn bytes_of(vector: &[f32]) -> &[u8] {
    #[cfg(target_endian = "big")]
    compile_error!("vectors are little-endian");
    // SAFETY: floats are bytes without gaps.
    unsafe { std::slice::from_raw_parts(vector.as_ptr().cast(), size_of_val(vector)) }
}

/// One row of a result. Ordered by distance, then by id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbor {
    pub id: u32,
    /// Exact, in the precision of the elements: an `f32` for all but `Element::F64`.
    pub distance: f64,
}

impl Eq for Neighbor {}

impl Ord for Neighbor {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Neighbor {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Why a vector or a query was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    #[error("the vector has {got} bytes, those of the index {expected}")]
    Size { expected: usize, got: usize },
    /// NaN or an infinity among the components: no distance to it has an order.
    #[error("the vector has a component that is not a finite number")]
    NotFinite,
    #[error("the index is full")]
    Full,
}

/// The ids that a search may return.
///
/// Contract: `for_each` visits exactly the ids among these that `allows` accepts, in ascending order (the index skips those
/// that it does not hold), and `cardinality`, where known, is how many there are in all; an estimate is good enough, it only
/// steers the plan.
pub trait Filter: Sync {
    fn allows(&self, id: u32) -> bool;
    fn cardinality(&self) -> Option<usize>;
    /// Threads that share a scan ask for a part each. Finding the first of a part takes no looking through those before.
    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32));
}

/// A question for the nearest neighbours of a vector.
#[derive(Clone, Copy)]
pub struct SearchRequest<'a> {
    /// `dimension` finite components, as the index has them.
    pub query: &'a [u8],
    /// How many rows are wanted. They are returned whenever as many (allowed) ids exist.
    pub k: usize,
    /// Width of the beam in the graph: more is more exact and slower. At least `k` is used. Ignored by `Flat`.
    pub ef: usize,
    /// The share of the true `k` nearest that is to be found on average, above 0 and at most 1 (which scans all vectors), instead
    /// of a width: the walk goes on for as long as that takes. `ef` then only steers the choice between walk and scan. Ignored
    /// by `Flat`.
    pub recall: Option<f32>,
    pub filter: Option<&'a dyn Filter>,
    /// Tells whether the time is over; asked every few hundred distances. The rows found by then are returned.
    pub deadline: Option<&'a dyn Fn() -> bool>,
}

impl<'a> SearchRequest<'a> {
    /// A request without filter and deadline.
    pub fn new(query: &'a [u8], k: usize, ef: usize) -> Self {
        SearchRequest { query, k, ef, recall: None, filter: None, deadline: None }
    }
}

impl fmt::Debug for SearchRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchRequest")
            .field("k", &self.k)
            .field("ef", &self.ef)
            .field("recall", &self.recall)
            .field("filtered", &self.filter.is_some())
            .finish_non_exhaustive()
    }
}

/// A question for everything within a distance.
#[derive(Clone, Copy)]
pub struct RangeRequest<'a> {
    /// `dimension` finite components, as the index has them.
    pub query: &'a [u8],
    /// Largest distance (in the metric's own terms) of a row.
    pub radius: f64,
    /// How far beyond the radius a walk through a graph must have come for its answer to be taken, relative to the radius
    /// (RediSearch's EPSILON, 0.01 by default). Where it has not, all vectors are scanned.
    pub epsilon: f32,
    /// The answer is to be exact: no graph, and no codes.
    pub exact: bool,
    pub filter: Option<&'a dyn Filter>,
    pub deadline: Option<&'a dyn Fn() -> bool>,
}

impl<'a> RangeRequest<'a> {
    /// A request with RediSearch's epsilon, without filter and deadline.
    pub fn new(query: &'a [u8], radius: f64) -> Self {
        RangeRequest { query, radius, epsilon: 0.01, exact: false, filter: None, deadline: None }
    }
}

/// What a search found, nearest first, and what it cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchOutcome {
    pub neighbors: Vec<Neighbor>,
    /// The deadline passed: the rows are the best of those seen by then.
    pub timed_out: bool,
    /// Distances that were computed.
    pub evaluated: usize,
    /// Graph nodes whose neighbours were looked at.
    pub visited: usize,
    /// The rows come from a scan of every candidate, not from the graph: they are the true nearest.
    pub exact: bool,
    /// Codes said too little about what is near the query: it was answered by the vectors, which takes longer.
    pub too_coarse: bool,
    /// Where a walk was to find a share of the nearest: how far beyond the distance of the k-th it went on, relative to that
    /// distance (to the product, with `InnerProduct`).
    pub slack: Option<f32>,
}

/// The state of an index, for INFO and for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Ids that a search can return.
    pub live: usize,
    /// Deleted or replaced vectors whose memory is not free yet.
    pub deleted: usize,
    /// Slots that were ever used: live, deleted and free ones.
    pub slots: usize,
    /// The highest layer of the graph; 0 for a flat index.
    pub top_layer: usize,
    pub vector_bytes: usize,
    pub link_bytes: usize,
    /// Everything else: id maps, states, norms, scratch memory.
    pub other_bytes: usize,
}

/// An index of vectors of one dimension under one metric, by id.
pub trait VectorIndex: Send + Sync {
    fn element(&self) -> Element;
    fn dimension(&self) -> usize;
    fn metric(&self) -> Metric;
    /// Writes a vector to the memory of the index, where no search finds it yet.
    fn place(&self, vector: &[u8]) -> Result<Placed, VectorError>;
    /// Gives a vector that this index has placed to an id, in place of the one that it has. When it returns, every later
    /// search can find it. A placed vector is inserted once.
    fn insert_placed(&self, id: u32, vector: &Placed);
    /// `place` and `insert_placed`.
    fn insert(&self, id: u32, vector: &[u8]) -> Result<(), VectorError> {
        self.insert_placed(id, &self.place(vector)?);
        Ok(())
    }
    /// Removes an id; false when it was not there. The id may be used again at once.
    fn remove(&self, id: u32) -> bool;
    fn contains(&self, id: u32) -> bool;
    /// The memory that vectors are placed in.
    fn vectors(&self) -> &Arc<Vectors>;
    /// The vector of an id.
    fn vector(&self, id: u32) -> Option<Placed>;
    /// The exact distances of vectors that this index has placed, each with the id that goes with it.
    fn distances(&self, query: &[u8], vectors: &[(u32, Placed)]) -> Result<Vec<Neighbor>, VectorError>;
    fn search(&self, request: &SearchRequest<'_>) -> Result<SearchOutcome, VectorError>;
    /// Everything within the radius, nearest first.
    fn search_range(&self, request: &RangeRequest<'_>) -> Result<SearchOutcome, VectorError>;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Memory that holds data, in bytes (reserved but untouched memory is not counted).
    fn memory_bytes(&self) -> usize {
        let statistics = self.statistics();
        statistics.vector_bytes + statistics.link_bytes + statistics.other_bytes
    }
    fn statistics(&self) -> Statistics;
}
