//! Patterns of KEYS, SCAN MATCH, PSUBSCRIBE and ACL rules, over bytes.
//!
//! `*` matches any bytes, `?` one byte, `[abc]`, `[a-z]` and `[^a]` one byte of a class; `\` takes the next
//! byte literally. As in Redis, a class that is not closed ends with the pattern. Time is bounded by the
//! product of both lengths: only the last `*` is retried, because matching more with an earlier one cannot
//! help.

/// True if the whole text matches the pattern.
pub fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // The position after the last `*`, and the position in the text for its shortest match so far.
    let mut retry: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, read));
            continue;
        }
        match one(&pattern[at..], text[read]) {
            Some(width) => (at, read) = (at + width, read + 1),
            None => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                (at, read) = (star, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// The width of the pattern's first element if it matches this byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let (matches, width) = class(rest, byte);
            matches.then_some(1 + width)
        }
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether a class, without its opening bracket, contains the byte; and its width including the closing
/// bracket.
fn class(pattern: &[u8], byte: u8) -> (bool, usize) {
    let negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &pattern[at..] {
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [b']', ..] => return (found != negated, at + 1),
            [] => return (found != negated, at),
            [from, b'-', to, ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a**c", "ac", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*ab", "aab", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("[a-c]", "b", true),
            ("[c-a]", "b", true),
            ("[a-c]", "d", false),
            ("[\\]]", "]", true),
            ("[a\\-z]", "-", true),
            ("[a-]", "-", false),
            ("[a-]", "_", true),
            ("[^]", "a", true),
            ("[abc", "b", true),
            ("[", "a", false),
            ("[^", "a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("\\", "\\", true),
            ("a\\", "a\\", true),
            ("?", "", false),
            ("[^a]", "", false),
        ] {
            assert_eq!(glob_matches(pattern.as_bytes(), text.as_bytes()), want, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn bytes_need_not_be_text() {
        assert!(glob_matches(b"\xff[\x80-\xfe]*", b"\xff\x90\0"));
        assert!(!glob_matches(b"\xff", b"\xfe"));
    }

    #[test]
    fn many_stars_take_bounded_time() {
        let pattern = b"a*".repeat(40);
        let text = [b"a".repeat(4000), b"b".to_vec()].concat();
        assert!(!glob_matches(&[&pattern[..], b"c"].concat(), &text));
        assert!(glob_matches(&[&pattern[..], b"b"].concat(), &text));
    }
}
