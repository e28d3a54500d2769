//! The transaction log: the database itself, of which memory is a cache.
//!
//! The engine hands finished batches of effects to [`pipeline::Pipeline`], which packs them into entries and
//! appends those to a [`ShardLog`]; at start, [`replay::Replay`] reads them back. A `ShardLog` is a sequence
//! of entries at dense positions with one writer at a time. [`memory`] keeps it in memory, [`local`] in
//! segment files, [`testing`] wraps one for tests. A replicated one fits the same contract, which therefore
//! says more than a local file needs: claims that another writer can win, acknowledgements that come late.
//! The contract has a reading half ([`EntryIter`]) and a writing half ([`LogWriter`], [`Acks`]).
//!
//! # Words
//!
//! - **batch**: the effects of one atomic unit (a command, MULTI/EXEC, a script); opaque bytes here.
//! - **LSN**: the number of a batch, from 1, dense. After a fencing it may be assigned again, so outside a
//!   process the pair (epoch, LSN) identifies a batch.
//! - **entry**: what is written and acknowledged at once: a header and a run of batches or pieces of one.
//! - **position**: an entry's place, from 1, dense, never reused.
//! - **claim, epoch**: a writer starts by appending a Claim; the Claim's position is its epoch.
//! - **index**: an entry's number within its epoch; the Claim has 0.
//! - **void**: present in the log but not part of history.
//!
//! # Invariants
//!
//! 1. A Claim sets the epoch and restarts the index: the next entry that counts has index 1. Any entry counts
//!    only if its epoch is the current one and its index is the next; every other is void, skipped and
//!    counted ([`Sequence`]). A batch without its last piece, at the end or before a Claim, is void as well.
//! 2. Replies are released only while every entry so far was acknowledged, in order. Where the fate of an
//!    append is unknown the backend finds out and sends the same bytes again; entries are never packed anew
//!    under the same index. On any error the writer stops.
//! 3. A failed sync is fatal and never retried: the kernel may have dropped the dirty pages, so that a second
//!    sync succeeds without the data.
//! 4. Torn or corrupt? Let N be the first entry that does not decode. If a later valid entry of the same
//!    history proves that N had been acknowledged (`durable >= N` in its header, or a later epoch or segment,
//!    which starts only after everything before it is durable), then acknowledged data is damaged: refuse,
//!    naming the file and the offset. Otherwise N and all that follows was in flight and never acknowledged:
//!    void. Blocks that hold acknowledged bytes are never written again, but by a start and with the same
//!    bytes: entries are padded to whole blocks. The limit of this rule: damage to the very last durable
//!    entry looks like a torn tail. A clean stop writes a Release entry, so that after one there is no such
//!    doubt about data.
//! 5. What a reader finds need not be durable: the last writer may have been killed before its sync ended, or
//!    have stopped because it failed. [`ShardLog::claim`] makes all of it durable before it returns, and
//!    nothing is shown of the log before.
//! 6. An entry whose `needs` is a level that this version does not know ([`crate::format_level`]) stops the
//!    reader; it is never guessed at.

pub mod claim;
pub mod entry;
pub mod local;
pub mod memory;
pub mod pipeline;
mod reading;
pub mod refusal;
pub mod replay;
pub mod testing;
mod writing;

pub use local::fuzz_reader;
pub use reading::{EntryIter, LogEnd, Place, ReadEntry, ReadError, Step, Stopper, Voided, Wait};
pub use writing::{Acks, Claim, ClaimError, LogEntry, LogWriter, WriteError};

use entry::{EntryHeader, EntryKind};
use std::fmt;

/// The number of a batch in one shard's history, from 1; `Lsn(0)` is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Above every LSN; readers of an LSN check that. No log becomes that long, and gates use the bits above.
    pub const END: Lsn = Lsn(1 << 62);

    pub fn next(self) -> Lsn {
        Lsn(self.0.saturating_add(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An entry's position in the log, from 1, dense, never reused; `Pos(0)` is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos(pub u64);

impl Pos {
    pub fn next(self) -> Pos {
        Pos(self.0.saturating_add(1))
    }
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A writer's term: the position of its Claim. `Epoch(0)` is before the first claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// An entry's number within its epoch. The Claim has 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Idx(pub u64);

/// Identifies one history. Random; a restore to a point in time starts a new one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in the log between two entries: after the entry at `pos`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub pos: Pos,
    /// The epoch in force there, and the index of its last entry: what rule 1 needs to go on from here.
    pub epoch: Epoch,
    pub index: Idx,
}

impl Mark {
    /// Whether a log can have such a mark: of the positions through `pos`, one is the Claim's, whose position
    /// is the epoch, and `index` counts the entries after it. Writers of marks assert this, readers check
    /// it.
    pub fn is_possible(&self) -> bool {
        self.epoch.0.checked_add(self.index.0).is_some_and(|last| last <= self.pos.0)
    }
}

/// The running checksum over all batches of a history so far: 64 bits, order-sensitive.
///
/// Step: `c = mix(c ^ (crc32c(batch) | length << 32))` with `mix(x) = y ^ y >> 32`, `y = x *
/// 0x9E3779B97F4A7C15` (wrapping). Each step is a bijection of the old value, so a difference, once there,
/// never vanishes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningChecksum(pub u64);

impl RunningChecksum {
    /// Adds the next batch.
    pub fn add(&mut self, batch: &[u8]) {
        self.add_crc(crc32c::crc32c(batch), batch.len());
    }

    /// Adds the next batch, given the CRC32C and the length of its bytes.
    pub fn add_crc(&mut self, crc: u32, length: usize) {
        let word = self.0 ^ (u64::from(crc) | (length as u64) << 32);
        let product = word.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }
}

/// The limits of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Largest entry in bytes, header included, padding not.
    pub entry_bytes_max: usize,
    /// Entries appended and not yet acknowledged.
    pub entries_in_flight_max: usize,
    /// Entries take whole blocks of this many bytes; 1 when there is no padding.
    pub block_bytes: usize,
    /// Whether an acknowledged entry survives a power cut.
    pub durable: bool,
}

impl LogLimits {
    /// The room that a batch of `bytes` may take at most: each of its pieces alone in an entry.
    pub fn room_for_batch(&self, bytes: usize) -> u64 {
        let piece_bytes_max = self.piece_bytes_max();
        let whole = bytes / piece_bytes_max;
        let rest = bytes % piece_bytes_max;
        let full_entry = self.padded(self.entry_bytes_max);
        let last_entry = self.padded(entry::HEADER_BYTES + entry::PIECE_HEADER_BYTES + rest);
        assert!(last_entry <= full_entry, "what is left of a batch fits in one entry");
        whole as u64 * full_entry + last_entry
    }

    /// The most buffers of entries that each place keeps for reuse: for the entries in flight and the one
    /// that is being formed.
    pub fn buffers_kept_max(&self) -> usize {
        self.entries_in_flight_max + 1
    }

    /// Asserts that entries can hold data, and that one can be in flight.
    pub(super) fn assert_usable(&self) {
        assert!(self.entry_bytes_max > entry::HEADER_BYTES + entry::PIECE_HEADER_BYTES, "{self:?}");
        assert!(u32::try_from(self.entry_bytes_max).is_ok(), "an entry's length is 32 bits: {self:?}");
        assert!(self.entries_in_flight_max > 0 && self.block_bytes > 0, "{self:?}");
    }

    /// The largest piece of a batch that fits in one entry.
    pub fn piece_bytes_max(&self) -> usize {
        self.entry_bytes_max - entry::HEADER_BYTES - entry::PIECE_HEADER_BYTES
    }

    /// An entry's size in whole blocks.
    pub fn padded(&self, entry_bytes: usize) -> u64 {
        entry_bytes.next_multiple_of(self.block_bytes) as u64
    }
}

/// Reserved room for entries, in bytes: appending into it cannot fail for lack of space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub bytes: u64,
    /// The room that is left once the current segment is sealed.
    pub bytes_after_seal: u64,
    /// The part of either that is held back for entries that free memory.
    pub held_bytes: u64,
    /// The reason why there will be no more for now, for example a full disk; `None` while more is being
    /// prepared.
    pub full: Option<String>,
}

impl Room {
    pub const UNBOUNDED: Room =
        Room { bytes: u64::MAX, bytes_after_seal: u64::MAX, held_bytes: 0, full: None };

    /// The bytes of it that entries for this purpose may use.
    pub fn for_purpose(&self, purpose: Purpose, after_seal: bool) -> u64 {
        let bytes = if after_seal { self.bytes_after_seal } else { self.bytes };
        bytes.saturating_sub(match purpose {
            Purpose::Any => self.held_bytes,
            Purpose::Expiry => self.held_bytes / 2,
            Purpose::Freeing => self.held_bytes / 16,
            Purpose::Flush => 0,
        })
    }
}

/// The purpose of an entry, which decides how much of the held-back room it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// None of it.
    Any,
    /// Deletes of expired keys and fields: half of it. They can wait, because expired data reads as absent.
    Expiry,
    /// Commands that free memory: all but a sixteenth. Each takes an entry, so they can use up the room.
    Freeing,
    /// Commands that remove all keys of a database: all of it, so that a full disk can always be emptied.
    Flush,
}

/// A shard's log. Blocking and object-safe; a backend with a network owns its runtime.
pub trait ShardLog: Send + Sync {
    fn id(&self) -> LogId;

    fn limits(&self) -> LogLimits;

    /// The reserved room, for admission; unbounded by default.
    fn room(&self) -> Room {
        Room::UNBOUNDED
    }

    /// Asks for room of at least this many bytes, to be prepared in the background.
    fn want_room(&self, _bytes: u64) {}

    /// Lends the storage's free space to a snapshot (`true`), including what is held back for one, or ends
    /// that. The log is trimmed afterwards, so it gets back more space than it has lent.
    fn lend_room(&self, _lent: bool) {}

    /// Becomes the writer by appending a Claim at `at`, the end of what the caller has read. Returns when the
    /// Claim is durable, and all before it with it. A writer before this one is fenced. A claim that fails
    /// consumes nothing.
    fn claim(&self, at: LogEnd, claim: Claim) -> Result<Box<dyn LogWriter>, ClaimError>;

    /// Reads the entries after a mark. Beside a writer of this process, those that are durable.
    fn read(&self, after: Mark) -> Box<dyn EntryIter>;

    /// Makes the entries durable that readers get of a log without a writer. Before that, a power cut can
    /// remove entries that the last writer did not prove durable. If this fails, what was read must not be
    /// shown; the error says why. Backends whose readers get only durable entries do nothing.
    fn secure(&self) -> Result<(), String> {
        Ok(())
    }

    /// The first and last position, as a hint: they may be outdated.
    fn bounds(&self) -> Result<(Pos, Pos), ReadError>;

    /// Removes entries through `upto`, or fewer. Only for entries that a verified snapshot covers.
    fn trim(&self, upto: Pos) -> Result<(), TrimError>;
}

/// The reason why a trim failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot trim the log: {cause}")]
pub struct TrimError {
    pub cause: String,
}

/// Rule 1: which entries count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    pub epoch: Epoch,
    pub index: Idx,
}

impl Sequence {
    /// Whether the entry at `pos` counts; if so, the sequence advances to it.
    pub fn admit(&mut self, pos: Pos, header: &EntryHeader) -> bool {
        let counts = if header.kind == EntryKind::Claim {
            // The Claim names its own position as the epoch: one that landed elsewhere never took effect.
            header.epoch == Epoch(pos.0) && header.epoch > self.epoch && header.index == Idx(0)
        } else {
            header.epoch == self.epoch && self.index.0.checked_add(1) == Some(header.index.0)
        };
        if counts {
            *self = Sequence { epoch: header.epoch, index: header.index };
        }
        counts
    }
}

#[cfg(test)]
mod tests;
