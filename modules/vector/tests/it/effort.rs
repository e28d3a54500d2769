//! A search with a requested recall reaches it, at no more than the necessary cost.

use engramdb_vector::{
    Filter, Hnsw, HnswParameters, Metric, SearchOutcome, SearchRequest, VectorIndex, bytes_of,
};

use crate::data::{Floats, Only, RealData, brute_force, clustered, recall};

const K: usize = 10;

/// Mean recall and number of evaluations.
struct Measured {
    recall: f64,
    evaluated: f64,
}

/// The parameters of searches.
#[derive(Clone, Copy)]
struct Ask<'a> {
    recall: Option<f32>,
    ef: usize,
    filter: Option<&'a dyn Filter>,
}

impl<'a> Ask<'a> {
    fn recall(share: f32) -> Self {
        Ask { recall: Some(share), ef: 100, filter: None }
    }

    fn beam(ef: usize) -> Self {
        Ask { recall: None, ef, filter: None }
    }

    fn search(self, index: &Hnsw, query: &[f32]) -> SearchOutcome {
        let Ask { recall, ef, filter } = self;
        let request = SearchRequest { recall, filter, ..SearchRequest::new(bytes_of(query), K, ef) };
        index.search(&request).expect("it fits")
    }

    /// Searches with each query. `truth` has the true ids, nearest first.
    fn measure(self, index: &Hnsw, queries: &[&[f32]], truth: &[Vec<u32>]) -> Measured {
        let mut sums = Measured { recall: 0.0, evaluated: 0.0 };
        for (query, truth) in queries.iter().zip(truth) {
            let outcome = self.search(index, query);
            sums.recall += recall(&outcome.neighbors, truth[..K].iter().copied()) / queries.len() as f64;
            sums.evaluated += outcome.evaluated as f64 / queries.len() as f64;
        }
        sums
    }
}

fn truth_of(metric: Metric, vectors: &[(u32, &[f32])], queries: &[&[f32]]) -> Vec<Vec<u32>> {
    let of_one = |query: &&[f32]| {
        let nearest = brute_force(metric, vectors.iter().copied(), query, K);
        nearest.iter().map(|row| row.id).collect()
    };
    queries.iter().map(of_one).collect()
}

#[test]
fn real_embeddings() {
    let data = RealData::get();
    let index = Hnsw::new(HnswParameters::new(data.dimension, Metric::Cosine));
    // By one thread, so that the graph is the same in every run.
    (0..).zip(data.rows()).for_each(|(id, row)| index.put(id, row));
    let queries: Vec<&[f32]> = data.queries().collect();
    let mut evaluated = 0.0;
    for share in [0.9, 0.95, 0.99] {
        let measured = Ask::recall(share).measure(&index, &queries, &data.neighbors);
        println!("{share}: {:.4} with {:.0} evaluations", measured.recall, measured.evaluated);
        let error = measured.recall - f64::from(share);
        assert!(error.abs() <= 0.025, "{share}: {}", measured.recall);
        assert!(measured.evaluated > evaluated, "{share} a higher recall evaluates more");
        evaluated = measured.evaluated;
    }
    // A beam with the same recall evaluates more: it does not adapt to easy and hard queries.
    let asked = Ask::recall(0.99).measure(&index, &queries, &data.neighbors);
    let widths = [20, 30, 40, 50, 60, 80, 100];
    let beams = widths.map(|ef| Ask::beam(ef).measure(&index, &queries, &data.neighbors));
    let beam = beams.iter().find(|beam| beam.recall >= asked.recall).expect("a wide beam finds as much");
    assert!(asked.evaluated < 0.95 * beam.evaluated, "{} {}", asked.evaluated, beam.evaluated);
}

#[test]
fn all_of_the_nearest_by_a_scan() {
    // There are more copies than the graph leads to.
    let mut vectors = clustered(3_000, 32, 40, 7);
    for at in (0..3_000).step_by(3) {
        vectors[at] = vectors[0].clone();
    }
    let index = Hnsw::new(HnswParameters::new(32, Metric::L2));
    (0..).zip(&vectors).for_each(|(id, vector)| index.put(id, vector));
    for query in clustered(50, 32, 40, 8) {
        let stored = (0..).zip(vectors.iter().map(Vec::as_slice));
        let truth: Vec<f64> =
            brute_force(Metric::L2, stored, &query, K).iter().map(|row| row.distance).collect();
        let found = Ask::recall(1.0).search(&index, &query).neighbors;
        for (row, expected) in found.iter().zip(&truth) {
            assert!((row.distance - expected).abs() <= 1e-3 * expected, "{row:?}, {expected}");
        }
        assert_eq!(found.len(), K);
    }
}

#[test]
fn it_follows_the_data() {
    let index = Hnsw::new(HnswParameters::new(48, Metric::L2));
    // First clusters so tight that any walk finds all rows, then one cloud instead.
    let tight: Vec<Vec<f32>> = clustered(4_000, 48, 40, 7)
        .into_iter()
        .map(|vector| vector.iter().map(|x| x.round()).collect())
        .collect();
    (0..).zip(&tight).for_each(|(id, vector)| index.put(id, vector));
    let query = &tight[17];
    Ask::recall(0.95).search(&index, query);
    let all = clustered(4_300, 48, 1, 9);
    let (vectors, queries) = all.split_at(4_000);
    (0..).zip(vectors).for_each(|(id, vector)| index.put(id, vector));
    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let stored: Vec<(u32, &[f32])> = (0..).zip(vectors.iter().map(Vec::as_slice)).collect();
    let measured = Ask::recall(0.95).measure(&index, &queries, &truth_of(Metric::L2, &stored, &queries));
    println!("replaced: {:.4} with {:.0} evaluations", measured.recall, measured.evaluated);
    assert!((measured.recall - 0.95).abs() <= 0.03, "{}", measured.recall);
}

#[test]
fn it_follows_queries_from_elsewhere() {
    let index = Hnsw::new(HnswParameters::new(48, Metric::L2));
    let vectors = clustered(4_000, 48, 40, 7);
    (0..).zip(&vectors).for_each(|(id, vector)| index.put(id, vector));
    let elsewhere: Vec<Vec<f32>> =
        clustered(600, 48, 1, 8).into_iter().map(|vector| vector.iter().map(|x| 1.5 + x).collect()).collect();
    let (first, rest) = elsewhere.split_at(300);
    for query in first {
        Ask::recall(0.9).search(&index, query);
    }
    let queries: Vec<&[f32]> = rest.iter().map(Vec::as_slice).collect();
    let stored: Vec<(u32, &[f32])> = (0..).zip(vectors.iter().map(Vec::as_slice)).collect();
    let measured = Ask::recall(0.9).measure(&index, &queries, &truth_of(Metric::L2, &stored, &queries));
    println!("elsewhere: {:.4} with {:.0} evaluations", measured.recall, measured.evaluated);
    assert!((measured.recall - 0.9).abs() <= 0.05, "{}", measured.recall);
}

#[test]
fn every_metric_with_deleted_ones_and_under_filters() {
    for metric in Metric::ALL {
        let all = clustered(6_300, 48, 40, 7);
        let (vectors, queries) = all.split_at(6_000);
        let index = Hnsw::new(HnswParameters::new(48, metric));
        (0..).zip(vectors).for_each(|(id, vector)| index.put(id, vector));
        (0..6_000).filter(|id| id % 3 == 0).for_each(|id| assert!(index.remove(id)));
        let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
        let most = Only((0..6_000).filter(|id| id % 4 != 1).collect());
        for allowed in [None, Some(&most)] {
            let is_there = |id: u32| !id.is_multiple_of(3) && allowed.is_none_or(|only| only.allows(id));
            let stored: Vec<(u32, &[f32])> =
                (0..).zip(vectors.iter().map(Vec::as_slice)).filter(|&(id, _)| is_there(id)).collect();
            let filter = allowed.map(|only| only as &dyn Filter);
            let truth = truth_of(metric, &stored, &queries);
            let ask = Ask { filter, ..Ask::recall(0.95) };
            let measured = ask.measure(&index, &queries, &truth);
            println!("{metric:?}: {:.4} with {:.0} evaluations", measured.recall, measured.evaluated);
            assert!((measured.recall - 0.95).abs() <= 0.03, "{metric:?}: {}", measured.recall);
        }
    }
}

#[test]
fn the_same_searches_find_the_same() {
    let run = || {
        let vectors = clustered(2_000, 48, 10, 7);
        let index = Hnsw::new(HnswParameters::new(48, Metric::Cosine));
        (0..).zip(&vectors).for_each(|(id, vector)| index.put(id, vector));
        let search = |query: &Vec<f32>| Ask::recall(0.95).search(&index, query);
        clustered(100, 48, 10, 8).iter().map(search).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
