//! Temporary storage of one run: appended bytes that are read again, and a hash index over them with a fixed
//! number of slots.
//!
//! Both stay in memory while they are small, and go to files otherwise. Nothing is synced, because the files
//! are useless after this process; the next run removes what a killed process left. CRCs protect the data.

use crate::env::{Disk, DiskFile};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The size of writes to the file.
const BUFFER_BYTES: usize = 128 << 10;

/// The default read-ahead of a [`ReadWindow`].
const WINDOW_BYTES: usize = 64 << 10;

/// The part of a file that was read last: a read-ahead buffer for many small reads in ascending order.
pub struct ReadWindow {
    ahead_bytes: usize,
    /// The offset of `bytes` in the file.
    at: u64,
    bytes: Vec<u8>,
}

impl Default for ReadWindow {
    fn default() -> ReadWindow {
        ReadWindow::of(WINDOW_BYTES)
    }
}

impl ReadWindow {
    fn of(ahead_bytes: usize) -> ReadWindow {
        ReadWindow { ahead_bytes, at: 0, bytes: Vec::new() }
    }

    /// Fills `into` with the bytes at offset `at` of a file that ends at `end`; `read` reads from the file.
    fn fill(
        &mut self,
        into: &mut [u8],
        at: u64,
        end: u64,
        read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let ahead = end.saturating_sub(at).min(self.ahead_bytes as u64) as usize;
        if into.len() >= ahead {
            // The read is larger than the window, or ends after the file, for which `read` returns an error.
            return read(into, at);
        }
        let has = self.at..=self.at + self.bytes.len() as u64;
        if !has.contains(&at) || !has.contains(&(at + into.len() as u64)) {
            self.bytes.resize(ahead, 0);
            self.at = at;
            read(&mut self.bytes, at)?;
        }
        let start = (at - self.at) as usize;
        into.copy_from_slice(&self.bytes[start..start + into.len()]);
        Ok(())
    }
}

/// Bytes that are appended, and read in any order.
pub struct Scratch {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    /// Number of bytes in the file; the buffer has the bytes after them.
    written: u64,
    buffer: Vec<u8>,
}

impl Scratch {
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Scratch {
        Scratch { disk, path, file: None, written: 0, buffer: Vec::new() }
    }

    /// The offset of the next appended byte.
    pub fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.file.insert(self.disk.create(&self.path)?).clone(),
        };
        file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        Ok(())
    }

    /// Fills `into` with the bytes at offset `at`. Fails if the file does not have them.
    pub fn read(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let of_file = self.written.saturating_sub(at).min(into.len() as u64) as usize;
        let (from_file, from_buffer) = into.split_at_mut(of_file);
        if let Some(file) = self.file.as_ref().filter(|_| of_file > 0)
            && file.read_full_at(from_file, at)? < of_file
        {
            return Err(self.damaged());
        }
        let start = at.saturating_sub(self.written) as usize;
        let buffered = self.buffer.get(start..start + from_buffer.len()).ok_or_else(|| self.damaged())?;
        from_buffer.copy_from_slice(buffered);
        Ok(())
    }

    /// The same for reads in ascending order.
    pub fn read_forward(&self, window: &mut ReadWindow, into: &mut [u8], at: u64) -> io::Result<()> {
        window.fill(into, at, self.end(), |into, at| self.read(into, at))
    }

    pub fn damaged(&self) -> io::Error {
        damaged(&self.path)
    }

    /// Bytes of memory in use.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.file.is_some() {
            // On an error the file stays, and the next run removes it.
            let _ = self.disk.remove(&self.path);
        }
    }
}

fn damaged(path: &std::path::Path) -> io::Error {
    let detail = format!("{} does not hold what was written", path.display());
    io::Error::new(io::ErrorKind::InvalidData, detail)
}

/// Bytes in a [`Scratch`], with their CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub at: u64,
    pub bytes: u64,
    pub crc: u32,
}

/// An entry of a [`ScratchIndex`].
#[derive(Clone, Copy, Debug)]
pub struct IndexSlot {
    /// The slot's number.
    place: u64,
    hash: u64,
    /// The offset of the key in the scratch.
    pub key_at: u64,
    /// The value in the scratch, if there is one.
    pub value: Option<Extent>,
}

const SLOT_BYTES: usize = 40;
/// The bytes of slots to read for a probe: mostly one read is enough.
const PROBE_BYTES: usize = 32 * SLOT_BYTES;

/// An open-addressing hash table with linear probing, which never removes a key.
///
/// ```text
///  0  8  hash
///  8  8  offset of the key, plus 1; 0 in a vacant slot, which is all zeros
/// 16  8  offset of the value, plus 1; 0 if there is none
/// 24  8  length of the value in bytes
/// 32  4  CRC32C of the value
/// 36  4  CRC32C over bytes 0 to 35
/// ```
pub struct ScratchIndex {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    storage: Storage,
    slots: u64,
    used: u64,
}

enum Storage {
    Memory(Vec<u8>),
    File(Arc<dyn DiskFile>),
}

impl ScratchIndex {
    /// An index for at most `keys` keys, in memory if it needs no more than `memory_bytes`.
    pub fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        keys: u64,
        memory_bytes: usize,
    ) -> io::Result<ScratchIndex> {
        let slots = keys + keys / 3 + 1;
        let bytes = slots * SLOT_BYTES as u64;
        let storage = if bytes <= memory_bytes as u64 {
            Storage::Memory(vec![0; bytes as usize])
        } else {
            let file = disk.create(&path)?;
            file.set_size(bytes)?;
            Storage::File(file)
        };
        Ok(ScratchIndex { disk, path, storage, slots, used: 0 })
    }

    /// The slot with this hash for which `is_it` returns true.
    pub fn find(
        &self,
        hash: u64,
        mut is_it: impl FnMut(&IndexSlot) -> io::Result<bool>,
    ) -> io::Result<Option<IndexSlot>> {
        let mut place = self.home(hash);
        let mut window = ReadWindow::of(PROBE_BYTES);
        while let Some(slot) = self.at_forward(&mut window, place)? {
            if slot.hash == hash && is_it(&slot)? {
                return Ok(Some(slot));
            }
            place = (place + 1) % self.slots;
        }
        Ok(None)
    }

    /// Adds a key that is not in the index, without a value. Fails if the index is full.
    pub fn insert(&mut self, hash: u64, key_at: u64) -> io::Result<()> {
        self.used += 1;
        if self.used >= self.slots {
            return Err(io::Error::other("the log holds more than when it was read before"));
        }
        let mut place = self.home(hash);
        let mut window = ReadWindow::of(PROBE_BYTES);
        while self.at_forward(&mut window, place)?.is_some() {
            place = (place + 1) % self.slots;
        }
        self.put(&IndexSlot { place, hash, key_at, value: None })
    }

    /// Sets the value of a slot's key.
    pub fn set(&mut self, slot: &IndexSlot, value: Option<Extent>) -> io::Result<()> {
        self.put(&IndexSlot { value, ..*slot })
    }

    fn put(&mut self, slot: &IndexSlot) -> io::Result<()> {
        assert!(slot.place < self.slots, "a place is in the table");
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(&slot.hash.to_le_bytes());
        bytes[8..16].copy_from_slice(&(slot.key_at + 1).to_le_bytes());
        if let Some(value) = slot.value {
            bytes[16..24].copy_from_slice(&(value.at + 1).to_le_bytes());
            bytes[24..32].copy_from_slice(&value.bytes.to_le_bytes());
            bytes[32..36].copy_from_slice(&value.crc.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        let offset = slot.place * SLOT_BYTES as u64;
        match &mut self.storage {
            Storage::File(file) => file.write_at(&bytes, offset),
            Storage::Memory(slots) => {
                slots[offset as usize..][..SLOT_BYTES].copy_from_slice(&bytes);
                Ok(())
            }
        }
    }

    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The number of keys.
    pub fn keys(&self) -> u64 {
        self.used
    }

    /// The slot number `place`, which is below [`ScratchIndex::slots`]; `None` if it is vacant.
    pub fn at_forward(&self, window: &mut ReadWindow, place: u64) -> io::Result<Option<IndexSlot>> {
        let mut bytes = [0; SLOT_BYTES];
        let (at, end) = (place * SLOT_BYTES as u64, self.slots * SLOT_BYTES as u64);
        match &self.storage {
            Storage::Memory(slots) => bytes.copy_from_slice(&slots[at as usize..][..SLOT_BYTES]),
            Storage::File(file) => {
                window.fill(&mut bytes, at, end, |into, at| {
                    match file.read_full_at(into, at)? < into.len() {
                        true => Err(damaged(&self.path)),
                        false => Ok(()),
                    }
                })?;
            }
        }
        self.decode(place, &bytes)
    }

    fn decode(&self, place: u64, bytes: &[u8; SLOT_BYTES]) -> io::Result<Option<IndexSlot>> {
        if *bytes == [0; SLOT_BYTES] {
            return Ok(None);
        }
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if word(8) == 0 || half(36) != crc32c::crc32c(&bytes[..36]) {
            return Err(damaged(&self.path));
        }
        let value = word(16).checked_sub(1).map(|at| Extent { at, bytes: word(24), crc: half(32) });
        Ok(Some(IndexSlot { place, hash: word(0), key_at: word(8) - 1, value }))
    }

    /// Bytes of memory in use.
    pub fn held_bytes(&self) -> usize {
        match &self.storage {
            Storage::Memory(slots) => slots.len(),
            Storage::File(_) => 0,
        }
    }

    fn home(&self, hash: u64) -> u64 {
        ((u128::from(hash) * u128::from(self.slots)) >> 64) as u64
    }
}

impl Drop for ScratchIndex {
    fn drop(&mut self) {
        if let Storage::File(_) = self.storage {
            // On an error the file stays, and the next run removes it.
            let _ = self.disk.remove(&self.path);
        }
    }
}
