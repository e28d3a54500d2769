//! A configuration file's text as entries: lines of redis.conf, or TOML.
//!
//! A file is TOML if its first line that says anything is `name = value` or a table's heading. Entries know their bytes
//! in the text, so that CONFIG REWRITE changes only what it must.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;

/// A parameter as a file gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub words: Vec<String>,
    /// Counted from 1.
    pub line: usize,
    /// Where it is in the text: the line without its end in redis.conf, the value in TOML.
    pub bytes: Range<usize>,
}

/// What a file says, in the order of its lines.
#[derive(Debug, Default)]
pub struct Parsed {
    pub is_toml: bool,
    pub entries: Vec<Entry>,
    /// Lines that cannot be read, and why.
    pub problems: Vec<(usize, String)>,
}

pub fn parse(text: &str) -> Parsed {
    if is_toml(text) { toml_entries(text) } else { redis_entries(text) }
}

fn is_toml(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        let is_name = |name: &str| {
            let name = name.trim_end();
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_\"'".contains(&byte))
        };
        line.starts_with('[') || line.split_once('=').is_some_and(|(name, _)| is_name(name))
    })
}

fn redis_entries(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut start = 0;
    for (index, line) in text.split('\n').enumerate() {
        let bytes = start..start + line.len();
        start = bytes.end + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match super::line::split(line) {
            Ok(mut words) if !words.is_empty() => {
                let name = words.remove(0);
                parsed.entries.push(Entry { name, words, line: index + 1, bytes });
            }
            Ok(_) => {}
            Err(cause) => parsed.problems.push((index + 1, cause.to_owned())),
        }
    }
    parsed
}

/// A value of a TOML file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Flag(bool),
    Number(i64),
    Text(String),
    Words(Vec<String>),
    Other(IgnoredAny),
}

fn toml_entries(text: &str) -> Parsed {
    let mut parsed = Parsed { is_toml: true, ..Parsed::default() };
    let line = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let table: BTreeMap<Spanned<String>, Spanned<Value>> = match toml::from_str(text) {
        Ok(table) => table,
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            parsed.problems.push((line(offset), error.message().to_owned()));
            return parsed;
        }
    };
    for (name, value) in table {
        let (at, bytes) = (line(name.span().start), value.span());
        let words = match value.into_inner() {
            Value::Flag(flag) => vec![if flag { "yes" } else { "no" }.to_owned()],
            Value::Number(number) => vec![number.to_string()],
            Value::Text(text) => vec![text],
            Value::Words(words) => words,
            Value::Other(_) => {
                let cause =
                    format!("{}: give text, a number, true, false, or a list of texts", name.get_ref());
                parsed.problems.push((at, cause));
                continue;
            }
        };
        parsed.entries.push(Entry { name: name.into_inner(), words, line: at, bytes });
    }
    parsed.entries.sort_by_key(|entry| entry.bytes.start);
    parsed
}
