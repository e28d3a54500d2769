//! EngramDB's engine: the synchronous core. No tokio, no sockets, no RESP.
//!
//! The one idea: a command handler cannot mutate the store. It calls [`tx::Tx::apply`] with an [`effect::Effect`],
//! which runs the same function that recovery, replicas and the offline snapshotter run, and records the effect for
//! the [`log`]. Readers get a [`view::View`].
//!
//! Imports go one way: `commands -> tx, view -> keyspace -> types`, `keyspace -> effect`, `log` knows no effects.

pub mod backup;
pub mod command;
pub mod commands;
pub mod effect;
pub mod engine;
pub mod env;
mod error;
mod hazard;
pub mod keyspace;
pub mod log;
pub mod module;
mod prepared;
mod recovering;
pub mod recovery;
pub mod slot;
pub mod snapshot;
mod store;
mod table;
mod thin;
pub mod tx;
pub mod types;
mod version;
pub mod view;
mod watch;

pub use engine::Engine;
pub use error::ReplayError;
pub use prepared::{Preparation, Prepared};
pub use version::{REDIS_VERSION, REDIS_VERSION_NUMBER};
pub use watch::Watch;
