//! The bytes of a snapshot file. All integers are little-endian; docs/formats.md draws the whole.
//!
//! ```text
//! header     128 bytes
//! sections   one after the other, without gaps; each a run of blocks
//! footer     one record of 64 bytes per section, then the modules' names
//! trailer    48 bytes, the last of the file
//! ```
//!
//! A section holds one database's keys of one range of slots, or the modules' ground state. Sections can be
//! read alone, in any order, and in parallel; a reader applies the modules' sections before the keys, whose
//! indexes those define.
//!
//! ```text
//! block:    0  4  length of the effects in bytes
//!           4  4  number of effects
//!           8  4  number of the section, from 0
//!          12  4  CRC32C over bytes 0 to 11 and the effects
//!          16     effects, as `effect` encodes them
//! ```

pub use crate::effect::DATABASES_MAX;
use crate::format_level::{self, BASE_LEVEL, UnknownLevel};
use crate::log::replay::Checkpoint;
use crate::log::{Epoch, Idx, LogId, Lsn, Mark, Pos, RunningChecksum};
use crate::slot::SLOTS;

const FORMAT_VERSION: u16 = 1;
pub const HEADER_BYTES: usize = 128;
pub const BLOCK_HEADER_BYTES: usize = 16;
pub const SECTION_BYTES: usize = 64;
pub const TRAILER_BYTES: usize = 48;
/// How many ranges the slots are divided into. Readers take the ranges from the file.
pub const SLOT_RANGES: usize = 64;
const HEADER_MAGIC: [u8; 8] = *b"EDBSNAPS";
const TRAILER_MAGIC: [u8; 4] = *b"EDBS";
const HEADER_CRC_OFFSET: usize = 124;
const TRAILER_CRC_OFFSET: usize = 40;

/// What a snapshot is of.
///
/// ```text
///   0   8  magic "EDBSNAPS"
///   8   2  format version of the writer: information only
///  10   2  needs: the lowest format level that reads this file
///  12   4  zero
///  16  16  log id
///  32  16  parent: the log that this history branched from, zero if none
///  48   8  parent: the last position that was taken over
///  56   8  position in the log after which replay goes on
///  64   8  epoch in force there
///  72   8  index of the last entry there
///  80   8  LSN of the last batch in the snapshot
///  88   8  running checksum of the log through that batch
///  96   8  engine time in ms
/// 104   8  wall-clock time of creation in ms
/// 112  12  zero
/// 124   4  CRC32C over bytes 0 to 123
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotHeader {
    pub log_id: LogId,
    pub parent: LogId,
    pub parent_pos: Pos,
    pub checkpoint: Checkpoint,
    pub created_ms: u64,
}

/// Why bytes are no part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    Damaged(&'static str),
    UnknownLevel(UnknownLevel),
}

impl SnapshotHeader {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        assert_eq!(self.contradiction(), None, "{self:?}");
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&HEADER_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&BASE_LEVEL.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id.0);
        bytes[32..48].copy_from_slice(&self.parent.0);
        let Checkpoint { mark, lsn, checksum, engine_time_ms } = self.checkpoint;
        let words = [
            self.parent_pos.0,
            mark.pos.0,
            mark.epoch.0,
            mark.index.0,
            lsn.0,
            checksum.0,
            engine_time_ms,
            self.created_ms,
        ];
        put_words(&mut bytes[48..112], &words);
        let crc = crc32c::crc32c(&bytes[..HEADER_CRC_OFFSET]);
        bytes[HEADER_CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The magic, `needs` and the CRC never move, so that an old reader can tell a newer file from damage.
    pub fn decode(bytes: &[u8; HEADER_BYTES], check: bool) -> Result<SnapshotHeader, FormatError> {
        if bytes[0..8] != HEADER_MAGIC {
            return Err(FormatError::Damaged("this is no snapshot"));
        }
        if check && crc32c::crc32c(&bytes[..HEADER_CRC_OFFSET]) != u32_at(bytes, HEADER_CRC_OFFSET) {
            return Err(FormatError::Damaged("the header's checksum does not match"));
        }
        let needs = u16_at(bytes, 10);
        format_level::check(needs).map_err(FormatError::UnknownLevel)?;
        let word = |offset| u64_at(bytes, offset);
        let header = SnapshotHeader {
            log_id: LogId(array_at(bytes, 16)),
            parent: LogId(array_at(bytes, 32)),
            parent_pos: Pos(word(48)),
            checkpoint: Checkpoint {
                mark: Mark { pos: Pos(word(56)), epoch: Epoch(word(64)), index: Idx(word(72)) },
                lsn: Lsn(word(80)),
                checksum: RunningChecksum(word(88)),
                engine_time_ms: word(96),
            },
            created_ms: word(104),
        };
        match header.contradiction() {
            Some(fact) => Err(FormatError::Damaged(fact)),
            None => Ok(header),
        }
    }

    /// What of it contradicts itself, if anything does. The writer asserts that nothing does, the reader
    /// checks it.
    fn contradiction(&self) -> Option<&'static str> {
        let Checkpoint { mark, lsn, .. } = self.checkpoint;
        let facts = [
            (mark.is_possible(), "its epoch does not fit its position"),
            (lsn < Lsn::END, "no log has so many batches"),
        ];
        facts.into_iter().find(|(holds, _)| !holds).map(|(_, fact)| fact)
    }

    /// What of the header and the totals contradict each other, if anything does. The writer asserts that
    /// nothing does, the reader checks it.
    pub fn contradiction_with(&self, totals: &Trailer) -> Option<&'static str> {
        let is_made_by_batches = totals.sections == 0 || self.checkpoint.lsn > Lsn(0);
        (!is_made_by_batches).then_some("there are sections, and no batch that made them")
    }
}

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionContent {
    /// Keys of one database whose slots lie in the range, both ends included.
    Keys { database: u32, first_slot: u16, last_slot: u16 },
    /// The users, and the ground state of all modules.
    Modules,
}

/// A section, as the footer lists it.
///
/// ```text
///  0  4  content: 1 keys, 2 modules
///  4  4  database
///  8  2  first slot
/// 10  2  last slot
/// 12  4  zero
/// 16  8  offset of its first block
/// 24  8  length of its blocks in bytes
/// 32  8  number of keys
/// 40  8  number of effects
/// 48  8  checksum over its blocks' effects, as the log's running checksum over batches
/// 56  8  digest of the entries, independent of their order (see `digest`)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    pub content: SectionContent,
    pub offset: u64,
    pub bytes: u64,
    pub keys: u64,
    pub effects: u64,
    pub checksum: RunningChecksum,
    pub digest: u64,
}

impl Section {
    /// How many keys to make room for, whatever the footer says: a key takes an effect, and an effect 16
    /// bytes.
    pub fn keys_at_most(&self) -> usize {
        self.keys.min(self.bytes / 16) as usize
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; SECTION_BYTES];
        assert!(self.keys <= self.effects, "a key takes an effect");
        assert!(self.effects < self.bytes, "an effect takes bytes");
        let (content, database, first_slot, last_slot) = match self.content {
            SectionContent::Keys { database, first_slot, last_slot } => {
                (1u32, database, first_slot, last_slot)
            }
            SectionContent::Modules => (2, 0, 0, 0),
        };
        bytes[0..4].copy_from_slice(&content.to_le_bytes());
        bytes[4..8].copy_from_slice(&database.to_le_bytes());
        bytes[8..10].copy_from_slice(&first_slot.to_le_bytes());
        bytes[10..12].copy_from_slice(&last_slot.to_le_bytes());
        let words = [self.offset, self.bytes, self.keys, self.effects, self.checksum.0, self.digest];
        put_words(&mut bytes[16..], &words);
        out.extend_from_slice(&bytes);
    }

    pub fn decode(bytes: &[u8; SECTION_BYTES]) -> Result<Section, FormatError> {
        let (database, first_slot, last_slot) = (u32_at(bytes, 4), u16_at(bytes, 8), u16_at(bytes, 10));
        let content = match u32_at(bytes, 0) {
            1 => SectionContent::Keys { database, first_slot, last_slot },
            2 => SectionContent::Modules,
            _ => return Err(FormatError::Damaged("a section's content is unknown")),
        };
        if database >= DATABASES_MAX || first_slot > last_slot || last_slot >= SLOTS {
            return Err(FormatError::Damaged("a section's range is impossible"));
        }
        let word = |offset| u64_at(bytes, offset);
        Ok(Section {
            content,
            offset: word(16),
            bytes: word(24),
            keys: word(32),
            effects: word(40),
            checksum: RunningChecksum(word(48)),
            digest: word(56),
        })
    }
}

/// The file's end: totals, and a CRC over header, footer and trailer. As the footer holds the checksums of
/// the sections, this CRC covers the whole file.
///
/// ```text
///  0  8  offset of the footer
///  8  4  number of sections
/// 12  4  number of modules
/// 16  8  number of keys
/// 24  8  number of effects
/// 32  8  checksum over the sections' checksums
/// 40  4  CRC32C over header, footer and bytes 0 to 39
/// 44  4  magic "EDBS"
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    pub footer_offset: u64,
    pub sections: u32,
    pub modules: u32,
    pub keys: u64,
    pub effects: u64,
    pub checksum: u64,
    pub crc: u32,
}

impl Trailer {
    /// Encodes, and sets `crc`.
    pub fn encode(&mut self, header: &[u8], footer: &[u8]) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[0..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.sections.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.modules.to_le_bytes());
        put_words(&mut bytes[16..40], &[self.keys, self.effects, self.checksum]);
        self.crc = trailer_crc(header, footer, &bytes);
        bytes[TRAILER_CRC_OFFSET..44].copy_from_slice(&self.crc.to_le_bytes());
        bytes[44..].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// The caller checks `crc` once it has the footer.
    pub fn decode(bytes: &[u8; TRAILER_BYTES]) -> Result<Trailer, FormatError> {
        if bytes[44..] != TRAILER_MAGIC {
            return Err(FormatError::Damaged("the file is cut off"));
        }
        Ok(Trailer {
            footer_offset: u64_at(bytes, 0),
            sections: u32_at(bytes, 8),
            modules: u32_at(bytes, 12),
            keys: u64_at(bytes, 16),
            effects: u64_at(bytes, 24),
            checksum: u64_at(bytes, 32),
            crc: u32_at(bytes, TRAILER_CRC_OFFSET),
        })
    }
}

/// The CRC over header, footer and the trailer's first 40 bytes.
pub fn trailer_crc(header: &[u8], footer: &[u8], trailer: &[u8; TRAILER_BYTES]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(header), footer);
    crc32c::crc32c_append(crc, &trailer[..TRAILER_CRC_OFFSET])
}

/// A module whose state the file holds: number, and the name for messages. Encoded as number, length of the
/// name, name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleName {
    pub number: u8,
    pub name: String,
}

impl ModuleName {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let length = u8::try_from(self.name.len()).expect("module names are short");
        out.extend_from_slice(&[self.number, length]);
        out.extend_from_slice(self.name.as_bytes());
    }

    pub fn decode(bytes: &[u8]) -> Option<(ModuleName, &[u8])> {
        let ([number, length], rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let name = String::from_utf8_lossy(name).into_owned();
        Some((ModuleName { number: *number, name }, rest))
    }
}

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub bytes: u32,
    pub effects: u32,
    pub section: u32,
    pub crc: u32,
}

impl Block {
    /// The header for these effects.
    pub fn of(section: u32, effects: u32, content: &[u8]) -> Block {
        let bytes =
            u32::try_from(content.len()).expect("an effect's length is 32 bits, and blocks end after it");
        let mut block = Block { bytes, effects, section, crc: 0 };
        block.crc = block.crc_with(crc32c::crc32c(content));
        block
    }

    /// What `crc` has to be, given the CRC32C of the effects, which the section's checksum needs as well.
    pub fn crc_with(&self, content_crc: u32) -> u32 {
        combine(crc32c::crc32c(&self.encode()[..12]), content_crc, self.bytes)
    }

    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        let words = [self.bytes, self.effects, self.section, self.crc];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Block {
        let word = |offset| u32_at(bytes, offset);
        Block { bytes: word(0), effects: word(4), section: word(8), crc: word(12) }
    }
}

/// The CRC32C of some bytes and `second_bytes` more, given that of each. (The crate's own function squares
/// matrices, which takes 12 us: a tenth of the time that a start has for a block.)
fn combine(first: u32, second: u32, mut second_bytes: u32) -> u32 {
    // CRCs are polynomials over two elements, the highest bit for the power 0: what comes behind multiplies
    // by x^8 a byte.
    let (mut shifted, mut power) = (first, 1 << (31 - 8));
    while second_bytes != 0 {
        if second_bytes & 1 != 0 {
            shifted = product(shifted, power);
        }
        power = product(power, power);
        second_bytes >>= 1;
    }
    shifted ^ second
}

/// The product of two polynomials, modulo that of CRC32C.
fn product(left: u32, mut right: u32) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut sum = 0;
    for bit in (0..32).rev() {
        sum ^= right & (left >> bit & 1).wrapping_neg();
        right = right >> 1 ^ POLYNOMIAL & (right & 1).wrapping_neg();
    }
    sum
}

/// The slots of a range, both ends included.
pub fn range_slots(range: usize) -> (u16, u16) {
    assert!(range < SLOT_RANGES, "the ranges are numbered from 0");
    let width = SLOTS / SLOT_RANGES as u16;
    let first = range as u16 * width;
    (first, first + width - 1)
}

/// The range of a slot.
pub fn slot_range(slot: u16) -> usize {
    const _: () = assert!((SLOTS as usize).is_multiple_of(SLOT_RANGES), "ranges have equal widths");
    assert!(slot < SLOTS, "slots are numbered from 0");
    usize::from(slot) / (usize::from(SLOTS) / SLOT_RANGES)
}

fn put_words(out: &mut [u8], words: &[u64]) {
    for (place, word) in out.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("offsets lie inside records of fixed size")
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format_level::FORMAT_LEVEL;

    #[test]
    fn a_header_of_another_level_is_refused() {
        let bytes = SnapshotHeader { created_ms: 7, ..SnapshotHeader::default() }.encode();
        assert_eq!(SnapshotHeader::decode(&bytes, true).map(|header| header.created_ms), Ok(7));
        for level in [0, FORMAT_LEVEL + 1] {
            let mut other = bytes;
            other[10..12].copy_from_slice(&level.to_le_bytes());
            let refused = SnapshotHeader::decode(&other, false);
            assert_eq!(refused, Err(FormatError::UnknownLevel(UnknownLevel(level))));
        }
    }

    #[test]
    fn checksums_of_parts_make_that_of_the_whole() {
        let bytes: Vec<u8> = (0..5_000u32).map(|n| (n * n) as u8).collect();
        for cut in [0, 1, 12, 13, 300, 4_095, 4_096, 4_999, 5_000] {
            let (first, second) = bytes.split_at(cut);
            let combined = combine(crc32c::crc32c(first), crc32c::crc32c(second), second.len() as u32);
            assert_eq!(combined, crc32c::crc32c(&bytes), "cut at {cut}");
        }
        assert_eq!(combine(7, 9, u32::MAX), crc32c::crc32c_combine(7, 9, u32::MAX as usize));
    }
}
