//! What a connection knows about itself: its database, protocol, rights, and the transaction it is collecting.

use crate::clients::Client;
use engramdb_engine::Watch;
use engramdb_engine::command::{Args, Command};
use engramdb_engine::log::Lsn;
use engramdb_resp::Protocol;
use std::sync::Arc;

pub struct Session {
    pub client: Arc<Client>,
    pub database: u32,
    pub protocol: Protocol,
    pub authenticated: bool,
    pub multi: Option<Multi>,
    pub watch: Option<Arc<Watch>>,
    /// What EXEC has to wait for because of what WATCH saw.
    pub watch_gate: Lsn,
    pub reply_mode: ReplyMode,
    /// The client's library reads replies of modules in RESP2's shapes only, whatever protocol it speaks.
    pub prefers_flat: bool,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    On,
    Off,
    /// The next command's reply is dropped.
    SkipNext,
    /// This command's reply is dropped.
    Skip,
}

/// Commands between MULTI and EXEC.
#[derive(Default)]
pub struct Multi {
    pub queue: Vec<Queued>,
    /// A command could not be queued: EXEC will refuse.
    pub is_broken: bool,
    pub bytes: usize,
}

/// One queued command with its words.
pub struct Queued {
    pub command: &'static Command,
    /// `Known::id`.
    pub id: usize,
    pub words: Vec<Box<[u8]>>,
}

impl Queued {
    pub fn new(command: &'static Command, id: usize, args: Args<'_>) -> Queued {
        Queued { command, id, words: args.iter().map(|word| (*word).into()).collect() }
    }

    pub fn words(&self) -> Vec<&[u8]> {
        self.words.iter().map(|word| &**word).collect()
    }
}

impl Session {
    pub fn new(client: Arc<Client>, authenticated: bool) -> Session {
        Session {
            client,
            database: 0,
            protocol: Protocol::Resp2,
            authenticated,
            multi: None,
            watch: None,
            watch_gate: Lsn(0),
            reply_mode: ReplyMode::On,
            prefers_flat: false,
        }
    }

    pub fn unwatch(&mut self) {
        self.watch = None;
        self.watch_gate = Lsn(0);
    }

    /// Whether this command's reply is to be sent; steps SKIP on.
    pub fn takes_reply(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => true,
            ReplyMode::Off => false,
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::Skip;
                false
            }
            ReplyMode::Skip => {
                self.reply_mode = ReplyMode::On;
                false
            }
        }
    }
}
