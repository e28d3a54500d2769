//! What BGSAVE, SAVE and LASTSAVE need: a trait, implemented by the program that starts the server.

use std::time::Duration;

/// Makes snapshots of the data directory, in the background.
pub trait Snapshotter: Send + Sync {
    /// Starts one; an error says why not, in words for the client.
    fn start(&self) -> Result<(), String>;

    /// Whether one is being made.
    fn in_progress(&self) -> bool;

    /// When this process published its last one, in milliseconds since the Unix epoch; 0 before its first.
    fn last_save_ms(&self) -> u64;

    /// How the last one ended.
    fn last_result(&self) -> Result<(), String> {
        Ok(())
    }

    /// In how long one is tried again, after failures; `None` after a success, and where none is made
    /// unasked.
    fn retry_in(&self) -> Option<Duration> {
        None
    }

    /// How much memory the next one will take, about; 0 where none is made. As
    /// of the start, the last snapshot, or the last time that one was due.
    fn memory_needed_bytes(&self) -> u64 {
        0
    }

    /// Whether it is time for one that waits until there is memory for it.
    fn waits_for_memory(&self) -> bool {
        false
    }
}

/// For a server without a data directory.
pub struct NoSnapshots;

impl Snapshotter for NoSnapshots {
    fn start(&self) -> Result<(), String> {
        Err("this server has no data directory to keep snapshots in".to_owned())
    }

    fn in_progress(&self) -> bool {
        false
    }

    fn last_save_ms(&self) -> u64 {
        0
    }
}
