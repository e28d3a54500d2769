//! The log's tail, sorted by parts of the keyspace: in memory while a part is small, else in a temporary
//! file. Where the disk has no room for that, a bounded part of it stays in memory: a snapshot is what makes
//! room.
//!
//! The files are of no use to anybody after this process: they are not synced, and the next run removes what
//! a kill left behind. A CRC kept in memory checks what comes back.

use super::create::is_no_room;
use crate::effect::{Effect, Record};
use crate::env::{Disk, DiskFile, Env};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A part's effects go to its file in pieces of this.
const BUFFER_BYTES: usize = 32 << 10;

/// What may stay in memory where the disk has no room for files.
const KEPT_BYTES_MAX: usize = 256 << 20;

pub struct Spills {
    env: Env,
    parts: Vec<Spill>,
    /// Set once the disk has no room: what comes from then on stays in memory, and this is its size.
    kept_bytes: Option<usize>,
}

struct Spill {
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    /// What is in the file.
    bytes: u64,
    crc: u32,
    buffer: Vec<u8>,
}

impl Spills {
    pub fn new(env: Env, directory: &Path, parts: usize) -> Spills {
        let spill = |part| Spill {
            path: directory.join(format!("spill-{part}.tmp")),
            file: None,
            bytes: 0,
            crc: 0,
            buffer: Vec::new(),
        };
        Spills { env, parts: (0..parts).map(spill).collect(), kept_bytes: None }
    }

    /// Bytes of memory that they take.
    pub fn held_bytes(&self) -> usize {
        self.parts.iter().map(|spill| spill.buffer.capacity()).sum()
    }

    pub fn add(&mut self, part: usize, record: &Record<'_>) -> io::Result<()> {
        let spill = &mut self.parts[part];
        let before = spill.buffer.len();
        record.effect.encode(record.database, &mut spill.buffer);
        if let Some(kept_bytes) = &mut self.kept_bytes {
            *kept_bytes += spill.buffer.len() - before;
            let fits = *kept_bytes <= KEPT_BYTES_MAX;
            return if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) };
        }
        if spill.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        match spill.flush(&*self.env.disk) {
            Err(error) if is_no_room(&error) => {
                self.kept_bytes = Some(0);
                Ok(())
            }
            done => done,
        }
    }

    /// Adds an effect on whole databases. One that removes everything makes what came before it needless.
    pub fn add_to_all(&mut self, record: &Record<'_>) -> io::Result<()> {
        if matches!(record.effect, Effect::FlushAll) {
            self.parts.iter_mut().try_for_each(|spill| spill.remove(&*self.env.disk))?;
            self.kept_bytes = None;
        }
        (0..self.parts.len()).try_for_each(|part| self.add(part, record))
    }

    /// Calls `each` for every effect of a part, in order, until it returns false; then the part is empty.
    pub fn read(&mut self, part: usize, each: &mut dyn FnMut(&Record<'_>) -> bool) -> io::Result<()> {
        let spill = &mut self.parts[part];
        let mut pending = Vec::new();
        let (mut offset, mut crc) = (0, 0);
        while offset < spill.bytes {
            let file = spill.file.as_ref().expect("flushed bytes are in a file");
            let start = pending.len();
            pending.resize(start + BUFFER_BYTES.min((spill.bytes - offset) as usize), 0);
            let filled = file.read_full_at(&mut pending[start..], offset)?;
            if filled < pending.len() - start {
                return Err(damaged(&spill.path));
            }
            crc = crc32c::crc32c_append(crc, &pending[start..]);
            offset += filled as u64;
            if offset == spill.bytes && crc != spill.crc {
                return Err(damaged(&spill.path));
            }
            let Some(rest) = decode(&pending, each) else { return Ok(()) };
            pending.drain(..pending.len() - rest);
        }
        pending.append(&mut spill.buffer);
        match decode(&pending, each) {
            None | Some(0) => {}
            Some(_) => return Err(damaged(&spill.path)),
        }
        spill.remove(&*self.env.disk)
    }
}

impl Drop for Spills {
    fn drop(&mut self) {
        for spill in &mut self.parts {
            // What stays behind is removed by the next run.
            let _ = spill.remove(&*self.env.disk);
        }
    }
}

impl Spill {
    fn flush(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(disk.create(&self.path)?);
        }
        let file = self.file.as_ref().expect("just created");
        assert!(!self.buffer.is_empty(), "a piece has effects");
        file.write_at(&self.buffer, self.bytes)?;
        self.bytes += self.buffer.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        Ok(())
    }

    fn remove(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.bytes = 0;
        self.crc = 0;
        self.buffer = Vec::new();
        match self.file.take() {
            Some(_) => disk.remove(&self.path),
            None => Ok(()),
        }
    }
}

/// Decodes whole effects; returns how many bytes are left over, `None` if `each` had enough.
pub(super) fn decode(mut bytes: &[u8], each: &mut dyn FnMut(&Record<'_>) -> bool) -> Option<usize> {
    while let Ok((record, rest)) = Record::decode(bytes) {
        if !each(&record) {
            return None;
        }
        bytes = rest;
    }
    Some(bytes.len())
}

fn damaged(path: &Path) -> io::Error {
    let detail = format!("{} does not hold what was written", path.display());
    io::Error::new(io::ErrorKind::InvalidData, detail)
}
