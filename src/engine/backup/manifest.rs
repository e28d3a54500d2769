//! The manifest of a backup: its files, its history, and the position at which it ends.
//!
//! The manifest is JSON. Its first line contains the CRC32C of all bytes after that line, so that every bit
//! of the file is checked.
//!
//! ```text
//! {"crc32c": "1c291ca3",
//! "backup": {
//!   "needs": 1, "program": "0.1.0", "created_ms": 1700000000000,
//!   "log_id": "…32 hex…", "parent": "…32 hex…", "parent_pos": 0,
//!   "pos": 17, "epoch": 1, "index": 16, "lsn": 42, "checksum": "…16 hex…", "engine_time_ms": 1700000000000,
//!   "snapshot_keys": 40, "batches": 2, "chunk_bytes": 1048576,
//!   "files": [{"file": "shards/0/log/0000000000000001.log", "bytes": 8192, "crc32c": "…8 hex a chunk…"}, …]
//! }}
//! ```

use super::{BackupError, read_error};
use crate::data_dir::{BACKUP_FILE, DataDirError};
use crate::env::Disk;
use crate::format_level;
use crate::log::replay::Checkpoint;
use crate::log::{Epoch, Idx, LogId, Lsn, Mark, Pos, RunningChecksum};
use crate::snapshot::manifest::{hex64, log_id_text};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::io;
use std::path::{Component, Path};

/// The size of the chunks in which files are checked, so that damage has an offset.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// The content of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The lowest format level that reads this.
    pub needs: u16,
    /// The version of the program that wrote it; for information only.
    pub program: String,
    /// Wall-clock time at the end of the backup.
    pub created_ms: u64,
    #[serde(with = "log_id_text")]
    pub log_id: LogId,
    /// The history that this one branched from, zero if none; and the last position taken from it.
    #[serde(with = "log_id_text")]
    pub parent: LogId,
    pub parent_pos: u64,
    /// The last entry of its log: position, epoch and index.
    pub pos: u64,
    pub epoch: u64,
    pub index: u64,
    /// The last batch, and the log's running checksum up to it.
    pub lsn: u64,
    #[serde(with = "hex64")]
    pub checksum: u64,
    pub engine_time_ms: u64,
    /// The number of keys in its snapshot, and of batches in the log after the snapshot.
    pub snapshot_keys: u64,
    pub batches: u64,
    pub chunk_bytes: u64,
    pub files: Vec<BackupFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its path in the backup.
    pub file: String,
    pub bytes: u64,
    /// The CRC32C of each chunk.
    #[serde(with = "hex_list")]
    pub crc32c: Vec<u32>,
}

/// Only the field that distinguishes a newer manifest from a damaged one.
#[derive(Deserialize)]
struct Needs {
    backup: NeedsInner,
}

#[derive(Deserialize)]
struct NeedsInner {
    needs: u16,
}

#[derive(Deserialize)]
struct Sealed {
    backup: BackupManifest,
}

impl BackupManifest {
    /// The mark after the last entry.
    pub fn mark(&self) -> Mark {
        Mark { pos: Pos(self.pos), epoch: Epoch(self.epoch), index: Idx(self.index) }
    }

    /// The checkpoint after the last batch. Its mark is that of the last entry.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            mark: self.mark(),
            lsn: Lsn(self.lsn),
            checksum: RunningChecksum(self.checksum),
            engine_time_ms: self.engine_time_ms,
        }
    }

    /// The size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The names of the files in a folder of the backup.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let inside = self.files.iter().filter_map(|file| file.file.strip_prefix(folder)?.strip_prefix('/'));
        inside.map(str::to_owned).collect()
    }

    /// Whether a log can end there. The writer asserts it, the reader checks it.
    fn has_possible_end(&self) -> bool {
        self.mark().is_possible() && Lsn(self.lsn) < Lsn::END
    }

    /// Whether a development version before the first release wrote it.
    fn has_old_layout(&self) -> bool {
        self.files.iter().any(|file| file.file.starts_with("log/"))
    }

    /// The manifest of the backup in `directory`; `None` if it has none.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Option<BackupManifest>, BackupError> {
        let file = directory.join(BACKUP_FILE);
        let bytes = match disk.read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read_error(&file, error)),
        };
        if let Ok(Needs { backup: NeedsInner { needs } }) = serde_json::from_slice(&bytes)
            && let Err(level) = format_level::check(needs)
        {
            return Err(BackupError::UnknownLevel { file, level });
        }
        let damaged = |detail: String| BackupError::Damaged { file: file.clone(), offset_bytes: 0, detail };
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (line, body) = bytes.split_at(line);
        if line != first_line(body).as_bytes() {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        let sealed: Sealed =
            serde_json::from_slice(&bytes).map_err(|error| damaged(format!("it is no manifest: {error}")))?;
        let manifest = sealed.backup;
        match manifest.files.iter().find(|file| !file.is_possible(manifest.chunk_bytes)) {
            Some(file) => Err(damaged(format!("the record of {:?} is impossible", file.file))),
            None if !manifest.has_possible_end() => Err(damaged("where it ends is impossible".to_owned())),
            None if manifest.has_old_layout() => {
                Err(DataDirError::OldLayout { directory: directory.to_owned() }.into())
            }
            None => Ok(Some(manifest)),
        }
    }

    /// Writes the manifest, which makes the directory a backup; durable on return.
    pub fn store(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        assert!(self.has_possible_end(), "{self:?}");
        assert!(self.files.iter().all(|file| file.is_possible(self.chunk_bytes)), "all files are covered");
        let body =
            format!("\"backup\": {}}}\n", serde_json::to_string_pretty(self).map_err(io::Error::other)?);
        let text = first_line(body.as_bytes()) + &body;
        disk.write_atomically(&directory.join(BACKUP_FILE), text.as_bytes())
    }
}

impl BackupFile {
    /// Whether the path stays inside the backup, and the checksums cover the file.
    fn is_possible(&self, chunk_bytes: u64) -> bool {
        let inside = Path::new(&self.file).components().all(|part| matches!(part, Component::Normal(_)));
        inside && chunk_bytes > 0 && self.bytes.div_ceil(chunk_bytes) == self.crc32c.len() as u64
    }
}

fn first_line(body: &[u8]) -> String {
    format!("{{\"crc32c\": \"{:08x}\",\n", crc32c::crc32c(body))
}

/// Eight hexadecimal digits for each number, without gaps.
mod hex_list {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&values.iter().map(|value| format!("{value:08x}")).collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes().chunks(8);
        let numbers = digits.map(|digits| {
            let digits = str::from_utf8(digits).map_err(serde::de::Error::custom)?;
            u32::from_str_radix(digits, 16).map_err(serde::de::Error::custom)
        });
        numbers.collect()
    }
}
