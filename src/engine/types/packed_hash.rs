//! A small hash as one run of bytes, which needs no other allocation than the one that contains it.
//!
//! ```text
//! count    u8   fields
//! expiring u8   how many of them have an expiry
//! each field, in the order in which it was set first:
//!   name length  u8   up to 64; the top bit means that the value has 128 bytes or more
//!   value length u8   its low seven bits; the top bit means that an expiry follows
//!   more length  u8   the higher bits of the value's length, if the name's top bit is set
//!   expiry       u64  little-endian milliseconds since the epoch, if the value's top bit is set
//!   name, value
//! ```
//!
//! Fields and names are bounded as in Redis (hash-max-listpack-entries 128, hash-max-listpack-value 64).
//! Values may be longer than there, because a short text beside a few numbers is a usual document; the whole
//! is bounded, because most changes copy it. A larger hash is a [`Hash`](super::Hash). Fields are searched in
//! order. The layout is never written to a file, so it has no version.

use super::hash::Field;
use super::string::StringRef;
use std::ops::Range;

/// The most fields.
pub const FIELDS_MAX: usize = 128;
/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest value, in bytes: that of a string that is stored with its key.
pub const VALUE_BYTES_MAX: usize = 256;
/// The most bytes to which setting a value makes a packed hash grow.
const WHOLE_BYTES_MAX: usize = 16 << 10;

const HEADER_BYTES: usize = 2;
/// The top bit of a name's length.
const IS_LONG: u8 = 0x80;
/// The top bit of a value's length.
const HAS_EXPIRY: u8 = 0x80;
/// The bits of a value's length in its first byte.
const LOW_BITS: u32 = 7;

/// Bytes of a hash without fields.
pub const EMPTY: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// True if a field of a packed hash can have this name and value.
pub fn fits(name: &[u8], value: &[u8]) -> bool {
    name.len() <= NAME_BYTES_MAX && value.len() <= VALUE_BYTES_MAX
}

/// The bytes of a field without an expiry.
pub fn field_bytes(name: &[u8], value: &[u8]) -> usize {
    2 + usize::from(value.len() >> LOW_BITS != 0) + name.len() + value.len()
}

/// What a field has in front of its name.
struct FieldHead {
    name: usize,
    value: usize,
    has_expiry: bool,
    /// Where the expiry is, if there is one, from the field's start on.
    expiry: usize,
}

impl FieldHead {
    #[inline]
    fn at(bytes: &[u8], offset: usize) -> FieldHead {
        let (name, value) = (bytes[offset], bytes[offset + 1]);
        let is_long = name & IS_LONG != 0;
        let high = if is_long { usize::from(bytes[offset + 2]) } else { 0 };
        FieldHead {
            name: usize::from(name & !IS_LONG),
            value: usize::from(value & !HAS_EXPIRY) | high << LOW_BITS,
            has_expiry: value & HAS_EXPIRY != 0,
            expiry: 2 + usize::from(is_long),
        }
    }

    /// Where the name is, from the field's start on.
    #[inline]
    fn name_at(&self) -> usize {
        self.expiry + if self.has_expiry { size_of::<u64>() } else { 0 }
    }

    /// The bytes of the whole field.
    #[inline]
    fn length(&self) -> usize {
        self.name_at() + self.name + self.value
    }
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
    fn field_at(self, offset: usize, head: &FieldHead) -> Field<'a> {
        let expiry = self.0[offset + head.expiry..].first_chunk();
        let expires_at_ms = match expiry {
            Some(expiry) if head.has_expiry => u64::from_le_bytes(*expiry),
            _ => 0,
        };
        let (name, rest) = self.0[offset + head.name_at()..].split_at(head.name);
        Field { name, value: StringRef::Bytes(&rest[..head.value]), expires_at_ms }
    }

    /// Finds a field; compares lengths first, which exclude most names.
    #[inline]
    fn find(self, name: &[u8]) -> Option<(usize, FieldHead)> {
        let mut offset = HEADER_BYTES;
        for _ in 0..self.len() {
            let head = FieldHead::at(self.0, offset);
            if head.name == name.len() {
                let at = offset + head.name_at();
                if self.0[at..at + name.len()] == *name {
                    return Some((offset, head));
                }
            }
            offset += head.length();
        }
        None
    }

    #[inline]
    fn place(self, name: &[u8]) -> Option<Place> {
        let (offset, head) = self.find(name)?;
        Some(Place {
            whole: offset..offset + head.length(),
            expires_at_ms: self.field_at(offset, &head).expires_at_ms,
            value: offset + head.name_at() + head.name,
        })
    }

    #[inline]
    pub fn get(self, name: &[u8]) -> Option<Field<'a>> {
        self.find(name).map(|(offset, head)| self.field_at(offset, &head))
    }

    /// The fields in order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> {
        let mut offset = HEADER_BYTES;
        (0..self.len()).map(move |_| {
            let head = FieldHead::at(self.0, offset);
            let field = self.field_at(offset, &head);
            offset += head.length();
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
        self.0.reserve_exact(bytes.min(WHOLE_BYTES_MAX));
    }

    fn place(&self, name: &[u8]) -> Option<Place> {
        PackedHash(self.0).place(name)
    }

    /// Writes a field in place of another one or, with an empty range, as a new one.
    fn put(&mut self, whole: Range<usize>, name: &[u8], value: &[u8], expires_at_ms: u64) {
        let mut head = [0; 3 + size_of::<u64>()];
        head[0] = name.len() as u8;
        head[1] = value.len() as u8 & !HAS_EXPIRY;
        let mut length = 2;
        let high = value.len() >> LOW_BITS;
        if high != 0 {
            head[0] |= IS_LONG;
            head[length] = high as u8;
            length += 1;
        }
        if expires_at_ms != 0 {
            head[1] |= HAS_EXPIRY;
            head[length..length + size_of::<u64>()].copy_from_slice(&expires_at_ms.to_le_bytes());
            length += size_of::<u64>();
        }
        let parts = [&head[..length], name, value];
        if whole.start == self.0.len() {
            parts.iter().for_each(|part| self.0.extend_from_slice(part));
            return;
        }
        let end = whole.start + parts.iter().map(|part| part.len()).sum::<usize>();
        let before = self.0.len();
        self.0.resize(before.max(before - whole.len() + end - whole.start), 0);
        self.0.copy_within(whole.end..before, end);
        self.0.truncate(before - whole.len() + end - whole.start);
        let mut at = whole.start;
        for part in parts {
            self.0[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    }

    fn count(&mut self, fields: i8, expiring: i8) {
        self.0[0] = self.0[0].wrapping_add_signed(fields);
        self.0[1] = self.0[1].wrapping_add_signed(expiring);
    }

    /// Sets a value; true if the field is new. `None`, without a change, if it does not fit.
    pub fn set(&mut self, name: &[u8], value: &[u8], keep_expiry: bool) -> Option<bool> {
        let place = self.place(name);
        let room = WHOLE_BYTES_MAX + place.as_ref().map_or(0, |place| place.whole.len());
        if !fits(name, value) || self.0.len() + field_bytes(name, value) > room {
            return None;
        }
        match place {
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
        let mut longest = 0;
        for seed in 0..24u64 {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state >> 33
            };
            let mut buffer = EMPTY.to_vec();
            let mut model = Hash::new();
            for _ in 0..2_000 {
                let mut packed = PackedHashMut::new(&mut buffer);
                let (names, values) = match seed % 3 {
                    0 => (4, 4),
                    1 => (NAME_BYTES_MAX + 2, 130),
                    _ => (NAME_BYTES_MAX + 2, VALUE_BYTES_MAX + 2),
                };
                let (name, value) = (word(random(), names), word(random(), values));
                match random() % 8 {
                    0 => assert_eq!(packed.remove(&name), model.remove(&name)),
                    1 => {
                        let at = (random() % 3) * 1_000;
                        assert_eq!(packed.set_expiry(&name, at), model.set_expiry(&name, at));
                    }
                    _ => {
                        let keep_expiry = random() % 2 == 0;
                        let held =
                            PackedHash::new(packed.0).place(&name).map_or(0, |place| place.whole.len());
                        let is_beyond = !fits(&name, &value)
                            || model.len() == FIELDS_MAX && held == 0
                            || packed.0.len() + field_bytes(&name, &value) - held > WHOLE_BYTES_MAX;
                        match packed.set(&name, &value, keep_expiry) {
                            Some(is_new) => assert_eq!(is_new, model.set(&name, &value, keep_expiry)),
                            None => assert!(is_beyond),
                        }
                    }
                }
                longest = buffer.len().max(longest);
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
        let most = WHOLE_BYTES_MAX + FIELDS_MAX * size_of::<u64>();
        assert!((WHOLE_BYTES_MAX - 100..=most).contains(&longest), "the bound is reached: {longest}");
    }
}
