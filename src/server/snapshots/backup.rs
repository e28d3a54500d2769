//! `engramdb backup`, `engramdb backup verify` and `engramdb restore`: the commands around the engine's
//! `backup`.

use super::machine;
use super::text_table::moment;
use super::tools::ToolResult;
use clap::{Args, Subcommand};
use engramdb_engine::backup::manifest::BackupManifest;
use engramdb_engine::backup::{self, BackupOptions, BackupReport, Progress, RestoreReport};
use engramdb_engine::env::{Clock, Env};
use engramdb_engine::snapshot::create::MakeModules;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The arguments of `engramdb backup`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  engramdb backup --dir ./engramdb-data --to /backups/monday    while the server runs, or when it is stopped
  engramdb backup verify /backups/monday                        reads every byte; exit status 1 if it is damaged
  engramdb restore --from /backups/monday --to ./new-data       then: engramdb serve --dir ./new-data

A backup holds every write that was acknowledged before the command began. On the same file system its snapshot is a hard
link, which costs no room and no time, and is lost together with the disk: copy the directory to another one, with any tool.
docs/backup.md tells more.")]
pub struct BackupArgs {
    #[command(subcommand)]
    pub command: Option<BackupCommand>,
    /// Data directory
    #[arg(long, default_value = "./engramdb-data")]
    pub dir: PathBuf,
    /// Where to write the backup: a directory that is empty, or does not exist yet
    #[arg(long, value_name = "DIRECTORY", required = true)]
    pub to: Option<PathBuf>,
    /// Copy every file, even where a hard link could be made
    #[arg(long)]
    pub copy: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Read every byte of a backup, compare it with its checksums, and load it on trial
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The backup's directory
    pub backup: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `engramdb restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  engramdb restore --from /backups/monday --to ./new-data
  engramdb restore --from /elsewhere/snapshots --to ./new-data    a copy of a data directory's `snapshots`, without its log

The result is a data directory of its own: `engramdb serve --dir ./new-data` starts on it.")]
pub struct RestoreArgs {
    /// A backup, or a copy of the directory `snapshots` of a data directory
    #[arg(long, value_name = "DIRECTORY")]
    pub from: PathBuf,
    /// The new data directory: empty, or not there yet
    #[arg(long, value_name = "DIRECTORY")]
    pub to: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `engramdb backup` and `engramdb backup verify`. `modules` makes them for offline use; `derived` names
/// the folders of a data directory that hold derived state; `program` is the version of this program.
pub fn backup(
    arguments: &BackupArgs,
    modules: MakeModules<'_>,
    (derived, program): (&[&str], &str),
    out: &mut dyn Write,
) -> ToolResult {
    let env = Env::system();
    if let Some(BackupCommand::Verify(arguments)) = &arguments.command {
        return verify(&env, arguments, modules, derived, out);
    }
    machine::run_behind_others();
    let to = arguments.to.as_ref().expect("clap requires it");
    must_be_outside(to, &arguments.dir, "the data directory")?;
    let options = BackupOptions { copies_only: arguments.copy, derived, program };
    let mut shown = Shown::new(&*env.clock);
    let report =
        backup::create(&env, &arguments.dir, to, modules, &options, &mut |progress| shown.show(progress));
    let took = shown.end();
    let report = report?;
    report.notes.iter().for_each(engramdb_console::note);
    let said = say_made(arguments.json, to, &report, took, out);
    said.inspect_err(|_| note_whole("backup", to)).map_err(Into::into)
}

/// Tells that a backup was made.
fn say_made(
    is_json: bool,
    to: &Path,
    report: &BackupReport,
    took: Duration,
    out: &mut dyn Write,
) -> io::Result<()> {
    if is_json {
        let value = json!({
            "backup": report.manifest, "linked_bytes": report.linked_bytes, "notes": report.notes,
            "seconds": took.as_secs_f64(),
        });
        return writeln!(out, "{value:#}");
    }
    let linked = match report.linked_bytes {
        0 => String::new(),
        bytes => format!(", {} of them as hard links", size(bytes)),
    };
    let (to, bytes) = (to.display(), size(report.manifest.bytes()));
    writeln!(
        out,
        "backup made in {to}: {}; {} files, {bytes}{linked}, in {:.2} s",
        content(&report.manifest),
        report.manifest.files.len(),
        took.as_secs_f64(),
    )?;
    writeln!(
        out,
        "Next: copy {to} to another disk or machine, and check the copy there with `engramdb backup verify`.\n\
         `engramdb restore --from {to} --to DIRECTORY` brings it back."
    )
}

/// What was made stays where only the report of it could not be printed: it is whole, and was verified.
fn note_whole(what: &str, to: &Path) {
    let to = to.display();
    engramdb_console::note(format_args!(
        "engramdb: the {what} in {to} is whole and stays; only this report of it could not be printed"
    ));
}

/// Refuses a target within the source directory: it would be lost with the source, or be read as a part of
/// it.
#[expect(
    clippy::disallowed_methods,
    reason = "the user names directories, and the engine's disk knows no links"
)]
fn must_be_outside(target: &Path, source: &Path, what: &str) -> ToolResult {
    let (Ok(real_source), Ok(absolute)) = (std::fs::canonicalize(source), std::path::absolute(target)) else {
        // If the source does not exist, a later check reports that.
        return Ok(());
    };
    // If the target does not exist yet, the directory in which it would be created.
    let real = absolute.ancestors().find_map(|ancestor| std::fs::canonicalize(ancestor).ok());
    let is_itself = std::fs::canonicalize(target).is_ok_and(|target| target == real_source);
    if !is_itself && real.is_some_and(|real| real.starts_with(&real_source)) {
        let (target, source) = (target.display(), source.display());
        return Err(
            format!("{target} is inside {source}, {what}: give a directory outside of it with --to").into()
        );
    }
    Ok(())
}

fn verify(
    env: &Env,
    arguments: &VerifyArgs,
    modules: MakeModules<'_>,
    derived: &[&str],
    out: &mut dyn Write,
) -> ToolResult {
    let mut shown = Shown::new(&*env.clock);
    let report =
        backup::verify(env, &arguments.backup, modules, derived, &mut |progress| shown.show(progress));
    let took = shown.end();
    let report = report?;
    if arguments.json {
        let value = json!({
            "backup": report.manifest, "problems": report.problems, "notes": report.notes,
            "seconds": took.as_secs_f64(),
        });
        writeln!(out, "{value:#}")?;
    } else {
        report.notes.iter().for_each(engramdb_console::note);
        report.problems.iter().try_for_each(|problem| writeln!(out, "{problem}"))?;
    }
    let backup = arguments.backup.display();
    if !report.problems.is_empty() {
        let count = report.problems.len();
        return Err(
            format!("{backup} is not good; problems: {count}. Use another copy of this backup").into()
        );
    }
    if !arguments.json {
        let (content, bytes) = (content(&report.manifest), size(report.manifest.bytes()));
        let made = moment(report.manifest.created_ms);
        writeln!(
            out,
            "{backup} is good: {content}; made {made} UTC; {bytes} read in {:.2} s",
            took.as_secs_f64()
        )?;
    }
    Ok(())
}

/// Runs `engramdb restore`.
pub fn restore(
    arguments: &RestoreArgs,
    modules: MakeModules<'_>,
    derived: &[&str],
    out: &mut dyn Write,
) -> ToolResult {
    let env = Env::system();
    let mut shown = Shown::new(&*env.clock);
    let RestoreArgs { from, to, .. } = arguments;
    must_be_outside(to, from, "what is to be restored")?;
    let report = backup::restore(&env, from, to, modules, derived, &mut |progress| shown.show(progress));
    let took = shown.end();
    let report = report?;
    report.notes.iter().for_each(engramdb_console::note);
    let said = say_restored(arguments, &report, took, out);
    said.inspect_err(|_| note_whole("restored data directory", to)).map_err(Into::into)
}

/// Tells that a backup was restored.
fn say_restored(
    RestoreArgs { from, to, json }: &RestoreArgs,
    report: &RestoreReport,
    took: Duration,
    out: &mut dyn Write,
) -> io::Result<()> {
    let source = &report.source;
    if *json {
        let value = json!({
            "log_id": report.log_id.to_string(), "parent": source.log_id.to_string(), "parent_pos": source.pos,
            "lsn": source.lsn, "snapshot_keys": source.snapshot_keys, "batches": source.batches,
            "snapshots_only": report.snapshots_only, "notes": report.notes, "seconds": took.as_secs_f64(),
        });
        return writeln!(out, "{value:#}");
    }
    let (from, to) = (from.display(), to.display());
    writeln!(
        out,
        "restored {from} into {to}: {}; as of {} UTC, in {:.2} s",
        content(source),
        moment(source.created_ms),
        took.as_secs_f64()
    )?;
    if report.snapshots_only {
        writeln!(out, "It is a snapshot alone: writes that came after it are not there.")?;
    }
    writeln!(
        out,
        "It is log {} from now on, which goes on from log {} at position {}.\n\
         Next: engramdb serve --dir {to}",
        report.log_id, source.log_id, source.pos
    )
}

/// What is in a backup, in words.
fn content(manifest: &BackupManifest) -> String {
    let BackupManifest { snapshot_keys, batches, lsn, .. } = manifest;
    format!("a snapshot of {snapshot_keys} keys, and {batches} batches of the log through batch {lsn}")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Progress on stderr: a line that is overwritten on a terminal, a line every ten seconds elsewhere.
struct Shown<'a> {
    clock: &'a dyn Clock,
    began: Duration,
    last: Duration,
    is_terminal: bool,
    is_open: bool,
}

impl<'a> Shown<'a> {
    fn new(clock: &'a dyn Clock) -> Shown<'a> {
        let now = clock.monotonic();
        let is_terminal = std::io::stderr().is_terminal();
        Shown { clock, began: now, last: now, is_terminal, is_open: false }
    }

    fn show(&mut self, progress: Progress) {
        let now = self.clock.monotonic();
        let pause = if self.is_terminal { Duration::from_millis(200) } else { Duration::from_secs(10) };
        if now - self.last < pause {
            return;
        }
        self.last = now;
        let Progress { step, done_bytes, total_bytes } = progress;
        let total = match total_bytes {
            0 => String::new(),
            total => format!(" of {}", size(total.max(done_bytes))),
        };
        let line = format!("{step}: {}{total}", size(done_bytes));
        if self.is_terminal {
            self.is_open = true;
            // Padded, to cover what was longer.
            engramdb_console::note_part(format_args!("\r{line:<70}"));
        } else {
            engramdb_console::note(line);
        }
    }

    /// Ends the line; how long the work took.
    fn end(&mut self) -> Duration {
        if self.is_open {
            engramdb_console::note_part(format_args!("\r{:<70}\r", ""));
        }
        self.clock.monotonic() - self.began
    }
}
