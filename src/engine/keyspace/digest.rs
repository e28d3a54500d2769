//! A digest of entries that does not depend on their order: to compare a keyspace with what a snapshot of it
//! brings back.
//!
//! It is the wrapping sum over entries of a mix of key, type, content and expiry; within a hash, over its
//! fields likewise. It catches mistakes (a lost expiry, a field cut off), not an adversary. The sum is in
//! snapshot files, so it is part of their format.

use super::{Entry, Keyspace};

/// The digest of one entry.
pub fn entry_digest(entry: &Entry) -> u64 {
    mix(scramble(entry.value().digest() ^ scramble(entry.expires_at_ms())), entry.key())
}

/// The digests of all databases: keys and sum of each, without empty databases at the end.
pub fn keyspace_digests(keyspace: &Keyspace) -> Vec<(usize, u64)> {
    let digest = |sum: u64, entry| sum.wrapping_add(entry_digest(entry));
    let databases = keyspace.databases().iter();
    let mut digests: Vec<_> =
        databases.map(|database| (database.len(), database.iter().fold(0, digest))).collect();
    while digests.last().is_some_and(|(keys, _)| *keys == 0) {
        digests.pop();
    }
    digests
}

/// Two CRCs with different starts make 64 bits of the content; the length keeps zero bytes apart. For data
/// types that make a digest of their own (`TypedValue::digest`).
pub fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let low = crc32c::crc32c(bytes);
    let high = crc32c::crc32c_append(bytes.len() as u32 ^ 0xA5A5_A5A5, bytes);
    scramble(seed.rotate_left(23) ^ (u64::from(high) << 32 | u64::from(low)))
}

/// The finisher of splitmix64 (Steele, Lea, Flood 2014): a bijection that spreads every bit.
fn scramble(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}
