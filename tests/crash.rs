//! What survives: power cuts, damage, failing and full disks. All from seeds, all in-process, on the faulty disk
//! of `engramdb-sim`.

#[path = "crash/damage.rs"]
mod damage;
#[path = "crash/directory.rs"]
mod directory;
#[path = "crash/full_disk.rs"]
mod full_disk;
#[path = "crash/fuzz_reader.rs"]
mod fuzz_reader;
mod harness;
#[path = "crash/history.rs"]
mod history;
#[path = "crash/lives.rs"]
mod lives;
#[path = "../src/modules.rs"]
mod modules;
#[path = "crash/page_cache.rs"]
mod page_cache;
#[path = "crash/power_cut.rs"]
mod power_cut;
mod support;
#[path = "crash/sync_error.rs"]
mod sync_error;
#[path = "crash/whole_store.rs"]
mod whole_store;
