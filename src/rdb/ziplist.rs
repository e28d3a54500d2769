//! The encodings before listpacks: ziplists, zipmaps, and sets of integers.

use super::error::{Read, damaged};
use super::listpack::PackedElement;

/// Calls `each` with the elements of a ziplist.
///
/// ```text
/// bytes u32, offset of the last element u32, count u16, elements, 0xff
/// element: length of the one before in 1 or 5 bytes, encoding, content
/// ```
pub fn ziplist(bytes: &[u8], each: &mut dyn FnMut(PackedElement<'_>) -> Read<()>) -> Read<()> {
    const HEADER_BYTES: usize = 10;
    let (Some(header), Some(mut rest)) = (bytes.first_chunk::<4>(), bytes.get(HEADER_BYTES..)) else {
        return damaged("a ziplist is shorter than its header");
    };
    if u32::from_le_bytes(*header) as usize != bytes.len() {
        return damaged("a ziplist has another length than it says");
    }
    let count = u16::from_le_bytes([bytes[8], bytes[9]]);
    let mut found = 0usize;
    loop {
        match rest {
            [0xff] if count == u16::MAX || usize::from(count) == found => return Ok(()),
            [0xff] => return damaged("a ziplist has another count of elements than it says"),
            [] | [0xff, ..] => return damaged("a ziplist ends early"),
            _ => {}
        }
        let skipped = if rest[0] == 0xfe { 5 } else { 1 };
        let entry = rest.get(skipped..).and_then(ziplist_element);
        let Some((element, length)) = entry else { return damaged("a ziplist's element is cut off") };
        each(element)?;
        found += 1;
        rest = &rest[skipped + length..];
    }
}

fn ziplist_element(bytes: &[u8]) -> Option<(PackedElement<'_>, usize)> {
    let &[first, ref rest @ ..] = bytes else { return None };
    let integer = |value: i64, length: usize| Some((PackedElement::Integer(value), length));
    let text = |from: usize, length: usize| {
        let end = from.checked_add(length)?;
        Some((PackedElement::Bytes(bytes.get(from..end)?), end))
    };
    match first {
        0..=0x3f => text(1, first as usize),
        0x40..=0x7f => text(2, ((first as usize & 0x3f) << 8) | *rest.first()? as usize),
        0x80 => text(5, u32::from_be_bytes(*rest.first_chunk()?) as usize),
        0xc0 => integer(i64::from(i16::from_le_bytes(*rest.first_chunk()?)), 3),
        0xd0 => integer(i64::from(i32::from_le_bytes(*rest.first_chunk()?)), 5),
        0xe0 => integer(i64::from_le_bytes(*rest.first_chunk()?), 9),
        0xf0 => {
            let [low, middle, high] = *rest.first_chunk()?;
            integer(i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8), 4)
        }
        0xfe => integer(i64::from(i8::from_le_bytes(*rest.first_chunk()?)), 2),
        0xf1..=0xfd => integer(i64::from(first & 0xf) - 1, 1),
        _ => None,
    }
}

/// What is done with each name and its value.
pub type EachPair<'e> = dyn FnMut(&[u8], &[u8]) -> Read<()> + 'e;

/// Calls `each` with names and values of a zipmap.
pub fn zipmap(bytes: &[u8], each: &mut EachPair<'_>) -> Read<()> {
    let Some((_, mut rest)) = bytes.split_first() else { return damaged("a zipmap is empty") };
    loop {
        match rest {
            [0xff] => return Ok(()),
            [] | [0xff, ..] => return damaged("a zipmap ends early"),
            _ => {}
        }
        let pair = zipmap_text(rest, 0).and_then(|(name, after)| {
            let (value, after) = zipmap_text(after, 1)?;
            Some((name, value, after))
        });
        let Some((name, value, after)) = pair else { return damaged("a zipmap's field is cut off") };
        each(name, value)?;
        rest = after;
    }
}

/// A text after its length and `spare` bytes, of which the last one is how many bytes after it are unused.
fn zipmap_text(bytes: &[u8], spare: usize) -> Option<(&[u8], &[u8])> {
    let &[first, ref rest @ ..] = bytes else { return None };
    let (length, rest) = match first {
        0..=0xfd => (first as usize, rest),
        0xfe => (u32::from_le_bytes(*rest.first_chunk()?) as usize, &rest[4..]),
        0xff => return None,
    };
    let unused = if spare == 1 { *rest.first()? as usize } else { 0 };
    let (text, rest) = rest[spare..].split_at_checked(length)?;
    Some((text, rest.get(unused..)?))
}

/// Calls `each` with the members of a set of integers: width u32, count u32, integers of this width.
pub fn intset(bytes: &[u8], each: &mut dyn FnMut(i64) -> Read<()>) -> Read<()> {
    let Some((header, content)) = bytes.split_first_chunk::<8>() else {
        return damaged("a set of integers is shorter than its header");
    };
    let [w0, w1, w2, w3, c0, c1, c2, c3] = *header;
    let width = u32::from_le_bytes([w0, w1, w2, w3]) as usize;
    let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    if ![2, 4, 8].contains(&width) || count.checked_mul(width) != Some(content.len()) {
        return damaged("a set of integers has another length than it says");
    }
    for integer in content.chunks_exact(width) {
        let negative = integer[width - 1] >> 7;
        let mut wide = [if negative == 1 { 0xff } else { 0 }; 8];
        wide[..width].copy_from_slice(integer);
        each(i64::from_le_bytes(wide))?;
    }
    Ok(())
}
