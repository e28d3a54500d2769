//! Splits an inline command into arguments, by Redis's quoting rules.
//!
//! * Arguments are separated by blanks: space, tab, carriage return, line feed; before an argument also
//!   vertical tab and form feed.
//! * `"..."` may contain blanks and the escapes `\n \r \t \b \a \xHH`; a backslash before another byte means
//!   that byte.
//! * `'...'` may contain blanks, and `\'` for a quote; other backslashes are ordinary bytes.
//! * A quote may open in the middle of an argument (`a"b c"` is `ab c`), but the closing one must end it.
//!
//! Source of the rules: `sdssplitargs` in Redis.

use std::ops::Range;

/// Appends the line's arguments to `unescaped` and their ranges there to `ranges`. `None` if quotes are
/// unbalanced; then both may contain parts of the line.
pub fn split(line: &[u8], unescaped: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) -> Option<()> {
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|&&byte| is_blank(byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(());
        }
        let start = unescaped.len();
        rest = argument(rest, unescaped)?;
        ranges.push(start..unescaped.len());
    }
}

/// Appends one argument to `out` and returns the rest of the line.
fn argument<'l>(mut rest: &'l [u8], out: &mut Vec<u8>) -> Option<&'l [u8]> {
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return Some(rest),
            b'"' => return double_quoted(after, out),
            b'\'' => return single_quoted(after, out),
            other => out.push(other),
        }
        rest = after;
    }
    Some(rest)
}

fn double_quoted<'l>(mut rest: &'l [u8], out: &mut Vec<u8>) -> Option<&'l [u8]> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return ends_argument(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex_digit(*high) << 4 | hex_digit(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    &other => other,
                });
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
            [] => return None,
        };
    }
}

fn single_quoted<'l>(mut rest: &'l [u8], out: &mut Vec<u8>) -> Option<&'l [u8]> {
    loop {
        rest = match rest {
            [b'\'', after @ ..] => return ends_argument(after),
            [b'\\', b'\'', after @ ..] => {
                out.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
            [] => return None,
        };
    }
}

/// The rest of the line after a closing quote, which must begin with a blank or be empty.
fn ends_argument(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|&byte| is_blank(byte)).then_some(rest)
}

/// C's isspace.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        other => (other | 0x20) - b'a' + 10,
    }
}
