//! Restores a backup, or a copy of a directory of snapshots, to a data directory with a new history.
//!
//! Snapshots and entries of the log contain the id of their history, so they are written again with the new
//! id: the header and the trailer of the snapshot, and the header of every entry. Positions, batches and
//! running checksums stay the same.
//!
//! Order of writes to the target: the marker; graphs, the snapshot, the log and their manifest, each synced;
//! their names; everything is read back; then the marker is removed. A start refuses the directory while the
//! marker exists.

use super::files::{self, Target};
use super::log::History;
use super::manifest::{BackupFile, BackupManifest, CHUNK_BYTES};
use super::verify::{brings_back, has_log, no_backup};
use super::{BackupError, Meter, Progress, read_error, write_error};
use crate::data_dir::{LOG_DIRECTORY, RESTORING_FILE, SNAPSHOT_DIRECTORY, UNFINISHED_FILE};
use crate::env::{Access, Disk, DiskFile, Env};
use crate::format_level::BASE_LEVEL;
use crate::log::entry::{EntryHeader, HEADER_BYTES as ENTRY_HEADER_BYTES, seal_entry};
use crate::log::local::{BLOCK_BYTES, Catalog, LocalIter, SegmentInfo, Until, segment_file};
use crate::log::{EntryIter, LogId, Pos, ReadEntry, ReadError, Step, Wait};
use crate::snapshot::SnapshotFile;
use crate::snapshot::create::{MakeModules, open_listed};
use crate::snapshot::format::{SnapshotHeader, TRAILER_BYTES};
use crate::snapshot::manifest::{MANIFEST_FILE, Manifest, ManifestEntry};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of [`restore`].
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// The new history.
    pub log_id: LogId,
    /// The restored backup. It has no `files` if the source was a directory of snapshots.
    pub source: BackupManifest,
    /// Whether the source was a directory of snapshots: the part of the log after the newest one is then
    /// missing.
    pub snapshots_only: bool,
    /// Messages for the operator: damaged snapshots that were skipped.
    pub notes: Vec<String>,
}

const MARKER_TEXT: &str = "`engramdb restore` is writing here, or was interrupted: no server starts on this. \
                           Run it again with the same --to; it clears what is here and begins anew.\n";

/// Restores the backup in `source`, or the newest sound snapshot of a copy of a directory `snapshots`, to
/// `target`, which must be empty or missing. `derived` names the folders of derived state.
///
/// # Errors
/// Damage in the source, an unsuitable target, and errors of the disk. The files written to the target are
/// then removed.
pub fn restore(
    env: &Env,
    source: &Path,
    target: &Path,
    modules: MakeModules<'_>,
    derived: &[&str],
    tell: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, BackupError> {
    let mut plan = Plan::find(env, source, modules)?;
    let claimed = Target::prepare(env, target, (RESTORING_FILE, MARKER_TEXT), derived, &[])?;
    let mut fresh_id = [0; 16];
    env.random.fill(&mut fresh_id);
    let history =
        History { log_id: LogId(fresh_id), parent: plan.manifest.log_id, parent_pos: Pos(plan.manifest.pos) };
    let notes = std::mem::take(&mut plan.notes);
    let mut restorer = Restorer { env, target, history, plan, meter: Meter::new(tell) };
    claimed.filled(|claimed| {
        restorer.write(derived)?;
        claimed.sync_folders()?;
        let expected =
            BackupManifest { log_id: history.log_id, files: Vec::new(), ..restorer.plan.manifest.clone() };
        brings_back(env, target, modules, &expected, &mut restorer.meter)
    })?;
    let snapshots_only = restorer.plan.manifest.files.is_empty();
    Ok(RestoreReport { log_id: history.log_id, source: restorer.plan.manifest, snapshots_only, notes })
}

/// What to restore.
struct Plan {
    /// The directory of the files of `manifest`.
    source: PathBuf,
    snapshots: PathBuf,
    manifest: BackupManifest,
    snapshot: Option<ManifestEntry>,
    notes: Vec<String>,
}

impl Plan {
    fn find(env: &Env, source: &Path, modules: MakeModules<'_>) -> Result<Plan, BackupError> {
        if let Some(manifest) = BackupManifest::load(&*env.disk, source)? {
            return Plan::of_backup(env, source, manifest);
        }
        let exists = |path: PathBuf| env.disk.exists(&path).map_err(|error| read_error(&path, error));
        if exists(source.join(MANIFEST_FILE))? {
            return Plan::of_snapshots(env, source, modules);
        }
        let snapshots = source.join(SNAPSHOT_DIRECTORY);
        let is_other = has_log(env, source)?
            || exists(source.join(UNFINISHED_FILE))?
            || exists(source.join(RESTORING_FILE))?;
        if !is_other && exists(snapshots.join(MANIFEST_FILE))? {
            return Plan::of_snapshots(env, &snapshots, modules);
        }
        Err(no_backup(env, source)?)
    }

    fn of_backup(env: &Env, source: &Path, manifest: BackupManifest) -> Result<Plan, BackupError> {
        // Snapshots and graphs are checked while they are copied.
        let small = format!("{SNAPSHOT_DIRECTORY}/{MANIFEST_FILE}");
        for file in manifest.files.iter().filter(|file| file.file == small || in_log(file)) {
            files::check(&*env.disk, source, file, manifest.chunk_bytes, &mut |_, _| Ok(()))?;
        }
        let snapshots = source.join(SNAPSHOT_DIRECTORY);
        let snapshot = match manifest.names_in(SNAPSHOT_DIRECTORY).is_empty() {
            true => None,
            false => Manifest::load(&*env.disk, &snapshots)?.newest().cloned(),
        };
        Ok(Plan { source: source.to_owned(), snapshots, manifest, snapshot, notes: Vec::new() })
    }

    /// Selects the newest sound snapshot. The history continues right after it.
    fn of_snapshots(env: &Env, snapshots: &Path, modules: MakeModules<'_>) -> Result<Plan, BackupError> {
        let listed = Manifest::load(&*env.disk, snapshots)?;
        let mut problems = Vec::new();
        for entry in &listed.snapshots {
            let opened = open_listed(env, snapshots, entry, listed.log_id);
            match opened.and_then(|snapshot| snapshot.verify(env, modules())) {
                Ok(()) => {
                    let manifest = ending_at(entry, &listed);
                    let snapshot = Some(entry.clone());
                    let (source, snapshots) = (snapshots.to_owned(), snapshots.to_owned());
                    return Ok(Plan { source, snapshots, manifest, snapshot, notes: problems });
                }
                Err(error) if error.is_damage() => problems.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(BackupError::NoSnapshot { directory: snapshots.to_owned(), problems })
    }
}

/// The manifest of a backup that consists of this snapshot alone.
fn ending_at(entry: &ManifestEntry, listed: &Manifest) -> BackupManifest {
    BackupManifest {
        needs: BASE_LEVEL,
        program: String::new(),
        created_ms: entry.created_ms,
        log_id: listed.log_id,
        parent: listed.parent,
        parent_pos: listed.parent_pos,
        pos: entry.pos,
        epoch: entry.epoch,
        index: entry.index,
        lsn: entry.lsn,
        checksum: entry.checksum,
        engine_time_ms: entry.engine_time_ms,
        snapshot_keys: entry.keys,
        batches: 0,
        chunk_bytes: CHUNK_BYTES,
        files: Vec::new(),
    }
}

fn in_log(file: &BackupFile) -> bool {
    Path::new(&file.file).starts_with(LOG_DIRECTORY)
}

struct Restorer<'a> {
    env: &'a Env,
    target: &'a Path,
    history: History,
    plan: Plan,
    meter: Meter<'a>,
}

impl Restorer<'_> {
    fn write(&mut self, derived: &[&str]) -> Result<(), BackupError> {
        let total_bytes =
            self.plan.manifest.bytes().max(self.plan.snapshot.as_ref().map_or(0, |entry| entry.bytes));
        self.meter.begin("restoring", total_bytes);
        let is_derived =
            |file: &BackupFile| derived.iter().any(|folder| Path::new(&file.file).starts_with(folder));
        for file in self.plan.manifest.files.clone().iter().filter(|file| is_derived(file)) {
            let copy = self.copy_checked(file)?;
            copy.sync()
                .map_err(|error| write_error(&*self.env.disk, &self.target.join(&file.file), error))?;
        }
        if let Some(entry) = self.plan.snapshot.clone() {
            self.write_snapshot(&entry)?;
        }
        self.write_log()
    }

    /// Copies a file of the backup to its place and checks it. Returns the copy, which is not yet durable.
    fn copy_checked(&mut self, record: &BackupFile) -> Result<Arc<dyn DiskFile>, BackupError> {
        let (disk, to) = (&*self.env.disk, self.target.join(&record.file));
        let failed = |error| write_error(disk, &to, error);
        let file = disk.create(&to).map_err(failed)?;
        let meter = &mut self.meter;
        files::check(
            disk,
            &self.plan.source,
            record,
            self.plan.manifest.chunk_bytes,
            &mut |offset, chunk| {
                meter.add(chunk.len() as u64);
                file.write_at(chunk, offset).map_err(failed)
            },
        )?;
        Ok(file)
    }

    /// Copies the snapshot, writes the ids of the new history to it, and writes the manifest that names it.
    fn write_snapshot(&mut self, entry: &ManifestEntry) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        let directory = self.target.join(SNAPSHOT_DIRECTORY);
        let (from, to) = (self.plan.snapshots.join(&entry.file), directory.join(&entry.file));
        let name = format!("{SNAPSHOT_DIRECTORY}/{}", entry.file);
        match self.plan.manifest.files.iter().find(|file| file.file == name).cloned() {
            Some(record) => drop(self.copy_checked(&record)?),
            None => {
                let file = disk.open(&from, Access::Read).map_err(|error| read_error(&from, error))?;
                files::copy(disk, (&*file, &from), &to, &mut self.meter)?;
            }
        }
        // Its checksums are verified with the old id. The new checksums would match in any case.
        let snapshot = open_listed(self.env, &directory, entry, self.plan.manifest.log_id)?;
        relabel(disk, &snapshot, self.history).map_err(|error| write_error(disk, &to, error))?;
        let snapshot = SnapshotFile::open(disk, &to)?;
        let History { log_id, parent, parent_pos } = self.history;
        let listed = vec![ManifestEntry::of(&snapshot, entry.file.clone())];
        let manifest = Manifest::new(log_id, parent, parent_pos.0, listed);
        manifest.store(disk, &directory).map_err(|error| write_error(disk, &directory, error))
    }

    /// Writes the log's segments for the new history, and ends the log.
    fn write_log(&mut self) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        let [from, to] = [&self.plan.source, self.target].map(|directory| directory.join(LOG_DIRECTORY));
        let names = self.plan.manifest.names_in(LOG_DIRECTORY);
        let segments = Catalog::of(disk, &from, &names)?.started;
        let mut number = 0;
        if let Some(first) = segments.first().map(|segment| segment.header.before.pos) {
            let mut entries =
                LocalIter::new(self.env.clone(), segments.clone(), first, Until::End, Arc::default());
            let mut open: Option<(PathBuf, SegmentWriter<'_>)> = None;
            while let Step::Entry(entry) = entries.next(Wait::No)? {
                let place = entries.place();
                if let Some(detail) = entry.header.contradiction(entry.payload.len()) {
                    return Err(ReadError::Corrupt { at: place, detail: detail.to_owned() }.into());
                }
                let path = place.file().expect("segments are files").to_owned();
                if open.as_ref().is_none_or(|(current, _)| *current != path) {
                    if let Some((_, before)) = open.take() {
                        before.finish()?;
                    }
                    number += 1;
                    let segment = segments.iter().find(|segment| segment.path == path);
                    let segment = segment.expect("the entry was read from it");
                    let writer = SegmentWriter::create(disk, &to, number, segment, self.history)?;
                    open = Some((path, writer));
                }
                let (_, writer) = open.as_mut().expect("just opened");
                self.meter.add(writer.append(entry)?);
            }
            if let Some((_, last)) = open {
                last.finish()?;
            }
        }
        let manifest = &self.plan.manifest;
        self.history.close_log(disk, &to, number + 1, manifest.mark(), &manifest.checkpoint())
    }
}

/// Writes the ids of another history to a snapshot's header and trailer; durable on return.
fn relabel(disk: &dyn Disk, snapshot: &SnapshotFile, history: History) -> std::io::Result<()> {
    let file = disk.open(snapshot.path(), Access::ReadWrite)?;
    let History { log_id, parent, parent_pos } = history;
    let header = SnapshotHeader { log_id, parent, parent_pos, ..*snapshot.header() }.encode();
    let mut trailer = *snapshot.trailer();
    let trailer_offset = snapshot.bytes() - TRAILER_BYTES as u64;
    let mut footer = vec![0; (trailer_offset - trailer.footer_offset) as usize];
    file.read_full_at(&mut footer, trailer.footer_offset)?;
    file.write_at(&header, 0)?;
    file.write_at(&trailer.encode(&header, &footer), trailer_offset)?;
    file.sync()
}

/// Writes a segment of the new history, entry by entry.
struct SegmentWriter<'a> {
    disk: &'a dyn Disk,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    number: u64,
    /// The segment that is copied.
    source: SegmentInfo,
    history: History,
    buffer: Vec<u8>,
    /// The offset of the buffer in the file.
    offset: u64,
}

const BUFFER_BYTES: usize = 1 << 20;

impl<'a> SegmentWriter<'a> {
    fn create(
        disk: &'a dyn Disk,
        logs: &Path,
        number: u64,
        source: &SegmentInfo,
        history: History,
    ) -> Result<SegmentWriter<'a>, BackupError> {
        let path = segment_file(logs, number);
        let file = disk.create(&path).map_err(|error| write_error(disk, &path, error))?;
        let (source, offset) = (source.clone(), BLOCK_BYTES as u64);
        Ok(SegmentWriter { disk, file, path, number, source, history, buffer: Vec::new(), offset })
    }

    /// Returns the number of bytes of the entry.
    fn append(&mut self, entry: ReadEntry) -> Result<u64, BackupError> {
        let header = EntryHeader { log_id: self.history.log_id, segment: self.number, ..entry.header };
        let mut bytes = vec![0; ENTRY_HEADER_BYTES];
        bytes.extend_from_slice(&entry.payload);
        seal_entry(&header, &mut bytes);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len() as u64)
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        let written = self.file.write_at(&self.buffer, self.offset);
        written.map_err(|error| write_error(self.disk, &self.path, error))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the header, which contains the size of the file; durable on return, except for the name.
    fn finish(mut self) -> Result<(), BackupError> {
        self.flush()?;
        let before = &self.source.header;
        let header =
            self.history.header(self.number, self.offset, before.before, before.lsn, before.checksum);
        let written = self.file.write_at(&header.encode(), 0).and_then(|()| self.file.sync());
        written.map_err(|error| write_error(self.disk, &self.path, error))
    }
}
