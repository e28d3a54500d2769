//! EngramDB's engine: the synchronous core. No tokio, no sockets, no RESP.

pub mod effect;
pub mod keyspace;
mod table;
pub mod types;
