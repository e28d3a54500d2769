//! Files on their way into a backup and out of one: links, copies, checksums by chunk, and the target's directory.

use super::manifest::{BackupFile, CHUNK_BYTES};
use super::{BackupError, FOLDERS, Meter, read_error, write_error};
use crate::env::{Access, Disk, DiskFile, DiskLock, Env};
use crate::log::local::BLOCK_BYTES;
use crate::recovery::{LOG_DIRECTORY, SNAPSHOT_DIRECTORY};
use std::io;
use std::path::{Path, PathBuf};

/// How the names of files end that are being replaced (see `Disk::write_atomically`).
const TEMPORARY: &str = ".tmp";

/// A directory that is being filled. Until [`Target::publish`], it holds a marker that says so.
pub struct Target<'a> {
    env: &'a Env,
    directory: PathBuf,
    folders: Vec<&'a str>,
    marker: PathBuf,
    _lock: Box<dyn DiskLock>,
}

impl<'a> Target<'a> {
    /// Takes the directory, which has to be empty, but for what an interrupted run has left: that is cleared. Creates it and
    /// the folders.
    pub fn prepare(
        env: &'a Env,
        directory: &Path,
        marker: &str,
        text: &str,
        derived: &[&'a str],
    ) -> Result<Target<'a>, BackupError> {
        let disk = &*env.disk;
        let folders: Vec<&str> = FOLDERS.iter().chain(derived).copied().collect();
        let failed = |error| write_error(disk, directory, error);
        disk.create_dir_all(directory).map_err(failed)?;
        let marker = directory.join(marker);
        let names = disk.list(directory).map_err(|error| read_error(directory, error))?;
        let began = names.iter().any(|name| marker.ends_with(name));
        let in_folders = if began { Vec::new() } else { list_all(disk, directory, &folders)? };
        let is_ours = |name: &str| {
            marker.ends_with(name) || folders.contains(&name) || began && name.ends_with(TEMPORARY)
        };
        if let Some(found) = names.into_iter().filter(|name| !is_ours(name)).chain(in_folders).next() {
            return Err(BackupError::NotEmpty { directory: directory.to_owned(), found });
        }
        let file = disk.create(&marker).map_err(failed)?;
        // The name says it all; the text is for people.
        let _ = file.write_at(text.as_bytes(), 0);
        make_folders(disk, directory, &folders).map_err(failed)?;
        // The folder that a server would lock: none starts here meanwhile.
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

    /// Has `fill` write into the directory, and then takes the marker away. After an error what was written is removed.
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

    /// Makes the names in all folders durable, but for that of snapshots, whose manifest is stored last and durably.
    pub fn sync_folders(&self) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        for folder in self.folders.iter().filter(|folder| **folder != SNAPSHOT_DIRECTORY) {
            let folder = self.directory.join(folder);
            disk.sync_directory(&folder).map_err(|error| write_error(disk, &folder, error))?;
        }
        Ok(())
    }

    /// Takes the marker away, durably.
    fn publish(self) -> Result<(), BackupError> {
        let disk = &*self.env.disk;
        let removed = disk.remove(&self.marker).and_then(|()| disk.sync_directory(&self.directory));
        removed.map_err(|error| write_error(disk, &self.marker, error))
    }

    /// Removes what was written, and then the marker: as if nothing had happened, but for empty folders. Where that does not
    /// succeed, the marker stays.
    fn give_up(self) {
        let disk = &*self.env.disk;
        let cleared = self.clear().and_then(|()| disk.remove(&self.marker));
        // The marker is there, or the directory is empty: both are safe, and the first error is what is reported.
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
            // Before the marker goes: what came back after a power cut would look like a data directory.
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

/// Creates the folders, and makes them and what else is in the directory durable.
fn make_folders(disk: &dyn Disk, directory: &Path, folders: &[&str]) -> io::Result<()> {
    for folder in folders {
        match disk.create_directory(&directory.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created?,
        }
    }
    disk.sync_directory(directory)
}

/// The files in these folders of a directory, with the folder; those that are not there have none.
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

/// Copies all of an open file to a new one; durable on return, but for the name.
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

/// Copies a segment that is being written, of which `bytes` are known to be there; the rest of the copy is a hole.
///
/// From its end to its beginning, block by block: whoever writes has made an entry durable before it writes one that says so.
/// So when that one was read first, the one it speaks of is met later, and whole. In the other order the copy could seem to
/// have lost an acknowledged entry.
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
    // What was read is now durable at its source too: the backup never holds what a power cut takes from the store.
    from.sync().map_err(|error| read_error(from_path, error))?;
    target.set_size(bytes).map_err(|error| write_error(disk, to, error))
}

/// Another name for a file that never changes, or a copy where that cannot be had. Returns whether it is a link.
pub fn link_or_copy(
    disk: &dyn Disk,
    (from, from_path): (&dyn DiskFile, &Path),
    to: &Path,
    copies_only: bool,
    meter: &mut Meter<'_>,
) -> Result<bool, BackupError> {
    // Another file system, one without links, or a file that has just been removed.
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

/// What is done with a chunk that is right: its offset, and its bytes.
type EachChunk<'a> = dyn FnMut(u64, &[u8]) -> Result<(), BackupError> + 'a;

/// Reads a file of a backup and compares it with its checksums. `each` gets the bytes of each chunk that is right.
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
