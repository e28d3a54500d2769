//! Simulated environments for tests: what can go wrong goes wrong, from a seed.

#![forbid(unsafe_code)]

pub mod disk;
pub mod env;
pub mod fuzz;
pub mod linearizability;
