//! The keyspace: numbered databases of keys with typed values, and `apply`, the only function that changes
//! them.
//!
//! Invariants:
//! - nothing outside this module gets `&mut` to a key or value; all change goes through `Keyspace::apply`
//!   (`Housing` changes where a content is stored, not what it is);
//! - applying is a function of the keyspace and the effect alone, so that replay gives the same keyspace;
//! - a value without parts does not exist: the key of a hash goes with its last field;
//! - expired keys stay until an effect deletes them: whether a key has expired is its reader's question.

mod access;
mod apply;
#[cfg(test)]
mod collections_tests;
mod database;
pub mod digest;
mod document;
mod encoding;
mod entry;
mod eviction;
mod expiry;
mod garbage;
mod lists;
mod packed;
mod sets;
mod sorted_sets;
mod streams;
mod typed;
mod value;

pub(crate) use access::mixed;
pub use access::{AccessMode, FrequencySettings};
pub use apply::EffectOutcome;
pub use database::Database;
pub use document::{DocumentPath, DocumentSource, DocumentType, FieldValue, PathCost, Several, ShownValue};
pub use encoding::EncodingLimits;
pub use entry::Entry;
pub use eviction::{EvictionPolicy, EvictionRank};
pub(crate) use eviction::{EvictionPool, EvictionSource};
pub use expiry::DuePlace;
pub use garbage::Garbage;
pub use lists::list_of;
pub use sets::set_of;
pub use sorted_sets::sorted_set_of;
pub use typed::{
    DataType, DataTypes, EachEffect, EffectOrigin, PackedValues, SAVED_BYTES_MAX, SAVED_PARTS_MAX,
    SmallChange, SmallRef, TypedValue,
};
pub use value::{OwnedValue, ValueRef};

use crate::effect::{List, Record};
use crate::table::HashedKey;
use crate::types::{Contents, Housed};
use access::{AccessClock, second_of};
use std::ops::Deref;

/// What an effect need not make, because it was made before the lock was taken.
#[derive(Default)]
pub(crate) struct Given<'c> {
    /// A copy of the value of the effect's key, for an effect that makes one. A string's may have room to
    /// spare, and zero bytes behind where the effect writes such.
    pub(crate) copy: Option<Box<OwnedValue>>,
    /// Words of the effect that values can refer to.
    pub(crate) contents: Option<&'c Contents>,
    /// The object as the effect leaves it: it takes the place of the one at the key.
    pub(crate) object: Option<Box<dyn TypedValue>>,
    pub(crate) origin: EffectOrigin,
}

/// All databases of one store.
#[derive(Debug)]
pub struct Keyspace {
    databases: Vec<Database>,
    /// The second that changes note as an access; 0 before the first transaction.
    access: AccessClock,
    types: DataTypes,
}

impl Keyspace {
    /// One whose values are strings and hashes only.
    pub fn new(databases: usize) -> Keyspace {
        Keyspace::with_types(databases, DataTypes::default())
    }

    pub fn with_types(databases: usize, types: DataTypes) -> Keyspace {
        let databases = (0..databases).map(|_| Database::new()).collect();
        Keyspace { databases, access: AccessClock::default(), types }
    }

    /// The data types that it has beside strings and hashes.
    pub fn types(&self) -> &DataTypes {
        &self.types
    }

    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    /// The database of that number. Numbers are checked where a client chooses one, and when an effect is
    /// decoded for replay; a number beyond the configured ones grows the list, so that a log written under a
    /// larger setting loads.
    pub fn database(&self, number: u32) -> Option<&Database> {
        self.databases.get(number as usize)
    }

    fn database_mut(&mut self, number: u32) -> &mut Database {
        let wanted = number as usize + 1;
        if self.databases.len() < wanted {
            self.databases.resize_with(wanted, Database::new);
            self.databases.iter_mut().for_each(|database| database.access = self.access);
        }
        &mut self.databases[number as usize]
    }

    /// Sets the time that changes note as an access of their keys (OBJECT IDLETIME). It is no part of the
    /// ground state.
    #[inline]
    pub(crate) fn set_access_time(&mut self, now_ms: u64, mode: AccessMode) {
        if second_of(self.access.now_ms) != second_of(now_ms) || self.access.mode != mode {
            self.access = AccessClock::new(mode, now_ms);
            self.databases.iter_mut().for_each(|database| database.access = self.access);
        }
    }

    /// The stored entry, expired or not.
    pub fn entry(&self, database: u32, key: &[u8]) -> Option<&Entry> {
        self.database(database)?.get(key)
    }

    /// The same for a key whose hash is known.
    #[inline]
    pub(crate) fn entry_hashed(&self, database: u32, key: HashedKey<'_>) -> Option<&Entry> {
        self.database(database)?.get_hashed(key)
    }

    /// Applies one effect. Replay, execution and the snapshotter call this and nothing else.
    pub fn apply(&mut self, record: &Record<'_>) -> EffectOutcome {
        let key = record.effect.key().map(HashedKey::new);
        apply::apply(self, record, key, Given::default())
    }

    /// The same with what has been made already; `key` is that of the effect.
    pub(crate) fn apply_with(
        &mut self,
        record: &Record<'_>,
        key: Option<HashedKey<'_>>,
        given: Given<'_>,
    ) -> EffectOutcome {
        apply::apply(self, record, key, given)
    }

    /// Makes room for `keys` keys in a database that has none.
    pub(crate) fn reserve(&mut self, database: u32, keys: usize) {
        self.database_mut(database).reserve(keys);
    }

    /// Applies a HashSet of a snapshot, of which some contents are stored elsewhere already: each with the
    /// number of its pair, in order.
    pub(crate) fn load_hash(
        &mut self,
        database: u32,
        key: &[u8],
        fields: List<'_>,
        housed: &mut dyn Iterator<Item = (usize, Housed)>,
    ) -> EffectOutcome {
        apply::hash_load(self, (database, HashedKey::new(key)), fields, housed)
    }

    /// Takes over all entries of another keyspace, one that was filled apart from this one. `Err` with the
    /// key if one is in both: then neither is of use any more.
    pub(crate) fn absorb(&mut self, other: Keyspace) -> Result<(), Vec<u8>> {
        (0..).zip(other.databases).try_for_each(|(number, part)| match part.is_empty() {
            true => Ok(()),
            false => self.database_mut(number).absorb(part),
        })
    }

    /// Keys and fields whose expiry is due: up to `limit` calls to `each` with a database number and a key,
    /// whose entry or some field of it has expired at `now_ms`. Forgets them: the caller applies the deletes
    /// in the same lock hold.
    pub fn take_due(&mut self, now_ms: u64, limit: usize) -> Vec<(u32, Vec<u8>)> {
        let mut due = Vec::new();
        for (number, database) in self.databases.iter_mut().enumerate() {
            let keys = database.take_due(now_ms, limit.saturating_sub(due.len()));
            due.extend(keys.into_iter().map(|key| (number as u32, key)));
        }
        due
    }

    /// Gives back what `take_due` took and the caller could not delete.
    pub fn requeue(&mut self, database: u32, key: &[u8]) {
        self.database_mut(database).update(HashedKey::new(key), |_| ());
    }

    /// How far the deletion of expired fields has come in a hash: a cursor of `Hash::scan`, 0 where none has
    /// begun.
    pub fn expiry_cursor(&self, database: u32, key: &[u8]) -> u64 {
        self.database(database).map_or(0, |database| database.expiry_cursor(key))
    }

    /// Notes how far it has come. At 0 it is over.
    pub fn set_expiry_cursor(&mut self, database: u32, key: &[u8], cursor: u64) {
        self.database_mut(database).set_expiry_cursor(key, cursor);
    }

    /// Memory of the tables of keys in bytes, without what their entries own.
    pub fn table_bytes(&self) -> usize {
        self.databases.iter().map(Database::table_bytes).sum()
    }

    /// Memory of all databases in bytes, by estimate.
    pub fn heap_bytes(&self) -> usize {
        self.databases.iter().map(Database::heap_bytes).sum()
    }
}

/// What modules get of the keyspace: to read it, and to house contents. Not to change anything: that is what
/// effects are for.
pub struct Housing<'k>(&'k mut Keyspace);

impl Housing<'_> {
    pub(crate) fn of(keyspace: &mut Keyspace) -> Housing<'_> {
        Housing(keyspace)
    }

    /// Stores the value of a hash's field in a house that has the same content, which changes nothing but
    /// memory.
    pub fn house(&mut self, database: u32, key: &[u8], field: &[u8], housed: Housed) {
        self.0.database_mut(database).rehouse(key, |entry| entry.house(field, housed));
    }

    /// Stores it in the hash again.
    pub fn unhouse(&mut self, database: u32, key: &[u8], field: &[u8]) {
        self.0.database_mut(database).rehouse(key, |entry| entry.unhouse(field));
    }
}

impl Deref for Housing<'_> {
    type Target = Keyspace;

    fn deref(&self) -> &Keyspace {
        self.0
    }
}

#[cfg(test)]
mod tests;
