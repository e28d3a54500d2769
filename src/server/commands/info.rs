//! INFO: Redis's sections and fields, as far as they mean something here. Not gated: it may count writes that
//! are not durable yet.

use super::config::absolute;
use super::{Call, Run, session, text};
use crate::VERSION;
use crate::clients::SharedUsage;
use crate::context::ServerContext;
use crate::process;
use crate::stats::{Counter, WorkerStats};
use engramdb_engine::REDIS_VERSION;
use engramdb_engine::command::{Command, Outcome, Reply, acl, flag};
use engramdb_engine::log::pipeline::Pipeline;
use engramdb_engine::shard::role::Role;
use engramdb_engine::store::memory::MemoryUse;
use engramdb_engine::store::view::View;
use std::collections::BTreeSet;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[Command] = &[session("INFO", "[section+]", &Run(info))
    .group("server")
    .flags(flag::LOADING | flag::STALE | flag::UNGATED)
    .acl(acl::DANGEROUS)
    .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
    .docs("1.0.0", "O(1)", "Returns information and statistics about the server.")];

type SectionWriter = fn(&mut Report<'_>);

/// Name in requests, title, whether INFO without arguments shows it.
const SECTIONS: &[(&str, &str, bool, SectionWriter)] = &[
    ("server", "Server", true, server),
    ("clients", "Clients", true, clients),
    ("memory", "Memory", true, memory),
    ("persistence", "Persistence", true, persistence),
    ("stats", "Stats", true, stats),
    ("replication", "Replication", true, replication),
    ("cpu", "CPU", true, cpu),
    ("modules", "Modules", true, modules),
    ("commandstats", "Commandstats", false, command_stats),
    ("errorstats", "Errorstats", true, error_stats),
    ("latencystats", "Latencystats", false, latency_stats),
    ("cluster", "Cluster", true, cluster),
    ("keyspace", "Keyspace", true, keyspace),
];

/// What was seen under the lock, and the text that grows.
struct Report<'r> {
    shared: &'r ServerContext,
    seen: &'r Seen,
    text: String,
}

/// A copy of what the keyspace and the modules had to say.
struct Seen {
    databases: Vec<(usize, usize)>,
    memory: MemoryUse,
    changes: u64,
    modules: Vec<(&'static str, u32)>,
    module_sections: Vec<(&'static str, Vec<(String, String)>)>,
    module_fields: Vec<(&'static str, &'static str, u64)>,
}

impl Seen {
    fn look(view: &View<'_>) -> Seen {
        let keyspace = view.whole_keyspace();
        let databases = keyspace.databases().iter();
        let modules = view.modules();
        Seen {
            databases: databases.map(|database| (database.len(), database.expiring())).collect(),
            memory: view.memory(),
            changes: view.changes(),
            modules: super::modules(view).iter().map(|module| (module.name, module.version)).collect(),
            module_fields: modules.iter().flat_map(|module| module.info_fields()).collect(),
            module_sections: modules.iter().flat_map(|module| module.info()).collect(),
        }
    }
}

impl Report<'_> {
    fn title(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push_str("\r\n");
        }
        write!(self.text, "# {title}\r\n").expect("a string takes all");
    }

    fn field(&mut self, name: &str, value: impl Display) {
        write!(self.text, "{name}:{value}\r\n").expect("a string takes all");
    }

    /// What modules have for a section of the server's.
    fn fields_of_modules(&mut self, section: &str) {
        let seen = self.seen;
        let fields = seen.module_fields.iter().filter(|(of, ..)| *of == section);
        fields.for_each(|(_, name, value)| self.field(name, value));
    }

    fn fields(&mut self, fields: &[(&str, &dyn Display)]) {
        fields.iter().for_each(|(name, value)| self.field(name, value));
    }

    /// Bytes as a number, and again for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(&format!("{name}_human"), human(bytes));
    }
}

fn info(call: &mut Call<'_, '_, '_>) -> Outcome {
    let asked: BTreeSet<String> = call.args.from(1).iter().map(|word| text(word).to_lowercase()).collect();
    let has = |name: &str| asked.contains(name);
    let is_default = asked.is_empty() || has("default");
    let is_all = has("all") || has("everything");
    let seen = call.look(Seen::look);
    let mut report = Report { shared: call.shared, seen: &seen, text: String::new() };
    for (name, title, by_default, write) in SECTIONS {
        if is_all || has(name) || (is_default && *by_default) {
            report.title(title);
            write(&mut report);
        }
    }
    for (name, fields) in &seen.module_sections {
        if is_default || is_all || has("modules") || has(&name.to_lowercase()) {
            report.title(name);
            fields.iter().for_each(|(name, value)| report.field(name, value));
        }
    }
    call.reply.verbatim("txt", report.text.as_bytes());
    Ok(())
}

fn server(report: &mut Report<'_>) {
    let shared = report.shared;
    let config = shared.config.read();
    let config_file = config.file.as_ref().map_or(String::new(), |path| absolute(path).display().to_string());
    let uptime_s = shared.now().saturating_sub(shared.started_at).as_secs();
    let port = shared.addresses.first().map_or(config.port, |address| address.port());
    report.fields(&[
        ("redis_version", &REDIS_VERSION),
        ("engramdb_version", &VERSION),
        ("redis_mode", &"standalone"),
        ("os", &std::env::consts::OS),
        ("arch_bits", &usize::BITS),
        ("process_id", &std::process::id()),
        ("run_id", &shared.run_id),
        ("tcp_port", &port),
        ("server_time_usec", &(shared.engine.env().clock.wall_ms() * 1000)),
        ("expiry_clock_ahead_ms", &shared.clock_ahead_ms()),
        ("uptime_in_seconds", &uptime_s),
        ("uptime_in_days", &(uptime_s / 86_400)),
        ("hz", &config.hz),
        ("configured_hz", &config.hz),
        ("io_threads_active", &shared.workers.len()),
        ("executable", &process::executable()),
        ("config_file", &config_file),
    ]);
    for address in &shared.addresses {
        report.field("listener", format_args!("bind={},port={}", address.ip(), address.port()));
    }
}

fn clients(report: &mut Report<'_>) {
    let shared = report.shared;
    let clients = shared.clients.all();
    let watching = clients.iter().filter(|client| client.watches.load(Ordering::Relaxed)).count();
    let most = |bytes: fn(&SharedUsage) -> usize| {
        clients.iter().map(|client| bytes(&client.usage)).max().unwrap_or(0)
    };
    let input = most(|usage| usage.query_capacity.load(Ordering::Relaxed));
    let output = most(|usage| {
        usage.tail_capacity.load(Ordering::Relaxed) + usage.pieces_capacity.load(Ordering::Relaxed)
    });
    let [blocking_keys, blocking_without_key] = shared.engine.awaited_keys();
    let blocked = shared.engine.parked() + shared.stats.waiting_clients.load(Ordering::Relaxed);
    report.fields(&[
        ("connected_clients", &clients.len()),
        ("cluster_connections", &0),
        ("maxclients", &shared.config.read().clients_max),
        ("client_recent_max_input_buffer", &input),
        ("client_recent_max_output_buffer", &output),
        ("blocked_clients", &blocked),
        ("tracking_clients", &shared.tracking.clients()),
        ("pubsub_clients", &shared.clients.subscribers()),
        ("watching_clients", &watching),
        ("clients_in_timeout_table", &0),
        ("total_watched_keys", &0),
        ("total_blocking_keys", &blocking_keys),
        ("total_blocking_keys_on_nokey", &blocking_without_key),
    ]);
}

fn memory(report: &mut Report<'_>) {
    let shared = report.shared;
    let memory = report.seen.memory;
    let used = memory.total() as u64;
    let resident = process::resident_bytes(shared.engine.env()).unwrap_or(used);
    let peak = shared.stats.peak_memory.fetch_max(used, Ordering::Relaxed).max(used);
    let limit = shared.config.read().memory_bytes_max;
    report.bytes("used_memory", used);
    report.bytes("used_memory_rss", resident);
    report.bytes("used_memory_peak", peak);
    report.field("used_memory_overhead", memory.overhead());
    report.field("used_memory_startup", memory.startup);
    report.field("used_memory_dataset", memory.dataset());
    report.field("used_memory_dataset_perc", format_args!("{:.2}%", memory.dataset_percent()));
    report.bytes("total_system_memory", process::total_memory_bytes(shared.engine.env()).unwrap_or(0));
    report.bytes("maxmemory", limit);
    report.field("maxmemory_policy", &shared.config.read().eviction_policy);
    report.field("mem_fragmentation_ratio", format_args!("{:.2}", resident as f64 / used.max(1) as f64));
    report.field("mem_clients_normal", shared.client_bytes());
    report.field("mem_clients_slaves", 0);
    report.fields_of_modules("memory");
    report.field("mem_aof_buffer", memory.log);
    report.field("mem_not_counted_for_evict", memory.log);
    report.field("mem_allocator", "mimalloc");
    let freeing = shared.engine.freeing();
    report.field("lazyfree_pending_objects", freeing.pending());
    report.field("lazyfreed_objects", freeing.freed.load(Ordering::Relaxed));
}

fn persistence(report: &mut Report<'_>) {
    let shared = report.shared;
    let snapshotter = &shared.snapshotter;
    let saved = shared.stats.changes_at_save.load(Ordering::Relaxed);
    let changes = report.seen.changes.saturating_sub(saved);
    let result = snapshotter.last_result();
    let status = if result.is_ok() { "ok" } else { "err" };
    let error = one_line(&result.err().unwrap_or_default());
    let retry_in = snapshotter.retry_in().map_or(-1, |wait| wait.as_secs() as i64);
    let log = shared.engine.writer();
    let shortage = log.and_then(Pipeline::shortage);
    let (has_failed, position) = match shared.engine.role() {
        Role::Leading(leading) => (leading.pipeline().failure().is_some(), leading.pipeline().mark().pos),
        Role::Following(following) => (following.failure().is_some(), following.position()),
    };
    let log_status = if !has_failed && shortage.is_none() { "ok" } else { "err" };
    let writes = match &shortage {
        None if log.is_none() => "another-node",
        None => "ok",
        Some(shortage) if shortage.read_only => "read-only",
        Some(_) => "refused",
    };
    let (full, room_bytes) =
        log.and_then(Pipeline::last_room).map_or((String::new(), -1), |(full, bytes)| (full, bytes as i64));
    let cause = shortage.as_ref().map_or("", |shortage| &shortage.cause);
    report.fields(&[
        ("loading", &u8::from(shared.engine.refuses_reads().is_some())),
        ("async_loading", &0),
        ("rdb_changes_since_last_save", &changes),
        ("rdb_bgsave_in_progress", &u8::from(snapshotter.in_progress())),
        ("rdb_last_save_time", &(shared.last_save_ms() / 1000)),
        ("rdb_last_bgsave_status", &status),
        ("snapshot_last_error", &error),
        ("snapshot_retry_in_seconds", &retry_in),
        ("snapshot_memory_needed", &snapshotter.memory_needed_bytes()),
        ("snapshot_waits_for_memory", &u8::from(snapshotter.waits_for_memory())),
        ("aof_enabled", &1),
        ("aof_rewrite_in_progress", &0),
        ("aof_rewrite_scheduled", &0),
        ("aof_last_write_status", &log_status),
        ("log_writes", &writes),
        ("log_writes_refused_because", &cause),
        ("log_disk_full_because", &full),
        ("log_room_left_bytes", &room_bytes),
        ("log_last_lsn", &shared.engine.last_lsn()),
        ("log_durable_lsn", &shared.engine.durable()),
        ("log_position", &position),
    ]);
}

/// INFO is read line by line.
fn one_line(text: &str) -> String {
    text.split(['\r', '\n']).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn sum(shared: &ServerContext, counter: impl Fn(&WorkerStats) -> &Counter) -> u64 {
    shared.workers.iter().map(|worker| counter(worker).get()).sum()
}

fn stats(report: &mut Report<'_>) {
    let shared = report.shared;
    let stats = &shared.stats;
    let expired = shared.engine.expired();
    let lookups = shared.engine.lookups();
    let tracked = shared.tracking.counts();
    let refusals = &shared.acl.refusals;
    let [channels, patterns, shard_channels] = shared.pubsub.counts();
    report.fields(&[
        ("total_connections_received", &stats.connections.load(Ordering::Relaxed)),
        ("total_commands_processed", &sum(shared, |worker| &worker.commands_total)),
        ("instantaneous_ops_per_sec", &stats.operations_per_second.load(Ordering::Relaxed)),
        ("total_net_input_bytes", &sum(shared, |worker| &worker.input_bytes)),
        ("total_net_output_bytes", &sum(shared, |worker| &worker.output_bytes)),
        ("rejected_connections", &stats.rejected_connections.load(Ordering::Relaxed)),
        ("expired_subkeys", &expired.fields.load(Ordering::Relaxed)),
        ("expired_keys", &expired.keys.load(Ordering::Relaxed)),
        ("keyspace_hits", &lookups.hits.load(Ordering::Relaxed)),
        ("keyspace_misses", &lookups.misses.load(Ordering::Relaxed)),
        ("evicted_keys", &shared.engine.evicted().load(Ordering::Relaxed)),
        ("evicted_clients", &stats.evicted_clients.load(Ordering::Relaxed)),
        ("pubsub_channels", &channels),
        ("pubsub_patterns", &patterns),
        ("pubsubshard_channels", &shard_channels),
        ("sync_full", &0),
        ("sync_partial_ok", &0),
        ("sync_partial_err", &0),
        ("acl_access_denied_auth", &refusals.auth.load(Ordering::Relaxed)),
        ("acl_access_denied_cmd", &refusals.command.load(Ordering::Relaxed)),
        ("acl_access_denied_key", &refusals.key.load(Ordering::Relaxed)),
        ("acl_access_denied_channel", &refusals.channel.load(Ordering::Relaxed)),
        ("total_error_replies", &stats.errors.lock().values().sum::<u64>()),
        (
            "client_query_buffer_limit_disconnections",
            &stats.query_limit_disconnections.load(Ordering::Relaxed),
        ),
        (
            "client_output_buffer_limit_disconnections",
            &stats.output_limit_disconnections.load(Ordering::Relaxed),
        ),
        ("tracking_total_keys", &tracked.keys),
        ("tracking_total_items", &tracked.items),
        ("tracking_total_prefixes", &tracked.prefixes),
        ("latest_fork_usec", &0),
        ("total_forks", &0),
        ("unexpected_error_replies", &0),
        ("total_reads_processed", &sum(shared, |worker| &worker.reads)),
        ("total_writes_processed", &sum(shared, |worker| &worker.writes)),
    ]);
    report.fields_of_modules("stats");
}

fn replication(report: &mut Report<'_>) {
    let engine = &report.shared.engine;
    let offset = engine.last_lsn();
    match engine.role() {
        Role::Leading(_) => report.fields(&[("role", &"master"), ("log_role", &"leading")]),
        Role::Following(following) => report.fields(&[
            ("role", &"slave"),
            ("log_role", &"following"),
            ("master_link_status", &if following.failure().is_none() { "up" } else { "down" }),
            ("master_sync_in_progress", &u8::from(!following.is_caught_up())),
            ("slave_repl_offset", &offset),
            ("slave_read_only", &1),
        ]),
    }
    report.fields(&[
        ("connected_slaves", &0),
        ("master_failover_state", &"no-failover"),
        ("master_replid", &engine.log().id()),
        ("master_repl_offset", &offset),
    ]);
}

fn cpu(report: &mut Report<'_>) {
    let times = process::cpu_seconds(report.shared.engine.env()).unwrap_or_default();
    report.field("used_cpu_sys", format_args!("{:.6}", times.system));
    report.field("used_cpu_user", format_args!("{:.6}", times.user));
    report.field("used_cpu_sys_children", format_args!("{:.6}", times.children_system));
    report.field("used_cpu_user_children", format_args!("{:.6}", times.children_user));
}

fn modules(report: &mut Report<'_>) {
    for (name, version) in &report.seen.modules {
        let line = format!("name={name},ver={version},api=1,filters=0,usedby=[],using=[],options=[]");
        report.field("module", line);
    }
}

fn command_stats(report: &mut Report<'_>) {
    for (id, name) in report.shared.names.iter().enumerate() {
        let calls = sum(report.shared, |worker| &worker.commands[id].calls);
        let nanoseconds = sum(report.shared, |worker| &worker.commands[id].nanoseconds);
        let failed = sum(report.shared, |worker| &worker.commands[id].failed);
        let rejected = sum(report.shared, |worker| &worker.commands[id].rejected);
        if calls > 0 || rejected > 0 {
            let microseconds = nanoseconds / 1000;
            let per_call = nanoseconds as f64 / 1000.0 / calls.max(1) as f64;
            let line = format!(
                "calls={calls},usec={microseconds},usec_per_call={per_call:.2},rejected_calls={rejected},failed_calls={failed}"
            );
            report.field(&format!("cmdstat_{name}"), line);
        }
    }
}

fn latency_stats(report: &mut Report<'_>) {
    let percentiles = report.shared.config.read().latency_percentiles.clone();
    for (id, name) in report.shared.names.iter().enumerate() {
        let Some(counts) = super::latency::latencies(report.shared, id) else { continue };
        let shown = percentiles.iter().map(|percent| {
            let microseconds = counts.percentile(*percent) as f64 / 1000.0;
            format!("p{percent}={microseconds:.3}")
        });
        let shown = shown.collect::<Vec<_>>().join(",");
        report.field(&format!("latency_percentiles_usec_{name}"), shown);
    }
}

fn error_stats(report: &mut Report<'_>) {
    let errors = report.shared.stats.errors.lock().clone();
    for (code, count) in errors {
        report.field(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn cluster(report: &mut Report<'_>) {
    report.field("cluster_enabled", 0);
}

fn keyspace(report: &mut Report<'_>) {
    for (number, (keys, expires)) in report.seen.databases.iter().enumerate() {
        if *keys > 0 {
            report.field(
                &format!("db{number}"),
                format_args!("keys={keys},expires={expires},avg_ttl=0,subexpiry=0"),
            );
        }
    }
}

/// As Redis writes bytes for people.
fn human(bytes: u64) -> String {
    let units = [(1u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let unit = units.iter().find(|(size, _)| bytes >= *size);
    unit.map_or(format!("{bytes}B"), |(size, letter)| format!("{:.2}{letter}", bytes as f64 / *size as f64))
}
