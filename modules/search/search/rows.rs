//! Rows that are copied before the last look, and rows that are written after it.
//!
//! The documents of a large page are copied before the last look, a few under each lock of the keyspace. The
//! last look uses the copies of the documents that have not changed since, and reads the others again. The
//! reply is then written without any lock.

use super::Found;
use super::excerpt::Excerpt;
use super::explained::Explained;
use super::matches::Matches;
use super::page::ids_from;
use super::plan::{Plan, Row, SortKey};
use super::reply;
use crate::documents::Documents;
use engramdb_engine::command::Looks;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::log::Lsn;
use engramdb_engine::store::view::View;
use engramdb_engine::types::ShortBytes;
use std::sync::Arc;

/// The most rows that the last look reads and writes itself. More are copied before it and written after it.
pub const ROWS_FEW: usize = 256;
/// The most documents and bytes that are copied under one lock. The last document may exceed the bytes.
pub const COPIED_ROWS: usize = 64;
const COPIED_BYTES: usize = 128 * 1024;
/// The most copies that are checked for changes under one lock. A check needs no lookup of a key.
const CHECKED_ROWS: usize = 1024;

/// Copies of documents, by id.
#[derive(Default)]
pub struct Loaded {
    rows: HashMap<u32, LoadedRow>,
    /// The last batch before the first copy.
    began: Option<Lsn>,
    copied_bytes: usize,
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
    excerpt: Option<Arc<Excerpt>>,
    sort_key: SortKey,
    score: f64,
    explanation: Option<Box<Explained>>,
}

impl Plan {
    /// Copies the documents of the expected page if they are many. Stops if the reply would exceed the
    /// client's output limit.
    pub fn load(&self, looks: &dyn Looks, found: &Found, loaded: &mut Loaded) {
        if self.request().limit <= ROWS_FEW || !reply::needs_documents(self) {
            return;
        }
        let ids = self.page_ids(found);
        if ids.len() > ROWS_FEW {
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
                let ranking = nearest.ranking.as_ref();
                ranking.map(|ranking| ranking.page(k, offset, limit)).unwrap_or_default()
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

    /// Copies documents, a few under each lock.
    fn copy_rows(&self, looks: &dyn Looks, ids: &[u32], loaded: &mut Loaded) {
        let (mut left, mut measured, mut least) = (ids, 0, 0);
        while !left.is_empty() && !loaded.is_cut_off {
            looks.look(&mut |view| {
                loaded.began.get_or_insert(view.last_lsn());
                let documents = &*self.index.documents.read();
                let (some, _) = left.split_at(left.len().min(COPIED_ROWS));
                documents.prefetch(some.iter().copied());
                view.prefetch(some.iter().filter_map(|&id| documents.key(id)));
                let mut bytes = 0;
                let taken = some.iter().take_while(|&&id| {
                    let has_room = bytes < COPIED_BYTES;
                    if has_room {
                        bytes += loaded.copy(self, view, documents, id);
                    }
                    has_room
                });
                left = &left[taken.count()..];
                loaded.copied_bytes += bytes;
            });
            if loaded.copied_bytes > looks.room() {
                // A copy can take more bytes than its part of the reply, so the reply's bytes are computed.
                let copied = ids.len() - left.len();
                least += loaded.least_bytes(self, &ids[measured..copied]);
                measured = copied;
                loaded.is_cut_off = least > looks.room();
            }
        }
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
        for row in rows {
            let excerpt = if needs_documents { self.kept_excerpt(view, row, loaded) } else { None };
            copied_bytes += row.key.len() + excerpt.as_ref().map_or(0, |excerpt| excerpt.heap_bytes());
            kept.push(Kept {
                key: ShortBytes::new(row.key),
                id: row.id,
                distance: row.nearest.map(|(_, distance)| distance),
                ranges: row.ranges.clone(),
                excerpt,
                sort_key: row.sort_key.clone(),
                score: row.score,
                explanation: row.explanation.clone(),
            });
            if copied_bytes > room {
                let more = &kept[measured..];
                let bytes_of =
                    |kept: &Kept| reply::least_bytes(self, kept.key.as_slice(), kept.excerpt.as_deref());
                least += more.iter().map(bytes_of).sum::<usize>();
                measured = kept.len();
                if least > room {
                    return None;
                }
            }
        }
        Some(kept)
    }

    /// The copy of the row's document if it is up to date, or a new one.
    fn kept_excerpt(&self, view: &View<'_>, row: &Row<'_>, loaded: &Loaded) -> Option<Arc<Excerpt>> {
        let copy = loaded.rows.get(&row.id).filter(|copy| copy.is_true(view, row.key));
        copy.map(|copy| copy.excerpt.clone()).or_else(|| {
            let document = row.document.or_else(|| self.document(view, row.key))?;
            Some(Arc::new(Excerpt::of(self, &document)))
        })
    }

    /// A kept row in the form that is written; `now_ms` is the engine's time at the last look.
    pub fn row_of<'r>(&'r self, kept: &'r Kept, now_ms: u64) -> Row<'r> {
        let alias = self.query.knn.as_ref().map_or(&b""[..], |knn| &knn.alias);
        Row {
            nearest: kept.distance.map(|distance| (alias, distance)),
            ranges: kept.ranges.clone(),
            document: kept.excerpt.as_ref().map(|excerpt| excerpt.read(now_ms)),
            sort_key: kept.sort_key.clone(),
            score: kept.score,
            explanation: kept.explanation.clone(),
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

    /// Copies one document. Returns the size of the copy in bytes.
    fn copy(&mut self, plan: &Plan, view: &View<'_>, documents: &Documents, id: u32) -> usize {
        let Some(key) = documents.key(id) else { return 0 };
        let Some(document) = plan.document(view, key) else { return 0 };
        let excerpt = Arc::new(Excerpt::of(plan, &document));
        let bytes = excerpt.heap_bytes();
        self.rows.insert(id, LoadedRow { key: ShortBytes::new(key), upto: view.last_lsn(), excerpt });
        bytes
    }
}

impl LoadedRow {
    fn is_true(&self, view: &View<'_>, key: &[u8]) -> bool {
        self.key.as_slice() == key && view.changed_by(key) <= self.upto
    }
}
