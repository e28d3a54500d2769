//! What a search makes of time, of which the index knows nothing: documents of which something has expired
//! and is still stored are left out of what the index says, and read anew.

use super::filter::{Ranges, means};
use super::plan::{Plan, Row};
use crate::documents::{Documents, reading};
use engramdb_engine::hashing::HashSet;
use engramdb_engine::store::view::View;
use roaring::RoaringBitmap;

/// Documents that are read between two looks at the clock.
const READ_MAX: usize = 256;

#[derive(Default)]
pub struct Stale<'r> {
    pub documents: RoaringBitmap,
    /// Those that match as they read now, in the order of their ids; and those that could not be indexed for
    /// something that has expired, which have none.
    pub rows: Vec<Row<'r>>,
}

impl Plan {
    /// Under the keyspace's lock.
    pub fn stale<'r>(&'r self, view: &View<'r>, documents: &'r Documents, timed_out: &mut bool) -> Stale<'r> {
        let definition = &self.index.definition;
        let takes_unknown = self.may_have_unindexed();
        let named = self.request().in_keys.as_ref();
        let named = named.map(|keys| keys.iter().map(Vec::as_slice).collect::<HashSet<_>>());
        let mut ranges = Ranges::unmatched(&self.query.filter);
        let mut current = Documents::new(definition);
        let mut stale = Stale::default();
        let mut unknown = HashSet::default();
        let mut read = 0;
        for key in view.due(self.database) {
            let id = documents.id(key);
            // A key may come twice.
            let is_new = match id {
                Some(id) => stale.documents.insert(id),
                None => takes_unknown && definition.covers(key) && unknown.insert(key),
            };
            if !is_new || *timed_out || named.as_ref().is_some_and(|named| !named.contains(key)) {
                continue;
            }
            let Some(document) = self.document(view, key) else { continue };
            let Ok(content) = reading::read(definition, &document) else { continue };
            let place = current.upsert(key, &content);
            ranges.note(place, |range| self.index.distance(&document, range.field, &range.vector));
            if means(&current, &ranges, &self.query.filter, place) {
                let mut row = Row::new(key, id.unwrap_or(u32::MAX), None);
                row.document = Some(document);
                row.add(&ranges, &current, &self.query.filter, place);
                stale.rows.push(row);
            }
            current.remove(key);
            read += 1;
            *timed_out |= read % READ_MAX == 0 && self.is_late();
        }
        stale.rows.sort_unstable_by_key(|row| row.id);
        stale
    }

    /// Whether there may be documents that could not be indexed.
    pub fn may_have_unindexed(&self) -> bool {
        self.index.failures.lock().all.count > 0
    }
}
