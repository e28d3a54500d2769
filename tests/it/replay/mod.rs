//! For any sequence of commands, snapshots, restarts and steps of the clock: the same keyspace and the same
//! answers of FT.SEARCH live, after replay of the whole log, and after a snapshot and the log's tail.

mod asked;
mod clock;
mod graphs;
mod kinds;
#[path = "../../../src/modules.rs"]
mod modules;
mod prepared;
mod questions;
mod reference;
mod sequences;
mod types;
mod types_words;

use engramdb_testkit::instance::{Instance, Parts};

/// The parts of the program.
const PROGRAM: Parts = Parts {
    commands: modules::COMMANDS,
    // One thread: mutations reach graphs in one order.
    serving: |env, directory| modules::serving(env, directory, 1),
    offline: modules::offline,
};

fn instance(seed: u64) -> Instance {
    Instance::with_modules(seed, engramdb_resp::Protocol::Resp3, PROGRAM)
}
