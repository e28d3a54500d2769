//! Commands: each is declared once in a row, from which everything else derives (arity, key positions,
//! COMMAND, COMMAND DOCS, checks).

mod args;
mod freeing;
mod park;
mod reply;
mod table;
mod usage;

pub use crate::error::{CommandError, shown_word};
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
    /// The command always frees memory and log, so it works while the disk is full. Redis has no such flag.
    pub const FREES: u32 = 1 << 19;
    /// The command reads or changes state beside the keys: it is neither `readonly` nor `write`.
    pub const NO_DATA: u32 = 1 << 24;
    /// The command of a session reads only.
    pub const READ_ONLY: u32 = 1 << 21;
    /// A session command that writes keys: it is listed as a write.
    pub const SESSION_WRITE: u32 = 1 << 31;

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
    pub const LIST: u32 = 1 << 10;
    pub const SET: u32 = 1 << 11;
    pub const SORTED_SET: u32 = 1 << 12;
    pub const STREAM: u32 = 1 << 13;
    pub const BITMAP: u32 = 1 << 14;
    pub const HYPERLOGLOG: u32 = 1 << 15;
    pub const GEO: u32 = 1 << 16;
    pub const SCRIPTING: u32 = 1 << 17;

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
        (LIST, "list"),
        (SET, "set"),
        (SORTED_SET, "sortedset"),
        (STREAM, "stream"),
        (BITMAP, "bitmap"),
        (HYPERLOGLOG, "hyperloglog"),
        (GEO, "geo"),
        (SCRIPTING, "scripting"),
    ];

    /// Redis's order in replies.
    pub const ORDER: &[&str] = &[
        "keyspace",
        "read",
        "write",
        "set",
        "sortedset",
        "list",
        "hash",
        "string",
        "bitmap",
        "hyperloglog",
        "geo",
        "stream",
        "pubsub",
        "admin",
        "fast",
        "slow",
        "blocking",
        "dangerous",
        "connection",
        "transaction",
        "scripting",
        "search",
    ];
}

pub type Outcome = Result<(), CommandError>;
pub type ReadHandler = fn(&View<'_>, Args<'_>, &mut dyn Reply) -> Outcome;
pub type WriteHandler = fn(&mut Tx<'_>, Args<'_>, &mut dyn Reply) -> Outcome;
pub type BlockingHandler = fn(&mut Tx<'_>, Args<'_>, &mut dyn Reply) -> Result<BlockingStage, CommandError>;
pub type BlockingReadHandler = fn(&View<'_>, Args<'_>, &mut dyn Reply) -> Result<BlockingStage, CommandError>;
pub type StagedHandler = fn(&View<'_>, Args<'_>, &mut dyn Reply) -> Result<Stage, CommandError>;

/// A handler that the shell runs for a command of a session. It is opaque to the engine, which has no
/// sessions.
pub type SessionHandler = &'static (dyn Any + Send + Sync);

/// Finds the indexes of the key words among the arguments.
pub type KeyFinder = fn(Args<'_>) -> Result<Vec<usize>, CommandError>;

/// Finds the keys that a call is about beyond those that its words name.
pub type PrefixFinder = fn(&View<'_>, Args<'_>) -> CoveredKeys;

/// Keys that begin with one of some prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoveredKeys {
    pub prefixes: Vec<Vec<u8>>,
    /// The call deletes them.
    pub are_deleted: bool,
}

/// The access of a call to one of its keys, which are counted from 0, in Redis's words (`RW access update`).
pub type AccessFinder = fn(Args<'_>, usize) -> &'static str;

/// The most bytes that the effects of a write may take in the log beyond the bound that derives from its
/// words ([`Command::batch_bytes_max`]), with the current keyspace. 0 if the call is an error.
pub type RoomFinder = fn(&View<'_>, Args<'_>) -> usize;

/// Work without a lock, except for the looks that it takes at the keyspace. It ends in a step with a last
/// look, which makes the reply.
pub type Job = Box<dyn FnOnce(&dyn Looks) -> Finish + Send>;
pub type Finish = Box<dyn FnOnce(&View<'_>, &mut dyn Reply) -> Result<Rest, CommandError> + Send>;

pub type ReplyWriter = Box<dyn FnOnce(&mut dyn Reply)>;

/// The rest of a job after its last step, to be done without the lock.
pub enum Rest {
    /// The reply is written.
    Nothing,
    Write(ReplyWriter),
    /// Nothing was written: this job must run next.
    Again(Job),
}

/// A job that waits before it begins. The wait holds no thread.
pub struct WaitingJob {
    pub signal: Arc<Signal>,
    /// The longest wait; `None` for no limit.
    pub at_most: Option<Duration>,
    /// Runs when the signal is given or the time has passed; it must check which of them happened.
    pub job: Job,
}

impl WaitingJob {
    /// Blocks this thread, for callers without tasks.
    pub fn block(self) -> Job {
        self.signal.block(self.at_most);
        self.job
    }
}

/// The next stage of a command.
pub enum Stage {
    /// The reply is written.
    Done,
    /// Run the job on the same thread: it is expected to be short.
    Run(Job),
    /// Run the job on the pool for long computations.
    Offload(Job),
    /// Run the job, which copies much data out of the keyspace, on the pool for copies.
    Copy(Job),
    /// Wait, and then run the job on the pool for long computations.
    Wait(WaitingJob),
    /// A write without an effect and a reply so far: the caller must make the preparation, and run it again.
    Prepare(Box<Preparation>),
    /// A blocking command without an effect and a reply: the client must wait for keys.
    Park(Box<Park>),
    /// A write without an effect and a reply so far: the caller must reserve this many bytes of room in the
    /// log beyond the bound that derives from its words, and run it again.
    NeedsRoom(usize),
}

/// The result of a blocking command. It is no [`Stage`], because a client that waited is served under the
/// keyspace's lock: there is no later stage.
pub enum BlockingStage {
    /// The reply is written.
    Done,
    /// No effect and no reply: the client must wait for keys.
    Park(Box<Park>),
}

impl From<BlockingStage> for Stage {
    fn from(stage: BlockingStage) -> Stage {
        match stage {
            BlockingStage::Done => Stage::Done,
            BlockingStage::Park(park) => Stage::Park(park),
        }
    }
}

/// How often a batch of any command has one of its words at most: HSETEX deletes an expired field, and sets
/// its new value and its new expiry.
pub const WORD_TIMES_MAX: usize = 3;
/// The same for the first key: each of these effects has it, and the delete of an expired key.
const KEY_TIMES_MAX: usize = 4;

#[derive(Clone, Copy)]
pub enum Handler {
    Read(ReadHandler),
    Write(WriteHandler),
    Staged(StagedHandler),
    /// Reads; returns a job if there is much to read. It never waits, so it can run in a batch of commands.
    Sliced(StagedHandler),
    /// Writes, or comes back with [`BlockingStage::Park`]: then it is run again when one of the keys has
    /// changed.
    Blocking(BlockingHandler),
    /// The same for a command that only reads (as XREAD does): it needs no room in the log, and waits on a
    /// server that refuses writes.
    BlockingRead(BlockingReadHandler),
    /// Run by the shell.
    Session(SessionHandler),
    /// It only has subcommands.
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
    /// Finds the keys in the arguments, if the usage line does not determine them.
    pub keys: Option<KeyFinder>,
    /// Computes the log's room, if the words of a write do not bound it. Called under the lock before the
    /// handler.
    pub room: Option<RoomFinder>,
    /// How often a batch of this command has each word after the first key, at most.
    pub word_times: usize,
    /// The access to the keys, in Redis's words (`RW access update`): one entry for all keys, or one for
    /// each. Empty for the default: `RO access` of a read, `RW update` of a write.
    pub access: &'static [&'static str],
    /// The access to each key, where the words of a call decide it (SET with GET), or where COMMAND lists
    /// another number of accesses than there are keys (SORT).
    pub access_by: Option<AccessFinder>,
    /// The keys that a call is about beyond those that its words name.
    pub prefixes: Option<PrefixFinder>,
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

/// The same for a command that only reads.
pub const fn blocking_read(name: &'static str, usage: &'static str, handler: BlockingReadHandler) -> Command {
    command(name, usage, Handler::BlockingRead(handler)).flags(flag::BLOCKING)
}

/// A command that only has subcommands (`CONFIG GET`, `OBJECT ENCODING`).
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
        word_times: WORD_TIMES_MAX,
        access: &[],
        access_by: None,
        prefixes: None,
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

    /// Says how much a write may log beyond what its words show.
    ///
    /// # Panics
    /// If the command does not write: only a write's room is asked for.
    pub const fn room(mut self, room: RoomFinder) -> Command {
        assert!(matches!(self.handler, Handler::Write(_) | Handler::Blocking(_)), "only writes ask for room");
        self.room = Some(room);
        self
    }

    /// Says that a batch of this write has each word after the first key fewer times than
    /// [`WORD_TIMES_MAX`], so that large values ask for less room. The log fails if a batch has more bytes
    /// than its command asked for.
    ///
    /// # Panics
    /// If the command does not write, or the number is not below the maximum.
    pub const fn logs_words(mut self, times: usize) -> Command {
        assert!(matches!(self.handler, Handler::Write(_)), "only writes are logged");
        assert!(times > 0 && times < WORD_TIMES_MAX, "fewer than the maximum");
        self.word_times = times;
        self
    }

    /// The largest batch of a call with these words, in bytes. Its effects have each word at most as often as
    /// the row says, the first key four times, each with a fixed part, and at most one computed number.
    pub fn batch_bytes_max(&self, words: &[&[u8]]) -> usize {
        const NUMBER_BYTES_MAX: usize = 400;
        const WORD_OVERHEAD_BYTES: usize = 96;
        let key_bytes = words.get(1).map_or(0, |key| key.len());
        let words_bytes: usize =
            words.iter().map(|word| self.word_times * word.len() + WORD_OVERHEAD_BYTES).sum();
        NUMBER_BYTES_MAX + (KEY_TIMES_MAX - self.word_times) * key_bytes + words_bytes
    }

    pub const fn access(mut self, access: &'static [&'static str]) -> Command {
        self.access = access;
        self
    }

    /// Says that the words decide the access to the keys; the row's own access is the one that COMMAND lists.
    pub const fn access_by(mut self, finder: AccessFinder) -> Command {
        self.access_by = Some(finder);
        self
    }

    /// Says which keys a call is about beyond those that its words name: what an index covers.
    pub const fn prefixes(mut self, finder: PrefixFinder) -> Command {
        self.prefixes = Some(finder);
        self
    }

    pub const fn tips(mut self, tips: &'static [&'static str]) -> Command {
        self.tips = tips;
        self
    }

    /// The access to the keys: one entry for all of them, or one for each.
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
        let access = match (self.is_data_write(), self.is_data_read()) {
            (true, _) => Some("write"),
            (_, is_read) if is_read || self.has(flag::READ_ONLY) => Some("readonly"),
            _ => None,
        };
        let flags = self.flags;
        access
            .into_iter()
            .chain(flag::NAMES.iter().filter(move |(flag, _)| flags & flag != 0).map(|(_, name)| *name))
    }

    /// The names of the ACL categories, without `@`, in Redis's order.
    pub fn acl_names(&self) -> impl Iterator<Item = &'static str> {
        let derived = [
            ("read", self.is_data_read()),
            ("write", self.is_data_write()),
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
        let reads = matches!(
            self.handler,
            Handler::Read(_) | Handler::Staged(_) | Handler::Sliced(_) | Handler::BlockingRead(_)
        );
        reads && !self.has(flag::UNGATED)
    }

    /// False for a container without a function of its own: only its subcommands can be called.
    pub fn is_callable(&self) -> bool {
        !matches!(self.handler, Handler::Container)
    }

    pub fn is_write(&self) -> bool {
        matches!(self.handler, Handler::Write(_) | Handler::Blocking(_))
    }

    fn is_data_read(&self) -> bool {
        self.is_read() && !self.has(flag::NO_DATA)
    }

    fn is_data_write(&self) -> bool {
        (self.is_write() && !self.has(flag::NO_DATA)) || self.has(flag::SESSION_WRITE)
    }
}
