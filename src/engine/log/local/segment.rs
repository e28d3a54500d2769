//! A segment file: one block of header, then entries, each padded to whole blocks. Little-endian.
//!
//! ```text
//!   0   8  magic "EDBLOGSG"
//!   8   2  format version of the writer: information only
//!  10   2  needs: the lowest format level that reads this segment
//!  12   4  block size in bytes
//!  16  16  log id
//!  32   8  segment number, from 1, dense; also the file's name
//!  40   8  size of the file in bytes, as it was preallocated
//!  48   8  position before the first entry
//!  56   8  epoch in force before the first entry
//!  64   8  index of the entry before the first
//!  72   8  last LSN that is complete before the first entry
//!  80   8  running checksum through that LSN
//!  88  16  parent: the log that this history branched from, zero if none
//! 104   8  parent: the last position that was taken over
//! 112   8  zero
//! 120   4  zero
//! 124   4  CRC32C over bytes 0 to 123
//! 128      zero, up to the block size
//! ```
//!
//! The life of a file: it is preallocated (zeros are written and synced, then its directory is synced). It is
//! *started* when the header is written durably, and takes entries. It is *sealed* by the start of the next
//! segment, which waits until everything before it is durable. So a header proves that the segment before it
//! is complete up to the header's position. Bytes after that position are void and are cut off.

use crate::env::{Access, Disk, DiskFile};
use crate::format_level::{self, BASE_LEVEL, UnknownLevel};
use crate::log::entry::{self, DecodeError};
use crate::log::{Epoch, Idx, LogId, Lsn, Mark, Place, Pos, ReadError, RunningChecksum};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries begin at multiples of this and are padded to it. It is the page size, which is the unit of kernel
/// writes, and a multiple of every sector size, so that no write touches another entry's bytes.
pub const BLOCK_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"EDBLOGSG";
const FORMAT_VERSION: u16 = 1;
const CRC_OFFSET: usize = 124;
const SUFFIX: &str = ".log";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentHeader {
    pub log_id: LogId,
    pub number: u64,
    pub size_bytes: u64,
    /// The state before the first entry.
    pub before: Mark,
    pub lsn: Lsn,
    pub checksum: RunningChecksum,
    pub parent: LogId,
    pub parent_pos: Pos,
}

/// The reason why a block is no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// All zeros: the file is preallocated and not started.
    Blank,
    Damaged,
    UnknownLevel(UnknownLevel),
    /// What it states contradicts itself or its level.
    Impossible(&'static str),
}

impl SegmentHeader {
    /// The header as one block.
    pub fn encode(&self) -> Vec<u8> {
        assert_eq!(self.contradiction(), None, "{self:?}");
        let mut block = vec![0; BLOCK_BYTES];
        block[0..8].copy_from_slice(&MAGIC);
        block[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[10..12].copy_from_slice(&BASE_LEVEL.to_le_bytes());
        block[12..16].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        block[16..32].copy_from_slice(&self.log_id.0);
        let words = [
            self.number,
            self.size_bytes,
            self.before.pos.0,
            self.before.epoch.0,
            self.before.index.0,
            self.lsn.0,
            self.checksum.0,
        ];
        for (place, word) in block[32..88].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        block[88..104].copy_from_slice(&self.parent.0);
        block[104..112].copy_from_slice(&self.parent_pos.0.to_le_bytes());
        repair_header_crc(&mut block);
        block
    }

    pub fn decode(block: &[u8]) -> Result<SegmentHeader, HeaderError> {
        if block.iter().all(|byte| *byte == 0) {
            return Err(HeaderError::Blank);
        }
        if block.len() < CRC_OFFSET + 4 || block[0..8] != MAGIC {
            return Err(HeaderError::Damaged);
        }
        let crc = u32::from_le_bytes(array(block, CRC_OFFSET));
        if crc32c::crc32c(&block[..CRC_OFFSET]) != crc {
            return Err(HeaderError::Damaged);
        }
        let needs = u16::from_le_bytes(array(block, 10));
        format_level::check(needs).map_err(HeaderError::UnknownLevel)?;
        if u32::from_le_bytes(array(block, 12)) as usize != BLOCK_BYTES {
            return Err(HeaderError::Impossible("its blocks have another size"));
        }
        let word = |offset| u64::from_le_bytes(array(block, offset));
        let header = SegmentHeader {
            log_id: LogId(array(block, 16)),
            number: word(32),
            size_bytes: word(40),
            before: Mark { pos: Pos(word(48)), epoch: Epoch(word(56)), index: Idx(word(64)) },
            lsn: Lsn(word(72)),
            checksum: RunningChecksum(word(80)),
            parent: LogId(array(block, 88)),
            parent_pos: Pos(word(104)),
        };
        match header.contradiction() {
            Some(fact) => Err(HeaderError::Impossible(fact)),
            None => Ok(header),
        }
    }

    /// What of it contradicts itself, if anything does. The writer asserts that nothing does, the reader
    /// checks it.
    fn contradiction(&self) -> Option<&'static str> {
        let facts = [
            (self.number > 0, "segments are numbered from 1"),
            (self.before.is_possible(), "its epoch does not fit its position"),
            (self.lsn < Lsn::END, "no log has so many batches"),
        ];
        facts.into_iter().find(|(holds, _)| !holds).map(|(_, fact)| fact)
    }
}

/// Sets the CRC of a header to the correct value; for fuzzing.
pub fn repair_header_crc(block: &mut [u8]) {
    let crc = crc32c::crc32c(&block[..CRC_OFFSET]);
    block[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the caller has checked the length")
}

/// The path of a segment's file.
pub fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016}{SUFFIX}"))
}

/// The number in a segment file's name.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != 16 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A started segment.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    pub path: PathBuf,
    pub header: SegmentHeader,
}

/// The segment files of a log's directory.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Started segments, dense and in order. All but the last are sealed.
    pub started: Vec<SegmentInfo>,
    /// The numbers of files that are preallocated, completely or in part, and not started.
    pub unstarted: Vec<u64>,
}

impl Catalog {
    /// Reads all segment headers in the directory. Takes no lock and writes nothing.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Catalog, ReadError> {
        let names = disk.list(directory).map_err(|error| unavailable(directory, &error))?;
        Catalog::of(disk, directory, &names)
    }

    /// The same for these files only, which must be in the order of their numbers.
    pub fn of(disk: &dyn Disk, directory: &Path, names: &[String]) -> Result<Catalog, ReadError> {
        let mut catalog = Catalog::default();
        for name in names {
            let Some(number) = segment_number(name) else { continue };
            let path = segment_path(directory, number);
            let file = disk.open(&path, Access::Read).map_err(|error| unavailable(&path, &error))?;
            match read_header(&path, &*file, number)? {
                Some(header) => catalog.started.push(SegmentInfo { path, header }),
                None => catalog.unstarted.push(number),
            }
        }
        catalog.check()?;
        Ok(catalog)
    }

    /// Fails if the segments do not form one log without holes.
    fn check(&self) -> Result<(), ReadError> {
        for pair in self.started.windows(2) {
            let [one, two] = pair else { unreachable!("windows of two") };
            if two.header.log_id != one.header.log_id {
                return Err(ReadError::ForeignLog {
                    at: start_of(two),
                    found: two.header.log_id,
                    expected: one.header.log_id,
                });
            }
            if two.header.number != one.header.number + 1 || two.header.before.pos < one.header.before.pos {
                let detail = format!("{} does not continue {}", two.path.display(), one.path.display());
                return Err(ReadError::Hole { want: one.header.before.pos.next(), detail });
            }
        }
        Ok(())
    }
}

fn start_of(segment: &SegmentInfo) -> Place {
    Place::in_file(&segment.path, 0)
}

/// The header of a started segment, `None` for a file that was never started.
fn read_header(path: &Path, file: &dyn DiskFile, number: u64) -> Result<Option<SegmentHeader>, ReadError> {
    let mut block = vec![0; BLOCK_BYTES];
    let filled = file.read_full_at(&mut block, 0).map_err(|error| unavailable(path, &error))?;
    let at = || Place::in_file(path, 0);
    match SegmentHeader::decode(&block[..filled]) {
        Ok(header) if header.number == number => Ok(Some(header)),
        Ok(header) => {
            let detail = format!("the file's name says segment {number}, its header {}", header.number);
            Err(ReadError::Corrupt { at: at(), detail })
        }
        Err(HeaderError::UnknownLevel(level)) => Err(ReadError::UnknownLevel { at: at(), level }),
        Err(HeaderError::Impossible(fact)) => {
            let detail = format!("the segment's header is impossible: {fact}");
            Err(ReadError::Corrupt { at: at(), detail })
        }
        Err(HeaderError::Blank | HeaderError::Damaged) => {
            if has_entries(path, file, number)? {
                let detail = "the segment's header is damaged, and entries follow it".to_owned();
                return Err(ReadError::Corrupt { at: at(), detail });
            }
            Ok(None)
        }
    }
}

/// True if there is an entry of this segment at the place of the first one.
fn has_entries(path: &Path, file: &dyn DiskFile, number: u64) -> Result<bool, ReadError> {
    let size = file.size().map_err(|error| unavailable(path, &error))?;
    let mut reader = BlockReader::new(file, size);
    let found = reader.entry(BLOCK_BYTES as u64).map_err(|error| unavailable(path, &error))?;
    Ok(match found {
        Ok((header, _)) => header.segment == number,
        Err(error) => matches!(error, DecodeError::UnknownLevel(_) | DecodeError::UnknownKind(_)),
    })
}

pub fn unavailable(path: &Path, error: &io::Error) -> ReadError {
    ReadError::Unavailable { cause: format!("{}: {error}", path.display()) }
}

/// Reads entries at any offset through a buffer. `F` is an owned or borrowed file.
pub struct BlockReader<F> {
    file: F,
    size_bytes: u64,
    buffer: Vec<u8>,
    buffer_offset: u64,
}

/// The least bytes of a read.
const READ_AHEAD_BYTES: usize = 1 << 20;

type Decoded<'a> = Result<(entry::EntryHeader, &'a [u8]), DecodeError>;

impl<F: FileRef> BlockReader<F> {
    pub fn new(file: F, size_bytes: u64) -> BlockReader<F> {
        BlockReader { file, size_bytes, buffer: Vec::new(), buffer_offset: 0 }
    }

    /// The end of the file for this reader.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn set_size_bytes(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
    }

    /// The actual size of the file.
    pub fn file_bytes(&self) -> io::Result<u64> {
        self.file.file().size()
    }

    /// Up to `length` bytes at `offset`; fewer at the end of the file.
    pub fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let left = self.size_bytes.saturating_sub(offset) as usize;
        let length = length.min(left);
        let buffered = self.buffer_offset..=self.buffer_offset + self.buffer.len() as u64;
        if !buffered.contains(&offset) || !buffered.contains(&(offset + length as u64)) {
            let wanted = length.max(READ_AHEAD_BYTES).min(left);
            self.buffer.resize(wanted, 0);
            let filled = self.file.file().read_full_at(&mut self.buffer, offset)?;
            self.buffer.truncate(filled);
            self.buffer_offset = offset;
        }
        let start = (offset - self.buffer_offset) as usize;
        let end = (start + length).min(self.buffer.len());
        Ok(&self.buffer[start..end])
    }

    /// Decodes the entry at `offset`.
    pub fn entry(&mut self, offset: u64) -> io::Result<Decoded<'_>> {
        let length = match entry::entry_length(self.bytes(offset, entry::HEADER_BYTES)?) {
            Ok(length) => length,
            Err(error) => return Ok(Err(error)),
        };
        if length as u64 > self.size_bytes.saturating_sub(offset) {
            return Ok(Err(DecodeError::Short));
        }
        Ok(entry::decode_entry(self.bytes(offset, length)?))
    }
}

/// A file, owned or borrowed.
pub trait FileRef {
    fn file(&self) -> &dyn DiskFile;
}

impl FileRef for Arc<dyn DiskFile> {
    fn file(&self) -> &dyn DiskFile {
        &**self
    }
}

impl FileRef for &dyn DiskFile {
    fn file(&self) -> &dyn DiskFile {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format_level::FORMAT_LEVEL;

    #[test]
    fn a_header_of_another_level_or_that_is_impossible_is_refused() {
        let header = SegmentHeader { number: 7, size_bytes: 1 << 20, ..SegmentHeader::default() };
        let block = header.encode();
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        for level in [0, FORMAT_LEVEL + 1] {
            let mut other = block.clone();
            other[10..12].copy_from_slice(&level.to_le_bytes());
            repair_header_crc(&mut other);
            assert_eq!(SegmentHeader::decode(&other), Err(HeaderError::UnknownLevel(UnknownLevel(level))));
        }
        // The block size, the number, an epoch behind its position, and too many batches.
        for (offset, word) in [(12, 512u64), (32, 0), (56, 1), (72, Lsn::END.0)] {
            let mut other = block.clone();
            other[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
            repair_header_crc(&mut other);
            let refused = SegmentHeader::decode(&other);
            assert!(matches!(refused, Err(HeaderError::Impossible(_))), "at {offset}: {refused:?}");
        }
    }
}
