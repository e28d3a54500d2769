//! How options of commands are read from their words, and which error says what is wrong with one.

use crate::error::{self, SearchError};
use engramdb_engine::command::Options;
use std::str::FromStr;

/// The word behind an option.
pub fn value<'a>(words: &mut Options<'a>, option: &str) -> Result<&'a [u8], SearchError> {
    words.word().map_err(|_| error::bad_arguments(option, error::NO_VALUE))
}

/// A count and as many words.
pub fn counted<'a>(words: &mut Options<'a>, option: &str) -> Result<&'a [&'a [u8]], SearchError> {
    let count: Option<i64> = whole_number(value(words, option)?);
    let count = count.ok_or_else(|| error::bad_arguments(option, error::CONVERSION))?;
    let count = usize::try_from(count).map_err(|_| error::bad_arguments(option, error::BOUNDS))?;
    words.words(count).map_err(|_| error::bad_arguments(option, error::NO_VALUE))
}

/// The same, for who keeps the words.
pub fn list(words: &mut Options<'_>, option: &str) -> Result<Vec<Vec<u8>>, SearchError> {
    Ok(counted(words, option)?.iter().map(|word| word.to_vec()).collect())
}

/// Digits, as a number of an integer's type.
pub fn whole_number<N: FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
