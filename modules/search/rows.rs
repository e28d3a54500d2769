//! Rows that are read before the last look, and rows that are written after it.
//!
//! A large page is copied out of the keyspace in the job, a few documents in each look. The last look takes the copies of
//! the documents that have not changed since, reads the others anew, and leaves the reply to be written without any lock.

use crate::documents::Documents;
use crate::plan::{Plan, Row, SortKey};
use crate::reply;
use crate::search::Found;
use engramdb_engine::command::Looks;
use engramdb_engine::log::Lsn;
use engramdb_engine::types::{Hash, ShortBytes};
use engramdb_engine::view::{HashView, View};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows that the last look may read and write itself; more are copied before it, and written after it.
pub const ROWS_FEW: usize = 256;
/// What one look copies, at most: documents, and bytes but for the last document's.
pub const COPIED_ROWS: usize = 64;
const COPIED_BYTES: usize = 128 * 1024;

/// Documents as they were when they were copied, by id.
#[derive(Default)]
pub struct Loaded {
    rows: HashMap<u32, LoadedRow, RandomState>,
    /// There is more of it than the client takes: the rest was not copied.
    is_cut_off: bool,
}

struct LoadedRow {
    key: ShortBytes,
    /// The last batch that the copy has.
    upto: Lsn,
    sort_key: Option<SortKey>,
    hash: Option<Arc<Hash>>,
}

/// What is read of each document of some.
struct Wanted {
    ids: Vec<u32>,
    sort_keys: bool,
    hashes: bool,
}

/// A row on its own, to be written when the documents and the keyspace are free.
pub struct Kept {
    key: ShortBytes,
    id: u32,
    distance: Option<f64>,
    ranges: Vec<(Arc<[u8]>, f64)>,
    hash: Option<Arc<Hash>>,
    sort_key: SortKey,
}

impl Plan {
    /// Copies the documents of the answer that is to be expected, where they are many. Copies take no more memory than the
    /// reply may take, about.
    pub fn load(&self, looks: &dyn Looks, found: &Found) -> Loaded {
        let mut loaded = Loaded::default();
        let Some(wanted) = self.wanted(found) else { return loaded };
        let mut left = wanted.ids.as_slice();
        let mut copied_bytes = 0;
        while !left.is_empty() {
            if copied_bytes > looks.room() {
                loaded.is_cut_off = true;
                break;
            }
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                let (some, _) = left.split_at(left.len().min(COPIED_ROWS));
                documents.prefetch(some.iter().copied());
                view.prefetch(some.iter().filter_map(|&id| documents.key(id)));
                let mut bytes = 0;
                let taken = some.iter().take_while(|&&id| {
                    let has_room = bytes < COPIED_BYTES;
                    if has_room {
                        bytes += loaded.copy(self, view, documents, id, &wanted);
                    }
                    has_room
                });
                left = &left[taken.count()..];
                copied_bytes += bytes;
            });
        }
        loaded
    }

    fn wanted(&self, found: &Found) -> Option<Wanted> {
        let request = self.request();
        let page = |ids: &mut dyn Iterator<Item = u32>| -> Vec<u32> {
            ids.skip(request.offset).take(request.limit).collect()
        };
        let hashes = reply::needs_hashes(self) && request.limit > ROWS_FEW;
        // What is put in order before the last look, or by what the index knows, need not be read for its order.
        let stored_order = self.stored_order().is_some();
        let (ids, sort_keys) = match found {
            Found::Nearest(nearest) => {
                let all = nearest.neighbors.iter().map(|neighbor| neighbor.id);
                let has_other_order = request.sort_by.is_some();
                if has_other_order { (all.collect(), stored_order) } else { (page(&mut { all }), false) }
            }
            Found::Matches(matches) => match &matches.order {
                Some(order) => (page(&mut order.ids()), false),
                None => (page(&mut matches.documents.iter()), false),
            },
            _ => return None,
        };
        (ids.len() > ROWS_FEW && (hashes || sort_keys)).then_some(Wanted { ids, sort_keys, hashes })
    }

    /// Rows that stand on their own.
    pub fn keep(&self, view: &View<'_>, rows: &[Row<'_>], loaded: &Loaded) -> Vec<Kept> {
        let needs_hashes = reply::needs_hashes(self);
        let keep = |row: &Row<'_>| {
            let copied = loaded.rows.get(&row.id).filter(|copy| copy.is_true(view, row.key));
            let copied = copied.and_then(|copy| copy.hash.clone());
            let now = || row.hash.or_else(|| view.hash(row.key).ok().flatten());
            let hash = || now().map(|hash| Arc::new(reply::copy_of(self, hash)));
            Kept {
                key: ShortBytes::new(row.key),
                id: row.id,
                distance: row.nearest.map(|(_, distance)| distance),
                ranges: row.ranges.clone(),
                hash: if needs_hashes { copied.or_else(hash) } else { None },
                sort_key: row.sort_key.clone(),
            }
        };
        rows.iter().map(keep).collect()
    }

    /// A kept row as it is written; `now_ms` is of the last look.
    pub fn row_of<'r>(&'r self, kept: &'r Kept, now_ms: u64) -> Row<'r> {
        let alias = self.query.knn.as_ref().map_or(&b""[..], |knn| &knn.alias);
        Row {
            nearest: kept.distance.map(|distance| (alias, distance)),
            ranges: kept.ranges.clone(),
            hash: kept.hash.as_ref().map(|hash| HashView::new(hash, now_ms)),
            sort_key: kept.sort_key.clone(),
            ..Row::new(kept.key.as_slice(), kept.id, None)
        }
    }
}

impl Loaded {
    /// Whether the reply is to be written in the last look, straight to where its size is bounded.
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
        let Ok(Some(hash)) = view.hash(key) else { return 0 };
        let row = Row { hash: Some(hash), ..Row::new(key, id, None) };
        let sort_by = plan.request().sort_by.as_ref().filter(|_| wanted.sort_keys);
        let sort_key = sort_by.map(|sort_by| reply::sort_key(plan, view, documents, sort_by, &row));
        let hash = wanted.hashes.then(|| Arc::new(reply::copy_of(plan, hash)));
        let bytes = hash.as_ref().map_or(0, |hash| hash.heap_bytes());
        self.rows.insert(id, LoadedRow { key: ShortBytes::new(key), upto: view.last_lsn(), sort_key, hash });
        bytes
    }

    /// The sort key that was read, if it is true still.
    pub fn sort_key(&self, view: &View<'_>, row: &Row<'_>) -> Option<SortKey> {
        // Of what has expired since, the copy does not know.
        let copy =
            self.rows.get(&row.id).filter(|_| row.hash.is_none() && !view.may_have_due(view.database()))?;
        copy.sort_key.clone().filter(|_| copy.is_true(view, row.key))
    }
}

impl LoadedRow {
    fn is_true(&self, view: &View<'_>, key: &[u8]) -> bool {
        self.key.as_slice() == key && view.changed_by(key) <= self.upto
    }
}
