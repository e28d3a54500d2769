//! The languages of texts, and the stems of their words.
//!
//! A word and its stem are both indexed; a query for a word finds what has the same stem (query/expand.rs).
//! The stems are those of the Snowball project, as in RediSearch.

use snowball_stemmers_rs::{Algorithm, Stemmer};

/// RediSearch's languages by their names in its commands, with their algorithms. Chinese is not listed: its
/// words are not separated, and this server does not divide them.
const LANGUAGES: &[(&str, Algorithm)] = &[
    ("arabic", Algorithm::Arabic),
    ("armenian", Algorithm::Armenian),
    ("basque", Algorithm::Basque),
    ("catalan", Algorithm::Catalan),
    ("danish", Algorithm::Danish),
    ("dutch", Algorithm::DutchPorter),
    ("english", Algorithm::English),
    ("finnish", Algorithm::Finnish),
    ("french", Algorithm::French),
    ("german", Algorithm::German),
    ("greek", Algorithm::Greek),
    ("hindi", Algorithm::Hindi),
    ("hungarian", Algorithm::Hungarian),
    ("indonesian", Algorithm::Indonesian),
    ("irish", Algorithm::Irish),
    ("italian", Algorithm::Italian),
    ("lithuanian", Algorithm::Lithuanian),
    ("nepali", Algorithm::Nepali),
    ("norwegian", Algorithm::Norwegian),
    ("portuguese", Algorithm::Portuguese),
    ("romanian", Algorithm::Romanian),
    ("russian", Algorithm::Russian),
    ("serbian", Algorithm::Serbian),
    ("spanish", Algorithm::Spanish),
    ("swedish", Algorithm::Swedish),
    ("tamil", Algorithm::Tamil),
    ("turkish", Algorithm::Turkish),
    ("yiddish", Algorithm::Yiddish),
];

/// A language of texts: its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language(u8);

/// What a word says that should name a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedLanguage {
    Known(Language),
    /// RediSearch's language whose words are not separated.
    Chinese,
    Unknown,
}

/// Words with fewer bytes have no stem in a document, and words with more have none at all: the time of an
/// algorithm may grow faster than the word.
const STEMMED_MIN: usize = 4;
const STEMMED_MAX: usize = 256;

impl Default for Language {
    fn default() -> Language {
        Language::named(b"english").expect("it is listed")
    }
}

impl Language {
    /// The language of this name. Case does not matter.
    pub fn named(word: &[u8]) -> Option<Language> {
        let is_it = |(name, _): &(&str, Algorithm)| word.eq_ignore_ascii_case(name.as_bytes());
        LANGUAGES.iter().position(is_it).map(|place| Language(place as u8))
    }

    /// Its place in the list of languages.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The stem of a word in lower case, which may be the word itself. `None` if it has none.
    pub fn stem(self, word: &[u8]) -> Option<Vec<u8>> {
        if word.is_empty() || word.len() > STEMMED_MAX {
            return None;
        }
        let text = std::str::from_utf8(word).ok()?;
        let stem = Stemmer::create(LANGUAGES[self.0 as usize].1).stem(text);
        Some(stem.as_bytes().to_vec()).filter(|stem| !stem.is_empty())
    }

    /// The stem that a document's word is indexed by beside itself, if it has another one.
    pub fn indexed_stem(self, word: &[u8]) -> Option<Vec<u8>> {
        if word.len() < STEMMED_MIN { None } else { self.stem(word).filter(|stem| stem != word) }
    }
}

impl NamedLanguage {
    pub fn of(word: &[u8]) -> NamedLanguage {
        match Language::named(word) {
            Some(language) => NamedLanguage::Known(language),
            None if word.eq_ignore_ascii_case(b"chinese") => NamedLanguage::Chinese,
            None => NamedLanguage::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_the_stems_of_their_language() {
        let stem = |language: &str, word: &str| {
            let language = Language::named(language.as_bytes()).expect("it is listed");
            language.stem(word.as_bytes()).map(|stem| String::from_utf8(stem).expect("text"))
        };
        for (language, word, want) in [
            ("ENGLISH", "running", "run"),
            ("english", "flies", "fli"),
            ("english", "run", "run"),
            ("german", "läufer", "lauf"),
            ("french", "continuellement", "continuel"),
            ("russian", "важными", "важн"),
        ] {
            assert_eq!(stem(language, word).as_deref(), Some(want), "{word}");
        }
        let english = Language::default();
        assert_eq!(english.stem(b""), None);
        assert_eq!(english.stem(b"running\xff"), None);
        assert_eq!(english.stem(&[b'a'; STEMMED_MAX + 1]), None);
        assert_eq!((english.indexed_stem(b"ads"), english.indexed_stem(b"word")), (None, None));
        assert_eq!(english.indexed_stem(b"dogs"), Some(b"dog".to_vec()));
        assert_eq!(NamedLanguage::of(b"Chinese"), NamedLanguage::Chinese);
        assert_eq!(NamedLanguage::of(b"klingon"), NamedLanguage::Unknown);
    }

    #[test]
    fn no_word_stops_an_algorithm() {
        let mut state = 5u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let scripts = [0x61, 0xe0, 0x3b1, 0x430, 0x531, 0x5d0, 0x621, 0x905, 0xb85];
        for round in 0..4_000 {
            let script = scripts[random(scripts.len() as u64) as usize];
            let length = random(24);
            let mut letter = || char::from_u32(script + random(32) as u32).unwrap_or('x');
            let word: String = (0..length).map(|_| letter()).collect();
            let language = Language(round as u8 % LANGUAGES.len() as u8);
            _ = language.stem(word.as_bytes());
        }
    }
}
