//! Snapshots on a disk without space: they succeed if there is space, report it if there is none, and leave
//! no files that use space.

use engramdb_engine::effect::Effect;
use engramdb_engine::log::Purpose;
use engramdb_engine::log::pipeline::Refusal;
use engramdb_engine::recovery::Recovering;
use engramdb_engine::snapshot::create_offline;
use engramdb_engine::snapshot::offline::trim_below_newest;
use engramdb_sim::env::SimEnv;
use engramdb_testkit::store::{Store, compare, directory, manifest, offline, snapshots};

/// A store with one snapshot and later writes.
fn prepared(seed: u64) -> Store {
    Store::with_snapshots(seed, &[40], 2, 40)
}

fn set_free(sim: &SimEnv, bytes: u64) {
    sim.disk.set_capacity(Some(sim.disk.used_bytes() + bytes));
}

/// Files of a snapshot that was not completed.
fn leftovers(sim: &SimEnv) -> Vec<String> {
    let listed: Vec<String> = manifest(sim).snapshots.iter().map(|entry| entry.file.clone()).collect();
    let paths = sim.disk.paths().into_iter().filter(|path| path.starts_with(snapshots()));
    let names = paths.map(|path| path.file_name().expect("a file").to_string_lossy().into_owned());
    names.filter(|name| name != "MANIFEST" && name != "LOCK" && !listed.contains(name)).collect()
}

fn reopened(sim: &SimEnv) -> Recovering {
    sim.disk.set_capacity(None);
    Store::open(sim.clone()).expect("what is left is whole").abandon()
}

#[test]
fn a_disk_that_fills_up_at_any_byte_of_a_snapshot_changes_nothing() {
    let (mut failed, mut made) = (0, 0);
    for step in 0..60 {
        let store = prepared(step);
        let sim = store.sim.clone();
        let before = manifest(&sim);
        while let Err(refusal) = store.pipeline.rotate() {
            assert_eq!(refusal, Refusal::Busy);
        }
        set_free(&sim, step * 1024);
        let result = create_offline(&sim.env, directory(), &Vec::new, &offline(2));
        assert_eq!(leftovers(&sim), Vec::<String>::new(), "{step} KiB free");
        match result {
            Ok(_) => made += 1,
            Err(error) => {
                failed += 1;
                let text = error.to_string();
                assert!(
                    text.contains("no room for a new snapshot") && text.contains("MiB are free"),
                    "{text}"
                );
                assert_eq!(manifest(&sim), before, "{step} KiB free");
            }
        }
        let written = store.abandon();
        compare(&written, &reopened(&sim)).unwrap_or_else(|error| panic!("{step} KiB free: {error}"));
    }
    assert!(failed > 5 && made > 5, "{failed} failed, {made} were made");
}

/// Ordinary writes until the log refuses them.
fn fill(store: &mut Store) {
    store.sim.disk.set_capacity(Some(store.sim.disk.used_bytes() + (150 << 10)));
    loop {
        match store.pipeline.admit_run(1, 2000, Purpose::Any) {
            Ok(credit) => drop(credit),
            Err(Refusal::Busy) => continue,
            Err(_) => return,
        }
        let value = vec![b'x'; 1500];
        store.write(0, Effect::StringSet { key: b"filler", value: &value, expires_at_ms: 0 });
    }
}

#[test]
fn a_flush_on_a_full_disk_is_snapshotted_and_frees_the_log() {
    let mut store = prepared(1);
    let sim = store.sim.clone();
    fill(&mut store);
    set_free(&sim, 0);
    store.write_freeing(0, Effect::FlushAll);
    // Does what the server does while its disk is full.
    let log = store.log.clone();
    log.lend_room(true);
    assert!(trim_below_newest(&sim.env, &snapshots(), &*log).expect("removing needs no room"));
    store.pipeline.rotate().expect("a seal has room of its own");
    let report =
        create_offline(&sim.env, directory(), &Vec::new, &offline(1)).expect("there is room for little");
    assert_eq!(report.created.expect("a snapshot").keys, 0);
    log.trim(report.trim_through.expect("one is kept")).expect("removing needs no room");
    log.lend_room(false);
    drop(log);
    assert_eq!(manifest(&sim).snapshots.len(), 1);
    store.write_some(20);
    let written = store.abandon();
    compare(&written, &reopened(&sim)).expect("the same comes back");
}

#[test]
fn a_stopped_store_on_a_full_disk_is_snapshotted_in_the_room_that_old_snapshots_take() {
    let mut store = prepared(2);
    let sim = store.sim.clone();
    store.snapshot(2).expect("there is room");
    fill(&mut store);
    store.write_freeing(0, Effect::FlushAll);
    store.pipeline.close().expect("a clean stop");
    let written = store.abandon();
    set_free(&sim, 0);
    let report = create_offline(&sim.env, directory(), &Vec::new, &offline(2)).expect("older ones made room");
    assert_eq!(report.created.expect("a snapshot").keys, 0);
    assert_eq!(leftovers(&sim), Vec::<String>::new());
    compare(&written, &reopened(&sim)).expect("the same comes back");
}

/// Asserts that all listed snapshots have the log that they need.
fn assert_log_reaches_back(sim: &SimEnv, case: &str) {
    let listed = manifest(sim).snapshots;
    let store = Store::open(sim.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
    let (first, _) = store.log.bounds().expect("the log is whole");
    for entry in listed {
        let file = snapshots().join(&entry.file);
        let needs = entry.pos + 1;
        assert!(first.0 <= needs, "{case}: {} needs the log from {needs}, it begins at {first}", entry.file);
        assert!(sim.disk.bytes(&file).is_some(), "{case}: {} is listed and missing", entry.file);
    }
}

#[test]
fn a_kill_at_any_moment_of_a_trim_leaves_no_snapshot_without_its_log() {
    for power in [false, true] {
        for operation in 1.. {
            let mut store = prepared(operation);
            store.snapshot(2).expect("there is room");
            store.write_some(40);
            let sim = store.sim.clone();
            assert_eq!(manifest(&sim).snapshots.len(), 2);
            sim.disk.cut_after(operation);
            let trimmed = trim_below_newest(&sim.env, &snapshots(), &*store.log);
            assert_eq!(trimmed.is_err(), sim.disk.power_is_off());
            let is_over = trimmed.is_ok();
            let written = store.abandon();
            if power {
                sim.disk.power_cut()
            } else {
                sim.disk.kill()
            }
            let case = format!("power {power}, operation {operation}");
            assert_log_reaches_back(&sim, &case);
            compare(&written, &reopened(&sim)).unwrap_or_else(|error| panic!("{case}: {error}"));
            if is_over {
                assert_eq!(manifest(&sim).snapshots.len(), 1);
                break;
            }
        }
    }
}

#[test]
fn fewer_snapshots_are_kept_though_there_is_nothing_new() {
    let store = prepared(1);
    store.snapshot(2).expect("there is room");
    store.pipeline.close().expect("a clean stop");
    let sim = store.sim.clone();
    drop(store);
    let kept = |retain| {
        create_offline(&sim.env, directory(), &Vec::new, &offline(retain)).expect("nothing fails");
        assert_log_reaches_back(&sim, "nothing new");
        manifest(&sim).snapshots.len()
    };
    assert_eq!((kept(2), kept(1)), (2, 1));
}
