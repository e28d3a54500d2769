//! All connections, for CLIENT LIST and KILL, for INFO, and for shutdown.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
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
    pub input_bytes: AtomicUsize,
    pub output_bytes: AtomicUsize,
    killed: AtomicBool,
    waker: Mutex<Option<Waker>>,
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
            input_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            killed: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// The connection's task, to be woken by a kill.
    pub fn register(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
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
        if self.by_id.lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }
}
