//! A log on a faulty disk, and the promises it has made so far.

use engramdb_engine::log::local::{LocalLog, LocalOptions};
use engramdb_engine::log::pipeline::{Options, Pipeline};
use engramdb_engine::log::replay::{Checkpoint, Recovered, Replay};
use engramdb_engine::log::{Lsn, ShardLog};
use engramdb_sim::env::SimEnv;
use std::path::PathBuf;
use std::sync::Arc;

/// Small, so that a few batches fill a segment.
pub fn small_segments() -> LocalOptions {
    LocalOptions {
        segment_bytes: 64 << 10,
        entry_bytes_max: 8 << 10,
        entries_in_flight_max: 4,
        background: false,
    }
}

/// The log runs in the caller's thread, so that a run is a function of its seed.
pub fn without_threads() -> Options {
    Options { log_thread: false, ..Options::default() }
}

pub fn directory() -> PathBuf {
    PathBuf::from("/data/log")
}

/// All batches of a log from its beginning.
pub type Batches = Vec<Vec<u8>>;

/// Opens the log and reads it from a checkpoint; errors are text.
pub fn recover(sim: &SimEnv, from: Checkpoint) -> Result<(LocalLog, Batches, Recovered), String> {
    let log = LocalLog::open(sim.env.clone(), &directory(), small_segments());
    let log = log.map_err(|error| error.to_string())?;
    let mut replay = Replay::new(&log, from);
    let mut batches = Vec::new();
    let mut lsn = from.lsn;
    while let Some(batch) = replay.next().map_err(|error| error.to_string())? {
        lsn = lsn.next();
        if batch.lsn != lsn {
            return Err(format!("batch {} comes where {lsn} is expected", batch.lsn));
        }
        batches.push(batch.bytes.to_vec());
    }
    let recovered = replay.finish();
    Ok((log, batches, recovered))
}

/// Recovers and starts writing.
pub fn start(sim: &SimEnv) -> (Pipeline, Batches) {
    let (log, batches, recovered) = recover(sim, Checkpoint::default()).expect("a recoverable log");
    let log: Arc<dyn ShardLog> = Arc::new(log);
    (Pipeline::start(log, &recovered, without_threads()).expect("a claim"), batches)
}

/// Submits a batch as the next one.
pub fn submit(pipeline: &Pipeline, batch: &[u8]) -> Lsn {
    let mut credit = pipeline.admit(batch.len()).expect("room");
    let lsn = pipeline.last_lsn().next();
    pipeline.submit(&mut credit, lsn, 1_700_000_000_000 + lsn.0, batch);
    lsn
}
