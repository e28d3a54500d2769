//! The reserve: files that are held back for work that must go on while the disk is full.
//!
//! - *claims*: segments in which a start claims, or which a seal starts. Without them a store on a full disk
//!   could not be snapshotted, nor started again.
//! - *deletes*: segments for entries that free memory. Ordinary writes never use them.
//! - *snapshot*: a file that is removed to give a snapshot its room. A snapshot trims the log, so it frees
//!   more than it takes.
//!
//! The files are prepared like any segment ([`super::spare`]), are refilled before anything else once there
//! is space, and survive restarts.

use super::{BLOCK_BYTES, LocalOptions, padded};
use crate::env::DiskFile;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveKind {
    Claim,
    Deletes,
    Snapshot,
}

pub const KINDS: [ReserveKind; 3] = [ReserveKind::Claim, ReserveKind::Deletes, ReserveKind::Snapshot];

const SUFFIX: &str = ".reserve";

impl ReserveKind {
    /// The number of files to hold back.
    pub const fn count(self) -> usize {
        match self {
            ReserveKind::Claim => 8,
            ReserveKind::Deletes => 2,
            ReserveKind::Snapshot => 1,
        }
    }

    /// Whether the files are kept open, so that their use needs no new file descriptor. Room for deletes is
    /// promised to commands before they are applied, and the log fails if it cannot open the file then. A
    /// claim or a seal that lacks a descriptor is refused, and is tried again.
    fn is_kept_open(self) -> bool {
        self == ReserveKind::Deletes
    }

    /// The size of each file. It differs between kinds.
    pub fn size_bytes(self, options: &LocalOptions) -> u64 {
        let block = BLOCK_BYTES as u64;
        // A segment holds at least two entries.
        let deletes = (options.segment_bytes / 8).max(3 * padded(options.entry_bytes_max));
        match self {
            // A header, a Claim, a Release, and one block more.
            ReserveKind::Claim => 4 * block,
            ReserveKind::Deletes => deletes.next_multiple_of(block),
            ReserveKind::Snapshot => 2 * deletes.next_multiple_of(block),
        }
    }

    fn word(self) -> &'static str {
        match self {
            ReserveKind::Claim => "claim",
            ReserveKind::Deletes => "deletes",
            ReserveKind::Snapshot => "snapshot",
        }
    }

    /// `claim-0.reserve` and the like.
    fn name(self, number: usize) -> String {
        format!("{}-{number}{SUFFIX}", self.word())
    }

    /// The kind of the file with this name, if it belongs to the reserve. Each number has one name, so that
    /// no more files are found than are held back.
    pub fn of_name(name: &str) -> Option<ReserveKind> {
        KINDS.into_iter().find(|kind| (0..kind.count()).any(|number| kind.name(number) == name))
    }
}

/// The files of the reserve that are open all the time.
pub const RESERVE_OPEN_FILES: usize = ReserveKind::Deletes.count();

/// A file of the reserve.
pub struct Reserved {
    pub kind: ReserveKind,
    pub path: PathBuf,
    /// The file, locked, if its kind is kept open.
    pub file: Option<Arc<dyn DiskFile>>,
}

impl Reserved {
    /// Closes the file if its kind is not kept open. The caller has it locked.
    pub fn new(kind: ReserveKind, path: PathBuf, file: Arc<dyn DiskFile>) -> Reserved {
        Reserved { kind, path, file: kind.is_kept_open().then_some(file) }
    }
}

/// The existing files.
#[derive(Default)]
pub struct Reserve {
    files: Vec<Reserved>,
}

impl Reserve {
    pub fn count(&self, kind: ReserveKind) -> usize {
        self.files.iter().filter(|file| file.kind == kind).count()
    }

    pub fn put(&mut self, file: Reserved) {
        assert!(self.count(file.kind) < file.kind.count(), "no more are prepared than are held back");
        assert!(self.files.iter().all(|other| other.path != file.path), "each file is there once");
        assert_eq!(file.file.is_some(), file.kind.is_kept_open(), "what is promised needs no descriptor");
        self.files.push(file);
    }

    pub fn take(&mut self, kind: ReserveKind) -> Option<Reserved> {
        let place = self.files.iter().position(|file| file.kind == kind)?;
        Some(self.files.swap_remove(place))
    }

    /// A name that no file of the reserve has.
    pub fn free_path(&self, kind: ReserveKind, directory: &Path) -> PathBuf {
        let mut paths = (0..).map(|number| directory.join(kind.name(number)));
        let is_free = |path: &PathBuf| self.files.iter().all(|file| file.path != *path);
        paths.find(is_free).expect("numbers do not run out")
    }
}
