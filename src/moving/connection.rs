//! A client that blocks, for pipelines of commands.

use super::address::Address;
use super::error::MoveError;
use engramdb_resp::{CommandLink, Value, encode_command, encode_command_into};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that is busy saving may be silent for long; one that is silent for longer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(300);

pub struct ServerLink {
    server: String,
    link: CommandLink<TcpStream>,
}

impl ServerLink {
    /// Connects, and authenticates where the address says how.
    pub fn open(address: &Address) -> Result<ServerLink, MoveError> {
        let server = address.to_string();
        let failed = |error| MoveError::Connection { server: server.clone(), error };
        let places = (address.host.as_str(), address.port).to_socket_addrs().map_err(failed)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut stream = None;
        for place in places {
            match TcpStream::connect_timeout(&place, CONNECT_TIMEOUT) {
                Ok(connected) => {
                    stream = Some(connected);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let Some(stream) = stream else { return Err(failed(last)) };
        stream.set_read_timeout(Some(SILENCE_MAX)).map_err(failed)?;
        stream.set_write_timeout(Some(SILENCE_MAX)).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut connection = ServerLink { server, link: CommandLink::new(stream) };
        if let Some((user, password)) = &address.credentials {
            let words: &[&str] =
                if user.is_empty() { &["AUTH", password] } else { &["AUTH", user, password] };
            connection.accepted(words)?;
        }
        connection.accepted(&["PING"])?;
        Ok(connection)
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), MoveError> {
        self.link.send(bytes).map_err(|error| self.failed(error))
    }

    /// The next reply; an error reply is one.
    pub fn reply(&mut self) -> Result<Value, MoveError> {
        self.link.reply().map_err(|error| self.failed(error))
    }

    /// Sends one command, and returns its reply, which is no error.
    pub fn accepted(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Value, MoveError> {
        self.send(&encode_command(words))?;
        let reply = self.reply()?;
        self.check(words[0].as_ref(), reply)
    }

    /// An error reply as an error.
    pub fn check(&self, command: &[u8], reply: Value) -> Result<Value, MoveError> {
        match reply {
            Value::Error(text) => Err(MoveError::Refused {
                server: self.server.clone(),
                command: String::from_utf8_lossy(command).into_owned(),
                text: String::from_utf8_lossy(&text).into_owned(),
            }),
            other => Ok(other),
        }
    }

    /// Sends all commands together; returns their replies.
    pub fn pipeline(&mut self, commands: &[Vec<&[u8]>]) -> Result<Vec<Value>, MoveError> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|words| encode_command_into(&mut bytes, words));
        self.send(&bytes)?;
        commands.iter().map(|_| self.reply()).collect()
    }

    /// The stream itself, where what follows is no reply. Nothing that was received may be unread.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.link.stream()
    }

    fn failed(&self, error: io::Error) -> MoveError {
        MoveError::Connection { server: self.server.clone(), error }
    }
}
