//! Sets: the forms of small ones, and a hash table for the others.

use super::row::{self, Coded, RowElement};
use crate::table::{Keyed, Table, hash_bytes};
use crate::thin::{Ref, Thin};

/// A member in one allocation: the number of zeros at its end, the text, zeros. Longer ones are boxed.
struct Member(Thin<Vec<u8>>);

impl Member {
    fn new(text: &[u8]) -> Member {
        const LONGEST: usize = Thin::<Vec<u8>>::BYTES_MAX - 1;
        if text.len() > LONGEST {
            return Member(Thin::boxed(Box::new(text.to_vec())));
        }
        let zeros = Thin::<Vec<u8>>::rounded(1 + text.len()) - 1 - text.len();
        Member(Thin::bytes(&[&[zeros as u8], text]))
    }

    #[inline]
    fn text(&self) -> &[u8] {
        match self.0.get() {
            Ref::Bytes(bytes) => &bytes[1..bytes.len() - usize::from(bytes[0])],
            Ref::Boxed(text) => text,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self.0.get() {
            Ref::Bytes(_) => self.0.allocated().unwrap_or(0),
            Ref::Boxed(text) => size_of::<Vec<u8>>() + text.capacity(),
        }
    }
}

impl Clone for Member {
    fn clone(&self) -> Member {
        Member::new(self.text())
    }
}

impl Keyed for Member {
    #[inline]
    fn key(&self) -> &[u8] {
        self.text()
    }

    #[inline]
    fn touch(&self) {
        std::hint::black_box(self.0.allocated().is_some());
    }
}

/// A set in memory of its own: a hash table.
#[derive(Clone, Default)]
pub struct SetValue {
    members: Table<Member>,
    /// Of the members, without the table.
    heap_bytes: usize,
    /// The longest text of a member so far, in bytes.
    longest: usize,
}

impl SetValue {
    pub fn of(members: impl Iterator<Item = Vec<u8>>) -> SetValue {
        let mut set = SetValue::default();
        members.for_each(|member| _ = set.add(&member));
        set
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Bytes on the heap, without the value itself.
    pub fn heap_bytes(&self) -> usize {
        self.members.heap_bytes() + self.heap_bytes
    }

    pub fn contains(&self, word: &[u8]) -> bool {
        self.members.get(hash_bytes(word), word).is_some()
    }

    /// True if the member is new.
    pub fn add(&mut self, word: &[u8]) -> bool {
        let hash = hash_bytes(word);
        if self.members.get(hash, word).is_some() {
            return false;
        }
        let member = Member::new(word);
        self.heap_bytes += member.heap_bytes();
        self.longest = self.longest.max(word.len());
        self.members.insert_new(hash, member);
        true
    }

    /// True if the member was there.
    pub fn remove(&mut self, word: &[u8]) -> bool {
        let Some(member) = self.members.remove(hash_bytes(word), word) else { return false };
        self.heap_bytes -= member.heap_bytes();
        true
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.members.iter().map(Member::text)
    }

    /// One step of SSCAN; see `Table::scan`.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, each: &mut dyn FnMut(&'a [u8])) -> u64 {
        self.members.scan(cursor, count, &mut |member| each(member.text()))
    }

    /// Some member, picked by two random numbers.
    pub fn sample(&self, random: u64, second: u64) -> Option<&[u8]> {
        self.members.sample(random, second).map(Member::text)
    }
}

/// The most members of a set of integers that lies with its key, and of another one; and what bounds the
/// members of the latter.
const INTEGERS_MAX: usize = 512;
const MEMBERS_MAX: usize = 128;
const MEMBER_BYTES_MAX: usize = 64;
const ROW_BYTES_MAX: usize = 8 << 10;

/// A small set.
///
/// ```text
/// form   u8   1, 2, 4 or 8: integers of this many bytes, little-endian, ascending
///             0: a count (u8) and a row of elements (see `row.rs`), in the order in which they were added
/// ```
///
/// No bytes are an empty set. The bytes are in memory only, so they have no version.
#[derive(Clone, Copy)]
pub enum SmallSet<'a> {
    /// The bytes of all integers, and of one.
    Integers(&'a [u8], usize),
    /// A row and its number of elements.
    Row(&'a [u8], usize),
}

impl<'a> SmallSet<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> SmallSet<'a> {
        match bytes {
            [] => SmallSet::Integers(&[], 1),
            [0, count, row @ ..] => SmallSet::Row(row, usize::from(*count)),
            [width, integers @ ..] => SmallSet::Integers(integers, usize::from(*width)),
        }
    }

    pub fn len(self) -> usize {
        match self {
            SmallSet::Integers(bytes, width) => bytes.len() / width,
            SmallSet::Row(_, count) => count,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn contains(self, word: &[u8]) -> bool {
        match (self, Coded::of(word)) {
            (SmallSet::Integers(bytes, width), coded) => {
                coded.as_integer().is_some_and(|integer| find(bytes, width, integer).is_ok())
            }
            (SmallSet::Row(row, _), coded) => find_in_row(row, &coded).is_some(),
        }
    }

    fn get(self, index: usize) -> RowElement<'a> {
        match self {
            SmallSet::Integers(bytes, width) => RowElement::Integer(integer_at(bytes, width, index)),
            SmallSet::Row(row, count) => row::read(row, row::offset_of(row, index, count)),
        }
    }
}

#[inline]
fn integer_at(bytes: &[u8], width: usize, index: usize) -> i64 {
    let mut number = [0; 8];
    number[..width].copy_from_slice(&bytes[index * width..(index + 1) * width]);
    let unused = 64 - 8 * width as u32;
    i64::from_le_bytes(number) << unused >> unused
}

/// The index of an integer, or where it would be.
fn find(bytes: &[u8], width: usize, integer: i64) -> Result<usize, usize> {
    let (mut low, mut high) = (0, bytes.len() / width);
    while low < high {
        let middle = (low + high) / 2;
        match integer_at(bytes, width, middle).cmp(&integer) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Ok(middle),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Err(low)
}

fn find_in_row(row: &[u8], word: &Coded<'_>) -> Option<usize> {
    let mut offset = 0;
    while offset < row.len() {
        if word.is_at(row, offset) {
            return Some(offset);
        }
        offset = row::after(row, offset);
    }
    None
}

fn width_of(integer: i64) -> usize {
    [1, 2, 4]
        .into_iter()
        .find(|bytes| (-1 << (8 * bytes - 1)..1 << (8 * bytes - 1)).contains(&integer))
        .unwrap_or(8)
}

/// Adds a member to a small set; whether it is new. `None`, where the set would be too large: it is unchanged
/// or in another form.
pub fn add_small(bytes: &mut Vec<u8>, word: &[u8]) -> Option<bool> {
    let coded = Coded::of(word);
    if let (SmallSet::Integers(integers, width), Some(integer)) = (SmallSet::new(bytes), coded.as_integer()) {
        let Err(index) = find(integers, width, integer) else { return Some(false) };
        let count = integers.len() / width;
        if count < INTEGERS_MAX {
            let width = if count == 0 { 1 } else { width };
            add_integer(bytes, (width, count), index, integer);
            return Some(true);
        }
        return None;
    }
    if let SmallSet::Integers(integers, width) = SmallSet::new(bytes) {
        let count = integers.len() / width;
        if count >= MEMBERS_MAX {
            return None;
        }
        let mut row = vec![0, count as u8];
        for index in 0..count {
            let end = row.len();
            row::insert(
                &mut row,
                end,
                &Coded::of_element(RowElement::Integer(integer_at(integers, width, index))),
            );
        }
        *bytes = row;
    }
    let SmallSet::Row(row, count) = SmallSet::new(bytes) else { unreachable!("made above") };
    if find_in_row(row, &coded).is_some() {
        return Some(false);
    }
    let fits =
        count < MEMBERS_MAX && word.len() <= MEMBER_BYTES_MAX && row.len() + coded.bytes() <= ROW_BYTES_MAX;
    if !fits {
        return None;
    }
    bytes[1] = count as u8 + 1;
    let end = bytes.len();
    row::insert(bytes, end, &coded);
    Some(true)
}

fn add_integer(bytes: &mut Vec<u8>, (width, count): (usize, usize), index: usize, integer: i64) {
    let needed = width_of(integer).max(width);
    if bytes.first() != Some(&(needed as u8)) {
        let integers = bytes.get(1..).unwrap_or(&[]);
        let mut wider = vec![needed as u8];
        for index in 0..count {
            wider.extend_from_slice(&integer_at(integers, width, index).to_le_bytes()[..needed]);
        }
        *bytes = wider;
    }
    let place = 1 + index * needed;
    let end = bytes.len();
    bytes.resize(end + needed, 0);
    bytes.copy_within(place..end, place + needed);
    bytes[place..place + needed].copy_from_slice(&integer.to_le_bytes()[..needed]);
}

/// Removes a member of a small set; whether it was there.
pub fn remove_small(bytes: &mut Vec<u8>, word: &[u8]) -> bool {
    let coded = Coded::of(word);
    match SmallSet::new(bytes) {
        SmallSet::Integers(integers, width) => {
            let Some(Ok(index)) = coded.as_integer().map(|integer| find(integers, width, integer)) else {
                return false;
            };
            let place = 1 + index * width;
            bytes.drain(place..place + width);
        }
        SmallSet::Row(row, count) => {
            let Some(offset) = find_in_row(row, &coded) else { return false };
            bytes[1] = count as u8 - 1;
            bytes.drain(2 + offset..2 + offset + coded.bytes());
        }
    }
    true
}

/// Reads a set of either form.
#[derive(Clone, Copy)]
pub enum SetRef<'a> {
    Small(SmallSet<'a>),
    Full(&'a SetValue),
}

impl<'a> SetRef<'a> {
    pub fn len(self) -> usize {
        match self {
            SetRef::Small(set) => set.len(),
            SetRef::Full(set) => set.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn contains(self, word: &[u8]) -> bool {
        match self {
            SetRef::Small(set) => set.contains(word),
            SetRef::Full(set) => set.contains(word),
        }
    }

    /// Whether an element of another set is in this one.
    pub fn has(self, element: RowElement<'_>) -> bool {
        element.with_bytes(|word| self.contains(word))
    }

    pub fn iter(self) -> Box<dyn Iterator<Item = RowElement<'a>> + 'a> {
        match self {
            SetRef::Small(set @ SmallSet::Integers(..)) => {
                Box::new((0..set.len()).map(move |index| set.get(index)))
            }
            SetRef::Small(SmallSet::Row(row, _)) => Box::new(row::elements(row)),
            SetRef::Full(set) => Box::new(set.iter().map(RowElement::Bytes)),
        }
    }

    /// One step of SSCAN: a small set is one step.
    pub fn scan(self, cursor: u64, count: usize, each: &mut dyn FnMut(RowElement<'a>)) -> u64 {
        match self {
            SetRef::Small(_) => {
                self.iter().for_each(each);
                0
            }
            SetRef::Full(set) => set.scan(cursor, count, &mut |text| each(RowElement::Bytes(text))),
        }
    }

    /// Some member, picked by two random numbers; `None` if there are none.
    pub fn sample(self, random: u64, second: u64) -> Option<RowElement<'a>> {
        match self {
            SetRef::Small(set) if set.is_empty() => None,
            SetRef::Small(set) => Some(set.get((random % set.len() as u64) as usize)),
            SetRef::Full(set) => set.sample(random, second).map(RowElement::Bytes),
        }
    }

    /// Whether all members are integers.
    pub fn is_integers(self) -> bool {
        match self {
            SetRef::Small(SmallSet::Integers(..)) => true,
            _ => self.iter().all(|element| element.with_bytes(|word| Coded::of(word).as_integer().is_some())),
        }
    }

    /// The most bytes that members may have with their lengths (4 bytes each): all of them, and any `count`.
    pub fn text_bytes_max(self, count: usize) -> usize {
        const LENGTH_BYTES: usize = 4;
        const INTEGER_BYTES_MAX: usize = 20;
        let count = count.min(self.len());
        match self {
            SetRef::Small(SmallSet::Integers(..)) => count * (LENGTH_BYTES + INTEGER_BYTES_MAX),
            SetRef::Small(SmallSet::Row(row, members)) => {
                let all = row.len() + members * (LENGTH_BYTES + INTEGER_BYTES_MAX);
                all.min(count * (LENGTH_BYTES + MEMBER_BYTES_MAX))
            }
            SetRef::Full(set) => {
                let all = set.heap_bytes + set.len() * LENGTH_BYTES;
                all.min(count.saturating_mul(LENGTH_BYTES + set.longest))
            }
        }
    }
}
