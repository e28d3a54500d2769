//! Postings: the documents of each value of a field, from which filters are answered.
//!
//! Documents are dense `u32` ids, and sets of them are compressed bitmaps. Terms (of TAG and TEXT fields) are
//! sorted, so that a prefix is a range. Numbers are pairs of number and document, sorted by number.

use super::ids::Counted;
use super::numbered::{NumberedTerms, Posting};
use super::pairs::{NumberPair, PairSet, unpacked};
use super::pieces::PatternPieces;
use roaring::RoaringBitmap;
use std::ops::Bound;
use std::sync::Arc;

/// Documents by term. A term has a number while at least one document has it.
#[derive(Default)]
pub struct TermPostings(NumberedTerms<Counted>);

impl Posting for Counted {
    fn is_empty(&self) -> bool {
        RoaringBitmap::is_empty(self)
    }

    fn heap_bytes(&self) -> usize {
        self.bytes()
    }
}

/// A walk over terms, which may change between two steps. It visits each term that exists throughout.
#[derive(Default)]
pub struct TermWalk {
    pub after: Option<Arc<[u8]>>,
    pub documents: RoaringBitmap,
}

/// Bytes of a term, and documents of a term, that are processed for one unit of work.
const BYTES_PER_WORK: usize = 32;
const DOCUMENTS_PER_WORK: usize = 4096;
/// Numbers that are visited for one unit of work.
const NUMBERS_PER_WORK: usize = 4;

impl TermPostings {
    /// Those of a field WITHSUFFIXTRIE.
    pub fn with_pieces() -> TermPostings {
        TermPostings(NumberedTerms::with_pieces(|_| false))
    }

    /// See `NumberedTerms::with_all`.
    pub fn with_all(&self, pieces: &PatternPieces<'_>) -> Option<RoaringBitmap> {
        self.0.with_all(pieces)
    }

    /// The term of a number, if it has one.
    pub fn term_of(&self, number: u32) -> Option<&Arc<[u8]>> {
        self.0.term_of(number)
    }

    /// Adds the document to the term; returns the term's number.
    pub fn insert(&mut self, term: &[u8], document: u32) -> u32 {
        let number = self.0.number_for(term);
        self.0.post(number, |documents| {
            let before = documents.bytes();
            documents.insert(document);
            (before, documents.bytes())
        });
        number
    }

    /// Removes the document from the term of this number.
    pub fn remove(&mut self, number: u32, document: u32) {
        self.0.unpost(number, |documents| _ = documents.remove(document));
    }

    pub fn get(&self, term: &[u8]) -> Option<&RoaringBitmap> {
        self.0.get(term).map(|documents| &**documents)
    }

    pub fn number(&self, term: &[u8]) -> Option<u32> {
        self.0.number(term)
    }

    /// The term of a number, which at least one document must have.
    pub fn term(&self, number: u32) -> &[u8] {
        self.0.term(number)
    }

    /// See `NumberedTerms::touch_terms`.
    pub fn touch_terms(&self, numbers: impl Iterator<Item = u32> + Clone) {
        self.0.touch_terms(numbers);
    }

    /// While this is the same, a number has the same term.
    pub fn renumbered(&self) -> u64 {
        self.0.renumbered()
    }

    /// Continues a walk over the terms with this prefix, and adds the documents of terms that `matches`
    /// accepts, until `work` units are used up. `weight` is the cost of a call of `matches` per
    /// `BYTES_PER_WORK` bytes of the term. True at the end of the walk.
    pub fn step(
        &self,
        walk: &mut TermWalk,
        prefix: &[u8],
        (weight, matches): (usize, impl Fn(&[u8]) -> bool),
        work: &mut usize,
    ) -> bool {
        let from = walk.after.as_deref().map_or(Bound::Included(prefix), Bound::Excluded);
        for (term, number) in self.0.from(from).take_while(|(term, _)| term.starts_with(prefix)) {
            *work = work.saturating_sub(1 + term.len() * weight / BYTES_PER_WORK);
            if matches(term) {
                let documents = &**self.0.posting(number);
                walk.documents |= documents;
                *work = work.saturating_sub(documents.len() as usize / DOCUMENTS_PER_WORK);
            }
            if *work == 0 {
                walk.after = Some(term.clone());
                return false;
            }
        }
        true
    }

    /// The terms, in order.
    pub fn terms(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.terms()
    }

    /// How many different terms there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

/// Documents by number.
#[derive(Default)]
pub struct NumberPostings {
    pairs: PairSet,
}

/// A walk over numbers, which may change between two steps. A changed document may occur twice.
#[derive(Default)]
pub struct NumberWalk {
    after: Option<NumberPair>,
    /// In the order of their numbers.
    pub documents: Vec<u32>,
}

/// A walk over a range of numbers, with what they are.
#[derive(Default)]
pub struct PositionWalk {
    after: Option<NumberPair>,
}

/// An end of a numeric range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub value: f64,
    pub exclusive: bool,
}

impl NumberPostings {
    pub fn insert(&mut self, number: f64, document: u32) {
        self.pairs.insert((ordered(number), document));
    }

    pub fn remove(&mut self, number: f64, document: u32) {
        self.pairs.remove((ordered(number), document));
    }

    /// Continues a walk over the numbers between the limits, until `work` units are used up. True at the end
    /// of the walk.
    pub fn step(&self, walk: &mut NumberWalk, (least, most): (Limit, Limit), work: &mut usize) -> bool {
        let (first, last) = (ordered(least.value), ordered(most.value));
        if first > last || (first == last && (least.exclusive || most.exclusive)) {
            return true;
        }
        let from = match walk.after {
            Some(pair) => Bound::Excluded(pair),
            None if least.exclusive => Bound::Excluded((first, u32::MAX)),
            None => Bound::Included((first, 0)),
        };
        let to = if most.exclusive { Bound::Excluded((last, 0)) } else { Bound::Included((last, u32::MAX)) };
        let most = *work * NUMBERS_PER_WORK;
        let mut walked = 0;
        for part in self.pairs.parts(from, to) {
            let part = &part[..part.len().min(most - walked)];
            walk.documents.extend(part.iter().map(|&[.., document]| document));
            walk.after = part.last().map_or(walk.after, |&pair| Some(unpacked(pair)));
            walked += part.len();
            if walked == most {
                break;
            }
        }
        *work -= walked / NUMBERS_PER_WORK;
        walked < most
    }

    /// Continues a walk from the first to the last number, and calls `each` with the numbers and documents,
    /// until `work` units are used up. True at the end of the walk.
    pub fn visit(
        &self,
        walk: &mut PositionWalk,
        (first, last): (f64, f64),
        work: &mut usize,
        mut each: impl FnMut(f64, u32),
    ) -> bool {
        let from = walk.after.map_or(Bound::Included((ordered(first), 0)), Bound::Excluded);
        let to = Bound::Included((ordered(last), u32::MAX));
        let most = *work * NUMBERS_PER_WORK;
        let mut walked = 0;
        for (number, document) in self.pairs.range(from, to).take(most) {
            each(from_ordered(number), document);
            walk.after = Some((number, document));
            walked += 1;
        }
        *work -= walked / NUMBERS_PER_WORK;
        walked < most
    }

    /// How many pairs of a number and a document there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.pairs.heap_bytes()
    }
}

pub fn is_between(number: f64, least: Limit, most: Limit) -> bool {
    let [number, first, last] = [number, least.value, most.value].map(ordered);
    let is_above = number > first || (number == first && !least.exclusive);
    is_above && (number < last || (number == last && !most.exclusive))
}

/// Maps numbers (no NaN) to integers in the same order.
fn ordered(number: f64) -> u64 {
    // Adding 0.0 turns -0 into 0, so that both are the same number.
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The reverse of `ordered`.
fn from_ordered(number: u64) -> f64 {
    f64::from_bits(if number >> 63 == 1 { number & !(1 << 63) } else { !number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_order_and_zero_has_no_sign() {
        let numbers = [f64::NEG_INFINITY, -1e9, -1.5, -1e-300, 0.0, 1e-300, 2.0, 1e9, f64::INFINITY];
        assert!(numbers.windows(2).all(|pair| ordered(pair[0]) < ordered(pair[1])));
        assert_eq!(ordered(-0.0), ordered(0.0));
        assert!(numbers.iter().all(|&number| from_ordered(ordered(number)) == number));
    }

    #[test]
    fn ranges_honour_exclusive_ends() {
        let mut postings = NumberPostings::default();
        for (document, number) in [1.0, 2.0, 2.0, 3.0].into_iter().enumerate() {
            postings.insert(number, document as u32);
        }
        let limit = |value, exclusive| Limit { value, exclusive };
        let found = |least, most| {
            let mut walk = NumberWalk::default();
            while !postings.step(&mut walk, (least, most), &mut 1) {}
            let numbers = [1.0, 2.0, 2.0, 3.0];
            let between = (0..4).filter(|&at| is_between(numbers[at as usize], least, most));
            assert!(between.eq(walk.documents.iter().copied()));
            walk.documents
        };
        assert_eq!(found(limit(1.0, false), limit(2.0, false)), [0, 1, 2]);
        assert_eq!(found(limit(1.0, true), limit(3.0, true)), [1, 2]);
        assert_eq!(found(limit(2.0, true), limit(2.0, false)), [0u32; 0]);
        assert_eq!(found(limit(3.0, false), limit(1.0, false)), [0u32; 0]);
        assert_eq!(found(limit(f64::NEG_INFINITY, false), limit(f64::INFINITY, false)), [0, 1, 2, 3]);
    }

    #[test]
    fn a_term_goes_with_its_last_document_and_its_number_is_reused() {
        let mut postings = TermPostings::default();
        let red = postings.insert(b"red", 1);
        assert_eq!(postings.insert(b"red", 2), red);
        postings.remove(red, 1);
        assert_eq!(postings.get(b"red").map(RoaringBitmap::len), Some(1));
        postings.remove(red, 2);
        assert!(postings.get(b"red").is_none());
        assert_eq!(postings.insert(b"blue", 7), red);
        postings.insert(b"blueish", 8);
        let mut walk = TermWalk::default();
        let mut step = || postings.step(&mut walk, b"blu", (1, |term| term.len() > 4), &mut 1);
        assert_eq!([step(), step(), step()], [false, false, true]);
        assert_eq!(walk.documents.into_iter().collect::<Vec<_>>(), [8]);
        assert_eq!(postings.len(), 2);
    }

    #[test]
    fn bytes_are_the_sum_over_existing_terms() {
        let mut postings = TermPostings::default();
        let check = |postings: &TermPostings| {
            let (counted, there) = postings.0.counted_bytes();
            assert_eq!(counted, there);
        };
        let insert = |postings: &mut TermPostings, document: u32| -> Vec<u32> {
            // One term is in all documents, three in a third each, others in few. Each text has one term
            // twice.
            let terms = ["all".to_owned(), format!("third{}", document % 3), format!("few{}", document / 9)];
            terms.iter().chain(&terms[..1]).map(|term| postings.insert(term.as_bytes(), document)).collect()
        };
        let numbers: Vec<Vec<u32>> = (0..70_000).map(|document| insert(&mut postings, document)).collect();
        check(&postings);
        for (document, numbers) in (0..).zip(&numbers) {
            numbers.iter().for_each(|&number| postings.remove(number, document));
            if document % 10_000 == 0 {
                check(&postings);
            }
        }
        assert_eq!((postings.len(), postings.0.counted_bytes()), (0, (0, 0)));
    }
}
