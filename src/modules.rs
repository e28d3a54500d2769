//! The modules of this program, made fresh for each use.

use engramdb_engine::command::Command;
use engramdb_engine::env::Env;
use engramdb_engine::module::Module;
use engramdb_json::JsonModule;
use engramdb_script::ScriptModule;
use engramdb_search::{SearchModule, SearchOptions};
use std::path::Path;

/// The folder of a data directory that holds saved graphs.
pub const INDEX_DIRECTORY: &str = "shards/0/indexes";

pub const COMMANDS: &[&[Command]] =
    &[engramdb_json::COMMANDS, engramdb_search::COMMANDS, engramdb_script::COMMANDS];

/// Settings of the modules for the configuration: what `--help` says of them, and whether one could have a
/// value.
#[allow(unused_imports, reason = "tests that include this file read no configuration")]
pub mod settings {
    pub use engramdb_search::{setting_help as help, try_setting};
}

/// Memory of modules that the allocator does not know, in bytes.
#[allow(dead_code, reason = "tests that include this file have an allocator of their own")]
pub fn mapped_bytes() -> usize {
    engramdb_search::mapped_bytes()
}

/// For serving: with derived state, and threads that keep it up to date.
pub fn serving(env: &Env, directory: &Path, threads: usize) -> Vec<Box<dyn Module>> {
    let directory = Some(directory.join(INDEX_DIRECTORY));
    all(SearchOptions { directory, env: env.clone(), offline: false, threads })
}

/// For the snapshot process and the tools: definitions only.
pub fn offline(env: &Env) -> Vec<Box<dyn Module>> {
    all(SearchOptions { directory: None, env: env.clone(), offline: true, threads: 0 })
}

fn all(options: SearchOptions) -> Vec<Box<dyn Module>> {
    vec![Box::new(JsonModule), Box::new(SearchModule::new(options)), Box::new(ScriptModule::default())]
}
