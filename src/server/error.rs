//! Why a server does not start, or ends.

use engramdb_engine::log::pipeline::Fatal;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "refusing to listen on {address} without a password: set requirepass (--requirepass, ENGRAMDB_REQUIREPASS \
         or the configuration file), or listen on 127.0.0.1 only; protected-mode no turns this check off"
    )]
    Unprotected { address: String },
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: String, cause: std::io::Error },
    #[error("nothing to listen on: this machine has none of {addresses}")]
    NoAddress { addresses: String },
    #[error("rename-command {from} {to}: {cause}")]
    Rename { from: String, to: String, cause: &'static str },
    #[error(
        "the limit of open files leaves none for clients, beside those of the log and of snapshots: raise it \
         (ulimit -n) to {wanted}, say"
    )]
    Descriptors { wanted: usize },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error(transparent)]
    Log(#[from] Fatal),
    #[error("cannot load the users of the configuration: {0}")]
    Users(String),
}
