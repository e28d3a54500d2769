//! The rows of all commands, and what their handlers share.

mod eval;
mod functions;
mod scripts;

use engramdb_engine::command::{Args, Command, CommandError, acl, container, flag};
use engramdb_server::{RunScript, script};

const FLAGS: u32 = flag::NO_SCRIPT | flag::STALE | flag::SKIP_MONITOR | flag::NO_MANDATORY_KEYS;

pub const COMMANDS: &[Command] = &[
    script("EVAL", "script numkeys [key+] [arg+]", &RunScript(eval::eval))
        .group("scripting")
        .flags(FLAGS)
        .acl(acl::SCRIPTING)
        .keys(keys)
        .access(&["RW access update"])
        .docs("2.6.0", "Depends on the script that is executed.", "Executes a server-side Lua script."),
    script("EVALSHA", "sha1 numkeys [key+] [arg+]", &RunScript(eval::evalsha))
        .group("scripting")
        .flags(FLAGS)
        .acl(acl::SCRIPTING)
        .keys(keys)
        .access(&["RW access update"])
        .docs(
            "2.6.0",
            "Depends on the script that is executed.",
            "Executes a server-side Lua script by SHA1 digest.",
        ),
    script("EVAL_RO", "script numkeys [key+] [arg+]", &RunScript(eval::eval_ro))
        .group("scripting")
        .flags(FLAGS | flag::READ_ONLY)
        .acl(acl::SCRIPTING)
        .keys(keys)
        .access(&["RO access"])
        .docs(
            "7.0.0",
            "Depends on the script that is executed.",
            "Executes a read-only server-side Lua script.",
        ),
    script("EVALSHA_RO", "sha1 numkeys [key+] [arg+]", &RunScript(eval::evalsha_ro))
        .group("scripting")
        .flags(FLAGS | flag::READ_ONLY)
        .acl(acl::SCRIPTING)
        .keys(keys)
        .access(&["RO access"])
        .docs(
            "7.0.0",
            "Depends on the script that is executed.",
            "Executes a read-only server-side Lua script by SHA1 digest.",
        ),
    script("FCALL", "function numkeys [key+] [arg+]", &RunScript(functions::fcall))
        .group("scripting")
        .flags(FLAGS)
        .acl(acl::SCRIPTING)
        .keys(keys)
        .access(&["RW access update"])
        .docs("7.0.0", "Depends on the function that is executed.", "Invokes a function."),
    script("FCALL_RO", "function numkeys [key+] [arg+]", &RunScript(functions::fcall_ro))
        .group("scripting")
        .flags(FLAGS | flag::READ_ONLY)
        .acl(acl::SCRIPTING)
        .keys(keys)
        .access(&["RO access"])
        .docs("7.0.0", "Depends on the function that is executed.", "Invokes a read-only function."),
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
