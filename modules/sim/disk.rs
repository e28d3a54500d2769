//! A simulated disk that loses everything that a real disk may lose.
//!
//! It keeps what [`engramdb_engine::env`] promises and nothing more. At a power cut a file keeps its synced
//! bytes and a random subset of the unsynced 512-byte sectors, in no order; a file that grew without a sync
//! keeps any size in between; a directory keeps its synced names and a random subset of the unsynced creates,
//! renames and removes; a directory whose parent was never synced may be lost with everything in it.
//!
//! The page cache survives the process. After [`FaultyDisk::kill`] the next process reads what the previous
//! one wrote, synced or not, until the power is cut. Meanwhile the kernel writes some of it back, and some of
//! these writes fail without any report: such a sector reads as its new bytes and is clean, so that no later
//! sync writes it, but the disk has the old bytes, and the kernel may drop the page at any time and then read
//! those. A failed sync has the same effect on everything that was dirty, including the file's size.
//!
//! All choices come from the seed; with one thread a run is a function of the seed.
//!
//! Bugs of real systems that this reproduces within milliseconds: until 2018, databases trusted a second
//! fsync after a failed one (PostgreSQL's "fsyncgate"); a start trusts what it reads although a killed
//! process never synced it; files disappear as a whole because their directory was never synced.
//!
//! Not simulated: torn sectors, older versions of a sector that was written twice, and failed writes of
//! directories. The latter go through the file system's journal, which stops permanently when it cannot
//! write.

mod content;

use content::{Content, SECTOR_BYTES};
use engramdb_engine::env::{Access, Disk, DiskFile, DiskLock};
use parking_lot::{Condvar, Mutex};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The kinds of calls that request durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// [`DiskFile::sync`].
    File,
    /// [`DiskFile::write_durable`].
    Write,
    /// [`Disk::sync_directory`].
    Directory,
    /// A plain write over bytes that the file already has.
    Rewrite,
}

/// One call that requests durability.
#[derive(Clone, Copy, Debug)]
pub struct SyncPoint<'a> {
    pub kind: SyncKind,
    /// The file, or the directory.
    pub path: &'a Path,
    /// The offset of a write; 0 otherwise.
    pub offset_bytes: u64,
    /// Whether a file was removed from the directory since its last sync.
    pub after_remove: bool,
}

/// Selects the syncs to skip.
type SyncFilter = Arc<dyn Fn(&SyncPoint<'_>) -> bool + Send + Sync>;

/// A faulty disk. Clones share it.
#[derive(Clone)]
pub struct FaultyDisk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    gate: Condvar,
}

type Inode = u64;

struct State {
    random: SmallRng,
    inodes: BTreeMap<Inode, Content>,
    next_inode: Inode,
    /// Names as processes see them.
    names: BTreeMap<PathBuf, Inode>,
    /// Names as they are on the disk.
    durable_names: BTreeMap<PathBuf, Inode>,
    /// Changes of names since the last sync of their directory, in order.
    name_changes: Vec<NameChange>,
    /// Directories, and whether each is on the disk.
    directories: BTreeMap<PathBuf, bool>,
    locks: BTreeSet<PathBuf>,
    locked_files: BTreeSet<Inode>,
    /// The number of handles of each file: a file exists as long as it has a handle or a name.
    open: BTreeMap<Inode, usize>,
    /// The number of the current process. Handles of earlier processes fail.
    life: u64,
    faults: Faults,
    syncs: u64,
    operations: u64,
    reads: u64,
}

#[derive(Default)]
struct Faults {
    capacity_bytes: Option<u64>,
    /// The number of sync operations until one fails; after that all succeed again.
    syncs_until_error: Option<u64>,
    /// The number of opened files until one is refused for want of a descriptor; after that all succeed.
    opens_until_error: Option<u64>,
    /// All opens are refused for want of a descriptor.
    opens_refused: bool,
    /// The number of changing operations until the power is cut.
    operations_until_cut: Option<u64>,
    power_is_off: bool,
    sync_failed: bool,
    gate_closed: bool,
    left_out: Option<SyncFilter>,
}

struct NameChange {
    directory: PathBuf,
    path: PathBuf,
    /// The file that has the name after the change; `None` if the name is removed.
    inode: Option<Inode>,
    /// The old name of a rename, which is removed with the same change.
    gone: Option<PathBuf>,
}

impl FaultyDisk {
    pub fn new(seed: u64) -> FaultyDisk {
        let state = State {
            random: SmallRng::seed_from_u64(seed),
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            directories: BTreeMap::from([(PathBuf::from("/"), true)]),
            locks: BTreeSet::new(),
            locked_files: BTreeSet::new(),
            open: BTreeMap::new(),
            life: 0,
            faults: Faults::default(),
            syncs: 0,
            operations: 0,
            reads: 0,
        };
        FaultyDisk { shared: Arc::new(Shared { state: Mutex::new(state), gate: Condvar::new() }) }
    }

    /// Cuts the power and restores it: open files and locks are lost, and a random subset of the unsynced
    /// changes survives. Clears all faults except the skipped syncs.
    pub fn power_cut(&self) {
        let mut state = self.shared.state.lock();
        state.end_life();
        state.lose_unsynced();
        self.shared.gate.notify_all();
    }

    /// Kills the process: open files and locks are lost, everything that was written can still be read.
    /// Clears all faults except the skipped syncs.
    pub fn kill(&self) {
        let mut state = self.shared.state.lock();
        state.end_life();
        let State { random, inodes, .. } = &mut *state;
        for content in inodes.values_mut() {
            content.write_some_back(random);
            content.evict(random);
        }
        self.shared.gate.notify_all();
    }

    /// Cuts the power, or kills the process, during the `operations`th changing operation from now: that
    /// operation and all later ones fail. A write in progress is then done in part.
    pub fn cut_after(&self, operations: u64) {
        self.shared.state.lock().faults.operations_until_cut = Some(operations);
    }

    pub fn power_is_off(&self) -> bool {
        self.shared.state.lock().faults.power_is_off
    }

    /// Whether a sync has failed since the last power cut or kill.
    pub fn sync_failed(&self) -> bool {
        self.shared.state.lock().faults.sync_failed
    }

    /// Makes the `syncs`th sync from now fail, once.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.shared.state.lock().faults.syncs_until_error = Some(syncs);
    }

    /// From now on (`true`), the process has no descriptor left: everything that needs a new one is refused.
    pub fn refuse_opens(&self, refused: bool) {
        self.shared.state.lock().faults.opens_refused = refused;
    }

    /// Refuses the `opens`th open from now, once: the process has no descriptor left. Opens are those of
    /// files, and of directories to list or sync them.
    pub fn fail_open_after(&self, opens: u64) {
        self.shared.state.lock().faults.opens_until_error = Some(opens);
    }

    /// Whether an open was refused that way since it was asked for.
    pub fn has_failed_open(&self) -> bool {
        self.shared.state.lock().faults.opens_until_error.is_none()
    }

    /// From now on, syncs that the filter selects do nothing and report success. This shows that the tests
    /// would notice if the code omitted them.
    pub fn leave_out(&self, filter: impl Fn(&SyncPoint<'_>) -> bool + Send + Sync + 'static) {
        self.shared.state.lock().faults.left_out = Some(Arc::new(filter));
    }

    /// Limits the disk to this many bytes; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().faults.capacity_bytes = bytes;
    }

    /// Bytes in files.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().used_bytes()
    }

    /// From now on, syncs wait until the gate is opened.
    pub fn close_gate(&self) {
        self.shared.state.lock().faults.gate_closed = true;
    }

    pub fn open_gate(&self) {
        self.shared.state.lock().faults.gate_closed = false;
        self.shared.gate.notify_all();
    }

    /// Syncs so far, of all kinds.
    pub fn syncs(&self) -> u64 {
        self.shared.state.lock().syncs
    }

    /// Changing operations so far.
    pub fn operations(&self) -> u64 {
        self.shared.state.lock().operations
    }

    /// Reads of files so far.
    pub fn reads(&self) -> u64 {
        self.shared.state.lock().reads
    }

    /// A file's bytes, as processes see them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.shared.state.lock();
        let inode = state.names.get(path)?;
        Some(state.inodes[inode].current.clone())
    }

    /// Replaces a file's bytes durably, without any call of the engine: to simulate damage.
    pub fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.shared.state.lock();
        let inode = *state.names.get(path).expect("the file exists");
        state.inodes.insert(inode, Content::synced(bytes));
    }

    /// All files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.shared.state.lock().names.keys().cloned().collect()
    }

    /// Waits at the gate, counts, and injects errors. True if the sync is to be skipped.
    fn begin_sync(&self, point: &SyncPoint<'_>, life: u64) -> io::Result<bool> {
        let mut state = self.shared.state.lock();
        while state.faults.gate_closed && state.life == life {
            self.shared.gate.wait(&mut state);
        }
        state.begin_operation(life)?;
        state.check_power(life)?;
        state.syncs += 1;
        drop(state);
        Ok(self.is_left_out(point))
    }

    fn is_left_out(&self, point: &SyncPoint<'_>) -> bool {
        let left_out = self.shared.state.lock().faults.left_out.clone();
        left_out.is_some_and(|left_out| left_out(point))
    }
}

impl State {
    /// Checks the power and counts down to the cut.
    fn begin_operation(&mut self, life: u64) -> io::Result<()> {
        self.check_power(life)?;
        self.operations += 1;
        if let Some(left) = &mut self.faults.operations_until_cut {
            *left = left.saturating_sub(1);
            self.faults.power_is_off = *left == 0;
        }
        Ok(())
    }

    fn check_power(&self, life: u64) -> io::Result<()> {
        if self.faults.power_is_off || self.life != life {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }

    fn sync_error(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.faults.syncs_until_error {
            *left -= 1;
            if *left == 0 {
                self.faults.syncs_until_error = None;
                self.faults.sync_failed = true;
                return Err(io::Error::other("injected sync error"));
            }
        }
        Ok(())
    }

    fn open_error(&mut self) -> io::Result<()> {
        const EMFILE: i32 = 24;
        if self.faults.opens_refused {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        let Some(left) = &mut self.faults.opens_until_error else { return Ok(()) };
        *left -= 1;
        if *left == 0 {
            self.faults.opens_until_error = None;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(())
    }

    /// Makes a file's dirty sectors durable, or only those of a range.
    fn sync_inode(&mut self, inode: Inode, range: Option<Range<u64>>) -> io::Result<()> {
        let injected = self.sync_error();
        let content = self.inodes.get_mut(&inode).expect("an open file has its inode");
        match (&injected, range) {
            (Err(_), _) => content.fail_sync(&mut self.random),
            (Ok(()), Some(range)) => content.sync_range(range),
            (Ok(()), None) => content.sync(),
        }
        injected
    }

    /// Writes. If the power is cut meanwhile, writes only a part and fails.
    fn write(&mut self, inode: Inode, slices: &[IoSlice<'_>], offset: u64, life: u64) -> io::Result<()> {
        if let Err(error) = self.check_power(life) {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let sectors = self.random.random_range(0..=bytes.len().div_ceil(SECTOR_BYTES));
            let written = (sectors * SECTOR_BYTES).min(bytes.len());
            let content = self.inodes.get_mut(&inode).expect("an open file has its inode");
            content.write(&[IoSlice::new(&bytes[..written])], offset);
            return Err(error);
        }
        let mut at = offset;
        for slice in slices {
            let length = self.inodes[&inode].current.len() as u64;
            let growth = (at + slice.len() as u64).saturating_sub(length);
            if self.faults.capacity_bytes.is_some_and(|capacity| self.used_bytes() + growth > capacity) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let content = self.inodes.get_mut(&inode).expect("an open file has its inode");
            content.write(&[IoSlice::new(slice)], at);
            at += slice.len() as u64;
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        self.inodes.values().map(|content| content.current.len() as u64).sum()
    }

    fn change_name(&mut self, path: &Path, inode: Option<Inode>, gone: Option<&Path>) {
        if let Some(gone) = gone {
            self.names.remove(gone);
        }
        match inode {
            Some(inode) => self.names.insert(path.to_owned(), inode),
            None => self.names.remove(path),
        };
        let directory = path.parent().expect("a file is in a directory").to_owned();
        let change = NameChange { directory, path: path.to_owned(), inode, gone: gone.map(Path::to_owned) };
        self.name_changes.push(change);
        self.drop_unnamed();
    }

    /// Frees the space of files that no name or handle refers to.
    fn drop_unnamed(&mut self) {
        let mut named: BTreeSet<Inode> = self.names.values().copied().collect();
        named.extend(self.durable_names.values());
        named.extend(self.open.keys());
        named.extend(self.name_changes.iter().filter_map(|change| change.inode));
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    /// Ends the process.
    fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.locked_files.clear();
        self.open.clear();
        let left_out = std::mem::take(&mut self.faults.left_out);
        self.faults = Faults { left_out, ..Faults::default() };
    }

    fn lose_unsynced(&mut self) {
        for change in std::mem::take(&mut self.name_changes) {
            if self.random.random_bool(0.5) {
                change.apply(&mut self.durable_names);
            }
        }
        self.lose_directories();
        self.names = self.durable_names.clone();
        self.drop_unnamed();
        for content in self.inodes.values_mut() {
            content.lose_unsynced(&mut self.random);
        }
    }

    /// A directory whose parent was not synced since its creation may be lost, together with everything in
    /// it.
    fn lose_directories(&mut self) {
        let State { random, directories, durable_names, .. } = self;
        let uncertain = directories.iter().filter(|(_, durable)| !**durable).map(|(path, _)| path.clone());
        let gone: Vec<PathBuf> = uncertain.filter(|_| random.random_bool(0.5)).collect();
        let is_gone = |path: &Path| gone.iter().any(|directory| path.starts_with(directory));
        directories.retain(|path, _| !is_gone(path));
        durable_names.retain(|path, _| !is_gone(path));
        directories.values_mut().for_each(|durable| *durable = true);
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, Inode>) {
        if let Some(gone) = self.gone {
            names.remove(&gone);
        }
        match self.inode {
            Some(inode) => names.insert(self.path, inode),
            None => names.remove(&self.path),
        };
    }
}

impl FaultyDisk {
    fn open_inode(&self, state: &mut State, path: &Path, inode: Inode) -> Arc<dyn DiskFile> {
        *state.open.entry(inode).or_default() += 1;
        let (path, holds_lock) = (path.to_owned(), AtomicBool::new(false));
        Arc::new(FaultyFile { disk: self.clone(), path, inode, life: state.life, holds_lock })
    }

    /// Makes the names in an open directory durable.
    fn sync_names(&self, directory: &Path, life: u64) -> io::Result<()> {
        let after_remove = {
            let changes = &self.shared.state.lock().name_changes;
            changes.iter().any(|change| change.directory == directory && change.inode.is_none())
        };
        let point = SyncPoint { kind: SyncKind::Directory, path: directory, offset_bytes: 0, after_remove };
        let left_out = self.begin_sync(&point, life)?;
        let mut state = self.shared.state.lock();
        state.sync_error()?;
        if left_out {
            return Ok(());
        }
        let changes = std::mem::take(&mut state.name_changes);
        let (synced, open) = changes.into_iter().partition(|change| change.directory == directory);
        state.name_changes = open;
        let synced: Vec<NameChange> = synced;
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        for (path, durable) in &mut state.directories {
            *durable |= path.parent() == Some(directory);
        }
        state.drop_unnamed();
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.shared.state.lock();
        let life = state.life;
        state.begin_operation(life)?;
        state.open_error()?;
        if !path.parent().is_some_and(|parent| state.directories.contains_key(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(inode) = state.names.get(path).copied() {
            let content = state.inodes.get_mut(&inode).expect("a name has its inode");
            content.set_size(0);
            return Ok(self.open_inode(&mut state, path, inode));
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Content::default());
        state.change_name(path, Some(inode), None);
        Ok(self.open_inode(&mut state, path, inode))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.shared.state.lock();
        state.check_power(state.life)?;
        state.open_error()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if access == Access::ReadWrite {
            // Pages may be dropped at any time; the worst moment is this, between reading a file and writing
            // to it.
            let State { random, inodes, .. } = &mut *state;
            inodes.get_mut(&inode).expect("a name has its inode").evict(random);
        }
        Ok(self.open_inode(&mut state, path, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let life = state.life;
        state.begin_operation(life)?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change_name(to, Some(inode), Some(from));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let life = state.life;
        state.begin_operation(life)?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change_name(to, Some(inode), None);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let life = state.life;
        state.begin_operation(life)?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(path, None, None);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut state = self.shared.state.lock();
        state.check_power(state.life)?;
        state.open_error()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        let names = inside.filter_map(|path| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.shared.state.lock();
        state.check_power(state.life)?;
        Ok(state.names.contains_key(path) || state.directories.contains_key(path))
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let life = state.life;
        state.begin_operation(life)?;
        if state.directories.contains_key(directory) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !directory.parent().is_some_and(|parent| state.directories.contains_key(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.directories.insert(directory.to_owned(), false);
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let life = {
            let mut state = self.shared.state.lock();
            state.check_power(state.life)?;
            state.open_error()?;
            state.life
        };
        self.sync_names(directory, life)
    }

    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        let state = self.shared.state.lock();
        let capacity = state.faults.capacity_bytes.unwrap_or(u64::MAX / 2);
        Ok(capacity.saturating_sub(state.used_bytes()))
    }

    fn lock(&self, directory: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.shared.state.lock();
        state.check_power(state.life)?;
        if !state.directories.contains_key(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !state.locks.insert(directory.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FaultyLock { disk: self.clone(), path: directory.to_owned(), life: state.life }))
    }
}

struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
    life: u64,
}

impl DiskLock for FaultyLock {
    fn is_in_place(&self) -> io::Result<bool> {
        let state = self.disk.shared.state.lock();
        state.check_power(self.life)?;
        Ok(state.directories.contains_key(&self.path))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync_names(&self.path, self.life)
    }
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.shared.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    path: PathBuf,
    inode: Inode,
    life: u64,
    holds_lock: AtomicBool,
}

impl FaultyFile {
    fn write(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.disk.shared.state.lock();
        state.begin_operation(self.life)?;
        state.write(self.inode, slices, offset, self.life)
    }

    fn sync_range(&self, kind: SyncKind, range: Option<Range<u64>>) -> io::Result<()> {
        let offset_bytes = range.as_ref().map_or(0, |range| range.start);
        let left_out = self.disk.begin_sync(
            &SyncPoint { kind, path: &self.path, offset_bytes, after_remove: false },
            self.life,
        )?;
        let mut state = self.disk.shared.state.lock();
        state.check_power(self.life)?;
        if left_out { state.sync_error() } else { state.sync_inode(self.inode, range) }
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        let mut state = self.disk.shared.state.lock();
        if state.life != self.life {
            return;
        }
        if self.holds_lock.load(Ordering::Relaxed) {
            state.locked_files.remove(&self.inode);
        }
        let handles = state.open.get_mut(&self.inode).expect("it was counted");
        *handles -= 1;
        if *handles == 0 {
            state.open.remove(&self.inode);
            state.drop_unnamed();
        }
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.shared.state.lock();
        state.check_power(self.life)?;
        state.reads += 1;
        let bytes = &state.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?.current;
        let rest = bytes.get(offset as usize..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let point = SyncPoint {
            kind: SyncKind::Rewrite,
            path: &self.path,
            offset_bytes: offset,
            after_remove: false,
        };
        if offset + length as u64 <= self.size()? && self.disk.is_left_out(&point) {
            return Ok(());
        }
        self.write(slices, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_range(SyncKind::File, None)
    }

    fn write_durable(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.write(slices, offset)?;
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        self.sync_range(SyncKind::Write, Some(offset..offset + length as u64))
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.shared.state.lock();
        state.check_power(self.life)?;
        Ok(state.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?.current.len() as u64)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.shared.state.lock();
        state.begin_operation(self.life)?;
        let content = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        content.set_size(bytes as usize);
        Ok(())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let state = self.disk.shared.state.lock();
        state.check_power(self.life)?;
        Ok(state.names.get(path) == Some(&self.inode))
    }

    fn links(&self) -> io::Result<u64> {
        let state = self.disk.shared.state.lock();
        state.check_power(self.life)?;
        Ok(state.names.values().filter(|inode| **inode == self.inode).count() as u64)
    }

    fn try_lock(&self) -> io::Result<()> {
        let mut state = self.disk.shared.state.lock();
        state.check_power(self.life)?;
        if !state.locked_files.insert(self.inode) && !self.holds_lock.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.holds_lock.store(true, Ordering::Relaxed);
        Ok(())
    }
}
