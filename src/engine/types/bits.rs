//! Bits of byte strings: bit 0 is the most significant bit of the first byte. What lies beyond the end of a
//! string reads as zero.

use std::ops::RangeInclusive;

/// The number of bits that are set in a range of bits, which must be inside of the bytes.
pub fn count_ones(bytes: &[u8], bits: RangeInclusive<usize>) -> u64 {
    let Some(edges) = Edges::of(&bits) else { return 0 };
    let part = &bytes[edges.first_byte..=edges.last_byte];
    let (words, rest) = part.as_chunks::<8>();
    let ones = |byte: &u8| u64::from(byte.count_ones());
    let all = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum::<u64>()
        + rest.iter().map(ones).sum::<u64>();
    all - ones(&(part[0] & !edges.first_mask)) - ones(&(part[part.len() - 1] & !edges.last_mask))
}

/// The first bit with this value in a range of bits, which must be inside of the bytes.
pub fn find_bit(bytes: &[u8], value: bool, bits: RangeInclusive<usize>) -> Option<usize> {
    let edges = Edges::of(&bits)?;
    let part = &bytes[edges.first_byte..=edges.last_byte];
    let (flip, last) = (if value { 0 } else { 0xff }, part.len() - 1);
    // The bits that are searched for, as ones.
    let at = |place: usize| {
        let mut wanted = part[place] ^ flip;
        if place == 0 {
            wanted &= edges.first_mask;
        }
        if place == last {
            wanted &= edges.last_mask;
        }
        wanted
    };
    let mut place = 0;
    while place <= last {
        if at(place) != 0 {
            return Some((edges.first_byte + place) * 8 + at(place).leading_zeros() as usize);
        }
        place += 1;
        let words = part[place..].as_chunks::<8>().0;
        place += 8 * words.iter().take_while(|word| **word == [flip; 8]).count().min(words.len());
    }
    None
}

/// The bytes of a range of bits, and the masks of the bits of its first and last byte.
struct Edges {
    first_byte: usize,
    last_byte: usize,
    first_mask: u8,
    last_mask: u8,
}

impl Edges {
    /// `None` for an empty range.
    fn of(bits: &RangeInclusive<usize>) -> Option<Edges> {
        let (first, last) = (*bits.start(), *bits.end());
        (first <= last).then(|| Edges {
            first_byte: first / 8,
            last_byte: last / 8,
            first_mask: 0xff >> (first % 8),
            last_mask: 0xff << (7 - last % 8),
        })
    }
}

/// How the bits of several strings make those of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitOperation {
    And,
    Or,
    Xor,
    /// Of one string.
    Not,
    /// Set in the first one and in none of the others.
    Diff,
    /// Set in one of the others and not in the first one.
    Diff1,
    /// Set in the first one and in one of the others.
    AndOr,
    /// Set in exactly one of them.
    One,
}

impl BitOperation {
    /// As long as the longest of the strings, of which there is at least one.
    pub fn of(self, strings: &[&[u8]]) -> Vec<u8> {
        let length = strings.iter().map(|string| string.len()).max().unwrap_or(0);
        let (first, others) = (strings[0], &strings[1..]);
        match self {
            BitOperation::Or => fold(first, others, length, |sum, byte| sum | byte),
            BitOperation::Xor => fold(first, others, length, |sum, byte| sum ^ byte),
            BitOperation::Not => first.iter().map(|byte| !byte).collect(),
            BitOperation::And => {
                let shortest = strings.iter().map(|string| string.len()).min().unwrap_or(0);
                let mut all = fold(first, others, length, |sum, byte| sum & byte);
                all[shortest..].fill(0);
                all
            }
            BitOperation::Diff => with_first(first, others, length, |first, any| first & !any),
            BitOperation::Diff1 => with_first(first, others, length, |first, any| !first & any),
            BitOperation::AndOr => with_first(first, others, length, |first, any| first & any),
            BitOperation::One => exactly_one(strings, length),
        }
    }
}

fn padded(string: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(string);
    bytes.resize(length, 0);
    bytes
}

fn fold(first: &[u8], others: &[&[u8]], length: usize, with: fn(u8, u8) -> u8) -> Vec<u8> {
    let mut sum = padded(first, length);
    others.iter().for_each(|other| zip(&mut sum, other, with));
    sum
}

#[inline]
fn zip(sum: &mut [u8], other: &[u8], with: impl Fn(u8, u8) -> u8) {
    sum.iter_mut().zip(other).for_each(|(sum, byte)| *sum = with(*sum, *byte));
}

fn with_first(first: &[u8], others: &[&[u8]], length: usize, with: fn(u8, u8) -> u8) -> Vec<u8> {
    let mut any = vec![0; length];
    others.iter().for_each(|other| zip(&mut any, other, |any, byte| any | byte));
    let (start, rest) = any.split_at_mut(first.len());
    zip(start, first, |any, first| with(first, any));
    rest.iter_mut().for_each(|any| *any = with(0, *any));
    any
}

fn exactly_one(strings: &[&[u8]], length: usize) -> Vec<u8> {
    let (mut any, mut several) = (vec![0; length], vec![0; length]);
    for string in strings {
        for ((any, several), byte) in any.iter_mut().zip(&mut several).zip(*string) {
            *several |= *any & byte;
            *any |= byte;
        }
    }
    zip(&mut any, &several, |any, several| any & !several);
    any
}

/// The width of a bitfield in bits, and whether it is signed: 1 to 64 if signed, to 63 if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldWidth {
    pub bits: u32,
    pub is_signed: bool,
}

/// What happens where a number does not fit a bitfield.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The lower bits of the result.
    Wrap,
    /// The nearest number that fits.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl FieldWidth {
    /// `i8`, `u63`.
    pub fn parse(word: &[u8]) -> Option<FieldWidth> {
        let (first, digits) = word.split_first()?;
        let is_signed = match first {
            b'i' => true,
            b'u' => false,
            _ => return None,
        };
        let bits = u32::try_from(super::parse_integer(digits)?).ok()?;
        let bits_max = if is_signed { 64 } else { 63 };
        (1..=bits_max).contains(&bits).then_some(FieldWidth { bits, is_signed })
    }

    /// The field at a bit of the bytes.
    pub fn read(self, bytes: &[u8], offset: usize) -> i64 {
        let first = (offset / 8).min(bytes.len());
        let part = &bytes[first..bytes.len().min(first + 9)];
        let mut window = [0; 16];
        window[..part.len()].copy_from_slice(part);
        let value = u128::from_be_bytes(window) << (offset % 8);
        match self.is_signed {
            true => (value as i128 >> (128 - self.bits)) as i64,
            false => (value >> (128 - self.bits)) as i64,
        }
    }

    /// The bytes from `offset / 8` on with this field in them; the first number is how many there are.
    pub fn written(self, bytes: &[u8], offset: usize, value: i64) -> (usize, [u8; 16]) {
        let first = (offset / 8).min(bytes.len());
        let count = (offset % 8 + self.bits as usize).div_ceil(8);
        let part = &bytes[first..bytes.len().min(first + count)];
        let mut window = [0; 16];
        window[..part.len()].copy_from_slice(part);
        let mask = (!0u128 << (128 - self.bits)) >> (offset % 8);
        let field = ((value as u128) << (128 - self.bits)) >> (offset % 8);
        (count, (u128::from_be_bytes(window) & !mask | field).to_be_bytes())
    }

    /// The sum as the field can have it; `None` if it overflows and must fail. Setting a field adds 0.
    pub fn add(self, value: i64, by: i64, overflow: Overflow) -> Option<i64> {
        let Some(is_above) = self.overflows(value, by) else { return Some(value.wrapping_add(by)) };
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(if is_above { self.last() } else { self.least() }),
            Overflow::Wrap => {
                let sum = value.wrapping_add(by);
                let unused = 64 - self.bits;
                Some(match self.is_signed {
                    true => sum << unused >> unused,
                    false => ((sum as u64) << unused >> unused) as i64,
                })
            }
        }
    }

    fn last(self) -> i64 {
        let is_signed = u32::from(self.is_signed);
        u64::MAX.checked_shr(64 - self.bits + is_signed).unwrap_or(0) as i64
    }

    fn least(self) -> i64 {
        if self.is_signed { -1 - self.last() } else { 0 }
    }

    /// Whether the sum is above what fits, or below; `None` if it fits. The differences wrap around as in
    /// Redis, so that a number far below the least one counts as above.
    fn overflows(self, value: i64, by: i64) -> Option<bool> {
        let (room, below) = (self.last().wrapping_sub(value), self.least().wrapping_sub(value));
        if !self.is_signed {
            return match value as u64 > self.last() as u64 || by > 0 && by > room {
                true => Some(true),
                false => (by < 0 && by < below).then_some(false),
            };
        }
        let is_partial = self.bits != 64;
        if value > self.last() || is_partial && by > room || value >= 0 && by > 0 && by > room {
            return Some(true);
        }
        let is_below = value < self.least() || is_partial && by < below || value < 0 && by < 0 && by < below;
        is_below.then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(bytes: &[u8], at: usize) -> bool {
        bytes.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
    }

    #[test]
    fn ranges_of_bits_are_counted_and_searched_as_bit_by_bit() {
        let mut patterns = vec![vec![0; 40], vec![0xff; 40]];
        patterns.push((0..40).map(|place| if place == 29 { 0x10 } else { 0 }).collect());
        patterns.push((0..40).map(|place| if place == 29 { 0xef } else { 0xff }).collect());
        patterns.push((0..40u8).map(|place| place.wrapping_mul(37)).collect());
        for bytes in &patterns {
            for first in (0..320).step_by(3) {
                for last in (first..320).step_by(7) {
                    let ones = (first..=last).filter(|at| bit(bytes, *at)).count() as u64;
                    assert_eq!(count_ones(bytes, first..=last), ones, "{first}..={last}");
                    for value in [false, true] {
                        let found = (first..=last).find(|at| bit(bytes, *at) == value);
                        assert_eq!(find_bit(bytes, value, first..=last), found, "{value} {first}..={last}");
                    }
                }
            }
        }
    }

    #[test]
    fn fields_are_written_and_read_across_bytes_and_beyond_the_end() {
        for bits in 1..=64 {
            for is_signed in [false, true] {
                if bits == 64 && !is_signed {
                    continue;
                }
                let width = FieldWidth { bits, is_signed };
                for offset in 0..30 {
                    let before = [0xa5; 5];
                    for value in [width.least(), width.last(), width.last() / 3] {
                        let (count, written) = width.written(&before, offset, value);
                        let mut after = before.to_vec();
                        after.resize(5.max(offset / 8 + count), 0);
                        after[offset / 8..offset / 8 + count].copy_from_slice(&written[..count]);
                        assert_eq!(width.read(&after, offset), value, "{width:?} at {offset}");
                        let field = offset..offset + bits as usize;
                        let others = (0..after.len() * 8).filter(|at| !field.contains(at));
                        assert!(others.into_iter().all(|at| bit(&after, at) == bit(&before, at)));
                    }
                }
            }
        }
    }

    #[test]
    fn overflows_are_those_of_redis() {
        let (i8, u8) = (FieldWidth { bits: 8, is_signed: true }, FieldWidth { bits: 8, is_signed: false });
        let i64 = FieldWidth { bits: 64, is_signed: true };
        for (width, value, by, wrapped, saturated) in [
            (i8, 100, 27, 127, 127),
            (i8, 100, 28, -128, 127),
            (i8, -100, -29, 127, -128),
            (i8, 300, 0, 44, 127),
            (i8, -200, 0, 56, -128),
            (i8, i64::MIN, 0, 0, 127),
            (u8, 255, 1, 0, 255),
            (u8, 0, -300, 212, 0),
            (u8, -1, 0, 255, 255),
            (i64, i64::MAX, 1, i64::MIN, i64::MAX),
            (i64, i64::MIN, -1, i64::MAX, i64::MIN),
            (i64, -1, i64::MAX, i64::MAX - 1, i64::MAX - 1),
        ] {
            assert_eq!(width.add(value, by, Overflow::Wrap), Some(wrapped), "{width:?} {value} + {by}");
            assert_eq!(width.add(value, by, Overflow::Saturate), Some(saturated), "{width:?} {value} + {by}");
        }
        assert_eq!(i8.add(127, 1, Overflow::Fail), None);
        assert_eq!(u8.add(255, -255, Overflow::Fail), Some(0));
    }

    #[test]
    fn strings_are_combined_as_if_they_had_one_length() {
        let strings: [&[u8]; 3] = [&[0b1100, 0xff], &[0b1010], &[0b1001, 0x0f, 0xf0]];
        for (operation, wanted) in [
            (BitOperation::And, [0b1000, 0, 0]),
            (BitOperation::Or, [0b1111, 0xff, 0xf0]),
            (BitOperation::Xor, [0b1111, 0xf0, 0xf0]),
            (BitOperation::Diff, [0b0100, 0xf0, 0]),
            (BitOperation::Diff1, [0b0011, 0, 0xf0]),
            (BitOperation::AndOr, [0b1000, 0x0f, 0]),
            (BitOperation::One, [0b0111, 0xf0, 0xf0]),
        ] {
            assert_eq!(operation.of(&strings), wanted, "{operation:?}");
        }
        assert_eq!(BitOperation::Not.of(&strings[..1]), [0xf3, 0]);
    }
}
