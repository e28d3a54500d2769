//! What was found by codes, ranked again by the vectors; and whether the codes were good enough for that.
//!
//! The distance by codes of a vector x to a query q is the true one plus an error. RaBitQ's estimate (codes.rs) has no bias, and
//! the error is close to normal with a standard deviation in proportion to `|x - c| |q - c| / sqrt(dimension)`, c being the centre
//! (arXiv 2405.12497, theorem 3.2). It is computed for the candidates at hand, and measured too, because their true distances are
//! needed anyway: the larger of both counts. (Measuring alone is not enough. In a tight cluster the codes are nearly the same, so are
//! the errors, and the nearest by their codes are those whose errors are least.)
//!
//! With d the true distance of the k-th nearest of those, and s this deviation, whatever is at most `d + 4 s` by its codes can
//! still be among the k, and is ranked again. Where codes resolve what is near the query (smooth data), that is little more than k.
//! Where they do not (clusters that are tight beside their distance from the centre, data that have moved away from it) it is
//! more than the search has kept, or more than the nearest differ by: then the answer is not to be trusted, and the caller searches
//! once more by the vectors.

use crate::Metric;
use crate::pool::{Candidate, Pool};
use crate::settle::Source;
use crate::store::{Query, RANKED_AHEAD, Store};

/// Standard deviations within which a candidate is ranked again. An error beyond them, on one side, has a chance of 0.00003.
const DEVIATIONS_RANKED: f32 = 4.0;
/// Standard deviations within which a search must have kept every candidate. An error beyond them has a chance of 0.0013.
const DEVIATIONS_KEPT: f32 = 3.0;

/// Standard deviations by which the distances of the first and the last of `SPREAD_ROWS` rows (or of `k`) must differ.
const DEVIATIONS_SPREAD: f32 = 2.0;
const SPREAD_ROWS: usize = 10;

/// Candidates that the error is measured by, beside `k`.
const MEASURED: usize = 8;

/// Could what was found by codes be ranked?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ranking {
    /// The `k` nearest of all candidates that the search met are in front.
    Settled,
    /// Others, which the search did not keep, could be nearer.
    TooCoarse,
}

/// What codes are good for around a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolution {
    /// A search that comes here by codes has to go by the vectors in the end.
    Nothing,
    /// To find the way by. Not to choose links by: that compares distances which differ by less than the error, or are smaller.
    Walks,
    /// To find the way, and to choose links.
    Links,
}

/// The error of distances by codes.
#[derive(Default)]
struct Deviation {
    squares_measured: f64,
    squares_computed: f64,
    is_broken: bool,
    count: usize,
}

impl Deviation {
    fn note(&mut self, by_codes: f32, exact: f32, computed: f32) {
        let measured = f64::from(by_codes) - f64::from(exact);
        let computed = f64::from(computed);
        // Where numbers end, distances by codes are infinite before the true ones are: then they say nothing.
        if exact.is_finite() && !(measured.is_finite() && computed.is_finite()) {
            self.is_broken = true;
        }
        if measured.is_finite() && computed.is_finite() {
            self.squares_measured += measured * measured;
            self.squares_computed += computed * computed;
            self.count += 1;
        }
    }

    /// The standard deviation.
    fn value(&self) -> f32 {
        if self.is_broken {
            return f32::INFINITY;
        }
        let squares = self.squares_measured.max(self.squares_computed);
        (squares / self.count.max(1) as f64).sqrt() as f32
    }
}

impl Store {
    /// Turns what a search by codes has left in the pool into candidates of which the `k` nearest are to be taken, with their true
    /// distances, nearest first. What a search without codes has left is that already.
    pub fn rank_again(
        &self,
        query: &Query<'_>,
        pool: &Pool,
        k: usize,
        source: Source,
        out: &mut Vec<Candidate>,
    ) -> Ranking {
        out.clear();
        let found = pool.items();
        if !query.is_coded() {
            out.extend_from_slice(found);
            return Ranking::Settled;
        }
        let mut deviation = Deviation::default();
        let measured = found.len().min(k.saturating_add(MEASURED));
        self.rank(query, &found[..measured], &mut deviation, out);
        let Some(kth) = k.checked_sub(1).and_then(|last| out.get(last)) else { return Ranking::Settled };
        let reach = kth.distance + DEVIATIONS_RANKED * deviation.value();
        let end = found.partition_point(|candidate| candidate.distance <= reach).max(measured);
        self.rank(query, &found[measured..end], &mut deviation, out);
        // Now more of them are known, and the k-th may be nearer.
        let reach = out[k - 1].distance + DEVIATIONS_KEPT * deviation.value();
        // Nor does a walk find its way among what codes do not tell apart. A scan needs no way.
        let spread = out[out.len().min(k.max(SPREAD_ROWS)) - 1].distance - out[0].distance;
        let is_blind = DEVIATIONS_SPREAD * deviation.value() > spread
            || self.resolution_at(out[0].slot()) != Resolution::Links;
        let is_lost = source == Source::Graph && is_blind && pool.is_full();
        if is_lost || pool.complete_within() < reach { Ranking::TooCoarse } else { Ranking::Settled }
    }

    fn rank(
        &self,
        query: &Query<'_>,
        found: &[Candidate],
        deviation: &mut Deviation,
        out: &mut Vec<Candidate>,
    ) {
        let lines = self.prefetch_lines();
        for (at, candidate) in found.iter().enumerate() {
            if let Some(later) = found.get(at + RANKED_AHEAD) {
                self.prefetch(later.slot(), lines);
            }
            let exact = self.candidate(query, candidate.slot());
            let computed = self.deviation(query, candidate.slot());
            deviation.note(candidate.distance, exact.distance, computed);
            out.push(exact);
        }
        out.sort_unstable();
    }

    /// What codes are good for around a node that is being linked, judged by the candidates for its links (nearest first, found by
    /// codes or by the vectors as the query goes). Leaves the nearest of them in `out`, with true distances.
    pub fn resolution(
        &self,
        query: &Query<'_>,
        found: &[Candidate],
        k: usize,
        out: &mut Vec<Candidate>,
    ) -> Resolution {
        let coded = query.coded_again();
        let mut deviation = Deviation::default();
        let measured = &found[..found.len().min(k.saturating_add(MEASURED))];
        out.clear();
        if query.is_coded() {
            self.rank(query, measured, &mut deviation, out);
        } else if !coded.is_coded() {
            out.extend_from_slice(measured);
            return Resolution::Links;
        } else {
            for candidate in measured {
                let by_codes = self.near_distance(&coded, candidate.slot());
                let computed = self.deviation(&coded, candidate.slot());
                deviation.note(by_codes, candidate.distance, computed);
                out.push(*candidate);
            }
        }
        let (Some(first), Some(kth), Some(last)) = (out.first(), out.get(k.saturating_sub(1)), found.last())
        else {
            return Resolution::Links;
        };
        let error = DEVIATIONS_KEPT * deviation.value();
        // The inner product has no distance at which two are the same.
        let nearest = if self.kind.metric == Metric::InnerProduct { f32::INFINITY } else { first.distance };
        if deviation.is_broken || kth.distance + error > last.distance {
            Resolution::Nothing
        } else if error > (kth.distance - first.distance).min(nearest) {
            Resolution::Walks
        } else {
            Resolution::Links
        }
    }
}
