//! Power cuts at every disk operation of a snapshot's creation, with all syncs and with each left out.
//!
//! The story: a snapshot that is published before its bytes, its name or its manifest are durable looks
//! perfect until the power is cut, and by then the log that it replaced was trimmed.

use engramdb_engine::snapshot::create_offline;
use engramdb_sim::env::SimEnv;
use engramdb_sim::fuzz::is_long_mode;
use engramdb_testkit::store::{Store, compare, directory, manifest, offline, snapshots};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A store with two snapshots and some later writes.
pub fn prepared(seed: u64, retain: usize) -> Store {
    Store::with_snapshots(seed, &[15, 15], retain, 15)
}

/// Cuts the power at the `operation`th change of the disk while a snapshot is made; then opens the store
/// again. Returns whether the cut occurred, and what was wrong afterwards.
fn cut_at(seed: u64, retain: usize, operation: u64, left_out: Option<u64>) -> (bool, Result<(), String>) {
    let store = prepared(seed, retain);
    let sim = store.sim.clone();
    if let Some(number) = left_out {
        let syncs = Arc::new(AtomicU64::new(0));
        // Another test covers the syncs of the log.
        sim.disk.leave_out(move |point| {
            point.path.starts_with(snapshots()) && syncs.fetch_add(1, Ordering::Relaxed) == number
        });
    }
    sim.disk.cut_after(operation);
    let cut = store.snapshot(retain).is_err();
    let written = store.abandon();
    sim.disk.power_cut();
    let result = Store::open(sim).and_then(|store| compare(&written, &store.live));
    (cut, result)
}

/// The number of changes of the disk, and of syncs below the snapshots' directory, that a snapshot makes.
fn counts(retain: usize) -> (u64, u64) {
    let store = prepared(1, retain);
    let sim = store.sim.clone();
    let syncs = Arc::new(AtomicU64::new(0));
    let counter = syncs.clone();
    sim.disk.leave_out(move |point| {
        counter.fetch_add(u64::from(point.path.starts_with(snapshots())), Ordering::Relaxed);
        false
    });
    let before = sim.disk.operations();
    store.snapshot(retain).expect("nothing fails");
    (sim.disk.operations() - before, syncs.load(Ordering::Relaxed))
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_store_that_comes_back_whole() {
    for retain in [1, 2] {
        let (operations, _) = counts(retain);
        let seeds = if is_long_mode() { 200 } else { 4 };
        for operation in 1..=operations + 1 {
            for seed in 0..seeds {
                let (cut, result) = cut_at(seed, retain, operation, None);
                result.unwrap_or_else(|error| panic!("seed {seed}, operation {operation}: {error}"));
                assert_eq!(cut, operation <= operations);
            }
        }
    }
}

#[test]
fn the_test_notices_when_any_one_sync_is_left_out() {
    // With one snapshot kept, there is no other one to use.
    let (operations, syncs) = counts(1);
    assert!(syncs >= 4, "bytes, name, manifest's bytes, manifest's name; {syncs} found");
    for left_out in 0..syncs {
        let noticed = (0..60).any(|seed| {
            (1..=operations + 1).rev().any(|operation| cut_at(seed, 1, operation, Some(left_out)).1.is_err())
        });
        assert!(noticed, "sync {left_out} can be left out and nobody notices");
    }
}

#[test]
fn after_a_cut_the_next_snapshot_is_made_and_nothing_is_left_over() {
    let (operations, _) = counts(2);
    for operation in (1..=operations).step_by(3) {
        let store = prepared(operation, 2);
        let sim = store.sim.clone();
        sim.disk.cut_after(operation);
        store.snapshot(2).expect_err("the power goes");
        drop(store);
        sim.disk.power_cut();
        let mut store = Store::open(sim.clone()).expect("it comes back");
        store.write_some(3);
        store.snapshot(2).expect("nothing fails any more");
        let written = store.abandon();
        let store = Store::open(sim.clone()).expect("it comes back");
        compare(&written, &store.live).expect("nothing is lost");
        assert_eq!(store.report.batches, 0, "the snapshot has it all");
        let listed: Vec<String> = manifest(&sim).snapshots.into_iter().map(|entry| entry.file).collect();
        let paths = sim.disk.paths();
        let present = paths.iter().filter(|path| path.starts_with(snapshots()));
        let names = present.filter_map(|path| path.file_name()?.to_str());
        let unlisted: Vec<&str> = names
            .filter(|name| name.contains("snapshot") && !listed.iter().any(|file| file == name))
            .collect();
        assert!(unlisted.is_empty(), "{unlisted:?}");
    }
}

#[test]
fn a_stopped_store_is_sealed_snapshotted_and_trimmed() {
    let mut store = Store::open(SimEnv::new(3)).expect("an empty disk is fine");
    let sim = store.sim.clone();
    for round in 0..4 {
        store.write_some(30);
        let written = store.abandon();
        let report = create_offline(&sim.env, directory(), &Vec::new, &offline(2)).expect("nothing fails");
        assert!(report.created.is_some(), "round {round}");
        let again = create_offline(&sim.env, directory(), &Vec::new, &offline(2)).expect("nothing fails");
        assert!(again.created.is_none(), "there is nothing new");
        store = Store::open(sim.clone()).expect("it comes back");
        compare(&written, &store.live).expect("nothing is lost");
        assert_eq!(store.report.batches, 0);
    }
    let (first, _) = store.log.bounds().expect("the log is whole");
    let oldest = manifest(&sim).snapshots.last().expect("two were kept").pos;
    assert!(
        first.0 > 1 && first.0 <= oldest + 1,
        "the log begins at {first}, the older snapshot is at {oldest}"
    );
}
