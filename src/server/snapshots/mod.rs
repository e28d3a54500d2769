//! Snapshots while the server runs: a process of their own, one at a time.
//!
//! The serving process seals the log's open segment, writes what modules derive (it has that in memory already), starts
//! `engramdb snapshot create` on its own directory, and trims the log below the verified snapshot when that has ended
//! well. It never forks a copy of itself and never pauses. The child runs at low priority and dies with its parent.
//!
//! Not here: how a snapshot is made (`engramdb_engine::snapshot`).

use crate::Snapshotter;
use engramdb_engine::Engine;
use engramdb_engine::env::Env;
use engramdb_engine::log::local::LocalOptions;
use engramdb_engine::log::pipeline::Refusal;
use engramdb_engine::recovery::{LOG_DIRECTORY, SNAPSHOT_DIRECTORY};
use engramdb_engine::snapshot::create::CreateOptions;
use engramdb_engine::snapshot::manifest::Manifest;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the growth of the log is looked at.
const GROWTH_INTERVAL: Duration = Duration::from_secs(2);
/// Segments beyond the last snapshot that are worth a new one, at least.
const GROWTH_SEGMENTS_MIN: u64 = 2;
/// Tries to seal the log's segment while the next one is being prepared.
const SEAL_TRIES: u32 = 500;
const SEAL_PAUSE: Duration = Duration::from_millis(10);
/// Memory that must be free beside what the snapshot process takes.
const SPARE_MEMORY_BYTES: u64 = 64 << 20;

/// Makes snapshots of the data directory that this process serves.
pub struct ProcessSnapshotter {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    env: Env,
    directory: PathBuf,
    /// The program that has the command `snapshot create`: this one.
    program: PathBuf,
    in_progress: AtomicBool,
    last: Mutex<Last>,
}

struct Last {
    save_ms: u64,
    result: Result<(), String>,
    snapshot_bytes: u64,
    /// Log files after it was trimmed.
    segments: u64,
}

impl ProcessSnapshotter {
    pub fn new(engine: Arc<Engine>, env: Env, directory: PathBuf, program: PathBuf) -> ProcessSnapshotter {
        let manifest = Manifest::load(&*env.disk, &directory.join(SNAPSHOT_DIRECTORY)).unwrap_or_default();
        let newest = manifest.newest();
        let last = Last {
            save_ms: newest.map_or(0, |entry| entry.created_ms),
            result: Ok(()),
            snapshot_bytes: newest.map_or(0, |entry| entry.bytes),
            segments: log_files(&env, &directory),
        };
        let in_progress = AtomicBool::new(false);
        let inner = Inner { engine, env, directory, program, in_progress, last: Mutex::new(last) };
        ProcessSnapshotter { inner: Arc::new(inner) }
    }

    /// Starts a snapshot by itself whenever the log has grown enough, for the life of the process.
    pub fn watch_growth(&self) -> std::io::Result<()> {
        let inner = self.inner.clone();
        let watch = move || {
            loop {
                std::thread::park_timeout(GROWTH_INTERVAL);
                if inner.has_grown()
                    && let Err(cause) = inner.begin()
                {
                    tracing::debug!("no snapshot now: {cause}");
                }
            }
        };
        std::thread::Builder::new().name("growth".to_owned()).spawn(watch).map(drop)
    }
}

impl Snapshotter for ProcessSnapshotter {
    fn start(&self) -> Result<(), String> {
        self.inner.begin()
    }

    fn in_progress(&self) -> bool {
        self.inner.in_progress.load(Ordering::Acquire)
    }

    fn last_save_ms(&self) -> u64 {
        self.inner.last.lock().save_ms
    }

    fn last_result(&self) -> Result<(), String> {
        self.inner.last.lock().result.clone()
    }
}

impl Inner {
    /// Starts one in a thread that lives as long as the process does: the child's death signal hangs on the thread.
    fn begin(self: &Arc<Inner>) -> Result<(), String> {
        if self.in_progress.swap(true, Ordering::AcqRel) {
            return Err("Background save already in progress".to_owned());
        }
        let inner = self.clone();
        let run = move || {
            let result = inner.make();
            match &result {
                Ok(text) => tracing::info!("{text}"),
                Err(cause) => tracing::error!("no snapshot was made, the last one stays valid: {cause}"),
            }
            inner.note(result.map(drop));
            inner.in_progress.store(false, Ordering::Release);
        };
        let started = std::thread::Builder::new().name("snapshot".to_owned()).spawn(run);
        started.map(drop).map_err(|error| {
            self.in_progress.store(false, Ordering::Release);
            format!("cannot start a thread: {error}")
        })
    }

    /// One snapshot from beginning to end; says what came of it.
    fn make(&self) -> Result<String, String> {
        self.check_memory()?;
        self.seal()?;
        for (module, export) in self.engine.exporters() {
            match export() {
                Ok(text) => tracing::info!("{text}"),
                // Derived state: the snapshot is whole without it, and the next start rebuilds it.
                Err(cause) => tracing::warn!("module {module} could not keep its derived state: {cause}"),
            }
        }
        self.run_process()?;
        let manifest = Manifest::load(&*self.env.disk, &self.directory.join(SNAPSHOT_DIRECTORY))
            .map_err(|error| error.to_string())?;
        if let Some(upto) = manifest.trim_through(CreateOptions::default().retain) {
            self.engine.log().trim(upto).map_err(|error| format!("cannot trim the log: {error}"))?;
        }
        let newest = manifest.newest().ok_or("the snapshot process published nothing")?;
        Ok(format!("snapshot {}: {} keys, {} bytes", newest.file, newest.keys, newest.bytes))
    }

    /// Closes the log's open segment, so that the snapshot covers everything up to now.
    fn seal(&self) -> Result<(), String> {
        for _ in 0..SEAL_TRIES {
            match self.engine.pipeline().rotate() {
                Ok(_) => return Ok(()),
                Err(Refusal::Busy) => std::thread::park_timeout(SEAL_PAUSE),
                Err(refusal) => return Err(refusal.to_string()),
            }
        }
        Err("the log had no room to close its segment; try again".to_owned())
    }

    /// The child holds a part of the keys at a time, or all of them when keys were renamed between parts.
    fn check_memory(&self) -> Result<(), String> {
        let wanted = {
            let run = self.engine.reads();
            run.view(0).whole_keyspace().heap_bytes() as u64 + SPARE_MEMORY_BYTES
        };
        match available_memory_bytes() {
            Some(available) if available < wanted => Err(format!(
                "{} MiB of memory are available, a snapshot may take {} MiB",
                available >> 20,
                wanted >> 20
            )),
            _ => Ok(()),
        }
    }

    fn run_process(&self) -> Result<(), String> {
        let output = Command::new(&self.program)
            .args(["snapshot", "create", "--child-of", &std::process::id().to_string(), "--dir"])
            .arg(&self.directory)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let text = String::from_utf8_lossy(&output.stderr);
                Err(format!("the snapshot process ended with {}: {}", output.status, text.trim()))
            }
        }
    }

    fn note(&self, result: Result<(), String>) {
        let manifest = Manifest::load(&*self.env.disk, &self.directory.join(SNAPSHOT_DIRECTORY));
        let mut last = self.last.lock();
        last.segments = log_files(&self.env, &self.directory);
        if let Some(newest) = manifest.as_ref().ok().and_then(Manifest::newest) {
            last.save_ms = newest.created_ms;
            last.snapshot_bytes = newest.bytes;
        }
        last.result = result;
    }

    /// True once the log has grown by the size of the last snapshot, and by some segments at least.
    fn has_grown(&self) -> bool {
        let last = self.last.lock();
        let of_snapshot = last.snapshot_bytes / LocalOptions::default().segment_bytes;
        let wanted = of_snapshot.max(GROWTH_SEGMENTS_MIN);
        log_files(&self.env, &self.directory) >= last.segments + wanted
    }
}

fn log_files(env: &Env, directory: &Path) -> u64 {
    env.disk.list(&directory.join(LOG_DIRECTORY)).map_or(0, |names| names.len() as u64)
}

/// What the kernel could give without swapping, where it says so.
#[expect(clippy::disallowed_methods, reason = "the kernel's own file, not data of the engine")]
fn available_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// To be called first by the snapshot process: it gives way to the server, and does not outlive it.
pub fn become_child_of(parent: u32) -> Result<(), String> {
    use rustix::process;
    process::set_parent_process_death_signal(Some(process::Signal::KILL))
        .map_err(|error| format!("cannot tie this process to its parent: {error}"))?;
    // The parent may have died before that call.
    let is_orphan = process::getppid().is_none_or(|pid| pid.as_raw_nonzero().get() as u32 != parent);
    if is_orphan {
        return Err("the server that wanted this snapshot is gone".to_owned());
    }
    // Slower is all that goes wrong without it.
    _ = process::nice(10);
    Ok(())
}
