//! What can be wrong with an RDB.

use std::io;

/// Why bytes are no RDB, or cannot be read as one.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    #[error("it ends before its end")]
    Truncated,
    #[error("{0}")]
    Damaged(&'static str),
    #[error("its checksum does not match: expected {wanted:016x}, computed {found:016x}")]
    Checksum { wanted: u64, found: u64 },
    #[error("its values of type {0} are not known to this version")]
    UnknownType(u8),
    #[error("its format has version {0}, which is not known to this version")]
    UnknownVersion(u32),
    #[error("it does not begin like an RDB file")]
    NoRdb,
    /// Also the error of a caller that takes the parts.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The result of reading.
pub(crate) type Read<T> = Result<T, RdbError>;

pub(crate) const fn damaged<T>(text: &'static str) -> Read<T> {
    Err(RdbError::Damaged(text))
}
