//! Commands about the connection: HELLO, AUTH, PING, ECHO, SELECT, QUIT, RESET.

use super::{After, Call, Run, session, text};
use crate::dispatch::note_denied;
use crate::session::{ReplyMode, Session};
use engramdb_engine::REDIS_VERSION;
use engramdb_engine::command::{Command, CommandError, Outcome, Reply, acl, flag, integer, shown_word};
use engramdb_engine::shard::role::Role;
use engramdb_resp::Protocol;
use std::sync::atomic::Ordering;

/// Flags of commands that run in any state of the server.
const ALWAYS: u32 = flag::LOADING | flag::STALE | flag::FAST | flag::NO_SCRIPT | flag::ALLOW_BUSY;

pub const COMMANDS: &[Command] = &[
    session("HELLO", "[protover [AUTH username password] [SETNAME clientname]]", &Run(hello))
        .group("connection")
        .flags(ALWAYS | flag::NO_AUTH)
        .acl(acl::CONNECTION)
        .docs("6.0.0", "O(1)", "Handshakes with the server."),
    session("AUTH", "[username] password", &Run(auth))
        .group("connection")
        .flags(ALWAYS | flag::NO_AUTH)
        .acl(acl::CONNECTION)
        .docs("1.0.0", "O(1)", "Authenticates the connection."),
    session("PING", "[message]", &Run(ping))
        .group("connection")
        .flags(flag::FAST)
        .acl(acl::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs("1.0.0", "O(1)", "Returns the server's liveliness response."),
    session("ECHO", "message", &Run(echo))
        .group("connection")
        .flags(flag::FAST | flag::LOADING | flag::STALE)
        .acl(acl::CONNECTION)
        .docs("1.0.0", "O(1)", "Returns the given string."),
    session("SELECT", "index", &Run(select))
        .group("connection")
        .flags(flag::FAST | flag::LOADING | flag::STALE)
        .acl(acl::CONNECTION)
        .docs("1.0.0", "O(1)", "Changes the selected database."),
    session("QUIT", "[ignored+]", &Run(quit))
        .group("connection")
        .flags(ALWAYS | flag::NO_AUTH | flag::NO_QUEUE)
        .acl(acl::CONNECTION)
        .docs("1.0.0", "O(1)", "Closes the connection."),
    session("RESET", "", &Run(reset))
        .group("connection")
        .flags(ALWAYS | flag::NO_AUTH | flag::NO_QUEUE)
        .acl(acl::CONNECTION)
        .docs("6.2.0", "O(1)", "Resets the connection."),
];

fn hello(call: &mut Call<'_, '_, '_>) -> Outcome {
    let mut options = call.args.options(1);
    let mut protocol = call.session.protocol;
    if let Some(version) = options.peek() {
        let version = integer(version)
            .map_err(|_| CommandError::of("ERR Protocol version is not an integer or out of range"))?;
        protocol = match version {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(CommandError::of("NOPROTO unsupported protocol version")),
        };
        options.word()?;
    }
    let (mut name, mut credentials) = (None, None);
    while let Some(word) = options.peek() {
        let left = call.args.len() - options.index() - 1;
        if left >= 2 && options.take("AUTH") {
            credentials = Some(options.words(2)?);
        } else if left >= 1 && options.take("SETNAME") {
            name = Some(client_name(options.word()?)?);
        } else {
            let word = shown_word(word, usize::MAX);
            return Err(CommandError::of_parts(&[b"ERR Syntax error in HELLO option '", word, b"'"]));
        }
    }
    // Nothing is done before all options are known to be right.
    if let Some(credentials) = credentials {
        authenticate(call, credentials[0], credentials[1])?;
    }
    if !call.session.authenticated && !call.shared.acl.is_open() {
        return Err(CommandError::of(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
             the same time",
        ));
    }
    if let Some(name) = name {
        call.session.client.rename(|names| names.name = name);
    }
    set_protocol(call, protocol);
    describe(call);
    Ok(())
}

fn set_protocol(call: &mut Call<'_, '_, '_>, protocol: Protocol) {
    call.session.protocol = protocol;
    if protocol == Protocol::Resp3 {
        // Others may redirect invalidations to this client.
        call.session.open_mailbox();
    }
    call.session.client.is_resp3.store(protocol == Protocol::Resp3, Ordering::Relaxed);
    call.reply.set_protocol(protocol);
}

fn describe(call: &mut Call<'_, '_, '_>) {
    // Kept since the start: a client must get in while a script has the keyspace.
    let modules = call.shared.modules.clone();
    let reply = &mut *call.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if reply.is_resp3() { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(call.session.client.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(match call.shared.engine.role() {
        Role::Leading(_) => b"master",
        Role::Following(_) => b"replica",
    });
    reply.bulk(b"modules");
    super::write_modules(reply, &modules);
}

/// A connection's name has no spaces and nothing that would break CLIENT LIST.
pub fn client_name(name: &[u8]) -> Result<String, CommandError> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(text(name));
    }
    Err(CommandError::of("ERR Client names cannot contain spaces, newlines or special characters."))
}

fn auth(call: &mut Call<'_, '_, '_>) -> Outcome {
    let (user, password) = match *call.args {
        [_, password] => {
            if call.shared.acl.default_user().rights().has_no_password {
                return Err(CommandError::of(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                     your configuration is correct?",
                ));
            }
            (&b"default"[..], password)
        }
        [_, user, password] => (user, password),
        _ => return Err(CommandError::SYNTAX),
    };
    authenticate(call, user, password)?;
    call.reply.ok();
    Ok(())
}

fn authenticate(call: &mut Call<'_, '_, '_>, user: &[u8], password: &[u8]) -> Outcome {
    if call.transaction.is_none() {
        // Inside EXEC the lock is held; what changed users before has the gate of its own reply.
        call.gate = call.gate.max(call.shared.engine.users_gate());
    }
    let Some(found) = call.shared.acl.authenticate(user, password) else {
        let context = if call.transaction.is_some() { "multi" } else { "toplevel" };
        note_denied(call.shared, call.session, ("auth", context), call.args.word(0), user);
        return Err(CommandError::of("WRONGPASS invalid username-password pair or user is disabled."));
    };
    call.session.log_in(found, &call.shared.acl);
    Ok(())
}

fn ping(call: &mut Call<'_, '_, '_>) -> Outcome {
    match *call.args {
        [_] | [_, _] if call.session.only_subscribes() => {
            call.reply.array(2);
            call.reply.bulk(b"pong");
            call.reply.bulk(call.args.get(1).copied().unwrap_or_default());
        }
        [_] => call.reply.simple("PONG"),
        [_, message] => call.reply.bulk(message),
        _ => return Err(CommandError::wrong_arity("ping")),
    }
    Ok(())
}

fn echo(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.reply.bulk(call.args[1]);
    Ok(())
}

fn select(call: &mut Call<'_, '_, '_>) -> Outcome {
    let number = integer_within(call.args.word(1), i32::MIN.into(), i32::MAX.into())?;
    let databases = call.shared.config.read().databases as i64;
    if !(0..databases).contains(&number) {
        return Err(CommandError::DATABASE_OUT_OF_RANGE);
    }
    call.session.database = number as u32;
    call.session.client.database.store(number as u32, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

/// A number that Redis keeps in a smaller type.
fn integer_within(word: &[u8], min: i64, max: i64) -> Result<i64, CommandError> {
    let number = integer(word)?;
    if !(min..=max).contains(&number) {
        let text = format!("ERR value is out of range, value must between {min} and {max}");
        return Err(CommandError::new(text));
    }
    Ok(number)
}

fn quit(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.after = After::Close;
    call.reply.ok();
    Ok(())
}

fn reset(call: &mut Call<'_, '_, '_>) -> Outcome {
    let client = call.session.client.clone();
    client.rename(|names| names.name.clear());
    client.database.store(0, Ordering::Relaxed);
    client.multi.store(0, Ordering::Relaxed);
    client.watches.store(false, Ordering::Relaxed);
    if let Some(mut subscriptions) = call.session.subscriptions.take() {
        subscriptions.clear(&call.shared.pubsub, &client);
    }
    super::tracking::end_tracking(call);
    call.shared.monitors.remove(client.id);
    client.is_monitor.store(false, Ordering::Relaxed);
    call.shared.clients.set_subscriber(&client, false);
    client.close_mailbox();
    // The library stays what it is.
    let prefers_flat = call.session.prefers_flat;
    *call.session = Session::new(client, &call.shared.acl);
    call.session.prefers_flat = prefers_flat;
    call.session.reply_mode = ReplyMode::On;
    set_protocol(call, Protocol::Resp2);
    call.reply.simple("RESET");
    Ok(())
}
