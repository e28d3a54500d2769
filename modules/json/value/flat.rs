//! Changes inside a buffer of packed values: a splice, and the headers of the containers around it.

use crate::location::LocationStep;
use crate::packed::{self, ContainerHeader};
use smallvec::SmallVec;
use std::ops::Range;

/// What is done to the value at a location.
#[derive(Clone, Copy, Debug)]
pub enum ValueChange<'c> {
    /// Replaces it. A member that the object lacks is added at its end.
    Set(&'c [u8]),
    /// Removes it from its container. The last member of an object takes the place of the removed one.
    Remove,
    /// Puts packed values into an array, in front of the element `index`.
    Insert { index: usize, values: &'c [u8], count: usize },
    /// Puts packed items at the end of a container.
    Fill { items: &'c [u8], count: usize },
    /// Keeps the elements from `start` to before `stop` of an array.
    Trim { start: usize, stop: usize },
    /// Extends a text.
    Append(&'c [u8]),
}

/// Offsets of the containers around a value, outermost first.
type Around = SmallVec<[usize; 8]>;

/// Where an item is in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPlace {
    pub item: Range<usize>,
    pub value: usize,
}

/// The item of this name, or at this index, in a run of items.
pub fn find(run: &[u8], is_object: bool, step: LocationStep<'_>) -> Option<ItemPlace> {
    let (mut at, mut index) = (0, 0);
    while at < run.len() {
        let mut value = at;
        let mut is_found = step == LocationStep::Index(index) && !is_object;
        if is_object {
            let (name, length) = packed::text(&run[at..]).expect("a name is a text");
            is_found = step == LocationStep::Name(name);
            value += length;
        }
        let end = value + packed::size(&run[value..]);
        if is_found {
            return Some(ItemPlace { item: at..end, value });
        }
        at = end;
        index += 1;
    }
    None
}

/// The last item of a run.
pub fn last(run: &[u8], is_object: bool) -> Option<ItemPlace> {
    let (mut at, mut place) = (0, None);
    while at < run.len() {
        let value = if is_object { at + packed::size(&run[at..]) } else { at };
        let end = value + packed::size(&run[value..]);
        place = Some(ItemPlace { item: at..end, value });
        at = end;
    }
    place
}

/// The position of element `index` in a run, or the run's end if `index` is its length.
pub fn start_of(run: &[u8], index: usize) -> usize {
    (0..index).fold(0, |at, _| at + packed::size(&run[at..]))
}

/// A member as it is in a body.
pub fn member(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut member = Vec::with_capacity(5 + name.len() + value.len());
    packed::put_text(&mut member, name);
    member.extend_from_slice(value);
    member
}

/// Changes what is at this location below the value at `at`. `None`, and no change, where there is nothing
/// that the change fits.
pub fn change(
    buffer: &mut Vec<u8>,
    mut at: usize,
    steps: &[LocationStep<'_>],
    change: ValueChange<'_>,
) -> Option<()> {
    let mut around = Around::new();
    for (number, &step) in steps.iter().enumerate() {
        let header = ContainerHeader::of(&buffer[at..])?;
        around.push(at);
        let body = at + header.bytes..at + header.size();
        let found = find(&buffer[body.clone()], header.is_object, step);
        match (found, change, number + 1 == steps.len()) {
            (Some(place), ValueChange::Remove, true) => {
                remove(buffer, &around, body, header.is_object, place);
                return Some(());
            }
            (Some(place), _, _) => at = body.start + place.value,
            (None, ValueChange::Set(value), true) if header.is_object => {
                let LocationStep::Name(name) = step else { return None };
                replace(buffer, &around, body.end..body.end, &member(name, value), 1);
                return Some(());
            }
            (None, ..) => return None,
        }
    }
    change_value(buffer, at, around, change)
}

fn change_value(buffer: &mut Vec<u8>, at: usize, mut around: Around, change: ValueChange<'_>) -> Option<()> {
    let value = at..at + packed::size(&buffer[at..]);
    let header = ContainerHeader::of(&buffer[at..]);
    let body = at + header.map_or(0, |header| header.bytes)..value.end;
    let is_array = header.is_some_and(|header| !header.is_object);
    match change {
        ValueChange::Set(by) => replace(buffer, &around, value, by, 0),
        ValueChange::Remove => return None,
        ValueChange::Append(suffix) => append(buffer, &around, at, suffix)?,
        ValueChange::Insert { index, values, count } => {
            header.filter(|header| is_array && index <= header.count)?;
            around.push(at);
            let place = body.start + start_of(&buffer[body], index);
            replace(buffer, &around, place..place, values, count as isize);
        }
        ValueChange::Fill { items, count } => {
            header?;
            around.push(at);
            replace(buffer, &around, body.end..body.end, items, count as isize);
        }
        ValueChange::Trim { start, stop } => {
            let header = header.filter(|header| is_array && start <= stop && stop <= header.count)?;
            around.push(at);
            let run = &buffer[body.clone()];
            let kept = run[start_of(run, start)..start_of(run, stop)].to_vec();
            let count = (stop - start) as isize - header.count as isize;
            // In one step: the headers in front of the array may become shorter.
            replace(buffer, &around, body, &kept, count);
        }
    }
    Some(())
}

/// Replaces a range inside these containers; the innermost gets `count` more items.
fn replace(buffer: &mut Vec<u8>, around: &[usize], range: Range<usize>, by: &[u8], count: isize) {
    let grown = by.len() as isize - range.len() as isize;
    packed::splice(buffer, range, by);
    adjust(buffer, around, grown, count);
}

/// Corrects the headers after a change of the body's length.
fn adjust(buffer: &mut Vec<u8>, around: &[usize], mut grown: isize, mut count: isize) {
    for &at in around.iter().rev() {
        let mut header = ContainerHeader::of(&buffer[at..]).expect("it contains values");
        header.body = header.body.wrapping_add_signed(grown);
        header.count = header.count.wrapping_add_signed(count);
        grown += header.replace(buffer, at);
        count = 0;
    }
}

fn remove(buffer: &mut Vec<u8>, around: &[usize], body: Range<usize>, is_object: bool, place: ItemPlace) {
    let item = body.start + place.item.start..body.start + place.item.end;
    if !is_object || item.end == body.end {
        return replace(buffer, around, item, &[], -1);
    }
    let last = last(&buffer[body.clone()], true).expect("it has two members").item;
    let moved = buffer[body.start + last.start..body.end].to_vec();
    packed::splice(buffer, body.start + last.start..body.end, &[]);
    let grown = -(item.len() as isize);
    packed::splice(buffer, item, &moved);
    adjust(buffer, around, grown, -1);
}

fn append(buffer: &mut Vec<u8>, around: &[usize], at: usize, suffix: &[u8]) -> Option<()> {
    let (text, size) = packed::text(&buffer[at..])?;
    let (length, header) = (text.len(), size - text.len());
    let mut new = Vec::new();
    packed::put_text_header(&mut new, length + suffix.len());
    let grown = suffix.len() + new.len() - header;
    packed::splice(buffer, at + size..at + size, suffix);
    packed::splice(buffer, at..at + header, &new);
    adjust(buffer, around, grown as isize, 0);
    Some(())
}
