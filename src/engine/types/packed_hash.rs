//! A small hash as one run of bytes, which needs no other allocation than the one that contains it.
//!
//! ```text
//! count    u8   fields
//! expiring u8   how many of them have an expiry
//! each field, in the order in which it was set first:
//!   name length  u8   up to 64
//!   value length u8   up to 64; the top bit means that an expiry follows
//!   expiry       u64  little-endian milliseconds since the epoch, if the bit is set
//!   name, value
//! ```
//!
//! The bounds are those of Redis (hash-max-listpack-entries 128, hash-max-listpack-value 64); a larger hash
//! is a [`Hash`](super::Hash). Fields are searched in order. The layout is never written to a file, so it has
//! no version.

use super::hash::Field;
use super::string::StringRef;
use std::ops::Range;

/// The most fields.
pub const FIELDS_MAX: usize = 128;
/// The longest name and the longest value, in bytes.
pub const BYTES_MAX: usize = 64;

const HEADER_BYTES: usize = 2;
const HAS_EXPIRY: u8 = 0x80;

/// Bytes of a hash without fields.
pub const EMPTY: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// True if a field of a packed hash can have this name and value.
pub fn fits(name: &[u8], value: &[u8]) -> bool {
    name.len() <= BYTES_MAX && value.len() <= BYTES_MAX
}

/// The bytes of a field without an expiry.
pub fn field_bytes(name: &[u8], value: &[u8]) -> usize {
    2 + name.len() + value.len()
}

/// The ranges of a field's parts.
struct Place {
    /// The whole field.
    whole: Range<usize>,
    expires_at_ms: u64,
    value: usize,
}

/// Reads a packed hash.
#[derive(Clone, Copy)]
pub struct PackedHash<'a>(&'a [u8]);

impl<'a> PackedHash<'a> {
    /// `bytes` were made by this module; other bytes may follow.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> PackedHash<'a> {
        PackedHash(bytes)
    }

    pub fn len(self) -> usize {
        self.0[0].into()
    }

    pub fn expiring(self) -> usize {
        self.0[1].into()
    }

    #[inline]
    fn length_at(self, offset: usize) -> usize {
        let (name, value) = (self.0[offset], self.0[offset + 1]);
        let expiry = if value & HAS_EXPIRY == 0 { 0 } else { size_of::<u64>() };
        2 + expiry + usize::from(name) + usize::from(value & !HAS_EXPIRY)
    }

    #[inline]
    fn field_at(self, offset: usize) -> Field<'a> {
        let (name, value) = (usize::from(self.0[offset]), self.0[offset + 1]);
        let rest = &self.0[offset + 2..];
        let (expires_at_ms, rest) = match rest.split_first_chunk() {
            Some((expiry, rest)) if value & HAS_EXPIRY != 0 => (u64::from_le_bytes(*expiry), rest),
            _ => (0, rest),
        };
        let (name, rest) = rest.split_at(name);
        let value = StringRef::Bytes(&rest[..usize::from(value & !HAS_EXPIRY)]);
        Field { name, value, expires_at_ms }
    }

    /// Finds a field; compares lengths first, which exclude most names.
    #[inline]
    fn place(self, name: &[u8]) -> Option<Place> {
        let mut offset = HEADER_BYTES;
        for _ in 0..self.len() {
            let length = self.length_at(offset);
            if usize::from(self.0[offset]) == name.len() {
                let has_expiry = self.0[offset + 1] & HAS_EXPIRY != 0;
                let at = offset + 2 + if has_expiry { size_of::<u64>() } else { 0 };
                if self.0[at..at + name.len()] == *name {
                    let expires_at_ms = self.field_at(offset).expires_at_ms;
                    return Some(Place {
                        whole: offset..offset + length,
                        expires_at_ms,
                        value: at + name.len(),
                    });
                }
            }
            offset += length;
        }
        None
    }

    #[inline]
    pub fn get(self, name: &[u8]) -> Option<Field<'a>> {
        self.place(name).map(|place| self.field_at(place.whole.start))
    }

    /// The fields in order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> {
        let mut offset = HEADER_BYTES;
        (0..self.len()).map(move |_| {
            let field = self.field_at(offset);
            offset += self.length_at(offset);
            field
        })
    }

    /// The earliest expiry of a field.
    pub fn next_expiry_ms(self) -> Option<u64> {
        match self.expiring() {
            0 => None,
            _ => self.iter().map(|field| field.expires_at_ms).filter(|&at| at != 0).min(),
        }
    }
}

/// Overwrites the value of a field. `None`, without a change, if the field is absent, its value has another
/// length, or its expiry must be removed.
#[inline]
pub fn overwrite(bytes: &mut [u8], name: &[u8], value: &[u8], keep_expiry: bool) -> Option<()> {
    let place = PackedHash(bytes).place(name)?;
    if place.whole.end - place.value != value.len() || (place.expires_at_ms != 0 && !keep_expiry) {
        return None;
    }
    bytes[place.value..place.whole.end].copy_from_slice(value);
    Some(())
}

/// Changes a packed hash that is the whole content of a buffer.
pub struct PackedHashMut<'v>(&'v mut Vec<u8>);

impl<'v> PackedHashMut<'v> {
    pub fn new(buffer: &'v mut Vec<u8>) -> PackedHashMut<'v> {
        PackedHashMut(buffer)
    }

    /// Makes room for fields of `bytes` bytes in all.
    pub fn reserve(&mut self, bytes: usize) {
        const BYTES_OF_FIELD_MAX: usize = 2 + 2 * BYTES_MAX;
        self.0.reserve_exact(bytes.min(FIELDS_MAX * BYTES_OF_FIELD_MAX));
    }

    fn place(&self, name: &[u8]) -> Option<Place> {
        PackedHash(self.0).place(name)
    }

    /// Writes a field in place of another one or, with an empty range, as a new one.
    fn put(&mut self, whole: Range<usize>, name: &[u8], value: &[u8], expires_at_ms: u64) {
        let mut field = [0; 2 + size_of::<u64>() + 2 * BYTES_MAX];
        field[0] = name.len() as u8;
        field[1] = value.len() as u8;
        let mut length = 2;
        let mut add = |part: &[u8]| {
            field[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        };
        if expires_at_ms != 0 {
            add(&expires_at_ms.to_le_bytes());
        }
        add(name);
        add(value);
        if expires_at_ms != 0 {
            field[1] |= HAS_EXPIRY;
        }
        self.0.splice(whole, field[..length].iter().copied());
    }

    fn count(&mut self, fields: i8, expiring: i8) {
        self.0[0] = self.0[0].wrapping_add_signed(fields);
        self.0[1] = self.0[1].wrapping_add_signed(expiring);
    }

    /// Sets a value; true if the field is new. `None`, without a change, if it does not fit.
    pub fn set(&mut self, name: &[u8], value: &[u8], keep_expiry: bool) -> Option<bool> {
        if !fits(name, value) {
            return None;
        }
        match self.place(name) {
            Some(place) => {
                let expires_at_ms = if keep_expiry { place.expires_at_ms } else { 0 };
                if place.whole.end - place.value == value.len() && place.expires_at_ms == expires_at_ms {
                    self.0[place.value..place.whole.end].copy_from_slice(value);
                    return Some(false);
                }
                self.put(place.whole, name, value, expires_at_ms);
                self.count(0, -i8::from(place.expires_at_ms != 0 && !keep_expiry));
                Some(false)
            }
            None if PackedHash(self.0).len() == FIELDS_MAX => None,
            None => {
                let end = self.0.len();
                self.put(end..end, name, value, 0);
                self.count(1, 0);
                Some(true)
            }
        }
    }

    /// Removes a field; true if it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let Some(place) = self.place(name) else { return false };
        self.0.drain(place.whole);
        self.count(-1, -i8::from(place.expires_at_ms != 0));
        true
    }

    /// Sets a field's expiry (0 removes it); true if the field is there.
    pub fn set_expiry(&mut self, name: &[u8], expires_at_ms: u64) -> bool {
        let Some(place) = self.place(name) else { return false };
        let value = self.0[place.value..place.whole.end].to_vec();
        self.put(place.whole, name, &value, expires_at_ms);
        self.count(0, i8::from(expires_at_ms != 0) - i8::from(place.expires_at_ms != 0));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Hash;

    /// Names and values from a random number; they often repeat.
    fn word(random: u64, lengths: usize) -> Vec<u8> {
        vec![b'a' + (random % 7) as u8; (random / 7) as usize % lengths]
    }

    #[test]
    fn behaves_as_a_hash_whatever_is_done_to_it() {
        for seed in 0..50u64 {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state >> 33
            };
            let mut buffer = EMPTY.to_vec();
            let mut model = Hash::new();
            for _ in 0..2_000 {
                let mut packed = PackedHashMut::new(&mut buffer);
                let lengths = if seed % 2 == 0 { 4 } else { BYTES_MAX + 2 };
                let (name, value) = (word(random(), lengths), word(random(), lengths));
                match random() % 8 {
                    0 => assert_eq!(packed.remove(&name), model.remove(&name)),
                    1 => {
                        let at = (random() % 3) * 1_000;
                        assert_eq!(packed.set_expiry(&name, at), model.set_expiry(&name, at));
                    }
                    _ => {
                        let keep_expiry = random() % 2 == 0;
                        let is_beyond =
                            !fits(&name, &value) || model.len() == FIELDS_MAX && model.get(&name).is_none();
                        match packed.set(&name, &value, keep_expiry) {
                            Some(is_new) => assert_eq!(is_new, model.set(&name, &value, keep_expiry)),
                            None => assert!(is_beyond),
                        }
                    }
                }
                let packed = PackedHash::new(&buffer);
                assert_eq!((packed.len(), packed.expiring()), (model.len(), model.expiring()));
                let earliest = model.iter().map(|field| field.expires_at_ms).filter(|&at| at != 0).min();
                assert_eq!(packed.next_expiry_ms(), earliest);
                for field in packed.iter() {
                    let (twin, found) = (model.get(field.name), packed.get(field.name));
                    assert!(twin == Some(field) && found == Some(field), "{field:?} {twin:?} {found:?}");
                }
            }
        }
    }
}
