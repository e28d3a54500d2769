//! Rows of the pipeline: a value, or none, for each property.

use super::meter::WorkMeter;
use crate::error::SearchError;
use crate::expr::{ExprValue, PropertyValues, compare_values};
use std::borrow::Cow;
use std::cmp::Ordering;

/// The value of a property; `None` if the row has none.
pub type Cell<'a> = Option<ExprValue<'a>>;

/// A row on its way through the steps.
#[derive(Debug, Default)]
pub struct PipelineRow<'a> {
    pub cells: Vec<Cell<'a>>,
    /// Names and values of the whole document, after LOAD *.
    pub whole: Vec<(Cow<'a, [u8]>, ExprValue<'a>)>,
    /// Rows are numbered in their order.
    pub number: u64,
    pub tags: RowTags,
}

/// Which cells are tags of the index, so that two rows with the same tag need not be compared by its text.
#[derive(Debug, Default)]
pub struct RowTags {
    /// By place, a tag's number plus one; 0 for a cell that is none. Rows without any may have no list.
    numbers: Vec<u32>,
    /// While this is the same, cells with the same number at the same place have the same value.
    pub generation: u64,
}

impl RowTags {
    pub fn of_width(width: usize, generation: u64) -> RowTags {
        RowTags { numbers: vec![0; width], generation }
    }

    /// Notes which tag the cell is.
    #[inline]
    pub fn set(&mut self, place: usize, tag: Option<u32>) {
        if let Some(number) = self.numbers.get_mut(place) {
            *number = tag.map_or(0, |tag| tag + 1);
        }
    }

    #[inline]
    pub fn get(&self, place: usize) -> Option<u32> {
        self.numbers.get(place)?.checked_sub(1)
    }
}

/// A row that borrows nothing.
#[derive(Clone, Debug)]
pub struct OwnedRow {
    pub cells: Box<[Cell<'static>]>,
    pub whole: Box<[(Box<[u8]>, ExprValue<'static>)]>,
    pub number: u64,
}

/// The properties of an expression: the cells of a row.
pub struct RowProperties<'r> {
    pub cells: &'r [Cell<'r>],
    /// By the property's number in the expression, its place among the cells.
    pub places: &'r [usize],
    pub meter: &'r WorkMeter,
}

impl PropertyValues for RowProperties<'_> {
    #[inline]
    fn value(&self, property: usize) -> Option<ExprValue<'_>> {
        self.cells[self.places[property]].as_ref().map(ExprValue::borrowed)
    }

    #[inline]
    fn spend(&self, work: usize) -> Result<(), SearchError> {
        self.meter.spend(work)
    }
}

impl PipelineRow<'_> {
    pub fn to_owned_row(&self) -> OwnedRow {
        let cells = self.cells.iter().map(|cell| cell.as_ref().map(ExprValue::to_static)).collect();
        let whole = self.whole.iter().map(|(name, value)| (Box::from(&**name), value.to_static())).collect();
        OwnedRow { cells, whole, number: self.number }
    }
}

impl OwnedRow {
    /// The bytes that the row takes, estimated.
    pub fn bytes(&self) -> usize {
        let cells: usize = self.cells.iter().map(cell_bytes).sum();
        let whole = |(name, value): &(Box<[u8]>, ExprValue<'static>)| 56 + name.len() + value.heap_bytes();
        size_of::<OwnedRow>() + cells + self.whole.iter().map(whole).sum::<usize>()
    }

    pub fn into_row(self) -> PipelineRow<'static> {
        let whole = self.whole.into_iter().map(|(name, value)| (Cow::Owned(name.into_vec()), value));
        let cells = self.cells.into_vec();
        PipelineRow { cells, whole: whole.collect(), number: self.number, tags: RowTags::default() }
    }
}

/// The bytes that a cell takes, estimated.
pub fn cell_bytes(cell: &Cell<'_>) -> usize {
    size_of::<Cell<'_>>() + cell.as_ref().map_or(0, ExprValue::heap_bytes)
}

/// The order of two cells by SORTBY: what is absent is last in either direction.
pub fn order_of_cells(left: &Cell<'_>, right: &Cell<'_>, descending: bool) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) if descending => compare_values(right, left),
        (Some(left), Some(right)) => compare_values(left, right),
        (left, right) => left.is_none().cmp(&right.is_none()),
    }
}
