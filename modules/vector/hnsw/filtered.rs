//! Walks the graph under a filter: only slots that the filter allows are evaluated.
//!
//! A walk that drops refused nodes at the end evaluates 1 / p nodes for each allowed one, p being the share
//! of allowed nodes near the query; and where the filter correlates with the vectors (clusters as tags), p is
//! zero over long stretches. Here refused nodes are neither evaluated nor kept: they are *bridges*. The
//! neighbours of a node are the allowed nodes among its own links; while those are fewer than the links of a
//! usual node, also the allowed nodes among the links of its refused neighbours, then those among the links
//! of the refused nodes one step further. So the walk sees the allowed nodes nearly as if the graph had been
//! built of them alone; the cost is that more links are examined where fewer nodes are allowed.
//!
//! Sources: neighbours over two hops are from ACORN-1 (Patel and others, "ACORN: Performant and
//! Predicate-Agnostic Search Over Vector Embeddings and Structured Data", arXiv 2403.04871). Going on over
//! refused nodes only where two hops give too few, and scanning where a walk fails, are from RACORN-1 (Kim
//! and Choe, arXiv 2607.00768). Measurements are in docs/decisions/0008-filtered-walks.md.
//!
//! A walk starts at the node nearest to the query, allowed or not, and at the nearest of a few allowed nodes
//! drawn at random: where the allowed nodes are far from the query, no bridge path of a reasonable length
//! leads there.
//!
//! Deleted nodes count as refused. Nodes that are deleted while a walk runs are dropped at the end
//! (`Store::settle`).

use super::Hnsw;
use super::walk::{Walk, Walker};
use crate::Filter;
use crate::candidates::Candidate;
use crate::limits::NODES_STRIDE;
use crate::scratch::Scratch;
use crate::store::{State, Store};

/// A filter that refuses at most this many times the beam's width is applied at the end of a plain walk: the
/// refused nodes then cost at most as much as the walk itself. (The filter is also called for fewer nodes.)
const SIFTED_PER_WIDTH: usize = 16;

/// The cost of a walk, in vectors scanned, is `width * M * (WALK_COST + live / (BRIDGE_COST_SHARE *
/// allowed))`. Measured with 100,000 x 384.
const WALK_COST: usize = 4;
const BRIDGE_COST_SHARE: usize = 8;

/// The number of allowed nodes to draw, of which the nearest becomes a start; and the maximum number of draws
/// for each.
const SEEDS: usize = 16;
const DRAWS_PER_SEED: u32 = 64;

/// The maximum number of bridges from one node, relative to the number of links that a node can have.
const BRIDGES_PER_LINK: usize = 4;
/// Blocks of links to prefetch while one is examined.
const BLOCKS_AHEAD: usize = 3;

/// Which slots may be returned, as far as a walk can know it.
struct Admission<'a> {
    store: &'a Store,
    filter: &'a dyn Filter,
    /// There were deleted slots when the walk began.
    has_deleted: bool,
    /// There were places with members when the walk began.
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

    /// The allowed ones of these slots and ids; the slots of the others are appended to `refused`. Without a
    /// branch on the filter's answer, which would often be mispredicted.
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

/// Whether a filter refuses so few that a plain walk can drop them at the end.
fn is_sifted(allowed: usize, width: usize, live: usize) -> bool {
    live.saturating_sub(allowed) <= SIFTED_PER_WIDTH.saturating_mul(width)
}

impl Hnsw {
    /// Whether the filter refuses more than a plain walk can drop at the end, or does not know how many it
    /// allows.
    pub(super) fn is_narrow(&self, filter: &dyn Filter, width: usize) -> bool {
        filter.cardinality().is_none_or(|allowed| !is_sifted(allowed, width, self.store.len()))
    }

    /// Whether scanning the allowed slots is cheaper than walking. Also called for filters that are not
    /// narrow: in a small index those can refuse nearly everything too.
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

    /// The number of allowed neighbours that a node should have: between M and 2 M. Where most nodes are
    /// allowed, this is little more than the node's own links, which is all that a plain walk uses; where few
    /// are, each further neighbour costs many bridges.
    fn neighbors_wanted(&self, filter: &dyn Filter) -> usize {
        let live = self.store.len().max(1);
        let share = filter.cardinality().unwrap_or(0).min(live) as f32 / live as f32;
        let wanted = (2.0 - share).min(1.5 * (1.0 + share));
        (wanted * self.parameters.m as f32) as usize
    }
}

impl Walker<'_> {
    /// Best-first search among the allowed nodes: leaves the nearest `width` of the nodes met in
    /// `scratch.pool`. Gives up if it found fewer.
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
        // A refused start is expanded too: allowed nodes beyond its bridges can be in other directions than
        // the seed.
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

    /// Leaves the allowed neighbours of a node that were not met before in `scratch.fresh`: those among its
    /// own links, then those among the links of refused nodes, in the order in which these were met, until
    /// `wanted` allowed nodes were seen.
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
            // Loads all ids first, so that the cache misses overlap; and after all links, whose fence ensures
            // that these are the current ids of the slots.
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
            // The next bridge that this walk has not crossed yet.
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

    /// The nearest of a few allowed nodes drawn at random. The generator is seeded with `number`: the same
    /// search draws the same nodes.
    fn nearest_seed(&mut self, admission: &Admission<'_>, number: u32) -> Option<Candidate> {
        let Walker { index, query, scratch, outcome, .. } = self;
        let slots = u64::from(index.store.slot_count());
        let mut bits = u64::from(number);
        let draws = (0..SEEDS as u32 * DRAWS_PER_SEED).map(|_| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (((bits >> 32) * slots) >> 32) as u32
        });
        // A drawn slot was not reached over a link, so it can be in any state.
        let is_seed = |&slot: &u32| {
            index.store.state(slot) == State::Live && admission.admits(slot, index.store.id_of(slot))
        };
        // A member has no links: its place replaces it.
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
