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

/// A process whose CPU time is charged to a run.
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
}

/// Fields 14 and 15 of /proc/PID/stat, counted after the command in parentheses, which may hold spaces.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let after_command = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
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
}
