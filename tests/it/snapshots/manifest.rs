//! The manifest of snapshots: what it may say, and how it is made anew from the files.

use engramdb_engine::env::Disk;
use engramdb_engine::format_level::FORMAT_LEVEL;
use engramdb_engine::snapshot;
use engramdb_engine::snapshot::manifest::{MANIFEST_FILE, Manifest, ManifestError};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::store::{Store, compare, manifest, snapshots};

fn read(sim: &SimEnv, name: &str) -> Vec<u8> {
    sim.disk.bytes(&snapshots().join(name)).expect("the file is there")
}

#[test]
fn a_manifest_of_another_format_level_is_refused() {
    let store = Store::with_snapshots(1, &[5], 2, 0);
    let text = String::from_utf8(read(&store.sim, MANIFEST_FILE)).expect("JSON is text");
    for level in [0, FORMAT_LEVEL + 1] {
        let other = text.replace("\"needs\": 1", &format!("\"needs\": {level}"));
        assert_ne!(other, text);
        store.sim.disk.set_bytes(&snapshots().join(MANIFEST_FILE), other.into_bytes());
        let refused = Manifest::load(&store.sim.disk, &snapshots());
        assert!(matches!(refused, Err(ManifestError::UnknownLevel { .. })), "{refused:?}");
    }
}

#[test]
fn a_repaired_manifest_has_the_order_of_the_log_though_the_clock_was_set_back() {
    let mut store = Store::with_snapshots(2, &[15], 2, 15);
    let sim = store.sim.clone();
    sim.clock.step_ms(-3_600_000);
    store.snapshot(2).expect("nothing fails");
    let whole = manifest(&sim);
    assert!(whole.snapshots[0].created_ms < whole.snapshots[1].created_ms);
    // A person made a copy, under a name that sorts first.
    let copied = "0000000000000000.snapshot";
    let file = sim.disk.create(&snapshots().join(copied)).expect("there is space");
    file.write_at(&read(&sim, &whole.snapshots[0].file), 0).expect("there is space");
    sim.disk.remove(&snapshots().join(MANIFEST_FILE)).expect("it was there");
    let (repaired, problems) = snapshot::repair(&sim.env, &snapshots(), &Vec::new).expect("two are sound");
    assert_eq!(problems.len(), 1, "{problems:?}");
    let lsns = |manifest: &Manifest| manifest.snapshots.iter().map(|entry| entry.lsn).collect::<Vec<_>>();
    assert_eq!(lsns(&repaired), lsns(&whole));
    assert_eq!(repaired, manifest(&sim));

    // The next one builds on the newest, and the log is trimmed below the oldest.
    store.write_some(15);
    store.snapshot(2).expect("the log reaches back to the newest");
    store.write_some(15);
    let written = store.abandon();
    sim.disk.power_cut();
    let reopened = Store::open(sim).expect("a sound store").abandon();
    compare(&written, &reopened).expect("the same comes back");
}
