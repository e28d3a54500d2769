//! What was found by codes, ranked again by the vectors; and whether the codes were good enough for that.
//!
//! The distance by codes of a vector x to a query q is the true one plus an error. RaBitQ's estimate (codes.rs) has no bias, and
//! the error is close to normal with a standard deviation in proportion to `|x - c| |q - c| / sqrt(dimension)`, c being the centre
//! (arXiv 2405.12497, theorem 3.2). For vectors near one query this is nearly one number s. Here it is measured rather than
//! computed: true distances of the nearest candidates are needed anyway, and they count every source of error.
//!
//! With d the true distance of the k-th nearest of those, whatever is at most `d + 3 s` by its codes can still be among the k, and
//! is ranked again. Where codes resolve what is near the query (smooth data), that is little more than k. Where they do not
//! (clusters that are tight beside their distance from the centre, data that have moved away from it) it is more than the search
//! has kept: then the answer is not to be trusted, and the caller searches once more by the vectors.

use crate::pool::{Candidate, Pool};
use crate::store::{Query, RANKED_AHEAD, Store};

/// Standard deviations of the error that are allowed for: an error beyond them, on one side, has a chance of 0.0013.
const DEVIATIONS: f32 = 3.0;

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

/// The error of distances by codes, from pairs of such and true ones.
#[derive(Default)]
struct Deviation {
    squares: f64,
    count: usize,
}

impl Deviation {
    fn note(&mut self, by_codes: f32, exact: f32) {
        let error = f64::from(by_codes) - f64::from(exact);
        // Where numbers end, both can be infinite.
        if error.is_finite() {
            self.squares += error * error;
            self.count += 1;
        }
    }

    /// How far by its codes a candidate can be that is at `distance`.
    fn reach(&self, distance: f32) -> f32 {
        let deviation = (self.squares / self.count.max(1) as f64).sqrt() as f32;
        distance + DEVIATIONS * deviation
    }
}

impl Store {
    /// Turns what a search by codes has left in the pool into candidates of which the `k` nearest are to be taken, with their true
    /// distances, nearest first. What a search without codes has left is that already.
    pub fn rank_again(&self, query: &Query<'_>, pool: &Pool, k: usize, out: &mut Vec<Candidate>) -> Ranking {
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
        let reach = deviation.reach(kth.distance);
        let end = found.partition_point(|candidate| candidate.distance <= reach).max(measured);
        self.rank(query, &found[measured..end], &mut deviation, out);
        // Now more of them are known, and the k-th may be nearer.
        let reach = deviation.reach(out[k - 1].distance);
        let farthest = found[found.len() - 1].distance;
        if pool.has_overflowed() && farthest < reach { Ranking::TooCoarse } else { Ranking::Settled }
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
            deviation.note(candidate.distance, exact.distance);
            out.push(exact);
        }
        out.sort_unstable();
    }

    /// Can links be chosen by codes among these candidates (nearest first, of a node that is being linked, by codes or by the
    /// vectors as the query goes)? The `k` nearest must be in front as for `rank_again`, and the error small beside the differences
    /// between their distances, because choosing compares those.
    pub fn codes_resolve(
        &self,
        query: &Query<'_>,
        found: &[Candidate],
        k: usize,
        out: &mut Vec<Candidate>,
    ) -> bool {
        let coded = query.coded_again();
        if !coded.is_coded() {
            return true;
        }
        let mut deviation = Deviation::default();
        let measured = &found[..found.len().min(k.saturating_add(MEASURED))];
        out.clear();
        if query.is_coded() {
            self.rank(query, measured, &mut deviation, out);
        } else {
            for candidate in measured {
                deviation.note(self.near_distance(&coded, candidate.slot()), candidate.distance);
                out.push(*candidate);
            }
        }
        let (Some(first), Some(kth), Some(last)) = (out.first(), out.get(k.saturating_sub(1)), found.last()) else {
            return true;
        };
        let reach = deviation.reach(kth.distance);
        reach <= last.distance && reach - kth.distance <= kth.distance - first.distance
    }
}
