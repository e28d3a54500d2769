//! FT.* on an engine over a log in memory, in this process.

mod backfill;
mod debug;
mod harness;
mod language;
mod locks;
mod looks;
mod options;
mod plans;
mod records;
mod saved;
mod search;
mod strictness;
mod timeouts;
mod vanishing;
mod vectors;
