//! Answering: which way a question is answered, and what becomes of what a walk or a scan found.

use super::Hnsw;
use super::walk::{Walk, Walker};
use crate::exact;
use crate::limits::Limits;
use crate::scratch::Scratch;
use crate::store::Query;
use crate::{RangeRequest, SearchOutcome, SearchRequest};

/// A layer of at most this many times the beam's width is scanned: the beam would evaluate as many.
const SCAN_INSTEAD_OF_BEAM: usize = 2;

/// Nor is there a wider beam: it would spend its time on keeping sorted what it has met.
const WIDTH_MAX: usize = 8_192;

/// The beam is at least this much wider than `k`: rows that are being inserted or deleted right now drop out in the end.
const SPARE_ROWS: usize = 8;

/// Steers when a filter's ids are scanned instead of searching a range in the graph. That evaluates about `ef * M` nodes for
/// each fraction `allowed / len` that the filter lets through; a scan evaluates `allowed`, at a fraction of the cost
/// each (no links, no visited marks, no refused ones).
const SCAN_ADVANTAGE: usize = 4;

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
            || width > WIDTH_MAX
            || allowed.is_some_and(|allowed| self.filter_wants_scan(allowed, width, live))
        {
            return exact::nearest(&self.store, query, k, limits, scratch);
        }
        let mut walker = Walker::new(self, query, limits, scratch);
        for wider in [1, 2, 4] {
            let walk = walker.nearest(wider * width);
            if walk == Walk::GaveUp {
                break;
            }
            let Scratch { pool, candidates, .. } = &mut *walker.scratch;
            self.store.rank_again(query, pool.items(), wider * k, candidates);
            let outcome = &mut walker.outcome;
            outcome.timed_out = walk == Walk::TimedOut;
            outcome.neighbors = self.store.settle(query, candidates, k, limits.filter);
            if outcome.timed_out || outcome.neighbors.len() >= k {
                return walker.outcome;
            }
            if !pool.is_full() {
                break;
            }
            // So many rows were deleted since they were met that a wider beam is needed to find others.
        }
        // The walk ran dry (a filter that excludes whole regions) although more may exist: k rows whenever k exist.
        let mut exact = exact::nearest(&self.store, query, k, limits, walker.scratch);
        exact.evaluated += walker.outcome.evaluated;
        exact.visited += walker.outcome.visited;
        exact
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
        // A range has no beam: take the width that building used for what a walk costs.
        let width = self.parameters.ef_construction;
        let entry = self.graph.entry().filter(|_| !self.scan_is_cheaper(width, live, limits));
        let Some(entry) = entry else {
            return exact::within(&self.store, &query.uncoded(), request.radius, limits, scratch);
        };
        let mut walker = Walker::new(self, query, limits, scratch);
        let walk = walker.flood(entry, request);
        let Walker { scratch, mut outcome, .. } = walker;
        outcome.timed_out = walk == Walk::TimedOut;
        outcome.neighbors =
            exact::settle_within(&self.store, query, &mut scratch.candidates, request.radius, limits);
        outcome
    }

    fn scan_is_cheaper(&self, width: usize, live: usize, limits: Limits<'_>) -> bool {
        if live <= SCAN_INSTEAD_OF_BEAM * width {
            return true;
        }
        let Some(allowed) = limits.filter.and_then(|filter| filter.cardinality()) else { return false };
        let walk = width.saturating_mul(self.parameters.m).saturating_mul(SCAN_ADVANTAGE);
        allowed < live && allowed.saturating_mul(allowed) <= walk.saturating_mul(live)
    }
}
