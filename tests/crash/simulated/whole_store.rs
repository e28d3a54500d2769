//! Kills, power cuts and failing syncs over a whole data directory: log, snapshots with their manifest, saved
//! graphs.
//!
//! Each life recovers, checks every key and what a search finds, writes, makes snapshots, trims the log,
//! saves graphs, and ends at any operation of the disk. Now and then a snapshot is made of the stopped
//! directory, and ends badly as well.

use super::history::{small_segments, without_threads};
use super::modules;
use super::power_cut::power_cuts;
use engramdb_engine::Engine;
use engramdb_engine::command::{Args, CommandTable, Stage};
use engramdb_engine::commands::FAMILIES;
use engramdb_engine::log::pipeline::Refusal;
use engramdb_engine::recovery::{StartOptions, StartReport, open_directory};
use engramdb_engine::snapshot::create::CreateOptions;
use engramdb_engine::snapshot::create_offline;
use engramdb_engine::snapshot::offline::OfflineOptions;
use engramdb_resp::{Protocol, Value};
use engramdb_sim::disk::{SyncKind, SyncPoint};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::wire::Wire;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const LIVES: u64 = 25;
const DOCUMENTS: usize = 24;
const DATA: &str = "/data";

type Words = Vec<Vec<u8>>;

/// One write, which makes one batch.
#[derive(Clone, Copy)]
enum Write {
    CreateIndex,
    Put { document: usize, number: u64 },
    Delete { document: usize },
}

impl Write {
    fn words(self) -> Words {
        let text = |text: String| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Words>();
        match self {
            Write::CreateIndex => {
                let schema = "SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2";
                text(format!("FT.CREATE idx PREFIX 1 d: {schema}"))
            }
            Write::Put { document, number } => {
                let mut words = text(format!("HSET d:{document} n {number} v"));
                let vector = [document as f32, number as f32, 1.0, (number % 7) as f32];
                words.push(vector.iter().flat_map(|component| component.to_le_bytes()).collect());
                // Now and then more than an entry holds.
                words.extend([b"filler".to_vec(), vec![b'x'; if number % 9 == 0 { 9000 } else { 200 }]]);
                words
            }
            Write::Delete { document } => text(format!("DEL d:{document}")),
        }
    }
}

struct Store {
    sim: SimEnv,
    random: SmallRng,
    table: CommandTable,
    /// Write number `i` is batch `i + 1`.
    writes: Vec<Write>,
    /// How many of them were reported durable, or shown by a start.
    acknowledged: usize,
}

/// One disk through many lives. What is broken, in words.
fn run_disk(seed: u64, leave_out: Option<fn(&SyncPoint<'_>) -> bool>) -> Result<(), String> {
    let sim = SimEnv::new(seed);
    if let Some(leave_out) = leave_out {
        sim.disk.leave_out(leave_out);
    }
    let table = CommandTable::new(FAMILIES.iter().chain(modules::COMMANDS).copied());
    let random = SmallRng::seed_from_u64(seed);
    let mut store = Store { sim, random, table, writes: Vec::new(), acknowledged: 0 };
    for life in 0..LIVES {
        let at = |broken| format!("seed {seed}, life {life}: {broken}");
        store.prepare_end();
        store.live().map_err(at)?;
        store.end();
        if store.random.random_bool(0.2) {
            store.prepare_end();
            store.snapshot().map_err(at)?;
            store.end();
        }
    }
    store.sim.disk.power_cut();
    store.start().map(drop).map_err(|broken| format!("seed {seed}, at the end: {broken}"))
}

impl Store {
    /// Decides when this life ends.
    fn prepare_end(&mut self) {
        let operations = if self.random.random_bool(0.2) { 1..20 } else { 20..250 };
        self.sim.disk.cut_after(self.random.random_range(operations));
        if self.random.random_bool(0.2) {
            self.sim.disk.fail_sync_after(self.random.random_range(1..60));
        }
    }

    fn end(&mut self) {
        if self.random.random_bool(0.4) { self.sim.disk.power_cut() } else { self.sim.disk.kill() }
    }

    /// Trouble is in order where the disk made some.
    fn excuse(&self, trouble: impl ToString) -> Result<(), String> {
        let disk = &self.sim.disk;
        let is_in_trouble = disk.power_is_off() || disk.sync_failed();
        if is_in_trouble { Ok(()) } else { Err(format!("{}; but the disk is well", trouble.to_string())) }
    }

    fn live(&mut self) -> Result<(), String> {
        let Some(engine) = self.start()? else { return Ok(()) };
        for _ in 0..self.random.random_range(0..50) {
            if let Some(fatal) = engine.pipeline().failure() {
                return self.excuse(fatal);
            }
            match self.random.random_range(0..100) {
                0..70 => self.write(&engine)?,
                70..88 => engine.pipeline().pump(),
                88..94 => self.snapshot_beside(&engine)?,
                _ => {
                    for (_, export) in engine.exporters() {
                        export().map(drop).or_else(|error| self.excuse(error))?;
                    }
                }
            }
            self.acknowledged = self.acknowledged.max(engine.durable().0 as usize);
        }
        if self.random.random_bool(0.3) && engine.close().is_ok() {
            self.acknowledged = self.writes.len();
        }
        Ok(())
    }

    /// Recovers, and checks what is there; promises it from then on. `None` if the life ends meanwhile.
    fn start(&mut self) -> Result<Option<Engine>, String> {
        let env = self.sim.env.clone();
        let make = || modules::serving(&env, Path::new(DATA), 1);
        let options = StartOptions { databases: 1, threads: 1, pipeline: without_threads() };
        match open_directory(&env, Path::new(DATA), &make, small_segments(), options) {
            Ok((engine, report)) => self.check(&engine, &report).map(|()| Some(engine)),
            Err(error) => self.excuse(error).map(|()| None),
        }
    }

    fn check(&mut self, engine: &Engine, report: &StartReport) -> Result<(), String> {
        let found = engine.pipeline().last_lsn().0 as usize;
        if found < self.acknowledged || found > self.writes.len() {
            let (acknowledged, written) = (self.acknowledged, self.writes.len());
            return Err(format!("{acknowledged} of {written} writes were acknowledged, {found} are there"));
        }
        self.writes.truncate(found);
        self.acknowledged = found;
        let mut numbers = BTreeMap::new();
        for write in &self.writes {
            match *write {
                Write::CreateIndex => {}
                Write::Put { document, number } => drop(numbers.insert(document, number)),
                Write::Delete { document } => drop(numbers.remove(&document)),
            }
        }
        for document in 0..DOCUMENTS {
            let reply = self.read(engine, &["HGET", &format!("d:{document}"), "n"]);
            let expected = numbers.get(&document).map(u64::to_string);
            if reply.as_str() != expected.as_deref() {
                return Err(format!("d:{document} is {reply:?}, {expected:?} was written"));
            }
        }
        if !self.writes.is_empty() {
            self.check_search(engine, &numbers.into_keys().collect())?;
        }
        // A saved graph gets its final name after its bytes are durable, so damage means that a sync is
        // missing.
        match report.modules.iter().chain(&report.notes).find(|line| line.contains("thrown away")) {
            Some(line) => Err(line.clone()),
            None => Ok(()),
        }
    }

    fn check_search(&self, engine: &Engine, documents: &BTreeSet<usize>) -> Result<(), String> {
        let query = [0u8; 16];
        let words =
            ["FT.SEARCH", "idx", "*=>[KNN 100 @v $q]", "NOCONTENT", "LIMIT", "0", "100", "PARAMS", "2", "q"];
        let mut words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        words.extend([&query[..], b"DIALECT", b"2"]);
        let reply = self.read(engine, &words);
        let rows = reply.as_array().ok_or_else(|| format!("FT.SEARCH: {reply:?}"))?;
        let number = |row: &Value| row.as_str()?.strip_prefix("d:")?.parse().ok();
        let found: BTreeSet<usize> = rows.iter().filter_map(number).collect();
        if found == *documents { Ok(()) } else { Err(format!("{documents:?} are indexed, {found:?} found")) }
    }

    fn write(&mut self, engine: &Engine) -> Result<(), String> {
        let document = self.random.random_range(0..DOCUMENTS);
        let last = self.writes.iter().rev().find_map(|write| match write {
            Write::Put { document: of, .. } if *of == document => Some(true),
            Write::Delete { document: of } if *of == document => Some(false),
            _ => None,
        });
        let write = match last {
            _ if self.writes.is_empty() => Write::CreateIndex,
            Some(true) if self.random.random_bool(0.3) => Write::Delete { document },
            _ => Write::Put { document, number: self.random.random_range(0..100_000) },
        };
        let words = write.words();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let known = self.table.resolve(Args::new(&words)).expect("the test's commands are known");
        let credit = match engine.admit(1, known.command.batch_bytes_max(&words)) {
            Ok(credit) => credit,
            Err(Refusal::Busy | Refusal::Failed(_)) => {
                engine.pipeline().pump();
                return Ok(());
            }
            Err(refusal) => return self.excuse(refusal),
        };
        self.writes.push(write);
        let mut wire = Wire::new(Protocol::Resp2);
        engine.writes(credit).run(0, known.command, Args::new(&words), &mut wire);
        match wire.value() {
            Value::Error(error) => Err(String::from_utf8_lossy(&error).into_owned()),
            _ => Ok(()),
        }
    }

    fn read(&self, engine: &Engine, words: &[impl AsRef<[u8]>]) -> Value {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        let mut wire = Wire::new(Protocol::Resp2);
        let known = self.table.resolve(Args::new(&words)).expect("the test's commands are known");
        let ran = engine.reads().expect("it serves").run(0, known.command, Args::new(&words), &mut wire);
        match ran.stage {
            Stage::Done => {}
            Stage::Prepare(_) | Stage::NeedsRoom(_) => unreachable!("a read prepares nothing"),
            Stage::Park(_) => unreachable!("none of the commands here waits for keys"),
            Stage::Wait(wait) => _ = engine.complete(0, wait.block(), &mut wire),
            Stage::Run(job) | Stage::Offload(job) | Stage::Copy(job) => {
                engine.complete(0, job, &mut wire);
            }
        }
        wire.value()
    }

    /// What a serving process does: rotates, lets the other process make the snapshot, and trims.
    fn snapshot_beside(&mut self, engine: &Engine) -> Result<(), String> {
        match engine.pipeline().rotate() {
            Ok(_) => {}
            Err(Refusal::Busy) => return Ok(()),
            Err(refusal) => return self.excuse(refusal),
        }
        match self.snapshot()? {
            Some(upto) => engine.log().trim(upto).or_else(|error| self.excuse(error)),
            None => Ok(()),
        }
    }

    /// Makes a snapshot, of a directory in use or of a stopped one. Through where the log may be trimmed.
    fn snapshot(&mut self) -> Result<Option<engramdb_engine::log::Pos>, String> {
        let create = CreateOptions { retain: self.random.random_range(1..=2), ..CreateOptions::default() };
        let options = OfflineOptions { create, seal: self.random.random_bool(0.5), log: small_segments() };
        let env = self.sim.env.clone();
        let made = create_offline(&env, Path::new(DATA), &|| modules::offline(&env), &options);
        match made {
            Ok(report) => Ok(report.trim_through),
            // Killed before the first start came so far.
            Err(engramdb_engine::snapshot::offline::OfflineError::NoLog { .. }) => Ok(None),
            Err(error) => self.excuse(error).map(|()| None),
        }
    }
}

/// Fewer than of the log alone: each life is a hundred times as long.
fn lives() -> u64 {
    power_cuts() / 10
}

#[test]
fn a_whole_store_survives_kills_power_cuts_and_failing_syncs() {
    for seed in 0..lives().div_ceil(LIVES) {
        if let Err(broken) = run_disk(seed, None) {
            panic!("{broken}");
        }
    }
}

#[test]
fn a_graph_that_was_not_synced_is_noticed() {
    let graphs = |point: &SyncPoint<'_>| {
        point.kind == SyncKind::File && point.path.starts_with("/data/shards/0/indexes")
    };
    let noticed = (0..40).find_map(|seed| run_disk(seed, Some(graphs)).err());
    println!("without it: {}", noticed.expect("leaving out the sync goes unnoticed"));
}
