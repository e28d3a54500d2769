//! Commands: declared once in a row, everything else derived (arity, key positions, COMMAND, COMMAND DOCS,
//! checks).

mod args;
mod freeing;
mod park;
mod reply;
mod table;
mod usage;

pub use crate::error::CommandError;
pub use args::{Args, OptionWords, integer};
pub use park::{Awaited, Park};
pub use reply::Reply;
pub use table::{CommandTable, Known};
pub use usage::Shape;

use crate::signal::Signal;
use crate::store::prepared::Preparation;
use crate::store::tx::Tx;
pub use crate::store::view::Looks;
use crate::store::view::View;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// Flags in Redis's names (COMMAND INFO). `write` and `readonly` follow from the handler.
pub mod flag {
    pub const FAST: u32 = 1;
    pub const DENY_OOM: u32 = 1 << 1;
    pub const ADMIN: u32 = 1 << 2;
    pub const NO_SCRIPT: u32 = 1 << 3;
    pub const LOADING: u32 = 1 << 4;
    pub const STALE: u32 = 1 << 5;
    pub const NO_AUTH: u32 = 1 << 6;
    pub const NO_MULTI: u32 = 1 << 7;
    pub const ALLOW_BUSY: u32 = 1 << 8;
    pub const SKIP_MONITOR: u32 = 1 << 9;
    pub const NO_MANDATORY_KEYS: u32 = 1 << 10;
    pub const MODULE: u32 = 1 << 12;
    pub const BLOCKING: u32 = 1 << 13;
    pub const PUBSUB: u32 = 1 << 14;
    /// The command reads or writes nothing of the keyspace that could be lost: its reply is not gated.
    pub const UNGATED: u32 = 1 << 15;
    /// Runs at once inside MULTI, instead of being queued.
    pub const NO_QUEUE: u32 = 1 << 16;
    pub const NO_ASYNC_LOADING: u32 = 1 << 17;
    pub const SKIP_SLOWLOG: u32 = 1 << 18;
    /// Whatever it changes, memory and log are freed by it: it goes on while the disk is full. None of
    /// Redis's flags.
    pub const FREES: u32 = 1 << 19;

    /// Redis's spelling of each.
    pub const NAMES: &[(u32, &str)] = &[
        (DENY_OOM, "denyoom"),
        (MODULE, "module"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NO_SCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_MONITOR, "skip_monitor"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_MULTI, "no_multi"),
        (ALLOW_BUSY, "allow_busy"),
        (NO_MANDATORY_KEYS, "no_mandatory_keys"),
    ];
}

/// ACL categories. `read`, `write`, `fast` and `slow` follow from handler and flags.
pub mod acl {
    pub const KEYSPACE: u32 = 1;
    pub const STRING: u32 = 1 << 1;
    pub const HASH: u32 = 1 << 2;
    pub const ADMIN: u32 = 1 << 3;
    pub const DANGEROUS: u32 = 1 << 4;
    pub const CONNECTION: u32 = 1 << 5;
    pub const TRANSACTION: u32 = 1 << 6;
    pub const SEARCH: u32 = 1 << 7;
    pub const PUBSUB: u32 = 1 << 8;
    pub const BLOCKING: u32 = 1 << 9;

    pub const NAMES: &[(u32, &str)] = &[
        (KEYSPACE, "keyspace"),
        (STRING, "string"),
        (HASH, "hash"),
        (ADMIN, "admin"),
        (DANGEROUS, "dangerous"),
        (CONNECTION, "connection"),
        (TRANSACTION, "transaction"),
        (SEARCH, "search"),
        (PUBSUB, "pubsub"),
        (BLOCKING, "blocking"),
    ];

    /// Redis's order in replies.
    pub const ORDER: &[&str] = &[
        "keyspace",
        "read",
        "write",
        "hash",
        "string",
        "pubsub",
        "admin",
        "fast",
        "slow",
        "blocking",
        "dangerous",
        "connection",
        "transaction",
        "search",
    ];
}

pub type Outcome = Result<(), CommandError>;
pub type ReadHandler = fn(&View<'_>, Args<'_>, &mut dyn Reply) -> Outcome;
pub type WriteHandler = fn(&mut Tx<'_>, Args<'_>, &mut dyn Reply) -> Outcome;
pub type BlockingHandler = fn(&mut Tx<'_>, Args<'_>, &mut dyn Reply) -> Result<Stage, CommandError>;
pub type StagedHandler = fn(&View<'_>, Args<'_>, &mut dyn Reply) -> Result<Stage, CommandError>;

/// What the shell runs for a command of a session. The engine knows no sessions and does not look into it.
pub type SessionHandler = &'static (dyn Any + Send + Sync);

/// Finds the indexes of the key words among the arguments.
pub type KeyFinder = fn(Args<'_>) -> Result<Vec<usize>, CommandError>;

/// How many bytes effects of a write may take in the log beyond what its words tell
/// ([`crate::shard::engine::batch_bytes_max`]), as things are now. 0 where the call is an error.
pub type RoomFinder = fn(&View<'_>, Args<'_>) -> usize;

/// Work without any lock, but for the looks that it takes. It ends in a step that looks at the keyspace for a
/// last time, and says what is to be replied.
pub type Job = Box<dyn FnOnce(&dyn Looks) -> Finish + Send>;
pub type Finish = Box<dyn FnOnce(&View<'_>, &mut dyn Reply) -> Result<Rest, CommandError> + Send>;

pub type ReplyWriter = Box<dyn FnOnce(&mut dyn Reply)>;

/// What the last step of a job leaves to be done without the lock.
pub enum Rest {
    /// The reply is written.
    Nothing,
    Write(ReplyWriter),
    /// More is to be done without the lock, and nothing was written: this job follows.
    Again(Job),
}

/// A job that waits before it begins. Its command holds no thread meanwhile.
pub struct WaitingJob {
    pub signal: Arc<Signal>,
    /// The longest wait; `None` for one without an end.
    pub at_most: Option<Duration>,
    /// Runs when the signal is given or the time has passed: it finds out itself which of them it was.
    pub job: Job,
}

impl WaitingJob {
    /// Waits on this thread, for callers without tasks.
    pub fn block(self) -> Job {
        self.signal.block(self.at_most);
        self.job
    }
}

/// What a staged command wants next.
pub enum Stage {
    /// The reply is written.
    Done,
    /// Runs the job where it is: it is expected to be short.
    Run(Job),
    /// Runs the job on the pool for long computations.
    Offload(Job),
    /// Runs the job, which copies much out of the keyspace, on the pool for that.
    Copy(Job),
    /// Waits, and then runs the job on the pool for long computations.
    Wait(WaitingJob),
    /// A write that has had no effect and no reply yet: it is to be run again with what this makes.
    Prepare(Box<Preparation>),
    /// A blocking command that has had no effect and no reply: the client waits for keys.
    Park(Box<Park>),
    /// A write that has had no effect and no reply yet: it is to be run again when so many bytes of room in
    /// the log are reserved beyond what its words tell.
    NeedsRoom(usize),
}

#[derive(Clone, Copy)]
pub enum Handler {
    Read(ReadHandler),
    Write(WriteHandler),
    Staged(StagedHandler),
    /// Reads, and comes back with a job where there is much to read. It never waits, so it runs among others.
    Sliced(StagedHandler),
    /// Writes, or comes back with [`Stage::Park`]: then it is run again when one of the keys has changed.
    Blocking(BlockingHandler),
    /// Run by the shell.
    Session(SessionHandler),
    /// Has subcommands only.
    Container,
}

/// One command's row. Built in a `static` with the functions below.
#[derive(Clone, Copy)]
pub struct Command {
    pub name: &'static str,
    pub usage: &'static str,
    pub handler: Handler,
    pub event: &'static str,
    pub flags: u32,
    pub acl: u32,
    pub since: &'static str,
    pub complexity: &'static str,
    pub summary: &'static str,
    pub group: &'static str,
    pub subcommands: &'static [Command],
    /// Where the usage line cannot tell the keys: reads them from the arguments.
    pub keys: Option<KeyFinder>,
    /// Where the words of a write do not tell how much it logs: asked under the lock, before the handler.
    pub room: Option<RoomFinder>,
    /// What the command does with its keys, in Redis's words (`RW access update`): one entry for all keys, or
    /// one for each. Empty for the usual: `RO access` of a read, `RW update` of a write.
    pub access: &'static [&'static str],
    /// Hints for clients and proxies, in Redis's words (COMMAND INFO's tips).
    pub tips: &'static [&'static str],
}

pub const fn read(name: &'static str, usage: &'static str, handler: ReadHandler) -> Command {
    command(name, usage, Handler::Read(handler))
}

pub const fn write(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    command(name, usage, Handler::Write(handler))
}

pub const fn staged(name: &'static str, usage: &'static str, handler: StagedHandler) -> Command {
    command(name, usage, Handler::Staged(handler))
}

pub const fn session(name: &'static str, usage: &'static str, handler: SessionHandler) -> Command {
    command(name, usage, Handler::Session(handler))
}

pub const fn sliced(name: &'static str, usage: &'static str, handler: StagedHandler) -> Command {
    command(name, usage, Handler::Sliced(handler))
}

/// A command that waits for keys when it finds nothing. The row says `flag::BLOCKING`, as Redis does.
pub const fn blocking(name: &'static str, usage: &'static str, handler: BlockingHandler) -> Command {
    command(name, usage, Handler::Blocking(handler)).flags(flag::BLOCKING)
}

/// A command that has subcommands only (`CONFIG GET`, `OBJECT ENCODING`).
pub const fn container(name: &'static str, subcommands: &'static [Command]) -> Command {
    let mut row = command(name, "subcommand [argument+]", Handler::Container);
    row.subcommands = subcommands;
    row
}

const fn command(name: &'static str, usage: &'static str, handler: Handler) -> Command {
    Command {
        name,
        usage,
        handler,
        event: "",
        flags: 0,
        acl: 0,
        since: "1.0.0",
        complexity: "",
        summary: "",
        group: "generic",
        subcommands: &[],
        keys: None,
        room: None,
        access: &[],
        tips: &[],
    }
}

impl Command {
    /// The keyspace event that the command notifies.
    pub const fn event(mut self, event: &'static str) -> Command {
        self.event = event;
        self
    }

    pub const fn flags(mut self, flags: u32) -> Command {
        self.flags = flags;
        self
    }

    pub const fn acl(mut self, categories: u32) -> Command {
        self.acl = categories;
        self
    }

    pub const fn group(mut self, group: &'static str) -> Command {
        self.group = group;
        self
    }

    pub const fn docs(
        mut self,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Command {
        self.since = since;
        self.complexity = complexity;
        self.summary = summary;
        self
    }

    /// Subcommands of a command that can also be called without any (COMMAND).
    pub const fn subcommands(mut self, subcommands: &'static [Command]) -> Command {
        self.subcommands = subcommands;
        self
    }

    pub const fn keys(mut self, keys: KeyFinder) -> Command {
        self.keys = Some(keys);
        self
    }

    /// Says how much a write may log beyond what its words tell.
    ///
    /// # Panics
    /// If the command does not write: only a write's room is asked for.
    pub const fn room(mut self, room: RoomFinder) -> Command {
        assert!(matches!(self.handler, Handler::Write(_) | Handler::Blocking(_)), "only writes ask for room");
        self.room = Some(room);
        self
    }

    pub const fn access(mut self, access: &'static [&'static str]) -> Command {
        self.access = access;
        self
    }

    pub const fn tips(mut self, tips: &'static [&'static str]) -> Command {
        self.tips = tips;
        self
    }

    /// What the command does with its keys: one list of words for all of them, or one for each.
    pub fn key_access(&self) -> &'static [&'static str] {
        match self.access {
            [] if self.is_write() => &["RW update"],
            [] => &["RO access"],
            access => access,
        }
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The names of the flags, as COMMAND INFO lists them.
    pub fn flag_names(&self) -> impl Iterator<Item = &'static str> {
        let access = if self.is_write() {
            Some("write")
        } else if self.is_read() {
            Some("readonly")
        } else {
            None
        };
        let flags = self.flags;
        access
            .into_iter()
            .chain(flag::NAMES.iter().filter(move |(flag, _)| flags & flag != 0).map(|(_, name)| *name))
    }

    /// The names of the ACL categories, without `@`, in Redis's order.
    pub fn acl_names(&self) -> impl Iterator<Item = &'static str> {
        let derived = [
            ("read", self.is_read()),
            ("write", self.is_write()),
            ("fast", self.has(flag::FAST)),
            ("slow", !self.has(flag::FAST)),
        ];
        let given = acl::NAMES.iter().map(|(category, name)| (*name, self.acl & category != 0));
        let mut names: Vec<&str> =
            derived.into_iter().chain(given).filter(|(_, holds)| *holds).map(|(name, _)| name).collect();
        names.sort_by_key(|name| acl::ORDER.iter().position(|known| known == name));
        names.into_iter()
    }

    /// True if the command reads the keyspace.
    pub fn is_read(&self) -> bool {
        matches!(self.handler, Handler::Read(_) | Handler::Staged(_) | Handler::Sliced(_))
            && !self.has(flag::UNGATED)
    }

    pub fn is_write(&self) -> bool {
        matches!(self.handler, Handler::Write(_) | Handler::Blocking(_))
    }
}
