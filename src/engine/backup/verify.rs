//! Verifies a backup: every byte against its checksum, and then whether a store can be restored from it.

use super::log;
use super::manifest::BackupManifest;
use super::{BackupError, FOLDERS, Meter, Progress, files, read_error};
use crate::data_dir::{
    BACKUP_FILE, DataDirError, LOG_DIRECTORY, RESTORING_FILE, UNFINISHED_FILE, has_old_layout,
};
use crate::env::{Disk, Env};
use crate::log::local::{Catalog, segment_number};
use crate::log::replay::Checkpoint;
use crate::snapshot::create::{MakeModules, SUFFIX as SNAPSHOT_SUFFIX, open_listed};
use crate::snapshot::manifest::{Manifest, ManifestEntry};
use std::io;
use std::path::Path;

/// The result of [`verify`].
#[derive(Clone, Debug)]
pub struct VerifyReport {
    pub manifest: BackupManifest,
    /// All damage that was found; empty if the backup is good.
    pub problems: Vec<String>,
    /// Files that do not belong to the backup and are harmless: another program or a person put them there.
    pub notes: Vec<String>,
}

/// Reads the whole backup. The report lists all damage. `derived` names the folders of derived state.
///
/// # Errors
/// If there is no backup, or its manifest cannot be used.
pub fn verify(
    env: &Env,
    directory: &Path,
    modules: MakeModules<'_>,
    derived: &[&str],
    tell: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, BackupError> {
    let Some(manifest) = BackupManifest::load(&*env.disk, directory)? else {
        return Err(no_backup(env, directory)?);
    };
    let mut meter = Meter::new(tell);
    meter.begin("checking", manifest.bytes());
    let mut problems = Vec::new();
    for file in &manifest.files {
        let checked = files::check(&*env.disk, directory, file, manifest.chunk_bytes, &mut |_, chunk| {
            meter.add(chunk.len() as u64);
            Ok(())
        });
        problems.extend(checked.err().map(|error| error.to_string()));
    }
    if problems.is_empty() {
        let loaded = brings_back(env, directory, modules, &manifest, &mut meter);
        problems.extend(loaded.err().map(|error| error.to_string()));
    }
    let mut notes = Vec::new();
    for extra in extra_files(&*env.disk, directory, &manifest, derived)? {
        let path = directory.join(&extra.file);
        match extra.is_of_a_store {
            true => problems.push(format!(
                "{} is not of this backup: its manifest does not name it. Remove it, and verify again",
                path.display()
            )),
            false => notes.push(format!("{} is not of this backup; a restore leaves it out", path.display())),
        }
    }
    Ok(VerifyReport { manifest, problems, notes })
}

/// A file that the manifest does not name.
struct ExtraFile {
    /// Its path in the backup.
    file: String,
    /// The file is in a place of a store's files, or has the name of one. So it comes from another store:
    /// directories were mixed. Other files belong to people and their tools, and their names often begin with
    /// a dot.
    is_of_a_store: bool,
}

fn extra_files(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &BackupManifest,
    derived: &[&str],
) -> Result<Vec<ExtraFile>, BackupError> {
    let folders: Vec<&str> = FOLDERS.iter().chain(derived).copied().collect();
    let mut extra = Vec::new();
    for file in files::list_all(disk, directory, &folders)? {
        if !manifest.files.iter().any(|known| known.file == file) {
            let is_of_a_store = !file.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
            extra.push(ExtraFile { file, is_of_a_store });
        }
    }
    let is_known = |name: &str| [BACKUP_FILE, UNFINISHED_FILE].contains(&name);
    let names = files::strangers(disk, directory, &folders)?;
    for file in names.into_iter().filter(|name| !is_known(name)) {
        let name = file.rsplit('/').next().unwrap_or(&file);
        let is_of_a_store = segment_number(name).is_some() || name.ends_with(SNAPSHOT_SUFFIX);
        extra.push(ExtraFile { file, is_of_a_store });
    }
    Ok(extra)
}

/// Why a directory without a manifest is not a backup.
pub fn no_backup(env: &Env, directory: &Path) -> Result<BackupError, BackupError> {
    let exists = |name: &str| {
        let path = directory.join(name);
        env.disk.exists(&path).map_err(|error| read_error(&path, error))
    };
    let owned = directory.to_owned();
    Ok(if exists(UNFINISHED_FILE)? {
        DataDirError::Unfinished { directory: owned }.into()
    } else if exists(RESTORING_FILE)? {
        DataDirError::Restoring { directory: owned }.into()
    } else if has_old_layout(&*env.disk, directory).map_err(|error| read_error(directory, error))? {
        DataDirError::OldLayout { directory: owned }.into()
    } else if has_log(env, directory)? {
        BackupError::IsData { directory: owned }
    } else {
        BackupError::NoBackup { directory: owned }
    })
}

/// Whether there is a log with files in it. An interrupted run can leave an empty folder.
pub fn has_log(env: &Env, directory: &Path) -> Result<bool, BackupError> {
    let logs = directory.join(LOG_DIRECTORY);
    match env.disk.list(&logs) {
        Ok(names) => Ok(!names.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(read_error(&logs, error)),
    }
}

/// Loads the snapshot and reads the log as a start would, from a backup or a restored directory: they must
/// end at the position in the manifest. The files are those that `manifest` lists, if it lists any.
pub fn brings_back(
    env: &Env,
    directory: &Path,
    modules: MakeModules<'_>,
    manifest: &BackupManifest,
    meter: &mut Meter<'_>,
) -> Result<(), BackupError> {
    let [logs, snapshots] = FOLDERS.map(|folder| directory.join(folder));
    let listed = Manifest::load(&*env.disk, &snapshots)?;
    let snapshot = listed.newest();
    if let Some(entry) = snapshot {
        meter.begin("loading the snapshot on trial", entry.bytes);
        let snapshot = open_listed(env, &snapshots, entry, manifest.log_id)?;
        snapshot.verify_with(env, modules(), &mut |bytes| meter.add(bytes))?;
    }
    let catalog = match &*manifest.names_in(LOG_DIRECTORY) {
        [] => Catalog::load(&*env.disk, &logs)?,
        names => Catalog::of(&*env.disk, &logs, names)?,
    };
    let from = snapshot.map_or(Checkpoint::default(), ManifestEntry::checkpoint);
    meter.begin("reading the log", 0);
    let read = log::read_through(env, &catalog.started, from, &mut |bytes| meter.add(bytes))?;
    let found = Checkpoint { mark: read.tail.mark, ..read.checkpoint };
    if found != manifest.checkpoint() {
        let show = |checkpoint: Checkpoint| {
            let Checkpoint { mark, lsn, checksum, .. } = checkpoint;
            format!("batches through {lsn} at position {} with checksum {:016x}", mark.pos, checksum.0)
        };
        let (found, expected) = (show(found), show(manifest.checkpoint()));
        return Err(BackupError::Differs { directory: directory.to_owned(), found, expected });
    }
    Ok(())
}
