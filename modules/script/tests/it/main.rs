//! Scripts and functions on a server over TCP, in this process, on a log in memory.

mod busy;
mod durability;
mod golden;
mod limits;
mod permissions;
mod statistics;
mod support;
