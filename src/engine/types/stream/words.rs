//! The encoding of numbers and words inside a block.
//!
//! ```text
//! 0x00..=0x7f          the integer 0 to 127
//! 0x80..=0xbf          a word of 0 to 63 bytes, which follow
//! 0xc0..=0xdf + 1      an integer of 13 bits, signed
//! 0xe0..=0xef + 1      a word of up to 4,095 bytes: 12 bits of length
//! 0xf0 + 4             a longer word: its length, little-endian
//! 0xf1..=0xf4 + 2 3 4 8  an integer of 16, 24, 32 or 64 bits, little-endian, signed
//! ```
//!
//! A word that is an integer in its canonical decimal form is stored as the integer. No form is longer than
//! the element of a listpack that Redis has for it.

use crate::types::parse_integer;

/// A word of an entry: a name or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamWord<'a> {
    Bytes(&'a [u8]),
    Integer(i64),
}

impl StreamWord<'_> {
    /// Calls `with` on the word's bytes without allocating.
    #[inline]
    pub fn with_bytes<R>(self, with: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            StreamWord::Bytes(bytes) => with(bytes),
            StreamWord::Integer(integer) => with(itoa::Buffer::new().format(integer).as_bytes()),
        }
    }
}

/// Appends an unsigned number: seven bits a byte, the lowest ones first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes a number into as many bytes as it takes.
pub(super) fn set_number(out: &mut [u8], mut number: u64) {
    let (last, others) = out.split_last_mut().expect("a number takes a byte");
    for byte in others {
        *byte = number as u8 | 0x80;
        number >>= 7;
    }
    *last = number as u8;
}

pub(super) fn number_bytes(number: u64) -> usize {
    (64 - number.max(1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn put_word(out: &mut Vec<u8>, word: &[u8]) {
    const INTEGER_BYTES_MAX: usize = 20;
    if word.len() <= INTEGER_BYTES_MAX
        && let Some(integer) = parse_integer(word)
    {
        return put_integer(out, integer);
    }
    match word.len() {
        length @ 0..=63 => out.push(0x80 | length as u8),
        length @ 64..=4095 => out.extend_from_slice(&[0xe0 | (length >> 8) as u8, length as u8]),
        length => {
            out.push(0xf0);
            out.extend_from_slice(&(length as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(word);
}

fn put_integer(out: &mut Vec<u8>, integer: i64) {
    let bytes = integer.to_le_bytes();
    match integer {
        0..=127 => out.push(integer as u8),
        -4096..=4095 => out.extend_from_slice(&[0xc0 | (integer >> 8) as u8 & 0x1f, integer as u8]),
        -0x8000..=0x7fff => put_tagged(out, 0xf1, &bytes[..2]),
        -0x80_0000..=0x7f_ffff => put_tagged(out, 0xf2, &bytes[..3]),
        -0x8000_0000..=0x7fff_ffff => put_tagged(out, 0xf3, &bytes[..4]),
        _ => put_tagged(out, 0xf4, &bytes),
    }
}

fn put_tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

/// Reads what was appended. The bytes are those of a block, which only this module's functions have made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a>(pub(super) &'a [u8]);

impl<'a> Words<'a> {
    pub(super) fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }

    pub(super) fn word(&mut self) -> StreamWord<'a> {
        let tag = self.take(1)[0];
        match tag {
            0..=0x7f => StreamWord::Integer(i64::from(tag)),
            0x80..=0xbf => StreamWord::Bytes(self.take(usize::from(tag & 0x3f))),
            0xc0..=0xdf => {
                let low = self.take(1)[0];
                let bits = u16::from(tag & 0x1f) << 8 | u16::from(low);
                StreamWord::Integer(i64::from((bits << 3) as i16 >> 3))
            }
            0xe0..=0xef => {
                let low = self.take(1)[0];
                StreamWord::Bytes(self.take(usize::from(tag & 0x0f) << 8 | usize::from(low)))
            }
            0xf0 => {
                let length = self.integer(4) as u32;
                StreamWord::Bytes(self.take(length as usize))
            }
            0xf1..=0xf3 => StreamWord::Integer(self.integer(usize::from(tag - 0xef))),
            _ => StreamWord::Integer(self.integer(8)),
        }
    }

    fn integer(&mut self, count: usize) -> i64 {
        let mut bytes = [0; 8];
        bytes[8 - count..].copy_from_slice(self.take(count));
        i64::from_le_bytes(bytes) >> (64 - 8 * count)
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}

/// The bytes that Redis's listpack takes for this word, its length from behind included.
pub(super) fn listpack_bytes(word: &[u8]) -> usize {
    let own = match parse_integer(word) {
        Some(integer) => integer_bytes(integer),
        None => match word.len() {
            length @ 0..=63 => 1 + length,
            length @ 64..=4095 => 2 + length,
            length => 5 + length,
        },
    };
    own + back_length_bytes(own)
}

/// The same for an integer.
pub(super) fn listpack_integer_bytes(integer: i64) -> usize {
    integer_bytes(integer) + 1
}

fn integer_bytes(integer: i64) -> usize {
    match integer {
        0..=127 => 1,
        -4096..=4095 => 2,
        -0x8000..=0x7fff => 3,
        -0x80_0000..=0x7f_ffff => 4,
        -0x8000_0000..=0x7fff_ffff => 5,
        _ => 9,
    }
}

fn back_length_bytes(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_read_back_and_are_no_longer_than_in_a_listpack() {
        let mut words: Vec<Vec<u8>> = vec![b"".into(), b"a".into(), b"007".into(), b"-0".into()];
        words.extend([63, 64, 4095, 4096, 70_000].map(|length| vec![b'x'; length]));
        for edge in
            [0i64, 127, 128, 4095, 4096, 0x7fff, 0x8000, 0x7f_ffff, 0x80_0000, 0x7fff_ffff, 0x8000_0000]
        {
            words.extend([edge, -edge, edge + 1, -edge - 1].map(|integer| integer.to_string().into_bytes()));
        }
        words.extend([i64::MIN, i64::MAX].map(|integer| integer.to_string().into_bytes()));
        for word in &words {
            let mut bytes = Vec::new();
            put_word(&mut bytes, word);
            assert!(bytes.len() < listpack_bytes(word), "{}", word.escape_ascii());
            let mut reader = Words(&bytes);
            reader.word().with_bytes(|read| assert_eq!(read, word));
            assert!(reader.0.is_empty());
        }
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(bytes.len(), number_bytes(number), "{number}");
            assert_eq!(Words(&bytes).number(), number);
            let mut set = vec![0; bytes.len()];
            set_number(&mut set, number);
            assert_eq!(set, bytes);
        }
    }
}
