//! Graphs of real vectors: a loaded graph equals the saved one, and graphs with other histories find as much.

use super::questions::{blob, nearest};
use engramdb_bench::data::{Matrix, npy};
use engramdb_resp::Value;
use engramdb_testkit::instance::{Instance, Kept};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const INDEX: &[u8] = b"idx";
const K: usize = 10;
/// Documents before the snapshot; some of them are changed.
const DOCUMENTS: usize = 1700;
const UPDATED: usize = 100;
const DELETED: usize = 100;
/// Writes after it: new documents, updates, deletes.
const TAIL: [usize; 3] = [150, 75, 75];
/// With all 500 queries: with 100, chance alone causes this difference between two graphs if ef is small.
const RECALL_DIFFERENCE_MAX: f64 = 0.01;
/// The default, and smaller values, with which a graph misses more.
const EF_RUNTIMES: [usize; 3] = [100, 32, 16];

/// An index over rows of the data set, and its expected content.
struct Store {
    instance: Instance,
    base: Matrix<f32>,
    queries: Matrix<f32>,
    /// The row at each key.
    rows: BTreeMap<usize, usize>,
    /// The first row that no document has used.
    next_row: usize,
}

fn read(file: &str) -> Matrix<f32> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/rustdoc-minilm-10k");
    npy::read_vectors(&directory.join(file)).expect("the data set is part of the repository")
}

impl Store {
    fn new() -> Store {
        let (base, queries) = (read("base.npy"), read("queries.npy"));
        let mut instance = super::instance(1);
        let create =
            "FT.CREATE idx PREFIX 1 d: SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 384 DISTANCE_METRIC COSINE";
        let words: Vec<&str> = create.split(' ').collect();
        assert!(!instance.run(&words).reply.is_error(), "{create}");
        Store { instance, base, queries, rows: BTreeMap::new(), next_row: 0 }
    }

    /// Gives the key a vector that no key had before.
    fn put(&mut self, key: usize) {
        let vector = blob(self.base.row(self.next_row));
        let name = format!("d:{key}");
        let reply = self.instance.run(&[b"HSET", name.as_bytes(), b"v", &vector]).reply;
        assert!(reply.as_int().is_some(), "{reply:?}");
        self.rows.insert(key, self.next_row);
        self.next_row += 1;
    }

    fn delete(&mut self, key: usize) {
        let reply = self.instance.run(&["DEL", &format!("d:{key}")]).reply;
        assert_eq!(reply.as_int(), Some(1), "d:{key} was there");
        self.rows.remove(&key);
    }

    /// Every seventh key from `first` on.
    fn some_keys(&self, first: usize, count: usize) -> Vec<usize> {
        let keys: Vec<usize> = self.rows.keys().copied().skip(first).step_by(7).take(count).collect();
        assert_eq!(keys.len(), count, "there are enough keys");
        keys
    }

    fn fill(&mut self) {
        (0..DOCUMENTS).for_each(|key| self.put(key));
        self.some_keys(0, UPDATED).into_iter().for_each(|key| self.put(key));
        self.some_keys(3, DELETED).into_iter().for_each(|key| self.delete(key));
    }

    /// A filled store, with its graph saved and a snapshot taken.
    fn kept() -> Store {
        let mut store = Store::new();
        store.fill();
        store.settle();
        store.instance.export();
        assert!(store.instance.snapshot().created.is_some());
        store
    }

    fn write_tail(&mut self) {
        let [new, updated, deleted] = TAIL;
        (DOCUMENTS..DOCUMENTS + new).for_each(|key| self.put(key));
        self.some_keys(500, updated).into_iter().for_each(|key| self.put(key));
        self.some_keys(901, deleted).into_iter().for_each(|key| self.delete(key));
    }

    /// Waits until the graph has every write.
    fn settle(&mut self) {
        loop {
            let info = self.instance.run(&[b"FT.INFO", INDEX]).reply;
            match info.get("pending_mutations").and_then(Value::as_int).expect("a count") {
                0 => return,
                _ => std::thread::yield_now(),
            }
        }
    }

    fn answers(&mut self, ef: usize) -> Vec<Vec<(Vec<u8>, f64)>> {
        let query = format!("*=>[KNN {K} @v $q EF_RUNTIME {ef} AS d]");
        self.queries.iter().map(|vector| nearest(&mut self.instance, INDEX, &query, vector)).collect()
    }

    /// The true nearest of each query.
    fn exact(&self) -> Vec<BTreeSet<Vec<u8>>> {
        self.queries.iter().map(|query| self.exact_nearest(query)).collect()
    }

    fn exact_nearest(&self, query: &[f32]) -> BTreeSet<Vec<u8>> {
        let nearness = |row: usize| -> f32 {
            let vector = self.base.row(row);
            let norm = vector.iter().map(|component| component * component).sum::<f32>().sqrt();
            vector.iter().zip(query).map(|(left, right)| left * right).sum::<f32>() / norm
        };
        let mut rows: Vec<(f32, usize)> = self.rows.iter().map(|(&key, &row)| (nearness(row), key)).collect();
        rows.sort_by(|left, right| right.0.total_cmp(&left.0));
        rows[..K].iter().map(|(_, key)| format!("d:{key}").into_bytes()).collect()
    }

    /// For each ef, the share of the true nearest that the index finds.
    fn recalls(&mut self, exact: &[BTreeSet<Vec<u8>>]) -> [f64; 3] {
        EF_RUNTIMES.map(|ef| {
            let answers = self.answers(ef);
            assert!(answers.iter().all(|rows| rows.len() == K));
            let found = answers.iter().zip(exact).map(|(rows, exact)| {
                let keys: BTreeSet<&Vec<u8>> = rows.iter().map(|(key, _)| key).collect();
                keys.into_iter().filter(|key| exact.contains(*key)).count()
            });
            found.sum::<usize>() as f64 / (exact.len() * K) as f64
        })
    }
}

#[test]
fn a_graph_loaded_with_an_empty_tail_answers_identically() {
    let mut store = Store::kept();
    let before = store.answers(EF_RUNTIMES[0]);
    let report = store.instance.restart_with(Kept { snapshots: true, derived: true });
    assert!(report.snapshot.is_some() && report.batches == 0, "{report}");
    let nodes = store.rows.len();
    let loaded = format!("{nodes} graph nodes loaded, 0 inserted again, 0 removed");
    assert!(report.modules.concat().contains(&loaded), "{report}");
    assert_eq!(store.answers(EF_RUNTIMES[0]), before, "ids and distances");
}

#[test]
fn recall_does_not_depend_on_how_the_graph_came_about() {
    let mut store = Store::kept();
    store.write_tail();
    store.settle();
    let exact = store.exact();
    let live = store.recalls(&exact);
    let report = store.instance.restart_with(Kept { snapshots: true, derived: true });
    assert_eq!((report.snapshot.is_some(), report.batches), (true, TAIL.iter().sum::<usize>() as u64));
    let [new, updated, deleted] = TAIL;
    let caught_up = format!("nodes loaded, {} being inserted again, {deleted} removed", new + updated);
    assert!(report.modules.concat().contains(&caught_up), "the tail went into the loaded graph: {report}");
    store.settle();
    let snapshot_and_tail = store.recalls(&exact);
    let report = store.instance.restart_with(Kept::default());
    assert!(report.modules.concat().contains("built from"), "{report}");
    let replayed = store.recalls(&exact);
    assert!(live[0] > 0.99 && live[1] > 0.97, "{live:?}");
    for (recalls, way) in [(snapshot_and_tail, "snapshot and tail"), (replayed, "replay")] {
        let close = |(now, live): (&f64, &f64)| (now - live).abs() <= RECALL_DIFFERENCE_MAX;
        assert!(recalls.iter().zip(&live).all(close), "{live:?} live, {recalls:?} after {way}");
    }
    eprintln!(
        "recall@{K} at ef {EF_RUNTIMES:?}: {live:?} live, {snapshot_and_tail:?}, replayed {replayed:?}"
    );
}
