//! Who takes the commands of an import.

use super::error::MoveError;
use std::collections::BTreeMap;

/// Takes commands in order. An error that a command got may come later, and ends the import.
pub trait MoveTarget {
    /// Runs a command in a database. `about` is the key, for errors.
    fn put(&mut self, database: u64, about: &[u8], words: &[&[u8]]) -> Result<(), MoveError>;

    /// Runs a command, and waits for it; returns the error reply, if it is one.
    fn tried(&mut self, words: &[&[u8]]) -> Result<Option<String>, MoveError>;

    /// Waits until all commands were taken, durably where the target promises that.
    fn finish(&mut self) -> Result<(), MoveError>;

    /// How many keys each database has.
    fn keys(&mut self) -> Result<BTreeMap<u64, u64>, MoveError>;
}
