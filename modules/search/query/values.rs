//! The values inside braces and brackets: tags, numbers.

use super::Pattern;
use crate::text;
use engramdb_engine::types::parse_double;

/// Splits the inside of `{…}` at `|` where that is neither quoted nor escaped.
pub fn split_tags(inside: &[u8]) -> Vec<&[u8]> {
    let mut tags = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < inside.len() {
        match inside[at] {
            b'\\' => at += 1,
            b'|' => {
                tags.push(&inside[start..at]);
                start = at + 1;
            }
            _ => at = end_of_quotation(inside, start, at).unwrap_or(at),
        }
        at += 1;
    }
    tags.push(&inside[start..]);
    tags
}

/// The end of `{…}`: the place of the brace that closes what began before `from`.
pub fn closing_brace(query: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < query.len() {
        match query[at] {
            b'\\' => at += 1,
            b'}' => return Some(at),
            _ => at = end_of_quotation(query, from, at).unwrap_or(at),
        }
        at += 1;
    }
    None
}

/// The closing mark of what is quoted from `at` on. `None` where no quotation begins: in a value that began otherwise since
/// `from`, a mark is a character.
fn end_of_quotation(query: &[u8], from: usize, at: usize) -> Option<usize> {
    let mark = query[at];
    let opens = query[from..at].trim_ascii_end().last().is_none_or(|before| b"|*w".contains(before));
    if !opens || !is_quotation_mark(mark) {
        return None;
    }
    closing_mark(query, at)
}

/// The mark that closes the quotation of which the opening one stands at `at`.
pub fn closing_mark(query: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    while *query.get(end)? != query[at] {
        end += if query[end] == b'\\' { 2 } else { 1 };
    }
    Some(end)
}

pub fn is_quotation_mark(byte: u8) -> bool {
    byte == b'"' || byte == b'\''
}

/// What stands between the marks, if all of it is quoted.
fn quoted(raw: &[u8]) -> Option<&[u8]> {
    let [mark, inside @ .., last] = raw else { return None };
    (is_quotation_mark(*mark) && mark == last && !ends_escaped(inside)).then_some(inside)
}

/// Takes spaces off both ends, but for an escaped one.
pub fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.trim_ascii_start();
    let mut end = start.trim_ascii_end();
    if end.len() < start.len() && ends_escaped(end) {
        end = &start[..end.len() + 1];
    }
    end
}

/// True if the last byte is a backslash that escapes what follows.
fn ends_escaped(bytes: &[u8]) -> bool {
    bytes.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// Takes a backslash away where it stands before punctuation or a space, which it makes a character as others are.
pub fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        let escaped =
            rest.next_if(|next| byte == b'\\' && (next.is_ascii_punctuation() || next.is_ascii_whitespace()));
        plain.push(escaped.unwrap_or(byte));
    }
    plain
}

/// Reads `term`, `pre*`, `*suf`, `*inf*` or `w'wild?c*rd'`, still escaped, and each part perhaps in quotation marks.
pub fn pattern(raw: &[u8], case_sensitive: bool) -> Pattern {
    let fold = |bytes: &[u8]| {
        let plain = unescape(quoted(bytes).unwrap_or(bytes));
        if case_sensitive { plain } else { text::lower(&plain) }
    };
    if let Some(inside) = raw.strip_prefix(b"w").and_then(quoted) {
        return Pattern::Wildcard(fold(inside));
    }
    let (affix, part) = affix(raw);
    affix.pattern(fold(part))
}

/// Which part of a term is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affix {
    Whole,
    Prefix,
    Suffix,
    Infix,
}

impl Affix {
    pub fn of(leading_star: bool, trailing_star: bool) -> Affix {
        match (leading_star, trailing_star) {
            (false, false) => Affix::Whole,
            (false, true) => Affix::Prefix,
            (true, false) => Affix::Suffix,
            (true, true) => Affix::Infix,
        }
    }

    /// `part` in the case that the field has.
    pub fn pattern(self, part: Vec<u8>) -> Pattern {
        match self {
            Affix::Whole => Pattern::Exact(part),
            Affix::Prefix => Pattern::Prefix(part),
            Affix::Suffix => Pattern::Suffix(part),
            Affix::Infix => Pattern::Infix(part),
        }
    }
}

/// Takes the stars off both ends, which are not escaped.
pub fn affix(raw: &[u8]) -> (Affix, &[u8]) {
    let (leading, rest) = match raw.strip_prefix(b"*") {
        Some(rest) => (true, rest),
        None => (false, raw),
    };
    match rest.strip_suffix(b"*") {
        Some(part) if !ends_escaped(part) => (Affix::of(leading, true), part),
        _ => (Affix::of(leading, false), rest),
    }
}

/// A number of a range: any decimal, `inf`, `+inf`, `-inf`.
pub fn number(word: &[u8]) -> Option<f64> {
    parse_double(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_split_at_bare_bars_only() {
        assert_eq!(split_tags(br#"a|b\|c|"d|e""#), [&b"a"[..], br"b\|c", br#""d|e""#]);
        assert_eq!(split_tags(br#"it's|'b|c'|"d'|"*"#), [&b"it's"[..], b"'b|c'", br#""d'|"*"#]);
        assert_eq!(closing_brace(br#"a\}|"}"}x"#, 0), Some(7));
        assert_eq!(closing_brace(b"abc", 0), None);
    }

    #[test]
    fn patterns_are_told_by_their_bare_stars() {
        assert_eq!(pattern(b"He*", false), Pattern::Prefix(b"he".to_vec()));
        assert_eq!(pattern(b"He*", true), Pattern::Prefix(b"He".to_vec()));
        assert_eq!(pattern(br"he\*", false), Pattern::Exact(b"he*".to_vec()));
        assert_eq!(pattern(b"*lo", false), Pattern::Suffix(b"lo".to_vec()));
        assert_eq!(pattern(b"*l*", false), Pattern::Infix(b"l".to_vec()));
        assert_eq!(pattern(b"w'a?b*'", false), Pattern::Wildcard(b"a?b*".to_vec()));
        assert_eq!(pattern(br#"w"a?b*""#, false), Pattern::Wildcard(b"a?b*".to_vec()));
        assert_eq!(pattern(br#""a-b*""#, false), Pattern::Exact(b"a-b*".to_vec()));
        assert_eq!(pattern(br#""a-b"*"#, false), Pattern::Prefix(b"a-b".to_vec()));
        assert_eq!(pattern(b"*'a-b'*", false), Pattern::Infix(b"a-b".to_vec()));
        assert_eq!(unescape(br"_@12\345\-6\"), br"_@12\345-6\");
        assert_eq!(trim(br" a\  "), br"a\ ");
    }
}
