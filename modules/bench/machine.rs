//! The machine and the measured process, as described by /proc.

use serde::Serialize;

use crate::error::BenchError;

/// Clock ticks per second in /proc/PID/stat: 100 on every Linux on common hardware (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine of a report. Figures of different machines are not comparable.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub system: String,
    /// Seconds since 1970 at the start of the report.
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

/// Physical memory of a process in bytes, including pages of its program and of mapped files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resident {
    #[serde(rename = "resident_bytes")]
    pub bytes: u64,
    /// The maximum so far.
    pub peak_bytes: u64,
}

/// A process whose CPU time and memory are reported.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process of this tool.
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

    /// User and system time of all threads of the process so far, with a resolution of 10 ms.
    pub fn cpu_seconds(self) -> Option<f64> {
        parse_cpu_seconds(&std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?)
    }

    /// The age of the process in seconds.
    fn age(self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        Some(uptime - parse_start(&stat)?)
    }

    /// Whether the process has the age that a server reports: the process id of a server in another namespace
    /// may belong to another process here.
    pub fn has_age(self, seconds: f64) -> bool {
        const TOLERANCE: f64 = 3.0;
        self.age().is_some_and(|age| (age - seconds).abs() <= TOLERANCE)
    }

    /// The memory of the process now.
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

/// Fields 14 and 15 of /proc/PID/stat, counted after the command in parentheses, which may contain spaces.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let after_command = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Field 22 of /proc/PID/stat: the start time of the process, in seconds after that of the system.
fn parse_start(stat: &str) -> Option<f64> {
    let after_command = &stat[stat.rfind(')')? + 1..];
    let ticks: f64 = after_command.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// The share of all processors' time that a server on this machine and this tool used together, from 0 to 1.
/// `None` if the CPU time of either is not known.
pub fn busy_share(server_cpu: Option<f64>, own_cpu: Option<f64>, seconds: f64) -> Option<f64> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Some((server_cpu? + own_cpu?) / (seconds * cores as f64))
}

/// CPU time of all processes of this machine since it was started, in seconds.
pub fn machine_cpu_seconds() -> Option<f64> {
    parse_machine_cpu(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; user includes the
/// time of guests.
fn parse_machine_cpu(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Option<Vec<f64>> = fields.take(8).map(|field| field.parse().ok()).collect();
    let ticks = ticks.filter(|ticks| ticks.len() == 8)?;
    Some((ticks.iter().sum::<f64>() - ticks[3] - ticks[4]) / TICKS_PER_SECOND)
}

/// The share of all processors' time that other programs used, from 0 to 1: that of the whole machine, minus
/// that of the server and of this tool.
pub fn others_share(machine_cpu: Option<f64>, known: &[Option<f64>], seconds: f64) -> Option<f64> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let known: f64 = known.iter().flatten().sum();
    Some(((machine_cpu? - known) / (seconds * cores as f64)).max(0.0))
}

/// A note if other programs used a significant share of the processors.
pub fn note_on_others(shares: impl Iterator<Item = Option<f64>>) -> Option<String> {
    const MUCH: f64 = 0.1;
    let most = shares.flatten().fold(0.0, f64::max);
    (most >= MUCH).then(|| {
        format!(
            "other programs used up to {:.0} % of the processors meanwhile: rates and latencies are not those of a quiet machine",
            most * 100.0
        )
    })
}

/// From this share on the processors count as full: a faster server could not have shown it.
pub const FULL: f64 = 0.9;

/// The note below a table, with the number of its points at which the processors were full. `None` if there
/// are none.
pub fn note_on_full(full: usize, points: usize, rate: &str, cost: &str) -> Option<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (full > 0).then(|| {
        format!(
            "busy: CPU time of server and tool together, as a share of that of {cores} processors. At {full} of {points} points they \
             filled them ({:.0} % and more): {rate} is limited there by the load generator too, which takes its part of the \
             processors. Compare servers by their {cost}, or run the tool on another machine.",
            FULL * 100.0
        )
    })
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
    fn a_process_is_identified_by_its_age() {
        let stat = "1234 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 99 0";
        assert_eq!(parse_start(stat), Some(0.99));
        let age = Process::own().age().unwrap();
        assert!(Process::own().has_age(age) && !Process::own().has_age(age + 60.0));
    }

    #[test]
    fn full_processors_are_noted() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        assert_eq!(busy_share(Some(cores), Some(cores / 2.0), 2.0), Some(0.75));
        assert_eq!(busy_share(None, Some(1.0), 1.0), None);
        assert_eq!(others_share(Some(cores), &[Some(cores / 2.0), None], 1.0), Some(0.5));
        assert_eq!(parse_machine_cpu("cpu  100 20 30 900 50 6 7 37 5 0\ncpu0 1\n"), Some(2.0));
        assert!(note_on_others([None, Some(0.05)].into_iter()).is_none());
        let others = note_on_others([Some(0.4), Some(0.05)].into_iter()).unwrap();
        assert!(others.contains("up to 40 %"), "{others}");
        assert_eq!(note_on_full(0, 4, "queries/s", "CPU us"), None);
        let note = note_on_full(2, 4, "queries/s", "server CPU us").unwrap();
        assert!(note.contains("At 2 of 4 points") && note.contains("by their server CPU us"), "{note}");
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tVmRSS: 1 kB\nVmPeak:\t  900 kB\nVmHWM:\t     300 kB\nVmRSS:\t     200 kB\n";
        assert_eq!(parse_resident(status), Some(Resident { bytes: 204_800, peak_bytes: 307_200 }));
        assert_eq!(parse_resident("VmRSS:\t200 pages\nVmHWM:\t300 kB\n"), None);
    }
}
