//! `engramdb bench`: how well and how fast a server searches vectors, and how fast it answers plain keys.
//!
//! Three commands share this crate:
//! - `bench vectors` loads a data set into any Redis-compatible server with FT.* commands and reports recall, queries
//!   per second and latency percentiles over a sweep of ef and connections, beside in-process reference engines;
//! - `bench keys` drives GET, SET, HSET, HMGET and mixes of them over many connections;
//! - `bench dataset` describes, checks and writes data sets.
//!
//! The crate speaks to servers only through their protocol, so that the same run judges EngramDB and its rivals. It
//! knows neither the engine nor the server crate; it imports the protocol and the vector crate only.

pub mod data;
