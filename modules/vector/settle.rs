//! The last step of a search: candidates become rows that are true at this moment.

use crate::candidates::Candidate;
use crate::store::{Query, Store};
use crate::{Element, Filter, Neighbor};

/// Where candidates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From places in a graph: their members are rows too.
    Graph,
    /// From a scan of all ids, members included.
    Scan,
}

/// The maximum number of rows for which memory is reserved at once.
const ROWS_RESERVED_MAX: usize = 1_024;

impl Store {
    /// Turns candidates (nearest first) into at most `k` rows that are true at this moment: the row of an id
    /// that was deleted meanwhile is dropped, and the row of an id whose vector was replaced gets the new
    /// distance.
    pub fn settle(
        &self,
        query: &Query<'_>,
        candidates: &[Candidate],
        k: usize,
        filter: Option<&dyn Filter>,
        source: Source,
    ) -> Vec<Neighbor> {
        let has_copies = source == Source::Graph && !self.copies().is_empty();
        let rows_max = if has_copies && k <= ROWS_RESERVED_MAX { self.len() } else { candidates.len() };
        let mut rows: Vec<Neighbor> = Vec::with_capacity(k.min(rows_max));
        let mut moved = false;
        // Candidates are ordered by `f32` distances, and by those of places.
        let is_rough = self.kind.element == Element::F64 || (has_copies && self.copies().has_unequal());
        for candidate in candidates {
            if rows.len() >= k && !moved && !is_rough {
                break;
            }
            let id = self.id_of(candidate.slot());
            if has_copies && self.is_place(candidate.slot()) {
                let wanted = if moved || is_rough { k } else { k.saturating_sub(rows.len()) };
                self.settle_members(query, *candidate, wanted, filter, &mut rows);
            }
            // A walk accepts a place because of its members, which may have left since.
            if source == Source::Graph && !filter.is_none_or(|filter| filter.allows(id)) {
                continue;
            }
            let Some(slot) = self.slot_of(id) else { continue };
            if slot == candidate.slot() {
                rows.push(Neighbor { id, distance: self.replied(query, slot, candidate.distance) });
            } else if filter.is_none_or(|filter| filter.allows(id)) {
                let distance = self.replied(query, slot, self.distance(query, slot));
                rows.push(Neighbor { id, distance });
                moved = true;
            }
        }
        if moved || has_copies {
            // A walk can meet an id in its old slot and in its new one, and the vector can have changed again
            // since.
            rows.sort_unstable_by_key(|row| row.id);
            rows.dedup_by_key(|row| row.id);
        }
        rows.sort_unstable();
        rows.truncate(k);
        rows
    }

    /// Adds the rows of a place's members: of those with an equal vector, the first `wanted`, since all are
    /// equally near.
    #[cold]
    fn settle_members(
        &self,
        query: &Query<'_>,
        place: Candidate,
        wanted: usize,
        filter: Option<&dyn Filter>,
        rows: &mut Vec<Neighbor>,
    ) {
        self.copies().read(|groups| {
            let Some(group) = groups.of(place.slot()) else { return };
            let is_row = |&(id, slot): &(u32, u32)| {
                self.slot_of(id) == Some(slot) && filter.is_none_or(|filter| filter.allows(id))
            };
            let row = |(id, slot), distance| Neighbor { id, distance: self.replied(query, slot, distance) };
            let equal = group.equal().filter(is_row).take(wanted);
            rows.extend(equal.map(|member| row(member, place.distance)));
            let unequal = group.unequal().filter(is_row);
            rows.extend(unequal.map(|member| row(member, self.distance(query, member.1))));
        });
    }
}
