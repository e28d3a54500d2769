//! What a search finds in its job: the documents that the filter means, and their order.
//!
//! Both are true of the documents that have not changed since a version. Whoever uses them looks at the
//! others again, alone: once more in the job while they are many, so that the last look, under the keyspace's
//! lock, is at few.

use super::filter::{Evaluation, Late, Ranges, means};
use super::plan::{Plan, Row, SortKey};
use super::reply;
use crate::documents::Documents;
use crate::query::request::SortBy;
use crate::schema::FieldKind;
use engramdb_engine::command::Looks;
use engramdb_engine::hashing::HashSet;
use roaring::RoaringBitmap;
use std::cmp::Ordering;

/// Changes of documents that may be left for the last look.
pub const CHANGED_FEW: u64 = 256;
/// Changed documents that are looked at in one hold of the documents.
const LOOKED_AT: usize = 64;
/// Documents whose place in the order is read in one look at the keyspace.
pub const KEYED: usize = 128;

pub struct Matches {
    pub version: u64,
    pub documents: RoaringBitmap,
    pub ranges: Ranges,
    /// The documents in the order of SORTBY, where a page is asked for. Fewer than all where the time ran
    /// out.
    pub order: Option<Sorted>,
    pub timed_out: bool,
}

/// Documents with what they are put in order by. Those of the first pages are in order already.
pub struct Sorted {
    first: Vec<(SortKey, u32)>,
    rest: Vec<(SortKey, u32)>,
    descending: bool,
}

/// What a last look lacks, and does not do itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// More documents have changed than it looks at.
    Changes,
    /// Fewer rows are left than were asked for, and others could take their places.
    Rows,
}

/// What has changed when a last look begins.
pub enum LastChanges {
    None,
    /// These are to be looked at.
    Few(RoaringBitmap),
    /// Too much, and no time is left to look at it elsewhere: what has changed is left out, and the answer is
    /// one of a search that ran out of time.
    TooLate,
}

/// How something that was found follows the documents.
pub enum Catching<'d> {
    /// These have changed; they are to be looked at as they are now.
    Some(&'d Documents, &'d RoaringBitmap),
    /// All that had changed at this version, which are these, have been looked at.
    Reached(u64, &'d RoaringBitmap),
}

/// Documents beyond the page that are put in order too: they follow where some of the page have changed.
const SORTED_MORE: usize = 1024;

impl Sorted {
    fn new(mut keyed: Vec<(SortKey, u32)>, page_end: usize, descending: bool) -> Sorted {
        let order = |a: &(SortKey, u32), b: &(SortKey, u32)| order_of((&a.0, a.1), (&b.0, b.1), descending);
        let end = page_end.saturating_add(SORTED_MORE);
        let rest = if keyed.len() > end {
            keyed.select_nth_unstable_by(end, order);
            keyed.split_off(end)
        } else {
            Vec::new()
        };
        keyed.sort_unstable_by(order);
        Sorted { first: keyed, rest, descending }
    }

    /// All of them, in no order.
    fn into_keyed(self) -> Vec<(SortKey, u32)> {
        let Sorted { mut first, mut rest, .. } = self;
        first.append(&mut rest);
        first
    }

    /// The ids of the first pages.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.first.iter().map(|(_, id)| *id)
    }

    /// All in order; what is not yet is put in order when it is come to.
    pub fn in_order(self) -> impl Iterator<Item = (SortKey, u32)> {
        let Sorted { first, mut rest, descending } = self;
        let rest = std::iter::once_with(move || {
            rest.sort_unstable_by(|a, b| order_of((&a.0, a.1), (&b.0, b.1), descending));
            rest
        });
        first.into_iter().chain(rest.flatten())
    }
}

/// What the index knows of an order.
enum Order<'q> {
    /// A range's name for its distance.
    Distance(&'q [u8]),
    /// A field of numbers.
    Number(usize),
}

impl Plan {
    /// The documents that filter and INKEYS leave. `Late` where the time ran out, and what was found by then
    /// is of no use.
    pub fn find_matches(&self) -> Result<Matches, Late> {
        let is_late = || self.is_late();
        let (version, id_bound) = {
            let documents = self.index.documents.read();
            (documents.version(), documents.id_bound())
        };
        let tree = &*self.query.filter;
        let ranges = Ranges::find(&self.index, tree, id_bound, &is_late);
        // Without all matches of a negated range, rows would be shown that are not true.
        if ranges.timed_out && tree.negates_range() {
            return Err(Late);
        }
        let evaluation = Evaluation::new(&self.index.documents, &ranges, &is_late);
        let mut documents = evaluation.matches(tree)?;
        if let Some(keys) = &self.request().in_keys {
            let mut named = RoaringBitmap::new();
            let mut keys = keys.iter();
            evaluation.in_steps(|documents, work| {
                named.extend(keys.by_ref().take(*work).filter_map(|key| documents.id(key)));
                *work = 0;
                keys.len() == 0
            })?;
            documents &= named;
        }
        let timed_out = ranges.timed_out;
        Ok(Matches { version, documents, ranges, order: None, timed_out })
    }

    /// Looks again at what has changed since, until that is little, or no longer gets less.
    pub fn catch_up(&self, matches: &mut Matches) {
        self.catch_up_with(matches, &mut |_, _| ());
    }

    /// The same for matches that may be in order already, which they are afterwards, too.
    pub fn catch_up_in_order(&self, looks: &dyn Looks, matches: &mut Matches) {
        let (request, order) = (self.request(), matches.order.take());
        let (Some(sort_by), Some(order)) = (&request.sort_by, order) else { return self.catch_up(matches) };
        self.keep_in_order(looks, matches, sort_by, order.into_keyed());
    }

    /// What has changed since this version, for the last look. It is lacking where that is too much to be
    /// looked at there.
    pub fn last_changes(&self, documents: &Documents, version: u64) -> Result<LastChanges, Lack> {
        let changes = documents.version() - version;
        if changes == 0 {
            return Ok(LastChanges::None);
        }
        if changes > CHANGED_FEW {
            if self.was_late {
                return Ok(LastChanges::TooLate);
            }
            if !self.accepts_changes {
                return Err(Lack::Changes);
            }
        }
        Ok(LastChanges::Few(documents.changed_since(version)))
    }

    /// The same, which hands over what has changed.
    fn catch_up_with(&self, matches: &mut Matches, note: &mut dyn FnMut(&mut Matches, &RoaringBitmap)) {
        self.catch_up_from(matches.version, &mut |following| match following {
            Catching::Some(documents, some) => self.look_again(matches, documents, some),
            Catching::Reached(version, changed) => {
                matches.version = version;
                note(matches, changed);
            }
        });
    }

    /// Has what changed since a version looked at, in slices, until that is little, or no longer gets less.
    pub fn catch_up_from(&self, mut version: u64, follow: &mut dyn FnMut(Catching<'_>)) {
        let mut most = u64::MAX;
        loop {
            let (reached, changed) = {
                let documents = self.index.documents.read();
                let changes = documents.version() - version;
                if changes <= CHANGED_FEW || changes > most {
                    return;
                }
                most = changes / 2;
                (documents.version(), documents.changed_since(version))
            };
            let is_whole =
                self.in_slices(&changed, &mut |documents, some| follow(Catching::Some(documents, some)));
            if !is_whole {
                return;
            }
            version = reached;
            follow(Catching::Reached(version, &changed));
        }
    }

    /// Has documents looked at, a few in each hold of the documents' lock. False where the time ran out.
    pub fn in_slices(&self, ids: &RoaringBitmap, look: &mut dyn FnMut(&Documents, &RoaringBitmap)) -> bool {
        let mut left = ids.iter();
        while left.len() > 0 {
            if self.is_late() {
                return false;
            }
            let some = left.by_ref().take(LOOKED_AT).collect();
            look(&self.index.documents.read(), &some);
        }
        true
    }

    /// Finds out what filter and INKEYS say of these documents, which have changed.
    pub fn look_again(&self, matches: &mut Matches, documents: &Documents, changed: &RoaringBitmap) {
        if changed.is_empty() {
            return;
        }
        let vectors = &self.index.vectors;
        let in_keys = self.request().in_keys.as_ref();
        let named = in_keys.map(|keys| keys.iter().map(Vec::as_slice).collect::<HashSet<_>>());
        for id in changed {
            let key = documents.key(id);
            let is_there = key.is_some_and(|key| named.as_ref().is_none_or(|named| named.contains(key)));
            matches.ranges.note(id, |range| {
                let vectors = vectors[range.field].as_ref().filter(|_| is_there)?;
                vectors.distance(id, &range.vector)
            });
            if is_there && means(documents, &matches.ranges, &self.query.filter, id) {
                matches.documents.insert(id);
            } else {
                matches.documents.remove(id);
            }
        }
    }

    /// Puts what was found in order, where a page is asked for.
    pub fn put_in_order(&self, looks: &dyn Looks, matches: &mut Matches) {
        let request = self.request();
        let Some(sort_by) = request.sort_by.as_ref().filter(|_| request.limit > 0) else { return };
        let all = std::mem::take(&mut matches.documents);
        let keyed = self.keyed(looks, matches, &all, sort_by);
        matches.documents = all;
        self.keep_in_order(looks, matches, sort_by, keyed);
    }

    /// Puts matches in order of which the keys were read, and those that have changed meanwhile in their
    /// places: reading keys takes a while, and little is to be left for the last look.
    fn keep_in_order(
        &self,
        looks: &dyn Looks,
        matches: &mut Matches,
        sort_by: &SortBy,
        mut keyed: Vec<(SortKey, u32)>,
    ) {
        self.catch_up_with(matches, &mut |matches, changed| {
            keyed.retain(|(_, id)| !changed.contains(*id));
            let again = changed & &matches.documents;
            keyed.extend(self.keyed(looks, matches, &again, sort_by));
        });
        let request = self.request();
        matches.order = Some(Sorted::new(keyed, request.offset + request.limit, sort_by.descending));
    }

    /// Documents with what they are put in order by.
    fn keyed(
        &self,
        looks: &dyn Looks,
        matches: &mut Matches,
        ids: &RoaringBitmap,
        sort_by: &SortBy,
    ) -> Vec<(SortKey, u32)> {
        match self.indexed_order(sort_by) {
            Some(order) => self.keyed_by_index(matches, ids, &order),
            None => self.keyed_by_hashes(looks, matches, ids, sort_by),
        }
    }

    /// What documents are put in order by, which the hashes alone know: a few of them in each look. Documents
    /// that change meanwhile are among those that have changed since the version of the matches.
    fn keyed_by_hashes(
        &self,
        looks: &dyn Looks,
        matches: &mut Matches,
        ids: &RoaringBitmap,
        sort_by: &SortBy,
    ) -> Vec<(SortKey, u32)> {
        let mut keyed = Vec::with_capacity(ids.len() as usize);
        let mut left = ids.iter();
        while left.len() > 0 {
            let some: Vec<u32> = left.by_ref().take(KEYED).collect();
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                documents.prefetch(some.iter().copied());
                let named = || some.iter().filter_map(|&id| Some((documents.key(id)?, id)));
                view.prefetch(named().map(|(key, _)| key));
                let key_of =
                    |key, id| reply::sort_key(self, view, documents, sort_by, &Row::new(key, id, None));
                keyed.extend(named().map(|(key, id)| (key_of(key, id), id)));
            });
            if self.is_late() {
                matches.timed_out = true;
                break;
            }
        }
        keyed
    }

    fn keyed_by_index(
        &self,
        matches: &mut Matches,
        ids: &RoaringBitmap,
        order: &Order<'_>,
    ) -> Vec<(SortKey, u32)> {
        let is_late = || self.is_late();
        let mut keyed = Vec::with_capacity(ids.len() as usize);
        let mut left = ids.iter();
        let evaluation = Evaluation::new(&self.index.documents, &matches.ranges, &is_late);
        let key = |documents: &Documents, id: u32| match *order {
            Order::Distance(name) => {
                let distances = matches.ranges.distances(documents, &self.query.filter, id);
                let named = distances.into_iter().find(|(alias, _)| **alias == *name);
                named.map(|(_, distance)| SortKey::Number(distance))
            }
            Order::Number(field) => {
                let first = documents.value(id, field).numbers().first();
                first.map(|&number| SortKey::Number(number))
            }
        };
        let ended = evaluation.in_steps(|documents, work| {
            let some = left.by_ref().take(*work);
            keyed.extend(some.map(|id| (key(documents, id).unwrap_or_default(), id)));
            *work = 0;
            left.len() == 0
        });
        matches.timed_out |= ended.is_err();
        keyed
    }

    /// SORTBY, where the order is known to the hashes alone.
    pub fn stored_order(&self) -> Option<&SortBy> {
        let sort_by = self.request().sort_by.as_ref()?;
        self.indexed_order(sort_by).is_none().then_some(sort_by)
    }

    fn indexed_order<'q>(&self, sort_by: &'q SortBy) -> Option<Order<'q>> {
        if self.is_distance(&sort_by.field) {
            return Some(Order::Distance(&sort_by.field));
        }
        let field = self.index.definition.field(&sort_by.field)?;
        let definition = &self.index.definition.fields[field];
        (definition.kind == FieldKind::Numeric && !definition.no_index).then_some(Order::Number(field))
    }
}

/// The order of a page: by key, and equals by id.
pub fn order_of(a: (&SortKey, u32), b: (&SortKey, u32), descending: bool) -> Ordering {
    a.0.order(b.0, descending).then(a.1.cmp(&b.1))
}
