//! Rows that are copied before the last look, and rows that are written after it.
//!
//! The documents of a large page are copied before the last look, a few under each lock of the keyspace. The
//! last look uses the copies of the documents that have not changed since, and reads the others again. The
//! reply is then written without any lock.
//!
//! A large document that is no hash is *held* where it would be copied: what the reply shows of it is read
//! without the lock, from the document as it was at that moment.

use super::Found;
use super::excerpt::Excerpt;
use super::explained::Explained;
use super::matches::{Lack, Matches};
use super::page::ids_from;
use super::plan::{Plan, Row, SortKey};
use super::reply::{self, KeptAnswer};
use crate::documents::Documents;
use crate::weight::{HELD_BYTES, HOLD_BYTES, HoldBudget};
use engramdb_engine::command::Looks;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::keyspace::DocumentSource;
use engramdb_engine::log::Lsn;
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::{HashView, View};
use engramdb_engine::types::ShortBytes;
use std::sync::Arc;

/// The most rows that the last look reads and writes itself. More are copied before it and written after it.
pub const ROWS_FEW: usize = 256;
/// The most documents and bytes that are copied under one lock. The last document may exceed the bytes.
pub const COPIED_ROWS: usize = 64;
const COPIED_BYTES: usize = 128 * 1024;
/// The most copies that are checked for changes under one lock. A check needs no lookup of a key.
const CHECKED_ROWS: usize = 1024;
/// The most bytes of documents that a last look holds for a page, about. Those of a page with more are copied
/// before it.
const PAGE_HELD_BYTES: usize = 64 << 20;
/// What finding and copying a field of a hash costs, in bytes that are walked over.
const FIELD_BYTES: usize = 32;

/// Copies of documents, by id.
#[derive(Default)]
pub struct Loaded {
    rows: HashMap<u32, LoadedRow>,
    /// The last batch before the first copy.
    began: Option<Lsn>,
    copied_bytes: usize,
    /// All documents of the page are copied, however few.
    pub copies_all: bool,
    /// The time limit passed: the documents without a copy are left out.
    is_late: bool,
    /// Documents are large: the pool must go on.
    needs_pool: bool,
    /// The reply would exceed the client's output limit, so the rest was not copied.
    is_cut_off: bool,
}

struct LoadedRow {
    key: ShortBytes,
    /// The last batch whose changes the copy contains.
    upto: Lsn,
    excerpt: Arc<Excerpt>,
}

/// A row that borrows nothing, and can be written without the locks of the documents and the keyspace.
pub struct Kept {
    key: ShortBytes,
    id: u32,
    distance: Option<f64>,
    ranges: Vec<(Arc<[u8]>, f64)>,
    content: Option<KeptContent>,
    sort_key: SortKey,
    score: f64,
    explanation: Option<Box<Explained>>,
    marks: Vec<(usize, Vec<u8>)>,
}

/// What a kept row has of its document.
enum KeptContent {
    Copy(Arc<Excerpt>),
    /// The document, of which nothing is read yet.
    Held(Arc<dyn DocumentSource>),
}

/// What reading the documents of a page costs, in bytes that are walked over.
#[derive(Default)]
pub struct PageWeight {
    /// Of paths that are followed, and of texts whose words are marked.
    walked: usize,
    /// Of fields of hashes that are looked up and written.
    looked_up: usize,
    /// Of documents that can be held.
    held: usize,
}

/// Where the reply is written.
pub enum ReplyPlace {
    /// In the last look.
    Here,
    /// After it, without the lock.
    After,
    Lacking(Lack),
}

impl PageWeight {
    /// Where the reply of a page of `rows` rows is written.
    pub fn place(&self, plan: &Plan, loaded: &Loaded, rows: usize) -> ReplyPlace {
        let is_copied = loaded.copies_all || loaded.is_cut_off;
        if !is_copied && (self.looked_up > HOLD_BYTES || self.held > PAGE_HELD_BYTES) {
            return ReplyPlace::Lacking(Lack::Copies);
        }
        if !plan.in_pool && (loaded.needs_pool || self.walked > HOLD_BYTES) {
            return ReplyPlace::Lacking(Lack::Pool);
        }
        let is_much = self.walked.saturating_add(self.looked_up) > HOLD_BYTES;
        let is_long = rows > ROWS_FEW || !loaded.rows.is_empty() || loaded.is_cut_off;
        if is_much || is_long || plan.highlighter.is_some() { ReplyPlace::After } else { ReplyPlace::Here }
    }
}

impl Plan {
    /// Copies the documents of the expected page if they are many. Stops if the reply would exceed the
    /// client's output limit.
    pub fn load(&self, looks: &dyn Looks, found: &Found, loaded: &mut Loaded) {
        let may_be_long = self.request().limit > ROWS_FEW || loaded.copies_all;
        if !may_be_long || !reply::needs_documents(self) {
            return;
        }
        let ids = self.page_ids(found);
        if ids.len() > ROWS_FEW || loaded.copies_all {
            // Some may have been copied by an earlier step.
            let new: Vec<u32> = ids.iter().copied().filter(|id| !loaded.rows.contains_key(id)).collect();
            self.copy_rows(looks, &new, loaded);
            self.copy_changed(looks, &ids, loaded);
        }
    }

    /// The documents of the page if none of them changes until the last look.
    fn page_ids(&self, found: &Found) -> Vec<u32> {
        let (offset, limit) = (self.request().offset, self.request().limit);
        match found {
            Found::Nearest(nearest) => {
                let k = self.query.knn.as_ref().map_or(0, |knn| knn.k);
                match &nearest.ranking {
                    Some(ranking) => ranking.page(k, offset, limit),
                    // Few, and in no order yet: the page is among them.
                    None => nearest.neighbors.iter().take(k).map(|neighbor| neighbor.id).collect(),
                }
            }
            // These are sorted already.
            Found::Matches(Matches { order: Some(order), .. }) => {
                order.ids().skip(offset).take(limit).collect()
            }
            Found::Matches(Matches { scored: Some(scored), .. }) => {
                scored.ids().skip(offset).take(limit).collect()
            }
            Found::Matches(matches) => ids_from(&matches.documents, offset).take(limit).collect(),
            Found::Late | Found::Incomplete => Vec::new(),
        }
    }

    /// Looks the documents of a short page up, but for those of which there are copies. Returns what reading
    /// them costs.
    pub fn look_up<'r>(&'r self, view: &View<'r>, rows: &mut [Row<'r>], loaded: &Loaded) -> PageWeight {
        let mut weight = PageWeight::default();
        if rows.len() > ROWS_FEW || loaded.is_cut_off {
            return weight;
        }
        // All keys and documents are read next.
        rows.iter().for_each(|row| _ = std::hint::black_box(row.key.first().copied()));
        if !reply::needs_documents(self) {
            return weight;
        }
        view.prefetch(rows.iter().filter(|row| row.document.is_none()).map(|row| row.key));
        for row in rows {
            if loaded.copy_of(view, row).is_some() {
                continue;
            }
            row.document = row.document.or_else(|| self.document(view, row.key));
            match row.document {
                Some(Document::Hash(hash)) => {
                    weight.looked_up += self.field_count(&hash) * FIELD_BYTES;
                    weight.walked += self.marked_bytes(&hash);
                }
                Some(Document::Object(object)) => {
                    let bytes = object.walked_bytes();
                    let marked = if self.highlighter.is_some() { bytes } else { 0 };
                    weight.held += bytes;
                    weight.walked = weight.walked.saturating_add(self.weight().of(object)) + marked;
                }
                None => {}
            }
        }
        weight
    }

    /// How many fields of a hash are looked up for a row.
    fn field_count(&self, hash: &HashView<'_>) -> usize {
        match &self.request().fields {
            _ if self.request().no_content => 1,
            Some(fields) => fields.len(),
            None => hash.stored(),
        }
    }

    /// The bytes of the texts of a hash whose words are marked.
    fn marked_bytes(&self, hash: &HashView<'_>) -> usize {
        if self.highlighter.is_none() {
            return 0;
        }
        match &self.request().fields {
            Some(fields) => {
                let definition = &self.index.definition;
                let length = |name: &[u8]| hash.get(definition.identifier_of(name)).map(|it| it.value.len());
                fields.iter().filter_map(|(name, _)| length(name)).sum()
            }
            None => hash.iter().map(|field| field.value.len()).sum(),
        }
    }

    /// Copies documents, a few under each lock.
    fn copy_rows(&self, looks: &dyn Looks, ids: &[u32], loaded: &mut Loaded) {
        let (mut left, mut measured, mut least) = (ids, 0, 0);
        while !left.is_empty() && !loaded.is_cut_off {
            if self.is_late() {
                loaded.is_late = true;
                return;
            }
            let mut copying = Copying::default();
            looks.look(&mut |view| {
                loaded.began.get_or_insert(view.last_lsn());
                let documents = &*self.index.documents.read();
                let (some, _) = left.split_at(left.len().min(COPIED_ROWS));
                documents.prefetch(some.iter().copied());
                view.prefetch(some.iter().filter_map(|&id| documents.key(id)));
                let taken = some.iter().take_while(|&&id| {
                    let has_room = copying.bytes < COPIED_BYTES && copying.held_bytes < HELD_BYTES;
                    if has_room {
                        loaded.copy(self, (view, documents), id, &mut copying);
                    }
                    has_room
                });
                left = &left[taken.count()..];
            });
            if !self.read_held(copying.held, loaded) {
                return;
            }
            loaded.copied_bytes += copying.bytes;
            if loaded.copied_bytes > looks.room() {
                // A copy can take more bytes than its part of the reply, so the reply's bytes are computed.
                let copied = ids.len() - left.len();
                least += loaded.least_bytes(self, &ids[measured..copied]);
                measured = copied;
                loaded.is_cut_off = least > looks.room();
            }
        }
    }

    /// Reads the documents that are held, without a lock. False if that was not done: the time limit passed,
    /// or it is work for the pool.
    fn read_held(&self, held: Vec<HeldDocument>, loaded: &mut Loaded) -> bool {
        loaded.needs_pool = !held.is_empty() && !self.in_pool;
        if loaded.needs_pool {
            return false;
        }
        for HeldDocument { id, key, upto, document } in held {
            loaded.is_late = self.is_late();
            if loaded.is_late {
                return false;
            }
            let Some(excerpt) = Excerpt::of_held(self, &*document).map(Arc::new) else {
                loaded.is_late = true;
                return false;
            };
            loaded.copied_bytes += excerpt.heap_bytes();
            loaded.rows.insert(id, LoadedRow { key, upto, excerpt });
        }
        true
    }

    /// Copies changed documents again, until few are left or their number no longer halves. The last look
    /// reads those that are left.
    fn copy_changed(&self, looks: &dyn Looks, ids: &[u32], loaded: &mut Loaded) {
        let mut most = usize::MAX;
        while !loaded.is_cut_off && !self.is_late() {
            let changed = changed(looks, ids, loaded);
            if changed.len() <= ROWS_FEW || changed.len() > most {
                return;
            }
            most = changed.len() / 2;
            self.copy_rows(looks, &changed, loaded);
        }
    }

    /// Copies of rows, which need no lock. `None` if they exceed the client's output limit, of which `room`
    /// bytes are left.
    pub fn keep(&self, view: &View<'_>, rows: &[Row<'_>], loaded: &Loaded, room: usize) -> Option<Vec<Kept>> {
        let needs_documents = reply::needs_documents(self);
        let mut kept: Vec<Kept> = Vec::new();
        let (mut copied_bytes, mut measured, mut least) = (0, 0, 0);
        let mut budget = HoldBudget::default();
        for row in rows {
            let content =
                needs_documents.then(|| self.kept_content(view, row, loaded, &mut budget)).flatten();
            copied_bytes += row.key.len() + content.as_ref().map_or(0, KeptContent::heap_bytes);
            kept.push(Kept {
                key: ShortBytes::new(row.key),
                id: row.id,
                distance: row.nearest.map(|(_, distance)| distance),
                ranges: row.ranges.clone(),
                content,
                sort_key: row.sort_key.clone(),
                score: row.score,
                explanation: row.explanation.clone(),
                marks: Vec::new(),
            });
            if copied_bytes > room {
                least += self.least_bytes(&kept[measured..]);
                measured = kept.len();
                if least > room {
                    return None;
                }
            }
        }
        Some(kept)
    }

    /// The least bytes that these rows take in the reply; nothing of documents that are not read yet.
    fn least_bytes(&self, rows: &[Kept]) -> usize {
        let bytes_of = |kept: &Kept| reply::least_bytes(self, kept.key.as_slice(), kept.excerpt());
        rows.iter().map(bytes_of).sum()
    }

    /// The copy of the row's document if it is up to date, or a new one.
    fn kept_content(
        &self,
        view: &View<'_>,
        row: &Row<'_>,
        loaded: &Loaded,
        budget: &mut HoldBudget,
    ) -> Option<KeptContent> {
        if let Some(excerpt) = loaded.copy_of(view, row) {
            return Some(KeptContent::Copy(excerpt.clone()));
        }
        let document = row.document.or_else(|| self.document(view, row.key))?;
        if let Document::Object(object) = document
            && !budget.takes(self.weight().of(object))
            && let Some(held) = object.held()
        {
            return Some(KeptContent::Held(held));
        }
        Some(KeptContent::Copy(Arc::new(Excerpt::of(self, &document))))
    }

    /// Reads the documents that are held, and marks words: what is left of an answer before it is written.
    /// Rows for which the time does not suffice are left out. False if the rows exceed the client's output
    /// limit, of which `room` bytes are left.
    pub fn complete(&self, answer: &mut KeptAnswer, room: usize) -> bool {
        let (mut bytes, mut checked_from) = (0_usize, room);
        let count = answer.page.len();
        for number in 0..count {
            let Some(was_held) = answer.page[number].read_held(self) else {
                answer.page.truncate(number);
                answer.warnings.timed_out = true;
                return true;
            };
            if !was_held && self.highlighter.is_none() {
                continue;
            }
            bytes += if self.highlighter.is_some() {
                let marks = reply::marked(self, &self.row_of(&answer.page[number], answer.now_ms));
                answer.page[number].marks = marks;
                answer.page[number].marks.iter().map(|(_, text)| text.len()).sum()
            } else {
                answer.page[number].excerpt().map_or(0, Excerpt::heap_bytes)
            };
            if bytes > checked_from {
                // The texts of marks are parts of the reply; copies can take more than theirs.
                let is_marked = self.highlighter.is_some();
                let least = if is_marked { bytes } else { self.least_bytes(&answer.page[..=number]) };
                if least > room {
                    return false;
                }
                checked_from = bytes + (room - least).max(room / 16);
            }
            if number + 1 < count && self.is_late() {
                answer.page.truncate(number + 1);
                answer.warnings.timed_out = true;
                break;
            }
        }
        true
    }

    /// A kept row in the form that is written; `now_ms` is the engine's time at the last look.
    pub fn row_of<'r>(&'r self, kept: &'r Kept, now_ms: u64) -> Row<'r> {
        let alias = self.query.knn.as_ref().map_or(&b""[..], |knn| &knn.alias);
        Row {
            nearest: kept.distance.map(|distance| (alias, distance)),
            ranges: kept.ranges.clone(),
            document: kept.excerpt().map(|excerpt| excerpt.read(now_ms)),
            sort_key: kept.sort_key.clone(),
            score: kept.score,
            explanation: kept.explanation.clone(),
            marks: &kept.marks,
            ..Row::new(kept.key.as_slice(), kept.id, None)
        }
    }
}

/// The documents whose copies are outdated.
fn changed(looks: &dyn Looks, ids: &[u32], loaded: &Loaded) -> Vec<u32> {
    let mut changed = Vec::new();
    let mut is_quiet = false;
    for some in ids.chunks(CHECKED_ROWS) {
        if is_quiet {
            break;
        }
        looks.look(&mut |view| {
            is_quiet = loaded.began == Some(view.last_lsn());
            let has_changed = |id: &&u32| {
                let copy = loaded.rows.get(id);
                copy.is_some_and(|copy| view.changed_by(copy.key.as_slice()) > copy.upto)
            };
            changed.extend(some.iter().filter(has_changed));
        });
    }
    changed
}

impl Loaded {
    /// The least bytes that these documents take in the reply.
    fn least_bytes(&self, plan: &Plan, ids: &[u32]) -> usize {
        let rows = ids.iter().filter_map(|id| self.rows.get(id));
        rows.map(|row| reply::least_bytes(plan, row.key.as_slice(), Some(&row.excerpt))).sum()
    }

    /// Whether the reply would exceed the client's output limit.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// The copy of a row's document, if it is up to date.
    fn copy_of(&self, view: &View<'_>, row: &Row<'_>) -> Option<&Arc<Excerpt>> {
        if self.rows.is_empty() {
            return None;
        }
        self.rows.get(&row.id).filter(|copy| copy.is_true(view, row.key)).map(|copy| &copy.excerpt)
    }

    /// Leaves out the rows whose documents could not be copied in time. Returns whether the time was short.
    pub fn leave_out_missing(&self, rows: &mut Vec<Row<'_>>) -> bool {
        if self.is_late {
            rows.retain(|row| self.rows.contains_key(&row.id));
        }
        self.is_late
    }

    /// Copies one document, or holds it.
    fn copy(
        &mut self,
        plan: &Plan,
        (view, documents): (&View<'_>, &Documents),
        id: u32,
        copying: &mut Copying,
    ) {
        let Some(key) = documents.key(id) else { return };
        let Some(document) = plan.document(view, key) else { return };
        let (key, upto) = (ShortBytes::new(key), view.last_lsn());
        match document {
            Document::Object(object) if !copying.budget.takes(plan.weight().of(object)) => {
                if let Some(document) = object.held() {
                    copying.held_bytes += document.walked_bytes();
                    copying.held.push(HeldDocument { id, key, upto, document });
                    return;
                }
            }
            Document::Hash(hash) => copying.bytes += plan.field_count(&hash) * FIELD_BYTES,
            Document::Object(_) => {}
        }
        let excerpt = Arc::new(Excerpt::of(plan, &document));
        copying.bytes += excerpt.heap_bytes();
        self.rows.insert(id, LoadedRow { key, upto, excerpt });
    }
}

/// What is copied under one lock.
#[derive(Default)]
struct Copying {
    budget: HoldBudget,
    bytes: usize,
    held: Vec<HeldDocument>,
    held_bytes: usize,
}

/// A document that is read after the lock.
struct HeldDocument {
    id: u32,
    key: ShortBytes,
    /// The last batch whose changes it contains.
    upto: Lsn,
    document: Arc<dyn DocumentSource>,
}

impl Kept {
    fn excerpt(&self) -> Option<&Excerpt> {
        match &self.content {
            Some(KeptContent::Copy(excerpt)) => Some(excerpt),
            Some(KeptContent::Held(_)) | None => None,
        }
    }

    /// Reads the row's document, if it is held. False if it is not; `None` if the time limit passed.
    fn read_held(&mut self, plan: &Plan) -> Option<bool> {
        let Some(KeptContent::Held(document)) = &self.content else { return Some(false) };
        let excerpt = Excerpt::of_held(plan, &**document)?;
        self.content = Some(KeptContent::Copy(Arc::new(excerpt)));
        Some(true)
    }
}

impl KeptContent {
    fn heap_bytes(&self) -> usize {
        match self {
            KeptContent::Copy(excerpt) => excerpt.heap_bytes(),
            KeptContent::Held(_) => 0,
        }
    }
}

impl LoadedRow {
    fn is_true(&self, view: &View<'_>, key: &[u8]) -> bool {
        self.key.as_slice() == key && view.changed_by(key) <= self.upto
    }
}
