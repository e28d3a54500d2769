//! Backups, on a faulty disk and around the real binary: what was acknowledged before one began comes back
//! from it, and what is not whole never passes for whole.

mod damage;
mod meanwhile;
mod newcomer;
mod power_cut;
mod process;
#[allow(dead_code, reason = "the snapshots' tests use the rest")]
mod tools;
