//! Makes a backup.
//!
//! Order of writes to the target: the marker; saved graphs, one snapshot and the log, each synced and read
//! back; their names; the manifest; then the marker is removed. So at any moment the target is either marked
//! as unfinished or complete.

use super::files::{self, Target};
use super::log::{self, History, Pinned, PinnedSegment, ReadThrough};
use super::manifest::{BackupManifest, CHUNK_BYTES};
use super::{BackupError, FOLDERS, Meter, Progress, read_error, write_error};
use crate::data_dir::{LOG_DIRECTORY, SNAPSHOT_DIRECTORY, UNFINISHED_FILE, check_data_directory};
use crate::env::{Access, Env};
use crate::format_level::BASE_LEVEL;
use crate::log::Pos;
use crate::log::local::{Catalog, segment_file};
use crate::log::replay::Checkpoint;
use crate::snapshot::create::{MakeModules, open_listed};
use crate::snapshot::manifest::{Manifest, ManifestEntry};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default)]
pub struct BackupOptions<'a> {
    /// Copy snapshots and graphs even if a hard link is possible.
    pub copies_only: bool,
    /// Folders of the data directory with derived state: files that are written under another name and
    /// renamed.
    pub derived: &'a [&'a str],
    /// The version of this program, for the manifest.
    pub program: &'a str,
}

/// The result of [`create`].
#[derive(Clone, Debug)]
pub struct BackupReport {
    pub manifest: BackupManifest,
    /// Bytes of files that are hard links.
    pub linked_bytes: u64,
    /// Messages for the operator: damaged snapshots of the source that were skipped.
    pub notes: Vec<String>,
}

const MARKER_TEXT: &str = "`engramdb backup` is writing here, or was interrupted: this is not a backup. \
                           Run it again with the same --to; it clears what is here and begins anew.\n";

/// Makes a backup of the data directory `source` in `target`, which must be empty or missing. A server may
/// run on the source; nothing is written there.
///
/// # Errors
/// Damage in the source, an unsuitable target, and errors of the disk. The files written to the target are
/// then removed.
pub fn create(
    env: &Env,
    source: &Path,
    target: &Path,
    modules: MakeModules<'_>,
    options: &BackupOptions<'_>,
    tell: &mut dyn FnMut(Progress),
) -> Result<BackupReport, BackupError> {
    let disk = &*env.disk;
    check_data_directory(disk, source)?;
    if !matches!(disk.exists(&source.join(LOG_DIRECTORY)), Ok(true)) {
        return Err(BackupError::NoLog { directory: source.to_owned() });
    }
    let claimed = Target::prepare(env, target, (UNFINISHED_FILE, MARKER_TEXT), options.derived, &[])?;
    let meter = Meter::new(tell);
    let mut maker =
        Maker { env, source, target, modules, options, meter, linked_bytes: 0, notes: Vec::new() };
    let manifest = claimed.filled(|claimed| {
        let manifest = maker.make()?;
        claimed.sync_folders()?;
        manifest.store(disk, target).map_err(|error| write_error(disk, target, error))?;
        Ok(manifest)
    })?;
    Ok(BackupReport { manifest, linked_bytes: maker.linked_bytes, notes: maker.notes })
}

struct Maker<'a> {
    env: &'a Env,
    source: &'a Path,
    target: &'a Path,
    modules: MakeModules<'a>,
    options: &'a BackupOptions<'a>,
    meter: Meter<'a>,
    linked_bytes: u64,
    notes: Vec<String>,
}

impl Maker<'_> {
    fn make(&mut self) -> Result<BackupManifest, BackupError> {
        self.meter.begin("copying saved graphs", 0);
        // Before the log, so that a graph is seldom ahead of the log. If it is, a start corrects it.
        for folder in self.options.derived {
            self.take_derived(folder)?;
        }
        let [logs, snapshots] = FOLDERS.map(|folder| self.source.join(folder));
        let pinned = log::pin(self.env, &snapshots, &logs)?;
        let snapshot = self.take_snapshot(&pinned)?;
        let from = snapshot.as_ref().map_or(Checkpoint::default(), ManifestEntry::checkpoint);
        let end = self.take_log(&pinned, from)?;
        let mut manifest = BackupManifest {
            needs: BASE_LEVEL,
            program: self.options.program.to_owned(),
            created_ms: self.env.clock.wall_ms(),
            log_id: pinned.log_id,
            parent: pinned.parent,
            parent_pos: pinned.parent_pos.0,
            pos: end.tail.mark.pos.0,
            epoch: end.tail.mark.epoch.0,
            index: end.tail.mark.index.0,
            lsn: end.checkpoint.lsn.0,
            checksum: end.checkpoint.checksum.0,
            engine_time_ms: end.checkpoint.engine_time_ms,
            snapshot_keys: snapshot.map_or(0, |entry| entry.keys),
            batches: end.batches,
            chunk_bytes: CHUNK_BYTES,
            files: Vec::new(),
        };
        self.take_checksums(&mut manifest)?;
        Ok(manifest)
    }

    /// Copies or links the files of a folder. A file that vanishes meanwhile was replaced, or is not needed
    /// any more.
    fn take_derived(&mut self, folder: &str) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        let from = self.source.join(folder);
        let names = match disk.list(&from) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(read_error(&from, error)),
        };
        for name in names.iter().filter(|name| !name.ends_with("tmp")) {
            let path = from.join(name);
            match disk.open(&path, Access::Read) {
                Ok(file) => self.take((&*file, &path), &self.target.join(folder).join(name))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(read_error(&path, error)),
            }
        }
        Ok(())
    }

    fn take(&mut self, from: (&dyn crate::env::DiskFile, &Path), to: &Path) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        if files::link_or_copy(disk, from, to, self.options.copies_only, &mut self.meter)? {
            self.linked_bytes += from.0.size().map_err(|error| read_error(from.1, error))?;
        }
        Ok(())
    }

    /// Copies or links the newest snapshot that is sound and to which the log reaches back, and writes a
    /// manifest that names only this one. `None` if the log needs no snapshot.
    fn take_snapshot(&mut self, pinned: &Pinned) -> Result<Option<ManifestEntry>, BackupError> {
        let disk = &*self.env.disk;
        let directory = self.target.join(SNAPSHOT_DIRECTORY);
        let mut problems = Vec::new();
        for (entry, opened) in &pinned.snapshots {
            let name = &entry.file;
            if !pinned.reaches_back_to(Pos(entry.pos)) {
                problems.push(format!("the log does not reach back to snapshot {name}"));
                continue;
            }
            let (file, path) = match opened {
                Ok((file, path)) => (file, path),
                Err(error) => {
                    problems.push(format!("cannot read {name}: {error}"));
                    continue;
                }
            };
            self.meter.begin("copying the snapshot", entry.bytes);
            let to = directory.join(name);
            self.take((&**file, path), &to)?;
            self.meter.begin("checking the snapshot", entry.bytes);
            let checked = open_listed(self.env, &directory, entry, pinned.log_id).and_then(|snapshot| {
                snapshot.verify_with(self.env, (self.modules)(), &mut |bytes| self.meter.add(bytes))
            });
            match checked {
                Ok(()) => {
                    let (log_id, parent, parent_pos) = (pinned.log_id, pinned.parent, pinned.parent_pos.0);
                    let snapshots = vec![entry.clone()];
                    let manifest = Manifest::new(log_id, parent, parent_pos, snapshots);
                    manifest.store(disk, &directory).map_err(|error| write_error(disk, &directory, error))?;
                    self.notes.append(&mut problems);
                    return Ok(Some(entry.clone()));
                }
                Err(error) if error.is_damage() => {
                    problems.push(error.to_string().replace(&*to.to_string_lossy(), &path.to_string_lossy()));
                    disk.remove(&to).map_err(|error| write_error(disk, &to, error))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if pinned.reaches_back_to(Pos(0)) {
            self.notes.append(&mut problems);
            return Ok(None);
        }
        Err(BackupError::NoSnapshot { directory: self.source.join(SNAPSHOT_DIRECTORY), problems })
    }

    /// Copies the part of the log after a checkpoint, and ends the copy after its last complete entry.
    fn take_log(&mut self, pinned: &Pinned, from: Checkpoint) -> Result<ReadThrough, BackupError> {
        let disk = &*self.env.disk;
        let [logs, source_logs] = [self.target, self.source].map(|directory| directory.join(LOG_DIRECTORY));
        let segments = pinned.segments_after(from.mark.pos);
        self.meter.begin("copying the log", segments.iter().map(|segment| segment.bytes).sum());
        let (last, sealed) = segments.split_last().expect("a log has a segment");
        let names: Vec<String> = segments.iter().map(PinnedSegment::name).collect();
        for PinnedSegment { info, file, .. } in sealed {
            let to = segment_file(&logs, info.header.number);
            files::copy(disk, (&**file, &info.path), &to, &mut self.meter)?;
        }
        let last_copy = segment_file(&logs, last.info.header.number);
        let open = (&*last.file, &*last.info.path);
        files::copy_backwards(disk, open, last.bytes, &last_copy, &mut self.meter)?;
        self.meter.begin("checking the log", segments.iter().map(|segment| segment.bytes).sum());
        let read = Catalog::of(disk, &logs, &names).and_then(|catalog| {
            log::read_through(self.env, &catalog.started, from, &mut |bytes| self.meter.add(bytes))
        });
        let read = read.map_err(|error| log::at_source(error, &source_logs))?;
        let failed = |error| write_error(disk, &last_copy, error);
        let file = disk.open(&last_copy, Access::ReadWrite).map_err(failed)?;
        file.set_size(read.tail.end_offset).and_then(|()| file.sync()).map_err(failed)?;
        let history = History { log_id: pinned.log_id, parent: pinned.parent, parent_pos: pinned.parent_pos };
        let number = last.info.header.number + 1;
        history.close_log(disk, &logs, number, read.tail.mark, &read.checkpoint)?;
        Ok(read)
    }

    /// Records the checksums of all files that were written.
    fn take_checksums(&mut self, manifest: &mut BackupManifest) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        self.meter.begin("computing checksums", 0);
        for folder in FOLDERS.iter().chain(self.options.derived) {
            let directory: PathBuf = self.target.join(folder);
            for name in disk.list(&directory).map_err(|error| read_error(&directory, error))? {
                let name = format!("{folder}/{name}");
                manifest.files.push(files::checksums(disk, self.target, name, &mut self.meter)?);
            }
        }
        Ok(())
    }
}

impl PinnedSegment {
    fn name(&self) -> String {
        let name = self.info.path.file_name().expect("a segment has a name");
        name.to_string_lossy().into_owned()
    }
}
