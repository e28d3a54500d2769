//! Tokens of expressions. Each is the longest one that is possible; unknown punctuation is skipped.

/// A token, and where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExprToken<'t> {
    pub kind: ExprTokenKind<'t>,
    pub offset: usize,
    /// What an error shows: the last name, number or text up to here.
    pub near: &'t [u8],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExprTokenKind<'t> {
    Number(f64),
    /// With its quotes.
    Text(&'t [u8]),
    /// Without the `@`.
    Property(&'t [u8]),
    Symbol(&'t [u8]),
    /// One of `( ) , ! + - * / % ^ == != < <= > >= && ||`.
    Sign(&'static str),
    End,
}

/// Two characters before one.
const SIGNS: [&str; 18] =
    ["==", "!=", "<=", ">=", "&&", "||", "(", ")", ",", "!", "+", "-", "*", "/", "%", "^", "<", ">"];

pub struct ExprLexer<'t> {
    text: &'t [u8],
    position: usize,
    /// The last token's place, and the last name, number or text.
    offset: usize,
    near: &'t [u8],
}

impl<'t> ExprLexer<'t> {
    pub fn new(text: &'t [u8]) -> ExprLexer<'t> {
        ExprLexer { text, position: 0, offset: 0, near: b"" }
    }

    /// The next token. The text ends at the first byte that begins none, which is not ASCII.
    pub fn next(&mut self) -> ExprToken<'t> {
        while let Some(&byte) = self.text.get(self.position) {
            let offset = self.position;
            let rest = &self.text[offset..];
            if let Some((kind, length)) = token(rest) {
                self.position += length;
                self.offset = offset;
                match kind {
                    ExprTokenKind::Property(name) => self.near = name,
                    ExprTokenKind::Sign(_) => {}
                    _ => self.near = &rest[..length],
                }
                return ExprToken { kind, offset, near: self.near };
            }
            if !byte.is_ascii() {
                self.position = self.text.len();
                break;
            }
            self.position += 1;
        }
        ExprToken { kind: ExprTokenKind::End, offset: self.offset, near: self.near }
    }
}

/// The token at the start of the text, and its length.
fn token(text: &[u8]) -> Option<(ExprTokenKind<'_>, usize)> {
    if let Some(length) = number_length(text) {
        let digits = std::str::from_utf8(&text[..length]).expect("ASCII");
        return Some((ExprTokenKind::Number(digits.parse().expect("checked to be a number")), length));
    }
    match text {
        [b'@', name @ ..] => {
            let length = property_length(name);
            (length > 0).then(|| (ExprTokenKind::Property(&name[..length]), 1 + length))
        }
        // An apostrophe that opens no text counts as a sign here.
        [sign @ (b'+' | b'-' | b'\''), b'i', b'n', b'f', ..]
            if *sign != b'\'' || string_length(text).is_none() =>
        {
            let number = if *sign == b'-' { f64::NEG_INFINITY } else { f64::INFINITY };
            Some((ExprTokenKind::Number(number), 4))
        }
        [first, ..] if first.is_ascii_alphabetic() => {
            let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
            let length = text.iter().take_while(is_part).count();
            Some((ExprTokenKind::Symbol(&text[..length]), length))
        }
        [b'"' | b'\'', ..] => {
            let length = string_length(text)?;
            Some((ExprTokenKind::Text(&text[..length]), length))
        }
        _ => {
            let sign = SIGNS.iter().find(|sign| text.starts_with(sign.as_bytes()))?;
            Some((ExprTokenKind::Sign(sign), sign.len()))
        }
    }
}

fn number_length(text: &[u8]) -> Option<usize> {
    let digits =
        |from: usize| text[from.min(text.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let start = usize::from(text.first() == Some(&b'-'));
    let mut end = start + digits(start);
    if end == start {
        return None;
    }
    if text.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(text.get(end + 1) == Some(&b'-'));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    Some(end)
}

pub fn is_white_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Whether a backslash before the byte escapes it.
pub fn is_escapable(byte: u8) -> bool {
    byte.is_ascii_punctuation() || is_white_space(byte)
}

fn property_length(name: &[u8]) -> usize {
    let mut length = 0;
    while let Some(&byte) = name.get(length) {
        let is_plain =
            byte == b'_' || !(byte.is_ascii_punctuation() || byte.is_ascii_control() || is_white_space(byte));
        let is_escape = byte == b'\\' && name.get(length + 1).is_some_and(|&next| is_escapable(next));
        length += match (is_plain, is_escape) {
            (true, _) => 1,
            (_, true) => 2,
            _ => break,
        };
    }
    length
}

/// The length of a quoted text with its quotes. A backslash need not escape anything, so the text may end
/// after each quote; the longest one counts.
fn string_length(text: &[u8]) -> Option<usize> {
    let quote = text[0];
    let (mut longest, mut after_backslash) = (None, false);
    for (place, &byte) in text.iter().enumerate().skip(1) {
        if byte == quote {
            longest = Some(place + 1);
        }
        if (byte == quote || byte == b'\n') && !after_backslash {
            break;
        }
        after_backslash = byte == b'\\';
    }
    longest
}

/// A quoted text without its quotes and escapes.
pub fn unquoted(text: &[u8]) -> Vec<u8> {
    let inner = &text[1..text.len() - 1];
    let is_escape =
        |place: usize| inner[place] == b'\\' && inner.get(place + 1).is_some_and(|&next| is_escapable(next));
    (0..inner.len()).filter(|&place| !is_escape(place)).map(|place| inner[place]).collect()
}
