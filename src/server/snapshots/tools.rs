//! The offline tools: `snapshot create|list|verify|repair` and `log verify|dump`. None of them needs a
//! stopped server; only `create` and `repair` write.

use super::dump::{self, Shown};
use super::machine;
use super::text_table::{moment, table};
use clap::{Args, Subcommand};
use engramdb_engine::data_dir::{DataDirError, LOG_DIRECTORY, SNAPSHOT_DIRECTORY, has_old_layout};
use engramdb_engine::env::Env;
use engramdb_engine::log::entry::{decode_entry, entry_length};
use engramdb_engine::log::local::{BLOCK_BYTES, Catalog, LocalOptions, SegmentInfo, read_offline};
use engramdb_engine::log::replay::{Checkpoint, Replay};
use engramdb_engine::log::{LogId, Mark, Pos, Step, Wait};
use engramdb_engine::snapshot::create::{CreateOptions, MakeModules};
use engramdb_engine::snapshot::manifest::{Manifest, ManifestEntry};
use engramdb_engine::snapshot::offline::OfflineOptions;
use engramdb_engine::snapshot::{self, SnapshotFile, create_offline, create_stopped};
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What `engramdb snapshot` can do.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Make the next snapshot from the last one and the log
    Create(CreateArgs),
    /// List the valid snapshots
    List(DirectoryArgs),
    /// Read every listed snapshot whole and load it on trial
    Verify(DirectoryArgs),
    /// Write the manifest anew from the snapshot files that pass verification
    Repair(DirectoryArgs),
}

/// The subcommands of `engramdb log`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Check every segment and entry, and the order of batches
    Verify(DirectoryArgs),
    /// Show entries, batches and effects
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
pub struct DirectoryArgs {
    /// Data directory
    #[arg(long, default_value = "./engramdb-data")]
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub directory: DirectoryArgs,
    /// How many snapshots to keep
    #[arg(long, default_value_t = 2)]
    pub retain: usize,
    /// Do not seal or trim the log, so that a server may run on the directory; its last writes are left out
    #[arg(long)]
    pub sealed_only: bool,
    /// The server that started this process; it ends with it
    #[arg(long, hide = true)]
    pub parent: Option<u32>,
}

#[derive(Debug, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    pub directory: DirectoryArgs,
    /// First position to show
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// How many entries to show
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// How many effects of an entry to show
    #[arg(long, default_value_t = 20)]
    pub effects: usize,
    /// How many characters of an effect to show
    #[arg(long, default_value_t = 200)]
    pub width: usize,
}

pub type ToolResult = Result<(), Box<dyn Error>>;

/// Runs a `snapshot` command. `modules` makes them for offline use: definitions only, no indexes.
pub fn snapshot(command: SnapshotCommand, modules: MakeModules<'_>, out: &mut dyn Write) -> ToolResult {
    let env = Env::system();
    if let SnapshotCommand::List(at) | SnapshotCommand::Verify(at) | SnapshotCommand::Repair(at) = &command {
        must_be_data_directory(&env, &at.dir)?;
    }
    match command {
        SnapshotCommand::Create(arguments) => create(&env, &arguments, modules, out),
        SnapshotCommand::List(arguments) => list(&env, &arguments, out),
        SnapshotCommand::Verify(arguments) => verify(&env, &arguments, modules, out),
        SnapshotCommand::Repair(arguments) => repair(&env, &arguments, modules, out),
    }
}

/// Runs a `log` command.
pub fn log(command: LogCommand, out: &mut dyn Write) -> ToolResult {
    let env = Env::system();
    let (LogCommand::Verify(at) | LogCommand::Dump(DumpArgs { directory: at, .. })) = &command;
    must_be_data_directory(&env, &at.dir)?;
    match command {
        LogCommand::Verify(arguments) => verify_log(&env, &arguments, out),
        LogCommand::Dump(arguments) => dump_log(&env, &arguments, out),
    }
}

/// A directory without a log and without snapshots is a mistyped path, not an empty database.
fn must_be_data_directory(env: &Env, directory: &Path) -> ToolResult {
    if has_old_layout(&*env.disk, directory)? {
        return Err(DataDirError::OldLayout { directory: directory.to_owned() }.into());
    }
    for part in [LOG_DIRECTORY, SNAPSHOT_DIRECTORY] {
        if env.disk.exists(&directory.join(part))? {
            return Ok(());
        }
    }
    Err(format!("{} is no data directory: it has neither a log nor snapshots", directory.display()).into())
}

fn create(env: &Env, arguments: &CreateArgs, modules: MakeModules<'_>, out: &mut dyn Write) -> ToolResult {
    if let Some(parent) = arguments.parent
        && !machine::die_with_parent(parent)
    {
        return Err("the server that wanted this snapshot is gone".into());
    }
    machine::run_behind_others();
    let options = OfflineOptions {
        create: CreateOptions { retain: arguments.retain.max(1), ..CreateOptions::default() },
        seal: !arguments.sealed_only,
        log: LocalOptions { background: false, ..LocalOptions::default() },
    };
    let began = env.clock.monotonic();
    let create = if arguments.sealed_only { create_offline } else { create_stopped };
    let report = create(env, &arguments.directory.dir, modules, &options)?;
    let took = env.clock.monotonic() - began;
    report.notes.iter().for_each(engramdb_console::note);
    if arguments.directory.json {
        let value = json!({
            "created": report.created, "base": report.base, "batches": report.batches, "carried": report.carried,
            "notes": report.notes, "seconds": took.as_secs_f64(),
            "peak_memory_bytes": machine::peak_memory_bytes(),
        });
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    match &report.created {
        None => writeln!(out, "the log holds nothing that is not in the last snapshot")?,
        Some(entry) => writeln!(
            out,
            "{}: {} keys, {} bytes, {} batches of the log, in {:.2} s{}{}",
            entry.file,
            entry.keys,
            entry.bytes,
            report.batches,
            took.as_secs_f64(),
            match report.carried {
                0 => String::new(),
                carried => format!(", {carried} keys followed through renames and copies"),
            },
            machine::peak_memory_bytes()
                .map_or(String::new(), |bytes| format!(", {} MiB at most", bytes >> 20)),
        )?,
    }
    Ok(())
}

fn list(env: &Env, arguments: &DirectoryArgs, out: &mut dyn Write) -> ToolResult {
    let manifest = Manifest::load(&*env.disk, &arguments.dir.join(SNAPSHOT_DIRECTORY))?;
    if arguments.json {
        writeln!(out, "{:#}", serde_json::to_value(&manifest)?)?;
        return Ok(());
    }
    let rows: Vec<_> = manifest.snapshots.iter().map(row).collect();
    out.write_all(table(HEADINGS, &rows).as_bytes())?;
    Ok(())
}

const HEADINGS: &[&str] = &["file", "keys", "bytes", "last batch", "log position", "created (UTC)"];

fn row(entry: &ManifestEntry) -> Vec<String> {
    let numbers = [entry.keys, entry.bytes, entry.lsn, entry.pos].map(|number| number.to_string());
    [vec![entry.file.clone()], numbers.to_vec(), vec![moment(entry.created_ms)]].concat()
}

fn verify(env: &Env, arguments: &DirectoryArgs, modules: MakeModules<'_>, out: &mut dyn Write) -> ToolResult {
    let directory = arguments.dir.join(SNAPSHOT_DIRECTORY);
    let manifest = Manifest::load(&*env.disk, &directory)?;
    let mut results = Vec::new();
    for entry in &manifest.snapshots {
        let checked = SnapshotFile::open(&*env.disk, &directory.join(&entry.file)).and_then(|snapshot| {
            snapshot.verify(env, modules())?;
            Ok(snapshot.trailer().crc == entry.crc32c && snapshot.bytes() == entry.bytes)
        });
        results.push(match checked {
            Ok(true) => "good".to_owned(),
            Ok(false) => "not the file that the manifest names".to_owned(),
            Err(error) => error.to_string(),
        });
    }
    let pairs = manifest.snapshots.iter().zip(&results);
    if arguments.json {
        let values: Vec<Value> =
            pairs.map(|(entry, result)| json!({"snapshot": entry, "result": result})).collect();
        writeln!(out, "{:#}", Value::from(values))?;
    } else {
        let rows: Vec<_> = pairs.map(|(entry, result)| [row(entry), vec![result.clone()]].concat()).collect();
        out.write_all(table(&[HEADINGS, &["result"]].concat(), &rows).as_bytes())?;
    }
    match results.iter().filter(|result| *result != "good").count() {
        0 => Ok(()),
        bad => Err(format!("{bad} of {} snapshots cannot be used", results.len()).into()),
    }
}

fn repair(env: &Env, arguments: &DirectoryArgs, modules: MakeModules<'_>, out: &mut dyn Write) -> ToolResult {
    let directory = arguments.dir.join(SNAPSHOT_DIRECTORY);
    let (manifest, problems) = snapshot::repair(env, &directory, modules)?;
    problems.iter().for_each(engramdb_console::note);
    list(env, arguments, out)?;
    if manifest.snapshots.is_empty() && !problems.is_empty() {
        return Err("no snapshot passed its verification".into());
    }
    Ok(())
}

/// What a walk over one segment found.
struct Walk {
    entries: u64,
    /// Ranges of blocks that hold neither an entry nor zeros: offset and length in bytes.
    unreadable: Vec<(u64, u64)>,
}

fn verify_log(env: &Env, arguments: &DirectoryArgs, out: &mut dyn Write) -> ToolResult {
    let directory = arguments.dir.join(LOG_DIRECTORY);
    let catalog = Catalog::load(&*env.disk, &directory)?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (index, segment) in catalog.started.iter().enumerate() {
        let state = if index + 1 < catalog.started.len() { "sealed" } else { "open" };
        let walk = walk(env, segment)?;
        let places: Vec<String> =
            walk.unreadable.iter().map(|(offset, length)| format!("{offset}+{length}")).collect();
        let header = &segment.header;
        values.push(json!({
            "file": segment.path, "state": state, "after_pos": header.before.pos.0, "after_lsn": header.lsn.0,
            "entries": walk.entries, "unreadable": walk.unreadable,
        }));
        let numbers = [header.number, header.before.pos.0 + 1, header.lsn.0 + 1, walk.entries];
        let numbers = numbers.map(|number| number.to_string());
        rows.push([numbers.to_vec(), vec![state.to_owned(), places.join(" ")]].concat());
    }
    let verdict = replay_all(env, arguments, &catalog);
    if arguments.json {
        let (verdict, problem) = match &verdict {
            Ok(text) => (Some(text.clone()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let value = json!({ "segments": values, "log_is_good": verdict, "problem": problem });
        writeln!(out, "{value:#}")?;
    } else {
        let headings =
            ["segment", "first position", "first batch", "entries", "state", "unreadable (offset+bytes)"];
        out.write_all(table(&headings, &rows).as_bytes())?;
    }
    let verdict = verdict?;
    if !arguments.json {
        writeln!(out, "{verdict}")?;
    }
    Ok(())
}

/// Reads the log by the rules of recovery. Returns a summary of its content.
fn replay_all(env: &Env, arguments: &DirectoryArgs, catalog: &Catalog) -> Result<String, Box<dyn Error>> {
    let Some(first) = catalog.started.first().map(|segment| segment.header) else {
        return Ok("the log is empty".to_owned());
    };
    let from = Checkpoint { mark: first.before, lsn: first.lsn, checksum: first.checksum, engine_time_ms: 0 };
    let mut replay = Replay::over(read_offline(env, &arguments.dir.join(LOG_DIRECTORY), first.before)?, from);
    let mut batches = 0u64;
    while replay.next()?.is_some() {
        batches += 1;
    }
    let recovered = replay.finish();
    let voided = &recovered.voided;
    let parent = match first.parent {
        parent if parent == LogId::default() => String::new(),
        parent => format!("; restored from log {parent} at position {}", first.parent_pos),
    };
    let torn = voided.torn_tail.as_ref().map_or(String::new(), |place| format!(", from {place}"));
    Ok(format!(
        "the log is good: {batches} batches through {}, {}; void at its end: {} entries, {} batches{torn}{parent}",
        recovered.checkpoint.lsn,
        if recovered.clean { "stopped in order" } else { "not stopped in order, or still being written" },
        voided.entries,
        voided.batches,
    ))
}

/// Reads every block: a replay stops at the first damage, this continues after it.
fn walk(env: &Env, segment: &SegmentInfo) -> Result<Walk, Box<dyn Error>> {
    let bytes = env.disk.read(&segment.path)?;
    let mut walk = Walk { entries: 0, unreadable: Vec::new() };
    let mut offset = BLOCK_BYTES;
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        let block = &rest[..rest.len().min(BLOCK_BYTES)];
        let length = match decode_entry(rest).is_ok().then(|| entry_length(rest)) {
            Some(Ok(length)) => {
                walk.entries += 1;
                length.next_multiple_of(BLOCK_BYTES)
            }
            _ if block.iter().all(|byte| *byte == 0) => BLOCK_BYTES,
            _ => {
                match walk.unreadable.last_mut() {
                    Some((start, length)) if *start + *length == offset as u64 => {
                        *length += block.len() as u64
                    }
                    _ => walk.unreadable.push((offset as u64, block.len() as u64)),
                }
                BLOCK_BYTES
            }
        };
        offset += length;
    }
    Ok(walk)
}

fn dump_log(env: &Env, arguments: &DumpArgs, out: &mut dyn Write) -> ToolResult {
    let directory = arguments.directory.dir.join(LOG_DIRECTORY);
    let catalog = Catalog::load(&*env.disk, &directory)?;
    let first = catalog.started.first().map_or(Pos(0), |segment| segment.header.before.pos);
    let after = Mark { pos: Pos(arguments.from.saturating_sub(1)).max(first), ..Mark::default() };
    let mut entries = read_offline(env, &directory, after)?;
    let shown = Shown { effects: arguments.effects, width: arguments.width };
    for _ in 0..arguments.limit {
        let Step::Entry(entry) = entries.next(Wait::No)? else { break };
        let entry = dump::entry(&entry, shown);
        if arguments.directory.json {
            writeln!(out, "{entry}")?;
        } else {
            out.write_all(dump::lines(&entry).as_bytes())?;
        }
    }
    Ok(())
}
