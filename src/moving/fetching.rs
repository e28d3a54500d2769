//! A running server's data into an RDB file: its copy for a replica, or all keys one after another.

use super::address::Address;
use super::connection::ServerLink;
use super::error::MoveError;
use super::files::FileMaker;
use super::progress::ProgressLine;
use super::remote::keys_of_info;
use engramdb_engine::env::Env;
use engramdb_rdb::FileWriter;
use engramdb_rdb::payload::Payload;
use engramdb_resp::{Value, encode_command};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The copy of a server, which is removed when this is dropped.
pub struct Fetched {
    env: Env,
    path: PathBuf,
    source: String,
}

impl Fetched {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it came from, and how.
    pub fn source(&self) -> String {
        self.source.clone()
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        _ = self.env.disk.remove(&self.path);
    }
}

/// Fetches all data of a server into a file.
pub fn fetch(
    env: &Env,
    address: &Address,
    path: &Path,
    only_scan: bool,
    line: &mut ProgressLine,
) -> Result<Fetched, MoveError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = env.disk.create_dir_all(&std::path::absolute(parent)?);
        made.map_err(|error| MoveError::Write { file: parent.to_owned(), error })?;
    }
    let mut how = "SCAN and DUMP";
    let refusal = match only_scan {
        true => Some("--scan was given".to_owned()),
        false => copy_for_replica(env, address, path, line)?,
    };
    match refusal {
        None => how = "a copy for a replica",
        Some(cause) => {
            if !only_scan {
                engramdb_console::note(format_args!(
                    "{address} grants no copy for a replica ({cause}): its keys are read one after another"
                ));
            }
            let mut maker = FileMaker::create(env, path)?;
            scan(&mut ServerLink::open(address)?, &mut maker, line)?;
            maker.finish()?;
        }
    }
    Ok(Fetched { env: env.clone(), path: path.to_owned(), source: format!("{address}, by {how}") })
}

/// The latest version of Valkey whose files are read.
const VALKEY_VERSION: &str = "9.1.0";

/// Asks for a copy as a replica does. Returns why the server does not grant it.
fn copy_for_replica(
    env: &Env,
    address: &Address,
    path: &Path,
    line: &mut ProgressLine,
) -> Result<Option<String>, MoveError> {
    let mut connection = ServerLink::open(address)?;
    // What a replica understands. A server that does not know this command will refuse the next one.
    for words in [["REPLCONF", "capa", "eof"], ["REPLCONF", "capa", "psync2"]] {
        connection.send(&encode_command(&words))?;
        if let Value::Error(text) = connection.reply()? {
            return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
        }
    }
    // Valkey writes the format that the replica reads, an old one if no version is said: then it cannot
    // send hashes whose fields expire. Redis has no such option; its error is no reason to stop.
    connection.send(&encode_command(&["REPLCONF", "version", VALKEY_VERSION]))?;
    connection.reply()?;
    connection.send(&encode_command(&["PSYNC", "?", "-1"]))?;
    let mut copy = ReplicaCopy { stream: connection.stream(), server: address.to_string(), seen: Vec::new() };
    let answer = copy.line()?;
    if !answer.starts_with("+FULLRESYNC") {
        return Ok(Some(answer.trim_start_matches('-').to_owned()));
    }
    let header = copy.line()?;
    let mut maker = FileMaker::create(env, path)?;
    let write_failed = |error| MoveError::Write { file: path.to_owned(), error };
    match (header.strip_prefix("$EOF:"), header.strip_prefix('$')) {
        // Without its forty bytes it would be found in the data.
        (Some(mark), _) if mark.len() == 40 => {
            let mark = mark.as_bytes().to_vec();
            copy.until_mark(&mark, &mut |bytes, done| {
                line.show("receiving", (done, 0), 0);
                maker.write_all(bytes).map_err(write_failed)
            })?;
        }
        (_, Some(length)) => {
            let length = length.parse().map_err(|_| copy.failed("it announces no copy"))?;
            copy.bytes(length, &mut |bytes, done| {
                line.show("receiving", (done, length), 0);
                maker.write_all(bytes).map_err(write_failed)
            })?;
        }
        (_, None) => return Err(copy.failed(&format!("it answers PSYNC with {header}"))),
    }
    maker.finish()?;
    Ok(None)
}

/// What comes after PSYNC: lines, and a file.
struct ReplicaCopy<'c> {
    stream: &'c mut std::net::TcpStream,
    server: String,
    /// Received and not used yet.
    seen: Vec<u8>,
}

type EachBytes<'e> = dyn FnMut(&[u8], u64) -> Result<(), MoveError> + 'e;

impl ReplicaCopy<'_> {
    /// The next line that is not empty: a server that is saving sends empty ones.
    fn line(&mut self) -> Result<String, MoveError> {
        const LINE_BYTES_MAX: usize = 4096;
        loop {
            if let Some(end) = self.seen.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.seen.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if !line.is_empty() {
                    return Ok(line);
                }
            } else if self.seen.len() > LINE_BYTES_MAX {
                return Err(self.failed("it answers PSYNC with a line without end"));
            } else {
                self.receive()?;
            }
        }
    }

    /// A file of this length.
    fn bytes(&mut self, length: u64, each: &mut EachBytes<'_>) -> Result<(), MoveError> {
        let mut done = 0;
        while done < length {
            if self.seen.is_empty() {
                self.receive()?;
            }
            let count = (self.seen.len() as u64).min(length - done);
            done += count;
            each(&self.seen[..count as usize], done)?;
            self.seen.drain(..count as usize);
        }
        Ok(())
    }

    /// A file that ends where the mark comes.
    fn until_mark(&mut self, mark: &[u8], each: &mut EachBytes<'_>) -> Result<(), MoveError> {
        let mut done = 0;
        loop {
            let found = self.seen.windows(mark.len()).position(|window| window == mark);
            // The mark may have arrived in part.
            let ready = found.unwrap_or_else(|| self.seen.len().saturating_sub(mark.len()));
            done += ready as u64;
            each(&self.seen[..ready], done)?;
            self.seen.drain(..ready);
            if found.is_some() {
                return Ok(());
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), MoveError> {
        const PIECE_BYTES: usize = 64 << 10;
        let start = self.seen.len();
        self.seen.resize(start + PIECE_BYTES, 0);
        let count = self.stream.read(&mut self.seen[start..]);
        self.seen.truncate(start + *count.as_ref().unwrap_or(&0));
        match count {
            Ok(0) => Err(self.failed("it closed the connection in the middle of its copy")),
            Ok(_) => Ok(()),
            Err(error) => Err(MoveError::Connection { server: self.server.clone(), error }),
        }
    }

    fn failed(&self, text: &str) -> MoveError {
        MoveError::Connection { server: self.server.clone(), error: io::Error::other(text.to_owned()) }
    }
}

/// How many keys SCAN is asked for at a time.
const SCANNED: &str = "500";

/// Reads all keys of all databases, and writes them as an RDB file.
pub fn scan(
    connection: &mut ServerLink,
    out: &mut dyn Write,
    line: &mut ProgressLine,
) -> Result<u64, MoveError> {
    let libraries = libraries_of(connection)?;
    let info = connection.accepted(&["INFO"])?;
    let info = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
    let databases = keys_of_info(&info);
    let total: u64 = databases.values().sum();
    // The first value says which version the file is of.
    let (mut out, mut file) = (Some(out), None);
    let mut keys = 0;
    for database in databases.into_keys() {
        connection.accepted(&["SELECT", &database.to_string()])?;
        let mut cursor = b"0".to_vec();
        loop {
            let page = connection.accepted(&[&b"SCAN"[..], &cursor, b"COUNT", SCANNED.as_bytes()])?;
            let [next, found] = page.as_array().unwrap_or_default() else {
                let server = connection.server().to_owned();
                return Err(MoveError::Connection {
                    server,
                    error: io::Error::other("SCAN returned no page"),
                });
            };
            cursor = next.as_bytes().unwrap_or_default().to_vec();
            let found: Vec<&[u8]> =
                found.as_array().unwrap_or_default().iter().filter_map(Value::as_bytes).collect();
            for (key, expires_at_ms, payload) in dump_all(connection, &found)? {
                let opened = Payload::open(&payload);
                let version = opened.map(|payload| payload.version);
                let (Some(version), Some(value)) = (version, Payload::value(&payload)) else {
                    let text =
                        "DUMP returned what cannot be read here: a version that is not known".to_owned();
                    return Err(MoveError::Key { key: key.to_vec(), text });
                };
                let file = match &mut file {
                    Some(file) => file,
                    none => none.insert(FileWriter::begin(
                        out.take().expect("the file has not begun"),
                        version.max(12),
                        &[],
                    )?),
                };
                file.key(database as u32, key, expires_at_ms, value)?;
                keys += 1;
            }
            line.show("receiving", (keys * 100, total * 100), keys);
            if cursor == b"0" {
                break;
            }
        }
    }
    let mut file = match file {
        Some(file) => file,
        None => FileWriter::begin(out.take().expect("the file has not begun"), 12, &[])?,
    };
    for code in &libraries {
        file.function(code)?;
    }
    file.finish()?.flush()?;
    Ok(keys)
}

/// The code of each library of functions; none where the server does not say.
fn libraries_of(connection: &mut ServerLink) -> Result<Vec<Vec<u8>>, MoveError> {
    connection.send(&encode_command(&["FUNCTION", "LIST", "WITHCODE"]))?;
    let reply = connection.reply()?;
    let code = |library: &Value| {
        let mut pairs = library.as_array()?.chunks_exact(2);
        let code = pairs.find(|pair| pair[0].as_bytes() == Some(b"library_code"))?;
        Some(code[1].as_bytes()?.to_vec())
    };
    Ok(reply.as_array().unwrap_or_default().iter().filter_map(code).collect())
}

/// A key, when it expires in milliseconds since the epoch, and its value as DUMP replies it.
type Dumped<'k> = (&'k [u8], u64, Vec<u8>);

/// Values and expiries of keys; those that are gone meanwhile are left out.
fn dump_all<'k>(connection: &mut ServerLink, keys: &[&'k [u8]]) -> Result<Vec<Dumped<'k>>, MoveError> {
    let commands = keys.iter().flat_map(|key| [vec![&b"PEXPIRETIME"[..], key], vec![b"DUMP", key]]);
    let replies = connection.pipeline(&commands.collect::<Vec<_>>())?;
    let mut dumped = Vec::new();
    for (key, pair) in keys.iter().zip(replies.chunks(2)) {
        let expires = connection.check(b"PEXPIRETIME", pair[0].clone())?.as_int().unwrap_or(-1);
        let payload = connection.check(b"DUMP", pair[1].clone())?;
        if let Value::Bulk(payload) = payload
            && expires != -2
        {
            dumped.push((*key, u64::try_from(expires).unwrap_or(0), payload));
        }
    }
    Ok(dumped)
}
