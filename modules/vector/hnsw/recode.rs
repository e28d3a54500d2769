//! Recomputes all codes, for data that have moved away from the centre of their codes.
//!
//! A code describes the difference of a vector to the centre (codes.rs), and its error grows with that
//! difference. The centre is computed from the first vectors. Where later vectors are far from it, codes are
//! imprecise, and searches fall back to the vectors (ranking.rs): the answers are correct, but cost several
//! times as much. Then all codes are recomputed around another centre, in these steps:
//!
//! 1. *Look*: compute the mean and the median of a sample of the vectors, component by component. The one to
//!    which a typical vector is nearer is the new centre, if it is much nearer than the old one. (The mean
//!    suits one cloud of vectors; between two clouds, it is far from both.)
//! 2. *Begin*, while mutations are blocked for a moment: from now on searches find no codes, and insertions
//!    make codes around the new centre.
//! 3. *Wait* until every search has ended that began before.
//! 4. *Write* the codes of all slots, a slice at a time.
//! 5. *End*, while mutations are blocked for a moment: searches find codes again.
//! 6. *Judge* again around which nodes codes are precise enough for walks, and for choosing links.
//!
//! The sweep of repair.rs is blocked from step 2 to 6, so that no slot is freed, reused or saved.

#![allow(unsafe_code, reason = "the graph's storage, shared between threads without locks")]

use super::Hnsw;
use crate::VectorIndex;
use crate::codes::Centre;
use crate::scratch::Scratch;
use crate::store::{Resolution, State};

/// The maximum size of the sample in vectors, and in components: 16 MB of floats.
const SAMPLE_MAX: usize = 4_096;
const SAMPLE_COMPONENTS_MAX: usize = 1 << 22;

/// A new centre must reduce the square of a typical distance to this share or less. (The error of a code is
/// in proportion to the distance: it falls by a tenth.)
const NEARER: f32 = 0.8;

/// The number of nodes around a node by which the precision of codes is judged.
const AROUND: usize = 200;

/// Slots between two calls of `rest`.
const SLICE: u32 = 256;

/// The result of `Hnsw::recode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recoding {
    /// The index has no codes.
    NoCodes,
    /// The centre is about where it would be now; nothing was changed.
    AsGood,
    /// All codes were recomputed.
    Done,
    /// `rest` returned false. The next insertion makes codes again.
    GivenUp,
}

impl Hnsw {
    /// Recomputes all codes if that makes them more precise. For a background thread: it calls `rest` between
    /// slices of a few milliseconds and while it waits for searches to end, and gives up when that returns
    /// false.
    pub fn recode(&self, rest: &dyn Fn() -> bool) -> Recoding {
        if self.store.centre().is_none() {
            return Recoding::NoCodes;
        }
        let Some(centre) = self.better_centre() else { return Recoding::AsGood };
        // Slots that will be freed soon need no codes.
        self.compact();
        let _sweep = self.repair.hold();
        {
            let _gate = self.gate.write();
            self.store.begin_recoding(centre);
        }
        let stamp = self.store.scratches().advance();
        let is_whole = self.await_searches(stamp, rest) && self.recode_all(rest);
        // Searches that began before may read codes, which the next insertion may write.
        while !self.store.scratches().all_after(stamp) {
            std::thread::yield_now();
        }
        {
            let _gate = self.gate.write();
            // SAFETY: `recode_all` has recomputed all slots that existed at `begin_recoding`, after the
            // searches that had begun before ended; slots admitted since have codes around the new centre.
            unsafe { self.store.end_recoding(is_whole) };
        }
        if !is_whole {
            return Recoding::GivenUp;
        }
        self.judge_all(rest);
        Recoding::Done
    }

    fn await_searches(&self, stamp: u64, rest: &dyn Fn() -> bool) -> bool {
        while !self.store.scratches().all_after(stamp) {
            if !rest() {
                return false;
            }
        }
        true
    }

    /// Calls `act` with each slot in the index, pinned; false if `rest` returned false.
    fn in_slices(&self, rest: &dyn Fn() -> bool, mut act: impl FnMut(u32, &mut Scratch)) -> bool {
        let end = self.store.slot_count();
        for first in (0..end).step_by(SLICE as usize) {
            let mut scratch = self.store.pin();
            for slot in first..end.min(first + SLICE) {
                if matches!(self.store.state(slot), State::Live | State::Deleted) {
                    act(slot, &mut scratch);
                }
            }
            drop(scratch);
            if !rest() {
                return false;
            }
        }
        true
    }

    fn recode_all(&self, rest: &dyn Fn() -> bool) -> bool {
        self.in_slices(rest, |slot, scratch| {
            // SAFETY: searches that could read codes have ended. The slot is in the index, and the sweep,
            // which alone removes slots, is blocked; so no insertion writes it.
            unsafe { self.store.recode(slot, &mut scratch.codes) };
        })
    }

    /// Judges again what codes are precise enough for around each node.
    fn judge_all(&self, rest: &dyn Fn() -> bool) {
        self.in_slices(rest, |slot, scratch| {
            let is_place = !self.store.is_member(slot);
            if let Some(resolution) = is_place.then(|| self.resolution_around(slot, scratch)).flatten() {
                self.store.set_resolution(slot, resolution);
            }
        });
    }

    /// What codes are precise enough for around a node, if there are enough nodes to judge by. When a node is
    /// linked, this is judged by the candidates of a walk; here by the nodes within two links, which is
    /// cheaper.
    fn resolution_around(&self, slot: u32, scratch: &mut Scratch) -> Option<Resolution> {
        let query = self.store.query_of(slot).uncoded();
        let Scratch { visited, candidates, fresh, chosen, .. } = scratch;
        visited.begin(self.store.slot_count());
        visited.insert(slot);
        candidates.clear();
        fresh.clear();
        fresh.push(slot);
        let mut from = 0;
        while let Some(&near) = fresh.get(from).filter(|_| candidates.len() < AROUND) {
            from += 1;
            self.graph.for_each_link(near, 0, |link| {
                if visited.insert(link) && self.store.state(link) == State::Live {
                    fresh.push(link);
                    candidates.push(self.store.near_candidate(&query, link));
                }
            });
        }
        candidates.sort_unstable();
        let is_judged = candidates.len() >= AROUND / 2;
        is_judged.then(|| self.store.resolution(&query, candidates, self.parameters.m, chosen))
    }

    /// A centre that is much nearer to a typical vector than the present one.
    fn better_centre(&self) -> Option<Centre> {
        // The reference must not outlive this block: another call may replace the centre, once no search can
        // hold it.
        let old = {
            let _pinned = self.store.pin();
            self.store.centre()?.components().to_vec()
        };
        let sample = self.sample();
        let rows = sample.len() / self.store.kind.dimension;
        if rows == 0 {
            return None;
        }
        let typical = |centre: &[f32]| {
            let rows = sample.chunks_exact(centre.len());
            let square = |row: &[f32]| row.iter().zip(centre).map(|(x, c)| (x - c) * (x - c)).sum::<f32>();
            median(&mut rows.map(square).collect::<Vec<f32>>())
        };
        let components = 0..self.store.kind.dimension;
        let column = |at: usize| sample.iter().skip(at).step_by(components.len()).copied();
        let mean = |at: usize| (column(at).map(f64::from).sum::<f64>() / rows as f64) as f32;
        let means: Vec<f32> = components.clone().map(mean).collect();
        let medians: Vec<f32> =
            components.clone().map(|at| median(&mut column(at).collect::<Vec<f32>>())).collect();
        let centre = if typical(&medians) < typical(&means) { medians } else { means };
        (typical(&centre) < NEARER * typical(&old)).then(|| Centre::new(centre))
    }

    /// Vectors from all over the index, concatenated, in the form in which codes are computed from them.
    fn sample(&self) -> Vec<f32> {
        let _pinned = self.store.pin();
        let slots = self.store.slot_count() as usize;
        let count = SAMPLE_MAX.min(SAMPLE_COMPONENTS_MAX / self.store.kind.dimension).max(1);
        let (mut sample, mut components) = (Vec::new(), Vec::new());
        // With a prime stride over all slots, the sample does not resonate with a pattern in the data.
        for number in 0..slots.min(count * slots.div_ceil(self.len().max(1))) {
            let slot = (number * 1_000_003 % slots) as u32;
            if self.store.state(slot) == State::Live && self.store.widen(slot, &mut components) {
                sample.extend_from_slice(&components);
            }
        }
        sample.truncate(count * self.store.kind.dimension);
        sample
    }
}

/// The median of some values; 0 if there are none.
fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    if values.is_empty() { 0.0 } else { *values.select_nth_unstable_by(middle, f32::total_cmp).1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HnswParameters, Metric, SearchRequest, bytes_of};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    const DIMENSION: usize = 128;

    /// A sample of about a normal distribution.
    fn normal(random: &mut SmallRng, mean: f32) -> Vec<f32> {
        let component = |_| mean + (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
        (0..DIMENSION).map(component).collect()
    }

    struct Data {
        graph: Hnsw,
        rows: Vec<Vec<f32>>,
        queries: Vec<Vec<f32>>,
    }

    /// The first 1,000 rows, which determine the centre, are around 0; the others and the queries are around
    /// 20.
    fn moved(metric: Metric, others: usize) -> Data {
        let mut random = SmallRng::seed_from_u64(5);
        let mut rows: Vec<Vec<f32>> = (0..1_000).map(|_| normal(&mut random, 0.0)).collect();
        rows.extend((0..others).map(|_| normal(&mut random, 20.0)));
        let graph = Hnsw::new(HnswParameters::new(DIMENSION, metric));
        for (id, row) in rows.iter().enumerate() {
            graph.insert(id as u32, bytes_of(row)).expect("fits");
        }
        let queries = (0..100).map(|_| normal(&mut random, 20.0)).collect();
        Data { graph, rows, queries }
    }

    /// Recall of ten rows, and the number of searches for which codes were too imprecise.
    fn recall(data: &Data) -> (f64, usize) {
        let all: Vec<_> =
            (0..data.rows.len() as u32).map(|id| (id, data.graph.vector(id).expect("inserted"))).collect();
        let (mut found, mut too_coarse) = (0, 0);
        for query in &data.queries {
            let query = bytes_of(query);
            let mut exact = data.graph.distances(query, &all).expect("fits");
            exact.sort_unstable();
            let outcome = data.graph.search(&SearchRequest::new(query, 10, 100)).expect("fits");
            found += outcome.neighbors.iter().filter(|row| row.distance <= exact[9].distance).count();
            too_coarse += usize::from(outcome.too_coarse);
        }
        (found as f64 / (10 * data.queries.len()) as f64, too_coarse)
    }

    #[test]
    fn codes_follow_data_that_have_moved() {
        for metric in [Metric::L2, Metric::Cosine] {
            let data = moved(metric, 4_000);
            let (before, coarse_before) = recall(&data);
            assert!(coarse_before > 80, "{metric:?}: {coarse_before} searches noticed");
            assert_eq!(data.graph.recode(&|| true), Recoding::Done);
            let (after, coarse_after) = recall(&data);
            assert!(coarse_after < 10, "{metric:?}: {coarse_after} searches still use the vectors");
            assert!(after > before - 0.01, "{metric:?}: {before} before, {after} after");
            assert_eq!(data.graph.recode(&|| true), Recoding::AsGood, "once is enough");
        }
    }

    #[test]
    fn codes_around_a_good_centre_are_not_recomputed() {
        let graph = Hnsw::new(HnswParameters::new(DIMENSION, Metric::L2));
        assert_eq!(graph.recode(&|| true), Recoding::NoCodes);
        let mut random = SmallRng::seed_from_u64(6);
        for id in 0..2_000 {
            graph.insert(id, bytes_of(&normal(&mut random, 3.0))).expect("fits");
        }
        assert_eq!(graph.recode(&|| true), Recoding::AsGood);
    }

    #[test]
    fn a_recoding_that_is_given_up_leaves_no_codes_until_the_next_insertion() {
        let data = moved(Metric::L2, 2_000);
        let rests = std::cell::Cell::new(0);
        assert_eq!(data.graph.recode(&|| rests.replace(rests.get() + 1) < 1), Recoding::GivenUp);
        assert_eq!(rests.get(), 2, "in the middle");
        assert!(data.graph.store.centre().is_none());
        assert!(recall(&data).0 > 0.9, "by the vectors");
        data.graph.insert(0, bytes_of(&data.rows[0])).expect("fits");
        assert!(data.graph.store.centre().is_some());
        assert!(recall(&data).0 > 0.9);
    }

    #[test]
    fn searches_and_mutations_go_on_while_codes_are_made() {
        let data = moved(Metric::L2, 3_000);
        let (graph, rows) = (&data.graph, &data.rows);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let is_over = &is_over;
                scope.spawn(move || {
                    for step in (0..).take_while(|_| !is_over.load(std::sync::atomic::Ordering::Relaxed)) {
                        let id = 2_000 + 2 * (step * 7 % 900) + thread;
                        graph.insert(id, bytes_of(&rows[id as usize])).expect("fits");
                        let query = bytes_of(&rows[id as usize]);
                        let found = graph.search(&SearchRequest::new(query, 3, 100)).expect("fits");
                        assert_eq!(found.neighbors.len(), 3);
                        for row in found.neighbors {
                            let is_own = row.id == id && row.distance == 0.0;
                            assert!(is_own || row.id != id && row.distance > 50.0, "{row:?} for {id}");
                        }
                    }
                });
            }
            assert_eq!(graph.recode(&|| true), Recoding::Done);
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(recall(&data).0 > 0.9);
    }
}
