//! Parked clients: clients that wait for keys, as BLPOP does if there is nothing to pop.
//!
//! A blocking handler that finds nothing returns [`Park`], before any effect or reply. The shell parks the
//! client here under the same hold of the lock ([`crate::shard::run::WriteRun::park`], or
//! [`crate::shard::run::ReadRun::park`] if the command only reads) and keeps the [`Ticket`]. A batch that
//! changes an awaited key serves the key's clients before it is closed: their commands run again from their
//! words, in the order in which they were parked, until their condition no longer holds.
//!
//! ```text
//!   client 7: BLPOP k 0      parked, ticket 1
//!   client 8: BLPOP k 0      parked, ticket 2
//!   client 9: RPUSH k a b    one batch: ListPush k a b, ListPop k (a), ListPop k (b)
//!                            replies: 7 gets a, 8 gets b, 9 gets 2; all three wait for this batch
//! ```
//!
//! # Invariants
//!
//! - A ticket ends once: it is served, times out, is ended by an error, or is dropped. The first of these
//!   under the mutex wins; later ones find no entry.
//! - The changes of a served command are part of the batch that fed it, so a replay, which has no clients,
//!   ends with the same keys.
//! - A client is added under the keyspace's lock, so no change happens between the read of its keys and its
//!   addition. It is removed under the mutex only, so a timeout never waits for the keyspace.
//! - A command that only reads takes nothing: it needs no room in the log, and the clients after it in the
//!   queue are served too. A follower serves it after it has applied a batch that changes its key.
//! - Nothing is applied for a client without room in the log. If there is no room, its key stays in the
//!   store's list of fed keys, and the next batch tries again ([`crate::Engine::serve_parked`]). Clients
//!   after it whose commands write do not overtake it.
//! - The keys of all queues are the store's awaited keys ([`AwaitedKeys`]).
//!
//! Lock order: the keyspace, then this mutex, then that of the awaited keys. No handler and no [`Waiter`] is
//! called while the mutex is held.

use crate::command::{Args, Awaited, Command, CommandError, Park, Reply};
use crate::gate::{ReplyGate, Submitted};
use crate::hashing::HashMap;
use crate::log::Lsn;
use crate::store::awaited::AwaitedKeys;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The shell's side of a waiting client.
pub trait Waiter: Send + Sync {
    /// Calls `write` once with the client's reply.
    fn write(&mut self, write: &mut dyn FnMut(&mut dyn Reply));

    /// The reply is complete; it may leave when `gate` is durable. Called without any lock of the engine.
    fn answered(self: Box<Self>, gate: Lsn);
}

/// The ticket of a parked client. Dropping it ends the wait without a reply.
pub struct Ticket {
    parked: Arc<ParkedClients>,
    number: u64,
}

/// The reason why a client's wait ends without being served.
#[derive(Clone, Debug)]
enum End {
    TimedOut,
    Failed(CommandError),
    Dropped,
}

impl Ticket {
    /// Answers as after a timeout. False if the wait has ended before, or is being served at this moment.
    pub fn time_out(&self) -> bool {
        self.parked.end(self.number, End::TimedOut)
    }

    /// The words of the command that waits; `None` if the wait has ended.
    pub fn words(&self) -> Option<Arc<[Vec<u8>]>> {
        let state = self.parked.state.lock();
        state.clients.get(&self.number).map(|client| client.words.clone())
    }

    /// Answers with this error; see [`Ticket::time_out`].
    pub fn fail(&self, error: CommandError) -> bool {
        self.parked.end(self.number, End::Failed(error))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.parked.end(self.number, End::Dropped);
    }
}

/// One parked client.
struct ParkedClient {
    database: u32,
    command: &'static Command,
    words: Arc<[Vec<u8>]>,
    keys: Vec<Vec<u8>>,
    condition: &'static Awaited,
    timed_out: fn(&mut dyn Reply),
    gate: Lsn,
    /// `None` while its command runs again.
    waiter: Option<Box<dyn Waiter>>,
    /// The end of the wait, if it came while the command runs again. It takes effect if the command does not
    /// succeed.
    end: Option<End>,
}

/// The clients that wait for one condition at one key, by ticket: first come, first served.
struct Queue {
    condition: &'static Awaited,
    tickets: BTreeSet<u64>,
    /// Those of the tickets whose commands only read.
    readers: BTreeSet<u64>,
}

struct ParkedState {
    /// The keys of the queues, for the store.
    awaited: Arc<AwaitedKeys>,
    last_ticket: u64,
    clients: BTreeMap<u64, ParkedClient>,
    /// The number of clients whose commands only read.
    readers: usize,
    /// Queues by database and key; never empty.
    queues: HashMap<u32, HashMap<Vec<u8>, Vec<Queue>>>,
}

/// All parked clients of a store.
pub(crate) struct ParkedClients {
    count: AtomicUsize,
    /// The clients of a fed key were not served because the log had no room.
    is_unserved: AtomicBool,
    state: Mutex<ParkedState>,
}

/// A client whose command must run again.
pub(crate) struct Attempt {
    pub(crate) ticket: u64,
    pub(crate) database: u32,
    pub(crate) command: &'static Command,
    pub(crate) words: Arc<[Vec<u8>]>,
    waiter: Box<dyn Waiter>,
}

impl Attempt {
    pub(crate) fn write(&mut self, write: &mut dyn FnMut(&mut dyn Reply)) {
        self.waiter.write(write);
    }
}

/// A served client's reply, to be delivered once the lock is released.
pub(crate) struct Answer {
    waiter: Box<dyn Waiter>,
    gate: ReplyGate,
}

impl Answer {
    /// Called when the batch that the reply shows has its LSN.
    pub(crate) fn resolve(&mut self, submitted: Submitted) {
        if self.gate.is_open() {
            self.gate = submitted.resolve(self.gate).into();
        }
    }

    pub(crate) fn deliver(self) {
        self.waiter.answered(self.gate.lsn());
    }
}

impl ParkedClients {
    /// An empty registry. The store adds changed keys among `awaited` to its list of fed keys.
    pub(crate) fn new(awaited: Arc<AwaitedKeys>) -> ParkedClients {
        let state = ParkedState {
            awaited,
            last_ticket: 0,
            clients: BTreeMap::new(),
            readers: 0,
            queues: HashMap::default(),
        };
        ParkedClients {
            count: AtomicUsize::new(0),
            is_unserved: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// The number of waiting clients.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The number of keys that clients wait for, and of those whose clients' commands end when the key goes.
    pub(crate) fn keys(&self) -> [usize; 2] {
        let state = self.state.lock();
        let keys = || state.queues.values().flat_map(HashMap::values);
        let ends_without_key = |queue: &Queue| queue.condition.ends_without_key;
        [keys().count(), keys().filter(|queues| queues.iter().any(ends_without_key)).count()]
    }

    pub(crate) fn is_unserved(&self) -> bool {
        self.is_unserved.load(Ordering::Relaxed)
    }

    pub(crate) fn note_unserved(&self, is_unserved: bool) {
        self.is_unserved.store(is_unserved, Ordering::Relaxed);
    }

    /// Adds a client. Called under the keyspace's lock: the read lock is enough if the command only reads.
    pub(crate) fn park(
        self: &Arc<ParkedClients>,
        (database, command): (u32, &'static Command),
        args: Args<'_>,
        park: Park,
        waiter: Box<dyn Waiter>,
    ) -> Ticket {
        assert!(!park.keys.is_empty(), "{} waits for no key", command.name);
        let mut state = self.state.lock();
        state.last_ticket += 1;
        let number = state.last_ticket;
        let client = ParkedClient {
            database,
            command,
            words: match park.words {
                Some(words) => words.into(),
                None => args.iter().map(|word| word.to_vec()).collect(),
            },
            keys: park.keys,
            condition: park.condition,
            timed_out: park.timed_out,
            gate: park.gate,
            waiter: Some(waiter),
            end: None,
        };
        state.enter(number, &client);
        state.clients.insert(number, client);
        self.count.store(state.clients.len(), Ordering::Relaxed);
        Ticket { parked: self.clone(), number }
    }

    /// The conditions for which clients wait at this key.
    pub(crate) fn conditions(&self, database: u32, key: &[u8]) -> Vec<&'static Awaited> {
        let state = self.state.lock();
        let queues = state.queues.get(&database).and_then(|keys| keys.get(key));
        queues.map_or(Vec::new(), |queues| queues.iter().map(|queue| queue.condition).collect())
    }

    /// The first client after `ticket` that waits for this condition at the key; of those whose commands only
    /// read, if only these are asked for. It stays in its queues; [`ParkedClients::served`] or
    /// [`ParkedClients::still_waits`] must follow.
    pub(crate) fn next(
        &self,
        key: (u32, &[u8]),
        condition: &Awaited,
        ticket: u64,
        only_readers: bool,
    ) -> Option<Attempt> {
        let mut state = self.state.lock();
        let queue = state.queue(key, condition)?;
        let tickets = if only_readers { &queue.readers } else { &queue.tickets };
        let ticket = *tickets.range(ticket + 1..).next()?;
        let client = state.clients.get_mut(&ticket).expect("a queued ticket has a client");
        let waiter = client.waiter.take().expect("one attempt at a time, under the write lock");
        let (database, command, words) = (client.database, client.command, client.words.clone());
        Some(Attempt { ticket, database, command, words, waiter })
    }

    /// True if clients wait whose commands only read.
    pub(crate) fn has_readers(&self) -> bool {
        self.state.lock().readers > 0
    }

    /// True if a client whose command writes waits for this condition at the key.
    pub(crate) fn has_writers(&self, key: (u32, &[u8]), condition: &Awaited) -> bool {
        let state = self.state.lock();
        state.queue(key, condition).is_some_and(|queue| queue.tickets.len() > queue.readers.len())
    }

    /// Removes a client that has its reply.
    pub(crate) fn served(&self, attempt: Attempt, gate: ReplyGate) -> Answer {
        let mut state = self.state.lock();
        let client = state.remove(attempt.ticket).expect("an attempt's entry stays");
        self.count.store(state.clients.len(), Ordering::Relaxed);
        drop(state);
        drop(client);
        Answer { waiter: attempt.waiter, gate }
    }

    /// Called if the client's command waits again, or could not run. If its wait was ended meanwhile, this
    /// ends it, and the reply must be delivered like that of a served client.
    #[must_use]
    pub(crate) fn still_waits(&self, attempt: Attempt) -> Option<Answer> {
        let mut state = self.state.lock();
        let client = state.clients.get_mut(&attempt.ticket).expect("an attempt's entry stays");
        client.waiter = Some(attempt.waiter);
        let end = client.end.take()?;
        self.remove(state, attempt.ticket, end)
    }

    /// Ends a wait. False if it has ended before. If the client's command is running, the wait ends if that
    /// fails.
    fn end(&self, ticket: u64, end: End) -> bool {
        let mut state = self.state.lock();
        let Some(client) = state.clients.get_mut(&ticket) else { return false };
        if client.waiter.is_none() {
            client.end = Some(end);
            return false;
        }
        if let Some(answer) = self.remove(state, ticket, end) {
            answer.deliver();
        }
        true
    }

    /// Removes a client whose command is not running, and writes the reply for the reason of its end.
    fn remove(&self, mut state: MutexGuard<'_, ParkedState>, ticket: u64, end: End) -> Option<Answer> {
        let client = state.remove(ticket).expect("the caller has found it");
        self.count.store(state.clients.len(), Ordering::Relaxed);
        drop(state);
        let mut waiter = client.waiter.expect("its command does not run");
        match end {
            End::TimedOut => waiter.write(&mut |reply| (client.timed_out)(reply)),
            End::Failed(error) => waiter.write(&mut |reply| reply.error(&error)),
            End::Dropped => return None,
        }
        Some(Answer { waiter, gate: client.gate.into() })
    }

    /// Ends all waits with this error.
    pub(crate) fn fail_all(&self, error: &CommandError) {
        let tickets: Vec<u64> = self.state.lock().clients.keys().copied().collect();
        for ticket in tickets {
            self.end(ticket, End::Failed(error.clone()));
        }
    }

    /// The numbers of queues and of tickets in them; for tests.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> (usize, usize) {
        let state = self.state.lock();
        let keys: usize = state.queues.values().map(HashMap::len).sum();
        assert_eq!(state.awaited.len(), keys, "the store awaits the keys of the queues");
        let queues = state.queues.values().flat_map(HashMap::values).flatten();
        queues.fold((0, 0), |(queues, tickets), queue| (queues + 1, tickets + queue.tickets.len()))
    }
}

impl ParkedState {
    fn queue(&self, (database, key): (u32, &[u8]), condition: &Awaited) -> Option<&Queue> {
        let queues = self.queues.get(&database)?.get(key)?;
        queues.iter().find(|queue| queue.condition.name == condition.name)
    }

    fn enter(&mut self, number: u64, client: &ParkedClient) {
        self.readers += usize::from(!client.command.is_write());
        let keys = self.queues.entry(client.database).or_default();
        for key in &client.keys {
            let queues = keys.entry(key.clone()).or_insert_with(|| {
                self.awaited.enter(client.database, key);
                Vec::new()
            });
            let place = queues.iter().position(|queue| queue.condition.name == client.condition.name);
            let place = place.unwrap_or_else(|| {
                let condition = client.condition;
                queues.push(Queue { condition, tickets: BTreeSet::new(), readers: BTreeSet::new() });
                queues.len() - 1
            });
            queues[place].tickets.insert(number);
            if !client.command.is_write() {
                queues[place].readers.insert(number);
            }
        }
    }

    /// Removes a client from the registry and from all of its queues.
    fn remove(&mut self, ticket: u64) -> Option<ParkedClient> {
        let client = self.clients.remove(&ticket)?;
        self.readers -= usize::from(!client.command.is_write());
        let keys = self.queues.get_mut(&client.database).expect("the client was queued");
        for key in &client.keys {
            // A key that is named twice has one entry.
            let Some(queues) = keys.get_mut(key) else { continue };
            for queue in &mut *queues {
                queue.tickets.remove(&ticket);
                queue.readers.remove(&ticket);
            }
            queues.retain(|queue| !queue.tickets.is_empty());
            if queues.is_empty() {
                keys.remove(key);
                self.awaited.remove(client.database, key);
            }
        }
        if keys.is_empty() {
            self.queues.remove(&client.database);
        }
        Some(client)
    }
}

#[cfg(test)]
#[path = "parked_tests.rs"]
mod tests;
