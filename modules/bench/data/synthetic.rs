//! A seeded generator of vectors that are as hard to search as real embeddings.
//!
//! Independent noise is too hard (all points are equally far from each other) and well separated clusters are
//! too easy (any graph finds the cluster, and the rest is a short walk). Real embeddings are between: they
//! form topics of very different size which overlap, and within a topic they vary along many directions, a
//! few of them strongly. So:
//!
//! ```text
//! latent = centre of a cluster + SPREAD x a normal draw,
//!          both with deviation 1/sqrt(i) along latent direction i
//! vector = unit(random basis x unit-scaled latent + NOISE x a normal draw in all dimensions)
//! ```
//! with `LATENT` directions, sqrt(rows) clusters, and a cluster chosen by the square of a uniform draw (few
//! large, many small). Queries are further draws of the same kind; no query is a row.
//!
//! The decisive figure is the local intrinsic dimension around the queries (`intrinsic`, 100 neighbours), as
//! `engramdb bench dataset --dataset ... --intrinsic-dimension` prints it:
//!
//! | data set               | mean | median | p90  | distance 1st, 10th, 100th | recall@10, ef 20, 50, 100 |
//! |------------------------|------|--------|------|---------------------------|---------------------------|
//! | rustdoc-minilm-10k     | 19.9 | 19.0   | 29.5 | 0.31, 0.47, 0.60          | 0.974, 0.995, 0.999       |
//! | synthetic:10000:384:1  | 17.1 | 16.6   | 23.8 | 0.32, 0.40, 0.54          | 0.982, 0.997, 1.000       |
//! | synthetic:100000:384:1 | 21.5 | 20.5   | 30.6 | 0.29, 0.35, 0.45          |                           |
//!
//! (The recall is that of hnsw_rs 0.3.5 with M 16 and ef_construction 200, as an independent engine.)
//!
//! The same name gives the same bits on every machine and with any number of threads: each row draws from its
//! own stream, and only IEEE operations that are exactly defined are used (no exp, ln or cos, whose last bit
//! differs between C libraries). For this reason normal draws are sums of four uniform ones, which end at 3.5
//! deviations.

use rayon::prelude::*;

use super::{Dataset, DatasetMetric, Matrix};
use engramdb_datasets::SplitMix64;

/// The number of queries of each generated set.
pub const QUERIES: usize = 500;

/// Directions that points vary along, before noise.
pub(super) const LATENT: usize = 128;
/// Deviation within a cluster divided by that of the cluster centres: at 1.1 clusters overlap.
const SPREAD: f32 = 1.1;
/// Length of the noise divided by that of the rest.
const NOISE: f32 = 0.25;

/// Generates `rows` unit vectors to index and `QUERIES` query vectors, for the cosine metric.
pub fn generate(rows: usize, dimensions: usize, seed: u64) -> Dataset {
    let generator = Generator::new(rows, dimensions, seed);
    let numbers: Vec<usize> = (0..rows).collect();
    Dataset {
        name: format!("synthetic:{rows}:{dimensions}:{seed}"),
        metric: DatasetMetric::Cosine,
        base: generator.rows(&numbers),
        queries: generator.queries(QUERIES),
        neighbors: None,
        filtered: None,
    }
}

/// The parameters that all rows of one set share. It can also generate further rows of the same distribution.
pub struct Generator {
    dimensions: usize,
    seed: u64,
    /// `LATENT` directions, each of about unit length; nearly orthogonal, because they are random.
    basis: Matrix<f32>,
    /// Deviation along each direction; the squares sum to one.
    deviations: [f32; LATENT],
    centers: Matrix<f32>,
}

impl Generator {
    /// The distribution of the set with this name.
    pub fn new(rows: usize, dimensions: usize, seed: u64) -> Self {
        let mut deviations: [f32; LATENT] = std::array::from_fn(|i| 1.0 / ((i + 1) as f32).sqrt());
        let length = dot(&deviations, &deviations).sqrt();
        deviations.iter_mut().for_each(|deviation| *deviation /= length);

        let mut random = SplitMix64::new(seed, Stream::Basis as u64, 0);
        let scale = 1.0 / (dimensions as f32).sqrt();
        let basis = (0..LATENT * dimensions).map(|_| random.normal() * scale).collect();

        let clusters = rows.isqrt().max(1);
        let mut random = SplitMix64::new(seed, Stream::Centers as u64, 0);
        let centers = (0..clusters * LATENT).map(|at| random.normal() * deviations[at % LATENT]).collect();
        Self {
            dimensions,
            seed,
            basis: Matrix::new(basis, dimensions),
            deviations,
            centers: Matrix::new(centers, LATENT),
        }
    }

    /// Rows by their numbers. Numbers below the set's count give its rows; larger ones give new rows.
    pub fn rows(&self, numbers: &[usize]) -> Matrix<f32> {
        self.draw(Stream::BaseRow, numbers)
    }

    /// `count` queries; the first `QUERIES` of them are the set's own.
    pub fn queries(&self, count: usize) -> Matrix<f32> {
        self.draw(Stream::Query, &Vec::from_iter(0..count))
    }

    fn draw(&self, stream: Stream, numbers: &[usize]) -> Matrix<f32> {
        let mut values = vec![0.0; numbers.len() * self.dimensions];
        values.par_chunks_exact_mut(self.dimensions).zip(numbers).for_each(|(row, &number)| {
            self.fill(&mut SplitMix64::new(self.seed, stream as u64, number as u64), row)
        });
        Matrix::new(values, self.dimensions)
    }

    fn fill(&self, random: &mut SplitMix64, row: &mut [f32]) {
        let position = random.uniform();
        let cluster = (position * position * self.centers.rows() as f32) as usize;
        for ((center, deviation), direction) in
            self.centers.row(cluster).iter().zip(self.deviations).zip(self.basis.iter())
        {
            let latent = center + SPREAD * deviation * random.normal();
            row.iter_mut().zip(direction).for_each(|(value, part)| *value += latent * part);
        }
        let noise = NOISE / (self.dimensions as f32).sqrt();
        row.iter_mut().for_each(|value| *value += noise * random.normal());
        let length = dot(row, row).sqrt();
        row.iter_mut().for_each(|value| *value /= length);
    }
}

/// The inner product, summed in a fixed order: the order of the kernels depends on the machine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// The purpose of a stream of random numbers; no two purposes share a stream.
#[derive(Clone, Copy)]
enum Stream {
    Basis = 1,
    Centers = 2,
    BaseRow = 3,
    Query = 4,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::intrinsic;

    #[test]
    fn the_same_name_always_gives_the_same_bits() {
        let dataset = generate(50, 16, 7);
        assert_eq!(dataset.base, generate(50, 16, 7).base);
        assert_ne!(dataset.base, generate(50, 16, 8).base);
        let digest = crate::data::npy::write_vectors(&dataset.base);
        assert_eq!(&crate::data::manifest::sha256_hex(&digest)[..16], "c32935fafd75a2e6");
    }

    #[test]
    fn queries_are_no_rows_and_all_are_unit_vectors() {
        let dataset = generate(300, 32, 1);
        for query in dataset.queries.iter() {
            assert!((dot(query, query) - 1.0).abs() < 1e-4);
            assert!(dataset.base.iter().all(|row| row != query));
        }
    }

    #[test]
    fn it_is_as_hard_as_embeddings() {
        let measured = intrinsic::estimate(&generate(4_000, 384, 3)).expect("no row is a copy of a query");
        assert!((15.0..25.0).contains(&measured.mean), "{measured:?}");
    }
}
