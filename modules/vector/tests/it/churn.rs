//! Recall and memory stay the same while every vector is replaced repeatedly.

use engramdb_vector::{Hnsw, HnswParameters, Metric, Quantization, SearchRequest, VectorIndex, bytes_of};

use crate::data::{Floats, QUANTIZATIONS, assert_whole, brute_force, clustered, recall, search};

const COUNT: usize = 2_000;
const DIMENSION: usize = 24;

fn mean_recall(index: &Hnsw, vectors: &[Vec<f32>], ids: impl Fn(u32) -> bool) -> f64 {
    let queries = clustered(400, DIMENSION, 50, 1_000);
    let sum: f64 = queries
        .iter()
        .map(|query| {
            let stored = (0..).zip(vectors.iter().map(Vec::as_slice)).filter(|&(id, _)| ids(id));
            let truth = brute_force(Metric::L2, stored, query, 10);
            recall(&search(index, query, 10, 64), truth.iter().map(|row| row.id))
        })
        .sum();
    sum / queries.len() as f64
}

fn fresh(vectors: &[Vec<f32>], quantization: Quantization) -> Hnsw {
    let index = Hnsw::new(HnswParameters { quantization, ..HnswParameters::new(DIMENSION, Metric::L2) });
    for (id, vector) in (0..).zip(vectors) {
        index.put(id, vector);
    }
    index
}

#[test]
fn replacing_everything_ten_times_costs_neither_recall_nor_memory() {
    QUANTIZATIONS.into_iter().for_each(check_replacing);
}

fn check_replacing(quantization: Quantization) {
    let index = fresh(&clustered(COUNT, DIMENSION, 50, 0), quantization);
    let before = index.memory_bytes();
    let mut vectors = Vec::new();
    for round in 1..=10 {
        vectors = clustered(COUNT, DIMENSION, 50, round);
        for (id, vector) in (0..).zip(&vectors) {
            index.put(id, vector);
        }
        assert_whole(&index);
    }
    let rebuilt = mean_recall(&fresh(&vectors, quantization), &vectors, |_| true);
    let churned = mean_recall(&index, &vectors, |_| true);
    println!("recall@10 {churned:.4} after ten rounds, {rebuilt:.4} fresh; {:?}", index.statistics());
    // Of 4,000 rows; the target is 0.01.
    assert!(churned >= rebuilt - 0.005, "{churned} against {rebuilt}");
    assert!(index.memory_bytes() <= before * 108 / 100, "{} against {before}", index.memory_bytes());
    assert_eq!(index.len(), COUNT);
}

#[test]
fn removing_and_inserting_again_keeps_the_graph_whole() {
    QUANTIZATIONS.into_iter().for_each(check_removing);
}

fn check_removing(quantization: Quantization) {
    let vectors = clustered(COUNT, DIMENSION, 50, 21);
    let index = fresh(&vectors, quantization);
    // One bit per component is imprecise for so few components.
    let enough = if quantization == Quantization::Bits1 { 0.85 } else { 0.97 };
    for round in 0..6_u32 {
        let of_round = |id: u32| id % 3 == round % 3;
        (0..COUNT as u32).filter(|&id| of_round(id)).for_each(|id| assert!(index.remove(id)));
        let left = mean_recall(&index, &vectors, |id| !of_round(id));
        assert!(left >= enough, "round {round}: recall {left} of the remaining vectors");
        for id in (0..COUNT as u32).filter(|&id| of_round(id)) {
            index.put(id, &vectors[id as usize]);
        }
        assert_whole(&index);
    }
    let after = mean_recall(&index, &vectors, |_| true);
    assert!(after >= enough, "recall {after} after six rounds");
}

#[test]
fn searches_see_past_a_region_that_was_just_deleted() {
    let vectors = clustered(2 * COUNT, DIMENSION, 50, 51);
    let index = fresh(&vectors, Quantization::None);
    let stored = (0..).zip(vectors.iter().map(Vec::as_slice));
    // Too few deletes to start a repair of the graph, and more than a beam holds.
    let region = brute_force(Metric::L2, stored, &vectors[0], 2 * COUNT / 32 - 5);
    region.iter().for_each(|row| assert!(index.remove(row.id)));
    assert_eq!(index.statistics().deleted, region.len());
    let mut sum = 0.0;
    for row in &region {
        let query = &vectors[row.id as usize];
        let left = (0..).zip(vectors.iter().map(Vec::as_slice)).filter(|&(id, _)| index.contains(id));
        let truth = brute_force(Metric::L2, left, query, 10);
        let outcome = index.search(&SearchRequest::new(bytes_of(query), 10, 40)).expect("fits");
        assert!(outcome.evaluated < COUNT, "a walk, not a scan: {}", outcome.evaluated);
        sum += recall(&outcome.neighbors, truth.iter().map(|row| row.id));
    }
    let mean = sum / region.len() as f64;
    assert!(mean >= 0.97, "recall {mean}");
}

#[test]
fn an_emptied_index_can_be_filled_again() {
    let vectors = clustered(COUNT, DIMENSION, 50, 31);
    let index = fresh(&vectors, Quantization::None);
    for _ in 0..2 {
        (0..COUNT as u32).for_each(|id| assert!(index.remove(id)));
        assert_eq!((index.len(), search(&index, &vectors[0], 10, 64)), (0, vec![]));
        for (id, vector) in (0..).zip(&vectors) {
            index.put(id, vector);
        }
        let recall = mean_recall(&index, &vectors, |_| true);
        assert!(recall >= 0.97, "{recall}");
        assert_whole(&index);
    }
    assert!(index.statistics().slots <= 2 * COUNT + 200, "{:?}", index.statistics());
}

#[test]
fn compacting_frees_everything_deleted() {
    let vectors = clustered(COUNT, DIMENSION, 50, 41);
    let index = fresh(&vectors, Quantization::None);
    (0..COUNT as u32 / 2).for_each(|id| assert!(index.remove(id)));
    assert!(index.compact());
    assert_eq!(index.statistics().deleted, 0);
    let left = mean_recall(&index, &vectors, |id| id >= COUNT as u32 / 2);
    assert!(left >= 0.97, "{left}");
}
