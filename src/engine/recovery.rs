//! Recovery: makes a running engine from a snapshot's effects and the log's tail.
//!
//! [`open_log`] takes the newest valid snapshot and replays the part of the log after it. A damaged snapshot
//! is skipped if the log reaches back to an older one, or to its own beginning. Otherwise recovery refuses to
//! start, and says which file is damaged and what can be done. Nothing on the disk is changed before the log
//! is claimed.

use crate::data_dir::{DataDirError, LOG_DIRECTORY, SNAPSHOT_DIRECTORY, check_data_directory};
use crate::env::Env;
use crate::log::local::{LocalLog, LocalOptions, OpenError};
use crate::log::pipeline::{Options, Pipeline};
use crate::log::replay::{Checkpoint, Recovered};
use crate::log::{ClaimError, LogId, Pos, ShardLog, Voided};
use crate::shard::engine::Engine;
use crate::snapshot::SnapshotError;
use crate::snapshot::create::{MakeModules, open_listed};
use crate::snapshot::manifest::{Manifest, ManifestEntry, ManifestError};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use crate::shard::recovering::{Recovering, RecoveryError};

#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The number of numbered databases.
    pub databases: usize,
    /// Threads that read a snapshot.
    pub threads: usize,
    pub pipeline: Options,
}

impl Default for StartOptions {
    fn default() -> StartOptions {
        StartOptions { databases: 16, threads: 1, pipeline: Options::default() }
    }
}

/// A report about a start, to be shown.
#[derive(Clone, Debug, Default)]
pub struct StartReport {
    /// The loaded snapshot.
    pub snapshot: Option<ManifestEntry>,
    /// Batches replayed from the log.
    pub batches: u64,
    /// Keys in all databases, expired ones included.
    pub keys: usize,
    /// The void part of the log's end.
    pub voided: Voided,
    /// True if the last writer stopped cleanly.
    pub clean: bool,
    pub loading: Duration,
    pub replaying: Duration,
    /// The time for loading and rebuilding the modules' derived state.
    pub starting: Duration,
    /// The modules' reports.
    pub modules: Vec<String>,
    /// Notes for the operator, for example about a damaged snapshot that was skipped.
    pub notes: Vec<String>,
}

impl fmt::Display for StartReport {
    /// A few lines for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.loading + self.replaying + self.starting;
        write!(f, "recovered {} keys in {:.3} s", self.keys, took.as_secs_f64())?;
        match &self.snapshot {
            Some(snapshot) => write!(f, " from snapshot {} ({} keys)", snapshot.file, snapshot.keys)?,
            None => write!(f, " without a snapshot")?,
        }
        write!(f, " and {} batches of the log", self.batches)?;
        if !self.clean && self.batches > 0 {
            write!(f, "; the last stop was not clean")?;
        }
        if !self.voided.is_empty() {
            let Voided { entries, batches, torn_tail } = &self.voided;
            write!(f, "\nvoid at the log's end, never acknowledged: {entries} entries, {batches} batches")?;
            if let Some(place) = torn_tail {
                write!(f, ", from {place}")?;
            }
        }
        self.notes.iter().chain(&self.modules).try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// The reason why a store does not start. Each text says what can be done.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Directory(#[from] DataDirError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Snapshot(SnapshotError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("cannot claim the log: {0}")]
    Claim(#[from] ClaimError),
    #[error(
        "the snapshots in {} are of log {snapshots}, but the log is {log}. The directories of two stores were mixed, \
         or the log was removed: put back the log that belongs to the snapshots; or bring back what they hold with \
         `engramdb restore --from {} --to DIRECTORY`; or move them away to start without them",
        directory.display(), directory.display()
    )]
    ForeignLog { directory: PathBuf, snapshots: LogId, log: LogId },
    #[error(
        "no snapshot in {} can be used, and the log begins only at position {first}{}. Restore a damaged file from a \
         copy; `engramdb snapshot verify` checks each",
        directory.display(),
        problems.iter().map(|problem| format!("; {problem}")).collect::<String>()
    )]
    NoSnapshot { directory: PathBuf, first: Pos, problems: Vec<String> },
}

/// Opens a data directory, recovers from its snapshots and its log, and starts. Fails if another process has
/// the directory open.
pub fn open_directory(
    env: &Env,
    directory: &Path,
    modules: MakeModules<'_>,
    log: LocalOptions,
    options: StartOptions,
) -> Result<(Engine, StartReport), StartError> {
    check_data_directory(&*env.disk, directory)?;
    let log = LocalLog::open(env.clone(), &directory.join(LOG_DIRECTORY), log)?;
    open_log(env, &directory.join(SNAPSHOT_DIRECTORY), Arc::new(log), modules, options)
}

/// Recovers from the snapshots in `directory` and from the log, claims the log and starts.
pub fn open_log(
    env: &Env,
    directory: &Path,
    log: Arc<dyn ShardLog>,
    modules: MakeModules<'_>,
    options: StartOptions,
) -> Result<(Engine, StartReport), StartError> {
    let (recovering, recovered, mut report) = recover(env, directory, &*log, modules, &options)?;
    let began = env.clock.monotonic();
    let (engine, modules) = recovering.start(log, &recovered, options.pipeline)?;
    if let Some(shortage) = engine.writer().and_then(Pipeline::shortage) {
        report.notes.push(format!(
            "read-only: the disk has no room to open the log for writing; {}. Writes begin by themselves when there is room",
            shortage.cause
        ));
    }
    report.modules = modules;
    report.starting = env.clock.monotonic() - began;
    Ok((engine, report))
}

/// The first part of [`open_log`], which only reads.
pub fn recover(
    env: &Env,
    directory: &Path,
    log: &dyn ShardLog,
    modules: MakeModules<'_>,
    options: &StartOptions,
) -> Result<(Recovering, Recovered, StartReport), StartError> {
    let began = env.clock.monotonic();
    let mut report = StartReport::default();
    let (mut recovering, from) = restore(env, directory, log, modules, options, &mut report)?;
    let loaded = env.clock.monotonic();
    let recovered = recovering.replay(log, from, |_| ())?;
    report.loading = loaded - began;
    report.replaying = env.clock.monotonic() - loaded;
    report.batches = recovering.batches();
    report.keys = recovering.keyspace().databases().iter().map(|database| database.len()).sum();
    report.voided = recovered.voided.clone();
    report.clean = recovered.clean;
    Ok((recovering, recovered, report))
}

/// Loads the newest valid snapshot to which the log reaches back.
fn restore(
    env: &Env,
    directory: &Path,
    log: &dyn ShardLog,
    modules: MakeModules<'_>,
    options: &StartOptions,
    report: &mut StartReport,
) -> Result<(Recovering, Checkpoint), StartError> {
    let manifest = Manifest::load(&*env.disk, directory)?;
    if !manifest.snapshots.is_empty() && manifest.log_id != log.id() {
        let (snapshots, log) = (manifest.log_id, log.id());
        return Err(StartError::ForeignLog { directory: directory.to_owned(), snapshots, log });
    }
    let (first, _) = log.bounds().map_err(RecoveryError::from)?;
    for entry in &manifest.snapshots {
        if first > Pos(entry.pos).next() {
            report.notes.push(format!("the log does not reach back to snapshot {}", entry.file));
            continue;
        }
        let mut recovering = Recovering::new(env.clone(), options.databases, modules());
        let opened = open_listed(env, directory, entry, log.id());
        match opened.and_then(|snapshot| snapshot.load(&mut recovering, options.threads)) {
            Ok(()) => {
                report.snapshot = Some(entry.clone());
                return Ok((recovering, entry.checkpoint()));
            }
            Err(error) if error.is_damage() => report.notes.push(error.to_string()),
            Err(error) => return Err(StartError::Snapshot(error)),
        }
    }
    if first > Pos(1) {
        let (directory, problems) = (directory.to_owned(), std::mem::take(&mut report.notes));
        return Err(StartError::NoSnapshot { directory, first, problems });
    }
    Ok((Recovering::new(env.clone(), options.databases, modules()), Checkpoint::default()))
}
