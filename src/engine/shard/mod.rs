//! A shard: one keyspace behind one read-write lock, in front of one log.
//!
//! - [`role`]: what an engine is to its log; [`follow`]: how it follows one, and becomes the leader;
//! - [`engine`]: the shard as the shell sees it: admission, locks, time, expiry, background work;
//! - [`run`]: a hold of the lock, and the commands that run under it;
//! - [`parked`]: clients that wait for keys, served by `serve` inside the batch that feeds these;
//! - [`recovering`]: a store that is filled by a snapshot and the log, until it is an engine.
//!
//! What the lock guards, and what a read or a write may do with it, is in [`crate::store`].

pub mod engine;
pub mod evict;
pub mod follow;
pub mod parked;
pub(crate) mod recovering;
pub mod role;
pub mod run;
mod serve;
