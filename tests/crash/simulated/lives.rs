//! Runs one log many times: each run recovers, compares the data with all acknowledged writes, writes, and
//! ends with a fault.

use super::history::{directory, recover, without_threads};
use engramdb_engine::log::local::{Catalog, LocalLog};
use engramdb_engine::log::pipeline::{Pipeline, Refusal};
use engramdb_engine::log::replay::{Checkpoint, Recovered, Replay};
use engramdb_engine::log::{Lsn, ShardLog};
use engramdb_sim::disk::{SyncKind, SyncPoint};
use engramdb_sim::env::SimEnv;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The number of runs on one disk before a new disk is used.
pub const LIVES: u64 = 25;

/// How lives end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endings {
    PowerCuts,
    /// Kills, which the page cache survives, with a power cut from time to time; and failing syncs.
    KillsAndPowerCuts,
}

/// Selects the syncs and rewrites to skip: those of starts are identified by name.
pub type LeaveOut = Arc<dyn Fn(&SyncPoint<'_>, Option<&str>) -> bool + Send + Sync>;

/// The promises of the log.
struct Model {
    /// Every batch that may be in the log, from LSN 1.
    batches: Vec<Vec<u8>>,
    /// The number of batches that were reported durable, or returned by a start.
    acknowledged: usize,
    /// The checkpoint of a snapshot; the log may be trimmed up to it.
    snapshot: Checkpoint,
}

struct Disk {
    sim: SimEnv,
    random: SmallRng,
    model: Model,
    endings: Endings,
    /// While the log is being opened and claimed: the last segment that was started before.
    starting: Arc<Mutex<Option<u64>>>,
}

/// Runs one disk through many lives; returns the violated promise, in words.
pub fn run_disk(seed: u64, endings: Endings, leave_out: Option<LeaveOut>) -> Result<(), String> {
    let sim = SimEnv::new(seed);
    let starting = Arc::new(Mutex::new(None));
    if let Some(leave_out) = leave_out {
        let starting = starting.clone();
        sim.disk.leave_out(move |point| {
            let name = starting.lock().map(|last_segment| name_of(point, last_segment));
            leave_out(point, name.as_deref())
        });
    }
    let model = Model { batches: Vec::new(), acknowledged: 0, snapshot: Checkpoint::default() };
    let mut disk = Disk { sim, random: SmallRng::seed_from_u64(seed), model, endings, starting };
    for life in 0..LIVES {
        disk.prepare_end();
        disk.live().map_err(|broken| format!("seed {seed}, life {life}: {broken}"))?;
        disk.end();
    }
    disk.sim.disk.power_cut();
    let verified = disk.verify();
    verified.map(drop).map_err(|broken| format!("seed {seed}, at the end: {broken}"))
}

/// The names of all syncs and rewrites of starts that occur in these lives.
pub fn syncs_of_starts(endings: Endings) -> BTreeSet<String> {
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    for seed in 0..100 {
        let names = names.clone();
        let note: LeaveOut = Arc::new(move |_, name| {
            names.lock().extend(name.map(str::to_owned));
            false
        });
        run_disk(seed, endings, Some(note)).expect("nothing is left out");
    }
    let names = names.lock();
    names.clone()
}

/// The purpose of a sync or rewrite of a start. `last_segment` is the last one that was started before.
fn name_of(point: &SyncPoint<'_>, last_segment: u64) -> String {
    let name = point.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let number = name.split('.').next().and_then(|digits| digits.parse::<u64>().ok());
    let is_old = number.is_some_and(|number| number <= last_segment);
    match (point.kind, point.offset_bytes, is_old) {
        (SyncKind::Directory, ..) => format!("sync of the directory {}", point.path.display()),
        (SyncKind::File, _, true) => "sync of the last segment".to_owned(),
        (SyncKind::File, _, false) => "sync of a new segment".to_owned(),
        (SyncKind::Rewrite, 0, _) => "rewriting the last segment's header".to_owned(),
        (SyncKind::Rewrite, ..) => "rewriting the last entries".to_owned(),
        (SyncKind::Write, 0, _) => "sync of the new segment's header".to_owned(),
        (SyncKind::Write, ..) => "sync of the claim".to_owned(),
    }
}

impl Disk {
    /// Decides when this life ends.
    fn prepare_end(&mut self) {
        // It may end early, while the log is being opened, or late.
        let operations = if self.random.random_bool(0.2) { 1..16 } else { 16..120 };
        self.sim.disk.cut_after(self.random.random_range(operations));
        if self.endings == Endings::KillsAndPowerCuts && self.random.random_bool(0.2) {
            self.sim.disk.fail_sync_after(self.random.random_range(1..40));
        }
    }

    fn end(&mut self) {
        if self.endings == Endings::PowerCuts || self.random.random_bool(0.4) {
            self.sim.disk.power_cut();
        } else {
            self.sim.disk.kill();
        }
    }

    /// Recovers, checks, and writes until the life ends or the writer stops.
    fn live(&mut self) -> Result<(), String> {
        let started = self.start();
        *self.starting.lock() = None;
        let Some(pipeline) = started? else { return Ok(()) };
        // Batches that a start has returned are promised as well.
        self.model.acknowledged = self.model.batches.len();
        for _ in 0..self.random.random_range(0..60) {
            if let Some(fatal) = pipeline.failure() {
                return self.excuse(&fatal.to_string());
            }
            self.step(&pipeline)?;
            self.model.acknowledged = self.model.acknowledged.max(pipeline.durable().0 as usize);
        }
        if self.random.random_bool(0.5) && pipeline.close().is_ok() {
            self.model.acknowledged = self.model.batches.len();
        }
        Ok(())
    }

    /// `None` if the life ends meanwhile.
    fn start(&mut self) -> Result<Option<Pipeline>, String> {
        let last_segment = Catalog::load(&self.sim.disk, &directory())
            .ok()
            .and_then(|catalog| catalog.started.last().map(|segment| segment.header.number));
        *self.starting.lock() = Some(last_segment.unwrap_or(0));
        let (log, recovered) = match self.verify() {
            Ok(found) => found,
            Err(broken) => return self.excuse(&broken).map(|()| None),
        };
        let log: Arc<dyn ShardLog> = Arc::new(log);
        match Pipeline::start(log, &recovered, without_threads()) {
            Ok(pipeline) => Ok(Some(pipeline)),
            Err(error) => self.excuse(&error.to_string()).map(|()| None),
        }
    }

    /// An error is acceptable if the disk has caused it.
    fn excuse(&self, trouble: &str) -> Result<(), String> {
        let disk = &self.sim.disk;
        if disk.power_is_off() || disk.sync_failed() {
            Ok(())
        } else {
            Err(format!("{trouble}; but the disk is well"))
        }
    }

    fn step(&mut self, pipeline: &Pipeline) -> Result<(), String> {
        let Disk { random, model, .. } = self;
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

    /// Recovers from the snapshot and compares with the promises; drops batches that the log has trimmed.
    fn verify(&mut self) -> Result<(LocalLog, Recovered), String> {
        let model = &mut self.model;
        let (log, batches, recovered) = recover(&self.sim, model.snapshot)?;
        let start = model.snapshot.lsn.0 as usize;
        let found = start + batches.len();
        if found < model.acknowledged {
            return Err(format!("{} batches were acknowledged, {found} are there", model.acknowledged));
        }
        if found > model.batches.len() || batches[..] != model.batches[start..found] {
            return Err("the log holds batches that were not written, or in another order".to_owned());
        }
        model.batches.truncate(found);
        Ok((log, recovered))
    }
}

/// Mostly small; sometimes a few entries long; occasionally longer than a segment.
fn batch_bytes(random: &mut SmallRng) -> usize {
    match random.random_range(0..20) {
        0..14 => random.random_range(0..300),
        14..19 => random.random_range(0..20_000),
        _ => random.random_range(0..90_000),
    }
}

/// Takes a "snapshot" of the durable batches and lets the log trim up to it.
fn trim(pipeline: &Pipeline, random: &mut SmallRng, model: &mut Model) {
    let mut replay = Replay::new(&**pipeline.log(), model.snapshot);
    let batches = random.random_range(0..40);
    for _ in 0..batches {
        if !matches!(replay.next(), Ok(Some(_))) {
            break;
        }
    }
    model.snapshot = replay.checkpoint();
    // An error means that the life has ended, which the next step notices.
    let _ = pipeline.log().trim(model.snapshot.mark.pos);
}
