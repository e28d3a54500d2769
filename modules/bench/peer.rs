//! Servers that a run measures beside its own, and has not started.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Connection, ServerTarget};
use crate::error::BenchError;
use crate::machine::Process;
use crate::own_load::SETTLE;

/// Resident memory counts as settled when it changes by less than this share in [`SETTLE`].
const SETTLED_SHARE: f64 = 0.001;
/// After this time it is used as it is.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// A running server that the run has not started.
pub(crate) struct Peer {
    /// Name, version and address.
    pub(crate) name: String,
    pub(crate) target: ServerTarget,
    pub(crate) process: Process,
    pub(crate) connection: Connection,
}

impl Peer {
    pub(crate) fn find(address: &str) -> Result<Peer, BenchError> {
        let target = target(address)?;
        let mut connection = Connection::open(&target)?;
        let process = connection.local_process().ok_or_else(|| {
            BenchError::Usage(format!(
                "--peer {address}: it must run on this machine, and INFO must say its process_id, for its resident \
                 memory is read from /proc"
            ))
        })?;
        let keys = connection.command(&["DBSIZE"])?.as_int().unwrap_or_default();
        if keys != 0 {
            return Err(BenchError::Usage(format!(
                "--peer {address} holds {keys} keys: start an empty one, for what it holds would be counted"
            )));
        }
        let version = connection.server_version().unwrap_or_else(|| "unknown".to_owned());
        Ok(Peer { name: format!("{version} at {address}"), target, process, connection })
    }
}

fn target(address: &str) -> Result<ServerTarget, BenchError> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty()) else {
        return Err(BenchError::Usage(format!("--peer {address}: not of the form HOST:PORT")));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(ServerTarget { host, port, user: None, password: None, resp: 2 })
}

/// The resident memory of a process after it has stopped changing: servers free memory, and rebuild tables,
/// for some time after a load.
pub(crate) fn settled(process: Process) -> Result<u64, BenchError> {
    let began = Instant::now();
    let mut before = process.resident()?.bytes;
    loop {
        thread::sleep(SETTLE);
        let now = process.resident()?.bytes;
        if now.abs_diff(before) as f64 <= now as f64 * SETTLED_SHARE || began.elapsed() > SETTLE_MAX {
            return Ok(now);
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_host_and_port() {
        let found = target("[::1]:7000").expect("an address");
        assert_eq!((found.host.as_str(), found.port), ("::1", 7000));
        for wrong in ["localhost", ":7000", "host:", "host:port", "host:70000"] {
            let refusal = target(wrong).expect_err("not an address").to_string();
            assert!(refusal.contains("not of the form HOST:PORT"), "{refusal}");
        }
    }
}
