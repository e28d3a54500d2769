//! The manifest: which snapshots of a directory are valid. A file that it does not name is none.
//!
//! JSON, replaced whole and atomically. `crc32c` is over the compact JSON of `manifest`, so that a changed
//! number is noticed and a changed layout is not.
//!
//! ```text
//! {"crc32c": "1c291ca3",
//!  "manifest": {"needs": 1, "log_id": "…32 hex…",
//!    "snapshots": [{"file": "0000000000000042.snapshot", "bytes": 1234, "crc32c": "…", "lsn": 42, …}]}}
//! ```

use super::SnapshotFile;
use crate::env::Disk;
use crate::format_level::{self, BASE_LEVEL, UnknownLevel};
use crate::log::replay::Checkpoint;
use crate::log::{Epoch, Idx, LogId, Lsn, Mark, Pos, RunningChecksum};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::io;
use std::path::{Path, PathBuf};

pub const MANIFEST_FILE: &str = "MANIFEST";

/// The valid snapshots of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The lowest format level that reads this.
    pub needs: u16,
    #[serde(with = "log_id_text")]
    pub log_id: LogId,
    /// The history that this one branched from and the last position taken over; absent if none.
    #[serde(with = "log_id_text", default, skip_serializing_if = "is_none")]
    pub parent: LogId,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parent_pos: u64,
    /// The newest first: each holds fewer batches than the one before.
    pub snapshots: Vec<ManifestEntry>,
}

/// A valid snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// The name in the snapshots' directory.
    pub file: String,
    pub bytes: u64,
    /// The trailer's CRC, which covers the whole file.
    #[serde(with = "hex32")]
    pub crc32c: u32,
    pub keys: u64,
    /// The last batch that the snapshot holds.
    pub lsn: u64,
    /// The log's running checksum through it.
    #[serde(with = "hex64")]
    pub checksum: u64,
    pub engine_time_ms: u64,
    /// Where replay goes on: position, epoch and index in the log.
    pub pos: u64,
    pub epoch: u64,
    pub index: u64,
    /// Wall-clock time of creation.
    pub created_ms: u64,
}

impl ManifestEntry {
    /// What the manifest says of this file.
    pub(crate) fn of(snapshot: &SnapshotFile, file: String) -> ManifestEntry {
        let Checkpoint { mark, lsn, checksum, engine_time_ms } = snapshot.header().checkpoint;
        ManifestEntry {
            file,
            bytes: snapshot.bytes(),
            crc32c: snapshot.trailer().crc,
            keys: snapshot.trailer().keys,
            lsn: lsn.0,
            checksum: checksum.0,
            engine_time_ms,
            pos: mark.pos.0,
            epoch: mark.epoch.0,
            index: mark.index.0,
            created_ms: snapshot.header().created_ms,
        }
    }

    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            mark: self.mark(),
            lsn: Lsn(self.lsn),
            checksum: RunningChecksum(self.checksum),
            engine_time_ms: self.engine_time_ms,
        }
    }

    /// Whether it holds all that an older one of the same history holds, and more.
    pub(super) fn comes_after(&self, older: &ManifestEntry) -> bool {
        self.lsn > older.lsn && self.pos >= older.pos
    }

    pub fn mark(&self) -> Mark {
        Mark { pos: Pos(self.pos), epoch: Epoch(self.epoch), index: Idx(self.index) }
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read {}: {error}", file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error(
        "{} is damaged: {detail}. Restore it from a copy; or move it away and run `engramdb snapshot repair`, which \
         checks every snapshot file and lists the good ones anew",
        file.display()
    )]
    Damaged { file: PathBuf, detail: String },
    #[error("{} {level}", file.display())]
    UnknownLevel { file: PathBuf, level: UnknownLevel },
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(with = "hex32")]
    crc32c: u32,
    manifest: Manifest,
}

/// Only what distinguishes a newer manifest from a damaged one.
#[derive(Deserialize)]
struct Needs {
    manifest: NeedsInner,
}

#[derive(Deserialize)]
struct NeedsInner {
    needs: u16,
}

impl Manifest {
    /// Reads the manifest of a directory of snapshots; an empty one if there is none.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Manifest, ManifestError> {
        let file = directory.join(MANIFEST_FILE);
        let bytes = match disk.read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(error) => return Err(ManifestError::Io { file, error }),
        };
        if let Ok(Needs { manifest: NeedsInner { needs } }) = serde_json::from_slice(&bytes)
            && let Err(level) = format_level::check(needs)
        {
            return Err(ManifestError::UnknownLevel { file, level });
        }
        let damaged = |detail: String| ManifestError::Damaged { file: file.clone(), detail };
        let sealed: Sealed = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if sealed.manifest.crc32c() != sealed.crc32c {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        match sealed.manifest.contradiction() {
            Some(fact) => Err(damaged(fact.to_owned())),
            None => Ok(sealed.manifest),
        }
    }

    /// A manifest of these snapshots, the newest first.
    pub fn new(log_id: LogId, parent: LogId, parent_pos: u64, snapshots: Vec<ManifestEntry>) -> Manifest {
        Manifest { needs: BASE_LEVEL, log_id, parent, parent_pos, snapshots }
    }

    /// What of it contradicts itself, if anything does. The writer asserts that nothing does, the reader
    /// checks it: the log is trimmed by the last of the snapshots.
    fn contradiction(&self) -> Option<&'static str> {
        let facts = [
            (format_level::check(self.needs).is_ok(), "its format level is unknown"),
            (
                self.snapshots.is_sorted_by(ManifestEntry::comes_after),
                "its snapshots are not in order, the newest first",
            ),
        ];
        facts.into_iter().find(|(holds, _)| !holds).map(|(_, fact)| fact)
    }

    /// Replaces the manifest; durable on return.
    pub fn store(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        let temporary = self.store_beside(disk, directory)?;
        disk.replace(&temporary, &directory.join(MANIFEST_FILE))
    }

    /// The part of [`Manifest::store`] that needs space; returns the file that is to replace the manifest.
    pub(super) fn store_beside(&self, disk: &dyn Disk, directory: &Path) -> io::Result<PathBuf> {
        assert_eq!(self.contradiction(), None, "{self:?}");
        let sealed = Sealed { crc32c: self.crc32c(), manifest: self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&sealed).map_err(io::Error::other)?;
        bytes.push(b'\n');
        disk.write_beside(&directory.join(MANIFEST_FILE), &bytes)
    }

    pub fn newest(&self) -> Option<&ManifestEntry> {
        self.snapshots.first()
    }

    /// Through which position the log may be trimmed: it has to reach back to the oldest snapshot that is
    /// listed, so that a damaged newest one costs nothing. With fewer than `retain` snapshots it stays whole.
    pub fn trim_through(&self, retain: usize) -> Option<Pos> {
        let oldest = self.snapshots.last().filter(|_| self.snapshots.len() >= retain);
        oldest.map(|oldest| Pos(oldest.pos))
    }

    fn crc32c(&self) -> u32 {
        crc32c::crc32c(&serde_json::to_vec(self).expect("a manifest is plain data"))
    }
}

impl Default for Manifest {
    /// Of a directory without snapshots.
    fn default() -> Manifest {
        Manifest::new(LogId::default(), LogId::default(), 0, Vec::new())
    }
}

fn is_none(id: &LogId) -> bool {
    *id == LogId::default()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

mod hex32 {
    use super::*;

    pub fn serialize<S: Serializer>(value: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:08x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = String::deserialize(deserializer)?;
        u32::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

/// As text: JSON readers lose the low bits of large numbers.
pub(crate) mod hex64 {
    use super::*;

    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:016x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

pub(crate) mod log_id_text {
    use super::*;

    pub fn serialize<S: Serializer>(id: &LogId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogId, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(LogId(number.to_be_bytes()))
    }
}
