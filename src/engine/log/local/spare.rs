//! Spare segments: preallocated, durable, not started. Prepared ahead, so that an append finds one ready. And the other
//! end of a segment's life as the current one: its unused part is given back, which takes milliseconds as well.

use super::Shared;
use super::segment::segment_path;
use crate::env::{Access, DiskFile};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A preallocated file, not started yet.
pub struct Spare {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
}

/// A segment that gets no more entries, and how much of it is used.
pub struct Sealed {
    pub file: Arc<dyn DiskFile>,
    pub end_offset: u64,
}

impl Sealed {
    /// Gives space back; what is cut off is void. Nothing depends on it, so an error is no harm.
    pub fn cut(&self) {
        let _ = self.file.set_size(self.end_offset);
    }
}

pub struct Spares {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ready: VecDeque<Spare>,
    next_number: u64,
    /// Segments that get no more entries, and how much of each is used.
    sealed: Vec<Sealed>,
    /// How many to keep ready; 0 until there is a writer.
    wanted: usize,
    /// Why the last attempt found no space.
    full: Option<String>,
    /// Another error than a full disk: the log has failed.
    failed: Option<String>,
    closed: bool,
}

/// After a full disk, the next attempt comes by itself after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const ZEROS_BYTES: usize = 1 << 20;

impl Spares {
    pub fn new(next_number: u64) -> Spares {
        let state = State {
            ready: VecDeque::new(),
            next_number,
            sealed: Vec::new(),
            wanted: 0,
            full: None,
            failed: None,
            closed: false,
        };
        Spares { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// How many are ready, and why there will be no more for now.
    pub fn ready(&self) -> (usize, Option<String>) {
        let state = self.state.lock();
        (state.ready.len(), state.full.clone())
    }

    /// Asks for at least so many.
    pub fn want(&self, spares: usize) {
        let mut state = self.state.lock();
        state.wanted = state.wanted.max(spares);
        self.changed.notify_all();
    }

    /// Space may have become free: try now.
    pub fn retry(&self) {
        self.state.lock().full = None;
        self.changed.notify_all();
    }

    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until one is ready or none can be.
    pub fn wait_ready(&self) {
        let mut state = self.state.lock();
        while state.ready.is_empty() && state.full.is_none() && state.failed.is_none() {
            self.changed.wait(&mut state);
        }
    }

    pub fn failed(&self) -> Option<String> {
        self.state.lock().failed.clone()
    }

    /// Has the preparer cut the segment.
    pub fn cut(&self, sealed: Sealed) {
        self.state.lock().sealed.push(sealed);
        self.changed.notify_all();
    }

    /// Takes a spare that is ready. One is enough to keep from now on.
    pub fn take(&self) -> Option<Spare> {
        let mut state = self.state.lock();
        let spare = state.ready.pop_front();
        state.wanted = 1;
        self.changed.notify_all();
        spare
    }
}

pub fn start_preparer(shared: Arc<Shared>) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("log-preparer".to_owned()).spawn(move || run_preparer(&shared))
}

fn run_preparer(shared: &Shared) {
    loop {
        let sealed = std::mem::take(&mut shared.spares.state.lock().sealed);
        sealed.iter().for_each(Sealed::cut);
        prepare_wanted(shared);
        let mut state = shared.spares.state.lock();
        if !state.sealed.is_empty() {
            continue;
        }
        if state.closed || state.failed.is_some() {
            return;
        }
        if state.full.is_some() {
            // Requests for room do not count: each refused write makes one, and trying costs a full disk's worth. Nor do
            // they put off the next attempt.
            let clock = &shared.env.clock;
            let retry_at = clock.monotonic() + RETRY_AFTER;
            while state.full.is_some() && !state.closed {
                let pause = retry_at.saturating_sub(clock.monotonic());
                if pause.is_zero() || shared.spares.changed.wait_for(&mut state, pause).timed_out() {
                    break;
                }
            }
        } else if state.ready.len() >= state.wanted {
            shared.spares.changed.wait(&mut state);
        }
    }
}

/// Prepares spares until as many are ready as are wanted, or none can be.
pub fn prepare_wanted(shared: &Shared) {
    loop {
        let number = {
            let state = shared.spares.state.lock();
            if state.closed || state.failed.is_some() || state.ready.len() >= state.wanted {
                return;
            }
            state.next_number
        };
        let prepared = prepare(shared, number);
        let mut state = shared.spares.state.lock();
        match prepared {
            Ok(file) => {
                state.next_number = number + 1;
                state.full = None;
                state.ready.push_back(Spare { number, file });
                shared.spares.changed.notify_all();
            }
            Err(error) => {
                let cause =
                    format!("cannot prepare a log segment in {}: {error}", shared.directory.display());
                if is_full(&error) {
                    state.full = Some(cause);
                } else {
                    state.failed = Some(cause);
                }
                shared.spares.changed.notify_all();
                return;
            }
        }
    }
}

/// Whether another attempt may find what this one lacked: space, or a file descriptor.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    use rustix::io::Errno;
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
        || matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// A file that is being filled. It gets its number when its bytes are durable.
const UNFINISHED: &str = "spare.tmp";

/// Makes a file of zeros, and its name, durable. One that an earlier process has prepared is taken over: it was never
/// started, so it holds nothing that counts; it has its name, so its bytes are durable; and the claim has made names durable.
fn prepare(shared: &Shared, number: u64) -> io::Result<Arc<dyn DiskFile>> {
    let disk = &shared.env.disk;
    let path = segment_path(&shared.directory, number);
    if let Some(file) = prepared_before(shared, &path)? {
        return Ok(file);
    }
    let unfinished = shared.directory.join(UNFINISHED);
    let file = disk.create(&unfinished)?;
    let filled = fill_with_zeros(shared, &*file).and_then(|()| file.sync());
    filled.inspect_err(|_| {
        // Gives the space back. Should this fail too, the next attempt starts the same file anew.
        let _ = disk.remove(&unfinished);
    })?;
    disk.rename(&unfinished, &path)?;
    disk.sync_directory(&shared.directory)?;
    Ok(file)
}

fn prepared_before(shared: &Shared, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
    if !shared.env.disk.exists(path)? {
        return Ok(None);
    }
    let file = shared.env.disk.open(path, Access::ReadWrite)?;
    Ok((file.size()? == shared.options.segment_bytes).then_some(file))
}

/// Data and not a hole or an unwritten extent: a later write in that range changes no metadata.
fn fill_with_zeros(shared: &Shared, file: &dyn DiskFile) -> io::Result<()> {
    let size = shared.options.segment_bytes;
    let zeros = vec![0; ZEROS_BYTES.min(size as usize)];
    let mut offset = 0;
    while offset < size {
        let length = (size - offset).min(zeros.len() as u64) as usize;
        file.write_at(&zeros[..length], offset)?;
        offset += length as u64;
        if shared.spares.state.lock().closed {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(())
}
