//! Command lines as people write them: words, or quoted ones with `\n`, `\r`, `\t`, `\"`, `\\` and `\xHH`.

/// The words of a line.
///
/// # Panics
/// If a quote is not closed or an escape is unknown: the script is wrong.
pub fn split_words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let word;
        (word, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (rest.as_bytes()[..end].to_vec(), &rest[end..])
            }
        };
        words.push(word);
        rest = rest.trim_start();
    }
    words
}

/// The content up to the closing quote, and what follows it.
fn unquote(text: &str) -> (Vec<u8>, &str) {
    let mut content = Vec::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (content, &text[place + 1..]),
            '\\' => {
                let (_, escape) = characters.next().expect("an escape has a letter");
                content.push(match escape {
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    '"' | '\\' => escape as u8,
                    'x' => {
                        let digits = &text[place + 2..place + 4];
                        characters.nth(1);
                        u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                    }
                    other => panic!("unknown escape \\{other}"),
                });
            }
            other => content.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    panic!("a quote is not closed in {text}");
}
