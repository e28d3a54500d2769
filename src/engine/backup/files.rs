//! The files of a backup: links, copies, checksums by chunk, and the target's directory.

use super::manifest::{BackupFile, CHUNK_BYTES};
use super::{BackupError, FOLDERS, Meter, read_error, write_error};
use crate::data_dir::{self, LOG_DIRECTORY, SNAPSHOT_DIRECTORY};
use crate::env::{Access, Disk, DiskFile, DiskLock, Env};
use crate::log::local::BLOCK_BYTES;
use std::io;
use std::path::{Path, PathBuf};

/// The extension of files that are being replaced (see `Disk::write_atomically`).
const TEMPORARY: &str = ".tmp";

/// A directory that is being filled. Until [`Target::publish`], it contains a marker file.
pub struct Target<'a> {
    env: &'a Env,
    directory: PathBuf,
    folders: Vec<&'a str>,
    marker: PathBuf,
    _lock: Box<dyn DiskLock>,
}

impl<'a> Target<'a> {
    /// Prepares the directory and creates its folders. It must be empty, except for the files of an
    /// interrupted run, which are removed, and for files at the top with these names, which stay.
    pub fn prepare(
        env: &'a Env,
        directory: &Path,
        (marker, text): (&str, &str),
        derived: &[&'a str],
        spared: &[&str],
    ) -> Result<Target<'a>, BackupError> {
        let disk = &*env.disk;
        let folders: Vec<&str> = FOLDERS.iter().chain(derived).copied().collect();
        let failed = |error| write_error(disk, directory, error);
        disk.create_dir_all(directory).map_err(failed)?;
        let marker = directory.join(marker);
        let names = strangers(disk, directory, &folders)?;
        let began = names.iter().any(|name| marker.ends_with(name));
        let in_folders = if began { Vec::new() } else { list_all(disk, directory, &folders)? };
        let is_ours = |name: &str| {
            marker.ends_with(name) || began && name.ends_with(TEMPORARY) || spared.contains(&name)
        };
        if let Some(found) = names.into_iter().filter(|name| !is_ours(name)).chain(in_folders).next() {
            return Err(BackupError::NotEmpty { directory: directory.to_owned(), found });
        }
        let file = disk.create(&marker).map_err(failed)?;
        // The name of the marker is sufficient; the text is for people.
        let _ = file.write_at(text.as_bytes(), 0);
        make_folders(disk, directory, &folders).map_err(failed)?;
        // Locks the folder that a server would lock, so that none starts here meanwhile.
        let lock = disk.lock(&directory.join(LOG_DIRECTORY)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => BackupError::Locked { directory: directory.to_owned() },
            _ => failed(error),
        })?;
        let target = Target { env, directory: directory.to_owned(), folders, marker, _lock: lock };
        match target.clear() {
            Ok(()) => Ok(target),
            Err(error) => {
                target.give_up();
                Err(failed(error))
            }
        }
    }

    /// Calls `fill` to write into the directory, and then removes the marker. After an error the written
    /// files are removed.
    pub fn filled<T>(
        self,
        fill: impl FnOnce(&Target<'a>) -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        match fill(&self) {
            Ok(filled) => self.publish().map(|()| filled),
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    /// Makes the names in all folders durable, except those of snapshots, whose manifest is stored last and
    /// durably.
    pub fn sync_folders(&self) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        for folder in self.folders.iter().filter(|folder| **folder != SNAPSHOT_DIRECTORY) {
            let folder = self.directory.join(folder);
            disk.sync_directory(&folder).map_err(|error| write_error(disk, &folder, error))?;
        }
        Ok(())
    }

    /// Removes the marker durably.
    fn publish(self) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        let removed = disk.remove(&self.marker).and_then(|()| disk.sync_directory(&self.directory));
        removed.map_err(|error| write_error(disk, &self.marker, error))
    }

    /// Removes the written files, and then the marker; only empty folders remain. If that fails, the marker
    /// stays.
    pub fn give_up(self) {
        let disk = &*self.env.disk;
        let cleared = self.clear().and_then(|()| disk.remove(&self.marker));
        // Either the marker exists or the directory is empty: both are safe, and the first error is the one
        // to report.
        let _ = cleared.and_then(|()| disk.sync_directory(&self.directory));
    }

    fn clear(&self) -> io::Result<()> {
        let disk = &*self.env.disk;
        for folder in self.folders.iter().map(|folder| self.directory.join(folder)) {
            let names = match disk.list(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                names => names?,
            };
            for name in &names {
                disk.remove(&folder.join(name))?;
            }
            // Before the marker is removed: files that reappear after a power cut would look like a data
            // directory.
            if !names.is_empty() {
                disk.sync_directory(&folder)?;
            }
        }
        for name in disk.list(&self.directory)?.iter().filter(|name| name.ends_with(TEMPORARY)) {
            disk.remove(&self.directory.join(name))?;
        }
        Ok(())
    }
}

/// Creates the folders and the folders on the way to them, and makes their names and the other names in the
/// directory durable: each folder that holds such a name is synced once.
fn make_folders(disk: &dyn Disk, directory: &Path, folders: &[&str]) -> io::Result<()> {
    let mut parents = vec![directory.to_owned()];
    for folder in folders {
        let mut path = directory.to_owned();
        for name in Path::new(folder) {
            if !parents.contains(&path) {
                parents.push(path.clone());
            }
            path.push(name);
            match disk.create_directory(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => created?,
            }
        }
    }
    parents.iter().try_for_each(|parent| disk.sync_directory(parent))
}

/// The names in a directory beside these folders and the way to them.
pub fn strangers(disk: &dyn Disk, directory: &Path, folders: &[&str]) -> Result<Vec<String>, BackupError> {
    data_dir::strangers(disk, directory, folders).map_err(|found| read_error(&found.path, found.error))
}

/// The files in these folders of a directory, each with its folder; a missing folder has none.
pub fn list_all(disk: &dyn Disk, directory: &Path, folders: &[&str]) -> Result<Vec<String>, BackupError> {
    let mut found = Vec::new();
    for folder in folders {
        let path = directory.join(folder);
        match disk.list(&path) {
            Ok(names) => found.extend(names.into_iter().map(|name| format!("{folder}/{name}"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(read_error(&path, error)),
        }
    }
    Ok(found)
}

/// Copies an open file to a new one, which is durable on return, except for its name.
pub fn copy(
    disk: &dyn Disk,
    (from, from_path): (&dyn DiskFile, &Path),
    to: &Path,
    meter: &mut Meter<'_>,
) -> Result<(), BackupError> {
    let target = disk.create(to).map_err(|error| write_error(disk, to, error))?;
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    let mut offset = 0;
    loop {
        let filled = from.read_full_at(&mut buffer, offset).map_err(|error| read_error(from_path, error))?;
        if filled == 0 {
            break;
        }
        target.write_at(&buffer[..filled], offset).map_err(|error| write_error(disk, to, error))?;
        offset += filled as u64;
        meter.add(filled as u64);
    }
    target.sync().map_err(|error| write_error(disk, to, error))
}

/// Copies the first `bytes` bytes of a segment that is being written; the rest of the copy is a hole.
///
/// The blocks are copied from the last to the first, because the writer makes an entry durable before it
/// writes a later entry that proves it. If the later entry was copied, the earlier one is copied after it,
/// and is complete. In ascending order, the copy could seem to have lost an acknowledged entry.
pub fn copy_backwards(
    disk: &dyn Disk,
    (from, from_path): (&dyn DiskFile, &Path),
    bytes: u64,
    to: &Path,
    meter: &mut Meter<'_>,
) -> Result<(), BackupError> {
    let target = disk.create(to).map_err(|error| write_error(disk, to, error))?;
    let block_bytes = BLOCK_BYTES as u64;
    let mut block = vec![0; BLOCK_BYTES];
    for number in (0..bytes.div_ceil(block_bytes)).rev() {
        let offset = number * block_bytes;
        let filled = from.read_full_at(&mut block, offset).map_err(|error| read_error(from_path, error))?;
        if block[..filled].iter().any(|byte| *byte != 0) {
            target.write_at(&block[..filled], offset).map_err(|error| write_error(disk, to, error))?;
        }
        meter.add(block_bytes);
    }
    // Sync the source, so that the backup never contains bytes that a power cut would remove from the store.
    from.sync().map_err(|error| read_error(from_path, error))?;
    target.set_size(bytes).map_err(|error| write_error(disk, to, error))
}

/// Creates a hard link to a file that never changes, or a copy if a link is impossible. Returns whether it is
/// a link.
pub fn link_or_copy(
    disk: &dyn Disk,
    (from, from_path): (&dyn DiskFile, &Path),
    to: &Path,
    copies_only: bool,
    meter: &mut Meter<'_>,
) -> Result<bool, BackupError> {
    // Another file system, one without links, or a file that was just removed.
    if copies_only || disk.link(from_path, to).is_err() {
        copy(disk, (from, from_path), to, meter)?;
        return Ok(false);
    }
    meter.add(from.size().map_err(|error| read_error(from_path, error))?);
    Ok(true)
}

/// The size of a file and the checksums of its chunks. `name` is its path in the backup.
pub fn checksums(
    disk: &dyn Disk,
    directory: &Path,
    name: String,
    meter: &mut Meter<'_>,
) -> Result<BackupFile, BackupError> {
    let path = directory.join(&name);
    let file = disk.open(&path, Access::Read).map_err(|error| read_error(&path, error))?;
    let (mut crc32c, mut bytes) = (Vec::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    loop {
        let filled = file.read_full_at(&mut chunk, bytes).map_err(|error| read_error(&path, error))?;
        if filled == 0 {
            return Ok(BackupFile { file: name, bytes, crc32c });
        }
        crc32c.push(crc32c::crc32c(&chunk[..filled]));
        bytes += filled as u64;
        meter.add(filled as u64);
    }
}

/// Called for each chunk with a matching checksum: its offset, and its bytes.
type EachChunk<'a> = dyn FnMut(u64, &[u8]) -> Result<(), BackupError> + 'a;

/// Reads a file of a backup and compares it with its checksums. `each` is called for each chunk that matches.
pub fn check(
    disk: &dyn Disk,
    directory: &Path,
    record: &BackupFile,
    chunk_bytes: u64,
    each: &mut EachChunk<'_>,
) -> Result<(), BackupError> {
    let path = directory.join(&record.file);
    let damaged =
        |offset_bytes, detail: String| BackupError::Damaged { file: path.clone(), offset_bytes, detail };
    let file = disk.open(&path, Access::Read).map_err(|error| read_error(&path, error))?;
    let size = file.size().map_err(|error| read_error(&path, error))?;
    if size != record.bytes {
        let detail = format!("the file has {size} bytes, it had {}", record.bytes);
        return Err(damaged(size.min(record.bytes), detail));
    }
    let mut chunk = vec![0; chunk_bytes.min(record.bytes) as usize];
    for (number, crc32c) in record.crc32c.iter().enumerate() {
        let offset = number as u64 * chunk_bytes;
        let length = (record.bytes - offset).min(chunk_bytes);
        let chunk = &mut chunk[..length as usize];
        let filled = file.read_full_at(chunk, offset).map_err(|error| read_error(&path, error))?;
        if filled < chunk.len() || crc32c::crc32c(chunk) != *crc32c {
            let detail = format!("the checksum of the {length} bytes from there on does not match");
            return Err(damaged(offset, detail));
        }
        each(offset, chunk)?;
    }
    Ok(())
}
