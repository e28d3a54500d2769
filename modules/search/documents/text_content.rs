//! The words of a field's texts, as they were read and before they are posted.

use super::TEXT_END;
use engramdb_engine::hashing::HashMap;

/// Beyond this number of words, each further word that was there before is kept once.
const LISTED_MAX: usize = 256;

/// Bytes of a text for whose words room is made at once, and about how many a word of it has.
const RESERVED_MAX: usize = 4096;
const WORD_BYTES: usize = 6;

/// Words in order, in one buffer. Long texts repeat most of their words, so that they have these once.
#[derive(Default)]
pub struct TextContent {
    bytes: Vec<u8>,
    /// Where each kept word ends in `bytes`.
    ends: Vec<u32>,
    /// The words as numbers of kept words, with `TEXT_END` between two texts.
    order: Vec<u32>,
    /// The numbers of kept words of a long text.
    known: HashMap<Box<[u8]>, u32>,
}

impl TextContent {
    /// Makes room for the words of a short text, or for the first ones of a long one.
    pub fn reserve(&mut self, text_bytes: usize) {
        let bytes = text_bytes.min(RESERVED_MAX);
        self.bytes.reserve(bytes);
        self.ends.reserve(bytes / WORD_BYTES + 1);
        self.order.reserve(bytes / WORD_BYTES + 1);
    }

    pub fn push(&mut self, word: &[u8]) {
        let number = self.number_of(word);
        self.order.push(number);
    }

    /// Ends a text: no phrase goes from it to the next.
    pub fn end_text(&mut self) {
        self.order.push(TEXT_END);
    }

    /// Called when all texts of the field were read: frees what only reading needs.
    pub fn finish(&mut self) {
        self.known = HashMap::default();
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many words are kept.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The numbers of the words in order, with `TEXT_END` between two texts.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    pub fn word(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.bytes[start..self.ends[number] as usize]
    }

    /// The kept words, by number.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len() as u32).map(|number| self.word(number))
    }

    pub fn heap_bytes(&self) -> usize {
        const KNOWN_BYTES: usize = 40;
        self.bytes.capacity() * if self.known.is_empty() { 1 } else { 2 }
            + (self.ends.capacity() + self.order.capacity()) * size_of::<u32>()
            + self.known.len() * KNOWN_BYTES
    }

    fn number_of(&mut self, word: &[u8]) -> u32 {
        if self.ends.len() < LISTED_MAX {
            return self.keep(word);
        }
        if self.known.is_empty() {
            self.known =
                (0..self.ends.len() as u32).map(|number| (self.word(number).into(), number)).collect();
        }
        if let Some(&number) = self.known.get(word) {
            return number;
        }
        let number = self.keep(word);
        self.known.insert(word.into(), number);
        number
    }

    fn keep(&mut self, word: &[u8]) -> u32 {
        self.bytes.extend_from_slice(word);
        self.ends.push(u32::try_from(self.bytes.len()).expect("reading.rs bounds the texts of a field"));
        (self.ends.len() - 1) as u32
    }
}

impl PartialEq for TextContent {
    fn eq(&self, other: &TextContent) -> bool {
        let words = |content: &TextContent, number: u32| match number {
            TEXT_END => None,
            number => Some(content.word(number).to_vec()),
        };
        self.order.len() == other.order.len()
            && self.order.iter().zip(&other.order).all(|(&one, &two)| words(self, one) == words(other, two))
    }
}

impl std::fmt::Debug for TextContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = |number: &u32| match *number {
            TEXT_END => None,
            number => Some(String::from_utf8_lossy(self.word(number))),
        };
        f.debug_list().entries(self.order.iter().map(word)).finish()
    }
}

/// For tests: `None` is between two texts.
#[cfg(test)]
impl<'w> FromIterator<Option<&'w [u8]>> for TextContent {
    fn from_iter<I: IntoIterator<Item = Option<&'w [u8]>>>(words: I) -> TextContent {
        let mut content = TextContent::default();
        for word in words {
            match word {
                Some(word) => content.push(word),
                None => content.end_text(),
            }
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_in_order_and_long_texts_have_each_once() {
        let words: Vec<Vec<u8>> = (0..2_000_u32).map(|n| format!("w{}", n % 700).into_bytes()).collect();
        let content: TextContent = words.iter().map(|word| Some(&word[..])).collect();
        let read = content.order().iter().map(|&number| content.word(number).to_vec());
        assert!(read.eq(words));
        assert_eq!(content.len(), 700);
    }
}
