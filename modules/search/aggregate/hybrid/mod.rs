//! FT.HYBRID: documents found by words and documents found by a vector, fused to one list, which then goes
//! through the steps of an aggregation.
//!
//! Each of the two is an FT.SEARCH whose first rows (the window) are ranked: by score, and by distance. The
//! fused list is in the order of the fused scores, and of ids where these are equal. See decision 0046.

mod cursors;
mod explain;
mod profile;
mod words;

pub use words::fuzz_hybrid;

use super::budget::MemoryBudget;
use super::cursor::CursorPlace;
use super::pipeline::{FirstColumns, RowPipeline};
use super::request::{Arrangement, SORTED_DEFAULT, StepWords};
use super::scope::EXPLANATION_PLACE;
use super::scope::{ColumnSource, loaded_source};
use super::source::RowReader;
use super::{Aggregation, Shape, Source};
use crate::error::{self, Kind, SearchError};
use crate::module::SearchModule;
use crate::query::prepared::PreparedSearch;
use crate::schema::metric_name;
use crate::search::plan::{Plan, Profile};
use crate::search::settled::{FusedScores, PageRow, Settled, SettledDocument};
use crate::search::{PreparedPlan, prepare, searched, styled};
use engramdb_engine::command::{Args, CommandError, Looks, Reply, Stage, WaitingJob};
use engramdb_engine::hashing::HashMap;
use engramdb_engine::store::view::View;
use explain::{FusionTexts, RankedPart};
pub use profile::{HybridProfile, profile, write_profiled};
use std::sync::Arc;
use words::{DISTANCE, Fusion, HybridRequest, VectorMethod, is_load};

/// The dialect of both searches is that of the settings, and at least this.
const DIALECT_MIN: u32 = 2;

/// Two searches whose rows are fused.
pub struct Fused {
    text: Plan,
    vector: Plan,
    /// The rows of the vector search that are fused.
    vector_rows: usize,
    fusion: Fusion,
    /// Set if rows explain their scores.
    texts: Option<FusionTexts>,
    normalise: fn(f64) -> f64,
    /// The searches have waited for a backfill.
    waits: bool,
}

/// The most rows of each search that are fused, whatever MAXSEARCHRESULTS says: all of them are in memory.
const WINDOW_MAX: usize = 1_000_000;

/// FT.HYBRID.
pub fn hybrid(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    styled(view, begin(view, args, reply.is_resp3(), None))
}

fn begin(
    view: &View<'_>,
    args: Args<'_>,
    is_resp3: bool,
    profile: Option<Profile>,
) -> Result<Stage, SearchError> {
    let module = view.module::<SearchModule>();
    let index = searched(view, args)?;
    let mut request = words::parse(args)?;
    if request.rest.cursor.is_some() {
        if profile.is_some() {
            return Err(error::unsupported("Profiles of WITHCURSOR are"));
        }
        module.cursors.check_room(index)?;
    }
    let most = module.settings.search_results_max().min(WINDOW_MAX);
    if request.window > most {
        return Err(Kind::LimitOver.with(["LIMIT".into(), most.to_string().into()]));
    }
    let defaults = module.settings.query_defaults();
    let (window, asked) = (request.window.to_string(), request.asked_rows().to_string());
    // PARAMS, TIMEOUT and FORMAT are those of both searches.
    let mut shared = request.rest.search.split_off(3);
    if defaults.dialect < DIALECT_MIN {
        shared.extend([&b"DIALECT"[..], b"2"]);
    }
    let mut text = vec![&b"FT.SEARCH"[..], args.word(1), request.query, b"WITHSCORES", b"LIMIT", b"0"];
    text.push(window.as_bytes());
    text.extend(request.scorer.iter().flat_map(|scorer| [&b"SCORER"[..], scorer]));
    if request.rest.explains {
        text.push(b"EXPLAINSCORE");
    }
    text.extend_from_slice(&shared);
    if let Some(filter) = request.vector.filter {
        // It becomes a part of the vector's query, and must be a query of its own.
        let words = [&[b"FT.SEARCH", args.word(1), filter], &shared[..]].concat();
        PreparedSearch::new(&index.definition, Args::new(&words), defaults)?;
    }
    let vector_query = request.vector_query();
    let mut vector = vec![&b"FT.SEARCH"[..], args.word(1), &vector_query, b"LIMIT", b"0", asked.as_bytes()];
    if matches!(request.vector.method, VectorMethod::Range { .. }) {
        vector.extend([&b"SORTBY"[..], DISTANCE, b"ASC"]);
    }
    vector.extend_from_slice(&shared);
    let text = prepare(view, index, Args::new(&text), is_resp3, profile.clone())?;
    let vector = prepare(view, index, Args::new(&vector), is_resp3, profile)?;
    let (PreparedPlan { plan: mut text, backfill }, PreparedPlan { plan: vector, backfill: other }) =
        (text, vector);
    check_queries(&text, &vector, &request)?;
    text.in_hybrid = true;
    let backfill = backfill.or(other);
    let waits = backfill.is_some();
    let job = match request.rest.cursor {
        Some(options) => cursors::job(module, (text, vector), &request, options, waits)?,
        None => aggregation(module, text, vector, &mut request, waits)?.job(),
    };
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
    let mut first: FirstColumns = Vec::new();
    if request.rest.explains {
        // It is at EXPLANATION_PLACE, and has no name.
        first.push((Vec::new(), ColumnSource::Explanation));
    }
    let fused_name = request.fused_alias.unwrap_or(b"__score");
    if !steps.iter().any(is_load) {
        first.push((b"__key".to_vec(), ColumnSource::Key));
        first.push((fused_name.to_vec(), ColumnSource::FusedScore));
    } else if request.fused_alias.is_some() {
        first.push((fused_name.to_vec(), ColumnSource::FusedScore));
    } else {
        first.extend(up_to_score(&text, steps));
    }
    first.extend(request.search_alias.map(|alias| (alias.to_vec(), ColumnSource::TextScore)));
    first.extend(request.vector.alias.map(|alias| (alias.to_vec(), ColumnSource::VectorScore)));
    // The list is in the order of the fused scores; only its length is missing.
    let is_arranged = |step: &StepWords<'_>| matches!(step, StepWords::Arrange(_) | StepWords::Group(_));
    if !steps.iter().any(is_arranged) {
        steps.push(StepWords::Arrange(Arrangement { keys: None, offset: 0, limit: Some(SORTED_DEFAULT) }));
    }
    let mut pipeline = RowPipeline::new(&text, &request.rest, first, module.settings.aggregate_memory())?;
    pipeline.flow.counts_all = true;
    let is_grouped = request.rest.steps.iter().any(|step| matches!(step, StepWords::Group(_)));
    pipeline.explanation = (request.rest.explains && !is_grouped).then_some(EXPLANATION_PLACE);
    let reader = RowReader::new(&text, &mut pipeline);
    let normalise = normaliser(&text, request);
    let fusion = request.fusion;
    let cursor: Option<CursorPlace> = None;
    let texts = request
        .rest
        .explains
        .then(|| FusionTexts::new(fusion, request.window, text.request().scorer, &request.vector));
    let vector_rows = request.vector_rows();
    let fused = Fused { text, vector, vector_rows, fusion, texts, normalise, waits };
    let mut aggregation = Aggregation::of_fused(fused, pipeline, reader, cursor);
    aggregation.shape =
        Shape::Hybrid { began: aggregation.env.clock.monotonic(), found: 0, late: [false; 2] };
    Ok(aggregation)
}

/// What makes a score of a distance.
fn normaliser(plan: &Plan, request: &HybridRequest<'_>) -> fn(f64) -> f64 {
    let field = plan.index.definition.field(request.vector.field);
    let options = field.and_then(|field| plan.index.vectors[field].as_ref()).map(|field| field.options());
    match options.map(|options| metric_name(options.metric)) {
        Some("L2") => |distance: f64| 1.0 / (1.0 + distance),
        Some("IP") => |distance: f64| (1.0 + distance) / 2.0,
        _ => |distance: f64| (1.0 + (1.0 - distance)) / 2.0,
    }
}

/// What LOAD names, up to the fused score; nothing if it does not name this. The score has no other name.
fn up_to_score(plan: &Plan, steps: &[StepWords<'_>]) -> FirstColumns {
    let loaded = steps.iter().flat_map(|step| match step {
        StepWords::Load(loaded) => &loaded[..],
        _ => &[],
    });
    let is_score = |(path, name): &(&[u8], &[u8])| *path == b"__score" && path == name;
    let Some(place) = loaded.clone().position(is_score) else { return Vec::new() };
    let named = loaded.take(place).map(|(path, name)| (name.to_vec(), loaded_source(&plan.index, path)));
    named.chain([(b"__score".to_vec(), ColumnSource::FusedScore)]).collect()
}

/// Refuses what one of the searches may not have: vectors where words are searched, and vectors and weights
/// in the filter of the vector search.
fn check_queries(text: &Plan, vector: &Plan, request: &HybridRequest<'_>) -> Result<(), SearchError> {
    if text.has_vectors() {
        return Err(Kind::NoVectorHere.of(b"SEARCH"));
    }
    let (mut ranges, filter) = (0, &vector.query.filter);
    filter.ranges(&mut |_| ranges += 1);
    if ranges > usize::from(matches!(request.vector.method, VectorMethod::Range { .. })) {
        return Err(Kind::NoVectorHere.of(b"VSIM FILTER"));
    }
    if filter.has_weight() {
        return Err(Kind::NoWeightHere.error());
    }
    Ok(())
}

impl Fused {
    pub fn plan(&self) -> &Plan {
        &self.text
    }

    /// Runs both searches. Fails if the index was dropped or is incomplete, and if their rows take more
    /// memory than is left.
    pub fn run(self, looks: &dyn Looks, budget: &mut MemoryBudget) -> Result<FusedList, SearchError> {
        let Fused { text, vector, vector_rows, fusion, texts, normalise, waits } = self;
        let found = text.first_page(looks, waits);
        let (text, by_text, text_late) = found.ok_or_else(|| Kind::Backfilling.error())?;
        let of_text = FUSED_BYTES * by_text.len() + by_text.iter().map(PageRow::heap_bytes).sum::<usize>();
        budget.take(of_text)?;
        let found = vector.first_page(looks, waits);
        let (vector, mut by_vector, vector_late) = found.ok_or_else(|| Kind::Backfilling.error())?;
        by_vector.truncate(vector_rows);
        let of_vector =
            FUSED_BYTES * by_vector.len() + by_vector.iter().map(PageRow::heap_bytes).sum::<usize>();
        budget.take(of_vector)?;
        let list = fuse(by_text, &by_vector, fusion, texts.as_ref(), normalise);
        budget.give_back(of_text + of_vector);
        let late = [text_late, vector_late];
        let settled = Settled::of_fused(text, list, late.contains(&true));
        budget.take(settled.heap_bytes())?;
        Ok(FusedList { settled, late, vector })
    }
}

/// What a row takes while two lists are fused: in its page, in the table of keys, in the list, and with its
/// scores.
const FUSED_BYTES: usize = 2 * size_of::<PageRow>() + 2 * size_of::<Found>() + size_of::<FusedScores>();

/// What both searches have found.
pub struct FusedList {
    pub settled: Settled,
    /// Whether the text search and the vector search ran out of time.
    pub late: [bool; 2],
    /// The vector search.
    pub vector: Plan,
}

/// What a document has of each of the searches.
struct Found {
    id: u32,
    key: Arc<[u8]>,
    text: Option<(RankedPart, Option<Box<crate::search::Explained>>)>,
    vector: Option<RankedPart>,
}

impl Found {
    fn score(&self, fusion: Fusion) -> f64 {
        let parts = [self.text.as_ref().map(|(part, _)| *part), self.vector];
        let weighted = |(place, part): (usize, Option<RankedPart>)| match (part, fusion) {
            (None, _) => 0.0,
            (Some(part), Fusion::ReciprocalRank { constant }) => 1.0 / (constant + part.rank as f64),
            (Some(part), Fusion::Linear { alpha, beta }) => [alpha, beta][place] * part.score,
        };
        parts.into_iter().enumerate().map(weighted).sum()
    }
}

/// The documents of both lists, the best first.
fn fuse(
    by_text: Vec<PageRow>,
    by_vector: &[PageRow],
    fusion: Fusion,
    texts: Option<&FusionTexts>,
    normalise: fn(f64) -> f64,
) -> Vec<SettledDocument> {
    let mut places: HashMap<Arc<[u8]>, usize> = HashMap::default();
    let mut found: Vec<Found> = Vec::new();
    for (row, rank) in by_text.into_iter().zip(1..) {
        let PageRow { id, key, score, explanation, .. } = row;
        places.insert(key.clone(), found.len());
        found.push(Found { id, key, text: Some((RankedPart { rank, score }, explanation)), vector: None });
    }
    for (row, rank) in by_vector.iter().zip(1..) {
        let vector = Some(RankedPart { rank, score: normalise(row.distance) });
        match places.get(&row.key) {
            Some(&at) => found[at].vector = vector,
            None => found.push(Found { id: row.id, key: row.key.clone(), text: None, vector }),
        }
    }
    let mut fused: Vec<(f64, Found)> = found.into_iter().map(|found| (found.score(fusion), found)).collect();
    fused.sort_by(|(left, a), (right, b)| right.total_cmp(left).then(a.id.cmp(&b.id)));
    let document = |(score, found): (f64, Found)| {
        let Found { id, key, text, vector } = found;
        let (text_score, vector_score) =
            (text.as_ref().map(|(part, _)| part.score), vector.map(|part| part.score));
        let explanation = texts.map(|texts| texts.explain(score, text, vector));
        let scores = FusedScores { key, score, text: text_score, vector: vector_score, explanation };
        SettledDocument { id, nearest: None, fused: Some(Arc::new(scores)) }
    };
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
            explanation: None,
        };
        rows.iter().enumerate().map(row).collect()
    }

    #[test]
    fn ranks_and_scores_are_summed() {
        let (text, vector) = (rows(&[("a", 3.0), ("b", 2.0)]), rows(&[("b", 0.0), ("c", 1.0)]));
        let shown = |fusion| -> Vec<(String, f64)> {
            let list = fuse(text.clone(), &vector, fusion, None, |distance| 1.0 / (1.0 + distance));
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
