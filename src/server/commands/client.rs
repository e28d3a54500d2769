//! CLIENT: connections by themselves and about each other.

use super::{After, Call, Run, connection::client_name, session, text, tracking};
use crate::clients::Client;
use crate::context::ServerContext;
use crate::pause::PauseKind;
use crate::session::ReplyMode;
use engramdb_engine::command::{
    Command, CommandError, Outcome, Reply, acl, container, flag, integer, shown_word,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const COMMANDS: &[Command] = &[container("CLIENT", CLIENT).group("connection").docs(
    "2.4.0",
    "Depends on subcommand.",
    "A container for client connection commands.",
)];

const ANYTIME: u32 = flag::NO_SCRIPT | flag::LOADING | flag::STALE;
const ADMIN: u32 = ANYTIME | flag::ADMIN;

const fn own(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    session(name, usage, run).group("connection").flags(ANYTIME).acl(acl::CONNECTION)
}

const fn admin(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    let categories = acl::CONNECTION | acl::ADMIN | acl::DANGEROUS;
    session(name, usage, run).group("connection").flags(ADMIN).acl(categories)
}

const CLIENT: &[Command] = &[
    own("CACHING", "YES|NO", &Run(tracking::caching)).docs(
        "6.0.0",
        "O(1)",
        "Instructs the server whether to track the keys in the next request.",
    ),
    own("GETNAME", "", &Run(get_name)).docs("2.6.9", "O(1)", "Returns the name of the connection."),
    own("GETREDIR", "", &Run(tracking::redirection)).docs(
        "6.0.0",
        "O(1)",
        "Returns the client ID to which the connection's tracking notifications are redirected.",
    ),
    own("HELP", "", &Run(super::help)).flags(flag::LOADING | flag::STALE).docs(
        "5.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    own("ID", "", &Run(id)).docs("5.0.0", "O(1)", "Returns the unique client ID of the connection."),
    own("INFO", "", &Run(info)).tips(&["nondeterministic_output"]).docs(
        "6.2.0",
        "O(1)",
        "Returns information about the connection.",
    ),
    admin("KILL", "address|filter [value+]", &Run(kill)).docs(
        "2.4.0",
        "O(N) where N is the number of client connections",
        "Terminates open connections.",
    ),
    admin("LIST", "[TYPE type] [ID id+]", &Run(list)).tips(&["nondeterministic_output"]).docs(
        "2.4.0",
        "O(N) where N is the number of client connections",
        "Lists open connections.",
    ),
    admin("NO-EVICT", "ON|OFF", &Run(no_evict)).docs(
        "7.0.0",
        "O(1)",
        "Sets the client eviction mode of the connection.",
    ),
    own("NO-TOUCH", "ON|OFF", &Run(no_touch)).docs(
        "7.2.0",
        "O(1)",
        "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
    ),
    admin("PAUSE", "timeout [WRITE|ALL]", &Run(pause)).docs("3.0.0", "O(1)", "Suspends commands processing."),
    own("REPLY", "ON|OFF|SKIP", &Run(reply)).docs(
        "3.2.0",
        "O(1)",
        "Instructs the server whether to reply to commands.",
    ),
    own("SETINFO", "attribute value", &Run(set_info))
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs("7.2.0", "O(1)", "Sets information specific to the client or connection."),
    own("SETNAME", "name", &Run(set_name))
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs("2.6.9", "O(1)", "Sets the connection name."),
    own("TRACKING", TRACKING, &Run(tracking::track)).docs(
        "6.0.0",
        "O(1). Some options may introduce additional complexity.",
        "Controls server-assisted client-side caching for the connection.",
    ),
    own("TRACKINGINFO", "", &Run(tracking::tracking_info)).docs(
        "6.2.0",
        "O(1)",
        "Returns information about server-assisted client-side caching for the connection.",
    ),
    admin("UNBLOCK", "client-id [TIMEOUT|ERROR]", &Run(unblock)).docs(
        "5.0.0",
        "O(log N) where N is the number of client connections",
        "Unblocks a client blocked by a blocking command from a different connection.",
    ),
    admin("UNPAUSE", "", &Run(unpause)).docs(
        "6.2.0",
        "O(N) Where N is the number of paused clients",
        "Resumes processing commands from paused clients.",
    ),
];

const TRACKING: &str = "ON|OFF [REDIRECT client-id] [PREFIX prefix+] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]";

fn get_name(call: &mut Call<'_, '_, '_>) -> Outcome {
    let name = call.session.client.names.lock().name.clone();
    call.reply.optional_bulk(Some(name.as_bytes()).filter(|name| !name.is_empty()));
    Ok(())
}

fn id(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.reply.integer(call.session.client.id as i64);
    Ok(())
}

fn info(call: &mut Call<'_, '_, '_>) -> Outcome {
    let line = call.shared.describe_client(&call.session.client);
    call.reply.verbatim("txt", line.as_bytes());
    Ok(())
}

/// Which connections CLIENT KILL and LIST mean. Of options that are given twice the last holds.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    address: Option<String>,
    local_address: Option<String>,
    age_s_min: Option<u64>,
    kind: Option<ClientKind>,
    user: Option<Vec<u8>>,
    includes_self: bool,
}

impl Filter {
    fn matches(&self, call: &Call<'_, '_, '_>, client: &Client) -> bool {
        let is_self = client.id == call.session.client.id;
        let age_s = call.shared.now().saturating_sub(client.connected_at).as_secs();
        (self.includes_self || !is_self)
            && self.kind.is_none_or(|kind| kind == ClientKind::of(client))
            && self.user.as_ref().is_none_or(|user| *client.user() == **user)
            && self.id.is_none_or(|id| id == client.id)
            && self.address.as_ref().is_none_or(|address| *address == client.address.to_string())
            && self.local_address.as_ref().is_none_or(|address| *address == client.local_address.to_string())
            && self.age_s_min.is_none_or(|age| age_s >= age)
    }
}

fn kill(call: &mut Call<'_, '_, '_>) -> Outcome {
    if let [_, _, address] = *call.args {
        let address = text(address);
        let clients = call.shared.clients.all();
        let found = clients.iter().find(|client| client.address.to_string() == address);
        let found = found.ok_or(CommandError::of("ERR No such client"))?;
        end(call, found);
        call.reply.ok();
        return Ok(());
    }
    let filter = kill_filter(call)?;
    let mut killed = 0;
    for client in call.shared.clients.all() {
        if filter.matches(call, &client) {
            end(call, &client);
            killed += 1;
        }
    }
    call.reply.integer(killed);
    Ok(())
}

/// A connection that kills itself gets its reply first.
fn end(call: &mut Call<'_, '_, '_>, client: &Arc<Client>) {
    if client.id == call.session.client.id {
        call.after = After::Close;
    } else {
        client.kill();
    }
}

fn kill_filter(call: &Call<'_, '_, '_>) -> Result<Filter, CommandError> {
    let mut options = call.args.options(2);
    let mut filter = Filter::default();
    while !options.is_done() {
        if options.take("ID") {
            let id = options.integer().ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
            let id = id.ok_or(CommandError::of("ERR client-id should be greater than 0"))?;
            filter.id = Some(id);
        } else if options.take("ADDR") {
            filter.address = Some(text(options.word()?));
        } else if options.take("LADDR") {
            filter.local_address = Some(text(options.word()?));
        } else if options.take("TYPE") {
            filter.kind = Some(ClientKind::named(options.word()?)?);
        } else if options.take("USER") {
            let user = options.word()?;
            if call.shared.acl.user(user).is_none() {
                let user = shown_word(user, usize::MAX);
                return Err(CommandError::of_parts(&[b"ERR No such user '", user, b"'"]));
            }
            filter.user = Some(user.to_vec());
        } else if options.take("SKIPME") {
            filter.includes_self = match options.word()?.to_ascii_lowercase().as_slice() {
                b"yes" => false,
                b"no" => true,
                _ => return Err(CommandError::SYNTAX),
            };
        } else if options.take("MAXAGE") {
            let age = integer(options.word()?)
                .map_err(|_| CommandError::of("ERR maxage is not an integer or out of range"))?;
            let age = u64::try_from(age).ok().filter(|age| *age > 0);
            filter.age_s_min = Some(age.ok_or(CommandError::of("ERR maxage should be greater than 0"))?);
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    Ok(filter)
}

/// What CLIENT calls a type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientKind {
    Normal,
    Subscriber,
    /// Replicas and masters: no connection is one.
    Nobody,
}

impl ClientKind {
    fn of(client: &Client) -> ClientKind {
        if client.is_subscriber() { ClientKind::Subscriber } else { ClientKind::Normal }
    }

    fn named(name: &[u8]) -> Result<ClientKind, CommandError> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(ClientKind::Normal),
            b"pubsub" => Ok(ClientKind::Subscriber),
            b"master" | b"slave" | b"replica" => Ok(ClientKind::Nobody),
            _ => {
                let name = shown_word(name, usize::MAX);
                Err(CommandError::of_parts(&[b"ERR Unknown client type '", name, b"'"]))
            }
        }
    }
}

fn list(call: &mut Call<'_, '_, '_>) -> Outcome {
    let args = call.args;
    let listed = if args.len() == 2 {
        call.shared.clients.all()
    } else if args.len() == 4 && args.is(2, "TYPE") {
        let kind = ClientKind::named(args.word(3))?;
        let mut clients = call.shared.clients.all();
        clients.retain(|client| ClientKind::of(client) == kind);
        clients
    } else if args.len() > 3 && args.is(2, "ID") {
        clients_of(call.shared, args.from(3))?
    } else {
        return Err(CommandError::SYNTAX);
    };
    let lines: String = listed.iter().map(|client| call.shared.describe_client(client)).collect();
    call.reply.verbatim("txt", lines.as_bytes());
    Ok(())
}

/// In the order of their numbers in the request, as often as they are named; numbers of no client are left
/// out.
fn clients_of(shared: &ServerContext, ids: &[&[u8]]) -> Result<Vec<Arc<Client>>, CommandError> {
    let mut clients = Vec::new();
    for word in ids {
        let id = integer(word).map_err(|_| CommandError::of("ERR Invalid client ID"))?;
        clients.extend(u64::try_from(id).ok().and_then(|id| shared.clients.get(id)));
    }
    Ok(clients)
}

/// What `ON` or `OFF` says.
fn switch(call: &Call<'_, '_, '_>) -> Result<bool, CommandError> {
    match call.args[2].to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(CommandError::SYNTAX),
    }
}

fn no_evict(call: &mut Call<'_, '_, '_>) -> Outcome {
    let is_on = switch(call)?;
    call.shared.clients.protect(&call.session.client, is_on);
    call.reply.ok();
    Ok(())
}

fn no_touch(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.session.client.no_touch.store(switch(call)?, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

fn reply(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.session.reply_mode = match call.args[2].to_ascii_lowercase().as_slice() {
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        b"skip" if call.session.reply_mode == ReplyMode::Off => ReplyMode::Off,
        b"skip" => ReplyMode::SkipNext,
        _ => return Err(CommandError::SYNTAX),
    };
    call.reply.ok();
    Ok(())
}

fn pause(call: &mut Call<'_, '_, '_>) -> Outcome {
    let kind = match call.args.get(3) {
        Some(_) if call.args.len() > 4 => {
            return Err(CommandError::wrong_subcommand(call.args.word(0), call.args.word(1)));
        }
        None => PauseKind::All,
        Some(_) if call.args.is(3, "ALL") => PauseKind::All,
        Some(_) if call.args.is(3, "WRITE") => PauseKind::Writes,
        Some(_) => return Err(CommandError::of("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let timeout_ms = call
        .args
        .integer(2)
        .map_err(|_| CommandError::of("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| CommandError::of("ERR timeout is negative"))?;
    let now = call.shared.now();
    let until = now.checked_add(Duration::from_millis(timeout_ms)).unwrap_or(Duration::MAX);
    call.shared.pause.begin(kind, now, until);
    call.reply.ok();
    Ok(())
}

fn unpause(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.shared.pause.end();
    call.reply.ok();
    Ok(())
}

fn set_info(call: &mut Call<'_, '_, '_>) -> Outcome {
    let value = call.args[3];
    let attribute = call.args.word(2);
    let is_name = call.args.is(2, "LIB-NAME");
    if !is_name && !call.args.is(2, "LIB-VER") {
        let attribute = shown_word(attribute, usize::MAX);
        return Err(CommandError::of_parts(&[b"ERR Unrecognized option '", attribute, b"'"]));
    }
    if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        let text = b" cannot contain spaces, newlines or special characters.";
        return Err(CommandError::of_parts(&[b"ERR ", attribute, text]));
    }
    call.session.client.rename(|names| {
        *if is_name { &mut names.library } else { &mut names.library_version } = text(value);
    });
    if is_name {
        // valkey-glide, in whichever language: GlidePy, GlideJava, ...
        call.session.prefers_flat = value.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"glide"));
    }
    call.reply.ok();
    Ok(())
}

fn set_name(call: &mut Call<'_, '_, '_>) -> Outcome {
    let name = client_name(call.args[2])?;
    call.session.client.rename(|names| names.name = name);
    call.reply.ok();
    Ok(())
}

fn unblock(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.args.len() > 4 {
        return Err(CommandError::wrong_subcommand(call.args.word(0), call.args.word(1)));
    }
    let error = match call.args.get(3).map(|reason| reason.to_ascii_lowercase()).as_deref() {
        None | Some(b"timeout") => None,
        Some(b"error") => Some(CommandError::of("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
        Some(_) => return Err(CommandError::of("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    let id = call.args.integer(2)?;
    let client = u64::try_from(id).ok().and_then(|id| call.shared.clients.get(id));
    let is_unblocked = client.is_some_and(|client| client.unblock(error));
    call.reply.integer(i64::from(is_unblocked));
    Ok(())
}
