//! What the operating system knows of this process, from /proc. `None` where there is none.

use crate::config::Config;
use engramdb_engine::env::{Access, Env};
use engramdb_engine::log::local::RESERVE_OPEN_FILES;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;

/// The page size of the platforms that this server runs on.
const PAGE_BYTES: u64 = 4096;
/// Linux's USER_HZ, a constant towards programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// A file of /proc says that it has no bytes, so its size does not help.
fn read(env: &Env, path: &str) -> Option<String> {
    let file = env.disk.open(Path::new(path), Access::Read).ok()?;
    let mut bytes = vec![0; 4096];
    let filled = file.read_full_at(&mut bytes, 0).ok()?;
    bytes.truncate(filled);
    String::from_utf8(bytes).ok()
}

pub fn resident_bytes(env: &Env) -> Option<u64> {
    let pages: u64 = read(env, "/proc/self/statm")?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

pub fn total_memory_bytes(env: &Env) -> Option<u64> {
    let text = read(env, "/proc/meminfo")?;
    let kib: u64 = text.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// `maxmemory`, or the memory of the machine, in bytes; 0 if neither is known.
pub fn memory_bytes_max(env: &Env, config: &Config) -> u64 {
    match config.memory_bytes_max {
        0 => total_memory_bytes(env).unwrap_or(0),
        bytes => bytes,
    }
}

/// File descriptors that are not for clients: as many as in Redis for the log's segments, snapshots,
/// listeners and the standard streams, and those of the log's reserve.
const RESERVED_DESCRIPTORS: u64 = 29 + RESERVE_OPEN_FILES as u64;
/// File descriptors of a worker: its runtime's poll and wake-up.
const WORKER_DESCRIPTORS: u64 = 3;

/// Raises the process's limit of file descriptors to what `clients` connections need, or as far as it goes.
/// Returns how many of them can have one.
pub fn allow_clients(clients: usize, threads: usize) -> usize {
    let reserved = RESERVED_DESCRIPTORS + WORKER_DESCRIPTORS * threads as u64;
    let wanted = reserved.saturating_add(clients as u64);
    let limit = getrlimit(Resource::Nofile);
    // No limit is a limit that is not reached.
    let mut current = limit.current.unwrap_or(u64::MAX);
    if current < wanted {
        let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
            Ok(()) => current = raised,
            Err(error) => tracing::warn!("cannot raise the limit of open files to {raised}: {error}"),
        }
    }
    usize::try_from(current.saturating_sub(reserved)).unwrap_or(usize::MAX).min(clients)
}

#[derive(Default)]
pub struct CpuSeconds {
    pub user: f64,
    pub system: f64,
    pub children_user: f64,
    pub children_system: f64,
}

pub fn cpu_seconds(env: &Env) -> Option<CpuSeconds> {
    let text = read(env, "/proc/self/stat")?;
    // The name in brackets may contain blanks; fields are counted after it. `utime` is the 14th of all.
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let seconds = |index: usize| Some(fields.get(index)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(CpuSeconds {
        user: seconds(11)?,
        system: seconds(12)?,
        children_user: seconds(13)?,
        children_system: seconds(14)?,
    })
}

pub fn executable() -> String {
    std::env::current_exe().map_or(String::new(), |path| path.display().to_string())
}

/// From now on SIGHUP (the terminal is gone) and SIGUSR1 do not end the process. Handlers stay when the
/// runtime that registered them is gone.
pub fn ignore_hangups() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    for kind in [SignalKind::hangup(), SignalKind::user_defined1()] {
        drop(signal(kind)?);
    }
    Ok(())
}

/// Limits huge pages to memory that asks for them: the first touch of one takes milliseconds, and it would
/// happen under the keyspace's lock. Graphs ask for them, because other threads fill their memory.
///
/// Where the kernel gives them unasked ("always"), they are disabled for this process, as Redis does by
/// default.
pub fn disable_huge_pages(env: &Env) {
    let mode = read(env, "/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    if !mode.contains("[always]") {
        return;
    }
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!("transparent huge pages stay as they are: {error}");
    }
}
