//! JSON.*: documents as values of the keyspace, as a module of the engine.
//!
//! A document is ground state, like a string or a hash: its commands are effects on its key. The module
//! itself has no state. Indexes read documents through `DocumentSource`.
//!
//! # Code map
//!
//! | folder or file | what is in it | start reading at |
//! |---|---|---|
//! | `commands/` | one row for each command, and the handlers | `COMMANDS` |
//! | `commands/matches.rs` | what a path of a command that writes leads to | `matches` |
//! | `commands/parsed.rs` | texts that are parsed without the lock | `parse_apart` |
//! | `commands/foreseen.rs` | changes that are made, or read by indexes, without the lock | `change` |
//! | `path/` | JSONPath: its parser, filters, and walks over a document | `JsonPath` |
//! | `text/` | JSON text, read into the packed form and written from it | `parse`, `write` |
//! | `packed.rs` | the packed form of values: in memory, in effects, in snapshots | the table at its top |
//! | `value/mod.rs` | a value as it is read | `JsonNode` |
//! | `value/flat.rs` | changes inside a buffer of packed values | `change` |
//! | `value/tree.rs` | documents that are too large for one buffer | `Container` |
//! | `location.rs` | where in a document something is | `LocationStep` |
//! | `effect.rs` | the effects, and how they are applied | `apply` |
//! | `document.rs` | a document as a value of the keyspace, and as an index reads it | `JsonDocument` |
//! | `module.rs` | what the engine calls | `JsonModule` |
//! | `limits.rs` | bounds of commands, and from where on they work without the lock | |
//! | `error.rs` | every error text | |
//!
//! # Life of a change
//!
//! The handler parses the value's text straight into the payload of the effect, in the packed form. It walks
//! the path and adds the concrete locations that it leads to. A large text is parsed, and a change of many
//! places is made, without the lock (`commands/parsed.rs`, `commands/foreseen.rs`); the command then runs
//! again with the result. `Tx::apply` logs the payload and calls
//! `JsonDocument::apply`, which copies the value's bytes to each location. A replay does the same, without a
//! text or a path.
//!
//! A text of more than 128 KiB is parsed without the keyspace's lock, after which the command runs again. A
//! change of many places, or of a large value, or one that an index reads much for, is first made in a clone
//! of the document, without the lock too; the clone then takes the document's place.

#![forbid(unsafe_code)]

mod commands;
mod document;
mod effect;
mod error;
mod limits;
mod location;
mod module;
mod packed;
mod path;
mod text;
mod value;

pub use commands::COMMANDS;
pub use effect::fuzz_effects;
pub use module::JsonModule;
pub use path::fuzz_path;
pub use text::fuzz_text;
