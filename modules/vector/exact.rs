//! Searches by scanning: every allowed vector is evaluated. The flat index answers all searches this way. The
//! graph does so where a filter allows few ids, and where no walk would find `k` rows. A scan of many vectors
//! evaluates their codes first and ranks the nearest of them by their vectors.

use std::collections::BinaryHeap;

use crate::candidates::Candidate;
use crate::limits::{DISTANCES_STRIDE, Limits};
use crate::ranking::Ranking;
use crate::scan::{Wanted, for_each_allowed, scan, scanned};
use crate::scratch::Scratch;
use crate::settle::Source;
use crate::store::{Query, RANKED_AHEAD, Store};
use crate::{Element, Neighbor, RangeRequest, SearchOutcome};

/// Up to this many vectors are evaluated directly, which takes some tens of microseconds; more are evaluated
/// by their codes.
const UNCODED_MAX: usize = 1_000;

/// The `k` nearest of all live, allowed vectors. Many vectors are evaluated by their codes first, if the
/// query has codes.
pub(crate) fn nearest(
    store: &Store,
    query: &Query<'_>,
    k: usize,
    limits: Limits<'_>,
    scratch: &mut Scratch,
) -> SearchOutcome {
    if store.kind.element == Element::F64 {
        return nearest_of_doubles(store, query, k, limits);
    }
    let mut outcome = SearchOutcome::default();
    let mut query = if scanned(store, limits) > UNCODED_MAX { *query } else { query.uncoded() };
    let mut wanted = k;
    loop {
        let width = if query.is_coded() { store.kept_for(wanted) } else { wanted };
        scan(store, &query, Wanted::Nearest(width), limits, scratch, &mut outcome);
        let Scratch { pool, candidates, .. } = &mut *scratch;
        if store.rank_again(&query, pool, wanted, Source::Scan, candidates) == Ranking::TooCoarse
            && !outcome.timed_out
        {
            query = query.uncoded();
            outcome.too_coarse = true;
            continue;
        }
        outcome.neighbors = store.settle(&query, candidates, k, limits.filter, Source::Scan);
        let short = outcome.neighbors.len() < k && pool.is_full();
        if !short || outcome.timed_out || wanted >= k.saturating_mul(8) {
            return outcome;
        }
        // Rows were deleted between the scan and now; others must take their place.
        wanted = wanted.saturating_mul(2);
    }
}

/// Distances of doubles are compared as `f64`, by one thread: as `f32`, many of them would be equal or
/// infinite.
fn nearest_of_doubles(store: &Store, query: &Query<'_>, k: usize, limits: Limits<'_>) -> SearchOutcome {
    let mut outcome = SearchOutcome { exact: true, ..SearchOutcome::default() };
    // A heap with the farthest row on top.
    let mut nearest = BinaryHeap::new();
    each_double(store, query, limits, &mut outcome, |row| {
        nearest.push(row);
        if nearest.len() > k {
            nearest.pop();
        }
    });
    outcome.neighbors = nearest.into_sorted_vec();
    outcome
}

/// Every live, allowed vector within a radius. Many vectors are evaluated by their codes first, if the query
/// has codes and the answer need not be exact. A vector is left out where its distance by codes exceeds the
/// radius by more than five standard deviations of the error (a chance of one in three million).
pub(crate) fn within(
    store: &Store,
    query: &Query<'_>,
    request: &RangeRequest<'_>,
    limits: Limits<'_>,
    scratch: &mut Scratch,
) -> SearchOutcome {
    if store.kind.element == Element::F64 {
        return doubles_within(store, query, request.radius, limits);
    }
    let mut outcome = SearchOutcome::default();
    let by_codes = !request.exact && scanned(store, limits) > UNCODED_MAX;
    let query = &if by_codes { *query } else { query.uncoded() };
    scan(store, query, Wanted::Within(radius_of_candidates(request.radius)), limits, scratch, &mut outcome);
    if query.is_coded() {
        find_distances(store, query, &mut scratch.candidates);
    }
    outcome.neighbors =
        settle_within(store, query, &mut scratch.candidates, request.radius, limits, Source::Scan);
    outcome
}

/// Replaces distances computed from codes by those computed from vectors.
fn find_distances(store: &Store, query: &Query<'_>, candidates: &mut [Candidate]) {
    let lines = store.prefetch_lines();
    for at in 0..candidates.len() {
        if let Some(later) = candidates.get(at + RANKED_AHEAD) {
            store.prefetch(later.slot(), lines);
        }
        candidates[at] = store.candidate(query, candidates[at].slot());
    }
}

/// As `nearest_of_doubles`: a distance that exceeds the radius as `f32` can be within it as `f64`.
fn doubles_within(store: &Store, query: &Query<'_>, radius: f64, limits: Limits<'_>) -> SearchOutcome {
    let mut outcome = SearchOutcome { exact: true, ..SearchOutcome::default() };
    let mut rows = Vec::new();
    each_double(store, query, limits, &mut outcome, |row| {
        rows.extend(Some(row).filter(|row| row.distance <= radius))
    });
    rows.sort_unstable();
    outcome.neighbors = rows;
    outcome
}

/// Calls `visit` with every live, allowed vector of doubles.
fn each_double(
    store: &Store,
    query: &Query<'_>,
    limits: Limits<'_>,
    outcome: &mut SearchOutcome,
    mut visit: impl FnMut(Neighbor),
) {
    let mut look = |id: u32, slot: u32| {
        outcome.timed_out |= limits.expired(outcome.evaluated, DISTANCES_STRIDE);
        if outcome.timed_out {
            return;
        }
        outcome.evaluated += 1;
        visit(Neighbor { id, distance: store.double_distance(query, slot) });
    };
    let last = store.id_bound().saturating_sub(1) as u32;
    for_each_allowed(store, limits.filter, 0..=last, &mut look);
}

/// A radius for candidates, whose distances are less precise: everything within `radius` is within it, and
/// perhaps more.
fn radius_of_candidates(radius: f64) -> f32 {
    (radius as f32).next_up()
}

/// As `Store::settle`, for everything within a radius, in any order.
pub(crate) fn settle_within(
    store: &Store,
    query: &Query<'_>,
    candidates: &mut Vec<Candidate>,
    radius: f64,
    limits: Limits<'_>,
    source: Source,
) -> Vec<Neighbor> {
    let reach = radius_of_candidates(radius);
    // A member can be within the radius where its place is just outside.
    let is_rough = source == Source::Graph && store.copies().has_unequal();
    candidates.retain(|candidate| candidate.distance <= reach || is_rough);
    candidates.sort_unstable();
    let mut rows = store.settle(query, candidates, usize::MAX, limits.filter, source);
    // A row whose vector changed meanwhile may now be outside, and distances of candidates are less precise.
    rows.retain(|row| row.distance <= radius);
    rows
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;
    use crate::codes::CodeBuffer;
    use crate::scan_threads::Helpers;
    use crate::store::{Kind, Resolution};
    use crate::{Filter, Metric, Quantization, bytes_of};

    const DIMENSION: usize = 6;

    fn mixed(number: u32) -> u32 {
        (number.wrapping_mul(2_654_435_761) ^ 0x5bd1).rotate_left(13).wrapping_mul(2_246_822_519) >> 7
    }

    /// So few different vectors that most ids have copies.
    fn vector(salt: u32) -> [f32; DIMENSION] {
        std::array::from_fn(|at| (mixed(mixed(salt) % 97 + 1_000 * at as u32) % 5) as f32 - 2.0)
    }

    /// Ids with gaps; some replaced, some removed.
    fn store(ids: u32, quantization: Quantization) -> Store {
        let kind = Kind { element: Element::F32, dimension: DIMENSION, metric: Metric::L2 };
        let store = Store::new(kind, quantization, true);
        let put = |id, salt| {
            let placed = store.place(bytes_of(&vector(salt))).expect("it fits");
            store.commit(store.admit(id, &placed, &mut CodeBuffer::default()));
        };
        (0..ids).filter(|id| id % 7 != 3).for_each(|id| put(id, id));
        (0..ids).filter(|id| id % 5 == 1).for_each(|id| put(id, id + 1_000_000));
        (0..ids).filter(|id| id % 11 == 4).for_each(|id| _ = store.take(id));
        if ids > 0 {
            put(ids + 700_000, 9);
        }
        store
    }

    struct Part {
        /// One id in `share` is allowed.
        share: u32,
        cardinality: Option<usize>,
    }

    impl Filter for Part {
        fn allows(&self, id: u32) -> bool {
            mixed(id).is_multiple_of(self.share)
        }

        fn cardinality(&self) -> Option<usize> {
            self.cardinality
        }

        fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
            ids.filter(|&id| self.allows(id)).for_each(visit);
        }
    }

    /// The answers of a store to all requests: for several numbers of rows, and several radii.
    fn answers(store: &Store, limits: Limits<'_>) -> Vec<SearchOutcome> {
        let mut scratch = store.pin();
        let mut answers = Vec::new();
        for salt in 0..3 {
            let vector = vector(salt + 5_000_000);
            let mut buffer = CodeBuffer::default();
            let query = store.walking_query(bytes_of(&vector), &mut buffer);
            for k in [1, 2, 10, 65, 1_000, 1_100, usize::MAX] {
                answers.push(nearest(store, &query, k, limits, &mut scratch));
            }
            for radius in [0.0, 4.0, 20.0, f64::MAX] {
                for exact in [true, false] {
                    let request = RangeRequest { radius, exact, ..RangeRequest::new(&[], radius) };
                    answers.push(within(store, &query, &request, limits, &mut scratch));
                }
            }
        }
        answers
    }

    #[test]
    fn several_threads_find_the_same_rows_as_one() {
        let [four, one]: [&'static Helpers; 2] =
            [4, 1].map(|threads| &*Box::leak(Box::new(Helpers::new(threads, 1))));
        for quantization in [Quantization::None, Quantization::Bits4] {
            for ids in [0, 1, 63, 64, 65, 200, 1_500, 5_000] {
                let mut store = store(ids, quantization);
                let mut assert_alike = |limits: Limits<'_>, filter: &str| {
                    let [helped, alone] = [four, one].map(|helpers| {
                        store.helpers = helpers;
                        answers(&store, limits)
                    });
                    assert_eq!(helped, alone, "{quantization:?}, {ids} ids, {filter}");
                };
                assert_alike(Limits::default(), "no filter");
                for share in [1, 2, 30] {
                    for cardinality in [None, Some(ids as usize / share as usize), Some(usize::MAX)] {
                        let filter = Part { share, cardinality };
                        let limits = Limits { filter: Some(&filter), deadline: None };
                        assert_alike(limits, &format!("one in {share}, {cardinality:?}"));
                    }
                }
            }
        }
    }

    #[test]
    fn hints_about_coarse_codes_do_not_apply_to_scans() {
        const DIMENSION: usize = 128;
        let kind = Kind { element: Element::F32, dimension: DIMENSION, metric: Metric::L2 };
        let store = Store::new(kind, Quantization::Bits4, true);
        let vector = |salt: u32| -> [f32; DIMENSION] {
            std::array::from_fn(|at| (mixed(mixed(salt) + at as u32) % 1_000) as f32)
        };
        for id in 0..3_000 {
            let placed = store.place(bytes_of(&vector(id))).expect("it fits");
            store.commit(store.admit(id, &placed, &mut CodeBuffer::default()));
        }
        store.make_codes(&mut CodeBuffer::default());
        let ask = || {
            let (vector, mut buffer) = (vector(77_777), CodeBuffer::default());
            let query = store.walking_query(bytes_of(&vector), &mut buffer);
            nearest(&store, &query, 10, Limits::default(), &mut store.pin())
        };
        let before = ask();
        assert!(!before.too_coarse && !before.exact, "codes are precise enough here");
        store.for_each_id(0..=3_000, &mut |_, slot| store.set_resolution(slot, Resolution::Walks));
        assert_eq!(ask(), before);
    }

    #[test]
    fn fewer_rows_are_the_first_of_more() {
        let store = store(5_000, Quantization::None);
        let (vector, mut scratch) = (vector(1), store.pin());
        let query = store.query(bytes_of(&vector));
        let mut rows = |k| nearest(&store, &query, k, Limits::default(), &mut scratch).neighbors;
        let all = rows(usize::MAX);
        assert_eq!(all.len(), store.len());
        // Up to 1,024 rows are kept sorted; more are gathered and sorted in batches.
        for k in [10, 1_000, 1_030, 1_500, 2_500] {
            assert_eq!(rows(k), all[..k], "k {k}");
        }
    }

    /// Waits for the flag, with a bound.
    fn wait_for(flag: &AtomicBool) {
        let yields = (0..10_000_000).take_while(|_| !flag.load(Ordering::Relaxed));
        yields.for_each(|_| thread::yield_now());
    }

    #[test]
    fn helpers_take_part_and_stop_at_the_deadline() {
        /// Records that a thread other than the searching one called it, and lets no thread go on until the
        /// deadline was checked.
        struct Watching {
            searcher: thread::ThreadId,
            is_helped: AtomicBool,
            is_late: AtomicBool,
        }

        impl Filter for Watching {
            fn allows(&self, _: u32) -> bool {
                if thread::current().id() != self.searcher {
                    self.is_helped.store(true, Ordering::Relaxed);
                    wait_for(&self.is_late);
                }
                true
            }

            fn cardinality(&self) -> Option<usize> {
                None
            }

            fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
                ids.for_each(visit);
            }
        }
        let mut store = store(5_000, Quantization::None);
        store.helpers = Box::leak(Box::new(Helpers::new(4, 1)));
        let [is_helped, is_late] = [const { AtomicBool::new(false) }; 2];
        let filter = Watching { searcher: thread::current().id(), is_helped, is_late };
        let deadline = || {
            wait_for(&filter.is_helped);
            filter.is_late.store(true, Ordering::Relaxed);
            true
        };
        let limits = Limits { filter: Some(&filter), deadline: Some(&deadline) };
        let vector = vector(1);
        let outcome = nearest(&store, &store.query(bytes_of(&vector)), 10, limits, &mut store.pin());
        assert!(filter.is_helped.into_inner(), "no helper took part");
        assert!(outcome.timed_out && outcome.neighbors.is_sorted());
    }
}
