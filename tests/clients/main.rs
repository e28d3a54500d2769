//! Third-party programs with the real binary: widely used clients, and real servers for comparison.

mod programs;
mod redis;
mod redisearch;
