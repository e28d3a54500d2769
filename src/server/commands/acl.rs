//! ACL: users and their rights. What changes users is an effect, as any write.

use super::{After, Call, Run, session};
use crate::acl::{
    self, Acl, AclLogEntry, DEFAULT_USER, Denied, FileUser, Rights, Selector, User, merge_selectors,
};
use crate::context::ServerContext;
use crate::dispatch::{Resumed, WriteReply};
use crate::output::{Outbox, Replies, Style};
use engramdb_engine::command::{
    Args, Command, CommandError, Known, Outcome, PrefixFinder, Reply, acl as category, container, flag, read,
    shown_word, write,
};
use engramdb_engine::effect::Effect;
use engramdb_engine::log::Lsn;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use engramdb_resp::Protocol;
use std::sync::Arc;

pub const COMMANDS: &[Command] = &[container("ACL", ACL).group("server").docs(
    "6.0.0",
    "Depends on subcommand.",
    "A container for Access List Control commands.",
)];

const ANYTIME: u32 = flag::NO_SCRIPT | flag::LOADING | flag::STALE;
const ADMIN: u32 = ANYTIME | flag::ADMIN | flag::NO_DATA;

const fn own(row: Command) -> Command {
    row.group("server").flags(ANYTIME | flag::NO_DATA)
}

const fn admin(row: Command) -> Command {
    row.group("server").flags(ADMIN).acl(category::ADMIN | category::DANGEROUS)
}

const TO_ALL: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const ACL: &[Command] = &[
    own(session("CAT", "[category]", &Run(cat))).docs(
        "6.0.0",
        "O(1) since the categories and commands are a fixed set.",
        "Lists the ACL categories, or the commands inside a category.",
    ),
    admin(write("DELUSER", "username+", del_user)).tips(TO_ALL).docs(
        "6.0.0",
        "O(1) amortized time considering the typical user.",
        "Deletes ACL users, and terminates their connections.",
    ),
    admin(session("DRYRUN", "username command [arg+]", &Run(dry_run))).docs(
        "7.0.0",
        "O(1).",
        "Simulates the execution of a command by a user, without executing the command.",
    ),
    own(session("GENPASS", "[bits]", &Run(gen_pass))).docs(
        "6.0.0",
        "O(1)",
        "Generates a pseudorandom, secure password that can be used to identify ACL users.",
    ),
    admin(read("GETUSER", "username", get_user)).docs(
        "6.0.0",
        "O(N). Where N is the number of password, command and pattern rules that the user has.",
        "Lists the ACL rules of a user.",
    ),
    session("HELP", "", &Run(super::help)).group("server").flags(flag::LOADING | flag::STALE).docs(
        "6.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    admin(read("LIST", "", list)).docs(
        "6.0.0",
        "O(N). Where N is the number of configured users.",
        "Dumps the effective rules in ACL file format.",
    ),
    admin(session("LOAD", "", &Run(load))).docs(
        "6.0.0",
        "O(N). Where N is the number of configured users.",
        "Replaces all users by those of the configured ACL file.",
    ),
    admin(session("LOG", "[count|RESET]", &Run(log))).docs(
        "6.0.0",
        "O(N) with N being the number of entries shown.",
        "Lists recent security events generated due to ACL rules.",
    ),
    admin(session("SAVE", "", &Run(save))).tips(TO_ALL).docs(
        "6.0.0",
        "O(N). Where N is the number of configured users.",
        "Writes the users to the configured ACL file.",
    ),
    admin(write("SETUSER", "username [rule+]", set_user)).room(set_user_room).tips(TO_ALL).docs(
        "6.0.0",
        "O(N). Where N is the number of rules provided.",
        "Creates and modifies an ACL user and its rules.",
    ),
    admin(read("USERS", "", users)).docs(
        "6.0.0",
        "O(N). Where N is the number of configured users.",
        "Lists all ACL users.",
    ),
    own(session("WHOAMI", "", &Run(who_am_i))).docs(
        "6.0.0",
        "O(1)",
        "Returns the authenticated username of the current connection.",
    ),
];

/// Replaces all users: names and rules in turn. Not a command of clients, but ACL LOAD, and what a start does
/// with an ACL file.
pub static REPLACE_USERS: Command = write("ACL LOAD", "(username rules)+", replace_users);

/// What the users' rules mean; the server sets it before it serves the first command.
fn acl_of(view: &View<'_>) -> Arc<Acl> {
    view.users().keeper().expect("the server keeps the users")
}

fn cat(call: &mut Call<'_, '_, '_>) -> Outcome {
    let catalog = &call.shared.acl.catalog;
    match *call.args {
        [_, _] => {
            let categories: Vec<&str> = catalog.categories().collect();
            call.reply.array(categories.len());
            categories.iter().for_each(|category| call.reply.bulk(category.as_bytes()));
        }
        [_, _, category] => {
            let Some(ids) = catalog.category(category) else {
                let shown = shown_word(category, usize::MAX);
                return Err(CommandError::of_parts(&[b"ERR Unknown category '", shown, b"'"]));
            };
            call.reply.array(ids.len());
            ids.iter().for_each(|id| call.reply.bulk(catalog.get(*id).full_name.as_bytes()));
        }
        _ => return Err(CommandError::wrong_subcommand(call.args.word(0), call.args.word(1))),
    }
    Ok(())
}

fn del_user(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let names = args.from(2);
    if names.contains(&DEFAULT_USER) {
        return Err(CommandError::of("ERR The 'default' user cannot be removed"));
    }
    let acl = tx.read(acl_of);
    let mut deleted = 0;
    for name in names {
        // A name that is given twice is deleted once.
        if acl.user(name).is_some() {
            tx.apply(Effect::UserDelete { name });
            deleted += 1;
        }
    }
    reply.integer(deleted);
    Ok(())
}

fn set_user(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let name = args.word(2);
    if name.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 11)) {
        return Err(CommandError::of("ERR Usernames can't contain spaces or null characters"));
    }
    let acl = tx.read(acl_of);
    let known = acl.user(name).map(|user| user.rights());
    let before = known.as_ref().map(|rights| rights.describe());
    let mut rights = known.map_or_else(|| acl.new_rights(), |rights| (*rights).clone());
    for rule in merged(args.from(3))? {
        rights.apply(&acl.catalog, &rule, acl.permits_channels()).map_err(|cause| {
            let start = b"ERR Error in ACL SETUSER modifier '";
            CommandError::of_parts(&[start, shown_word(&rule, usize::MAX), b"': ", cause.as_bytes()])
        })?;
    }
    let rules = rights.describe();
    if before.as_deref() != Some(&rules[..]) {
        tx.apply(Effect::UserSet { name, rules: &rules });
    }
    reply.ok();
    Ok(())
}

fn merged(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, CommandError> {
    merge_selectors(words).map_err(|index| {
        let word = shown_word(words[index], usize::MAX);
        CommandError::of_parts(&[b"ERR Unmatched parenthesis in acl selector starting at '", word, b"'."])
    })
}

/// The effect has all rules of the user, not only those of the call.
fn set_user_room(view: &View<'_>, args: Args<'_>) -> usize {
    let user = acl_of(view).user(args.word(2));
    user.map_or(0, |user| user.rights().describe().len())
}

fn replace_users(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let acl = tx.read(acl_of);
    let given = args.from(1).chunks_exact(2);
    for user in acl.users() {
        if *user.name != *DEFAULT_USER && given.clone().all(|pair| *pair[0] != *user.name) {
            tx.apply(Effect::UserDelete { name: &user.name });
        }
    }
    for pair in given {
        let (name, rules) = (pair[0], pair[1]);
        if acl.user(name).is_none_or(|user| user.rights().describe() != rules) {
            tx.apply(Effect::UserSet { name, rules });
        }
    }
    if !tx.read(|view| view.users().is_owned()) {
        tx.apply(Effect::UsersOwned);
    }
    reply.ok();
    Ok(())
}

fn get_user(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let Some(user) = acl_of(view).user(args.word(2)) else {
        reply.null();
        return Ok(());
    };
    let rights = user.rights();
    reply.map(6);
    reply.bulk(b"flags");
    let flags = rights.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(rights.passwords.len());
    rights.passwords.iter().for_each(|password| reply.bulk(password.hex().as_bytes()));
    write_selector(reply, &rights.selectors[0]);
    reply.bulk(b"selectors");
    reply.array(rights.selectors.len() - 1);
    for selector in &rights.selectors[1..] {
        reply.map(3);
        write_selector(reply, selector);
    }
    Ok(())
}

fn write_selector(reply: &mut dyn Reply, selector: &Selector) {
    for (name, text) in [
        ("commands", selector.describe_commands()),
        ("keys", selector.describe_keys()),
        ("channels", selector.describe_channels(false)),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(&text);
    }
}

/// A line of an ACL file.
fn line_of(name: &[u8], rights: &Rights) -> Vec<u8> {
    [b"user ", name, b" ", &rights.describe()[..]].concat()
}

fn list(view: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let users = acl_of(view).users();
    reply.array(users.len());
    users.iter().for_each(|user| reply.bulk(&line_of(&user.name, &user.rights())));
    Ok(())
}

fn users(view: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let users = acl_of(view).users();
    reply.array(users.len());
    users.iter().for_each(|user| reply.bulk(&user.name));
    Ok(())
}

fn who_am_i(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.reply.bulk(&call.session.user.name);
    Ok(())
}

fn gen_pass(call: &mut Call<'_, '_, '_>) -> Outcome {
    let bits = match *call.args {
        [_, _] => 256,
        [_, _, _] => call.args.integer(2)?,
        _ => return Err(CommandError::wrong_subcommand(call.args.word(0), call.args.word(1))),
    };
    if !(1..=4096).contains(&bits) {
        return Err(CommandError::of(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    let digits = (bits as usize).div_ceil(4);
    let random = &call.shared.engine.env().random;
    let words: String = (0..digits.div_ceil(16)).map(|_| format!("{:016x}", random.next_u64())).collect();
    call.reply.bulk(&words.as_bytes()[..digits]);
    Ok(())
}

fn dry_run(call: &mut Call<'_, '_, '_>) -> Outcome {
    let (shared, name) = (call.shared, call.args.word(2));
    let Some(user) = shared.acl.user(name) else {
        let shown = shown_word(name, usize::MAX);
        return Err(CommandError::of_parts(&[b"ERR User '", shown, b"' not found"]));
    };
    let words = Args::new(call.args.from(3));
    let Some(known) = shared.table.find(words) else {
        let shown = shown_word(words.word(0), usize::MAX);
        return Err(CommandError::of_parts(&[b"ERR Command '", shown, b"' not found"]));
    };
    if !known.takes(words) {
        return Err(CommandError::wrong_arity(&known.full_name));
    }
    let rights = user.rights();
    let look = |find: PrefixFinder| call.look(|view| find(view, words));
    match shared.acl.check(&rights, known, words, look) {
        // Redis looks at the patterns of SORT when it runs.
        Ok(()) | Err(Denied::Sort(_)) => call.reply.ok(),
        Err(denied) => call.reply.bulk(&reason(denied, &user.name, known, words)?),
    }
    Ok(())
}

/// Why a command is denied, with all that is known.
fn reason(denied: Denied, user: &[u8], known: &Known, words: Args<'_>) -> Result<Vec<u8>, CommandError> {
    let about = |what: &[u8], object: &[u8], kind: &[u8]| {
        [b"User ", user, b" has no permissions to ", what, b" the '", object, b"' ", kind].concat()
    };
    Ok(match denied {
        Denied::Command => about(b"run", known.full_name.as_bytes(), b"command"),
        Denied::Key(word) => about(b"access", words.word(word), b"key"),
        Denied::Channel(word) => about(b"access", words.word(word), b"channel"),
        Denied::Index => b"User does not have the required permissions to query the index".to_vec(),
        Denied::Malformed | Denied::Sort(_) => {
            return Err(known.key_words(words).err().unwrap_or(CommandError::SYNTAX));
        }
    })
}

fn log(call: &mut Call<'_, '_, '_>) -> Outcome {
    let count = match *call.args {
        [_, _] => 10,
        [_, _, _] if call.args.is(2, "RESET") => {
            call.shared.acl.log().clear();
            call.reply.ok();
            return Ok(());
        }
        [_, _, _] => call.args.integer(2)?.max(0),
        _ => return Err(CommandError::wrong_subcommand(call.args.word(0), call.args.word(1))),
    };
    let entries = call.shared.acl.log().last(count as usize);
    let now_ms = call.shared.engine.now_ms();
    call.reply.array(entries.len());
    entries.iter().for_each(|entry| write_entry(call.reply, entry, now_ms));
    Ok(())
}

fn write_entry(reply: &mut dyn Reply, entry: &AclLogEntry, now_ms: u64) {
    reply.map(10);
    reply.bulk(b"count");
    reply.integer(entry.count as i64);
    for (name, text) in [
        ("reason", entry.reason.as_bytes()),
        ("context", entry.context.as_bytes()),
        ("object", &entry.object),
        ("username", &entry.user),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text);
    }
    reply.bulk(b"age-seconds");
    reply.double(now_ms.saturating_sub(entry.updated_ms) as f64 / 1000.0);
    reply.bulk(b"client-info");
    reply.bulk(entry.client.as_bytes());
    for (name, number) in [
        ("entry-id", entry.id),
        ("timestamp-created", entry.created_ms),
        ("timestamp-last-updated", entry.updated_ms),
    ] {
        reply.bulk(name.as_bytes());
        reply.integer(number as i64);
    }
}

const NO_FILE: CommandError = CommandError::of(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER \
     command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users \
     in the Redis configuration.",
);

fn load(call: &mut Call<'_, '_, '_>) -> Outcome {
    let path = call.shared.config.read().acl_file.clone();
    if path.is_empty() {
        return Err(NO_FILE);
    }
    if call.transaction.is_some() {
        return Err(CommandError::of("ERR ACL LOAD is not possible in a transaction"));
    }
    let acl = &call.shared.acl;
    let mut users = acl::read_file(acl, &path).map_err(|cause| CommandError::new(format!("ERR {cause}")))?;
    if users.iter().all(|(name, _)| name != DEFAULT_USER) {
        users.push((DEFAULT_USER.to_vec(), Rights::unrestricted(&acl.catalog).describe()));
    }
    call.gate = replace(call.shared, || users.clone(), call.reply)?;
    Ok(())
}

/// Replaces all users, in one batch, by those that `users` makes of the present ones. Returns the gate of the
/// reply.
fn replace(
    shared: &ServerContext,
    users: impl Fn() -> Vec<FileUser>,
    reply: &mut dyn Reply,
) -> Result<Lsn, CommandError> {
    loop {
        let version = shared.acl.version();
        let users = users();
        let mut words: Vec<&[u8]> = vec![b"ACL LOAD"];
        words.extend(users.iter().flat_map(|(name, rules)| [&name[..], &rules[..]]));
        let deleted: usize = shared.acl.users().iter().map(|user| user.name.len() + 96).sum();
        let bytes = REPLACE_USERS.batch_bytes_max(&words) + deleted;
        let credit = shared.engine.admit(1, bytes).map_err(|refusal| {
            let text = format!("ERR the users cannot be written to the transaction log now: {refusal}");
            CommandError::new(text)
        })?;
        let mut run = shared.engine.writes(credit);
        // A user who has changed since would get what was there before, and one who is new has no room.
        if shared.acl.version() == version {
            return Ok(run.run(0, &REPLACE_USERS, Args::new(&words), reply).gate);
        }
    }
}

/// Gives the user `default` this one password, or none: as an effect where the store has rules of its own for
/// that user. Returns the gate of the reply.
pub fn set_default_password(call: &Call<'_, '_, '_>, password: &str) -> Result<Lsn, CommandError> {
    let shared = call.shared;
    let is_own = |view: &View<'_>| view.users().iter().any(|(name, _)| name == DEFAULT_USER);
    if call.transaction.is_some() {
        // The transaction has no room in the log for the effect.
        return Err(CommandError::of("ERR CONFIG SET requirepass is not possible in a transaction"));
    }
    if is_own(&shared.engine.inspect().view(0)) {
        let user_with_password = |user: &Arc<User>| {
            let rules = match *user.name == *DEFAULT_USER {
                true => shared.acl.rights_with_password(password).describe(),
                false => user.rights().describe(),
            };
            (user.name.to_vec(), rules)
        };
        let users = || shared.acl.users().iter().map(user_with_password).collect();
        let mut outbox = Outbox::default();
        return replace(shared, users, &mut Replies::new(&mut outbox, STYLE));
    }
    shared.acl.set_default_password(password);
    Ok(Lsn(0))
}

const STYLE: Style = Style { protocol: Protocol::Resp2, prefers_flat: false };

/// Gives a store that has no users of its own those of the configuration.
///
/// # Errors
/// A text about a user or a file that is wrong.
pub fn seed(shared: &ServerContext) -> Result<(), String> {
    let (path, lines) = {
        let config = shared.config.read();
        (config.acl_file.clone(), config.users.clone())
    };
    if !path.is_empty() && !lines.is_empty() {
        return Err("there are both 'aclfile' and 'user' lines: users must be in one place".to_owned());
    }
    if path.is_empty() && lines.is_empty() {
        return Ok(());
    }
    let users = if path.is_empty() {
        fn words((index, line): (usize, &Vec<String>)) -> (usize, Vec<&[u8]>) {
            let user = std::iter::once(&b"user"[..]);
            (index + 1, user.chain(line.iter().map(|word| word.as_bytes())).collect())
        }
        acl::parse_users(&shared.acl, "user line", lines.iter().enumerate().map(words))?
    } else {
        acl::read_file(&shared.acl, &path)?
    };
    let is_owned = shared.engine.inspect().view(0).users().is_owned();
    if is_owned || shared.engine.refuses_writes().is_some() {
        tracing::info!(
            "the store has its own users: those of the configuration are not read (ACL LOAD reads a file)"
        );
        return Ok(());
    }
    let unrestricted = Rights::unrestricted(&shared.acl.catalog).describe();
    if let [(name, rules)] = &users[..]
        && (&name[..], rules) == (DEFAULT_USER, &unrestricted)
    {
        // What CONFIG REWRITE of Redis writes where there are no users.
        return Ok(());
    }
    let mut outbox = Outbox::default();
    replace(shared, || users.clone(), &mut Replies::new(&mut outbox, STYLE))
        .map_err(|error| error.text().into_owned())?;
    tracing::info!("the store has the {} users of the configuration now", users.len());
    Ok(())
}

/// Writes the file on a thread for long work, since it waits for the disk; inside EXEC at once.
fn save(call: &mut Call<'_, '_, '_>) -> Outcome {
    let path = call.shared.config.read().acl_file.clone();
    if path.is_empty() {
        return Err(NO_FILE);
    }
    let mut text = Vec::new();
    for user in call.shared.acl.users() {
        text.extend_from_slice(&line_of(&user.name, &user.rights()));
        text.push(b'\n');
    }
    let work = move || {
        crate::config::rewrite::write_atomically(path.as_ref(), &text).map_err(|error| {
            tracing::warn!("ACL SAVE: {path}: {error}");
            CommandError::of(
                "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
            )
        })
    };
    if call.transaction.is_some() {
        work()?;
        call.reply.ok();
        return Ok(());
    }
    let work = tokio::task::spawn_blocking(work);
    call.after = After::Wait(Box::pin(async move {
        let result = work.await.unwrap_or(Err(CommandError::of("ERR the server stops")));
        let write: WriteReply = Box::new(move |reply| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(&error),
        });
        Resumed::Reply(write)
    }));
    Ok(())
}
