//! Programs of others against the real binary: the clients that people use, and real servers to compare with.

mod programs;
mod redisearch;
