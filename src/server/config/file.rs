//! Parses a configuration file, which is redis.conf or TOML, into entries.
//!
//! A file is TOML if its first line that is neither empty nor a comment is `name = value` or a table's
//! heading. Entries have their range in the text, so that CONFIG REWRITE changes only what it must. The text
//! is bytes: comments may have other encodings than UTF-8, values must be UTF-8.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;

/// A parameter in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    pub words: Vec<String>,
    /// Counted from 1.
    pub line: usize,
    /// Its range in the text: in redis.conf the line without its end, in TOML the value.
    pub bytes: Range<usize>,
}

/// The content of a file, in the order of its lines.
#[derive(Debug, Default)]
pub struct ParsedFile {
    pub is_toml: bool,
    pub entries: Vec<ConfigEntry>,
    /// Numbers of lines that cannot be parsed, with error texts.
    pub problems: Vec<(usize, String)>,
}

/// The mark that some editors put at the beginning of a UTF-8 file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const NOT_UTF8: &str = "it is not UTF-8";

pub fn parse(text: &[u8]) -> ParsedFile {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        let problems = vec![(1, "the file is UTF-16: save it as UTF-8".to_owned())];
        return ParsedFile { problems, ..ParsedFile::default() };
    }
    let start = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let body = &text[start..];
    let mut parsed = if is_toml(body) { toml_entries(body) } else { redis_entries(body) };
    for entry in &mut parsed.entries {
        entry.bytes = entry.bytes.start + start..entry.bytes.end + start;
    }
    parsed
}

fn is_comment(line: &[u8]) -> bool {
    line.is_empty() || line.starts_with(b"#")
}

fn is_toml(text: &[u8]) -> bool {
    let first = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !is_comment(line));
    first.is_some_and(|line| {
        let is_name = |name: &[u8]| {
            let name = name.trim_ascii_end();
            !name.is_empty()
                && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_\"'".contains(byte))
        };
        let name = line.split(|byte| *byte == b'=').next().expect("a split has a first part");
        line.starts_with(b"[") || name.len() < line.len() && is_name(name)
    })
}

fn redis_entries(text: &[u8]) -> ParsedFile {
    let mut parsed = ParsedFile::default();
    let mut start = 0;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let bytes = start..start + line.len();
        start = bytes.end + 1;
        let line = line.trim_ascii();
        if is_comment(line) {
            continue;
        }
        match super::line::split(line) {
            Ok(mut words) if !words.is_empty() => {
                let name = words.remove(0);
                parsed.entries.push(ConfigEntry { name, words, line: index + 1, bytes });
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

fn toml_entries(bytes: &[u8]) -> ParsedFile {
    let mut parsed = ParsedFile { is_toml: true, ..ParsedFile::default() };
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            parsed.problems.push((line, NOT_UTF8.to_owned()));
            return parsed;
        }
    };
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
        parsed.entries.push(ConfigEntry { name: name.into_inner(), words, line: at, bytes });
    }
    parsed.entries.sort_by_key(|entry| entry.bytes.start);
    parsed
}
