//! Channels: who subscribes to what, and the delivery of messages.
//!
//! One registry serves all threads. A message is delivered under its lock, so that all receivers get
//! messages in one order, and a client that has unsubscribed gets none that was published later.
//!
//! # Invariants
//!
//! - A name is in the registry exactly while a client subscribes to it.
//! - A client's [`Subscriptions`] and the registry agree. Only the client's own worker changes them.
//! - Subscribing, unsubscribing and the end of a client take constant time for each name. A message takes
//!   time for its receivers, and for the patterns that begin as its channel does ([`patterns`]).

mod patterns;
mod subscriptions;

pub use subscriptions::{Space, Subscriptions};

use crate::clients::Client;
use crate::output::{Push, PushElement};
use engramdb_engine::commands::glob_matches;
use engramdb_engine::hashing::HashMap;
use parking_lot::Mutex;
use patterns::Patterns;
use std::sync::Arc;

/// Subscribers of one name, by their ids.
type Receivers = HashMap<u64, Arc<Client>>;

/// Names of one kind.
type Names = HashMap<Arc<[u8]>, Receivers>;

#[derive(Default)]
struct Registry {
    channels: Names,
    shards: Names,
    patterns: Patterns,
}

impl Registry {
    /// The channels of a space that is not that of patterns.
    fn names(&self, space: Space) -> &Names {
        if space == Space::Shards { &self.shards } else { &self.channels }
    }

    fn names_mut(&mut self, space: Space) -> &mut Names {
        if space == Space::Shards { &mut self.shards } else { &mut self.channels }
    }
}

#[derive(Default)]
pub struct PubSub {
    registry: Mutex<Registry>,
}

/// A message for a channel.
pub struct Message {
    pub space: Space,
    pub channel: Box<[u8]>,
    pub content: Box<[u8]>,
}

impl PubSub {
    pub(super) fn enter(&self, space: Space, client: &Arc<Client>, name: &Arc<[u8]>) {
        let mut registry = self.registry.lock();
        let receivers = match space {
            Space::Patterns => registry.patterns.entry(name),
            _ => registry.names_mut(space).entry(name.clone()).or_default(),
        };
        receivers.insert(client.id, client.clone());
    }

    pub(super) fn leave(&self, space: Space, client: &Client, name: &[u8]) {
        let mut registry = self.registry.lock();
        if space == Space::Patterns {
            return registry.patterns.remove(name, client.id);
        }
        let names = registry.names_mut(space);
        if let Some(receivers) = names.get_mut(name) {
            receivers.remove(&client.id);
            if receivers.is_empty() {
                names.remove(name);
            }
        }
    }

    /// The number of clients that would receive a message, as often as they would.
    pub fn receivers(&self, space: Space, channel: &[u8]) -> usize {
        let registry = self.registry.lock();
        let named = registry.names(space).get(channel).map_or(0, HashMap::len);
        let mut matching = 0;
        if space == Space::Channels {
            registry.patterns.each_match(channel, |_, receivers| matching += receivers.len());
        }
        named + matching
    }

    /// Posts a message to all its receivers. Returns how often it was posted.
    pub fn publish(&self, message: &Message, post: impl Fn(&Client, &Arc<Push>)) -> usize {
        let Message { space, channel, content } = message;
        let registry = self.registry.lock();
        let mut posted = 0;
        let mut post_all = |receivers: &Receivers, push: Arc<Push>| {
            receivers.values().for_each(|client| post(client, &push));
            posted += receivers.len();
        };
        if let Some(receivers) = registry.names(*space).get(&**channel) {
            let kind: &[u8] = if *space == Space::Shards { b"smessage" } else { b"message" };
            let words = [kind, channel, content];
            post_all(receivers, Push::new(words.map(PushElement::bulk).into()));
        }
        if *space == Space::Channels {
            registry.patterns.each_match(channel, |pattern, receivers| {
                let words = [b"pmessage", pattern, channel, content];
                post_all(receivers, Push::new(words.map(PushElement::bulk).into()));
            });
        }
        posted
    }

    /// The channels with subscribers whose names match the pattern, if there is one.
    pub fn channels(&self, space: Space, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        let registry = self.registry.lock();
        let names = registry.names(space).keys();
        names.filter(|name| pattern.is_none_or(|pattern| glob_matches(pattern, name))).cloned().collect()
    }

    /// The number of a channel's subscribers, without those of patterns.
    pub fn subscribers(&self, space: Space, channel: &[u8]) -> usize {
        self.registry.lock().names(space).get(channel).map_or(0, HashMap::len)
    }

    /// The numbers of channels, patterns and shard channels.
    pub fn counts(&self) -> [usize; 3] {
        let registry = self.registry.lock();
        [registry.channels.len(), registry.patterns.len(), registry.shards.len()]
    }
}
