//! Elements one after the other in a run of bytes: what small lists and sets, and the blocks of large lists,
//! consist of.
//!
//! ```text
//! head    u8   0x00..=0x7F  the integer 0 to 127
//!              0x80..=0xDF  a string of 0 to 95 bytes follows
//!              0xE0..=0xE4  an integer of 1, 2, 3, 4 or 8 bytes follows, little-endian
//!              0xE5..=0xE7  a length of 1, 2 or 4 bytes, little-endian, and a string follow
//! content
//! back         the bytes of head and content: a u8 up to 254, or a u32 and the byte 0xFF
//! ```
//!
//! A word that is an integer's canonical text is that integer, in the fewest bytes; so equal words have equal
//! bytes, and [`Coded`] words are found by comparing these. `back` is what a walk from the end reads. The
//! layout is never written to a file, so it has no version.

use super::number::parse_integer;

const STRING: u8 = 0x80;
const SHORT_BYTES_MAX: usize = 95;
const INTEGER: u8 = 0xE0;
const LONG: u8 = 0xE5;
/// The byte at the end of a long `back`.
const IS_LONG: u8 = 0xFF;
/// The sizes of integers that follow their head, and of lengths that follow theirs.
const INTEGER_BYTES: [usize; 5] = [1, 2, 3, 4, 8];
const LENGTH_BYTES: [usize; 3] = [1, 2, 4];
/// The most bytes of head and length or integer.
const HEAD_BYTES_MAX: usize = 9;
/// Texts beyond this length are no integers.
const INTEGER_TEXT_BYTES_MAX: usize = 20;

/// One of the two ends of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListEnd {
    Front = 0,
    Back = 1,
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowElement<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
}

impl<'a> RowElement<'a> {
    /// Calls `with` on the element's text.
    #[inline]
    pub fn with_bytes<R>(self, with: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            RowElement::Integer(integer) => with(itoa::Buffer::new().format(integer).as_bytes()),
            RowElement::Bytes(bytes) => with(bytes),
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.with_bytes(<[u8]>::to_vec)
    }

    /// The length of the text, in bytes.
    pub fn text_bytes(self) -> usize {
        self.with_bytes(<[u8]>::len)
    }
}

/// A word as a row has it.
#[derive(Clone, Copy)]
pub struct Coded<'w> {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    content: &'w [u8],
}

impl<'w> Coded<'w> {
    #[inline]
    pub fn of(word: &'w [u8]) -> Coded<'w> {
        let starts_integer = word.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
        if starts_integer
            && word.len() <= INTEGER_TEXT_BYTES_MAX
            && let Some(integer) = parse_integer(word)
        {
            return Coded::integer(integer);
        }
        Coded::string(word)
    }

    pub fn of_element(element: RowElement<'w>) -> Coded<'w> {
        match element {
            RowElement::Integer(integer) => Coded::integer(integer),
            RowElement::Bytes(bytes) => Coded::string(bytes),
        }
    }

    fn integer(integer: i64) -> Coded<'w> {
        let mut head = [0; HEAD_BYTES_MAX];
        if (0..i64::from(STRING)).contains(&integer) {
            head[0] = integer as u8;
            return Coded { head, head_bytes: 1, content: &[] };
        }
        let fits =
            |bytes: usize| bytes == 8 || (-1 << (8 * bytes - 1)..1 << (8 * bytes - 1)).contains(&integer);
        let size = INTEGER_BYTES.iter().position(|&bytes| fits(bytes)).expect("8 bytes fit any");
        head[0] = INTEGER + size as u8;
        head[1..].copy_from_slice(&integer.to_le_bytes());
        Coded { head, head_bytes: 1 + INTEGER_BYTES[size] as u8, content: &[] }
    }

    fn string(content: &'w [u8]) -> Coded<'w> {
        let mut head = [0; HEAD_BYTES_MAX];
        let length = content.len();
        if length <= SHORT_BYTES_MAX {
            head[0] = STRING + length as u8;
            return Coded { head, head_bytes: 1, content };
        }
        let size = LENGTH_BYTES.iter().position(|bytes| length >> (8 * bytes) == 0);
        let size = size.expect("a word is below 4 GiB");
        head[0] = LONG + size as u8;
        head[1..].copy_from_slice(&(length as u64).to_le_bytes());
        Coded { head, head_bytes: 1 + LENGTH_BYTES[size] as u8, content }
    }

    /// The integer, if it is one.
    #[inline]
    pub fn as_integer(&self) -> Option<i64> {
        let is_integer = self.head[0] < STRING || (INTEGER..LONG).contains(&self.head[0]);
        is_integer.then(|| match read(&self.head, 0) {
            RowElement::Integer(integer) => integer,
            RowElement::Bytes(_) => unreachable!("its head is that of an integer"),
        })
    }

    fn body_bytes(&self) -> usize {
        usize::from(self.head_bytes) + self.content.len()
    }

    /// The bytes that it takes in a row.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.body_bytes() + back_bytes(self.body_bytes())
    }

    /// Writes it over the beginning of `out`.
    #[inline]
    pub fn write(&self, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(self.head_bytes.into());
        head.copy_from_slice(&self.head[..self.head_bytes.into()]);
        let (content, back) = rest.split_at_mut(self.content.len());
        content.copy_from_slice(self.content);
        let body = self.body_bytes();
        match back_bytes(body) {
            1 => back[0] = body as u8,
            _ => {
                back[..4].copy_from_slice(&(body as u32).to_le_bytes());
                back[4] = IS_LONG;
            }
        }
    }

    /// Whether it is the element at this offset.
    #[inline]
    pub fn is_at(&self, row: &[u8], offset: usize) -> bool {
        let (head, bytes) = (usize::from(self.head_bytes), &row[offset..]);
        bytes.len() > self.body_bytes()
            && bytes[..head] == self.head[..head]
            && bytes[head..head + self.content.len()] == *self.content
    }
}

#[inline]
fn back_bytes(body: usize) -> usize {
    if body < usize::from(IS_LONG) { 1 } else { 5 }
}

/// A number of `size` bytes, little-endian, and zeros.
#[inline]
fn number(bytes: &[u8], size: usize) -> u64 {
    let mut number = [0; 8];
    number[..size].copy_from_slice(&bytes[..size]);
    u64::from_le_bytes(number)
}

/// The bytes of head and length or integer, and of the string after them.
#[inline]
fn parts(row: &[u8], offset: usize) -> (usize, usize) {
    match row[offset] {
        ..STRING => (1, 0),
        head @ STRING..INTEGER => (1, usize::from(head - STRING)),
        head @ INTEGER..LONG => (1 + INTEGER_BYTES[usize::from(head - INTEGER)], 0),
        head => {
            let size = LENGTH_BYTES[usize::from(head - LONG)];
            (1 + size, number(&row[offset + 1..], size) as usize)
        }
    }
}

/// Where the next element begins.
#[inline]
pub fn after(row: &[u8], offset: usize) -> usize {
    let (head, content) = parts(row, offset);
    offset + head + content + back_bytes(head + content)
}

/// Where the element that ends here begins.
#[inline]
pub fn before(row: &[u8], end: usize) -> usize {
    match row[end - 1] {
        IS_LONG => end - 5 - number(&row[end - 5..], 4) as usize,
        body => end - 1 - usize::from(body),
    }
}

/// The element at an offset.
#[inline]
pub fn read(row: &[u8], offset: usize) -> RowElement<'_> {
    let (head, content) = parts(row, offset);
    match row[offset] {
        head @ ..STRING => RowElement::Integer(head.into()),
        INTEGER..LONG => {
            let size = head - 1;
            let unused = 64 - 8 * size as u32;
            let integer = number(&row[offset + 1..], size);
            RowElement::Integer((integer << unused) as i64 >> unused)
        }
        _ => RowElement::Bytes(&row[offset + head..offset + head + content]),
    }
}

/// The offset of the element with this index, of `count` elements; the end for `count` itself.
pub fn offset_of(row: &[u8], index: usize, count: usize) -> usize {
    if index <= count / 2 {
        (0..index).fold(0, |offset, _| after(row, offset))
    } else {
        (index..count).fold(row.len(), |end, _| before(row, end))
    }
}

/// The elements of a row, in order.
pub fn elements(row: &[u8]) -> impl Iterator<Item = RowElement<'_>> + Clone {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let element = (offset < row.len()).then(|| read(row, offset))?;
        offset = after(row, offset);
        Some(element)
    })
}

/// Inserts a word into a row.
pub fn insert(row: &mut Vec<u8>, offset: usize, word: &Coded<'_>) {
    let (bytes, end) = (word.bytes(), row.len());
    row.resize(end + bytes, 0);
    row.copy_within(offset..end, offset + bytes);
    word.write(&mut row[offset..offset + bytes]);
}

/// Removes up to `count` elements that are equal to a word, from one end on; `used` is the length of what
/// stays. Returns how many.
pub fn remove_equal(
    row: &mut [u8],
    used: &mut usize,
    (word, count): (&Coded<'_>, usize),
    from: ListEnd,
) -> usize {
    let mut found = Vec::new();
    match from {
        ListEnd::Front => {
            let mut offset = 0;
            while found.len() < count && offset < row.len() {
                if word.is_at(row, offset) {
                    found.push(offset);
                }
                offset = after(row, offset);
            }
        }
        ListEnd::Back => {
            let mut end = row.len();
            while found.len() < count && end > 0 {
                end = before(row, end);
                if word.is_at(row, end) {
                    found.push(end);
                }
            }
            found.reverse();
        }
    }
    let bytes = word.bytes();
    let mut target = found.first().copied().unwrap_or(row.len());
    for (at, &offset) in found.iter().enumerate() {
        let next = found.get(at + 1).copied().unwrap_or(row.len());
        row.copy_within(offset + bytes..next, target);
        target += next - offset - bytes;
    }
    *used = target;
    found.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_form_come_back_in_both_directions() {
        let mut words: Vec<Vec<u8>> =
            [0, 1, 94, 95, 96, 97, 252, 253, 254, 255, 256, 300, 65_535, 65_536, 70_000]
                .map(|length| vec![b'x'; length])
                .to_vec();
        for shift in 0..64 {
            for integer in [1i64 << shift, (1i64 << shift).wrapping_sub(1), -1i64 << shift] {
                words.push(integer.to_string().into_bytes());
                words.push(integer.wrapping_neg().to_string().into_bytes());
            }
        }
        words.extend(["01", "+1", "-", "-0", "1 ", "9223372036854775808"].map(|text| text.into()));
        let mut row = Vec::new();
        for word in &words {
            let end = row.len();
            insert(&mut row, end, &Coded::of(word));
        }
        let found: Vec<Vec<u8>> = elements(&row).map(RowElement::to_vec).collect();
        assert_eq!(found, words);
        let mut end = row.len();
        for (index, word) in words.iter().enumerate().rev() {
            end = before(&row, end);
            assert_eq!(read(&row, end).to_vec(), *word);
            assert_eq!(read(&row, end).text_bytes(), word.len());
            assert!(Coded::of(word).is_at(&row, end));
            assert!(!Coded::of(b"other").is_at(&row, end));
            assert_eq!(offset_of(&row, index, words.len()), end);
        }
        assert_eq!((end, offset_of(&row, words.len(), words.len())), (0, row.len()));
        let coded = |word: &'static [u8]| Coded::of(word).bytes();
        assert_eq!([coded(b"127"), coded(b"128"), coded(b"-1"), coded(b"40000")], [2, 4, 3, 5]);
        assert_eq!([coded(b""), coded(b"abc")], [2, 5]);
    }
}
