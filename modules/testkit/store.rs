//! A data directory on the faulty disk, and the keyspace that must be recovered from it.

use engramdb_engine::data_dir;
use engramdb_engine::effect::{Cause, Effect, List, Record};
use engramdb_engine::log::local::{LocalLog, LocalOptions};
use engramdb_engine::log::pipeline::{Options, Pipeline};
use engramdb_engine::log::{Pos, Purpose, ShardLog};
use engramdb_engine::recovery::{self, Recovering, StartReport};
use engramdb_engine::snapshot::create::CreateOptions;
use engramdb_engine::snapshot::create_offline;
use engramdb_engine::snapshot::digest::keyspace_digests;
use engramdb_engine::snapshot::manifest::Manifest;
use engramdb_engine::snapshot::offline::OfflineOptions;
use engramdb_sim::env::SimEnv;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn directory() -> &'static Path {
    Path::new("/data")
}

pub fn snapshots() -> PathBuf {
    directory().join(data_dir::SNAPSHOT_DIRECTORY)
}

/// Small, so that a few batches fill a segment.
pub fn small_segments() -> LocalOptions {
    LocalOptions {
        segment_bytes: 64 << 10,
        entry_bytes_max: 8 << 10,
        entries_in_flight_max: 4,
        background: false,
    }
}

pub fn offline(retain: usize) -> OfflineOptions {
    OfflineOptions {
        create: CreateOptions { retain, ..CreateOptions::default() },
        seal: true,
        log: small_segments(),
    }
}

/// A store that is being written.
pub struct Store {
    pub sim: SimEnv,
    /// The expected content, in memory.
    pub live: Recovering,
    pub log: Arc<dyn ShardLog>,
    pub pipeline: Pipeline,
    pub report: StartReport,
    written: u64,
}

impl Store {
    /// Recovers from the content of the disk; errors are text.
    pub fn open(sim: SimEnv) -> Result<Store, String> {
        let log = LocalLog::open(sim.env.clone(), &directory().join("shards/0/log"), small_segments());
        let log: Arc<dyn ShardLog> = Arc::new(log.map_err(|error| error.to_string())?);
        let recovered =
            recovery::recover(&sim.env, &snapshots(), &*log, &Vec::new, &recovery::StartOptions::default());
        let (recovering, recovered, report) = recovered.map_err(|error| error.to_string())?;
        // The log runs in the caller's thread, so that a run is a function of its seed.
        let options = Options { log_thread: false, ..Options::default() };
        let pipeline =
            Pipeline::start(log.clone(), &recovered, options).map_err(|error| error.to_string())?;
        Ok(Store { sim, live: recovering, log, pipeline, report, written: recovered.checkpoint.lsn.0 })
    }

    /// A new store with a snapshot after each of these numbers of writes, and `behind` more writes. `retain`
    /// snapshots are kept.
    pub fn with_snapshots(seed: u64, writes: &[u64], retain: usize, behind: u64) -> Store {
        let mut store = Store::open(SimEnv::new(seed)).expect("an empty disk is fine");
        for &count in writes {
            store.write_some(count);
            store.snapshot(retain).expect("nothing fails yet");
        }
        store.write_some(behind);
        store
    }

    /// Applies one effect, logs it as a batch and waits until it is durable.
    pub fn write(&mut self, database: u32, effect: Effect<'_>) {
        self.write_for(database, effect, Purpose::Any);
    }

    /// The same for an effect that frees memory, on a full disk.
    pub fn write_freeing(&mut self, database: u32, effect: Effect<'_>) {
        self.write_for(database, effect, Purpose::Freeing);
    }

    fn write_for(&mut self, database: u32, effect: Effect<'_>, purpose: Purpose) {
        let mut batch = Vec::new();
        effect.encode(database, &mut batch);
        // The first answer may be that the next segment is not prepared yet; asking prepares it.
        let admit = || self.pipeline.admit_run(1, batch.len(), purpose);
        let admitted = admit().or_else(|_| admit());
        let mut credit = admitted.expect("there is room");
        let lsn = self.pipeline.last_lsn().next();
        self.live.apply_record(lsn, &Record { database, effect }).expect("the test's effects fit");
        self.pipeline.submit(&mut credit, lsn, 1_700_000_000_000 + lsn.0, &batch);
        drop(credit);
        self.pipeline.pump();
        assert_eq!(self.pipeline.durable(), lsn);
    }

    /// A few writes of several kinds, different each time.
    pub fn write_some(&mut self, count: u64) {
        for _ in 0..count {
            self.written += 1;
            let number = self.written;
            let (key, value) = (format!("key:{}", number % 40), format!("value {number}"));
            let (key, value) = (key.as_bytes(), "x".repeat(number as usize % 700) + &value);
            let fields = [b"field".as_slice(), value.as_bytes(), b"number", b"17"];
            let hash_key = [b"hash:", key].concat();
            self.write(0, Effect::StringSet { key, value: value.as_bytes(), expires_at_ms: number % 3 });
            let effect =
                Effect::HashSet { key: &hash_key, fields: List::Arguments(&fields), keep_expiry: true };
            self.write(1, effect);
            if number.is_multiple_of(5) {
                self.write(0, Effect::Delete { key, cause: Cause::Command });
            }
        }
    }

    /// Does what a serving process does: rotate, let the other process make the snapshot, trim.
    pub fn snapshot(&self, retain: usize) -> Result<(), String> {
        loop {
            match self.pipeline.rotate() {
                Ok(_) => break,
                Err(engramdb_engine::log::pipeline::Refusal::Busy) => {}
                Err(other) => return Err(other.to_string()),
            }
        }
        let report = create_offline(&self.sim.env, directory(), &Vec::new, &offline(retain));
        let report = report.map_err(|error| error.to_string())?;
        assert!(report.carried == 0 && report.notes.is_empty(), "{report:?}");
        report.trim_through.map_or(Ok(()), |upto: Pos| self.log.trim(upto).map_err(|error| error.to_string()))
    }

    /// Ends the process without a stop; returns what was written, for comparison.
    pub fn abandon(self) -> Recovering {
        self.live
    }
}

pub fn manifest(sim: &SimEnv) -> Manifest {
    Manifest::load(&sim.disk, &snapshots()).expect("the manifest is whole")
}

/// The differences between two keyspaces, in words.
pub fn compare(wanted: &Recovering, found: &Recovering) -> Result<(), String> {
    let (wanted, found) = (keyspace_digests(wanted.keyspace()), keyspace_digests(found.keyspace()));
    if wanted == found { Ok(()) } else { Err(format!("{wanted:?} was written, {found:?} came back")) }
}
