//! The expiry index: which entries to look at in which second.
//!
//! Buckets of one second (from the year 2072 on, of 1,024) hold the hashes of entries, never keys. An entry
//! remembers the earliest bucket that names it, so that extending an expiry over and over adds nothing: when
//! the bucket comes due, the entry is looked up, and is queued again where it still has time. Invariant: an
//! entry that expires is named by a bucket that is not later.

use super::entry::Entry;
use crate::table::Table;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct ExpiryIndex {
    buckets: BTreeMap<u32, Vec<u64>>,
    /// How far the deletion of expired fields has come in large hashes, by key. A key that has changed since
    /// may be among them: then the walk ends early, and what it left is due again.
    walks: BTreeMap<Vec<u8>, u64>,
}

/// The position of a walk over what is due: a bucket and a place in it. The default is the beginning.
pub type DuePlace = (u32, usize);

/// With more walks than this all of them begin again, so that deleted keys are not kept.
const WALKS_MAX: usize = 1000;

/// From this second on, buckets are longer, so that their numbers do not end in the year 2106 but in 36,000.
const LONG_FROM: u64 = 3 << 30;
const LONG_SECONDS: u64 = 1024;
/// Its time does not come: what it has would be put back into it again and again.
const NEVER: u32 = u32::MAX;

/// The bucket that this time lies in.
fn bucket_at(now_ms: u64) -> u32 {
    let second = now_ms / 1000;
    let bucket = second.min(LONG_FROM) + second.saturating_sub(LONG_FROM) / LONG_SECONDS;
    u32::try_from(bucket).unwrap_or(NEVER).min(NEVER - 1)
}

/// The bucket in which something that expires at this time is looked at: the first that begins after it.
fn bucket_of(expires_at_ms: u64) -> u32 {
    bucket_at(expires_at_ms) + 1
}

impl ExpiryIndex {
    /// Takes note of an entry whose expiry may have changed.
    #[inline]
    pub(super) fn note(&mut self, entry: &mut Entry, hash: u64) {
        let Some(expires_at_ms) = entry.next_expiry_ms() else { return };
        let bucket = bucket_of(expires_at_ms);
        if entry.queued_second == 0 || entry.queued_second > bucket {
            entry.queued_second = bucket;
            self.buckets.entry(bucket).or_default().push(hash);
        }
    }

    /// Takes over another index, whose entries come along.
    pub(super) fn absorb(&mut self, other: ExpiryIndex) {
        for (second, mut hashes) in other.buckets {
            self.buckets.entry(second).or_default().append(&mut hashes);
        }
    }

    /// One step of a walk over the entries of which something has expired at `now_ms` and is still stored,
    /// the key or a field. Visits up to `limit` places from this one on, and calls `each` with every entry
    /// that a visited place names and the time at which something of it expires next, which may be too early:
    /// the last bucket also names entries that expire within its second. An entry can come twice. Returns
    /// where the next step begins, and whether there is nothing beyond that at `now_ms`. An entry that is
    /// queued while the walk lasts may be left out, unless it was queued before, in a bucket that comes
    /// later.
    pub(super) fn due_step<'t>(
        &self,
        table: &'t Table<Entry>,
        now_ms: u64,
        (mut bucket, mut place): DuePlace,
        limit: usize,
        each: &mut dyn FnMut(&'t Entry, u64),
    ) -> (DuePlace, bool) {
        let mut left = limit;
        for (&next, hashes) in self.buckets.range(bucket..=bucket_of(now_ms).max(bucket)) {
            if next != bucket {
                (bucket, place) = (next, 0);
            }
            for &hash in hashes.iter().skip(place) {
                if left == 0 {
                    return ((bucket, place), false);
                }
                (left, place) = (left - 1, place + 1);
                for entry in table.with_hash(hash) {
                    if let Some(at) = entry.next_expiry_ms() {
                        each(entry, at);
                    }
                }
            }
        }
        ((bucket, place), true)
    }

    /// An entry that some place names, chosen by two random numbers. `None` where the place is stale.
    pub(super) fn sample<'t>(&self, table: &'t Table<Entry>, random: u64, second: u64) -> Option<&'t Entry> {
        let (first, last) = (*self.buckets.first_key_value()?.0, *self.buckets.last_key_value()?.0);
        let from = first + (random % (u64::from(last - first) + 1)) as u32;
        let (_, hashes) = self.buckets.range(from..).find(|(_, hashes)| !hashes.is_empty())?;
        let hash = hashes[(second % hashes.len() as u64) as usize];
        table.with_hash(hash).next()
    }

    /// All entries that places name, those first that are looked at first. Some come several times.
    pub(super) fn entries<'t>(&'t self, table: &'t Table<Entry>) -> impl Iterator<Item = &'t Entry> {
        self.buckets.values().flatten().flat_map(|&hash| table.with_hash(hash))
    }

    /// Where the next step of a hash's walk begins.
    pub(super) fn cursor(&self, key: &[u8]) -> u64 {
        self.walks.get(key).copied().unwrap_or(0)
    }

    /// Notes where the next step begins, and that it is due; at 0 the walk is over, and the entry is due when
    /// its next field is.
    pub(super) fn set_cursor(&mut self, table: &mut Table<Entry>, hash: u64, key: &[u8], cursor: u64) {
        let entry = table.get_mut(hash, key);
        if cursor == 0 || entry.is_none() {
            self.walks.remove(key);
        } else {
            if self.walks.len() >= WALKS_MAX {
                self.walks.clear();
            }
            self.walks.insert(key.to_vec(), cursor);
        }
        if let Some(entry) = entry {
            if cursor == 0 {
                entry.tighten_expiry();
            }
            self.note(entry, hash);
        }
    }

    /// False only if nothing is due.
    pub(super) fn may_have_due(&self, now_ms: u64) -> bool {
        self.buckets.first_key_value().is_some_and(|(&bucket, _)| bucket <= bucket_of(now_ms))
    }

    /// Takes up to `limit` keys of entries that are due. Stale places cost one lookup each and are dropped.
    pub(super) fn take_due(&mut self, table: &mut Table<Entry>, now_ms: u64, limit: usize) -> Vec<Vec<u8>> {
        let now_bucket = bucket_at(now_ms);
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(mut bucket) = self.buckets.first_entry()
            && *bucket.key() <= now_bucket
        {
            let second = *bucket.key();
            let Some(hash) = bucket.get_mut().pop() else {
                bucket.remove();
                continue;
            };
            let keys: Vec<Vec<u8>> = table
                .with_hash(hash)
                .filter(|entry| entry.queued_second == second)
                .map(|entry| entry.key().to_vec())
                .collect();
            for key in keys {
                let entry = table.get_mut(hash, &key).expect("found just above");
                entry.queued_second = 0;
                if !entry.may_have_expired_field(now_ms) {
                    entry.tighten_expiry();
                }
                if entry.next_expiry_ms().is_some_and(|at| at <= now_ms) {
                    due.push(key);
                } else {
                    self.note(entry, hash);
                }
            }
        }
        due
    }
}
