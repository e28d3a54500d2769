//! What words sound like: PHONETIC. A word's sound is the first code of double metaphone, as in RediSearch.

use rphonetic::DoubleMetaphone;

/// Words with fewer bytes have no sound in a document, and words with more have none at all: the time of the
/// algorithm grows with the word.
const HEARD_MIN: usize = 3;
const HEARD_MAX: usize = 256;

/// What a word in lower case sounds like. `None` if nothing is known of it.
pub fn sound(word: &[u8]) -> Option<Vec<u8>> {
    if word.len() > HEARD_MAX {
        return None;
    }
    let text = std::str::from_utf8(word).ok()?;
    // RediSearch passes over bytes that are not ASCII. The crate takes text apart at places that need not be
    // boundaries of characters, which would end the process.
    let text: String =
        text.bytes().map(|byte| if byte.is_ascii() { char::from(byte) } else { '_' }).collect();
    let code = DoubleMetaphone::default().double_metaphone(&text).primary();
    Some(code.into_bytes()).filter(|code| !code.is_empty())
}

/// What a document's word is indexed by beside itself.
pub fn indexed_sound(word: &[u8]) -> Option<Vec<u8>> {
    if word.len() < HEARD_MIN { None } else { sound(word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes are those of RediSearch 2.10.5.
    #[test]
    fn words_that_sound_alike_have_one_code() {
        let code = |word: &str| sound(word.as_bytes()).map(|code| String::from_utf8(code).expect("text"));
        for (word, want) in [
            ("smith", "SM0"),
            ("smyth", "SM0"),
            ("john", "JN"),
            ("jon", "JN"),
            ("felix", "FLKS"),
            ("phelix", "FLKS"),
            ("night", "NT"),
            ("running", "RNNK"),
            ("dogs", "TKS"),
            ("cats", "KTS"),
            ("b", "P"),
            ("über", "PR"),
            ("\u{5a1}cor", "KR"),
        ] {
            assert_eq!(code(word).as_deref(), Some(want), "{word}");
        }
        assert_eq!((code(""), code("123"), sound(b"a\xff")), (None, None, None));
        assert_eq!((indexed_sound(b"ab"), indexed_sound(b"abc")), (None, Some(b"APK".to_vec())));
    }

    #[test]
    fn no_word_stops_the_algorithm() {
        let mut state = 17u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..60_000u32 {
            let length = random(12);
            let mut letter = || match (round % 3, random(8)) {
                (0, 0) | (1, 0..4) => char::from_u32(random(0x1000) as u32).unwrap_or('x'),
                (2, 0) => char::from(random(128) as u8),
                _ => char::from(b'a' + random(26) as u8),
            };
            let word: String = (0..length).map(|_| letter()).collect();
            _ = sound(word.as_bytes());
        }
    }
}
