//! A saved graph gives the same answers as before, and a damaged one is refused.

use engramdb_vector::{
    Hnsw, HnswParameters, LoadError, Metric, Quantization, RangeRequest, Recoding, VectorIndex, bytes_of,
    distance, fuzz_load,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::data::{Floats, QUANTIZATIONS, assert_whole, clustered, loaded, search};

/// A graph with a history: replaced, removed and freed slots.
fn with_history(metric: Metric, quantization: Quantization, count: usize) -> Hnsw {
    let parameters = HnswParameters { m: 8, seed: 5, quantization, ..HnswParameters::new(12, metric) };
    let index = Hnsw::new(parameters);
    for (at, vector) in (0_u32..).zip(clustered(2 * count, 12, 20, 61)) {
        index.put(at % count as u32, &vector);
        if at % 7 == 0 {
            index.remove(at / 3);
        }
    }
    if quantization == Quantization::None {
        // Loaded deleted nodes would lack the vectors that walks read.
        assert!(index.compact());
    }
    index
}

fn saved(index: &Hnsw) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.save(&mut bytes).expect("memory takes everything");
    bytes
}

/// With this many ids there are codes.
const CODED: usize = 2_000;

fn has_codes(bytes: &[u8]) -> bool {
    bytes[52] == 1
}

#[test]
fn a_loaded_graph_gives_the_same_answers_and_accepts_changes() {
    let metrics = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
    for (quantization, metric) in QUANTIZATIONS.into_iter().flat_map(|q| metrics.map(|metric| (q, metric))) {
        let index = with_history(metric, quantization, CODED);
        let bytes = saved(&index);
        assert_eq!((bytes.len() % 64, has_codes(&bytes)), (0, quantization != Quantization::None));
        let wrapped = [&bytes[..], b"what follows"].concat();
        let loaded = loaded(&wrapped, &index);
        assert_eq!((loaded.parameters(), loaded.len()), (index.parameters(), index.len()));
        assert_eq!(loaded.statistics().deleted, index.statistics().deleted);
        let queries = clustered(50, 12, 20, 62);
        for query in &queries {
            assert_eq!(search(&loaded, query, 10, 40), search(&index, query, 10, 40));
            let radius = search(&index, query, 10, 40)[9].distance;
            let request = RangeRequest::new(bytes_of(query), radius);
            let found = loaded.search_range(&request).expect("fits").neighbors;
            assert!(found.len() >= 10 && found.iter().all(|row| row.distance <= radius), "{metric:?}");
        }
        for (id, vector) in (0..).zip(&queries) {
            loaded.put(id, vector);
            assert!(search(&loaded, vector, 10, 40).len() == 10);
            assert_eq!(loaded.distance(id, vector), Some(distance(metric, vector, vector)));
        }
        assert!(loaded.compact());
    }
}

#[test]
fn recomputed_codes_are_saved_and_loaded() {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let index = with_history(metric, Quantization::Bits4, CODED);
        let moved = |vector: &[f32]| vector.iter().map(|x| x + 30.0).collect::<Vec<f32>>();
        for (id, vector) in (0..).zip(clustered(CODED, 12, 20, 63)) {
            index.put(id, &moved(&vector));
        }
        assert_eq!(index.recode(&|| true), Recoding::Done, "{metric:?}");
        let bytes = saved(&index);
        assert!(has_codes(&bytes));
        let loaded = loaded(&bytes, &index);
        for query in clustered(50, 12, 20, 62) {
            let query = moved(&query);
            assert_eq!(search(&loaded, &query, 10, 40), search(&index, &query, 10, 40));
        }
        assert_eq!(loaded.recode(&|| true), Recoding::AsGood, "{metric:?}");
        assert_whole(&loaded);
    }
}

#[test]
fn only_ids_with_restored_vectors_are_present() {
    for (quantization, count) in QUANTIZATIONS.into_iter().flat_map(|q| [(q, 600), (q, CODED)]) {
        let index = with_history(Metric::L2, quantization, count);
        let bytes = saved(&index);
        let loading = Hnsw::load(&&bytes[..]).expect("what was saved can be loaded");
        assert_eq!(loading.len(), index.len());
        let ids: Vec<u32> = (0..count as u32).filter(|&id| index.contains(id)).collect();
        for &id in &ids {
            let vector = index.floats(id).expect("it is there");
            let other: Vec<f32> = vector.iter().map(|x| x + 1.0).collect();
            assert!(loading.restore(id, bytes_of(&other)).is_none(), "another vector");
            assert!(loading.restore(id, bytes_of(&vector[1..])).is_none(), "a shorter vector");
            if id % 3 != 0 {
                let placed = loading.restore(id, bytes_of(&vector)).expect("the same vector");
                assert_eq!(placed.as_bytes(), bytes_of(&vector));
                let again = loading.restore(id, bytes_of(&vector)).expect("the same vector once more");
                assert!(std::ptr::eq(again.as_bytes(), placed.as_bytes()), "the vector is stored once");
            }
            if id % 3 == 2 {
                loading.forget(id);
                if id % 2 == 0 {
                    loading.restore(id, bytes_of(&vector)).expect("restored once more");
                }
            }
        }
        let loaded = loading.finish();
        let is_wanted = |id: u32| id % 3 == 1 || id % 6 == 2;
        assert!(ids.iter().all(|&id| loaded.contains(id) == is_wanted(id)));
        let found = ids.iter().filter(|&&id| {
            loaded.floats(id).is_some_and(|vector| search(&loaded, &vector, 1, 40)[0].id == id)
        });
        assert!(found.count() + 3 >= loaded.len(), "walks work without the others");
        assert_whole(&loaded);
    }
}

#[test]
fn an_empty_graph_can_be_saved() {
    let empty = Hnsw::new(HnswParameters::new(4, Metric::Cosine));
    let loaded = loaded(&saved(&empty), &empty);
    assert_eq!(loaded.len(), 0);
    loaded.put(3, &[1.0; 4]);
    assert_eq!(search(&loaded, &[1.0; 4], 3, 3).len(), 1);
}

#[test]
fn a_graph_is_saved_while_others_write() {
    let index = with_history(Metric::Cosine, Quantization::Bits4, 500);
    let vectors = clustered(500, 12, 20, 63);
    std::thread::scope(|scope| {
        for half in [0, 1] {
            let (index, vectors) = (&index, &vectors);
            scope.spawn(move || {
                for (id, vector) in (0_u32..).zip(vectors).filter(|(id, _)| id % 2 == half) {
                    index.put(id, vector);
                    index.remove(id / 2);
                }
            });
        }
        for _ in 0..5 {
            let loaded = loaded(&saved(&index), &index);
            assert!(loaded.len() >= 10 && search(&loaded, &vectors[0], 10, 40).len() == 10);
        }
    });
}

#[test]
fn every_cut_and_every_flipped_byte_is_refused() {
    assert!(matches!(Hnsw::load(&&b"ENGRHNSX"[..]), Err(LoadError::Io(_))));
    assert!(matches!(Hnsw::load(&&[0; 64][..]), Err(LoadError::Magic)));
    for count in [60, CODED] {
        let bytes = saved(&with_history(Metric::Cosine, Quantization::Bits4, count));
        assert_eq!(has_codes(&bytes), count == CODED);
        let step = bytes.len().div_ceil(1_000);
        for length in (0..bytes.len()).step_by(step) {
            assert!(Hnsw::load(&&bytes[..length]).is_err(), "cut at {length}");
        }
        let mut damaged = bytes.clone();
        for at in (0..bytes.len()).step_by(step) {
            damaged[at] ^= 1 << (at % 8);
            assert!(Hnsw::load(&&damaged[..]).is_err(), "flipped at {at}");
            damaged[at] = bytes[at];
        }
    }
}

#[test]
fn damage_that_checksums_would_not_catch_never_panics() {
    let small = saved(&with_history(Metric::Cosine, Quantization::Bits4, 40));
    let coded = saved(&with_history(Metric::Cosine, Quantization::Bits4, CODED));
    let mut random = StdRng::seed_from_u64(71);
    for bytes in [&small; 9].into_iter().chain([&coded]).cycle().take(2_000) {
        let mut damaged = bytes.clone();
        for _ in 0..random.random_range(1..4) {
            // Half of the damage is in the header, which determines how the rest is read.
            let end = if random.random_bool(0.5) { 64 } else { damaged.len() };
            let at = random.random_range(8..end);
            damaged[at] = random.random();
        }
        damaged.truncate(random.random_range(0..2 * damaged.len()).max(64));
        fuzz_load(&damaged);
    }
}
