//! One numbered database: the table of its keys, and the index of what expires.

use super::access::AccessClock;
use super::entry::Entry;
use super::expiry::{DuePlace, ExpiryIndex};
use super::garbage::Garbage;
use crate::table::{HashedKey, Table, hash_bytes};

#[derive(Debug, Default)]
pub struct Database {
    table: Table<Entry>,
    expiry: ExpiryIndex,
    /// How many keys carry an expiry (INFO keyspace).
    expiring: usize,
    /// What keys and values own, beyond the table.
    heap_bytes: usize,
    /// The time of the running transaction, which its changes note as an access.
    pub(super) access: AccessClock,
}

/// One key in this number has to expire, so that those that do are looked for among all keys.
const SAMPLED_SHARE: usize = 8;
/// Keys that are looked at for one that expires.
const SAMPLE_ATTEMPTS: usize = 32;

impl Database {
    pub fn new() -> Database {
        Database::default()
    }

    /// Makes room for `keys` keys, where there are none.
    pub(super) fn reserve(&mut self, keys: usize) {
        if self.is_empty() {
            self.table.reserve(keys);
        }
    }

    /// How many keys are stored, expired ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many keys carry an expiry.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.get_hashed(HashedKey::new(key))
    }

    #[inline]
    pub(super) fn get_hashed(&self, key: HashedKey<'_>) -> Option<&Entry> {
        self.table.get(key.hash(), key.bytes())
    }

    /// See [`Table::prefetch`].
    #[inline]
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        self.table.prefetch(keys.map(hash_bytes));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// One step of SCAN; see `Table::scan`.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, each: &mut dyn FnMut(&'a Entry)) -> u64 {
        self.table.scan(cursor, count, each)
    }

    /// Some entry, picked by two random numbers.
    pub fn sample(&self, random: u64, second: u64) -> Option<&Entry> {
        self.table.sample(random, second)
    }

    /// Some entry that expires. Where few do, those are more likely that expire far from others.
    pub(super) fn sample_expiring(&self, random: &dyn Fn() -> u64) -> Option<&Entry> {
        if self.expiring == 0 {
            return None;
        }
        let expires = |entry: &&Entry| entry.expires_at_ms() != 0;
        let from_table = || self.sample(random(), random()).filter(expires);
        if self.expiring >= self.len() / SAMPLED_SHARE {
            let found = (0..SAMPLE_ATTEMPTS).find_map(|_| from_table());
            if found.is_some() {
                return found;
            }
        }
        (0..SAMPLE_ATTEMPTS)
            .find_map(|_| self.expiry.sample(&self.table, random(), random()).filter(expires))
            .or_else(|| self.expiry.entries(&self.table).find(expires))
    }

    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes() + self.heap_bytes
    }

    pub fn table_bytes(&self) -> usize {
        self.table.heap_bytes()
    }

    /// One step of a walk over entries of which something has expired at `now_ms` and is still stored: the
    /// key, or a field of its hash. See `ExpiryIndex::due_step`.
    pub fn due_step<'d>(
        &'d self,
        now_ms: u64,
        place: DuePlace,
        limit: usize,
        each: &mut dyn FnMut(&'d Entry, u64),
    ) -> (DuePlace, bool) {
        self.expiry.due_step(&self.table, now_ms, place, limit, each)
    }

    /// False only if nothing has expired that is still stored. Costs no walk.
    pub fn may_have_due(&self, now_ms: u64) -> bool {
        self.expiry.may_have_due(now_ms)
    }

    /// Runs `change` on the entry and keeps the books: memory, expiry count and index. A value that ends
    /// empty is removed. Returns what `change` returned, or `None` where the key is absent.
    pub(super) fn update<R>(
        &mut self,
        key: HashedKey<'_>,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> Option<R> {
        let entry = self.table.get_mut(key.hash(), key.bytes())?;
        let (bytes, expiring) = (entry.heap_bytes(), entry.expires_at_ms() != 0);
        let result = change(entry);
        self.heap_bytes = self.heap_bytes + entry.heap_bytes() - bytes;
        self.expiring = self.expiring + usize::from(entry.expires_at_ms() != 0) - usize::from(expiring);
        self.expiry.note(entry, key.hash());
        entry.set_access(self.access.changed(entry.access()));
        if entry.value().is_empty() {
            self.remove(key);
        }
        Some(result)
    }

    /// Changes where contents of an entry are stored (`Housing`), and keeps the memory count.
    pub(super) fn rehouse(&mut self, key: &[u8], change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.table.get_mut(hash_bytes(key), key) else { return };
        let bytes = entry.heap_bytes();
        change(entry);
        self.heap_bytes = self.heap_bytes + entry.heap_bytes() - bytes;
    }

    /// Puts an entry where there may be one of its key already; returns what is left of that.
    pub(super) fn put(&mut self, key: HashedKey<'_>, entry: Entry) -> Garbage {
        debug_assert_eq!(key.bytes(), entry.key(), "an entry is put under its own key");
        let mut entry = Some(entry);
        let replaced = self.update(key, |there| there.replace(entry.take().expect("set above")));
        if let Some(entry) = entry {
            self.insert_new(key, entry);
        }
        replaced.unwrap_or_default()
    }

    /// Inserts an entry whose key is absent.
    pub(super) fn insert_new(&mut self, key: HashedKey<'_>, mut entry: Entry) {
        debug_assert_eq!(key.bytes(), entry.key(), "an entry is inserted under its own key");
        entry.set_access(self.access.first());
        let entry = self.table.insert_new(key.hash(), entry);
        self.heap_bytes += entry.heap_bytes();
        self.expiring += usize::from(entry.expires_at_ms() != 0);
        self.expiry.note(entry, key.hash());
    }

    pub(super) fn remove(&mut self, key: HashedKey<'_>) -> Option<Entry> {
        let entry = self.table.remove(key.hash(), key.bytes())?;
        self.heap_bytes -= entry.heap_bytes();
        self.expiring -= usize::from(entry.expires_at_ms() != 0);
        Some(entry)
    }

    /// Takes over all entries of another; see [`Table::absorb`].
    pub(super) fn absorb(&mut self, other: Database) -> Result<(), Vec<u8>> {
        self.table.absorb(other.table)?;
        self.expiry.absorb(other.expiry);
        self.expiring += other.expiring;
        self.heap_bytes += other.heap_bytes;
        Ok(())
    }

    /// Up to `limit` keys that have expired, or a field of which has; see `Keyspace::take_due`.
    pub(super) fn take_due(&mut self, now_ms: u64, limit: usize) -> Vec<Vec<u8>> {
        self.expiry.take_due(&mut self.table, now_ms, limit)
    }

    /// See `Keyspace::expiry_cursor`.
    pub(super) fn expiry_cursor(&self, key: &[u8]) -> u64 {
        self.expiry.cursor(key)
    }

    /// See `Keyspace::set_expiry_cursor`.
    pub(super) fn set_expiry_cursor(&mut self, key: &[u8], cursor: u64) {
        self.expiry.set_cursor(&mut self.table, hash_bytes(key), key, cursor);
    }
}
