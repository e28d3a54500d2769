//! Vectors to test with: the committed real embeddings, and seeded random ones.

use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::OnceLock;

use engramdb_vector::{
    Filter, Hnsw, HnswParameters, Metric, Neighbor, Quantization, SearchRequest, VectorIndex, bytes_of,
    distance,
};
use half::f16;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Methods for indexes of floats, which convert from and to bytes.
pub trait Floats {
    fn put(&self, id: u32, vector: &[f32]);
    fn floats(&self, id: u32) -> Option<Vec<f32>>;
    fn distance(&self, id: u32, query: &[f32]) -> Option<f32>;
}

impl<I: VectorIndex + ?Sized> Floats for I {
    fn put(&self, id: u32, vector: &[f32]) {
        self.insert(id, bytes_of(vector)).expect("it fits");
    }

    fn floats(&self, id: u32) -> Option<Vec<f32>> {
        let vector = self.vector(id)?;
        Some(vector.as_bytes().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }

    fn distance(&self, id: u32, query: &[f32]) -> Option<f32> {
        let rows = self.distances(bytes_of(query), &[(id, self.vector(id)?)]).ok()?;
        Some(rows[0].distance as f32)
    }
}

/// A graph of these vectors, inserted by two threads at once.
pub fn built_by_two(parameters: HnswParameters, vectors: &[(u32, &[u8])]) -> Hnsw {
    let index = Hnsw::new(parameters);
    let insert = |part: &[(u32, &[u8])]| {
        part.iter().for_each(|&(id, vector)| index.insert(id, vector).expect("it fits"));
    };
    std::thread::scope(|scope| {
        let (first, second) = vectors.split_at(vectors.len() / 2);
        scope.spawn(|| insert(first));
        insert(second);
    });
    index
}

/// A graph loaded from `bytes`, which gets its vectors from another.
pub fn loaded(bytes: &[u8], vectors: &Hnsw) -> Hnsw {
    let loading = Hnsw::load(&bytes).expect("a whole graph");
    for id in 0..4 * vectors.len() as u32 {
        if let Some(vector) = vectors.vector(id) {
            loading.restore(id, vector.as_bytes());
        }
    }
    loading.finish()
}

/// Every quantization.
pub const QUANTIZATIONS: [Quantization; 4] =
    [Quantization::None, Quantization::Bits8, Quantization::Bits4, Quantization::Bits1];

/// 10,000 sentences as unit-length embeddings, 500 queries, and the 100 true neighbours of each by cosine.
pub struct RealData {
    pub dimension: usize,
    pub base: Vec<f32>,
    pub queries: Vec<f32>,
    pub neighbors: Vec<Vec<u32>>,
}

const REAL: &str = "rustdoc-minilm-10k";

impl RealData {
    pub fn get() -> &'static RealData {
        static DATA: OnceLock<RealData> = OnceLock::new();
        DATA.get_or_init(|| {
            let (base, dimension) = read_f16(&format!("{REAL}/base.npy"));
            let (queries, _) = read_f16(&format!("{REAL}/queries.npy"));
            let (bytes, columns) = read_npy(&format!("{REAL}/neighbors.npy"), "<i4");
            let rows: Vec<u32> = bytes.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)).collect();
            RealData {
                dimension,
                base,
                queries,
                neighbors: rows.chunks(columns).map(<[u32]>::to_vec).collect(),
            }
        })
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.base.chunks(self.dimension)
    }

    pub fn queries(&self) -> impl Iterator<Item = &[f32]> {
        self.queries.chunks(self.dimension)
    }
}

/// The rows of a file in `datasets/`, and their dimension.
pub fn read_f16(name: &str) -> (Vec<f32>, usize) {
    let (bytes, columns) = read_npy(name, "<f2");
    (bytes.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two).to_f32()).collect(), columns)
}

/// The bytes of a two-dimensional .npy file (version 1: magic, version, header length, a Python dictionary as
/// text), and its number of columns.
fn read_npy(name: &str, element: &str) -> (Vec<u8>, usize) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    #[expect(
        clippy::disallowed_methods,
        reason = "this crate does not depend on the engine, and a test may read its data"
    )]
    let bytes = fs::read(folder.join(name)).expect("the data set is committed");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..header_end]).expect("the header is text");
    assert!(header.contains(element), "{header}");
    let shape = header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).expect("a shape");
    let columns = shape.split(',').nth(1).expect("two dimensions").trim().parse().expect("a number");
    (bytes[header_end..].to_vec(), columns)
}

/// `count` vectors around `clusters` centres: uniform noise alone would have no meaningful neighbourhoods.
pub fn clustered(count: usize, dimension: usize, clusters: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = StdRng::seed_from_u64(seed);
    let centres: Vec<Vec<f32>> =
        (0..clusters).map(|_| (0..dimension).map(|_| random.random_range(-1.0..1.0)).collect()).collect();
    (0..count)
        .map(|at| centres[at % clusters].iter().map(|x| x + random.random_range(-0.4..0.4)).collect())
        .collect()
}

/// The true `k` nearest, computed from the definition.
pub fn brute_force<'a>(
    metric: Metric,
    vectors: impl Iterator<Item = (u32, &'a [f32])>,
    query: &[f32],
    k: usize,
) -> Vec<Neighbor> {
    let mut all: Vec<Neighbor> = vectors
        .map(|(id, vector)| Neighbor { id, distance: distance(metric, query, vector).into() })
        .collect();
    all.sort_unstable();
    all.truncate(k);
    all
}

pub fn search(index: &dyn VectorIndex, query: &[f32], k: usize, ef: usize) -> Vec<Neighbor> {
    index.search(&SearchRequest::new(bytes_of(query), k, ef)).expect("a query that fits").neighbors
}

/// The share of the true neighbours that was found.
pub fn recall(found: &[Neighbor], truth: impl IntoIterator<Item = u32>) -> f64 {
    let truth: Vec<u32> = truth.into_iter().collect();
    truth.iter().filter(|&&id| found.iter().any(|row| row.id == id)).count() as f64 / truth.len() as f64
}

/// A filter with a list of allowed ids, ascending.
pub struct Only(pub Vec<u32>);

impl Filter for Only {
    fn allows(&self, id: u32) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    fn cardinality(&self) -> Option<usize> {
        Some(self.0.len())
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        let first = self.0.partition_point(|id| id < ids.start());
        self.0[first..].iter().copied().take_while(|id| id <= ids.end()).for_each(visit);
    }
}

/// Loading checks every link (none may lead to a free slot, or to a slot that is not in the layer), every
/// state and the entry: a graph that can be loaded again is consistent.
pub fn assert_whole(index: &Hnsw) {
    let mut bytes = Vec::new();
    index.save(&mut bytes).expect("memory takes everything");
    let loaded = loaded(&bytes, index);
    assert_eq!(loaded.len(), index.len());
}
