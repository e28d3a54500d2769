//! What kind of request it is: refused, queued by MULTI, run by the engine or by the session.

use crate::acl::Denied;
use crate::context::ServerContext;
use crate::dispatch::execute::Core;
use crate::dispatch::wait::{Resumed, Waiting};
use crate::pause::PauseKind;
use crate::stats::WaitingClient;
use engramdb_engine::command::{Args, Command, CommandError, Handler, Known, flag};

/// What to do with a request.
pub(super) enum Class<'s> {
    Refused(CommandError),
    /// The user may not do this.
    Denied(&'s Known, Denied),
    /// The user was deleted.
    Expelled,
    Queued(&'s Known),
    Engine(&'s Known),
    Session(&'s Known),
    /// A script has the keyspace's lock, and has not run for so long that others are refused.
    Later,
    /// A web browser was made to talk to this port: its request's lines are not commands of the person behind
    /// it.
    Http,
}

impl Class<'_> {
    /// Whether the words are stored or queued.
    pub(super) fn keeps_words(&self) -> bool {
        match self {
            Class::Queued(_) => true,
            Class::Engine(known) => known.command.is_write(),
            _ => false,
        }
    }
}

impl Core {
    pub(super) fn classify<'s>(&mut self, shared: &'s ServerContext, args: Args<'_>) -> Class<'s> {
        let known = match shared.table.resolve(args) {
            Ok(known) => known,
            Err(_) if args.is(0, "POST") || args.is(0, "Host:") => {
                tracing::warn!(
                    "closing a connection that sent an HTTP request: is it an attack by a web page?"
                );
                return Class::Http;
            }
            Err(error) => return Class::Refused(error),
        };
        if !self.session.authenticated && !known.command.has(flag::NO_AUTH) && !shared.acl.is_open() {
            return Class::Refused(CommandError::of("NOAUTH Authentication required."));
        }
        if !self.session.is_trusted(&shared.acl)
            && let Some(refused) = self.judge(shared, known, args)
        {
            return refused;
        }
        if shared.scripts.is_running()
            && let Some(class) = beside_script(shared, known)
        {
            return class;
        }
        if shared.engine.is_memory_full() && self.needs_memory(known) && !shared.make_memory() {
            if let Some(refusal) = shared.engine.refuses_writes() {
                return Class::Refused(refusal.error());
            }
            let text = "OOM command not allowed when used memory > 'maxmemory'.";
            return Class::Refused(CommandError::of(text));
        }
        if self.session.is_monitor && (known.command.is_read() || known.command.is_write()) {
            return Class::Refused(CommandError::of("ERR Replica can't interact with the keyspace"));
        }
        if self.session.only_subscribes() && !changes_subscriptions(known.command.name) {
            let text =
                "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
            let name = known.full_name.as_bytes();
            return Class::Refused(CommandError::of_parts(&[b"ERR Can't execute '", name, text.as_bytes()]));
        }
        if self.session.multi.is_some() && !known.command.has(flag::NO_QUEUE) {
            if known.command.has(flag::NO_MULTI) {
                return Class::Refused(CommandError::of("ERR Command not allowed inside a transaction"));
            }
            if known.command.is_write()
                && let Some(refusal) = shared.engine.refuses_writes()
            {
                return Class::Refused(refusal.error());
            }
            return Class::Queued(known);
        }
        match known.command.handler {
            Handler::Session(_) => Class::Session(known),
            _ => Class::Engine(known),
        }
    }
}

impl Core {
    /// Whether the command, or one of the transaction that it executes, can take memory.
    #[cold]
    fn needs_memory(&self, known: &Known) -> bool {
        let needs = |command: &Command| command.has(flag::DENY_OOM);
        let queue = self.session.multi.iter().flat_map(|multi| &multi.queue);
        needs(known.command)
            || known.command.name == "EXEC" && queue.into_iter().any(|queued| needs(queued.command))
    }
}

impl Core {
    /// What the request waits for while CLIENT PAUSE holds it.
    #[cold]
    pub(super) fn pause(&mut self, shared: &ServerContext, class: &Class<'_>) -> Option<Waiting> {
        let now = shared.now();
        let is_held = match shared.pause.kind(now) {
            PauseKind::None => false,
            PauseKind::All => true,
            PauseKind::Writes => self.may_write(class),
        };
        if !is_held {
            return None;
        }
        let (over, counted) = (shared.pause.over(now), WaitingClient::new(&shared.stats));
        self.waits_for_signal = true;
        Some(Box::pin(async move {
            over.await;
            drop(counted);
            Resumed::Retry
        }))
    }

    /// Whether the request can change keys, or publish.
    fn may_write(&self, class: &Class<'_>) -> bool {
        let (Class::Queued(known) | Class::Engine(known) | Class::Session(known)) = class else {
            return false;
        };
        let publishes = ["PUBLISH", "SPUBLISH", "PFCOUNT", "EVAL", "EVALSHA", "FCALL"];
        let may_write = |command: &Command| command.is_write() || publishes.contains(&command.name);
        let queue = self.session.multi.as_ref().map_or(&[][..], |multi| &multi.queue);
        may_write(known.command)
            || (known.command.name == "EXEC" && queue.iter().any(|queued| may_write(queued.command)))
    }
}

/// Whether a RESP2 client may call the command while it subscribes.
fn changes_subscriptions(name: &str) -> bool {
    name.ends_with("SUBSCRIBE") || matches!(name, "PING" | "QUIT" | "RESET")
}

/// What becomes of a command while a script runs, if it does not go on as usual.
#[cold]
fn beside_script<'s>(shared: &ServerContext, known: &Known) -> Option<Class<'s>> {
    if known.command.name == "WATCH" {
        // It is allowed, and looks at the keyspace.
        return (!shared.scripts.has_ended()).then_some(Class::Later);
    }
    if known.command.has(flag::ALLOW_BUSY) {
        return None;
    }
    if let Some(error) = shared.scripts.busy_error() {
        return Some(Class::Refused(error));
    }
    // Most scripts end within the moment that this waits. Commands of the engine wait where they take the
    // lock.
    let may_lock = matches!(known.command.handler, Handler::Session(_)) || shared.engine.is_memory_full();
    (may_lock && !shared.scripts.has_ended()).then_some(Class::Later)
}
