//! The Redis serialization protocol, without sockets and without the engine.
//!
//! * [`decode`]: requests, from the bytes of a connection. Ours, because it is the hot path and the place
//!   where hostile input arrives (docs/decisions/0001-resp-codec.md).
//! * [`encode`]: replies, in RESP2 or RESP3, written straight into the connection's output.
//! * [`frame`]: the client's side: commands out, replies in. For the benchmark tool, the demo and tests.
//!
//! Nothing here reads a clock, opens a socket or knows a command: bytes in, bytes out.

#![forbid(unsafe_code)]

pub mod decode;
pub mod encode;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod inline;

pub use decode::{Arguments, Decoder, Limits, Progress, ProtocolError, Request, Requests, Stop};
pub use encode::{Encoder, Protocol};
pub use frame::{ReplyError, ReplyReader, Value, encode_command, encode_command_into};
