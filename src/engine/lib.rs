//! EngramDB's engine: the synchronous core. No tokio, no sockets, no RESP.
//!
//! The one idea: a command handler cannot mutate the store. It calls [`shard::tx::Tx::apply`] with an [`effect::Effect`],
//! which runs the same function that recovery, replicas and the offline snapshotter run, and records the effect for
//! the [`log`]. Readers get a [`shard::view::View`].
//!
//! Imports go one way: `commands -> tx, view -> keyspace -> types`, `keyspace -> effect`, `log` knows no effects.

pub mod backup;
pub mod command;
pub mod commands;
pub mod data_dir;
pub mod effect;
pub mod env;
mod error;
pub mod gate;
pub mod hashing;
pub mod keyspace;
pub mod log;
pub mod module;
pub mod recovery;
pub mod shard;
pub mod signal;
pub mod slot;
pub mod snapshot;
pub mod table;
mod thin;
pub mod types;
mod version;

pub use error::ReplayError;
pub use shard::engine::Engine;
pub use shard::prepared::{Preparation, Prepared};
pub use shard::watch::Watch;
pub use version::{REDIS_VERSION, REDIS_VERSION_NUMBER};
