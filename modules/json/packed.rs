//! The packed form of JSON values: what a document is in memory, and what effects carry.
//!
//! A value is a tag and what follows it:
//!
//! | tag | value |
//! |---|---|
//! | 00 to 7F | the integer 0 to 127 |
//! | 80 to BF | a text of 0 to 63 bytes, which follow |
//! | C0, C1, C2 | null, false, true |
//! | C3, C4, C5, C6 | an integer in 1, 2, 4 or 8 bytes, signed |
//! | C7 | an integer above the signed ones, in 8 bytes |
//! | C8, C9 | a float in 4 or 8 bytes |
//! | CA, CB | a text: its length in 1 or 4 bytes, its bytes |
//! | D0, D1 | an array: bytes of its body and number of its elements (1 byte each, or 4), its elements |
//! | D2, D3 | an object, the same: its body has a text, the name, in front of each value |
//!
//! Numbers are little-endian, texts are UTF-8. A value has one form, the shortest; a float that is exact in 4
//! bytes takes 4. So equal values have equal bytes.
//!
//! Functions that read expect bytes that [`check`] has accepted, or that were made here.

pub const NULL: u8 = 0xC0;
pub const FALSE: u8 = 0xC1;
pub const TRUE: u8 = 0xC2;
const INT8: u8 = 0xC3;
const INT16: u8 = 0xC4;
const INT32: u8 = 0xC5;
const INT64: u8 = 0xC6;
const UNSIGNED: u8 = 0xC7;
const FLOAT32: u8 = 0xC8;
const FLOAT64: u8 = 0xC9;
const TEXT8: u8 = 0xCA;
const TEXT32: u8 = 0xCB;
const ARRAY8: u8 = 0xD0;
const ARRAY32: u8 = 0xD1;
const OBJECT8: u8 = 0xD2;
const OBJECT32: u8 = 0xD3;

const INTEGER_MAX: u8 = 0x7F;
const TEXT: u8 = 0x80;
const TEXT_MAX: usize = 0x3F;

/// An array without elements, and an object without members.
pub const EMPTY_ARRAY: &[u8] = &[ARRAY8, 0, 0];
pub const EMPTY_OBJECT: &[u8] = &[OBJECT8, 0, 0];

/// Containers within each other that a document may have: the limit of recursion everywhere. A text has fewer
/// (`text`).
pub const DEPTH_MAX: usize = 512;

const SHORT: usize = 3;
const LONG: usize = 9;

/// A number of JSON. Integers and floats are different: `1` and `1.0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JsonNumber {
    Integer(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
    Float(f64),
}

impl JsonNumber {
    pub fn of_unsigned(number: u64) -> JsonNumber {
        i64::try_from(number).map_or(JsonNumber::Unsigned(number), JsonNumber::Integer)
    }

    pub fn as_f64(self) -> f64 {
        match self {
            JsonNumber::Integer(number) => number as f64,
            JsonNumber::Unsigned(number) => number as f64,
            JsonNumber::Float(number) => number,
        }
    }

    pub fn put(self, out: &mut Vec<u8>) {
        match self {
            JsonNumber::Integer(number) => put_integer(out, number),
            JsonNumber::Unsigned(number) => {
                out.push(UNSIGNED);
                out.extend_from_slice(&number.to_le_bytes());
            }
            JsonNumber::Float(number) => put_float(out, number),
        }
    }
}

fn put_integer(out: &mut Vec<u8>, number: i64) {
    if let Ok(small) = u8::try_from(number)
        && small <= INTEGER_MAX
    {
        return out.push(small);
    }
    let bytes = number.to_le_bytes();
    let (tag, length) = match number {
        -0x80..=0x7F => (INT8, 1),
        -0x8000..=0x7FFF => (INT16, 2),
        -0x8000_0000..=0x7FFF_FFFF => (INT32, 4),
        _ => (INT64, 8),
    };
    out.push(tag);
    out.extend_from_slice(&bytes[..length]);
}

fn put_float(out: &mut Vec<u8>, number: f64) {
    let short = number as f32;
    if f64::from(short).to_bits() == number.to_bits() {
        out.push(FLOAT32);
        out.extend_from_slice(&short.to_le_bytes());
    } else {
        out.push(FLOAT64);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

pub fn put_boolean(out: &mut Vec<u8>, boolean: bool) {
    out.push(if boolean { TRUE } else { FALSE });
}

/// The header of a text of this many bytes.
pub fn put_text_header(out: &mut Vec<u8>, length: usize) {
    if length <= TEXT_MAX {
        out.push(TEXT | length as u8);
    } else if let Ok(length) = u8::try_from(length) {
        out.extend_from_slice(&[TEXT8, length]);
    } else {
        out.push(TEXT32);
        out.extend_from_slice(&length32(length).to_le_bytes());
    }
}

#[inline]
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_text_header(out, text.len());
    out.extend_from_slice(text);
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("a request is smaller than 4 GiB")
}

/// A container that is being written.
#[derive(Clone, Copy)]
pub struct OpenContainer(usize);

/// Begins a container. Its items follow, then [`close`].
pub fn open(out: &mut Vec<u8>) -> OpenContainer {
    let at = out.len();
    out.extend_from_slice(&[0; LONG]);
    OpenContainer(at)
}

impl OpenContainer {
    /// Where the items begin.
    pub fn body(self) -> usize {
        self.0 + LONG
    }
}

/// Ends a container of `count` items.
pub fn close(out: &mut Vec<u8>, opened: OpenContainer, is_object: bool, count: usize) {
    let body = out.len() - opened.body();
    let mut bytes = [0; LONG];
    let header = header(&mut bytes, is_object, body, count);
    out[opened.0..opened.0 + header.len()].copy_from_slice(header);
    if header.len() == SHORT {
        out.copy_within(opened.body().., opened.0 + SHORT);
        out.truncate(opened.0 + SHORT + body);
    }
}

/// The header of a container with such a body.
fn header(bytes: &mut [u8; LONG], is_object: bool, body: usize, count: usize) -> &[u8] {
    if let (Ok(body), Ok(count)) = (u8::try_from(body), u8::try_from(count)) {
        bytes[..SHORT].copy_from_slice(&[if is_object { OBJECT8 } else { ARRAY8 }, body, count]);
        return &bytes[..SHORT];
    }
    bytes[0] = if is_object { OBJECT32 } else { ARRAY32 };
    bytes[1..5].copy_from_slice(&length32(body).to_le_bytes());
    bytes[5..].copy_from_slice(&length32(count).to_le_bytes());
    bytes
}

/// The bytes of a container with such a body, header included.
pub fn container_size(body: usize, count: usize) -> usize {
    let is_short = body <= usize::from(u8::MAX) && count <= usize::from(u8::MAX);
    body + if is_short { SHORT } else { LONG }
}

/// The bytes of a text of this length.
pub fn text_size(length: usize) -> usize {
    const HEADER32: usize = 5;
    let header = match u8::try_from(length) {
        Ok(short) if usize::from(short) <= TEXT_MAX => 1,
        Ok(_) => 2,
        Err(_) => HEADER32,
    };
    header + length
}

/// A container's header, and where its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerHeader {
    pub is_object: bool,
    /// The length of the header.
    pub bytes: usize,
    /// The length of the body.
    pub body: usize,
    pub count: usize,
}

impl ContainerHeader {
    /// The header at the start of a value; `None` if it is no container.
    #[inline]
    pub fn of(value: &[u8]) -> Option<ContainerHeader> {
        let is_object = matches!(value[0], OBJECT8 | OBJECT32);
        match value[0] {
            ARRAY8 | OBJECT8 => Some(ContainerHeader {
                is_object,
                bytes: SHORT,
                body: value[1].into(),
                count: value[2].into(),
            }),
            ARRAY32 | OBJECT32 => Some(ContainerHeader {
                is_object,
                bytes: LONG,
                body: read32(&value[1..]),
                count: read32(&value[5..]),
            }),
            _ => None,
        }
    }

    /// Replaces the header at `at` by this one, whose body is already there; returns by how much the header
    /// has grown.
    pub fn replace(self, buffer: &mut Vec<u8>, at: usize) -> isize {
        let mut bytes = [0; LONG];
        let header = header(&mut bytes, self.is_object, self.body, self.count);
        if header.len() == self.bytes {
            buffer[at..at + header.len()].copy_from_slice(header);
        } else {
            splice(buffer, at..at + self.bytes, header);
        }
        header.len() as isize - self.bytes as isize
    }

    /// The whole value's length.
    pub fn size(self) -> usize {
        self.bytes + self.body
    }
}

/// Replaces a range of a buffer.
pub fn splice(buffer: &mut Vec<u8>, range: std::ops::Range<usize>, by: &[u8]) {
    let tail = buffer.len() - range.end;
    if by.len() > range.len() {
        let more = by.len() - range.len();
        buffer.reserve_exact(more);
        buffer.resize(buffer.len() + more, 0);
    }
    buffer.copy_within(range.end..range.end + tail, range.start + by.len());
    buffer[range.start..range.start + by.len()].copy_from_slice(by);
    buffer.truncate(range.start + by.len() + tail);
}

#[inline]
fn read32(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

#[inline]
fn read64(bytes: &[u8]) -> [u8; 8] {
    bytes[..8].try_into().expect("eight bytes")
}

/// The length of the value at the start of these bytes.
#[inline]
pub fn size(value: &[u8]) -> usize {
    let tag = value[0];
    match tag {
        0..=INTEGER_MAX | NULL | FALSE | TRUE => 1,
        TEXT..NULL => 1 + usize::from(tag - TEXT),
        INT8 => 2,
        INT16 => 3,
        INT32 | FLOAT32 => 5,
        INT64 | UNSIGNED | FLOAT64 => 9,
        TEXT8 => 2 + usize::from(value[1]),
        TEXT32 => 5 + read32(&value[1..]),
        _ => ContainerHeader::of(value).expect("a value that was checked").size(),
    }
}

/// The bytes of a text and the length of the value; `None` if the value is none.
#[inline]
pub fn text(value: &[u8]) -> Option<(&[u8], usize)> {
    let (start, length) = match value[0] {
        tag @ TEXT..NULL => (1, usize::from(tag - TEXT)),
        TEXT8 => (2, value[1].into()),
        TEXT32 => (5, read32(&value[1..])),
        _ => return None,
    };
    Some((&value[start..start + length], start + length))
}

/// The number that the value is; `None` if it is none.
#[inline]
pub fn number(value: &[u8]) -> Option<JsonNumber> {
    let rest = &value[1..];
    Some(match value[0] {
        tag @ 0..=INTEGER_MAX => JsonNumber::Integer(tag.into()),
        INT8 => JsonNumber::Integer((rest[0] as i8).into()),
        INT16 => JsonNumber::Integer(i16::from_le_bytes([rest[0], rest[1]]).into()),
        INT32 => JsonNumber::Integer(i32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]).into()),
        INT64 => JsonNumber::Integer(i64::from_le_bytes(read64(rest))),
        UNSIGNED => JsonNumber::Unsigned(u64::from_le_bytes(read64(rest))),
        FLOAT32 => JsonNumber::Float(f32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]).into()),
        FLOAT64 => JsonNumber::Float(f64::from_le_bytes(read64(rest))),
        _ => return None,
    })
}

/// The length of the value at the start of these bytes, if it is whole and well-formed and has at most
/// `depth` containers within each other.
pub fn check(bytes: &[u8], depth: usize) -> Option<usize> {
    let tag = *bytes.first()?;
    let fixed = match tag {
        0..=INTEGER_MAX | NULL | FALSE | TRUE => return Some(1),
        TEXT..NULL => return check_text(bytes, 1, usize::from(tag - TEXT)),
        TEXT8 => return check_text(bytes, 2, (*bytes.get(1)?).into()),
        TEXT32 => return check_text(bytes, 5, read32(bytes.get(1..5)?)),
        INT8 => 2,
        INT16 => 3,
        INT32 | FLOAT32 => 5,
        INT64 | UNSIGNED | FLOAT64 => 9,
        ARRAY8 | OBJECT8 => SHORT,
        ARRAY32 | OBJECT32 => LONG,
        _ => return None,
    };
    let whole = bytes.get(..fixed)?;
    if let Some(header) = ContainerHeader::of(whole) {
        let body = bytes.get(header.bytes..)?.get(..header.body)?;
        return check_items(body, header, depth.checked_sub(1)?).then(|| header.size());
    }
    let is_finite = !matches!(number(whole), Some(JsonNumber::Float(float)) if !float.is_finite());
    is_finite.then_some(fixed)
}

#[inline]
fn check_text(bytes: &[u8], start: usize, length: usize) -> Option<usize> {
    let text = bytes.get(start..)?.get(..length)?;
    std::str::from_utf8(text).ok().map(|_| start + length)
}

fn check_items(body: &[u8], header: ContainerHeader, depth: usize) -> bool {
    check_run(body, header.is_object, depth) == Some(header.count)
}

/// The number of items that these bytes consist of, if all are well-formed: elements, or names and values in
/// turn.
pub fn check_run(mut run: &[u8], is_object: bool, depth: usize) -> Option<usize> {
    let mut count = 0;
    while !run.is_empty() {
        if is_object {
            let name = check(run, 0)?;
            text(run)?;
            run = &run[name..];
        }
        run = &run[check(run, depth)?..];
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_the_shortest_form() {
        for (number, size) in [
            (JsonNumber::Integer(0), 1),
            (JsonNumber::Integer(127), 1),
            (JsonNumber::Integer(128), 3),
            (JsonNumber::Integer(-1), 2),
            (JsonNumber::Integer(-128), 2),
            (JsonNumber::Integer(-129), 3),
            (JsonNumber::Integer(40_000), 5),
            (JsonNumber::Integer(i64::MIN), 9),
            (JsonNumber::Unsigned(u64::MAX), 9),
            (JsonNumber::Float(1.5), 5),
            (JsonNumber::Float(-0.0), 5),
            (JsonNumber::Float(0.1), 9),
            (JsonNumber::Float(1e300), 9),
        ] {
            let mut bytes = Vec::new();
            number.put(&mut bytes);
            assert_eq!(super::number(&bytes), Some(number));
            assert_eq!((bytes.len(), super::size(&bytes), check(&bytes, 0)), (size, size, Some(size)));
        }
    }

    #[test]
    fn texts_and_containers_around_their_bounds() {
        for length in [0, 1, 63, 64, 255, 256, 70_000] {
            let mut bytes = Vec::new();
            put_text(&mut bytes, &vec![b'a'; length]);
            assert_eq!(text(&bytes), Some((&vec![b'a'; length][..], bytes.len())));
            assert_eq!(check(&bytes, 0), Some(bytes.len()));
            let opened = open(&mut bytes);
            (0..length).for_each(|_| JsonNumber::Integer(1).put(&mut bytes));
            let at = opened.0;
            close(&mut bytes, opened, false, length);
            let header = ContainerHeader::of(&bytes[at..]).expect("an array");
            assert_eq!((header.body, header.count, header.size()), (length, length, bytes.len() - at));
            assert_eq!(header.bytes, if length <= 255 { SHORT } else { LONG });
            assert_eq!(check(&bytes[at..], 1), Some(header.size()));
            assert_eq!(check(&bytes[at..], 0), None, "too deep");
        }
    }

    #[test]
    fn what_is_cut_off_or_wrong_is_refused() {
        let mut whole = Vec::new();
        let opened = open(&mut whole);
        put_text(&mut whole, b"name");
        JsonNumber::Float(0.1).put(&mut whole);
        close(&mut whole, opened, true, 1);
        assert_eq!(check(&whole, 1), Some(whole.len()));
        for length in 0..whole.len() {
            assert_eq!(check(&whole[..length], 1), None);
        }
        for (at, byte) in [(0, 0xFF), (1, 3), (2, 2), (3, 0x05), (4, 0xFF), (8, 0xCC)] {
            let mut wrong = whole.clone();
            wrong[at] = byte;
            assert_eq!(check(&wrong, 1), None, "{at}");
        }
        assert_eq!(check(&[&[FLOAT64][..], &f64::NAN.to_le_bytes()].concat(), 0), None);
    }
}
