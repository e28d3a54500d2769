//! CONFIG, over the table of parameters.

use super::{Call, SessionFunction, text};
use crate::config::{self, CONSTANTS, Change, Config, PARAMETERS};
use crate::process;
use crate::stats::Counter;
use engramdb_engine::command::{Args, Command, CommandError, Outcome, Reply, acl, container, flag, session};
use engramdb_engine::commands::glob_matches;
use engramdb_engine::module::Modules;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[container("CONFIG", CONFIG).group("server").docs(
    "2.0.0",
    "Depends on subcommand.",
    "A container for server configuration commands.",
)];

const fn row(name: &'static str, usage: &'static str) -> Command {
    let flags = flag::ADMIN | flag::NO_SCRIPT | flag::LOADING | flag::STALE;
    session(name, usage).group("server").flags(flags).acl(acl::ADMIN | acl::DANGEROUS)
}

const CONFIG: &[Command] = &[
    row("GET", "parameter+").docs(
        "2.0.0",
        "O(N) when N is the number of configuration parameters provided",
        "Returns the effective values of configuration parameters.",
    ),
    row("HELP", "").flags(flag::LOADING | flag::STALE).acl(0).docs(
        "5.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    row("RESETSTAT", "").tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]).docs(
        "2.0.0",
        "O(1)",
        "Resets the server's statistics.",
    ),
    row("REWRITE", "").tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]).docs(
        "2.8.0",
        "O(1)",
        "Persists the effective configuration to file.",
    ),
    row("SET", "(parameter value)+")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs(
            "2.0.0",
            "O(N) when N is the number of configuration parameters provided",
            "Sets configuration parameters in-flight.",
        ),
];

pub const FUNCTIONS: &[(&str, SessionFunction)] = &[
    ("config|get", get),
    ("config|help", super::help),
    ("config|resetstat", reset_stat),
    ("config|rewrite", rewrite),
    ("config|set", set),
];

fn get(call: &mut Call<'_, '_, '_>) -> Outcome {
    let of_modules: Vec<(&str, String)> =
        call.look(|view| view.modules().iter().flat_map(|module| module.settings()).collect());
    let asked = |name: &str| {
        call.args.from(2).iter().any(|pattern| glob_matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    };
    let config = call.shared.config.read();
    let parameters = PARAMETERS.iter().map(|parameter| (parameter.name, (parameter.get)(&config)));
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
    let mut config = call.shared.config.read().clone();
    let args = call.args;
    let of_modules = call.look(|view| change(&mut config, view.modules(), args))?;
    if config.clients_max > call.shared.config.read().clients_max {
        allow_clients(config.clients_max, call.shared.workers.len())?;
    }
    call.shared.limits.follow(&config);
    *call.shared.config.write() = config;
    call.look(|view| {
        for (name, value) in &of_modules {
            view.modules().iter().for_each(|module| _ = module.set_setting(name, value, false));
        }
    });
    call.shared.evict_clients();
    call.reply.ok();
    Ok(())
}

/// Sees to it that so many clients can have file descriptors.
fn allow_clients(clients: usize, threads: usize) -> Outcome {
    let allowed = process::allow_clients(clients, threads);
    if allowed < clients {
        let cause = "The operating system is not able to handle the specified number of clients, try with";
        return Err(failed("maxclients", &format!("{cause} {allowed}")));
    }
    Ok(())
}

fn failed(name: &str, cause: &str) -> CommandError {
    CommandError::new(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {cause}"))
}

/// Changes the configuration; returns names and values of what modules are to change, which were tried.
fn change(
    config: &mut Config,
    modules: &Modules,
    args: Args<'_>,
) -> Result<Vec<(String, String)>, CommandError> {
    let mut seen: Vec<&str> = Vec::new();
    let mut of_modules: Vec<(String, String)> = Vec::new();
    for pair in args.from(2).chunks(2) {
        let name = text(pair[0]).to_lowercase();
        if let [_, value] = pair
            && let Some(tried) =
                modules.iter().find_map(|module| module.set_setting(&name, &text(value), true))
        {
            tried.map_err(|cause| failed(&name, &cause))?;
            if of_modules.iter().any(|(other, _)| *other == name) {
                return Err(failed(&name, "duplicate parameter"));
            }
            of_modules.push((name, text(value)));
            continue;
        }
        let parameter = config::parameter(&name);
        if parameter.is_none() && CONSTANTS.iter().any(|(constant, _)| *constant == name) {
            return Err(failed(&name, "can't set immutable config"));
        }
        let (Some(parameter), Some(value)) = (parameter, pair.get(1)) else {
            return Err(CommandError::new(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                text(pair[0])
            )));
        };
        if seen.contains(&parameter.name) {
            return Err(failed(parameter.name, "duplicate parameter"));
        }
        seen.push(parameter.name);
        if parameter.change == Change::AtStart {
            return Err(failed(parameter.name, "can't set immutable config"));
        }
        (parameter.set)(config, &text(value)).map_err(|cause| failed(parameter.name, &cause))?;
    }
    Ok(of_modules)
}

fn reset_stat(call: &mut Call<'_, '_, '_>) -> Outcome {
    let stats = &call.shared.stats;
    for worker in &call.shared.workers {
        worker.all().into_iter().for_each(Counter::reset);
        for command in &worker.commands {
            command.calls.reset();
            command.nanoseconds.reset();
            command.failed.reset();
        }
    }
    stats.connections.store(0, Ordering::Relaxed);
    for counter in [
        &stats.rejected_connections,
        &stats.evicted_clients,
        &stats.query_limit_disconnections,
        &stats.output_limit_disconnections,
    ] {
        counter.store(0, Ordering::Relaxed);
    }
    stats.errors.lock().clear();
    call.reply.ok();
    Ok(())
}

fn rewrite(_: &mut Call<'_, '_, '_>) -> Outcome {
    Err(CommandError::of("ERR The server is running without a config file"))
}
