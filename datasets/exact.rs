//! The right answers: all distances of some queries, computed from the definition in `f64`.
//!
//! An index ranks by distances in the precision of its elements. Two rows whose distances differ by less than
//! the error of those are interchangeable, and so are copies: everything here is counted by distance, with
//! `slack`.

use crate::DataMetric;

/// The error of a distance that is summed in single precision, relative to the sum of the magnitudes.
const ERROR: f64 = 1e-6;
/// The same for a cosine, whose vectors have unit length. Such a distance is a difference of numbers near
/// one.
const COSINE_ERROR: f64 = 3e-7;

/// All distances from some queries to the live rows.
pub struct Exact {
    metric: DataMetric,
    dimension: usize,
    queries: Vec<f32>,
    /// Live ids, ascending.
    live: Vec<u32>,
    /// One table for each query, by row; infinite for a row that is not live.
    distances: Vec<Vec<f64>>,
    /// The distances of the live ids alone, ascending.
    sorted: Vec<Vec<f64>>,
    /// For each query, the length that the error of an inner product is relative to: its own length times
    /// that of the longest row.
    lengths: Vec<f64>,
}

impl Exact {
    /// Computes rows x queries distances. `rows` and `queries` consist of vectors of `dimension` components.
    pub fn new(metric: DataMetric, dimension: usize, rows: &[f32], live: &[u32], queries: &[f32]) -> Self {
        let count = rows.len() / dimension;
        let norm = |vector: &[f32]| dot(vector, vector).sqrt();
        let norms: Vec<f64> = rows.chunks_exact(dimension).map(norm).collect();
        let longest = live.iter().map(|&id| norms[id as usize]).fold(0.0, f64::max);
        let mut exact = Self {
            metric,
            dimension,
            queries: queries.to_vec(),
            live: live.to_vec(),
            distances: Vec::new(),
            sorted: Vec::new(),
            lengths: Vec::new(),
        };
        for query in queries.chunks_exact(dimension) {
            let query_norm = norm(query);
            let mut all = vec![f64::INFINITY; count];
            for &id in live {
                let row = &rows[id as usize * dimension..][..dimension];
                all[id as usize] = distance(metric, query, row, query_norm * norms[id as usize]);
            }
            let mut sorted: Vec<f64> = live.iter().map(|&id| all[id as usize]).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            exact.distances.push(all);
            exact.sorted.push(sorted);
            exact.lengths.push(query_norm * longest);
        }
        exact
    }

    /// The number of queries.
    pub fn len(&self) -> usize {
        self.distances.len()
    }

    pub fn is_empty(&self) -> bool {
        self.distances.is_empty()
    }

    pub fn query(&self, query: usize) -> &[f32] {
        &self.queries[query * self.dimension..][..self.dimension]
    }

    /// The live ids, ascending.
    pub fn live(&self) -> &[u32] {
        &self.live
    }

    /// The distance from a query to an id; infinite if the id is not live.
    pub fn distance(&self, query: usize, id: u32) -> f64 {
        self.distances[query].get(id as usize).copied().unwrap_or(f64::INFINITY)
    }

    /// The largest difference between a distance that an index computes and the one here.
    pub fn slack(&self, query: usize, distance: f64) -> f64 {
        match self.metric {
            DataMetric::L2 => ERROR * distance,
            DataMetric::Ip => ERROR * (self.lengths[query] + distance.abs()),
            DataMetric::Cosine => COSINE_ERROR,
        }
    }

    /// The share of the `k` nearest live ids that is among the first `k` of `found`: each id at no larger
    /// distance than the k-th true one counts, and counts once.
    pub fn recall(&self, query: usize, found: &[u32], k: usize) -> f64 {
        let sorted = &self.sorted[query];
        self.share(
            query,
            found,
            k.min(sorted.len()),
            sorted.get(k.min(sorted.len()).wrapping_sub(1)).copied(),
        )
    }

    /// The same if only the ids in `allowed` may be returned; an id that is not allowed counts as not found.
    pub fn recall_among(&self, query: usize, found: &[u32], k: usize, allowed: &[u32]) -> f64 {
        let mut distances: Vec<f64> = allowed.iter().map(|&id| self.distance(query, id)).collect();
        distances.retain(|distance| distance.is_finite());
        let wanted = k.min(distances.len());
        distances.sort_unstable_by(f64::total_cmp);
        let found: Vec<u32> = found.iter().copied().filter(|id| allowed.binary_search(id).is_ok()).collect();
        self.share(query, &found, wanted, distances.get(wanted.wrapping_sub(1)).copied())
    }

    fn share(&self, query: usize, found: &[u32], wanted: usize, farthest: Option<f64>) -> f64 {
        let Some(farthest) = farthest else { return 1.0 };
        let bound = farthest + self.slack(query, farthest);
        let mut good: Vec<u32> = found.iter().copied().take(wanted).collect();
        good.retain(|&id| self.distance(query, id) <= bound);
        good.sort_unstable();
        good.dedup();
        good.len() as f64 / wanted as f64
    }

    /// A radius that contains at least `count` live ids, and about as many. It is between two distances that
    /// differ by more than their error, so that it is unambiguous which ids are within it.
    pub fn radius(&self, query: usize, count: usize) -> f64 {
        let sorted = &self.sorted[query];
        let mut at = count.clamp(1, sorted.len()) - 1;
        while at + 1 < sorted.len() && sorted[at + 1] - sorted[at] <= 4.0 * self.slack(query, sorted[at + 1])
        {
            at += 1;
        }
        match sorted.get(at + 1) {
            Some(next) => (sorted[at] + next) / 2.0,
            None => sorted[at] + 4.0 * self.slack(query, sorted[at]).max(f64::from(f32::MIN_POSITIVE)),
        }
    }

    /// The number of live ids within a radius.
    pub fn within(&self, query: usize, radius: f64) -> usize {
        self.sorted[query].partition_point(|&distance| distance <= radius)
    }

    /// If the query is the vector of this live id: the number of ids that are as near to it as the id itself,
    /// which are the id and its copies. `None` if others are nearer, as longer vectors are under the inner
    /// product.
    pub fn copies(&self, query: usize, id: u32) -> Option<usize> {
        let distance = self.distance(query, id);
        let slack = self.slack(query, distance);
        let nearest = self.sorted[query].first()?;
        (distance - slack <= *nearest).then(|| self.within(query, distance + slack))
    }
}

fn distance(metric: DataMetric, a: &[f32], b: &[f32], norms: f64) -> f64 {
    match metric {
        DataMetric::L2 => sum_over(a, b, |a, b| (a - b) * (a - b)),
        DataMetric::Ip => 1.0 - dot(a, b),
        DataMetric::Cosine if norms == 0.0 => 1.0,
        DataMetric::Cosine => 1.0 - dot(a, b) / norms,
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum_over(a, b, |a, b| a * b)
}

/// In several sums, so that no addition waits for the previous one.
fn sum_over(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    const LANES: usize = 8;
    let term = |a: f32, b: f32| term(f64::from(a), f64::from(b));
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(&a, &b)| term(a, b)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows at 0, 1, -1, 2 and 9, the last of which is not live; the query is at 0.
    fn line() -> Exact {
        Exact::new(DataMetric::L2, 1, &[0.0, 1.0, -1.0, 2.0, 9.0], &[0, 1, 2, 3], &[0.0])
    }

    #[test]
    fn rows_as_near_as_the_last_true_neighbour_count_once() {
        let exact = line();
        assert_eq!(exact.recall(0, &[0, 2], 2), 1.0);
        assert_eq!(exact.recall(0, &[0, 1], 2), 1.0);
        assert_eq!(exact.recall(0, &[0, 0], 2), 0.5);
        assert_eq!(exact.recall(0, &[0, 3], 2), 0.5);
        assert_eq!(exact.recall(0, &[3, 2, 1, 0, 4], 9), 1.0, "only four are live");
        assert_eq!(exact.recall(0, &[4, 0], 1), 0.0, "only the first k count");
    }

    #[test]
    fn filters_leave_fewer_neighbours() {
        let exact = line();
        assert_eq!(exact.recall_among(0, &[3], 2, &[3, 4]), 1.0, "the other one is not live");
        assert_eq!(exact.recall_among(0, &[0, 1], 2, &[1, 3]), 0.5, "zero is not allowed");
        assert_eq!(exact.recall_among(0, &[], 2, &[4]), 1.0, "nothing is allowed and live");
    }

    #[test]
    fn a_radius_is_between_distances() {
        let exact = line();
        assert_eq!((exact.radius(0, 1), exact.within(0, exact.radius(0, 1))), (0.5, 1));
        assert_eq!(exact.within(0, exact.radius(0, 2)), 3, "two are at the same distance");
        assert_eq!(exact.within(0, exact.radius(0, 100)), 4);
    }

    #[test]
    fn copies_are_counted_where_a_vector_is_nearest_to_itself() {
        let rows = [1.0, 2.0, 2.0];
        let l2 = Exact::new(DataMetric::L2, 1, &rows, &[0, 1, 2], &rows);
        assert_eq!((l2.copies(0, 0), l2.copies(1, 1), l2.copies(2, 2)), (Some(1), Some(2), Some(2)));
        let ip = Exact::new(DataMetric::Ip, 1, &rows, &[0, 1, 2], &rows);
        assert_eq!(
            (ip.copies(0, 0), ip.copies(1, 1)),
            (None, Some(2)),
            "longer vectors are nearer to the shorter ones"
        );
    }

    #[test]
    fn the_zero_vector_is_at_a_right_angle_to_everything() {
        let exact = Exact::new(DataMetric::Cosine, 2, &[0.0, 0.0, 3.0, 0.0], &[0, 1], &[1.0, 0.0]);
        assert_eq!((exact.distance(0, 0), exact.distance(0, 1)), (1.0, 0.0));
        assert_eq!(exact.distance(0, 7), f64::INFINITY);
    }
}
