//! From decoded requests to replies: which run takes them, under which lock.

mod execute;
mod parking;
mod transaction;

pub use execute::{Core, Resumed, Waiting, WriteReply, elsewhere};
