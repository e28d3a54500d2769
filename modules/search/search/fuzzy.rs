//! Words that become another one by few changes: Levenshtein's distance, in characters.

use crate::documents::texts::TextPostings;

/// A row of the table of distances: of the word's beginnings from one beginning of a term.
type Distances = Vec<u8>;

/// The distance of terms from a word, up to a most.
pub struct Fuzzy {
    word: Vec<char>,
    most: u8,
}

/// A walk over the terms at a distance. Terms that begin with what cannot become the word are skipped
/// together.
pub struct FuzzyWalk<'f> {
    fuzzy: &'f Fuzzy,
    /// The next term is at or after this.
    pub from: Vec<u8>,
    /// The characters of the last term, and the distances after each of them.
    last: Vec<char>,
    rows: Vec<Distances>,
}

/// Bytes that are no UTF-8 are characters by themselves, above those of Unicode's planes in use.
const NO_UTF8: u32 = 0xf_0000;

fn characters(term: &[u8]) -> Vec<char> {
    let mut found = Vec::with_capacity(term.len());
    for chunk in term.utf8_chunks() {
        found.extend(chunk.valid().chars());
        let bytes = chunk.invalid().iter();
        found.extend(bytes.filter_map(|&byte| char::from_u32(NO_UTF8 + u32::from(byte))));
    }
    found
}

impl Fuzzy {
    pub fn new(word: &[u8], most: u8) -> Fuzzy {
        Fuzzy { word: characters(word), most }
    }

    fn first_row(&self) -> Distances {
        (0..=self.word.len()).map(|place| place.min(usize::from(self.most) + 1) as u8).collect()
    }

    /// The distances after one more character.
    fn next_row(&self, before: &Distances, character: char) -> Distances {
        let mut row = Vec::with_capacity(before.len());
        row.push((before[0] + 1).min(self.most + 1));
        for (place, &own) in self.word.iter().enumerate() {
            let replaced = before[place] + u8::from(own != character);
            let least = replaced.min(before[place + 1] + 1).min(row[place] + 1);
            row.push(least.min(self.most + 1));
        }
        row
    }

    pub fn matches(&self, term: &[u8]) -> bool {
        let mut row = self.first_row();
        for character in characters(term) {
            row = self.next_row(&row, character);
            if row.iter().all(|&distance| distance > self.most) {
                return false;
            }
        }
        row.last().is_some_and(|&distance| distance <= self.most)
    }

    pub fn walk(&self) -> FuzzyWalk<'_> {
        FuzzyWalk { fuzzy: self, from: Vec::new(), last: Vec::new(), rows: vec![self.first_row()] }
    }
}

impl FuzzyWalk<'_> {
    /// Continues the walk until `work` units are used up; calls `each` with the number of each term that
    /// matches. True at the end.
    pub fn step(&mut self, texts: &TextPostings, work: &mut usize, mut each: impl FnMut(u32)) -> bool {
        loop {
            let Some((term, number)) = texts.word_from(&self.from) else { return true };
            let found = characters(term);
            let shared = found.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
            let shared = shared.min(self.rows.len() - 1);
            self.rows.truncate(shared + 1);
            let mut dead = None;
            for (place, &character) in found.iter().enumerate().skip(shared) {
                let row = self.fuzzy.next_row(&self.rows[place], character);
                let is_dead = row.iter().all(|&distance| distance > self.fuzzy.most);
                self.rows.push(row);
                if is_dead {
                    dead = Some(place);
                    break;
                }
            }
            let visited = self.rows.len() - shared;
            self.from = match dead {
                // No term with this beginning matches.
                Some(place) => match after_beginning(&found[..=place], term) {
                    Some(from) => from,
                    None => return true,
                },
                None => {
                    if self.rows[found.len()].last().is_some_and(|&distance| distance <= self.fuzzy.most) {
                        each(number);
                    }
                    [term, &[0]].concat()
                }
            };
            self.rows.truncate(found.len() + 1);
            self.last = found;
            *work = work.saturating_sub(1 + visited * self.fuzzy.word.len() / 16);
            if *work == 0 {
                return false;
            }
        }
    }
}

/// The least bytes after all terms that begin like this term, with these characters; `None` if there are
/// none. After a byte that is no UTF-8 in this term, but may be in others, these are the next bytes after the
/// term.
fn after_beginning(beginning: &[char], term: &[u8]) -> Option<Vec<u8>> {
    let bytes_of = |character: &char| if is_no_utf8(*character) { 1 } else { character.len_utf8() };
    if beginning.last().is_some_and(|&last| is_no_utf8(last)) {
        return Some([term, &[0]].concat());
    }
    let mut after = term[..beginning.iter().map(bytes_of).sum()].to_vec();
    while let Some(last) = after.pop() {
        if last < u8::MAX {
            after.push(last + 1);
            return Some(after);
        }
    }
    None
}

fn is_no_utf8(character: char) -> bool {
    (NO_UTF8..NO_UTF8 + 256).contains(&u32::from(character))
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
                while !walk.step(&texts, &mut 7, |number| found.push(texts.term(number).to_vec())) {}
                assert_eq!(found, want, "{sought:?} {most}");
            }
        }
    }
}
