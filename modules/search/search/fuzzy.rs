//! Terms that become a word by few changes, and a walk over them.

use crate::documents::texts::TextPostings;
use crate::edits::{Edits, edits_between};

/// The distance of terms from a word, up to a most.
pub struct Fuzzy {
    /// `None` if it is no UTF-8.
    word: Option<Vec<char>>,
    most: u8,
}

/// A walk over the terms at a distance. It goes to the next term that can be near enough, past all that begin
/// with what cannot become the word.
pub struct FuzzyWalk<'f> {
    fuzzy: &'f Fuzzy,
    /// The next term is at or after this.
    from: Vec<u8>,
    /// The characters of the last term as far as it could become the word, and the edits before and after
    /// each of them.
    last: Vec<char>,
    edits: Vec<Edits>,
}

/// Characters of terms that are read for one unit of work.
const CHARACTERS_PER_WORK: usize = 4;

impl Fuzzy {
    /// A word that is no UTF-8 is near to none.
    pub fn new(word: &[u8], most: u8) -> Fuzzy {
        Fuzzy { word: std::str::from_utf8(word).ok().map(|word| word.chars().collect()), most }
    }

    /// Whether a term is near enough. One that is no UTF-8 is not.
    pub fn matches(&self, term: &[u8]) -> bool {
        let Some(word) = &self.word else { return false };
        if term.len() > 4 * (word.len() + usize::from(self.most)) {
            return false;
        }
        std::str::from_utf8(term).is_ok_and(|term| edits_between(word, term.chars(), self.most).is_some())
    }

    pub fn walk(&self) -> FuzzyWalk<'_> {
        FuzzyWalk { fuzzy: self, from: Vec::new(), last: Vec::new(), edits: vec![Edits::start(self.most)] }
    }
}

impl FuzzyWalk<'_> {
    /// Continues the walk until `work` units are used up. Calls `each` with the number of each term that
    /// matches; it returns what it costs. True at the end.
    pub fn step(
        &mut self,
        texts: &TextPostings,
        work: &mut usize,
        mut each: impl FnMut(u32) -> usize,
    ) -> bool {
        let Some(word) = &self.fuzzy.word else { return true };
        loop {
            let Some((term, number)) = texts.word_from(&self.from) else { return true };
            // A longer term is dead at the end of this part of it at the latest.
            let head = &term[..term.len().min(4 * (word.len() + usize::from(self.fuzzy.most) + 2))];
            let (text, is_whole) = match std::str::from_utf8(head) {
                Ok(text) => (text, head.len() == term.len()),
                Err(error) => (std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(), false),
            };
            let mut visited = self.visit(word, text);
            if !is_whole && visited.is_end {
                // It is no UTF-8.
                visited = Visit { next: Some([term, &[0]].concat()), is_near: false, ..visited };
            }
            if visited.is_near {
                *work = work.saturating_sub(each(number));
            }
            let Some(next) = visited.next else { return true };
            self.from = next;
            *work = work.saturating_sub(1 + visited.read / CHARACTERS_PER_WORK);
            if *work == 0 {
                return false;
            }
        }
    }

    fn visit(&mut self, word: &[char], term: &str) -> Visit {
        let shared = term.chars().zip(&self.last).take_while(|(a, b)| a == *b).count();
        self.edits.truncate(shared + 1);
        self.last.truncate(shared);
        for character in term.chars().skip(shared) {
            let Some(edits) = self.edits[self.last.len()].next(word, character) else {
                let read = 1 + self.last.len() - shared;
                let next = self.after(word, term.as_bytes(), character);
                return Visit { next, read, is_near: false, is_end: false };
            };
            self.edits.push(edits);
            self.last.push(character);
        }
        let is_near = self.edits[self.last.len()].of_all(word).is_some();
        let next = Some([term.as_bytes(), &[0]].concat());
        Visit { next, read: self.last.len() - shared, is_near, is_end: true }
    }

    /// Where terms may be near enough again, after those that begin with `last` and this character; `None` if
    /// there are none. Nothing more may be changed after `last`, or this character would be a change.
    fn after(&self, word: &[char], term: &[u8], character: char) -> Option<Vec<u8>> {
        let mut after = term[..self.last.iter().map(|last| last.len_utf8()).sum()].to_vec();
        if let Some(next) = self.edits[self.last.len()].next_unedited(word, character) {
            after.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(after);
        }
        while let Some(last) = after.pop() {
            if last < u8::MAX {
                after.push(last + 1);
                return Some(after);
            }
        }
        None
    }
}

/// What a step of a walk found.
struct Visit {
    /// Where the walk goes on; `None` at its end.
    next: Option<Vec<u8>>,
    /// How many characters were read.
    read: usize,
    is_near: bool,
    /// Whether the term could become the word to its end.
    is_end: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::texts::TermTally;
    use crate::schema::create::definition_of;
    use crate::schema::language::Language;

    #[test]
    fn distances_are_counted_in_characters() {
        let matches = |word: &str, term: &[u8]| Fuzzy::new(word.as_bytes(), 1).matches(term);
        assert!(matches("über", b"uber") && matches("日本", "日本語".as_bytes()));
        assert!(!matches("ab", b"ba") && !matches("a", b"a\xff"));
    }

    #[test]
    fn a_walk_finds_what_a_comparison_with_each_term_finds() {
        let definition = definition_of("FT.CREATE i SCHEMA t TEXT NOSTEM");
        let mut texts = TextPostings::new(&definition);
        let mut state = 3u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let letters = ["a", "b", "c", "é", "д", "日"];
        let word = |random: &mut dyn FnMut(u64) -> u64| -> Vec<u8> {
            let mut word: Vec<u8> =
                (0..1 + random(6)).flat_map(|_| letters[random(6) as usize].bytes()).collect();
            if random(20) == 0 {
                word.push(0xff);
            }
            word
        };
        let words: Vec<Vec<u8>> = (0..3_000).map(|_| word(&mut random)).collect();
        let all = words.iter().map(|word| Some(&word[..])).collect();
        texts.post((0, 0), &all, Language::default(), &mut TermTally::default());
        for most in 1..=3 {
            for _ in 0..40 {
                let sought = word(&mut random);
                let fuzzy = Fuzzy::new(&sought, most);
                let mut want: Vec<&[u8]> =
                    words.iter().map(Vec::as_slice).filter(|word| fuzzy.matches(word)).collect();
                want.sort_unstable();
                want.dedup();
                let (mut walk, mut found) = (fuzzy.walk(), Vec::new());
                while !walk.step(&texts, &mut 7, |number| {
                    found.push(texts.term(number).to_vec());
                    0
                }) {}
                assert_eq!(found, want, "{sought:?} {most}");
            }
        }
    }
}
