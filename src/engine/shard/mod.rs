//! A shard: one keyspace behind one read-write lock, in front of one log.
//!
//! - [`role`]: what an engine is to its log; [`follow`]: how it follows one, and becomes the leader;
//! - [`engine`]: the shard as the shell sees it: admission, locks, time, expiry, background work;
//! - [`run`]: a hold of the lock, and the commands that run under it; [`tx`] is what a write may do, [`view`]
//!   a read;
//! - [`store`]: what the lock guards, where effects are applied; [`hook`]: what hangs on each change,
//!   [`hazard`] and [`watch`];
//! - [`parked`]: clients that wait for keys, served by `serve` inside the batch that feeds these;
//! - [`prepared`]: copies that a write wants to be made outside of the lock;
//! - [`recovering`]: a store that is filled by a snapshot and the log, until it is an engine.

pub mod engine;
pub mod follow;
pub(crate) mod hazard;
pub(crate) mod hook;
pub mod parked;
pub(crate) mod prepared;
pub(crate) mod recovering;
pub mod role;
pub mod run;
mod serve;
pub(crate) mod store;
pub mod tx;
pub mod view;
pub(crate) mod watch;
