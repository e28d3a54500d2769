//! EngramDB's engine: the synchronous core. No tokio, no sockets, no RESP.
//!
//! The main idea: a command handler cannot change the store directly. It calls [`store::tx::Tx::apply`] with
//! an [`effect::Effect`]. This calls the same function as recovery, replicas and the offline snapshotter, and
//! records the effect for the [`log`]. Readers get a [`store::view::View`].
//!
//! Imports go one way: `shard -> command -> store -> keyspace -> types`, `commands -> command`,
//! `keyspace -> effect`; `log` does not import the keyspace.

pub mod backup;
pub mod command;
pub mod commands;
pub mod data_dir;
pub mod effect;
pub mod env;
mod error;
pub mod format_level;
pub mod gate;
pub mod hashing;
pub mod keyspace;
pub mod log;
pub mod module;
pub mod rdb;
pub mod recovery;
pub mod shard;
pub mod signal;
pub mod slot;
pub mod snapshot;
pub mod store;
pub mod table;
mod thin;
pub mod types;
mod version;

pub use error::ReplayError;
pub use shard::engine::Engine;
pub use store::prepared::{Foreseen, Foresight, MadeOfWords, Preparation, Prepared, Retained};
pub use store::watch::Watch;
pub use version::{REDIS_VERSION, REDIS_VERSION_NUMBER};
