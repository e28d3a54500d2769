//! Runs the log's reader over arbitrary bytes, for fuzzing: errors are fine, panics are not.

use super::segment::{BLOCK_BYTES, Catalog, repair_header_crc};
use super::{LocalIter, Until};
use crate::env::system::{SystemClock, SystemRandom};
use crate::env::{Access, Disk, DiskFile, DiskLock, Env};
use crate::log::entry;
use crate::log::replay::{Checkpoint, Replay};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// Reads the bytes as segment 1 of a log, unchanged and with all checksums corrected, so that mutations reach
/// the code after the checksum tests. Returns how many batches were read.
pub fn fuzz_reader(bytes: &[u8]) -> usize {
    let mut repaired = bytes.to_vec();
    if let Some(block) = repaired.get_mut(..BLOCK_BYTES) {
        // Zeroes the size in the header, so that no file is shorter than it.
        block[40..48].fill(0);
        repair_header_crc(block);
    }
    for offset in (BLOCK_BYTES..repaired.len()).step_by(BLOCK_BYTES) {
        entry::repair_crc(&mut repaired[offset..]);
    }
    read_segment(bytes.to_vec()).max(read_segment(repaired))
}

fn read_segment(bytes: Vec<u8>) -> usize {
    let disk = Arc::new(OneFile(Arc::new(Bytes(bytes))));
    let env = Env { clock: Arc::new(SystemClock::new()), random: Arc::new(SystemRandom::new()), disk };
    let Ok(catalog) = Catalog::load(&*env.disk, Path::new("fuzz")) else { return 0 };
    let Some(first) = catalog.started.first() else { return 0 };
    let from = Checkpoint {
        mark: first.header.before,
        lsn: first.header.lsn,
        checksum: first.header.checksum,
        engine_time_ms: 0,
    };
    let iter = LocalIter::new(env, catalog.started, from.mark.pos, Until::End, Arc::default());
    let mut replay = Replay::over(Box::new(iter), from);
    let mut batches = 0;
    loop {
        match replay.next() {
            Ok(Some(_)) => batches += 1,
            Ok(None) => break,
            Err(_) => return batches,
        }
    }
    replay.finish();
    batches
}

/// A read-only disk with one file.
struct OneFile(Arc<Bytes>);

struct Bytes(Vec<u8>);

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Disk for OneFile {
    fn create(&self, _path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        unsupported()
    }
    fn open(&self, _path: &Path, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.0.clone())
    }
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        unsupported()
    }
    fn remove(&self, _path: &Path) -> io::Result<()> {
        unsupported()
    }
    fn list(&self, _directory: &Path) -> io::Result<Vec<String>> {
        Ok(vec!["0000000000000001.log".to_owned()])
    }
    fn exists(&self, _path: &Path) -> io::Result<bool> {
        unsupported()
    }
    fn create_directory(&self, _directory: &Path) -> io::Result<()> {
        unsupported()
    }
    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        unsupported()
    }
    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        unsupported()
    }
    fn lock(&self, _directory: &Path) -> io::Result<Box<dyn DiskLock>> {
        unsupported()
    }
}

impl DiskFile for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn write_vectored_at(&self, _slices: &[IoSlice<'_>], _offset: u64) -> io::Result<()> {
        unsupported()
    }
    fn sync(&self) -> io::Result<()> {
        unsupported()
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn set_size(&self, _bytes: u64) -> io::Result<()> {
        unsupported()
    }
    fn is_at(&self, _path: &Path) -> io::Result<bool> {
        unsupported()
    }
    fn links(&self) -> io::Result<u64> {
        unsupported()
    }
    fn try_lock(&self) -> io::Result<()> {
        unsupported()
    }
}
