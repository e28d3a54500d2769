//! Offline snapshots, on a faulty disk and around the real binary: whatever happens while one is made, the store comes
//! back whole.

#[path = "snapshots/carry.rs"]
mod carry;
#[path = "snapshots/full_disk.rs"]
mod full_disk;
#[path = "snapshots/page_cache.rs"]
mod page_cache;
#[path = "snapshots/power_cut.rs"]
mod power_cut;
#[path = "snapshots/process.rs"]
mod process;
#[path = "snapshots/store.rs"]
mod store;
mod support;
