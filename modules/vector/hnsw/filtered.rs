//! Walking the graph under a filter: only what the filter allows is evaluated.
//!
//! A walk that sorts out refused nodes in the end evaluates 1 / p nodes for each allowed one, p being the share that is allowed
//! near the query; and where a filter goes with the vectors (clusters as tags) p is nothing at all for a long time. Here
//! refused nodes are neither evaluated nor kept: they are *bridges*. The neighbours of a node are the allowed ones among
//! its own links, and while those are fewer than a node of the graph has, the allowed ones among the links of its refused
//! neighbours, then among those of the refused ones behind them. So the walk sees the allowed nodes nearly as if a graph
//! had been built of them alone, at the price of looking through more links where fewer are allowed.
//!
//! Sources: neighbours over two hops are ACORN-1's (Patel and others, "ACORN: Performant and Predicate-Agnostic Search Over
//! Vector Embeddings and Structured Data", arXiv 2403.04871); going on over refused nodes only where two hops give too
//! little, and scanning where a walk fails, is as in RACORN-1 (Kim and Choe, arXiv 2607.00768). Measurements are in
//! docs/decisions/0008-filtered-walks.md.
//!
//! A walk starts at the node nearest to the query, allowed or not, and at the nearest of a few allowed ones drawn at random:
//! where what is allowed is far from the query, no path of bridges of a reasonable length leads there.
//!
//! Deleted nodes are refused ones. What is deleted while a walk runs is sorted out in the end (`Store::settle`).

use super::Hnsw;
use super::walk::{Walk, Walker};
use crate::Filter;
use crate::limits::NODES_STRIDE;
use crate::pool::Candidate;
use crate::scratch::Scratch;
use crate::store::{State, Store};

/// A filter that refuses at most this many times the beam's width is left to the plain walk: the refused ones cost at most as
/// much as the walk itself. (It also asks the filter about fewer nodes.)
const SIFTED_PER_WIDTH: usize = 16;

/// What a walk costs, in vectors scanned instead, for each of `width * M`: so many, and one more for every so many times that
/// what is allowed fits into the index. Measured with 100,000 x 384.
const WALK_COST: usize = 4;
const BRIDGE_COST_SHARE: usize = 8;

/// Allowed nodes to draw, of which the nearest is a start; and draws for each of them, at most.
const SEEDS: usize = 16;
const DRAWS_PER_SEED: u32 = 64;

/// Bridges from one node, at most, relative to the links that a node can have.
const BRIDGES_PER_LINK: usize = 4;
/// Blocks of links on their way from memory while one is looked through.
const BLOCKS_AHEAD: usize = 3;

/// What may be returned, as far as that can be told while walking.
struct Admission<'a> {
    store: &'a Store,
    filter: &'a dyn Filter,
    /// There were deleted slots when the walk began.
    has_deleted: bool,
    /// And places with members.
    has_copies: bool,
}

impl Admission<'_> {
    #[inline(always)]
    fn admits(&self, slot: u32, id: u32) -> bool {
        if self.has_deleted && self.store.state(slot) == State::Deleted {
            return false;
        }
        self.store.is_allowed(self.filter, slot, id, self.has_copies)
    }

    /// The allowed ones of these slots and ids; the slots of the others are appended to `refused`. No branch depends on the
    /// filter: it would be guessed wrong too often.
    #[inline(always)]
    fn divide<'l>(&self, links: &'l mut [(u32, u32)], refused: &mut Vec<u32>) -> &'l [(u32, u32)] {
        let (mut allowed, mut end) = (0, refused.len());
        refused.resize(end + links.len(), 0);
        for at in 0..links.len() {
            let (slot, id) = links[at];
            let admits = self.admits(slot, id);
            links[allowed] = (slot, id);
            allowed += usize::from(admits);
            refused[end] = slot;
            end += usize::from(!admits);
        }
        refused.truncate(end);
        &links[..allowed]
    }
}

/// Does a filter refuse so few that a plain walk sorts them out?
fn is_sifted(allowed: usize, width: usize, live: usize) -> bool {
    live.saturating_sub(allowed) <= SIFTED_PER_WIDTH.saturating_mul(width)
}

impl Hnsw {
    /// Does it refuse more than a plain walk sorts out on its way, or not know?
    pub(super) fn is_narrow(&self, filter: &dyn Filter, width: usize) -> bool {
        filter.cardinality().is_none_or(|allowed| !is_sifted(allowed, width, self.store.len()))
    }

    /// Is it cheaper to scan what a filter allows than to walk? Also asked for filters that are not narrow: in a small index
    /// those refuse nearly everything too.
    pub(super) fn filter_wants_scan(&self, allowed: usize, width: usize, live: usize) -> bool {
        let walk = width.saturating_mul(self.parameters.m);
        if is_sifted(allowed, width, live) {
            // A plain walk evaluates about as many, and follows links as well.
            return allowed < live && allowed <= walk;
        }
        let cost =
            walk.saturating_mul(WALK_COST.saturating_mul(allowed).saturating_add(live / BRIDGE_COST_SHARE));
        allowed.saturating_mul(allowed) <= cost
    }

    /// How many allowed neighbours a node is to have: between M and 2 M. Where most are allowed, little more than links of its
    /// own, which is all that a plain walk has; where few are, each further one costs many bridges.
    fn neighbors_wanted(&self, filter: &dyn Filter) -> usize {
        let live = self.store.len().max(1);
        let share = filter.cardinality().unwrap_or(0).min(live) as f32 / live as f32;
        let wanted = (2.0 - share).min(1.5 * (1.0 + share));
        (wanted * self.parameters.m as f32) as usize
    }
}

impl Walker<'_> {
    /// Best-first search among what the filter allows: leaves the nearest `width` of what it met in `scratch.pool`. Gives up
    /// when it found fewer than that.
    pub(super) fn filtered_beam(&mut self, filter: &dyn Filter, start: Candidate, width: usize) -> Walk {
        let index = self.index;
        let wanted = index.neighbors_wanted(filter);
        let (store, has_deleted) = (&index.store, index.has_deleted());
        let admission = Admission { store, filter, has_deleted, has_copies: !store.copies().is_empty() };
        let seed = self.nearest_seed(&admission, start.slot());
        let Scratch { visited, pool, .. } = &mut *self.scratch;
        visited.begin(index.store.slot_count());
        visited.insert(start.slot());
        pool.begin(width, self.spare);
        if let Some(seed) = seed.filter(|seed| visited.insert(seed.slot())) {
            pool.push(seed);
        }
        // From a refused start too: what is allowed beyond its bridges lies on other sides than the seed.
        let mut next = Some(start);
        if admission.admits(start.slot(), index.store.id_of(start.slot())) {
            pool.push(start);
            next = pool.next_to_expand();
        }
        while let Some(current) = next {
            if self.may_stop(current) {
                return Walk::Complete;
            }
            if self.gather_allowed(&admission, current.slot(), wanted) == Walk::TimedOut {
                return Walk::TimedOut;
            }
            if let Some(next) = self.scratch.pool.peek() {
                index.graph.prefetch(next.slot());
            }
            let walk = self.evaluate(|scratch, candidate| _ = scratch.pool.push(candidate));
            if walk == Walk::TimedOut {
                return walk;
            }
            next = self.scratch.pool.next_to_expand();
        }
        let enough = self.stop.map_or(width, |stop| stop.enough());
        if self.scratch.pool.items().len() >= enough { Walk::Complete } else { Walk::GaveUp }
    }

    /// Neighbours of a node that are allowed and were not met before, in `scratch.fresh`: among its own links, then among those
    /// of refused nodes, the first met first, until `wanted` allowed ones were seen.
    #[inline(always)]
    fn gather_allowed(&mut self, admission: &Admission<'_>, slot: u32, wanted: usize) -> Walk {
        let Walker { index, limits, scratch, outcome, .. } = self;
        let Scratch { visited, fresh, links, refused, .. } = &mut **scratch;
        let bridges_max = BRIDGES_PER_LINK * index.graph.capacity(0);
        fresh.clear();
        refused.clear();
        let mut seen = 0;
        let mut bridges = 0;
        let mut from = slot;
        loop {
            outcome.visited += 1;
            if limits.expired(outcome.visited, NODES_STRIDE) {
                return Walk::TimedOut;
            }
            links.clear();
            // All ids first, so that they come from memory together; and after all links, whose fence makes them those that the
            // slots have now.
            index.graph.for_each_link(from, 0, |link| links.push((link, 0)));
            links.iter_mut().for_each(|(link, id)| *id = index.store.id_of(*link));
            let allowed = admission.divide(links, refused);
            seen += allowed.len();
            fresh.extend(allowed.iter().map(|&(slot, _)| slot).filter(|&slot| visited.insert(slot)));
            if seen >= wanted || bridges >= bridges_max {
                return Walk::Complete;
            }
            if bridges == 0 {
                refused.iter().take(BLOCKS_AHEAD).for_each(|&bridge| index.graph.prefetch(bridge));
            }
            // The next bridge that this walk did not go over yet.
            from = loop {
                let Some(&bridge) = refused.get(bridges) else { return Walk::Complete };
                bridges += 1;
                if let Some(&later) = refused.get(bridges + BLOCKS_AHEAD - 1) {
                    index.graph.prefetch(later);
                }
                if visited.insert(bridge) {
                    break bridge;
                }
            };
        }
    }

    /// The nearest of a few allowed nodes drawn at random, by a generator that begins with `number`: the same search walks the
    /// same way.
    fn nearest_seed(&mut self, admission: &Admission<'_>, number: u32) -> Option<Candidate> {
        let Walker { index, query, scratch, outcome, .. } = self;
        let slots = u64::from(index.store.slot_count());
        let mut bits = u64::from(number);
        let draws = (0..SEEDS as u32 * DRAWS_PER_SEED).map(|_| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (((bits >> 32) * slots) >> 32) as u32
        });
        // No link led to a drawn slot, so it can be in any state.
        let is_seed = |&slot: &u32| {
            index.store.state(slot) == State::Live && admission.admits(slot, index.store.id_of(slot))
        };
        // A member has no links: its place is met in its stead.
        let place_of = |slot: u32| match admission.has_copies && index.store.is_member(slot) {
            true => index.store.copies().read(|groups| groups.place_of(slot)),
            false => Some(slot),
        };
        scratch.fresh.clear();
        scratch.fresh.extend(draws.filter(is_seed).filter_map(place_of).take(SEEDS));
        let fresh = &scratch.fresh;
        outcome.evaluated += fresh.len();
        let candidates = (0..fresh.len()).map(|at| {
            index.prefetch_ahead(query, fresh, at);
            index.near_candidate(query, fresh[at])
        });
        candidates.min()
    }
}
