//! A client that blocks: commands out, replies in, over a stream that the caller has connected.

use super::frame::{ReplyReader, Value};
use std::io::{self, Read, Write};

const BUFFER_BYTES: usize = 64 << 10;

/// One connection of a client. The stream's own timeouts hold.
#[derive(Debug)]
pub struct CommandLink<S> {
    stream: S,
    replies: ReplyReader,
    buffer: Box<[u8]>,
}

impl<S: Read + Write> CommandLink<S> {
    pub fn new(stream: S) -> CommandLink<S> {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        CommandLink { stream, replies: ReplyReader::new(), buffer }
    }

    /// Sends encoded commands, without waiting.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn send(&mut self, encoded: &[u8]) -> io::Result<()> {
        self.stream.write_all(encoded)
    }

    /// The next reply, which may be an error reply or a push.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` where it ends, `InvalidData` where the bytes are no reply.
    pub fn reply(&mut self) -> io::Result<Value> {
        loop {
            let next = self.replies.next_reply();
            match next.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                Some(reply) => return Ok(reply),
                None => match self.stream.read(&mut self.buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => self.replies.feed(&self.buffer[..count]),
                },
            }
        }
    }

    /// The stream, for what is no command. Received bytes that are no whole reply yet are kept here.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    pub fn into_stream(self) -> S {
        self.stream
    }
}
