//! Snapshots: a state of a log's history in one file, made of the effects that rebuild it.
//!
//! A snapshot holds, for every entry, the effects that build it on an empty keyspace, and then each module's
//! ground state. Loading one is applying them; there is no second description of a value. They are made
//! offline ([`create()`]) from the previous snapshot and sealed segments of the log, and listed in a
//! [`manifest`], which alone says which files are valid.
//!
//! Invariants:
//! - a snapshot is exactly the state after the batch that its checkpoint names, expired keys included
//!   (whether a key has expired is its reader's question);
//! - every byte of the file is under a checksum, and the file is a chain: block, section, footer, trailer
//!   ([`format`]);
//! - the manifest names a snapshot only once its bytes and its name are durable and it was read back whole;
//! - a manifest that is read has durable bytes, for it gets its name after their sync; its name is made
//!   durable before anything is removed because of it, snapshots or log. A start removes nothing, so it needs
//!   no more than the file;
//! - the log is trimmed only below what the oldest snapshot kept needs.
//!
//! What stays out: derived state of modules (graphs). Modules keep that themselves, and can rebuild it.

mod carry;
pub mod create;
pub mod format;
mod loader;
pub mod manifest;
pub mod offline;
mod repair;
mod scratch;
mod spill;
mod writer;

pub use crate::keyspace::digest;
pub use create::create;
pub use loader::{SnapshotFile, fuzz_load};
pub use offline::{create_offline, create_stopped};
pub use repair::repair;
pub use writer::SnapshotWriter;

use crate::effect::EffectDecodeError;
use crate::error::ReplayError;
use crate::format_level::UnknownLevel;
use std::io;
use std::path::PathBuf;

/// Why a snapshot cannot be read. Everything but `Io` and `UnknownLevel` says that its bytes are not what was
/// written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot read {}: {error}", file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error("{} is damaged at offset {offset_bytes}: {detail}", file.display())]
    Damaged { file: PathBuf, offset_bytes: u64, detail: String },
    #[error("{} {level}", file.display())]
    UnknownLevel { file: PathBuf, level: UnknownLevel },
    #[error(
        "{} holds data of the module {name} (number {number}), which this program does not have",
        file.display()
    )]
    MissingModule { file: PathBuf, name: String, number: u8 },
    #[error("{} cannot be applied: {cause}", file.display())]
    Replay { file: PathBuf, cause: ReplayError },
}

impl SnapshotError {
    /// Whether another snapshot may do where this one did not.
    pub fn is_damage(&self) -> bool {
        match self {
            SnapshotError::Io { .. } | SnapshotError::Damaged { .. } => true,
            SnapshotError::Replay { cause, .. } => {
                matches!(
                    cause,
                    ReplayError::Decode(
                        EffectDecodeError::Truncated
                            | EffectDecodeError::Malformed(_)
                            | EffectDecodeError::Database(_)
                    )
                )
            }
            SnapshotError::UnknownLevel { .. } | SnapshotError::MissingModule { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests;
