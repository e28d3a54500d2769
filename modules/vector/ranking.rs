//! Ranks the candidates found by codes again, by their vectors, and decides whether the codes were precise
//! enough.
//!
//! The distance by codes of a vector x to a query q is the true distance plus an error. RaBitQ's estimator
//! (codes.rs) has no bias, and the error is close to normal with a standard deviation in proportion to `|x -
//! c| |q - c| / sqrt(dimension)`, c being the centre (arXiv 2405.12497, theorem 3.2). The deviation is
//! computed for the candidates at hand, and also measured, because their true distances are needed anyway;
//! the larger value is used. (Measuring alone is not enough. In a tight cluster the codes are nearly the
//! same, and so are the errors; the nearest by codes are then those with the smallest errors.)
//!
//! Let d be the true distance of the k-th nearest candidate and s the deviation. A candidate whose distance
//! by codes is at most `d + 4 s` can still be among the k nearest, and is ranked again. Where codes resolve
//! the neighbourhood of the query (smooth data), these are little more than k candidates. Where they do not
//! (tight clusters far from the centre, or data that have moved away from it), these are more candidates than
//! the search has kept, or s exceeds the differences between the nearest. Then the answer is not reliable,
//! and the caller searches again by the vectors.

use crate::Metric;
use crate::candidates::{Candidate, Pool};
use crate::settle::Source;
use crate::store::{Query, RANKED_AHEAD, Resolution, Store};

/// Standard deviations within which a candidate is ranked again. A larger error, on one side, has a
/// probability of 0.00003.
const DEVIATIONS_RANKED: f32 = 4.0;
/// Standard deviations within which a search must have kept every candidate. A larger error has a probability
/// of 0.0013.
const DEVIATIONS_KEPT: f32 = 3.0;

/// Standard deviations by which the distances of the first and the last of `SPREAD_ROWS` rows (or of `k`)
/// must differ.
const DEVIATIONS_SPREAD: f32 = 2.0;
const SPREAD_ROWS: usize = 10;

/// Candidates by which the error is measured, in addition to `k`.
const MEASURED: usize = 8;

/// Whether the candidates found by codes could be ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ranking {
    /// The first `k` are the nearest of all candidates that the search met.
    Settled,
    /// Candidates that the search did not keep could be nearer.
    TooCoarse,
}

/// Accumulates the error of distances by codes.
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
        // Near the limits of `f32`, distances by codes become infinite before the true ones do: then they are
        // meaningless.
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
    /// Turns what a search by codes has left in the pool into candidates with their true distances, nearest
    /// first; the caller uses the first `k`. After a search without codes, the pool is that already.
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
        // More true distances are known now, and the k-th nearest may be nearer than before.
        let reach = out[k - 1].distance + DEVIATIONS_KEPT * deviation.value();
        // A walk needs codes that tell candidates apart to find its way; a scan does not.
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

    /// What codes are precise enough for around a node that is being linked, judged by the candidates for its
    /// links (nearest first; found by codes or by vectors, as the query specifies). Leaves the nearest of
    /// them in `out`, with true distances.
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
        // The inner product has no distance that identifies equal vectors.
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
