//! FT.* on an engine over a log in memory, in this process.

mod aggregate;
mod altering;
mod backfill;
mod debug;
mod frozen;
mod geo;
mod harness;
mod holds;
mod language;
mod locks;
mod looks;
mod management;
mod moments;
mod options;
mod pipelines;
mod plans;
mod records;
mod saved;
mod search;
mod several;
mod strictness;
mod text;
mod timeouts;
mod vanishing;
mod vectors;
mod words;
