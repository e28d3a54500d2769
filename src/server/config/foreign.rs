//! Parameters of Redis and Valkey that this server does not have, so that it starts with configuration files
//! written for them.
//!
//! Parameters that do not apply are accepted, and listed once at the start. Features that a user would rely
//! on and not get (replication, notifications, TLS) are refused. Parameters that contradict
//! durability are overridden with a warning.

/// The values that a file may give to a parameter that does not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any value; listed as ignored.
    Ignored,
    /// Values that describe what the server does anyway. Any other is overridden, with a warning.
    Overridden(&'static [&'static str]),
    /// Values that describe what the server does anyway. Any other is an error.
    Only(&'static [&'static str]),
}

/// Parameters with one rule, for one reason.
pub struct Foreign {
    pub rule: Rule,
    /// For `Ignored` the subject, for the others what holds instead.
    pub why: &'static str,
    /// Separated by blanks.
    names: &'static str,
}

impl Foreign {
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.split_ascii_whitespace()
    }
}

pub fn foreign(name: &str) -> Option<&'static Foreign> {
    FOREIGN.iter().find(|foreign| foreign.names().any(|known| known.eq_ignore_ascii_case(name)))
}

const fn ignored(why: &'static str, names: &'static str) -> Foreign {
    Foreign { rule: Rule::Ignored, why, names }
}

const fn overridden(names: &'static str, accepted: &'static [&'static str], why: &'static str) -> Foreign {
    Foreign { rule: Rule::Overridden(accepted), why, names }
}

const fn only(names: &'static str, accepted: &'static [&'static str], why: &'static str) -> Foreign {
    Foreign { rule: Rule::Only(accepted), why, names }
}

pub static FOREIGN: &[Foreign] = &[
    overridden("appendonly", &["yes"], "every write is in the log before it is acknowledged"),
    overridden("appendfsync", &["always"], "a write is acknowledged only when the disk has confirmed it"),
    overridden(
        "daemonize",
        &["no"],
        "the server stays in the foreground; a service manager can run it in the background",
    ),
    only("cluster-enabled", &["no"], "there is no cluster mode"),
    only("replicaof slaveof", &["no one", ""], "there is no replication"),
    only("min-replicas-to-write min-slaves-to-write", &["0"], "there is no replication"),
    only("tls-port rdma-port", &["0"], "there is neither TLS nor RDMA: let a proxy end TLS"),
    only("unixsocket", &[""], "there are no Unix sockets: clients connect over TCP"),
    ignored(
        "layout of values in memory",
        "list-max-ziplist-entries list-max-ziplist-value stream-idmp-duration stream-idmp-maxsize \
         vset-force-single-threaded-execution hash-seed",
    ),
    ignored(
        "RDB and AOF files",
        "save rdbcompression rdbchecksum rdb-del-sync-files rdb-save-incremental-fsync rdb-version-check dbfilename \
         stop-writes-on-bgsave-error sanitize-dump-payload appendfilename appenddirname no-appendfsync-on-rewrite \
         auto-aof-rewrite-percentage auto-aof-rewrite-min-size aof-load-truncated aof-load-corrupt-tail-max-size \
         aof-use-rdb-preamble aof-timestamp-enabled aof-rewrite-incremental-fsync aof-disable-auto-gc \
         rdb-key-save-delay key-load-delay loading-process-events-interval-bytes shutdown-on-sigint \
         shutdown-on-sigterm shutdown-timeout",
    ),
    ignored(
        "freeing memory and expiry",
        "lazyfree-lazy-eviction lazyfree-lazy-expire lazyfree-lazy-server-del lazyfree-lazy-user-del \
         lazyfree-lazy-user-flush maxmemory-eviction-tenacity \
         active-expire-effort activerehashing activedefrag active-defrag-cycle-max active-defrag-cycle-min \
         active-defrag-cycle-us active-defrag-ignore-bytes active-defrag-max-scan-fields \
         active-defrag-threshold-lower active-defrag-threshold-upper jemalloc-bg-thread dynamic-hz",
    ),
    ignored(
        "process and its logs",
        "pidfile supervised always-show-logo set-proc-title proc-title-template locale-collate syslog-enabled \
         syslog-ident syslog-facility oom-score-adj oom-score-adj-values disable-thp crash-log-enabled \
         crash-memcheck-enabled hide-user-data-from-log ignore-warnings log-timestamp-format server-cpulist \
         server_cpulist bio-cpulist bio_cpulist aof-rewrite-cpulist aof_rewrite_cpulist bgsave-cpulist \
         bgsave_cpulist io-threads-do-reads events-per-io-thread io-threads-always-active prefetch-batch-max-size \
         min-io-threads-avoid-copy-reply min-string-size-avoid-copy-reply watchdog-period use-exit-on-panic \
         availability-zone extended-redis-compatibility import-mode debug-context enable-debug-assert \
         lookahead",
    ),
    ignored(
        "sockets",
        "unixsocketperm unixsocketgroup bind-source-addr socket-mark-id mptcp max-new-connections-per-cycle \
         max-new-tls-connections-per-cycle client-default-resp rdma-bind rdma-completion-vector rdma-rx-size",
    ),
    ignored(
        "TLS",
        "tls-auth-clients tls-auth-clients-user tls-auto-reload-interval tls-ca-cert-dir tls-ca-cert-file \
         tls-cert-file tls-ciphers tls-ciphersuites tls-client-cert-file tls-client-key-file \
         tls-client-key-file-pass tls-cluster tls-dh-params-file tls-key-file tls-key-file-pass \
         tls-prefer-server-ciphers tls-protocols tls-replication tls-session-cache-size \
         tls-session-cache-timeout tls-session-caching",
    ),
    ignored(
        "replication",
        "masterauth masteruser primaryauth primaryuser min-replicas-max-lag min-slaves-max-lag repl-backlog-size \
         repl-backlog-ttl repl-disable-tcp-nodelay repl-diskless-load repl-diskless-sync repl-diskless-sync-delay \
         repl-diskless-sync-max-replicas repl-ping-replica-period repl-ping-slave-period repl-timeout repl-mptcp \
         replica-announce-ip replica-announce-port replica-announced replica-full-sync-buffer-limit \
         replica-ignore-disk-write-errors replica-ignore-maxmemory replica-lazy-flush replica-priority \
         replica-read-only replica-serve-stale-data slave-announce-ip slave-announce-port slave-ignore-maxmemory \
         slave-lazy-flush slave-priority slave-read-only slave-serve-stale-data propagation-error-behavior \
         dual-channel-replication-enabled",
    ),
    ignored(
        "cluster",
        "cluster-allow-pubsubshard-when-down cluster-allow-reads-when-down cluster-allow-replica-migration \
         cluster-announce-bus-port cluster-announce-client-ipv4 cluster-announce-client-ipv6 \
         cluster-announce-client-port cluster-announce-client-tls-port cluster-announce-hostname \
         cluster-announce-human-nodename cluster-announce-ip cluster-announce-port cluster-announce-tls-port \
         cluster-blacklist-ttl cluster-compatibility-sample-ratio cluster-config-file \
         cluster-config-save-behavior cluster-databases cluster-link-sendbuf-limit \
         cluster-manual-failover-timeout cluster-migration-barrier cluster-node-timeout cluster-ping-interval \
         cluster-port cluster-preferred-endpoint-type cluster-replica-no-failover \
         cluster-replica-validity-factor cluster-require-full-coverage cluster-slave-no-failover \
         cluster-slave-validity-factor cluster-slot-migration-log-max-len cluster-slot-stats-enabled \
         cluster-slot-migration-handoff-max-lag-bytes cluster-slot-migration-write-pause-timeout \
         slot-migration-max-failover-repl-bytes",
    ),
    ignored(
        "commands that this server does not have",
        "lua-replicate-commands lua-enable-insecure-api enable-debug-command enable-module-command \
         enable-protected-configs \
         commandlog-request-larger-than commandlog-large-request-max-len commandlog-reply-larger-than \
         commandlog-large-reply-max-len",
    ),
    ignored(
        "tuning of Redis's modules",
        "search-workers search-workers-priority-bias-threshold search-min-operation-workers search-gc-scan-size \
         search-fork-gc-clean-threshold search-fork-gc-retry-interval search-fork-gc-run-interval \
         search-fork-gc-sleep-before-exit search-no-gc search-no-mem-pools search-bg-index-sleep-gap \
         search-max-doctablesize search-min-phonetic-term-len search-min-stem-len search-multi-text-slop \
         search-union-iterator-heap search-ext-load search-friso-ini search-partial-indexed-docs \
         search-raw-docid-encoding search-topology-validation-timeout \
         search-conn-per-shard search-io-threads search-enable-unstable-features search-cursor-reply-threshold \
         search-on-oom search-indexer-yield-every-ops search-_bg-index-mem-pct-thr \
         search-_bg-index-oom-pause-time search-gc-policy search-_fork-gc-clean-numeric-empty-nodes \
         search-_numeric-ranges-parents search-_numeric-compress \
         search-_free-resource-on-thread search-_print-profile-clock search-_prioritize-intersect-union-children \
         ts-num-threads ts-compaction-policy ts-encoding ts-retention-policy ts-duplicate-policy \
         ts-chunk-size-bytes ts-ignore-max-time-diff ts-ignore-max-val-diff bf-error-rate bf-initial-size \
         bf-expansion-factor cf-initial-size cf-bucket-size cf-max-iterations cf-expansion-factor \
         cf-max-expansions",
    ),
];

/// Those of them that Redis refuses to change while it runs, whatever the value.
static IMMUTABLE: &str = "always-show-logo aof-rewrite-cpulist aof_rewrite_cpulist appenddirname appendfilename \
    bgsave-cpulist bgsave_cpulist bio-cpulist bio_cpulist cluster-config-file cluster-enabled cluster-port \
    daemonize disable-thp enable-debug-command enable-module-command enable-protected-configs pidfile rdbchecksum \
    replicaof server-cpulist server_cpulist set-proc-title slaveof socket-mark-id supervised syslog-enabled \
    syslog-facility syslog-ident unixsocket unixsocketperm";

/// Whether Redis refuses to change this parameter while it runs.
pub fn is_immutable(name: &str) -> bool {
    IMMUTABLE.split_ascii_whitespace().any(|known| known.eq_ignore_ascii_case(name))
}

/// Parameters that have one value here, for clients that read them by CONFIG GET.
pub static CONSTANTS: &[(&str, &str)] = &[
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("save", ""),
    ("cluster-enabled", "no"),
    ("unixsocket", ""),
    ("replicaof", ""),
    ("slaveof", ""),
    // Of the search module of Redis.
    ("search-_bg-index-mem-pct-thr", "100"),
    ("search-_bg-index-oom-pause-time", "0"),
    ("search-_fork-gc-clean-numeric-empty-nodes", "yes"),
    ("search-_free-resource-on-thread", "yes"),
    ("search-_numeric-compress", "no"),
    ("search-_numeric-ranges-parents", "0"),
    ("search-_print-profile-clock", "yes"),
    ("search-_prioritize-intersect-union-children", "no"),
    ("search-bg-index-sleep-gap", "100"),
    ("search-conn-per-shard", "0"),
    ("search-cursor-reply-threshold", "1"),
    ("search-enable-unstable-features", "no"),
    ("search-ext-load", ""),
    ("search-fork-gc-clean-threshold", "100"),
    ("search-fork-gc-retry-interval", "5"),
    ("search-fork-gc-run-interval", "30"),
    ("search-fork-gc-sleep-before-exit", "0"),
    ("search-friso-ini", ""),
    ("search-gc-scan-size", "100"),
    ("search-indexer-yield-every-ops", "1000"),
    ("search-io-threads", "1"),
    ("search-max-doctablesize", "4294967295"),
    ("search-min-operation-workers", "0"),
    ("search-min-phonetic-term-len", "3"),
    ("search-min-stem-len", "4"),
    ("search-no-gc", "no"),
    ("search-no-mem-pools", "no"),
    ("search-on-oom", "ignore"),
    ("search-partial-indexed-docs", "no"),
    ("search-raw-docid-encoding", "no"),
    ("search-topology-validation-timeout", "30000"),
    ("search-union-iterator-heap", "20"),
    ("search-workers", "0"),
    ("search-workers-priority-bias-threshold", "1"),
];

#[cfg(test)]
mod tests {
    use super::super::table::{PARAMETERS, parameter};
    use super::*;
    use engramdb_engine::hashing::HashSet;

    #[test]
    fn a_name_is_in_one_table_and_there_once() {
        let mut seen = HashSet::default();
        for name in FOREIGN.iter().flat_map(Foreign::names) {
            assert!(parameter(name).is_none(), "{name} is a parameter");
            assert!(seen.insert(name), "{name} is there twice");
        }
        for parameter in PARAMETERS {
            assert!(seen.insert(parameter.name), "{} is there twice", parameter.name);
        }
        for name in IMMUTABLE.split_ascii_whitespace() {
            assert!(foreign(name).is_some() && is_immutable(name), "{name} is not foreign");
        }
        for (name, _) in CONSTANTS {
            assert!(foreign(name).is_some(), "CONFIG GET has {name}, and files may not say it");
        }
    }
}
