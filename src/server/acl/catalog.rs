//! What rules can name: commands and categories, and what each command does to its keys and channels.

use crate::acl::commands::CommandSet;
use engramdb_engine::command::{Args, Command, CommandTable, Known, acl};
use std::collections::BTreeMap;

/// The access that a key pattern permits, and that a command needs.
pub const READ: u8 = 1;
pub const WRITE: u8 = 2;

/// Commands whose words name channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// Names, from word 1 on.
    Names,
    /// The name in word 1.
    Name,
    /// Patterns, from word 1 on.
    Patterns,
}

/// One command or subcommand.
pub struct Listed {
    pub id: usize,
    /// `None` unless it is a subcommand.
    pub parent: Option<usize>,
    pub subcommands: Vec<usize>,
    pub full_name: String,
    pub categories: Vec<&'static str>,
    /// The access to each key; the last one holds for further keys.
    accesses: Vec<Option<u8>>,
    pub channels: Option<Channels>,
}

/// All commands by their declared names: `rename-command` does not change what rules call them.
pub struct RuleCatalog {
    /// By id.
    commands: Vec<Listed>,
    by_name: BTreeMap<Vec<u8>, usize>,
    categories: Vec<(&'static str, Vec<usize>)>,
}

impl RuleCatalog {
    pub fn new(table: &CommandTable) -> RuleCatalog {
        let mut catalog =
            RuleCatalog { commands: Vec::new(), by_name: BTreeMap::new(), categories: Vec::new() };
        table.iter().for_each(|known| catalog.add(known, None));
        let of = |category: &'static str| {
            let ids = catalog.commands.iter().filter(|listed| listed.categories.contains(&category));
            (category, ids.map(|listed| listed.id).collect())
        };
        catalog.categories = acl::ORDER.iter().map(|category| of(category)).collect();
        catalog
    }

    fn add(&mut self, known: &Known, parent: Option<usize>) {
        assert_eq!(known.id, self.commands.len(), "ids are dense, in the order of this walk");
        let accesses = known.command.key_access().iter().map(|access| access_of(access)).collect();
        self.commands.push(Listed {
            id: known.id,
            parent,
            subcommands: known.subcommands.iter().map(|sub| sub.id).collect(),
            full_name: known.full_name.clone(),
            categories: known.command.acl_names().collect(),
            accesses,
            channels: channels_of(known.command),
        });
        self.by_name.insert(known.full_name.to_lowercase().into_bytes(), known.id);
        known.subcommands.iter().for_each(|sub| self.add(sub, Some(known.id)));
    }

    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn get(&self, id: usize) -> &Listed {
        &self.commands[id]
    }

    /// The command of this name, in lower case: `get`, `config|get`.
    pub fn find(&self, name: &[u8]) -> Option<&Listed> {
        self.by_name.get(name).map(|id| &self.commands[*id])
    }

    pub fn categories(&self) -> impl Iterator<Item = &'static str> {
        self.categories.iter().map(|(name, _)| *name)
    }

    /// The commands of a category, named in any case.
    pub fn category(&self, name: &[u8]) -> Option<&[usize]> {
        let found = self.categories.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        found.map(|(_, ids)| &ids[..])
    }

    pub fn all(&self) -> CommandSet {
        CommandSet::full(self.len())
    }

    pub fn none(&self) -> CommandSet {
        CommandSet::empty(self.len())
    }
}

impl Listed {
    /// The access to the key with this index among the keys; `None` if it is no key (a shard channel).
    #[inline]
    pub fn access(&self, index: usize) -> Option<u8> {
        self.accesses[index.min(self.accesses.len() - 1)]
    }
}

/// The access to a key by the words of COMMAND DOCS: `RO access`, `OW update`. `RO` alone tells whether the
/// key is there, or how long its value is, for which any permission suffices.
pub fn access_of(words: &str) -> Option<u8> {
    let mut access = 0;
    for word in words.split(' ') {
        access |= match word {
            "not_key" => return None,
            "access" => READ,
            "update" | "insert" | "delete" => WRITE,
            _ => 0,
        };
    }
    Some(access)
}

fn channels_of(command: &Command) -> Option<Channels> {
    match command.name {
        "SUBSCRIBE" | "SSUBSCRIBE" => Some(Channels::Names),
        "PSUBSCRIBE" => Some(Channels::Patterns),
        "PUBLISH" | "SPUBLISH" => Some(Channels::Name),
        _ => None,
    }
}

impl Channels {
    /// The words that name channels, by their indexes.
    pub fn words(self, args: Args<'_>) -> std::ops::Range<usize> {
        match self {
            Channels::Name => 1..args.len().min(2),
            Channels::Names | Channels::Patterns => 1..args.len(),
        }
    }
}
