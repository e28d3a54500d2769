//! Offline snapshots around the engine's `snapshot`: the background process that `serve` starts, and the tools.
//!
//! - [`background`]: decides when a snapshot is made, and runs `engramdb snapshot create` as a process of its own;
//! - [`backup`]: `backup`, `backup verify` and `restore`;
//! - [`tools`]: `snapshot create|list|verify|repair` and `log verify|dump`;
//! - `shortage`: what makes room for one while the disk is full;
//! - `machine`: memory, priority and parentage of processes, as Linux has them.

pub mod background;
pub mod backup;
mod dump;
mod machine;
mod retries;
mod shortage;
mod table;
pub mod tools;

pub use background::{BackgroundSnapshots, SnapshotSettings};
pub use backup::{BackupArgs, RestoreArgs};
pub use tools::{LogCommand, SnapshotCommand};
