//! Answers requests: selects walk or scan, and turns the candidates found into rows.

use super::Hnsw;
use super::calibration::width_for;
use super::effort::Stop;
use super::walk::{Walk, Walker};
use crate::candidates::Candidate;
use crate::exact;
use crate::limits::Limits;
use crate::scratch::Scratch;
use crate::settle::Source;
use crate::store::Query;
use crate::{Element, Metric, RangeRequest, SearchOutcome, SearchRequest};

/// A layer with at most this many times the beam's width of nodes is scanned: a beam would evaluate as many.
const SCAN_INSTEAD_OF_BEAM: usize = 2;

/// The maximum width of a beam: a wider one would spend its time on keeping the candidates sorted. Beyond it,
/// the search scans.
const WIDTH_MAX: usize = 8_192;

/// The beam is at least this much wider than `k`, because rows that are inserted or deleted at the same time
/// are dropped at the end.
const SPARE_ROWS: usize = 8;

/// A range request promises all rows within the radius. An index of at most this many vectors is scanned: by
/// codes, that takes no longer than a walk that is wide enough to keep the promise.
const RANGE_SCANNED_MAX: usize = 1 << 16;
/// A larger index answers a range request by a walk of this width, if two conditions hold:
const RANGE_WIDTH: usize = 1_024;
/// at most this many rows are within the radius and epsilon (a beam four times as wide misses at most one in
/// a thousand of them),
const RANGE_ROWS_MAX: usize = RANGE_WIDTH / 4;
/// and the local dimension of the data around the query is below this, so that the graph can follow their
/// structure. (Sentence embeddings have about 20; of 128 independent components, where it is 60, a walk
/// misses one row in ten.)
const RANGE_DIMENSION_MAX: f64 = 32.0;

impl Hnsw {
    /// Answers a request for nearest neighbours; `query` is the request's query.
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
            // A slack was measured on walks that find all their rows.
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
            // Many rows were deleted since the walk met them: a wider beam finds others.
        }
        // The walk ran out of nodes (a filter that excludes whole regions), although more rows may exist. The
        // contract is k rows whenever k exist.
        let mut exact = exact::nearest(&self.store, query, k, limits, walker.scratch);
        exact.evaluated += walker.outcome.evaluated;
        exact.visited += walker.outcome.visited;
        exact.too_coarse |= walker.outcome.too_coarse;
        exact
    }

    /// Answers a request for all rows within a radius; `query` is the request's query.
    pub(super) fn search_range_for(
        &self,
        query: &Query<'_>,
        request: &RangeRequest<'_>,
        scratch: &mut Scratch,
    ) -> SearchOutcome {
        let limits = Limits { filter: request.filter, deadline: request.deadline };
        let live = self.store.len();
        // The inner product has no local dimension, so nothing shows whether a walk is reliable.
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

/// The local intrinsic dimension around a query: how fast the number of vectors grows with the radius. It is
/// the maximum likelihood estimate (Amsaleg and others, "Estimating Local Intrinsic Dimensionality", KDD
/// 2015) from the nearest candidates, in order. Distances are squared; the cosine distance is in proportion
/// to the squared distance of vectors of length one. Infinite if the candidates do not determine it.
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
