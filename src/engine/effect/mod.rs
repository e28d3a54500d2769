//! Effects: every change that a store can undergo, and their codec.
//!
//! An effect says what happened, never what was asked: absolute expiry times, final values, the members that were
//! picked. Applying one is a pure function of the keyspace and the effect: no clock, no randomness, no errors.
//! Execution, recovery, replicas and the offline snapshotter apply the same ones; snapshots are made of them too.
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
//! The header and key are readable without the payload, so that a reader can route an effect that it does not know.
//! A batch is a run of effects; it is applied whole or not at all.

mod batch;
mod shown;

pub use batch::Batch;

/// Why a key went away. It decides the event that observers hear, not what is done.
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

/// A change of one database (or of all, where the scope is Global).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect<'a> {
    /// Removes a key.
    Delete { key: &'a [u8], cause: Cause },
    /// Sets the expiry of a key that exists; 0 removes it.
    Expire { key: &'a [u8], expires_at_ms: u64 },
    /// Makes the key a string with this content and expiry (0 for none), whatever it was before.
    StringSet { key: &'a [u8], value: &'a [u8], expires_at_ms: u64 },
    /// Appends to a string; creates it where absent.
    StringAppend { key: &'a [u8], suffix: &'a [u8] },
    /// Overwrites a part of a string, padding with zero bytes; creates it where absent.
    StringWrite { key: &'a [u8], offset: u64, content: &'a [u8] },
    /// Sets fields of a hash (names and values in turn); creates it where absent. Unless `keep_expiry`, the fields
    /// lose their expiry.
    HashSet { key: &'a [u8], fields: List<'a>, keep_expiry: bool },
    /// Removes fields; a hash without fields is removed with its last one.
    HashDelete { key: &'a [u8], fields: List<'a>, cause: Cause },
    /// Sets the expiry of fields that exist; 0 removes it.
    HashExpire { key: &'a [u8], fields: List<'a>, expires_at_ms: u64 },
    /// Moves a value with its expiry to another key of the same database, replacing what is there.
    Rename { key: &'a [u8], to: &'a [u8] },
    /// Copies a value with its expiry, replacing what is there.
    Copy { key: &'a [u8], to: &'a [u8], to_database: u32 },
    /// Moves a key to another database where it is absent.
    Move { key: &'a [u8], to_database: u32 },
    /// Removes all keys of the database.
    Flush,
    /// Removes all keys of all databases.
    FlushAll,
    /// Exchanges two databases.
    SwapDatabases { first: u32, second: u32 },
    /// A module's change of its own state in this database.
    Module { module: u8, version: u8, kind: u8, payload: &'a [u8] },
}

/// Byte strings in a row: a request's arguments while executing, encoded bytes in replay.
#[derive(Clone, Copy, Debug)]
pub enum List<'a> {
    Arguments(&'a [&'a [u8]]),
    /// `count`, then each as u32 length and bytes.
    Encoded {
        count: u32,
        bytes: &'a [u8],
    },
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Arguments(items) => items.len(),
            List::Encoded { count, .. } => *count as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> ListIter<'a> {
        ListIter(*self)
    }

    /// Names and values in turn, as pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        let mut items = self.iter();
        std::iter::from_fn(move || Some((items.next()?, items.next()?)))
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[derive(Clone)]
pub struct ListIter<'a>(List<'a>);

impl<'a> Iterator for ListIter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.0 {
            List::Arguments(items) => {
                let (first, rest) = items.split_first()?;
                *items = rest;
                Some(first)
            }
            List::Encoded { bytes, .. } => {
                // Checked when the effect was decoded.
                let (length, rest) = bytes.split_first_chunk::<4>()?;
                let (item, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
                *bytes = rest;
                Some(item)
            }
        }
    }
}

/// A decoded effect with the database that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    pub database: u32,
    pub effect: Effect<'a>,
}

/// Why bytes are no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the effect ends before its declared length")]
    Truncated,
    #[error("effect kind {0} is not known to this version")]
    UnknownKind(u8),
    #[error("an effect of kind {0} has a malformed payload")]
    Malformed(u8),
}

impl<'a> Effect<'a> {
    /// The key that the effect is about (the first of two).
    pub fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Effect::Delete { key, .. }
            | Effect::Expire { key, .. }
            | Effect::StringSet { key, .. }
            | Effect::StringAppend { key, .. }
            | Effect::StringWrite { key, .. }
            | Effect::HashSet { key, .. }
            | Effect::HashDelete { key, .. }
            | Effect::HashExpire { key, .. }
            | Effect::Rename { key, .. }
            | Effect::Copy { key, .. }
            | Effect::Move { key, .. } => Some(key),
            Effect::Flush | Effect::FlushAll | Effect::SwapDatabases { .. } | Effect::Module { .. } => None,
        }
    }

    /// Calls `each` for every key that the effect changes, with its database.
    pub fn changed_keys(&self, database: u32, each: &mut dyn FnMut(u32, &'a [u8])) {
        match *self {
            Effect::Rename { key, to } => {
                each(database, key);
                each(database, to);
            }
            Effect::Copy { to, to_database, .. } => each(to_database, to),
            Effect::Move { key, to_database } => {
                each(database, key);
                each(to_database, key);
            }
            _ => {
                if let Some(key) = self.key() {
                    each(database, key);
                }
            }
        }
    }

    pub fn scope(&self) -> Scope {
        match self {
            Effect::FlushAll | Effect::SwapDatabases { .. } => Scope::Global,
            Effect::Flush | Effect::Module { .. } => Scope::Database,
            Effect::Rename { .. } | Effect::Copy { .. } | Effect::Move { .. } => Scope::Keys,
            _ => Scope::Key,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Effect::Delete { .. } => 1,
            Effect::Expire { .. } => 2,
            Effect::StringSet { .. } => 3,
            Effect::StringAppend { .. } => 4,
            Effect::StringWrite { .. } => 5,
            Effect::HashSet { .. } => 6,
            Effect::HashDelete { .. } => 7,
            Effect::HashExpire { .. } => 8,
            Effect::Rename { .. } => 9,
            Effect::Copy { .. } => 10,
            Effect::Move { .. } => 11,
            Effect::Flush => 12,
            Effect::FlushAll => 13,
            Effect::SwapDatabases { .. } => 14,
            Effect::Module { kind, .. } => *kind,
        }
    }

    /// Appends the encoding to `out`.
    pub fn encode(&self, database: u32, out: &mut Vec<u8>) {
        self.encode_into(database, out);
    }

    #[inline]
    fn encode_into(&self, database: u32, out: &mut impl Sink) {
        let (start, place) = (out.len(), out.place());
        let (module, version) = match *self {
            Effect::Module { module, version, .. } => (module, version),
            _ => (0, 0),
        };
        let mut header = [0; 12];
        header[4..8].copy_from_slice(&[self.kind(), self.scope() as u8, module, version]);
        header[8..12].copy_from_slice(&database.to_le_bytes());
        out.put(&header);
        if let Some(key) = self.key() {
            put_bytes(out, key);
        }
        self.encode_payload(out);
        let length = length_u32(out.len() - start - 4);
        out.set(place, length.to_le_bytes());
    }

    #[inline]
    fn encode_payload(&self, out: &mut impl Sink) {
        match *self {
            Effect::Delete { cause, .. } => out.put(&[cause as u8]),
            Effect::Expire { expires_at_ms, .. } => out.put(&expires_at_ms.to_le_bytes()),
            Effect::StringSet { value, expires_at_ms, .. } => {
                out.put(&expires_at_ms.to_le_bytes());
                out.put_word(value);
            }
            Effect::StringAppend { suffix, .. } => out.put_word(suffix),
            Effect::StringWrite { offset, content, .. } => {
                out.put(&offset.to_le_bytes());
                out.put_word(content);
            }
            Effect::HashSet { fields, keep_expiry, .. } => {
                out.put(&[u8::from(keep_expiry)]);
                put_list(out, fields);
            }
            Effect::HashDelete { fields, cause, .. } => {
                out.put(&[cause as u8]);
                put_list(out, fields);
            }
            Effect::HashExpire { fields, expires_at_ms, .. } => {
                out.put(&expires_at_ms.to_le_bytes());
                put_list(out, fields);
            }
            Effect::Rename { to, .. } => out.put(to),
            Effect::Copy { to, to_database, .. } => {
                out.put(&to_database.to_le_bytes());
                out.put(to);
            }
            Effect::Move { to_database, .. } => out.put(&to_database.to_le_bytes()),
            Effect::Flush | Effect::FlushAll => {}
            Effect::SwapDatabases { first, second } => {
                out.put(&first.to_le_bytes());
                out.put(&second.to_le_bytes());
            }
            Effect::Module { payload, .. } => out.put(payload),
        }
    }
}

impl<'a> Record<'a> {
    /// Decodes the effect at the start of `bytes`; returns it with what follows.
    pub fn decode(bytes: &'a [u8]) -> Result<(Record<'a>, &'a [u8]), DecodeError> {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(DecodeError::Truncated)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (body, rest) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        let (header, body) = body.split_first_chunk::<8>().ok_or(DecodeError::Truncated)?;
        let [kind, scope, module, version, a, b, c, d] = *header;
        let database = u32::from_le_bytes([a, b, c, d]);
        if module != 0 {
            let effect = Effect::Module { module, version, kind, payload: body };
            return Ok((Record { database, effect }, rest));
        }
        let mut reader = Reader { bytes: body };
        let effect = reader.effect(kind)?.ok_or(DecodeError::Malformed(kind))?;
        if !reader.bytes.is_empty() || scope != effect.scope() as u8 {
            return Err(DecodeError::Malformed(kind));
        }
        Ok((Record { database, effect }, rest))
    }
}

/// Reads a batch effect by effect; an error ends it.
pub fn decode_batch(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, DecodeError>> {
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

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The effect of this kind; `None` where the payload does not fit the kind.
    fn effect(&mut self, kind: u8) -> Result<Option<Effect<'a>>, DecodeError> {
        Ok(match kind {
            1..=11 => self.key_effect(kind),
            12 => Some(Effect::Flush),
            13 => Some(Effect::FlushAll),
            14 => self.swap(),
            _ => return Err(DecodeError::UnknownKind(kind)),
        })
    }

    fn key_effect(&mut self, kind: u8) -> Option<Effect<'a>> {
        let key = self.counted()?;
        Some(match kind {
            1 => Effect::Delete { key, cause: self.cause()? },
            2 => Effect::Expire { key, expires_at_ms: self.u64()? },
            3 => Effect::StringSet { key, expires_at_ms: self.u64()?, value: self.rest() },
            4 => Effect::StringAppend { key, suffix: self.rest() },
            5 => Effect::StringWrite { key, offset: self.u64()?, content: self.rest() },
            6 => {
                let keep_expiry = self.u8()? != 0;
                let fields = self.list().filter(|fields| fields.len().is_multiple_of(2))?;
                Effect::HashSet { key, fields, keep_expiry }
            }
            7 => {
                let cause = self.cause()?;
                Effect::HashDelete { key, fields: self.list()?, cause }
            }
            8 => {
                let expires_at_ms = self.u64()?;
                Effect::HashExpire { key, fields: self.list()?, expires_at_ms }
            }
            9 => Effect::Rename { key, to: self.rest() },
            10 => Effect::Copy { key, to_database: self.u32()?, to: self.rest() },
            11 => Effect::Move { key, to_database: self.u32()? },
            _ => return None,
        })
    }

    fn swap(&mut self) -> Option<Effect<'a>> {
        Some(Effect::SwapDatabases { first: self.u32()?, second: self.u32()? })
    }

    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u32::from_le_bytes(*first))
    }

    fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u64::from_le_bytes(*first))
    }

    fn cause(&mut self) -> Option<Cause> {
        match self.u8()? {
            0 => Some(Cause::Command),
            1 => Some(Cause::Expired),
            2 => Some(Cause::Evicted),
            _ => None,
        }
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (content, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(content)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// A list that ends the payload; every item is checked here, so that iterating cannot fail.
    fn list(&mut self) -> Option<List<'a>> {
        let count = self.u32()?;
        let bytes = self.bytes;
        for _ in 0..count {
            self.counted()?;
        }
        Some(List::Encoded { count, bytes: &bytes[..bytes.len() - self.bytes.len()] })
    }
}

/// A length as it is encoded. The configuration bounds requests at 2 GiB, so that no effect of one comes near; a length
/// that is cut off would make a log that cannot be read, which is worse than a process that stops.
fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("an effect is below 4 GiB")
}

/// Where an effect is encoded to.
trait Sink {
    /// Bytes so far.
    fn len(&self) -> usize;
    fn put(&mut self, bytes: &[u8]);
    /// The same for bytes that can be a whole word of a request.
    fn put_word(&mut self, word: &[u8]);
    /// Where the next bytes come, for `set`.
    fn place(&self) -> usize;
    fn set(&mut self, place: usize, bytes: [u8; 4]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn put_word(&mut self, word: &[u8]) {
        self.extend_from_slice(word);
    }

    #[inline]
    fn place(&self) -> usize {
        self.len()
    }

    #[inline]
    fn set(&mut self, place: usize, bytes: [u8; 4]) {
        self[place..place + 4].copy_from_slice(&bytes);
    }
}

#[inline]
fn put_bytes(out: &mut impl Sink, bytes: &[u8]) {
    out.put(&length_u32(bytes.len()).to_le_bytes());
    out.put_word(bytes);
}

#[inline]
fn put_list(out: &mut impl Sink, list: List<'_>) {
    out.put(&length_u32(list.len()).to_le_bytes());
    for item in list.iter() {
        put_bytes(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Effect<'static>> {
        const FIELDS: List<'static> = List::Arguments(&[b"name", b"value", b"", b"\0\xff"]);
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
            Effect::Rename { key, to: b"other" },
            Effect::Copy { key, to: b"other", to_database: 3 },
            Effect::Move { key, to_database: 15 },
            Effect::Flush,
            Effect::FlushAll,
            Effect::SwapDatabases { first: 1, second: 2 },
            Effect::Module { module: 1, version: 1, kind: 2, payload: b"anything" },
        ]
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
