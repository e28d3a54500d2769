//! Which slack (effort.rs) gives which recall on this index: measured by sample walks.
//!
//! A sample's walk is so wide that each slack can be judged by what it had found when it would have stopped. What even that walk
//! misses is measured by a scan of all vectors, beside a few of the samples: scans are dear, and most graphs miss little.
//!
//! There are two kinds of samples. Some of the searches themselves are samples: their queries are what the calibration is for. Until
//! there are many of them, stored vectors stand in. A stored vector is an easy query: the walk meets its node, whose links lead to
//! just its neighbours. And a graph without that node is too hard: others leave out links to each other because the node is
//! between them. So the walk passes over the node as if it had been deleted and the graph repaired (repair.rs): what
//! pointed to it points to one of its neighbours instead, chosen by the heuristic. Such queries miss up to a tenth more than other
//! queries of the same distribution do (docs/decisions/0017-recall-on-request.md).
//!
//! Samples are taken when a search with a recall comes: many at first, later one now and then, and again as the index changes.
//! Nothing of this is saved.

use super::Hnsw;
use super::effort::Stop;
use super::walk::{Walk, Walker};
use crate::Neighbor;
use crate::exact;
use crate::limits::Limits;
use crate::pool::Candidate;
use crate::scratch::Scratch;
use crate::settle::Source;
use crate::store::{Query, State};

/// The slacks that are judged, ascending. Below 0, a walk stops before it has expanded the k nearest that it has met.
const SLACKS: [f32; 24] = [
    -0.25, -0.15, -0.1, -0.07, -0.05, -0.03, -0.015, 0.0, 0.015, 0.03, 0.045, 0.06, 0.08, 0.1, 0.125, 0.15,
    0.18, 0.22, 0.27, 0.33, 0.42, 0.55, 0.75, 1.0,
];

/// Where no vector of the index makes a sample: about recall 0.995 on most data.
const SLACK_UNKNOWN: f32 = 0.25;

/// Samples by stored vectors that the first search waits for, and how many there are to be of each kind in the end.
const FIRST_SAMPLES: usize = 256;
const SAMPLES: usize = 1_024;

/// With so many samples by queries, stored vectors are no longer trusted where they say something else: that is, where the
/// difference is more than so many times its standard error.
const QUERIES_MIN: usize = 24;
const DIFFERENCE_MAX: f32 = 4.0;
/// Where stored vectors miss at most this.
const JUDGED_MISSES_MAX: f32 = 0.2;

/// Searches of which one is a sample, as long as there are fewer samples by queries than this.
const SEARCHES_PER_SAMPLE: [(usize, u64); 4] = [(32, 1), (128, 4), (256, 16), (usize::MAX, 128)];

/// Vectors that are scanned for the first samples in all, and the bounds of how many of those are checked by a scan.
const SCANNED: usize = 2_000_000;
const CHECKED_MIN: usize = 4;
const CHECKED_MAX: usize = 64;
/// Later samples of which one is checked.
const SAMPLES_PER_CHECK: u64 = 16;

/// A sample is renewed when more than one in this many vectors has changed since.
const CHANGED_SHARE: u64 = 4;
/// All samples are taken anew when the newest is older than this.
const OTHER_SHARE: u64 = 2;

/// Width of a sample's walk, at least; and relative to `k`.
const WIDTH_MIN: usize = 400;
const WIDTH_PER_ROW: usize = 4;

/// Misses of other queries over those of stored vectors: 0.75 to 1 (decision 0017).
const MISSES_OF_OTHERS: f32 = 0.9;

/// Ids that are tried for one sample.
const DRAWS: usize = 64;

/// The beam's width of a walk that stops by a slack.
pub(super) fn width_for(k: usize) -> usize {
    k.saturating_mul(WIDTH_PER_ROW).max(WIDTH_MIN)
}

/// Rows that were missed, of `k`.
pub(super) struct Sample {
    taken_at: u64,
    /// At each slack, of what the whole walk finds.
    missed: [u16; SLACKS.len()],
    /// By the whole walk, if that was checked.
    unreached: Option<u16>,
}

/// Samples of one kind.
#[derive(Default)]
struct Window {
    samples: Vec<Sample>,
    /// The oldest, once there are all.
    next: usize,
}

impl Window {
    fn push(&mut self, sample: Sample) {
        if self.samples.len() < SAMPLES {
            self.samples.push(sample);
        } else {
            self.samples[self.next] = sample;
            self.next = (self.next + 1) % SAMPLES;
        }
    }

    fn mean_of(&self, missed: impl Fn(&Sample) -> Option<u16>, k: usize) -> Mean {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for share in self.samples.iter().filter_map(missed).map(|missed| f32::from(missed) / k as f32) {
            count += 1.0;
            sum += share;
            squares += share * share;
        }
        let mean = sum / f32::max(count, 1.0);
        Mean { mean, variance: (squares / f32::max(count, 1.0) - mean * mean).max(0.0), count }
    }

    /// The share that is missed at each slack.
    fn missed(&self, k: usize) -> [Mean; SLACKS.len()] {
        let unreached = self.mean_of(|sample| sample.unreached, k);
        // Few are checked: what is certain of it.
        let error = (unreached.variance / unreached.count.max(1.0)).sqrt();
        let unreached = (unreached.mean - 2.0 * error).max(0.0);
        std::array::from_fn(|at| {
            let missed = self.mean_of(|sample| Some(sample.missed[at]), k);
            Mean { mean: (missed.mean + unreached).min(1.0), ..missed }
        })
    }
}

/// A mean of samples.
#[derive(Clone, Copy)]
struct Mean {
    mean: f32,
    /// Of one sample.
    variance: f32,
    count: f32,
}

impl Mean {
    /// What other queries miss where stored vectors miss this.
    fn of_others(self) -> Mean {
        Mean { mean: self.mean * MISSES_OF_OTHERS, ..self }
    }

    /// Is it certain that the other is another?
    fn differs_from(&self, other: &Mean) -> bool {
        let variance = self.variance.max(other.variance);
        let error = (variance / self.count.max(1.0) + variance / other.count.max(1.0)).sqrt();
        (self.mean - other.mean).abs() > DIFFERENCE_MAX * error
    }
}

/// The samples for searches of `k` rows.
pub(super) struct Samples {
    pub k: usize,
    stored: Window,
    queries: Window,
    /// Numbers the draws.
    drawn: u64,
    taken: u64,
}

/// The share that is missed at each slack.
pub(super) struct Curve {
    pub k: usize,
    missed: [f32; SLACKS.len()],
    stored: usize,
    queries: usize,
    oldest: u64,
}

impl Curve {
    /// Is another sample by a stored vector wanted?
    pub fn is_due(&self, now: u64, index: &Hnsw) -> bool {
        let is_enough = self.stored + self.queries >= SAMPLES;
        !is_enough || now.saturating_sub(self.oldest) > index.store.len() as u64 / CHANGED_SHARE
    }

    /// Is the search of this number to be a sample?
    pub fn wants(&self, search: u64) -> bool {
        let one_in = SEARCHES_PER_SAMPLE.iter().find(|(samples, _)| self.queries < *samples);
        one_in.is_some_and(|(_, searches)| search.is_multiple_of(*searches))
    }

    /// The least slack with this recall; infinite when none of those that are judged has it.
    pub fn slack_for(&self, recall: f32) -> f32 {
        if self.stored + self.queries == 0 {
            return SLACK_UNKNOWN;
        }
        let allowed = 1.0 - recall;
        let Some(at) = self.missed.iter().position(|&missed| missed <= allowed) else { return f32::INFINITY };
        let Some(before) = at.checked_sub(1) else { return SLACKS[0] };
        // Misses fall about exponentially.
        let [more, less, allowed] = [self.missed[before], self.missed[at], allowed].map(|x| (x + 1e-4).ln());
        SLACKS[before] + (SLACKS[at] - SLACKS[before]) * (more - allowed) / (more - less)
    }
}

impl Samples {
    pub fn new(k: usize) -> Self {
        Samples { k, stored: Window::default(), queries: Window::default(), drawn: 0, taken: 0 }
    }

    /// Takes the samples by stored vectors that are due: all of the first ones, or one.
    pub fn refresh(&mut self, index: &Hnsw, now: u64) -> Curve {
        let live = index.store.len();
        let newest = self.stored.samples.iter().map(|sample| sample.taken_at).max();
        let is_first = newest.is_none_or(|newest| now.saturating_sub(newest) > live as u64 / OTHER_SHARE);
        if is_first {
            // What these say is of other data.
            (self.stored, self.queries) = Default::default();
        }
        let wanted = if is_first { FIRST_SAMPLES } else { 1 };
        let checked = (SCANNED / live.max(1)).clamp(CHECKED_MIN, CHECKED_MAX);
        for number in 0..wanted {
            self.taken += 1;
            let is_checked =
                if is_first { number < checked } else { self.taken.is_multiple_of(SAMPLES_PER_CHECK) };
            let Some(sample) = self.draw(index, now, is_checked) else { break };
            self.stored.push(sample);
        }
        self.curve()
    }

    /// Takes a search for a sample.
    pub fn note(&mut self, index: &Hnsw, query: &Query<'_>, now: u64, scratch: &mut Scratch) -> Curve {
        self.taken += 1;
        let is_checked = self.taken.is_multiple_of(SAMPLES_PER_CHECK);
        let mut walker = Walker::new(index, *query, Limits::default(), scratch);
        if let Some(sample) = walker.sample(Gone::default(), self.k, now, is_checked) {
            self.queries.push(sample);
        }
        self.curve()
    }

    fn curve(&self) -> Curve {
        let Samples { k, ref stored, ref queries, .. } = *self;
        let (of_stored, of_queries) = (stored.missed(k).map(Mean::of_others), queries.missed(k));
        let counts = [stored.samples.len(), queries.samples.len()];
        // Of walks that stop earlier, stored vectors say less.
        let mut judged =
            of_stored.iter().zip(&of_queries).filter(|(stored, _)| stored.mean <= JUDGED_MISSES_MAX);
        let is_foreign =
            counts[1] >= QUERIES_MIN && judged.any(|(stored, queries)| queries.differs_from(stored));
        let share = if is_foreign { 1.0 } else { counts[1] as f32 / (counts[0] + counts[1]).max(1) as f32 };
        let missed =
            std::array::from_fn(|at| share * of_queries[at].mean + (1.0 - share) * of_stored[at].mean);
        let oldest = stored.samples.iter().map(|sample| sample.taken_at).min().unwrap_or(0);
        Curve { k, missed, stored: stored.samples.len(), queries: queries.samples.len(), oldest }
    }

    /// A sample by the next id that is one. The same calls draw the same ids.
    fn draw(&mut self, index: &Hnsw, now: u64, is_checked: bool) -> Option<Sample> {
        for _ in 0..DRAWS {
            self.drawn += 1;
            let bits = self.drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let id = ((u128::from(bits) * u128::from(index.store.id_bound())) >> 64) as u32;
            if let Some(sample) = index.sample_by(id, self.k, now, is_checked) {
                return Some(sample);
            }
        }
        None
    }
}

impl Hnsw {
    /// A search for this id's vector, without it.
    fn sample_by(&self, id: u32, k: usize, now: u64, is_checked: bool) -> Option<Sample> {
        let vector = self.store.vector_of(id)?;
        let slot = self.store.slot_of(id)?;
        let has_node = !self.store.is_member(slot);
        // Nodes of upper layers are on the way to everything.
        if has_node && self.graph.level(slot) > 0 {
            return None;
        }
        // Without it, the node would still be there as the place of its copies.
        let node = Some(slot).filter(|&slot| has_node && !self.store.is_place(slot));
        let mut sample = None;
        let answered = self.store.answer(vector.as_bytes(), |query, scratch| {
            let mut walker = Walker::new(self, *query, Limits::default(), scratch);
            sample = walker.sample(Gone { id: Some(id), node }, k, now, is_checked);
            walker.outcome
        });
        answered.ok().and(sample)
    }
}

/// What a sample does without.
#[derive(Clone, Copy, Default)]
struct Gone {
    id: Option<u32>,
    node: Option<u32>,
}

impl Gone {
    /// The distances of the `k` nearest of the others.
    fn leaves(self, rows: &[Neighbor], k: usize) -> Vec<f64> {
        let others = rows.iter().filter(|row| Some(row.id) != self.id);
        others.map(|row| row.distance).take(k).collect()
    }
}

/// How many of the `true_ones` are nearer than those that were found. Rows at the same distance are as good as each other.
fn missed(found: &[f64], true_ones: &[f64]) -> u16 {
    let Some(farthest) = true_ones.last() else { return 0 };
    let hits = found.partition_point(|distance| distance <= farthest);
    true_ones.len().saturating_sub(hits) as u16
}

impl Walker<'_> {
    /// Walks for `k` rows, without what is gone.
    fn sample(&mut self, gone: Gone, k: usize, now: u64, is_checked: bool) -> Option<Sample> {
        let index = self.index;
        let start = self.enter(index.graph.entry()?);
        if Some(start.slot()) == gone.node {
            return None;
        }
        let Scratch { visited, pool, .. } = &mut *self.scratch;
        visited.begin(index.store.slot_count());
        gone.node.into_iter().chain([start.slot()]).for_each(|slot| _ = visited.insert(slot));
        pool.begin(width_for(k), 0);
        pool.push(start);
        let (metric, mut stops) = (index.store.kind.metric, Vec::with_capacity(SLACKS.len()));
        // As in a search, deleted nodes take the places of rows.
        let mut rank = k;
        while let Some(next) = self.scratch.pool.next_to_expand() {
            rank += usize::from(index.store.state(next.slot()) == State::Deleted);
            let kth = self.scratch.pool.items().get(rank - 1).map(|kth| kth.distance);
            let stops_at =
                |slack: &&f32| kth.is_some_and(|kth| next.distance > Stop::reach(metric, kth, **slack));
            let reached = SLACKS[stops.len()..].iter().take_while(stops_at).count();
            if reached > 0 {
                let rows = self.rows_so_far(gone, rank, k);
                stops.extend(std::iter::repeat_n(rows, reached));
            }
            if stops.len() == SLACKS.len() {
                break;
            }
            self.gather(next.slot(), 0);
            if let Some(node) = gone.node {
                self.gather_instead_of(node, next.slot());
            }
            if self.evaluate(|scratch, candidate| _ = scratch.pool.push(candidate)) == Walk::TimedOut {
                return None;
            }
        }
        let found = self.rows_so_far(gone, rank, k);
        if found.len() < k {
            return None;
        }
        // By slacks that were never reached, the whole walk is made.
        let missed_at = std::array::from_fn(|at| stops.get(at).map_or(0, |rows| missed(rows, &found)));
        let unreached = is_checked.then(|| {
            let exact =
                exact::nearest(&index.store, &self.query, k + 1, Limits::default(), self.scratch).neighbors;
            missed(&found, &gone.leaves(&exact, k))
        });
        Some(Sample { taken_at: now, missed: missed_at, unreached })
    }

    /// The distances of the `k` nearest so far.
    fn rows_so_far(&mut self, gone: Gone, rank: usize, k: usize) -> Vec<f64> {
        let store = &self.index.store;
        let Scratch { pool, candidates, .. } = &mut *self.scratch;
        // Where codes are too coarse, a search would go by the vectors; here what they found is good enough.
        store.rank_again(&self.query, pool, rank, Source::Graph, candidates);
        candidates.retain(|candidate| store.state(candidate.slot()) != State::Deleted);
        gone.leaves(&store.settle(&self.query, candidates, k + 1, None, Source::Graph), k)
    }

    /// If a node points to `gone`: adds what a repair would have it point to instead to `scratch.fresh`.
    fn gather_instead_of(&mut self, gone: u32, node: u32) {
        let index = self.index;
        let Scratch { candidates, chosen, .. } = &mut *self.scratch;
        chosen.clear();
        let mut is_linked = false;
        index.graph.for_each_link(node, 0, |link| match link == gone {
            true => is_linked = true,
            false => chosen.push(Candidate::new(0.0, link)),
        });
        if !is_linked {
            return;
        }
        let own = index.store.query_of(node);
        candidates.clear();
        index.graph.for_each_link(gone, 0, |link| {
            let is_new = link != node && chosen.iter().all(|held| held.slot() != link);
            candidates.extend(is_new.then(|| index.store.near_candidate(&own, link)));
        });
        candidates.sort_unstable();
        let (held, nearest) = (chosen.len(), candidates.first().copied());
        index.choose_more(held + 1, own.is_coded(), self.scratch);
        let instead = self.scratch.chosen.get(held).copied().or(nearest);
        if let Some(instead) = instead
            && self.scratch.visited.insert(instead.slot())
        {
            self.scratch.fresh.push(instead.slot());
        }
    }
}
