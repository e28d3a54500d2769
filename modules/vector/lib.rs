//! Vector indexes: an HNSW graph and an exact (flat) index, with their distance kernels.
//!
//! This library contains no engine types: it knows neither keys nor documents nor the log. The caller numbers
//! documents with dense `u32` ids and stores everything else; an index stores, per id, one copy of the vector
//! and what it needs to find it. The caller can share that copy (`Placed`) instead of keeping its own.
//!
//! Every method takes `&self`. Any number of threads may insert, remove and search at once:
//!
//! - A search takes no lock that an insert holds for long (it takes two short ones, for its scratch memory).
//! - A vector neither changes nor moves while a search could hold it, or a `Placed` refers to it. Replacing
//!   the vector of an id writes the new vector to a free slot and then switches the id to that slot, so that
//!   a search sees the old or the new vector, never a mixture.
//! - A result row is an id that was present when the search ended, with the exact distance of the vector that
//!   it had then.
//! - Calls for the *same* id take effect in the order in which they end. A caller that needs an order must
//!   impose it.
//!
//! This crate does not decide what is durable and does not read a clock (a deadline is a closure). It starts
//! no threads, except where a caller passes their number, and except the helpers of long scans
//! (scan_threads.rs).
//!
//! Sources: HNSW is Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
//! Hierarchical Navigable Small World graphs" (arXiv 1603.09320); repair after deletes follows FreshDiskANN
//! (arXiv 2105.09613); codes follow RaBitQ (arXiv 2405.12497).

mod candidates;
mod codes;
mod copies;
mod exact;
mod flat;
mod hnsw;
mod kernels;
mod limits;
mod ranking;
mod region;
mod rotation;
mod scan;
mod scan_threads;
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
pub use region::mapped_bytes;
pub use vectors::{Placed, Vectors};

/// How the distance of two vectors is computed. Smaller is nearer for every metric; values are those that
/// RediSearch replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The *squared* Euclidean distance.
    L2,
    /// `1 - a·b`; negative when the product exceeds one.
    InnerProduct,
    /// `1 - cos(a, b)`, from 0 to 2; 1 when either vector is all zeros.
    Cosine,
}

impl Metric {
    /// The index of a metric in this array is its number in saved graphs and index definitions.
    pub const ALL: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
}

/// The codes that a graph stores beside its vectors to guide walks. The rows that a walk finds are ranked
/// again by their vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// No codes: walks read the vectors.
    None,
    /// 8 bits per component.
    Bits8,
    /// 4 bits per component. They guide a walk as well as 8 bits (docs/decisions/0009), with half the memory
    /// traffic.
    Bits4,
    /// 1 bit per component: the least memory; needs a wider beam for the same recall.
    Bits1,
}

impl Quantization {
    /// See `Metric::ALL`.
    pub const ALL: [Quantization; 4] =
        [Quantization::None, Quantization::Bits8, Quantization::Bits4, Quantization::Bits1];
}

/// The element type of an index's vectors. Vectors are passed and stored as bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    F64,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of an `F32`.
    Bf16,
    I8,
    U8,
}

impl Element {
    /// See `Metric::ALL`.
    pub const ALL: [Element; 6] =
        [Element::F32, Element::F64, Element::F16, Element::Bf16, Element::I8, Element::U8];

    /// The size of one component in bytes.
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
#[allow(unsafe_code, reason = "floats are read as bytes")]
pub fn bytes_of(vector: &[f32]) -> &[u8] {
    #[cfg(target_endian = "big")]
    compile_error!("vectors are little-endian");
    // SAFETY: floats have no padding bytes.
    unsafe { std::slice::from_raw_parts(vector.as_ptr().cast(), size_of_val(vector)) }
}

/// One row of a result. Rows are ordered by distance, then by id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbor {
    pub id: u32,
    /// The exact distance, in the precision of the elements: an `f32` for every element type but `F64`.
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

/// Why a vector or a query was refused. The index is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    #[error("the vector has {got} bytes, those of the index {expected}")]
    Size { expected: usize, got: usize },
    /// A component is NaN or infinite; distances to such a vector have no order.
    #[error("the vector has a component that is not a finite number")]
    NotFinite,
    #[error("the index is full")]
    Full,
}

/// The ids that a search may return.
///
/// Contract: `for_each` visits exactly the ids of the range that `allows` accepts, in ascending order (the
/// index skips ids that it does not have). `cardinality`, where known, is the number of allowed ids; an
/// estimate suffices, because it only influences how the search is executed.
pub trait Filter: Sync {
    fn allows(&self, id: u32) -> bool;
    fn cardinality(&self) -> Option<usize>;
    /// Each thread of a scan calls this for its own range. Finding the first id of a range must not require a
    /// scan of the ids before it.
    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32));
}

/// A request for the nearest neighbours of a vector.
#[derive(Clone, Copy)]
pub struct SearchRequest<'a> {
    /// `dimension` finite components, of the element type of the index.
    pub query: &'a [u8],
    /// The number of rows to return. The result has fewer only if fewer (allowed) ids exist, or the deadline
    /// passed.
    pub k: usize,
    /// The width of the beam in the graph: a wider beam is slower and finds more of the true neighbours. At
    /// least `k` is used. Ignored by `Flat`.
    pub ef: usize,
    /// The share of the true `k` nearest to find on average, above 0 and at most 1 (which scans all vectors),
    /// instead of a width: the walk lasts as long as this takes. `ef` then only influences the choice between
    /// walk and scan. Ignored by `Flat`.
    pub recall: Option<f32>,
    pub filter: Option<&'a dyn Filter>,
    /// Returns true when the time is over. It is called every few hundred distances. The search then returns
    /// the rows found so far.
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

/// A request for all vectors within a distance.
#[derive(Clone, Copy)]
pub struct RangeRequest<'a> {
    /// `dimension` finite components, of the element type of the index.
    pub query: &'a [u8],
    /// The largest distance of a row, as defined by the metric.
    pub radius: f64,
    /// The distance beyond the radius that a walk through a graph must have covered for its answer to be
    /// accepted, relative to the radius (RediSearch's EPSILON, 0.01 by default). Otherwise all vectors are
    /// scanned.
    pub epsilon: f32,
    /// The answer must be exact: neither graph nor codes are used.
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

/// The rows that a search found, nearest first, and its cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchOutcome {
    pub neighbors: Vec<Neighbor>,
    /// The deadline passed: the rows are the best of those evaluated by then.
    pub timed_out: bool,
    /// The number of distances computed.
    pub evaluated: usize,
    /// The number of graph nodes whose neighbours were examined.
    pub visited: usize,
    /// The rows come from a scan of every candidate, not from the graph: they are the true nearest.
    pub exact: bool,
    /// Codes were too imprecise around the query: the search was answered from the vectors, which takes
    /// longer.
    pub too_coarse: bool,
    /// For a walk with a requested recall: how far beyond the distance of the k-th row it went on, relative
    /// to that distance (relative to the product, with `InnerProduct`).
    pub slack: Option<f32>,
}

/// The state of an index, for INFO and for tests. Sizes are in bytes.
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
    /// The id of the node at which walks begin; `None` without nodes, and for a flat index.
    pub entry: Option<u32>,
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
    /// Writes a vector to the memory of the index, where no search finds it yet. Refuses a vector of the
    /// wrong size or with components that are not finite, and every vector if the index is full.
    fn place(&self, vector: &[u8]) -> Result<Placed, VectorError>;
    /// Assigns a vector that this index has placed to an id, replacing the previous vector of the id. Every
    /// search that starts after the return can find it. A placed vector is inserted once; a second insertion
    /// panics.
    fn insert_placed(&self, id: u32, vector: &Placed);
    /// `place` and `insert_placed`.
    fn insert(&self, id: u32, vector: &[u8]) -> Result<(), VectorError> {
        self.insert_placed(id, &self.place(vector)?);
        Ok(())
    }
    /// Removes an id; false if it was absent. The id may be reused at once.
    fn remove(&self, id: u32) -> bool;
    fn contains(&self, id: u32) -> bool;
    /// The memory that stores the vectors.
    fn vectors(&self) -> &Arc<Vectors>;
    /// The vector of an id; `None` if the id is absent.
    fn vector(&self, id: u32) -> Option<Placed>;
    /// The exact distances of vectors that this index has placed, in the order of `vectors`, each with its
    /// id.
    fn distances(&self, query: &[u8], vectors: &[(u32, Placed)]) -> Result<Vec<Neighbor>, VectorError>;
    fn search(&self, request: &SearchRequest<'_>) -> Result<SearchOutcome, VectorError>;
    /// All rows within the radius, nearest first.
    fn search_range(&self, request: &RangeRequest<'_>) -> Result<SearchOutcome, VectorError>;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Memory that contains data, in bytes (reserved but untouched memory is not counted).
    fn memory_bytes(&self) -> usize {
        let statistics = self.statistics();
        statistics.vector_bytes + statistics.link_bytes + statistics.other_bytes
    }
    fn statistics(&self) -> Statistics;
}
