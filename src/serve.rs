//! `engramdb serve`: from flags to a running server, and to its end.

use crate::modules;
use clap::Args;
use engramdb_engine::env::Env;
use engramdb_engine::log::local::LocalOptions;
use engramdb_engine::log::pipeline;
use engramdb_engine::recovery::{self, StartOptions};
use engramdb_engine::snapshot::offline::{OfflineOptions, create_offline};
use engramdb_server::snapshots::{BackgroundSnapshots, SnapshotSettings};
use engramdb_server::{Config, Hooks, Server};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

#[derive(Args)]
#[command(after_help = "\
Every parameter has a flag's name here, a variable ENGRAMDB_<NAME> and a line in the configuration file; flags win over \
variables, variables over the file. `redis-cli CONFIG GET '*'` lists them all.

The server listens on loopback only until a password is set: --bind 0.0.0.0 --requirepass SECRET.")]
pub struct ServeArgs {
    /// Addresses to listen on [default: 127.0.0.1]
    #[arg(long, num_args = 1..)]
    bind: Vec<String>,
    /// Port to listen on [default: 6379]
    #[arg(long, short)]
    port: Option<u16>,
    /// Data directory, created if missing [default: ./engramdb-data]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Configuration file: TOML, or lines of name and value as in redis.conf
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Password that clients have to give
    #[arg(long, value_name = "PASSWORD")]
    requirepass: Option<String>,
    /// Any other parameter, as in the configuration file; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
}

impl ServeArgs {
    /// The configuration: defaults, then the file, the environment and the flags.
    #[expect(
        clippy::disallowed_methods,
        reason = "the file names the engine's directory: it cannot lie in it"
    )]
    fn config(self) -> Result<Config, Box<dyn Error>> {
        let mut config = Config::default();
        if let Some(file) = &self.config {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("cannot read the configuration file {}: {error}", file.display()))?;
            config.apply_file(&text)?;
        }
        config.apply_environment(std::env::vars())?;
        if !self.bind.is_empty() {
            config.set("bind", &self.bind.join(" "))?;
        }
        if let Some(port) = self.port {
            config.set("port", &port.to_string())?;
        }
        if let Some(directory) = &self.dir {
            config.set("dir", &directory.to_string_lossy())?;
        }
        if let Some(password) = &self.requirepass {
            config.set("requirepass", password)?;
        }
        for parameter in &self.parameters {
            let (name, value) =
                parameter.split_once('=').ok_or_else(|| format!("--set {parameter}: give NAME=VALUE"))?;
            config.set(name, value)?;
        }
        Ok(config)
    }
}

/// Serves until SIGTERM, SIGINT or SHUTDOWN.
#[expect(clippy::disallowed_methods, reason = "tells how long the start took")]
pub fn run(arguments: ServeArgs) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let config = arguments.config()?;
    start_logging(&config)?;
    stop_on_panic();
    let env = Env::system();
    engramdb_server::disable_huge_pages(&env);
    let options = StartOptions {
        databases: config.databases,
        threads: cores(),
        pipeline: pipeline::Options {
            buffer_bytes_max: config.log_buffer_bytes,
            wake_on_kick: true,
            ..Default::default()
        },
    };
    let directory = config.directory.clone();
    let make = || modules::serving(&env, &directory, index_threads());
    let (engine, report) =
        recovery::open_directory(&env, &directory, &make, LocalOptions::default(), options)?;
    println!("{report}");
    crate::memory::give_back_freed();
    let engine = Arc::new(engine);
    let settings = SnapshotSettings::new(directory.clone())?;
    let snapshotter = Arc::new(BackgroundSnapshots::start(engine.clone(), settings)?);
    let hooks = Hooks::new(snapshotter.clone());
    let server = Server::start(config, engine.clone(), modules::COMMANDS, hooks)?;
    for address in server.addresses() {
        println!(
            "listening on {address}; data in {}; ready in {:.3} s",
            directory.display(),
            began.elapsed().as_secs_f64()
        );
    }
    let stop = server.wait()?;
    snapshotter.stop();
    for (module, export) in engine.exporters() {
        match export() {
            Ok(text) => println!("{text}"),
            Err(cause) => eprintln!("module {module} could not keep its derived state: {cause}"),
        }
    }
    if stop.save {
        // Who has the log open has it locked, and only on a log that nobody has is everything sealed.
        drop((snapshotter, engine));
        let offline = || modules::offline(&env);
        create_offline(&env, &directory, &offline, &OfflineOptions::default())?;
    }
    println!("stopped in order");
    Ok(())
}

/// Threads that insert into graphs: all cores but one, which is left to searches.
fn index_threads() -> usize {
    (cores() - 1).max(1)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn start_logging(config: &Config) -> Result<(), Box<dyn Error>> {
    use tracing_subscriber::EnvFilter;
    let level = match config.log_level.as_str() {
        "debug" => "trace",
        "verbose" => "debug",
        "warning" => "warn",
        "nothing" => "off",
        _ => "info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log_format.as_str() {
        "json" => subscriber.json().try_init(),
        _ => subscriber.with_target(false).try_init(),
    };
    started.map_err(|error| format!("cannot start logging: {error}").into())
}

/// A bug in any thread stops the process: a store does not limp, and what was acknowledged is in the log.
fn stop_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
