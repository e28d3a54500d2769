//! The log of a backup: what has to be copied of a log that may be written, and reading a copy through to its end.

use super::{BackupError, read_error, write_error};
use crate::env::{Access, Disk, DiskFile, Env};
use crate::log::local::{
    BLOCK_BYTES, Catalog, LocalIter, SegmentHeader, SegmentInfo, Tail, Until, segment_file,
};
use crate::log::replay::{Checkpoint, Replay};
use crate::log::{LogId, Lsn, Mark, Place, Pos, ReadError, RunningChecksum};
use crate::snapshot::manifest::{Manifest, ManifestEntry};
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open file and where it was.
pub type Opened = (Arc<dyn DiskFile>, PathBuf);

/// A snapshot and the log's segments of one store at one moment, opened: they stay readable whatever is removed now.
pub struct Pinned {
    pub log_id: LogId,
    pub parent: LogId,
    pub parent_pos: Pos,
    /// The newest first; an error where there is no such file.
    pub snapshots: Vec<(ManifestEntry, io::Result<Opened>)>,
    pub segments: Vec<PinnedSegment>,
}

pub struct PinnedSegment {
    pub info: SegmentInfo,
    pub file: Arc<dyn DiskFile>,
    pub bytes: u64,
}

/// A server that snapshots and trims gets in the way of one attempt or two; of so many only if something is wrong.
const PIN_ATTEMPTS: usize = 50;

/// Opens all that a backup needs. `snapshots` and `logs` are the folders of a data directory.
pub fn pin(env: &Env, snapshots: &Path, logs: &Path) -> Result<Pinned, BackupError> {
    let mut attempt = 1;
    loop {
        match try_pin(&*env.disk, snapshots, logs) {
            Ok(pinned) if attempt == PIN_ATTEMPTS || pinned.is_of_one_moment() => return Ok(pinned),
            Err(error) if attempt == PIN_ATTEMPTS => return Err(error),
            // A file that was listed was removed, or is just being started.
            _ => attempt += 1,
        }
    }
}

fn try_pin(disk: &dyn Disk, snapshots: &Path, logs: &Path) -> Result<Pinned, BackupError> {
    let manifest = Manifest::load(disk, snapshots)?;
    let open = |entry: ManifestEntry| {
        let path = snapshots.join(&entry.file);
        let file = disk.open(&path, Access::Read).map(|file| (file, path));
        (entry, file)
    };
    let opened = manifest.snapshots.into_iter().map(open).collect();
    let mut segments = Vec::new();
    for info in Catalog::load(disk, logs)?.started {
        let file = disk.open(&info.path, Access::Read).map_err(|error| read_error(&info.path, error))?;
        let bytes = file.size().map_err(|error| read_error(&info.path, error))?;
        segments.push(PinnedSegment { info, file, bytes });
    }
    let Some(first) = segments.first().map(|segment| segment.info.header) else {
        return Err(BackupError::NoLog { directory: logs.parent().unwrap_or(logs).to_owned() });
    };
    let pinned = Pinned {
        log_id: first.log_id,
        parent: first.parent,
        parent_pos: first.parent_pos,
        snapshots: opened,
        segments,
    };
    if !pinned.snapshots.is_empty() && manifest.log_id != pinned.log_id {
        let directory = snapshots.to_owned();
        return Err(BackupError::ForeignLog { directory, snapshots: manifest.log_id, log: pinned.log_id });
    }
    Ok(pinned)
}

impl Pinned {
    /// Whether the newest snapshot was still there, the log reaches back to it, and its last segment is the one that is
    /// written.
    fn is_of_one_moment(&self) -> bool {
        let reaches = match self.snapshots.first() {
            Some((entry, opened)) => opened.is_ok() && self.reaches_back_to(Pos(entry.pos)),
            None => self.reaches_back_to(Pos(0)),
        };
        let last = self.segments.last().expect("it has one");
        reaches && last.bytes >= last.info.header.size_bytes
    }

    /// Whether the log holds all that follows this position.
    pub fn reaches_back_to(&self, pos: Pos) -> bool {
        self.segments.first().is_some_and(|segment| segment.info.header.before.pos <= pos)
    }

    /// The segments that hold what follows this position.
    pub fn segments_after(&self, pos: Pos) -> &[PinnedSegment] {
        let begins_before = |segment: &PinnedSegment| segment.info.header.before.pos <= pos;
        &self.segments[self.segments.partition_point(begins_before).saturating_sub(1)..]
    }
}

/// What reading a log through came to.
pub struct ReadThrough {
    /// Behind the last whole batch.
    pub checkpoint: Checkpoint,
    /// Behind the last entry, and where it ends in the last segment.
    pub tail: Tail,
    /// Batches after the checkpoint that was begun from.
    pub batches: u64,
}

/// Reads what these segments hold after a checkpoint, by the rules of recovery.
///
/// `progress` hears of the bytes of each batch.
pub fn read_through(
    env: &Env,
    segments: &[SegmentInfo],
    from: Checkpoint,
    progress: &mut dyn FnMut(u64),
) -> Result<ReadThrough, ReadError> {
    let found = Arc::new(Mutex::new(None));
    let entries = LocalIter::new(env.clone(), segments.to_vec(), from.mark.pos, Until::End, found.clone());
    let mut replay = Replay::over(Box::new(entries), from);
    let mut batches = 0;
    while let Some(batch) = replay.next()? {
        batches += 1;
        progress(batch.bytes.len() as u64);
    }
    let checkpoint = replay.finish().checkpoint;
    let tail = found.lock().take().expect("the reader has reached the end");
    Ok(ReadThrough { checkpoint, tail, batches })
}

/// What the header of a new segment says beside its place in the log.
#[derive(Clone, Copy)]
pub struct History {
    pub log_id: LogId,
    pub parent: LogId,
    pub parent_pos: Pos,
}

impl History {
    pub fn header(
        self,
        number: u64,
        size_bytes: u64,
        before: Mark,
        lsn: Lsn,
        checksum: RunningChecksum,
    ) -> SegmentHeader {
        let History { log_id, parent, parent_pos } = self;
        SegmentHeader { log_id, number, size_bytes, before, lsn, checksum, parent, parent_pos }
    }

    /// Writes a segment without entries behind the last one: it proves where the log ends. Durable on return, but for the name.
    pub fn close_log(
        self,
        disk: &dyn Disk,
        logs: &Path,
        number: u64,
        end: Mark,
        checkpoint: &Checkpoint,
    ) -> Result<(), BackupError> {
        let header = self.header(number, BLOCK_BYTES as u64, end, checkpoint.lsn, checkpoint.checksum);
        let path = segment_file(logs, number);
        let failed = |error| write_error(disk, &path, error);
        let file = disk.create(&path).map_err(failed)?;
        file.write_at(&header.encode(), 0).and_then(|()| file.sync()).map_err(failed)
    }
}

/// The same error, told of the file that was copied and not of its copy.
pub fn at_source(error: ReadError, logs: &Path) -> ReadError {
    let source = |at: Place| match at {
        Place::File { file, offset_bytes } => match file.file_name() {
            Some(name) => Place::File { file: logs.join(name), offset_bytes },
            None => Place::File { file, offset_bytes },
        },
        other => other,
    };
    match error {
        ReadError::Corrupt { at, detail } => ReadError::Corrupt { at: source(at), detail },
        ReadError::NeedsNewer { at, needs } => ReadError::NeedsNewer { at: source(at), needs },
        ReadError::ForeignLog { at, found, expected } => {
            ReadError::ForeignLog { at: source(at), found, expected }
        }
        other => other,
    }
}
