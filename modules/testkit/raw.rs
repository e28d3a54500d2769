//! A client that compares raw bytes, and can distinguish silence from an answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct RawClient {
    pub stream: TcpStream,
}

/// Long enough for a reply that may be sent, on a busy machine. Tests never assert a shorter time.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long silence must last to count. A held reply that was sent by mistake would arrive well within this
/// time.
const SILENCE: Duration = Duration::from_millis(60);

impl RawClient {
    pub fn connect(address: SocketAddr) -> RawClient {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes options");
        RawClient { stream }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends a command given as words.
    pub fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.send(bytes);
    }

    /// Asserts the raw text of the reply.
    #[track_caller]
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut found = vec![0; expected.len()];
        let mut filled = 0;
        while filled < found.len() {
            match self.stream.read(&mut found[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => {
                    panic!("{error}, after {:?}", String::from_utf8_lossy(&found[..filled]));
                }
            }
            if !expected.starts_with(&found[..filled]) {
                break;
            }
        }
        assert_eq!(String::from_utf8_lossy(&found[..filled]), String::from_utf8_lossy(expected));
    }

    #[track_caller]
    pub fn call(&mut self, line: &str, expected: &str) {
        self.command(line);
        self.expect(expected);
    }

    /// Everything until the server closes the connection.
    pub fn rest(&mut self) -> String {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&bytes)),
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asserts that nothing arrives.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.stream.set_read_timeout(Some(SILENCE)).expect("a socket");
        let mut bytes = [0; 256];
        match self.stream.read(&mut bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(count) => {
                panic!("a reply left that had to wait: {:?}", String::from_utf8_lossy(&bytes[..count]))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub fn line(&mut self) -> String {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a line");
            bytes.push(byte[0]);
        }
        String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
    }
}
