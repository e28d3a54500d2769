//! How options of commands are read from their words, and which error says what is wrong with one.

use crate::error;
use engramdb_engine::command::{CommandError, Options};
use std::str::FromStr;

/// The word behind an option.
pub fn value<'a>(words: &mut Options<'a>, option: &str) -> Result<&'a [u8], CommandError> {
    words.word().map_err(|_| error::bad_arguments(option, error::NO_VALUE))
}

/// A count and as many words.
pub fn counted<'a>(words: &mut Options<'a>, option: &str) -> Result<&'a [&'a [u8]], CommandError> {
    let count = whole_number(value(words, option)?);
    let count = count.ok_or_else(|| error::bad_arguments(option, error::CONVERSION))?;
    words.words(count).map_err(|_| error::bad_arguments(option, error::NO_VALUE))
}

/// The same, for who keeps the words.
pub fn list(words: &mut Options<'_>, option: &str) -> Result<Vec<Vec<u8>>, CommandError> {
    Ok(counted(words, option)?.iter().map(|word| word.to_vec()).collect())
}

/// Digits, as a number of an integer's type.
pub fn whole_number<N: FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
