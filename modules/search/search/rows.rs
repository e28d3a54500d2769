//! Rows that are read before the last look, and rows that are written after it.
//!
//! A large page is copied out of the keyspace in the job, a few documents in each look. The last look takes
//! the copies of the documents that have not changed since, reads the others anew, and leaves the reply to be
//! written without any lock.

use super::Found;
use super::excerpt::Excerpt;
use super::matches::{KEYED, Matches};
use super::nearest::Nearest;
use super::plan::{Plan, Row, SortKey};
use super::reply;
use crate::documents::Documents;
use crate::query::request::SortBy;
use engramdb_engine::command::Looks;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::log::Lsn;
use engramdb_engine::store::view::View;
use engramdb_engine::types::ShortBytes;
use engramdb_vector::Neighbor;
use std::sync::Arc;

/// Rows that the last look may read and write itself; more are copied before it, and written after it.
pub const ROWS_FEW: usize = 256;
/// What one look copies, at most: documents, and bytes but for the last document's.
pub const COPIED_ROWS: usize = 64;
const COPIED_BYTES: usize = 128 * 1024;
/// Copies of which one look finds out whether they are true still. That costs no lookup of a key.
const CHECKED_ROWS: usize = 1024;

/// Documents as they were when they were copied, by id.
#[derive(Default)]
pub struct Loaded {
    rows: HashMap<u32, LoadedRow>,
    /// The last batch before the first copy.
    began: Option<Lsn>,
    copied_bytes: usize,
    /// There is more of it than the client takes: the rest was not copied.
    is_cut_off: bool,
}

struct LoadedRow {
    key: ShortBytes,
    /// The last batch that the copy has.
    upto: Lsn,
    sort_key: Option<SortKey>,
    excerpt: Option<Arc<Excerpt>>,
}

/// What is read of each document of some.
struct Wanted {
    ids: Vec<u32>,
    sort_keys: bool,
    excerpts: bool,
}

/// A row on its own, to be written when the documents and the keyspace are free.
pub struct Kept {
    key: ShortBytes,
    id: u32,
    distance: Option<f64>,
    ranges: Vec<(Arc<[u8]>, f64)>,
    excerpt: Option<Arc<Excerpt>>,
    sort_key: SortKey,
}

impl Plan {
    /// Copies the documents of the answer that is to be expected, where they are many. Where the reply would
    /// be more than the client takes, copying ends.
    pub fn load(&self, looks: &dyn Looks, found: &Found, loaded: &mut Loaded) {
        if let Some(wanted) = self.wanted(looks, found, loaded) {
            // What an earlier step copied is there.
            let is_missing = |id: &u32| !loaded.has(*id, &wanted);
            let new: Vec<u32> = wanted.ids.iter().copied().filter(is_missing).collect();
            self.copy_rows(looks, &wanted, &new, loaded);
            self.copy_changed(looks, &wanted, loaded);
        }
    }

    /// A few documents in each look.
    fn copy_rows(&self, looks: &dyn Looks, wanted: &Wanted, ids: &[u32], loaded: &mut Loaded) {
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
                        bytes += loaded.copy(self, view, documents, id, wanted);
                    }
                    has_room
                });
                left = &left[taken.count()..];
                loaded.copied_bytes += bytes;
            });
            if loaded.copied_bytes > looks.room() {
                // Copies can take more than what is written of them.
                let copied = ids.len() - left.len();
                least += loaded.least_bytes(self, &ids[measured..copied]);
                measured = copied;
                loaded.is_cut_off = least > looks.room();
            }
        }
    }

    /// Copies again what has changed since, until that is little, or no longer gets less: the last look reads
    /// it anew.
    fn copy_changed(&self, looks: &dyn Looks, wanted: &Wanted, loaded: &mut Loaded) {
        let mut most = usize::MAX;
        while !loaded.is_cut_off && !self.is_late() {
            let changed = changed(looks, &wanted.ids, loaded);
            if changed.len() <= ROWS_FEW || changed.len() > most {
                return;
            }
            most = changed.len() / 2;
            self.copy_rows(looks, wanted, &changed, loaded);
        }
    }

    fn wanted(&self, looks: &dyn Looks, found: &Found, loaded: &mut Loaded) -> Option<Wanted> {
        let is_many = match found {
            Found::Nearest(nearest) => nearest.neighbors.len() > ROWS_FEW,
            Found::Matches(matches) => matches.documents.len() > ROWS_FEW as u64,
            _ => false,
        };
        if !is_many {
            return None;
        }
        let request = self.request();
        let excerpts = reply::needs_documents(self) && request.limit > ROWS_FEW;
        let k = self.query.knn.as_ref().map_or(0, |knn| knn.k);
        let page = |ids: &mut dyn Iterator<Item = u32>| -> Vec<u32> {
            ids.skip(request.offset).take(request.limit).collect()
        };
        let (ids, sort_keys) = match (found, &request.sort_by) {
            (Found::Nearest(nearest), None) => {
                (page(&mut nearest.neighbors.iter().take(k).map(|neighbor| neighbor.id)), false)
            }
            (Found::Nearest(nearest), Some(sort_by)) => {
                let ids: Vec<u32> = nearest.neighbors.iter().take(k).map(|neighbor| neighbor.id).collect();
                // What the index knows need not be read for the order.
                let sort_keys = self.stored_order().is_some();
                if excerpts && request.limit < ids.len() {
                    if sort_keys {
                        let wanted = Wanted { ids: Vec::new(), sort_keys, excerpts: false };
                        self.copy_rows(looks, &wanted, &ids, loaded);
                    }
                    let sorted = self.sorted(looks, nearest, sort_by, loaded);
                    (page(&mut sorted.into_iter()), sort_keys)
                } else {
                    (ids, sort_keys)
                }
            }
            // Put in order before.
            (Found::Matches(Matches { order: Some(order), .. }), _) => (page(&mut order.ids()), false),
            (Found::Matches(matches), _) => (page(&mut matches.documents.iter()), false),
            _ => return None,
        };
        (ids.len() > ROWS_FEW && (excerpts || sort_keys)).then_some(Wanted { ids, sort_keys, excerpts })
    }

    /// The neighbours in SORTBY's order, as far as it is known before the last look.
    fn sorted(&self, looks: &dyn Looks, nearest: &Nearest, sort_by: &SortBy, loaded: &Loaded) -> Vec<u32> {
        let knn = self.query.knn.as_ref().expect("found by it");
        let neighbors = &nearest.neighbors[..nearest.neighbors.len().min(knn.k)];
        let mut keyed = Vec::with_capacity(neighbors.len());
        for some in neighbors.chunks(KEYED) {
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                let key_of = |neighbor: &Neighbor| {
                    let id = neighbor.id;
                    if let Some(read) = loaded.rows.get(&id).and_then(|row| row.sort_key.clone()) {
                        return Some((read, id));
                    }
                    let mut row = Row::new(documents.key(id)?, id, None);
                    row.nearest = Some((&knn.alias, neighbor.distance));
                    if let Some(matches) = &nearest.matches {
                        row.add(&matches.ranges, documents, &self.query.filter, id);
                    }
                    Some((reply::sort_key(self, view, documents, sort_by, &row), id))
                };
                keyed.extend(some.iter().filter_map(key_of));
            });
        }
        keyed.sort_by(|(a, _), (b, _)| a.order(b, sort_by.descending));
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    /// Copies of rows, which need no lock any more; `None` if they exceed the client's output limit (`room`,
    /// in bytes).
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

    /// The copy, where it is true still, or one that is made now.
    fn kept_excerpt(&self, view: &View<'_>, row: &Row<'_>, loaded: &Loaded) -> Option<Arc<Excerpt>> {
        let copy = loaded.rows.get(&row.id).filter(|copy| copy.is_true(view, row.key));
        copy.and_then(|copy| copy.excerpt.clone()).or_else(|| {
            let document = row.document.or_else(|| self.document(view, row.key))?;
            Some(Arc::new(Excerpt::of(self, &document)))
        })
    }

    /// A kept row as it is written; `now_ms` is of the last look.
    pub fn row_of<'r>(&'r self, kept: &'r Kept, now_ms: u64) -> Row<'r> {
        let alias = self.query.knn.as_ref().map_or(&b""[..], |knn| &knn.alias);
        Row {
            nearest: kept.distance.map(|distance| (alias, distance)),
            ranges: kept.ranges.clone(),
            document: kept.excerpt.as_ref().map(|excerpt| excerpt.read(now_ms)),
            sort_key: kept.sort_key.clone(),
            ..Row::new(kept.key.as_slice(), kept.id, None)
        }
    }
}

/// Those of the documents of which the copies are not true any more.
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
    /// Whether what is wanted of a document was copied, true still or not.
    fn has(&self, id: u32, wanted: &Wanted) -> bool {
        self.rows.get(&id).is_some_and(|copy| {
            (copy.excerpt.is_some() || !wanted.excerpts) && (copy.sort_key.is_some() || !wanted.sort_keys)
        })
    }

    /// What the reply has of these documents, at the least.
    fn least_bytes(&self, plan: &Plan, ids: &[u32]) -> usize {
        let rows = ids.iter().filter_map(|id| self.rows.get(id));
        rows.map(|row| reply::least_bytes(plan, row.key.as_slice(), row.excerpt.as_deref())).sum()
    }

    /// Whether the reply is more than the client takes.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// Returns how many bytes were copied.
    fn copy(
        &mut self,
        plan: &Plan,
        view: &View<'_>,
        documents: &Documents,
        id: u32,
        wanted: &Wanted,
    ) -> usize {
        let Some(key) = documents.key(id) else { return 0 };
        let Some(document) = plan.document(view, key) else { return 0 };
        let row = Row { document: Some(document), ..Row::new(key, id, None) };
        let sort_by = plan.request().sort_by.as_ref().filter(|_| wanted.sort_keys);
        let sort_key = sort_by.map(|sort_by| reply::sort_key(plan, view, documents, sort_by, &row));
        let excerpt = wanted.excerpts.then(|| Arc::new(Excerpt::of(plan, &document)));
        let bytes = excerpt.as_ref().map_or(0, |excerpt| excerpt.heap_bytes());
        let (key, upto) = (ShortBytes::new(key), view.last_lsn());
        self.rows.insert(id, LoadedRow { key, upto, sort_key, excerpt });
        bytes
    }

    /// The sort key that was read, if it is true still.
    pub fn sort_key(&self, view: &View<'_>, row: &Row<'_>) -> Option<SortKey> {
        // Of what has expired since, the copy does not know.
        let copy = self
            .rows
            .get(&row.id)
            .filter(|_| row.document.is_none() && !view.may_have_due(view.database()))?;
        copy.sort_key.clone().filter(|_| copy.is_true(view, row.key))
    }
}

impl LoadedRow {
    fn is_true(&self, view: &View<'_>, key: &[u8]) -> bool {
        self.key.as_slice() == key && view.changed_by(key) <= self.upto
    }
}
