//! All connections, for CLIENT LIST and KILL, for INFO, and for shutdown.

use crate::outbox::OutboxUsage;
use crate::shared::Shared;
use crate::stats::WorkerStats;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

/// One connection as the others see it.
pub struct Client {
    pub id: u64,
    pub address: SocketAddr,
    pub local_address: SocketAddr,
    /// On the monotonic clock.
    pub connected_at: Duration,
    pub names: Mutex<Names>,
    /// On the monotonic clock, in milliseconds.
    pub active_at_ms: AtomicU64,
    pub database: AtomicU32,
    pub is_resp3: AtomicBool,
    pub no_evict: AtomicBool,
    pub no_touch: AtomicBool,
    /// The number of queued commands, plus one, in a transaction; 0 outside.
    pub multi: AtomicUsize,
    pub watches: AtomicBool,
    /// `Known::id` of the last command, plus one.
    pub last_command: AtomicUsize,
    pub usage: SharedUsage,
    names_bytes: AtomicUsize,
    /// When more than the soft limit became unread, on the monotonic clock, in milliseconds; 0 while there is less.
    soft_output_since_ms: AtomicU64,
    killed: AtomicBool,
    /// The shell found it idle.
    idle_asked: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// The worker that it was given to, once that has begun with it.
    home: OnceLock<Arc<WorkerStats>>,
    /// It counts in its worker's `leaving`. Changed under the lock of the list.
    is_leaving: AtomicBool,
}

/// What a connection takes in memory, as its worker tells it.
pub struct Usage {
    pub query_bytes: usize,
    pub query_capacity: usize,
    pub arguments_bytes: usize,
    pub transaction_bytes: usize,
    pub output: OutboxUsage,
    pub total_bytes: usize,
}

/// The same, where the others can see it.
#[derive(Default)]
pub struct SharedUsage {
    pub query_bytes: AtomicUsize,
    pub query_capacity: AtomicUsize,
    pub arguments_bytes: AtomicUsize,
    pub transaction_bytes: AtomicUsize,
    pub tail_bytes: AtomicUsize,
    pub tail_capacity: AtomicUsize,
    pub pieces: AtomicUsize,
    pub pieces_capacity: AtomicUsize,
    pub total_bytes: AtomicUsize,
}

#[derive(Default)]
pub struct Names {
    pub name: String,
    pub library: String,
    pub library_version: String,
}

impl Client {
    pub fn new(id: u64, address: SocketAddr, local_address: SocketAddr, connected_at: Duration) -> Client {
        Client {
            id,
            address,
            local_address,
            connected_at,
            names: Mutex::default(),
            active_at_ms: AtomicU64::new(connected_at.as_millis() as u64),
            database: AtomicU32::new(0),
            is_resp3: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            multi: AtomicUsize::new(0),
            watches: AtomicBool::new(false),
            last_command: AtomicUsize::new(0),
            usage: SharedUsage::default(),
            names_bytes: AtomicUsize::new(0),
            soft_output_since_ms: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            idle_asked: AtomicBool::new(false),
            home: OnceLock::new(),
            is_leaving: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Notes whose connection it is. Once.
    pub fn settle(&self, worker: &Arc<WorkerStats>) {
        _ = self.home.set(worker.clone());
    }

    /// The connection's task, to be woken by a kill.
    pub fn register(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// Changes the names that the client gave itself.
    pub fn rename(&self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names.lock();
        change(&mut names);
        let bytes = names.name.len() + names.library.len() + names.library_version.len();
        self.names_bytes.store(bytes, Ordering::Relaxed);
    }

    #[inline]
    pub fn names_bytes(&self) -> usize {
        self.names_bytes.load(Ordering::Relaxed)
    }

    /// Notes that something came from the client, or went to it.
    pub fn touch(&self, now: Duration) {
        self.active_at_ms.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Publishes what the connection takes.
    pub fn note(&self, usage: &Usage) {
        let shared = &self.usage;
        for (place, value) in [
            (&shared.query_bytes, usage.query_bytes),
            (&shared.query_capacity, usage.query_capacity),
            (&shared.arguments_bytes, usage.arguments_bytes),
            (&shared.transaction_bytes, usage.transaction_bytes),
            (&shared.tail_bytes, usage.output.tail_bytes),
            (&shared.tail_capacity, usage.output.tail_capacity),
            (&shared.pieces, usage.output.pieces),
            (&shared.pieces_capacity, usage.output.pieces_capacity),
            (&shared.total_bytes, usage.total_bytes),
        ] {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Notes since when more is unread than the soft limit allows.
    pub fn note_soft_output(&self, shared: &Shared, is_beyond: bool) {
        let since_ms = self.soft_output_since_ms.load(Ordering::Relaxed);
        if is_beyond && since_ms == 0 {
            self.soft_output_since_ms.store((shared.now().as_millis() as u64).max(1), Ordering::Relaxed);
        } else if !is_beyond && since_ms != 0 {
            self.soft_output_since_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Whether more was unread for longer than that.
    pub fn is_beyond_soft_output(&self, now: Duration, patience: Duration) -> bool {
        let since_ms = self.soft_output_since_ms.load(Ordering::Relaxed);
        since_ms != 0 && now.saturating_sub(Duration::from_millis(since_ms)) > patience
    }

    /// Asks the connection to close if it is idle.
    pub fn ask_whether_idle(&self) {
        self.idle_asked.store(true, Ordering::Relaxed);
        self.wake();
    }

    pub fn is_idle_asked(&self) -> bool {
        self.idle_asked.load(Ordering::Relaxed) && self.idle_asked.swap(false, Ordering::Relaxed)
    }

    /// Asks the connection to close. It looks at [`Client::is_killed`] whenever it runs.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Makes the connection look around.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    #[inline]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    count: AtomicUsize,
    next_id: AtomicU64,
}

impl Clients {
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn add(&self, client: Arc<Client>) {
        self.by_id.lock().insert(client.id, client);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn remove(&self, id: u64) {
        let mut by_id = self.by_id.lock();
        if let Some(client) = by_id.remove(&id) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            if client.is_leaving.load(Ordering::Relaxed)
                && let Some(home) = client.home.get()
            {
                home.leaving.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }

    /// Closes the connections that take most, until the others take no more than so many bytes. Returns how many.
    /// Connections that are closing already count as gone.
    pub fn evict(&self, bytes_max: usize) -> usize {
        let by_id = self.by_id.lock();
        let clients = by_id.values().filter(|client| !client.is_killed());
        let bytes_of = |client: &Client| client.usage.total_bytes.load(Ordering::Relaxed);
        let mut clients: Vec<(usize, &Arc<Client>)> =
            clients.map(|client| (bytes_of(client), client)).collect();
        let mut total: usize = clients.iter().map(|(bytes, _)| bytes).sum();
        if total <= bytes_max {
            return 0;
        }
        clients.retain(|(_, client)| !client.no_evict.load(Ordering::Relaxed) && client.home.get().is_some());
        clients.sort_unstable_by_key(|(bytes, client)| (Reverse(*bytes), client.id));
        let mut evicted = 0;
        for (bytes, client) in clients {
            if total <= bytes_max {
                break;
            }
            let (id, address) = (client.id, client.address);
            tracing::warn!(
                "evicting connection {id} of {address}, which takes {bytes} bytes: connections take {total}, and \
                 maxmemory-clients is {bytes_max}"
            );
            client.is_leaving.store(true, Ordering::Relaxed);
            client.home.get().expect("it was looked at").leaving.fetch_add(1, Ordering::Relaxed);
            client.kill();
            total -= bytes;
            evicted += 1;
        }
        evicted
    }
}
