//! The configuration: one table of parameters, with Redis's names where Redis has one.
//!
//! Every way in goes through the same table: flags (`--port 6380`), the environment (`ENGRAMDB_PORT`), a file (TOML, or
//! lines of name and value as in redis.conf), CONFIG SET. A parameter is written as text everywhere, and each knows
//! how to read and show itself.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a server runs with.
#[derive(Clone, Debug)]
pub struct Config {
    pub bind: Vec<String>,
    pub port: u16,
    pub directory: PathBuf,
    pub password: String,
    pub protected_mode: bool,
    pub clients_max: usize,
    pub databases: usize,
    /// Worker threads; 0 picks by the number of cores.
    pub threads: usize,
    pub backlog: u32,
    /// Idle connections are closed after so many seconds; 0 never.
    pub idle_timeout_s: u64,
    pub keepalive_s: u64,
    pub slow_log_us: i64,
    pub slow_log_entries_max: usize,
    pub input_bytes_max: usize,
    pub output_bytes_max: usize,
    pub bulk_bytes_max: usize,
    /// Bound of batches that are applied and not yet durable, in bytes.
    pub log_buffer_bytes: u64,
    pub search_threads: usize,
    pub log_level: String,
    pub log_format: String,
    pub memory_bytes_max: u64,
    pub active_expiry: bool,
    pub hz: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bind: vec!["127.0.0.1".to_owned()],
            port: 6379,
            directory: PathBuf::from("./engramdb-data"),
            password: String::new(),
            protected_mode: true,
            clients_max: 10_000,
            databases: 16,
            threads: 0,
            backlog: 511,
            idle_timeout_s: 0,
            keepalive_s: 300,
            slow_log_us: 10_000,
            slow_log_entries_max: 128,
            input_bytes_max: 1 << 30,
            output_bytes_max: 1 << 30,
            bulk_bytes_max: 512 << 20,
            log_buffer_bytes: 64 << 20,
            search_threads: 0,
            log_level: "notice".to_owned(),
            log_format: "text".to_owned(),
            memory_bytes_max: 0,
            active_expiry: true,
            hz: 10,
        }
    }
}

/// One row of the table.
pub struct Parameter {
    pub name: &'static str,
    pub help: &'static str,
    /// Whether CONFIG SET may change it while the server runs.
    pub is_mutable: bool,
    pub get: fn(&Config) -> String,
    /// An error says what a value has to look like.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

/// A parameter that only start-up reads.
macro_rules! fixed {
    ($name:literal, $field:ident, $form:ident, $help:literal) => {
        row!($name, $field, $form, $help, false)
    };
}

/// A parameter that CONFIG SET may change.
macro_rules! mutable {
    ($name:literal, $field:ident, $form:ident, $help:literal) => {
        row!($name, $field, $form, $help, true)
    };
}

macro_rules! row {
    ($name:literal, $field:ident, $form:ident, $help:literal, $mutable:literal) => {
        Parameter {
            name: $name,
            help: $help,
            is_mutable: $mutable,
            get: |config| form::$form::show(&config.$field),
            set: |config, text| {
                config.$field = form::$form::read(text)?;
                Ok(())
            },
        }
    };
}

pub static PARAMETERS: &[Parameter] = &[
    fixed!("bind", bind, words, "addresses to listen on"),
    fixed!("port", port, number, "port to listen on"),
    fixed!("dir", directory, path, "data directory; it is created if missing"),
    mutable!("requirepass", password, text, "password that clients have to give; empty for none"),
    mutable!("protected-mode", protected_mode, yes_no, "refuse strangers while there is no password"),
    mutable!("maxclients", clients_max, number, "connections at once"),
    fixed!("databases", databases, number, "number of databases"),
    fixed!("io-threads", threads, number, "worker threads; 0 picks by the number of cores"),
    fixed!("tcp-backlog", backlog, number, "connections that wait to be accepted"),
    mutable!("timeout", idle_timeout_s, number, "close idle connections after so many seconds; 0 never"),
    mutable!("tcp-keepalive", keepalive_s, number, "seconds between keepalive probes; 0 for none"),
    mutable!("slowlog-log-slower-than", slow_log_us, number, "microseconds; negative logs nothing"),
    mutable!("slowlog-max-len", slow_log_entries_max, number, "entries that SLOWLOG keeps"),
    mutable!("client-query-buffer-limit", input_bytes_max, bytes, "bytes of one request that is incomplete"),
    mutable!("client-output-buffer-limit", output_bytes_max, output_limit, "bytes of unread replies"),
    mutable!("proto-max-bulk-len", bulk_bytes_max, bytes, "bytes of one argument"),
    fixed!("log-buffer", log_buffer_bytes, bytes, "bytes of writes that are not yet durable"),
    fixed!("search-threads", search_threads, number, "threads for long searches; 0 picks by the cores"),
    fixed!("loglevel", log_level, log_level, "debug, verbose, notice, warning or nothing"),
    fixed!("log-format", log_format, log_format, "text or json"),
    mutable!("maxmemory", memory_bytes_max, bytes, "for clients that ask; no limit is enforced yet"),
    mutable!("active-expiry", active_expiry, yes_no, "delete expired keys in the background"),
    mutable!("hz", hz, number, "rounds of background work in a second"),
];

/// Parameters of Redis's that have one value here, for clients that read them.
pub static CONSTANTS: &[(&str, &str)] = &[
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("save", ""),
    ("maxmemory-policy", "noeviction"),
    ("cluster-enabled", "no"),
    ("unixsocket", ""),
    ("notify-keyspace-events", ""),
    ("list-max-listpack-size", "128"),
    ("hash-max-listpack-entries", "512"),
    ("hash-max-listpack-value", "64"),
];

/// Why a parameter cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no parameter '{0}'")]
    Unknown(String),
    #[error("parameter '{name}' cannot be '{value}': {cause}")]
    Value { name: String, value: String, cause: String },
    #[error("the configuration file cannot be read: {0}")]
    File(String),
}

pub fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name))
}

impl Config {
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let parameter = parameter(name).ok_or_else(|| ConfigError::Unknown(name.to_owned()))?;
        (parameter.set)(self, value).map_err(|cause| ConfigError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            cause,
        })
    }

    /// Applies the variables `ENGRAMDB_<NAME>`, the name in capitals with underscores.
    pub fn apply_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let variables: BTreeMap<String, String> = variables.collect();
        for parameter in PARAMETERS {
            let variable = format!("ENGRAMDB_{}", parameter.name.replace('-', "_").to_uppercase());
            if let Some(value) = variables.get(&variable) {
                self.set(parameter.name, value)?;
            }
        }
        Ok(())
    }

    /// Applies a file's text: TOML, or else lines of a name and its value.
    pub fn apply_file(&mut self, text: &str) -> Result<(), ConfigError> {
        let pairs = match toml::from_str::<BTreeMap<String, FileValue>>(text) {
            Ok(table) => table.into_iter().map(|(name, value)| (name, value.text())).collect(),
            Err(error) if text.lines().any(is_assignment) => {
                return Err(ConfigError::File(error.to_string()));
            }
            Err(_) => redis_lines(text),
        };
        pairs.iter().try_for_each(|(name, value)| self.set(name, value))
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

fn is_assignment(line: &str) -> bool {
    let line = line.trim_start();
    !line.starts_with('#') && line.split_once('=').is_some_and(|(name, _)| !name.trim().contains(' '))
}

fn redis_lines(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once(char::is_whitespace).unwrap_or((line, "")));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().trim_matches('"').to_owned())).collect()
}

/// A value of the TOML file.
#[derive(Deserialize)]
#[serde(untagged)]
enum FileValue {
    Flag(bool),
    Number(i64),
    Text(String),
    Words(Vec<String>),
}

impl FileValue {
    fn text(self) -> String {
        match self {
            FileValue::Flag(flag) => form::yes_no::show(&flag),
            FileValue::Number(number) => number.to_string(),
            FileValue::Text(text) => text,
            FileValue::Words(words) => words.join(" "),
        }
    }
}

/// The forms that values have as text. Errors are in Redis's words: CONFIG SET shows them.
mod form {
    pub mod number {
        use std::fmt::Display;
        use std::str::FromStr;

        pub fn show(value: &impl Display) -> String {
            value.to_string()
        }
        pub fn read<T: FromStr>(text: &str) -> Result<T, String> {
            text.parse().map_err(|_| "argument couldn't be parsed into an integer".to_owned())
        }
    }

    pub mod text {
        pub fn show(value: &str) -> String {
            value.to_owned()
        }
        pub fn read(text: &str) -> Result<String, String> {
            Ok(text.to_owned())
        }
    }

    pub mod path {
        use std::path::{Path, PathBuf};

        pub fn show(value: &Path) -> String {
            value.display().to_string()
        }
        pub fn read(text: &str) -> Result<PathBuf, String> {
            Ok(PathBuf::from(text))
        }
    }

    pub mod words {
        pub fn show(value: &[String]) -> String {
            value.join(" ")
        }
        pub fn read(text: &str) -> Result<Vec<String>, String> {
            Ok(text.split_whitespace().map(str::to_owned).collect())
        }
    }

    pub mod yes_no {
        pub fn show(value: &bool) -> String {
            if *value { "yes" } else { "no" }.to_owned()
        }
        pub fn read(text: &str) -> Result<bool, String> {
            match text.to_lowercase().as_str() {
                "yes" | "true" | "1" => Ok(true),
                "no" | "false" | "0" => Ok(false),
                _ => Err("argument must be 'yes' or 'no'".to_owned()),
            }
        }
    }

    pub mod bytes {
        use std::fmt::Display;

        pub fn show(value: &impl Display) -> String {
            value.to_string()
        }

        /// A number with an optional unit: k, m, g are powers of 1000, kb, mb, gb of 1024.
        pub fn read<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
            let lower = text.to_lowercase();
            let digits = lower.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(lower.len());
            let unit = match &lower[digits..] {
                "" | "b" => Some(1),
                "k" => Some(1000),
                "kb" => Some(1 << 10),
                "m" => Some(1_000_000),
                "mb" => Some(1 << 20),
                "g" => Some(1_000_000_000),
                "gb" => Some(1u64 << 30),
                _ => None,
            };
            let number = lower[..digits].parse::<u64>().ok();
            let bytes = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
            let bytes = bytes.and_then(|bytes| T::try_from(bytes).ok());
            bytes.ok_or_else(|| "argument must be a memory value".to_owned())
        }
    }

    /// Redis has classes of clients with a hard limit, a soft one and its seconds; here the hard limit of `normal`
    /// counts.
    pub mod output_limit {
        pub fn show(value: &usize) -> String {
            format!("normal {value} 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60")
        }
        pub fn read(text: &str) -> Result<usize, String> {
            let words: Vec<&str> = text.split_whitespace().collect();
            if !words.len().is_multiple_of(4) {
                return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
            }
            let normal = words.chunks(4).find(|class| class[0].eq_ignore_ascii_case("normal"));
            let hard = normal.map_or(Ok(0), |class| super::bytes::read(class[1]))?;
            Ok(if hard == 0 { usize::MAX } else { hard })
        }
    }

    pub mod log_level {
        pub fn show(value: &str) -> String {
            value.to_owned()
        }
        pub fn read(text: &str) -> Result<String, String> {
            one_of(text, &["debug", "verbose", "notice", "warning", "nothing"])
        }
        pub fn one_of(text: &str, choices: &[&str]) -> Result<String, String> {
            let text = text.to_lowercase();
            if choices.contains(&text.as_str()) {
                return Ok(text);
            }
            Err(format!("argument(s) must be one of the following: {}", choices.join(", ")))
        }
    }

    pub mod log_format {
        pub fn show(value: &str) -> String {
            value.to_owned()
        }
        pub fn read(text: &str) -> Result<String, String> {
            super::log_level::one_of(text, &["text", "json"])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_reads_what_it_shows() {
        for parameter in PARAMETERS {
            let mut config = Config::default();
            let shown = (parameter.get)(&config);
            assert_eq!((parameter.set)(&mut config, &shown), Ok(()), "{}", parameter.name);
            assert_eq!((parameter.get)(&config), shown, "{}", parameter.name);
        }
    }

    #[test]
    fn file_and_environment_say_the_same() {
        let mut config = Config::default();
        config.apply_file("port = 7000\nprotected-mode = false\nbind = [\"::1\"]").expect("TOML");
        assert_eq!((config.port, config.protected_mode, config.is_loopback_only()), (7000, false, true));
        config
            .apply_file("# as in redis.conf\nport 7001\nproto-max-bulk-len 1mb\nrequirepass \"a b\"")
            .expect("lines");
        assert_eq!((config.port, config.bulk_bytes_max, &*config.password), (7001, 1 << 20, "a b"));
        let variables = [("ENGRAMDB_IO_THREADS".to_owned(), "3".to_owned())];
        config.apply_environment(variables.into_iter()).expect("a number");
        assert_eq!(config.threads, 3);
        assert!(matches!(config.apply_file("nope 1"), Err(ConfigError::Unknown(_))));
        assert!(matches!(config.apply_file("port = ["), Err(ConfigError::File(_))));
        assert!(matches!(config.set("port", "x"), Err(ConfigError::Value { .. })));
    }
}
