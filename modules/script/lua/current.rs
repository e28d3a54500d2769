//! The script that this thread runs, for the functions of `redis.*` that run commands.
//!
//! Those functions are made once, with the interpreter; what they act on is borrowed for one run. Functions
//! that are made for each run cost more than a short script: each is memory with a finalizer for Lua's
//! collector.

use mlua::{Lua, MultiValue, Value};
use scoped_tls_hkt::scoped_thread_local;

/// What runs the commands of a script.
pub trait CommandRunner {
    /// `redis.call`, and `redis.pcall`, which does not raise errors.
    fn call(&self, lua: &Lua, words: &MultiValue, raises: bool) -> mlua::Result<Value>;

    /// `redis.acl_check_cmd`.
    fn may_call(&self, words: &MultiValue) -> mlua::Result<bool>;
}

scoped_thread_local!(static CURRENT: for<'r> &'r (dyn CommandRunner + 'r));

/// Runs `run`, in which scripts' commands go to `runner`.
pub fn within<R>(runner: &dyn CommandRunner, run: impl FnOnce() -> R) -> R {
    CURRENT.set(runner, run)
}

/// Calls `with` with what runs the commands of the current script; `None` where none runs, as while a library
/// is loaded.
pub fn current<R>(with: impl FnOnce(&dyn CommandRunner) -> R) -> Option<R> {
    CURRENT.is_set().then(|| CURRENT.with(|runner| with(runner)))
}
