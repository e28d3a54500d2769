//! What a data directory holds, by name.
//!
//! ```text
//! shards/0/log/         the transaction log: segments, reserve, LOCK
//! shards/0/snapshots/   snapshots and their MANIFEST, LOCK
//! shards/0/indexes/     saved graphs: a cache, named by the composition root
//! ```
//!
//! A store has one shard, number 0. Its folder has the layout of a shard in a bucket, so that files can be
//! moved between both. A backup has the same folders, beside the file BACKUP.
//!
//! Four files mark a directory that has these folders and must not be used as a data directory: a complete
//! backup, an unfinished one, an unfinished restore, and an unfinished import. `backup` writes these files.
//! Every start and every tool that writes checks for them ([`check_data_directory`]).

use crate::env::Disk;
use std::io;
use std::path::{Path, PathBuf};

/// The log's segments.
pub const LOG_DIRECTORY: &str = "shards/0/log";
/// The snapshots and their manifest.
pub const SNAPSHOT_DIRECTORY: &str = "shards/0/snapshots";
/// The manifest of a backup.
pub const BACKUP_FILE: &str = "BACKUP";
/// Marks a backup that is being made, or was interrupted.
pub const UNFINISHED_FILE: &str = "UNFINISHED";
/// Marks a data directory that is being restored, or whose restore was interrupted.
pub const RESTORING_FILE: &str = "RESTORING";
/// Marks a data directory that is being filled by an import, or whose import was interrupted.
pub const IMPORTING_FILE: &str = "IMPORTING";
/// The file that Redis writes to its directory, by default.
pub const REDIS_DUMP_FILE: &str = "dump.rdb";
/// The folder of all shards.
const SHARDS: &str = "shards";
const FIRST_SHARD: &str = "0";
/// The log's folder in a data directory of a development version before the first release.
const OLD_LOG_DIRECTORY: &str = "log";

/// Why a directory cannot be used as a data directory. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "{} is no data directory of its own: it is a backup. Restore it with `engramdb restore --from {} --to DIRECTORY`",
        directory.display(), directory.display()
    )]
    IsBackup { directory: PathBuf },
    #[error(
        "{} is no backup: the `engramdb backup` that wrote to it was interrupted, or is still running. Run it again with \
         the same --to: it clears what is there and begins anew",
        directory.display()
    )]
    Unfinished { directory: PathBuf },
    #[error(
        "{} was not restored to the end. Run the same `engramdb restore` again: it clears what is there and begins anew",
        directory.display()
    )]
    Restoring { directory: PathBuf },
    #[error(
        "{} holds a part of an import. Run the same `engramdb import` again: it clears what is there and begins anew",
        directory.display()
    )]
    Importing { directory: PathBuf },
    #[error(
        "{} was written by a development version from before the first release: its log is in `log`, where this version has \
         `{LOG_DIRECTORY}`, and the formats differ. It is not converted. Use the version that wrote it, or begin with another \
         directory and load the data anew",
        directory.display()
    )]
    OldLayout { directory: PathBuf },
    #[error("{} cannot be used as a data directory: {cause}", directory.display())]
    Misplaced { directory: PathBuf, cause: String },
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
}

/// Refuses directories that must not be used as a data directory: a complete or unfinished backup, an
/// unfinished restore or import, one with the layout of a development version, and one whose files were
/// moved.
///
/// # Errors
/// The reason, as a [`DataDirError`]; also if the directory cannot be read.
pub fn check_data_directory(disk: &dyn Disk, directory: &Path) -> Result<(), DataDirError> {
    let unreadable = |path: &Path, error| DataDirError::Read { path: path.to_owned(), error };
    let has = |name: &str| {
        let path = directory.join(name);
        disk.exists(&path).map_err(|error| unreadable(&path, error))
    };
    let owned = directory.to_owned();
    if has(BACKUP_FILE)? {
        return Err(DataDirError::IsBackup { directory: owned });
    }
    if has(UNFINISHED_FILE)? {
        return Err(DataDirError::Unfinished { directory: owned });
    }
    if has(RESTORING_FILE)? {
        return Err(DataDirError::Restoring { directory: owned });
    }
    if has(IMPORTING_FILE)? {
        return Err(DataDirError::Importing { directory: owned });
    }
    if has_old_layout(disk, directory).map_err(|error| unreadable(directory, error))? {
        return Err(DataDirError::OldLayout { directory: owned });
    }
    match misplaced(disk, directory).map_err(|error| unreadable(directory, error))? {
        Some(cause) => Err(DataDirError::Misplaced { directory: owned, cause }),
        None => Ok(()),
    }
}

/// Whether the directory was written by a version whose files were not in a shard's folder. This version
/// cannot read them: the formats differ too.
pub fn has_old_layout(disk: &dyn Disk, directory: &Path) -> io::Result<bool> {
    Ok(disk.exists(&directory.join(OLD_LOG_DIRECTORY))? && !disk.exists(&directory.join(SHARDS))?)
}

/// Why a directory is not a data directory of this program, and not the place for a new one either; `None` if
/// it can be. A store whose files were moved would otherwise start without data and without a word.
pub fn misplaced(disk: &dyn Disk, directory: &Path) -> io::Result<Option<String>> {
    let names = match disk.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names?,
    };
    let is_inside = disk.exists(&directory.join("0/log"))?
        || names.iter().any(|name| ["STARTED", "MANIFEST"].contains(&&**name));
    if is_inside {
        let text = "it is a folder inside a data directory: give the data directory itself, which has the folder \
                    `shards`";
        return Ok(Some(text.to_owned()));
    }
    if let Some(name) = names.iter().find(|name| *name != SHARDS && name.eq_ignore_ascii_case(SHARDS)) {
        return Ok(Some(format!("its folder `{name}` has to be named `{SHARDS}`")));
    }
    if !names.iter().any(|name| name == SHARDS) {
        return Ok(None);
    }
    let shards = disk.list(&directory.join(SHARDS))?;
    let stranger = shards.iter().find(|name| *name != FIRST_SHARD);
    Ok(stranger.map(|name| {
        format!(
            "a store has one shard, `{SHARDS}/{FIRST_SHARD}`, and there is `{SHARDS}/{name}`: was it renamed?"
        )
    }))
}

/// What is in a directory beside these folders (paths with slashes) and the folders on the way to them; what
/// is inside the folders does not count. Paths from the directory.
pub fn strangers(disk: &dyn Disk, directory: &Path, folders: &[&str]) -> Result<Vec<String>, StrangersError> {
    let mut found = Vec::new();
    let mut ways = vec![""];
    for folder in folders {
        let ends = folder.match_indices('/').map(|(end, _)| &folder[..end]);
        ways.extend(ends.filter(|way| !ways.contains(way)).collect::<Vec<_>>());
    }
    for way in &ways {
        let path = directory.join(way);
        let names = match disk.list(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !way.is_empty() => continue,
            names => names.map_err(|error| StrangersError { path, error })?,
        };
        for name in names {
            let name = if way.is_empty() { name } else { format!("{way}/{name}") };
            if !ways.contains(&&*name) && !folders.contains(&&*name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// Why [`strangers`] does not know.
#[derive(Debug)]
pub struct StrangersError {
    pub path: PathBuf,
    pub error: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    /// A directory with these files, whose folders are made.
    fn directory_with(files: &[&str]) -> (tempfile::TempDir, Env) {
        let (env, directory) = (Env::system(), tempfile::tempdir().expect("the directory is writable"));
        for file in files {
            let path = directory.path().join(file);
            env.disk.create_dir_all(path.parent().expect("it is in the directory")).expect("it is writable");
            env.disk.create(&path).expect("it is writable");
        }
        (directory, env)
    }

    #[test]
    fn strangers_are_found_beside_the_folders_and_on_the_way_to_them() {
        let folders = [LOG_DIRECTORY, SNAPSHOT_DIRECTORY];
        let ours = ["shards/0/log/1", "shards/0/snapshots/2"];
        let others = ["README", "shards/0/logs/3", "shards/1/log/4", "log/5"];
        let (directory, env) = directory_with(&[&ours[..], &others[..]].concat());
        let found = strangers(&*env.disk, directory.path(), &folders).expect("it can be read");
        assert_eq!(found, ["README", "log", "shards/1", "shards/0/logs"]);
        let (directory, env) = directory_with(&ours);
        let found = strangers(&*env.disk, directory.path(), &folders).expect("it can be read");
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn the_old_layout_is_a_log_at_the_top_without_shards() {
        for (files, is_old) in [
            (&["log/1"][..], true),
            (&["log/1", "shards/0/log/1"][..], false),
            (&["shards/0/log/1"][..], false),
            (&[][..], false),
        ] {
            let (directory, env) = directory_with(files);
            let found = has_old_layout(&*env.disk, directory.path()).expect("it can be read");
            assert_eq!(found, is_old, "{files:?}");
        }
    }

    #[test]
    fn what_was_moved_is_noticed() {
        let cases: [(&[&str], Option<&str>); 7] = [
            (&[], None),
            (&["anything"], None),
            (&["shards/0/log/1", "BACKUP"], None),
            (&["shards/1/log/1"], Some("`shards/1`")),
            (&["shards/0/log/1", "shards/2/log/1"], Some("`shards/2`")),
            (&["Shards/0/log/1"], Some("`Shards`")),
            (&["0/log/1"], Some("inside a data directory")),
        ];
        for (files, wanted) in cases {
            let (directory, env) = directory_with(files);
            let found = misplaced(&*env.disk, directory.path()).expect("it can be read");
            assert_eq!(found.is_some(), wanted.is_some(), "{files:?}: {found:?}");
            assert!(found.unwrap_or_default().contains(wanted.unwrap_or_default()), "{files:?}");
        }
        let (directory, env) = directory_with(&["shards/0/log/STARTED"]);
        let inside = misplaced(&*env.disk, &directory.path().join("shards/0/log")).expect("it can be read");
        assert!(inside.is_some());
    }
}
