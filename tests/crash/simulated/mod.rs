//! Power cuts, damage, failing and full disks. All from seeds, all in-process, on the faulty disk of
//! `engramdb-sim`.

mod damage;
mod directory;
mod full_disk;
mod fuzz_reader;
mod history;
mod lives;
#[path = "../../../src/modules.rs"]
mod modules;
mod page_cache;
mod power_cut;
mod sync_error;
mod whole_store;
