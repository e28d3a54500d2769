//! What the snapshot process asks of Linux: how much memory is free, and a low priority.
//!
//! All of it is best effort: where a question has no answer, snapshots are made without it.

use rustix::process::{Signal, getppid, set_parent_process_death_signal, setpriority_process};

/// The niceness of the snapshot process. Its I/O priority follows from it.
const NICENESS: i32 = 10;

/// Bytes that a new process can take before something has to give: of the machine, or of the control group if
/// that has less. `None` where the system does not say.
pub fn available_memory_bytes() -> Option<u64> {
    let machine = meminfo_bytes(&read("/proc/meminfo")?, "MemAvailable:");
    [machine, control_group_bytes()].into_iter().flatten().min()
}

/// The most memory that this process has held so far.
pub fn peak_memory_bytes() -> Option<u64> {
    meminfo_bytes(&read("/proc/self/status")?, "VmHWM:")
}

fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// What is left of the limit of the control group (version 2) that this process sees as its own.
fn control_group_bytes() -> Option<u64> {
    let limit: u64 = read("/sys/fs/cgroup/memory.max")?.trim().parse().ok()?;
    let current: u64 = read("/sys/fs/cgroup/memory.current")?.trim().parse().ok()?;
    // The page cache counts as current and gives way.
    let file = read("/sys/fs/cgroup/memory.stat")?;
    let file: u64 = file.lines().find_map(|line| line.strip_prefix("inactive_file "))?.trim().parse().ok()?;
    Some(limit.saturating_sub(current.saturating_sub(file)))
}

#[expect(clippy::disallowed_methods, reason = "files of the kernel, not data")]
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Makes this process yield to all others: in processor time, and when memory runs out.
pub fn run_behind_others() {
    if let Err(error) = setpriority_process(None, NICENESS) {
        tracing::debug!("cannot lower the priority: {error}");
    }
    let mine_first = "1000";
    #[expect(clippy::disallowed_methods, reason = "a file of the kernel, not data")]
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", mine_first) {
        tracing::debug!("cannot offer this process to the out-of-memory killer first: {error}");
    }
}

/// Makes this process die with its parent; false if the parent, which had this id, is gone already.
///
/// The kernel watches the parent's *thread*: the one that starts processes has to live as long as its own
/// process.
pub fn die_with_parent(parent: u32) -> bool {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::debug!("cannot tie this process to its parent: {error}");
    }
    getppid().is_some_and(|found| found.as_raw_nonzero().get() as u32 == parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_text() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:   12 kB\n";
        assert_eq!(meminfo_bytes(text, "MemAvailable:"), Some(12 * 1024));
        assert_eq!(meminfo_bytes(text, "SwapFree:"), None);
    }
}
