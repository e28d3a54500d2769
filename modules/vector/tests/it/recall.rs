//! The graph finds the true neighbours of real embeddings.

use engramdb_vector::{Hnsw, HnswParameters, Metric, Quantization, RangeRequest, VectorIndex, bytes_of};

use crate::data::{Floats, QUANTIZATIONS, RealData, brute_force, built_by_two, clustered, recall, search};

fn real_index(metric: Metric) -> Hnsw {
    let data = RealData::get();
    let vectors: Vec<(u32, &[u8])> = (0..).zip(data.rows().map(bytes_of)).collect();
    built_by_two(HnswParameters::new(data.dimension, metric), &vectors)
}

fn real_recall(index: &Hnsw, ef: usize) -> f64 {
    let data = RealData::get();
    let sum: f64 = data
        .queries()
        .zip(&data.neighbors)
        .map(|(query, truth)| recall(&search(index, query, 10, ef), truth[..10].iter().copied()))
        .sum();
    sum / data.neighbors.len() as f64
}

#[test]
fn real_embeddings_built_by_two_threads() {
    let index = real_index(Metric::Cosine);
    let (narrow, wide) = (real_recall(&index, 50), real_recall(&index, 100));
    println!("recall@10: {narrow:.4} at ef 50, {wide:.4} at ef 100; {:?}", index.statistics());
    // A graph in which nodes of upper layers are badly linked in the lower layers has a lower recall.
    assert!(wide >= 0.997, "recall@10 at ef 100 is {wide}");
    assert!(narrow >= 0.988, "recall@10 at ef 50 is {narrow}");
}

/// Mean recall of the ten nearest at ef 100; ids are positions in `vectors`.
fn mean_recall(index: &Hnsw, vectors: &[Vec<f32>], queries: &[Vec<f32>]) -> f64 {
    let of_one = |query: &Vec<f32>| {
        let stored = (0..).zip(vectors.iter().map(Vec::as_slice));
        let truth = brute_force(index.metric(), stored, query, 10);
        recall(&search(index, query, 10, 100), truth.iter().map(|row| row.id))
    };
    queries.iter().map(of_one).sum::<f64>() / queries.len() as f64
}

#[test]
fn every_metric_on_clustered_vectors() {
    let metrics = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
    for (quantization, metric) in QUANTIZATIONS.into_iter().flat_map(|q| metrics.map(|metric| (q, metric))) {
        let vectors = clustered(3_000, 24, 40, 7);
        let index = Hnsw::new(HnswParameters { quantization, ..HnswParameters::new(24, metric) });
        for (id, vector) in (0..).zip(&vectors) {
            index.put(id, vector);
        }
        let queries = clustered(100, 24, 40, 8);
        let mean = mean_recall(&index, &vectors, &queries);
        let enough = match (quantization, metric) {
            // One bit per component is imprecise for 24 components.
            (Quantization::Bits1, _) => 0.85,
            // The inner product of vectors of different lengths is not a metric, and recall suffers from
            // that.
            (_, Metric::InnerProduct) => 0.93,
            _ => 0.98,
        };
        assert!(mean >= enough, "{metric:?}, {quantization:?}: {mean}");
    }
}

#[test]
fn vectors_far_from_the_origin() {
    for (metric, offset) in [(Metric::L2, 10.0), (Metric::L2, 1_000.0), (Metric::Cosine, 2.0)] {
        for quantization in [Quantization::Bits4, Quantization::Bits8] {
            let [vectors, queries] = [(3_000, 7), (100, 8)].map(|(count, seed)| {
                let mut vectors = clustered(count, 64, 40, seed);
                vectors.iter_mut().flatten().for_each(|x| *x += offset);
                vectors
            });
            let index = Hnsw::new(HnswParameters { quantization, ..HnswParameters::new(64, metric) });
            (0..).zip(&vectors).for_each(|(id, vector)| index.put(id, vector));
            let mean = mean_recall(&index, &vectors, &queries);
            assert!(mean >= 0.98, "{metric:?} {offset} {quantization:?}: {mean}");
        }
    }
}

/// The vector moves the centre of the codes so far that squared distances to it are infinite.
#[test]
fn one_huge_vector_among_the_first_ones() {
    let mut vectors = clustered(3_000, 64, 40, 7);
    vectors[500].fill(1e22);
    let queries = clustered(100, 64, 40, 8);
    for (metric, enough) in [(Metric::L2, 0.98), (Metric::InnerProduct, 0.9)] {
        for quantization in QUANTIZATIONS {
            let index = Hnsw::new(HnswParameters { quantization, ..HnswParameters::new(64, metric) });
            (0..).zip(&vectors).for_each(|(id, vector)| index.put(id, vector));
            let mean = mean_recall(&index, &vectors, &queries);
            assert!(mean >= enough, "{metric:?} {quantization:?}: {mean}");
            for (id, vector) in (0..).zip(&vectors).skip(1_000).step_by(50) {
                let own = index.distance(id, vector).expect("inserted").into();
                let within = index.search_range(&RangeRequest::new(bytes_of(vector), own)).expect("fits");
                assert!(within.neighbors.iter().any(|row| row.id == id), "{metric:?} {quantization:?}");
            }
        }
    }
}

/// Codes do not distinguish vectors within a cluster, so a walk by codes does not find the way between
/// clusters.
#[test]
fn more_effort_finds_no_less_in_tight_clusters_inserted_one_after_another() {
    let centres = clustered(30, 96, 30, 3);
    let noise = clustered(3_000, 96, 3_000, 4);
    let row = |(at, noise): (usize, &Vec<f32>)| -> Vec<f32> {
        centres[at / 100].iter().zip(noise).map(|(centre, noise)| 30.0 * centre + 0.01 * noise).collect()
    };
    let vectors: Vec<Vec<f32>> = noise.iter().enumerate().map(row).collect();
    let build = |quantization| {
        let index = Hnsw::new(HnswParameters { quantization, ..HnswParameters::new(96, Metric::L2) });
        (0..).zip(&vectors).for_each(|(id, vector)| index.put(id, vector));
        index
    };
    let [coded, floats] = [Quantization::Bits4, Quantization::None].map(build);
    for ef in [100, 200, 400, 1_000] {
        let found = |index: &Hnsw| {
            let asked = (0..3_000_u32).step_by(13);
            let finds =
                |&id: &u32| search(index, &vectors[id as usize], 10, ef).iter().any(|row| row.id == id);
            asked.filter(finds).count()
        };
        let [with, without] = [found(&coded), found(&floats)];
        assert!(with + 2 >= without, "ef {ef}: {with} with codes, {without} without");
    }
}
