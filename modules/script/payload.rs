//! The payload of FUNCTION DUMP: libraries in RDB's format, with its version and a checksum.
//!
//! ```text
//! for each library:  F5, the code as a string
//! at the end:        the version in 16 bits, CRC-64 of all that in 64 bits, both little-endian
//! ```
//! A string is its length and its bytes, or a small integer, or compressed by LZF. What is written is plain.

use engramdb_engine::command::CommandError;

const LIBRARY: u8 = 0xf5;
const LIBRARY_OF_A_PREVIEW: u8 = 0xf6;
/// The version that Redis 7.0 writes; payloads of later formats that this program knows are the same.
const VERSION: u16 = 10;
const VERSION_MAX: u16 = 80;
const FOOTER_BYTES: usize = 10;
/// The largest code that a compressed string may have.
const CODE_BYTES_MAX: usize = 512 << 20;

/// The payload of libraries with these codes.
pub fn write<'c>(codes: impl Iterator<Item = &'c [u8]>) -> Vec<u8> {
    let mut payload = Vec::new();
    for code in codes {
        payload.push(LIBRARY);
        put_length(&mut payload, code.len());
        payload.extend_from_slice(code);
    }
    payload.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

fn put_length(payload: &mut Vec<u8>, length: usize) {
    match length {
        0..=0x3f => payload.push(length as u8),
        0x40..=0x3fff => payload.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
        _ => {
            payload.push(0x80);
            payload.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

/// The codes of the libraries in a payload.
pub fn read(payload: &[u8]) -> Result<Vec<Vec<u8>>, CommandError> {
    let wrong = CommandError::of("ERR DUMP payload version or checksum are wrong");
    let Some((content, footer)) = payload.split_last_chunk::<FOOTER_BYTES>() else { return Err(wrong) };
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let checksum = u64::from_le_bytes(footer[2..].try_into().expect("eight bytes"));
    let is_right = checksum == crc64(&payload[..payload.len() - 8]);
    if version > VERSION_MAX || !is_right {
        return Err(wrong);
    }
    let mut codes = Vec::new();
    let mut rest = content;
    while let Some((kind, after)) = rest.split_first() {
        rest = after;
        match *kind {
            LIBRARY => {}
            LIBRARY_OF_A_PREVIEW => {
                return Err(CommandError::of("ERR Pre-GA function format not supported"));
            }
            _ => return Err(CommandError::of("ERR given type is not a function")),
        }
        let failed = CommandError::of("ERR Failed loading library data");
        codes.push(take_string(&mut rest).ok_or(failed)?);
    }
    Ok(codes)
}

fn take<'p>(rest: &mut &'p [u8], bytes: usize) -> Option<&'p [u8]> {
    let (taken, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some(taken)
}

enum Length {
    Plain(usize),
    /// An encoding of the string.
    Encoded(u8),
}

fn take_length(rest: &mut &[u8]) -> Option<Length> {
    let first = take(rest, 1)?[0];
    Some(match first >> 6 {
        0 => Length::Plain(usize::from(first)),
        1 => Length::Plain(usize::from(first & 0x3f) << 8 | usize::from(take(rest, 1)?[0])),
        2 if first == 0x80 => Length::Plain(u32::from_be_bytes(take(rest, 4)?.try_into().ok()?) as usize),
        2 if first == 0x81 => Length::Plain(u64::from_be_bytes(take(rest, 8)?.try_into().ok()?) as usize),
        3 => Length::Encoded(first & 0x3f),
        _ => return None,
    })
}

fn take_string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let number = |bytes: &[u8]| {
        let (mut wide, is_negative) = ([0; 8], bytes.last().is_some_and(|byte| *byte >= 0x80));
        wide[..bytes.len()].copy_from_slice(bytes);
        wide[bytes.len()..].fill(if is_negative { 0xff } else { 0 });
        i64::from_le_bytes(wide).to_string().into_bytes()
    };
    match take_length(rest)? {
        Length::Plain(bytes) => Some(take(rest, bytes)?.to_vec()),
        Length::Encoded(0) => Some(number(take(rest, 1)?)),
        Length::Encoded(1) => Some(number(take(rest, 2)?)),
        Length::Encoded(2) => Some(number(take(rest, 4)?)),
        Length::Encoded(3) => {
            let (Length::Plain(packed), Length::Plain(bytes)) = (take_length(rest)?, take_length(rest)?)
            else {
                return None;
            };
            decompress(take(rest, packed)?, bytes)
        }
        Length::Encoded(_) => None,
    }
}

/// Decompresses LZF: runs of literals, and references to what is up to 8 KiB back.
fn decompress(mut packed: &[u8], bytes: usize) -> Option<Vec<u8>> {
    if bytes > CODE_BYTES_MAX {
        return None;
    }
    let mut text = Vec::with_capacity(bytes.min(packed.len().saturating_mul(32)));
    while let Some((control, rest)) = packed.split_first() {
        packed = rest;
        let control = usize::from(*control);
        if control < 32 {
            text.extend_from_slice(take(&mut packed, control + 1)?);
        } else {
            let mut length = control >> 5;
            if length == 7 {
                length += usize::from(take(&mut packed, 1)?[0]);
            }
            let distance = ((control & 0x1f) << 8 | usize::from(take(&mut packed, 1)?[0])) + 1;
            let start = text.len().checked_sub(distance)?;
            for index in start..start + length + 2 {
                text.push(text[index]);
            }
        }
        if text.len() > bytes {
            return None;
        }
    }
    (text.len() == bytes).then_some(text)
}

/// CRC-64 of Jones, reflected, as Redis computes it.
fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    let mut crc = 0_u64;
    for byte in bytes {
        crc ^= u64::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::{crc64, decompress, read, write};

    #[test]
    fn the_checksum_is_redis_s() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn what_was_written_is_read() {
        for codes in [vec![], vec![b"a".to_vec()], vec![vec![b'x'; 100], vec![b'y'; 20_000]]] {
            let payload = write(codes.iter().map(Vec::as_slice));
            assert_eq!(read(&payload), Ok(codes));
            for end in 0..payload.len() {
                read(&payload[..end]).expect_err("a part");
            }
        }
    }

    #[test]
    fn compressed_strings_are_read() {
        assert_eq!(decompress(b"\x00a\xe0\x01\x00", 11), Some(b"aaaaaaaaaaa".to_vec()));
        assert_eq!(decompress(b"\x00a\xe0\x01\x00", 10), None);
        assert_eq!(decompress(b"\x20\x05", 4), None);
    }
}
