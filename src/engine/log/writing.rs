//! The writing half of the contract: a claim makes a writer, which appends entries and learns what is
//! durable.

use super::claim::{ClaimId, ClaimRecord};
use super::entry::{EntryHeader, EntryKind, HEADER_BYTES};
use super::{Epoch, Idx, LogEnd, LogId, Lsn, Mark, Pos, RunningChecksum};
use crate::format_level::BASE_LEVEL;
use std::sync::Arc;
use std::time::Duration;

/// What a writer states when it claims the log. The backend adds what identifies the claim; see
/// [`super::claim`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// For people who read the log.
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
    /// The lowest format level that reads it.
    pub needs: u16,
    pub engine_time_ms: u64,
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    /// The last batch that is complete with this entry: `last_lsn`, or the one before if that goes on.
    pub complete_lsn: Lsn,
    /// Through `complete_lsn`.
    pub checksum: RunningChecksum,
    /// [`HEADER_BYTES`] of room for the header, then the payload: so that a backend need not copy.
    pub bytes: Vec<u8>,
}

impl LogEntry {
    /// An entry without a payload yet, behind batch `lsn`.
    pub fn new(kind: EntryKind, engine_time_ms: u64, lsn: Lsn, checksum: RunningChecksum) -> LogEntry {
        LogEntry::in_buffer(Vec::new(), kind, engine_time_ms, lsn, checksum)
    }

    /// The same, in a buffer that is used again.
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

    /// The entry of a claim behind `behind`.
    pub fn of_claim(claim: &Claim, id: ClaimId, behind: Mark) -> LogEntry {
        let mut entry = LogEntry::new(EntryKind::Claim, claim.engine_time_ms, claim.lsn, claim.checksum);
        ClaimRecord::new(&claim.node, id, behind).encode(&mut entry.bytes);
        entry
    }

    /// The header, with what the backend knows.
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
/// An append whose fate is unknown is the backend's affair: it finds out, and sends the same bytes again for
/// the same index, as often as it takes. Entries are never packed anew under an index that was used. So the
/// caller hears only what it has to act on ([`WriteError`]), and after an error nothing else than errors.
pub trait LogWriter: Send {
    /// Gives the entry the next index and sends it on its way. Never blocks. The caller keeps within
    /// [`super::LogLimits`] and [`super::ShardLog::room`].
    ///
    /// # Panics
    /// If the entry is larger than `entry_bytes_max`: a bug in the packing.
    fn append(&mut self, entry: LogEntry) -> Result<Idx, WriteError>;

    /// Closes the current segment, so that offline readers may read all of it. Called with nothing in flight.
    /// Returns the last position in sealed segments. Backends without segments have nothing to do.
    fn seal(&mut self) -> Result<Pos, WriteError>;

    /// The acknowledgements of this writer's entries. All that are handed out speak of the same writer.
    fn acks(&self) -> Arc<dyn Acks>;
}

/// The acknowledgements of a writer's entries.
pub trait Acks: Send + Sync {
    /// The mark behind the last entry that is durable together with all before it, beginning with the Claim.
    /// It only grows, whichever thread asks.
    ///
    /// Does the work of acknowledging, or waits for it, while that is not beyond `beyond`. A backend that
    /// writes does so in the caller's thread, which saves a hand-over; as many threads may call as there are
    /// entries in flight. Waiting for others ends after `at_most`, or at once when nothing is in flight; the
    /// caller's own write is not bounded. Several entries may be acknowledged at once.
    fn wait(&self, beyond: Idx, at_most: Duration) -> Result<Mark, WriteError>;

    /// How long an entry has lately taken, smoothed; `None` if that is not known.
    fn usual_time(&self) -> Option<Duration> {
        None
    }

    /// A buffer of an acknowledged entry, to be used again.
    fn recycle(&self) -> Option<Vec<u8>> {
        None
    }
}

/// Why a writer cannot go on, by what it has to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No room. From `seal`: try again later. From `append`: a bug in the admission.
    #[error("no room in the log: {cause}")]
    Full { cause: String },
    /// Another writer has claimed: never release a held reply, drop the state and recover.
    #[error("fenced by the claim at {}", by.0)]
    Fenced { by: Epoch },
    /// Stop the process.
    #[error("the log failed: {cause}")]
    Fatal { cause: String },
}

/// Why a claim did not succeed. Nothing was consumed: no index, no state of the caller or of the log. The
/// caller may try again after all but `Fatal`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The log goes on beyond what the caller has read: read on to here, and claim there.
    #[error("the log has gone on: it ends at {0}")]
    Behind(LogEnd),
    /// Try again later: a full disk, or a network that is away.
    #[error("the log is unavailable: {cause}")]
    Unavailable { cause: String },
    /// An operator has to act.
    #[error("the log is misconfigured: {cause}")]
    Misconfigured { cause: String },
    /// Stop the process.
    #[error("the log failed: {cause}")]
    Fatal { cause: String },
}
