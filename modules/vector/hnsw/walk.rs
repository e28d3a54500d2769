//! Walking the graph: greedily down the upper layers, then with a beam. What a filter changes about that is in filtered.rs.

use std::cmp::Reverse;

use super::Hnsw;
use super::graph::Entry;
use crate::exact::radius_of_candidates;
use crate::limits::{DISTANCES_STRIDE, Limits};
use crate::pool::Candidate;
use crate::scratch::Scratch;
use crate::store::{Query, State};
use crate::{Filter, RangeRequest, SearchOutcome};

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

/// What a walk looks for, within which limits, what it remembers, and what it has cost so far.
pub(super) struct Walker<'a> {
    pub index: &'a Hnsw,
    pub query: &'a Query<'a>,
    pub limits: Limits<'a>,
    pub scratch: &'a mut Scratch,
    pub outcome: SearchOutcome,
}

impl<'a> Walker<'a> {
    pub fn new(index: &'a Hnsw, query: &'a Query<'a>, limits: Limits<'a>, scratch: &'a mut Scratch) -> Self {
        Walker { index, query, limits, scratch, outcome: SearchOutcome::default() }
    }

    /// Fills `scratch.pool` with the nearest, as far as limits allow them.
    pub fn nearest(&mut self, width: usize) -> Walk {
        self.scratch.pool.begin(width);
        let Some(entry) = self.index.graph.entry() else { return Walk::Complete };
        let start = self.descend(entry, 0);
        let Some(filter) = self.limits.filter else { return self.live_beam(start, 0, width) };
        let store = &self.index.store;
        if self.index.is_narrow(filter, width) {
            return self.filtered_beam(filter, start, width);
        }
        self.sifting_beam(start, 0, width, |slot| {
            store.state(slot) != State::Deleted && filter.allows(store.id_of(slot))
        })
    }

    /// Follows the nearest neighbour from the entry down to the layer above `layer`; where to start in `layer`.
    pub fn descend(&mut self, entry: Entry, layer: usize) -> Candidate {
        let Walker { index, query, outcome, .. } = self;
        let mut nearest = index.store.near_candidate(query, entry.slot);
        outcome.evaluated += 1;
        for layer in (layer + 1..=entry.level).rev() {
            loop {
                let from = nearest.slot();
                outcome.visited += 1;
                index.graph.for_each_link(from, layer, |slot| {
                    let candidate = index.store.near_candidate(query, slot);
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

    /// The nearest `width` nodes of a layer to which a new node may be linked, in `scratch.candidates`.
    pub fn nearest_linkable(&mut self, start: Candidate, layer: usize, width: usize) {
        self.live_beam(start, layer, width);
        let Scratch { pool, candidates, .. } = &mut *self.scratch;
        candidates.clear();
        candidates.extend_from_slice(pool.items());
        // Deleted while we walked: nothing new may point to it.
        candidates.retain(|candidate| self.index.store.state(candidate.slot()) != State::Deleted);
    }

    /// Best-first search with a beam: leaves the nearest `width` of what it met and was not deleted in `scratch.pool`. (Slots
    /// that are not live yet are sorted out in the end: there are no more of them than threads that insert.)
    fn live_beam(&mut self, start: Candidate, layer: usize, width: usize) -> Walk {
        if !self.index.has_deleted() {
            return self.beam::<false>(start, layer, width);
        }
        let walk = self.beam::<true>(start, layer, width);
        let store = &self.index.store;
        let is_deleted = |slot| store.state(slot) == State::Deleted;
        let pool = &mut self.scratch.pool;
        let met = pool.items().len();
        pool.retain(|slot| !is_deleted(slot));
        if walk == Walk::TimedOut || met - pool.items().len() <= DELETED_PER_WIDTH * width {
            return walk;
        }
        // A place where most was deleted, and where a beam that had no room for both has lost living ones.
        self.sifting_beam(start, layer, width, |slot| !is_deleted(slot))
    }

    /// As `live_beam`, with deleted ones in the pool. If there are any (`SOME_DELETED`), it makes room for each that it meets.
    fn beam<const SOME_DELETED: bool>(&mut self, start: Candidate, layer: usize, width: usize) -> Walk {
        let index = self.index;
        self.scratch.visited.begin(index.store.slot_count());
        self.scratch.visited.insert(start.slot());
        self.scratch.pool.begin(width);
        self.scratch.pool.push(start);
        while let Some(current) = self.scratch.pool.next_to_expand() {
            // Here, and not when it is evaluated: most of those never get so far, and this one's links are read anyway.
            if SOME_DELETED && index.store.state(current.slot()) == State::Deleted {
                self.scratch.pool.widen();
            }
            self.gather(current.slot(), layer);
            if let (0, Some(next)) = (layer, self.scratch.pool.peek()) {
                index.graph.prefetch(next.slot());
            }
            let walk = self.evaluate(|scratch, candidate| _ = scratch.pool.push(candidate));
            if walk == Walk::TimedOut {
                return walk;
            }
        }
        Walk::Complete
    }

    /// As `beam`, but only what `admit` accepts gets into `scratch.pool`; the rest is evaluated and walked through.
    fn sifting_beam(
        &mut self,
        start: Candidate,
        layer: usize,
        width: usize,
        mut admit: impl FnMut(u32) -> bool,
    ) -> Walk {
        let Scratch { visited, pool, frontier, .. } = &mut *self.scratch;
        visited.begin(self.index.store.slot_count());
        visited.insert(start.slot());
        pool.begin(width);
        frontier.clear();
        frontier.push(Reverse(start));
        if admit(start.slot()) {
            pool.push(start);
        }
        while let Some(Reverse(current)) = self.scratch.frontier.pop() {
            let pool = &self.scratch.pool;
            if pool.is_full() && current.distance > pool.bound() {
                break;
            }
            self.gather(current.slot(), layer);
            let walk = self.evaluate(|Scratch { pool, frontier, .. }, candidate| {
                if !pool.is_full() || candidate.distance < pool.bound() {
                    frontier.push(Reverse(candidate));
                    if admit(candidate.slot()) {
                        pool.push(candidate);
                    }
                }
            });
            if walk == Walk::TimedOut {
                return walk;
            }
        }
        Walk::Complete
    }

    /// The neighbours of a node that were not met before, in `scratch.fresh`.
    #[inline(always)]
    fn gather(&mut self, slot: u32, layer: usize) {
        let Scratch { visited, fresh, .. } = &mut *self.scratch;
        self.outcome.visited += 1;
        fresh.clear();
        self.index.graph.for_each_link(slot, layer, |link| {
            if visited.insert(link) {
                fresh.push(link);
            }
        });
    }

    /// Computes the distances to find the way by of what is in `scratch.fresh`, and hands each to `meet`.
    #[inline(always)]
    pub fn evaluate(&mut self, meet: impl FnMut(&mut Scratch, Candidate)) -> Walk {
        let (index, query) = (self.index, self.query);
        let ahead = |fresh: &[u32], at: usize| index.prefetch_ahead(fresh, at);
        self.evaluate_by(ahead, |slot| index.store.near_candidate(query, slot), meet)
    }

    /// The same by other distances. `ahead` is told how far it is, so that it can fetch what comes next.
    #[inline(always)]
    fn evaluate_by(
        &mut self,
        ahead: impl Fn(&[u32], usize),
        distance: impl Fn(u32) -> Candidate,
        mut meet: impl FnMut(&mut Scratch, Candidate),
    ) -> Walk {
        for at in 0..self.scratch.fresh.len() {
            ahead(&self.scratch.fresh, at);
            if self.limits.expired(self.outcome.evaluated, DISTANCES_STRIDE) {
                return Walk::TimedOut;
            }
            self.outcome.evaluated += 1;
            let candidate = distance(self.scratch.fresh[at]);
            meet(self.scratch, candidate);
        }
        Walk::Complete
    }

    /// Follows every node within the radius (and epsilon); collects in `scratch.candidates`. Until it has found its way
    /// into the range it searches like a beam of the building width.
    pub fn flood(&mut self, entry: Entry, request: &RangeRequest<'_>) -> Walk {
        let start = self.descend(entry, 0);
        let Walker { index, query, limits, .. } = *self;
        let start = index.candidate_in_range(query, start.slot());
        let radius = radius_of_candidates(request.radius);
        let beyond = radius.abs() * request.epsilon.clamp(0.0, f32::MAX);
        let reach = if radius.is_infinite() { radius } else { radius + beyond };
        // Deleted ones too: an id that was given another vector meanwhile is found by its old one, and settled later.
        let is_row = |candidate: Candidate| {
            let is_allowed = |filter: &dyn Filter| filter.allows(index.store.id_of(candidate.slot()));
            candidate.distance <= radius && limits.filter.is_none_or(is_allowed)
        };
        let Scratch { visited, pool, frontier, candidates, .. } = &mut *self.scratch;
        visited.begin(index.store.slot_count());
        visited.insert(start.slot());
        pool.begin(index.parameters.ef_construction);
        pool.push(start);
        frontier.clear();
        frontier.push(Reverse(start));
        candidates.clear();
        candidates.extend(Some(start).filter(|&start| is_row(start)));
        while let Some(Reverse(current)) = self.scratch.frontier.pop() {
            let pool = &self.scratch.pool;
            if current.distance > reach && pool.is_full() && current.distance > pool.bound() {
                break;
            }
            self.gather(current.slot(), 0);
            let ahead = |fresh: &[u32], at: usize| {
                index.prefetch.ahead_of(fresh, at, |slot, lines| index.store.prefetch(slot, lines));
            };
            let distance = |slot| index.candidate_in_range(query, slot);
            let walk =
                self.evaluate_by(ahead, distance, |Scratch { pool, frontier, candidates, .. }, found| {
                    candidates.extend(Some(found).filter(|&found| is_row(found)));
                    if pool.push(found) || found.distance <= reach {
                        frontier.push(Reverse(found));
                    }
                });
            if walk == Walk::TimedOut {
                return walk;
            }
        }
        Walk::Complete
    }
}

impl Hnsw {
    /// Keeps a few vectors, or their codes, on their way from memory while one is evaluated.
    #[inline(always)]
    pub(super) fn prefetch_ahead(&self, fresh: &[u32], at: usize) {
        self.near_prefetch.ahead_of(fresh, at, |slot, lines| self.store.near_prefetch(slot, lines));
    }

    /// By the vector, but for a deleted node: a graph that was loaded does not have the vectors of those.
    #[inline(always)]
    fn candidate_in_range(&self, query: &Query<'_>, slot: u32) -> Candidate {
        if self.has_deleted() && self.store.state(slot) == State::Deleted {
            return self.store.near_candidate(query, slot);
        }
        self.store.candidate(query, slot)
    }
}
