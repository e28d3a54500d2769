//! From a log to a started engine: recovery, and what it has to tell.

use crate::config::Config;
use engramdb_engine::Engine;
use engramdb_engine::env::Env;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::replay::Checkpoint;
use engramdb_engine::log::{AppendError, ShardLog};
use engramdb_engine::module::Module;
use engramdb_engine::recovery::{Recovering, RecoveryError};
use std::sync::Arc;

/// An engine that has caught up with its log.
pub struct Started {
    pub engine: Arc<Engine>,
    /// Lines for the operator: what was recovered, how long it took, what modules report.
    pub report: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("cannot become the log's writer: {0}")]
    Claim(#[from] AppendError),
}

/// Replays the whole log and becomes its writer. With a snapshot, fill a `Recovering` from it first and go on with
/// [`start`].
pub fn recover(
    config: &Config,
    env: Env,
    log: Arc<dyn ShardLog>,
    modules: Vec<Box<dyn Module>>,
) -> Result<Started, StartError> {
    start(config, Recovering::new(env.clone(), config.databases, modules), env, log, Checkpoint::default())
}

/// Replays the log behind `from`, which `recovering` holds already, and becomes its writer.
pub fn start(
    config: &Config,
    mut recovering: Recovering,
    env: Env,
    log: Arc<dyn ShardLog>,
    from: Checkpoint,
) -> Result<Started, StartError> {
    let began = env.clock.monotonic();
    let recovered = recovering.replay(&*log, from, |_| ())?;
    let batches = recovering.batches();
    let keys: usize = recovering.keyspace().databases().iter().map(|database| database.len()).sum();
    let options = Options { buffer_bytes_max: config.log_buffer_bytes, ..Options::default() };
    let (engine, of_modules) = recovering.start(log, &recovered, options)?;
    let took = env.clock.monotonic() - began;
    let mut report = vec![format!("recovered {batches} batches, {keys} keys in {} ms", took.as_millis())];
    if !recovered.voided.is_empty() {
        let voided = &recovered.voided;
        let place = voided.torn_tail.as_ref().map_or(String::new(), |at| format!(", from {at} on"));
        report.push(format!(
            "skipped {} entries and {} batches that nobody was promised{place}",
            voided.entries, voided.batches
        ));
    }
    report.extend(of_modules);
    Ok(Started { engine: Arc::new(engine), report })
}
