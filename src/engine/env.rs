//! Clock, randomness and disk: the only sources of nondeterminism of the engine.
//!
//! Everything that can differ between two runs with the same input comes through [`Env`], so that a test can
//! replace it by a seeded clock, a seeded generator and a faulty disk, and replay a failure from its seed.
//! `clippy.toml` bans the corresponding functions of the standard library by name; [`system`] is the one file
//! that may use them.
//!
//! The guarantees of a [`Disk`] are the following and no others (those of a journalling file system, read
//! pessimistically):
//!
//! - Written bytes are durable after [`DiskFile::sync`] or [`DiskFile::write_durable`] returned. Before that,
//!   a power cut keeps any subset of the written sectors, in any order.
//! - A create, rename or remove is durable after [`Disk::sync_directory`] on the parent returned. Before
//!   that, a power cut may undo it, even if the file's bytes were synced.
//! - After a failed sync it is unknown which bytes reached the disk, and a later successful sync does not
//!   change that (the kernel may have dropped the dirty pages). Callers treat the first failure as fatal.

pub mod engine_clock;
pub mod system;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The environment of an engine; cheap to clone.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub disk: Arc<dyn Disk>,
}

impl Env {
    /// The machine's own clock, randomness and file system.
    pub fn system() -> Env {
        Env {
            clock: Arc::new(system::SystemClock::new()),
            random: Arc::new(system::SystemRandom::new()),
            disk: Arc::new(system::SystemDisk),
        }
    }
}

/// Time. The engine clock, which never steps back, is built on this trait ([`engine_clock`]).
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. May step in both directions.
    fn wall_ms(&self) -> u64;
    /// Time since an arbitrary fixed moment. Never steps back.
    fn monotonic(&self) -> Duration;
    /// Processor time of the calling thread. A clock that cannot measure it assumes that the thread is always
    /// busy.
    fn thread_cpu(&self) -> Duration {
        self.monotonic()
    }
}

/// Randomness: hash seeds, ids, RANDOMKEY.
pub trait Random: Send + Sync {
    fn next_u64(&self) -> u64;

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// The purpose of an open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

/// A file system with explicit durability (see the module's documentation).
pub trait Disk: Send + Sync {
    /// Creates the file, or truncates it if it exists. It is open for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file; `NotFound` otherwise.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames atomically, replacing `to`. Durable after a sync of the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file that is no longer written a second name. Durable after a sync of the directory. An error
    /// if the file system does not support it, or `to` exists.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file. Durable after a sync of the directory.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates one directory; `AlreadyExists` if it exists. Durable after a sync of its parent.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;
    /// Makes the creates, renames and removes in this directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Bytes that an ordinary user can still write to the directory's file system.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
    /// Takes an exclusive lock on the directory, which is held until the guard is dropped or the process
    /// ends. The lock is on the directory itself, so that deleting a file does not release it. `WouldBlock`
    /// if another holder, in this process or in another, has it.
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// Holds an exclusive lock; dropping it releases the lock.
pub trait DiskLock: Send + Sync {
    /// Whether the path still refers to the locked directory.
    fn is_in_place(&self) -> io::Result<bool>;
    /// Does for the locked directory what [`Disk::sync_directory`] does, without a new file descriptor.
    fn sync(&self) -> io::Result<()>;
}

/// An open file. All operations take an offset, so that threads can share it without a cursor.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all slices, one after another, from `offset`.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes all bytes written so far, and the size, durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    fn size(&self) -> io::Result<u64>;
    /// Truncates or extends (with zeros) to `bytes`.
    fn set_size(&self, bytes: u64) -> io::Result<()>;
    /// Whether the path refers to this file.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
    /// The number of names of the file.
    fn links(&self) -> io::Result<u64>;
    /// Takes an exclusive advisory lock on the file, independent of the name by which it was opened, until
    /// this handle is dropped or the process ends; a child process that is just being started does not keep
    /// it. `WouldBlock` if another handle, in this process or in another, has the lock.
    fn try_lock(&self) -> io::Result<()>;

    /// Writes all of `bytes` from `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_vectored_at(&[IoSlice::new(bytes)], offset)
    }

    /// Writes all slices and returns when they are durable. Guarantees nothing about other writes to the
    /// file.
    fn write_durable(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.write_vectored_at(slices, offset)?;
        self.sync()
    }

    /// Reads until the buffer is full or the file ends; returns the number of bytes read.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl dyn Disk + '_ {
    /// Creates the directory and its parents, durably. An existing directory is made durable as well, because
    /// the process that created it may have been killed before it synced.
    pub fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        let Some(parent) = directory.parent() else { return Ok(()) };
        self.create_dir_all(parent)?;
        let was_there = self.exists(directory)?;
        if !was_there {
            match self.create_directory(directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        match self.sync_directory(parent) {
            // A parent that this process may not read, or on a file system without such a sync, has no new
            // names.
            Err(error) if was_there && cannot_be_synced(&error) => Ok(()),
            synced => synced,
        }
    }

    /// The whole content of a file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Access::Read)?;
        let mut bytes = vec![0; file.size()? as usize];
        let filled = file.read_full_at(&mut bytes, 0)?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Replaces a file's content so that every reader, also after a power cut, sees either the complete old
    /// or the complete new content; durable on return. Writes `path` + `.tmp` first.
    pub fn write_atomically(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.write_beside(path, bytes)?;
        self.replace(&temporary, path)
    }

    /// The first half of [`Self::write_atomically`], which is the one that needs space: makes the content
    /// durable in `path` + `.tmp`, and returns that path. Removes the file if it fails.
    pub fn write_beside(&self, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = self.create(&temporary)?;
        file.write_at(bytes, 0).and_then(|()| file.sync()).inspect_err(|_| {
            // The file uses space that may be scarce.
            let _ = self.remove(&temporary);
        })?;
        Ok(temporary)
    }

    /// The second half: renames the file, durably.
    pub fn replace(&self, temporary: &Path, path: &Path) -> io::Result<()> {
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.rename(temporary, path)?;
        self.sync_directory(directory)
    }
}

fn cannot_be_synced(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}
