//! Third-party programs with the real binary: widely used clients, and real servers for comparison.

mod libraries;
mod programs;
mod redis;
mod redisearch;
mod redisjson;
