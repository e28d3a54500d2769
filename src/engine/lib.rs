//! The synchronous core of EngramDB: no sockets, no async.

pub mod env;
pub mod log;
