//! Notices of the engine become messages of channels: the engine's [`Audience`].

use crate::context::ServerContext;
use crate::pubsub::{Message, Space};
use crate::tracking::ChangedKey;
use engramdb_engine::log::Lsn;
use engramdb_engine::store::notices::{Audience, Notice, Noticed, class};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Weak, because the engine keeps it and the server keeps the engine.
pub struct Announcer(Weak<ServerContext>);

impl Announcer {
    /// Makes the server the audience of its engine.
    pub fn attach(shared: &Arc<ServerContext>) {
        shared.engine.notices().attach(Arc::new(Announcer(Arc::downgrade(shared))));
    }
}

impl Audience for Announcer {
    fn announce(&self, notices: Vec<Noticed>) {
        let Some(shared) = self.0.upgrade() else { return };
        let mut changes = Vec::new();
        for Noticed { notice, gate } in notices {
            match notice {
                Notice::Changed { by, key } => changes.push(ChangedKey { by, key, gate }),
                Notice::AllChanged { .. } => {
                    invalidate_changed(&shared, &mut changes);
                    shared.tracking.all_changed(gate).iter().for_each(|all| shared.invalidate(all));
                }
                Notice::Event { database, name, class, key } => {
                    publish_event(&shared, (database, name, class), &key, gate);
                }
                Notice::Message(message) => {
                    let message = message.downcast::<Message>().expect("the shell's messages are these");
                    shared.post_message(&message, gate);
                }
            }
        }
        invalidate_changed(&shared, &mut changes);
    }
}

fn invalidate_changed(shared: &ServerContext, changes: &mut Vec<ChangedKey>) {
    if !changes.is_empty() {
        shared.tracking.changed(changes).iter().for_each(|informed| shared.invalidate(informed));
        changes.clear();
    }
}

/// Publishes an event by its key and by its name, as far as the configuration says.
fn publish_event(shared: &ServerContext, (database, name, of): (u32, &str, u32), key: &[u8], gate: Lsn) {
    let classes = shared.limits.notified_events.load(Ordering::Relaxed);
    if classes & of == 0 || !shared.clients.are_some_subscribers() {
        return;
    }
    let publish = |channel: Vec<u8>, content: &[u8]| {
        let message = Message { space: Space::Channels, channel: channel.into(), content: content.into() };
        shared.post_message(&message, gate);
    };
    if classes & class::KEYSPACE != 0 {
        let channel = [format!("__keyspace@{database}__:").as_bytes(), key].concat();
        publish(channel, name.as_bytes());
    }
    if classes & class::KEYEVENT != 0 {
        publish(format!("__keyevent@{database}__:{name}").into_bytes(), key);
    }
}
