//! Searches under filters: of every selectivity, random and correlated with the vectors; with unknown and
//! wrong cardinalities; while everything is replaced.
//!
//! Beam and M are small here, so that walks are cheaper than scans even in graphs of a few thousand vectors.

use std::cell::Cell;
use std::ops::RangeInclusive;

use engramdb_vector::{
    Filter, Hnsw, HnswParameters, Metric, SearchOutcome, SearchRequest, VectorIndex, bytes_of,
};

use crate::data::{Floats, Only, RealData, assert_whole, brute_force, built_by_two, clustered, recall};

const K: usize = 10;

fn find(index: &Hnsw, query: &[f32], ef: usize, filter: &dyn Filter) -> SearchOutcome {
    index
        .search(&SearchRequest { filter: Some(filter), ..SearchRequest::new(bytes_of(query), K, ef) })
        .expect("fits")
}

/// Searches for each query, and checks that `K` allowed rows are returned. Returns the mean recall and the
/// number of searches that walked.
fn searched<'a>(
    index: &Hnsw,
    vectors: impl Fn(u32) -> &'a [f32],
    queries: &[&[f32]],
    ef: usize,
    filter: &Only,
) -> (f64, usize) {
    let (mut sum, mut walks) = (0.0, 0);
    for query in queries {
        let outcome = find(index, query, ef, filter);
        assert_eq!(outcome.neighbors.len(), K.min(filter.0.len()));
        assert!(outcome.neighbors.iter().all(|row| filter.allows(row.id)));
        let allowed = filter.0.iter().map(|&id| (id, vectors(id)));
        let truth = brute_force(index.metric(), allowed, query, K);
        sum += recall(&outcome.neighbors, truth.iter().map(|row| row.id));
        walks += usize::from(outcome.visited > 0);
    }
    (sum / queries.len() as f64, walks)
}

/// The ids that are among the first `percent` when ordered by `key`.
fn lowest<K: Ord>(count: usize, percent: f64, key: impl Fn(u32) -> K) -> Only {
    let mut ids: Vec<u32> = (0..count as u32).collect();
    ids.sort_by_cached_key(|&id| key(id));
    ids.truncate((count as f64 * percent / 100.0).round() as usize);
    ids.sort_unstable();
    Only(ids)
}

fn at_random(count: usize, percent: f64) -> Only {
    lowest(count, percent, |id| id.wrapping_mul(2_654_435_761).rotate_left(11).wrapping_mul(2_246_822_519))
}

#[test]
fn real_embeddings_under_filters_of_every_selectivity() {
    let data = RealData::get();
    let rows: Vec<&[f32]> = data.rows().collect();
    let vectors: Vec<(u32, &[u8])> = (0..).zip(rows.iter().map(|row| bytes_of(row))).collect();
    let parameters = HnswParameters { m: 8, ..HnswParameters::new(data.dimension, Metric::Cosine) };
    let index = built_by_two(parameters, &vectors);
    let queries: Vec<&[f32]> = data.queries().step_by(8).collect();
    let around = |centre: usize, percent| {
        lowest(rows.len(), percent, |id| {
            let distance = engramdb_vector::distance(Metric::Cosine, rows[centre], rows[id as usize]);
            (distance * 1e6) as i64
        })
    };
    for percent in [90.0, 70.0, 50.0, 30.0, 20.0, 10.0, 1.0, 0.1, 0.01] {
        let filters = [at_random(rows.len(), percent), around(17, percent), around(4_711, percent)];
        for (at, filter) in filters.iter().enumerate() {
            let (recall, walks) = searched(&index, |id| rows[id as usize], &queries, 60, filter);
            println!("{percent} percent, filter {at}: recall {recall:.4}, {walks} walks");
            // With little more than half of the usual M and beam: 0.97 of everything.
            assert!(recall >= 0.93, "{percent} percent, filter {at}: recall {recall}");
            // A walk to this many is cheaper than a scan.
            assert!(percent < 30.0 || walks == queries.len(), "{walks} walks");
        }
    }
}

#[test]
fn a_filter_that_allows_only_distant_clusters_still_gives_k_rows() {
    // Every cluster is an island with few links to others, and the allowed islands are not those of the
    // query.
    let (count, clusters) = (6_000, 300);
    let vectors: Vec<Vec<f32>> = clustered(count, 16, clusters, 61)
        .into_iter()
        .enumerate()
        .map(|(at, vector)| vector.iter().map(|x| x + 40.0 * (at % clusters % 3) as f32).collect())
        .collect();
    let index = Hnsw::new(HnswParameters { m: 8, ..HnswParameters::new(16, Metric::L2) });
    for (id, vector) in (0..).zip(&vectors) {
        index.put(id, vector);
    }
    let queries: Vec<&[f32]> = (0..60).map(|at| vectors[at * 7].as_slice()).collect();
    for third in 0..3 {
        let filter = Only((0..count as u32).filter(|id| id % clusters as u32 % 3 == third).collect());
        let (recall, walks) = searched(&index, |id| &vectors[id as usize], &queries, 40, &filter);
        println!("third {third}: recall {recall:.4}, {walks} walks");
        // A walk between islands is imprecise. What counts here is that it returns K rows.
        assert!(recall >= 0.8 && walks == queries.len(), "third {third}: recall {recall}, {walks} walks");
    }
}

#[test]
fn a_small_index_scans_when_few_ids_are_allowed() {
    let vectors = clustered(1_000, 16, 30, 63);
    let index = Hnsw::new(HnswParameters::new(16, Metric::L2));
    for (id, vector) in (0..).zip(&vectors) {
        index.put(id, vector);
    }
    for allowed in [1, 10, 100] {
        let filter = Only((0..allowed).map(|at| at * 10).collect());
        let outcome = find(&index, &vectors[5], 100, &filter);
        assert_eq!((outcome.visited, outcome.evaluated), (0, allowed as usize), "{allowed} allowed");
        assert_eq!(outcome.neighbors.len(), K.min(allowed as usize));
    }
}

/// A filter whose cardinality is wrong, or unknown.
struct Misjudged {
    truth: Only,
    cardinality: Option<usize>,
}

impl Filter for Misjudged {
    fn allows(&self, id: u32) -> bool {
        self.truth.allows(id)
    }

    fn cardinality(&self) -> Option<usize> {
        self.cardinality
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        self.truth.for_each(ids, visit);
    }
}

#[test]
fn a_wrong_estimate_costs_time_and_no_rows() {
    let vectors = clustered(5_000, 16, 50, 62);
    let index = Hnsw::new(HnswParameters { m: 4, ..HnswParameters::new(16, Metric::Cosine) });
    for (id, vector) in (0..).zip(&vectors) {
        index.put(id, vector);
    }
    for allowed in [0, 1, 7, 12, 200, 2_500] {
        for cardinality in [None, Some(10), Some(2_500), Some(100_000)] {
            // The allowed ids are from one cluster at first, then from all clusters.
            let truth = lowest(5_000, allowed as f64 / 50.0, |id| (id % 50, id));
            let filter = Misjudged { truth, cardinality };
            for query in vectors.iter().step_by(250) {
                let rows = find(&index, query, 40, &filter).neighbors;
                assert_eq!(rows.len(), K.min(allowed), "{allowed} allowed, reported {cardinality:?}");
                assert!(rows.iter().all(|row| filter.allows(row.id)));
            }
        }
    }
}

#[test]
fn a_walk_that_evaluates_nothing_checks_the_deadline() {
    let vectors = clustered(5_000, 16, 50, 64);
    let index = Hnsw::new(HnswParameters::new(16, Metric::L2));
    for (id, vector) in (0..).zip(&vectors) {
        index.put(id, vector);
    }
    // Nothing but bridges.
    let filter = Misjudged { truth: Only(Vec::new()), cardinality: Some(4_000) };
    let asked = Cell::new(0);
    let over = || asked.replace(asked.get() + 1) == 0;
    let request = SearchRequest {
        filter: Some(&filter),
        deadline: Some(&over),
        ..SearchRequest::new(bytes_of(&vectors[9]), K, 40)
    };
    let outcome = index.search(&request).expect("fits");
    assert!(outcome.timed_out && outcome.neighbors.is_empty(), "{outcome:?}");
    assert_eq!((outcome.visited, asked.get()), (64, 1));
}

#[test]
fn filtered_recall_holds_while_everything_is_replaced() {
    const COUNT: usize = 4_000;
    let vectors = |round: u64| clustered(COUNT, 24, 60, 70 + round);
    let parameters = HnswParameters { m: 8, ..HnswParameters::new(24, Metric::L2) };
    let index = Hnsw::new(parameters);
    let mut stored = vectors(0);
    for (id, vector) in (0..).zip(&stored) {
        index.put(id, vector);
    }
    let queries = clustered(60, 24, 60, 2_000);
    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let tags = |tag: u32| Only((0..COUNT as u32).filter(|id| id % 60 % 2 == tag).collect());
    let filters = [at_random(COUNT, 50.0), tags(0), tags(1)];
    for round in 1..=3 {
        let replacements = vectors(round);
        for (id, vector) in (0..).zip(replacements) {
            index.put(id, &vector);
            stored[id as usize] = vector;
            // In the middle: new and old vectors, and deleted nodes on the way.
            if id % 1_000 == 700 {
                for (at, filter) in filters.iter().enumerate() {
                    let (recall, walks) = searched(&index, |id| &stored[id as usize], &queries, 40, filter);
                    println!("round {round}, {id}, filter {at}: recall {recall:.4}, {walks} walks");
                    assert!(recall >= 0.9, "round {round}, {id}, filter {at}: recall {recall}");
                    assert_eq!(walks, queries.len());
                }
            }
        }
    }
    assert_whole(&index);
}
