//! An export: all keys of a data directory, or of a running server, as an RDB file or as commands.

use super::address::Address;
use super::arguments::{ExportArgs, ExportFormat};
use super::connection::ServerLink;
use super::error::MoveError;
use super::fetching;
use super::files::{FileMaker, FileReader};
use super::indexes::{indexes_of, shown_words};
use super::offline::ProgramParts;
use super::progress::{ProgressLine, size};
use super::tally::TypeCounts;
use super::words::CommandMaker;
use engramdb_engine::backup::BackupError;
use engramdb_engine::data_dir::{DataDirError, LOG_DIRECTORY, SNAPSHOT_DIRECTORY, check_data_directory};
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::{Entry, Keyspace, ValueRef};
use engramdb_engine::log::local::{LocalLog, LocalOptions};
use engramdb_engine::rdb::save_value;
use engramdb_engine::recovery::{self, StartError, StartOptions};
use engramdb_rdb::payload::{Payload, seal};
use engramdb_rdb::{FileWriter, RdbFile, RdbRecord, writer};
use engramdb_resp::encode_command_into;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// What an export did.
#[derive(Default)]
struct Exported {
    tally: TypeCounts,
    bytes: u64,
    /// Types that RDB has no form for, with their keys.
    left_out: BTreeMap<String, u64>,
    /// How many libraries of functions the file has.
    functions: u64,
    /// Commands of definitions that an RDB file has no form for, each with its database.
    definitions: Vec<(u32, String)>,
}

/// Runs `engramdb export`.
///
/// # Errors
/// What [`MoveError`] says. There is no file then.
pub fn export(
    env: &Env,
    arguments: &ExportArgs,
    parts: ProgramParts<'_>,
    out: &mut dyn Write,
) -> Result<(), MoveError> {
    let mut line = ProgressLine::new(env);
    let done = match &arguments.from {
        Some(address) => export_server(env, arguments, address, &mut line),
        None => export_directory(env, arguments, parts, &mut line),
    };
    let took = line.end();
    let exported = done?;
    if arguments.json {
        let value = json!({
            "file": arguments.file, "types": exported.tally.json(), "keys": exported.tally.keys(),
            "left_out": exported.left_out, "functions": exported.functions,
            "definitions_left_out": exported.definitions.iter().map(|(_, command)| command).collect::<Vec<_>>(),
            "bytes": exported.bytes, "seconds": took.as_secs_f64(),
        });
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    write!(out, "{}", exported.tally.table())?;
    for (name, keys) in &exported.left_out {
        writeln!(out, "{keys} keys of type {name} were left out: RDB has no form for them")?;
    }
    if exported.functions > 0 {
        writeln!(out, "{} libraries of functions are in the file", exported.functions)?;
    }
    if !exported.definitions.is_empty() {
        writeln!(out, "definitions of indexes are not in the file. Run, where RediSearch is loaded:")?;
    }
    for (database, command) in &exported.definitions {
        let place = if *database == 0 { String::new() } else { format!("(database {database}) ") };
        writeln!(out, "  {place}{command}")?;
    }
    let file = arguments.file.display();
    writeln!(out, "exported {file} ({}) in {:.2} s", size(exported.bytes), took.as_secs_f64())?;
    match arguments.format {
        ExportFormat::Rdb => {
            writeln!(out, "Next: redis-server --dir DIRECTORY --dbfilename FILE starts on it")?
        }
        ExportFormat::Commands => writeln!(out, "Next: redis-cli --pipe < {file}")?,
    }
    Ok(())
}

/// Takes keys in the form of the export.
enum Exporter {
    Rdb(FileWriter<FileMaker>),
    Commands { file: FileMaker, database: Option<u32>, bytes: u64 },
}

impl Exporter {
    fn begin(
        format: ExportFormat,
        file: FileMaker,
        version: u32,
        program: &str,
    ) -> Result<Exporter, MoveError> {
        Ok(match format {
            ExportFormat::Commands => Exporter::Commands { file, database: None, bytes: 0 },
            ExportFormat::Rdb => {
                // Redis shows the first one, and refuses files that name a later version of its own.
                let notes = [("engramdb-ver", program), ("redis-bits", "64"), ("aof-base", "0")];
                Exporter::Rdb(FileWriter::begin(file, version, &notes)?)
            }
        })
    }

    /// `value` is type and bytes, of this version; `buffer` is emptied.
    fn key(
        &mut self,
        (database, key, expires_at_ms): (u32, &[u8], u64),
        (version, value): (u32, &mut Vec<u8>),
    ) -> Result<(), MoveError> {
        match self {
            Exporter::Rdb(writer) => writer.key(database, key, expires_at_ms, value)?,
            Exporter::Commands { file, database: last, bytes } => {
                let mut out = Vec::new();
                if last.replace(database) != Some(database) {
                    encode_command_into(&mut out, &["SELECT", &database.to_string()]);
                }
                seal(version, value);
                let payload = Payload::open(value);
                let payload = payload.ok_or_else(|| unreadable(key))?;
                let mut maker = CommandMaker::new(key);
                let mut each = |words: &[&[u8]]| {
                    encode_command_into(&mut out, words);
                    Ok(())
                };
                let read = payload.read(&mut |part| maker.take(part, &mut each));
                read.map_err(|_| unreadable(key))?;
                maker.finish(expires_at_ms, &mut each)?;
                file.write_all(&out)?;
                *bytes += out.len() as u64;
            }
        }
        Ok(())
    }

    /// A command that makes a definition; false if the file has no form for it.
    fn definition(&mut self, database: u32, words: &[Vec<u8>]) -> Result<bool, MoveError> {
        match self {
            Exporter::Rdb(writer) => {
                let [name, .., code] = words else { return Ok(false) };
                let is_library = name == b"FUNCTION";
                if is_library {
                    writer.function(code)?;
                }
                Ok(is_library)
            }
            Exporter::Commands { file, database: last, bytes } => {
                let mut out = Vec::new();
                if last.replace(database) != Some(database) {
                    encode_command_into(&mut out, &["SELECT", &database.to_string()]);
                }
                encode_command_into(&mut out, words);
                file.write_all(&out)?;
                *bytes += out.len() as u64;
                Ok(true)
            }
        }
    }

    fn finish(self) -> Result<u64, MoveError> {
        match self {
            Exporter::Rdb(writer) => {
                // The end and the checksum.
                let bytes = writer.bytes() + 9;
                writer.finish()?.finish()?;
                Ok(bytes)
            }
            Exporter::Commands { file, bytes, .. } => file.finish().map(|()| bytes),
        }
    }
}

fn unreadable(key: &[u8]) -> MoveError {
    MoveError::Key { key: key.to_vec(), text: "its value cannot be read".to_owned() }
}

fn export_directory(
    env: &Env,
    arguments: &ExportArgs,
    parts: ProgramParts<'_>,
    line: &mut ProgressLine,
) -> Result<Exported, MoveError> {
    let directory = &arguments.dir;
    let unusable = |error: DataDirError| MoveError::Directory(BackupError::Directory(error));
    check_data_directory(&*env.disk, directory).map_err(unusable)?;
    let has_log = env.disk.exists(&directory.join(LOG_DIRECTORY));
    if !has_log.map_err(|error| MoveError::Read { file: directory.clone(), error })? {
        return Err(MoveError::Directory(BackupError::NoLog { directory: directory.clone() }));
    }
    let options = LocalOptions { background: false, ..LocalOptions::default() };
    let log =
        LocalLog::open(env.clone(), &directory.join(LOG_DIRECTORY), options).map_err(StartError::from)?;
    let snapshots = directory.join(SNAPSHOT_DIRECTORY);
    let (recovering, ..) = recovery::recover(env, &snapshots, &log, parts.modules, &StartOptions::default())?;
    let commands: Vec<_> =
        recovering.modules().iter().flat_map(|module| module.defining_commands()).collect();
    export_keyspace(env, arguments, (recovering.keyspace(), &commands), parts.version, line)
}

fn export_keyspace(
    env: &Env,
    arguments: &ExportArgs,
    (keyspace, definitions): (&Keyspace, &[DefiningCommand]),
    program: &str,
    line: &mut ProgressLine,
) -> Result<Exported, MoveError> {
    let now_ms = env.clock.wall_ms();
    let file = FileMaker::create(env, &arguments.file)?;
    let mut exported = Exported::default();
    let version = version_of(keyspace);
    let mut exporter = Exporter::begin(arguments.format, file, version, program)?;
    let mut value = Vec::new();
    for (number, database) in keyspace.databases().iter().enumerate() {
        for entry in database.iter().filter(|entry| entry.alive(now_ms)) {
            value.clear();
            match save_value(entry.value(), now_ms, &mut value) {
                Err(refusal) => *exported.left_out.entry(refusal.0.to_owned()).or_default() += 1,
                Ok(version) => {
                    let place = (number as u32, entry.key(), entry.expires_at_ms());
                    exporter.key(place, (version, &mut value))?;
                    exported.tally.add(entry.value().type_name(), entry.value().len() as u64);
                }
            }
            line.show("exporting", (0, 0), exported.tally.keys());
        }
    }
    for (database, words) in definitions {
        let is_library = words.first().is_some_and(|name| name == b"FUNCTION");
        exported.functions += u64::from(is_library);
        if !exporter.definition(*database, words)? {
            exported.definitions.push((*database, shown_words(words)));
        }
    }
    exported.bytes = exporter.finish()?;
    Ok(exported)
}

/// A database, and the words of a command.
type DefiningCommand = (u32, Vec<Vec<u8>>);

/// The lowest version that has all values.
fn version_of(keyspace: &Keyspace) -> u32 {
    let is_timed = |entry: &Entry| matches!(entry.value(), ValueRef::Hash(hash) if hash.expiring() > 0);
    let is_timed = keyspace.databases().iter().any(|database| database.iter().any(is_timed));
    if is_timed { writer::VERSION_TIMES } else { writer::VERSION }
}

/// The data of a running server, by SCAN and DUMP.
fn export_server(
    env: &Env,
    arguments: &ExportArgs,
    address: &str,
    line: &mut ProgressLine,
) -> Result<Exported, MoveError> {
    let mut connection = ServerLink::open(&Address::parse(address)?)?;
    let indexes = indexes_of(&mut connection)?;
    let definitions = indexes.into_iter().map(|index| match index.words {
        Ok(words) => (0, shown_words(&words)),
        Err(cause) => (0, format!("FT.CREATE {} ... ({cause})", String::from_utf8_lossy(&index.name))),
    });
    let definitions: Vec<_> = definitions.collect();
    if arguments.format == ExportFormat::Rdb {
        let mut file = FileMaker::create(env, &arguments.file)?;
        fetching::scan(&mut connection, &mut file, line)?;
        file.finish()?;
        return Ok(Exported { definitions, ..tally_of(env, &arguments.file)? });
    }
    let mut between = arguments.file.as_os_str().to_owned();
    between.push(".rdb.tmp");
    let between = Path::new(&between);
    let mut file = FileMaker::create(env, between)?;
    fetching::scan(&mut connection, &mut file, line)?;
    file.finish()?;
    let converted = convert(env, between, arguments);
    _ = env.disk.remove(between);
    Ok(Exported { definitions, ..converted? })
}

/// Writes an RDB file as commands.
fn convert(env: &Env, from: &Path, arguments: &ExportArgs) -> Result<Exported, MoveError> {
    let file = FileMaker::create(env, &arguments.file)?;
    let mut exporter = Exporter::begin(arguments.format, file, writer::VERSION_TIMES, "")?;
    let (exported, libraries) = walk(env, from, &mut |place, value| exporter.key(place, value))?;
    for code in libraries {
        let words = [&b"FUNCTION"[..], b"LOAD", b"REPLACE", &code].map(<[u8]>::to_vec);
        exporter.definition(0, &words)?;
    }
    Ok(Exported { bytes: exporter.finish()?, ..exported })
}

fn tally_of(env: &Env, path: &Path) -> Result<Exported, MoveError> {
    Ok(walk(env, path, &mut |_, _| Ok(()))?.0)
}

type EachKey<'e> = dyn FnMut((u32, &[u8], u64), (u32, &mut Vec<u8>)) -> Result<(), MoveError> + 'e;

/// Reads a file that was made here. Also returns the libraries of functions.
fn walk(env: &Env, path: &Path, each: &mut EachKey<'_>) -> Result<(Exported, Vec<Vec<u8>>), MoveError> {
    let mut libraries = Vec::new();
    let (reader, bytes) = FileReader::open(&*env.disk, path)?;
    let mut exported = Exported { bytes, ..Exported::default() };
    let failed = |error, position| MoveError::Rdb { file: path.to_owned(), error, position, key: Vec::new() };
    let mut file = RdbFile::open(reader).map_err(|error| failed(error, 0))?;
    loop {
        match file.next_record().map_err(|error| failed(error, file.position()))? {
            RdbRecord::End => {
                exported.functions = libraries.len() as u64;
                return Ok((exported, libraries));
            }
            RdbRecord::Key(header) => {
                let raw =
                    file.raw_value(&header, usize::MAX).map_err(|error| failed(error, file.position()))?;
                let mut raw = raw.expect("there is no limit");
                let name = match raw.module {
                    Some(id) => engramdb_rdb::module_name(id).0,
                    None => header.kind().map_or("", |kind| kind.name()).to_owned(),
                };
                let place = (header.database as u32, &header.key[..], header.expires_at_ms);
                each(place, (file.version(), &mut raw.bytes))?;
                exported.tally.add(&name, raw.parts);
            }
            RdbRecord::ModuleAux { .. } => {
                file.items(&mut |_| {}).map_err(|error| failed(error, file.position()))?;
            }
            RdbRecord::Aux { .. } => {}
            RdbRecord::Function(code) => libraries.push(code),
        }
    }
}
