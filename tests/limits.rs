//! What clients can take: file descriptors, memory, time. Each limit is set low, the server is attacked beyond it, and has to
//! stay within it and go on serving others.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

#[path = "limits/attack.rs"]
mod attack;
#[path = "limits/clients.rs"]
mod clients;
#[path = "limits/descriptors.rs"]
mod descriptors;
mod harness;
#[path = "limits/replayed.rs"]
mod replayed;
mod support;
