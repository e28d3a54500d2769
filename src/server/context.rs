//! What all threads of the server share.

use crate::acl::Acl;
use crate::clients::{Client, Clients};
use crate::config::Config;
use crate::config::client_limits::OutputLimit;
use crate::latency::LatencyMonitor;
use crate::long_work::LongWork;
use crate::monitors::Monitors;
use crate::output::gate::Gate;
use crate::output::{Delivery, Posted, Push, PushElement};
use crate::outside::Outside;
use crate::pause::Pause;
use crate::pubsub::{Message, PubSub};
use crate::scripts::Scripts;
use crate::snapshots::Snapshotter;
use crate::stats::{Stats, WorkerStats};
use crate::tracking::{Invalidation, Tracking};
use crate::turns::KeyTurns;
use engramdb_engine::Engine;
use engramdb_engine::command::{Command, CommandTable};
use engramdb_engine::keyspace::EvictionPolicy;
use engramdb_engine::log::Lsn;
use engramdb_engine::shard::evict::Eviction;
use engramdb_engine::store::memory::{MemoryUse, OfOthers};
use engramdb_engine::store::notices::{Notice, Noticed};
use parking_lot::{Mutex, RwLock};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How a server was asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// SHUTDOWN SAVE: the caller makes a snapshot after the log is closed.
    pub save: bool,
}

/// What all threads share.
pub struct ServerContext {
    pub engine: Arc<Engine>,
    pub table: Arc<CommandTable>,
    /// By `Known::id`: the full names, for INFO and CLIENT LIST.
    pub names: Vec<String>,
    pub config: RwLock<Config>,
    pub limits: Limits,
    pub clients: Arc<Clients>,
    pub acl: Arc<Acl>,
    pub pubsub: PubSub,
    pub monitors: Monitors,
    pub pause: Pause,
    pub latency: LatencyMonitor,
    pub tracking: Tracking,
    pub stats: Stats,
    pub workers: Vec<Arc<WorkerStats>>,
    /// Long computations.
    pub searches: Arc<LongWork>,
    /// Commands that copy much out of the keyspace.
    pub copies: Arc<LongWork>,
    /// Documents that indexes read before they are written: each can take seconds.
    pub readings: Arc<LongWork>,
    /// Whose document is read, of several writers of a key.
    pub turns: Arc<KeyTurns>,
    /// Buffers and words of large requests: their clients do not wait for the long copies of others.
    pub buffers: Arc<LongWork>,
    pub snapshotter: Arc<dyn Snapshotter>,
    pub has_modules: bool,
    pub run_id: String,
    pub started_at: Duration,
    /// The same by the wall clock, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    pub addresses: Vec<SocketAddr>,
    pub module_commands: Vec<&'static [Command]>,
    /// Settings of modules as they are without a configuration.
    pub module_defaults: Vec<(&'static str, String)>,
    /// Called when CONFIG SET has changed something.
    pub configured: Box<dyn Fn(&Config) + Send + Sync>,
    /// See `Hooks::allocated`.
    pub allocated: Option<fn() -> usize>,
    /// Held while the configuration file is rewritten.
    pub rewriting: Mutex<()>,
    pub stopping: Stopping,
    pub scripts: Arc<Scripts>,
    /// As HELLO shows them.
    pub modules: Vec<LoadedModule>,
}

/// A module as MODULE LIST and HELLO show it.
#[derive(Clone, Copy)]
pub struct LoadedModule {
    pub name: &'static str,
    pub version: u32,
}

/// What a connection has of its worker.
#[derive(Clone)]
pub struct Worker {
    pub shared: Arc<ServerContext>,
    pub gate: Arc<Gate>,
    pub stats: Arc<WorkerStats>,
    pub outside: Arc<Outside>,
    /// Brings the worker's thread out of its runtime.
    pub leave: Arc<dyn Fn() + Send + Sync>,
}

/// Whether the server was asked to stop, and how.
#[derive(Default)]
pub struct Stopping {
    is_asked: AtomicBool,
    how: Mutex<Stop>,
    asked: Notify,
}

/// What the hot path reads of the configuration.
#[derive(Default)]
pub struct Limits {
    pub slow_us: AtomicI64,
    pub input_bytes_max: AtomicUsize,
    /// Of replies, and of what else is sent to a client that does not subscribe.
    pub output: OutputBounds,
    /// For clients that subscribe.
    pub subscriber_output: OutputBounds,
    /// Memory of all connections; `usize::MAX` without a limit.
    pub client_bytes_max: AtomicUsize,
    pub bulk_bytes_max: AtomicUsize,
    /// Of keyspace events.
    pub notified_events: AtomicU32,
    /// The latencies of commands are counted.
    pub tracks_latencies: AtomicBool,
    pub idle_timeout_s: AtomicU64,
}

/// Bytes that may wait to be sent to a client of one class.
#[derive(Default)]
pub struct OutputBounds {
    pub bytes_max: AtomicUsize,
    pub soft_bytes_max: AtomicUsize,
}

impl OutputBounds {
    fn follow(&self, limit: OutputLimit, client_bytes_max: usize) {
        self.bytes_max.store(limit.hard_bytes().min(client_bytes_max), Ordering::Relaxed);
        self.soft_bytes_max.store(limit.soft_bytes(), Ordering::Relaxed);
    }
}

impl Limits {
    /// Those of this configuration.
    pub fn of(config: &Config) -> Limits {
        let limits = Limits::default();
        limits.follow(config);
        limits
    }

    #[inline]
    pub fn output_of(&self, client: &Client) -> &OutputBounds {
        if client.is_subscriber() { &self.subscriber_output } else { &self.output }
    }

    pub fn follow(&self, config: &Config) {
        self.slow_us.store(config.slow_log_us, Ordering::Relaxed);
        self.input_bytes_max.store(config.input_bytes_max, Ordering::Relaxed);
        let client_bytes_max = config.client_bytes_max();
        self.client_bytes_max.store(client_bytes_max, Ordering::Relaxed);
        // A reply larger than what all connections may take would evict its connection in any case: it is not
        // made.
        self.output.follow(config.output_limits.normal, client_bytes_max);
        self.subscriber_output.follow(config.output_limits.pubsub, client_bytes_max);
        self.bulk_bytes_max.store(config.bulk_bytes_max, Ordering::Relaxed);
        self.idle_timeout_s.store(config.idle_timeout_s, Ordering::Relaxed);
        self.tracks_latencies.store(config.tracks_latencies, Ordering::Relaxed);
        self.notified_events.store(config.notified_events.0, Ordering::Relaxed);
    }
}

/// Keys that are evicted under one hold of the keyspace's lock.
const EVICTED_AT_ONCE: usize = 64;
/// Holds for one command. What is lacking then is made by the next ones, and in the background.
const EVICTION_ROUNDS: usize = 16;

impl ServerContext {
    /// By how much engine time is ahead of the wall clock, in milliseconds.
    pub fn clock_ahead_ms(&self) -> u64 {
        let engine_ms = self.engine.now_ms();
        engine_ms.saturating_sub(self.engine.env().clock.wall_ms())
    }

    /// Measures the memory in use, and compares it with `maxmemory`.
    pub fn measure_memory(&self) -> MemoryUse {
        let of_others = match self.allocated {
            Some(allocated) => OfOthers::Rest { allocated: allocated() },
            None => OfOthers::Known(self.acl.heap_bytes() + self.client_bytes()),
        };
        self.engine.measure_memory(of_others)
    }

    /// Deletes keys, where the policy allows it, until there is memory again, but not for long. False if
    /// commands that need memory are to be refused: no key may go, or the log has no room for its delete.
    pub fn make_memory(&self) -> bool {
        let (policy, samples) = {
            let config = self.config.read();
            (config.eviction_policy(), config.eviction_samples)
        };
        if policy == EvictionPolicy::None {
            return false;
        }
        for _ in 0..EVICTION_ROUNDS {
            match self.engine.evict(policy, samples, EVICTED_AT_ONCE) {
                Ok(Eviction::Enough) => return true,
                Ok(Eviction::Partly) => {}
                Ok(Eviction::Nothing) => return false,
                Err(refusal) => {
                    tracing::debug!("eviction waits: {refusal}");
                    return false;
                }
            }
        }
        true
    }

    /// The monotonic clock.
    pub fn now(&self) -> Duration {
        self.engine.env().clock.monotonic()
    }

    /// When a snapshot was published last, in milliseconds since the Unix epoch. Begins with the start, as in
    /// Redis.
    pub fn last_save_ms(&self) -> u64 {
        self.snapshotter.last_save_ms().max(self.started_ms)
    }

    /// Memory of all connections.
    pub fn client_bytes(&self) -> usize {
        self.workers.iter().map(|worker| worker.client_bytes.get() as usize).sum()
    }

    /// Closes connections until the others take no more than `maxmemory-clients`.
    #[inline]
    pub fn evict_clients(&self) {
        let bytes_max = self.limits.client_bytes_max.load(Ordering::Relaxed);
        if bytes_max != usize::MAX && self.client_bytes() > bytes_max {
            let evicted = self.clients.evict(bytes_max);
            self.stats.evicted_clients.fetch_add(evicted as u64, Ordering::Relaxed);
        }
    }

    /// Hands a push to a client. It leaves after what is on its way to the client, when `gate` is durable:
    /// the batch whose effect it shows. False if the client takes no pushes, or no more.
    ///
    /// # Panics
    /// If the log was not given that batch: the push would wait for ever, or for another batch.
    pub fn post(&self, client: &Client, push: &Arc<Push>, gate: Lsn) -> bool {
        assert!(gate <= self.engine.last_lsn(), "a push waits for a batch that was submitted");
        let bytes_max = self.limits.output_of(client).bytes_max.load(Ordering::Relaxed);
        let delivery = client.post(Posted { push: push.clone(), gate }, bytes_max);
        if delivery == Delivery::Overflowed {
            self.close_for_output(client, bytes_max);
        }
        matches!(delivery, Delivery::First | Delivery::Queued)
    }

    /// Posts a message to its channel's subscribers; it leaves when the batch is durable. Returns how many
    /// times it was posted. Comes after all notices of changes that were made before.
    pub fn publish(&self, message: Message, gate: Lsn) -> usize {
        let notices = self.engine.notices();
        if notices.is_idle() {
            return self.post_message(&message, gate);
        }
        let receivers = self.pubsub.receivers(message.space, &message.channel);
        notices.push([Noticed { notice: Notice::Message(Box::new(message)), gate }]);
        notices.deliver();
        receivers
    }

    pub fn post_message(&self, message: &Message, gate: Lsn) -> usize {
        self.pubsub.publish(message, |client, push| _ = self.post(client, push, gate))
    }

    /// Posts an invalidation to the client that is to get it. One that speaks RESP2 gets it as a message, if
    /// it subscribes to anything.
    pub fn invalidate(&self, invalidation: &Invalidation) {
        let Invalidation { tracker, keys, gate } = invalidation;
        let own = &tracker.client;
        let is_resp3 = |client: &Client| client.is_resp3.load(Ordering::Relaxed);
        let receiver = match tracker.redirect {
            0 => Some(own.clone()),
            id => self.clients.get(id),
        };
        let Some(receiver) = receiver else {
            own.is_redirect_broken.store(true, Ordering::Relaxed);
            if is_resp3(own) {
                let id = PushElement::Integer(tracker.redirect as i64);
                let push = Push::new(vec![PushElement::bulk(*b"tracking-redir-broken"), id]);
                self.post(own, &push, *gate);
            }
            return;
        };
        let keys = keys.as_ref().map_or(PushElement::Null, |keys| PushElement::Array(keys.clone()));
        if is_resp3(&receiver) {
            self.post(&receiver, &Push::new(vec![PushElement::bulk(*b"invalidate"), keys]), *gate);
        } else if tracker.redirect != 0 && receiver.is_subscriber() {
            let words = [b"message".as_slice(), b"__redis__:invalidate"].map(PushElement::bulk);
            self.post(&receiver, &Push::new(words.into_iter().chain([keys]).collect()), *gate);
        }
    }

    /// Closes a connection that has too much unread.
    pub fn close_for_output(&self, client: &Client, bytes_max: usize) {
        if !client.is_killed() {
            let (id, address) = (client.id, client.address);
            tracing::warn!("closing connection {id} of {address}: more than {bytes_max} bytes are unread");
            self.stats.output_limit_disconnections.fetch_add(1, Ordering::Relaxed);
            client.kill();
        }
    }

    /// Whether nothing came from the client, nor went to it, for longer than `timeout`. A client that
    /// subscribes may be idle, as in Redis.
    pub fn is_idle_too_long(&self, client: &Client) -> bool {
        let timeout = self.limits.idle_timeout_s.load(Ordering::Relaxed).saturating_mul(1000);
        let active_at_ms = client.active_at_ms.load(Ordering::Relaxed);
        !client.is_subscriber()
            && timeout > 0
            && (self.now().as_millis() as u64).saturating_sub(active_at_ms) > timeout
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.is_asked.load(Ordering::Relaxed)
    }

    /// Asks the server to stop; connections send what may leave and close.
    pub fn ask_stop(&self, how: Stop) {
        let Stopping { is_asked, how: noted, asked } = &self.stopping;
        *noted.lock() = how;
        self.scripts.stop();
        is_asked.store(true, Ordering::SeqCst);
        asked.notify_waiters();
        asked.notify_one();
    }

    pub async fn stop_asked(&self) {
        while !self.is_stopping() {
            self.stopping.asked.notified().await;
        }
    }

    /// How it was asked to, the last time.
    pub fn stop(&self) -> Stop {
        *self.stopping.how.lock()
    }
}
