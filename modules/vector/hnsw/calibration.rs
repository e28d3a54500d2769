//! Measures on the index itself, by sample walks, which slack (effort.rs) gives which recall.
//!
//! The walk of a sample is so wide that each slack can be judged by what the walk had found at the moment
//! when that slack would have stopped it. What even the wide walk misses is measured by a scan of all
//! vectors, for a few of the samples: scans are expensive, and most graphs miss little.
//!
//! There are two kinds of samples. Some of the searches themselves are samples: the calibration is for their
//! queries. Until there are many of them, stored vectors are used as queries. A stored vector is an easy
//! query: the walk meets its node, whose links lead to just its neighbours. A graph built without that node
//! would be too hard: other nodes have no links to each other because this node is between them. So the walk
//! passes over the node as if it had been deleted and the graph repaired (repair.rs): a link to it is
//! replaced by a link to one of its neighbours, chosen by the heuristic. Such queries miss up to a tenth more
//! than other queries of the same distribution (docs/decisions/0017-recall-on-request.md).
//!
//! Samples are taken when a search requests a recall: many at first, later occasionally, and again as the
//! index changes. Samples are not saved.

use super::Hnsw;
use super::effort::Stop;
use super::walk::{Walk, Walker};
use crate::Neighbor;
use crate::candidates::Candidate;
use crate::exact;
use crate::limits::Limits;
use crate::scratch::Scratch;
use crate::settle::Source;
use crate::store::{Query, State};

/// The slacks that are judged, ascending. With a negative slack, a walk stops before it has expanded the k
/// nearest that it has met.
const SLACKS: [f32; 24] = [
    -0.25, -0.15, -0.1, -0.07, -0.05, -0.03, -0.015, 0.0, 0.015, 0.03, 0.045, 0.06, 0.08, 0.1, 0.125, 0.15,
    0.18, 0.22, 0.27, 0.33, 0.42, 0.55, 0.75, 1.0,
];

/// The slack where no vector of the index can be a sample: about recall 0.995 on most data.
const SLACK_UNKNOWN: f32 = 0.25;

/// The number of samples by stored vectors that the first search waits for, and the final number of samples
/// of each kind.
const FIRST_SAMPLES: usize = 256;
const SAMPLES: usize = 1_024;

/// With this many samples by queries, samples by stored vectors are discarded where they differ from those by
/// more than this many times the standard error of the difference.
const QUERIES_MIN: usize = 24;
const DIFFERENCE_MAX: f32 = 4.0;
/// The comparison is made at slacks where stored vectors miss at most this share.
const JUDGED_MISSES_MAX: f32 = 0.2;

/// One in this many searches is a sample, while there are fewer samples by queries than the first number of
/// the pair.
const SEARCHES_PER_SAMPLE: [(usize, u64); 4] = [(32, 1), (128, 4), (256, 16), (usize::MAX, 128)];

/// The total number of vectors scanned for the first samples, and the bounds of the number of samples that
/// are checked by a scan.
const SCANNED: usize = 2_000_000;
const CHECKED_MIN: usize = 4;
const CHECKED_MAX: usize = 64;
/// Of later samples, one in this many is checked.
const SAMPLES_PER_CHECK: u64 = 16;

/// A sample is renewed when more than one in this many vectors has changed since it was taken.
const CHANGED_SHARE: u64 = 4;
/// All samples are discarded when more than one in this many vectors has changed since the newest was taken.
const OTHER_SHARE: u64 = 2;

/// The minimum width of a sample's walk, and its width relative to `k`.
const WIDTH_MIN: usize = 400;
const WIDTH_PER_ROW: usize = 4;

/// Misses of other queries divided by those of stored vectors: 0.75 to 1 (decision 0017).
const MISSES_OF_OTHERS: f32 = 0.9;

/// Ids that are tried for one sample.
const DRAWS: usize = 64;

/// The beam's width of a walk that stops by a slack.
pub(super) fn width_for(k: usize) -> usize {
    k.saturating_mul(WIDTH_PER_ROW).max(WIDTH_MIN)
}

/// The number of rows, of `k`, that a sample missed.
pub(super) struct Sample {
    taken_at: u64,
    /// At each slack, relative to the rows of the whole walk.
    missed: [u16; SLACKS.len()],
    /// Missed by the whole walk, if that was checked.
    unreached: Option<u16>,
}

/// Samples of one kind.
#[derive(Default)]
struct Window {
    samples: Vec<Sample>,
    /// The index of the oldest sample, which is replaced next, once the window is full.
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

    /// The share of rows missed at each slack.
    fn missed(&self, k: usize) -> [Mean; SLACKS.len()] {
        let unreached = self.mean_of(|sample| sample.unreached, k);
        // Few samples are checked: use the lower bound of the estimate.
        let error = (unreached.variance / unreached.count.max(1.0)).sqrt();
        let unreached = (unreached.mean - 2.0 * error).max(0.0);
        std::array::from_fn(|at| {
            let missed = self.mean_of(|sample| Some(sample.missed[at]), k);
            Mean { mean: (missed.mean + unreached).min(1.0), ..missed }
        })
    }
}

/// A mean over samples.
#[derive(Clone, Copy)]
struct Mean {
    mean: f32,
    /// The variance of one sample.
    variance: f32,
    count: f32,
}

impl Mean {
    /// The misses expected of other queries where stored vectors have these.
    fn of_others(self) -> Mean {
        Mean { mean: self.mean * MISSES_OF_OTHERS, ..self }
    }

    /// Whether the difference to the other mean is significant.
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
    /// A counter that determines the ids drawn.
    drawn: u64,
    taken: u64,
}

/// The share of rows missed at each slack.
pub(super) struct Curve {
    pub k: usize,
    missed: [f32; SLACKS.len()],
    stored: usize,
    queries: usize,
    oldest: u64,
}

impl Curve {
    /// Whether another sample by a stored vector is due.
    pub fn is_due(&self, now: u64, index: &Hnsw) -> bool {
        let is_enough = self.stored + self.queries >= SAMPLES;
        !is_enough || now.saturating_sub(self.oldest) > index.store.len() as u64 / CHANGED_SHARE
    }

    /// Whether the search with this number should be a sample.
    pub fn wants(&self, search: u64) -> bool {
        let one_in = SEARCHES_PER_SAMPLE.iter().find(|(samples, _)| self.queries < *samples);
        one_in.is_some_and(|(_, searches)| search.is_multiple_of(*searches))
    }

    /// The least slack with this recall; infinite if none of the judged slacks has it.
    pub fn slack_for(&self, recall: f32) -> f32 {
        if self.stored + self.queries == 0 {
            return SLACK_UNKNOWN;
        }
        let allowed = 1.0 - recall;
        let Some(at) = self.missed.iter().position(|&missed| missed <= allowed) else { return f32::INFINITY };
        let Some(before) = at.checked_sub(1) else { return SLACKS[0] };
        // Misses fall about exponentially with the slack.
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
            // The data have changed too much since these were taken.
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

    /// Takes a search as a sample.
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
        // At smaller slacks, where walks stop earlier, stored vectors are less reliable.
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

    /// Takes a sample by the next suitable id. The same sequence of calls draws the same ids.
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
    /// A search for this id's vector, as if the id were absent.
    fn sample_by(&self, id: u32, k: usize, now: u64, is_checked: bool) -> Option<Sample> {
        let vector = self.store.vector_of(id)?;
        let slot = self.store.slot_of(id)?;
        let has_node = !self.store.is_member(slot);
        // Nodes of upper layers are on the way to most others.
        if has_node && self.graph.level(slot) > 0 {
            return None;
        }
        // If it is the place of copies, the node would exist without this id as well.
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

/// What a sample's walk ignores: an id, and its node.
#[derive(Clone, Copy, Default)]
struct Gone {
    id: Option<u32>,
    node: Option<u32>,
}

impl Gone {
    /// The distances of the `k` nearest of the other rows.
    fn leaves(self, rows: &[Neighbor], k: usize) -> Vec<f64> {
        let others = rows.iter().filter(|row| Some(row.id) != self.id);
        others.map(|row| row.distance).take(k).collect()
    }
}

/// How many of the `true_ones` are nearer than the rows that were found. Rows at the same distance are
/// interchangeable.
fn missed(found: &[f64], true_ones: &[f64]) -> u16 {
    let Some(farthest) = true_ones.last() else { return 0 };
    let hits = found.partition_point(|distance| distance <= farthest);
    true_ones.len().saturating_sub(hits) as u16
}

impl Walker<'_> {
    /// Walks for `k` rows, ignoring `gone`.
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
        // For slacks that the walk never reached, the result is that of the whole walk.
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
        // Where codes are too imprecise, a search would use the vectors; here the rows found by codes
        // suffice.
        store.rank_again(&self.query, pool, rank, Source::Graph, candidates);
        candidates.retain(|candidate| store.state(candidate.slot()) != State::Deleted);
        gone.leaves(&store.settle(&self.query, candidates, k + 1, None, Source::Graph), k)
    }

    /// If a node links to `gone`: adds the links that a repair would put in place of it to `scratch.fresh`.
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
