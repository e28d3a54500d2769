//! Reads JSON text into the packed form. What it refuses, and the texts and places of errors, are those of
//! serde_json, which RedisJSON uses.

use crate::packed::{self, JsonNumber};
use engramdb_engine::command::CommandError;
use engramdb_engine::hashing::HashMap;
use std::fmt;
use std::ops::Range;

/// A text has fewer containers within each other than this, as with serde_json.
const DEPTH_MAX: usize = 128;
/// In objects of at most this many members, repeated names are found by comparing all pairs.
const PAIRS_MAX: usize = 24;

/// Why a text is no JSON, and where: the line from 1, and the number of bytes in it up to there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub cause: &'static str,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.cause, self.line, self.column)
    }
}

impl From<ParseError> for CommandError {
    fn from(error: ParseError) -> CommandError {
        CommandError::new(error.to_string())
    }
}

/// Appends the packed form of a text, which must be UTF-8. Returns how many containers are within each other.
pub fn parse(text: &str, out: &mut Vec<u8>) -> Result<usize, ParseError> {
    let mut parser = Parser {
        text: text.as_bytes(),
        at: 0,
        out,
        names: Vec::new(),
        scratch: Vec::new(),
        depth: 0,
        deepest: 0,
    };
    parser.value()?;
    match parser.peek() {
        None => Ok(parser.deepest),
        Some(_) => Err(parser.peeked("trailing characters")),
    }
}

struct Parser<'t, 'o> {
    text: &'t [u8],
    at: usize,
    out: &'o mut Vec<u8>,
    /// Hashes of the names of all objects that are open.
    names: Vec<u64>,
    /// A string with escapes.
    scratch: Vec<u8>,
    depth: usize,
    deepest: usize,
}

impl Parser<'_, '_> {
    /// The next byte that is no white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// An error at what was read last.
    #[cold]
    fn error(&self, cause: &'static str) -> ParseError {
        let read = &self.text[..self.at.min(self.text.len())];
        let start = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |line_end| line_end + 1);
        let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
        ParseError { cause, line, column: read.len() - start }
    }

    /// An error at the byte that comes next.
    #[cold]
    fn peeked(&mut self, cause: &'static str) -> ParseError {
        self.at = (self.at + 1).min(self.text.len());
        self.error(cause)
    }

    fn value(&mut self) -> Result<(), ParseError> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(|_| ())
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.container(true),
            Some(b'[') => self.container(false),
            Some(b'n') => self.word("null", packed::NULL),
            Some(b't') => self.word("true", packed::TRUE),
            Some(b'f') => self.word("false", packed::FALSE),
            Some(_) => Err(self.peeked("expected value")),
            None => Err(self.peeked("EOF while parsing a value")),
        }
    }

    fn word(&mut self, word: &str, tag: u8) -> Result<(), ParseError> {
        for expected in word.bytes() {
            let Some(&byte) = self.text.get(self.at) else {
                return Err(self.error("EOF while parsing a value"));
            };
            self.at += 1;
            if byte != expected {
                return Err(self.error("expected ident"));
            }
        }
        self.out.push(tag);
        Ok(())
    }

    fn container(&mut self, is_object: bool) -> Result<(), ParseError> {
        if self.depth + 1 == DEPTH_MAX {
            return Err(self.peeked("recursion limit exceeded"));
        }
        self.at += 1;
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let opened = packed::open(self.out);
        let count = if is_object { self.members(opened.body())? } else { self.elements()? };
        packed::close(self.out, opened, is_object, count);
        self.depth -= 1;
        Ok(())
    }

    fn elements(&mut self) -> Result<usize, ParseError> {
        let mut count = 0;
        loop {
            match self.peek() {
                None => return Err(self.peeked("EOF while parsing a list")),
                Some(b']') => {
                    self.at += 1;
                    return Ok(count);
                }
                Some(b',') if count > 0 => {
                    self.at += 1;
                    if self.peek() == Some(b']') {
                        return Err(self.peeked("trailing comma"));
                    }
                }
                Some(_) if count > 0 => return Err(self.peeked("expected `,` or `]`")),
                Some(_) => {}
            }
            self.value()?;
            count += 1;
        }
    }

    fn members(&mut self, body: usize) -> Result<usize, ParseError> {
        let first_name = self.names.len();
        let mut count = 0;
        loop {
            match self.peek() {
                None => return Err(self.peeked("EOF while parsing an object")),
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                Some(b',') if count > 0 => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'}') => return Err(self.peeked("trailing comma")),
                        None => return Err(self.peeked("EOF while parsing a value")),
                        _ => {}
                    }
                }
                Some(_) if count > 0 => return Err(self.peeked("expected `,` or `}`")),
                Some(_) => {}
            }
            if self.peek() != Some(b'"') {
                return Err(self.peeked("key must be a string"));
            }
            self.at += 1;
            let name = self.string()?;
            self.names.push(hash(&self.out[name]));
            match self.peek() {
                Some(b':') => self.at += 1,
                Some(_) => return Err(self.peeked("expected `:`")),
                None => return Err(self.peeked("EOF while parsing an object")),
            }
            self.value()?;
            count += 1;
        }
        if has_equal(&mut self.names[first_name..]) {
            count = keep_last(self.out, body);
        }
        self.names.truncate(first_name);
        Ok(count)
    }

    /// Reads a string behind its quote. Returns where its content is.
    #[inline]
    fn string(&mut self) -> Result<Range<usize>, ParseError> {
        let start = self.at;
        self.at += plain(&self.text[start..]);
        if self.text.get(self.at) == Some(&b'"') {
            packed::put_text(self.out, &self.text[start..self.at]);
            let end = self.out.len();
            let length = self.at - start;
            self.at += 1;
            return Ok(end - length..end);
        }
        self.escaped(start)
    }

    fn escaped(&mut self, start: usize) -> Result<Range<usize>, ParseError> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.text[start..self.at]);
        loop {
            let start = self.at;
            self.at += plain(&self.text[start..]);
            self.scratch.extend_from_slice(&self.text[start..self.at]);
            let byte = self.text.get(self.at).copied();
            if byte.is_none() {
                return Err(self.error("EOF while parsing a string"));
            }
            self.at += 1;
            match byte {
                Some(b'"') => {
                    packed::put_text(self.out, &self.scratch);
                    let end = self.out.len();
                    return Ok(end - self.scratch.len()..end);
                }
                Some(b'\\') => self.escape()?,
                _ => {
                    let cause = "control character (\\u0000-\\u001F) found while parsing a string";
                    return Err(self.error(cause));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<(), ParseError> {
        let Some(&byte) = self.text.get(self.at) else {
            return Err(self.error("EOF while parsing a string"));
        };
        self.at += 1;
        let byte = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.unicode()?;
                self.scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error("invalid escape")),
        };
        self.scratch.push(byte);
        Ok(())
    }

    fn unicode(&mut self) -> Result<char, ParseError> {
        let first = self.four_digits()?;
        let code = match first {
            0xDC00..=0xDFFF => return Err(self.error("lone leading surrogate in hex escape")),
            0xD800..=0xDBFF => {
                for expected in [b'\\', b'u'] {
                    let Some(&byte) = self.text.get(self.at) else {
                        return Err(self.error("EOF while parsing a string"));
                    };
                    self.at += 1;
                    if byte != expected {
                        return Err(self.error("unexpected end of hex escape"));
                    }
                }
                let second = self.four_digits()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(self.error("lone leading surrogate in hex escape"));
                }
                0x1_0000 + ((first - 0xD800) << 10 | (second - 0xDC00))
            }
            code => code,
        };
        Ok(char::from_u32(code).expect("surrogates are paired"))
    }

    fn four_digits(&mut self) -> Result<u32, ParseError> {
        let Some(digits) = self.text.get(self.at..self.at + 4) else {
            self.at = self.text.len();
            return Err(self.error("EOF while parsing a string"));
        };
        self.at += 4;
        let digit = |code: Option<u32>, byte: &u8| Some(code? << 4 | char::from(*byte).to_digit(16)?);
        digits.iter().fold(Some(0), digit).ok_or_else(|| self.error("invalid escape"))
    }

    fn number(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        let is_negative = self.text[start] == b'-';
        self.at += usize::from(is_negative);
        let digits = self.at;
        let mut significand = Some(0_u64);
        while let Some(byte @ b'0'..=b'9') = self.text.get(self.at).copied() {
            let digit = u64::from(byte - b'0');
            significand = significand
                .and_then(|number| number.checked_mul(10))
                .and_then(|number| number.checked_add(digit));
            self.at += 1;
        }
        if self.at == digits {
            let is_over = self.at == self.text.len();
            self.at += usize::from(!is_over);
            return Err(self.error(if is_over { "EOF while parsing a value" } else { "invalid number" }));
        }
        if self.text[digits] == b'0' && self.at > digits + 1 {
            self.at = digits + 1;
            return Err(self.peeked("invalid number"));
        }
        let mut is_float = false;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            is_float = true;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            is_float = true;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        let integer = significand.filter(|_| !is_float).and_then(|significand| match is_negative {
            false => Some(JsonNumber::of_unsigned(significand)),
            true if significand == 0 => None,
            true => 0_i64.checked_sub_unsigned(significand).map(JsonNumber::Integer),
        });
        let number = match integer {
            Some(number) => number,
            None => self.float(start)?,
        };
        number.put(self.out);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.text.get(self.at) {
            self.at += 1;
        }
        if self.at > start {
            return Ok(());
        }
        if self.at == self.text.len() {
            return Err(self.error("EOF while parsing a value"));
        }
        self.at += 1;
        Err(self.error("invalid number"))
    }

    fn float(&mut self, start: usize) -> Result<JsonNumber, ParseError> {
        let text = std::str::from_utf8(&self.text[start..self.at]).expect("digits are ASCII");
        let number: f64 = text.parse().expect("a float is written so");
        if number.is_finite() {
            Ok(JsonNumber::Float(number))
        } else {
            Err(self.error("number out of range"))
        }
    }
}

/// The number of bytes at the beginning of a string's content that need no decoding.
#[inline]
pub fn plain(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(chunk) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        // The highest bit of each byte that is below 0x20, or zero in one of the others. A borrow can mark
        // bytes behind the first one only.
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        let zero = quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash;
        let found = (low | zero) & HIGH;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = text.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

/// A quick hash: names with equal hashes are compared.
#[inline]
fn hash(name: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    name.chunks(8).fold(name.len() as u64, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR)
    })
}

fn has_equal(hashes: &mut [u64]) -> bool {
    if hashes.len() <= PAIRS_MAX {
        return (1..hashes.len()).any(|at| hashes[..at].contains(&hashes[at]));
    }
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair[0] == pair[1])
}

/// Where names of an object come twice, the last value counts, in the place of the first. Returns how many
/// members are left.
#[cold]
fn keep_last(out: &mut Vec<u8>, body: usize) -> usize {
    let members = out.split_off(body);
    let mut places = HashMap::default();
    let mut kept: Vec<(&[u8], &[u8])> = Vec::new();
    let mut rest = &members[..];
    while !rest.is_empty() {
        let (name, behind) = rest.split_at(packed::size(rest));
        let (value, behind) = behind.split_at(packed::size(behind));
        rest = behind;
        let place = *places.entry(name).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(member) => member.1 = value,
            None => kept.push((name, value)),
        }
    }
    for (name, value) in &kept {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
    kept.len()
}
