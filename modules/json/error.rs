//! Error texts. They are RedisJSON's, which clients compare; most of them have no code word.

use engramdb_engine::command::CommandError;
use std::fmt::Display;

pub const NOT_UTF8: CommandError = CommandError::of("Couldn't parse as UTF-8 string");
pub const WRONG_KEY_TYPE: CommandError = CommandError::of("Existing key has wrong Redis type");
pub const NEW_AT_ROOT: CommandError = CommandError::of("ERR new objects must be created at the root");
pub const NO_KEY: CommandError =
    CommandError::of("ERR could not perform this operation on a key that doesn't exist");
pub const NOT_STATIC: CommandError = CommandError::of("Err wrong static path");
pub const NO_MEMBER_TO_SET: CommandError = CommandError::of("Err path must end with object key to set");
pub const OUT_OF_RANGE: CommandError = CommandError::of("ERR array index out of range");
pub const OUT_OF_BOUNDS: CommandError = CommandError::of("ERR index out of bounds");
pub const WRONG_FORMAT: CommandError = CommandError::of("ERR wrong format");
pub const WRONG_REPLY_FORMAT: CommandError = CommandError::of("ERR wrong reply format");
pub const FORMAT_ON_RESP2: CommandError = CommandError::of("ERR FORMAT argument is not supported on RESP2");
pub const FORMAT_OF_LEGACY: CommandError =
    CommandError::of("Legacy paths are supported only with FORMAT STRINGS");
pub const UNKNOWN_DEBUG: CommandError = CommandError::of("ERR unknown subcommand - try `JSON.DEBUG HELP`");
pub const NO_NUMBER: CommandError = CommandError::of("bad input number");
pub const NOT_A_NUMBER: CommandError = CommandError::of("ERR result is not a number");
pub const NO_INTEGER: CommandError = CommandError::of("Couldn't parse as integer");
pub const BSON: CommandError = CommandError::of("ERR FORMAT BSON is not supported: send JSON");

// Texts of our own.
pub const FILTER_TOO_DEEP: CommandError = CommandError::of("ERR JSONPath filter is nested too deeply");
pub const TOO_MANY_PATTERNS: CommandError = CommandError::of("ERR JSONPath has too many patterns");
pub const TOO_DEEP: CommandError = CommandError::of("ERR the document would be nested too deeply");
pub const PATH_TOO_LONG: CommandError = CommandError::of("ERR JSONPath is longer than 32768 bytes");
pub const TOO_MANY_PLACES: CommandError =
    CommandError::of("ERR JSONPath leads to more than 65536 values to change: change them in parts");
pub const TOO_MANY_BYTES: CommandError = CommandError::of(
    "ERR the command would add more than 67108864 bytes at the places that the path leads to",
);
pub const TOO_MUCH_POPPED: CommandError = CommandError::of(
    "ERR the elements have more than 67108864 bytes: read them with JSON.GET and remove them with JSON.DEL",
);
pub const TOO_MANY_PATHS: CommandError = CommandError::of("ERR more than 1024 paths");
pub const TOO_MANY_MEMBERS: CommandError = CommandError::of(
    "ERR the value has too many members to be merged into a document of this size: merge it in parts",
);
pub const SEVERAL_AGAIN: CommandError =
    CommandError::of("ERR a key that is named again needs a path to one value: no .. * ? , or :");
pub const TOO_LARGE: CommandError =
    CommandError::of("ERR the document would be larger than 2147483648 bytes");
pub const TOO_MUCH_TEXT: CommandError =
    CommandError::of("ERR the reply would be many times the document: name fewer levels with .. and *");
pub const TOO_MUCH: CommandError =
    CommandError::of("ERR JSONPath leads to too many values: name fewer levels with .. and *");

/// The error of a text, with a code word: as RedisJSON shows it in some commands.
pub fn with_code(error: impl Display) -> CommandError {
    CommandError::new(format!("ERR {error}"))
}

pub fn no_path(path: &str) -> CommandError {
    CommandError::new(format!("ERR Path '{path}' does not exist"))
}

pub fn no_path_or(path: &str, or: &str) -> CommandError {
    CommandError::new(format!("ERR Path '{path}' does not exist or {or}"))
}

pub fn expected(wanted: &str, found: &str) -> CommandError {
    CommandError::new(format!("WRONGTYPE wrong type of path value - expected {wanted} but found {found}"))
}
