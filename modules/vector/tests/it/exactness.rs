//! Guarantees that hold exactly, for both indexes: rows, distances, edge cases, filters, deadlines, refusals.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use engramdb_vector::{
    Element, Flat, Hnsw, HnswParameters, Metric, RangeRequest, SearchRequest, VectorError, VectorIndex,
    bytes_of, distance, distance_of,
};

use half::{bf16, f16};

use crate::data::{Floats, Only, brute_force, clustered, recall, search};

const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

fn both(dimension: usize, metric: Metric) -> [Box<dyn VectorIndex>; 2] {
    [
        Box::new(Flat::new(Element::F32, dimension, metric)),
        Box::new(Hnsw::new(HnswParameters::new(dimension, metric))),
    ]
}

fn fill(index: &dyn VectorIndex, vectors: &[Vec<f32>]) {
    for (id, vector) in (0..).zip(vectors) {
        index.put(id, vector);
    }
}

#[test]
fn flat_is_brute_force_through_inserts_replacements_and_removals() {
    for metric in METRICS {
        let flat = Flat::new(Element::F32, 17, metric);
        let mut model: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
        for (step, vector) in (0_u32..).zip(clustered(2_000, 17, 5, 3)) {
            let id = step.wrapping_mul(2_654_435_761) % 500;
            if step % 3 == 2 {
                assert_eq!(flat.remove(id), model.remove(&id).is_some());
            } else {
                flat.put(id, &vector);
                model.insert(id, vector);
            }
        }
        assert_eq!(flat.len(), model.len());
        for query in clustered(20, 17, 5, 4) {
            let truth = brute_force(metric, model.iter().map(|(&id, v)| (id, v.as_slice())), &query, 15);
            assert_eq!(search(&flat, &query, 15, 1), truth, "{metric:?}");
        }
        assert!(flat.statistics().slots <= 502, "removed slots are reused: {:?}", flat.statistics());
    }
}

#[test]
fn distances_are_exact_and_rows_ordered() {
    // Without codes and with codes.
    for (dimension, metric) in
        [33, 80].into_iter().flat_map(|dimension| METRICS.map(|metric| (dimension, metric)))
    {
        let vectors = clustered(1_500, dimension, 10, 5);
        for index in both(dimension, metric) {
            fill(&*index, &vectors);
            for query in clustered(10, dimension, 10, 6) {
                let rows = search(&*index, &query, 20, 60);
                assert_eq!(rows.len(), 20);
                assert!(rows.is_sorted());
                for row in rows {
                    let expected = distance(metric, &query, &vectors[row.id as usize]);
                    assert!(
                        (row.distance as f32 - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
                        "{metric:?}"
                    );
                    assert_eq!(index.distance(row.id, &query), Some(row.distance as f32));
                }
            }
        }
    }
}

/// Applies to scans; a walk is guided by `f32`.
#[test]
fn doubles_that_are_equally_far_as_floats_have_an_order() {
    let metric = Metric::L2;
    for step in [1e20, 1e-10] {
        let vector = |id: u32| [1.0 + f64::from(id) * step, 0.0].map(f64::to_le_bytes).concat();
        let flat = Flat::new(Element::F64, 2, metric);
        let graph = Hnsw::new(HnswParameters::of(Element::F64, 2, metric));
        for index in [&flat as &dyn VectorIndex, &graph] {
            // The farthest first.
            (0..40).rev().for_each(|id| index.insert(id, &vector(id)).expect("it fits"));
            for filter in [None, Some(Only((0..40).filter(|id| id % 3 != 1).collect()))] {
                let query = vector(0);
                let request = SearchRequest::new(&query, 4, 20);
                let filter = filter.as_ref().map(|only| only as &dyn engramdb_vector::Filter);
                let found = index.search(&SearchRequest { filter, ..request }).expect("it fits").neighbors;
                let ids: Vec<u32> = found.iter().map(|row| row.id).collect();
                assert_eq!(ids, if filter.is_some() { [0, 2, 3, 5] } else { [0, 1, 2, 3] }, "{step}");
            }
        }
    }
}

/// A vector of floats as bytes of this element type; bytes are -100 to 100, or 0 to 200.
fn of_element(element: Element, vector: &[f32]) -> Vec<u8> {
    let bytes = |x: &f32| match element {
        Element::F32 => x.to_le_bytes().to_vec(),
        Element::F64 => (f64::from(*x) + 1e-9).to_le_bytes().to_vec(),
        Element::F16 => f16::from_f32(*x).to_le_bytes().to_vec(),
        Element::Bf16 => bf16::from_f32(*x).to_le_bytes().to_vec(),
        Element::I8 => vec![(x * 50.0).clamp(-100.0, 100.0) as i8 as u8],
        Element::U8 => vec![(x * 50.0 + 100.0).clamp(0.0, 200.0) as u8],
    };
    vector.iter().flat_map(bytes).collect()
}

#[test]
fn every_element_is_found_with_its_exact_distance() {
    let (vectors, queries) = (clustered(1_500, 70, 30, 31), clustered(20, 70, 30, 32));
    for (element, metric) in Element::ALL.into_iter().flat_map(|e| METRICS.map(|metric| (e, metric))) {
        let vectors: Vec<Vec<u8>> = vectors.iter().map(|vector| of_element(element, vector)).collect();
        let graph = Hnsw::new(HnswParameters::of(element, 70, metric));
        let flat = Flat::new(element, 70, metric);
        for index in [&graph as &dyn VectorIndex, &flat] {
            for (id, vector) in (0..).zip(&vectors) {
                index.insert(id, vector).expect("fits");
            }
            let mut hits = 0;
            for query in queries.iter().map(|query| of_element(element, query)) {
                let distances = vectors.iter().map(|vector| distance_of(element, metric, &query, vector));
                let mut truth: Vec<f64> = distances.collect();
                let rows = index.search(&SearchRequest::new(&query, 10, 100)).expect("fits").neighbors;
                for row in &rows {
                    let expected = truth[row.id as usize];
                    let tolerance = if element == Element::F64 { 1e-12 } else { 1e-5 };
                    let off = (row.distance - expected).abs();
                    assert!(off <= tolerance * (1.0 + expected.abs()), "{element:?} {metric:?}: {row:?}");
                }
                let radius = rows[4].distance;
                let request = RangeRequest::new(&query, radius);
                let within = index.search_range(&request).expect("fits").neighbors;
                assert!(rows[..5].iter().all(|row| within.contains(row)), "{element:?} {metric:?}");
                truth.sort_by(f64::total_cmp);
                hits += rows.iter().filter(|row| row.distance <= truth[9] + 1e-5).count();
            }
            assert!(hits >= 190, "{element:?} {metric:?}: {hits} of 200");
        }
    }
}

#[test]
fn vectors_come_back_as_they_were_given() {
    for index in both(3, Metric::Cosine) {
        index.put(4_000_000_000, &[3.0, 0.0, 4.0]);
        assert_eq!(index.floats(4_000_000_000), Some(vec![3.0, 0.0, 4.0]));
        let kept = index.vector(4_000_000_000).expect("it is there");
        index.put(4_000_000_000, &[1.0, 2.0, 3.0]);
        assert_eq!(index.floats(4_000_000_000), Some(vec![1.0, 2.0, 3.0]));
        assert_eq!(index.len(), 1);
        (0..100).for_each(|id| index.put(id, &[id as f32, 1.0, 2.0]));
        (0..100).for_each(|id| assert!(index.remove(id)));
        assert_eq!(
            kept.as_bytes(),
            bytes_of(&[3.0, 0.0, 4.0]),
            "a held vector stays, whatever the index does"
        );
        assert!(index.vector(4).is_none() && !index.contains(4) && !index.remove(4));
        assert_eq!(search(&*index, &[1.0, 2.0, 3.0], 5, 10)[0].id, 4_000_000_000);
        assert!(index.remove(4_000_000_000) && index.is_empty());
        assert_eq!(search(&*index, &[1.0, 2.0, 3.0], 5, 10), []);
    }
}

#[test]
fn invalid_vectors_are_refused_and_change_nothing() {
    for index in both(3, Metric::L2) {
        index.put(1, &[1.0, 1.0, 1.0]);
        let dimension = VectorError::Size { expected: 12, got: 8 };
        assert_eq!(index.insert(1, bytes_of(&[1.0, 2.0])), Err(dimension));
        assert_eq!(index.search(&SearchRequest::new(bytes_of(&[1.0, 2.0]), 1, 1)), Err(dimension));
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(index.insert(1, bytes_of(&[1.0, poison, 1.0])), Err(VectorError::NotFinite));
            assert_eq!(
                index.search(&SearchRequest::new(bytes_of(&[poison; 3]), 1, 1)),
                Err(VectorError::NotFinite)
            );
            assert_eq!(index.distance(1, &[poison; 3]), None);
        }
        assert_eq!(index.distance(1, &[1.0, 1.0, 3.0]), Some(4.0));
    }
}

#[test]
fn zero_and_extreme_vectors_are_stored_and_found() {
    for metric in METRICS {
        for index in both(2, metric) {
            fill(
                &*index,
                &[vec![0.0, 0.0], vec![f32::MAX, f32::MAX], vec![f32::MIN, f32::MAX], vec![1.0, 1.0]],
            );
            fill(&*index, &vec![vec![0.0, 0.0]; 100]);
            for query in [[0.0, 0.0], [1.0, -1.0], [f32::MAX, f32::MIN]] {
                assert_eq!(search(&*index, &query, 1_000, 10).len(), 100, "{metric:?}");
            }
            if metric == Metric::Cosine {
                assert_eq!(index.distance(0, &[1.0, -1.0]), Some(1.0));
            }
        }
    }
}

#[test]
fn all_of_a_small_index_is_returned_when_k_is_large() {
    let vectors = clustered(700, 8, 3, 9);
    for index in both(8, Metric::L2) {
        fill(&*index, &vectors);
        assert_eq!(search(&*index, &vectors[0], 700, 10).len(), 700);
        assert_eq!(search(&*index, &vectors[0], usize::MAX, 10).len(), 700);
        assert_eq!(search(&*index, &vectors[0], 0, 10), []);
    }
}

#[test]
fn many_equal_vectors_are_all_reachable() {
    let index = Hnsw::new(HnswParameters::new(4, Metric::L2));
    fill(&index, &vec![vec![1.0, 2.0, 3.0, 4.0]; 2_000]);
    assert_eq!(search(&index, &[1.0, 2.0, 3.0, 4.0], 50, 60).len(), 50);
}

#[test]
fn k_allowed_rows_come_whenever_k_exist() {
    // Clusters as tags: a filter that allows one cluster, and a query from another.
    let (clusters, count) = (20, 4_000);
    let vectors = clustered(count, 16, clusters, 11);
    let index = Hnsw::new(HnswParameters::new(16, Metric::L2));
    fill(&index, &vectors);
    for keep_one_in in [2, 5, 20, 100, 1_000] {
        let random = Only((0..count as u32).filter(|id| (id / 20 + id) % keep_one_in == 0).collect());
        let correlated = Only((0..count as u32).filter(|id| id % 20 < 20 / keep_one_in.min(20)).collect());
        for filter in [random, correlated] {
            let mut found = 0.0;
            for query in clustered(20, 16, clusters, 12) {
                let request =
                    SearchRequest { filter: Some(&filter), ..SearchRequest::new(bytes_of(&query), 10, 50) };
                let rows = index.search(&request).expect("fits").neighbors;
                assert_eq!(rows.len(), 10.min(filter.0.len()), "one in {keep_one_in}");
                assert!(rows.iter().all(|row| filter.0.contains(&row.id)));
                let allowed = filter.0.iter().map(|&id| (id, vectors[id as usize].as_slice()));
                let truth = brute_force(Metric::L2, allowed, &query, 10);
                found += recall(&rows, truth.iter().map(|row| row.id)) / 20.0;
            }
            assert!(found >= 0.95, "one in {keep_one_in}: recall {found}");
        }
    }
}

#[test]
fn a_filter_of_unknown_size_and_absent_ids_is_honoured() {
    struct Unknown(Only);
    impl engramdb_vector::Filter for Unknown {
        fn allows(&self, id: u32) -> bool {
            self.0.allows(id)
        }
        fn cardinality(&self) -> Option<usize> {
            None
        }
        fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
            self.0.for_each(ids, visit);
        }
    }
    let vectors = clustered(3_000, 16, 10, 13);
    for index in both(16, Metric::Cosine) {
        fill(&*index, &vectors);
        let filter = Unknown(Only(vec![5, 17, 2_999, 50_000]));
        let request =
            SearchRequest { filter: Some(&filter), ..SearchRequest::new(bytes_of(&vectors[0]), 10, 50) };
        let mut ids: Vec<u32> =
            index.search(&request).expect("fits").neighbors.iter().map(|row| row.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [5, 17, 2_999]);
    }
}

#[test]
fn a_passed_deadline_stops_the_search() {
    let vectors = clustered(5_000, 16, 10, 14);
    for index in both(16, Metric::L2) {
        fill(&*index, &vectors);
        let asked = Cell::new(0);
        let third_time = || {
            asked.set(asked.get() + 1);
            asked.get() >= 3
        };
        let request = SearchRequest {
            deadline: Some(&third_time),
            ..SearchRequest::new(bytes_of(&vectors[0]), 10, 2_000)
        };
        let outcome = index.search(&request).expect("fits");
        assert!(outcome.timed_out && outcome.evaluated < 1_000, "{outcome:?}");
        assert_eq!(outcome.neighbors.len(), 10, "the rows found by then are returned");
    }
}

#[test]
fn a_range_returns_all_rows_within_the_radius() {
    let vectors = clustered(4_000, 16, 40, 15);
    for metric in METRICS {
        for index in both(16, metric) {
            fill(&*index, &vectors);
            let mut found = 0;
            for query in clustered(20, 16, 40, 16) {
                let stored = || (0..).zip(vectors.iter().map(Vec::as_slice));
                let radius = brute_force(metric, stored(), &query, 80)[79].distance;
                let request = RangeRequest::new(bytes_of(&query), radius);
                let rows = index.search_range(&request).expect("fits").neighbors;
                assert!(rows.is_sorted() && rows.iter().all(|row| row.distance <= radius));
                found += rows.len();
            }
            assert!(found >= 1_600, "{metric:?}: {found} of 1600");
        }
    }
}

#[test]
fn rows_of_any_finite_length_are_found_by_their_directions() {
    let vectors = clustered(1_500, 80, 40, 9);
    // Half of the rows have lengths whose products overflow or vanish in `f32`.
    for lengths in [[1.0, 1.0], [1.0, 1e25], [1e-30, 1.0], [1e30, 1e-30]] {
        for index in both(80, Metric::Cosine) {
            for (id, vector) in (0_u32..).zip(&vectors) {
                let length = lengths[id as usize % 2];
                index.put(id, &vector.iter().map(|x| x * length).collect::<Vec<f32>>());
            }
            for query in clustered(40, 80, 40, 10) {
                let rows = vectors.iter().enumerate().map(|(id, v)| (id as u32, v.as_slice()));
                let truth = brute_force(Metric::Cosine, rows, &query, 10);
                let query: Vec<f32> = query.iter().map(|x| x * lengths[1]).collect();
                let found = search(&*index, &query, 10, 200);
                let ids = truth.iter().map(|row| row.id);
                assert!(recall(&found, ids) >= 0.9, "{lengths:?}: {found:?}, {truth:?}");
                assert!(found.iter().all(|row| (-1e-6..=2.0 + 1e-6).contains(&row.distance)));
            }
        }
    }
}
