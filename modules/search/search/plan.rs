//! A parsed search with its limits, the estimate of its work, and its rows.
//!
//! Choices, and where they are made:
//! - whether it runs on the thread of the command, in the search pool, or after the end of the backfill:
//!   `begin` in search/mod.rs, by `Plan::work`;
//! - whether a filtered KNN scans the matches or walks the graph: `filter_wants_scan` in
//!   modules/vector/hnsw/filtered.rs.
//!
//! search/mod.rs has the steps of the search; reply.rs and profile.rs write its results.

use super::explained::Explained;
use super::filter::Ranges;
use super::highlight::Highlighter;
use super::probe;
use super::reply;
use crate::audit::AuditorHandle;
use crate::documents::Documents;
use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::query::prepared::PreparedSearch;
use crate::query::request::QueryOptions;
use crate::query::{Knn, Node, Pattern, Policy, Query, TextMatch};
use crate::schema::Algorithm;
use crate::vectors::Cost;
use crate::vectors::live::LiveReport;
use crate::weight::ReadWeight;
use engramdb_engine::env::Env;
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::View;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// A parsed search.
pub struct Plan {
    pub index: Arc<Index>,
    pub query: Query,
    pub prepared: Arc<PreparedSearch>,
    pub database: u32,
    pub env: Env,
    /// The end of the time limit, on the monotonic clock; `None` for no limit.
    pub deadline: Option<Duration>,
    /// After the deadline the reply is an error if this is set, else the rows found so far.
    pub fails_on_timeout: bool,
    /// The index is still being built, and is searched nevertheless.
    pub is_incomplete: bool,
    /// Set if the search becomes a sample for the live recall.
    pub auditor: Option<AuditorHandle>,
    pub profile: Option<Profile>,
    /// The next last look processes all changes, however many.
    pub accepts_changes: bool,
    /// The time limit had passed before the next last look.
    pub was_late: bool,
    /// The documents are the input of an aggregation: all are read, in no order but that of a KNN.
    pub reads_all: bool,
    /// It is one of the two searches of an FT.HYBRID, for whose scores tags do not count.
    pub in_hybrid: bool,
    /// It runs in the pool for long work.
    pub in_pool: bool,
    /// What marks words in texts of the reply, if the request asks for it.
    pub highlighter: Option<Highlighter>,
}

/// Measurements of a profiled search. All times are on the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// When the command began.
    pub began: Duration,
    /// When its words were parsed.
    pub parsed: Duration,
    /// When its job began.
    pub started: Duration,
    /// When the neighbours or matches were found.
    pub found: Duration,
    /// When the rows began to be loaded.
    pub loading: Duration,
    /// The cost of the KNN.
    pub cost: Option<Cost>,
    /// The live recall of the KNN's field.
    pub live: Option<LiveReport>,
    /// The evaluation time and the number of matches of each node of the filter, a node before its children.
    /// Nodes that were not evaluated within the time limit are missing.
    pub nodes: Vec<(Duration, u64)>,
    /// The number of rows that were found.
    pub rows: usize,
    /// The steps of an aggregation.
    pub steps: Option<Vec<String>>,
}

/// Approximate costs in multiply-adds: of a term that a pattern is compared with, of a number or text that is
/// read, of a document that is sorted.
const TERM_WORK: usize = 128;
const VALUE_WORK: usize = 32;
const ORDER_WORK: usize = 256;
/// The cost of a part of the query in a document that is scored.
const SCORE_WORK: usize = 64;
/// The cost of a document that is sorted by a key that must be read from the keyspace.
const STORED_ORDER_WORK: usize = 2048;
/// The costs of a row of the page: without, and with the content of its document.
const ROW_WORK: usize = 1024;
const DOCUMENT_WORK: usize = 8192;

/// A document in the answer, with its distances of the query's vector parts.
#[derive(Clone)]
pub struct Row<'r> {
    pub key: &'r [u8],
    pub id: u32,
    /// The name and distance of the query's KNN.
    pub nearest: Option<(&'r [u8], f64)>,
    /// The names and distances of the query's vector ranges.
    pub ranges: Vec<(Arc<[u8]>, f64)>,
    /// The document in the keyspace, if it was read already.
    pub document: Option<Document<'r>>,
    /// The key of SORTBY.
    pub sort_key: SortKey,
    pub score: f64,
    /// How the score comes about, if the request asks for it.
    pub explanation: Option<Box<Explained>>,
    /// The marked texts by their places among the fields that the reply shows.
    pub marks: &'r [(usize, Vec<u8>)],
}

/// The key that rows are sorted by. Absent keys come last, in either direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SortKey {
    #[default]
    Absent,
    Number(f64),
    Text(Vec<u8>),
}

/// The score of a document that is not scored: those of a KNN are in the order of their distances.
pub const SCORE: f64 = 1.0;

impl Plan {
    pub fn request(&self) -> &QueryOptions {
        &self.prepared.request
    }

    /// The document at a key, in the keyspace.
    pub fn document<'v>(&self, view: &View<'v>, key: &[u8]) -> Option<Document<'v>> {
        view.document(key, self.index.definition.documents)
    }

    /// What reading a document that is no hash costs for a row.
    pub fn weight(&self) -> &ReadWeight {
        self.prepared.weight(&self.index.definition)
    }

    /// Prepares the marking of words, if the request asks for it.
    pub fn highlight(&mut self) {
        if !self.request().excerpts.are_none() {
            let index = &self.index;
            self.highlighter = Some(Highlighter::new(&index.documents, &index.definition, &self.query));
        }
    }

    /// Checks the request beyond the query's text: SORTBY must name a field or a distance.
    pub fn check(&self) -> Result<(), SearchError> {
        let (request, definition) = (self.request(), &self.index.definition);
        // RediSearch ignores the name of a field that RETURN does not list.
        let is_shown = |name: &Vec<u8>| {
            request.fields.as_ref().is_none_or(|fields| fields.iter().any(|(_, shown)| shown == name))
        };
        let mut named = request.excerpts.named.iter().map(|(name, _)| name);
        if let Some(name) = named.find(|name| definition.field(name).is_none() && is_shown(name)) {
            let kind = if request.fields.is_some() { Kind::NotInSchema } else { Kind::NoSuchProperty };
            return Err(kind.of(name));
        }
        let Some(sort_by) = &self.request().sort_by else { return Ok(()) };
        let known = self.index.definition.field(&sort_by.field).is_some() || self.is_distance(&sort_by.field);
        if known {
            return Ok(());
        }
        Err(Kind::NoProperty.of(&sort_by.field))
    }

    /// True if a part of the query gives its distance this name.
    pub fn is_distance(&self, name: &[u8]) -> bool {
        let mut found = self.query.knn.as_ref().is_some_and(|knn| &*knn.alias == name);
        self.query.filter.ranges(&mut |range| found |= range.alias.as_deref() == Some(name));
        found
    }

    pub fn has_vectors(&self) -> bool {
        self.query.knn.is_some() || self.query.filter.has_range()
    }

    /// The expected work, in multiply-adds.
    pub fn work(&self) -> usize {
        if self.query.filter.has_range() {
            return usize::MAX;
        }
        let documents = self.index.documents.read();
        let work = filter_work(&documents, &self.query.filter);
        work.saturating_add(match &self.query.knn {
            Some(knn) => self.vector_work(&documents, knn),
            None => self.order_work(&documents),
        })
    }

    /// The expected work of finding the documents and reading them all, with their content or without.
    pub fn rows_work(&self, with_content: bool) -> usize {
        let documents = self.index.documents.read();
        let most = self.query.knn.as_ref().map_or(usize::MAX, |knn| knn.k);
        let most = most.min(most_of(&documents, &self.query.filter));
        drop(documents);
        let each = if with_content { DOCUMENT_WORK } else { ROW_WORK };
        self.work().saturating_add(most.saturating_mul(each))
    }

    /// The work of sorting the matches and writing the page.
    fn order_work(&self, documents: &Documents) -> usize {
        let request = self.request();
        let most = most_of(documents, &self.query.filter);
        let order = match &request.sort_by {
            None => 0,
            Some(sort_by) if self.stored_order().is_some() => {
                most.saturating_mul(match self.walks_for_keys(sort_by) {
                    true => usize::MAX,
                    false => STORED_ORDER_WORK,
                })
            }
            Some(_) => most * ORDER_WORK,
        };
        let scored = match request.sort_by {
            None if self.ranks_by_score() => most,
            _ if request.with_scores => most.min(request.limit),
            _ => 0,
        };
        order.saturating_add(self.score_work(documents, scored)).saturating_add(self.page_work(most))
    }

    /// The work of scoring `count` documents: by the parts of the query, and by the length of texts where it
    /// matters how near words are.
    fn score_work(&self, documents: &Documents, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let words = match self.request().scorer.minds_nearness() {
            true => documents.texts().length_sum() as usize / documents.len().max(1),
            false => 0,
        };
        let each = self.query.filter.part_count().saturating_mul(SCORE_WORK).saturating_add(words);
        count.saturating_mul(each)
    }

    fn page_work(&self, most: usize) -> usize {
        let each = if reply::needs_documents(self) { DOCUMENT_WORK } else { ROW_WORK };
        most.min(self.request().limit) * each
    }

    fn vector_work(&self, documents: &Documents, knn: &Knn) -> usize {
        let Some(vectors) = &self.index.vectors[knn.field] else { return 0 };
        let all = documents.len() + documents.row_count(knn.field);
        let options = vectors.options();
        let distances = match options.algorithm {
            Algorithm::Flat => all,
            // Of what the filter leaves, each document may have several vectors.
            _ if knn.policy == Some(Policy::Exact) => {
                let each = all.div_ceil(documents.len().max(1));
                all.min(most_of(documents, &self.query.filter).saturating_mul(each))
            }
            _ if knn.recall.is_some_and(|recall| !vectors.is_quick(recall, knn.k)) => all,
            Algorithm::Hnsw | Algorithm::Svs => all.min(self.ef(knn).max(knn.k) * options.m as usize * 2),
        };
        let rows = knn.k.min(documents.len());
        let scored = if self.request().with_scores { rows } else { 0 };
        let order = rows * ORDER_WORK + self.score_work(documents, scored);
        distances * options.dimension as usize + order + self.page_work(rows)
    }

    pub fn ef(&self, knn: &Knn) -> usize {
        let of_field =
            self.index.vectors[knn.field].as_ref().map_or(0, |vectors| vectors.options().ef_runtime);
        knn.ef_runtime.unwrap_or(of_field as usize)
    }

    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.now() > deadline)
    }

    /// The time on the monotonic clock.
    pub fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Records the time in the profile, if there is one.
    pub fn note(&mut self, note: impl FnOnce(&mut Profile, Duration)) {
        let now = if self.profile.is_some() { self.now() } else { Duration::ZERO };
        if let Some(profile) = &mut self.profile {
            note(profile, now);
        }
    }

    /// Whether the query has a filter or INKEYS.
    pub fn is_filtered(&self) -> bool {
        *self.query.filter != Node::All || self.request().in_keys.is_some()
    }
}

/// The most documents that a node can match.
pub fn most_of(documents: &Documents, node: &Node) -> usize {
    let most = |node: &Node| most_of(documents, node);
    let of_term = |field: usize, term: &[u8]| {
        documents.terms(field).and_then(|terms| terms.get(term)).map_or(0, |set| set.len() as usize)
    };
    match node {
        Node::Nothing => 0,
        Node::And(nodes) => nodes.iter().map(most).min().unwrap_or_default(),
        Node::Or(nodes) => documents.len().min(nodes.iter().map(most).sum()),
        Node::Tag { field, pattern: Pattern::Exact(term) } => of_term(*field, term),
        Node::Text { fields, text: TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term) } => {
            documents.texts().get(term).map_or(0, |posting| posting.count_max(fields) as usize)
        }
        Node::With(with) => most(&with.node),
        Node::Missing(field) => documents.missing(*field).len() as usize,
        _ => documents.len(),
    }
}

/// The work of the nodes that need a walk over terms, texts or numbers. Sets that are stored cost next to
/// nothing.
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
        Node::Text { text: TextMatch::Term(Pattern::Exact(_)) | TextMatch::Expanded(_), .. } => 0,
        Node::Text { text: TextMatch::Term(_), .. } => documents.texts().len() * TERM_WORK,
        Node::With(with) => filter_work(documents, &with.node).saturating_add(documents.len() * VALUE_WORK),
        Node::Text { text: TextMatch::Phrase(_), .. } | Node::Number { .. } | Node::Near { .. } => {
            documents.len() * VALUE_WORK
        }
        // Shapes may have many points each.
        Node::Geometry(_) => usize::MAX,
        _ => 0,
    }
}

impl<'r> Row<'r> {
    pub fn new(key: &'r [u8], id: u32, nearest: Option<(&'r [u8], f64)>) -> Row<'r> {
        probe::touch();
        Row {
            key,
            id,
            nearest,
            ranges: Vec::new(),
            document: None,
            sort_key: SortKey::Absent,
            score: SCORE,
            explanation: None,
            marks: &[],
        }
    }

    /// Adds the distances that the ranges of a tree give to the document with this id, which matches it.
    pub fn add(&mut self, ranges: &Ranges, documents: &Documents, tree: &Node, id: u32) {
        self.ranges.extend(ranges.distances(documents, tree, id));
    }

    /// All names and distances, that of KNN first.
    pub fn distances(&self) -> impl Iterator<Item = (&[u8], f64)> {
        self.nearest.into_iter().chain(self.ranges.iter().map(|(alias, distance)| (&**alias, *distance)))
    }

    /// The distance of the query's KNN; 0 if there is none.
    pub fn distance(&self) -> f64 {
        self.nearest.map_or(0.0, |(_, distance)| distance)
    }

    /// The order by distance, then by key.
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
