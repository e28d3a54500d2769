//! Exact nearest neighbours by a scan of all rows, over all cores.
//!
//! Recall is measured against this, so it takes no short cuts: every row is compared with every query in
//! float32, and ties go to the lower row number. Distances come from the vector crate's kernels, which are
//! tested against plain loops there.

use engramdb_vector::distance;
use rayon::prelude::*;

use super::{DatasetMetric, Matrix};

/// Row numbers of each query's nearest neighbours, nearest first.
pub type Answers = Vec<Vec<u32>>;

/// The `k` nearest rows of `base` for each query; fewer if fewer rows exist or are `allowed`.
///
/// `allowed` restricts the answer to those rows, as a filter does.
pub fn exact(
    base: &Matrix<f32>,
    queries: &Matrix<f32>,
    metric: DatasetMetric,
    k: usize,
    allowed: Option<&[u32]>,
) -> Answers {
    let distances = Distances::new(base, metric);
    queries
        .values()
        .par_chunks_exact(queries.columns())
        .map(|query| distances.nearest(query, k, allowed))
        .collect()
}

/// Distances from queries to the rows of a matrix; values that depend on the rows alone are computed once.
pub struct Distances<'a> {
    base: &'a Matrix<f32>,
    metric: DatasetMetric,
    /// One over the length of each row; empty if the metric does not need it.
    inverse_lengths: Vec<f32>,
}

impl<'a> Distances<'a> {
    pub fn new(base: &'a Matrix<f32>, metric: DatasetMetric) -> Self {
        let inverse_lengths = match metric {
            DatasetMetric::Cosine => {
                base.values().par_chunks_exact(base.columns()).map(inverse_length).collect()
            }
            DatasetMetric::L2 | DatasetMetric::Ip => Vec::new(),
        };
        Self { base, metric, inverse_lengths }
    }

    /// A function from row number to the distance between `query` and that row.
    pub fn from<'s>(&'s self, query: &'s [f32]) -> impl Fn(u32) -> f32 + 's {
        let scale = if self.metric == DatasetMetric::Cosine { inverse_length(query) } else { 1.0 };
        move |row| {
            let vector = self.base.row(row as usize);
            match self.metric {
                DatasetMetric::L2 => distance(engramdb_vector::Metric::L2, query, vector),
                DatasetMetric::Ip => 1.0 - dot(query, vector),
                DatasetMetric::Cosine => {
                    1.0 - dot(query, vector) * scale * self.inverse_lengths[row as usize]
                }
            }
        }
    }

    /// The `k` nearest of the `allowed` rows (all rows if `None`), nearest first.
    pub fn nearest(&self, query: &[f32], k: usize, allowed: Option<&[u32]>) -> Vec<u32> {
        let distance = self.from(query);
        let all = 0..u32::try_from(self.base.rows()).expect("row numbers are 32-bit");
        let mut found: Vec<(f32, u32)> = match allowed {
            Some(rows) => rows.iter().map(|&row| (distance(row), row)).collect(),
            None => all.map(|row| (distance(row), row)).collect(),
        };
        let nearer = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if k < found.len() {
            found.select_nth_unstable_by(k, nearer);
            found.truncate(k);
        }
        found.sort_unstable_by(nearer);
        found.into_iter().map(|(_, row)| row).collect()
    }
}

/// Zero for the zero vector, so that its cosine distance to every vector is one.
fn inverse_length(vector: &[f32]) -> f32 {
    let length = dot(vector, vector).sqrt();
    if length > 0.0 { 1.0 / length } else { 0.0 }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    1.0 - distance(engramdb_vector::Metric::InnerProduct, a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four points on a line and one far off it.
    fn base() -> Matrix<f32> {
        Matrix::new(vec![0.0, 1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 5.0, 0.0], 2)
    }

    #[test]
    fn each_metric_orders_rows_its_own_way() {
        let queries = Matrix::new(vec![0.0, 2.9], 2);
        assert_eq!(exact(&base(), &queries, DatasetMetric::L2, 3, None), [[2, 1, 3]]);
        assert_eq!(exact(&base(), &queries, DatasetMetric::Ip, 2, None), [[3, 2]]);
        // All rows of the line have cosine one: ties go to the lower row.
        let queries = Matrix::new(vec![0.0, 2.0], 2);
        assert_eq!(exact(&base(), &queries, DatasetMetric::Cosine, 5, None), [[0, 1, 2, 3, 4]]);
    }

    #[test]
    fn a_filter_restricts_the_answer_and_may_shorten_it() {
        let queries = Matrix::new(vec![0.0, 2.9], 2);
        assert_eq!(exact(&base(), &queries, DatasetMetric::L2, 3, Some(&[4, 0])), [[0, 4]]);
        assert_eq!(exact(&base(), &queries, DatasetMetric::L2, 9, None)[0].len(), 5);
    }

    #[test]
    fn distances_equal_those_of_servers() {
        let base = Matrix::new((0..19).map(|value| value as f32).collect(), 19);
        let query: Vec<f32> = (0..19).map(|value| value as f32 + 0.5).collect();
        assert_eq!(Distances::new(&base, DatasetMetric::L2).from(&query)(0), 19.0 * 0.25);
        assert_eq!(Distances::new(&base, DatasetMetric::Ip).from(&query)(0), 1.0 - (2109.0 + 85.5));
        assert!(Distances::new(&base, DatasetMetric::Cosine).from(base.row(0))(0).abs() < 1e-6);
        let zero = Matrix::new(vec![0.0; 19], 19);
        assert_eq!(Distances::new(&zero, DatasetMetric::Cosine).from(&query)(0), 1.0);
    }
}
