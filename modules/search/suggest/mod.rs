//! Suggestions: a data type of the keyspace, and the search for the best completions.

pub mod top;
pub mod trie;
pub mod value;

#[cfg(test)]
mod tests;
