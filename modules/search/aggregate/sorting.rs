//! SORTBY: keeps the first rows of an order.

use super::budget::MemoryBudget;
use super::rows::{Cell, OwnedRow, PipelineRow, order_of_cells};
use crate::error::SearchError;
use std::cmp::Ordering;

/// Rows that are kept beyond the wanted ones until the next selection.
const SPARE: usize = 64;

/// The rows so far.
#[derive(Debug)]
pub struct Sorter {
    /// The places of the cells, and whether they are descending.
    keys: Vec<(usize, bool)>,
    offset: usize,
    limit: usize,
    rows: Vec<OwnedRow>,
    /// All wanted rows come before the row of this place in `rows`, if there is one.
    bound: Option<OwnedRow>,
}

impl Sorter {
    pub fn new(keys: Vec<(usize, bool)>, offset: usize, limit: usize) -> Sorter {
        Sorter { keys, offset, limit, rows: Vec::new(), bound: None }
    }

    fn wanted(&self) -> usize {
        self.offset.saturating_add(self.limit)
    }

    /// Returns the bytes of the row if it is kept.
    pub fn add(&mut self, row: &PipelineRow<'_>, budget: &mut MemoryBudget) -> Result<usize, SearchError> {
        let is_after = |bound: &OwnedRow| {
            order(&self.keys, (&row.cells, row.number), (&bound.cells, bound.number)).is_gt()
        };
        if self.limit == 0 || self.bound.as_ref().is_some_and(is_after) {
            return Ok(0);
        }
        let row = row.to_owned_row();
        let bytes = row.bytes();
        budget.take(bytes)?;
        self.rows.push(row);
        if self.rows.len() >= self.wanted().saturating_mul(2).saturating_add(SPARE) {
            self.select(budget);
        }
        Ok(bytes)
    }

    /// Drops the rows that are not wanted.
    fn select(&mut self, budget: &mut MemoryBudget) {
        let wanted = self.wanted();
        let keys = &self.keys;
        let compare = |a: &OwnedRow, b: &OwnedRow| order(keys, (&a.cells, a.number), (&b.cells, b.number));
        self.rows.select_nth_unstable_by(wanted - 1, compare);
        budget.give_back(self.rows[wanted..].iter().map(OwnedRow::bytes).sum());
        self.rows.truncate(wanted);
        self.bound = self.rows.last().cloned();
    }

    /// The wanted rows, in order.
    pub fn finish(self) -> std::vec::IntoIter<OwnedRow> {
        let Sorter { keys, offset, limit, mut rows, .. } = self;
        rows.sort_unstable_by(|a, b| order(&keys, (&a.cells, a.number), (&b.cells, b.number)));
        rows.truncate(offset.saturating_add(limit));
        rows.drain(..offset.min(rows.len()));
        rows.into_iter()
    }
}

/// Equal rows keep their order, or have the reverse one if the first key is descending.
fn order(keys: &[(usize, bool)], left: (&[Cell<'_>], u64), right: (&[Cell<'_>], u64)) -> Ordering {
    for &(place, descending) in keys {
        let order = order_of_cells(&left.0[place], &right.0[place], descending);
        if order != Ordering::Equal {
            return order;
        }
    }
    let order = left.1.cmp(&right.1);
    if keys.first().is_some_and(|key| key.1) { order.reverse() } else { order }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::ExprValue;

    /// A sort panics if its order has circles.
    #[test]
    fn values_of_all_types_have_one_order() {
        let mut state = 9u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let text = |text: String| ExprValue::Text(text.into_bytes().into());
        let value = |random: &mut dyn FnMut(u64) -> u64| match random(7) {
            0 => None,
            1 => Some(ExprValue::Null),
            2 => Some(ExprValue::Number(f64::NAN)),
            3 => Some(ExprValue::Number(random(20) as f64 - 10.0)),
            4 => Some(text(format!("{}{}", random(20), ["", "z", " x"][random(3) as usize]))),
            5 => Some(ExprValue::List([ExprValue::Number(random(3) as f64), text("a".into())].into())),
            _ => Some(ExprValue::Number(f64::INFINITY)),
        };
        let cells: Vec<Cell<'static>> = (0..10_000).map(|_| value(&mut random)).collect();
        for descending in [false, true] {
            for a in &cells[..60] {
                for b in &cells[..60] {
                    let order = order_of_cells(a, b, descending);
                    assert_eq!(order_of_cells(b, a, descending), order.reverse(), "{a:?} {b:?}");
                    for c in &cells[..60] {
                        let both = [order, order_of_cells(b, c, descending)];
                        if both.iter().all(|order| order.is_le()) {
                            assert!(order_of_cells(a, c, descending).is_le(), "{a:?} {b:?} {c:?}");
                        }
                    }
                }
            }
            let mut sorter = Sorter::new(vec![(0, descending)], 0, 300);
            let mut budget = MemoryBudget::new(usize::MAX);
            for (number, cell) in (0..).zip(&cells) {
                let row = PipelineRow { cells: vec![cell.clone()], number, ..PipelineRow::default() };
                sorter.add(&row, &mut budget).expect("there is memory");
            }
            let mut all: Vec<(u64, &Cell<'static>)> = (0..).zip(&cells).collect();
            all.sort_by(|a, b| {
                order(&[(0, descending)], (std::slice::from_ref(a.1), a.0), (std::slice::from_ref(b.1), b.0))
            });
            let found: Vec<u64> = sorter.finish().map(|row| row.number).collect();
            assert!(found.iter().eq(all[..300].iter().map(|row| &row.0)));
        }
    }

    #[test]
    fn the_first_rows_of_many_are_kept_in_order() {
        let mut state = 5u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for (count, offset, limit, descending) in [
            (10, 0, 3, false),
            (5_000, 10, 20, true),
            (5_000, 0, 1, false),
            (3_000, 2_990, 50, true),
            (9, 20, 5, false),
        ] {
            let mut sorter = Sorter::new(vec![(0, descending)], offset, limit);
            let mut budget = MemoryBudget::new(usize::MAX);
            let mut all = Vec::new();
            for number in 0..count {
                let value = random(count / 3);
                let cell = (value > 0).then_some(ExprValue::Number(value as f64));
                let row = PipelineRow { cells: vec![cell.clone()], number, ..PipelineRow::default() };
                sorter.add(&row, &mut budget).expect("there is memory");
                all.push((cell, number));
            }
            all.sort_by(|a, b| {
                order(
                    &[(0, descending)],
                    (std::slice::from_ref(&a.0), a.1),
                    (std::slice::from_ref(&b.0), b.1),
                )
            });
            let wanted: Vec<u64> = all.iter().map(|row| row.1).skip(offset).take(limit).collect();
            let found: Vec<u64> = sorter.finish().map(|row| row.number).collect();
            assert_eq!(found, wanted, "{count} {offset} {limit}");
        }
    }
}
