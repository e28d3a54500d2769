//! A running server, which takes the commands in a pipeline.

use super::connection::ServerLink;
use super::error::MoveError;
use super::target::MoveTarget;
use engramdb_resp::{Value, encode_command, encode_command_into};
use std::collections::{BTreeMap, VecDeque};

/// Bytes that are sent together, and how many replies may be missing.
const SENT_BYTES: usize = 256 << 10;
const UNANSWERED_MAX: usize = 10_000;

pub struct RemoteTarget {
    connection: ServerLink,
    database: u64,
    buffer: Vec<u8>,
    /// The commands without a reply: what each is about.
    unanswered: VecDeque<Vec<u8>>,
}

impl RemoteTarget {
    pub fn new(connection: ServerLink) -> RemoteTarget {
        RemoteTarget { connection, database: 0, buffer: Vec::new(), unanswered: VecDeque::new() }
    }

    fn push(&mut self, about: &[u8], words: &[&[u8]]) {
        encode_command_into(&mut self.buffer, words);
        self.unanswered.push_back(about.to_vec());
    }

    /// Sends what is waiting, and reads replies until at most `unanswered_max` are missing.
    fn exchange(&mut self, unanswered_max: usize) -> Result<(), MoveError> {
        self.connection.send(&std::mem::take(&mut self.buffer))?;
        while self.unanswered.len() > unanswered_max {
            let reply = self.connection.reply()?;
            let key = self.unanswered.pop_front().expect("checked above");
            if let Value::Error(text) = reply {
                let text = format!("{} says {}", self.connection.server(), String::from_utf8_lossy(&text));
                return Err(MoveError::Key { key, text });
            }
        }
        Ok(())
    }
}

impl MoveTarget for RemoteTarget {
    fn put(&mut self, database: u64, about: &[u8], words: &[&[u8]]) -> Result<(), MoveError> {
        if database != self.database {
            self.push(about, &[b"SELECT", database.to_string().as_bytes()]);
            self.database = database;
        }
        self.push(about, words);
        if self.buffer.len() >= SENT_BYTES || self.unanswered.len() >= UNANSWERED_MAX {
            // Half of the replies may be on their way while the next commands are made; the server reads on
            // as long as it can write.
            self.exchange(UNANSWERED_MAX / 2)?;
        }
        Ok(())
    }

    fn tried(&mut self, words: &[&[u8]]) -> Result<Option<String>, MoveError> {
        if self.database != 0 {
            self.push(b"", &[b"SELECT", b"0"]);
            self.database = 0;
        }
        self.exchange(0)?;
        self.connection.send(&encode_command(words))?;
        Ok(match self.connection.reply()? {
            Value::Error(text) => Some(String::from_utf8_lossy(&text).into_owned()),
            _ => None,
        })
    }

    fn finish(&mut self) -> Result<(), MoveError> {
        self.exchange(0)
    }

    fn keys(&mut self) -> Result<BTreeMap<u64, u64>, MoveError> {
        let reply = self.connection.accepted(&["INFO", "keyspace"])?;
        Ok(keys_of_info(&String::from_utf8_lossy(reply.as_bytes().unwrap_or_default())))
    }
}

/// The number of keys of each database, from lines as `db0:keys=3,expires=0`.
pub fn keys_of_info(info: &str) -> BTreeMap<u64, u64> {
    let line = |line: &str| {
        let (database, rest) = line.strip_prefix("db")?.split_once(":keys=")?;
        let keys = rest.split(',').next()?;
        Some((database.parse().ok()?, keys.trim().parse().ok()?))
    };
    info.lines().filter_map(line).collect()
}
