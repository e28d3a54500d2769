//! CONFIG, over the table of parameters.

use super::{After, Call, Run, session};
use crate::config::rewrite::{self, Values};
use crate::config::{self, CONSTANTS, Change, Config, Foreign, Loader, PARAMETERS, Parameter, Rule};
use crate::context::ServerContext;
use crate::dispatch::{Resumed, WriteReply};
use crate::process;
use crate::stats::Counter;
use engramdb_engine::command::{
    Args, Command, CommandError, Outcome, Reply, acl, container, flag, shown_word,
};
use engramdb_engine::commands::glob_matches;
use engramdb_engine::module::Modules;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[container("CONFIG", CONFIG).group("server").docs(
    "2.0.0",
    "Depends on subcommand.",
    "A container for server configuration commands.",
)];

const fn row(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    let flags = flag::ADMIN | flag::NO_SCRIPT | flag::LOADING | flag::STALE;
    session(name, usage, run).group("server").flags(flags).acl(acl::ADMIN | acl::DANGEROUS)
}

const CONFIG: &[Command] = &[
    row("GET", "parameter+", &Run(get)).docs(
        "2.0.0",
        "O(N) when N is the number of configuration parameters provided",
        "Returns the effective values of configuration parameters.",
    ),
    row("HELP", "", &Run(super::help)).flags(flag::LOADING | flag::STALE).acl(0).docs(
        "5.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    row("RESETSTAT", "", &Run(reset_stat))
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs("2.0.0", "O(1)", "Resets the server's statistics."),
    row("REWRITE", "", &Run(rewrite))
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs("2.8.0", "O(1)", "Persists the effective configuration to file."),
    row("SET", "(parameter value)+", &Run(set))
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs(
            "2.0.0",
            "O(N) when N is the number of configuration parameters provided",
            "Sets configuration parameters in-flight.",
        ),
];

fn get(call: &mut Call<'_, '_, '_>) -> Outcome {
    let of_modules: Vec<(&str, String)> =
        call.look(|view| view.modules().iter().flat_map(|module| module.settings()).collect());
    let asked = |name: &str| {
        call.args.from(2).iter().any(|pattern| glob_matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    };
    let config = call.shared.config.read();
    // A pattern finds aliases too, and the reply has the name that was found.
    let parameters = PARAMETERS.iter().flat_map(|parameter| {
        let names = std::iter::once(&parameter.name).chain(parameter.aliases);
        names.map(|name| (*name, (parameter.get)(&config)))
    });
    let constants = CONSTANTS.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let all = parameters.chain(constants).chain(of_modules);
    let found: Vec<(&str, String)> = all.filter(|(name, _)| asked(name)).collect();
    drop(config);
    call.reply.map(found.len());
    for (name, value) in found {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// All parameters are changed or none is.
fn set(call: &mut Call<'_, '_, '_>) -> Outcome {
    let (args, shared) = (call.args, call.shared);
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::SYNTAX);
    }
    let password = call.look(|view| {
        let mut config = shared.config.read().clone();
        let before = config.password.clone();
        change(&mut config, view.modules(), args)?;
        Ok::<_, CommandError>(Some(config.password).filter(|password| *password != before))
    })?;
    if let Some(password) = password {
        call.gate = super::acl::set_default_password(call, &password)?;
    }
    // Locks are taken in one order: the keyspace, then the configuration.
    let changed = call.look(|view| {
        let mut current = shared.config.write();
        let mut config = current.clone();
        let of_modules = change(&mut config, view.modules(), args)?;
        if config.clients_max > current.clients_max {
            allow_clients(config.clients_max, shared.workers.len())?;
        }
        shared.acl.set_pubsub_default(config.acl_pubsub_default == "allchannels");
        shared.limits.follow(&config);
        shared.scripts.follow(config.busy_reply_threshold_ms);
        shared.engine.bound_strings(config.bulk_bytes_max);
        shared.engine.limit_encodings(config.encodings);
        shared.engine.notices().set_events(config.notified_events.0);
        shared.engine.note_accesses(config.access_mode());
        shared.tracking.set_keys_max(config.tracked_keys_max);
        shared.latency.set_threshold_ms(config.latency_threshold_ms);
        for (name, value) in &of_modules {
            view.modules().iter().for_each(|module| _ = module.set_setting(name, value, false));
        }
        *current = config.clone();
        Ok::<Config, CommandError>(config)
    })?;
    shared.engine.limit_memory(changed.memory_bytes_max);
    shared.engine.tell_memory(process::memory_bytes_max(shared.engine.env(), &changed));
    shared.evict_clients();
    shared.tracking.shrink().iter().for_each(|forgotten| shared.invalidate(forgotten));
    (shared.configured)(&changed);
    call.reply.ok();
    Ok(())
}

/// Raises the limit of file descriptors for this number of clients.
fn allow_clients(clients: usize, threads: usize) -> Outcome {
    let allowed = process::allow_clients(clients, threads);
    if allowed < clients {
        let cause = "The operating system is not able to handle the specified number of clients, try with";
        return Err(failed(b"maxclients", &format!("{cause} {allowed}")));
    }
    Ok(())
}

fn failed(name: &[u8], cause: &str) -> CommandError {
    let name = shown_word(name, usize::MAX);
    let start = b"ERR CONFIG SET failed (possibly related to argument '";
    CommandError::of_parts(&[start, name, b"') - ", cause.as_bytes()])
}

/// What a name of CONFIG SET means.
enum Named {
    Own(&'static Parameter),
    Module(String),
    Foreign(&'static Foreign, String),
}

impl Named {
    fn of(name: &[u8], modules: &Modules) -> Option<Named> {
        let name = std::str::from_utf8(name).ok()?;
        if let Some(parameter) = config::parameter(name) {
            return Some(Named::Own(parameter));
        }
        let name = name.to_lowercase();
        let is_of_module =
            |name: &str| modules.iter().any(|module| module.settings().iter().any(|(own, _)| *own == name));
        if is_of_module(&name) {
            return Some(Named::Module(name));
        }
        config::foreign(&name).map(|foreign| Named::Foreign(foreign, name))
    }

    fn name(&self) -> &str {
        match self {
            Named::Own(parameter) => parameter.name,
            Named::Module(name) | Named::Foreign(_, name) => name,
        }
    }
}

/// Changes the configuration; returns names and values of what modules are to change, which were tried.
///
/// As in Redis, all names are looked at before the first value.
fn change(
    config: &mut Config,
    modules: &Modules,
    args: Args<'_>,
) -> Result<Vec<(String, String)>, CommandError> {
    let named = names(modules, args)?;
    let mut of_modules: Vec<(String, String)> = Vec::new();
    for (named, pair) in named.into_iter().zip(args.from(2).chunks(2)) {
        let failed = |cause: &str| failed(named.name().as_bytes(), cause);
        let value = &*String::from_utf8_lossy(pair[1]);
        match &named {
            Named::Own(parameter) => {
                (parameter.set)(config, value).map_err(|cause| failed(&cause))?;
                if parameter.name == "maxclients" {
                    config.clients_wanted = None;
                }
            }
            Named::Module(name) => {
                let tried = modules.iter().find_map(|module| module.set_setting(name, value, true));
                tried.expect("the module lists the setting").map_err(|cause| failed(&cause))?;
                of_modules.push((name.clone(), value.to_owned()));
            }
            Named::Foreign(foreign, name) => {
                set_foreign(foreign, name, value).map_err(failed)?;
            }
        }
        // After the setter, which says better what is wrong with a number.
        if value.as_bytes() != pair[1] {
            return Err(failed("argument must be text in UTF-8"));
        }
    }
    Ok(of_modules)
}

/// What the names mean. The error is about the first that is unknown, fixed, or given twice.
fn names(modules: &Modules, args: Args<'_>) -> Result<Vec<Named>, CommandError> {
    let mut named: Vec<Named> = Vec::new();
    for pair in args.from(2).chunks(2) {
        let given = pair[0];
        let Some(new) = Named::of(given, modules) else {
            let start = b"ERR Unknown option or number of arguments for CONFIG SET - '";
            return Err(CommandError::of_parts(&[start, shown_word(given, usize::MAX), b"'"]));
        };
        let is_fixed = match &new {
            Named::Own(parameter) => parameter.change == Change::AtStart,
            Named::Foreign(_, name) => config::is_immutable(name),
            Named::Module(_) => false,
        };
        if is_fixed {
            return Err(failed(given, "can't set immutable config"));
        }
        if named.iter().any(|before| before.name() == new.name()) {
            return Err(failed(given, "duplicate parameter"));
        }
        named.push(new);
    }
    Ok(named)
}

/// A parameter of Redis's that has no effect here can be set to what holds anyway.
fn set_foreign(foreign: &Foreign, name: &str, value: &str) -> Result<(), &'static str> {
    let (Rule::Only(accepted) | Rule::Overridden(accepted)) = foreign.rule else {
        let holds = CONSTANTS.iter().any(|(constant, held)| *constant == name && *held == value);
        return if holds { Ok(()) } else { Err("it does not apply to this server") };
    };
    if accepted.iter().any(|known| known.eq_ignore_ascii_case(value)) {
        return Ok(());
    }
    Err(foreign.why)
}

fn reset_stat(call: &mut Call<'_, '_, '_>) -> Outcome {
    let stats = &call.shared.stats;
    let expired = call.shared.engine.expired();
    let lookups = call.shared.engine.lookups();
    for worker in &call.shared.workers {
        worker.all().into_iter().for_each(Counter::reset);
        for command in &worker.commands {
            command.calls.reset();
            command.nanoseconds.reset();
            command.failed.reset();
            command.rejected.reset();
            command.latencies.get().into_iter().for_each(|latencies| latencies.reset());
        }
    }
    stats.connections.store(0, Ordering::Relaxed);
    for counter in [
        &stats.rejected_connections,
        &expired.keys,
        &expired.fields,
        &lookups.hits,
        &lookups.misses,
        &call.shared.engine.freeing().freed,
        &stats.evicted_clients,
        &stats.query_limit_disconnections,
        &stats.output_limit_disconnections,
        &call.shared.acl.refusals.auth,
        &call.shared.acl.refusals.command,
        &call.shared.acl.refusals.key,
        &call.shared.acl.refusals.channel,
    ] {
        counter.store(0, Ordering::Relaxed);
    }
    stats.errors.lock().clear();
    call.reply.ok();
    Ok(())
}

/// On a thread for long work, since it waits for the disk; inside EXEC at once.
fn rewrite(call: &mut Call<'_, '_, '_>) -> Outcome {
    let of_modules: Vec<(&'static str, String)> =
        call.look(|view| view.modules().iter().flat_map(|module| module.settings()).collect());
    let shared = call.shared.clone();
    let mut config = shared.config.read().clone();
    // The next start may be allowed more files.
    config.clients_max = config.clients_wanted.unwrap_or(config.clients_max);
    let Some(path) = config.file.clone() else {
        return Err(CommandError::of("ERR The server is running without a config file"));
    };
    let work = move || {
        let result = rewrite_file(&shared, &path, &config, &of_modules);
        match &result {
            Ok(()) => tracing::info!("CONFIG REWRITE: {} says what holds now", path.display()),
            Err(cause) => tracing::warn!("CONFIG REWRITE: {}: {cause}", path.display()),
        }
        result.map_err(|cause| CommandError::new(format!("ERR Rewriting config file: {cause}")))
    };
    if call.transaction.is_some() {
        work()?;
        call.reply.ok();
        return Ok(());
    }
    let work = tokio::task::spawn_blocking(work);
    call.after = After::Wait(Box::pin(async move {
        let result =
            work.await.unwrap_or(Err(CommandError::of("ERR Rewriting config file: the server stops")));
        let write: WriteReply = Box::new(move |reply| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(&error),
        });
        Resumed::Reply(write)
    }));
    Ok(())
}

fn rewrite_file(
    shared: &ServerContext,
    path: &Path,
    config: &Config,
    of_modules: &[(&'static str, String)],
) -> Result<(), String> {
    let _alone = shared.rewriting.lock();
    let disk = &*shared.engine.env().disk;
    let text = match config::read_file(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.to_string()),
    };
    // The file's values were checked at the start, and the current values are valid.
    let is_setting =
        |name: &str, _: &str| of_modules.iter().any(|(known, _)| *known == name).then_some(Ok(()));
    let load = |text: &[u8]| {
        let mut loader = Loader::new(disk, &is_setting, super::table(&shared.module_commands));
        loader.text(path, text);
        let (config, _) = loader.finish().map_err(|errors| errors.to_string())?;
        Ok(values(&config, &shared.module_defaults, |name| config.module_settings.get(name).cloned()))
    };
    let wanted = values(config, of_modules, |_| None);
    let changed = rewrite::rewrite(&text, &wanted, load)?;
    rewrite::write_atomically(path, &changed).map_err(|error| error.to_string())
}

/// All parameters, and the settings of modules: of `given` where it has them, else the current ones.
fn values(
    config: &Config,
    settings: &[(&'static str, String)],
    given: impl Fn(&str) -> Option<String>,
) -> Values {
    let own = PARAMETERS.iter().map(|parameter| {
        // A relative path would mean another directory to a start from elsewhere.
        let value = match parameter.name {
            "dir" => absolute(&config.directory).display().to_string(),
            _ => (parameter.get)(config),
        };
        (parameter.name.to_owned(), value)
    });
    let settings =
        settings.iter().map(|(name, value)| ((*name).to_owned(), given(name).unwrap_or(value.clone())));
    own.chain(settings).collect()
}

pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or(path.to_owned())
}
