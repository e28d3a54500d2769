//! A connection as CLIENT LIST shows it.

use crate::clients::Client;
use crate::context::ServerContext;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

impl ServerContext {
    /// A line of CLIENT LIST, in Redis's fields.
    pub fn describe_client(&self, client: &Client) -> String {
        let shared = self;
        let now = shared.now();
        let idle_ms = (now.as_millis() as u64).saturating_sub(client.active_at_ms.load(Ordering::Relaxed));
        let multi = client.multi.load(Ordering::Relaxed) as i64 - 1;
        let command = match client.last_command.load(Ordering::Relaxed) {
            0 => "NULL",
            id => &shared.names[id - 1],
        };
        let mut flags = String::new();
        for (is_set, letter) in [
            (client.is_monitor.load(Ordering::Relaxed), 'O'),
            (client.is_subscriber(), 'P'),
            (multi >= 0, 'x'),
            (client.is_parked(), 'b'),
            (client.redirect.load(Ordering::Relaxed) >= 0, 't'),
            (client.is_redirect_broken.load(Ordering::Relaxed), 'R'),
            (client.is_broadcast.load(Ordering::Relaxed), 'B'),
            (client.no_evict.load(Ordering::Relaxed), 'e'),
            (client.no_touch.load(Ordering::Relaxed), 'T'),
        ] {
            flags.extend(is_set.then_some(letter));
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let names = client.names.lock();
        let load = |place: &AtomicUsize| place.load(Ordering::Relaxed);
        let usage = &client.usage;
        let query_bytes = load(&usage.query_bytes);
        let query_free = load(&usage.query_capacity).saturating_sub(query_bytes);
        let (tail_bytes, pieces) = (load(&usage.tail_bytes), load(&usage.pieces));
        let events = if tail_bytes + pieces > 0 { "rw" } else { "r" };
        let mut line = String::new();
        write!(
        line,
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} \
         multi={multi} watch={} qbuf={query_bytes} qbuf-free={query_free} argv-mem={} multi-mem={} rbs={} rbp={} \
         obl={tail_bytes} oll={pieces} omem={} tot-mem={} events={events} cmd={command} user={} redir={} resp={} lib-name={} lib-ver={} \
         io-thread=0 tot-net-in={} tot-net-out={} tot-cmds={}",
        client.id,
        client.address,
        client.local_address,
        names.name,
        now.saturating_sub(client.connected_at).as_secs(),
        idle_ms / 1000,
        client.database.load(Ordering::Relaxed),
        load(&client.subscriptions[0]),
        load(&client.subscriptions[1]),
        load(&client.subscriptions[2]),
        u8::from(client.watches.load(Ordering::Relaxed)),
        load(&usage.arguments_bytes),
        load(&usage.transaction_bytes),
        load(&usage.tail_capacity),
        load(&usage.tail_capacity),
        load(&usage.pieces_capacity),
        load(&usage.total_bytes),
        String::from_utf8_lossy(&client.user()),
            client.redirect.load(Ordering::Relaxed),
        if client.is_resp3.load(Ordering::Relaxed) { 3 } else { 2 },
        names.library,
        names.library_version,
        client.net_input.get(),
        client.net_output.get(),
        client.commands.get(),
    )
    .expect("a string takes all");
        line.push('\n');
        line
    }
}
