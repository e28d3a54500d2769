//! Simulated environments for tests: faults of disk and clock, chosen by a seed.

#![forbid(unsafe_code)]

pub mod disk;
pub mod env;
pub mod fuzz;
pub mod linearizability;
