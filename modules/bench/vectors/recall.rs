//! Recall: the share of the true nearest neighbours that an engine found.

use crate::data::Dataset;
use crate::data::truth::{Answers, Distances};

/// Relative tolerance of comparisons of distances: engines sum in another order than the exact scan.
const TOLERANCE: f32 = 1e-4;

/// Mean recall@k over the queries that were answered.
pub fn at_k(dataset: &Dataset, truth: &Answers, answers: &[Option<Vec<u32>>], k: usize) -> f64 {
    mean(&of_each(dataset, truth, answers, k))
}

/// Recall@k of each query that was answered.
///
/// A row counts as found if its own exact distance is no larger than that of the k-th true neighbour, so that
/// rows at equal distance (copies) are interchangeable. A row that is returned twice counts once. If a filter
/// leaves fewer than `k` rows, all of them are a recall of one.
pub fn of_each(dataset: &Dataset, truth: &Answers, answers: &[Option<Vec<u32>>], k: usize) -> Vec<f64> {
    let distances = Distances::new(&dataset.base, dataset.metric);
    let of_one = |query: usize, answer: &[u32]| {
        let expected = &truth[query][..k.min(truth[query].len())];
        let &farthest = expected.last()?;
        let distance = distances.from(dataset.queries.row(query));
        let bound = distance(farthest);
        let bound = bound + TOLERANCE * bound.abs().max(TOLERANCE);
        let mut found: Vec<u32> =
            answer.iter().take(k).copied().filter(|&row| distance(row) <= bound).collect();
        found.sort_unstable();
        found.dedup();
        Some(found.len().min(expected.len()) as f64 / expected.len() as f64)
    };
    let answered = answers.iter().enumerate().filter_map(|(query, answer)| Some((query, answer.as_ref()?)));
    answered.filter_map(|(query, answer)| of_one(query, answer)).collect()
}

/// The recall that 95 percent of the queries reach.
pub fn fifth_percentile(mut recalls: Vec<f64>) -> f64 {
    recalls.sort_unstable_by(f64::total_cmp);
    recalls.get(recalls.len() / 20).copied().unwrap_or_default()
}

/// Zero for an empty slice.
pub fn mean(figures: &[f64]) -> f64 {
    if figures.is_empty() { 0.0 } else { figures.iter().sum::<f64>() / figures.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DatasetMetric, Matrix, truth};

    /// Rows at 0, 1, 1, 2 and 9; the query at 0.
    fn dataset() -> Dataset {
        Dataset {
            name: "line".into(),
            metric: DatasetMetric::L2,
            base: Matrix::new(vec![0.0, 1.0, -1.0, 2.0, 9.0], 1),
            queries: Matrix::new(vec![0.0], 1),
            neighbors: None,
            filtered: None,
        }
    }

    fn recall(answer: &[u32], k: usize) -> f64 {
        let dataset = dataset();
        at_k(&dataset, &dataset.exact_neighbors(k), &[Some(answer.to_vec())], k)
    }

    #[test]
    fn found_neighbors_count_in_any_order_and_once() {
        assert_eq!(recall(&[3, 1, 0, 2], 4), 1.0);
        assert_eq!(recall(&[0, 1, 2, 4], 4), 0.75);
        assert_eq!(recall(&[0, 0, 0, 0], 4), 0.25);
        assert_eq!(recall(&[4, 3], 1), 0.0);
        assert_eq!(recall(&[], 1), 0.0);
        assert_eq!(recall(&[4, 0], 1), 0.0, "only the first k rows count");
    }

    #[test]
    fn rows_at_equal_distance_are_interchangeable() {
        assert_eq!(recall(&[0, 1], 2), 1.0);
        assert_eq!(recall(&[0, 2], 2), 1.0);
    }

    #[test]
    fn all_of_fewer_than_k_rows_are_complete() {
        let dataset = dataset();
        let truth = truth::exact(&dataset.base, &dataset.queries, DatasetMetric::L2, 10, Some(&[3, 4]));
        assert_eq!(at_k(&dataset, &truth, &[Some(vec![3, 4])], 10), 1.0);
        assert_eq!(at_k(&dataset, &truth, &[Some(vec![3])], 10), 0.5);
        assert_eq!(at_k(&dataset, &truth, &[None], 10), 0.0, "nothing was answered");
    }
}
