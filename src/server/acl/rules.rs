//! Rules as ACL SETUSER, ACL files and the store's effects have them, and what a user may do by them.

use crate::acl::catalog::{Listed, READ, RuleCatalog, WRITE};
use crate::acl::password::PasswordHash;
use crate::acl::selector::{CallWords, CommandRule, Denied, KeyPattern, Selector, sort_option};

/// Why a rule is refused, in Redis's words.
pub type RuleError = &'static str;

const SYNTAX: RuleError = "Syntax error";
const UNKNOWN: RuleError = "Unknown command or category name in ACL";
const FIRST_ARG: RuleError = "Allowing first-arg of a subcommand is not supported";
const NO_PASSWORD: RuleError = "The password you are trying to remove from the user does not exist";
const BAD_HASH: RuleError =
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters";
const ALL_KEYS: RuleError = "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have \
                             any effect. Try 'resetkeys' to start with an empty list of patterns";
const ALL_CHANNELS: RuleError = "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not \
                                 have any effect. Try 'resetchannels' to start with an empty list of channels";

/// All that a user has. A change makes another one.
#[derive(Clone)]
pub struct Rights {
    pub is_on: bool,
    pub has_no_password: bool,
    /// Redis's `sanitize-payload`. RESTORE checks every payload, whatever it says.
    pub sanitizes: bool,
    pub passwords: Vec<PasswordHash>,
    /// The user's own, and then others.
    pub selectors: Vec<Selector>,
}

impl Rights {
    /// Those of a new user, who may do nothing.
    pub fn new(catalog: &RuleCatalog, has_all_channels: bool) -> Rights {
        let mut root = Selector::new(catalog);
        root.has_all_channels = has_all_channels;
        Rights {
            is_on: false,
            has_no_password: false,
            sanitizes: true,
            passwords: Vec::new(),
            selectors: vec![root],
        }
    }

    /// Those of the user `default` as long as they were not changed.
    pub fn unrestricted(catalog: &RuleCatalog) -> Rights {
        let mut rights = Rights::new(catalog, true);
        (rights.is_on, rights.has_no_password) = (true, true);
        let root = &mut rights.selectors[0];
        (root.has_all_keys, root.has_all_commands, root.begins_with_all) = (true, true, true);
        root.commands = catalog.all();
        rights
    }

    /// From a description ([`Rights::describe`]). Rules that this program does not know are left out; they
    /// are returned.
    pub fn parse(catalog: &RuleCatalog, description: &[u8]) -> (Rights, Vec<Vec<u8>>) {
        let mut rights = Rights::new(catalog, false);
        let words: Vec<&[u8]> = description.split(|byte| *byte == b' ').collect();
        let mut unknown = Vec::new();
        for rule in merge_selectors(&words).unwrap_or_default() {
            if rights.apply(catalog, &rule, false).is_err() {
                unknown.push(rule);
            }
        }
        (rights, unknown)
    }

    pub fn is_unrestricted(&self) -> bool {
        self.selectors[0].is_unrestricted()
    }

    pub fn has_all_keys(&self) -> bool {
        self.selectors.iter().all(|selector| selector.has_all_keys)
    }

    /// Whether one of the selectors permits the call; else the reason that comes nearest.
    pub fn check(&self, call: CallWords<'_>) -> Result<(), Denied> {
        let mut reason = Denied::Command;
        for selector in &self.selectors {
            match selector.check(call) {
                Ok(()) => return self.check_sort(call),
                Err(denied) => reason = reason.max(denied),
            }
        }
        Err(reason)
    }

    fn check_sort(&self, call: CallWords<'_>) -> Result<(), Denied> {
        match sort_option(call) {
            Some(option) if !self.selectors.iter().any(|selector| selector.permits_all_reads(call)) => {
                Err(Denied::Sort(option))
            }
            _ => Ok(()),
        }
    }

    pub fn permits_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors.iter().any(|selector| selector.permits_channel(channel, is_pattern))
    }

    /// Whether the password is one of the user's. Takes the same time for each of them.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let hash = PasswordHash::of(password);
        let found = self.passwords.iter().fold(false, |found, known| found | known.is(&hash));
        self.is_on && (self.has_no_password || found)
    }

    /// Applies one rule; a selector with its parentheses is one.
    pub fn apply(
        &mut self,
        catalog: &RuleCatalog,
        rule: &[u8],
        has_all_channels: bool,
    ) -> Result<(), RuleError> {
        match (rule.first(), rule.to_ascii_lowercase().as_slice()) {
            (None, _) => {}
            (_, b"on") => self.is_on = true,
            (_, b"off") => self.is_on = false,
            (_, b"nopass") => (self.has_no_password, self.passwords) = (true, Vec::new()),
            (_, b"resetpass") => (self.has_no_password, self.passwords) = (false, Vec::new()),
            (_, b"sanitize-payload") => self.sanitizes = true,
            (_, b"skip-sanitize-payload") => self.sanitizes = false,
            (_, b"clearselectors") => self.selectors.truncate(1),
            (_, b"reset") => *self = Rights::new(catalog, has_all_channels),
            (Some(b'>'), _) => self.add_password(PasswordHash::of(&rule[1..])),
            (Some(b'#'), _) => self.add_password(PasswordHash::parse(&rule[1..]).ok_or(BAD_HASH)?),
            (Some(b'<'), _) => self.remove_password(&PasswordHash::of(&rule[1..]))?,
            (Some(b'!'), _) => self.remove_password(&PasswordHash::parse(&rule[1..]).ok_or(BAD_HASH)?)?,
            (Some(b'('), _) if rule.ends_with(b")") => {
                let mut selector = Selector::new(catalog);
                selector.has_all_channels = has_all_channels;
                let words = rule[1..rule.len() - 1].split(u8::is_ascii_whitespace);
                words.filter(|word| !word.is_empty()).try_for_each(|word| selector.apply(catalog, word))?;
                self.selectors.push(selector);
            }
            _ => self.selectors[0].apply(catalog, rule)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: PasswordHash) {
        if !self.passwords.iter().any(|known| known.is(&hash)) {
            self.passwords.push(hash);
        }
        self.has_no_password = false;
    }

    fn remove_password(&mut self, hash: &PasswordHash) -> Result<(), RuleError> {
        let before = self.passwords.len();
        self.passwords.retain(|known| !known.is(hash));
        if self.passwords.len() < before { Ok(()) } else { Err(NO_PASSWORD) }
    }

    /// The flags, as ACL GETUSER lists them.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.is_on { "on" } else { "off" }];
        flags.extend(self.has_no_password.then_some("nopass"));
        flags.push(if self.sanitizes { "sanitize-payload" } else { "skip-sanitize-payload" });
        flags
    }

    /// All of it as rules, as ACL LIST shows it behind the name.
    pub fn describe(&self) -> Vec<u8> {
        let mut text = self.flags().join(" ").into_bytes();
        for password in &self.passwords {
            text.extend_from_slice(b" #");
            text.extend_from_slice(password.hex().as_bytes());
        }
        self.selectors[0].describe(&mut text);
        for selector in &self.selectors[1..] {
            let mut inner = Vec::new();
            selector.describe(&mut inner);
            text.extend_from_slice(&[b" (", &inner[..], b")"].concat());
        }
        text
    }

    pub fn heap_bytes(&self) -> usize {
        let selectors = self.selectors.iter().map(|selector| size_of::<Selector>() + selector.heap_bytes());
        self.passwords.len() * size_of::<PasswordHash>() + selectors.sum::<usize>()
    }
}

impl Selector {
    fn apply(&mut self, catalog: &RuleCatalog, rule: &[u8]) -> Result<(), RuleError> {
        match (rule.first(), rule.to_ascii_lowercase().as_slice()) {
            (_, b"allkeys" | b"~*") => (self.has_all_keys, self.keys) = (true, Vec::new()),
            (_, b"resetkeys") => (self.has_all_keys, self.keys) = (false, Vec::new()),
            (_, b"allchannels" | b"&*") => (self.has_all_channels, self.channels) = (true, Vec::new()),
            (_, b"resetchannels") => (self.has_all_channels, self.channels) = (false, Vec::new()),
            (_, b"allcommands" | b"+@all") => self.reset_commands(catalog, true),
            (_, b"nocommands" | b"-@all") => self.reset_commands(catalog, false),
            (Some(b'~' | b'%'), _) => self.add_keys(rule)?,
            (Some(b'&'), _) if self.has_all_channels => return Err(ALL_CHANNELS),
            (Some(b'&'), _) => {
                let channel = without_blanks(&rule[1..])?;
                if !self.channels.iter().any(|known| known == channel) {
                    self.channels.push(channel.to_vec());
                }
            }
            (Some(b'+' | b'-'), lower) => {
                let is_allowed = lower[0] == b'+';
                match lower.get(1) {
                    Some(b'@') => {
                        let ids = catalog.category(&lower[2..]).ok_or(UNKNOWN)?;
                        ids.iter().for_each(|id| self.permit(catalog.get(*id), is_allowed));
                    }
                    _ => self.apply_command(catalog, &lower[1..], is_allowed)?,
                }
                self.note_rule(&lower[1..], is_allowed);
            }
            _ => return Err(SYNTAX),
        }
        Ok(())
    }

    fn reset_commands(&mut self, catalog: &RuleCatalog, has_all: bool) {
        (self.has_all_commands, self.begins_with_all) = (has_all, has_all);
        self.commands = if has_all { catalog.all() } else { catalog.none() };
        self.command_rules.clear();
        self.first_args.clear();
    }

    fn add_keys(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.has_all_keys {
            return Err(ALL_KEYS);
        }
        let (mut access, mut start) = (0, 1);
        if rule[0] == b'~' {
            access = READ | WRITE;
        } else {
            for byte in &rule[1..] {
                start += 1;
                let letter = match byte.to_ascii_uppercase() {
                    b'R' => READ,
                    b'W' => WRITE,
                    b'~' => break,
                    _ => return Err(SYNTAX),
                };
                if access & letter != 0 {
                    return Err(SYNTAX);
                }
                access |= letter;
            }
            if access == 0 {
                return Err(SYNTAX);
            }
        }
        let pattern = without_blanks(&rule[start..])?;
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => known.access |= access,
            None => self.keys.push(KeyPattern { access, pattern: pattern.to_vec() }),
        }
        Ok(())
    }

    /// `name` is a command's, a subcommand's, or a command's with a first argument.
    fn apply_command(
        &mut self,
        catalog: &RuleCatalog,
        name: &[u8],
        is_allowed: bool,
    ) -> Result<(), RuleError> {
        if let Some(listed) = catalog.find(name) {
            self.permit(listed, is_allowed);
            listed.subcommands.iter().for_each(|sub| self.set(*sub, is_allowed));
            return Ok(());
        }
        let bar = name.iter().rposition(|byte| *byte == b'|').filter(|_| is_allowed).ok_or(UNKNOWN)?;
        let listed = catalog.find(&name[..bar]).ok_or(UNKNOWN)?;
        if listed.parent.is_some() {
            return Err(FIRST_ARG);
        }
        let first = &name[bar + 1..];
        if first.is_empty() {
            return Err(SYNTAX);
        }
        if !listed.subcommands.is_empty() {
            return Err(UNKNOWN);
        }
        let permitted = (listed.id, first.to_vec());
        if !self.first_args.contains(&permitted) {
            self.first_args.push(permitted);
        }
        Ok(())
    }

    fn permit(&mut self, listed: &Listed, is_allowed: bool) {
        self.set(listed.id, is_allowed);
        self.first_args.retain(|(id, _)| *id != listed.id);
    }

    fn set(&mut self, id: usize, is_allowed: bool) {
        self.commands.set(id, is_allowed);
        self.has_all_commands &= is_allowed;
    }

    /// A rule takes the place of earlier ones about the same, or about a part of it.
    fn note_rule(&mut self, text: &[u8], is_allowed: bool) {
        self.command_rules.retain(|known| {
            let rest = known.text.strip_prefix(text);
            rest.is_none_or(|rest| !rest.is_empty() && rest[0] != b'|')
        });
        self.command_rules.push(CommandRule { is_allowed, text: text.to_vec() });
    }
}

fn without_blanks(pattern: &[u8]) -> Result<&[u8], RuleError> {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0 | 11);
    if pattern.iter().any(is_blank) { Err(SYNTAX) } else { Ok(pattern) }
}

/// Joins the words of selectors: a rule that begins with `(` goes on to the word that ends with `)`. The
/// error is the index of the word of one that does not end.
pub fn merge_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut rules = Vec::new();
    let mut next = 0;
    while let Some(word) = words.get(next) {
        let mut rule = word.to_vec();
        let start = next;
        while rule.starts_with(b"(") && !rule.ends_with(b")") {
            next += 1;
            let word = words.get(next).ok_or(start)?;
            rule.push(b' ');
            rule.extend_from_slice(word);
        }
        rules.push(rule);
        next += 1;
    }
    Ok(rules)
}
