//! The commands about indexes after they were made, and about what searches have beside them: dictionaries,
//! synonyms, suggestions.

pub mod aliases;
pub mod alter;
mod copied;
pub mod dictionaries;
pub mod documents;
pub mod suggestions;
pub mod synonyms;
