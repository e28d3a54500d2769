//! A client of a server, ours or a reference.

use engramdb_resp::{Protocol, ReplyReader, Value, encode_command};
use std::io::{Read, Write};
use std::net::TcpStream;

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
        self.stream.write_all(&encode_command(words)).expect("the server reads");
        let mut bytes = [0; 64 * 1024];
        loop {
            if let Some(reply) = self.reader.next_reply().expect("a well-formed reply") {
                return reply;
            }
            let length = self.stream.read(&mut bytes).expect("the server answers");
            assert_ne!(length, 0, "the server closed the connection");
            self.reader.feed(&bytes[..length]);
        }
    }
}
