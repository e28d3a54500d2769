//! A request's arguments and the readers of their usual forms.

use super::CommandError;
use crate::types::{parse_double, parse_integer};
use std::ops::Deref;

/// All words of a request; the command's name is word 0. The arity was checked before the handler is called.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a>(&'a [&'a [u8]]);

impl<'a> Args<'a> {
    pub fn new(words: &'a [&'a [u8]]) -> Args<'a> {
        Args(words)
    }

    /// The words from `from` on, with the request's lifetime.
    pub fn from(&self, from: usize) -> &'a [&'a [u8]] {
        &self.0[from..]
    }

    /// The word at `index`, with the request's lifetime.
    pub fn word(&self, index: usize) -> &'a [u8] {
        self.0[index]
    }

    /// True if the word exists and is this keyword, in any case.
    pub fn is(&self, index: usize, keyword: &str) -> bool {
        self.0.get(index).is_some_and(|word| word.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    pub fn integer(&self, index: usize) -> Result<i64, CommandError> {
        integer(self.0[index])
    }

    pub fn double(&self, index: usize) -> Result<f64, CommandError> {
        parse_double(self.0[index]).ok_or(CommandError::NOT_FLOAT)
    }

    /// A reader of the words from `from` on, for options in any order.
    pub fn options(&self, from: usize) -> OptionWords<'a> {
        OptionWords { words: self.0, next: from }
    }
}

impl<'a> Deref for Args<'a> {
    type Target = [&'a [u8]];

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

pub fn integer(word: &[u8]) -> Result<i64, CommandError> {
    parse_integer(word).ok_or(CommandError::NOT_INTEGER)
}

/// Iterates over words: keywords in any case, which may be followed by values.
#[derive(Clone, Debug)]
pub struct OptionWords<'a> {
    words: &'a [&'a [u8]],
    next: usize,
}

impl<'a> OptionWords<'a> {
    pub fn is_done(&self) -> bool {
        self.next >= self.words.len()
    }

    /// The index of the next word among all words of the request.
    pub fn index(&self) -> usize {
        self.next
    }

    /// The number of words from the next one on.
    pub fn left(&self) -> usize {
        self.words.len().saturating_sub(self.next)
    }

    pub fn peek(&self) -> Option<&'a [u8]> {
        self.words.get(self.next).copied()
    }

    /// Takes the next word if it is this keyword.
    pub fn take(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.eq_ignore_ascii_case(keyword.as_bytes()));
        self.next += usize::from(found);
        found
    }

    /// Takes the next word; a syntax error if there is none.
    pub fn word(&mut self) -> Result<&'a [u8], CommandError> {
        let word = self.peek().ok_or(CommandError::SYNTAX)?;
        self.next += 1;
        Ok(word)
    }

    pub fn integer(&mut self) -> Result<i64, CommandError> {
        integer(self.word()?)
    }

    /// Takes `count` words; a syntax error if there are fewer.
    pub fn words(&mut self, count: usize) -> Result<&'a [&'a [u8]], CommandError> {
        let words = self.words.get(self.next..self.next.saturating_add(count)).ok_or(CommandError::SYNTAX)?;
        self.next += count;
        Ok(words)
    }
}
