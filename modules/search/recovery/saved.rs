//! Saved graphs: files that an index keeps between runs, so that a start need not rebuild its graphs.
//!
//! One file per index, `<id of the index>.index`, little-endian:
//!
//! ```text
//! header, 40 bytes
//!    0  "ENGRINDX"                   8  u32 format version (1, or 2 with rows)
//!   12  u32 CRC-32C of the footer   16  u64 id of the index
//!   24  u64 offset of the footer    32  u64 bytes of the footer
//! graphs, one after the other, as `engramdb_vector` saves them (with checksums of their own)
//! footer
//!   u32 bound of document ids
//!   u32 graphs, then for each: u32 field, u64 offset, u64 bytes
//!   u32 documents, then for each: u32 id, u32 bytes of the key, the key
//!   version 2: u32 lists of rows, then for each: u32 id of the document, u32 field, u32 rows, the rows (u32)
//! ```
//!
//! The file is a cache. Its graphs need not show the same moment as each other or as the snapshot, because
//! loading compares every document with the keyspace (`restoring`). It is written under a temporary name,
//! synced and renamed, so that the final name always has a complete file. After a power cut an older file may
//! come back, which is harmless for the same reason.

use super::parallel::in_parallel;
use crate::documents::Keys;
use crate::index::Index;
use crate::schema::bytes::Reader;
use crate::schema::create::FIELDS_MAX;
use crate::vectors::workers::WorkerCaller;
use engramdb_engine::env::{Access, Disk, DiskFile, Env};
use engramdb_engine::hashing::{HashMap, HashSet};
use engramdb_vector::{Hnsw, Input, Loading};
use parking_lot::Mutex;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

const MAGIC: &[u8; 8] = b"ENGRINDX";
/// Of files without rows (documents/rows.rs), as programs write them that know of none.
const FORMAT_VERSION: u32 = 1;
const FORMAT_VERSION_ROWS: u32 = 2;
const HEADER_BYTES: u64 = 40;
const BUFFER_BYTES: usize = 1 << 20;
const SUFFIX: &str = ".index";

/// The content of a file.
pub struct Saved {
    /// The documents' keys.
    pub keys: Keys,
    /// Each graph with the number of its field, still without its vectors.
    pub graphs: Vec<(usize, Loading)>,
}

/// Saved indexes by their ids; an error says why a file cannot be used.
pub type AllSaved = HashMap<u64, Result<Saved, String>>;

fn path_of(directory: &Path, index: u64) -> PathBuf {
    directory.join(format!("{index:020}{SUFFIX}"))
}

/// Writes the graphs of all indexes, and removes the files of dropped ones. Returns a report for the log, or
/// an error text.
pub fn save_all(
    env: &Env,
    directory: &Path,
    workers: &WorkerCaller,
    indexes: &[Arc<Index>],
) -> Result<String, String> {
    let start = env.clock.monotonic();
    let failed = |error: io::Error| format!("cannot write to {}: {error}", directory.display());
    env.disk.create_dir_all(directory).map_err(failed)?;
    let mut nodes = 0;
    // An index whose backfill is running is skipped: its file would load as if it were complete.
    for index in indexes.iter().filter(|index| !index.is_dropped() && !index.is_backfilling()) {
        nodes += save(env, directory, workers, index).map_err(failed)?;
    }
    let ids: Vec<u64> = indexes.iter().map(|index| index.definition.id).collect();
    remove_others(&*env.disk, directory, &ids).map_err(failed)?;
    let elapsed = env.clock.monotonic().saturating_sub(start);
    Ok(format!("saved the graphs of {} indexes, {nodes} nodes, in {} ms", indexes.len(), elapsed.as_millis()))
}

/// Writes all graphs of the index; returns how many nodes they have.
fn save(env: &Env, directory: &Path, workers: &WorkerCaller, index: &Arc<Index>) -> io::Result<usize> {
    let path = path_of(directory, index.definition.id);
    let temporary = path.with_extension("tmp");
    let file = env.disk.create(&temporary)?;
    let written = write(&*file, workers, index).inspect_err(|_| {
        // The earlier file stays; the incomplete one would only take room.
        let _ = env.disk.remove(&temporary);
    })?;
    env.disk.rename(&temporary, &path)?;
    env.disk.sync_directory(directory)?;
    Ok(written)
}

/// Writes and syncs the file; returns how many nodes the graphs have.
fn write(file: &dyn DiskFile, workers: &WorkerCaller, index: &Arc<Index>) -> io::Result<usize> {
    let mut out = FileWriter { file, offset: HEADER_BYTES, buffer: Vec::new() };
    let mut graphs = Vec::new();
    let mut nodes = 0;
    for (field, vectors) in index.vectors.iter().enumerate() {
        let Some(vectors) = vectors else { continue };
        if vectors.settle() {
            workers.call(vectors);
        }
        let structure = vectors.structure();
        let Some(graph) = structure.graph() else { continue };
        let start = out.position();
        graph.save(&mut out)?;
        nodes += structure.index().len();
        graphs.push((field as u32, start, out.position() - start));
    }
    // After the graphs, so that every id in them is below the footer's bound.
    let (footer, version) = footer(index, &graphs);
    let footer_offset = out.position();
    out.write_all(&footer)?;
    out.flush()?;
    file.write_at(&header(version, index.definition.id, footer_offset, &footer), 0)?;
    file.sync()?;
    Ok(nodes)
}

fn header(version: u32, index: u64, footer_offset: u64, footer: &[u8]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(version.to_le_bytes());
    header.extend(crc32c::crc32c(footer).to_le_bytes());
    header.extend(index.to_le_bytes());
    header.extend(footer_offset.to_le_bytes());
    header.extend((footer.len() as u64).to_le_bytes());
    header
}

/// The footer, and the version of the format.
fn footer(index: &Index, graphs: &[(u32, u64, u64)]) -> (Vec<u8>, u32) {
    let documents = index.documents.read();
    let mut footer = documents.id_bound().to_le_bytes().to_vec();
    footer.extend((graphs.len() as u32).to_le_bytes());
    for (field, offset, bytes) in graphs {
        footer.extend(field.to_le_bytes());
        footer.extend(offset.to_le_bytes());
        footer.extend(bytes.to_le_bytes());
    }
    footer.extend((documents.len() as u32).to_le_bytes());
    for (key, id) in documents.keys() {
        footer.extend(id.to_le_bytes());
        footer.extend((key.len() as u32).to_le_bytes());
        footer.extend_from_slice(key);
    }
    let lists: Vec<_> = documents.row_lists().collect();
    if lists.is_empty() {
        return (footer, FORMAT_VERSION);
    }
    footer.extend((lists.len() as u32).to_le_bytes());
    for (id, field, rows) in lists {
        [id, field as u32, rows.len() as u32].iter().for_each(|number| footer.extend(number.to_le_bytes()));
        rows.iter().for_each(|row| footer.extend(row.to_le_bytes()));
    }
    (footer, FORMAT_VERSION_ROWS)
}

/// Reads all saved indexes of a directory in a thread, while the caller opens the log. The loading of keys
/// waits for the thread, so that each key is read once.
pub fn read_all(env: &Env, directory: &Path) -> JoinHandle<AllSaved> {
    let (env, directory) = (env.clone(), directory.to_owned());
    let run = move || {
        // Without the directory there are no saved indexes.
        let names = env.disk.list(&directory).unwrap_or_default();
        let id = |name: &str| name.strip_suffix(SUFFIX)?.parse().ok();
        let ids: Vec<u64> = names.iter().filter_map(|name| id(name)).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let saved = Mutex::new(AllSaved::default());
        in_parallel(cores.min(ids.len()), &ids, |&id| {
            let read = read(&env, &path_of(&directory, id), id);
            saved.lock().insert(id, read);
        });
        saved.into_inner()
    };
    std::thread::Builder::new()
        .name("graphs".to_owned())
        .spawn(run)
        .expect("the system has room for a thread")
}

fn read(env: &Env, path: &Path, index: u64) -> Result<Saved, String> {
    let file = env.disk.open(path, Access::Read);
    let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let (footer, version) = read_footer(&file, index).map_err(|error| error.to_string())?;
    let damaged = || "its footer is damaged".to_owned();
    let mut rest = Reader(&footer);
    let (id_bound, places) = places(&mut rest).ok_or_else(damaged)?;
    let load = |(field, offset, bytes): Place| {
        let file = file.clone();
        offset.checked_add(bytes).ok_or_else(damaged)?;
        let graph = Hnsw::load(&FilePart { file, offset, bytes }).map_err(|error| error.to_string())?;
        Ok((field as usize, graph))
    };
    std::thread::scope(|scope| {
        let keys = scope.spawn(move || keys(&mut rest, id_bound, version));
        let graphs = places.into_iter().map(load).collect::<Result<_, String>>()?;
        let keys = keys.join().expect("the thread returns a result").ok_or_else(damaged)?;
        Ok(Saved { keys, graphs })
    })
}

/// Checks the header and reads the footer that it names. Returns the version of the format too.
fn read_footer(file: &Arc<dyn DiskFile>, index: u64) -> io::Result<(Vec<u8>, u32)> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is not a saved index of this version");
    let mut bytes = [0; HEADER_BYTES as usize];
    if file.read_full_at(&mut bytes, 0)? < bytes.len() || &bytes[..8] != MAGIC {
        return Err(damaged());
    }
    let mut fields = Reader(&bytes[8..]);
    let (version, crc) = (fields.u32(), fields.u32());
    let (saved_index, offset, length) = (fields.u64(), fields.u64(), fields.u64());
    let (offset, length) = (offset.unwrap_or_default(), length.unwrap_or_default());
    let fits = offset.checked_add(length) == Some(file.size()?);
    let version = version.filter(|version| [FORMAT_VERSION, FORMAT_VERSION_ROWS].contains(version));
    let Some(version) = version else { return Err(damaged()) };
    if saved_index != Some(index) || !fits {
        return Err(damaged());
    }
    let mut footer = vec![0; length as usize];
    file.read_full_at(&mut footer, offset)?;
    if crc != Some(crc32c::crc32c(&footer)) {
        return Err(damaged());
    }
    Ok((footer, version))
}

/// Removes the files of indexes that no longer exist.
fn remove_others(disk: &dyn Disk, directory: &Path, indexes: &[u64]) -> io::Result<()> {
    let keep: HashSet<PathBuf> = indexes.iter().map(|&index| path_of(directory, index)).collect();
    for name in disk.list(directory)? {
        let path = directory.join(name);
        if !keep.contains(&path) {
            disk.remove(&path)?;
        }
    }
    disk.sync_directory(directory)
}

/// A field, and its graph's offset and length in the file, in bytes.
type Place = (u32, u64, u64);

/// The bound of ids, and the graphs.
fn places(footer: &mut Reader<'_>) -> Option<(u32, Vec<Place>)> {
    let id_bound = footer.u32()?;
    let graphs = footer.u32()?;
    let place = |_| Some((footer.u32()?, footer.u64()?, footer.u64()?));
    Some((id_bound, (0..graphs).map(place).collect::<Option<_>>()?))
}

/// The keys with their ids and rows; `None` unless they end at the footer's end.
fn keys(footer: &mut Reader<'_>, id_bound: u32, version: u32) -> Option<Keys> {
    let documents = footer.u32()?;
    let document = |_| footer.u32().and_then(|id| Some((footer.bytes()?, id)));
    let keys: Vec<(&[u8], u32)> = (0..documents).map(document).collect::<Option<_>>()?;
    let mut keys = Keys::of_earlier_run(id_bound, keys.into_iter())?;
    let lists = if version == FORMAT_VERSION_ROWS { footer.u32()? } else { 0 };
    for _ in 0..lists {
        let (id, field, count) = (footer.u32()?, footer.u32()?, footer.u32()?);
        let rows: Vec<u32> = (0..count).map(|_| footer.u32()).collect::<Option<_>>()?;
        if field as usize >= FIELDS_MAX || !keys.give_rows(id, field as usize, &rows) {
            return None;
        }
    }
    footer.0.is_empty().then_some(keys)
}

/// Appends to a file through a buffer.
struct FileWriter<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    buffer: Vec<u8>,
}

impl FileWriter<'_> {
    fn position(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }
}

impl Write for FileWriter<'_> {
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

/// A part of a file.
struct FilePart {
    file: Arc<dyn DiskFile>,
    offset: u64,
    bytes: u64,
}

impl Input for FilePart {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let is_inside = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.bytes);
        if !is_inside || self.file.read_full_at(bytes, self.offset + offset)? < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
