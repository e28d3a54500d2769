//! Errors: mistakes of clients, in Redis's exact words (client libraries compare these texts), and data that
//! do not fit.

use crate::effect::{Effect, EffectDecodeError, Record};
use crate::keyspace::Keyspace;
use std::borrow::Cow;
use std::fmt;

/// An error reply: its code word and text, as sent to the client. The connection stays open.
///
/// It is bytes, because Redis repeats words of the request in some errors, and these can be any bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandError(Cow<'static, [u8]>);

impl CommandError {
    pub const SYNTAX: CommandError = CommandError::of("ERR syntax error");
    pub const WRONG_TYPE: CommandError =
        CommandError::of("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub const NOT_INTEGER: CommandError = CommandError::of("ERR value is not an integer or out of range");
    pub const NOT_FLOAT: CommandError = CommandError::of("ERR value is not a valid float");
    pub const NO_SUCH_KEY: CommandError = CommandError::of("ERR no such key");
    pub const INVALID_CURSOR: CommandError = CommandError::of("ERR invalid cursor");
    pub const DATABASE_OUT_OF_RANGE: CommandError = CommandError::of("ERR DB index is out of range");
    pub const STRING_TOO_LONG: CommandError =
        CommandError::of("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

    /// A fixed text, code word included.
    pub const fn of(text: &'static str) -> CommandError {
        CommandError(Cow::Borrowed(text.as_bytes()))
    }

    /// A text made at run time, code word included. Line breaks become spaces: they would end the reply.
    pub fn new(text: impl Into<Vec<u8>>) -> CommandError {
        let mut text: Vec<u8> = text.into();
        text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        CommandError(Cow::Owned(text))
    }

    /// The same of parts, some of which are words of the request ([`shown_word`]).
    pub fn of_parts(parts: &[&[u8]]) -> CommandError {
        CommandError::new(parts.concat())
    }

    /// A container has no such subcommand.
    pub fn unknown_subcommand(container: &[u8], subcommand: &[u8]) -> CommandError {
        CommandError::about_subcommand(b"unknown subcommand '", container, subcommand)
    }

    /// The same text where the subcommand exists and cannot have these arguments: some of Redis's subcommands
    /// count them themselves.
    pub fn wrong_subcommand(container: &[u8], subcommand: &[u8]) -> CommandError {
        let complaint = b"unknown subcommand or wrong number of arguments for '";
        CommandError::about_subcommand(complaint, container, subcommand)
    }

    fn about_subcommand(complaint: &[u8], container: &[u8], subcommand: &[u8]) -> CommandError {
        let (subcommand, container) = (shown_word(subcommand, 128), container.to_ascii_uppercase());
        let container = shown_word(&container, usize::MAX);
        CommandError::of_parts(&[b"ERR ", complaint, subcommand, b"'. Try ", container, b" HELP."])
    }

    pub fn wrong_arity(command: &str) -> CommandError {
        CommandError::new(format!("ERR wrong number of arguments for '{command}' command"))
    }

    /// A write is refused because the log has no room.
    pub fn no_room(cause: &str) -> CommandError {
        CommandError::new(format!(
            "MISCONF No room in the transaction log: {cause}. Writes are refused until there is room; reads go on, and \
             so do DEL, FLUSHALL and other commands that free memory"
        ))
    }

    /// A command of a transaction needs room in the log that the transaction did not reserve before it began.
    pub(crate) fn no_room_reserved(command: &str, bytes: usize, refusal: impl fmt::Display) -> CommandError {
        CommandError::new(format!(
            "MISCONF {command} needs {bytes} bytes in the transaction log beyond what EXEC has reserved: {refusal}. It changed \
             nothing; call it outside of MULTI, where it waits for room"
        ))
    }

    /// A command of a script needs room in the log that cannot be had without waiting.
    pub(crate) fn no_room_in_script(command: &str, bytes: usize, refusal: impl fmt::Display) -> CommandError {
        CommandError::new(format!(
            "MISCONF {command} needs {bytes} bytes in the transaction log beyond what the script has reserved: {refusal}. It \
             changed nothing; what the script wrote before stays"
        ))
    }

    /// Every write is refused, because there is no room even to claim the log.
    pub fn read_only(cause: &str) -> CommandError {
        CommandError::new(format!(
            "MISCONF The server started read-only, because its disk has no room to open the transaction log for writing: \
             {cause}. Reads go on; writes begin by themselves when there is room"
        ))
    }

    pub fn invalid_expire_time(command: &str) -> CommandError {
        CommandError::new(format!("ERR invalid expire time in '{}' command", command.to_lowercase()))
    }

    /// Code word and text, without the leading `-` and the line end.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as text, for people: words of the request may not be UTF-8.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// The part of a word that an error shows: up to its first zero byte, as Redis's `%s` does, and at most
/// `bytes_max` bytes.
pub fn shown_word(word: &[u8], bytes_max: usize) -> &[u8] {
    let word = &word[..word.len().min(bytes_max)];
    &word[..word.iter().position(|byte| *byte == 0).unwrap_or(word.len())]
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandError({:?})", self.text())
    }
}

impl std::error::Error for CommandError {}

/// The reason why a batch from the log or a snapshot cannot be applied: it is corrupt, or of a newer version.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Decode(#[from] EffectDecodeError),
    #[error("an effect does not fit the keyspace: {0}")]
    Mismatch(String),
    #[error("the data holds changes of module number {0}, which this program does not have")]
    UnknownModule(u8),
    #[error("module {module}: {cause}")]
    Module { module: &'static str, cause: String },
}

impl ReplayError {
    /// The reason why an effect did not fit: it changes a value of a module that this program does not have,
    /// or the data are corrupt.
    pub(crate) fn of_mismatch(keyspace: &Keyspace, record: &Record<'_>) -> ReplayError {
        match record.effect {
            Effect::Module { module, key: Some(_), .. } if !keyspace.types().has_of(module) => {
                ReplayError::UnknownModule(module)
            }
            _ => ReplayError::Mismatch(format!("{:?}", record.effect)),
        }
    }
}
