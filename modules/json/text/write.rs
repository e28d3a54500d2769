//! Writes values as JSON text: with the shortest numbers, and without escapes that are not necessary.

use crate::packed::JsonNumber;
use crate::value::{JsonNode, NodeContent};

/// What JSON.GET's options put between the parts of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout<'a> {
    pub indent: &'a [u8],
    pub newline: &'a [u8],
    pub space: &'a [u8],
    /// Where the buffer is longer than this, nothing more is written: the caller sees it by the length.
    pub most: usize,
}

impl Default for Layout<'_> {
    fn default() -> Self {
        Layout { indent: b"", newline: b"", space: b"", most: usize::MAX }
    }
}

/// Appends a value's text. `level` is how many containers are around it.
pub fn write(value: JsonNode<'_>, layout: Layout<'_>, level: usize, out: &mut Vec<u8>) {
    match value.content() {
        NodeContent::Null => out.extend_from_slice(b"null"),
        NodeContent::Boolean(true) => out.extend_from_slice(b"true"),
        NodeContent::Boolean(false) => out.extend_from_slice(b"false"),
        NodeContent::Number(number) => write_number(number, out),
        NodeContent::Text(text) => write_string(text, out),
        NodeContent::Array(items) => {
            out.push(b'[');
            let is_empty = items.len() == 0;
            for (number, (_, value)) in items.enumerate() {
                if out.len() > layout.most {
                    return;
                }
                begin_item(number, layout, level, out);
                write(value, layout, level + 1, out);
            }
            end_items(is_empty, layout, level, out);
            out.push(b']');
        }
        NodeContent::Object(items) => {
            out.push(b'{');
            let is_empty = items.len() == 0;
            for (number, (name, value)) in items.enumerate() {
                if out.len() > layout.most {
                    return;
                }
                begin_item(number, layout, level, out);
                write_string(name, out);
                out.push(b':');
                out.extend_from_slice(layout.space);
                write(value, layout, level + 1, out);
            }
            end_items(is_empty, layout, level, out);
            out.push(b'}');
        }
    }
}

impl Layout<'_> {
    /// Begins an item of a list at this level.
    pub fn begin_item(self, number: usize, level: usize, out: &mut Vec<u8>) {
        begin_item(number, self, level, out);
    }

    /// Ends a list at this level.
    pub fn end_items(self, is_empty: bool, level: usize, out: &mut Vec<u8>) {
        end_items(is_empty, self, level, out);
    }
}

#[inline]
fn begin_item(number: usize, layout: Layout<'_>, level: usize, out: &mut Vec<u8>) {
    if number > 0 {
        out.push(b',');
    }
    break_line(layout, level + 1, out);
}

#[inline]
fn end_items(is_empty: bool, layout: Layout<'_>, level: usize, out: &mut Vec<u8>) {
    if !is_empty {
        break_line(layout, level, out);
    }
}

#[inline]
fn break_line(layout: Layout<'_>, level: usize, out: &mut Vec<u8>) {
    if layout.newline.is_empty() && layout.indent.is_empty() {
        return;
    }
    out.extend_from_slice(layout.newline);
    if !layout.indent.is_empty() {
        let most = layout.most.saturating_sub(out.len()) / layout.indent.len() + 1;
        (0..level.min(most)).for_each(|_| out.extend_from_slice(layout.indent));
    }
}

pub fn write_number(number: JsonNumber, out: &mut Vec<u8>) {
    match number {
        JsonNumber::Integer(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        JsonNumber::Unsigned(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        JsonNumber::Float(number) => {
            let mut buffer = zmij::Buffer::new();
            let text = buffer.format_finite(number).as_bytes();
            // Only such numbers have a plus in front of their exponent, and RedisJSON writes none.
            if number.abs() < 1e15 {
                return out.extend_from_slice(text);
            }
            let plus = text.iter().position(|byte| *byte == b'+').unwrap_or(text.len());
            out.extend_from_slice(&text[..plus]);
            out.extend_from_slice(text.get(plus + 1..).unwrap_or_default());
        }
    }
}

/// Appends a text as a string of JSON.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, behind) = rest.split_at(super::parse::plain(rest));
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = behind.split_first() else { break };
        rest = behind;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out.push(b'"');
}
