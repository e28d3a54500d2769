//! Loads a [`Config`] from defaults, files, the environment and flags, or returns all errors in them.

use super::file::{self, ConfigEntry};
use super::{Config, PARAMETERS, Parameter, Rule, VARIABLE_PREFIX, foreign, parameter};
use engramdb_engine::command::CommandTable;
use engramdb_engine::commands::glob_matches;
use engramdb_engine::env::Disk;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Tries a setting of a module: name and value. `None` if no module has it; the error is a text about the
/// value.
pub type ModuleSettings<'m> = &'m dyn Fn(&str, &str) -> Option<Result<(), String>>;

/// The place where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueOrigin {
    /// A line, counted from 1.
    Line(PathBuf, usize),
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueOrigin::Line(file, line) => write!(out, "{}:{line}", file.display()),
            ValueOrigin::File(file) => write!(out, "{}", file.display()),
            ValueOrigin::Variable(name) => out.write_str(name),
            ValueOrigin::Flag(name) => write!(out, "--{name}"),
        }
    }
}

/// An error in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: ValueOrigin,
    pub cause: String,
}

/// All errors in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = &self.0[..] {
            return write!(out, "{}: {}", problem.place, problem.cause);
        }
        write!(out, "the configuration has {} errors", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(out, "\n  {}: {}", problem.place, problem.cause))
    }
}

/// Given parameters that have no effect.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Names of ignored parameters, by the reason.
    ignored: BTreeMap<&'static str, Vec<String>>,
    pub warnings: Vec<String>,
}

impl Notes {
    /// One line about all parameters that do not apply; `None` if there are none.
    pub fn ignored(&self) -> Option<String> {
        let subjects: Vec<String> =
            self.ignored.iter().map(|(why, names)| format!("{why}: {}", names.join(" "))).collect();
        (!subjects.is_empty()).then(|| {
            format!("ignored parameters, which do not apply to this server: {}", subjects.join("; "))
        })
    }

    /// Logs them, once the log has been started.
    pub fn log(&self) {
        self.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if let Some(ignored) = self.ignored() {
            tracing::info!("{ignored}");
        }
    }

    fn ignore(&mut self, why: &'static str, name: &str) {
        let names = self.ignored.entry(why).or_default();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
}

/// The depth to which files may include files.
const INCLUDES_MAX: usize = 16;
/// The largest size of a file; a larger file is no configuration.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Collects a configuration, source after source; later ones win.
pub struct Loader<'m> {
    config: Config,
    problems: Vec<Problem>,
    notes: Notes,
    disk: &'m dyn Disk,
    modules: ModuleSettings<'m>,
    /// The commands that `rename-command` can rename.
    commands: CommandTable,
    /// The files that are being read; each is included by the one before it.
    chain: Vec<PathBuf>,
}

impl<'m> Loader<'m> {
    /// Begins with the defaults. `commands` is the table of all commands, of which some may be renamed.
    pub fn new(disk: &'m dyn Disk, modules: ModuleSettings<'m>, commands: CommandTable) -> Loader<'m> {
        Loader {
            config: Config::default(),
            problems: Vec::new(),
            notes: Notes::default(),
            disk,
            modules,
            commands,
            chain: Vec::new(),
        }
    }

    /// # Errors
    /// All errors in what was given.
    pub fn finish(mut self) -> Result<(Config, Notes), ConfigErrors> {
        // As in Redis, CONFIG GET shows an absolute path.
        if let Ok(directory) = std::path::absolute(&self.config.directory) {
            self.config.directory = directory;
        }
        self.note_redis_files();
        if self.problems.is_empty() {
            Ok((self.config, self.notes))
        } else {
            Err(ConfigErrors(self.problems))
        }
    }

    /// A user who starts with a Redis configuration often passes its data directory too. This warns that the
    /// data in it are not read.
    fn note_redis_files(&mut self) {
        for name in ["dump.rdb", "appendonlydir", "appendonly.aof"] {
            let path = self.config.directory.join(name);
            if self.disk.exists(&path).unwrap_or(false) {
                let warning = "is data of a Redis, which is not read: to bring it in, copy its keys from the running Redis";
                self.notes.warnings.push(format!("{} {warning}", path.display()));
            }
        }
    }

    /// The file that the server is started with.
    pub fn file(&mut self, path: &Path) {
        self.config.file = Some(path.to_owned());
        match read_file(path) {
            Ok(text) => self.text(path, &text),
            Err(error) => {
                self.problem(ValueOrigin::File(path.to_owned()), format!("cannot be read: {error}"))
            }
        }
    }

    /// A file's text.
    pub fn text(&mut self, path: &Path, text: &[u8]) {
        self.chain.push(path.to_owned());
        let parsed = file::parse(text);
        for (line, cause) in parsed.problems {
            self.problem(ValueOrigin::Line(path.to_owned(), line), cause);
        }
        for entry in parsed.entries {
            let place = ValueOrigin::Line(path.to_owned(), entry.line);
            if entry.name.eq_ignore_ascii_case("include") {
                self.include(path, place, &entry);
            } else {
                self.entry(place, &entry.name, &entry.words);
            }
        }
        self.chain.pop();
    }

    /// The environment: variables that begin with `ENGRAMDB_`.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let mut ours: Vec<(String, String)> =
            variables.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
        ours.sort();
        for (variable, value) in ours {
            if is_of_kubernetes(&variable, &value) {
                self.notes.ignore("variables that Kubernetes sets for a service of this name", &variable);
                continue;
            }
            let name = variable[VARIABLE_PREFIX.len()..].to_lowercase().replace('_', "-");
            self.entry(ValueOrigin::Variable(variable), &name, &[value]);
        }
    }

    /// A flag; its value is one word, or several that blanks separate where the parameter takes a list.
    pub fn flag(&mut self, name: &str, value: &str) {
        self.entry(ValueOrigin::Flag(name.to_owned()), name, &[value.to_owned()]);
    }

    /// A flag that cannot be read at all.
    pub fn wrong_flag(&mut self, name: &str, cause: String) {
        self.problem(ValueOrigin::Flag(name.to_owned()), cause);
    }

    fn problem(&mut self, place: ValueOrigin, cause: impl Into<String>) {
        self.problems.push(Problem { place, cause: cause.into() });
    }

    fn entry(&mut self, place: ValueOrigin, name: &str, words: &[String]) {
        let lower = name.to_ascii_lowercase();
        if let Err(cause) = self.apply(&place, &lower, words) {
            self.problem(place, cause);
        }
    }

    fn apply(&mut self, place: &ValueOrigin, name: &str, words: &[String]) -> Result<(), String> {
        if let Some(parameter) = parameter(name) {
            return self.set(parameter, words);
        }
        let value = words.join(" ");
        if let Some(tried) = (self.modules)(name, &value) {
            tried.map_err(|cause| format!("{name} {value}: {cause}"))?;
            self.config.module_settings.insert(name.to_owned(), value);
            return Ok(());
        }
        if let Some(foreign) = foreign(name) {
            return self.foreign(place, foreign.rule, foreign.why, name, &value);
        }
        if matches!(place, ValueOrigin::Line(..)) && self.directive(name, words)? {
            return Ok(());
        }
        Err(unknown(name))
    }

    fn set(&mut self, parameter: &Parameter, words: &[String]) -> Result<(), String> {
        let value = match words {
            [word] => word.clone(),
            _ if parameter.shape.is_list() => words.join(" "),
            _ => return Err(format!("{}: wrong number of arguments", parameter.name)),
        };
        (parameter.set)(&mut self.config, &value)
            .map_err(|cause| format!("{} {value}: {cause}", parameter.name))
    }

    fn foreign(
        &mut self,
        place: &ValueOrigin,
        rule: Rule,
        why: &'static str,
        name: &str,
        value: &str,
    ) -> Result<(), String> {
        let is_in = |accepted: &[&str]| accepted.iter().any(|known| known.eq_ignore_ascii_case(value));
        match rule {
            Rule::Ignored => self.notes.ignore(why, name),
            Rule::Only(accepted) if is_in(accepted) => {}
            Rule::Only(_) => return Err(format!("{name} {value}: {why}")),
            Rule::Overridden(accepted) if is_in(accepted) => {}
            Rule::Overridden(_) => {
                self.notes.warnings.push(format!("{place}: '{name} {value}' does not hold: {why}"));
            }
        }
        Ok(())
    }

    /// Handles lines of redis.conf that are no parameters. False if this is no such line.
    fn directive(&mut self, name: &str, words: &[String]) -> Result<bool, String> {
        match (name, words) {
            ("loadmodule", [_, ..]) => {
                self.notes.ignore(
                    "modules of Redis, of which search is built in",
                    &format!("loadmodule {}", words[0]),
                );
            }
            ("rename-command", [from, to]) => {
                self.commands
                    .rename(from, to)
                    .map_err(|cause| format!("rename-command {from} {to}: {cause}"))?;
                self.config.renamed_commands.push((from.clone(), to.clone()));
            }
            // The server reads the rules, when it knows all commands.
            ("user", [_, ..]) => self.config.users.push(words.to_vec()),
            ("sentinel", _) => return Err("there is no Sentinel here".to_owned()),
            ("include" | "loadmodule" | "rename-command" | "user", _) => {
                return Err(format!("{name}: wrong number of arguments"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Includes files. A relative path is searched in the working directory, as in Redis, and then in the
    /// directory of the including file. The last part may have wildcards; the matching files, if any, are
    /// included in the order of their names.
    fn include(&mut self, includer: &Path, place: ValueOrigin, entry: &ConfigEntry) {
        let [given] = &entry.words[..] else {
            return self.problem(place, "include: wrong number of arguments");
        };
        let here = PathBuf::from(given);
        let beside = includer.parent().unwrap_or(Path::new("")).join(given);
        if given.contains(['*', '?', '[']) {
            let files = matching(self.disk, &here);
            let files = if files.is_empty() { matching(self.disk, &beside) } else { files };
            for file in files {
                self.include_file(&place, &file);
            }
            return;
        }
        let file = if matches!(self.disk.exists(&here), Ok(true)) { here } else { beside };
        self.include_file(&place, &file);
    }

    fn include_file(&mut self, place: &ValueOrigin, file: &Path) {
        let included = read_file(file).map_err(|error| error.to_string()).and_then(|text| {
            let chain = |from: usize| {
                let files = self.chain[from..].iter().map(PathBuf::as_path).chain([file]);
                files.map(|file| file.display().to_string()).collect::<Vec<_>>().join(" -> ")
            };
            match self.chain.iter().position(|known| is_same_file(known, file)) {
                Some(place) => Err(format!("the files include each other: {}", chain(place))),
                None if self.chain.len() > INCLUDES_MAX => {
                    Err(format!("more than {INCLUDES_MAX} files deep: {}", chain(0)))
                }
                None => Ok(text),
            }
        });
        match included {
            Ok(text) => self.text(file, &text),
            Err(cause) => self.problem(place.clone(), format!("include {}: {cause}", file.display())),
        }
    }
}

/// A configuration file's bytes. Devices and pipes, which may have no end or never a writer, are refused.
///
/// # Errors
/// Errors of the file system, and a file that is too large for a configuration.
#[expect(clippy::disallowed_methods, reason = "the configuration file is not in the engine's directory")]
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        let cause = format!("it has {} bytes, {FILE_BYTES_MAX} at most", metadata.len());
        return Err(io::Error::other(cause));
    }
    std::fs::read(path)
}

#[expect(clippy::disallowed_methods, reason = "the configuration file is not in the engine's directory")]
fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Files of a directory, by a pattern in the last part of the path.
fn matching(disk: &dyn Disk, pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let name = name.to_string_lossy();
    let mut names = disk.list(directory).unwrap_or_default();
    names.retain(|found| glob_matches(name.as_bytes(), found.as_bytes()));
    names.sort();
    names.into_iter().map(|found| directory.join(found)).collect()
}

/// Kubernetes sets variables for each service of a namespace: `NAME_SERVICE_HOST`, `NAME_PORT=tcp://…`,
/// `NAME_PORT_6379_TCP` and so on. A service called `engramdb` must not keep its own pods from starting.
fn is_of_kubernetes(variable: &str, value: &str) -> bool {
    let name = &variable[VARIABLE_PREFIX.len()..];
    name.starts_with("SERVICE_") || name.starts_with("PORT_") || (name == "PORT" && value.contains("://"))
}

fn unknown(name: &str) -> String {
    const EDITS_MAX: usize = 2;
    // With more edits, a short name would match unrelated ones.
    let edits_max = EDITS_MAX.min(name.len() / 2);
    let near = PARAMETERS.iter().map(|parameter| (edits(name, parameter.name), parameter.name)).min();
    match near {
        Some((count, near)) if count <= edits_max => {
            format!("there is no parameter '{name}'; did you mean '{near}'?")
        }
        _ => format!("there is no parameter '{name}'"),
    }
}

/// Levenshtein's distance, in bytes.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, left) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, right) in other.bytes().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
