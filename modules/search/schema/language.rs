//! The languages that LANGUAGE may name: each is accepted, and none changes how text is indexed.

/// Those of RediSearch, by the names that its commands know.
const LANGUAGES: &[&str] = &[
    "arabic",
    "armenian",
    "basque",
    "catalan",
    "chinese",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hindi",
    "hungarian",
    "indonesian",
    "irish",
    "italian",
    "lithuanian",
    "nepali",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "serbian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
    "yiddish",
];

/// Whether RediSearch knows a language by this name, in any case of letters.
pub fn is_language(word: &[u8]) -> bool {
    LANGUAGES.iter().any(|language| word.eq_ignore_ascii_case(language.as_bytes()))
}
