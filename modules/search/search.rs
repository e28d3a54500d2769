//! FT.SEARCH: parse, find, check the rows, reply.
//!
//! Finding runs without any lock of the engine; rows are checked under its read lock afterwards. A row whose document
//! changed in between is checked again, against filter and vector; rows that are gone are refilled. The reply waits for
//! the last batch that this index was given, for a row can be missing because of it.
//!
//! A row whose document did not change is true unless something of it has expired, which the index does not know. So
//! the keyspace is asked about each row only while something in the database is due to expire, or for what the reply
//! shows of it: each look is several cache misses.

use crate::documents::{self, Documents};
use crate::error;
use crate::explain;
use crate::filter::Ranges;
use crate::ids::IdSet;
use crate::module::{SearchModule, find};
use crate::plan::{Plan, Profile, Row};
use crate::profile;
use crate::query::Knn;
use crate::reply::{self, Answer, Warnings};
use crate::vectors::{Cost, Question};
use engramdb_engine::command::{Args, CommandError, Finish, Job, Outcome, Reply, Stage};
use engramdb_engine::view::View;
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic;
use std::time::Duration;

/// Multiply-adds that are done where the command came in; more go to the search pool. About a millisecond.
const INLINE_WORK_MAX: usize = 4 << 20;

/// Documents of which something has expired and is still stored.
#[derive(Default)]
struct Stale {
    documents: RoaringBitmap,
    /// Those that match as they read now.
    matching: RoaringBitmap,
}

/// What the search without a lock came to.
enum Found {
    /// Rows as true as this version of the documents.
    Nearest(Nearest),
    /// The filter is evaluated where the rows are loaded.
    Filter,
    Late,
    /// The index is still being built.
    Incomplete,
}

/// The nearest neighbours, as true as this version of the documents.
struct Nearest {
    version: u64,
    neighbors: Vec<Neighbor>,
    /// Others may be nearer.
    timed_out: bool,
    cost: Cost,
}

pub fn search(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    begin(view, args, reply, None)
}

pub fn profile(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    find(view, args[1])?;
    let words = profile::search_words(args)?;
    let began = view.module::<SearchModule>().options.env.clock.monotonic();
    begin(view, Args::new(&words), reply, Some(Profile { began, ..Profile::default() }))
}

pub fn explain(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.bulk(explanation(view, args)?.as_bytes());
    Ok(())
}

pub fn explain_lines(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let text = explanation(view, args)?;
    let lines = text.split('\n');
    reply.array(lines.clone().count());
    lines.for_each(|line| reply.simple(line));
    Ok(())
}

fn explanation(view: &View<'_>, args: Args<'_>) -> Result<String, CommandError> {
    let index = find(view, args[1])?;
    view.wait_for(index.last_lsn());
    let query = index.prepared.get(&index.definition, args)?.bind(&index.definition, args)?;
    Ok(explain::explain(&index.definition, &query, &args))
}

fn begin(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
    profile: Option<Profile>,
) -> Result<Stage, CommandError> {
    let module = view.module::<SearchModule>();
    let index = find(view, args[1])?;
    view.wait_for(index.last_lsn());
    index.uses.fetch_add(1, atomic::Ordering::Relaxed);
    let prepared = index.prepared.get(&index.definition, args)?;
    let query = prepared.bind(&index.definition, args)?;
    let env = module.options.env.clone();
    let is_backfilling = index.is_backfilling();
    let is_incomplete = is_backfilling && module.settings.partial_results();
    // The backfill needs the lock that a transaction holds: waiting for it there would be waiting for nothing.
    let must_not_wait = view.is_exclusive() && is_backfilling && !is_incomplete;
    let timeout = if must_not_wait { Some(Duration::ZERO) } else { prepared.request.timeout };
    let deadline = timeout.map(|timeout| env.clock.monotonic() + timeout);
    let mut plan = Plan {
        index: index.clone(),
        query,
        prepared,
        database: view.database(),
        env,
        deadline,
        fails_on_timeout: module.settings.fails_on_timeout(),
        is_incomplete,
        profile,
    };
    plan.note(|profile, now| profile.parsed = now);
    plan.check()?;
    if is_backfilling && !is_incomplete {
        return Ok(Stage::Offload(plan.job(true)));
    }
    if !plan.has_vectors() {
        plan.note(|profile, now| (profile.started, profile.found) = (now, now));
        plan.finish(Found::Filter, view, reply)?;
        return Ok(Stage::Done);
    }
    let is_long = plan.work() > INLINE_WORK_MAX;
    let job = plan.job(false);
    Ok(if is_long { Stage::Offload(job) } else { Stage::Run(job) })
}

impl Plan {
    fn job(mut self, waits: bool) -> Job {
        Box::new(move || {
            self.note(|profile, now| profile.started = now);
            let complete = !waits || {
                let left = self.deadline.map(|deadline| deadline.saturating_sub(self.now()));
                self.index.wait_complete(left.unwrap_or(Duration::MAX))
            };
            let found = if complete { self.find() } else { Found::Incomplete };
            self.note(|profile, now| profile.found = now);
            let finish: Finish = Box::new(move |view, reply| self.finish(found, view, reply));
            finish
        })
    }

    fn find(&self) -> Found {
        match &self.query.knn {
            Some(knn) => self.nearest(knn, knn.k).map_or(Found::Late, Found::Nearest),
            None => Found::Filter,
        }
    }

    /// The `k` nearest of the documents that filter and INKEYS leave; `None` where the time ran out before it was known
    /// which those are.
    fn nearest(&self, knn: &Knn, k: usize) -> Option<Nearest> {
        let is_late = || self.is_late();
        let (version, id_bound) = {
            let documents = self.index.documents.read();
            (documents.version(), documents.id_bound())
        };
        let mut timed_out = false;
        let filter = if self.is_filtered() {
            let ranges = self.ranges(id_bound, &mut timed_out)?;
            Some(IdSet::new(&self.matches(&self.index.documents.read(), &ranges)))
        } else {
            None
        };
        let vectors = self.index.vectors[knn.field].as_ref().expect("the parser checked the field's type");
        let question = Question { query: &knn.vector, filter: filter.as_ref(), id_bound, is_late: &is_late };
        let rows = vectors.nearest(&question, k, self.ef(knn));
        let timed_out = timed_out || rows.timed_out;
        Some(Nearest { version, neighbors: rows.neighbors, timed_out, cost: rows.cost })
    }

    /// Checks the rows and writes the reply.
    fn finish(mut self, found: Found, view: &View<'_>, reply: &mut dyn Reply) -> Outcome {
        debug_assert_eq!(view.database(), self.database);
        let name = &self.index.definition.name;
        let here = view.module::<SearchModule>().index(self.database, name);
        if !here.is_some_and(|index| Arc::ptr_eq(index, &self.index)) {
            // Dropped, or moved to another database, while we searched.
            view.whole_keyspace();
            return Err(error::unknown_index(name));
        }
        view.wait_for(self.index.last_lsn());
        if let (Found::Nearest(nearest), Some(profile)) = (&found, &mut self.profile) {
            profile.cost = Some(nearest.cost);
        }
        let Some(mut profile) = self.profile else { return self.answer(found, view, reply).map(|_| ()) };
        profile::begin(reply);
        let warnings;
        (profile.rows, warnings) = self.answer(found, view, reply)?;
        profile::write(&self, &profile, warnings, reply);
        Ok(())
    }

    /// Writes the search's own reply. Returns how many documents there are, and what was wrong with that.
    fn answer(
        &self,
        found: Found,
        view: &View<'_>,
        reply: &mut dyn Reply,
    ) -> Result<(usize, Warnings), CommandError> {
        let mut warnings = Warnings { timed_out: false, incomplete: self.is_incomplete };
        match found {
            Found::Incomplete => Err(error::BACKFILLING),
            Found::Nearest(nearest) => self.answer_nearest(view, reply, nearest, warnings),
            Found::Filter => self.answer_filter(view, reply, warnings),
            Found::Late => {
                warnings.timed_out = true;
                let documents = &self.index.documents.read();
                self.write(view, reply, Answer { documents, total: 0, rows: Vec::new(), warnings })
            }
        }
    }

    fn write(
        &self,
        view: &View<'_>,
        reply: &mut dyn Reply,
        answer: Answer<'_>,
    ) -> Result<(usize, Warnings), CommandError> {
        if answer.warnings.timed_out && self.fails_on_timeout {
            return Err(error::TIMEOUT);
        }
        let (total, warnings) = (answer.total, answer.warnings);
        reply::write(self, view, reply, answer);
        Ok((total, warnings))
    }

    fn answer_nearest(
        &self,
        view: &View<'_>,
        reply: &mut dyn Reply,
        mut nearest: Nearest,
        mut warnings: Warnings,
    ) -> Result<(usize, Warnings), CommandError> {
        let knn = self.query.knn.as_ref().expect("found by it");
        let mut wanted = knn.k;
        let stale = self.stale(view, &mut warnings.timed_out);
        loop {
            let documents = self.index.documents.read();
            warnings.timed_out |= nearest.timed_out;
            let mut rows = self.check_rows(view, &documents, knn, &nearest, &stale, &mut warnings.timed_out);
            let is_last = nearest.neighbors.len() < wanted || wanted == 0 || warnings.timed_out;
            if let (false, Some(farthest)) = (is_last, nearest.neighbors.last()) {
                // Of what is farther by now, it is not known whether others are nearer.
                rows.retain(|row| row.distance() <= farthest.distance);
            }
            if rows.len() >= knn.k || is_last {
                rows.sort_unstable_by(Row::order);
                rows.truncate(knn.k);
                self.add_range_distances(documents.id_bound(), &mut rows, &mut warnings.timed_out);
                let total = rows.len();
                return self.write(view, reply, Answer { documents: &documents, total, rows, warnings });
            }
            // Some were gone, and others may take their place. Nothing changes while we look, so this ends.
            wanted = wanted * 2 + (knn.k - rows.len());
            drop(rows);
            drop(documents);
            match self.nearest(knn, wanted) {
                Some(more) => nearest = more,
                None => nearest.timed_out = true,
            }
        }
    }

    /// The neighbours that are true now, as rows; in any order.
    fn check_rows<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        knn: &'r Knn,
        nearest: &Nearest,
        stale: &Stale,
        timed_out: &mut bool,
    ) -> Vec<Row<'r>> {
        let neighbors = &nearest.neighbors;
        documents.prefetch(neighbors.iter().map(|neighbor| neighbor.id));
        let may_have_expired = view.may_have_due(self.database);
        if may_have_expired {
            let keys = neighbors.iter().filter_map(|neighbor| documents.key(neighbor.id));
            view.prefetch(keys);
        }
        let mut fresh: Option<RoaringBitmap> = None;
        let mut rows = Vec::with_capacity(neighbors.len());
        rows.extend(stale.matching.iter().filter_map(|id| self.look(view, documents, knn, id, None)));
        for neighbor in neighbors.iter().filter(|neighbor| !stale.documents.contains(neighbor.id)) {
            let mut distance = Some(neighbor.distance);
            if documents.version_of(neighbor.id) > nearest.version {
                let fresh = fresh.get_or_insert_with(|| {
                    let ranges = self.ranges(documents.id_bound(), timed_out);
                    ranges.map(|ranges| self.matches(documents, &ranges).into_owned()).unwrap_or_default()
                });
                if !fresh.contains(neighbor.id) {
                    continue;
                }
                distance = None;
            } else if !may_have_expired {
                let key = documents.key(neighbor.id);
                rows.extend(key.map(|key| Row::near(key, knn, neighbor.id, neighbor.distance)));
                continue;
            }
            rows.extend(self.look(view, documents, knn, neighbor.id, distance));
        }
        rows
    }

    /// A document as a row, if it has a vector in the keyspace; its distance is found out where it is not known.
    fn look<'r>(
        &self,
        view: &View<'r>,
        documents: &'r Documents,
        knn: &'r Knn,
        id: u32,
        distance: Option<f64>,
    ) -> Option<Row<'r>> {
        let key = documents.key(id)?;
        let hash = view.hash(key).ok()??;
        hash.get(&self.index.definition.fields[knn.field].identifier)?;
        let distance = match distance {
            Some(distance) => distance,
            None => self.index.distance(hash, knn.field, &knn.vector)?,
        };
        Some(Row { hash: Some(hash), ..Row::near(key, knn, id, distance) })
    }

    /// The index knows nothing of time: what is it that documents match of which something has expired?
    fn stale(&self, view: &View<'_>, timed_out: &mut bool) -> Stale {
        let documents = self.index.documents.read();
        // Without a filter, looking at each row is enough.
        if !self.is_filtered() || !view.due(self.database).any(|key| documents.id(key).is_some()) {
            return Stale::default();
        }
        match self.ranges(documents.id_bound(), timed_out) {
            Some(ranges) => self.stale_of(view, &documents, &ranges),
            None => Stale {
                matching: RoaringBitmap::new(),
                ..self.stale_of(view, &documents, &Ranges::default())
            },
        }
    }

    fn stale_of(&self, view: &View<'_>, documents: &Documents, ranges: &Ranges<'_>) -> Stale {
        let mut stale = Stale::default();
        let mut current = Documents::new(&self.index.definition);
        let mut ids = Vec::new();
        for key in view.due(self.database) {
            let Some(id) = documents.id(key) else { continue };
            if stale.documents.insert(id)
                && let Ok(Some(hash)) = view.hash(key)
                && let Ok(content) = documents::read(&self.index.definition, &hash)
            {
                current.upsert(key, &content);
                ids.push(id);
            }
        }
        if !ids.is_empty() {
            let ranges = ranges.renumbered(&current, &ids);
            let matching = self.matches(&current, &ranges);
            stale.matching = matching.iter().map(|place| ids[place as usize]).collect();
        }
        stale
    }

    fn add_range_distances<'r>(&'r self, id_bound: u32, rows: &mut [Row<'r>], timed_out: &mut bool) {
        if !self.query.filter.has_range() {
            return;
        }
        let ranges = Ranges::find(&self.index, &self.query.filter, id_bound, &|| self.is_late());
        *timed_out |= ranges.timed_out;
        rows.iter_mut().for_each(|row| row.add(&ranges));
    }

    /// Everything that the filter matches, under the keyspace's read lock: nothing changes meanwhile.
    fn answer_filter(
        &self,
        view: &View<'_>,
        reply: &mut dyn Reply,
        mut warnings: Warnings,
    ) -> Result<(usize, Warnings), CommandError> {
        let id_bound = self.index.documents.read().id_bound();
        let Some(ranges) = self.ranges(id_bound, &mut warnings.timed_out) else {
            return self.answer(Found::Late, view, reply);
        };
        // Without an order, the rows up to the end of the page are enough.
        let request = self.request();
        let wanted = match &request.sort_by {
            Some(_) if request.limit > 0 => usize::MAX,
            _ if request.limit > 0 => request.offset + request.limit,
            _ => 0,
        };
        let documents = self.index.documents.read();
        let stale = self.stale_of(view, &documents, &ranges);
        let mut found = self.matches(&documents, &ranges);
        if !stale.documents.is_empty() {
            found = Cow::Owned((&*found - stale.documents) | stale.matching);
        }
        let total = found.len() as usize;
        let row = |id| {
            let key = documents.key(id).expect("matches are live");
            let mut row = Row::new(key, id, None);
            row.add(&ranges);
            row
        };
        let rows = found.iter().take(wanted).map(row).collect();
        self.write(view, reply, Answer { documents: &documents, total, rows, warnings })
    }
}
