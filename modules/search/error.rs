//! The error texts that clients match on: RediSearch's, code word included.

use engramdb_engine::command::CommandError;

/// A client's bytes as they are shown in an error.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned()
}

pub fn unknown_index(name: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_INDEX_NOT_FOUND Index not found: {}", text(name)))
}

pub const INDEX_EXISTS: CommandError = CommandError::of("SEARCH_INDEX_EXISTS Index already exists");
pub const TIMEOUT: CommandError = CommandError::of("SEARCH_TIMEOUT Timeout limit was reached");
pub const BACKFILLING: CommandError = CommandError::of(
    "SEARCH_TIMEOUT Timeout limit was reached: the index is still being built from existing keys (FT.INFO says how far)",
);

pub fn syntax(offset: usize, near: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_SYNTAX Syntax error at offset {offset} near {}", text(near)))
}

pub fn unknown_field(name: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_SYNTAX Unknown field at offset 0 near {}", text(name)))
}

pub fn wrong_field(wanted: &str, offset: usize, name: &[u8]) -> CommandError {
    CommandError::new(format!(
        "SEARCH_SYNTAX Expected a {wanted} field at offset {offset} near {}",
        text(name)
    ))
}

pub fn unknown_parameter(name: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_PARAM_NOT_FOUND Parameter not found `{}`", text(name)))
}

pub fn duplicate_parameter(name: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_ADD_ARGS Duplicate parameter `{}`", text(name)))
}

/// Errors of KNN's attributes: code, and what went wrong.
pub fn vector_parameter(code: &str, cause: &str) -> CommandError {
    CommandError::new(format!("{code} {cause} (Error parsing vector similarity parameters)"))
}

pub fn vector_query(cause: &str) -> CommandError {
    CommandError::new(format!("SEARCH_QUERY_BAD Error parsing vector similarity query: {cause}"))
}

pub fn unsupported(what: &str) -> CommandError {
    CommandError::new(format!("SEARCH_UNSUPPORTED {what} not supported by this server yet"))
}
