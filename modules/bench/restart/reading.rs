//! The lower bound of a start: its files, read from the page cache and checksummed, in the simplest way.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::BenchError;

/// The number of bytes that a thread takes at a time.
const PIECE_BYTES: u64 = 8 << 20;
/// The number of bytes read at a time: they stay in the processor's second-level cache until they are
/// checksummed.
const BUFFER_BYTES: usize = 256 << 10;

/// The folders and extensions of the files that a start reads.
const SNAPSHOTS: (&str, &str) = ("shards/0/snapshots", "snapshot");
const INDEXES: (&str, &str) = ("shards/0/indexes", "index");

/// The files that a start reads: the newest snapshot, and all saved indexes.
pub(super) struct SavedFiles {
    /// Ranges of files, none longer than `PIECE_BYTES`.
    pieces: Vec<(PathBuf, u64, u64)>,
    pub(super) snapshot_bytes: u64,
    pub(super) index_bytes: u64,
}

impl SavedFiles {
    /// The files of a data directory whose server was shut down cleanly.
    pub(super) fn find(directory: &Path) -> Result<Self, BenchError> {
        let snapshot: Vec<_> = files(directory, SNAPSHOTS)?.into_iter().max().into_iter().collect();
        let indexes = files(directory, INDEXES)?;
        if snapshot.is_empty() || indexes.is_empty() {
            return Err(BenchError::Usage(format!(
                "the server left no snapshot or no saved index in {}",
                directory.display()
            )));
        }
        let sum = |files: &[(PathBuf, u64)]| files.iter().map(|(_, bytes)| bytes).sum();
        Ok(Self {
            snapshot_bytes: sum(&snapshot),
            index_bytes: sum(&indexes),
            pieces: snapshot.iter().chain(&indexes).flat_map(|(path, bytes)| pieces(path, *bytes)).collect(),
        })
    }

    /// Reads everything with `threads` threads; returns the checksums of the pieces, folded into one number.
    pub(super) fn checksum(&self, threads: usize) -> Result<u32, BenchError> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<u32, BenchError> {
            let mut buffer = vec![0; BUFFER_BYTES];
            let mut folded = 0;
            while let Some((path, offset, bytes)) = self.pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                let piece = checksum_piece(path, *offset, *bytes, &mut buffer);
                folded ^= piece.map_err(|source| BenchError::Read { path: path.clone(), source })?;
            }
            Ok(folded)
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().expect("reading ends in a result")
            };
            others.into_iter().map(join).fold(own, |sum, other| Ok(sum? ^ other?))
        })
    }
}

fn checksum_piece(path: &Path, offset: u64, bytes: u64, buffer: &mut [u8]) -> std::io::Result<u32> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut input = file.take(bytes);
    let mut checksum = 0;
    loop {
        match input.read(buffer)? {
            0 => return Ok(checksum),
            count => checksum = crc32c::crc32c_append(checksum, &buffer[..count]),
        }
    }
}

/// Paths and sizes of the files in a folder with this extension.
fn files(directory: &Path, (folder, ending): (&str, &str)) -> Result<Vec<(PathBuf, u64)>, BenchError> {
    let folder = directory.join(folder);
    let find = || -> std::io::Result<_> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == ending) {
                found.push((entry.path(), entry.metadata()?.len()));
            }
        }
        Ok(found)
    };
    find().map_err(|source| BenchError::Read { path: folder.clone(), source })
}

fn pieces(path: &Path, bytes: u64) -> impl Iterator<Item = (PathBuf, u64, u64)> {
    let starts = (0..bytes).step_by(PIECE_BYTES as usize);
    starts.map(move |start| (path.to_owned(), start, PIECE_BYTES.min(bytes - start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_the_newest_snapshot_and_of_the_indexes_is_read_once() {
        let directory = engramdb_testkit::TempDir::new("bench-reading");
        let long: Vec<u8> = (0..PIECE_BYTES as usize + 5).map(|number| (number / 7) as u8).collect();
        for (name, content) in [
            ("shards/0/snapshots/01.snapshot", &b"an older one"[..]),
            ("shards/0/snapshots/02.snapshot", &long),
            ("shards/0/snapshots/MANIFEST", b"{}"),
            ("shards/0/indexes/7.index", b"links"),
        ] {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let found = SavedFiles::find(&directory).unwrap();
        assert_eq!((found.snapshot_bytes, found.index_bytes), (PIECE_BYTES + 5, 5));
        let (first, rest) = long.split_at(PIECE_BYTES as usize);
        let expected =
            [first, rest, b"links"].map(crc32c::crc32c).into_iter().fold(0, |sum, each| sum ^ each);
        for threads in 1..=3 {
            assert_eq!(found.checksum(threads).unwrap(), expected, "{threads} threads");
        }
    }
}
