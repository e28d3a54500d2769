//! Lists: small ones lie with their keys, as a count and a row of elements; the others are a [`ListValue`].
//!
//! ```text
//! count  u16   elements, little-endian
//! row          see `types/row.rs`
//! ```
//!
//! Effects on lists count the elements of the list as they leave it.

use super::digest;
use super::encoding::EncodingLimits;
use super::typed::{
    DataType, EachEffect, EffectOrigin, PackedValues, SAVED_BYTES_MAX, SAVED_PARTS_MAX, SmallChange,
    TypedValue,
};
use super::value::ValueRef;
use crate::effect::{Effect, List};
use crate::types::{Coded, ListEnd, ListRef, ListValue, RowElement, row};
use std::fmt;
use std::io;

/// The most bytes of a list that lies with its key: most changes copy these.
const SMALL_BYTES_MAX: usize = 2048;
const COUNT_BYTES: usize = 2;
/// The number of small lists among the types that pack theirs.
const NUMBER: u8 = 0;

/// The data type of lists.
pub(super) struct ListType;

/// How small lists lie with their keys.
pub(super) struct SmallLists;

impl DataType for ListType {
    fn name(&self) -> &'static str {
        "list"
    }

    fn module(&self) -> u8 {
        0
    }

    fn takes(&self, effect: &Effect<'_>) -> bool {
        matches!(
            effect,
            Effect::ListPush { .. }
                | Effect::ListPop { .. }
                | Effect::ListSet { .. }
                | Effect::ListInsert { .. }
                | Effect::ListRemove { .. }
                | Effect::ListTrim { .. }
        )
    }

    fn blank(&self) -> Box<dyn TypedValue> {
        Box::<ListValue>::default()
    }

    fn small(&self) -> Option<&'static dyn PackedValues> {
        Some(&SmallLists)
    }
}

/// The list, if the value is one.
#[inline]
pub fn list_of(value: ValueRef<'_>) -> Option<ListRef<'_>> {
    match value {
        ValueRef::Small(small) => small.of_type(NUMBER).map(small_list),
        ValueRef::Object(object) => object.downcast_ref().map(ListRef::Full),
        ValueRef::String(_) | ValueRef::Hash(_) => None,
    }
}

#[inline]
fn small_list(bytes: &[u8]) -> ListRef<'_> {
    match bytes.split_first_chunk() {
        Some((count, row)) => ListRef::Small(row, u16::from_le_bytes(*count).into()),
        None => ListRef::Small(&[], 0),
    }
}

impl PackedValues for SmallLists {
    fn data_type(&self) -> &'static dyn DataType {
        &ListType
    }

    fn number(&self) -> u8 {
        NUMBER
    }

    fn len(&self, bytes: &[u8]) -> usize {
        small_list(bytes).len()
    }

    fn encoding(&self, bytes: &[u8], limits: &EncodingLimits) -> &'static str {
        encoding(small_list(bytes), limits)
    }

    fn apply(&self, bytes: &mut Vec<u8>, effect: &Effect<'_>) -> SmallChange {
        let count = small_list(bytes).len();
        let new = match *effect {
            Effect::ListPush { end, elements, .. } => return push_small(bytes, elements, end),
            Effect::ListPop { end, count: removed, .. } => {
                fitting(removed, 1, count).map(|removed| match end {
                    ListEnd::Front => keep(bytes, removed..count, count),
                    ListEnd::Back => keep(bytes, 0..count - removed, count),
                })
            }
            Effect::ListTrim { start, end, .. } => {
                fitting(end, start as usize, count).map(|end| keep(bytes, start as usize..end, count))
            }
            Effect::ListSet { index, element, .. } => match fitting(index, 0, count.wrapping_sub(1)) {
                Some(index) if count > 0 => return splice_small(bytes, index, 1, element),
                _ => None,
            },
            Effect::ListInsert { index, element, .. } => match fitting(index, 0, count) {
                Some(index) if count > 0 => return splice_small(bytes, index, 0, element),
                _ => None,
            },
            Effect::ListRemove { end, count: removed, element, .. } => {
                fitting(removed, 1, count).and_then(|removed| {
                    let mut used = bytes.len() - COUNT_BYTES;
                    let equal = (&Coded::of(element), removed);
                    let found = row::remove_equal(&mut bytes[COUNT_BYTES..], &mut used, equal, end);
                    bytes.truncate(COUNT_BYTES + used);
                    (found == removed).then_some(count - removed)
                })
            }
            _ => None,
        };
        if let Some(count) = new {
            set_count(bytes, count);
        }
        SmallChange::of(new)
    }

    fn unpack(&self, bytes: &[u8]) -> Box<dyn TypedValue> {
        Box::new(match small_list(bytes) {
            ListRef::Small(row, count) => ListValue::of_row(row, count),
            ListRef::Full(list) => list.clone(),
        })
    }
}

/// The number, if it is within these bounds.
fn fitting(number: u64, least: usize, most: usize) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| (least..=most).contains(number))
}

fn set_count(bytes: &mut [u8], count: usize) {
    bytes[..COUNT_BYTES].copy_from_slice(&(count as u16).to_le_bytes());
}

fn push_small(bytes: &mut Vec<u8>, elements: List<'_>, end: ListEnd) -> SmallChange {
    if elements.is_empty() {
        return SmallChange::Misfit;
    }
    // Each element takes two bytes more than its text, or fewer: an exact sum is needed near the bound only.
    let most: usize = elements.iter().map(|element| Coded::of(element).bytes()).sum();
    if bytes.len() + most > SMALL_BYTES_MAX {
        return SmallChange::Outgrown;
    }
    let count = small_list(bytes).len() + elements.len();
    bytes.resize(bytes.len().max(COUNT_BYTES), 0);
    let before = bytes.len();
    bytes.resize(before + most, 0);
    match end {
        ListEnd::Back => {
            let mut offset = before;
            for element in elements.iter() {
                let word = Coded::of(element);
                word.write(&mut bytes[offset..offset + word.bytes()]);
                offset += word.bytes();
            }
        }
        ListEnd::Front => {
            bytes.copy_within(COUNT_BYTES..before, COUNT_BYTES + most);
            let mut offset = COUNT_BYTES + most;
            for element in elements.iter() {
                let word = Coded::of(element);
                offset -= word.bytes();
                word.write(&mut bytes[offset..offset + word.bytes()]);
            }
        }
    }
    set_count(bytes, count);
    SmallChange::Done(count)
}

/// Keeps a range of the elements; returns how many these are.
fn keep(bytes: &mut Vec<u8>, kept: std::ops::Range<usize>, count: usize) -> usize {
    let row = &bytes[COUNT_BYTES..];
    let [start, end] = [kept.start, kept.end].map(|index| COUNT_BYTES + row::offset_of(row, index, count));
    bytes.truncate(end);
    bytes.drain(COUNT_BYTES..start);
    kept.len()
}

/// Replaces `removed` elements from an index on, none or one, by another.
fn splice_small(bytes: &mut Vec<u8>, index: usize, removed: usize, element: &[u8]) -> SmallChange {
    let (word, count) = (Coded::of(element), small_list(bytes).len());
    if bytes.len() + word.bytes() > SMALL_BYTES_MAX {
        return SmallChange::Outgrown;
    }
    let offset = COUNT_BYTES + row::offset_of(&bytes[COUNT_BYTES..], index, count);
    if removed > 0 {
        let end = row::after(bytes, offset);
        bytes.drain(offset..end);
    }
    row::insert(bytes, offset, &word);
    set_count(bytes, count + 1 - removed);
    SmallChange::Done(count + 1 - removed)
}

/// Within `list-max-listpack-size`.
fn encoding(list: ListRef<'_>, limits: &EncodingLimits) -> &'static str {
    /// Redis lets no listpack grow beyond this because of a limit of elements.
    const SAFE_BYTES: usize = 8192;
    let (elements, bytes) = match limits.list_size {
        // Redis takes 0 for 1.
        size @ 0.. => (size.max(1) as u64, SAFE_BYTES),
        size => (u64::MAX, 4096 << (-size - 1).min(4)),
    };
    let is_listpack = list.len() as u64 <= elements && listpack_bytes(list, bytes) <= bytes;
    if is_listpack { "listpack" } else { "quicklist" }
}

/// The bytes of a listpack with these elements; something larger than `most` if it has more than that.
fn listpack_bytes(list: ListRef<'_>, most: usize) -> usize {
    const HEADER_AND_END: usize = 7;
    let mut bytes = HEADER_AND_END;
    for element in list.iter() {
        let body = match element {
            RowElement::Integer(0..=127) => 1,
            RowElement::Integer(-4096..=4095) => 2,
            RowElement::Integer(-0x8000..=0x7FFF) => 3,
            RowElement::Integer(-0x80_0000..=0x7F_FFFF) => 4,
            RowElement::Integer(-0x8000_0000..=0x7FFF_FFFF) => 5,
            RowElement::Integer(_) => 9,
            RowElement::Bytes(text) if text.len() < 64 => 1 + text.len(),
            RowElement::Bytes(text) if text.len() < 4096 => 2 + text.len(),
            RowElement::Bytes(text) => 5 + text.len(),
        };
        bytes +=
            body + [127, 16_383, 2_097_151, 268_435_455].iter().filter(|bound| body > **bound).count() + 1;
        if bytes > most {
            break;
        }
    }
    bytes
}

impl TypedValue for ListValue {
    fn data_type(&self) -> &'static dyn DataType {
        &ListType
    }

    fn encoding(&self, limits: &EncodingLimits) -> &'static str {
        encoding(ListRef::Full(self), limits)
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes()
    }

    fn apply(&mut self, effect: &Effect<'_>, _: EffectOrigin) -> Option<usize> {
        let count = self.len();
        match *effect {
            Effect::ListPush { end, elements, .. } if !elements.is_empty() => {
                elements.iter().for_each(|element| self.push(element, end));
            }
            Effect::ListPop { end, count: removed, .. } => self.pop(fitting(removed, 1, count)?, end),
            Effect::ListSet { index, element, .. } => {
                self.set(fitting(index, 0, count.checked_sub(1)?)?, element);
            }
            Effect::ListInsert { index, element, .. } if count > 0 => {
                self.insert(fitting(index, 0, count)?, element);
            }
            Effect::ListRemove { end, count: removed, element, .. } => {
                let removed = fitting(removed, 1, count)?;
                if self.remove_equal(element, removed, end) != removed {
                    return None;
                }
            }
            Effect::ListTrim { start, end, .. } => {
                let start = fitting(start, 0, count)?;
                let end = fitting(end, start, count)?;
                self.pop(count - end, ListEnd::Back);
                self.pop(start, ListEnd::Front);
            }
            _ => return None,
        }
        Some(self.len())
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        // A step saves a block.
        let block = usize::try_from(cursor).expect("a cursor is the number of a block");
        if block >= self.block_count() {
            return Ok(0);
        }
        let mut chunk = Vec::new();
        let mut bytes = 0;
        let mut left = row::elements(self.row(block)).peekable();
        while let Some(element) = left.next() {
            let text = element.to_vec();
            bytes += text.len();
            chunk.push(text);
            if left.peek().is_none() || chunk.len() == SAVED_PARTS_MAX || bytes >= SAVED_BYTES_MAX {
                let words: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
                each(&Effect::ListPush { key, end: ListEnd::Back, elements: List::Arguments(&words) })?;
                chunk.clear();
                bytes = 0;
            }
        }
        let next = block + 1;
        Ok(if next < self.block_count() { next as u64 } else { 0 })
    }

    /// Part of the format of snapshots: a chain over the elements, in order.
    fn digest(&self) -> u64 {
        let start = digest::mix(3, ListType.name().as_bytes());
        ListRef::Full(self)
            .iter()
            .fold(start, |sum, element| element.with_bytes(|bytes| digest::mix(sum, bytes)))
    }

    fn copy(&self) -> Box<dyn TypedValue> {
        Box::new(self.clone())
    }
}

impl fmt::Debug for ListValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |element: RowElement<'_>| element.with_bytes(|bytes| bytes.escape_ascii().to_string());
        f.debug_list().entries(ListRef::Full(self).iter().map(shown)).finish()
    }
}
