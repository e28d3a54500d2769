//! Power cuts at random moments of random histories.
//!
//! The story: a log that syncs its entries but forgets to sync the directory passes every test that kills the
//! process, for the kernel lives on and keeps the name. The first power cut takes the whole file. So here the disk
//! forgets everything that it may, at every kind of moment, and the last test shows that each sync in the code is
//! one that these histories would miss.

use crate::history::{recover, small_segments, without_threads};
use engramdb_engine::log::pipeline::{Pipeline, Refusal};
use engramdb_engine::log::replay::Checkpoint;
use engramdb_engine::log::{Lsn, ShardLog};
use engramdb_sim::disk::{SyncKind, SyncPoint};
use engramdb_sim::env::SimEnv;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

/// Power cuts in a normal run; `ENGRAMDB_POWER_CUTS` sets another number.
const POWER_CUTS: u64 = 10_000;
/// Lives of one disk before a fresh one takes its place.
const LIVES: u64 = 25;

/// What the log has promised.
struct Model {
    /// Every batch that may be in the log, from LSN 1.
    batches: Vec<Vec<u8>>,
    /// How many of them were reported durable.
    acknowledged: usize,
    /// What a snapshot remembers; the log may be trimmed below.
    snapshot: Checkpoint,
}

/// One disk through many power cuts. What is broken, in words.
fn run_disk(seed: u64, lives: u64, leave_out: Option<fn(&SyncPoint<'_>) -> bool>) -> Result<(), String> {
    let sim = SimEnv::new(seed);
    if let Some(filter) = leave_out {
        sim.disk.leave_out(filter);
    }
    let mut random = SmallRng::seed_from_u64(seed);
    let mut model = Model { batches: Vec::new(), acknowledged: 0, snapshot: Checkpoint::default() };
    for life in 0..lives {
        // The cut may come early, while the log is being opened, or late.
        let operations = if random.random_bool(0.2) { 1..12 } else { 12..120 };
        sim.disk.cut_after(random.random_range(operations));
        let lived = live(&sim, &mut random, &mut model);
        lived.map_err(|broken| format!("seed {seed}, life {life}: {broken}"))?;
        sim.disk.power_cut();
    }
    let verified = verify(&sim, &mut model);
    verified.map(drop).map_err(|broken| format!("seed {seed}, at the end: {broken}"))
}

/// Recovers, checks, and writes until the power goes or the writer stops.
fn live(sim: &SimEnv, random: &mut SmallRng, model: &mut Model) -> Result<(), String> {
    let verified = verify(sim, model);
    let (log, recovered) = match verified {
        Ok(found) => found,
        Err(_) if sim.disk.power_is_off() => return Ok(()),
        Err(broken) => return Err(broken),
    };
    let log: Arc<dyn ShardLog> = Arc::new(log);
    let pipeline = match Pipeline::start(log, &recovered, without_threads()) {
        Ok(pipeline) => pipeline,
        Err(error) => return power_is_off(sim, &error.to_string()),
    };
    for _ in 0..random.random_range(0..60) {
        if let Some(fatal) = pipeline.failure() {
            return power_is_off(sim, &fatal.to_string());
        }
        step(&pipeline, random, model)?;
        model.acknowledged = model.acknowledged.max(pipeline.durable().0 as usize);
    }
    if random.random_bool(0.5) && pipeline.close().is_ok() {
        model.acknowledged = model.batches.len();
    }
    Ok(())
}

fn power_is_off(sim: &SimEnv, what: &str) -> Result<(), String> {
    if sim.disk.power_is_off() { Ok(()) } else { Err(format!("{what}; but the power is on")) }
}

fn step(pipeline: &Pipeline, random: &mut SmallRng, model: &mut Model) -> Result<(), String> {
    match random.random_range(0..100) {
        0..60 => {
            let mut batch = vec![0; batch_bytes(random)];
            random.fill(&mut batch[..]);
            match pipeline.admit(batch.len()) {
                Ok(mut credit) => {
                    model.batches.push(batch);
                    let lsn = Lsn(model.batches.len() as u64);
                    pipeline.submit(&mut credit, lsn, lsn.0, &model.batches[lsn.0 as usize - 1]);
                }
                Err(Refusal::Busy | Refusal::Failed(_)) => pipeline.pump(),
                Err(refusal) => return Err(format!("refused on an empty disk: {refusal}")),
            }
        }
        60..90 => pipeline.pump(),
        90..94 => drop(pipeline.rotate()),
        94..97 => pipeline.submit_time(model.batches.len() as u64),
        _ => trim(pipeline, random, model),
    }
    Ok(())
}

/// Mostly small; sometimes a few entries long; now and then longer than a segment.
fn batch_bytes(random: &mut SmallRng) -> usize {
    match random.random_range(0..20) {
        0..14 => random.random_range(0..300),
        14..19 => random.random_range(0..20_000),
        _ => random.random_range(0..90_000),
    }
}

/// Takes a "snapshot" of what is durable and lets the log go below it.
fn trim(pipeline: &Pipeline, random: &mut SmallRng, model: &mut Model) {
    let mut replay = engramdb_engine::log::replay::Replay::new(&**pipeline.log(), model.snapshot);
    let batches = random.random_range(0..40);
    for _ in 0..batches {
        if !matches!(replay.next(), Ok(Some(_))) {
            break;
        }
    }
    model.snapshot = replay.checkpoint();
    // An error means that the power went, which the next step notices.
    let _ = pipeline.log().trim(model.snapshot.mark.pos);
}

/// Recovers from the snapshot and compares with the promises; forgets what the log has forgotten.
fn verify(
    sim: &SimEnv,
    model: &mut Model,
) -> Result<(engramdb_engine::log::local::LocalLog, engramdb_engine::log::replay::Recovered), String> {
    let (log, batches, recovered) = recover(sim, model.snapshot)?;
    let start = model.snapshot.lsn.0 as usize;
    let found = start + batches.len();
    if found < model.acknowledged {
        return Err(format!("{} batches were acknowledged, {found} are there", model.acknowledged));
    }
    if found > model.batches.len() || batches[..] != model.batches[start..found] {
        return Err("the log holds batches that were not written, or in another order".to_owned());
    }
    model.batches.truncate(found);
    model.acknowledged = found;
    Ok((log, recovered))
}

fn power_cuts() -> u64 {
    let wanted = std::env::var("ENGRAMDB_POWER_CUTS").ok();
    wanted.map_or(POWER_CUTS, |text| text.parse().expect("ENGRAMDB_POWER_CUTS is a number"))
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_invented() {
    for seed in 0..power_cuts().div_ceil(LIVES) {
        if let Err(broken) = run_disk(seed, LIVES, None) {
            panic!("{broken}");
        }
    }
}

#[test]
fn every_sync_is_needed() {
    type Filter = fn(&SyncPoint<'_>) -> bool;
    let syncs: [(&str, Filter); 5] = [
        ("entry", |point| point.kind == SyncKind::Write && point.offset_bytes > 0),
        ("segment header", |point| point.kind == SyncKind::Write && point.offset_bytes == 0),
        ("preallocation", |point| point.kind == SyncKind::File),
        ("directory after a create", |point| point.kind == SyncKind::Directory && !point.after_remove),
        ("directory after a remove", |point| point.kind == SyncKind::Directory && point.after_remove),
    ];
    for (name, filter) in syncs {
        let noticed = (0..100).find_map(|seed| run_disk(seed, LIVES, Some(filter)).err());
        let noticed = noticed.unwrap_or_else(|| panic!("leaving out the {name} sync goes unnoticed"));
        println!("without the {name} sync: {noticed}");
    }
}

#[test]
fn options_make_several_entries_and_segments() {
    // The histories above are only worth something if batches span entries and entries fill segments.
    let options = small_segments();
    assert!(options.entry_bytes_max < 20_000);
    assert!(options.segment_bytes < 90_000);
}
