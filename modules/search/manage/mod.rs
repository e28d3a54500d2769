//! The commands that change indexes after they were made.

pub mod aliases;
pub mod alter;
