//! The values in a query: patterns of terms, and numbers.

use super::Pattern;
use crate::documents::text;
use engramdb_engine::types::parse_double;

/// Removes each backslash before punctuation or a space, which then is an ordinary character.
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

/// Removes each backslash except a last one, and keeps the character after it. In a wildcard pattern an
/// escaped `*` or `?` therefore still matches other characters.
fn without_backslashes(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        plain.push(if byte == b'\\' { rest.next().unwrap_or(byte) } else { byte });
    }
    plain
}

/// The terms that `raw` matches. `raw` is still escaped; its case is kept if the field is case-sensitive.
pub fn pattern(affix: Affix, raw: &[u8], case_sensitive: bool) -> Pattern {
    let plain = if affix == Affix::Wildcard { without_backslashes(raw) } else { unescape(raw) };
    let part = if case_sensitive { plain } else { text::lower(&plain) };
    match affix {
        Affix::Whole => Pattern::Exact(part),
        Affix::Prefix => Pattern::Prefix(part),
        Affix::Suffix => Pattern::Suffix(part),
        Affix::Infix => Pattern::Infix(part),
        Affix::Wildcard => Pattern::Wildcard(part),
        Affix::Fuzzy(distance) => Pattern::Fuzzy(part, distance),
    }
}

/// The part of a term that a query gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affix {
    Whole,
    Prefix,
    Suffix,
    Infix,
    /// The whole term, with `?` and `*` for missing characters.
    Wildcard,
    /// The whole term, with at most this number of changes.
    Fuzzy(u8),
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
}

/// Reads a number: any decimal, `inf`, `+inf` or `-inf`.
pub fn number(word: &[u8]) -> Option<f64> {
    parse_double(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_in_every_pattern() {
        assert_eq!(pattern(Affix::Prefix, br"He\-", false), Pattern::Prefix(b"he-".to_vec()));
        assert_eq!(pattern(Affix::Prefix, b"He", true), Pattern::Prefix(b"He".to_vec()));
        assert_eq!(pattern(Affix::Whole, br"he\*", false), Pattern::Exact(b"he*".to_vec()));
        assert_eq!(pattern(Affix::Wildcard, br"\he?l\*", false), Pattern::Wildcard(b"he?l*".to_vec()));
        assert_eq!(unescape(br"_@12\345\-6\"), br"_@12\345-6\");
    }
}
