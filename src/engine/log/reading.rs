//! The reading half of the contract: the entries that count, in order, from any mark. Followers can wait for
//! more.

use super::entry::EntryHeader;
use super::{LogId, Mark, Pos};
use crate::format_level::UnknownLevel;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Reads the entries that count (rule 1), in order. A reader in the process of a writer gets only entries
/// that the writer knows to be durable, with all entries before them.
pub trait EntryIter: Send {
    /// The next entry. After [`Step::End`] and [`Step::TimedOut`] it can be called again, and continues with
    /// entries that have become durable since, even if a writer has claimed the log meanwhile. After an error
    /// it cannot.
    fn next(&mut self, wait: Wait) -> Result<Step, ReadError>;

    /// The mark after the last entry read, void ones included.
    fn mark(&self) -> Mark;

    /// The place where the last returned entry is stored, for messages.
    fn place(&self) -> Place;

    /// The entries and batches that were skipped so far.
    fn voided(&self) -> Voided;

    /// Ends the waits of this iterator from another thread.
    fn stopper(&self) -> Stopper;
}

/// How long [`EntryIter::next`] waits after the last durable entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: [`Step::End`].
    No,
    /// For at most this time, without polling. The wait may end earlier, as [`Step::TimedOut`].
    AtMost(Duration),
}

/// The result of [`EntryIter::next`].
#[derive(Clone, Debug)]
pub enum Step {
    Entry(ReadEntry),
    /// All durable entries have been read. The log can be claimed here; the claim proves that this was the
    /// end.
    End(LogEnd),
    /// Nothing became durable in the time given.
    TimedOut,
    /// [`Stopper::stop`] was called. Every later call returns this as well.
    Stopped,
}

/// The end of a log, as a reader found it: where the next writer claims. The default is that of an empty log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The last position, void entries included, with the epoch and the index in force there.
    pub mark: Mark,
}

impl fmt::Display for LogEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {} of epoch {}", self.mark.pos, self.mark.epoch.0)
    }
}

/// Stops an iterator. Clones stop the same one.
#[derive(Clone)]
pub struct Stopper {
    stop: Arc<dyn Fn() + Send + Sync>,
}

impl Stopper {
    /// `stop` makes the iterator return [`Step::Stopped`] from now on, and wakes it if it waits.
    pub fn new(stop: impl Fn() + Send + Sync + 'static) -> Stopper {
        Stopper { stop: Arc::new(stop) }
    }

    /// A stopper for iterators that never wait. It does nothing.
    pub fn unneeded() -> Stopper {
        Stopper::new(|| ())
    }

    pub fn stop(&self) {
        (self.stop)();
    }
}

/// An entry as read: it has passed rule 1.
#[derive(Clone, Debug)]
pub struct ReadEntry {
    pub pos: Pos,
    pub header: EntryHeader,
    pub payload: Vec<u8>,
}

/// The entries and batches that a reader skipped. Callers must report them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voided {
    /// Valid entries that rule 1 or rule 4 voids.
    pub entries: u64,
    /// Batches without their last piece.
    pub batches: u64,
    /// The place of an unfinished tail (rule 4), if there is one.
    pub torn_tail: Option<Place>,
}

impl Voided {
    pub fn is_empty(&self) -> bool {
        *self == Voided::default()
    }
}

/// The place where a part of a log is stored, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A byte in a file.
    File { file: PathBuf, offset_bytes: u64 },
    /// A message of a stream, which has a name.
    Stream { name: String, sequence: u64 },
    /// An object of a bucket.
    Object { name: String },
}

impl Place {
    pub fn in_file(file: &Path, offset_bytes: u64) -> Place {
        Place::File { file: file.to_owned(), offset_bytes }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Place::File { file, .. } => Some(file),
            Place::Stream { .. } | Place::Object { .. } => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, offset_bytes } => write!(f, "{} at offset {offset_bytes}", file.display()),
            Place::Stream { name, sequence } => write!(f, "{name} at sequence {sequence}"),
            Place::Object { name } => write!(f, "object {name}"),
        }
    }
}

/// The reason why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The entries wanted are gone; a snapshot from `first` or later is needed.
    #[error("the log starts at position {first}: what came before was trimmed")]
    Trimmed { first: Pos },
    /// An entry or a segment is missing in the middle.
    #[error("position {want} is missing from the log: {detail}")]
    Hole { want: Pos, detail: String },
    /// Acknowledged data is damaged.
    #[error(
        "the log is damaged in {at}: {detail}. Acknowledged writes are affected, so it is not skipped. \
         `engramdb log verify` lists all damage, `engramdb log dump` shows what is readable; \
         restore the file from a copy, or start from a snapshot"
    )]
    Corrupt { at: Place, detail: String },
    /// Written by a newer version that used something this one cannot read.
    #[error("{at} {level}")]
    UnknownLevel { at: Place, level: UnknownLevel },
    /// The log belongs to another history.
    #[error("{at} belongs to log {found}, not to {expected}")]
    ForeignLog { at: Place, found: LogId, expected: LogId },
    #[error("cannot read the log: {cause}")]
    Unavailable { cause: String },
}
