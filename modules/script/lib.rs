//! Scripts: EVAL, SCRIPT, FUNCTION and FCALL, as a module of the engine.
//!
//! Libraries of functions are ground state: their code and what it registered are logged and in snapshots
//! ([`libraries`]). Compiled scripts and functions are derived state of this process ([`engine`]); the cache
//! of EVAL is not durable, as in Redis.
//!
//! # Code map
//!
//! | folder or file | what is in it | start reading at |
//! |---|---|---|
//! | `commands/` | one row for each command, and the handlers | `COMMANDS` |
//! | `module.rs` | what the engine calls: the ground state | `ScriptModule` |
//! | `libraries.rs` | libraries and their functions; the effects that change them | `Libraries` |
//! | `header.rs` | the first line of a script: `#!lua name=... flags=...` | `Header` |
//! | `payload.rs` | the payload of FUNCTION DUMP, in RDB's format | `write`, `read` |
//! | `engine.rs` | the interpreters of EVAL and of functions, and the cache of scripts | `ScriptEngine` |
//! | `lua/mod.rs` | one interpreter: its sandbox, and a run of a script | `Interpreter` |
//! | `lua/prelude.lua` | the part of the sandbox and of `redis.*` that is written in Lua | |
//! | `lua/api.rs` | the functions of `redis.*` in Rust | |
//! | `lua/current.rs` | the script that runs on this thread | |
//! | `lua/convert.rs` | replies of commands as Lua values, and Lua values as replies | |
//! | `lua/cjson.rs`, `cmsgpack.rs`, `bits.rs`, `structs.rs` | the libraries of Redis | |
//!
//! # A script
//!
//! The server runs the command's function outside of its runtime, in a transaction that it has begun, and
//! hands it a `ScriptCall`. Each `redis.call` goes through it: there it is checked, and there it takes its
//! room in the log. All effects of a script are one batch. The interpreter asks the server every 100,000
//! instructions whether the script goes on.

#![forbid(unsafe_code)]

mod commands;
mod engine;
mod header;
mod libraries;
mod lua;
mod module;
mod payload;

pub use commands::COMMANDS;
pub use module::ScriptModule;
