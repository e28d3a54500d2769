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
use crate::filter::{Ranges, evaluate};
use crate::ids::IdSet;
use crate::index::Index;
use crate::module::SearchModule;
use crate::prepared::Prepared;
use crate::query::{Knn, Node, Query};
use crate::reply;
use crate::request::Request;
use crate::schema::Algorithm;
use crate::vectors::Question;
use engramdb_engine::command::{Args, CommandError, Finish, Job, Outcome, Reply, Stage};
use engramdb_engine::env::Env;
use engramdb_engine::view::{HashView, View};
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic;
use std::time::Duration;

/// Multiply-adds that are done where the command came in; more go to the search pool. About a millisecond.
const INLINE_WORK_MAX: usize = 4 << 20;

/// A search that was understood.
pub struct Plan {
    pub index: Arc<Index>,
    pub query: Query,
    prepared: Arc<Prepared>,
    database: u32,
    env: Env,
    /// On the monotonic clock.
    deadline: Option<Duration>,
}

/// A document in the answer, with what the vector parts of the query say of it.
pub struct Row<'r> {
    pub key: &'r [u8],
    pub id: u32,
    /// Name and distance of the query's KNN.
    pub nearest: Option<(&'r [u8], f64)>,
    /// Names and distances of its vector ranges.
    pub ranges: Vec<(&'r [u8], f64)>,
    /// The document's hash, if it was looked at already.
    pub hash: Option<HashView<'r>>,
}

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
    Nearest {
        version: u64,
        neighbors: Vec<Neighbor>,
    },
    /// The filter is evaluated where the rows are loaded.
    Filter,
    Late,
    /// The index is still being built.
    Incomplete,
}

pub fn search(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let module = view.module::<SearchModule>();
    let index = module.index(view.database(), args[1]).ok_or_else(|| {
        // It must not be missing because of a DROP that could still be lost.
        view.whole_keyspace();
        error::unknown_index(args[1])
    })?;
    view.wait_for(index.last_lsn());
    index.uses.fetch_add(1, atomic::Ordering::Relaxed);
    let prepared = index.prepared.get(&index.definition, args)?;
    let query = prepared.bind(&index.definition, args)?;
    let env = module.options.env.clone();
    // The backfill needs the lock that a transaction holds: waiting for it there would be waiting for nothing.
    let must_not_wait = view.is_exclusive() && index.is_backfilling();
    let timeout = if must_not_wait { Some(Duration::ZERO) } else { prepared.request.timeout };
    let deadline = timeout.map(|timeout| env.clock.monotonic() + timeout);
    let plan = Plan { index: index.clone(), query, prepared, database: view.database(), env, deadline };
    plan.check()?;
    if index.is_backfilling() {
        return Ok(Stage::Offload(plan.job(true)));
    }
    if !plan.has_vectors() {
        plan.finish(Found::Filter, view, reply)?;
        return Ok(Stage::Done);
    }
    let is_long = plan.work() > INLINE_WORK_MAX;
    let job = plan.job(false);
    Ok(if is_long { Stage::Offload(job) } else { Stage::Run(job) })
}

impl Plan {
    pub fn request(&self) -> &Request {
        &self.prepared.request
    }

    /// What can be wrong beyond the query's text.
    fn check(&self) -> Outcome {
        let Some(sort_by) = &self.request().sort_by else { return Ok(()) };
        let known = self.index.definition.field(&sort_by.field).is_some() || self.is_distance(&sort_by.field);
        if known {
            return Ok(());
        }
        let field = error::text(&sort_by.field);
        Err(CommandError::new(format!("SEARCH_PROP_NOT_FOUND Property `{field}` not loaded nor in schema")))
    }

    /// True if a part of the query calls its distance so.
    pub fn is_distance(&self, name: &[u8]) -> bool {
        let mut found = self.query.knn.as_ref().is_some_and(|knn| &*knn.alias == name);
        self.query.filter.ranges(&mut |range| found |= range.alias.as_deref() == Some(name));
        found
    }

    fn has_vectors(&self) -> bool {
        self.query.knn.is_some() || self.query.filter.has_range()
    }

    /// Multiply-adds to be expected.
    fn work(&self) -> usize {
        let Some(knn) = &self.query.knn else { return usize::MAX };
        let Some(vectors) = &self.index.vectors[knn.field] else { return 0 };
        let options = vectors.options();
        let documents = self.index.documents.read().len();
        let distances = match options.algorithm {
            Algorithm::Flat => documents,
            Algorithm::Hnsw | Algorithm::Svs => {
                documents.min(self.ef(knn).max(knn.k) * options.m as usize * 2)
            }
        };
        distances * options.dimension as usize
    }

    fn ef(&self, knn: &Knn) -> usize {
        let of_field =
            self.index.vectors[knn.field].as_ref().map_or(0, |vectors| vectors.options().ef_runtime);
        knn.ef_runtime.unwrap_or(of_field as usize)
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.env.clock.monotonic() > deadline)
    }

    fn job(self, waits: bool) -> Job {
        Box::new(move || {
            let complete = !waits || {
                let left = self.deadline.map(|deadline| deadline.saturating_sub(self.env.clock.monotonic()));
                self.index.wait_complete(left.unwrap_or(Duration::MAX))
            };
            let found = if complete { self.find() } else { Found::Incomplete };
            let finish: Finish = Box::new(move |view, reply| self.finish(found, view, reply));
            finish
        })
    }

    fn find(&self) -> Found {
        match &self.query.knn {
            Some(knn) => self.nearest(knn, knn.k),
            None => Found::Filter,
        }
    }

    fn nearest(&self, knn: &Knn, k: usize) -> Found {
        let is_late = || self.is_late();
        let (version, id_bound) = {
            let documents = self.index.documents.read();
            (documents.version(), documents.id_bound())
        };
        let filter = if !self.is_filtered() {
            None
        } else {
            let Some(ranges) = Ranges::find(&self.index, &self.query.filter, id_bound, &is_late) else {
                return Found::Late;
            };
            Some(IdSet::new(self.matches(&self.index.documents.read(), &ranges)))
        };
        let vectors = self.index.vectors[knn.field].as_ref().expect("the parser checked the field's type");
        let question = Question { query: &knn.vector, filter: filter.as_ref(), id_bound, is_late: &is_late };
        let rows = vectors.nearest(&question, k, self.ef(knn));
        if rows.timed_out { Found::Late } else { Found::Nearest { version, neighbors: rows.neighbors } }
    }

    /// Whether filter or INKEYS leave anything out.
    fn is_filtered(&self) -> bool {
        *self.query.filter != Node::All || self.request().in_keys.is_some()
    }

    /// The documents that filter and INKEYS leave.
    fn matches(&self, documents: &Documents, ranges: &Ranges<'_>) -> RoaringBitmap {
        let mut found = evaluate(documents, ranges, &self.query.filter);
        if let Some(keys) = &self.request().in_keys {
            found &= keys.iter().filter_map(|key| documents.id(key)).collect::<RoaringBitmap>();
        }
        found
    }

    /// Loads the rows and writes the reply.
    fn finish(&self, found: Found, view: &View<'_>, reply: &mut dyn Reply) -> Outcome {
        debug_assert_eq!(view.database(), self.database);
        let name = &self.index.definition.name;
        let here = view.module::<SearchModule>().index(self.database, name);
        if !here.is_some_and(|index| Arc::ptr_eq(index, &self.index)) {
            // Dropped, or moved to another database, while we searched.
            view.whole_keyspace();
            return Err(error::unknown_index(name));
        }
        view.wait_for(self.index.last_lsn());
        match found {
            Found::Late => Err(error::TIMEOUT),
            Found::Incomplete => Err(error::BACKFILLING),
            Found::Filter => self.finish_filter(view, reply),
            Found::Nearest { version, neighbors } => self.finish_nearest(view, reply, version, neighbors),
        }
    }

    fn finish_nearest(
        &self,
        view: &View<'_>,
        reply: &mut dyn Reply,
        version: u64,
        neighbors: Vec<Neighbor>,
    ) -> Outcome {
        let knn = self.query.knn.as_ref().expect("found by it");
        let (mut version, mut neighbors, mut wanted) = (version, neighbors, knn.k);
        let stale = self.stale(view)?;
        loop {
            let documents = self.index.documents.read();
            let mut rows = self.check_rows(view, &documents, knn, version, &neighbors, &stale)?;
            if rows.len() >= knn.k || neighbors.len() < wanted || wanted == 0 {
                rows.sort_unstable_by(Row::order);
                rows.truncate(knn.k);
                self.add_range_distances(documents.id_bound(), &mut rows)?;
                let total = rows.len();
                return reply::write(self, view, reply, &documents, total, rows);
            }
            // Some were gone, and others may take their place. Nothing changes while we look, so this ends.
            wanted = wanted * 2 + (knn.k - rows.len());
            drop(rows);
            drop(documents);
            match self.nearest(knn, wanted) {
                Found::Nearest { version: now, neighbors: more } => (version, neighbors) = (now, more),
                _ => return Err(error::TIMEOUT),
            }
        }
    }

    /// The neighbours that are true now, as rows; in any order.
    fn check_rows<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        knn: &'r Knn,
        version: u64,
        neighbors: &[Neighbor],
        stale: &Stale,
    ) -> Result<Vec<Row<'r>>, CommandError> {
        documents.prefetch(neighbors.iter().map(|neighbor| neighbor.id));
        let may_have_expired = view.may_have_due(self.database);
        if may_have_expired {
            let keys = neighbors.iter().filter_map(|neighbor| documents.key(neighbor.id));
            view.prefetch(keys.map(|key| &key[..]));
        }
        let mut fresh: Option<RoaringBitmap> = None;
        let mut rows = Vec::with_capacity(neighbors.len());
        rows.extend(stale.matching.iter().filter_map(|id| self.look(view, documents, knn, id, None)));
        for neighbor in neighbors.iter().filter(|neighbor| !stale.documents.contains(neighbor.id)) {
            let mut distance = Some(neighbor.distance);
            if documents.version_of(neighbor.id) > version {
                if fresh.is_none() {
                    let is_late = || self.is_late();
                    let ranges =
                        Ranges::find(&self.index, &self.query.filter, documents.id_bound(), &is_late);
                    fresh = Some(self.matches(documents, &ranges.ok_or(error::TIMEOUT)?));
                }
                if !fresh.as_ref().is_some_and(|fresh| fresh.contains(neighbor.id)) {
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
        Ok(rows)
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
    fn stale(&self, view: &View<'_>) -> Result<Stale, CommandError> {
        let documents = self.index.documents.read();
        // Without a filter, looking at each row is enough.
        if !self.is_filtered() || !view.due(self.database).any(|key| documents.id(key).is_some()) {
            return Ok(Stale::default());
        }
        let is_late = || self.is_late();
        let ranges = Ranges::find(&self.index, &self.query.filter, documents.id_bound(), &is_late);
        Ok(self.stale_of(view, &documents, &ranges.ok_or(error::TIMEOUT)?))
    }

    fn stale_of(&self, view: &View<'_>, documents: &Documents, ranges: &Ranges<'_>) -> Stale {
        let mut stale = Stale::default();
        let mut current = Documents::new(&self.index.definition);
        let mut ids = Vec::new();
        for key in view.due(self.database) {
            let Some(id) = documents.id(key) else { continue };
            if stale.documents.insert(id)
                && let Ok(Some(hash)) = view.hash(key)
                && let Ok(content) = documents::read(&self.index.definition, hash)
            {
                current.upsert(key, &content);
                ids.push(id);
            }
        }
        if !ids.is_empty() {
            let matching = self.matches(&current, &ranges.renumbered(&current, &ids));
            stale.matching = matching.iter().map(|place| ids[place as usize]).collect();
        }
        stale
    }

    fn add_range_distances<'r>(&'r self, id_bound: u32, rows: &mut [Row<'r>]) -> Outcome {
        if !self.query.filter.has_range() {
            return Ok(());
        }
        let is_late = || self.is_late();
        let ranges =
            Ranges::find(&self.index, &self.query.filter, id_bound, &is_late).ok_or(error::TIMEOUT)?;
        rows.iter_mut().for_each(|row| row.add(&ranges));
        Ok(())
    }

    /// Everything that the filter matches, under the keyspace's read lock: nothing changes meanwhile.
    fn finish_filter(&self, view: &View<'_>, reply: &mut dyn Reply) -> Outcome {
        let is_late = || self.is_late();
        let id_bound = self.index.documents.read().id_bound();
        let ranges =
            Ranges::find(&self.index, &self.query.filter, id_bound, &is_late).ok_or(error::TIMEOUT)?;
        // Without an order, the rows up to the end of the page are enough.
        let request = self.request();
        let wanted = match &request.sort_by {
            Some(_) if request.limit > 0 => usize::MAX,
            _ if request.limit > 0 => request.offset + request.limit,
            _ => 0,
        };
        let documents = self.index.documents.read();
        let stale = self.stale_of(view, &documents, &ranges);
        let found = (self.matches(&documents, &ranges) - stale.documents) | stale.matching;
        let total = found.len() as usize;
        let row = |id| {
            let key = documents.key(id).expect("matches are live");
            let mut row = Row { key, id, nearest: None, ranges: Vec::new(), hash: None };
            row.add(&ranges);
            row
        };
        let rows = found.into_iter().take(wanted).map(row).collect();
        reply::write(self, view, reply, &documents, total, rows)
    }
}

impl<'r> Row<'r> {
    fn near(key: &'r [u8], knn: &'r Knn, id: u32, distance: f64) -> Row<'r> {
        Row { key, id, nearest: Some((&knn.alias, distance)), ranges: Vec::new(), hash: None }
    }

    fn add(&mut self, ranges: &Ranges<'r>) {
        let named = ranges
            .distances(self.id)
            .filter_map(|(range, distance)| Some((range.alias.as_deref()?, distance)));
        self.ranges.extend(named);
    }

    /// Names and distances, that of KNN first.
    pub fn distances(&self) -> impl Iterator<Item = (&'r [u8], f64)> {
        self.nearest.into_iter().chain(self.ranges.iter().copied())
    }

    /// By distance, then by key.
    fn order(&self, other: &Row<'_>) -> Ordering {
        let distance = |row: &Row<'_>| row.nearest.map_or(0.0, |(_, distance)| distance);
        distance(self).total_cmp(&distance(other)).then_with(|| self.key.cmp(other.key))
    }
}
