//! A hash for reading, packed or not.

use super::packed_hash::PackedHash;
use super::{Field, Hash};

/// Reads a hash. This uses no clock: readers check whether a field has expired (`Field::alive`).
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    Packed(PackedHash<'a>),
    Full(&'a Hash),
}

impl<'a> HashRef<'a> {
    /// How many fields are stored, expired ones included.
    pub fn len(self) -> usize {
        match self {
            HashRef::Packed(hash) => hash.len(),
            HashRef::Full(hash) => hash.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// How many fields carry an expiry.
    pub fn expiring(self) -> usize {
        match self {
            HashRef::Packed(hash) => hash.expiring(),
            HashRef::Full(hash) => hash.expiring(),
        }
    }

    /// The stored field, expired or not.
    #[inline]
    pub fn get(self, name: &[u8]) -> Option<Field<'a>> {
        match self {
            HashRef::Packed(hash) => hash.get(name),
            HashRef::Full(hash) => hash.get(name),
        }
    }

    /// Reads the memory that lookups of these fields will read, so that their cache misses overlap.
    pub fn prefetch<'n>(self, names: impl Iterator<Item = &'n [u8]>) {
        if let HashRef::Full(hash) = self {
            hash.prefetch(names);
        }
    }

    pub fn iter(self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let (packed, full) = match self {
            HashRef::Packed(hash) => (Some(hash.iter()), None),
            HashRef::Full(hash) => (None, Some(hash.iter())),
        };
        packed.into_iter().flatten().chain(full.into_iter().flatten())
    }

    /// A field, expired or not, chosen by two random numbers.
    pub fn sample(self, random: u64, second: u64) -> Option<Field<'a>> {
        match self {
            HashRef::Packed(hash) => hash.iter().nth((random % hash.len().max(1) as u64) as usize),
            HashRef::Full(hash) => hash.sample(random, second),
        }
    }

    /// False once every field has expired.
    #[inline]
    pub fn alive(self, now_ms: u64) -> bool {
        match self {
            HashRef::Packed(hash) => {
                hash.expiring() < hash.len() || hash.iter().any(|field| field.alive(now_ms))
            }
            HashRef::Full(hash) => hash.alive(now_ms),
        }
    }

    /// A time that is not later than the earliest expiry of a field, if any has one.
    pub fn next_expiry_ms(self) -> Option<u64> {
        match self {
            HashRef::Packed(hash) => hash.next_expiry_ms(),
            HashRef::Full(hash) => hash.next_expiry_ms(),
        }
    }

    /// One step of HSCAN: calls `each` for about `count` fields from `cursor` on; returns the next cursor, 0
    /// at the end.
    pub fn scan(self, cursor: u64, count: usize, each: &mut dyn FnMut(Field<'a>)) -> u64 {
        match self {
            HashRef::Packed(hash) => {
                hash.iter().for_each(each);
                0
            }
            HashRef::Full(hash) => hash.scan(cursor, count, each),
        }
    }

    /// Bytes of values that are stored elsewhere.
    pub fn housed_bytes(self) -> usize {
        match self {
            HashRef::Packed(_) => 0,
            HashRef::Full(hash) => hash.housed_bytes(),
        }
    }
}

impl<'a> From<&'a Hash> for HashRef<'a> {
    fn from(hash: &'a Hash) -> HashRef<'a> {
        HashRef::Full(hash)
    }
}

impl PartialEq for HashRef<'_> {
    /// Equal fields, values and expiries, in any order and representation.
    fn eq(&self, other: &HashRef<'_>) -> bool {
        self.len() == other.len() && self.iter().all(|field| other.get(field.name) == Some(field))
    }
}

impl std::fmt::Debug for HashRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
