//! The figures of one index: recall, ranges, filters, and searches for documents by their own vectors.

use engramdb_datasets::Exact;
use engramdb_vector::{Hnsw, RangeRequest, SearchOutcome, SearchRequest, VectorIndex};
use serde::Serialize;

use super::ZooArgs;
use super::subject::{PERCENTS, Subject, refused};
use crate::error::BenchError;
use crate::vectors::filter::Placement;
use crate::vectors::recall::mean;
use crate::vectors::reference::AllowedRows;

/// The beam of searches for documents by their own vectors.
pub const SELF_EF: usize = 200;
/// Rows beyond its copies among which a document may be found.
pub const SELF_SPARE: usize = 10;
/// The beam of searches under filters.
pub const FILTER_EF: usize = 100;
/// RediSearch's default.
const EPSILON: f32 = 0.01;
/// Documents processed at a time: each needs a table of all distances.
const SELF_AT_A_TIME: usize = 50;

/// All figures of one index; those that were not requested are empty or missing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    pub engine: String,
    pub build_seconds: f64,
    pub recall: Vec<Point>,
    pub ranges: Vec<Range>,
    /// The share of the documents that are found by their own vectors.
    pub itself: Option<f64>,
    pub filters: Vec<FilterRecall>,
    /// Searches that returned fewer than k rows although more exist.
    pub short: usize,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    pub ef: usize,
    pub recall: f64,
    /// The mean number of distances per search; not known for other libraries.
    pub evaluated: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Range {
    /// The mean number of rows within the radius.
    pub within: f64,
    /// The share of them that was found.
    pub recall: f64,
    /// Returned rows that are beyond the radius.
    pub beyond: usize,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct FilterRecall {
    pub placement: Placement,
    pub percent: f64,
    pub recall: f64,
}

/// Measures an index.
pub struct Measured<'a> {
    pub subject: &'a Subject,
    pub index: &'a Hnsw,
    pub arguments: &'a ZooArgs,
}

impl Measured<'_> {
    pub fn figures(&self, engine: &str, build_seconds: f64) -> Result<Figures, BenchError> {
        let mut figures = Figures { engine: engine.to_owned(), build_seconds, ..Figures::default() };
        self.recall(&mut figures)?;
        if !self.arguments.recall_only {
            self.ranges(&mut figures)?;
            self.filters(&mut figures)?;
            figures.itself = self.itself()?;
        }
        Ok(figures)
    }

    fn search(
        &self,
        vector: &[f32],
        k: usize,
        ef: usize,
        filter: Option<&AllowedRows>,
    ) -> Result<SearchOutcome, BenchError> {
        let query = self.subject.bytes(vector);
        let filter = filter.map(|allowed| allowed as &dyn engramdb_vector::Filter);
        let request = SearchRequest { filter, ..SearchRequest::new(&query, k, ef) };
        self.index.search(&request).map_err(refused)
    }

    fn recall(&self, figures: &mut Figures) -> Result<(), BenchError> {
        let (exact, k) = (&self.subject.exact, self.arguments.k);
        for &ef in &self.arguments.ef {
            let (mut recalls, mut evaluated) = (Vec::new(), Vec::new());
            for query in 0..exact.len() {
                let outcome = self.search(exact.query(query), k, ef, None)?;
                recalls.push(exact.recall(query, &ids(&outcome), k));
                evaluated.push(outcome.evaluated as f64);
                figures.short += usize::from(outcome.neighbors.len() < k.min(exact.live().len()));
            }
            figures.recall.push(Point { ef, recall: mean(&recalls), evaluated: Some(mean(&evaluated)) });
        }
        Ok(())
    }

    /// Radii that contain about 10 rows, 100 rows, and 10 percent of the rows.
    fn ranges(&self, figures: &mut Figures) -> Result<(), BenchError> {
        let exact = &self.subject.exact;
        for count in [10, 100, exact.live().len() / 10] {
            let (mut recalls, mut within, mut beyond) = (Vec::new(), Vec::new(), 0);
            for place in 0..exact.len() {
                let radius = exact.radius(place, count);
                let query = self.subject.bytes(exact.query(place));
                let request = RangeRequest { epsilon: EPSILON, ..RangeRequest::new(&query, radius) };
                let mut found = ids(&self.index.search_range(&request).map_err(refused)?);
                found.sort_unstable();
                found.dedup();
                let right = found.iter().filter(|&&id| exact.distance(place, id) <= radius).count();
                beyond += found.len() - right;
                within.push(exact.within(place, radius) as f64);
                recalls.push(right as f64 / exact.within(place, radius) as f64);
            }
            figures.ranges.push(Range { within: mean(&within), recall: mean(&recalls), beyond });
        }
        Ok(())
    }

    fn filters(&self, figures: &mut Figures) -> Result<(), BenchError> {
        let (exact, k) = (&self.subject.exact, self.arguments.k);
        for (filter, rows) in &self.subject.filters {
            let allowed = AllowedRows::new(rows.clone(), self.subject.set.len());
            let mut recalls = Vec::new();
            for query in 0..exact.len() {
                let outcome = self.search(exact.query(query), k, FILTER_EF, Some(&allowed))?;
                recalls.push(exact.recall_among(query, &ids(&outcome), k, rows));
                figures.short += usize::from(outcome.neighbors.len() < k.min(rows.len()));
            }
            let (placement, percent) = (filter.placement, filter.percent);
            figures.filters.push(FilterRecall { placement, percent, recall: mean(&recalls) });
        }
        Ok(())
    }

    /// `None` if no document is nearest to its own vector.
    fn itself(&self) -> Result<Option<f64>, BenchError> {
        let mut found = Vec::new();
        for_each_document(self.subject, self.arguments.documents, |id, vector, k| {
            found.push(f64::from(ids(&self.search(vector, k, SELF_EF, None)?).contains(&id)));
            Ok(())
        })?;
        Ok((!found.is_empty()).then(|| mean(&found)))
    }
}

/// Calls `ask` for live ids, evenly spread, with their vectors and the number of rows among which each must
/// be: all that are as near to its vector as it is (its copies), and some more. Ids to whose vectors others
/// are nearer are left out: under the inner product, longer vectors are nearer.
pub fn for_each_document(
    subject: &Subject,
    documents: usize,
    mut visit: impl FnMut(u32, &[f32], usize) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let (set, live) = (&subject.set, subject.exact.live());
    let count = documents.min(live.len());
    let asked: Vec<u32> = (0..count).map(|at| live[at * live.len() / count]).collect();
    for some in asked.chunks(SELF_AT_A_TIME) {
        let vectors: Vec<f32> = some.iter().flat_map(|&id| set.row(id)).copied().collect();
        let exact = Exact::new(subject.metric.generated(), set.dimension, &set.rows, live, &vectors);
        for (place, &id) in some.iter().enumerate() {
            if let Some(copies) = exact.copies(place, id) {
                visit(id, exact.query(place), copies + SELF_SPARE)?;
            }
        }
    }
    Ok(())
}

fn ids(outcome: &SearchOutcome) -> Vec<u32> {
    outcome.neighbors.iter().map(|neighbor| neighbor.id).collect()
}

/// The recall at this ef, if it was requested.
pub fn recall_at(figures: &Figures, ef: usize) -> Option<f64> {
    figures.recall.iter().find(|point| point.ef == ef).map(|point| point.recall)
}

/// The recalls under filters of one placement, by `PERCENTS`.
pub fn filtered(figures: &Figures, placement: Placement) -> [Option<f64>; PERCENTS.len()] {
    PERCENTS.map(|percent| {
        let one = figures.filters.iter().find(|one| one.placement == placement && one.percent == percent);
        one.map(|one| one.recall)
    })
}
