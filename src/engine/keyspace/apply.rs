//! `apply`: what each effect does, for execution and replay alike.
//!
//! An effect that does not fit the keyspace (a field of a string, say) can only come from a corrupt log or a bug; it
//! changes nothing and says so in its outcome, and the store stops on it.

use super::{Given, Keyspace, Value};
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
    Value(Value),
    Databases(Vec<super::Database>),
}

impl Garbage {
    /// Whether dropping it takes longer than others should wait.
    pub fn is_large(&self) -> bool {
        const FIELDS_MAX: usize = 10_000;
        const BYTES_MAX: usize = 4 << 20;
        match self {
            Garbage::Databases(_) => true,
            Garbage::Value(Value::Hash(hash)) => hash.len() > FIELDS_MAX || hash.heap_bytes() > BYTES_MAX,
            Garbage::Value(Value::String(string)) => string.heap_bytes() > BYTES_MAX,
            Garbage::None => false,
        }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Garbage::None)
    }

    /// A value worth carrying out of the lock; small ones are dropped on the spot.
    fn of(value: Value) -> Garbage {
        match &value {
            Value::Hash(_) => Garbage::Value(value),
            Value::String(string) if string.heap_bytes() > 16 * 1024 => Garbage::Value(value),
            Value::String(_) => Garbage::None,
        }
    }
}

impl Outcome {
    /// Nothing but a value to be dropped.
    pub(crate) fn discarded(value: Value) -> Outcome {
        Outcome { garbage: Garbage::of(value), ..Outcome::default() }
    }

    fn count(count: usize) -> Outcome {
        Outcome { count, ..Outcome::default() }
    }

    fn removed(value: Option<Value>) -> Outcome {
        let count = usize::from(value.is_some());
        Outcome { count, garbage: value.map(Garbage::of).unwrap_or_default(), mismatch: false }
    }

    fn mismatch() -> Outcome {
        Outcome { mismatch: true, ..Outcome::default() }
    }
}

pub(super) fn apply(keyspace: &mut Keyspace, record: &Record<'_>, given: Given<'_>) -> Outcome {
    let number = record.database;
    let Given { copy: given, contents } = given;
    match record.effect {
        Effect::Delete { key, .. } => {
            Outcome::removed(keyspace.database_mut(number).remove(key).map(|entry| entry.value))
        }
        Effect::Expire { key, expires_at_ms } => {
            let found =
                keyspace.database_mut(number).update(key, |entry| entry.expires_at_ms = expires_at_ms);
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
            hash(keyspace, number, key, |hash| each_field(hash, fields, |hash, [field]| hash.remove(field)))
        }
        Effect::HashExpire { key, fields, expires_at_ms } => hash(keyspace, number, key, |hash| {
            each_field(hash, fields, |hash, [field]| hash.set_expiry(field, expires_at_ms))
        }),
        Effect::Rename { key, to } => rename(keyspace, number, key, number, to),
        Effect::Move { key, to_database } => rename(keyspace, number, key, to_database, key),
        Effect::Copy { key, to, to_database } => copy(keyspace, (number, key), (to_database, to), given),
        Effect::Flush => {
            let flushed = std::mem::take(keyspace.database_mut(number));
            Outcome { count: flushed.len(), garbage: Garbage::Databases(vec![flushed]), mismatch: false }
        }
        Effect::FlushAll => {
            let flushed: Vec<_> = keyspace.databases.iter_mut().map(std::mem::take).collect();
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
    let make = || referred.map_or_else(|| StringValue::new(word), StringValue::referring);
    let replaced = database.update(key, |entry| {
        entry.expires_at_ms = expires_at_ms;
        if let Value::String(string) = &mut entry.value
            && referred.is_none()
            && string.overwrite(word)
        {
            return Garbage::None;
        }
        Garbage::of(std::mem::replace(&mut entry.value, Value::String(make())))
    });
    match replaced {
        Some(garbage) => Outcome { count: 1, garbage, mismatch: false },
        None => {
            database.insert_expiring(key, Value::String(make()), expires_at_ms);
            Outcome::count(0)
        }
    }
}

fn string(
    keyspace: &mut Keyspace,
    number: u32,
    key: &[u8],
    given: Option<Box<Value>>,
    change: impl FnOnce(&mut StringValue),
) -> Outcome {
    let database = keyspace.database_mut(number);
    if database.get(key).is_none() {
        database.insert_new(key, Value::String(StringValue::new(b"")));
    }
    let replaced = database.update(key, |entry| {
        let replaced = given.map(|copy| std::mem::replace(&mut entry.value, *copy));
        match &mut entry.value {
            Value::String(string) => {
                change(string);
                Some(replaced)
            }
            Value::Hash(_) => None,
        }
    });
    match replaced.flatten() {
        Some(replaced) => {
            Outcome { count: 1, garbage: replaced.map(Garbage::of).unwrap_or_default(), mismatch: false }
        }
        None => Outcome::mismatch(),
    }
}

fn hash(
    keyspace: &mut Keyspace,
    number: u32,
    key: &[u8],
    change: impl FnOnce(&mut Hash) -> usize,
) -> Outcome {
    let changed = keyspace.database_mut(number).update(key, |entry| match &mut entry.value {
        Value::Hash(hash) => Some(change(hash)),
        Value::String(_) => None,
    });
    match changed {
        Some(Some(count)) => Outcome::count(count),
        Some(None) => Outcome::mismatch(),
        None => Outcome::count(0),
    }
}

/// Words whose lookups are begun together, so that their cache misses overlap.
const AHEAD: usize = 16;

/// Changes the fields that are named by the first of every `STRIDE` words; how many changes were counted.
#[inline]
fn each_field<const STRIDE: usize>(
    hash: &mut Hash,
    words: List<'_>,
    mut change: impl FnMut(&mut Hash, [&[u8]; STRIDE]) -> bool,
) -> usize {
    let is_many = words.len() >= STRIDE * AHEAD;
    let mut words = words.iter();
    let mut next = || {
        let mut group = [&b""[..]; STRIDE];
        group.iter_mut().all(|word| words.next().map(|next| *word = next).is_some()).then_some(group)
    };
    let mut count = 0;
    if !is_many {
        while let Some(words) = next() {
            count += usize::from(change(hash, words));
        }
        return count;
    }
    let mut groups = [[&b""[..]; STRIDE]; AHEAD];
    loop {
        let filled = groups.iter_mut().map_while(|group| next().map(|next| *group = next)).count();
        let groups = &groups[..filled];
        hash.prefetch(groups.iter().map(|words| words[0]));
        count += groups.iter().filter(|words| change(hash, **words)).count();
        if filled < AHEAD {
            return count;
        }
    }
}

fn hash_set(
    keyspace: &mut Keyspace,
    (number, key): (u32, &[u8]),
    fields: List<'_>,
    keep_expiry: bool,
    contents: Option<&Contents>,
) -> Outcome {
    let database = keyspace.database_mut(number);
    let set_all = |hash: &mut Hash| {
        each_field(hash, fields, |hash, [name, value]| {
            match contents.and_then(|contents| contents.of(value)) {
                Some(content) => hash.set_referring(name, content, keep_expiry),
                None => hash.set(name, value, keep_expiry),
            }
        })
    };
    if database.get(key).is_none() {
        let mut hash = Box::new(Hash::new());
        let count = set_all(&mut hash);
        database.insert_new(key, Value::Hash(hash));
        return Outcome::count(count);
    }
    self::hash(keyspace, number, key, set_all)
}

/// A HashSet of a snapshot, of which some contents are housed: each with the number of its pair, in order.
pub(super) fn hash_load(
    keyspace: &mut Keyspace,
    number: u32,
    key: &[u8],
    fields: List<'_>,
    housed: &mut dyn Iterator<Item = (usize, Housed)>,
) -> Outcome {
    let database = keyspace.database_mut(number);
    if database.get(key).is_some() {
        return hash_set(keyspace, (number, key), fields, false, None);
    }
    let mut hash = Box::new(Hash::new());
    let mut housed = housed.peekable();
    for (at, (name, value)) in fields.pairs().enumerate() {
        match housed.next_if(|(pair, _)| *pair == at) {
            Some((_, content)) if hash.get(name).is_none() => hash.set_housed(name, content),
            _ => _ = hash.set(name, value, false),
        }
    }
    let count = hash.len();
    database.insert_new(key, Value::Hash(hash));
    Outcome::count(count)
}

fn rename(keyspace: &mut Keyspace, from: u32, key: &[u8], to: u32, new_key: &[u8]) -> Outcome {
    let Some(entry) = keyspace.database_mut(from).remove(key) else { return Outcome::mismatch() };
    let replaced = keyspace.database_mut(to).replace(new_key, entry.value, entry.expires_at_ms);
    Outcome { count: 1, garbage: replaced.map(Garbage::of).unwrap_or_default(), mismatch: false }
}

fn copy(keyspace: &mut Keyspace, from: (u32, &[u8]), to: (u32, &[u8]), given: Option<Box<Value>>) -> Outcome {
    let Some(entry) = keyspace.entry(from.0, from.1) else { return Outcome::mismatch() };
    debug_assert!(
        given.as_ref().is_none_or(|copy| **copy == entry.value),
        "the copy is of the present value"
    );
    let value = given.map_or_else(|| entry.value.clone(), |copy| *copy);
    let expires_at_ms = entry.expires_at_ms;
    let replaced = keyspace.database_mut(to.0).replace(to.1, value, expires_at_ms);
    Outcome { count: 1, garbage: replaced.map(Garbage::of).unwrap_or_default(), mismatch: false }
}
