//! The page of a search without KNN: its rows are made from the matches, under the keyspace's lock.
//!
//! The matches are sorted before that. Documents that have changed since are moved to their new positions
//! (edited.rs), so that no rows are made beyond those of the page.

use super::edited::{Edited, EditedElement};
use super::expired::{self, DocumentReader, ExpiredDocuments};
use super::follow::LastChanges;
use super::matches::{Lack, Matches, order_of};
use super::plan::{Plan, Row, SortKey};
use super::reply;
use super::walk::TextWalk;
use crate::documents::Documents;
use crate::query::request::SortBy;
use engramdb_engine::store::view::View;
use roaring::RoaringBitmap;

/// The documents of a set from a position on, in the order of their ids.
pub fn ids_from(ids: &RoaringBitmap, offset: usize) -> impl Iterator<Item = u32> {
    let first = u32::try_from(offset).ok().and_then(|offset| ids.select(offset));
    first.into_iter().flat_map(|first| ids.range(first..))
}

impl Plan {
    /// The number of documents that match, and the rows of the page. Fails if a last look may not do the work
    /// that this needs.
    pub fn matching_rows<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        matches: &mut Matches,
        expired: &'r mut ExpiredDocuments,
        late: &mut bool,
    ) -> Result<(usize, Vec<Row<'r>>), Lack> {
        *late |= matches.timed_out;
        let changes = self.last_changes((view, documents), matches.version, expired, true)?;
        let changed = match changes {
            LastChanges::Few { ids, asks } => {
                let mut reader = DocumentReader::new(self, documents, asks.then_some(view));
                reader.prefetch(expired, &ids);
                for id in &ids {
                    reader.look(Some(matches), expired, id);
                }
                ids
            }
            LastChanges::TooLate => {
                *late = true;
                let mut rows = self.page(view, documents, matches, expired, &RoaringBitmap::new())?;
                expired::leave_out_changed(view, documents, matches.version, &mut rows);
                let total = matches.documents.len() as usize;
                let shown = total.saturating_sub(self.request().offset).min(self.request().limit);
                return Ok((total - shown.saturating_sub(rows.len()), rows));
            }
        };
        let page = self.page(view, documents, matches, expired, &changed)?;
        Ok((matches.documents.len() as usize, page))
    }

    /// The rows of the page; the documents in `changed` have changed since the matches were sorted.
    fn page<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        matches: &mut Matches,
        expired: &'r ExpiredDocuments,
        changed: &RoaringBitmap,
    ) -> Result<Vec<Row<'r>>, Lack> {
        let request = self.request();
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        if let Some(sort_by) = &request.sort_by {
            let page = self.sorted_page(view, documents, matches, expired, changed, sort_by);
            matches.known_scores.retain(|id, _| !changed.contains(*id));
            let in_time = page.into_iter().filter(|row| self.is_scored_in_time(matches, changed, row.id));
            let mut walk = TextWalk::of_a_look();
            return Ok(in_time.map(|row| self.scored_row(documents, matches, row, &mut walk)).collect());
        }
        if matches.tree.is_some() {
            return self.scored_page(documents, matches, expired, changed);
        }
        let ids = ids_from(&matches.documents, request.offset).take(request.limit);
        Ok(ids.filter_map(|id| self.row(documents, expired, Some(matches), id)).collect())
    }

    fn sorted_page<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        matches: &mut Matches,
        expired: &'r ExpiredDocuments,
        changed: &RoaringBitmap,
        sort_by: &SortBy,
    ) -> Vec<Row<'r>> {
        let (request, descending) = (self.request(), sort_by.descending);
        let mut sorted = matches.order.take().expect("a page was asked for in this order");
        let row = |id: u32| self.row(documents, expired, Some(&*matches), id);
        let new = (changed & &matches.documents).into_iter().filter_map(|id| {
            let row = row(id)?;
            Some(Row { sort_key: reply::sort_key(self, view, documents, sort_by, &row), ..row })
        });
        let mut new: Vec<Row<'r>> = new.collect();
        new.sort_unstable_by(|a, b| order_of((&a.sort_key, a.id), (&b.sort_key, b.id), descending));
        // More than `first` is needed only by a last look that processes all changes, however many.
        let is_short =
            changed.len() as usize > sorted.first.len().saturating_sub(request.offset + request.limit);
        if sorted.has_rest() && is_short {
            sorted.sort_rest();
        }
        let removed = changed.iter().filter_map(|id| sorted.place(id)).collect();
        let before = new.iter().map(|row| {
            let is_before = |(key, id): &(SortKey, u32)| {
                order_of((key, *id), (&row.sort_key, row.id), descending).is_lt()
            };
            sorted.first.partition_point(is_before)
        });
        let edited = Edited::new(sorted.first.len(), removed, before.collect());
        let page =
            edited.range(request.offset, request.limit).into_iter().filter_map(|element| match element {
                EditedElement::Kept(place) => {
                    let (sort_key, id) = &sorted.first[place];
                    Some(Row { sort_key: sort_key.clone(), ..row(*id)? })
                }
                EditedElement::Added(number) => Some(new[number].clone()),
            });
        let page = page.collect();
        // The look may come back.
        matches.order = Some(sorted);
        page
    }
}
