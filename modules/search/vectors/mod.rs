//! One vector field of an index: a flat index, or a graph with a tail of pending mutations.
//!
//! The tail holds the mutations that the graph does not have yet. Searches scan it exactly, so that a write
//! is visible as soon as it is applied, and neither writers nor searches wait for the graph. Index workers
//! drain the tail. An entry of the tail overrides the graph's data about the same document.
//!
//! Live mutations overtake those of a backfill: they reach the graph first, and writers wait only for a tail
//! full of live mutations. A backfill limits its own part of the tail (`help`).
//!
//! A vector is stored once, in the memory of the index, from the moment when it is applied. The hash's field
//! and the entry in the tail are handles to it (`Housed`, `Placed`).
//!
//! Invariants:
//! - per document, mutations reach the graph in the order in which they were applied: a document that one
//!   thread is inserting is not given to another, and a newer mutation replaces a waiting one;
//! - a document that a command has changed stays live until the graph has it, even if a backfill sets it
//!   again;
//! - neither source starves the other: the last document of a worker's turn is one of the backfill's;
//! - a document leaves the tail only after the graph has it, so that a search that reads the tail first and
//!   the graph second misses nothing;
//! - workers take only the locks of tail, queue and graph, each for a short time.

pub mod facts;
pub mod live;
pub mod load;
pub mod workers;

pub use self::load::TAIL_MAX;

use self::facts::LastMode;
use self::live::LiveRecall;
use self::load::Load;
use crate::documents::ids::IdSet;
use crate::schema::{Algorithm, VectorOptions};
use engramdb_engine::hashing::{HashMap, HashSet};
use engramdb_engine::types::{House, Housed};
use engramdb_vector::{
    ExactSearch, Filter, Flat, Hnsw, HnswParameters, Neighbor, Placed, RangeRequest, SearchOutcome,
    SearchRequest, VectorError, VectorIndex, Vectors,
};
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Pending mutations of one field that a backfill leaves to the workers before it adds more.
pub const BACKFILL_TAIL_MAX: usize = TAIL_MAX / 4;

/// An entry of the tail and its place in the queue, whose tables are two thirds full.
const TAIL_ENTRY_BYTES: usize = 3 * (size_of::<(u32, Pending)>() + size_of::<u32>()) / 2;

/// The most documents beyond the nearest k that a flat index returns because their distance equals that of
/// the k-th. With more ties, ids decide: a search must not load every document of a common vector.
const TIED_MAX: usize = 1024;

pub struct VectorField {
    options: VectorOptions,
    index: RwLock<Arc<Structure>>,
    tail: RwLock<HashMap<u32, Pending>>,
    queue: Mutex<Queue>,
    /// Number of entries of the tail, by source. Changes under the queue's lock.
    pending: [AtomicUsize; 2],
    /// Counts this field while `is_full`.
    load: Arc<Load>,
    /// The tail is full of live mutations, and the index is not dropped. Changes under the queue's lock.
    is_full: AtomicBool,
    /// The index was dropped: pending mutations need not be applied.
    is_closed: AtomicBool,
    pub live: LiveRecall,
    pub last_mode: LastMode,
    /// Time spent on inserting documents into the graph, summed over all threads.
    indexing_ns: AtomicU64,
}

/// Where a mutation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A command; its client may be waiting.
    Live,
    /// A walk over the keys that existed before the index.
    Backfill,
}

/// The index of a field's vectors, and the memory that holds them.
pub struct Structure {
    index: Kind,
    house: Arc<dyn House>,
}

enum Kind {
    Flat(Box<Flat>),
    Graph(Box<Hnsw>),
}

impl Structure {
    pub fn new(options: &VectorOptions) -> Structure {
        match options.algorithm {
            Algorithm::Flat => {
                let flat = Flat::new(options.element, options.dimension as usize, options.metric);
                let house = home_of(flat.vectors());
                Structure { index: Kind::Flat(Box::new(flat)), house }
            }
            Algorithm::Hnsw | Algorithm::Svs => Structure::of(Hnsw::new(parameters(options))),
        }
    }

    fn of(graph: Hnsw) -> Structure {
        let house = home_of(graph.vectors());
        Structure::with_home(graph, house)
    }

    /// Of a graph whose vectors already have handles in hashes, made with this home.
    pub fn with_home(graph: Hnsw, house: Arc<dyn House>) -> Structure {
        Structure { index: Kind::Graph(Box::new(graph)), house }
    }

    pub fn index(&self) -> &dyn VectorIndex {
        match &self.index {
            Kind::Flat(flat) => &**flat,
            Kind::Graph(graph) => &**graph,
        }
    }

    pub fn graph(&self) -> Option<&Hnsw> {
        match &self.index {
            Kind::Flat(_) => None,
            Kind::Graph(graph) => Some(graph),
        }
    }

    /// The memory of the vectors, for handles in hashes.
    pub fn home(&self) -> Arc<dyn House> {
        self.house.clone()
    }

    /// A handle for the hash whose field has this vector.
    pub fn house(&self, vector: Placed) -> Housed {
        Housed::new(self.house.clone(), vector.into_slot())
    }
}

/// The memory of an index's vectors. It outlives the index for as long as a hash has a handle to it.
struct Home(Arc<Vectors>);

/// The home that handles in hashes refer to; called once for each index.
pub fn home_of(vectors: &Arc<Vectors>) -> Arc<dyn House> {
    Arc::new(Home(vectors.clone()))
}

impl House for Home {
    fn content(&self, place: u32) -> &[u8] {
        self.0.vector(place)
    }

    fn release(&self, place: u32) {
        drop(self.0.placed(place));
    }
}

/// The parameters of this field's graph. A saved graph is used only if it has the same ones.
pub fn parameters(options: &VectorOptions) -> HnswParameters {
    let VectorOptions { element, dimension, metric, quantization, .. } = *options;
    let parameters = HnswParameters {
        m: options.m as usize,
        ef_construction: options.ef_construction as usize,
        quantization,
        ..HnswParameters::of(element, dimension as usize, metric)
    };
    parameters.clamped()
}

/// A mutation of a document that the graph does not have yet.
#[derive(Clone)]
struct Pending {
    sequence: u64,
    source: Source,
    /// `None` to remove it.
    vector: Option<Placed>,
}

#[derive(Default)]
struct Queue {
    /// Documents by the source of their mutations. Some entries are outdated: the graph has the document
    /// already, or the document is in the other queue now.
    waiting: [VecDeque<u32>; 2],
    /// Documents that a thread is inserting or removing at the moment.
    busy: HashSet<u32>,
    sequence: u64,
    /// Workers that were called for this field and have not found its queue empty since.
    workers: usize,
}

impl Queue {
    fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}

const LIVE_FIRST: [Source; 2] = [Source::Live, Source::Backfill];
const BACKFILL_FIRST: [Source; 2] = [Source::Backfill, Source::Live];

/// Rows, nearest first, and whether the deadline passed before the search was complete.
pub struct Rows {
    pub neighbors: Vec<Neighbor>,
    pub timed_out: bool,
    pub cost: Cost,
}

/// The work that a search did, and its method.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Computed distances, those of the tail included.
    pub evaluated: usize,
    /// Nodes of the graph whose neighbours were read.
    pub visited: usize,
    /// All candidates were scanned; otherwise the graph was walked.
    pub exact: bool,
    /// The graph's codes were too coarse, and the walk compared vectors.
    pub too_coarse: bool,
    /// Pending mutations, all of which are scanned.
    pub tail: usize,
    /// See `SearchOutcome`.
    pub slack: Option<f32>,
}

/// How thoroughly a graph is searched.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Width of the beam.
    pub ef: usize,
    /// The requested share of the true nearest, above 0 and at most 1; replaces the width.
    pub recall: Option<f32>,
}

impl Effort {
    pub fn beam(ef: usize) -> Self {
        Effort { ef, recall: None }
    }
}

/// A question about nearest neighbours.
pub struct Question<'a> {
    /// The query vector, in the field's element type and dimension.
    pub query: &'a [u8],
    /// The documents that may be found; `None` for all.
    pub filter: Option<&'a IdSet>,
    /// All ids are below it.
    pub id_bound: u32,
    /// True once the deadline has passed.
    pub is_late: &'a dyn Fn() -> bool,
}

impl VectorField {
    pub fn new(options: VectorOptions, load: Arc<Load>) -> VectorField {
        VectorField {
            index: RwLock::new(Arc::new(Structure::new(&options))),
            options,
            tail: RwLock::default(),
            queue: Mutex::default(),
            pending: Default::default(),
            load,
            is_full: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            live: LiveRecall::default(),
            last_mode: LastMode::default(),
            indexing_ns: AtomicU64::new(0),
        }
    }

    /// Adds to the time spent on inserting documents into the graph.
    pub fn spent(&self, time: Duration) {
        self.indexing_ns.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn indexing_time(&self) -> Duration {
        Duration::from_nanos(self.indexing_ns.load(Ordering::Relaxed))
    }

    pub fn options(&self) -> &VectorOptions {
        &self.options
    }

    /// Replaces the structure by a loaded one; only before the first command.
    pub fn adopt(&self, structure: Structure) {
        *self.index.write() = Arc::new(structure);
    }

    pub fn structure(&self) -> Arc<Structure> {
        self.index.read().clone()
    }

    /// True if a search for `k` rows with this recall is a walk of known length. Otherwise it may sample the
    /// index first, or scan it.
    pub fn is_quick(&self, recall: f32, k: usize) -> bool {
        self.structure().graph().is_some_and(|graph| graph.is_quick(recall, k))
    }

    /// Number of mutations that the graph does not have yet.
    pub fn pending(&self) -> usize {
        self.pending.iter().map(|pending| pending.load(Ordering::Relaxed)).sum()
    }

    pub fn pending_of(&self, source: Source) -> usize {
        self.pending[source as usize].load(Ordering::Relaxed)
    }

    /// The bytes of the index, and of the tail's entries.
    pub fn memory_bytes(&self) -> usize {
        self.structure().index().memory_bytes() + self.pending() * TAIL_ENTRY_BYTES
    }

    /// The document's current vector: that of the tail, or else of the index.
    fn vector(&self, structure: &Structure, id: u32) -> Option<Placed> {
        match self.tail.read().get(&id) {
            Some(pending) => pending.vector.clone(),
            None => structure.index().vector(id),
        }
    }

    /// The distance of the document's current vector from the query; `None` if it has no vector.
    pub fn distance(&self, id: u32, query: &[u8]) -> Option<f64> {
        let held = self.vector(&self.structure(), id)?;
        let VectorOptions { element, metric, .. } = self.options;
        Some(engramdb_vector::distance_of(element, metric, query, held.as_bytes()))
    }

    /// Sets a document's vector, whose size is right and whose components are finite. Returns the new handle
    /// unless `vector` is already the index's own copy, and whether the caller should call a worker.
    pub fn set(&self, source: Source, id: u32, vector: &[u8], workers_max: usize) -> (Option<Housed>, bool) {
        let structure = self.structure();
        if let Some(held) = self.vector(&structure, id).filter(|held| held.as_bytes() == vector) {
            let is_here = std::ptr::eq(held.as_bytes(), vector);
            return ((!is_here).then(|| structure.house(held)), false);
        }
        let placed =
            structure.index().place(vector).expect("a checked vector fits: ids run out before its slots");
        let called = self.submit(&structure, source, id, Some(placed.clone()), workers_max);
        (Some(structure.house(placed)), called)
    }

    /// Removes a document's vector. Returns true if the caller should call a worker.
    pub fn remove(&self, id: u32, workers_max: usize) -> bool {
        let structure = self.structure();
        let is_there = match self.tail.read().get(&id) {
            Some(pending) => pending.vector.is_some(),
            None => structure.index().contains(id),
        };
        is_there && self.submit(&structure, Source::Live, id, None, workers_max)
    }

    /// Applies a mutation to a flat index, or adds it to the tail of a graph. Returns true if the caller
    /// should call a worker.
    fn submit(
        &self,
        structure: &Structure,
        source: Source,
        id: u32,
        vector: Option<Placed>,
        workers_max: usize,
    ) -> bool {
        if structure.graph().is_none() {
            match vector {
                Some(vector) => structure.index().insert_placed(id, &vector),
                None => _ = structure.index().remove(id),
            }
            return false;
        }
        let mut queue = self.queue.lock();
        queue.sequence += 1;
        let mut tail = self.tail.write();
        let before = tail.get(&id).map(|pending| pending.source);
        let source = if before == Some(Source::Live) { Source::Live } else { source };
        tail.insert(id, Pending { sequence: queue.sequence, source, vector });
        drop(tail);
        if before != Some(source) {
            before.inspect(|before| self.take_pending(*before));
            self.add_pending(source);
            queue.waiting[source as usize].push_back(id);
        }
        let wanted = queue.workers < workers_max && queue.workers < queue.waiting();
        queue.workers += usize::from(wanted);
        wanted
    }

    /// Counts one more entry of the tail. The caller holds the queue's lock.
    fn add_pending(&self, source: Source) {
        self.pending[source as usize].fetch_add(1, Ordering::Relaxed);
        if source == Source::Live {
            self.note_load();
        }
    }

    /// Counts one entry of the tail less. The caller holds the queue's lock.
    fn take_pending(&self, source: Source) {
        self.pending[source as usize].fetch_sub(1, Ordering::Relaxed);
        if source == Source::Live {
            self.note_load();
        }
    }

    /// Compares the tail with its limit. The caller holds the queue's lock.
    fn note_load(&self) {
        let is_full =
            self.pending_of(Source::Live) >= self.load.tail_max() && !self.is_closed.load(Ordering::Relaxed);
        if is_full != self.is_full.load(Ordering::Relaxed) {
            self.is_full.store(is_full, Ordering::Relaxed);
            if is_full { self.load.begin() } else { self.load.end() }
        }
    }

    /// Tells workers to leave pending mutations unapplied, because the index is dropped. Writers no longer
    /// wait for them.
    pub fn close(&self) {
        let _queue = self.queue.lock();
        self.is_closed.store(true, Ordering::Relaxed);
        self.note_load();
    }

    /// A worker's turn: applies the mutations of up to `limit` documents to the graph. False if nothing is
    /// left to do; the queue then no longer counts the worker.
    pub fn drain(&self, limit: usize) -> bool {
        if self.is_closed.load(Ordering::Relaxed) {
            return false;
        }
        let structure = self.structure();
        for left in (0..limit).rev() {
            let order = if left > 0 { LIVE_FIRST } else { BACKFILL_FIRST };
            let Some((id, pending)) = self.take(&order, true) else { return false };
            self.bring(structure.index(), id, &pending);
        }
        true
    }

    /// Helps the workers with a backfill's mutations: applies them until at most `most` are pending, or other
    /// threads are busy with the rest. Returns true if the caller should call a worker for what is left.
    #[must_use = "a worker that is wanted is counted: the caller must call it"]
    pub fn help(&self, most: usize) -> bool {
        let structure = self.structure();
        while self.pending_of(Source::Backfill) > most {
            let Some((id, pending)) = self.take(&[Source::Backfill], false) else { break };
            self.bring(structure.index(), id, &pending);
        }
        self.leave()
    }

    /// Applies what is pending now, except what other threads are busy with; called before a graph is saved.
    /// Returns true if the caller should call a worker for later mutations.
    #[must_use = "a worker that is wanted is counted: the caller must call it"]
    pub fn settle(&self) -> bool {
        let structure = self.structure();
        for _ in 0..self.pending() {
            let Some((id, pending)) = self.take(&LIVE_FIRST, false) else { break };
            self.bring(structure.index(), id, &pending);
        }
        self.leave()
    }

    /// Ends the help of a thread that is no worker. A worker that found only busy documents may have left the
    /// queue: true if the caller must call a worker for the entries that came back to it.
    fn leave(&self) -> bool {
        let mut queue = self.queue.lock();
        let wanted = queue.workers == 0 && queue.waiting() > 0;
        queue.workers += usize::from(wanted);
        wanted
    }

    /// Takes a document of the first source that has one and marks it busy. A worker that finds none is no
    /// longer counted.
    fn take(&self, order: &[Source], is_worker: bool) -> Option<(u32, Pending)> {
        let mut queue = self.queue.lock();
        let tail = self.tail.read();
        for &source in order {
            while let Some(id) = queue.waiting[source as usize].pop_front() {
                // If it is busy, the thread that applies it queues it again for the newer mutation.
                if let Some(pending) = tail.get(&id).filter(|pending| pending.source == source)
                    && queue.busy.insert(id)
                {
                    return Some((id, pending.clone()));
                }
            }
        }
        queue.workers -= usize::from(is_worker);
        None
    }

    /// Applies a mutation of a document that this thread has taken.
    fn bring(&self, index: &dyn VectorIndex, id: u32, pending: &Pending) {
        match &pending.vector {
            Some(vector) => index.insert_placed(id, vector),
            None => _ = index.remove(id),
        }
        let mut queue = self.queue.lock();
        queue.busy.remove(&id);
        let mut tail = self.tail.write();
        let now = tail.get(&id).expect("only the thread that took a document removes it from the tail");
        let source = now.source;
        if now.sequence == pending.sequence {
            tail.remove(&id);
            self.take_pending(source);
        } else {
            queue.waiting[source as usize].push_back(id);
        }
    }

    /// The `k` nearest of the documents that the filter allows. A flat index adds those that tie with the
    /// last of them, so that the caller can choose by key: ids may differ after a restart, and answers must
    /// not.
    pub fn nearest(&self, question: &Question<'_>, k: usize, effort: Effort) -> Rows {
        if self.options.algorithm != Algorithm::Flat || k == 0 {
            return self.search(question, k, effort);
        }
        let mut rows = self.search(question, k.saturating_add(1), effort);
        let is_tied = |rows: &Rows, at: usize| {
            let distances = (rows.neighbors[k - 1].distance, rows.neighbors[at].distance);
            distances.0.total_cmp(&distances.1).is_eq()
        };
        if rows.neighbors.len() > k && is_tied(&rows, k) && !rows.timed_out {
            rows = self.search(question, k.saturating_add(TIED_MAX), effort);
        }
        let end = (k..rows.neighbors.len()).find(|&at| !is_tied(&rows, at));
        rows.neighbors.truncate(end.unwrap_or(usize::MAX));
        rows
    }

    fn search(&self, question: &Question<'_>, k: usize, effort: Effort) -> Rows {
        self.search_by(question, k, effort, |structure, request| structure.index().search(request))
    }

    /// As `nearest`, but the walk compares vectors even if the graph has codes. No ties are added.
    pub fn nearest_by_vectors(&self, question: &Question<'_>, k: usize, ef: usize) -> Rows {
        self.search_by(question, k, Effort::beam(ef), |structure, request| match structure.graph() {
            Some(graph) => graph.search_by_vectors(request),
            None => structure.index().search(request),
        })
    }

    /// The true `k` nearest among a graph's documents, without those of `changing`. Documents that change
    /// meanwhile can be missing or wrong. `None` if the index is flat or the deadline passes, which is
    /// checked before every slice.
    pub fn nearest_exactly(
        &self,
        question: &Question<'_>,
        k: usize,
        changing: &RoaringBitmap,
    ) -> Option<Vec<Neighbor>> {
        let structure = self.structure();
        let graph = structure.graph()?;
        // Before the graph is read: a document enters the graph before it leaves the tail.
        let mut tail = self.tail_rows(graph, question);
        tail.rows.retain(|row| !changing.contains(row.id));
        tail.overridden.extend(changing);
        let filter = tail.filter(question, graph.len());
        let mut search = ExactSearch::new(k);
        loop {
            if (question.is_late)() {
                return None;
            }
            let more = graph.exact_slice(&mut search, question.query, filter.as_dyn());
            if !more.expect("the query was checked") {
                break;
            }
        }
        let mut rows = search.into_rows();
        rows.append(&mut tail.rows);
        rows.sort_unstable();
        rows.truncate(k);
        Some(rows)
    }

    fn search_by(
        &self,
        question: &Question<'_>,
        k: usize,
        effort: Effort,
        search: impl FnOnce(&Structure, &SearchRequest<'_>) -> Result<SearchOutcome, VectorError>,
    ) -> Rows {
        let structure = self.structure();
        let tail = self.tail_rows(structure.index(), question);
        let filter = tail.filter(question, structure.index().len());
        let request = SearchRequest {
            query: question.query,
            k,
            ef: effort.ef.max(k),
            recall: effort.recall,
            filter: filter.as_dyn(),
            deadline: Some(question.is_late),
        };
        let found = search(&structure, &request).expect("the query was checked");
        tail.merge(found, k)
    }

    /// All documents that the filter allows within `radius`; `exact` as for `RangeRequest`.
    pub fn within(&self, question: &Question<'_>, radius: f64, epsilon: f32, exact: bool) -> Rows {
        let structure = self.structure();
        let mut tail = self.tail_rows(structure.index(), question);
        tail.rows.retain(|row| row.distance <= radius);
        let filter = tail.filter(question, structure.index().len());
        let request = RangeRequest {
            query: question.query,
            radius,
            epsilon,
            exact,
            filter: filter.as_dyn(),
            deadline: Some(question.is_late),
        };
        let found = structure.index().search_range(&request).expect("the query was checked");
        tail.merge(found, usize::MAX)
    }

    fn tail_rows(&self, index: &dyn VectorIndex, question: &Question<'_>) -> TailRows {
        let mut overridden = HashSet::default();
        let mut vectors = Vec::new();
        // Clones handles, so that no writer waits for the lock while distances are computed.
        for (&id, pending) in self.tail.read().iter() {
            overridden.insert(id);
            let allowed = question.filter.is_none_or(|filter| filter.allows(id));
            let vector = pending.vector.as_ref().filter(|_| allowed);
            vectors.extend(vector.map(|vector| (id, vector.clone())));
        }
        let rows = index.distances(question.query, &vectors).expect("the query was checked");
        TailRows { rows, overridden }
    }
}

/// The rows of the tail, and the documents whose data in the graph are outdated.
struct TailRows {
    rows: Vec<Neighbor>,
    overridden: HashSet<u32>,
}

impl TailRows {
    fn filter<'a>(&'a self, question: &Question<'a>, indexed: usize) -> GraphFilter<'a> {
        match question.filter {
            base if !self.overridden.is_empty() => GraphFilter::Without(Without {
                base,
                overridden: &self.overridden,
                id_bound: question.id_bound,
                indexed,
            }),
            Some(base) => GraphFilter::Base(base),
            None => GraphFilter::All,
        }
    }

    fn merge(self, found: SearchOutcome, k: usize) -> Rows {
        let cost = Cost {
            evaluated: found.evaluated + self.rows.len(),
            visited: found.visited,
            exact: found.exact,
            too_coarse: found.too_coarse,
            tail: self.overridden.len(),
            slack: found.slack,
        };
        let mut neighbors = found.neighbors;
        neighbors.retain(|row| !self.overridden.contains(&row.id));
        neighbors.extend(self.rows);
        neighbors.sort_unstable();
        neighbors.truncate(k);
        Rows { neighbors, timed_out: found.timed_out, cost }
    }
}

enum GraphFilter<'a> {
    All,
    Base(&'a IdSet),
    Without(Without<'a>),
}

impl GraphFilter<'_> {
    fn as_dyn(&self) -> Option<&dyn Filter> {
        match self {
            GraphFilter::All => None,
            GraphFilter::Base(base) => Some(*base),
            GraphFilter::Without(without) => Some(without),
        }
    }
}

/// A filter without the documents that the tail overrides.
struct Without<'a> {
    base: Option<&'a IdSet>,
    overridden: &'a HashSet<u32>,
    id_bound: u32,
    indexed: usize,
}

impl Filter for Without<'_> {
    fn allows(&self, id: u32) -> bool {
        !self.overridden.contains(&id) && self.base.is_none_or(|base| base.allows(id))
    }

    fn cardinality(&self) -> Option<usize> {
        self.base.map_or(Some(self.indexed), Filter::cardinality)
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        let mut visit = |id| {
            if !self.overridden.contains(&id) {
                visit(id);
            }
        };
        match self.base {
            Some(base) => base.for_each(ids, &mut visit),
            None => (*ids.start()..self.id_bound).take_while(|id| id <= ids.end()).for_each(visit),
        }
    }
}

#[cfg(test)]
mod tests;
