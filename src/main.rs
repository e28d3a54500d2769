//! Composition root: the only file that names every module.
//!
//! One `match` shows every mode of the program. Flags, the environment and the configuration file all go through the
//! server's table of parameters.

mod memory;
mod modules;
mod serve;

use clap::{Parser, Subcommand};
use engramdb_bench::BenchArgs;
use engramdb_bench::demo::DemoArgs;
use engramdb_engine::env::Env;
use engramdb_server::snapshots::{LogCommand, SnapshotCommand, tools};
use std::process::ExitCode;

/// A durable, Redis-compatible in-memory database with vector search.
#[derive(Parser)]
#[command(name = "engramdb", version, arg_required_else_help = true)]
#[command(after_help = "\
First steps:
  engramdb demo                      see the main job on real data
  engramdb serve --dir ./data        start a server; connect with redis-cli or any Redis client
  engramdb bench vectors --help      measure recall against latency on any FT.* server")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server
    Serve(serve::ServeArgs),
    /// Show the main job on real data: store, search, kill, recover, search again
    Demo(DemoArgs),
    /// Make, list and check snapshots of a data directory
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Check and print the log of a data directory
    #[command(subcommand)]
    Log(LogCommand),
    /// Measure a server: recall and latency of vector search, throughput of plain keys
    Bench(BenchArgs),
}

fn main() -> ExitCode {
    let result = match Program::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => engramdb_bench::demo::run(arguments).map_err(Into::into),
        Command::Snapshot(command) => snapshot(command),
        Command::Log(command) => tools::log(command, &mut std::io::stdout().lock()),
        Command::Bench(arguments) => engramdb_bench::run(arguments).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engramdb: {error}");
            ExitCode::FAILURE
        }
    }
}

fn snapshot(command: SnapshotCommand) -> tools::ToolResult {
    let env = Env::system();
    tools::snapshot(command, &|| modules::offline(&env), &mut std::io::stdout().lock())
}
