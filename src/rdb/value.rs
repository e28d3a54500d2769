//! Values: a byte says type and encoding, and what follows is read part by part.

use super::error::{RdbError, Read, damaged};
use super::listpack::{Element, Listpack};
use super::module_value::{self, ModuleItem};
use super::source::{Source, byte, length, moment, string};
use super::stream::{self, ConsumerPart, GroupPart, PendingPart, StreamId, StreamMeta};
use super::ziplist;

/// The types that are written; readers know all of them.
pub(crate) const STRING: u8 = 0;
pub(crate) const LIST: u8 = 1;
pub(crate) const SET: u8 = 2;
const SORTED_SET_TEXTS: u8 = 3;
pub(crate) const HASH: u8 = 4;
pub(crate) const SORTED_SET: u8 = 5;
pub(crate) const MODULE: u8 = 7;
const HASH_ZIPMAP: u8 = 9;
const LIST_ZIPLIST: u8 = 10;
const SET_INTSET: u8 = 11;
const SORTED_SET_ZIPLIST: u8 = 12;
const HASH_ZIPLIST: u8 = 13;
const LIST_QUICKLIST: u8 = 14;
const STREAM_1: u8 = 15;
const HASH_LISTPACK: u8 = 16;
const SORTED_SET_LISTPACK: u8 = 17;
const LIST_QUICKLIST_2: u8 = 18;
const STREAM_2: u8 = 19;
const SET_LISTPACK: u8 = 20;
pub(crate) const STREAM_3: u8 = 21;
/// Of Redis 7.4's candidates, and another one of Valkey 9, whose files have versions from 80 on.
const HASH_TIMES: u8 = 22;
const HASH_LISTPACK_TIMES_EARLY: u8 = 23;
pub(crate) const HASH_TIMES_2: u8 = 24;
const HASH_LISTPACK_TIMES: u8 = 25;

/// The first version of the format that is Valkey's own.
pub(crate) const VALKEY_VERSION: u32 = 80;

/// A part of a value. A value is a String, or any number of parts of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part<'a> {
    /// The whole content of a string.
    String(&'a [u8]),
    /// The next element of a list.
    Item(&'a [u8]),
    /// A member of a set.
    Member(&'a [u8]),
    /// A member of a sorted set; the score is a number or an infinity.
    Scored { member: &'a [u8], score: f64 },
    /// A field of a hash; the expiry is in milliseconds since the epoch, 0 for none.
    Field { name: &'a [u8], value: &'a [u8], expires_at_ms: u64 },
    /// The next entry of a stream: names and values in turn.
    Entry { id: StreamId, fields: &'a [&'a [u8]] },
    /// What a stream has beside its entries; comes once, after them.
    Stream(StreamMeta),
    /// A group of a stream; its consumers follow.
    Group(GroupPart<'a>),
    /// A consumer of the last group; what it was given and did not acknowledge follows.
    Consumer(ConsumerPart<'a>),
    /// An entry that the last consumer has not acknowledged.
    Pending(PendingPart),
    /// A value of a module begins: the number of its type and of its encoding.
    Module { id: u64 },
    /// What the module has stored, in order.
    ModuleItem(ModuleItem<'a>),
}

impl Part<'_> {
    /// Whether it counts as one of the value's elements. A module's value is one.
    pub fn is_content(&self) -> bool {
        !matches!(
            self,
            Part::ModuleItem(_) | Part::Stream(_) | Part::Group(_) | Part::Consumer(_) | Part::Pending(_)
        )
    }
}

/// What takes the parts. Its error ends the reading.
pub type EachPart<'s> = dyn FnMut(Part<'_>) -> Result<(), RdbError> + 's;

/// The type of a value, whatever its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueKind {
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
    Module,
}

impl ValueKind {
    /// The type of a value that begins with this byte. `None` for one that no version writes.
    pub fn of(value_type: u8) -> Option<ValueKind> {
        Some(match value_type {
            STRING => ValueKind::String,
            LIST | LIST_ZIPLIST | LIST_QUICKLIST | LIST_QUICKLIST_2 => ValueKind::List,
            SET | SET_INTSET | SET_LISTPACK => ValueKind::Set,
            SORTED_SET_TEXTS | SORTED_SET | SORTED_SET_ZIPLIST | SORTED_SET_LISTPACK => ValueKind::SortedSet,
            HASH | HASH_ZIPMAP | HASH_ZIPLIST | HASH_LISTPACK | HASH_TIMES..=HASH_LISTPACK_TIMES => {
                ValueKind::Hash
            }
            STREAM_1 | STREAM_2 | STREAM_3 => ValueKind::Stream,
            MODULE => ValueKind::Module,
            _ => return None,
        })
    }

    /// What TYPE replies; of a module's value it is the module that knows.
    pub fn name(self) -> &'static str {
        match self {
            ValueKind::String => "string",
            ValueKind::List => "list",
            ValueKind::Set => "set",
            ValueKind::SortedSet => "zset",
            ValueKind::Hash => "hash",
            ValueKind::Stream => "stream",
            ValueKind::Module => "module",
        }
    }
}

/// Reads a value of this type, of a file or payload of this version, and calls `each` with its parts. A value
/// without parts is possible; Redis ignores its key.
///
/// # Errors
/// Bytes that are no such value, and errors of the source and of `each`.
pub fn read_value(
    (value_type, version): (u8, u32),
    source: &mut impl Source,
    each: &mut EachPart<'_>,
) -> Result<(), RdbError> {
    let mut text = Vec::new();
    match value_type {
        STRING => {
            string(source, &mut text)?;
            each(Part::String(&text))
        }
        LIST => elements(source, &mut |item| each(Part::Item(item))),
        SET => elements(source, &mut |member| each(Part::Member(member))),
        SORTED_SET_TEXTS | SORTED_SET => sorted_set(value_type == SORTED_SET, source, each),
        HASH | HASH_TIMES | HASH_TIMES_2 => hash(Times::of(value_type, version), source, each),
        LIST_QUICKLIST | LIST_QUICKLIST_2 => quicklist(value_type == LIST_QUICKLIST_2, source, each),
        STREAM_1 | STREAM_2 | STREAM_3 => {
            let version = 1 + u8::from(value_type >= STREAM_2) + u8::from(value_type >= STREAM_3);
            stream::read(version, source, each)
        }
        MODULE => module_value::read(source, each),
        HASH_LISTPACK_TIMES_EARLY | HASH_LISTPACK_TIMES => {
            if value_type == HASH_LISTPACK_TIMES {
                moment(source)?;
            }
            string(source, &mut text)?;
            fields_of_listpack(&text, each)
        }
        HASH_ZIPMAP | LIST_ZIPLIST..=HASH_ZIPLIST | HASH_LISTPACK | SORTED_SET_LISTPACK | SET_LISTPACK => {
            string(source, &mut text)?;
            packed(value_type, &text, each)
        }
        _ => Err(RdbError::UnknownType(value_type)),
    }
}

/// A value that is one string, with elements inside.
fn packed(value_type: u8, bytes: &[u8], each: &mut EachPart<'_>) -> Read<()> {
    let mut digits = itoa::Buffer::new();
    match value_type {
        HASH_ZIPMAP => {
            ziplist::zipmap(bytes, &mut |name, value| each(Part::Field { name, value, expires_at_ms: 0 }))
        }
        SET_INTSET => {
            ziplist::intset(bytes, &mut |member| each(Part::Member(digits.format(member).as_bytes())))
        }
        SET_LISTPACK => {
            Listpack::new(bytes)?.try_for_each(|found| each(Part::Member(found?.text(&mut digits))))
        }
        LIST_ZIPLIST => ziplist::ziplist(bytes, &mut |found| each(Part::Item(found.text(&mut digits)))),
        HASH_ZIPLIST => {
            let mut pairs = Pairs::default();
            ziplist::ziplist(bytes, &mut |found| {
                pairs.take(found, &mut |name, value| field(name, value, each))
            })?;
            pairs.end()
        }
        HASH_LISTPACK => {
            let mut pairs = Pairs::default();
            Listpack::new(bytes)?
                .try_for_each(|found| pairs.take(found?, &mut |name, value| field(name, value, each)))?;
            pairs.end()
        }
        SORTED_SET_ZIPLIST => {
            let mut pairs = Pairs::default();
            ziplist::ziplist(bytes, &mut |found| {
                pairs.take(found, &mut |member, score| scored(member, score, each))
            })?;
            pairs.end()
        }
        _ => {
            let mut pairs = Pairs::default();
            Listpack::new(bytes)?
                .try_for_each(|found| pairs.take(found?, &mut |member, score| scored(member, score, each)))?;
            pairs.end()
        }
    }
}

/// Elements that come in twos.
#[derive(Default)]
struct Pairs {
    first: Vec<u8>,
    has_first: bool,
}

impl Pairs {
    fn take(&mut self, found: Element<'_>, each: &mut dyn FnMut(&[u8], Element<'_>) -> Read<()>) -> Read<()> {
        self.has_first = !self.has_first;
        if !self.has_first {
            return each(&self.first, found);
        }
        self.first.clear();
        self.first.extend_from_slice(found.text(&mut itoa::Buffer::new()));
        Ok(())
    }

    fn end(&self) -> Read<()> {
        if self.has_first { damaged("the last of elements that come in pairs is alone") } else { Ok(()) }
    }
}

fn field(name: &[u8], value: Element<'_>, each: &mut EachPart<'_>) -> Read<()> {
    each(Part::Field { name, value: value.text(&mut itoa::Buffer::new()), expires_at_ms: 0 })
}

fn scored(member: &[u8], score: Element<'_>, each: &mut EachPart<'_>) -> Read<()> {
    let score = match score {
        Element::Integer(score) => score as f64,
        Element::Bytes(text) => score_of(text)?,
    };
    each(Part::Scored { member, score })
}

/// A score as text.
fn score_of(text: &[u8]) -> Read<f64> {
    let score = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    score.filter(|score| !score.is_nan()).map_or_else(|| damaged("a score is no number"), Ok)
}

/// Triples of name, value and expiry.
fn fields_of_listpack(bytes: &[u8], each: &mut EachPart<'_>) -> Read<()> {
    let mut elements = Listpack::new(bytes)?;
    let (mut name_digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    while let Some(name) = elements.next() {
        let (name, value) = (name?, elements.expect()?);
        let expires_at_ms = time(elements.integer()?)?;
        let (name, value) = (name.text(&mut name_digits), value.text(&mut value_digits));
        each(Part::Field { name, value, expires_at_ms })?;
    }
    Ok(())
}

/// A time in milliseconds since the epoch.
fn time(at_ms: i64) -> Read<u64> {
    u64::try_from(at_ms).map_or_else(|_| damaged("a time is before the epoch"), Ok)
}

fn elements(source: &mut impl Source, each: &mut dyn FnMut(&[u8]) -> Read<()>) -> Read<()> {
    let mut text = Vec::new();
    for _ in 0..length(source)? {
        string(source, &mut text)?;
        each(&text)?;
    }
    Ok(())
}

fn sorted_set(is_binary: bool, source: &mut impl Source, each: &mut EachPart<'_>) -> Read<()> {
    let mut member = Vec::new();
    for _ in 0..length(source)? {
        string(source, &mut member)?;
        let score = if is_binary { f64::from_le_bytes(source.array()?) } else { score_text(source)? };
        if score.is_nan() {
            return damaged("a score is no number");
        }
        each(Part::Scored { member: &member, score })?;
    }
    Ok(())
}

/// A score of the first versions: a length, or a mark, and the text.
fn score_text(source: &mut impl Source) -> Read<f64> {
    match byte(source)? {
        255 => Ok(f64::NEG_INFINITY),
        254 => Ok(f64::INFINITY),
        253 => damaged("a score is no number"),
        length => {
            let mut text = Vec::new();
            source.append(u64::from(length), &mut text)?;
            score_of(&text)
        }
    }
}

/// How the fields of a hash have their expiries.
#[derive(Clone, Copy)]
enum Times {
    None,
    /// Before the name: the time.
    Absolute,
    /// Before the name: the time since one that comes first, plus 1.
    SinceFirst,
    /// After the value: the time; -1 for none.
    Valkey,
}

impl Times {
    fn of(value_type: u8, version: u32) -> Times {
        match value_type {
            HASH_TIMES if version >= VALKEY_VERSION => Times::Valkey,
            HASH_TIMES => Times::Absolute,
            HASH_TIMES_2 => Times::SinceFirst,
            _ => Times::None,
        }
    }
}

fn hash(times: Times, source: &mut impl Source, each: &mut EachPart<'_>) -> Read<()> {
    let (mut name, mut value) = (Vec::new(), Vec::new());
    let first_ms = if matches!(times, Times::SinceFirst) { time(moment(source)?)? } else { 0 };
    for _ in 0..length(source)? {
        let mut expires_at_ms = match times {
            Times::None | Times::Valkey => 0,
            Times::Absolute => length(source)?,
            Times::SinceFirst => match length(source)? {
                0 => 0,
                since => first_ms.checked_add(since - 1).map_or_else(|| damaged("a time is too late"), Ok)?,
            },
        };
        string(source, &mut name)?;
        string(source, &mut value)?;
        if matches!(times, Times::Valkey) {
            expires_at_ms = match moment(source)? {
                -1 => 0,
                at_ms => time(at_ms)?,
            };
        }
        each(Part::Field { name: &name, value: &value, expires_at_ms })?;
    }
    Ok(())
}

fn quicklist(has_kinds: bool, source: &mut impl Source, each: &mut EachPart<'_>) -> Read<()> {
    const PLAIN: u64 = 1;
    const PACKED: u64 = 2;
    let (mut node, mut digits) = (Vec::new(), itoa::Buffer::new());
    for _ in 0..length(source)? {
        let kind = if has_kinds { length(source)? } else { PACKED };
        string(source, &mut node)?;
        match kind {
            PLAIN => each(Part::Item(&node))?,
            PACKED if has_kinds => {
                Listpack::new(&node)?.try_for_each(|found| each(Part::Item(found?.text(&mut digits))))?;
            }
            PACKED => ziplist::ziplist(&node, &mut |found| each(Part::Item(found.text(&mut digits))))?,
            _ => return damaged("a list has a node of an unknown kind"),
        }
    }
    Ok(())
}
