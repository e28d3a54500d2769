//! When a search stops that requested a recall instead of a width.
//!
//! All walks expand nodes in the same order, nearest first; a wider beam only lasts longer. So for each query
//! it remains to decide when to stop. The rule: stop when the nearest node that was not expanded is farther
//! than the k-th nearest found, by more than a share of that distance, the *slack*. (Distance-adaptive beam
//! search: Al-Jazzazi and others, arXiv 2505.15636.) Queries in sparse regions, where many nodes are nearly
//! as far as the k-th, walk longer; queries in dense regions stop early. Learned rules over more signals of
//! the walk were no better (docs/decisions/0017-recall-on-request.md).
//!
//! Which slack gives which recall depends on the data, and is measured on the index itself: calibration.rs.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::Hnsw;
use super::calibration::{Curve, Samples};
use super::walk::Walker;
use crate::Metric;
use crate::candidates::Candidate;
use crate::scratch::Scratch;
use crate::store::Query;

/// The rule by which a walk stops.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    metric: Metric,
    /// The number of rows wanted, plus the deleted ones that the walk has met.
    rank: usize,
    slack: f32,
    /// Candidates that are kept in any case, to be ranked again.
    kept: usize,
    enough: usize,
}

impl Stop {
    pub fn new(metric: Metric, k: usize, slack: f32, enough: usize) -> Self {
        Stop { metric, rank: k.max(1), slack, kept: k, enough }
    }

    /// A walk under a filter that has run out of nodes with fewer candidates has failed.
    pub fn enough(&self) -> usize {
        self.enough
    }

    /// The distance up to which the walk goes on, if the k-th nearest that it has found is at `kth`.
    ///
    /// The slack is a share of the distance, or of the inner product: that can have either sign, and its
    /// distance is one minus it.
    pub fn reach(metric: Metric, kth: f32, slack: f32) -> f32 {
        let unit = match metric {
            Metric::L2 | Metric::Cosine => kth.max(0.0),
            Metric::InnerProduct => (1.0 - kth).abs(),
        };
        kth + slack * unit
    }
}

impl Walker<'_> {
    /// Whether the walk may stop before it expands `next`, the nearest that is left. Prevents candidates out
    /// of reach from entering the pool.
    #[inline(always)]
    pub(super) fn may_stop(&mut self, next: Candidate) -> bool {
        let Some(stop) = self.stop else { return false };
        let pool = &mut self.scratch.pool;
        let Some(kth) = pool.items().get(stop.rank - 1) else { return false };
        let reach = Stop::reach(stop.metric, kth.distance, stop.slack);
        if let Some(last) = pool.items().get(stop.kept.max(stop.rank) - 1) {
            pool.limit_to(reach.max(last.distance));
        }
        next.distance > reach
    }

    /// A deleted node takes the place of a wanted row.
    #[inline(always)]
    pub(super) fn meets_deleted(&mut self) {
        if let Some(stop) = &mut self.stop {
            stop.rank += 1;
        }
    }

    /// Sets the number of candidates that are kept.
    pub(super) fn keep(&mut self, kept: usize) {
        if let Some(stop) = &mut self.stop {
            stop.kept = kept;
        }
    }
}

/// What an index knows about the effort that a recall takes.
#[derive(Default)]
pub(super) struct Effort {
    /// Inserts and deletes so far.
    changes: AtomicU64,
    /// Searches with a recall so far.
    searches: AtomicU64,
    /// By `k`. Locked while samples are taken.
    samples: Mutex<Vec<Samples>>,
    /// The results of the samples.
    curves: RwLock<Vec<Curve>>,
}

/// How a search with a recall is executed.
pub(super) struct Plan {
    /// Infinite: no walk has the recall.
    pub slack: f32,
    /// The search is also a sample.
    pub is_sample: bool,
}

/// Calibrations are made for numbers of rows that are 1, 2 or 5 times a power of ten.
const SERIES: [usize; 3] = [1, 2, 5];
const DECADES: u32 = 4;

fn calibrated(k: usize) -> usize {
    let all = (0..DECADES).flat_map(|decade| SERIES.map(|step| step * 10_usize.pow(decade)));
    let ratio = |other: usize| (other as f64 / k.max(1) as f64).ln().abs();
    all.min_by(|&a, &b| ratio(a).total_cmp(&ratio(b))).unwrap_or(1)
}

impl Effort {
    pub fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How to execute a search for `k` rows with this recall (above 0, below 1). The first call takes
    /// samples, and later calls occasionally take one more.
    pub fn plan(&self, index: &Hnsw, recall: f32, k: usize) -> Plan {
        let k = calibrated(k);
        let (now, search) =
            (self.changes.load(Ordering::Relaxed), self.searches.fetch_add(1, Ordering::Relaxed));
        let plan = |curve: &Curve| Plan { slack: curve.slack_for(recall), is_sample: curve.wants(search) };
        let known = {
            let curves = self.curves.read();
            curves.iter().find(|curve| curve.k == k).map(|curve| (plan(curve), curve.is_due(now, index)))
        };
        let mut all = match known {
            Some((plan, false)) => return plan,
            Some((plan, true)) => match self.samples.try_lock() {
                Some(samples) => samples,
                // Another search takes the sample.
                None => return plan,
            },
            None => match self.samples.try_lock() {
                Some(samples) => samples,
                // Another search takes the first samples, for an unbounded time: this one scans.
                None => return Plan { slack: f32::INFINITY, is_sample: false },
            },
        };
        self.publish(samples_of(&mut all, k).refresh(index, now), plan)
    }

    /// Whether such a search is a walk of known length, and nothing else.
    pub fn is_quick(&self, index: &Hnsw, recall: f32, k: usize) -> bool {
        let now = self.changes.load(Ordering::Relaxed);
        let is_quick =
            |curve: &Curve| recall < 1.0 && !curve.is_due(now, index) && curve.slack_for(recall).is_finite();
        self.curves.read().iter().find(|curve| curve.k == calibrated(k)).is_some_and(is_quick)
    }

    /// Takes a search as a sample, unless another thread is taking one.
    pub fn sample(&self, index: &Hnsw, query: &Query<'_>, k: usize, scratch: &mut Scratch) {
        let Some(mut all) = self.samples.try_lock() else { return };
        let now = self.changes.load(Ordering::Relaxed);
        self.publish(samples_of(&mut all, calibrated(k)).note(index, query, now, scratch), |_| ());
    }

    fn publish<T>(&self, curve: Curve, read: impl FnOnce(&Curve) -> T) -> T {
        let result = read(&curve);
        let mut curves = self.curves.write();
        curves.retain(|other| other.k != curve.k);
        curves.push(curve);
        result
    }
}

fn samples_of(all: &mut Vec<Samples>, k: usize) -> &mut Samples {
    let at = all.iter().position(|samples| samples.k == k).unwrap_or_else(|| {
        all.push(Samples::new(k));
        all.len() - 1
    });
    &mut all[at]
}

#[cfg(test)]
mod tests {
    use crate::{Hnsw, HnswParameters, Metric, SearchRequest, VectorIndex, bytes_of};

    #[test]
    fn a_search_with_a_recall_does_not_wait_for_the_samples_of_another() {
        let index = Hnsw::new(HnswParameters::new(4, Metric::L2));
        for id in 0..100 {
            index.insert(id, bytes_of(&[id as f32, 0.0, 0.0, 0.0])).expect("it fits");
        }
        let _taken = index.effort.samples.lock();
        let query = [7.1_f32, 0.0, 0.0, 0.0];
        let request = SearchRequest { recall: Some(0.9), ..SearchRequest::new(bytes_of(&query), 3, 10) };
        let outcome = index.search(&request).expect("it fits");
        assert_eq!(outcome.neighbors.iter().map(|row| row.id).collect::<Vec<_>>(), [7, 8, 6]);
    }
}
