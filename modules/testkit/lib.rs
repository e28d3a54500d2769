//! Test helpers for all crates: temporary directories, the program as a process and clients for it, an engine
//! without sockets, and real servers to compare with.
//!
//! The engine's own unit tests cannot use this crate, because it depends on the engine.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "for tests only, in real time and on the machine's own disk")]

pub mod blocking;
pub mod built;
pub mod counter;
pub mod dump;
pub mod effects;
pub mod instance;
pub mod loop_disk;
pub mod machine;
pub mod oracle;
pub mod packages;
pub mod process;
pub mod raw;
pub mod records;
pub mod run;
pub mod seats;
pub mod store;
pub mod tcp;
mod temp;
pub mod text;
pub mod users;
pub mod wire;
pub mod words;

pub use temp::{KEEP_VARIABLE, TempDir};
