//! The subject of a measurement: a set in one element type under one metric, and an index after a workload
//! over it.

use engramdb_datasets::{Exact, Set, WorkloadStep};
use engramdb_vector::{Hnsw, HnswParameters, VectorError, VectorIndex};

use super::ZooArgs;
use super::options::ZooElement;
use crate::data::{Dataset, DatasetMetric, Matrix};
use crate::error::BenchError;
use crate::vectors::filter::{Attributes, FilterField, Placement, RowFilter};

/// The percentages of rows that filters allow.
pub const PERCENTS: [f64; 4] = [50.0, 10.0, 1.0, 0.1];

/// A set with the right answers to its queries.
pub struct Subject {
    pub kind: String,
    pub metric: DatasetMetric,
    pub element: ZooElement,
    /// Rounded to values of the element type.
    pub set: Set,
    pub steps: Vec<WorkloadStep>,
    pub exact: Exact,
    /// Each with the live ids that it allows, ascending.
    pub filters: Vec<(RowFilter, Vec<u32>)>,
}

impl Subject {
    pub fn new(kind: &str, metric: DatasetMetric, mut set: Set, arguments: &ZooArgs) -> Self {
        let element = arguments.element;
        element.generated().round(&mut [&mut set.rows, &mut set.queries]);
        let rows = set.len() as u32;
        let workload = arguments.workload.generated();
        let live = workload.live(rows, arguments.seed);
        let exact = Exact::new(metric.generated(), set.dimension, &set.rows, &live, &set.queries);
        let filters = filters(metric, &set, &live);
        let steps = workload.steps(rows, arguments.seed);
        Self { kind: kind.to_owned(), metric, element, set, steps, exact, filters }
    }

    /// A vector in the form that the index takes.
    pub fn bytes(&self, vector: &[f32]) -> Vec<u8> {
        self.element.generated().bytes(vector)
    }

    /// The parameters of an index of this set with the default quantization.
    pub fn parameters(&self, arguments: &ZooArgs) -> HnswParameters {
        let default = HnswParameters::of(self.element.library(), self.set.dimension, self.metric.kernel());
        HnswParameters { m: arguments.m, ef_construction: arguments.ef_construction, ..default }
    }

    /// An index after the workload, which one thread executes in order.
    pub fn index(&self, parameters: HnswParameters, mut done: impl FnMut()) -> Result<Hnsw, BenchError> {
        let mut index = Hnsw::new(parameters);
        for &step in &self.steps {
            match step {
                WorkloadStep::Put { id, row } => {
                    index.insert(id, &self.bytes(self.set.row(row))).map_err(refused)?
                }
                WorkloadStep::Remove { id } => _ = index.remove(id),
                WorkloadStep::Restart => index = restarted(&index, self.set.len() as u32)?,
            }
            done();
        }
        Ok(index)
    }
}

pub fn refused(error: VectorError) -> BenchError {
    BenchError::Usage(format!("the index refused a vector: {error}"))
}

/// The index after saving and loading. Its ids are below `ids`.
fn restarted(index: &Hnsw, ids: u32) -> Result<Hnsw, BenchError> {
    let mut bytes = Vec::new();
    index.save(&mut bytes)?;
    let unreadable = |error| BenchError::Usage(format!("the saved index cannot be loaded: {error}"));
    let loading = Hnsw::load(&bytes.as_slice()).map_err(unreadable)?;
    for (id, vector) in (0..ids).filter_map(|id| Some((id, index.vector(id)?))) {
        loading.restore(id, vector.as_bytes());
    }
    Ok(loading.finish())
}

/// Random filters, and filters that allow a neighbourhood.
fn filters(metric: DatasetMetric, set: &Set, live: &[u32]) -> Vec<(RowFilter, Vec<u32>)> {
    let dataset = Dataset {
        name: String::new(),
        metric,
        base: Matrix::new(set.rows.clone(), set.dimension),
        queries: Matrix::new(set.queries.clone(), set.dimension),
        neighbors: None,
        filtered: None,
    };
    let filters: Vec<RowFilter> = [Placement::Random, Placement::Correlated]
        .into_iter()
        .flat_map(|placement| {
            PERCENTS.map(|percent| RowFilter { field: FilterField::Tag, placement, percent })
        })
        .collect();
    let attributes = Attributes::for_filters(&dataset, &filters);
    let allowed = |filter: &RowFilter| {
        let mut rows = attributes.allowed(filter);
        rows.retain(|row| live.binary_search(row).is_ok());
        rows
    };
    filters.into_iter().map(|filter| (filter.clone(), allowed(&filter))).collect()
}
