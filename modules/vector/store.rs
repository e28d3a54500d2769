//! Vectors in slots, and which id has which slot: what both indexes are built on.
//!
//! A slot goes free -> pending (written, being linked) -> live -> deleted -> free. Invariants:
//!
//! - A vector is written while its slot is pending and known to nobody else, and never again until the slot was
//!   free: whoever is pinned and has met the slot may read it without a lock.
//! - `slots_by_id` is the one truth about what an id is: a slot is current if the map says so. States are hints that
//!   follow at once; a search checks its rows against the map in the end (`settle`).
//! - A slot becomes free only by `release`, whose caller knows that nobody can hold it (see scratch.rs).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::codes::{CodeBuffer, CodedQuery, Codes, Width};
use crate::kernels::{self, Kernel, ordered};
use crate::pool::{Candidate, SLOT_LIMIT};
use crate::scratch::{Pinned, ScratchPool};
use crate::slab::Slab;
use crate::{Filter, Metric, Neighbor, Quantization, VectorError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    Pending = 1,
    Live = 2,
    Deleted = 3,
}

impl State {
    pub fn from_byte(byte: u8) -> Option<State> {
        [State::Free, State::Pending, State::Live, State::Deleted]
            .into_iter()
            .find(|&state| state as u8 == byte)
    }
}

pub(crate) struct Store {
    pub dimension: usize,
    pub metric: Metric,
    kernel: Kernel,
    pub vectors: Slab<f32>,
    /// What walks read instead of the vectors, if anything.
    codes: Option<Codes>,
    /// Cosine only: bits of one over each vector's length, apart from the vectors so that those keep their alignment.
    pub inverse_norms: Slab<AtomicU32>,
    pub ids: Slab<AtomicU32>,
    states: Slab<AtomicU8>,
    /// By id: its slot plus one, or 0.
    slots_by_id: Slab<AtomicU32>,
    /// The largest id plus one, for accounting.
    id_bound: AtomicUsize,
    allocator: Mutex<Allocator>,
    /// Slots handed out so far, free ones included: all slots are below it.
    slot_count: AtomicU32,
    live: AtomicUsize,
    scratches: ScratchPool,
}

#[derive(Default)]
struct Allocator {
    free: Vec<u32>,
}

/// A query vector with what the metric needs of it.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    vector: &'a [f32],
    inverse_norm: f32,
    /// If the store has codes, and the query is to find its way by them.
    coded: Option<CodedQuery<'a>>,
}

/// Vectors on their way from memory while one is ranked.
const RANKED_AHEAD: usize = 4;

impl Query<'_> {
    pub fn is_coded(&self) -> bool {
        self.coded.is_some()
    }

    /// The same, by the vectors.
    pub fn uncoded(&self) -> Self {
        Query { coded: None, ..*self }
    }
}

impl Store {
    pub fn new(dimension: usize, metric: Metric, quantization: Quantization) -> Self {
        let dimension = dimension.max(1);
        let kernels = kernels::best();
        Store {
            dimension,
            metric,
            kernel: if metric == Metric::L2 { kernels.l2_squared } else { kernels.dot },
            vectors: Slab::new(dimension),
            codes: Width::of(quantization).map(|width| Codes::new(dimension, metric, width)),
            inverse_norms: Slab::new(1),
            ids: Slab::new(1),
            states: Slab::new(1),
            slots_by_id: Slab::new(1),
            id_bound: AtomicUsize::new(0),
            allocator: Mutex::default(),
            slot_count: AtomicU32::new(0),
            live: AtomicUsize::new(0),
            scratches: ScratchPool::new(),
        }
    }

    // Life of a slot.

    /// Refuses what no distance can be computed to.
    pub fn check(&self, vector: &[f32]) -> Result<(), VectorError> {
        if vector.len() != self.dimension {
            return Err(VectorError::Dimension { expected: self.dimension, got: vector.len() });
        }
        if vector.iter().any(|x| !x.is_finite()) { Err(VectorError::NotFinite) } else { Ok(()) }
    }

    /// Writes a checked vector to a slot of its own, pending.
    pub fn allocate(&self, id: u32, vector: &[f32], buffer: &mut CodeBuffer) -> Result<u32, VectorError> {
        let slot = self.take_slot()?;
        let inverse_norm = if self.metric == Metric::Cosine { kernels::inverse_norm(vector) } else { 1.0 };
        // SAFETY: the slot was free or never used, so nobody reads it, and it was given to nobody else.
        unsafe { self.write(slot, vector, inverse_norm, buffer) };
        self.ids.row(slot)[0].store(id, Ordering::Relaxed);
        self.set_state(slot, State::Pending);
        self.slots_by_id.ensure(id);
        self.id_bound.fetch_max(id as usize + 1, Ordering::Relaxed);
        Ok(slot)
    }

    /// Writes what distances to a slot are computed from.
    ///
    /// # Safety
    /// Nobody reads or writes the slot's vector at the same time.
    unsafe fn write(&self, slot: u32, vector: &[f32], inverse_norm: f32, buffer: &mut CodeBuffer) {
        // SAFETY: as the caller promises.
        unsafe { self.vectors.fill(slot, vector) };
        if let Some(codes) = &self.codes {
            // SAFETY: as above.
            unsafe { codes.fill(slot, vector, inverse_norm, buffer) };
        }
        if self.metric == Metric::Cosine {
            self.inverse_norms.row(slot)[0].store(inverse_norm.to_bits(), Ordering::Relaxed);
        }
    }

    fn take_slot(&self) -> Result<u32, VectorError> {
        let mut allocator = self.allocator.lock();
        if let Some(slot) = allocator.free.pop() {
            return Ok(slot);
        }
        let slot = self.slot_count.load(Ordering::Relaxed);
        if slot >= SLOT_LIMIT {
            return Err(VectorError::Full);
        }
        self.ensure(slot);
        self.slot_count.store(slot + 1, Ordering::Release);
        Ok(slot)
    }

    fn ensure(&self, slot: u32) {
        self.vectors.ensure(slot);
        if let Some(codes) = &self.codes {
            codes.ensure(slot);
        }
        self.ids.ensure(slot);
        self.states.ensure(slot);
        if self.metric == Metric::Cosine {
            self.inverse_norms.ensure(slot);
        }
    }

    /// Makes a pending slot the one of its id. Returns the slot that it replaces, now deleted.
    pub fn commit(&self, slot: u32) -> Option<u32> {
        self.set_state(slot, State::Live);
        let old = self.slots_by_id.row(self.id_of(slot))[0].swap(slot + 1, Ordering::AcqRel);
        if old == 0 {
            self.live.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.set_state(old - 1, State::Deleted);
        Some(old - 1)
    }

    /// Takes an id away. Returns the slot that it had, now deleted.
    pub fn take(&self, id: u32) -> Option<u32> {
        let old = self.slots_by_id.get(id)?[0].swap(0, Ordering::AcqRel);
        if old == 0 {
            return None;
        }
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.set_state(old - 1, State::Deleted);
        Some(old - 1)
    }

    /// Frees deleted slots that nobody can hold or reach any more.
    pub fn release(&self, slots: impl IntoIterator<Item = u32>) {
        let mut allocator = self.allocator.lock();
        for slot in slots {
            self.set_state(slot, State::Free);
            allocator.free.push(slot);
        }
    }

    /// Puts back a slot as it was saved. The store is new and not shared yet; slots come in ascending order.
    pub fn restore(
        &mut self,
        slot: u32,
        id: u32,
        state: State,
        (vector, inverse_norm): (&[f32], f32),
        buffer: &mut CodeBuffer,
    ) {
        self.ensure(slot);
        // SAFETY: `&mut self`: nobody else reads anything.
        unsafe { self.write(slot, vector, inverse_norm, buffer) };
        self.slot_count.store(slot + 1, Ordering::Relaxed);
        self.ids.row(slot)[0].store(id, Ordering::Relaxed);
        self.set_state(slot, state);
        if state == State::Free {
            self.allocator.get_mut().free.push(slot);
        }
    }

    /// Makes a restored live slot the one of its id; false when the id has one already.
    pub fn restore_id(&mut self, slot: u32) -> bool {
        let id = self.id_of(slot);
        self.slots_by_id.ensure(id);
        self.id_bound.fetch_max(id as usize + 1, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::Relaxed);
        self.slots_by_id.row(id)[0].swap(slot + 1, Ordering::Relaxed) == 0
    }

    // What a slot is.

    #[inline(always)]
    pub fn state(&self, slot: u32) -> State {
        match self.states.row(slot)[0].load(Ordering::Acquire) {
            0 => State::Free,
            1 => State::Pending,
            2 => State::Live,
            _ => State::Deleted,
        }
    }

    fn set_state(&self, slot: u32, state: State) {
        self.states.row(slot)[0].store(state as u8, Ordering::Release);
    }

    #[inline(always)]
    pub fn id_of(&self, slot: u32) -> u32 {
        self.ids.row(slot)[0].load(Ordering::Relaxed)
    }

    /// The slot that an id has now.
    #[inline]
    pub fn slot_of(&self, id: u32) -> Option<u32> {
        self.slots_by_id.get(id)?[0].load(Ordering::Acquire).checked_sub(1)
    }

    /// Visits every id that is there, with its slot.
    pub fn for_each_id(&self, visit: &mut dyn FnMut(u32, u32)) {
        let bound = self.id_bound.load(Ordering::Acquire) as u64;
        let step = self.slots_by_id.rows_per_segment();
        for start in (0..bound).step_by(step) {
            if self.slots_by_id.get(start as u32).is_none() {
                continue;
            }
            for id in start..bound.min(start + step as u64) {
                if let Some(slot) = self.slot_of(id as u32) {
                    visit(id as u32, slot);
                }
            }
        }
    }

    pub fn slot_count(&self) -> u32 {
        self.slot_count.load(Ordering::Acquire)
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

    // Distances. The caller is pinned, and met the slot while it was.

    pub fn query<'a>(&self, vector: &'a [f32]) -> Query<'a> {
        let inverse_norm = if self.metric == Metric::Cosine { kernels::inverse_norm(vector) } else { 1.0 };
        Query { vector, inverse_norm, coded: None }
    }

    /// A query that finds its way by codes, if there are any; they go into the buffer.
    pub fn walking_query<'a>(&self, vector: &'a [f32], buffer: &'a mut CodeBuffer) -> Query<'a> {
        let query = self.query(vector);
        let coded = self.codes.as_ref().map(|codes| codes.query(vector, query.inverse_norm, buffer));
        Query { coded, ..query }
    }

    /// A stored vector as a query that finds its way by codes.
    #[inline]
    pub fn query_of(&self, slot: u32) -> Query<'_> {
        let coded = self.codes.as_ref().map(|codes| codes.query_of(slot));
        Query { vector: self.vectors.row(slot), inverse_norm: self.inverse_norm_of(slot), coded }
    }

    /// The distance to find the way by: from the codes if there are any.
    #[inline(always)]
    pub fn near_distance(&self, query: &Query<'_>, slot: u32) -> f32 {
        match (&self.codes, &query.coded) {
            (Some(codes), Some(coded)) => codes.distance(coded, slot),
            _ => self.distance(query, slot),
        }
    }

    /// A candidate with its distance to find the way by. It is to be ranked again before it is replied.
    #[inline(always)]
    pub fn near_candidate(&self, query: &Query<'_>, slot: u32) -> Candidate {
        Candidate::new(self.near_distance(query, slot), slot)
    }

    /// So many of the nearest by their codes hold the `k` nearest, but for one in a thousand; of single bits, more than a
    /// beam has.
    pub fn ranked_again(&self, k: usize) -> usize {
        match self.codes.as_ref().map(Codes::width) {
            Some(Width::One) => k.saturating_mul(20).max(1_000),
            Some(Width::Four | Width::Eight) | None => k.saturating_add((k / 2).max(20)),
        }
    }

    /// Turns candidates that were found by their codes (nearest first) into those of which the `k` nearest are to be taken,
    /// by their true distances, nearest first. Without codes, all of them as they are.
    pub fn rank_again(&self, query: &Query<'_>, found: &[Candidate], k: usize, out: &mut Vec<Candidate>) {
        out.clear();
        if query.coded.is_none() {
            out.extend_from_slice(found);
            return;
        }
        let found = &found[..found.len().min(self.ranked_again(k))];
        let lines = self.prefetch_lines();
        for (at, candidate) in found.iter().enumerate() {
            if let Some(later) = found.get(at + RANKED_AHEAD) {
                self.prefetch(later.slot(), lines);
            }
            out.push(self.candidate(query, candidate.slot()));
        }
        out.sort_unstable();
    }

    #[inline(always)]
    pub fn distance(&self, query: &Query<'_>, slot: u32) -> f32 {
        let raw = (self.kernel)(query.vector, self.vectors.row(slot));
        ordered(match self.metric {
            Metric::L2 => raw,
            Metric::InnerProduct => 1.0 - raw,
            Metric::Cosine => 1.0 - raw * query.inverse_norm * self.inverse_norm_of(slot),
        })
    }

    #[inline(always)]
    pub fn candidate(&self, query: &Query<'_>, slot: u32) -> Candidate {
        Candidate::new(self.distance(query, slot), slot)
    }

    #[inline(always)]
    pub fn inverse_norm_of(&self, slot: u32) -> f32 {
        if self.metric != Metric::Cosine {
            return 1.0;
        }
        f32::from_bits(self.inverse_norms.row(slot)[0].load(Ordering::Relaxed))
    }

    /// Cache lines of a vector that are worth a prefetch: the processor's own stream takes over after a few.
    pub fn prefetch_lines(&self) -> usize {
        self.vectors.row_bytes().div_ceil(64).min(8)
    }

    #[inline(always)]
    pub fn prefetch(&self, slot: u32, lines: usize) {
        self.vectors.prefetch(slot, lines);
        if self.metric == Metric::Cosine {
            self.inverse_norms.prefetch(slot, 1);
        }
    }

    /// As `prefetch_lines` and `prefetch`, for what `near_distance` reads.
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

    /// Turns candidates (nearest first) into at most `k` rows that are true now: a row whose id was deleted meanwhile
    /// goes, one whose id was given another vector gets its distance.
    pub fn settle(
        &self,
        query: &Query<'_>,
        candidates: &[Candidate],
        k: usize,
        filter: Option<&dyn Filter>,
    ) -> Vec<Neighbor> {
        let mut rows: Vec<Neighbor> = Vec::with_capacity(k.min(candidates.len()));
        let mut moved = false;
        for candidate in candidates {
            if rows.len() >= k && !moved {
                break;
            }
            let id = self.id_of(candidate.slot());
            let Some(slot) = self.slot_of(id) else { continue };
            if slot == candidate.slot() {
                rows.push(Neighbor { id, distance: candidate.distance });
            } else if filter.is_none_or(|filter| filter.allows(id)) {
                rows.push(Neighbor { id, distance: self.distance(query, slot) });
                moved = true;
            }
        }
        rows.sort_unstable();
        rows.dedup_by_key(|row| row.id);
        rows.truncate(k);
        rows
    }

    // What both indexes answer alike.

    pub fn contains(&self, id: u32) -> bool {
        self.slot_of(id).is_some()
    }

    pub fn copy_vector(&self, id: u32, out: &mut Vec<f32>) -> bool {
        let _pinned = self.pin();
        let Some(slot) = self.slot_of(id) else { return false };
        out.clear();
        out.extend_from_slice(self.vectors.row(slot));
        true
    }

    pub fn distance_of(&self, id: u32, query: &[f32]) -> Option<f32> {
        self.check(query).ok()?;
        let _pinned = self.pin();
        Some(self.distance(&self.query(query), self.slot_of(id)?))
    }

    pub fn vector_bytes(&self) -> usize {
        self.slot_count() as usize * self.vectors.row_bytes()
    }

    /// Maps, states, norms and scratch memory, in bytes.
    pub fn other_bytes(&self) -> usize {
        let norms = if self.metric == Metric::Cosine { self.inverse_norms.row_bytes() } else { 0 };
        let codes = self.codes.as_ref().map_or(0, Codes::row_bytes);
        let per_slot = self.ids.row_bytes() + self.states.row_bytes() + norms + codes;
        self.slot_count() as usize * per_slot
            + self.id_bound.load(Ordering::Relaxed) * self.slots_by_id.row_bytes()
            + self.scratches.bytes()
    }
}
