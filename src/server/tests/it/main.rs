//! The server over TCP, in this process, on a log in memory.

mod commands;
mod gate;
mod protocol;
mod support;
