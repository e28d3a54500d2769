//! A search that was understood, and what is known of it while it runs: its limits, what its filter leaves, its rows.
//!
//! How it goes on from here is in search.rs; reply.rs and profile.rs write what came of it.

use crate::documents::Documents;
use crate::error;
use crate::filter::{Ranges, evaluate};
use crate::index::Index;
use crate::prepared::Prepared;
use crate::query::{Knn, Node, Query};
use crate::request::Request;
use crate::schema::Algorithm;
use crate::vectors::Cost;
use engramdb_engine::command::{CommandError, Outcome};
use engramdb_engine::env::Env;
use engramdb_engine::view::HashView;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// A search that was understood.
pub struct Plan {
    pub index: Arc<Index>,
    pub query: Query,
    pub prepared: Arc<Prepared>,
    pub database: u32,
    pub env: Env,
    /// On the monotonic clock.
    pub deadline: Option<Duration>,
    /// What is done when it has passed: an error, or the rows found by then.
    pub fails_on_timeout: bool,
    /// The index is still being built, and is asked all the same.
    pub is_incomplete: bool,
    pub profile: Option<Profile>,
}

/// What is noted while a profiled search runs. All times are on the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Profile {
    /// When the command came.
    pub began: Duration,
    /// When its words were understood.
    pub parsed: Duration,
    /// When its job began, and when the neighbours had been found.
    pub started: Duration,
    pub found: Duration,
    /// What the nearest neighbours cost.
    pub cost: Option<Cost>,
    /// Rows that were found.
    pub rows: usize,
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
    /// Of SORTBY.
    pub sort_key: SortKey,
}

/// What rows are put in order by. Absent ones come last, in either direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SortKey {
    #[default]
    Absent,
    Number(f64),
    Text(Vec<u8>),
}

impl Plan {
    pub fn request(&self) -> &Request {
        &self.prepared.request
    }

    /// What can be wrong beyond the query's text.
    pub fn check(&self) -> Outcome {
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

    pub fn has_vectors(&self) -> bool {
        self.query.knn.is_some() || self.query.filter.has_range()
    }

    /// Multiply-adds to be expected.
    pub fn work(&self) -> usize {
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

    pub fn ef(&self, knn: &Knn) -> usize {
        let of_field =
            self.index.vectors[knn.field].as_ref().map_or(0, |vectors| vectors.options().ef_runtime);
        knn.ef_runtime.unwrap_or(of_field as usize)
    }

    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.now() > deadline)
    }

    /// On the monotonic clock.
    pub fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Notes the time in the profile, if there is one.
    pub fn note(&mut self, note: impl FnOnce(&mut Profile, Duration)) {
        let now = if self.profile.is_some() { self.now() } else { Duration::ZERO };
        if let Some(profile) = &mut self.profile {
            note(profile, now);
        }
    }

    /// What the vector ranges of the query match, as far as the time goes. `None` where it ran out and what was found
    /// by then is of no use: without all matches of a negated range, rows would be shown that are not true.
    pub fn ranges(&self, id_bound: u32, timed_out: &mut bool) -> Option<Ranges<'_>> {
        let ranges = Ranges::find(&self.index, &self.query.filter, id_bound, &|| self.is_late());
        *timed_out |= ranges.timed_out;
        (!ranges.timed_out || !self.query.filter.negates_range()).then_some(ranges)
    }

    /// Whether filter or INKEYS leave anything out.
    pub fn is_filtered(&self) -> bool {
        *self.query.filter != Node::All || self.request().in_keys.is_some()
    }

    /// The documents that filter and INKEYS leave.
    pub fn matches<'a>(&self, documents: &'a Documents, ranges: &'a Ranges<'_>) -> Cow<'a, RoaringBitmap> {
        let found = evaluate(documents, ranges, &self.query.filter);
        let Some(keys) = &self.request().in_keys else { return found };
        let named: RoaringBitmap = keys.iter().filter_map(|key| documents.id(key)).collect();
        Cow::Owned(named & &*found)
    }
}

impl<'r> Row<'r> {
    pub fn new(key: &'r [u8], id: u32, nearest: Option<(&'r [u8], f64)>) -> Row<'r> {
        Row { key, id, nearest, ranges: Vec::new(), hash: None, sort_key: SortKey::Absent }
    }

    pub fn near(key: &'r [u8], knn: &'r Knn, id: u32, distance: f64) -> Row<'r> {
        Row::new(key, id, Some((&knn.alias, distance)))
    }

    pub fn add(&mut self, ranges: &Ranges<'r>) {
        let named = ranges
            .distances(self.id)
            .filter_map(|(range, distance)| Some((range.alias.as_deref()?, distance)));
        self.ranges.extend(named);
    }

    /// Names and distances, that of KNN first.
    pub fn distances(&self) -> impl Iterator<Item = (&'r [u8], f64)> {
        self.nearest.into_iter().chain(self.ranges.iter().copied())
    }

    /// Of the query's KNN.
    pub fn distance(&self) -> f64 {
        self.nearest.map_or(0.0, |(_, distance)| distance)
    }

    /// By distance, then by key.
    pub fn order(&self, other: &Row<'_>) -> Ordering {
        self.distance().total_cmp(&other.distance()).then_with(|| self.key.cmp(other.key))
    }
}

impl SortKey {
    pub fn order(&self, other: &SortKey, descending: bool) -> Ordering {
        let order = match (self, other) {
            (SortKey::Absent, SortKey::Absent) => return Ordering::Equal,
            (SortKey::Absent, _) => return Ordering::Greater,
            (_, SortKey::Absent) => return Ordering::Less,
            (SortKey::Number(a), SortKey::Number(b)) => a.total_cmp(b),
            (SortKey::Text(a), SortKey::Text(b)) => a.cmp(b),
            (SortKey::Number(_), SortKey::Text(_)) => Ordering::Less,
            (SortKey::Text(_), SortKey::Number(_)) => Ordering::Greater,
        };
        if descending { order.reverse() } else { order }
    }
}
