//! FT.SEARCH: parse, find, check the rows, reply.
//!
//! Finding runs without any lock of the engine: neighbours, what filters and vector ranges match, and the order of what
//! they match where the index knows it. Rows are checked under the engine's read lock afterwards: a document that changed in
//! between is looked at again alone, and neighbours that are gone are made up for. The reply waits for the last batch that
//! this index was given, for a row can be missing because of it.
//!
//! A row whose document did not change is true unless something of it has expired, which the index does not know. So
//! the keyspace is asked about rows only while something in the database is due to expire, or for what the reply
//! shows of it: each look is several cache misses.

mod filter;
mod matches;
mod measure;
mod plan;
mod profile;
mod reply;
mod rows;
pub mod shape;
mod stale;

use self::filter::Late;
use self::matches::{Matches, order_of};
use self::plan::{Plan, Profile, Row, SortKey};
use self::rows::{Loaded, ROWS_FEW};
use self::shape::{is_flat, shaped};
use self::stale::Stale;
use crate::audit::{AuditorHandle, Sample};
use crate::documents::Documents;
use crate::documents::ids::IdSet;
use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::module::{SearchModule, find};
use crate::query::Knn;
use crate::query::explain;
use crate::query::request::Timeout;
use crate::schema::Algorithm;
use crate::vectors::live::SAMPLE_ROWS_MAX;
use crate::vectors::{Cost, Effort, Question, Rows};
use engramdb_engine::command::{Args, CommandError, Finish, Job, Looks, Outcome, Reply, Rest, Stage};
use engramdb_engine::shard::view::View;
use engramdb_vector::Neighbor;
use reply::{Answer, KeptAnswer, Warnings};
use roaring::RoaringBitmap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic;
use std::time::Duration;

/// Multiply-adds that are done where the command came in; more go to the search pool. About a millisecond.
const INLINE_WORK_MAX: usize = 4 << 20;
/// More neighbours that are looked for, one for so many: where some of many are gone in the end, they need not be made up for
/// under the lock.
const SPARE_SHARE: usize = 64;

/// What the search without a lock came to.
pub enum Found {
    Nearest(Nearest),
    Matches(Matches),
    Late,
    /// The index is still being built.
    Incomplete,
}

/// What became of an answer.
struct Answered {
    /// Documents that there are.
    total: usize,
    warnings: Warnings,
    /// What is still to be written.
    kept: Option<KeptAnswer>,
}

/// The nearest neighbours, as true as this version of the documents.
pub struct Nearest {
    version: u64,
    pub neighbors: Vec<Neighbor>,
    /// Others may be nearer.
    timed_out: bool,
    cost: Cost,
    /// What filter and INKEYS leave, if there are any.
    pub matches: Option<Matches>,
}

pub fn search(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    styled(view, begin(view, args, reply.is_resp3(), None))
}

pub fn profile(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let begin = || {
        find(view, args[1], Kind::NoIndex)?;
        let words = profile::search_words(args)?;
        let began = view.module::<SearchModule>().options.env.clock.monotonic();
        begin(view, Args::new(&words), reply.is_resp3(), Some(Profile { began, ..Profile::default() }))
    };
    styled(view, begin())
}

/// The result, with its error in the style that the settings ask for.
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
    let index = find(view, args[1], Kind::NoIndex)?;
    view.wait_for(index.changed_by());
    let query = index.prepared.get(&index.definition, args)?.bind(&index.definition, args)?;
    Ok(explain::explain(&index.definition, &query, &args))
}

fn begin(
    view: &View<'_>,
    args: Args<'_>,
    is_resp3: bool,
    profile: Option<Profile>,
) -> Result<Stage, SearchError> {
    let module = view.module::<SearchModule>();
    if args.len() < 3 {
        return Err(Kind::NoQuery.error());
    }
    let index = find(view, args[1], Kind::NoIndex)?;
    view.wait_for(index.changed_by());
    index.uses.fetch_add(1, atomic::Ordering::Relaxed);
    let prepared = index.prepared.get(&index.definition, args)?;
    prepared.request.check_format(is_resp3)?;
    let query = prepared.bind(&index.definition, args)?;
    let env = module.options.env.clone();
    let is_backfilling = index.is_backfilling();
    let is_incomplete = is_backfilling && module.settings.partial_results();
    // The backfill needs the lock that a transaction holds: waiting for it there would be waiting for nothing.
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
    };
    plan.note(|profile, now| profile.parsed = now);
    plan.check()?;
    if is_backfilling && !is_incomplete {
        return Ok(Stage::Wait(plan.job(true)));
    }
    let is_long = plan.work() > INLINE_WORK_MAX;
    let job = plan.job(false);
    Ok(if is_long { Stage::Offload(job) } else { Stage::Run(job) })
}

/// Whether this search is one of those whose recall is measured. (One that asks for less than all has what it asks for.)
fn is_due(module: &SearchModule, index: &Index, knn: &Knn) -> bool {
    let vectors = index.vectors[knn.field].as_ref().expect("the parser checked the field's type");
    let every = module.settings.live_recall_every();
    vectors.options().algorithm != Algorithm::Flat && vectors.live.is_due(every, &*module.options.env.random)
}

impl Plan {
    fn job(mut self, waits: bool) -> Job {
        Box::new(move |looks| {
            self.note(|profile, now| profile.started = now);
            let complete = !waits || {
                let left = self.deadline.map(|deadline| deadline.saturating_sub(self.now()));
                self.index.wait_complete(left.unwrap_or(Duration::MAX))
            };
            let found = if complete { self.find(looks).unwrap_or(Found::Late) } else { Found::Incomplete };
            self.note(|profile, now| profile.found = now);
            if self.profile.is_some() {
                self.measure(&found);
            }
            let loaded = self.load(looks, &found);
            let finish: Finish = Box::new(move |view, reply| {
                let is_flat = is_flat(view, reply);
                let written = shaped(is_flat, reply, |reply| self.finish(found, &loaded, view, reply));
                let kept = styled(view, written)?;
                Ok(kept.map_or(Rest::Nothing, |(plan, kept)| {
                    Rest::Write(Box::new(move |reply| {
                        shaped(is_flat, reply, |reply| reply::write_kept(&plan, reply, &kept));
                    }))
                }))
            });
            finish
        })
    }

    fn find(&self, looks: &dyn Looks) -> Result<Found, Late> {
        if let Some(knn) = &self.query.knn {
            return self.find_nearest(knn).map(Found::Nearest);
        }
        let mut matches = self.find_matches()?;
        self.catch_up(&mut matches);
        self.put_in_order(looks, &mut matches);
        Ok(Found::Matches(matches))
    }

    /// The nearest of the documents that filter and INKEYS leave.
    fn find_nearest(&self, knn: &Knn) -> Result<Nearest, Late> {
        let matches = if self.is_filtered() { Some(self.find_matches()?) } else { None };
        let (now, id_bound) = {
            let documents = self.index.documents.read();
            (documents.version(), documents.id_bound())
        };
        let version = matches.as_ref().map_or(now, |matches| matches.version);
        let spare = if knn.k > ROWS_FEW { knn.k / SPARE_SHARE } else { 0 };
        let k = knn.k.saturating_add(spare);
        let rows = self.nearest(knn, k, matches.as_ref().map(|matches| &matches.documents), id_bound);
        let timed_out = rows.timed_out || matches.as_ref().is_some_and(|matches| matches.timed_out);
        if let Some(auditor) = &self.auditor {
            let among = matches.as_ref().map(|matches| &matches.documents);
            let is_whole = !timed_out && !rows.cost.exact && !rows.neighbors.is_empty();
            self.sample(auditor, knn, version, among, is_whole.then_some(&rows));
        }
        Ok(Nearest { version, neighbors: rows.neighbors, timed_out, cost: rows.cost, matches })
    }

    /// Hands the rows over to be audited, where there are any that say how good the graph is.
    fn sample(
        &self,
        auditor: &AuditorHandle,
        knn: &Knn,
        version: u64,
        among: Option<&RoaringBitmap>,
        rows: Option<&Rows>,
    ) {
        let Some(rows) = rows.filter(|_| knn.k <= SAMPLE_ROWS_MAX) else {
            let vectors = self.index.vectors[knn.field].as_ref().expect("found by it");
            return vectors.live.pass_on();
        };
        auditor.offer(Sample {
            index: self.index.clone(),
            field: knn.field,
            version,
            query: knn.vector[..].into(),
            k: knn.k,
            ef: self.ef(knn),
            among: among.cloned(),
            rows: rows.neighbors.clone(),
            too_coarse: rows.cost.too_coarse,
        });
    }

    fn nearest(&self, knn: &Knn, k: usize, among: Option<&RoaringBitmap>, id_bound: u32) -> Rows {
        let vectors = self.index.vectors[knn.field].as_ref().expect("the parser checked the field's type");
        let filter = among.map(IdSet::new);
        let is_late = || self.is_late();
        let question = Question { query: &knn.vector, filter: filter.as_ref(), id_bound, is_late: &is_late };
        vectors.nearest(&question, k, Effort { ef: self.ef(knn), recall: knn.recall })
    }

    /// Notes for the profile what the parts of the filter cost.
    fn measure(&mut self, found: &Found) {
        let ranges = match found {
            Found::Matches(matches) => &matches.ranges,
            Found::Nearest(Nearest { matches: Some(matches), .. }) => &matches.ranges,
            _ => return,
        };
        let nodes = profile::measure(self, ranges);
        self.profile.as_mut().expect("asked for").nodes = nodes;
    }

    /// Checks the rows, and writes the reply unless it is long: then what is to be written is returned.
    fn finish(
        mut self,
        found: Found,
        loaded: &Loaded,
        view: &View<'_>,
        reply: &mut dyn Reply,
    ) -> Result<Option<(Plan, KeptAnswer)>, SearchError> {
        debug_assert_eq!(view.database(), self.database);
        let name = &self.index.definition.name;
        let here = view.module::<SearchModule>().index(self.database, name);
        if !here.is_some_and(|index| Arc::ptr_eq(index, &self.index)) {
            // Dropped, or moved to another database, while we searched.
            view.whole_keyspace();
            return Err(Kind::NoIndex.of(name));
        }
        view.wait_for(self.index.changed_by());
        if let (Found::Nearest(nearest), Some(profile)) = (&found, &mut self.profile) {
            profile.cost = Some(nearest.cost);
            profile.live = self.index.vectors[self.query.knn.as_ref().expect("found by it").field]
                .as_ref()
                .map(|vectors| vectors.live.report(self.env.clock.monotonic()));
        }
        let Some(mut profile) = self.profile.take() else {
            let answered = self.answer(found, loaded, view, reply)?;
            return Ok(answered.kept.map(|kept| (self, kept)));
        };
        profile.loading = self.now();
        profile::begin(reply);
        let answered = self.answer(found, loaded, view, reply)?;
        if let Some(kept) = &answered.kept {
            reply::write_kept(&self, reply, kept);
        }
        profile.rows = answered.total;
        profile::write(&self, &profile, answered.warnings, reply);
        Ok(None)
    }

    /// Writes the search's own reply, or keeps it.
    fn answer(
        &self,
        found: Found,
        loaded: &Loaded,
        view: &View<'_>,
        reply: &mut dyn Reply,
    ) -> Result<Answered, SearchError> {
        let mut warnings = Warnings { timed_out: false, incomplete: self.is_incomplete };
        match found {
            Found::Incomplete => Err(Kind::Backfilling.error()),
            Found::Nearest(nearest) => self.answer_nearest(view, reply, nearest, loaded, warnings),
            Found::Matches(matches) => self.answer_matches(view, reply, matches, loaded, warnings),
            Found::Late => {
                warnings.timed_out = true;
                self.write(view, reply, loaded, Answer { total: 0, rows: Vec::new(), warnings })
            }
        }
    }

    fn write(
        &self,
        view: &View<'_>,
        reply: &mut dyn Reply,
        loaded: &Loaded,
        answer: Answer<'_>,
    ) -> Result<Answered, SearchError> {
        if answer.warnings.timed_out && self.fails_on_timeout {
            return Err(Kind::Timeout.error());
        }
        let (total, warnings) = (answer.total, answer.warnings);
        let page = answer.page(self);
        if page.len() <= ROWS_FEW {
            reply::write(self, view, reply, &answer);
            return Ok(Answered { total, warnings, kept: None });
        }
        let room = reply.room();
        let kept = if loaded.is_cut_off() { None } else { self.keep(view, page, loaded, room) };
        let Some(page) = kept else {
            reply.give_up();
            return Ok(Answered { total, warnings, kept: None });
        };
        let kept = KeptAnswer { total, page, warnings, now_ms: view.now_ms() };
        Ok(Answered { total, warnings, kept: Some(kept) })
    }

    fn answer_nearest(
        &self,
        view: &View<'_>,
        reply: &mut dyn Reply,
        mut nearest: Nearest,
        loaded: &Loaded,
        mut warnings: Warnings,
    ) -> Result<Answered, SearchError> {
        let knn = self.query.knn.as_ref().expect("found by it");
        let documents = &*self.index.documents.read();
        let late = &mut warnings.timed_out;
        *late |= nearest.timed_out;
        let may_have_expired = view.may_have_due(self.database);
        // Without a filter, looking at each row is enough.
        let is_walked =
            may_have_expired && (nearest.matches.is_some() || self.may_have_unindexed() || knn.k > ROWS_FEW);
        let mut stale = if is_walked { self.stale(view, documents, late) } else { Stale::default() };
        let asks = may_have_expired && !is_walked;
        let mut rows = self.check_rows(view, documents, knn, &mut nearest, &stale, asks);
        let is_last = nearest.neighbors.len() < knn.k || knn.k == 0 || *late;
        if let (false, Some(farthest)) = (is_last, nearest.neighbors.last()) {
            // Of what is farther by now, it is not known whether others are nearer.
            rows.retain(|row| row.distance() <= farthest.distance);
        }
        if rows.len() < knn.k && !is_last {
            // Some were gone, and others may take their place: those that are true now are asked for.
            if asks {
                stale = self.stale(view, documents, late);
            }
            self.find_again(documents, knn, &mut nearest, &stale);
            *late |= nearest.timed_out;
            rows = self.check_rows(view, documents, knn, &mut nearest, &stale, false);
        }
        rows.sort_unstable_by(Row::order);
        rows.truncate(knn.k);
        reply::put_in_order(self, view, documents, loaded, &mut rows);
        let total = rows.len();
        self.write(view, reply, loaded, Answer { total, rows, warnings })
    }

    /// Finds the neighbours as they are now, under the keyspace's lock, without those that are stale.
    fn find_again(&self, documents: &Documents, knn: &Knn, nearest: &mut Nearest, stale: &Stale<'_>) {
        let among = match &mut nearest.matches {
            Some(matches) => {
                self.look_again(matches, documents, &documents.changed_since(matches.version));
                matches.version = documents.version();
                Some(&matches.documents - &stale.documents)
            }
            None => (!stale.documents.is_empty()).then(|| documents.live() - &stale.documents),
        };
        let rows = self.nearest(knn, knn.k, among.as_ref(), documents.id_bound());
        nearest.version = documents.version();
        nearest.neighbors = rows.neighbors;
        nearest.timed_out |= rows.timed_out;
    }

    /// The neighbours that are true now, as rows, and what is true of the stale; in any order.
    fn check_rows<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        knn: &'r Knn,
        nearest: &mut Nearest,
        stale: &Stale<'r>,
        may_have_expired: bool,
    ) -> Vec<Row<'r>> {
        let Nearest { version, neighbors, matches, .. } = nearest;
        documents.prefetch(neighbors.iter().map(|neighbor| neighbor.id));
        if may_have_expired {
            let keys = neighbors.iter().filter_map(|neighbor| documents.key(neighbor.id));
            view.prefetch(keys);
        }
        let has_changed = |id: u32| documents.version_of(id) > *version;
        if let Some(matches) = matches {
            let ids = neighbors.iter().map(|neighbor| neighbor.id);
            let changed = ids.filter(|&id| has_changed(id)).collect();
            self.look_again(matches, documents, &changed);
        }
        let mut rows = Vec::with_capacity(neighbors.len());
        rows.extend(stale.rows.iter().filter_map(|row| self.look(row.clone(), view, knn)));
        for &Neighbor { id, distance } in neighbors.iter().filter(|row| !stale.documents.contains(row.id)) {
            let Some(key) = documents.key(id) else { continue };
            if matches.as_ref().is_some_and(|matches| !matches.documents.contains(id)) {
                continue;
            }
            let mut row = Row::new(key, id, None);
            if let Some(matches) = matches {
                row.add(&matches.ranges, documents, &self.query.filter, id);
            }
            if has_changed(id) {
                rows.extend(self.look(row, view, knn));
                continue;
            }
            row.nearest = Some((&knn.alias, distance));
            rows.extend(if may_have_expired { self.look(row, view, knn) } else { Some(row) });
        }
        rows
    }

    /// The row, if its document has a vector in the keyspace; the distance is found out where it is not known.
    fn look<'r>(&self, mut row: Row<'r>, view: &View<'r>, knn: &'r Knn) -> Option<Row<'r>> {
        let hash = match row.hash {
            Some(hash) => hash,
            None => view.hash(row.key).ok()??,
        };
        hash.get(&self.index.definition.fields[knn.field].identifier)?;
        if row.nearest.is_none() {
            row.nearest = Some((&knn.alias, self.index.distance(hash, knn.field, &knn.vector)?));
        }
        row.hash = Some(hash);
        Some(row)
    }

    /// Everything that the filter matches.
    fn answer_matches(
        &self,
        view: &View<'_>,
        reply: &mut dyn Reply,
        mut matches: Matches,
        loaded: &Loaded,
        mut warnings: Warnings,
    ) -> Result<Answered, SearchError> {
        let documents = &*self.index.documents.read();
        warnings.timed_out |= matches.timed_out;
        let changed = documents.changed_since(matches.version);
        self.look_again(&mut matches, documents, &changed);
        let stale = self.stale(view, documents, &mut warnings.timed_out);
        matches.documents -= &stale.documents;
        let total = matches.documents.len() as usize + stale.rows.len();
        let rows = self.page(view, documents, &mut matches, &changed, stale.rows);
        self.write(view, reply, loaded, Answer { total, rows, warnings })
    }

    /// The rows up to the end of the page, of what matches and of `others`, which the index does not know as they are.
    fn page<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        matches: &mut Matches,
        changed: &RoaringBitmap,
        mut others: Vec<Row<'r>>,
    ) -> Vec<Row<'r>> {
        let request = self.request();
        if request.limit == 0 {
            return Vec::new();
        }
        let end = request.offset + request.limit;
        let order = matches.order.take();
        let row = |id| {
            let key = documents.key(id).expect("matches are live");
            let mut row = Row::new(key, id, None);
            row.add(&matches.ranges, documents, &self.query.filter, id);
            row
        };
        let found = &matches.documents;
        let Some(sort_by) = &request.sort_by else {
            return merge(found.iter().map(|id| (SortKey::Absent, id)), others, end, false, row);
        };
        let order = order.expect("a page was asked for in this order");
        others.extend((changed & found).iter().map(row));
        let descending = sort_by.descending;
        others.iter_mut().for_each(|row| row.sort_key = reply::sort_key(self, view, documents, sort_by, row));
        others.sort_by(|a, b| order_of((&a.sort_key, a.id), (&b.sort_key, b.id), descending));
        let is_other: HashSet<u32> = others.iter().map(|row| row.id).collect();
        let order = order.in_order().filter(|(_, id)| found.contains(*id) && !is_other.contains(id));
        merge(order, others, end, descending, row)
    }
}

/// The first rows of what was found and of others, both in order.
fn merge<'r>(
    found: impl Iterator<Item = (SortKey, u32)>,
    others: Vec<Row<'r>>,
    end: usize,
    descending: bool,
    row: impl Fn(u32) -> Row<'r>,
) -> Vec<Row<'r>> {
    let (mut found, mut others) = (found.peekable(), others.into_iter().peekable());
    let mut rows = Vec::new();
    while rows.len() < end {
        let is_other = match (found.peek(), others.peek()) {
            (None, None) => break,
            (Some((key, id)), Some(other)) => {
                order_of((&other.sort_key, other.id), (key, *id), descending).is_lt()
            }
            (found, _) => found.is_none(),
        };
        let of_found = |(sort_key, id)| Row { sort_key, ..row(id) };
        rows.extend(if is_other { others.next() } else { found.next().map(of_found) });
    }
    rows
}
