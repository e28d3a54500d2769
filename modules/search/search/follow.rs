//! Updates a result to documents that have changed, or of which something has expired. Only these are read
//! again.
//!
//! Without the lock they are read in slices, until few are left or their number no longer halves. The last
//! look reads the few that are left. If there are more, the search continues without the lock (`Lack`).

use super::expired::{DocumentReader, Due, ExpiredDocuments};
use super::matches::Lack;
use super::plan::Plan;
use super::scored::walks_of;
use crate::documents::Documents;
use engramdb_engine::command::Looks;
use engramdb_engine::store::view::View;
use roaring::RoaringBitmap;

/// The most documents that a last look reads because they have changed or expired.
pub const CHANGED_FEW: u64 = 256;
/// Documents that are read under one lock.
const LOOKED_AT: u64 = 64;
/// The same of keys, where the query walks over the words of documents.
const KEYS_WALKED: u64 = 4;
/// Units of work of comparing shapes under one lock: some milliseconds.
const SHAPE_WORK: usize = 1 << 14;
/// The most places of the engine's expiry index that a step of a walk visits, and the most documents that it
/// adds to those to be read.
const VISITED: usize = 128;

/// Documents whose versions are compared under one lock of the documents.
const SCANNED: u32 = 4096;

/// A result that is updated to changed documents.
pub trait Follows {
    /// The version of the documents at which it is right.
    fn version(&self) -> u64;

    /// Reads these documents as they are now.
    fn look_at(
        &mut self,
        reader: &mut DocumentReader<'_, '_>,
        expired: &mut ExpiredDocuments,
        ids: &RoaringBitmap,
    );

    /// Called when all documents that had changed at this version, `changed`, have been read.
    fn reach(&mut self, version: u64, changed: &RoaringBitmap, expired: &ExpiredDocuments);

    /// Leaves out documents that have changed and could not be read in time. The rest is right at this
    /// version.
    fn leave_out(&mut self, version: u64, changed: &RoaringBitmap);
}

/// The words of changed documents that a last look walks over, and those that are walked over under one lock
/// of the documents: about a millisecond.
const LOOK_WORDS: usize = 1 << 17;
/// What the last look that takes all changes does at most, compared with the others. If there are more,
/// documents that have changed are left out.
const LAST_TIMES: usize = 64;

/// The changes when a last look begins.
pub enum LastChanges {
    /// These documents must be read, in the keyspace too if `asks`.
    Few { ids: RoaringBitmap, asks: bool },
    /// Too many, and no time is left to read them without the lock: changed rows are left out, and the answer
    /// is marked as one that timed out.
    TooLate,
}

impl Plan {
    /// `CHANGED_FEW`, or fewer where a look at one document can take long.
    fn changed_few(&self) -> u64 {
        match self.query.filter.shape_work() {
            0 => CHANGED_FEW,
            work => (SHAPE_WORK / work).clamp(1, CHANGED_FEW as usize) as u64,
        }
    }

    /// How many of these documents are read at once, so that no more than this many words are walked over to
    /// see whether they match; at least one, and all where the query does not mind.
    fn first_of(&self, documents: &Documents, ids: &RoaringBitmap, words_max: usize) -> u64 {
        let walks = walks_of(&self.query.filter);
        if walks == 0 {
            return ids.len();
        }
        let mut words = 0;
        let is_more = |id: u32| {
            words += (documents.texts().length(id).words as usize).saturating_mul(walks);
            words > words_max
        };
        let first = ids.iter().position(is_more).map_or(ids.len(), |first| first as u64);
        first.max(1)
    }

    /// Whether the documents that have changed since this version have too many words for a last look.
    fn is_much_to_walk(&self, version: u64, expired: &ExpiredDocuments) -> bool {
        if walks_of(&self.query.filter) == 0 {
            return false;
        }
        let documents = self.index.documents.read();
        let changed = documents.listed_changes(version).map(|listed| listed | &expired.again);
        changed.is_some_and(|changed| self.first_of(&documents, &changed, LOOK_WORDS) < changed.len())
    }

    /// The changes since this version, for the last look. Fails if they are too many to be read there.
    /// `minds_time` includes documents of which something has expired.
    pub fn last_changes(
        &self,
        (view, documents): (&View<'_>, &Documents),
        version: u64,
        expired: &mut ExpiredDocuments,
        minds_time: bool,
    ) -> Result<LastChanges, Lack> {
        let lacking = |lack| if self.was_late { Ok(LastChanges::TooLate) } else { Err(lack) };
        let too_many = || match self.was_late || self.accepts_changes {
            true => Ok(LastChanges::TooLate),
            false => Err(Lack::Changes),
        };
        let changes = documents.version() - version;
        let most = match self.changed_few() {
            few if !self.accepts_changes => few,
            CHANGED_FEW => u64::MAX,
            few => few * LAST_TIMES as u64,
        };
        let Some(left) = most.checked_sub(changes) else { return too_many() };
        let mut ids = RoaringBitmap::new();
        let mut asks = false;
        if minds_time {
            match expired.due(self, view, documents, left) {
                Due::Documents(due) => ids = due,
                Due::TooMany => return too_many(),
                Due::NoWalk => return lacking(Lack::Expired),
            }
            asks = expired.has_walk() || !ids.is_empty();
        }
        if changes > 0 {
            ids |= documents.changed_since(version);
        }
        let times = if self.accepts_changes { LAST_TIMES } else { 1 };
        if self.first_of(documents, &ids, times * LOOK_WORDS) < ids.len() {
            expired.again |= ids;
            return too_many();
        }
        expired.looked_at.clone_from(&ids);
        Ok(LastChanges::Few { ids, asks })
    }

    /// Reads changed documents in slices, until few are left or their number no longer halves.
    pub fn catch_up(&self, looks: &dyn Looks, expired: &mut ExpiredDocuments, found: &mut dyn Follows) {
        let (mut most, few) = (u64::MAX, self.changed_few());
        loop {
            self.gather(looks, expired);
            let left = self.index.documents.read().version() - found.version() + expired.waiting();
            let is_done = left <= few && !self.is_much_to_walk(found.version(), expired);
            if is_done || left > most || self.is_late() {
                return;
            }
            most = left / 2;
            let (reached, mut changed) = self.changed_since(found.version());
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

    /// Leaves out the changed documents, in a search whose time limit has passed.
    pub fn leave_out(&self, expired: &mut ExpiredDocuments, found: &mut dyn Follows) {
        let (version, changed) = self.changed_since(found.version());
        found.leave_out(version, &(changed | expired.take_waiting()));
    }

    /// A version of the documents, and those that have changed between the given version and this one. Some
    /// that have changed after it can be among them. Many are found in slices, so that no writer waits for
    /// the scan.
    fn changed_since(&self, version: u64) -> (u64, RoaringBitmap) {
        let (reached, listed) = {
            let documents = self.index.documents.read();
            (documents.version(), documents.listed_changes(version))
        };
        let changed = listed.unwrap_or_else(|| {
            let (mut changed, mut ids) = (RoaringBitmap::new(), 0..0);
            loop {
                let documents = self.index.documents.read();
                ids = ids.end..documents.id_bound().min(ids.end + SCANNED);
                if ids.is_empty() {
                    break changed;
                }
                changed |= documents.scan_changed(version, ids.clone());
            }
        });
        (reached, changed)
    }

    /// Continues the walk over what has expired, if there is one.
    fn gather(&self, looks: &dyn Looks, expired: &mut ExpiredDocuments) {
        let mut is_whole = !expired.has_walk();
        while !is_whole && !self.is_late() {
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                is_whole = expired.gather(self, (view, documents), VISITED, VISITED as u64);
            });
        }
    }

    /// Reads documents, a few under each lock. False if the time limit passed.
    fn in_slices(
        &self,
        looks: &dyn Looks,
        expired: &mut ExpiredDocuments,
        found: &mut dyn Follows,
        ids: &RoaringBitmap,
    ) -> bool {
        let (mut left, at_once) = (ids.clone(), self.changed_few().min(LOOKED_AT));
        while !left.is_empty() {
            if self.is_late() {
                return false;
            }
            let some = left.iter().take(at_once as usize).collect();
            let count = self.first_of(&self.index.documents.read(), &some, LOOK_WORDS);
            let some: RoaringBitmap = some.iter().take(count as usize).collect();
            left -= &some;
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

    /// Like `in_slices`, for the documents of keys. Skips those in `looked_at`, and adds the others to it.
    fn keys_in_slices(
        &self,
        looks: &dyn Looks,
        expired: &mut ExpiredDocuments,
        found: &mut dyn Follows,
        keys: &[Vec<u8>],
        looked_at: &mut RoaringBitmap,
    ) -> bool {
        // The keyspace is locked: texts of these may be long.
        let at_once = if walks_of(&self.query.filter) > 0 { KEYS_WALKED } else { LOOKED_AT };
        let at_once = self.changed_few().min(at_once) as usize;
        for some in keys.chunks(at_once) {
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
