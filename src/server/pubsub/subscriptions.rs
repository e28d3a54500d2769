//! What one client subscribes to.

use super::PubSub;
use crate::clients::Client;
use engramdb_engine::hashing::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a name is: a channel, a pattern of channels, or a shard channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Channels,
    Patterns,
    Shards,
}

pub const SPACES: [Space; 3] = [Space::Channels, Space::Patterns, Space::Shards];

/// The names that a client subscribes to, by their space.
#[derive(Default)]
pub struct Subscriptions {
    names: [HashSet<Arc<[u8]>>; 3],
    bytes: usize,
}

/// What a subscription takes beside two copies of its name: in the client's set, and in the registry.
const NAME_BYTES: usize = 160;

impl Subscriptions {
    /// Subscribes the client to a name. Nothing happens if it subscribes already.
    pub fn add(&mut self, pubsub: &PubSub, space: Space, client: &Arc<Client>, name: &[u8]) {
        let names = &mut self.names[space as usize];
        if names.contains(name) {
            return;
        }
        let name: Arc<[u8]> = name.into();
        pubsub.enter(space, client, &name);
        self.bytes += 2 * name.len() + NAME_BYTES;
        names.insert(name);
        self.note(client);
    }

    /// Ends a subscription, if there is one.
    pub fn remove(&mut self, pubsub: &PubSub, space: Space, client: &Client, name: &[u8]) {
        if self.names[space as usize].remove(name) {
            self.bytes -= 2 * name.len() + NAME_BYTES;
            pubsub.leave(space, client, name);
            self.note(client);
        }
    }

    /// Ends all subscriptions: the connection has ended, or begins anew.
    pub fn clear(&mut self, pubsub: &PubSub, client: &Client) {
        for space in SPACES {
            let names = std::mem::take(&mut self.names[space as usize]);
            names.iter().for_each(|name| pubsub.leave(space, client, name));
        }
        self.bytes = 0;
        self.note(client);
    }

    pub fn names(&self, space: Space) -> Vec<Arc<[u8]>> {
        self.names[space as usize].iter().cloned().collect()
    }

    /// What replies to a change in this space count: shard channels apart, channels and patterns together.
    pub fn count(&self, space: Space) -> usize {
        match space {
            Space::Shards => self.of(Space::Shards),
            _ => self.of(Space::Channels) + self.of(Space::Patterns),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.names.iter().all(HashSet::is_empty)
    }

    /// Memory of the subscriptions.
    pub fn heap_bytes(&self) -> usize {
        self.bytes
    }

    fn of(&self, space: Space) -> usize {
        self.names[space as usize].len()
    }

    fn note(&self, client: &Client) {
        for space in SPACES {
            client.subscriptions[space as usize].store(self.of(space), Ordering::Relaxed);
        }
    }
}
