//! A client of a server: EngramDB or a reference.

use engramdb_resp::{Protocol, ReplyReader, Value, encode_command};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long silence must last to count. A reply that was sent although it had to wait would arrive well
/// within this time.
const SILENCE: Duration = Duration::from_millis(60);
/// Long enough for a reply that may be sent, on a busy machine. Tests never assert a shorter time.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    stream: TcpStream,
    reader: ReplyReader,
}

impl Client {
    pub fn connect(address: &str, protocol: Protocol) -> Client {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).expect("a socket takes options");
        let mut client = Client { stream, reader: ReplyReader::new() };
        if protocol == Protocol::Resp3 {
            let hello = client.run(&["HELLO", "3"]);
            assert!(!hello.is_error(), "{address} does not speak RESP3: {hello:?}");
        }
        client
    }

    pub fn run(&mut self, words: &[impl AsRef<[u8]>]) -> Value {
        self.send(words);
        self.receive()
    }

    /// Sends a command without waiting for its reply.
    pub fn send(&mut self, words: &[impl AsRef<[u8]>]) {
        self.stream.write_all(&encode_command(words)).expect("the server reads");
    }

    /// The same to a server that may close the connection.
    pub fn try_send(&mut self, words: &[impl AsRef<[u8]>]) {
        _ = self.stream.write_all(&encode_command(words));
    }

    /// Sends bytes, for example a part of a command.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The next reply; panics if none arrives.
    #[track_caller]
    pub fn receive(&mut self) -> Value {
        self.receive_within(PATIENCE).expect("the server answers")
    }

    /// Asserts that the server closes the connection, whatever it sends before.
    #[track_caller]
    pub fn is_closed_at_last(&mut self) {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes options");
        let mut bytes = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the connection stays open: {error}"),
            }
        }
    }

    /// This side's address.
    pub fn address(&self) -> std::net::SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }

    /// Asserts that no reply arrives.
    #[track_caller]
    pub fn stays_silent(&mut self) {
        if let Some(reply) = self.receive_within(SILENCE) {
            panic!("a reply left that had to wait: {reply:?}");
        }
    }

    /// The next reply, if its next bytes come within that time.
    pub fn receive_within(&mut self, patience: Duration) -> Option<Value> {
        self.stream.set_read_timeout(Some(patience)).expect("a socket takes options");
        let mut bytes = [0; 64 * 1024];
        loop {
            if let Some(reply) = self.reader.next_reply().expect("a well-formed reply") {
                return Some(reply);
            }
            let length = match self.stream.read(&mut bytes) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(error) => panic!("the server answers: {error}"),
            };
            assert_ne!(length, 0, "the server closed the connection");
            self.reader.feed(&bytes[..length]);
        }
    }
}
