//! The offline tools over a data directory: `snapshot create|list|verify` and `log verify|dump`.
//!
//! They take no lock that a running server holds (but `snapshot create` on a stopped directory takes the log's).

use crate::modules;
use clap::{Args, Subcommand};
use engramdb_engine::effect::decode_batch;
use engramdb_engine::env::Env;
use engramdb_engine::log::local::{SealedLog, read_offline};
use engramdb_engine::log::replay::{Checkpoint, Replay};
use engramdb_engine::recovery::{LOG_DIRECTORY, SNAPSHOT_DIRECTORY};
use engramdb_engine::snapshot::SnapshotFile;
use engramdb_engine::snapshot::manifest::{Manifest, ManifestEntry};
use engramdb_engine::snapshot::offline::{OfflineOptions, create_offline};
use std::error::Error;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Directory {
    /// Data directory
    #[arg(long, default_value = "./engramdb-data")]
    dir: PathBuf,
}

#[derive(Subcommand)]
pub enum SnapshotCommand {
    /// Make the next snapshot from the last one and the log; trims the log if no server runs on the directory
    Create {
        #[command(flatten)]
        directory: Directory,
        /// Used by `serve`: the process to end with
        #[arg(long, hide = true)]
        child_of: Option<u32>,
    },
    /// List the valid snapshots, the newest first
    List {
        #[command(flatten)]
        directory: Directory,
        /// The manifest as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read every snapshot whole and check its checksums and its effects
    Verify {
        #[command(flatten)]
        directory: Directory,
    },
}

#[derive(Subcommand)]
pub enum LogCommand {
    /// Read the whole log by the rules of recovery and check every checksum; for a stopped server
    Verify {
        #[command(flatten)]
        directory: Directory,
    },
    /// Print the batches of the log with their effects; for a stopped server
    Dump {
        #[command(flatten)]
        directory: Directory,
        /// Begin with this batch
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Print so many batches at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

type Done = Result<(), Box<dyn Error>>;

pub fn snapshot(command: SnapshotCommand) -> Done {
    match command {
        SnapshotCommand::Create { directory, child_of } => create(&directory.dir, child_of),
        SnapshotCommand::List { directory, json } => list(&directory.dir, json),
        SnapshotCommand::Verify { directory } => verify_snapshots(&directory.dir),
    }
}

pub fn log(command: LogCommand) -> Done {
    match command {
        LogCommand::Verify { directory } => verify_log(&directory.dir),
        LogCommand::Dump { directory, from, limit } => dump_log(&directory.dir, from, limit),
    }
}

fn create(directory: &Path, child_of: Option<u32>) -> Done {
    if let Some(parent) = child_of {
        engramdb_server::snapshots::become_child_of(parent)?;
    }
    let env = Env::system();
    let make = || modules::offline(&env);
    let report = create_offline(&env, directory, &make, &OfflineOptions::default())?;
    report.notes.iter().for_each(|note| println!("{note}"));
    match report.created {
        Some(created) => println!(
            "snapshot {}: {} keys, {} bytes, from {} and {} batches of the log",
            created.file,
            created.keys,
            created.bytes,
            report.base.map_or("nothing".to_owned(), |base| base.file),
            report.batches
        ),
        None => println!("nothing new in the log: the last snapshot is up to date"),
    }
    Ok(())
}

fn manifest(env: &Env, directory: &Path) -> Result<Manifest, Box<dyn Error>> {
    let manifest = Manifest::load(&*env.disk, &directory.join(SNAPSHOT_DIRECTORY))?;
    if manifest.snapshots.is_empty() {
        println!("{} has no snapshots; `engramdb snapshot create` makes one", directory.display());
    }
    Ok(manifest)
}

fn list(directory: &Path, json: bool) -> Done {
    let env = Env::system();
    let manifest = manifest(&env, directory)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&manifest)?);
        return Ok(());
    }
    let now_ms = env.clock.wall_ms();
    let row = |entry: &ManifestEntry| {
        let age_s = now_ms.saturating_sub(entry.created_ms) / 1000;
        println!("{:<32} {:>12} {:>14} {:>12} {age_s:>10}", entry.file, entry.keys, entry.bytes, entry.lsn);
    };
    println!("{:<32} {:>12} {:>14} {:>12} {:>10}", "file", "keys", "bytes", "last batch", "age s");
    manifest.snapshots.iter().for_each(row);
    Ok(())
}

fn verify_snapshots(directory: &Path) -> Done {
    let env = Env::system();
    let manifest = manifest(&env, directory)?;
    let mut damaged = 0;
    for entry in &manifest.snapshots {
        let path = directory.join(SNAPSHOT_DIRECTORY).join(&entry.file);
        let checked = SnapshotFile::open(&*env.disk, &path)
            .and_then(|snapshot| snapshot.verify(&env, modules::offline(&env)));
        match checked {
            Ok(()) => println!("{}: sound, {} keys", entry.file, entry.keys),
            Err(error) => {
                damaged += 1;
                println!("{}: {error}", entry.file);
            }
        }
    }
    match damaged {
        0 => Ok(()),
        _ => Err(format!(
            "{damaged} of {} snapshots cannot be used; the server starts from another one if the log reaches back to it",
            manifest.snapshots.len()
        )
        .into()),
    }
}

/// Reads the log from the beginning of its first file.
fn open_log(env: &Env, directory: &Path) -> Result<Replay, Box<dyn Error>> {
    let directory = directory.join(LOG_DIRECTORY);
    let sealed = SealedLog::open(env.clone(), &directory)?;
    let from = sealed.segments().first().map_or(Checkpoint::default(), |segment| Checkpoint {
        mark: segment.header.before,
        lsn: segment.header.lsn,
        checksum: segment.header.checksum,
        engine_time_ms: 0,
    });
    Ok(Replay::over(read_offline(env, &directory, from.mark)?, from))
}

fn verify_log(directory: &Path) -> Done {
    let env = Env::system();
    let mut replay = open_log(&env, directory)?;
    let (mut batches, mut bytes) = (0u64, 0u64);
    while let Some(batch) = replay.next()? {
        batches += 1;
        bytes += batch.bytes.len() as u64;
        for record in decode_batch(batch.bytes) {
            record.map_err(|error| format!("batch {}: {error}", batch.lsn))?;
        }
    }
    let recovered = replay.finish();
    println!("sound: {batches} batches, {bytes} bytes of effects, the last is {}", recovered.checkpoint.lsn);
    let stop = if recovered.clean { "in order" } else { "not in order (a crash, or the server runs)" };
    println!("the last stop was {stop}");
    if !recovered.voided.is_empty() {
        let voided = recovered.voided;
        println!("void, never acknowledged: {} entries, {} batches", voided.entries, voided.batches);
    }
    Ok(())
}

fn dump_log(directory: &Path, from: u64, limit: usize) -> Done {
    let env = Env::system();
    let mut replay = open_log(&env, directory)?;
    let mut printed = 0;
    while let Some(batch) = replay.next()? {
        if batch.lsn.0 < from {
            continue;
        }
        if printed == limit {
            println!("… more; --limit and --from show it");
            break;
        }
        printed += 1;
        println!("batch {} at {} ms, epoch {}", batch.lsn, batch.engine_time_ms, batch.epoch.0);
        for record in decode_batch(batch.bytes) {
            let record = record?;
            println!("    {record}");
        }
    }
    Ok(())
}
