//! Channels: SUBSCRIBE and its family, PUBLISH, PUBSUB.

use super::{Call, Run, session};
use crate::pubsub::{Message, Space};
use engramdb_engine::command::{Command, CommandError, Outcome, Reply, acl, container, flag};

const SUBSCRIBES: u32 = flag::PUBSUB | flag::NO_SCRIPT | flag::LOADING | flag::STALE;
const PUBLISHES: u32 = flag::PUBSUB | flag::LOADING | flag::STALE | flag::FAST;

const fn row(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    session(name, usage, run).group("pubsub").flags(SUBSCRIBES).acl(acl::PUBSUB)
}

pub const COMMANDS: &[Command] = &[
    row("PSUBSCRIBE", "pattern+", &Run(|call| subscribe(call, Space::Patterns))).docs(
        "2.0.0",
        "O(N) where N is the number of patterns to subscribe to.",
        "Listens for messages published to channels that match one or more patterns.",
    ),
    row("PUBLISH", "channel message", &Run(|call| publish(call, Space::Channels))).flags(PUBLISHES).docs(
        "2.0.0",
        "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the number of \
         subscribed patterns that begin as the channel does.",
        "Posts a message to a channel.",
    ),
    container("PUBSUB", PUBSUB).group("pubsub").docs(
        "2.8.0",
        "Depends on subcommand.",
        "A container for Pub/Sub commands.",
    ),
    row("PUNSUBSCRIBE", "[pattern+]", &Run(|call| unsubscribe(call, Space::Patterns))).docs(
        "2.0.0",
        "O(N) where N is the number of patterns to unsubscribe.",
        "Stops listening to messages published to channels that match one or more patterns.",
    ),
    row("SPUBLISH", "shardchannel message", &Run(|call| publish(call, Space::Shards)))
        .flags(PUBLISHES)
        .access(&["not_key"])
        .docs(
            "7.0.0",
            "O(N) where N is the number of clients subscribed to the receiving shard channel.",
            "Posts a message to a shard channel.",
        ),
    row("SSUBSCRIBE", "shardchannel+", &Run(shard_subscribe)).access(&["not_key"]).docs(
        "7.0.0",
        "O(N) where N is the number of shard channels to subscribe to.",
        "Listens for messages published to shard channels.",
    ),
    row("SUBSCRIBE", "channel+", &Run(|call| subscribe(call, Space::Channels))).docs(
        "2.0.0",
        "O(N) where N is the number of channels to subscribe to.",
        "Listens for messages published to channels.",
    ),
    row("SUNSUBSCRIBE", "[shardchannel+]", &Run(|call| unsubscribe(call, Space::Shards)))
        .access(&["not_key"])
        .docs(
            "7.0.0",
            "O(N) where N is the number of shard channels to unsubscribe.",
            "Stops listening to messages posted to shard channels.",
        ),
    row("UNSUBSCRIBE", "[channel+]", &Run(|call| unsubscribe(call, Space::Channels))).docs(
        "2.0.0",
        "O(N) where N is the number of channels to unsubscribe.",
        "Stops listening to messages posted to channels.",
    ),
];

const fn look(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    row(name, usage, run).flags(flag::PUBSUB | flag::LOADING | flag::STALE)
}

const PUBSUB: &[Command] = &[
    look("CHANNELS", "[pattern]", &Run(|call| channels(call, Space::Channels))).docs(
        "2.8.0",
        "O(N) where N is the number of active channels, and assuming constant time pattern matching.",
        "Returns the active channels.",
    ),
    session("HELP", "", &Run(super::help)).group("pubsub").flags(flag::LOADING | flag::STALE).docs(
        "6.2.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    look("NUMPAT", "", &Run(pattern_count)).docs(
        "2.8.0",
        "O(1)",
        "Returns a count of unique pattern subscriptions.",
    ),
    look("NUMSUB", "[channel+]", &Run(|call| subscriber_counts(call, Space::Channels))).docs(
        "2.8.0",
        "O(N) where N is the number of requested channels",
        "Returns a count of subscribers to channels.",
    ),
    look("SHARDCHANNELS", "[pattern]", &Run(|call| channels(call, Space::Shards))).docs(
        "7.0.0",
        "O(N) where N is the number of active shard channels, and assuming constant time pattern matching.",
        "Returns the active shard channels.",
    ),
    look("SHARDNUMSUB", "[shard+]", &Run(|call| subscriber_counts(call, Space::Shards))).docs(
        "7.0.0",
        "O(N) where N is the number of requested shard channels",
        "Returns the count of subscribers of shard channels.",
    ),
];

/// The first words of the replies to a subscription, and to its end.
fn kinds(space: Space) -> [&'static [u8]; 2] {
    match space {
        Space::Channels => [b"subscribe", b"unsubscribe"],
        Space::Patterns => [b"psubscribe", b"punsubscribe"],
        Space::Shards => [b"ssubscribe", b"sunsubscribe"],
    }
}

fn subscribe(call: &mut Call<'_, '_, '_>, space: Space) -> Outcome {
    let [kind, _] = kinds(space);
    let client = call.session.client.clone();
    call.session.open_mailbox();
    call.shared.clients.set_subscriber(&client, true);
    insist(call);
    for name in call.args.from(1) {
        let subscriptions = call.session.subscriptions.get_or_insert_default();
        subscriptions.add(&call.shared.pubsub, space, &client, name);
        let count = subscriptions.count(space);
        confirm(call, kind, Some(name), count);
    }
    Ok(())
}

/// A client that wants no replies gets these, as in Redis. Within EXEC they are parts of its reply.
fn insist(call: &mut Call<'_, '_, '_>) {
    if call.transaction.is_none() {
        call.reply.insist();
    }
}

fn shard_subscribe(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.transaction.is_some() {
        return Err(CommandError::of("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    subscribe(call, Space::Shards)
}

fn unsubscribe(call: &mut Call<'_, '_, '_>, space: Space) -> Outcome {
    let [_, kind] = kinds(space);
    let client = call.session.client.clone();
    insist(call);
    let all;
    let names: Vec<&[u8]> = match call.args.from(1) {
        [] => {
            let subscriptions = call.session.subscriptions.as_ref();
            all = subscriptions.map_or(Vec::new(), |subscriptions| subscriptions.names(space));
            all.iter().map(|name| &**name).collect()
        }
        names => names.to_vec(),
    };
    if let Some(subscriptions) = &mut call.session.subscriptions {
        // The replies say how many are left after each: what is in between is written before.
        let counts: Vec<usize> = names
            .iter()
            .map(|name| {
                subscriptions.remove(&call.shared.pubsub, space, &client, name);
                subscriptions.count(space)
            })
            .collect();
        let is_over = subscriptions.is_empty();
        deliver_before(call);
        names.iter().zip(counts).for_each(|(name, count)| confirm(call, kind, Some(name), count));
        if is_over {
            call.session.subscriptions = None;
            call.shared.clients.set_subscriber(&client, false);
        }
    } else {
        names.iter().for_each(|name| confirm(call, kind, Some(name), 0));
    }
    if names.is_empty() {
        let count = call.session.subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.count(space));
        confirm(call, kind, None, count);
    }
    Ok(())
}

/// Writes the messages that were published before the subscription ended: none of them may follow the reply
/// that says so. Within EXEC they follow its reply, whose array they would break.
fn deliver_before(call: &mut Call<'_, '_, '_>) {
    if call.transaction.is_some() {
        return;
    }
    let Some(mailbox) = call.session.mailbox.clone() else { return };
    for posted in mailbox.take() {
        call.gate = call.gate.max(posted.gate);
        posted.push.write(call.reply);
    }
}

fn confirm(call: &mut Call<'_, '_, '_>, kind: &[u8], name: Option<&[u8]>, count: usize) {
    call.reply.push(3);
    call.reply.bulk(kind);
    call.reply.optional_bulk(name);
    call.reply.integer(count as i64);
}

/// The message leaves when all is durable that the publisher has written before on its connection.
fn publish(call: &mut Call<'_, '_, '_>, space: Space) -> Outcome {
    let message = Message { space, channel: call.args[1].into(), content: call.args[2].into() };
    let gate = call.reply.gate_before();
    let receivers = match &mut call.transaction {
        Some(transaction) => {
            let receivers = call.shared.pubsub.receivers(space, &message.channel);
            transaction.announce(Box::new(message), gate);
            receivers
        }
        None => call.shared.publish(message, gate),
    };
    call.reply.integer(receivers as i64);
    Ok(())
}

fn channels(call: &mut Call<'_, '_, '_>, space: Space) -> Outcome {
    if call.args.len() > 3 {
        return Err(CommandError::wrong_subcommand(call.args.word(0), call.args.word(1)));
    }
    let names = call.shared.pubsub.channels(space, call.args.get(2).copied());
    call.reply.array(names.len());
    names.iter().for_each(|name| call.reply.bulk(name));
    Ok(())
}

fn pattern_count(call: &mut Call<'_, '_, '_>) -> Outcome {
    let [_, patterns, _] = call.shared.pubsub.counts();
    call.reply.integer(patterns as i64);
    Ok(())
}

fn subscriber_counts(call: &mut Call<'_, '_, '_>, space: Space) -> Outcome {
    let channels = call.args.from(2);
    call.reply.array(2 * channels.len());
    for channel in channels {
        call.reply.bulk(channel);
        call.reply.integer(call.shared.pubsub.subscribers(space, channel) as i64);
    }
    Ok(())
}
