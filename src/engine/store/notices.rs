//! Notices: what clients learn of changes without asking. Keyspace events, keys that caches must forget, and
//! messages of transactions.
//!
//! The [`Hook`](super::hook::Hook) collects them where effects are applied. They get the LSN of their batch
//! with it, and then join one queue, in the order of the log. Once the lock is released, the thread that
//! held it delivers the queue to the [`Audience`], which must hold each notice until its batch is durable.
//!
//! # Invariants
//!
//! - The queue has the order in which batches were applied, and one thread delivers at a time: all receivers
//!   learn of changes in one order.
//! - No notice is lost. A thread that finds another one delivering leaves its notices to that one, which
//!   looks at the queue again after it has let go.
//! - While no client wants notices, an effect costs one load.
//!
//! An event's name is that of the running command ([`Command::event`](crate::command::Command::event)) or of
//! [`Tx::event`](super::tx::Tx::event); a log has no names, so a replay and a follower have no events. Keys
//! that changed are noted in both.

use crate::effect::{Cause, Effect, Record};
use crate::gate::{ReplyGate, Submitted};
use crate::keyspace::Keyspace;
use crate::log::Lsn;
use crate::store::lookups::MissedKey;
use crate::table::HashedKey;
use parking_lot::Mutex;
use std::any::Any;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Classes of events, with Redis's letters; one bit each.
pub mod class {
    pub const KEYSPACE: u32 = 1;
    pub const KEYEVENT: u32 = 1 << 1;
    pub const GENERIC: u32 = 1 << 2;
    pub const STRING: u32 = 1 << 3;
    pub const LIST: u32 = 1 << 4;
    pub const SET: u32 = 1 << 5;
    pub const HASH: u32 = 1 << 6;
    pub const SORTED_SET: u32 = 1 << 7;
    pub const EXPIRED: u32 = 1 << 8;
    pub const EVICTED: u32 = 1 << 9;
    pub const STREAM: u32 = 1 << 10;
    pub const KEY_MISS: u32 = 1 << 11;
    pub const MODULE: u32 = 1 << 12;
    pub const NEW: u32 = 1 << 13;
    /// What the letter A means: all but key misses and new keys.
    pub const ALL: u32 =
        GENERIC | STRING | LIST | SET | HASH | SORTED_SET | EXPIRED | EVICTED | STREAM | MODULE;
}

/// Keys that changed are noted: a client caches some.
const TRACKING: u32 = 1 << 31;

/// Each event of the engine's commands, by its class.
const NAMES: &[(u32, &[&str])] = &[
    (
        class::GENERIC,
        &[
            "del",
            "rename_from",
            "rename_to",
            "move_from",
            "move_to",
            "copy_to",
            "restore",
            "expire",
            "persist",
        ],
    ),
    (class::STRING, &["set", "setrange", "incrby", "incrbyfloat", "append", "setbit", "pfadd"]),
    (class::LIST, &["lpush", "rpush", "lpop", "rpop", "linsert", "lset", "lrem", "ltrim", "sortstore"]),
    (class::SET, &["sadd", "srem", "spop", "sinterstore", "sunionstore", "sdiffstore"]),
    (class::HASH, &["hset", "hincrby", "hincrbyfloat", "hdel", "hexpire", "hexpired", "hpersist"]),
    (
        class::SORTED_SET,
        &[
            "zadd",
            "zincr",
            "zrem",
            "zremrangebyscore",
            "zremrangebyrank",
            "zremrangebylex",
            "zpopmin",
            "zpopmax",
            "zinterstore",
            "zunionstore",
            "zdiffstore",
            "zrangestore",
            "geosearchstore",
            "georadiusstore",
        ],
    ),
    (class::EXPIRED, &["expired"]),
    (class::EVICTED, &["evicted"]),
    (
        class::STREAM,
        &[
            "xadd",
            "xdel",
            "xtrim",
            "xsetid",
            "xgroup-create",
            "xgroup-setid",
            "xgroup-destroy",
            "xgroup-createconsumer",
            "xgroup-delconsumer",
            "xclaim",
            "xautoclaim",
        ],
    ),
    (class::KEY_MISS, &["keymiss"]),
    (class::NEW, &["new"]),
];

/// The class of an event. Names that are not the engine's are a module's.
pub fn class_of(event: &str) -> u32 {
    NAMES.iter().find(|(_, names)| names.contains(&event)).map_or(class::MODULE, |(class, _)| *class)
}

/// Something that clients learn of.
pub enum Notice {
    Event {
        database: u32,
        name: &'static str,
        class: u32,
        key: Box<[u8]>,
    },
    /// A key has changed in some database; `by` is the client's id, 0 for none.
    Changed {
        by: u64,
        key: Box<[u8]>,
    },
    /// All keys of a database or of all of them may have changed.
    AllChanged {
        by: u64,
    },
    /// Of the shell; see [`Transaction::announce`](crate::shard::run::Transaction::announce).
    Message(Box<dyn Any + Send + Sync>),
}

/// A notice, and the batch that must be durable before a client learns of it.
pub struct Noticed {
    pub notice: Notice,
    pub gate: Lsn,
}

/// What receives notices. It takes no lock of the engine.
pub trait Audience: Send + Sync {
    fn announce(&self, notices: Vec<Noticed>);
}

/// Notices of submitted batches on their way to the audience, and what that is interested in.
#[derive(Default)]
pub struct NoticeQueue {
    interest: AtomicU32,
    count: AtomicUsize,
    waiting: Mutex<Vec<Noticed>>,
    /// Held by the thread that delivers.
    delivering: Mutex<()>,
    audience: OnceLock<Arc<dyn Audience>>,
}

impl NoticeQueue {
    /// Sets the audience. Once.
    pub fn attach(&self, audience: Arc<dyn Audience>) {
        let is_first = self.audience.set(audience).is_ok();
        assert!(is_first, "there is one audience");
    }

    /// Sets which classes of events are noted from now on.
    pub fn set_events(&self, classes: u32) {
        self.set_interest(!TRACKING, classes);
    }

    /// Sets whether changed keys are noted from now on. What a client reads under the keyspace's lock after
    /// this call, it gets the changes of.
    pub fn set_tracking(&self, is_on: bool) {
        self.set_interest(TRACKING, if is_on { TRACKING } else { 0 });
    }

    fn set_interest(&self, mask: u32, bits: u32) {
        let change = |before: u32| Some(before & !mask | bits);
        _ = self.interest.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
    }

    #[inline]
    fn has(&self, bits: u32) -> bool {
        self.interest.load(Ordering::Relaxed) & bits != 0
    }

    /// Whether an event of this class reaches anybody.
    #[inline]
    pub(crate) fn notes(&self, class: u32) -> bool {
        let interest = self.interest.load(Ordering::Relaxed);
        interest & class != 0 && interest & (class::KEYSPACE | class::KEYEVENT) != 0
    }

    /// True if no notice waits and none is being delivered: what a client does now comes after all of them.
    pub fn is_idle(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0 && !self.delivering.is_locked()
    }

    /// Adds notices after those that wait.
    pub fn push(&self, notices: impl IntoIterator<Item = Noticed>) {
        let mut waiting = self.waiting.lock();
        waiting.extend(notices);
        self.count.store(waiting.len(), Ordering::SeqCst);
    }

    /// Adds keys that a command did not find; its reply has this gate.
    #[cold]
    pub(crate) fn push_missed(&self, missed: Vec<MissedKey>, gate: Lsn) {
        self.push(
            missed.into_iter().map(|(database, key)| Noticed { notice: missed_key(database, key), gate }),
        );
    }

    /// Delivers what waits, unless another thread does. Called without any lock of the engine.
    #[inline]
    pub fn deliver(&self) {
        while self.count.load(Ordering::SeqCst) > 0 {
            let Some(turn) = self.delivering.try_lock() else { return };
            let taken = {
                let mut waiting = self.waiting.lock();
                self.count.store(0, Ordering::SeqCst);
                std::mem::take(&mut *waiting)
            };
            if let Some(audience) = self.audience.get() {
                audience.announce(taken);
            }
            drop(turn);
        }
    }
}

fn missed_key(database: u32, key: Box<[u8]>) -> Notice {
    Notice::Event { database, name: "keymiss", class: class::KEY_MISS, key }
}

/// A notice whose batch may have no LSN yet.
struct Open {
    notice: Notice,
    /// Set when the batch ends.
    gate: ReplyGate,
    /// What it waits for beside its batch.
    floor: Lsn,
}

/// The hook's part: notices of batches that are not submitted.
#[derive(Default)]
pub(crate) struct Notices {
    queue: Arc<NoticeQueue>,
    /// The event of the effects that come next; empty for none.
    event: &'static str,
    /// The client whose commands run, by its id.
    by: u64,
    open: Vec<Open>,
    /// Where the notices of the open batch begin.
    batch_at: usize,
    /// Where those of the running command begin.
    command_at: usize,
}

/// What an effect finds: noted before it is applied.
#[derive(Clone, Copy, Default)]
pub(crate) struct Found {
    /// The key that it makes or changes was there.
    is_key_there: bool,
}

impl Notices {
    pub(crate) fn queue(&self) -> &Arc<NoticeQueue> {
        &self.queue
    }

    /// A command of this client begins.
    pub(crate) fn begin_command(&mut self) {
        self.command_at = self.open.len();
    }

    /// The command of a parked client begins, whose changes are those of no client: all that track the keys
    /// learn of them. Returns the client whose command has fed the key.
    pub(crate) fn begin_served(&mut self) -> u64 {
        self.begin_command();
        std::mem::take(&mut self.by)
    }

    pub(crate) fn set_client(&mut self, by: u64) {
        self.by = by;
    }

    /// Whether missing keys are to be noted.
    #[inline]
    pub(crate) fn notes_misses(&self) -> bool {
        self.queue.notes(class::KEY_MISS)
    }

    /// Notes keys that a command did not find.
    pub(crate) fn add_missed(&mut self, missed: Vec<MissedKey>) {
        missed.into_iter().for_each(|(database, key)| self.add(missed_key(database, key)));
    }

    /// Names the event of the effects that follow; empty for none.
    #[inline]
    pub(crate) fn name(&mut self, event: &'static str) {
        self.event = event;
    }

    /// Called before an effect is applied.
    #[inline]
    pub(crate) fn find(&self, keyspace: &Keyspace, record: &Record<'_>, key: Option<HashedKey<'_>>) -> Found {
        let is_key_there = self.queue.notes(class::NEW)
            && key.is_some_and(|key| keyspace.entry_hashed(record.database, key).is_some());
        Found { is_key_there }
    }

    /// Called after an effect was applied, with its count.
    #[inline]
    pub(crate) fn applied(&mut self, keyspace: &Keyspace, record: &Record<'_>, found: Found, count: usize) {
        if self.queue.has(u32::MAX) {
            self.note(keyspace, record, found, count);
        }
    }

    #[cold]
    fn note(&mut self, keyspace: &Keyspace, record: &Record<'_>, found: Found, count: usize) {
        if self.queue.has(TRACKING) {
            self.note_changes(record);
        }
        if !self.event.is_empty() && self.queue.has(class::KEYSPACE | class::KEYEVENT) {
            self.note_events(keyspace, record, found, count);
        }
    }

    fn note_changes(&mut self, record: &Record<'_>) {
        let by = self.by;
        match record.effect {
            Effect::Module { key: None, .. } => {}
            Effect::Flush | Effect::FlushAll | Effect::SwapDatabases { .. } => {
                self.add(Notice::AllChanged { by });
            }
            effect => effect.changed_keys(record.database, &mut |_, key| {
                self.add(Notice::Changed { by, key: key.into() });
            }),
        }
    }

    fn note_events(&mut self, keyspace: &Keyspace, record: &Record<'_>, found: Found, count: usize) {
        let database = record.database;
        match record.effect {
            Effect::Delete { .. } | Effect::HashDelete { .. } if count == 0 => {}
            Effect::Delete { key, cause: Cause::Command } => self.event("del", database, key),
            Effect::Delete { key, cause: Cause::Expired } => self.event("expired", database, key),
            Effect::Delete { key, cause: Cause::Evicted } => self.event("evicted", database, key),
            Effect::Rename { key, to } => {
                self.event("new", database, to);
                self.event("rename_from", database, key);
                self.event("rename_to", database, to);
            }
            Effect::Move { key, to_database } => {
                self.event("new", to_database, key);
                self.event("move_from", database, key);
                self.event("move_to", to_database, key);
            }
            Effect::Copy { to, to_database, .. } => {
                self.event("new", to_database, to);
                self.event("copy_to", to_database, to);
            }
            effect => {
                let Some(key) = effect.key() else { return };
                let is_there = keyspace.entry(database, key).is_some();
                if is_there && !found.is_key_there {
                    self.event("new", database, key);
                }
                if !self.is_said(self.event, database, key) {
                    self.event(self.event, database, key);
                }
                if !is_there {
                    self.event("del", database, key);
                }
            }
        }
    }

    /// Whether the running command's last notice is this event: a command says once what it does with a key,
    /// whatever number of effects that takes.
    fn is_said(&self, event: &str, of_database: u32, of_key: &[u8]) -> bool {
        let last = self.open[self.command_at.min(self.open.len())..].iter().rev();
        let last = last.map(|open| &open.notice).find(|notice| matches!(notice, Notice::Event { .. }));
        matches!(last, Some(Notice::Event { database, name, key, .. })
            if event != "set" && *name == event && *database == of_database && **key == *of_key)
    }

    /// Adds an event beside those of the effects. While no client wants events, it costs one atomic load.
    #[inline]
    pub(crate) fn notify(&mut self, name: &'static str, database: u32, key: &[u8]) {
        if self.queue.has(class::KEYSPACE | class::KEYEVENT) {
            self.event(name, database, key);
        }
    }

    #[cold]
    fn event(&mut self, name: &'static str, database: u32, key: &[u8]) {
        let class = class_of(name);
        if self.queue.notes(class) {
            self.add(Notice::Event { database, name, class, key: key.into() });
        }
    }

    fn add(&mut self, notice: Notice) {
        self.open.push(Open { notice, gate: ReplyGate::NONE, floor: Lsn(0) });
    }

    /// Adds a message of the shell, which waits for this batch too.
    pub(crate) fn add_message(&mut self, message: Box<dyn Any + Send + Sync>, floor: Lsn) {
        self.open.push(Open { notice: Notice::Message(message), gate: ReplyGate::NONE, floor });
    }

    /// Ends the open batch, which has this gate if it has effects.
    #[inline]
    pub(crate) fn end_batch(&mut self, gate: Option<ReplyGate>) {
        if self.batch_at < self.open.len() {
            if let Some(gate) = gate {
                self.open[self.batch_at..].iter_mut().for_each(|open| open.gate = gate);
            }
            self.batch_at = self.open.len();
        }
    }

    /// The log has taken the ended batches, if there were any: their notices join the queue.
    #[inline]
    pub(crate) fn submitted(&mut self, submitted: Option<Submitted>) {
        if !self.open.is_empty() {
            self.join(submitted);
        }
    }

    #[cold]
    fn join(&mut self, submitted: Option<Submitted>) {
        assert_eq!(self.batch_at, self.open.len(), "notices are submitted when their batch has ended");
        let resolve =
            |gate: ReplyGate| submitted.map_or_else(|| gate.lsn(), |submitted| submitted.resolve(gate));
        let open = self.open.drain(..);
        let noticed =
            open.map(|open| Noticed { gate: resolve(open.gate).max(open.floor), notice: open.notice });
        self.queue.push(noticed);
        (self.batch_at, self.command_at) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what is announced.
    struct Ears {
        heard: Mutex<Vec<(String, u64)>>,
    }

    impl Audience for Ears {
        fn announce(&self, notices: Vec<Noticed>) {
            for Noticed { notice, gate } in notices {
                let text = match notice {
                    Notice::Event { name, key, .. } => format!("{name} {}", key.escape_ascii()),
                    Notice::Changed { by, key } => format!("{} changed by {by}", key.escape_ascii()),
                    Notice::AllChanged { by } => format!("all changed by {by}"),
                    Notice::Message(text) => *text.downcast::<String>().expect("a text"),
                };
                self.heard.lock().push((text, gate.0));
            }
        }
    }

    #[test]
    fn notices_get_the_gates_of_their_batches_in_one_order() {
        let ears = Arc::new(Ears { heard: Mutex::default() });
        let mut notices = Notices::default();
        let queue = notices.queue().clone();
        queue.attach(ears.clone());
        queue.set_events(class::KEYEVENT | class::ALL);
        notices.event("set", 0, b"a");
        notices.add_message(Box::new("text".to_owned()), Lsn(5));
        notices.end_batch(Some(ReplyGate::open(1)));
        notices.event("keymiss", 0, b"nobody asked");
        notices.event("lpush", 0, b"b");
        notices.end_batch(None);
        notices.event("set", 0, b"c");
        notices.end_batch(Some(ReplyGate::open(2)));
        notices.submitted(Some(Submitted::new(Lsn(7), 2)));
        assert!(!queue.is_idle());
        queue.deliver();
        assert!(queue.is_idle());
        let heard = ears.heard.lock().clone();
        let expected = [("set a", 7), ("text", 7), ("lpush b", 0), ("set c", 8)];
        assert_eq!(heard, expected.map(|(text, gate)| (text.to_owned(), gate)));
    }
}
