//! A search that was understood, and what is known of it while it runs: its limits, what its filter leaves,
//! its rows.
//!
//! What is chosen for it, and where:
//! - whether it runs where the command came in, in the search pool, or after the end of the backfill: `begin`
//!   in search/mod.rs, by `Plan::work`;
//! - whether a filtered KNN scans what matches or walks the graph: `filter_wants_scan` in
//!   modules/vector/hnsw/filtered.rs.
//!
//! How it goes on from here is in search/mod.rs; reply.rs and profile.rs write what came of it.

use super::filter::Ranges;
use super::probe;
use super::reply;
use crate::audit::AuditorHandle;
use crate::documents::Documents;
use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::query::prepared::PreparedSearch;
use crate::query::request::QueryOptions;
use crate::query::{Knn, Node, Pattern, Query, TextMatch};
use crate::schema::Algorithm;
use crate::vectors::Cost;
use crate::vectors::live::LiveReport;
use engramdb_engine::env::Env;
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::View;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// A search that was understood.
pub struct Plan {
    pub index: Arc<Index>,
    pub query: Query,
    pub prepared: Arc<PreparedSearch>,
    pub database: u32,
    pub env: Env,
    /// On the monotonic clock.
    pub deadline: Option<Duration>,
    /// What is done when it has passed: an error, or the rows found by then.
    pub fails_on_timeout: bool,
    /// The index is still being built, and is asked all the same.
    pub is_incomplete: bool,
    /// Of the search that is to become a sample for the live recall.
    pub auditor: Option<AuditorHandle>,
    pub profile: Option<Profile>,
    /// The next last look takes what there is, however much has changed.
    pub accepts_changes: bool,
    /// The time had run out before the next last look.
    pub was_late: bool,
}

/// What is noted while a profiled search runs. All times are on the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// When the command came.
    pub began: Duration,
    /// When its words were understood.
    pub parsed: Duration,
    /// When its job began, and when the neighbours had been found.
    pub started: Duration,
    pub found: Duration,
    /// When the rows began to be loaded.
    pub loading: Duration,
    /// What the nearest neighbours cost.
    pub cost: Option<Cost>,
    /// How good the field's answers have been.
    pub live: Option<LiveReport>,
    /// How long each node of the filter took, and how many documents it stands for; a node comes before its
    /// children. What is missing was not found in time.
    pub nodes: Vec<(Duration, u64)>,
    /// Rows that were found.
    pub rows: usize,
}

/// What things cost in multiply-adds, about: a term that a pattern is compared with, a number or text that is
/// looked at, a document that is put in order.
const TERM_WORK: usize = 128;
const VALUE_WORK: usize = 32;
const ORDER_WORK: usize = 256;
/// The same where the order is known to the documents alone.
const STORED_ORDER_WORK: usize = 2048;
/// A row of the page, and one that is written with what its document has.
const ROW_WORK: usize = 1024;
const DOCUMENT_WORK: usize = 8192;

/// A document in the answer, with what the vector parts of the query say of it.
#[derive(Clone)]
pub struct Row<'r> {
    pub key: &'r [u8],
    pub id: u32,
    /// Name and distance of the query's KNN.
    pub nearest: Option<(&'r [u8], f64)>,
    /// Names and distances of its vector ranges.
    pub ranges: Vec<(Arc<[u8]>, f64)>,
    /// The document in the keyspace, if it was looked at already.
    pub document: Option<Document<'r>>,
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
    pub fn request(&self) -> &QueryOptions {
        &self.prepared.request
    }

    /// The document at a key, in the keyspace.
    pub fn document<'v>(&self, view: &View<'v>, key: &[u8]) -> Option<Document<'v>> {
        view.document(key, self.index.definition.documents)
    }

    /// What can be wrong beyond the query's text.
    pub fn check(&self) -> Result<(), SearchError> {
        let Some(sort_by) = &self.request().sort_by else { return Ok(()) };
        let known = self.index.definition.field(&sort_by.field).is_some() || self.is_distance(&sort_by.field);
        if known {
            return Ok(());
        }
        Err(Kind::NoProperty.of(&sort_by.field))
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
        if self.query.filter.has_range() {
            return usize::MAX;
        }
        let documents = self.index.documents.read();
        let work = filter_work(&documents, &self.query.filter);
        work.saturating_add(match &self.query.knn {
            Some(knn) => self.vector_work(documents.len(), knn),
            None => self.order_work(&documents),
        })
    }

    /// Putting in order what the filter can leave, and writing the page.
    fn order_work(&self, documents: &Documents) -> usize {
        let request = self.request();
        let most = most_of(documents, &self.query.filter);
        let order = match &request.sort_by {
            None => 0,
            Some(_) if self.stored_order().is_some() => most * STORED_ORDER_WORK,
            Some(_) => most * ORDER_WORK,
        };
        order + self.page_work(most)
    }

    fn page_work(&self, most: usize) -> usize {
        let each = if reply::needs_documents(self) { DOCUMENT_WORK } else { ROW_WORK };
        most.min(self.request().limit) * each
    }

    fn vector_work(&self, documents: usize, knn: &Knn) -> usize {
        let Some(vectors) = &self.index.vectors[knn.field] else { return 0 };
        let options = vectors.options();
        let distances = match options.algorithm {
            Algorithm::Flat => documents,
            _ if knn.recall.is_some_and(|recall| !vectors.is_quick(recall, knn.k)) => documents,
            Algorithm::Hnsw | Algorithm::Svs => {
                documents.min(self.ef(knn).max(knn.k) * options.m as usize * 2)
            }
        };
        let rows = knn.k.min(documents);
        distances * options.dimension as usize + rows * ORDER_WORK + self.page_work(rows)
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

    /// Whether filter or INKEYS leave anything out.
    pub fn is_filtered(&self) -> bool {
        *self.query.filter != Node::All || self.request().in_keys.is_some()
    }
}

/// How many documents a node can stand for.
fn most_of(documents: &Documents, node: &Node) -> usize {
    let most = |node: &Node| most_of(documents, node);
    let of_term = |field: usize, term: &[u8]| {
        documents.terms(field).and_then(|terms| terms.get(term)).map_or(0, |set| set.len() as usize)
    };
    match node {
        Node::Nothing => 0,
        Node::And(nodes) => nodes.iter().map(most).min().unwrap_or_default(),
        Node::Or(nodes) => documents.len().min(nodes.iter().map(most).sum()),
        Node::Tag { field, pattern: Pattern::Exact(term) } => of_term(*field, term),
        Node::Text { fields, text: TextMatch::Term(Pattern::Exact(term)) } => {
            fields.iter().map(|&field| of_term(field, term)).sum()
        }
        Node::Missing(field) => documents.missing(*field).len() as usize,
        _ => documents.len(),
    }
}

/// Of the parts that are walked over; what stands somewhere already costs next to nothing.
fn filter_work(documents: &Documents, node: &Node) -> usize {
    let of_pattern = |field: usize, pattern: &Pattern| match pattern {
        Pattern::Exact(_) => 0,
        _ => documents.terms(field).map_or(0, |terms| terms.len() * TERM_WORK),
    };
    match node {
        Node::And(nodes) | Node::Or(nodes) => {
            nodes.iter().fold(0, |work, node| work.saturating_add(filter_work(documents, node)))
        }
        Node::Not(node) => filter_work(documents, node),
        Node::Tag { field, pattern } => of_pattern(*field, pattern),
        Node::Text { fields, text: TextMatch::Term(pattern) } => {
            fields.iter().map(|&field| of_pattern(field, pattern)).sum()
        }
        Node::Text { text: TextMatch::Phrase(_), .. } | Node::Number { .. } => documents.len() * VALUE_WORK,
        _ => 0,
    }
}

impl<'r> Row<'r> {
    pub fn new(key: &'r [u8], id: u32, nearest: Option<(&'r [u8], f64)>) -> Row<'r> {
        probe::touch();
        Row { key, id, nearest, ranges: Vec::new(), document: None, sort_key: SortKey::Absent }
    }

    /// Adds what the ranges of a tree say of a document that matches it, and has this id.
    pub fn add(&mut self, ranges: &Ranges, documents: &Documents, tree: &Node, id: u32) {
        self.ranges.extend(ranges.distances(documents, tree, id));
    }

    /// Names and distances, that of KNN first.
    pub fn distances(&self) -> impl Iterator<Item = (&[u8], f64)> {
        self.nearest.into_iter().chain(self.ranges.iter().map(|(alias, distance)| (&**alias, *distance)))
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
        probe::touch();
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
