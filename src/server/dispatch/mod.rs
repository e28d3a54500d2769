//! From decoded requests to replies: which run takes them, under which lock.
//!
//! - `execute`: a round of requests, one after the other; `classify`: what is done with one;
//! - `runs`: consecutive commands under one hold of the lock; `admission`: room in the log for them;
//! - `permission`: whether the user may;
//! - `call`: one call of a session command; `transaction`: EXEC;
//! - `scripting`: commands of modules that run commands;
//! - `wait`: what a connection waits for and what comes of it; `parking`: a wait for keys;
//! - `reply`: replies and pushes into the outbox, sealed with their gates.

mod admission;
mod call;
mod classify;
mod execute;
mod parking;
mod permission;
mod reply;
mod runs;
mod scripting;
mod transaction;
mod wait;

pub use call::{After, Call, Exec, Run, check_handlers};
pub use execute::Core;
pub use permission::note as note_denied;
pub use scripting::{RunScript, ScriptCall, ScriptFunction, ScriptRules, script};
pub use wait::{Resumed, Waiting, WriteReply, elsewhere};
