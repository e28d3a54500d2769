//! The terms that contain a piece, for WITHSUFFIXTRIE: patterns like `*a*` and `*a` need not be compared with
//! each term.
//!
//! Of each term all sequences of three bytes are posted, and at its end those with one and two zeros behind
//! it. A pattern's literal pieces name the sequences that a matching term has; terms that have them all are
//! compared with the pattern. That finds all matches, in a few bytes for each byte of a term, where a tree of
//! suffixes takes a node for each (decision 0053).

use super::ids::Counted;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

type Gram = [u8; 3];

/// What follows a term, as far as its last byte has sequences.
const END: [u8; 2] = [0, 0];

/// The bytes of a sequence beside its terms: an entry of the tree, whose nodes are two thirds full.
const GRAM_BYTES: usize = 48;

/// Longer terms are not taken apart: each pattern is compared with all of them. A value of megabytes would be
/// as many entries, made under the keyspace's lock.
const APART_BYTES_MAX: usize = 256;

/// The most sequences, and the most pieces of two bytes, by which terms are looked for. More exclude
/// little and cost as much each.
const GRAMS_MAX: usize = 16;
const SHORT_MAX: usize = 2;

/// Numbers of terms by what they contain.
pub struct PieceIndex {
    grams: BTreeMap<Gram, Counted>,
    /// Terms that are not taken apart.
    long: Counted,
    /// Bytes of the sets.
    bytes: usize,
    /// Terms that no pattern finds.
    is_left_out: fn(&[u8]) -> bool,
}

/// The literal parts of a pattern.
#[derive(Debug, Default, PartialEq)]
pub struct PatternPieces<'p> {
    /// Anywhere in the term.
    pub inner: Vec<&'p [u8]>,
    /// At its end.
    pub last: Option<&'p [u8]>,
}

impl PieceIndex {
    pub fn new(is_left_out: fn(&[u8]) -> bool) -> PieceIndex {
        PieceIndex { grams: BTreeMap::new(), long: Counted::default(), bytes: 0, is_left_out }
    }

    pub fn add(&mut self, term: &[u8], number: u32) {
        if (self.is_left_out)(term) {
            return;
        }
        if term.len() > APART_BYTES_MAX {
            self.long.insert(number);
            return;
        }
        each_gram(term, &mut |gram| {
            let set = self.grams.entry(gram).or_default();
            let before = set.bytes();
            set.insert(number);
            self.bytes = self.bytes + set.bytes() - before;
        });
    }

    pub fn remove(&mut self, term: &[u8], number: u32) {
        if (self.is_left_out)(term) {
            return;
        }
        if term.len() > APART_BYTES_MAX {
            self.long.remove(number);
            return;
        }
        each_gram(term, &mut |gram| {
            // A term has a sequence as often as it occurs.
            let Some(set) = self.grams.get_mut(&gram) else { return };
            let before = set.bytes();
            set.remove(number);
            self.bytes = self.bytes + set.bytes() - before;
            if set.is_empty() {
                self.bytes -= set.bytes();
                self.grams.remove(&gram);
            }
        });
    }

    /// The numbers of terms that may contain all pieces; `None` if the pieces are too short to exclude any,
    /// or more than `most` terms may.
    pub fn numbers(&self, pieces: &PatternPieces<'_>, most: u64) -> Option<RoaringBitmap> {
        let long: &RoaringBitmap = &self.long;
        let found = self.apart(pieces, most)? | long;
        (found.len() <= most.saturating_add(1)).then_some(found)
    }

    /// Those of the terms that are taken apart.
    fn apart(&self, pieces: &PatternPieces<'_>, most: u64) -> Option<RoaringBitmap> {
        let mut grams: Vec<Gram> = Vec::new();
        let ending = pieces.last.map(|last| [last, &END[..]].concat());
        let whole = pieces.inner.iter().copied().filter(|piece| piece.len() >= 3);
        for piece in whole.chain(ending.as_deref().filter(|_| pieces.last != Some(b""))) {
            grams.extend(piece.windows(3).map(|window| Gram::try_from(window).expect("of three bytes")));
        }
        // The end excludes most terms: it is last.
        grams.drain(..grams.len().saturating_sub(GRAMS_MAX));
        let short = pieces.inner.iter().filter(|piece| piece.len() == 2);
        if grams.is_empty() {
            let mut found: Option<RoaringBitmap> = None;
            for piece in short.take(SHORT_MAX) {
                let among = self.with_two(piece[0], piece[1], most)?;
                found = Some(found.map_or_else(|| among.clone(), |found| found & &among));
            }
            return found;
        }
        let mut sets = Vec::with_capacity(grams.len());
        for gram in grams {
            let Some(set) = self.grams.get(&gram) else { return Some(RoaringBitmap::new()) };
            sets.push(set);
        }
        sets.sort_unstable_by_key(|set| set.len());
        if sets[0].len() > most {
            return None;
        }
        let (first, others) = sets.split_first().expect("there is a sequence");
        let first: &RoaringBitmap = first;
        Some(others.iter().fold(first.clone(), |found, set| {
            let set: &RoaringBitmap = set;
            found & set
        }))
    }

    /// The terms with two bytes in a row.
    fn with_two(&self, first: u8, second: u8, most: u64) -> Option<RoaringBitmap> {
        let mut found = RoaringBitmap::new();
        for (_, set) in self.grams.range([first, second, 0]..=[first, second, u8::MAX]) {
            let set: &RoaringBitmap = set;
            found |= set;
            if found.len() > most {
                return None;
            }
        }
        Some(found)
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.bytes + self.long.bytes() + self.grams.len() * GRAM_BYTES
    }
}

fn each_gram(term: &[u8], each: &mut dyn FnMut(Gram)) {
    let byte = |at: usize| term.get(at).copied().unwrap_or_default();
    (0..term.len()).for_each(|at| each([byte(at), byte(at + 1), byte(at + 2)]));
}

impl<'p> PatternPieces<'p> {
    pub fn suffix(piece: &'p [u8]) -> PatternPieces<'p> {
        PatternPieces { inner: Vec::new(), last: Some(piece) }
    }

    pub fn infix(piece: &'p [u8]) -> PatternPieces<'p> {
        PatternPieces { inner: vec![piece], last: None }
    }

    /// Of a pattern with `?` and `*`. What follows a backslash is not used.
    pub fn wildcard(pattern: &'p [u8]) -> PatternPieces<'p> {
        let mut inner: Vec<&[u8]> = pattern.split(|byte| b"*?\\".contains(byte)).collect();
        let last = inner.pop().filter(|last| !last.is_empty());
        let is_escaped = pattern.contains(&b'\\');
        if is_escaped {
            return PatternPieces::default();
        }
        inner.retain(|piece| !piece.is_empty());
        PatternPieces { inner, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_found_by_what_they_contain_and_by_their_ends() {
        let terms: [&[u8]; 9] = [b"", b"a", b"ab", b"abc", b"xabc", b"abcabc", b"bc", b"a\0b", b"\0"];
        let mut index = PieceIndex::new(|_| false);
        for (number, term) in terms.iter().enumerate() {
            index.add(term, number as u32);
        }
        let check = |pieces: &PatternPieces<'_>, matches: &dyn Fn(&[u8]) -> bool| {
            let Some(found) = index.numbers(pieces, u64::MAX) else { return };
            for (number, term) in terms.iter().enumerate() {
                assert!(!matches(term) || found.contains(number as u32), "{pieces:?} {term:?}");
            }
        };
        for piece in [&b"a"[..], b"ab", b"bc", b"abc", b"xab", b"cab", b"zz", b"a\0b", b"\0"] {
            let contains =
                |term: &[u8]| piece.is_empty() || term.windows(piece.len()).any(|window| window == piece);
            check(&PatternPieces::infix(piece), &contains);
            check(&PatternPieces::suffix(piece), &|term| term.ends_with(piece));
        }
        let few = |pieces: &PatternPieces<'_>| index.numbers(pieces, u64::MAX).expect("few").len();
        assert_eq!(few(&PatternPieces::infix(b"abc")), 3);
        assert_eq!(few(&PatternPieces::suffix(b"abc")), 3);
        assert_eq!(few(&PatternPieces::suffix(b"a")), 1);
        assert_eq!(few(&PatternPieces::infix(b"bc")), 4);
        assert_eq!(few(&PatternPieces::infix(b"zzz")), 0);
        assert_eq!(few(&PatternPieces::wildcard(b"x*bc")), 4, "single bytes do not tell");
        assert!(index.numbers(&PatternPieces::infix(b"a"), u64::MAX).is_none());
        assert!(index.numbers(&PatternPieces::infix(b"abc"), 2).is_none());
        assert!(index.numbers(&PatternPieces::wildcard(b"a\\*c"), u64::MAX).is_none());
        for (number, term) in terms.iter().enumerate() {
            index.remove(term, number as u32);
        }
        assert_eq!(index.heap_bytes(), index.long.bytes());
        assert!(index.grams.is_empty());
    }

    #[test]
    fn long_terms_cost_one_entry_and_long_patterns_few_sequences() {
        let mut index = PieceIndex::new(|_| false);
        let long = vec![b'x'; 1 << 20];
        index.add(&long, 0);
        index.add(b"abcdefghijklmnopqrstuvwxyz", 1);
        assert!(index.heap_bytes() < 4096, "{}", index.heap_bytes());
        let all: Vec<u32> = index
            .numbers(&PatternPieces::infix(b"bcdefghijklmnopqrstuvwxy"), 9)
            .expect("few")
            .iter()
            .collect();
        assert_eq!(all, [0, 1], "a long term may contain anything");
        let pattern = b"*ab*cd*ef*gh*ij*kl*".repeat(1000);
        assert!(index.numbers(&PatternPieces::wildcard(&pattern), 9).is_some());
        index.remove(&long, 0);
        assert_eq!(index.numbers(&PatternPieces::infix(b"abc"), 9).expect("few").len(), 1);
    }
}
