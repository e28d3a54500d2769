//! Threads that insert, replace, remove and search at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use engramdb_vector::{
    Element, Flat, Hnsw, HnswParameters, Metric, Neighbor, Quantization, SearchRequest, VectorIndex,
    bytes_of, distance,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::data::{Floats, Only, QUANTIZATIONS, assert_whole, clustered, search};

const IDS: u32 = 400;
const VERSIONS: usize = 8;
const DIMENSION: usize = 20;
/// The minimum number of steps of each writer, and of searches meanwhile.
const STEPS: usize = 3_000;
const SEARCHES: usize = 10;
const METRIC: Metric = Metric::Cosine;

/// An id that no writer changes.
const UNTOUCHED: u32 = 0;

/// Checks that each row has the distance of some version of its id, and that the requested number of rows is
/// returned. True if the search walked a graph.
fn check_search(
    index: &dyn VectorIndex,
    versions: &[Vec<f32>],
    query: &[f32],
    filter: Option<&Only>,
) -> bool {
    let filter = filter.map(|filter| filter as &dyn engramdb_vector::Filter);
    let request = SearchRequest { filter, ..SearchRequest::new(bytes_of(query), 20, 40) };
    let outcome = index.search(&request).expect("fits");
    let rows = outcome.neighbors;
    assert!(rows.is_sorted());
    // A quarter of the ids is never removed, so there are always enough rows, whatever the writers do.
    assert_eq!(rows.len(), 20);
    let mut ids: Vec<u32> = rows.iter().map(|row| row.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "each id is returned once");
    for row in rows {
        assert!(
            (row.id as usize) < versions.len() / VERSIONS
                && request.filter.is_none_or(|filter| filter.allows(row.id))
        );
        let is_version = |version: usize| {
            let vector = &versions[row.id as usize * VERSIONS + version];
            (distance(METRIC, query, vector) - row.distance as f32).abs() < 1e-5
        };
        assert!((0..VERSIONS).any(is_version), "id {} never had distance {}", row.id, row.distance);
    }
    outcome.visited > 0
}

/// An id that no thread changes is found. (A walk with other neighbours on its way can miss it while most of
/// a small graph is being replaced.)
fn check_untouched(index: &dyn VectorIndex, versions: &[Vec<f32>]) {
    let only = Only(vec![UNTOUCHED]);
    let vector = &versions[UNTOUCHED as usize * VERSIONS];
    let request = SearchRequest { filter: Some(&only), ..SearchRequest::new(bytes_of(vector), 1, 40) };
    let rows = index.search(&request).expect("fits").neighbors;
    assert!(matches!(rows[..], [Neighbor { id: UNTOUCHED, distance }] if distance < 1e-5), "{rows:?}");
}

/// Returns the number of filtered searches that walked a graph.
fn stress(index: &dyn VectorIndex, ids: u32) -> usize {
    let versions = clustered(ids as usize * VERSIONS, DIMENSION, 60, 51);
    for id in 0..ids {
        index.put(id, &versions[id as usize * VERSIONS]);
    }
    let (is_enough, done, searches) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    let walks = AtomicUsize::new(0);
    let thirds = Only((0..ids).step_by(3).collect());
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|thread| {
                let (versions, is_enough) = (&versions, &is_enough);
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(thread);
                    let mut steps = 0;
                    while steps < STEPS || !is_enough.load(Ordering::Relaxed) {
                        steps += 1;
                        let id = random.random_range(UNTOUCHED + 1..ids);
                        if id % 4 != 0 && random.random_bool(0.4) {
                            index.remove(id);
                        } else {
                            let version = random.random_range(0..VERSIONS);
                            index.put(id, &versions[id as usize * VERSIONS + version]);
                        }
                    }
                })
            })
            .collect();
        let searchers = [0, 1].map(|thread| {
            let (versions, done, searches, thirds, walks) = (&versions, &done, &searches, &thirds, &walks);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(100 + thread);
                while !done.load(Ordering::Relaxed) {
                    let query = &versions[random.random_range(0..versions.len())];
                    let filter = random.random_bool(0.5).then_some(thirds);
                    check_untouched(index, versions);
                    let has_walked = check_search(index, versions, query, filter);
                    walks.fetch_add(usize::from(has_walked && filter.is_some()), Ordering::Relaxed);
                    searches.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        // The writers go on until enough searches ran beside them, however the threads are scheduled.
        while searches.load(Ordering::Relaxed) < SEARCHES
            && !searchers.iter().any(|searcher| searcher.is_finished())
        {
            thread::yield_now();
        }
        is_enough.store(true, Ordering::Relaxed);
        let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.expect("no writer panics"));
    });
    let rows = search(index, &versions[UNTOUCHED as usize * VERSIONS], 20, 40);
    assert!(
        rows.iter().any(|row| row.id == UNTOUCHED),
        "a walk finds it once the writers have ended: {rows:?}"
    );
    let live = (0..ids).filter(|&id| index.contains(id)).count();
    assert_eq!(index.len(), live);
    walks.into_inner()
}

#[test]
fn the_graph_is_right_while_threads_write_and_search() {
    for quantization in QUANTIZATIONS {
        let index = Hnsw::new(HnswParameters { quantization, ..HnswParameters::new(DIMENSION, METRIC) });
        // With codes, unless the quantization has none.
        stress(&index, 4 * IDS);
        assert_whole(&index);
        assert!(index.compact(), "no other thread is left to wait for");
        assert_eq!(index.statistics().deleted, 0);
        assert_whole(&index);
        check_search(
            &index,
            &clustered(4 * IDS as usize * VERSIONS, DIMENSION, 60, 51),
            &[1.0; DIMENSION],
            None,
        );
    }
}

#[test]
fn the_first_codes_are_made_while_threads_write_and_search() {
    const COUNT: u32 = 3_000;
    let vectors = clustered(COUNT as usize, DIMENSION, 60, 55);
    for quantization in QUANTIZATIONS {
        let index = Hnsw::new(HnswParameters { quantization, ..HnswParameters::new(DIMENSION, METRIC) });
        let found = |id: u32| {
            let vector = &vectors[id as usize];
            search(&index, vector, 1, 100).first().is_some_and(|row| row.id == id)
        };
        let written = AtomicUsize::new(0);
        thread::scope(|scope| {
            for third in 0..3 {
                let (index, vectors, written) = (&index, &vectors, &written);
                scope.spawn(move || {
                    for id in (third..COUNT).step_by(3) {
                        index.put(id, &vectors[id as usize]);
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                while written.load(Ordering::Relaxed) < COUNT as usize {
                    let rows = search(&index, &vectors[7], 10, 20);
                    assert!(rows.is_sorted());
                    for row in rows {
                        let expected = distance(METRIC, &vectors[7], &vectors[row.id as usize]);
                        assert!((expected - row.distance as f32).abs() < 1e-5, "{quantization:?}");
                    }
                }
            });
        });
        let missing = (0..COUNT).filter(|&id| !found(id)).count();
        // One bit per component is imprecise for 20 components.
        let most = if quantization == Quantization::Bits1 { 300 } else { 10 };
        assert!(missing <= most, "{quantization:?}: {missing}");
    }
}

#[test]
fn filtered_walks_are_right_while_threads_write() {
    // Large enough, and M small enough, for a walk to be cheaper than a scan of a third.
    let index = Hnsw::new(HnswParameters { m: 4, ..HnswParameters::new(DIMENSION, METRIC) });
    let walks = stress(&index, 10 * IDS);
    assert!(walks > 0, "no filtered search walked");
    assert_whole(&index);
}

#[test]
fn the_flat_index_is_right_while_threads_write_and_search() {
    stress(&Flat::new(Element::F32, DIMENSION, METRIC), IDS);
}

#[test]
fn an_emptied_graph_is_filled_again_by_several_threads() {
    let vectors = clustered(300, DIMENSION, 20, 52);
    let index = Hnsw::new(HnswParameters::new(DIMENSION, METRIC));
    for round in 0..20 {
        thread::scope(|scope| {
            for thread in 0..3 {
                let (index, vectors) = (&index, &vectors);
                scope.spawn(move || {
                    for (id, vector) in (0..).zip(vectors).filter(|(id, _)| id % 3 == thread) {
                        index.put(id, vector);
                    }
                });
            }
        });
        let found =
            (0..).zip(&vectors).filter(|&(id, vector)| search(&index, vector, 1, 20)[0].id == id).count();
        assert!(found >= 297, "round {round}: {found} of 300");
        (0..300).for_each(|id| assert!(index.remove(id)));
        assert!(round % 2 == 0 || index.compact());
    }
}

#[test]
fn a_flat_index_scanned_by_several_threads_is_right_while_it_changes() {
    // 18 MB: enough for a helper, if there is a second core.
    const LARGE: u32 = 12_000;
    const LARGE_DIMENSION: usize = 384;
    let versions = clustered(2 * LARGE as usize, LARGE_DIMENSION, 500, 52);
    let version = |id: u32, second: bool| &versions[2 * id as usize + usize::from(second)];
    let index = Flat::new(Element::F32, LARGE_DIMENSION, METRIC);
    (0..LARGE).for_each(|id| index.put(id, version(id, false)));
    let done = AtomicBool::new(false);
    let change = |remainder: u32| {
        let mut random = StdRng::seed_from_u64(remainder.into());
        while !done.load(Ordering::Relaxed) {
            let id = random.random_range(0..LARGE / 4) * 4 + remainder;
            match random.random_bool(0.3) {
                true => _ = index.remove(id),
                false => index.put(id, version(id, random.random_bool(0.5))),
            }
        }
    };
    let check = |query: &Vec<f32>| {
        let rows = search(&index, query, 20, 20);
        assert!(rows.len() == 20 && rows.is_sorted());
        for row in &rows {
            let is_version = |second| {
                (distance(METRIC, query, version(row.id, second)) - row.distance as f32).abs() < 1e-5
            };
            assert!(is_version(false) || is_version(true) && row.id % 4 < 2, "{row:?}");
        }
        // An id that no thread changes is found, if fewer than twenty others are nearer with either vector.
        let is_touched = |id: u32| id % 4 < 2;
        let nearest = |id: u32| {
            let of = |second| f64::from(distance(METRIC, query, version(id, second)));
            let distance = if is_touched(id) { of(false).min(of(true)) } else { of(false) };
            Neighbor { id, distance }
        };
        let mut all: Vec<Neighbor> = (0..LARGE).map(nearest).collect();
        all.sort_unstable();
        for Neighbor { id, .. } in all.drain(..20).filter(|row| !is_touched(row.id)) {
            assert!(rows.iter().any(|row| row.id == id), "{id} is missing");
        }
    };
    thread::scope(|scope| {
        let writers = [0, 1].map(|remainder| scope.spawn(move || change(remainder)));
        let queries = clustered(40, LARGE_DIMENSION, 500, 53);
        let checked = scope.spawn(move || queries.iter().for_each(check)).join();
        done.store(true, Ordering::Relaxed);
        checked.expect("every search is right");
        writers.into_iter().for_each(|writer| writer.join().expect("a writer does not panic"));
    });
    // No pin is left, neither of searching threads nor of helpers: all removed slots can be reused.
    let slots = index.statistics().slots;
    (0..LARGE).for_each(|id| index.put(id, version(id, true)));
    assert!(index.statistics().slots <= slots + 1);
    assert!(index.statistics().deleted <= 1);
}
