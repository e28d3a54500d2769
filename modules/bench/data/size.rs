//! Checks that data fit into memory before they are generated or read: the system kills a process that takes
//! too much without a message.

use std::path::Path;

use super::DataError;

/// Refuses a size above the memory that this machine, or the cgroup of this process, has left. If neither is
/// known, nothing is refused.
pub fn check(what: &str, bytes: u128) -> Result<(), DataError> {
    judge(what, bytes, available())
}

/// A matrix of float32, of which `copies` are in memory at once.
pub fn check_rows(what: &str, rows: u64, dimensions: u64, copies: f64) -> Result<(), DataError> {
    let elements = u128::from(rows).saturating_mul(dimensions.into());
    let bytes = elements.saturating_mul(size_of::<f32>() as u128);
    check(what, (bytes as f64 * copies) as u128)
}

/// A file that is read as a whole; its elements take `bytes_each` bytes of memory for each byte of the file.
pub fn check_file(path: &Path, bytes_each: u128) -> Result<(), DataError> {
    let length = std::fs::metadata(path).map_err(DataError::read(path))?.len();
    check(&path.display().to_string(), u128::from(length) * bytes_each)
}

fn judge(what: &str, bytes: u128, available: Option<u64>) -> Result<(), DataError> {
    match available {
        Some(available) if bytes > u128::from(available) => Err(DataError::TooLarge {
            what: what.to_owned(),
            needed: gigabytes(bytes as f64),
            available: gigabytes(available as f64),
        }),
        _ => Ok(()),
    }
}

fn gigabytes(bytes: f64) -> String {
    format!("{:.1} GB", bytes / 1e9)
}

/// The memory that may still be allocated, in bytes.
fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").as_deref().and_then(parse_available);
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    // Version 2 of cgroups as seen from within a container; without a limit the file contains "max".
    let group = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(limit, used)| limit.saturating_sub(used));
    machine.into_iter().chain(group).min()
}

/// MemAvailable of /proc/meminfo, which is in KiB.
fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_large_data_are_refused_with_both_sizes() {
        let refusal = judge("synthetic:10000000000:384:1", 15_360_000_000_000, Some(8_000_000_000));
        let text = refusal.unwrap_err().to_string();
        assert!(text.contains("synthetic:10000000000:384:1 needs 15360.0 GB"), "{text}");
        assert!(text.contains("8.0 GB are available"), "{text}");
        assert!(judge("small", 8_000_000_000, Some(8_000_000_000)).is_ok());
        assert!(judge("anything", u128::MAX, None).is_ok());
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(parse_available("MemTotal:  9 kB\nMemAvailable:     200 kB\n"), Some(204_800));
        assert_eq!(parse_available("MemTotal:  9 kB\n"), None);
        if cfg!(target_os = "linux") {
            assert!(available().is_some_and(|bytes| bytes > 0));
        }
    }
}
