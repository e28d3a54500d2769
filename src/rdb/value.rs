//! Values: a byte says type and encoding, and what follows is read part by part.

use super::error::{RdbError, Read, damaged};
use super::listpack::{Listpack, PackedElement};
use super::module_value;
use super::part::*;
use super::source::{ByteSource, byte, length, moment, string};
use super::stream;
use super::ziplist;

/// Reads a value of this type, of a file or payload of this version, and calls `each` with its parts. A value
/// without parts is possible; Redis ignores its key.
///
/// # Errors
/// Bytes that are no such value, and errors of the source and of `each`.
pub fn read_value(
    (value_type, version): (u8, u32),
    source: &mut impl ByteSource,
    each: &mut EachPart<'_>,
) -> Result<(), RdbError> {
    let mut text = Vec::new();
    match value_type {
        STRING => {
            string(source, &mut text)?;
            each(ValuePart::String(&text))
        }
        LIST => elements(source, &mut |item| each(ValuePart::Item(item))),
        SET => elements(source, &mut |member| each(ValuePart::Member(member))),
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
        HASH_ZIPMAP => ziplist::zipmap(bytes, &mut |name, value| {
            each(ValuePart::Field { name, value, expires_at_ms: 0 })
        }),
        SET_INTSET => {
            ziplist::intset(bytes, &mut |member| each(ValuePart::Member(digits.format(member).as_bytes())))
        }
        SET_LISTPACK => {
            Listpack::new(bytes)?.try_for_each(|found| each(ValuePart::Member(found?.text(&mut digits))))
        }
        LIST_ZIPLIST => ziplist::ziplist(bytes, &mut |found| each(ValuePart::Item(found.text(&mut digits)))),
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
    fn take(
        &mut self,
        found: PackedElement<'_>,
        each: &mut dyn FnMut(&[u8], PackedElement<'_>) -> Read<()>,
    ) -> Read<()> {
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

fn field(name: &[u8], value: PackedElement<'_>, each: &mut EachPart<'_>) -> Read<()> {
    each(ValuePart::Field { name, value: value.text(&mut itoa::Buffer::new()), expires_at_ms: 0 })
}

fn scored(member: &[u8], score: PackedElement<'_>, each: &mut EachPart<'_>) -> Read<()> {
    let score = match score {
        PackedElement::Integer(score) => score as f64,
        PackedElement::Bytes(text) => score_of(text)?,
    };
    each(ValuePart::Scored { member, score })
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
        each(ValuePart::Field { name, value, expires_at_ms })?;
    }
    Ok(())
}

/// A time in milliseconds since the epoch.
fn time(at_ms: i64) -> Read<u64> {
    u64::try_from(at_ms).map_or_else(|_| damaged("a time is before the epoch"), Ok)
}

fn elements(source: &mut impl ByteSource, each: &mut dyn FnMut(&[u8]) -> Read<()>) -> Read<()> {
    let mut text = Vec::new();
    for _ in 0..length(source)? {
        string(source, &mut text)?;
        each(&text)?;
    }
    Ok(())
}

fn sorted_set(is_binary: bool, source: &mut impl ByteSource, each: &mut EachPart<'_>) -> Read<()> {
    let mut member = Vec::new();
    for _ in 0..length(source)? {
        string(source, &mut member)?;
        let score = if is_binary { f64::from_le_bytes(source.array()?) } else { score_text(source)? };
        if score.is_nan() {
            return damaged("a score is no number");
        }
        each(ValuePart::Scored { member: &member, score })?;
    }
    Ok(())
}

/// A score of the first versions: a length, or a mark, and the text.
fn score_text(source: &mut impl ByteSource) -> Read<f64> {
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

fn hash(times: Times, source: &mut impl ByteSource, each: &mut EachPart<'_>) -> Read<()> {
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
        each(ValuePart::Field { name: &name, value: &value, expires_at_ms })?;
    }
    Ok(())
}

fn quicklist(has_kinds: bool, source: &mut impl ByteSource, each: &mut EachPart<'_>) -> Read<()> {
    const PLAIN: u64 = 1;
    const PACKED: u64 = 2;
    let (mut node, mut digits) = (Vec::new(), itoa::Buffer::new());
    for _ in 0..length(source)? {
        let kind = if has_kinds { length(source)? } else { PACKED };
        string(source, &mut node)?;
        match kind {
            PLAIN => each(ValuePart::Item(&node))?,
            PACKED if has_kinds => {
                Listpack::new(&node)?
                    .try_for_each(|found| each(ValuePart::Item(found?.text(&mut digits))))?;
            }
            PACKED => ziplist::ziplist(&node, &mut |found| each(ValuePart::Item(found.text(&mut digits))))?,
            _ => return damaged("a list has a node of an unknown kind"),
        }
    }
    Ok(())
}
