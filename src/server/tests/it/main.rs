//! The server over TCP, in this process, on a log in memory.

mod gate;
mod protocol;
mod support;
