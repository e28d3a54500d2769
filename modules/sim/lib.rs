//! Placeholder.

pub mod fuzz;
