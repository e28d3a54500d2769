//! Scans: every allowed vector is looked at. The flat index answers with this; the graph does where a filter leaves few, and
//! where nothing else would find `k`, and then looks at codes where there are many: what is nearest by them is ranked again.

use crate::pool::Candidate;
use crate::scratch::Scratch;
use crate::store::{Query, Store};
use crate::{Filter, SearchOutcome};

/// Distances between two looks at the deadline: some tens of microseconds.
pub(crate) const DEADLINE_STRIDE: usize = 256;

/// Slots that are gathered before they are evaluated, so that each can be prefetched ahead of its turn.
const BATCH: usize = 64;
/// How far ahead.
const AHEAD: usize = 4;

/// Up to so many vectors are scanned themselves, which takes some tens of microseconds; more by their codes.
const UNCODED_MAX: usize = 1_000;

/// What a search is allowed to return, and until when it may run.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    pub filter: Option<&'a dyn Filter>,
    pub deadline: Option<&'a dyn Fn() -> bool>,
}

impl Limits<'_> {
    /// True when the time is over; asks only every `DEADLINE_STRIDE` evaluations.
    #[inline(always)]
    pub fn expired(&self, evaluated: usize) -> bool {
        match self.deadline {
            Some(over) => evaluated.is_multiple_of(DEADLINE_STRIDE) && over(),
            None => false,
        }
    }
}

/// Calls `found` with every live, allowed candidate, in any order.
pub(crate) fn scan(
    store: &Store,
    query: &Query<'_>,
    limits: Limits<'_>,
    fresh: &mut Vec<u32>,
    outcome: &mut SearchOutcome,
    mut found: impl FnMut(Candidate),
) {
    outcome.exact = !query.is_coded();
    let lines = if query.is_coded() { store.near_prefetch_lines() } else { store.prefetch_lines() };
    let prefetch = |slot| match query.is_coded() {
        true => store.near_prefetch(slot, lines),
        false => store.prefetch(slot, lines),
    };
    let mut flush = |fresh: &mut Vec<u32>| {
        for (at, &slot) in fresh.iter().enumerate() {
            if outcome.timed_out || limits.expired(outcome.evaluated) {
                outcome.timed_out = true;
                break;
            }
            if let Some(&later) = fresh.get(at + AHEAD) {
                prefetch(later);
            }
            outcome.evaluated += 1;
            found(store.near_candidate(query, slot));
        }
        fresh.clear();
    };
    fresh.clear();
    let mut take = |slot: u32| {
        fresh.push(slot);
        if fresh.len() == BATCH {
            flush(fresh);
        }
    };
    // By id rather than by slot: so each id is met once, with the vector that it has at that moment.
    match limits.filter {
        Some(filter) if filter.cardinality().is_some_and(|allowed| allowed < store.len()) => {
            filter.for_each(&mut |id| store.slot_of(id).into_iter().for_each(&mut take));
        }
        Some(filter) => store.for_each_id(&mut |id, slot| {
            if filter.allows(id) {
                take(slot);
            }
        }),
        None => store.for_each_id(&mut |_, slot| take(slot)),
    }
    flush(fresh);
}

/// The `k` nearest of all live, allowed vectors. Many of them are sifted by their codes, if the query has any.
pub(crate) fn nearest(
    store: &Store,
    query: &Query<'_>,
    k: usize,
    limits: Limits<'_>,
    scratch: &mut Scratch,
) -> SearchOutcome {
    let mut outcome = SearchOutcome::default();
    let Scratch { pool, fresh, candidates, .. } = scratch;
    let scanned =
        limits.filter.and_then(|filter| filter.cardinality()).map_or(store.len(), |n| n.min(store.len()));
    let query = &if scanned > UNCODED_MAX { *query } else { query.uncoded() };
    let mut width = if query.is_coded() { store.ranked_again(k) } else { k };
    loop {
        pool.begin(width);
        scan(store, query, limits, fresh, &mut outcome, |candidate| {
            pool.push(candidate);
        });
        store.rank_again(query, pool.items(), width, candidates);
        outcome.neighbors = store.settle(query, candidates, k, limits.filter);
        let short = outcome.neighbors.len() < k && pool.is_full();
        if !short || outcome.timed_out || width >= k.saturating_mul(8) {
            return outcome;
        }
        // Rows were deleted between the scan and now, and others would take their place.
        width = width.saturating_mul(2);
    }
}

/// Every live, allowed vector within `radius`.
pub(crate) fn within(
    store: &Store,
    query: &Query<'_>,
    radius: f64,
    limits: Limits<'_>,
    scratch: &mut Scratch,
) -> SearchOutcome {
    let mut outcome = SearchOutcome::default();
    let Scratch { candidates, fresh, .. } = scratch;
    candidates.clear();
    let reach = radius_of_candidates(radius);
    scan(store, query, limits, fresh, &mut outcome, |candidate| {
        if candidate.distance <= reach {
            candidates.push(candidate);
        }
    });
    outcome.neighbors = settle_within(store, query, candidates, radius, limits);
    outcome
}

/// Candidates within it are all that may be within this radius, and some that are not: they are less precise.
pub(crate) fn radius_of_candidates(radius: f64) -> f32 {
    (radius as f32).next_up()
}

/// As `Store::settle`, for everything within a radius, in any order.
pub(crate) fn settle_within(
    store: &Store,
    query: &Query<'_>,
    candidates: &mut [Candidate],
    radius: f64,
    limits: Limits<'_>,
) -> Vec<crate::Neighbor> {
    candidates.sort_unstable();
    let mut rows = store.settle(query, candidates, usize::MAX, limits.filter);
    // One whose vector changed meanwhile may have left, and candidates were a little less precise.
    rows.retain(|row| row.distance <= radius);
    rows
}
