//! A lost or damaged manifest, from the snapshot files themselves.

use super::SnapshotFile;
use super::create::{CreateError, MakeModules, SUFFIX, lock};
use super::format::SnapshotHeader;
use super::manifest::{Manifest, ManifestEntry};
use crate::env::Env;
use std::path::Path;

/// Writes the manifest of a directory anew: from the snapshot files that pass verification and belong to the
/// history of the newest of them. Returns it, and what is wrong with the others.
pub fn repair(
    env: &Env,
    directory: &Path,
    modules: MakeModules<'_>,
) -> Result<(Manifest, Vec<String>), CreateError> {
    let failed = |error| CreateError::Io { file: directory.to_owned(), error };
    let _lock = lock(env, directory)?;
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for name in env.disk.list(directory).map_err(failed)?.into_iter().filter(|name| name.ends_with(SUFFIX)) {
        let checked = SnapshotFile::open(&*env.disk, &directory.join(&name)).and_then(|snapshot| {
            snapshot.verify(env, modules())?;
            Ok((*snapshot.header(), ManifestEntry::of(&snapshot, name)))
        });
        match checked {
            Ok(good) => found.push(good),
            Err(error) => problems.push(error.to_string()),
        }
    }
    found.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.created_ms));
    let newest = found.first().map_or(SnapshotHeader::default(), |(header, _)| *header);
    let (log_id, parent, parent_pos) = (newest.log_id, newest.parent, newest.parent_pos.0);
    let (mut ours, foreign): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(header, _)| header.log_id == log_id);
    problems.extend(
        foreign.iter().map(|(header, entry)| format!("{} belongs to log {}", entry.file, header.log_id)),
    );
    // By the history, and not by the clock, which may have been set back: the log is trimmed by the last one.
    ours.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.lsn));
    let mut snapshots: Vec<ManifestEntry> = Vec::new();
    for (_, entry) in ours {
        match snapshots.last() {
            Some(newer) if !newer.comes_after(&entry) => {
                problems
                    .push(format!("{} does not come before {}: is it a copy of it?", entry.file, newer.file));
            }
            _ => snapshots.push(entry),
        }
    }
    let manifest = Manifest::new(log_id, parent, parent_pos, snapshots);
    manifest.store(&*env.disk, directory).map_err(failed)?;
    Ok((manifest, problems))
}
