//! FT.CONFIG: options of the search module that clients ask for, with what holds here; two of them can be set.
//!
//! What is set holds until the process ends, as in RediSearch.

use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use std::sync::atomic::{AtomicBool, Ordering};

/// What can be set.
#[derive(Debug, Default)]
pub struct Settings {
    fails_on_timeout: AtomicBool,
    partial_results: AtomicBool,
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
}

struct Setting {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    Fixed(&'static str),
    /// The words for false and true.
    Switch([&'static str; 2], fn(&Settings) -> &AtomicBool),
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
];

impl Setting {
    fn value(&self, settings: &Settings) -> &'static str {
        match self.kind {
            Kind::Fixed(value) => value,
            Kind::Switch(words, flag) => words[usize::from(flag(settings).load(Ordering::Relaxed))],
        }
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
                let place = place.ok_or_else(|| {
                    CommandError::new(format!("SEARCH_VALUE_BAD Invalid {} value", self.name))
                })?;
                flag(settings).store(place == 1, Ordering::Relaxed);
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
