//! What documents have in the fields with postings, by document id.
//!
//! Most documents have one number or one tag in a field: it is a cell of eight or four bytes. The cells of a
//! field are next to each other, in the order of ids, so that an aggregation over many documents reads memory
//! in its order. What does not fit in a cell is in a list, whose number the cell has.
//!
//! A column that has no cell for an id yet, or one that was cleared, does not know what the document has
//! there: a field that FT.ALTER has added is known only of documents that were read since.

use super::blocks::Blocks;
use super::sparse::{SparseCell, SparseCells};
use std::hint::black_box;
use std::ops::Deref;

/// The column of a field.
pub enum FieldColumn {
    /// Nothing is kept: a document has one vector at most, or its rows are known (rows.rs), or its shape is
    /// in the postings.
    None,
    /// Numbers, or the cells of positions.
    Numbers(NumberColumn),
    Tags(TagColumn),
    /// The numbers of the texts' words in order, with `TEXT_END` between two texts.
    Texts(ListColumn),
}

/// Lists of a column, numbered; a number is given again after its list was taken.
struct NumberedLists<T> {
    lists: Blocks<Box<[T]>>,
    vacant: Blocks<u32>,
}

impl<T> Default for NumberedLists<T> {
    fn default() -> NumberedLists<T> {
        NumberedLists { lists: Blocks::default(), vacant: Blocks::default() }
    }
}

impl<T> NumberedLists<T> {
    fn add(&mut self, list: Box<[T]>) -> u32 {
        if let Some(number) = self.vacant.pop() {
            self.lists[number] = list;
            return number;
        }
        self.lists.push(list);
        (self.lists.len() - 1) as u32
    }

    fn take(&mut self, number: u32) -> Box<[T]> {
        let list = std::mem::take(&mut self.lists[number]);
        self.vacant.push(number);
        if self.vacant.len() == self.lists.len() {
            *self = NumberedLists::default();
        }
        list
    }

    fn heap_bytes(&self) -> usize {
        self.lists.heap_bytes() + self.vacant.heap_bytes()
    }
}

/// The numbers of documents.
///
/// What is no number is written as a NaN, which numbers of documents never are: all bits of its exponent are
/// set, and the rest says what it is.
#[derive(Default)]
pub struct NumberColumn {
    cells: SparseCells<f64>,
    lists: NumberedLists<f64>,
}

/// The bits of a NaN.
const NAN_BITS: u64 = 0x7ff8 << 48;
const UNKNOWN_NUMBER: u64 = NAN_BITS | 1;
const MISSING_NUMBER: u64 = NAN_BITS | 2;
/// The field is there, and has no number.
const NO_NUMBER: u64 = NAN_BITS | 3;
/// The bits of a list's number are added.
const LISTED_NUMBERS: u64 = NAN_BITS | 1 << 32;

/// What a document has in a NUMERIC or TAG field, if it is in the cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KnownCell {
    Missing,
    Number(f64),
    /// The number of the only tag, whose text is the value in the document.
    Tag(u32),
}

impl SparseCell for f64 {
    fn unset() -> f64 {
        f64::from_bits(UNKNOWN_NUMBER)
    }

    fn is_unset(&self) -> bool {
        self.to_bits() == UNKNOWN_NUMBER
    }
}

impl NumberColumn {
    fn put(&mut self, id: u32, bits: u64) {
        self.cells.replace(id, f64::from_bits(bits));
    }

    pub fn set(&mut self, id: u32, number: f64) {
        match number.is_nan() {
            false => self.put(id, number.to_bits()),
            true => _ = self.set_list(id, &[number]),
        }
    }

    pub fn set_missing(&mut self, id: u32) {
        self.put(id, MISSING_NUMBER);
    }

    /// Returns the bytes that the list takes. An empty one takes none.
    pub fn set_list(&mut self, id: u32, numbers: &[f64]) -> usize {
        let bits = match numbers {
            [] => NO_NUMBER,
            _ => LISTED_NUMBERS | u64::from(self.lists.add(numbers.into())),
        };
        self.put(id, bits);
        size_of_val(numbers)
    }

    /// In the document's order.
    #[inline]
    pub fn get(&self, id: u32) -> &[f64] {
        match self.cells.get(id) {
            Some(number) if !number.is_nan() => std::slice::from_ref(number),
            Some(cell) => self.list_of(cell.to_bits()).map_or(&[], |list| &self.lists.lists[list]),
            None => &[],
        }
    }

    fn list_of(&self, bits: u64) -> Option<u32> {
        (bits >> 32 == LISTED_NUMBERS >> 32).then_some(bits as u32)
    }

    #[inline]
    fn known(&self, id: u32) -> Option<KnownCell> {
        let cell = *self.cells.get(id)?;
        match cell.to_bits() {
            _ if !cell.is_nan() => Some(KnownCell::Number(cell)),
            MISSING_NUMBER => Some(KnownCell::Missing),
            _ => None,
        }
    }

    /// Forgets what a document has. Returns the bytes that a list of it took.
    pub fn clear(&mut self, id: u32) -> usize {
        let Some(cell) = self.cells.get(id) else { return 0 };
        let list = if cell.is_nan() { self.list_of(cell.to_bits()) } else { None };
        self.put(id, UNKNOWN_NUMBER);
        list.map_or(0, |list| size_of_val(&*self.lists.take(list)))
    }
}

/// The tags of documents: numbers of terms.
///
/// The two top bits of a cell say what the others are.
#[derive(Default)]
pub struct TagColumn {
    cells: SparseCells<u32>,
    lists: NumberedLists<u32>,
}

/// The others are the number of a list.
const LISTED_TAGS: u32 = 1 << 31;
/// The others are the number of a term whose text differs from the value of the document's field, or where
/// that is not known.
const DIFFERS: u32 = 1 << 30;
const UNKNOWN_TAG: u32 = u32::MAX;
const MISSING_TAG: u32 = u32::MAX - 1;
/// The field is there, and has no tag.
const NO_TAG: u32 = u32::MAX - 2;

/// The numbers of a document's tags, in its order.
pub enum TagNumbers<'c> {
    One([u32; 1]),
    Listed(&'c [u32]),
}

impl Deref for TagNumbers<'_> {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            TagNumbers::One(number) => number,
            TagNumbers::Listed(numbers) => numbers,
        }
    }
}

impl SparseCell for u32 {
    fn unset() -> u32 {
        UNKNOWN_TAG
    }

    fn is_unset(&self) -> bool {
        *self == UNKNOWN_TAG
    }
}

impl TagColumn {
    fn put(&mut self, id: u32, cell: u32) {
        self.cells.replace(id, cell);
    }

    /// Sets the number of the only tag, whose text is the value in the document.
    pub fn set(&mut self, id: u32, number: u32) -> usize {
        if number >= DIFFERS {
            return self.list(id, &[number]);
        }
        self.put(id, number);
        0
    }

    pub fn set_missing(&mut self, id: u32) {
        self.put(id, MISSING_TAG);
    }

    /// Returns the bytes that the list takes. One tag, and none, take none.
    pub fn set_list(&mut self, id: u32, numbers: &[u32]) -> usize {
        match *numbers {
            [] => self.put(id, NO_TAG),
            [number] if number < DIFFERS => self.put(id, number | DIFFERS),
            _ => return self.list(id, numbers),
        }
        0
    }

    fn list(&mut self, id: u32, numbers: &[u32]) -> usize {
        let list = self.lists.add(numbers.into());
        assert!(list < LISTED_TAGS - 3, "lists of two tags and more do not fit in memory before");
        self.put(id, list | LISTED_TAGS);
        size_of_val(numbers)
    }

    pub fn get(&self, id: u32) -> TagNumbers<'_> {
        match self.cells.get(id).copied() {
            None | Some(UNKNOWN_TAG | MISSING_TAG | NO_TAG) => TagNumbers::Listed(&[]),
            Some(cell) if cell & LISTED_TAGS == 0 => TagNumbers::One([cell & !DIFFERS]),
            Some(cell) => TagNumbers::Listed(&self.lists.lists[cell & !LISTED_TAGS]),
        }
    }

    #[inline]
    fn known(&self, id: u32) -> Option<KnownCell> {
        match *self.cells.get(id)? {
            MISSING_TAG => Some(KnownCell::Missing),
            cell => (cell < DIFFERS).then_some(KnownCell::Tag(cell)),
        }
    }

    /// Forgets what a document has. Returns the bytes that a list of it took.
    pub fn clear(&mut self, id: u32) -> usize {
        let Some(&cell) = self.cells.get(id) else { return 0 };
        self.put(id, UNKNOWN_TAG);
        match cell {
            UNKNOWN_TAG | MISSING_TAG | NO_TAG => 0,
            _ if cell & LISTED_TAGS == 0 => 0,
            _ => size_of_val(&*self.lists.take(cell & !LISTED_TAGS)),
        }
    }
}

/// A list for each document.
#[derive(Default)]
pub struct ListColumn {
    lists: SparseCells<Box<[u32]>>,
}

impl SparseCell for Box<[u32]> {
    fn unset() -> Box<[u32]> {
        Box::default()
    }

    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl ListColumn {
    /// Returns the bytes that the list takes.
    pub fn set(&mut self, id: u32, list: Box<[u32]>) -> usize {
        let bytes = size_of_val(&*list);
        self.lists.replace(id, list);
        bytes
    }

    #[inline]
    pub fn get(&self, id: u32) -> &[u32] {
        self.lists.get(id).map_or(&[], |list| list)
    }

    pub fn take(&mut self, id: u32) -> Box<[u32]> {
        self.lists.replace(id, Box::default())
    }

    /// The ids and lists that are not empty.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u32])> {
        self.lists.iter().map(|(id, list)| (id, &**list))
    }

    pub fn heap_bytes(&self) -> usize {
        self.lists.heap_bytes()
    }
}

impl FieldColumn {
    /// What a document has, if it is in the cell and known.
    #[inline]
    pub fn known(&self, id: u32) -> Option<KnownCell> {
        match self {
            FieldColumn::Numbers(numbers) => numbers.known(id),
            FieldColumn::Tags(tags) => tags.known(id),
            FieldColumn::None | FieldColumn::Texts(_) => None,
        }
    }

    /// Reads the cell of a document.
    pub fn touch(&self, id: u32) {
        match self {
            FieldColumn::None => {}
            FieldColumn::Numbers(numbers) => _ = black_box(numbers.cells.get(id).copied()),
            FieldColumn::Tags(tags) => _ = black_box(tags.cells.get(id).copied()),
            FieldColumn::Texts(texts) => _ = black_box(texts.get(id).first().copied()),
        }
    }

    /// Bytes on the heap without the contents of lists.
    pub fn heap_bytes(&self) -> usize {
        match self {
            FieldColumn::None => 0,
            FieldColumn::Numbers(NumberColumn { cells, lists }) => cells.heap_bytes() + lists.heap_bytes(),
            FieldColumn::Tags(TagColumn { cells, lists }) => cells.heap_bytes() + lists.heap_bytes(),
            FieldColumn::Texts(lists) => lists.heap_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_what_was_set_last_and_lists_give_their_places_back() {
        let mut column = NumberColumn::default();
        assert_eq!((column.get(3), column.known(3)), (&[][..], None));
        assert_eq!(column.clear(3), 0);
        for number in [0.0, -0.0, -1.5, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX] {
            column.set(3, number);
            assert_eq!((column.get(3), column.known(3)), (&[number][..], Some(KnownCell::Number(number))));
        }
        assert_eq!(column.known(2), None, "a document that comes before is not known");
        column.set_missing(3);
        assert_eq!((column.get(3), column.known(3)), (&[][..], Some(KnownCell::Missing)));
        assert_eq!(column.set_list(3, &[]), 0);
        assert_eq!((column.get(3), column.known(3)), (&[][..], None));
        column.set_list(9, &[1.0, 2.0]);
        for round in 0..3 {
            for id in [0, 2, 4] {
                assert_eq!(column.set_list(id, &[f64::from(id), 1.0]), 16);
            }
            assert_eq!((column.get(2), column.known(2)), (&[2.0, 1.0][..], None));
            assert_eq!((column.clear(2), column.clear(2), column.get(2)), (16, 0, &[][..]));
            column.set(2, 9.0);
            assert_eq!((column.clear(0), column.clear(4), column.clear(2)), (16, 16, 0));
            assert_eq!(column.lists.lists.len(), 4, "round {round}");
        }
        assert_eq!((column.clear(9), column.lists.heap_bytes()), (16, 0), "nothing is left of lists");
        column.set(1, f64::NAN);
        assert!(
            column.get(1)[0].is_nan() && column.known(1).is_none(),
            "no bits of a NaN are taken for others"
        );
    }

    #[test]
    fn tags_are_what_was_set_last_and_only_exact_ones_are_known() {
        let mut column = TagColumn::default();
        assert_eq!((&*column.get(3), column.known(3)), (&[][..], None));
        assert_eq!(column.clear(3), 0);
        for number in [0, 7, DIFFERS - 1] {
            assert_eq!(column.set(3, number), 0);
            assert_eq!((&*column.get(3), column.known(3)), (&[number][..], Some(KnownCell::Tag(number))));
            assert_eq!(column.set_list(3, &[number]), 0);
            assert_eq!((&*column.get(3), column.known(3)), (&[number][..], None));
        }
        column.set_missing(3);
        assert_eq!((&*column.get(3), column.known(3)), (&[][..], Some(KnownCell::Missing)));
        assert_eq!(column.set_list(3, &[]), 0);
        assert_eq!((&*column.get(3), column.known(3)), (&[][..], None));
        assert_eq!(column.clear(3), 0);
        column.set_list(2, &[3, 4]);
        for numbers in [&[1, 2][..], &[DIFFERS], &[u32::MAX - 1], &[5, 5, 5]] {
            let bytes = match numbers {
                &[number] => column.set(1, number),
                _ => column.set_list(1, numbers),
            };
            assert_eq!((&*column.get(1), column.known(1), bytes), (numbers, None, 4 * numbers.len()));
            assert_eq!((column.clear(1), column.get(1).len()), (bytes, 0));
        }
        assert_eq!(column.lists.lists.len(), 2, "the place of a list is given again");
        assert_eq!((column.clear(2), column.lists.heap_bytes()), (8, 0), "nothing is left of lists");
    }
}
