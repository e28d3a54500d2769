//! Words that become another one by few changes: Levenshtein's distance, in characters.

use crate::documents::texts::TextPostings;

/// A row of the table of distances: of the word's beginnings from one beginning of a term.
type Distances = Vec<u8>;

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
    /// The characters of the last term as far as it could become the word, and the distances before and after
    /// each of them.
    last: Vec<char>,
    rows: Vec<Distances>,
}

impl Fuzzy {
    /// A word that is no UTF-8 is near to none.
    pub fn new(word: &[u8], most: u8) -> Fuzzy {
        Fuzzy { word: std::str::from_utf8(word).ok().map(|word| word.chars().collect()), most }
    }

    fn first_row(&self) -> Distances {
        let length = self.word.as_ref().map_or(0, Vec::len);
        (0..=length).map(|place| place.min(usize::from(self.most) + 1) as u8).collect()
    }

    /// The distances after one more character.
    fn next_row(&self, before: &Distances, character: char) -> Distances {
        let mut row = Vec::with_capacity(before.len());
        row.push((before[0] + 1).min(self.most + 1));
        for (place, &own) in self.word.iter().flatten().enumerate() {
            let replaced = before[place] + u8::from(own != character);
            let least = replaced.min(before[place + 1] + 1).min(row[place] + 1);
            row.push(least.min(self.most + 1));
        }
        row
    }

    /// Whether no term that begins with this can become the word.
    fn is_dead(&self, row: &Distances) -> bool {
        row.iter().all(|&distance| distance > self.most)
    }

    /// Whether a term is near enough. One that is no UTF-8 is not.
    pub fn matches(&self, term: &[u8]) -> bool {
        let Some(word) = &self.word else { return false };
        if term.len() > 4 * (word.len() + usize::from(self.most)) {
            return false;
        }
        let Ok(term) = std::str::from_utf8(term) else { return false };
        let mut row = self.first_row();
        for character in term.chars() {
            row = self.next_row(&row, character);
            if self.is_dead(&row) {
                return false;
            }
        }
        row.last().is_some_and(|&distance| distance <= self.most)
    }

    /// The least character after this one that may come next where nothing more may be changed.
    fn next_character(&self, row: &Distances, after: char) -> Option<char> {
        let word = self.word.iter().flatten().zip(row);
        let possible = word.filter(|(own, distance)| **distance <= self.most && **own > after);
        possible.map(|(own, _)| *own).min()
    }

    pub fn walk(&self) -> FuzzyWalk<'_> {
        FuzzyWalk { fuzzy: self, from: Vec::new(), last: Vec::new(), rows: vec![self.first_row()] }
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
            let mut visited = self.visit(text);
            if !is_whole && visited.is_end {
                // It is no UTF-8.
                visited = Visit { next: Some([term, &[0]].concat()), is_near: false, ..visited };
            }
            if visited.is_near {
                *work = work.saturating_sub(each(number));
            }
            let Some(next) = visited.next else { return true };
            self.from = next;
            *work = work.saturating_sub(1 + visited.rows * word.len() / 16);
            if *work == 0 {
                return false;
            }
        }
    }

    fn visit(&mut self, term: &str) -> Visit {
        let shared = term.chars().zip(&self.last).take_while(|(a, b)| a == *b).count();
        self.rows.truncate(shared + 1);
        self.last.truncate(shared);
        for character in term.chars().skip(shared) {
            let row = self.fuzzy.next_row(&self.rows[self.last.len()], character);
            if self.fuzzy.is_dead(&row) {
                let rows = 1 + self.last.len() - shared;
                let next = self.after(term.as_bytes(), character);
                return Visit { next, rows, is_near: false, is_end: false };
            }
            self.rows.push(row);
            self.last.push(character);
        }
        let row = &self.rows[self.last.len()];
        let is_near = row.last().is_some_and(|&distance| distance <= self.fuzzy.most);
        let next = Some([term.as_bytes(), &[0]].concat());
        Visit { next, rows: self.last.len() - shared, is_near, is_end: true }
    }

    /// Where terms may be near enough again, after those that begin with `last` and this character; `None` if
    /// there are none. Nothing more may be changed after `last`, or this character would be a change.
    fn after(&self, term: &[u8], character: char) -> Option<Vec<u8>> {
        let mut after = term[..self.last.iter().map(|last| last.len_utf8()).sum()].to_vec();
        if let Some(next) = self.fuzzy.next_character(&self.rows[self.last.len()], character) {
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
    /// How many rows were computed.
    rows: usize,
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
        for (word, term, distance) in [
            ("helo", "hello", 1),
            ("hello", "hello", 0),
            ("kitten", "sitting", 3),
            ("über", "uber", 1),
            ("", "abc", 3),
            ("abc", "", 3),
            ("ab", "ba", 2),
        ] {
            for most in 1..=3 {
                let fuzzy = Fuzzy::new(word.as_bytes(), most);
                assert_eq!(fuzzy.matches(term.as_bytes()), distance <= most, "{word} {term} {most}");
            }
        }
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
        let all: Vec<Option<Vec<u8>>> = words.iter().cloned().map(Some).collect();
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
