//! Terms with numbers, each with what is posted under it.
//!
//! They are in order, so that a prefix is a range, and found by their hashes too, because each word of a
//! document that is indexed is looked up.

use super::blocks::Blocks;
use super::pieces::{PatternPieces, PieceIndex};
use engramdb_engine::table::{LOOKUPS_AHEAD, Table, hash_bytes};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Bound;
use std::sync::Arc;

/// What is posted under a term.
pub trait Posting: Default {
    /// Whether no document has the term.
    fn is_empty(&self) -> bool;

    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;
}

/// Postings by term, in the order of the terms. A term has a number while its posting is not empty; then the
/// number may become another term's.
pub struct NumberedTerms<P> {
    numbers: BTreeMap<Arc<[u8]>, u32>,
    /// The numbers, by the hash of their terms.
    hashed: Table<u32>,
    entries: Blocks<Entry<P>>,
    vacant: Blocks<u32>,
    /// How often a number has lost its term.
    renumbered: u64,
    /// Bytes of the terms' texts and postings.
    bytes: usize,
    /// What terms contain, if patterns are to be found by it.
    pieces: Option<Box<PieceIndex>>,
}

#[derive(Default)]
struct Entry<P> {
    term: Arc<[u8]>,
    posting: P,
}

/// The bytes of a term beside its entry: an entry of the tree, whose nodes are two thirds full, and the
/// header of its text.
const TERM_BYTES: usize = 56;

/// Terms that contain the pieces of a pattern are looked at one by one, if they are at most this part of all,
/// or few: a walk over all of them reads memory in order.
const CONTAINING_SHARE: usize = 8;
const CONTAINING_FEW: usize = 256;

impl<P: Posting> Entry<P> {
    fn bytes(&self) -> usize {
        self.term.len() + self.posting.heap_bytes()
    }
}

impl<P: Posting> NumberedTerms<P> {
    /// No terms yet; those for which `is_left_out` is false will be found by what they contain too.
    pub fn with_pieces(is_left_out: fn(&[u8]) -> bool) -> NumberedTerms<P> {
        NumberedTerms { pieces: Some(Box::new(PieceIndex::new(is_left_out))), ..NumberedTerms::default() }
    }

    /// The numbers of terms that may contain these pieces; `None` if that is not known, or if they are more
    /// than a small part of all.
    pub fn with_all(&self, pieces: &PatternPieces<'_>) -> Option<RoaringBitmap> {
        self.pieces.as_ref()?.numbers(pieces, (self.len() / CONTAINING_SHARE).max(CONTAINING_FEW) as u64)
    }

    /// The term of a number, if it has one.
    pub fn term_of(&self, number: u32) -> Option<&Arc<[u8]>> {
        self.entries.get(number).filter(|entry| !entry.posting.is_empty()).map(|entry| &entry.term)
    }

    /// The number of a term, which gets one if it has none. The caller posts a document under it.
    pub fn number_for(&mut self, term: &[u8]) -> u32 {
        self.number_for_hashed(hash_bytes(term), term)
    }

    /// The same for several terms. `touch` reads what a posting's change will read: it is called for several
    /// terms in a row, so that their cache misses overlap.
    pub fn numbers_for<'t>(
        &mut self,
        mut terms: impl ExactSizeIterator<Item = &'t [u8]>,
        touch: impl Fn(&P),
    ) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(terms.len());
        loop {
            let mut ahead = [(0, &[][..]); LOOKUPS_AHEAD];
            let mut filled = 0;
            for (next, term) in ahead.iter_mut().zip(&mut terms) {
                *next = (hash_bytes(term), term);
                filled += 1;
            }
            let ahead = &ahead[..filled];
            let known = self.likely_numbers(ahead, &touch);
            for (&(hash, term), known) in ahead.iter().zip(known) {
                let known = known.filter(|&number| *self.entries[number].term == *term);
                numbers.push(known.unwrap_or_else(|| self.number_for_hashed(hash, term)));
            }
            if filled < LOOKUPS_AHEAD {
                return numbers;
            }
        }
    }

    /// Reads the terms of these numbers, so that the cache misses of several comparisons overlap.
    pub fn touch_terms(&self, numbers: impl Iterator<Item = u32> + Clone) {
        let entries = || numbers.clone().filter_map(|number| self.entries.get(number));
        entries().for_each(|entry| _ = black_box(entry.term.len()));
        entries().for_each(|entry| _ = black_box(entry.term.first().copied()));
    }

    /// Numbers that these terms have, if they have any, unless their hashes collide. Reads their entries.
    fn likely_numbers(&self, terms: &[(u64, &[u8])], touch: impl Fn(&P)) -> [Option<u32>; LOOKUPS_AHEAD] {
        let mut hashes = terms.iter().map(|&(hash, _)| hash);
        let (found, _) = self.hashed.items_ahead(&mut hashes, |&number| _ = black_box(number));
        let numbers = found.map(|number| number.copied());
        let entries = || numbers.iter().flatten().map(|&number| &self.entries[number]);
        entries().for_each(|entry| _ = black_box(entry.term.len()));
        for entry in entries() {
            black_box(entry.term.first().copied());
            touch(&entry.posting);
        }
        numbers
    }

    fn number_for_hashed(&mut self, hash: u64, term: &[u8]) -> u32 {
        if let Some(number) = self.number_hashed(hash, term) {
            return number;
        }
        let term: Arc<[u8]> = term.into();
        let entry = Entry { term: term.clone(), posting: P::default() };
        self.bytes += entry.bytes();
        let number = match self.vacant.pop() {
            Some(number) => {
                self.entries[number] = entry;
                number
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        if let Some(pieces) = &mut self.pieces {
            pieces.add(&term, number);
        }
        self.numbers.insert(term, number);
        self.hashed.insert_new(hash, number);
        number
    }

    /// Changes the posting of a number so that it is not empty. `change` returns the bytes on the heap of
    /// what it has changed, before and after.
    pub fn post(&mut self, number: u32, change: impl FnOnce(&mut P) -> (usize, usize)) {
        let (before, after) = change(&mut self.entries[number].posting);
        self.bytes = self.bytes + after - before;
    }

    /// Takes something from the posting of a number, and the number from its term if nothing is left. A
    /// document lists a term as often as it occurs, so a number without a term is left alone.
    pub fn unpost(&mut self, number: u32, change: impl FnOnce(&mut P)) {
        if self.entries[number].posting.is_empty() {
            return;
        }
        self.change(number, change);
        let entry = &mut self.entries[number];
        if entry.posting.is_empty() {
            self.bytes -= entry.bytes();
            if let Some(pieces) = &mut self.pieces {
                pieces.remove(&entry.term, number);
            }
            self.numbers.remove(&entry.term);
            self.hashed.remove_where(hash_bytes(&entry.term), |&other| other == number);
            *entry = Entry::default();
            self.vacant.push(number);
            self.renumbered += 1;
        }
    }

    fn change(&mut self, number: u32, change: impl FnOnce(&mut P)) {
        let entry = &mut self.entries[number];
        let before = entry.bytes();
        change(&mut entry.posting);
        self.bytes = self.bytes + entry.bytes() - before;
    }

    pub fn number(&self, term: &[u8]) -> Option<u32> {
        self.number_hashed(hash_bytes(term), term)
    }

    fn number_hashed(&self, hash: u64, term: &[u8]) -> Option<u32> {
        self.hashed.with_hash(hash).copied().find(|&number| *self.entries[number].term == *term)
    }

    /// While this is the same, a number that has a term has the same term.
    pub fn renumbered(&self) -> u64 {
        self.renumbered
    }

    pub fn get(&self, term: &[u8]) -> Option<&P> {
        self.number(term).map(|number| self.posting(number))
    }

    /// The posting of a number, which a term must have.
    pub fn posting(&self, number: u32) -> &P {
        &self.entries[number].posting
    }

    /// The term of a number, which a term must have.
    pub fn term(&self, number: u32) -> &[u8] {
        &self.entries[number].term
    }

    /// The terms from a bound on, in order.
    pub fn from(&self, bound: Bound<&[u8]>) -> impl Iterator<Item = (&Arc<[u8]>, u32)> + use<'_, P> {
        let terms = self.numbers.range::<[u8], _>((bound, Bound::Unbounded));
        terms.map(|(term, &number)| (term, number))
    }

    /// The terms, in order.
    pub fn terms(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.numbers.keys().map(|term| &**term)
    }

    /// How many different terms there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.bytes
            + self.hashed.heap_bytes()
            + self.entries.heap_bytes()
            + self.vacant.heap_bytes()
            + self.numbers.len() * TERM_BYTES
            + self.pieces.as_ref().map_or(0, |pieces| pieces.heap_bytes())
    }

    /// Bytes of the terms' texts and postings, as they were counted and as they are.
    #[cfg(test)]
    pub fn counted_bytes(&self) -> (usize, usize) {
        let there = self.numbers.values().map(|&number| self.entries[number].bytes());
        (self.bytes, there.sum())
    }
}

impl<P> Default for NumberedTerms<P> {
    fn default() -> NumberedTerms<P> {
        NumberedTerms {
            numbers: BTreeMap::new(),
            hashed: Table::default(),
            renumbered: 0,
            entries: Blocks::default(),
            vacant: Blocks::default(),
            bytes: 0,
            pieces: None,
        }
    }
}
