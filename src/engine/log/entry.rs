//! The bytes of an entry: a header of 104 bytes, then a payload. All integers are little-endian.
//!
//! ```text
//!   0  4  magic "EDBE"
//!   4  2  format version of the writer: information only
//!   6  2  needs: the lowest format level that reads this entry
//!   8  1  kind
//!   9  3  zero
//!  12  4  payload length in bytes
//!  16 16  log id
//!  32  8  segment
//!  40  8  epoch
//!  48  8  index within the epoch
//!  56  8  durable: the last index known to be durable when this was written
//!  64  8  engine time in ms since the epoch of the calendar: of the first batch
//!  72  8  LSN of the first batch or piece; other kinds: of the last batch before
//!  80  8  LSN of the last batch or piece; other kinds: the same
//!  88  8  running checksum over all batches that are complete after this entry
//!  96  4  zero
//! 100  4  CRC32C over bytes 0 to 99 and the payload
//! 104     payload
//! ```
//!
//! The first 16 bytes and the place of the CRC never change under this magic, so that an old reader can tell
//! a newer entry (`needs`) from damage.
//!
//! The payload of a Data entry is a run of pieces, each with a header of 9 bytes:
//!
//! ```text
//!   0  1  piece: 1 Whole, 2 First, 3 Middle, 4 Last
//!   1  4  length of the piece in bytes
//!   5  4  engine time of its batch, in ms after the entry's
//!   9     bytes of the batch
//! ```
//!
//! Pieces have consecutive LSNs from the entry's first. First and Middle end their entry, Middle and Last
//! begin it. The payload of a Claim is a run of fields ([`super::claim`]); Time, Release and Renew have none.

use super::{Epoch, Idx, LogId, Lsn, RunningChecksum};
use crate::format_level::{self, BASE_LEVEL, UnknownLevel};

pub const HEADER_BYTES: usize = 104;
pub const PIECE_HEADER_BYTES: usize = 9;
/// The format version that this writer puts into the header.
const FORMAT_VERSION: u16 = 1;
pub const MAGIC: [u8; 4] = *b"EDBE";
const CRC_OFFSET: usize = 100;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Batches.
    Data = 1,
    /// Begins a writer's term.
    Claim = 2,
    /// Extends a writer's lease.
    Renew = 3,
    /// A writer stopped cleanly: everything before is complete.
    Release = 4,
    /// Engine time passed without batches.
    Time = 5,
    /// The running checksum, on its own.
    Checksum = 6,
    /// Slots move to another shard.
    SlotMove = 7,
}

impl EntryKind {
    fn from_byte(byte: u8) -> Option<EntryKind> {
        use EntryKind::*;
        [Data, Claim, Renew, Release, Time, Checksum, SlotMove].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// An entry's header, without what the encoding derives (magic, payload length, CRC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    pub needs: u16,
    pub kind: EntryKind,
    pub log_id: LogId,
    pub segment: u64,
    pub epoch: Epoch,
    pub index: Idx,
    pub durable: Idx,
    pub engine_time_ms: u64,
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    pub checksum: RunningChecksum,
}

impl EntryHeader {
    /// A rule that an entry with this header and a payload of `payload_bytes` breaks, if it breaks one. The
    /// writer asserts that there is none, the reader checks it.
    pub fn contradiction(&self, payload_bytes: usize) -> Option<&'static str> {
        let is_claim = self.kind == EntryKind::Claim;
        let has_payload = match self.kind {
            EntryKind::Data => Some(true),
            EntryKind::Renew | EntryKind::Release | EntryKind::Time => Some(false),
            EntryKind::Claim | EntryKind::Checksum | EntryKind::SlotMove => None,
        };
        let facts = [
            (self.needs >= BASE_LEVEL, "it needs less than the lowest format level"),
            (self.epoch > Epoch(0), "it has no epoch"),
            (is_claim == (self.index == Idx(0)), "a Claim has index 0, and only a Claim has"),
            (self.durable.0 < self.index.0.max(1), "only entries before it can be durable"),
            (self.first_lsn <= self.last_lsn, "its LSNs go back"),
            (self.last_lsn < Lsn::END, "no log has so many batches"),
            (self.kind != EntryKind::Data || self.first_lsn > Lsn(0), "batches are numbered from 1"),
            (self.kind == EntryKind::Data || self.first_lsn == self.last_lsn, "it has no batches of its own"),
            (has_payload.is_none_or(|has| has == (payload_bytes > 0)), "only some kinds have a payload"),
        ];
        facts.into_iter().find(|(holds, _)| !holds).map(|(_, fact)| fact)
    }
}

/// The reason why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("no entry begins here")]
    NoMagic,
    #[error("the entry is cut off")]
    Short,
    #[error("the checksum does not match")]
    Checksum,
    #[error("the entry {0}")]
    UnknownLevel(#[from] UnknownLevel),
    #[error("the kind {0} is unknown")]
    UnknownKind(u8),
}

/// Writes the header into the first [`HEADER_BYTES`] of `bytes`; the rest is the payload, already in place.
pub fn seal_entry(header: &EntryHeader, bytes: &mut [u8]) {
    assert!(bytes.len() >= HEADER_BYTES, "room for the header is reserved");
    assert_eq!(header.contradiction(bytes.len() - HEADER_BYTES), None, "{header:?}");
    let payload_length = u32::try_from(bytes.len() - HEADER_BYTES).expect("limits keep entries below 4 GiB");
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[6..8].copy_from_slice(&header.needs.to_le_bytes());
    bytes[8..12].copy_from_slice(&[header.kind as u8, 0, 0, 0]);
    bytes[12..16].copy_from_slice(&payload_length.to_le_bytes());
    bytes[16..32].copy_from_slice(&header.log_id.0);
    let words = [
        header.segment,
        header.epoch.0,
        header.index.0,
        header.durable.0,
        header.engine_time_ms,
        header.first_lsn.0,
        header.last_lsn.0,
        header.checksum.0,
    ];
    for (place, word) in bytes[32..96].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes[96..HEADER_BYTES].fill(0);
    let crc = entry_crc(bytes);
    bytes[CRC_OFFSET..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Decodes the entry at the start of `bytes`, which may be longer. Returns the header and the payload.
pub fn decode_entry(bytes: &[u8]) -> Result<(EntryHeader, &[u8]), DecodeError> {
    let length = entry_length(bytes)?;
    if bytes.len() < length {
        return Err(DecodeError::Short);
    }
    let bytes = &bytes[..length];
    let stored_crc = u32::from_le_bytes(array(bytes, CRC_OFFSET));
    if entry_crc(bytes) != stored_crc {
        return Err(DecodeError::Checksum);
    }
    let needs = u16::from_le_bytes(array(bytes, 6));
    format_level::check(needs)?;
    let kind = EntryKind::from_byte(bytes[8]).ok_or(DecodeError::UnknownKind(bytes[8]))?;
    let word = |offset| u64::from_le_bytes(array(bytes, offset));
    let header = EntryHeader {
        needs,
        kind,
        log_id: LogId(array(bytes, 16)),
        segment: word(32),
        epoch: Epoch(word(40)),
        index: Idx(word(48)),
        durable: Idx(word(56)),
        engine_time_ms: word(64),
        first_lsn: Lsn(word(72)),
        last_lsn: Lsn(word(80)),
        checksum: RunningChecksum(word(88)),
    };
    Ok((header, &bytes[HEADER_BYTES..]))
}

/// The length in bytes, header included, of the entry whose header is at the start of `bytes`. It is not
/// verified: use it only to decide how much to read.
pub fn entry_length(bytes: &[u8]) -> Result<usize, DecodeError> {
    if bytes.len() < HEADER_BYTES {
        return Err(DecodeError::Short);
    }
    if bytes[0..4] != MAGIC {
        return Err(DecodeError::NoMagic);
    }
    Ok(HEADER_BYTES + u32::from_le_bytes(array(bytes, 12)) as usize)
}

/// Corrects the CRC of the entry at the start of `bytes`, if there is one; for fuzzing.
pub fn repair_crc(bytes: &mut [u8]) {
    let Ok(length) = entry_length(bytes) else { return };
    let Some(bytes) = bytes.get_mut(..length) else { return };
    let crc = entry_crc(bytes);
    bytes[CRC_OFFSET..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn entry_crc(bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&bytes[..CRC_OFFSET]);
    crc32c::crc32c_append(crc, &bytes[HEADER_BYTES..])
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the caller has checked the length")
}

/// Which part of a batch a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PieceKind {
    Whole = 1,
    First = 2,
    Middle = 3,
    Last = 4,
}

/// A piece of a batch, in a Data entry's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub kind: PieceKind,
    /// Milliseconds after the entry's engine time.
    pub time_offset_ms: u32,
    pub bytes: &'a [u8],
}

impl Piece<'_> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        begin_piece(self.kind, self.bytes.len(), self.time_offset_ms, out);
        out.extend_from_slice(self.bytes);
    }
}

/// Appends the header of a piece, whose bytes follow.
#[inline]
pub fn begin_piece(kind: PieceKind, length: usize, time_offset_ms: u32, out: &mut Vec<u8>) {
    let length = u32::try_from(length).expect("a piece fits in an entry");
    let mut header = [0; PIECE_HEADER_BYTES];
    header[0] = kind as u8;
    header[1..5].copy_from_slice(&length.to_le_bytes());
    header[5..9].copy_from_slice(&time_offset_ms.to_le_bytes());
    out.extend_from_slice(&header);
}

/// Takes the first piece off a payload; `None` if the payload is malformed there.
pub fn split_piece(payload: &[u8]) -> Option<(Piece<'_>, &[u8])> {
    let (header, rest) = payload.split_at_checked(PIECE_HEADER_BYTES)?;
    let kind = match header[0] {
        1 => PieceKind::Whole,
        2 => PieceKind::First,
        3 => PieceKind::Middle,
        4 => PieceKind::Last,
        _ => return None,
    };
    let length = u32::from_le_bytes(array(header, 1)) as usize;
    let (bytes, rest) = rest.split_at_checked(length)?;
    Some((Piece { kind, time_offset_ms: u32::from_le_bytes(array(header, 5)), bytes }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format_level::FORMAT_LEVEL;

    fn header() -> EntryHeader {
        EntryHeader {
            needs: BASE_LEVEL,
            kind: EntryKind::Data,
            log_id: LogId([7; 16]),
            segment: 3,
            epoch: Epoch(9),
            index: Idx(12),
            durable: Idx(11),
            engine_time_ms: 1_700_000_000_000,
            first_lsn: Lsn(100),
            last_lsn: Lsn(101),
            checksum: RunningChecksum(0xABCD),
        }
    }

    fn sealed(header: &EntryHeader, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(payload);
        seal_entry(header, &mut bytes);
        bytes
    }

    #[test]
    fn entry_comes_back_as_written() {
        let bytes = sealed(&header(), b"payload");
        assert_eq!(decode_entry(&bytes), Ok((header(), &b"payload"[..])));
        let longer = [&bytes[..], &[0; 50]].concat();
        assert_eq!(decode_entry(&longer), Ok((header(), &b"payload"[..])));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sealed(&header(), b"payload");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_entry(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = sealed(&header(), b"payload");
        for length in 0..bytes.len() {
            assert!(decode_entry(&bytes[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn newer_entry_is_told_from_damage() {
        let level = FORMAT_LEVEL + 1;
        let newer = EntryHeader { needs: level, ..header() };
        assert_eq!(
            decode_entry(&sealed(&newer, b"payload")),
            Err(DecodeError::UnknownLevel(UnknownLevel(level)))
        );
    }

    #[test]
    fn a_level_that_no_version_writes_is_refused() {
        let mut bytes = sealed(&header(), b"payload");
        bytes[6..8].fill(0);
        repair_crc(&mut bytes);
        assert_eq!(decode_entry(&bytes), Err(DecodeError::UnknownLevel(UnknownLevel(0))));
    }

    #[test]
    fn a_header_that_contradicts_itself_is_told() {
        let claim = EntryHeader {
            kind: EntryKind::Claim,
            index: Idx(0),
            durable: Idx(0),
            last_lsn: Lsn(100),
            ..header()
        };
        let time = EntryHeader { kind: EntryKind::Time, last_lsn: Lsn(100), ..header() };
        for right in [header(), claim, time] {
            let payload_bytes = usize::from(right.kind != EntryKind::Time);
            assert_eq!(right.contradiction(payload_bytes), None, "{right:?}");
            if right.kind != EntryKind::Claim {
                assert!(right.contradiction(1 - payload_bytes).is_some(), "{right:?}");
            }
        }
        let wrong = [
            EntryHeader { needs: 0, ..header() },
            EntryHeader { epoch: Epoch(0), ..header() },
            EntryHeader { index: Idx(0), durable: Idx(0), ..header() },
            EntryHeader { index: Idx(1), ..claim },
            EntryHeader { durable: Idx(12), ..header() },
            EntryHeader { last_lsn: Lsn(99), ..header() },
            EntryHeader { first_lsn: Lsn(0), ..header() },
            EntryHeader { last_lsn: Lsn::END, ..header() },
            EntryHeader { last_lsn: Lsn(101), ..time },
        ];
        let payload_bytes = |header: &EntryHeader| usize::from(header.kind != EntryKind::Time);
        let facts: Vec<_> = wrong.iter().map(|header| header.contradiction(payload_bytes(header))).collect();
        assert!(facts.iter().all(Option::is_some), "{facts:?}");
    }

    #[test]
    fn pieces_come_back_and_malformed_ones_do_not() {
        let mut payload = Vec::new();
        Piece { kind: PieceKind::Whole, time_offset_ms: 5, bytes: b"one" }.encode(&mut payload);
        Piece { kind: PieceKind::First, time_offset_ms: 6, bytes: b"two" }.encode(&mut payload);
        let (first, rest) = split_piece(&payload).expect("the first piece is whole");
        assert_eq!(first, Piece { kind: PieceKind::Whole, time_offset_ms: 5, bytes: b"one" });
        let (second, end) = split_piece(rest).expect("the second piece is whole");
        assert_eq!((second.kind, second.bytes, end.len()), (PieceKind::First, &b"two"[..], 0));
        for length in 0..rest.len() {
            assert_eq!(split_piece(&rest[..length]), None);
        }
        assert_eq!(split_piece(&[9; 40]), None);
    }
}
