//! FT.*: search over hashes and other documents, as a module of the engine.
//!
//! An index's definition is ground state: FT.CREATE is an effect like any other. Documents, postings and
//! graphs are derived from the keyspace, whose changes the module observes, and can be rebuilt from it at any
//! time.
//!
//! # Code map
//!
//! | folder or file | what is in it | start reading at |
//! |---|---|---|
//! | `commands.rs` | one row per FT command, and the short handlers | `COMMANDS` |
//! | `module.rs` | what the engine calls: effects, changes of keys, background work, INFO | `impl Module` |
//! | `registry/` | all indexes: by name, alias, id, and by the prefixes of keys | `Registry` |
//! | `manage/` | commands that do not search: FT.ALTER, aliases, dictionaries, FT.ADD | `manage/alter.rs` |
//! | `info.rs` | FT.INFO | `write` |
//! | `effects.rs` | the numbers of the module's effects | |
//! | `schema/` | what FT.CREATE defines, its parser and its format | `Definition` |
//! | `cursors.rs` | aggregations that wait for the next FT.CURSOR READ | `CursorRegistry` |
//! | `documents/` | what is read of a document; ids, versions and values; postings; terms | `Documents` |
//! | `vectors/` | a vector field: graph or flat index, pending mutations, workers, recall | `VectorField` |
//! | `query/` | a search's words: language, expansion, options, their cache; FT.EXPLAIN | `PreparedSearch` |
//! | `expr/` | expressions over the properties of a row: APPLY, FILTER | `Expression` |
//! | `index/` | one index: documents and vectors together, backfill, what a dropped index leaves | `Index` |
//! | `search/` | a search from its plan to its reply; FT.PROFILE | `search::search` |
//! | `aggregate/` | FT.AGGREGATE from its words to its reply; FT.CURSOR; FT.HYBRID | `Aggregation` |
//! | `audit/` | the thread that answers samples of searches exactly, to measure recall | `Auditor` |
//! | `recovery/` | saved graphs, and how an index comes back at a start | `recovery::finish` |
//! | `spell/` | FT.SPELLCHECK | `spell::check` |
//! | `suggest/` | FT.SUG*: completions, a data type of the keyspace | `suggest/trie.rs` |
//! | `settings/` | the module's parameters, for FT.CONFIG and CONFIG | `Settings` |
//! | `debug/` | FT.DEBUG | `ACTIONS` |
//! | `weight.rs` | what reading a document costs, and what one hold of the lock may read | `ReadWeight` |
//! | `edits.rs` | the edit distance of words | `Edits` |
//! | `error.rs` | every error text, in both styles | `Kind` |
//! | `words.rs`, `number.rs` | numbers in a request's words, and numbers as a reply shows them | |
//! | `fuzzing.rs` | what fuzz targets call | |
//!
//! # Where to find it
//!
//! - *How a query's plan is chosen*: `search/plan.rs` (`Plan::work`) estimates the work; `search/mod.rs`
//!   (`begin`) runs the search in place, hands it to the search pool, or waits for a backfill. Whether the
//!   vector part walks the graph or scans what the filter left is decided in `engramdb_vector` (`hnsw`), per
//!   call.
//! - *How an FT command is added*: a row in `commands.rs` (`COMMANDS`) with its handler; error texts in
//!   `error.rs`.
//! - *How an option of FT.SEARCH is added*: `query/request.rs`; what the reply shows is in `search/reply.rs`.
//! - *How texts are indexed and scored*: `documents/texts.rs` (postings), `schema/language.rs` (stems),
//!   `search/score.rs` (`ScoreTree::scores`: scores of documents for a query), `search/scored.rs` (order).
//! - *How a field type is added*: `schema/mod.rs` (`FieldKind`), `documents/reading.rs`, `search/filter.rs`.
//! - *How a type of documents is added*: not here. Its data type has `DataType::documents`, its value
//!   `TypedValue::document` (`engramdb_engine::keyspace`); `records.rs` in the test kit is an example.
//!
//! # Life of a search
//!
//! `query::request` and the parser read the words, `query::prepared` keeps the result. `search::plan`
//! estimates the work. `search::filter` and `search::matches` find the documents, `vectors` the nearest of
//! them; `search::matches` and `search::ranking` put them in order. `search::follow` looks again at documents
//! that change meanwhile, and `search::expired` finds those of which something has expired. `search::reply`
//! writes the rows. Many rows are read before and written after the last look at the keyspace
//! (`search::rows`).
//!
//! # Life of a mutation
//!
//! `module` observes it. A large document was read before, without the lock (`index::foreseen`); of others
//! the fields are read that the change concerns (`index::scope`). `index` brings `documents` up to date at
//! once (`documents::amend` posts what has changed), places vectors in the memory of the index and adds them
//! to the tail of `vectors`, from which `vectors::workers` take them.

#![forbid(unsafe_code)]

mod aggregate;
mod audit;
mod commands;
mod cursors;
mod debug;
mod documents;
mod edits;
mod effects;
mod error;
mod expr;
mod fuzzing;
mod index;
mod info;
mod manage;
mod module;
mod number;
mod query;
mod recovery;
mod registry;
mod schema;
mod search;
mod settings;
mod spell;
mod suggest;
mod vectors;
mod weight;
mod words;

pub use engramdb_vector::mapped_bytes;

pub use aggregate::{fuzz_aggregation, fuzz_hybrid};
pub use commands::COMMANDS;
pub use documents::shapes::fuzz_shape;
pub use expr::fuzz_expression;
pub use fuzzing::fuzz_definitions;
pub use manage::documents::fuzz_addition;
pub use module::{SearchModule, SearchOptions};
pub use query::fuzz_query;
pub use search::fuzz_search;
#[doc(hidden)]
pub use search::probe::touched;
pub use settings::{SettingHelp, setting_help, try_setting};
