//! The reserve: files that are held back for what has to go on while the disk is full.
//!
//! - *claims*: the segment in which a start claims, and the one that a seal starts. Without them a full disk
//!   could not be snapshotted, and a server that stopped on one could not start again.
//! - *deletes*: segments for entries that free memory. Ordinary writes never use them.
//! - *snapshot*: room that a snapshot gets by the removal of this file. A snapshot frees the log, so it gives
//!   back more than it takes.
//!
//! The files are prepared like any segment ([`super::spare`]), refilled before anything else once there is
//! space, and outlive restarts.

use super::{BLOCK_BYTES, LocalOptions, padded};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Claim,
    Deletes,
    Snapshot,
}

pub const KINDS: [Kind; 3] = [Kind::Claim, Kind::Deletes, Kind::Snapshot];

const SUFFIX: &str = ".reserve";

impl Kind {
    /// How many files are held back.
    pub const fn count(self) -> usize {
        match self {
            Kind::Claim => 8,
            Kind::Deletes => 2,
            Kind::Snapshot => 1,
        }
    }

    /// The size of each. No two kinds have the same.
    pub fn size_bytes(self, options: &LocalOptions) -> u64 {
        let block = BLOCK_BYTES as u64;
        // A segment holds at least two entries.
        let deletes = (options.segment_bytes / 8).max(3 * padded(options.entry_bytes_max));
        match self {
            // Its header, a Claim, a Release, and a block to spare.
            Kind::Claim => 4 * block,
            Kind::Deletes => deletes.next_multiple_of(block),
            Kind::Snapshot => 2 * deletes.next_multiple_of(block),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Claim => "claim",
            Kind::Deletes => "deletes",
            Kind::Snapshot => "snapshot",
        }
    }

    /// `claim-0.reserve` and the like.
    fn path(self, directory: &Path, number: usize) -> PathBuf {
        directory.join(format!("{}-{number}{SUFFIX}", self.word()))
    }

    /// The kind of the file with this name, if it belongs to the reserve.
    pub fn of_name(name: &str) -> Option<Kind> {
        let (word, number) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
        let kind = KINDS.into_iter().find(|kind| kind.word() == word)?;
        number.parse::<usize>().is_ok_and(|number| number < kind.count()).then_some(kind)
    }
}

/// The files that are there. They are not held open: their descriptors would be missing elsewhere.
#[derive(Default)]
pub struct Reserve {
    files: Vec<(Kind, PathBuf)>,
}

impl Reserve {
    pub fn count(&self, kind: Kind) -> usize {
        self.files.iter().filter(|(of, _)| *of == kind).count()
    }

    pub fn put(&mut self, kind: Kind, path: PathBuf) {
        self.files.push((kind, path));
    }

    pub fn take(&mut self, kind: Kind) -> Option<PathBuf> {
        let place = self.files.iter().position(|(of, _)| *of == kind)?;
        Some(self.files.swap_remove(place).1)
    }

    /// A name that no file of the reserve has.
    pub fn free_path(&self, kind: Kind, directory: &Path) -> PathBuf {
        let mut paths = (0..).map(|number| kind.path(directory, number));
        let is_free = |path: &PathBuf| self.files.iter().all(|(_, taken)| taken != path);
        paths.find(is_free).expect("numbers do not run out")
    }
}
