//! Scans every live, allowed vector, with as many threads as pay off (scan_threads.rs).
//!
//! Threads take ranges of ids until none are left. Ranges are over ids rather than slots, so that each id is
//! met once, with the vector that it has at that moment. Each thread keeps the best candidates of its own
//! ranges; all of these, sorted by distance and id, begin with the best of all. One thread finds the same
//! rows, because it meets ids in ascending order, and keeps the first of several at the same distance: rows
//! do not depend on the number of threads.
//!
//! Invariant: the searching thread is pinned from before the first helper starts until the rows are settled,
//! so that slots met by helpers keep their vectors until then. Helpers pin too, but only because pinning is
//! how a thread gets scratch memory.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::candidates::{Candidate, Pool};
use crate::limits::{DISTANCES_STRIDE, Limits};
use crate::scratch::Scratch;
use crate::store::{Query, Store};
use crate::{Filter, SearchOutcome};

/// Slots that are gathered before they are evaluated, so that each can be prefetched before its evaluation.
const BATCH: usize = 64;
/// How many slots ahead to prefetch.
const AHEAD: usize = 4;

/// Up to this many candidates are kept sorted. More are gathered, and reduced to the nearest when there are
/// twice as many: an insertion into a sorted array takes time in proportion to its length.
const SORTED_MAX: usize = 1_024;

/// The size of the range that a thread takes at a time, where several scan: the first in bytes that are
/// expected to be read, the second in bytes at most. A searching thread waits for helpers that long in the
/// end, after its deadline too.
const RANGE_BYTES: usize = 1 << 20;
const RANGE_BYTES_MAX: usize = 16 << 20;

/// Standard deviations of the error of a code. A vector whose distance by codes exceeds a radius by more than
/// these is taken to be outside.
const DEVIATIONS_WITHIN: f32 = 5.0;

/// Which candidates are kept, and where.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// The given number of the nearest, in `Scratch::pool`.
    Nearest(usize),
    /// Those that may be within this radius, in `Scratch::candidates`, in any order.
    Within(f32),
}

/// One scan, shared by all its threads.
struct Scan<'a> {
    store: &'a Store,
    query: &'a Query<'a>,
    wanted: Wanted,
    filter: Option<&'a dyn Filter>,
    /// Ids from here on are not taken yet.
    next: AtomicU64,
    id_bound: u64,
    /// The number of ids to take at a time.
    range: u64,
    is_late: AtomicBool,
}

/// The expected number of vectors that a scan evaluates.
pub(crate) fn scanned(store: &Store, limits: Limits<'_>) -> usize {
    let live = store.len();
    limits.filter.and_then(|filter| filter.cardinality()).map_or(live, |allowed| allowed.min(live))
}

/// Leaves the wanted candidates in the scratch memory, whose owner is pinned.
pub(crate) fn scan(
    store: &Store,
    query: &Query<'_>,
    wanted: Wanted,
    limits: Limits<'_>,
    scratch: &mut Scratch,
    outcome: &mut SearchOutcome,
) {
    let row_bytes = if query.is_coded() { store.code_bytes() } else { store.vector_bytes_each() };
    let expected = scanned(store, limits);
    let lent = store.helpers.lend(expected.saturating_mul(row_bytes));
    let (live, id_bound) = (store.len(), store.id_bound());
    let range = if lent.count() == 0 { id_bound } else { range_of(row_bytes, expected, live) };
    let scan = Scan {
        store,
        query,
        wanted,
        filter: limits.filter,
        next: AtomicU64::new(0),
        id_bound,
        range,
        is_late: AtomicBool::new(false),
    };
    let mut gathered = std::mem::take(&mut scratch.chosen);
    gathered.clear();
    let shared = Mutex::new((gathered, 0));
    let help = || {
        let mut scratch = store.pin();
        let evaluated = scan.take_part(None, &mut scratch);
        let mut shared = shared.lock();
        shared.0.extend_from_slice(wanted.kept_in(&scratch));
        shared.1 += evaluated;
    };
    let evaluated = lent.run(|| scan.take_part(limits.deadline, scratch), help);
    let (mut gathered, evaluated_by_helpers) = shared.into_inner();
    if lent.count() > 0 {
        wanted.unite(store, &mut gathered, scratch);
    }
    scratch.chosen = gathered;
    outcome.exact = !query.is_coded();
    outcome.evaluated += evaluated + evaluated_by_helpers;
    outcome.timed_out |= scan.is_late.into_inner();
}

/// The number of ids to take at a time, if `expected` vectors of all are evaluated.
fn range_of(row_bytes: usize, expected: usize, live: usize) -> u64 {
    let ids = (RANGE_BYTES / row_bytes).saturating_mul(live) / expected.max(1);
    ids.min(RANGE_BYTES_MAX / row_bytes).max(BATCH) as u64
}

impl Scan<'_> {
    /// Takes ids until none are left or the time is over; returns the number of vectors evaluated.
    fn take_part(&self, deadline: Option<&dyn Fn() -> bool>, scratch: &mut Scratch) -> usize {
        let Scratch { pool, candidates, fresh, .. } = scratch;
        match self.wanted {
            Wanted::Nearest(width) if width <= SORTED_MAX => {
                pool.begin(width, 0);
                self.evaluate(deadline, fresh, |candidate| {
                    pool.push(candidate);
                })
            }
            Wanted::Nearest(width) => {
                candidates.clear();
                let mut bound = f32::INFINITY;
                let evaluated = self.evaluate(deadline, fresh, |candidate| {
                    if candidate.distance < bound || candidates.len() < width {
                        candidates.push(candidate);
                    }
                    if candidates.len() == width.saturating_mul(2) {
                        let order = |a: &Candidate, b: &Candidate| order(self.store, a, b);
                        let (_, last, _) = candidates.select_nth_unstable_by(width - 1, order);
                        bound = last.distance;
                        candidates.truncate(width);
                    }
                });
                keep_nearest(self.store, candidates, width, pool);
                evaluated
            }
            Wanted::Within(reach) => {
                candidates.clear();
                let is_coded = self.query.is_coded();
                self.evaluate(deadline, fresh, |candidate| {
                    // By codes: every candidate that may be within the radius.
                    let error = match is_coded {
                        true => DEVIATIONS_WITHIN * self.store.deviation(self.query, candidate.slot()),
                        false => 0.0,
                    };
                    // Written this way, the comparison is false for NaN, which the difference can become near
                    // the limits of `f32`.
                    let is_beyond = candidate.distance - error > reach;
                    if !is_beyond {
                        candidates.push(candidate);
                    }
                })
            }
        }
    }

    fn evaluate(
        &self,
        deadline: Option<&dyn Fn() -> bool>,
        fresh: &mut Vec<u32>,
        mut found: impl FnMut(Candidate),
    ) -> usize {
        let limits = Limits { filter: None, deadline };
        let is_coded = self.query.is_coded();
        let lines = if is_coded { self.store.near_prefetch_lines() } else { self.store.prefetch_lines() };
        let prefetch = |slot| match is_coded {
            true => self.store.near_prefetch(slot, lines),
            false => self.store.prefetch(slot, lines),
        };
        let mut evaluated = 0;
        let mut flush = |fresh: &mut Vec<u32>| {
            let is_late = self.is_late.load(Ordering::Relaxed);
            for (at, &slot) in fresh.iter().enumerate() {
                if is_late || limits.expired(evaluated, DISTANCES_STRIDE) {
                    self.is_late.store(true, Ordering::Relaxed);
                    break;
                }
                if let Some(&later) = fresh.get(at + AHEAD) {
                    prefetch(later);
                }
                evaluated += 1;
                found(self.store.near_candidate(self.query, slot));
            }
            fresh.clear();
        };
        fresh.clear();
        while let Some(ids) = self.next_ids() {
            for_each_allowed(self.store, self.filter, ids, &mut |_, slot| {
                fresh.push(slot);
                if fresh.len() == BATCH {
                    flush(fresh);
                }
            });
        }
        flush(fresh);
        evaluated
    }

    /// The next range of ids for the calling thread; `None` when none are left or the time is over.
    fn next_ids(&self) -> Option<RangeInclusive<u32>> {
        while !self.is_late.load(Ordering::Relaxed) {
            let first = self.next.fetch_add(self.range, Ordering::Relaxed);
            if first >= self.id_bound {
                break;
            }
            let segment_end = (first + 1).next_multiple_of(self.store.ids_per_segment());
            if first + self.range <= segment_end && !self.store.has_segment_of(first as u32) {
                // The next ids may be far away: skip the segments that do not exist.
                self.next.fetch_max(segment_end, Ordering::Relaxed);
                continue;
            }
            return Some(first as u32..=(first + self.range).min(self.id_bound).saturating_sub(1) as u32);
        }
        None
    }
}

/// Visits every id of the range that is present and allowed, with its slot, in ascending order.
pub(crate) fn for_each_allowed(
    store: &Store,
    filter: Option<&dyn Filter>,
    ids: RangeInclusive<u32>,
    visit: &mut dyn FnMut(u32, u32),
) {
    match filter {
        // Where the filter allows few ids, it enumerates them instead of being asked about each id.
        Some(filter) if filter.cardinality().is_some_and(|allowed| allowed < store.len()) => {
            filter.for_each(ids, &mut |id| {
                if let Some(slot) = store.slot_of(id) {
                    visit(id, slot);
                }
            });
        }
        Some(filter) => store.for_each_id(ids, &mut |id, slot| {
            if filter.allows(id) {
                visit(id, slot);
            }
        }),
        None => store.for_each_id(ids, visit),
    }
}

impl Wanted {
    fn kept_in(self, scratch: &Scratch) -> &[Candidate] {
        match self {
            Wanted::Nearest(_) => scratch.pool.items(),
            Wanted::Within(_) => &scratch.candidates,
        }
    }

    /// Adds what a helper gathered to the searching thread's scratch memory.
    fn unite(self, store: &Store, gathered: &mut Vec<Candidate>, scratch: &mut Scratch) {
        let Scratch { pool, candidates, .. } = scratch;
        match self {
            Wanted::Nearest(width) => {
                gathered.extend_from_slice(pool.items());
                keep_nearest(store, gathered, width, pool);
            }
            Wanted::Within(_) => candidates.extend_from_slice(gathered),
        }
    }
}

/// By distance, then by id. Distances compare as in the pool: 0 and -0 are equal.
fn order(store: &Store, a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    let by_distance = (a.distance + 0.0).total_cmp(&(b.distance + 0.0));
    by_distance.then_with(|| store.id_of(a.slot()).cmp(&store.id_of(b.slot())))
}

/// Leaves the nearest of them in the pool.
fn keep_nearest(store: &Store, candidates: &mut [Candidate], width: usize, pool: &mut Pool) {
    candidates.sort_unstable_by(|a, b| order(store, a, b));
    pool.begin(width, 0);
    for &candidate in candidates.iter().take(width) {
        pool.push(candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::CodeBuffer;
    use crate::store::Kind;
    use crate::{Element, Metric, Quantization, bytes_of};

    fn store(ids: impl Iterator<Item = u32>) -> Store {
        let kind = Kind { element: Element::F32, dimension: 1, metric: Metric::L2 };
        let store = Store::new(kind, Quantization::None, false);
        for id in ids {
            let placed = store.place(bytes_of(&[id as f32])).expect("it fits");
            store.commit(store.admit(id, &placed, &mut CodeBuffer::default()));
        }
        store
    }

    fn scan_of<'a>(store: &'a Store, query: &'a Query<'a>, range: u64) -> Scan<'a> {
        Scan {
            store,
            query,
            wanted: Wanted::Within(f32::INFINITY),
            filter: None,
            next: AtomicU64::new(0),
            id_bound: store.id_bound(),
            range,
            is_late: AtomicBool::new(false),
        }
    }

    #[test]
    fn ranges_contain_every_id_once_even_if_ids_are_sparse() {
        // The segment of ids 32,768 to 49,151 does not exist.
        let ids = [0, 1, 63, 64, 20_000, 32_767, 49_152, 52_424, 3_000_000_000, u32::MAX];
        let store = store(ids.into_iter());
        let query = store.query(bytes_of(&[0.0]));
        for range in [64, 100, 10_485, 16_383, 16_384, 1 << 40] {
            let scan = scan_of(&store, &query, range);
            let mut met = Vec::new();
            while let Some(ids) = scan.next_ids() {
                store.for_each_id(ids, &mut |id, _| met.push(id));
            }
            assert_eq!(met, ids, "ranges of {range}");
        }
    }

    #[test]
    fn when_one_is_late_the_others_stop() {
        let store = store(0..1_000);
        let query = store.query(bytes_of(&[0.0]));
        let mut scratch = store.pin();
        let scan = scan_of(&store, &query, 64);
        assert_eq!(scan.take_part(Some(&|| true), &mut scratch), 0);
        assert!(scan.is_late.load(Ordering::Relaxed));
        scan.next.store(0, Ordering::Relaxed);
        assert_eq!(scan.take_part(None, &mut scratch), 0);
        // Within a range too.
        let scan = scan_of(&store, &query, 1_000);
        let asked = std::cell::Cell::new(0);
        let second_time = || asked.replace(asked.get() + 1) == 1;
        assert_eq!(scan.take_part(Some(&second_time), &mut scratch), 256);
    }
}
