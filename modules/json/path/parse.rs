//! The parser of JSONPath. It accepts what RedisJSON accepts, with its error texts, and also names outside
//! of ASCII without quotes.

use super::filter::{Comparison, PathFilter, Term};
use super::{JsonPath, Segment};
use crate::error;
use crate::packed::JsonNumber;
use engramdb_engine::command::CommandError;
use smallvec::{SmallVec, smallvec};
use std::borrow::Cow;

/// Parentheses, and paths in filters, within each other.
const DEPTH_MAX: usize = 32;
/// A longer path is refused: it is parsed under the lock.
const PATH_BYTES_MAX: usize = 32 << 10;
/// The patterns of one path: to compile them takes time and memory.
const PATTERNS_MAX: usize = 8;

const STEP: &str = "<string>, '*'";
const STRINGS: &str = "'<string>[,<string>,...]'";
const NUMBER: &str = "'<number>'";
const RANGE: &str = "['start:end:steps']";
const TERM: &str = "decimal, from_current, from_root, boolean_true, boolean_false, null";

pub fn parse(text: &str) -> Result<JsonPath<'_>, CommandError> {
    if text.len() > PATH_BYTES_MAX {
        return Err(error::PATH_TOO_LONG);
    }
    #[cfg(test)]
    PARSED.set(PARSED.get() + 1);
    let mut parser = Parser { text, at: 0, depth: 0, patterns: 0 };
    if !parser.eat(b"$") {
        return Err(parser.expected("query"));
    }
    let query = parser.path(false)?;
    match parser.peek() {
        None => Ok(query),
        Some(_) if query.is_root() => Err(parser.expected("EOI, root")),
        Some(_) => Err(parser.expected("EOI, '..'")),
    }
}

#[cfg(test)]
thread_local! {
    /// How many paths this thread has parsed.
    pub static PARSED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

struct Parser<'p> {
    text: &'p str,
    at: usize,
    depth: usize,
    patterns: usize,
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_`~+#%$^/:".contains(&byte) || byte >= 0x80
}

impl<'p> Parser<'p> {
    fn bytes(&self) -> &'p [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        while self.bytes().get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        self.bytes().get(self.at).copied()
    }

    fn eat(&mut self, token: &[u8]) -> bool {
        self.peek();
        let is_there = self.bytes()[self.at..].starts_with(token);
        self.at += if is_there { token.len() } else { 0 };
        is_there
    }

    fn expected(&self, what: &str) -> CommandError {
        self.expected_at(self.at, what)
    }

    #[cold]
    fn expected_at(&self, at: usize, what: &str) -> CommandError {
        let (text, behind) = self.text.split_at(at);
        let shown = match behind {
            "" => format!("{text} <<<<----"),
            _ => format!("{text} ---->>>> {behind}"),
        };
        CommandError::new(format!(
            "Error occurred on position {at}, \"{shown}\", expected one of the following: {what}."
        ))
    }

    fn deeper(&mut self) -> Result<(), CommandError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(error::FILTER_TOO_DEEP) } else { Ok(()) }
    }

    /// The steps behind `$` or `@`. In a filter the first one may be a name without a dot.
    fn path(&mut self, in_filter: bool) -> Result<JsonPath<'p>, CommandError> {
        let mut segments = SmallVec::new();
        if in_filter && let Some(name) = self.literal() {
            segments.push(Segment::Names(smallvec![Cow::Borrowed(name)]));
        } else if in_filter && self.eat(b"*") {
            segments.push(Segment::All);
        }
        loop {
            if self.eat(b"..") {
                segments.push(Segment::Descend);
                segments.push(if self.eat(b"[") { self.bracket()? } else { self.step()? });
            } else if self.eat(b".") {
                segments.push(if self.eat(b"[") { self.bracket()? } else { self.step()? });
            } else if self.eat(b"[") {
                segments.push(self.bracket()?);
            } else {
                return Ok(JsonPath { segments });
            }
        }
    }

    fn literal(&mut self) -> Option<&'p [u8]> {
        self.peek();
        let rest = &self.bytes()[self.at..];
        let length = rest.iter().position(|byte| !is_literal(*byte)).unwrap_or(rest.len());
        self.at += length;
        (length > 0).then(|| &rest[..length])
    }

    /// A name or `*` behind a dot.
    fn step(&mut self) -> Result<Segment<'p>, CommandError> {
        if let Some(name) = self.literal() {
            return Ok(Segment::Names(smallvec![Cow::Borrowed(name)]));
        }
        if self.eat(b"*") { Ok(Segment::All) } else { Err(self.expected(STEP)) }
    }

    /// What is in brackets, up to the closing one.
    fn bracket(&mut self) -> Result<Segment<'p>, CommandError> {
        let next = self.peek();
        let start = self.at;
        let (segment, others) = match next {
            Some(b'?') => {
                self.at += 1;
                self.deeper()?;
                let filter = self.filter()?;
                self.depth -= 1;
                if !self.eat(b"]") {
                    return Err(self.expected("and, or"));
                }
                return Ok(Segment::Filter(Box::new(filter)));
            }
            Some(b'*') => {
                self.at += 1;
                (Segment::All, format!("{STRINGS}, {NUMBER}, {RANGE}"))
            }
            Some(b'\'' | b'"') => (self.names(start)?, format!("{NUMBER}, {RANGE}")),
            Some(b'-' | b':' | b'0'..=b'9') => (self.numbers(start)?, RANGE.to_owned()),
            _ => return Err(self.nothing_in_bracket(start)),
        };
        if self.eat(b"]") { Ok(segment) } else { Err(self.expected_at(start, &others)) }
    }

    fn nothing_in_bracket(&self, at: usize) -> CommandError {
        self.expected_at(at, &format!("{STRINGS}, {NUMBER}, {RANGE}, '*'"))
    }

    fn names(&mut self, start: usize) -> Result<Segment<'p>, CommandError> {
        let mut names = SmallVec::new();
        loop {
            let before = self.at;
            match self.string() {
                Some(name) => names.push(name),
                None if names.is_empty() => return Err(self.nothing_in_bracket(start)),
                None => {
                    self.at = before;
                    return Err(self.expected_at(start, &format!("{NUMBER}, {RANGE}")));
                }
            }
            if !self.eat(b",") {
                return Ok(Segment::Names(names));
            }
        }
    }

    /// A string in quotes: a backslash is in front of a quote or another one.
    fn string(&mut self) -> Option<Cow<'p, [u8]>> {
        let quote = self.peek().filter(|byte| matches!(byte, b'\'' | b'"'))?;
        let start = self.at + 1;
        let mut unescaped: Option<Vec<u8>> = None;
        let mut at = start;
        loop {
            let mut byte = *self.bytes().get(at)?;
            if byte == quote {
                break;
            }
            if byte == b'\\' {
                unescaped.get_or_insert_with(|| self.bytes()[start..at].to_vec());
                at += 1;
                byte = *self.bytes().get(at).filter(|byte| matches!(**byte, b'\\') || **byte == quote)?;
            }
            if let Some(text) = &mut unescaped {
                text.push(byte);
            }
            at += 1;
        }
        self.at = at + 1;
        Some(unescaped.map_or_else(|| Cow::Borrowed(&self.bytes()[start..at]), Cow::Owned))
    }

    /// `-?[1-9][0-9]*`, or `-?[0-9]`.
    fn number(&mut self) -> Option<i64> {
        self.peek();
        let rest = &self.text[self.at..];
        let digits = rest.strip_prefix('-').unwrap_or(rest);
        let length = match digits.as_bytes().first()? {
            b'0' => 1,
            b'1'..=b'9' => digits.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(digits.len()),
            _ => return None,
        };
        let sign = rest.len() - digits.len();
        self.at += sign + length;
        let is_negative = sign > 0;
        Some(rest[..sign + length].parse().unwrap_or(if is_negative { i64::MIN } else { i64::MAX }))
    }

    /// A list of indexes, or a range.
    fn numbers(&mut self, start: usize) -> Result<Segment<'p>, CommandError> {
        let first = self.number();
        if self.eat(b":") {
            let stop = self.number();
            if stop.is_none() && !matches!(self.peek(), Some(b']' | b':')) {
                return Err(self.expected(NUMBER));
            }
            let step = if self.eat(b":") { self.range_step()? } else { 1 };
            return Ok(Segment::Range { start: first, stop, step });
        }
        let Some(first) = first else { return Err(self.nothing_in_bracket(start)) };
        let mut indexes = smallvec![first];
        while self.eat(b",") {
            indexes.push(self.number().ok_or_else(|| self.expected(NUMBER))?);
        }
        Ok(Segment::Indexes(indexes))
    }

    fn range_step(&mut self) -> Result<usize, CommandError> {
        let at = self.at;
        match self.peek() {
            Some(b']') => Ok(1),
            Some(b'1'..=b'9') => Ok(self.number().map_or(usize::MAX, |step| step as usize)),
            _ => Err(self.expected_at(at.max(self.at), "pos_number")),
        }
    }

    /// Comparisons and parentheses with `&&` and `||`, of which `&&` binds more.
    fn filter(&mut self) -> Result<PathFilter<'p>, CommandError> {
        let mut any = Vec::new();
        loop {
            let mut all = vec![self.inner_filter()?];
            while self.eat(b"&&") {
                all.push(self.inner_filter()?);
            }
            any.push(PathFilter::All(all));
            if !self.eat(b"||") {
                return Ok(PathFilter::Any(any));
            }
        }
    }

    fn inner_filter(&mut self) -> Result<PathFilter<'p>, CommandError> {
        if self.eat(b"(") {
            self.deeper()?;
            let filter = self.filter()?;
            self.depth -= 1;
            return if self.eat(b")") { Ok(filter) } else { Err(self.expected("and, or")) };
        }
        let Some(left) = self.term()? else { return Err(self.expected("single_filter")) };
        self.peek();
        let Some(comparison) = self.comparison() else {
            return match self.peek() {
                Some(b')' | b']' | b'&' | b'|') => Ok(PathFilter::Exists(left)),
                _ => Err(self.expected(match &left {
                    Term::Current(query) | Term::Root(query) if query.is_root() => {
                        "ge, gt, le, lt, eq, ne, re, and, or, root"
                    }
                    Term::Current(_) | Term::Root(_) => "ge, gt, le, lt, eq, ne, re, and, or, '..'",
                    _ => "ge, gt, le, lt, eq, ne, re, and, or",
                })),
            };
        };
        let Some(right) = self.term()? else { return Err(self.expected(TERM)) };
        self.patterns += usize::from(comparison == Comparison::Matches);
        if self.patterns > PATTERNS_MAX {
            return Err(error::TOO_MANY_PATTERNS);
        }
        Ok(PathFilter::compare(left, comparison, right))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        const TOKENS: [(&[u8], Comparison); 7] = [
            (b">=", Comparison::AtLeast),
            (b">", Comparison::Above),
            (b"<=", Comparison::AtMost),
            (b"<", Comparison::Below),
            (b"==", Comparison::Equal),
            (b"!=", Comparison::Unequal),
            (b"=~", Comparison::Matches),
        ];
        TOKENS.into_iter().find_map(|(token, comparison)| self.eat(token).then_some(comparison))
    }

    fn term(&mut self) -> Result<Option<Term<'p>>, CommandError> {
        let term = match self.peek() {
            Some(sign @ (b'@' | b'$')) => {
                self.at += 1;
                self.deeper()?;
                let query = self.path(true)?;
                self.depth -= 1;
                if sign == b'@' { Term::Current(query) } else { Term::Root(query) }
            }
            Some(b'\'' | b'"') => match self.string() {
                Some(text) => Term::Text(text),
                None => return Ok(None),
            },
            Some(b'-' | b'0'..=b'9') => return Ok(self.decimal()),
            _ if self.eat(b"true") => Term::Boolean(true),
            _ if self.eat(b"false") => Term::Boolean(false),
            _ if self.eat(b"null") => Term::Null,
            _ => return Ok(None),
        };
        Ok(Some(term))
    }

    fn decimal(&mut self) -> Option<Term<'p>> {
        let start = self.at;
        self.number()?;
        let rest = self.text[self.at..].strip_prefix('.').unwrap_or_default();
        let digits = rest.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += if digits > 0 { 1 + digits } else { 0 };
        let text = &self.text[start..self.at];
        let number = text.parse().map(JsonNumber::Integer).ok();
        Some(Term::Number(number.or_else(|| text.parse().map(JsonNumber::Float).ok())?))
    }
}
