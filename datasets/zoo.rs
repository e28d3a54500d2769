//! One seeded generator for each kind of data that is known to mislead a vector index.
//!
//! Every row draws from its own random stream (`SplitMix64`), and the shape that all rows share from another
//! one, so that the same kind, sizes and seed give the same bits on every machine. Only operations that IEEE
//! 754 defines exactly are used; `normal` is the sum of four uniform draws, which ends at 3.5 deviations.
//!
//! In the descriptions `normal(d)` is a vector of `d` independent normal draws, and a fraction is a share of
//! the requested rows.

use crate::random::SplitMix64;
use crate::{DataMetric, Set};

/// A kind of data.
pub struct DataKind {
    /// The name in options and reports.
    pub name: &'static str,
    /// Its rows and queries, in one line.
    pub about: &'static str,
    /// The metrics for which the kind is difficult.
    pub metrics: &'static [DataMetric],
    make: fn(&Draws) -> Set,
}

impl DataKind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<&'static DataKind> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Generates `rows` rows (at least 20), and `queries` queries that are not among them.
    pub fn generate(&self, rows: usize, queries: usize, seed: u64) -> Set {
        (self.make)(&Draws { rows: rows.max(20), queries, seed })
    }
}

const L2: &[DataMetric] = &[DataMetric::L2];
const COSINE: &[DataMetric] = &[DataMetric::Cosine];
const IP: &[DataMetric] = &[DataMetric::Ip];
const L2_COSINE: &[DataMetric] = &[DataMetric::L2, DataMetric::Cosine];
const ALL: &[DataMetric] = &DataMetric::ALL;

/// All kinds; those that were measured first come first.
pub const KINDS: &[DataKind] = &[
    DataKind {
        name: "drift",
        about: "the first 1/9 normal(128), the rest normal(128) + 20; queries like the rest",
        metrics: L2_COSINE,
        make: drift,
    },
    DataKind {
        name: "clusters",
        about: "30 centres 3 normal(128); rows are a centre + 0.3 normal",
        metrics: L2,
        make: |draws| clusters(draws, 3.0, 0.3, false),
    },
    DataKind {
        name: "directions",
        about: "60 unit directions in 384 dimensions; rows are one + normal sqrt(0.002 / 384), to unit length",
        metrics: COSINE,
        make: unit_directions,
    },
    DataKind {
        name: "one-large",
        about: "127 components normal, and one 1000 normal",
        metrics: L2,
        make: one_large,
    },
    DataKind {
        name: "copies",
        about: "10/11 the vector of ones, then 1/11 of 5 normal(8); queries like the latter",
        metrics: L2,
        make: |draws| copies(draws, 8),
    },
    DataKind {
        name: "wide-copies",
        about: "as copies, in 128 dimensions, where there are codes",
        metrics: L2_COSINE,
        make: |draws| copies(draws, 128),
    },
    DataKind { name: "zeros", about: "1/11 zero vectors, then normal(64)", metrics: COSINE, make: zeros },
    DataKind {
        name: "copy-groups",
        about: "half normal(64), half in ten groups of copies, mixed; queries are normal(64)",
        metrics: ALL,
        make: copy_groups,
    },
    DataKind {
        name: "outliers",
        about: "normal(96), 1 percent of the rows 100 times as long; queries without the outliers",
        metrics: L2,
        make: outliers,
    },
    DataKind {
        name: "heavy-norms",
        about: "normal(96) times a Pareto draw of exponent 2; queries normal(96)",
        metrics: IP,
        make: heavy_norms,
    },
    DataKind {
        name: "binary",
        about: "128 components 0 or 1, each one of 40 patterns with a tenth of its bits flipped",
        metrics: ALL,
        make: binary,
    },
    DataKind {
        name: "integers",
        about: "128 integers from 0 to 255, skewed to small ones as in SIFT: 100 patterns + 25 normal",
        metrics: L2,
        make: integers,
    },
    DataKind {
        name: "sparse",
        about: "256 components of which 12 at most are not zero, most of them those of one of 20 topics",
        metrics: &[DataMetric::Cosine, DataMetric::Ip],
        make: sparse,
    },
    DataKind { name: "plane", about: "normal(2)", metrics: L2, make: plane },
    DataKind {
        name: "anisotropic",
        about: "128 components of deviation 1/i",
        metrics: L2_COSINE,
        make: anisotropic,
    },
    DataKind {
        name: "two-models",
        about: "in turn two subspaces of 24 dimensions in 192, each with its own mean and scale",
        metrics: L2_COSINE,
        make: two_models,
    },
    DataKind {
        name: "wander",
        about: "normal(128) + a mean that goes 10 away and comes back, four times",
        metrics: L2_COSINE,
        make: wander,
    },
    DataKind {
        name: "foreign-queries",
        about: "as clusters, looser (1 and 0.7); queries are normal(128) + 2, where no row is",
        metrics: ALL,
        make: foreign_queries,
    },
    DataKind {
        name: "sorted",
        about: "30 centres normal(128), rows a centre + 0.5 normal, all of one centre before the next",
        metrics: L2_COSINE,
        make: |draws| clusters(draws, 1.0, 0.5, true),
    },
    DataKind {
        name: "zipf",
        about: "as anisotropic, in 96 dimensions, each row one of rows/2 vectors, chosen by Zipf's law",
        metrics: ALL,
        make: zipf,
    },
    DataKind {
        name: "near-copies",
        about: "100 vectors normal(96); rows are one of them + 1e-6 normal",
        metrics: L2_COSINE,
        make: near_copies,
    },
    DataKind {
        name: "line",
        about: "evenly drawn points on a line through 64 dimensions, far from zero",
        metrics: L2,
        make: line,
    },
    DataKind {
        name: "sphere",
        about: "normal(96) to unit length: no structure that guides a walk",
        metrics: COSINE,
        make: sphere,
    },
    DataKind {
        name: "normal",
        about: "normal(128): what an index is usually tuned on",
        metrics: ALL,
        make: |draws| draws.set(128, |random, _, row| add_normal(random, row, 1.0)),
    },
];

/// The purposes of the random streams; no two purposes share a stream.
const SHAPE_STREAM: u64 = 41;
const ROW_STREAM: u64 = 42;
const QUERY_STREAM: u64 = 43;

/// The sizes and the seed of a set.
struct Draws {
    rows: usize,
    queries: usize,
    seed: u64,
}

/// The vector that is drawn.
#[derive(Clone, Copy)]
struct Place {
    number: usize,
    is_query: bool,
}

impl Draws {
    /// The stream for the shape that all rows share.
    fn shape(&self) -> SplitMix64 {
        SplitMix64::new(self.seed, SHAPE_STREAM, 0)
    }

    /// `count` vectors of normal draws, concatenated.
    fn normal_shapes(&self, count: usize, dimension: usize, deviation: f32) -> Vec<f32> {
        let mut random = self.shape();
        (0..count * dimension).map(|_| deviation * random.normal()).collect()
    }

    /// Rows and queries, each of which `fill` computes from zeros with its own random stream.
    fn set(&self, dimension: usize, fill: impl Fn(&mut SplitMix64, Place, &mut [f32])) -> Set {
        let draw = |count: usize, stream: u64| {
            let mut values = vec![0.0; count * dimension];
            for (number, row) in values.chunks_exact_mut(dimension).enumerate() {
                let place = Place { number, is_query: stream == QUERY_STREAM };
                fill(&mut SplitMix64::new(self.seed, stream, number as u64), place, row);
            }
            values
        };
        Set { dimension, rows: draw(self.rows, ROW_STREAM), queries: draw(self.queries, QUERY_STREAM) }
    }

    /// True for the first `part` of the rows; never for a query.
    fn is_among_first(&self, place: Place, part: f64) -> bool {
        !place.is_query && (place.number as f64) < part * self.rows as f64
    }
}

fn add_normal(random: &mut SplitMix64, row: &mut [f32], deviation: f32) {
    row.iter_mut().for_each(|value| *value += deviation * random.normal());
}

fn add(row: &mut [f32], vector: &[f32], factor: f32) {
    row.iter_mut().zip(vector).for_each(|(value, part)| *value += factor * part);
}

/// Summed one by one: the order of a sum determines its last bits.
fn to_unit_length(row: &mut [f32]) {
    let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|value| *value /= length);
    }
}

/// The vector with this number among some of equal length.
fn nth(vectors: &[f32], dimension: usize, number: usize) -> &[f32] {
    &vectors[number * dimension..][..dimension]
}

fn drift(draws: &Draws) -> Set {
    draws.set(128, |random, place, row| {
        row.fill(if draws.is_among_first(place, 1.0 / 9.0) { 0.0 } else { 20.0 });
        add_normal(random, row, 1.0);
    })
}

fn clusters(draws: &Draws, centre: f32, spread: f32, sorted: bool) -> Set {
    const CLUSTERS: usize = 30;
    let centres = draws.normal_shapes(CLUSTERS, 128, centre);
    draws.set(128, |random, place, row| {
        let drawn = random.below(CLUSTERS as u64) as usize;
        let number = if sorted && !place.is_query { place.number * CLUSTERS / draws.rows } else { drawn };
        add(row, nth(&centres, 128, number), 1.0);
        add_normal(random, row, spread);
    })
}

fn unit_directions(draws: &Draws) -> Set {
    const DIRECTIONS: usize = 60;
    const DIMENSION: usize = 384;
    let mut directions = draws.normal_shapes(DIRECTIONS, DIMENSION, 1.0);
    directions.chunks_exact_mut(DIMENSION).for_each(to_unit_length);
    let deviation = (0.002 / DIMENSION as f32).sqrt();
    draws.set(DIMENSION, |random, _, row| {
        let number = random.below(DIRECTIONS as u64) as usize;
        add(row, nth(&directions, DIMENSION, number), 1.0);
        add_normal(random, row, deviation);
        to_unit_length(row);
    })
}

fn one_large(draws: &Draws) -> Set {
    draws.set(128, |random, _, row| {
        add_normal(random, row, 1.0);
        row[127] *= 1_000.0;
    })
}

fn copies(draws: &Draws, dimension: usize) -> Set {
    draws.set(dimension, |random, place, row| {
        if draws.is_among_first(place, 10.0 / 11.0) {
            row.fill(1.0);
        } else {
            add_normal(random, row, 5.0);
        }
    })
}

fn zeros(draws: &Draws) -> Set {
    draws.set(64, |random, place, row| {
        if !draws.is_among_first(place, 1.0 / 11.0) {
            add_normal(random, row, 1.0);
        }
    })
}

fn copy_groups(draws: &Draws) -> Set {
    const GROUPS: usize = 10;
    let groups = draws.normal_shapes(GROUPS, 64, 1.0);
    draws.set(64, |random, place, row| {
        let number = random.below(2 * GROUPS as u64) as usize;
        if number < GROUPS && !place.is_query {
            add(row, nth(&groups, 64, number), 1.0);
        } else {
            add_normal(random, row, 1.0);
        }
    })
}

fn outliers(draws: &Draws) -> Set {
    draws.set(96, |random, place, row| {
        let is_outlier = random.below(100) == 0 && !place.is_query;
        add_normal(random, row, if is_outlier { 100.0 } else { 1.0 });
    })
}

fn heavy_norms(draws: &Draws) -> Set {
    draws.set(96, |random, place, row| {
        let length = 1.0 / (1.0 - random.uniform()).sqrt();
        add_normal(random, row, if place.is_query { 1.0 } else { length });
    })
}

fn binary(draws: &Draws) -> Set {
    const PATTERNS: usize = 40;
    let patterns = draws.normal_shapes(PATTERNS, 128, 1.0);
    draws.set(128, |random, _, row| {
        let number = random.below(PATTERNS as u64) as usize;
        for (value, part) in row.iter_mut().zip(nth(&patterns, 128, number)) {
            let is_flipped = random.below(10) == 0;
            *value = f32::from((*part > 0.0) != is_flipped);
        }
    })
}

fn integers(draws: &Draws) -> Set {
    const PATTERNS: usize = 100;
    let mut random = draws.shape();
    let patterns: Vec<f32> = (0..PATTERNS * 128).map(|_| 180.0 * random.uniform().powi(3)).collect();
    draws.set(128, |random, _, row| {
        let number = random.below(PATTERNS as u64) as usize;
        add(row, nth(&patterns, 128, number), 1.0);
        add_normal(random, row, 25.0);
        row.iter_mut().for_each(|value| *value = value.round().clamp(0.0, 255.0));
    })
}

fn sparse(draws: &Draws) -> Set {
    const TOPICS: u64 = 20;
    const DIMENSION: u64 = 256;
    draws.set(DIMENSION as usize, |random, _, row| {
        let topic = random.below(TOPICS);
        for _ in 0..12 {
            // Three of four are among the 24 components of the topic.
            let at = match random.below(4) {
                0 => random.below(DIMENSION),
                _ => (topic * 37 + random.below(24)) % DIMENSION,
            };
            row[at as usize] = 0.1 + random.uniform();
        }
    })
}

fn plane(draws: &Draws) -> Set {
    draws.set(2, |random, _, row| add_normal(random, row, 1.0))
}

fn anisotropic(draws: &Draws) -> Set {
    draws.set(128, |random, _, row| add_anisotropic(random, row))
}

fn add_anisotropic(random: &mut SplitMix64, row: &mut [f32]) {
    row.iter_mut().zip(1..).for_each(|(value, i)| *value += random.normal() / i as f32);
}

fn two_models(draws: &Draws) -> Set {
    const DIMENSION: usize = 192;
    const LATENT: usize = 24;
    // For each model a mean, followed by the directions along which its rows vary.
    let shapes = draws.normal_shapes(2 * (1 + LATENT), DIMENSION, 1.0);
    draws.set(DIMENSION, |random, place, row| {
        let model = place.number % 2;
        let scale = if model == 0 { 1.0 } else { 3.0 };
        let first = model * (1 + LATENT);
        add(row, nth(&shapes, DIMENSION, first), scale * 5.0);
        for direction in 1..=LATENT {
            add(row, nth(&shapes, DIMENSION, first + direction), scale * 0.2 * random.normal());
        }
        add_normal(random, row, scale * 0.1);
    })
}

fn wander(draws: &Draws) -> Set {
    const RETURNS: f32 = 4.0;
    let way = draws.normal_shapes(1, 128, 1.0);
    draws.set(128, |random, place, row| {
        let of = if place.is_query { draws.queries } else { draws.rows };
        let turn = (place.number as f32 / of as f32 * RETURNS).fract();
        let away = 1.0 - (2.0 * turn - 1.0).abs();
        add(row, &way, 10.0 * away);
        add_normal(random, row, 1.0);
    })
}

fn foreign_queries(draws: &Draws) -> Set {
    let rows = clusters(draws, 1.0, 0.7, false).rows;
    let foreign = draws.set(128, |random, _, row| {
        row.fill(2.0);
        add_normal(random, row, 1.0);
    });
    Set { rows, ..foreign }
}

/// A stepped form of Zipf's law: each octave of ranks (1, 2 and 3, 4 to 7, ...) has the same probability. The
/// exact law needs a power, whose last bits differ between machines.
fn zipf_rank(random: &mut SplitMix64, ranks: usize) -> usize {
    let octaves = ranks.max(1).ilog2() + 1;
    let octave = random.below(u64::from(octaves)) as u32;
    let first = 1_u64 << octave;
    let rank = first + random.below(first);
    (rank as usize - 1).min(ranks - 1)
}

fn zipf(draws: &Draws) -> Set {
    let distinct = (draws.rows / 2).max(1);
    draws.set(96, |random, place, row| {
        let rank = zipf_rank(random, distinct);
        if place.is_query {
            add_anisotropic(random, row);
        } else {
            add_anisotropic(&mut SplitMix64::new(draws.seed, SHAPE_STREAM, 1 + rank as u64), row);
        }
    })
}

fn near_copies(draws: &Draws) -> Set {
    const GROUPS: usize = 100;
    let groups = draws.normal_shapes(GROUPS, 96, 1.0);
    draws.set(96, |random, _, row| {
        add(row, nth(&groups, 96, random.below(GROUPS as u64) as usize), 1.0);
        add_normal(random, row, 1e-6);
    })
}

fn line(draws: &Draws) -> Set {
    let shapes = draws.normal_shapes(2, 64, 1.0);
    draws.set(64, |random, _, row| {
        add(row, nth(&shapes, 64, 0), 10.0);
        add(row, nth(&shapes, 64, 1), 20.0 * random.uniform());
    })
}

fn sphere(draws: &Draws) -> Set {
    draws.set(96, |random, _, row| {
        add_normal(random, row, 1.0);
        to_unit_length(row);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn made(name: &str, rows: usize) -> Set {
        DataKind::named(name).expect("it is in the list").generate(rows, 30, 5)
    }

    /// The number of occurrences of each vector among the rows, the most frequent first.
    fn groups(set: &Set) -> Vec<usize> {
        let mut counts: HashMap<Vec<u32>, usize> = HashMap::new();
        for row in set.rows.chunks(set.dimension) {
            *counts.entry(row.iter().map(|value| value.to_bits()).collect()).or_default() += 1;
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn every_kind_has_the_requested_size_and_finite_components() {
        for kind in KINDS {
            let set = kind.generate(200, 30, 5);
            assert_eq!((set.len(), set.queries.len()), (200, 30 * set.dimension), "{}", kind.name);
            assert!(set.rows.iter().chain(&set.queries).all(|value| value.is_finite()), "{}", kind.name);
            assert!(set == kind.generate(200, 30, 5), "{}: the same again", kind.name);
            assert!(set != kind.generate(200, 30, 6), "{}: another seed", kind.name);
            assert!(!kind.metrics.is_empty());
        }
    }

    #[test]
    fn the_same_name_always_gives_the_same_bits() {
        let sums: Vec<u64> = KINDS
            .iter()
            .map(|kind| {
                let set = kind.generate(40, 5, 1);
                let bits = set.rows.iter().chain(&set.queries).map(|value| u64::from(value.to_bits()));
                bits.fold(0, |sum: u64, bits| sum.rotate_left(5) ^ bits.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            })
            .collect();
        let sum = sums.iter().fold(0, |sum: u64, part| sum.rotate_left(7) ^ part);
        assert_eq!(sum, 0x7a8c_a012_86cd_cbc3, "{sum:#x}");
    }

    #[test]
    fn copies_have_the_described_numbers() {
        assert_eq!(groups(&made("copies", 550))[..2], [500, 1]);
        assert_eq!(groups(&made("zeros", 3_300))[..2], [300, 1]);
        let several = groups(&made("copy-groups", 2_000));
        assert!(several[9] > 60 && several[10] == 1, "{several:?}");
        let natural = groups(&made("zipf", 4_000));
        assert!(natural[0] > 200 && natural[100] > 3 && natural.len() > 900, "{:?}", &natural[..100]);
        assert_eq!(groups(&made("near-copies", 500))[0], 1);
    }

    #[test]
    fn the_mean_moves_where_it_should() {
        let mean = |set: &Set, rows: std::ops::Range<u32>| {
            let count = (rows.len() * set.dimension) as f32;
            rows.map(|row| set.row(row).iter().sum::<f32>()).sum::<f32>() / count
        };
        let drift = made("drift", 900);
        assert!(mean(&drift, 0..100).abs() < 0.2 && (mean(&drift, 100..900) - 20.0).abs() < 0.2);
        let length = |set: &Set, row: u32| set.row(row).iter().map(|value| value * value).sum::<f32>().sqrt();
        let wander = made("wander", 800);
        assert!(length(&wander, 100) > 5.0 * length(&wander, 0), "away after an eighth");
        assert!(length(&wander, 200) < 2.0 * length(&wander, 0), "back after a quarter");
    }
}
