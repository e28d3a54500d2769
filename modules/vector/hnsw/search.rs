//! Answering: which way a question is answered, and what becomes of what a walk or a scan found.

use super::Hnsw;
use super::calibration::width_for;
use super::effort::Stop;
use super::walk::{Walk, Walker};
use crate::exact;
use crate::limits::Limits;
use crate::pool::Candidate;
use crate::scratch::Scratch;
use crate::settle::Source;
use crate::store::Query;
use crate::{Element, Metric, RangeRequest, SearchOutcome, SearchRequest};

/// A layer of at most this many times the beam's width is scanned: the beam would evaluate as many.
const SCAN_INSTEAD_OF_BEAM: usize = 2;

/// Nor is there a wider beam: it would spend its time on keeping sorted what it has met.
const WIDTH_MAX: usize = 8_192;

/// The beam is at least this much wider than `k`: rows that are being inserted or deleted right now drop out in the end.
const SPARE_ROWS: usize = 8;

/// A range promises all that is within it. An index of at most this many vectors is scanned: by codes that takes no longer than a
/// walk that is wide enough to keep the promise.
const RANGE_SCANNED_MAX: usize = 1 << 16;
/// In a larger index, a walk of this width answers for a range,
const RANGE_WIDTH: usize = 1_024;
/// if at most this many rows are within the radius and epsilon: a beam four times as wide misses one in a thousand of them at most,
const RANGE_ROWS_MAX: usize = RANGE_WIDTH / 4;
/// where the data have a structure that a graph can follow: their dimension around the query is below this. (Sentence embeddings
/// have about 20; of 128 independent components, where it is 60, a walk misses one row in ten.)
const RANGE_DIMENSION_MAX: f64 = 32.0;

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
        if request.recall.is_some_and(|recall| recall >= 1.0) {
            return exact::nearest(&self.store, &query.uncoded(), k, limits, scratch);
        }
        let allowed = limits.filter.and_then(|filter| filter.cardinality());
        if live <= SCAN_INSTEAD_OF_BEAM * width
            || width > WIDTH_MAX
            || allowed.is_some_and(|allowed| self.filter_wants_scan(allowed, width, live))
        {
            return exact::nearest(&self.store, query, k, limits, scratch);
        }
        let plan = request.recall.map(|recall| self.effort.plan(self, recall, k));
        if plan.as_ref().is_some_and(|plan| plan.slack == f32::INFINITY) {
            return exact::nearest(&self.store, query, k, limits, scratch);
        }
        if plan.as_ref().is_some_and(|plan| plan.is_sample && limits.filter.is_none()) {
            self.effort.sample(self, query, k, scratch);
        }
        let mut walker = Walker::new(self, *query, limits, scratch);
        for wider in [1, 2, 4] {
            // What it stops by was measured of walks that have all their rows.
            let plan = plan.as_ref().filter(|_| wider == 1);
            walker.stop = plan.map(|plan| Stop::new(self.store.kind.metric, k, plan.slack, width));
            let beam = if plan.is_some() { width_for(k) } else { wider * width };
            walker.outcome.slack = plan.map(|plan| plan.slack);
            let walk = walker.nearest_ranked(beam, wider * k);
            if walk == Walk::GaveUp {
                break;
            }
            let Scratch { pool, candidates, .. } = &mut *walker.scratch;
            let outcome = &mut walker.outcome;
            outcome.timed_out = walk == Walk::TimedOut;
            outcome.neighbors = self.store.settle(query, candidates, k, limits.filter, Source::Graph);
            if outcome.timed_out || outcome.neighbors.len() >= k {
                return walker.outcome;
            }
            if !pool.is_full() && walker.stop.is_none() {
                break;
            }
            // So many rows were deleted since they were met that a wider beam is needed to find others.
        }
        // The walk ran dry (a filter that excludes whole regions) although more may exist: k rows whenever k exist.
        let mut exact = exact::nearest(&self.store, query, k, limits, walker.scratch);
        exact.evaluated += walker.outcome.evaluated;
        exact.visited += walker.outcome.visited;
        exact.too_coarse |= walker.outcome.too_coarse;
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
        // The inner product has no dimension: nothing tells whether a walk is to be trusted.
        let may_walk =
            self.store.kind.element != Element::F64 && self.store.kind.metric != Metric::InnerProduct;
        let mut walked = SearchOutcome::default();
        if !request.exact && live > RANGE_SCANNED_MAX && may_walk {
            let mut walker = Walker::new(self, *query, limits, scratch);
            let walk = walker.nearest_ranked(RANGE_WIDTH, RANGE_ROWS_MAX);
            let Walker { scratch, mut outcome, .. } = walker;
            let beyond = request.radius + request.radius.abs() * f64::from(request.epsilon.max(0.0));
            let candidates = &mut scratch.candidates;
            candidates.truncate(RANGE_ROWS_MAX);
            let is_within = |last: &Candidate| f64::from(last.distance) <= beyond;
            outcome.timed_out = walk == Walk::TimedOut;
            let is_whole = walk == Walk::Complete
                && candidates.len() == RANGE_ROWS_MAX
                && !candidates.last().is_some_and(is_within)
                && local_dimension(candidates) < RANGE_DIMENSION_MAX;
            if is_whole || outcome.timed_out {
                outcome.neighbors = exact::settle_within(
                    &self.store,
                    query,
                    candidates,
                    request.radius,
                    limits,
                    Source::Graph,
                );
                return outcome;
            }
            walked = outcome;
        }
        let mut exact = exact::within(&self.store, query, request, limits, scratch);
        exact.evaluated += walked.evaluated;
        exact.visited += walked.visited;
        exact.too_coarse |= walked.too_coarse;
        exact
    }
}

/// The local intrinsic dimension around a query: how fast the number of vectors grows with the radius. The estimate of greatest
/// likelihood (Amsaleg and others, "Estimating Local Intrinsic Dimensionality", KDD 2015), from the nearest candidates in order.
/// Distances are squares, or for the cosine distance in proportion to those of vectors of length one.
fn local_dimension(nearest: &[Candidate]) -> f64 {
    let Some(last) = nearest.last() else { return f64::INFINITY };
    let farthest = f64::from(last.distance);
    let ratios = nearest.iter().map(|near| f64::from(near.distance) / farthest);
    let logarithms: Vec<f64> = ratios.filter(|&ratio| ratio > 0.0 && ratio < 1.0).map(f64::ln).collect();
    if logarithms.is_empty() {
        f64::INFINITY
    } else {
        -2.0 * logarithms.len() as f64 / logarithms.iter().sum::<f64>()
    }
}
