//! Clock, randomness and disk: the engine's only doors to nondeterminism.
//!
//! Everything that differs between two runs of the same input comes through [`Env`], so that a test can put a
//! seeded clock, generator and faulty disk in its place and replay a failure from its seed. `clippy.toml` bans
//! the standard library's doors by name; [`system`] is the one file that may use them.
//!
//! What a [`Disk`] promises, and no more (this is what a journalling file system gives, read pessimistically):
//!
//! - Bytes written are durable after [`DiskFile::sync`] or [`DiskFile::write_durable`] returned. Before that, a
//!   power cut keeps any subset of the written sectors, in any order.
//! - A create, rename or remove is durable after [`Disk::sync_directory`] on the parent returned. Before that, a
//!   power cut may undo it, even if the file's bytes were synced.
//! - A failed sync says nothing about which bytes reached the disk, and a second one that succeeds says nothing
//!   either (the kernel may have dropped the dirty pages). Callers treat the first failure as fatal.

pub mod engine_clock;
pub mod system;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The doors to the outside; cheap to clone.
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

/// Time. The engine clock, which never steps back, is built on top of this ([`engine_clock`]).
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. May step in both directions.
    fn wall_ms(&self) -> u64;
    /// Time since an arbitrary fixed moment. Never steps back.
    fn monotonic(&self) -> Duration;
    /// Time that the calling thread has used of a processor. A clock that does not know takes the thread for always busy.
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

/// What an open is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

/// A file system, with its durability spelled out (see the module's doc).
pub trait Disk: Send + Sync {
    /// Creates the file, or truncates it if it is there. Open for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file; `NotFound` otherwise.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames atomically, replacing `to`. Durable after a sync of the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file, which nobody writes any more, a second name. Durable after a sync of the directory. An error where the
    /// file system cannot, or `to` is there already.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file. Durable after a sync of the directory.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates one directory; `AlreadyExists` if it is there. Durable after a sync of its parent.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;
    /// Makes the creates, renames and removes in this directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Bytes that an ordinary user can still write on the directory's file system.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
    /// Takes an exclusive lock on the directory until the guard is dropped or the process dies. No file that can be
    /// deleted carries it. `WouldBlock` when another holder, in this process or in another, has it.
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// Holds an exclusive lock; dropping it releases.
pub trait DiskLock: Send + Sync {
    /// Whether the path still leads to the directory that was locked.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// An open file. Positional only, so that threads can share it without a cursor.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all slices, one after the other, from `offset`.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes all bytes written so far, and the size, durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) to `bytes`.
    fn set_size(&self, bytes: u64) -> io::Result<()>;
    /// Whether the path leads to this very file.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
    /// How many names the file has.
    fn links(&self) -> io::Result<u64>;
    /// Takes an exclusive lock on the file, by whatever name it was opened, until this handle is dropped or the process dies.
    /// It keeps away only those who ask for it. `WouldBlock` when another handle, in this process or in another, has it.
    fn try_lock(&self) -> io::Result<()>;

    /// Writes all of `bytes` from `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_vectored_at(&[IoSlice::new(bytes)], offset)
    }

    /// Writes all slices and returns when they are durable. Promises nothing about other writes to the file.
    fn write_durable(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.write_vectored_at(slices, offset)?;
        self.sync()
    }

    /// Reads until the buffer is full or the file ends; returns how much was read.
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
    /// Creates the directory and its parents, durably. One that is there already is made durable as well: a process that
    /// created it may have been killed before it came so far.
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
            // A parent that this process may not read, or on a file system without such a sync, holds nothing new.
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

    /// Replaces a file's content so that every reader, and every power cut, sees either the old or the new
    /// content whole; durable on return. Writes `path` + `.tmp` first.
    pub fn write_atomically(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.write_beside(path, bytes)?;
        self.replace(&temporary, path)
    }

    /// The first half of [`Self::write_atomically`], which is the one that needs space: makes the content durable in
    /// `path` + `.tmp`, and returns that path. Leaves nothing behind if it fails.
    pub fn write_beside(&self, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = self.create(&temporary)?;
        file.write_at(bytes, 0).and_then(|()| file.sync()).inspect_err(|_| {
            // It takes space that may be short.
            let _ = self.remove(&temporary);
        })?;
        Ok(temporary)
    }

    /// The second half: gives the file its name, durably.
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
