//! Local intrinsic dimension: how hard a data set is for a nearest-neighbour graph.
//!
//! A data set of 384 dimensions may be easy (points near a curve) or hopeless (independent noise). What
//! decides is how fast the number of points in a ball grows with its radius, around the locations of the
//! queries. The estimate is the maximum likelihood one from the distances r1 <= ... <= rk to a query's k
//! nearest rows (Levina and Bickel 2004; Amsaleg et al., KDD 2015): -1 / mean(ln(ri / rk)).

use rayon::prelude::*;

use super::truth::Distances;
use super::{Dataset, DatasetMetric};

/// The number of neighbours that the estimate uses; 100 is customary.
pub const NEIGHBORS: usize = 100;

/// The local intrinsic dimension around each query of a data set, summarised.
#[derive(Clone, Copy, Debug)]
pub struct IntrinsicDimension {
    pub mean: f64,
    pub median: f64,
    pub p90: f64,
}

/// Estimates from the `NEIGHBORS` nearest rows of each query. `None` if no query has two rows at different
/// distances.
pub fn estimate(dataset: &Dataset) -> Option<IntrinsicDimension> {
    let answers = dataset.exact_neighbors(NEIGHBORS.min(dataset.base.rows()));
    let distances = Distances::new(&dataset.base, dataset.metric);
    let mut estimates: Vec<f64> = (0..dataset.queries.rows())
        .into_par_iter()
        .filter_map(|query| {
            let distance = distances.from(dataset.queries.row(query));
            let radii: Vec<f64> =
                answers[query].iter().map(|&row| radius(dataset.metric, distance(row).into())).collect();
            around_one(&radii)
        })
        .collect();
    estimates.sort_by(f64::total_cmp);
    let count = estimates.len();
    (count > 0).then(|| IntrinsicDimension {
        mean: estimates.iter().sum::<f64>() / count as f64,
        median: estimates[count / 2],
        p90: estimates[count * 9 / 10],
    })
}

/// The distance, as servers reply it, from a query to its `rank`-th nearest row; the median over all queries.
pub fn median_distance(dataset: &Dataset, rank: usize) -> Option<f32> {
    let distances = Distances::new(&dataset.base, dataset.metric);
    let answers = dataset.exact_neighbors(rank);
    let at_rank =
        |query: usize| Some(distances.from(dataset.queries.row(query))(*answers[query].get(rank - 1)?));
    let mut seen: Vec<f32> = (0..dataset.queries.rows()).filter_map(at_rank).collect();
    seen.sort_by(f32::total_cmp);
    seen.get(seen.len() / 2).copied()
}

/// The estimate from the radii of one query's neighbours, ascending. Copies of the query itself are ignored,
/// because they do not show growth.
fn around_one(radii: &[f64]) -> Option<f64> {
    let largest = *radii.last()?;
    let logarithms: Vec<f64> = radii.iter().filter(|&&r| r > 1e-6).map(|r| (r / largest).ln()).collect();
    let sum: f64 = logarithms.iter().sum();
    (sum < 0.0).then(|| -(logarithms.len() as f64) / sum)
}

/// The Euclidean distance (for cosine: on the unit sphere) that corresponds to a server's distance: the
/// estimate is about radii, and squared radii would halve it. The inner product has no radius; its square
/// root has the same order.
fn radius(metric: DatasetMetric, distance: f64) -> f64 {
    match metric {
        DatasetMetric::L2 | DatasetMetric::Ip => distance.max(0.0).sqrt(),
        DatasetMetric::Cosine => (2.0 * distance).max(0.0).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radii_of_a_ball_give_its_dimension() {
        for dimension in [1.0, 5.0, 20.0] {
            // The i-th of n points in a ball is where the volume inside is i / n of the whole.
            let radii: Vec<f64> =
                (1..=10_000).map(|i| f64::powf(f64::from(i) / 10_000.0, 1.0 / dimension)).collect();
            let estimate = around_one(&radii).unwrap();
            assert!((estimate / dimension - 1.0).abs() < 0.01, "{estimate} for {dimension}");
        }
    }

    #[test]
    fn copies_of_one_point_have_no_dimension() {
        assert_eq!(around_one(&[0.0, 0.0]), None);
        assert_eq!(around_one(&[0.5, 0.5]), None);
        assert_eq!(around_one(&[]), None);
    }
}
