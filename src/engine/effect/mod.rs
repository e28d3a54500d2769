//! Effects: every change that a store can undergo, and their codec.
//!
//! An effect says what happened, never what was asked: absolute expiry times, final values, the members that
//! were picked. Applying one is a pure function of the keyspace and the effect: no clock, no randomness, no
//! errors. Execution, recovery, replicas and the offline snapshotter apply the same ones; snapshots are made
//! of them too.
//!
//! # Encoding
//!
//! Little-endian; stable and versioned (docs/formats.md draws it):
//!
//! ```text
//! length u32   bytes after this field
//! kind   u8    which effect; 1..=63 are the engine's
//! scope  u8    0 Global, 1 Database, 2 Key, 3 Keys
//! module u8    0 for the engine, else the module's number
//! version u8   of that module's payload
//! database u32
//! key    u32 length + bytes      (scope Key: the key; Keys: the first key)
//! payload                        by kind
//! ```
//!
//! Effects are declared once: a row in the file of their family (`keys`, `strings`, `hashes` and so on)
//! says number, scope, fields in the order of their encoding, and how they are shown. `declare` makes all
//! else of the rows. What a field can be is in `kinds`.
//!
//! The header and key are readable without the payload, so that a reader can route an effect that it does not
//! know. A batch is a run of effects; it is applied whole or not at all.

mod batch;
mod codec;
#[macro_use]
mod databases;
#[macro_use]
mod declare;
#[macro_use]
mod hashes;
#[macro_use]
mod hyperloglogs;
#[macro_use]
mod keys;
mod kinds;
mod list;
#[macro_use]
mod lists;
mod modules;
#[macro_use]
mod sets;
#[macro_use]
mod sorted_sets;
#[macro_use]
pub(crate) mod streams;
#[macro_use]
mod strings;
#[macro_use]
mod users;

pub use batch::Batch;
pub use list::{List, ListIter, ScoredList};

use crate::types::ListEnd;
use crate::types::StreamId;
use codec::{Reader, Sink, length_u32};
use kinds::{
    At, DatabaseNumber, End, FieldKind, KeepExpiry, Key, Names, Number, Offset, Pairs, Reason, Rest, Scores,
    Until, UserName,
};
use std::fmt;
use streams::{
    BeginsBlock, ByTrim, EntriesRead, EntryId, EntryIds, PendingRecords, SavedEntries, WithReferences, Word,
};

/// The reason why a key was deleted. It determines the event that observers get, not the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Command = 0,
    Expired = 1,
    Evicted = 2,
}

/// What an effect touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Global = 0,
    Database = 1,
    Key = 2,
    Keys = 3,
}

/// Marks the rows of effects that can build a value where its key is absent: snapshots are made of these.
const BUILDS: bool = true;

key_effects! {
    [string_effects hash_effects list_effects set_effects sorted_set_effects hyperloglog_effects
     stream_effects database_effects user_effects declare_effects]
}

/// Numbers of databases from this one on are errors, because a reader allocates all databases below a number.
pub const DATABASES_MAX: u32 = 1 << 16;

/// A decoded effect with the database that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    pub database: u32,
    pub effect: Effect<'a>,
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.effect.fmt(f)?;
        if self.database == 0 { Ok(()) } else { write!(f, " (database {})", self.database) }
    }
}

/// The reason why bytes are no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectDecodeError {
    #[error("the effect ends before its declared length")]
    Truncated,
    #[error("effect kind {0} is not known to this version")]
    UnknownKind(u8),
    #[error("an effect of kind {0} has a malformed payload")]
    Malformed(u8),
    #[error("database {0} of an effect is beyond the last one that can be")]
    Database(u32),
}

impl<'a> Effect<'a> {
    /// Appends the encoding to `out`.
    pub fn encode(&self, database: u32, out: &mut Vec<u8>) {
        self.encode_into(database, out);
    }

    #[inline]
    fn encode_into(&self, database: u32, out: &mut impl Sink) {
        let (start, place) = (out.len(), out.place());
        let (module, version) = self.module();
        let mut header = [0; 12];
        header[4..8].copy_from_slice(&[self.number(), self.scope() as u8, module, version]);
        header[8..12].copy_from_slice(&database.to_le_bytes());
        out.put(&header);
        self.put_fields(out);
        let length = length_u32(out.len() - start - 4);
        out.set(place, length.to_le_bytes());
    }

    /// The module's number, 0 for the engine, and its version of the payload.
    fn module(&self) -> (u8, u8) {
        match *self {
            Effect::Module { module, version, .. } => (module, version),
            _ => (0, 0),
        }
    }
}

impl<'a> Record<'a> {
    /// Decodes the effect at the start of `bytes`; returns it with what follows.
    pub fn decode(bytes: &'a [u8]) -> Result<(Record<'a>, &'a [u8]), EffectDecodeError> {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(EffectDecodeError::Truncated)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (body, rest) = rest.split_at_checked(length).ok_or(EffectDecodeError::Truncated)?;
        let (header, body) = body.split_first_chunk::<8>().ok_or(EffectDecodeError::Truncated)?;
        let [kind, scope, module, version, a, b, c, d] = *header;
        let database = u32::from_le_bytes([a, b, c, d]);
        if database >= DATABASES_MAX {
            return Err(EffectDecodeError::Database(database));
        }
        if module != 0 {
            let effect = modules::take([module, version, kind, scope], Reader { bytes: body })?;
            return Ok((Record { database, effect }, rest));
        }
        if !Effect::is_known(kind) {
            return Err(EffectDecodeError::UnknownKind(kind));
        }
        let mut reader = Reader { bytes: body };
        let effect = Effect::take_fields(kind, &mut reader).ok_or(EffectDecodeError::Malformed(kind))?;
        if !reader.bytes.is_empty() || scope != effect.scope() as u8 {
            return Err(EffectDecodeError::Malformed(kind));
        }
        Ok((Record { database, effect }, rest))
    }
}

/// Reads a batch effect by effect; an error ends it.
pub fn decode_batch(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, EffectDecodeError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        Some(match Record::decode(bytes) {
            Ok((record, rest)) => {
                bytes = rest;
                Ok(record)
            }
            Err(error) => {
                bytes = &[];
                Err(error)
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ScoredMember;

    #[test]
    fn a_database_beyond_the_bound_is_no_effect() {
        let (last, beyond) = (DATABASES_MAX - 1, DATABASES_MAX);
        let in_payload = |number| {
            [
                Effect::SwapDatabases { first: number, second: 0 },
                Effect::SwapDatabases { first: 0, second: number },
                Effect::Copy { key: b"a", to: b"b", to_database: number },
                Effect::Move { key: b"a", to_database: number },
            ]
        };
        let encoded = |effect: &Effect<'_>, database| {
            let mut bytes = Vec::new();
            effect.encode(database, &mut bytes);
            bytes
        };
        for (good, bad) in in_payload(last).iter().zip(&in_payload(beyond)) {
            assert!(Record::decode(&encoded(good, 0)).is_ok(), "{good}");
            assert!(Record::decode(&encoded(bad, 0)).is_err(), "{bad}");
        }
        let module = Effect::Module { module: 9, version: 1, kind: 1, key: Some(b"k"), payload: b"" };
        for effect in [Effect::Flush, module] {
            assert!(Record::decode(&encoded(&effect, last)).is_ok(), "{effect}");
            assert_eq!(Record::decode(&encoded(&effect, beyond)), Err(EffectDecodeError::Database(beyond)));
        }
    }

    fn samples() -> Vec<Effect<'static>> {
        const FIELDS: List<'static> = List::Arguments(&[b"name", b"value", b"", b"\0\xff"]);
        const SCORES: &[ScoredMember<'static>] = &[
            ScoredMember { score: -0.5, member: b"" },
            ScoredMember { score: f64::INFINITY, member: b"\0\xff" },
        ];
        const ID: StreamId = StreamId { ms: 1_700_000_000_000, seq: 2 };
        const ENTRIES: &[&[u8]] =
            &[&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0], b"name", b""];
        let key = &b"key"[..];
        vec![
            Effect::Delete { key, cause: Cause::Expired },
            Effect::Expire { key, expires_at_ms: 17 },
            Effect::StringSet { key, value: b"value", expires_at_ms: u64::MAX },
            Effect::StringAppend { key, suffix: b"" },
            Effect::StringWrite { key: b"", offset: 9, content: b"xx" },
            Effect::HashSet { key, fields: FIELDS, keep_expiry: true },
            Effect::HashDelete { key, fields: FIELDS, cause: Cause::Command },
            Effect::HashExpire { key, fields: FIELDS, expires_at_ms: 3 },
            Effect::SortedSetAdd { key, members: ScoredList::Pairs(SCORES) },
            Effect::HyperLogLogRaise { key, sparse_bytes_max: 3000, registers: b"\x01\0\x05" },
            Effect::SortedSetRemove { key, members: FIELDS },
            Effect::SortedSetRemoveRange { key, first: 3, count: 1 << 40 },
            Effect::ListPush { key, end: ListEnd::Front, elements: FIELDS },
            Effect::ListPop { key, end: ListEnd::Back, count: 2 },
            Effect::ListSet { key, index: 1, element: b"" },
            Effect::ListInsert { key, index: 0, element: b"element" },
            Effect::ListRemove { key, end: ListEnd::Back, count: 2, element: b"element" },
            Effect::ListTrim { key, start: 1, end: 2 },
            Effect::SetAdd { key, members: FIELDS },
            Effect::SetRemove { key, members: FIELDS },
            Effect::Rename { key, to: b"other" },
            Effect::Copy { key, to: b"other", to_database: 3 },
            Effect::Move { key, to_database: 15 },
            Effect::Flush,
            Effect::FlushAll,
            Effect::SwapDatabases { first: 1, second: 2 },
            Effect::UserSet { name: b"alice", rules: b"on nopass ~* &* +@all" },
            Effect::UserDelete { name: b"alice" },
            Effect::UsersOwned,
            Effect::StreamAdd { key, id: ID, is_first: true, pairs: FIELDS },
            Effect::StreamEntries { key, is_first: false, entries: List::Arguments(ENTRIES) },
            Effect::StreamHead { key, last_id: ID, max_deleted_id: StreamId::MAX, entries_added: 9 },
            Effect::StreamDelete { key, references: true, is_trim: false, ids: &[1; 32] },
            Effect::StreamTrim { key, references: false, last: ID },
            Effect::StreamGroup { key, last_id: ID, entries_read: -1, group: b"group" },
            Effect::StreamGroupDelete { key, group: b"" },
            Effect::StreamConsumer { key, group: b"group", seen_ms: 5, active_ms: 0, consumer: b"name" },
            Effect::StreamConsumerDelete { key, group: b"group", consumer: b"name" },
            Effect::StreamDeliver {
                key,
                group: b"group",
                consumer: b"name",
                last_id: ID,
                entries_read: 3,
                at_ms: 17,
                ids: &[0; 16],
            },
            Effect::StreamPending { key, group: b"group", pending: List::Arguments(&[b"name", &[2; 64]]) },
            Effect::StreamAcknowledge { key, group: b"group", ids: b"" },
            Effect::Module { module: 1, version: 1, kind: 2, key: None, payload: b"anything" },
            Effect::Module { module: 9, version: 3, kind: 200, key: Some(key), payload: b"anything" },
        ]
    }

    #[test]
    fn the_samples_are_of_all_effects_and_keys_come_first() {
        let mut numbers: Vec<u8> =
            samples().iter().filter(|effect| effect.module().0 == 0).map(Effect::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..=u8::MAX).filter(|&number| Effect::is_known(number)).collect::<Vec<_>>());
        for effect in samples() {
            let mut bytes = Vec::new();
            effect.encode(0, &mut bytes);
            let has_key = matches!(effect.scope(), Scope::Key | Scope::Keys);
            assert_eq!(effect.key().is_some(), has_key, "{effect}");
            let first = Reader { bytes: &bytes[12..] }.counted();
            assert!(!has_key || first == effect.key(), "{effect}");
            let other = effect.with_key(b"another");
            assert_eq!(other.key(), has_key.then_some(&b"another"[..]));
            assert_eq!(effect.key().map_or(other, |key| other.with_key(key)), effect);
        }
    }

    #[test]
    fn every_effect_round_trips_and_a_batch_reads_back_in_order() {
        let mut batch = Vec::new();
        for effect in samples() {
            effect.encode(7, &mut batch);
        }
        let decoded: Vec<_> = decode_batch(&batch).map(|record| record.expect("just encoded")).collect();
        assert_eq!(decoded.iter().map(|record| record.effect).collect::<Vec<_>>(), samples());
        assert!(decoded.iter().all(|record| record.database == 7));
    }

    #[test]
    fn a_cut_anywhere_is_an_error_never_a_panic_or_another_effect() {
        for effect in samples() {
            let mut bytes = Vec::new();
            effect.encode(0, &mut bytes);
            for length in 1..bytes.len() {
                assert!(Record::decode(&bytes[..length]).is_err());
            }
        }
    }

    #[test]
    fn any_flipped_byte_decodes_or_fails_without_panic() {
        for effect in samples() {
            let mut bytes = Vec::new();
            effect.encode(0, &mut bytes);
            for place in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[place] ^= 1 << bit;
                    for record in decode_batch(&flipped).flatten() {
                        if let Effect::HashSet { fields, .. } = record.effect {
                            assert_eq!(fields.iter().count(), fields.len());
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "an effect is below 4 GiB")]
    fn a_length_is_not_cut_off() {
        assert_eq!(length_u32(u32::MAX as usize), u32::MAX);
        length_u32(1 << 32);
    }
}
