//! Reads options of commands, and chooses their errors.

use crate::error::{self, SearchError};
use engramdb_engine::command::OptionWords;
use std::str::FromStr;

/// Reads the word after an option.
pub fn value<'a>(words: &mut OptionWords<'a>, option: &str) -> Result<&'a [u8], SearchError> {
    words.word().map_err(|_| error::bad_arguments(option, error::NO_VALUE))
}

/// Reads a count and as many words. Fails if the count is no number or negative, or words are missing.
pub fn counted<'a>(words: &mut OptionWords<'a>, option: &str) -> Result<&'a [&'a [u8]], SearchError> {
    let count: Option<i64> = whole_number(value(words, option)?);
    let count = count.ok_or_else(|| error::bad_arguments(option, error::CONVERSION))?;
    let count = usize::try_from(count).map_err(|_| error::bad_arguments(option, error::BOUNDS))?;
    words.words(count).map_err(|_| error::bad_arguments(option, error::NO_VALUE))
}

/// The same with owned words.
pub fn list(words: &mut OptionWords<'_>, option: &str) -> Result<Vec<Vec<u8>>, SearchError> {
    Ok(counted(words, option)?.iter().map(|word| word.to_vec()).collect())
}

/// Parses an integer; `None` if the word is none or does not fit.
pub fn whole_number<N: FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
