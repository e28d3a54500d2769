//! The machine and the process under test, as /proc tells about them.

use serde::Serialize;

use crate::error::BenchError;

/// Clock ticks a second in /proc/PID/stat: 100 on every Linux that runs on common hardware (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// Where a report was made. Figures of different machines do not compare.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub system: String,
    /// Seconds since 1970 when the report was begun.
    pub unix_time: u64,
}

impl Machine {
    pub fn describe() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            processor: model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
            unix_time: since_1970.as_secs(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, {} cores, {}", self.processor, self.cores, self.system)
    }
}

/// Physical memory that a process holds, in bytes: pages of its program and of mapped files included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resident {
    #[serde(rename = "resident_bytes")]
    pub bytes: u64,
    /// The most that it ever was.
    pub peak_bytes: u64,
}

/// A process whose CPU time and memory are charged to a run.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process itself that runs this tool.
    pub fn own() -> Self {
        Self { pid: std::process::id() }
    }

    /// Another process on this machine.
    pub fn with_pid(pid: u32) -> Result<Self, BenchError> {
        let process = Self { pid };
        match process.cpu_seconds() {
            Some(_) => Ok(process),
            None => Err(BenchError::Usage(format!(
                "there is no process {pid} to read in /proc: give the server's process id on this machine \
                 (redis-cli INFO server | grep process_id), or leave out --server-pid"
            ))),
        }
    }

    /// User and system time that the process has used so far, all its threads together; to 10 ms.
    pub fn cpu_seconds(self) -> Option<f64> {
        parse_cpu_seconds(&std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?)
    }

    /// What the process holds now.
    pub fn resident(self) -> Result<Resident, BenchError> {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(&path).ok();
        status.as_deref().and_then(parse_resident).ok_or_else(|| {
            BenchError::Usage(format!(
                "resident memory is read from {path}, which is not there: run this on Linux, with /proc mounted"
            ))
        })
    }
}

/// Fields 14 and 15 of /proc/PID/stat, counted after the command in parentheses, which may hold spaces.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let after_command = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// VmRSS and VmHWM of /proc/PID/status, which are in KiB.
fn parse_resident(status: &str) -> Option<Resident> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1024)
    };
    Some(Resident { bytes: bytes("VmRSS")?, peak_bytes: bytes("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_any_command_name() {
        let stat = "1234 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 99";
        assert_eq!(parse_cpu_seconds(stat), Some(3.0));
        assert!(Process::own().cpu_seconds().is_some());
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tVmRSS: 1 kB\nVmPeak:\t  900 kB\nVmHWM:\t     300 kB\nVmRSS:\t     200 kB\n";
        assert_eq!(parse_resident(status), Some(Resident { bytes: 204_800, peak_bytes: 307_200 }));
        assert_eq!(parse_resident("VmRSS:\t200 pages\nVmHWM:\t300 kB\n"), None);
    }
}
