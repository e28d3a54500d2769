//! The server: the async shell around the engine. Sockets, sessions, replies and what they wait for.
//!
//! The engine is synchronous and knows no sockets; this crate knows no module and no data type. It receives a
//! started engine and the command tables of the modules, and drives them:
//!
//! - [`Server`]: starts and stops everything; `listener` binds the addresses; `context` is what all threads
//!   share;
//! - `worker`: the threads that drive connections, and the thread that steps in when one of them hangs in the
//!   disk;
//! - `connection`: the life of one connection; `session`: what it knows about itself; `clients`: the list of
//!   all;
//! - `dispatch`: decoded requests as runs under one lock; `commands`: commands about sessions and the server;
//! - `pubsub`: channels, their subscribers, and messages; `announcer`: what clients learn of changes;
//!   `tracking`: which clients cache which keys;
//! - `acl`: users and their rights;
//!   `monitors`: clients that see all commands; `pause`: commands that wait;
//! - `stats`, `latency`: counters;
//! - `output`: replies, and the gate that holds them until what they show is durable;
//! - `housekeeping`, `long_work`: what is done beside the connections; `turns`: of several writers of a large
//!   document, who has it read;
//! - [`snapshots`]: snapshots in the background, backups, and the tools for both;
//! - [`config`]: one table for flags, environment, file, CONFIG GET and SET.
//!
//! Invariants: no lock of the engine is held across an await; no byte that depends on a write leaves before
//! the write is durable; order within a connection is kept.

#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as engramdb_server;

mod acl;
mod announcer;
mod buffers;
mod client_line;
mod clients;
mod commands;
pub mod config;
mod connection;
mod context;
mod dispatch;
mod error;
mod housekeeping;
mod latency;
mod listener;
mod long_work;
#[cfg(test)]
mod mailbox_tests;
mod monitors;
mod output;
mod outside;
mod pause;
mod process;
mod pubsub;
mod scripts;
mod server;
mod session;
pub mod snapshots;
mod stats;
#[cfg(test)]
#[allow(dead_code, reason = "shared with the tests over TCP")]
#[path = "tests/it/support.rs"]
mod support;
mod tracking;
mod turns;
mod worker;

pub use commands::{FAMILIES as COMMANDS, table as command_table};
pub use config::Config;
pub use context::Stop;
pub use dispatch::{Call, Run, RunScript, ScriptCall, ScriptFunction, ScriptRules, script};
pub use error::ServerError;
pub use listener::Listeners;
pub use process::{disable_huge_pages, ignore_hangups};
pub use scripts::{RunningScript, ScriptKind, Scripts, Tick};
pub use server::{Hooks, Server};
pub use snapshots::{NoSnapshots, Snapshotter};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
