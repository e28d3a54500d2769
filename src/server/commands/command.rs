//! COMMAND: the table of commands, shown.

use super::{Call, Run, session, text};
use engramdb_engine::command::{Args, Command, CommandError, Known, Outcome, Reply, acl, flag};
use engramdb_engine::commands::glob_matches;

pub const COMMANDS: &[Command] = &[session("COMMAND", "[subcommand [argument+]]", &Run(all))
    .group("server")
    .flags(flag::LOADING | flag::STALE)
    .acl(acl::CONNECTION)
    .tips(&["nondeterministic_output_order"])
    .docs(
        "2.8.13",
        "O(N) where N is the total number of Redis commands",
        "Returns detailed information about all commands.",
    )
    .subcommands(COMMAND)];

const fn row(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    session(name, usage, run).group("server").flags(flag::LOADING | flag::STALE).acl(acl::CONNECTION)
}

const COMMAND: &[Command] = &[
    row("COUNT", "", &Run(count)).docs("2.8.13", "O(1)", "Returns a count of commands."),
    row("DOCS", "[command-name+]", &Run(docs)).tips(&["nondeterministic_output_order"]).docs(
        "7.0.0",
        "O(N) where N is the number of commands to look up",
        "Returns documentary information about one, multiple or all commands.",
    ),
    row("GETKEYS", "command [argument+]", &Run(get_keys)).docs(
        "2.8.13",
        "O(N) where N is the number of arguments to the command",
        "Extracts the key names from an arbitrary command.",
    ),
    row("GETKEYSANDFLAGS", "command [argument+]", &Run(get_keys_and_flags)).docs(
        "7.0.0",
        "O(N) where N is the number of arguments to the command",
        "Extracts the key names and access flags for an arbitrary command.",
    ),
    row("HELP", "", &Run(super::help)).docs(
        "5.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    row("INFO", "[command-name+]", &Run(info)).tips(&["nondeterministic_output_order"]).docs(
        "2.8.13",
        "O(N) where N is the number of commands to look up",
        "Returns information about one, multiple or all commands.",
    ),
    row("LIST", "[FILTERBY MODULE|ACLCAT|PATTERN value]", &Run(list))
        .tips(&["nondeterministic_output_order"])
        .docs(
            "7.0.0",
            "O(N) where N is the total number of Redis commands",
            "Returns a list of command names.",
        ),
];

fn all(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.reply.array(call.shared.table.listed().count());
    for known in call.shared.table.listed() {
        describe(call.reply, known, &known.full_name);
    }
    Ok(())
}

fn count(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.reply.integer(call.shared.table.listed().count() as i64);
    Ok(())
}

/// A command, or a subcommand as `config|get`.
fn find<'c>(call: &Call<'c, '_, '_>, name: &[u8]) -> Option<&'c Known> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let known = call.shared.table.get(parts.next()?)?;
    match parts.next() {
        None => Some(known),
        Some(sub) => {
            let is_asked = |known: &&Known| known.command.name.as_bytes().eq_ignore_ascii_case(sub);
            known.subcommands.iter().find(is_asked)
        }
    }
}

fn info(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.args.len() == 2 {
        return all(call);
    }
    call.reply.array(call.args.len() - 2);
    for name in call.args.from(2) {
        match find(call, name) {
            Some(known) => describe(call.reply, known, &known.full_name),
            None => call.reply.null(),
        }
    }
    Ok(())
}

/// Redis's ten fields.
fn describe(reply: &mut dyn Reply, known: &Known, name: &str) {
    let command = known.command;
    reply.array(10);
    reply.bulk(name.as_bytes());
    reply.integer(i64::from(known.shape.arity));
    simple_set(reply, &flags(command));
    let (first, last, step) = known.shape.keys;
    for number in [first, last, step] {
        reply.integer(i64::from(number));
    }
    let categories: Vec<String> = command.acl_names().map(|category| format!("@{category}")).collect();
    simple_set(reply, &categories.iter().map(String::as_str).collect::<Vec<_>>());
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    key_specifications(reply, known);
    reply.set(known.subcommands.len());
    for sub in &known.subcommands {
        describe(reply, sub, &sub.full_name);
    }
}

fn simple_set(reply: &mut dyn Reply, words: &[&str]) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
}

fn flags(command: &Command) -> Vec<&'static str> {
    let moves_keys = command.keys.is_some().then_some("movablekeys");
    command.flag_names().chain(moves_keys).collect()
}

/// How clients that shard find the keys: one specification for all of them, or one for each where the command
/// does different things with them.
fn key_specifications(reply: &mut dyn Reply, known: &Known) {
    let (first, last, step) = known.shape.keys;
    if known.command.keys.is_some() || first == 0 {
        return reply.set(0);
    }
    let access = known.command.key_access();
    reply.set(access.len());
    if let [access] = access {
        let last = if last < 0 { last } else { last - first };
        return key_specification(reply, access, first, last, step);
    }
    for (access, key) in access.iter().zip((first..).step_by(step as usize)) {
        key_specification(reply, access, key, 0, 1);
    }
}

/// `last` counts from the first key on; -1 is the last word.
fn key_specification(reply: &mut dyn Reply, access: &str, first: i32, last: i32, step: i32) {
    reply.map(3);
    reply.bulk(b"flags");
    simple_set(reply, &access.split(' ').collect::<Vec<_>>());
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.integer(i64::from(first));
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    reply.integer(i64::from(last));
    reply.bulk(b"keystep");
    reply.integer(i64::from(step));
    reply.bulk(b"limit");
    reply.integer(0);
}

/// What this call does with its key number `key`. Some vary: SET reads the old value only with GET.
fn access_of_call(command: &Command, args: Args<'_>, key: usize) -> &'static str {
    if let Some(access_by) = command.access_by {
        return access_by(args, key);
    }
    let access = command.key_access();
    access.get(key).or(access.last()).copied().unwrap_or_default()
}

fn docs(call: &mut Call<'_, '_, '_>) -> Outcome {
    let asked = call.args.from(2);
    let found: Vec<&Known> = if asked.is_empty() {
        call.shared.table.listed().collect()
    } else {
        asked.iter().filter_map(|name| find(call, name)).collect()
    };
    call.reply.map(found.len());
    for known in found {
        document(call.reply, known);
    }
    Ok(())
}

fn document(reply: &mut dyn Reply, known: &Known) {
    let command = known.command;
    let subcommands = &known.subcommands;
    reply.bulk(known.full_name.as_bytes());
    reply.map(4 + usize::from(!subcommands.is_empty()));
    for (field, value) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group),
        ("complexity", command.complexity),
    ] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        subcommands.iter().for_each(|sub| document(reply, sub));
    }
}

/// The command that follows in the words, and the indexes of its keys.
fn keys_of<'c>(call: &Call<'c, '_, '_>) -> Result<(&'c Known, Args<'c>, Vec<usize>), CommandError> {
    let args = Args::new(call.args.from(2));
    let known = call.shared.table.find(args).ok_or(CommandError::of("ERR Invalid command specified"))?;
    let has_none = known.shape.keys == (0, 0, 0) || known.command.access == ["not_key"];
    if known.command.keys.is_none() && has_none {
        return Err(CommandError::of("ERR The command has no key arguments"));
    }
    if !known.takes(args) {
        return Err(CommandError::of("ERR Invalid number of arguments specified for command"));
    }
    let invalid = CommandError::of("ERR Invalid arguments specified for command");
    let may_be_none = known.command.has(flag::NO_MANDATORY_KEYS);
    let keys = known.key_words(args).ok().filter(|keys| may_be_none || !keys.is_empty()).ok_or(invalid)?;
    Ok((known, args, keys))
}

fn get_keys(call: &mut Call<'_, '_, '_>) -> Outcome {
    let (_, args, keys) = keys_of(call)?;
    call.reply.array(keys.len());
    for key in keys {
        call.reply.bulk(args[key]);
    }
    Ok(())
}

fn get_keys_and_flags(call: &mut Call<'_, '_, '_>) -> Outcome {
    let (known, args, keys) = keys_of(call)?;
    call.reply.array(keys.len());
    for (number, key) in keys.into_iter().enumerate() {
        call.reply.array(2);
        call.reply.bulk(args[key]);
        let access = access_of_call(known.command, args, number);
        simple_set(call.reply, &access.split(' ').collect::<Vec<_>>());
    }
    Ok(())
}

fn list(call: &mut Call<'_, '_, '_>) -> Outcome {
    let mut options = call.args.options(2);
    let mut is_listed: Box<dyn Fn(&Known) -> bool> = Box::new(|_| true);
    if !options.is_done() {
        if !options.take("FILTERBY") {
            return Err(CommandError::SYNTAX);
        }
        if options.take("MODULE") {
            let module = text(options.word()?).to_lowercase();
            is_listed = Box::new(move |known| {
                known.command.has(flag::MODULE) && known.command.group == module.as_str()
            });
        } else if options.take("ACLCAT") {
            let category = text(options.word()?).to_lowercase();
            is_listed = Box::new(move |known| known.command.acl_names().any(|name| name == category));
        } else if options.take("PATTERN") {
            let pattern = options.word()?.to_ascii_lowercase();
            is_listed = Box::new(move |known| {
                glob_matches(&pattern, known.full_name.to_ascii_lowercase().as_bytes())
            });
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    if !options.is_done() {
        return Err(CommandError::SYNTAX);
    }
    let mut names = Vec::new();
    for known in call.shared.table.listed() {
        let all = std::iter::once(known).chain(&known.subcommands);
        names.extend(all.filter(|known| is_listed(known)).map(|known| &*known.full_name));
    }
    call.reply.array(names.len());
    for name in names {
        call.reply.bulk(name.as_bytes());
    }
    Ok(())
}
