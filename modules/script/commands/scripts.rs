//! SCRIPT: the cache of EVAL's scripts.

use crate::engine::ScriptEngine;
use crate::module::ScriptModule;
use engramdb_engine::command::{Command, CommandError, Outcome, Reply, acl, flag, session};
use engramdb_server::{Call, Run, ScriptKind};
use std::sync::Arc;

pub const COMMANDS: &[Command] = &[
    row("DEBUG", "<YES|SYNC|NO>", &Run(debug)).flags(flag::NO_SCRIPT).docs(
        "3.2.0",
        "O(1)",
        "Sets the debug mode of server-side Lua scripts.",
    ),
    row("EXISTS", "sha1+", &Run(exists)).flags(flag::NO_SCRIPT).tips(&["request_policy:all_shards", "response_policy:agg_logical_and"])
        .docs(
        "2.6.0",
        "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
        "Determines whether server-side Lua scripts exist in the script cache.",
    ),
    row("FLUSH", "[ASYNC|SYNC]", &Run(flush)).flags(flag::NO_SCRIPT).tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs(
        "2.6.0",
        "O(N) with N being the number of scripts in cache",
        "Removes all server-side Lua scripts from the script cache.",
    ),
    row("HELP", "", &Run(help)).flags(flag::LOADING | flag::STALE).docs(
        "5.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    row("KILL", "", &Run(kill)).flags(flag::NO_SCRIPT | flag::ALLOW_BUSY).tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
        .docs(
        "2.6.0",
        "O(1)",
        "Terminates a server-side Lua script during execution.",
    ),
    row("LOAD", "script", &Run(load)).flags(flag::NO_SCRIPT | flag::STALE).tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs(
        "2.6.0",
        "O(N) with N being the length in bytes of the script body.",
        "Loads a server-side Lua script to the script cache.",
    ),
    row("SHOW", "sha1", &Run(show)).flags(flag::NO_SCRIPT).docs(
        "8.0.0",
        "O(1)",
        "Shows a server-side Lua script in the script cache.",
    ),
];

const fn row(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    session(name, usage, run).group("scripting").acl(acl::SCRIPTING)
}

fn engine(call: &mut Call<'_, '_, '_>) -> Arc<ScriptEngine> {
    call.look(|view| view.module::<ScriptModule>().engine.clone())
}

fn debug(call: &mut Call<'_, '_, '_>) -> Outcome {
    let args = call.args();
    if args.is(2, "NO") {
        call.reply().ok();
        return Ok(());
    }
    Err(CommandError::of(match args.is(2, "YES") || args.is(2, "SYNC") {
        true => "ERR this server has no debugger of scripts",
        false => "ERR Use SCRIPT DEBUG YES/SYNC/NO",
    }))
}

fn exists(call: &mut Call<'_, '_, '_>) -> Outcome {
    let (engine, names) = (engine(call), call.args().from(2));
    call.reply().array(names.len());
    names.iter().for_each(|name| call.reply().integer(i64::from(engine.script_exists(name))));
    Ok(())
}

fn flush(call: &mut Call<'_, '_, '_>) -> Outcome {
    let args = call.args();
    let is_known = args.len() == 2 || args.len() == 3 && (args.is(2, "SYNC") || args.is(2, "ASYNC"));
    if !is_known {
        return Err(CommandError::of("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    engine(call).script_flush();
    call.reply().ok();
    Ok(())
}

fn kill(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.scripts().kill(ScriptKind::Eval)?;
    call.reply().ok();
    Ok(())
}

fn load(call: &mut Call<'_, '_, '_>) -> Outcome {
    let sha = engine(call).script_load(call.args().word(2))?;
    call.reply().bulk(sha.as_bytes());
    Ok(())
}

fn show(call: &mut Call<'_, '_, '_>) -> Outcome {
    let body = engine(call).script_body(call.args().word(2));
    let body = body.ok_or(CommandError::of("NOSCRIPT No matching script. Please use EVAL."))?;
    call.reply().bulk(&body);
    Ok(())
}

const HELP: &[&str] = &[
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DEBUG (YES|SYNC|NO)",
    "    Set the debug mode for subsequent scripts executed.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Forget the scripts of the script cache.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
    "SHOW <sha1>",
    "    Show a script in the scripts cache.",
    "HELP",
    "    Print this help.",
];

fn help(call: &mut Call<'_, '_, '_>) -> Outcome {
    write_help(call.reply(), HELP)
}

pub fn write_help(reply: &mut dyn Reply, lines: &[&str]) -> Outcome {
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
    Ok(())
}
