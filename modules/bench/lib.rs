//! `engramdb bench`: measures vector search (recall, throughput, latency) and plain keys of a server.
//!
//! The commands in this crate:
//! - `bench vectors` loads a data set into any Redis-compatible server with FT.* commands and reports recall,
//!   queries per second and latency percentiles over a sweep of ef and connections, beside in-process
//!   reference engines;
//! - `bench keys` sends GET, SET, HSET, HMGET and mixes of them over many connections;
//! - `bench memory`, `bench restart`, `bench churn`, `bench ingest` and `bench beside` measure a server that
//!   they start, which is this program as another process (and `bench churn --engine library` the index
//!   alone);
//! - `bench queries` sends searches, aggregations and JSON commands over short documents, to a server of its
//!   own and to others;
//! - `bench zoo` checks the index in this process on many kinds of data;
//! - `engramdb demo` shows the main job on real data;
//! - `bench dataset` describes, checks and writes data sets.
//!
//! The crate accesses servers only through their protocol, so that EngramDB and other servers are measured in
//! the same way. It depends on neither the engine nor the server crate; it imports only the protocol, the
//! vector crate and the data generators.

#![forbid(unsafe_code)]
// This is a tool, not the engine: it reads the real clock and real files.
#![allow(clippy::disallowed_methods)]

#[macro_use] // First: its macros print, everywhere below.
mod output;

mod beside;
mod churn;
mod client;
pub mod data;
pub mod demo;
mod error;
mod ingest;
mod inspect;
mod interrupt;
mod keys;
mod latency;
mod machine;
mod memory;
mod own_load;
mod peer;
mod plot;
mod progress;
mod queries;
mod restart;
mod server_process;
mod vectors;
mod zoo;

use clap::{Args, Subcommand};

pub use beside::BesideArgs;
pub use churn::ChurnArgs;
pub use error::BenchError;
pub use ingest::IngestArgs;
pub use inspect::DatasetCommandArgs;
pub use keys::KeysArgs;
pub use memory::MemoryArgs;
pub use queries::QueriesArgs;
pub use restart::RestartArgs;
pub use vectors::VectorsArgs;
pub use zoo::ZooArgs;

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
    /// Resident memory per document, and the server's own figures
    Memory(Box<MemoryArgs>),
    /// Time and peak memory of a start with a saved graph, beside building it and beside reading its files
    Restart(Box<RestartArgs>),
    /// Recall, memory and CPU time after every document was replaced several times, beside a fresh build
    Churn(Box<ChurnArgs>),
    /// Latency of searches during full-speed ingestion, beside that without load
    Ingest(Box<IngestArgs>),
    /// Latency of GET while other connections send heavy commands: searches, sorts, scans, large replies
    Beside(Box<BesideArgs>),
    /// Searches, aggregations and JSON over short documents, beside other servers
    Queries(Box<QueriesArgs>),
    /// What the index finds on many kinds of data: copies, moving means, tight clusters and others
    Zoo(Box<ZooArgs>),
    /// Describes a data set and how hard it is; writes generated ones
    Dataset(Box<DatasetCommandArgs>),
}

/// Runs one benchmark to its end and prints its report.
pub fn run(arguments: BenchArgs) -> Result<(), BenchError> {
    interrupt::listen()?;
    interrupt::unless_interrupted(dispatch(arguments))
}

fn dispatch(arguments: BenchArgs) -> Result<(), BenchError> {
    match arguments.command {
        BenchCommand::Vectors(arguments) => vectors::run(*arguments),
        BenchCommand::Keys(arguments) => keys::run(*arguments),
        BenchCommand::Memory(arguments) => memory::run(*arguments),
        BenchCommand::Restart(arguments) => restart::run(*arguments),
        BenchCommand::Churn(arguments) => churn::run(*arguments),
        BenchCommand::Ingest(arguments) => ingest::run(*arguments),
        BenchCommand::Beside(arguments) => beside::run(*arguments),
        BenchCommand::Queries(arguments) => queries::run(*arguments),
        BenchCommand::Zoo(arguments) => zoo::run(*arguments),
        BenchCommand::Dataset(arguments) => inspect::run(*arguments),
    }
}

/// Parses these words as a command line, for tests.
#[cfg(test)]
fn parse_arguments<A: Args>(words: &[&str]) -> A {
    #[derive(clap::Parser)]
    struct Line<A: Args> {
        #[command(flatten)]
        arguments: A,
    }
    <Line<A> as clap::Parser>::parse_from([&["test"], words].concat()).arguments
}
