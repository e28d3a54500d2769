//! Plain data structures behind the value types. Imports nothing else of the engine: no clock, no effects, no
//! keys.

mod bits;
mod bytes;
mod content;
mod hash;
mod hash_ref;
mod housed;
pub mod hyperloglog;
mod list_value;
mod number;
pub(crate) mod packed_hash;
pub(crate) mod row;
pub(crate) mod set_value;
pub(crate) mod sorted_set;
pub(crate) mod stream;
mod string;

pub use bits::{BitOperation, FieldWidth, Overflow, count_ones, find_bit};
pub use bytes::ShortBytes;
pub use content::{Content, Contents};
pub(crate) use hash::OwnedField;
pub use hash::{Field, Hash};
pub use hash_ref::HashRef;
pub use housed::{House, Housed};
pub use list_value::{ListElements, ListRef, ListValue};
pub use number::{
    add_decimals, format_double, format_score, format_score_17, parse_double, parse_integer, parse_score,
    parse_score_bound,
};
pub use row::{Coded, ListEnd, RowElement};
pub use set_value::{SetRef, SetValue, SmallSet};
pub use sorted_set::{ScoreChange, ScoredMember, SortedSet, SortedSetRef};
pub use stream::{Stream, StreamId};
pub use string::{StringRef, StringValue};
