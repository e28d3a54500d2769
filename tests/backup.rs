//! Backups, on a faulty disk and around the real binary: what was acknowledged before one began comes back from it, and what
//! is not whole never passes for whole.

#[path = "backup/damage.rs"]
mod damage;
#[path = "backup/meanwhile.rs"]
mod meanwhile;
#[path = "backup/newcomer.rs"]
mod newcomer;
#[path = "backup/power_cut.rs"]
mod power_cut;
#[path = "backup/process.rs"]
mod process;
#[path = "snapshots/store.rs"]
#[allow(dead_code, reason = "the snapshots' tests use the rest")]
mod store;
mod support;
#[path = "backup/tools.rs"]
mod tools;
