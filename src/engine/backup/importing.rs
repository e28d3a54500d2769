//! The data directory that an import fills: it has a marker from before the first write until everything is
//! durable, so that no server starts on a part of the data.

use super::BackupError;
use super::files::Target;
use crate::data_dir::IMPORTING_FILE;
use crate::env::Env;
use std::io;
use std::path::Path;

const MARKER_TEXT: &str = "`engramdb import` is writing here, or was interrupted: no server starts on this. Run it \
                           again with the same --dir; it clears what is here and begins anew.\n";

/// Prepares a data directory for an import: it must be empty but for files with the names in `spared`, and
/// for what an interrupted import left, which is removed. `derived` names the folders of derived state.
///
/// # Errors
/// A directory that is not empty or is in use, and errors of the disk.
pub fn begin_import(
    env: &Env,
    directory: &Path,
    derived: &[&str],
    spared: &[&str],
) -> Result<(), BackupError> {
    // The lock is released, so that the log can be opened; the marker keeps servers away.
    Target::prepare(env, directory, (IMPORTING_FILE, MARKER_TEXT), derived, spared).map(drop)
}

/// Makes the directory one that a server starts on. Everything has to be durable, and the log closed.
pub fn end_import(env: &Env, directory: &Path) -> io::Result<()> {
    env.disk.remove(&directory.join(IMPORTING_FILE))?;
    env.disk.sync_directory(directory)
}

/// Removes what an import that failed has written. Where that fails, the marker stays.
pub fn undo_import(env: &Env, directory: &Path, derived: &[&str], spared: &[&str]) {
    let marker = (IMPORTING_FILE, MARKER_TEXT);
    if let Ok(target) = Target::prepare(env, directory, marker, derived, spared) {
        target.give_up();
    }
}
