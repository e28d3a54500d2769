//! `engramdb import` and `engramdb export`: data of Redis and Valkey in and out.
//!
//! An import has one way, wherever the data come from: they become an RDB file on this machine (`fetching`),
//! which is read whole once and checked (`survey`), and only then, key by key, becomes commands for an engine
//! in this process (`offline`) or for a running server (`remote`). So damage and types that are not known are
//! found before anything was written.
//!
//! | file | what is in it |
//! |---|---|
//! | `arguments` | flags and their help |
//! | `import` | the steps of an import, and its closing table |
//! | `export` | the same of an export: to RDB, or to commands |
//! | `fetching` | a running server's data into a file: PSYNC, or SCAN with DUMP |
//! | `connection`, `address` | a client that blocks; `redis://` addresses |
//! | `indexes` | a server's RediSearch indexes, from FT.INFO |
//! | `survey` | what is in a file, by type |
//! | `words` | the parts of a value as commands |
//! | `target` | who takes the commands; `offline` and `remote` are the two |
//! | `files` | files as streams, over the engine's disk |
//! | `progress`, `tally` | lines for people |

#![forbid(unsafe_code)]

mod address;
mod arguments;
mod connection;
mod error;
mod export;
mod fetching;
mod files;
mod import;
mod indexes;
mod offline;
mod progress;
mod remote;
mod survey;
mod tally;
mod target;
mod words;

pub use arguments::{ExportArgs, ExportFormat, ImportArgs};
pub use error::MoveError;
pub use export::export;
pub use import::import;
pub use offline::ProgramParts;
