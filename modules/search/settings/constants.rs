//! Options of RediSearch that have one value here, for clients that read them by FT.CONFIG: they describe
//! parts that this server does not have, or decide what is in an index. Another value is refused.

use crate::error::{Kind as Wrong, SearchError};

pub struct Constant {
    pub name: &'static str,
    /// The name in CONFIG.
    pub config_name: &'static str,
    /// `None` for a null.
    pub value: Option<&'static str>,
    pub description: &'static str,
    /// RediSearch does not change it at run time either.
    is_of_start: bool,
}

impl Constant {
    /// Sets it to the value that it has.
    pub fn set(&self, value: &[u8]) -> Result<(), SearchError> {
        match self.value {
            _ if self.is_of_start => Err(Wrong::SettingNumber.with(["Not modifiable at runtime".into()])),
            Some(held) if value.eq_ignore_ascii_case(held.as_bytes()) => Ok(()),
            held => Err(Wrong::SettingFixed.with([self.name.into(), held.unwrap_or("unset").into()])),
        }
    }
}

const fn live(names: [&'static str; 2], value: &'static str, description: &'static str) -> Constant {
    Constant { name: names[0], config_name: names[1], value: Some(value), description, is_of_start: false }
}

const fn at_start(
    names: [&'static str; 2],
    value: Option<&'static str>,
    description: &'static str,
) -> Constant {
    Constant { name: names[0], config_name: names[1], value, description, is_of_start: true }
}

/// Descriptions are RediSearch's.
pub const CONSTANTS: &[Constant] = &[
    at_start(["EXTLOAD", "search-ext-load"], None, "Load extension scoring/expansion module"),
    at_start(["NOGC", "search-no-gc"], Some("false"), "Disable garbage collection (for this process)"),
    live(["MINSTEMLEN", "search-min-stem-len"], "4", "Set the minimum word length to stem (default 4)"),
    live(
        ["FORKGC_SLEEP_BEFORE_EXIT", "search-fork-gc-sleep-before-exit"],
        "0",
        "set the amount of seconds for the fork GC to sleep before exists, should always be set to 0 (other then on tests).",
    ),
    at_start(
        ["MAXDOCTABLESIZE", "search-max-doctablesize"],
        Some("4294967295"),
        "Maximum runtime document table size (for this process)",
    ),
    at_start(
        ["FRISOINI", "search-friso-ini"],
        None,
        "Path to Chinese dictionary configuration file (for Chinese tokenization)",
    ),
    live(
        ["GCSCANSIZE", "search-gc-scan-size"],
        "100",
        "Scan this many documents at a time during every GC iteration",
    ),
    live(
        ["MIN_PHONETIC_TERM_LEN", "search-min-phonetic-term-len"],
        "3",
        "Minumum length of term to be considered for phonetic matching",
    ),
    at_start(["GC_POLICY", "search-gc-policy"], Some("fork"), "gc policy to use (DEFAULT/LEGACY)"),
    live(
        ["FORK_GC_RUN_INTERVAL", "search-fork-gc-run-interval"],
        "30",
        "interval (in seconds) in which to run the fork gc (relevant only when fork gc is used)",
    ),
    live(
        ["FORK_GC_CLEAN_THRESHOLD", "search-fork-gc-clean-threshold"],
        "100",
        "the fork gc will only start to clean when the number of not cleaned document will exceed this threshold",
    ),
    live(
        ["FORK_GC_RETRY_INTERVAL", "search-fork-gc-retry-interval"],
        "5",
        "interval (in seconds) in which to retry running the forkgc after failure.",
    ),
    live(
        ["FORK_GC_CLEAN_NUMERIC_EMPTY_NODES", "search-fork-gc-clean-numeric-empty-nodes"],
        "true",
        "clean empty nodes from numeric tree",
    ),
    live(
        ["_FORK_GC_CLEAN_NUMERIC_EMPTY_NODES", "search-_fork-gc-clean-numeric-empty-nodes"],
        "true",
        "clean empty nodes from numeric tree",
    ),
    live(
        ["UNION_ITERATOR_HEAP", "search-union-iterator-heap"],
        "20",
        "minimum number of iterators in a union from which the interator willswitch to heap based implementation.",
    ),
    at_start(
        ["NO_MEM_POOLS", "search-no-mem-pools"],
        Some("false"),
        "Set RediSearch to run without memory pools",
    ),
    at_start(
        ["PARTIAL_INDEXED_DOCS", "search-partial-indexed-docs"],
        Some("false"),
        "Enable commands filter which optimize indexing on partial hash updates",
    ),
    at_start(
        ["UPGRADE_INDEX", "search-upgrade-index"],
        Some("Upgrade config for upgrading"),
        "Relevant only when loading an v1.x rdb, specify argument for upgrading the index.",
    ),
    live(
        ["_NUMERIC_COMPRESS", "search-_numeric-compress"],
        "false",
        "Enable legacy compression of double to float.",
    ),
    live(
        ["_FREE_RESOURCE_ON_THREAD", "search-_free-resource-on-thread"],
        "true",
        "Determine whether some index resources are free on a second thread.",
    ),
    live(
        ["_PRINT_PROFILE_CLOCK", "search-_print-profile-clock"],
        "true",
        "Disable print of time for ft.profile. For testing only.",
    ),
    at_start(
        ["RAW_DOCID_ENCODING", "search-raw-docid-encoding"],
        Some("false"),
        "Disable compression for DocID inverted index. Boost CPU performance.",
    ),
    live(
        ["_NUMERIC_RANGES_PARENTS", "search-_numeric-ranges-parents"],
        "0",
        "Keep numeric ranges in numeric tree parent nodes of leafs for `x` generations.",
    ),
    at_start(
        ["MULTI_TEXT_SLOP", "search-multi-text-slop"],
        Some("unlimited"),
        "Set RediSearch delta used to increase positional offsets between array slots for multi text values.",
    ),
    at_start(
        ["BG_INDEX_SLEEP_GAP", "search-bg-index-sleep-gap"],
        Some("100"),
        "The number of iterations to run while performing background indexing before we call usleep(1)",
    ),
    live(
        ["_PRIORITIZE_INTERSECT_UNION_CHILDREN", "search-_prioritize-intersect-union-children"],
        "false",
        "Intersection iterator orders the children iterators by their relative estimated number of results.",
    ),
    at_start(
        ["WORKERS", "search-workers"],
        Some("0"),
        "Number of worker threads to use for query processing and background tasks. See search-threads.",
    ),
    at_start(
        ["MIN_OPERATION_WORKERS", "search-min-operation-workers"],
        Some("0"),
        "Number of worker threads to use for background tasks when the server is in an operation event.",
    ),
    at_start(
        ["WORKERS_PRIORITY_BIAS_THRESHOLD", "search-workers-priority-bias-threshold"],
        Some("1"),
        "The number of high priority tasks to be executed at any given time by the worker thread pool",
    ),
    live(
        ["ON_OOM", "search-on-oom"],
        "ignore",
        "Action to perform when search OOM is exceeded (choose RETURN, FAIL or IGNORE)",
    ),
    live(
        ["INDEXER_YIELD_EVERY_OPS", "search-indexer-yield-every-ops"],
        "1000",
        "The number of operations to perform before yielding to Redis during indexing while loading",
    ),
    live(
        ["_BG_INDEX_MEM_PCT_THR", "search-_bg-index-mem-pct-thr"],
        "100",
        "Set the threshold for the background indexing to stop.",
    ),
    live(
        ["_BG_INDEX_OOM_PAUSE_TIME", "search-_bg-index-oom-pause-time"],
        "0",
        "Set the time (in seconds) to pause the background indexing and retry if OOM is reached.",
    ),
    at_start(
        ["CONN_PER_SHARD", "search-conn-per-shard"],
        Some("0"),
        "Number of connections to each shard in the cluster.",
    ),
    at_start(
        ["SEARCH_IO_THREADS", "search-io-threads"],
        Some("1"),
        "Number of threads that communicate with the shards of a cluster.",
    ),
    live(
        ["CURSOR_REPLY_THRESHOLD", "search-cursor-reply-threshold"],
        "1",
        "Maximum number of replies to accumulate before triggering `_FT.CURSOR READ` on the shards.",
    ),
    live(
        ["TOPOLOGY_VALIDATION_TIMEOUT", "search-topology-validation-timeout"],
        "30000",
        "Sets the timeout for topology validation (in milliseconds).",
    ),
    live(
        ["ENABLE_UNSTABLE_FEATURES", "search-enable-unstable-features"],
        "false",
        "Enable unstable features.",
    ),
];
