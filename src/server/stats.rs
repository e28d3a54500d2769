//! Counters for INFO, SLOWLOG and CONFIG RESETSTAT. Each worker counts for itself; INFO adds up.

mod histogram;

pub use histogram::{Histogram, LatencyCounts};

use engramdb_engine::command::Args;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A number that one thread writes and others may read.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Only its own thread adds: no read-modify-write is needed.
    #[inline]
    pub fn add(&self, value: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + value, Ordering::Relaxed);
    }

    /// Puts `after` into a sum in the place of `before`. Two threads may do so at once: while a worker runs a
    /// long script, the standby serves its other connections. What `add` counts meanwhile may get lost.
    pub fn replace(&self, before: u64, after: u64) {
        self.0.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub struct CommandCounters {
    pub calls: Counter,
    pub nanoseconds: Counter,
    pub failed: Counter,
    /// Calls that were refused before they ran.
    pub rejected: Counter,
    /// How long calls took, once there was one.
    pub latencies: OnceLock<Box<Histogram>>,
}

/// One worker's counters.
pub struct WorkerStats {
    pub commands: Box<[CommandCounters]>,
    pub commands_total: Counter,
    /// How many of them were done when the worker rested last, or sent its writes on their way.
    commands_at_rest: Counter,
    pub input_bytes: Counter,
    pub output_bytes: Counter,
    pub reads: Counter,
    pub writes: Counter,
    /// Memory of the worker's connections.
    pub client_bytes: Counter,
    /// Evicted connections that have not ended: their memory is still to be given back.
    pub leaving: AtomicUsize,
}

impl WorkerStats {
    pub fn new(commands: usize) -> WorkerStats {
        WorkerStats {
            commands: (0..commands).map(|_| CommandCounters::default()).collect(),
            commands_total: Counter::default(),
            commands_at_rest: Counter::default(),
            input_bytes: Counter::default(),
            output_bytes: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            client_bytes: Counter::default(),
            leaving: AtomicUsize::new(0),
        }
    }
}

impl WorkerStats {
    /// Notes that nothing of what was done waits for the worker to send it on its way.
    pub fn rested(&self) {
        self.commands_at_rest.0.store(self.commands_total.get(), Ordering::Relaxed);
    }

    /// Commands since then. A reset of the totals counts as a rest.
    pub fn commands_since_rest(&self) -> u64 {
        self.commands_total.get().saturating_sub(self.commands_at_rest.get())
    }

    /// The totals, to be reset.
    pub fn all(&self) -> [&Counter; 5] {
        [&self.commands_total, &self.input_bytes, &self.output_bytes, &self.reads, &self.writes]
    }
}

/// One slow command.
pub struct Slow {
    pub id: u64,
    pub at_ms: u64,
    pub microseconds: u64,
    pub words: Vec<Vec<u8>>,
    pub client: String,
    pub client_name: Vec<u8>,
}

/// What all workers count together: rare events.
#[derive(Default)]
pub struct Stats {
    pub connections: AtomicU64,
    pub rejected_connections: AtomicU64,
    pub evicted_clients: AtomicU64,
    pub query_limit_disconnections: AtomicU64,
    pub output_limit_disconnections: AtomicU64,
    pub errors: Mutex<BTreeMap<String, u64>>,
    pub slow: Mutex<VecDeque<Slow>>,
    pub slow_id: AtomicU64,
    /// The count of changes when the last snapshot was begun.
    pub changes_at_save: AtomicU64,
    pub operations_per_second: AtomicU64,
    pub peak_memory: AtomicU64,
    /// Clients that wait for background work, for example the end of a backfill.
    pub waiting_clients: Arc<AtomicUsize>,
}

/// Counts a client as waiting for as long as this exists.
pub struct WaitingClient(Arc<AtomicUsize>);

impl WaitingClient {
    pub fn new(stats: &Stats) -> WaitingClient {
        stats.waiting_clients.fetch_add(1, Ordering::Relaxed);
        WaitingClient(stats.waiting_clients.clone())
    }
}

impl Drop for WaitingClient {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Error codes that are counted apart; a module's errors could have any number.
const ERROR_CODES_MAX: usize = 128;

impl Stats {
    /// Counts an error reply by its code word.
    pub fn error(&self, text: &str) {
        let code = text.split(' ').next().unwrap_or_default();
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < ERROR_CODES_MAX {
            errors.insert(code.to_owned(), 1);
        }
    }

    pub fn slow(&self, mut slow: Slow, kept_max: usize) {
        slow.id = self.slow_id.fetch_add(1, Ordering::Relaxed);
        let mut list = self.slow.lock();
        list.push_front(slow);
        list.truncate(kept_max);
    }
}

/// The most words of a slow command that are kept, and the most bytes of a word and of the client's name,
/// as in Redis.
const SLOW_WORDS_MAX: usize = 32;
const SLOW_WORD_BYTES_MAX: usize = 128;

/// The words that the entry keeps. Where there are more, the last place says how many.
pub fn slow_words(args: Args<'_>) -> Vec<Vec<u8>> {
    let is_secret = secret_words(args);
    let shown = |(index, word): (usize, &&[u8])| match is_secret(index) {
        true => b"(redacted)".to_vec(),
        false => cut(word),
    };
    if args.len() <= SLOW_WORDS_MAX {
        return args.iter().enumerate().map(shown).collect();
    }
    let kept = SLOW_WORDS_MAX - 1;
    let rest = format!("... ({} more arguments)", args.len() - kept).into_bytes();
    args.iter().enumerate().take(kept).map(shown).chain([rest]).collect()
}

/// Which words of a request may hold a secret, so that they are not shown to others: those that Redis hides.
pub fn secret_words(args: Args<'_>) -> impl Fn(usize) -> bool {
    let is_acl = args.is(0, "ACL") && ["SETUSER", "GETUSER", "DELUSER"].iter().any(|name| args.is(1, name));
    let from = match is_acl {
        true => 2,
        false if args.is(0, "AUTH") => 1,
        false => usize::MAX,
    };
    let is_hello = args.is(0, "HELLO");
    let is_setting = args.is(0, "CONFIG") && args.is(1, "SET");
    let is_migrate = args.is(0, "MIGRATE");
    let marks: Vec<bool> = (0..args.len())
        .map(|index| {
            let after = |back: usize, name: &str| index > back && args.is(index - back, name);
            index >= from
                || is_hello && (after(1, "AUTH") || after(2, "AUTH"))
                || is_setting && index % 2 == 1 && after(1, "requirepass")
                || is_migrate && index > 5 && (after(1, "AUTH") || after(1, "AUTH2") || after(2, "AUTH2"))
        })
        .collect();
    move |index| marks[index]
}

/// The beginning of a long word, and how much follows.
pub fn cut(word: &[u8]) -> Vec<u8> {
    match word.split_at_checked(SLOW_WORD_BYTES_MAX) {
        Some((start, rest)) if !rest.is_empty() => {
            [start, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
        }
        _ => word.to_vec(),
    }
}
