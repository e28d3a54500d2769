//! Copies, kept links and saved graphs: mutations for which a review has found bugs, and many random
//! mutations.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Hnsw;
use crate::candidates::Candidate;
use crate::codes::CodeBuffer;
use crate::settle::Source;
use crate::store::State;
use crate::{Element, Filter, HnswParameters, Metric, SearchRequest, VectorIndex, bytes_of};

fn vector(salt: u32) -> Vec<f32> {
    (0..16).map(|at| ((salt * 16 + at).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6).collect()
}

fn graph(m: usize, vectors: impl Iterator<Item = u32>) -> Hnsw {
    let index = Hnsw::new(HnswParameters { m, ..HnswParameters::new(16, Metric::L2) });
    for (id, salt) in (0..).zip(vectors) {
        index.insert(id, bytes_of(&vector(salt))).expect("finite");
    }
    index
}

/// Ids with this remainder.
struct Remainder(u32, u32);

impl Filter for Remainder {
    fn allows(&self, id: u32) -> bool {
        id % self.0 == self.1
    }

    fn cardinality(&self) -> Option<usize> {
        None
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        ids.filter(|&id| self.allows(id)).for_each(visit);
    }
}

fn saved(index: &Hnsw) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.save(&mut bytes).expect("memory takes everything");
    bytes
}

#[test]
fn a_filtered_walk_that_starts_at_a_member_gives_each_id_once() {
    let index = graph(16, (0..12_000).map(|id| id % 3_000));
    let mut walks = 0;
    for salt in 0..100 {
        let (filter, query) = (Remainder(7, 1), vector(salt * 13));
        let request = SearchRequest { filter: Some(&filter), ..SearchRequest::new(bytes_of(&query), 10, 50) };
        let found = index.search(&request).expect("fits");
        walks += usize::from(found.visited > 0);
        let ids: BTreeSet<u32> = found.neighbors.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), 10, "{:?}", found.neighbors);
    }
    assert!(walks > 90);
}

/// The new entry keeps a link to the previous entry, which is about to be freed.
#[test]
fn a_node_becomes_the_entry_while_a_sweep_frees_the_entry_before() {
    let index = graph(4, 0..1_500);
    let entry = index.graph.entry().expect("it has nodes");
    let id = (10_000..).find(|&id| index.level_of(id) > entry.level).expect("levels have no bound");
    let first = index.store.id_of(entry.slot);
    index.remove(first);
    (0..1_500).filter(|&other| other != first).take(52).for_each(|other| _ = index.remove(other));
    index.insert(id, bytes_of(&vector(id))).expect("finite");
    assert_eq!(index.graph.entry().map(|entry| index.store.id_of(entry.slot)), Some(id));
    assert!(index.compact());
    let check = index.check();
    assert!(check.is_sound(), "{check:?}");
    assert!(Hnsw::load(&&saved(&index)[..]).is_ok());
}

#[test]
fn a_member_comes_and_goes_while_its_place_is_given_its_id() {
    let index = Hnsw::new(HnswParameters::new(2, Metric::L2));
    let store = &index.store;
    let admit = |id| {
        let placed = store.place(bytes_of(&[1.0, 2.0])).expect("finite");
        store.admit(id, &placed, &mut CodeBuffer::default())
    };
    let place = admit(1);
    // The first step of `commit`; another thread acts before the second.
    store.set_state(place, State::Live);
    let member = admit(2);
    assert!(store.join(member, store.as_place(member, place).expect("the same vector")));
    assert_eq!(store.commit(member), None);
    let left = store.leave(store.take(2).expect("inserted"));
    store.commit(place);
    assert!(left.slot && left.place.is_none() && store.state(place) == State::Live);
}

#[test]
fn a_place_met_for_its_member_is_not_a_row_after_the_member_left() {
    let index = graph(16, [1, 1, 2].into_iter());
    let (place, filter) = (index.store.slot_of(0).expect("inserted"), Remainder(2, 1));
    assert!(index.store.is_allowed(&filter, place, 0, true));
    index.remove(1);
    let vector = vector(1);
    let query = index.store.query(bytes_of(&vector));
    let rows = index.store.settle(&query, &[Candidate::new(0.0, place)], 10, Some(&filter), Source::Graph);
    assert_eq!(rows, []);
}

#[test]
fn members_are_compared_as_doubles_where_floats_are_too_imprecise() {
    let index = Hnsw::new(HnswParameters::of(Element::F64, 2, Metric::L2));
    let bytes = |vector: [f64; 2]| vector.map(f64::to_le_bytes).concat();
    let near = [[1.0 + 2e-8, 0.0], [-1.0 - 1e-8, 0.0], [0.0, 1.0], [0.0, 1.0]];
    let others = (10..200).map(|at| [f64::from(at), 7.0]);
    for (id, vector) in (1..).zip(near.into_iter().chain(others)) {
        index.insert(id, &bytes(vector)).expect("finite");
    }
    let query = bytes([0.0, 0.0]);
    let found = index.search(&SearchRequest::new(&query, 2, 20)).expect("fits");
    assert_eq!(found.neighbors.iter().map(|row| row.id).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn the_same_vectors_again_take_no_more_memory() {
    let index = graph(16, 0..2_000);
    for _ in 0..3 {
        (0..2_000).for_each(|id| index.insert(id, bytes_of(&vector(id))).expect("finite"));
        assert!(index.compact());
    }
    assert_eq!(index.vectors().held_bytes() / 64, 2_000);
    let check = index.check();
    assert!(check.is_sound(), "{check:?}");
}

/// A graph under random mutations, with its expected content.
struct Churn {
    index: Hnsw,
    live: BTreeMap<u32, Vec<f32>>,
    random: SmallRng,
}

const DIMENSION: usize = 6;

impl Churn {
    fn mutate(&mut self, step: usize) {
        let id = self.random.random_range(0..600);
        if self.random.random_range(0..10) < [3, 5, 8][step / 500 % 3] {
            self.index.remove(id);
            self.live.remove(&id);
            return;
        }
        let salts = [40, 400, 4_000][self.random.random_range(0..3)];
        let salt: u32 = self.random.random_range(0..salts);
        let component = |at: u32| ((salt * 16 + at).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0;
        let mut vector: Vec<f32> = (0..DIMENSION as u32).map(component).collect();
        match self.random.random_range(0..8) {
            0 => vector.iter_mut().for_each(|x| *x *= 1.0 + 2e-7),
            1 => vector.fill(0.0),
            _ => {}
        }
        self.index.insert(id, bytes_of(&vector)).expect("finite");
        self.live.insert(id, vector);
    }

    fn search(&mut self) {
        let filter = Remainder(self.random.random_range(1..12), 0);
        let filter = self.random.random::<bool>().then_some(&filter as &dyn Filter);
        let (at, k) = (self.random.random_range(0..self.live.len()), self.random.random_range(1..20));
        let query = self.live.values().nth(at).expect("the index is within the map");
        let request = SearchRequest { filter, ..SearchRequest::new(bytes_of(query), k, 30) };
        let found = self.index.search(&request).expect("fits").neighbors;
        let ids: BTreeSet<u32> = found.iter().map(|row| row.id).collect();
        let is_allowed = |id: &u32| filter.is_none_or(|filter| filter.allows(*id));
        let allowed = self.live.keys().filter(|id| is_allowed(id)).count();
        assert_eq!((ids.len(), found.len()), (k.min(allowed), k.min(allowed)), "{found:?}");
        assert!(ids.iter().all(|id| self.live.contains_key(id) && is_allowed(id)));
    }

    fn restart(&mut self) {
        let loading = Hnsw::load(&&saved(&self.index)[..]).expect("it was saved");
        for (&id, vector) in &self.live {
            assert!(loading.restore(id, bytes_of(vector)).is_some());
        }
        self.index = loading.finish();
        assert_eq!(self.index.len(), self.live.len());
    }
}

#[test]
fn a_graph_is_sound_after_every_mutation() {
    for (metric, m, seed) in [
        (Metric::L2, 8, 1),
        (Metric::L2, 2, 2),
        (Metric::InnerProduct, 4, 0),
        (Metric::Cosine, 4, 0),
        (Metric::Cosine, 4, 5),
    ] {
        let parameters = HnswParameters { m, ef_construction: 20, ..HnswParameters::new(DIMENSION, metric) };
        let (index, random) = (Hnsw::new(parameters), SmallRng::seed_from_u64(seed));
        let mut churn = Churn { index, live: BTreeMap::new(), random };
        for step in 0..8_000 {
            churn.mutate(step);
            if step % 50 == 7 && !churn.live.is_empty() {
                churn.search();
            }
            if step % 1_000 == 999 {
                churn.restart();
            }
            let check = churn.index.check();
            let is_whole = check.is_sound() && check.live == churn.live.len();
            assert!(is_whole, "{metric:?}, m {m}, seed {seed}, step {step}: {check:?}");
        }
    }
}
