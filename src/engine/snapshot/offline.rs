//! Snapshots of a data directory, whether a server runs on it or not.
//!
//! While one runs, only sealed segments of the log are read: bytes that might not be synced would make a
//! snapshot that is ahead of its log after a power cut. The server trims the log itself, once it sees the new
//! manifest. On a stopped directory the open segment is sealed first, as a start would do it, and the log is
//! trimmed here.

use super::create::{
    CreateError, CreateOptions, CreateReport, LogSource, MakeModules, create, keep, lock, open_listed,
};
use super::manifest::Manifest;
use crate::data_dir::{DataDirError, LOG_DIRECTORY, SNAPSHOT_DIRECTORY, check_data_directory};
use crate::env::Env;
use crate::log::local::{LocalLog, LocalOptions, OpenError, SealedLog};
use crate::log::pipeline::{Options, Pipeline};
use crate::log::replay::{Checkpoint, Replay};
use crate::log::{EntryIter, LogEnd, Mark, Place, Pos, ReadError, ShardLog, Step, Stopper, Voided, Wait};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to treat the log.
#[derive(Clone, Debug)]
pub struct OfflineOptions {
    pub create: CreateOptions,
    /// Seal the open segment and trim the log if no server runs on the directory.
    pub seal: bool,
    pub log: LocalOptions,
}

impl Default for OfflineOptions {
    fn default() -> OfflineOptions {
        let log = LocalOptions { background: false, ..LocalOptions::default() };
        OfflineOptions { create: CreateOptions::default(), seal: true, log }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error(transparent)]
    Directory(#[from] DataDirError),
    #[error("{} is no data directory: it has no log", directory.display())]
    NoLog { directory: PathBuf },
    #[error(
        "a server runs on this directory: BGSAVE asks it for a snapshot; --sealed-only makes one without its last writes"
    )]
    Running,
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error("cannot open the log: {0}")]
    Open(#[from] OpenError),
    #[error("cannot seal the log: {cause}")]
    Seal { cause: String },
    #[error("the snapshot was made, but the log could not be trimmed: {cause}")]
    Trim { cause: String },
}

impl From<ReadError> for OfflineError {
    fn from(error: ReadError) -> OfflineError {
        OfflineError::Create(error.into())
    }
}

/// Makes the next snapshot of a data directory. Beside a running server it holds what is sealed.
pub fn create_offline(
    env: &Env,
    directory: &Path,
    modules: MakeModules<'_>,
    options: &OfflineOptions,
) -> Result<CreateReport, OfflineError> {
    create_next(env, directory, modules, options, false)
}

/// The same, but refuses beside a running server, whose last writes would be missing.
pub fn create_stopped(
    env: &Env,
    directory: &Path,
    modules: MakeModules<'_>,
    options: &OfflineOptions,
) -> Result<CreateReport, OfflineError> {
    create_next(env, directory, modules, options, true)
}

fn create_next(
    env: &Env,
    directory: &Path,
    modules: MakeModules<'_>,
    options: &OfflineOptions,
    needs_stopped: bool,
) -> Result<CreateReport, OfflineError> {
    check_data_directory(&*env.disk, directory)?;
    let (logs, snapshots) = (directory.join(LOG_DIRECTORY), directory.join(SNAPSHOT_DIRECTORY));
    if !matches!(env.disk.exists(&logs), Ok(true)) {
        return Err(OfflineError::NoLog { directory: directory.to_owned() });
    }
    // Held until the end, so that no server starts while the log is trimmed.
    let stopped = if options.seal { seal_stopped(env, &logs, &snapshots, options)? } else { None };
    if needs_stopped && stopped.is_none() {
        return Err(OfflineError::Running);
    }
    let sealed = SealedLog::open(env.clone(), &logs)?;
    // Without a sealed segment the log is new, or all of it is in snapshots.
    let Some(first) = sealed.segments().first().map(|segment| segment.header) else {
        return Ok(CreateReport::default());
    };
    let read = |after: Mark| -> Box<dyn EntryIter> {
        if after.pos == sealed.last_sealed() { Box::new(Nothing(after)) } else { sealed.read(after) }
    };
    let source =
        LogSource { log_id: first.log_id, parent: first.parent, parent_pos: first.parent_pos, read: &read };
    let report = match (create(env, &snapshots, &source, modules, &options.create), &stopped) {
        (Err(CreateError::NoRoom { .. }), Some(log)) if trim_below_newest(env, &snapshots, &**log)? => {
            // Once more, with what could be freed without room.
            let frugal = CreateOptions { retain: 1, ..options.create.clone() };
            create(env, &snapshots, &source, modules, &frugal)?
        }
        (made, _) => made?,
    };
    if let (Some(log), Some(upto)) = (stopped, report.trim_through) {
        log.trim(upto).map_err(|error| OfflineError::Trim { cause: error.cause })?;
    }
    Ok(report)
}

/// Removes all snapshots but the newest, if that is sound, and gives up what of the log it covers. For a full
/// disk: it makes room. False if there is no snapshot, or a damaged one.
///
/// In this order, so that no snapshot is listed that needs what the log does not have any more.
pub fn trim_below_newest(env: &Env, snapshots: &Path, log: &dyn ShardLog) -> Result<bool, OfflineError> {
    let load = || Manifest::load(&*env.disk, snapshots).map_err(CreateError::from);
    if load()?.newest().is_none() {
        return Ok(false);
    }
    let _lock = lock(env, snapshots)?;
    let mut manifest = load()?;
    let newest = manifest.newest().filter(|_| manifest.log_id == log.id());
    let Some(newest) = newest.cloned() else { return Ok(false) };
    let snapshot = open_listed(env, snapshots, &newest, log.id());
    if snapshot.and_then(|snapshot| snapshot.check()).is_err() {
        // The next process that loads it says what is wrong with it.
        return Ok(false);
    }
    keep(env, snapshots, &mut manifest, 1)?;
    log.trim(Pos(newest.pos)).map_err(|error| OfflineError::Trim { cause: error.cause })?;
    Ok(true)
}

/// Seals the open segment if no server has the log and there is something in it. Returns the log, locked.
fn seal_stopped(
    env: &Env,
    logs: &Path,
    snapshots: &Path,
    options: &OfflineOptions,
) -> Result<Option<Arc<dyn ShardLog>>, OfflineError> {
    let log: Arc<dyn ShardLog> = match LocalLog::open(env.clone(), logs, options.log.clone()) {
        Ok(log) => Arc::new(log),
        Err(OpenError::Locked { .. }) => return Ok(None),
        Err(other) => return Err(other.into()),
    };
    let manifest = Manifest::load(&*env.disk, snapshots).map_err(CreateError::from)?;
    let newest = manifest.newest().filter(|_| manifest.log_id == log.id());
    let from = newest.map_or(Checkpoint::default(), |entry| entry.checkpoint());
    let mut replay = Replay::new(&*log, from);
    while replay.next()?.is_some() {}
    let recovered = replay.finish();
    if recovered.checkpoint.lsn != from.lsn {
        let failed = |cause: String| OfflineError::Seal { cause };
        // A spare of the usual size would take room that the snapshot may need.
        log.lend_room(true);
        let writer = Options { node: "snapshot".to_owned(), log_thread: false, ..Options::default() };
        let pipeline = Pipeline::start(log.clone(), &recovered, writer);
        let pipeline = pipeline.map_err(|error| failed(error.to_string()))?;
        pipeline.close().map_err(|error| failed(error.to_string()))?;
    } else {
        // Removes nothing, but makes durable what was read of the log's end: the header that says what is
        // sealed may be in the page cache only, which may drop it at any time.
        log.trim(Pos(0)).map_err(|error| OfflineError::Seal { cause: error.cause })?;
    }
    Ok(Some(log))
}

/// The entries after the last sealed one: none.
struct Nothing(Mark);

impl EntryIter for Nothing {
    fn next(&mut self, _wait: Wait) -> Result<Step, ReadError> {
        Ok(Step::End(LogEnd { mark: self.0 }))
    }

    fn mark(&self) -> Mark {
        self.0
    }

    fn place(&self) -> Place {
        Place::in_file(Path::new(""), 0)
    }

    fn voided(&self) -> Voided {
        Voided::default()
    }

    fn stopper(&self) -> Stopper {
        Stopper::unneeded()
    }
}
