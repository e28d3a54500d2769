//! The local backend: segment files in one directory, one writing process, one machine.
//!
//! How it keeps the rules of [`crate::log`]:
//!
//! - One writer: an exclusive lock on the directory, which cannot be deleted separately from the log, and a
//!   Claim per start. Readers take no lock: a sealed segment changes only by being cut to its used length and
//!   by being removed.
//! - A start seals the last segment and claims in a new one ([`segment`] describes the life of a file). So
//!   bytes that a crash left after the last valid entry are never overwritten; they are after the seal.
//! - A start reads what the last process wrote. This need not be durable: that process may have been killed
//!   before its sync ended, or have stopped because the sync failed. Bytes that nothing proves to be durable
//!   ([`reader::Unproven`]) are written again and synced before the claim.
//! - Before anything is written to a file, it is preallocated with zeros and synced, then renamed to its
//!   name, and its directory is synced ([`spare`]). So an append changes no metadata, its sync costs one
//!   write, and only preallocation can meet a full disk, before anything is acknowledged. A reserve is held
//!   back for work that must go on while the disk is full: deletes, seals, claims ([`reserve`]). What is
//!   promised to an append is open already, as is the directory, so that an append needs no new file
//!   descriptor either.
//! - An entry is acknowledged when [`crate::env::DiskFile::write_durable`] has returned for it and for all
//!   entries before it. The next segment's header is written only after that, because it proves that all
//!   earlier entries are durable.
//! - Nothing is written to a file that another process may write to. Directories with separate locks can
//!   contain the same files (hard links: `cp -al`), so the files themselves are locked: the last segment
//!   before a start reads it, a prepared file and the current segment as long as they are open. A prepared
//!   file with a second name is never used, because two directories would write to it.
//! - The first error of a write or a sync stops the log for good.
//! - So does a directory or a current segment that is no longer at its path, because the next start would not
//!   find what is written to it. This is checked before each start of a segment, and every
//!   [`writer::CHECK_EVERY`] before an acknowledgement.
//!
//! On file systems that never write in place (btrfs, zfs), an append can still meet a full disk. That is a
//! fatal error.

mod fuzzing;
mod reader;
mod reserve;
mod segment;
mod spare;
mod writer;

pub use fuzzing::fuzz_reader;
pub use reader::{LocalIter, Tail, Until};
pub use reserve::RESERVE_OPEN_FILES;
pub use segment::{
    BLOCK_BYTES, Catalog, SegmentHeader, SegmentInfo, segment_number, segment_path as segment_file,
};

use super::entry::HEADER_BYTES;
use super::{
    Claim, ClaimError, EntryIter, Epoch, LogEnd, LogId, LogLimits, LogWriter, Mark, Pos, ReadError, Room,
    ShardLog, TrimError,
};
use crate::env::{Access, DiskFile, DiskLock, Env};
use parking_lot::{Condvar, Mutex};
use reader::Frontier;
use reserve::ReserveKind;
use spare::{PreparedFiles, Spares};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use writer::Queue;

#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Size of a segment file; a multiple of [`BLOCK_BYTES`].
    pub segment_bytes: u64,
    /// Largest entry. A segment holds at least two.
    pub entry_bytes_max: usize,
    /// The most entries that are appended and not yet durable. One thread writes them one after the other, so
    /// more than one only makes entries smaller, each with its own sync (decision 0003).
    pub entries_in_flight_max: usize,
    /// Prepares segments in a thread of the log; otherwise in the caller's thread, for tests that must replay
    /// from a seed.
    pub background: bool,
}

impl Default for LocalOptions {
    fn default() -> LocalOptions {
        LocalOptions {
            segment_bytes: 64 << 20,
            entry_bytes_max: 1 << 20,
            entries_in_flight_max: 1,
            background: true,
        }
    }
}

impl LocalOptions {
    /// The bytes that a segment with this much space is sure to take: without the end, into which the largest
    /// entry may not fit.
    fn usable_bytes(&self, free_bytes: u64) -> u64 {
        let wasted_at_most = padded(self.entry_bytes_max) - BLOCK_BYTES as u64;
        free_bytes.saturating_sub(wasted_at_most)
    }
}

fn padded(bytes: usize) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES) as u64
}

/// The bytes that an entry with this payload takes in a segment.
fn padded_entry_bytes(payload_bytes: usize) -> u64 {
    padded(HEADER_BYTES + payload_bytes)
}

/// The reason why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process has the log in {} open", directory.display())]
    Locked { directory: PathBuf },
    #[error("{}", locked_text(file))]
    SegmentLocked { file: PathBuf },
    #[error(
        "the log in {} has lost all its segments (NUMBER.log): the file {STARTED} shows that there were some. Put them back; or \
         restore a backup, or the directory snapshots, to a new directory with `engramdb restore`; or remove the whole data \
         directory to start with an empty store",
        directory.display()
    )]
    NoSegments { directory: PathBuf },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("cannot open the log in {}: {error}", directory.display())]
    Io { directory: PathBuf, error: io::Error },
}

fn locked_text(file: &Path) -> String {
    format!(
        "another process has {} open for writing, under this or another name; perhaps a server runs on another directory, of which \
         this one is a copy by hard links. Stop that process, or make the copy with `engramdb backup`",
        file.display()
    )
}

/// Locks a file before it is written to.
fn lock_file(file: &dyn DiskFile, path: &Path) -> io::Result<()> {
    file.try_lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other(locked_text(path)),
        _ => error,
    })
}

/// A file that exists once the log has been written to: a directory without segments is then not a new one.
const STARTED: &str = "STARTED";
const STARTED_TEXT: &str = "This log has been written to. Without its segments no server starts on it.\n";

/// The log in a directory, opened for reading and writing.
pub struct LocalLog {
    shared: Arc<Shared>,
    preparer: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    env: Env,
    directory: PathBuf,
    options: LocalOptions,
    id: LogId,
    /// The log that this one was branched from, and the last position taken from it; zero if none.
    parent: (LogId, Pos),
    state: Mutex<State>,
    /// Readers wait here for entries.
    more: Condvar,
    /// The current writer's queue. The lock is held during a claim and the start of a segment, and taken
    /// before the other locks.
    claimed: Mutex<Option<Arc<Queue>>>,
    spares: Spares,
    /// Set by a reader that reached the end before the claim.
    tail: Arc<Mutex<Option<Tail>>>,
    lock: Box<dyn DiskLock>,
}

struct State {
    /// Started segments.
    segments: Vec<SegmentInfo>,
    /// The last segment, once there is a writer.
    current: Option<(PathBuf, Arc<dyn DiskFile>)>,
    /// Free bytes of the current segment.
    current_free_bytes: u64,
    /// The last segment of the previous process, locked until it is sealed.
    last: Option<Arc<dyn DiskFile>>,
    /// The current writer's epoch; 0 before there is one.
    epoch: Epoch,
    /// The end of what is durable, once there is a writer.
    frontier: Option<Frontier>,
    /// The bytes that the last process left were made durable.
    is_secured: bool,
    /// The log was dropped: remaining readers get no more entries.
    is_closed: bool,
}

impl LocalLog {
    /// Takes the lock and reads the segments' headers. The directory is created if it is missing.
    pub fn open(env: Env, directory: &Path, options: LocalOptions) -> Result<LocalLog, OpenError> {
        assert!(options.segment_bytes.is_multiple_of(BLOCK_BYTES as u64), "segments are whole blocks");
        assert!(options.segment_bytes >= 3 * padded(options.entry_bytes_max), "a segment holds two entries");
        let failed = |error| OpenError::Io { directory: directory.to_owned(), error };
        env.disk.create_dir_all(directory).map_err(failed)?;
        let lock = env.disk.lock(directory).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { directory: directory.to_owned() },
            _ => failed(error),
        })?;
        let catalog = Catalog::load(&*env.disk, directory)?;
        let last = match catalog.started.last() {
            Some(segment) => Some(lock_last(&env, segment)?),
            None if env.disk.exists(&directory.join(STARTED)).map_err(failed)? => {
                return Err(OpenError::NoSegments { directory: directory.to_owned() });
            }
            None => None,
        };
        let mut fresh_id = [0; 16];
        env.random.fill(&mut fresh_id);
        let id = catalog.started.first().map_or(LogId(fresh_id), |segment| segment.header.log_id);
        let parent = catalog.started.last().map(|segment| (segment.header.parent, segment.header.parent_pos));
        let next_number = catalog.started.last().map_or(1, |segment| segment.header.number + 1);
        let shared = Arc::new(Shared {
            spares: Spares::new(next_number),
            env,
            directory: directory.to_owned(),
            options,
            id,
            parent: parent.unwrap_or_default(),
            state: Mutex::new(State {
                segments: catalog.started,
                current: None,
                current_free_bytes: 0,
                last,
                epoch: Epoch(0),
                frontier: None,
                is_secured: false,
                is_closed: false,
            }),
            more: Condvar::new(),
            claimed: Mutex::new(None),
            tail: Arc::default(),
            lock,
        });
        let preparer = shared.options.background.then(|| spare::start_preparer(shared.clone())).transpose();
        Ok(LocalLog { preparer: preparer.map_err(failed)?, shared })
    }

    /// The started segments, in order; all but the last are sealed.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.state.lock().segments.clone()
    }
}

/// Opens and locks the last segment, whose end a start may have to write again.
fn lock_last(env: &Env, segment: &SegmentInfo) -> Result<Arc<dyn DiskFile>, OpenError> {
    let path = &segment.path;
    let file = env.disk.open(path, Access::ReadWrite).map_err(|error| segment::unavailable(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::SegmentLocked { file: path.clone() })
        }
        Err(error) => Err(segment::unavailable(path, &error).into()),
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.more.notify_all();
        self.shared.spares.close();
        if let Some(preparer) = self.preparer.take() {
            // The panic hook has reported a panic of the thread.
            let _ = preparer.join();
        }
    }
}

impl ShardLog for LocalLog {
    fn id(&self) -> LogId {
        self.shared.id
    }

    fn limits(&self) -> LogLimits {
        LogLimits {
            entry_bytes_max: self.shared.options.entry_bytes_max,
            entries_in_flight_max: self.shared.options.entries_in_flight_max,
            block_bytes: BLOCK_BYTES,
            durable: true,
        }
    }

    fn room(&self) -> Room {
        self.shared.room()
    }

    fn want_room(&self, bytes: u64) {
        self.shared.want_room(bytes);
    }

    fn lend_room(&self, lent: bool) {
        spare::lend_room(&self.shared, lent);
    }

    fn claim(&self, at: LogEnd, claim: Claim) -> Result<Box<dyn LogWriter>, ClaimError> {
        writer::claim(&self.shared, at, &claim)
    }

    fn read(&self, after: Mark) -> Box<dyn EntryIter> {
        Box::new(LocalIter::live(self.shared.clone(), after.pos))
    }

    fn bounds(&self) -> Result<(Pos, Pos), ReadError> {
        let state = self.shared.state.lock();
        let first = state.segments.first().map_or(Pos(1), |segment| segment.header.before.pos.next());
        let last_sealed = state.segments.last().map_or(Pos(0), |segment| segment.header.before.pos);
        Ok((first, state.frontier.map_or(last_sealed, |frontier| frontier.mark.pos)))
    }

    fn secure(&self) -> Result<(), String> {
        let shared = &self.shared;
        if shared.state.lock().is_secured {
            return Ok(());
        }
        // The lock prevents a claim from starting a segment meanwhile. A claim secures the tail by itself.
        let claimed = shared.claimed.lock();
        if claimed.is_some() {
            return Ok(());
        }
        let end = writer::find_tail(shared)?;
        let secured = writer::secure(shared, &end);
        // Kept for the claim.
        *shared.tail.lock() = Some(end);
        secured
    }

    /// Removes the sealed segments that end at or before `upto`, oldest first. Each removal is made durable
    /// before the next, so that a power cut never leaves a hole.
    fn trim(&self, upto: Pos) -> Result<(), TrimError> {
        let shared = &self.shared;
        // If there is no writer, the header that seals a segment may not be durable yet.
        self.secure().map_err(|cause| TrimError { cause })?;
        loop {
            let path = {
                let state = shared.state.lock();
                match &state.segments[..] {
                    [first, second, ..] if second.header.before.pos <= upto => first.path.clone(),
                    _ => return Ok(()),
                }
            };
            let removed = shared.env.disk.remove(&path);
            let removed = removed.and_then(|()| shared.lock.sync());
            removed.map_err(|error| TrimError { cause: format!("{}: {error}", path.display()) })?;
            let mut state = shared.state.lock();
            let gone = state.segments.remove(0);
            assert_eq!(gone.path, path, "only one trim removes a segment");
            assert!(!state.segments.is_empty(), "the last segment stays");
            drop(state);
            shared.spares.retry();
        }
    }
}

impl Shared {
    /// Makes durable entries visible to the readers of this process.
    fn publish(&self, frontier: Frontier) {
        let mut state = self.state.lock();
        // Two threads may acknowledge at once, and the one with the earlier frontier may come second.
        if state.frontier.is_none_or(|before| before.mark.pos < frontier.mark.pos) {
            assert!(frontier.end_offset.is_multiple_of(BLOCK_BYTES as u64), "entries end with a block");
            let last = state.segments.last().map_or(0, |segment| segment.header.number);
            assert!(frontier.segment <= last, "what is durable is in a segment that was started");
            let before = state.frontier;
            assert!(before.is_none_or(|before| before.is_before(&frontier)), "what is durable stays so");
            state.frontier = Some(frontier);
            self.more.notify_all();
        }
    }

    /// Fails if the directory or this segment is no longer at its path, where the next start would look for
    /// it.
    fn check_in_place(&self, path: &Path, file: &dyn DiskFile) -> io::Result<()> {
        let gone = if !self.lock.is_in_place()? {
            &self.directory
        } else if !file.is_at(path)? {
            path
        } else {
            return Ok(());
        };
        Err(io::Error::other(format!(
            "{} was removed, moved or replaced under the running server, and what is written to it now would be lost. \
             Nothing more is acknowledged. If it was moved, put it back before the next start",
            gone.display()
        )))
    }

    fn room(&self) -> Room {
        let free_bytes = self.state.lock().current_free_bytes;
        let PreparedFiles { spares, deletes, full } = self.spares.prepared();
        let usable = |size_bytes: u64| self.options.usable_bytes(size_bytes - BLOCK_BYTES as u64);
        let for_deletes = usable(ReserveKind::Deletes.size_bytes(&self.options));
        let prepared = spares as u64 * usable(self.options.segment_bytes) + deletes as u64 * for_deletes;
        assert!(free_bytes.is_multiple_of(BLOCK_BYTES as u64), "entries are whole blocks");
        assert!(deletes <= ReserveKind::Deletes.count(), "no more is held back than is asked for");
        // One block is held back for the Release.
        let room = |bytes: u64| bytes.saturating_sub(BLOCK_BYTES as u64);
        Room {
            bytes: room(self.options.usable_bytes(free_bytes) + prepared),
            bytes_after_seal: room(prepared),
            // The whole reserve counts even if a part is used up, because it is refilled first.
            held_bytes: ReserveKind::Deletes.count() as u64 * for_deletes,
            full,
        }
    }

    fn want_room(&self, bytes: u64) {
        let per_spare = self.options.usable_bytes(self.options.segment_bytes - BLOCK_BYTES as u64);
        assert!(per_spare > 0, "a segment holds an entry");
        self.spares.want((bytes / per_spare + 1) as usize);
        if !self.options.background {
            spare::prepare_wanted(self);
        }
    }
}

/// The sealed segments of a log that another process may be writing, for offline snapshots. Takes no lock and
/// writes nothing.
pub struct SealedLog {
    env: Env,
    segments: Vec<SegmentInfo>,
    last_sealed: Pos,
}

impl SealedLog {
    pub fn open(env: Env, directory: &Path) -> Result<SealedLog, ReadError> {
        let mut segments = Catalog::load(&*env.disk, directory)?.started;
        let last_sealed = segments.last().map_or(Pos(0), |segment| segment.header.before.pos);
        // The last segment is being written. Its header proves that all before it is durable.
        segments.pop();
        Ok(SealedLog { env, segments, last_sealed })
    }

    pub fn segments(&self) -> &[SegmentInfo] {
        &self.segments
    }

    pub fn last_sealed(&self) -> Pos {
        self.last_sealed
    }

    /// Reads the entries after a mark, through the last sealed one.
    pub fn read(&self, after: Mark) -> Box<dyn EntryIter> {
        let until = Until::Pos(self.last_sealed);
        Box::new(LocalIter::new(self.env.clone(), self.segments.clone(), after.pos, until, Arc::default()))
    }
}

/// Reads a whole log by the rules of recovery, without a lock and without writing: for tools, while the
/// server is stopped. If a server is writing, the newest entries may look torn.
pub fn read_offline(env: &Env, directory: &Path, after: Mark) -> Result<Box<dyn EntryIter>, ReadError> {
    let segments = Catalog::load(&*env.disk, directory)?.started;
    Ok(Box::new(LocalIter::new(env.clone(), segments, after.pos, Until::End, Arc::default())))
}

#[cfg(test)]
mod tests;
