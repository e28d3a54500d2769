//! Offline snapshots on a faulty disk: whatever happens while one is made, the store comes back whole.

#[path = "snapshots/power_cut.rs"]
mod power_cut;
#[path = "snapshots/store.rs"]
mod store;
