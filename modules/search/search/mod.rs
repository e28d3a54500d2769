//! FT.SEARCH: finds the rows, checks them, and replies.
//!
//! *Finding* runs without any lock of the engine. It finds neighbours (`nearest`), the matches of filters and
//! vector ranges (`filter`, `matches`), and their order (`matches`, `ranking`). The result has its own ids
//! and distances, and is right at a version of the documents. A *last look*, under the engine's read lock,
//! makes it an answer of one moment: it reads only the documents that have changed or expired since
//! (`follow`, `expired`), moves them to their new places in the order (`edited`), and loads the rows of the
//! page. Under that lock nothing is searched, no graph is walked, and only what has changed is sorted. If a
//! last look would have to do more than it may, the search continues without the lock and takes another last
//! look:
//!
//! | reason | work without the lock | limit |
//! |---|---|---|
//! | `Lack::Changes`: more than `CHANGED_FEW` | the changed documents are read in slices | `ROUNDS_MAX` |
//! | `Lack::Expired`: many have expired | a walk finds them, and is kept up to date | two walks |
//! | `Lack::Rows`: too few rows, and there are others | a search for twice as many | all are candidates |
//! | `Lack::Pool`: the documents of the page are large | nothing: the pool takes the next look | once |
//! | `Lack::Copies`: they are too many or too large to be held | they are copied in slices | once |
//!
//! After `ROUNDS_MAX` last looks, the next one processes what is left, up to `LAST_TIMES` as much
//! (follow.rs). If there is more, or if the time limit passes before that, changed documents are left out,
//! and the answer is marked as one that timed out.
//!
//! The reply waits for the last batch that changed this index, because a row can be missing due to it. In
//! EXEC all steps run at once, under the lock that EXEC holds, so nothing changes between them.
//!
//! A row whose document did not change is right unless something of it has expired, which the index does not
//! know. The keyspace is therefore read for a row only if something in the database is due to expire, or if
//! the reply shows parts of the document: each read costs several cache misses.
//!
//! Large documents that are no hashes are *held* by a last look, and read after it (rows.rs): its rows are
//! those of its moment, and walking paths takes no lock. Held are no more than the pool's threads work on.

mod distance;
mod edited;
mod excerpt;
mod expand;
mod expired;
mod explained;
mod filter;
mod follow;
mod fuzzing;
mod fuzzy;
mod highlight;
mod lacking;
mod leaves;
mod matches;
mod measure;
mod near_scores;
mod nearest;
mod page;
pub mod plan;
pub mod probe;
pub mod profile;
mod proximity;
mod ranking;
pub mod reply;
mod rows;
mod score;
mod scored;
pub mod settled;
mod several;
pub mod shape;
mod walk;

pub use self::expand::{write_number, write_values};
use self::expired::ExpiredDocuments;
pub use self::explained::Explained;
use self::filter::Late;
pub use self::fuzzing::fuzz_search;
use self::lacking::is_lacking;
use self::matches::{Lack, Matches};
use self::nearest::Nearest;
use self::plan::{Plan, Profile};
use self::reply::{Answer, KeptAnswer, Warnings};
use self::rows::{Loaded, PageWeight, ReplyPlace};
use self::shape::{is_flat, shaped};
use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::module::{SearchModule, find};
use crate::query::Knn;
use crate::query::explain;
use crate::query::request::Timeout;
use crate::schema::Algorithm;
use engramdb_engine::command::{
    Args, CommandError, Finish, Job, Looks, Outcome, Reply, Rest, Stage, WaitingJob,
};
use engramdb_engine::keyspace::DocumentType;
use engramdb_engine::signal::Signal;
use engramdb_engine::store::view::View;
use std::sync::Arc;
use std::sync::atomic;
use std::time::Duration;

/// The most multiply-adds that run on the thread of the command, about a millisecond's worth. A search with
/// more runs in the search pool.
pub const INLINE_WORK_MAX: usize = 4 << 20;
/// Last looks that may find too many changes. The next one processes all of them, so that each search ends.
const ROUNDS_MAX: u32 = 8;

/// The result of the search without a lock.
pub enum Found {
    Nearest(Nearest),
    Matches(Matches),
    Late,
    /// The index is still being built, or was dropped.
    Incomplete,
}

/// A search between two steps: what it has found so far, and the rows that are copied for the reply.
struct Search {
    plan: Plan,
    found: Found,
    expired: ExpiredDocuments,
    loaded: Loaded,
    /// The number of last looks without an answer.
    rounds: u32,
}

/// The result of a last look.
enum Written {
    /// The reply is written.
    Whole,
    /// The reply must still be written, without the lock.
    Later(KeptAnswer),
    /// Nothing is written: this must be done first, without the lock.
    Not(Lack),
}

pub fn search(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let begin = || {
        check_query(args)?;
        begin(view, searched(view, args)?, args, reply.is_resp3(), None)
    };
    styled(view, begin())
}

pub fn profile(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let begin = || {
        let index = searched(view, args)?;
        let words = profile::search_words(args)?;
        let began = view.module::<SearchModule>().options.env.clock.monotonic();
        let profile = Profile { began, ..Profile::default() };
        begin(view, index, Args::new(&words), reply.is_resp3(), Some(profile))
    };
    styled(view, begin())
}

/// The index that a search names. The reply waits for its last change.
pub fn searched<'v>(view: &View<'v>, args: Args<'_>) -> Result<&'v Arc<Index>, SearchError> {
    let index = find(view, args[1], Kind::NoIndex)?;
    view.wait_for(index.changed_by());
    Ok(index)
}

/// Fails if the words of a search have no query.
pub fn check_query(args: Args<'_>) -> Result<(), SearchError> {
    if args.len() < 3 { Err(Kind::NoQuery.error()) } else { Ok(()) }
}

/// The result, with its error in the style of the settings.
pub fn styled<T>(view: &View<'_>, result: Result<T, SearchError>) -> Result<T, CommandError> {
    result.map_err(|error| error.in_style(view.module::<SearchModule>().settings.error_style()))
}

pub fn explain(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.bulk(styled(view, explanation(view, args))?.as_bytes());
    Ok(())
}

pub fn explain_lines(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let text = styled(view, explanation(view, args))?;
    let lines = text.split('\n');
    reply.array(lines.clone().count());
    lines.for_each(|line| reply.simple(line));
    Ok(())
}

fn explanation(view: &View<'_>, args: Args<'_>) -> Result<String, SearchError> {
    let index = searched(view, args)?;
    let defaults = view.module::<SearchModule>().settings.query_defaults();
    let query = index.prepared.get(&index.definition, args, defaults)?.bind(&index.definition, args)?;
    Ok(explain::explain(&index.definition, &query, &args))
}

fn begin(
    view: &View<'_>,
    index: &Arc<Index>,
    args: Args<'_>,
    is_resp3: bool,
    profile: Option<Profile>,
) -> Result<Stage, SearchError> {
    let PreparedPlan { plan, backfill } = prepare(view, index, args, is_resp3, profile)?;
    plan.request().check_limits(view.module::<SearchModule>().settings.search_results_max())?;
    if let Some((signal, at_most)) = backfill {
        return Ok(Stage::Wait(WaitingJob { signal, at_most, job: plan.job(true) }));
    }
    let is_long = plan.work() > INLINE_WORK_MAX;
    let job = Plan { in_pool: is_long, ..plan }.job(false);
    Ok(if is_long { Stage::Offload(job) } else { Stage::Run(job) })
}

/// A search whose words are parsed.
pub struct PreparedPlan {
    pub plan: Plan,
    /// The signal at the end of the backfill that the search must wait for, and how long it waits at most.
    pub backfill: Option<(Arc<Signal>, Option<Duration>)>,
}

/// Parses the words of a search in the index that [`searched`] returned.
pub fn prepare(
    view: &View<'_>,
    index: &Arc<Index>,
    args: Args<'_>,
    is_resp3: bool,
    profile: Option<Profile>,
) -> Result<PreparedPlan, SearchError> {
    let module = view.module::<SearchModule>();
    check_query(args)?;
    index.uses.fetch_add(1, atomic::Ordering::Relaxed);
    let prepared = index.prepared.get(&index.definition, args, module.settings.query_defaults())?;
    index.note_dialect(prepared.request.dialect());
    let is_hash = index.definition.documents == DocumentType::Hash;
    prepared.request.check_format(is_resp3, is_hash)?;
    let query = prepared.bind(&index.definition, args)?;
    let env = module.options.env.clone();
    let is_backfilling = is_lacking(index, &query, &prepared.request);
    let is_incomplete = is_backfilling && module.settings.partial_results();
    // The backfill needs the lock that a transaction holds, so a search in it must not wait for the backfill.
    let must_not_wait = view.is_exclusive() && is_backfilling && !is_incomplete;
    let timeout = match prepared.request.timeout {
        _ if must_not_wait => Some(Duration::ZERO),
        Timeout::Default => module.settings.timeout(),
        Timeout::Given(timeout) => timeout,
    };
    let deadline = timeout.map(|timeout| env.clock.monotonic() + timeout);
    let auditor = query
        .knn
        .as_ref()
        .filter(|knn| knn.recall.is_none() && is_due(module, index, knn))
        .map(|_| module.auditor.handle());
    let mut plan = Plan {
        index: index.clone(),
        query,
        prepared,
        database: view.database(),
        env,
        deadline,
        fails_on_timeout: module.settings.fails_on_timeout(),
        is_incomplete,
        auditor,
        profile,
        accepts_changes: false,
        was_late: false,
        reads_all: false,
        in_hybrid: false,
        in_pool: is_backfilling && !is_incomplete,
        highlighter: None,
    };
    plan.highlight();
    plan.note(|profile, now| profile.parsed = now);
    plan.check()?;
    let waits = is_backfilling && !is_incomplete;
    let backfill = waits.then(|| (index.backfilled(), timeout));
    Ok(PreparedPlan { plan, backfill })
}

/// Whether this search becomes a sample, whose recall is measured.
fn is_due(module: &SearchModule, index: &Index, knn: &Knn) -> bool {
    let vectors = index.vectors[knn.field].as_ref().expect("the parser checked the field's type");
    let every = module.settings.live_recall_every();
    vectors.options().algorithm != Algorithm::Flat && vectors.live.is_due(every, &*module.options.env.random)
}

impl Plan {
    fn job(mut self, waits: bool) -> Job {
        Box::new(move |looks| {
            self.note(|profile, now| profile.started = now);
            let mut expired = ExpiredDocuments::default();
            let found = match self.is_searched(waits) {
                true => self.find(looks, &mut expired).unwrap_or(Found::Late),
                false => Found::Incomplete,
            };
            self.note(|profile, now| profile.found = now);
            if self.profile.is_some() {
                self.measure(&found);
            }
            Search { plan: self, found, expired, loaded: Loaded::default(), rounds: 0 }.approach(looks)
        })
    }

    /// False for a dropped index, of which the last look replies that it does not exist, and for one that is
    /// still being built after the wait for that.
    fn is_searched(&self, waits: bool) -> bool {
        let is_lacking = waits && is_lacking(&self.index, &self.query, &self.prepared.request);
        !(self.index.is_dropped() || is_lacking)
    }

    fn find(&self, looks: &dyn Looks, expired: &mut ExpiredDocuments) -> Result<Found, Late> {
        if let Some(knn) = &self.query.knn {
            return self.find_nearest(knn).map(Found::Nearest);
        }
        let mut matches = self.find_matches()?;
        self.follow_matches(looks, &mut matches, expired, false);
        self.put_in_order(looks, &mut matches, expired);
        self.score_matches(&mut matches);
        Ok(Found::Matches(matches))
    }

    /// Records the cost of the filter's parts in the profile.
    fn measure(&mut self, found: &Found) {
        let ranges = match found {
            Found::Matches(matches) => &matches.ranges,
            Found::Nearest(Nearest { matches: Some(matches), .. }) => &matches.ranges,
            _ => return,
        };
        let nodes = profile::measure(self, ranges);
        self.profile.as_mut().expect("asked for").nodes = nodes;
    }

    /// Writes the answer, with its profile if there is one. A long one is kept, to be written without the
    /// lock.
    fn write(
        &self,
        (view, reply): (&View<'_>, &mut dyn Reply),
        loaded: &Loaded,
        (answer, weight): (&Answer<'_>, PageWeight),
        profile: Option<Profile>,
    ) -> Result<Written, SearchError> {
        // With this setting, an answer after the time limit is an error, even if it is whole.
        if self.fails_on_timeout && (answer.warnings.timed_out || self.is_late()) {
            return Err(Kind::Timeout.error());
        }
        let page = answer.rows.as_slice();
        match weight.place(self, loaded, page.len()) {
            ReplyPlace::Here => {
                reply::write(self, reply, answer, profile.as_ref());
                return Ok(Written::Whole);
            }
            ReplyPlace::After => {}
            ReplyPlace::Lacking(lack) => return Ok(Written::Not(lack)),
        }
        let room = reply.room();
        let kept = if loaded.is_cut_off() { None } else { self.keep(view, page, loaded, room) };
        let Some(page) = kept else {
            reply.give_up();
            return Ok(Written::Whole);
        };
        let Answer { total, warnings, .. } = *answer;
        Ok(Written::Later(KeptAnswer {
            total,
            page,
            warnings,
            now_ms: view.now_ms(),
            profile: profile.map(Box::new),
        }))
    }

    /// What the profile says of the answer.
    fn profiled(&self, found: &Found, total: usize, mut profile: Profile) -> Profile {
        if let (Found::Nearest(nearest), Some(knn)) = (found, &self.query.knn) {
            profile.cost = Some(nearest.cost);
            let vectors = self.index.vectors[knn.field].as_ref();
            profile.live = vectors.map(|vectors| vectors.live.report(self.now()));
        }
        profile.loading = self.now();
        profile.rows = total;
        profile
    }
}

impl Search {
    /// Sorts the rows if they are many, and copies the parts of their documents that the reply shows. Returns
    /// the last look.
    fn approach(mut self, looks: &dyn Looks) -> Finish {
        if let Found::Nearest(nearest) = &mut self.found {
            self.plan.rank(looks, nearest, &self.expired);
        }
        if self.plan.index.definition.documents != DocumentType::Hash {
            // Paths may be many: they are parsed before the look.
            self.plan.weight();
        }
        self.plan.load(looks, &self.found, &mut self.loaded);
        Box::new(move |view, reply| self.last_look(view, reply))
    }

    fn last_look(mut self, view: &View<'_>, reply: &mut dyn Reply) -> Result<Rest, CommandError> {
        let is_flat = is_flat(view, reply);
        let written = shaped(is_flat, reply, |reply| self.answer(view, reply));
        Ok(match styled(view, written)? {
            Written::Whole => Rest::Nothing,
            Written::Later(mut kept) => {
                let fails = self.plan.fails_on_timeout;
                let late = fails.then(|| styled::<()>(view, Err(Kind::Timeout.error())));
                Rest::Write(Box::new(move |reply| {
                    let has_room = self.plan.complete(&mut kept, reply.room());
                    match late {
                        _ if !has_room => reply.give_up(),
                        Some(Err(error)) if kept.warnings.timed_out => reply.error(&error),
                        _ => shaped(is_flat, reply, |reply| reply::write_kept(&self.plan, reply, &kept)),
                    }
                }))
            }
            Written::Not(lack) => Rest::Again(Box::new(move |looks| self.go_on(looks, lack))),
        })
    }

    /// Does the work that a last look lacked, without the lock.
    fn go_on(mut self, looks: &dyn Looks, lack: Lack) -> Finish {
        self.plan.in_pool = true;
        self.loaded.copies_all |= lack == Lack::Copies;
        self.rounds += 1;
        self.plan.go_on(looks, (&mut self.found, &mut self.expired), lack, self.rounds);
        self.approach(looks)
    }

    /// The last look: checks the rows, and writes the reply unless it is long.
    fn answer(&mut self, view: &View<'_>, reply: &mut dyn Reply) -> Result<Written, SearchError> {
        let plan = &self.plan;
        debug_assert_eq!(view.database(), plan.database);
        let name = &plan.index.definition.name;
        if view.module::<SearchModule>().same_index(plan.database, &plan.index).is_none() {
            // The index was dropped, rebuilt or moved to another database during the search.
            view.whole_keyspace();
            return Err(Kind::NoIndex.of(name));
        }
        view.wait_for(plan.index.changed_by());
        let documents = &*plan.index.documents.read();
        let mut warnings = Warnings { timed_out: false, incomplete: plan.is_incomplete };
        let late = &mut warnings.timed_out;
        let rows = match &mut self.found {
            Found::Incomplete => return Err(Kind::Backfilling.error()),
            Found::Late => {
                *late = true;
                Ok((0, Vec::new()))
            }
            Found::Nearest(nearest) => plan.nearest_rows(view, documents, nearest, &mut self.expired, late),
            Found::Matches(matches) => plan.matching_rows(view, documents, matches, &mut self.expired, late),
        };
        let (total, mut rows) = match rows {
            Ok(rows) => rows,
            Err(lack) => return Ok(Written::Not(lack)),
        };
        warnings.timed_out |= self.loaded.leave_out_missing(&mut rows);
        let weight = plan.look_up(view, &mut rows, &self.loaded);
        let profile = plan.profile.clone().map(|profile| plan.profiled(&self.found, total, profile));
        let answer = Answer { total, rows, warnings };
        let written = plan.write((view, reply), &self.loaded, (&answer, weight), profile)?;
        if let Written::Not(_) = written {
            let looked_at = std::mem::take(&mut self.expired.looked_at);
            self.expired.again |= looked_at;
        }
        Ok(written)
    }
}
