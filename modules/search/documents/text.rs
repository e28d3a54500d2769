//! Splits text into terms as RediSearch's default tokenizer does: at separators, unless a backslash escapes
//! them. Letters become lower case. Stop words are left out and do not count as positions.
//!
//! Stems are added where the words are posted (texts.rs). Deliberately absent: languages without spaces.

/// RediSearch's default stop words.
pub const STOP_WORDS: &[&str] = &[
    "a", "is", "the", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "it",
    "no", "not", "of", "on", "or", "such", "that", "their", "then", "there", "these", "they", "this", "to",
    "was", "will", "with",
];

const fn separators() -> [bool; 256] {
    let others = b",.<>{}[]\"':;!@#$%^&*()-+=~/|?`\0";
    let mut are = [false; 256];
    let mut at = 0;
    while at < others.len() {
        are[others[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        are[byte] |= (byte as u8).is_ascii_whitespace();
        byte += 1;
    }
    are
}

/// By byte.
static SEPARATORS: [bool; 256] = separators();

/// True for bytes that are a part of their term as they are, but for their case.
#[inline]
fn is_plain(byte: u8) -> bool {
    !is_separator(byte) && byte != b'\\' && !byte.is_ascii_control()
}

/// True for bytes that separate terms.
#[inline]
pub fn is_separator(byte: u8) -> bool {
    SEPARATORS[byte as usize]
}

/// Lower case by Unicode's rules if the bytes are UTF-8, else by ASCII's. Each character is mapped by itself,
/// so that a prefix of a word maps to a prefix of the lower-case word: a capital sigma becomes σ at the end
/// of a word too.
pub fn lower(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_ascii() {
        return bytes.to_ascii_lowercase();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().flat_map(char::to_lowercase).collect::<String>().into_bytes(),
        Err(_) => bytes.to_ascii_lowercase(),
    }
}

/// The words that are not indexed; `None` for RediSearch's default list.
#[derive(Clone, Copy)]
pub struct StopWords<'a>(pub Option<&'a [Vec<u8>]>);

impl StopWords<'_> {
    /// Whether `term`, in lower case, is a stop word.
    pub fn contains(&self, term: &[u8]) -> bool {
        match self.0 {
            Some(words) => words.iter().any(|word| word.eq_ignore_ascii_case(term)),
            // None of the list is longer.
            None => term.len() <= 5 && STOP_WORDS.iter().any(|word| word.as_bytes() == term),
        }
    }
}

/// Calls `each` for every term of a text, in order.
pub fn tokenize(text: &[u8], stop_words: StopWords<'_>, each: &mut dyn FnMut(&[u8])) {
    tokenize_at(text, stop_words, &mut |term, _| each(term));
}

/// The same, with the place in the text at which the term begins.
pub fn tokenize_at(text: &[u8], stop_words: StopWords<'_>, each: &mut dyn FnMut(&[u8], usize)) {
    let mut term = Vec::new();
    let (mut at, mut start) = (0, 0);
    loop {
        let plain = text[at.min(text.len())..].iter().take_while(|&&byte| is_plain(byte)).count();
        term.extend_from_slice(&text[at.min(text.len())..][..plain]);
        at += plain;
        let next = text.get(at);
        at += 1;
        match next {
            Some(b'\\') => {
                // What separates words belongs to one here. Other control characters are dropped: derived
                // terms begin with one, and no word may be such a term.
                let is_kept = |byte: &&u8| byte.is_ascii_whitespace() || !byte.is_ascii_control();
                term.extend(text.get(at).filter(is_kept));
                at += 1;
            }
            // Other control characters are dropped without ending the term.
            Some(&byte) if !is_separator(byte) => {}
            _ => {
                if term.is_ascii() {
                    term.make_ascii_lowercase();
                } else {
                    term = lower(&term);
                }
                if !term.is_empty() && !stop_words.contains(&term) {
                    each(&term, start);
                }
                term.clear();
                start = at;
            }
        }
        if next.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        tokenize(text.as_bytes(), StopWords(None), &mut |term| {
            terms.push(String::from_utf8_lossy(term).into_owned());
        });
        terms
    }

    #[test]
    fn no_default_stop_word_is_too_long_to_be_found() {
        assert!(STOP_WORDS.iter().all(|word| StopWords(None).contains(word.as_bytes())));
    }

    #[test]
    fn separators_cut_escapes_keep_and_stop_words_vanish() {
        assert_eq!(terms("The quick-brown  fox, JUMPS."), ["quick", "brown", "fox", "jumps"]);
        assert_eq!(terms(r"hello\-world foo_bar"), ["hello-world", "foo_bar"]);
        assert_eq!(terms("ÄPFEL ΟΔΥΣΣΕΑΣ"), ["äpfel", "οδυσσεασ"]);
        assert_eq!(terms("a\x01b x\x7fy c\x0bd e\0f"), ["ab", "xy", "cd", "e", "f"]);
        assert_eq!(terms("\\\x01\\+run \\\0 \\\ty"), ["+run", "\ty"]);
        assert_eq!(terms(r"\"), [""; 0]);
        assert_eq!(terms(""), [""; 0]);
    }
}
