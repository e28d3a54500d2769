//! A key and its small value in one allocation.
//!
//! ```text
//! kind    u8    the kind of the value, and whether an expiry follows
//! key     u8    length
//! value   u16   length, little-endian
//! expiry  u64   little-endian milliseconds since the epoch, if the kind has one
//! key, value
//! zeros         up to the end of the allocation
//! ```
//!
//! A string's value is its text; a hash's is described in `types/packed_hash.rs`; those of other types are
//! bytes to this module ([`super::typed::PackedValues`]). Entries that do not fit (a
//! key over 255 bytes, a string over [`STRING_BYTES_MAX`], a hash beyond its bounds) have the other form. The
//! layout exists in memory only, so it has no version.

use crate::thin::Thin;
use crate::types::packed_hash::{self, PackedHash, PackedHashMut};
use crate::types::{HashRef, StringRef};
use std::ops::Range;

/// The longest string that is packed with its key. For longer ones, appending in place saves more than an
/// allocation costs.
pub(super) const STRING_BYTES_MAX: usize = 256;

pub(super) const KEY_BYTES_MAX: usize = u8::MAX as usize;
/// The longest encoding of a value.
const VALUE_BYTES_MAX: usize = u16::MAX as usize;
const HEADER_BYTES: usize = 4;
const EXPIRY_BYTES: usize = size_of::<u64>();
const HAS_EXPIRY: u8 = 0x80;

/// The kind of a packed entry's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    /// A string that was set to an integer's text; OBJECT ENCODING calls it `int`.
    Integer,
    Hash,
    /// A small value of this type: its number among the types that pack theirs (`typed::small_values`).
    Small(u8),
}

/// The byte of the first type that packs its values.
const SMALL: u8 = 3;

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::String => 0,
            Kind::Integer => 1,
            Kind::Hash => 2,
            Kind::Small(number) => SMALL + number,
        }
    }
}

/// Packs a value that is already encoded; `None` if it does not fit.
pub(super) fn pack<T>(kind: Kind, key: &[u8], value: &[u8], expires_at_ms: u64) -> Option<Thin<T>> {
    if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        return None;
    }
    let mut header = [0; HEADER_BYTES + EXPIRY_BYTES];
    let (fixed, expiry) = header.split_at_mut(HEADER_BYTES);
    fixed[0] = kind.byte();
    fixed[1] = key.len() as u8;
    fixed[2..].copy_from_slice(&(value.len() as u16).to_le_bytes());
    let header = match expires_at_ms {
        0 => &header[..HEADER_BYTES],
        _ => {
            fixed[0] |= HAS_EXPIRY;
            expiry.copy_from_slice(&expires_at_ms.to_le_bytes());
            &header
        }
    };
    Some(Thin::bytes(&[header, key, value]))
}

/// Reads a packed entry.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a>(pub(super) &'a [u8]);

impl<'a> Packed<'a> {
    pub(super) fn kind(self) -> Kind {
        match self.0[0] & !HAS_EXPIRY {
            0 => Kind::String,
            1 => Kind::Integer,
            2 => Kind::Hash,
            byte => Kind::Small(byte - SMALL),
        }
    }

    #[inline]
    fn has_expiry(self) -> bool {
        self.0[0] & HAS_EXPIRY != 0
    }

    #[inline]
    fn key_start(self) -> usize {
        HEADER_BYTES + if self.has_expiry() { EXPIRY_BYTES } else { 0 }
    }

    #[inline]
    pub(super) fn key(self) -> &'a [u8] {
        let start = self.key_start();
        &self.0[start..start + usize::from(self.0[1])]
    }

    #[inline]
    fn value_range(self) -> Range<usize> {
        let start = self.key_start() + usize::from(self.0[1]);
        start..start + usize::from(u16::from_le_bytes([self.0[2], self.0[3]]))
    }

    #[inline]
    pub(super) fn value(self) -> &'a [u8] {
        &self.0[self.value_range()]
    }

    pub(super) fn string(self) -> StringRef<'a> {
        StringRef::Bytes(self.value())
    }

    pub(super) fn hash(self) -> HashRef<'a> {
        HashRef::Packed(PackedHash::new(self.value()))
    }

    /// Milliseconds since the epoch; 0 for never.
    #[inline]
    pub(super) fn expires_at_ms(self) -> u64 {
        match self.0[HEADER_BYTES..].first_chunk() {
            Some(expiry) if self.has_expiry() => u64::from_le_bytes(*expiry),
            _ => 0,
        }
    }

    /// The same value with another key or expiry; `None` if the key does not fit.
    pub(super) fn with<T>(self, key: &[u8], expires_at_ms: u64) -> Option<Thin<T>> {
        pack(self.kind(), key, self.value(), expires_at_ms)
    }

    /// Makes a new entry with changed fields of the hash.
    pub(super) fn change<T, R>(self, change: impl FnOnce(PackedHashMut<'_>) -> R) -> (Thin<T>, R) {
        // Room for one or two new fields, so that they do not cause another allocation.
        let mut bytes = Vec::with_capacity(self.value().len() + 128);
        bytes.extend_from_slice(self.value());
        let result = change(PackedHashMut::new(&mut bytes));
        let packed = pack(Kind::Hash, self.key(), &bytes, self.expires_at_ms());
        (packed.expect("a packed hash is within its bounds, and the key was"), result)
    }
}

/// Changes a packed entry in its allocation.
pub(super) struct PackedMut<'a>(pub(super) &'a mut [u8]);

impl PackedMut<'_> {
    fn read(&self) -> Packed<'_> {
        Packed(self.0)
    }

    /// Sets the expiry. False, without a change, if that needs another layout: an expiry is added or removed.
    pub(super) fn set_expires_at_ms(&mut self, expires_at_ms: u64) -> bool {
        if self.read().has_expiry() != (expires_at_ms != 0) {
            return false;
        }
        if expires_at_ms != 0 {
            self.0[HEADER_BYTES..HEADER_BYTES + EXPIRY_BYTES].copy_from_slice(&expires_at_ms.to_le_bytes());
        }
        true
    }

    /// Overwrites the value by this string, if the new entry has the same size of allocation. False, without
    /// a change, if not.
    pub(super) fn overwrite<T>(&mut self, kind: Kind, content: &[u8], expires_at_ms: u64) -> bool {
        let start = self.read().value_range().start;
        let fits = content.len() <= STRING_BYTES_MAX
            && Thin::<T>::rounded(start + content.len()) == self.0.len()
            && self.set_expires_at_ms(expires_at_ms);
        if !fits {
            return false;
        }
        self.0[0] = kind.byte() | self.0[0] & HAS_EXPIRY;
        self.0[2..HEADER_BYTES].copy_from_slice(&(content.len() as u16).to_le_bytes());
        self.0[start..start + content.len()].copy_from_slice(content);
        true
    }

    /// Replaces the value by another of the same kind; returns the new entry where that needs another
    /// allocation. `None`, without a change, if the value is too long for a packed entry.
    pub(super) fn replace_value<T>(&mut self, value: &[u8]) -> Option<Option<Thin<T>>> {
        let start = self.read().value_range().start;
        if Thin::<T>::rounded(start + value.len()) != self.0.len() || value.len() > VALUE_BYTES_MAX {
            let packed = self.read();
            return pack(packed.kind(), packed.key(), value, packed.expires_at_ms()).map(Some);
        }
        self.0[2..HEADER_BYTES].copy_from_slice(&(value.len() as u16).to_le_bytes());
        self.0[start..start + value.len()].copy_from_slice(value);
        Some(None)
    }

    /// Overwrites the values of existing fields while they have the same lengths. Returns the fields from the
    /// first one on that does not.
    pub(super) fn overwrite_fields<'f, I>(&mut self, mut fields: I, keep_expiry: bool) -> I
    where
        I: Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
    {
        let value = self.read().value_range();
        loop {
            let rest = fields.clone();
            let Some((name, content)) = fields.next() else { return fields };
            if packed_hash::overwrite(&mut self.0[value.clone()], name, content, keep_expiry).is_none() {
                return rest;
            }
        }
    }
}

/// Sets fields while they fit. Returns how many of them are new, and the fields from the first one on that
/// does not fit.
pub(super) fn set_fields<'f, I>(mut hash: PackedHashMut<'_>, mut fields: I, keep_expiry: bool) -> (usize, I)
where
    I: Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
{
    let some = fields.clone().take(packed_hash::FIELDS_MAX);
    hash.reserve(some.map(|(name, value)| packed_hash::field_bytes(name, value)).sum());
    let mut count = 0;
    loop {
        let rest = fields.clone();
        let Some((name, value)) = fields.next() else { return (count, fields) };
        match hash.set(name, value, keep_expiry) {
            Some(is_new) => count += usize::from(is_new),
            None => return (count, rest),
        }
    }
}
