//! Backups, on a faulty disk and with the real binary: everything acknowledged before a backup began is
//! restored from it, and an incomplete backup is never accepted.

mod damage;
mod meanwhile;
mod newcomer;
mod power_cut;
mod process;
#[allow(dead_code, reason = "the snapshots' tests use the rest")]
mod tools;
