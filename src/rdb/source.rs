//! Where the bytes come from, and the two primitives that everything is made of: lengths and strings.

use super::error::{RdbError, Read, damaged};
use super::lzf;

/// Bytes to be read in order.
pub trait ByteSource {
    /// Appends the next `length` bytes to `out`, which grows as they arrive: a length is only a claim.
    fn append(&mut self, length: u64, out: &mut Vec<u8>) -> Result<(), RdbError>;

    /// The next bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError>;
}

impl ByteSource for &[u8] {
    fn append(&mut self, length: u64, out: &mut Vec<u8>) -> Read<()> {
        let length = usize::try_from(length).map_err(|_| RdbError::Truncated)?;
        let (taken, rest) = self.split_at_checked(length).ok_or(RdbError::Truncated)?;
        out.extend_from_slice(taken);
        *self = rest;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.split_first_chunk::<N>().ok_or(RdbError::Truncated)?;
        *self = rest;
        Ok(*taken)
    }
}

/// A length, or a marker of a string's special encoding.
pub(crate) enum Length {
    Bytes(u64),
    Special(u8),
}

pub(crate) const INT8: u8 = 0;
pub(crate) const INT16: u8 = 1;
pub(crate) const INT32: u8 = 2;
pub(crate) const LZF: u8 = 3;
pub(crate) const LENGTH_32: u8 = 0x80;
pub(crate) const LENGTH_64: u8 = 0x81;

pub(crate) fn byte(source: &mut impl ByteSource) -> Read<u8> {
    Ok(source.array::<1>()?[0])
}

pub(crate) fn length_or_special(source: &mut impl ByteSource) -> Read<Length> {
    let first = byte(source)?;
    Ok(Length::Bytes(match first >> 6 {
        0 => u64::from(first),
        1 => u64::from(u16::from_be_bytes([first & 0x3f, byte(source)?])),
        3 => return Ok(Length::Special(first & 0x3f)),
        _ => match first {
            LENGTH_32 => u64::from(u32::from_be_bytes(source.array()?)),
            LENGTH_64 => u64::from_be_bytes(source.array()?),
            _ => return damaged("a length has an unknown form"),
        },
    }))
}

/// A count or a number.
pub(crate) fn length(source: &mut impl ByteSource) -> Read<u64> {
    match length_or_special(source)? {
        Length::Bytes(length) => Ok(length),
        Length::Special(_) => damaged("a string's encoding is in the place of a length"),
    }
}

/// Milliseconds as RDB stores times.
pub(crate) fn moment(source: &mut impl ByteSource) -> Read<i64> {
    Ok(i64::from_le_bytes(source.array()?))
}

/// A string, in place of what `out` held.
pub(crate) fn string(source: &mut impl ByteSource, out: &mut Vec<u8>) -> Read<()> {
    out.clear();
    let special = match length_or_special(source)? {
        Length::Bytes(length) => return source.append(length, out),
        Length::Special(special) => special,
    };
    let integer = match special {
        INT8 => i32::from(i8::from_le_bytes(source.array()?)),
        INT16 => i32::from(i16::from_le_bytes(source.array()?)),
        INT32 => i32::from_le_bytes(source.array()?),
        LZF => {
            let (compressed_length, length) = (length(source)?, length(source)?);
            let mut compressed = Vec::new();
            source.append(compressed_length, &mut compressed)?;
            return lzf::decompress(&compressed, length, out);
        }
        _ => return damaged("a string has an unknown encoding"),
    };
    out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
    Ok(())
}

/// The same as a value of its own.
pub(crate) fn owned_string(source: &mut impl ByteSource) -> Read<Vec<u8>> {
    let mut out = Vec::new();
    string(source, &mut out)?;
    Ok(out)
}
