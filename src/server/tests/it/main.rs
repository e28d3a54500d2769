//! The server over TCP, in this process, on a log in memory.

mod acl;
mod commands;
mod eviction;
mod gate;
mod leading;
mod long;
mod notifications;
mod parking;
mod preparing;
mod protocol;
mod pubsub;
mod room;
mod statistics;
mod streams;
mod support;
mod tracking;
mod watching;
