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

#[derive(Clone, Debug)]
pub(super) struct PackedSortedSet {
    /// The number of members is the first byte of a set that has any.
    bytes: Vec<u8>,
}

/// Where a member is found, or would be.
struct Place {
    bytes: Range<usize>,
    score: f64,
}

impl PackedSortedSet {
    pub(super) fn new() -> PackedSortedSet {
        PackedSortedSet { bytes: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.first().map_or(0, |&count| count.into())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// True if the set can have this member, in addition to the others.
    pub(super) fn can_set(&self, member: &[u8]) -> bool {
        member.len() <= MEMBER_BYTES_MAX && self.len() < MEMBERS_MAX
            || self.len() == MEMBERS_MAX && self.place_of(member).is_some()
    }

    fn places(&self) -> impl Iterator<Item = (Range<usize>, ScoredMember<'_>)> {
        let mut offset = 1;
        std::iter::from_fn(move || {
            let &length = self.bytes.get(offset)?;
            let start = offset;
            let (score, bytes) = read_score(&self.bytes[start + 1..]);
            let member = start + 1 + bytes;
            offset = member + usize::from(length);
            Some((start..offset, ScoredMember { score, member: &self.bytes[member..offset] }))
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ScoredMember<'_>> {
        self.places().map(|(_, entry)| entry)
    }

    /// The members of these ranks. They are collected, because the run can be read in one direction only.
    pub(super) fn range(&self, ranks: Range<usize>) -> Vec<ScoredMember<'_>> {
        self.iter().skip(ranks.start).take(ranks.len()).collect()
    }

    fn place_of(&self, member: &[u8]) -> Option<Place> {
        let (bytes, entry) = self.places().find(|(_, entry)| entry.member == member)?;
        Some(Place { bytes, score: entry.score })
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.place_of(member).map(|place| place.score)
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let (rank, entry) = self.iter().enumerate().find(|(_, entry)| entry.member == member)?;
        Some((rank, entry.score))
    }

    pub(super) fn set(&mut self, member: &[u8], score: f64) -> ScoreChange {
        let old = self.place_of(member);
        if let Some(place) = &old {
            if place.score == score {
                return ScoreChange::None;
            }
            self.bytes.drain(place.bytes.clone());
        }
        if self.bytes.is_empty() {
            self.bytes.push(0);
        }
        let is_before =
            |entry: &ScoredMember<'_>| entry.score < score || entry.score == score && entry.member < member;
        let after = self.places().find(|(_, entry)| !is_before(entry));
        let at = after.map_or(self.bytes.len(), |(bytes, _)| bytes.start);
        let (encoded, length) = encode_score(score);
        let wanted = (self.bytes.len() + 1 + length + member.len()).next_multiple_of(UNIT);
        self.bytes.reserve_exact(wanted - self.bytes.len());
        let head = std::iter::once(member.len() as u8).chain(encoded.into_iter().take(length));
        self.bytes.splice(at..at, head.chain(member.iter().copied()));
        if old.is_some() {
            return ScoreChange::Updated;
        }
        self.bytes[0] += 1;
        ScoreChange::Added
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let Some(place) = self.place_of(member) else { return false };
        self.cut(place.bytes, 1);
        true
    }

    pub(super) fn remove_range(&mut self, ranks: Range<usize>) {
        let mut places = self.places().skip(ranks.start).take(ranks.len()).map(|(bytes, _)| bytes);
        let Some(first) = places.next() else { return };
        let end = places.last().map_or(first.end, |last| last.end);
        self.cut(first.start..end, ranks.len());
    }

    /// Removes the bytes of `members` members.
    fn cut(&mut self, bytes: Range<usize>, members: usize) {
        self.bytes.drain(bytes);
        self.bytes[0] -= members as u8;
        if self.bytes.len() * 2 < self.bytes.capacity() {
            self.bytes.shrink_to(self.bytes.len().next_multiple_of(UNIT));
        }
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
