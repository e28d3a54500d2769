//! An engine in this process, on a data directory that no server has open.

use super::error::MoveError;
use super::target::MoveTarget;
use engramdb_engine::command::{Args, Command, CommandError, CommandTable, Handler, Reply, Stage};
use engramdb_engine::commands::FAMILIES;
use engramdb_engine::data_dir::{LOG_DIRECTORY, SNAPSHOT_DIRECTORY};
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::DataTypes;
use engramdb_engine::log::local::{LocalLog, LocalOptions};
use engramdb_engine::log::pipeline::Refusal;
use engramdb_engine::recovery::{self, StartError, StartOptions};
use engramdb_engine::snapshot::create::MakeModules;
use engramdb_engine::{Engine, Retained};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What this program consists of: its modules without derived state, their commands, the folders of derived
/// state in a data directory, and its version.
#[derive(Clone, Copy)]
pub struct ProgramParts<'p> {
    pub modules: MakeModules<'p>,
    pub commands: &'p [&'static [Command]],
    pub derived: &'p [&'p str],
    pub version: &'p str,
}

impl ProgramParts<'_> {
    /// The data types of the modules and the engine.
    pub fn types(&self) -> DataTypes {
        DataTypes::new((self.modules)().iter().filter_map(|module| module.data_type()).collect())
    }
}

pub struct OfflineTarget {
    engine: Engine,
    table: CommandTable,
}

impl OfflineTarget {
    /// Opens the directory, also one that is marked as being imported.
    pub fn open(
        env: &Env,
        directory: &Path,
        parts: ProgramParts<'_>,
        databases: usize,
    ) -> Result<Self, MoveError> {
        let log = LocalLog::open(env.clone(), &directory.join(LOG_DIRECTORY), LocalOptions::default());
        let log = Arc::new(log.map_err(StartError::from)?);
        let options = StartOptions { databases, ..StartOptions::default() };
        let snapshots = directory.join(SNAPSHOT_DIRECTORY);
        let (engine, _) = recovery::open_log(env, &snapshots, log, parts.modules, options)?;
        let table = CommandTable::new(FAMILIES.iter().chain(parts.commands).copied());
        Ok(OfflineTarget { engine, table })
    }

    /// Ends the log.
    pub fn close(self) -> Result<(), MoveError> {
        Ok(self.engine.close()?)
    }

    fn run(&self, database: u32, words: &[&[u8]]) -> Result<Option<CommandError>, MoveError> {
        let args = Args::new(words);
        let mut reply = ErrorOnly::default();
        let command = match self.table.resolve(args) {
            Ok(known) if !matches!(known.command.handler, Handler::Session(_)) => known.command,
            Ok(_) => return Ok(Some(CommandError::of("ERR the command needs a running server"))),
            Err(error) => return Ok(Some(error)),
        };
        let mut retained = Retained::default();
        loop {
            let bytes = command.batch_bytes_max(words) + retained.room_bytes;
            let credit = match self.engine.admit(1, bytes) {
                Ok(credit) => credit,
                Err(Refusal::Busy) => {
                    self.engine.pipeline().wait(self.engine.last_lsn())?;
                    continue;
                }
                Err(refusal) => return Ok(Some(CommandError::no_room(&refusal.to_string()))),
            };
            let mut run = self.engine.writes(credit).retaining(std::mem::take(&mut retained));
            let ran = run.run(database, command, args, &mut reply);
            retained = run.retained();
            drop(run);
            match ran.stage {
                Stage::Prepare(work) => retained.prepared = Some(self.engine.prepare(database, *work)),
                Stage::NeedsRoom(bytes) => retained.room_bytes = bytes,
                Stage::Done | Stage::Park(_) => return Ok(reply.error),
                Stage::Run(job) | Stage::Offload(job) | Stage::Copy(job) => {
                    self.engine.complete(database, job, &mut reply);
                    return Ok(reply.error);
                }
                Stage::Wait(wait) => {
                    self.engine.complete(database, wait.block(), &mut reply);
                    return Ok(reply.error);
                }
            }
        }
    }
}

impl MoveTarget for OfflineTarget {
    fn put(&mut self, database: u64, about: &[u8], words: &[&[u8]]) -> Result<(), MoveError> {
        let failed = |text: String| Err(MoveError::Key { key: about.to_vec(), text });
        let Ok(database) = u32::try_from(database) else {
            return failed("its database cannot be".to_owned());
        };
        match self.run(database, words)? {
            None => Ok(()),
            Some(error) => failed(error.to_string()),
        }
    }

    fn tried(&mut self, words: &[&[u8]]) -> Result<Option<String>, MoveError> {
        Ok(self.run(0, words)?.map(|error| error.to_string()))
    }

    fn finish(&mut self) -> Result<(), MoveError> {
        Ok(self.engine.pipeline().wait(self.engine.last_lsn())?)
    }

    fn keys(&mut self) -> Result<BTreeMap<u64, u64>, MoveError> {
        let run = self.engine.inspect();
        let databases = run.view(0).whole_keyspace().databases().iter().enumerate();
        Ok(databases.map(|(number, keys)| (number as u64, keys.len() as u64)).collect())
    }
}

/// A reply of which only an error is of interest.
#[derive(Default)]
struct ErrorOnly {
    error: Option<CommandError>,
}

impl Reply for ErrorOnly {
    fn is_resp3(&self) -> bool {
        true
    }

    fn error(&mut self, error: &CommandError) {
        self.error = Some(error.clone());
    }

    fn simple(&mut self, _: &str) {}
    fn integer(&mut self, _: i64) {}
    fn bulk(&mut self, _: &[u8]) {}
    fn null(&mut self) {}
    fn null_array(&mut self) {}
    fn array(&mut self, _: usize) {}
    fn map(&mut self, _: usize) {}
    fn set(&mut self, _: usize) {}
    fn push(&mut self, _: usize) {}
    fn double(&mut self, _: f64) {}
    fn boolean(&mut self, _: bool) {}
    fn verbatim(&mut self, _: &str, _: &[u8]) {}

    fn mark(&self) -> usize {
        0
    }

    fn rewind(&mut self, _: usize) {}
}
