//! Offline snapshots around the engine's `snapshot`: the background process that `serve` starts, and the
//! tools.
//!
//! - [`schedule`]: decides when a snapshot is made, and runs `engramdb snapshot create` as a process of its
//!   own;
//! - [`backup`]: `backup`, `backup verify` and `restore`;
//! - [`tools`]: `snapshot create|list|verify|repair` and `log verify|dump`;
//! - `shortage`: what makes room for one while the disk is full;
//! - `machine`: memory, priority and parentage of processes, as Linux has them.

pub mod backup;
mod dump;
mod machine;
mod retries;
pub mod schedule;
mod shortage;
mod snapshotter;
mod text_table;
pub mod tools;

pub use backup::{BackupArgs, RestoreArgs};
pub use schedule::{BackgroundSnapshots, SnapshotSettings};
pub use snapshotter::{NoSnapshots, Snapshotter};
pub use tools::{LogCommand, SnapshotCommand};
