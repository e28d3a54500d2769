//! Lua's patterns, as `string.find`, `match`, `gmatch` and `gsub` have them: Lua 5.1's, with bounds.
//!
//! Lua's own matcher calls itself for each item of a pattern without a limit, which overflows the stack, and
//! may take for ever, where no hook ends it. Here a pattern has a depth, and long work is asked whether it
//! goes on. This module knows no interpreter.

/// Items of a pattern that may wait for what comes after them.
const DEPTH_MAX: usize = 1000;
const CAPTURES_MAX: usize = 32;
/// Steps between two questions whether the work goes on.
const STEPS_PER_TICK: u32 = 1 << 20;

/// Why a match ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// The pattern is wrong, in Lua's words.
    Wrong(&'static str),
    /// The script is to be ended.
    Ended,
}

type Matched<T> = Result<T, PatternError>;

fn wrong<T>(text: &'static str) -> Matched<T> {
    Err(PatternError::Wrong(text))
}

/// What a pair of parentheses has matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// The closing one was not met.
    Open,
    /// An empty pair: a position.
    Position,
    Bytes(usize),
}

#[derive(Clone, Copy, Debug)]
struct Capture {
    start: usize,
    extent: Extent,
}

/// A capture, as scripts get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Captured<'t> {
    Bytes(&'t [u8]),
    /// Counted from 1.
    Position(usize),
}

/// Asked regularly; false ends the work.
pub type GoesOn<'g> = dyn Fn() -> bool + 'g;

pub struct Matcher<'t> {
    text: &'t [u8],
    pattern: &'t [u8],
    captures: [Capture; CAPTURES_MAX],
    level: usize,
    depth: usize,
    steps: u32,
    goes_on: &'t GoesOn<'t>,
}

/// Whether the text has characters that mean something in a pattern.
pub fn has_specials(pattern: &[u8]) -> bool {
    until_zero(pattern).iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

/// A pattern ends at its first zero.
fn until_zero(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| *byte == 0);
    &pattern[..end.unwrap_or(pattern.len())]
}

impl<'t> Matcher<'t> {
    pub fn new(text: &'t [u8], pattern: &'t [u8], goes_on: &'t GoesOn<'t>) -> Matcher<'t> {
        Matcher {
            text,
            pattern: until_zero(pattern),
            captures: [Capture { start: 0, extent: Extent::Open }; CAPTURES_MAX],
            level: 0,
            depth: 0,
            steps: 0,
            goes_on,
        }
    }

    /// Takes `^` from the beginning of the pattern. True if it was there.
    pub fn take_anchor(&mut self) -> bool {
        let rest = self.pattern.strip_prefix(b"^");
        self.pattern = rest.unwrap_or(self.pattern);
        rest.is_some()
    }

    /// Where a match that begins at `start` ends.
    pub fn match_at(&mut self, start: usize) -> Matched<Option<usize>> {
        (self.level, self.depth) = (0, 0);
        self.rest(start, 0)
    }

    /// How many captures the last match has.
    pub fn captures(&self) -> usize {
        self.level
    }

    /// A capture of the last match, which was `start..end`; without captures the first one is all of it.
    pub fn capture(&self, index: usize, (start, end): (usize, usize)) -> Matched<Captured<'t>> {
        if index >= self.level {
            return match index {
                0 => Ok(Captured::Bytes(&self.text[start..end])),
                _ => wrong("invalid capture index"),
            };
        }
        let Capture { start, extent } = self.captures[index];
        match extent {
            Extent::Open => wrong("unfinished capture"),
            Extent::Position => Ok(Captured::Position(start + 1)),
            Extent::Bytes(length) => Ok(Captured::Bytes(&self.text[start..start + length])),
        }
    }

    /// The byte of the pattern; 0 at its end.
    fn item(&self, at: usize) -> u8 {
        self.pattern.get(at).copied().unwrap_or(0)
    }

    /// The byte of the text; 0 at its end.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn step(&mut self) -> Matched<()> {
        self.steps += 1;
        if self.steps < STEPS_PER_TICK {
            return Ok(());
        }
        self.steps = 0;
        if (self.goes_on)() { Ok(()) } else { Err(PatternError::Ended) }
    }

    /// Matches what comes after an item.
    fn after(&mut self, at: usize, item: usize) -> Matched<Option<usize>> {
        if self.depth >= DEPTH_MAX {
            return wrong("pattern too complex");
        }
        self.depth += 1;
        let end = self.rest(at, item);
        self.depth -= 1;
        end
    }

    /// Matches the pattern from `item` on against the text from `at` on.
    fn rest(&mut self, mut at: usize, mut item: usize) -> Matched<Option<usize>> {
        loop {
            self.step()?;
            match (self.item(item), self.item(item + 1)) {
                (0, _) => return Ok(Some(at)),
                (b'(', b')') => return self.open(at, item + 2, Extent::Position),
                (b'(', _) => return self.open(at, item + 1, Extent::Open),
                (b')', _) => return self.close(at, item + 1),
                (b'$', 0) => return Ok((at == self.text.len()).then_some(at)),
                (b'%', b'b') => {
                    let Some(end) = self.balanced(at, item + 2)? else { return Ok(None) };
                    (at, item) = (end, item + 4);
                }
                (b'%', b'f') => {
                    let Some(end) = self.frontier(at, item + 2)? else { return Ok(None) };
                    item = end;
                }
                (b'%', digit) if digit.is_ascii_digit() => {
                    let Some(end) = self.same_as_capture(at, digit)? else { return Ok(None) };
                    (at, item) = (end, item + 2);
                }
                _ => {
                    let end = self.class_end(item)?;
                    let is_match = self.is_single(at, item, end);
                    match self.item(end) {
                        b'?' => {
                            if is_match && let Some(found) = self.after(at + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            item = end + 1;
                        }
                        b'*' => return self.most(at, item, end),
                        b'+' if is_match => return self.most(at + 1, item, end),
                        b'-' => return self.least(at, item, end),
                        b'+' => return Ok(None),
                        _ if is_match => (at, item) = (at + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    fn class_end(&self, item: usize) -> Matched<usize> {
        match self.item(item) {
            b'%' if self.item(item + 1) == 0 => wrong("malformed pattern (ends with '%')"),
            b'%' => Ok(item + 2),
            b'[' => {
                let mut at = item + 1 + usize::from(self.item(item + 1) == b'^');
                loop {
                    let byte = self.item(at);
                    if byte == 0 {
                        return wrong("malformed pattern (missing ']')");
                    }
                    at += 1;
                    at += usize::from(byte == b'%' && self.item(at) != 0);
                    if self.item(at) == b']' {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(item + 1),
        }
    }

    fn is_single(&self, at: usize, item: usize, end: usize) -> bool {
        let Some(&byte) = self.text.get(at) else { return false };
        match self.item(item) {
            b'.' => true,
            b'%' => is_in_class(byte, self.item(item + 1)),
            b'[' => self.is_in_set(byte, item, end - 1),
            exact => exact == byte,
        }
    }

    /// Whether a set from its opening to its closing bracket has the byte.
    fn is_in_set(&self, byte: u8, mut item: usize, closing: usize) -> bool {
        let is_negated = self.item(item + 1) == b'^';
        item += 1 + usize::from(is_negated);
        while item < closing {
            let (first, next) = (self.item(item), self.item(item + 1));
            let is_range = first != b'%' && next == b'-' && item + 2 < closing;
            let is_match = match first {
                b'%' => is_in_class(byte, next),
                _ if is_range => (first..=self.item(item + 2)).contains(&byte),
                exact => exact == byte,
            };
            if is_match {
                return !is_negated;
            }
            item += if is_range { 3 } else { 1 + usize::from(first == b'%') };
        }
        is_negated
    }

    fn most(&mut self, at: usize, item: usize, end: usize) -> Matched<Option<usize>> {
        let mut count = 0;
        while self.is_single(at + count, item, end) {
            self.step()?;
            count += 1;
        }
        loop {
            if let Some(found) = self.after(at + count, end + 1)? {
                return Ok(Some(found));
            }
            match count.checked_sub(1) {
                Some(fewer) => count = fewer,
                None => return Ok(None),
            }
        }
    }

    fn least(&mut self, mut at: usize, item: usize, end: usize) -> Matched<Option<usize>> {
        loop {
            if let Some(found) = self.after(at, end + 1)? {
                return Ok(Some(found));
            }
            if !self.is_single(at, item, end) {
                return Ok(None);
            }
            at += 1;
        }
    }

    fn open(&mut self, at: usize, item: usize, extent: Extent) -> Matched<Option<usize>> {
        if self.level >= CAPTURES_MAX {
            return wrong("too many captures");
        }
        self.captures[self.level] = Capture { start: at, extent };
        self.level += 1;
        let end = self.after(at, item)?;
        self.level -= usize::from(end.is_none());
        Ok(end)
    }

    fn close(&mut self, at: usize, item: usize) -> Matched<Option<usize>> {
        let open = self.captures[..self.level].iter().rposition(|capture| capture.extent == Extent::Open);
        let Some(open) = open else { return wrong("invalid pattern capture") };
        self.captures[open].extent = Extent::Bytes(at - self.captures[open].start);
        let end = self.after(at, item)?;
        if end.is_none() {
            self.captures[open].extent = Extent::Open;
        }
        Ok(end)
    }

    fn balanced(&mut self, at: usize, item: usize) -> Matched<Option<usize>> {
        let (opening, closing) = (self.item(item), self.item(item + 1));
        if opening == 0 || closing == 0 {
            return wrong("unbalanced pattern");
        }
        if self.byte(at) != opening {
            return Ok(None);
        }
        let mut open = 1;
        for index in at + 1..self.text.len() {
            self.step()?;
            if self.text[index] == closing {
                open -= 1;
                if open == 0 {
                    return Ok(Some(index + 1));
                }
            } else if self.text[index] == opening {
                open += 1;
            }
        }
        Ok(None)
    }

    /// Where the set of a `%f` ends, if the text enters it here.
    fn frontier(&self, at: usize, item: usize) -> Matched<Option<usize>> {
        if self.item(item) != b'[' {
            return wrong("missing '[' after '%f' in pattern");
        }
        let end = self.class_end(item)?;
        let before = at.checked_sub(1).map_or(0, |before| self.byte(before));
        let enters = !self.is_in_set(before, item, end - 1) && self.is_in_set(self.byte(at), item, end - 1);
        Ok(enters.then_some(end))
    }

    fn same_as_capture(&mut self, at: usize, digit: u8) -> Matched<Option<usize>> {
        let index = usize::from(digit).checked_sub(usize::from(b'1'));
        let capture = index.and_then(|index| self.captures[..self.level].get(index)).copied();
        let Some(Capture { start, extent: extent @ (Extent::Bytes(_) | Extent::Position) }) = capture else {
            return wrong("invalid capture index");
        };
        // A position is longer than any text.
        let Extent::Bytes(length) = extent else { return Ok(None) };
        let same = self.text[at..].starts_with(&self.text[start..start + length]);
        Ok(same.then_some(at + length))
    }
}

fn is_in_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 11,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is_in != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, pattern: &str) -> Matched<Option<(usize, usize)>> {
        let mut matcher = Matcher::new(text.as_bytes(), pattern.as_bytes(), &|| false);
        let is_anchored = matcher.take_anchor();
        for start in 0..=text.len() {
            if let Some(end) = matcher.match_at(start)? {
                return Ok(Some((start, end)));
            }
            if is_anchored {
                break;
            }
        }
        Ok(None)
    }

    #[test]
    fn patterns_match_as_in_lua() {
        for (text, pattern, wanted) in [
            ("hello world", "o w", Some((4, 7))),
            ("hello", "^h.-l", Some((0, 3))),
            ("hello", "^e", None),
            ("a.b", "%.", Some((1, 2))),
            ("key = value", "(%w+)%s*=%s*(%w+)", Some((0, 11))),
            ("f(a(b)c)d", "%b()", Some((1, 8))),
            ("THE (quick) fox", "%f[%a]%a+%f[%A]", Some((0, 3))),
            ("abab", "(ab)%1$", Some((0, 4))),
            ("x]y", "[]]", Some((1, 2))),
            ("a-b", "[a%-]+", Some((0, 2))),
            ("b", "[^a-c]", None),
            ("", ".*", Some((0, 0))),
            ("aaa", "a-b", None),
        ] {
            assert_eq!(find(text, pattern), Ok(wanted), "{text} {pattern}");
        }
        for pattern in ["%", "[a", "(()", "%1", "%f", "%b", ")", &"(".repeat(40)] {
            let found = find("abc", pattern);
            assert!(matches!(found, Err(PatternError::Wrong(_)) | Ok(Some(_))), "{pattern}: {found:?}");
        }
    }

    #[test]
    fn a_pattern_has_a_depth_and_an_end() {
        assert_eq!(find(&"a".repeat(3000), &"a?".repeat(3000)), wrong("pattern too complex"));
        let slow = "a".repeat(40);
        assert_eq!(find(&slow, &format!("{}{slow}b", "a?".repeat(40))), Err(PatternError::Ended));
        let long = "a".repeat(3000);
        assert_eq!(find(&long, &long), Ok(Some((0, 3000))));
    }
}
