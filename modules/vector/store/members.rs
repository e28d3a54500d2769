//! Slots that share a place (copies.rs): their state, joining and leaving.

use std::sync::atomic::Ordering;

use super::{State, Store};
use crate::Filter;
use crate::copies::{self, Copies, Groups, Place, ToDelete};

// Bits in the byte of a state, besides those of store.rs.

/// The slot is a place: it has members, see copies.rs.
const PLACE: u8 = 8;
/// The slot is a member of another slot's place, and has no links.
const MEMBER: u8 = 16;
/// The slot is a place whose own id was removed; it stays for its members.
const HEADLESS: u8 = 64;

/// The maximum number of members of a place for which a walk calls a filter.
const MEMBERS_ASKED_ABOUT: usize = 64;

impl Store {
    /// Marks a slot that is no longer current as deleted, unless it is a place with members.
    pub fn leave(&self, slot: u32) -> ToDelete {
        self.copies.change(|groups| {
            let mut left = ToDelete::default();
            if self.has_flag(slot, PLACE) {
                self.lose_head(slot);
                return left;
            }
            if self.state(slot) == State::Deleted {
                return left;
            }
            self.set_state(slot, State::Deleted);
            left.slot = true;
            if let Some((place, true)) = groups.leave(slot) {
                self.states.row(place)[0].fetch_and(!PLACE, Ordering::AcqRel);
                if self.is_headless(place) {
                    self.set_state(place, State::Deleted);
                    left.place = Some(place);
                }
            }
            left
        })
    }

    /// Makes a pending slot a member of a place; false if `place` cannot have members any more.
    pub fn join(&self, slot: u32, place: Place) -> bool {
        self.copies.change(|groups| {
            let id = self.id_of(slot);
            // A vector that replaces a copy of itself: the old slot is not kept for it.
            let replaces = self.id_of(place.slot) == id && !self.is_place(place.slot);
            let is_place =
                self.state(place.slot) == State::Live && !self.has_flag(place.slot, MEMBER) && !replaces;
            if is_place {
                self.make_member(groups, slot, place);
            }
            is_place
        })
    }

    fn make_member(&self, groups: &mut Groups, slot: u32, place: Place) {
        groups.join(place, slot, self.id_of(slot));
        self.states.row(place.slot)[0].fetch_or(PLACE, Ordering::AcqRel);
        self.states.row(slot)[0].fetch_or(MEMBER, Ordering::AcqRel);
    }

    /// Restores a saved member.
    pub fn restore_member(&mut self, slot: u32, place: Place) {
        self.copies.change(|groups| self.make_member(groups, slot, place));
    }

    /// Marks a place as headless: its id was removed.
    pub fn lose_head(&self, place: u32) {
        self.states.row(place)[0].fetch_or(HEADLESS, Ordering::AcqRel);
    }

    pub fn is_headless(&self, place: u32) -> bool {
        self.has_flag(place, HEADLESS)
    }

    /// If the two vectors are equal, `other` as a place for the slot.
    pub fn as_place(&self, slot: u32, other: u32) -> Option<Place> {
        let vectors = [self.vectors.row(slot), self.vectors.row(other)];
        let scales = [self.inverse_norm_of(slot), self.inverse_norm_of(other)];
        let is_equal = copies::compare(self.kind.element, vectors, scales)?;
        Some(Place { slot: other, is_equal })
    }

    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    #[inline(always)]
    fn has_flag(&self, slot: u32, flag: u8) -> bool {
        self.states.row(slot)[0].load(Ordering::Acquire) & flag != 0
    }

    pub fn is_member(&self, slot: u32) -> bool {
        self.has_flag(slot, MEMBER)
    }

    pub fn is_place(&self, slot: u32) -> bool {
        self.has_flag(slot, PLACE)
    }

    /// Whether a search may return the row of a slot, or of a member of its place. `has_copies`: `Copies` was
    /// not empty before.
    #[inline(always)]
    pub fn is_allowed(&self, filter: &dyn Filter, slot: u32, id: u32, has_copies: bool) -> bool {
        filter.allows(id) || (has_copies && self.is_place(slot) && self.allows_member(filter, slot))
    }

    #[cold]
    fn allows_member(&self, filter: &dyn Filter, place: u32) -> bool {
        // Calling the filter for many members would take long; it is called for their rows at the end
        // (`settle`).
        let allows = |group: &copies::Group| {
            group.len() > MEMBERS_ASKED_ABOUT
                || group.equal().chain(group.unequal()).any(|(id, _)| filter.allows(id))
        };
        self.copies.read(|groups| groups.of(place).is_some_and(allows))
    }
}
