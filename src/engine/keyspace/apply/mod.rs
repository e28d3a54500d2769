//! `apply`: what each effect does, for execution and replay alike.
//!
//! An effect that does not fit the keyspace (a field of a string, say) can only come from a corrupt log or a bug; it
//! changes nothing and says so in its outcome, and the store stops on it.

use super::entry::{Entry, OwnedValue};
use super::{Given, Keyspace};
use crate::effect::{Effect, List, Record};
use crate::types::{Contents, Hash, Housed, StringValue};

/// What an effect did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many keys, fields or expiries were added, removed or set, by the effect's meaning: fields created by
    /// HashSet, fields removed by HashDelete, fields touched by HashExpire, 1 where a key was there otherwise.
    pub count: usize,
    /// Values to be dropped after the lock is released.
    pub garbage: Garbage,
    /// The effect did not fit the keyspace.
    pub mismatch: bool,
}

/// What was removed, kept until the lock is released: dropping a large value takes time.
#[derive(Debug, Default)]
pub enum Garbage {
    #[default]
    None,
    Value(OwnedValue),
    Databases(Vec<super::Database>),
}

impl Garbage {
    /// Whether dropping it takes longer than others should wait.
    pub fn is_large(&self) -> bool {
        const FIELDS_MAX: usize = 10_000;
        const BYTES_MAX: usize = 4 << 20;
        match self {
            Garbage::Databases(_) => true,
            Garbage::Value(OwnedValue::Hash(hash)) => {
                hash.len() > FIELDS_MAX || hash.heap_bytes() > BYTES_MAX
            }
            Garbage::Value(OwnedValue::String(string)) => string.heap_bytes() > BYTES_MAX,
            Garbage::None => false,
        }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Garbage::None)
    }

    /// A value worth carrying out of the lock; small ones are dropped on the spot.
    pub(super) fn of(value: OwnedValue) -> Garbage {
        match &value {
            OwnedValue::Hash(_) => Garbage::Value(value),
            OwnedValue::String(string) if string.heap_bytes() > 16 * 1024 => Garbage::Value(value),
            OwnedValue::String(_) => Garbage::None,
        }
    }
}

impl Outcome {
    /// Nothing but a value to be dropped.
    pub(crate) fn discarded(value: OwnedValue) -> Outcome {
        Outcome { garbage: Garbage::of(value), ..Outcome::default() }
    }

    fn count(count: usize) -> Outcome {
        Outcome { count, ..Outcome::default() }
    }

    fn removed(entry: Option<Entry>) -> Outcome {
        let count = usize::from(entry.is_some());
        Outcome { count, garbage: entry.map(Entry::into_garbage).unwrap_or_default(), mismatch: false }
    }

    /// One key that was there, and what is left of what it was.
    fn replaced(garbage: Garbage) -> Outcome {
        Outcome { count: 1, garbage, mismatch: false }
    }

    /// What a change of fields counted; `None` where the value is of another type.
    fn of_fields(count: Option<usize>) -> Outcome {
        count.map_or_else(Outcome::mismatch, Outcome::count)
    }

    fn mismatch() -> Outcome {
        Outcome { mismatch: true, ..Outcome::default() }
    }
}

pub(super) fn apply(keyspace: &mut Keyspace, record: &Record<'_>, given: Given<'_>) -> Outcome {
    let number = record.database;
    let Given { copy: given, contents } = given;
    match record.effect {
        Effect::Delete { key, .. } => Outcome::removed(keyspace.database_mut(number).remove(key)),
        Effect::Expire { key, expires_at_ms } => {
            let found =
                keyspace.database_mut(number).update(key, |entry| entry.set_expires_at_ms(expires_at_ms));
            Outcome::count(usize::from(found.is_some()))
        }
        Effect::StringSet { key, value, expires_at_ms } => {
            string_set(keyspace, (number, key), value, expires_at_ms, contents)
        }
        Effect::StringAppend { key, suffix } => {
            string(keyspace, number, key, given, |string| string.append(suffix))
        }
        Effect::StringWrite { key, offset, content } => {
            string(keyspace, number, key, given, |string| string.write(offset as usize, content))
        }
        Effect::HashSet { key, fields, keep_expiry } => {
            hash_set(keyspace, (number, key), fields, keep_expiry, contents)
        }
        Effect::HashDelete { key, fields, .. } => {
            let removed = keyspace.database_mut(number).update(key, |entry| entry.remove_fields(fields));
            Outcome::of_fields(removed.unwrap_or(Some(0)))
        }
        Effect::HashExpire { key, fields, expires_at_ms } => {
            let database = keyspace.database_mut(number);
            let set = database.update(key, |entry| entry.expire_fields(fields, expires_at_ms));
            Outcome::of_fields(set.unwrap_or(Some(0)))
        }
        Effect::Rename { key, to } => rename(keyspace, number, key, number, to),
        Effect::Move { key, to_database } => rename(keyspace, number, key, to_database, key),
        Effect::Copy { key, to, to_database } => copy(keyspace, (number, key), (to_database, to), given),
        Effect::Flush => {
            let flushed = std::mem::take(keyspace.database_mut(number));
            keyspace.database_mut(number).access_second = keyspace.access_second;
            Outcome { count: flushed.len(), garbage: Garbage::Databases(vec![flushed]), mismatch: false }
        }
        Effect::FlushAll => {
            let flushed: Vec<_> = keyspace.databases.iter_mut().map(std::mem::take).collect();
            let access_second = keyspace.access_second;
            keyspace.databases.iter_mut().for_each(|database| database.access_second = access_second);
            let count = flushed.iter().map(super::Database::len).sum();
            Outcome { count, garbage: Garbage::Databases(flushed), mismatch: false }
        }
        Effect::SwapDatabases { first, second } => {
            keyspace.database_mut(first.max(second));
            keyspace.databases.swap(first as usize, second as usize);
            Outcome::count(1)
        }
        // Modules keep their own state; see `module.rs`.
        Effect::Module { .. } => Outcome::default(),
    }
}

fn string_set(
    keyspace: &mut Keyspace,
    (number, key): (u32, &[u8]),
    word: &[u8],
    expires_at_ms: u64,
    contents: Option<&Contents>,
) -> Outcome {
    let database = keyspace.database_mut(number);
    let referred = contents.and_then(|contents| contents.of(word));
    match database.update(key, |entry| entry.set_string(word, referred, expires_at_ms)) {
        Some(garbage) => Outcome::replaced(garbage),
        None => {
            database.insert_new(Entry::string(key, word, referred, expires_at_ms));
            Outcome::count(0)
        }
    }
}

fn string(
    keyspace: &mut Keyspace,
    number: u32,
    key: &[u8],
    given: Option<Box<OwnedValue>>,
    change: impl FnOnce(&mut StringValue),
) -> Outcome {
    let database = keyspace.database_mut(number);
    if database.get(key).is_none() {
        database.insert_new(Entry::string(key, b"", None, 0));
    }
    let changed = database.update(key, |entry| entry.change_string(given, change));
    changed.flatten().map_or_else(Outcome::mismatch, Outcome::replaced)
}

fn hash_set(
    keyspace: &mut Keyspace,
    (number, key): (u32, &[u8]),
    fields: List<'_>,
    keep_expiry: bool,
    contents: Option<&Contents>,
) -> Outcome {
    let database = keyspace.database_mut(number);
    let set = |entry: &mut Entry| entry.set_fields(fields, keep_expiry, contents);
    if let Some(count) = database.update(key, set) {
        return Outcome::of_fields(count);
    }
    let mut entry = Entry::empty_hash(key);
    let count = set(&mut entry);
    database.insert_new(entry);
    Outcome::of_fields(count)
}

/// A HashSet of a snapshot, of which some contents are housed: each with the number of its pair, in order.
pub(super) fn hash_load(
    keyspace: &mut Keyspace,
    number: u32,
    key: &[u8],
    fields: List<'_>,
    housed: &mut dyn Iterator<Item = (usize, Housed)>,
) -> Outcome {
    let mut housed = housed.peekable();
    let database = keyspace.database_mut(number);
    if housed.peek().is_none() || database.get(key).is_some() {
        return hash_set(keyspace, (number, key), fields, false, None);
    }
    let mut hash = Hash::new();
    for (at, (name, value)) in fields.pairs().enumerate() {
        match housed.next_if(|(pair, _)| *pair == at) {
            Some((_, content)) if hash.get(name).is_none() => hash.set_housed(name, content),
            _ => _ = hash.set(name, value, false),
        }
    }
    let count = hash.len();
    database.insert_new(Entry::of(key, OwnedValue::Hash(Box::new(hash)), 0));
    Outcome::count(count)
}

fn rename(keyspace: &mut Keyspace, from: u32, key: &[u8], to: u32, new_key: &[u8]) -> Outcome {
    let Some(entry) = keyspace.database_mut(from).remove(key) else { return Outcome::mismatch() };
    Outcome::replaced(keyspace.database_mut(to).put(entry.renamed(new_key)))
}

fn copy(
    keyspace: &mut Keyspace,
    from: (u32, &[u8]),
    to: (u32, &[u8]),
    given: Option<Box<OwnedValue>>,
) -> Outcome {
    let Some(entry) = keyspace.entry(from.0, from.1) else { return Outcome::mismatch() };
    let copy = match given {
        Some(value) => {
            debug_assert!(value.read() == entry.value(), "the copy is of the present value");
            Entry::of(to.1, *value, entry.expires_at_ms())
        }
        None => entry.copy(to.1),
    };
    Outcome::replaced(keyspace.database_mut(to.0).put(copy))
}
