//! The languages that LANGUAGE accepts. None of them changes how text is indexed.

/// RediSearch's languages, by their names in its commands.
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

/// Whether RediSearch has a language of this name. Case does not matter.
pub fn is_language(word: &[u8]) -> bool {
    LANGUAGES.iter().any(|language| word.eq_ignore_ascii_case(language.as_bytes()))
}
