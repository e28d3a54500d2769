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
use super::format::FORMAT_LEVEL;
use crate::env::Disk;
use crate::log::replay::Checkpoint;
use crate::log::{Epoch, Idx, LogId, Lsn, Mark, Pos, RunningChecksum};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::io;
use std::path::{Path, PathBuf};

pub const MANIFEST_FILE: &str = "MANIFEST";

/// The valid snapshots of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The newest first.
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
    #[error("{} needs format level {needs}, this version reads up to {FORMAT_LEVEL}", file.display())]
    NeedsNewer { file: PathBuf, needs: u16 },
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
            && needs > FORMAT_LEVEL
        {
            return Err(ManifestError::NeedsNewer { file, needs });
        }
        match serde_json::from_slice::<Sealed>(&bytes) {
            Ok(sealed) if sealed.manifest.crc32c() == sealed.crc32c => Ok(sealed.manifest),
            Ok(_) => Err(ManifestError::Damaged { file, detail: "its checksum does not match".to_owned() }),
            Err(error) => Err(ManifestError::Damaged { file, detail: error.to_string() }),
        }
    }

    /// Replaces the manifest; durable on return.
    pub fn store(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        let temporary = self.store_beside(disk, directory)?;
        disk.replace(&temporary, &directory.join(MANIFEST_FILE))
    }

    /// The part of [`Manifest::store`] that needs space; returns the file that is to replace the manifest.
    pub(super) fn store_beside(&self, disk: &dyn Disk, directory: &Path) -> io::Result<PathBuf> {
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
