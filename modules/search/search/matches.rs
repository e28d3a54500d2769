//! What a search finds in its job: the documents that the filter means, and their order.
//!
//! Both are true of the documents that have not changed since a version. Whoever uses them looks at the others again, alone:
//! once more in the job while they are many, so that the last look, under the keyspace's lock, is at few.

use super::filter::{Evaluation, Late, Ranges, means};
use super::plan::{Plan, Row, SortKey};
use super::reply;
use crate::documents::{Documents, Value};
use crate::query::request::SortBy;
use crate::schema::FieldKind;
use engramdb_engine::command::Looks;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::collections::HashSet;

/// Changed documents that may be left for the last look.
const CHANGED_FEW: u64 = 256;
/// Changed documents that are looked at in one hold of the documents.
const LOOKED_AT: usize = 64;
/// Documents whose place in the order is read in one look at the keyspace.
pub const KEYED: usize = 128;

pub struct Matches {
    pub version: u64,
    pub documents: RoaringBitmap,
    pub ranges: Ranges,
    /// The documents in the order of SORTBY, where a page is asked for. Fewer than all where the time ran out.
    pub order: Option<Sorted>,
    pub timed_out: bool,
}

/// Documents with what they are put in order by. Those of the first pages are in order already.
pub struct Sorted {
    first: Vec<(SortKey, u32)>,
    rest: Vec<(SortKey, u32)>,
    descending: bool,
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
    /// The documents that filter and INKEYS leave. `Late` where the time ran out, and what was found by then is of no
    /// use.
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

    /// The same, which tells what has changed.
    fn catch_up_with(&self, matches: &mut Matches, note: &mut dyn FnMut(&mut Matches, &RoaringBitmap)) {
        let mut most = u64::MAX;
        loop {
            let (version, changed) = {
                let documents = self.index.documents.read();
                (documents.version(), documents.changed_since(matches.version))
            };
            if changed.len() <= CHANGED_FEW || changed.len() > most {
                return;
            }
            most = changed.len() / 2;
            let mut left = changed.iter();
            while left.len() > 0 {
                if self.is_late() {
                    return;
                }
                let some = left.by_ref().take(LOOKED_AT).collect();
                self.look_again(matches, &self.index.documents.read(), &some);
            }
            matches.version = version;
            note(matches, &changed);
        }
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
        let order = self.indexed_order(sort_by);
        let keys_of = |matches: &mut Matches, ids: &RoaringBitmap| match &order {
            Some(order) => self.keyed_by_index(matches, ids, order),
            None => self.keyed_by_hashes(looks, matches, ids, sort_by),
        };
        let all = std::mem::take(&mut matches.documents);
        let mut keyed = keys_of(matches, &all);
        matches.documents = all;
        // Reading the keys takes a while: of what has changed meanwhile, little is left for the last look.
        self.catch_up_with(matches, &mut |matches, changed| {
            keyed.retain(|(_, id)| !changed.contains(*id));
            let again = changed & &matches.documents;
            keyed.extend(keys_of(matches, &again));
        });
        matches.order = Some(Sorted::new(keyed, request.offset + request.limit, sort_by.descending));
    }

    /// What documents are put in order by, which the hashes alone know: a few of them in each look. Documents that change
    /// meanwhile are among those that have changed since the version of the matches.
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
            Order::Number(field) => match documents.value(id, field) {
                Value::Number(number) => Some(SortKey::Number(*number)),
                _ => None,
            },
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
