//! Lines of redis.conf: a name and its arguments, with Redis's rules of quoting.

/// Splits a line into words, as Redis's `sdssplitargs` does: blanks separate; `"…"` knows the escapes `\n \r
/// \t \b \a \xHH` and takes any other escaped character as it is; `'…'` knows only `\'`. A closing quote ends
/// its word.
///
/// # Errors
/// What is wrong with the quotes, or that a word is not UTF-8.
pub fn split(line: &[u8]) -> Result<Vec<String>, &'static str> {
    let mut rest = line;
    let mut words = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(words);
        }
        let (word, after) = word(rest).ok_or("Unbalanced quotes in configuration line")?;
        words.push(String::from_utf8(word).map_err(|_| "it is not UTF-8")?);
        rest = after;
    }
}

fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' | b'\'' => {
                let after = quoted(byte, after, &mut word)?;
                let is_end = after.first().is_none_or(u8::is_ascii_whitespace);
                return is_end.then_some((word, after));
            }
            _ if byte.is_ascii_whitespace() => break,
            _ => word.push(byte),
        }
        rest = after;
    }
    Some((word, rest))
}

/// What follows the closing quote; `None` if there is none.
fn quoted<'l>(quote: u8, mut rest: &'l [u8], word: &mut Vec<u8>) -> Option<&'l [u8]> {
    loop {
        rest = match *rest {
            [byte, ref after @ ..] if byte == quote => return Some(after),
            [b'\\', b'x', high, low, ref after @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| char::from(byte).to_digit(16).expect("checked to be one") as u8;
                word.push(digit(high) << 4 | digit(low));
                after
            }
            [b'\\', byte, ref after @ ..] if quote == b'"' => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                after
            }
            [b'\\', b'\'', ref after @ ..] if quote == b'\'' => {
                word.push(b'\'');
                after
            }
            [byte, ref after @ ..] => {
                word.push(byte);
                after
            }
            [] => return None,
        };
    }
}

/// The word so that `split` reads it back: quoted where that is needed.
pub fn quote(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'#');
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if letter.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_redis_does() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  port   7000\t", &["port", "7000"]),
            (r#"requirepass "a b""#, &["requirepass", "a b"]),
            (r#"save """#, &["save", ""]),
            (r#"p "\x41\n\"\\\q""#, &["p", "A\n\"\\q"]),
            (r"p 'it\'s \n'", &["p", r"it's \n"]),
            (r#"p pre"fix ed""#, &["p", "prefix ed"]),
            ("p a#b # c", &["p", "a#b", "#", "c"]),
            (r#"p "\xzz""#, &["p", "xzz"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line.as_bytes()).as_deref(), Ok(&words.map_owned()[..]), "{line}");
        }
        for line in [r#"p "open"#, r#"p "a"b"#, "p 'open", r#"p "a\"#] {
            assert_eq!(split(line.as_bytes()), Err("Unbalanced quotes in configuration line"), "{line}");
        }
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl MapOwned for [&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|word| (*word).to_owned()).collect()
        }
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for word in ["", "plain", "a b", "#x", "\"", "'", "\\", "\n\r\t\u{7}", "ünïcode", "a\\\"b'c", "-::*"]
        {
            assert_eq!(split(quote(word).as_bytes()), Ok(vec![word.to_owned()]), "{word:?}");
        }
    }
}
