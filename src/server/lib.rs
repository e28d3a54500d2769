//! The server: the async shell around the engine. Sockets, sessions, replies and what they wait for.
//!
//! The engine is synchronous and knows no sockets; this crate knows no module and no data type. It receives a started
//! engine and the command tables of the modules, and drives them:
//!
//! - [`Server`]: worker threads, the listener, background work, shutdown;
//! - `connection`: the life of one connection; `execute`: decoded requests as runs under one lock;
//! - `worker`, `standby`: the threads that drive connections, and who steps in when one of them hangs in the disk;
//! - `outbox`, `gate`: replies, and that they wait until what they show is durable;
//! - `long`: the threads for what takes long;
//! - `session`, `clients`, `commands`: what a connection knows, and the commands about it;
//! - [`config`]: one table for flags, environment, file, CONFIG GET and SET.
//!
//! Invariants: no lock of the engine is held across an await; no byte that depends on a write leaves before the write
//! is durable; order within a connection is kept.

mod background;
mod client_limits;
mod clients;
mod commands;
pub mod config;
mod connection;
mod execute;
mod gate;
mod listener;
mod long;
mod outbox;
mod owned;
mod pool;
mod process;
mod reply;
mod server;
mod session;
mod shared;
pub mod snapshots;
mod snapshotter;
mod standby;
mod stats;
mod worker;

pub use commands::FAMILIES as COMMANDS;
pub use config::Config;
pub use listener::Listeners;
pub use process::{disable_huge_pages, ignore_hangups};
pub use server::{Hooks, Server, ServerError};
pub use shared::Stop;
pub use snapshotter::{NoSnapshots, Snapshotter};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
