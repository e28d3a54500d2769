//! Filters: evaluates a query's tree to the set of documents that match it.
//!
//! A set is computed while documents change: no step locks them for long, so that no writer waits for a
//! filter. The result is right for each document that has not changed since the first step, because its
//! postings have not changed either. The changed documents are checked one by one afterwards (`means`).

use super::fuzzy::Fuzzy;
use super::plan::Plan;
use super::proximity::Proximity;
use super::walk::{TextWalk, WORDS_PER_FIELD};
use crate::documents::geo::GeoWalk;
use crate::documents::ids;
use crate::documents::pieces::PatternPieces;
use crate::documents::postings::{NumberWalk, TermWalk, is_between};
use crate::documents::shapes::ShapePostings;
use crate::documents::texts::TermPlace;
use crate::documents::{Documents, TEXT_END};
use crate::index::Index;
use crate::query::{Node, Pattern, ShapeQuery, TextMatch, VectorRange, attributes::Nearness};
use crate::vectors::Question;
use crate::vectors::facts::SearchMode;
use engramdb_engine::hashing::HashMap;
use engramdb_vector::Neighbor;
use parking_lot::RwLock;
use roaring::RoaringBitmap;
use std::cell::Cell;
use std::slice;
use std::sync::Arc;

/// The time limit passed before a filter was evaluated.
#[derive(Debug)]
pub struct Late;

/// Units of work under one lock of the documents, and between two reads of the clock. One unit compares about
/// one short term; this many take about a tenth of a millisecond.
const HOLD_WORK: usize = 1024;
/// Documents of a set that are merged with another set for one unit of work.
const MERGED_PER_WORK: usize = 4096;
/// Bytes of a wildcard pattern that add one unit of work per term: in the worst case each is compared with
/// each byte of the term.
const WILDCARD_PER_WEIGHT: usize = 16;
/// Documents whose words are read together, so that cache misses overlap.
const READ_AHEAD: usize = 32;
/// The fields of all these documents together, at most.
const READ_AHEAD_FIELDS: usize = 1024;
/// Terms of a text that are compared for one unit of work.
const COMPARED_PER_WORK: usize = 16;

/// The matches of a query's vector ranges. They are found without the lock of the documents, because that may
/// take long.
#[derive(Default)]
pub struct Ranges {
    matched: Vec<Matched>,
    /// The time ran out before all matches were found.
    pub timed_out: bool,
}

struct Matched {
    range: VectorRange,
    documents: RoaringBitmap,
    distances: HashMap<u32, f64>,
}

impl Ranges {
    /// Searches all vector ranges of the tree, in documents of this version and below this id.
    pub fn find(
        index: &Index,
        tree: &Node,
        (version, id_bound): (u64, u32),
        is_late: &dyn Fn() -> bool,
    ) -> Ranges {
        let mut found = Ranges::default();
        tree.ranges_by_place(false, &mut |range, exact| {
            let field = index.vectors[range.field].as_ref().expect("the parser checked the field's type");
            let question = Question { query: &range.vector, filter: None, id_bound, is_late };
            let epsilon = range.epsilon.unwrap_or(field.options().epsilon as f32);
            let rows = field.within(&question, range.radius, epsilon, exact);
            field.last_mode.note(SearchMode::Range);
            found.timed_out |= rows.timed_out;
            found.matched.push(Matched::new(range, &index.documents_of(version, rows.neighbors)));
        });
        found
    }

    /// The vector ranges of the tree, without matches yet.
    pub fn unmatched(tree: &Node) -> Ranges {
        let mut found = Ranges::default();
        tree.ranges(&mut |range| found.matched.push(Matched::new(range, &[])));
        found
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        const DISTANCE_BYTES: usize = 24;
        let of_one = |matched: &Matched| {
            matched.documents.serialized_size()
                + matched.distances.len() * DISTANCE_BYTES
                + matched.range.vector.len()
        };
        self.matched.iter().map(of_one).sum()
    }

    /// Replaces what is known of a document. `distance` returns its distance from a range's vector now,
    /// `None` if it has no vector.
    pub fn note(&mut self, id: u32, distance: impl Fn(&VectorRange) -> Option<f64>) {
        for matched in &mut self.matched {
            match distance(&matched.range).filter(|&distance| distance <= matched.range.radius) {
                Some(distance) => {
                    matched.documents.insert(id);
                    matched.distances.insert(id, distance);
                }
                None => {
                    matched.documents.remove(id);
                    matched.distances.remove(&id);
                }
            }
        }
    }

    /// The matches of a range. Equal ranges share them.
    fn of(&self, range: &VectorRange) -> Option<&RoaringBitmap> {
        self.matched.iter().find(|matched| matched.range == *range).map(|matched| &matched.documents)
    }

    /// The names and distances that the ranges of a tree give to a document that matches it: those of ranges
    /// with a name for the distance, in the parts of the tree that match.
    pub fn distances(&self, documents: &Documents, tree: &Node, id: u32) -> Vec<(Arc<[u8]>, f64)> {
        let mut found = Vec::new();
        if tree.has_optional_range() {
            self.gather(documents, tree, id, &mut found);
        } else {
            found.extend(self.matched.iter().filter_map(|matched| matched.distance(id)));
        }
        found
    }

    /// Adds the distances that the node gives to the document if it matches. Returns whether it does.
    fn gather(&self, documents: &Documents, node: &Node, id: u32, found: &mut Vec<(Arc<[u8]>, f64)>) -> bool {
        let before = found.len();
        let mut part = |node: &Node| self.gather(documents, node, id, found);
        let is_meant = match node {
            Node::And(nodes) => nodes.iter().all(part),
            // Each part is evaluated, also after one that matches, because each may add a distance.
            Node::Or(nodes) => nodes.iter().filter(|node| part(node)).count() > 0,
            Node::Optional(node) => {
                part(node);
                true
            }
            Node::With(with) => {
                part(&with.node) && is_near(documents, self, node, id, &mut TextWalk::unbounded())
            }
            Node::Range(range) => {
                let matched = self.matched.iter().find(|matched| matched.range == *range);
                found.extend(matched.and_then(|matched| matched.distance(id)));
                matched.is_some_and(|matched| matched.documents.contains(id))
            }
            node => means(documents, self, node, id),
        };
        if !is_meant {
            found.truncate(before);
        }
        is_meant
    }
}

impl Matched {
    fn new(range: &VectorRange, rows: &[Neighbor]) -> Matched {
        Matched {
            range: range.clone(),
            documents: ids::bitmap_of(rows.iter().map(|row| row.id).collect()),
            distances: rows.iter().map(|row| (row.id, row.distance)).collect(),
        }
    }

    /// The range's name for the distance, and a document's distance; `None` if either is missing.
    fn distance(&self, id: u32) -> Option<(Arc<[u8]>, f64)> {
        Some((self.range.alias.clone()?, *self.distances.get(&id)?))
    }
}

/// The evaluation of trees to the sets of documents that match them.
pub struct Evaluation<'e> {
    documents: &'e RwLock<Documents>,
    ranges: &'e Ranges,
    is_late: &'e dyn Fn() -> bool,
    /// Units of work since the clock was last read.
    done: Cell<usize>,
    /// The most terms of a pattern whose documents match.
    expansions_max: usize,
}

impl<'e> Evaluation<'e> {
    pub fn new(
        documents: &'e RwLock<Documents>,
        ranges: &'e Ranges,
        is_late: &'e dyn Fn() -> bool,
    ) -> Evaluation<'e> {
        Evaluation { documents, ranges, is_late, done: Cell::new(0), expansions_max: usize::MAX }
    }

    /// Of a plan's filter, with the plan's limit to the terms of each pattern.
    pub fn of_plan(plan: &'e Plan, ranges: &'e Ranges, is_late: &'e dyn Fn() -> bool) -> Evaluation<'e> {
        let expansions_max = plan.prepared.defaults.expansions_max;
        Evaluation { expansions_max, ..Evaluation::new(&plan.index.documents, ranges, is_late) }
    }

    /// Counts a term of a pattern; false if the pattern has too many.
    fn expands(&self, found: &Cell<usize>) -> bool {
        found.set(found.get() + 1);
        found.get() <= self.expansions_max
    }

    /// Whether a pattern has more terms than its documents are looked for by: no others need be found.
    fn is_expanded(&self, found: &Cell<usize>) -> bool {
        found.get() > self.expansions_max
    }

    pub fn documents(&self) -> &'e RwLock<Documents> {
        self.documents
    }

    /// The documents that match a tree.
    pub fn matches(&self, node: &Node) -> Result<RoaringBitmap, Late> {
        if let Some(set) = self.stored(&self.documents.read(), node) {
            return Ok(set.cloned().unwrap_or_default());
        }
        match node {
            Node::And(nodes) => self.all_of(nodes),
            Node::Or(nodes) => self.any_of(nodes),
            Node::Not(_) => self.all_of(slice::from_ref(node)),
            Node::With(with) => self.with_attributes(node, &with.node),
            Node::Tag { field, pattern } => self.with_pattern(*field, pattern),
            Node::Text { fields, text } => self.with_text(fields, text),
            Node::Number { field, least, most } => {
                let mut walk = NumberWalk::default();
                self.in_steps(|documents, work| {
                    let numbers = documents.numbers(*field);
                    numbers.is_none_or(|numbers| numbers.step(&mut walk, (*least, *most), work))
                })?;
                Ok(ids::bitmap_of(walk.documents))
            }
            Node::Geometry(query) => self.with_shape(query),
            Node::Near { field, circle } => {
                let mut walk = GeoWalk::new(*circle);
                self.in_steps(|documents, work| {
                    documents.numbers(*field).is_none_or(|positions| walk.step(positions, work))
                })?;
                Ok(ids::bitmap_of(walk.documents))
            }
            _ => unreachable!("the sets of all other nodes are stored"),
        }
    }

    /// The set of a node that is stored, like that of one term, and needs no computation. `Some(None)` is an
    /// empty set.
    #[allow(clippy::option_option, reason = "a set that is known to be empty is a known set")]
    fn stored<'a>(&'a self, documents: &'a Documents, node: &Node) -> Option<Option<&'a RoaringBitmap>> {
        let of_term = |field: usize, term: &[u8]| documents.terms(field).and_then(|terms| terms.get(term));
        match node {
            Node::All | Node::Optional(_) => Some(Some(documents.live())),
            Node::Nothing => Some(None),
            Node::Tag { field, pattern: Pattern::Exact(term) } => Some(of_term(*field, term)),
            Node::Text {
                fields,
                text: TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term),
            } => {
                let Some(posting) = documents.texts().get(term) else { return Some(None) };
                let mut places = posting.places().iter().filter(|place| place.is_in(fields));
                match (places.next(), places.next()) {
                    (place, None) => Some(place.map(|place| place.documents())),
                    _ => None,
                }
            }
            Node::With(with) if nearness_of(node).is_none() => self.stored(documents, &with.node),
            Node::Missing(field) => Some(Some(documents.missing(*field))),
            Node::Range(range) => Some(self.ranges.of(range)),
            Node::Open(_) => unreachable!("a query has values for its parameters"),
            _ => None,
        }
    }

    /// Merges a node's set into what was found, as `join` does it.
    fn join(
        &self,
        found: &mut RoaringBitmap,
        node: &Node,
        join: impl Fn(&mut RoaringBitmap, &RoaringBitmap),
    ) -> Result<(), Late> {
        let joined = self.stored(&self.documents.read(), node).map(|set| match set {
            Some(set) => join(found, set),
            None => join(found, &RoaringBitmap::new()),
        });
        if joined.is_none() {
            join(found, &self.matches(node)?);
        }
        self.worked(1 + found.len() as usize / MERGED_PER_WORK)
    }

    fn any_of(&self, nodes: &[Node]) -> Result<RoaringBitmap, Late> {
        let mut found = RoaringBitmap::new();
        nodes.iter().try_for_each(|node| self.join(&mut found, node, |found, set| *found |= set))?;
        Ok(found)
    }

    /// The intersection. The sets of negated parts are subtracted at the end, so that their complements are
    /// never computed.
    fn all_of(&self, nodes: &[Node]) -> Result<RoaringBitmap, Late> {
        let is_negated = |node: &&Node| matches!(node, Node::Not(_));
        let mut positive = nodes.iter().filter(|node| !is_negated(node) && !means_all(node));
        let mut found = self.matches(positive.next().unwrap_or(&Node::All))?;
        for node in positive {
            if found.is_empty() {
                return Ok(found);
            }
            self.join(&mut found, node, |found, set| *found &= set)?;
        }
        for node in nodes {
            if let Node::Not(inner) = node {
                self.join(&mut found, inner, |found, set| *found -= set)?;
            }
        }
        Ok(found)
    }

    /// The documents whose shapes are as the query asks. Shapes are compared without the lock.
    fn with_shape(&self, query: &ShapeQuery) -> Result<RoaringBitmap, Late> {
        let (mut found, mut after, mut is_end) = (Vec::new(), None, false);
        while !is_end {
            let mut near = Vec::new();
            self.in_one_step(|documents, work| {
                let asked = (query.predicate, &*query.shape);
                let shapes = documents.shapes(query.field);
                let step =
                    |shapes: &ShapePostings| shapes.step(&mut after, asked, (&mut near, &mut found), work);
                is_end = shapes.is_none_or(step);
            })?;
            for (id, shape) in near {
                if query.predicate.holds(&shape, &query.shape) {
                    found.push(id);
                }
                self.worked(shape.work(&query.shape))?;
            }
        }
        Ok(ids::bitmap_of(found))
    }

    /// One step with a lock of the documents of its own.
    fn in_one_step(&self, step: impl FnOnce(&Documents, &mut usize)) -> Result<(), Late> {
        let mut left = HOLD_WORK;
        step(&self.documents.read(), &mut left);
        self.worked(HOLD_WORK - left)
    }

    /// The terms that match a pattern, in order, if they are found by what they contain. `field` is that of
    /// tags, `None` for the words of texts.
    pub fn containing(
        &self,
        field: Option<usize>,
        pattern: &Pattern,
    ) -> Result<Option<Vec<Arc<[u8]>>>, Late> {
        let pieces = match pattern {
            Pattern::Suffix(piece) => PatternPieces::suffix(piece),
            Pattern::Infix(piece) => PatternPieces::infix(piece),
            Pattern::Wildcard(wildcard) => PatternPieces::wildcard(wildcard),
            Pattern::Exact(_) | Pattern::Prefix(_) | Pattern::Fuzzy(..) => return Ok(None),
        };
        let with_all = |documents: &Documents| match field {
            Some(field) => documents.terms(field)?.with_all(&pieces),
            None => documents.texts().with_all(&pieces),
        };
        let Some(numbers) = with_all(&self.documents.read()) else { return Ok(None) };
        let (mut numbers, mut found) = (numbers.into_iter(), Vec::new());
        self.in_steps(|documents, work| {
            for number in numbers.by_ref() {
                let term = match field {
                    Some(field) => documents.terms(field).and_then(|terms| terms.term_of(number)),
                    None => documents.texts().term_of(number),
                };
                // Another term may have the number by now.
                let bytes = term.map_or(0, |term| term.len());
                found.extend(term.filter(|term| pattern.matches(term)).cloned());
                *work = work.saturating_sub(1 + pattern.weight() * (1 + bytes / COMPARED_PER_WORK));
                if *work == 0 {
                    return false;
                }
            }
            true
        })?;
        found.sort_unstable();
        Ok(Some(found))
    }

    /// The documents with one of these terms. `merge` adds those of a term, and returns how many it added.
    fn with_any(
        &self,
        terms: Vec<Arc<[u8]>>,
        merge: impl Fn(&Documents, &[u8], &mut RoaringBitmap) -> usize,
    ) -> Result<RoaringBitmap, Late> {
        let (mut terms, mut found) = (terms.into_iter().take(self.expansions_max), RoaringBitmap::new());
        self.in_steps(|documents, work| {
            for term in terms.by_ref() {
                *work = work.saturating_sub(1 + merge(documents, &term, &mut found) / MERGED_PER_WORK);
                if *work == 0 {
                    return false;
                }
            }
            true
        })?;
        Ok(found)
    }

    fn with_pattern(&self, field: usize, pattern: &Pattern) -> Result<RoaringBitmap, Late> {
        let prefix: &[u8] = match pattern {
            Pattern::Exact(term) => {
                let documents = self.documents.read();
                let found = documents.terms(field).and_then(|terms| terms.get(term));
                return Ok(found.cloned().unwrap_or_default());
            }
            Pattern::Prefix(prefix) => prefix,
            _ => b"",
        };
        if let Some(terms) = self.containing(Some(field), pattern)? {
            return self.with_any(terms, |documents, term, found| {
                let Some(set) = documents.terms(field).and_then(|terms| terms.get(term)) else { return 0 };
                *found |= set;
                set.len() as usize
            });
        }
        let (mut walk, found) = (TermWalk::default(), Cell::new(0));
        self.in_steps(|documents, work| {
            let matches = |term: &[u8]| pattern.matches(term) && self.expands(&found);
            let terms = documents.terms(field);
            terms.is_none_or(|terms| terms.step(&mut walk, prefix, (pattern.weight(), matches), work))
                || self.is_expanded(&found)
        })?;
        Ok(walk.documents)
    }

    fn with_text(&self, fields: &Arc<[usize]>, text: &TextMatch) -> Result<RoaringBitmap, Late> {
        let pattern = match text {
            TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term) => {
                return self.with_term(term, Some(fields));
            }
            TextMatch::Phrase(phrase) => return self.with_phrase(fields, phrase),
            TextMatch::Term(Pattern::Fuzzy(word, most)) => return self.with_fuzzy(fields, word, *most),
            TextMatch::Term(pattern) => pattern,
        };
        if let Some(terms) = self.containing(None, pattern)? {
            return self.with_any(terms, |documents, term, found| {
                let places = documents.texts().get(term).map(|posting| posting.places()).unwrap_or_default();
                let mut merged = 0;
                for place in places.iter().filter(|place| place.is_in(fields)) {
                    *found |= place.documents();
                    merged += place.documents().len() as usize;
                }
                merged
            });
        }
        let prefix: &[u8] = if let Pattern::Prefix(prefix) = pattern { prefix } else { b"" };
        let (mut walk, found) = (TermWalk::default(), Cell::new(0));
        self.in_steps(|documents, work| {
            let matches = |term: &[u8]| pattern.matches(term) && self.expands(&found);
            documents.texts().step(&mut walk, (prefix, fields), (pattern.weight(), matches), work)
                || self.is_expanded(&found)
        })?;
        Ok(walk.documents)
    }

    /// The documents with a term in these fields, or in any.
    pub fn with_term(&self, term: &[u8], fields: Option<&[usize]>) -> Result<RoaringBitmap, Late> {
        let (mut found, mut next) = (RoaringBitmap::new(), 0);
        self.in_steps(|documents, work| {
            let Some(posting) = documents.texts().get(term) else { return true };
            // Places come and go with changed documents, which are read again.
            for place in posting.places() {
                if place.field() < next {
                    continue;
                }
                if fields.is_none_or(|fields| place.is_in(fields)) {
                    found |= place.documents();
                    *work = work.saturating_sub(1 + place.documents().len() as usize / MERGED_PER_WORK);
                }
                next = place.field() + 1;
                if *work == 0 {
                    return false;
                }
            }
            true
        })?;
        Ok(found)
    }

    fn with_fuzzy(&self, fields: &[usize], word: &[u8], most: u8) -> Result<RoaringBitmap, Late> {
        let fuzzy = Fuzzy::new(word, most);
        let (mut walk, mut found, terms) = (fuzzy.walk(), RoaringBitmap::new(), Cell::new(0));
        self.in_steps(|documents, work| {
            let texts = documents.texts();
            walk.step(texts, work, |number| {
                if !self.expands(&terms) {
                    return 0;
                }
                let places = texts.posting(number).places().iter().filter(|place| place.is_in(fields));
                let merge = |place: &TermPlace| {
                    found |= place.documents();
                    1 + place.documents().len() as usize / MERGED_PER_WORK
                };
                places.map(merge).sum()
            }) || self.is_expanded(&terms)
        })?;
        Ok(found)
    }

    /// The documents with these words next to each other.
    fn with_phrase(&self, fields: &Arc<[usize]>, phrase: &[Vec<u8>]) -> Result<RoaringBitmap, Late> {
        let node = |term: &Vec<u8>| Node::Text {
            fields: fields.clone(),
            text: TextMatch::Term(Pattern::Exact(term.clone())),
        };
        let mut terms: Vec<&Vec<u8>> = phrase.iter().collect();
        terms.sort_unstable();
        terms.dedup();
        let with_all = self.all_of(&terms.into_iter().map(node).collect::<Vec<_>>())?;
        if phrase.len() == 1 {
            return Ok(with_all);
        }
        let proximity = {
            let documents = self.documents.read();
            (!documents.has_no_offsets()).then(|| Proximity::of_phrase(documents.texts(), fields, phrase))
        };
        match proximity {
            Some(proximity) => self.near(with_all, proximity),
            None => Ok(with_all),
        }
    }

    /// The documents of a node with attributes.
    fn with_attributes(&self, node: &Node, inner: &Node) -> Result<RoaringBitmap, Late> {
        let found = self.matches(inner)?;
        let (Some(nearness), Node::And(nodes)) = (nearness_of(node), inner) else { return Ok(found) };
        let proximity = {
            let documents = self.documents.read();
            Some(&*documents)
                .filter(|documents| !documents.has_no_offsets())
                .and_then(|documents| Proximity::of_nodes(documents.texts(), nodes, nearness))
        };
        match proximity {
            Some(proximity) => self.near(found, proximity),
            None => Ok(found),
        }
    }

    /// Those of the documents whose words are near enough to each other.
    fn near(&self, with_all: RoaringBitmap, mut proximity: Proximity<'_>) -> Result<RoaringBitmap, Late> {
        let mut left = with_all.into_iter();
        // The documents of this step, and how many of them were looked at.
        let (mut some, mut at) = (Vec::new(), 0);
        let mut found = Vec::new();
        self.in_steps(|documents, work| {
            loop {
                if at == some.len() {
                    some.clear();
                    some.extend(left.by_ref().take(READ_AHEAD));
                    at = 0;
                    if some.is_empty() {
                        return true;
                    }
                }
                let fields = documents.field_count();
                let ahead = &some[at..some.len().min(at + (READ_AHEAD_FIELDS / fields.max(1)).max(1))];
                documents.prefetch_words(ahead);
                for &id in ahead {
                    let mut walk = TextWalk::unbounded();
                    at += 1;
                    if proximity.is_met(documents, self.ranges, id, &mut walk) {
                        found.push(id);
                    }
                    *work = work.saturating_sub(1 + walk.walked / COMPARED_PER_WORK);
                    if *work == 0 {
                        return false;
                    }
                }
            }
        })?;
        Ok(ids::bitmap_of(found))
    }

    /// Repeats a step until it returns true, the end. Each call has a lock of the documents of its own, and
    /// the units of work that it may do, which it counts down.
    pub fn in_steps(&self, mut step: impl FnMut(&Documents, &mut usize) -> bool) -> Result<(), Late> {
        loop {
            let mut left = HOLD_WORK;
            let is_end = step(&self.documents.read(), &mut left);
            self.worked(HOLD_WORK - left)?;
            if is_end {
                return Ok(());
            }
        }
    }

    fn worked(&self, work: usize) -> Result<(), Late> {
        let done = self.done.get() + work;
        self.done.set(if done < HOLD_WORK { done } else { 0 });
        if done >= HOLD_WORK && (self.is_late)() { Err(Late) } else { Ok(()) }
    }
}

fn means_all(node: &Node) -> bool {
    matches!(node, Node::All | Node::Optional(_))
}

/// Whether this one document, which is live, matches a tree.
pub fn means(documents: &Documents, ranges: &Ranges, node: &Node, id: u32) -> bool {
    means_in(documents, ranges, node, id, &mut TextWalk::unbounded())
}

/// The same, counting what is walked over. Words are not found beyond the end of the walk.
pub fn means_in(documents: &Documents, ranges: &Ranges, node: &Node, id: u32, walk: &mut TextWalk) -> bool {
    let mut is_meant = |node: &Node| means_in(documents, ranges, node, id, walk);
    match node {
        Node::All | Node::Optional(_) => true,
        Node::Nothing => false,
        Node::And(nodes) => nodes.iter().all(is_meant),
        Node::Or(nodes) => nodes.iter().any(is_meant),
        Node::Not(node) => !is_meant(node),
        Node::Tag { field, pattern } => has_term(documents, id, *field, pattern),
        Node::Number { field, least, most } => {
            let numbers = documents.numbers_of(id, *field);
            numbers.iter().any(|&number| is_between(number, *least, *most))
        }
        Node::Geometry(query) => {
            let shape = documents.shapes(query.field).and_then(|shapes| shapes.get(id));
            shape.is_some_and(|shape| query.predicate.holds(shape, &query.shape))
        }
        Node::Near { field, circle } => {
            documents.numbers_of(id, *field).iter().any(|&cell| circle.contains(cell))
        }
        Node::With(with) => is_meant(&with.node) && is_near(documents, ranges, node, id, walk),
        Node::Text { .. } if walk.is_over() => false,
        Node::Text { fields, text } => match text {
            TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term) => {
                documents.texts().get(term).is_some_and(|posting| posting.is_in(id, fields))
            }
            TextMatch::Term(pattern) => has_word(documents, id, fields, pattern, walk),
            TextMatch::Phrase(phrase) => {
                let texts = documents.texts();
                let has = |term: &Vec<u8>| texts.get(term).is_some_and(|posting| posting.is_in(id, fields));
                walk.walked += phrase.len();
                phrase.iter().all(has)
                    && (phrase.len() == 1
                        || documents.has_no_offsets()
                        || Proximity::of_phrase(texts, fields, phrase).is_met(documents, ranges, id, walk))
            }
        },
        Node::Missing(field) => documents.missing(*field).contains(id),
        Node::Range(range) => ranges.of(range).is_some_and(|matched| matched.contains(id)),
        Node::Open(_) => unreachable!("a query has values for its parameters"),
    }
}

fn has_term(documents: &Documents, id: u32, field: usize, pattern: &Pattern) -> bool {
    let Some(terms) = documents.terms(field) else { return false };
    let numbers = documents.tags_of(id, field);
    match pattern {
        Pattern::Exact(term) => terms.number(term).is_some_and(|number| numbers.contains(&number)),
        _ => numbers.iter().any(|&number| pattern.matches(terms.term(number))),
    }
}

/// Whether a document has a word that matches, in one of these TEXT fields.
fn has_word(
    documents: &Documents,
    id: u32,
    fields: &[usize],
    pattern: &Pattern,
    walk: &mut TextWalk,
) -> bool {
    let texts = documents.texts();
    let fuzzy = match pattern {
        Pattern::Fuzzy(word, most) => Some(Fuzzy::new(word, *most)),
        _ => None,
    };
    let matches = |term: &[u8]| match &fuzzy {
        Some(fuzzy) => fuzzy.matches(term),
        None => pattern.matches(term),
    };
    let words = |&field: &usize| WORDS_PER_FIELD + documents.words_of(id, field).len() * pattern.weight();
    walk.walked += fields.iter().map(words).sum::<usize>();
    let words = fields.iter().flat_map(|&field| documents.words_of(id, field));
    words.filter(|&&number| number != TEXT_END).any(|&number| matches(texts.term(number)))
}

/// How near the words of an intersection must be to each other, if its attributes say so.
fn nearness_of(node: &Node) -> Option<Nearness> {
    match node {
        Node::With(with) if matches!(with.node, Node::And(_)) => with.attributes.nearness(),
        _ => None,
    }
}

/// Whether the words of a document that has all parts of a node are as near to each other as the node asks
/// for.
fn is_near(documents: &Documents, ranges: &Ranges, node: &Node, id: u32, walk: &mut TextWalk) -> bool {
    let (Some(nearness), Node::And(nodes)) = (nearness_of(node), node.bare()) else { return true };
    let proximity = Proximity::of_nodes(documents.texts(), nodes, nearness);
    documents.has_no_offsets()
        || proximity.is_none_or(|mut proximity| proximity.is_met(documents, ranges, id, walk))
}

impl Pattern {
    /// The units of work of one comparison with a term.
    pub fn weight(&self) -> usize {
        match self {
            Pattern::Wildcard(part) | Pattern::Fuzzy(part, _) => 1 + part.len() / WILDCARD_PER_WEIGHT,
            _ => 1,
        }
    }

    pub fn matches(&self, term: &[u8]) -> bool {
        match self {
            Pattern::Exact(whole) => whole == term,
            Pattern::Prefix(prefix) => term.starts_with(prefix),
            Pattern::Suffix(suffix) => term.ends_with(suffix),
            Pattern::Infix(infix) => contains(term, infix),
            Pattern::Wildcard(wildcard) => matches_wildcard(wildcard, term),
            Pattern::Fuzzy(word, most) => Fuzzy::new(word, *most).matches(term),
        }
    }
}

fn contains(term: &[u8], part: &[u8]) -> bool {
    part.is_empty() || term.windows(part.len()).any(|window| window == part)
}

/// Whether a term matches a pattern: `?` matches one byte, `*` any number. Takes at most time proportional to
/// the product of the lengths.
fn matches_wildcard(wildcard: &[u8], term: &[u8]) -> bool {
    let (mut at, mut in_term, mut star) = (0, 0, None);
    while in_term < term.len() {
        match wildcard.get(at) {
            Some(b'*') => {
                star = Some((at, in_term));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == term[in_term] => {
                at += 1;
                in_term += 1;
            }
            _ => {
                let Some((star_at, eaten)) = star else { return false };
                star = Some((star_at, eaten + 1));
                at = star_at + 1;
                in_term = eaten + 1;
            }
        }
    }
    wildcard[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches_wildcard;
    use proptest::prelude::*;

    /// The definition of a wildcard, in time that doubles with each star.
    fn matches_slowly(wildcard: &[u8], term: &[u8]) -> bool {
        match (wildcard, term) {
            ([], term) => term.is_empty(),
            ([b'*', rest @ ..], term) => (0..=term.len()).any(|at| matches_slowly(rest, &term[at..])),
            ([byte, rest @ ..], [first, term @ ..]) if *byte == b'?' || byte == first => {
                matches_slowly(rest, term)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn wildcards_match_by_their_definition(wildcard in "[ab?*]{0,7}", term in "[ab]{0,9}") {
            let (wildcard, term) = (wildcard.as_bytes(), term.as_bytes());
            prop_assert_eq!(matches_wildcard(wildcard, term), matches_slowly(wildcard, term));
        }
    }

    #[test]
    fn wildcards_match_whole_terms() {
        for (wildcard, term, want) in [
            ("", "", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a", "ab", false),
            ("**a", "bba", true),
        ] {
            assert_eq!(matches_wildcard(wildcard.as_bytes(), term.as_bytes()), want, "{wildcard} {term}");
        }
    }
}
