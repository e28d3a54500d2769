//! Checks that the neighbours in a data set are the nearest by its metric. Recall against other neighbours is
//! meaningless, and nothing else would reveal the mistake.

use super::truth::Distances;
use super::{DataError, Dataset, DatasetMetric};

/// The number of queries checked, evenly spread.
const QUERIES: usize = 8;
/// The number of neighbours checked for each.
const NEIGHBORS: usize = 10;
/// The share of neighbours that must be right: distances in files are rounded, and ties are cut at an
/// arbitrary position.
const SHARE: f64 = 0.9;
const TOLERANCE: f32 = 1e-3;

/// The metric by which the given neighbours are the nearest: the data set's own if possible, else the first
/// other one. `None` if there are no neighbours, or no metric matches.
pub(super) fn fitting(dataset: &Dataset) -> Option<DatasetMetric> {
    let others = [DatasetMetric::Cosine, DatasetMetric::L2, DatasetMetric::Ip]
        .into_iter()
        .filter(|&other| other != dataset.metric);
    std::iter::once(dataset.metric).chain(others).find(|&metric| share(dataset, metric) >= Some(SHARE))
}

/// Refuses a data set whose neighbours are not the nearest by its metric.
pub(super) fn check(dataset: &Dataset) -> Result<(), DataError> {
    let (Some(own), name) = (share(dataset, dataset.metric), dataset.name.clone()) else { return Ok(()) };
    if own >= SHARE {
        return Ok(());
    }
    let word = |metric: DatasetMetric| metric.redis_name().to_ascii_lowercase();
    Err(match fitting(dataset) {
        Some(other) => DataError::WrongMetric { name, metric: word(dataset.metric), other: word(other) },
        None => {
            DataError::WrongNeighbors { name, metric: word(dataset.metric), percent: (own * 100.0) as u32 }
        }
    })
}

/// The share of the given neighbours that are as near as the true ones. `None` if none are given.
fn share(dataset: &Dataset, metric: DatasetMetric) -> Option<f64> {
    let count = dataset.queries.rows();
    let distances = Distances::new(&dataset.base, metric);
    let (mut right, mut all) = (0, 0);
    for place in 0..QUERIES.min(count) {
        let query = place * count / QUERIES.min(count);
        let given = dataset.given(query);
        let given = &given[..given.len().min(NEIGHBORS)];
        let allowed = dataset.filtered.as_ref().and_then(|filtered| filtered.allowed(query));
        let vector = dataset.queries.row(query);
        let nearest = distances.nearest(vector, given.len(), allowed.as_deref());
        let distance = distances.from(vector);
        let Some(bound) = nearest.last().map(|&row| distance(row)) else { continue };
        let bound = bound + TOLERANCE * bound.abs().max(TOLERANCE);
        right += given.iter().filter(|&&row| distance(row) <= bound).count();
        all += given.len();
    }
    (all > 0).then(|| right as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Matrix, synthetic};

    /// Rows of very different length, so that each metric has different neighbours.
    fn dataset(neighbors_by: DatasetMetric) -> Dataset {
        let mut dataset = synthetic::generate(300, 8, 1);
        let scaled = dataset.base.iter().enumerate();
        let scaled =
            scaled.flat_map(|(row, vector)| vector.iter().map(move |value| value * (1 + row % 7) as f32));
        dataset.base = Matrix::new(scaled.collect(), 8);
        dataset.metric = neighbors_by;
        let neighbors = dataset.exact_neighbors(20).concat();
        Dataset { neighbors: Some(Matrix::new(neighbors, 20)), ..dataset }
    }

    #[test]
    fn neighbors_determine_their_metric() {
        for metric in [DatasetMetric::L2, DatasetMetric::Ip, DatasetMetric::Cosine] {
            let dataset = dataset(metric);
            check(&dataset).unwrap();
            for other in [DatasetMetric::L2, DatasetMetric::Ip, DatasetMetric::Cosine]
                .into_iter()
                .filter(|&other| other != metric)
            {
                let wrong = Dataset { metric: other, ..dataset.clone() };
                assert_eq!(fitting(&wrong), Some(metric));
                let text = check(&wrong).unwrap_err().to_string();
                let word = metric.redis_name().to_ascii_lowercase();
                assert!(text.contains(&format!("--metric {word}")), "{text}");
            }
        }
    }

    #[test]
    fn neighbors_of_other_rows_are_refused_and_none_are_not_judged() {
        let mut dataset = dataset(DatasetMetric::L2);
        dataset.neighbors = Some(Matrix::new(vec![7; 500 * 20], 20));
        assert_eq!(fitting(&dataset), None);
        let text = check(&dataset).unwrap_err().to_string();
        assert!(text.contains("by none of l2, ip and cosine"), "{text}");
        dataset.neighbors = None;
        assert!(check(&dataset).is_ok() && fitting(&dataset).is_none());
    }
}
