//! The expiry index: which entries to look at in which second.
//!
//! Buckets of one second hold the hashes of entries, never keys. An entry remembers the earliest bucket that names it,
//! so that extending an expiry over and over adds nothing: when the bucket comes due, the entry is looked up, and is
//! queued again where it still has time. Invariant: an entry that expires is named by a bucket that is not later.

use super::entry::Entry;
use crate::table::Table;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct ExpiryIndex {
    buckets: BTreeMap<u32, Vec<u64>>,
}

/// The bucket in which something that expires at this time is looked at: the first second that begins after it.
fn bucket_of(expires_at_ms: u64) -> u32 {
    u32::try_from(expires_at_ms / 1000 + 1).unwrap_or(u32::MAX)
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

    /// The entries of which something has expired at `now_ms` and is still stored, the key or a field; one may come
    /// twice, and a hash of which nothing has expired may be among them. Costs what is due, not what expires: only the
    /// buckets are visited that can name such an entry.
    pub(super) fn due<'t>(&'t self, table: &'t Table<Entry>, now_ms: u64) -> impl Iterator<Item = &'t Entry> {
        let due = self.buckets.range(..=bucket_of(now_ms)).flat_map(|(_, hashes)| hashes);
        due.flat_map(|&hash| table.with_hash(hash))
            .filter(move |entry| entry.next_expiry_ms().is_some_and(|at| at <= now_ms))
    }

    /// False only if nothing is due.
    pub(super) fn may_have_due(&self, now_ms: u64) -> bool {
        self.buckets.first_key_value().is_some_and(|(&bucket, _)| bucket <= bucket_of(now_ms))
    }

    /// Takes up to `limit` keys of entries that are due. Stale places cost one lookup each and are dropped.
    pub(super) fn take_due(&mut self, table: &mut Table<Entry>, now_ms: u64, limit: usize) -> Vec<Vec<u8>> {
        let now_second = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(mut bucket) = self.buckets.first_entry()
            && *bucket.key() <= now_second
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
                if !entry.has_expired_field(now_ms) {
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
