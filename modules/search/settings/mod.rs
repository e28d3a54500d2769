//! FT.CONFIG, and the search module's part of CONFIG: options that clients read, with their values here. A
//! set value lasts until the process ends, as in RediSearch. Options of RediSearch's own machinery are
//! constants of FT.CONFIG (constants.rs).

mod constants;

use self::constants::{CONSTANTS, Constant};
use crate::error::{self, ErrorStyle, Kind as Wrong, SearchError};
use crate::query::QueryDefaults;
use crate::query::scorer::{SCORER_NAMES, Scorer, TANH_FACTOR};
use crate::vectors::live::{BOUND_DEFAULT, EVERY_DEFAULT};
use crate::vectors::load::Load;
use crate::words::whole_number;
use engramdb_engine::command::{Args, Reply};
use engramdb_engine::types::parse_double;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The values that can be set: numbers, and for words their index in the setting's list.
#[derive(Debug)]
pub struct Settings {
    timeout_ms: AtomicU64,
    default_dialect: AtomicU64,
    on_timeout: AtomicU64,
    partial_results: AtomicU64,
    error_style: AtomicU64,
    resp3_format: AtomicU64,
    live_recall_every: AtomicU64,
    aggregate_memory: AtomicU64,
    cursor_memory: AtomicU64,
    cursor_max_idle_ms: AtomicU64,
    cursor_read_size: AtomicU64,
    index_cursors_max: AtomicU64,
    min_prefix: AtomicU64,
    expansions_max: AtomicU64,
    search_results_max: AtomicU64,
    aggregate_results_max: AtomicU64,
    default_scorer: AtomicU64,
    tanh_factor: AtomicU64,
    vector_resize_bytes_max: AtomicU64,
    load: Arc<Load>,
    /// Bits of a double.
    live_recall_bound: AtomicU64,
}

impl Default for Settings {
    fn default() -> Settings {
        let first = AtomicU64::default;
        Settings {
            timeout_ms: AtomicU64::new(500),
            default_dialect: AtomicU64::new(2),
            on_timeout: first(),
            partial_results: first(),
            error_style: first(),
            resp3_format: first(),
            live_recall_every: AtomicU64::new(EVERY_DEFAULT),
            aggregate_memory: AtomicU64::new(256 << 20),
            cursor_memory: AtomicU64::new(256 << 20),
            cursor_max_idle_ms: AtomicU64::new(300_000),
            cursor_read_size: AtomicU64::new(1000),
            index_cursors_max: AtomicU64::new(128),
            min_prefix: AtomicU64::new(1),
            expansions_max: AtomicU64::new(u64::MAX),
            search_results_max: AtomicU64::new(1_000_000),
            aggregate_results_max: AtomicU64::new(u64::MAX),
            default_scorer: first(),
            tanh_factor: AtomicU64::new(u64::from(TANH_FACTOR)),
            vector_resize_bytes_max: first(),
            load: Arc::default(),
            live_recall_bound: AtomicU64::new(BOUND_DEFAULT.to_bits()),
        }
    }
}

/// The shape of replies in RESP3, which has maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Maps, except for clients that are known to read only flat replies.
    Auto,
    Map,
    Flat,
}

impl Settings {
    /// The time limit of searches without TIMEOUT; `None` for no limit.
    pub fn timeout(&self) -> Option<Duration> {
        let milliseconds = self.timeout_ms.load(Ordering::Relaxed);
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }

    /// What holds for queries that do not say otherwise.
    pub fn query_defaults(&self) -> QueryDefaults {
        QueryDefaults {
            dialect: self.default_dialect.load(Ordering::Relaxed) as u32,
            prefix_bytes_min: self.min_prefix.load(Ordering::Relaxed) as usize,
            scorer: Scorer::ALL[self.default_scorer.load(Ordering::Relaxed) as usize],
            tanh_factor: self.tanh_factor.load(Ordering::Relaxed) as u32,
            rows_max: self.search_results_max(),
            expansions_max: self.expansions_max.load(Ordering::Relaxed) as usize,
        }
    }

    /// The most rows of a page of FT.SEARCH, and the largest offset.
    pub fn search_results_max(&self) -> usize {
        self.search_results_max.load(Ordering::Relaxed) as usize
    }

    /// The most rows of FT.AGGREGATE; `usize::MAX` for no limit.
    pub fn aggregate_results_max(&self) -> usize {
        self.aggregate_results_max.load(Ordering::Relaxed) as usize
    }

    /// The most cursors of an index.
    pub fn index_cursors_max(&self) -> usize {
        self.index_cursors_max.load(Ordering::Relaxed) as usize
    }

    /// The most bytes that the first vectors of a field may be declared to take; 0 to derive it from the
    /// memory.
    pub fn vector_resize_bytes_max(&self) -> u64 {
        self.vector_resize_bytes_max.load(Ordering::Relaxed)
    }

    /// What writers wait for.
    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// True if a search that runs out of time returns an error; otherwise it returns the rows found so far.
    pub fn fails_on_timeout(&self) -> bool {
        self.on_timeout.load(Ordering::Relaxed) == 1
    }

    /// True if searches of an incomplete index return the rows that it has.
    pub fn partial_results(&self) -> bool {
        self.partial_results.load(Ordering::Relaxed) == 1
    }

    pub fn error_style(&self) -> ErrorStyle {
        if self.error_style.load(Ordering::Relaxed) == 1 { ErrorStyle::Codes } else { ErrorStyle::Plain }
    }

    pub fn resp3_format(&self) -> Format {
        match self.resp3_format.load(Ordering::Relaxed) {
            0 => Format::Auto,
            1 => Format::Map,
            _ => Format::Flat,
        }
    }

    /// One in this many searches over graphs is audited; 0 for none.
    pub fn live_recall_every(&self) -> u64 {
        self.live_recall_every.load(Ordering::Relaxed)
    }

    /// The most bytes that one aggregation may take.
    pub fn aggregate_memory(&self) -> usize {
        self.aggregate_memory.load(Ordering::Relaxed) as usize
    }

    /// The most bytes that all idle cursors may take.
    pub fn cursor_memory(&self) -> usize {
        self.cursor_memory.load(Ordering::Relaxed) as usize
    }

    /// The longest time between two reads of a cursor.
    pub fn cursor_max_idle(&self) -> Duration {
        Duration::from_millis(self.cursor_max_idle_ms.load(Ordering::Relaxed))
    }

    /// The rows of a cursor's read without COUNT.
    pub fn cursor_read_size(&self) -> usize {
        self.cursor_read_size.load(Ordering::Relaxed).max(1) as usize
    }

    /// The live recall below which there is a warning.
    pub fn live_recall_bound(&self) -> f64 {
        f64::from_bits(self.live_recall_bound.load(Ordering::Relaxed))
    }
}

struct Setting {
    name: &'static str,
    /// The name in CONFIG.
    config_name: &'static str,
    description: &'static str,
    kind: Kind,
}

enum Kind {
    Words(&'static [&'static str], fn(&Settings) -> &AtomicU64),
    /// A whole number up to this one; the text is added to the description in `--help`.
    Count(u64, &'static str, fn(&Settings) -> &AtomicU64),
    /// A whole number from one to another.
    Between(u64, u64, fn(&Settings) -> &AtomicU64),
    /// A whole number from this one on; a negative one, which is shown as `unlimited`, for no limit.
    Limit(u64, fn(&Settings) -> &AtomicU64),
    /// From 0 to 1, as the bits of a double.
    Share(fn(&Settings) -> &AtomicU64),
}

/// Descriptions are RediSearch's, where it has the setting.
const SETTINGS: &[Setting] = &[
    Setting {
        name: "TIMEOUT",
        config_name: "search-timeout",
        description: "Query (search) timeout",
        kind: Kind::Count(u64::MAX, ", in milliseconds; 0 for none", |settings| &settings.timeout_ms),
    },
    Setting {
        name: "DEFAULT_DIALECT",
        config_name: "search-default-dialect",
        description: "Set RediSearch default dialect version throught the lifetime of the server.",
        kind: Kind::Between(1, 4, |settings| &settings.default_dialect),
    },
    Setting {
        name: "MAXSEARCHRESULTS",
        config_name: "search-max-search-results",
        description: "Maximum number of results from ft.search command",
        kind: Kind::Limit(0, |settings| &settings.search_results_max),
    },
    Setting {
        name: "MAXAGGREGATERESULTS",
        config_name: "search-max-aggregate-results",
        description: "Maximum number of results from ft.aggregate command",
        kind: Kind::Limit(0, |settings| &settings.aggregate_results_max),
    },
    Setting {
        name: "ON_TIMEOUT",
        config_name: "search-on-timeout",
        description: "Action to perform when search timeout is exceeded (choose RETURN or FAIL)",
        kind: Kind::Words(&["return", "fail"], |settings| &settings.on_timeout),
    },
    Setting {
        name: "MINPREFIX",
        config_name: "search-min-prefix",
        description: "Set the minimum prefix for expansions (`*`)",
        kind: Kind::Between(1, i64::MAX as u64, |settings| &settings.min_prefix),
    },
    Setting {
        name: "MAXPREFIXEXPANSIONS",
        config_name: "search-max-prefix-expansions",
        description: "Maximum prefix expansions to be used in a query",
        kind: Kind::Limit(1, |settings| &settings.expansions_max),
    },
    Setting {
        name: "DEFAULT_SCORER",
        config_name: "search-default-scorer",
        description: "Default scorer to use when no scorer is specified",
        kind: Kind::Words(SCORER_NAMES, |settings| &settings.default_scorer),
    },
    Setting {
        name: "BM25STD_TANH_FACTOR",
        config_name: "search-bm25std-tanh-factor",
        description: "BM25STD.TANH scorer's stretch factor",
        kind: Kind::Between(1, 10_000, |settings| &settings.tanh_factor),
    },
    Setting {
        name: "VSS_MAX_RESIZE",
        config_name: "search-vss-max-resize",
        description: "Set RediSearch vector indexes max resize (in bytes).",
        kind: Kind::Count(i64::MAX as u64, "; 0 for a tenth of the memory", |settings| {
            &settings.vector_resize_bytes_max
        }),
    },
    Setting {
        name: "TIERED_HNSW_BUFFER_LIMIT",
        config_name: "search-tiered-hnsw-buffer-limit",
        description: "The mutations of a vector field that may wait for its graph before writers wait",
        kind: Kind::Between(1, 1 << 20, |settings| settings.load.tail_max_place()),
    },
    Setting {
        name: "INDEX_CURSOR_LIMIT",
        config_name: "search-index-cursor-limit",
        description: "Max number of cursors for a given index that can be opened inside of a shard. Default is 128",
        // Each new cursor looks at the others.
        kind: Kind::Between(0, 1024, |settings| &settings.index_cursors_max),
    },
    Setting {
        name: "PARTIAL_RESULTS",
        config_name: "search-partial-results",
        description: "Whether an index that is still being built answers with what it has",
        kind: Kind::Words(&["no", "yes"], |settings| &settings.partial_results),
    },
    Setting {
        name: "ERROR_STYLE",
        config_name: "search-error-style",
        description: "Error texts of RediSearch up to 8.6 (plain), or with code words as from 8.8 on (codes)",
        kind: Kind::Words(&["plain", "codes"], |settings| &settings.error_style),
    },
    Setting {
        name: "RESP3_FORMAT",
        config_name: "search-resp3-format",
        description: "Replies in RESP3: maps, flat as in RESP2, or flat for valkey-glide only (auto)",
        kind: Kind::Words(&["auto", "map", "flat"], |settings| &settings.resp3_format),
    },
    Setting {
        name: "AGGREGATE_MEMORY",
        config_name: "search-aggregate-memory",
        description: "The most memory of one FT.AGGREGATE, for groups, sorted rows and its reply",
        kind: Kind::Count(u64::MAX, ", in bytes", |settings| &settings.aggregate_memory),
    },
    Setting {
        name: "CURSOR_MEMORY",
        config_name: "search-cursor-memory",
        description: "The most memory of all cursors that wait for their next read",
        kind: Kind::Count(u64::MAX, ", in bytes", |settings| &settings.cursor_memory),
    },
    Setting {
        name: "CURSOR_MAX_IDLE",
        config_name: "search-cursor-max-idle",
        description: "max idle time allowed to be set for cursor, setting it high might cause high memory consumption.",
        kind: Kind::Between(1, u32::MAX as u64, |settings| &settings.cursor_max_idle_ms),
    },
    Setting {
        name: "CURSOR_READ_SIZE",
        config_name: "search-cursor-read-size",
        description: "The rows of a cursor's read without COUNT",
        kind: Kind::Between(1, u32::MAX as u64, |settings| &settings.cursor_read_size),
    },
    Setting {
        name: "LIVE_RECALL_EVERY",
        config_name: "search-live-recall-every",
        description: "Of how many searches over graphs one is answered exactly as well, to know their recall; 0 for none",
        kind: Kind::Count(1_000_000_000, "", |settings| &settings.live_recall_every),
    },
    Setting {
        name: "LIVE_RECALL_BOUND",
        config_name: "search-live-recall-bound",
        description: "The live recall below which there is a warning",
        kind: Kind::Share(|settings| &settings.live_recall_bound),
    },
];

impl Setting {
    fn value(&self, settings: &Settings) -> String {
        match self.kind {
            Kind::Words(words, place) => words[place(settings).load(Ordering::Relaxed) as usize].to_owned(),
            Kind::Count(_, _, place) | Kind::Between(_, _, place) => {
                place(settings).load(Ordering::Relaxed).to_string()
            }
            Kind::Limit(_, place) => match place(settings).load(Ordering::Relaxed) {
                u64::MAX => "unlimited".to_owned(),
                most => most.to_string(),
            },
            Kind::Share(bits) => f64::from_bits(bits(settings).load(Ordering::Relaxed)).to_string(),
        }
    }

    fn set(&self, settings: &Settings, value: &[u8]) -> Result<(), SearchError> {
        let (place, number) = self.read(settings, value)?;
        place.store(number, Ordering::Relaxed);
        Ok(())
    }

    /// The number for a value, and where to store it.
    fn read<'s>(&self, settings: &'s Settings, value: &[u8]) -> Result<(&'s AtomicU64, u64), SearchError> {
        match self.kind {
            Kind::Words(words, place) => {
                let word = words.iter().position(|word| value.eq_ignore_ascii_case(word.as_bytes()));
                let word = word.ok_or_else(|| Wrong::SettingValue.with([self.name.into()]))?;
                Ok((place(settings), word as u64))
            }
            Kind::Count(most, _, place) => Ok((place(settings), whole_between(0, most, value)?)),
            Kind::Between(_, most, _) if self.name == "DEFAULT_DIALECT" && is_above(most, value) => {
                Err(unreadable("Default dialect version cannot be higher than 4"))
            }
            Kind::Between(least, most, place) => Ok((place(settings), whole_between(least, most, value)?)),
            Kind::Limit(least, place) => {
                let most: i64 = match value {
                    b"unlimited" => -1,
                    _ => whole_number(value).ok_or_else(|| unreadable(error::CONVERSION))?,
                };
                let most = u64::try_from(most).unwrap_or(u64::MAX);
                if most < least {
                    return Err(unreadable(error::BOUNDS));
                }
                Ok((place(settings), most))
            }
            Kind::Share(bits) => {
                let share = parse_double(value).ok_or_else(|| unreadable(error::CONVERSION))?;
                if !(0.0..=1.0).contains(&share) {
                    return Err(unreadable(error::BOUNDS));
                }
                Ok((bits(settings), f64::to_bits(share)))
            }
        }
    }
}

/// A whole number from `least` to `most`.
fn whole_between(least: u64, most: u64, value: &[u8]) -> Result<u64, SearchError> {
    let number: i64 = whole_number(value).ok_or_else(|| unreadable(error::CONVERSION))?;
    let number = u64::try_from(number).ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| unreadable(error::BOUNDS))
}

fn is_above(most: u64, value: &[u8]) -> bool {
    whole_number::<i64>(value).is_some_and(|number| number > most as i64)
}

/// The error of a wrong value.
fn unreadable(cause: &str) -> SearchError {
    Wrong::SettingNumber.with([cause.into()])
}

/// All settings with their names in CONFIG.
pub fn all(settings: &Settings) -> Vec<(&'static str, String)> {
    SETTINGS.iter().map(|setting| (setting.config_name, setting.value(settings))).collect()
}

/// Sets, or only checks, the setting of this name in CONFIG; see `Module::set_setting`.
pub fn set_by_config(
    settings: &Settings,
    name: &str,
    value: &str,
    is_trial: bool,
) -> Option<Result<(), String>> {
    let setting = SETTINGS.iter().find(|setting| setting.config_name == name)?;
    let value = value.as_bytes();
    let set = if is_trial { setting.read(settings, value).map(|_| ()) } else { setting.set(settings, value) };
    Some(set.map_err(|error| error.in_style(ErrorStyle::Plain).to_string()))
}

/// The description of a setting, for `--help`.
#[derive(Clone, Debug)]
pub struct SettingHelp {
    /// The name in CONFIG.
    pub name: &'static str,
    /// The placeholder of a value in the help text.
    pub placeholder: &'static str,
    pub text: String,
    pub default: String,
}

/// All settings, for `--help`.
pub fn setting_help() -> Vec<SettingHelp> {
    let defaults = Settings::default();
    let help = |setting: &Setting| {
        let (placeholder, addition) = match setting.kind {
            Kind::Words(words, _) => ("WORD", format!(" [{}]", words.join(", "))),
            Kind::Count(_, addition, _) => ("NUMBER", addition.to_owned()),
            Kind::Limit(..) => ("NUMBER", "; -1 for any number".to_owned()),
            Kind::Between(least, most, _) => ("NUMBER", format!(", from {least} to {most}")),
            Kind::Share(_) => ("SHARE", ", from 0 to 1".to_owned()),
        };
        SettingHelp {
            name: setting.config_name,
            placeholder,
            text: format!("{}{addition}", setting.description),
            default: setting.value(&defaults),
        }
    };
    SETTINGS.iter().map(help).collect()
}

/// Checks whether the setting of this name in CONFIG could have this value; `None` if there is no such
/// setting.
pub fn try_setting(name: &str, value: &str) -> Option<Result<(), String>> {
    set_by_config(&Settings::default(), name, value, true)
}

/// FT.CONFIG.
pub fn config(settings: &Settings, args: Args<'_>, reply: &mut dyn Reply) -> Result<(), SearchError> {
    // Clients use the older names of the options, and those of CONFIG.
    let wanted = args.word(2);
    let is_wanted = |name: &str, config_name: &str| {
        let short = config_name.trim_start_matches("search-");
        wanted == b"*" || [name, config_name, short].iter().any(|name| args.is(2, name))
    };
    let is_known = |setting: &&Setting| {
        is_wanted(setting.name, setting.config_name)
            || args.is(2, "MAXEXPANSIONS") && setting.name == "MAXPREFIXEXPANSIONS"
    };
    let known: Vec<&Setting> = SETTINGS.iter().filter(is_known).collect();
    let constants: Vec<&Constant> =
        CONSTANTS.iter().filter(|constant| is_wanted(constant.name, constant.config_name)).collect();
    if args.is(1, "GET") || args.is(1, "HELP") {
        tell(settings, &known, &constants, args.is(1, "HELP"), reply);
    } else if !args.is(1, "SET") {
        // In RediSearch these two are not error replies.
        reply.simple("No such configuration action");
    } else if args.len() > 4 {
        reply.simple("EXCESSARGS");
    } else if let ([], [constant, ..]) = (&known[..], &constants[..]) {
        constant.set(args.get(3).ok_or_else(|| unreadable(error::NO_VALUE))?)?;
        reply.ok();
    } else {
        let setting = known.first().ok_or(Wrong::SettingUnknown.error())?;
        let value = args.get(3).ok_or_else(|| unreadable(error::NO_VALUE))?;
        setting.set(settings, value)?;
        reply.ok();
    }
    Ok(())
}

/// Writes names and values: a map in RESP3, an array of pairs (not a flat list) in RESP2.
fn tell(
    settings: &Settings,
    known: &[&Setting],
    constants: &[&Constant],
    with_descriptions: bool,
    reply: &mut dyn Reply,
) {
    let is_map = reply.is_resp3();
    let count = known.len() + constants.len();
    if is_map {
        reply.map(count);
    } else {
        reply.array(count);
    }
    let mut write = |name: &'static str, description: &'static str, value: Option<&str>| {
        if !is_map {
            reply.array(if with_descriptions { 5 } else { 2 });
        }
        reply.simple(name);
        if with_descriptions {
            if is_map {
                reply.map(2);
            }
            reply.simple("Description");
            reply.simple(description);
            reply.simple("Value");
        }
        match value {
            Some(value) => reply.bulk(value.as_bytes()),
            None => reply.null(),
        }
    };
    for setting in known {
        write(setting.name, setting.description, Some(&setting.value(settings)));
    }
    for constant in constants {
        write(constant.name, constant.description, constant.value);
    }
}
