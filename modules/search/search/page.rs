//! The page of a search without KNN: the rows that it shows of what matches, under the keyspace's lock.

use super::matches::{Lack, LastChanges, Matches, order_of};
use super::plan::{Plan, Row, SortKey};
use super::reply;
use crate::documents::Documents;
use engramdb_engine::hashing::HashSet;
use engramdb_engine::store::view::View;
use roaring::RoaringBitmap;

impl Plan {
    /// How many documents match, and the rows up to the end of the page. Says what is lacking where that
    /// cannot be known here.
    pub fn matching_rows<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        matches: &mut Matches,
        late: &mut bool,
    ) -> Result<(usize, Vec<Row<'r>>), Lack> {
        *late |= matches.timed_out;
        let changed = match self.last_changes(documents, matches.version)? {
            LastChanges::None => RoaringBitmap::new(),
            LastChanges::Few(changed) => {
                self.look_again(matches, documents, &changed);
                changed
            }
            LastChanges::TooLate if self.fails_on_timeout => {
                *late = true;
                return Ok((0, Vec::new()));
            }
            LastChanges::TooLate => {
                *late = true;
                matches.documents -= documents.changed_since(matches.version);
                RoaringBitmap::new()
            }
        };
        let stale = self.stale(view, documents, late);
        matches.documents -= &stale.documents;
        let total = matches.documents.len() as usize + stale.rows.len();
        Ok((total, self.page(view, documents, matches, &changed, stale.rows)))
    }

    /// The rows up to the end of the page, of what matches and of `others`, which the index does not know as
    /// they are.
    fn page<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        matches: &mut Matches,
        changed: &RoaringBitmap,
        mut others: Vec<Row<'r>>,
    ) -> Vec<Row<'r>> {
        let request = self.request();
        if request.limit == 0 {
            return Vec::new();
        }
        let end = request.offset + request.limit;
        let order = matches.order.take();
        let row = |id| {
            let key = documents.key(id).expect("matches are live");
            let mut row = Row::new(key, id, None);
            row.add(&matches.ranges, documents, &self.query.filter, id);
            row
        };
        let found = &matches.documents;
        let Some(sort_by) = &request.sort_by else {
            return merge(found.iter().map(|id| (SortKey::Absent, id)), others, end, false, row);
        };
        let order = order.expect("a page was asked for in this order");
        others.extend((changed & found).iter().map(row));
        let descending = sort_by.descending;
        others.iter_mut().for_each(|row| row.sort_key = reply::sort_key(self, view, documents, sort_by, row));
        others.sort_by(|a, b| order_of((&a.sort_key, a.id), (&b.sort_key, b.id), descending));
        let is_other: HashSet<u32> = others.iter().map(|row| row.id).collect();
        let order = order.in_order().filter(|(_, id)| found.contains(*id) && !is_other.contains(id));
        merge(order, others, end, descending, row)
    }
}

/// The first rows of what was found and of others, both in order.
fn merge<'r>(
    found: impl Iterator<Item = (SortKey, u32)>,
    others: Vec<Row<'r>>,
    end: usize,
    descending: bool,
    row: impl Fn(u32) -> Row<'r>,
) -> Vec<Row<'r>> {
    let (mut found, mut others) = (found.peekable(), others.into_iter().peekable());
    let mut rows = Vec::new();
    while rows.len() < end {
        let is_other = match (found.peek(), others.peek()) {
            (None, None) => break,
            (Some((key, id)), Some(other)) => {
                order_of((&other.sort_key, other.id), (key, *id), descending).is_lt()
            }
            (found, _) => found.is_none(),
        };
        let of_found = |(sort_key, id)| Row { sort_key, ..row(id) };
        rows.extend(if is_other { others.next() } else { found.next().map(of_found) });
    }
    rows
}
