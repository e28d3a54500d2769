//! A byte string that stores short contents inline, so that a short key needs no separate allocation.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest content that fits inside the 24 bytes of the value itself.
const INLINE_BYTES_MAX: usize = 22;

/// An immutable byte string of any length; up to 22 bytes are stored inline. Comparisons and hashes are those
/// of its bytes.
#[derive(Clone)]
pub struct ShortBytes(Repr);

#[derive(Clone)]
enum Repr {
    Inline { length: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Heap(Box<[u8]>),
}

impl ShortBytes {
    pub fn new(content: &[u8]) -> ShortBytes {
        if content.len() > INLINE_BYTES_MAX {
            return ShortBytes(Repr::Heap(content.into()));
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..content.len()].copy_from_slice(content);
        ShortBytes(Repr::Inline { length: content.len() as u8, bytes })
    }

    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { length, bytes } => &bytes[..*length as usize],
            Repr::Heap(bytes) => bytes,
        }
    }

    /// Bytes on the heap, without the value itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline { .. } => 0,
            Repr::Heap(bytes) => bytes.len(),
        }
    }
}

impl PartialEq for ShortBytes {
    fn eq(&self, other: &ShortBytes) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ShortBytes {}

impl Hash for ShortBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl Borrow<[u8]> for ShortBytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for ShortBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_around_the_inline_bound_round_trips() {
        for length in 0..64 {
            let content: Vec<u8> = (0..length).collect();
            let bytes = ShortBytes::new(&content);
            assert_eq!(bytes.as_slice(), content);
            assert_eq!(bytes.heap_bytes(), if length <= 22 { 0 } else { length as usize });
        }
        assert_eq!(size_of::<ShortBytes>(), 24);
    }
}
