//! Levenshtein's distance: how many characters to insert, remove or replace to make one word of another, as
//! far as it matters.

/// The largest distance that is asked for.
pub const EDITS_MAX: u8 = 4;

const ROW: usize = 2 * EDITS_MAX as usize + 1;

/// The edits between what was read of a text and the beginnings of a word. A beginning whose length differs
/// from what was read by more than `most` is too far and has no place here, so a character of the text takes
/// time in proportion to `most`.
#[derive(Clone, Copy)]
pub struct Edits {
    most: u8,
    read: usize,
    /// In place `k`, for the first `read + k - most` characters of the word. `most + 1` stands for all that
    /// is more than `most`.
    row: [u8; ROW],
}

impl Edits {
    /// Nothing is read yet.
    pub fn start(most: u8) -> Edits {
        assert!(most <= EDITS_MAX, "a distance of {most}");
        let mut row = [most + 1; ROW];
        (0..=most).for_each(|length| row[usize::from(most + length)] = length);
        Edits { most, read: 0, row }
    }

    fn places(&self) -> usize {
        2 * usize::from(self.most) + 1
    }

    /// The beginning of the word at a place: its length.
    fn length(&self, place: usize, word: &[char]) -> Option<usize> {
        (self.read + place).checked_sub(self.most.into()).filter(|&length| length <= word.len())
    }

    /// After one more character of the text; `None` if no text that goes on from there can become the word.
    pub fn next(mut self, word: &[char], character: char) -> Option<Edits> {
        self.read += 1;
        let far = self.most + 1;
        let mut is_near = false;
        for place in 0..self.places() {
            let edits = match self.length(place, word) {
                None => far,
                Some(length) => {
                    // `row` has the character before from this place on, and this character before it.
                    let replaced = match length.checked_sub(1) {
                        Some(last) => self.row[place] + u8::from(word[last] != character),
                        None => far,
                    };
                    let removed = self.row[..self.places()].get(place + 1).map_or(far, |before| before + 1);
                    let inserted = place.checked_sub(1).map_or(far, |before| self.row[before] + 1);
                    replaced.min(removed).min(inserted).min(far)
                }
            };
            self.row[place] = edits;
            is_near |= edits <= self.most;
        }
        is_near.then_some(self)
    }

    /// The edits between what was read and the whole word, if they are at most `most`.
    pub fn of_all(&self, word: &[char]) -> Option<u8> {
        let place = (word.len() + usize::from(self.most)).checked_sub(self.read)?;
        self.row[..self.places()].get(place).copied().filter(|&edits| edits <= self.most)
    }

    /// The least character above this one that is the next one of a beginning of the word that is near
    /// enough: where no further edit is left, only such a character may follow.
    pub fn next_unedited(&self, word: &[char], above: char) -> Option<char> {
        let near = (0..self.places()).filter(|&place| self.row[place] <= self.most);
        let next = near.filter_map(|place| word.get(self.length(place, word)?));
        next.copied().filter(|&next| next > above).min()
    }
}

/// The distance of a word and a text, if it is at most `most`.
pub fn edits_between(word: &[char], mut text: impl Iterator<Item = char>, most: u8) -> Option<u8> {
    text.try_fold(Edits::start(most), |edits, character| edits.next(word, character))?.of_all(word)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The distance, by the whole table.
    pub fn whole_distance(one: &[char], other: &[char]) -> usize {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (at, character) in one.iter().enumerate() {
            let mut before = row[0];
            row[0] = at + 1;
            for place in 0..other.len() {
                let replaced = before + usize::from(*character != other[place]);
                before = row[place + 1];
                row[place + 1] = replaced.min(before + 1).min(row[place] + 1);
            }
        }
        row[other.len()]
    }

    proptest! {
        #[test]
        fn is_that_of_the_whole_table(one in "[abc]{0,9}", other in "[abc]{0,9}", most in 0..=EDITS_MAX) {
            let (word, text): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
            let expected = whole_distance(&word, &text);
            prop_assert_eq!(
                edits_between(&word, text.iter().copied(), most).map(usize::from),
                Some(expected).filter(|&edits| edits <= usize::from(most))
            );
            // It ends exactly where no continuation is near enough.
            let mut edits = Some(Edits::start(most));
            for read in 1..=text.len() {
                edits = edits.and_then(|edits| edits.next(&word, text[read - 1]));
                let least = (0..=word.len()).map(|length| whole_distance(&word[..length], &text[..read])).min();
                prop_assert_eq!(edits.is_some(), least.expect("one beginning") <= usize::from(most));
            }
        }

        #[test]
        fn unedited_characters_are_those_that_keep_the_distance(
            word in "[abcd]{0,7}", text in "[abcd]{0,7}", most in 0..=EDITS_MAX, above in "[ab`]"
        ) {
            let (word, text): (Vec<char>, Vec<char>) = (word.chars().collect(), text.chars().collect());
            let above = above.chars().next().expect("one");
            let read = text.iter().try_fold(Edits::start(most), |edits, &next| edits.next(&word, next));
            let distance = |length: usize| whole_distance(&word[..length], &text);
            let near = (0..word.len()).filter(|&length| distance(length) <= usize::from(most));
            let expected = near.map(|length| word[length]).filter(|&next| next > above).min();
            if let Some(read) = read {
                prop_assert_eq!(read.next_unedited(&word, above), expected);
            }
        }
    }
}
