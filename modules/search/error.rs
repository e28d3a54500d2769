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
/// What can be wrong with the value of an option.
pub const NO_VALUE: &str = "Expected an argument, but none provided";
pub const CONVERSION: &str = "Could not convert argument to expected type";

pub const BACKFILLING: CommandError = CommandError::of(
    "SEARCH_TIMEOUT Timeout limit was reached: the index is still being built from existing keys (FT.INFO says how far)",
);

pub fn too_many_creates(most: u64) -> CommandError {
    CommandError::new(format!("SEARCH_LIMIT A transaction can create at most {most} indexes"))
}

pub fn query_too_large(size_max: usize) -> CommandError {
    CommandError::new(format!(
        "SEARCH_LIMIT The query is too large: it may have {size_max} terms, each counted for every field that it is looked for in"
    ))
}

pub fn syntax(offset: usize, near: &[u8]) -> CommandError {
    syntax_at("Syntax error", offset, near)
}

pub fn syntax_at(cause: &str, offset: usize, near: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_SYNTAX {cause} at offset {offset} near {}", text(near)))
}

pub fn unknown_field(name: &[u8]) -> CommandError {
    syntax_at("Unknown field", 0, name)
}

pub fn wrong_field(wanted: &str, offset: usize, name: &[u8]) -> CommandError {
    syntax_at(&format!("Expected a {wanted} field"), offset, name)
}

pub fn unknown_parameter(name: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_PARAM_NOT_FOUND Parameter not found `{}`", text(name)))
}

pub fn bad_arguments(option: &str, cause: &str) -> CommandError {
    CommandError::new(format!("SEARCH_PARSE_ARGS Bad arguments for {option}: {cause}"))
}

pub fn duplicate_parameter(name: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_ADD_ARGS Duplicate parameter `{}`", text(name)))
}

/// Errors of KNN's attributes: code, and what went wrong.
pub fn vector_parameter(code: &str, cause: &str) -> CommandError {
    CommandError::new(format!("{code} {cause} (Error parsing vector similarity parameters)"))
}

pub fn unknown_attribute(name: &[u8]) -> CommandError {
    CommandError::new(format!("SEARCH_OPTION_INVALID Invalid attribute {}", text(name)))
}

pub fn vector_query(cause: &str) -> CommandError {
    CommandError::new(format!("SEARCH_QUERY_BAD Error parsing vector similarity query: {cause}"))
}

pub fn unsupported(what: &str) -> CommandError {
    CommandError::new(format!("SEARCH_UNSUPPORTED {what} not supported by this server yet"))
}
