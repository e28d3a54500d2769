//! The machine's own clock, randomness and file system: the one file that may use them directly.
#![allow(clippy::disallowed_methods)] // This is where the banned doors lead to.

use super::{Access, Clock, Disk, DiskFile, DiskLock, Random};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    pub fn new() -> SystemClock {
        SystemClock { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn thread_cpu(&self) -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// The standard library's per-thread generator, seeded by the operating system; not for cryptographic
/// secrets.
pub struct SystemRandom(());

impl SystemRandom {
    pub fn new() -> SystemRandom {
        SystemRandom(())
    }
}

impl Default for SystemRandom {
    fn default() -> SystemRandom {
        SystemRandom::new()
    }
}

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

/// Unix files. Reads and writes use libc's functions (not raw system calls), so that a preloaded library can
/// delay or fail them.
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(SystemFile::new(file)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(path)?;
        Ok(Arc::new(SystemFile::new(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            // A name that is not UTF-8 is not a file of EngramDB.
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(directory)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    fn lock(&self, directory: &Path) -> io::Result<Box<dyn DiskLock>> {
        let opened = File::open(directory)?;
        match opened.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) if !locks_files_only(&error) => return Err(error),
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let path = directory.join(LOCK_FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(SystemLock { path: directory.to_owned(), directory: opened, file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A lock file in addition to the directory itself, because network file systems may lock only files; it also
/// shows people that the directory is in use.
const LOCK_FILE: &str = "LOCK";

/// Whether the file system cannot lock directories.
fn locks_files_only(error: &io::Error) -> bool {
    let refusals = [Errno::BADF, Errno::INVAL, Errno::ISDIR, Errno::NOLCK, Errno::NOTSUP, Errno::NOSYS];
    Errno::from_io_error(error).is_some_and(|errno| refusals.contains(&errno))
}

/// The locks are held as long as the files are open.
struct SystemLock {
    path: PathBuf,
    directory: File,
    file: File,
}

impl Drop for SystemLock {
    fn drop(&mut self) {
        unlock(&self.file);
        unlock(&self.directory);
    }
}

/// Gives a lock back before its file is closed. Closing alone would leave it to a child process between its
/// fork and its exec, which has a copy of the descriptor, for as long as that takes. There is nothing to do
/// about an error: the lock ends with the process at the latest.
fn unlock(file: &File) {
    let _ = file.unlock();
}

impl DiskLock for SystemLock {
    fn is_in_place(&self) -> io::Result<bool> {
        leads_to(&self.path, &self.directory)
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

/// Whether the path refers to the open file.
fn leads_to(path: &Path, open: &File) -> io::Result<bool> {
    let open = open.metadata()?;
    match std::fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        // A path that cannot be read is assumed to be unchanged.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        Err(error) => Err(error),
    }
}

struct SystemFile {
    file: File,
    is_locked: AtomicBool,
}

impl SystemFile {
    fn new(file: File) -> SystemFile {
        SystemFile { file, is_locked: AtomicBool::new(false) }
    }
}

impl Drop for SystemFile {
    fn drop(&mut self) {
        if *self.is_locked.get_mut() {
            unlock(&self.file);
        }
    }
}

impl DiskFile for SystemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut offset = offset;
        for slice in slices {
            self.file.write_all_at(slice, offset)?;
            offset += slice.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        leads_to(path, &self.file)
    }

    fn links(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.nlink())
    }

    fn try_lock(&self) -> io::Result<()> {
        match self.file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => {
                self.is_locked.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_handle_though_a_child_has_a_copy_of_it() {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let path = directory.path().join("locked");
        let open = || SystemFile::new(File::create(&path).expect("it is writable"));
        let locked = open();
        // As a child has it between its fork and its exec.
        let copy = locked.file.try_clone().expect("a descriptor is free");
        locked.try_lock().expect("the only handle");
        let other = open();
        assert!(other.try_lock().is_err(), "it is locked");
        drop(locked);
        other.try_lock().expect("the lock went with the handle");
        drop(copy);
    }

    #[test]
    fn a_directory_is_unlocked_with_its_handle_though_a_child_has_a_copy_of_it() {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let opened = File::open(directory.path()).expect("it was just made");
        let file = File::create(directory.path().join(LOCK_FILE)).expect("it is writable");
        for locked in [&opened, &file] {
            locked.try_lock().expect("the only handle");
        }
        let copies = [&opened, &file].map(|file| file.try_clone().expect("a descriptor is free"));
        let lock = SystemLock { path: directory.path().to_owned(), directory: opened, file };
        assert!(SystemDisk.lock(directory.path()).is_err(), "it is locked");
        drop(lock);
        SystemDisk.lock(directory.path()).expect("the lock went with the handle");
        drop(copies);
    }
}
