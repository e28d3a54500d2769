//! The values inside braces and brackets: tags, numbers.

use super::Pattern;
use crate::text;
use engramdb_engine::types::parse_double;

/// Splits the inside of `{…}` at `|` where that is neither quoted nor escaped.
pub fn split_tags(inside: &[u8]) -> Vec<&[u8]> {
    let mut tags = Vec::new();
    let (mut start, mut at, mut quoted) = (0, 0, false);
    while at < inside.len() {
        match inside[at] {
            b'\\' => at += 1,
            b'"' => quoted = !quoted,
            b'|' if !quoted => {
                tags.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    tags.push(&inside[start..]);
    tags
}

/// The end of `{…}`: the place of the brace that closes what began before `from`.
pub fn closing_brace(query: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut quoted) = (from, false);
    while at < query.len() {
        match query[at] {
            b'\\' => at += 1,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
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

/// Takes backslashes away: each stands for the character behind it.
pub fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        plain.push(if byte == b'\\' { rest.next().unwrap_or(b'\\') } else { byte });
    }
    plain
}

/// Reads `term`, `pre*`, `*suf`, `*inf*` or `w'wild?c*rd'`, still escaped.
pub fn pattern(raw: &[u8], case_sensitive: bool) -> Pattern {
    let fold = |bytes: &[u8]| {
        let plain = unescape(bytes);
        if case_sensitive { plain } else { text::lower(&plain) }
    };
    if let Some(inside) = raw.strip_prefix(b"w'").and_then(|rest| rest.strip_suffix(b"'")) {
        return Pattern::Wildcard(fold(inside));
    }
    let leading = raw.strip_prefix(b"*");
    let trailing = |bytes: &'_ [u8]| bytes.ends_with(b"*") && !ends_escaped(&bytes[..bytes.len() - 1]);
    match leading {
        Some(rest) if trailing(rest) => Pattern::Infix(fold(&rest[..rest.len() - 1])),
        Some(rest) => Pattern::Suffix(fold(rest)),
        None if trailing(raw) => Pattern::Prefix(fold(&raw[..raw.len() - 1])),
        None => Pattern::Exact(fold(raw)),
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
        assert_eq!(closing_brace(br#"a\}"}"}x"#, 0), Some(6));
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
        assert_eq!(trim(br" a\  "), br"a\ ");
    }
}
