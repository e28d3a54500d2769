//! Texts of a request that are large: they are parsed without the lock.

use super::utf8;
use crate::limits::PARSED_AT_ONCE_BYTES;
use crate::packed;
use crate::path::ClientPath;
use crate::text;
use crate::value::tree::Root;
use engramdb_engine::MadeOfWords;
use engramdb_engine::command::CommandError;
use engramdb_engine::store::tx::Tx;
use std::sync::Arc;

/// A text that was parsed.
pub struct ParsedText {
    /// The beginning of a payload.
    pub payload: Vec<u8>,
    /// How many containers are within each other.
    pub depth: usize,
    /// The value in memory, if it was built without the lock.
    pub built: Option<Root>,
}

/// What was made of the texts of a request, in order.
type ParsedTexts = Vec<Result<ParsedText, CommandError>>;

impl ParsedText {
    /// Parses a text at once.
    pub fn of(word: &[u8]) -> Result<ParsedText, CommandError> {
        let mut payload = Vec::new();
        let depth = text::parse(utf8(word)?, &mut payload)?;
        Ok(ParsedText { payload, depth, built: None })
    }

    fn heap_bytes(&self) -> usize {
        self.payload.capacity() + self.built.as_ref().map_or(0, Root::heap_bytes)
    }
}

/// Whether the texts are long together, so that they are parsed without the lock.
pub fn are_large(words: &[&[u8]]) -> bool {
    words.iter().map(|word| word.len()).sum::<usize>() > PARSED_AT_ONCE_BYTES
}

/// Parses large texts without the lock. `None` if the command must return, and will run again.
pub fn parse_apart(tx: &mut Tx<'_>, words: &[&[u8]]) -> Option<ParsedTexts> {
    let parse = |words: Vec<Arc<Vec<u8>>>| made_of(words.iter().map(|word| ParsedText::of(word)).collect());
    taken(tx.made_of(words, parse)?)
}

/// The same for paths and texts in turn. The values of whole documents are built.
pub fn parse_and_build_apart(tx: &mut Tx<'_>, words: &[&[u8]]) -> Option<ParsedTexts> {
    let parse = |words: Vec<Arc<Vec<u8>>>| {
        let (pairs, _) = words.as_chunks::<2>();
        made_of(pairs.iter().map(|[path, text]| parse_and_build(path, text)).collect())
    };
    taken(tx.made_of(words, parse)?)
}

fn taken(made: MadeOfWords) -> Option<ParsedTexts> {
    Some(*made.value.downcast::<ParsedTexts>().expect("what made_of makes"))
}

fn parse_and_build(path: &[u8], text: &[u8]) -> Result<ParsedText, CommandError> {
    let parsed = ParsedText::of(text)?;
    let is_whole = ClientPath::new(path).is_ok_and(|path| path.is_root());
    Ok(ParsedText { built: is_whole.then(|| Root::of(&parsed.payload)), ..parsed })
}

/// Keeps a text that was parsed without the lock for the next run of the command. The payload begins with it.
pub fn keep_parsed(tx: &mut Tx<'_>, payload: &mut Vec<u8>, depth: usize, built: Option<Root>) {
    payload.truncate(packed::size(payload));
    let payload = std::mem::take(payload);
    tx.keep_made(made_of(vec![Ok(ParsedText { payload, depth, built })]));
}

/// The same for several texts of which the values were put one after the other.
pub fn keep_texts(tx: &mut Tx<'_>, mut values: &[u8], depths: &[usize]) {
    let texts = depths.iter().map(|&depth| {
        let (value, rest) = values.split_at(packed::size(values));
        values = rest;
        Ok(ParsedText { payload: value.to_vec(), depth, built: None })
    });
    let texts: ParsedTexts = texts.collect();
    tx.keep_made(made_of(texts));
}

fn made_of(texts: ParsedTexts) -> MadeOfWords {
    let heap_bytes = texts.iter().flatten().map(ParsedText::heap_bytes).sum();
    MadeOfWords { value: Box::new(texts), heap_bytes }
}
