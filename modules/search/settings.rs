//! FT.CONFIG: options of the search module that clients ask for, with what holds here; some of them can be set.
//!
//! What is set holds until the process ends, as in RediSearch.

use crate::live::{BOUND_DEFAULT, EVERY_DEFAULT};
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use std::borrow::Cow;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What can be set.
#[derive(Debug)]
pub struct Settings {
    fails_on_timeout: AtomicBool,
    partial_results: AtomicBool,
    live_recall_every: AtomicU64,
    /// Bits of a double.
    live_recall_bound: AtomicU64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            fails_on_timeout: AtomicBool::new(false),
            partial_results: AtomicBool::new(false),
            live_recall_every: AtomicU64::new(EVERY_DEFAULT),
            live_recall_bound: AtomicU64::new(BOUND_DEFAULT.to_bits()),
        }
    }
}

impl Settings {
    /// Whether a search that runs out of time is answered with an error; otherwise with the rows found by then.
    pub fn fails_on_timeout(&self) -> bool {
        self.fails_on_timeout.load(Ordering::Relaxed)
    }

    /// Whether an index that is still being built answers with what it has.
    pub fn partial_results(&self) -> bool {
        self.partial_results.load(Ordering::Relaxed)
    }

    /// Of how many searches over graphs one is audited; 0 for none.
    pub fn live_recall_every(&self) -> u64 {
        self.live_recall_every.load(Ordering::Relaxed)
    }

    /// The live recall below which there is a warning.
    pub fn live_recall_bound(&self) -> f64 {
        f64::from_bits(self.live_recall_bound.load(Ordering::Relaxed))
    }
}

struct Setting {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    Fixed(&'static str),
    /// The words for false and true.
    Switch([&'static str; 2], fn(&Settings) -> &AtomicBool),
    /// A whole number up to this one.
    Count(u64, fn(&Settings) -> &AtomicU64),
    /// From 0 to 1, as the bits of a double.
    Share(fn(&Settings) -> &AtomicU64),
}

const fn fixed(name: &'static str, value: &'static str) -> Setting {
    Setting { name, kind: Kind::Fixed(value) }
}

const SETTINGS: &[Setting] = &[
    fixed("TIMEOUT", "500"),
    fixed("DEFAULT_DIALECT", "2"),
    fixed("MAXSEARCHRESULTS", "1000000"),
    fixed("MAXAGGREGATERESULTS", "1000000"),
    Setting {
        name: "ON_TIMEOUT",
        kind: Kind::Switch(["return", "fail"], |settings| &settings.fails_on_timeout),
    },
    fixed("MINPREFIX", "1"),
    Setting {
        name: "PARTIAL_RESULTS",
        kind: Kind::Switch(["no", "yes"], |settings| &settings.partial_results),
    },
    Setting {
        name: "LIVE_RECALL_EVERY",
        kind: Kind::Count(1_000_000_000, |settings| &settings.live_recall_every),
    },
    Setting { name: "LIVE_RECALL_BOUND", kind: Kind::Share(|settings| &settings.live_recall_bound) },
];

impl Setting {
    fn value(&self, settings: &Settings) -> Cow<'static, str> {
        match self.kind {
            Kind::Fixed(value) => value.into(),
            Kind::Switch(words, flag) => words[usize::from(flag(settings).load(Ordering::Relaxed))].into(),
            Kind::Count(_, count) => count(settings).load(Ordering::Relaxed).to_string().into(),
            Kind::Share(bits) => f64::from_bits(bits(settings).load(Ordering::Relaxed)).to_string().into(),
        }
    }

    fn number<N: FromStr>(&self, value: &[u8], is_valid: impl Fn(&N) -> bool) -> Result<N, CommandError> {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).filter(is_valid);
        number.ok_or_else(|| self.invalid())
    }

    fn invalid(&self) -> CommandError {
        CommandError::new(format!("SEARCH_VALUE_BAD Invalid {} value", self.name))
    }

    fn set(&self, settings: &Settings, value: &[u8]) -> Outcome {
        match self.kind {
            Kind::Fixed(fixed) if value.eq_ignore_ascii_case(fixed.as_bytes()) => Ok(()),
            Kind::Fixed(fixed) => Err(CommandError::new(format!(
                "SEARCH_UNSUPPORTED {} is always {fixed} in this server",
                self.name
            ))),
            Kind::Switch(words, flag) => {
                let place = words.iter().position(|word| value.eq_ignore_ascii_case(word.as_bytes()));
                let place = place.ok_or_else(|| self.invalid())?;
                flag(settings).store(place == 1, Ordering::Relaxed);
                Ok(())
            }
            Kind::Count(most, count) => {
                count(settings).store(self.number(value, |&number| number <= most)?, Ordering::Relaxed);
                Ok(())
            }
            Kind::Share(bits) => {
                let share = self.number(value, |share| (0.0..=1.0).contains(share))?;
                bits(settings).store(f64::to_bits(share), Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// FT.CONFIG.
pub fn config(settings: &Settings, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    // Clients know the options by their older names, and by those of CONFIG: search-on-timeout.
    let wanted = args.word(2).to_ascii_uppercase();
    let wanted = wanted.strip_prefix(b"SEARCH-").unwrap_or(&wanted);
    let is_wanted =
        |name: &str| name.bytes().eq(wanted.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }));
    let known: Vec<&Setting> =
        SETTINGS.iter().filter(|setting| wanted == b"*" || is_wanted(setting.name)).collect();
    if args.is(1, "GET") {
        // A map where the protocol has maps, and pairs, not a flat list, where it has none.
        let is_map = reply.is_resp3();
        if is_map {
            reply.map(known.len())
        } else {
            reply.array(known.len())
        }
        known.iter().for_each(|setting| {
            if !is_map {
                reply.array(2);
            }
            reply.bulk(setting.name.as_bytes());
            reply.bulk(setting.value(settings).as_bytes());
        });
        return Ok(());
    }
    if args.is(1, "SET") && args.len() == 4 {
        let setting = known.first().ok_or(CommandError::of("SEARCH_OPTION_INVALID No such option"))?;
        setting.set(settings, args[3])?;
        reply.ok();
        return Ok(());
    }
    Err(CommandError::SYNTAX)
}
