//! FT.HYBRID: documents found by words and documents found by a vector, fused to one list, which then goes
//! through the steps of an aggregation.
//!
//! Each of the two is an FT.SEARCH whose first rows (the window) are ranked: by score, and by distance. The
//! fused list is in the order of the fused scores, and of ids where these are equal. See decision 0046.

mod words;

pub use words::fuzz_hybrid;

use super::cursor::CursorPlace;
use super::pipeline::{FirstColumns, RowPipeline};
use super::request::{Arrangement, SORTED_DEFAULT, StepWords};
use super::scope::ColumnSource;
use super::source::RowReader;
use super::{Aggregation, Shape, Source};
use crate::error::SearchError;
use crate::module::SearchModule;
use crate::schema::metric_name;
use crate::search::plan::Plan;
use crate::search::settled::{FusedScores, PageRow, Settled, SettledDocument};
use crate::search::{PreparedPlan, prepare, searched, styled};
use engramdb_engine::command::{Args, CommandError, Looks, Reply, Stage, WaitingJob};
use engramdb_engine::hashing::HashMap;
use engramdb_engine::store::view::View;
use std::sync::Arc;
use words::{DISTANCE, Fusion, HybridRequest, VectorMethod};

/// Two searches whose rows are fused.
pub struct Fused {
    text: Plan,
    vector: Plan,
    /// The rows of the vector search that are fused.
    vector_rows: usize,
    fusion: Fusion,
    normalise: fn(f64) -> f64,
    /// The searches have waited for a backfill.
    waits: bool,
}

/// FT.HYBRID.
pub fn hybrid(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    styled(view, begin(view, args, reply.is_resp3()))
}

fn begin(view: &View<'_>, args: Args<'_>, is_resp3: bool) -> Result<Stage, SearchError> {
    let module = view.module::<SearchModule>();
    let index = searched(view, args)?;
    let mut request = words::parse(args)?;
    let (window, asked) = (request.window.to_string(), request.asked_rows().to_string());
    // PARAMS, TIMEOUT and FORMAT are those of both searches.
    let shared = request.rest.search.split_off(3);
    let mut text = vec![&b"FT.SEARCH"[..], args.word(1), request.query, b"WITHSCORES", b"LIMIT", b"0"];
    text.push(window.as_bytes());
    text.extend(request.scorer.iter().flat_map(|scorer| [&b"SCORER"[..], scorer]));
    text.extend_from_slice(&shared);
    let vector_query = request.vector_query();
    let mut vector = vec![&b"FT.SEARCH"[..], args.word(1), &vector_query, b"LIMIT", b"0", asked.as_bytes()];
    if matches!(request.vector.method, VectorMethod::Range { .. }) {
        vector.extend([&b"SORTBY"[..], DISTANCE, b"ASC"]);
    }
    vector.extend_from_slice(&shared);
    let text = prepare(view, index, Args::new(&text), is_resp3, None)?;
    let vector = prepare(view, index, Args::new(&vector), is_resp3, None)?;
    let (PreparedPlan { plan: text, backfill }, PreparedPlan { plan: vector, backfill: other }) =
        (text, vector);
    let backfill = backfill.or(other);
    let aggregation = aggregation(module, text, vector, &mut request, backfill.is_some())?;
    let job = aggregation.job();
    Ok(match backfill {
        Some((signal, at_most)) => Stage::Wait(WaitingJob { signal, at_most, job }),
        None => Stage::Offload(job),
    })
}

fn aggregation(
    module: &SearchModule,
    text: Plan,
    vector: Plan,
    request: &mut HybridRequest<'_>,
    waits: bool,
) -> Result<Aggregation, SearchError> {
    let steps = &mut request.rest.steps;
    let is_load = |step: &StepWords<'_>| matches!(step, StepWords::Load(_) | StepWords::LoadAll);
    let mut first: FirstColumns = Vec::new();
    let fused_name = request.fused_alias.unwrap_or(b"__score");
    if !steps.iter().any(is_load) {
        first.push((b"__key".to_vec(), ColumnSource::Key));
        first.push((fused_name.to_vec(), ColumnSource::FusedScore));
    } else if request.fused_alias.is_some() || names_score(steps) {
        first.push((fused_name.to_vec(), ColumnSource::FusedScore));
    }
    first.extend(request.search_alias.map(|alias| (alias.to_vec(), ColumnSource::TextScore)));
    first.extend(request.vector.alias.map(|alias| (alias.to_vec(), ColumnSource::VectorScore)));
    // The list is in the order of the fused scores; only its length is missing.
    let is_arranged = |step: &StepWords<'_>| matches!(step, StepWords::Arrange(_) | StepWords::Group(_));
    if !steps.iter().any(is_arranged) {
        steps.push(StepWords::Arrange(Arrangement { keys: None, offset: 0, limit: Some(SORTED_DEFAULT) }));
    }
    let mut pipeline = RowPipeline::new(&text, &request.rest, first, module.settings.aggregate_memory())?;
    let columns = std::mem::take(&mut pipeline.columns);
    let several = text.request().several();
    let reader = RowReader::new(&text, columns, pipeline.loads_all, several, pipeline.width());
    let field = text.index.definition.field(request.vector.field);
    let options = field.and_then(|field| text.index.vectors[field].as_ref()).map(|field| field.options());
    let normalise = match options.map(|options| metric_name(options.metric)) {
        Some("L2") => |distance: f64| 1.0 / (1.0 + distance),
        Some("IP") => |distance: f64| (1.0 + distance) / 2.0,
        _ => |distance: f64| (1.0 + (1.0 - distance)) / 2.0,
    };
    let fusion = request.fusion;
    let cursor: Option<CursorPlace> = None;
    let fused = Fused { text, vector, vector_rows: request.vector_rows(), fusion, normalise, waits };
    let mut aggregation = Aggregation::of_fused(fused, pipeline, reader, cursor);
    aggregation.shape =
        Shape::Hybrid { began: aggregation.env.clock.monotonic(), found: 0, late: [false; 2] };
    Ok(aggregation)
}

/// Whether LOAD names the fused score.
fn names_score(steps: &[StepWords<'_>]) -> bool {
    let is_score = |(path, _): &(&[u8], &[u8])| *path == b"__score";
    steps.iter().any(|step| matches!(step, StepWords::Load(loaded) if loaded.iter().any(is_score)))
}

impl Fused {
    pub fn plan(&self) -> &Plan {
        &self.text
    }

    /// Runs both searches, and says which of them ran out of time. `None` if the index was dropped or is
    /// incomplete.
    pub fn run(self, looks: &dyn Looks) -> Option<(Settled, [bool; 2])> {
        let Fused { text, vector, vector_rows, fusion, normalise, waits } = self;
        let (text, by_text, text_late) = text.first_page(looks, waits)?;
        let (_, mut by_vector, vector_late) = vector.first_page(looks, waits)?;
        by_vector.truncate(vector_rows);
        let list = fuse(&by_text, &by_vector, fusion, normalise);
        let late = [text_late, vector_late];
        Some((Settled::of_fused(text, list, late.contains(&true)), late))
    }
}

/// The documents of both lists, the best first.
fn fuse(
    by_text: &[PageRow],
    by_vector: &[PageRow],
    fusion: Fusion,
    normalise: fn(f64) -> f64,
) -> Vec<SettledDocument> {
    let mut places: HashMap<&[u8], usize> = HashMap::default();
    let mut fused: Vec<(u32, FusedScores)> = Vec::new();
    for (place, row) in by_text.iter().enumerate() {
        let score = match fusion {
            Fusion::ReciprocalRank { constant } => 1.0 / (constant + (place + 1) as f64),
            Fusion::Linear { alpha, .. } => alpha * row.score,
        };
        places.insert(&row.key, fused.len());
        let scores = FusedScores { key: row.key.clone(), score, text: Some(row.score), vector: None };
        fused.push((row.id, scores));
    }
    for (place, row) in by_vector.iter().enumerate() {
        let vector = normalise(row.distance);
        let score = match fusion {
            Fusion::ReciprocalRank { constant } => 1.0 / (constant + (place + 1) as f64),
            Fusion::Linear { beta, .. } => beta * vector,
        };
        match places.get(&*row.key) {
            Some(&at) => {
                fused[at].1.score += score;
                fused[at].1.vector = Some(vector);
            }
            None => {
                let scores = FusedScores { key: row.key.clone(), score, text: None, vector: Some(vector) };
                fused.push((row.id, scores));
            }
        }
    }
    fused.sort_by(|(a, left), (b, right)| right.score.total_cmp(&left.score).then(a.cmp(b)));
    let document = |(id, scores)| SettledDocument { id, nearest: None, fused: Some(Arc::new(scores)) };
    fused.into_iter().map(document).collect()
}

impl Aggregation {
    fn of_fused(
        fused: Fused,
        pipeline: RowPipeline,
        reader: RowReader,
        cursor: Option<CursorPlace>,
    ) -> Aggregation {
        Aggregation::with_source(Source::Fused(Box::new(fused)), pipeline, reader, cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, f64)]) -> Vec<PageRow> {
        let row = |(id, (key, number)): (usize, &(&str, f64))| PageRow {
            id: id as u32,
            key: key.as_bytes().into(),
            score: *number,
            distance: *number,
        };
        rows.iter().enumerate().map(row).collect()
    }

    #[test]
    fn ranks_and_scores_are_summed() {
        let (text, vector) = (rows(&[("a", 3.0), ("b", 2.0)]), rows(&[("b", 0.0), ("c", 1.0)]));
        let shown = |fusion| -> Vec<(String, f64)> {
            let list = fuse(&text, &vector, fusion, |distance| 1.0 / (1.0 + distance));
            let row = |document: SettledDocument| {
                let scores = document.fused.expect("fused");
                (String::from_utf8_lossy(&scores.key).into_owned(), scores.score)
            };
            list.into_iter().map(row).collect()
        };
        let rrf = shown(Fusion::ReciprocalRank { constant: 60.0 });
        assert_eq!(
            rrf,
            [("b".into(), 1.0 / 62.0 + 1.0 / 61.0), ("a".into(), 1.0 / 61.0), ("c".into(), 1.0 / 62.0)]
        );
        let linear = shown(Fusion::Linear { alpha: 0.5, beta: 2.0 });
        assert_eq!(linear, [("b".into(), 3.0), ("a".into(), 1.5), ("c".into(), 1.0)]);
    }
}
