//! What a value is read as: its type, and its parts.

use super::error::RdbError;

/// The types that are written; readers know all of them.
pub(crate) const STRING: u8 = 0;
pub(crate) const LIST: u8 = 1;
pub(crate) const SET: u8 = 2;
pub(crate) const SORTED_SET_TEXTS: u8 = 3;
pub(crate) const HASH: u8 = 4;
pub(crate) const SORTED_SET: u8 = 5;
pub(crate) const MODULE: u8 = 7;
pub(crate) const HASH_ZIPMAP: u8 = 9;
pub(crate) const LIST_ZIPLIST: u8 = 10;
pub(crate) const SET_INTSET: u8 = 11;
pub(crate) const SORTED_SET_ZIPLIST: u8 = 12;
pub(crate) const HASH_ZIPLIST: u8 = 13;
pub(crate) const LIST_QUICKLIST: u8 = 14;
pub(crate) const STREAM_1: u8 = 15;
pub(crate) const HASH_LISTPACK: u8 = 16;
pub(crate) const SORTED_SET_LISTPACK: u8 = 17;
pub(crate) const LIST_QUICKLIST_2: u8 = 18;
pub(crate) const STREAM_2: u8 = 19;
pub(crate) const SET_LISTPACK: u8 = 20;
pub(crate) const STREAM_3: u8 = 21;
/// Of Redis 7.4's candidates, and another one of Valkey 9, whose files have versions from 80 on.
pub(crate) const HASH_TIMES: u8 = 22;
pub(crate) const HASH_LISTPACK_TIMES_EARLY: u8 = 23;
pub(crate) const HASH_TIMES_2: u8 = 24;
pub(crate) const HASH_LISTPACK_TIMES: u8 = 25;

/// The first version of the format that is Valkey's own.
pub(crate) const VALKEY_VERSION: u32 = 80;

/// A part of a value. A value is a String, or any number of parts of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValuePart<'a> {
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
    /// The next entry of a stream: names and values in turn. `begins_node` says that it is the first one of a
    /// node, which approximate trims remove whole.
    Entry { id: RdbStreamId, begins_node: bool, fields: &'a [&'a [u8]] },
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

impl ValuePart<'_> {
    /// Whether it counts as one of the value's elements. A module's value is one.
    pub fn is_content(&self) -> bool {
        !matches!(
            self,
            ValuePart::ModuleItem(_)
                | ValuePart::Stream(_)
                | ValuePart::Group(_)
                | ValuePart::Consumer(_)
                | ValuePart::Pending(_)
        )
    }
}

/// What takes the parts. Its error ends the reading.
pub type EachPart<'s> = dyn FnMut(ValuePart<'_>) -> Result<(), RdbError> + 's;

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

/// An entry's id: milliseconds, and a number among those of the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RdbStreamId {
    pub ms: u64,
    pub sequence: u64,
}

/// What a stream has beside its entries and groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamMeta {
    pub length: u64,
    pub last_id: RdbStreamId,
    /// The highest id of an entry that was deleted.
    pub max_deleted_id: RdbStreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPart<'a> {
    pub name: &'a [u8],
    pub last_id: RdbStreamId,
    /// How many entries the group has read; `None` where that is not known.
    pub entries_read: Option<u64>,
}

/// Times in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerPart<'a> {
    pub name: &'a [u8],
    /// When it tried to read, or to claim, last.
    pub seen_at_ms: u64,
    /// When it got something last; `None` for never.
    pub active_at_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingPart {
    pub id: RdbStreamId,
    /// When it was delivered last, in milliseconds since the epoch, and how often it was.
    pub delivered_at_ms: u64,
    pub deliveries: u64,
}

/// What a module has stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ModuleItem<'a> {
    Signed(i64),
    Unsigned(u64),
    Float(f32),
    Double(f64),
    String(&'a [u8]),
}
