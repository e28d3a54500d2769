//! The configuration: one table of parameters, with Redis's names where Redis has one.
//!
//! A value comes from a default, a file, the environment (`ENGRAMDB_PORT`), a flag (`--port`) or CONFIG SET;
//! each wins over the ones before it. All of them go through one table, and a value is written as text
//! everywhere.
//!
//! # How to add a parameter
//!
//! 1. Add a field to [`Config`] with its unit in the name, and its default.
//! 2. Add a row to [`table`]: name, `AtStart` or `Live`, field, form with its bounds, help. If Redis has the
//!    parameter, take its name and bounds, and delete the name from [`foreign`].
//! 3. Let it have its effect. What the hot path reads goes into `Limits::follow`, which a start and every
//!    CONFIG SET call; everything else reads `ServerContext::config`.
//!
//! The flag, the variable, the line of a file, `--help`, CONFIG GET, SET and REWRITE and the table in
//! docs/configuration.md derive from the row.

pub(crate) mod client_limits;
pub(crate) mod event_classes;
mod file;
mod foreign;
mod form;
mod line;
mod load;
pub mod rewrite;
mod table;

pub use foreign::{CONSTANTS, FOREIGN, Foreign, Rule, foreign, is_immutable};
pub(crate) use form::memory;
pub(crate) use load::read_file;
pub use load::{ConfigErrors, Loader, ModuleSettings, Notes, Problem, ValueOrigin};
pub use table::{Change, PARAMETERS, Parameter, parameter};

use crate::config::client_limits::{ClientMemory, OutputLimits};
use crate::config::event_classes::EventClasses;
use engramdb_engine::keyspace::{AccessMode, EncodingLimits, EvictionPolicy, FrequencySettings};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the names of environment variables begin with.
pub const VARIABLE_PREFIX: &str = "ENGRAMDB_";

/// What a server runs with.
#[derive(Clone, Debug)]
pub struct Config {
    pub bind: Vec<String>,
    pub port: u16,
    pub directory: PathBuf,
    pub password: String,
    /// Empty for none.
    pub acl_file: String,
    /// `user` lines: a name and its rules.
    pub users: Vec<Vec<String>>,
    pub acl_log_entries_max: usize,
    /// `allchannels` or `resetchannels`.
    pub acl_pubsub_default: String,
    pub protected_mode: bool,
    pub clients_max: usize,
    /// What `maxclients` was set to, where the limit of open files allows less.
    pub clients_wanted: Option<usize>,
    pub databases: usize,
    /// Worker threads; 0 picks by the number of cores.
    pub threads: usize,
    pub backlog: u32,
    /// Seconds after which an idle connection is closed; 0 never.
    pub idle_timeout_s: u64,
    pub keepalive_s: u64,
    /// Classes of keyspace events.
    pub notified_events: EventClasses,
    /// Keys that clients are remembered with for their caches; 0 for any number.
    pub tracked_keys_max: usize,
    /// LATENCY keeps events from this time on; 0 turns it off.
    pub latency_threshold_ms: u64,
    pub tracks_latencies: bool,
    /// Of `latency-tracking-info-percentiles`.
    pub latency_percentiles: Vec<f64>,
    pub slow_log_us: i64,
    pub slow_log_entries_max: usize,
    pub input_bytes_max: usize,
    pub output_limits: OutputLimits,
    pub client_memory: ClientMemory,
    pub bulk_bytes_max: usize,
    pub encodings: EncodingLimits,
    /// Bound of batches that are applied and not yet durable, in bytes.
    pub log_buffer_bytes: u64,
    /// Threads that bring vectors into indexes; 0 picks by the number of cores.
    pub search_threads: usize,
    pub log_level: String,
    pub log_format: String,
    /// Empty for standard error.
    pub log_file: String,
    pub memory_bytes_max: u64,
    /// One of [`EvictionPolicy::NAMES`].
    pub eviction_policy: String,
    /// Keys that are looked at in each database for each one that is evicted.
    pub eviction_samples: usize,
    pub frequency: FrequencySettings,
    pub active_expiry: bool,
    /// How long a script runs before others get BUSY, in milliseconds; 0 for no limit.
    pub busy_reply_threshold_ms: i64,
    pub hz: u32,
    /// Settings of modules that were given, by their names in CONFIG.
    pub module_settings: BTreeMap<String, String>,
    /// `rename-command`: a command's name and its new one; an empty one removes the command.
    pub renamed_commands: Vec<(String, String)>,
    /// The file that the server was started with.
    pub file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bind: vec!["127.0.0.1".to_owned()],
            port: 6379,
            directory: PathBuf::from("./engramdb-data"),
            password: String::new(),
            acl_file: String::new(),
            users: Vec::new(),
            acl_log_entries_max: 128,
            acl_pubsub_default: "resetchannels".to_owned(),
            protected_mode: true,
            clients_max: 10_000,
            clients_wanted: None,
            databases: 16,
            threads: 0,
            backlog: 511,
            idle_timeout_s: 0,
            keepalive_s: 300,
            notified_events: EventClasses::default(),
            tracked_keys_max: 1_000_000,
            latency_threshold_ms: 0,
            tracks_latencies: true,
            latency_percentiles: vec![50.0, 99.0, 99.9],
            slow_log_us: 10_000,
            slow_log_entries_max: 128,
            input_bytes_max: 1 << 30,
            output_limits: OutputLimits::default(),
            client_memory: ClientMemory::Bytes(0),
            bulk_bytes_max: 512 << 20,
            encodings: EncodingLimits::default(),
            log_buffer_bytes: 64 << 20,
            search_threads: 0,
            log_level: "notice".to_owned(),
            log_format: "text".to_owned(),
            log_file: String::new(),
            memory_bytes_max: 0,
            eviction_policy: "noeviction".to_owned(),
            eviction_samples: 5,
            frequency: FrequencySettings { log_factor: 10, decay_minutes: 1 },
            active_expiry: true,
            busy_reply_threshold_ms: 5000,
            hz: 10,
            module_settings: BTreeMap::new(),
            renamed_commands: Vec::new(),
            file: None,
        }
    }
}

impl Config {
    /// What all connections may take in memory, in bytes; `usize::MAX` for no limit.
    pub fn client_bytes_max(&self) -> usize {
        self.client_memory.bytes_max(self.memory_bytes_max)
    }

    /// Which keys go when memory is short.
    pub fn eviction_policy(&self) -> EvictionPolicy {
        EvictionPolicy::named(&self.eviction_policy).unwrap_or_default()
    }

    /// How accesses of keys are noted.
    pub fn access_mode(&self) -> AccessMode {
        match self.eviction_policy().counts_accesses() {
            true => AccessMode::Frequency(self.frequency),
            false => AccessMode::Recency,
        }
    }

    /// True if all addresses are this machine's own.
    pub fn is_loopback_only(&self) -> bool {
        self.bind.iter().all(|address| {
            let address = address.trim_start_matches('-');
            address == "localhost"
                || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        })
    }
}

#[cfg(test)]
mod tests;
