//! `engramdb bench`: how well and how fast a server searches vectors, and how fast it answers plain keys.
//!
//! Three commands share this crate:
//! - `bench vectors` loads a data set into any Redis-compatible server with FT.* commands and reports recall, queries
//!   per second and latency percentiles over a sweep of ef and connections, beside in-process reference engines;
//! - `bench keys` drives GET, SET, HSET, HMGET and mixes of them over many connections;
//! - `engramdb demo` shows the main job on real data;
//! - `bench dataset` describes, checks and writes data sets.
//!
//! The crate speaks to servers only through their protocol, so that the same run judges EngramDB and its rivals. It
//! knows neither the engine nor the server crate; it imports the protocol and the vector crate only.

// This is a tool, not the engine: it reads the real clock and real files, which is what it is for.
#![allow(clippy::disallowed_methods)]

mod client;
pub mod data;
pub mod demo;
mod error;
mod inspect;
mod keys;
mod latency;
mod machine;
mod output;
mod progress;
mod random;
mod vectors;

use clap::{Args, Subcommand};

pub use error::BenchError;
pub use inspect::DatasetCommandArgs;
pub use keys::KeysArgs;
pub use vectors::VectorsArgs;

/// The arguments of `engramdb bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand, Debug)]
enum BenchCommand {
    /// Recall, throughput and latency of vector search
    Vectors(Box<VectorsArgs>),
    /// Throughput and latency of GET, SET, HSET, HMGET and mixes of them
    Keys(Box<KeysArgs>),
    /// What a data set is and how hard it is; writes generated ones
    Dataset(Box<DatasetCommandArgs>),
}

/// Runs one benchmark to its end and prints its report.
pub fn run(arguments: BenchArgs) -> Result<(), BenchError> {
    match arguments.command {
        BenchCommand::Vectors(arguments) => vectors::run(*arguments),
        BenchCommand::Keys(arguments) => keys::run(*arguments),
        BenchCommand::Dataset(arguments) => inspect::run(*arguments),
    }
}
