//! Prepares segment files ahead of their start, so that an append finds one ready. Also cuts off the unused
//! part of sealed segments, which takes milliseconds too.
//!
//! Two kinds of files are prepared. Both consist of durable zeros:
//!
//! - *spares*, numbered and of the usual size: the next segments;
//! - the *reserve*, with names of its own: small files that are held back for work that must go on while the
//!   disk is full ([`super::reserve`]). A rename makes one of them a segment, which needs no space.
//!
//! A file gets its name last, by a rename under the lock `naming`. So numbers are dense in the order in which
//! files can be started, for files of the preparer and of the reserve, and no file takes the name of another.

use super::reserve::{KINDS, Reserve, ReserveKind, Reserved};
use super::segment::{segment_number, segment_path};
use super::{BLOCK_BYTES, Shared, lock_file};
use crate::env::{Access, DiskFile};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A prepared file, not started yet.
pub struct Spare {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
    pub size_bytes: u64,
}

/// A segment that gets no more entries.
pub struct Sealed {
    pub file: Arc<dyn DiskFile>,
    /// The end of its used part.
    pub end_offset: u64,
}

impl Sealed {
    /// True if the file has a name in another directory too. There it may be the last segment, whose length
    /// must not change.
    pub fn is_shared(&self) -> bool {
        !matches!(self.file.links(), Ok(..=1))
    }

    /// Cuts off the unused part, which is void. An error is ignored, because nothing depends on the cut.
    pub fn cut(self) {
        let block = BLOCK_BYTES as u64;
        assert!(self.end_offset >= block, "the header stays");
        assert!(self.end_offset.is_multiple_of(block), "entries end with a block");
        if !self.is_shared() {
            let _ = self.file.set_size(self.end_offset);
        }
    }
}

pub struct Spares {
    state: Mutex<State>,
    changed: Condvar,
    /// Held while a file gets its name, a number's or one of the reserve. Taken before `state`.
    naming: Mutex<()>,
}

struct State {
    ready: VecDeque<Spare>,
    reserve: Reserve,
    next_number: u64,
    /// Segments to be cut.
    sealed: Vec<Sealed>,
    /// How many spares to keep ready; 0 until there is a writer.
    wanted: usize,
    /// The files prepared by an earlier process were taken over.
    adopted: bool,
    /// The disk's room is left to a snapshot: only claims are prepared, and the reserve's file for snapshots
    /// is removed.
    lent: bool,
    /// The cause, if the last attempt found no space.
    full: Option<String>,
    /// The preparer must try again now, before the next regular time.
    retry: bool,
    /// An error other than a full disk: the log has failed.
    failed: Option<String>,
    closed: bool,
}

/// The number of prepared files.
pub struct PreparedFiles {
    pub spares: usize,
    /// Files of the reserve for entries that free memory.
    pub deletes: usize,
    /// The cause, if there will be no more for now.
    pub full: Option<String>,
}

/// The time until the next attempt after a full disk.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const ZEROS_BYTES: usize = 1 << 20;
/// A file that is being filled.
const UNFINISHED: &str = "spare.tmp";

impl Spares {
    pub fn new(next_number: u64) -> Spares {
        let state = State {
            ready: VecDeque::new(),
            reserve: Reserve::default(),
            next_number,
            sealed: Vec::new(),
            wanted: 0,
            adopted: false,
            lent: false,
            full: None,
            retry: false,
            failed: None,
            closed: false,
        };
        Spares { state: Mutex::new(state), changed: Condvar::new(), naming: Mutex::new(()) }
    }

    pub fn prepared(&self) -> PreparedFiles {
        let state = self.state.lock();
        PreparedFiles {
            spares: state.ready.len(),
            deletes: state.reserve.count(ReserveKind::Deletes),
            full: state.full.clone(),
        }
    }

    /// Asks for at least this many spares.
    pub fn want(&self, spares: usize) {
        let mut state = self.state.lock();
        state.wanted = state.wanted.max(spares);
        // Each refused write calls this. If it woke a preparer that waits for space, the preparer would begin
        // its wait again each time, and never end it.
        if state.full.is_none() {
            self.changed.notify_all();
        }
    }

    /// Makes the preparer try now, because space may have become free.
    pub fn retry(&self) {
        self.state.lock().retry = true;
        self.changed.notify_all();
    }

    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until a spare is ready, or cannot be prepared.
    pub fn wait_ready(&self) {
        let mut state = self.state.lock();
        while state.ready.is_empty() && state.full.is_none() && state.failed.is_none() {
            self.changed.wait(&mut state);
        }
    }

    pub fn failed(&self) -> Option<String> {
        self.state.lock().failed.clone()
    }

    /// Makes the preparer cut the segment.
    pub fn cut(&self, sealed: Sealed) {
        self.state.lock().sealed.push(sealed);
        self.changed.notify_all();
    }
}

/// Takes a spare. If none is ready, takes a file of the reserve, of the first of these kinds that has one.
/// `None` if there is neither.
pub fn take(shared: &Shared, kinds: &[ReserveKind]) -> io::Result<Option<Spare>> {
    let spares = &shared.spares;
    if let Some(spare) = take_ready(spares) {
        return Ok(Some(spare));
    }
    let _naming = spares.naming.lock();
    // The preparer may have finished one while this thread waited for the lock.
    if let Some(spare) = take_ready(spares) {
        return Ok(Some(spare));
    }
    let (disk, directory) = (&shared.env.disk, &shared.directory);
    loop {
        let (reserved, number) = {
            let mut state = spares.state.lock();
            let found = kinds.iter().find_map(|kind| state.reserve.take(*kind));
            let Some(reserved) = found else { return Ok(None) };
            // A spare would have the number before.
            assert!(state.ready.is_empty(), "a file of the reserve is taken where no spare is ready");
            (reserved, state.next_number)
        };
        let renamed = |file| disk.rename(&reserved.path, &segment_path(directory, number)).map(|()| file);
        let own = match &reserved.file {
            Some(file) => unless_shared(shared, &reserved.path, file.clone()),
            None => open_own(shared, &reserved.path),
        };
        let file = match own.and_then(|own| own.map(renamed).transpose()) {
            Ok(Some(file)) => file,
            // The preparer makes another file.
            Ok(None) => continue,
            Err(error) => {
                spares.state.lock().reserve.put(reserved);
                return Err(error);
            }
        };
        shared.lock.sync()?;
        let mut state = spares.state.lock();
        assert_eq!(state.next_number, number, "numbers are given under the lock");
        state.next_number = number + 1;
        state.retry = true;
        spares.changed.notify_all();
        return Ok(Some(Spare { number, file, size_bytes: reserved.kind.size_bytes(&shared.options) }));
    }
}

/// Opens and locks a prepared file, [`unless_shared`].
fn open_own(shared: &Shared, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
    let file = shared.env.disk.open(path, Access::ReadWrite)?;
    let own = unless_shared(shared, path, file)?;
    own.iter().try_for_each(|file| lock_file(&**file, path))?;
    Ok(own)
}

/// Returns the prepared file. If it has a second name, removes its name here and returns `None`: a write to
/// it would change the other directory's file.
fn unless_shared(
    shared: &Shared,
    path: &Path,
    file: Arc<dyn DiskFile>,
) -> io::Result<Option<Arc<dyn DiskFile>>> {
    if file.links()? > 1 {
        shared.env.disk.remove(path)?;
        return Ok(None);
    }
    Ok(Some(file))
}

/// Takes a ready spare. From now on, one spare is kept ready.
fn take_ready(spares: &Spares) -> Option<Spare> {
    let mut state = spares.state.lock();
    let spare = state.ready.pop_front();
    if spare.is_some() {
        state.wanted = 1;
        spares.changed.notify_all();
    }
    spare
}

/// Leaves the disk's room to a snapshot (`true`), which frees more than it takes, or ends that (`false`).
pub fn lend_room(shared: &Shared, lent: bool) {
    {
        let mut state = shared.spares.state.lock();
        state.lent = lent;
        state.retry |= !lent;
    }
    if lent && !shared.options.background {
        // Takes over the reserve of an earlier process, which can be lent too.
        shared.spares.want(1);
        prepare_wanted(shared);
    }
    let given_up = if lent { shared.spares.state.lock().reserve.take(ReserveKind::Snapshot) } else { None };
    if let Some(file) = given_up {
        // On an error the snapshot has less room, and reports that itself.
        let _ = shared.env.disk.remove(&file.path);
    }
    shared.spares.changed.notify_all();
}

pub fn start_preparer(shared: Arc<Shared>) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("log-preparer".to_owned()).spawn(move || run_preparer(&shared))
}

fn run_preparer(shared: &Shared) {
    loop {
        let sealed = std::mem::take(&mut shared.spares.state.lock().sealed);
        sealed.into_iter().for_each(Sealed::cut);
        prepare_wanted(shared);
        let mut state = shared.spares.state.lock();
        if !state.sealed.is_empty() || std::mem::take(&mut state.retry) {
            continue;
        }
        if state.closed || state.failed.is_some() {
            return;
        }
        if state.full.is_some() {
            let clock = &shared.env.clock;
            let retry_at = clock.monotonic() + RETRY_AFTER;
            while !state.retry && state.sealed.is_empty() && !state.closed {
                let pause = retry_at.saturating_sub(clock.monotonic());
                if pause.is_zero() || shared.spares.changed.wait_for(&mut state, pause).timed_out() {
                    break;
                }
            }
        } else if state.next_step(shared, u64::MAX).is_none() {
            shared.spares.changed.wait(&mut state);
        }
    }
}

/// The preparer's next step.
#[derive(Clone, Copy)]
enum Step {
    Adopt,
    Prepare(Task),
}

/// A file to prepare.
#[derive(Clone, Copy)]
enum Task {
    Spare,
    Reserve(ReserveKind),
}

impl Task {
    fn size_bytes(self, shared: &Shared) -> u64 {
        match self {
            Task::Spare => shared.options.segment_bytes,
            Task::Reserve(kind) => kind.size_bytes(&shared.options),
        }
    }
}

impl State {
    fn next_step(&self, shared: &Shared, below_bytes: u64) -> Option<Step> {
        if self.closed || self.failed.is_some() || self.wanted == 0 {
            None
        } else if !self.adopted {
            Some(Step::Adopt)
        } else {
            self.next_task(shared, below_bytes).map(Step::Prepare)
        }
    }

    /// The next file to prepare, among those smaller than `below_bytes`: claims first, which are small; then
    /// a spare, without which nothing can be written; then the rest of the reserve, and more spares.
    fn next_task(&self, shared: &Shared, below_bytes: u64) -> Option<Task> {
        let missing = |kind: &ReserveKind| self.reserve.count(*kind) < kind.count();
        let reserve = |kind: &ReserveKind| missing(kind).then_some(Task::Reserve(*kind));
        let spare = |wanted: usize| (self.ready.len() < wanted).then_some(Task::Spare);
        let claim = reserve(&ReserveKind::Claim);
        let others =
            [spare(1), reserve(&ReserveKind::Deletes), reserve(&ReserveKind::Snapshot), spare(self.wanted)];
        let others = others.into_iter().filter(|_| !self.lent);
        let mut tasks = [claim].into_iter().chain(others).flatten();
        tasks.find(|task| task.size_bytes(shared) < below_bytes)
    }
}

/// Prepares all wanted files for which there is space.
pub fn prepare_wanted(shared: &Shared) {
    let spares = &shared.spares;
    let mut full = None;
    let mut below_bytes = u64::MAX;
    // A closure, so that the lock is released before the step.
    let next_step = |below_bytes| spares.state.lock().next_step(shared, below_bytes);
    while let Some(step) = next_step(below_bytes) {
        let done = match step {
            Step::Adopt => adopt(shared),
            Step::Prepare(task) => prepare(shared, task),
        };
        let Err(error) = done else { continue };
        if !is_full(&error) {
            let cause = format!("cannot prepare a log segment in {}: {error}", shared.directory.display());
            spares.state.lock().failed = Some(cause);
            spares.changed.notify_all();
            return;
        }
        full.get_or_insert_with(|| why_full(shared, step, &error));
        match step {
            // Nothing is prepared before this has succeeded: the attempt is over.
            Step::Adopt => break,
            // Something smaller may still fit.
            Step::Prepare(task) => below_bytes = task.size_bytes(shared),
        }
    }
    let mut state = spares.state.lock();
    if full.is_some() || !state.lent {
        // While room is lent, only small files are tried, so success does not mean that the disk has room.
        state.full = full;
    }
    spares.changed.notify_all();
}

fn why_full(shared: &Shared, step: Step, error: &io::Error) -> String {
    let directory = shared.directory.display();
    let free = shared.env.disk.free_bytes(&shared.directory);
    let free = free.map_or(String::new(), |bytes| format!(" ({} are free)", amount(bytes)));
    match step {
        Step::Adopt => format!("cannot take over the prepared log segments in {directory}: {error}{free}"),
        Step::Prepare(task) => {
            let size = amount(task.size_bytes(shared));
            format!("cannot prepare a log segment of {size} in {directory}: {error}{free}")
        }
    }
}

/// A number of bytes as text, for messages.
fn amount(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

/// True if a later attempt may succeed: there was no space, or no file descriptor.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    use rustix::io::Errno;
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
        || matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Makes a durable file of zeros, and gives it its name.
fn prepare(shared: &Shared, task: Task) -> io::Result<()> {
    let size_bytes = task.size_bytes(shared);
    let file = fill(shared, task, size_bytes)?;
    let spares = &shared.spares;
    let unfinished = shared.directory.join(UNFINISHED);
    // Also for a name of the reserve: one that `take` is just taking a file from counts as free.
    let _naming = spares.naming.lock();
    match task {
        Task::Reserve(kind) => {
            let path = {
                let state = spares.state.lock();
                let is_missing = state.reserve.count(kind) < kind.count();
                is_missing.then(|| state.reserve.free_path(kind, &shared.directory))
            };
            // One that was taken meanwhile and could not be used was put back.
            let Some(path) = path else { return shared.env.disk.remove(&unfinished) };
            name(shared, &unfinished, &path)?;
            spares.state.lock().reserve.put(Reserved::new(kind, path, file));
        }
        Task::Spare => {
            let number = spares.state.lock().next_number;
            name(shared, &unfinished, &segment_path(&shared.directory, number))?;
            let mut state = spares.state.lock();
            assert_eq!(state.next_number, number, "numbers are given under the lock");
            state.next_number = number + 1;
            state.ready.push_back(Spare { number, file, size_bytes });
            // There was room. What of the rest finds none is said at the end of the attempt; until then a
            // write that needs more than this segment waits for the next one, and is not refused.
            state.full = None;
        }
    }
    spares.changed.notify_all();
    Ok(())
}

fn name(shared: &Shared, from: &Path, to: &Path) -> io::Result<()> {
    assert!(shared.spares.naming.is_locked(), "a file gets its name under the lock");
    shared.env.disk.rename(from, to)?;
    shared.lock.sync()
}

/// Makes a durable file of zeros, named `UNFINISHED`.
fn fill(shared: &Shared, task: Task, size_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let disk = &shared.env.disk;
    // Checks the free space first, because a failing attempt would fill the disk to its last byte, and
    // disturb other processes. A claim is small, and may use the space that the system reserves for its
    // administrator.
    let is_small = matches!(task, Task::Reserve(ReserveKind::Claim));
    if !is_small && disk.free_bytes(&shared.directory)? < size_bytes {
        return Err(rustix::io::Errno::NOSPC.into());
    }
    let path = shared.directory.join(UNFINISHED);
    let file = disk.create(&path)?;
    lock_file(&*file, &path)?;
    let filled = fill_with_zeros(shared, &*file, size_bytes).and_then(|()| file.sync());
    if let Err(error) = filled {
        // Frees the space. If this fails too, the next attempt overwrites the file.
        let _ = disk.remove(&path);
        return Err(error);
    }
    Ok(file)
}

/// Writes zeros, rather than making a hole or an unwritten extent, so that later writes change no metadata.
fn fill_with_zeros(shared: &Shared, file: &dyn DiskFile, size_bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES.min(size_bytes as usize)];
    let mut offset = 0;
    while offset < size_bytes {
        let length = (size_bytes - offset).min(zeros.len() as u64) as usize;
        file.write_at(&zeros[..length], offset)?;
        offset += length as u64;
        if shared.spares.state.lock().closed {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(())
}

/// Takes over the files that an earlier process has prepared. They were never started, so they have no valid
/// entries; they have their names, so their bytes are durable. They are taken over together: after an error
/// the next attempt starts from the beginning.
fn adopt(shared: &Shared) -> io::Result<()> {
    let disk = &shared.env.disk;
    let _naming = shared.spares.naming.lock();
    let mut next_number = shared.spares.state.lock().next_number;
    let mut reserve = Reserve::default();
    let mut unstarted = Vec::new();
    for file_name in disk.list(&shared.directory)? {
        let path = shared.directory.join(&file_name);
        if file_name == UNFINISHED {
            disk.remove(&path)?;
        } else if let Some(kind) = ReserveKind::of_name(&file_name) {
            keep_in_reserve(shared, &mut reserve, kind, &path)?;
        } else if segment_number(&file_name).is_some_and(|number| number >= next_number) {
            // They come in order, because the list is sorted and numbers have leading zeros.
            unstarted.push(path);
        }
    }
    let mut ready = VecDeque::new();
    let mut is_renamed = false;
    for path in unstarted {
        let Some(file) = open_own(shared, &path)? else { continue };
        let size_bytes = file.size()?;
        if size_bytes == shared.options.segment_bytes {
            let numbered = segment_path(&shared.directory, next_number);
            if numbered != path {
                disk.rename(&path, &numbered)?;
                is_renamed = true;
            }
            ready.push_back(Spare { number: next_number, file, size_bytes });
            next_number += 1;
        } else {
            return_to_reserve(shared, &mut reserve, &path, file)?;
            is_renamed = true;
        }
    }
    if is_renamed {
        // The other names have been durable since the claim began.
        shared.lock.sync()?;
    }
    let mut state = shared.spares.state.lock();
    assert!(!state.adopted && state.ready.is_empty(), "nothing is prepared before this");
    (state.ready, state.reserve, state.next_number) = (ready, reserve, next_number);
    state.adopted = true;
    shared.spares.changed.notify_all();
    Ok(())
}

/// Returns a file to the reserve that was renamed to a segment and never started; removes it if it fits no
/// kind. The caller has it locked.
fn return_to_reserve(
    shared: &Shared,
    reserve: &mut Reserve,
    path: &Path,
    file: Arc<dyn DiskFile>,
) -> io::Result<()> {
    let size_bytes = file.size()?;
    let kind = KINDS.into_iter().find(|kind| kind.size_bytes(&shared.options) == size_bytes);
    let Some(kind) = kind.filter(|kind| reserve.count(*kind) < kind.count()) else {
        return shared.env.disk.remove(path);
    };
    let to = reserve.free_path(kind, &shared.directory);
    shared.env.disk.rename(path, &to)?;
    reserve.put(Reserved::new(kind, to, file));
    Ok(())
}

/// Adds a file to the reserve under its name, or removes it if its size is wrong.
fn keep_in_reserve(shared: &Shared, reserve: &mut Reserve, kind: ReserveKind, path: &Path) -> io::Result<()> {
    let Some(file) = open_own(shared, path)? else { return Ok(()) };
    if file.size()? != kind.size_bytes(&shared.options) {
        return shared.env.disk.remove(path);
    }
    reserve.put(Reserved::new(kind, path.to_owned(), file));
    Ok(())
}
