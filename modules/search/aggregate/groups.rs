//! GROUPBY: a table of groups by the values of some properties, and the states of their reducers.
//!
//! The values of a group are bytes in one list, so that a row of a known group allocates nothing: its values
//! are written to a buffer, hashed, and compared. Where rows are grouped by one tag that comes from the
//! index, the group of each tag is remembered by the tag's number.

use super::budget::MemoryBudget;
use super::meter::WorkMeter;
use super::reducers::Reducer;
use super::rows::{OwnedRow, PipelineRow};
use crate::error::{Kind, SearchError};
use crate::expr::ExprValue;
use engramdb_engine::env::Random;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::table::{Table, hash_bytes};
use std::borrow::Cow;

/// The most groups that one row is added to, because properties are lists.
const COMBINATIONS_MAX: usize = 1 << 16;
/// The most bytes that are hashed for one such row.
const COMBINED_BYTES_MAX: usize = 1 << 28;
/// Bytes of a group in the table.
const GROUP_BYTES: usize = 24;

/// The first byte of a value in a group's bytes.
const NULL: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;

#[derive(Debug)]
pub struct Groups {
    /// The places of the properties.
    by: Vec<usize>,
    reducers: Vec<Reducer>,
    /// The groups by the hash of their values.
    table: Table<u32>,
    /// The values of all groups.
    values: Vec<u8>,
    /// Where the values of each group end.
    ends: Vec<usize>,
    /// What groups show instead of their values: by group and property.
    shown: HashMap<(u32, usize), ExprValue<'static>>,
    buffer: Vec<u8>,
    of_tags: TagGroups,
}

/// The groups of tags.
#[derive(Debug, Default)]
struct TagGroups {
    /// By the tag's number, its group's number plus one; 0 if that is not known.
    groups: Vec<u32>,
    /// The tags whose group is known.
    known: Vec<u32>,
    /// The rows' generation of which this is.
    generation: u64,
}

/// Tags with larger numbers are not remembered.
const TAGS_MAX: u32 = 1 << 18;

impl TagGroups {
    #[inline]
    fn get(&self, tag: u32, generation: u64) -> Option<usize> {
        let group = *self.groups.get(tag as usize)?;
        (group > 0 && generation == self.generation).then(|| group as usize - 1)
    }

    fn set(
        &mut self,
        tag: u32,
        generation: u64,
        group: usize,
        budget: &mut MemoryBudget,
    ) -> Result<(), SearchError> {
        if generation != self.generation {
            self.known.drain(..).for_each(|tag| self.groups[tag as usize] = 0);
            self.generation = generation;
        }
        let length = tag as usize + 1;
        if tag >= TAGS_MAX {
            return Ok(());
        }
        if length > self.groups.len() {
            // Each number has an entry in both lists.
            budget.take(2 * size_of::<u32>() * (length - self.groups.len()))?;
            self.groups.resize(length, 0);
        }
        self.groups[tag as usize] = group as u32 + 1;
        self.known.push(tag);
        Ok(())
    }
}

impl Groups {
    pub fn new(by: Vec<usize>, reducers: Vec<Reducer>) -> Groups {
        Groups {
            by,
            reducers,
            table: Table::new(),
            values: Vec::new(),
            ends: Vec::new(),
            shown: HashMap::default(),
            buffer: Vec::new(),
            of_tags: TagGroups::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The work of a row, but for the sizes of its values.
    pub fn row_work(&self) -> usize {
        self.by.len() + self.reducers.len()
    }

    /// Adds a row to its group. A row with lists is added to the groups of all combinations of their
    /// elements.
    pub fn add(
        &mut self,
        row: &PipelineRow<'_>,
        random: &dyn Random,
        (budget, meter): (&mut MemoryBudget, &WorkMeter),
    ) -> Result<(), SearchError> {
        if let [place] = self.by[..]
            && let Some(tag) = row.tags.get(place)
        {
            let generation = row.tags.generation;
            let group = match self.of_tags.get(tag, generation) {
                Some(group) => group,
                None => {
                    let group = self.group_of(row, 0, budget)?;
                    self.of_tags.set(tag, generation, group, budget)?;
                    group
                }
            };
            self.reduce(group, row, random, budget)?;
            return meter.spend(self.work_of(row));
        }
        let list = |place: &usize| match row.cells[*place].as_ref().map(ExprValue::seen) {
            Some(ExprValue::List(list)) => list.len().max(1),
            _ => 1,
        };
        let combinations = self.by.iter().map(list).fold(1usize, usize::saturating_mul);
        let bytes = |place: &usize| row.cells[*place].as_ref().map_or(0, ExprValue::heap_bytes);
        let is_much = || {
            let each: usize = self.by.iter().map(bytes).sum();
            combinations.saturating_mul(each) > COMBINED_BYTES_MAX
        };
        if combinations > COMBINATIONS_MAX || combinations > 1 && is_much() {
            return Err(Kind::GroupCombinations.with([COMBINATIONS_MAX.to_string().into()]));
        }
        let work = self.work_of(row);
        for combination in 0..combinations {
            let group = self.group_of(row, combination, budget)?;
            self.reduce(group, row, random, budget)?;
            meter.spend(work)?;
        }
        Ok(())
    }

    /// The work of adding a row to a group.
    fn work_of(&self, row: &PipelineRow<'_>) -> usize {
        let size = |place: usize| row.cells.get(place).and_then(Option::as_ref).map_or(0, ExprValue::size);
        let of_groups: usize = self.by.iter().map(|&place| size(place)).sum();
        let of_reducers: usize = self.reducers.iter().map(|reducer| size(reducer.place())).sum();
        self.row_work() + of_groups + of_reducers
    }

    #[inline]
    fn reduce(
        &mut self,
        group: usize,
        row: &PipelineRow<'_>,
        random: &dyn Random,
        budget: &mut MemoryBudget,
    ) -> Result<(), SearchError> {
        for reducer in &mut self.reducers {
            reducer.add(group, row, random, budget)?;
        }
        Ok(())
    }

    /// The group of a combination of the row's values, which is new if there is none yet.
    fn group_of(
        &mut self,
        row: &PipelineRow<'_>,
        mut combination: usize,
        budget: &mut MemoryBudget,
    ) -> Result<usize, SearchError> {
        self.buffer.clear();
        for &place in &self.by {
            match row.cells[place].as_ref().map(ExprValue::seen) {
                Some(ExprValue::List(list)) => {
                    let count = list.len().max(1);
                    write_value(list.get(combination % count), &mut self.buffer);
                    combination /= count;
                }
                value => write_value(value, &mut self.buffer),
            }
        }
        let hash = hash_bytes(&self.buffer);
        let is_it = |&&group: &&u32| self.values_of(group as usize) == self.buffer.as_slice();
        if let Some(&group) = self.table.with_hash(hash).find(is_it) {
            return Ok(group as usize);
        }
        let group = self.len() as u32;
        budget.take(GROUP_BYTES + self.buffer.len())?;
        self.table.insert_new(hash, group);
        self.values.extend_from_slice(&self.buffer);
        self.ends.push(self.values.len());
        for (number, &place) in self.by.iter().enumerate() {
            if let Some(value @ ExprValue::Several(_)) = &row.cells[place] {
                budget.take(GROUP_BYTES + value.heap_bytes())?;
                self.shown.insert((group, number), value.to_static());
            }
        }
        for reducer in &mut self.reducers {
            reducer.begin(budget)?;
        }
        Ok(group as usize)
    }

    fn values_of(&self, group: usize) -> &[u8] {
        let start = group.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[start..self.ends[group]]
    }

    /// The row of a group: its values, and the results of its reducers, whose states are taken.
    pub fn row(&mut self, group: usize) -> OwnedRow {
        let mut cells = Vec::with_capacity(self.by.len() + self.reducers.len());
        let mut rest = self.values_of(group);
        for number in 0..self.by.len() {
            let value = read_value(&mut rest);
            let shown = if self.shown.is_empty() { None } else { self.shown.get(&(group as u32, number)) };
            cells.push(Some(shown.cloned().unwrap_or(value)));
        }
        cells.extend(self.reducers.iter_mut().map(|reducer| Some(reducer.result(group))));
        OwnedRow { cells: cells.into(), whole: Box::default(), number: group as u64 }
    }
}

fn write_value(value: Option<&ExprValue<'_>>, out: &mut Vec<u8>) {
    match value {
        Some(ExprValue::Number(number)) => {
            out.push(NUMBER);
            // Adding zero turns -0 into 0.
            out.extend_from_slice(&(number + 0.0).to_bits().to_le_bytes());
        }
        Some(ExprValue::Text(text)) => {
            out.push(TEXT);
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text);
        }
        _ => out.push(NULL),
    }
}

fn read_value(bytes: &mut &[u8]) -> ExprValue<'static> {
    let mut take = |count: usize| {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    };
    match take(1)[0] {
        NUMBER => {
            let bits = take(8).try_into().expect("eight bytes");
            ExprValue::Number(f64::from_bits(u64::from_le_bytes(bits)))
        }
        TEXT => {
            let length = u32::from_le_bytes(take(4).try_into().expect("four bytes"));
            ExprValue::Text(Cow::Owned(take(length as usize).to_vec()))
        }
        _ => ExprValue::Null,
    }
}
