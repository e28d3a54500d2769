//! The steps of an import.

use super::address::Address;
use super::arguments::ImportArgs;
use super::connection::ServerLink;
use super::error::MoveError;
use super::fetching::{self, Fetched};
use super::files::FileReader;
use super::indexes::{FoundIndex, indexes_of, shown_words};
use super::offline::{OfflineTarget, ProgramParts};
use super::progress::{ProgressLine, size};
use super::remote::RemoteTarget;
use super::survey::Survey;
use super::tally::TypeCounts;
use super::target::MoveTarget;
use super::words::CommandMaker;
use engramdb_engine::backup::{begin_import, end_import, undo_import};
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::DataTypes;
use engramdb_engine::snapshot::offline::{OfflineOptions, create_offline};
use engramdb_rdb::{KeyHeader, RdbFile, RdbRecord, ValueKind, ValuePart, module_name, payload};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Values of at most this many bytes are restored as they are; larger ones come in parts.
const RESTORED_BYTES_MAX: usize = 4 << 20;
/// The databases of a server, by default.
const DATABASES: u64 = 16;

/// What an import did.
#[derive(Default)]
struct Imported {
    tally: TypeCounts,
    expired: u64,
    skipped: u64,
    functions: u64,
    /// Names of indexes that were made.
    indexes: Vec<String>,
    /// Indexes that were not: name, cause, and the command.
    indexes_left: Vec<LeftIndex>,
}

/// An index that was not made.
struct LeftIndex {
    name: String,
    cause: String,
    command: String,
}

/// Runs `engramdb import`.
///
/// # Errors
/// What [`MoveError`] says. A data directory is then as it was before, or has a mark: no server starts on it.
pub fn import(
    env: &Env,
    arguments: &ImportArgs,
    parts: ProgramParts<'_>,
    out: &mut dyn Write,
) -> Result<(), MoveError> {
    let mut line = ProgressLine::new(env);
    let done = run(env, arguments, parts, &mut line);
    let took = line.end();
    let (survey, imported, source) = done?;
    report(arguments, (&survey, &imported, &source), took, out)?;
    Ok(())
}

fn run(
    env: &Env,
    arguments: &ImportArgs,
    parts: ProgramParts<'_>,
    line: &mut ProgressLine,
) -> Result<(Survey, Imported, String), MoveError> {
    let mut indexes = Vec::new();
    let fetched = match &arguments.from {
        None => None,
        Some(address) => {
            let address = Address::parse(address)?;
            indexes = indexes_of(&mut ServerLink::open(&address)?)?;
            Some(fetching::fetch(env, &address, &spool(arguments), arguments.scan, line)?)
        }
    };
    let path = match &fetched {
        Some(fetched) => fetched.path().to_owned(),
        None => arguments.file.clone().unwrap_or_default(),
    };
    let types = parts.types();
    let survey = Survey::make(env, &path, &types, line)?;
    check(arguments, &path, &survey)?;
    let work = Work { env, path: &path, types: &types, arguments, survey: &survey, indexes: &indexes };
    let imported = match &arguments.to {
        Some(address) => {
            let mut target = RemoteTarget::new(ServerLink::open(&Address::parse(address)?)?);
            work.check_empty(&mut target, address)?;
            work.import(&mut target, line)?
        }
        None => work.fill_directory(arguments.dir.as_deref().unwrap_or(Path::new("")), parts, line)?,
    };
    let source = fetched.as_ref().map_or_else(|| path.display().to_string(), Fetched::source);
    Ok((survey, imported, source))
}

/// Where the copy of a server is kept during the import.
fn spool(arguments: &ImportArgs) -> PathBuf {
    let name = format!("engramdb-import-{}.rdb", std::process::id());
    match &arguments.dir {
        // Beside the directory, whose disk has to have the room anyway.
        Some(directory) => directory.parent().unwrap_or(Path::new("")).join(name),
        None => std::env::temp_dir().join(name),
    }
}

/// Refuses what cannot be imported, before anything is written.
fn check(arguments: &ImportArgs, path: &Path, survey: &Survey) -> Result<(), MoveError> {
    if !arguments.skip_modules && !survey.unknown_types.is_empty() {
        let types = survey.unknown_types.iter().map(|(name, keys)| format!("{name} ({keys} keys)"));
        return Err(MoveError::UnknownModules { file: path.to_owned(), types: types.collect() });
    }
    if let Some(last) = survey.databases.last().filter(|last| **last >= 1 << 16) {
        return Err(MoveError::Arguments(format!("{}: database {last} cannot be here", path.display())));
    }
    Ok(())
}

/// An import after its checks.
struct Work<'w> {
    env: &'w Env,
    path: &'w Path,
    types: &'w DataTypes,
    arguments: &'w ImportArgs,
    survey: &'w Survey,
    /// Those of the server that it comes from.
    indexes: &'w [FoundIndex],
}

impl Work<'_> {
    fn check_empty(&self, target: &mut RemoteTarget, address: &str) -> Result<(), MoveError> {
        let keys: u64 = target.keys()?.values().sum();
        if keys == 0 || self.arguments.replace {
            return Ok(());
        }
        Err(MoveError::Arguments(format!(
            "{address} has {keys} keys. Give --replace to import nevertheless: keys of the same name are then replaced"
        )))
    }

    /// Fills a new data directory, all or nothing.
    fn fill_directory(
        &self,
        directory: &Path,
        parts: ProgramParts<'_>,
        line: &mut ProgressLine,
    ) -> Result<Imported, MoveError> {
        let spared = self.names_in(directory);
        let spared: Vec<&str> = spared.iter().map(String::as_str).collect();
        begin_import(self.env, directory, parts.derived, &spared)?;
        let fill = |line: &mut ProgressLine| -> Result<Imported, MoveError> {
            let databases = self.survey.databases.last().map_or(0, |last| last + 1).max(DATABASES);
            let mut target = OfflineTarget::open(self.env, directory, parts, databases as usize)?;
            let imported = self.import(&mut target, line)?;
            target.finish()?;
            target.close()?;
            end_import(self.env, directory)
                .map_err(|error| MoveError::Write { file: directory.to_owned(), error })?;
            Ok(imported)
        };
        let imported =
            fill(line).inspect_err(|_| undo_import(self.env, directory, parts.derived, &spared))?;
        // A start reads a snapshot faster than the log; without one it reads the log.
        let options = OfflineOptions::default();
        if let Err(error) = create_offline(self.env, directory, parts.modules, &options) {
            engramdb_console::note(format_args!(
                "everything is imported, but no snapshot was made of it: {error}"
            ));
        }
        Ok(imported)
    }

    /// The file's name, if it is in the directory: it stays there.
    fn names_in(&self, directory: &Path) -> Vec<String> {
        let is_inside = self.path.parent().is_some_and(|parent| {
            // A name alone is in the current directory.
            let [parent, directory] =
                [parent, directory].map(|path| std::path::absolute(Path::new(".").join(path)).ok());
            parent.is_some() && parent == directory
        });
        let name = self.path.file_name().filter(|_| is_inside);
        name.map(|name| name.to_string_lossy().into_owned()).into_iter().collect()
    }

    /// Reads the file once more, and gives the target all of it.
    fn import(&self, target: &mut dyn MoveTarget, line: &mut ProgressLine) -> Result<Imported, MoveError> {
        let (reader, size) = FileReader::open(&*self.env.disk, self.path)?;
        let mut file = RdbFile::open(reader).map_err(|error| self.damaged(error, 0, &[]))?;
        let mut imported = Imported::default();
        loop {
            let record = file.next_record();
            match record.map_err(|error| self.damaged(error, file.position(), &[]))? {
                RdbRecord::End => break,
                RdbRecord::Aux { .. } => {}
                RdbRecord::Function(code) => {
                    target.put(0, b"(a library of functions)", &[b"FUNCTION", b"LOAD", b"REPLACE", &code])?;
                    imported.functions += 1;
                }
                RdbRecord::ModuleAux { .. } => {
                    let items = file.items(&mut |_| {});
                    items.map_err(|error| self.damaged(error, file.position(), &[]))?;
                }
                RdbRecord::Key(header) => self.key(&mut file, &header, target, &mut imported)?,
            }
            line.show("importing", (file.position(), size), imported.tally.keys());
        }
        self.make_indexes(target, &mut imported)?;
        target.finish()?;
        Ok(imported)
    }

    fn make_indexes(&self, target: &mut dyn MoveTarget, imported: &mut Imported) -> Result<(), MoveError> {
        for index in self.indexes {
            let name = String::from_utf8_lossy(&index.name).into_owned();
            let (cause, command) = match &index.words {
                Err(cause) => (Some(cause.clone()), String::new()),
                Ok(words) => {
                    let given: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    (target.tried(&given)?, shown_words(words))
                }
            };
            match cause {
                None => imported.indexes.push(name),
                Some(cause) => imported.indexes_left.push(LeftIndex { name, cause, command }),
            }
        }
        Ok(())
    }

    fn key(
        &self,
        file: &mut RdbFile<FileReader>,
        header: &KeyHeader,
        target: &mut dyn MoveTarget,
        imported: &mut Imported,
    ) -> Result<(), MoveError> {
        let raw = file.raw_value(header, RESTORED_BYTES_MAX);
        let raw = raw.map_err(|error| self.damaged(error, file.position(), &header.key))?;
        let is_expired = header.expires_at_ms != 0 && header.expires_at_ms <= self.env.clock.wall_ms();
        let Some(raw) = raw else {
            return self.key_in_parts(file, header, target, (imported, is_expired));
        };
        let mut name = header.kind().map_or("", ValueKind::name).to_owned();
        if let Some(id) = raw.module {
            name = module_name(id).0;
            if self.types.of_module(&name).is_none() {
                imported.skipped += 1;
                return Ok(());
            }
        }
        let is_empty = raw.parts == 0 && header.kind() != Some(ValueKind::Stream);
        if is_expired {
            imported.expired += 1;
        }
        if is_expired || is_empty {
            return Ok(());
        }
        let mut value = raw.bytes;
        payload::seal(file.version(), &mut value);
        let expiry = header.expires_at_ms.to_string();
        let mut words = vec![&b"RESTORE"[..], &header.key, expiry.as_bytes(), &value, b"ABSTTL"];
        if self.arguments.replace {
            words.push(b"REPLACE");
        }
        let idle = header.idle_seconds.map(|seconds| seconds.to_string());
        if let Some(idle) = &idle {
            words.extend([&b"IDLETIME"[..], idle.as_bytes()]);
        }
        target.put(header.database, &header.key, &words)?;
        imported.tally.add(&name, raw.parts);
        Ok(())
    }

    /// A value that is too large to be restored at once.
    fn key_in_parts(
        &self,
        file: &mut RdbFile<FileReader>,
        header: &KeyHeader,
        target: &mut dyn MoveTarget,
        (imported, is_expired): (&mut Imported, bool),
    ) -> Result<(), MoveError> {
        let mut name = header.kind().map_or("", ValueKind::name).to_owned();
        let (mut parts, mut is_unknown, mut failed) = (0, false, None);
        let mut maker = CommandMaker::new(&header.key);
        let mut put = |words: &[&[u8]]| {
            target.put(header.database, &header.key, words).map_err(|error| {
                failed = Some(error);
                io::Error::other("the target failed")
            })
        };
        let begin = |put: &mut dyn FnMut(&[&[u8]]) -> io::Result<()>| match self.arguments.replace {
            true => put(&[b"DEL", &header.key]),
            false => Ok(()),
        };
        let read = file.value(header, &mut |part| {
            if let ValuePart::Module { id } = part {
                name = module_name(id).0;
                is_unknown = self.types.of_module(&name).is_none();
            }
            if is_expired || is_unknown {
                return Ok(());
            }
            if parts == 0 {
                begin(&mut put)?;
            }
            parts += u64::from(part.is_content());
            maker.take(part, &mut put)
        });
        let ended = match &read {
            Ok(()) if parts > 0 => maker.finish(header.expires_at_ms, &mut put),
            _ => Ok(()),
        };
        if let Some(error) = failed {
            return Err(error);
        }
        read.map_err(|error| self.damaged(error, file.position(), &header.key))?;
        ended?;
        imported.skipped += u64::from(is_unknown);
        imported.expired += u64::from(is_expired && !is_unknown);
        if parts > 0 {
            imported.tally.add(&name, parts);
        }
        Ok(())
    }

    fn damaged(&self, error: engramdb_rdb::RdbError, position: u64, key: &[u8]) -> MoveError {
        MoveError::Rdb { file: self.path.to_owned(), error, position, key: key.to_vec() }
    }
}

impl LeftIndex {
    fn json(&self) -> serde_json::Value {
        json!({ "name": self.name, "cause": self.cause, "command": self.command })
    }
}

fn report(
    arguments: &ImportArgs,
    (survey, imported, source): (&Survey, &Imported, &str),
    took: Duration,
    out: &mut dyn Write,
) -> io::Result<()> {
    let writer = ["valkey-ver", "redis-ver"].iter().find_map(|name| survey.notes.get(*name));
    if arguments.json {
        let value = json!({
            "source": source, "written_by": writer, "types": imported.tally.json(), "keys": imported.tally.keys(),
            "functions": imported.functions, "expired": imported.expired, "empty": survey.empty,
            "skipped_keys": imported.skipped, "skipped_types": survey.unknown_types,
            "indexes": imported.indexes,
            "indexes_left": imported.indexes_left.iter().map(LeftIndex::json).collect::<Vec<_>>(),
            "module_notes": survey.module_notes, "bytes": survey.bytes, "seconds": took.as_secs_f64(),
        });
        return writeln!(out, "{value:#}");
    }
    write!(out, "{}", imported.tally.table())?;
    for (count, what) in [
        (imported.functions, "libraries of functions were loaded"),
        (imported.expired, "keys had expired and were left out"),
        (survey.empty, "keys without elements were left out"),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}")?;
        }
    }
    for (name, keys) in &survey.unknown_types {
        writeln!(out, "{keys} keys of the module type {name} were left out")?;
    }
    if !imported.indexes.is_empty() {
        writeln!(out, "indexes were made: {}", imported.indexes.join(", "))?;
    }
    for LeftIndex { name, cause, command } in &imported.indexes_left {
        writeln!(out, "the index {name} was not made: {cause}")?;
        if !command.is_empty() {
            writeln!(out, "  change and run: {command}")?;
        }
    }
    let carried = |name: &String| name == "ft_index0" && !imported.indexes.is_empty();
    for name in survey.module_notes.iter().filter(|name| !carried(name)) {
        writeln!(out, "what the module of {name} keeps beside keys was left out")?;
    }
    let written = writer.map_or(String::new(), |version| format!(", written by version {version}"));
    writeln!(out, "imported {source} ({}{written}) in {:.2} s", size(survey.bytes), took.as_secs_f64())?;
    let Some(directory) = &arguments.dir else { return Ok(()) };
    let databases = survey.databases.last().filter(|last| **last >= DATABASES);
    let databases = databases.map_or(String::new(), |last| format!(" --databases {}", last + 1));
    writeln!(out, "Next: engramdb serve --dir {}{databases}", directory.display())
}
