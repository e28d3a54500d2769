//! The kinds of fields that effects are declared of: how each is encoded, decoded and shown.

use super::codec::{Reader, Sink, put_bytes, put_list, put_scores};
use super::{Cause, DATABASES_MAX, List, ScoredList};
use crate::types::{ListEnd, ScoredMember};
use std::fmt::Display;

/// How a field of this kind is encoded, decoded and shown.
pub(super) trait FieldKind<'a> {
    type Value: Copy;

    fn put(value: Self::Value, out: &mut impl Sink);

    /// `None` where the bytes are no such field.
    fn take(reader: &mut Reader<'a>) -> Option<Self::Value>;

    /// As text for people. What can be absent brings its own space and words.
    fn shown(value: Self::Value) -> impl Display;

    /// The key that the effect is about, if the field is that.
    #[inline]
    fn key(_: Self::Value) -> Option<&'a [u8]> {
        None
    }

    /// The field of the same effect on another key.
    #[inline]
    fn under(value: Self::Value, _: &'a [u8]) -> Self::Value {
        value
    }
}

/// The key that the effect is about. It is the first field, so that it is found without knowing the effect.
pub(super) struct Key;
/// The name of a user, with its length.
pub(super) struct UserName;
/// Bytes up to the end of the effect; only the last field can be this.
pub(super) struct Rest;
/// Milliseconds since the epoch at which something expires; 0 for never.
pub(super) struct At;
/// The same where it comes with the value.
pub(super) struct Until;
pub(super) struct Offset;
/// A count, or an index of an element.
pub(super) struct Number;
/// One end of a list.
pub(super) struct End;
/// The number of a database, below [`DATABASES_MAX`].
pub(super) struct DatabaseNumber;
pub(super) struct Reason;
pub(super) struct KeepExpiry;
/// Names and values in turn.
pub(super) struct Pairs;
pub(super) struct Names;
/// Members of a sorted set with their scores.
pub(super) struct Scores;

impl<'a> FieldKind<'a> for Key {
    type Value = &'a [u8];

    #[inline]
    fn put(value: &'a [u8], out: &mut impl Sink) {
        put_bytes(out, value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
        reader.counted()
    }

    fn shown(value: &'a [u8]) -> impl Display {
        shown_bytes(value)
    }

    #[inline]
    fn key(value: &'a [u8]) -> Option<&'a [u8]> {
        Some(value)
    }

    #[inline]
    fn under(_: &'a [u8], key: &'a [u8]) -> &'a [u8] {
        key
    }
}

impl<'a> FieldKind<'a> for UserName {
    type Value = &'a [u8];

    #[inline]
    fn put(value: &'a [u8], out: &mut impl Sink) {
        put_bytes(out, value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
        reader.counted()
    }

    fn shown(value: &'a [u8]) -> impl Display {
        shown_bytes(value)
    }
}

impl<'a> FieldKind<'a> for Rest {
    type Value = &'a [u8];

    #[inline]
    fn put(value: &'a [u8], out: &mut impl Sink) {
        out.put_word(value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
        Some(reader.rest())
    }

    fn shown(value: &'a [u8]) -> impl Display {
        shown_bytes(value)
    }
}

/// Kinds of numbers: the type, what reads it, and how it is shown.
macro_rules! numbers {
    ($($kind:ident: $type:ident, $show:expr;)*) => { $(
        impl<'a> FieldKind<'a> for $kind {
            type Value = $type;

            #[inline]
            fn put(value: $type, out: &mut impl Sink) {
                out.put(&value.to_le_bytes());
            }

            fn take(reader: &mut Reader<'a>) -> Option<$type> {
                reader.$type()
            }

            fn shown(value: $type) -> impl Display {
                let show: fn($type) -> String = $show;
                show(value)
            }
        }
    )* };
}

numbers! {
    At: u64, |ms| if ms == 0 { " never".to_owned() } else { format!(" at {ms}") };
    Until: u64, |ms| if ms == 0 { String::new() } else { format!(" until {ms}") };
    Offset: u64, |offset| offset.to_string();
    Number: u64, |number| number.to_string();
}

impl<'a> FieldKind<'a> for DatabaseNumber {
    type Value = u32;

    #[inline]
    fn put(value: u32, out: &mut impl Sink) {
        out.put(&value.to_le_bytes());
    }

    fn take(reader: &mut Reader<'a>) -> Option<u32> {
        reader.u32().filter(|number| *number < DATABASES_MAX)
    }

    fn shown(value: u32) -> impl Display {
        value
    }
}

impl<'a> FieldKind<'a> for Reason {
    type Value = Cause;

    #[inline]
    fn put(value: Cause, out: &mut impl Sink) {
        out.put(&[value as u8]);
    }

    fn take(reader: &mut Reader<'a>) -> Option<Cause> {
        reader.cause()
    }

    fn shown(value: Cause) -> impl Display {
        if value == Cause::Command { String::new() } else { format!(" ({value:?})") }
    }
}

impl<'a> FieldKind<'a> for End {
    type Value = ListEnd;

    #[inline]
    fn put(value: ListEnd, out: &mut impl Sink) {
        out.put(&[value as u8]);
    }

    fn take(reader: &mut Reader<'a>) -> Option<ListEnd> {
        match reader.u8()? {
            0 => Some(ListEnd::Front),
            1 => Some(ListEnd::Back),
            _ => None,
        }
    }

    fn shown(value: ListEnd) -> impl Display {
        if value == ListEnd::Front { "front" } else { "back" }
    }
}

impl<'a> FieldKind<'a> for KeepExpiry {
    type Value = bool;

    #[inline]
    fn put(value: bool, out: &mut impl Sink) {
        out.put(&[u8::from(value)]);
    }

    fn take(reader: &mut Reader<'a>) -> Option<bool> {
        Some(reader.u8()? != 0)
    }

    fn shown(value: bool) -> impl Display {
        if value { " keeping expiry" } else { "" }
    }
}

impl<'a> FieldKind<'a> for Pairs {
    type Value = List<'a>;

    #[inline]
    fn put(value: List<'a>, out: &mut impl Sink) {
        put_list(out, value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<List<'a>> {
        reader.list().filter(|list| list.len().is_multiple_of(2))
    }

    fn shown(value: List<'a>) -> impl Display {
        let pair = |(name, value)| format!("{} = {}", shown_bytes(name), shown_bytes(value));
        value.pairs().map(pair).collect::<Vec<_>>().join(", ")
    }
}

impl<'a> FieldKind<'a> for Names {
    type Value = List<'a>;

    #[inline]
    fn put(value: List<'a>, out: &mut impl Sink) {
        put_list(out, value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<List<'a>> {
        reader.list()
    }

    fn shown(value: List<'a>) -> impl Display {
        value.iter().map(shown_bytes).collect::<Vec<_>>().join(", ")
    }
}

impl<'a> FieldKind<'a> for Scores {
    type Value = ScoredList<'a>;

    #[inline]
    fn put(value: ScoredList<'a>, out: &mut impl Sink) {
        put_scores(out, value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<ScoredList<'a>> {
        reader.scores()
    }

    fn shown(value: ScoredList<'a>) -> impl Display {
        let pair = |entry: ScoredMember<'_>| format!("{} = {}", shown_bytes(entry.member), entry.score);
        value.iter().map(pair).collect::<Vec<_>>().join(", ")
    }
}

/// Quoted and escaped; long ones by their length.
pub(super) fn shown_bytes(content: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 100;
    match content.len() {
        0..=SHOWN_BYTES_MAX => format!("\"{}\"", content.escape_ascii()),
        length => format!("({length} bytes)"),
    }
}
