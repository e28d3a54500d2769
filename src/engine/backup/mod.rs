//! Backups: a complete, checked copy of a data directory, which is separate from the store that continues.
//!
//! ```text
//! BACKUP                the manifest: content of the backup, and the checksums of all files; written last
//! UNFINISHED            exists while a backup is being made: the directory is not a backup yet
//! shards/0/snapshots/   one verified snapshot, and a MANIFEST that names it
//! shards/0/log/         the segments after it, and a last one without entries that ends the log
//! shards/0/indexes/     saved graphs, if there are any: a cache
//! ```
//!
//! Invariants:
//!
//! - [`create`] does not require the server to stop, and does not take any of its locks. A backup contains
//!   everything that was acknowledged before it began: the newest snapshot, and the log from there up to the
//!   last complete entry of the segment being written.
//! - Only files that never change are hard-linked: snapshots and saved graphs, which are written under
//!   another name and renamed. Segments of the log are copied.
//! - All files are opened before the first is copied, so that a concurrent trim of the log does not remove
//!   any of them.
//! - A directory without BACKUP is not a backup. BACKUP is written when everything that it names is durable
//!   and was read back.
//! - [`restore`] starts a new history: a random log id, with the old one as its parent. So files of two
//!   stores that were restored from the same backup cannot be mixed up. A start refuses a directory with the
//!   file RESTORING, which is removed last.
//! - Nothing of a damaged backup is published; the error names the file and the offset.

mod create;
mod files;
mod importing;
mod log;
pub mod manifest;
mod restore;
mod verify;

pub use create::{BackupOptions, BackupReport, create};
pub use importing::{begin_import, end_import, undo_import};
pub use restore::{RestoreReport, restore};
pub use verify::{VerifyReport, verify};

use crate::data_dir::{BACKUP_FILE, DataDirError, LOG_DIRECTORY, SNAPSHOT_DIRECTORY};
use crate::env::Disk;
use crate::format_level::UnknownLevel;
use crate::log::{LogId, ReadError};
use crate::snapshot::SnapshotError;
use crate::snapshot::manifest::ManifestError;
use std::io;
use std::path::{Path, PathBuf};

/// The progress of a step of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The name of the step, such as "copying the log".
    pub step: &'static str,
    pub done_bytes: u64,
    /// The size of the whole step, as far as it is known.
    pub total_bytes: u64,
}

/// Counts bytes and reports progress.
struct Meter<'a> {
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
}

impl<'a> Meter<'a> {
    fn new(tell: &'a mut dyn FnMut(Progress)) -> Meter<'a> {
        Meter { progress: Progress { step: "", done_bytes: 0, total_bytes: 0 }, tell }
    }

    fn begin(&mut self, step: &'static str, total_bytes: u64) {
        self.progress = Progress { step, done_bytes: 0, total_bytes };
        (self.tell)(self.progress);
    }

    fn add(&mut self, bytes: u64) {
        self.progress.done_bytes += bytes;
        (self.tell)(self.progress);
    }
}

/// Why a backup was not made, is not good, or was not restored. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{} is no data directory: it has no log. Give the directory of a server with --dir", directory.display())]
    NoLog { directory: PathBuf },
    #[error(
        "{} is a data directory, not a backup. Make one with `engramdb backup --dir {} --to DIRECTORY`; or restore from \
         its snapshots alone, without what the log holds after them: --from {}",
        directory.display(), directory.display(), directory.join(SNAPSHOT_DIRECTORY).display()
    )]
    IsData { directory: PathBuf },
    #[error(
        "{} is no backup: it has neither the file {BACKUP_FILE} nor snapshots with their MANIFEST. Give the directory that \
         `engramdb backup` wrote to, or a copy of the directory `snapshots`",
        directory.display()
    )]
    NoBackup { directory: PathBuf },
    #[error(
        "{} is not empty: it has {found}. Give a directory that is empty, or does not exist yet",
        directory.display()
    )]
    NotEmpty { directory: PathBuf, found: String },
    #[error("another process is writing to {}", directory.display())]
    Locked { directory: PathBuf },
    #[error("cannot read {}: {error}", file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("cannot write {}: {error}{}", file.display(), free_text(*free_bytes))]
    Write { file: PathBuf, error: io::Error, free_bytes: Option<u64> },
    #[error("{} is damaged at offset {offset_bytes}: {detail}", file.display())]
    Damaged { file: PathBuf, offset_bytes: u64, detail: String },
    #[error("{} {level}", file.display())]
    UnknownLevel { file: PathBuf, level: UnknownLevel },
    #[error(transparent)]
    Directory(#[from] DataDirError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("the snapshots in {} are of log {snapshots}, but the log is {log}: the files of two stores were mixed", directory.display())]
    ForeignLog { directory: PathBuf, snapshots: LogId, log: LogId },
    #[error(
        "no snapshot in {} can be used{}. `engramdb snapshot verify` and `engramdb log verify` tell more",
        directory.display(),
        problems.iter().map(|problem| format!("; {problem}")).collect::<String>()
    )]
    NoSnapshot { directory: PathBuf, problems: Vec<String> },
    #[error("{} holds {found}, but the backup says {expected}", directory.display())]
    Differs { directory: PathBuf, found: String, expected: String },
}

fn free_text(free_bytes: Option<u64>) -> String {
    free_bytes.map_or(String::new(), |bytes| {
        format!(
            " ({bytes} bytes are free there). What had been written was removed; make room and run it again"
        )
    })
}

fn read_error(file: &Path, error: io::Error) -> BackupError {
    BackupError::Read { file: file.to_owned(), error }
}

/// An error of a write; includes the free space if that is the cause.
fn write_error(disk: &dyn Disk, file: &Path, error: io::Error) -> BackupError {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let directory = file.parent().unwrap_or(file);
    let free_bytes = is_full.then(|| disk.free_bytes(directory).unwrap_or(0));
    BackupError::Write { file: file.to_owned(), error, free_bytes }
}

/// The folders of a backup and of a restored directory, besides those of derived state: the log first.
const FOLDERS: [&str; 2] = [LOG_DIRECTORY, SNAPSHOT_DIRECTORY];
