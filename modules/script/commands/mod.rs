//! The rows of all commands, and what their handlers share.

mod eval;
mod functions;
mod scripts;

use engramdb_engine::command::{Args, Command, CommandError, acl, container, flag};
use engramdb_server::{RunScript, script};

const DEPENDS_ON_SCRIPT: &str = "Depends on the script that is executed.";
const DEPENDS_ON_FUNCTION: &str = "Depends on the function that is executed.";

/// A command that runs a script. MONITOR shows it before what the script calls, not after it.
const fn runs(name: &'static str, usage: &'static str, run: &'static RunScript) -> Command {
    script(name, usage, run)
        .group("scripting")
        .flags(flag::NO_SCRIPT | flag::STALE | flag::SKIP_MONITOR | flag::NO_MANDATORY_KEYS)
        .acl(acl::SCRIPTING)
        .keys(keys)
        .access(&["RW access update"])
}

/// One whose script may only read.
const fn only_reads(row: Command) -> Command {
    let flags = row.flags | flag::READ_ONLY;
    row.flags(flags).access(&["RO access"])
}

pub const COMMANDS: &[Command] = &[
    runs("EVAL", "script numkeys [key+] [arg+]", &RunScript(eval::eval)).docs(
        "2.6.0",
        DEPENDS_ON_SCRIPT,
        "Executes a server-side Lua script.",
    ),
    runs("EVALSHA", "sha1 numkeys [key+] [arg+]", &RunScript(eval::evalsha)).docs(
        "2.6.0",
        DEPENDS_ON_SCRIPT,
        "Executes a server-side Lua script by SHA1 digest.",
    ),
    only_reads(runs("EVAL_RO", "script numkeys [key+] [arg+]", &RunScript(eval::eval_ro))).docs(
        "7.0.0",
        DEPENDS_ON_SCRIPT,
        "Executes a read-only server-side Lua script.",
    ),
    only_reads(runs("EVALSHA_RO", "sha1 numkeys [key+] [arg+]", &RunScript(eval::evalsha_ro))).docs(
        "7.0.0",
        DEPENDS_ON_SCRIPT,
        "Executes a read-only server-side Lua script by SHA1 digest.",
    ),
    runs("FCALL", "function numkeys [key+] [arg+]", &RunScript(functions::fcall)).docs(
        "7.0.0",
        DEPENDS_ON_FUNCTION,
        "Invokes a function.",
    ),
    only_reads(runs("FCALL_RO", "function numkeys [key+] [arg+]", &RunScript(functions::fcall_ro))).docs(
        "7.0.0",
        DEPENDS_ON_FUNCTION,
        "Invokes a read-only function.",
    ),
    container("SCRIPT", scripts::COMMANDS).group("scripting").docs(
        "2.6.0",
        "Depends on subcommand.",
        "A container for Lua scripts management commands.",
    ),
    container("FUNCTION", functions::COMMANDS).group("scripting").docs(
        "7.0.0",
        "Depends on subcommand.",
        "A container for function commands.",
    ),
];

/// The keys and the arguments of a script.
type Split<'a> = (&'a [&'a [u8]], &'a [&'a [u8]]);

/// Splits the words behind the number of keys.
fn split<'a>(args: Args<'a>, wrong: CommandError) -> Result<Split<'a>, CommandError> {
    let count = args.integer(2).map_err(|_| wrong)?;
    let words = args.from(3);
    if count < 0 {
        return Err(CommandError::of("ERR Number of keys can't be negative"));
    }
    let split = usize::try_from(count).ok().and_then(|count| words.split_at_checked(count));
    split.ok_or(CommandError::of("ERR Number of keys can't be greater than number of args"))
}

fn keys(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    let (keys, _) = split(args, CommandError::NOT_INTEGER)?;
    Ok((3..3 + keys.len()).collect())
}
