//! FT.PROFILE HYBRID: the profiles of both searches as those of one shard, and of what follows on them as
//! that of the coordinator.

use super::begin;
use crate::aggregate::reply::AggregateAnswer;
use crate::module::SearchModule;
use crate::search::plan::{Plan, Profile};
use crate::search::profile::{ProfiledStep, of_fusion, of_search, words};
use crate::search::reply::Warnings;
use crate::search::{searched, styled};
use engramdb_engine::command::{Args, CommandError, Reply, Stage};
use engramdb_engine::store::view::View;
use std::time::Duration;

/// What a profile needs beside the text search.
pub struct HybridProfile {
    pub vector: Plan,
    pub late: [bool; 2],
    /// How many documents the fused list had.
    pub found: usize,
}

/// FT.PROFILE of FT.HYBRID.
pub fn profile(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let run = || {
        searched(view, args)?;
        let words = words(args, b"FT.HYBRID")?;
        let began = view.module::<SearchModule>().options.env.clock.monotonic();
        let profile = Profile { began, ..Profile::default() };
        begin(view, Args::new(&words), reply.is_resp3(), Some(profile))
    };
    styled(view, run())
}

/// Writes the answer and its profile. `labels` are the steps of the pipeline.
pub fn write_profiled(
    text: &Plan,
    hybrid: &HybridProfile,
    labels: &[String],
    answer: &AggregateAnswer,
    reply: &mut dyn Reply,
) {
    answer.write_before_profile(reply);
    reply.map(2);
    reply.bulk(b"Shards");
    reply.array(1);
    reply.map(2);
    let of_text = ["Index", "Scorer", "Sorter", "Loader", "Depleter"];
    let of_vector = ["Index", "Metrics Applier", "Vector Normalizer", "Loader", "Depleter"];
    let branches = [("SEARCH", text, of_text), ("VSIM", &hybrid.vector, of_vector)];
    for ((name, plan, steps), late) in branches.into_iter().zip(hybrid.late) {
        let profile = plan.profile.clone().expect("the search was profiled");
        let index_time = profile.found.saturating_sub(profile.started);
        let time = |name: &str| if name == "Index" { index_time } else { Duration::ZERO };
        let steps = steps.map(|name| (name, time(name), profile.rows));
        reply.bulk(name.as_bytes());
        of_search(plan, &profile, Warnings { timed_out: late, incomplete: false }, &steps, reply);
    }
    reply.bulk(b"Coordinator");
    let merged: ProfiledStep<'_> = ("Hybrid Merger", Duration::ZERO, hybrid.found);
    // What rows need is loaded by the searches, and the fused list is sorted.
    let own = labels.iter().map(String::as_str).filter(|name| *name != "Loader");
    let own = own.map(|name| if name == "Pager/Limiter" { "Sorter" } else { name });
    let rows = |name: &str| if name == "Sorter" { answer.rows.len() } else { answer.total };
    let steps: Vec<ProfiledStep<'_>> =
        [merged].into_iter().chain(own.map(|name| (name, Duration::ZERO, rows(name)))).collect();
    let profile = text.profile.clone().expect("the search was profiled");
    of_fusion(&profile, text.now(), answer.warnings, &steps, reply);
}
