//! Walking the graph: greedily down the upper layers, then with a beam. What a filter changes about that is in filtered.rs.

use std::cmp::Reverse;

use super::Hnsw;
use super::graph::Entry;
use crate::exact::{self, Limits};
use crate::pool::Candidate;
use crate::scratch::Scratch;
use crate::store::{Query, State};
use crate::{RangeRequest, SearchOutcome, SearchRequest};

/// A layer of at most this many times the beam's width is scanned: the beam would evaluate as many.
const SCAN_INSTEAD_OF_BEAM: usize = 2;

/// The beam is at least this much wider than `k`: rows that are being inserted or deleted right now drop out in the end.
const SPARE_ROWS: usize = 8;

/// Steers when a filter's ids are scanned instead of searching a range in the graph. That evaluates about `ef * M` nodes for
/// each fraction `allowed / len` that the filter lets through; a scan evaluates `allowed`, at a fraction of the cost
/// each (no links, no visited marks, no refused ones).
const SCAN_ADVANTAGE: usize = 4;

/// A beam that met more deleted nodes than so many times its width walks again, asking about each before it takes it in.
const DELETED_PER_WIDTH: usize = 1;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    Complete,
    TimedOut,
    /// It ran dry before the beam was full.
    GaveUp,
}

impl Hnsw {
    /// Answers a request whose query is this one.
    pub(super) fn search_for(
        &self,
        query: &Query<'_>,
        request: &SearchRequest<'_>,
        scratch: &mut Scratch,
    ) -> SearchOutcome {
        let limits = Limits { filter: request.filter, deadline: request.deadline };
        let live = self.store.len();
        let k = request.k.min(live);
        let width = request.ef.max(k.saturating_add(SPARE_ROWS)).min(live);
        if k == 0 {
            return SearchOutcome::default();
        }
        let allowed = limits.filter.and_then(|filter| filter.cardinality());
        if live <= SCAN_INSTEAD_OF_BEAM * width
            || allowed.is_some_and(|allowed| self.filter_wants_scan(allowed, width, live))
        {
            return exact::nearest(&self.store, query, k, limits, scratch);
        }
        let mut outcome = SearchOutcome::default();
        for wider in [1, 2, 4] {
            let width = wider * width;
            let walk = self.walk(query, width, limits, scratch, &mut outcome);
            outcome.timed_out = walk == Walk::TimedOut;
            if walk == Walk::GaveUp {
                break;
            }
            let Scratch { pool, candidates, .. } = &mut *scratch;
            self.store.rank_again(query, pool.items(), wider * k, candidates);
            outcome.neighbors = self.store.settle(query, candidates, k, limits.filter);
            if outcome.timed_out || outcome.neighbors.len() >= k {
                return outcome;
            }
            if !scratch.pool.is_full() {
                break;
            }
            // So many rows were deleted since they were met that a wider beam is needed to find others.
        }
        // The walk ran dry (a filter that excludes whole regions) although more may exist: k rows whenever k exist.
        let mut exact = exact::nearest(&self.store, query, k, limits, scratch);
        exact.evaluated += outcome.evaluated;
        exact.visited += outcome.visited;
        exact
    }

    fn scan_is_cheaper(&self, width: usize, live: usize, limits: Limits<'_>) -> bool {
        if live <= SCAN_INSTEAD_OF_BEAM * width {
            return true;
        }
        let Some(allowed) = limits.filter.and_then(|filter| filter.cardinality()) else { return false };
        let walk = width.saturating_mul(self.parameters.m).saturating_mul(SCAN_ADVANTAGE);
        allowed < live && allowed.saturating_mul(allowed) <= walk.saturating_mul(live)
    }

    /// Fills `scratch.pool` with the nearest.
    fn walk(
        &self,
        query: &Query<'_>,
        width: usize,
        limits: Limits<'_>,
        scratch: &mut Scratch,
        outcome: &mut SearchOutcome,
    ) -> Walk {
        scratch.pool.begin(width);
        let Some(entry) = self.graph.entry() else { return Walk::Complete };
        let start = self.descend(query, entry, 0, outcome);
        if limits.filter.is_none() {
            return self.live_beam(query, start, 0, width, limits, scratch, outcome);
        }
        if let Some(filter) = self.narrow_filter(width, self.store.len(), limits) {
            return self.filtered_beam(query, filter, start, width, limits, scratch, outcome);
        }
        let admit = |slot: u32| {
            self.store.state(slot) != State::Deleted
                && limits.filter.is_none_or(|filter| filter.allows(self.store.id_of(slot)))
        };
        self.sifting_beam(query, start, 0, width, limits, scratch, outcome, admit)
    }

    /// Follows the nearest neighbour from the entry down to the layer above `layer`; where to start in `layer`.
    pub(super) fn descend(
        &self,
        query: &Query<'_>,
        entry: Entry,
        layer: usize,
        outcome: &mut SearchOutcome,
    ) -> Candidate {
        let mut nearest = self.store.near_candidate(query, entry.slot);
        outcome.evaluated += 1;
        for layer in (layer + 1..=entry.level).rev() {
            loop {
                let from = nearest.slot();
                outcome.visited += 1;
                self.graph.for_each_link(from, layer, |slot| {
                    let candidate = self.store.near_candidate(query, slot);
                    outcome.evaluated += 1;
                    if candidate.distance < nearest.distance {
                        nearest = candidate;
                    }
                });
                if nearest.slot() == from {
                    break;
                }
            }
        }
        nearest
    }

    /// Best-first search with a beam: leaves the nearest `width` of what it met and was not deleted in `scratch.pool`. (Slots
    /// that are not live yet are sorted out in the end: there are no more of them than threads that insert.)
    #[allow(clippy::too_many_arguments, reason = "one loop's worth of state; a struct would only rename it")]
    fn live_beam(
        &self,
        query: &Query<'_>,
        start: Candidate,
        layer: usize,
        width: usize,
        limits: Limits<'_>,
        scratch: &mut Scratch,
        outcome: &mut SearchOutcome,
    ) -> Walk {
        if !self.has_deleted() {
            return self.beam::<false>(query, start, layer, width, limits, scratch, outcome);
        }
        let walk = self.beam::<true>(query, start, layer, width, limits, scratch, outcome);
        let is_deleted = |slot| self.store.state(slot) == State::Deleted;
        let met = scratch.pool.items().len();
        scratch.pool.retain(|slot| !is_deleted(slot));
        if walk == Walk::TimedOut || met - scratch.pool.items().len() <= DELETED_PER_WIDTH * width {
            return walk;
        }
        // A place where most was deleted, and where a beam that had no room for both has lost living ones.
        self.sifting_beam(query, start, layer, width, limits, scratch, outcome, |slot| !is_deleted(slot))
    }

    /// As `live_beam`, with deleted ones in the pool. If there are any (`SOME_DELETED`), it makes room for each that it meets.
    #[allow(clippy::too_many_arguments, reason = "one loop's worth of state; a struct would only rename it")]
    fn beam<const SOME_DELETED: bool>(
        &self,
        query: &Query<'_>,
        start: Candidate,
        layer: usize,
        width: usize,
        limits: Limits<'_>,
        scratch: &mut Scratch,
        outcome: &mut SearchOutcome,
    ) -> Walk {
        let Scratch { visited, pool, fresh, .. } = scratch;
        visited.begin(self.store.slot_count());
        visited.insert(start.slot());
        pool.begin(width);
        pool.push(start);
        while let Some(current) = pool.next_to_expand() {
            // Here, and not when it is evaluated: most of those never get so far, and this one's links are read anyway.
            if SOME_DELETED && self.store.state(current.slot()) == State::Deleted {
                pool.widen();
            }
            self.gather(current.slot(), layer, visited, fresh, outcome);
            if let (0, Some(next)) = (layer, pool.peek()) {
                self.graph.prefetch(next.slot());
            }
            for at in 0..fresh.len() {
                self.prefetch_ahead(fresh, at);
                if limits.expired(outcome.evaluated) {
                    return Walk::TimedOut;
                }
                outcome.evaluated += 1;
                pool.push(self.store.near_candidate(query, fresh[at]));
            }
        }
        Walk::Complete
    }

    /// As `beam`, but only what `admit` accepts gets into `scratch.pool`; the rest is evaluated and walked through.
    #[allow(clippy::too_many_arguments, reason = "one loop's worth of state; a struct would only rename it")]
    fn sifting_beam(
        &self,
        query: &Query<'_>,
        start: Candidate,
        layer: usize,
        width: usize,
        limits: Limits<'_>,
        scratch: &mut Scratch,
        outcome: &mut SearchOutcome,
        mut admit: impl FnMut(u32) -> bool,
    ) -> Walk {
        let Scratch { visited, pool, frontier, fresh, .. } = scratch;
        visited.begin(self.store.slot_count());
        visited.insert(start.slot());
        pool.begin(width);
        frontier.clear();
        frontier.push(Reverse(start));
        if admit(start.slot()) {
            pool.push(start);
        }
        while let Some(Reverse(current)) = frontier.pop() {
            if pool.is_full() && current.distance > pool.bound() {
                break;
            }
            self.gather(current.slot(), layer, visited, fresh, outcome);
            for at in 0..fresh.len() {
                self.prefetch_ahead(fresh, at);
                if limits.expired(outcome.evaluated) {
                    return Walk::TimedOut;
                }
                outcome.evaluated += 1;
                let candidate = self.store.near_candidate(query, fresh[at]);
                if !pool.is_full() || candidate.distance < pool.bound() {
                    frontier.push(Reverse(candidate));
                    if admit(fresh[at]) {
                        pool.push(candidate);
                    }
                }
            }
        }
        Walk::Complete
    }

    /// The nearest `width` nodes of a layer to which a new node may be linked, in `scratch.candidates`.
    pub(super) fn nearest_linkable(
        &self,
        query: &Query<'_>,
        start: Candidate,
        layer: usize,
        width: usize,
        scratch: &mut Scratch,
    ) {
        let limits = Limits { filter: None, deadline: None };
        let mut outcome = SearchOutcome::default();
        self.live_beam(query, start, layer, width, limits, scratch, &mut outcome);
        let Scratch { pool, candidates, .. } = scratch;
        candidates.clear();
        candidates.extend_from_slice(pool.items());
        // Deleted while we walked: nothing new may point to it.
        candidates.retain(|candidate| self.store.state(candidate.slot()) != State::Deleted);
    }

    /// The neighbours of a node that were not met before, in `fresh`.
    #[inline(always)]
    fn gather(
        &self,
        slot: u32,
        layer: usize,
        visited: &mut crate::scratch::Visited,
        fresh: &mut Vec<u32>,
        outcome: &mut SearchOutcome,
    ) {
        outcome.visited += 1;
        fresh.clear();
        self.graph.for_each_link(slot, layer, |link| {
            if visited.insert(link) {
                fresh.push(link);
            }
        });
    }

    /// Keeps a few vectors, or their codes, on their way from memory while one is evaluated.
    #[inline(always)]
    pub(super) fn prefetch_ahead(&self, fresh: &[u32], at: usize) {
        self.near_prefetch.ahead_of(fresh, at, |slot, lines| self.store.near_prefetch(slot, lines));
    }

    /// As `search_for`.
    pub(super) fn search_range_for(
        &self,
        query: &Query<'_>,
        request: &RangeRequest<'_>,
        scratch: &mut Scratch,
    ) -> SearchOutcome {
        let limits = Limits { filter: request.filter, deadline: request.deadline };
        let live = self.store.len();
        let Some(entry) = self.graph.entry().filter(|_| live > 0) else { return SearchOutcome::default() };
        // A range has no beam: take the width that building used for what a walk costs.
        if self.scan_is_cheaper(self.parameters.ef_construction, live, limits) {
            return exact::within(&self.store, &query.uncoded(), request.radius, limits, scratch);
        }
        let mut outcome = SearchOutcome::default();
        let start = self.descend(query, entry, 0, &mut outcome);
        let start = self.candidate_in_range(query, start.slot());
        let walk = self.flood(query, start, request, limits, scratch, &mut outcome);
        outcome.timed_out = walk == Walk::TimedOut;
        outcome.neighbors =
            exact::settle_within(&self.store, query, &mut scratch.candidates, request.radius, limits);
        outcome
    }

    /// By the vector, but for a deleted node: a graph that was loaded does not have the vectors of those.
    #[inline(always)]
    fn candidate_in_range(&self, query: &Query<'_>, slot: u32) -> Candidate {
        if self.has_deleted() && self.store.state(slot) == State::Deleted {
            return self.store.near_candidate(query, slot);
        }
        self.store.candidate(query, slot)
    }

    /// Follows every node within the radius (and epsilon); collects in `scratch.candidates`. Until it has found its way
    /// into the range it searches like a beam of the building width.
    fn flood(
        &self,
        query: &Query<'_>,
        start: Candidate,
        request: &RangeRequest<'_>,
        limits: Limits<'_>,
        scratch: &mut Scratch,
        outcome: &mut SearchOutcome,
    ) -> Walk {
        let Scratch { visited, pool, frontier, fresh, candidates, .. } = scratch;
        let radius = exact::radius_of_candidates(request.radius);
        let reach = radius + radius.abs() * request.epsilon.max(0.0);
        visited.begin(self.store.slot_count());
        visited.insert(start.slot());
        pool.begin(self.parameters.ef_construction);
        candidates.clear();
        frontier.clear();
        frontier.push(Reverse(start));
        let mut collect = |candidate: Candidate| {
            // Deleted ones too: an id that was given another vector meanwhile is found by its old one, and settled later.
            if candidate.distance <= radius
                && limits.filter.is_none_or(|filter| filter.allows(self.store.id_of(candidate.slot())))
            {
                candidates.push(candidate);
            }
        };
        collect(start);
        pool.push(start);
        while let Some(Reverse(current)) = frontier.pop() {
            if current.distance > reach && pool.is_full() && current.distance > pool.bound() {
                break;
            }
            self.gather(current.slot(), 0, visited, fresh, outcome);
            for at in 0..fresh.len() {
                self.prefetch.ahead_of(fresh, at, |slot, lines| self.store.prefetch(slot, lines));
                if limits.expired(outcome.evaluated) {
                    return Walk::TimedOut;
                }
                outcome.evaluated += 1;
                let candidate = self.candidate_in_range(query, fresh[at]);
                collect(candidate);
                if pool.push(candidate) || candidate.distance <= reach {
                    frontier.push(Reverse(candidate));
                }
            }
        }
        Walk::Complete
    }
}
