//! Snapshots while the server serves: BGSAVE, SAVE, and by itself when the log has grown enough.
//!
//! A thread rotates the log, so that sealed segments hold everything so far, and starts `engramdb snapshot
//! create` as a process of its own, at low priority: the serving process never forks its memory and never
//! pauses. Meanwhile modules export their derived state in this process, which has it already. When the
//! process has published a manifest, the log is trimmed here, where its writer is.
//!
//! Invariants: one snapshot at a time; the process dies with this one, for the thread that starts it lives to
//! the end; a process that is killed, or fails, leaves the previous snapshot valid.

use super::machine;
use super::retries::{Freed, Retries};
use super::shortage::Shortage;
use crate::snapshots::Snapshotter;
use engramdb_engine::Engine;
use engramdb_engine::data_dir::{LOG_DIRECTORY, SNAPSHOT_DIRECTORY};
use engramdb_engine::env::Env;
use engramdb_engine::log::local::Catalog;
use engramdb_engine::log::pipeline::Refusal;
use engramdb_engine::module::Exporter;
use engramdb_engine::snapshot::SnapshotFile;
use engramdb_engine::snapshot::create::CARRY_BYTES;
use engramdb_engine::snapshot::format::SectionContent;
use engramdb_engine::snapshot::manifest::{Manifest, ManifestEntry};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    /// The data directory.
    pub directory: PathBuf,
    /// The program that knows `snapshot create`; this one by default.
    pub program: PathBuf,
    /// Whether snapshots are made without being asked for.
    pub automatic: bool,
    /// A snapshot is made when the log has grown by this many bytes since the last one, and ...
    pub log_bytes_min: u64,
    /// ... by this many times the last snapshot's size, and ...
    pub log_ratio: f64,
    /// ... this long after the start or the last snapshot, or ...
    pub pause: Duration,
    /// ... once it has grown by this many bytes, which bounds what a restart replays.
    pub log_bytes_max: u64,
    /// How many snapshots are kept.
    pub retain: usize,
    /// How much memory a new process finds; `None` where the system does not say.
    pub available_memory_bytes: fn() -> Option<u64>,
}

impl SnapshotSettings {
    pub fn new(directory: PathBuf) -> std::io::Result<SnapshotSettings> {
        Ok(SnapshotSettings {
            directory,
            program: std::env::current_exe()?,
            automatic: true,
            log_bytes_min: 64 << 20,
            log_ratio: 1.0,
            pause: Duration::from_secs(60),
            log_bytes_max: 1 << 30,
            retain: 2,
            available_memory_bytes: machine::available_memory_bytes,
        })
    }
}

/// How often the log's growth is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the process is looked after.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Memory of the process beside the range of keys that it holds: buffers, the program itself, and values that
/// are carried between ranges.
const PROCESS_BYTES: u64 = (48 << 20) + CARRY_BYTES as u64;
/// What a key takes in memory beyond its bytes in a file.
const KEY_BYTES: u64 = 128;
/// The log's tail goes to 64 ranges, of which the process holds one at a time; not all get the same.
const TAIL_HELD_INVERSE: u64 = 16;

/// Makes snapshots in the background. [`BackgroundSnapshots::stop`] ends it; dropping does too.
pub struct BackgroundSnapshots {
    shared: Arc<SnapshotScheduler>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct SnapshotScheduler {
    engine: Arc<Engine>,
    settings: SnapshotSettings,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    asked: bool,
    running: bool,
    stopping: bool,
    last_save_ms: u64,
    last_result: Result<(), String>,
    retries: Retries,
    /// No automatic attempt before this moment of the monotonic clock, unless the log has become long.
    paused_until: Duration,
    /// When the last one ended.
    last_end: Option<Duration>,
    /// Whether no snapshot is made although it is time for one. It has been logged.
    waits_for_memory: bool,
    /// What the next one will take, when it was last asked.
    memory_needed_bytes: u64,
}

impl BackgroundSnapshots {
    pub fn start(engine: Arc<Engine>, settings: SnapshotSettings) -> std::io::Result<BackgroundSnapshots> {
        let state = State {
            asked: false,
            running: false,
            stopping: false,
            last_save_ms: 0,
            last_result: Ok(()),
            retries: Retries::default(),
            paused_until: engine.env().clock.monotonic() + settings.pause,
            last_end: None,
            waits_for_memory: false,
            memory_needed_bytes: 0,
        };
        let shared = Arc::new(SnapshotScheduler {
            engine,
            settings,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new().name("snapshots".to_owned()).spawn(move || shared.run())?
        };
        Ok(BackgroundSnapshots { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread, and the process if one runs. The last snapshot stays valid.
    pub fn stop(&self) {
        self.shared.state.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // A panic there has been reported by the panic hook.
            _ = thread.join();
        }
    }

    /// Looks now whether it is time for one, and not at the next regular moment.
    pub fn look(&self) {
        self.shared.is_due();
        self.shared.changed.notify_all();
    }

    /// Waits until no snapshot is being made; how the last one ended.
    pub fn wait(&self) -> Result<(), String> {
        let mut state = self.shared.state.lock();
        while (state.asked || state.running) && !state.stopping {
            self.shared.changed.wait(&mut state);
        }
        state.last_result.clone()
    }
}

impl Drop for BackgroundSnapshots {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Snapshotter for BackgroundSnapshots {
    fn start(&self) -> Result<(), String> {
        let mut state = self.shared.state.lock();
        if state.asked || state.running {
            return Err("Background save already in progress".to_owned());
        }
        if state.stopping {
            return Err("the server is stopping".to_owned());
        }
        state.asked = true;
        self.shared.changed.notify_all();
        Ok(())
    }

    fn in_progress(&self) -> bool {
        let state = self.shared.state.lock();
        state.asked || state.running
    }

    fn last_save_ms(&self) -> u64 {
        self.shared.state.lock().last_save_ms
    }

    fn last_result(&self) -> Result<(), String> {
        self.shared.state.lock().last_result.clone()
    }

    fn retry_in(&self) -> Option<Duration> {
        let now = self.shared.engine.env().clock.monotonic();
        self.shared.state.lock().retries.wait(now).filter(|_| self.shared.settings.automatic)
    }

    fn memory_needed_bytes(&self) -> u64 {
        self.shared.state.lock().memory_needed_bytes
    }

    fn waits_for_memory(&self) -> bool {
        self.shared.state.lock().waits_for_memory
    }
}

impl SnapshotScheduler {
    fn run(&self) {
        self.note_memory_needed();
        while let Some(asked) = self.next() {
            if !asked && !self.is_due() {
                continue;
            }
            match self.memory_is_short() {
                Some(cause) if !asked => self.wait_for_memory(&cause),
                Some(cause) => self.ended(Err(cause)),
                None => {
                    let mut state = self.state.lock();
                    state.running = true;
                    if std::mem::take(&mut state.waits_for_memory) {
                        tracing::info!("there is memory again: a snapshot is made");
                    }
                    drop(state);
                    let result = self.snapshot();
                    self.note_memory_needed();
                    self.ended(result);
                }
            }
        }
    }

    /// Waits until a snapshot was asked for (true) or it is time to look at the log (false); `None` at the
    /// end.
    fn next(&self) -> Option<bool> {
        let mut state = self.state.lock();
        if !state.asked && !state.stopping {
            self.changed.wait_for(&mut state, LOOK_EVERY);
        }
        if state.stopping {
            return None;
        }
        // What was asked for is running from now on, so that `in_progress` has no gap.
        let asked = std::mem::take(&mut state.asked);
        state.running = asked;
        Some(asked)
    }

    fn ended(&self, result: Result<(), String>) {
        let data_bytes = self.engine.data_bytes();
        let clock = &self.engine.env().clock;
        let now = clock.monotonic();
        let mut state = self.state.lock();
        state.running = false;
        state.last_end = Some(now);
        match &result {
            Ok(()) => {
                state.last_save_ms = clock.wall_ms();
                state.paused_until = now + self.settings.pause;
                if let Some(line) = state.retries.succeeded(data_bytes) {
                    tracing::info!("{line}");
                }
            }
            Err(cause) => {
                let line = state.retries.failed(cause, now, data_bytes);
                if let Some(line) = line.filter(|_| !state.stopping) {
                    tracing::error!("{line}");
                }
            }
        }
        state.last_result = result;
        self.changed.notify_all();
    }

    /// Whether the log has grown enough.
    fn is_due(&self) -> bool {
        let settings = &self.settings;
        if !settings.automatic {
            return false;
        }
        let now = self.engine.env().clock.monotonic();
        let data_bytes = self.engine.data_bytes();
        let (forbidden, freed, paused_until, last_end) = {
            let mut state = self.state.lock();
            let State { retries, paused_until, last_end, .. } = &mut *state;
            (retries.forbid(now), retries.freed(data_bytes), *paused_until, *last_end)
        };
        let is_refusing = self.engine.writer().is_some_and(|log| log.shortage().is_some());
        let is_full = is_refusing || self.engine.log().room().full.is_some();
        let has_paused = last_end.is_none_or(|end| now >= end + settings.pause);
        if is_full && is_due_on_full_disk(freed, has_paused, is_refusing && !forbidden) {
            return true;
        }
        if forbidden {
            return false;
        }
        let newest = newest(self.engine.env(), settings);
        let by_size = newest.as_ref().map_or(0.0, |entry| entry.bytes as f64 * settings.log_ratio) as u64;
        let growth = self.sealed_bytes_after(newest.as_ref());
        let enough = settings.log_bytes_min.max(by_size);
        growth >= enough && (now >= paused_until || growth >= settings.log_bytes_max)
    }

    /// The size of the sealed segments that are not in the last snapshot.
    fn sealed_bytes_after(&self, newest: Option<&ManifestEntry>) -> u64 {
        let disk = &*self.engine.env().disk;
        // While segments come and go, a look may fail; there will be another.
        let Ok(catalog) = Catalog::load(disk, &self.settings.directory.join(LOG_DIRECTORY)) else { return 0 };
        let after = newest.map_or(0, |entry| entry.pos);
        let new = catalog.started.windows(2).filter(|pair| pair[1].header.before.pos.0 > after);
        let size = |segment: &std::path::Path| {
            disk.open(segment, engramdb_engine::env::Access::Read).and_then(|file| file.size()).unwrap_or(0)
        };
        new.map(|pair| size(&pair[0].path)).sum()
    }

    /// Why the process may not find the memory that it needs.
    fn memory_is_short(&self) -> Option<String> {
        let available = (self.settings.available_memory_bytes)()?;
        let needed = self.note_memory_needed();
        let mib = |bytes: u64| bytes >> 20;
        (available < needed).then(|| {
            format!("a snapshot needs about {} MiB of memory, {} MiB are free", mib(needed), mib(available))
        })
    }

    fn note_memory_needed(&self) -> u64 {
        let needed = self.memory_needed_bytes();
        self.state.lock().memory_needed_bytes = needed;
        needed
    }

    /// An estimate of the memory that the process will take: the largest range of slots of the last snapshot,
    /// the log's part of a range, and a constant.
    fn memory_needed_bytes(&self) -> u64 {
        let env = self.engine.env();
        let newest = newest(env, &self.settings);
        let directory = self.settings.directory.join(SNAPSHOT_DIRECTORY);
        let snapshot = newest.as_ref().and_then(|entry| {
            // The process reports a damaged snapshot, and uses the one before it.
            SnapshotFile::open(&*env.disk, &directory.join(&entry.file)).ok()
        });
        let mut ranges = BTreeMap::<u16, u64>::new();
        for section in snapshot.iter().flat_map(|snapshot| snapshot.sections()) {
            if let SectionContent::Keys { first_slot, .. } = section.content {
                *ranges.entry(first_slot).or_default() += section.bytes + section.keys * KEY_BYTES;
            }
        }
        let largest = ranges.into_values().max().unwrap_or(0);
        PROCESS_BYTES + largest + self.sealed_bytes_after(newest.as_ref()) / TAIL_HELD_INVERSE
    }

    fn wait_for_memory(&self, cause: &str) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.waits_for_memory, true) {
            tracing::warn!("{cause}: waiting; until then the log keeps growing");
        }
    }

    fn snapshot(&self) -> Result<(), String> {
        let env = self.engine.env();
        let shortage = Shortage::begin(&self.engine, &self.settings);
        let before = newest(env, &self.settings);
        let durable = self.engine.durable();
        let exports = shortage.is_none().then(|| {
            let exporters = self.engine.exporters();
            std::thread::Builder::new().name("export".to_owned()).spawn(move || export(exporters))
        });
        let retain = if shortage.is_some() { 1 } else { self.settings.retain };
        let result = match &before {
            Some(entry) if entry.lsn == durable.0 => Ok(()),
            _ => self.rotate().and_then(|()| self.run_process(retain)).and_then(|()| self.trim(retain)),
        };
        // A panic there has been reported by the panic hook; derived state can be rebuilt.
        _ = exports.transpose().map(|thread| thread.map(JoinHandle::join));
        result
    }

    /// Seals what the log holds so far. A `Busy` passes when the next segment is prepared.
    fn rotate(&self) -> Result<(), String> {
        loop {
            // A follower writes nothing, so that what is sealed is all but the last segment; as below.
            let Some(log) = self.engine.writer() else { return Ok(()) };
            match log.rotate() {
                Ok(_) => return Ok(()),
                Err(Refusal::Busy) => {}
                // Nothing is written, so that what is sealed is all but the last segment.
                Err(Refusal::ReadOnly { .. }) => return Ok(()),
                Err(other) => return Err(other.to_string()),
            }
            let mut state = self.state.lock();
            if state.stopping {
                return Err("the server is stopping".to_owned());
            }
            self.changed.wait_for(&mut state, POLL_EVERY);
        }
    }

    fn run_process(&self, retain: usize) -> Result<(), String> {
        let settings = &self.settings;
        let began = self.engine.env().clock.monotonic();
        let child = Command::new(&settings.program)
            .args(["snapshot", "create", "--sealed-only", "--dir"])
            .arg(&settings.directory)
            .args(["--retain", &retain.to_string(), "--parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child =
            child.map_err(|error| format!("cannot start {}: {error}", settings.program.display()))?;
        let stderr = child.stderr.take().expect("piped above");
        let text = std::thread::spawn(move || tail(stderr));
        let status = self.wait_for(&mut child)?;
        let text = text.join().unwrap_or_default();
        if !status.success() {
            return Err(format!("the snapshot process ended with {status}: {}", text.trim()));
        }
        let took = self.engine.env().clock.monotonic() - began;
        tracing::info!("snapshot made in {:.1} s", took.as_secs_f64());
        if !text.trim().is_empty() {
            tracing::warn!("{}", text.trim());
        }
        Ok(())
    }

    /// Waits for the process; kills it when the server stops.
    fn wait_for(&self, child: &mut Child) -> Result<std::process::ExitStatus, String> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(error) => return Err(format!("lost the snapshot process: {error}")),
            }
            let mut state = self.state.lock();
            if state.stopping {
                drop(state);
                // It may have ended by itself meanwhile.
                _ = child.kill();
                _ = child.wait();
                return Err("the server is stopping".to_owned());
            }
            self.changed.wait_for(&mut state, POLL_EVERY);
        }
    }

    /// Gives up what of the log no snapshot that is kept needs.
    fn trim(&self, retain: usize) -> Result<(), String> {
        let directory = self.settings.directory.join(SNAPSHOT_DIRECTORY);
        let manifest =
            Manifest::load(&*self.engine.env().disk, &directory).map_err(|error| error.to_string())?;
        match manifest.trim_through(retain) {
            Some(upto) => self.engine.log().trim(upto).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

/// A snapshot is what frees the log. It is due when writes begin to be refused, and when less data is to be
/// written than before: at once if most of it was freed (FLUSHALL), otherwise after the pause.
fn is_due_on_full_disk(freed: Freed, has_paused: bool, has_begun_to_refuse: bool) -> bool {
    freed == Freed::Most || has_paused && (freed == Freed::Much || has_begun_to_refuse)
}

fn newest(env: &Env, settings: &SnapshotSettings) -> Option<ManifestEntry> {
    let directory = settings.directory.join(SNAPSHOT_DIRECTORY);
    // A damaged manifest stops the next start and the next snapshot, which say what to do.
    Manifest::load(&*env.disk, &directory).ok()?.newest().cloned()
}

fn export(exporters: Vec<(&'static str, Exporter)>) {
    for (module, exporter) in exporters {
        match exporter() {
            Ok(text) => tracing::info!("{module}: {text}"),
            Err(cause) => tracing::warn!("{module} could not keep its derived state: {cause}"),
        }
    }
}

/// The end of what a process writes, as text.
fn tail(mut from: impl Read) -> String {
    const BYTES_MAX: usize = 16 << 10;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
        let excess = bytes.len().saturating_sub(BYTES_MAX);
        bytes.drain(..excess);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engramdb_engine::log::local::LocalOptions;
    use engramdb_engine::recovery::{StartOptions, open_directory};
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn on_a_full_disk_a_snapshot_waits_for_nothing_when_most_is_freed() {
        for (freed, has_paused, has_begun_to_refuse, is_due) in [
            (Freed::Most, false, false, true),
            (Freed::Much, false, true, false),
            (Freed::Much, true, false, true),
            (Freed::Little, false, true, false),
            (Freed::Little, true, true, true),
            (Freed::Little, true, false, false),
        ] {
            assert_eq!(is_due_on_full_disk(freed, has_paused, has_begun_to_refuse), is_due, "{freed:?}");
        }
    }

    static AVAILABLE: AtomicU64 = AtomicU64::new(1 << 20);

    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let clock = Env::system().clock;
        let began = clock.monotonic();
        while !is_so() {
            assert!(clock.monotonic() - began < Duration::from_secs(60), "{what}");
            std::thread::park_timeout(POLL_EVERY);
        }
    }

    #[test]
    fn a_snapshot_that_finds_too_little_memory_waits_says_so_and_is_made_later() {
        let directory = engramdb_testkit::TempDir::new("short-memory");
        let (log, start) = (LocalOptions::default(), StartOptions::default());
        let (engine, _) =
            open_directory(&Env::system(), &directory, &Vec::new, log, start).expect("it is new");
        let settings = SnapshotSettings {
            // It makes none, which is enough to see that it was started.
            program: PathBuf::from("true"),
            log_bytes_min: 0,
            pause: Duration::ZERO,
            available_memory_bytes: || Some(AVAILABLE.load(Ordering::Relaxed)),
            ..SnapshotSettings::new(directory.path().to_owned()).expect("this program has a path")
        };
        let snapshots = BackgroundSnapshots::start(Arc::new(engine), settings).expect("a thread can start");
        until("it does not wait", || snapshots.waits_for_memory());
        assert!(snapshots.memory_needed_bytes() > 1 << 20);
        assert_eq!(snapshots.last_save_ms(), 0);
        Snapshotter::start(&snapshots).expect("none is being made");
        let refused = snapshots.wait().expect_err("what was asked for does not wait");
        assert!(
            refused.contains("a snapshot needs about") && refused.contains("1 MiB are free"),
            "{refused}"
        );
        AVAILABLE.store(u64::MAX, Ordering::Relaxed);
        Snapshotter::start(&snapshots).expect("none is being made");
        snapshots.wait().expect("there is memory");
        assert!(!snapshots.waits_for_memory());
        assert!(snapshots.last_save_ms() > 0);
        snapshots.stop();
        drop(snapshots);
    }
}
