//! One file per family of commands: the table first, then the handlers in its order.

mod strings;

use crate::command::Command;

/// All commands of the engine itself.
pub const FAMILIES: &[&[Command]] = &[strings::COMMANDS];
