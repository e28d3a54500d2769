//! FT.HYBRID WITHCURSOR: two cursors, one over the rows of each search, which are not fused.
//!
//! Both searches run when the command does, so that the rows are known; FT.CURSOR READ shows each document as
//! it is when it is read.

use super::words::{HybridRequest, is_load};
use super::{FusedScores, PageRow, normaliser};
use crate::aggregate::cursor::CursorPlace;
use crate::aggregate::pipeline::{FirstColumns, RowPipeline};
use crate::aggregate::request::CursorOptions;
use crate::aggregate::scope::ColumnSource;
use crate::aggregate::source::RowReader;
use crate::aggregate::{Aggregation, Source};
use crate::error::{Kind, SearchError};
use crate::module::SearchModule;
use crate::search::plan::Plan;
use crate::search::reply::Warnings;
use crate::search::settled::{Settled, SettledDocument};
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use engramdb_engine::command::{Job, Looks, Reply, Rest};
use engramdb_engine::store::view::View;
use std::sync::Arc;

/// Makes the scores of a row of a search, given what makes a score of a distance.
type RowScores = fn(&PageRow, fn(f64) -> f64) -> FusedScores;

/// One of the searches, and what its cursor reads.
struct Branch {
    plan: Plan,
    pipeline: RowPipeline,
    reader: RowReader,
    cursor: CursorPlace,
    /// The most rows.
    rows: usize,
    scores: RowScores,
    normalise: fn(f64) -> f64,
}

pub fn job(
    module: &SearchModule,
    (text, vector): (Plan, Plan),
    request: &HybridRequest<'_>,
    options: CursorOptions,
    waits: bool,
) -> Result<Job, SearchError> {
    let normalise = normaliser(&text, request);
    let alias = |alias: Option<&[u8]>, source: ColumnSource| alias.map(|alias| (alias.to_vec(), source));
    let of_text = alias(request.search_alias, ColumnSource::TextScore);
    let of_vector = alias(request.vector.alias, ColumnSource::VectorScore);
    let mut parts = Vec::new();
    for (is_text, alias) in [(true, of_text), (false, of_vector)] {
        let mut first: FirstColumns = Vec::new();
        if !request.rest.steps.iter().any(is_load) {
            first.push((b"__key".to_vec(), ColumnSource::Key));
        }
        first.extend(alias);
        // The query of the text search has no distance that rows would show.
        let mut pipeline = RowPipeline::new(&text, &request.rest, first, module.settings.aggregate_memory())?;
        let reader = RowReader::new(&text, &mut pipeline);
        let timeout = text.deadline.map(|deadline| deadline.saturating_sub(text.env.clock.monotonic()));
        parts.push((is_text, pipeline, reader, CursorPlace::new(options, &module.settings, timeout)));
    }
    let rows = [request.window, request.vector_rows()];
    let branches = parts.into_iter().zip([text, vector]).zip(rows);
    let branches: Vec<Branch> = branches
        .map(|(((is_text, pipeline, reader, cursor), plan), rows)| {
            let scores: RowScores = if is_text { text_scores } else { vector_scores };
            Branch { plan, pipeline, reader, cursor, rows, scores, normalise }
        })
        .collect();
    Ok(Box::new(move |looks| {
        let found: Option<Vec<(Aggregation, bool)>> =
            branches.into_iter().map(|branch| branch.run(looks, waits)).collect();
        Box::new(move |view, reply| styled(view, last_look(view, reply, found)))
    }))
}

fn text_scores(row: &PageRow, _: fn(f64) -> f64) -> FusedScores {
    let (key, score) = (row.key.clone(), row.score);
    FusedScores { key, score, text: Some(score), vector: None, explanation: None }
}

fn vector_scores(row: &PageRow, normalise: fn(f64) -> f64) -> FusedScores {
    let (key, score) = (row.key.clone(), normalise(row.distance));
    FusedScores { key, score, text: None, vector: Some(score), explanation: None }
}

impl Branch {
    /// Runs the search. Returns what its cursor keeps, and whether the time limit passed; `None` if the index
    /// was dropped or is incomplete.
    fn run(self, looks: &dyn Looks, waits: bool) -> Option<(Aggregation, bool)> {
        let Branch { plan, pipeline, reader, cursor, rows, scores, normalise } = self;
        let (plan, mut page, late) = plan.first_page(looks, waits)?;
        page.truncate(rows);
        let document = |row: &PageRow| {
            let fused = Some(Arc::new(scores(row, normalise)));
            SettledDocument { id: row.id, nearest: None, fused }
        };
        let list = page.iter().map(document).collect();
        let settled = Settled::of_fused(plan, list, late);
        let source = Source::Documents(Box::new(settled));
        Some((Aggregation::with_source(source, pipeline, reader, Some(cursor)), late))
    }
}

fn last_look(
    view: &View<'_>,
    reply: &mut dyn Reply,
    found: Option<Vec<(Aggregation, bool)>>,
) -> Result<Rest, SearchError> {
    let module = view.module::<SearchModule>();
    let found = found.ok_or(Kind::Backfilling.error())?;
    let late = found.iter().any(|(_, late)| *late);
    let mut ids = Vec::new();
    let kept = keep_all(view, module, found, &mut ids);
    if kept.is_err() {
        ids.iter().for_each(|&id| module.cursors.end_untold(id));
    }
    kept?;
    shaped(is_flat(view, reply), reply, |reply| {
        reply.map(3);
        for (name, id) in ["SEARCH", "VSIM"].iter().zip(ids) {
            reply.bulk(name.as_bytes());
            reply.integer(id as i64);
        }
        reply.bulk(b"warnings");
        Warnings { timed_out: late, incomplete: false }.write(reply, None);
    });
    Ok(Rest::Nothing)
}

/// Adds the ids of the cursors that are kept to `ids`.
fn keep_all(
    view: &View<'_>,
    module: &SearchModule,
    found: Vec<(Aggregation, bool)>,
    ids: &mut Vec<u64>,
) -> Result<(), SearchError> {
    for (aggregation, late) in found {
        if late && aggregation.fails_on_timeout {
            return Err(Kind::Timeout.error());
        }
        let Some(index) = module.same_index(view.database(), &aggregation.index) else {
            view.whole_keyspace();
            return Err(Kind::NoIndex.of(&aggregation.index.definition.name));
        };
        view.wait_for(index.changed_by());
        view.wait_for(aggregation.index.changed_by());
        ids.push(aggregation.keep(module)?);
    }
    Ok(())
}
