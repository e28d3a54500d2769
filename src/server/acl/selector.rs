//! Selectors: which commands may be called on which keys and channels. A user has one of its own, and may
//! have further ones; a call is permitted if one of them permits all of it.

use crate::acl::catalog::{Channels, Listed, READ, RuleCatalog, WRITE, access_of};
use crate::acl::commands::CommandSet;
use engramdb_engine::command::{Args, flag};
use engramdb_engine::command::{CommandError, CoveredKeys, Known};
use engramdb_engine::commands::glob_matches;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    /// [`READ`], [`WRITE`] or both.
    pub access: u8,
    pub pattern: Vec<u8>,
}

/// A rule on commands, as ACL LIST shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRule {
    pub is_allowed: bool,
    /// In lower case: `get`, `config|get`, `@read`, `select|0`.
    pub text: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// All commands, also those of later versions.
    pub has_all_commands: bool,
    /// The rules on commands begin with `+@all`.
    pub begins_with_all: bool,
    pub commands: CommandSet,
    pub command_rules: Vec<CommandRule>,
    /// Commands that are permitted with these first arguments only.
    pub first_args: Vec<(usize, Vec<u8>)>,
    pub has_all_keys: bool,
    pub keys: Vec<KeyPattern>,
    pub has_all_channels: bool,
    pub channels: Vec<Vec<u8>>,
}

/// What is not permitted, with the index of the word that names it. In Redis's order: of several selectors'
/// reasons the greatest is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    Command,
    Key(usize),
    Channel(usize),
    /// An index of the call covers other keys than those that the user may read.
    Index,
    /// SORT with BY or GET reads keys that its words do not name: the user must be permitted to read all.
    Sort(&'static str),
    /// The keys of the call cannot be found: its words are wrong.
    Malformed,
}

/// A call whose permission is asked for.
#[derive(Clone, Copy)]
pub struct CallWords<'c> {
    pub known: &'c Known,
    pub listed: &'c Listed,
    pub args: Args<'c>,
    /// What an index of the call covers.
    pub covered: Option<&'c CoveredKeys>,
}

impl Selector {
    /// One that permits nothing.
    pub fn new(catalog: &RuleCatalog) -> Selector {
        Selector {
            has_all_commands: false,
            begins_with_all: false,
            commands: catalog.none(),
            command_rules: Vec::new(),
            first_args: Vec::new(),
            has_all_keys: false,
            keys: Vec::new(),
            has_all_channels: false,
            channels: Vec::new(),
        }
    }

    pub fn is_unrestricted(&self) -> bool {
        self.has_all_commands && self.has_all_keys && self.has_all_channels
    }

    /// Whether the call is permitted.
    pub fn check(&self, call: CallWords<'_>) -> Result<(), Denied> {
        if !self.permits_command(call) {
            return Err(Denied::Command);
        }
        if !self.has_all_keys {
            self.check_keys(call)?;
            self.check_covered(call)?;
        }
        match call.listed.channels {
            Some(channels) if !self.has_all_channels => {
                let is_pattern = channels == Channels::Patterns;
                let mut words = channels.words(call.args);
                let denied = words.find(|word| !self.permits_channel(call.args[*word], is_pattern));
                denied.map_or(Ok(()), |word| Err(Denied::Channel(word)))
            }
            _ => Ok(()),
        }
    }

    pub fn permits_command(&self, call: CallWords<'_>) -> bool {
        if self.has_all_commands || call.known.command.has(flag::NO_AUTH) || self.commands.has(call.known.id)
        {
            return true;
        }
        let first = call.args.get(1 + usize::from(call.listed.parent.is_some()));
        first.is_some_and(|first| {
            let mut permitted = self.first_args.iter().filter(|(id, _)| *id == call.known.id);
            permitted.any(|(_, permitted)| permitted.eq_ignore_ascii_case(first))
        })
    }

    fn check_keys(&self, call: CallWords<'_>) -> Result<(), Denied> {
        let mut denied = None;
        let found = call.known.each_key(call.args, &mut |index, word| {
            let access = match call.known.command.access_by {
                Some(finder) => access_of(finder(call.args, index)),
                None => call.listed.access(index),
            };
            let Some(access) = access else { return };
            if denied.is_none() && !self.permits_key(call.args[word], access) {
                denied = Some(Denied::Key(word));
            }
        });
        found.map_err(|_| Denied::Malformed)?;
        denied.map_or(Ok(()), Err)
    }

    fn check_covered(&self, call: CallWords<'_>) -> Result<(), Denied> {
        let Some(covered) = call.covered else { return Ok(()) };
        let access = if covered.are_deleted { READ | WRITE } else { READ };
        let are_permitted = covered.prefixes.iter().all(|prefix| self.permits_prefix(prefix, access));
        if are_permitted { Ok(()) } else { Err(Denied::Index) }
    }

    pub fn permits_key(&self, key: &[u8], access: u8) -> bool {
        let permits =
            |known: &KeyPattern| known.access & access == access && glob_matches(&known.pattern, key);
        self.has_all_keys || self.keys.iter().any(permits)
    }

    /// Whether the command may be called, and all keys may be read.
    pub fn permits_all_reads(&self, call: CallWords<'_>) -> bool {
        let reads_all = |known: &KeyPattern| known.access & READ != 0 && known.pattern == b"*";
        self.permits_command(call) && (self.has_all_keys || self.keys.iter().any(reads_all))
    }

    /// Whether all keys that begin with this may be used so.
    pub fn permits_prefix(&self, prefix: &[u8], access: u8) -> bool {
        let permits = |known: &KeyPattern| {
            known.access & access == access
                && ends_open(&known.pattern)
                && glob_matches(&known.pattern, prefix)
        };
        self.has_all_keys || self.keys.iter().any(permits)
    }

    pub fn permits_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        let permits = |known: &Vec<u8>| match is_pattern {
            true => known == channel,
            false => glob_matches(known, channel),
        };
        self.has_all_channels || self.channels.iter().any(permits)
    }

    pub fn heap_bytes(&self) -> usize {
        let keys = self.keys.iter().map(|known| known.pattern.len() + size_of::<KeyPattern>());
        let channels = self.channels.iter().map(|channel| channel.len() + size_of::<Vec<u8>>());
        let rules = self.command_rules.iter().map(|rule| rule.text.len() + size_of::<CommandRule>());
        self.commands.heap_bytes() + keys.chain(channels).chain(rules).sum::<usize>()
    }

    /// As ACL LIST shows it: keys, channels, commands.
    pub fn describe(&self, out: &mut Vec<u8>) {
        let keys = self.describe_keys();
        for part in [&keys[..], &self.describe_channels(true), &self.describe_commands()] {
            if !out.is_empty() && !part.is_empty() {
                out.push(b' ');
            }
            out.extend_from_slice(part);
        }
    }

    pub fn describe_keys(&self) -> Vec<u8> {
        if self.has_all_keys {
            return b"~*".to_vec();
        }
        let show = |known: &KeyPattern| {
            let kind: &[u8] = match known.access {
                READ => b"%R~",
                WRITE => b"%W~",
                _ => b"~",
            };
            [kind, &known.pattern].concat()
        };
        self.keys.iter().map(show).collect::<Vec<_>>().join(&b' ')
    }

    /// The list for a rule begins with `resetchannels`.
    pub fn describe_channels(&self, is_rule: bool) -> Vec<u8> {
        if self.has_all_channels {
            return b"&*".to_vec();
        }
        let shown = self.channels.iter().map(|channel| [b"&", &channel[..]].concat());
        let first = is_rule.then(|| b"resetchannels".to_vec());
        first.into_iter().chain(shown).collect::<Vec<_>>().join(&b' ')
    }

    pub fn describe_commands(&self) -> Vec<u8> {
        let mut text = if self.begins_with_all { b"+@all".to_vec() } else { b"-@all".to_vec() };
        for rule in &self.command_rules {
            text.extend_from_slice(if rule.is_allowed { b" +" } else { b" -" });
            text.extend_from_slice(&rule.text);
        }
        text
    }
}

/// The option of SORT that reads keys by a pattern.
pub fn sort_option(call: CallWords<'_>) -> Option<&'static str> {
    if !matches!(call.known.command.name, "SORT" | "SORT_RO") {
        return None;
    }
    let is_option = |index: usize, name: &str| index + 1 < call.args.len() && call.args.is(index, name);
    (2..call.args.len()).find_map(|index| match call.args.get(index + 1) {
        Some(pattern) if is_option(index, "BY") && pattern.contains(&b'*') => Some("BY"),
        Some(pattern) if is_option(index, "GET") && *pattern != b"#" => Some("GET"),
        _ => None,
    })
}

/// Whether the pattern ends with a star that matches any rest.
fn ends_open(pattern: &[u8]) -> bool {
    let Some(before) = pattern.strip_suffix(b"*") else { return false };
    let escapes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
    escapes.is_multiple_of(2)
}

/// The error of a call that is denied.
pub fn denied_error(denied: Denied, user: &[u8], call: CallWords<'_>) -> CommandError {
    match denied {
        Denied::Command => CommandError::of_parts(&[
            b"NOPERM User ",
            user,
            b" has no permissions to run the '",
            call.listed.full_name.as_bytes(),
            b"' command",
        ]),
        Denied::Key(_) => CommandError::of("NOPERM No permissions to access a key"),
        Denied::Channel(_) => CommandError::of("NOPERM No permissions to access a channel"),
        Denied::Index => {
            CommandError::of("NOPERM User does not have the required permissions to query the index")
        }
        Denied::Sort(option) => CommandError::new(format!(
            "ERR {option} option of SORT denied due to insufficient ACL permissions"
        )),
        Denied::Malformed => call.known.key_words(call.args).err().unwrap_or(CommandError::SYNTAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_permitted_by_a_pattern_with_an_open_end() {
        for (pattern, prefix, is_permitted) in [
            ("*", "doc:", true),
            ("doc:*", "doc:", true),
            ("doc:*", "doc:a", true),
            ("doc:a*", "doc:", false),
            ("doc:", "doc:", false),
            ("d?c:*", "doc:", true),
            ("doc:\\*", "doc:*", false),
            ("doc:\\\\*", "doc:\\", true),
            ("*:", "doc:", false),
        ] {
            let catalog = RuleCatalog::new(&crate::command_table(&[]));
            let mut selector = Selector::new(&catalog);
            selector.keys.push(KeyPattern { access: READ, pattern: pattern.into() });
            assert_eq!(selector.permits_prefix(prefix.as_bytes(), READ), is_permitted, "{pattern} {prefix}");
            assert!(!selector.permits_prefix(prefix.as_bytes(), WRITE));
        }
    }
}
