//! FORMAT EXPAND: values with their types instead of their text. The text is a JSON list that a document's
//! type has written; it is read twice, because a reply has the length of a list before its elements.
//!
//! Integral numbers are integers, others doubles; booleans are the integers 1 and 0, as in RediSearch.

use engramdb_engine::command::Reply;

/// Writes the values of a JSON text. A text that is no JSON is written as it is.
pub fn write_values(reply: &mut dyn Reply, text: &[u8]) {
    let mut counted = Counting::default();
    match scan(text, &mut |part| counted.add(&part)) {
        Some(()) if counted.open.is_empty() && counted.values == 1 => {
            let mut lengths = counted.lengths.into_iter();
            scan(text, &mut |part| write_part(reply, &part, &mut lengths));
        }
        _ => reply.bulk(text),
    }
}

/// A number with its type.
pub fn write_number(reply: &mut dyn Reply, number: f64) {
    let integer = number as i64;
    // The largest integer that is also a double without loss is below 2^63.
    if integer as f64 == number && integer != i64::MAX {
        reply.integer(integer);
    } else {
        reply.double(number);
    }
}

enum Part<'t> {
    Open {
        is_object: bool,
    },
    Close {
        is_object: bool,
    },
    /// The text between the quotes.
    Text(&'t [u8]),
    Number(&'t [u8]),
    Boolean(bool),
    Null,
}

/// The lengths of lists and objects, in the order in which they open.
#[derive(Default)]
struct Counting {
    lengths: Vec<Length>,
    /// The open ones: places in `lengths`.
    open: Vec<usize>,
    /// Values outside of all others.
    values: usize,
}

struct Length {
    is_object: bool,
    /// Elements; of an object the names too.
    parts: usize,
}

impl Counting {
    /// False if this cannot come here.
    fn add(&mut self, part: &Part<'_>) -> bool {
        if let Part::Close { is_object } = *part {
            let closed = self.open.pop().map(|place| &self.lengths[place]);
            return closed.is_some_and(|length| {
                length.is_object == is_object && (!is_object || length.parts.is_multiple_of(2))
            });
        }
        match self.open.last() {
            Some(&place) => {
                let length = &mut self.lengths[place];
                let is_name = length.is_object && length.parts.is_multiple_of(2);
                if is_name && !matches!(part, Part::Text(_)) {
                    return false;
                }
                length.parts += 1;
            }
            None => self.values += 1,
        }
        if let Part::Open { is_object } = *part {
            self.open.push(self.lengths.len());
            self.lengths.push(Length { is_object, parts: 0 });
        }
        true
    }
}

fn write_part(reply: &mut dyn Reply, part: &Part<'_>, lengths: &mut impl Iterator<Item = Length>) -> bool {
    match *part {
        Part::Open { .. } => match lengths.next() {
            Some(Length { is_object: true, parts }) => reply.map(parts / 2),
            Some(Length { parts, .. }) => reply.array(parts),
            None => return false,
        },
        Part::Close { .. } => {}
        Part::Text(text) => reply.bulk(&unescaped(text)),
        Part::Number(text) => match std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
            Some(number) => write_number(reply, number),
            None => reply.bulk(text),
        },
        Part::Boolean(boolean) => reply.integer(i64::from(boolean)),
        Part::Null => reply.null(),
    }
    true
}

/// Calls `each` with the parts of a text, until it returns false. `None` if there was something else.
fn scan<'t>(text: &'t [u8], each: &mut dyn FnMut(Part<'t>) -> bool) -> Option<()> {
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let (part, length) = match first {
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                rest = after;
                continue;
            }
            b'[' | b'{' => (Part::Open { is_object: *first == b'{' }, 1),
            b']' | b'}' => (Part::Close { is_object: *first == b'}' }, 1),
            b'"' => {
                let end = end_of_text(after)?;
                (Part::Text(&after[..end]), end + 2)
            }
            b't' if rest.starts_with(b"true") => (Part::Boolean(true), 4),
            b'f' if rest.starts_with(b"false") => (Part::Boolean(false), 5),
            b'n' if rest.starts_with(b"null") => (Part::Null, 4),
            b'-' | b'0'..=b'9' => {
                let is_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                let length = rest.iter().position(|byte| !is_number(byte)).unwrap_or(rest.len());
                (Part::Number(&rest[..length]), length)
            }
            _ => return None,
        };
        if !each(part) {
            return None;
        }
        rest = &rest[length..];
    }
    Some(())
}

/// Where the quote is that ends a text.
fn end_of_text(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let [escaped, after @ ..] = rest else { break };
        rest = after;
        match escaped {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (character, after) = character(rest);
                rest = after;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(*other),
        }
    }
    out
}

/// The character of one or two escapes of four digits, of which the first has begun, and what follows.
fn character(text: &[u8]) -> (char, &[u8]) {
    let unit = |text: &[u8]| {
        let digits = text.first_chunk::<4>()?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let Some(first) = unit(text) else { return (char::REPLACEMENT_CHARACTER, text) };
    let rest = &text[4..];
    if let (0xd800..=0xdbff, Some(after)) = (first, rest.strip_prefix(b"\\u"))
        && let Some(second @ 0xdc00..=0xdfff) = unit(after)
    {
        let both = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER), &after[4..]);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), rest)
}

#[cfg(test)]
mod tests;
