//! Writes values: the plain encodings, which all versions read and turn into their compact ones. A value is
//! its type, and for everything but strings a count; then its parts.

use super::listpack::integer_of;
use super::lzf;
use super::module_value;
use super::part::{self, VALKEY_VERSION};
use super::source::{INT8, INT16, INT32, LENGTH_32, LENGTH_64, LZF};

/// The version that Redis 7.2 and Valkey 7.2 write, which later ones read.
pub const VERSION: u32 = 11;
/// The version with hashes whose fields expire, of Redis 7.4 and later.
pub const VERSION_TIMES: u32 = 12;

const _: () = assert!(VERSION_TIMES < VALKEY_VERSION, "Valkey reads what has Redis's version");

/// Strings from this length on are worth compressing.
const COMPRESSED_BYTES_MIN: usize = 21;
/// Longer strings are stored as they are: compressing them would take as much memory again.
const COMPRESSED_BYTES_MAX: usize = 64 << 20;

pub fn put_length(length: u64, out: &mut Vec<u8>) {
    match length {
        0..64 => out.push(length as u8),
        64..16_384 => out.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
        16_384..=0xffff_ffff => {
            out.push(LENGTH_32);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
        _ => {
            out.push(LENGTH_64);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// A string, as a small integer or compressed where that is shorter.
pub fn put_string(text: &[u8], out: &mut Vec<u8>) {
    const SPECIAL: u8 = 0xc0;
    if text.len() <= 11
        && let Some(integer) = integer_of(text)
        && let Ok(integer) = i32::try_from(integer)
    {
        return match (i8::try_from(integer), i16::try_from(integer)) {
            (Ok(byte), _) => out.extend_from_slice(&[SPECIAL | INT8, byte as u8]),
            (_, Ok(short)) => {
                out.push(SPECIAL | INT16);
                out.extend_from_slice(&short.to_le_bytes());
            }
            _ => {
                out.push(SPECIAL | INT32);
                out.extend_from_slice(&integer.to_le_bytes());
            }
        };
    }
    if (COMPRESSED_BYTES_MIN..=COMPRESSED_BYTES_MAX).contains(&text.len())
        && let Some(compressed) = lzf::compress(text)
    {
        out.push(SPECIAL | LZF);
        put_length(compressed.len() as u64, out);
        put_length(text.len() as u64, out);
        return out.extend_from_slice(&compressed);
    }
    put_length(text.len() as u64, out);
    out.extend_from_slice(text);
}

/// A whole string value.
pub fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(part::STRING);
    put_string(text, out);
}

/// The beginning of a list; its items follow, each by [`put_string`].
pub fn list(count: usize, out: &mut Vec<u8>) {
    out.push(part::LIST);
    put_length(count as u64, out);
}

/// The beginning of a set; its members follow, each by [`put_string`].
pub fn set(count: usize, out: &mut Vec<u8>) {
    out.push(part::SET);
    put_length(count as u64, out);
}

/// The beginning of a sorted set; its members follow, each by [`scored`].
pub fn sorted_set(count: usize, out: &mut Vec<u8>) {
    out.push(part::SORTED_SET);
    put_length(count as u64, out);
}

pub fn scored(member: &[u8], score: f64, out: &mut Vec<u8>) {
    put_string(member, out);
    out.extend_from_slice(&score.to_le_bytes());
}

/// The beginning of a hash; its fields follow, each name and value by [`put_string`].
pub fn hash(count: usize, out: &mut Vec<u8>) {
    out.push(part::HASH);
    put_length(count as u64, out);
}

/// The beginning of a hash whose fields expire, the first one at `first_ms`; its fields follow, each by
/// [`timed_field`]. It needs [`VERSION_TIMES`].
pub fn timed_hash(count: usize, first_ms: u64, out: &mut Vec<u8>) {
    out.push(part::HASH_TIMES_2);
    out.extend_from_slice(&first_ms.to_le_bytes());
    put_length(count as u64, out);
}

/// A field of a hash that began with `first_ms`; 0 for one that does not expire.
pub fn timed_field(first_ms: u64, (name, value): (&[u8], &[u8]), expires_at_ms: u64, out: &mut Vec<u8>) {
    put_length(if expires_at_ms == 0 { 0 } else { expires_at_ms - first_ms + 1 }, out);
    put_string(name, out);
    put_string(value, out);
}

/// The beginning of a stream; [`super::StreamWriter::finish`] writes the rest.
pub fn stream(out: &mut Vec<u8>) {
    out.push(part::STREAM_3);
}

/// A module's value that is one string.
pub fn module_string(id: u64, text: &[u8], out: &mut Vec<u8>) {
    out.push(part::MODULE);
    put_length(id, out);
    put_length(module_value::STRING, out);
    put_string(text, out);
    put_length(module_value::END, out);
}
