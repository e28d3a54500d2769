//! From decoded requests to replies: which run takes them, under which lock.

mod admission;
mod call;
mod execute;
mod mail;
mod parking;
mod transaction;

pub use call::{After, Call, Exec, Run, check_handlers};
pub use execute::{Core, Resumed, Waiting, WriteReply, elsewhere};
