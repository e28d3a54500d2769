//! The writing half of the contract: a claim returns a writer, which appends entries and reports which are
//! durable.

use super::claim::{ClaimId, ClaimRecord};
use super::entry::{EntryHeader, EntryKind, HEADER_BYTES};
use super::{Epoch, Idx, LogEnd, LogId, Lsn, Mark, Pos, RunningChecksum};
use crate::format_level::BASE_LEVEL;
use std::sync::Arc;
use std::time::Duration;

/// The content of a claim. The backend adds a random id that identifies it; see [`super::claim`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The node's name, as information for people who read the log.
    pub node: String,
    pub engine_time_ms: u64,
    /// The last batch before the claim, and the checksum through it.
    pub lsn: Lsn,
    pub checksum: RunningChecksum,
}

/// An entry to append. The backend fills in the rest of the header (log id, segment, epoch, index, durable).
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub kind: EntryKind,
    /// The lowest format level that can read it.
    pub needs: u16,
    pub engine_time_ms: u64,
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    /// The last batch that is complete with this entry: `last_lsn`, or the one before if that continues in
    /// the next entry.
    pub complete_lsn: Lsn,
    /// The running checksum through `complete_lsn`.
    pub checksum: RunningChecksum,
    /// [`HEADER_BYTES`] of space for the header, then the payload, so that a backend need not copy.
    pub bytes: Vec<u8>,
}

impl LogEntry {
    /// An entry without a payload yet, after batch `lsn`.
    pub fn new(kind: EntryKind, engine_time_ms: u64, lsn: Lsn, checksum: RunningChecksum) -> LogEntry {
        LogEntry::in_buffer(Vec::new(), kind, engine_time_ms, lsn, checksum)
    }

    /// Like `new`, in a buffer that is reused.
    pub fn in_buffer(
        mut bytes: Vec<u8>,
        kind: EntryKind,
        engine_time_ms: u64,
        lsn: Lsn,
        checksum: RunningChecksum,
    ) -> LogEntry {
        bytes.clear();
        bytes.resize(HEADER_BYTES, 0);
        LogEntry {
            kind,
            needs: BASE_LEVEL,
            engine_time_ms,
            first_lsn: lsn,
            last_lsn: lsn,
            complete_lsn: lsn,
            checksum,
            bytes,
        }
    }

    /// The entry of a claim directly after `behind`.
    pub fn of_claim(claim: &Claim, id: ClaimId, behind: Mark) -> LogEntry {
        let mut entry = LogEntry::new(EntryKind::Claim, claim.engine_time_ms, claim.lsn, claim.checksum);
        ClaimRecord::new(&claim.node, id, behind).encode(&mut entry.bytes);
        entry
    }

    /// The header, with the fields that the backend fills in.
    pub fn header(&self, log_id: LogId, segment: u64, epoch: Epoch, index: Idx, durable: Idx) -> EntryHeader {
        let complete = self.complete_lsn;
        assert!(self.last_lsn == complete || self.last_lsn == complete.next(), "only its last batch goes on");
        EntryHeader {
            needs: self.needs,
            kind: self.kind,
            log_id,
            segment,
            epoch,
            index,
            durable,
            engine_time_ms: self.engine_time_ms,
            first_lsn: self.first_lsn,
            last_lsn: self.last_lsn,
            checksum: self.checksum,
        }
    }
}

/// A writer of the log, from its Claim on.
///
/// If the outcome of an append is unknown, the backend resolves it: it sends the same bytes for the same
/// index again until the outcome is known. An index that was used never gets other bytes. The caller gets
/// only errors that it must act on ([`WriteError`]); after an error, all further calls fail.
pub trait LogWriter: Send {
    /// Gives the entry the next index and begins to write it. Never blocks. The caller must not exceed
    /// [`super::LogLimits`] and [`super::ShardLog::room`].
    ///
    /// # Panics
    /// If the entry is larger than `entry_bytes_max`: a bug in the packing.
    fn append(&mut self, entry: LogEntry) -> Result<Idx, WriteError>;

    /// Closes the current segment, so that offline readers may read all of it. Must not be called with
    /// entries in flight. Returns the last position in sealed segments. Backends without segments do nothing.
    fn seal(&mut self) -> Result<Pos, WriteError>;

    /// The acknowledgements of this writer's entries. All returned objects share them.
    fn acks(&self) -> Arc<dyn Acks>;
}

/// The acknowledgements of a writer's entries.
pub trait Acks: Send + Sync {
    /// The mark after the last entry that is durable with all entries before it, beginning with the Claim. It
    /// never goes back, whichever thread calls.
    ///
    /// Does the work of acknowledging, or waits for it, while that is not beyond `beyond`. A backend that
    /// writes does so in the caller's thread, which saves a hand-over; as many threads may call as there are
    /// entries in flight. Waiting for others ends after `at_most`, or at once when nothing is in flight; the
    /// caller's own write is not bounded. Several entries may be acknowledged at once.
    fn wait(&self, beyond: Idx, at_most: Duration) -> Result<Mark, WriteError>;

    /// The recent time until an entry is durable, smoothed; `None` if it is not known.
    fn usual_time(&self) -> Option<Duration> {
        None
    }

    /// A buffer of an acknowledged entry, for reuse; `None` if there is none.
    fn recycle(&self) -> Option<Vec<u8>> {
        None
    }
}

/// The reason why a writer cannot continue. The variants say what the caller must do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No room. From `seal`: try again later. From `append`: a bug in the admission.
    #[error("no room in the log: {cause}")]
    Full { cause: String },
    /// Another writer has claimed the log: never release a held reply; drop the state and recover.
    #[error("fenced by the claim at {}", by.0)]
    Fenced { by: Epoch },
    /// Stop the process.
    #[error("the log failed: {cause}")]
    Fatal { cause: String },
}

/// The reason why a claim failed. A failed claim consumes no index, and changes neither the caller's state
/// nor the log. The caller may try again after all but `Fatal`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The log has more entries than the caller has read: read up to this end, and claim there.
    #[error("the log has gone on: it ends at {0}")]
    Behind(LogEnd),
    /// Try again later: the disk is full, or the network is unavailable.
    #[error("the log is unavailable: {cause}")]
    Unavailable { cause: String },
    /// An operator must correct the configuration.
    #[error("the log is misconfigured: {cause}")]
    Misconfigured { cause: String },
    /// Stop the process.
    #[error("the log failed: {cause}")]
    Fatal { cause: String },
}
