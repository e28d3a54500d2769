//! Vectors in slots, and the map from ids to slots: the base of both indexes.
//!
//! The states of a slot are free -> pending (being linked) -> live -> deleted -> free. Invariants:
//!
//! - While a slot is in the index, which is from pending on, the index holds its vector (vectors.rs), and the
//!   vector is immutable: a pinned thread that has met the slot may read it without a lock.
//! - `slots_by_id` is authoritative: a slot is current if the map refers to it. States are hints that are
//!   updated right after it; a search checks its rows against the map at the end (`settle`).
//! - A slot becomes free only by `release`, whose caller knows that no thread can hold the slot (scratch.rs).

#![allow(unsafe_code, reason = "the graph's storage, shared between threads without locks")]

mod members;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use crate::candidates::Candidate;
use crate::codes::{Centre, CodeBuffer, CodedQuery, Codes};
use crate::copies::Copies;
use crate::kernels::elements::is_plain;
use crate::kernels::{self, Kernel, Width};
use crate::scan_threads::Helpers;
use crate::scratch::{Pinned, Scratch, ScratchPool};
use crate::slab::Slab;
use crate::vectors::{Placed, Vectors};
use crate::{Element, Metric, Neighbor, Quantization, SearchOutcome, VectorError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Not in the index, although a caller may hold the vector.
    Free = 0,
    Pending = 1,
    Live = 2,
    Deleted = 3,
}

/// In the byte of a state: the bits of the state itself.
const STATE_BITS: u8 = 3;
/// Hints: what codes around this slot were found to be precise enough for when it was linked, see
/// `Resolution`. This bit: not for choosing links.
const NO_LINKS_BY_CODES: u8 = 4;
/// This bit: not for guiding walks either.
const NO_WALKS_BY_CODES: u8 = 32;

impl State {
    pub fn from_byte(byte: u8) -> Option<State> {
        [State::Free, State::Pending, State::Live, State::Deleted]
            .into_iter()
            .find(|&state| state as u8 == byte)
    }
}

/// The type of the vectors of an index, and their metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub element: Element,
    /// The number of components.
    pub dimension: usize,
    pub metric: Metric,
}

/// What codes are precise enough for around a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolution {
    /// Nothing: a search that arrives here by codes has to use the vectors in the end.
    Nothing,
    /// Guiding walks, but not choosing links: that compares distances which differ by less than the error, or
    /// are smaller than it.
    Walks,
    /// Guiding walks, and choosing links.
    Links,
}

pub(crate) struct Store {
    pub kind: Kind,
    kernel: Kernel,
    vectors: Arc<Vectors>,
    /// The codes that walks read instead of the vectors, if the index has any.
    codes: Option<Codes>,
    /// Cosine only: the bits of one over each vector's length. They are stored apart from the vectors so that
    /// those stay aligned.
    inverse_norms: Slab<AtomicU32>,
    ids: Slab<AtomicU32>,
    states: Slab<AtomicU8>,
    /// Documents with equal vectors.
    copies: Copies,
    /// By id: its slot plus one, or 0.
    slots_by_id: Slab<AtomicU32>,
    /// The largest id plus one, for accounting.
    id_bound: AtomicUsize,
    live: AtomicUsize,
    scratches: ScratchPool,
    /// Threads that help with long scans.
    pub helpers: &'static Helpers,
}

/// A query vector, with what the metric needs of it.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    vector: &'a [u8],
    inverse_norm: f32,
    /// `Some` if the store has codes.
    coded: Option<CodedQuery<'a>>,
    /// The walk uses the vectors although there are codes.
    by_vectors: bool,
}

const PREFETCHED_LINES_MAX: usize = 32;

/// Number of vectors whose mean is a good centre. Before that there are no codes, and such a small index does
/// not need any.
const CODED_FROM: usize = 1_000;

/// Vectors to prefetch while one is ranked.
pub(crate) const RANKED_AHEAD: usize = 4;

impl Query<'_> {
    /// Whether walks with this query read codes.
    #[inline(always)]
    pub fn is_coded(&self) -> bool {
        self.coded.is_some() && !self.by_vectors
    }

    /// The same query for walks that read vectors.
    #[inline(always)]
    pub fn uncoded(&self) -> Self {
        Query { by_vectors: true, ..*self }
    }

    /// The same query for walks that read codes, if there are any.
    #[inline(always)]
    pub fn coded_again(&self) -> Self {
        Query { by_vectors: false, ..*self }
    }
}

impl Store {
    /// `for_walks`: walks will read the vectors or codes; otherwise only scans will. Walks read codes, if
    /// there are any.
    pub fn new(kind: Kind, quantization: Quantization, for_walks: bool) -> Self {
        let kind = Kind { dimension: kind.dimension.max(1), ..kind };
        let codes = Width::of(quantization).map(|width| Codes::new(kind.dimension, kind.metric, width));
        let for_walks = for_walks && codes.is_none();
        Store {
            kernel: kind.element.kernel(kind.metric),
            vectors: Arc::new(Vectors::new(kind.dimension * kind.element.bytes(), for_walks)),
            kind,
            codes,
            inverse_norms: Slab::new(1),
            ids: Slab::new(1),
            states: Slab::new(1),
            copies: Copies::default(),
            slots_by_id: Slab::new(1),
            id_bound: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            scratches: ScratchPool::new(),
            helpers: Helpers::of_process(),
        }
    }

    // Life of a slot.

    /// Refuses a vector to which no distance can be computed.
    pub fn check(&self, vector: &[u8]) -> Result<(), VectorError> {
        let expected = self.vectors.vector_bytes();
        if vector.len() != expected {
            return Err(VectorError::Size { expected, got: vector.len() });
        }
        if self.kind.element.is_finite(vector) { Ok(()) } else { Err(VectorError::NotFinite) }
    }

    /// Writes a vector to a free slot. Only the caller knows the slot.
    pub fn place(&self, vector: &[u8]) -> Result<Placed, VectorError> {
        self.check(vector)?;
        let placed = self.vectors.place(vector, |slot| self.ensure(slot))?;
        if self.kind.metric == Metric::Cosine {
            self.set_inverse_norm(placed.slot_in(&self.vectors), self.kind.element.inverse_norm(vector));
        }
        Ok(placed)
    }

    /// Precondition: no other thread knows the slot yet.
    fn set_inverse_norm(&self, slot: u32, inverse_norm: f32) {
        self.inverse_norms.row(slot)[0].store(inverse_norm.to_bits(), Ordering::Relaxed);
    }

    /// Takes a placed vector into the index as pending, and computes what distances to it are computed from.
    pub fn admit(&self, id: u32, placed: &Placed, buffer: &mut CodeBuffer) -> u32 {
        let slot = placed.slot_in(&self.vectors);
        let (free, pending) = (State::Free as u8, State::Pending as u8);
        let taken =
            self.states.row(slot)[0].compare_exchange(free, pending, Ordering::AcqRel, Ordering::Relaxed);
        assert!(taken.is_ok(), "a placed vector is inserted once");
        self.vectors.hold(slot);
        if let Some((codes, centre)) = self.codes_to_write() {
            // SAFETY: the slot is not in the index yet, and only the thread that has made it pending gets
            // here.
            unsafe { self.fill_codes(codes, centre, slot, buffer) };
        }
        self.ids.row(slot)[0].store(id, Ordering::Relaxed);
        self.slots_by_id.ensure(id);
        self.id_bound.fetch_max(id as usize + 1, Ordering::Relaxed);
        slot
    }

    /// # Safety
    /// No other thread reads or writes this slot's codes during the call.
    unsafe fn fill_codes(&self, codes: &Codes, centre: &Centre, slot: u32, buffer: &mut CodeBuffer) {
        let (vector, inverse_norm) = (self.vectors.row(slot), self.inverse_norm_of(slot));
        // SAFETY: guaranteed by the caller.
        unsafe { codes.fill(centre, slot, self.kind.element, vector, inverse_norm, buffer) };
    }

    /// The codes that searches read, if there are any yet.
    #[inline(always)]
    fn made_codes(&self) -> Option<(&Codes, &Centre)> {
        let codes = self.codes.as_ref()?;
        Some((codes, codes.centre()?))
    }

    /// The codes to write: those of `made_codes`, or those of a recomputation.
    fn codes_to_write(&self) -> Option<(&Codes, &Centre)> {
        let codes = self.codes.as_ref()?;
        Some((codes, codes.centre_to_write()?))
    }

    /// The centre of the codes that are written; `None` while there are no codes.
    pub fn centre(&self) -> Option<&Centre> {
        self.made_codes().map(|(_, centre)| centre)
    }

    /// Sets the centre of restored codes.
    pub fn restore_centre(&self, components: Vec<f32>) {
        if let Some(codes) = &self.codes {
            codes.set_centre(Centre::new(components));
        }
    }

    /// Whether there are enough vectors to make codes, and no codes yet.
    pub fn needs_first_codes(&self) -> bool {
        self.codes.is_some() && self.len() >= CODED_FROM && self.codes_to_write().is_none()
    }

    /// Computes the codes of all vectors in the index, around their mean. The caller excludes mutations;
    /// concurrent searches go on without codes.
    pub fn make_codes(&self, buffer: &mut CodeBuffer) {
        let Some(codes) = self.codes.as_ref().filter(|_| self.needs_first_codes()) else { return };
        let slots = || (0..self.slot_count()).filter(|&slot| self.state(slot) != State::Free);
        let mut sums = vec![0.0_f64; self.kind.dimension];
        let mut components = Vec::new();
        for slot in slots() {
            codes.widen(
                self.kind.element,
                self.vectors.row(slot),
                self.inverse_norm_of(slot),
                &mut components,
            );
            sums.iter_mut().zip(&components).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let count = slots().count() as f64;
        let centre = Centre::new(sums.iter().map(|sum| (sum / count) as f32).collect());
        for slot in slots() {
            // SAFETY: no thread reads codes before they have a centre, and the caller excludes other writers.
            unsafe { self.fill_codes(codes, &centre, slot, buffer) };
        }
        codes.set_centre(centre);
    }

    /// Appends what codes are computed from: the vector as floats, for cosine divided by its length. False if
    /// the index has no codes.
    pub fn widen(&self, slot: u32, out: &mut Vec<f32>) -> bool {
        let Some(codes) = &self.codes else { return false };
        codes.widen(self.kind.element, self.vectors.row(slot), self.inverse_norm_of(slot), out);
        true
    }

    /// Begins to recompute all codes around this centre: vectors admitted from now on get such codes, and
    /// searches that begin from now on use none. The caller excludes mutations.
    pub fn begin_recoding(&self, centre: Centre) {
        self.codes.iter().for_each(|codes| codes.begin_recoding(centre.clone()));
    }

    /// Recomputes the code of a slot.
    ///
    /// # Safety
    /// No other thread reads or writes the codes of this slot during the call: it is live or deleted and
    /// stays so, and searches that began before `begin_recoding` have ended.
    pub unsafe fn recode(&self, slot: u32, buffer: &mut CodeBuffer) {
        if let Some((codes, centre)) = self.codes_to_write() {
            // SAFETY: guaranteed by the caller.
            unsafe { self.fill_codes(codes, centre, slot, buffer) };
        }
    }

    /// Ends what `begin_recoding` began. The caller excludes mutations.
    ///
    /// # Safety
    /// If `is_whole`: the codes of all slots were recomputed, and searches that began before `begin_recoding`
    /// have ended.
    pub unsafe fn end_recoding(&self, is_whole: bool) {
        if let Some(codes) = &self.codes {
            if is_whole {
                // SAFETY: guaranteed by the caller.
                unsafe { codes.end_recoding() };
            } else {
                codes.abandon_recoding();
            }
        }
    }

    fn ensure(&self, slot: u32) {
        if let Some(codes) = &self.codes {
            codes.ensure(slot);
        }
        self.ids.ensure(slot);
        self.states.ensure(slot);
        if self.kind.metric == Metric::Cosine {
            self.inverse_norms.ensure(slot);
        }
    }

    /// Makes a pending slot the current one of its id. Returns the slot that it replaces, for `leave`.
    pub fn commit(&self, slot: u32) -> Option<u32> {
        self.set_state(slot, State::Live);
        let old = self.slots_by_id.row(self.id_of(slot))[0].swap(slot + 1, Ordering::AcqRel);
        if old == 0 {
            self.live.fetch_add(1, Ordering::Relaxed);
        }
        old.checked_sub(1)
    }

    /// Removes an id. Returns its slot, for `leave`.
    pub fn take(&self, id: u32) -> Option<u32> {
        let old = self.slots_by_id.get(id)?[0].swap(0, Ordering::AcqRel).checked_sub(1)?;
        self.live.fetch_sub(1, Ordering::Relaxed);
        Some(old)
    }

    /// Releases deleted slots that no search can hold or reach.
    pub fn release(&self, slots: impl IntoIterator<Item = u32>) {
        for slot in slots {
            self.set_state(slot, State::Free);
            self.vectors.release_holder(slot);
        }
    }

    /// Allocates memory for `slots` slots that are about to be restored, except for their vectors.
    pub fn reserve(&self, slots: u32) {
        if let Some(codes) = &self.codes {
            codes.reserve(slots);
        }
    }

    /// Allocates memory for the vectors of restored slots.
    pub fn restore_room(&self, slots: u32) {
        self.vectors.reserve(slots);
        (0..slots).for_each(|slot| self.vectors.restore(slot, self.state(slot) != State::Free));
    }

    /// Touches the memory that the next vectors are written to, if touching it would take the writer long.
    pub fn prepare(&self) {
        if self.codes.is_none() {
            self.vectors.prepare();
        }
    }

    /// Restores a saved slot, except for its vector and the memory of that. The store is new and not shared
    /// yet.
    pub fn restore(&mut self, slot: u32, id: u32, state: State, (codes, inverse_norm): (&[u8], f32)) {
        self.ensure(slot);
        if self.kind.metric == Metric::Cosine {
            self.set_inverse_norm(slot, inverse_norm);
        }
        if let Some((kept, _)) = self.made_codes() {
            // SAFETY: `&mut self` excludes all other accesses.
            unsafe { kept.restore(slot, codes) };
        }
        self.ids.row(slot)[0].store(id, Ordering::Relaxed);
        self.set_state(slot, state);
    }

    /// Writes the vector of a restored slot.
    ///
    /// # Safety
    /// No other thread reads or writes the slot's vector during the call, or holds a reference to it.
    pub unsafe fn restore_vector(&self, slot: u32, vector: &[u8]) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.vectors.fill(slot, vector) };
    }

    /// A `Placed` of the vector in a slot that is in the index.
    pub fn vector_at(&self, slot: u32) -> Placed {
        self.vectors.hold(slot);
        self.vectors.placed(slot)
    }

    /// Makes a restored live slot the current one of its id; false if the id has a slot already.
    pub fn restore_id(&mut self, slot: u32) -> bool {
        let id = self.id_of(slot);
        self.slots_by_id.ensure(id);
        self.id_bound.fetch_max(id as usize + 1, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::Relaxed);
        self.slots_by_id.row(id)[0].swap(slot + 1, Ordering::Relaxed) == 0
    }

    // The state of a slot.

    #[inline(always)]
    pub fn state(&self, slot: u32) -> State {
        match self.states.row(slot)[0].load(Ordering::Acquire) & STATE_BITS {
            0 => State::Free,
            1 => State::Pending,
            2 => State::Live,
            _ => State::Deleted,
        }
    }

    /// Sets the state and keeps the other bits, which are hints.
    pub fn set_state(&self, slot: u32, state: State) {
        let kept = if state == State::Free { 0 } else { !STATE_BITS };
        let change = |byte| Some((byte & kept) | state as u8);
        let changed = self.states.row(slot)[0].fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
        debug_assert!(changed.is_ok(), "the closure always returns a byte");
    }

    /// What codes were precise enough for around this slot when it was linked.
    #[inline(always)]
    pub fn resolution_at(&self, slot: u32) -> Resolution {
        let byte = self.states.row(slot)[0].load(Ordering::Relaxed);
        match (byte & NO_LINKS_BY_CODES, byte & NO_WALKS_BY_CODES) {
            (0, _) => Resolution::Links,
            (_, 0) => Resolution::Walks,
            _ => Resolution::Nothing,
        }
    }

    pub fn set_resolution(&self, slot: u32, resolution: Resolution) {
        let hints = match resolution {
            Resolution::Links => 0,
            Resolution::Walks => NO_LINKS_BY_CODES,
            Resolution::Nothing => NO_LINKS_BY_CODES | NO_WALKS_BY_CODES,
        };
        let cleared = !(NO_LINKS_BY_CODES | NO_WALKS_BY_CODES);
        let byte = &self.states.row(slot)[0];
        let changed =
            byte.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |byte| Some(byte & cleared | hints));
        debug_assert!(changed.is_ok(), "the closure always returns a byte");
    }

    /// Whether codes are precise enough to choose links between these two slots.
    pub fn links_by_codes(&self, a: u32, b: u32) -> bool {
        self.resolution_at(a) == Resolution::Links && self.resolution_at(b) == Resolution::Links
    }

    #[inline(always)]
    pub fn id_of(&self, slot: u32) -> u32 {
        self.ids.row(slot)[0].load(Ordering::Relaxed)
    }

    /// The current slot of an id.
    #[inline]
    pub fn slot_of(&self, id: u32) -> Option<u32> {
        self.slots_by_id.get(id)?[0].load(Ordering::Acquire).checked_sub(1)
    }

    /// All ids are below this.
    pub fn id_bound(&self) -> u64 {
        self.id_bound.load(Ordering::Acquire) as u64
    }

    /// The number of ids in a segment of the map. The first id of a segment is a multiple of it.
    pub fn ids_per_segment(&self) -> u64 {
        self.slots_by_id.rows_per_segment() as u64
    }

    /// Whether the segment of this id exists.
    pub fn has_segment_of(&self, id: u32) -> bool {
        self.slots_by_id.get(id).is_some()
    }

    /// Visits every id of the range that is present, with its slot, in ascending order.
    pub fn for_each_id(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32, u32)) {
        let (mut next, last) = (u64::from(*ids.start()), u64::from(*ids.end()));
        while next <= last {
            let segment_end = (next + 1).next_multiple_of(self.ids_per_segment());
            if self.has_segment_of(next as u32) {
                for id in next..segment_end.min(last + 1) {
                    if let Some(slot) = self.slot_of(id as u32) {
                        visit(id as u32, slot);
                    }
                }
            }
            next = segment_end;
        }
    }

    pub fn slot_count(&self) -> u32 {
        self.vectors.slot_count()
    }

    pub fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub fn pin(&self) -> Pinned<'_> {
        self.scratches.pin()
    }

    pub fn scratches(&self) -> &ScratchPool {
        &self.scratches
    }

    // Distances. The caller is pinned, and met the slot while it was pinned.

    /// Runs a search for a vector that a caller passed: pinned, with the vector aligned as stored ones are,
    /// and with its code if there are codes.
    pub fn answer(
        &self,
        vector: &[u8],
        search: impl FnOnce(&Query<'_>, &mut Scratch) -> SearchOutcome,
    ) -> Result<SearchOutcome, VectorError> {
        self.check(vector)?;
        let mut scratch = self.pin();
        // Moved out of the scratch memory while the query borrows it.
        let mut aligned = std::mem::take(&mut scratch.query);
        let mut codes = std::mem::take(&mut scratch.codes);
        let outcome = search(&self.walking_query(aligned.copy(vector), &mut codes), &mut scratch);
        (scratch.query, scratch.codes) = (aligned, codes);
        Ok(outcome)
    }

    pub fn query<'a>(&self, vector: &'a [u8]) -> Query<'a> {
        let is_cosine = self.kind.metric == Metric::Cosine;
        let inverse_norm = if is_cosine { self.kind.element.inverse_norm(vector) } else { 1.0 };
        Query { vector, inverse_norm, coded: None, by_vectors: false }
    }

    /// A query whose walk reads codes, if there are any; the query's code is stored in the buffer.
    pub fn walking_query<'a>(&self, vector: &'a [u8], buffer: &'a mut CodeBuffer) -> Query<'a> {
        let query = self.query(vector);
        let element = self.kind.element;
        let coded = self
            .made_codes()
            .map(|(codes, centre)| codes.query(centre, element, vector, query.inverse_norm, buffer));
        Query { coded, ..query }
    }

    /// A stored vector as a query whose walk reads codes.
    #[inline]
    pub fn query_of(&self, slot: u32) -> Query<'_> {
        let coded = self.made_codes().map(|(codes, centre)| codes.query_of(centre, slot));
        Query {
            vector: self.vectors.row(slot),
            inverse_norm: self.inverse_norm_of(slot),
            coded,
            by_vectors: false,
        }
    }

    /// The distance that guides a walk: from the codes if there are any.
    #[inline(always)]
    pub fn near_distance(&self, query: &Query<'_>, slot: u32) -> f32 {
        match (&self.codes, &query.coded) {
            (Some(codes), Some(coded)) if !query.by_vectors => codes.distance(coded, slot),
            _ => self.distance(query, slot),
        }
    }

    /// The standard deviation of the distance by codes; 0 if the query has none.
    pub fn deviation(&self, query: &Query<'_>, slot: u32) -> f32 {
        match (&self.codes, &query.coded) {
            (Some(codes), Some(coded)) => codes.deviation(coded, slot),
            _ => 0.0,
        }
    }

    /// A candidate with the distance that guides a walk. Candidates are ranked again before they become rows.
    #[inline(always)]
    pub fn near_candidate(&self, query: &Query<'_>, slot: u32) -> Candidate {
        Candidate::new(self.near_distance(query, slot), slot)
    }

    /// The least number of candidates by codes that a search keeps, so that these contain the `k` nearest for
    /// smoothly distributed vectors. `rank_again` checks whether they do.
    pub fn kept_for(&self, k: usize) -> usize {
        match self.codes.as_ref().map(Codes::width) {
            Some(Width::One) => k.saturating_mul(10).saturating_add(100),
            Some(Width::Four | Width::Eight) | None => k.saturating_add((k / 2).max(20)),
        }
    }

    #[inline(always)]
    pub fn distance(&self, query: &Query<'_>, slot: u32) -> f32 {
        let (row, inverse_norm) = (self.vectors.row(slot), self.inverse_norm_of(slot));
        if !(is_plain(query.inverse_norm) && is_plain(inverse_norm)) {
            return self.kind.element.cosine_distance(query.vector, row) as f32;
        }
        kernels::finish(self.kind.metric, (self.kernel)(query.vector, row), query.inverse_norm, inverse_norm)
    }

    /// The distance to return, given this one in `f32`.
    pub fn replied(&self, query: &Query<'_>, slot: u32, distance: f32) -> f64 {
        match self.kind.element {
            Element::F64 => self.double_distance(query, slot),
            _ => f64::from(distance),
        }
    }

    /// The distance of vectors of doubles, in `f64`.
    pub fn double_distance(&self, query: &Query<'_>, slot: u32) -> f64 {
        kernels::distance_of(Element::F64, self.kind.metric, query.vector, self.vectors.row(slot))
    }

    #[inline(always)]
    pub fn candidate(&self, query: &Query<'_>, slot: u32) -> Candidate {
        Candidate::new(self.distance(query, slot), slot)
    }

    #[inline(always)]
    pub fn inverse_norm_of(&self, slot: u32) -> f32 {
        if self.kind.metric != Metric::Cosine {
            return 1.0;
        }
        f32::from_bits(self.inverse_norms.row(slot)[0].load(Ordering::Relaxed))
    }

    /// The number of cache lines of a vector that are worth a prefetch; after those, the hardware prefetcher
    /// takes over.
    pub fn prefetch_lines(&self) -> usize {
        self.vectors.vector_bytes().div_ceil(64).min(PREFETCHED_LINES_MAX)
    }

    #[inline(always)]
    pub fn prefetch(&self, slot: u32, lines: usize) {
        self.vectors.prefetch(slot, lines);
        if self.kind.metric == Metric::Cosine {
            self.inverse_norms.prefetch(slot, 1);
        }
    }

    /// As `prefetch_lines` and `prefetch`, for the memory that `near_distance` reads.
    pub fn near_prefetch_lines(&self) -> usize {
        self.codes.as_ref().map_or_else(|| self.prefetch_lines(), Codes::prefetch_lines)
    }

    #[inline(always)]
    pub fn near_prefetch(&self, slot: u32, lines: usize) {
        match &self.codes {
            Some(codes) => codes.prefetch(slot, lines),
            None => self.prefetch(slot, lines),
        }
    }

    // Queries that both indexes answer in the same way.

    pub fn contains(&self, id: u32) -> bool {
        self.slot_of(id).is_some()
    }

    pub fn vectors(&self) -> &Arc<Vectors> {
        &self.vectors
    }

    pub fn vector_of(&self, id: u32) -> Option<Placed> {
        // While this is pinned, a slot that the id has had is not released.
        let _pinned = self.pin();
        Some(self.vector_at(self.slot_of(id)?))
    }

    /// Bytes of one vector.
    pub fn vector_bytes_each(&self) -> usize {
        self.vectors.vector_bytes()
    }

    /// Bytes of one vector's codes; 0 if the index has none.
    pub fn code_bytes(&self) -> usize {
        self.made_codes().map_or(0, |(codes, _)| codes.row_bytes())
    }

    /// The codes in a slot that is in the index.
    pub fn codes_in(&self, slot: u32) -> &[u8] {
        self.made_codes().map_or(&[], |(codes, _)| codes.row(slot))
    }

    /// The vector in a slot that is in the index.
    pub fn vector_in(&self, slot: u32) -> &[u8] {
        self.vectors.row(slot)
    }

    pub fn distances(&self, query: &[u8], vectors: &[(u32, Placed)]) -> Result<Vec<Neighbor>, VectorError> {
        self.check(query)?;
        let query = self.query(query);
        let lines = self.prefetch_lines();
        let row = |(at, (id, placed)): (usize, &(u32, Placed))| {
            if let Some((_, later)) = vectors.get(at + RANKED_AHEAD) {
                self.prefetch(later.slot_in(&self.vectors), lines);
            }
            let slot = placed.slot_in(&self.vectors);
            let distance = self.distance(&query, slot);
            Neighbor { id: *id, distance: self.replied(&query, slot, distance) }
        };
        Ok(vectors.iter().enumerate().map(row).collect())
    }

    pub fn vector_bytes(&self) -> usize {
        self.slot_count() as usize * self.vectors.vector_bytes()
    }

    /// Memory of maps, states, norms and scratch memory, in bytes.
    pub fn other_bytes(&self) -> usize {
        let norms = if self.kind.metric == Metric::Cosine { self.inverse_norms.row_bytes() } else { 0 };
        let codes = self.codes.as_ref().map_or(0, Codes::row_bytes);
        // The two bytes are the count of holders.
        let per_slot = self.ids.row_bytes() + self.states.row_bytes() + norms + codes + 2;
        self.slot_count() as usize * per_slot
            + self.id_bound.load(Ordering::Relaxed) * self.slots_by_id.row_bytes()
            + self.scratches.bytes()
            + self.copies.bytes()
    }
}
