//! Files as streams, over the engine's disk.

use super::error::MoveError;
use engramdb_engine::env::{Access, Disk, DiskFile, Env};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads a file from its beginning.
pub struct FileReader {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl FileReader {
    /// The reader, and the file's size in bytes.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<(FileReader, u64), MoveError> {
        let failed = |error| MoveError::Read { file: path.to_owned(), error };
        let file = disk.open(path, Access::Read).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        Ok((FileReader { file, offset: 0 }, size))
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Writes a file beside its name, and gives it the name at the end: a file with the name is whole.
pub struct FileMaker {
    env: Env,
    path: PathBuf,
    temporary: PathBuf,
    file: Arc<dyn DiskFile>,
    offset: u64,
    buffer: Vec<u8>,
    is_done: bool,
}

const BUFFER_BYTES: usize = 1 << 20;

impl FileMaker {
    pub fn create(env: &Env, path: &Path) -> Result<FileMaker, MoveError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = env.disk.create(&temporary);
        let file = file.map_err(|error| MoveError::Write { file: temporary.clone(), error })?;
        let (env, path) = (env.clone(), path.to_owned());
        Ok(FileMaker { env, path, temporary, file, offset: 0, buffer: Vec::new(), is_done: false })
    }

    /// Makes the file durable under its name.
    pub fn finish(mut self) -> Result<(), MoveError> {
        let renamed = self.flush().and_then(|()| self.file.sync());
        let renamed = renamed.and_then(|()| self.env.disk.rename(&self.temporary, &self.path));
        renamed.map_err(|error| MoveError::Write { file: self.path.clone(), error })?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for FileMaker {
    fn drop(&mut self) {
        if !self.is_done {
            // A part of a file is of no use.
            _ = self.env.disk.remove(&self.temporary);
        }
    }
}

impl Write for FileMaker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
