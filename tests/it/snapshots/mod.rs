//! Offline snapshots, on a faulty disk and with the real binary: whatever happens while one is made, the
//! store is recovered completely.

mod carry;
mod full_disk;
mod manifest;
mod page_cache;
mod power_cut;
mod process;
