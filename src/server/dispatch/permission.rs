//! Whether the session's user may do what a request asks for.

use crate::acl::{AclLogEntry, CallWords, Denied, denied_error};
use crate::context::ServerContext;
use crate::dispatch::classify::Class;
use crate::dispatch::execute::Core;
use crate::pubsub::Space;
use crate::session::Session;
use engramdb_engine::command::{Args, CommandError, Known, PrefixFinder};
use engramdb_engine::shard::run::Transaction;
use engramdb_engine::store::view::View;
use std::sync::atomic::Ordering;

impl Core {
    /// Looks at the rights of a user who may not do everything, or whose rights have changed.
    #[cold]
    pub(super) fn judge<'s>(
        &mut self,
        shared: &'s ServerContext,
        known: &'s Known,
        args: Args<'_>,
    ) -> Option<Class<'s>> {
        if !self.session.has_current_rights(&shared.acl) {
            self.session.renew_rights(&shared.acl);
            self.rights_gate = shared.engine.users_gate();
        }
        if self.session.user.is_deleted() {
            return Some(Class::Expelled);
        }
        let database = self.session.database;
        let look = |find: PrefixFinder| find(&shared.engine.inspect().view(database), args);
        let denied = shared.acl.check(&self.session.rights, known, args, look).err()?;
        Some(Class::Denied(known, denied))
    }

    /// Ends the connection if its user was deleted, or may no longer use a channel that it subscribes to.
    #[inline]
    pub fn look_at_rights(&mut self) {
        if !self.session.has_current_rights(&self.shared.acl) && self.session.subscriptions.is_some() {
            self.look_at_channels();
        }
        self.closing |= self.session.client.is_expelled();
    }

    #[cold]
    fn look_at_channels(&mut self) {
        self.session.renew_rights(&self.shared.acl);
        self.rights_gate = self.shared.engine.users_gate();
        let rights = self.session.rights.clone();
        let Some(subscriptions) = &self.session.subscriptions else { return };
        let is_permitted = |space: Space| {
            let is_pattern = matches!(space, Space::Patterns);
            subscriptions.names(space).iter().all(|name| rights.permits_channel(name, is_pattern))
        };
        let spaces = [Space::Channels, Space::Patterns, Space::Shards];
        self.closing |= !spaces.into_iter().all(is_permitted);
    }

    pub(super) fn deny(&mut self, shared: &ServerContext, known: &Known, args: Args<'_>, denied: Denied) {
        let context = if self.session.multi.is_some() { "multi" } else { "toplevel" };
        note_denied(shared, &self.session, context, shared.acl.call(known, args), denied);
        let error = denied_error(denied, &self.session.user.name, shared.acl.call(known, args));
        self.refuse_request(args, &error);
    }
}

/// Whether the user may run a command of a transaction that is running: rights may have changed since it was
/// queued.
pub(super) fn check_queued(
    shared: &ServerContext,
    session: &mut Session,
    (known, args): (&Known, Args<'_>),
    transaction: &mut Transaction<'_>,
) -> Result<(), CommandError> {
    if session.is_trusted(&shared.acl) {
        return Ok(());
    }
    session.renew_rights(&shared.acl);
    let database = session.database;
    let look = |find: PrefixFinder| transaction.look_at(database, |view| find(view, args));
    let Err(denied) = shared.acl.check(&session.rights, known, args, look) else { return Ok(()) };
    note_denied(shared, session, "multi", shared.acl.call(known, args), denied);
    let reason = match denied {
        Denied::Command => "no permission to execute the command or subcommand",
        Denied::Key(_) | Denied::Index | Denied::Malformed => "no permission to touch the specified keys",
        Denied::Sort(_) => {
            return Err(denied_error(denied, &session.user.name, shared.acl.call(known, args)));
        }
        Denied::Channel(_) => "no permission to access the channel used as argument to the command",
    };
    Err(CommandError::new(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command \
         is no longer allowed for the following reason: {reason}"
    )))
}

/// Whether the user of the session may have a script call this. `view` looks at the keyspace.
///
/// # Errors
/// The error that the script gets.
pub fn check_in_script(
    shared: &ServerContext,
    session: &Session,
    (known, args): (&Known, Args<'_>),
    view: &View<'_>,
) -> Result<(), CommandError> {
    if session.is_unrestricted() {
        return Ok(());
    }
    let checked = shared.acl.check(&session.rights, known, args, |find| find(view, args));
    let Err(denied) = checked else { return Ok(()) };
    let call = shared.acl.call(known, args);
    note_denied(shared, session, "lua", call, denied);
    let error = denied_error(denied, &session.user.name, call);
    let reason = error.bytes().strip_prefix(b"NOPERM ").unwrap_or(error.bytes());
    Err(CommandError::of_parts(&[b"ERR ACL failure in script: ", reason]))
}

/// Whether the user of the session may run a command: `redis.acl_check_cmd`.
pub(super) fn may_run(
    shared: &ServerContext,
    session: &Session,
    (known, args): (&Known, Args<'_>),
    view: &View<'_>,
) -> bool {
    session.is_unrestricted()
        || shared.acl.check(&session.rights, known, args, |find| find(view, args)).is_ok()
}

fn note_denied(
    shared: &ServerContext,
    session: &Session,
    context: &'static str,
    call: CallWords<'_>,
    denied: Denied,
) {
    let (reason, object) = match denied {
        Denied::Command => ("command", call.listed.full_name.as_bytes()),
        Denied::Key(word) => ("key", call.args.word(word)),
        Denied::Channel(word) => ("channel", call.args.word(word)),
        Denied::Sort(_) => return,
        Denied::Index => ("key", call.args.get(1).copied().unwrap_or_default()),
        // The request is wrong for any user.
        Denied::Malformed => return,
    };
    note(shared, session, (reason, context), object, &session.user.name);
}

/// Adds an entry to ACL LOG.
pub fn note(
    shared: &ServerContext,
    session: &Session,
    (reason, context): (&'static str, &'static str),
    object: &[u8],
    user: &[u8],
) {
    let entry = AclLogEntry {
        count: 1,
        reason,
        context,
        object: object.to_vec(),
        user: user.to_vec(),
        client: shared.describe_client(&session.client).trim_end().to_owned(),
        id: 0,
        created_ms: 0,
        updated_ms: 0,
    };
    shared.acl.refusals.of(reason).fetch_add(1, Ordering::Relaxed);
    let entries_max = shared.config.read().acl_log_entries_max;
    shared.acl.log().add(entry, shared.engine.now_ms(), entries_max);
}
