//! Values that Rename, Copy and Move carry between keys, followed through the log's tail in bounded memory.
//!
//! The offline snapshotter builds one range of slots after the other, so no effect may need two of them.
//! Where the tail has a Rename or Copy between two ranges, all keys that any Rename, Copy or Move names are
//! *carried*: every effect on one of them is applied here, in the log's order, and no other part sees it. At
//! the end each carried key that exists is given to its range as the effects that build it. All other effects
//! have one key, or concern whole databases.
//!
//! Memory: values that effects change are in `resident`, a keyspace like any other, until it outgrows its
//! budget; then all of them go to a temporary file. A value there is never changed: a Rename moves the
//! reference to it from one key to another, a Copy makes a second reference, any other effect brings it back.
//! The keys and the references are in an index with a slot for each, which is a file too if it is large.
//!
//! Reads: while the tail is read, keys and values come in its order, one read for each. At the end they are
//! read in the order of the file, as many at a time as the memory allows.
//!
//! Databases: a carried key is named by its database's *identity*, which Flush and FlushAll replace by a new
//! one and SwapDatabases exchanges. So these cost nothing, whatever the number of keys.
//!
//! Invariants: a key is resident, or has a value in its slot, or is absent; never two of these. The resident
//! keyspace has only carried keys, under the databases' present numbers.

use super::scratch::{Extent, IndexSlot, ReadWindow, Scratch, ScratchIndex};
use super::spill;
use crate::effect::{Cause, Effect, Record};
use crate::env::Env;
use crate::error::ReplayError;
use crate::hashing::HashMap;
use crate::keyspace::{DataTypes, Database, Keyspace};
use crate::table::hash_bytes;
use std::io;
use std::path::Path;

/// Values are read back in pieces of this.
const PIECE_BYTES: usize = 128 << 10;
/// What an entry takes beside the bytes of the effect that made it, at least: how soon memory is measured
/// again.
const ENTRY_BYTES: usize = 128;
/// Of the budget, the part up to which the index stays in memory.
const INDEX_SHARE_INVERSE: usize = 4;
/// Of the budget, the part for slots, and that for keys, that are sorted at the end.
const SORTED_SHARE_INVERSE: usize = 8;

pub struct Carrier {
    identities: Identities,
    index: ScratchIndex,
    /// Keys, and values as the effects that build them.
    scratch: Scratch,
    resident: Keyspace,
    budget_bytes: usize,
    /// An estimate of what `resident` has grown by since it was measured.
    grown_bytes: usize,
    held_bytes_max: usize,
}

/// Why a carrier cannot go on.
#[derive(Debug)]
pub enum CarryError {
    Io(io::Error),
    Replay(ReplayError),
}

impl From<io::Error> for CarryError {
    fn from(error: io::Error) -> CarryError {
        CarryError::Io(error)
    }
}

impl Carrier {
    /// A carrier for a tail with `pairs` effects of two keys; values take about `budget_bytes` of memory.
    pub fn new(
        env: &Env,
        directory: &Path,
        types: &DataTypes,
        pairs: u64,
        budget_bytes: usize,
    ) -> io::Result<Carrier> {
        let index_bytes = budget_bytes / INDEX_SHARE_INVERSE;
        Ok(Carrier {
            identities: Identities::default(),
            index: ScratchIndex::new(
                env.disk.clone(),
                directory.join("carried-index.tmp"),
                2 * pairs,
                index_bytes,
            )?,
            scratch: Scratch::new(env.disk.clone(), directory.join("carried.tmp")),
            resident: Keyspace::with_types(0, types.clone()),
            budget_bytes,
            grown_bytes: 0,
            held_bytes_max: 0,
        })
    }

    /// The first pass: takes every effect of the tail, and notes the keys that are to be carried.
    pub fn note(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.identities.follow(record);
        for (database, key) in record.pair().into_iter().flatten() {
            let identity = self.identities.of(database);
            if self.find(database, key)?.is_none() {
                let at = self.scratch.end();
                self.scratch.append(&encode_key(identity, key))?;
                self.index.insert(hash_of(identity, key), at)?;
            }
        }
        Ok(())
    }

    /// Ends the first pass: the state before the first effect.
    pub fn rewind(&mut self) {
        self.identities = Identities::default();
    }

    /// The second pass: an effect of the snapshot that the tail builds on, or one of the tail. Returns
    /// whether it was of carried keys: then it is done, else other parts have to apply it (too, if it is of
    /// whole databases).
    pub fn apply(&mut self, record: &Record<'_>) -> Result<bool, CarryError> {
        let Record { database, effect } = *record;
        match effect {
            Effect::Module { key: None, .. } => Ok(false),
            effect if effect.is_of_users() => Ok(false),
            Effect::Flush | Effect::FlushAll | Effect::SwapDatabases { .. } => {
                self.identities.follow(record);
                self.resident.apply(record);
                Ok(false)
            }
            Effect::Rename { .. } | Effect::Copy { .. } | Effect::Move { .. } => {
                self.carry(record).map(|()| true)
            }
            effect => {
                let key = effect.key().expect("all other effects have a key");
                match self.find(database, key)? {
                    Some(slot) => self.change(record, key, slot).map(|()| true),
                    None => Ok(false),
                }
            }
        }
    }

    /// Calls `each` with the effects that build the carried keys, as they are after the last effect.
    pub fn finish(
        mut self,
        each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>,
    ) -> Result<Carried, CarryError> {
        self.unload()?;
        let numbers = self.identities.numbers();
        let bytes_max = self.budget_bytes / SORTED_SHARE_INVERSE;
        let (mut of_index, mut of_keys, mut of_values) = <(ReadWindow, ReadWindow, ReadWindow)>::default();
        let mut places = 0..self.index.slots();
        while !places.is_empty() {
            let mut slots = Vec::new();
            for place in places.by_ref() {
                slots
                    .extend(self.index.at_forward(&mut of_index, place)?.filter(|slot| slot.value.is_some()));
                if slots.len() * size_of::<IndexSlot>() >= bytes_max {
                    break;
                }
            }
            slots.sort_unstable_by_key(|slot| slot.key_at);
            let (mut found, mut held) = (Vec::new(), 0);
            for IndexSlot { key_at, value, .. } in slots {
                let mut read = |into: &mut [u8], at| self.scratch.read_forward(&mut of_keys, into, at);
                let (identity, key) = self.key_at(key_at, &mut read)?;
                let (Some(database), Some(value)) = (numbers.of(identity), value) else { continue };
                held += key.len() + size_of::<Found>();
                found.push(Found { database, key, value });
                if held >= bytes_max {
                    held = 0;
                    self.give(&mut found, &mut of_values, each)?;
                }
            }
            self.give(&mut found, &mut of_values, each)?;
        }
        Ok(Carried { keys: self.index.keys(), held_bytes_max: self.held_bytes_max })
    }

    /// Gives these keys away, in the order of their values.
    fn give(
        &self,
        found: &mut Vec<Found>,
        window: &mut ReadWindow,
        each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>,
    ) -> Result<(), CarryError> {
        found.sort_unstable_by_key(|found| found.value.at);
        for Found { database, key, value } in found.drain(..) {
            let mut read = |into: &mut [u8], at| self.scratch.read_forward(window, into, at);
            read_value(&self.scratch, value, &mut read, &mut |effect| {
                Ok(each(&Record { database, effect: effect.with_key(&key) })?)
            })?;
        }
        Ok(())
    }

    /// An effect of one carried key.
    fn change(&mut self, record: &Record<'_>, key: &[u8], slot: IndexSlot) -> Result<(), CarryError> {
        if let Some(value) = slot.value {
            let replaces = matches!(record.effect, Effect::Delete { .. } | Effect::StringSet { .. });
            if !replaces {
                self.bring(record.database, key, value)?;
            }
            self.index.set(&slot, None)?;
        }
        self.apply_resident(record)
    }

    /// An effect of two keys, which are both carried.
    fn carry(&mut self, record: &Record<'_>) -> Result<(), CarryError> {
        let [from, to] = record.pair().expect("only called for these effects");
        let (source, target) = (self.noted(from)?, self.noted(to)?);
        let Some(value) = source.value else {
            // It is resident, or absent, which is an error. What is in the target's slot is replaced.
            if target.value.is_some() {
                self.index.set(&target, None)?;
            }
            return self.apply_resident(record);
        };
        assert!(self.resident.entry(from.0, from.1).is_none(), "a value is in one place");
        if from == to {
            return Ok(());
        }
        let replaced = Effect::Delete { key: to.1, cause: Cause::Command };
        self.resident.apply(&Record { database: to.0, effect: replaced });
        self.index.set(&target, Some(value))?;
        if !matches!(record.effect, Effect::Copy { .. }) {
            self.index.set(&source, None)?;
        }
        Ok(())
    }

    fn apply_resident(&mut self, record: &Record<'_>) -> Result<(), CarryError> {
        let before = self.resident.heap_bytes();
        if self.resident.apply(record).mismatch {
            return Err(CarryError::Replay(ReplayError::of_mismatch(&self.resident, record)));
        }
        self.grow(self.resident.heap_bytes().saturating_sub(before))
    }

    /// Notes that the resident values grew, and unloads them if they are too many.
    fn grow(&mut self, bytes: usize) -> Result<(), CarryError> {
        self.grown_bytes += bytes + ENTRY_BYTES;
        if self.grown_bytes >= self.budget_bytes / 8 {
            self.grown_bytes = 0;
            if self.measure() >= self.budget_bytes {
                self.unload()?;
            }
        }
        Ok(())
    }

    /// Bytes that the resident values take.
    fn measure(&mut self) -> usize {
        let resident = self.resident.heap_bytes();
        let held = resident + self.index.held_bytes() + self.scratch.held_bytes();
        self.held_bytes_max = self.held_bytes_max.max(held);
        resident
    }

    /// Brings a value back from the file.
    fn bring(&mut self, database: u32, key: &[u8], value: Extent) -> Result<(), CarryError> {
        assert!(self.resident.entry(database, key).is_none(), "a value is in one place");
        let resident = &mut self.resident;
        let mut read = |into: &mut [u8], at| self.scratch.read(into, at);
        read_value(&self.scratch, value, &mut read, &mut |effect| match resident
            .apply(&Record { database, effect: effect.with_key(key) })
            .mismatch
        {
            true => Err(CarryError::Io(io::ErrorKind::InvalidData.into())),
            false => Ok(()),
        })?;
        // The effect that wanted it is applied next, and measures.
        self.grown_bytes += value.bytes as usize + ENTRY_BYTES;
        // A value as large as the budget would be written and read again for every effect on it.
        self.budget_bytes = self.budget_bytes.max(4 * value.bytes as usize);
        Ok(())
    }

    /// Writes all resident values to the file.
    fn unload(&mut self) -> Result<(), CarryError> {
        self.measure();
        let empty = Keyspace::with_types(0, self.resident.types().clone());
        let resident = std::mem::replace(&mut self.resident, empty);
        let mut bytes = Vec::new();
        for (number, database) in (0..).zip(resident.databases()) {
            for entry in Database::iter(database) {
                let slot = self.noted((number, entry.key()))?;
                assert!(slot.value.is_none(), "a value is in one place");
                let (at, mut crc) = (self.scratch.end(), 0);
                entry.save(&mut |effect| {
                    bytes.clear();
                    effect.encode(number, &mut bytes);
                    crc = crc32c::crc32c_append(crc, &bytes);
                    self.scratch.append(&bytes)
                })?;
                let value = Extent { at, bytes: self.scratch.end() - at, crc };
                self.index.set(&slot, Some(value))?;
            }
        }
        Ok(())
    }

    fn find(&self, database: u32, key: &[u8]) -> io::Result<Option<IndexSlot>> {
        let identity = self.identities.of(database);
        self.index.find(hash_of(identity, key), |slot| {
            let mut read = |into: &mut [u8], at| self.scratch.read(into, at);
            let (found, found_key) = self.key_at(slot.key_at, &mut read)?;
            Ok(found == identity && found_key == key)
        })
    }

    /// The slot of a key that the first pass noted.
    fn noted(&self, (database, key): (u32, &[u8])) -> io::Result<IndexSlot> {
        let changed = || io::Error::other("the log does not hold what it held when it was read before");
        self.find(database, key)?.ok_or_else(changed)
    }

    fn key_at(&self, at: u64, read: Read<'_>) -> io::Result<(u64, Vec<u8>)> {
        // Most keys are short: one read does.
        let ahead =
            self.scratch.end().saturating_sub(at).clamp(KEY_HEADER_BYTES as u64, KEY_READ_BYTES as u64);
        let mut bytes = vec![0; ahead as usize];
        read(&mut bytes, at)?;
        let length = u32::from_le_bytes(bytes[4..8].try_into().expect("4 bytes")) as usize;
        let read_bytes = bytes.len();
        bytes.resize(KEY_HEADER_BYTES + length, 0);
        if let Some(rest) = bytes.get_mut(read_bytes..) {
            read(rest, at + read_bytes as u64)?;
        }
        if crc32c::crc32c(&bytes[4..]).to_le_bytes() != bytes[..4] {
            return Err(self.scratch.damaged());
        }
        let identity = u64::from_le_bytes(bytes[8..16].try_into().expect("8 bytes"));
        bytes.drain(..KEY_HEADER_BYTES);
        Ok((identity, bytes))
    }
}

/// A key that has a value at the end.
struct Found {
    database: u32,
    key: Vec<u8>,
    value: Extent,
}

/// Fills the bytes with what is at this place of the scratch.
type Read<'a> = &'a mut dyn FnMut(&mut [u8], u64) -> io::Result<()>;

/// What a [`Carrier`] did.
pub struct Carried {
    /// How many keys were carried.
    pub keys: u64,
    /// The most memory that it took, in bytes, by estimate.
    pub held_bytes_max: usize,
}

/// CRC32C of the rest, length of the key, identity of its database; then the key.
const KEY_HEADER_BYTES: usize = 16;
/// What is read of a key at first.
const KEY_READ_BYTES: usize = 96;

fn encode_key(identity: u64, key: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&identity.to_le_bytes());
    bytes.extend_from_slice(key);
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn hash_of(identity: u64, key: &[u8]) -> u64 {
    // An odd factor: no two identities meet in the same key.
    hash_bytes(key) ^ identity.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Calls `each` with the effects of a value in the scratch.
fn read_value(
    scratch: &Scratch,
    value: Extent,
    read_at: Read<'_>,
    each: &mut dyn FnMut(Effect<'_>) -> Result<(), CarryError>,
) -> Result<(), CarryError> {
    let mut pending = Vec::new();
    let (mut read, mut crc, mut failed) = (0, 0, None);
    while read < value.bytes {
        let start = pending.len();
        pending.resize(start + PIECE_BYTES.min((value.bytes - read) as usize), 0);
        read_at(&mut pending[start..], value.at + read)?;
        crc = crc32c::crc32c_append(crc, &pending[start..]);
        read += (pending.len() - start) as u64;
        if read == value.bytes && crc != value.crc {
            return Err(scratch.damaged().into());
        }
        let rest = spill::decode(&pending, &mut |record| {
            failed = each(record.effect).err();
            failed.is_none()
        });
        let Some(rest) = rest else { return failed.map_or(Ok(()), Err) };
        pending.drain(..pending.len() - rest);
    }
    if pending.is_empty() { Ok(()) } else { Err(scratch.damaged().into()) }
}

/// What the numbers of databases mean at a moment of the log.
#[derive(Default)]
struct Identities {
    /// Grows with each FlushAll. A database that has not been flushed or exchanged since is (epoch, number).
    epoch: u32,
    others: HashMap<u32, u64>,
    flushed: u64,
}

impl Identities {
    fn of(&self, database: u32) -> u64 {
        self.others.get(&database).copied().unwrap_or(u64::from(self.epoch) << 32 | u64::from(database))
    }

    fn follow(&mut self, record: &Record<'_>) {
        /// No epoch reaches it: a log has far fewer effects.
        const FLUSHED: u64 = 1 << 63;
        match record.effect {
            Effect::Flush => {
                self.flushed += 1;
                self.others.insert(record.database, FLUSHED | self.flushed);
            }
            Effect::FlushAll => {
                self.epoch += 1;
                self.others.clear();
            }
            Effect::SwapDatabases { first, second } => {
                let (one, two) = (self.of(first), self.of(second));
                self.others.insert(first, two);
                self.others.insert(second, one);
            }
            _ => {}
        }
    }

    /// The other way round.
    fn numbers(&self) -> Numbers<'_> {
        let others = self.others.iter().map(|(&number, &identity)| (identity, number)).collect();
        Numbers { identities: self, others }
    }
}

struct Numbers<'a> {
    identities: &'a Identities,
    others: HashMap<u64, u32>,
}

impl Numbers<'_> {
    /// The number of the database with this identity, if it has not been flushed.
    fn of(&self, identity: u64) -> Option<u32> {
        let number = identity as u32;
        let is_plain = self.identities.of(number) == identity;
        self.others.get(&identity).copied().or(is_plain.then_some(number))
    }
}
