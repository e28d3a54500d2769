//! Listpacks: elements in a row, each with its length after it, so that they can be read from both ends. Read
//! forwards here.
//!
//! ```text
//! bytes u32, count u16 (65535: unknown), elements, 0xff
//! element: encoding and content, then the length of both in 1 to 5 bytes
//! ```

use super::error::{Read, damaged};

const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;

/// An element of a listpack or a ziplist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedElement<'a> {
    Bytes(&'a [u8]),
    Integer(i64),
}

impl<'a> PackedElement<'a> {
    /// Its text; an integer's is written to `digits`.
    pub fn text<'t>(self, digits: &'t mut itoa::Buffer) -> &'t [u8]
    where
        'a: 't,
    {
        match self {
            PackedElement::Bytes(bytes) => bytes,
            PackedElement::Integer(integer) => digits.format(integer).as_bytes(),
        }
    }

    pub fn integer(self) -> Option<i64> {
        match self {
            PackedElement::Integer(integer) => Some(integer),
            PackedElement::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        }
    }
}

/// The elements of a listpack, each checked as it is read.
pub struct Listpack<'a> {
    rest: &'a [u8],
    left: Option<u16>,
}

impl<'a> Listpack<'a> {
    pub fn new(bytes: &'a [u8]) -> Read<Listpack<'a>> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return damaged("a listpack is shorter than its header");
        };
        let [l0, l1, l2, l3, c0, c1] = *header;
        if u32::from_le_bytes([l0, l1, l2, l3]) as usize != bytes.len() {
            return damaged("a listpack has another length than it says");
        }
        let count = u16::from_le_bytes([c0, c1]);
        Ok(Listpack { rest, left: (count != u16::MAX).then_some(count) })
    }

    /// The next element, which has to be there.
    pub fn expect(&mut self) -> Read<PackedElement<'a>> {
        self.next().unwrap_or_else(|| damaged("a listpack has too few elements"))
    }

    /// The next element, which has to be an integer.
    pub fn integer(&mut self) -> Read<i64> {
        match self.expect()?.integer() {
            Some(integer) => Ok(integer),
            None => damaged("a listpack has a text in the place of an integer"),
        }
    }

    fn take(&mut self) -> Read<PackedElement<'a>> {
        let bytes = self.rest;
        let Some((element, length)) = decode(bytes) else {
            return damaged("a listpack's element is cut off");
        };
        let back = back_length_bytes(length);
        let Some(rest) = bytes.get(length + back..) else {
            return damaged("a listpack's element is cut off");
        };
        if bytes[length..length + back] != *back_length(length, &mut [0; 5]) {
            return damaged("a listpack's element has a wrong length after it");
        }
        self.rest = rest;
        match &mut self.left {
            Some(0) => return damaged("a listpack has more elements than it says"),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(element)
    }
}

impl<'a> Iterator for Listpack<'a> {
    type Item = Read<PackedElement<'a>>;

    /// Ends after an error.
    fn next(&mut self) -> Option<Read<PackedElement<'a>>> {
        if self.rest.is_empty() {
            return None;
        }
        if self.rest == [END] {
            self.rest = &[];
            let is_whole = self.left.is_none_or(|left| left == 0);
            return (!is_whole).then(|| damaged("a listpack has fewer elements than it says"));
        }
        let element = if self.rest[0] == END { damaged("a listpack ends early") } else { self.take() };
        if element.is_err() {
            self.rest = &[];
        }
        Some(element)
    }
}

/// The element at the beginning, and how many bytes it takes without the length after it.
fn decode(bytes: &[u8]) -> Option<(PackedElement<'_>, usize)> {
    let &[first, ref rest @ ..] = bytes else { return None };
    let integer = |value: i64, length: usize| Some((PackedElement::Integer(value), length));
    let text = |from: usize, length: usize| {
        let end = from.checked_add(length)?;
        Some((PackedElement::Bytes(bytes.get(from..end)?), end))
    };
    match first {
        0..=0x7f => integer(i64::from(first), 1),
        0x80..=0xbf => text(1, first as usize & 0x3f),
        0xc0..=0xdf => {
            let value = (i64::from(first & 0x1f) << 8) | i64::from(*rest.first()?);
            integer(if value >= 1 << 12 { value - (1 << 13) } else { value }, 2)
        }
        0xe0..=0xef => text(2, ((first as usize & 0xf) << 8) | *rest.first()? as usize),
        0xf0 => text(5, u32::from_le_bytes(*rest.first_chunk()?) as usize),
        0xf1 => integer(i64::from(i16::from_le_bytes(*rest.first_chunk()?)), 3),
        0xf2 => {
            let [low, middle, high] = *rest.first_chunk()?;
            integer(i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8), 4)
        }
        0xf3 => integer(i64::from(i32::from_le_bytes(*rest.first_chunk()?)), 5),
        0xf4 => integer(i64::from_le_bytes(*rest.first_chunk()?), 9),
        _ => None,
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

/// The length after an element: seven bits a byte, the highest ones first; all but the first are marked.
fn back_length(length: usize, buffer: &mut [u8; 5]) -> &[u8] {
    let bytes = back_length_bytes(length);
    for (at, byte) in buffer[..bytes].iter_mut().enumerate() {
        let seven = (length >> (7 * (bytes - 1 - at))) as u8 & 0x7f;
        *byte = if at == 0 { seven } else { seven | 0x80 };
    }
    &buffer[..bytes]
}

/// Builds a listpack.
pub struct ListpackWriter {
    bytes: Vec<u8>,
    count: usize,
}

impl ListpackWriter {
    pub fn new() -> ListpackWriter {
        ListpackWriter { bytes: vec![0; HEADER_BYTES], count: 0 }
    }

    pub fn integer(&mut self, value: i64) {
        let start = self.bytes.len();
        let out = &mut self.bytes;
        if (0..=127).contains(&value) {
            out.push(value as u8);
        } else if (-4096..4096).contains(&value) {
            out.extend_from_slice(&[0xc0 | ((value >> 8) as u8 & 0x1f), value as u8]);
        } else if let Ok(value) = i16::try_from(value) {
            out.push(0xf1);
            out.extend_from_slice(&value.to_le_bytes());
        } else if (-(1 << 23)..1 << 23).contains(&value) {
            out.push(0xf2);
            out.extend_from_slice(&value.to_le_bytes()[..3]);
        } else if let Ok(value) = i32::try_from(value) {
            out.push(0xf3);
            out.extend_from_slice(&value.to_le_bytes());
        } else {
            out.push(0xf4);
            out.extend_from_slice(&value.to_le_bytes());
        }
        self.end(start);
    }

    /// A text; one that is an integer's is stored as that, as Redis expects.
    pub fn text(&mut self, text: &[u8]) {
        if let Some(integer) = integer_of(text) {
            return self.integer(integer);
        }
        let start = self.bytes.len();
        match text.len() {
            length @ ..64 => self.bytes.push(0x80 | length as u8),
            length @ ..4096 => self.bytes.extend_from_slice(&[0xe0 | (length >> 8) as u8, length as u8]),
            length => {
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(text);
        self.end(start);
    }

    fn end(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        self.bytes.extend_from_slice(back_length(length, &mut [0; 5]));
        self.count += 1;
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        self.bytes[4..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

/// The integer that has exactly this text.
pub fn integer_of(text: &[u8]) -> Option<i64> {
    if text.len() > 20 {
        return None;
    }
    let integer = std::str::from_utf8(text).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(integer).as_bytes() == text).then_some(integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_size_come_back() {
        let mut integers = vec![0i64];
        for bits in 0..63 {
            integers.extend([-1, 0, 1].map(|more| (1i64 << bits) + more));
            integers.extend([-1, 0, 1].map(|more| -(1i64 << bits) + more));
        }
        integers.extend([i64::MIN, i64::MAX]);
        let texts: Vec<Vec<u8>> =
            [0, 1, 63, 64, 127, 4095, 4096, 16_382, 16_383, 70_000].map(|length| vec![b'x'; length]).into();
        let mut writer = ListpackWriter::new();
        integers.iter().for_each(|integer| writer.integer(*integer));
        texts.iter().for_each(|text| writer.text(text));
        let bytes = writer.finish();
        let found: Vec<_> =
            Listpack::new(&bytes).expect("written").map(|found| found.expect("whole")).collect();
        let wanted = integers.iter().map(|integer| PackedElement::Integer(*integer));
        let wanted: Vec<_> = wanted.chain(texts.iter().map(|text| PackedElement::Bytes(text))).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn only_the_exact_text_is_an_integer() {
        for (text, wanted) in
            [("-1", Some(-1)), ("01", None), ("+1", None), ("", None), ("-0", None), (" 1", None)]
        {
            assert_eq!(integer_of(text.as_bytes()), wanted, "{text:?}");
        }
    }
}
