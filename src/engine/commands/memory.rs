//! MEMORY, but for USAGE: what the whole store takes.

use crate::command::{Args, Command, Outcome, ReadHandler, Reply, flag, read};
use crate::store::view::View;

pub(super) const HELP: u32 = flag::LOADING | flag::STALE | flag::UNGATED;
const ALL_SHARDS: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

const fn row(name: &'static str, handler: ReadHandler) -> Command {
    read(name, "", handler).group("server").flags(flag::UNGATED).tips(ALL_SHARDS)
}

pub(super) const DOCTOR: Command =
    row("DOCTOR", doctor).docs("4.0.0", "O(1)", "Outputs a memory problems report.");
pub(super) const MALLOC_STATS: Command = row("MALLOC-STATS", allocator).docs(
    "4.0.0",
    "Depends on how much memory is allocated, could be slow",
    "Returns the allocator statistics.",
);
pub(super) const PURGE: Command = row("PURGE", purge)
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .docs("4.0.0", "O(1)", "Asks the allocator to release memory.");
pub(super) const STATS: Command =
    row("STATS", stats).docs("4.0.0", "O(1)", "Returns details about memory usage.");

/// Below this, as in Redis, there is nothing to say.
const SMALL_BYTES: usize = 5 << 20;

fn doctor(view: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let text = if view.memory().total() < SMALL_BYTES {
        "Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in these \
         conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and I will be \
         back to our programming as soon as I finished rebooting.\n"
    } else {
        "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n"
    };
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn allocator(_: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.bulk(b"Stats not supported for the current allocator");
    Ok(())
}

/// The allocator returns free memory by itself.
fn purge(_: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.ok();
    Ok(())
}

fn stats(view: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let memory = view.memory();
    let used = memory.total();
    let databases = view.whole_keyspace().databases();
    let keys: usize = databases.iter().map(|database| database.len()).sum();
    let of_clients = view.client_bytes();
    let integers = [
        ("peak.allocated", view.peak_bytes().max(used as u64)),
        ("total.allocated", used as u64),
        ("startup.allocated", memory.startup as u64),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", of_clients),
        ("cluster.links", 0),
        ("aof.buffer", memory.log as u64),
        ("overhead.total", memory.overhead() as u64),
        ("keys.count", keys as u64),
        ("keys.bytes-per-key", (used.saturating_sub(memory.startup) / keys.max(1)) as u64),
        ("dataset.bytes", memory.dataset() as u64),
    ];
    let percent = |part: f64, whole: f64| if whole > 0.0 { part * 100.0 / whole } else { 0.0 };
    let doubles = [
        ("dataset.percentage", memory.dataset_percent()),
        ("peak.percentage", percent(used as f64, view.peak_bytes().max(used as u64) as f64)),
    ];
    reply.map(integers.len() + doubles.len());
    for (name, value) in integers {
        reply.bulk(name.as_bytes());
        reply.integer(value as i64);
    }
    for (name, value) in doubles {
        reply.bulk(name.as_bytes());
        reply.double(value);
    }
    Ok(())
}
