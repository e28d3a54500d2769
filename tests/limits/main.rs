//! The resources that clients can use: file descriptors, memory, time. Each limit is set low, the server is
//! attacked beyond it, and must stay within it and continue to serve others.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

mod accounting;
mod attack;
mod clients;
mod descriptors;
mod replayed;
#[path = "../it/served.rs"]
#[allow(dead_code, reason = "`it` uses the rest")]
mod served;
