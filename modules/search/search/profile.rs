//! FT.PROFILE: a search and its cost, in the format of RediSearch's reply.
//!
//! ```text
//! [results, [Shards, [shard], Coordinator, []]]            RESP3: {Results, Profile: {Shards, Coordinator}}
//! shard: Total profile time, Parsing time, Workers queue time, Pipeline creation time, Warning: [...],
//!        Iterators profile: tree, Result processors profile: [{Type, Time, Results processed}, ...]
//! ```
//!
//! Times are in milliseconds. The tree is the query's: a filter's node gives the number of documents that it
//! matches, and a vector part gives the search mode and its cost. The mode has RediSearch's name where the
//! meaning is the same (`STANDARD_KNN`, `RANGE_QUERY`, and `HYBRID_ADHOC_BF` for a scan of the filter's
//! matches). A walk of the graph under a filter is not done in batches here and has a name of its own,
//! `HYBRID_FILTERED_WALK`.
//!
//! A filter's nodes are evaluated again, one by one, for their times and counts, so profiling costs more than
//! searching. The evaluation runs on the search's thread, without any lock of the engine, and within the
//! search's time limit.

use super::filter::{Evaluation, Ranges};
use super::plan::{Plan, Profile};
use super::reply::Warnings;
use crate::documents::texts::shown_term;
use crate::error::{Kind, SearchError};
use crate::query::{Node, Pattern, TextMatch};
use crate::vectors::Cost;
use crate::vectors::facts::SearchMode;
use crate::vectors::live::LiveReport;
use engramdb_engine::command::{Args, Reply};
use std::slice;
use std::time::Duration;

/// The words of the FT.SEARCH that an FT.PROFILE command runs.
pub fn search_words<'a>(args: Args<'a>) -> Result<Vec<&'a [u8]>, SearchError> {
    if !args.is(2, "SEARCH") {
        return Err(Kind::NoProfiledCommand.error());
    }
    words(args, b"FT.SEARCH")
}

/// The words of the command that an FT.PROFILE command runs.
pub fn words<'a>(args: Args<'a>, command: &'a [u8]) -> Result<Vec<&'a [u8]>, SearchError> {
    // LIMITED shortens the list of terms that a pattern matched, which is never part of this reply.
    let at = if args.is(3, "LIMITED") { 4 } else { 3 };
    if !args.is(at, "QUERY") {
        return Err(Kind::NoQueryKeyword.error());
    }
    if args.len() < at + 2 {
        return Err(Kind::NoQuery.error());
    }
    let mut words = vec![command, args.word(1)];
    words.extend_from_slice(args.from(at + 1));
    Ok(words)
}

/// The evaluation time and the number of matches of each node of the filter, a node before its children. The
/// list is shorter if the time limit passes.
pub fn measure(plan: &Plan, ranges: &Ranges) -> Vec<(Duration, u64)> {
    let is_late = || plan.is_late();
    let evaluation = Evaluation::of_plan(plan, ranges, &is_late);
    let mut measured = Vec::new();
    let mut left = vec![&*plan.query.filter];
    while let Some(node) = left.pop() {
        let before = plan.now();
        let Ok(matches) = evaluation.matches(node) else { break };
        measured.push((plan.now() - before, matches.len()));
        left.extend(node.bare().children().iter().rev());
    }
    measured
}

/// Opens the reply. The reply of the search follows, and then `write`.
pub fn begin(reply: &mut dyn Reply) {
    if reply.is_resp3() {
        reply.map(2);
        reply.bulk(b"Results");
    } else {
        reply.array(2);
    }
}

/// Writes the profile of a search whose reply has just been written.
pub fn write(plan: &Plan, profile: &Profile, warnings: Warnings, reply: &mut dyn Reply) {
    if reply.is_resp3() {
        reply.bulk(b"Profile");
    }
    let now = plan.now();
    reply.map(2);
    reply.bulk(b"Shards");
    reply.array(1);
    of_search(plan, profile, warnings, &processors(plan, profile, now), reply);
    reply.bulk(b"Coordinator");
    reply.map(0);
}

/// The mode of a walk under a filter, for which RediSearch has no name: it takes batches of near documents.
const FILTERED_WALK: &str = "HYBRID_FILTERED_WALK";

/// A step of a search or an aggregation: its name, its time, and the rows that it gave.
pub type ProfiledStep<'s> = (&'s str, Duration, usize);

/// The profile of one search.
pub fn of_search(
    plan: &Plan,
    profile: &Profile,
    warnings: Warnings,
    steps: &[ProfiledStep<'_>],
    reply: &mut dyn Reply,
) {
    reply.map(7);
    times(profile, plan.now(), reply);
    reply.bulk(b"Warning");
    warnings.write(reply, Some("None"));
    reply.bulk(b"Iterators profile");
    iterators(plan, profile, reply);
    write_steps(steps, reply);
}

/// The profile of the steps that follow on both searches of an FT.HYBRID.
pub fn of_fusion(
    profile: &Profile,
    now: Duration,
    warnings: Warnings,
    steps: &[ProfiledStep<'_>],
    reply: &mut dyn Reply,
) {
    reply.map(6);
    times(profile, now, reply);
    reply.bulk(b"Warning");
    warnings.write(reply, Some("None"));
    write_steps(steps, reply);
}

fn times(profile: &Profile, now: Duration, reply: &mut dyn Reply) {
    for (name, time) in [
        ("Total profile time", now.saturating_sub(profile.began)),
        ("Parsing time", profile.parsed.saturating_sub(profile.began)),
        ("Workers queue time", profile.started.saturating_sub(profile.parsed)),
        ("Pipeline creation time", Duration::ZERO),
    ] {
        pair(reply, name, |reply| milliseconds(reply, time));
    }
}

fn write_steps(steps: &[ProfiledStep<'_>], reply: &mut dyn Reply) {
    reply.bulk(b"Result processors profile");
    reply.array(steps.len());
    for (name, time, rows) in steps {
        reply.map(3);
        pair(reply, "Type", |reply| reply.bulk(name.as_bytes()));
        pair(reply, "Time", |reply| milliseconds(reply, *time));
        pair(reply, "Results processed", |reply| reply.integer(*rows as i64));
    }
}

fn processors<'s>(plan: &Plan, profile: &'s Profile, now: Duration) -> Vec<ProfiledStep<'s>> {
    let request = plan.request();
    let of_aggregation = profile.steps.as_deref();
    let is_search = of_aggregation.is_none();
    let steps = [
        (true, "Index", profile.found.saturating_sub(profile.started)),
        (plan.has_vectors(), "Metrics Applier", Duration::ZERO),
        (is_search && request.sort_by.is_some(), "Sorter", Duration::ZERO),
        (is_search && !request.no_content, "Loader", now.saturating_sub(profile.loading)),
    ];
    let steps = steps.into_iter().filter(|(is_there, ..)| *is_there).map(|(_, name, time)| (name, time));
    let added = of_aggregation.unwrap_or_default().iter().map(|name| (name.as_str(), Duration::ZERO));
    steps.chain(added).map(|(name, time)| (name, time, profile.rows)).collect()
}

fn iterators(plan: &Plan, profile: &Profile, reply: &mut dyn Reply) {
    let mut tree = Tree { plan, measured: profile.nodes.iter() };
    match &profile.cost {
        Some(cost) => tree.nearest(profile, cost, reply),
        None => tree.node(&plan.query.filter, reply),
    }
}

struct Tree<'a> {
    plan: &'a Plan,
    /// The measurements of the nodes that are not written yet.
    measured: slice::Iter<'a, (Duration, u64)>,
}

impl Tree<'_> {
    fn nearest(&mut self, profile: &Profile, cost: &Cost, reply: &mut dyn Reply) {
        let is_filtered = self.plan.is_filtered();
        let has_tree = *self.plan.query.filter != Node::All;
        let is_walk = cost.visited > 0;
        let mode = match (is_filtered, is_walk) {
            (false, _) => SearchMode::Standard.name(),
            (true, false) => SearchMode::Scan.name(),
            (true, true) => FILTERED_WALK,
        };
        let chosen = match (is_filtered, is_walk) {
            (false, false) if cost.exact => "exact scan",
            (false, false) => "scan of codes",
            (false, true) => "walk of the graph",
            (true, false) if cost.exact => "exact scan of the matches",
            (true, false) => "scan of the matches' codes",
            (true, true) if cost.exact => {
                "filtered walk of the graph that ran dry, then an exact scan of the matches"
            }
            (true, true) => "filtered walk of the graph",
        };
        let live = profile.live.filter(|live| live.tally.samples > 0);
        let extra =
            usize::from(has_tree) + 2 * usize::from(live.is_some()) + usize::from(cost.slack.is_some());
        reply.map(8 + extra);
        pair(reply, "Type", |reply| reply.bulk(b"VECTOR"));
        pair(reply, "Time", |reply| milliseconds(reply, profile.found - profile.started));
        pair(reply, "Number of reading operations", |reply| reply.integer(profile.rows as i64));
        pair(reply, "Vector search mode", |reply| reply.bulk(mode.as_bytes()));
        pair(reply, "Plan", |reply| reply.bulk(chosen.as_bytes()));
        for (name, count) in [
            ("Distances evaluated", cost.evaluated),
            ("Nodes visited", cost.visited),
            ("Pending mutations scanned", cost.tail),
        ] {
            pair(reply, name, |reply| reply.integer(count as i64));
        }
        if let Some(slack) = cost.slack {
            pair(reply, "Walked beyond the k-th distance by", |reply| reply.double(f64::from(slack)));
        }
        if let Some(LiveReport { tally, .. }) = live {
            pair(reply, "Live recall", |reply| reply.double(tally.recall().unwrap_or_default()));
            pair(reply, "Live recall samples", |reply| reply.integer(tally.samples as i64));
        }
        if has_tree {
            reply.bulk(b"Child iterator");
            self.node(&self.plan.query.filter, reply);
        }
    }

    fn node(&mut self, node: &Node, reply: &mut dyn Reply) {
        let (time, matches) = self.measured.next().copied().unwrap_or_default();
        let (kind, detail): (&[u8], Option<(&str, Vec<u8>)>) = match node.bare() {
            Node::All => (b"WILDCARD", None),
            Node::Nothing => (b"EMPTY", None),
            Node::And(_) => (b"INTERSECT", None),
            Node::Or(_) => (b"UNION", Some(("Query type", b"UNION".to_vec()))),
            Node::Not(_) => (b"NOT", None),
            Node::Optional(_) => (b"OPTIONAL", None),
            Node::Tag { pattern, .. } => of_pattern(b"TAG", pattern),
            Node::Text { text: TextMatch::Term(pattern), .. } => of_pattern(b"TEXT", pattern),
            Node::Text { text: TextMatch::Expanded(term), .. } => {
                (b"TEXT", Some(("Term", shown_term(term).to_vec())))
            }
            Node::Text { text: TextMatch::Phrase(terms), .. } => (b"TEXT", Some(("Term", terms.join(&b' ')))),
            Node::Number { least, most, .. } => {
                let term = format!("{:.6} - {:.6}", least.value, most.value);
                (b"NUMERIC", Some(("Term", term.into_bytes())))
            }
            Node::Near { .. } => (b"GEO", None),
            Node::Geometry(_) => (b"GEOSHAPE", None),
            Node::Missing(_) => (b"MISSING", None),
            Node::Range(_) => (
                b"METRIC SORTED BY ID - VECTOR DISTANCE",
                Some(("Vector search mode", SearchMode::Range.name().as_bytes().to_vec())),
            ),
            Node::With(_) | Node::Open(_) => unreachable!("a bare node of a query with its values"),
        };
        let children = node.bare().children();
        reply.map(3 + usize::from(detail.is_some()) + usize::from(!children.is_empty()));
        pair(reply, "Type", |reply| reply.bulk(kind));
        if let Some((name, value)) = detail {
            pair(reply, name, |reply| reply.bulk(&value));
        }
        pair(reply, "Time", |reply| milliseconds(reply, time));
        pair(reply, "Number of reading operations", |reply| reply.integer(matches as i64));
        match node.bare() {
            Node::Not(child) | Node::Optional(child) => {
                reply.bulk(b"Child iterator");
                self.node(child, reply);
            }
            _ if !children.is_empty() => {
                reply.bulk(b"Child iterators");
                reply.array(children.len());
                children.iter().for_each(|child| self.node(child, reply));
            }
            _ => {}
        }
    }
}

/// The type and detail of a leaf: a term, or the union of the terms that a pattern matches.
fn of_pattern<'k>(kind: &'k [u8], pattern: &Pattern) -> (&'k [u8], Option<(&'static str, Vec<u8>)>) {
    let union = |name: &str, part: &[u8]| {
        (&b"UNION"[..], Some(("Query type", [name.as_bytes(), b" - ", part].concat())))
    };
    match pattern {
        Pattern::Exact(term) => (kind, Some(("Term", term.clone()))),
        Pattern::Prefix(part) => union("PREFIX", part),
        Pattern::Suffix(part) => union("SUFFIX", part),
        Pattern::Infix(part) => union("INFIX", part),
        Pattern::Wildcard(wildcard) => union("WILDCARD", wildcard),
        Pattern::Fuzzy(word, _) => union("FUZZY", word),
    }
}

fn pair(reply: &mut dyn Reply, name: &str, value: impl FnOnce(&mut dyn Reply)) {
    reply.bulk(name.as_bytes());
    value(reply);
}

fn milliseconds(reply: &mut dyn Reply, time: Duration) {
    reply.double(time.as_secs_f64() * 1e3);
}
