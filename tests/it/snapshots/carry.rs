//! The cost of carrying values between ranges of slots.

use engramdb_engine::effect::Effect;
use engramdb_engine::snapshot::create_offline;
use engramdb_sim::env::SimEnv;
use engramdb_testkit::store::{Store, compare, directory, offline};

#[test]
fn carried_values_are_not_read_one_by_one() {
    const KEYS: u64 = 2000;
    let mut store = Store::open(SimEnv::new(1)).expect("an empty disk is fine");
    for number in 0..KEYS {
        let (key, value) = (format!("key:{number}"), format!("{number:0100}"));
        store.write(0, Effect::StringSet { key: key.as_bytes(), value: value.as_bytes(), expires_at_ms: 0 });
    }
    store.snapshot(2).expect("nothing fails");
    for number in 0..KEYS {
        let (key, to) = (format!("key:{number}"), format!("moved:{number}"));
        store.write(0, Effect::Rename { key: key.as_bytes(), to: to.as_bytes() });
    }
    store.pipeline.close().expect("a clean stop");
    let (sim, written) = (store.sim.clone(), store.abandon());
    // The index is a file too.
    let mut options = offline(2);
    options.create.carry_bytes = 200 << 10;
    let before = sim.disk.reads();
    let report = create_offline(&sim.env, directory(), &Vec::new, &options).expect("nothing fails");
    let reads = sim.disk.reads() - before;
    println!("{reads} reads for {} carried keys", report.carried);
    assert_eq!(report.carried, 2 * KEYS);
    assert!(reads < 8 * report.carried, "{reads}");
    compare(&written, &Store::open(sim).expect("it comes back").live).expect("the same comes back");
}
