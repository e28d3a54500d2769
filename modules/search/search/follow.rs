//! How what was found follows the documents: those that change, and those of which something expires, are
//! looked at alone.
//!
//! In the job they are looked at in slices, until few are left or they no longer get fewer. The last look
//! looks at the few that are left. Where there are more, the search goes on without the lock (`Lack`).

use super::expired::{DocumentReader, Due, ExpiredDocuments};
use super::matches::Lack;
use super::plan::Plan;
use crate::documents::Documents;
use engramdb_engine::command::Looks;
use engramdb_engine::store::view::View;
use roaring::RoaringBitmap;

/// Documents that a last look may look at because they have changed or expired.
pub const CHANGED_FEW: u64 = 256;
/// Documents that are looked at in one hold of a lock.
const LOOKED_AT: usize = 64;
/// Places of the engine's expiry index that one look of a walk visits, and documents whose time it takes note
/// of.
const VISITED: usize = 128;

/// Something that was found.
pub trait Follows {
    /// It is true of the documents at this version.
    fn version(&self) -> u64;

    /// Finds out what is to be said of these documents as they are now.
    fn look_at(
        &mut self,
        reader: &mut DocumentReader<'_, '_>,
        expired: &mut ExpiredDocuments,
        ids: &RoaringBitmap,
    );

    /// All that had changed at this version, which are these documents, have been looked at.
    fn reach(&mut self, version: u64, changed: &RoaringBitmap, expired: &ExpiredDocuments);

    /// Leaves out documents that have changed and could not be looked at in time. What is left is true at
    /// this version.
    fn leave_out(&mut self, version: u64, changed: &RoaringBitmap);
}

/// What has changed when a last look begins.
pub enum LastChanges {
    /// These are to be looked at.
    Few { ids: RoaringBitmap, asks: bool },
    /// Too much, and no time is left to look at it elsewhere: rows that have changed are left out, and the
    /// answer is one of a search that ran out of time.
    TooLate,
}

impl Plan {
    /// What has changed since this version, for the last look. It is lacking where that is too much to be
    /// looked at there. `minds_time` if documents of which something has expired are among it.
    pub fn last_changes(
        &self,
        (view, documents): (&View<'_>, &Documents),
        version: u64,
        expired: &mut ExpiredDocuments,
        minds_time: bool,
    ) -> Result<LastChanges, Lack> {
        let lacking = |lack| if self.was_late { Ok(LastChanges::TooLate) } else { Err(lack) };
        let changes = documents.version() - version;
        let most = if self.accepts_changes { u64::MAX } else { CHANGED_FEW };
        let Some(left) = most.checked_sub(changes) else { return lacking(Lack::Changes) };
        let mut ids = RoaringBitmap::new();
        let mut asks = false;
        if minds_time {
            match expired.due(self, view, documents, left) {
                Due::Documents(due) => ids = due,
                Due::TooMany => return lacking(Lack::Changes),
                Due::NoWalk => return lacking(Lack::Expired),
            }
            asks = expired.has_walk() || !ids.is_empty();
        }
        if changes > 0 {
            ids |= documents.changed_since(version);
        }
        Ok(LastChanges::Few { ids, asks })
    }

    /// Has what changed looked at, in slices, until that is little, or no longer gets less.
    pub fn catch_up(&self, looks: &dyn Looks, expired: &mut ExpiredDocuments, found: &mut dyn Follows) {
        let mut most = u64::MAX;
        loop {
            self.gather(looks, expired);
            let left = self.index.documents.read().version() - found.version() + expired.waiting();
            if left <= CHANGED_FEW || left > most || self.is_late() {
                return;
            }
            most = left / 2;
            let (reached, mut changed) = {
                let documents = self.index.documents.read();
                (documents.version(), documents.changed_since(found.version()))
            };
            changed |= expired.take_waiting();
            let keys = expired.take_changed();
            let is_whole = self.in_slices(looks, expired, found, &changed)
                && self.keys_in_slices(looks, expired, found, &keys, &mut changed);
            if !is_whole {
                expired.again |= changed;
                return;
            }
            found.reach(reached, &changed, expired);
        }
    }

    /// Leaves out what has changed, in a search whose time has run out.
    pub fn leave_out(&self, expired: &mut ExpiredDocuments, found: &mut dyn Follows) {
        let (version, changed) = {
            let documents = self.index.documents.read();
            (documents.version(), documents.changed_since(found.version()))
        };
        found.leave_out(version, &(changed | expired.take_waiting()));
    }

    /// Finds out what has expired, where a walk looks for it.
    fn gather(&self, looks: &dyn Looks, expired: &mut ExpiredDocuments) {
        let mut is_whole = !expired.has_walk();
        while !is_whole && !self.is_late() {
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                is_whole = expired.gather(self, (view, documents), VISITED, VISITED as u64);
            });
        }
    }

    /// Has documents looked at, a few in each hold of a lock. False where the time ran out.
    fn in_slices(
        &self,
        looks: &dyn Looks,
        expired: &mut ExpiredDocuments,
        found: &mut dyn Follows,
        ids: &RoaringBitmap,
    ) -> bool {
        let mut left = ids.iter();
        while left.len() > 0 {
            if self.is_late() {
                return false;
            }
            let some: RoaringBitmap = left.by_ref().take(LOOKED_AT).collect();
            if expired.has_walk() {
                looks.look(&mut |view| {
                    let documents = &*self.index.documents.read();
                    let mut reader = DocumentReader::new(self, documents, Some(view));
                    reader.prefetch(expired, &some);
                    found.look_at(&mut reader, expired, &some);
                });
            } else {
                let documents = &*self.index.documents.read();
                found.look_at(&mut DocumentReader::new(self, documents, None), expired, &some);
            }
        }
        true
    }

    /// The same for the documents of keys, but for those that were looked at; adds them to these.
    fn keys_in_slices(
        &self,
        looks: &dyn Looks,
        expired: &mut ExpiredDocuments,
        found: &mut dyn Follows,
        keys: &[Vec<u8>],
        looked_at: &mut RoaringBitmap,
    ) -> bool {
        for some in keys.chunks(LOOKED_AT) {
            if self.is_late() {
                return false;
            }
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                let new = expired.ids_of(self, documents, some.iter()) - &*looked_at;
                let mut reader = DocumentReader::new(self, documents, Some(view));
                reader.prefetch(expired, &new);
                found.look_at(&mut reader, expired, &new);
                *looked_at |= new;
            });
        }
        true
    }
}
