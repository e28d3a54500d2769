//! Values: the one place that distinguishes their types, for all questions that have an answer for any type.

use super::digest;
use super::encoding::EncodingLimits;
use super::entry::Entry;
use super::typed::{
    DataType, EachEffect, SAVED_BYTES_MAX, SAVED_PARTS_MAX, SmallRef, TypedValue, save_whole,
};
use crate::effect::{Effect, List};
use crate::types::{Field, Hash, HashRef, StringRef, StringValue};
use std::collections::BTreeMap;
use std::io;

/// A value as it is read.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    String(StringRef<'a>),
    Hash(HashRef<'a>),
    Object(&'a dyn TypedValue),
    /// A value of another type that lies with its key.
    Small(SmallRef<'a>),
}

impl ValueRef<'_> {
    /// The name that TYPE replies.
    pub fn type_name(&self) -> &'static str {
        match self {
            ValueRef::String(_) => "string",
            ValueRef::Hash(_) => "hash",
            ValueRef::Object(object) => object.data_type().name(),
            ValueRef::Small(small) => small.data_type().name(),
        }
    }

    /// The data type of a value that is no string or hash.
    pub fn data_type(&self) -> Option<&'static dyn DataType> {
        match self {
            ValueRef::String(_) | ValueRef::Hash(_) => None,
            ValueRef::Object(object) => Some(object.data_type()),
            ValueRef::Small(small) => Some(small.data_type()),
        }
    }

    /// How many parts it has: what it costs to copy or free it. A string is one.
    pub fn len(&self) -> usize {
        match self {
            ValueRef::String(_) => 1,
            ValueRef::Hash(hash) => hash.len(),
            ValueRef::Object(object) => object.len(),
            ValueRef::Small(small) => small.len(),
        }
    }

    /// Whether it is a value without parts, which is not kept. A string without bytes is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match self {
            ValueRef::String(_) => false,
            ValueRef::Hash(hash) => hash.is_empty(),
            ValueRef::Object(object) => object.is_empty(),
            ValueRef::Small(small) => small.is_empty(),
        }
    }

    /// Bytes of contents that are stored elsewhere, and are counted there (the vectors of an index).
    pub fn housed_bytes(&self) -> usize {
        match self {
            ValueRef::String(_) | ValueRef::Small(_) => 0,
            ValueRef::Hash(hash) => hash.housed_bytes(),
            ValueRef::Object(object) => object.housed_bytes(),
        }
    }

    /// False once every part of it has expired. Only fields of hashes expire.
    #[inline]
    pub(super) fn alive(&self, now_ms: u64) -> bool {
        match self {
            ValueRef::Hash(hash) => hash.alive(now_ms),
            ValueRef::String(_) | ValueRef::Object(_) | ValueRef::Small(_) => true,
        }
    }

    /// When a part of it expires next; may be early, never late.
    #[inline]
    pub(super) fn next_expiry_ms(&self) -> Option<u64> {
        match self {
            ValueRef::Hash(hash) => hash.next_expiry_ms(),
            ValueRef::String(_) | ValueRef::Object(_) | ValueRef::Small(_) => None,
        }
    }

    /// What OBJECT ENCODING replies: what Redis would choose by these limits for the present content.
    /// `is_integer` is of strings.
    fn encoding(&self, is_integer: bool, limits: &EncodingLimits) -> &'static str {
        const EMBEDDED_BYTES_MAX: usize = 44;
        match self {
            ValueRef::String(_) if is_integer => "int",
            ValueRef::String(string) if string.len() <= EMBEDDED_BYTES_MAX => "embstr",
            ValueRef::String(_) => "raw",
            ValueRef::Hash(hash) if is_listpack(*hash, limits) && hash.expiring() > 0 => "listpackex",
            ValueRef::Hash(hash) if is_listpack(*hash, limits) => "listpack",
            ValueRef::Hash(_) => "hashtable",
            ValueRef::Object(object) => object.encoding(limits),
            ValueRef::Small(small) => small.encoding(limits),
        }
    }

    /// A digest that is the same for equal values, however they are stored. It is part of the format of
    /// snapshots.
    pub(super) fn digest(&self) -> u64 {
        match self {
            ValueRef::String(string) => string.with_bytes(|bytes| digest::mix(1, bytes)),
            ValueRef::Hash(hash) => hash.iter().fold(2, |sum: u64, field| {
                let name = digest::mix(field.expires_at_ms, field.name);
                sum.wrapping_add(field.value.with_bytes(|bytes| digest::mix(name, bytes)))
            }),
            ValueRef::Object(object) => object.digest(),
            ValueRef::Small(small) => small.digest(),
        }
    }
}

impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &ValueRef<'_>) -> bool {
        match (self, other) {
            (ValueRef::String(one), ValueRef::String(other)) => one == other,
            (ValueRef::Hash(one), ValueRef::Hash(other)) => one == other,
            _ => match (self.data_type(), other.data_type()) {
                (Some(one), Some(two)) => one.name() == two.name() && self.digest() == other.digest(),
                _ => false,
            },
        }
    }
}

/// Within Redis's hash-max-listpack-entries and -value.
fn is_listpack(hash: HashRef<'_>, limits: &EncodingLimits) -> bool {
    let is_short = |length: usize| length as u64 <= limits.hash_value;
    hash.len() as u64 <= limits.hash_entries
        && hash.iter().all(|field| is_short(field.name.len()) && is_short(field.value.len()))
}

/// A value in memory of its own.
#[derive(Clone, Debug)]
pub enum OwnedValue {
    String(StringValue),
    Hash(Box<Hash>),
    Object(Box<dyn TypedValue>),
}

const _: () = assert!(size_of::<OwnedValue>() == 32, "a type takes no memory of the values of others");

impl OwnedValue {
    pub(crate) fn read(&self) -> ValueRef<'_> {
        match self {
            OwnedValue::String(string) => ValueRef::String(StringRef::Value(string)),
            OwnedValue::Hash(hash) => ValueRef::Hash(HashRef::Full(hash)),
            OwnedValue::Object(object) => ValueRef::Object(&**object),
        }
    }

    /// Bytes on the heap, beyond this.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            OwnedValue::String(string) => string.heap_bytes(),
            OwnedValue::Hash(hash) => size_of::<Hash>() + hash.heap_bytes(),
            OwnedValue::Object(object) => size_of_val(&**object) + object.heap_bytes(),
        }
    }
}

impl Entry {
    /// What OBJECT ENCODING replies.
    pub fn encoding(&self, limits: &EncodingLimits) -> &'static str {
        self.value().encoding(self.is_integer(), limits)
    }

    /// Calls `each` with the effects that build the entry where its key is absent: a run of bounded ones, but
    /// that a string, or a field, is in one.
    pub(crate) fn save(&self, each: &mut EachEffect<'_>) -> io::Result<()> {
        let (key, expires_at_ms) = (self.key(), self.expires_at_ms());
        match self.value() {
            ValueRef::String(string) => {
                return string.with_bytes(|value| each(&Effect::StringSet { key, expires_at_ms, value }));
            }
            ValueRef::Hash(hash) => save_hash(key, hash, each)?,
            ValueRef::Object(object) => save_whole(object, key, each)?,
            ValueRef::Small(small) => save_whole(&*small.unpack(), key, each)?,
        }
        if expires_at_ms != 0 { each(&Effect::Expire { key, expires_at_ms }) } else { Ok(()) }
    }
}

fn save_hash(key: &[u8], hash: HashRef<'_>, each: &mut EachEffect<'_>) -> io::Result<()> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for field in hash.iter() {
        bytes += field.name.len() + field.value.len();
        chunk.push(field);
        if chunk.len() == SAVED_PARTS_MAX || bytes >= SAVED_BYTES_MAX {
            save_fields(key, &chunk, each)?;
            chunk.clear();
            bytes = 0;
        }
    }
    if chunk.is_empty() { Ok(()) } else { save_fields(key, &chunk, each) }
}

/// One HashSet, and a HashExpire per distinct expiry.
fn save_fields(key: &[u8], fields: &[Field<'_>], each: &mut EachEffect<'_>) -> io::Result<()> {
    let values: Vec<_> = fields.iter().map(|field| field.value.to_bytes()).collect();
    let pairs = fields.iter().zip(&values).flat_map(|(field, value)| [field.name, value]);
    let pairs: Vec<&[u8]> = pairs.collect();
    each(&Effect::HashSet { key, keep_expiry: false, fields: List::Arguments(&pairs) })?;
    let mut expiries = BTreeMap::<u64, Vec<&[u8]>>::new();
    for field in fields.iter().filter(|field| field.expires_at_ms != 0) {
        expiries.entry(field.expires_at_ms).or_default().push(field.name);
    }
    for (expires_at_ms, names) in expiries {
        each(&Effect::HashExpire { key, expires_at_ms, fields: List::Arguments(&names) })?;
    }
    Ok(())
}
