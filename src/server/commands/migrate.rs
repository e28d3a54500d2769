//! MIGRATE: sends keys to another server, and deletes them here when it has them.
//!
//! Redis serves no other client meanwhile. Here a thread of the pool for copies does it and others go on; a
//! key that was changed while it was on its way is not deleted, and the reply is an error.

use super::{After, Call, Run, session};
use crate::context::ServerContext;
use crate::dispatch::{Resumed, WriteReply, elsewhere};
use engramdb_engine::Watch;
use engramdb_engine::command::{Args, Command, CommandError, Outcome, Reply, Stage, WaitingJob, acl, flag};
use engramdb_engine::env::Clock;
use engramdb_engine::keyspace::Entry;
use engramdb_engine::log::pipeline::Refusal;
use engramdb_resp::{ReplyReader, Value, encode_command, encode_command_into};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

pub const COMMANDS: &[Command] = &[session(
    "MIGRATE",
    "host port key destination-db timeout [COPY] [REPLACE] [AUTH password] [AUTH2 username password] [KEYS keys+]",
    &Run(migrate),
)
.flags(flag::SESSION_WRITE)
.acl(acl::KEYSPACE | acl::DANGEROUS)
.keys(keys)
.access(&["RW access delete", "RW access delete incomplete"])
.access_by(|_, _| "RW access delete")
.tips(&["nondeterministic_output"])
.docs("2.6.0", "O(N) for the sizes of the values", "Moves keys to another server.")];

const DEFAULT_TIMEOUT_MS: u64 = 1000;

/// What is to be sent, and where to.
struct Migration {
    host: String,
    port: u16,
    database: u32,
    target_database: i64,
    timeout: Duration,
    copies: bool,
    replaces: bool,
    /// The words of AUTH.
    credentials: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

/// The index of KEYS, if the words have it.
fn keys_option(args: Args<'_>) -> Option<usize> {
    let mut at = 6;
    while at < args.len() {
        if args.is(at, "KEYS") {
            return Some(at);
        }
        at += if args.is(at, "AUTH2") {
            3
        } else if args.is(at, "AUTH") {
            2
        } else {
            1
        };
    }
    None
}

fn keys(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    match keys_option(args).filter(|_| args.word(3).is_empty()) {
        Some(at) => Ok((at + 1..args.len()).collect()),
        None => Ok(vec![3]),
    }
}

impl Migration {
    fn read(args: Args<'_>, database: u32) -> Result<Migration, CommandError> {
        let mut options = args.options(6);
        let (mut copies, mut replaces, mut credentials) = (false, false, Vec::new());
        let mut keys = vec![args.word(3).to_vec()];
        while !options.is_done() {
            if options.take("COPY") {
                copies = true;
            } else if options.take("REPLACE") {
                replaces = true;
            } else if options.take("AUTH") {
                credentials = vec![options.word()?.to_vec()];
            } else if options.take("AUTH2") {
                credentials = options.words(2)?.iter().map(|word| word.to_vec()).collect();
            } else if options.take("KEYS") {
                if !args.word(3).is_empty() {
                    return Err(CommandError::of(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                keys = options.words(options.left())?.iter().map(|word| word.to_vec()).collect();
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        let (timeout_ms, target_database) = (args.integer(5)?, args.integer(4)?);
        let timeout_ms = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).unwrap_or(DEFAULT_TIMEOUT_MS);
        let port = args.integer(2).ok().and_then(|port| u16::try_from(port).ok());
        Ok(Migration {
            host: super::text(args.word(1)),
            // A port that cannot be is one where no server is.
            port: port.unwrap_or(0),
            database,
            target_database,
            timeout: Duration::from_millis(timeout_ms),
            copies,
            replaces,
            credentials,
            keys,
        })
    }
}

fn migrate(call: &mut Call<'_, '_, '_>) -> Outcome {
    let migration = Migration::read(call.args, call.session.database)?;
    if call.transaction.is_some() {
        return Err(CommandError::of(
            "ERR MIGRATE waits for another server, which is not possible inside MULTI",
        ));
    }
    let shared = call.shared.clone();
    call.after = After::Wait(elsewhere(&call.shared.copies, move || {
        let done = migration.run(&shared);
        let write: WriteReply = Box::new(move |reply| match done {
            Ok(text) => reply.simple(text),
            Err(error) => reply.error(&error),
        });
        Resumed::Reply(write)
    }));
    Ok(())
}

/// A value on its way.
struct Sent<'k> {
    key: &'k [u8],
    ttl_ms: u64,
    payload: Vec<u8>,
}

impl Migration {
    fn run(&self, shared: &Arc<ServerContext>) -> Result<&'static str, CommandError> {
        let engine = &shared.engine;
        let watch = Watch::new();
        let keys: Vec<&[u8]> = self.keys.iter().map(Vec::as_slice).collect();
        engine.watch(&watch, self.database, &keys);
        let mut values = Vec::new();
        for key in keys {
            values.extend(self.dumped(shared, key)?);
        }
        if values.is_empty() {
            return Ok("NOKEY");
        }
        // What could still be lost here must not be there.
        wait(shared)?;
        let mut taken = Vec::new();
        let sent = self.send(&values, &mut taken, engine.env().clock.clone());
        if !self.copies && !taken.is_empty() {
            self.delete(shared, &watch, &taken)?;
        }
        sent.map(|()| "OK")
    }

    /// The value of a key, if it is there.
    fn dumped<'k>(&self, shared: &ServerContext, key: &'k [u8]) -> Result<Option<Sent<'k>>, CommandError> {
        let engine = &shared.engine;
        let expiry = {
            let run = engine.inspect();
            let view = run.view(self.database);
            view.peek(self.database, key).map(Entry::expires_at_ms)
        };
        let Some(expires_at_ms) = expiry else { return Ok(None) };
        let words: [&[u8]; 2] = [b"DUMP", key];
        let args = Args::new(&words);
        let known = shared.table.resolve(args)?;
        let mut payload = Payload::default();
        let reads = engine.reads().map_err(|refusal| refusal.error())?;
        let stage = reads.run(self.database, known.command, args, &mut payload).stage;
        drop(reads);
        match stage {
            Stage::Run(job)
            | Stage::Offload(job)
            | Stage::Copy(job)
            | Stage::Wait(WaitingJob { job, .. }) => {
                engine.complete(self.database, job, &mut payload);
            }
            _ => {}
        }
        let ttl_ms = match expires_at_ms {
            0 => 0,
            at => at.saturating_sub(engine.now_ms()).max(1),
        };
        match payload {
            Payload { error: Some(error), .. } => Err(error),
            Payload { bytes: Some(payload), .. } => Ok(Some(Sent { key, ttl_ms, payload })),
            _ => Ok(None),
        }
    }

    /// Sends the values; `taken` gets the keys that the other server has then.
    fn send<'k>(
        &self,
        values: &[Sent<'k>],
        taken: &mut Vec<&'k [u8]>,
        clock: Arc<dyn Clock>,
    ) -> Result<(), CommandError> {
        let mut target =
            self.connect(clock).ok_or(CommandError::of("IOERR error or timeout connecting to the client"))?;
        let failed =
            |what: &str| CommandError::new(format!("IOERR error or timeout {what} to target instance"));
        let mut request = Vec::new();
        let mut before = 1;
        if !self.credentials.is_empty() {
            let mut words = vec![&b"AUTH"[..]];
            words.extend(self.credentials.iter().map(Vec::as_slice));
            request.extend_from_slice(&encode_command(&words));
            before += 1;
        }
        request.extend_from_slice(&encode_command(&["SELECT", &self.target_database.to_string()]));
        for Sent { key, ttl_ms, payload } in values {
            let ttl = ttl_ms.to_string();
            let mut words = vec![&b"RESTORE"[..], key, ttl.as_bytes(), payload];
            words.extend(self.replaces.then_some(&b"REPLACE"[..]));
            encode_command_into(&mut request, &words);
        }
        target.write(&request).ok_or_else(|| failed("writing"))?;
        let mut complaint = None;
        for at in 0..before + values.len() {
            match target.reply().ok_or_else(|| failed("reading"))? {
                Value::Error(text) => {
                    complaint.get_or_insert(text);
                }
                _ if at >= before => taken.push(values[at - before].key),
                _ => {}
            }
            // After an error in front of the values these may be in another database.
            if at + 1 == before && complaint.is_some() {
                break;
            }
        }
        match complaint {
            None => Ok(()),
            Some(text) => Err(CommandError::of_parts(&[b"ERR Target instance replied with error: ", &text])),
        }
    }

    fn connect(&self, clock: Arc<dyn Clock>) -> Option<Target> {
        let places = (self.host.as_str(), self.port).to_socket_addrs().ok()?;
        let stream =
            places.into_iter().find_map(|place| TcpStream::connect_timeout(&place, self.timeout).ok())?;
        Some(Target { stream, replies: ReplyReader::new(), timeout: self.timeout, clock })
    }

    /// Deletes what the other server has, unless it was changed here meanwhile.
    fn delete(&self, shared: &ServerContext, watch: &Watch, taken: &[&[u8]]) -> Result<(), CommandError> {
        let engine = &shared.engine;
        let words: Vec<&[u8]> = [&b"DEL"[..]].into_iter().chain(taken.iter().copied()).collect();
        let args = Args::new(&words);
        let command = shared.table.resolve(args)?.command;
        let bytes = command.batch_bytes_max(&words);
        let credit = loop {
            match engine.admit(1, bytes) {
                Ok(credit) => break credit,
                Err(Refusal::Busy) => wait(shared)?,
                Err(refusal) => return Err(CommandError::no_room(&refusal.to_string())),
            }
        };
        let mut run = engine.writes(credit);
        let mut transaction = run.transaction();
        let is_changed = transaction.is_dirty(watch);
        if !is_changed {
            transaction.run(self.database, command, args, &mut Payload::default());
        }
        transaction.finish();
        drop(run);
        wait(shared)?;
        if !is_changed {
            return Ok(());
        }
        Err(CommandError::of(
            "ERR A key was changed while it was being sent: it is on the target instance and here. Call MIGRATE again with REPLACE",
        ))
    }
}

/// Waits until everything so far is durable.
fn wait(shared: &ServerContext) -> Result<(), CommandError> {
    let Some(pipeline) = shared.engine.writer() else { return Ok(()) };
    pipeline.wait(shared.engine.last_lsn()).map_err(|fatal| CommandError::new(format!("ERR {fatal}")))
}

/// Bytes that are written within the timeout, as in Redis.
const CHUNK_BYTES: usize = 64 << 10;
/// What is read for one reply: those of AUTH, SELECT and RESTORE are lines.
const REPLY_BYTES_MAX: usize = 64 << 10;

/// The other server. It may be hostile: neither a chunk nor a reply takes longer than the timeout, however
/// its bytes trickle.
struct Target {
    stream: TcpStream,
    replies: ReplyReader,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Target {
    /// What is left until a moment; `None` after it.
    fn left(&self, ends_at: Duration) -> Option<Duration> {
        ends_at.checked_sub(self.clock.monotonic()).filter(|left| !left.is_zero())
    }

    fn write(&mut self, request: &[u8]) -> Option<()> {
        for mut chunk in request.chunks(CHUNK_BYTES) {
            let ends_at = self.clock.monotonic().saturating_add(self.timeout);
            while !chunk.is_empty() {
                self.stream.set_write_timeout(Some(self.left(ends_at)?)).ok()?;
                let written = self.stream.write(chunk).ok().filter(|written| *written > 0)?;
                chunk = &chunk[written..];
            }
        }
        Some(())
    }

    /// The next reply; `None` where none comes in time.
    fn reply(&mut self) -> Option<Value> {
        let mut buffer = [0; 4096];
        let ends_at = self.clock.monotonic().saturating_add(self.timeout);
        let mut bytes = 0;
        loop {
            if let Some(reply) = self.replies.next_reply().ok()? {
                return Some(reply);
            }
            let left = self.left(ends_at).filter(|_| bytes < REPLY_BYTES_MAX)?;
            self.stream.set_read_timeout(Some(left)).ok()?;
            let count = self.stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            self.replies.feed(&buffer[..count]);
            bytes += count;
        }
    }
}

/// What DUMP replies.
#[derive(Default)]
struct Payload {
    bytes: Option<Vec<u8>>,
    error: Option<CommandError>,
}

impl Reply for Payload {
    fn is_resp3(&self) -> bool {
        true
    }

    fn error(&mut self, error: &CommandError) {
        self.error = Some(error.clone());
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.bytes = Some(bytes.to_vec());
    }

    fn simple(&mut self, _: &str) {}
    fn integer(&mut self, _: i64) {}
    fn null(&mut self) {}
    fn null_array(&mut self) {}
    fn array(&mut self, _: usize) {}
    fn map(&mut self, _: usize) {}
    fn set(&mut self, _: usize) {}
    fn push(&mut self, _: usize) {}
    fn double(&mut self, _: f64) {}
    fn boolean(&mut self, _: bool) {}
    fn verbatim(&mut self, _: &str, _: &[u8]) {}

    fn mark(&self) -> usize {
        0
    }

    fn rewind(&mut self, _: usize) {}
}
