//! `engramdb serve`: from flags to a running server, and to its end.

use crate::modules;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use engramdb_engine::env::Env;
use engramdb_engine::log::local::LocalOptions;
use engramdb_engine::log::pipeline;
use engramdb_engine::recovery::{self, StartOptions};
use engramdb_engine::snapshot::offline::{OfflineOptions, create_offline};
use engramdb_server::config::{ConfigErrors, FOREIGN, Foreign, Loader, Notes, PARAMETERS, parameter};
use engramdb_server::snapshots::{BackgroundSnapshots, SnapshotSettings};
use engramdb_server::{Config, Hooks, Listeners, Server};
use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// What `engramdb serve` was given: a file, and parameters as flags.
pub struct ServeArgs {
    config: Option<PathBuf>,
    /// Names and values, in no order: each flag can be given once.
    parameters: Vec<(String, String)>,
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
            arg.help(format!("{} [default: {default}]", sentence(parameter.help)))
                .aliases(parameter.aliases.iter().copied())
        }));
        command = command.args(modules::settings::defaults().into_iter().map(|(name, default)| {
            flag(name, "VALUE").help(format!("Setting of search [default: {default}]"))
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
        let of_modules = modules::settings::defaults().into_iter().map(|(name, _)| name);
        for name in own.chain(of_modules).chain(FOREIGN.iter().flat_map(Foreign::names)) {
            if let Some(values) = matches.get_many::<String>(name) {
                let values: Vec<&str> = values.map(String::as_str).collect();
                parameters.push((name.to_owned(), values.join(" ")));
            }
        }
        for given in matches.get_many::<String>(SET_FLAG).into_iter().flatten() {
            let (name, value) = given.split_once('=').ok_or_else(|| {
                clap::Error::raw(
                    clap::error::ErrorKind::ValueValidation,
                    format!("--set {given}: give NAME=VALUE\n"),
                )
            })?;
            parameters.push((name.to_owned(), value.to_owned()));
        }
        Ok(ServeArgs { config: matches.get_one::<PathBuf>(CONFIG_FLAG).cloned(), parameters })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ServeArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ServeArgs {
    /// The configuration: defaults, then the file, the environment and the flags.
    fn config(self, env: &Env) -> Result<(Config, Notes), ConfigErrors> {
        let mut loader = Loader::new(&*env.disk, &modules::settings::try_setting, modules::COMMANDS);
        if let Some(file) = &self.config {
            loader.file(file);
        }
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        loader.environment(variables.filter(|(name, _)| name != CONFIG_VARIABLE));
        self.parameters.iter().for_each(|(name, value)| loader.flag(name, value));
        loader.finish()
    }
}

/// Serves until SIGTERM, SIGINT or SHUTDOWN.
#[expect(clippy::disallowed_methods, reason = "tells how long the start took")]
pub fn run(arguments: ServeArgs) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let env = Env::system();
    let (config, notes) = arguments.config(&env)?;
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
    let make = || modules::serving(&env, &directory, index_threads);
    let (engine, report) =
        recovery::open_directory(&env, &directory, &make, LocalOptions::default(), options)?;
    say(&report);
    crate::memory::give_back_freed();
    let engine = Arc::new(engine);
    let settings = SnapshotSettings::new(directory.clone())?;
    let snapshotter = Arc::new(BackgroundSnapshots::start(engine.clone(), settings)?);
    let hooks = Hooks { configured: follow, ..Hooks::new(snapshotter.clone()) };
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
        // Who has the log open has it locked, and only on a log that nobody has is everything sealed.
        drop((snapshotter, engine));
        let offline = || modules::offline(&env);
        create_offline(&env, &directory, &offline, &OfflineOptions::default())?;
    }
    say("stopped in order");
    Ok(())
}

/// A line to the standard output. Where that cannot take it (a file on a full disk, a closed pipe), the server goes on.
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
    // A line that cannot be written is dropped. To complain about it on the same full disk would end the server.
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
