//! Makes room for snapshots while the disk is full.
//!
//! A snapshot needs room before it frees any. So other files are freed first: the newest snapshot is checked,
//! and if it is valid, older ones are removed and the log is trimmed below it. Meanwhile the log prepares no
//! segments, and frees its reserve for snapshots. One snapshot is kept, and derived state is not saved,
//! because it can be rebuilt.

use super::schedule::SnapshotSettings;
use engramdb_engine::Engine;
use engramdb_engine::data_dir::SNAPSHOT_DIRECTORY;
use engramdb_engine::snapshot::offline::trim_below_newest;

/// The measures end when this is dropped.
pub struct Shortage<'e> {
    engine: &'e Engine,
}

impl<'e> Shortage<'e> {
    /// If the log finds no room.
    pub fn begin(engine: &'e Engine, settings: &SnapshotSettings) -> Option<Shortage<'e>> {
        let is_short =
            engine.log().room().full.is_some() || engine.writer().is_some_and(|log| log.shortage().is_some());
        is_short.then(|| {
            engine.log().lend_room(true);
            let snapshots = settings.directory.join(SNAPSHOT_DIRECTORY);
            if let Err(error) = trim_below_newest(engine.env(), &snapshots, &**engine.log()) {
                tracing::warn!("the disk is full, and the log stays as long as it is: {error}");
            }
            Shortage { engine }
        })
    }
}

impl Drop for Shortage<'_> {
    fn drop(&mut self) {
        self.engine.log().lend_room(false);
    }
}
