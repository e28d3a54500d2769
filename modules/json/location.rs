//! Where a value of a document is: the names and indexes on the way from the root, as effects carry them.
//!
//! A location is the number of its steps, and for each step a number and, for a name, its bytes. The lowest
//! bit of the number says whether it is an index (1) or the length of a name (0); the others are that index
//! or length. Numbers are in base 128, least significant first, with the highest bit of each byte set while
//! more follow.

use smallvec::SmallVec;
use std::cmp::Ordering;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocationStep<'a> {
    Name(&'a [u8]),
    Index(usize),
}

impl LocationStep<'_> {
    /// The most bytes that it takes.
    pub fn bytes_max(&self) -> usize {
        const NUMBER_BYTES_MAX: usize = 10;
        match self {
            LocationStep::Name(name) => NUMBER_BYTES_MAX + name.len(),
            LocationStep::Index(_) => NUMBER_BYTES_MAX,
        }
    }
}

pub type Steps<'a> = SmallVec<[LocationStep<'a>; 8]>;

#[inline]
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front of these bytes.
#[inline]
pub fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7F);
        number |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

pub fn put(out: &mut Vec<u8>, steps: &[LocationStep<'_>]) {
    put_number(out, steps.len() as u64);
    for step in steps {
        match step {
            LocationStep::Name(name) => {
                put_number(out, (name.len() as u64) << 1);
                out.extend_from_slice(name);
            }
            LocationStep::Index(index) => put_number(out, (*index as u64) << 1 | 1),
        }
    }
}

/// Takes a location off the front of these bytes; `None` if it is malformed, or longer than `max` steps.
pub fn take<'a>(bytes: &mut &'a [u8], max: usize) -> Option<Steps<'a>> {
    let count = usize::try_from(take_number(bytes)?).ok().filter(|count| *count <= max)?;
    let mut steps = Steps::new();
    for _ in 0..count {
        let number = take_number(bytes)?;
        let value = usize::try_from(number >> 1).ok()?;
        steps.push(if number & 1 == 1 {
            LocationStep::Index(value)
        } else {
            let (name, rest) = bytes.split_at_checked(value)?;
            *bytes = rest;
            std::str::from_utf8(name).ok()?;
            LocationStep::Name(name)
        });
    }
    Some(steps)
}

/// The order in which several values are removed: an array's last ones first, so that what is in front of
/// them stays where it is; names in their order, as RedisJSON removes them; what contains others in front of
/// them.
pub fn removal_order(one: &[LocationStep<'_>], other: &[LocationStep<'_>]) -> Ordering {
    let step = |(one, other): (&LocationStep<'_>, &LocationStep<'_>)| match (one, other) {
        (LocationStep::Name(one), LocationStep::Name(other)) => one.cmp(other),
        (LocationStep::Index(one), LocationStep::Index(other)) => other.cmp(one),
        (LocationStep::Name(_), LocationStep::Index(_)) => Ordering::Less,
        (LocationStep::Index(_), LocationStep::Name(_)) => Ordering::Greater,
    };
    let difference = one.iter().zip(other).map(step).find(|order| order.is_ne());
    difference.unwrap_or_else(|| one.len().cmp(&other.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_come_back_and_malformed_ones_do_not() {
        let steps = [
            LocationStep::Name(b"a"),
            LocationStep::Index(300),
            LocationStep::Name(b""),
            LocationStep::Index(0),
        ];
        let mut bytes = Vec::new();
        put(&mut bytes, &steps);
        let mut rest = &bytes[..];
        assert_eq!(take(&mut rest, 4).as_deref(), Some(&steps[..]));
        assert!(rest.is_empty());
        assert_eq!(take(&mut &bytes[..], 3), None, "too many steps");
        for length in 0..bytes.len() {
            assert_eq!(take(&mut &bytes[..length], 4), None);
        }
    }

    #[test]
    fn numbers_up_to_the_largest() {
        for number in [0, 127, 128, 1 << 35, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(take_number(&mut &bytes[..]), Some(number));
        }
        assert_eq!(take_number(&mut &[0xFF; 10][..]), None);
    }
}
