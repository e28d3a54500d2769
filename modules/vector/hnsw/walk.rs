//! Walks the graph: greedily down the upper layers, then with a beam. filtered.rs has the walk under a
//! filter.

use std::cmp::Reverse;

use super::Hnsw;
use super::effort::Stop;
use super::graph::Entry;
use crate::SearchOutcome;
use crate::candidates::Candidate;
use crate::limits::{DISTANCES_STRIDE, Limits};
use crate::ranking::Ranking;
use crate::scratch::Scratch;
use crate::settle::Source;
use crate::store::{Query, Resolution, State};

/// A beam that met more deleted nodes than this many times its width walks again, and checks each node before
/// it enters the pool.
const DELETED_PER_WIDTH: usize = 1;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    Complete,
    TimedOut,
    /// It ran out of nodes before the beam was full.
    GaveUp,
}

/// One walk: the query, the limits, its memory, and its cost so far.
pub(super) struct Walker<'a> {
    pub index: &'a Hnsw,
    pub query: Query<'a>,
    pub limits: Limits<'a>,
    pub scratch: &'a mut Scratch,
    pub outcome: SearchOutcome,
    /// The number of candidates to keep beyond the beam, see `Pool`.
    pub spare: usize,
    /// When the walk may stop before the beam is expanded, see effort.rs.
    pub stop: Option<Stop>,
}

impl<'a> Walker<'a> {
    pub fn new(index: &'a Hnsw, query: Query<'a>, limits: Limits<'a>, scratch: &'a mut Scratch) -> Self {
        Walker { index, query, limits, scratch, outcome: SearchOutcome::default(), spare: 0, stop: None }
    }

    /// Fills `scratch.pool` with the nearest candidates that the limits allow. Reads vectors instead of codes
    /// where codes are known to be too imprecise.
    pub fn nearest(&mut self, width: usize) -> Walk {
        self.scratch.pool.begin(width, self.spare);
        let Some(entry) = self.index.graph.entry() else { return Walk::Complete };
        let start = self.enter(entry);
        let Some(filter) = self.limits.filter else { return self.live_beam(start, 0, width) };
        let store = &self.index.store;
        if self.index.is_narrow(filter, width) {
            return self.filtered_beam(filter, start, width);
        }
        let has_copies = !store.copies().is_empty();
        self.sifting_beam(start, 0, width, |slot| {
            store.state(slot) != State::Deleted
                && store.is_allowed(filter, slot, store.id_of(slot), has_copies)
        })
    }

    /// The start in the lowest layer. From there on the walk reads vectors, where codes are known to be too
    /// imprecise.
    pub fn enter(&mut self, entry: Entry) -> Candidate {
        let start = self.descend(entry, 0);
        if !self.query.is_coded() || self.index.store.resolution_at(start.slot()) == Resolution::Links {
            return start;
        }
        self.go_by_vectors();
        self.descend(entry, 0)
    }

    /// As `nearest`; leaves candidates with true distances in `scratch.candidates`, of which the first `k`
    /// are the nearest. Repeats the walk with vectors if the codes turn out to be too imprecise.
    pub fn nearest_ranked(&mut self, width: usize, k: usize) -> Walk {
        loop {
            self.spare = match self.query.is_coded() {
                true => self.index.store.kept_for(k).saturating_sub(width),
                false => 0,
            };
            self.keep(if self.query.is_coded() { self.index.store.kept_for(k) } else { k });
            let walk = self.nearest(width);
            let Scratch { pool, candidates, .. } = &mut *self.scratch;
            let ranking = self.index.store.rank_again(&self.query, pool, k, Source::Graph, candidates);
            if ranking == Ranking::Settled || walk != Walk::Complete {
                return walk;
            }
            self.go_by_vectors();
        }
    }

    /// From now on, the walk is guided by the vectors.
    pub fn go_by_vectors(&mut self) {
        self.query = self.query.uncoded();
        self.spare = 0;
        self.outcome.too_coarse = true;
    }

    /// Follows the nearest neighbour from the entry down to the layer above `layer`; returns the start in
    /// `layer`.
    pub fn descend(&mut self, entry: Entry, layer: usize) -> Candidate {
        let Walker { index, query, outcome, .. } = self;
        let query = &*query;
        let mut nearest = index.near_candidate(query, entry.slot);
        outcome.evaluated += 1;
        for layer in (layer + 1..=entry.level).rev() {
            loop {
                let from = nearest.slot();
                outcome.visited += 1;
                index.graph.for_each_link(from, layer, |slot| {
                    let candidate = index.near_candidate(query, slot);
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

    /// Leaves the nearest `width` nodes of a layer to which a new node may be linked in `scratch.candidates`.
    pub fn nearest_linkable(&mut self, start: Candidate, layer: usize, width: usize) {
        self.live_beam(start, layer, width);
        let Scratch { pool, candidates, .. } = &mut *self.scratch;
        candidates.clear();
        candidates.extend_from_slice(pool.items());
        // A node that was deleted during the walk must not get new links.
        candidates.retain(|candidate| self.index.store.state(candidate.slot()) != State::Deleted);
    }

    /// Best-first search with a beam: leaves the nearest `width` of the nodes met that were not deleted in
    /// `scratch.pool`. (Slots that are not live yet are dropped at the end: there are at most as many as
    /// inserting threads.)
    fn live_beam(&mut self, start: Candidate, layer: usize, width: usize) -> Walk {
        if !self.index.has_deleted() {
            return self.beam::<false>(start, layer, width);
        }
        let walk = self.beam::<true>(start, layer, width);
        let store = &self.index.store;
        let is_deleted = |slot| store.state(slot) == State::Deleted;
        let deleted = self.scratch.pool.retain(|slot| !is_deleted(slot));
        if walk == Walk::TimedOut || deleted <= DELETED_PER_WIDTH * width {
            return walk;
        }
        // Most nodes here are deleted, and a beam without room for all of them has dropped live ones.
        self.sifting_beam(start, layer, width, |slot| !is_deleted(slot))
    }

    /// As `live_beam`, but deleted nodes enter the pool. If there are any (`SOME_DELETED`), the beam grows by
    /// one for each.
    fn beam<const SOME_DELETED: bool>(&mut self, start: Candidate, layer: usize, width: usize) -> Walk {
        let index = self.index;
        self.scratch.visited.begin(index.store.slot_count());
        self.scratch.visited.insert(start.slot());
        self.scratch.pool.begin(width, self.spare);
        self.scratch.pool.push(start);
        while let Some(current) = self.scratch.pool.next_to_expand() {
            if self.may_stop(current) {
                break;
            }
            // Checked here, and not during evaluation: most candidates are never expanded, and the links of
            // this one are read anyway.
            if SOME_DELETED && index.store.state(current.slot()) == State::Deleted {
                self.scratch.pool.widen();
                self.meets_deleted();
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

    /// As `beam`, but only nodes that `admit` accepts enter `scratch.pool`; the others are evaluated and
    /// walked through.
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
        pool.begin(width, self.spare);
        frontier.clear();
        frontier.push(Reverse(start));
        if admit(start.slot()) {
            pool.push(start);
        }
        while let Some(Reverse(current)) = self.scratch.frontier.pop() {
            let pool = &self.scratch.pool;
            if pool.is_full() && current.distance > pool.bound() || self.may_stop(current) {
                break;
            }
            self.gather(current.slot(), layer);
            let walk = self.evaluate(|Scratch { pool, frontier, .. }, candidate| {
                if !pool.is_full() || candidate.distance < pool.bound() {
                    frontier.push(Reverse(candidate));
                }
                if pool.has_room_for(candidate.distance) && admit(candidate.slot()) {
                    pool.push(candidate);
                }
            });
            if walk == Walk::TimedOut {
                return walk;
            }
        }
        Walk::Complete
    }

    /// Leaves the neighbours of a node that were not met before in `scratch.fresh`.
    #[inline(always)]
    pub fn gather(&mut self, slot: u32, layer: usize) {
        let Scratch { visited, fresh, .. } = &mut *self.scratch;
        self.outcome.visited += 1;
        // Written unconditionally, because a branch on whether the slot is new is mispredicted every third
        // time.
        fresh.resize(self.index.graph.capacity(layer), 0);
        let mut count = 0;
        self.index.graph.for_each_link(slot, layer, |link| {
            fresh[count] = link;
            count += usize::from(visited.insert(link));
        });
        fresh.truncate(count);
    }

    /// Computes the guiding distances of the slots in `scratch.fresh`, and calls `meet` for each, after all
    /// of them were computed: branches in `meet` are often mispredicted and would delay the computations.
    #[inline(always)]
    pub fn evaluate(&mut self, mut meet: impl FnMut(&mut Scratch, Candidate)) -> Walk {
        let (index, query) = (self.index, self.query);
        let mut walk = Walk::Complete;
        self.scratch.evaluated.clear();
        for at in 0..self.scratch.fresh.len() {
            index.prefetch_ahead(&query, &self.scratch.fresh, at);
            if self.limits.expired(self.outcome.evaluated, DISTANCES_STRIDE) {
                walk = Walk::TimedOut;
                break;
            }
            self.outcome.evaluated += 1;
            let candidate = index.near_candidate(&query, self.scratch.fresh[at]);
            self.scratch.evaluated.push(candidate);
        }
        for at in 0..self.scratch.evaluated.len() {
            let candidate = self.scratch.evaluated[at];
            meet(self.scratch, candidate);
        }
        walk
    }
}

impl Hnsw {
    /// Prefetches a few vectors, or their codes, while one is evaluated.
    #[inline(always)]
    pub(super) fn prefetch_ahead(&self, query: &Query<'_>, fresh: &[u32], at: usize) {
        match query.is_coded() {
            true => {
                self.near_prefetch.ahead_of(fresh, at, |slot, lines| self.store.near_prefetch(slot, lines));
            }
            false => self.prefetch.ahead_of(fresh, at, |slot, lines| self.store.prefetch(slot, lines)),
        }
    }

    /// As `Store::near_candidate`. A query that reads vectors uses the codes of deleted nodes, because a
    /// loaded graph does not have their vectors.
    #[inline(always)]
    pub(super) fn near_candidate(&self, query: &Query<'_>, slot: u32) -> Candidate {
        if !query.is_coded() && self.has_deleted() && self.store.state(slot) == State::Deleted {
            return self.store.near_candidate(&query.coded_again(), slot);
        }
        self.store.near_candidate(query, slot)
    }
}
