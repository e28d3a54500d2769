//! Makes the next snapshot, offline: the last one combined with what the log holds beyond it.
//!
//! Memory: the log's tail is read once and its effects are sorted into one *spill* per range of slots (in
//! memory while small, else in temporary files). Then each range is built alone: load its sections of the
//! last snapshot, apply its spill, write its sections. So the peak is about one of [`SLOT_RANGES`] parts of
//! the data. Where an effect needs two ranges at once (Rename or Copy between keys of different ranges), the
//! values of the keys that such effects name are followed through the tail first, in bounded memory
//! ([`super::carry`]); each range then gets what became of its own.
//!
//! Order of what reaches the disk, so that a kill or power cut at any moment leaves the manifest right: the
//! new file's bytes are synced; it is read back and loaded on trial; it gets its name, and the directory is
//! synced; the manifest is replaced; only then are older snapshots removed, and only after that may the log
//! be trimmed (by the caller, for the log may have a writer of its own).

use super::carry::{Carrier, CarryError};
use super::format::{SLOT_RANGES, SectionContent, SnapshotHeader, Trailer, range_slots, slot_range};
use super::manifest::{MANIFEST_FILE, Manifest, ManifestEntry, ManifestError};
use super::spill::Spills;
use super::{SnapshotError, SnapshotFile, SnapshotWriter};
use crate::effect::{Cause, Effect, Record, decode_batch};
use crate::env::{DiskLock, Env};
use crate::error::ReplayError;
use crate::format_level::BASE_LEVEL;
use crate::keyspace::{DataTypes, Keyspace};
use crate::log::replay::{Checkpoint, Replay};
use crate::log::{EntryIter, LogId, Lsn, Mark, Pos, ReadError};
use crate::module::{Module, Modules};
use crate::shard::recovering::Recovering;
use crate::slot::key_slot;
use std::io;
use std::path::{Path, PathBuf};

/// The log that a snapshot is made of, as far as it may be believed: entries that are durable for certain.
pub struct LogSource<'a> {
    pub log_id: LogId,
    /// The history that this one branched from, and the last position taken over; zero if none.
    pub parent: LogId,
    pub parent_pos: Pos,
    /// Reads what follows a mark; the same whenever it is called.
    pub read: &'a dyn Fn(Mark) -> Box<dyn EntryIter>,
}

/// Makes fresh modules: a state that was half loaded from a damaged file cannot be used again.
pub type MakeModules<'a> = &'a dyn Fn() -> Vec<Box<dyn Module>>;

#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// How many snapshots are kept, the new one included; at least 1.
    pub retain: usize,
    /// How much memory, about, values that are carried between ranges of slots take, beside one range.
    pub carry_bytes: usize,
}

/// See [`CreateOptions::carry_bytes`].
pub const CARRY_BYTES: usize = 32 << 20;

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions { retain: 2, carry_bytes: CARRY_BYTES }
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
    /// Keys whose values had to be followed between ranges of slots; 0 if the tail moves none.
    pub carried: u64,
    /// The most memory that keys and values took at a time, in bytes, by estimate.
    pub held_bytes_max: usize,
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
    #[error(
        "the disk has no room for a new snapshot: cannot write {}: {error}. {free_mib} MiB are free; {}. What was written \
         of it is removed, and what was there before stays as it is. Make room on the disk, or delete keys, and try again",
        file.display(),
        last_mib.map_or("it takes about as much as the data set".to_owned(), |mib| format!("the last one took {mib} MiB"))
    )]
    NoRoom { file: PathBuf, error: io::Error, free_mib: u64, last_mib: Option<u64> },
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

/// Makes the next snapshot in `directory`, publishes it in the manifest and removes those that are no longer
/// kept. Takes the directory's own lock, and none that a server holds.
pub fn create(
    env: &Env,
    directory: &Path,
    source: &LogSource<'_>,
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
    remove_files(env, directory, is_temporary).map_err(failed)?;
    let made = make(env, directory, source, modules, options, &manifest);
    made.map_err(|error| {
        // What is left of it takes room, which may be what was missing. The next attempt removes what is
        // still there.
        let _ = remove_files(env, directory, is_temporary);
        no_room(env, directory, &manifest, error)
    })
}

fn is_temporary(name: &str) -> bool {
    name.ends_with(".tmp")
}

/// The error, and where it says that there was no room, how much there is and how much the last one took.
fn no_room(env: &Env, directory: &Path, manifest: &Manifest, error: CreateError) -> CreateError {
    match error {
        CreateError::Io { file, error } if is_no_room(&error) => {
            let free_mib = env.disk.free_bytes(directory).map_or(0, |bytes| bytes >> 20);
            let last_mib = manifest.newest().map(|newest| (newest.bytes >> 20) + 1);
            CreateError::NoRoom { file, error, free_mib, last_mib }
        }
        other => other,
    }
}

pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes the snapshot on the newest base that is sound, and publishes it.
fn make(
    env: &Env,
    directory: &Path,
    source: &LogSource<'_>,
    modules: MakeModules<'_>,
    options: &CreateOptions,
    manifest: &Manifest,
) -> Result<CreateReport, CreateError> {
    let mut notes = Vec::new();
    let types = Modules::new(modules()).data_types();
    let bases = manifest.snapshots.iter().map(Some).chain([None]);
    for base in bases {
        let carry_bytes = options.carry_bytes;
        let maker = Maker { env, directory, source, modules, types: types.clone(), base, carry_bytes };
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
        keep(env, directory, &mut manifest, options.retain.max(1))?;
        return Ok(manifest);
    };
    let base_lsn = maker.base.map_or(0, |base| base.lsn);
    assert!(built.entry.lsn > base_lsn, "a new snapshot holds more than the one that it builds on");
    let file = directory.join(&built.entry.file);
    let failed = |error| CreateError::Io { file: file.clone(), error };
    manifest.needs = BASE_LEVEL;
    manifest.log_id = maker.source.log_id;
    (manifest.parent, manifest.parent_pos) = (maker.source.parent, maker.source.parent_pos.0);
    // One that holds as much, or more, is damaged: otherwise it would have been the base.
    manifest.snapshots.retain(|entry| built.entry.comes_after(entry));
    manifest.snapshots.insert(0, built.entry.clone());
    manifest.snapshots.truncate(options.retain.max(1));
    // What needs space comes first, so that a full disk leaves everything as it was.
    let listed = manifest.store_beside(disk, directory).map_err(failed)?;
    disk.replace(&built.temporary, &file).map_err(failed)?;
    disk.replace(&listed, &directory.join(MANIFEST_FILE)).map_err(failed)?;
    remove_unlisted(env, directory, &manifest)?;
    report.created = Some(built.entry);
    Ok(manifest)
}

/// Keeps the newest `retain` snapshots of the manifest, and removes the others. The manifest is durable on
/// return: the caller trims the log by it.
pub(super) fn keep(
    env: &Env,
    directory: &Path,
    manifest: &mut Manifest,
    retain: usize,
) -> Result<(), CreateError> {
    assert!(retain > 0, "the newest snapshot stays");
    if manifest.snapshots.len() <= retain {
        // The process that named the manifest may have been killed before its sync.
        let synced = env.disk.sync_directory(directory);
        return synced.map_err(|error| CreateError::Io { file: directory.to_owned(), error });
    }
    manifest.snapshots.truncate(retain);
    let stored = match manifest.store(&*env.disk, directory) {
        Err(error) if is_no_room(&error) => {
            // What is removed makes room. Should the process end here, the manifest names files that are
            // missing, and the newest, which is not.
            remove_unlisted(env, directory, manifest)?;
            manifest.store(&*env.disk, directory)
        }
        stored => stored,
    };
    stored.map_err(|error| CreateError::Io { file: directory.join(MANIFEST_FILE), error })?;
    remove_unlisted(env, directory, manifest)
}

fn remove_unlisted(env: &Env, directory: &Path, manifest: &Manifest) -> Result<(), CreateError> {
    let kept = |name: &str| manifest.snapshots.iter().any(|entry| entry.file == name);
    let removed = remove_files(env, directory, |name| name.ends_with(SUFFIX) && !kept(name));
    removed.map_err(|error| CreateError::Io { file: directory.to_owned(), error })
}

pub(crate) const SUFFIX: &str = ".snapshot";

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
    source: &'a LogSource<'a>,
    modules: MakeModules<'a>,
    /// Those of the modules: keys are built without the modules themselves.
    types: DataTypes,
    base: Option<&'a ManifestEntry>,
    carry_bytes: usize,
}

/// What the log's tail came to.
struct Tail {
    spills: Spills,
    checkpoint: Checkpoint,
    batches: u64,
    carried: u64,
    held_bytes_max: usize,
    /// A store without keys, for users and the modules' ground state.
    ground: Recovering,
}

impl Maker<'_> {
    fn make(&self) -> Result<(CreateReport, Option<Built>), CreateError> {
        let base = self.base.map(|entry| self.open_base(entry)).transpose()?;
        let mut tail = match self.read_tail(base.as_ref(), None)? {
            Sorted::Tail(tail) => tail,
            Sorted::Pairs(pairs) => {
                let carrier = self.note_carried(base.as_ref(), pairs)?;
                match self.read_tail(base.as_ref(), Some(carrier))? {
                    Sorted::Tail(tail) => tail,
                    Sorted::Pairs(_) => unreachable!("a carrier takes all effects of two keys"),
                }
            }
        };
        let base_lsn = self.base.map_or(Lsn(0), |entry| Lsn(entry.lsn));
        let built = match tail.checkpoint.lsn == base_lsn {
            true => None,
            false => Some(self.build(base.as_ref(), &mut tail)?),
        };
        let report = CreateReport {
            base: self.base.cloned(),
            batches: tail.batches,
            carried: tail.carried,
            held_bytes_max: tail.held_bytes_max,
            ..CreateReport::default()
        };
        Ok((report, built))
    }

    fn open_base(&self, entry: &ManifestEntry) -> Result<SnapshotFile, SnapshotError> {
        open_listed(self.env, self.directory, entry, self.source.log_id)
    }

    fn each_record(
        &self,
        from: Checkpoint,
        each: &mut dyn FnMut(Lsn, &Record<'_>) -> Result<(), CreateError>,
    ) -> Result<(Checkpoint, u64), CreateError> {
        let mut replay = Replay::over((self.source.read)(from.mark), from);
        let mut batches = 0;
        while let Some(batch) = replay.next()? {
            batches += 1;
            for record in decode_batch(batch.bytes) {
                let lsn = batch.lsn;
                let record = record.map_err(|error| CreateError::Replay { lsn, cause: error.into() })?;
                each(lsn, &record)?;
            }
        }
        Ok((replay.checkpoint(), batches))
    }

    /// Sorts the tail into spills. Without a carrier, an effect that spans two of them ends that: then it
    /// only counts.
    fn read_tail(
        &self,
        base: Option<&SnapshotFile>,
        carrier: Option<Carrier>,
    ) -> Result<Sorted, CreateError> {
        let mut ground = Recovering::new(self.env.clone(), 0, (self.modules)());
        if let Some(base) = base {
            base.load_modules(&mut ground)?;
        }
        let mut sorter = Sorter { spills: self.spills(), carrier, pairs: 0, crosses: false };
        if let Some(base) = base {
            self.carry_base(base, &mut sorter)?;
        }
        let from = base.map_or(Checkpoint::default(), |base| base.header().checkpoint);
        let (checkpoint, batches) = self.each_record(from, &mut |lsn, record| {
            if Route::of(&record.effect).is_ground() && !sorter.crosses {
                let applied = ground.apply_record(lsn, record);
                applied.map_err(|cause| CreateError::Replay { lsn, cause })?;
            }
            sorter.add(record).map_err(|error| self.carry_failed(lsn, error))
        })?;
        let Sorter { mut spills, carrier, pairs, crosses } = sorter;
        if crosses {
            return Ok(Sorted::Pairs(pairs));
        }
        let (mut carried, mut held_bytes_max) = (0, spills.held_bytes());
        if let Some(carrier) = carrier {
            let mut give = |record: &Record<'_>| spills.add(part_of(key_of(record)), record);
            let done = carrier.finish(&mut give);
            let done = done.map_err(|error| self.carry_failed(checkpoint.lsn, error))?;
            (carried, held_bytes_max) = (done.keys, held_bytes_max + done.held_bytes_max);
        }
        let tail = Tail { spills, checkpoint, batches, carried, held_bytes_max, ground };
        Ok(Sorted::Tail(Box::new(tail)))
    }

    /// The first pass of a carrier.
    fn note_carried(&self, base: Option<&SnapshotFile>, pairs: u64) -> Result<Carrier, CreateError> {
        let carrier = Carrier::new(self.env, self.directory, &self.types, pairs, self.carry_bytes);
        let mut carrier = carrier.map_err(|error| self.failed(error))?;
        let from = base.map_or(Checkpoint::default(), |base| base.header().checkpoint);
        self.each_record(from, &mut |_, record| carrier.note(record).map_err(|error| self.failed(error)))?;
        carrier.rewind();
        Ok(carrier)
    }

    /// Gives the carrier the values that the tail finds, and takes them from the parts that will load them.
    fn carry_base(&self, base: &SnapshotFile, sorter: &mut Sorter) -> Result<(), CreateError> {
        let Some(carrier) = &mut sorter.carrier else { return Ok(()) };
        let mut failed = None;
        // The effects of a key follow each other.
        let mut taken_last = None;
        let read = base.each_of_keys(&mut |record| {
            let (database, key) = (record.database, key_of(record));
            let taken = carrier.apply(record).and_then(|is_carried| {
                let is_taken = taken_last
                    .as_ref()
                    .is_some_and(|last: &(u32, Vec<u8>)| (last.0, last.1.as_slice()) == (database, key));
                if is_carried && !is_taken {
                    taken_last = Some((database, key.to_vec()));
                    let effect = Effect::Delete { key, cause: Cause::Command };
                    sorter.spills.add(part_of(key), &Record { database, effect })?;
                }
                Ok(())
            });
            taken.map_err(|error| {
                failed = Some(error);
                // Only to end the reading: the error is in `failed`.
                ReplayError::Mismatch(String::new())
            })
        });
        match failed {
            Some(error) => Err(self.carry_failed(base.header().checkpoint.lsn, error)),
            None => Ok(read?),
        }
    }

    fn spills(&self) -> Spills {
        Spills::new(self.env.clone(), self.directory, SLOT_RANGES)
    }

    fn build(&self, base: Option<&SnapshotFile>, tail: &mut Tail) -> Result<Built, CreateError> {
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
        for part in 0..SLOT_RANGES {
            let keyspace = self.part(base, tail, part)?;
            write_part(&mut writer, keyspace.keyspace(), part).map_err(failed)?;
        }
        write_modules(&mut writer, &tail.ground).map_err(failed)?;
        let written = writer.finish().map_err(failed)?;
        let entry = self.verify(&temporary, &header, written, file)?;
        assert_eq!(entry.checkpoint(), tail.checkpoint, "the manifest says what the snapshot holds");
        Ok(Built { temporary, entry })
    }

    /// The keys of one part: the base's, and what the tail did to them.
    fn part(
        &self,
        base: Option<&SnapshotFile>,
        tail: &mut Tail,
        part: usize,
    ) -> Result<Recovering, CreateError> {
        let mut recovering = Recovering::of_keys(self.env.clone(), self.types.clone());
        if let Some(base) = base {
            let (first, last) = range_slots(part);
            base.load_slots(&mut recovering, first, last)?;
        }
        let lsn = tail.checkpoint.lsn;
        let spilled = tail.spills.held_bytes();
        let mut cause = None;
        let mut measure = |recovering: &Recovering| {
            let held = recovering.keyspace().heap_bytes() + spilled;
            tail.held_bytes_max = tail.held_bytes_max.max(held);
        };
        measure(&recovering);
        let mut applied = 0u32;
        let read = tail.spills.read(part, &mut |record| {
            applied += 1;
            if applied.is_multiple_of(MEASURE_EVERY) {
                measure(&recovering);
            }
            recovering.apply_record(lsn, record).map_err(|error| cause = Some(error)).is_ok()
        });
        read.map_err(|error| self.failed(error))?;
        measure(&recovering);
        match cause {
            Some(cause) => Err(CreateError::Replay { lsn, cause }),
            None => Ok(recovering),
        }
    }

    /// Reads the file back; returns what the manifest is to say of it. `written` is what was written: the
    /// trailer, and the size in bytes.
    fn verify(
        &self,
        temporary: &Path,
        header: &SnapshotHeader,
        written: (Trailer, u64),
        file: String,
    ) -> Result<ManifestEntry, CreateError> {
        let verified = SnapshotFile::open(&*self.env.disk, temporary).and_then(|snapshot| {
            let read = (*snapshot.trailer(), snapshot.bytes());
            if snapshot.header() != header || read != written {
                let (file, detail) = (temporary.to_owned(), "another file was written".to_owned());
                return Err(SnapshotError::Damaged { file, offset_bytes: 0, detail });
            }
            snapshot.verify(self.env, (self.modules)())?;
            Ok(ManifestEntry::of(&snapshot, file))
        });
        verified.map_err(CreateError::Verification)
    }

    fn carry_failed(&self, lsn: Lsn, error: CarryError) -> CreateError {
        match error {
            CarryError::Io(error) => self.failed(error),
            CarryError::Replay(cause) => CreateError::Replay { lsn, cause },
        }
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

/// Memory is measured once in this many effects.
const MEASURE_EVERY: u32 = 1024;

/// What reading the tail came to.
enum Sorted {
    Tail(Box<Tail>),
    /// An effect spans two parts: a carrier is needed, for this number of effects of two keys.
    Pairs(u64),
}

/// Sorts effects into spills.
struct Sorter {
    spills: Spills,
    carrier: Option<Carrier>,
    pairs: u64,
    crosses: bool,
}

impl Sorter {
    fn add(&mut self, record: &Record<'_>) -> Result<(), CarryError> {
        self.pairs += u64::from(record.pair().is_some());
        if let Some(carrier) = &mut self.carrier
            && carrier.apply(record)?
        {
            return Ok(());
        }
        let route = Route::of(&record.effect);
        self.crosses |= matches!(route, Route::Border);
        match route {
            _ if self.crosses => {}
            Route::Part(part) => self.spills.add(part, record)?,
            Route::All => self.spills.add_to_all(record)?,
            Route::Ground | Route::Border => {}
        }
        Ok(())
    }
}

/// Where an effect of the tail has to be applied.
enum Route {
    Part(usize),
    /// To every part, and to the modules: it concerns whole databases.
    All,
    /// To the modules, or the users.
    Ground,
    /// It needs two parts at once.
    Border,
}

impl Route {
    fn of(effect: &Effect<'_>) -> Route {
        match *effect {
            Effect::Module { key: None, .. } => Route::Ground,
            effect if effect.is_of_users() => Route::Ground,
            Effect::Flush | Effect::FlushAll | Effect::SwapDatabases { .. } => Route::All,
            Effect::Rename { key, to } | Effect::Copy { key, to, .. } if part_of(key) != part_of(to) => {
                Route::Border
            }
            _ => Route::Part(part_of(effect.key().expect("all other effects have a key"))),
        }
    }

    fn is_ground(&self) -> bool {
        matches!(self, Route::Ground | Route::All)
    }
}

fn key_of<'a>(record: &Record<'a>) -> &'a [u8] {
    record.effect.key().expect("what builds an entry has its key")
}

fn part_of(key: &[u8]) -> usize {
    slot_range(key_slot(key))
}

fn write_part(writer: &mut SnapshotWriter, keyspace: &Keyspace, part: usize) -> io::Result<()> {
    let (first_slot, last_slot) = range_slots(part);
    for (database, entries) in (0..).zip(keyspace.databases()) {
        writer.begin_section(SectionContent::Keys { database, first_slot, last_slot })?;
        entries.iter().try_for_each(|entry| writer.entry(entry))?;
    }
    Ok(())
}

fn write_modules(writer: &mut SnapshotWriter, ground: &Recovering) -> io::Result<()> {
    writer.begin_section(SectionContent::Modules)?;
    ground.users().save(|effect| writer.effect(0, effect))?;
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
        if any || writer.has_values_of(module.number()) {
            writer.module(module.number(), module.name());
        }
    }
    Ok(())
}
