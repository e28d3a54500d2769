//! Values of a module's data type: large ones, and those of a module that the program does not have.

use engramdb_engine::ReplayError;
use engramdb_engine::command::Stage;
use engramdb_engine::log::Lsn;
use engramdb_engine::recovery::{Recovering, RecoveryError};
use engramdb_engine::snapshot::SnapshotError;
use engramdb_engine::{Prepared, Retained};
use engramdb_resp::{Protocol, Value};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::counter;
use engramdb_testkit::instance::{Instance, Kept};

const PARTS: usize = 5000;

/// An instance with a counter at `c` that has `PARTS` parts.
fn with_large_counter() -> Instance {
    let mut instance = Instance::with_modules(1, Protocol::Resp3, counter::PARTS);
    let mut words = vec!["COUNT.ADD".to_owned(), "c".to_owned()];
    (0..PARTS).for_each(|part| words.extend([part.to_string(), "1".to_owned()]));
    instance.run(&words);
    instance
}

/// Runs a write once. Also returns its stage.
fn once(instance: &Instance, words: &[&str], prepared: Option<Box<Prepared>>) -> (Option<Value>, Stage) {
    instance.write_once(words, &mut Retained { prepared, room_bytes: 0 })
}

#[test]
fn a_large_object_is_copied_without_the_lock_and_again_if_it_changes() {
    let mut instance = with_large_counter();
    let prepare = |instance: &Instance, stage| match stage {
        Stage::Prepare(preparation) => instance.engine().prepare(0, *preparation),
        _ => panic!("a large object is not copied under the lock"),
    };
    let (_, stage) = once(&instance, &["COPY", "c", "d"], None);
    let prepared = prepare(&instance, stage);
    instance.run(&["COUNT.ADD", "c", "7", "1"]);
    let (_, stage) = once(&instance, &["COPY", "c", "d"], Some(prepared));
    let prepared = prepare(&instance, stage);
    let (reply, _) = once(&instance, &["COPY", "c", "d"], Some(prepared));
    assert_eq!(reply, Some(Value::Integer(1)));
    assert_eq!(instance.run(&["COUNT.TOTAL", "d"]).reply, Value::Integer(PARTS as i64 + 1));
    let dump = instance.dump();
    let of = |key: &[u8]| &dump[&(0, key.to_vec())];
    assert_eq!(of(b"d"), of(b"c"));
    instance.check_replay();
}

#[test]
fn a_large_object_is_in_a_snapshot_as_many_small_effects_and_goes_where_it_is_renamed_to() {
    let mut instance = with_large_counter();
    let created = instance.snapshot().created.expect("there is something new");
    let file = instance.snapshot_file(&created.file).expect("it was read back when it was made");
    // In runs of 512 parts.
    assert_eq!((file.trailer().keys, file.trailer().effects), (1, PARTS.div_ceil(512) as u64));
    instance.run(&["PEXPIRE", "c", "100000"]);
    instance.run(&["RENAME", "c", "in another range of slots"]);
    let report = instance.snapshot();
    assert_eq!(report.carried, 2, "the two names");
    instance.restart_with(Kept { snapshots: true, derived: false });
    let total = instance.run(&["COUNT.TOTAL", "in another range of slots"]).reply;
    assert_eq!(total, Value::Integer(PARTS as i64));
}

#[test]
fn a_program_without_the_module_says_so() {
    let mut instance = with_large_counter();
    let created = instance.snapshot().created.expect("there is something new");
    let file = instance.snapshot_file(&created.file).expect("it was read back when it was made");
    let env = SimEnv::new(1).env;
    let without = || Recovering::new(env.clone(), 16, Vec::new());
    let is_missing = |error: &SnapshotError| matches!(error, SnapshotError::MissingModule { name, number: 200, .. } if name == "counters");
    let loaded = file.load(&mut without(), 1);
    assert!(loaded.as_ref().is_err_and(is_missing), "{loaded:?}");
    let verified = file.verify(&env, Vec::new());
    assert!(verified.as_ref().is_err_and(is_missing), "{verified:?}");
    file.verify(&env, counter::modules(&env)).expect("with the module it is sound");
    let mut batch = Vec::new();
    counter::an_effect(b"c").encode(0, &mut batch);
    let replayed = without().apply(Lsn(1), &batch);
    let is_unknown = |error: &RecoveryError| {
        matches!(error, RecoveryError::Replay { cause: ReplayError::UnknownModule(200), .. })
    };
    assert!(replayed.as_ref().is_err_and(is_unknown), "{replayed:?}");
    instance.check_replay();
}
