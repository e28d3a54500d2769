//! Makes the next snapshot, offline: the last one combined with what the log holds beyond it.
//!
//! Memory: the log's tail is read once and its effects are sorted into one *spill* per range of slots (in memory while
//! small, else in temporary files). Then each range is built alone: load its sections of the last snapshot, apply its
//! spill, write its sections. So the peak is about one of [`SLOT_RANGES`] parts of the data. An effect that needs two
//! ranges at once (Rename or Copy between keys of different ranges) makes the whole be built in one go instead.
//!
//! Order of what reaches the disk, so that a kill or power cut at any moment leaves the manifest right: the new file's
//! bytes are synced; it is read back and loaded on trial; it gets its name, and the directory is synced; the manifest
//! is replaced; only then are older snapshots removed, and only after that may the log be trimmed (by the caller, for
//! the log may have a writer of its own).

use super::format::{Content, SLOT_RANGES, SnapshotHeader, range_slots, slot_range};
use super::manifest::{Manifest, ManifestEntry, ManifestError};
use super::spill::Spills;
use super::{SnapshotError, SnapshotFile, SnapshotWriter};
use crate::effect::{Effect, Record, decode_batch};
use crate::env::{DiskLock, Env};
use crate::error::ReplayError;
use crate::keyspace::{Database, Entry, Keyspace};
use crate::log::replay::{Checkpoint, Replay};
use crate::log::{EntryIter, LogId, Lsn, Mark, Pos, ReadError};
use crate::module::Module;
use crate::recovering::Recovering;
use crate::slot::key_slot;
use std::io;
use std::path::{Path, PathBuf};

/// The log that a snapshot is made of, as far as it may be believed: entries that are durable for certain.
pub struct Source<'a> {
    pub log_id: LogId,
    /// The history that this one branched from, and the last position taken over; zero if none.
    pub parent: LogId,
    pub parent_pos: Pos,
    /// Reads what follows a mark.
    pub read: &'a dyn Fn(Mark) -> Box<dyn EntryIter>,
}

/// Makes fresh modules: a state that was half loaded from a damaged file cannot be used again.
pub type MakeModules<'a> = &'a dyn Fn() -> Vec<Box<dyn Module>>;

#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// How many snapshots are kept, the new one included; at least 1.
    pub retain: usize,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions { retain: 2 }
    }
}

/// What [`create`] did.
#[derive(Clone, Debug, Default)]
pub struct CreateReport {
    /// The new snapshot; `None` where the log held nothing new.
    pub created: Option<ManifestEntry>,
    /// The snapshot that it builds on.
    pub base: Option<ManifestEntry>,
    /// Batches taken from the log.
    pub batches: u64,
    /// Whether an effect between two ranges made the whole be built at once.
    pub whole: bool,
    /// Through which position the log may be trimmed now.
    pub trim_through: Option<Pos>,
    /// What the operator should know: a damaged older snapshot, say.
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("another process makes a snapshot in {}", directory.display())]
    Locked { directory: PathBuf },
    #[error("cannot write {}: {error}", file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("batch {lsn} of the log cannot be applied: {cause}")]
    Replay { lsn: Lsn, cause: ReplayError },
    #[error("the snapshots in {} are of log {snapshots}, the log is {log}", directory.display())]
    ForeignLog { directory: PathBuf, snapshots: LogId, log: LogId },
    #[error("the new snapshot did not pass its verification and was not published: {0}")]
    Verification(SnapshotError),
}

/// Makes the next snapshot in `directory`, publishes it in the manifest and removes those that are no longer kept.
/// Takes the directory's own lock, and none that a server holds.
pub fn create(
    env: &Env,
    directory: &Path,
    source: &Source<'_>,
    modules: MakeModules<'_>,
    options: &CreateOptions,
) -> Result<CreateReport, CreateError> {
    let failed = |error| CreateError::Io { file: directory.to_owned(), error };
    env.disk.create_dir_all(directory).map_err(failed)?;
    let _lock = lock(env, directory)?;
    let manifest = Manifest::load(&*env.disk, directory)?;
    if !manifest.snapshots.is_empty() && manifest.log_id != source.log_id {
        let (snapshots, log) = (manifest.log_id, source.log_id);
        return Err(CreateError::ForeignLog { directory: directory.to_owned(), snapshots, log });
    }
    remove_files(env, directory, |name| name.ends_with(".tmp")).map_err(failed)?;
    let mut notes = Vec::new();
    let bases = manifest.snapshots.iter().map(Some).chain([None]);
    for base in bases {
        let maker = Maker { env, directory, source, modules, base };
        match maker.make() {
            Err(CreateError::Snapshot(error)) if error.is_damage() => notes.push(error.to_string()),
            Err(other) => return Err(other),
            Ok((mut report, built)) => {
                report.notes = notes;
                let manifest = publish(&maker, manifest.clone(), built, &mut report, options)?;
                report.trim_through = manifest.trim_through(options.retain);
                return Ok(report);
            }
        }
    }
    unreachable!("the last base is none, which cannot be damaged")
}

/// Only one process at a time writes in a directory of snapshots.
pub(super) fn lock(env: &Env, directory: &Path) -> Result<Box<dyn DiskLock>, CreateError> {
    let directory = directory.to_owned();
    env.disk.lock(&directory).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => CreateError::Locked { directory },
        _ => CreateError::Io { file: directory, error },
    })
}

/// Gives the file its name and the manifest its entry; then removes what is no longer kept.
fn publish(
    maker: &Maker<'_>,
    mut manifest: Manifest,
    built: Option<Built>,
    report: &mut CreateReport,
    options: &CreateOptions,
) -> Result<Manifest, CreateError> {
    let Maker { env, directory, .. } = *maker;
    let disk = &*env.disk;
    let Some(built) = built else {
        // The caller trims the log by this manifest, and the process that named it may have been killed before its sync.
        let synced = disk.sync_directory(directory);
        synced.map_err(|error| CreateError::Io { file: directory.to_owned(), error })?;
        return Ok(manifest);
    };
    let file = directory.join(&built.entry.file);
    let failed = |error| CreateError::Io { file: file.clone(), error };
    disk.rename(&built.temporary, &file).map_err(failed)?;
    disk.sync_directory(directory).map_err(failed)?;
    manifest.needs = 1;
    manifest.log_id = maker.source.log_id;
    // The same name: a damaged one that was made anew.
    manifest.snapshots.retain(|entry| entry.file != built.entry.file);
    manifest.snapshots.insert(0, built.entry.clone());
    manifest.snapshots.truncate(options.retain.max(1));
    manifest.store(disk, directory).map_err(failed)?;
    let kept = |name: &str| manifest.snapshots.iter().any(|entry| entry.file == name);
    remove_files(env, directory, |name| name.ends_with(SUFFIX) && !kept(name)).map_err(failed)?;
    report.created = Some(built.entry);
    Ok(manifest)
}

pub(super) const SUFFIX: &str = ".snapshot";

fn remove_files(env: &Env, directory: &Path, which: impl Fn(&str) -> bool) -> io::Result<()> {
    for name in env.disk.list(directory)?.iter().filter(|name| which(name)) {
        env.disk.remove(&directory.join(name))?;
    }
    Ok(())
}

/// A snapshot that was written and verified, under a temporary name.
struct Built {
    temporary: PathBuf,
    entry: ManifestEntry,
}

/// One attempt, on one base.
struct Maker<'a> {
    env: &'a Env,
    directory: &'a Path,
    source: &'a Source<'a>,
    modules: MakeModules<'a>,
    base: Option<&'a ManifestEntry>,
}

/// What the log's tail came to.
struct Tail {
    spills: Spills,
    checkpoint: Checkpoint,
    batches: u64,
    /// A store without keys, for the modules' ground state.
    ground: Recovering,
}

impl Maker<'_> {
    fn make(&self) -> Result<(CreateReport, Option<Built>), CreateError> {
        let base = self.base.map(|entry| self.open_base(entry)).transpose()?;
        let (tail, whole) = match self.read_tail(base.as_ref(), SLOT_RANGES)? {
            Some(tail) => (tail, false),
            None => (self.read_tail(base.as_ref(), 1)?.expect("one part has no borders"), true),
        };
        let base_lsn = self.base.map_or(Lsn(0), |entry| Lsn(entry.lsn));
        let report = CreateReport {
            base: self.base.cloned(),
            batches: tail.batches,
            whole,
            ..CreateReport::default()
        };
        if tail.checkpoint.lsn == base_lsn {
            return Ok((report, None));
        }
        let built = self.build(base.as_ref(), tail)?;
        Ok((report, Some(built)))
    }

    fn open_base(&self, entry: &ManifestEntry) -> Result<SnapshotFile, SnapshotError> {
        open_listed(self.env, self.directory, entry, self.source.log_id)
    }

    /// Sorts the tail into spills; `None` if an effect spans two of them.
    fn read_tail(&self, base: Option<&SnapshotFile>, parts: usize) -> Result<Option<Tail>, CreateError> {
        let mut ground = Recovering::new(self.env.clone(), 0, (self.modules)());
        if let Some(base) = base {
            base.load_modules(&mut ground)?;
        }
        let mut spills = Spills::new(self.env.clone(), self.directory, parts);
        let from = base.map_or(Checkpoint::default(), |base| base.header().checkpoint);
        let mut replay = Replay::over((self.source.read)(from.mark), from);
        let mut batches = 0;
        while let Some(batch) = replay.next()? {
            batches += 1;
            for record in decode_batch(batch.bytes) {
                let failed = |cause| CreateError::Replay { lsn: batch.lsn, cause };
                let record = record.map_err(|error| failed(error.into()))?;
                let route = Route::of(&record.effect, parts);
                if matches!(route, Route::Ground | Route::All) {
                    ground.apply_record(batch.lsn, &record).map_err(failed)?;
                }
                let spilled = match route {
                    Route::Part(part) => spills.add(part, &record),
                    Route::All => (0..parts).try_for_each(|part| spills.add(part, &record)),
                    Route::Ground => Ok(()),
                    Route::Border => return Ok(None),
                };
                spilled.map_err(|error| self.failed(error))?;
            }
        }
        let checkpoint = replay.checkpoint();
        Ok(Some(Tail { spills, checkpoint, batches, ground }))
    }

    fn build(&self, base: Option<&SnapshotFile>, mut tail: Tail) -> Result<Built, CreateError> {
        let header = SnapshotHeader {
            log_id: self.source.log_id,
            parent: self.source.parent,
            parent_pos: self.source.parent_pos,
            checkpoint: tail.checkpoint,
            created_ms: self.env.clock.wall_ms(),
        };
        let file = format!("{:016}{SUFFIX}", tail.checkpoint.lsn.0);
        let temporary = self.directory.join(format!("{file}.tmp"));
        let failed = |error| CreateError::Io { file: temporary.clone(), error };
        let mut writer = SnapshotWriter::create(&*self.env.disk, &temporary, &header).map_err(failed)?;
        for part in 0..tail.spills.parts() {
            let keyspace = self.part(base, &mut tail, part)?;
            write_part(&mut writer, keyspace.keyspace(), tail.spills.parts(), part).map_err(failed)?;
        }
        write_modules(&mut writer, &tail.ground).map_err(failed)?;
        writer.finish().map_err(failed)?;
        drop(tail);
        let entry = self.verify(&temporary, &header, file)?;
        Ok(Built { temporary, entry })
    }

    /// The keys of one part: the base's, and what the tail did to them.
    fn part(
        &self,
        base: Option<&SnapshotFile>,
        tail: &mut Tail,
        part: usize,
    ) -> Result<Recovering, CreateError> {
        let mut recovering = Recovering::new(self.env.clone(), 0, Vec::new());
        if let Some(base) = base {
            let ranges = part_ranges(tail.spills.parts(), part);
            let (first, last) = (range_slots(ranges.start).0, range_slots(ranges.end - 1).1);
            base.load_slots(&mut recovering, first, last)?;
        }
        let lsn = tail.checkpoint.lsn;
        let mut cause = None;
        let read = tail.spills.read(part, &mut |record| {
            recovering.apply_record(lsn, record).map_err(|error| cause = Some(error)).is_ok()
        });
        read.map_err(|error| self.failed(error))?;
        match cause {
            Some(cause) => Err(CreateError::Replay { lsn, cause }),
            None => Ok(recovering),
        }
    }

    /// Reads the file back; returns what the manifest is to say of it.
    fn verify(
        &self,
        temporary: &Path,
        header: &SnapshotHeader,
        file: String,
    ) -> Result<ManifestEntry, CreateError> {
        let verified = SnapshotFile::open(&*self.env.disk, temporary).and_then(|snapshot| {
            if snapshot.header() != header {
                let (file, detail) = (temporary.to_owned(), "another header was written".to_owned());
                return Err(SnapshotError::Damaged { file, offset_bytes: 0, detail });
            }
            snapshot.verify(self.env, (self.modules)())?;
            Ok(ManifestEntry::of(&snapshot, file))
        });
        verified.map_err(CreateError::Verification)
    }

    fn failed(&self, error: io::Error) -> CreateError {
        CreateError::Io { file: self.directory.to_owned(), error }
    }
}

/// Opens a snapshot of the manifest, and checks that it is the one meant.
pub(crate) fn open_listed(
    env: &Env,
    directory: &Path,
    entry: &ManifestEntry,
    log_id: LogId,
) -> Result<SnapshotFile, SnapshotError> {
    let path = directory.join(&entry.file);
    let snapshot = SnapshotFile::open(&*env.disk, &path)?;
    let header = snapshot.header();
    let same = snapshot.trailer().crc == entry.crc32c && snapshot.bytes() == entry.bytes;
    if !same || header.checkpoint != entry.checkpoint() || header.log_id != log_id {
        let detail = "the manifest names another snapshot under this name".to_owned();
        return Err(SnapshotError::Damaged { file: path, offset_bytes: 0, detail });
    }
    Ok(snapshot)
}

/// Where an effect of the tail has to be applied.
enum Route {
    Part(usize),
    /// To every part, and to the modules: it concerns whole databases.
    All,
    /// To the modules.
    Ground,
    /// It needs two parts at once.
    Border,
}

impl Route {
    fn of(effect: &Effect<'_>, parts: usize) -> Route {
        let part = |key| slot_range(key_slot(key)) * parts / SLOT_RANGES;
        match *effect {
            Effect::Module { .. } => Route::Ground,
            Effect::Flush | Effect::FlushAll | Effect::SwapDatabases { .. } => Route::All,
            Effect::Rename { key, to } | Effect::Copy { key, to, .. } if part(key) != part(to) => {
                Route::Border
            }
            _ => Route::Part(part(effect.key().expect("all other effects have a key"))),
        }
    }
}

fn part_ranges(parts: usize, part: usize) -> std::ops::Range<usize> {
    let width = SLOT_RANGES / parts;
    part * width..(part + 1) * width
}

fn write_part(writer: &mut SnapshotWriter, keyspace: &Keyspace, parts: usize, part: usize) -> io::Result<()> {
    let ranges = part_ranges(parts, part);
    for (number, database) in keyspace.databases().iter().enumerate() {
        let mut buckets: Vec<Vec<&Entry>> = vec![Vec::new(); ranges.len()];
        if ranges.len() > 1 {
            sort_into(&mut buckets, database);
        }
        for (range, bucket) in ranges.clone().zip(buckets) {
            let (first_slot, last_slot) = range_slots(range);
            writer.begin_section(Content::Keys { database: number as u32, first_slot, last_slot })?;
            if ranges.len() > 1 {
                bucket.into_iter().try_for_each(|entry| writer.entry(entry))?;
            } else {
                database.iter().try_for_each(|entry| writer.entry(entry))?;
            }
        }
    }
    Ok(())
}

fn sort_into<'a>(buckets: &mut [Vec<&'a Entry>], database: &'a Database) {
    for entry in database.iter() {
        buckets[slot_range(key_slot(entry.key()))].push(entry);
    }
}

fn write_modules(writer: &mut SnapshotWriter, ground: &Recovering) -> io::Result<()> {
    writer.begin_section(Content::Modules)?;
    for module in ground.modules().iter() {
        let mut saved = Ok(());
        let mut any = false;
        module.save(&mut |record: &Record<'_>| {
            any = true;
            if saved.is_ok() {
                saved = writer.effect(record.database, &record.effect);
            }
        });
        saved?;
        if any {
            writer.module(module.number(), module.name());
        }
    }
    Ok(())
}
