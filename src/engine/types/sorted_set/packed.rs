//! A small sorted set as one run of bytes.
//!
//! ```text
//! each member, in order:
//!   member length u8   up to 64
//!   score tag     u8   0..=239: the score is an integer from -16 to 223, nothing follows
//!                      240: i16   241: i32   242: f64
//!                      243..=246: an i32, of 10^-1 to 10^-4   247..=250: an i16, of the same
//!   score              little-endian
//!   member
//! ```
//!
//! Members are bounded as in Redis (zset-max-listpack-entries 128, zset-max-listpack-value 64), and no member
//! takes more bytes than in Redis's listpack. The layout is never written to a file, so it has no version.

use super::{ScoreChange, ScoredMember};
use std::ops::Range;

/// The most members.
const MEMBERS_MAX: usize = 128;
/// The longest member, in bytes.
const MEMBER_BYTES_MAX: usize = 64;
/// Allocations are rounded up to this, because allocators have no finer size classes.
const UNIT: usize = 16;

const TAG_INTEGER_LEAST: i64 = -16;
const TAG_INTEGERS: i64 = 240;
const TAG_I16: u8 = 240;
const TAG_I32: u8 = 241;
const TAG_F64: u8 = 242;
/// Plus the number of decimals.
const TAG_DECIMAL_I32: u8 = 242;
const TAG_DECIMAL_I16: u8 = 246;
const DECIMALS_MAX: u8 = 4;

/// Reads a packed sorted set. Without members it has no bytes; else the first one is their number.
#[derive(Clone, Copy, Debug)]
pub struct PackedSortedSet<'a>(&'a [u8]);

/// Where a member is found.
struct Place {
    bytes: Range<usize>,
    score: f64,
}

impl<'a> PackedSortedSet<'a> {
    /// `bytes` were made by this module.
    pub(super) fn new(bytes: &'a [u8]) -> PackedSortedSet<'a> {
        PackedSortedSet(bytes)
    }

    pub(super) fn len(self) -> usize {
        self.0.first().map_or(0, |&count| count.into())
    }

    /// At least as many bytes as all members have together.
    pub(super) fn member_bytes_max(self) -> usize {
        self.0.len()
    }

    fn places(self) -> impl Iterator<Item = (Range<usize>, ScoredMember<'a>)> {
        let mut offset = 1;
        std::iter::from_fn(move || {
            let &length = self.0.get(offset)?;
            let start = offset;
            let (score, bytes) = read_score(&self.0[start + 1..]);
            let member = start + 1 + bytes;
            offset = member + usize::from(length);
            Some((start..offset, ScoredMember { score, member: &self.0[member..offset] }))
        })
    }

    pub(super) fn iter(self) -> impl Iterator<Item = ScoredMember<'a>> {
        self.places().map(|(_, entry)| entry)
    }

    /// The members of these ranks. They are collected, because the run can be read in one direction only.
    pub(super) fn range(self, ranks: Range<usize>) -> Vec<ScoredMember<'a>> {
        self.iter().skip(ranks.start).take(ranks.len()).collect()
    }

    fn place_of(self, member: &[u8]) -> Option<Place> {
        let (bytes, entry) = self.places().find(|(_, entry)| entry.member == member)?;
        Some(Place { bytes, score: entry.score })
    }

    pub(super) fn score(self, member: &[u8]) -> Option<f64> {
        self.place_of(member).map(|place| place.score)
    }

    pub(super) fn rank(self, member: &[u8]) -> Option<(usize, f64)> {
        let (rank, entry) = self.iter().enumerate().find(|(_, entry)| entry.member == member)?;
        Some((rank, entry.score))
    }
}

/// Sets a member's score. `None`, without a change, if a packed set cannot have the member too.
pub fn set_packed(bytes: &mut Vec<u8>, member: &[u8], score: f64) -> Option<ScoreChange> {
    let set = PackedSortedSet(bytes);
    let old = set.place_of(member);
    if old.is_none() && (member.len() > MEMBER_BYTES_MAX || set.len() == MEMBERS_MAX) {
        return None;
    }
    if let Some(place) = &old {
        if place.score == score {
            return Some(ScoreChange::None);
        }
        bytes.drain(place.bytes.clone());
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
    let is_before =
        |entry: &ScoredMember<'_>| entry.score < score || entry.score == score && entry.member < member;
    let after = PackedSortedSet(bytes).places().find(|(_, entry)| !is_before(entry));
    let at = after.map_or(bytes.len(), |(place, _)| place.start);
    let (encoded, length) = encode_score(score);
    let wanted = (bytes.len() + 1 + length + member.len()).next_multiple_of(UNIT);
    bytes.reserve_exact(wanted - bytes.len());
    let head = std::iter::once(member.len() as u8).chain(encoded.into_iter().take(length));
    bytes.splice(at..at, head.chain(member.iter().copied()));
    if old.is_some() {
        return Some(ScoreChange::Updated);
    }
    bytes[0] += 1;
    Some(ScoreChange::Added)
}

/// Removes a member; true if it was there.
pub fn remove_packed(bytes: &mut Vec<u8>, member: &[u8]) -> bool {
    let Some(place) = PackedSortedSet(bytes).place_of(member) else { return false };
    cut(bytes, place.bytes, 1);
    true
}

/// Removes the members of these ranks, which exist.
pub fn remove_packed_range(bytes: &mut Vec<u8>, ranks: Range<usize>) {
    let mut places = PackedSortedSet(bytes).places().skip(ranks.start).take(ranks.len());
    let Some((first, _)) = places.next() else { return };
    let end = places.last().map_or(first.end, |(last, _)| last.end);
    cut(bytes, first.start..end, ranks.len());
}

/// Removes the bytes of `members` members.
fn cut(bytes: &mut Vec<u8>, place: Range<usize>, members: usize) {
    bytes.drain(place);
    bytes[0] -= members as u8;
    if bytes[0] == 0 {
        bytes.clear();
    }
    if bytes.len() * 2 < bytes.capacity() {
        bytes.shrink_to(bytes.len().next_multiple_of(UNIT));
    }
}

/// A score's tag and bytes, and how many bytes these are.
fn encode_score(score: f64) -> ([u8; 9], usize) {
    let mut encoded = [0; 9];
    let mut put = |tag: u8, bytes: &[u8]| {
        encoded[0] = tag;
        encoded[1..=bytes.len()].copy_from_slice(bytes);
        (encoded, 1 + bytes.len())
    };
    if let Some(integer) = exact_i32(score) {
        let tag = i64::from(integer) - TAG_INTEGER_LEAST;
        return match i16::try_from(integer) {
            _ if (0..TAG_INTEGERS).contains(&tag) => put(tag as u8, &[]),
            Ok(short) => put(TAG_I16, &short.to_le_bytes()),
            Err(_) => put(TAG_I32, &integer.to_le_bytes()),
        };
    }
    for decimals in 1..=DECIMALS_MAX {
        let Some(digits) = exact_i32((score * power_of_ten(decimals)).round()) else { continue };
        if f64::from(digits) / power_of_ten(decimals) == score {
            return match i16::try_from(digits) {
                Ok(short) => put(TAG_DECIMAL_I16 + decimals, &short.to_le_bytes()),
                Err(_) => put(TAG_DECIMAL_I32 + decimals, &digits.to_le_bytes()),
            };
        }
    }
    put(TAG_F64, &score.to_le_bytes())
}

/// Reads a score; returns it with the number of its bytes, tag included.
fn read_score(bytes: &[u8]) -> (f64, usize) {
    let i16_at = || f64::from(i16::from_le_bytes([bytes[1], bytes[2]]));
    let i32_at = || f64::from(i32::from_le_bytes(*bytes[1..].first_chunk().expect("a score is whole")));
    match bytes[0] {
        TAG_I16 => (i16_at(), 3),
        TAG_I32 => (i32_at(), 5),
        TAG_F64 => (f64::from_le_bytes(*bytes[1..].first_chunk().expect("a score is whole")), 9),
        tag if tag > TAG_DECIMAL_I16 => (i16_at() / power_of_ten(tag - TAG_DECIMAL_I16), 3),
        tag if tag > TAG_DECIMAL_I32 => (i32_at() / power_of_ten(tag - TAG_DECIMAL_I32), 5),
        tag => ((i64::from(tag) + TAG_INTEGER_LEAST) as f64, 1),
    }
}

fn power_of_ten(decimals: u8) -> f64 {
    [1.0, 10.0, 100.0, 1000.0, 10_000.0][usize::from(decimals)]
}

/// The integer, if the score is one of 32 bits.
fn exact_i32(score: f64) -> Option<i32> {
    // Out of the range, the conversion gives the nearest bound.
    let integer = score as i32;
    let is_negative_zero = integer == 0 && score.is_sign_negative();
    (f64::from(integer) == score && !is_negative_zero).then_some(integer)
}
