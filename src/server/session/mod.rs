//! What a connection knows about itself: its database, protocol, rights, and the transaction it is
//! collecting.

mod owned_words;

pub use owned_words::{Owned, large_words};

use crate::acl::{Acl, Rights, User};
use crate::clients::Client;
use crate::monitors;
use crate::output::{Mailbox, Push, Style};
use crate::pubsub::Subscriptions;
use crate::tracking::{Caching, ClientTracking};
use engramdb_engine::Watch;
use engramdb_engine::command::{Args, Command};
use engramdb_engine::log::Lsn;
use engramdb_engine::types::Contents;
use engramdb_resp::Protocol;
use std::sync::Arc;

pub struct Session {
    pub client: Arc<Client>,
    pub database: u32,
    pub protocol: Protocol,
    pub authenticated: bool,
    pub user: Arc<User>,
    /// The user's rights of this version ([`Acl::version`]).
    pub rights: Arc<Rights>,
    rights_version: u64,
    is_unrestricted: bool,
    pub multi: Option<Multi>,
    pub watch: Option<Arc<Watch>>,
    /// What EXEC has to wait for because of what WATCH saw.
    pub watch_gate: Lsn,
    /// Memory of the watched keys.
    pub watch_bytes: usize,
    pub reply_mode: ReplyMode,
    /// Where pushes come from, once the client asked for any: the client's own, without a look at what others
    /// share.
    pub mailbox: Option<Arc<Mailbox>>,
    /// Once the client has subscribed to anything, until it subscribes to nothing.
    pub subscriptions: Option<Box<Subscriptions>>,
    pub is_monitor: bool,
    /// Commands that have run and are not shown to monitors yet.
    pub monitored: Vec<Arc<Push>>,
    pub monitored_bytes: usize,
    /// While the client tracks keys for its cache.
    pub tracking: Option<Box<ClientTracking>>,
    /// The client's library reads replies of modules in RESP2's shapes only, whatever protocol it speaks.
    pub prefers_flat: bool,
}

/// What a transaction or a script keeps for monitors, in bytes. With more than that the monitors are closed.
pub const MONITORED_BYTES_MAX: usize = 64 << 20;

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    On,
    Off,
    /// The next command's reply is dropped.
    SkipNext,
    /// This command's reply is dropped.
    Skip,
}

/// Commands between MULTI and EXEC.
#[derive(Default)]
pub struct Multi {
    pub queue: Vec<Queued>,
    /// A command could not be queued: EXEC will refuse.
    pub is_broken: bool,
    /// What the batch needs in the log at most.
    pub bytes: usize,
    /// A command is queued whose words do not show what it logs.
    pub asks_for_room: bool,
    /// A script is queued.
    pub has_script: bool,
    /// What the queued commands take in memory, but for the queue's own buffer.
    pub heap_bytes: usize,
}

impl Multi {
    pub fn memory_bytes(&self) -> usize {
        self.heap_bytes + self.queue.capacity() * size_of::<Queued>()
    }
}

/// One queued command with its words: one buffer for all of them, since a queue may hold millions of small
/// ones.
pub struct Queued {
    pub command: &'static Command,
    /// `Known::id`.
    pub id: usize,
    text: Box<[u8]>,
    /// Where each word ends in the text.
    ends: Box<[usize]>,
    /// In place of the text, where words are large.
    owned: Option<Arc<Owned>>,
}

impl Queued {
    pub fn new(command: &'static Command, id: usize, args: Args<'_>) -> Queued {
        let end = |end: &mut usize, word: &&[u8]| {
            *end += word.len();
            Some(*end)
        };
        Queued {
            command,
            id,
            text: args.concat().into(),
            ends: args.iter().scan(0, end).collect(),
            owned: None,
        }
    }

    /// The same of a request whose words have allocations of their own.
    pub fn owning(command: &'static Command, id: usize, owned: Arc<Owned>) -> Queued {
        Queued { command, id, text: Box::default(), ends: Box::default(), owned: Some(owned) }
    }

    pub fn words(&self) -> Vec<&[u8]> {
        if let Some(owned) = &self.owned {
            return owned.words().collect();
        }
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end]).collect()
    }

    /// Its large words.
    pub fn contents(&self) -> Option<Arc<Contents>> {
        self.owned.as_ref().map(|owned| owned.contents().clone())
    }

    pub fn heap_bytes(&self) -> usize {
        let owned = self.owned.as_ref().map_or(0, |owned| owned.heap_bytes());
        self.text.len() + size_of_val(&*self.ends) + owned
    }
}

impl Session {
    /// One of the user `default`, which needs no password if that user has none.
    pub fn new(client: Arc<Client>, acl: &Acl) -> Session {
        let version = acl.version();
        let user = acl.default_user().clone();
        client.set_user(&user.name);
        let mut session = Session::of(client, user, version);
        session.authenticated = session.rights.is_on && session.rights.has_no_password;
        session
    }

    fn of(client: Arc<Client>, user: Arc<User>, rights_version: u64) -> Session {
        let rights = user.rights();
        Session {
            client,
            database: 0,
            protocol: Protocol::Resp2,
            authenticated: false,
            is_unrestricted: rights.is_unrestricted(),
            rights,
            rights_version,
            user,
            multi: None,
            watch: None,
            watch_gate: Lsn(0),
            watch_bytes: 0,
            reply_mode: ReplyMode::On,
            mailbox: None,
            subscriptions: None,
            is_monitor: false,
            monitored: Vec::new(),
            monitored_bytes: 0,
            tracking: None,
            prefers_flat: false,
        }
    }

    /// The client's mailbox; pushes reach the client from now on.
    pub fn open_mailbox(&mut self) -> &Arc<Mailbox> {
        self.mailbox.get_or_insert_with(|| self.client.open_mailbox())
    }

    /// Becomes another user.
    pub fn log_in(&mut self, user: Arc<User>, acl: &Acl) {
        self.client.set_user(&user.name);
        self.user = user;
        self.authenticated = true;
        self.renew_rights(acl);
    }

    /// Whether the user may do everything, and nothing has changed since that was so.
    #[inline]
    pub fn is_trusted(&self, acl: &Acl) -> bool {
        self.is_unrestricted && self.has_current_rights(acl)
    }

    #[inline]
    pub fn is_unrestricted(&self) -> bool {
        self.is_unrestricted
    }

    #[inline]
    pub fn has_current_rights(&self, acl: &Acl) -> bool {
        self.rights_version == acl.version()
    }

    /// Takes over the user's rights as they are now.
    pub fn renew_rights(&mut self, acl: &Acl) {
        // Read before the rights: a change in between is then noticed at the next command.
        self.rights_version = acl.version();
        self.rights = self.user.rights();
        self.is_unrestricted = self.rights.is_unrestricted() && !self.user.is_deleted();
    }

    /// The session in which a script's commands run: in this database, with these rights.
    pub fn for_script(&self) -> Session {
        Session {
            database: self.database,
            authenticated: self.authenticated,
            is_unrestricted: self.is_unrestricted,
            ..Session::of(self.client.clone(), self.user.clone(), self.rights_version)
        }
    }

    /// How the client wants its replies.
    #[inline]
    pub fn style(&self) -> Style {
        Style { protocol: self.protocol, prefers_flat: self.prefers_flat }
    }

    pub fn unwatch(&mut self) {
        self.watch = None;
        self.watch_gate = Lsn(0);
        self.watch_bytes = 0;
    }

    /// Keeps a command for the clients that monitor.
    #[cold]
    pub fn show_to_monitors(&mut self, wall_ms: u64, command: &Command, args: Args<'_>) {
        if monitors::shows(command) {
            self.keep_for_monitors(monitors::line(wall_ms, self.database, Some(&self.client), args));
        }
    }

    /// The same for the call of a script, before what the script calls: its row is not shown by itself.
    #[cold]
    pub fn show_script_to_monitors(&mut self, wall_ms: u64, args: Args<'_>) {
        self.keep_for_monitors(monitors::line(wall_ms, self.database, Some(&self.client), args));
    }

    /// Keeps a command that a script has called.
    #[cold]
    pub fn show_call_to_monitors(&mut self, wall_ms: u64, command: &Command, args: Args<'_>) {
        if monitors::shows(command) {
            self.keep_for_monitors(monitors::line(wall_ms, self.database, None, args));
        }
    }

    /// Keeps a line, up to more than clients may have unread: the rest is not needed then.
    fn keep_for_monitors(&mut self, line: Arc<Push>) {
        if self.monitored_bytes <= MONITORED_BYTES_MAX {
            self.monitored_bytes += line.heap_bytes();
            self.monitored.push(line);
        }
    }

    /// Whether the client may only change its subscriptions: in RESP2 messages look like replies.
    #[inline]
    pub fn only_subscribes(&self) -> bool {
        self.subscriptions.is_some() && self.protocol == Protocol::Resp2
    }

    /// Memory of the client's subscriptions and of its prefixes.
    #[inline]
    pub fn subscriptions_bytes(&self) -> usize {
        self.subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.heap_bytes())
            + self.tracking.as_ref().map_or(0, |tracking| tracking.heap_bytes())
    }

    /// A command has ended: what CLIENT CACHING said holds no longer, unless that was the command or a
    /// transaction is being collected.
    #[inline]
    pub fn end_caching(&mut self, name: &str) {
        if let Some(tracking) = &mut self.tracking
            && self.multi.is_none()
            && !name.starts_with("client|")
        {
            tracking.caching = Caching::Unsaid;
        }
    }

    /// What the transaction holds that is being collected.
    pub fn transaction_bytes(&self) -> usize {
        self.multi.as_ref().map_or(0, Multi::memory_bytes) + self.watch_bytes
    }

    /// Memory of pushes that wait for the client.
    #[inline]
    pub fn mailbox_bytes(&self) -> usize {
        self.mailbox.as_ref().map_or(0, |mailbox| mailbox.heap_bytes())
    }

    /// Whether this command's reply is to be sent; steps SKIP on.
    pub fn takes_reply(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => true,
            ReplyMode::Off => false,
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::Skip;
                false
            }
            ReplyMode::Skip => {
                self.reply_mode = ReplyMode::On;
                false
            }
        }
    }
}
