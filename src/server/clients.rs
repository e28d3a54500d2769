//! All connections, for CLIENT LIST and KILL, for INFO, and for shutdown.

use crate::output::{Delivery, Mailbox, OutboxUsage, Posted};
use crate::stats::{Counter, WorkerStats};
use engramdb_engine::command::CommandError;
use engramdb_engine::shard::parked::Ticket;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::oneshot;

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
    /// When more than the soft limit became unread, on the monotonic clock, in milliseconds; 0 while there is
    /// less.
    soft_output_since_ms: AtomicU64,
    killed: AtomicBool,
    /// Its user was deleted: it gets the replies that are on their way, and no more.
    expelled: AtomicBool,
    /// The name of its user.
    user: Mutex<Arc<[u8]>>,
    /// The shell found it idle.
    idle_asked: AtomicBool,
    /// Its last replies are on their way, and nothing is read from it any more.
    is_closing: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Its wait for keys, while there is one.
    parked: Mutex<Weak<Ticket>>,
    /// For pushes, once it asked for any.
    mailbox: OnceLock<Arc<Mailbox>>,
    /// CLIENT TRACKING: the client that gets the invalidations, 0 for itself; -1 if it does not track.
    pub redirect: AtomicI64,
    pub is_broadcast: AtomicBool,
    /// The client that should get the invalidations has ended.
    pub is_redirect_broken: AtomicBool,
    pub is_monitor: AtomicBool,
    /// Bytes that came from it and went to it, and its commands.
    pub net_input: Counter,
    pub net_output: Counter,
    pub commands: Counter,
    /// Ends its wait for replicas, with an error or without, while there is one.
    unblocker: Mutex<Option<oneshot::Sender<Option<CommandError>>>>,
    /// How many channels, patterns and shard channels it subscribes to.
    pub subscriptions: [AtomicUsize; 3],
    /// It subscribes: the output limits of the class pubsub apply.
    is_subscriber: AtomicBool,
    /// The worker that it was given to, once that has begun with it.
    home: OnceLock<Arc<WorkerStats>>,
    /// It counts in its worker's `leaving`. Changed under the lock of the list.
    is_leaving: AtomicBool,
}

/// What a connection takes in memory, as its worker reports it.
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
            expelled: AtomicBool::new(false),
            user: Mutex::new(Arc::from(&b"default"[..])),
            idle_asked: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            home: OnceLock::new(),
            is_leaving: AtomicBool::new(false),
            waker: Mutex::new(None),
            parked: Mutex::default(),
            mailbox: OnceLock::new(),
            redirect: AtomicI64::new(-1),
            is_broadcast: AtomicBool::new(false),
            is_redirect_broken: AtomicBool::new(false),
            is_monitor: AtomicBool::new(false),
            net_input: Counter::default(),
            net_output: Counter::default(),
            commands: Counter::default(),
            unblocker: Mutex::default(),
            subscriptions: Default::default(),
            is_subscriber: AtomicBool::new(false),
        }
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
    pub fn note_soft_output(&self, now: Duration, is_beyond: bool) {
        let since_ms = self.soft_output_since_ms.load(Ordering::Relaxed);
        if is_beyond && since_ms == 0 {
            self.soft_output_since_ms.store((now.as_millis() as u64).max(1), Ordering::Relaxed);
        } else if !is_beyond && since_ms != 0 {
            self.soft_output_since_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Whether more was unread for longer than that.
    pub fn is_beyond_soft_output(&self, now: Duration, patience: Duration) -> bool {
        let since_ms = self.soft_output_since_ms.load(Ordering::Relaxed);
        since_ms != 0 && now.saturating_sub(Duration::from_millis(since_ms)) > patience
    }

    /// Whether it is closing, and has taken nothing of its last replies for too long.
    pub fn is_stuck(&self, now: Duration) -> bool {
        let active_at = Duration::from_millis(self.active_at_ms.load(Ordering::Relaxed));
        self.is_closing.load(Ordering::Relaxed) && now.saturating_sub(active_at) > CLOSING_PATIENCE
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

    /// Asks the connection to close when its last reply has left.
    pub fn expel(&self) {
        self.expelled.store(true, Ordering::SeqCst);
        self.wake();
    }

    #[inline]
    pub fn is_expelled(&self) -> bool {
        self.expelled.load(Ordering::Relaxed)
    }

    /// The name of the user that it is.
    pub fn user(&self) -> Arc<[u8]> {
        self.user.lock().clone()
    }

    pub fn set_user(&self, name: &[u8]) {
        *self.user.lock() = name.into();
    }

    /// Makes the connection look around.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// The client's mailbox, opened: pushes reach the client from now on. Called by its own worker.
    pub fn open_mailbox(&self) -> Arc<Mailbox> {
        let mailbox = self.mailbox.get_or_init(Arc::default);
        mailbox.reopen();
        mailbox.clone()
    }

    /// Hands a push to the mailbox, and wakes the client's worker if need be. No more than `bytes_max` may
    /// wait.
    pub fn post(&self, posted: Posted, bytes_max: usize) -> Delivery {
        let Some(mailbox) = self.mailbox.get() else { return Delivery::Refused };
        let delivery = mailbox.post(posted, bytes_max);
        if delivery == Delivery::First {
            self.wake();
        }
        delivery
    }

    /// No push reaches the client any more: its connection has ended, or begins anew (RESET).
    pub fn close_mailbox(&self) {
        if let Some(mailbox) = self.mailbox.get() {
            mailbox.close();
        }
    }

    /// Memory of the pushes that wait in the mailbox.
    #[cfg(test)]
    pub fn mailbox_bytes(&self) -> usize {
        self.mailbox.get().map_or(0, |mailbox| mailbox.heap_bytes())
    }

    /// Notes how the client tracks: where its invalidations go, and whether it is informed of all keys.
    pub fn note_tracking(&self, tracking: Option<(u64, bool)>) {
        self.redirect.store(tracking.map_or(-1, |(redirect, _)| redirect as i64), Ordering::Relaxed);
        self.is_broadcast.store(tracking.is_some_and(|(_, is_broadcast)| is_broadcast), Ordering::Relaxed);
        self.is_redirect_broken.store(false, Ordering::Relaxed);
    }

    /// Whether the output limits of the class pubsub apply.
    #[inline]
    pub fn is_subscriber(&self) -> bool {
        self.is_subscriber.load(Ordering::Relaxed)
    }

    /// Notes that the client waits for keys, until the ticket is dropped.
    pub fn set_parked(&self, ticket: &Arc<Ticket>) {
        *self.parked.lock() = Arc::downgrade(ticket);
    }

    /// The words of the command with which the client waits for keys.
    pub fn parked_words(&self) -> Option<Arc<[Vec<u8>]>> {
        self.parked.lock().upgrade()?.words()
    }

    /// Whether the client waits for keys.
    pub fn is_parked(&self) -> bool {
        self.parked.lock().strong_count() > 0
            || self.unblocker.lock().as_ref().is_some_and(|wait| !wait.is_closed())
    }

    /// Lets CLIENT UNBLOCK end a wait that is none for keys.
    pub fn wait_to_be_unblocked(&self) -> oneshot::Receiver<Option<CommandError>> {
        let (sender, unblocked) = oneshot::channel();
        *self.unblocker.lock() = Some(sender);
        unblocked
    }

    /// Ends the client's wait for keys: as its timeout would, or with this error. False if it does not wait.
    pub fn unblock(&self, error: Option<CommandError>) -> bool {
        let ticket = self.parked.lock().upgrade();
        match (ticket, error) {
            (Some(ticket), Some(error)) => ticket.fail(error),
            (Some(ticket), None) => ticket.time_out(),
            // Fails where the wait is over.
            (None, error) => self.unblocker.lock().take().is_some_and(|wait| wait.send(error).is_ok()),
        }
    }

    #[inline]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }
}

/// How long a closing connection waits for its client to take the next of its last replies.
const CLOSING_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    count: AtomicUsize,
    next_id: AtomicU64,
    /// Connections that are closing and have something to send.
    closing: AtomicUsize,
    subscribers: AtomicUsize,
    /// No connection can be evicted: there were none, and none has come since.
    is_eviction_futile: AtomicBool,
    /// Connections that evictions have looked at.
    #[cfg(test)]
    looked_at: AtomicUsize,
}

impl Clients {
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn add(&self, client: Arc<Client>) {
        self.by_id.lock().insert(client.id, client);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes whose connection it is. Once.
    pub fn settle(&self, client: &Client, worker: &Arc<WorkerStats>) {
        _ = client.home.set(worker.clone());
        self.is_eviction_futile.store(false, Ordering::SeqCst);
    }

    /// Sets whether it is never evicted.
    pub fn protect(&self, client: &Client, is_protected: bool) {
        client.no_evict.store(is_protected, Ordering::SeqCst);
        if !is_protected {
            self.is_eviction_futile.store(false, Ordering::SeqCst);
        }
    }

    /// Sets whether the client subscribes to anything. Called by its own worker.
    pub fn set_subscriber(&self, client: &Client, is_subscriber: bool) {
        match (client.is_subscriber.swap(is_subscriber, Ordering::Relaxed), is_subscriber) {
            (false, true) => _ = self.subscribers.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.subscribers.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    pub fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    pub fn are_some_subscribers(&self) -> bool {
        self.subscribers.load(Ordering::Relaxed) > 0
    }

    /// Notes that only its last replies are to be sent.
    pub fn note_closing(&self, client: &Client, now: Duration) {
        if !client.is_closing.swap(true, Ordering::Relaxed) {
            client.touch(now);
            self.closing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether there are connections that are closing and have something to send.
    pub fn are_some_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed) > 0
    }

    pub fn remove(&self, id: u64) {
        let mut by_id = self.by_id.lock();
        if let Some(client) = by_id.remove(&id) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.set_subscriber(&client, false);
            if client.is_closing.load(Ordering::Relaxed) {
                self.closing.fetch_sub(1, Ordering::Relaxed);
            }
            if client.is_leaving.load(Ordering::Relaxed)
                && let Some(home) = client.home.get()
            {
                home.leaving.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// The connections of a user.
    pub fn of_user(&self, name: &[u8]) -> Vec<Arc<Client>> {
        self.by_id.lock().values().filter(|client| *client.user() == *name).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.lock().get(&id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }

    /// Closes the connections that take most memory, until the others take no more than `bytes_max`. Returns
    /// how many it closed. Connections that are closing already are not counted. Where none can be closed,
    /// further calls return at once until a connection comes that can be.
    pub fn evict(&self, bytes_max: usize) -> usize {
        if self.is_eviction_futile.load(Ordering::Relaxed) {
            return 0;
        }
        let by_id = self.by_id.lock();
        let clients = by_id.values().filter(|client| !client.is_killed());
        let bytes_of = |client: &Client| client.usage.total_bytes.load(Ordering::Relaxed);
        let mut clients: Vec<(usize, &Arc<Client>)> =
            clients.map(|client| (bytes_of(client), client)).collect();
        #[cfg(test)]
        self.looked_at.fetch_add(clients.len(), Ordering::Relaxed);
        let mut total: usize = clients.iter().map(|(bytes, _)| bytes).sum();
        if total <= bytes_max {
            return 0;
        }
        // Set before the check: a client that becomes evictable meanwhile clears it again.
        self.is_eviction_futile.store(true, Ordering::SeqCst);
        clients.retain(|(_, client)| !client.no_evict.load(Ordering::SeqCst) && client.home.get().is_some());
        if !clients.is_empty() {
            self.is_eviction_futile.store(false, Ordering::SeqCst);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn client(clients: &Clients, bytes: usize) -> Arc<Client> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let client = Arc::new(Client::new(clients.next_id(), address, address, Duration::ZERO));
        client.usage.total_bytes.store(bytes, Ordering::Relaxed);
        clients.add(client.clone());
        client
    }

    #[test]
    fn where_all_are_protected_they_are_looked_at_once() {
        let (clients, worker) = (Clients::default(), Arc::new(WorkerStats::new(0)));
        let protected: Vec<Arc<Client>> = (0..100).map(|_| client(&clients, 1000)).collect();
        for client in &protected {
            clients.settle(client, &worker);
            clients.protect(client, true);
        }
        (0..1000).for_each(|_| assert_eq!(clients.evict(5000), 0));
        assert_eq!(clients.looked_at.load(Ordering::Relaxed), 100);
        let new = client(&clients, 10);
        assert_eq!(clients.evict(5000), 0, "its worker has not begun with it");
        clients.settle(&new, &worker);
        assert_eq!((clients.evict(5000), new.is_killed()), (1, true));
        assert_eq!((clients.evict(5000), clients.evict(5000)), (0, 0));
        clients.protect(&protected[7], false);
        assert_eq!((clients.evict(5000), protected[7].is_killed()), (1, true));
        (0..1000).for_each(|_| assert_eq!(clients.evict(5000), 0));
        let looked_at = clients.looked_at.load(Ordering::Relaxed);
        assert!(looked_at < 1000, "{looked_at}");
    }
}
