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
use std::path::{Path, PathBuf};

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
    fn path(self, directory: &Path, number: usize) -> PathBuf {
        directory.join(format!("{}-{number}{SUFFIX}", self.word()))
    }

    /// The kind of the file with this name, if it belongs to the reserve.
    pub fn of_name(name: &str) -> Option<ReserveKind> {
        let (word, number) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
        let kind = KINDS.into_iter().find(|kind| kind.word() == word)?;
        number.parse::<usize>().is_ok_and(|number| number < kind.count()).then_some(kind)
    }
}

/// The existing files. They are not kept open, to save file descriptors.
#[derive(Default)]
pub struct Reserve {
    files: Vec<(ReserveKind, PathBuf)>,
}

impl Reserve {
    pub fn count(&self, kind: ReserveKind) -> usize {
        self.files.iter().filter(|(of, _)| *of == kind).count()
    }

    pub fn put(&mut self, kind: ReserveKind, path: PathBuf) {
        assert!(self.count(kind) < kind.count(), "no more are prepared than are held back");
        assert!(self.files.iter().all(|(_, other)| *other != path), "each file is there once");
        self.files.push((kind, path));
    }

    pub fn take(&mut self, kind: ReserveKind) -> Option<PathBuf> {
        let place = self.files.iter().position(|(of, _)| *of == kind)?;
        Some(self.files.swap_remove(place).1)
    }

    /// A name that no file of the reserve has.
    pub fn free_path(&self, kind: ReserveKind, directory: &Path) -> PathBuf {
        let mut paths = (0..).map(|number| kind.path(directory, number));
        let is_free = |path: &PathBuf| self.files.iter().all(|(_, taken)| taken != path);
        paths.find(is_free).expect("numbers do not run out")
    }
}
