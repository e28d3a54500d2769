//! Scripts of commands that are sent to both servers, and the list of known differences.
//!
//! A script has one command per line. Words are verbatim, or `"quoted"` with `\n`, `\t`, `\"`, `\\`, `\xHH`,
//! or `'raw'`; a word `f32:1,2.5` is the blob of these components, `f64:1` of doubles. `!flush` empties both
//! servers and drops all indexes; `#` begins a comment.
//!
//! `differences.txt` lists where the replies may differ: `= reason` begins a group, and each line below it
//! names a protocol (`resp2`, `resp3` or `both`), a script and a command. A difference that no longer occurs
//! must be removed from the list.

use std::collections::HashMap;

/// The words of a line.
///
/// # Panics
/// If a quote is not closed or an escape is unknown: the script is wrong.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let word;
        (word, rest) = match rest.chars().next() {
            Some('"') => quoted(&rest[1..]),
            Some('\'') => {
                let (raw, rest) =
                    rest[1..].split_once('\'').unwrap_or_else(|| panic!("a quote is not closed in {line}"));
                (raw.as_bytes().to_vec(), rest)
            }
            _ => {
                let (word, rest) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
                (blob(word).unwrap_or_else(|| word.as_bytes().to_vec()), rest)
            }
        };
        words.push(word);
        rest = rest.trim_start();
    }
    words
}

fn blob(word: &str) -> Option<Vec<u8>> {
    let (kind, components) = word.split_once(':')?;
    let components = components.split(',').filter(|component| !component.is_empty());
    let numbers = components.map(|component| component.parse::<f64>().ok());
    match kind {
        "f32" => numbers
            .map(|number| Some((number? as f32).to_le_bytes()))
            .collect::<Option<Vec<_>>>()
            .map(|bytes| bytes.concat()),
        "f64" => numbers
            .map(|number| Some(number?.to_le_bytes()))
            .collect::<Option<Vec<_>>>()
            .map(|bytes| bytes.concat()),
        _ => None,
    }
}

/// The content up to the closing quote, and what follows it.
fn quoted(text: &str) -> (Vec<u8>, &str) {
    let mut content = Vec::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (content, &text[place + 1..]),
            '\\' => match characters.next() {
                Some((_, 'n')) => content.push(b'\n'),
                Some((_, 't')) => content.push(b'\t'),
                Some((_, escaped @ ('"' | '\\'))) => content.push(escaped as u8),
                Some((_, 'x')) => {
                    let digits = &text[place + 2..place + 4];
                    content.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                    characters.nth(1);
                }
                other => panic!("unknown escape {other:?} in {text}"),
            },
            other => content.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    panic!("a quote is not closed in {text}");
}

/// Known differences by protocol, script and command, with the number of occurrences.
pub struct Differences(HashMap<(String, String, String), u64>);

impl Differences {
    pub fn parse(text: &str) -> Differences {
        let mut known = HashMap::new();
        let mut has_reason = false;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(reason) = line.strip_prefix("= ") {
                has_reason = !reason.is_empty();
                continue;
            }
            assert!(has_reason, "a difference needs a reason: {line}");
            let mut parts = line.splitn(3, ' ');
            let mut part =
                || parts.next().unwrap_or_else(|| panic!("protocol, script, command: {line}")).to_owned();
            let (protocols, script, command) = (part(), part(), part());
            let protocols: &[&str] = match protocols.as_str() {
                "both" => &["resp2", "resp3"],
                "resp2" => &["resp2"],
                "resp3" => &["resp3"],
                other => panic!("{other} is no protocol: {line}"),
            };
            for protocol in protocols {
                let before = known.insert(((*protocol).to_owned(), script.clone(), command.clone()), 0);
                assert!(before.is_none(), "listed twice: {line}");
            }
        }
        Differences(known)
    }

    /// Records that replies differ; false if the difference is not known.
    pub fn meet(&mut self, protocol: &str, script: &str, command: &str) -> bool {
        let entry = self.0.get_mut(&(protocol.to_owned(), script.to_owned(), command.trim().to_owned()));
        entry.map(|met| *met += 1).is_some()
    }

    /// The differences of a script that did not occur.
    pub fn unmet(&self, script: &str) -> Vec<String> {
        let unmet = self.0.iter().filter(|((_, of, _), met)| of == script && **met == 0);
        let mut lines: Vec<String> =
            unmet.map(|((protocol, _, command), _)| format!("{protocol} {command}")).collect();
        lines.sort();
        lines
    }

    /// The script and command of each difference.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.keys().map(|(_, script, command)| (script.as_str(), command.as_str()))
    }
}
