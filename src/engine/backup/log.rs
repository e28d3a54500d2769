//! The log of a backup: which segments to copy while a writer may append, and reading a copy to its end.

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

/// An open file and its path.
pub type Opened = (Arc<dyn DiskFile>, PathBuf);

/// A snapshot and the log's segments of one store as of one moment, opened: they stay readable even if they
/// are removed.
pub struct Pinned {
    pub log_id: LogId,
    pub parent: LogId,
    pub parent_pos: Pos,
    /// The newest first; an error if the file does not exist.
    pub snapshots: Vec<(ManifestEntry, io::Result<Opened>)>,
    pub segments: Vec<PinnedSegment>,
}

pub struct PinnedSegment {
    pub info: SegmentInfo,
    pub file: Arc<dyn DiskFile>,
    pub bytes: u64,
}

/// The number of attempts. A server that makes snapshots and trims disturbs one or two of them; all of them
/// fail only if something is wrong.
const PIN_ATTEMPTS: usize = 50;

/// Opens all files that a backup needs. `snapshots` and `logs` are the folders of a data directory.
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
    /// Whether the newest snapshot could be opened, the log reaches back to it, and its last segment is the
    /// one being written.
    fn is_of_one_moment(&self) -> bool {
        let reaches = match self.snapshots.first() {
            Some((entry, opened)) => opened.is_ok() && self.reaches_back_to(Pos(entry.pos)),
            None => self.reaches_back_to(Pos(0)),
        };
        let last = self.segments.last().expect("it has one");
        reaches && last.bytes >= last.info.header.size_bytes
    }

    /// Whether the log contains everything after this position.
    pub fn reaches_back_to(&self, pos: Pos) -> bool {
        self.segments.first().is_some_and(|segment| segment.info.header.before.pos <= pos)
    }

    /// The segments with the entries after this position.
    pub fn segments_after(&self, pos: Pos) -> &[PinnedSegment] {
        let begins_before = |segment: &PinnedSegment| segment.info.header.before.pos <= pos;
        &self.segments[self.segments.partition_point(begins_before).saturating_sub(1)..]
    }
}

/// The result of reading a log to its end.
pub struct ReadThrough {
    /// The state after the last complete batch.
    pub checkpoint: Checkpoint,
    /// The state after the last entry, and its end in the last segment.
    pub tail: Tail,
    /// The number of batches after the initial checkpoint.
    pub batches: u64,
}

/// Reads the entries of these segments after a checkpoint, by the rules of recovery.
///
/// `progress` is called with the number of bytes of each batch.
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

/// The fields of a new segment's header, except its place in the log.
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

    /// Writes a segment without entries after the last one: it proves where the log ends. It is durable on
    /// return, except for its name.
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

/// The same error with the path of the copied file instead of that of its copy.
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
        ReadError::UnknownLevel { at, level } => ReadError::UnknownLevel { at: source(at), level },
        ReadError::ForeignLog { at, found, expected } => {
            ReadError::ForeignLog { at: source(at), found, expected }
        }
        other => other,
    }
}
