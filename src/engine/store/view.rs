//! `View`: the only door to keys. Reads at one moment of the engine clock, and folds the hazard of each
//! lookup, of present and absent keys alike, into what the reply must wait for.

use crate::env::{Clock, Env, Random};
use crate::error::CommandError;
use crate::gate::ReplyGate;
use crate::keyspace::{
    AccessMode, DataTypes, Database, DocumentType, DuePlace, EncodingLimits, Entry, Keyspace, TypedValue,
    ValueRef, list_of, mixed, set_of, sorted_set_of,
};
use crate::log::Lsn;
use crate::module::{Module, Modules};
use crate::store::document::Document;
use crate::store::hazard::Changes;
use crate::store::hook::Hook;
use crate::store::lookups::{LookupTotals, Lookups};
use crate::store::memory::{MemoryUse, OtherMemory};
use crate::store::users::Users;
use crate::store::watch::Watch;
use crate::table::HashedKey;
use crate::types::{Field, Hash, HashRef, ListRef, SetRef, SortedSetRef, StringRef};
use parking_lot::RwLock;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A job's way to the keyspace. Each look is a hold of the keyspace's lock, so it has to be short; between
/// two looks writers have their turn. The reply waits for what all of them show.
pub trait Looks {
    fn look(&self, with: &mut dyn FnMut(&View<'_>));
    /// The size in bytes beyond which the reply is dropped and its client closed.
    fn room(&self) -> usize;
}

/// What views and transactions need beside the store.
pub(crate) struct StoreContext {
    pub(crate) env: Env,
    /// The engine clock at the start, which counts as an access of every key that was recovered.
    pub(crate) started_ms: u64,
    pub(crate) expired: Expired,
    pub(crate) lookups: LookupTotals,
    /// What connections take, and the most that keys and modules took, in bytes, as the shell says.
    pub(crate) client_bytes: AtomicU64,
    pub(crate) others: OtherMemory,
    pub(crate) peak_bytes: AtomicU64,
    /// `proto-max-bulk-len`, in bytes: commands let no string grow beyond it. A replay does not ask.
    pub(crate) string_bytes_max: AtomicUsize,
    /// `maxmemory`, or the memory of the machine, in bytes; 0 if neither is known.
    pub(crate) memory_bytes_max: AtomicU64,
    /// Seldom read (OBJECT ENCODING, approximate trims), and never held.
    pub(crate) encoding_limits: RwLock<EncodingLimits>,
    /// [`AccessMode`], packed.
    pub(crate) access_mode: AtomicU64,
    /// Accesses that were counted, for random numbers.
    pub(crate) accesses: AtomicU64,
}

impl StoreContext {
    /// How long a command may make a string, in bytes.
    pub(crate) fn string_bytes_max(&self) -> usize {
        self.string_bytes_max.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn access_mode(&self) -> AccessMode {
        AccessMode::unpack(self.access_mode.load(Ordering::Relaxed))
    }
}

/// What has expired and was deleted, whether something was written in its place or not.
#[derive(Default)]
pub struct Expired {
    pub keys: AtomicU64,
    /// Fields of hashes, also where all fields of a hash have expired.
    pub fields: AtomicU64,
    /// Fields that active expiry has looked at.
    pub looked_at: AtomicU64,
}

/// A read of one database. Expired keys and fields read as absent; nothing is mutated.
pub struct View<'a> {
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) modules: &'a Modules,
    pub(crate) users: &'a Users,
    pub(crate) hook: &'a Hook,
    pub(crate) context: &'a StoreContext,
    pub(crate) database: u32,
    pub(crate) now_ms: u64,
    /// The last batch that was submitted, or read from a log.
    pub(crate) last_lsn: Lsn,
    pub(crate) gate: Cell<ReplyGate>,
    /// The view is part of a transaction, which holds the write lock.
    pub(crate) is_exclusive: bool,
    /// A script runs the command.
    pub(crate) is_in_script: bool,
    pub(crate) lookups: Lookups,
    /// Keys that were looked up, for tests of what one hold of the lock does.
    #[cfg(debug_assertions)]
    pub(crate) looked_up: Cell<usize>,
}

impl<'a> View<'a> {
    pub fn database(&self) -> u32 {
        self.database
    }

    /// The engine clock: one value for the whole command.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The memory that the server may take, in bytes: `maxmemory`, or that of the machine; `u64::MAX` if
    /// neither is known.
    pub fn memory_bytes_max(&self) -> u64 {
        match self.context.memory_bytes_max.load(Ordering::Relaxed) {
            0 => u64::MAX,
            bytes => bytes,
        }
    }

    /// The counter of a key's accesses, 0 to 255; `None` unless the policy goes by frequency.
    pub fn access_count(&self, entry: &Entry) -> Option<u32> {
        match self.context.access_mode() {
            AccessMode::Recency => None,
            AccessMode::Frequency(settings) => Some(entry.access_count(settings, self.now_ms)),
        }
    }

    /// Redis's limits of compact encodings, as they are configured.
    pub fn encoding_limits(&self) -> EncodingLimits {
        *self.context.encoding_limits.read()
    }

    /// How many keys, elements and fields have changed since the start, as Redis counts them.
    pub fn changes(&self) -> u64 {
        self.hook.changes
    }

    /// The memory in use.
    pub fn memory(&self) -> MemoryUse {
        let of_modules = self.modules().iter().map(|module| module.memory_bytes()).sum();
        self.context.others.with(self.keyspace, of_modules)
    }

    /// What connections take, in bytes.
    pub fn client_bytes(&self) -> u64 {
        self.context.client_bytes.load(Ordering::Relaxed)
    }

    /// The most that keys and modules took, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.context.peak_bytes.load(Ordering::Relaxed)
    }

    pub fn random(&self) -> u64 {
        self.context.env.random.next_u64()
    }

    /// Random numbers for work that goes on without the view.
    pub fn random_source(&self) -> Arc<dyn Random> {
        self.context.env.random.clone()
    }

    /// True inside EXEC: the whole store stands still meanwhile, so a staged command must not wait for
    /// anything.
    pub fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    /// What the reply has to wait for, so far.
    pub fn gate(&self) -> ReplyGate {
        self.gate.get()
    }

    /// The system's clock, for limits of time.
    pub fn clock(&self) -> &'a Arc<dyn Clock> {
        &self.context.env.clock
    }

    /// Makes the reply wait for this batch.
    #[inline]
    pub fn wait_for(&self, gate: ReplyGate) {
        self.gate.set(self.gate.get().max(gate));
    }

    /// The entry of a key that is there and has not expired. Notes the access.
    #[inline]
    pub fn entry(&self, key: &[u8]) -> Option<&'a Entry> {
        let entry = self.peek(self.database, key)?;
        match self.context.access_mode() {
            AccessMode::Recency => entry.touch(self.now_ms),
            AccessMode::Frequency(settings) => {
                let random = mixed(self.context.accesses.fetch_add(1, Ordering::Relaxed));
                entry.count_access(settings, self.now_ms, random);
            }
        }
        Some(entry)
    }

    /// The same in any database, without noting an access (OBJECT, TTL, TYPE).
    #[inline]
    pub fn peek(&self, database: u32, key: &[u8]) -> Option<&'a Entry> {
        #[cfg(debug_assertions)]
        self.looked_up.set(self.looked_up.get() + 1);
        let key = HashedKey::new(key);
        self.wait_for(self.hook.hazards.of(database, key));
        let found = self.keyspace.entry_hashed(database, key).filter(|entry| entry.alive(self.now_ms));
        self.lookups.note(database, key.bytes(), found.is_some());
        found
    }

    /// The last batch that can have changed this key of the view's database, or that changed another by
    /// chance: while it is the same, the key is.
    pub fn changed_by(&self, key: &[u8]) -> ReplyGate {
        self.hook.hazards.of(self.database, HashedKey::new(key))
    }

    /// Counts lookups from here on, as of a command that reads: a write that returns what was there.
    pub fn count_lookups(&self) {
        self.lookups.begin(self.hook.notices.notes_misses());
    }

    /// A watch that the first change of this key of the view's database from now on dirties.
    pub(crate) fn watch(&self, key: &[u8]) -> Arc<Watch> {
        let watch = Watch::new();
        watch.present.lock().push((self.database, key.to_vec()));
        self.hook.watched.add(&watch, self.database, key);
        watch
    }

    /// Has the changes of the view's database noted from now on, for a walk over all of its keys.
    pub fn note_changes(&self) -> Arc<Changes> {
        self.hook.hazards.note_changes(self.database)
    }

    /// The last batch that was submitted, or read from a log. In EXEC, what its commands did is not in it.
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// The last batch that was applied, submitted or not.
    pub(crate) fn last_applied(&self) -> ReplyGate {
        self.hook.last_applied(self.last_lsn)
    }

    /// How many keys were looked up.
    #[cfg(debug_assertions)]
    pub fn looked_up(&self) -> usize {
        self.looked_up.get()
    }

    /// Whole seconds since the entry was read or written last; since the start where it was neither.
    pub fn idle_seconds(&self, entry: &Entry) -> u64 {
        let accessed_second = match u64::from(entry.access()) {
            0 => self.context.started_ms / 1000,
            second => second,
        };
        (self.now_ms / 1000).saturating_sub(accessed_second)
    }

    /// Has the key count as not accessed for this long, where the policy goes by recency.
    pub(crate) fn set_idle_seconds(&self, key: &[u8], idle_seconds: u64) {
        if let (AccessMode::Recency, Some(entry)) =
            (self.context.access_mode(), self.peek(self.database, key))
        {
            // 0 would be a key that was never accessed.
            entry.touch((self.now_ms / 1000).saturating_sub(idle_seconds).max(1) * 1000);
        }
    }

    /// Sets the counter of a key's accesses, where the policy goes by frequency.
    pub(crate) fn set_access_count(&self, key: &[u8], count: u8) {
        if let (AccessMode::Frequency(_), Some(entry)) =
            (self.context.access_mode(), self.peek(self.database, key))
        {
            entry.set_access_count(self.now_ms, count);
        }
    }

    /// One step of a walk over the keys which have expired and are still stored, or a field of theirs has,
    /// for those who keep an index of their own. Visits up to `limit` places of the expiry index, and calls
    /// `each` with the keys that these name and the time at which something of the key expires next, in
    /// milliseconds. That time may be too early, and it may be later than now. A key may come twice. Returns
    /// where the next step begins, in this view or a later one, and whether there is nothing beyond that now.
    ///
    /// What changes while the walk lasts may be left out: `note_changes` names it. The reply waits for none
    /// of these keys: a caller that uses one looks it up.
    pub fn due_step(
        &self,
        database: u32,
        place: DuePlace,
        limit: usize,
        each: &mut dyn FnMut(&'a [u8], u64),
    ) -> (DuePlace, bool) {
        match self.keyspace.database(database) {
            Some(keys) => keys.due_step(self.now_ms, place, limit, &mut |entry, at| each(entry.key(), at)),
            None => (place, true),
        }
    }

    /// False only if nothing of the database has expired that is still stored. Costs no walk.
    pub fn may_have_due(&self, database: u32) -> bool {
        self.keyspace.database(database).is_some_and(|keys| keys.may_have_due(self.now_ms))
    }

    /// Reads what looks at these keys of the view's database will read, so that the cache misses of several
    /// overlap.
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        if let Some(database) = self.keyspace.database(self.database) {
            database.prefetch(keys);
        }
    }

    pub fn string(&self, key: &[u8]) -> Result<Option<StringRef<'a>>, CommandError> {
        match self.entry(key).map(Entry::value) {
            None => Ok(None),
            Some(ValueRef::String(string)) => Ok(Some(string)),
            Some(_) => Err(CommandError::WRONG_TYPE),
        }
    }

    pub fn hash(&self, key: &[u8]) -> Result<Option<HashView<'a>>, CommandError> {
        match self.entry(key).map(Entry::value) {
            None => Ok(None),
            Some(ValueRef::Hash(hash)) => Ok(Some(HashView::new(hash, self.now_ms))),
            Some(_) => Err(CommandError::WRONG_TYPE),
        }
    }

    pub fn list(&self, key: &[u8]) -> Result<Option<ListRef<'a>>, CommandError> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => list_of(entry.value()).map(Some).ok_or(CommandError::WRONG_TYPE),
        }
    }

    pub fn set(&self, key: &[u8]) -> Result<Option<SetRef<'a>>, CommandError> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => set_of(entry.value()).map(Some).ok_or(CommandError::WRONG_TYPE),
        }
    }

    pub fn sorted_set(&self, key: &[u8]) -> Result<Option<SortedSetRef<'a>>, CommandError> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => sorted_set_of(entry.value()).map(Some).ok_or(CommandError::WRONG_TYPE),
        }
    }

    /// The document at a key, if its value is one of this type.
    pub fn document(&self, key: &[u8], documents: DocumentType) -> Option<Document<'a>> {
        Document::of(self.entry(key)?.value(), documents, self.now_ms)
    }

    /// The value of a data type that is no string or hash.
    pub fn object<T: TypedValue>(&self, key: &[u8]) -> Result<Option<&'a T>, CommandError> {
        match self.entry(key).map(Entry::value) {
            None => Ok(None),
            Some(ValueRef::Object(object)) => object.downcast_ref().map(Some).ok_or(CommandError::WRONG_TYPE),
            Some(_) => Err(CommandError::WRONG_TYPE),
        }
    }

    /// The whole database, for SCAN, KEYS, DBSIZE, RANDOMKEY: the reply waits for everything that was
    /// applied. What has expired is in it; ask each entry.
    pub fn whole_database(&self) -> Option<&'a Database> {
        self.whole_keyspace().database(self.database)
    }

    /// All databases, under the same rule.
    pub fn whole_keyspace(&self) -> &'a Keyspace {
        self.wait_for(self.last_applied());
        self.keyspace
    }

    /// How many databases there are; clients choose a number below it.
    pub fn database_count(&self) -> usize {
        self.keyspace.databases().len()
    }

    /// The data types that the keyspace has beside strings and hashes.
    pub fn data_types(&self) -> &'a DataTypes {
        self.keyspace.types()
    }

    /// The module of this type; one that is not part of this program is a programming error.
    pub fn module<M: Module>(&self) -> &'a M {
        self.modules.get::<M>()
    }

    pub fn modules(&self) -> &'a Modules {
        self.modules
    }

    /// The users: the reply waits for their last change.
    pub fn users(&self) -> &'a Users {
        self.wait_for(self.users.gate());
        self.users
    }
}

/// A hash without its expired fields. From a `View` it has at least one: a hash whose fields have all expired
/// reads as absent.
#[derive(Clone, Copy)]
pub struct HashView<'a> {
    hash: HashRef<'a>,
    now_ms: u64,
}

impl<'a> HashView<'a> {
    pub fn new(hash: impl Into<HashRef<'a>>, now_ms: u64) -> HashView<'a> {
        HashView { hash: hash.into(), now_ms }
    }

    /// With its expired fields, for those who know nothing of time.
    pub fn whole(hash: impl Into<HashRef<'a>>) -> HashView<'a> {
        HashView::new(hash, 0)
    }

    /// The same hash as it is at another time.
    pub fn at(self, now_ms: u64) -> HashView<'a> {
        HashView { now_ms, ..self }
    }

    /// How many fields are stored, expired ones included.
    pub fn stored(&self) -> usize {
        self.hash.len()
    }

    /// A hash of its own with the fields that have not expired.
    pub fn copy(&self) -> Hash {
        self.copy_of(self.iter())
    }

    /// A hash of its own with some of the fields; they keep their expiry.
    pub fn copy_of<'f>(&self, fields: impl Iterator<Item = Field<'f>>) -> Hash {
        let mut copy = Hash::new();
        fields.for_each(|field| copy.add(field));
        copy
    }

    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<Field<'a>> {
        self.hash.get(name).filter(|field| field.alive(self.now_ms))
    }

    /// See [`View::prefetch`], for fields.
    pub fn prefetch<'n>(&self, names: impl Iterator<Item = &'n [u8]>) {
        self.hash.prefetch(names);
    }

    pub fn len(&self) -> usize {
        match self.hash.expiring() {
            0 => self.hash.len(),
            _ => self.iter().count(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many fields carry an expiry, expired ones included.
    pub fn expiring(&self) -> usize {
        self.hash.expiring()
    }

    /// Some field, picked by two random numbers; `None` if the pick has expired.
    pub fn sample(&self, random: u64, second: u64) -> Option<Field<'a>> {
        self.hash.sample(random, second).filter(|field| field.alive(self.now_ms))
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let now_ms = self.now_ms;
        self.hash.iter().filter(move |field| field.alive(now_ms))
    }

    /// One step of HSCAN; see `Hash::scan`.
    pub fn scan(&self, cursor: u64, count: usize, each: &mut dyn FnMut(Field<'a>)) -> u64 {
        self.hash.scan(cursor, count, &mut |field| {
            if field.alive(self.now_ms) {
                each(field);
            }
        })
    }
}
