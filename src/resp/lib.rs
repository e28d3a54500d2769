//! The Redis serialization protocol, without sockets and without the engine.
//!
//! * [`decode`]: requests, from the bytes of a connection. Our own code, because this is the hot path and
//!   receives hostile input (docs/decisions/0001-resp-codec.md).
//! * [`encode`]: replies, in RESP2 or RESP3, appended to the connection's output.
//! * [`frame`]: the client's side: encodes commands and decodes replies. For the benchmark tool, the demo and
//!   tests. [`CommandLink`] is a client over a stream that is connected.
//!
//! This crate reads no clock, opens no socket and does not know commands: bytes in, bytes out.

#![forbid(unsafe_code)]

pub mod decode;
pub mod encode;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod inline;
mod link;

pub use decode::{
    Arguments, DecodeProgress, DecodeStop, Decoder, ProtocolError, Request, RequestLimits, Requests,
};
pub use encode::{Encoder, Protocol};
pub use frame::{ReplyError, ReplyReader, Value, encode_command, encode_command_into};
pub use link::CommandLink;
