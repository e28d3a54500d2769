//! FT.*: search over hashes, as a module of the engine.
//!
//! An index's definition is ground state: FT.CREATE is an effect like any other. Documents, postings and graphs are
//! derived from the keyspace, whose changes the module observes, and can be rebuilt from it at any time.
//!
//! The life of a search: `request` and `query` read the words, `prepared` keeps what they said, `plan` is what is to be
//! done, `filter` and `matches` find the documents, `vectors` the nearest of them, `search` checks the rows, `stale` those of
//! which something has expired, and `reply` writes them; where they are many, `rows` has them read before and written after the last
//! look at the keyspace. The life of a mutation: `module` hears of it, `index` brings
//! `documents` up to date at once, places vectors and puts them into the tail of `vectors`, from where `workers` take them. What
//! an index leaves behind when it is dropped is for `leftover`. `live` measures how much of what they should find searches find.
//! A start: `saved` has what the last run kept, `restoring` joins it with the keys as they are read, `recovery` ends it.

mod bytes;
mod commands;
mod create;
mod debug;
mod documents;
mod error;
mod explain;
mod filter;
mod ids;
mod index;
mod info;
mod leftover;
mod live;
mod matches;
mod measure;
mod module;
mod number;
mod parallel;
mod plan;
mod postings;
mod prepared;
mod profile;
mod query;
mod recovery;
mod reply;
mod request;
mod restoring;
mod rows;
mod saved;
mod schema;
mod search;
mod settings;
mod shape;
mod stale;
mod text;
mod vectors;
mod words;
mod workers;

pub use commands::COMMANDS;
pub use module::{SearchModule, SearchOptions};
pub use query::fuzz_query;
pub use settings::{SettingHelp, setting_help, try_setting};
