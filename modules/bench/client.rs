//! A blocking connection to a Redis-compatible server: commands out, replies in.
//!
//! One thread uses one connection, which suits a closed loop of few connections. `bench keys` uses hundreds
//! of connections on one thread and has its own loop.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use engramdb_resp::{CommandLink, ReplyError, Value, encode_command};

use crate::error::BenchError;
use crate::machine::Process;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The flags that select the server.
#[derive(Args, Clone, Debug)]
pub struct ServerTarget {
    /// Host name or address of the server
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Port of the server
    #[arg(long, short, default_value_t = 6379)]
    pub port: u16,
    /// User to authenticate as; the default user if only a password is given
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    /// Password, also from the environment variable that redis-cli uses
    #[arg(long, env = "REDISCLI_AUTH", hide_env_values = true)]
    pub password: Option<String>,
    /// Version of the protocol to speak, 2 or 3
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub resp: u8,
}

impl ServerTarget {
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A connected socket without delay for small packets.
    pub fn connect(&self) -> Result<TcpStream, BenchError> {
        let failed = |source| BenchError::Connect { address: self.address(), source };
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the host name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// The commands that open a session: authentication and protocol.
    pub fn greeting(&self) -> Vec<Vec<&str>> {
        let mut commands = Vec::new();
        if let Some(password) = &self.password {
            commands
                .push(["AUTH"].into_iter().chain(self.user.as_deref()).chain([password.as_str()]).collect());
        }
        if self.resp == 3 {
            commands.push(vec!["HELLO", "3"]);
        }
        commands
    }
}

/// An authenticated connection.
pub struct Connection {
    link: CommandLink<TcpStream>,
}

impl Connection {
    pub fn open(target: &ServerTarget) -> Result<Self, BenchError> {
        let stream = target.connect()?;
        let mut connection = Self { link: CommandLink::new(stream) };
        for command in target.greeting() {
            connection.command(&command)?;
        }
        Ok(connection)
    }

    /// The socket, for a caller with its own loop. No received bytes are left unread.
    pub fn into_stream(self) -> TcpStream {
        self.link.into_stream()
    }

    /// Name and version of the server from INFO; `None` if it has no INFO.
    pub fn server_version(&mut self) -> Option<String> {
        let info = self.command(&["INFO", "server"]).ok()?;
        let field = |name: &str| info_field(info.as_str()?, name);
        ["engramdb_version", "valkey_version", "dragonfly_version", "redis_version"]
            .iter()
            .find_map(|name| Some(format!("{} {}", name.trim_end_matches("_version"), field(name)?)))
    }

    /// The server's process, if the server is on this machine and reports its process id. The process must
    /// have the age that the server reports.
    pub fn local_process(&mut self) -> Option<Process> {
        let stream = self.link.stream();
        if stream.peer_addr().ok()?.ip() != stream.local_addr().ok()?.ip() {
            return None;
        }
        let info = self.command(&["INFO", "server"]).ok()?;
        let field = |name: &str| info_field(info.as_str()?, name);
        let process = Process::with_pid(field("process_id")?.parse().ok()?).ok()?;
        process.has_age(field("uptime_in_seconds")?.parse().ok()?).then_some(process)
    }

    /// Sends one command and waits for its reply. An error reply is an error.
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Value, BenchError> {
        self.send(&encode_command(arguments))?;
        let name = || String::from_utf8_lossy(arguments[0].as_ref()).into_owned();
        self.receive()?.accepted(name)
    }

    /// Sends encoded commands without waiting.
    pub fn send(&mut self, encoded: &[u8]) -> Result<(), BenchError> {
        Ok(self.link.send(encoded)?)
    }

    /// The next reply, which may be an error reply. Push messages are skipped.
    pub fn receive(&mut self) -> Result<Value, BenchError> {
        loop {
            match self.link.reply() {
                Ok(Value::Push(_)) => {}
                Ok(reply) => return Ok(reply),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(BenchError::Closed),
                Err(error) => {
                    return Err(error
                        .downcast::<ReplyError>()
                        .map_or_else(BenchError::from, BenchError::from));
                }
            }
        }
    }
}

/// The value of a field in INFO's text.
pub fn info_field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Turns an error reply to a command into an error.
pub trait Accepted {
    fn accepted(self, command: impl FnOnce() -> String) -> Result<Value, BenchError>;
}

impl Accepted for Value {
    fn accepted(self, command: impl FnOnce() -> String) -> Result<Value, BenchError> {
        match self {
            Value::Error(text) => Err(BenchError::Refused {
                command: command(),
                text: String::from_utf8_lossy(&text).into_owned(),
            }),
            reply => Ok(reply),
        }
    }
}
