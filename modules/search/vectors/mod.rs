//! One vector field of an index: a flat index or a graph, and in front of the graph its tail.
//!
//! The tail holds the mutations that the graph does not have yet. It is searched exactly, so that a write is
//! visible as soon as it is applied, and neither writer nor search waits for the graph; index workers drain
//! it. What is in the tail overrides what the graph says about the same document.
//!
//! Live mutations overtake those of a backfill: they reach the graph first, and writers wait for a tail full
//! of their own kind alone. A backfill keeps its part of the tail short itself (`help`).
//!
//! A vector stands once: in the memory of the index, from the moment when it is applied. The hash's field is
//! a handle to it (`Housed`), and so is what waits in the tail.
//!
//! Invariants:
//! - per document, mutations reach the graph in the order in which they were applied: a document that a
//!   worker has in hand is not given to another, and a newer mutation replaces a waiting one;
//! - what a command has touched is live until the graph has it, whoever touches it then;
//! - each source goes on while the other one is never done: a worker's turn ends with one of the backfill's;
//! - a document leaves the tail only after the graph has it, so that a search that looks at the tail first
//!   and at the graph then misses nothing;
//! - workers take no lock but those of tail, queue and graph, for moments.

pub mod live;
pub mod workers;

use self::live::LiveRecall;
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

/// Live mutations of one field pending above which writers wait: every search looks at all of them, in about
/// the time that the walk through a graph takes. (With 4,096, the p99 of searches beside a full tail was 10
/// times the quiet one, and ingestion no faster: the graph sets its pace.)
pub const TAIL_MAX: usize = 512;

/// Mutations of one field that a backfill leaves to the workers before it looks for more.
pub const BACKFILL_TAIL_MAX: usize = TAIL_MAX / 4;

/// Documents of a flat index beyond the nearest k that are handed to the caller because they are as far as
/// the k-th. Of more than these, ids decide: a search must not load every document that has the same
/// meaningless vector.
const TIED_MAX: usize = 1024;

pub struct VectorField {
    options: VectorOptions,
    index: RwLock<Arc<Structure>>,
    tail: RwLock<HashMap<u32, Pending>>,
    queue: Mutex<Queue>,
    /// By source.
    pending: [AtomicUsize; 2],
    /// Nobody asks any more.
    is_closed: AtomicBool,
    pub live: LiveRecall,
    /// That bringing documents into the graph has taken, of all threads.
    indexing_ns: AtomicU64,
}

/// Where a mutation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A command: somebody may be waiting to make the next one.
    Live,
    /// A walk over what was there before.
    Backfill,
}

/// What a field's vectors are indexed by, and where they stand.
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

    /// Of a graph whose vectors hashes know by this home already.
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

    /// The memory of the vectors, as hashes know it.
    pub fn home(&self) -> Arc<dyn House> {
        self.house.clone()
    }

    /// A handle for the hash whose field has this vector.
    pub fn house(&self, vector: Placed) -> Housed {
        Housed::new(self.house.clone(), vector.into_slot())
    }
}

/// The memory of an index as hashes know it. It outlives the index for as long as a hash has something there.
struct Home(Arc<Vectors>);

/// The memory of an index as hashes are to know it: one for each index.
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

/// How a graph of this field is built; a saved one must have been built so.
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

/// What the graph is to be told of a document.
#[derive(Clone)]
struct Pending {
    sequence: u64,
    source: Source,
    /// `None` to remove it.
    vector: Option<Placed>,
}

#[derive(Default)]
struct Queue {
    /// Documents by the source of their mutations. Some are here no longer: they were brought, or stand in
    /// the other one.
    waiting: [VecDeque<u32>; 2],
    /// Documents that a worker has in hand.
    busy: HashSet<u32>,
    sequence: u64,
    /// Workers that know of this queue.
    workers: usize,
}

impl Queue {
    fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}

const LIVE_FIRST: [Source; 2] = [Source::Live, Source::Backfill];
const BACKFILL_FIRST: [Source; 2] = [Source::Backfill, Source::Live];

/// Rows, nearest first, and whether the time ran out before all were seen.
pub struct Rows {
    pub neighbors: Vec<Neighbor>,
    pub timed_out: bool,
    pub cost: Cost,
}

/// What a question cost, and how it was answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Distances that were computed, those of the tail included.
    pub evaluated: usize,
    /// Nodes of the graph whose neighbours were looked at.
    pub visited: usize,
    /// All candidates were scanned; otherwise the graph was walked.
    pub exact: bool,
    /// The graph's codes were of no use, and the walk went by the vectors.
    pub too_coarse: bool,
    /// Pending mutations, which are scanned in any case.
    pub tail: usize,
    /// See `SearchOutcome`.
    pub slack: Option<f32>,
}

/// How thoroughly a graph is searched.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Width of the beam.
    pub ef: usize,
    /// The share of the true nearest to be found, instead of a width.
    pub recall: Option<f32>,
}

impl Effort {
    pub fn beam(ef: usize) -> Self {
        Effort { ef, recall: None }
    }
}

/// A question about nearest neighbours.
pub struct Question<'a> {
    pub query: &'a [u8],
    pub filter: Option<&'a IdSet>,
    /// All ids are below it.
    pub id_bound: u32,
    pub is_late: &'a dyn Fn() -> bool,
}

impl VectorField {
    pub fn new(options: VectorOptions) -> VectorField {
        VectorField {
            index: RwLock::new(Arc::new(Structure::new(&options))),
            options,
            tail: RwLock::default(),
            queue: Mutex::default(),
            pending: Default::default(),
            is_closed: AtomicBool::new(false),
            live: LiveRecall::default(),
            indexing_ns: AtomicU64::new(0),
        }
    }

    /// Notes the time that somebody took to bring documents into the graph.
    pub fn spent(&self, time: Duration) {
        self.indexing_ns.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn indexing_time(&self) -> Duration {
        Duration::from_nanos(self.indexing_ns.load(Ordering::Relaxed))
    }

    pub fn options(&self) -> &VectorOptions {
        &self.options
    }

    /// Takes over a structure that was saved; before the first command.
    pub fn adopt(&self, structure: Structure) {
        *self.index.write() = Arc::new(structure);
    }

    pub fn structure(&self) -> Arc<Structure> {
        self.index.read().clone()
    }

    /// Is a search with this recall for `k` rows a walk of a length that is known?
    pub fn is_quick(&self, recall: f32, k: usize) -> bool {
        self.structure().graph().is_some_and(|graph| graph.is_quick(recall, k))
    }

    /// Mutations that the graph does not have yet.
    pub fn pending(&self) -> usize {
        self.pending.iter().map(|pending| pending.load(Ordering::Relaxed)).sum()
    }

    pub fn pending_of(&self, source: Source) -> usize {
        self.pending[source as usize].load(Ordering::Relaxed)
    }

    pub fn memory_bytes(&self) -> usize {
        self.structure().index().memory_bytes()
    }

    /// The document's vector, as it was applied last.
    fn vector(&self, structure: &Structure, id: u32) -> Option<Placed> {
        match self.tail.read().get(&id) {
            Some(pending) => pending.vector.clone(),
            None => structure.index().vector(id),
        }
    }

    /// How far a document's vector is from the query, as it was applied last, if it has one.
    pub fn distance(&self, id: u32, query: &[u8]) -> Option<f64> {
        let held = self.vector(&self.structure(), id)?;
        let VectorOptions { element, metric, .. } = self.options;
        Some(engramdb_vector::distance_of(element, metric, query, held.as_bytes()))
    }

    /// Sets a document's vector, of checked size and finite. Returns where it stands now, if it stood
    /// elsewhere, and whether a worker should be called.
    pub fn set(&self, source: Source, id: u32, vector: &[u8], workers_max: usize) -> (Option<Housed>, bool) {
        let structure = self.structure();
        if let Some(held) = self.vector(&structure, id).filter(|held| held.as_bytes() == vector) {
            let is_here = std::ptr::eq(held.as_bytes(), vector);
            return ((!is_here).then(|| structure.house(held)), false);
        }
        let placed =
            structure.index().place(vector).expect("size and components were checked, and ids are scarcer");
        let called = self.tell(&structure, source, id, Some(placed.clone()), workers_max);
        (Some(structure.house(placed)), called)
    }

    /// Takes a document's vector away. Returns true if a worker should be called.
    pub fn remove(&self, id: u32, workers_max: usize) -> bool {
        let structure = self.structure();
        let is_there = match self.tail.read().get(&id) {
            Some(pending) => pending.vector.is_some(),
            None => structure.index().contains(id),
        };
        is_there && self.tell(&structure, Source::Live, id, None, workers_max)
    }

    /// Brings a mutation to the index: at once, or by way of the tail. Returns true if a worker should be
    /// called.
    fn tell(
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
            before.inspect(|before| _ = self.pending[*before as usize].fetch_sub(1, Ordering::Relaxed));
            self.pending[source as usize].fetch_add(1, Ordering::Relaxed);
            queue.waiting[source as usize].push_back(id);
        }
        let wanted = queue.workers < workers_max && queue.workers < queue.waiting();
        queue.workers += usize::from(wanted);
        wanted
    }

    /// Nothing that is pending has to be brought any more.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// A worker's part: brings up to `limit` documents into the graph. False when there is nothing left to
    /// do, and the worker has been signed off.
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

    /// Helps the workers with what a backfill has told: brings documents into the graph until at most `most`
    /// of its are pending, or none is to be had. Returns true if a worker should be called for the rest.
    pub fn help(&self, most: usize) -> bool {
        let structure = self.structure();
        while self.pending_of(Source::Backfill) > most {
            let Some((id, pending)) = self.take(&[Source::Backfill], false) else { break };
            self.bring(structure.index(), id, &pending);
        }
        self.leave()
    }

    /// Brings what is pending now into the graph, as far as no worker has it in hand: before a graph is
    /// saved. Returns true if a worker should be called for what came meanwhile.
    pub fn settle(&self) -> bool {
        let structure = self.structure();
        for _ in 0..self.pending() {
            let Some((id, pending)) = self.take(&LIVE_FIRST, false) else { break };
            self.bring(structure.index(), id, &pending);
        }
        self.leave()
    }

    /// Whoever is no worker and has brought documents leaves nothing behind that no worker knows of: a worker
    /// that met them in hand may have gone. Returns true if one should be called.
    fn leave(&self) -> bool {
        let mut queue = self.queue.lock();
        let wanted = queue.workers == 0 && queue.waiting() > 0;
        queue.workers += usize::from(wanted);
        wanted
    }

    /// Takes a document in hand, of the first source that has one. A worker that finds none is signed off.
    fn take(&self, order: &[Source], is_worker: bool) -> Option<(u32, Pending)> {
        let mut queue = self.queue.lock();
        let tail = self.tail.read();
        for &source in order {
            while let Some(id) = queue.waiting[source as usize].pop_front() {
                // Whoever has it in hand puts it back if there is more to bring.
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

    fn bring(&self, index: &dyn VectorIndex, id: u32, pending: &Pending) {
        match &pending.vector {
            Some(vector) => index.insert_placed(id, vector),
            None => _ = index.remove(id),
        }
        let mut queue = self.queue.lock();
        queue.busy.remove(&id);
        let mut tail = self.tail.write();
        let now = tail.get(&id).expect("only who has it in hand takes it from the tail");
        let source = now.source as usize;
        if now.sequence == pending.sequence {
            tail.remove(&id);
            self.pending[source].fetch_sub(1, Ordering::Relaxed);
        } else {
            queue.waiting[source].push_back(id);
        }
    }

    /// The `k` nearest of the documents that the filter allows. A flat index adds those that are as far as
    /// the last of them, so that the caller can choose by key: ids are given anew at a start, and answers are
    /// to stay the same.
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

    /// As `nearest`, but walks by the vectors, whatever codes the graph has.
    pub fn nearest_by_vectors(&self, question: &Question<'_>, k: usize, ef: usize) -> Rows {
        self.search_by(question, k, Effort::beam(ef), |structure, request| match structure.graph() {
            Some(graph) => graph.search_by_vectors(request),
            None => structure.index().search(request),
        })
    }

    /// The true `k` nearest among a graph's documents, without those of `changing`. Documents that change
    /// meanwhile can be missing or wrong. `None` where the question is late, which is asked for before every
    /// slice.
    pub fn nearest_exactly(
        &self,
        question: &Question<'_>,
        k: usize,
        changing: &RoaringBitmap,
    ) -> Option<Vec<Neighbor>> {
        let structure = self.structure();
        let graph = structure.graph()?;
        // Before the graph, which what leaves the tail enters first.
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
        // Handles, so that no writer waits while distances are computed.
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

/// What the tail says: its own rows, and whose the graph's are not to be trusted.
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
