//! The table of parameters. Everything that names one derives from its row: the flag, the environment
//! variable, the line in a file, `--help`, CONFIG GET, SET and REWRITE, and the table in
//! docs/configuration.md.

use super::Config;
use super::form::{
    Addresses, Directory, EventClassesForm, Form, OneOf, OutputLimitForm, PercentileForm, Share, Text,
    ValueShape, YesNo, bytes, clamped, number,
};
use engramdb_engine::keyspace::EvictionPolicy;

/// When a parameter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only a start reads it.
    AtStart,
    /// CONFIG SET changes it while the server runs.
    Live,
}

/// One row of the table.
pub struct Parameter {
    pub name: &'static str,
    /// Other names that files, flags and CONFIG know it by.
    pub aliases: &'static [&'static str],
    pub help: &'static str,
    pub change: Change,
    pub shape: &'static dyn ValueShape,
    pub get: fn(&Config) -> String,
    /// An error says what a value has to look like, in the words of CONFIG SET's error.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Parameter {
    /// The environment variable: the name in capitals with underscores.
    pub fn variable(&self) -> String {
        format!("{}{}", super::VARIABLE_PREFIX, self.name.replace('-', "_").to_uppercase())
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
            || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }
}

pub fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.is_called(name))
}

/// `"name", when it may change, field of Config, form, help`; an alias is given as `"name" | "alias"`.
macro_rules! parameters {
    ($($name:literal $(| $alias:literal)?, $change:ident, $($field:ident).+, $form:expr, $help:literal;)*) => {
        pub static PARAMETERS: &[Parameter] = &[$(Parameter {
            name: $name,
            aliases: &[$($alias)?],
            help: $help,
            change: Change::$change,
            shape: &$form,
            get: |config| $form.show(&config.$($field).+),
            set: |config, text| {
                config.$($field).+ = $form.read(text, &config.$($field).+)?;
                Ok(())
            },
        },)*];
    };
}

const INT_MAX: i64 = i32::MAX as i64;
const MIB: i64 = 1 << 20;
/// The log encodes the lengths of effects in 32 bits.
const REQUEST_BYTES_MAX: i64 = 2 << 30;

parameters! {
    "bind", AtStart, bind, Addresses, "addresses to listen on; one with a dash in front may be missing on this machine";
    "port", AtStart, port, number(1, 65_535), "port to listen on";
    "dir", AtStart, directory, Directory, "data directory, created if missing";
    "requirepass", Live, password, Text, "password that clients have to give; empty for none";
    "aclfile", AtStart, acl_file, Text, "file with the users of a store that has none of its own; ACL LOAD and ACL SAVE read and write it";
    "acl-pubsub-default", Live, acl_pubsub_default, OneOf(&["allchannels", "resetchannels"]), "channels of a new user";
    "acllog-max-len", Live, acl_log_entries_max, number(0, i64::MAX), "entries that ACL LOG keeps";
    "protected-mode", Live, protected_mode, YesNo, "without a password, serve clients of this machine only";
    "maxclients", Live, clients_max, number(1, u32::MAX as i64), "connections at once";
    "databases", AtStart, databases, number(1, 65_536), "number of databases";
    "io-threads", AtStart, threads, number(0, 128), "threads that serve connections; 0 picks by the number of cores";
    "tcp-backlog", AtStart, backlog, number(0, INT_MAX), "connections that wait to be accepted";
    "timeout", Live, idle_timeout_s, number(0, INT_MAX), "close idle connections after so many seconds; 0 never";
    "tcp-keepalive", Live, keepalive_s, number(0, INT_MAX), "seconds between keepalive probes; 0 for none";
    "slowlog-log-slower-than" | "commandlog-execution-slower-than", Live, slow_log_us, number(-1, i64::MAX),
        "microseconds from which SLOWLOG has a command; -1 for none";
    "slowlog-max-len" | "commandlog-slow-execution-max-len", Live, slow_log_entries_max, number(0, i64::MAX),
        "entries that SLOWLOG keeps";
    "notify-keyspace-events", Live, notified_events, EventClassesForm,
        "classes of keyspace events that are published, by their letters; none if empty";
    "latency-monitor-threshold", Live, latency_threshold_ms, number(0, i64::MAX),
        "milliseconds from which LATENCY keeps an event; 0 for none";
    "latency-tracking", Live, tracks_latencies, YesNo, "count how long commands take (LATENCY HISTOGRAM, INFO latencystats)";
    "latency-tracking-info-percentiles", Live, latency_percentiles, PercentileForm, "percentiles that INFO latencystats shows";
    "tracking-table-max-keys", Live, tracked_keys_max, number(0, i64::MAX),
        "keys that clients are remembered with for their caches (CLIENT TRACKING); 0 for any number";
    "client-query-buffer-limit", Live, input_bytes_max, bytes(MIB, REQUEST_BYTES_MAX), "bytes of one incomplete request";
    "client-output-buffer-limit", Live, output_limits, OutputLimitForm,
        "bytes of unread replies of one client; fewer bytes, and seconds for which it may have more";
    "maxmemory-clients", Live, client_memory, Share, "bytes of all clients, or a share of maxmemory; 0 for no limit";
    "proto-max-bulk-len", Live, bulk_bytes_max, bytes(MIB, REQUEST_BYTES_MAX), "bytes of one argument, and of a string that APPEND or SETRANGE makes longer";
    "hash-max-listpack-entries" | "hash-max-ziplist-entries", Live, encodings.hash_entries, number(0, i64::MAX),
        "fields up to which OBJECT ENCODING calls a hash a listpack";
    "hash-max-listpack-value" | "hash-max-ziplist-value", Live, encodings.hash_value, number(0, i64::MAX),
        "bytes of a name or value up to which it does";
    "list-max-listpack-size" | "list-max-ziplist-size", Live, encodings.list_size, number(i32::MIN as i64, INT_MAX),
        "elements up to which OBJECT ENCODING calls a list a listpack; -1 to -5 for 4 to 64 KiB";
    "list-compress-depth", Live, encodings.list_compress_depth, number(0, INT_MAX),
        "Redis's compression of lists, which this server does not need";
    "set-max-intset-entries", Live, encodings.set_intset_entries, number(0, i64::MAX),
        "integers up to which OBJECT ENCODING calls a set an intset";
    "set-max-listpack-entries", Live, encodings.set_entries, number(0, i64::MAX),
        "members up to which it calls a set a listpack";
    "set-max-listpack-value", Live, encodings.set_value, number(0, i64::MAX), "bytes of a member up to which it does";
    "zset-max-listpack-entries" | "zset-max-ziplist-entries", Live, encodings.sorted_set_entries, number(0, i64::MAX),
        "members up to which OBJECT ENCODING calls a sorted set a listpack";
    "zset-max-listpack-value" | "zset-max-ziplist-value", Live, encodings.sorted_set_value, number(0, i64::MAX),
        "bytes of a member up to which it does";
    "hll-sparse-max-bytes", Live, encodings.hyperloglog_sparse_bytes, bytes(0, i64::MAX),
        "bytes up to which a HyperLogLog is sparse";
    "stream-node-max-bytes", Live, encodings.stream_node_bytes, bytes(0, i64::MAX),
        "bytes that an approximate trim of a stream removes together; 0 for no limit";
    "stream-node-max-entries", Live, encodings.stream_node_entries, number(0, i64::MAX),
        "entries that it removes together; 0 for no limit";
    "log-buffer", AtStart, log_buffer_bytes, bytes(MIB, i64::MAX), "bytes of writes that are not yet durable";
    "search-threads", AtStart, search_threads, number(0, 128),
        "threads for long searches, and as many that bring vectors into indexes; 0 picks by the number of cores";
    "loglevel", Live, log_level, OneOf(&["debug", "verbose", "notice", "warning", "nothing"]),
        "the least severe messages to log";
    "log-format", AtStart, log_format, OneOf(&["text", "json", "legacy"]), "form of log lines; legacy is text";
    "logfile", AtStart, log_file, Text, "file that log lines are appended to; none for standard error";
    "maxmemory", Live, memory_bytes_max, bytes(0, i64::MAX),
        "bytes of memory beyond which writes that need memory are refused, or keys evicted; 0 for no limit";
    "maxmemory-policy", Live, eviction_policy, OneOf(EvictionPolicy::NAMES),
        "which keys are evicted at maxmemory, for caches: noeviction refuses writes and loses nothing";
    "maxmemory-samples", Live, eviction_samples, number(1, 64), "keys to choose from for each one that is evicted";
    "lfu-log-factor", Live, frequency.log_factor, number(0, INT_MAX), "how slowly the counters of the lfu policies grow";
    "lfu-decay-time", Live, frequency.decay_minutes, number(0, INT_MAX),
        "minutes without access after which they lose one; 0 for never";
    "active-expiry", Live, active_expiry, YesNo, "delete expired keys in the background";
    "busy-reply-threshold" | "lua-time-limit", Live, busy_reply_threshold_ms, number(0, i64::MAX),
        "milliseconds that a script runs before other clients get BUSY; 0 for no limit";
    "hz", Live, hz, clamped(1, 500), "rounds of background work in a second";
}
