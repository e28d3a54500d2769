//! The table of all commands of this server, by name.

use super::{Args, Command, CommandError, Handler, Shape, shown_word, usage};
use crate::hashing::HashMap;

/// A command with the properties derived from its usage line.
pub struct Known {
    pub command: &'static Command,
    pub shape: Shape,
    pub subcommands: Vec<Known>,
    /// The name in errors, statistics and COMMAND: `config|get` for a subcommand. Lower case, except for the
    /// commands of modules, which Redis names as the module declares them (`FT.SEARCH`).
    pub full_name: String,
    /// A unique number, for tables that are indexed by command.
    pub id: usize,
    /// `rename` removed its name without giving another one.
    is_removed: bool,
}

/// Looks commands up by name, in any case.
pub struct CommandTable {
    commands: Vec<Known>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// Names from `rename` that are longer than any declared name.
    by_long_name: HashMap<Box<[u8]>, usize>,
}

/// Longer than any declared name of a command.
const NAME_BYTES_MAX: usize = 32;

impl CommandTable {
    /// Builds the table. Panics if a name is declared twice, which is a programming error.
    pub fn new(families: impl IntoIterator<Item = &'static [Command]>) -> CommandTable {
        let mut table = CommandTable {
            commands: Vec::new(),
            by_name: HashMap::default(),
            by_long_name: HashMap::default(),
        };
        let mut next_id = 0;
        for command in families.into_iter().flatten() {
            let known = Known::new(command, None, &mut next_id);
            let before = table.by_name.insert(command.name.as_bytes().into(), table.commands.len());
            assert!(before.is_none(), "command {} is declared twice", command.name);
            assert!(command.name.len() <= NAME_BYTES_MAX, "{} is too long a name", command.name);
            table.commands.push(known);
        }
        table
    }

    /// The command or subcommand of this id.
    pub fn by_id(&self, id: usize) -> Option<&Known> {
        let at = self.commands.partition_point(|known| known.id <= id).checked_sub(1)?;
        let known = &self.commands[at];
        if known.id == id { Some(known) } else { known.subcommands.get(id - known.id - 1) }
    }

    /// All commands, including those that `rename` removed.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.commands.iter()
    }

    /// The commands that can be called.
    pub fn listed(&self) -> impl Iterator<Item = &Known> {
        self.commands.iter().filter(|known| !known.is_removed)
    }

    /// Replaces the name of a command; an empty name removes the command. Errors are Redis's texts.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), &'static str> {
        let from = from.to_ascii_uppercase();
        let index =
            self.by_name.remove(from.as_bytes()).or_else(|| self.by_long_name.remove(from.as_bytes()));
        let index = index.ok_or("No such command in rename-command")?;
        if to.is_empty() {
            self.commands[index].is_removed = true;
            return Ok(());
        }
        let to: Box<[u8]> = to.to_ascii_uppercase().into_bytes().into();
        let before = match to.len() {
            0..=NAME_BYTES_MAX => self.by_name.insert(to, index),
            _ => self.by_long_name.insert(to, index),
        };
        if before.is_some() { Err("Target command name already exists") } else { Ok(()) }
    }

    #[cold]
    fn get_long(&self, name: &[u8]) -> Option<&Known> {
        self.by_long_name.get(&*name.to_ascii_uppercase()).map(|&index| &self.commands[index])
    }

    /// The command of that name, in any case.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&Known> {
        let mut upper = [0; NAME_BYTES_MAX];
        let Some(upper) = upper.get_mut(..name.len()) else { return self.get_long(name) };
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        self.by_name.get(&*upper).map(|&index| &self.commands[index])
    }

    /// The command or subcommand that these words call; checks its arity.
    pub fn resolve(&self, args: Args<'_>) -> Result<&Known, CommandError> {
        let known = self.get(args.word(0)).ok_or_else(|| unknown_command(args))?;
        let known = match known.command.handler {
            Handler::Container if args.len() == 1 => {
                return Err(CommandError::wrong_arity(&known.full_name));
            }
            _ if args.len() > 1 && !known.subcommands.is_empty() => {
                let subcommand = known.subcommand(args.word(1));
                subcommand.ok_or_else(|| CommandError::unknown_subcommand(args.word(0), args.word(1)))?
            }
            _ => known,
        };
        if known.takes(args) { Ok(known) } else { Err(CommandError::wrong_arity(&known.full_name)) }
    }

    /// The command or subcommand that these words name, whatever their number.
    pub fn find(&self, args: Args<'_>) -> Option<&Known> {
        let known = self.get(args.word(0))?;
        match args.get(1) {
            Some(subcommand) if !known.subcommands.is_empty() => known.subcommand(subcommand),
            _ => Some(known),
        }
    }
}

impl Known {
    fn new(command: &'static Command, parent: Option<&str>, next_id: &mut usize) -> Known {
        let own_name = match command.has(super::flag::MODULE) {
            true => command.name.to_owned(),
            false => command.name.to_lowercase(),
        };
        let full_name = match parent {
            Some(parent) => format!("{parent}|{own_name}"),
            None => own_name,
        };
        let id = *next_id;
        *next_id += 1;
        let subcommands =
            command.subcommands.iter().map(|sub| Known::new(sub, Some(&full_name), next_id)).collect();
        let name_words = if parent.is_some() { 2 } else { 1 };
        Known {
            command,
            shape: usage::shape(command.usage, name_words),
            subcommands,
            full_name,
            id,
            is_removed: false,
        }
    }

    /// Whether the number of words fits the arity.
    #[inline]
    pub fn takes(&self, args: Args<'_>) -> bool {
        let (words, arity) = (args.len() as i32, self.shape.arity);
        if arity > 0 { words == arity } else { words >= -arity }
    }

    fn subcommand(&self, name: &[u8]) -> Option<&Known> {
        self.subcommands.iter().find(|known| known.command.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Calls `each` with the number of each key, from 0, and the index of its word among `args`. Allocates
    /// nothing where the usage line determines the keys.
    #[inline]
    pub fn each_key(&self, args: Args<'_>, each: &mut dyn FnMut(usize, usize)) -> Result<(), CommandError> {
        if let Some(keys) = self.command.keys {
            keys(args)?.into_iter().enumerate().for_each(|(number, word)| each(number, word));
            return Ok(());
        }
        let (first, last, step) = self.shape.keys;
        if first > 0 {
            let last = if last < 0 { args.len() as i32 + last } else { last };
            let words = (first..=last).step_by(step as usize).enumerate();
            words.for_each(|(number, word)| each(number, word as usize));
        }
        Ok(())
    }

    /// The indexes of the key words among `args`.
    pub fn key_words(&self, args: Args<'_>) -> Result<Vec<usize>, CommandError> {
        if let Some(keys) = self.command.keys {
            return keys(args);
        }
        let (first, last, step) = self.shape.keys;
        if first == 0 || self.command.access == ["not_key"] {
            return Ok(Vec::new());
        }
        let last = if last < 0 { args.len() as i32 + last } else { last };
        Ok((first..=last).step_by(step as usize).map(|index| index as usize).collect())
    }
}

/// Redis's text: the name and the beginning of each argument, truncated to 128 bytes in total.
fn unknown_command(args: Args<'_>) -> CommandError {
    let mut beginning = Vec::new();
    for word in args.from(1) {
        if beginning.len() >= 128 {
            break;
        }
        let word = shown_word(word, 128 - beginning.len());
        beginning.push(b'\'');
        beginning.extend_from_slice(word);
        beginning.extend_from_slice(b"' ");
    }
    let name = shown_word(args.word(0), 128);
    let parts: [&[u8]; 4] = [b"ERR unknown command '", name, b"', with args beginning with: ", &beginning];
    CommandError::of_parts(&parts)
}
