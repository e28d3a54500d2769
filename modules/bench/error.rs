//! The errors of a run. Each text says what to do next.

use std::path::PathBuf;

use engramdb_resp::ReplyError;

use crate::data::DataError;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(
        "cannot connect to {address}: {source}. Is the server running? Start one with `engramdb serve`, or name \
         another with --host and --port"
    )]
    Connect { address: String, source: std::io::Error },
    #[error("the connection to the server broke: {0}. The server's log should say why")]
    Broken(#[from] std::io::Error),
    #[error("the server closed the connection. Its log should say why")]
    Closed,
    #[error("the server sent an invalid reply: {0}")]
    Protocol(#[from] ReplyError),
    #[error("the server answered {command} with an error: {text}{}", hint(command, text))]
    Refused { command: String, text: String },
    #[error("the server answered {command} in a shape that this tool does not know: {reply}")]
    Shape { command: String, reply: String },
    #[error(
        "the index is not ready after {seconds} s: {indexed} of {expected} documents. If it is still indexing, allow \
         more with --ready-timeout; if it is stuck, look at FT.INFO {index}"
    )]
    NotReady { index: String, seconds: u64, indexed: u64, expected: u64 },
    #[error(
        "index {index} holds {actual} documents, {expected} were loaded. Other keys may begin with '{prefix}': remove \
         them, or choose another --prefix"
    )]
    DocumentCount { index: String, prefix: String, actual: u64, expected: u64 },
    #[error("interrupted")]
    Interrupted,
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot draw {}: {what}", path.display())]
    Plot { path: PathBuf, what: String },
}

/// Advice for refusals that new users meet.
fn hint(command: &str, text: &str) -> &'static str {
    if text.starts_with("NOAUTH") || text.starts_with("WRONGPASS") {
        ". Give --password (and --user), or set REDISCLI_AUTH"
    } else if text.contains("unknown command") && command.starts_with("FT.") {
        ". This server has no search commands: start `engramdb serve`, Redis with RediSearch, or Valkey with valkey-search"
    } else if text.starts_with("OOM") {
        ". Raise the server's maxmemory, or use fewer rows with --limit"
    } else {
        ""
    }
}
