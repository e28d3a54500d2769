//! Composition root: the only file that names every module.
//!
//! One `match` shows every mode of the program. Flags, the environment and the configuration file all go
//! through the server's table of parameters.

mod memory;
mod modules;
mod serve;

use clap::{Parser, Subcommand};
#[cfg(feature = "bench")]
use engramdb_bench::{BenchArgs, demo::DemoArgs};
use engramdb_console::{Output, OutputFailure};
use engramdb_engine::env::Env;
use engramdb_moving::{ExportArgs, ImportArgs, ProgramParts};
use engramdb_server::snapshots::{BackupArgs, LogCommand, RestoreArgs, SnapshotCommand, backup, tools};
use std::process::ExitCode;

#[cfg(feature = "bench")]
const FIRST_STEPS: &str = "\
First steps:
  engramdb demo                      see the main job on real data
  engramdb serve --dir ./data        start a server; connect with redis-cli or any Redis client
  engramdb backup --help             back up a server while it runs, and bring it back
  engramdb import --help             bring the data of a Redis or Valkey here
  engramdb bench vectors --help      measure recall against latency on any FT.* server";

#[cfg(not(feature = "bench"))]
const FIRST_STEPS: &str = "\
First steps:
  engramdb serve --dir ./data        start a server; connect with redis-cli or any Redis client
  engramdb backup --help             back up a server while it runs, and bring it back

This build leaves out `bench` and `demo`.";

/// A durable, Redis-compatible in-memory database with vector search.
#[derive(Parser)]
#[command(name = "engramdb", version, arg_required_else_help = true, after_help = FIRST_STEPS)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server
    Serve(serve::ServeArgs),
    /// Show the main job on real data: store, search, kill, recover, search again
    #[cfg(feature = "bench")]
    Demo(DemoArgs),
    /// Make a backup of a data directory, whether a server runs on it or not; `backup verify` checks one
    Backup(BackupArgs),
    /// Make a data directory of a backup
    Restore(RestoreArgs),
    /// Import an RDB file, or the data of a running Redis or Valkey
    Import(ImportArgs),
    /// Export all keys to an RDB file, or to commands for `redis-cli --pipe`
    Export(ExportArgs),
    /// Make, list and check snapshots of a data directory
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Check and print the log of a data directory
    #[command(subcommand)]
    Log(LogCommand),
    /// Measure a server: recall and latency of vector search, throughput of plain keys
    #[cfg(feature = "bench")]
    Bench(BenchArgs),
}

fn main() -> ExitCode {
    let (words, unknown_flags) = serve::take_unknown_flags(std::env::args_os());
    let program = match Program::try_parse_from(words) {
        Ok(program) => program,
        Err(refusal) => return tell(&refusal),
    };
    let result = match program.command {
        Command::Serve(arguments) => serve::run(arguments, &unknown_flags),
        #[cfg(feature = "bench")]
        Command::Demo(arguments) => engramdb_bench::demo::run(arguments).map_err(Into::into),
        Command::Backup(arguments) => backup(&arguments),
        Command::Restore(arguments) => restore(&arguments),
        Command::Import(arguments) => {
            moved(&|env, parts| engramdb_moving::import(env, &arguments, parts, &mut Output))
        }
        Command::Export(arguments) => {
            moved(&|env, parts| engramdb_moving::export(env, &arguments, parts, &mut Output))
        }
        Command::Snapshot(command) => snapshot(command),
        Command::Log(command) => tools::log(command, &mut Output),
        #[cfg(feature = "bench")]
        Command::Bench(arguments) => engramdb_bench::run(arguments).map_err(Into::into),
    };
    match result {
        Err(error) if !OutputFailure::is_in(&*error) => {
            engramdb_console::note(format_args!("engramdb: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(engramdb_console::end()),
    }
}

/// Help and version go to the standard output, refusals of the command line to the standard error, with
/// status 2.
fn tell(refusal: &clap::Error) -> ExitCode {
    let outcome = refusal.print();
    if refusal.use_stderr() {
        return ExitCode::from(2);
    }
    engramdb_console::printed(outcome);
    ExitCode::from(engramdb_console::end())
}

/// Derived files that a backup includes, although they can be rebuilt.
const DERIVED: &[&str] = &[modules::INDEX_DIRECTORY];

fn backup(arguments: &BackupArgs) -> tools::ToolResult {
    let env = Env::system();
    let known = (DERIVED, env!("CARGO_PKG_VERSION"));
    backup::backup(arguments, &|| modules::offline(&env), known, &mut Output)
}

fn restore(arguments: &RestoreArgs) -> tools::ToolResult {
    let env = Env::system();
    backup::restore(arguments, &|| modules::offline(&env), DERIVED, &mut Output)
}

/// Runs an import or an export.
fn moved(
    run: &dyn Fn(&Env, ProgramParts<'_>) -> Result<(), engramdb_moving::MoveError>,
) -> tools::ToolResult {
    let env = Env::system();
    let modules = || modules::offline(&env);
    let (commands, version) = (modules::COMMANDS, env!("CARGO_PKG_VERSION"));
    let parts = ProgramParts { modules: &modules, commands, derived: DERIVED, version };
    run(&env, parts).map_err(Into::into)
}

fn snapshot(command: SnapshotCommand) -> tools::ToolResult {
    let env = Env::system();
    tools::snapshot(command, &|| modules::offline(&env), &mut Output)
}
