//! Why data were not moved. Each text says what to do.

use engramdb_engine::backup::BackupError;
use engramdb_engine::log::pipeline::Fatal;
use engramdb_engine::recovery::StartError;
use engramdb_rdb::RdbError;
use std::io;
use std::path::PathBuf;

/// Why an import or an export failed.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("{0}")]
    Arguments(String),
    #[error("cannot read {}: {error}", file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("cannot write {}: {error}", file.display())]
    Write { file: PathBuf, error: io::Error },
    #[error("{} cannot be imported: {error} (before byte {position}{})", file.display(), at_key(key))]
    Rdb { file: PathBuf, error: RdbError, position: u64, key: Vec<u8> },
    #[error(
        "{}: these types of modules are not known here: {}. Nothing was imported. --skip-modules leaves their keys out",
        file.display(), types.join(", ")
    )]
    UnknownModules { file: PathBuf, types: Vec<String> },
    #[error("{server}: {error}")]
    Connection { server: String, error: io::Error },
    #[error("{server} refused {command}: {text}")]
    Refused { server: String, command: String, text: String },
    #[error("key {}: {text}", shown(key))]
    Key { key: Vec<u8>, text: String },
    #[error(transparent)]
    Directory(#[from] BackupError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Log(#[from] Fatal),
    #[error(transparent)]
    Output(#[from] io::Error),
}

fn at_key(key: &[u8]) -> String {
    if key.is_empty() { String::new() } else { format!(", key {}", shown(key)) }
}

/// A key as text for people.
pub(crate) fn shown(key: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    let text = key[..key.len().min(SHOWN_BYTES_MAX)].escape_ascii();
    format!("\"{text}{}\"", if key.len() > SHOWN_BYTES_MAX { "..." } else { "" })
}
