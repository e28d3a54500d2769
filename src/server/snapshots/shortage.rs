//! Snapshots while the disk is full: what makes room.
//!
//! A snapshot needs room before it gives any. So what can be freed without writing is freed first: the newest snapshot is
//! checked, and if it is sound the log is trimmed below it, which older snapshots are then of no use without. The log
//! leaves its own claim on the disk's room to the snapshot meanwhile, with what it holds back for one. Of snapshots one is
//! kept, and derived state is not saved: it can be rebuilt.

use super::background::SnapshotSettings;
use engramdb_engine::Engine;
use engramdb_engine::recovery::SNAPSHOT_DIRECTORY;
use engramdb_engine::snapshot::offline::trim_below_newest;

/// Ends when it is dropped.
pub struct Shortage<'e> {
    engine: &'e Engine,
    /// The newest snapshot was read and is sound, so that older ones can go.
    pub is_newest_sound: bool,
}

impl<'e> Shortage<'e> {
    /// If the log finds no room.
    pub fn begin(engine: &'e Engine, settings: &SnapshotSettings) -> Option<Shortage<'e>> {
        let is_short = engine.log().room().full.is_some() || engine.pipeline().shortage().is_some();
        is_short.then(|| {
            engine.log().lend_room(true);
            let snapshots = settings.directory.join(SNAPSHOT_DIRECTORY);
            let trimmed = trim_below_newest(engine.env(), &snapshots, &**engine.log());
            let is_newest_sound = trimmed.unwrap_or_else(|error| {
                tracing::warn!("the disk is full, and the log stays as long as it is: {error}");
                false
            });
            Shortage { engine, is_newest_sound }
        })
    }
}

impl Drop for Shortage<'_> {
    fn drop(&mut self) {
        self.engine.log().lend_room(false);
    }
}
