//! `engramdb serve`: from flags to a running server, and to its end.

use crate::modules;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use engramdb_engine::data_dir::{LOG_DIRECTORY, REDIS_DUMP_FILE};
use engramdb_engine::env::Env;
use engramdb_engine::log::local::LocalOptions;
use engramdb_engine::log::pipeline;
use engramdb_engine::recovery::{self, StartOptions};
use engramdb_engine::snapshot::offline::{OfflineOptions, create_offline};
use engramdb_server::config::{ConfigErrors, FOREIGN, Foreign, Loader, Notes, PARAMETERS, parameter};
use engramdb_server::snapshots::{BackgroundSnapshots, SnapshotSettings};
use engramdb_server::{Config, Hooks, Listeners, Server};
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// What `engramdb serve` was given: a file, and parameters as flags.
pub struct ServeArgs {
    config: Option<PathBuf>,
    /// Names and values. A flag that was given several times is here several times, in its order: as with
    /// lines of a file, the last one wins.
    parameters: Vec<(String, String)>,
    /// `--set` without a name and a value.
    wrong_settings: Vec<String>,
}

const AFTER_HELP: &str = "\
Every parameter is a flag, a variable ENGRAMDB_<NAME> in capitals with underscores, and a line of the configuration file; \
flags win over variables, variables over the file. A redis.conf or valkey.conf will do: what does not apply is named in \
the log. `redis-cli CONFIG GET '*'` lists what holds.

The server listens on loopback only until a password is set: --bind 0.0.0.0 --requirepass SECRET.";

/// The flag and the variable that name the configuration file.
const CONFIG_FLAG: &str = "config";
const CONFIG_VARIABLE: &str = "ENGRAMDB_CONFIG";
const SET_FLAG: &str = "set";

/// Flags derive from the table of parameters.
impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG_FLAG)
            .long(CONFIG_FLAG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .env(CONFIG_VARIABLE)
            .help("Configuration file: lines of redis.conf, or TOML");
        let set = Arg::new(SET_FLAG)
            .long(SET_FLAG)
            .value_name("NAME=VALUE")
            .action(ArgAction::Append)
            .help("Any parameter by its name, as in the configuration file; may be repeated");
        let defaults = Config::default();
        let mut command = command.after_help(AFTER_HELP).arg(file).args(PARAMETERS.iter().map(|parameter| {
            let default = (parameter.get)(&defaults);
            let default = if default.is_empty() { "none" } else { &default };
            let arg = flag(parameter.name, parameter.shape.placeholder());
            let arg = if parameter.name == "port" { arg.short('p') } else { arg };
            let bounds = match parameter.shape.bounds() {
                bounds if bounds.is_empty() => bounds,
                bounds => format!(" [{bounds}]"),
            };
            arg.help(format!("{}{bounds} [default: {default}]", sentence(parameter.help)))
                .aliases(parameter.aliases.iter().copied())
        }));
        command = command.args(modules::settings::help().into_iter().map(|setting| {
            let text = format!("{} [default: {}]", setting.text, setting.default);
            flag(setting.name, setting.placeholder).num_args(1).help(text)
        }));
        let hidden = FOREIGN.iter().flat_map(Foreign::names).map(|name| flag(name, "VALUE").hide(true));
        command.args(hidden).arg(set)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A parameter's flag. Several values are one list: `--bind 127.0.0.1 ::1`.
fn flag(name: &'static str, placeholder: &'static str) -> Arg {
    let is_list = parameter(name).is_none_or(|parameter| parameter.shape.is_list());
    let arg = Arg::new(name).long(name).value_name(placeholder).allow_negative_numbers(true);
    let arg = arg.action(ArgAction::Append);
    if is_list { arg.num_args(1..) } else { arg }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ServeArgs, clap::Error> {
        let mut parameters = Vec::new();
        let own = PARAMETERS.iter().map(|parameter| parameter.name);
        let of_modules = modules::settings::help().into_iter().map(|setting| setting.name);
        for name in own.chain(of_modules).chain(FOREIGN.iter().flat_map(Foreign::names)) {
            for values in matches.get_occurrences::<String>(name).into_iter().flatten() {
                let values: Vec<&str> = values.map(String::as_str).collect();
                parameters.push((name.to_owned(), values.join(" ")));
            }
        }
        let mut wrong_settings = Vec::new();
        for given in matches.get_many::<String>(SET_FLAG).into_iter().flatten() {
            match given.split_once('=') {
                Some((name, value)) => parameters.push((name.to_owned(), value.to_owned())),
                None => wrong_settings.push(given.clone()),
            }
        }
        let config = matches.get_one::<PathBuf>(CONFIG_FLAG).cloned();
        Ok(ServeArgs { config, parameters, wrong_settings })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ServeArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ServeArgs {
    /// The configuration: defaults, then the file, the environment and the flags.
    fn config(self, env: &Env, unknown_flags: &[String]) -> Result<(Config, Notes), ConfigErrors> {
        let mut loader = Loader::new(
            &*env.disk,
            &modules::settings::try_setting,
            engramdb_server::command_table(modules::COMMANDS),
        );
        if let Some(file) = &self.config {
            loader.file(file);
        }
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        loader.environment(variables.filter(|(name, _)| name != CONFIG_VARIABLE));
        self.parameters.iter().for_each(|(name, value)| loader.flag(name, value));
        for given in &self.wrong_settings {
            loader.wrong_flag(SET_FLAG, format!("{given}: give NAME=VALUE"));
        }
        // The loader knows them no better, and says so.
        unknown_flags.iter().for_each(|name| loader.flag(name, ""));
        loader.finish()
    }
}

/// Takes flags that do not exist out of the command line of `serve`, each with its values: they are reported
/// together with all that is wrong with the others. The parser of the command line would report the first one
/// and end.
pub fn take_unknown_flags(words: impl Iterator<Item = OsString>) -> (Vec<OsString>, Vec<String>) {
    let mut words: Vec<OsString> = words.collect();
    let mut unknown = Vec::new();
    if words.get(1).is_none_or(|word| word != "serve") {
        return (words, unknown);
    }
    let command = ServeArgs::augment_args(Command::new("serve"));
    let is_known = |flag: &str| {
        let is_it = |arg: &Arg| {
            arg.get_long() == Some(flag)
                || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&flag))
        };
        flag == "help" || command.get_arguments().any(is_it)
    };
    let mut at_unknown = false;
    words.retain(|word| {
        let word = word.to_string_lossy();
        if let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) {
            let flag = flag.split('=').next().unwrap_or(flag);
            at_unknown = !is_known(flag);
            if at_unknown {
                unknown.push(flag.to_owned());
            }
        } else if word.starts_with('-') {
            at_unknown = false;
        }
        !at_unknown
    });
    (words, unknown)
}

/// Serves until SIGTERM, SIGINT or SHUTDOWN. `unknown_flags` are errors of the configuration.
#[expect(clippy::disallowed_methods, reason = "tells how long the start took")]
pub fn run(arguments: ServeArgs, unknown_flags: &[String]) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let env = Env::system();
    let (config, notes) = arguments.config(&env, unknown_flags)?;
    let follow = start_logging(&config)?;
    stop_on_panic();
    notes.log();
    engramdb_server::ignore_hangups()?;
    let listeners = Listeners::bind(&config)?;
    engramdb_server::disable_huge_pages(&env);
    let options = StartOptions {
        databases: config.databases,
        threads: cores(),
        pipeline: pipeline::Options {
            buffer_bytes_max: config.log_buffer_bytes,
            wake_on_kick: true,
            read_only_when_full: true,
            ..Default::default()
        },
    };
    let directory = config.directory.clone();
    let index_threads = if config.search_threads == 0 { index_threads() } else { config.search_threads };
    note_redis_dump(&env, &config);
    let make = || modules::serving(&env, &directory, index_threads);
    let (engine, report) =
        recovery::open_directory(&env, &directory, &make, LocalOptions::default(), options)?;
    say(&report);
    crate::memory::give_back_freed();
    let engine = Arc::new(engine);
    let settings = SnapshotSettings::new(directory.clone())?;
    let snapshotter = Arc::new(BackgroundSnapshots::start(engine.clone(), settings)?);
    let allocated = || crate::memory::allocated_bytes() + modules::mapped_bytes();
    let hooks = Hooks { configured: follow, allocated: Some(allocated), ..Hooks::new(snapshotter.clone()) };
    let server = Server::start_on(listeners, config, engine.clone(), modules::COMMANDS, hooks)?;
    for address in server.addresses() {
        say(format_args!(
            "listening on {address}; data in {}; ready in {:.3} s",
            directory.display(),
            began.elapsed().as_secs_f64()
        ));
    }
    let stop = server.wait()?;
    snapshotter.stop();
    for (module, export) in engine.exporters() {
        match export() {
            Ok(text) => say(text),
            Err(cause) => say(format_args!("module {module} could not keep its derived state: {cause}")),
        }
    }
    if stop.save {
        // A process that has the log open has it locked. Only a log that no process has open is sealed to its
        // end.
        drop((snapshotter, engine));
        let offline = || modules::offline(&env);
        create_offline(&env, &directory, &offline, &OfflineOptions::default())?;
    }
    say("stopped in order");
    Ok(())
}

/// Offers to import the file of a Redis, if there is one in a data directory that has no data yet.
fn note_redis_dump(env: &Env, config: &Config) {
    let directory = &config.directory;
    let has = |name: &str| env.disk.exists(&directory.join(name)).unwrap_or(false);
    if has(REDIS_DUMP_FILE) && !has(LOG_DIRECTORY) {
        let (directory, port) = (directory.display(), config.port);
        tracing::warn!(
            "{directory} has a {REDIS_DUMP_FILE} of a Redis and no data of this server, which starts empty. To import the file: \
             engramdb import {directory}/{REDIS_DUMP_FILE} --to 127.0.0.1:{port}"
        );
    }
}

/// A line to the standard output. Where that cannot take it (a file on a full disk, a closed pipe), the
/// server goes on.
fn say(line: impl Display) {
    _ = engramdb_console::print(format_args!("{line}\n"));
}

/// Threads that insert into graphs: all cores but one, which is left to searches.
fn index_threads() -> usize {
    (cores() - 1).max(1)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What follows a change of the configuration.
type Follow = Box<dyn Fn(&Config) + Send + Sync>;

/// Starts the log; what is returned changes its level.
fn start_logging(config: &Config) -> Result<Follow, Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| level(config));
    let writer = log_writer(config)?;
    let failed = |error| format!("cannot start logging: {error}");
    macro_rules! start {
        ($lines:expr) => {{
            let lines = $lines.with_env_filter(filter).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.try_init().map_err(failed)?;
            Ok(Box::new(move |config: &Config| _ = handle.reload(level(config))))
        }};
    }
    // A line that cannot be written is dropped. To complain about it on the same full disk would end the
    // server.
    let lines = tracing_subscriber::fmt().log_internal_errors(false).with_writer(writer);
    match config.log_format.as_str() {
        "json" => start!(lines.json()),
        _ => start!(lines.with_target(false)),
    }
}

fn level(config: &Config) -> EnvFilter {
    EnvFilter::new(match config.log_level.as_str() {
        "debug" => "trace",
        "verbose" => "debug",
        "warning" => "warn",
        "nothing" => "off",
        _ => "info",
    })
}

#[expect(clippy::disallowed_methods, reason = "the log file is not in the engine's directory")]
fn log_writer(config: &Config) -> Result<BoxMakeWriter, Box<dyn Error>> {
    if config.log_file.is_empty() {
        return Ok(BoxMakeWriter::new(std::io::stderr));
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&config.log_file);
    let file = file.map_err(|error| format!("logfile {}: {error}", config.log_file))?;
    Ok(BoxMakeWriter::new(Mutex::new(file)))
}

/// A bug in any thread stops the process: a store does not limp, and what was acknowledged is in the log.
fn stop_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
