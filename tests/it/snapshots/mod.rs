//! Offline snapshots, on a faulty disk and around the real binary: whatever happens while one is made, the
//! store comes back whole.

mod carry;
mod full_disk;
mod page_cache;
mod power_cut;
mod process;
